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

"""The anomaly score on a GPU: one kernel that reads the logits once and writes the score once.

A program computes one tile of the output, query by query, and keeps its running maxima in
registers; a query without a part in the score is not read. At a quarter of the output size the
four mask pixels around a point are shared by 16 output pixels, so that all but the first read of
each comes from a cache. Nothing is copied to the host but two flags: whether logits were finite,
and whether they were close enough to be mixed in float32. Where neighbours differ by more than
`_FARTHEST`, the caller runs the kernel again, and it mixes in float64.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from maskomaly_ros.fused.triton_functions import mixed_logit

if TYPE_CHECKING:
    from maskomaly_ros.scoring import Fusion

# Four pixels a thread, so that their values stay in registers and many warps fit. 64 neighbours
# make whole memory transactions.
_TILE_ROWS: Final = 8
_TILE_COLUMNS: Final = 64
_WARPS: Final = 4
_FARTHEST: Final = 64.0  # mixing logits that differ by this is off by 2e-5, 5e-6 of a mask
_FUSIONS: Final = ('sum', 'geometric', 'product', 'minimum')


def score(
    masks: Tensor,
    inlier: Tensor,
    border_makers: Tensor,
    anomalous: Tensor,
    rows: tuple[Tensor, Tensor, Tensor],
    columns: tuple[Tensor, Tensor, Tensor],
    border_logit: float,
    fusion: Fusion,
    reject_weight: float,
    border_score: float,
    *,
    exact: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the scores of a batch of frames, without waiting for the device.

    Args:
        masks: Mask logits [B, N, h, w], float16, bfloat16 or float32.
        inlier: log((1 − w) / w) of every query's weight w in reject [B, N]; infinity leaves it
            out.
        border_makers: Not 0 for queries whose overlaps make borders [B, N].
        anomalous: The same as inlier, of the weights in accept.
        rows: Upper neighbour, lower neighbour and weight of the latter for each output row.
        columns: Likewise for columns.
        border_logit: Logit above which a mask takes part in a border.
        fusion: How reject and accept are joined.
        reject_weight: Weight of reject; for a geometric mean neither 0 nor 1.
        border_score: Most that reject may be on a border.
        exact: Mix logits in float64.

    Returns:
        Scores, float32 [B, H, W], and two flags, bool []: whether every logit used is finite, and
        whether all were close enough, or exact was asked for.

    """
    batch, queries = masks.shape[:2]
    height, width = len(rows[0]), len(columns[0])
    scores = torch.empty(batch, height, width, device=masks.device)
    found = torch.zeros(2, dtype=torch.int32, device=masks.device)
    grid = (triton.cdiv(width, _TILE_COLUMNS), triton.cdiv(height, _TILE_ROWS), batch)
    with torch.cuda.device(masks.device) if masks.is_cuda else nullcontext():
        _score_tile[grid](
            masks,
            *(part.to(torch.float32).contiguous() for part in (inlier, border_makers, anomalous)),
            *rows,
            *columns,
            scores,
            found,
            queries,
            height,
            width,
            *masks.stride(),
            float(border_logit),
            float(border_score),
            math.log(border_score) if border_score else -math.inf,
            float(reject_weight),
            float(1 - reject_weight),
            fusion=_FUSIONS.index(fusion),
            exact=exact,
            farthest=_FARTHEST,
            tile_rows=_TILE_ROWS,
            tile_columns=_TILE_COLUMNS,
            num_warps=_WARPS,
        )
    finite, close = (found == 0).unbind()
    return scores, finite, close


@triton.jit
def _softplus(value):  # type: ignore[no-untyped-def]
    return tl.maximum(value, 0.0) + _log1p(tl.exp(-tl.abs(value)))


@triton.jit
def _log1p(value):  # type: ignore[no-untyped-def]
    """Return log(1 + value) from 0 to 1: what is lost in the sum is put right by a quotient."""
    total = 1.0 + value
    near = total == 1.0
    return tl.where(near, value, tl.log(total) * (value / tl.where(near, 1.0, total - 1.0)))


