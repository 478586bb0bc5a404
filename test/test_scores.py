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

"""The registry of scores: formulas, forms that agree, and one code for node and evaluation."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import cv2
import numpy as np
import pytest
import torch

from maskomaly_ros import scores as registry
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import MaskPrediction
from maskomaly_ros.networks.prediction import resize_maps
from maskomaly_ros.scores import (
    SCORES,
    ClassStatistics,
    class_sums,
    compute_scores,
    default_scores,
    reference_parameters,
)
from maskomaly_ros.scoring import (
    ScoringParameters,
    Variant,
    accept_map,
    baseline_map,
    border_mask,
    reject_map,
    score_map,
)

PARAMETERS = ScoringParameters(anomalous_queries=(2,), border_threshold=0.3)
STATISTICS = ClassStatistics(np.linspace(0.2, 0.8, 7), np.linspace(0.1, 0.3, 7), 'somewhere')


def literal_scores(prediction):
    """Return all scores by their formulas, on maps resized by torch."""
    size, extent = prediction.frame_size, prediction.extent
    inputs = prediction.mask_logits, prediction.class_logits, size
    reject = reject_map(*inputs, PARAMETERS, extent=extent)
    borders = border_mask(*inputs, PARAMETERS, extent=extent)
    reference = ScoringParameters.for_variant('reference_code', anomalous_queries=(2,))
    masks = resize_maps(prediction.mask_logits, size, extent).sigmoid()
    p = prediction.class_logits.softmax(-1)
    s = torch.einsum('bnc,bnhw->bchw', p[..., :-1], masks)
    softmax, predicted = s.softmax(1), s.argmax(1)
    largest = s.amax(1)
    mean = torch.tensor(STATISTICS.mean).float()[predicted]
    deviation = torch.tensor(STATISTICS.deviation).float()[predicted]
    padded = tuple(4 * length for length in prediction.mask_logits.shape[-2:])
    program = cv2.resize(
        score_map(*inputs[:2], padded, reference)[0].numpy(),
        size[::-1],
        interpolation=cv2.INTER_AREA,
    )
    program = torch.from_numpy(program)[None]  # type: ignore[assignment]
    spread = (s.double() / 1000).softmax(1).amax(1)
    return {
        'maskomaly': score_map(*inputs, PARAMETERS, extent=extent),
        'maskomaly-paper': score_map(*inputs, ScoringParameters((2,)), extent=extent),
        'maskomaly-reference': score_map(*inputs, reference, extent=extent),
        'maskomaly-program': program,
        **{
            variant: score_map(
                *inputs, replace(PARAMETERS, variant=variant, reject_weight=0.25), extent=extent
            )
            for variant in ('geometric', 'product', 'minimum')
        },
        'reject+borders': reject.where(~borders, reject.clamp(max=PARAMETERS.border_score)),
        'reject': reject,
        'accept': accept_map(*inputs, PARAMETERS, extent=extent),
        'baseline': baseline_map(*inputs, extent=extent),
        'eam': -(p[..., :-1].amax(-1)[..., None, None] * masks).sum(1),
        'rba': -s.tanh().sum(1),
        'mask2anomaly': 1 - largest,
        'max-softmax': 1 - softmax.amax(1),
        'max-logit': -largest,
        'energy': -s.exp().sum(1).log(),
        'entropy': -(softmax * softmax.log()).sum(1) / np.log(s.shape[1]),
        'sml': -(largest - mean) / deviation,
        'odin-temperature': -1000 * (spread * s.shape[1]).log().float(),
    }


def random_prediction(seed, size=(45, 61), extent=(10.5, 15.25)):
    generator = torch.Generator().manual_seed(seed)
    return MaskPrediction(
        4 * torch.randn(1, 6, 11, 16, generator=generator),
        2 * torch.randn(1, 6, 8, generator=generator),
        size,
        extent,
    )


TOLERANCES = {'odin-temperature': 3e-4}
FORMS = ['numba', 'torch']


@pytest.fixture(params=FORMS)
def form(request, monkeypatch):
    """Compute sums of masks by numba, or by torch."""
    if request.param == 'numba':
        pytest.importorskip('numba')
    else:
        monkeypatch.setattr(registry, '_fused_module', lambda: None)
    return request.param


@pytest.mark.parametrize('pixels', [50, 1 << 15])
def test_scores_are_their_formulas(monkeypatch, form, pixels):
    """In bands of one row and of the whole frame, with a padded part that is no whole number."""
    monkeypatch.setattr(registry, '_PIXELS_AT_ONCE', pixels)
    for seed in range(5):
        prediction = random_prediction(seed)
        scores = compute_scores(prediction, PARAMETERS, tuple(SCORES), STATISTICS)
        expected = literal_scores(prediction)
        assert list(scores) == list(expected) == list(SCORES)
        for name, score in scores.items():
            assert score.dtype == torch.float32
            assert score.shape == (45, 61)
            if SCORES[name].bounded:
                assert score.min() >= 0
                assert score.max() <= 1 + 1e-6
            tolerance = TOLERANCES.get(name, 1e-5 / 0.1 if name == 'sml' else 1e-5)
            assert score.numpy() == pytest.approx(expected[name][0].numpy(), abs=tolerance), name


def test_every_score_alone_is_the_same_to_the_last_bit(form):
    prediction = random_prediction(7)
    together = compute_scores(prediction, PARAMETERS, tuple(SCORES), STATISTICS)
    for name in SCORES:
        (alone,) = compute_scores(prediction, PARAMETERS, [name], STATISTICS).values()
        assert torch.equal(alone, together[name]), name


@pytest.mark.parametrize(
    ('queries', 'classes', 'masks', 'size', 'extent'),
    [
        (6, 8, (11, 16), (45, 61), (10.5, 15.25)),
        (1, 2, (1, 1), (1, 1), (1.0, 1.0)),
        (37, 20, (32, 64), (90, 200), (31.75, 50.0)),
        (16, 3, (60, 80), (30, 40), (60.0, 80.0)),  # smaller than the masks
        (9, 8, (4, 4), (100, 150), (4.0, 4.0)),
    ],
)
@pytest.mark.parametrize('spread', [0.5, 4.0, 30.0])
def test_one_pass_gives_what_torch_gives(
    monkeypatch, queries, classes, masks, size, extent, spread
):
    pytest.importorskip('numba')
    generator = torch.Generator().manual_seed(queries)
    prediction = MaskPrediction(
        spread * torch.randn(1, queries, *masks, generator=generator) - spread,
        3 * torch.randn(1, queries, classes, generator=generator),
        size,
        extent,
    )
    assert registry._fused(prediction) is not None
    statistics = ClassStatistics(
        np.linspace(0.5, 2, classes - 1), np.linspace(0.1, 1, classes - 1), 'x'
    )
    for anomalous in ((), (0, queries - 1)):
        parameters = replace(PARAMETERS, anomalous_queries=anomalous, ground_queries=())
        names = default_scores(parameters)
        assert ('accept' in names) == bool(anomalous)
        found = compute_scores(prediction, parameters, names, statistics)
        with monkeypatch.context() as without:
            without.setattr(registry, '_fused_module', lambda: None)
            expected = compute_scores(prediction, parameters, names, statistics)
        for name, score in found.items():
            largest = float(expected[name].abs().max())
            tolerance = TOLERANCES.get(name, 1e-5) * max(1, largest)
            if name == 'sml':  # at a tie of two classes either is right
                near = (score - expected[name]).abs() <= 10 * tolerance
                assert near.float().mean() > 0.999
                continue
            torch.testing.assert_close(score, expected[name], rtol=0, atol=tolerance, msg=name)


def test_class_sums_of_one_pass_are_those_of_torch(monkeypatch):
    pytest.importorskip('numba')
    predictions = [random_prediction(seed) for seed in range(3)]
    found = [class_sums(prediction) for prediction in predictions]
    monkeypatch.setattr(registry, '_fused_module', lambda: None)
    for prediction, sums in zip(predictions, found, strict=True):
        assert sums == pytest.approx(class_sums(prediction), rel=1e-5)
        assert sums[0].sum() == 45 * 61


def test_the_baseline_takes_the_first_of_equal_masks_and_nan_is_refused(form):
    generator = torch.Generator().manual_seed(1)
    for void in ([0, 1, 3], [1, 2], [], [0, 1, 2, 3]):
        logits = torch.randint(-2, 3, (1, 4, 12, 16), generator=generator).float()
        classes = torch.zeros(1, 4, 3)
        classes[0, void, 2] = 1
        prediction = MaskPrediction(logits, classes, (12, 16), (12.0, 16.0))
        (found,) = compute_scores(prediction, PARAMETERS, ['baseline']).values()
        expected = baseline_map(logits, classes, (12, 16))[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    logits[0, 1, 2, 3] = float('nan')
    with pytest.raises(ValueError, match='NaN or infinity'):
        compute_scores(prediction, PARAMETERS, ['eam'])


def test_max_logit_and_mask2anomaly_rank_alike(form):
    scores = compute_scores(random_prediction(3), PARAMETERS, ['max-logit', 'mask2anomaly'])
    torch.testing.assert_close(scores['max-logit'], scores['mask2anomaly'] - 1)


@pytest.mark.parametrize('variant', get_args(Variant))
def test_what_asks_for_both_stands_beside_every_variant(variant):
    parameters = ScoringParameters.for_variant(
        variant, anomalous_queries=(2,), border_threshold=0.3, reject_weight=0.4
    )
    scores = compute_scores(
        random_prediction(5), parameters, ['maskomaly', 'geometric', 'reject+borders', 'reject']
    )
    assert torch.equal(scores['maskomaly'], scores['geometric']) == (variant == 'geometric')
    assert (scores['reject+borders'] <= scores['reject']).all()
    assert (scores['reject+borders'] < scores['reject']).any()


def test_scores_that_cannot_be_had_are_named():
    prediction = random_prediction(1)
    with pytest.raises(MaskomalyError, match=r"score 'nonsense' is none of maskomaly, .*, sml"):
        compute_scores(prediction, PARAMETERS, ['nonsense'])
    with pytest.raises(MaskomalyError, match='score sml needs the statistics of the classes'):
        compute_scores(prediction, PARAMETERS, ['sml'])
    for name in ('accept', 'minimum'):
        with pytest.raises(MaskomalyError, match=f'score {name} needs anomalous queries'):
            compute_scores(prediction, ScoringParameters(), [name])


def test_the_authors_program_is_their_function_at_the_padded_input_resized_by_areas() -> None:
    torch.manual_seed(5)
    prediction = MaskPrediction(
        3 * torch.randn(1, 7, 12, 16), 3 * torch.randn(1, 7, 4), (30, 44), (10.0, 14.0)
    )
    for anomalous in ((6, 2), ()):
        parameters = ScoringParameters(anomalous_queries=anomalous, ground_queries=(1,))
        found = compute_scores(prediction, parameters, ['maskomaly-program'])
        padded = score_map(
            prediction.mask_logits[0],
            prediction.class_logits[0],
            (48, 64),
            reference_parameters(parameters),
        )
        expected = cv2.resize(padded.numpy(), (44, 30), interpolation=cv2.INTER_AREA)
        weight = 1.0 if anomalous else 0.6  # reject keeps its weight there
        np.testing.assert_allclose(
            found['maskomaly-program'].numpy(), weight * expected, atol=1e-6
        )
    assert 'maskomaly-program' not in default_scores(ScoringParameters(anomalous_queries=(1,)))
