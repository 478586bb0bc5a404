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

"""Backend `auto` on a CPU: the fastest runtime that is installed and proves equal to torch.

The network is exported once for each size of its input, in a process of its own, and kept in the
cache. Until that is done, and where it fails, torch computes.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import export_process
from maskomaly_ros.networks.base import PixelNetwork
from maskomaly_ros.networks.checkpoints import CheckpointFile, CheckpointFolder
from maskomaly_ros.networks.export_cache import ExportCache, Facts, Shape
from maskomaly_ros.networks.onnx_network import OnnxNetwork, precisions
from maskomaly_ros.networks.prediction import MaskPrediction
from maskomaly_ros.networks.preprocessing import InputSize

_LOG = logging.getLogger(__name__)
_CPU = torch.device('cpu')
# By speed, see docs/networks.md. TensorRT is for who asks for it.
_FASTEST_FIRST = ('openvino', 'onnxruntime')
_EXPORTERS = ('onnx', 'onnxscript')
# Warming up shows two frames of a size that may never come again.
_FRAMES_BEFORE_EXPORT = 3
# A folder of pictures may have a hundred sizes.
_MOST_EXPORTS = 4
# An export needs several times the memory of the weights.
_LARGEST_WEIGHTS = 400 << 20
VARIABLE = 'MASKOMALY_AUTO_BACKEND'


@dataclass(frozen=True)
class Choice:
    """What `auto` stands for.

    Attributes:
        runtimes: what to run exported networks with, the best first; none means torch.
        reason: why there are none.

    """

    runtimes: tuple[str, ...]
    reason: str = ''


def choose(weights: Sequence[Path], precision: str) -> Choice:
    """Return what `auto` stands for on a CPU.

    Args:
        weights: files of the checkpoint.
        precision: what the network is to compute in.

    """
    ordered = os.environ.get(VARIABLE, '')
    if ordered not in ('', 'transformers', *_FASTEST_FIRST):
        raise MaskomalyError(
            f'{VARIABLE} is {ordered!r}; it can be transformers, {" or ".join(_FASTEST_FIRST)}, '
            'or empty for the fastest'
        )
    if ordered == 'transformers':
        return Choice((), f'{VARIABLE} says so')
    able = [name for name in _FASTEST_FIRST if precision in precisions(name)]
    if not able:
        return Choice((), f'nothing else computes in {precision} on a CPU')
    size = sum(file.stat().st_size for file in weights)
    if size > _LARGEST_WEIGHTS:
        return Choice(
            (),
            f'the weights have {size >> 20} MB, and more than {_LARGEST_WEIGHTS >> 20} MB are '
            f'exported for those alone who ask for backend {able[0]}',
        )
    found = tuple(n for n in able if ordered in ('', n) and find_spec(n) is not None)
    if not found:
        return Choice(
            (),
            f'none of {", ".join(able)} is installed, which would be faster: pip install '
            f'{able[0]} {" ".join(_EXPORTERS)}',
        )
    return Choice(found)


class AutomaticNetwork(PixelNetwork):
    """A network on a CPU that torch or a faster runtime runs.

    Which one that is, is decided for each size of the input. A form in the cache is opened and
    used at once, where it proves equal. Otherwise the network is exported by another process: a
    program that waits gets its answer from that one alone, and from torch alone where the export
    fails or takes too long, so that all of its results are made alike; one that does not wait
    gets its answers from torch until the exported form is ready.

    Args:
        checkpoint: where the weights are.
        origin: checkpoint and configuration as given to `find_checkpoint`.
        runtimes: what to run exported networks with, the best first.
        precision: `float32`, or `bfloat16` where a runtime has it.
        input_size: size of the network input; None takes the checkpoint's own.
        wait: seconds that the first frame of a size may wait for an export; 0 never does.

    Raises:
        MaskomalyError: as `TransformersNetwork`.

    """

    def __init__(
        self,
        checkpoint: CheckpointFolder | CheckpointFile,
        origin: tuple[str, str | None],
        runtimes: tuple[str, ...],
        precision: str = 'float32',
        input_size: InputSize | None = None,
        wait: float = 0.0,
    ) -> None:
        self._checkpoint, self._origin = checkpoint, origin
        self._runtimes, self._wait = runtimes, wait
        self._chosen_size = input_size
        self._cache = ExportCache(checkpoint)
        self.name, self.sha256 = checkpoint.name, checkpoint.sha256
        self.source_sha256 = checkpoint.source_sha256
        self.device, self.precision = _CPU, precision
        self._torch: PixelNetwork | None = None
        facts = self._cache.read_facts(input_size)
        if facts is None:
            network = self._torch_network()
            size = network.input_size
            facts = Facts(
                network.num_queries,
                network.class_names,
                (size.shortest, size.longest),
                network.input_form.square,
            )
            if self._cache.can_write:
                self._cache.write_facts(input_size, facts)
        self._facts = facts
        self.num_queries, self.class_names = facts.num_queries, facts.class_names
        self.input_form = facts.input_form
        self.backend, self.backend_reason = 'auto', 'chosen when the first frame comes'
        self._used: set[str] = set()
        self._frame_size = (0, 0)
        self._frames: Counter[Shape] = Counter()
        self._exports = 0
        # Guards the two below, of which the thread that waits for an export writes one.
        self._lock = threading.Lock()
        self._opened: dict[Shape, OnnxNetwork] = {}
        self._refused: dict[Shape, str] = {}
        self._exporting: threading.Thread | None = None

    @property
    def backends_used(self) -> tuple[str, ...]:
        """What has run it so far, by name."""
        return tuple(sorted(self._used))

    @property
    def usual_frame_size(self) -> tuple[int, int]:
        """Height and width of frames to expect: those of last time, else those that fill it."""
        return self._facts.frame_size or super().usual_frame_size

    def predict(self, frames: Sequence[NDArray[np.uint8]]) -> MaskPrediction:
        """Predict the masks of frames; see `PixelNetwork.predict`."""
        if len(frames):
            self._frame_size = frames[0].shape[:2]
        return super().predict(frames)

    def _forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        shape = (1, int(pixels.shape[-2]), int(pixels.shape[-1]))
        if shape not in self._opened and shape not in self._refused:
            self._decide(shape)
        opened = self._opened.get(shape)
        self._used.add(opened.backend if opened else 'transformers')
        if opened is None:
            self.backend = 'transformers'
            self.backend_reason = self._refused.get(shape, 'nothing faster is ready yet')
            return self._torch_network()._forward(pixels)
        if self.backend != opened.backend:
            self.backend, self.backend_reason = opened.backend, opened.backend_reason
            if len(self._opened) == len(self._frames):  # no size that was seen needs torch
                self._torch = None
        return opened._forward(pixels)

    def _torch_network(self) -> PixelNetwork:
        if self._torch is None:
            from maskomaly_ros.networks.transformers_network import TransformersNetwork

            self._torch = TransformersNetwork(
                self._checkpoint, _CPU, self.precision, self._chosen_size
            )
        return self._torch

    def _decide(self, shape: Shape) -> None:
        """Look for something faster than torch for an input; what comes later comes by itself."""
        self._frames[shape] += 1
        file = self._cache.file(self.input_size, shape)
        if self._frames[shape] == 1 and file.is_file() and self._open(file, shape):
            self._remember(self._frame_size)
            return
        if not self._wait and self._frames[shape] <= _FRAMES_BEFORE_EXPORT:
            return
        if self._exporting is not None and self._exporting.is_alive():
            if self._wait:
                self._refuse(shape, 'the export for another size is still under way')
            return
        if reason := self._why_no_export(file):
            self._refuse(shape, reason)
            return
        self._exports += 1
        self._remember(self._frame_size)
        self._exporting = threading.Thread(
            target=self._export, args=(file, shape), name='maskomaly exporting', daemon=True
        )
        self._exporting.start()
        if self._wait:
            self._exporting.join(self._wait)
            if shape not in self._opened:
                self._refuse(shape, f'the export is not ready after {self._wait:g} s')

    def _why_no_export(self, file: Path) -> str:
        missing = [name for name in _EXPORTERS if find_spec(name) is None]
        if missing:
            return f'exporting needs {" and ".join(missing)}: pip install {" ".join(missing)}'
        if self._exports >= _MOST_EXPORTS:
            return f'{_MOST_EXPORTS} sizes of frames have been exported for already'
        if not self._cache.can_write:
            return f'the cache {self._cache.folder} cannot be written'
        if reason := self._cache.read_refusal(file):
            return f'{reason} (noted in {self._cache.folder}; remove the note to try again)'
        return ''

    def _export(self, file: Path, shape: Shape) -> None:
        """Export in another process and open what comes of it; the body of a thread."""
        _LOG.info(
            'backend auto: exporting %s for inputs of %dx%d, to run it in %s; once, kept in %s',
            self.name,
            shape[2],
            shape[1],
            self._runtimes[0],
            file.parent,
        )
        size = self.input_size
        order = export_process.Order(
            *self._origin,
            self.sha256,
            (size.shortest, size.longest),
            shape,
            self._runtimes,
            is_background=not self._wait,
        )
        try:
            with export_process.start(order) as process:
                _, complaint = process.communicate()
        except Exception as error:  # nobody else would hear of it
            self._refuse(shape, f'no process could be started: {error}')
            return
        if process.returncode:
            lines = complaint.strip().splitlines() or [f'exit status {process.returncode}']
            self._refuse(shape, f'the export failed: {lines[-1]}')
        elif not self._open(file, shape):
            self._refuse(shape, f'{file} has just been made and cannot be used')

    def _open(self, file: Path, shape: Shape) -> bool:
        """Open an exported form in the first runtime where it proves equal to torch."""
        reasons = []
        for runtime in self._runtimes:
            try:
                network = OnnxNetwork(file, runtime, _CPU, self.precision)
                if not network.is_of(self.sha256, shape):
                    raise MaskomalyError(f'{file} is of another network')
            except Exception as error:  # a damaged file makes a runtime raise whatever it likes
                reasons.append(f'{runtime}: {error}')
                continue
            network.backend_reason = 'the fastest that is installed and equals torch'
            if reasons:
                network.backend_reason += f'; not {"; ".join(reasons)}'
            with self._lock:
                if shape in self._refused:  # it has been decided meanwhile
                    return False
                self._opened[shape] = network
            _LOG.info(
                'backend auto: %s for inputs of %dx%d: %s',
                runtime,
                shape[2],
                shape[1],
                network.backend_reason,
            )
            return True
        _LOG.warning('%s cannot be used and is made anew: %s', file, '; '.join(reasons))
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            self._refuse(shape, f'{file} cannot be used, nor removed: {error.strerror}')
        return False

    def _refuse(self, shape: Shape, reason: str) -> None:
        """Stay with torch for an input."""
        with self._lock:
            if shape in self._opened or shape in self._refused:
                return
            self._refused[shape] = reason
        _LOG.warning(
            'backend auto: torch (transformers) for inputs of %dx%d, which is slower: %s',
            shape[2],
            shape[1],
            reason,
        )

    def _remember(self, frame_size: tuple[int, int]) -> None:
        if self._facts.frame_size != frame_size and self._cache.can_write:
            self._facts = replace(self._facts, frame_size=frame_size)
            self._cache.write_facts(self._chosen_size, self._facts)
