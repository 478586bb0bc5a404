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

"""Depth images that are aligned with a camera's pictures."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError

_ENCODINGS = {'16UC1': ('u2', 0.001), 'mono16': ('u2', 0.001), '32FC1': ('f4', 1.0)}
_SAME_ASPECT = 0.01


def decode_depth(message: Any, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the depth of each pixel of a picture.

    Args:
        message: has the fields of `sensor_msgs/Image`: `16UC1` in millimetres or `32FC1` in metres
            (REP 118), rows may be padded.
        size: height and width of the picture. A depth image of another resolution is taken pixel
            by pixel, not blended.

    Returns:
        Float32 [H, W], metres along the optical axis; NaN where the camera saw no depth.

    Raises:
        MaskomalyError: it is no depth image, or of another shape than the picture.

    """
    known = _ENCODINGS.get(message.encoding)
    if known is None:
        raise MaskomalyError(
            f'encoding {message.encoding!r} is no depth image; publish 16UC1 (mm) or 32FC1 (m)'
        )
    kind, metres = known
    height, width, step = int(message.height), int(message.width), int(message.step)
    row_bytes = width * int(kind[1])
    present = memoryview(message.data).nbytes
    if min(height, width) < 1 or step < row_bytes or present < height * step:
        raise MaskomalyError(
            f'{width} x {height} pixels of {message.encoding} with step {step} do not fit '
            f'{present} bytes'
        )
    if abs(width * size[0] / (height * size[1]) - 1) > _SAME_ASPECT:
        raise MaskomalyError(
            f'the depth image has {width} x {height} pixels and the frame {size[1]} x {size[0]}: '
            'another shape, so it is not aligned; subscribe to the registered depth'
        )
    data = np.frombuffer(message.data, np.uint8, count=height * step).reshape(height, step)
    order = '>' if message.is_bigendian else '<'
    stored = np.ascontiguousarray(data[:, :row_bytes]).view(order + kind)
    depth: NDArray[np.float32] = stored.astype(np.float32) * np.float32(metres)
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    if depth.shape != size:
        depth = np.asarray(
            cv2.resize(depth, (size[1], size[0]), interpolation=cv2.INTER_NEAREST), np.float32
        )
    return depth
