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

"""False alarms on ordinary frames: what is counted, and how it is pooled."""

from __future__ import annotations

from dataclasses import asdict

import cv2
import numpy as np
import pytest
import torch

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.evaluate import evaluate
from maskomaly_ros.evaluation.metrics import PixelMetrics, TrueComponents, count_scores
from maskomaly_ros.evaluation.ordinary import open_ordinary
from maskomaly_ros.evaluation.tables import markdown, tables_of, traffic_table
from maskomaly_ros.evaluation.traffic import (
    CURVE_THRESHOLDS,
    FalseObstacles,
    measure_traffic,
    ordinary_statistics,
)
from maskomaly_ros.obstacles import find_obstacles, obstacle_mask
from maskomaly_ros.queries import Queries
from maskomaly_ros.score_scales import ScoreCalibration
from maskomaly_ros.scores import compute_scores
from maskomaly_ros.scoring import ScoringParameters, score_map

PARAMETERS = ScoringParameters(anomalous_queries=(2, 3), border_threshold=0.3)
METHODS = ('maskomaly', 'rba', 'entropy')


def scores_of(network, frames, names, method='maskomaly'):
    images = frames.images(names)
    return {
        name: compute_scores(network.predict([images[name]]), PARAMETERS, [method])[method].numpy()
        for name in names
    }


@pytest.fixture
def greedy(network):
    network.greedy = True
    return network


NAMES = ('0.png', '1.png', '2.png')


@pytest.mark.parametrize(('threshold', 'area'), [(0.5, 0), (0.5, 100), (0.3, 0), (0.05, 20)])
def test_false_obstacles_are_those_of_the_node(greedy, traffic, threshold, area):
    found = measure_traffic(greedy, [traffic], PARAMETERS, (), threshold, minimum_area=area)
    ((name, counts),) = [(each.name, each.found) for each in found.sets]
    assert name == traffic.name
    expected = []
    for score in scores_of(greedy, traffic, NAMES).values():
        mask = obstacle_mask(score, threshold)
        expected.append((len(find_obstacles(score, mask, area)), np.mean(mask > 0)))
    assert [(r.obstacles, r.share) for r in found.sets[0].per_frame] == expected
    numbers = [number for number, _ in expected]
    assert counts.frames == 3
    assert counts.a_frame == np.mean(numbers)
    assert counts.share_of_frames == np.mean([number > 0 for number in numbers])
    assert counts.share_of_pixels == pytest.approx(np.mean([share for _, share in expected]))
    assert counts.by_class == {}
    for at, a_frame in zip(CURVE_THRESHOLDS, found.curve, strict=True):
        again = [
            len(find_obstacles(score, obstacle_mask(score, at), area))
            for score in scores_of(greedy, traffic, NAMES).values()
        ]
        assert a_frame == pytest.approx(np.mean(again))


def test_the_worst_frames_come_with_picture_and_score(greedy, traffic):
    found = measure_traffic(greedy, [traffic], PARAMETERS, (), 0.5, shots=2)
    (one,) = found.sets
    order = sorted(one.per_frame, key=lambda r: (-r.obstacles, -r.share))
    assert [shot.result for shot in one.worst] == order[:2]
    score = scores_of(greedy, traffic, [order[0].name])[order[0].name]
    np.testing.assert_array_equal(one.worst[0].score, score.astype(np.float16))
    assert one.worst[0].image.shape == (*score.shape, 3)
    assert greedy.predicted == 3 + 1


def test_known_classes_have_shares_of_their_own(greedy, tmp_path):
    for folder in ('images', 'labels'):
        (tmp_path / folder).mkdir()
    image = np.full((48, 64, 3), 30, np.uint8)
    image[8:24, 8:40, 0] = 200  # BGR: blue, which query 3 takes for an anomaly
    label = np.full((48, 64), 1, np.uint8)  # building
    label[8:24, 24:56], label[:4] = 8, 11  # car, half of it blue; void
    assert cv2.imwrite(str(tmp_path / 'images' / 'a.png'), image)
    assert cv2.imwrite(str(tmp_path / 'labels' / 'a.png'), label)
    found = measure_traffic(greedy, [open_ordinary(f'camvid:{tmp_path}')] * 2, PARAMETERS, (), 0.5)
    assert found.found.frames == 2
    score = compute_scores(greedy.predict([image[..., ::-1]]), PARAMETERS, ['maskomaly'])
    above = score['maskomaly'].numpy() > 0.5
    assert found.found.by_class == {
        'vehicles': pytest.approx(above[label == 8].mean()),
        'far objects': pytest.approx(above[label == 1].mean()),
    }
    assert 0.3 < found.found.by_class['vehicles'] < 0.7
    assert found.found.share_of_pixels == pytest.approx(above.mean())
    text = markdown(traffic_table(found))
    assert f'|  | {found.sets[0].name} | {found.sets[0].name} | all |' in text
    assert '| frames | 1 | 1 | 2 |' in text
    assert '| vehicles above |' in text
    assert 'sky' not in text


