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

"""Pictures from image messages, without ROS.

Takes any object with the fields of `sensor_msgs/Image` or `sensor_msgs/CompressedImage`, whether
it comes from rclpy or from a bag. Messages are checked before memory is allocated for them. The
pixels equal those of cv_bridge for `rgb8`.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError


class ImageMessage(Protocol):
    """Fields of `sensor_msgs/Image`; data is anything with the buffer protocol."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class CompressedImageMessage(Protocol):
    """Fields of `sensor_msgs/CompressedImage`; data is anything with the buffer protocol."""

    format: str
    data: Any


@dataclass(frozen=True)
class _Encoding:
    """How the samples of an encoding lie in memory and become RGB.

    Attributes:
        channels: samples per pixel in a row of data.
        code: OpenCV's colour conversion to RGB; None where there is nothing to convert.
        sample_bytes: 1, or 2 where samples reach to 65535.
        half_rows: rows of data for every two rows of pixels; colour planes lie below the grey one.
        multiple: width and height must be multiples of these where pixels share a colour.

    """

    channels: int
    code: int | None
    sample_bytes: int = 1
    half_rows: int = 2
    multiple: tuple[int, int] = (1, 1)


# OpenCV names a Bayer pattern in its older constants after the second row; these are the newer
# ones, which agree with ROS: bayer_rggb8 begins with red, green.
_BAYER = {
    'rggb': cv2.COLOR_BayerRGGB2RGB,
    'bggr': cv2.COLOR_BayerBGGR2RGB,
    'gbrg': cv2.COLOR_BayerGBRG2RGB,
    'grbg': cv2.COLOR_BayerGRBG2RGB,
}
_ENCODINGS = {
    'rgb8': _Encoding(3, None),
    'bgr8': _Encoding(3, cv2.COLOR_BGR2RGB),
    'rgba8': _Encoding(4, cv2.COLOR_RGBA2RGB),
    'bgra8': _Encoding(4, cv2.COLOR_BGRA2RGB),
    'mono8': _Encoding(1, cv2.COLOR_GRAY2RGB),
    'rgb16': _Encoding(3, None, 2),
    'bgr16': _Encoding(3, cv2.COLOR_BGR2RGB, 2),
    'rgba16': _Encoding(4, cv2.COLOR_RGBA2RGB, 2),
    'bgra16': _Encoding(4, cv2.COLOR_BGRA2RGB, 2),
    'mono16': _Encoding(1, cv2.COLOR_GRAY2RGB, 2),
    **{f'bayer_{pattern}8': _Encoding(1, code) for pattern, code in _BAYER.items()},
    **{f'bayer_{pattern}16': _Encoding(1, code, 2) for pattern, code in _BAYER.items()},
    'uyvy': _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, multiple=(2, 1)),
    'yuv422': _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, multiple=(2, 1)),
    'yuyv': _Encoding(2, cv2.COLOR_YUV2RGB_YUYV, multiple=(2, 1)),
    'yuv422_yuy2': _Encoding(2, cv2.COLOR_YUV2RGB_YUYV, multiple=(2, 1)),
    'nv12': _Encoding(1, cv2.COLOR_YUV2RGB_NV12, half_rows=3, multiple=(2, 2)),
    'nv21': _Encoding(1, cv2.COLOR_YUV2RGB_NV21, half_rows=3, multiple=(2, 2)),
    # Untyped: what OpenCV programs publish, so colour is in OpenCV's order.
    '8UC1': _Encoding(1, cv2.COLOR_GRAY2RGB),
    '8UC3': _Encoding(3, cv2.COLOR_BGR2RGB),
    '8UC4': _Encoding(4, cv2.COLOR_BGRA2RGB),
    '16UC1': _Encoding(1, cv2.COLOR_GRAY2RGB, 2),
}
ENCODINGS = tuple(_ENCODINGS)

# Progressive pictures have about ten. Each costs a pass over the whole picture, and a few bytes.
_MOST_SCANS = 50
_NOT_FILL = re.compile(rb'[^\xff]|\Z')
# Reserved, restarts, begin and end: two bytes that may not stand before the frame header.
_WITHOUT_LENGTH = frozenset((0x00, 0x01, *range(0xD0, 0xDA)))


