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

"""Scores on their scales, in one pass: a table of points and straight lines in between."""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from maskomaly_ros.fused.numba_compilation import compiled

F4 = NDArray[np.float32]


def interpolate(score: F4, raw: F4, level: F4) -> F4:
    """Return what the lines through the points of a table give; level outside of it.

    Args:
        score: of any shape.
        raw: ascending, [K], two at least.
        level: [K].

    """
    score = np.ascontiguousarray(score)
    result = np.empty_like(score)
    _interpolate(score.reshape(-1), raw, level, result.reshape(-1))
    return result


@compiled(
    types.void(types.float32[::1], types.float32[::1], types.float32[::1], types.float32[::1])
)
def _interpolate(score: F4, raw: F4, level: F4, result: F4) -> None:
    last = len(raw) - 1
    slopes = np.empty(last, np.float32)
    for i in range(last):
        slopes[i] = (level[i + 1] - level[i]) / (raw[i + 1] - raw[i])
    place = 0
    for x in range(len(score)):
        value = min(max(score[x], raw[0]), raw[last])
        # Neighbours are much alike: mostly the line is the one of the pixel before.
        while place < last - 1 and value > raw[place + 1]:
            place += 1
        while place > 0 and value < raw[place]:
            place -= 1
        result[x] = level[place] + slopes[place] * (value - raw[place])
