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

"""The actors of one call on Ray, and the queue that they take drives from."""

from __future__ import annotations

import atexit
import logging
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskomaly_ros.drives.find import Drive, short_hash
from maskomaly_ros.drives.source import reason_of
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.mining.options import BagReport, MineOptions, MineProgress
from maskomaly_ros.mining.results import Results
from maskomaly_ros.mining.worker import UnusableDriveError, Worker
from maskomaly_ros.parameters import DEFAULTS

_LOG = logging.getLogger(__name__)

_CPUS = 2
_POLL_SECONDS = 0.2
# How often Ray is asked whether the node of this process lives, and how long it may take to say.
_LIFE_SECONDS = 2.0
_ANSWER_SECONDS = 20.0
# For what may still end after Ray has died.
_GRACE_SECONDS = 5.0
# Results pass through it; nothing is allocated before it is used.
_OBJECT_STORE_BYTES = 1 << 29


@dataclass
class _Actor:
    """An actor as the caller sees it."""

    handle: Any
    pid: int = 0
    drive: Drive | None = None
    frames: int = 0  # of the drive under way
    asked: Any = None  # how far it is


class _Call(threading.Thread):
    """A call in a thread that does not keep the program from ending."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(daemon=True, name='mine')
        self._call = call
        self._value: object = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Make the call."""
        try:
            self._value = self._call()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        """Return what the call returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._value


class _Life:
    """Tells whether Ray lives, without waiting for it: what asks a dead raylet may hang."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        # Ray's own record of the processes that it began here; None where it began none.
        self._node: Any = getattr(ray._private.worker, '_global_node', None)
        self._asked: _Call | None = None
        self._when = time.monotonic()
        context = ray.get_runtime_context()
        self._id = None if ray.util.client.ray.is_connected() else context.get_node_id()

    def death(self) -> str:
        """Return what has died; empty where all live."""
        dead = self._node.dead_processes() if self._node else []
        if dead:
            return ', '.join(str(kind) for kind, _ in dead)
        now = time.monotonic()
        if self._asked is None:
            if now - self._when > _LIFE_SECONDS:
                self._asked, self._when = _Call(self._ray.nodes), now
        elif not self._asked.is_alive():
            asked, self._asked, self._when = self._asked, None, now
            try:
                nodes = asked.result()
            except Exception as error:  # whatever the connection raises
                return reason_of(error)
            if any(n['NodeID'] == self._id and not n['Alive'] for n in nodes):
                return 'the raylet'
        elif now - self._when > _ANSWER_SECONDS:
            return f'no answer for {_ANSWER_SECONDS:.0f} s'
        return ''

    def session(self) -> str | None:
        """Return the folder of logs and sockets, of what was begun here."""
        return str(self._node.get_session_dir_path()) if self._node else None

    def bury(self) -> None:
        """Kill what is left of a Ray that was begun here."""
        if self._node:
            self._node.kill_all_processes(check_alive=False, allow_graceful=False)


class Fleet:
    """The actors of one call and the queue that they take drives from."""

    def __init__(
        self,
        drives: Sequence[Drive],
        results: Results,
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
        self._stop_work = threading.Event()  # of ourselves
        self._progress = progress
        self._actors: list[_Actor] = []
        self._waiting: dict[Any, _Actor] = {}  # by what the actor will return
        self._lost_starts = 0
        self._done_frames = 0
        self._run = f'maskomaly-mine-{os.getpid()}-{time.time_ns()}'
        self.throughput: dict[int, tuple[int, float]] = {}

    def run(self) -> None:
        """Begin actors, hand out the drives, and end everything.

        Where Ray dies on this machine, what is done stays done: the drives under way have failed,
        and those that wait have not been begun.
        """
        self._ray = _import_ray()
        is_ours = not self._ray.is_initialized()
        if is_ours:
            self._begin_ray()
        life = _Life(self._ray)
        work = _Call(self._begin_and_work)
        death = ''
        try:
            while work.is_alive() and not death:
                work.join(_POLL_SECONDS)
                death = life.death()
            if not death:
                try:
                    work.result()
                except Exception:
                    death = life.death()  # which may be why
                    if not death:
                        raise
            if death:
                self._give_up(death)
        finally:
            self._stop_work.set()
            work.join(_GRACE_SECONDS if death else _ANSWER_SECONDS)
            if not death:
                self._end_actors()
            if is_ours:
                self._end_ray(life, death)
            for left in Path(tempfile.gettempdir()).glob(f'{self._run}-*'):
                shutil.rmtree(left, ignore_errors=True)  # of processes that were killed

    def _begin_and_work(self) -> None:
        count, self._resources = self._share()
        for _ in range(count):
            self._begin_actor()
        self._work()

    def _give_up(self, death: str) -> None:
        """Note what became of the drives under way."""
        self._stop_work.set()
        reason = f'Ray has died on this machine: {death}'
        _LOG.error('%s; ending with what is done', reason)
        for actor in list(self._actors):
            drive = actor.drive
            if drive is not None and drive not in self._reports:
                attempts = self._attempts[drive]
                report = BagReport(drive.url, 'failed', reason=reason, attempts=attempts)
                self._reports[drive] = report

    def _end_ray(self, life: _Life, death: str) -> None:
        session = None if self._options.address else life.session()
        if death and session:
            life.bury()
        ending = _Call(self._ray.shutdown)
        ending.join(_GRACE_SECONDS if death else None)
        if death:  # it would hang at the end of the program as well
            atexit.unregister(self._ray.shutdown)
        if session:
            _remove(session)
            # What a shutdown that goes on without end makes anew.
            atexit.register(shutil.rmtree, session, ignore_errors=True)

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
        kind = self._ray.remote(Worker).options(
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
        while not (self._stop.is_set() or self._stop_work.is_set()) and (
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
            is_hopeless = isinstance(getattr(error, 'cause', None), UnusableDriveError)
            self._failed(drive, reason, is_hopeless=is_hopeless)
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

    def _failed(self, drive: Drive, reason: str, *, is_hopeless: bool = False) -> None:
        attempts = self._attempts[drive]
        if attempts <= self._options.retries and not is_hopeless:
            _LOG.warning('%s: attempt %d, to be repeated: %s', drive.url, attempts, reason)
            self._queue.append(drive)
        else:
            self._reports[drive] = BagReport(drive.url, 'failed', reason=reason, attempts=attempts)

    def _replace(self, actor: _Actor) -> None:
        self._ray.kill(actor.handle)
        self._actors.remove(actor)
        self._begin_actor()


def _remove(folder: str) -> None:
    """Remove a folder that processes which are about to end may still write to."""
    end = time.monotonic() + _GRACE_SECONDS
    while Path(folder).exists() and time.monotonic() < end:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


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
