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

"""What the parameters of the node amount to, without ROS: for the node, and for replay.

A parameter file is ROS 2 YAML. Queries and thresholds that it leaves out are those calibrated for
the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskomaly_ros.detector import Detector, DetectorConfig
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.ground import CameraPose, LocatorParameters
from maskomaly_ros.networks import EXPORT_WAIT, InputSize
from maskomaly_ros.parameter_files import read_section
from maskomaly_ros.parameter_table import TABLE, check
from maskomaly_ros.refinement.refine import RefinementParameters
from maskomaly_ros.refinement.regions import Region
from maskomaly_ros.refinement.temporal import TemporalParameters
from maskomaly_ros.refinement.tracking import TrackingParameters
from maskomaly_ros.scoring import ScoringParameters

SCORING = (
    'anomalous_queries',
    'ground_queries',
    'mask_threshold',
    'border_threshold',
    'border_score',
    'reject_weight',
    'variant',
)
_OF_LIVE_CAMERAS = (
    'max_age', 'timeout_warn', 'timeout_error', 'rate_warn', 'rate_error', 'frozen_after',
    'withhold_frozen', 'autostart',
)  # fmt: skip
# Of the parameters that no checkpoint has a say in, those that results depend on.
DEFAULTS: Mapping[str, Any] = {
    name: row.default
    for name, row in TABLE.items()
    if row.default is not None and name not in _OF_LIVE_CAMERAS
}


@dataclass(frozen=True)
class GroundSettings:
    """Where to look for the place of one camera.

    Attributes:
        info_topic: of its calibration; empty for the one beside its pictures.
        depth_topic: of depth images aligned with its pictures; empty for none.
        mounting: its pose over level ground; None asks TF.
        target_frame: frame of the vehicle, z up, to ask TF for.
        ground_height: z of the ground in that frame, in metres.

    """

    info_topic: str = ''
    depth_topic: str = ''
    mounting: CameraPose | None = None
    target_frame: str = 'base_link'
    ground_height: float = 0.0


@dataclass(frozen=True)
class LoadSettings:
    """What takes effect when the node is configured.

    Attributes:
        camera_topics: as the user wrote them, neither expanded nor remapped.
        checkpoint: see `load_network`.
        queries_file: path, or None for the file that comes with the checkpoint.
        backend: see `load_network`.
        device: see `load_network`.
        precision: see `load_network`.
        compile: see `load_network`.
        frame_size: height and width of the camera frames to prepare for; None for those of the
            network input.
        input_size: None for the checkpoint's own.
        road_regions: of each camera, see `Region`; empty where no camera has one.
        ego_regions: likewise.
        grounds: of each camera.

    """

    camera_topics: tuple[str, ...]
    checkpoint: str
    queries_file: str | None
    backend: str
    device: str
    precision: str
    input_size: InputSize | None
    compile: bool = False
    frame_size: tuple[int, int] | None = None
    road_regions: tuple[str, ...] = ()
    ego_regions: tuple[str, ...] = ()
    grounds: tuple[GroundSettings, ...] = ()


def read_parameters(path: str | Path) -> dict[str, Any]:
    """Return the parameters that a ROS 2 parameter file has for the node, in any namespace.

    Raises:
        MaskomalyError: the file cannot be read, or has no parameters for the node.

    """
    found = read_section(path)
    try:
        check(found)
    except MaskomalyError as error:
        raise MaskomalyError(f'{path}: {error}') from None
    return found


def with_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of parameters with the defaults of those that results depend on.

    Raises:
        MaskomalyError: the node would refuse them, too, and in the same words.

    """
    check(given)
    return {**DEFAULTS, **given}


def load_settings(values: Mapping[str, Any]) -> LoadSettings:
    """Return what is loaded with these values of parameters.

    Raises:
        MaskomalyError: something is given for some cameras and not for all.

    """
    sides = values['input_shortest_side'], values['input_longest_side']
    frame = values['frame_height'], values['frame_width']
    topics = tuple(values['camera_topics'] or ())
    return LoadSettings(
        camera_topics=topics,
        checkpoint=values['checkpoint'],
        queries_file=values['queries_file'] or None,
        backend=values['backend'],
        device=values['device'],
        precision=values['precision'],
        input_size=InputSize(*sides) if all(sides) else None,
        compile=values['compile'],
        frame_size=frame if all(frame) else None,
        road_regions=_regions(values, 'road_regions', len(topics)),
        ego_regions=_regions(values, 'ego_regions', len(topics)),
        grounds=_grounds(values, len(topics)),
    )


def read_regions(settings: LoadSettings) -> tuple[Region, ...]:
    """Return the region of each camera.

    Raises:
        MaskomalyError: a picture cannot be read, or a polygon is none.

    """
    nowhere = ('',) * len(settings.camera_topics)
    pairs = zip(settings.road_regions or nowhere, settings.ego_regions or nowhere, strict=True)
    return tuple(Region(road, ego) for road, ego in pairs)


