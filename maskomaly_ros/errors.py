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

"""The exception of this package, and how to describe those of others."""

from __future__ import annotations

from collections.abc import Sequence


class MaskomalyError(ValueError):
    """Something the user can put right: the message names the value, the limit and the remedy."""


def in_words(error: Exception) -> str:
    """Return the kind of an error and the first line of what it says.

    The rest, such as a library's advice for its developers, belongs in a log.
    """
    said = str(error).strip() or 'no reason given'
    return f'{type(error).__name__}: {said.splitlines()[0]}'


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return names in the form of a message: the first ones, cut where they are long, and a count.

    Args:
        names: any number of them, of any length.
        most: how many are named; the others are counted.

    """
    if not names:
        return 'none'
    shown = ', '.join(
        repr(name if len(name) <= 100 else f'{name[:97]}...') for name in names[:most]
    )
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return f'[{shown}]{more}'
