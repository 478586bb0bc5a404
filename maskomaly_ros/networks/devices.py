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

"""Choice of the device that a network runs on, and of its precision."""

from __future__ import annotations

import logging

import torch

from maskomaly_ros.errors import MaskomalyError

_LOG = logging.getLogger(__name__)
PRECISIONS = {'float32': None, 'float16': torch.float16, 'bfloat16': torch.bfloat16}


def select_device(device: str) -> torch.device:
    """Return the torch device for `auto`, `cpu`, `cuda` or `cuda:N`.

    `auto` takes the first CUDA device if there is one, else the CPU, and logs what and why.

    Raises:
        MaskomalyError: the name is unknown, or CUDA was asked for and is not usable here.

    """
    if device == 'auto':
        if torch.cuda.is_available():
            name = torch.cuda.get_device_name(0)
            _LOG.info('device auto: cuda:0, %s', name)
            return torch.device('cuda:0')
        _LOG.warning('device auto: cpu, because %s', _why_no_cuda())
        return torch.device('cpu')
    try:
        selected = torch.device(device)
    except RuntimeError:
        selected = torch.device('meta')
    if selected.type not in ('cpu', 'cuda'):
        raise MaskomalyError(f'device {device!r} is unknown; use auto, cpu, cuda or cuda:N')
    if selected.type == 'cpu':
        return selected
    if not torch.cuda.is_available():
        raise MaskomalyError(
            f'device {device!r} cannot be used: {_why_no_cuda()}; '
            'install a CUDA build of torch and a driver, or use device cpu or auto'
        )
    index = selected.index or 0
    if index >= torch.cuda.device_count():
        raise MaskomalyError(
            f'device {device!r} does not exist: this machine has '
            f'{torch.cuda.device_count()} CUDA devices, numbered from 0'
        )
    return torch.device('cuda', index)


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return f'torch {torch.__version__} is built without CUDA'
    return f'torch {torch.__version__} finds no usable CUDA device or driver'


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the number format of mixed precision on a device; None stands for float32.

    Logs a warning where the processor computes in this format slower than in float32.

    Raises:
        MaskomalyError: the precision is unknown.

    """
    if precision not in PRECISIONS:
        raise MaskomalyError(
            f'precision {precision!r} is unknown; use one of {", ".join(PRECISIONS)}'
        )
    dtype = PRECISIONS[precision]
    if dtype is not None and not _is_native(dtype, device):
        _LOG.warning(
            'precision %s is slower than float32 here: device %s has no instructions for it',
            precision,
            device,
        )
    return dtype


def _is_native(dtype: torch.dtype, device: torch.device) -> bool:
    if device.type == 'cuda':
        return dtype == torch.float16 or torch.cuda.is_bf16_supported(including_emulation=False)
    flag = {torch.float16: 'fp16', torch.bfloat16: 'bf16'}[dtype]
    supported = getattr(torch.ops.mkldnn, f'_is_mkldnn_{flag}_supported', lambda: False)
    return bool(supported())
