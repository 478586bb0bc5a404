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

"""Obstacles on the ground, as planners get them: real nodes over real DDS."""

from __future__ import annotations

import sys
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from maskomaly_ros.ground import POINT

SIZE = (120, 160)
SECOND = 10**9
# Red from row 70 to 79: its lower edge is 79.5 - 60 pixels below the horizon.
RANGE = 1.5 * 100 / (79.5 - 60)


def frame(left: int = 70) -> NDArray[np.uint8]:
    """Draw a red box of 20 x 10 pixels that stands on the road."""
    picture = np.full((*SIZE, 3), 90, np.uint8)
    picture[70:80, left : left + 20] = (255, 0, 0)
    return picture


def has_arrived(ros: Any, stamp: int) -> bool:
    """Return whether the node has the calibration of a stamp."""
    from maskomaly_ros.node.health import stamp_of

    (camera,) = ros.nodes[-1]._cameras
    newest = camera.calibration.newest
    return newest is not None and stamp_of(newest) == stamp


@pytest.fixture
def send(ros: Any) -> Any:
    """Return what publishes the n-th frame of /front/image_raw, and a calibration before it."""
    from sensor_msgs.msg import CameraInfo

    made: dict[str, Any] = {}

    def send(number: int, *, calibrated: bool = True, left: int = 70, **info: Any) -> int:
        if not made:
            made['image'] = ros.camera('/front/image_raw', reliable=True)
            made['info'] = ros.publisher(CameraInfo, '/front/camera_info')
        stamp = number * SECOND // 10
        image = ros.image(stamp, frame(left))
        if calibrated:
            fields = {'height': SIZE[0], 'width': SIZE[1], 'distortion_model': 'plumb_bob'}
            calibration = CameraInfo(header=image.header, **{**fields, **info})
            calibration.k = [100.0, 0.0, 80.0, 0.0, 100.0, 60.0, 0.0, 0.0, 1.0]
            made['info'].publish(calibration)
            ros.spin_until(lambda: has_arrived(ros, stamp), 'the calibration arrived')
        made['image'].publish(image)
        return stamp

    return send


def cloud(message: Any) -> NDArray[Any]:
    assert [(f.name, f.offset, f.count) for f in message.fields] == [
        (name, POINT.fields[name][1], 1) for name in POINT.names
    ]
    assert (message.height, message.point_step) == (1, POINT.itemsize)
    assert message.row_step == message.width * message.point_step == len(message.data)
    return np.frombuffer(bytes(message.data), POINT)


def received(listener: Any, count: int) -> bool:
    return len(listener.messages) >= count


def wait(ros: Any, listener: Any, count: int) -> Any:
    ros.spin_until(partial(received, listener, count), f'message {count}')
    return listener.messages[count - 1]


def test_points_are_where_the_obstacle_stands(ros: Any, send: Any) -> None:
    from sensor_msgs.msg import PointCloud2
    from visualization_msgs.msg import MarkerArray

    ros.maskomaly(camera_height=[1.5], pitch_uncertainty=0.0)
    points = ros.listen('/front/anomaly/points', PointCloud2)
    markers = ros.listen('/front/anomaly/markers', MarkerArray)
    for number in range(1, 4):
        stamp = send(number, left=70 + number)
        message = wait(ros, points, number)
        found = cloud(message)
        assert message.header.stamp.sec * SECOND + message.header.stamp.nanosec == stamp
        assert message.header.frame_id == 'front_camera', 'nobody knows another frame'
        assert len(found) == 20
        np.testing.assert_allclose(found['z'], RANGE, rtol=1e-5)
        np.testing.assert_allclose(found['y'], 1.5, rtol=1e-5)
        lefts = (70 + number + np.arange(20) - 80) / 100 * RANGE
        np.testing.assert_allclose(found['x'], lefts, atol=1e-5)
        assert set(found['id'].tolist()) == {1}, 'it is the same one in every frame'
        assert (found['score'] > 0.9).all()
        assert (np.abs(found['range_stddev'] / RANGE - 0.5 / 19.5) < 0.01).all()

        _, footprint, text = wait(ros, markers, number).markers
        assert (footprint.ns, footprint.id, len(footprint.points)) == ('footprint', 1, 21)
        assert footprint.points[0].z == pytest.approx(RANGE)
        assert text.text.startswith('#1 7.7 m ± 0.2')


