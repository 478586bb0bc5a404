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

"""A vehicle without ROS: messages as they are on the wire, and a recorder whose clock we turn."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from maskomaly_ros.recorder.catalogue import Catalogue
from maskomaly_ros.recorder.decoding import typestore
from maskomaly_ros.recorder.recorder import EventRecorder
from maskomaly_ros.recorder.settings import TABLE, Settings, settings_of
from maskomaly_ros.recorder.writing import Topic
from maskomaly_ros.topics import outputs_of

START = 1_760_000_000_000_000_000
SECOND = 10**9
CAMERA = '/front/image_raw'
IMAGE, COMPRESSED, TEXT = (
    'sensor_msgs/msg/Image',
    'sensor_msgs/msg/CompressedImage',
    'std_msgs/msg/String',
)
HEIGHT, WIDTH = 48, 64
RED = (220, 10, 10)
BLUE = (20, 20, 220)


def serialize(message: Any) -> bytes:
    """Return a message of rosbags as it is on the wire."""
    return bytes(typestore().serialize_cdr(message, message.__msgtype__))


def header(stamp_ns: int, frame_id: str = 'front_camera') -> Any:
    types = typestore().types
    stamp = types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, SECOND))
    return types['std_msgs/msg/Header'](stamp, frame_id)


def image(pixels: NDArray[Any], stamp_ns: int, encoding: str) -> bytes:
    """Serialize an image message."""
    data = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    height, width = pixels.shape[:2]
    step = data.nbytes // height
    return serialize(
        typestore().types[IMAGE](header(stamp_ns), height, width, encoding, 0, step, data)
    )


def jpeg(pixels: NDArray[np.uint8], stamp_ns: int) -> bytes:
    """Serialize a compressed picture, RGB."""
    _, data = cv2.imencode('.jpg', np.ascontiguousarray(pixels[..., ::-1]))
    message = typestore().types[COMPRESSED](header(stamp_ns), 'jpeg', data.reshape(-1))
    return serialize(message)


def text(words: str) -> bytes:
    return serialize(typestore().types[TEXT](words))


def road(
    box: tuple[int, int, int, int] | None = None, color: tuple[int, int, int] = RED
) -> NDArray[np.uint8]:
    """Draw a grey picture, RGB, with something in a box x, y, width, height."""
    picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    if box is not None:
        x, y, width, height = box
        picture[y : y + height, x : x + width] = color
    return picture


class Vehicle:
    """Messages by the clock of a test, handed to a recorder that is stepped by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 0.0
        self.recorder: EventRecorder = None  # type: ignore[assignment]
        self.sent: list[tuple[str, int, bytes]] = []

    @property
    def received_ns(self) -> int:
        return START + round(self.now * SECOND)

    def settings(self, **values: Any) -> Settings:
        """Return settings as parameters make them; by default small times, and no novelty."""
        given = {name: row.default for name, row in TABLE.items()}
        given |= {
            'camera_topics': [CAMERA],
            'folder': str(self.folder),
            'pre_roll': 2.0,
            'post_roll': 1.0,
            'max_length': 10.0,
            'obstacle_source': 'mask',
            'novelty_threshold': 0.0,
            'keep_free': 0,
        }
        return settings_of({**given, **values})

    def start(self, novelty: Any = None, condition: Any = None, **values: Any) -> EventRecorder:
        """Make a recorder; it runs when it is stepped."""
        catalogue = Catalogue(self.folder)
        catalogue.prepare()
        self.catalogue = catalogue
        self.recorder = EventRecorder(
            self.settings(**values), catalogue, novelty, condition,
            clock=lambda: round(self.now * SECOND),
        )  # fmt: skip
        place = outputs_of(CAMERA)
        for name, kind in (
            (CAMERA, IMAGE), (f'{place}/mask', IMAGE), (f'{place}/heatmap', IMAGE),
            ('/text', TEXT),
        ):  # fmt: skip
            self.recorder.know(Topic(name, kind))
        self.recorder.know(Topic('/map', TEXT, is_latched=True))
        return self.recorder

    def send(self, topic: str, data: bytes) -> None:
        self.sent.append((topic, self.received_ns, data))
        self.recorder.receive(topic, data, self.received_ns)

    def frame(
        self,
        box: tuple[int, int, int, int] | None = None,
        color: tuple[int, int, int] = RED,
        score: float = 0.9,
    ) -> None:
        """Send a frame and what the node makes of it."""
        place, stamp = outputs_of(CAMERA), self.received_ns
        picture = road(box, color)
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        if box is not None:
            x, y, width, height = box
            mask[y : y + height, x : x + width] = 255
        self.send(CAMERA, image(picture, stamp, 'rgb8'))
        self.send(f'{place}/mask', image(mask, stamp, 'mono8'))
        heat = np.where(mask > 0, np.float32(score), np.float32(0.1))
        self.send(f'{place}/heatmap', image(heat, stamp, '32FC1'))

    def drive(
        self,
        seconds: float,
        box: tuple[int, int, int, int] | None = None,
        color: tuple[int, int, int] = RED,
        score: float = 0.9,
        rate: float = 10.0,
    ) -> None:
        """Let time pass, with frames and a text each time."""
        for _ in range(round(seconds * rate)):
            self.now = round(self.now + 1 / rate, 6)
            self.frame(box, color, score)
            self.send('/text', text(f'{self.now:.3f}'))
            self.recorder.step()

    def between(self, begin: float, end: float) -> list[tuple[str, int, bytes]]:
        """Return what was sent from one time to another, both included."""
        first, last = (START + round(t * SECOND) for t in (begin, end))
        return [m for m in self.sent if first <= m[1] <= last]


def read_bag(folder: Path) -> list[tuple[str, int, bytes]]:
    """Return the messages of a bag as rosbags reads them."""
    from rosbags.rosbag2 import Reader

    with Reader(folder) as reader:
        return [(c.topic, t, bytes(data)) for c, t, data in reader.messages()]


def by_time(messages: Iterable[tuple[str, int, bytes]]) -> list[tuple[str, int, bytes]]:
    """Return messages in an order that does not depend on a reader."""
    return sorted(messages, key=lambda m: (m[1], m[0], m[2]))


@pytest.fixture
def vehicle(tmp_path: Path) -> Vehicle:
    pytest.importorskip('rosbags', reason='bags need rosbags')
    pytest.importorskip('pyarrow', reason='tables need pyarrow')
    return Vehicle(tmp_path / 'events')
