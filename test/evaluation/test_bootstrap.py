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

"""Intervals by drawing images anew: figures of draws, and what stands apart from noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskomaly_ros.evaluation.bootstrap import (
    WIDTH,
    Histogram,
    Interval,
    draws,
    ranking_figures,
)
from maskomaly_ros.evaluation.metrics import SCORE_VALUES, count_scores


def invented(seed, images=4, pixels=300):
    """Return counts of images whose scores are values that no two of share a bin."""
    random = np.random.default_rng(seed)
    values = SCORE_VALUES[::WIDTH][2000:6000:37].astype(np.float16)
    counts = []
    for _ in range(images):
        label = (random.random((1, pixels)) < 0.2).astype(np.uint8)
        label[0, :2] = 0, 1
        place = random.integers(0, len(values), label.shape) + 20 * label
        counts.append(count_scores(values[np.minimum(place, len(values) - 1)], label))
    return counts


@given(st.integers(0, 2**32 - 1))
def test_a_draw_of_every_image_once_has_the_exact_figures(seed):
    counts = invented(seed)
    curve = sum(counts[1:], counts[0]).curve()
    images = [Histogram.of(each) for each in counts]
    ap, fpr95, f1 = ranking_figures(images, np.ones((1, len(images)), np.int64))
    assert ap == pytest.approx([curve.average_precision()])
    assert fpr95 == pytest.approx([curve.fpr95()])
    assert f1 == pytest.approx([curve.best_f1()[0]])


def test_a_draw_of_some_images_has_their_figures():
    counts = invented(3, images=5)
    images = [Histogram.of(each) for each in counts[:3]]
    ordinary = [Histogram.of(each) for each in counts[3:]]
    for each in ordinary:
        each.negatives[:] += each.positives
        each.positives[:] = 0
    weights, of_frames = np.array([[2, 0, 1]]), np.array([[0, 2]])
    ap, fpr95, _ = ranking_figures(images, weights, ordinary, of_frames)
    total = counts[0] + counts[0] + counts[2]
    for _ in range(2):
        total.negatives[:] += counts[4].negatives + counts[4].positives
    curve = total.curve()
    assert ap == pytest.approx([curve.average_precision()])
    assert fpr95 == pytest.approx([curve.fpr95()])


def test_a_draw_without_anomalies_has_no_figures():
    counts = invented(1, images=2)
    counts[0].positives[:] = 0
    images = [Histogram.of(each) for each in counts]
    ap, fpr95, f1 = ranking_figures(images, np.array([[2, 0], [0, 2]]))
    assert np.isnan([ap[0], fpr95[0], f1[0]]).all()
    assert np.isfinite([ap[1], fpr95[1], f1[1]]).all()


def test_draws_are_the_same_every_time_and_others_with_another_seed():
    assert (draws(30) == draws(30)).all()
    assert (draws(30).sum(1) == 30).all()
    assert (draws(30) != draws(30, seed=1)).any()


@given(st.integers(0, 2**32 - 1), st.integers(2, 400))
def test_the_interval_of_a_mean_is_that_of_its_standard_error(seed, size):
    values = np.random.default_rng(seed).normal(0, 1, size)
    low, high = Interval.of(draws(size) @ values / size)
    error = values.std() / np.sqrt(size)
    assert low <= values.mean() <= high
    if size >= 50:
        assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_signs_of_intervals():
    assert Interval.of(np.full(100, 0.5)).sign == 1
    assert Interval.of(np.full(100, -0.5)).sign == -1
    assert Interval.of(np.linspace(-1, 1, 100)).sign == 0
    nothing = Interval.of(np.full(100, np.nan))
    assert np.isnan(nothing).all()
    assert nothing.sign == 0
