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

"""What the recorder reads of messages: ours as they are, and whatever else somebody sends."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorder_fixtures import CAMERA, SECOND, header, image, jpeg, road, serialize, text

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.ground import POINT
from maskomaly_ros.interfaces import COMPRESSED, IMAGE
from maskomaly_ros.obstacles import Obstacle
from maskomaly_ros.recorder import decoding
from maskomaly_ros.recorder.writing import Topic

BOX = (20, 10, 12, 8)
MANY = 10**6


def types() -> Any:
    return decoding.typestore().types


def detections(obstacles: list[Obstacle], stamp_ns: int) -> bytes:
    """Serialize obstacles as the node publishes them."""
    make = types()
    place = make['geometry_msgs/msg/PoseWithCovariance'](
        make['geometry_msgs/msg/Pose'](
            make['geometry_msgs/msg/Point'](0.0, 0.0, 0.0),
            make['geometry_msgs/msg/Quaternion'](0.0, 0.0, 0.0, 1.0),
        ),
        np.zeros(36),
    )
    found = []
    for o in obstacles:
        hypothesis = make['vision_msgs/msg/ObjectHypothesis']('obstacle', o.mean_score)
        centre = make['vision_msgs/msg/Point2D'](o.x + o.width / 2, o.y + o.height / 2)
        box = make['vision_msgs/msg/BoundingBox2D'](
            make['vision_msgs/msg/Pose2D'](centre, 0.0), float(o.width), float(o.height)
        )
        result = make['vision_msgs/msg/ObjectHypothesisWithPose'](hypothesis, place)
        identity = '' if o.id is None else str(o.id)
        found.append(
            make['vision_msgs/msg/Detection2D'](header(stamp_ns), [result], box, identity)
        )
    return serialize(make[decoding.OBSTACLES](header(stamp_ns), found))


def cloud(points: Any, stamp_ns: int) -> bytes:
    """Serialize points as the node publishes them."""
    make = types()
    kinds = {'f4': 7, 'u4': 6}
    fields = [
        make['sensor_msgs/msg/PointField'](
            name, POINT.fields[name][1], kinds[POINT[name].str[1:]], 1
        )
        for name in POINT.names
    ]
    data = np.frombuffer(points.tobytes(), np.uint8)
    return serialize(
        make[decoding.CLOUD](
            header(stamp_ns), 1, len(points), fields, False, POINT.itemsize, len(data), data, True
        )
    )


boxes = st.builds(
    Obstacle,
    x=st.integers(0, 3000),
    y=st.integers(0, 3000),
    width=st.integers(1, 500),
    height=st.integers(1, 500),
    area=st.just(0),
    mean_score=st.floats(0, 1),
    max_score=st.just(0.0),
    id=st.none() | st.integers(0, 10**9),
)


@given(st.lists(boxes, max_size=5))
def test_obstacles_come_back(obstacles: list[Obstacle]) -> None:
    found = decoding.decode_obstacles(detections(obstacles, 5))
    assert [(o.x, o.y, o.width, o.height, o.id) for o in found] == [
        (o.x, o.y, o.width, o.height, o.id) for o in obstacles
    ]
    assert [o.mean_score for o in found] == [o.mean_score for o in obstacles]
    assert all(o.area == o.width * o.height and o.max_score == o.mean_score for o in found)


def test_ranges_are_those_of_the_nearest_points() -> None:
    points = np.zeros(5, POINT)
    points['id'] = (7, 7, 3, 3, 9)
    points['x'] = (30.0, 20.0, 5.0, 50.0, np.nan)
    points['y'] = (0.0, 15.0, 0.0, 0.0, 0.0)
    points['range_stddev'] = (1.0, 2.0, np.nan, 0.0, 0.0)
    assert decoding.decode_ranges(cloud(points, 5)) == {7: (25.0, 2.0), 3: (5.0, None)}
    assert decoding.decode_ranges(cloud(points[:0], 5)) == {}


@pytest.mark.parametrize(('farthest', 'fires'), [(30.0, True), (20.0, False), (0.0, True)])
def test_obstacles_of_the_node_fire_within_the_range(
    vehicle: Any, farthest: float, fires: bool
) -> None:
    recorder = vehicle.start(obstacle_source='obstacles', maximum_range=[farthest])
    recorder.know(Topic('/front/anomaly/obstacles', decoding.OBSTACLES))
    recorder.know(Topic('/front/anomaly/points', decoding.CLOUD))
    points = np.zeros(1, POINT)
    points['id'], points['x'], points['range_stddev'] = 4, 25.0, 1.5
    for step in range(60):
        vehicle.now = round(vehicle.now + 0.1, 6)
        seen = [Obstacle(*BOX, 96, 0.8, 0.8, 4)] if step < 10 else []
        vehicle.send(CAMERA, image(road(BOX), vehicle.received_ns, 'rgb8'))
        vehicle.send('/front/anomaly/points', cloud(points, vehicle.received_ns))
        vehicle.send('/front/anomaly/obstacles', detections(seen, vehicle.received_ns))
        recorder.step()
    found = vehicle.catalogue.recordings()
    assert len(found) == fires
    if fires:
        (event,) = found[0].events
        assert (event.id, event.box, event.peak_score) == (4, BOX, 0.8)
        assert (event.range, event.range_stddev) == (25.0, 1.5)
        assert event.end_ns - event.start_ns == round(0.9 * SECOND)


def test_pictures_masks_and_heatmaps() -> None:
    picture = road(BOX)
    assert np.array_equal(decoding.decode_picture(image(picture, 1, 'rgb8'), IMAGE, MANY), picture)
    near = decoding.decode_picture(jpeg(picture, 1), COMPRESSED, MANY)
    assert np.abs(near.astype(int) - picture).mean() < 5
    mask = (picture[..., 0] > 200).astype(np.uint8) * 255
    assert np.array_equal(decoding.decode_mask(image(mask, 1, 'mono8'), MANY), mask)
    heat = np.linspace(0, 1, mask.size, dtype=np.float32).reshape(mask.shape)
    assert np.array_equal(decoding.decode_heatmap(image(heat, 1, '32FC1'), MANY), heat)
    assert np.allclose(decoding.decode_heatmap(image(mask, 1, 'mono8'), MANY), mask / 255)
    heat[0, :3] = (np.nan, np.inf, -np.inf)
    assert decoding.decode_heatmap(image(heat, 1, '32FC1'), MANY)[0, :3].tolist() == [0, 1, 0]


@pytest.mark.parametrize('decode', [decoding.decode_mask, decoding.decode_heatmap])
def test_sizes_are_checked_before_memory_is_taken(decode: Any) -> None:
    make = types()
    few = np.zeros(16, np.uint8)
    for height, width, step in ((2**31, 2**31, 2**31), (4, 4, 2), (100, 100, 100), (0, 4, 4)):
        data = serialize(make[IMAGE](header(1), height, width, 'mono8', 0, step, few))
        with pytest.raises(MaskomalyError):
            decode(data, MANY)
    with pytest.raises(MaskomalyError, match='16UC1'):
        decode(serialize(make[IMAGE](header(1), 2, 4, '16UC1', 0, 8, few)), MANY)


def test_lists_without_end_are_refused() -> None:
    with pytest.raises(MaskomalyError, match='has more than'):
        decoding.decode_obstacles(bytes(1 << 23))
    with pytest.raises(MaskomalyError, match='has more than'):
        decoding.decode_network_facts(bytes(1 << 23))


def seeds() -> list[tuple[Any, bytes]]:
    make = types()
    points = np.zeros(2, POINT)
    value = make['diagnostic_msgs/msg/KeyValue']('checkpoint sha256', 'f' * 64)
    status = make['diagnostic_msgs/msg/DiagnosticStatus'](0, 'n', '', '', [value])
    return [
        (decoding.decode_obstacles, detections([Obstacle(*BOX, 96, 0.8, 0.8, 4)], 5)),
        (decoding.decode_ranges, cloud(points, 5)),
        (
            decoding.decode_network_facts,
            serialize(make[decoding.DIAGNOSTICS](header(5), [status])),
        ),
        (lambda d: decoding.decode_mask(d, MANY), image(np.zeros((4, 4), np.uint8), 1, 'mono8')),
        (
            lambda d: decoding.decode_heatmap(d, MANY),
            image(np.zeros((4, 4), np.float32), 1, '32FC1'),
        ),
        (lambda d: decoding.decode_picture(d, IMAGE, MANY), image(road(), 1, 'rgb8')),
        (lambda d: decoding.decode_picture(d, COMPRESSED, MANY), jpeg(road(), 1)),
        (decoding.decode_bool, b'\x00\x01\x00\x00\x01'),
    ]


@pytest.mark.parametrize('number', range(8))
@settings(max_examples=60)
@given(data=st.data())
def test_damaged_messages_are_refused_or_read(number: int, data: st.DataObject) -> None:
    decode, whole = seeds()[number]
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            place = data.draw(st.integers(0, len(damaged) - 1))
            damaged[place] = data.draw(st.integers(0, 255))
    with suppress(MaskomalyError):
        decode(bytes(damaged))


def test_facts_of_the_network() -> None:
    _, data = seeds()[2]
    assert decoding.decode_network_facts(data) == {'checkpoint sha256': 'f' * 64}
    with pytest.raises(MaskomalyError):
        decoding.decode_network_facts(text('no diagnostics'))
