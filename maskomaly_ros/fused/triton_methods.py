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

"""The scores that sum masks over queries, on a GPU: one kernel that writes one score.

A program computes some neighbouring pixels. It goes through the queries once, keeps the sums s_c
of all classes in registers, and makes of them what is asked for; nothing of the size N · H · W or
C · H · W is ever in memory. Two flags come back: whether logits were finite, and whether
neighbours were close enough to be mixed in float32; where they were not, the caller runs the
kernel again, and it mixes in float64.

`maskomaly_ros.scores` has the formulas, in torch, and is the reference.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from maskomaly_ros.fused.sums import SUMS
from maskomaly_ros.fused.triton_functions import mixed_logit

MOST_CLASSES: Final = 256
"""More sums would not stay in registers."""

_SUMS_AT_ONCE: Final = 4096  # classes times pixels of one program
_WARPS: Final = 4
_FARTHEST: Final = 64.0  # mixing logits that differ by this is off by 2e-5, 5e-6 of a mask


def score(
    masks: Tensor,
    weights: Tensor,
    void: Tensor,
    mean: Tensor,
    deviation: Tensor,
    rows: tuple[Tensor, Tensor, Tensor],
    columns: tuple[Tensor, Tensor, Tensor],
    name: str,
    temperature: float,
    *,
    exact: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return one score of one frame, without waiting for the device.

    Args:
        masks: mask logits [N, h, w], float16, bfloat16 or float32.
        weights: p_n[c] of every query and inlier class, [N, C], C at most `MOST_CLASSES`.
        void: which queries are void, bool [N].
        mean: of the classes, for SML, [C].
        deviation: likewise.
        rows: upper neighbour, lower neighbour and weight of the latter for each output row.
        columns: likewise for columns.
        name: of the score, in `SUMS`.
        temperature: of ODIN.
        exact: mix logits in float64.

    Returns:
        Score, float32 [H, W], and two flags, bool []: whether every logit used is finite, and
        whether all were close enough, or exact was asked for.

    """
    queries, classes = weights.shape
    height, width = len(rows[0]), len(columns[0])
    result = torch.empty(height, width, device=masks.device)
    found = torch.zeros(2, dtype=torch.int32, device=masks.device)
    class_block = triton.next_power_of_2(max(classes, 2))
    pixels = max(16, _SUMS_AT_ONCE // class_block)
    weights = weights.to(torch.float32).contiguous()
    with torch.cuda.device(masks.device) if masks.is_cuda else nullcontext():
        _sum_masks[(triton.cdiv(height * width, pixels),)](
            masks,
            weights,
            weights.amax(1),
            void.to(torch.int32).contiguous(),
            mean.to(torch.float32).contiguous(),
            deviation.to(torch.float32).contiguous(),
            *rows,
            *columns,
            result,
            found,
            queries,
            classes,
            height,
            width,
            *masks.stride(),
            float(temperature),
            1 / math.log(max(classes, 2)),
            which=SUMS.index(name),
            exact=exact,
            farthest=_FARTHEST,
            class_block=class_block,
            pixels=pixels,
            num_warps=_WARPS,
        )
    finite, close = (found == 0).unbind()
    return result, finite, close


@triton.jit
def _expm1(value):  # type: ignore[no-untyped-def]
    """Return exp(value) − 1 for |value| <= 0.5."""
    series = 1 / 24 + value * (1 / 120 + value * (1 / 720 + value * (1 / 5040)))
    return value * (1.0 + value * (1 / 2 + value * (1 / 6 + value * series)))


@triton.jit
def _log1p(value):  # type: ignore[no-untyped-def]
    """Return log(1 + value) for −0.4 <= value <= 0.5."""
    z = value / (2.0 + value)
    q = z * z
    return 2.0 * z * (1.0 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11))))))


