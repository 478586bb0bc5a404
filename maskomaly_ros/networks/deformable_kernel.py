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

"""Triton kernel of multi-scale deformable attention (Deformable DETR, Zhu et al. 2021, eq. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

# Two to four sums a thread: 64 to 70 registers on compute capability 8.0 and 9.0, none spilled.
_BLOCK_QUERIES = 16
_WARPS = 8


@triton.jit  # type: ignore[untyped-decorator]
def _attend(  # type: ignore[no-untyped-def]
    values,
    offsets,
    logits,
    reference,
    sizes,
    out,
    queries,
    positions,
    HEADS: tl.constexpr,  # noqa: N803 (compile-time constants are upper case in Triton)
    LEVELS: tl.constexpr,  # noqa: N803
    POINTS: tl.constexpr,  # noqa: N803
    CHANNELS: tl.constexpr,  # noqa: N803
    BLOCK_QUERIES: tl.constexpr,  # noqa: N803
    BLOCK_SAMPLES: tl.constexpr,  # noqa: N803
    BLOCK_CHANNELS: tl.constexpr,  # noqa: N803
):
    samples: tl.constexpr = LEVELS * POINTS
    batch = (tl.program_id(1) // HEADS).to(tl.int64)
    head = tl.program_id(1) % HEADS
    query = tl.program_id(0) * BLOCK_QUERIES + tl.arange(0, BLOCK_QUERIES)
    channel = tl.arange(0, BLOCK_CHANNELS)
    sample = tl.arange(0, BLOCK_SAMPLES)
    known = query < queries
    row = batch * queries + query
    first = (row * HEADS + head) * samples

    every = tl.load(
        logits + first[:, None] + sample[None, :],
        mask=known[:, None] & (sample < samples)[None, :],
        other=0.0,
    ).to(tl.float32)
    every = tl.where((sample < samples)[None, :], every, float('-inf'))
    largest = tl.max(every, 1)
    total = tl.sum(tl.exp(every - largest[:, None]), 1)

    sums = tl.zeros((BLOCK_QUERIES, BLOCK_CHANNELS), tl.float32)
    # Unrolled, these two loops would need more registers than there are.
    for level in range(LEVELS):
        height = tl.load(sizes + 3 * level)
        width = tl.load(sizes + 3 * level + 1)
        start = tl.load(sizes + 3 * level + 2)
        centre = reference + (row * LEVELS + level) * 2
        centre_x = tl.load(centre, mask=known, other=0.0).to(tl.float32) * width - 0.5
        centre_y = tl.load(centre + 1, mask=known, other=0.0).to(tl.float32) * height - 0.5
        for point in range(POINTS):
            at = first + level * POINTS + point
            logit = tl.load(logits + at, mask=known, other=0.0).to(tl.float32)
            weight = tl.exp(logit - largest) / total
            x = centre_x + tl.load(offsets + 2 * at, mask=known, other=0.0).to(tl.float32)
            y = centre_y + tl.load(offsets + 2 * at + 1, mask=known, other=0.0).to(tl.float32)
            # Whatever lies farther outside counts nothing, and need not fit into an integer.
            x = tl.minimum(tl.maximum(x, -2.0), width + 1.0)
            y = tl.minimum(tl.maximum(y, -2.0), height + 1.0)
            left = tl.floor(x)
            top = tl.floor(y)
            for corner in tl.static_range(4):
                column = left.to(tl.int32) + corner % 2
                line = top.to(tl.int32) + corner // 2
                share_x = x - left if corner % 2 else 1.0 - (x - left)
                share_y = y - top if corner // 2 else 1.0 - (y - top)
                inside = (column >= 0) & (column < width) & (line >= 0) & (line < height)
                position = batch * positions + start + line * width + column
                value = tl.load(
                    values + ((position * HEADS + head) * CHANNELS)[:, None] + channel[None, :],
                    mask=(known & inside)[:, None] & (channel < CHANNELS)[None, :],
                    other=0.0,
                ).to(tl.float32)
                sums += (weight * share_x * share_y)[:, None] * value
    tl.store(
        out + ((row * HEADS + head) * CHANNELS)[:, None] + channel[None, :],
        sums.to(out.dtype.element_ty),
        mask=known[:, None] & (channel < CHANNELS)[None, :],
    )


def attend(
    values: Tensor,
    offsets: Tensor,
    logits: Tensor,
    reference: Tensor,
    shapes: Sequence[int],
    heads: int,
) -> Tensor:
    """Attend to sampled places of feature maps, in one pass that keeps no sample.

    Arguments and result are those of `deformable_attention.deformable_attention`.
    """
    batch, positions, width = values.shape
    queries, levels = reference.shape[1:3]
    channels = width // heads
    points = logits.shape[-1] // (heads * levels)
    out = torch.empty(batch, queries, width, dtype=values.dtype, device=values.device)
    grid = (triton.cdiv(queries, _BLOCK_QUERIES), batch * heads)
    # Triton launches on the current device, which need not be the one of the tensors.
    with torch.cuda.device(values.device) if values.is_cuda else nullcontext():
        _attend[grid](
            values.contiguous(),
            offsets.contiguous(),
            logits.contiguous(),
            reference.contiguous(),
            _sizes(tuple(shapes), values.device),
            out,
            queries,
            positions,
            HEADS=heads,
            LEVELS=levels,
            POINTS=points,
            CHANNELS=channels,
            BLOCK_QUERIES=_BLOCK_QUERIES,
            BLOCK_SAMPLES=triton.next_power_of_2(levels * points),
            BLOCK_CHANNELS=triton.next_power_of_2(channels),
            num_warps=_WARPS,
        )
    return out


_SIZES: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}


def _sizes(shapes: tuple[int, ...], device: torch.device) -> Tensor:
    """Return height, width and first position of every level, int32 [L, 3], on the device.

    Kept, since a CUDA graph replays the address and copies from the host cannot be captured.
    """
    key = shapes, device
    if key not in _SIZES:
        rows, start = [], 0
        for height, width in zip(shapes[::2], shapes[1::2], strict=True):
            rows.append((height, width, start))
            start += height * width
        _SIZES[key] = torch.tensor(rows, dtype=torch.int32, device=device)
    return _SIZES[key]
