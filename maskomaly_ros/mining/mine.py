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

"""Replay many drives on Ray: one actor for each GPU or share of the CPUs, one table of them all.

    from maskomaly_ros.mining.mine import MineOptions, mine

    report = mine(['s3://fleet/2026-11/'], 'mined', MineOptions(workers=8))

What an actor finds in a drive comes back to the caller, which alone writes to the folder of the
results: the nodes of a cluster need not share a disk with it.
"""

from __future__ import annotations

import heapq
import json
import logging
import os
import platform
import re
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from maskomaly_ros.drives.find import Drive, fetch_drive, find_drives, short_hash
from maskomaly_ros.drives.open import is_bag
from maskomaly_ros.drives.source import reason_of
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.parameters import (
    DEFAULTS,
    load_detector,
    load_settings,
    read_regions,
    temporal_parameters,
    with_defaults,
)
from maskomaly_ros.replay import tables
from maskomaly_ros.replay.page import event_thumbnail
from maskomaly_ros.replay.run import ReplayOptions, read_journal, replay

_LOG = logging.getLogger(__name__)

FRAME_COLUMNS = {'bag': 'string', **tables.FRAME_COLUMNS}
# `event` numbers those of one bag; `thumbnail` is a file, for the highest of all bags.
EVENT_COLUMNS = {
    'bag': 'string', 'event': 'int64', **tables.EVENT_COLUMNS, 'thumbnail': 'string'
}  # fmt: skip
BAG_COLUMNS = {
    'bag': 'string',
    'status': 'string',
    'frames': 'int64',
    'events': 'int64',
    'problems': 'int64',
    'reason': 'string',
    'attempts': 'int64',
    'seconds': 'float64',
    'host': 'string',
}
_WORK = '.mine'
_CPUS = 2
_POLL_SECONDS = 0.2
# Results pass through it; nothing is allocated before it is used.
_OBJECT_STORE_BYTES = 1 << 29


