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

"""Child processes report, and never outlive who started them."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maskomaly_ros.rig.processes import Child, ChildProcesses, free_domain, ros_environment

TIMEOUT = 30.0


@pytest.fixture
def modules(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which `python -m NAME` runs these programs."""
    programs = {
        'talker': (
            'import sys\n'
            'print(\'{"event": "hello", "number": 3}\')\n'
            'print("just a line", flush=True)\n'
            'print("{no event", flush=True)\n'
            'print("an error", file=sys.stderr)\n'
            'sys.exit(5)\n'
        ),
        'sleeper': 'import time\nprint(\'{"event": "ready"}\', flush=True)\ntime.sleep(600)\n',
        'stubborn': (
            'import signal, time\n'
            'signal.signal(signal.SIGINT, signal.SIG_IGN)\n'
            'print(\'{"event": "ready"}\', flush=True)\n'
            'time.sleep(600)\n'
        ),
    }
    for name, program in programs.items():
        (tmp_path / f'{name}.py').write_text(program)
    return {**os.environ, 'PYTHONPATH': str(tmp_path), 'PYTHONUNBUFFERED': '1'}


def wait_for_end(*pids: int) -> None:
    """Wait until these processes have ended; a zombie has ended."""
    end = time.monotonic() + TIMEOUT
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < end, f'still running: {[p for p in pids if is_running(p)]}'
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        state = Path(f'/proc/{pid}/stat').read_text(encoding='ascii').rpartition(')')[2]
    except OSError:
        return False
    return state.split()[0] not in 'ZX'


def ready(processes: ChildProcesses, name: str) -> Child:
    child = processes.start(name, name)
    assert processes.next_event(TIMEOUT) == (child, {'event': 'ready'})
    return child


def test_events_and_log_and_status(tmp_path: Path, modules: dict[str, str]) -> None:
    with ChildProcesses(tmp_path, modules) as processes:
        child = processes.start('talker', 'talker')
        assert processes.next_event(TIMEOUT) == (child, {'event': 'hello', 'number': 3})
        assert processes.next_event(TIMEOUT) == (child, {'event': 'exit', 'status': 5})
        with pytest.raises(queue.Empty):
            processes.next_event(0.01)
    assert child.log == tmp_path / 'talker.log'
    assert sorted(child.tail().splitlines()) == ['an error', 'just a line', '{no event']


@pytest.mark.parametrize(
    ('name', 'patience', 'status'),
    [('sleeper', TIMEOUT, {1, -signal.SIGINT}), ('stubborn', 0.2, {-signal.SIGKILL})],
)
def test_stop_interrupts_and_then_kills(
    tmp_path: Path, modules: dict[str, str], name: str, patience: float, status: set[int]
) -> None:
    with ChildProcesses(tmp_path, modules) as processes:
        child = ready(processes, name)
        assert processes.stop(child, patience) in status


@pytest.mark.parametrize('error', [KeyboardInterrupt, RuntimeError])
def test_nothing_runs_after_the_block(
    tmp_path: Path, modules: dict[str, str], error: type[BaseException]
) -> None:
    children: list[Child] = []
    with contextlib.suppress(error), ChildProcesses(tmp_path, modules) as processes:
        children = [ready(processes, 'sleeper'), ready(processes, 'sleeper')]
        raise error
    assert len(children) == 2
    assert all(child.process.poll() is not None for child in children)


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells children of a killed parent')
def test_nothing_runs_after_the_parent_was_killed(tmp_path: Path, modules: dict[str, str]) -> None:
    program = (
        'import os, time\n'
        'from pathlib import Path\n'
        'from maskomaly_ros.rig.processes import ChildProcesses\n'
        f'with ChildProcesses(Path({str(tmp_path)!r}), os.environ) as processes:\n'
        '    child = processes.start("sleeper", "sleeper")\n'
        '    processes.next_event(30)\n'
        '    print(child.process.pid, flush=True)\n'
        '    time.sleep(600)\n'
    )
    paths = [str(Path(__file__).parents[2]), modules['PYTHONPATH']]
    parent = subprocess.Popen(
        [sys.executable, '-c', program],
        stdout=subprocess.PIPE,
        text=True,
        env={**modules, 'PYTHONPATH': os.pathsep.join(paths)},
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait(TIMEOUT)
    parent.stdout.close()
    wait_for_end(child)


def test_environment_keeps_to_itself_and_to_what_the_user_chose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv('FASTRTPS_DEFAULT_PROFILES_FILE', raising=False)
    monkeypatch.setenv('FASTDDS_DEFAULT_PROFILES_FILE', '/my/own.xml')
    monkeypatch.setenv('ROS_DOMAIN_ID', '0')
    environment = ros_environment()
    assert 1 <= int(environment['ROS_DOMAIN_ID']) <= 101
    assert environment['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert Path(environment['FASTRTPS_DEFAULT_PROFILES_FILE']).is_file()
    assert environment['FASTDDS_DEFAULT_PROFILES_FILE'] == '/my/own.xml'


def test_a_domain_is_given_to_one_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('random.sample', lambda domains, count: list(domains))
    domains = [free_domain() for _ in range(3)]
    assert domains == sorted({*domains})
    program = 'from maskomaly_ros.rig import processes as p; print(p.free_domain())'
    first = f'import random; random.sample = lambda domains, count: {domains}\n'
    done = subprocess.run(
        [sys.executable, '-c', first + program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert 'all ROS domains' in done.stderr
