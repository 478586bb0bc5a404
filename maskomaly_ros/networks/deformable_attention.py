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

"""Multi-scale deformable attention in one operation, for the pixel decoder of Mask2Former.

The form of the transformers library writes every sampled value to memory before it sums them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attend(
    values: Tensor,
    offsets: Tensor,
    logits: Tensor,
    reference: Tensor,
    shapes: list[int],
    heads: int,
) -> Tensor:
    """Do what `deformable_attention` does in operations of torch, of which it can be traced."""
    batch, _, width = values.shape
    queries, levels = reference.shape[1:3]
    points = logits.shape[-1] // (heads * levels)
    sizes = list(zip(shapes[::2], shapes[1::2], strict=True))
    weights = logits.view(batch, queries, heads, -1).softmax(-1)
    # Samples in rows of all queries, which are added up row by row.
    weights = weights.permute(0, 2, 3, 1).flatten(0, 1).unsqueeze(1)
    offsets = offsets.view(batch, queries, heads, levels, points, 2)
    maps = torch.split(values, [height * width for height, width in sizes], 1)
    result: Tensor | None = None
    for level, (rows, columns) in enumerate(sizes):
        unit = offsets.new_tensor([columns, rows])
        places = reference[:, :, None, level, None] + offsets[:, :, :, level] / unit
        grid = (2 * places - 1).permute(0, 2, 3, 1, 4).flatten(0, 1)
        pixels = maps[level].transpose(1, 2).reshape(batch * heads, -1, rows, columns)
        sampled = F.grid_sample(pixels, grid.to(pixels), align_corners=False)
        share = weights[:, :, level * points : (level + 1) * points]
        part = (sampled * share.to(sampled)).sum(2)
        result = part if result is None else result + part
    assert result is not None, 'there is a level'
    return result.view(batch, width, queries).transpose(1, 2).contiguous()


@torch.library.custom_op('maskomaly_ros::deformable_attention', mutates_args=())
def deformable_attention(
    values: Tensor,
    offsets: Tensor,
    logits: Tensor,
    reference: Tensor,
    shapes: list[int],
    heads: int,
) -> Tensor:
    """Attend to sampled places of feature maps.

    Args:
        values: [B, S, M·D], the maps of all levels one after the other, in rows.
        offsets: [B, Q, M·L·P·2], from the reference point, x and y in pixels of the level.
        logits: [B, Q, M·L·P], of the weights of one head's samples.
        reference: [B, Q, L, 2], x and y in units of the level's width and height.
        shapes: height and width of each level.
        heads: M.

    Returns:
        [B, Q, M·D], of the type of values.

    """
    return attend(values, offsets, logits, reference, shapes, heads)


@deformable_attention.register_fake
def _(
    values: Tensor,
    offsets: Tensor,
    logits: Tensor,
    reference: Tensor,
    shapes: list[int],
    heads: int,
) -> Tensor:
    return values.new_empty(values.shape[0], reference.shape[1], values.shape[2])


@deformable_attention.register_kernel('cuda')
def _(
    values: Tensor,
    offsets: Tensor,
    logits: Tensor,
    reference: Tensor,
    shapes: list[int],
    heads: int,
) -> Tensor:
    from maskomaly_ros.networks.deformable_kernel import attend

    return attend(values, offsets, logits, reference, shapes, heads)


class FusedDeformableAttention(nn.Module):
    """The attention module of the pixel decoder with the same weights, for inference.

    Args:
        original: `Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention` of transformers.
        attend: `deformable_attention`, or `attend` for what cannot take it.

    """

    def __init__(
        self, original: Any, attend: Callable[..., Tensor] = deformable_attention
    ) -> None:
        super().__init__()
        self._attend = attend
        self.heads = int(original.n_heads)
        self.value_proj = original.value_proj
        self.sampling_offsets = original.sampling_offsets
        self.attention_weights = original.attention_weights
        self.output_proj = original.output_proj

    def forward(
        self,
        hidden_states: Tensor,
        *,
        encoder_hidden_states: Tensor,
        position_embeddings: Tensor,
        reference_points: Tensor,
        spatial_shapes_list: list[tuple[int, int]],
        **_: Any,
    ) -> tuple[Tensor, None]:
        """Return the attended features, and no weights. Nothing is masked in this decoder."""
        queries = hidden_states + position_embeddings
        attended: Tensor = self._attend(
            self.value_proj(encoder_hidden_states),
            self.sampling_offsets(queries),
            self.attention_weights(queries),
            reference_points,
            [int(side) for size in spatial_shapes_list for side in size],
            self.heads,
        )
        return self.output_proj(attended), None


def fuse_deformable_attention(model: Any) -> None:
    """Replace the deformable attention of a Mask2FormerForUniversalSegmentation, in place."""
    for layer in model.model.pixel_level_module.decoder.encoder.layers:
        layer.self_attn = FusedDeformableAttention(layer.self_attn)