def decode_image(message: ImageMessage, *, max_pixels: int) -> NDArray[np.uint8]:
    """Return the picture of an image message.

    Args:
        message: one of `ENCODINGS`; rows may be padded, 16-bit samples may be big-endian. They are
            scaled to 8 bits by 255 / 65535.
        max_pixels: larger pictures are refused.

    Returns:
        RGB uint8 [H, W, 3], contiguous; for `rgb8` without padding a view of the message's data.

    Raises:
        MaskomalyError: the encoding is unknown, the picture is empty or too large, or the data
            does not hold it.

    """
    row_bytes = check_image(message, max_pixels=max_pixels)
    encoding = _ENCODINGS[message.encoding]
    rows = message.height * encoding.half_rows // 2
    data = np.frombuffer(message.data, np.uint8, count=rows * message.step)
    samples: NDArray[Any] = data.reshape(rows, message.step)[:, :row_bytes]
    if encoding.sample_bytes == 2:
        stored = samples.view('>u2' if message.is_bigendian else '<u2')
        samples = np.require(
            stored, np.uint16, ['C', 'A']
        )  # OpenCV misreads rows at odd addresses
    if encoding.channels > 1:
        samples = samples.reshape(rows, message.width, encoding.channels)
    if encoding.code is not None:
        samples = cv2.cvtColor(samples, encoding.code)
    if encoding.sample_bytes == 2:
        samples = cv2.convertScaleAbs(samples, alpha=255 / 65535)
    return np.ascontiguousarray(samples)


