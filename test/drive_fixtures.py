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

"""Bags to replay, and a network whose results are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_networks import RedIsAnomalous

from maskomaly_ros.detector import Detector, DetectorConfig
from maskomaly_ros.networks import MaskPrediction
from maskomaly_ros.scoring import ScoringParameters

HEIGHT, WIDTH = 48, 64
START = 1_700_000_000_000_000_000
RAW, COMPRESSED, TEXT = (
    'sensor_msgs/msg/Image',
    'sensor_msgs/msg/CompressedImage',
    'std_msgs/msg/String',
)


@dataclass
class FailingNetwork(RedIsAnomalous):
    """Fails at calls of some numbers."""

    seen: int = 0
    failing: frozenset[int] = frozenset()

    def predict(self, frames: Sequence[NDArray[np.uint8]]) -> MaskPrediction:
        self.seen += 1
        if self.seen - 1 in self.failing:
            raise RuntimeError('no memory left')
        return super().predict(frames)


@pytest.fixture
def detector() -> Detector:
    """Return a detector that finds what is red."""
    return Detector(FailingNetwork(), DetectorConfig(ScoringParameters((1,)), 0.5))  # type: ignore[arg-type]


def picture(index: int) -> NDArray[np.uint8]:
    """Draw a grey RGB picture with a red box that moves to the right; none in every tenth."""
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    if index % 10 != 9:
        left = 2 + 2 * (index % 10)
        image[10:26, left : left + 18] = (220, 10, 10)
    return image


class Bags:
    """Writes bags with a raw camera, a compressed camera and a topic of texts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(
        self,
        name: str = 'drive',
        kind: str = 'mcap',
        count: int = 20,
        first: int = 0,
        change: Callable[[int, str, bytes], bytes] | None = None,
        noise: int = 0,
        enlarge: int = 1,
    ) -> Path:
        """Write a bag of as many frames of each camera.

        Args:
            name: of the folder or file.
            kind: `mcap`, `sqlite3` or `ros1`, and what compresses it: `zstd`, `file`, `storage`.
            count: frames of each camera.
            first: number of the first one.
            change: returns what to write in place of a serialized message.
            noise: bytes that go into each text, to fill chunks.
            enlarge: how often each pixel of the compressed camera is repeated in both directions.

        """
        from rosbags import rosbag1, rosbag2
        from rosbags.typesys import Stores, get_typestore

        path = self.folder / name
        is_ros1 = kind == 'ros1'
        store = get_typestore(Stores.ROS1_NOETIC if is_ros1 else Stores.ROS2_JAZZY)
        writer: Any
        if is_ros1:
            writer = rosbag1.Writer(path)
        else:
            plugins = rosbag2.StoragePlugin
            plugin = plugins.MCAP if 'mcap' in kind else plugins.SQLITE3
            writer = rosbag2.Writer(path, version=9, storage_plugin=plugin)
            modes = rosbag2.CompressionMode
            chosen = {'zstd': modes.MESSAGE, 'file': modes.FILE, 'storage': modes.STORAGE}
            for word, mode in chosen.items():
                if word in kind:
                    writer.set_compression(mode, rosbag2.CompressionFormat.ZSTD)
        serialize = store.serialize_ros1 if is_ros1 else store.serialize_cdr
        random = np.random.default_rng(0)
        with writer:
            connections = {
                topic: writer.add_connection(topic, msgtype, typestore=store)
                for topic, msgtype in (
                    ('/chatter', TEXT),
                    ('/front/image_raw', RAW),
                    ('/rear/image_raw/compressed', COMPRESSED),
                )
            }

            def put(index: int, topic: str, offset_ns: int, message: Any) -> None:
                connection = connections[topic]
                data = bytes(serialize(message, connection.msgtype))
                received_ns = START + index * 100_000_000 + offset_ns
                writer.write(
                    connection, received_ns, change(index, topic, data) if change else data
                )

            for index in range(first, first + count):
                text = f'{index} ' + random.bytes(noise // 2).hex()
                put(index, '/chatter', 0, store.types[TEXT](text))
                header = self._header(store, START + index * 100_000_000, 'front_camera')
                pixels = picture(index).reshape(-1)
                raw = store.types[RAW](header, HEIGHT, WIDTH, 'rgb8', 0, 3 * WIDTH, pixels)
                put(index, '/front/image_raw', 7_000_000, raw)
                header = self._header(store, START + index * 100_000_000 + 1, 'rear_camera')
                large = np.kron(
                    picture(index)[..., ::-1], np.ones((enlarge, enlarge, 1), np.uint8)
                )
                png = cv2.imencode('.png', large)[1].reshape(-1)
                put(
                    index,
                    '/rear/image_raw/compressed',
                    8_000_000,
                    store.types[COMPRESSED](header, 'png', png),
                )
        return path

    @staticmethod
    def _header(store: Any, stamp_ns: int, frame_id: str) -> Any:
        make = store.types['std_msgs/msg/Header']
        extra = {'seq': 0} if 'seq' in make.__dataclass_fields__ else {}
        stamp = store.types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10**9))
        return make(stamp=stamp, frame_id=frame_id, **extra)


@pytest.fixture
def bags(tmp_path: Path) -> Bags:
    """Write bags into the folder of the test."""
    pytest.importorskip('rosbags', reason='bags need rosbags')
    return Bags(tmp_path)
