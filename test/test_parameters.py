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

"""A parameter file means the same to the node and to what runs without ROS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from maskomaly_ros.detector import Detector, DetectorConfig
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import InputSize
from maskomaly_ros.parameters import (
    DEFAULTS,
    configure,
    load_settings,
    read_parameters,
    with_defaults,
)
from maskomaly_ros.score_scales import ScoreCalibration
from maskomaly_ros.scoring import ScoringParameters

SCORES = {'rba': ScoreCalibration(obstacle_threshold=0.8, raw=(-1.0, 0.0), level=(0.0, 1.0))}
CALIBRATED = DetectorConfig(ScoringParameters((1,), (0,), 0.25, 0.5, 0.125, 0.75), 0.375)


class FourQueries:
    """Of a network, what a configuration is checked against."""

    name, sha256, num_queries, device = 'four', 'f' * 64, 4, torch.device('cpu')


def write(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize('name', ['/**', 'maskomaly', '/maskomaly', '/front/maskomaly', '/*'])
def test_sections_of_the_node_are_read(tmp_path: Path, name: str) -> None:
    content = {
        name: {'ros__parameters': {'device': 'cpu'}},
        'other': {'ros__parameters': {'a': 1}},
    }
    assert read_parameters(write(tmp_path / 'p.yaml', content)) == {'device': 'cpu'}


def test_namespaces_may_nest(tmp_path: Path) -> None:
    content = {'front': {'maskomaly': {'ros__parameters': {'device': 'cpu'}}}}
    assert read_parameters(write(tmp_path / 'p.yaml', content)) == {'device': 'cpu'}


@pytest.mark.parametrize(
    'content', [{'other': {'ros__parameters': {'a': 1}}}, {'device': 'cpu'}, 7]
)
def test_file_without_parameters_of_the_node_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(MaskomalyError, match=r'ros__parameters|no mapping'):
        read_parameters(write(tmp_path / 'p.yaml', content))


def test_file_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'p.yaml').write_text('a: [')
    with pytest.raises(MaskomalyError, match='is not YAML'):
        read_parameters(tmp_path / 'p.yaml')
    with pytest.raises(MaskomalyError, match='cannot read the parameter file'):
        read_parameters(tmp_path / 'nowhere.yaml')


def test_defaults_are_those_of_the_parameter_file() -> None:
    shown = read_parameters(Path(__file__).parents[1] / 'config' / 'camera.yaml')
    assert {name: shown[name] for name in DEFAULTS} == DEFAULTS


def test_sides_of_the_input_come_in_pairs() -> None:
    settings = load_settings({**DEFAULTS, 'input_shortest_side': 320, 'input_longest_side': 640})
    assert settings.input_size == InputSize(320, 640)
    with pytest.raises(MaskomalyError, match='both'):
        with_defaults({'input_shortest_side': 320})


@pytest.mark.parametrize(
    'given',
    [
        {'anomalous_queries': [7]},
        {'reject_weight': 1.5},
        {'minimum_obstacle_area': -1},
        {'variant': 'mine'},
        {'score': 'mine'},
        {'score': 'energy'},
    ],
)
def test_wrong_values_are_refused(given: dict[str, Any]) -> None:
    detector = Detector(FourQueries(), CALIBRATED)  # type: ignore[arg-type]
    with pytest.raises(MaskomalyError):
        configure(detector, given)
    assert detector.config == CALIBRATED


@pytest.mark.parametrize(
    'given',
    [
        {},
        {'obstacle_threshold': 0.5, 'minimum_obstacle_area': 12},
        {'anomalous_queries': [2, 3], 'ground_queries': []},
        {'variant': 'reference_code'},
        {'variant': 'geometric', 'reject_weight': 0.25},
        {'variant': 'minimum'},
        {'score': 'rba'},
        {'score': 'rba', 'obstacle_threshold': 0.3},
        {'score': 'entropy'},
        {'variant': 'reference_code', 'mask_threshold': 0.5, 'reject_weight': 1.0},
    ],
)
def test_same_file_gives_the_same_configuration_as_in_the_node(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    rclpy = pytest.importorskip('rclpy')
    from maskomaly_ros.node.parameters import Parameters

    path = write(tmp_path / 'p.yaml', {'/**': {'ros__parameters': {'device': 'cpu', **given}}})
    live, offline = (
        Detector(FourQueries(), CALIBRATED, SCORES)  # type: ignore[arg-type]
        for _ in range(2)
    )
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node(
        'maskomaly', context=context, cli_args=['--ros-args', '--params-file', str(path)]
    )
    try:
        parameters = Parameters(node, lambda topics: None)
        parameters.attach(live)
    finally:
        node.destroy_node()
        context.shutdown()
    values = read_parameters(path)
    configure(offline, values)
    assert offline.config == live.config
    assert load_settings({**DEFAULTS, **values}) == parameters.load
