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

import threading
from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from maskomaly_ros.fused.numba_compilation import compiled

I8 = NDArray[np.int64]
_kept = threading.local()


class Counts(NamedTuple):
    """Numbers of pixels.

    Attributes:
        positives: with label 1, by place in the order that was asked for, int64.
        negatives: with label 0.
        others: with label 0 or 1 and a score that is not in that order.
        wrong: with a label that is none of 0, 1 and 255.

    """

    positives: I8
    negatives: I8
    others: int
    wrong: int


def count(bits: NDArray[np.uint16], label: NDArray[np.uint8], order: I8) -> Counts:
    """Count the pixels of each score.

    Args:
        bits: bit patterns of scores, any shape, contiguous.
        label: of the same shape: 0, 1 or 255.
        order: bit patterns in the order of the result; −0 counts as 0.

    """
    tables: NDArray[np.uint32] | None = getattr(_kept, 'tables', None)
    if tables is None:  # clean after each use: fresh memory takes longer than the counting
        tables = _kept.tables = np.zeros((3, 1 << 16), np.uint32)
    positives, negatives = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    label = np.ascontiguousarray(label).reshape(-1)
    whole = len(label) // 8 * 8
    if label[:whole].ctypes.data % 8:
        whole = 0
    eights = label[:whole].view(np.uint64)
    others, wrong = _count(bits.reshape(-1), label, eights, order, tables, positives, negatives)
    return Counts(positives, negatives, int(others), int(wrong))


@compiled(
    types.UniTuple(types.int64, 2)(
        types.uint16[::1],
        types.uint8[::1],
        types.uint64[::1],
        types.int64[::1],
        types.uint32[:, ::1],
        types.int64[::1],
        types.int64[::1],
    )
)
def _count(
    bits: NDArray[np.uint16],
    label: NDArray[np.uint8],
    eights: NDArray[np.uint64],
    order: I8,
    tables: NDArray[np.uint32],
    positives: I8,
    negatives: I8,
) -> tuple[int, int]:
    one = np.uint32(1)
    wrong = 0
    for eight in range(np.uintp(len(eights))):
        begin = np.uintp(eight * np.uintp(8))
        if eights[eight] == 0:  # most pixels are no anomaly
            for i in range(begin, begin + np.uintp(8)):
                tables[0, bits[i]] += one
            continue
        for i in range(begin, begin + np.uintp(8)):
            tables[min(label[i], np.uint8(2)), bits[i]] += one
            wrong += label[i] > 1 and label[i] < 255
    for i in range(np.uintp(8 * len(eights)), np.uintp(len(bits))):
        tables[min(label[i], np.uint8(2)), bits[i]] += one
        wrong += label[i] > 1 and label[i] < 255
    for t in range(2):
        tables[t, 0] += tables[t, 0x8000]
        tables[t, 0x8000] = 0
    for i in range(len(order)):
        negatives[i], positives[i] = tables[0, order[i]], tables[1, order[i]]
        tables[0, order[i]] = tables[1, order[i]] = 0
    others = 0
    for pattern in range(1 << 16):
        others += np.int64(tables[0, pattern]) + np.int64(tables[1, pattern])
    tables[:] = np.uint32(0)
    return others, wrong
