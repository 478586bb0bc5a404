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

"""The anomaly score on a CPU: compiled, block by block, skipping queries that cannot matter there.

A resized logit is a mixture of its neighbours, so over a block of output pixels it stays between
the least and the largest mask pixel below the block. Of the inlier queries only those are sampled
that may come out on top somewhere in the block, likewise of the anomalous ones; of the border
makers only those that are neither above the threshold nor below it everywhere. In a typical block
three of two dozen queries are left, and nothing larger than a block is held.

The largest m · w is found as the least 1 / (m · w) = (1 + exp(−logit)) / w, which spares a
division for every query and pixel. Masks are sampled in float64: at the border threshold rounding
decides nothing that is farther from it than 1e-6.

Work is shared by threads of our own, not by those of numba: some of its threading layers must not
be entered by two Python threads at once, and OpenMP does not survive a fork.
"""

from __future__ import annotations

import functools
import logging
import math
import os
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numba import njit, types
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from maskomaly_ros.scoring import Axis, QuerySelection

_logger = logging.getLogger(__name__)

_ROWS: Final = 32  # height of a block in output pixels ...
_COLUMNS: Final = 64  # ... and its width: bounds are tight and rows still fill vector registers
# A product m · w below 1e-7 is taken for 0.
_LARGEST_COST: Final = 1e7
_NOTHING: Final = np.float32(3e38)

_f4 = np.float32
# 2 ** f = sum of (f · ln 2) ** k / k!; seven terms are exact to 2e-7 for |f| <= 0.5.
_POWERS: Final = tuple(_f4(math.log(2) ** k / math.factorial(k)) for k in range(7))
_LOG2_E: Final = _f4(math.log2(math.e))
_LIMIT: Final = _f4(80)  # exp(80) is still a float32
# No reordering of sums, no assumption about infinities: exactness is worth more here.
_OPTIONS: Final[Mapping[str, Any]] = {
    'nogil': True,
    'fastmath': {'contract'},
    'error_model': 'numpy',
}


def score(
    masks: Tensor,
    selection: QuerySelection,
    rows: Axis,
    columns: Axis,
    border_logit: float,
    border_score: float,
    reject_weight: float,
) -> Tensor:
    """Return the score of one frame.

    Uses as many threads as torch does (`torch.get_num_threads`); may be called from several
    Python threads at once.

    Args:
        masks: Mask logits, float32 [N, h, w] on the CPU.
        selection: Queries with their weights.
        rows: Where the rows of the output lie among those of the masks, float64.
        columns: Likewise for columns.
        border_logit: Logit above which a mask takes part in a border.
        border_score: Most that reject may be on a border.
        reject_weight: Weight of reject.

    Returns:
        float32 [H, W].

    """
    queries = selection.queries
    result = torch.empty(len(rows.lower), len(columns.lower))
    if not queries:
        return result.fill_(reject_weight)
    arguments = (
        masks.detach().contiguous().numpy(),
        np.array(queries),
        np.array([_cost(selection.inlier, query) for query in queries]),
        np.array([query in selection.border_makers for query in queries]),
        np.array([_cost(selection.anomalous, query) for query in queries]),
        tuple(part.numpy() for part in rows),
        tuple(part.numpy() for part in columns),
        border_logit,
        _f4(border_score),
        _f4(reject_weight),
        result.numpy(),
    )
    _share(lambda top: _score_block_row(top, *arguments), range(0, len(result), _ROWS))
    return result


def _cost(weights: Mapping[int, float], query: int) -> float:
    """Return 1 / w, which is infinite for queries that have no weight."""
    weight = weights.get(query, 0.0)
    return 1 / weight if weight > 0 else math.inf


def _share(work: Callable[[int], object], items: range) -> None:
    """Do work on every item, in the calling thread and as many more as torch may use."""
    left = deque(items)

    def help_out() -> None:
        while left:
            try:
                item = left.popleft()
            except IndexError:  # another thread took the last one
                return
            work(item)

    helpers = min(torch.get_num_threads(), len(items)) - 1
    started = [_pool(os.getpid()).submit(help_out) for _ in range(helpers)]
    help_out()
    for helper in started:
        if not helper.cancel():  # one that did not begin has nothing left to do
            helper.result()


@functools.lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the threads of this process; a forked one does not inherit them."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix='scoring')