@triton.jit
def _sum_masks(  # type: ignore[no-untyped-def]
    masks,
    weights,
    class_weights,
    void,
    mean,
    deviation,
    upper_rows,
    lower_rows,
    row_weights,
    left_columns,
    right_columns,
    column_weights,
    result,
    found,
    queries,
    classes,
    height,
    width,
    query_stride,
    row_stride,
    column_stride,
    temperature,
    entropy_scale,
    which: tl.constexpr,
    exact: tl.constexpr,
    farthest: tl.constexpr,
    class_block: tl.constexpr,
    pixels: tl.constexpr,
):
    kind: tl.constexpr = tl.float64 if exact else tl.float32
    place = tl.program_id(0).to(tl.int64) * pixels + tl.arange(0, pixels)
    inside = place < height * width
    y, x = place // width, place % width
    upper = tl.load(upper_rows + y, inside, 0) * row_stride
    lower = tl.load(lower_rows + y, inside, 0) * row_stride
    left = tl.load(left_columns + x, inside, 0) * column_stride
    right = tl.load(right_columns + x, inside, 0) * column_stride
    down = tl.load(row_weights + y, inside, 0).to(kind)
    across = tl.load(column_weights + x, inside, 0).to(kind)
    number = tl.arange(0, class_block)
    is_class = number < classes

    semantic = tl.zeros((class_block, pixels), tl.float32)
    total = tl.zeros((pixels,), tl.float32)
    strongest = tl.full((pixels,), float('-inf'), tl.float32)
    sign = tl.full((pixels,), 1.0, tl.float32)
    finite = tl.full((pixels,), 1, tl.int1)
    close = tl.full((pixels,), 1, tl.int1)
    mask = masks
    for query in range(queries):
        logit, apart = mixed_logit(mask, upper, lower, left, right, down, across, kind)
        finite &= tl.abs(logit) < float('inf')  # false for NaN
        if not exact:
            close &= apart <= farthest
        if which == 9:
            stronger = logit > strongest  # strictly: of equal masks the first counts
            strongest = tl.where(stronger, logit, strongest)
            is_void = tl.load(void + query) != 0
            sign = tl.where(stronger, tl.where(is_void, 1.0, -1.0), sign)
        else:
            value = 1 / (1 + tl.exp(-logit))
            if which == 0:
                total += value * tl.load(class_weights + query)
            else:
                weight = tl.load(weights + query * classes + number, is_class, 0.0)
                semantic += weight[:, None] * value[None, :]
        mask += query_stride

    if which == 0:
        score = -total
    elif which == 9:
        score = 1 / (1 + tl.exp(-strongest * sign))
    elif which == 1:  # classes that there are not add tanh(0)
        score = -tl.sum(1 - 2 / (tl.exp(2 * tl.minimum(semantic, 20.0)) + 1), 0)
    else:
        present = tl.where(is_class[:, None], semantic, float('-inf'))
        largest = tl.max(present, 0)
        if which == 2:
            score = 1 - largest
        elif which == 4:
            score = -largest
        elif which == 7:
            first = tl.argmax(present, 0)
            chosen = number[:, None] == first[None, :]
            means = tl.load(mean + number, is_class, 0.0)
            deviations = tl.load(deviation + number, is_class, 1.0)
            of_mean = tl.sum(tl.where(chosen, means[:, None], 0.0), 0)
            of_deviation = tl.sum(tl.where(chosen, deviations[:, None], 0.0), 0)
            score = (of_mean - largest) / of_deviation
        elif which == 8:
            small = _expm1((semantic - largest[None, :]) / temperature)
            small = tl.where(is_class[:, None], small, 0.0)
            score = temperature * _log1p(tl.sum(small, 0) / classes)
        else:
            difference = semantic - largest[None, :]
            power = tl.where(is_class[:, None], tl.exp(difference), 0.0)
            sums = tl.sum(power, 0)
            if which == 3:
                score = 1 - 1 / sums
            elif which == 5:
                score = -(largest + tl.log(sums))
            else:
                products = tl.sum(power * difference, 0)
                score = (tl.log(sums) - products / sums) * entropy_scale
    tl.store(result + place, score, inside)
    if tl.sum((inside & (finite == 0)).to(tl.int32)) > 0:
        tl.atomic_or(found, 1)
    if tl.sum((inside & (close == 0)).to(tl.int32)) > 0:
        tl.atomic_or(found + 1, 1)
