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

"""What is recorded, from when to when, and why."""

from __future__ import annotations

import json
from typing import Any

import cv2
import pytest
from recorder_fixtures import CAMERA, SECOND, START, by_time, read_bag, text

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.recorder.catalogue import Catalogue
from maskomaly_ros.recorder.writing import Topic

BOX = (20, 10, 12, 8)


def recordings(vehicle: Any) -> list[Any]:
    found: list[Any] = Catalogue(vehicle.folder).recordings()
    return found


def test_what_came_before_and_after_is_recorded_as_received(vehicle: Any) -> None:
    recorder = vehicle.start()
    vehicle.send('/map', text('static'))
    vehicle.drive(5.0)
    recorder.fire('service', 'asked for', vehicle.received_ns)
    vehicle.drive(3.0)
    (recording,) = recordings(vehicle)
    expected = vehicle.between(3.0, 6.0)
    written = read_bag(vehicle.folder / recording.name)
    latched = ('/map', START + 3 * SECOND, text('static'))
    assert by_time(written) == by_time([latched, *expected])
    assert [m[1] for m in written] == sorted(m[1] for m in written)
    assert recording.messages == {
        topic: sum(m[0] == topic for m in written) for topic in {m[0] for m in written}
    }
    assert (recording.start_ns, recording.end_ns) == (START + 3 * SECOND, START + 6 * SECOND)
    assert (recording.lost, recording.cut, recording.is_interrupted) == (0, '', False)
    assert [(c.kind, c.reason) for c in recording.causes] == [('service', 'asked for')]
    counts = recorder.state.counts
    assert counts.received == len(vehicle.sent) == counts.kept + counts.dropped
    assert counts.dropped == 0


def test_an_obstacle_that_lasts_fires_once(vehicle: Any) -> None:
    vehicle.start(minimum_seconds=[0.5])
    vehicle.drive(3.0)
    vehicle.drive(0.4, BOX)  # too short
    vehicle.drive(3.0)
    assert recordings(vehicle) == []
    vehicle.drive(1.5, BOX, score=0.8)
    vehicle.drive(3.0)
    (recording,) = recordings(vehicle)
    (event,) = recording.events
    assert recording.causes[0].kind == 'obstacle'
    assert (event.camera, event.box, event.peak_area) == (CAMERA, BOX, 12 * 8)
    assert event.peak_score == pytest.approx(0.8)
    # It is known to its end, though it fired half a second after its begin at 6.5.
    assert event.start_ns == START + round(6.5 * SECOND)
    assert event.end_ns == START + round(7.9 * SECOND)
    assert recording.start_ns == event.start_ns + round(0.5 * SECOND) - 2 * SECOND
    frames = [m for m in read_bag(vehicle.folder / recording.name) if m[0] == CAMERA]
    assert frames[event.start_index][1] == event.start_ns
    assert frames[event.end_index][1] == event.end_ns
    picture = cv2.imread(str(vehicle.folder / recording.name / 'event.jpg'))
    assert picture is not None
    assert picture[BOX[1] + 4, BOX[0] + 6].tolist() == pytest.approx([10, 10, 220], abs=30)
    assert picture[BOX[1] + 4, BOX[0], 1] > 120  # the outline, yellow


@pytest.mark.parametrize(
    ('limits', 'fires'),
    [
        ({'minimum_score': [0.85]}, False),
        ({'minimum_score': [0.75]}, True),
        ({'minimum_area': [97]}, False),
        ({'minimum_area': [96]}, True),
        ({'minimum_seconds': [5.0]}, False),
        ({'maximum_range': [1.0]}, True),  # no range is known
    ],
)
def test_limits_of_obstacles(vehicle: Any, limits: dict[str, Any], fires: bool) -> None:
    vehicle.start(**limits)
    vehicle.drive(2.0, BOX, score=0.8)
    vehicle.drive(3.0)
    assert len(recordings(vehicle)) == fires


def test_limits_are_each_cameras_own(vehicle: Any) -> None:
    other = '/rear/image_raw'
    settings = vehicle.settings(camera_topics=[CAMERA, other], minimum_score=[0.2, 0.95])
    assert settings.limits[CAMERA].score == 0.2
    assert settings.limits[other].score == 0.95
    with pytest.raises(MaskomalyError, match='minimum_score has 3 values for 2 camera topics'):
        vehicle.settings(camera_topics=[CAMERA, other], minimum_score=[0.1, 0.2, 0.3])


def test_overlapping_events_extend_one_recording(vehicle: Any) -> None:
    recorder = vehicle.start()
    vehicle.drive(3.0)
    for _ in range(3):
        recorder.fire('topic', 'button', vehicle.received_ns)
        vehicle.drive(0.8)
    vehicle.drive(3.0)
    (recording,) = recordings(vehicle)
    assert len(recording.causes) == 3
    assert recording.seconds == pytest.approx(2.0 + 1.6 + 1.0, abs=0.05)


