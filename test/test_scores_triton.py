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

"""The scores that sum masks, by triton: those of torch, on a GPU or in triton's interpreter."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

from maskomaly_ros import scores as registry
from maskomaly_ros.networks import MaskPrediction
from maskomaly_ros.scores import SCORES, ClassStatistics, compute_scores
from maskomaly_ros.scoring import ScoringParameters

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
NAMES = (
    'eam', 'rba', 'mask2anomaly', 'max-softmax', 'max-logit', 'energy', 'entropy', 'sml',
    'odin-temperature', 'baseline',
)  # fmt: skip
TOLERANCES = {'odin-temperature': 3e-4, 'sml': 1e-4}
PARAMETERS = ScoringParameters()


@pytest.mark.triton
class TestTriton:
    """On a GPU, or on the CPU by triton's interpreter, one program after the other."""

    @pytest.mark.parametrize('name', NAMES)
    @pytest.mark.parametrize(
        ('queries', 'classes', 'masks', 'size', 'extent', 'spread'),
        [
            (6, 8, (11, 16), (45, 61), (10.5, 15.25), 4.0),
            (1, 2, (1, 1), (1, 1), (1.0, 1.0), 4.0),
            (20, 20, (16, 16), (20, 33), (15.75, 12.0), 0.5),
            (9, 8, (4, 4), (30, 50), (4.0, 4.0), 40.0),  # mixed in float64 the second time
        ],
    )
    def test_every_score_is_that_of_torch(
        self, monkeypatch, name, queries, classes, masks, size, extent, spread
    ):
        generator = torch.Generator().manual_seed(queries)
        prediction = MaskPrediction(
            spread * torch.randn(1, queries, *masks, generator=generator) - spread,
            3 * torch.randn(1, queries, classes, generator=generator),
            size,
            extent,
        ).to(DEVICE)
        statistics = ClassStatistics(
            np.linspace(0.5, 2, classes - 1), np.linspace(0.1, 1, classes - 1), 'x'
        )
        monkeypatch.setattr(registry, '_fused_module', lambda: None)
        assert registry._fused_on_gpu(prediction) is not None
        (found,) = compute_scores(prediction, PARAMETERS, [name], statistics).values()
        monkeypatch.setattr(registry, '_triton_module', lambda: None)
        (expected,) = compute_scores(prediction, PARAMETERS, [name], statistics).values()
        assert found.shape == expected.shape == size
        tolerance = TOLERANCES.get(name, 1e-5) * max(1.0, float(expected.abs().max()))
        near = (found - expected).abs() <= tolerance
        if name == 'sml':  # at a tie of two classes either is right
            assert near.float().mean() > 0.999
        else:
            assert near.all()
        if SCORES[name].bounded:
            assert found.min() >= 0
            assert found.max() <= 1 + 1e-6

    def test_the_baseline_takes_the_first_of_equal_masks(self, monkeypatch):
        monkeypatch.setattr(registry, '_fused_module', lambda: None)
        masks = torch.full((1, 2, 3, 3), 2.0, device=DEVICE)
        for first, expected in ((0, -1.0), (1, 1.0)):
            classes = torch.tensor([[[5.0, 0.0], [0.0, 5.0]]], device=DEVICE)
            if first:
                classes = classes.flip(1)
            prediction = MaskPrediction(masks, classes, (6, 6), (3.0, 3.0))
            (found,) = compute_scores(prediction, PARAMETERS, ['baseline']).values()
            torch.testing.assert_close(
                found.cpu(), torch.full((6, 6), 2.0 * expected).sigmoid(), atol=1e-6, rtol=0
            )

    @pytest.mark.parametrize('value', [float('nan'), float('inf')])
    def test_logits_that_are_not_finite_are_refused(self, monkeypatch, value):
        monkeypatch.setattr(registry, '_fused_module', lambda: None)
        masks = torch.zeros(1, 2, 3, 3, device=DEVICE)
        classes = torch.zeros(1, 2, 3, device=DEVICE)
        for broken in (masks, classes):
            before = broken.clone()
            broken.view(-1)[0] = value
            with pytest.raises(ValueError, match='NaN or infinity'):
                compute_scores(
                    MaskPrediction(masks, classes, (6, 6), (3.0, 3.0)), PARAMETERS, ['rba']
                )
            broken.copy_(before)


@pytest.mark.parametrize('exact', [0, 1])
@pytest.mark.parametrize('which', range(len(NAMES)))
def test_triton_compiles_for_gpus_that_are_not_here(which, exact):
    triton = pytest.importorskip('triton')
    compiler = pytest.importorskip('triton.backends.compiler')
    module = importlib.import_module('maskomaly_ros.fused.triton_methods')
    assert module.SUMS == NAMES
    kernel = module._sum_masks
    names = kernel.arg_names
    constants = {
        'which': which,
        'exact': exact,
        'farthest': 64.0,
        'class_block': 32,
        'pixels': 128,
    }
    first_number = names.index('queries')
    types = dict.fromkeys(names[:first_number], '*fp32') | {'void': '*i32', 'found': '*i32'}
    types |= dict.fromkeys((n for n in names if n.endswith(('_rows', '_columns'))), '*i64')
    types |= {'row_weights': '*fp64', 'column_weights': '*fp64'}
    types |= dict.fromkeys(names[first_number : names.index('temperature')], 'i32')
    types |= dict.fromkeys(names[names.index('temperature') :], 'fp32')
    types |= dict.fromkeys(constants, 'constexpr')
    source = triton.compiler.ASTSource(kernel, types, constexprs=constants)
    compiled = triton.compile(source, target=compiler.GPUTarget('cuda', 90, 32))
    assert '.target sm_90' in compiled.asm['ptx']
    assert 'ld.local' not in compiled.asm['ptx'], 'the sums stay in registers'
