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

"""Tests of maskomaly_ros.node.messages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip('rclpy')

from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from maskomaly_ros import encodings, interfaces
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.node import messages
from maskomaly_ros.obstacles import Obstacle, find_components

LIMIT = 1_000_000
HEADER = Header(stamp=Time(sec=3, nanosec=4), frame_id='front')
PICTURE = np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8)


def pixels(message: Image, dtype: Any = np.uint8) -> NDArray[Any]:
    """Read an image as any other program would, by its fields alone."""
    rows = np.frombuffer(bytes(message.data), np.uint8).reshape(message.height, message.step)
    shape = (message.height, message.width, 3) if message.encoding == 'bgr8' else (6, 10)
    return rows.view(dtype).reshape(shape)


def through_dds(message: Any) -> Any:
    """Return what a subscriber gets."""
    return deserialize_message(serialize_message(message), type(message))


def test_heatmap_in_both_encodings() -> None:
    score = np.linspace(0, 1, 60, dtype=np.float32).reshape(6, 10)
    message = through_dds(messages.to_ros(interfaces.heatmap_message(score, '32FC1', HEADER)))
    assert (message.encoding, message.step, message.header) == ('32FC1', 40, HEADER)
    np.testing.assert_array_equal(pixels(message, np.float32), score)
    message = through_dds(messages.to_ros(interfaces.heatmap_message(score, 'mono8', HEADER)))
    assert (message.encoding, message.step, message.header) == ('mono8', 10, HEADER)
    np.testing.assert_array_equal(pixels(message), np.rint(score * 255))


def test_mask() -> None:
    mask = np.where(PICTURE[..., 0] > 100, 255, 0).astype(np.uint8)
    for layout in (mask, np.asfortranarray(mask)):
        message = through_dds(messages.to_ros(interfaces.mask_message(layout, HEADER)))
        assert (message.encoding, message.is_bigendian) == ('mono8', 0)
        np.testing.assert_array_equal(pixels(message), mask)


def test_picture_is_bgr_on_the_topic() -> None:
    message = through_dds(messages.picture_message(PICTURE, HEADER))
    assert (message.encoding, message.height, message.width, message.step) == ('bgr8', 6, 10, 30)
    np.testing.assert_array_equal(pixels(message), PICTURE[..., ::-1])


def test_jpeg() -> None:
    smooth = cv2.resize(PICTURE, (60, 40), interpolation=cv2.INTER_CUBIC)
    fine = through_dds(messages.jpeg_message(smooth, 100, HEADER))
    coarse = messages.jpeg_message(smooth, 10, HEADER)
    assert fine.header == HEADER
    assert 'jpeg' in fine.format
    assert len(coarse.data) < len(fine.data)
    decoded = cv2.imdecode(np.frombuffer(bytes(fine.data), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded[..., ::-1].astype(int) - smooth).mean() < 4


def test_decodes_what_it_encodes() -> None:
    serialized = serialize_message(messages.picture_message(PICTURE, HEADER))
    header, picture = messages.decode_frame(serialized, is_compressed=False, max_pixels=LIMIT)
    assert header == HEADER
    np.testing.assert_array_equal(picture, PICTURE)
    smooth = np.full((16, 16, 3), (200, 60, 20), np.uint8)
    serialized = serialize_message(messages.jpeg_message(smooth, 95, HEADER))
    header, picture = messages.decode_frame(serialized, is_compressed=True, max_pixels=LIMIT)
    assert header == HEADER
    assert np.abs(picture.astype(int) - smooth).max() < 6


@pytest.mark.parametrize('is_compressed', [False, True])
@pytest.mark.parametrize('serialized', [b'', b'\x00\x01\x00\x00', b'\xff' * 40])
def test_rubbish_is_no_message(serialized: bytes, is_compressed: bool) -> None:
    with pytest.raises(MaskomalyError):
        messages.decode_frame(serialized, is_compressed=is_compressed, max_pixels=LIMIT)


def test_a_message_cut_short_is_refused() -> None:
    serialized = serialize_message(messages.picture_message(PICTURE, HEADER))
    with pytest.raises(MaskomalyError):
        messages.decode_frame(serialized[:-20], is_compressed=False, max_pixels=LIMIT)


@pytest.mark.parametrize('encoding', encodings.ENCODINGS)
def test_every_encoding_in_a_real_message(encoding: str) -> None:
    random = np.random.default_rng(1)
    message = Image(height=6, width=8, encoding=encoding, step=8 * 8)
    message.data.frombytes(random.integers(0, 256, 9 * 64, np.uint8).tobytes())
    expected = encodings.decode_image(message, max_pixels=LIMIT)
    received = through_dds(message)
    np.testing.assert_array_equal(messages.decode_image(received, max_pixels=LIMIT), expected)
    message.step = encodings.check_image(message, max_pixels=LIMIT)  # and without padding
    expected = encodings.decode_image(message, max_pixels=LIMIT)
    np.testing.assert_array_equal(messages.decode_image(message, max_pixels=LIMIT), expected)


class RecordingBridge:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def imgmsg_to_cv2(self, message: Image, desired_encoding: str) -> NDArray[np.uint8]:
        assert desired_encoding == 'rgb8'
        self.asked.append(message.encoding)
        return encodings.decode_image(message, max_pixels=LIMIT)


def test_cv_bridge_is_asked_only_for_what_it_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = RecordingBridge()
    monkeypatch.setattr(messages, '_CV_BRIDGE', bridge)

    def decode(**fields: Any) -> None:
        message = messages.picture_message(PICTURE, HEADER)
        for name, value in fields.items():
            setattr(message, name, value)
        messages.decode_image(message, max_pixels=LIMIT)

    decode()
    assert bridge.asked == ['bgr8']
    decode(encoding='8UC3')  # no colour to cv_bridge
    decode(width=9)  # 27 bytes in rows of 30
    decode(is_bigendian=1)
    assert bridge.asked == ['bgr8']
    with pytest.raises(MaskomalyError, match='need 210 bytes'):
        decode(height=7)
    assert bridge.asked == ['bgr8']


OBSTACLES = (
    Obstacle(x=4, y=10, width=6, height=3, area=12, mean_score=0.75, max_score=0.9),
    Obstacle(x=0, y=0, width=1, height=1, area=1, mean_score=0.5, max_score=0.5),
)


def check_obstacles(message: Any) -> None:
    assert message.header == HEADER
    first, second = message.detections
    assert first.header == HEADER
    assert (first.bbox.center.position.x, first.bbox.center.position.y) == (7.0, 11.5)
    assert (first.bbox.size_x, first.bbox.size_y) == (6.0, 3.0)
    assert first.results[0].hypothesis.class_id == 'obstacle'
    assert first.results[0].hypothesis.score == 0.75
    assert (second.bbox.center.position.x, second.bbox.size_x) == (0.5, 1.0)


def test_obstacles() -> None:
    pytest.importorskip('vision_msgs', reason='vision_msgs: run in a ROS distribution that has it')
    check_obstacles(through_dds(messages.to_ros(interfaces.obstacles_message(OBSTACLES, HEADER))))


def record(name: str, *fields: str, **defaults: Any) -> type:
    """Make a class with the fields of a message."""

    def fill(self: Any) -> None:
        for field, default in defaults.items():
            setattr(self, field, default())

    return type(name, (), {'__slots__': (*fields, *defaults), '__init__': fill})


def install(monkeypatch: pytest.MonkeyPatch, package: str, *kinds: type) -> None:
    """Let a package of messages be there that is not."""
    module = ModuleType(f'{package}.msg')
    for kind in kinds:
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, package, ModuleType(package))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    messages.message_class.cache_clear()


@pytest.fixture
def forget() -> Iterator[None]:
    yield
    messages.message_class.cache_clear()


@pytest.mark.usefixtures('forget')
def test_fields_of_vision_msgs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where vision_msgs is not installed, against classes with the fields of its version 4."""
    point = record('Point2D', 'x', 'y')
    pose = record('Pose2D', 'theta', position=point)
    box = record('BoundingBox2D', 'size_x', 'size_y', center=pose)
    hypothesis = record('ObjectHypothesis', 'class_id', 'score')
    result = record('ObjectHypothesisWithPose', 'pose', hypothesis=hypothesis)
    detection = record('Detection2D', 'header', 'id', results=list, bbox=box)
    array = record('Detection2DArray', 'header', detections=list)
    entry = record('VisionClass', 'class_id', 'class_name')
    info = record('LabelInfo', 'header', 'threshold', class_map=list)
    kinds = (point, pose, box, hypothesis, result, detection, array, entry, info)
    install(monkeypatch, 'vision_msgs', *kinds)
    message = messages.to_ros(interfaces.obstacles_message(OBSTACLES, HEADER))
    check_obstacles(message)
    assert [d.id for d in message.detections] == ['', '']
    followed = [replace(OBSTACLES[0], id=12)]
    message = messages.to_ros(interfaces.obstacles_message(followed, HEADER))
    assert message.detections[0].id == '12'

    message = messages.to_ros(interfaces.label_info_message(HEADER, 0.75))
    found = {e.class_id: e.class_name for e in message.class_map}
    assert found == {0: 'ordinary', 255: 'obstacle'}
    assert message.threshold == 0.75