def _compiled(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile ahead of the first call, and keep the result on disk where that is possible."""

    def compile_(function: Callable[..., Any]) -> Any:
        try:
            return njit(signature, cache=True, **_OPTIONS)(function)
        except Exception as error:  # no folder can be written, the disk is full, a file is damaged
            _logger.info('The compiled score map is not kept on disk: %s', error)
            return njit(signature, **_OPTIONS)(function)

    return compile_


@njit(**_OPTIONS)
def _add_costs(logits: NDArray[np.float32], cost: np.float32, least: NDArray[np.float32]) -> None:
    """Lower least to (1 + exp(−logit)) · cost."""
    c0, c1, c2, c3, c4, c5, c6 = _POWERS
    for x in range(len(logits)):
        power = min(max(logits[x], -_LIMIT), _LIMIT) * -_LOG2_E
        whole = np.floor(power + _f4(0.5))
        f = power - whole
        scale = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)
        exp = (c0 + f * (c1 + f * (c2 + f * (c3 + f * (c4 + f * (c5 + f * c6)))))) * scale
        least[x] = min(least[x], cost + cost * exp)


@njit(**_OPTIONS)
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


@njit(**_OPTIONS)
def _mix(
    upper: NDArray[np.float64],
    lower: NDArray[np.float64],
    weight: float,
    mixed: NDArray[np.floating[Any]],
) -> None:
    """Mix in float64; what goes into exponentials is rounded, which makes those twice as fast."""
    for x in range(len(mixed)):
        mixed[x] = upper[x] + (lower[x] - upper[x]) * weight


@njit(**_OPTIONS)
def _count(logits: NDArray[np.float64], threshold: float, above: NDArray[np.int32]) -> None:
    for x in range(len(logits)):
        above[x] += np.int32(logits[x] > threshold)


@njit(**_OPTIONS)
def _combine(
    inlier: NDArray[np.float32],
    anomalous: NDArray[np.float32],
    above: NDArray[np.int32],
    border_score: np.float32,
    reject_weight: np.float32,
    scores: NDArray[np.float32],
) -> None:
    one = np.float32(1)
    accept_weight = one - reject_weight
    for x in range(len(scores)):
        reject = one - one / inlier[x]
        limit = border_score if above[x] >= 2 else one
        scores[x] = reject_weight * min(reject, limit) + accept_weight * (one / anomalous[x])


@njit(**_OPTIONS)
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


@njit(**_OPTIONS)
def _cost_at(logit: float, cost: float) -> float:
    return (1 + math.exp(-max(logit, -80.0))) * cost


_AXIS = types.Tuple((types.int64[::1], types.int64[::1], types.float64[::1]))


@_compiled(
    types.void(
        types.int64,
        types.float32[:, :, ::1],
        types.int64[::1],
        types.float64[::1],
        types.boolean[::1],
        types.float64[::1],
        _AXIS,
        _AXIS,
        types.float64,
        types.float32,
        types.float32,
        types.float32[:, ::1],
    )
)
def _score_block_row(
    top: int,
    masks: NDArray[np.float32],
    queries: NDArray[np.int64],
    inlier_costs: NDArray[np.float64],
    is_border_maker: NDArray[np.bool_],
    anomalous_costs: NDArray[np.float64],
    rows: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]],
    columns: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]],
    border_logit: float,
    border_score: np.float32,
    reject_weight: np.float32,
    result: NDArray[np.float32],
) -> None:
    """Write the rows of the result that begin at top, block by block."""
    height, width = result.shape
    upper_rows, lower_rows, row_weights = rows
    left_columns, right_columns, column_weights = columns
    bottom = min(top + _ROWS, height)
    count = len(queries)
    low = np.empty(count, np.float32)
    high = np.empty(count, np.float32)
    least = np.empty(masks.shape[2], np.float32)
    largest = np.empty(masks.shape[2], np.float32)
    upper = np.empty(_COLUMNS, np.float64)
    lower = np.empty(_COLUMNS, np.float64)
    exact = np.empty(_COLUMNS, np.float64)
    logits = np.empty(_COLUMNS, np.float32)
    inlier = np.empty((_ROWS, _COLUMNS), np.float32)
    anomalous = np.empty((_ROWS, _COLUMNS), np.float32)
    above = np.empty((_ROWS, _COLUMNS), np.int32)

    for left in range(0, width, _COLUMNS):
        right = min(left + _COLUMNS, width)
        size = right - left
        below = (
            slice(upper_rows[top], lower_rows[bottom - 1] + 1),
            slice(left_columns[left], right_columns[right - 1] + 1),
        )
        # The query that is best at its worst pixel rules out all that are worse at their best.
        worst_inlier = worst_anomalous = _LARGEST_COST
        surely_above = perhaps_above = 0
        for i in range(count):
            low[i], high[i] = _range(masks[queries[i]][below], least, largest)
            worst_inlier = min(worst_inlier, _cost_at(low[i], inlier_costs[i]))
            worst_anomalous = min(worst_anomalous, _cost_at(low[i], anomalous_costs[i]))
            if is_border_maker[i]:
                surely_above += low[i] > border_logit
                perhaps_above += low[i] <= border_logit and high[i] > border_logit
        borders_vary = surely_above < 2 and surely_above + perhaps_above >= 2

        inlier[:] = _NOTHING
        anomalous[:] = _NOTHING
        above[:] = surely_above
        for i in range(count):
            in_reject = _cost_at(high[i], inlier_costs[i]) <= worst_inlier
            in_accept = _cost_at(high[i], anomalous_costs[i]) <= worst_anomalous
            in_borders = (
                borders_vary
                and is_border_maker[i]
                and low[i] <= border_logit
                and high[i] > border_logit
            )
            if not (in_reject or in_accept or in_borders):
                continue
            mask = masks[queries[i]]
            inlier_cost, anomalous_cost = _f4(inlier_costs[i]), _f4(anomalous_costs[i])
            lefts, rights = left_columns[left:right], right_columns[left:right]
            weights = column_weights[left:right]
            upper_row = lower_row = -1
            for y in range(top, bottom):
                if upper_rows[y] != upper_row or lower_rows[y] != lower_row:
                    upper_row = upper_rows[y]
                    if upper_row == lower_row:
                        upper, lower = lower, upper
                    else:
                        _sample_columns(mask[upper_row], lefts, rights, weights, upper[:size])
                    lower_row = lower_rows[y]
                    _sample_columns(mask[lower_row], lefts, rights, weights, lower[:size])
                if in_borders:
                    _mix(upper, lower, row_weights[y], exact[:size])
                    _count(exact[:size], border_logit, above[y - top])
                if in_reject or in_accept:
                    _mix(upper, lower, row_weights[y], logits[:size])
                if in_reject:
                    _add_costs(logits[:size], inlier_cost, inlier[y - top])
                if in_accept:
                    _add_costs(logits[:size], anomalous_cost, anomalous[y - top])

        for y in range(top, bottom):
            row = y - top
            _combine(
                inlier[row, :size],
                anomalous[row, :size],
                above[row, :size],
                border_score,
                reject_weight,
                result[y, left:right],
            )
