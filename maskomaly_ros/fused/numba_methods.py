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

Over a block a resized logit stays between the least and the largest mask pixel below it. A query
is left out of a block where that shows that it is less than `_NEGLIGIBLE` of the sums, or cannot
be the strongest. Masks are sampled in float64, so that large logits do not lose what is left of
their difference.

`maskomaly_ros.scores` has the formulas, in torch, and is the reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from maskomaly_ros.fused.numba_compilation import OPTIONS, compiled
from maskomaly_ros.fused.numba_functions import log, log1p
from maskomaly_ros.fused.sums import SUMS

_ROWS: Final = 16
_COLUMNS: Final = 64
_NEGLIGIBLE: Final = 1e-6
_f4 = np.float32
# 2 ** f = sum of (f · ln 2) ** k / k!; seven terms are exact to 2e-7 for |f| <= 0.5.
_POWERS: Final = tuple(_f4(math.log(2) ** k / math.factorial(k)) for k in range(7))
_LOG2_E: Final = _f4(math.log2(math.e))
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
        places: place in the result of each of `SUMS`, −1 where it is not asked for, int64 [10].
        mean: mean for SML, float32 [C].
        deviation: deviation for SML, float32 [C].
        temperature: of ODIN.

    """

    weights: F4
    void: Flags
    places: I8
    mean: F4
    deviation: F4
    temperature: float


def compute(
    masks: F4,
    plan: Plan,
    rows: Axis,
    columns: Axis,
    number: int,
) -> F4:
    """Return score maps of one frame, float32 [number, H, W], on one thread.

    Args:
        masks: mask logits [N, h, w], contiguous.
        plan: what to compute.
        rows: between which two mask pixels the rows of the result lie, and how far along.
        columns: likewise for columns.
        number: of score maps.

    """
    result = np.empty((number, len(rows[0]), len(columns[0])), np.float32)
    _scores(
        masks,
        plan.weights,
        plan.weights.max(1),
        plan.void,
        plan.places,
        plan.mean,
        plan.deviation,
        plan.temperature,
        rows,
        columns,
        result,
        np.empty((0, 0)),
    )
    return result


def class_maxima(masks: F4, weights: F4, rows: Axis, columns: Axis) -> F8:
    """Return number, sum and sum of squares of the largest s_c by its class, float64 [3, C]."""
    count, classes = weights.shape
    sums = np.zeros((3, classes))
    _scores(
        masks,
        weights,
        weights.max(1),
        np.zeros(count, np.bool_),
        np.full(len(SUMS), -1),
        np.arange(classes, dtype=np.float32),
        np.ones(classes, np.float32),
        1.0,
        rows,
        columns,
        np.empty((0, 0, 0), np.float32),
        sums,
    )
    return sums


@njit(**OPTIONS)
def _sample_columns(
    mask: NDArray[np.float32],
    lower: NDArray[np.int64],
    upper: NDArray[np.int64],
    weight: NDArray[np.float64],
    wide: NDArray[np.float64],
) -> None:
    for x in range(len(wide)):
        left = np.float64(mask[lower[x]])
        wide[x] = left + (np.float64(mask[upper[x]]) - left) * weight[x]


@njit(**OPTIONS)
def _range(
    mask: NDArray[np.float32], least: NDArray[np.float32], largest: NDArray[np.float32]
) -> tuple[float, float]:
    """Return the least and the largest pixel; column by column first, which vectorises."""
    height, width = mask.shape
    for x in range(width):
        least[x] = largest[x] = mask[0, x]
    for y in range(1, height):
        for x in range(width):
            least[x] = min(least[x], mask[y, x])
            largest[x] = max(largest[x], mask[y, x])
    lowest, highest = least[0], largest[0]
    for x in range(1, width):
        lowest = min(lowest, least[x])
        highest = max(highest, largest[x])
    return lowest, highest


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
def _mix(upper: F8, lower: F8, weight: float, mixed: F4) -> None:
    for x in range(_COLUMNS):
        mixed[x] = _f4(upper[x] + (lower[x] - upper[x]) * weight)


@njit(**OPTIONS)
def _sigmoid(logits: F4, mask: F4) -> None:
    for x in range(_COLUMNS):
        mask[x] = _f4(1) / (_f4(1) + _exp(-logits[x]))


@njit(**OPTIONS)
def _add_eight(masks: F4, first: int, weights: F4, total: F4) -> None:
    """Add eight weighted masks to a total, which is then read and written only once."""
    m0, m1, m2, m3 = masks[first], masks[first + 1], masks[first + 2], masks[first + 3]
    m4, m5, m6, m7 = masks[first + 4], masks[first + 5], masks[first + 6], masks[first + 7]
    w0, w1, w2, w3 = weights[first], weights[first + 1], weights[first + 2], weights[first + 3]
    w4, w5, w6, w7 = weights[first + 4], weights[first + 5], weights[first + 6], weights[first + 7]
    for x in range(_COLUMNS):
        total[x] += ((m0[x] * w0 + m1[x] * w1) + (m2[x] * w2 + m3[x] * w3)) + (
            (m4[x] * w4 + m5[x] * w5) + (m6[x] * w6 + m7[x] * w7)
        )


@njit(**OPTIONS)
def _take_strongest(logits: F4, sign: np.float32, strongest: F4, signs: F4) -> None:
    for x in range(_COLUMNS):
        stronger = logits[x] > strongest[x]  # strictly: of equal masks the first counts
        strongest[x] = logits[x] if stronger else strongest[x]
        signs[x] = sign if stronger else signs[x]


@njit(**OPTIONS)
def _mask_at(logit: float) -> float:
    return 1 / (1 + math.exp(-min(max(logit, -80.0), 80.0)))


@njit(**OPTIONS)
def _largest_class(
    semantic: F4, mean: F4, deviation: F4, largest: F4, means: F4, deviations: F4
) -> None:
    """Find the largest s_c, and mean and deviation of its class."""
    for x in range(_COLUMNS):
        largest[x] = semantic[0, x]
        means[x] = mean[0]
        deviations[x] = deviation[0]
    for c in range(1, len(semantic) - 1):
        for x in range(_COLUMNS):
            larger = semantic[c, x] > largest[x]
            largest[x] = semantic[c, x] if larger else largest[x]
            means[x] = mean[c] if larger else means[x]
            deviations[x] = deviation[c] if larger else deviations[x]


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
    places: I8,
    mean: F4,
    deviation: F4,
    temperature: np.float32,
    scratch: F4,
    scores: F4,
) -> None:
    """Compute the scores of one row of a block that follow from its sums: s_c, and EAM's last."""
    largest, means, deviations = scratch[0], scratch[1], scratch[2]
    sums, products = scratch[3], scratch[4]
    one = _f4(1)
    classes = len(semantic) - 1
    for x in range(_COLUMNS):
        scores[0, x] = -semantic[classes, x]
    if places[1] >= 0:
        scores[1] = _f4(0)
        for c in range(classes):
            for x in range(_COLUMNS):
                scores[1, x] -= _tanh(semantic[c, x])
    _largest_class(semantic, mean, deviation, largest, means, deviations)
    for x in range(_COLUMNS):
        scores[2, x] = one - largest[x]
        scores[4, x] = -largest[x]
        scores[7, x] = (means[x] - largest[x]) / deviations[x]
    if places[3] >= 0 or places[5] >= 0 or places[6] >= 0:
        _softmax_sums(semantic, largest, sums, products)
        scale = _f4(1 / math.log(max(classes, 2)))
        for x in range(_COLUMNS):
            logarithm = log(sums[x])
            scores[3, x] = one - one / sums[x]
            scores[5, x] = -(largest[x] + logarithm)
            scores[6, x] = (logarithm - products[x] / sums[x]) * scale
    if places[8] >= 0:
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
    for x in range(len(largest)):
        value = np.float64(largest[x])
        c = int(classes[x])
        sums[0, c] += 1
        sums[1, c] += value
        sums[2, c] += value * value