def check_image(message: ImageMessage, *, max_pixels: int) -> int:
    """Check that decode_image can decode a message, without allocating anything.

    Returns:
        The bytes of a row of pixels; `step` is larger where rows are padded.

    Raises:
        MaskomalyError: see decode_image.

    """
    encoding = _ENCODINGS.get(message.encoding)
    if encoding is None:
        raise MaskomalyError(
            f'encoding {message.encoding!r} is no camera picture that is known here; '
            f'known are {", ".join(ENCODINGS)}'
        )
    height, width, step = message.height, message.width, message.step
    check_size(width, height, max_pixels)
    for name, length, multiple in zip(
        ('width', 'height'), (width, height), encoding.multiple, strict=True
    ):
        if length % multiple:
            raise MaskomalyError(f'{name} {length} of {message.encoding} must be even')
    row_bytes = width * encoding.channels * encoding.sample_bytes
    if step < row_bytes:
        raise MaskomalyError(
            f'step {step} is short: {width} pixels of {message.encoding} need {row_bytes} bytes'
        )
    needed = step * (height * encoding.half_rows // 2)
    present = memoryview(message.data).nbytes
    if present < needed:
        raise MaskomalyError(
            f'{width} x {height} pixels of {message.encoding} with step {step} need {needed} '
            f'bytes, but data has {present}'
        )
    return row_bytes


def decode_compressed(message: CompressedImageMessage, *, max_pixels: int) -> NDArray[np.uint8]:
    """Return the picture of a compressed image message.

    Args:
        message: JPEG, PNG or WebP, told apart by content. 16-bit PNG is reduced to 8 bits. A Bayer
            mosaic, as `format` says, is interpolated.
        max_pixels: larger pictures are refused, by their header, before they are decoded.

    Returns:
        RGB uint8 [H, W, 3].

    Raises:
        MaskomalyError: the data is of another kind, too large, cut short or damaged. Damage inside
            the coefficients of a JPEG cannot be told from a picture and passes.

    """
    if 'compressedDepth' in message.format:
        raise MaskomalyError(
            f'format {message.format!r} holds depth, not a picture; subscribe to a colour or '
            'grey camera'
        )
    data = bytes(message.data)
    width, height, channels = _compressed_size(data, message.format, max_pixels)
    check_size(width, height, max_pixels)
    mode, code = cv2.IMREAD_COLOR, cv2.COLOR_BGR2RGB
    if channels == 1 and message.format.startswith('bayer_'):
        mode, code = cv2.IMREAD_GRAYSCALE, _BAYER.get(message.format[6:10], cv2.COLOR_GRAY2RGB)
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise MaskomalyError(
            f'{len(data)} bytes of {message.format!r}, {width} x {height} pixels, are damaged'
        )
    return np.asarray(cv2.cvtColor(decoded, code), np.uint8)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise MaskomalyError if a header says that a picture is empty or too large."""
    if width == 0 or height == 0:
        raise MaskomalyError(f'the picture is empty: {width} x {height} pixels')
    if width * height > max_pixels:
        raise MaskomalyError(
            f'{width} x {height} = {width * height} pixels are more than the limit of '
            f'{max_pixels}; raise max_image_pixels if the camera really sends this'
        )


def _compressed_size(data: bytes, format_name: str, max_pixels: int) -> tuple[int, int, int]:
    """Return width, height and channels from the header; raise where data is cut short."""
    if data[:3] == b'\xff\xd8\xff':
        return _jpeg_size(data, max_pixels)
    if data[:8] == b'\x89PNG\r\n\x1a\n':
        return _png_size(data)
    if data[:4] == b'RIFF' and data[8:12] == b'WEBP':
        return _webp_size(data)
    raise MaskomalyError(
        f'format {format_name!r}, {len(data)} bytes that begin with '
        f'{data[:8].hex(" ") or "nothing"}, is neither JPEG, PNG nor WebP'
    )


def _jpeg_size(data: bytes, max_pixels: int) -> tuple[int, int, int]:
    """Walk the segments of a JPEG to its frame header (ITU-T T.81, annex B)."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill bytes
            position = _NOT_FILL.search(data, position + 1).start() - 1  # type: ignore[union-attr]
            continue
        if marker in _WITHOUT_LENGTH:  # the decoder, too, finds other segments behind these
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            header = data[position + 5 : position + 10]
            # The decoder fills what is missing with grey and says nothing. The end marker cannot
            # occur inside coded data, and a thumbnail's lies before the frame header.
            if len(header) < 5 or data.rfind(b'\xff\xd9') < position:
                raise MaskomalyError(f'the JPEG is cut short: {len(data)} bytes without an end')
            if (scans := data.count(b'\xff\xda', position)) > _MOST_SCANS:
                raise MaskomalyError(
                    f'the JPEG has {scans} scans, more than the limit of {_MOST_SCANS}: decoding '
                    'it would take too long'
                )
            width, height = (int.from_bytes(header[i : i + 2], 'big') for i in (2, 0))
            check_size(width, height, max_pixels)  # says more than what follows
            # Each block of 8 x 8 pixels has a Huffman code of its own, of a bit or more.
            blocks = math.ceil(width / 8) * math.ceil(height / 8)
            if marker <= 0xC2 and 8 * (len(data) - position) < blocks:
                raise MaskomalyError(
                    f'the JPEG is damaged: {width} x {height} pixels are not in {len(data)} bytes'
                )
            return width, height, header[4]
        position += 2 + int.from_bytes(data[position + 2 : position + 4], 'big')
    raise MaskomalyError(
        f'the JPEG of {len(data)} bytes has no frame header: damaged or cut short'
    )


def _png_size(data: bytes) -> tuple[int, int, int]:
    """Check the chunks of a PNG, as the decoder may return a part of it without a word."""
    position, kind = 8, b''
    while kind != b'IEND':
        length = int.from_bytes(data[position : position + 4], 'big')
        end = position + 12 + length
        if end > len(data):
            raise MaskomalyError(f'the PNG is cut short: {len(data)} bytes, {end} are needed')
        kind = data[position + 4 : position + 8]
        checksum = int.from_bytes(data[end - 4 : end], 'big')
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != checksum:
            raise MaskomalyError(f'the PNG is damaged: wrong checksum in chunk {kind!r}')
        position = end
    if data[12:16] != b'IHDR' or len(data) < 26:
        raise MaskomalyError('the PNG is damaged: it does not begin with IHDR')
    colour_types = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
    size = int.from_bytes(data[16:20], 'big'), int.from_bytes(data[20:24], 'big')
    return *size, colour_types.get(data[25], 0)


def _webp_size(data: bytes) -> tuple[int, int, int]:
    """Read the first chunk of a WebP (RFC 9649; the decoder checks later chunks against it)."""
    needed = 8 + int.from_bytes(data[4:8], 'little')
    if len(data) < max(needed, 30):
        raise MaskomalyError(f'the WebP is cut short: {len(data)} bytes, {needed} are needed')
    kind = data[12:16]
    if kind == b'VP8 ':
        width = int.from_bytes(data[26:28], 'little') & 0x3FFF
        return width, int.from_bytes(data[28:30], 'little') & 0x3FFF, 3
    if kind == b'VP8L':
        bits = int.from_bytes(data[21:25], 'little')
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 4
    if kind == b'VP8X':
        width = int.from_bytes(data[24:27], 'little') + 1
        return width, int.from_bytes(data[27:30], 'little') + 1, 4
    raise MaskomalyError(f'the WebP is damaged: its first chunk is {kind!r}')
