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

"""The second stage of a replay: the network, on batches of frames."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from maskomaly_ros.detector import Detector
from maskomaly_ros.drives.source import SourceFrame, reason_of
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.replay.flow import Busy, Channel, Item, Lost, Read, Scored
from maskomaly_ros.replay.journal import ProblemRecord

_LOG = logging.getLogger(__name__)

# So many failures one after the other are no matter of single frames.
_HOPELESS = 5


class Inference:
    """Runs the detector on frames; where it fails, the next ones are tried.

    Args:
        detector: to run.
        batch_size: frames that share one run of the network.
        check: raises MaskomalyError for a frame that is not to be given to the network.
        busy: measures it.

    Attributes:
        gave_up: whether it failed too often.

    """

    def __init__(
        self,
        detector: Detector,
        batch_size: int,
        check: Callable[[SourceFrame], None],
        busy: Busy,
    ) -> None:
        self._detector = detector
        self._batch_size = batch_size
        self._check = check
        self._busy = busy
        self.gave_up = False

    def run(self, source: Channel, target: Channel) -> None:
        """Pass on everything in its order, with detections in place of frames."""
        failures = 0
        batch: list[Read] = []
        waiting: list[Item] = []  # problems and messages keep their place in the order
        while True:
            item = self._checked(source.get())
            if isinstance(item, Read):
                batch.append(item)
            if item is not None:
                waiting.append(item)
            if batch and (item is None or len(batch) == self._batch_size):
                results = self._detect(batch)
                failures = failures + 1 if isinstance(results[0], Lost) else 0
                waiting = [results.pop(0) if isinstance(w, Read) else w for w in waiting]
                batch = []
            if not batch:
                for entry in waiting:
                    target.put(entry)
                waiting = []
            if item is None:
                return
            if failures >= _HOPELESS:
                _LOG.error('the network failed %d times running; giving up', failures)
                self.gave_up = True
                return

    def _checked(self, item: Item | None) -> Item | None:
        """Return an item, or the problem of a frame that is not to be given to the network."""
        if isinstance(item, Read):
            try:
                self._check(item.frame)
            except MaskomalyError as error:  # before the network has worked in vain
                return _lost(item.frame, 'reading', str(error))
        return item

    def _detect(self, batch: Sequence[Read]) -> list[Scored] | list[Lost]:
        try:
            with self._busy.working('network'):
                detections = self._detector.detect([read.frame.image for read in batch])
        except Exception as error:  # whatever a library raises
            return [_lost(read.frame, 'network', reason_of(error)) for read in batch]
        return [
            Scored(read, detection, len(batch))
            for read, detection in zip(batch, detections, strict=True)
        ]


def _lost(frame: SourceFrame, stage: str, reason: str) -> Lost:
    return Lost(ProblemRecord(frame.index, frame.name, stage, reason), frame.message)
