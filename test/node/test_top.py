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
"""The view of `maskomaly top`: real nodes, real terminals, and what may stand in diagnostics."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from maskomaly_ros.node.top import SILENT_AFTER, Statuses

TOP = [sys.executable, '-m', 'maskomaly_ros.cli', 'top']
ROOT = Path(__file__).parents[2]
TIMEOUT = 60.0


def status(name: str, message: str = 'active', level: bytes = b'\0', **values: str) -> Any:
    pairs = {'state': message, 'memory (MB)': '512'} if name.endswith('network') else {}
    pairs |= values
    return DiagnosticStatus(
        name=name,
        level=level,
        message=message,
        values=[KeyValue(key=k, value=v) for k, v in pairs.items()],
    )


def rendered(statuses: Statuses, now: float = 0.0, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(statuses.render(now))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_before_anything_was_heard() -> None:
    assert 'waiting for a maskomaly node' in rendered(Statuses())


def test_every_camera_and_stage_is_shown() -> None:
    statuses = Statuses()
    camera = {'input rate (Hz)': '29.9', 'replaced': '17', 'age of last frame (s)': '0.1'}
    statuses.take(
        [
            status('car/maskomaly: network', **{'network (ms)': '52.0', 'device': 'cuda:0'}),
            status('car/maskomaly: camera /front', 'OK', **camera),
            status('car/maskomaly: camera /rear', 'rejected: encoding [x] of /rear', b'\2'),
        ],
        0.0,
    )
    text = rendered(statuses)
    for word in ('/car/maskomaly: active', '/front', '29.9', '17', '0.1', '/rear', 'encoding [x]',
                 'network 52.0 ms', 'device cuda:0', 'memory MB 512'):  # fmt: skip
        assert word in text


def test_others_are_passed_over_and_silence_is_seen() -> None:
    statuses = Statuses()
    statuses.take([status('driver: network', **{'state': 'x'}), status('wifi: signal')], 0.0)
    statuses.take([DiagnosticStatus(name='other: network'), DiagnosticStatus()], 0.0)
    assert 'wifi' not in rendered(statuses)
    statuses = Statuses()
    statuses.take([status('maskomaly: network')], 0.0)
    assert 'silent' not in rendered(statuses, SILENT_AFTER)
    assert 'silent for 9 s' in rendered(statuses, 9.0)


def test_a_silent_node_says_nothing_of_its_cameras() -> None:
    statuses = Statuses()
    statuses.take([status('m: network'), status('m: camera /front', 'OK')], 0.0)
    assert 'unknown' not in rendered(statuses, SILENT_AFTER)
    assert 'unknown (was: OK)' in rendered(statuses, SILENT_AFTER + 0.1)


def test_diagnostics_cannot_steer_the_terminal() -> None:
    statuses = Statuses()
    escape = '\x1b]0;title\x07\x1b[2J\r\n'
    statuses.take(
        [
            status('maskomaly: network', f'active{escape}', device=escape),
            status(f'maskomaly: camera /a{escape}', escape, level=b'\x07', received=escape),
        ],
        0.0,
    )
    text = rendered(statuses)
    assert not re.search(r'[\x00-\x09\x0b-\x1f]', text)
    assert 'title' in text


@pytest.mark.parametrize('width', [20, 60, 80])
def test_any_width(width: int) -> None:
    statuses = Statuses()
    statuses.take([status('m: network'), status('m: camera /a/very/long/topic/name', 'OK')], 0.0)
    assert max(map(len, rendered(statuses, width=width).splitlines())) <= width


def test_a_pipe_gets_one_snapshot_of_a_real_node(ros: Any) -> None:
    ros.maskomaly('/front/image_raw')
    process = subprocess.Popen(
        [*TOP, '--timeout', '30'], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    ros.spin_until(lambda: process.poll() is not None, 'end of top', TIMEOUT)
    output = process.communicate()[0]
    assert process.returncode == 0
    for word in ('/maskomaly: active', '/front/image_raw', 'checkpoint red'):
        assert word in output


def test_nothing_within_the_time_is_said_by_the_status() -> None:
    answer = subprocess.run(
        [*TOP, '--once', '--timeout', '0.2'],
        capture_output=True, text=True, cwd=ROOT, timeout=TIMEOUT,
    )  # fmt: skip
    assert answer.returncode == 1
    assert 'waiting for a maskomaly node' in answer.stdout


@pytest.fixture
def terminal() -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run it in a terminal of its own."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        TOP, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, start_new_session=True,
        env={**os.environ, 'TERM': 'xterm-256color', 'COLUMNS': '150', 'LINES': '40'},
    )  # fmt: skip
    os.close(slave)
    os.set_blocking(master, False)
    yield master, process
    process.kill()
    process.wait()
    os.close(master)


def test_a_terminal_sees_nodes_come_and_go_until_ctrl_c(ros: Any, terminal: Any) -> None:
    master, process = terminal
    screen = bytearray()

    def shows(word: str) -> bool:
        try:
            screen.extend(os.read(master, 1 << 16))
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:  # the other side was closed
            return False
        return word.encode() in screen

    ros.spin_until(lambda: shows('waiting for a maskomaly node'), 'waiting', TIMEOUT)
    node = ros.maskomaly('/front/image_raw')
    ros.spin_until(lambda: shows('/front/image_raw'), 'the camera', TIMEOUT)
    ros.executor.remove_node(node)
    ros.spin_until(lambda: shows('silent for'), 'silence', TIMEOUT)
    process.send_signal(signal.SIGINT)
    ros.spin_until(lambda: shows('\x1b[?1049l'), 'the end', TIMEOUT)  # the screen as it was
    assert process.wait(TIMEOUT) == 0
    assert b'Traceback' not in screen
