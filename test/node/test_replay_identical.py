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

"""What replay writes is what the node publishes, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from maskomaly_ros.ground import POINT
from maskomaly_ros.node.maskomaly_node import load_from_checkpoint
from maskomaly_ros.parameters import read_parameters
from maskomaly_ros.replay.run import ReplayOptions, replay

highlevel = pytest.importorskip('rosbags.highlevel', reason='bags need rosbags')

HEIGHT, WIDTH = 96, 128
NAMES = ('heatmap', 'mask', 'overlay', 'overlay/compressed', 'points')
CAMERAS = ('/front/image_raw', '/rear/image_raw')
REGIONS = {
    'road_regions': ['0,95 40,10 90,10 127,95', ''],
    'ego_regions': ['50,80 70,80 70,95 50,95', '0,0 127,0 127,20 0,20; 0,70 20,70 20,95'],
}
EXPONENTIAL = {'temporal_filter': 'exponential', 'temporal_weight': 0.375}
MEDIAN = {'temporal_filter': 'median', 'temporal_window': 5}
# Much of the picture is below the horizon.
K = [100.0, 0.0, 64.0, 0.0, 100.0, 20.0, 0.0, 0.0, 1.0]
HELD_BACK = {'minimum_obstacle_frames': 3}
# Seconds, with a gap, a jump backwards and a stamp that nobody set.
STAMPS = (10.0, 10.1, 10.2, 10.3, 12.0, 12.1, 12.2, 3.0, 0.0, 0.1, 0.2)


def drive(seed: int) -> list[NDArray[np.uint8]]:
    """Draw a still scene with a square that wanders, and one cut to another scene."""
    random = np.random.default_rng(seed)
    scenes = [
        cv2.resize(random.integers(low, low + 140, (6, 8, 3), np.uint8), (WIDTH, HEIGHT))
        for low in (0, 110)
    ]
    frames = []
    for index in range(len(STAMPS)):
        frame = scenes[index >= 6].copy()
        frame[30:50, 5 * index : 5 * index + 30] = random.integers(0, 256, 3)
        frames.append(frame)
    return frames


def write_bag(path: Path, frames: dict[str, list[NDArray[np.uint8]]]) -> None:
    """Write a bag with the frames of cameras in turn."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    image, types = 'sensor_msgs/msg/Image', store.types
    info = 'sensor_msgs/msg/CameraInfo'
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for camera in CAMERAS:
            topic = camera.replace('image_raw', 'camera_info')
            connection = writer.add_connection(topic, info, typestore=store)
            writer.write(connection, 10**18, store.serialize_cdr(calibration(types), info))
        connections = {t: writer.add_connection(t, image, typestore=store) for t in frames}
        for index, seconds in enumerate(STAMPS):
            stamp = types['builtin_interfaces/msg/Time'](*divmod(round(seconds * 1e9), 10**9))
            header = types['std_msgs/msg/Header'](stamp, 'front_camera')
            for number, (topic, pictures) in enumerate(frames.items()):
                bgr = np.ascontiguousarray(pictures[index][..., ::-1]).reshape(-1)
                message = types[image](header, HEIGHT, WIDTH, 'bgr8', 0, 3 * WIDTH, bgr)
                received_ns = 10**18 + index * 10**8 + number
                writer.write(connections[topic], received_ns, store.serialize_cdr(message, image))


