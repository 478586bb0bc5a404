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

"""The form in which networks are exported: the same functions, in steps that runtimes are fast at.

Runtimes keep feature maps on a CPU with the channels last. What needs them in another order, or
writes large maps only to shrink them, takes a third of the time of a small network:

- A mask that decides where the next decoder layer looks is the product of a query and of all
  pixels, scaled down. Scaling is linear, so here the pixels are scaled down once for each size,
  and the product is small. The product with all pixels is left for the last layer alone.
- A group norm is made of means over channels, which any order of memory does.
- Deformable attention adds up level after level, along whole rows of samples.

Results differ by rounding. Each export is compared with the model as it is; see `agreement`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from maskomaly_ros.networks.deformable_attention import FusedDeformableAttention, attend

_LOGIT_OF_HALF = 0.0


@contextmanager
def runtime_form(model: nn.Module) -> Iterator[None]:
    """Let a model compute as runtimes like it; what has no such form stays as it is.

    Args:
        model: of `architectures`; it is as before when the block ends.

    """
    changed: list[tuple[nn.Module, str, nn.Module]] = []
    patched: list[nn.Module] = []

    def patch(module: nn.Module, forward: Callable[..., Any]) -> None:
        module.forward = partial(forward, module)
        patched.append(module)

    try:
        for module in list(model.modules()):
            kind = type(module).__name__
            if isinstance(module, nn.GroupNorm):
                patch(module, _group_norm)
            elif kind == 'Mask2FormerMaskPredictor':
                patch(module, _predict_mask)
            elif kind == 'Mask2FormerPixelDecoderEncoderLayer':
                changed.append((module, 'self_attn', module.self_attn))  # type: ignore[arg-type]
                module.self_attn = FusedDeformableAttention(module.self_attn, attend)
        yield
    finally:
        for module in patched:
            del module.forward
        for module, name, original in changed:
            setattr(module, name, original)


def _group_norm(norm: nn.GroupNorm, maps: Tensor) -> Tensor:
    """Do what `torch.nn.GroupNorm` does, for maps [B, C, H, W]."""

    def of_groups(of_channels: Tensor) -> Tensor:
        grouped = of_channels.view(len(of_channels), norm.num_groups, -1)
        means = grouped.mean(2, keepdim=True).expand_as(grouped)
        return means.flatten(1)[:, :, None, None]

    centred = maps - of_groups(maps.mean((2, 3)))
    variance = of_groups((centred * centred).mean((2, 3)))
    scale = (variance + norm.eps).rsqrt()
    if not norm.affine:
        return centred * scale
    return centred * (scale * norm.weight[:, None, None]) + norm.bias[:, None, None]


def _predict_mask(
    predictor: Any, outputs: Tensor, pixel_embeddings: Tensor, attention_mask_target_size: Any
) -> tuple[Tensor, Tensor]:
    """Do what `Mask2FormerMaskPredictor` does."""
    queries = predictor.mask_embedder(outputs.transpose(0, 1))
    masks = _products(queries, pixel_embeddings)
    small = F.interpolate(
        pixel_embeddings, attention_mask_target_size, mode='bilinear', align_corners=False
    )
    seen = _products(queries, small).flatten(2)[:, None].repeat(1, predictor.num_heads, 1, 1)
    return masks, (seen.flatten(0, 1) < _LOGIT_OF_HALF).detach()


def _products(queries: Tensor, pixels: Tensor) -> Tensor:
    """Return the products of queries [B, N, C] and pixels [B, C, h, w], [B, N, h, w].

    The pixels are taken with the channels last, in which they come from a convolution.
    """
    rows = pixels.permute(0, 2, 3, 1).flatten(1, 2)
    return (queries @ rows.transpose(1, 2)).view(*queries.shape[:2], *pixels.shape[2:])
