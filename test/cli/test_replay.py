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

"""`maskomaly replay` as a program: exit status, Ctrl-C, SIGTERM, SIGKILL."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from drive_fixtures import Bags

from maskomaly_ros.cli.main import app
from maskomaly_ros.drives.open import open_source
from maskomaly_ros.replay.run import read_journal

highlevel = pytest.importorskip('rosbags.highlevel', reason='bags need rosbags')
pytest.importorskip('av', reason='videos need PyAV')

COMMAND = [sys.executable, '-m', 'maskomaly_ros.cli', 'replay']


COUNT = 40


def messages(bag: Path) -> list[tuple[str, int, bytes]]:
    """Return topic, time and bytes of all messages of a bag."""
    with highlevel.AnyReader([bag]) as reader:
        return [(c.topic, received_ns, bytes(data)) for c, received_ns, data in reader.messages()]


def table(file: Path) -> list[dict[str, str]]:
    """Return the rows of a table without the seconds that each frame took."""
    with file.open(encoding='utf-8') as stream:
        rows = list(csv.DictReader(stream))
    return [{k: v for k, v in row.items() if not k.endswith('_s')} for row in rows]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=280)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return what runs a command in this process, which has loaded the libraries already."""

    def run_here(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            app([str(argument) for argument in arguments], prog_name='maskomaly')
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run_here


class Drive(NamedTuple):
    """A recording, how to replay it, and the results of a replay that nothing ended."""

    source: Path
    options: list[str]
    whole: Path


@pytest.fixture(scope='module')
def drive(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Drive:
    folder = tmp_path_factory.mktemp('drive')
    steady = {'temporal_filter': 'median', 'minimum_obstacle_frames': 2, 'obstacle_threshold': 0.5}
    parameters = folder / 'parameters.yaml'
    parameters.write_text(yaml.safe_dump({'/**': {'ros__parameters': steady}}))
    options = [
        *('--write', 'bag,video,scores,csv,html', '--device', 'cpu', '--copy', '*'),
        *('--checkpoint', str(tiny_checkpoint), '--params', str(parameters)),
    ]
    source, whole = Bags(folder).write(count=COUNT), folder / 'whole'
    done = run(str(source), '--out', str(whole), *options)
    assert done.returncode == 0, done.stderr
    assert 'network busy' in done.stdout
    return Drive(source, options, whole)


# Runs the command up to a line of its journal; there it waits for what ends it, so that it cannot
# be over before.
HALTING = """
import os, signal, sys
from maskomaly_ros.cli.main import app
from maskomaly_ros.replay.journal import Journal

kind, left, write = sys.argv.pop(1), 4, Journal._write

def write_and_halt(self, record):
    global left
    write(self, record)
    left -= record['kind'] == kind
    if not left and record['kind'] == kind:
        os.kill(os.getpid(), signal.SIGSTOP)

Journal._write = write_and_halt
app(prog_name='maskomaly')
"""


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_replay_that_is_ended_goes_on(
    drive: Drive, tmp_path: Path, number: signal.Signals, call: Any
) -> None:
    """Ctrl-C and SIGTERM lose nothing, SIGKILL at most one part; the result is that of one run."""
    count, out, whole = 2 * COUNT, tmp_path / 'out', drive.whole
    arguments = [
        *('replay', str(drive.source), '--out', str(out), *drive.options),
        *('--part-seconds', '0.05' if number == signal.SIGKILL else '60'),
    ]
    journal = out / '.replay' / 'journal.jsonl'
    kind = 'part' if number == signal.SIGKILL else 'frame'
    command = [sys.executable, '-c', HALTING, kind, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status), process.communicate()
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            _, errors = process.communicate(timeout=200)
        finally:
            process.kill()
        assert process.returncode == (-9 if number == signal.SIGKILL else 130), errors
    if number == signal.SIGKILL:
        finished = json.loads(
            [line for line in journal.read_text().splitlines() if '"kind":"part"' in line][-1]
        )['next_index']
        for part in (out / 'bag').glob('*.mcap'):
            assert messages(part)
    else:
        finished = len(list(read_journal(out).frames()))
        written = messages(out / 'bag')
        assert sum(m[0].endswith('/mask') for m in written) == finished
        with open_source(out / 'overlay_front.image_raw.mp4') as video:
            assert len(list(video)) == (finished + 1) // 2
        assert len(list((out / 'scores').rglob('*.png'))) == finished
        assert (out / 'report.html').exists()
    assert 3 < finished < count
    status, printed, errors = call(*arguments)
    assert status == 0, errors
    assert f'{count - finished} frames in' in printed
    assert messages(out / 'bag') == messages(whole / 'bag')
    for name in ('scores', 'frames'):
        files = sorted(p.relative_to(whole) for p in (whole / name).rglob('*') if p.is_file())
        assert len(files) == count
        assert [(out / f).read_bytes() for f in files] == [(whole / f).read_bytes() for f in files]
    assert table(out / 'frames.csv') == table(whole / 'frames.csv')
    assert (out / 'events.csv').read_text() == (whole / 'events.csv').read_text()
    for camera in ('front.image_raw', 'rear.image_raw.compressed'):
        with open_source(out / f'overlay_{camera}.mp4') as video:
            assert [round(f.stamp_ns / 1e7) for f in video] == [10 * i for i in range(COUNT)]


@pytest.mark.slow
def test_problems_end_with_status_3(
    bags: Any, tiny_checkpoint: Path, tmp_path: Path, call: Any
) -> None:
    source = bags.write(
        count=2, change=lambda i, topic, data: data[:40] if 'front' in topic and i else data
    )
    options = ['--write', 'csv', '--checkpoint', str(tiny_checkpoint), '--device', 'cpu']
    done = run(str(source), '--out', str(tmp_path / 'out'), *options)
    assert done.returncode == 3
    assert '1 problem, 1 of this call, which are named above' in done.stderr
    assert done.stderr.count('/front/image_raw message 1 at ') == 1
    assert '3 frames finished, 1 lost' in done.stdout
    status, _, errors = call(
        'replay', source, '--out', tmp_path / 'b', '--topic', '/nothing', *options
    )
    assert status == 1
    assert 'no image topic /nothing' in errors


def test_dry_run_lists_and_writes_nothing(bags: Any, tmp_path: Path, call: Any) -> None:
    source = bags.write('fleet/drive')
    (tmp_path / 'fleet' / 'broken.mcap').write_bytes(b'no bag')
    before = sorted(tmp_path.rglob('*'))
    status, out, _ = call('replay', source, '--dry-run', '--from', '0:00.5', '--every', 5)
    assert status == 0
    assert '/front/image_raw: 20 frames, about 3 of them, ' in out
    status, out, _ = call('replay', source, '--dry-run', '--json', '-')
    assert [camera['frames'] for camera in json.loads(out)['cameras']] == [20, 20]
    pytest.importorskip('fsspec')
    status, out, _ = call('mine', tmp_path / 'fleet', '--out', tmp_path / 'out', '--dry-run')
    assert status == 3
    assert 'cannot be read: cannot read the bag' in out
    assert '2 drives, 0 finished before, 1 cannot be read' in out
    assert sorted(tmp_path.rglob('*')) == before
    for command in ('replay', 'mine'):
        status, _, err = call(command, source)
        assert (status, '--out' in err) == (2, True)
