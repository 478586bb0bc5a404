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

"""Scale and threshold of scores from ordinary frames, and from anomalies beside them."""

from __future__ import annotations

import numpy as np
import pytest

from maskomaly_ros.detector import Detector, DetectorConfig
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.evaluate import evaluate
from maskomaly_ros.evaluation.scales import calibrate_scores
from maskomaly_ros.queries import Queries, read_queries, write_queries
from maskomaly_ros.scores import compute_scores, default_scores
from maskomaly_ros.scoring import ScoringParameters

PARAMETERS = ScoringParameters(anomalous_queries=(2,), border_threshold=0.3)
NAMES = tuple(default_scores(PARAMETERS))[1:]


def test_every_score_gets_what_the_detector_needs(network, scenes, traffic, tmp_path):
    dataset = scenes(3)
    found = calibrate_scores(network, PARAMETERS, NAMES, [traffic], dataset)
    assert tuple(found) == NAMES
    path = tmp_path / 'queries.yaml'
    write_queries(path, Queries(checkpoint='colours', score='rba', scores=found))
    known = read_queries(path)
    assert known.scores == found
    assert known.score == 'rba'
    frame = next(image for _, image, _ in dataset.read())
    label = next(label for _, _, label in dataset.read())
    for name, calibration in found.items():
        detector = Detector(
            network,
            DetectorConfig(PARAMETERS, calibration.obstacle_threshold, score=name),
            known.scores,
        )
        (detection,) = detector.detect([frame])
        assert detection.score.dtype == np.float32
        assert detection.score.min() >= 0
        assert detection.score.max() <= 1
        # What evaluation measures is what the detector gives, before it is put on the scale.
        (raw,) = compute_scores(
            network.predict([frame]), PARAMETERS, [name], calibration.statistics
        ).values()
        assert np.array_equal(calibration.apply(raw).numpy(), detection.score), name
        order = np.argsort(raw.numpy(), axis=None, kind='stable')
        assert (np.diff(detection.score.ravel()[order]) >= 0).all(), name
    assert found['reject'].raw == ()
    (detection,) = Detector(
        network, DetectorConfig(PARAMETERS, found['rba'].obstacle_threshold, score='rba'), found
    ).detect([frame])
    hits = detection.mask[label == 1] > 0
    assert hits.mean() > 0.9  # nobody claims the anomaly


def test_evaluation_measures_what_the_detector_gives_bit_for_bit(network, scenes):
    dataset = scenes(3)
    seen = []
    evaluated = evaluate(network, dataset, PARAMETERS, ['maskomaly', 'geometric'])
    for name in evaluated.results:
        parameters = PARAMETERS
        if name == 'geometric':
            parameters = ScoringParameters(
                (2,), border_threshold=0.3, variant='geometric', reject_weight=0.25
            )
        detector = Detector(network, DetectorConfig(parameters))
        for _, image, _ in dataset.read():
            (detection,) = detector.detect([image])
            (score,) = compute_scores(network.predict([image]), PARAMETERS, [name]).values()
            assert np.array_equal(score.numpy(), detection.score)
            seen.append(detection)
    assert len(seen) == 6


def test_without_anomalies_the_threshold_is_what_few_ordinary_pixels_are_above(network, traffic):
    found = calibrate_scores(network, PARAMETERS, ['rba', 'entropy'], [traffic])
    for name, calibration in found.items():
        above = []
        for _, prediction in traffic.over(network, lambda frame: frame.prediction):
            (raw,) = compute_scores(prediction, PARAMETERS, [name]).values()
            above.append((calibration.apply(raw) > calibration.obstacle_threshold).float().mean())
        assert np.mean(above) <= 1e-3, name


def test_what_cannot_be_calibrated_is_refused(network, scenes, traffic):
    with pytest.raises(MaskomalyError, match='needs ordinary frames'):
        calibrate_scores(network, PARAMETERS, ['rba'], [])
    with pytest.raises(MaskomalyError, match='none of maskomaly'):
        calibrate_scores(network, PARAMETERS, ['nonsense'], [traffic])
    for name, what in (('rba', 'scale'), ('sml', 'scale')):
        with pytest.raises(MaskomalyError, match=f'score {name} has no {what}'):
            Detector(network, DetectorConfig(PARAMETERS, score=name))
    with pytest.raises(MaskomalyError, match="score 'mine' is none of"):
        DetectorConfig(PARAMETERS, score='mine')
    with pytest.raises(MaskomalyError, match='accept needs anomalous queries'):
        Detector(network, DetectorConfig(score='accept'))
