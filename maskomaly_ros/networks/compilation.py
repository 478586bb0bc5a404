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
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.known import user_cache

# One graph for each size and number of frames; torch gives up at 8 by default.
_GRAPHS = 64

Forward = Callable[[Tensor], tuple[Tensor, Tensor]]


def compiled(model: nn.Module, device: torch.device) -> Forward:
    """Return a model as a function that is compiled when it is first called, per input shape.

    On CUDA it also becomes a CUDA graph, in the two calls after that. Everything that compiling
    produces is kept in the cache of this package, unless TORCHINDUCTOR_CACHE_DIR names another
    place: the default of torch does not outlive a restart of the machine.

    Raises:
        MaskomalyError: when called, where there is no compiler.

    """
    import torch._dynamo
    import torch._inductor.exc

    os.environ.setdefault('TORCHINDUCTOR_CACHE_DIR', str(user_cache() / 'compiled'))
    settings: Any = torch._dynamo.config
    settings.recompile_limit = max(settings.recompile_limit, _GRAPHS)
    on_cuda = device.type == 'cuda'
    function = torch.compile(
        model, fullgraph=True, dynamic=False, mode='reduce-overhead' if on_cuda else 'default'
    )

    def run(pixels: Tensor) -> tuple[Tensor, Tensor]:
        if on_cuda:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        try:
            masks, classes = function(pixels)
        except torch._inductor.exc.InductorError as error:
            raise MaskomalyError(
                f'torch cannot compile the network: {str(error).splitlines()[0]}. It needs a C++ '
                'compiler (apt install g++), and Triton on CUDA; or leave compile out'
            ) from error
        # A CUDA graph writes its next results to the same place.
        return (masks.clone(), classes.clone()) if on_cuda else (masks, classes)

    return run
