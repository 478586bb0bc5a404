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

"""Calibration: which queries and parameters it finds, and what it says about them."""

from __future__ import annotations

import datetime
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from maskomaly_ros import __version__
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation import calibration
from maskomaly_ros.evaluation.calibration import (
    GRID,
    calibrate,
    query_iou,
    search_scores,
)
from maskomaly_ros.evaluation.evaluate import evaluate
from maskomaly_ros.networks import MaskPrediction
from maskomaly_ros.queries import read_queries, write_queries
from maskomaly_ros.scoring import ScoringParameters, score_map


def random_prediction(seed, queries=5, size=(24, 40)):
    generator = torch.Generator().manual_seed(seed)
    return MaskPrediction(
        3 * torch.randn(1, queries, 7, 11, generator=generator),
        4 * torch.randn(1, queries, 4, generator=generator),
        size,
        (6.5, 10.25),
    )


@settings(max_examples=15)
@given(st.integers(0, 1000), st.sampled_from([(), (1,), (0, 3, 4)]))
def test_search_scores_are_those_of_algorithm_1(seed, anomalous):
    prediction = random_prediction(seed)
    for setting, score in zip(GRID, search_scores(prediction, (12, 20), anomalous), strict=True):
        expected = score_map(
            prediction.mask_logits[0],
            prediction.class_logits[0],
            (12, 20),
            replace(setting, anomalous_queries=anomalous),
            extent=prediction.extent,
        )
        # A root of what is nearly 0 shows its rounding.
        root = setting.reject_weight if setting.variant == 'geometric' else 1
        np.testing.assert_allclose(score, expected.numpy(), atol=1e-6**root)


@given(st.integers(0, 1000))
def test_iou_of_queries_is_its_definition(seed):
    prediction = random_prediction(seed)
    prediction = MaskPrediction(
        prediction.mask_logits, prediction.class_logits, prediction.frame_size, (7.0, 11.0)
    )
    label = np.random.default_rng(seed).choice([0, 1, 255], (24, 40)).astype(np.uint8)
    masks = F.interpolate(prediction.mask_logits.sigmoid().logit(), (24, 40), mode='bilinear')
    for mask, iou in zip(
        (masks[0].sigmoid() > 0.5).numpy(), query_iou(prediction, label), strict=True
    ):
        inside = label < 255
        expected = np.sum(mask & (label == 1)) / np.sum((mask | (label == 1)) & inside)
        assert iou == pytest.approx(expected)


def test_iou_needs_an_anomaly():
    iou = query_iou(random_prediction(0), np.full((24, 40), 255, np.uint8))
    assert np.isnan(iou).all()


def test_the_query_that_covers_anomalies_is_found(network, scenes, tmp_path):
    dataset = scenes(4, without_anomaly=2)
    queries = calibrate(network, dataset)
    assert queries.checkpoint == 'colours'
    assert queries.checkpoint_sha256 == network.sha256
    assert queries.anomalous_queries == (2,)
    # Nothing is gained over the paper's parameters, so they stay.
    assert queries.scoring_parameters() == ScoringParameters(anomalous_queries=(2,))

    provenance = queries.provenance
    assert provenance['tool'] == f'maskomaly_ros {__version__}'
    assert datetime.date.fromisoformat(provenance['date'])
    assert provenance['dataset'] == dataset.name
    assert provenance['images'] == 6
    assert provenance['images_with_anomalies'] == 4
    assert provenance['input_size'] == {'shortest': 48, 'longest': 64}
    assert provenance['ranking'][0] == {'query': 2, 'mean_iou': pytest.approx(0.5, abs=0.05)}
    search = provenance['search']
    assert search['parts'] == 4
    assert search['ap'] == search['ap_of_defaults'] > 0.9
    assert search['ap_of_a_part'] > 0.9
    assert search['ap_of_a_part_left_out'] == pytest.approx(search['ap_of_a_part'], abs=0.01)
    figures = evaluate(network, dataset, queries.scoring_parameters()).results['maskomaly'].pixels
    assert provenance['calibration_figures']['ap'] == pytest.approx(figures.ap, abs=1e-4)
    assert provenance['calibration_figures']['fpr95'] == pytest.approx(figures.fpr95, abs=1e-4)

    write_queries(tmp_path / 'colours.yaml', queries)
    assert read_queries(tmp_path / 'colours.yaml') == queries


