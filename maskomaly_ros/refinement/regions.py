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

"""The part of a camera's frames in which obstacles matter.

A camera sees parts of its own vehicle, and things beside the road. Both can be excluded: outside
the region the score is 0, so that neither the heatmap nor the mask nor the obstacles have anything
there. The network still sees the whole frame, as it was trained to.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.encodings import decode_compressed
from maskomaly_ros.errors import MaskomalyError

_MAX_PIXELS = 1 << 26
_POINT = re.compile(r'(\d{1,5}),(\d{1,5})')


@dataclass(frozen=True)
class _Drawing:
    """An area as the user gave it, either painted or by the corners of polygons."""

    text: str
    picture: NDArray[np.bool_] | None = None
    polygons: tuple[NDArray[np.int32], ...] = ()

    def rasterize(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return which pixels of a frame, (height, width), are inside."""
        height, width = size
        if self.picture is not None:
            if self.picture.shape != size:
                painted = f'{self.picture.shape[1]} x {self.picture.shape[0]}'
                raise MaskomalyError(
                    f'{self.text} has {painted} pixels, but the frame has {width} x {height}; '
                    'make it of the size of the frame'
                )
            return self.picture
        inside = np.zeros(size, np.uint8)
        for polygon in self.polygons:
            x, y = polygon.max(axis=0)
            if x >= width or y >= height:
                raise MaskomalyError(
                    f'the polygon {self.text!r} reaches to {x},{y}, but the frame has '
                    f'{width} x {height} pixels, numbered from 0'
                )
            # One by one: OpenCV leaves out where polygons of one call overlap.
            cv2.fillPoly(inside, [polygon], 1)
        return inside.astype(bool)


class Region:
    """Where obstacles of one camera matter: on the road, and not on the vehicle itself.

    Both areas are the path of a PNG of the size of the frames, in which all that is not black
    belongs to the area, or polygons `x,y x,y x,y`, separated by `;`, in pixels from the top left;
    the corners belong to the area. Empty leaves that restriction out.

    Args:
        road: area outside which nothing matters; empty for everywhere.
        ego: area of the vehicle itself, in which nothing matters.

    Raises:
        MaskomalyError: a file cannot be read, or a polygon is none.

    """

    def __init__(self, road: str = '', ego: str = '') -> None:
        self._road = _read(road)
        self._ego = _read(ego)
        # Replaced as a whole: replay asks from two threads.
        self._latest = (0, 0), np.empty((0, 0), np.uint8)

    def __bool__(self) -> bool:
        """Whether anything is excluded."""
        return bool(self._road or self._ego)

    @property
    def sha256(self) -> str:
        """Hash of both areas: of their polygons, or of the pixels of their pictures."""
        text = hashlib.sha256()
        for area in (self._road, self._ego):
            text.update(repr(area and area.text).encode())
            if area and area.picture is not None:
                text.update(repr(area.picture.shape).encode() + area.picture.tobytes())
        return text.hexdigest()

    def inside(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the region in frames of a size (height, width): uint8 [H, W], 255 inside.

        Raises:
            MaskomalyError: an area does not fit frames of this size.

        """
        known, area = self._latest
        if size != known:
            inside = self._road.rasterize(size) if self._road else np.ones(size, bool)
            if self._ego:
                inside = inside & ~self._ego.rasterize(size)
            area = np.where(inside, np.uint8(255), np.uint8(0))
            self._latest = size, area
        return area

    def apply(self, score: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a score map, float32 [H, W], with 0 outside the region.

        Raises:
            MaskomalyError: an area does not fit frames of this size.

        """
        if not self:
            return score
        inside = self.inside((score.shape[0], score.shape[1]))
        return np.asarray(cv2.bitwise_and(score, score, mask=inside), np.float32)


def _read(text: str) -> _Drawing | None:
    text = text.strip()
    if not text:
        return None
    if text.lower().endswith('.png'):
        return _Drawing(text, picture=_read_png(text))
    polygons = tuple(_read_polygon(part, text) for part in text.rstrip('; ').split(';'))
    return _Drawing(text, polygons=polygons)


def _read_png(path: str) -> NDArray[np.bool_]:
    try:
        message = SimpleNamespace(format='png', data=Path(path).expanduser().read_bytes())
        picture = decode_compressed(message, max_pixels=_MAX_PIXELS)
    except (OSError, MaskomalyError) as error:
        raise MaskomalyError(f'region {path} cannot be read: {error}') from error
    return np.asarray(picture.any(axis=2))


def _read_polygon(part: str, text: str) -> NDArray[np.int32]:
    points = [_POINT.fullmatch(point) for point in part.split()]
    corners = [(int(p[1]), int(p[2])) for p in points if p]
    if len(corners) < len(points) or len(set(corners)) < 3:
        raise MaskomalyError(
            f'region {text!r} is neither the path of a PNG nor polygons of at least three corners '
            'in pixels, such as "0,719 640,300 1279,719"'
        )
    return np.array(corners, np.int32)
