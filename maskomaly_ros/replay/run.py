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

"""Replay a recorded drive through the detector: every frame, faster than real time where it can.

    from maskomaly_ros.replay.run import ReplayOptions, replay

    summary = replay('drive_42', 'results', ReplayOptions(outputs=('bag', 'html')))

Reading, the network and writing overlap: they are threads with bounded queues between them. What
is finished stands in a journal, so that the next call goes on where this one ended.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskomaly_ros.detector import Detector
from maskomaly_ros.drives.open import open_source
from maskomaly_ros.drives.source import EVERY_CAMERA, Source, SourceFrame
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import backends_used
from maskomaly_ros.parameters import configure, load_detector, load_settings, with_defaults
from maskomaly_ros.replay import outputs as writing
from maskomaly_ros.replay.flow import Busy, Channel
from maskomaly_ros.replay.folder import WORK, open_journal, read_journal
from maskomaly_ros.replay.inference import Inference
from maskomaly_ros.replay.journal import Journal
from maskomaly_ros.replay.options import OUTPUTS, ReplayOptions
from maskomaly_ros.replay.outputs import Output
from maskomaly_ros.replay.places import Places
from maskomaly_ros.replay.reading import Reader
from maskomaly_ros.replay.refinements import Refinements
from maskomaly_ros.replay.summary import ReplaySummary, summarize
from maskomaly_ros.replay.writing import Writer
from maskomaly_ros.topics import DEFAULT_CAMERA, absolute_topic, outputs_of

__all__ = ['OUTPUTS', 'ReplayOptions', 'ReplaySummary', 'open_drive', 'read_journal', 'replay']


def replay(
    source: str | Path,
    out: str | Path,
    options: ReplayOptions | None = None,
    *,
    detector: Detector | None = None,
    stop: threading.Event | None = None,
    progress: Callable[[int, int | None], object] | None = None,
    watcher: Output | None = None,
) -> ReplaySummary:
    """Process every frame of a recorded drive and write what was found.

    A folder with the unfinished replay of the same source with the same options is continued.

    Args:
        source: rosbag2, ROS 1 bag, video or folder of images; see `open_source`.
        out: folder for the results; new, empty, or one of an earlier replay.
        options: what to read and to write.
        detector: to use instead of the one that `options.parameters` describe; it is configured
            by them.
        stop: when set, what is under way is finished and all files are closed.
        progress: called with the number of frames behind us, and how many there are if known.
        watcher: gets every result of this call beside the outputs, and may be the only one.

    Raises:
        MaskomalyError: the source or the options cannot be used, or the folder is taken. What
            goes wrong later is in `ReplaySummary.problems`.

    """
    options = options or ReplayOptions()
    if not options.outputs and watcher is None:
        raise MaskomalyError(f'nothing to write; choose from {", ".join(OUTPUTS)}')
    out = Path(out).expanduser()
    values = with_defaults(options.parameters)
    settings = load_settings(values)
    with open_drive(source, options) as opened:
        opened.is_quiet = True  # what is lost is named where it is noted
        cameras = _cameras(opened, settings.camera_topics)
        refinements = Refinements(cameras, values, out / WORK / Refinements.name)
        places = Places(opened, cameras, values)
        detector = detector or load_detector(settings)
        configure(detector, options.parameters)
        with open_journal(out, opened, options, detector, refinements.identity) as journal:
            if not journal.is_complete:
                summary = _go_on(
                    out, opened, cameras, options, detector, refinements, places, journal,
                    watcher, stop or threading.Event(), progress or _ignore,
                )  # fmt: skip
            else:
                summary = summarize(out, journal)
        return replace(summary, left_out=opened.left_out)


def open_drive(source: str | Path, options: ReplayOptions) -> Source:
    """Open a drive as `replay` does.

    Raises:
        MaskomalyError: the source or the options cannot be used.

    """
    values = with_defaults(options.parameters)
    return open_source(
        source,
        topics=options.topics or EVERY_CAMERA,
        rate=options.rate,
        copy=options.copy,
        max_pixels=values['max_image_pixels'],
        no_cameras=[
            absolute_topic(ground.depth_topic)
            for ground in load_settings(values).grounds
            if ground.depth_topic
        ],
        piece=options.piece,
    )


def _cameras(source: Source, topics: Sequence[str]) -> dict[str, float]:
    """Return the rate of each camera; results of two must not collide."""
    if not source.is_bag:
        return {absolute_topic(topics[0]) if topics else DEFAULT_CAMERA: source.rate}
    taken: dict[str, str] = {}
    for topic in source.topics:
        outputs = outputs_of(topic)
        if outputs in taken:
            raise MaskomalyError(
                f'camera topics {taken[outputs]} and {topic} would both have their results in '
                f'{outputs}; choose one'
            )
        taken[outputs] = topic
    return source.rates


def _ignore(done: int, total: int | None) -> None:
    pass


def _go_on(
    out: Path,
    source: Source,
    cameras: Mapping[str, float],
    options: ReplayOptions,
    detector: Detector,
    refinements: Refinements,
    places: Places,
    journal: Journal,
    watcher: Output | None,
    stop: threading.Event,
    progress: Callable[[int, int | None], object],
) -> ReplaySummary:
    """Go through the frames that are left: three stages, two of them in threads of their own."""
    refinements.restore(journal.parts)
    values = with_defaults(options.parameters)
    outputs = _make_outputs(out, source, cameras, options, journal)
    if watcher is not None:
        outputs.append(watcher)

    def camera_of(frame: SourceFrame) -> str:
        return frame.topic or next(iter(cameras))

    busy, halt = Busy(), threading.Event()
    read, scored = Channel(halt), Channel(halt)
    reader = Reader(source, journal, busy)
    inference = Inference(
        detector,
        options.batch_size,
        lambda frame: refinements.check(camera_of(frame), frame),
        busy,
    )
    writer = Writer(
        out, outputs, journal,
        writing.Settings(values['overlay_opacity'], values['jpeg_quality']),
        refinements, places, camera_of, options.part_seconds, busy, halt,
    )  # fmt: skip
    total = _total(source)
    start = time.perf_counter()
    threads = [
        _Stage('reading', reader.run, (read, stop), halt),
        _Stage('writing', writer.run, (scored, lambda done: progress(done, total)), halt),
    ]
    for thread in threads:
        thread.start()
    try:
        inference.run(read, scored)
    except BaseException:
        halt.set()
        raise
    finally:
        read.leave()
        scored.put(None)
        for thread in threads:
            thread.join()
    seconds = time.perf_counter() - start
    for thread in threads:
        if thread.crash is not None:
            raise thread.crash
    finishing = time.perf_counter()
    try:
        _finish(out, options.outputs, outputs, journal)
    except (OSError, MaskomalyError) as error:
        writer.lose(error)
    if reader.is_at_end and not (inference.gave_up or writer.gave_up):
        journal.complete()
        shutil.rmtree(out / WORK / 'video', ignore_errors=True)
        refinements.clear()
    return summarize(
        out,
        journal,
        processed=writer.processed,
        noted=writer.noted,
        seconds=seconds,
        busy=dict(busy.seconds),
        finishing=time.perf_counter() - finishing,
        backends=backends_used(detector.network),
    )


class _Stage(threading.Thread):
    """A stage in its thread; `crash` is what is wrong with our own code."""

    def __init__(
        self,
        name: str,
        stage: Callable[..., None],
        arguments: tuple[Any, ...],
        halt: threading.Event,
    ) -> None:
        super().__init__(name=f'replay {name}')
        self._stage, self._arguments, self._halt = stage, arguments, halt
        self.crash: BaseException | None = None

    def run(self) -> None:
        try:
            self._stage(*self._arguments)
        except BaseException as error:
            self.crash = error
            self._halt.set()


def _make_outputs(
    out: Path,
    source: Source,
    cameras: Mapping[str, float],
    options: ReplayOptions,
    journal: Journal,
) -> list[Output]:
    wanted, work = options.outputs, out / WORK
    made: list[Output] = []
    if 'bag' in wanted:
        made.append(writing.Bag(out, work, source, options.bag_topics))
    if 'video' in wanted:
        made.append(writing.Videos(out, work / 'video', cameras, journal.parts))
    if 'scores' in wanted:
        made.append(writing.ScoreMaps(out, work, options.score_format))
    if 'html' in wanted:
        made.append(writing.Pictures(out, work))
    elif 'pictures' in wanted:
        made.append(writing.Pictures(out, work, only_obstacles=True))
    return made


def _finish(out: Path, wanted: Sequence[str], outputs: Sequence[Output], journal: Journal) -> None:
    """Make what is made of all frames: joined videos, tables, the page."""
    from maskomaly_ros.replay.page import write_page
    from maskomaly_ros.replay.tables import write_csv, write_parquet

    for output in outputs:
        output.finish(journal.parts)
    if 'csv' in wanted:
        write_csv(journal, out)
    if 'parquet' in wanted:
        write_parquet(journal, out)
    if 'html' in wanted:
        write_page(journal, out)


def _total(source: Source) -> int | None:
    if source.piece.end is not None:
        return None
    try:
        return len(source)
    except TypeError:
        return None
