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

"""The fused forms against the torch form and the literal algorithm, and where they may fail."""

from __future__ import annotations

import importlib
import math
import multiprocessing
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from literal_scoring import (
    ABLATIONS,
    REFERENCES,
    TRITON_DEVICE,
    VARIANTS,
    Case,
    assert_as_literal,
    cases,
    read_reference,
)

from maskomaly_ros import scoring
from maskomaly_ros.scoring import ScoringParameters, border_mask, score_map

REPOSITORY = Path(__file__).parents[1]
LOW = (torch.float32, torch.float16, torch.bfloat16)
needs_numba = pytest.mark.skipif(scoring._fused('numba') is None, reason='numba is not installed')


@st.composite
def large_cases(draw):
    """Draw masks of several blocks, smooth as those of a network or noisy as none is."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    batch, queries = draw(st.integers(1, 2)), draw(st.integers(1, 16))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 60))
    deviation = draw(st.sampled_from([1, 6, 40, 1e2, 1e3, 3e4]))
    masks = rng.normal(0, deviation, (batch, queries, height, width))
    for _ in range(draw(st.sampled_from([0, 2, 8]))):  # smoothed along both axes
        for axis in (2, 3):
            masks = (masks + np.roll(masks, 1, axis)) / math.sqrt(2)
    if draw(st.booleans()):  # equal logits side by side, many of them 0, a threshold
        masks = masks.round(draw(st.sampled_from([0, -1])))
    classes = rng.normal(0, draw(st.sampled_from([2, 10, 1e3])), (batch, queries, 5))
    extent = None
    if draw(st.booleans()):
        extent = (draw(st.floats(0.5, height)), draw(st.floats(0.5, width)))
    some_queries = st.lists(st.integers(0, queries - 1), max_size=4).map(tuple)
    parameters = ScoringParameters(
        anomalous_queries=draw(some_queries),
        ground_queries=draw(some_queries),
        mask_threshold=draw(st.sampled_from([0.0, 0.4, 1.0])),
        border_threshold=draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        reject_weight=draw(st.floats(0, 1) | st.sampled_from([0.0, 0.6, 1.0])),
        variant=draw(st.sampled_from(VARIANTS)),
    )
    return Case(
        torch.from_numpy(masks).float(),
        torch.from_numpy(classes).float(),
        (draw(st.integers(1, 150)), draw(st.integers(1, 300))),
        extent,
        parameters,
    )


def assert_as_torch(case, form, at_threshold=1e-5, tolerance=1e-5):
    """Compare with the torch form in float64, but for masks on the very threshold."""
    expected = Case(
        case.mask_logits.double(),
        case.class_logits.double(),
        case.size,
        case.extent,
        case.parameters,
    )
    borders = expected.map(border_mask)
    threshold = case.parameters.border_threshold
    lower, upper = (
        expected.map(border_mask, border_threshold=min(max(t, 0), 1))
        for t in (threshold + at_threshold, threshold - at_threshold)
    )
    clear = (lower == borders) & (upper == borders)
    for function in ABLATIONS:
        found, wanted = case.map(function, form), expected.map(function)
        assert found.dtype == wanted.dtype
        if function in (border_mask, score_map):
            found, wanted = found[clear], wanted[clear]
        torch.testing.assert_close(found.float(), wanted.float(), rtol=0, atol=tolerance)


@needs_numba
class TestNumba:
    @given(cases(dtypes=LOW))
    @settings(max_examples=200)
    def test_every_map_is_that_of_the_literal_algorithm(self, case):
        assert_as_literal(case, 1e-5, 'numba', at_threshold=1e-6)

    @given(large_cases())
    @settings(max_examples=100)
    def test_every_map_is_that_of_torch_over_many_blocks(self, case):
        assert_as_torch(case, 'numba')

    @given(cases(dtypes=LOW), st.randoms(use_true_random=False))
    def test_order_of_queries_does_not_matter(self, case, random):
        # A root of what is next to nothing shows the last bit of a float32.
        case.parameters = replace(case.parameters, reject_weight=0.6)
        expected = case.map(score_map, 'numba')
        order = list(range(case.mask_logits.shape[1]))
        random.shuffle(order)
        case.mask_logits, case.class_logits = (
            case.mask_logits[:, order],
            case.class_logits[:, order],
        )
        moved = {
            name: tuple(order.index(query) for query in getattr(case.parameters, name))
            for name in ('anomalous_queries', 'ground_queries')
        }
        found = case.map(score_map, 'numba', **moved)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-7)

    @pytest.mark.parametrize('deviation', [1e4, 1e20, 1e37])
    @pytest.mark.parametrize('variant', VARIANTS)
    def test_logits_of_any_size(self, deviation, variant):
        rng = np.random.default_rng(0)
        masks = (rng.normal(0, deviation, (1, 6, 20, 30))).clip(-1.5e38, 1.5e38)
        masks[:, 3:] /= deviation / 4
        case = Case(
            torch.from_numpy(masks).float(),
            torch.from_numpy(rng.normal(0, 2, (1, 6, 4))).float(),
            (80, 120),
            None,
            ScoringParameters((4,), (0, 1, 2, 3), variant=variant),
        )
        assert_as_torch(case, 'numba')

    @pytest.mark.parametrize('weight', [1e-3, 0.05, 0.95, 0.999])
    def test_roots_of_next_to_nothing(self, weight):
        # Masks and classes so sure that neither m · p nor 1 − m · p is a float64 any more.
        rng = np.random.default_rng(0)
        for masks, classes in ((3, 900), (900, 3), (900, 900), (60, 60)):
            case = Case(
                torch.from_numpy(rng.normal(0, masks, (1, 6, 20, 30))).float(),
                torch.from_numpy(rng.normal(0, classes, (1, 6, 4))).float(),
                (80, 120),
                None,
                ScoringParameters((4, 5), (0,), variant='geometric', reject_weight=weight),
            )
            assert_as_torch(case, 'numba')

    @pytest.mark.parametrize('slope', [30, 300])
    def test_rounding_decides_no_border(self, slope):
        # Every 8th column of the output lies an eighth of the way from low to high, where logits
        # are less from the threshold than float32 can tell when it mixes these.
        threshold = 0.1
        rng = np.random.default_rng(0)
        masks = np.full((2, 90, 160), -slope, np.float32)
        masks += rng.uniform(-1, 1, masks.shape)
        wanted = math.log(threshold / (1 - threshold)) + rng.uniform(-1e-5, 1e-5, (2, 90, 80))
        masks[:, :, 1::2] = (wanted - 0.875 * masks[:, :, ::2].astype(float)) / 0.125
        masks[:, 1::2] = masks[:, ::2]  # so that rows do not matter
        case = Case(
            torch.from_numpy(masks)[None],
            torch.tensor([[[3.0, 0, 0], [0, 3, 0]]]),
            (90, 640),
            None,
            ScoringParameters(border_threshold=threshold),
        )
        found = case.map(border_mask, 'numba')
        case.mask_logits = case.mask_logits.double()
        expected = case.map(border_mask)
        torch.testing.assert_close(found, expected)
        case.mask_logits += 1e-5
        assert (case.map(border_mask) != expected).sum() > 1000  # so near are they

    @pytest.mark.parametrize('size', [(1, 1), (1, 1000), (1000, 1), (31, 129), (33, 127)])
    @pytest.mark.parametrize('shape', [(1, 1), (1, 7), (7, 1), (64, 300), (45, 80)])
    def test_sizes_that_fill_no_block(self, size, shape):
        rng = np.random.default_rng(0)
        masks = torch.from_numpy(rng.normal(0, 5, (1, 5, *shape))).float()
        classes = torch.from_numpy(rng.normal(0, 2, (1, 5, 3))).float()
        assert_as_torch(Case(masks, classes, size, None, ScoringParameters((1,), (2,))), 'numba')

    def test_one_query_or_none_of_a_kind(self):
        masks, classes = torch.randn(1, 1, 9, 16) * 5, torch.tensor([[[4.0, 0.0]]])
        for anomalous, ground, threshold in (
            ((), (), 0),
            ((0,), (), 1),
            ((0,), (0,), 1),
            ((), (), 1),
        ):
            parameters = ScoringParameters(anomalous, ground, mask_threshold=threshold)
            assert_as_torch(Case(masks, classes, (36, 64), None, parameters), 'numba')

    def test_is_what_auto_takes_for_all_but_float64(self):
        assert scoring._choose('auto', torch.zeros(1)) == 'numba'
        assert scoring._choose('auto', torch.zeros(1, dtype=torch.bfloat16)) == 'numba'
        assert scoring._choose('auto', torch.zeros(1, dtype=torch.float64)) == 'torch'

    def test_strided_masks_that_need_a_gradient_inside_inference_mode_and_outside(self):
        masks = torch.randn(7, 9, 4, requires_grad=True).permute(2, 0, 1)
        classes = torch.randn(4, 3)
        parameters = ScoringParameters((0, 1), (2,), mask_threshold=0)
        expected = score_map(masks, classes, (20, 30), parameters, form='torch')
        for mode in (torch.inference_mode, torch.enable_grad):
            with mode():
                score = score_map(masks, classes, (20, 30), parameters, form='numba')
            torch.testing.assert_close(score, expected, rtol=0, atol=1e-6)

    def test_masks_that_stay_strided_when_queries_are_selected(self):
        masks, classes = torch.randn(4, 10, 8).transpose(1, 2), torch.randn(4, 5)
        parameters = ScoringParameters((0,), (2,), mask_threshold=0)
        expected = score_map(masks, classes, (16, 20), parameters, form='torch')
        for form in ('auto', 'numba'):
            score = score_map(masks, classes, (16, 20), parameters, form=form)
            torch.testing.assert_close(score, expected, rtol=0, atol=1e-6)

    def test_number_of_threads_changes_nothing(self):
        masks, classes = torch.randn(12, 45, 80) * 5, torch.randn(12, 6) * 3
        parameters = ScoringParameters((3,), (5,))
        before = torch.get_num_threads()
        try:
            scores = []
            for threads in (1, 2, 5):
                torch.set_num_threads(threads)
                scores.append(score_map(masks, classes, (180, 320), parameters, form='numba'))
        finally:
            torch.set_num_threads(before)
        for score in scores[1:]:
            torch.testing.assert_close(score, scores[0], rtol=0, atol=0)

    def test_several_python_threads_at_once(self):
        parameters = ScoringParameters((3,), (5,))
        inputs = [(torch.randn(12, 45, 80) * 5, torch.randn(12, 6) * 3) for _ in range(4)]
        expected = [score_map(*i, (180, 320), parameters, form='numba') for i in inputs]
        wrong = []

        def work(index):
            for _ in range(10):
                score = score_map(*inputs[index], (180, 320), parameters, form='numba')  # type: ignore[call-arg,misc]
                if not torch.equal(score, expected[index]):
                    wrong.append(index)

        before = torch.get_num_threads()
        torch.set_num_threads(3)
        try:
            threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        finally:
            torch.set_num_threads(before)
        assert not any(thread.is_alive() for thread in threads)
        assert wrong == []

    @pytest.mark.skipif('fork' not in multiprocessing.get_all_start_methods(), reason='no fork')
    def test_a_forked_process_has_threads_of_its_own(self):
        # torch's own threads do not; what stands before the shared work may use one alone.
        program = (
            'import os, torch\n'
            'from maskomaly_ros.fused.numba_scoring import _share\n'
            'torch.set_num_threads(2)\n'
            'seen = []\n'
            '_share(seen.append, range(50))\n'
            'child = os.fork()\n'
            'if child == 0:\n'
            '    _share(seen.append, range(50))\n'
            '    os._exit(0 if len(seen) == 100 else 3)\n'
            'raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n'
        )
        result = run_python(program)
        assert result.returncode == 0, result.stderr

    @pytest.mark.parametrize('border_score', [1e-300, 1.2e-38, 1e-30, 1e-28])
    def test_a_root_of_a_border_score_that_is_almost_nothing(self, border_score):
        masks = torch.tensor([0.0629, -0.0661])[:, None, None].expand(2, 2, 3)
        classes = torch.tensor([[0.3202, 0.0525, -0.2678], [0.1808, 0.6520, 0.4735]])
        parameters = ScoringParameters(
            anomalous_queries=(0,), mask_threshold=0.0, border_threshold=0.0,
            border_score=border_score, reject_weight=0.0625, variant='geometric',
        )  # fmt: skip
        maps = [score_map(masks, classes, (2, 3), parameters, form=f) for f in ('torch', 'numba')]
        assert maps[0].min() > 0
        torch.testing.assert_close(maps[1], maps[0], atol=0, rtol=1e-5)

    def test_a_cache_that_cannot_be_written_costs_time_only(self, tmp_path):
        not_a_folder = tmp_path / 'file'
        not_a_folder.write_text('')
        result = run_python(
            'import torch\n'
            'from maskomaly_ros.scoring import score_map\n'
            "score_map(torch.zeros(2, 3, 3), torch.zeros(2, 2), (5, 5), form='numba')\n",
            NUMBA_CACHE_DIR=str(not_a_folder / 'cache'),
        )
        assert result.returncode == 0, result.stderr

    def test_a_damaged_cache_is_passed_over(self, tmp_path):
        # All kernels are kept by one function; this module has the smallest.
        program = 'import maskomaly_ros.fused.numba_scales'
        assert run_python(program, NUMBA_CACHE_DIR=str(tmp_path)).returncode == 0
        files = [path for path in tmp_path.rglob('*') if path.is_file()]
        assert {path.suffix for path in files} == {'.nbi', '.nbc'}
        for path in files:
            path.write_bytes(path.read_bytes()[:100])
        result = run_python(program, NUMBA_CACHE_DIR=str(tmp_path))
        assert result.returncode == 0, result.stderr


def run_python(program, **environment):
    return subprocess.run(
        [sys.executable, '-c', program],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize('name', ['numba', 'triton'])
def test_without_the_package_auto_is_torch_and_asking_says_what_to_install(name):
    result = run_python(
        f'import sys; sys.modules[{name!r}] = None\n'
        'import torch\n'
        'from maskomaly_ros.scoring import score_map\n'
        'score_map(torch.zeros(2, 3, 3), torch.zeros(2, 2), (5, 5))\n'
        f'score_map(torch.zeros(2, 3, 3), torch.zeros(2, 2), (5, 5), form={name!r})\n',
        TRITON_INTERPRET='1' if name == 'triton' else '0',
    )
    assert f'ValueError: form {name} needs the package {name}: pip install {name}' in result.stderr


@pytest.mark.parametrize(
    ('form', 'dtype', 'message'),
    [
        ('cuda', torch.float32, "form is 'cuda'; it must be one of auto, torch, numba, triton"),
        ('numba', torch.float64, 'form numba does not take torch.float64 on cpu; use torch'),
        ('triton', torch.float64, 'form triton does not take torch.float64 on cpu'),
    ],
)
def test_forms_that_cannot_be_had_are_named(form, dtype, message):
    with pytest.raises(ValueError, match=message):
        score_map(torch.zeros(2, 3, 3, dtype=dtype), torch.zeros(2, 2), (5, 5), form=form)


@pytest.mark.triton
class TestTriton:
    """On a GPU, or on the CPU by triton's interpreter, one tile after the other."""

    @given(cases(dtypes=LOW))
    @settings(max_examples=15)
    def test_every_map_is_that_of_the_literal_algorithm(self, case):
        assert_as_literal(case, 1e-5, 'triton')

    @given(large_cases())
    @settings(max_examples=12 if torch.cuda.is_available() else 4)  # seconds each
    def test_every_map_is_that_of_torch_over_many_tiles(self, case):
        assert_as_torch(case, 'triton')

    @pytest.mark.parametrize('name', REFERENCES)
    def test_score_is_the_reference_score(self, name):
        masks, classes, size, parameters, reference, clear = read_reference(name)
        masks, classes = masks.to(TRITON_DEVICE), classes.to(TRITON_DEVICE)
        score = score_map(masks, classes, size, parameters, form='triton').cpu().numpy()
        np.testing.assert_allclose(score[clear], reference['score'][clear], atol=1e-5)

    @pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
    def test_logits_that_are_not_finite_are_refused(self, value):
        masks = torch.zeros(2, 3, 4, 5, device=TRITON_DEVICE)
        classes = torch.zeros(2, 3, 2, device=TRITON_DEVICE)
        masks[1, 1, 1, 1] = value
        with pytest.raises(ValueError, match=r'mask_logits holds .* at \[1, 1, 1, 1\]'):
            score_map(masks, classes, (12, 70), form='triton')
        classes[0, 2, 1] = value
        with pytest.raises(ValueError, match='class_logits holds'):
            score_map(torch.zeros_like(masks), classes, (12, 70), form='triton')


