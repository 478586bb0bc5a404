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

"""Replay says where obstacles are, where the recording has what that takes."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskomaly_ros.detector import Detector
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.ground import POINT
from maskomaly_ros.replay.run import ReplayOptions, replay

highlevel = pytest.importorskip('rosbags.highlevel', reason='bags need rosbags')

HEIGHT, WIDTH, COUNT = 48, 64, 12
IMAGE, INFO, TF = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CameraInfo', 'tf2_msgs/msg/TFMessage'
CAMERA, DEPTH = '/front/image_raw', '/front/depth'
# The box ends at row 41.5, 21.5 pixels below the horizon.
RANGE = 1.5 * 50 / 21.5
TOPICS = ('obstacles', 'points', 'markers', 'label_info', 'annotations')


@pytest.fixture
def bag(tmp_path: Path) -> Any:
    """Return what writes a bag of a camera with a red box that moves, calibration and TF."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    types = store.types

    def header(ns: int, frame: str) -> Any:
        stamp = types['builtin_interfaces/msg/Time'](*divmod(ns, 10**9))
        return types['std_msgs/msg/Header'](stamp, frame)

    def write(
        *,
        info: bool = True,
        tf: bool = True,
        width: int = WIDTH,
        count: int = COUNT,
        depth: Callable[[int], int | None] = lambda index: None,
    ) -> Path:
        """Write it; depth gives nanoseconds from a frame's stamp to that of its depth image."""
        path = tmp_path / 'drive'
        with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            topics = {CAMERA: IMAGE, '/front/camera_info': INFO, '/tf_static': TF}
            if any(depth(index) is not None for index in range(count)):
                topics[DEPTH] = IMAGE
            connections = {
                t: writer.add_connection(t, k, typestore=store) for t, k in topics.items()
            }

            def put(topic: str, ns: int, message: Any) -> None:
                data = store.serialize_cdr(message, topics[topic])
                writer.write(connections[topic], 10**18 + ns, data)

            if tf:
                move = types['geometry_msgs/msg/Vector3'](1.0, 0.0, 1.5)
                turn = types['geometry_msgs/msg/Quaternion'](-0.5, 0.5, -0.5, 0.5)
                transform = types['geometry_msgs/msg/Transform'](move, turn)
                stamped = types['geometry_msgs/msg/TransformStamped'](
                    header(0, 'base_link'), 'front_camera', transform
                )
                put('/tf_static', 0, types[TF]([stamped]))
            for index in range(count):
                ns = (index + 1) * 10**8
                if info:
                    k = np.array([50.0, 0, 32, 0, 50.0, 20, 0, 0, 1])
                    roi = types['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False)
                    d, r, p = (np.zeros(n) for n in (5, 9, 12))
                    calibration = types[INFO](
                        header(ns, 'front_camera'), HEIGHT, width, 'plumb_bob', d, k, r, p, 0, 0,
                        roi,
                    )  # fmt: skip
                    put('/front/camera_info', ns, calibration)
                picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
                left = 2 + 2 * abs((index + 11) % 22 - 11)  # there and back
                picture[26:42, left : left + 18] = (10, 10, 220)
                image = types[IMAGE](
                    header(ns, 'front_camera'), HEIGHT, WIDTH, 'bgr8', 0, 3 * WIDTH,
                    picture.reshape(-1),
                )  # fmt: skip
                put(CAMERA, ns, image)
                later = depth(index)
                if later is not None:
                    millimetres = np.full((HEIGHT, WIDTH), 4000 + index, np.uint16)
                    image = types[IMAGE](
                        header(ns + later, 'front_camera'), HEIGHT, WIDTH, '16UC1', 0, 2 * WIDTH,
                        millimetres.view(np.uint8).reshape(-1),
                    )  # fmt: skip
                    put(DEPTH, ns + later, image)
        return path

    return write


def written(out: Path, name: str) -> list[Any]:
    with highlevel.AnyReader([out / 'bag']) as reader:
        return [
            reader.deserialize(data, connection.msgtype)
            for connection, _, data in reader.messages()
            if connection.topic == f'/front/anomaly/{name}'
        ]


def rows(out: Path, name: str) -> list[dict[str, str]]:
    with (out / f'{name}.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def test_bag_tables_and_page_say_where_obstacles_are(
    bag: Any, detector: Detector, tmp_path: Path
) -> None:
    out = tmp_path / 'out'
    options = ReplayOptions(('bag', 'csv', 'html'), bag_topics=TOPICS)
    summary = replay(bag(), out, options, detector=detector)
    assert (summary.frames, summary.problems) == (COUNT, ())
    points = written(out, 'points')
    assert len(points) == COUNT
    for message in points:
        found = np.frombuffer(bytes(message.data), POINT)
        assert message.header.frame_id == 'base_link'
        assert [f.name for f in message.fields] == list(POINT.names or ())
        assert len(found) == 18
        np.testing.assert_allclose(found['x'], 1.0 + RANGE, rtol=1e-5)
        np.testing.assert_allclose(found['z'], 0, atol=1e-6)
        assert set(found['id'].tolist()) == {1}
    assert [d.detections[0].id for d in written(out, 'obstacles')] == ['1'] * COUNT
    assert len(written(out, 'label_info')) == 1
    _, footprint, label = written(out, 'markers')[-1].markers
    assert (footprint.ns, footprint.id, len(footprint.points)) == ('footprint', 1, 19)
    assert label.text.startswith('#1 3.')
    (annotation,) = {len(a.points) for a in written(out, 'annotations')}
    assert annotation == 1

    (event,) = rows(out, 'events')
    assert (event['id'], event['frames']) == ('1', str(COUNT))
    nearest = min(float(row['range_m']) for row in rows(out, 'frames'))
    assert float(event['range_m']) == nearest
    assert nearest == pytest.approx(RANGE, rel=0.01)
    assert 0 < float(event['range_stddev_m']) < 0.5
    assert f'{nearest:.1f} ± ' in (out / 'report.html').read_text(encoding='utf-8')


def test_ids_go_on_where_a_replay_was_stopped(
    bag: Any, detector: Detector, tmp_path: Path
) -> None:
    """A rerun has the ids that a single run would have had."""
    import threading

    source, out = bag(count=5 * COUNT), tmp_path / 'out'
    options = ReplayOptions(('bag', 'csv'), bag_topics=TOPICS, part_seconds=0.0)
    stop = threading.Event()
    first = replay(
        source, out, options, detector=detector, stop=stop, progress=lambda *_: stop.set()
    )
    assert 0 < first.frames < 5 * COUNT
    second = replay(source, out, options, detector=detector)
    assert second.frames == 5 * COUNT
    ids = [np.frombuffer(bytes(m.data), POINT)['id'].tolist() for m in written(out, 'points')]
    assert ids == [[1] * 18] * (5 * COUNT)


def test_parameters_place_a_camera_without_tf(
    bag: Any, detector: Detector, tmp_path: Path
) -> None:
    out = tmp_path / 'out'
    values = {'camera_topics': [CAMERA], 'camera_height': [1.5]}
    options = ReplayOptions(('bag',), bag_topics=('points',), parameters=values)
    replay(bag(tf=False), out, options, detector=detector)
    message = written(out, 'points')[0]
    assert message.header.frame_id == 'front_camera'
    found = np.frombuffer(bytes(message.data), POINT)
    np.testing.assert_allclose(found['z'], RANGE, rtol=1e-5)


def test_depth_gives_every_pixel_a_place(bag: Any, detector: Detector, tmp_path: Path) -> None:
    """Nearest by stamp, also where it was recorded later; without one, the contact line."""
    out = tmp_path / 'out'
    later = [3_000_000, -8_000_000, 0, 15_000_000, None, -20_000_000, 21_000_000] + 5 * [0]
    source = bag(depth=lambda index: later[index])
    values = {'camera_topics': [CAMERA], 'depth_topics': ['front/depth'], 'depth_tolerance': 0.02}
    options = ReplayOptions(('bag', 'csv'), bag_topics=('points',), parameters=values)
    summary = replay(source, out, options, detector=detector)
    assert (summary.frames, summary.problems) == (COUNT, ())
    assert summary.left_out == {DEPTH: 'depth images, not a camera'}
    found = [np.frombuffer(bytes(m.data), POINT) for m in written(out, 'points')]
    for index, points in enumerate(found):
        if index in (4, 6):  # no image, or one that is too late
            assert len(points) == 18
            continue
        assert len(points) == 16 * 18
        np.testing.assert_allclose(points['x'], 1.0 + 4.0 + index / 1000, rtol=1e-5)
        assert np.isnan(points['range_stddev']).all()
    ranges = [float(row['range_m']) for row in rows(out, 'frames')]
    assert ranges[5] < 4.2


def test_depth_needs_no_ground(
    bag: Any, detector: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = {'camera_topics': [CAMERA], 'depth_topics': [DEPTH]}
    options = ReplayOptions(('bag',), bag_topics=('points',), parameters=values)
    source = bag(tf=False, depth=lambda index: None if index == 3 else 0)
    replay(source, tmp_path / 'out', options, detector=detector)
    messages = written(tmp_path / 'out', 'points')
    assert len(messages) == COUNT - 1
    assert {m.header.frame_id for m in messages} == {'front_camera'}
    points = np.frombuffer(bytes(messages[0].data), POINT)
    np.testing.assert_allclose(points['z'], 4.0, rtol=1e-5)
    assert 'neither the pose of the camera nor depth is known' in caplog.text


def test_depth_goes_on_where_a_replay_was_stopped(
    bag: Any, detector: Detector, tmp_path: Path
) -> None:
    import threading

    source, out = bag(count=5 * COUNT, depth=lambda index: 0), tmp_path / 'out'
    values = {'camera_topics': [CAMERA], 'depth_topics': [DEPTH]}
    options = ReplayOptions(('bag',), bag_topics=('points',), parameters=values, part_seconds=0.0)
    stop = threading.Event()
    replay(source, out, options, detector=detector, stop=stop, progress=lambda *_: stop.set())
    replay(source, out, options, detector=detector)
    found = [np.frombuffer(bytes(m.data), POINT)['x'] for m in written(out, 'points')]
    assert [round(1000 * float(x[0])) for x in found] == [5000 + i for i in range(5 * COUNT)]


@pytest.mark.parametrize(
    ('lacks', 'reason'),
    [
        ({'tf': False}, 'no transform connects front_camera with base_link'),
        ({'width': 80}, 'calibrated for 80 x 48'),
        ({'info': False}, ''),
    ],
)
def test_without_it_all_else_is_as_before(
    bag: Any,
    detector: Detector,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    lacks: dict[str, Any],
    reason: str,
) -> None:
    out = tmp_path / 'out'
    options = ReplayOptions(('bag', 'csv'), bag_topics=('mask', 'points'))
    with caplog.at_level(logging.WARNING):
        summary = replay(bag(**lacks), out, options, detector=detector)
    assert (summary.frames, summary.problems) == (COUNT, ())
    assert len(written(out, 'mask')) == COUNT
    assert written(out, 'points') == []
    assert rows(out, 'events')[0]['range_m'] == ''
    assert (reason in caplog.text) if reason else (caplog.text == '')


def test_a_height_of_no_camera_is_refused(bag: Any, detector: Detector, tmp_path: Path) -> None:
    options = ReplayOptions(('csv',), parameters={'camera_height': [1.5]})
    with pytest.raises(MaskomalyError, match='/front/image_raw is not among them'):
        replay(bag(), tmp_path / 'out', options, detector=detector)