def test_pixels_are_pooled_exactly(greedy, scenes, traffic):
    dataset = scenes(3)
    statistics = ordinary_statistics(greedy, [traffic])
    assert statistics.source == traffic.name
    found = measure_traffic(greedy, [traffic], PARAMETERS, METHODS, 0.5)
    result = evaluate(greedy, dataset, PARAMETERS, METHODS, traffic=found)
    alone = evaluate(greedy, dataset, PARAMETERS, METHODS)
    for method in METHODS:
        usual = pytest.approx(asdict(alone.results[method].pixels), nan_ok=True)
        assert asdict(result.results[method].pixels) == usual
        metrics = PixelMetrics()
        for _, image, label in dataset.read():
            score = compute_scores(greedy.predict([image]), PARAMETERS, [method])[method].numpy()
            metrics.update(score, label)
        for score in scores_of(greedy, traffic, NAMES, method).values():
            metrics.update(score, np.zeros(score.shape, np.uint8))
        expected = pytest.approx(asdict(metrics.compute()), nan_ok=True)
        assert asdict(result.results[method].pooled) == expected, method
    assert result.results['maskomaly'].pooled.ap < result.results['maskomaly'].pixels.ap


def test_recall_stands_beside_false_alarms(greedy, scenes, traffic):
    dataset = scenes(4)
    found = measure_traffic(greedy, [traffic], PARAMETERS, METHODS, 0.5, minimum_area=10)
    result = evaluate(greedy, dataset, PARAMETERS, METHODS, traffic=found)
    assert [m for m in METHODS if result.results[m].at_threshold] == ['maskomaly']
    at = result.results['maskomaly'].at_threshold
    positives = true = 0
    for _, image, label in dataset.read():
        score = greedy.predict([image]).scored(score_map, PARAMETERS)[0].numpy()
        positives = positives + count_scores(score, label).positives  # type: ignore[assignment]
        true += len(TrueComponents.of(label, 100).areas)
    assert at.threshold == 0.5
    assert at.false_obstacles == found.found.a_frame > 0
    assert 0 < at.recall < 1
    assert at.recall_curve[25] == at.recall  # the same threshold
    assert list(at.recall_curve) == sorted(at.recall_curve, reverse=True)
    assert at.component_recall * true == pytest.approx(round(at.component_recall * true))
    usual, pooled = tables_of(result, Queries(checkpoint='colours'))
    assert 'pooled AP' not in usual.header
    row = dict(zip(pooled.header, pooled.rows[0], strict=True))
    assert row['false/frame'].text == f'{at.false_obstacles:.3f}'
    assert row['recall'].text == f'{100 * at.recall:.2f}'
    assert dict(zip(pooled.header, pooled.rows[1], strict=True))['recall'].text == '-'
    content = result.as_dict()
    assert content['results']['maskomaly']['at_threshold']['recall'] == at.recall
    assert found.as_dict()['false_obstacles_a_frame'] == at.false_obstacles


def test_every_score_with_a_threshold_has_its_false_obstacles(greedy, scenes, traffic):
    calibrations = {
        'entropy': ScoreCalibration(obstacle_threshold=0.7),
        'rba': ScoreCalibration(obstacle_threshold=0.5, raw=(-3.0, -0.5, 0.0), level=(0, 0.4, 1)),
        'eam': ScoreCalibration(obstacle_threshold=0.5),  # not asked for
    }
    area = 10
    found = measure_traffic(
        greedy, [traffic], PARAMETERS, METHODS, 0.5, minimum_area=area, calibrations=calibrations
    )
    assert set(found.of_scores) == {'rba', 'entropy'}
    dataset = scenes(4)
    result = evaluate(greedy, dataset, PARAMETERS, METHODS, traffic=found)
    for name, (calibration, false) in found.of_scores.items():
        threshold = calibration.obstacle_threshold
        expected = []
        for score in scores_of(greedy, traffic, NAMES, name).values():
            scaled = calibration.apply(torch.from_numpy(score)).numpy()
            mask = obstacle_mask(scaled, threshold)
            expected.append((len(find_obstacles(scaled, mask, area)), np.mean(mask > 0)))
        assert false.obstacles == sum(number for number, _ in expected)
        assert false.share_of_pixels == pytest.approx(np.mean([share for _, share in expected]))
        at = result.results[name].at_threshold
        assert (at.threshold, at.false_obstacles) == (threshold, false.a_frame)
        found_pixels = anomalous = 0
        for _, image, label in dataset.read():
            raw = compute_scores(greedy.predict([image]), PARAMETERS, [name])[name].half()
            above = raw.double().numpy() > calibration.raw_threshold
            found_pixels += int(above[label == 1].sum())
            anomalous += int((label == 1).sum())
        assert at.recall == pytest.approx(found_pixels / anomalous)
        assert found.as_dict()['scores'][name]['false_obstacles_a_frame'] == false.a_frame
    _, pooled = tables_of(result, Queries(checkpoint='colours'))
    rows = [dict(zip(pooled.header, row, strict=True)) for row in pooled.rows]
    assert all(row['false/frame'].text != '-' != row['recall'].text for row in rows)


def test_ignored_pixels_make_no_false_obstacles(greedy, scenes, tmp_path):
    scenes(0, without_anomaly=2)  # the anomalies are there, and ignored
    frames = open_ordinary(f'plain:{tmp_path}')
    found = measure_traffic(greedy, [frames], PARAMETERS, (), 0.6)
    everything = [
        np.mean(score > 0.6) for score in scores_of(greedy, frames, ('scene0', 'scene1')).values()
    ]
    assert found.found.share_of_pixels < np.mean(everything)


def test_what_cannot_be_measured_is_refused(network, traffic):
    with pytest.raises(MaskomalyError, match=r'threshold 1\.5 is out of range'):
        measure_traffic(network, [traffic], PARAMETERS, (), 1.5)
    with pytest.raises(MaskomalyError, match='minimum_area -1 is negative'):
        measure_traffic(network, [traffic], PARAMETERS, (), 0.5, minimum_area=-1)
    assert (FalseObstacles(2, 3, 1, 10, 5) + FalseObstacles(1, 0, 0, 10, 0)).a_frame == 1
