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

import hashlib
import logging
import queue
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from maskomaly_ros.detector import Detection, Detector
from maskomaly_ros.drives.open import open_source
from maskomaly_ros.drives.piece import WHOLE, Piece
from maskomaly_ros.drives.source import (
    EVERY_CAMERA,
    NAMED_PROBLEMS,
    RawMessage,
    Source,
    SourceFrame,
    reason_of,
)
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.ground import Located
from maskomaly_ros.locks import held
from maskomaly_ros.parameters import configure, load_detector, load_settings, with_defaults
from maskomaly_ros.replay import outputs as writing
from maskomaly_ros.replay.events import Event, events_of
from maskomaly_ros.replay.journal import FrameRecord, Journal, Part, ProblemRecord
from maskomaly_ros.replay.outputs import Output, Result
from maskomaly_ros.replay.places import Places
from maskomaly_ros.replay.refinements import Refinements
from maskomaly_ros.topics import absolute_topic, outputs_of

_LOG = logging.getLogger(__name__)

OUTPUTS = ('bag', 'video', 'scores', 'csv', 'parquet', 'html', 'pictures')
WORK = '.replay'
# Each frame in a queue is decoded: a few bridge what differs from frame to frame.
_QUEUE_LENGTH = 4
_WINDOW = 4
# What is left on the disk for closing files, tables and the page.
_RESERVE_BYTES = 32 << 20
_MAX_PART_BYTES = 4 << 30
# So many failures one after the other are no matter of single frames.
_HOPELESS = 5


@dataclass(frozen=True)
class ReplayOptions:
    """What to read and what to write.

    Attributes:
        outputs: of `OUTPUTS`.
        topics: camera topics of a bag; None takes every camera.
        copy: other topics of a bag to copy into the bag that is written; '*' for all.
        bag_topics: of `outputs.BAG_TOPICS`, what to write to the bag; `points` and `markers` of
            cameras whose place is known.
        score_format: of score maps: `png` (16 bit) or `npz` (float32).
        parameters: of the node, by name; those left out have the node's defaults.
        rate: frames per second of a folder of images; None takes 10.
        piece: which frames to take.
        batch_size: frames that share one run of the network.
        part_seconds: after how long a part is closed. What a crash, not Ctrl-C, destroys is at
            most one part.
        restart: delete what an earlier replay left in the folder.

    """

    outputs: tuple[str, ...] = ('bag', 'video', 'csv', 'html')
    topics: tuple[str, ...] | None = None
    copy: tuple[str, ...] = ()
    bag_topics: tuple[str, ...] = (
        'heatmap',
        'mask',
        'overlay/compressed',
        'obstacles',
        'points',
        'markers',
    )
    score_format: str = 'png'
    parameters: Mapping[str, Any] = field(default_factory=dict)
    rate: float | None = None
    piece: Piece = WHOLE
    batch_size: int = 1
    part_seconds: float = 60.0
    restart: bool = False

    def __post_init__(self) -> None:
        """Refuse what is unknown."""
        for names, known, what in (
            (self.outputs, OUTPUTS, 'output'),
            (self.bag_topics, tuple(writing.BAG_TOPICS), 'topic for the bag'),
            ((self.score_format,), writing.SCORE_FORMATS, 'score format'),
        ):
            for name in names:
                if name not in known:
                    raise MaskomalyError(f'{what} {name!r} is unknown; use {", ".join(known)}')
        if self.batch_size < 1:
            raise MaskomalyError(f'batch size {self.batch_size} must be 1 at least')


