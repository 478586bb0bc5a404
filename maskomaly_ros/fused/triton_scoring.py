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
each comes from a cache. Nothing is copied to the host but the one flag that says whether logits
were finite.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

# Four pixels a thread, so that their values stay in registers and many warps fit. 64 neighbours
# make whole memory transactions.
_TILE_ROWS: Final = 8
_TILE_COLUMNS: Final = 64
_WARPS: Final = 4


def score(
    masks: Tensor,
    inlier: Tensor,
    border_makers: Tensor,
    anomalous: Tensor,
    rows: tuple[Tensor, Tensor, Tensor],
    columns: tuple[Tensor, Tensor, Tensor],
    border_logit: float,
    border_score: float,
    reject_weight: float,
) -> tuple[Tensor, Tensor]:
    """Return the scores of a batch of frames, without waiting for the device.

    Args:
        masks: Mask logits [B, N, h, w], float16, bfloat16 or float32.
        inlier: Weight in reject of every query [B, N]; 0 leaves it out.
        border_makers: Not 0 for queries whose overlaps make borders [B, N].
        anomalous: Weight in accept of every query [B, N]; 0 leaves it out.
        rows: Upper neighbour, lower neighbour and weight of the latter for each output row.
        columns: Likewise for columns.
        border_logit: Logit above which a mask takes part in a border.
        border_score: Most that reject may be on a border.
        reject_weight: Weight of reject.

    Returns:
        Scores, float32 [B, H, W], and a flag, bool [], whether every logit used is finite.

    """
    batch, queries = masks.shape[:2]
    height, width = len(rows[0]), len(columns[0])
    scores = torch.empty(batch, height, width, device=masks.device)
    not_finite = torch.zeros(1, dtype=torch.int32, device=masks.device)
    grid = (triton.cdiv(width, _TILE_COLUMNS), triton.cdiv(height, _TILE_ROWS), batch)
    with torch.cuda.device(masks.device) if masks.is_cuda else nullcontext():
        _score_tile[grid](
            masks,
            *(part.to(torch.float32).contiguous() for part in (inlier, border_makers, anomalous)),
            *rows,
            *columns,
            scores,
            not_finite,
            queries,
            height,
            width,
            *masks.stride(),
            float(border_logit),
            float(border_score),
            float(reject_weight),
            tile_rows=_TILE_ROWS,
            tile_columns=_TILE_COLUMNS,
            num_warps=_WARPS,
        )
    return scores, not_finite[0] == 0


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
    not_finite,
    queries,
    height,
    width,
    frame_stride,
    query_stride,
    row_stride,
    column_stride,
    border_logit,
    border_score,
    reject_weight,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
):
    frame = tl.program_id(2).to(tl.int64)
    y = tl.program_id(1) * tile_rows + tl.arange(0, tile_rows)
    x = tl.program_id(0) * tile_columns + tl.arange(0, tile_columns)
    y_inside, x_inside = y < height, x < width
    upper = tl.load(upper_rows + y, y_inside, 0).to(tl.int32)[:, None] * row_stride
    lower = tl.load(lower_rows + y, y_inside, 0).to(tl.int32)[:, None] * row_stride
    left = tl.load(left_columns + x, x_inside, 0).to(tl.int32)[None, :] * column_stride
    right = tl.load(right_columns + x, x_inside, 0).to(tl.int32)[None, :] * column_stride
    down = tl.load(row_weights + y, y_inside, 0).to(tl.float32)[:, None]
    across = tl.load(column_weights + x, x_inside, 0).to(tl.float32)[None, :]

    largest_inlier = tl.zeros((tile_rows, tile_columns), tl.float32)
    largest_anomalous = tl.zeros((tile_rows, tile_columns), tl.float32)
    first_logit = tl.full((tile_rows, tile_columns), float('-inf'), tl.float32)
    second_logit = tl.full((tile_rows, tile_columns), float('-inf'), tl.float32)
    finite = tl.full((tile_rows, tile_columns), 1, tl.int1)
    mask = masks + frame * frame_stride
    for query in range(queries):
        index = frame * queries + query
        inlier_weight = tl.load(inlier + index)
        anomalous_weight = tl.load(anomalous + index)
        makes_borders = tl.load(border_makers + index) != 0
        if makes_borders | (inlier_weight > 0) | (anomalous_weight > 0):
            upper_left = tl.load(mask + upper + left).to(tl.float32)
            upper_right = tl.load(mask + upper + right).to(tl.float32)
            lower_left = tl.load(mask + lower + left).to(tl.float32)
            lower_right = tl.load(mask + lower + right).to(tl.float32)
            above = upper_left + (upper_right - upper_left) * across
            below = lower_left + (lower_right - lower_left) * across
            logit = above + (below - above) * down
            finite &= tl.abs(logit) < float('inf')  # false for NaN
            value = 1 / (1 + tl.exp(-logit))
            largest_inlier = tl.maximum(largest_inlier, value * inlier_weight)
            largest_anomalous = tl.maximum(largest_anomalous, value * anomalous_weight)
            if makes_borders:
                second_logit = tl.maximum(second_logit, tl.minimum(first_logit, logit))
                first_logit = tl.maximum(first_logit, logit)
        mask += query_stride

    reject = 1 - largest_inlier
    reject = tl.where(second_logit > border_logit, tl.minimum(reject, border_score), reject)
    score = reject_weight * reject + (1 - reject_weight) * largest_anomalous
    target = scores + (frame * height + y[:, None]) * width + x[None, :]
    inside = y_inside[:, None] & x_inside[None, :]
    tl.store(target, score, inside)
    if tl.sum((inside & (finite == 0)).to(tl.int32)) > 0:
        tl.atomic_or(not_finite, 1)
