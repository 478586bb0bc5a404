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

"""The scores that sum masks over queries, any number of them in one pass over a frame, on a CPU.

The masks are resized once, and each resized mask is put through one sigmoid, whatever the number
of scores; every score then takes what it needs of the same sums. One of them alone is computed by
the same instructions, so that it is the same to the last bit. Block by block and
row by row, so that everything but the inputs and the score maps stays in a processor's cache.

A block is made of rows that lie evenly between the same two rows of the masks. Down a column of it
a resized logit changes by the same step from row to row, and exp(−logit) by the same factor: one
product takes the place of sampling and exponential. Logits beyond `_FAR` are put through
exponentials of their own.

Over a block a resized logit stays between the least and the largest mask pixel below it. Queries
are left out of a block where that shows that together they are less than `_NEGLIGIBLE` of the
sums, or cannot be the strongest. Masks are sampled in float64, so that large logits do not lose
what is left of their difference.

`maskomaly_ros.scores` has the formulas, in torch, and is the reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from maskomaly_ros.fused.numba_compilation import OPTIONS, compiled
from maskomaly_ros.fused.numba_functions import log, log1p
from maskomaly_ros.fused.sums import SUMS

_ROWS: Final = 16  # most rows of a block
_COLUMNS: Final = 128
_LINE: Final = 16  # float32 numbers in a line of the cache
_RUN: Final = 4  # columns that are sampled together
_LANES: Final = 16  # sums of a class that are kept apart, lest one addition wait for another
_BAND: Final = 64  # rows that are finished before the next ones begin, or writing takes longest
_NEGLIGIBLE: Final = 1e-6
_FAR: Final = 40.0  # the product of two exp(40) is a float32
_EVEN: Final = 1e-9  # most by which two steps between rows differ that count as the same
_NO_MAP: Final = np.empty((0, 0), np.float32)
_f4 = np.float32
# 2 ** f = sum of (f · ln 2) ** k / k!; seven terms are exact to 2e-7 for |f| <= 0.5.
_POWERS: Final = tuple(_f4(math.log(2) ** k / math.factorial(k)) for k in range(7))
_LOG2_E: Final = _f4(math.log2(math.e))
_EXACT_POWERS: Final = tuple(math.log(2) ** k / math.factorial(k) for k in range(8))  # to 5e-9
_EXACT_LOG2_E: Final = math.log2(math.e)
_ROUND: Final = 1.5 * 2.0**52  # added to a small number, leaves the nearest integer in its bits
_LIMIT: Final = _f4(80)  # exp(80) is still a float32
_AXIS = types.Tuple((types.int64[::1], types.int64[::1], types.float64[::1]))

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
Flags = NDArray[np.bool_]
Axis = tuple[I8, I8, F8]


@dataclass(frozen=True)
class Plan:
    """What to compute for one frame.

    Attributes:
        weights: p_n[c] of every query and inlier class, float32 [N, C].
        void: which queries are void, bool [N].
        wanted: which of `SUMS` are asked for, bool [10].
        mean: mean for SML, float32 [C].
        deviation: deviation for SML, float32 [C].
        temperature: of ODIN.

    """

    weights: F4
    void: Flags
    wanted: Flags
    mean: F4
    deviation: F4
    temperature: float


class Maxima(NamedTuple):
    """The largest s_c of every pixel.

    Attributes:
        sums: number, sum and sum of squares by predicted class, float64 [3, C]; added to.
        largest: float32 [H, W].
        predicted: its class, uint8 [H, W].

    """

    sums: F8
    largest: F4
    predicted: NDArray[np.uint8]


def compute(
    masks: F4, plan: Plan, rows: Axis, columns: Axis, maxima: Maxima | None = None
) -> dict[str, F4]:
    """Return the score maps of one frame that are asked for, float32 [H, W], on one thread.

    Args:
        masks: mask logits [N, h, w], contiguous.
        plan: what to compute.
        rows: between which two mask pixels the rows of the result lie, and how far along.
        columns: likewise for columns.
        maxima: where to write the largest s_c to, too.

    """
    found = maxima or Maxima(np.empty((0, 0)), _NO_MAP, np.empty((0, 0), np.uint8))
    # One piece of memory: systems give large ones in large pages, and small pages take their time.
    result = np.empty((int(plan.wanted.sum()), len(rows[0]), len(columns[0])), np.float32)
    names = [name for name, wanted in zip(SUMS, plan.wanted, strict=True) if wanted]
    maps = dict(zip(names, result, strict=True))
    _scores(
        masks,
        plan.weights,
        plan.weights.max(1),
        plan.void,
        plan.wanted,
        plan.mean,
        plan.deviation,
        plan.temperature,
        rows,
        columns,
        tuple(maps.get(name, _NO_MAP) for name in SUMS),
        *found,
    )
    return maps


def class_maxima(masks: F4, weights: F4, rows: Axis, columns: Axis) -> F8:
    """Return number, sum and sum of squares of the largest s_c by its class, float64 [3, C]."""
    count, classes = weights.shape
    sums = np.zeros((3, classes))
    _scores(
        masks,
        weights,
        weights.max(1),
        np.zeros(count, np.bool_),
        np.zeros(len(SUMS), np.bool_),
        np.zeros(classes, np.float32),
        np.ones(classes, np.float32),
        1.0,
        rows,
        columns,
        (_NO_MAP,) * len(SUMS),
        sums,
        _NO_MAP,
        np.empty((0, 0), np.uint8),
    )
    return sums


@njit(**OPTIONS)
def _sample_columns(
    masks: NDArray[np.float32],
    n: int,
    row: int,
    columns: I8,
    starts: I8,
    weights: F8,
    wide: F8,
    place: int,
) -> None:
    """Write a row of mask n at the width of a block; columns are those left and right of each.

    Columns between the same two are written together, and some that the next ones overwrite.
    """
    gap = 0
    while starts[gap] < _COLUMNS:
        left = np.float64(masks[n, row, np.uintp(columns[0, starts[gap]])])
        right = np.float64(masks[n, row, np.uintp(columns[1, starts[gap]])])
        difference = right - left
        for start in range(starts[gap], starts[gap + 1], _RUN):
            begin = np.uintp(start)
            for x in range(np.uintp(_RUN)):
                wide[n, place, begin + x] = left + difference * weights[begin + x]
        gap += 1


@njit(**OPTIONS)
def _aligned(size: int) -> Any:
    """Return float32 numbers that begin where a line of the cache does, so that vectors fit."""
    numbers = np.empty(size + _LINE, np.float32)
    first = (-numbers.ctypes.data // 4) % _LINE
    return numbers[first : first + size]


@njit(**OPTIONS)
def _find_gaps(columns: I8, starts: I8) -> None:
    """Find where columns between the same two mask columns begin, and the end."""
    starts[0] = gap = 0
    for x in range(1, _COLUMNS):
        if columns[0, x] != columns[0, x - 1] or columns[1, x] != columns[1, x - 1]:
            gap += 1
            starts[gap] = x
    starts[gap + 1] = _COLUMNS


@njit(**OPTIONS)
def _range(
    masks: NDArray[np.float32], n: int, upper: int, lower: int, left: int, right: int
) -> tuple[float, float]:
    """Return the least and the largest pixel of two rows, from column left to column right."""
    lowest = highest = masks[n, upper, left]
    for x in range(np.uintp(left), np.uintp(right + 1)):
        above, below = masks[n, upper, x], masks[n, lower, x]
        lowest = min(lowest, min(above, below))
        highest = max(highest, max(above, below))
    return lowest, highest


@njit(**OPTIONS)
def _even_rows(top: int, bottom: int, upper: I8, lower: I8, weights: F8) -> int:
    """Return the end of the rows from top on that lie evenly between the same two mask rows."""
    last = min(top + _ROWS, bottom)
    end = top + 1
    while end < last and upper[end] == upper[top] and lower[end] == lower[top]:
        step = weights[end] - weights[end - 1]
        if abs(step - (weights[top + 1] - weights[top])) > _EVEN:
            break
        end += 1
    return end


@njit(**OPTIONS)
def _exact_exp(value: float) -> Any:
    """Return exp(value) for |value| <= 700, to 1e-8 of it."""
    c0, c1, c2, c3, c4, c5, c6, c7 = _EXACT_POWERS
    power = value * _EXACT_LOG2_E
    rounded = power + _ROUND
    f = power - (rounded - _ROUND)
    series = c0 + f * (c1 + f * (c2 + f * (c3 + f * (c4 + f * (c5 + f * (c6 + f * c7))))))
    exponent = np.int64(np.float64(rounded).view(np.int64) << np.int64(52))
    return np.int64(np.float64(series).view(np.int64) + exponent).view(np.float64)


@njit(**OPTIONS)
def _begin(
    wide: F8, n: int, weight: float, step: float, powers: F4, factors: F4, place: int
) -> None:
    """Find exp(−logit) one row before the first of a block, and its factor from row to row."""
    for x in range(_COLUMNS):
        upper, difference = wide[n, 0, x], wide[n, 1, x] - wide[n, 0, x]
        powers[place, x] = _f4(_exact_exp(-(upper + difference * (weight - step))))
        factors[place, x] = _f4(_exact_exp(-difference * step))


@njit(**OPTIONS)
def _advance(powers: F4, factors: F4, masks: F4) -> None:
    """Go on to the next row, with eight masks one behind the other; two share a division."""
    half = 4 * _COLUMNS
    for x in range(half):
        first = powers[x] * factors[x]
        second = powers[x + half] * factors[x + half]
        powers[x], powers[x + half] = first, second
        first, second = _f4(1) + first, _f4(1) + second
        inverse = _f4(1) / (first * second)
        masks[x], masks[x + half] = second * inverse, first * inverse


@njit(**OPTIONS)
def _exp(value: np.float32) -> Any:
    """Return exp(value) for |value| <= 80, to 3e-7 of it."""
    c0, c1, c2, c3, c4, c5, c6 = _POWERS
    power = min(max(value, -_LIMIT), _LIMIT) * _LOG2_E
    whole = np.floor(power + _f4(0.5))
    f = power - whole
    scale = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)
    series = c0 + f * (c1 + f * (c2 + f * (c3 + f * (c4 + f * (c5 + f * c6)))))
    return _f4(series * scale)


@njit(**OPTIONS)
def _expm1(value: np.float32) -> Any:
    """Return exp(value) − 1 for |value| <= 0.5."""
    series = _f4(1 / 24) + value * (_f4(1 / 120) + value * (_f4(1 / 720) + value * _f4(1 / 5040)))
    return _f4(value * (_f4(1) + value * (_f4(1 / 2) + value * (_f4(1 / 6) + value * series))))


@njit(**OPTIONS)
def _tanh(value: np.float32) -> Any:
    """Return tanh(value) for value >= 0, to 1e-6 of it; the exponentials cancel near 0."""
    small = min(value, _f4(0.25))
    q = small * small
    series = _f4(2 / 15) - q * (_f4(17 / 315) - q * _f4(62 / 2835))
    near = small - small * q * (_f4(1 / 3) - q * series)
    far = _f4(1) - _f4(2) / (_exp(_f4(2) * min(value, _f4(20))) + _f4(1))
    return _f4(near if value < _f4(0.25) else far)


@njit(**OPTIONS)
def _mix(wide: F8, n: int, weight: float, mixed: F4) -> None:
    for x in range(_COLUMNS):
        mixed[x] = _f4(wide[n, 0, x] + (wide[n, 1, x] - wide[n, 0, x]) * weight)


@njit(**OPTIONS)
def _sigmoid(logits: F4, mask: F4) -> None:
    for x in range(_COLUMNS):
        mask[x] = _f4(1) / (_f4(1) + _exp(-logits[x]))


@njit(**OPTIONS)
def _add_eight(masks: F4, weights: F4, totals: NDArray[np.float32], y: int) -> None:
    """Add eight weighted masks to the totals of a row, each of which is read and written once."""
    for c in range(totals.shape[1]):
        w0, w1, w2, w3 = weights[c, 0], weights[c, 1], weights[c, 2], weights[c, 3]
        w4, w5, w6, w7 = weights[c, 4], weights[c, 5], weights[c, 6], weights[c, 7]
        for x in range(_COLUMNS):
            total = totals[y, c, x] + masks[0, x] * w0
            total = (total + masks[1, x] * w1) + masks[2, x] * w2
            total = (total + masks[3, x] * w3) + masks[4, x] * w4
            total = (total + masks[5, x] * w5) + masks[6, x] * w6
            totals[y, c, x] = total + masks[7, x] * w7


@njit(**OPTIONS)
def _sigmoids(logits: F4, masks: F4) -> None:
    for n in range(len(logits)):
        masks[n] = _f4(1) / (_f4(1) + _exp(-logits[n]))


@njit(**OPTIONS)
def _take_eight(
    queries: I8, first: int, end: int, weights: F4, class_weights: F4, eight: F4
) -> None:
    """Collect the weights of eight queries; where there are fewer, 0."""
    classes = weights.shape[1]
    for i in range(8):
        n = queries[min(first + i, end - 1)]
        there = _f4(1) if first + i < end else _f4(0)
        for c in range(classes):
            eight[c, i] = weights[n, c] * there
        eight[classes, i] = class_weights[n] * there


@njit(**OPTIONS)
def _write(scores: F4, i: int, size: int, result: NDArray[Any], y: int, left: int) -> None:
    begin = np.uintp(left)  # of a signed place the sign would be looked at, pixel by pixel
    for x in range(np.uintp(size)):
        result[y, begin + x] = scores[i, x]


@njit(**OPTIONS)
def _take_strongest(logits: F4, sign: np.float32, strongest: F4, signs: F4) -> None:
    for x in range(_COLUMNS):
        stronger = logits[x] > strongest[x]  # strictly: of equal masks the first counts
        strongest[x] = logits[x] if stronger else strongest[x]
        signs[x] = sign if stronger else signs[x]


@njit(**OPTIONS)
def _largest_class(semantic: F4, largest: F4, predicted: F4) -> None:
    """Find the largest s_c and its class."""
    for x in range(_COLUMNS):
        largest[x] = semantic[0, x]
        predicted[x] = _f4(0)
    for c in range(1, len(semantic) - 1):
        for x in range(_COLUMNS):
            larger = semantic[c, x] > largest[x]
            largest[x] = semantic[c, x] if larger else largest[x]
            predicted[x] = _f4(c) if larger else predicted[x]


@njit(**OPTIONS)
def _softmax_sums(semantic: F4, largest: F4, sums: F4, products: F4) -> None:
    """Sum exp(d_c) and d_c · exp(d_c) over the classes, d_c = s_c − max s."""
    sums[:] = _f4(0)
    products[:] = _f4(0)
    for c in range(len(semantic) - 1):
        for x in range(_COLUMNS):
            difference = semantic[c, x] - largest[x]
            exp = _exp(difference)
            sums[x] += exp
            products[x] += exp * difference


@njit(**OPTIONS)
def _semantic_scores(
    semantic: F4,
    wanted: Flags,
    mean: F4,
    deviation: F4,
    temperature: np.float32,
    scratch: F4,
    scores: F4,
) -> None:
    """Compute the scores of one row of a block that follow from its sums: s_c, and EAM's last."""
    largest, predicted = scratch[0], scratch[1]
    sums, products = scratch[2], scratch[3]
    one = _f4(1)
    classes = len(semantic) - 1
    for x in range(_COLUMNS):
        scores[0, x] = -semantic[classes, x]
    if wanted[1]:
        scores[1] = _f4(0)
        for c in range(classes):
            for x in range(_COLUMNS):
                scores[1, x] -= _tanh(semantic[c, x])
    _largest_class(semantic, largest, predicted)
    for x in range(_COLUMNS):
        scores[2, x] = one - largest[x]
        scores[4, x] = -largest[x]
    if wanted[3] or wanted[5] or wanted[6]:
        _softmax_sums(semantic, largest, sums, products)
        scale = _f4(1 / math.log(max(classes, 2)))
        for x in range(_COLUMNS):
            logarithm = log(sums[x])
            scores[3, x] = one - one / sums[x]
            scores[5, x] = -(largest[x] + logarithm)
            scores[6, x] = (logarithm - products[x] / sums[x]) * scale
    if wanted[7]:
        for x in range(_COLUMNS):
            c = np.uintp(predicted[x])
            scores[7, x] = (mean[c] - largest[x]) / deviation[c]
    if wanted[8]:
        sums[:] = _f4(0)
        inverse = one / temperature
        for c in range(classes):
            for x in range(_COLUMNS):
                sums[x] += _expm1((semantic[c, x] - largest[x]) * inverse)
        share = _f4(1 / classes)
        for x in range(_COLUMNS):
            scores[8, x] = temperature * log1p(sums[x] * share)


