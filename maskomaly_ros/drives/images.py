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

"""A folder of images as a drive."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.drives.source import MAX_PIXELS, Source, SourceFrame, nanoseconds
from maskomaly_ros.encodings import check_size, decode_compressed
from maskomaly_ros.errors import MaskomalyError

IMAGE_SUFFIXES = frozenset(
    ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
)


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Return paths sorted as people do: `2.png` before `10.png`."""

    def key(path: Path) -> list[tuple[int, str]]:
        parts = re.findall(r'\d+|\D+', path.name)
        return [(int(p), '') if p.isdecimal() else (-1, p) for p in parts]

    return sorted(paths, key=lambda path: (key(path), path.name))


class ImageFolder(Source):
    """The images of a folder, in natural order, at a given rate.

    Args:
        path: the folder; folders inside it are not searched.
        rate: frames per second that the stamps are made with.
        max_pixels: larger images are refused.

    Raises:
        MaskomalyError: there are no images.

    """

    def __init__(self, path: Path, rate: float, max_pixels: int = MAX_PIXELS) -> None:
        super().__init__(path)
        self.rate = rate
        self._max_pixels = max_pixels
        self._files = natural_order(
            p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES
        )
        if not self._files:
            folders = sorted(p.name for p in path.iterdir() if p.is_dir())
            inside = f'; it has folders {", ".join(folders)}' if folders else ''
            raise MaskomalyError(
                f'{path} holds no images ({", ".join(sorted(IMAGE_SUFFIXES))}) and no bag{inside}'
            )

    def __len__(self) -> int:
        return len(self._files)

    def _frames(self) -> Iterator[SourceFrame]:
        for index, file in enumerate(self._files[self._first :], self._first):
            stamp_ns = nanoseconds(index, self.rate)
            if self.piece.is_past(stamp_ns):
                return
            if not self.piece.takes(index, stamp_ns):
                continue
            try:
                image = _read_image(file, self._max_pixels)
            except OSError as error:
                self._report(index, file.name, error.strerror)
            except MaskomalyError as error:
                self._report(index, file.name, error)
            else:
                yield SourceFrame(index, stamp_ns, image, file.name)


@dataclass
class _EncodedFile:
    """An image file, in the shape of a sensor_msgs/CompressedImage."""

    data: bytes
    format: str


def _read_image(file: Path, max_pixels: int) -> NDArray[np.uint8]:
    if not file.is_file():  # nobody may ever write to a pipe
        raise MaskomalyError('it is no file')
    data = file.read_bytes()
    # By content, as the decoder tells them apart too.
    reader = next((r for start, r in _SIZES.items() if data.startswith(start)), None)
    if reader is None:
        return decode_compressed(
            _EncodedFile(data, file.suffix.lower()[1:]), max_pixels=max_pixels
        )
    try:
        width, height = reader(data)
    except (struct.error, KeyError, IndexError, OverflowError, ValueError):
        raise MaskomalyError(f'{len(data)} bytes have no size: damaged or cut short') from None
    check_size(width, height, max_pixels)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise MaskomalyError(f'{len(data)} bytes of {width} x {height} pixels are damaged')
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _bmp_size(data: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from('<I', data, 14)
    width, height = struct.unpack_from('<HH' if header == 12 else '<ii', data, 18)
    return abs(width), abs(height)


def _pnm_size(data: bytes) -> tuple[int, int]:
    match = _PNM.match(data)
    if match is None:
        raise ValueError('no PNM header')
    return int(match[1]), int(match[2])


def _tiff_size(data: bytes) -> tuple[int, int]:
    """Read the first directory of a TIFF (TIFF 6.0, section 2), or of a BigTIFF."""
    order = '<' if data[:2] == b'II' else '>'
    is_big = data[2:4] in (b'\x2b\0', b'\0\x2b')
    (place,) = struct.unpack_from(f'{order}Q' if is_big else f'{order}I', data, 8 if is_big else 4)
    (count,) = struct.unpack_from(f'{order}Q' if is_big else f'{order}H', data, place)
    place, step = (place + 8, 20) if is_big else (place + 2, 12)
    found: dict[int, int] = {}
    for entry in range(place, min(place + count * step, len(data)), step):
        tag, kind = struct.unpack_from(f'{order}HH', data, entry)
        if tag in (256, 257):
            form = {3: 'H', 4: 'I', 16: 'Q'}[kind]
            (value,) = struct.unpack_from(order + form, data, entry + (12 if is_big else 8))
            found[tag] = max(value, found.get(tag, 0))  # decoders differ on what is there twice
    return found[256], found[257]


_PNM = re.compile(rb'P[1-6](?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})\s')
_SIZES: dict[bytes, Callable[[bytes], tuple[int, int]]] = {
    b'BM': _bmp_size,
    **{b'P%d' % number: _pnm_size for number in range(1, 7)},
    **dict.fromkeys((b'II*\x00', b'II+\x00', b'MM\x00*', b'MM\x00+'), _tiff_size),
}
