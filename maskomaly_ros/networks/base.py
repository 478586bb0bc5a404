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

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskomaly_ros.networks.prediction import MaskPrediction
from maskomaly_ros.networks.preprocessing import InputSize, check_frames, preprocess

# A CUDA graph is captured in the second call after compilation and replayed from the third on.
_WARM_UP_CALLS = 3


class PixelNetwork(ABC):
    """A network that maps normalised pixels to mask and class logits.

    Backends set the attributes of the protocol `Network` and implement `_forward`.
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
