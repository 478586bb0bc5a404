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

"""A checkpoint that another runtime than torch runs, exported when it is first needed."""

from __future__ import annotations

import torch
from torch import Tensor

from maskomaly_ros.networks.base import PixelNetwork
from maskomaly_ros.networks.checkpoints import CheckpointFile, CheckpointFolder
from maskomaly_ros.networks.onnx_export import export_to_cache
from maskomaly_ros.networks.onnx_network import OnnxNetwork
from maskomaly_ros.networks.preprocessing import InputSize
from maskomaly_ros.networks.transformers_network import model_config


class ExportingNetwork(OnnxNetwork):
    """A network that is exported into the cache, once for each size of its input.

    Args:
        checkpoint: the checkpoint.
        runtime: see `OnnxNetwork`.
        device: see `OnnxNetwork`.
        precision: see `OnnxNetwork`.
        input_size: size of the network input; None takes the checkpoint's own.

    Raises:
        MaskomalyError: as `OnnxNetwork`, or the checkpoint cannot be exported.

    """

    def __init__(
        self,
        checkpoint: CheckpointFolder | CheckpointFile,
        runtime: str,
        device: torch.device,
        precision: str = 'float32',
        input_size: InputSize | None = None,
    ) -> None:
        self._choose(runtime, device, precision)
        self._checkpoint = checkpoint
        PixelNetwork.__init__(
            self, checkpoint, model_config(checkpoint), device, precision, input_size
        )

    def _forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        height, width = pixels.shape[-2:]
        if not self._batch(height, width):
            self._open(
                export_to_cache(
                    self._checkpoint, self.input_size, (1, height, width), (self._runtime,)
                )
            )
        return super()._forward(pixels)