def temporal_parameters(values: Mapping[str, Any]) -> TemporalParameters:
    """Return how these values of parameters steady score maps.

    Raises:
        MaskomalyError: a value is out of range.

    """
    return TemporalParameters(
        filter=values['temporal_filter'],
        weight=values['temporal_weight'],
        window=values['temporal_window'],
        max_gap=values['temporal_max_gap'],
    )


def refinement_parameters(values: Mapping[str, Any]) -> RefinementParameters:
    """Return how these values of parameters refine detections.

    Raises:
        MaskomalyError: a value is out of range.

    """
    tracking = TrackingParameters(
        values['minimum_obstacle_frames'], values['track_patience'], values['temporal_max_gap']
    )
    return RefinementParameters(temporal_parameters(values), tracking, values['track_obstacles'])


def locator_parameters(values: Mapping[str, Any]) -> LocatorParameters:
    """Return what these values of parameters believe of places.

    Raises:
        MaskomalyError: a value is out of range.

    """
    return LocatorParameters(values['max_range'], values['pitch_uncertainty'])


def load_detector(settings: LoadSettings, export_wait: float = EXPORT_WAIT) -> Detector:
    """Return the detector, with the configuration calibrated for its checkpoint.

    Args:
        settings: what to load.
        export_wait: see `load_network`.

    """
    return Detector.from_checkpoint(
        settings.checkpoint,
        queries_file=settings.queries_file,
        backend=settings.backend,
        device=settings.device,
        precision=settings.precision,
        input_size=settings.input_size,
        compile=settings.compile,
        export_wait=export_wait,
    )


def calibrated_values(detector: Detector, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of the parameters that belong to a checkpoint.

    Args:
        detector: with the configuration that was calibrated.
        given: what the user chose. Another variant than the calibrated one takes its own
            defaults, as thresholds of the one mean nothing to the other; another score takes the
            obstacle threshold that was calibrated for it.

    """
    scoring = detector.config.scoring
    variant = given.get('variant', scoring.variant)
    if variant != scoring.variant:
        scoring = ScoringParameters.for_variant(
            variant,
            anomalous_queries=scoring.anomalous_queries,
            ground_queries=scoring.ground_queries,
        )
    values = {name: getattr(scoring, name) for name in SCORING}
    score = given.get('score', detector.config.score)
    other = score != detector.config.score
    values['score'] = score
    values['obstacle_threshold'] = (
        detector.threshold_of(score) if other else detector.config.obstacle_threshold
    )
    return values


def detector_config(values: Mapping[str, Any]) -> DetectorConfig:
    """Return the configuration that values of parameters amount to; unset ones are left out.

    Raises:
        ValueError: a value is out of range.
        TypeError: a value is of a wrong type.

    """
    return DetectorConfig(
        ScoringParameters(**_given(values, SCORING)),
        minimum_obstacle_area=values['minimum_obstacle_area'],
        average_mirrored=values['average_mirrored'],
        road_prior=values['road_prior'],
        **_given(values, ['obstacle_threshold', 'score']),
    )


def configure(detector: Detector, given: Mapping[str, Any]) -> None:
    """Give a detector the configuration that the node has with the same parameters.

    Raises:
        MaskomalyError: a value is wrong, or does not fit the network.

    """
    chosen = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    try:
        calibrated = calibrated_values(detector, chosen)
        detector.config = detector_config({**with_defaults(chosen), **calibrated, **chosen})
    except (ValueError, TypeError) as error:
        raise MaskomalyError(str(error)) from error


def _regions(values: Mapping[str, Any], name: str, cameras: int) -> tuple[str, ...]:
    """Return the regions of all cameras; nothing where none has one."""
    regions = tuple(values[name] or ())
    return _per_camera(regions, name, cameras, '') if any(regions) else ()


def _grounds(values: Mapping[str, Any], cameras: int) -> tuple[GroundSettings, ...]:
    names = 'camera_info_topics', 'depth_topics', 'camera_height', 'camera_pitch', 'camera_roll'
    columns = [
        _per_camera(tuple(values[name] or ()), name, cameras, '' if 'topics' in name else 0.0)
        for name in names
    ]
    return tuple(
        GroundSettings(
            info,
            depth,
            CameraPose.mounted(height, pitch, roll) if height else None,
            values['target_frame'],
            values['ground_height'],
        )
        for info, depth, height, pitch, roll in zip(*columns, strict=True)
    )


def _per_camera(given: tuple[Any, ...], name: str, cameras: int, none: Any) -> tuple[Any, ...]:
    """Return one value a camera; without any, that of none for all."""
    if not any(given):
        return (none,) * cameras
    if len(given) != cameras:
        raise MaskomalyError(
            f'{name} has {len(given)} entries for {cameras} camera topics; give one for each, '
            f'{none!r} for a camera without'
        )
    return given


def _given(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if values[name] is not None}
