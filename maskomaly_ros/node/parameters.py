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

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from rcl_interfaces.msg import (
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from maskomaly_ros.detector import Detector, DetectorConfig
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.ground import LocatorParameters
from maskomaly_ros.node.declaring import descriptor, parameter_type, type_empty_lists
from maskomaly_ros.node.health import Limits
from maskomaly_ros.parameter_table import TABLE, check
from maskomaly_ros.parameters import (
    LoadSettings,
    calibrated_values,
    detector_config,
    load_settings,
    locator_parameters,
    refinement_parameters,
)
from maskomaly_ros.refinement.refine import RefinementParameters
from maskomaly_ros.scores import SCORES

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
        check({name: parameter.value for name, parameter in given.items()})
        self._chosen = {name for name, row in TABLE.items() if row.default is None} & set(given)
        for name, row in TABLE.items():
            default = parameter_type(row) if row.default is None else row.default
            try:
                node.declare_parameter(name, default, descriptor(row))
            except Exception as error:  # of several kinds, and not all of one family
                raise MaskomalyError(str(error)) from error
        self.load, self.live = self._settings({})
        # One callback: several would each be given what was sent, not what another made of it.
        node.add_pre_set_parameters_callback(
            lambda parameters: self._follow_score(type_empty_lists(parameters, TABLE))
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
                parameter_type(TABLE[name]),
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
        values = {name: self[name] for name in TABLE} | changes
        check(values)
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
        changes = {p.name: p.value for p in parameters if p.name in TABLE}
        if changes and self._loader not in (None, threading.get_ident()):
            reason = f'{", ".join(changes)}: the node is being configured; try again afterwards'
            return SetParametersResult(successful=False, reason=reason)
        try:
            for name, value in changes.items():
                if self._detector is None or not TABLE[name].needs_loading:
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
        changed = {p.name for p in parameters} & set(TABLE)
        self._chosen |= {name for name in changed if TABLE[name].default is None}
        if changed:
            self.load, self.live = self._settings({})
            if self._detector is not None:
                self._detector.config = self.live.detector
