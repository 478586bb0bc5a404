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

"""How often each float16 score occurs, in one pass over score map and label."""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from maskomaly_ros.fused.numba_compilation import compiled


def count(bits: NDArray[np.uint16], label: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the pixels with each bit pattern, int64 [3, 65536]: label 0, label 1, any other."""
    counts = np.zeros((3, 1 << 16), np.int64)
    _count(bits.reshape(-1), np.ascontiguousarray(label).reshape(-1), counts)
    return counts


@compiled(types.void(types.uint16[::1], types.uint8[::1], types.int64[:, ::1]))
def _count(bits: NDArray[np.uint16], label: NDArray[np.uint8], counts: NDArray[np.int64]) -> None:
    for i in range(len(bits)):
        counts[min(label[i], np.uint8(2)), bits[i]] += 1
