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

from maskomaly_ros.networks.architectures import Config, find_architecture, input_form
from maskomaly_ros.networks.known import find_known
from maskomaly_ros.networks.prediction import MaskPrediction
from maskomaly_ros.networks.preprocessing import InputForm, InputSize, check_frames

if TYPE_CHECKING:
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
        input_size: size of the network input; None takes the checkpoint's own, see
            `architectures.input_form`.

    """

    name: str
    sha256: str
    source_sha256: str | None = None
    backend: str
    backend_reason: str = ''
    device: torch.device
    precision: str
    num_queries: int
    class_names: tuple[str, ...]
    input_form: InputForm
    # Height and width that every input is padded to; None: the next multiples of 32.
    _padded_size: tuple[int, int] | None = None

    def __init__(
        self,
        checkpoint: CheckpointFolder | CheckpointFile,
        config: Config,
        device: torch.device,
        precision: str,
        input_size: InputSize | None,
    ) -> None:
        self.name = checkpoint.name
        self.sha256 = checkpoint.sha256
        self.source_sha256 = checkpoint.source_sha256
        self.device = device
        self.precision = precision
        architecture = find_architecture(config.model_type, f'checkpoint {checkpoint.path}')
        self.num_queries = architecture.num_queries(config)
        self.class_names = class_names(config, checkpoint.name)
        folder = checkpoint.path if checkpoint.path.is_dir() else None
        self.input_form = input_form(config, folder, input_size)

    @property
    def input_size(self) -> InputSize:
        """What frames are resized to."""
        return self.input_form.size

    @property
    def usual_frame_size(self) -> tuple[int, int]:
        """Height and width of the frames to expect where nobody says: they fill the input."""
        return self.input_size.usual

    def predict(self, frames: Sequence[NDArray[np.uint8]]) -> MaskPrediction:
        """Predict the masks of frames, RGB uint8 [H, W, 3], all of one size.

        Raises:
            MaskomalyError: frames are empty, not RGB uint8, of different sizes, or do not fit a
                network input of fixed size.

        """
        check_frames(frames)
        with torch.inference_mode():
            pixels, content, windows = self.input_form.prepare(
                frames, self.device, self._padded_size
            )
            masks, classes = self._forward(pixels)
        rows, columns = (
            ours / theirs for ours, theirs in zip(masks.shape[-2:], pixels.shape[-2:], strict=True)
        )
        return MaskPrediction(
            mask_logits=masks,
            class_logits=classes,
            frame_size=(frames[0].shape[0], frames[0].shape[1]),
            extent=(content[0] * rows, content[1] * columns),
            windows=tuple((top * rows, left * columns) for top, left in windows),
        )

    def warm_up(self, frame_size: tuple[int, int] | None = None, batch: int = 1) -> None:
        """Do before the first frame what only the first frames need: compile, export, allocate.

        Afterwards a batch of that many frames of that size takes no longer than any later one.

        Args:
            frame_size: height and width of the camera frames; None takes `usual_frame_size`.
            batch: frames a batch.

        Raises:
            MaskomalyError: as `predict`.

        """
        height, width = frame_size or self.usual_frame_size
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


def class_names(config: Config, checkpoint: str) -> tuple[str, ...]:
    """Return the inlier classes of a model.

    Args:
        config: of the model.
        checkpoint: name of the checkpoint; that of a published one names the classes where the
            configuration only numbers them.

    """
    names = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    known = find_known(checkpoint)
    numbered = all(name == f'LABEL_{i}' for i, name in enumerate(names))
    return (
        known.class_names if known and numbered and len(names) == len(known.class_names) else names
    )
