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

"""The last stage of a replay: results go to the outputs, and into the journal."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskomaly_ros.drives.source import NAMED_PROBLEMS, RawMessage, SourceFrame
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.replay.flow import Busy, Channel, Item, Lost, Scored
from maskomaly_ros.replay.folder import WORK
from maskomaly_ros.replay.journal import FrameRecord, Journal, Part, ProblemRecord
from maskomaly_ros.replay.outputs import Output, Result, Settings
from maskomaly_ros.replay.places import Places
from maskomaly_ros.replay.refinements import Refinements

_LOG = logging.getLogger(__name__)

# Frames that the outputs may have in hand at the same time.
_WINDOW = 4
# What is left on the disk for closing files, tables and the page.
_RESERVE_BYTES = 32 << 20
_MAX_PART_BYTES = 4 << 30


class Writer:
    """Hands results to the outputs, each in a thread, and notes what all of them have finished.

    Args:
        folder: of the replay.
        outputs: what to write.
        journal: of the replay.
        settings: how results are drawn and encoded.
        refinements: what follows the score, in the order of the frames.
        places: where obstacles are.
        camera_of: returns the camera of a frame.
        part_seconds: after how long a part is closed.
        busy: measures it.
        halt: set where nothing more can be written.

    Attributes:
        processed: frames that were written.
        noted: problems that were noted.
        gave_up: whether something could not be written.

    """

    def __init__(
        self,
        folder: Path,
        outputs: Sequence[Output],
        journal: Journal,
        settings: Settings,
        refinements: Refinements,
        places: Places,
        camera_of: Callable[[SourceFrame], str],
        part_seconds: float,
        busy: Busy,
        halt: threading.Event,
    ) -> None:
        self._folder = folder
        self._work = folder / WORK
        self._outputs = outputs
        self._journal = journal
        self._settings = settings
        self._refinements = refinements
        self._places = places
        self._camera_of = camera_of
        self._part_seconds = part_seconds
        self._busy = busy
        self._halt = halt
        self._next_index = journal.next_index
        self._messages = journal.messages
        self.processed = 0
        self.noted = 0
        self.gave_up = False

    def run(self, source: Channel, progress: Callable[[int], object]) -> None:
        """Write what comes, until the last item or until it cannot be written.

        Args:
            source: results of the network, problems and messages.
            progress: called with the number of frames behind us.

        """
        threads = {
            output: ThreadPoolExecutor(1, f'replay {output.name}') for output in self._outputs
        }
        pending: deque[tuple[Item, list[Future[float]]]] = deque()
        begun = time.monotonic()
        part_bytes = 0

        def settle(keep: int) -> None:
            while len(pending) > keep:
                self._commit(*pending.popleft())
                progress(self._next_index)

        try:
            while True:
                item = source.get()
                if item is None:
                    break
                self._check_disk()
                if isinstance(item, Scored):
                    item = self._refined(item)
                pending.append((item, self._submit(item, threads)))
                settle(_WINDOW)
                if isinstance(item, Scored):
                    part_bytes += 4 * item.detection.frame.nbytes
                if time.monotonic() - begun > self._part_seconds or part_bytes > _MAX_PART_BYTES:
                    settle(0)
                    self._close_part(threads)
                    begun, part_bytes = time.monotonic(), 0
            settle(0)
            self._close_part(threads)
        except _DiskFullError as error:  # in time: what is under way can be completed
            settle(0)
            self._close_part(threads)
            self.lose(error)  # after the part: a rerun forgets it
        except (OSError, MaskomalyError) as error:
            for thread in threads.values():
                thread.shutdown(cancel_futures=True)
            for output in self._outputs:
                output.abort()
            self._journal.roll_back()
            self._next_index = self._journal.next_index
            self.lose(error)
        finally:
            for thread in threads.values():
                thread.shutdown(cancel_futures=True)

    def lose(self, error: Exception) -> None:
        """End the run on what cannot be written."""
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        name = f'frame {self._next_index}'
        self._note(ProblemRecord(self._next_index, name, 'writing', reason, 0))
        self.gave_up = True
        self._halt.set()

    def _refined(self, item: Scored) -> Scored:
        frame, detection = item.read.frame, item.detection
        camera = self._camera_of(frame)
        with self._busy.working(Refinements.name):
            if self._refinements:
                detection = self._refinements.apply(camera, frame, detection)
            detection, located = self._places.locate(camera, frame, detection)
        return replace(item, detection=detection, located=located)

    def _submit(
        self, item: Item, threads: Mapping[Output, ThreadPoolExecutor]
    ) -> list[Future[float]]:
        message = item.message if isinstance(item, Lost) else item
        if isinstance(message, RawMessage):
            is_damaged = message is not item
            return [
                thread.submit(_timed, output.copy, message, is_damaged=is_damaged)
                for output, thread in threads.items()
                if output.name == 'bag'
            ]
        if not isinstance(item, Scored):
            return []
        frame = item.read.frame
        camera = self._camera_of(frame)
        result = Result(frame, camera, item.detection, self._settings, item.located)
        with self._busy.working('drawing'):
            if threads:  # made once, here, as outputs would make them at the same time
                result.detection.obstacles  # noqa: B018
                if any(output.draws_overlay for output in threads):
                    result.overlay  # noqa: B018
        return [
            thread.submit(_timed, self._account, output, result)
            for output, thread in threads.items()
        ]

    def _account(self, output: Output, result: Result) -> None:
        with self._busy.working(output.name):
            output.write(result)

    def _commit(self, item: Item, futures: Sequence[Future[float]]) -> None:
        """Wait until all outputs have written an item, and note it in the journal."""
        seconds = sum((future.result() for future in futures), 0.0)
        if isinstance(item, RawMessage):
            self._messages += 1
        elif isinstance(item, Lost):
            self._note(item.problem)
            self._next_index = max(self._next_index, item.problem.index + 1)
        elif isinstance(item, Scored):
            self._journal.add(self._record(item, seconds))
            self._next_index = item.read.frame.index + 1
            self.processed += 1

    def _note(self, problem: ProblemRecord) -> None:
        """Put a problem into the journal, and name it, unless there are too many."""
        self._journal.add(problem)
        self.noted += 1
        if self.noted <= NAMED_PROBLEMS:
            _LOG.warning('%s: %s: %s', problem.stage, problem.name, problem.reason)
        if self.noted == NAMED_PROBLEMS:
            _LOG.warning('further problems are counted, and not named here')

    def _record(self, item: Scored, seconds: float) -> FrameRecord:
        frame, detection = item.read.frame, item.detection
        timings = {k: v / item.network_share for k, v in detection.timings.items()}
        return FrameRecord(
            index=frame.index,
            camera=self._camera_of(frame),
            stamp_ns=frame.stamp_ns,
            name=frame.name,
            width=frame.image.shape[1],
            height=frame.image.shape[0],
            max_score=round(float(detection.score.max()), 6),
            mean_score=round(float(detection.score.mean()), 6),
            area=int((detection.mask > 0).sum()),
            obstacles=detection.obstacles,
            seconds={
                name: round(value, 6)
                for name, value in {
                    'decode': item.read.seconds,
                    **timings,
                    'write': seconds,
                }.items()
            },
        )

    def _close_part(self, threads: Mapping[Output, ThreadPoolExecutor]) -> None:
        if (self._next_index, self._messages) == (
            self._journal.next_index,
            self._journal.messages,
        ):
            return
        number = len(self._journal.parts)
        closing = {o.name: t.submit(o.close_part, number) for o, t in threads.items()}
        files = {name: future.result() for name, future in closing.items()}
        kept = self._refinements.save(number)
        if kept is not None:
            files[Refinements.name] = kept
        self._journal.add_part(Part(number, self._next_index, self._messages, files))
        self._refinements.clear(keep=kept)

    def _check_disk(self) -> None:
        free = shutil.disk_usage(self._work).free
        needed = _RESERVE_BYTES + self._refinements.size_bytes()
        needed += sum(p.stat().st_size for p in (self._work / 'video').glob('*.mp4'))
        if free < needed:
            raise _DiskFullError(
                f'{self._folder} has {free >> 20} MB free, and closing what is open needs '
                f'{needed >> 20} MB'
            )


class _DiskFullError(MaskomalyError):
    """The disk is nearly full; files can still be closed."""


def _timed(task: Callable[..., None], *arguments: Any, **more: Any) -> float:
    start = time.perf_counter()
    task(*arguments, **more)
    return time.perf_counter() - start