def test_no_recording_is_longer_than_max_length(vehicle: Any) -> None:
    recorder = vehicle.start(max_length=4.0)
    vehicle.drive(3.0)
    for _ in range(10):
        recorder.fire('topic', 'button', vehicle.received_ns)
        vehicle.drive(0.5)
    vehicle.drive(3.0)
    first, second, *rest = recordings(vehicle)
    assert first.seconds == pytest.approx(4.0, abs=0.05)
    assert first.cut == 'max_length'
    assert second.causes[0].received_ns >= first.end_ns
    sent = {(m[0], m[1]) for m in vehicle.between(1.0, 8.5)}
    written = {m[:2] for r in (first, second, *rest) for m in read_bag(vehicle.folder / r.name)}
    assert sent <= written  # what follows a full one begins with its own seconds before


def test_a_condition_of_ones_own(vehicle: Any) -> None:
    def condition(topic: str, msgtype: str, data: bytes, received_ns: int) -> str | None:
        if b'4.000' in data:
            raise RuntimeError('what others write')
        return f'{topic} {msgtype}' if b'5.000' in data else None

    recorder = vehicle.start(condition=condition, condition_topics=['/te*'])
    vehicle.drive(8.0)
    (recording,) = recordings(vehicle)
    assert [(c.kind, c.reason) for c in recording.causes] == [
        ('condition', '/text std_msgs/msg/String')
    ]
    assert recorder.state.unreadable == 1


def test_memory_is_bounded_and_what_is_lost_is_counted(vehicle: Any) -> None:
    recorder = vehicle.start(max_memory=1, pre_roll=5.0)
    vehicle.drive(9.0, rate=20.0)
    counts = recorder.state.counts
    assert counts.held_bytes <= 10**6 * 7 // 8
    assert counts.dropped > 0
    assert counts.received == len(vehicle.sent) == counts.kept + counts.dropped
    # A disk that takes nothing for a while: the recording says what it lacks.
    recorder.fire('service', 'asked for', vehicle.received_ns)
    recorder.step()
    for _ in range(60):
        vehicle.now += 0.05
        vehicle.frame()
    vehicle.drive(2.0)
    (recording,) = recordings(vehicle)
    assert recording.lost > 0
    assert recorder.state.lost == recording.lost
    assert 'the disk is too slow' in recorder.state.problem


def test_a_topic_without_a_definition_is_refused_and_others_go_on(vehicle: Any) -> None:
    recorder = vehicle.start()
    with pytest.raises(MaskomalyError, match='nothing defines the type nobody_msgs/msg/Nothing'):
        recorder.know(Topic('/x', 'nobody_msgs/msg/Nothing'))


def test_messages_that_are_none_do_no_harm(vehicle: Any) -> None:
    recorder = vehicle.start()
    place = '/front/anomaly'
    for data in (b'', b'\x00\x01\x00\x00', bytes(40), b'\xff' * 100):
        for topic in (CAMERA, f'{place}/mask', f'{place}/heatmap'):
            vehicle.send(topic, data)
    vehicle.drive(1.0)
    recorder.fire('service', '', vehicle.received_ns)
    vehicle.drive(2.0)
    (recording,) = recordings(vehicle)
    assert by_time(read_bag(vehicle.folder / recording.name)) == by_time(vehicle.between(0, 2.0))
    assert recorder.state.unreadable > 0
    assert recorder.state.problem == ''


def test_stopping_completes_what_is_under_way(vehicle: Any) -> None:
    recorder = vehicle.start()
    recorder.start()
    vehicle.drive(1.0)
    recorder.fire('service', 'asked for', vehicle.received_ns)
    assert recorder.stop(timeout=60.0)
    (recording,) = recordings(vehicle)
    assert recording.cut == 'the recorder was stopped'
    assert len(read_bag(vehicle.folder / recording.name)) == len(vehicle.sent)
    recorder.fire('service', 'too late', vehicle.received_ns)
    assert not recorder.state.is_recording


def test_a_condition_is_named_by_module_and_function() -> None:
    from maskomaly_ros.recorder.triggers import load_condition

    found: Any = load_condition('json:dumps')
    assert found is json.dumps
    for name, words in (
        ('nowhere_to_be_found:f', 'cannot be imported: ModuleNotFoundError'),
        ('json:nothing', 'cannot be imported: AttributeError'),
        ('json:__name__', 'is no function'),
    ):
        with pytest.raises(MaskomalyError, match=f'condition {name} {words}'):
            load_condition(name)


def test_a_button_that_comes_after_the_end_begins_anew(vehicle: Any) -> None:
    """Also where the thread that writes is late."""
    recorder = vehicle.start()
    vehicle.drive(3.0)
    recorder.fire('topic', 'first', vehicle.received_ns)
    recorder.step()
    for _ in range(30):  # nobody writes meanwhile
        vehicle.now = round(vehicle.now + 0.1, 6)
        vehicle.frame()
    recorder.fire('topic', 'second', vehicle.received_ns)
    vehicle.drive(3.0)
    first, second = recordings(vehicle)
    assert (first.causes[0].reason, second.causes[0].reason) == ('first', 'second')
    assert first.end_ns == START + 4 * SECOND
    assert second.end_ns == START + 7 * SECOND
    assert first.lost == second.lost == 0
