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

"""What pictures look like, as vectors: pooled features of the bundled checkpoint's backbone."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.checkpoints import CheckpointFolder, find_checkpoint
from maskomaly_ros.networks.preprocessing import PIXEL_MEAN, PIXEL_STD

_SIDE = 160  # pixels of the square that a picture is scaled to
_BUNDLED = 'demo'


def load_embedding() -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return a function from a picture, RGB uint8 [H, W, 3], to float32 [D], on the CPU.

    The features of the last two stages, each pooled over the picture and scaled to unit length, so
    that both count alike.

    Raises:
        MaskomalyError: the bundled checkpoint cannot be loaded.

    """
    from maskomaly_ros.networks.transformers_network import load_model

    checkpoint = find_checkpoint(_BUNDLED)
    if not isinstance(checkpoint, CheckpointFolder):
        raise MaskomalyError(f'the bundled checkpoint is no folder: {checkpoint.path}')
    backbone = load_model(checkpoint).model.pixel_level_module.encoder.eval()
    mean, std = (np.array(values, np.float32) for values in (PIXEL_MEAN, PIXEL_STD))

    def embed(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        scaled = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        pixels = (np.asarray(scaled, np.float32) - mean) / std
        with torch.inference_mode():
            tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
            maps = backbone(tensor).feature_maps[-2:]
            pooled = [torch.nn.functional.normalize(m.mean((-2, -1)), dim=-1) for m in maps]
            joined: NDArray[np.float32] = torch.cat(pooled, -1)[0].numpy()
        return joined

    return embed
