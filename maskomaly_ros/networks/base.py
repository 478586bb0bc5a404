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

"""What every backend shares: frames in, preprocessing, a MaskPrediction out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.prediction import MaskPrediction
from maskomaly_ros.networks.preprocessing import InputSize, check_frames, preprocess

if TYPE_CHECKING:
    from transformers import Mask2FormerConfig

    from maskomaly_ros.networks.checkpoints import CheckpointFile, CheckpointFolder

# The first call on CUDA loads kernels and picks algorithms, the second fills the allocator's
# pools in their final order.
_WARM_UP_CALLS = 3


class PixelNetwork(ABC):
    """A network that maps normalised pixels to mask and class logits.

    Backends implement `_forward`.

    Args:
        checkpoint: what its weights are.
        config: of its model.
        device: where it runs.
        precision: `float32`, `float16` or `bfloat16`.
        input_size: size of the network input; None takes the checkpoint's own
            (`maskomaly_input_size` of the configuration) or the official 1024 x 2048.

    """

    name: str
    sha256: str
    device: torch.device
    precision: str
    num_queries: int
    class_names: tuple[str, ...]
    input_size: InputSize
    # Height and width that every input is padded to; None: the next multiples of 32.
    _padded_size: tuple[int, int] | None = None

    def __init__(
        self,
        checkpoint: CheckpointFolder | CheckpointFile,
        config: Mask2FormerConfig,
        device: torch.device,
        precision: str,
        input_size: InputSize | None,
    ) -> None:
        self.name = checkpoint.name
        self.sha256 = checkpoint.sha256
        self.device = device
        self.precision = precision
        self.num_queries = int(config.num_queries)
        self.class_names = class_names(config)
        self.input_size = input_size or own_input_size(config)

    def predict(self, frames: Sequence[NDArray[np.uint8]]) -> MaskPrediction:
        """Predict the masks of frames, RGB uint8 [H, W, 3], all of one size.

        Raises:
            MaskomalyError: frames are empty, not RGB uint8, of different sizes, or do not fit a
                network input of fixed size.

        """
        check_frames(frames)
        with torch.inference_mode():
            pixels, content = preprocess(frames, self.input_size, self.device, self._padded_size)
            masks, classes = self._forward(pixels)
        rows, columns = masks.shape[-2:]
        return MaskPrediction(
            mask_logits=masks,
            class_logits=classes,
            frame_size=(frames[0].shape[0], frames[0].shape[1]),
            extent=(
                content[0] * rows / pixels.shape[-2],
                content[1] * columns / pixels.shape[-1],
            ),
        )

    def warm_up(self, frame_size: tuple[int, int] | None = None, batch: int = 1) -> None:
        """Do before the first frame what only the first frames need: compile, export, allocate.

        Afterwards a batch of that many frames of that size takes no longer than any later one.

        Args:
            frame_size: height and width of the camera frames; None takes the input size, the
                longest side across.
            batch: frames a batch.

        Raises:
            MaskomalyError: as `predict`.

        """
        height, width = frame_size or (self.input_size.shortest, self.input_size.longest)
        blank = np.full((height, width, 3), 127, np.uint8)
        for _ in range(_WARM_UP_CALLS if self.device.type == 'cuda' else 1):
            self.predict([blank] * batch)
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)

    def fix_padded_size(self, size: tuple[int, int] | None) -> None:
        """Pad every input to this height and width; None takes the next multiples of 32."""
        self._padded_size = size

    @abstractmethod
    def _forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return float32 mask logits [B, N, h, w] and class logits [B, N, C+1].

        Args:
            pixels: normalised and padded, float32 [B, 3, H, W], on the device.

        """


def class_names(config: Mask2FormerConfig) -> tuple[str, ...]:
    """Return the inlier classes of a model."""
    return tuple(str(config.id2label[i]) for i in range(config.num_labels))


def own_input_size(config: Mask2FormerConfig) -> InputSize:
    """Return the input size that a checkpoint brings, else the official one."""
    own = getattr(config, 'maskomaly_input_size', None)
    if own is None:
        return InputSize()
    if not (isinstance(own, list | tuple) and len(own) == 2 and {*map(type, own)} == {int}):
        raise MaskomalyError(
            f'maskomaly_input_size in config.json is {own!r}; it must be two whole numbers'
        )
    return InputSize(*own)
