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

"""Tests of maskomaly_ros.node.parameters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip('rclpy')

import rclpy
from rclpy.parameter import Parameter

from maskomaly_ros.detector import Detector, DetectorConfig
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import InputSize
from maskomaly_ros.node.parameters import Parameters
from maskomaly_ros.score_scales import ScoreCalibration
from maskomaly_ros.scoring import ScoringParameters, _log_missing_anomalous_queries

CALIBRATED = {
    'anomalous_queries': [1],
    'ground_queries': [0],
    'mask_threshold': 0.25,
    'border_threshold': 0.5,
    'border_score': 0.125,
    'reject_weight': 0.75,
    'variant': 'paper',
    'obstacle_threshold': 0.375,
    'score': 'maskomaly',
}


class Owner:
    """A node with the parameters under test, started with YAML and arguments."""

    def __init__(self, folder: Path, network: Any) -> None:
        self._folder = folder
        self.network = network
        self.context = rclpy.Context()
        rclpy.init(context=self.context)

    def start(self, content: dict[str, Any] | None = None, *arguments: str) -> Parameters:
        path = self._folder / 'parameters.yaml'
        path.write_text(
            yaml.safe_dump({'/**': {'ros__parameters': content or {'device': 'auto'}}})
        )
        self.node = rclpy.create_node(
            'owner',
            context=self.context,
            cli_args=['--ros-args', '--params-file', str(path), *arguments],
        )
        self.parameters = Parameters(self.node, lambda topics: None)
        return self.parameters

    def detector(self, **changes: Any) -> Detector:
        values = {**CALIBRATED, **changes}
        threshold, score = values.pop('obstacle_threshold'), values.pop('score')
        config = DetectorConfig(ScoringParameters(**values), threshold, score=score)
        return Detector(self.network, config)

    def set(self, **values: Any) -> str:
        """Set parameters together; return the reason of a refusal."""
        types = {name: self.node.describe_parameter(name).type for name in values}
        result = self.node.set_parameters_atomically(
            [Parameter(n, Parameter.Type(types[n]), value) for n, value in values.items()]
        )
        assert result.successful == (not result.reason)
        return str(result.reason)

    def get(self, name: str) -> Any:
        value = self.node.get_parameter_or(name).value
        return list(value) if not isinstance(value, (str, float, int, type(None))) else value


@pytest.fixture
def owner(tmp_path: Path, network: Any) -> Iterator[Owner]:
    owner = Owner(tmp_path, network)
    yield owner
    owner.node.destroy_node()
    owner.context.shutdown()


def test_defaults_are_those_of_the_parameter_file(owner: Owner) -> None:
    """config/camera.yaml shows every parameter: with its default, or commented if calibrated."""
    owner.start()
    text = (Path(__file__).parents[2] / 'config' / 'camera.yaml').read_text()
    shown = yaml.safe_load(text)['/**']['ros__parameters']
    declared = set(owner.node._parameters) - {'use_sim_time', 'start_type_description_service'}
    assert shown == {name: owner.get(name) for name in declared if owner.get(name) is not None}
    for name in declared - set(shown):
        assert f'# {name}: ' in text


def test_every_parameter_describes_itself(owner: Owner) -> None:
    owner.start()
    for name in (*CALIBRATED, 'camera_topics', 'device', 'jpeg_quality', 'autostart'):
        descriptor = owner.node.describe_parameter(name)
        assert len(descriptor.description) > 20
    assert owner.node.describe_parameter('autostart').read_only
    (limits,) = owner.node.describe_parameter('reject_weight').floating_point_range
    assert (limits.from_value, limits.to_value) == (0.0, 1.0)
    (limits,) = owner.node.describe_parameter('jpeg_quality').integer_range
    assert (limits.from_value, limits.to_value) == (1, 100)
    assert 'paper' in owner.node.describe_parameter('variant').additional_constraints
    assert 'unconfigured' in owner.node.describe_parameter('checkpoint').additional_constraints


def test_calibrated_parameters_are_unset_until_a_detector_is_attached(owner: Owner) -> None:
    parameters = owner.start()
    assert all(owner.get(name) is None for name in CALIBRATED)
    detector = owner.detector()
    parameters.attach(detector)
    assert {name: owner.get(name) for name in CALIBRATED} == CALIBRATED
    assert parameters.live.detector == detector.config == owner.detector().config


def test_values_of_the_user_come_before_calibrated_ones(owner: Owner) -> None:
    given = {'anomalous_queries': [], 'mask_threshold': 0.0625, 'minimum_obstacle_area': 7}
    parameters = owner.start(given, '-p', 'ground_queries:=[1, 0]')
    detector = owner.detector()
    parameters.attach(detector)
    in_force = {**CALIBRATED, **given, 'ground_queries': [1, 0]}
    assert {name: owner.get(name) for name in in_force} == in_force
    scoring = detector.config.scoring
    assert (scoring.anomalous_queries, scoring.ground_queries) == ((), (1, 0))
    assert (scoring.mask_threshold, scoring.border_threshold) == (0.0625, 0.5)
    assert detector.config.minimum_obstacle_area == 7


def test_another_checkpoint_brings_its_own_values_but_not_for_what_the_user_set(
    owner: Owner,
) -> None:
    parameters = owner.start()
    parameters.attach(owner.detector())
    assert owner.set(border_score=0.0) == ''
    parameters.detach()
    parameters.attach(owner.detector(border_score=0.3, reject_weight=0.2, anomalous_queries=[]))
    assert owner.get('border_score') == 0.0
    assert owner.get('reject_weight') == 0.2
    assert owner.get('anomalous_queries') == []


def test_another_variant_than_the_calibrated_one_has_its_own_thresholds(owner: Owner) -> None:
    parameters = owner.start({'variant': 'reference_code'})
    parameters.attach(owner.detector())
    assert owner.get('mask_threshold') == 0.7
    assert owner.get('border_score') == 0.0
    assert owner.get('anomalous_queries') == [1]


def test_another_score_brings_its_own_threshold_unless_one_comes_along(owner: Owner) -> None:
    parameters = owner.start()
    detector = owner.detector()
    detector.scores = {
        'rba': ScoreCalibration(obstacle_threshold=0.8, raw=(-1.0, 0.0), level=(0.0, 1.0)),
        'entropy': ScoreCalibration(obstacle_threshold=0.7),
    }
    parameters.attach(detector)
    assert owner.get('score') == 'maskomaly'
    assert owner.set(score='rba') == ''
    assert (detector.config.score, detector.config.obstacle_threshold) == ('rba', 0.8)
    assert owner.get('obstacle_threshold') == 0.8
    assert owner.set(obstacle_threshold=0.1) == ''
    assert owner.set(score='rba') == ''
    assert owner.get('obstacle_threshold') == 0.1
    assert owner.set(score='entropy', obstacle_threshold=0.2) == ''
    assert (detector.config.score, detector.config.obstacle_threshold) == ('entropy', 0.2)
    reason = owner.set(score='energy')
    assert 'score energy has no scale in the queries file' in reason
    assert 'none of' not in owner.set(score='baseline')  # lies in [0, 1] by itself
    assert owner.get('obstacle_threshold') == 0.375
    assert 'mine' in owner.set(score='mine')
    assert owner.set(score='maskomaly') == ''
    assert detector.config.score == 'maskomaly'
    parameters.detach()
    again = owner.start({'score': 'rba'})
    other = owner.detector()
    other.scores = detector.scores
    again.attach(other)
    assert (other.config.score, other.config.obstacle_threshold) == ('rba', 0.8)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ({'score': 'mine'}, ['score', 'mine', 'entropy']),
        ({'reject_weight': 1.5}, ['reject_weight', '1.5']),
        ({'reject_weight': 1}, ['reject_weight', 'DOUBLE']),
        ({'jpeg_quality': 0}, ['jpeg_quality', '0']),
        ({'temporal_filter': 'mean'}, ['temporal_filter', 'mean', 'median']),
        ({'precision': 'float8'}, ['precision', 'float8', 'float16']),
        ({'backend': 'tensorflow'}, ['backend', 'tensorflow', 'transformers']),
        ({'device': 'gpu'}, ['device', 'gpu', 'cuda:N']),
        ({'checkpoint': ' '}, ['checkpoint']),
        ({'input_shortest_side': 512}, ['input_shortest_side 512', 'input_longest_side 0']),
        ({'input_shortest_side': 512, 'input_longest_side': 256}, ['512', '256']),
        ({'ground_queries': [-1]}, ['ground_queries', '-1']),
    ],
)
def test_wrong_values_at_the_start_are_named(
    owner: Owner, content: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ValueError, match=words[0]) as refused:
        owner.start(content)
    for word in words:
        assert word in str(refused.value)


def test_parameters_that_nobody_reads_are_refused(owner: Owner) -> None:
    qos = {'/a.subscription.reliability': 'reliable'}
    with pytest.raises(MaskomalyError, match='max_ages is unknown; did you mean max_age'):
        owner.start({'max_ages': 0.5, 'use_sim_time': False, 'qos_overrides': qos})
    owner.node.destroy_node()
    owner.start({'max_age': 0.5, 'use_sim_time': False, 'qos_overrides': qos})


def test_limits_that_contradict_each_other_are_refused(owner: Owner) -> None:
    owner.start({'timeout_warn': 2.0, 'rate_warn': 5.0})
    assert 'timeout_warn' in owner.set(timeout_error=1.0)
    assert 'rate_warn' in owner.set(rate_error=6.0)
    assert owner.set(timeout_error=0.0, rate_error=0.0) == ''


def test_windows_of_the_median_come_in_steps(owner: Owner) -> None:
    owner.start()
    (limits,) = owner.node.describe_parameter('temporal_window').integer_range
    assert (limits.from_value, limits.to_value, limits.step) == (3, 7, 2)
    assert owner.set(temporal_window=4)


def test_queries_that_the_network_lacks_are_refused(owner: Owner) -> None:
    parameters = owner.start({'anomalous_queries': [0, 2]})
    before = parameters.live
    with pytest.raises(MaskomalyError, match=r'anomalous_queries has query 2.*2 queries'):
        parameters.attach(owner.detector())
    assert parameters.live is before
    assert owner.set(checkpoint='another') == '', 'nothing is attached'


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'obstacle_threshold': 0.7, 'border_score': 1.5}, ['border_score', '1.5', '1.0']),
        ({'obstacle_threshold': 0.7, 'border_score': float('nan')}, ['border_score', 'nan']),
        ({'obstacle_threshold': 0.7, 'anomalous_queries': [2]}, ['query 2', '2 queries']),
        ({'obstacle_threshold': 0.7, 'ground_queries': [-1]}, ['ground_queries', '-1']),
        ({'obstacle_threshold': 0.7, 'temporal_filter': 'x'}, ['temporal_filter', "'x'"]),
        ({'obstacle_threshold': 0.7, 'checkpoint': 'x'}, ['checkpoint', "'x'", 'clean up']),
        ({'obstacle_threshold': 0.7, 'camera_topics': ['/x']}, ['camera_topics', 'clean up']),
        ({'obstacle_threshold': 0.7, 'autostart': False}, ['autostart', 'read-only']),
        ({'obstacle_threshold': 0.7, 'max_image_pixels': 0}, ['max_image_pixels', '0']),
    ],
)
def test_a_bad_set_of_changes_changes_nothing(
    owner: Owner, changes: dict[str, Any], words: list[str]
) -> None:
    parameters = owner.start()
    detector = owner.detector()
    parameters.attach(detector)
    live, config = parameters.live, detector.config
    reason = owner.set(**changes)
    for word in words:
        assert word in reason
    assert parameters.live is live
    assert detector.config is config
    assert owner.get('obstacle_threshold') == 0.375


def test_changes_together_reach_the_detector_at_once(owner: Owner) -> None:
    parameters = owner.start()
    detector = owner.detector()
    parameters.attach(detector)
    changes = {
        'anomalous_queries': [0, 1],
        'ground_queries': [],
        'border_threshold': 0.0,
        'variant': 'reference_code',
        'obstacle_threshold': 1.0,
        'minimum_obstacle_area': 5,
        'overlay_opacity': 1.0,
        'jpeg_quality': 100,
        'max_image_pixels': 1000,
    }
    assert owner.set(**changes) == ''
    live = parameters.live
    assert detector.config is live.detector
    scoring = live.detector.scoring
    assert (scoring.anomalous_queries, scoring.ground_queries) == ((0, 1), ())
    assert (scoring.border_threshold, scoring.variant) == (0.0, 'reference_code')
    assert scoring.mask_threshold == 0.25, 'what is shown stays in force'
    assert (live.detector.obstacle_threshold, live.detector.minimum_obstacle_area) == (1.0, 5)
    assert live.overlay_opacity == 1.0
    assert (live.jpeg_quality, live.max_image_pixels) == (100, 1000)


@pytest.mark.parametrize('kind', ['BOOL_ARRAY', 'BYTE_ARRAY', 'STRING_ARRAY', 'INTEGER_ARRAY'])
def test_an_empty_list_of_any_type_empties_a_query_list(owner: Owner, kind: str) -> None:
    """`ros2 param set /maskomaly anomalous_queries '[]'` sends one of the wrong type."""
    parameters = owner.start()
    parameters.attach(owner.detector())
    empty = Parameter('anomalous_queries', Parameter.Type[kind], [])
    assert owner.node.set_parameters([empty])[0].successful
    assert parameters.live.detector.scoring.anomalous_queries == ()
    wrong = Parameter('anomalous_queries', Parameter.Type.STRING_ARRAY, ['1'])
    assert 'type' in owner.node.set_parameters([wrong])[0].reason


def test_what_needs_loading_can_change_while_nothing_is_attached(owner: Owner) -> None:
    parameters = owner.start()
    changes = {
        'camera_topics': ['/a/image', '/b/image'],
        'checkpoint': 'owner/name',
        'queries_file': '/tmp/queries.yaml',
        'device': 'cuda:1',
        'precision': 'bfloat16',
        'input_shortest_side': 256,
        'input_longest_side': 512,
    }
    assert owner.set(**changes) == ''
    load = parameters.load
    assert load.camera_topics == ('/a/image', '/b/image')
    assert (load.checkpoint, load.queries_file) == ('owner/name', '/tmp/queries.yaml')
    assert (load.device, load.precision) == ('cuda:1', 'bfloat16')
    assert load.input_size == InputSize(256, 512)
    parameters.attach(owner.detector())
    assert owner.set(checkpoint='owner/name', jpeg_quality=10) == '', 'nothing new to load'
    assert 'clean up' in owner.set(checkpoint='demo')
    parameters.detach()
    assert owner.set(checkpoint='demo') == ''
    assert parameters.load.checkpoint == 'demo'
    assert parameters.load.input_size == InputSize(256, 512)


def test_without_anomalous_queries_log_and_parameter_agree(
    owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    """The weight that is shown is what the user gave, and both places say that it is not used."""
    owner.start({'anomalous_queries': [], 'reject_weight': 0.25}).attach(owner.detector())
    assert owner.get('reject_weight') == 0.25
    assert 'Without effect' in owner.node.describe_parameter('reject_weight').description
    _log_missing_anomalous_queries.cache_clear()
    with caplog.at_level('WARNING', 'maskomaly_ros'):
        _log_missing_anomalous_queries()
    assert 'reject_weight has no effect' in caplog.text
