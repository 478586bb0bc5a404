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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.drives.source import MAX_PIXELS, Source, SourceFrame, nanoseconds
from maskomaly_ros.encodings import decode_compressed
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
            try:
                image = _read_image(file, self._max_pixels)
            except OSError as error:
                self._report(index, file.name, error.strerror)
            except MaskomalyError as error:
                self._report(index, file.name, error)
            else:
                yield SourceFrame(index, nanoseconds(index, self.rate), image, file.name)


@dataclass
class _EncodedFile:
    """An image file, in the shape of a sensor_msgs/CompressedImage."""

    data: bytes
    format: str


def _read_image(file: Path, max_pixels: int) -> NDArray[np.uint8]:
    data = file.read_bytes()
    kind = file.suffix.lower()[1:]
    if kind in ('jpeg', 'jpg', 'png', 'webp'):
        return decode_compressed(_EncodedFile(data, kind), max_pixels=max_pixels)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise MaskomalyError(f'{len(data)} bytes are no {kind} image, or a damaged one')
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
