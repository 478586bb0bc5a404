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

"""Mask networks as implemented by the transformers library."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.utils import logging as transformers_logging

from maskomaly_ros.errors import MaskomalyError, listed
from maskomaly_ros.networks import efficientnet_lite, novelty
from maskomaly_ros.networks.architectures import Config, find_architecture
from maskomaly_ros.networks.base import PixelNetwork
from maskomaly_ros.networks.checkpoints import CheckpointFile, CheckpointFolder
from maskomaly_ros.networks.compilation import check_compiler, compiled
from maskomaly_ros.networks.deformable_attention import fuse_deformable_attention
from maskomaly_ros.networks.devices import autocast_dtype
from maskomaly_ros.networks.limits import check_content, check_size
from maskomaly_ros.networks.official_weights import transformers_config, transformers_weights
from maskomaly_ros.networks.preprocessing import InputSize
from maskomaly_ros.networks.unpickling import check_torch_file, plain_reason, read_weights

_LOG = logging.getLogger(__name__)
for _own in (efficientnet_lite, novelty):  # before any configuration is read
    _own.register()
# What no prediction reads, and what only some releases of the library keep in files: the class
# weights of the loss, counters, index tables, a norm behind the last stage of a backbone, and a
# token of its pretraining.
_WITHOUT_USE = re.compile(
    r'criterion\.|\.(num_batches_tracked|relative_position_index)$|\.encoder\.swin\.layernorm\.'
    r'|^embeddings\.mask_token$'
)


class TransformersNetwork(PixelNetwork):
    """A model of `architectures` behind our own preprocessing.

    Args:
        checkpoint: where the weights are.
        device: where it runs.
        precision: `float32`, or `float16` / `bfloat16` for mixed precision by autocast, with the
            pixel decoder of Mask2Former kept in float32, as the official code does. Weights stay
            float32.
        input_size: size of the network input; None takes the checkpoint's own, see
            `architectures.input_form`.
        compile: compile the network for each size and number of frames when it first occurs
            (see `warm_up`), which takes minutes; on CUDA with a fused deformable attention and as
            a CUDA graph. What is compiled is kept on disk.

    Raises:
        MaskomalyError: the architecture is unknown, weights are missing or left over, the
            precision is unknown, or there is no compiler.

    """

    def __init__(
        self,
        checkpoint: CheckpointFolder | CheckpointFile,
        device: torch.device,
        precision: str = 'float32',
        input_size: InputSize | None = None,
        compile: bool = False,
    ) -> None:
        self.backend = 'transformers'
        self._autocast_dtype = autocast_dtype(precision, device)
        if compile:  # loading a network takes longer than looking for a compiler
            check_compiler(device)
        model = load_model(checkpoint)
        super().__init__(checkpoint, model.config, device, precision, input_size)
        architecture = find_architecture(model.config.model_type, str(checkpoint.path))
        architecture.prepare(model)
        model = model.to(device)
        if device.type == 'cuda':
            model = model.to(memory_format=torch.channels_last)
            if compile:
                fuse_deformable_attention(model)
        if self._autocast_dtype is not None and architecture.model_type.startswith('mask2former'):
            level = model.model.pixel_level_module
            level.decoder = _InFloat32(level.decoder)
        self._model = LogitsOnly(model)
        self._compiled = compiled(self._model, device) if compile else None

    def traceable(self) -> LogitsOnly:
        """Return the model as a module of tensors alone."""
        return self._model

    def _forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        if self.device.type == 'cuda':
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        is_mixed = self._autocast_dtype is not None
        with (
            torch.autocast(self.device.type, self._autocast_dtype, enabled=is_mixed),
            _tf32() if is_mixed and self.device.type == 'cuda' else nullcontext(),
        ):
            masks, classes = (self._compiled or self._model)(pixels)
        return masks.float(), classes.float()


@contextmanager
def _tf32() -> Iterator[None]:
    """Let products of float32 matrices keep 10 bits of the mantissa, as convolutions do anyway.

    That is finer than bfloat16 and as fine as float16, which the rest of a mixed network computes
    in; docs/performance.md says what it saves.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('high')
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class LogitsOnly(nn.Module):
    """A model as a function of tensors, for whatever traces it.

    Normalised pixels [B, 3, H, W] to mask logits [B, N, H/4, W/4] and class logits [B, N, C+1].
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mask and class logits of the last decoder layer."""
        output = self.model(pixel_values=pixels)
        # Some releases of the library answer with those of every layer.
        masks, classes = (
            logits[-1] if isinstance(logits, tuple | list) else logits
            for logits in (output.masks_queries_logits, output.class_queries_logits)
        )
        return masks, classes