@dataclass(frozen=True)
class ReplaySummary:
    """What became of a replay.

    Attributes:
        folder: of the results.
        frames: finished frames, those of earlier calls included.
        problems: everything that was lost, by name.
        is_complete: whether the source was read to its end.
        left_out: image topics that were not read, and why.
        processed: frames of this call.
        noted: problems of this call, which stand last among `problems` and were logged.
        seconds: this call took for them, from the first read to the last write.
        busy: seconds of these that each stage worked: reading, network, and each output.
        finishing: seconds for joining videos, tables and the page.

    """

    folder: Path
    frames: int
    problems: tuple[ProblemRecord, ...]
    is_complete: bool
    left_out: Mapping[str, str] = field(default_factory=dict)
    processed: int = 0
    noted: int = 0
    seconds: float = 0.0
    busy: Mapping[str, float] = field(default_factory=dict)
    finishing: float = 0.0

    @property
    def network_share(self) -> float:
        """Share of the time that the network was busy."""
        return self.busy.get('network', 0.0) / self.seconds if self.seconds else 0.0

    @property
    def lost(self) -> int:
        """Number of frames that were lost; with those that are finished, all there are."""
        return sum(problem.frames for problem in self.problems)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary for JSON; of events the number alone."""
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        return content | {
            'folder': str(self.folder),
            'problems': [asdict(problem) for problem in self.problems],
            'left_out': dict(self.left_out),
            'events': sum(1 for _ in self.events()),
        }

    def events(self) -> Iterator[Event]:
        """Find the obstacles that were seen over consecutive frames."""
        return events_of(read_journal(self.folder))


def read_journal(folder: str | Path) -> Journal:
    """Open the journal of a replay for reading.

    Raises:
        MaskomalyError: there is none.

    """
    path = Path(folder) / WORK / 'journal.jsonl'
    if not path.exists():
        raise MaskomalyError(f'{folder} holds no replay: {path} does not exist')
    return Journal(path)


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
        with _open_journal(out, opened, options, detector, refinements.identity) as journal:
            if not journal.is_complete:
                refinements.restore(journal.parts)
                run = _Run(
                    out, opened, cameras, options, values, detector, refinements, places, journal,
                    watcher,
                )  # fmt: skip
                summary = run.run(stop or threading.Event(), progress or _ignore)
            else:
                summary = _summary(out, journal)
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


def _ignore(done: int, total: int | None) -> None:
    pass


def _cameras(source: Source, topics: Sequence[str]) -> dict[str, float]:
    """Return the rate of each camera; results of two must not collide."""
    if not source.is_bag:
        return {absolute_topic(topics[0]) if topics else '/camera/image_raw': source.rate}
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


@contextmanager
def _open_journal(
    out: Path,
    source: Source,
    options: ReplayOptions,
    detector: Detector,
    regions: Mapping[str, str],
) -> Iterator[Journal]:
    path = out / WORK / 'journal.jsonl'
    is_free = not out.exists() or (
        out.is_dir() and all(entry.name == WORK for entry in out.iterdir())
    )
    if not path.exists() and not is_free:
        raise MaskomalyError(f'{out} exists, and holds no replay; give a new or an empty folder')
    with held(out / WORK / 'lock', f'the replay in {out}'):
        journal = _begin_journal(out, path, source, options, detector, regions)
        try:
            yield journal
        finally:
            journal.close()


def _begin_journal(
    out: Path,
    path: Path,
    source: Source,
    options: ReplayOptions,
    detector: Detector,
    regions: Mapping[str, str],
) -> Journal:
    if options.restart and path.exists():
        for entry in (out / WORK).iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != 'lock':
                entry.unlink()
        for name in ('bag', 'scores', 'frames'):
            shutil.rmtree(out / name, ignore_errors=True)
        for file in out.glob('overlay_*.mp4'):
            file.unlink()
    identity: dict[str, Any] = {
        'source': str(source.path.resolve()),
        'files': _fingerprint(source.path),
        'topics': list(source.topics),
        'outputs': sorted(options.outputs),
        'copy': sorted(options.copy),
        'bag_topics': sorted(options.bag_topics),
        'score_format': options.score_format,
        'rate': source.rate,
        'piece': None if source.piece.is_whole else asdict(source.piece),
        'checkpoint': detector.network.sha256,
        'parameters': {
            name: value
            for name, value in with_defaults(options.parameters).items()
            if name not in ('device', 'max_image_pixels', 'autostart', 'camera_topics')
        },
    }
    if regions:
        identity['regions'] = dict(regions)
    try:
        return Journal(path, identity)
    except OSError as error:
        raise MaskomalyError(f'cannot write {path}: {error.strerror}') from error


def _fingerprint(path: Path) -> str:
    """Return what changes when a file of the source does."""
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.sha256(repr(stats).encode()).hexdigest()


def _summary(out: Path, journal: Journal, **values: Any) -> ReplaySummary:
    return ReplaySummary(
        out,
        sum(1 for _ in journal.frames()),
        tuple(journal.problems()),
        journal.is_complete,
        **values,
    )


@dataclass(frozen=True)
class _Read:
    """A frame and the seconds that reading it took."""

    frame: SourceFrame
    seconds: float


@dataclass(frozen=True)
class _Done:
    """A frame with its detection, on its way to the outputs."""

    read: _Read
    detection: Detection
    network_share: int
    located: Located | None = None


@dataclass(frozen=True)
class _Lost:
    """A problem, with the camera message that no frame came of."""

    problem: ProblemRecord
    message: RawMessage | None = None


_Item = _Read | _Done | _Lost | RawMessage | None


class _Run:
    """One call of `replay`: three stages in threads, and the outputs in one each."""

    def __init__(
        self,
        out: Path,
        source: Source,
        cameras: Mapping[str, float],
        options: ReplayOptions,
        values: Mapping[str, Any],
        detector: Detector,
        refinements: Refinements,
        places: Places,
        journal: Journal,
        watcher: Output | None,
    ) -> None:
        self._out = out
        self._work = out / WORK
        self._source = source
        self._cameras = cameras
        self._options = options
        self._detector = detector
        self._refinements = refinements
        self._places = places
        self._journal = journal
        self._watcher = watcher
        self._settings = writing.Settings(values['overlay_opacity'], values['jpeg_quality'])
        self._read_queue: queue.Queue[_Item] = queue.Queue(_QUEUE_LENGTH)
        self._write_queue: queue.Queue[_Item] = queue.Queue(_QUEUE_LENGTH)
        self._halt = threading.Event()
        self._enough = threading.Event()  # nobody takes from the first queue any more
        self._busy = {'reading': 0.0, 'network': 0.0}
        self._crash: BaseException | None = None
        self._next_index = journal.next_index
        self._messages = journal.messages
        self._processed = 0
        self._at_end = False
        self._gave_up = False
        self._failure = ''
        self._noted = 0  # problems of this call

    def run(
        self, stop: threading.Event, progress: Callable[[int, int | None], object]
    ) -> ReplaySummary:
        """Go through the frames that are left."""
        outputs = self._make_outputs()
        self._stop, self._progress = stop, progress
        start = time.perf_counter()
        threads = [
            threading.Thread(target=self._guard, args=(f, *a), name=f'replay {f.__name__}')
            for f, a in ((self._read, ()), (self._write, (outputs,)))
        ]
        for thread in threads:
            thread.start()
        try:
            self._detect()
        except BaseException:
            self._halt.set()
            raise
        finally:
            self._enough.set()
            self._put(self._write_queue, None)
            for thread in threads:
                thread.join()
        seconds = time.perf_counter() - start
        if self._crash is not None:
            raise self._crash
        finishing = time.perf_counter()
        if self._finish(outputs) and self._at_end and not self._gave_up:
            self._journal.complete()
            shutil.rmtree(self._work / 'video', ignore_errors=True)
            self._refinements.clear()
        return _summary(
            self._out,
            self._journal,
            processed=self._processed,
            noted=self._noted,
            seconds=seconds,
            busy=dict(self._busy),
            finishing=time.perf_counter() - finishing,
        )

    def _make_outputs(self) -> list[Output]:
        wanted = self._options.outputs
        out, work = self._out, self._work
        made: list[Output] = []
        if 'bag' in wanted:
            made.append(writing.Bag(out, work, self._source, self._options.bag_topics))
        if 'video' in wanted:
            parts = self._journal.parts
            made.append(writing.Videos(out, work / 'video', self._cameras, parts))
        if 'scores' in wanted:
            made.append(writing.ScoreMaps(out, work, self._options.score_format))
        if 'html' in wanted:
            made.append(writing.Pictures(out, work))
        elif 'pictures' in wanted:
            made.append(writing.Pictures(out, work, only_obstacles=True))
        if self._watcher is not None:
            made.append(self._watcher)
        return made

    # --- stages --------------------------------------------------------------------------------

    def _guard(self, stage: Callable[..., None], *arguments: Any) -> None:
        """Run a stage in its thread; what is wrong with our own code is raised in `run`."""
        try:
            stage(*arguments)
        except BaseException as error:
            self._crash = error
            self._halt.set()

    def _put(self, target: queue.Queue[_Item], item: _Item) -> bool:
        """Wait for room; give up where the run has come to an end."""
        while not self._halt.is_set():
            if target is self._read_queue and self._enough.is_set():
                return False
            try:
                target.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def _get(self, source: queue.Queue[_Item]) -> _Item:
        while not self._halt.is_set():
            try:
                return source.get(timeout=0.1)
            except queue.Empty:
                continue
        return None

    def _read(self) -> None:
        first, messages = self._journal.next_index, self._journal.messages
        source = self._source
        items = source.items(first, messages)
        reported = 0
        known = set(self._journal.problems())  # damage right before the first frame
        if (first, messages) == (0, 0):
            for topic, reason in source.not_copied.items():
                record = ProblemRecord(-1, topic, 'reading', reason, 0)
                self._put(self._read_queue, _Lost(record))
        while not self._stop.is_set():
            start = time.perf_counter()
            item = next(items, None)
            seconds = time.perf_counter() - start
            self._busy['reading'] += seconds
            for problem in source.problems[reported:]:
                reported += 1
                record = ProblemRecord(
                    problem.index, problem.name, 'reading', problem.reason, problem.frames
                )
                if record not in known:
                    self._put(self._read_queue, _Lost(record, problem.message))
            if item is None:
                self._at_end = True
                break
            entry = _Read(item, seconds) if isinstance(item, SourceFrame) else item
            if not self._put(self._read_queue, entry):
                return
        self._put(self._read_queue, None)

    def _detect(self) -> None:
        failures = 0
        batch: list[_Read] = []
        waiting: list[_Item] = []  # problems and messages keep their place in the order
        while True:
            item = self._checked(self._get(self._read_queue))
            if isinstance(item, _Read):
                batch.append(item)
            if item is not None:
                waiting.append(item)
            if batch and (item is None or len(batch) == self._options.batch_size):
                done = self._run_network(batch)
                failures = 0 if done else failures + 1
                waiting = [
                    (done.pop(0) if done else self._lost(w)) if isinstance(w, _Read) else w
                    for w in waiting
                ]
                batch = []
            if not batch:
                for entry in waiting:
                    self._put(self._write_queue, entry)
                waiting = []
            if item is None:
                return
            if failures >= _HOPELESS:
                _LOG.error('the network failed %d times running; giving up', failures)
                self._gave_up = True
                return

    def _checked(self, item: _Item) -> _Item:
        """Return an item, or the problem of a frame that its region does not fit."""
        if not isinstance(item, _Read):
            return item
        frame = item.frame
        try:
            self._refinements.check(self._camera_of(frame), frame)
        except MaskomalyError as error:  # before the network has worked in vain
            record = ProblemRecord(frame.index, frame.name, 'reading', str(error))
            return _Lost(record, frame.message)
        return item

    def _camera_of(self, frame: SourceFrame) -> str:
        return frame.topic or next(iter(self._cameras))

    def _run_network(self, batch: Sequence[_Read]) -> list[_Done]:
        start = time.perf_counter()
        try:
            detections = self._detector.detect([read.frame.image for read in batch])
        except Exception as error:  # whatever a library raises; the next frames are tried
            self._failure = reason_of(error)
            return []
        finally:
            self._busy['network'] += time.perf_counter() - start
        return [
            _Done(read, detection, len(batch))
            for read, detection in zip(batch, detections, strict=True)
        ]

    def _lost(self, read: _Read) -> _Lost:
        frame = read.frame
        record = ProblemRecord(frame.index, frame.name, 'network', self._failure)
        return _Lost(record, frame.message)

    def _write(self, outputs: Sequence[Output]) -> None:
        """Hand frames to the outputs, and note in the journal what all of them have finished."""
        threads = {output: ThreadPoolExecutor(1, f'replay {output.name}') for output in outputs}
        pending: deque[tuple[_Item, list[Future[float]]]] = deque()
        total = self._total()
        begun = time.monotonic()
        part_bytes = 0

        def settle(keep: int) -> None:
            while len(pending) > keep:
                self._commit(*pending.popleft())
                self._progress(self._next_index, total)

        try:
            while True:
                item = self._get(self._write_queue)
                if item is None:
                    break
                self._check_disk()
                if isinstance(item, _Done):
                    item = self._refined(item)
                pending.append((item, self._submit(item, threads)))
                settle(_WINDOW)
                if isinstance(item, _Done):
                    part_bytes += 4 * item.detection.frame.nbytes
                if (
                    time.monotonic() - begun > self._options.part_seconds
                    or part_bytes > _MAX_PART_BYTES
                ):
                    settle(0)
                    self._close_part(threads)
                    begun, part_bytes = time.monotonic(), 0
            settle(0)
            self._close_part(threads)
        except _DiskFullError as error:  # in time: what is under way can be completed
            settle(0)
            self._close_part(threads)
            self._lose(error)  # after the part: a rerun forgets it
        except (OSError, MaskomalyError) as error:
            for thread in threads.values():
                thread.shutdown(cancel_futures=True)
            for output in outputs:
                output.abort()
            self._journal.roll_back()
            self._next_index = self._journal.next_index
            self._lose(error)
        finally:
            for thread in threads.values():
                thread.shutdown(cancel_futures=True)

    def _lose(self, error: Exception) -> None:
        """End the run on what cannot be written."""
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        name = f'frame {self._next_index}'
        self._note(ProblemRecord(self._next_index, name, 'writing', reason, 0))
        self._gave_up = True
        self._halt.set()

    def _refined(self, item: _Done) -> _Done:
        start = time.perf_counter()
        frame, detection = item.read.frame, item.detection
        camera = self._camera_of(frame)
        if self._refinements:
            detection = self._refinements.apply(camera, frame, detection)
        detection, located = self._places.locate(camera, frame, detection)
        name = Refinements.name
        self._busy[name] = self._busy.get(name, 0.0) + time.perf_counter() - start
        return replace(item, detection=detection, located=located)

    def _submit(
        self, item: _Item, threads: Mapping[Output, ThreadPoolExecutor]
    ) -> list[Future[float]]:
        message = item.message if isinstance(item, _Lost) else item
        if isinstance(message, RawMessage):
            is_damaged = message is not item
            return [
                thread.submit(_timed, output.copy, message, is_damaged=is_damaged)
                for output, thread in threads.items()
                if output.name == 'bag'
            ]
        if not isinstance(item, _Done):
            return []
        frame = item.read.frame
        camera = self._camera_of(frame)
        result = Result(frame, camera, item.detection, self._settings, item.located)
        start = time.perf_counter()
        if threads:  # made once, here, as outputs would make them at the same time
            result.detection.obstacles  # noqa: B018
            if any(output.draws_overlay for output in threads):
                result.overlay  # noqa: B018
        self._busy['drawing'] = self._busy.get('drawing', 0.0) + time.perf_counter() - start
        return [
            thread.submit(_timed, self._account, output, result)
            for output, thread in threads.items()
        ]

    def _account(self, output: Output, result: Result) -> None:
        start = time.perf_counter()
        output.write(result)
        self._busy[output.name] = self._busy.get(output.name, 0.0) + time.perf_counter() - start

    def _commit(self, item: _Item, futures: Sequence[Future[float]]) -> None:
        """Wait until all outputs have written an item, and note it in the journal."""
        seconds = sum((future.result() for future in futures), 0.0)
        if isinstance(item, RawMessage):
            self._messages += 1
        elif isinstance(item, _Lost):
            self._note(item.problem)
            self._next_index = max(self._next_index, item.problem.index + 1)
        elif isinstance(item, _Done):
            self._journal.add(self._record(item, seconds))
            self._next_index = item.read.frame.index + 1
            self._processed += 1

    def _note(self, problem: ProblemRecord) -> None:
        """Put a problem into the journal, and name it, unless there are too many."""
        self._journal.add(problem)
        self._noted += 1
        if self._noted <= NAMED_PROBLEMS:
            _LOG.warning('%s: %s: %s', problem.stage, problem.name, problem.reason)
        if self._noted == NAMED_PROBLEMS:
            _LOG.warning('further problems are counted, and not named here')

    def _record(self, item: _Done, seconds: float) -> FrameRecord:
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
                f'{self._out} has {free >> 20} MB free, and closing what is open needs '
                f'{needed >> 20} MB'
            )

    def _finish(self, outputs: Sequence[Output]) -> bool:
        """Make what is made of all frames: joined videos, tables, the page."""
        from maskomaly_ros.replay.page import write_page
        from maskomaly_ros.replay.tables import write_csv, write_parquet

        wanted = self._options.outputs
        try:
            for output in outputs:
                output.finish(self._journal.parts)
            if 'csv' in wanted:
                write_csv(self._journal, self._out)
            if 'parquet' in wanted:
                write_parquet(self._journal, self._out)
            if 'html' in wanted:
                write_page(self._journal, self._out)
        except (OSError, MaskomalyError) as error:
            self._lose(error)
            return False
        return True

    def _total(self) -> int | None:
        if self._source.piece.end is not None:
            return None
        try:
            return len(self._source)
        except TypeError:
            return None


class _DiskFullError(MaskomalyError):
    """The disk is nearly full; files can still be closed."""


def _timed(task: Callable[..., None], *arguments: Any, **more: Any) -> float:
    start = time.perf_counter()
    task(*arguments, **more)
    return time.perf_counter() - start
