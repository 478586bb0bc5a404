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

"""Parameters of the node: what they are, what they may be, and the settings they amount to.

Queries and thresholds belong to a checkpoint, so they are unset until the node is configured;
then those that the user did not give take the values calibrated for the checkpoint, and
`ros2 param get` shows what is in force.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, get_args

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from maskomaly_ros.detector import Detector, DetectorConfig
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.ground import LocatorParameters
from maskomaly_ros.networks import BACKENDS
from maskomaly_ros.node.health import Limits
from maskomaly_ros.parameters import (
    LoadSettings,
    calibrated_values,
    detector_config,
    load_settings,
    locator_parameters,
    refinement_parameters,
)
from maskomaly_ros.refinement.refine import RefinementParameters
from maskomaly_ros.refinement.temporal import FILTERS
from maskomaly_ros.scores import SCORES
from maskomaly_ros.scoring import Variant

Type = Parameter.Type


@dataclass(frozen=True)
class LiveSettings:
    """What can change while the node runs; replaced as a whole.

    Attributes:
        detector: scoring parameters and thresholds.
        overlay_opacity: in [0, 1].
        jpeg_quality: 1 to 100.
        max_image_pixels: larger frames are refused.
        limits: from when on a camera is in trouble.
        refinement: what becomes of detections.
        locator: what is believed of places.
        depth_tolerance: seconds between a frame and its depth image.

    """

    detector: DetectorConfig
    overlay_opacity: float
    jpeg_quality: int
    max_image_pixels: int
    limits: Limits
    refinement: RefinementParameters
    locator: LocatorParameters
    depth_tolerance: float


@dataclass(frozen=True)
class _Declaration:
    """One parameter; without a default, it takes the one calibrated for the checkpoint."""

    type: Parameter.Type
    description: str
    default: Any = None
    limits: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ''
    needs_loading: bool = False
    read_only: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """Return it in the form that ROS takes."""
        descriptor = ParameterDescriptor(description=self.description, read_only=self.read_only)
        if self.choices:
            descriptor.additional_constraints = f'one of: {", ".join(self.choices)}'
        if self.needs_loading:
            descriptor.additional_constraints += ' (only while the node is unconfigured)'
        if self.limits and self.type == Type.DOUBLE:
            low, high = self.limits
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        elif self.limits:
            first, last = map(int, self.limits)
            descriptor.integer_range = [IntegerRange(from_value=first, to_value=last)]
        return descriptor

    def check(self, name: str, value: Any) -> None:
        """Raise MaskomalyError where the value is none that ROS itself refuses, and yet wrong."""
        if self.choices and value not in self.choices:
            raise MaskomalyError(f'{name} {value!r} is unknown; use {" or ".join(self.choices)}')
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise MaskomalyError(f'{name} {value!r} is wrong: {self.description}')


_FRACTION = (0.0, 1.0)
_SECONDS = (0.0, 3600.0)
_HERTZ = (0.0, 1000.0)
_DECLARATIONS = {
    'camera_topics': _Declaration(
        Type.STRING_ARRAY,
        'Image topics; names that end in /compressed carry CompressedImage.',
        ['/camera/image_raw'],
        needs_loading=True,
    ),
    'checkpoint': _Declaration(
        Type.STRING,
        'Network: demo, a Hugging Face id, or the path of a Mask2Former.',
        'demo',
        pattern=r'.*\S.*',
        needs_loading=True,
    ),
    'queries_file': _Declaration(
        Type.STRING,
        'Queries calibrated for the checkpoint; empty for the file that comes with it.',
        '',
        needs_loading=True,
    ),
    'backend': _Declaration(
        Type.STRING, 'What runs the network.', BACKENDS[0], choices=BACKENDS, needs_loading=True
    ),
    'device': _Declaration(
        Type.STRING,
        'Where the network runs: auto, cpu, cuda or cuda:N.',
        'auto',
        pattern=r'auto|cpu|cuda(:\d+)?',
        needs_loading=True,
    ),
    'precision': _Declaration(
        Type.STRING,
        'float32, or mixed precision, which is faster on a GPU.',
        'float32',
        choices=('float32', 'float16', 'bfloat16'),
        needs_loading=True,
    ),
    'compile': _Declaration(
        Type.BOOL,
        'Let torch compile the network while the node is configured, for a GPU; minutes, once.',
        False,
        needs_loading=True,
    ),
    'frame_width': _Declaration(
        Type.INTEGER,
        'Width in pixels of the camera frames that the node prepares for when it is configured; '
        '0: of the network input.',
        0,
        limits=(0, 16384),
        needs_loading=True,
    ),
    'frame_height': _Declaration(
        Type.INTEGER,
        'Height in pixels of those frames; 0: of the network input.',
        0,
        limits=(0, 16384),
        needs_loading=True,
    ),
    'input_shortest_side': _Declaration(
        Type.INTEGER,
        'Length in pixels of the shortest side of the network input; 0: as the checkpoint was '
        'trained.',
        0,
        limits=(0, 16384),
        needs_loading=True,
    ),
    'input_longest_side': _Declaration(
        Type.INTEGER,
        'Limit in pixels of the longest side of the network input; 0: as the checkpoint was '
        'trained.',
        0,
        limits=(0, 16384),
        needs_loading=True,
    ),
    'anomalous_queries': _Declaration(
        Type.INTEGER_ARRAY, 'Queries that cover anomalies, numbered from 0.'
    ),
    'ground_queries': _Declaration(
        Type.INTEGER_ARRAY, 'Queries that always count as road scene, numbered from 0.'
    ),
    'mask_threshold': _Declaration(
        Type.DOUBLE,
        'Confidence from which a query counts as road scene.',
        limits=_FRACTION,
    ),
    'border_threshold': _Declaration(
        Type.DOUBLE,
        'Mask value that two masks must exceed to make a border.',
        limits=_FRACTION,
    ),
    'border_score': _Declaration(
        Type.DOUBLE, 'Largest score that reject gives to a border.', limits=_FRACTION
    ),
    'reject_weight': _Declaration(
        Type.DOUBLE,
        'Weight of reject in the score; the rest is the weight of accept.',
        limits=_FRACTION,
    ),
    'variant': _Declaration(
        Type.STRING,
        'The published algorithm, the program of its authors, or another way to join reject and '
        'accept.',
        choices=get_args(Variant),
    ),
    'score': _Declaration(
        Type.STRING,
        'What the heatmap is: Maskomaly, or another score of the same network.',
        choices=tuple(SCORES),
    ),
    'obstacle_threshold': _Declaration(
        Type.DOUBLE, 'Score above which a pixel is an obstacle.', limits=_FRACTION
    ),
    'minimum_obstacle_area': _Declaration(
        Type.INTEGER,
        'Obstacles with fewer pixels are not listed.',
        0,
        limits=(0, 2**31 - 1),
    ),
    'overlay_opacity': _Declaration(
        Type.DOUBLE,
        'How far the colour of a high score hides the camera frame in the overlay.',
        0.5,
        limits=_FRACTION,
    ),
    'jpeg_quality': _Declaration(
        Type.INTEGER, 'JPEG quality of overlay/compressed.', 80, limits=(1, 100)
    ),
    'max_image_pixels': _Declaration(
        Type.INTEGER,
        'Frames with more pixels are refused before memory is allocated for them.',
        33554432,
        limits=(1, 2**30),
    ),
    'road_regions': _Declaration(
        Type.STRING_ARRAY,
        'Of each camera topic, the area outside which the score is 0: path of a PNG, or polygons.',
        [''],
        needs_loading=True,
    ),
    'ego_regions': _Declaration(
        Type.STRING_ARRAY,
        'Of each camera topic, the area of the own vehicle, in which the score is 0.',
        [''],
        needs_loading=True,
    ),
    'temporal_filter': _Declaration(
        Type.STRING, 'What steadies the score over time.', 'none', choices=FILTERS
    ),
    'temporal_weight': _Declaration(
        Type.DOUBLE,
        'Weight of the newest frame in the exponential filter.',
        0.5,
        limits=(0.01, 1.0),
    ),
    'temporal_window': _Declaration(
        Type.INTEGER, 'Frames that the median filter is of: 3, 5 or 7.', 3, limits=(3, 7)
    ),
    'temporal_max_gap': _Declaration(
        Type.DOUBLE,
        'Seconds between two frames from which on filters start anew.',
        1.0,
        limits=(0.001, 3600.0),
    ),
    'minimum_obstacle_frames': _Declaration(
        Type.INTEGER,
        'Frames in a row in which an obstacle must be before it is reported; 1: at once.',
        1,
        limits=(1, 255),
    ),
    'track_obstacles': _Declaration(
        Type.BOOL, 'Follow obstacles from frame to frame, so that their ids last.', True
    ),
    'track_patience': _Declaration(
        Type.DOUBLE,
        'Seconds for which an obstacle may be out of sight and keep its id.',
        1.0,
        limits=_SECONDS,
    ),
    'camera_info_topics': _Declaration(
        Type.STRING_ARRAY,
        "Of each camera topic, that of its calibration; '': camera_info beside it.",
        [''],
        needs_loading=True,
    ),
    'target_frame': _Declaration(
        Type.STRING,
        'Frame of the vehicle, z up, in which places are given; TF must know the camera in it.',
        'base_link',
        pattern=r'.*\S.*',
        needs_loading=True,
    ),
    'ground_height': _Declaration(
        Type.DOUBLE,
        'Metres of the ground above the origin of target_frame.',
        0.0,
        limits=(-100.0, 100.0),
        needs_loading=True,
    ),
    'camera_height': _Declaration(
        Type.DOUBLE_ARRAY,
        'Of each camera topic, metres above the ground; 0: ask TF.',
        [0.0],
        needs_loading=True,
    ),
    'camera_pitch': _Declaration(
        Type.DOUBLE_ARRAY,
        'Of each camera topic, radians by which it looks down, where camera_height is given.',
        [0.0],
        needs_loading=True,
    ),
    'camera_roll': _Declaration(
        Type.DOUBLE_ARRAY,
        'Of each camera topic, radians by which its right side is lower, where camera_height is '
        'given.',
        [0.0],
        needs_loading=True,
    ),
    'max_range': _Declaration(
        Type.DOUBLE,
        'Metres from the camera, along the ground, beyond which no point is published.',
        60.0,
        limits=(0.1, 1000.0),
    ),
    'pitch_uncertainty': _Declaration(
        Type.DOUBLE,
        'Standard deviation in radians of the angle between camera and ground.',
        0.01,
        limits=(0.0, 0.5),
    ),
    'depth_topics': _Declaration(
        Type.STRING_ARRAY,
        "Of each camera topic, that of aligned depth images (16UC1 mm, 32FC1 m); '': none.",
        [''],
        needs_loading=True,
    ),
    'depth_tolerance': _Declaration(
        Type.DOUBLE,
        'Seconds between the stamps of a frame and of the depth image that belongs to it.',
        0.05,
        limits=(0.0, 10.0),
    ),
    'max_age': _Declaration(
        Type.DOUBLE,
        'Frames that are older by their stamp, in seconds, are not processed; 0: any age.',
        0.0,
        limits=_SECONDS,
    ),
    'timeout_warn': _Declaration(
        Type.DOUBLE,
        'Seconds without a frame from which a camera is reported as WARN; 0: never.',
        1.0,
        limits=_SECONDS,
    ),
    'timeout_error': _Declaration(
        Type.DOUBLE,
        'Seconds without a frame from which a camera is reported as ERROR; 0: never.',
        3.0,
        limits=_SECONDS,
    ),
    'rate_warn': _Declaration(
        Type.DOUBLE,
        'Rate in Hz below which a camera is reported as WARN; 0: any rate.',
        0.0,
        limits=_HERTZ,
    ),
    'rate_error': _Declaration(
        Type.DOUBLE,
        'Rate in Hz below which a camera is reported as ERROR; 0: any rate.',
        0.0,
        limits=_HERTZ,
    ),
    'frozen_after': _Declaration(
        Type.DOUBLE,
        'Seconds of the same picture from which a camera is reported as frozen; 0: never.',
        3.0,
        limits=_SECONDS,
    ),
    'withhold_frozen': _Declaration(
        Type.BOOL,
        'Do not process frames of a camera that is frozen, so that nothing is published for them.',
        False,
    ),
    'autostart': _Declaration(
        Type.BOOL,
        'Configure and activate when the process starts.',
        True,
        read_only=True,
    ),
}


class Parameters:
    """The parameters of one node, declared, checked and kept consistent.

    A set of changes is accepted as a whole or refused as a whole, with a reason.

    Args:
        node: declares the parameters; its YAML and command line come before all defaults.
        check_topics: raises MaskomalyError for camera topics that the node cannot serve.

    Raises:
        MaskomalyError: a value that the node was started with is wrong.

    """

    def __init__(self, node: Node, check_topics: Callable[[Sequence[str]], object]) -> None:
        self._node = node
        self._check_topics = check_topics
        self._detector: Detector | None = None
        self._is_adopting = False
        self._loader: int | None = None
        # An empty list in YAML has no type, so the parameter stays unset and only the overrides
        # tell that the user gave one. rclpy offers no public way to ask.
        given = node._parameter_overrides
        self._chosen = {name for name, d in _DECLARATIONS.items() if d.default is None} & set(
            given
        )
        for name, declaration in _DECLARATIONS.items():
            default = declaration.type if declaration.default is None else declaration.default
            try:
                node.declare_parameter(name, default, declaration.descriptor())
            except Exception as error:  # of several kinds, and not all of one family
                raise MaskomalyError(str(error)) from error
        unknown = sorted(
            name
            for name in given
            if not node.has_parameter(name) and not name.startswith('qos_overrides.')
        )
        if unknown:  # of other nodes, if the file is for all; or misspelt, and that may be max_age
            node.get_logger().warning(
                f'parameters that this node does not have, without effect: {", ".join(unknown)}'
            )
        self.load, self.live = self._settings({})
        # One callback: several would each be given what was sent, not what another made of it.
        node.add_pre_set_parameters_callback(
            lambda parameters: self._follow_score(_type_empty_lists(parameters))
        )
        node.add_on_set_parameters_callback(self._check_changes)
        node.add_post_set_parameters_callback(self._apply_changes)

    def __getitem__(self, name: str) -> Any:
        """Return the value of a parameter; None where it is unset."""
        return self._node.get_parameter_or(name).value

    @contextmanager
    def loading(self) -> Iterator[None]:
        """While a network is loaded in this thread, refuse changes that come from another one."""
        self._loader = threading.get_ident()
        try:
            yield
        finally:
            self._loader = None

    def attach(self, detector: Detector) -> None:
        """Give unset parameters the values of a detector, and the detector those that are set.

        From now on, changes are checked against its network, and parameters that need loading
        cannot be changed.

        Raises:
            MaskomalyError: a parameter that the user gave does not fit the network.

        """
        given = {name: self[name] for name in self._chosen if self[name] is not None}
        values = calibrated_values(detector, given)
        for name in ('anomalous_queries', 'ground_queries'):
            if name in self._chosen and self[name] is None:
                values[name] = ()
        adopted = [
            Parameter(
                name,
                _DECLARATIONS[name].type,
                list(value) if isinstance(value, tuple) else value,
            )
            for name, value in values.items()
            if name not in self._chosen or self[name] is None
        ]
        self._is_adopting = True
        try:
            self._detector = detector
            self.load, self.live = self._settings({p.name: p.value for p in adopted})
            detector.config = self.live.detector
            if adopted:
                self._node.set_parameters_atomically(adopted)
        except (ValueError, TypeError) as error:
            self._detector = None
            raise MaskomalyError(str(error)) from error
        finally:
            self._is_adopting = False

    def detach(self) -> None:
        """Forget the detector; parameters that need loading can be changed again."""
        self._detector = None

    def _settings(self, changes: dict[str, Any]) -> tuple[LoadSettings, LiveSettings]:
        """Return the settings that the parameters with these changes amount to."""
        values = {name: self[name] for name in _DECLARATIONS} | changes
        for name, value in values.items():
            if value is not None:
                _DECLARATIONS[name].check(name, value)
        load = load_settings(values)
        self._check_topics(load.camera_topics)
        config = detector_config(values)
        if self._detector is not None:
            self._detector.check(config)
        live = LiveSettings(
            detector=config,
            overlay_opacity=values['overlay_opacity'],
            jpeg_quality=values['jpeg_quality'],
            max_image_pixels=values['max_image_pixels'],
            limits=Limits(**{field.name: values[field.name] for field in fields(Limits)}),
            refinement=refinement_parameters(values),
            locator=locator_parameters(values),
            depth_tolerance=values['depth_tolerance'],
        )
        return load, live

    def _follow_score(self, parameters: list[Parameter]) -> list[Parameter]:
        """Give another score the obstacle threshold calibrated for it, unless one comes along."""
        changes = {p.name: p.value for p in parameters}
        score = changes.get('score')
        if self._detector is None or self._is_adopting or 'obstacle_threshold' in changes:
            return parameters
        if not isinstance(score, str) or score not in SCORES or score == self['score']:
            return parameters
        threshold = self._detector.threshold_of(score)
        return [*parameters, Parameter('obstacle_threshold', Type.DOUBLE, threshold)]

    def _check_changes(self, parameters: list[Parameter]) -> SetParametersResult:
        changes = {p.name: p.value for p in parameters if p.name in _DECLARATIONS}
        if changes and self._loader not in (None, threading.get_ident()):
            reason = f'{", ".join(changes)}: the node is being configured; try again afterwards'
            return SetParametersResult(successful=False, reason=reason)
        try:
            for name, value in changes.items():
                if self._detector is None or not _DECLARATIONS[name].needs_loading:
                    continue
                if value != self[name]:
                    raise MaskomalyError(
                        f'{name} cannot change to {value!r} while a network is loaded: '
                        'deactivate and clean up the node first'
                    )
            self._settings(changes)
        except (ValueError, TypeError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply_changes(self, parameters: list[Parameter]) -> None:
        if self._is_adopting:
            return
        changed = {p.name for p in parameters} & set(_DECLARATIONS)
        self._chosen |= {name for name in changed if _DECLARATIONS[name].default is None}
        if changed:
            self.load, self.live = self._settings({})
            if self._detector is not None:
                self._detector.config = self.live.detector


def _type_empty_lists(parameters: list[Parameter]) -> list[Parameter]:
    """Give an empty list the type of its parameter: `ros2 param set` cannot tell it."""
    return [
        Parameter(p.name, _DECLARATIONS[p.name].type, [])
        if p.name in _DECLARATIONS
        and _DECLARATIONS[p.name].type.name.endswith('_ARRAY')
        and p.type_.name.endswith('_ARRAY')
        and len(p.value) == 0
        else p
        for p in parameters
    ]
