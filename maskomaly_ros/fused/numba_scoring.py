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
the least and the largest mask pixel below the block. That leaves out most of the work, exactly:

- Borders come first, since reject is at most border_score on them. Border makers above or below
  the threshold everywhere in the block are not sampled, nor is any once all pixels are borders.
- Then the inlier queries, the most promising first. One that at its best pixel is no better than
  what every pixel of the block has by then cannot win anywhere; the anomalous ones likewise.

In a typical block three of two dozen queries are left, and nothing larger than a block is held.

The largest m · w is found by the least odds (1 − m · w) / (m · w), which are
(1 − w) / w + exp(−logit) / w: without a division for every query and pixel, and exact where m · w
is next to 0 or to 1, so that powers of reject and accept are, too.

Pixels between the same two columns of the mask are kept apart, each in a plane with those of the
same rank in other gaps, so that sampling reads and writes whole vectors; they take their places
again when the score is written.

Masks are sampled in float32 where that is exact to 1e-5, and in float64 where logits are far
apart or a pixel is so near the border threshold that rounding could decide it.

Work is shared by threads of our own, not by those of numba: some of its threading layers must not
be entered by two Python threads at once, and OpenMP does not survive a fork.
"""

from __future__ import annotations

import functools
import math
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import torch
from numba import njit, types
from numpy.typing import NDArray
from torch import Tensor

from maskomaly_ros.fused.numba_compilation import OPTIONS, compiled
from maskomaly_ros.fused.numba_functions import exp2, log2

if TYPE_CHECKING:
    from maskomaly_ros.scoring import Axis, Fusion

_ROWS: Final = 32  # height of a block in output pixels, about ...
_COLUMNS: Final = 128  # ... and its width: bounds are tight and rows still fill vector registers
_VECTOR: Final = 16  # pixels that a processor computes at once, at most
# A product m · w below 1e-7 is taken for 0, but where a root is drawn of it.
_LARGEST_ODDS: Final = 1e7
_NOTHING: Final = np.float32(3e38)
# exp(−logit) = 2 ** (_TO_POWER · logit)
_TO_POWER: Final = -math.log2(math.e)
# Powers up to here (logits up to 66) are mixed in float32: wrong by 4e-5 at most, 7e-6 of a mask.
_LARGEST_PLAIN: Final = 96.0
# Odds beyond 2 ** ±_LARGEST_PLAIN are kept as 2 ** 96 · (1 + log2(odds) − 96) and its inverse: in
# the range of float32 whatever the logits, in the same order, and their logarithm can be had.
_PLAIN_ODDS: Final = 2.0**_LARGEST_PLAIN
_FARTHEST: Final = 1e8  # beyond this powers of two are all the same
_HUGE: Final = 1e30  # differences of powers beyond this may not be a float32
_ROUNDING: Final = 1e-6  # of mixing in float32, as a part of the largest power; safely

_f4 = np.float32


FUSIONS: Final = ('sum', 'geometric', 'product', 'minimum')
"""The ways to join reject and accept; compiled code knows them by their place."""


def score(
    masks: Tensor,
    inlier: Tensor,
    border_makers: Tensor,
    anomalous: Tensor,
    rows: Axis,
    columns: Axis,
    border_logit: float,
    fusion: Fusion,
    reject_weight: float,
    border_score: float,
) -> Tensor:
    """Return the score of one frame.

    Uses as many threads as torch does (`torch.get_num_threads`); may be called from several
    Python threads at once.

    Args:
        masks: Mask logits [N, h, w] on the CPU; float16, bfloat16 or float32.
        inlier: log((1 − w) / w) of every query's weight w in reject, float64 [N]; infinity leaves
            it out.
        border_makers: Whether overlaps of a query make borders, bool [N].
        anomalous: The same as inlier, of the weights in accept.
        rows: Where the rows of the output lie among those of the masks, float64.
        columns: Likewise for columns.
        border_logit: Logit above which a mask takes part in a border.
        fusion: How reject and accept are joined.
        reject_weight: Weight of reject; for a geometric mean neither 0 nor 1.
        border_score: Most that reject may be on a border.

    Returns:
        float32 [H, W].

    """
    against_inlier, against_anomalous = (part.numpy() * -_TO_POWER for part in (inlier, anomalous))
    makers = border_makers.numpy()
    queries = np.flatnonzero(makers | (np.minimum(against_inlier, against_anomalous) < math.inf))
    # Not by torch, which wants it aligned: glibc's malloc then looks for a place larger than it
    # needs, passes over the one that the last score map left, and the heap grows.
    result = torch.from_numpy(np.empty((len(rows.lower), len(columns.lower)), np.float32))
    if not len(queries):
        return result.fill_(reject_weight if fusion == 'sum' else 0)
    indices = queries
    if masks.dtype != torch.float32 or not masks.is_contiguous():
        masks = masks[torch.from_numpy(queries)].float().contiguous()
        indices = np.arange(len(queries))
    # Of accept nothing is left out that a root would make more than 1e-7.
    nothing = _LARGEST_ODDS
    if fusion == 'geometric':
        nothing = _odds_of_power.py_func(-math.log2(1e-7) / (1 - reject_weight))
    row_gaps = _Gaps.between(rows, _ROWS)
    arguments = (
        masks.detach().numpy(),
        indices,
        against_inlier[queries],
        makers[queries],
        against_anomalous[queries],
        tuple(row_gaps),
        tuple(_Gaps.between(columns, _COLUMNS)),
        tuple(_Planes.of(columns)),
        border_logit * _TO_POWER,
        _border_odds(border_score),
        nothing,
        FUSIONS.index(fusion),
        reject_weight,
        result.numpy(),
    )
    _share(lambda block: _score_block_row(block, *arguments), range(len(row_gaps.blocks) - 1))
    return result


def _border_odds(score: float) -> float:
    if 0 < score < 1 / _PLAIN_ODDS:  # where odds are equal to the score
        return float(_odds_of_power.py_func(math.log2(score)))
    return score / (1 - score) if score < 1 else math.inf


class _Gaps(NamedTuple):
    """Say which output pixels of an axis lie between the same two mask pixels.

    Attributes:
        lower: Mask pixel before each gap.
        upper: Mask pixel behind it.
        starts: First output pixel of each gap, and the end of the last.
        weights: Weight of `upper` for every output pixel.
        blocks: First gap of each block, and the end of the last.

    """

    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    starts: NDArray[np.int64]
    weights: NDArray[np.float64]
    blocks: NDArray[np.int64]

    @classmethod
    @functools.lru_cache(maxsize=32)  # scoring keeps as many axes, and never makes one anew
    def between(cls, axis: Axis, size: int) -> _Gaps:
        """Return the gaps of an axis, in blocks of about so many output pixels."""
        lower, upper, weights = (part.numpy() for part in axis)
        # Pixels before the first mask pixel, clamped to it, are a gap of their own, lest the
        # first gap hold half as many again as others.
        clamped = (lower == 0) & (weights == 0)
        begins = (np.diff(lower) != 0) | (np.diff(upper) != 0) | (clamped[:-1] & ~clamped[1:])
        firsts = np.concatenate([[0], np.flatnonzero(begins) + 1])
        starts = np.append(firsts, len(lower))
        count = round(len(firsts) * np.diff(starts).max() / size)
        blocks = np.linspace(0, len(firsts), min(max(count, 1), len(firsts)) + 1)
        return cls(lower[firsts], upper[firsts], starts, weights, blocks.astype(np.int64))


class _Planes(NamedTuple):
    """Say where the columns of a block are kept while it is computed.

    A block of g gaps is kept as planes: slot k · g + i is column k of gap i. Where a gap has fewer
    columns than others its last one is repeated; what follows the last plane does not matter, but
    lies between the same mask pixels.

    Attributes:
        slots: Number of slots of each block, whole vectors.
        weights: Weight of the right mask pixel for every slot of every block.
        plain_weights: The same in float32.
        in_line: Whether the mask pixels of a block are neighbours, gap by gap.
        slot_of: Slot of every output column.

    """

    slots: NDArray[np.int64]
    weights: NDArray[np.float64]
    plain_weights: NDArray[np.float32]
    in_line: NDArray[np.bool_]
    slot_of: NDArray[np.uintp]

    @classmethod
    @functools.lru_cache(maxsize=32)
    def of(cls, axis: Axis) -> _Planes:
        """Return the planes of the blocks of an axis."""
        gaps = _Gaps.between(axis, _COLUMNS)
        slot_of = np.empty(gaps.starts[-1], np.uintp)
        slots, weights, in_line = [], [], []
        for first, last in zip(gaps.blocks, gaps.blocks[1:], strict=False):
            starts, ends = gaps.starts[first:last], gaps.starts[first + 1 : last + 1]
            ranks = np.arange((ends - starts).max())[:, None]
            columns = np.minimum(starts + ranks, ends - 1).ravel()
            for slot in reversed(range(len(columns))):  # the first of several slots counts
                slot_of[columns[slot]] = slot
            slots.append(-(-len(columns) // _VECTOR) * _VECTOR)
            weights.append(gaps.weights[columns])
            lower, upper = gaps.lower[first:last], gaps.upper[first:last]
            in_line.append((np.diff(lower) == 1).all() and (upper == lower + 1).all())
        table = np.zeros((len(slots), max(slots)))
        for row, some in zip(table, weights, strict=True):
            row[: len(some)] = some
        return cls(np.array(slots), table, table.astype(np.float32), np.array(in_line), slot_of)


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


# Logits are sampled as powers, so a power is low where a mask is high. The functions below take
# whole arrays and indices, because a slice costs as much as a dozen pixels.


@njit(**OPTIONS)
def _sample(
    masks: NDArray[np.float32],
    query: int,
    lines: NDArray[np.int64],
    lefts: NDArray[np.int64],
    rights: NDArray[np.int64],
    in_line: bool,
    weights: NDArray[np.floating[Any]],
    to_power: np.floating[Any],
    powers: NDArray[np.floating[Any]],
) -> None:
    """Sample lines of a mask in the columns of a block."""
    # Indices without a sign are not checked for counting from the end, which would keep the loops
    # from being vectorised.
    gaps, slots = np.uintp(len(lefts)), np.uintp(powers.shape[1])
    used = slots // gaps * gaps
    first, second = np.uintp(lefts[0]), np.uintp(lefts[0] + 1)
    for k in range(len(powers)):
        line = lines[k]
        for plane in range(np.uintp(0), used, gaps):
            if in_line:
                for i in range(gaps):
                    power = to_power * masks[query, line, first + i]
                    step = to_power * masks[query, line, second + i] - power
                    powers[k, plane + i] = power + step * weights[plane + i]
            else:
                for i in range(gaps):
                    power = to_power * masks[query, line, lefts[i]]
                    step = to_power * masks[query, line, rights[i]] - power
                    powers[k, plane + i] = power + step * weights[plane + i]
        for i in range(used, slots):
            powers[k, i] = powers[k, used - np.uintp(1)]


@njit(**OPTIONS)
def _lower_odds(
    powers: NDArray[np.float32],
    uppers: NDArray[np.int64],
    lowers: NDArray[np.int64],
    weights: NDArray[np.float32],
    against: np.float32,
    factor: np.float32,
    least: NDArray[np.float32],
) -> None:
    """Lower least to against + exp(−logit) · factor."""
    height, slots = least.shape
    for y in range(height):
        upper, lower, weight = uppers[y], lowers[y], weights[y]
        for x in range(slots):
            power = powers[upper, x] + (powers[lower, x] - powers[upper, x]) * weight
            least[y, x] = min(least[y, x], against + factor * exp2(power))


@njit(**OPTIONS)
def _lower_far_odds(
    powers: NDArray[np.float32], against: np.float32, least: NDArray[np.float32]
) -> None:
    """Lower least to against + 2 ** power, on the scale of odds that are far from 1."""
    height, slots = least.shape
    for y in range(height):
        for x in range(slots):
            near = min(max(powers[y, x], _f4(-_LARGEST_PLAIN)), _f4(_LARGEST_PLAIN))
            beyond = max(powers[y, x] - _f4(_LARGEST_PLAIN), _f4(0))
            odds = (against + exp2(near)) * (_f4(1) + beyond)
            least[y, x] = min(least[y, x], odds)


@njit(**OPTIONS)
def _lower_extreme_odds(
    powers: NDArray[np.float32], against_power: float, least: NDArray[np.float32]
) -> None:
    """Lower least to 2 ** against_power + 2 ** power, where either may be out of float32."""
    height, slots = least.shape
    for y in range(height):
        for x in range(slots):
            power = _add_powers(against_power, np.float64(powers[y, x]))
            least[y, x] = min(least[y, x], _f4(_odds_of_power(power)))


@njit(**OPTIONS)
def _lower_two(
    powers: NDArray[np.float32],
    uppers: NDArray[np.int64],
    lowers: NDArray[np.int64],
    weights: NDArray[np.float32],
    first: NDArray[np.float32],
    second: NDArray[np.float32],
) -> None:
    """Lower the least and the second least of all powers so far to these."""
    height, slots = first.shape
    for y in range(height):
        upper, lower, weight = uppers[y], lowers[y], weights[y]
        for x in range(slots):
            power = powers[upper, x] + (powers[lower, x] - powers[upper, x]) * weight
            second[y, x] = min(second[y, x], max(first[y, x], power))
            first[y, x] = min(first[y, x], power)


@njit(**OPTIONS)
def _count_below(
    powers: NDArray[np.float64],
    uppers: NDArray[np.int64],
    lowers: NDArray[np.int64],
    weights: NDArray[np.float64],
    threshold: float,
    below: NDArray[np.float32],
) -> None:
    height, slots = below.shape
    for y in range(height):
        upper, lower, weight = uppers[y], lowers[y], weights[y]
        for x in range(slots):
            power = powers[upper, x] + (powers[lower, x] - powers[upper, x]) * weight
            below[y, x] += _f4(power < threshold)


@njit(**OPTIONS)
def _mix(
    powers: NDArray[np.float64],
    uppers: NDArray[np.int64],
    lowers: NDArray[np.int64],
    weights: NDArray[np.float64],
    factor_power: float,
    mixed: NDArray[np.float32],
) -> None:
    """Mix what float32 cannot, and multiply by 2 ** factor_power."""
    height, slots = mixed.shape
    for y in range(height):
        upper, lower, weight = uppers[y], lowers[y], weights[y]
        for x in range(slots):
            power = powers[upper, x] + (powers[lower, x] - powers[upper, x]) * weight
            mixed[y, x] = _f4(min(max(power + factor_power, -_FARTHEST), _FARTHEST))


@njit(**OPTIONS)
def _largest_of(values: NDArray[np.float32], scratch: NDArray[np.float32]) -> float:
    """Return the largest value; column by column first, which vectorises."""
    height, slots = values.shape
    for x in range(slots):
        scratch[x] = values[height - 1, x]
    for y in range(0, height - 1, 4):
        y1, y2, y3 = min(y + 1, height - 1), min(y + 2, height - 1), min(y + 3, height - 1)
        for x in range(slots):
            upper = max(values[y, x], values[y1, x])
            lower = max(values[y2, x], values[y3, x])
            scratch[x] = max(scratch[x], max(upper, lower))
    largest = scratch[0]
    for x in range(1, slots):
        largest = max(largest, scratch[x])
    return np.float64(largest)


@njit(**OPTIONS)
def _any_near(powers: NDArray[np.float32], threshold: float, distance: float) -> bool:
    lower, upper = _f4(threshold - distance), _f4(threshold + distance)
    height, slots = powers.shape
    near = 0
    for y in range(height):
        for x in range(slots):
            near += (powers[y, x] >= lower) & (powers[y, x] <= upper)
    return near > 0


@njit(**OPTIONS)
def _place_borders(
    second: NDArray[np.float32],
    threshold: float,
    cost: np.float32,
    least: NDArray[np.float32],
) -> float:
    """Set least to cost or nothing; return the largest of them."""
    height, slots = second.shape
    limit = _f4(threshold)
    borders = 0
    for y in range(height):
        for x in range(slots):
            least[y, x] = cost if second[y, x] < limit else _NOTHING
            borders += second[y, x] < limit
    return np.float64(cost if borders == height * slots else _NOTHING)


@njit(**OPTIONS)
def _range_of_columns(
    masks: NDArray[np.float32],
    query: int,
    top: int,
    bottom: int,
    i: int,
    least: NDArray[np.float32],
    largest: NDArray[np.float32],
) -> None:
    width = least.shape[1]
    for x in range(width):
        least[i, x] = largest[i, x] = masks[query, top, x]
    for y in range(top + 1, bottom):
        for x in range(width):
            least[i, x] = min(least[i, x], masks[query, y, x])
            largest[i, x] = max(largest[i, x], masks[query, y, x])


@njit(**OPTIONS)
def _add_powers(one: float, other: float) -> float:
    """Return log2(2 ** one + 2 ** other)."""
    difference = abs(one - other)
    return max(one, other) + math.log2(1 + 2**-difference) if difference < 1e3 else max(one, other)


@njit(**OPTIONS)
def _odds_of_power(power: float) -> float:
    """Return odds of 2 ** power, on the scale that keeps those far from 1."""
    if power > _LARGEST_PLAIN:
        return _PLAIN_ODDS * (1 + min(power, _FARTHEST) - _LARGEST_PLAIN)
    if power < -_LARGEST_PLAIN:
        return 1 / (_PLAIN_ODDS * (1 - max(power, -_FARTHEST) - _LARGEST_PLAIN))
    return float(2.0**power)


@njit(**OPTIONS)
def _odds_at(power: float, against_power: float, factor_power: float) -> float:
    """Return the odds that a query gives where its logit is this."""
    shifted = power + factor_power
    if abs(shifted) < _LARGEST_PLAIN - 1 and abs(against_power) < _LARGEST_PLAIN - 1:
        return np.float64(exp2(_f4(shifted))) + np.float64(exp2(_f4(against_power)))
    return _odds_of_power(_add_powers(against_power, shifted))


@njit(**OPTIONS)
def _most_promising(expected: NDArray[np.float64], best: NDArray[np.float64], limit: float) -> int:
    """Return the query of least expected odds that may fall below the limit, or −1."""
    found = -1
    for i in range(len(expected)):
        if best[i] < limit and (found < 0 or expected[i] < expected[found]):
            found = i
    return found


@njit(**OPTIONS)
def _log2_share(odds: np.float32) -> Any:
    """Return log2 of odds / (1 + odds), by odds on the scale that keeps those far from 1."""
    near = max(odds, _f4(1 / _PLAIN_ODDS))
    beyond = max(_f4(1 / _PLAIN_ODDS) / odds - _f4(1), _f4(0))
    return log2(near / (_f4(1) + near)) - beyond


@njit(**OPTIONS)
def _log2_rest(odds: np.float32) -> Any:
    """Return log2 of 1 / (1 + odds), likewise."""
    near = min(odds, _f4(_PLAIN_ODDS))
    beyond = max(odds * _f4(1 / _PLAIN_ODDS) - _f4(1), _f4(0))
    return -log2(_f4(1) + near) - (beyond if odds < _NOTHING else _f4(1e30))


@njit(**OPTIONS)
def _fuse(
    inlier: NDArray[np.float32],
    anomalous: NDArray[np.float32],
    y: int,
    fusion: int,
    reject_weight: np.float32,
    accept_weight: np.float32,
    fused: NDArray[np.float32],
) -> None:
    """Join reject and accept of one row, given the odds of reject and against accept."""
    one = _f4(1)
    if fusion == 0:
        for x in range(len(fused)):
            reject = inlier[y, x] / (one + inlier[y, x])
            fused[x] = reject_weight * reject + accept_weight / (one + anomalous[y, x])
    elif fusion == 1:
        lowest = _f4(-120)
        for x in range(len(fused)):
            reject = reject_weight * max(_log2_share(inlier[y, x]), _f4(-1e30))
            accept = accept_weight * _log2_rest(anomalous[y, x])
            power = reject + accept
            fused[x] = exp2(max(power, lowest)) if power > lowest else _f4(0)
    elif fusion == 2:
        for x in range(len(fused)):
            reject = inlier[y, x] / (one + inlier[y, x])
            fused[x] = reject / (one + anomalous[y, x])
    else:
        for x in range(len(fused)):
            reject = inlier[y, x] / (one + inlier[y, x])
            fused[x] = min(reject, one / (one + anomalous[y, x]))


_AXIS = (types.int64[::1], types.int64[::1], types.int64[::1], types.float64[::1])


@compiled(
    types.void(
        types.int64,
        types.float32[:, :, ::1],
        types.int64[::1],
        types.float64[::1],
        types.boolean[::1],
        types.float64[::1],
        types.Tuple((*_AXIS, types.int64[::1])),
        types.Tuple((*_AXIS, types.int64[::1])),
        types.Tuple(
            (
                types.int64[::1],
                types.float64[:, ::1],
                types.float32[:, ::1],
                types.boolean[::1],
                types.uintp[::1],
            )
        ),
        types.float64,
        types.float64,
        types.float64,
        types.int64,
        types.float64,
        types.float32[:, ::1],
    )
)
def _score_block_row(
    block_row: int,
    masks: NDArray[np.float32],
    queries: NDArray[np.int64],
    against_inlier: NDArray[np.float64],
    is_border_maker: NDArray[np.bool_],
    against_anomalous: NDArray[np.float64],
    row_gaps: tuple[NDArray[Any], ...],
    column_gaps: tuple[NDArray[Any], ...],
    planes: tuple[NDArray[Any], ...],
    border_power: float,
    border_odds: float,
    nothing: float,
    fusion: int,
    reject_weight: float,
    result: NDArray[np.float32],
) -> None:
    """Write one row of blocks of the result."""
    gap_uppers, gap_lowers, gap_tops, all_weights, block_rows = row_gaps
    all_lefts, all_rights, gap_starts, _, blocks = column_gaps
    all_slots, slot_weights, plain_slot_weights, all_in_line, slot_of = planes
    border_odds = min(border_odds, np.float64(_NOTHING))

    # Which lines of the masks each row lies between
    begin, end = block_rows[block_row], block_rows[block_row + 1]
    top, bottom = gap_tops[begin], gap_tops[end]
    height = bottom - top
    weights = all_weights[top:bottom]
    plain_weights = weights.astype(np.float32)
    uppers = np.empty(height, np.int64)
    lowers = np.empty(height, np.int64)
    lines = np.empty(2 * (end - begin), np.int64)
    used = 0
    for gap in range(begin, end):
        for line in (gap_uppers[gap], gap_lowers[gap]):
            if used == 0 or lines[used - 1] < line:
                lines[used] = line
                used += 1
        for y in range(gap_tops[gap] - top, gap_tops[gap + 1] - top):
            lowers[y] = used - 1
            uppers[y] = used - 1 if gap_uppers[gap] == gap_lowers[gap] else used - 2

    lines = lines[:used]

    count = len(queries)
    least = np.empty((count, masks.shape[2]), np.float32)
    largest = np.empty((count, masks.shape[2]), np.float32)
    for i in range(count):
        _range_of_columns(masks, queries[i], lines[0], lines[used - 1] + 1, i, least, largest)
    low = np.empty(count, np.float64)
    high = np.empty(count, np.float64)
    best = np.empty(count, np.float64)
    expected = np.empty(count, np.float64)
    factors = np.empty((2, count), np.float64)  # log2 of 1 / w
    for i in range(count):
        factors[0, i] = _add_powers(0.0, against_inlier[i])
        factors[1, i] = _add_powers(0.0, against_anomalous[i])

    for block in range(len(blocks) - 1):
        lefts = all_lefts[blocks[block] : blocks[block + 1]]
        rights = all_rights[blocks[block] : blocks[block + 1]]
        in_line = all_in_line[block]
        slots = all_slots[block]
        across, plain_across = slot_weights[block], plain_slot_weights[block]
        inlier = np.empty((height, slots), np.float32)
        anomalous = np.empty((height, slots), np.float32)
        first = np.empty((height, slots), np.float32)
        second = np.empty((height, slots), np.float32)
        powers = np.empty((used, slots), np.float32)
        exact_powers = np.empty((used, slots), np.float64)
        scratch = np.empty(slots, np.float32)

        surely = varying = 0
        farthest = 0.0
        for i in range(count):
            lowest, highest = least[i, lefts[0]], largest[i, lefts[0]]
            for x in range(lefts[0] + 1, rights[len(rights) - 1] + 1):
                lowest = min(lowest, least[i, x])
                highest = max(highest, largest[i, x])
            low[i] = np.float64(highest) * _TO_POWER
            high[i] = np.float64(lowest) * _TO_POWER
            best[i] = math.inf
            if is_border_maker[i]:
                if high[i] < border_power:
                    surely += 1
                elif low[i] < border_power:
                    varying += 1
                    best[i], expected[i] = -math.inf, low[i] + high[i]
                    farthest = max(farthest, max(-low[i], high[i]))

        # Borders, which are where reject begins: no inlier query matters that is above it there.
        limit = np.float64(_NOTHING)
        inlier[:] = _NOTHING
        if surely >= 2:
            limit = border_odds
            inlier[:] = _f4(border_odds)
        elif surely + varying >= 2:
            first[:] = -math.inf if surely else math.inf
            second[:] = math.inf
            rounding = farthest * _ROUNDING
            for _ in range(varying if farthest <= _HUGE else 0):
                i = _most_promising(expected, best, math.inf)
                best[i] = math.inf
                _sample(
                    masks,
                    queries[i],
                    lines,
                    lefts,
                    rights,
                    in_line,
                    plain_across,
                    _f4(_TO_POWER),
                    powers,
                )
                _lower_two(powers, uppers, lowers, plain_weights, first, second)
                if _largest_of(second, scratch) < border_power - rounding:
                    break  # borders everywhere
            if farthest > _HUGE or _any_near(second, border_power, rounding):
                second[:] = surely
                for i in range(count):
                    if is_border_maker[i] and low[i] < border_power <= high[i]:
                        _sample(
                            masks,
                            queries[i],
                            lines,
                            lefts,
                            rights,
                            in_line,
                            across,
                            _TO_POWER,
                            exact_powers,
                        )
                        _count_below(exact_powers, uppers, lowers, weights, border_power, second)
                second *= -1
                limit = _place_borders(second, -1.5, _f4(border_odds), inlier)
            else:
                limit = _place_borders(second, border_power, _f4(border_odds), inlier)

        anomalous[:] = _NOTHING
        for accept in range(2):
            against = against_anomalous if accept else against_inlier
            found = anomalous if accept else inlier
            limit = nothing if accept else min(limit, _LARGEST_ODDS)
            for i in range(count):
                best[i] = math.inf
                if against[i] < math.inf:
                    middle = (low[i] + high[i]) / 2
                    best[i] = _odds_at(low[i], against[i], factors[accept, i])
                    expected[i] = _odds_at(middle, against[i], factors[accept, i])
            i = _most_promising(expected, best, limit)
            while i >= 0:
                factor = factors[accept, i]
                if max(-low[i], max(high[i], 0.0) + factor) <= _LARGEST_PLAIN:
                    _sample(
                        masks,
                        queries[i],
                        lines,
                        lefts,
                        rights,
                        in_line,
                        plain_across,
                        _f4(_TO_POWER),
                        powers,
                    )
                    _lower_odds(
                        powers,
                        uppers,
                        lowers,
                        plain_weights,
                        _f4(2.0 ** against[i]),
                        _f4(2.0**factor),
                        found,
                    )
                else:
                    _sample(
                        masks,
                        queries[i],
                        lines,
                        lefts,
                        rights,
                        in_line,
                        across,
                        _TO_POWER,
                        exact_powers,
                    )
                    _mix(exact_powers, uppers, lowers, weights, factor, second)
                    if factor <= 60 and against[i] >= -70:
                        _lower_far_odds(second, _f4(2.0 ** against[i]), found)
                    else:
                        _lower_extreme_odds(second, against[i], found)
                best[i] = math.inf
                i = _most_promising(expected, best, limit)
                if i >= 0:
                    limit = min(limit, _largest_of(found, scratch))
                    i = _most_promising(expected, best, limit)

        left = np.uintp(gap_starts[blocks[block]])
        right = np.uintp(gap_starts[blocks[block + 1]])
        for y in range(height):
            _fuse(
                inlier,
                anomalous,
                y,
                fusion,
                _f4(reject_weight),
                _f4(1 - reject_weight),
                scratch,
            )
            for x in range(left, right):
                result[top + y, x] = scratch[slot_of[x]]
