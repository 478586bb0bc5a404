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

"""What makes the network faster: kernels, compilation, precision; that numbers stay."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.models.mask2former import modeling_mask2former

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import deformable_attention as fused
from maskomaly_ros.networks import load_network
from maskomaly_ros.networks.devices import autocast_dtype
from maskomaly_ros.networks.preprocessing import _resize
from maskomaly_ros.networks.transformers_network import TransformersNetwork

CPU = torch.device('cpu')
# Batch, heads, channels of a head, points, and the levels' sizes.
CASES = [
    (2, 4, 8, 4, [(3, 5), (6, 10), (12, 20)]),
    (1, 2, 12, 3, [(2, 3), (4, 7)]),  # nothing here is a power of two
    (1, 1, 16, 1, [(1, 1)]),
]


# Triton decides when it is imported whether it interprets: that takes a process of its own.
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
needs_triton = pytest.mark.skipif(
    not (INTERPRETED or torch.cuda.is_available()), reason='no CUDA device, nor TRITON_INTERPRET=1'
)


def kernel(*tensors: Tensor, shapes: list[int], heads: int) -> Tensor:
    """Run the Triton kernel, on a GPU or interpreted."""
    from maskomaly_ros.networks.deformable_kernel import attend

    device = CPU if INTERPRETED else torch.device('cuda')
    moved = [tensor.to(device) for tensor in tensors]
    return attend(moved[0], moved[1], moved[2], moved[3], shapes, heads).cpu()


def attention_inputs(
    case: tuple[int, int, int, int, list[tuple[int, int]]], spread: float = 3.0
) -> tuple[list[Tensor], list[int], int]:
    batch, heads, channels, points, sizes = case
    random = torch.Generator().manual_seed(0)
    places = sum(height * width for height, width in sizes)
    samples = heads * len(sizes) * points
    values = torch.randn(batch, places, heads * channels, generator=random)
    offsets = torch.randn(batch, places, samples * 2, generator=random) * spread
    logits = torch.randn(batch, places, samples, generator=random) * 2
    reference = torch.rand(batch, places, len(sizes), 2, generator=random)
    return [values, offsets, logits, reference], [side for size in sizes for side in size], heads


def of_transformers(tensors: list[Tensor], shapes: list[int], heads: int) -> Tensor:
    """Compute the same by the function of the library."""
    values, offsets, logits, reference = tensors
    batch, places, _ = values.shape
    sizes = list(zip(shapes[::2], shapes[1::2], strict=True))
    levels = len(sizes)
    unit = torch.tensor([[width, height] for height, width in sizes])
    moved = offsets.view(batch, places, heads, levels, -1, 2) / unit[:, None]
    weights = logits.view(batch, places, heads, -1).softmax(-1)
    return modeling_mask2former.multi_scale_deformable_attention(
        values.view(batch, places, heads, -1),
        sizes,
        reference[:, :, None, :, None] + moved,
        weights.view(batch, places, heads, levels, -1),
    )


class TestDeformableAttention:
    @pytest.mark.parametrize('case', CASES)
    def test_operation(self, case: tuple[int, int, int, int, list[tuple[int, int]]]) -> None:
        tensors, shapes, heads = attention_inputs(case)
        actual = fused.deformable_attention(*tensors, shapes, heads)
        expected = of_transformers(tensors, shapes, heads)
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)

    @needs_triton
    @pytest.mark.parametrize('case', CASES)
    @pytest.mark.parametrize('spread', [0.5, 1e10], ids=['near', 'far'])
    def test_kernel(
        self, case: tuple[int, int, int, int, list[tuple[int, int]]], spread: float
    ) -> None:
        tensors, shapes, heads = attention_inputs(case, spread)
        actual = kernel(*tensors, shapes=shapes, heads=heads)
        expected = of_transformers(tensors, shapes, heads)
        torch.testing.assert_close(actual, expected, atol=2e-5, rtol=1e-4)

    @needs_triton
    def test_kernel_takes_half_precision(self) -> None:
        tensors, shapes, heads = attention_inputs(CASES[0])
        expected = of_transformers(tensors, shapes, heads)
        tensors[0] = tensors[0].half()
        actual = kernel(*tensors, shapes=shapes, heads=heads)
        assert actual.dtype == torch.float16
        torch.testing.assert_close(actual.float(), expected, atol=2e-3, rtol=2e-3)

    @pytest.mark.skipif(INTERPRETED, reason='this is the interpreted run')
    def test_kernel_interpreted(self) -> None:
        pytest.importorskip('triton', reason='Triton is not installed')
        done = subprocess.run(
            [sys.executable, '-m', 'pytest', '-q', __file__, '-k', 'test_kernel'],
            env={**os.environ, 'TRITON_INTERPRET': '1'},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:]
        assert '7 passed' in done.stdout

    def test_operation_is_known_to_the_compiler(self) -> None:
        tensors, shapes, heads = attention_inputs(CASES[0])
        torch.library.opcheck(fused.deformable_attention, (*tensors, shapes, heads))

    def test_model_gives_the_same(self, tiny_checkpoint: Path) -> None:
        network = load_network(tiny_checkpoint, device='cpu')
        assert isinstance(network, TransformersNetwork)
        pixels = torch.randn(1, 3, 64, 96)
        model = network.traceable()
        with torch.inference_mode():
            expected = model(pixels)
            fused.fuse_deformable_attention(model.model)
            actual = model(pixels)
        for ours, theirs in zip(actual, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


class TestCompilation:
    @pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
    def test_is_one_graph_without_breaks(self, tiny_checkpoint: Path, precision: str) -> None:
        """Dynamo raises at the first graph break; no code is generated here."""
        network = load_network(tiny_checkpoint, device='cpu', precision=precision)
        assert isinstance(network, TransformersNetwork)
        model = network.traceable()
        decoder = model.model.model.pixel_level_module.decoder
        for layer in getattr(decoder, 'module', decoder).encoder.layers:
            layer.self_attn = fused.FusedDeformableAttention(layer.self_attn)
        graphs = []

        def keep(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
            graphs.append(graph)
            return graph

        pixels = torch.randn(1, 3, 64, 96)
        mixed = torch.autocast('cpu', autocast_dtype(precision, CPU), precision != 'float32')
        with torch.inference_mode(), mixed:
            expected = model(pixels)
            actual = torch.compile(model, fullgraph=True, dynamic=False, backend=keep)(pixels)
        assert len(graphs) == 1
        for ours, theirs in zip(actual, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)

    @pytest.mark.slow
    def test_generated_code_gives_the_same(
        self, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path))
        frame = np.full((64, 100, 3), 90, np.uint8)
        expected = load_network(tiny_checkpoint, device='cpu').predict([frame])
        network = load_network(tiny_checkpoint, device='cpu', compile=True)
        network.warm_up((64, 100))
        actual = network.predict([frame])
        torch.testing.assert_close(
            actual.class_logits, expected.class_logits, atol=1e-3, rtol=1e-3
        )
        assert any(tmp_path.iterdir())  # what is compiled is kept

    def test_is_for_torch_only(self, tiny_checkpoint: Path) -> None:
        with pytest.raises(MaskomalyError, match='backend onnxruntime cannot compile'):
            load_network(tiny_checkpoint, backend='onnxruntime', device='cpu', compile=True)


class TestPrecision:
    @pytest.mark.parametrize(('name', 'supported'), [('fp16', False), ('bf16', True)])
    def test_slow_ones_are_warned_of(
        self,
        name: str,
        supported: bool,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(
            torch.ops.mkldnn, f'_is_mkldnn_{name}_supported', lambda: supported, raising=False
        )
        precision = {'fp16': 'float16', 'bf16': 'bfloat16'}[name]
        with caplog.at_level(logging.WARNING, 'maskomaly_ros'):
            assert autocast_dtype(precision, CPU) == getattr(torch, precision)
        assert (f'{precision} is slower than float32' in caplog.text) is not supported

    def test_float32_is_no_autocast(self) -> None:
        assert autocast_dtype('float32', CPU) is None


class TestPreprocessingOffTheProcessor:
    @pytest.mark.parametrize('size', [(30, 50), (64, 96), (128, 100)])
    def test_float_form_rounds_as_the_uint8_form(
        self, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What other devices compute in float is what the processor computes in uint8."""
        random = torch.Generator().manual_seed(0)
        frames = torch.randint(0, 256, (2, 3, 64, 96), generator=random, dtype=torch.uint8)
        expected = _resize(frames, size).float()
        actual = _resize(_Elsewhere(frames), size) if size != (64, 96) else frames.float()  # type: ignore[arg-type]
        difference = (actual - expected).abs()
        assert difference.max() <= 1
        assert (difference > 0).float().mean() < 0.03


class _Elsewhere:
    """A tensor that says it is on another device."""

    device = torch.device('cuda')

    def __init__(self, tensor: Tensor) -> None:
        self.shape = tensor.shape
        self.float = tensor.float