def test_the_iou_threshold_is_a_strict_bound(network, scenes, monkeypatch):
    """As the paper has it: more than T_IoU."""
    monkeypatch.setattr(calibration, '_mean_iou', lambda _: np.array([0.0, 0.0, 0.25, 0.0]))
    dataset = scenes(3)
    assert calibrate(network, dataset, iou_threshold=0.25).anomalous_queries == ()
    assert calibrate(network, dataset, iou_threshold=0.24).anomalous_queries == (2,)


def test_soft_masks_get_another_border_threshold(network, scenes):
    network.soft = 0.2  # road and rest both claim a little of every anomaly: borders everywhere
    queries = calibrate(network, scenes(4))
    assert queries.border_threshold == 0.3
    assert queries.reject_weight == 0.6
    assert queries.mask_threshold == 0.3
    search = queries.provenance['search']
    assert search['ap'] > search['ap_of_defaults'] + 0.2


def test_a_query_that_does_harm_is_left_out(network, scenes):
    network.greedy = True
    dataset = scenes(4)
    paper = calibrate(network, dataset, iou_threshold=0.25)
    assert paper.anomalous_queries == (2, 3)
    queries = calibrate(network, dataset)
    assert queries.anomalous_queries == (2,)
    assert queries.provenance['iou_threshold'] == 0.3
    figures = [q.provenance['calibration_figures']['ap'] for q in (queries, paper)]
    assert figures[0] > figures[1] + 0.05


def test_the_obstacle_threshold_selects_the_best_f1(network, scenes):
    dataset = scenes(4)
    queries = calibrate(network, dataset)
    correct = predicted = true = 0
    for _, image, label in dataset.read():
        prediction = network.predict([image])
        score = score_map(
            prediction.mask_logits[0],
            prediction.class_logits[0],
            label.shape,
            queries.scoring_parameters(),
        )
        mask = (score.numpy() > queries.obstacle_threshold) & (label < 255)
        correct += np.sum(mask & (label == 1))
        predicted += mask.sum()
        true += np.sum(label == 1)
    best = queries.provenance['calibration_figures']['best_f1']
    assert 2 * correct / (predicted + true) == pytest.approx(best, abs=1e-4)


def test_no_query_reaches_the_threshold(network, scenes, caplog):
    queries = calibrate(network, scenes(3), iou_threshold=0.9)
    assert queries.anomalous_queries == ()
    (message,) = (m for m in caplog.messages if 'no query reaches a mean IoU of 0.9' in m)
    assert 'the best is query 2' in message


def test_one_image_leaves_the_parameters_alone(network, scenes, caplog):
    network.soft = 0.2
    queries = calibrate(network, scenes(1, without_anomaly=3))
    assert queries.scoring_parameters() == ScoringParameters(anomalous_queries=(2,))
    assert 'too few to choose parameters' in caplog.text


def test_what_cannot_be_calibrated_on_is_refused(network, scenes):
    dataset = scenes(0, without_anomaly=2)
    with pytest.raises(MaskomalyError, match='has an anomaly'):
        calibrate(network, dataset)
    with pytest.raises(MaskomalyError, match=r'iou_threshold 1\.5 is out of range'):
        calibrate(network, dataset, iou_threshold=1.5)
    for sample in dataset.samples:
        sample.image.write_bytes(b'')
    with pytest.raises(MaskomalyError, match=r'no image of .* can be used'):
        calibrate(network, dataset)


def hesitate(network):
    """Let a network call its road void more often than not: it is no inlier without help."""
    predict = network.predict

    def hesitant(frames):
        prediction = predict(frames)
        classes = prediction.class_logits.clone()
        classes[:, 0, 0], classes[:, 0, -1] = 4.0, 4.2
        return replace(prediction, class_logits=classes)

    network.predict = hesitant
    return network


def test_ground_queries_are_taken_where_they_help(network, scenes):
    dataset = scenes(4)
    plain = calibrate(network, dataset, iou_threshold=0.25)
    assert plain.ground_queries == ()  # the road is no riddle for this network
    assert plain.provenance['ground']['road'] == 'class drivable as predicted'
    assert plain.provenance['ground']['ranking'][0]['query'] == 0
    helped = calibrate(hesitate(network), dataset, iou_threshold=0.25)
    assert helped.ground_queries == (0,)