def test_a_package_that_is_missing_has_no_classes() -> None:
    assert messages.message_class('no_such_msgs/msg/Thing') is None
    with pytest.raises(MaskomalyError, match='no_such_msgs/msg/Thing is not installed'):
        messages.to_ros(interfaces.Message('no_such_msgs/msg/Thing', {}))


@pytest.mark.usefixtures('forget')
def test_fields_of_foxglove_msgs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outlines go around the obstacle, and the text has id, range and score."""
    kinds = (
        record('Point2', 'x', 'y'),
        record('Color', 'r', 'g', 'b', 'a'),
        record(
            'PointsAnnotation', 'timestamp', 'type', 'outline_color', 'fill_color', 'thickness',
            points=list, outline_colors=list,
        ),
        record(
            'TextAnnotation', 'timestamp', 'position', 'text', 'font_size', 'text_color',
            'background_color',
        ),
        record('ImageAnnotations', circles=list, points=list, texts=list),
    )  # fmt: skip
    install(monkeypatch, 'foxglove_msgs', *kinds)
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 30:50] = 255
    components = find_components(np.float32(0.75) * (mask > 0), mask)
    known = replace(components.obstacles[0], id=3, range=12.34)
    message = messages.to_ros(
        interfaces.annotations_message(components.chosen([known]), HEADER.stamp)
    )
    (outline,), (text,) = message.points, message.texts
    assert {(p.x, p.y) for p in outline.points} == {(30, 10), (49, 10), (49, 19), (30, 19)}
    assert (outline.type, outline.timestamp) == (2, HEADER.stamp)
    assert (text.text, text.position.x, text.position.y) == ('#3 12.3 m 0.75', 30, 10)
