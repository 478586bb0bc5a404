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

"""`maskomaly replay` as a program: exit status, Ctrl-C, SIGTERM."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from maskomaly_ros.replay.run import read_journal

COMMAND = [sys.executable, '-m', 'maskomaly_ros.cli', 'replay']


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=280)


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_a_replay_that_goes_on(
    bags: Any, tiny_checkpoint: Path, tmp_path: Path, number: signal.Signals
) -> None:
    source, out = bags.write(count=150), tmp_path / 'out'
    arguments = [
        *(str(source), '--out', str(out), '--write', 'bag,csv', '--device', 'cpu'),
        *('--checkpoint', str(tiny_checkpoint)),
    ]
    journal = out / '.replay' / 'journal.jsonl'
    with subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 200
        while not (journal.exists() and journal.read_text().count('"kind":"frame"') > 3):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 130, errors
    finished = len(list(read_journal(out).frames()))
    assert 3 < finished < 300
    assert (out / 'bag' / 'metadata.yaml').exists()
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert f'{300 - finished} frames in' in done.stdout
    assert 'network busy' in done.stdout
    assert len(list(read_journal(out).frames())) == 300


@pytest.mark.slow
def test_problems_end_with_status_1(bags: Any, tiny_checkpoint: Path, tmp_path: Path) -> None:
    source = bags.write(
        count=2, change=lambda i, topic, data: data[:40] if 'front' in topic and i else data
    )
    options = ['--write', 'csv', '--checkpoint', str(tiny_checkpoint), '--device', 'cpu']
    done = run(str(source), '--out', str(tmp_path / 'out'), *options)
    assert done.returncode == 1
    assert '1 problem' in done.stderr
    assert '3 frames finished' in done.stdout
    done = run(str(source), '--out', str(tmp_path / 'b'), '--topic', '/nothing', *options)
    assert done.returncode == 1
    assert 'no image topic /nothing' in done.stderr
