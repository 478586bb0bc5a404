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

"""What evaluation measures and what the node publishes are the same numbers, bit for bit.

On real pictures, with the bundled network: made-up masks might agree where real ones do not.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from maskomaly_ros.detector import Detector, DetectorConfig
from maskomaly_ros.evaluation.cache import OutputCache
from maskomaly_ros.evaluation.ordinary import open_ordinary
from maskomaly_ros.evaluation.scales import calibrate_scores
from maskomaly_ros.networks import MaskPrediction, Network, load_network
from maskomaly_ros.queries import bundled_queries
from maskomaly_ros.score_scales import ScoreCalibration
from maskomaly_ros.scores import compute_scores, default_scores
from maskomaly_ros.scoring import ScoringParameters

PICTURES = (
    'data/road_anomaly21_val/images/*.jpg',
    'data/road_obstacle21_val/images/*.webp',
    'data/camvid/val/images/*.jpg',
)


@pytest.fixture(scope='module')
def network() -> Network:
    return load_network('demo', device='cpu', backend='transformers')


@pytest.fixture(scope='module')
def parameters() -> ScoringParameters:
    queries = bundled_queries('demo')
    assert queries is not None
    return queries.scoring_parameters()


@pytest.fixture(scope='module')
def pictures(shared: Path) -> list[NDArray[np.uint8]]:
    """Return the first picture of each data set, RGB."""
    found = []
    for pattern in PICTURES:
        path = min(shared.glob(pattern))
        decoded = cv2.imread(str(path), cv2.IMREAD_COLOR)
        assert decoded is not None
        found.append(np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8))
    return found


@pytest.fixture(scope='module')
def calibrated(
    network: Network,
    parameters: ScoringParameters,
    pictures: list[NDArray[np.uint8]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, ScoreCalibration]:
    """Return scales of all scores, from one picture."""
    folder = tmp_path_factory.mktemp('ordinary')
    cv2.imwrite(str(folder / '0.png'), pictures[-1][..., ::-1])
    names = [name for name in default_scores(parameters) if name != 'maskomaly']
    return calibrate_scores(network, parameters, names, [open_ordinary(str(folder))])


@pytest.fixture(scope='module')
def measured(
    network: Network,
    parameters: ScoringParameters,
    pictures: list[NDArray[np.uint8]],
    calibrated: dict[str, ScoreCalibration],
    tmp_path_factory: pytest.TempPathFactory,
) -> list[tuple[MaskPrediction, dict[str, Tensor]]]:
    """Return what evaluation does: outputs kept on disk and read again, all scores at once."""
    cache = OutputCache(tmp_path_factory.mktemp('outputs'), network)
    names, statistics = default_scores(parameters), calibrated['sml'].statistics
    found = []
    for index, picture in enumerate(pictures):
        cache.write(bytes([index]), network.predict([picture]))
        kept = cache.read(bytes([index]))
        assert kept is not None
        found.append((kept, compute_scores(kept, parameters, names, statistics)))
    return found


@pytest.mark.parametrize('name', default_scores(ScoringParameters((0,))))
def test_node_and_evaluation_give_the_same_bits(
    network: Network,
    parameters: ScoringParameters,
    pictures: list[NDArray[np.uint8]],
    calibrated: dict[str, ScoreCalibration],
    measured: list[tuple[MaskPrediction, dict[str, Tensor]]],
    name: str,
) -> None:
    detector = Detector(network, DetectorConfig(parameters, score=name), calibrated)
    scale = calibrated.get(name)
    for picture, (prediction, scores) in zip(pictures, measured, strict=True):
        (detection,) = detector.detect([picture])
        expected = scores[name] if scale is None else scale.apply(scores[name])
        np.testing.assert_array_equal(detection.score, expected.numpy())
        np.testing.assert_array_equal(detector.scored(prediction)[0].numpy(), detection.score)
        assert np.ptp(detection.score) > 0
