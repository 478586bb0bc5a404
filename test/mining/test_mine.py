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

"""Many drives on Ray: every one is finished, or named."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from maskomaly_ros.drives.find import find_drives
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.mining.mine import MineOptions, MineProgress, _absolute, mine

# Ray lets everything else on the machine go before its workers.
os.environ.setdefault('RAY_worker_niceness', '0')


@pytest.fixture(scope='module')
def ray() -> Iterator[Any]:
    """Start Ray once for the tests of this module."""
    pytest.importorskip('pyarrow', reason='tables need pyarrow')
    os.environ['RAY_USAGE_STATS_ENABLED'] = '0'
    ray = pytest.importorskip('ray', reason="mining needs Ray: pip install '.[mine]'")
    ray.init(
        address='local', num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False,
        object_store_memory=1 << 27,
    )  # fmt: skip
    yield ray
    ray.shutdown()


@pytest.fixture
def options(tiny_checkpoint: Path) -> MineOptions:
    # All of each frame is an obstacle, so that there are events.
    parameters = {'checkpoint': str(tiny_checkpoint), 'device': 'cpu', 'obstacle_threshold': 0.0}
    return MineOptions(parameters=parameters, workers=1, cpus_per_worker=1, top=3)


def images(folder: Path, count: int = 4) -> Path:
    folder.mkdir(parents=True)
    for index in range(count):
        image = np.full((48, 64, 3), min(40 + 10 * index, 255), np.uint8)
        image[10:20, 5 * index : 5 * index + 10] = (10, 10, 220)
        cv2.imwrite(str(folder / f'{index}.png'), image)
    return folder


def read(path: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    return list(parquet.read_table(path).to_pylist())


def test_finds_drives(bags: Any, tmp_path: Path) -> None:
    pytest.importorskip('fsspec')
    bag, bag_1 = bags.write('drive', count=1), bags.write('old.bag', 'ros1', count=1)
    folder = images(tmp_path / 'deep' / 'images')
    (tmp_path / 'deep' / 'clip.MP4').touch()
    (tmp_path / 'notes.txt').touch()
    images(tmp_path / 'results' / 'thumbnails')
    (tmp_path / 'results' / '.mine').mkdir()
    found = [drive.url for drive in find_drives([str(tmp_path), f'{tmp_path}/*.bag'])]
    assert found == [str(p) for p in (tmp_path / 'deep' / 'clip.MP4', folder, bag, bag_1)]
    assert [d.url for d in find_drives([f'file://{bag}', f'{tmp_path}/dri*'])] == [str(bag)]
    before = find_drives([str(bag_1)])
    bag_1.write_bytes(b'shorter')
    assert find_drives([str(bag_1)]) != before
    for source, message in (
        ('nothing', 'does not exist'),
        ('*.none', 'holds no bag'),
        ('notes/*', 'holds no bag'),
    ):
        with pytest.raises(MaskomalyError, match=message):
            find_drives([str(tmp_path / source)])
    with pytest.raises(MaskomalyError, match='cannot be listed'):
        find_drives(['unknown-protocol://x'])


def test_worker_that_is_killed(ray: Any, bags: Any, options: MineOptions, tmp_path: Path) -> None:
    (tmp_path / 'fleet').mkdir()
    for number in range(3):
        bags.write(f'fleet/{number}', count=10)
    images(tmp_path / 'fleet' / 'images')
    killed: dict[int, str] = {}
    seen: set[int] = set()

    def kill_two(now: MineProgress) -> None:
        seen.update(now.workers)
        for pid, drive in now.workers.items():
            if len(killed) < 2 and pid not in killed:
                killed[pid] = drive
                os.kill(pid, signal.SIGKILL)

    out = tmp_path / 'out'
    report = mine([str(tmp_path / 'fleet')], out, replace(options, workers=2), progress=kill_two)
    assert report.is_complete, report.bags
    assert len(killed) == 2
    assert len(seen) >= 3  # others came in place of the dead ones
    assert sum(bag.attempts for bag in report.bags) == 4 + 2
    assert all(bag.attempts > 1 for bag in report.bags if bag.bag in killed.values())
    assert sum(frames for frames, _ in report.throughput.values()) == 64
    frames, events, done = (read(out / f'{n}.parquet') for n in ('frames', 'events', 'bags'))
    assert len(frames) == 3 * 20 + 4
    assert [row['status'] for row in done] == ['done'] * 4
    assert (
        {row['bag'] for row in frames}
        == {row['bag'] for row in done}
        == {bag.bag for bag in report.bags}
    )
    assert sum(row['events'] for row in done) == len(events) > 3
    best = sorted((e['peak_score'], e['peak_area']) for e in events)[-3:]
    shown = [event for event in events if event['thumbnail']]
    assert sorted((e['peak_score'], e['peak_area']) for e in shown) == best
    assert {e['thumbnail'] for e in shown} == {
        f'thumbnails/{path.name}' for path in (out / 'thumbnails').iterdir()
    }
    assert all(cv2.imread(str(out / e['thumbnail'])) is not None for e in shown)


def test_broken_drive_is_retried_and_reported(
    ray: Any, bags: Any, options: MineOptions, tmp_path: Path
) -> None:
    good = images(tmp_path / 'fleet' / 'good')
    broken = tmp_path / 'fleet' / 'broken.bag'
    broken.write_bytes(b'#ROSBAG V2.0\nno more')
    lossy = images(tmp_path / 'fleet' / 'lossy')
    (lossy / '2.png').write_bytes(b'no picture')
    out = tmp_path / 'out'
    first = mine([str(tmp_path / 'fleet')], out, options)
    by_bag = {Path(bag.bag).name: bag for bag in first.bags}
    assert not first.is_complete
    assert (by_bag['broken.bag'].status, by_bag['broken.bag'].attempts) == ('failed', 1)
    assert by_bag['broken.bag'].reason
    assert (by_bag['lossy'].status, by_bag['lossy'].problems) == ('problems', 1)
    assert '2.png' in by_bag['lossy'].reason
    assert {Path(row['bag']).name: row['status'] for row in read(out / 'bags.parquet')} == {
        'broken.bag': 'failed', 'good': 'done', 'lossy': 'problems'
    }  # fmt: skip
    assert len(read(out / 'frames.parquet')) == 7

    # The rerun tries what failed and what changed, nothing else.
    broken.unlink()
    (lossy / '2.png').unlink()
    begun: set[str] = set()
    second = mine(
        [str(tmp_path / 'fleet')],
        out,
        options,
        progress=lambda p: begun.update(p.workers.values()),
    )
    assert second.is_complete
    assert (second.skipped, second.total) == (1, 2)
    assert begun == {str(lossy)}
    assert len(read(out / 'frames.parquet')) == 7
    third = mine([str(good)], out, options)
    assert (third.skipped, third.throughput) == (1, {})
    with pytest.raises(MaskomalyError, match=r'mined otherwise: rate was None, now 5'):
        mine([str(good)], out, MineOptions(parameters=options.parameters, top=3, rate=5))


def test_url_is_fetched_and_removed(
    ray: Any, options: MineOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in 'ab':
        images(tmp_path / name)
    archive = tmp_path / 'fleet.zip'
    with zipfile.ZipFile(archive, 'w') as file:
        for path in sorted(tmp_path.glob('?/*.png')):
            file.write(path, f'fleet/{path.parent.name}/{path.name}')
    report = mine([f'zip://fleet/*::{archive}'], tmp_path / 'out', options)
    assert report.is_complete, report.bags
    urls = [f'zip://fleet/{name}::{archive}' for name in 'ab']
    assert [bag.bag for bag in report.bags] == urls
    assert {row['bag'] for row in read(tmp_path / 'out' / 'frames.parquet')} == set(urls)
    assert not list(Path('/tmp').glob(f'maskomaly-mine-{os.getpid()}-*'))


def test_stop_keeps_what_is_finished(ray: Any, options: MineOptions, tmp_path: Path) -> None:
    for name in 'abcd':
        images(tmp_path / 'fleet' / name, 6)
    stop = threading.Event()

    def stop_early(now: MineProgress) -> None:
        if now.done:
            stop.set()

    fleet, out = str(tmp_path / 'fleet'), tmp_path / 'out'
    report = mine([fleet], out, options, stop=stop, progress=stop_early)
    assert 1 <= len(report.bags) < 4
    assert len(read(out / 'frames.parquet')) == 6 * len(report.bags)
    again = mine([fleet], out, options)
    assert again.is_complete
    assert again.skipped == len(report.bags)


def test_what_cannot_begin_is_an_error(
    ray: Any, options: MineOptions, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    drive = str(images(tmp_path / 'drive'))
    (tmp_path / 'bad').mkdir()
    shutil.copy(tiny_checkpoint / 'config.json', tmp_path / 'bad')
    bad = dict(options.parameters) | {'checkpoint': str(tmp_path / 'bad')}
    with pytest.raises(MaskomalyError, match='a worker cannot begin'):
        mine([drive], tmp_path / 'out', MineOptions(parameters=bad, workers=1))
    with pytest.raises(MaskomalyError, match='more than Ray has: 2 CPUs'):
        mine([drive], tmp_path / 'b', MineOptions(parameters=options.parameters, workers=3))
    with pytest.raises(MaskomalyError, match='was not mined'):
        mine([drive], drive, options)


@pytest.mark.slow
def test_program_ends_with_status_3(tiny_checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip('pyarrow', reason='tables need pyarrow')
    pytest.importorskip('ray', reason="mining needs Ray: pip install '.[mine]'")
    images(tmp_path / 'fleet' / 'good')
    (tmp_path / 'fleet' / 'broken.mcap').write_bytes(b'no bag')
    command = [
        *(sys.executable, '-m', 'maskomaly_ros.cli', 'mine', str(tmp_path / 'fleet')),
        *('--out', str(tmp_path / 'out'), '--checkpoint', str(tiny_checkpoint)),
        *('--device', 'cpu', '--workers', '1', '--retries', '1'),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 3, done.stderr
    assert '1 of 2 drives replayed, 0 were finished before, 1 failed' in done.stdout
    assert 'frames/s' in done.stdout
    assert 'failed' in done.stderr


def raylet_of(pid: int) -> int | None:
    """Return the process id of the raylet that a program began; None before it has."""
    for status in Path('/proc').glob('[0-9]*/status'):
        try:
            fields = dict(line.split(':\t', 1) for line in status.read_text().splitlines())
        except (OSError, ValueError):
            continue
        if (fields.get('Name'), fields.get('PPid')) == ('raylet', str(pid)):
            return int(fields['Pid'])
    return None


def kill_raylet(
    process: subprocess.Popen[str], out: Path, parts: int, starter: int | None = None
) -> tuple[str, str]:
    """Kill the Ray of a running `mine` when so many drives are finished; return what it says.

    `starter` is the process that began the raylet, where it was another.
    """
    with process:
        end = time.monotonic() + 200
        while len(list(out.glob('.mine/parts/*/bag.json'))) < parts:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, f'{parts} drives were not finished'
            time.sleep(0.1)
        raylet = raylet_of(starter or process.pid)
        assert raylet is not None
        os.kill(raylet, signal.SIGKILL)
        return process.communicate(timeout=200)


@pytest.mark.slow
def test_death_of_ray_ends_with_what_is_done(tiny_checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip('pyarrow', reason='tables need pyarrow')
    pytest.importorskip('ray', reason="mining needs Ray: pip install '.[mine]'")
    images(tmp_path / 'fleet' / 'a')
    for name in 'bc':
        images(tmp_path / 'fleet' / name, 3000)
    out, sessions = tmp_path / 'out', Path(tempfile.gettempdir()) / 'ray'
    command = [
        *(sys.executable, '-m', 'maskomaly_ros.cli', 'mine', str(tmp_path / 'fleet')),
        *('--out', str(out), '--checkpoint', str(tiny_checkpoint), '--device', 'cpu'),
        *('--workers', '1'),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stdout, stderr = kill_raylet(process, out, 1)
    assert process.returncode == 3, stderr
    assert '1 of 3 drives replayed' in stdout
    assert 'Ray has died on this machine: raylet' in stderr
    assert len(read(out / 'frames.parquet')) == 4
    # A drive under way has failed; the one that waited was not begun.
    assert {row['status'] for row in read(out / 'bags.parquet')} <= {'done', 'failed'}
    assert not [s for s in sessions.glob('session_2*') if s.name.endswith(f'_{process.pid}')]


class Cluster(NamedTuple):
    """The address of a cluster, and the program that began it."""

    address: str
    pid: int


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Start a Ray cluster of one machine as its own program."""
    pytest.importorskip('ray', reason="mining needs Ray: pip install '.[mine]'")
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    # Paths of sockets must be short.
    with tempfile.TemporaryDirectory(prefix='ray-', ignore_cleanup_errors=True) as folder:
        environment = os.environ | {'RAY_AUTH_MODE': 'disabled', 'RAY_USAGE_STATS_ENABLED': '0'}
        command = [
            *(sys.executable, '-m', 'ray.scripts.scripts', 'start', '--head', '--block'),
            *('--node-ip-address', '127.0.0.1', '--port', str(port), '--num-cpus', '2'),
            *('--object-store-memory', str(1 << 27), '--include-dashboard', 'false'),
            *('--temp-dir', folder),
        ]
        with (
            (Path(folder) / 'start.log').open('w+') as log,
            subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            ) as process,
        ):
            try:
                end = time.monotonic() + 120
                while 'Ray runtime started' not in (Path(folder) / 'start.log').read_text():
                    text = (Path(folder) / 'start.log').read_text()
                    assert process.poll() is None, text
                    assert time.monotonic() < end, text
                    time.sleep(0.1)
                yield Cluster(f'127.0.0.1:{port}', process.pid)
            finally:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_cluster_that_runs_already_goes_on_or_dies(
    cluster: Cluster, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    pytest.importorskip('pyarrow', reason='tables need pyarrow')
    for name in 'abc':
        images(tmp_path / 'fleet' / name, 8)
    command = [
        *(sys.executable, '-m', 'maskomaly_ros.cli', 'mine', str(tmp_path / 'fleet')),
        *('--out', str(tmp_path / 'out'), '--checkpoint', str(tiny_checkpoint)),
        *('--device', 'cpu', '--workers', '2', '--cpus-per-worker', '1'),
        *('--address', cluster.address, '--ramp', '1'),
    ]
    environment = os.environ | {'RAY_AUTH_MODE': 'disabled'}
    for expected in ('3 of 3 drives replayed, 0 were', '0 of 3 drives replayed, 3 were'):
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
    assert len(read(tmp_path / 'out' / 'frames.parquet')) == 24
    # The cluster goes on without us; where it dies, what is done stays done.
    images(tmp_path / 'fleet' / 'd')
    images(tmp_path / 'fleet' / 'e', 3000)
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    stdout, stderr = kill_raylet(process, tmp_path / 'out', 4, cluster.pid)
    assert process.returncode == 3, stderr
    assert '1 of 5 drives replayed, 3 were' in stdout
    assert 'Ray has died on this machine' in stderr
    assert len(read(tmp_path / 'out' / 'frames.parquet')) == 28


def test_cluster_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip('pyarrow', reason='tables need pyarrow')
    pytest.importorskip('ray', reason="mining needs Ray: pip install '.[mine]'")
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{taken.getsockname()[1]}'
        program = (
            'import sys; from maskomaly_ros.mining.mine import MineOptions, mine\n'
            'mine([sys.argv[1]], sys.argv[2], MineOptions(address=sys.argv[3]))'
        )
        drive = str(images(tmp_path / 'drive'))
        command = [sys.executable, '-c', program, drive, str(tmp_path / 'out'), address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert f'MaskomalyError: nobody answers at {address}' in done.stderr


def test_paths_of_parameters_mean_the_same_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'ego.png').touch()
    given = {'checkpoint': 'demo', 'ego_regions': ['ego.png', '', '0,0 9,0 9,9']}
    assert _absolute(given) == {
        'checkpoint': 'demo', 'ego_regions': [str(tmp_path / 'ego.png'), '', '0,0 9,0 9,9']
    }  # fmt: skip


def test_folder_of_the_event_recorder_is_a_source(
    ray: Any, options: MineOptions, tmp_path: Path
) -> None:
    """What was mined is known wherever the folder lies, whatever is pinned or counted there."""
    from recorder_fixtures import Vehicle

    vehicle = Vehicle(tmp_path / 'vehicle')
    recorder = vehicle.start()
    for _ in range(2):
        recorder.fire('service', 'asked for', vehicle.received_ns)
        vehicle.drive(1.5)
    recorder.fire('service', 'under way', vehicle.received_ns)
    vehicle.drive(0.5)
    names = [r.name for r in vehicle.catalogue.recordings()]
    assert recorder.state.is_recording
    out = tmp_path / 'out'
    first = mine([str(vehicle.folder)], out, options)
    assert first.is_complete, first.bags
    assert [Path(bag.bag).name for bag in first.bags] == names
    copy = tmp_path / 'archive' / 'car 7'
    shutil.copytree(vehicle.folder, copy)
    vehicle.catalogue.pin(names[0])
    vehicle.catalogue.note_sighting(names[1], 5)
    vehicle.drive(3.0)  # the third one becomes whole
    again = mine([str(copy), str(vehicle.folder)], out, options)
    assert (again.skipped, again.total) == (2, 3)
    assert again.is_complete
    tables = (read(out / 'events.parquet'), read(vehicle.folder / 'events.parquet'))
    mined, recorded = ({tuple(row) for row in table} for table in tables)
    assert mined == recorded  # the same columns
    assert len(read(out / 'bags.parquet')) == 3
