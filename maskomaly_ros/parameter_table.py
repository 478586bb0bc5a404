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

import difflib
import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from typing_extensions import Self

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import BACKENDS
from maskomaly_ros.refinement.temporal import FILTERS
from maskomaly_ros.scores import SCORES
from maskomaly_ros.scoring import Variant

# What every node of ROS has besides its own.
_OF_EVERY_NODE = ('use_sim_time', 'start_type_description_service')
_OF_EVERY_NODE_PREFIXES = ('qos_overrides',)


def _double(value: Any) -> Any:
    """Refuse 1 where 1.0 is meant, as ROS does, and what is no number."""
    if type(value) is not float or not math.isfinite(value):
        raise ValueError('a floating-point number, such as 1.0')
    return value


if TYPE_CHECKING:  # which cannot read tuples
    Backend: TypeAlias = str
    Filter: TypeAlias = str
    ScoreName: TypeAlias = str
else:
    Backend, Filter = Literal[BACKENDS], Literal[FILTERS]
    ScoreName = Literal[tuple(SCORES)]
Double = Annotated[float, BeforeValidator(_double)]
Fraction = Annotated[Double, Field(ge=0.0, le=1.0)]
Seconds = Annotated[Double, Field(ge=0.0, le=3600.0)]
Hertz = Annotated[Double, Field(ge=0.0, le=1000.0)]
Pixels = Annotated[int, Field(ge=0, le=16384)]
Text = Annotated[str, Field(pattern=r'\S')]


@dataclass(frozen=True)
class _More:
    """What a row of the table says beyond its type and range."""

    live: bool = False
    read_only: bool = False
    unit: str = ''
    step: int = 1


def _row(description: str, default: Any, *, pattern: str | None = None, **more: Any) -> Any:
    """Return a row; one whose default is None takes the value calibrated for the checkpoint."""
    field = Field(default, description=description, pattern=pattern, validate_default=False)
    field.metadata.append(_More(**more))
    return field


