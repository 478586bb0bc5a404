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

"""The mask of things, known or not, by features that have never learnt the road.

A backbone that learns to tell the classes of the road apart forgets what makes a giraffe unlike a
car. So a second one keeps the weights that it got from ImageNet, and a small head learns from its
features what stands or moves by itself. Both backbones have their first stages in common: these
see edges and textures, which the road does not change, and cost the most.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from maskomaly_ros.networks.efficientnet_lite import (
    EfficientNetLiteBackbone,
    EfficientNetLiteConfig,
)

SHARED_STAGES = 2
"""How many stages both backbones have in common: those up to a stride of 8."""


class Things(nn.Module):
    """The other backbone behind the common stages, and the head for things.

    Args:
        config: of the backbone; the other one is its like.
        width: channels of the head.

    """

    def __init__(self, config: EfficientNetLiteConfig, width: int) -> None:
        super().__init__()
        whole = EfficientNetLiteBackbone(config)
        self.backbone = whole.after_stages(SHARED_STAGES)
        self.head = ThingHead(whole.num_features, width)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return what things cover and the features they are told by.

        Args:
            maps: of the first backbone, one a stage; those of the common stages are used.

        Returns:
            Logits of things, [B, 1, h, w] at a stride of 4, and the last features of the other
            backbone, [B, c, h / 8, w / 8].

        """
        seen = self.maps(maps)
        return self.head(seen), seen[-1]

    def maps(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the common maps and those of the other backbone, one a stage."""
        common = tuple(maps[:SHARED_STAGES])
        return *common, *self.backbone(common[-1])


class ThingHead(nn.Module):
    """A feature pyramid (Lin et al. 2017, https://arxiv.org/abs/1612.03144) with one output.

    Args:
        channels: of the feature maps, finest first.
        width: channels that it computes in.

    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.mix = nn.ModuleList(_mixing(width) for _ in channels)
        self.out = nn.Sequential(_filtering(width), _filtering(width), nn.Conv2d(width, 1, 1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits [B, 1, h, w] from maps [B, c_i, h_i, w_i]; h and w of the finest."""
        merged: Tensor | None = None
        for lateral, mix, features in zip(
            reversed(self.lateral), reversed(self.mix), reversed(maps), strict=True
        ):
            level = lateral(features)
            if merged is not None:
                level = level + F.interpolate(
                    merged, level.shape[-2:], mode='bilinear', align_corners=False
                )
            merged = level + mix(level)
        logits: Tensor = self.out(merged)
        return logits


def _mixing(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )


def _filtering(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    )
