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
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from literal_scoring import TRITON_DEVICE
from torch import Tensor
from transformers.models.mask2former import modeling_mask2former

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import compilation, load_network
from maskomaly_ros.networks import deformable_attention as fused
from maskomaly_ros.networks.devices import autocast_dtype
from maskomaly_ros.networks.preprocessing import _resize
from maskomaly_ros.networks.transformers_network import TransformersNetwork

CPU = torch.device('cpu')
# Batch, heads, channels of a head, points, and the levels' sizes.
CASES = [
    (2, 4, 8, 4, [(2, 3), (4, 5), (6, 10)]),
    (1, 2, 12, 3, [(2, 3), (4, 7)]),  # nothing here is a power of two
    (1, 1, 16, 1, [(1, 1)]),
]


def has_compiler() -> bool:
    try:
        compilation.check_compiler(CPU)
    except MaskomalyError:
        return False
    return True


def kernel(*tensors: Tensor, shapes: list[int], heads: int) -> Tensor:
    """Run the Triton kernel, on a GPU or interpreted."""
    from maskomaly_ros.networks.deformable_kernel import attend

    moved = [tensor.to(TRITON_DEVICE) for tensor in tensors]
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

    @pytest.mark.triton
    @pytest.mark.parametrize('case', CASES)
    @pytest.mark.parametrize('spread', [0.5, 1e10], ids=['near', 'far'])
    def test_kernel(
        self, case: tuple[int, int, int, int, list[tuple[int, int]]], spread: float
    ) -> None:
        tensors, shapes, heads = attention_inputs(case, spread)
        actual = kernel(*tensors, shapes=shapes, heads=heads)
        expected = of_transformers(tensors, shapes, heads)
        torch.testing.assert_close(actual, expected, atol=2e-5, rtol=1e-4)

    @pytest.mark.triton
    def test_kernel_takes_half_precision(self) -> None:
        tensors, shapes, heads = attention_inputs(CASES[0])
        expected = of_transformers(tensors, shapes, heads)
        tensors[0] = tensors[0].half()
        actual = kernel(*tensors, shapes=shapes, heads=heads)
        assert actual.dtype == torch.float16
        torch.testing.assert_close(actual.float(), expected, atol=2e-3, rtol=2e-3)

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
        # What takes numbers from the host could not be recorded as a CUDA graph.
        graphs[0].graph.eliminate_dead_code()
        assert not {'tensor', 'as_tensor', 'item', 'tolist', 'cpu'} & {
            getattr(node.target, '__name__', str(node.target)) for node in graphs[0].graph.nodes
        }
        for ours, theirs in zip(actual, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)

    @pytest.mark.slow
    @pytest.mark.skipif(not has_compiler(), reason='no C++ compiler (Debian: g++)')
    def test_generated_code_gives_the_same_in_every_thread_and_is_kept(
        self, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from torch._dynamo.utils import counters

        monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path))
        frame = np.random.default_rng(0).integers(0, 256, (64, 100, 3), np.uint8)
        expected = load_network(tiny_checkpoint, device='cpu').predict([frame])
        torch._dynamo.reset()
        counters.clear()
        network = load_network(tiny_checkpoint, device='cpu', compile=True)
        network.warm_up((64, 100))
        with ThreadPoolExecutor(1) as another:  # as a node has one for frames
            actual = another.submit(network.predict, [frame]).result()
        assert counters['stats']['unique_graphs'] == 1
        assert not counters['graph_break']
        for name in ('mask_logits', 'class_logits'):
            torch.testing.assert_close(
                getattr(actual, name), getattr(expected, name), atol=1e-3, rtol=1e-3
            )

        torch._dynamo.reset()  # as the next process begins
        counters.clear()
        again = load_network(tiny_checkpoint, device='cpu', compile=True).predict([frame])
        torch.testing.assert_close(again.mask_logits, actual.mask_logits)
        hits = sum(v for of in counters.values() for k, v in of.items() if k.endswith('cache_hit'))
        assert hits > 0
        assert counters['inductor']['fxgraph_cache_miss'] == 0

    @pytest.mark.skipif(not has_compiler(), reason='no C++ compiler (Debian: g++)')
    def test_what_is_compiled_goes_to_our_cache(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv('TORCHINDUCTOR_CACHE_DIR', raising=False)
        monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
        compilation.check_compiler(CPU)
        kept = tmp_path / 'maskomaly_ros' / 'compiled'
        assert os.environ['TORCHINDUCTOR_CACHE_DIR'] == str(kept)

    def test_without_a_compiler_loading_fails_at_once(
        self, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from torch._inductor import cpp_builder, exc

        def find_none() -> str:
            raise exc.InvalidCxxCompiler

        monkeypatch.setattr(cpp_builder, 'get_cpp_compiler', find_none)
        monkeypatch.setenv('CXX', 'c++-of-mine')
        with pytest.raises(MaskomalyError, match=r'c\+\+-of-mine is none \(apt install g\+\+\)'):
            load_network(tiny_checkpoint, device='cpu', compile=True)

    def test_what_the_compiler_raises_is_put_into_words(
        self, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from torch._dynamo.exc import TorchDynamoException

        def fail(_: Tensor) -> None:
            raise TorchDynamoException('no space left on device\nand a long explanation')

        monkeypatch.setattr(compilation, 'check_compiler', lambda _: None)
        monkeypatch.setattr(torch, 'compile', lambda *_, **__: fail)
        run = compilation.compiled(torch.nn.Identity(), CPU)
        with pytest.raises(MaskomalyError, match=r'network: no space left on device\. Without'):
            run(torch.zeros(1))

    def test_a_recorded_graph_takes_new_inputs_and_keeps_old_outputs(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The bookkeeping around a CUDA graph, with a recording that runs on the processor."""
        calls = []

        def function(pixels: Tensor) -> tuple[Tensor, Tensor]:
            calls.append(pixels)
            return pixels + 1, pixels * 2

        def replay() -> None:
            for kept, new in zip(graph._outputs, function(calls[-1]), strict=True):
                kept.copy_(new)

        stream = SimpleNamespace(wait_stream=lambda _: None)
        for name, value in {
            'Stream': lambda: stream,
            'current_stream': lambda: stream,
            'device': lambda _: nullcontext(),
            'stream': lambda _: nullcontext(),
            'CUDAGraph': lambda: SimpleNamespace(replay=replay),
            'graph': lambda *_, **__: nullcontext(),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        graph: Any = compilation._CudaGraph(function, torch.zeros(2))
        first = graph(torch.full((2,), 3.0))
        second = graph(torch.full((2,), 5.0))
        assert len({pixels.data_ptr() for pixels in calls}) == 1
        assert [output.tolist() for output in first] == [[4, 4], [6, 6]]
        assert [output.tolist() for output in second] == [[6, 6], [10, 10]]

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
