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

"""What a mask network answers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_QUERIES_AT_ONCE = 8  # all of them at full size would take gigabytes


@dataclass(frozen=True)
class MaskPrediction:
    """N masks and N class distributions for each of B frames of one size.

    Attributes:
        mask_logits: float32 [B, N, h, w], usually at a quarter of the network input.
        class_logits: float32 [B, N, C+1]; void ("no object") is the last column.
        frame_size: height and width in pixels of the camera frames.
        extent: height and width, in mask pixels from the top left, of the part of the masks
            that shows the frame; the rest is padding of the network input.

    """

    mask_logits: Tensor
    class_logits: Tensor
    frame_size: tuple[int, int]
    extent: tuple[float, float]

    def semantic_map(self) -> Tensor:
        """Return the most likely inlier class of every pixel, uint8 [B, H, W].

        Semantic inference of Mask2Former: class c has the score sum over n of p_n[c] · m_n
        (MaskFormer, Cheng et al. 2021, section 3.4), with masks resized before they are summed.
        """
        weights = self.class_logits.softmax(-1)[..., :-1]
        batch, queries, classes = weights.shape
        scores = self.mask_logits.new_zeros(batch, classes, *self.frame_size)
        for start in range(0, queries, _QUERIES_AT_ONCE):
            part = slice(start, start + _QUERIES_AT_ONCE)
            masks = resize_maps(self.mask_logits[:, part], self.frame_size, self.extent)
            scores += torch.einsum('bnc,bnhw->bchw', weights[:, part], masks.sigmoid_())
        return scores.argmax(1).to(torch.uint8)


def resize_maps(maps: Tensor, size: tuple[int, int], extent: tuple[float, float]) -> Tensor:
    """Resize the part of maps [B, K, h, w] within extent to [B, K, *size], bilinearly.

    Output pixel x looks at (x + 0.5) · extent / size − 0.5, so that an extent that is no whole
    number of mask pixels is not shifted. F.interpolate can do that for a whole extent only.
    """
    rows, columns = (min(math.ceil(e), n) for e, n in zip(extent, maps.shape[-2:], strict=True))
    y, x = (
        ((torch.arange(pixels, dtype=torch.float64) + 0.5) * (2 * length / pixels / cropped) - 1)
        for pixels, length, cropped in zip(size, extent, (rows, columns), strict=True)
    )
    grid = torch.stack(torch.meshgrid(x, y, indexing='xy'), -1).to(maps)
    return F.grid_sample(
        maps[..., :rows, :columns],
        grid.expand(len(maps), *grid.shape),
        mode='bilinear',
        padding_mode='border',
        align_corners=False,
    )
