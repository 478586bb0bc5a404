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

"""Which frames of a drive to take: from a time on, to a time, every so many."""

from __future__ import annotations

import re
from dataclasses import dataclass

from maskomaly_ros.errors import MaskomalyError

_TIME = re.compile(r'(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)')


@dataclass(frozen=True)
class Piece:
    """A piece of a drive; by default all of it.

    Attributes:
        start: seconds since the first frame; frames before are left out.
        end: likewise; frames after it are left out. None: none are.
        every: one frame of so many of each topic, counted from the beginning of the drive.

    """

    start: float = 0.0
    end: float | None = None
    every: int = 1

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 0 <= self.start < float('inf'):
            raise MaskomalyError(f'a drive cannot be begun at {self.start} s; give 0 or more')
        if self.end is not None and not self.start <= self.end < float('inf'):
            raise MaskomalyError(
                f'the piece from {self.start:g} s to {self.end:g} s is empty; end it later'
            )
        if self.every < 1:
            raise MaskomalyError(f'every {self.every} must be 1 at least')

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left out."""
        return self == WHOLE

    def takes(self, number: int, since_ns: int) -> bool:
        """Return whether a frame belongs to it.

        Args:
            number: of the frame among those of its topic, from 0, damaged ones included.
            since_ns: nanoseconds since the first frame.

        """
        return (
            number % self.every == 0
            # The first frame of a damaged or disordered bag need not be the earliest.
            and (not self.start or since_ns >= round(self.start * 1e9))
            and not self.is_past(since_ns)
        )

    def is_past(self, since_ns: int) -> bool:
        """Return whether it ends before a time, in nanoseconds since the first frame."""
        return self.end is not None and since_ns > round(self.end * 1e9)

    def about(self, frames: int, rate: float) -> int:
        """Return how many frames of a topic it has, as far as their rate says."""
        last = frames / rate if self.end is None else min(self.end, frames / rate)
        return min(frames, round(max(0.0, last - self.start) * rate / self.every))


WHOLE = Piece()


def parse_time(text: str) -> float:
    """Return the seconds that a text such as 90, 1:30 or 0:01:30.5 says."""
    match = _TIME.fullmatch(text.strip())
    if not match:
        raise MaskomalyError(f'time {text!r} is neither seconds, such as 90, nor [H:]MM:SS')
    hours, minutes, seconds = match.groups()
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(seconds)