def test_labels_of_the_road_come_before_what_is_predicted(network, scenes, monkeypatch):
    dataset = scenes(2)
    layout = replace(dataset.layout, zero_is_road=True)
    monkeypatch.setattr(dataset, 'layout', layout)
    found = calibrate(network, dataset).provenance['ground']
    assert found['road'] == 'labels'
    network.class_names = ('a', 'b', 'c', 'd', 'e', 'f', 'g')
    monkeypatch.setattr(dataset, 'layout', replace(layout, zero_is_road=False))
    found = calibrate(network, dataset).provenance['ground']
    assert found['road'] is None
    assert found['ranking'] == []


def test_the_middle_of_the_margin_stands_beside_the_threshold(network, scenes):
    queries = calibrate(network, scenes(3))
    for margin in (0.6, 0.7):
        found = queries.provenance['detection_margin'][f'{margin:g}']
        assert found['length'] > 0.1
        assert found['to'] - found['from'] == pytest.approx(found['length'], abs=2e-4)
        assert found['middle'] == pytest.approx((found['to'] + found['from']) / 2, abs=2e-4)


def test_kept_outputs_calibrate_alike(network, scenes, tmp_path_factory):
    dataset, cache = scenes(2), tmp_path_factory.mktemp('cache')
    first, second = (calibrate(network, dataset, cache=cache) for _ in range(2))
    assert first == second == calibrate(network, dataset)
    assert network.predicted == 4


def test_ordinary_frames_keep_a_query_out_that_takes_traffic_for_obstacles(
    network, scenes, traffic
):
    network.greedy = True  # query 3 sees the anomalies and everything blue
    dataset = scenes(4)
    for each in dataset.samples:  # where there is nothing blue, it does no harm
        image = cv2.imread(str(each.image))
        image[..., 0] = np.minimum(image[..., 0], 60)
        assert cv2.imwrite(str(each.image), image)
    alone = calibrate(network, dataset)
    assert alone.anomalous_queries == (2, 3)
    assert alone.provenance['criterion'] == 'ap'
    assert 'pooled' not in alone.provenance['calibration_figures']
    pooled = calibrate(network, dataset, ordinary=[traffic])
    assert pooled.provenance['criterion'] == 'pooled-ap'
    assert pooled.provenance['ordinary'] == [{'name': traffic.name, 'frames': 3, 'of': 3}]
    figures = pooled.provenance['calibration_figures']
    again = calibrate(network, dataset, ordinary=[traffic], criterion='ap')
    assert again.scoring_parameters() == alone.scoring_parameters()
    assert figures['pooled']['ap'] > again.provenance['calibration_figures']['pooled']['ap']


def test_criteria_are_known_and_have_what_they_need(network, scenes, traffic):
    dataset = scenes(2)
    with pytest.raises(MaskomalyError, match=r"'luck' is none of ap, fpr95, pooled-ap, pooled-"):
        calibrate(network, dataset, criterion='luck')
    with pytest.raises(MaskomalyError, match='pooled-ap needs ordinary frames, and none are'):
        calibrate(network, dataset, criterion='pooled-ap')
    found = calibrate(network, dataset, ordinary=[traffic], criterion='pooled-fpr95')
    assert found.provenance['criterion'] == 'pooled-fpr95'


def test_a_query_that_covers_traffic_too_gives_way_to_a_worse_one(network, scenes, traffic):
    """By IoU with anomalies alone the greedy one is as good; where it is blue, it is wrong."""
    network.greedy = True
    predict = network.predict

    def partly(frames):  # query 2 sees less of the anomalies, and is below every T_IoU
        prediction = predict(frames)
        masks = prediction.mask_logits.clone()
        masks[:, 2, :, ::2] = -4.0
        return replace(prediction, mask_logits=masks)

    network.predict = partly
    dataset = scenes(4)
    by_iou = calibrate(network, dataset)
    assert by_iou.anomalous_queries[0] == 3
    assert by_iou.provenance['queries_by'] == 'iou_threshold'
    found = calibrate(network, dataset, ordinary=[traffic], criterion='pooled-recall')
    assert found.anomalous_queries == (2,)
    assert found.provenance['queries_by'] == 'criterion'
    assert found.provenance['iou_threshold'] is None
