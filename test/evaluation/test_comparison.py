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

"""Scores side by side: exact figures, traffic, noise, and a run that goes on where one ended."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation import comparison, comparison_tables
from maskomaly_ros.evaluation.comparison import METRICS, compare, fusion_sweep
from maskomaly_ros.evaluation.evaluate import evaluate
from maskomaly_ros.evaluation.metrics import SCORE_VALUES, ScoreCounts
from maskomaly_ros.obstacles import find_obstacles
from maskomaly_ros.scores import compute_scores
from maskomaly_ros.scoring import ScoringParameters

PARAMETERS = ScoringParameters(anomalous_queries=(2, 3), border_threshold=0.3, reject_weight=0.0)
NAMES = ['maskomaly', 'geometric', 'reject', 'max-logit', 'sml']


@pytest.fixture
def greedy(network):
    """Return the network whose anomalous queries cover ordinary things too."""
    network.greedy = True
    return network


def test_figures_are_those_of_evaluate_and_of_pooled_pixels(greedy, scenes, traffic):
    dataset = scenes(4)
    found = compare(greedy, PARAMETERS, [dataset], [traffic], NAMES, minimum_area=4)
    assert greedy.predicted == 7  # once an image
    assert found['frames'] == 3
    assert found['sml'] == traffic.name
    (result,) = found['datasets'].values()
    assert result['images'] == 4
    rows = result['scores']
    assert list(rows) == NAMES

    names = [name for name in NAMES if name != 'sml']  # whose statistics are others there
    alone = evaluate(greedy, dataset, PARAMETERS, names, components=True)
    ordinary = [
        compute_scores(prediction, PARAMETERS, names)
        for _, prediction in traffic.over(greedy, lambda frame: frame.prediction)
    ]
    for name in names:
        figures = {metric: rows[name][metric]['value'] for metric in METRICS}
        pixels = alone.results[name].pixels
        assert figures['ap'] == pytest.approx(pixels.exact_ap)
        assert figures['fpr95'] == pytest.approx(pixels.fpr95, abs=0.02)
        assert figures['best_f1'] == pytest.approx(pixels.best_f1, abs=0.02)
        values = [scores[name].numpy().astype(np.float16) for scores in ordinary]
        assert figures['pooled_ap'] <= figures['ap']
        threshold = threshold_of(greedy, dataset, name)
        counts = [
            len(find_obstacles(each.astype(np.float32), each >= threshold, 4)) for each in values
        ]
        assert figures['false_obstacles'] == pytest.approx(np.mean(counts))
        pixels_above = np.mean([each >= threshold for each in values])
        assert figures['false_pixels'] == pytest.approx(pixels_above, abs=0.01)
    # Accept covers the blue things as it does anomalies; reject tells them apart.
    assert rows['maskomaly']['false_obstacles']['value'] > 0
    for row in rows.values():
        for metric, figure in row.items():
            if np.isfinite(figure['low']):
                assert figure['low'] <= figure['value'] + 0.02, metric
                assert figure['high'] >= figure['value'] - 0.02, metric
    assert all(figure['better'] is None for figure in rows['maskomaly'].values())
    assert {figure['better'] for figure in rows['geometric'].values()} <= {-1, 0, 1}


def threshold_of(network, dataset, name):
    """Return the highest score that 60 % of the anomalous pixels reach, from sorted pixels."""
    anomalous = np.sort(
        np.concatenate(
            [
                compute_scores(network.predict([image]), PARAMETERS, [name])[name]
                .numpy()
                .astype(np.float16)[label == 1]
                for _, image, label in dataset.read()
            ]
        )
    )[::-1]
    return anomalous[int(np.ceil(0.6 * len(anomalous))) - 1]


def test_threshold_of_recall():
    positives = np.zeros(len(SCORE_VALUES), np.int64)
    positives[[100, 200, 300]] = 5, 3, 2
    counts = ScoreCounts(positives, np.zeros_like(positives))
    assert comparison._threshold_of_recall(counts) == SCORE_VALUES[100]
    positives[[100, 200, 300]] = 4, 4, 2
    assert comparison._threshold_of_recall(counts) == SCORE_VALUES[200]
    positives[:] = 0
    with pytest.raises(MaskomalyError, match='no anomalous pixel'):
        comparison._threshold_of_recall(counts)


def test_what_is_better_beyond_noise_is_marked(network, scenes):
    dataset = scenes(6)
    found = compare(network, PARAMETERS, [dataset], [], ['maskomaly', 'baseline', 'reject'])
    (result,) = found['datasets'].values()
    assert found['frames'] == 0
    assert 'pooled_ap' not in result['scores']['reject']
    # Half of each anomaly is seen by no anomalous query, so that reject alone finds all of it.
    assert result['scores']['reject']['ap']['better'] == 1
    assert result['scores']['reject']['fpr95']['better'] == 1
    text = comparison_tables.markdown([found])
    assert '▲' in text
    assert 'ordinary frames' not in text.splitlines()[2]
    alone = compare(network, PARAMETERS, [dataset], [], ['reject'])
    (result,) = alone['datasets'].values()
    assert result['scores']['reject']['ap']['better'] is None


def test_a_sweep_goes_through_all_fusions(network, scenes, traffic):
    sweep = fusion_sweep(replace(PARAMETERS, variant='geometric', reject_weight=0.3))
    assert len(sweep) == 2 * (2 * len(comparison.SWEEP_WEIGHTS) + 2)
    assert {each.variant for each in sweep.values()} == {
        'paper', 'geometric', 'product', 'minimum',
    }  # fmt: skip
    assert {each.border_threshold for each in sweep.values()} == {0.1, 1.0}
    dataset = scenes(2)
    some = {name: sweep[name] for name in ('sum 0.25, with borders', 'minimum, no borders')}
    found = compare(network, PARAMETERS, [dataset], [traffic], ['maskomaly'], sweep=some)
    (result,) = found['datasets'].values()
    assert list(result['scores']) == ['maskomaly', *some]
    expected = evaluate(network, dataset, some['sum 0.25, with borders'], ['maskomaly']).results[
        'maskomaly'
    ]
    swept = result['scores']['sum 0.25, with borders']
    assert swept['ap']['value'] == pytest.approx(expected.pixels.exact_ap)
    page = comparison_tables.page([found], {'date': 'today'})
    for text in ('minimum, no borders', 'false obstacles a frame', f'{dataset.name}: 2 images'):
        assert text in page
    json.dumps(found, allow_nan=True)


def test_what_cannot_be_compared_is_refused(network, scenes, traffic):
    dataset = scenes(1)
    with pytest.raises(MaskomalyError, match='none of maskomaly'):
        compare(network, PARAMETERS, [dataset], [], ['nonsense'])
    with pytest.raises(MaskomalyError, match='accept needs anomalous queries'):
        compare(network, ScoringParameters(), [dataset], [traffic], ['accept'])
