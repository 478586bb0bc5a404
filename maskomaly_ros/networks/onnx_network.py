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

"""Mask networks in an .onnx file, run by ONNX Runtime, TensorRT or OpenVINO.

Files come from `onnx_export.export`; `exported_file` says what they hold.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.agreement import compare
from maskomaly_ros.networks.base import PixelNetwork
from maskomaly_ros.networks.devices import autocast_dtype
from maskomaly_ros.networks.exported_file import (
    INPUT_NAME,
    METADATA_KEY,
    OUTPUT_NAMES,
    Description,
    probe_pixels,
    sample,
    unpack,
)
from maskomaly_ros.networks.preprocessing import InputForm, InputSize

# What each runtime computes in, and where.
_PRECISIONS = {
    'onnxruntime': ('float32',),
    'tensorrt': ('float32', 'float16', 'bfloat16'),
    'openvino': ('float32', 'bfloat16'),
}
_DEVICES = {'onnxruntime': ('cpu', 'cuda'), 'tensorrt': ('cuda',), 'openvino': ('cpu',)}
RUNTIMES = tuple(_PRECISIONS)


class UnfitError(MaskomalyError):
    """These versions of the libraries cannot run the network as torch does, however often."""


Run = Callable[[Tensor], tuple[Tensor, Tensor]]


class OnnxNetwork(PixelNetwork):
    """An exported network.

    Args:
        file: an .onnx file.
        runtime: `onnxruntime` (CPU or CUDA), `tensorrt` (CUDA) or `openvino` (CPU). They use as
            many threads as torch, and none of these waits by spinning.
        device: where it runs.
        precision: `float32`; TensorRT also computes in `float16` and `bfloat16`, OpenVINO in
            `bfloat16`.
        input_size: size of the network input that the file has to have.

    Raises:
        MaskomalyError: the runtime is not installed or cannot do what is asked for, the file is
            none of ours, or its outputs are wrong.

    """

    def __init__(
        self,
        file: Path,
        runtime: str,
        device: torch.device,
        precision: str = 'float32',
        input_size: InputSize | None = None,
    ) -> None:
        self._choose(runtime, device, precision)
        self.device, self.precision = device, precision
        known = self._open(file)
        self.input_form = InputForm(InputSize(*known.input_size), known.square)
        if known.square is None:
            self._padded_size = known.shape[1:]
        if input_size not in (None, self.input_size):
            raise MaskomalyError(
                f'{file} has the input size {known.input_size[0]}x{known.input_size[1]}, '
                f'and no other; export it again for {input_size}'
            )
        self.name, self.sha256 = known.name, known.sha256
        self.source_sha256 = known.source_sha256
        self.num_queries, self.class_names = known.num_queries, known.class_names

    def _choose(self, runtime: str, device: torch.device, precision: str) -> None:
        """Take a runtime; raises MaskomalyError where it cannot do what is asked for."""
        _check_choice(runtime, device, precision)
        self._runtime = self.backend = runtime
        self._runs: dict[tuple[int, int, int], Run] = {}

    def is_of(self, sha256: str, shape: tuple[int, int, int]) -> bool:
        """Return whether it is that of these weights, for inputs of this batch and size."""
        return self.sha256 == sha256 and shape in self._runs

    def _forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        batch, _, height, width = pixels.shape
        fixed = self._batch(height, width)
        run = self._runs[fixed, height, width]
        parts = []
        for start in range(0, batch, fixed):
            part = pixels[start : start + fixed]
            missing = fixed - len(part)
            filled = torch.cat([part, part[-1:].expand(missing, -1, -1, -1)]) if missing else part
            masks, classes = run(filled.contiguous())
            parts.append((masks[: len(part)], classes[: len(part)]))
        if len(parts) == 1:
            return parts[0]
        masks, classes = (torch.cat(each) for each in zip(*parts, strict=True))
        return masks, classes

    def _batch(self, height: int, width: int) -> int:
        """Return the batch size of what is open for an input size; 0 if nothing is."""
        return next((b for b, *size in self._runs if size == [height, width]), 0)

    def _open(self, file: Path) -> Description:
        """Open an exported file and let it prove that it computes what torch did."""
        opener = {
            'onnxruntime': _open_onnxruntime,
            'tensorrt': _open_tensorrt,
            'openvino': _open_openvino,
        }[self._runtime]
        try:
            text, run = opener(file, self.device, self.precision)
        except MaskomalyError:
            raise
        except Exception as error:  # each runtime has exceptions of its own
            raise MaskomalyError(
                f'{self._runtime} cannot open {file}: {str(error).strip()}'
            ) from error
        known = Description.from_json(text, file)
        actual = sample(*run(probe_pixels(known.shape).to(self.device)))
        violations = compare(actual, unpack(known.reference)).violations(self.precision)
        if violations:
            raise UnfitError(
                f'{self._runtime} computes wrong results from {file} on {self.device} in '
                f'{self.precision}: {"; ".join(violations)}. Use another backend or precision'
            )
        self._runs[known.shape] = run
        return known


def precisions(runtime: str) -> tuple[str, ...]:
    """Return what a runtime computes in."""
    return _PRECISIONS[runtime]


def _check_choice(runtime: str, device: torch.device, precision: str) -> None:
    if device.type not in _DEVICES[runtime]:
        raise MaskomalyError(
            f'backend {runtime} does not run on device {device}, only on '
            f'{" and ".join(_DEVICES[runtime])}'
        )
    autocast_dtype(precision, device)  # refuses unknown ones, warns of slow ones
    if precision not in _PRECISIONS[runtime]:
        raise MaskomalyError(
            f'backend {runtime} does not compute in precision {precision!r}, only in '
            f'{" and ".join(_PRECISIONS[runtime])}'
        )


def _open_onnxruntime(file: Path, device: torch.device, precision: str) -> tuple[str | None, Run]:
    provider = {'cpu': 'CPUExecutionProvider', 'cuda': 'CUDAExecutionProvider'}[device.type]
    options = {} if device.type == 'cpu' else {'device_id': device.index or 0}
    return _open_session(file, device, provider, options)


def _open_tensorrt(file: Path, device: torch.device, precision: str) -> tuple[str | None, Run]:
    from maskomaly_ros.networks.known import user_cache

    options = {
        'device_id': device.index or 0,
        'trt_engine_cache_enable': True,  # building an engine takes minutes
        'trt_engine_cache_path': str(user_cache() / 'tensorrt'),
        'trt_timing_cache_enable': True,
        'trt_timing_cache_path': str(user_cache() / 'tensorrt'),
        'trt_fp16_enable': precision == 'float16',
        'trt_bf16_enable': precision == 'bfloat16',
    }
    return _open_session(file, device, 'TensorrtExecutionProvider', options)


def _open_session(
    file: Path, device: torch.device, provider: str, provider_options: dict[str, Any]
) -> tuple[str | None, Run]:
    package = 'onnxruntime' if device.type == 'cpu' else 'onnxruntime-gpu'
    try:
        import onnxruntime
    except ImportError as error:
        raise MaskomalyError(f'ONNX Runtime is not installed: pip install {package}') from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin while they wait take the processor from whatever they wait for.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.add_session_config_entry('session.inter_op.allow_spinning', '0')
    # It falls back to the CPU, without an error, where a provider is missing or does not start.
    if provider in onnxruntime.get_available_providers():
        session = onnxruntime.InferenceSession(
            str(file), options, providers=[(provider, provider_options)]
        )
        usable = provider in session.get_providers()
    else:
        usable = False
    if not usable:
        raise MaskomalyError(
            f'the installed ONNX Runtime cannot use {provider}; pip install {package}, with the '
            'libraries that it names (CUDA and cuDNN, for TensorRT that too)'
        )
    place = {'device_type': device.type, 'device_id': device.index or 0}
    shapes = [tuple(output.shape) for output in session.get_outputs()]

    def run(pixels: Tensor) -> tuple[Tensor, Tensor]:
        outputs = [torch.empty(shape, dtype=torch.float32, device=device) for shape in shapes]
        binding = session.io_binding()
        for name, tensor in zip((INPUT_NAME, *OUTPUT_NAMES), (pixels, *outputs), strict=True):
            bind = binding.bind_input if name == INPUT_NAME else binding.bind_output
            bind(
                name=name,
                **place,
                element_type=np.float32,
                shape=tuple(tensor.shape),
                buffer_ptr=tensor.data_ptr(),
            )
        if device.type == 'cuda':  # it computes on a stream of its own
            torch.cuda.current_stream(device).synchronize()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return outputs[0], outputs[1]

    return session.get_modelmeta().custom_metadata_map.get(METADATA_KEY), run


def _open_openvino(file: Path, device: torch.device, precision: str) -> tuple[str | None, Run]:
    try:
        import openvino
    except ImportError as error:
        raise MaskomalyError('OpenVINO is not installed: pip install openvino') from error
    model = openvino.Core().read_model(file)
    place = ['framework', METADATA_KEY]
    text = model.get_rt_info(place).value if model.has_rt_info(place) else None
    compiled = openvino.compile_model(
        model,
        'CPU',
        {
            # Left alone, it takes bfloat16 wherever the processor has it.
            'INFERENCE_PRECISION_HINT': {'float32': 'f32', 'bfloat16': 'bf16'}[precision],
            'INFERENCE_NUM_THREADS': torch.get_num_threads(),
            'PERFORMANCE_HINT': 'LATENCY',
            'ENABLE_CPU_PINNING': False,  # a thread that may not move waits on a busy machine
        },
    )

    def run(pixels: Tensor) -> tuple[Tensor, Tensor]:
        outputs = compiled({INPUT_NAME: pixels.numpy()})
        # Copied, as it writes the next results to the same place.
        masks, classes = (torch.from_numpy(outputs[n].copy()) for n in OUTPUT_NAMES)
        return masks, classes

    return text, run