@dataclass(frozen=True)
class MineOptions:
    """How to mine.

    Attributes:
        parameters: of the node, by name; those left out have the node's defaults.
        topics: camera topics of bags; None takes every camera.
        rate: frames per second of folders of images; None takes 10.
        batch_size: frames that share one run of the network.
        top: thumbnails to keep, of the events with the highest scores.
        retries: how often a drive is tried again.
        workers: actors; None takes one a GPU, or what the CPUs are enough for.
        cpus_per_worker: CPUs and threads of an actor; None shares out all there are, two each
            where `workers` is not given either.
        address: of a Ray cluster, such as `auto` or `ray://host:10001`; None starts Ray here.
        ramp_seconds: after which one more actor begins, to see how the throughput grows.
        restart: forget what earlier calls left in the folder.

    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    topics: tuple[str, ...] | None = None
    rate: float | None = None
    batch_size: int = 1
    top: int = 50
    retries: int = 2
    workers: int | None = None
    cpus_per_worker: int | None = None
    address: str | None = None
    ramp_seconds: float = 0.0
    restart: bool = False

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for name, least in (
            ('batch_size', 1), ('top', 0), ('retries', 0), ('workers', 1), ('cpus_per_worker', 1),
            ('ramp_seconds', 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < least:
                raise MaskomalyError(f'{name} {value} must be {least} at least')


@dataclass(frozen=True)
class BagReport:
    """What became of a drive.

    Attributes:
        bag: its path or URL.
        status: `done`, `problems` (replayed to its end, with losses) or `failed`.
        frames: finished frames.
        events: their number.
        problems: number of losses, as in `ReplaySummary.problems`.
        reason: of the failure, or the first problem.
        attempts: of the call that finished it or gave it up.
        seconds: of the last attempt, download included.
        host: where it ran.

    """

    bag: str
    status: str
    frames: int = 0
    events: int = 0
    problems: int = 0
    reason: str = ''
    attempts: int = 1
    seconds: float = 0.0
    host: str = ''


@dataclass(frozen=True)
class MineReport:
    """What became of a call of `mine`.

    Attributes:
        folder: of the results.
        bags: of the sources of this call; those that were not begun are missing.
        skipped: how many of them an earlier call had finished.
        total: drives that the sources are.
        seconds: of this call.
        throughput: frames and seconds by the number of actors at work.

    """

    folder: Path
    bags: tuple[BagReport, ...]
    skipped: int
    total: int
    seconds: float
    throughput: Mapping[int, tuple[int, float]]

    @property
    def is_complete(self) -> bool:
        """Whether every drive was replayed without a loss."""
        return len(self.bags) == self.total and all(b.status == 'done' for b in self.bags)


@dataclass(frozen=True)
class MineProgress:
    """Where a call of `mine` stands.

    Attributes:
        done: drives behind us, failed ones included.
        total: drives.
        frames: of this call.
        workers: process id and drive of each actor at work.

    """

    done: int
    total: int
    frames: int
    workers: Mapping[int, str]


# --- one actor ---------------------------------------------------------------------------------


class _Worker:
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
        mined = self._options
        takes_topics = is_bag(source)
        options = ReplayOptions(
            outputs=('html',),  # has the pictures that thumbnails are cut from
            topics=mined.topics if takes_topics else None,
            parameters=mined.parameters,
            rate=None if takes_topics else mined.rate,
            batch_size=mined.batch_size,
        )
        summary = replay(
            source, out, options, detector=self._detector, stop=self._stop, progress=self._note
        )
        problems = summary.problems
        reason = f'{problems[0].name}: {problems[0].reason}' if problems else ''
        if not summary.is_complete:
            raise MaskomalyError(f'ended after {summary.frames} frames: {reason or "stopped"}')
        self._frames = summary.frames
        journal = read_journal(out)
        widths = {frame.camera: frame.width for frame in journal.frames()}
        events = list(summary.events())
        rows = ({'bag': bag, **tables.frame_row(frame)} for frame in journal.frames())
        tables.write_rows(out / 'mined_frames', FRAME_COLUMNS, rows)
        rows = ({'bag': bag, 'event': n, **tables.event_row(e)} for n, e in enumerate(events))
        tables.write_rows(out / 'mined_events', EVENT_COLUMNS, rows)
        best = heapq.nlargest(
            mined.top, enumerate(events), key=lambda item: (item[1].peak_score, item[1].peak_area)
        )
        thumbnails: dict[int, bytes] = {}
        for number, event in best:
            image = event_thumbnail(out / 'frames', event, widths[event.camera])
            if image is not None:
                bgr = np.ascontiguousarray(image[..., ::-1])
                thumbnails[number] = bytes(cv2.imencode('.jpg', bgr)[1])
        status = 'problems' if problems else 'done'
        return {
            'report': BagReport(bag, status, summary.frames, len(events), len(problems), reason),
            'frames': (out / 'mined_frames').read_bytes(),
            'events': (out / 'mined_events').read_bytes(),
            'thumbnails': thumbnails,
        }

    def _note(self, done: int, total: int | None) -> None:
        self._frames = done


# --- the folder of the results -----------------------------------------------------------------


class _Results:
    """Parts in `.mine/parts`, one folder a drive, and what is joined from them."""

    def __init__(self, folder: Path, options: MineOptions) -> None:
        self.folder = folder
        self._parts = folder / _WORK / 'parts'
        self._identity_file = folder / _WORK / 'identity.json'
        self._top = options.top
        is_new = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
        if not (is_new or self._identity_file.exists()):
            raise MaskomalyError(f'{folder} exists, and was not mined; give an empty folder')
        left_out = ('device', 'max_image_pixels', 'autostart', 'camera_topics')
        self.identity: dict[str, Any] = {
            'topics': options.topics,
            'rate': options.rate,
            'top': options.top,
            'parameters': {
                name: value
                for name, value in with_defaults(options.parameters).items()
                if name not in left_out
            },
        }
        try:
            if options.restart:
                shutil.rmtree(folder / _WORK, ignore_errors=True)
            self._parts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MaskomalyError(f'cannot write {folder}: {error.strerror}') from error
        self.check()

    def check(self, **facts: Any) -> None:
        """Write down what the results are of; refuse what differs from earlier calls."""
        new = json.loads(json.dumps({**self.identity, **facts}))
        old = json.loads(self._identity_file.read_text()) if self._identity_file.exists() else {}
        changed = [name for name, value in new.items() if old.get(name, value) != value]
        if changed:
            raise MaskomalyError(
                f'{self.folder} was mined otherwise: '
                + ', '.join(f'{name} was {old[name]!r}, now {new[name]!r}' for name in changed)
                + '. Give another folder, or start again with --restart'
            )
        temporary = self._identity_file.with_suffix('.tmp')
        temporary.write_text(json.dumps(old | new, indent=1))
        temporary.replace(self._identity_file)

    def finished(self, drive: Drive) -> BagReport | None:
        """Return the report of a drive that was finished as it is now."""
        try:
            part = json.loads((self._parts / drive.key / 'bag.json').read_text())
        except FileNotFoundError:
            return None
        return BagReport(**part['report']) if part['fingerprint'] == drive.fingerprint else None

    def add(self, drive: Drive, found: Mapping[str, Any]) -> None:
        """Keep what was found in a drive; all of it or nothing."""
        part, temporary = self._parts / drive.key, self._parts.with_name('part.tmp')
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for name in ('frames', 'events'):
            (temporary / f'{name}.parquet').write_bytes(found[name])
        for number, data in found['thumbnails'].items():
            (temporary / f'{number}.jpg').write_bytes(data)
        record = {'fingerprint': drive.fingerprint, 'report': asdict(found['report'])}
        (temporary / 'bag.json').write_text(json.dumps(record))
        shutil.rmtree(part, ignore_errors=True)
        temporary.replace(part)

    def join(self, failed: Iterable[BagReport]) -> None:
        """Write the tables and the thumbnails of all drives that are finished."""
        parts = sorted(path for path in self._parts.iterdir() if (path / 'bag.json').exists())
        pyarrow, parquet = tables.import_pyarrow()
        best = heapq.nlargest(
            self._top,
            (
                (score, area, number, part)
                for part in parts
                for score, area, number in _peaks(parquet, part)
            ),
        )
        names: dict[tuple[Path, int], str] = {}
        thumbnails = self.folder / 'thumbnails'
        fresh = self.folder / _WORK / 'thumbnails.tmp'
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        for rank, (score, _, number, part) in enumerate(best, start=1):
            picture = part / f'{number}.jpg'
            if picture.exists():
                name = f'{rank:04}_{score:.3f}.jpg'
                shutil.copyfile(picture, fresh / name)
                names[part, number] = f'thumbnails/{name}'
        shutil.rmtree(thumbnails, ignore_errors=True)
        fresh.replace(thumbnails)
        for name in ('frames', 'events'):
            columns = FRAME_COLUMNS if name == 'frames' else EVENT_COLUMNS
            schema = pyarrow.schema([(n, getattr(pyarrow, k)()) for n, k in columns.items()])
            temporary = self.folder / f'{name}.parquet.tmp'
            with parquet.ParquetWriter(temporary, schema) as writer:
                for part in parts:
                    for batch in parquet.ParquetFile(part / f'{name}.parquet').iter_batches():
                        table = pyarrow.Table.from_batches([batch], schema)
                        if name == 'events':
                            files = [names.get((part, n)) for n in table['event'].to_pylist()]
                            place = schema.get_field_index('thumbnail')
                            column = pyarrow.array(files, pyarrow.string())
                            table = table.set_column(place, schema.field(place), column)
                        writer.write_table(table)
            temporary.replace(self.folder / f'{name}.parquet')
        reports = [json.loads((p / 'bag.json').read_text())['report'] for p in parts]
        rows = {row['bag']: row for row in [*reports, *map(asdict, failed)]}
        temporary = self.folder / 'bags.parquet.tmp'
        tables.write_rows(temporary, BAG_COLUMNS, (rows[bag] for bag in sorted(rows)))
        temporary.replace(self.folder / 'bags.parquet')


def _peaks(parquet: Any, part: Path) -> Iterator[tuple[float, int, int]]:
    columns = ['peak_score', 'peak_area', 'event']
    table = parquet.read_table(part / 'events.parquet', columns=columns)
    yield from zip(*(table[name].to_pylist() for name in columns), strict=True)


# --- the caller --------------------------------------------------------------------------------


@dataclass
class _Actor:
    """An actor as the caller sees it."""

    handle: Any
    pid: int = 0
    drive: Drive | None = None
    frames: int = 0  # of the drive under way
    asked: Any = None  # how far it is


def mine(
    sources: Sequence[str],
    out: str | Path,
    options: MineOptions | None = None,
    *,
    stop: threading.Event | None = None,
    progress: Callable[[MineProgress], object] | None = None,
) -> MineReport:
    """Replay many drives on Ray, and write one table of frames, of events and of bags.

    A folder that was mined before is continued: finished drives are skipped, changed and failed
    ones replayed.

    Args:
        sources: paths, globs and URLs, see `find_drives`.
        out: folder for the results; new, empty, or one of an earlier call.
        options: how to mine.
        stop: when set, the drives under way are given up and the tables written.
        progress: called a few times a second.

    Raises:
        MaskomalyError: nothing can be begun: a source, an option or the checkpoint is unusable,
            Ray is missing, or too few CPUs are there. What goes wrong with a drive is in its
            `BagReport`.

    """
    options = options or MineOptions()
    start = time.perf_counter()
    tables.import_pyarrow()
    values = with_defaults(options.parameters)
    read_regions(load_settings(values))
    temporal_parameters(values)
    options = replace(options, parameters=_absolute(options.parameters))
    drives = find_drives(sources)
    results = _Results(Path(out).expanduser(), options)
    before = {drive: results.finished(drive) for drive in drives}
    reports = {drive: report for drive, report in before.items() if report is not None}
    skipped = len(reports)
    fleet = _Fleet(
        [drive for drive in drives if drive not in reports],
        results, options, reports, len(drives), stop or threading.Event(), progress,
    )  # fmt: skip
    if len(reports) < len(drives):
        fleet.run()
    results.join(report for report in reports.values() if report.status == 'failed')
    return MineReport(
        results.folder,
        tuple(reports[drive] for drive in drives if drive in reports),
        skipped,
        len(drives),
        time.perf_counter() - start,
        {n: (f, s) for n, (f, s) in sorted(fleet.throughput.items())},
    )


def _absolute(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters whose local paths mean the same in every process."""

    def absolute(text: str) -> str:
        path = Path(text).expanduser()
        return str(path.resolve()) if text and path.exists() else text

    found = dict(parameters)
    for name in ('checkpoint', 'queries_file'):
        if found.get(name):
            found[name] = absolute(str(found[name]))
    for name in ('road_regions', 'ego_regions'):
        if found.get(name):
            found[name] = [absolute(region) for region in found[name]]
    return found


