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

"""The one table of parameters: type, default, range, unit, whether it is live, and what it means.

The node declares its parameters from it, files are read against it with and without ROS, and
`config/camera.schema.json` and `docs/parameters.md` are printed from it (`maskomaly params`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from maskomaly_ros.networks import BACKENDS
from maskomaly_ros.parameter_rows import (
    Double,
    Fraction,
    Hertz,
    Pixels,
    Row,
    Seconds,
    Text,
    check_values,
    rows_markdown,
    rows_of,
)
from maskomaly_ros.parameter_rows import row as _row
from maskomaly_ros.refinement.temporal import FILTERS
from maskomaly_ros.scores import SCORES
from maskomaly_ros.scoring import Variant
from maskomaly_ros.topics import DEFAULT_CAMERA

if TYPE_CHECKING:  # which cannot read tuples
    from typing_extensions import Self

    Backend: TypeAlias = str
    Filter: TypeAlias = str
    ScoreName: TypeAlias = str
else:
    Backend, Filter = Literal[BACKENDS], Literal[FILTERS]
    ScoreName = Literal[tuple(SCORES)]


class NodeParameters(BaseModel):
    """Every parameter of the node. Types are as strict as those of ROS."""

    model_config = ConfigDict(extra='forbid', strict=True)

    camera_topics: list[str] = _row(
        'Image topics; names that end in /compressed carry CompressedImage.',
        [DEFAULT_CAMERA],
    )
    checkpoint: Text = _row(
        'Network: demo, a Hugging Face id, or the path of a Mask2Former.',
        'demo',
    )
    queries_file: str = _row(
        'Queries calibrated for the checkpoint; empty for the file that comes with it.',
        '',
    )
    backend: Backend = _row(
        'What runs the network.',
        'auto',
    )
    device: str = _row(
        'Where the network runs: auto, cpu, cuda or cuda:N.',
        'auto',
        pattern=r'^(auto|cpu|cuda(:\d+)?)$',
    )
    precision: Literal['float32', 'float16', 'bfloat16'] = _row(
        'float32, or mixed precision, which is faster on a GPU.',
        'float32',
    )
    compile: bool = _row(
        'Let torch compile the network while the node is configured, for a GPU; minutes, once.',
        False,
    )
    frame_width: Pixels = _row(
        'Width in pixels of the camera frames that the node prepares for when it is '
        'configured; 0: of the network input.',
        0,
        unit='px',
    )
    frame_height: Pixels = _row(
        'Height in pixels of those frames; 0: of the network input.',
        0,
        unit='px',
    )
    input_shortest_side: Pixels = _row(
        'Length in pixels of the shortest side of the network input; 0: as the checkpoint '
        'was trained.',
        0,
        unit='px',
    )
    input_longest_side: Pixels = _row(
        'Limit in pixels of the longest side of the network input; 0: as the checkpoint '
        'was trained.',
        0,
        unit='px',
    )
    anomalous_queries: list[Annotated[int, Field(ge=0)]] | None = _row(
        'Queries that cover anomalies, numbered from 0.',
        None,
        live=True,
    )
    ground_queries: list[Annotated[int, Field(ge=0)]] | None = _row(
        'Queries that always count as road scene, numbered from 0.',
        None,
        live=True,
    )
    mask_threshold: Fraction | None = _row(
        'Confidence from which a query counts as road scene.',
        None,
        live=True,
    )
    border_threshold: Fraction | None = _row(
        'Mask value that two masks must exceed to make a border.',
        None,
        live=True,
    )
    border_score: Fraction | None = _row(
        'Largest score that reject gives to a border.',
        None,
        live=True,
    )
    reject_weight: Fraction | None = _row(
        'Weight of reject in the score; the rest is the weight of accept. Without effect where '
        'anomalous_queries is empty: the score is reject alone.',
        None,
        live=True,
    )
    variant: Variant | None = _row(
        'The published algorithm, the program of its authors, or another way to join '
        'reject and accept.',
        None,
        live=True,
    )
    score: ScoreName | None = _row(
        'What the heatmap is: Maskomaly, or another score of the same network.',
        None,
        live=True,
    )
    average_mirrored: bool = _row(
        'Take the mean of the score with that of the mirrored frame; the network runs twice.',
        False,
        live=True,
    )
    road_prior: Annotated[Double, Field(ge=0.0, le=10.0)] = _row(
        'Weight of where the road is: what stands in it counts more, what is off it less; '
        '0: none.',
        0.0,
        live=True,
    )
    obstacle_threshold: Fraction | None = _row(
        'Score above which a pixel is an obstacle.',
        None,
        live=True,
    )
    minimum_obstacle_area: Annotated[int, Field(ge=0, le=2147483647)] = _row(
        'Obstacles with fewer pixels are not listed.',
        0,
        live=True,
        unit='px',
    )
    overlay_opacity: Fraction = _row(
        'How far the colour of a high score hides the camera frame in the overlay.',
        0.5,
        live=True,
    )
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = _row(
        'JPEG quality of overlay/compressed.',
        80,
        live=True,
    )
    max_image_pixels: Annotated[int, Field(ge=1, le=1073741824)] = _row(
        'Frames with more pixels are refused before memory is allocated for them.',
        33554432,
        live=True,
        unit='px',
    )
    road_regions: list[str] = _row(
        'Of each camera topic, the area outside which the score is 0: path of a PNG, or polygons.',
        [''],
    )
    ego_regions: list[str] = _row(
        'Of each camera topic, the area of the own vehicle, in which the score is 0.',
        [''],
    )
    temporal_filter: Filter = _row(
        'What steadies the score over time.',
        'none',
        live=True,
    )
    temporal_weight: Annotated[Double, Field(ge=0.01, le=1.0)] = _row(
        'Weight of the newest frame in the exponential filter.',
        0.5,
        live=True,
    )
    temporal_window: Annotated[int, Field(ge=3, le=7)] = _row(
        'Frames that the median filter is of: 3, 5 or 7.',
        3,
        live=True,
        unit='frames',
        step=2,
    )
    temporal_max_gap: Annotated[Double, Field(ge=0.001, le=3600.0)] = _row(
        'Seconds between two frames from which on filters and new obstacles start anew.',
        1.0,
        live=True,
        unit='s',
    )
    minimum_obstacle_frames: Annotated[int, Field(ge=1, le=255)] = _row(
        'Frames in a row in which the tracker must find an obstacle to report it; 1: at once.',
        1,
        live=True,
        unit='frames',
    )
    track_obstacles: bool = _row(
        'Give obstacles ids that last from frame to frame.',
        True,
        live=True,
    )
    track_patience: Seconds = _row(
        'Seconds for which an obstacle may be out of sight and keep its id.',
        1.0,
        live=True,
        unit='s',
    )
    camera_info_topics: list[str] = _row(
        "Of each camera topic, that of its calibration; '': camera_info beside it.",
        [''],
    )
    target_frame: Text = _row(
        'Frame of the vehicle, z up, in which places are given; TF must know the camera in it.',
        'base_link',
    )
    ground_height: Annotated[Double, Field(ge=-100.0, le=100.0)] = _row(
        'Metres of the ground above the origin of target_frame.',
        0.0,
        unit='m',
    )
    camera_height: list[Double] = _row(
        'Of each camera topic, metres above the ground; 0: ask TF.',
        [0.0],
        unit='m',
    )
    camera_pitch: list[Double] = _row(
        'Of each camera topic, radians by which it looks down, where camera_height is given.',
        [0.0],
        unit='rad',
    )
    camera_roll: list[Double] = _row(
        'Of each camera topic, radians by which its right side is lower, where '
        'camera_height is given.',
        [0.0],
        unit='rad',
    )
    max_range: Annotated[Double, Field(ge=0.1, le=1000.0)] = _row(
        'Metres from the camera, along the ground, beyond which no point is published.',
        60.0,
        live=True,
        unit='m',
    )
    pitch_uncertainty: Annotated[Double, Field(ge=0.0, le=0.5)] = _row(
        'Standard deviation in radians of the angle between camera and ground.',
        0.01,
        live=True,
        unit='rad',
    )
    depth_topics: list[str] = _row(
        "Of each camera topic, that of aligned depth images (16UC1 mm, 32FC1 m); '': none.",
        [''],
    )
    depth_tolerance: Annotated[Double, Field(ge=0.0, le=10.0)] = _row(
        'Seconds between the stamps of a frame and of the depth image that belongs to it.',
        0.05,
        live=True,
        unit='s',
    )
    max_age: Seconds = _row(
        'Frames that are older by their stamp, in seconds, are not processed; 0: any age.',
        0.0,
        live=True,
        unit='s',
    )
    timeout_warn: Seconds = _row(
        'Seconds without a frame from which a camera is reported as WARN; 0: never.',
        1.0,
        live=True,
        unit='s',
    )
    timeout_error: Seconds = _row(
        'Seconds without a frame from which a camera is reported as ERROR; 0: never.',
        3.0,
        live=True,
        unit='s',
    )
    rate_warn: Hertz = _row(
        'Rate in Hz below which a camera is reported as WARN; 0: any rate.',
        0.0,
        live=True,
        unit='Hz',
    )
    rate_error: Hertz = _row(
        'Rate in Hz below which a camera is reported as ERROR; 0: any rate.',
        0.0,
        live=True,
        unit='Hz',
    )
    frozen_after: Seconds = _row(
        'Seconds of the same picture from which a camera is reported as frozen; 0: never.',
        3.0,
        live=True,
        unit='s',
    )
    withhold_frozen: bool = _row(
        'Do not process frames of a camera that is frozen, so that nothing is published for them.',
        False,
        live=True,
    )
    autostart: bool = _row(
        'Configure and activate when the process starts.',
        True,
        read_only=True,
    )

    @field_validator('temporal_window')
    @classmethod
    def _is_odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError('an odd number')
        return value

    @model_validator(mode='after')
    def _fit_together(self) -> Self:
        for one, other in (
            ('input_shortest_side', 'input_longest_side'),
            ('frame_width', 'frame_height'),
        ):
            first, second = getattr(self, one), getattr(self, other)
            if (first == 0) != (second == 0):
                raise ValueError(f'{one} {first} and {other} {second}: give both, or 0 for both')
        if 0 < self.timeout_error < self.timeout_warn:
            raise ValueError(
                f'timeout_error {self.timeout_error} is below timeout_warn {self.timeout_warn}: '
                'errors would come before warnings; give a longer one, or 0 for never'
            )
        if self.rate_error > self.rate_warn > 0:
            raise ValueError(
                f'rate_error {self.rate_error} is above rate_warn {self.rate_warn}: errors would '
                'come before warnings; give a lower one, or 0 for any rate'
            )
        return self


TABLE: Mapping[str, Row] = rows_of(NodeParameters)


def check(values: Mapping[str, Any]) -> None:
    """Refuse parameters that are unknown, of a wrong type, out of range, or do not fit together.

    Args:
        values: by name; None stands for unset. Tuples are taken for lists.

    Raises:
        MaskomalyError: names every parameter that is wrong, with what it may be.

    """
    check_values(values, NodeParameters)


def json_schema() -> dict[str, Any]:
    """Return a JSON schema of parameter files, for editors."""
    rows = NodeParameters.model_json_schema()
    rows.pop('title', None)
    for name, known in rows['properties'].items():
        limits = TABLE[name].limits
        for kind in known.get('anyOf', [known]):
            if limits is not None and kind.get('type') in ('number', 'integer'):
                # What pydantic makes of a range depends on its version, and ge says nothing here.
                for word in ('ge', 'le', 'minimum', 'maximum'):
                    kind.pop(word, None)
                kind['minimum'], kind['maximum'] = limits
    section = {'type': 'object', 'properties': {'ros__parameters': rows}}
    return {
        '$schema': 'https://json-schema.org/draft/2020-12/schema',
        'title': 'Parameters of maskomaly_node',
        'type': 'object',
        'patternProperties': {r'^/?(\*\*?|(.*/)?maskomaly)$': section},
    }


def markdown() -> str:
    """Return the table as it stands in docs/parameters.md."""
    return rows_markdown(TABLE)
