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

"""What one actor does with a drive."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskomaly_ros.drives.find import Drive, fetch_drive
from maskomaly_ros.drives.open import is_bag
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.mining.options import BagReport, MineOptions
from maskomaly_ros.mining.results import EVENT_COLUMNS, FRAME_COLUMNS
from maskomaly_ros.parameters import load_detector, load_settings, with_defaults
from maskomaly_ros.replay import tables
from maskomaly_ros.replay.events import tracking_of
from maskomaly_ros.replay.run import ReplayOptions, read_journal, replay
from maskomaly_ros.replay.thumbnails import Thumbnails


class UnusableDriveError(MaskomalyError):
    """A drive cannot be replayed: trying again would not help."""


def replay_options(mined: MineOptions, source: Path) -> ReplayOptions:
    """Return how a drive is replayed: it may be a bag or something else."""
    takes_topics = is_bag(source)
    return ReplayOptions(
        outputs=(),
        topics=mined.topics if takes_topics else None,
        parameters=mined.parameters,
        rate=None if takes_topics else mined.rate,
        piece=mined.piece,
        batch_size=mined.batch_size,
    )


class Worker:
    """What an actor does; a second thread of it tells how far it is."""

    def __init__(self, options: MineOptions, threads: int) -> None:
        self._options = options
        self._threads = threads
        self._frames = 0
        self._stop = threading.Event()
        self._detector: Any = None

    def start(self) -> tuple[int, str]:
        """Load the network; return the process id and the hash of the checkpoint."""
        settings = load_settings(with_defaults(self._options.parameters))
        self._detector = load_detector(settings)
        return os.getpid(), str(self._detector.network.sha256)

    def frames(self) -> int:
        """Return the frames of the drive under way."""
        return self._frames

    def stop(self) -> None:
        """End the drive under way soon."""
        self._stop.set()

    def mine(self, drive: Drive, scratch_name: str) -> dict[str, Any]:
        """Replay a drive; return its tables as bytes of Parquet files, and thumbnails."""
        import torch

        torch.set_num_threads(self._threads)  # counts for the calling thread
        start = time.perf_counter()
        self._frames = 0
        scratch = Path(tempfile.gettempdir()) / scratch_name
        shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
        scratch.mkdir(mode=0o700)
        try:
            source = fetch_drive(drive.url, scratch)
            if self._stop.is_set():
                raise MaskomalyError('stopped')
            found = self._replay(drive.url, source, scratch / 'out')
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        report: BagReport = found['report']
        seconds = time.perf_counter() - start
        found['report'] = replace(report, seconds=seconds, host=platform.node())
        return found

    def _replay(self, bag: str, source: Path, out: Path) -> dict[str, Any]:
        mined, options = self._options, replay_options(self._options, source)
        thumbnails = Thumbnails(mined.top, tracking_of(with_defaults(mined.parameters)))
        try:
            summary = replay(
                source, out, options, detector=self._detector, stop=self._stop,
                progress=self._note, watcher=thumbnails,
            )  # fmt: skip
        except MaskomalyError as error:
            if isinstance(error.__cause__, OSError):  # a disk, a net: next time may be better
                raise
            raise UnusableDriveError(str(error)) from error
        problems = summary.problems
        reason = f'{problems[0].name}: {problems[0].reason}' if problems else ''
        if not summary.is_complete:
            raise MaskomalyError(f'ended after {summary.frames} frames: {reason or "stopped"}')
        self._frames = summary.frames
        journal = read_journal(out)
        events = list(summary.events())
        rows = ({'bag': bag, **tables.frame_row(frame)} for frame in journal.frames())
        tables.write_rows(out / 'mined_frames', FRAME_COLUMNS, rows)
        rows = ({'bag': bag, 'event': n, **tables.event_row(e)} for n, e in enumerate(events))
        tables.write_rows(out / 'mined_events', EVENT_COLUMNS, rows)
        images = thumbnails.images()
        keys = [(event.camera, event.id, event.start_index) for event in events]
        status = 'problems' if problems else 'done'
        return {
            'report': BagReport(bag, status, summary.frames, len(events), len(problems), reason),
            'frames': (out / 'mined_frames').read_bytes(),
            'events': (out / 'mined_events').read_bytes(),
            'thumbnails': {n: images[key] for n, key in enumerate(keys) if key in images},
        }

    def _note(self, done: int, total: int | None) -> None:
        self._frames = done
