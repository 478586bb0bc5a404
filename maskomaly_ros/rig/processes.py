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

"""Child processes that never outlive the program that started them."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.share import share_directory

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_LOG_LINES = 40
_RESERVATIONS: list[socket.socket] = []  # of ROS domains


@dataclass(frozen=True)
class Child:
    """A running child process.

    Attributes:
        name: what to call it.
        process: the process.
        log: file with what it wrote, apart from its events.

    """

    name: str
    process: subprocess.Popen[str]
    log: Path

    def tail(self) -> str:
        """Return the last lines of its log."""
        lines = self.log.read_text(encoding='utf-8', errors='replace').splitlines()
        return '\n'.join(lines[-_LOG_LINES:])


class ChildProcesses:
    """Python modules as child processes; all have ended when the `with` block ends.

    They end too when this process is killed (Linux). Lines of JSON on their standard output are
    events, the rest goes to a log file.

    Args:
        logs: folder for the log files.
        environment: of all children.

    Attributes:
        logs: folder for the log files.

    """

    def __init__(self, logs: Path, environment: Mapping[str, str]) -> None:
        self.logs = logs
        self._environment = dict(environment)
        self._children: list[Child] = []
        self._events: queue.Queue[tuple[Child, dict[str, Any]]] = queue.Queue()

    def start(self, name: str, module: str, *arguments: str) -> Child:
        """Start `python -m module arguments`."""
        path = self.logs / f'{name}.log'
        log = path.open('w', encoding='utf-8')
        process = subprocess.Popen(
            [sys.executable, '-m', module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            errors='replace',
            env=self._environment,
            # Ctrl-C in a terminal goes to every process of its group; here only to us, who end
            # the others in order.
            start_new_session=True,
            preexec_fn=_prepare_child,
        )
        child = Child(name, process, path)
        self._children.append(child)
        threading.Thread(target=self._listen, args=(child, log), daemon=True).start()
        return child

    def next_event(self, timeout: float) -> tuple[Child, dict[str, Any]]:
        """Wait for the next event; the end of a child is one: `exit`, with its `status`.

        Raises:
            queue.Empty: none came within timeout seconds.

        """
        return self._events.get(timeout=timeout)

    def stop(self, child: Child, timeout: float) -> int:
        """Interrupt a child and wait for its end; after timeout seconds it is killed.

        Returns:
            Its exit status, negative for the signal that ended it.

        """
        if child.process.poll() is None:
            child.process.send_signal(signal.SIGINT)
        try:
            return child.process.wait(timeout)
        except subprocess.TimeoutExpired:
            child.process.kill()
            return child.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        running = [c for c in self._children if c.process.poll() is None]
        for child in running:
            child.process.send_signal(signal.SIGINT)
        give_up = time.monotonic() + 5.0
        for child in running:
            with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C: be quick
                try:
                    child.process.wait(max(0.0, give_up - time.monotonic()))
                    continue
                except subprocess.TimeoutExpired:
                    pass
            child.process.kill()
            child.process.wait()

    def _listen(self, child: Child, log: IO[str]) -> None:
        assert child.process.stdout is not None
        with log, child.process.stdout:
            for line in child.process.stdout:
                try:
                    event = json.loads(line) if line.startswith('{') else None
                except ValueError:
                    event = None
                if event is not None:
                    self._events.put((child, event))
                else:
                    log.write(line)
                    log.flush()
        self._events.put((child, {'event': 'exit', 'status': child.process.wait()}))


def _prepare_child() -> None:
    """Let SIGINT end it, which a shell's background jobs ignore, and on Linux our death too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    prctl = getattr(_LIBC, 'prctl', None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def ros_environment() -> dict[str, str]:
    """Return an environment in which ROS nodes hear each other, and nobody else, on this machine.

    Raises:
        MaskomalyError: every domain is in use.

    """
    profile = str(share_directory() / 'config' / 'fastdds.xml')
    return {
        # The user's own choices stand; but busy waiting of the network's threads costs the other
        # processes more than it gains, and the default shared memory cannot hold a camera frame.
        'OMP_WAIT_POLICY': 'PASSIVE',
        'FASTRTPS_DEFAULT_PROFILES_FILE': profile,
        'FASTDDS_DEFAULT_PROFILES_FILE': profile,
        **os.environ,
        'PYTHONUNBUFFERED': '1',
        'ROS_DOMAIN_ID': str(free_domain()),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
    }


def free_domain() -> int:
    """Return a ROS domain that nobody on this machine uses, out of those safe on Linux.

    It is this process's until it ends, also while it has no participant there: a node of the same
    name would come between two that were given the same domain.
    """
    for domain in random.sample(range(1, 102), 101):
        first_port = 7400 + 250 * domain
        reservation = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', first_port))  # where DDS listens for newcomers
                reservation.bind(('127.0.0.1', first_port + 249))  # which no participant takes
            except OSError:
                reservation.close()
                continue
        _RESERVATIONS.append(reservation)
        return domain
    raise MaskomalyError('all ROS domains from 1 to 101 are in use on this machine')