class NodeParameters(BaseModel):
    """Every parameter of the node. Types are as strict as those of ROS."""

    model_config = ConfigDict(extra='forbid', strict=True)

    camera_topics: list[str] = _row(
        'Image topics; names that end in /compressed carry CompressedImage.',
        ['/camera/image_raw'],
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
        'Seconds between two frames from which on filters start anew.',
        1.0,
        live=True,
        unit='s',
    )
    minimum_obstacle_frames: Annotated[int, Field(ge=1, le=255)] = _row(
        'Frames in a row in which an obstacle must be before it is reported; 1: at once.',
        1,
        live=True,
        unit='frames',
    )
    track_obstacles: bool = _row(
        'Follow obstacles from frame to frame, so that their ids last.',
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


@dataclass(frozen=True)
class Row:
    """One parameter.

    Attributes:
        name: of the parameter.
        type: of ROS: `bool`, `integer`, `double`, `string`, or one of them with `_array`.
        default: None where it is the one calibrated for the checkpoint.
        description: one or two sentences.
        limits: smallest and largest value; None where there are none.
        step: between allowed integers.
        choices: the allowed texts; empty where any is.
        unit: such as `s`; empty where there is none.
        live: whether it can be changed while the node runs.
        read_only: whether it is fixed when the process starts.

    """

    name: str
    type: str
    default: Any
    description: str
    limits: tuple[float, float] | None = None
    step: int = 1
    choices: tuple[str, ...] = ()
    unit: str = ''
    live: bool = False
    read_only: bool = False

    @property
    def needs_loading(self) -> bool:
        """Whether it can be changed only while the node is unconfigured."""
        return not self.live and not self.read_only

    @property
    def range(self) -> str:
        """The allowed values in words; empty where any is."""
        if self.choices:
            return ', '.join(self.choices)
        if not self.limits:
            return ''
        low, high = (f'{limit:g}' if limit < 1e5 else str(limit) for limit in self.limits)
        return f'{low} to {high}' + (f' in steps of {self.step}' if self.step > 1 else '')


def _read_row(name: str, field: FieldInfo) -> Row:
    kind: Any = field.annotation
    metadata = list(field.metadata)
    if get_origin(kind) in (Union, UnionType):  # Optional: the default is the checkpoint's
        kind = get_args(kind)[0]
    while get_origin(kind) is Annotated:
        kind, *inner = get_args(kind)
        metadata += [
            each for m in inner for each in (m.metadata if isinstance(m, FieldInfo) else [m])
        ]
    choices: tuple[str, ...] = get_args(kind) if get_origin(kind) is Literal else ()
    more = next(m for m in metadata if isinstance(m, _More))
    low = next((m.ge for m in metadata if hasattr(m, 'ge')), None)
    high = next((m.le for m in metadata if hasattr(m, 'le')), None)
    names = {bool: 'bool', int: 'integer', float: 'double', str: 'string'}
    if choices:
        type_name = 'string'
    elif get_origin(kind) is list:
        element = get_args(kind)[0]
        while get_origin(element) is Annotated:
            element = get_args(element)[0]
        type_name = f'{names[element]}_array'
    else:
        type_name = names[kind]
    return Row(
        name,
        type_name,
        field.default,
        field.description or '',
        None if low is None or high is None else (low, high),
        more.step,
        choices,
        more.unit,
        more.live,
        more.read_only,
    )


TABLE: Mapping[str, Row] = {
    name: _read_row(name, field) for name, field in NodeParameters.model_fields.items()
}


def check(values: Mapping[str, Any]) -> None:
    """Refuse parameters that are unknown, of a wrong type, out of range, or do not fit together.

    Args:
        values: by name; None stands for unset. Tuples are taken for lists.

    Raises:
        MaskomalyError: names every parameter that is wrong, with what it may be.

    """
    given = {
        name: list(value) if isinstance(value, tuple | array) else value  # array: of a message
        for name, value in values.items()
        if value is not None and not _is_of_every_node(name)
    }
    try:
        NodeParameters.model_validate(given)
    except ValidationError as error:
        reasons = dict.fromkeys(_reason(details, given) for details in error.errors())
        raise MaskomalyError('; '.join(reasons)) from None


def _is_of_every_node(name: str) -> bool:
    return name in _OF_EVERY_NODE or name.split('.')[0] in _OF_EVERY_NODE_PREFIXES


def _reason(details: Any, given: Mapping[str, Any]) -> str:
    """Say in one sentence what is wrong with a parameter."""
    if not details['loc']:
        return str(details['ctx']['error'])
    name = str(details['loc'][0])
    if details['type'] == 'extra_forbidden':
        near = difflib.get_close_matches(name, TABLE, n=1)
        return f'parameter {name} is unknown' + (
            f'; did you mean {near[0]}?'
            if near
            else '; those of other nodes belong below the names of these'
        )
    row, value = TABLE[name], given[name]
    if details['type'] == 'literal_error':
        return f'{name} {value!r} is unknown; use {" or ".join(row.choices)}'
    if details['type'] == 'string_pattern_mismatch':
        return f'{name} {value!r} is wrong: {row.description}'
    if details['type'] in ('greater_than_equal', 'less_than_equal') or row.step > 1:
        return f'{name} is {value!r}; it must be {row.range}'
    return f'{name} is {value!r}; it must be of type {row.type.upper()}'


def json_schema() -> dict[str, Any]:
    """Return a JSON schema of parameter files, for editors."""
    rows = NodeParameters.model_json_schema()
    rows.pop('title', None)
    section = {'type': 'object', 'properties': {'ros__parameters': rows}}
    return {
        '$schema': 'https://json-schema.org/draft/2020-12/schema',
        'title': 'Parameters of maskomaly_node',
        'type': 'object',
        'patternProperties': {r'^/?(\*\*?|(.*/)?maskomaly)$': section},
    }


def markdown() -> str:
    """Return the table as it stands in docs/parameters.md."""
    lines = [
        '| parameter | type | default | range | live | meaning |',
        '|---|---|---|---|---|---|',
    ]
    for row in TABLE.values():
        default = 'queries file' if row.default is None else f'`{_yaml(row.default)}`'
        cells = (
            f'`{row.name}`',
            row.type.replace('_array', ' list'),
            default,
            f'{row.range} {row.unit}'.strip(),
            'yes' if row.live else '',
            row.description,
        )
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f'[{", ".join(map(repr, value))}]'
    return repr(value) if value == '' else str(value)