@njit(**OPTIONS)
def _add_class(largest: F4, classes: F4, sums: F8) -> None:
    for x in range(np.uintp(len(largest))):
        value = np.float64(largest[x])
        c, lane = np.uintp(classes[x]), x % np.uintp(_LANES)
        sums[0, c, lane] += 1
        sums[1, c, lane] += value
        sums[2, c, lane] += value * value


_F4_1, _F4_2 = types.float32[::1], types.float32[:, ::1]


@compiled(
    types.void(
        types.float32[:, :, ::1],
        _F4_2,
        _F4_1,
        types.boolean[::1],
        types.boolean[::1],
        _F4_1,
        _F4_1,
        types.float64,
        _AXIS,
        _AXIS,
        types.UniTuple(types.float32[:, ::1], len(SUMS)),
        types.float64[:, ::1],
        types.float32[:, ::1],
        types.uint8[:, ::1],
    )
)
def _scores(
    masks: F4,
    weights: F4,
    class_weights: F4,
    void: Flags,
    wanted: Flags,
    mean: F4,
    deviation: F4,
    temperature: float,
    rows: Axis,
    columns: Axis,
    maps: tuple[F4, ...],
    sums: F8,
    largest: F4,
    predicted: NDArray[np.uint8],
) -> None:
    """Write all score maps of a frame, and its largest s_c with their sums where there is room."""
    upper_rows, lower_rows, row_weights = rows
    left_columns, right_columns, column_weights = columns
    height, width = len(upper_rows), len(left_columns)
    count, classes = weights.shape
    sums_wanted = wanted[:9].any() or sums.size > 0
    baseline = wanted[9]
    low, high = np.empty(count, np.float32), np.empty(count, np.float32)
    low_mask, high_mask = np.empty(count, np.float32), np.empty(count, np.float32)
    near, far, strong = (
        np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
    )  # fmt: skip
    below, across = np.empty((2, _COLUMNS), np.int64), np.zeros(_COLUMNS + _RUN)
    gaps = np.empty(_COLUMNS + 1, np.int64)
    # Two rows of every mask at the width of a block; rows_kept says which they are.
    wide = np.zeros((count, 2, _COLUMNS + _RUN))
    rows_kept = np.empty((count, 2), np.int64)
    # Eight masks at a time; where there are fewer, those without weight are 1.
    powers, factors, masks_now = (
        _aligned(8 * _COLUMNS), _aligned(8 * _COLUMNS), _aligned(8 * _COLUMNS)
    )  # fmt: skip
    each_power, each_factor = powers.reshape(8, _COLUMNS), factors.reshape(8, _COLUMNS)
    each_mask = masks_now.reshape(8, _COLUMNS)
    eight_weights = np.empty((classes + 1, 8), np.float32)
    semantic = _aligned(_ROWS * (classes + 1) * _COLUMNS).reshape(_ROWS, classes + 1, _COLUMNS)
    logits = np.empty(_COLUMNS, np.float32)
    strongest, signs = np.empty(_COLUMNS, np.float32), np.empty(_COLUMNS, np.float32)
    scratch = _aligned(4 * _COLUMNS).reshape(4, _COLUMNS)
    lanes = np.zeros((3, classes, _LANES))
    scores = _aligned(len(wanted) * _COLUMNS).reshape(len(wanted), _COLUMNS)

    for begin in range(0, height, _BAND):
        end = min(begin + _BAND, height)
        for left in range(0, width, _COLUMNS):
            right = min(left + _COLUMNS, width)
            size = right - left
            for x in range(_COLUMNS):  # beyond the frame the last column is repeated
                column = min(left + x, width - 1)
                below[0, x], below[1, x] = left_columns[column], right_columns[column]
                across[x] = column_weights[column]
            _find_gaps(below, gaps)
            rows_kept[:] = -1
            top = begin
            while top < end:
                bottom = _even_rows(top, end, upper_rows, lower_rows, row_weights)
                upper, lower = upper_rows[top], lower_rows[top]
                step = row_weights[top + 1] - row_weights[top] if bottom - top > 1 else 0.0
                for n in range(count):
                    low[n], high[n] = _range(
                        masks, n, upper, lower, below[0, 0], below[1, _COLUMNS - 1]
                    )
                _sigmoids(low, low_mask)
                _sigmoids(high, high_mask)
                strongest_low, least_sum = _f4(-math.inf), 0.0
                for n in range(count):
                    strongest_low = max(strongest_low, low[n])
                    least_sum += low_mask[n] * class_weights[n]
                # Which queries matter here, and for what.
                negligible = _NEGLIGIBLE * least_sum
                nears = fars = strongs = 0
                for n in range(count):
                    most = high_mask[n] * class_weights[n]
                    in_sums = sums_wanted and most > negligible
                    if not in_sums:
                        negligible -= most
                    in_baseline = baseline and high[n] >= strongest_low
                    if not in_sums and not in_baseline:
                        continue
                    if in_sums and max(-low[n], high[n]) <= _FAR:
                        near[nears] = n
                        nears += 1
                    elif in_sums:
                        far[fars] = n
                        fars += 1
                    if in_baseline:
                        strong[strongs] = n
                        strongs += 1
                    if rows_kept[n, 1] == upper:
                        for x in range(_COLUMNS):
                            wide[n, 0, x] = wide[n, 1, x]
                        rows_kept[n, 0] = upper
                    for i, row in enumerate((upper, lower)):
                        if rows_kept[n, i] != row:
                            _sample_columns(masks, n, row, below, gaps, across, wide, i)
                            rows_kept[n, i] = row

                if sums_wanted:
                    semantic[: bottom - top] = _f4(0)
                    for first in range(0, nears, 8):
                        _take_eight(near, first, nears, weights, class_weights, eight_weights)
                        powers[:], factors[:] = _f4(0), _f4(0)
                        for i in range(min(8, nears - first)):
                            n = near[first + i]
                            _begin(wide, n, row_weights[top], step, each_power, each_factor, i)
                        for y in range(bottom - top):
                            _advance(powers, factors, masks_now)
                            _add_eight(each_mask, eight_weights, semantic, y)
                    for first in range(0, fars, 8):
                        _take_eight(far, first, fars, weights, class_weights, eight_weights)
                        masks_now[:] = _f4(1)
                        for y in range(bottom - top):
                            for i in range(min(8, fars - first)):
                                n = far[first + i]
                                _mix(wide, n, row_weights[top + y], logits)
                                _sigmoid(logits, each_mask[i])
                            _add_eight(each_mask, eight_weights, semantic, y)

                for y in range(top, bottom):
                    if sums_wanted:
                        _semantic_scores(
                            semantic[y - top],
                            wanted,
                            mean,
                            deviation,
                            _f4(temperature),
                            scratch,
                            scores,
                        )
                    if sums.size > 0:
                        _add_class(scratch[0, :size], scratch[1, :size], lanes)
                        if largest.size > 0:
                            _write(scratch, 0, size, largest, y, left)
                            _write(scratch, 1, size, predicted, y, left)
                    if baseline:
                        strongest[:] = _f4(-math.inf)
                        signs[:] = _f4(1)
                        for i in range(strongs):
                            n = strong[i]
                            _mix(wide, n, row_weights[y], logits)
                            sign = _f4(1) if void[n] else _f4(-1)
                            _take_strongest(logits, sign, strongest, signs)
                        for x in range(_COLUMNS):
                            logits[x] = strongest[x] * signs[x]
                        _sigmoid(logits, scores[9])
                    for i in range(len(wanted)):
                        if wanted[i]:
                            _write(scores, i, size, maps[i], y, left)
                top = bottom
    if sums.size > 0:
        for lane in range(_LANES):
            sums += lanes[:, :, lane]
