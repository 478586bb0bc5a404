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

"""The demonstration with real processes over real DDS, and what happens when one of them dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from maskomaly_ros.demo.run import run_demo
from maskomaly_ros.drives.open import open_source
from maskomaly_ros.errors import MaskomalyError

pytest.importorskip('rclpy', reason='the demonstration needs ROS 2')
pytest.importorskip('av', reason='videos need PyAV')

TIMEOUT = 120.0
SIZE = (160, 90)


@pytest.fixture(autouse=True)
def own_logs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'ros_log'))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')


def children(parent: int) -> list[int]:
    """Return the running children of a process."""
    found = []
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            state, ppid = stat.read_text(encoding='ascii').rpartition(')')[2].split()[:2]
        except OSError:
            continue
        if int(ppid) == parent and state not in 'ZX':
            found.append(int(stat.parent.name))
    return found


def test_generated_clip(tiny_checkpoint: Path, tmp_path: Path) -> None:
    before = children(os.getpid())
    console = Console(width=120, record=True, file=(tmp_path / 'screen').open('w'))
    out = tmp_path / 'out'
    summary = run_demo(out, checkpoint=str(tiny_checkpoint), frames=20, size=SIZE, console=console)
    assert children(os.getpid()) == before
    assert summary.published == 20
    assert 1 <= summary.recorded <= 20
    assert summary.recorded + summary.replaced + summary.lost == 20
    assert summary.replaced_from == '/diagnostics'
    assert 0 < summary.rate <= 15
    assert 0 < summary.latency_p50 <= summary.latency_p95 < TIMEOUT
    assert summary.obstacle_threshold == 0.9
    assert summary.quality is not None
    assert 0 <= summary.quality.f1 <= summary.quality.best_f1 + 1e-3
    assert 0 < summary.quality.average_precision <= 1
    with open_source(summary.video) as video:
        frames = list(video)
    assert len(frames) == summary.recorded
    assert frames[0].image.shape == (90, 160, 3)
    assert cv2.imread(str(summary.contact_sheet)) is not None
    assert json.loads(summary.summary.read_text())['recorded'] == summary.recorded
    screen = console.export_text()
    for part in ('ms from a frame to its overlay', 'pixel AP', 'overlay.mp4', 'Publishing'):
        assert part in screen
    assert {p.name for p in out.iterdir()} == {
        *('contact_sheet.png', 'overlay.mp4', 'summary.json'),
        *('node.log', 'player.log', 'recorder.log'),
    }


def test_source_without_ground_truth(tiny_checkpoint: Path, tmp_path: Path) -> None:
    source = tmp_path / 'drive'
    source.mkdir()
    for index in range(12):
        image = np.random.default_rng(index).integers(0, 255, (120, 160, 3), np.uint8)
        cv2.imwrite(str(source / f'{index}.png'), image)
    (source / '5.png').write_bytes(b'broken')
    console = Console(width=120, file=(tmp_path / 'screen').open('w'))
    summary = run_demo(
        tmp_path / 'out',
        source,
        checkpoint=str(tiny_checkpoint),
        frames=9,
        size=SIZE,
        console=console,
    )
    assert summary.published == 9
    assert summary.quality is None
    assert [text.split(':')[0] for text in summary.unreadable] == ['5.png']
    with open_source(summary.video) as video:
        assert {frame.image.shape for frame in video} == {(90, 120, 3)}  # kept in shape
    assert cv2.imread(str(summary.contact_sheet)) is not None


def test_wrong_source_is_found_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(MaskomalyError, match=r'nowhere\.mp4 does not exist'):
        run_demo(tmp_path / 'out', tmp_path / 'nowhere.mp4')
    assert not (tmp_path / 'out' / 'node.log').exists()


def demo(tmp_path: Path, checkpoint: Path) -> subprocess.Popen[str]:
    program = (
        'import sys\n'
        'from pathlib import Path\n'
        'from maskomaly_ros.demo.run import run_demo\n'
        'run_demo(Path(sys.argv[1]), checkpoint=sys.argv[2], frames=8, size=(160, 90))\n'
    )
    return subprocess.Popen(
        [sys.executable, '-c', program, str(tmp_path / 'out'), str(checkpoint)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            'PYTHONPATH': str(Path(__file__).parents[2]),
            'TMPDIR': str(tmp_path),  # what a killed process leaves
        },
    )


def test_node_that_dies_is_shown(tmp_path: Path) -> None:
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'summary.json').write_text('of an earlier run')
    process = demo(tmp_path, tmp_path / 'no_checkpoint')
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert 'the node ended with status 1' in output
    assert 'no_checkpoint' in output.partition('the node ended')[2]  # its own words
    assert not (tmp_path / 'out' / 'summary.json').exists()


@pytest.mark.skipif(sys.platform != 'linux', reason='looks into /proc')
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_no_process_stays_behind(
    tiny_checkpoint: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = demo(tmp_path, tiny_checkpoint)
    end = time.monotonic() + TIMEOUT
    while len(started := children(process.pid)) < 3:  # node, recorder, player
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(number)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode != 0
    assert ('KeyboardInterrupt' in output) == (number != signal.SIGKILL)
    while running := [pid for pid in started if Path(f'/proc/{pid}').exists()]:
        assert time.monotonic() < end, f'still running: {running}'
        time.sleep(0.05)
