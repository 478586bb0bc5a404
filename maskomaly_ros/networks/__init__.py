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

"""From camera frames to mask predictions.

Only this package imports transformers. It never downloads anything unless the checkpoint is a
Hugging Face id.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.checkpoints import find_checkpoint
from maskomaly_ros.networks.devices import select_device
from maskomaly_ros.networks.prediction import MaskPrediction
from maskomaly_ros.networks.preprocessing import InputForm, InputSize

__all__ = [
    'BACKENDS',
    'EXPORT_WAIT',
    'InputSize',
    'MaskPrediction',
    'Network',
    'backend_in_words',
    'backends_used',
    'load_network',
]

_LOG = logging.getLogger(__name__)
EXPORT_WAIT = 120.0
"""Seconds that the first frame of a size waits for an export where results are kept."""
BACKENDS = ('auto', 'transformers', 'onnxruntime', 'openvino', 'tensorrt', 'detectron2')


class Network(Protocol):
    """A mask network that is ready to predict.

    Attributes:
        name: short name of the checkpoint.
        sha256: hash of its weights.
        device: where it runs.
        precision: `float32`, `float16` or `bfloat16`.
        num_queries: N, the number of masks of each frame.
        class_names: the C inlier classes.
        source_sha256: hash of the weights that these were converted from, if they were: what was
            found out about those holds for these.
        backend: what runs it now, of `BACKENDS`.
        backend_reason: why, where `auto` chose it.
        input_size: what frames are resized to.
        input_form: how frames become the input.

    """

    name: str
    sha256: str
    source_sha256: str | None
    backend: str
    backend_reason: str
    device: torch.device
    precision: str
    num_queries: int
    class_names: tuple[str, ...]
    input_form: InputForm

    @property
    def input_size(self) -> InputSize:
        """What frames are resized to."""

    def predict(self, frames: Sequence[NDArray[np.uint8]]) -> MaskPrediction:
        """Predict the masks of frames, RGB uint8 [H, W, 3], all of one size."""

    def warm_up(self, frame_size: tuple[int, int] | None = None, batch: int = 1) -> None:
        """Do beforehand what else the first batch of frames of this height and width waits for.

        None stands for frames that fill the input.
        """


def load_network(
    checkpoint: str | Path,
    *,
    backend: str = 'auto',
    device: str = 'auto',
    precision: str = 'float32',
    input_size: InputSize | None = None,
    config: str | Path | None = None,
    compile: bool = False,
    export_wait: float = EXPORT_WAIT,
) -> Network:
    """Load a mask network.

    Args:
        checkpoint: `demo` (bundled), a local folder with config.json and model.safetensors of
            any of `architectures.ARCHITECTURES`, an official `.pkl` or `.pth` file of
            Mask2Former, the short name of a published checkpoint (`swin-l-cityscapes`,
            `eomt-l-cityscapes`; it has to be downloaded first), a Hugging Face id `owner/name`,
            or an `.onnx` file written by `maskomaly export`.
        backend: what runs it: `transformers` (torch), `onnxruntime`, `openvino` (CPU), or
            `tensorrt` (CUDA; the one of ONNX Runtime). These three take an `.onnx` file, or
            export any other checkpoint into the cache, once for each size of the network input.
            `detectron2` is the official code, for official files, where that is installed.
            `auto` is onnxruntime for an `.onnx` file; for others transformers on CUDA, and on a
            CPU the fastest of openvino and onnxruntime that is installed and, exported, computes
            what transformers does, else that; see `automatic`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `float32`, or `float16` / `bfloat16` for mixed precision, where the backend has
            it.
        input_size: size of the network input; None takes the checkpoint's own, which for
            published Mask2Formers is the official 1024 x 2048.
        config: yaml configuration of an official file, where it is not beside it.
        compile: let torch compile the network (backend transformers), for each size and number
            of frames when it first occurs or at `warm_up`. This takes minutes, and is worth it
            on CUDA.
        export_wait: seconds that `auto` lets the first frame of a size wait for an export, once
            on a machine; it then stays with torch. 0 never waits: results come from torch until
            the export is ready, and from there on from the faster runtime.

    Raises:
        MaskomalyError: an argument is unknown, the checkpoint cannot be found, downloaded or
            loaded, or the device does not exist; the message says what to do.

    """
    if backend not in BACKENDS:
        raise MaskomalyError(f'backend {backend!r} is unknown; use one of {", ".join(BACKENDS)}')
    path = Path(checkpoint).expanduser()
    exported = path.suffix == '.onnx' and path.is_file()
    is_automatic = backend == 'auto'
    if is_automatic:
        backend = 'onnxruntime' if exported else 'transformers'
    selected = select_device('cpu' if (backend, device) == ('openvino', 'auto') else device)
    if compile and backend != 'transformers':
        raise MaskomalyError(f'backend {backend} cannot compile; leave compile out')
    if exported and backend in ('transformers', 'detectron2'):
        raise MaskomalyError(
            f'{path} is an exported network, which backend {backend} cannot run; use auto, '
            'onnxruntime, openvino or tensorrt'
        )
    source = path if exported else find_checkpoint(checkpoint, config)
    # Imported here because it takes seconds, which wrong arguments should not cost.
    if isinstance(source, Path):
        from maskomaly_ros.networks.onnx_network import OnnxNetwork

        return OnnxNetwork(source, backend, selected, precision, input_size)
    if backend in ('onnxruntime', 'openvino', 'tensorrt'):
        from maskomaly_ros.networks.exporting_network import ExportingNetwork

        return ExportingNetwork(source, backend, selected, precision, input_size)
    if backend == 'detectron2':
        from maskomaly_ros.networks.detectron2_network import Detectron2Network

        return Detectron2Network(source, selected, precision, input_size)
    reason = ''
    if is_automatic and selected.type == 'cpu' and not compile:
        from maskomaly_ros.networks.automatic import AutomaticNetwork, choose

        choice = choose(source.weights, precision)
        if choice.runtimes:
            origin = str(checkpoint), str(config) if config is not None else None
            return AutomaticNetwork(
                source, origin, choice.runtimes, precision, input_size, export_wait
            )
        reason = choice.reason
    from maskomaly_ros.networks.transformers_network import TransformersNetwork

    network = TransformersNetwork(source, selected, precision, input_size, compile)
    if reason:
        network.backend_reason = reason
        _LOG.info('backend auto: torch (transformers), because %s', reason)
    return network


def backends_used(network: Network) -> tuple[str, ...]:
    """Return what has run a network so far: one name, but where `auto` changed midway."""
    used = getattr(network, 'backends_used', None)
    return tuple(used) if used else (getattr(network, 'backend', 'unknown'),)


def backend_in_words(network: Network) -> str:
    """Return what runs a network and why, for people."""
    name = getattr(network, 'backend', 'unknown')
    reason = getattr(network, 'backend_reason', '')
    return f'{name}: {reason}' if reason else name