_F4_1, _F4_2 = types.float32[::1], types.float32[:, ::1]


@compiled(
    types.void(
        types.float32[:, :, ::1],
        _F4_2,
        _F4_1,
        types.boolean[::1],
        types.int64[::1],
        _F4_1,
        _F4_1,
        types.float64,
        _AXIS,
        _AXIS,
        types.float32[:, :, ::1],
        types.float64[:, ::1],
    )
)
def _scores(
    masks: F4,
    weights: F4,
    class_weights: F4,
    void: Flags,
    places: I8,
    mean: F4,
    deviation: F4,
    temperature: float,
    rows: Axis,
    columns: Axis,
    result: F4,
    sums: F8,
) -> None:
    """Write all score maps of a frame, and add up its largest s_c where sums has room for them."""
    upper_rows, lower_rows, row_weights = rows
    left_columns, right_columns, column_weights = columns
    height, width = len(upper_rows), len(left_columns)
    count, classes = weights.shape
    sums_wanted = places[:9].max() >= 0 or sums.size > 0
    baseline = places[9]
    low, high = np.empty(count), np.empty(count)
    low_mask, high_mask = np.empty(count), np.empty(count)
    least, largest = np.empty(masks.shape[2], np.float32), np.empty(masks.shape[2], np.float32)
    in_sums = np.empty(count, np.bool_)
    in_baseline = np.empty(count, np.bool_)
    # The mask rows below a block, at the width of the block, for every query that is needed.
    wide_rows = 2
    for top in range(0, height, _ROWS):
        last = min(top + _ROWS, height) - 1
        wide_rows = max(wide_rows, lower_rows[last] - upper_rows[top] + 1)
    wide = np.zeros((count, wide_rows, _COLUMNS))
    active = np.empty(count, np.int64)
    logits, mask = np.empty(_COLUMNS, np.float32), np.empty(_COLUMNS, np.float32)
    # Masks and weights of the queries in the sums, eight at a time; the last are filled with 0.
    semantic = np.empty((classes + 1, _COLUMNS), np.float32)
    summed = np.zeros((count + 7, _COLUMNS), np.float32)
    summed_weights = np.zeros((classes + 1, count + 7), np.float32)
    strongest, signs = np.empty(_COLUMNS, np.float32), np.empty(_COLUMNS, np.float32)
    scratch = np.empty((5, _COLUMNS), np.float32)
    scores = np.empty((len(places), _COLUMNS), np.float32)

    for top in range(0, height, _ROWS):
        bottom = min(top + _ROWS, height)
        first_row, end_row = upper_rows[top], lower_rows[bottom - 1] + 1
        for left in range(0, width, _COLUMNS):
            right = min(left + _COLUMNS, width)
            size = right - left
            below = (
                slice(first_row, end_row),
                slice(left_columns[left], right_columns[right - 1] + 1),
            )
            strongest_low, least_sum = -math.inf, 0.0
            for n in range(count):
                low[n], high[n] = _range(masks[n][below], least, largest)
                low_mask[n], high_mask[n] = _mask_at(low[n]), _mask_at(high[n])
                strongest_low = max(strongest_low, low[n])
                least_sum += low_mask[n] * class_weights[n]
            # Which queries matter here, and for what.
            negligible = _NEGLIGIBLE * least_sum / count
            number = in_sum = 0
            for n in range(count):
                in_sums[n] = sums_wanted and high_mask[n] * class_weights[n] > negligible
                in_baseline[n] = baseline >= 0 and high[n] >= strongest_low
            for n in range(count):
                if not in_sums[n] and not in_baseline[n]:
                    continue
                for row in range(first_row, end_row):
                    _sample_columns(
                        masks[n, row],
                        left_columns[left:right],
                        right_columns[left:right],
                        column_weights[left:right],
                        wide[number, row - first_row, :size],
                    )
                active[number] = n
                if in_sums[n]:
                    summed_weights[:-1, in_sum] = weights[n]
                    summed_weights[-1, in_sum] = class_weights[n]
                    in_sum += 1
                number += 1
            eights = (in_sum + 7) // 8 * 8
            summed_weights[:, in_sum:eights] = _f4(0)

            for y in range(top, bottom):
                upper_row, lower_row = upper_rows[y] - first_row, lower_rows[y] - first_row
                strongest[:] = _f4(-math.inf)
                signs[:] = _f4(1)
                place = 0
                for i in range(number):
                    n = active[i]
                    _mix(wide[i, upper_row], wide[i, lower_row], row_weights[y], logits)
                    if in_baseline[n]:
                        sign = _f4(1) if void[n] else _f4(-1)
                        _take_strongest(logits, sign, strongest, signs)
                    _sigmoid(logits, mask)
                    if in_sums[n]:
                        for x in range(_COLUMNS):
                            summed[place, x] = mask[x]
                        place += 1
                if sums_wanted:
                    semantic[:] = _f4(0)
                    for i in range(0, eights, 8):
                        for c in range(classes + 1):
                            _add_eight(summed, i, summed_weights[c], semantic[c])
                    _semantic_scores(
                        semantic, places, mean, deviation, _f4(temperature), scratch, scores
                    )
                if sums.size > 0:
                    _add_class(scratch[0, :size], scratch[1, :size], sums)
                if baseline >= 0:
                    for x in range(_COLUMNS):
                        logits[x] = strongest[x] * signs[x]
                    _sigmoid(logits, scores[9])
                for i in range(len(places)):
                    if places[i] >= 0:
                        for x in range(size):
                            result[places[i], y, left + x] = scores[i, x]
