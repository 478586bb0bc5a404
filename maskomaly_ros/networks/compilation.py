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

"""Compilation of networks by torch.compile, with static shapes, as one graph."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.known import user_cache

# One graph for each size and number of frames; torch gives up at 8 by default.
_GRAPHS = 64
# The first call compiles and tunes, which cannot be recorded; a second one finds all of it done.
_CALLS_BEFORE_RECORDING = 2

Forward = Callable[[Tensor], tuple[Tensor, Tensor]]


def check_compiler(device: torch.device) -> None:
    """Look for what torch.compile needs, which by itself it misses only after minutes of work.

    Raises:
        MaskomalyError: there is no C++ compiler (on a CPU), or no C compiler or Triton (on CUDA).

    """
    _keep_on_disk()
    if device.type == 'cuda':
        if not any(map(shutil.which, (os.environ.get('CC', ''), 'cc', 'gcc', 'clang'))):
            raise _no_compiler('Triton needs a C compiler, and there is none (apt install gcc)')
        try:
            import triton  # noqa: F401
        except ImportError as error:
            raise _no_compiler(f'it needs Triton (pip install triton): {error}') from error
        return
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        name = os.environ.get('CXX', 'g++')
        raise _no_compiler(
            f'it needs a C++ compiler, and {name} is none (apt install g++)'
        ) from error


def compiled(model: nn.Module, device: torch.device) -> Forward:
    """Return a model as a function that is compiled when it is first called, per input shape.

    On CUDA the compiled function is also recorded as a CUDA graph. What compiling produces is
    kept in the cache of this package, unless TORCHINDUCTOR_CACHE_DIR names another place: the
    default of torch does not outlive a restart of the machine.

    Raises:
        MaskomalyError: when called, where compiling fails.

    """
    import torch._dynamo
    from torch._dynamo.exc import TorchDynamoException

    _keep_on_disk()
    settings: Any = torch._dynamo.config
    settings.recompile_limit = max(settings.recompile_limit, _GRAPHS)
    function = torch.compile(model, fullgraph=True, dynamic=False)
    recorded: dict[torch.Size, _CudaGraph] = {}

    def run(pixels: Tensor) -> tuple[Tensor, Tensor]:
        try:
            if device.type != 'cuda':
                masks, classes = function(pixels)
                return masks, classes
            if pixels.shape not in recorded:
                recorded[pixels.shape] = _CudaGraph(function, pixels)
        except TorchDynamoException as error:
            raise _no_compiler(str(error).splitlines()[0]) from error
        return recorded[pixels.shape](pixels)

    return run


def _keep_on_disk() -> None:
    """Name our folder before torch, which does so when its compiler is first imported."""
    os.environ.setdefault('TORCHINDUCTOR_CACHE_DIR', str(user_cache() / 'compiled'))


def _no_compiler(reason: str) -> MaskomalyError:
    return MaskomalyError(
        f'torch cannot compile the network: {reason}. Without compile it runs the same, slower'
    )


class _CudaGraph:
    """A function of a tensor of fixed shape, recorded once on CUDA and replayed.

    torch.compile has CUDA graphs of its own (mode reduce-overhead), but they belong to the thread
    that recorded them; a node warms up in one thread and detects in another.

    Args:
        function: what to record; it may not wait for the device, except in its first calls.
        pixels: an input; later ones have its shape and strides.

    """

    def __init__(self, function: Forward, pixels: Tensor) -> None:
        self._pixels = pixels.clone()  # a graph reads the same place each time
        with torch.cuda.device(pixels.device):
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_CALLS_BEFORE_RECORDING):
                    function(self._pixels)
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            # Other threads may go on using the device meanwhile.
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode='thread_local'):
                self._outputs = function(self._pixels)

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the function returns for other pixels."""
        self._pixels.copy_(pixels)
        with torch.cuda.device(pixels.device):
            self._graph.replay()
        # The next replay writes to the same place.
        masks, classes = self._outputs
        return masks.clone(), classes.clone()
