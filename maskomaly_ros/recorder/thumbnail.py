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

"""The picture beside a recording: what fired it, with its outline."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.drives.source import fit_within
from maskomaly_ros.errors import MaskomalyError

_SIZE = (640, 640)
_COLOR = (255, 255, 0)


def thumbnail(
    picture: NDArray[np.uint8], box: tuple[int, int, int, int], mask: NDArray[np.uint8] | None
) -> bytes:
    """Return a JPEG of a picture with the outline of what is in a box of it.

    Args:
        picture: RGB uint8 [H, W, 3].
        box: x, y, width and height in pixels.
        mask: uint8 [H, W]; None, or one of another size, or with nothing in the box, leaves the
            outline of the box.

    Raises:
        MaskomalyError: the picture does not fit a JPEG.

    """
    x, y, width, height = box
    corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]
    outlines: Sequence[NDArray[np.int32]] = [np.array(corners, np.int32)]
    if mask is not None and mask.shape == picture.shape[:2]:
        inside = np.zeros_like(mask)
        part = np.s_[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)]
        inside[part] = mask[part]
        found, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        outlines = [np.asarray(each, np.int32) for each in found] or outlines
    drawn = picture.copy()
    cv2.polylines(drawn, outlines, True, _COLOR, max(2, picture.shape[1] // 400))
    small = fit_within(drawn, _SIZE)
    done, data = cv2.imencode('.jpg', np.ascontiguousarray(small[..., ::-1]))
    if not done:
        raise MaskomalyError(f'{small.shape[1]} x {small.shape[0]} pixels do not fit a JPEG')
    return data.tobytes()
