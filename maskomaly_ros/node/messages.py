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

"""Camera messages to pictures, and results to messages.

Pictures are RGB in here and BGR on topics, as viewers expect them.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from maskomaly_ros import encodings, interfaces
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.interfaces import Message

# What every version of cv_bridge converts to colour.
_CV_BRIDGE_ENCODINGS = frozenset(
    ['rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', 'mono16']
    + [f'bayer_{pattern}8' for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')]
)


def decode_frame(
    serialized: bytes, *, is_compressed: bool, max_pixels: int
) -> tuple[Header, NDArray[np.uint8]]:
    """Return the header and the picture of a serialized camera message.

    Args:
        serialized: a `sensor_msgs/Image`, or a `sensor_msgs/CompressedImage`.
        is_compressed: which of the two.
        max_pixels: larger pictures are refused.

    Returns:
        The header, and RGB uint8 [H, W, 3].

    Raises:
        MaskomalyError: it is no such message, or it holds no picture that can be used.

    """
    message_type = CompressedImage if is_compressed else Image
    try:
        message = deserialize_message(serialized, message_type)
    except Exception as error:  # of a kind that depends on where the bytes stop making sense
        raise MaskomalyError(
            f'{len(serialized)} bytes are no {message_type.__name__}: {error}'
        ) from error
    if is_compressed:
        return message.header, encodings.decode_compressed(message, max_pixels=max_pixels)
    return message.header, decode_image(message, max_pixels=max_pixels)


def decode_image(message: Image, *, max_pixels: int) -> NDArray[np.uint8]:
    """Return the picture of an image message, RGB uint8 [H, W, 3].

    cv_bridge converts it where it works: not under NumPy 2, nor rows padded by a part of a pixel.
    The result is the same.

    Raises:
        MaskomalyError: see `encodings.decode_image`.

    """
    if _CV_BRIDGE is not None and message.encoding in _CV_BRIDGE_ENCODINGS:
        row_bytes = encodings.check_image(message, max_pixels=max_pixels)
        if message.step == row_bytes and not message.is_bigendian:
            picture: NDArray[np.uint8] = _CV_BRIDGE.imgmsg_to_cv2(message, 'rgb8')
            return picture
    return encodings.decode_image(message, max_pixels=max_pixels)


def picture_message(picture: NDArray[np.uint8], header: Header) -> Image:
    """Return a picture, RGB uint8 [H, W, 3], as a `bgr8` image."""
    message: Image = to_ros(interfaces.picture_message(picture, header))
    return message


def jpeg_message(picture: NDArray[np.uint8], quality: int, header: Header) -> CompressedImage:
    """Return a picture, RGB uint8 [H, W, 3], as a JPEG of quality 1 to 100."""
    message: CompressedImage = to_ros(interfaces.jpeg_message(picture, quality, header))
    return message


@functools.cache
def message_class(name: str) -> type | None:
    """Return the class of a type such as `std_msgs/msg/Header`; None if it is not installed."""
    package, _, kind = name.split('/')
    try:
        found: type | None = getattr(importlib.import_module(f'{package}.msg'), kind, None)
    except ImportError:
        return None
    return found


def to_ros(message: Message) -> Any:
    """Return a message of rclpy with the fields of ours.

    Raises:
        MaskomalyError: its package is not installed.

    """
    kind = message_class(message.type)
    if kind is None:
        raise MaskomalyError(f'{message.type} is not installed')
    filled = kind()
    for name, value in message.fields.items():
        if isinstance(value, bytes | np.ndarray):
            # Assigning converts or checks byte by byte, a hundred times slower.
            pixels: Any = value
            getattr(filled, name).frombytes(memoryview(pixels).cast('B'))
        else:
            setattr(filled, name, _converted(value))
    return filled


def _converted(value: Any) -> Any:
    if isinstance(value, Message):
        return to_ros(value)
    return [_converted(item) for item in value] if isinstance(value, list) else value


def _working_cv_bridge() -> Any:
    """Return a CvBridge that was seen to work, else None."""
    try:
        from cv_bridge import CvBridge

        bridge = CvBridge()
        probe = picture_message(np.array([[[1, 2, 3]]], np.uint8), Header())
        works = bridge.imgmsg_to_cv2(probe, 'rgb8').tolist() == [[[1, 2, 3]]]
    except Exception:  # its compiled half, built for another NumPy, fails in many ways
        return None
    return bridge if works else None


_CV_BRIDGE = _working_cv_bridge()
