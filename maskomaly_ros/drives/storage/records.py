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

"""Bytes of records from a file that may be damaged or cut off anywhere."""

from __future__ import annotations

import struct
from typing import BinaryIO

# What reading a damaged record may raise.
ERRORS = (EOFError, IndexError, KeyError, OverflowError, ValueError, struct.error)


class CutError(EOFError):
    """The file ends inside a record."""

    def __init__(self, place: int) -> None:
        super().__init__(f'cut off at byte {place}')


def take(stream: BinaryIO, size: int) -> bytes:
    """Read so many bytes; raise CutError where there are fewer."""
    place = stream.tell()
    data = stream.read(min(size, remaining(stream)))
    if len(data) < size:
        raise CutError(place + len(data))
    return data


def remaining(stream: BinaryIO) -> int:
    """Return how many bytes a file has from here: a damaged length may claim any number."""
    place = stream.tell()
    end = stream.seek(0, 2)
    stream.seek(place)
    return max(0, end - place)
