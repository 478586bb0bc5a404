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

"""Scales of scores: order, ends, forms that agree, and what calibration makes of frames."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from maskomaly_ros import score_scales
from maskomaly_ros.evaluation.metrics import SCORE_VALUES
from maskomaly_ros.networks import MaskPrediction
from maskomaly_ros.score_scales import DECADES, ScoreCalibration, highest_score, make_scale
from maskomaly_ros.scores import SCORES, ClassStatistics, compute_scores
from maskomaly_ros.scoring import ScoringParameters


@st.composite
def scales(draw):
    raw = draw(st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=20, unique=True))
    raw = sorted(raw)
    gaps_seen = all(b - a > 1e-3 for a, b in pairwise(raw))
    if not gaps_seen:
        raw = [float(i) for i in range(len(raw))]
    return ScoreCalibration(
        obstacle_threshold=0.5, raw=raw, level=np.linspace(0.0, 1.0, len(raw)).tolist()
    )


@given(scales(), st.integers(0, 2**32 - 1))
def test_both_forms_are_straight_lines_that_keep_the_order(scale, seed):
    random = np.random.default_rng(seed)
    score = np.sort(random.uniform(scale.raw[0] - 5, scale.raw[-1] + 5, (7, 11)), axis=None)
    score = np.concatenate([score, scale.raw]).astype(np.float32)
    expected = np.interp(score.astype(float), scale.raw, scale.level)
    by_torch = score_scales._interpolate(torch.from_numpy(score), scale.raw, scale.level)
    for found in (scale.apply(torch.from_numpy(score)), by_torch):
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-5)
        ordered = found.numpy()[np.argsort(score, kind='stable')]
        assert (np.diff(ordered) >= -1e-6).all()


def test_strided_maps_are_scaled_and_a_bounded_score_stays():
    score = torch.rand(6, 8).t()
    scale = ScoreCalibration(obstacle_threshold=0.1, raw=(0.0, 0.5, 1.0), level=(0.0, 0.8, 1.0))
    expected = np.interp(score.numpy(), scale.raw, scale.level)
    np.testing.assert_allclose(scale.apply(score).numpy(), expected, atol=1e-6)
    assert ScoreCalibration(obstacle_threshold=0.1).apply(score) is score


def test_a_level_says_how_rare_a_score_is():
    random = np.random.default_rng(0)
    scores = random.normal(-3, 0.5, 1_000_000).clip(-6, -0.1).astype(np.float16)
    places = np.searchsorted(SCORE_VALUES, scores.astype(float))
    counts = np.bincount(places, minlength=len(SCORE_VALUES))
    raw, level = make_scale(SCORE_VALUES, counts, 0.0)
    assert (raw[-1], level[-1], level[0]) == (0.0, 1.0, 0.0)
    assert raw[0] == scores.min()
    for value, each in zip(raw[:-1], level[:-1], strict=True):
        share = (scores >= value).mean()
        assert np.log10(share) == pytest.approx(-DECADES * each, abs=0.06)
    assert level[-2] == 0.8  # 100 pixels of a million


def test_scales_of_few_values_still_rise():
    counts = np.zeros(len(SCORE_VALUES), np.int64)
    counts[[30000, 31000]] = 10**6, 10**3
    raw, level = make_scale(SCORE_VALUES, counts, 5.0)
    assert (np.diff(raw) > 0).all()
    assert (np.diff(level) > 0).all()
    counts[:] = 0
    counts[np.searchsorted(SCORE_VALUES, 0.0)] = 7
    raw, level = make_scale(SCORE_VALUES, counts, 0.0)
    assert raw[0] < raw[1] == 0.0
    with pytest.raises(ValueError, match='no ordinary pixel'):
        make_scale(SCORE_VALUES, np.zeros_like(counts), 0.0)


@pytest.mark.parametrize('name', [name for name, score in SCORES.items() if not score.bounded])
def test_no_score_is_above_the_highest_one(name):
    statistics = ClassStatistics(np.linspace(0.2, 0.8, 7), np.linspace(0.1, 0.3, 7), 'x')
    for shift in (-60.0, 0.0, 3.0):
        prediction = MaskPrediction(
            torch.randn(1, 6, 5, 7) + shift, 3 * torch.randn(1, 6, 8), (20, 28), (5.0, 7.0)
        )
        scores = compute_scores(prediction, ScoringParameters((1,)), [name], statistics)
        highest = highest_score(name, 7, statistics)
        assert scores[name].max() <= highest + 1e-4
        if shift == -60.0 and name != 'sml':
            assert scores[name].max() == pytest.approx(highest, abs=1e-3)


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ({'raw': (0.0, 1.0), 'level': (0.0,)}, 'as many'),
        ({'raw': (0.0,), 'level': (0.0,)}, 'two at least'),
        ({'raw': (1.0, 0.0), 'level': (0.0, 1.0)}, 'raw must rise'),
        ({'raw': (0.0, 1.0), 'level': (0.5, 0.5)}, 'level must rise'),
        ({'class_mean': (1.0,), 'class_deviation': ()}, 'one for each class'),
        ({'class_mean': (1.0,), 'class_deviation': (0.0,)}, 'class_deviation'),
        ({'raw': (0.0, float('inf')), 'level': (0.0, 1.0)}, 'raw'),
    ],
)
def test_tables_that_are_none_are_refused(values, words):
    with pytest.raises(ValidationError, match=words):
        ScoreCalibration(obstacle_threshold=0.5, **values)
