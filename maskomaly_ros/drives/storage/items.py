# Copyright 2026 The maskomaly_ros contributors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""What readers of storage files yield: topics, messages, and what was lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Topic(NamedTuple):
    """A topic of a file; its key is what messages refer to it by.

    `announced` is the number of messages that the file announces, 0 where it does not say.
    """

    key: int
    topic: str
    msgtype: str
    definition: str
    qos: Any = ()
    announced: int = 0


class Message(NamedTuple):
    """A message of a file."""

    key: int
    received_ns: int
    data: bytes


class Damage(NamedTuple):
    """Something that was lost, and by key how many messages; reading goes on, or has ended."""

    reason: str
    lost: Mapping[int, int] = {}


Item = Topic | Message | Damage


def messages_text(count: int) -> str:
    """Return a number of messages in words."""
    return f'{count} message' if count == 1 else f'{count} messages'
