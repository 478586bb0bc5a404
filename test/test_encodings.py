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

"""Tests of maskomaly_ros.encodings."""

from __future__ import annotations

import array
import re
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from maskomaly_ros.encodings import (
    ENCODINGS,
    check_image,
    decode_compressed,
    decode_image,
)
from maskomaly_ros.errors import MaskomalyError

LIMIT = 1_000_000
# A row of four colours that no two encodings show alike.
COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]], np.uint8)
CHANNEL_ORDER = {
    'rgb': (0, 1, 2),
    'bgr': (2, 1, 0),
    'rgba': (0, 1, 2, None),
    'bgra': (2, 1, 0, None),
}
BYTES_PER_PIXEL = {
    **dict.fromkeys(ENCODINGS, 1),
    **{f'{name}8': len(order) for name, order in CHANNEL_ORDER.items()},
    **{f'{name}16': 2 * len(order) for name, order in CHANNEL_ORDER.items()},
    **{name: 2 for name in ENCODINGS if name.startswith('bayer') and name.endswith('16')},
    **dict.fromkeys(('mono16', '16UC1', 'uyvy', 'yuv422', 'yuyv', 'yuv422_yuy2'), 2),
    '8UC3': 3,
    '8UC4': 4,
}


def image(
    encoding: str,
    samples: NDArray[Any],
    *,
    height: int | None = None,
    padding: int = 0,
    bigendian: bool = False,
    **fields: Any,
) -> SimpleNamespace:
    """Lay out samples [rows, width, ...] as a camera driver does, padding filled with rubbish."""
    rows = samples.reshape(samples.shape[0], -1)
    if rows.dtype.itemsize == 2:
        rows = rows.astype('>u2' if bigendian else '<u2')
    rows = np.ascontiguousarray(rows).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=123)
    message = SimpleNamespace(
        height=samples.shape[0] if height is None else height,
        width=samples.shape[1],
        encoding=encoding,
        is_bigendian=int(bigendian),
        step=rows.shape[1],
        data=array.array('B', rows.tobytes()),
    )
    message.__dict__.update(fields)
    return message