class _Fleet:
    """The actors of one call and the queue that they take drives from."""

    def __init__(
        self,
        drives: Sequence[Drive],
        results: _Results,
        options: MineOptions,
        reports: dict[Drive, BagReport],
        total: int,
        stop: threading.Event,
        progress: Callable[[MineProgress], object] | None,
    ) -> None:
        self._queue = deque(drives)
        self._attempts = dict.fromkeys(drives, 0)
        self._results = results
        self._options = options
        self._reports = reports
        self._total = total
        self._stop = stop
        self._progress = progress
        self._actors: list[_Actor] = []
        self._waiting: dict[Any, _Actor] = {}  # by what the actor will return
        self._lost_starts = 0
        self._done_frames = 0
        self._run = f'maskomaly-mine-{os.getpid()}-{time.time_ns()}'
        self.throughput: dict[int, tuple[int, float]] = {}

    def run(self) -> None:
        """Begin actors, hand out the drives, and end everything."""
        self._ray = _import_ray()
        is_ours = not self._ray.is_initialized()
        if is_ours:
            self._begin_ray()
        try:
            count, self._resources = self._share()
            for _ in range(count):
                self._begin_actor()
            self._work()
        finally:
            self._end_actors()
            if is_ours:
                self._ray.shutdown()
            for left in Path(tempfile.gettempdir()).glob(f'{self._run}-*'):
                shutil.rmtree(left, ignore_errors=True)  # of processes that were killed

    def _begin_ray(self) -> None:
        options = self._options
        values: dict[str, Any] = {
            'logging_level': logging.ERROR, 'log_to_driver': False, 'include_dashboard': False
        }  # fmt: skip
        if options.address:
            _check_address(options.address)
            values = {'address': options.address, 'log_to_driver': False}
        else:
            wanted = (options.workers or 1) * (options.cpus_per_worker or 1)
            values['address'] = 'local'  # even if a cluster runs here
            values['num_cpus'] = max(len(os.sched_getaffinity(0)), wanted)
            values['object_store_memory'] = _OBJECT_STORE_BYTES
        on_term = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(**values)
        except Exception as error:
            where = f'at {options.address}' if options.address else 'on this machine'
            raise MaskomalyError(f'Ray cannot be used {where}: {reason_of(error)}') from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_term)  # Ray sets its own

    def _share(self) -> tuple[int, dict[str, Any]]:
        """Return the number of actors and what each one gets."""
        options = self._options
        there = self._ray.cluster_resources()
        cpus, gpus = int(there.get('CPU', 0)), int(there.get('GPU', 0))
        device = options.parameters.get('device', DEFAULTS['device'])
        if re.fullmatch(r'cuda:\d+', device):
            raise MaskomalyError(f'device {device!r}: Ray deals out the GPUs; use cuda or auto')
        if device == 'cuda' and not gpus:
            raise MaskomalyError('device cuda: Ray knows of no GPU; use auto or cpu')
        gpus = 0 if device == 'cpu' else gpus
        share = options.cpus_per_worker
        count = options.workers
        if share is None:
            share = max(1, cpus // (count or gpus or max(1, cpus // _CPUS)))
        most = min(cpus // share, gpus) if gpus else cpus // share
        if (count or 1) > most:
            raise MaskomalyError(
                f'{count or 1} workers of {share} CPUs are more than Ray has: '
                f'{cpus} CPUs, {gpus} GPUs for {most} workers'
            )
        resources = {'num_cpus': share, 'num_gpus': 1 if gpus else 0}
        return min(count or most, len(self._queue)), resources

    def _begin_actor(self) -> None:
        threads = int(self._resources['num_cpus'])
        kind = self._ray.remote(_Worker).options(
            **self._resources, max_restarts=0, max_concurrency=3
        )
        actor = _Actor(kind.remote(self._options, threads))
        self._actors.append(actor)
        self._waiting[actor.handle.start.remote()] = actor

    def _end_actors(self) -> None:
        busy = [answer for answer, actor in self._waiting.items() if actor.drive]
        for actor in self._actors:
            if actor.drive:
                actor.handle.stop.remote()
        if busy:  # so that they clear up
            self._ray.wait(busy, num_returns=len(busy), timeout=10)
        for actor in self._actors:
            self._ray.kill(actor.handle)

    def _work(self) -> None:
        begun: float | None = None  # when the first actor was ready
        last = time.perf_counter()
        while not self._stop.is_set() and (
            self._queue or any(actor.drive for actor in self._actors)
        ):
            answers, _ = self._ray.wait(list(self._waiting), timeout=_POLL_SECONDS)
            before = self._frames()
            at_work = sum(1 for actor in self._actors if actor.drive)
            self._ask()
            for answer in answers:
                self._take(answer, self._waiting.pop(answer))
            now = time.perf_counter()
            if at_work:
                frames, seconds = self.throughput.get(at_work, (0, 0.0))
                gained = max(0, self._frames() - before)
                self.throughput[at_work] = frames + gained, seconds + now - last
            last = now
            ramp = self._options.ramp_seconds
            if begun is None and any(actor.pid for actor in self._actors):
                begun = now
            since = now - begun if begun is not None else 0.0
            self._hand_out(1 + int(since / ramp) if ramp else len(self._actors))
            if self._progress:
                workers = {a.pid: a.drive.url for a in self._actors if a.drive}
                done = len(self._reports)
                self._progress(MineProgress(done, self._total, self._frames(), workers))

    def _frames(self) -> int:
        return self._done_frames + sum(actor.frames for actor in self._actors)

    def _hand_out(self, most: int) -> None:
        """Give a drive to each actor that has none, up to a number of actors at work."""
        room = most - sum(1 for actor in self._actors if actor.drive)
        for actor in self._actors:
            if room > 0 and self._queue and actor.pid and actor.drive is None:
                actor.drive = self._queue.popleft()
                actor.frames, actor.asked = 0, None
                self._attempts[actor.drive] += 1
                name = f'{self._run}-{short_hash(actor.drive.url)}'
                self._waiting[actor.handle.mine.remote(actor.drive, name)] = actor
                room -= 1

    def _ask(self) -> None:
        """Note how far the actors are."""
        for actor in self._actors:
            if actor.drive is None:
                continue
            if actor.asked is None:
                actor.asked = actor.handle.frames.remote()
            elif self._ray.wait([actor.asked], timeout=0)[0]:
                try:
                    actor.frames = max(actor.frames, self._ray.get(actor.asked))
                except self._ray.exceptions.RayError:
                    continue  # it was killed, which `_take` sees too
                actor.asked = None

    def _take(self, answer: Any, actor: _Actor) -> None:
        """Take what an actor returned, or what became of it."""
        drive, actor.drive, actor.frames = actor.drive, None, 0
        try:
            value = self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            reason = _reason(error)
            if drive is None:
                raise MaskomalyError(f'a worker cannot begin: {reason}') from None
            self._failed(drive, reason)
        except self._ray.exceptions.RayError as error:
            self._replace(actor)
            if drive is None:
                self._lost_starts += 1
                if self._lost_starts > self._options.retries:
                    raise MaskomalyError(f'workers die as they begin: {_reason(error)}') from None
            else:
                self._failed(drive, 'its worker died: ' + _reason(error))
        else:
            if drive is None:
                actor.pid, sha256 = value
                self._lost_starts = 0
                self._results.check(checkpoint=sha256)
                return
            report = replace(value['report'], attempts=self._attempts[drive])
            self._results.add(drive, {**value, 'report': report})
            self._reports[drive] = report
            self._done_frames += report.frames

    def _failed(self, drive: Drive, reason: str) -> None:
        attempts = self._attempts[drive]
        _LOG.warning('%s: attempt %d: %s', drive.url, attempts, reason)
        if attempts <= self._options.retries:
            self._queue.append(drive)
        else:
            self._reports[drive] = BagReport(drive.url, 'failed', reason=reason, attempts=attempts)

    def _replace(self, actor: _Actor) -> None:
        self._ray.kill(actor.handle)
        self._actors.remove(actor)
        self._begin_actor()


def _check_address(address: str) -> None:
    """Raise MaskomalyError where nobody listens: Ray would try for minutes."""
    match = re.fullmatch(r'(?:ray://)?([^/:]+):(\d{1,5})', address)
    if match:
        try:
            socket.create_connection((match[1], int(match[2])), timeout=10).close()
        except (OSError, OverflowError) as error:
            raise MaskomalyError(f'nobody answers at {address}: {error}') from error


def _import_ray() -> Any:
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    # Without a GPU asked for, leave it to `device` what is used.
    os.environ.setdefault('RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO', '0')
    try:
        import ray
    except ImportError as error:
        raise MaskomalyError('mining needs Ray: pip install ray') from error
    return ray


def _reason(error: Exception) -> str:
    """Return what went wrong in an actor, without the frames of Ray."""
    cause = getattr(error, 'cause', None) or error
    if isinstance(cause, MaskomalyError):
        return str(cause)
    lines = str(cause).strip().splitlines()
    return f'{type(cause).__name__}: {lines[0] if lines else ""}'
