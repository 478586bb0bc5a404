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

"""The contact line: the lowest pixels of obstacles, column by column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.obstacles import Components


@dataclass(frozen=True)
class ContactLine:
    """The lowest pixels of all obstacles of a frame, by obstacle and then by column.

    Attributes:
        owner: int [N], index of the obstacle.
        column: int [N], of the pixel.
        row: int [N], of the pixel.

    """

    owner: NDArray[np.intp]
    column: NDArray[np.intp]
    row: NDArray[np.intp]


def contact_line(components: Components) -> ContactLine:
    """Return the lowest pixel of each obstacle in each of its columns."""
    labels = components.labels
    width = labels.shape[1]
    ends = labels > 0
    ends[:-1] &= labels[1:] != labels[:-1]  # most pixels have one of their own below them
    pixels = np.flatnonzero(ends)
    owner = components.owner[labels.ravel()[pixels]]
    known = owner >= 0
    pixels, owner = pixels[known], owner[known]
    # Pixels come row by row, so that of each column the last one is the lowest.
    key = (owner * width + pixels % width)[::-1]
    _, last = np.unique(key, return_index=True)
    chosen = len(pixels) - 1 - last
    return ContactLine(
        owner[chosen],
        pixels[chosen] % width + components.left,
        pixels[chosen] // width + components.top,
    )
