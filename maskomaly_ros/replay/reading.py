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

"""The first stage of a replay: frames, messages to be copied, and problems."""

from __future__ import annotations

import threading
import time

from maskomaly_ros.drives.source import Source, SourceFrame
from maskomaly_ros.replay.flow import Busy, Channel, Lost, Read
from maskomaly_ros.replay.journal import Journal, ProblemRecord


class Reader:
    """Reads what is left of a drive.

    Args:
        source: the drive.
        journal: says what is finished.
        busy: measures it.

    Attributes:
        is_at_end: whether everything was read.

    """

    def __init__(self, source: Source, journal: Journal, busy: Busy) -> None:
        self._source = source
        self._journal = journal
        self._busy = busy
        self.is_at_end = False

    def run(self, target: Channel, stop: threading.Event) -> None:
        """Put into a channel what is read, in its order, until the end or until stopped."""
        source = self._source
        first, messages = self._journal.next_index, self._journal.messages
        items = source.items(first, messages)
        reported = 0
        known = set(self._journal.problems())  # damage right before the first frame
        if (first, messages) == (0, 0):
            for topic, reason in source.not_copied.items():
                target.put(Lost(ProblemRecord(-1, topic, 'reading', reason, 0)))
        while not stop.is_set():
            start = time.perf_counter()
            item = next(items, None)
            seconds = time.perf_counter() - start
            self._busy.add('reading', seconds)
            for problem in source.problems[reported:]:
                reported += 1
                record = ProblemRecord(
                    problem.index, problem.name, 'reading', problem.reason, problem.frames
                )
                if record not in known:
                    target.put(Lost(record, problem.message))
            if item is None:
                self.is_at_end = True
                break
            if not target.put(Read(item, seconds) if isinstance(item, SourceFrame) else item):
                return
        target.put(None)