@pytest.mark.parametrize('logits', ['fp32', 'fp16', 'bf16'])
@pytest.mark.parametrize('capability', [80, 90])
@pytest.mark.parametrize(('fusion', 'exact'), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 0)])
def test_triton_compiles_for_gpus_that_are_not_here(capability, logits, fusion, exact):
    triton = pytest.importorskip('triton')
    compiler = pytest.importorskip('triton.backends.compiler')
    kernel = importlib.import_module('maskomaly_ros.fused.triton_scoring')._score_tile
    names = kernel.arg_names
    constants = {
        'fusion': fusion,
        'exact': exact,
        'farthest': 64.0,
        'tile_rows': 8,
        'tile_columns': 64,
    }
    first_number = names.index('queries')
    types = dict.fromkeys(names[:first_number], '*fp32') | {'masks': f'*{logits}'}
    types |= dict.fromkeys((n for n in names if n.endswith(('_rows', '_columns'))), '*i64')
    types |= {'row_weights': '*fp64', 'column_weights': '*fp64', 'found': '*i32'}
    types |= dict.fromkeys(names[first_number : names.index('border_logit')], 'i32')
    types |= dict.fromkeys(names[names.index('border_logit') :], 'fp32')
    types |= dict.fromkeys(constants, 'constexpr')
    source = triton.compiler.ASTSource(kernel, types, constexprs=constants)
    compiled = triton.compile(source, target=compiler.GPUTarget('cuda', capability, 32))
    assert f'.target sm_{capability}' in compiled.asm['ptx']
