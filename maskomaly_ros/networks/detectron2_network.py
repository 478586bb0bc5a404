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

"""The official Mask2Former, on detectron2, where both are installed."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskomaly_ros.errors import MaskomalyError, listed
from maskomaly_ros.networks.base import PixelNetwork
from maskomaly_ros.networks.checkpoints import CheckpointFile, CheckpointFolder
from maskomaly_ros.networks.devices import autocast_dtype
from maskomaly_ros.networks.official_weights import transformers_config, weights_in_use
from maskomaly_ros.networks.prediction import MaskPrediction
from maskomaly_ros.networks.preprocessing import InputSize, check_frames
from maskomaly_ros.networks.unpickling import read_weights

_LOG = logging.getLogger(__name__)
_CUDA_OPERATION = 'MultiScaleDeformableAttention'


class Detectron2Network(PixelNetwork):
    """The model of facebookresearch/Mask2Former, built and run by its own code.

    The weights are read by us, since detectron2 runs what a pickle asks for. Frames are resized by
    Pillow, as the official code does.

    Args:
        checkpoint: an official `.pkl` or `.pth` file.
        device: where it runs.
        precision: `float32`; on CUDA also `float16` or `bfloat16`, as mixed precision.
        input_size: size of the network input; None takes that of the official configuration.

    Raises:
        MaskomalyError: detectron2 or mask2former is not installed, the checkpoint is no official
            file, its weights do not fit, or the precision is not for this device.

    """

    def __init__(
        self,
        checkpoint: CheckpointFolder | CheckpointFile,
        device: torch.device,
        precision: str = 'float32',
        input_size: InputSize | None = None,
    ) -> None:
        if not isinstance(checkpoint, CheckpointFile):
            raise MaskomalyError(
                f'backend detectron2 takes official .pkl and .pth files; {checkpoint.path} is in '
                'the form of transformers, which is the backend for it'
            )
        self.backend = 'detectron2'
        self._autocast_dtype = autocast_dtype(precision, device)
        if self._autocast_dtype is not None and device.type == 'cpu':
            raise MaskomalyError(
                f'backend detectron2 computes in float32 on the CPU, not in {precision}: only on '
                'CUDA does the official code keep its pixel decoder out of mixed precision'
            )
        config = transformers_config(checkpoint.config)
        super().__init__(checkpoint, config, device, precision, input_size)
        self._model = _build(checkpoint).to(device).eval()

    def predict(self, frames: Sequence[NDArray[np.uint8]]) -> MaskPrediction:
        """Predict the masks of frames, RGB uint8 [H, W, 3], all of one size.

        Raises:
            MaskomalyError: frames are empty, not RGB uint8, or of different sizes.

        """
        from PIL import Image

        check_frames(frames)
        height, width = frames[0].shape[:2]
        rows, columns = self.input_size.resized(height, width)
        resized = [
            np.asarray(Image.fromarray(f).resize((columns, rows), Image.Resampling.BILINEAR))
            for f in frames
        ]
        return replace(super().predict(resized), frame_size=(height, width))

    def _forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(
            self.device.type, self._autocast_dtype, enabled=self._autocast_dtype is not None
        ):
            output = self._model.sem_seg_head(self._model.backbone(pixels))
        return output['pred_masks'].float(), output['pred_logits'].float()


def _build(checkpoint: CheckpointFile) -> Any:
    """Return the official model with the weights of a checkpoint."""
    get_cfg, add_deeplab_config, add_maskformer2_config, build_model = _official_code()
    settings = get_cfg()
    add_deeplab_config(settings)
    add_maskformer2_config(settings)
    for name, value in checkpoint.config.settings().items():
        *path, last = name.split('.')
        node = settings
        for part in path:
            node = node[part]
        node[last] = list(value) if isinstance(value, tuple) else value
    settings.MODEL.DEVICE = 'cpu'
    try:
        model = build_model(settings)
    except Exception as error:  # whatever the official code stumbles on
        raise MaskomalyError(
            f'the official code cannot build the network of {checkpoint.path}: {error}'
        ) from error
    weights = weights_in_use(read_weights(checkpoint.path))
    expected = model.state_dict()
    missing = sorted(weights_in_use(expected).keys() - weights.keys())
    left_over = sorted(weights.keys() - expected.keys())
    another = sorted(
        n for n in weights.keys() & expected.keys() if weights[n].shape != expected[n].shape
    )
    if missing or left_over or another:
        raise MaskomalyError(
            f'the weights of checkpoint {checkpoint.path} do not fit its configuration: '
            f'missing {listed(missing)}, left over {listed(left_over)}, '
            f'of another shape {listed(another)}'
        )
    # With the versions of this code, so that it does not rename what has its present name.
    expected.update(weights)
    model.load_state_dict(expected)
    return model


def _official_code() -> tuple[Any, Any, Any, Any]:
    try:
        import detectron2  # noqa: F401
    except ImportError as error:
        raise MaskomalyError(_not_installed('detectron2', error)) from error
    try:
        __import__(_CUDA_OPERATION)
    except ImportError:
        # It is asked for at import, and not used on a CPU nor where it fails: there the official
        # code computes the same in plain torch.
        _LOG.info('the CUDA operation of Mask2Former is not built; plain torch takes its place')
        sys.modules[_CUDA_OPERATION] = ModuleType(_CUDA_OPERATION)
    try:
        from detectron2.config import get_cfg
        from detectron2.modeling import build_model
        from detectron2.projects.deeplab import add_deeplab_config
        from mask2former import add_maskformer2_config
    except Exception as error:  # other releases of what it uses make it fail in many ways
        raise MaskomalyError(_not_installed('mask2former', error)) from error
    return get_cfg, add_deeplab_config, add_maskformer2_config, build_model


def _not_installed(what: str, error: Exception) -> str:
    return (
        f'backend detectron2 needs {what}, which cannot be imported: {error}. See '
        'docs/detectron2.md for how to install it, or use backend transformers, which gives the '
        'same numbers'
    )
