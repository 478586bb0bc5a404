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
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from maskomaly_ros.fused.numba_compilation import OPTIONS, compiled

_INFINITE: Final = 0x7C00
I8 = NDArray[np.int64]
_kept = threading.local()


class Counts(NamedTuple):
    """Numbers of pixels.

    Attributes:
        places: of the scores that occur, in the order that was asked for, ascending, int64 [K].
        positives: with label 1 and such a score, int64 [K].
        negatives: with label 0.
        others: with label 0 or 1 and a score that is not in that order.
        wrong: with a label that is none of 0, 1 and 255.
        beyond: with any label and a score that is infinite or NaN in float16.

    """

    places: I8
    positives: I8
    negatives: I8
    others: int
    wrong: int
    beyond: int


def count(score: NDArray[Any], label: NDArray[np.uint8], order: I8) -> Counts:
    """Count the pixels of each score.

    Args:
        score: float16, or float32, which is rounded to that; any shape, contiguous.
        label: of the same shape: 0, 1 or 255.
        order: bit patterns of float16 in the order of the result; −0 counts as 0.

    """
    tables: NDArray[np.uint32] | None = getattr(_kept, 'tables', None)
    if tables is None:  # clean after each use: fresh memory takes longer than the counting
        tables = _kept.tables = np.zeros((4, 1 << 16), np.uint32)
        _kept.found = np.empty((3, len(order)), np.int64)
    label = np.ascontiguousarray(label).reshape(-1)
    whole = len(label) // 8 * 8
    if label[:whole].ctypes.data % 8:
        whole = 0
    eights = label[:whole].view(np.uint64)
    if score.dtype == np.float32:
        bits = np.empty(score.size, np.uint16)
        _round(score.reshape(-1).view(np.uint32), bits)
    else:
        bits = score.reshape(-1).view(np.uint16)
    wrong = _count(bits, label, eights, tables)
    number, others, beyond = _collect(order, tables, _kept.found)
    places, positives, negatives = _kept.found[:, :number].copy()
    return Counts(places, positives, negatives, others, wrong, beyond)


@njit(**OPTIONS)
def _half(bits: np.uint32) -> Any:
    """Return the bits of the nearest float16, of two the even one, of a float32 by its bits."""
    size = np.uint32(bits & np.uint32(0x7FFFFFFF))
    odd = np.uint32(np.uint32(size >> np.uint32(13)) & np.uint32(1))
    moved = np.uint32(size - np.uint32(112 << 23))  # exponents of float16 begin at −15
    normal = np.uint32(np.uint32(moved + np.uint32(0xFFF) + odd) >> np.uint32(13))
    # Below the least normal number, adding 0.5 rounds to the steps that are left.
    shifted = np.float32(np.uint32(size).view(np.float32) + np.float32(0.5))
    small = np.uint32(np.float32(shifted).view(np.uint32) - np.uint32(126 << 23))
    nearest = small if size < np.uint32(113 << 23) else normal
    nearest = nearest if size < np.uint32(143 << 23) else np.uint32(_INFINITE)
    nearest = nearest if size <= np.uint32(255 << 23) else np.uint32(_INFINITE + 1)
    return np.uint16(nearest | np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(0x8000)))


@compiled(types.void(types.uint32[::1], types.uint16[::1]))
def _round(score: NDArray[np.uint32], bits: NDArray[np.uint16]) -> None:
    for i in range(np.uintp(len(score))):
        bits[i] = _half(score[i])


@compiled(
    types.int64(types.uint16[::1], types.uint8[::1], types.uint64[::1], types.uint32[:, ::1])
)
def _count(
    bits: NDArray[np.uint16],
    label: NDArray[np.uint8],
    eights: NDArray[np.uint64],
    tables: NDArray[np.uint32],
) -> int:
    one = np.uint32(1)
    wrong = 0
    for eight in range(np.uintp(len(eights))):
        begin = np.uintp(eight * np.uintp(8))
        if eights[eight] == 0:  # most pixels are no anomaly
            for pair in range(np.uintp(4)):
                i = begin + np.uintp(2) * pair
                # In turns: of equal neighbours, one would have to wait for the other.
                tables[0, bits[i]] += one
                tables[3, bits[i + np.uintp(1)]] += one
            continue
        for i in range(begin, begin + np.uintp(8)):
            tables[min(label[i], np.uint8(2)), bits[i]] += one
            wrong += label[i] > 1 and label[i] < 255
    for i in range(np.uintp(8 * len(eights)), np.uintp(len(bits))):
        tables[min(label[i], np.uint8(2)), bits[i]] += one
        wrong += label[i] > 1 and label[i] < 255
    return wrong


@compiled(
    types.UniTuple(types.int64, 3)(types.int64[::1], types.uint32[:, ::1], types.int64[:, ::1])
)
def _collect(
    order: I8, tables: NDArray[np.uint32], found: NDArray[np.int64]
) -> tuple[int, int, int]:
    """Move what was counted from the tables; return how many scores, others and beyond."""
    others = beyond = number = 0
    for t in range(4):
        tables[t, 0] += tables[t, 0x8000]
        tables[t, 0x8000] = 0
        for sign in (0, 0x8000):
            for pattern in range(sign + _INFINITE, sign + 0x8000):
                beyond += np.int64(tables[t, pattern])
    for i in range(len(order)):
        place = np.uintp(order[i])
        negatives, positives = tables[0, place] + tables[3, place], tables[1, place]
        if negatives | positives:
            found[0, number], found[1, number], found[2, number] = i, positives, negatives
            tables[0, place] = tables[1, place] = tables[3, place] = 0
            number += 1
    for pattern in range(1 << 16):
        others += np.int64(tables[0, pattern] + tables[1, pattern] + tables[3, pattern])
    tables[:] = np.uint32(0)
    return number, others, beyond