def test_an_empty_road_gives_an_empty_cloud(ros: Any, send: Any) -> None:
    from sensor_msgs.msg import PointCloud2

    ros.maskomaly(camera_height=[1.5])
    points = ros.listen('/front/anomaly/points', PointCloud2)
    send(1, left=200)  # outside of the picture
    assert len(cloud(wait(ros, points, 1))) == 0


def places(node: Any) -> str:
    return str(node._cameras[0].ground.state)


def test_without_calibration_masks_come_and_points_do_not(ros: Any, send: Any) -> None:
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import PointCloud2

    node = ros.maskomaly(camera_height=[1.5])
    points = ros.listen('/front/anomaly/points', PointCloud2)
    mask = ros.listen('/front/anomaly/mask')
    diagnostics = ros.listen('/diagnostics', DiagnosticArray)
    send(1, calibrated=False)
    wait(ros, mask, 1)
    assert 'nothing came on /front/camera_info' in places(node)

    def said() -> bool:
        values = [
            value.value
            for message in diagnostics.messages
            for status in message.status
            for value in status.values
            if value.key == 'places'
        ]
        return any('nothing came on /front/camera_info' in value for value in values)

    ros.spin_until(said, 'diagnostics say so')
    assert points.messages == []
    send(2)
    wait(ros, points, 1)
    assert 'contact line, camera 1.50 m above the ground' in places(node)


@pytest.mark.parametrize(
    ('info', 'reason'),
    [
        ({'width': 200}, 'calibrated for 200 x 120'),
        ({'distortion_model': 'unheard_of'}, "'unheard_of' is unknown"),
    ],
)
def test_a_calibration_that_does_not_fit_is_named(
    ros: Any, send: Any, info: dict[str, Any], reason: str
) -> None:
    from sensor_msgs.msg import PointCloud2

    node = ros.maskomaly(camera_height=[1.5])
    points = ros.listen('/front/anomaly/points', PointCloud2)
    mask = ros.listen('/front/anomaly/mask')
    send(1, **info)
    wait(ros, mask, 1)
    assert reason in places(node)
    assert points.messages == []


def test_nothing_says_where_the_camera_is(ros: Any, send: Any) -> None:
    if 'tf2_ros' in sys.modules:
        pytest.skip('tf2_ros is installed')
    from sensor_msgs.msg import PointCloud2

    node = ros.maskomaly()
    ros.listen('/front/anomaly/points', PointCloud2)
    mask = ros.listen('/front/anomaly/mask')
    send(1)
    wait(ros, mask, 1)
    assert 'neither camera_height nor tf2_ros' in places(node)


def test_places_that_nobody_listens_to_are_not_computed(ros: Any, send: Any) -> None:
    from sensor_msgs.msg import PointCloud2

    node = ros.maskomaly(camera_height=[1.5])
    mask = ros.listen('/front/anomaly/mask')
    send(1)
    wait(ros, mask, 1)
    assert places(node) == 'not asked for'
    assert len(node._cameras[0].refiner._tracker) == 0
    points = ros.listen('/front/anomaly/points', PointCloud2)
    send(2)
    wait(ros, points, 1)
    assert len(node._cameras[0].refiner._tracker) == 1


