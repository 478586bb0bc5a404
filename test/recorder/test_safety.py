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

"""Whatever happens to the process or the disk: what is there is whole, and the rest goes on."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from recorder_fixtures import SECOND, START, by_time, read_bag, text

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.recorder.catalogue import Catalogue
from maskomaly_ros.recorder.writing import BagWriter, Topic

KILLS = 12
# Records again and again, and says when something new has begun; noise fills chunks.
WRITER = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from recorder_fixtures import Vehicle, text
vehicle = Vehicle(Path(sys.argv[1]))
vehicle.now = float(sys.argv[3])
recorder = vehicle.start(pre_roll=0.5, post_roll=0.5, max_disk=3)
print('ready', flush=True)
while True:
    recorder.fire('service', 'again', vehicle.received_ns)
    for _ in range(12):
        vehicle.now = round(vehicle.now + 0.1, 6)
        vehicle.frame((20, 10, 12, 8))
        vehicle.send('/text', text(os.urandom(60_000).hex()))
        recorder.step()
    print('.', flush=True)
"""


def check_whole(folder: Path) -> int:
    """Read everything that is there; return the number of recordings."""
    from pyarrow import parquet

    recordings = Catalogue(folder).recordings()
    for recording in recordings:
        written = read_bag(folder / recording.name)
        assert len(written) == sum(recording.messages.values()) > 0
        assert all(data.startswith(b'\x00\x01\x00\x00') for _, _, data in written)
    visible = {path.name for path in folder.iterdir() if not path.name.startswith('.')}
    assert visible == {r.name for r in recordings} | {'events.parquet'}
    parquet.read_table(folder / 'events.parquet')
    return len(recordings)


@pytest.mark.slow
def test_what_is_there_is_whole_after_sigkill_at_any_moment(tmp_path: Path) -> None:
    pytest.importorskip('rosbags', reason='bags need rosbags')
    folder = tmp_path / 'events'
    luck = random.Random(7)
    found = 0
    for number in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, '-c', WRITER, folder, Path(__file__).parents[1], f'{1000 * number}'],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        assert process.stdout.readline() == 'ready\n'
        for _ in range(luck.randrange(3)):
            process.stdout.readline()
        try:  # anywhere in what takes some hundredths of a second
            process.wait(luck.uniform(0.0, 0.3))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        if (folder / 'events.parquet').exists():
            found = max(found, check_whole(folder))
    catalogue = Catalogue(folder)
    catalogue.prepare()
    assert check_whole(folder) > 0 < found
    assert not [path for path in (folder / '.partial').iterdir() if path.is_dir()]


def test_an_interrupted_recording_is_completed_at_the_next_start(vehicle: Any) -> None:
    recorder = vehicle.start(minimum_seconds=[0.1])
    vehicle.drive(0.4, (20, 10, 12, 8))
    for _ in range(30):
        vehicle.now += 0.01
        vehicle.send('/text', text(os.urandom(50_000).hex()))
    vehicle.frame()
    recorder.step()
    assert recorder.state.is_recording
    left = vehicle.folder.with_name('left')
    shutil.copytree(vehicle.folder, left)  # as a process that is killed leaves it
    catalogue = Catalogue(left)
    catalogue.prepare()
    (recording,) = catalogue.recordings()
    assert recording.is_interrupted
    assert recording.events[0].box == (20, 10, 12, 8)
    assert (left / recording.name / 'event.jpg').is_file()
    written = read_bag(left / recording.name)
    assert set(written) <= set(vehicle.sent)
    assert sum(recording.messages.values()) == len(written) > len(vehicle.sent) // 2
    assert check_whole(left) == 1


