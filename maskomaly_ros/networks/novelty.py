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

"""Mask2Former with a query for novel things: things that look like none of the training images.

One query covers whatever stands or moves by itself, known or not. Its mask is weighted by how far
the features of the backbone lie from those of known classes: the Mahalanobis distance to the
nearest of many prototypes with one common covariance (Lee et al. 2018,
https://arxiv.org/abs/1807.03888). So a car, which is a thing like others, gets a low score, and a
giraffe a high one. No anomaly is needed to find prototypes, covariance or limits.

Things and features are the network's own, or those of a part that never learnt the road; see
`things`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, Mask2FormerConfig, Mask2FormerForUniversalSegmentation

from maskomaly_ros.networks.things import Things

_LEAST = 1e-3  # of novelty: what is known keeps an order among itself
_SMALLEST = 1e-6  # of a probability, before its logit is taken


class NoveltyMask2FormerConfig(Mask2FormerConfig):
    """Configuration of `NoveltyMask2Former`.

    Args:
        novelty_query: index of the query for things; its mask becomes that of novel things.
        novelty_prototypes: K, the number of prototypes.
        novelty_channels: channels of the last feature map of the backbone.
        novelty_sharpness: exponent of the probability of things.
        things_width: channels of the head of `things`; 0 is without that part.
        kwargs: as for Mask2Former.

    """

    model_type = 'mask2former_novelty'

    def __init__(
        self,
        novelty_query: int = 0,
        novelty_prototypes: int = 1,
        novelty_channels: int = 320,
        novelty_sharpness: float = 1.0,
        things_width: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.novelty_query = novelty_query
        self.novelty_prototypes = novelty_prototypes
        self.novelty_channels = novelty_channels
        self.novelty_sharpness = novelty_sharpness
        self.things_width = things_width


class Novelty(nn.Module):
    """How far features lie from known ones.

    novelty(f) = clamp((d(f) - low) / (high - low), 0.001, 1) with
    d(f) = min over prototypes of |W (f - p)|, W the whitening of the common covariance.

    Args:
        channels: c, of the features.
        prototypes: K.

    Attributes:
        whitening: float32 [c, c], W.
        whitened: float32 [K, c]: the prototypes, whitened.
        limits: float32 [2], low and high: distances that count as known and as novel.

    """

    whitening: Tensor
    whitened: Tensor
    limits: Tensor

    def __init__(self, channels: int, prototypes: int) -> None:
        super().__init__()
        # In float32 whatever the rest is stored in: these numbers have a wide range.
        wide = torch.float32
        self.register_buffer('whitening', torch.eye(channels, dtype=wide))
        self.register_buffer('whitened', torch.zeros(prototypes, channels, dtype=wide))
        self.register_buffer('limits', torch.tensor([0.0, 1.0], dtype=wide))

    def distance(self, features: Tensor) -> Tensor:
        """Return the distance of features [B, c, h, w] to the nearest prototype, [B, 1, h, w]."""
        points = F.conv2d(features.float(), self.whitening[:, :, None, None])
        # |x - p|^2 = |x|^2 - 2 x p + |p|^2
        crossed = F.conv2d(points, -2 * self.whitened[:, :, None, None])
        lengths = (self.whitened * self.whitened).sum(1)[None, :, None, None]
        nearest = (crossed + lengths).amin(1, keepdim=True)
        squared = (points * points).sum(1, keepdim=True) + nearest
        return squared.clamp(min=0).sqrt()

    def forward(self, features: Tensor) -> Tensor:
        """Return the novelty of features [B, c, h, w], [B, 1, h, w] in 0.001..1."""
        low, high = self.limits[0], self.limits[1]
        novelty: Tensor = ((self.distance(features) - low) / (high - low)).clamp(_LEAST, 1.0)
        return novelty


class NoveltyMask2Former(Mask2FormerForUniversalSegmentation):
    """Mask2Former whose query `novelty_query` has the mask of novel things.

    Its probability is thing^sharpness * novelty, where thing is what the query covers by itself,
    or what `things` covers; its classes, and all other queries, are those of Mask2Former. For
    prediction only.

    Attributes:
        things: the part that things and features come from; None takes the network's own.

    """

    config_class = NoveltyMask2FormerConfig

    def __init__(self, config: NoveltyMask2FormerConfig) -> None:
        super().__init__(config)
        self.novelty = Novelty(config.novelty_channels, config.novelty_prototypes)
        width = config.things_width
        self.things = Things(config.backbone_config, width) if width else None

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> Any:
        """Return what Mask2Former does, with the mask of the query replaced."""
        if self.things is not None:
            kwargs['output_hidden_states'] = True  # the maps of the backbone
        output = super().forward(pixel_values, **kwargs)
        masks = output.masks_queries_logits
        layers = isinstance(masks, tuple | list)  # some releases answer with those of every layer
        last = masks[-1] if layers else masks
        query = self.config.novelty_query
        things, features = last[:, query : query + 1], output.encoder_last_hidden_state
        if self.things is not None:
            things, features = self.things(output.encoder_hidden_states)
        with torch.autocast(features.device.type, enabled=False):
            novel = self._novel(things.float(), self.novelty(features))
        replaced = torch.cat((last[:, :query].float(), novel, last[:, query + 1 :].float()), 1)
        output.masks_queries_logits = (*masks[:-1], replaced) if layers else replaced
        return output

    def _novel(self, things: Tensor, novelty: Tensor) -> Tensor:
        """Return the logits of novel things, [B, 1, h, w], from those of things."""
        spread = F.interpolate(novelty, things.shape[-2:], mode='bilinear', align_corners=False)
        # The logarithm of a sigmoid, written out: runtimes round the sigmoid of what is far below
        # zero to zero, and make logsigmoid of it.
        log_things = things.clamp(max=0) - torch.log1p((-things.abs()).exp())
        log = self.config.novelty_sharpness * log_things + spread.log()
        log = log.clamp(math.log(_SMALLEST), math.log1p(-_SMALLEST))
        novel: Tensor = log - torch.log1p(-log.exp())
        return novel


def register() -> None:
    """Make the model type known to the library."""
    AutoConfig.register(
        NoveltyMask2FormerConfig.model_type, NoveltyMask2FormerConfig, exist_ok=True
    )