@pytest.fixture
def tf(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stand in for tf2_ros, which has no wheel: what is known of the camera at which moment."""
    known: dict[str, Any] = {'fails': set(), 'asked': []}

    class TransformException(Exception):  # noqa: N818 (its name)
        pass

    class Buffer:
        def __init__(self, node: Any = None) -> None:
            pass

        def lookup_transform(self, target: str, source: str, time: Any) -> Any:
            known['asked'].append((target, source, time.nanoseconds))
            if time.nanoseconds in known['fails']:
                raise TransformException(f'no {source} at {time.nanoseconds}')
            return SimpleNamespace(
                transform=SimpleNamespace(
                    translation=SimpleNamespace(x=1.0, y=0.0, z=1.75),
                    rotation=SimpleNamespace(x=-0.5, y=0.5, z=-0.5, w=0.5),
                )
            )

    class TransformListener:
        def __init__(self, buffer: Buffer, node: Any, *, spin_thread: bool) -> None:
            assert not spin_thread
            known['listening'] = True

        def unregister(self) -> None:
            known['listening'] = False

    module = ModuleType('tf2_ros')
    vars(module).update(
        Buffer=Buffer,
        TransformException=TransformException,
        TransformListener=TransformListener,
    )
    monkeypatch.setitem(sys.modules, 'tf2_ros', module)
    return known


def test_tf_places_points_in_the_frame_of_the_vehicle(
    ros: Any, send: Any, tf: dict[str, Any]
) -> None:
    from sensor_msgs.msg import PointCloud2

    node = ros.maskomaly(target_frame='base_footprint', ground_height=0.25)
    points = ros.listen('/front/anomaly/points', PointCloud2)
    stamp = send(1)
    message = wait(ros, points, 1)
    assert tf['asked'] == [('base_footprint', 'front_camera', stamp)]
    assert message.header.frame_id == 'base_footprint'
    found = cloud(message)
    np.testing.assert_allclose(found['x'], 1.0 + RANGE, rtol=1e-5)
    np.testing.assert_allclose(found['z'], 0.25, rtol=1e-5)

    tf['fails'].add(2 * SECOND // 10)  # then the newest transform counts
    send(2)
    assert wait(ros, points, 2).header.frame_id == 'base_footprint'
    tf['fails'] |= {3 * SECOND // 10, 0}
    mask = ros.listen('/front/anomaly/mask')
    send(3)
    wait(ros, mask, 1)
    assert 'no transform from front_camera to base_footprint' in places(node)
    assert len(points.messages) == 2
    node.trigger_deactivate()
    node.trigger_cleanup()
    assert tf['listening'] is False


def test_depth_gives_every_pixel_a_place(ros: Any, send: Any) -> None:
    from sensor_msgs.msg import Image, PointCloud2

    node = ros.maskomaly(depth_topics=['/front/depth'], depth_tolerance=0.02, camera_height=[0.0])
    points = ros.listen('/front/anomaly/points', PointCloud2)
    mask = ros.listen('/front/anomaly/mask')
    depths = ros.publisher(Image, '/front/depth')
    ground = node._cameras[0].ground

    def send_depth(stamp: int, metres: float) -> None:
        image = ros.image(stamp)
        millimetres = np.full(SIZE, round(1000 * metres), np.uint16)
        millimetres[70:75] = 0
        depths.publish(
            Image(
                header=image.header, height=SIZE[0], width=SIZE[1], encoding='16UC1',
                step=2 * SIZE[1], data=millimetres.tobytes(),
            )
        )  # fmt: skip
        ros.spin_until(lambda: stamp in dict(ground._depths), 'depth arrived')

    send_depth(SECOND // 10 + 15_000_000, 4.0)
    send_depth(SECOND // 10 + 60_000_000, 9.0)
    send(1)
    found = cloud(wait(ros, points, 1))
    assert len(found) == 5 * 20
    np.testing.assert_allclose(found['z'], 4.0)
    assert np.isnan(found['range_stddev']).all()
    assert 'depth' in places(node)

    wait(ros, mask, 1)
    send(2)  # its depth has not come
    wait(ros, mask, 2)
    assert 'no image of /front/depth is within 0.02 s' in places(node)
    assert len(points.messages) == 1


def test_ids_stop_where_tracking_is_off(ros: Any, send: Any) -> None:
    from sensor_msgs.msg import PointCloud2

    ros.maskomaly(camera_height=[1.5], track_obstacles=False)
    points = ros.listen('/front/anomaly/points', PointCloud2)
    send(1)
    assert set(cloud(wait(ros, points, 1))['id'].tolist()) == {0}


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        ({'camera_height': [1.0, 2.0]}, 'camera_height has 2 entries for 1 camera topics'),
        ({'camera_height': [-1.0]}, 'above the ground'),
        ({'depth_topics': ['/a', '/b']}, 'depth_topics has 2 entries'),
    ],
)
def test_wrong_values_are_refused(ros: Any, options: dict[str, Any], reason: str) -> None:
    from maskomaly_ros.errors import MaskomalyError

    with pytest.raises(MaskomalyError, match=reason):
        ros.maskomaly(start=False, **options)