class FullDisk:
    """Lets a number of writes pass, then fails as a disk does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, passes: int) -> None:
        self.number, self.left = number, passes
        self._write = BagWriter.write
        monkeypatch.setattr(BagWriter, 'write', lambda *a: self.write(*a))

    def write(self, writer: BagWriter, topic: Topic, data: bytes, received_ns: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(self.number, os.strerror(self.number))
        self._write(writer, topic, data, received_ns)


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize('passes', [0, 30])
def test_a_disk_that_fails_is_said_and_nothing_else_stops(
    vehicle: Any, monkeypatch: pytest.MonkeyPatch, number: int, passes: int
) -> None:
    recorder = vehicle.start()
    disk = FullDisk(monkeypatch, number, passes)
    vehicle.drive(3.0)
    recorder.fire('service', 'asked for', vehicle.received_ns)
    vehicle.drive(3.0)
    state = recorder.state
    assert (state.failed, state.recordings) == (1, 0)
    assert os.strerror(number) in state.problem
    assert state.counts.received == len(vehicle.sent) == state.counts.kept
    assert not [path for path in (vehicle.folder / '.partial').iterdir() if path.is_dir()]
    disk.left = 10**6  # somebody made room
    recorder.fire('service', 'asked for again', vehicle.received_ns)
    vehicle.drive(3.0)
    assert (recorder.state.recordings, recorder.state.problem) == (1, '')
    check_whole(vehicle.folder)


def test_a_folder_that_vanishes_is_said(vehicle: Any) -> None:
    recorder = vehicle.start()
    shutil.rmtree(vehicle.folder)
    vehicle.folder.write_text('no folder any more')
    vehicle.drive(1.0)
    recorder.fire('service', 'asked for', vehicle.received_ns)
    recorder.start()  # its thread goes on
    for _ in range(20):
        vehicle.now += 0.1
        vehicle.frame()
    assert recorder.stop(60.0)
    assert recorder.state.failed == 1
    assert recorder.state.problem


def score_of(vehicle: Any, score: float) -> None:
    vehicle.drive(1.5, (20, 10, 12, 8), score=score)
    vehicle.drive(4.0)


def test_the_least_interesting_go_first_and_pinned_ones_never(vehicle: Any) -> None:
    recorder = vehicle.start()
    for score in (0.7, 0.9, 0.6):
        score_of(vehicle, score)
    catalogue = Catalogue(vehicle.folder)
    _, second, third = catalogue.recordings()
    size = catalogue.used()
    catalogue.pin(third.name)
    recorder.stop()
    catalogue = vehicle.catalogue
    catalogue.let_go()
    recorder = vehicle.start(max_disk=1)
    vehicle.catalogue.make_room(0, size - 1, 0, 0.8)
    assert catalogue.recordings() == [second, third]
    # Nothing that is as interesting, or pinned, goes.
    assert not vehicle.catalogue.make_room(size, size, 0, 0.8)
    assert catalogue.recordings() == [second, third]
    assert vehicle.catalogue.make_room(0, size * 2, 0, 0.8)
    check_whole(vehicle.folder)


def test_recordings_keep_to_max_disk(vehicle: Any) -> None:
    """A megabyte holds few of these; what stays are the highest scores."""
    vehicle.start(max_disk=1)
    scores = (0.5, 0.95, 0.6, 0.9, 0.55, 0.85)
    for score in scores:
        score_of(vehicle, score)
        assert vehicle.catalogue.used() <= 10**6
    kept = [round(r.score, 2) for r in vehicle.catalogue.recordings()]
    assert 0 < len(kept) < len(scores)
    assert sorted(kept) == sorted(scores)[-len(kept) :]


def test_room_that_must_stay_free_stops_recording(vehicle: Any) -> None:
    vehicle.start()
    free = vehicle.catalogue.free() // 10**6
    vehicle.catalogue.let_go()
    recorder = vehicle.start(keep_free=min(100_000_000, free * 2))
    score_of(vehicle, 0.9)
    assert vehicle.catalogue.recordings() == []
    assert (recorder.state.refused, recorder.state.failed) == (1, 0)
    assert 'keep_free' in recorder.state.problem


def test_no_more_than_so_many_an_hour_but_people_come_first(vehicle: Any) -> None:
    recorder = vehicle.start(max_events_per_hour=2)
    for _ in range(4):
        score_of(vehicle, 0.9)
    assert len(vehicle.catalogue.recordings()) == 2
    assert recorder.state.limited == 2
    recorder.fire('service', 'asked for', vehicle.received_ns)
    vehicle.drive(2.0)
    assert len(vehicle.catalogue.recordings()) == 3
    # A process that is started anew knows of the last hour.
    vehicle.catalogue.let_go()
    vehicle.start(max_events_per_hour=2)
    score_of(vehicle, 0.9)
    assert len(vehicle.catalogue.recordings()) == 3
    vehicle.now += 3600.0
    score_of(vehicle, 0.9)
    assert len(vehicle.catalogue.recordings()) == 4


@pytest.mark.parametrize('name', ['', '.', '..', '../x', '/etc', '.partial', 'a/b', 'none', 'x\0'])
def test_names_never_leave_the_folder(vehicle: Any, name: str) -> None:
    vehicle.start()
    for act in (vehicle.catalogue.pin, vehicle.catalogue.delete, vehicle.catalogue.path):
        with pytest.raises(MaskomalyError, match='has no recording'):
            act(name)
    if name != 'none':
        with pytest.raises(MaskomalyError, match='is no name of a recording'):
            vehicle.catalogue.new_partial(name)


def test_facts_that_are_damaged_hide_their_recording_alone(vehicle: Any) -> None:
    recorder = vehicle.start()
    for _ in range(2):
        recorder.fire('service', 'asked for', vehicle.received_ns)
        vehicle.drive(4.0)
    first, second = vehicle.catalogue.recordings()
    path = vehicle.folder / first.name / 'event.json'
    for content in (b'', b'{', b'[]', b'{"name": 1}', b'\xff' * 10, b' ' * (1 << 23)):
        path.write_bytes(content)
        assert vehicle.catalogue.recordings() == [second]


def test_the_index_has_the_columns_of_mining(vehicle: Any) -> None:
    from pyarrow import parquet

    from maskomaly_ros.replay.tables import BAG_EVENT_COLUMNS

    recorder = vehicle.start()
    score_of(vehicle, 0.9)
    recorder.fire('service', 'asked for', vehicle.received_ns)
    vehicle.drive(2.0)
    table = parquet.read_table(vehicle.folder / 'events.parquet')
    assert {f.name: str(f.type).replace('double', 'float64') for f in table.schema} == dict(
        BAG_EVENT_COLUMNS
    )
    event, asked = table.to_pylist()
    assert event['peak_score'] == pytest.approx(0.9)
    assert (vehicle.folder / event['thumbnail']).is_file()
    assert (asked['camera'], asked['peak_score']) == ('', None)
    facts = json.loads((vehicle.folder / event['bag'] / 'event.json').read_text())
    assert facts['events'][0]['start_ns'] == event['start_ns'] > START - SECOND
    assert by_time(read_bag(vehicle.folder / event['bag']))[0][1] == facts['start_ns']