def noise(encoding: str, height: int, width: int, seed: int = 0, **layout: Any) -> SimpleNamespace:
    """Make a message of any encoding with random samples."""
    random = np.random.default_rng(seed)
    rows = height * 3 // 2 if encoding.startswith('nv') else height
    if encoding.endswith('16') or encoding == '16UC1':
        shape = (rows, width, BYTES_PER_PIXEL[encoding] // 2)
        return image(encoding, random.integers(0, 65536, shape, np.uint16), **layout)
    shape = (rows, width, BYTES_PER_PIXEL[encoding])
    samples = random.integers(0, 256, shape, np.uint8)
    return image(encoding, samples, height=height, **layout)


def compressed(data: bytes, format_name: str = 'jpeg') -> SimpleNamespace:
    return SimpleNamespace(format=format_name, data=array.array('B', data))


def encoded(extension: str, picture: NDArray[Any], *options: int) -> bytes:
    done, data = cv2.imencode(extension, picture, options)
    assert done
    return data.tobytes()


def picture(height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """Draw a smooth RGB picture, which survives JPEG."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    channels = (x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height))
    return np.stack(channels, -1).astype(np.uint8)


@pytest.mark.parametrize('name', CHANNEL_ORDER)
@pytest.mark.parametrize('padding', [0, 5])
def test_colour_orders(name: str, padding: int) -> None:
    planes = [
        COLOURS[..., c] if c is not None else COLOURS[..., 0] ^ 77 for c in CHANNEL_ORDER[name]
    ]
    samples = np.stack(planes, -1)
    np.testing.assert_array_equal(
        decode_image(image(f'{name}8', samples, padding=padding), max_pixels=LIMIT), COLOURS
    )
    wide = samples.astype(np.uint16) * 257
    for bigendian in (False, True):
        message = image(f'{name}16', wide, padding=padding, bigendian=bigendian)
        np.testing.assert_array_equal(decode_image(message, max_pixels=LIMIT), COLOURS)


def test_untyped_colours_are_in_the_order_of_opencv() -> None:
    blue_green_red = COLOURS[..., ::-1]
    np.testing.assert_array_equal(
        decode_image(image('8UC3', blue_green_red), max_pixels=LIMIT), COLOURS
    )
    with_alpha = np.concatenate([blue_green_red, blue_green_red[..., :1]], -1)
    np.testing.assert_array_equal(
        decode_image(image('8UC4', with_alpha), max_pixels=LIMIT), COLOURS
    )


@pytest.mark.parametrize('encoding', ['mono8', '8UC1'])
def test_grey(encoding: str) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(8, 32)
    result = decode_image(image(encoding, grey, padding=3), max_pixels=LIMIT)
    np.testing.assert_array_equal(result, np.repeat(grey[..., None], 3, -1))


@pytest.mark.parametrize('encoding', ['mono16', '16UC1'])
@pytest.mark.parametrize('bigendian', [False, True])
def test_every_16_bit_grey_is_scaled_to_the_nearest_8_bit_grey(
    encoding: str, bigendian: bool
) -> None:
    grey = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    message = image(encoding, grey, bigendian=bigendian, padding=7)
    nearest = ((grey.astype(np.int64) + 128) // 257).astype(np.uint8)
    result = decode_image(message, max_pixels=LIMIT)
    np.testing.assert_array_equal(result, np.repeat(nearest[..., None], 3, -1))


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize('bits', [8, 16])
def test_bayer_patterns_are_named_after_their_first_four_pixels(pattern: str, bits: int) -> None:
    colour = {'r': 200, 'g': 100, 'b': 50}
    tile = np.array([colour[c] for c in pattern]).reshape(2, 2)
    mosaic = np.tile(tile, (4, 5)).astype(np.uint8)
    samples = mosaic if bits == 8 else mosaic.astype(np.uint16) * 257
    result = decode_image(image(f'bayer_{pattern}{bits}', samples, padding=2), max_pixels=LIMIT)
    np.testing.assert_array_equal(result, np.broadcast_to([200, 100, 50], (8, 10, 3)))


def yuv_to_rgb(y: NDArray[Any], u: NDArray[Any], v: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert by the formula of ITU-R BT.601, limited range."""
    y, u, v = (np.asarray(plane, float) for plane in (y, u, v))
    luma = 1.164 * (np.maximum(y, 16) - 16)
    red = luma + 1.596 * (v - 128)
    green = luma - 0.813 * (v - 128) - 0.391 * (u - 128)
    blue = luma + 2.018 * (u - 128)
    return np.stack([red, green, blue], -1).round().clip(0, 255).astype(np.uint8)


def assert_close(actual: NDArray[np.uint8], expected: NDArray[np.uint8], tolerance: int) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize(
    ('encoding', 'order'),
    [('uyvy', 'uyvy'), ('yuv422', 'uyvy'), ('yuyv', 'yuyv'), ('yuv422_yuy2', 'yuyv')],
)
def test_packed_yuv(encoding: str, order: str) -> None:
    samples = np.random.default_rng(1).integers(0, 256, (6, 8, 2), np.uint8)
    groups = samples.reshape(6, 4, 4)  # two pixels in the order of the four letters
    y = groups[..., [i for i in range(4) if order[i] == 'y']].reshape(6, 8)
    u, v = (np.repeat(groups[..., order.index(c)], 2, -1) for c in 'uv')
    result = decode_image(image(encoding, samples, padding=4), max_pixels=LIMIT)
    assert_close(result, yuv_to_rgb(y, u, v), 2)


@pytest.mark.parametrize(('encoding', 'order'), [('nv12', 'uv'), ('nv21', 'vu')])
def test_planar_yuv(encoding: str, order: str) -> None:
    samples = np.random.default_rng(2).integers(0, 256, (9, 8), np.uint8)
    colour = samples[6:].reshape(3, 4, 2)
    u, v = (colour[..., order.index(c)].repeat(2, 0).repeat(2, 1) for c in 'uv')
    result = decode_image(image(encoding, samples, height=6, padding=8), max_pixels=LIMIT)
    assert_close(result, yuv_to_rgb(samples[:6], u, v), 2)


def test_data_is_viewed_where_nothing_needs_converting() -> None:
    message = noise('rgb8', 5, 7)
    result = decode_image(message, max_pixels=LIMIT)
    assert np.shares_memory(result, np.frombuffer(message.data, np.uint8))
    padded = decode_image(noise('rgb8', 5, 7, padding=3), max_pixels=LIMIT)
    assert padded.flags.c_contiguous
    np.testing.assert_array_equal(padded, result)


@pytest.mark.parametrize('kind', [bytes, bytearray, memoryview, 'ndarray'])
def test_data_may_be_any_buffer(kind: Any) -> None:
    message = noise('bgr8', 3, 4)
    expected = decode_image(message, max_pixels=LIMIT)
    raw = message.data.tobytes()
    message.data = np.frombuffer(raw, np.uint8) if kind == 'ndarray' else kind(raw)
    np.testing.assert_array_equal(decode_image(message, max_pixels=LIMIT), expected)


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_padding_never_shows(encoding: str) -> None:
    expected = decode_image(noise(encoding, 6, 8), max_pixels=LIMIT)
    assert expected.shape == (6, 8, 3)
    assert expected.dtype == np.uint8
    for padding in (1, 6):
        message = noise(encoding, 6, 8, padding=padding)
        np.testing.assert_array_equal(decode_image(message, max_pixels=LIMIT), expected)


def test_equals_cv_bridge(cv_bridge: Any) -> None:
    converted = 0
    for encoding in ENCODINGS:
        try:
            cv_bridge.imgmsg_to_cv2(noise(encoding, 6, 8), 'rgb8')
        except TypeError:  # CvBridgeError is one: it does not convert what is left out here
            assert encoding not in ('rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', 'mono16', 'yuv422')
            assert not encoding.startswith('bayer')
            continue
        for seed, size in enumerate([(6, 8), (20, 30), (34, 46)]):
            message = noise(encoding, *size, seed)
            expected = cv_bridge.imgmsg_to_cv2(message, 'rgb8')
            ours = decode_image(message, max_pixels=LIMIT)
            np.testing.assert_array_equal(ours, expected, err_msg=encoding)
        converted += 1
    assert converted >= 15


@pytest.fixture(scope='session')
def cv_bridge() -> Any:
    """Return a working CvBridge; skip where there is none."""
    try:
        from cv_bridge import CvBridge

        bridge = CvBridge()
        bridge.imgmsg_to_cv2(noise('bgr8', 2, 2), 'rgb8')
    except Exception as error:  # not installed, or its compiled half was built for another NumPy
        pytest.skip(f'a working cv_bridge ({error}): run in a ROS distribution that has it')
    return bridge


@pytest.mark.parametrize(
    ('fields', 'words'),
    [
        ({'encoding': '32FC1'}, ["'32FC1'", 'rgb8', 'bayer_rggb8']),
        ({'encoding': ''}, ["''", 'known are']),
        ({'width': 0, 'step': 0}, ['empty', '0 x 6']),
        ({'height': 0}, ['empty', '8 x 0']),
        ({'width': 2**32 - 1, 'height': 2**32 - 1, 'step': 2**32 - 1}, ['limit of 1000000']),
        ({'width': 1001, 'height': 1000, 'step': 3003}, ['1001000', 'limit of 1000000']),
        ({'step': 0}, ['step 0', '24 bytes']),
        ({'step': 23}, ['step 23', '24 bytes']),
        ({'step': 25}, ['need 150 bytes', 'has 144']),
        ({'height': 7}, ['need 168 bytes', 'has 144']),
        ({'data': array.array('B')}, ['need 144 bytes', 'has 0']),
        ({'encoding': 'nv12', 'width': 7}, ['width 7', 'even']),
        ({'encoding': 'nv12', 'height': 5, 'step': 8}, ['height 5', 'even']),
        ({'encoding': 'uyvy', 'width': 5}, ['width 5', 'even']),
    ],
)
def test_bad_images_are_refused_by_name(fields: dict[str, Any], words: list[str]) -> None:
    message = noise('rgb8', 6, 8)
    message.__dict__.update(fields)
    with pytest.raises(MaskomalyError) as refused:
        decode_image(message, max_pixels=LIMIT)
    for word in words:
        assert word in str(refused.value)
    with pytest.raises(MaskomalyError):
        check_image(message, max_pixels=LIMIT)


SIZE = st.integers(0, 12) | st.integers(0, 2**32 - 1)


@given(
    encoding=st.sampled_from(ENCODINGS) | st.text(max_size=8),
    height=SIZE,
    width=SIZE,
    step=st.integers(0, 100) | SIZE,
    bigendian=st.integers(0, 255),
    data=st.binary(max_size=600),
)
def test_any_fields_give_a_picture_or_a_reason(
    encoding: str, height: int, width: int, step: int, bigendian: int, data: bytes
) -> None:
    message = SimpleNamespace(
        encoding=encoding,
        height=height,
        width=width,
        step=step,
        is_bigendian=bigendian,
        data=data,
    )
    try:
        result = decode_image(message, max_pixels=LIMIT)
    except MaskomalyError:
        return
    assert result.shape == (height, width, 3)
    assert result.dtype == np.uint8


@pytest.mark.parametrize('extension', ['.png', '.webp'])
def test_lossless_compression(extension: str) -> None:
    options = (cv2.IMWRITE_WEBP_QUALITY, 101) if extension == '.webp' else ()
    data = encoded(extension, picture()[..., ::-1], *options)
    assert extension == '.png' or data[12:16] == b'VP8L'
    result = decode_compressed(compressed(data, extension[1:]), max_pixels=LIMIT)
    np.testing.assert_array_equal(result, picture())


@pytest.mark.parametrize('extension', ['.jpg', '.webp'])
def test_lossy_compression(extension: str) -> None:
    quality = cv2.IMWRITE_JPEG_QUALITY if extension == '.jpg' else cv2.IMWRITE_WEBP_QUALITY
    data = encoded(extension, picture()[..., ::-1], quality, 95)
    message = compressed(data, 'rgb8; jpeg compressed bgr8')
    assert_close(decode_compressed(message, max_pixels=LIMIT), picture(), 12)


def test_compressed_grey_and_16_bits() -> None:
    grey = picture()[..., 0]
    data = encoded('.png', grey.astype(np.uint16) * 257)
    result = decode_compressed(compressed(data, 'mono16; png compressed '), max_pixels=LIMIT)
    np.testing.assert_array_equal(result, np.repeat(grey[..., None], 3, -1))


def test_compressed_bayer_mosaic() -> None:
    mosaic = np.tile(np.array([[200, 100], [100, 50]], np.uint8), (8, 8))
    message = compressed(encoded('.png', mosaic), 'bayer_rggb8; png compressed ')
    result = decode_compressed(message, max_pixels=LIMIT)
    np.testing.assert_array_equal(result, np.broadcast_to([200, 100, 50], (16, 16, 3)))
    colour = compressed(encoded('.png', picture()[..., ::-1]), 'bayer_rggb8; png compressed bgr8')
    np.testing.assert_array_equal(decode_compressed(colour, max_pixels=LIMIT), picture())


@pytest.mark.parametrize('extension', ['.jpg', '.png', '.webp'])
def test_compressed_data_cut_short_is_refused(extension: str) -> None:
    data = encoded(extension, picture())
    for length in range(len(data) - 1):
        with pytest.raises(MaskomalyError, match=r'short|damaged|neither|no frame header|begin'):
            decode_compressed(compressed(data[:length]), max_pixels=LIMIT)


@pytest.mark.parametrize('option', [cv2.IMWRITE_JPEG_PROGRESSIVE, cv2.IMWRITE_JPEG_RST_INTERVAL])
def test_jpeg_kinds(option: int) -> None:
    data = encoded('.jpg', picture()[..., ::-1], option, 1)
    assert_close(decode_compressed(compressed(data), max_pixels=LIMIT), picture(), 12)
    with pytest.raises(MaskomalyError, match='cut short'):
        decode_compressed(compressed(data[: len(data) // 2]), max_pixels=LIMIT)


def test_jpeg_padded_by_the_camera_is_whole() -> None:
    data = encoded('.jpg', picture()[..., ::-1]) + bytes(100)
    assert_close(decode_compressed(compressed(data), max_pixels=LIMIT), picture(), 12)


def test_end_of_a_thumbnail_is_not_the_end_of_the_jpeg() -> None:
    data = encoded('.jpg', picture())
    thumbnail = encoded('.jpg', picture(8, 8))
    segment = b'\xff\xe1' + struct.pack('>H', len(thumbnail) + 2) + thumbnail
    with_thumbnail = data[:2] + segment + data[2:]
    assert decode_compressed(compressed(with_thumbnail), max_pixels=LIMIT).shape == (48, 64, 3)
    with pytest.raises(MaskomalyError, match='cut short'):
        decode_compressed(compressed(with_thumbnail[:-2]), max_pixels=LIMIT)


def test_damaged_png_is_refused() -> None:
    data = bytearray(encoded('.png', picture()))
    data[len(data) // 2] ^= 1
    with pytest.raises(MaskomalyError, match='checksum'):
        decode_compressed(compressed(bytes(data), 'png'), max_pixels=LIMIT)


def png(width: int, height: int) -> bytes:
    """Make a well-formed PNG of a black picture of any size in a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack('>I', len(content)) + body + struct.pack('>I', zlib.crc32(body))

    header = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 1) * min(height, 1000)))
    return (
        b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', rows) + chunk(b'IEND', b'')
    )


def resized_jpeg(width: int, height: int) -> bytes:
    data = bytearray(encoded('.jpg', picture()))
    frame = data.index(b'\xff\xc0')
    data[frame + 5 : frame + 9] = struct.pack('>HH', height, width)
    return bytes(data)


def resized_webp(width: int, height: int) -> bytes:
    data = bytearray(encoded('.webp', picture(), cv2.IMWRITE_WEBP_QUALITY, 80))
    assert data[12:16] == b'VP8 '
    data[26:30] = struct.pack('<HH', width, height)
    return bytes(data)


@pytest.mark.parametrize('make', [png, resized_jpeg, resized_webp])
@pytest.mark.parametrize(
    ('width', 'height', 'reason'),
    [(1001, 1000, 'limit of 1000000'), (16000, 16000, 'limit of'), (16, 0, 'empty')],
)
def test_decompression_bombs_are_refused_by_their_header(
    make: Any, width: int, height: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: Any) -> None:
        raise AssertionError('decoded')

    data = make(width, height)
    monkeypatch.setattr(cv2, 'imdecode', decode)
    with pytest.raises(MaskomalyError, match=reason):
        decode_compressed(compressed(data), max_pixels=LIMIT)


def test_well_formed_png_of_the_helper_decodes() -> None:
    result = decode_compressed(compressed(png(20, 10), 'png'), max_pixels=200)
    np.testing.assert_array_equal(result, np.zeros((10, 20, 3), np.uint8))


@pytest.mark.parametrize(
    ('data', 'format_name', 'reason'),
    [
        (b'', 'jpeg', "'jpeg', 0 bytes that begin with nothing"),
        (b'GIF89a' + bytes(50), 'gif', "'gif', 56 bytes that begin with 47 49 46"),
        (encoded('.tiff', picture()), 'tiff', 'neither JPEG, PNG nor WebP'),
        (encoded('.png', picture()), '16UC1; compressedDepth png', 'holds depth'),
        (b'\xff\xd8\xff' + bytes(50), 'jpeg', 'no frame header'),
        (b'RIFF' + struct.pack('<I', 40) + b'WEBPABCD' + bytes(40), 'webp', 'first chunk'),
    ],
)
def test_other_compressed_data_is_refused(data: bytes, format_name: str, reason: str) -> None:
    with pytest.raises(MaskomalyError, match=reason):
        decode_compressed(compressed(data, format_name), max_pixels=LIMIT)


@given(st.data())
def test_damaged_data_gives_a_picture_or_a_reason(data: st.DataObject) -> None:
    whole = data.draw(
        st.sampled_from([encoded(e, picture(8, 8)) for e in ('.jpg', '.png', '.webp')])
    )
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        result = decode_compressed(compressed(bytes(damaged)), max_pixels=LIMIT)
    except MaskomalyError:
        return
    assert result.dtype == np.uint8
    assert result.shape[2] == 3


def test_byte_order_of_this_machine_is_not_assumed() -> None:
    value = np.array([[0x1234]], np.uint16)
    for order, bigendian in (('little', False), ('big', True)):
        message = image('mono16', value, bigendian=bigendian)
        assert bytes(message.data) == (0x1234).to_bytes(2, order)
        assert decode_image(message, max_pixels=1)[0, 0, 0] == round(0x1234 / 257)


@pytest.mark.parametrize('options', [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)])
def test_a_jpeg_that_says_more_than_it_holds(options: tuple[int, ...]) -> None:
    """The decoder would fill what is missing with grey."""
    emptiest = np.zeros((1080, 1920, 3), np.uint8)
    settings = (cv2.IMWRITE_JPEG_QUALITY, 1, cv2.IMWRITE_JPEG_OPTIMIZE, 1, *options)
    data = bytearray(cv2.imencode('.jpg', emptiest, settings)[1])
    message = SimpleNamespace(format='jpeg', data=bytes(data))
    assert decode_compressed(message, max_pixels=1 << 26).shape == emptiest.shape
    at = re.search(rb'\xff[\xc0-\xc2]\x00.\x08', data).end()  # type: ignore[union-attr]
    data[at : at + 4] = (8000).to_bytes(2, 'big') * 2
    message.data = bytes(data)
    with pytest.raises(MaskomalyError, match='8000 x 8000 pixels are not in'):
        decode_compressed(message, max_pixels=1 << 26)


def test_the_docs_name_every_encoding() -> None:
    page = Path(__file__).parents[1].joinpath('docs/topics.md').read_text(encoding='utf-8')
    listed = page[page.index('Encodings: ') :].partition('JPEG')[0]
    for encoding in ENCODINGS:
        name = 'bayer_' if encoding.startswith('bayer_') else encoding
        assert f'`{name}' in listed, encoding
