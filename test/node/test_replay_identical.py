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

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from maskomaly_ros.node.maskomaly_node import _load_from_checkpoint
from maskomaly_ros.parameters import read_parameters
from maskomaly_ros.replay.run import ReplayOptions, replay

highlevel = pytest.importorskip('rosbags.highlevel', reason='bags need rosbags')

COUNT = 3
NAMES = ('heatmap', 'mask', 'overlay', 'overlay/compressed')


def arrived(listener: Any, count: int) -> bool:
    return len(listener.messages) >= count


def test_replay_and_node_give_the_same(ros: Any, tmp_path: Path, tiny_checkpoint: Path) -> None:
    """The same parameter file, the same frames: one over DDS, the other from files."""
    from sensor_msgs.msg import CompressedImage, Image

    parameters = tmp_path / 'parameters.yaml'
    content = {
        'camera_topics': ['/front/image_raw'],
        'checkpoint': str(tiny_checkpoint),
        'device': 'cpu',
        'anomalous_queries': [1, 4],
        'obstacle_threshold': 0.625,
        'overlay_opacity': 0.75,
        'jpeg_quality': 60,
        'heatmap_encoding': '32FC1',
    }
    parameters.write_text(yaml.safe_dump({'/**': {'ros__parameters': content}}))
    random = np.random.default_rng(5)
    frames = [
        cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), (128, 96)) for _ in range(COUNT)
    ]
    folder = tmp_path / 'frames'
    folder.mkdir()
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f'{index}.png'), frame[..., ::-1])
    options = ReplayOptions(('bag',), bag_topics=NAMES, parameters=read_parameters(parameters))
    summary = replay(folder, tmp_path / 'out', options)
    assert (summary.frames, summary.problems) == (COUNT, ())
    offline: dict[str, list[Any]] = {name: [] for name in NAMES}
    with highlevel.AnyReader([tmp_path / 'out' / 'bag']) as reader:
        for connection, _, data in reader.messages():
            if '/anomaly/' in connection.topic:
                name = connection.topic.removeprefix('/front/anomaly/')
                offline[name].append(reader.deserialize(data, connection.msgtype))

    ros.maskomaly(
        arguments=['--params-file', str(parameters)],
        load_detector=_load_from_checkpoint,
        start=False,
    ).autostart()
    kinds = {name: CompressedImage if 'compressed' in name else Image for name in NAMES}
    listeners = {n: ros.listen(f'/front/anomaly/{n}', kind) for n, kind in kinds.items()}
    camera = ros.camera('/front/image_raw', reliable=True)
    for index, frame in enumerate(frames):
        camera.publish(ros.image(index + 1, frame))
        for name, listener in listeners.items():
            ros.spin_until(partial(arrived, listener, index + 1), f'{name} {index}')
    for name, listener in listeners.items():
        assert len(listener.messages) == len(offline[name]) == COUNT
        for live, stored in zip(listener.messages, offline[name], strict=True):
            assert bytes(live.data) == bytes(stored.data), name
            if name != 'overlay/compressed':
                for field in ('height', 'width', 'encoding', 'step', 'is_bigendian'):
                    assert getattr(live, field) == getattr(stored, field)
            else:
                assert live.format == stored.format
    assert len({bytes(m.data) for m in offline['heatmap']}) == COUNT  # not all alike
