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

"""Small networks for tests: a real Mask2Former with random weights, and one that sees red."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskomaly_ros.networks import InputSize, MaskPrediction

if TYPE_CHECKING:
    from transformers import Mask2FormerConfig


def tiny_config(backbone_config: Any, **more: Any) -> Mask2FormerConfig:
    """Return the configuration of a Mask2Former of a few thousand weights behind a backbone."""
    from transformers import Mask2FormerConfig

    return Mask2FormerConfig(
        backbone_config=backbone_config,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=4,
        **more,
    )


def save_tiny_checkpoint(
    folder: Path, class_names: Sequence[str], input_size: tuple[int, int]
) -> None:
    """Write a checkpoint folder: 8 queries, ResNet of 8 to 64 channels, random weights."""
    from transformers import Mask2FormerForUniversalSegmentation, ResNetConfig

    torch.manual_seed(0)
    backbone = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 32, 64],
        depths=[1, 1, 1, 1],
        layer_type='basic',
        out_features=['stage1', 'stage2', 'stage3', 'stage4'],
    )
    config = tiny_config(
        backbone,
        num_queries=8,
        id2label=dict(enumerate(class_names)),
        label2id={name: index for index, name in enumerate(class_names)},
        maskomaly_input_size=list(input_size),
    )
    model = Mask2FormerForUniversalSegmentation(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # so that eval and train mode differ
            module.running_mean.normal_(0, 0.1)
    model.save_pretrained(folder)


@dataclass
class RedIsAnomalous:
    """A network of two queries: one is road and covers what is not red, one is void and red."""

    name: str = 'red'
    sha256: str = 'f' * 64
    device: torch.device = field(default_factory=lambda: torch.device('cpu'))
    precision: str = 'float32'
    num_queries: int = 2
    class_names: tuple[str, ...] = ('road',)
    input_size: InputSize = field(default_factory=InputSize)

    def predict(self, frames: Sequence[NDArray[np.uint8]]) -> MaskPrediction:
        pixels = torch.from_numpy(np.stack(frames)).int()
        is_red = (pixels[..., 0] > 150) & (pixels[..., 1] < 100) & (pixels[..., 2] < 100)
        red = torch.where(is_red, 20.0, -20.0)
        height, width = red.shape[-2:]
        return MaskPrediction(
            mask_logits=torch.stack([-red, red], 1),
            class_logits=torch.tensor([[20.0, -20.0], [-20.0, 20.0]]).repeat(len(frames), 1, 1),
            frame_size=(height, width),
            extent=(float(height), float(width)),
        )