@triton.jit
def _score_tile(  # type: ignore[no-untyped-def]
    masks,
    inlier,
    border_makers,
    anomalous,
    upper_rows,
    lower_rows,
    row_weights,
    left_columns,
    right_columns,
    column_weights,
    scores,
    found,
    queries,
    height,
    width,
    frame_stride,
    query_stride,
    row_stride,
    column_stride,
    border_logit,
    border_score,
    log_border_score,
    reject_weight,
    accept_weight,
    fusion: tl.constexpr,
    exact: tl.constexpr,
    farthest: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
):
    kind: tl.constexpr = tl.float64 if exact else tl.float32
    geometric: tl.constexpr = fusion == 1
    frame = tl.program_id(2).to(tl.int64)
    y = tl.program_id(1) * tile_rows + tl.arange(0, tile_rows)
    x = tl.program_id(0) * tile_columns + tl.arange(0, tile_columns)
    y_inside, x_inside = y < height, x < width
    upper = tl.load(upper_rows + y, y_inside, 0).to(tl.int32)[:, None] * row_stride
    lower = tl.load(lower_rows + y, y_inside, 0).to(tl.int32)[:, None] * row_stride
    left = tl.load(left_columns + x, x_inside, 0).to(tl.int32)[None, :] * column_stride
    right = tl.load(right_columns + x, x_inside, 0).to(tl.int32)[None, :] * column_stride
    down = tl.load(row_weights + y, y_inside, 0).to(kind)[:, None]
    across = tl.load(column_weights + x, x_inside, 0).to(kind)[None, :]

    # Of a geometric mean the least logit of 1 − m · w is kept in place of the largest m · w.
    nothing: tl.constexpr = float('inf') if geometric else 0.0
    best_inlier = tl.full((tile_rows, tile_columns), nothing, tl.float32)
    best_anomalous = tl.full((tile_rows, tile_columns), nothing, tl.float32)
    first_logit = tl.full((tile_rows, tile_columns), float('-inf'), tl.float32)
    second_logit = tl.full((tile_rows, tile_columns), float('-inf'), tl.float32)
    finite = tl.full((tile_rows, tile_columns), 1, tl.int1)
    close = tl.full((tile_rows, tile_columns), 1, tl.int1)
    mask = masks + frame * frame_stride
    for query in range(queries):
        index = frame * queries + query
        against_inlier = tl.load(inlier + index)
        against_anomalous = tl.load(anomalous + index)
        is_inlier = against_inlier < float('inf')
        is_anomalous = against_anomalous < float('inf')
        makes_borders = tl.load(border_makers + index) != 0
        if makes_borders | is_inlier | is_anomalous:
            logit, apart = mixed_logit(mask, upper, lower, left, right, down, across, kind)
            finite &= tl.abs(logit) < float('inf')  # false for NaN
            if not exact:
                close &= apart <= farthest
            if geometric:
                if is_inlier:
                    far = _softplus(against_inlier) - logit
                    odds = tl.maximum(against_inlier, far) + _log1p(
                        tl.exp(-tl.abs(against_inlier - far))
                    )
                    best_inlier = tl.minimum(best_inlier, odds)
                if is_anomalous:
                    far = _softplus(against_anomalous) - logit
                    odds = tl.maximum(against_anomalous, far) + _log1p(
                        tl.exp(-tl.abs(against_anomalous - far))
                    )
                    best_anomalous = tl.minimum(best_anomalous, odds)
            else:
                value = 1 / (1 + tl.exp(-logit))
                inlier_weight = 1 / (1 + tl.exp(against_inlier))
                anomalous_weight = 1 / (1 + tl.exp(against_anomalous))
                best_inlier = tl.maximum(best_inlier, value * inlier_weight)
                best_anomalous = tl.maximum(best_anomalous, value * anomalous_weight)
            if makes_borders:
                second_logit = tl.maximum(second_logit, tl.minimum(first_logit, logit))
                first_logit = tl.maximum(first_logit, logit)
        mask += query_stride

    is_border = second_logit > border_logit
    if geometric:
        log_reject = -_softplus(-best_inlier)
        log_reject = tl.where(is_border, tl.minimum(log_reject, log_border_score), log_reject)
        score = tl.exp(reject_weight * log_reject - accept_weight * _softplus(best_anomalous))
    else:
        reject = 1 - best_inlier
        reject = tl.where(is_border, tl.minimum(reject, border_score), reject)
        if fusion == 0:
            score = reject_weight * reject + accept_weight * best_anomalous
        elif fusion == 2:
            score = reject * best_anomalous
        else:
            score = tl.minimum(reject, best_anomalous)
    target = scores + (frame * height + y[:, None]) * width + x[None, :]
    inside = y_inside[:, None] & x_inside[None, :]
    tl.store(target, score, inside)
    if tl.sum((inside & (finite == 0)).to(tl.int32)) > 0:
        tl.atomic_or(found, 1)
    if tl.sum((inside & (close == 0)).to(tl.int32)) > 0:
        tl.atomic_or(found + 1, 1)