def calibration(types: Any) -> Any:
    """Return a calibration as a message of rosbags."""
    stamp = types['builtin_interfaces/msg/Time'](0, 0)
    header = types['std_msgs/msg/Header'](stamp, 'front_camera')
    roi = types['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False)
    d, r, p = (np.zeros(n) for n in (5, 9, 12))
    return types['sensor_msgs/msg/CameraInfo'](
        header, HEIGHT, WIDTH, 'plumb_bob', d, np.array(K), r, p, 0, 0, roi
    )


def published(bag: Path, camera: str) -> dict[str, list[Any]]:
    """Return our messages in a bag by the name of their topic."""
    found: dict[str, list[Any]] = {name: [] for name in NAMES}
    with highlevel.AnyReader([bag]) as reader:
        for connection, _, data in reader.messages():
            place, _, name = connection.topic.partition('/anomaly/')
            if name and place == camera.removesuffix('/image_raw'):
                found[name].append(reader.deserialize(data, connection.msgtype))
    return found


def arrived(listeners: Sequence[Any], count: int) -> bool:
    return all(len(listener.messages) >= count for listener in listeners)


@pytest.mark.parametrize(
    'steady',
    [
        pytest.param({}, id='plain'),
        pytest.param(REGIONS | EXPONENTIAL, id='regions and exponential'),
        pytest.param(MEDIAN | HELD_BACK, id='median and held back'),
        pytest.param({'average_mirrored': True, 'road_prior': 2.0}, id='options of the score'),
    ],
)
def test_replay_and_node_give_the_same(
    ros: Any, tmp_path: Path, tiny_checkpoint: Path, steady: dict[str, Any]
) -> None:
    """The same parameter file, the same frames: one over DDS, the other from files."""
    from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

    parameters = tmp_path / 'parameters.yaml'
    content = {
        'camera_topics': list(CAMERAS),
        'checkpoint': str(tiny_checkpoint),
        'device': 'cpu',
        'anomalous_queries': [1, 4],
        'obstacle_threshold': 0.625,
        'overlay_opacity': 0.75,
        'jpeg_quality': 60,
        'camera_height': [1.5, 1.2],
        'camera_pitch': [0.0, 0.1],
        'max_range': 200.0,
    }

    def replayed(out: Path, values: dict[str, Any]) -> Path:
        parameters.write_text(yaml.safe_dump({'/**': {'ros__parameters': values}}))
        options = ReplayOptions(
            ('bag',), CAMERAS, bag_topics=NAMES, parameters=read_parameters(parameters)
        )
        summary = replay(tmp_path / 'drive', out, options)
        assert (summary.frames, summary.problems) == (2 * len(STAMPS), ())
        return out / 'bag'

    frames = {camera: drive(seed) for seed, camera in enumerate(CAMERAS, start=5)}
    write_bag(tmp_path / 'drive', frames)
    plain = replayed(tmp_path / 'plain', content)
    bag = replayed(tmp_path / 'out', content | steady)

    node = ros.maskomaly(
        *CAMERAS,
        arguments=['--params-file', str(parameters)],
        load_detector=load_from_checkpoint,
        start=False,
    )
    node.autostart()
    kinds = {name: CompressedImage if 'compressed' in name else Image for name in NAMES}
    kinds['points'] = PointCloud2
    listeners = {
        (camera, name): ros.listen(camera.replace('image_raw', f'anomaly/{name}'), kind)
        for camera in CAMERAS
        for name, kind in kinds.items()
    }
    drivers = {camera: ros.camera(camera, reliable=True) for camera in CAMERAS}
    infos = [ros.publisher(CameraInfo, c.replace('image_raw', 'camera_info')) for c in CAMERAS]
    for info, camera in zip(infos, node._cameras, strict=True):
        info.publish(CameraInfo(height=HEIGHT, width=WIDTH, distortion_model='plumb_bob', k=K))
        arrives = partial(getattr, camera.calibration, 'newest')
        ros.spin_until(arrives, 'the calibration arrived')
    ids: set[int] = set()
    for index, seconds in enumerate(STAMPS):
        for camera, driver in drivers.items():
            driver.publish(ros.image(round(seconds * 1e9), frames[camera][index]))
            mine = [listener for key, listener in listeners.items() if key[0] == camera]
            ros.spin_until(partial(arrived, mine, index + 1), f'{camera} {index}')
    changed = 0
    for camera in CAMERAS:
        offline, before = published(bag, camera), published(plain, camera)
        for name in NAMES:
            live = listeners[camera, name].messages
            assert len(live) == len(offline[name]) == len(STAMPS)
            for here, there in zip(live, offline[name], strict=True):
                assert bytes(here.data) == bytes(there.data), name
                same = ['height', 'width', 'is_bigendian']
                same += ['row_step', 'point_step'] if name == 'points' else ['encoding', 'step']
                same = ['format'] if 'compressed' in name else same
                assert all(getattr(here, field) == getattr(there, field) for field in same)
        changed += sum(
            bytes(a.data) != bytes(b.data)
            for name in ('heatmap', 'mask')
            for a, b in zip(offline[name], before[name], strict=True)
        )
        assert len({bytes(m.data) for m in offline['heatmap']}) > 1  # not all alike
        for message in offline['points']:
            ids |= set(np.frombuffer(bytes(message.data), POINT)['id'].tolist())
    assert ids, 'obstacles are there, with the same ids live and offline'
    assert 0 not in ids
    assert bool(changed) is bool(steady)