class _InFloat32(nn.Module):
    """Run a module in float32 inside an autocast region."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, features: Sequence[Tensor], *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(features[0].device.type, enabled=False):
            return self.module([f.float() for f in features], *args, **kwargs)


def load_model(
    checkpoint: CheckpointFolder | CheckpointFile,
) -> Any:
    """Load the model of a checkpoint in float32, without network access.

    Raises:
        MaskomalyError: its architecture is unknown, or its weights do not fit its configuration.

    """
    with _loading(checkpoint):
        config = model_config(checkpoint)
        # First what the file itself gives away: its reader takes no more memory than the file.
        read = read_weights(checkpoint.path) if isinstance(checkpoint, CheckpointFile) else {}
        check_size(config, checkpoint.weights, f'the configuration of {checkpoint.path}')
        if isinstance(checkpoint, CheckpointFile):
            weights = transformers_weights(read, config)
            source, options = None, {'state_dict': weights}
        else:
            source, options = checkpoint.path, {}
            if not any(checkpoint.path.glob('model*.safetensors')):
                for file in sorted(checkpoint.path.glob('pytorch_model*.bin')):
                    check_torch_file(file)
        architecture = find_architecture(config.model_type, f'checkpoint {checkpoint.path}')
        model, report = architecture.model_class().from_pretrained(
            source,
            **options,
            config=config,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # all are reported below, not the first alone
        )
    missing, unexpected, mismatched = (
        sorted(str(key) for key in report[kind] if not _WITHOUT_USE.search(str(key)))
        for kind in ('missing_keys', 'unexpected_keys', 'mismatched_keys')
    )
    if missing or unexpected or mismatched:
        raise MaskomalyError(
            f'the weights of checkpoint {checkpoint.path} do not fit its configuration: '
            f'missing {listed(missing)}, left over {listed(unexpected)}, '
            f'of another shape {listed(mismatched)}'
        )
    return model


def model_config(checkpoint: CheckpointFolder | CheckpointFile) -> Config:
    """Return the configuration of the model of a checkpoint, without its weights.

    Raises:
        MaskomalyError: its architecture is unknown, or its configuration cannot be read.

    """
    with _loading(checkpoint):
        if isinstance(checkpoint, CheckpointFile):
            return transformers_config(checkpoint.config)
        folder = checkpoint.path
        content = PretrainedConfig.get_config_dict(folder, local_files_only=True)[0]
        architecture = find_architecture(content.get('model_type'), f'checkpoint {folder}')
        check_content(content, str(folder / 'config.json'))
        return architecture.config_class().from_dict(content)


@contextmanager
def _loading(checkpoint: CheckpointFolder | CheckpointFile) -> Iterator[None]:
    """Keep the library quiet, and put what it raises into words."""
    with quiet_transformers():
        try:
            yield
        except MaskomalyError:
            raise
        except Exception as error:  # whatever a damaged file makes the library raise
            raise MaskomalyError(
                f'checkpoint {checkpoint.path} cannot be loaded: {plain_reason(error)}'
            ) from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the library's remark on backbones other than Swin and its progress bars."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
