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

"""The parameters of the event recorder: one table, as the node has one, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.parameter_rows import (
    Double,
    Fraction,
    Row,
    Seconds,
    Text,
    check_values,
    row,
    rows_of,
)
from maskomaly_ros.topics import DEFAULT_CAMERA, absolute_topic, camera_info_topic, outputs_of

if TYPE_CHECKING:
    from typing_extensions import Self

NODE_NAME = 'maskomaly_event_recorder'
_MEGABYTE = 10**6
Megabytes = Annotated[int, Field(ge=0, le=100_000_000)]
# In patterns of `topics`: of each camera, its pictures, calibration, and where results of it are.
_PLACES = ('{camera}', '{camera_info}', '{anomaly}')


class RecorderParameters(BaseModel):
    """Every parameter of the event recorder."""

    model_config = ConfigDict(extra='forbid', strict=True)

    camera_topics: list[str] = row(
        'Image topics whose obstacles are followed, as those of maskomaly_node.',
        [DEFAULT_CAMERA],
    )
    topics: list[str] = row(
        'Topics to record: names, or patterns with * and ?. For each camera, {camera} is its '
        'topic, {camera_info} its calibration, and {anomaly} where its results are.',
        [
            '{camera}',
            '{camera_info}',
            '{anomaly}/mask',
            '{anomaly}/heatmap',
            '{anomaly}/obstacles',
            '{anomaly}/points',
            '/tf',
            '/tf_static',
            '/diagnostics',
        ],
    )
    types: list[str] = row(
        'Types to record, such as nav_msgs/msg/Odometry, whatever the topic.',
        [],
    )
    exclude: list[str] = row(
        'Names or patterns of topics that are not recorded, whatever the others say.',
        [],
    )
    folder: Text = row(
        'Folder of the recordings; it is made, and ~ is the home of the user.',
        '~/maskomaly_events',
    )
    pre_roll: Seconds = row(
        'Seconds before the trigger that are recorded.',
        10.0,
        unit='s',
    )
    post_roll: Seconds = row(
        'Seconds after the last trigger that are recorded.',
        5.0,
        unit='s',
    )
    max_length: Annotated[Double, Field(ge=0.1, le=36000.0)] = row(
        'Seconds that a recording may have, however many events follow each other.',
        60.0,
        unit='s',
    )
    max_memory: Annotated[int, Field(ge=1, le=1_000_000)] = row(
        'Memory in MB that messages may take; the oldest ones go first.',
        1000,
        unit='MB',
    )
    compression: Literal['none', 'zstd'] = row(
        'How bags are compressed; zstd pays for raw pictures, masks and heatmaps.',
        'none',
    )
    obstacle_source: Literal['auto', 'obstacles', 'mask', 'none'] = row(
        'What obstacles are read from: the topic obstacles, the topics mask and heatmap, or '
        'nothing; auto is obstacles where vision_msgs is installed.',
        'auto',
    )
    minimum_seconds: list[Seconds] = row(
        'Seconds for which an obstacle must be followed; one value, or one for each camera.',
        [0.5],
        unit='s',
    )
    minimum_score: list[Fraction] = row(
        'Score from which an obstacle counts; one value, or one for each camera.',
        [0.0],
    )
    minimum_area: list[Annotated[int, Field(ge=0, le=2147483647)]] = row(
        'Area from which an obstacle counts; one value, or one for each camera.',
        [0],
        unit='px',
    )
    maximum_range: list[Annotated[Double, Field(ge=0.0, le=1000.0)]] = row(
        'Range up to which an obstacle counts where its place is known; 0: any. One value, or one '
        'for each camera.',
        [0.0],
        unit='m',
    )
    patience: Seconds = row(
        'Seconds for which an obstacle may be out of sight, or out of the limits.',
        1.0,
        unit='s',
    )
    trigger_topics: list[str] = row(
        'Topics of std_msgs/Bool (true fires) or std_msgs/Empty that start a recording.',
        [],
    )
    condition: str = row(
        'Function, as module:name, that sees messages and returns why to record; empty for none.',
        '',
        pattern=r'^([A-Za-z_][\w.]*:[A-Za-z_]\w*)?$',
        read_only=True,
    )
    condition_topics: list[str] = row(
        'Names or patterns of the recorded topics whose messages that function sees.',
        [],
    )
    novelty_threshold: Fraction = row(
        'Distance, 0 to 1, from all that is kept from which an obstacle is new; 0 records all.',
        0.2,
    )
    max_image_pixels: Annotated[int, Field(ge=1, le=1_000_000_000)] = row(
        'Larger pictures are not looked at; they are recorded all the same.',
        33554432,
        unit='px',
    )
    max_disk: Megabytes = row(
        'Space in MB for recordings; the least interesting ones are deleted first. 0: any.',
        20000,
        unit='MB',
    )
    keep_free: Megabytes = row(
        'Space in MB that is left free on the disk.',
        2000,
        unit='MB',
    )
    max_events_per_hour: Annotated[int, Field(ge=0, le=100_000)] = row(
        'Recordings an hour that obstacles and conditions may start; 0: any number.',
        60,
    )
    autostart: bool = row(
        'Configure and activate when the process starts.',
        True,
        read_only=True,
    )

    @model_validator(mode='after')
    def _fit_together(self) -> Self:
        if self.pre_roll + self.post_roll > self.max_length:
            raise ValueError(
                f'max_length {self.max_length} is below pre_roll {self.pre_roll} and post_roll '
                f'{self.post_roll} together: give a longer one'
            )
        cameras = len(self.camera_topics)
        for name in ('minimum_seconds', 'minimum_score', 'minimum_area', 'maximum_range'):
            count = len(getattr(self, name))
            if count not in (1, cameras):
                raise ValueError(
                    f'{name} has {count} values for {cameras} camera topics: give one, or one '
                    'for each'
                )
        for pattern in self.topics:
            for part in pattern.split('{')[1:]:
                if '{' + part.partition('}')[0] + '}' not in _PLACES:
                    raise ValueError(
                        f'topics has {pattern!r}: what stands in braces must be one of '
                        f'{", ".join(_PLACES)}'
                    )
        return self


TABLE: Mapping[str, Row] = rows_of(RecorderParameters)


def check(values: Mapping[str, Any]) -> None:
    """Refuse parameters as `parameter_table.check` does those of the node."""
    check_values(values, RecorderParameters)


@dataclass(frozen=True)
class Limits:
    """What an obstacle of one camera must be like to count.

    Attributes:
        seconds: for which it must be followed.
        score: least score.
        area: least area, in pixels.
        range: largest range where it is known, in metres; 0 for any.

    """

    seconds: float = 0.5
    score: float = 0.0
    area: int = 0
    range: float = 0.0


@dataclass(frozen=True)
class Settings:
    """What the parameters amount to.

    Attributes:
        cameras: topics, resolved.
        limits: of each camera.
        topics: patterns of names to record.
        types: to record.
        exclude: patterns of names not to record.
        folder: of the recordings.
        pre_roll: seconds.
        post_roll: seconds.
        max_length: seconds.
        max_memory: bytes.
        compresses: whether bags are compressed.
        obstacle_source: see `RecorderParameters`.
        patience: seconds.
        trigger_topics: resolved.
        condition: `module:name`, or empty.
        condition_topics: patterns of names.
        novelty_threshold: 0 for none.
        max_image_pixels: larger pictures are not decoded.
        max_disk: bytes; 0 for any.
        keep_free: bytes.
        max_events_per_hour: 0 for any.

    """

    cameras: tuple[str, ...]
    limits: Mapping[str, Limits]
    topics: tuple[str, ...]
    types: frozenset[str]
    exclude: tuple[str, ...]
    folder: Path
    pre_roll: float = 10.0
    post_roll: float = 5.0
    max_length: float = 60.0
    max_memory: int = 10**9
    compresses: bool = False
    obstacle_source: str = 'obstacles'
    patience: float = 1.0
    trigger_topics: tuple[str, ...] = ()
    condition: str = ''
    condition_topics: tuple[str, ...] = ()
    novelty_threshold: float = 0.0
    max_image_pixels: int = 2**25
    max_disk: int = 0
    keep_free: int = 0
    max_events_per_hour: int = 0

    def records(self, topic: str, msgtype: str) -> bool:
        """Say whether a topic of a type is to be recorded."""
        if any(fnmatchcase(topic, pattern) for pattern in self.exclude):
            return False
        return msgtype in self.types or any(fnmatchcase(topic, p) for p in self.topics)

    def shows_condition(self, topic: str) -> bool:
        """Say whether the condition sees messages of a topic."""
        return any(fnmatchcase(topic, pattern) for pattern in self.condition_topics)


def settings_of(
    values: Mapping[str, Any],
    cameras: Sequence[str] | None = None,
    trigger_topics: Sequence[str] | None = None,
) -> Settings:
    """Return what values of all parameters amount to.

    Args:
        values: by name, as ROS or a file has them.
        cameras: topics as they are after remapping; None takes them as they are written.
        trigger_topics: likewise.

    Raises:
        MaskomalyError: a value is wrong.

    """
    check(values)
    names = tuple(cameras or map(absolute_topic, values['camera_topics'] or ()))
    if not names:
        raise MaskomalyError('camera_topics is empty; name at least one image topic')
    columns = [
        list(values[name]) * (len(names) if len(values[name]) == 1 else 1)
        for name in ('minimum_seconds', 'minimum_score', 'minimum_area', 'maximum_range')
    ]
    patterns = dict.fromkeys(
        pattern.replace('{camera}', camera)
        .replace('{camera_info}', camera_info_topic(camera))
        .replace('{anomaly}', outputs_of(camera))
        for pattern in values['topics'] or ()
        for camera in names
    )
    return Settings(
        cameras=names,
        limits={
            camera: Limits(*each)
            for camera, each in zip(names, zip(*columns, strict=True), strict=True)
        },
        topics=tuple(map(absolute_topic, patterns)),
        types=frozenset(values['types'] or ()),
        exclude=tuple(map(absolute_topic, values['exclude'] or ())),
        folder=Path(values['folder']).expanduser(),
        pre_roll=values['pre_roll'],
        post_roll=values['post_roll'],
        max_length=values['max_length'],
        max_memory=values['max_memory'] * _MEGABYTE,
        compresses=values['compression'] == 'zstd',
        obstacle_source=values['obstacle_source'],
        patience=values['patience'],
        trigger_topics=tuple(
            trigger_topics or map(absolute_topic, values['trigger_topics'] or ())
        ),
        condition=values['condition'],
        condition_topics=tuple(map(absolute_topic, values['condition_topics'] or ())),
        novelty_threshold=values['novelty_threshold'],
        max_image_pixels=values['max_image_pixels'],
        max_disk=values['max_disk'] * _MEGABYTE,
        keep_free=values['keep_free'] * _MEGABYTE,
        max_events_per_hour=values['max_events_per_hour'],
    )
