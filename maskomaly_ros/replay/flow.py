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

"""What goes from stage to stage of a replay, and how long each of them worked."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from maskomaly_ros.detector import Detection
from maskomaly_ros.drives.source import RawMessage, SourceFrame
from maskomaly_ros.ground import Located
from maskomaly_ros.replay.journal import ProblemRecord

# Each frame in a queue is decoded: a few bridge what differs from frame to frame.
_LENGTH = 4


@dataclass(frozen=True)
class Read:
    """A frame and the seconds that reading it took."""

    frame: SourceFrame
    seconds: float


@dataclass(frozen=True)
class Scored:
    """A frame with its detection, and the number of frames that shared the network's run."""

    read: Read
    detection: Detection
    network_share: int
    located: Located | None = None


@dataclass(frozen=True)
class Lost:
    """A problem, with the camera message that no frame came of."""

    problem: ProblemRecord
    message: RawMessage | None = None


Item = Read | Scored | Lost | RawMessage


class Channel:
    """A queue between two threads, both of which give up where the run comes to an end.

    Args:
        halt: set where the run comes to an end.

    """

    def __init__(self, halt: threading.Event) -> None:
        self._queue: queue.Queue[Item | None] = queue.Queue(_LENGTH)
        self._halt = halt
        self._is_left = threading.Event()

    def put(self, item: Item | None) -> bool:
        """Wait for room; return whether there was some. None is the last item."""
        while not self._halt.is_set() and not self._is_left.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def get(self) -> Item | None:
        """Wait for an item; None after the last one."""
        while not self._halt.is_set():
            try:
                return self._queue.get(timeout=0.1)
            except queue.Empty:
                continue
        return None

    def leave(self) -> None:
        """Take nothing from it any more."""
        self._is_left.set()


class Busy:
    """Seconds that each stage worked; a stage adds to its own alone.

    Attributes:
        seconds: by name of the stage.

    """

    def __init__(self) -> None:
        self.seconds = {'reading': 0.0, 'network': 0.0}

    def add(self, stage: str, seconds: float) -> None:
        """Add to the time of a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @contextmanager
    def working(self, stage: str) -> Iterator[None]:
        """Measure a piece of work of a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start)
