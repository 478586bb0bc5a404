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

"""The cameras of a rosbag by its metadata alone: without reading it, and without rosbags.

A launch file runs in the Python of the ROS distribution, which has PyYAML and rosbag2_py, and not
in the environment of this package.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.topics import is_compressed, outputs_of

_IMAGES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
_MOST_BYTES = 64 * 2**20  # of a metadata.yaml; those of long recordings have a few hundred KB


def camera_topics(bag: Path) -> list[str]:
    """Return the image topics of a bag, one for each camera, raw before compressed.

    Args:
        bag: its folder, or its only file.

    Raises:
        MaskomalyError: it has no image topic, or its metadata cannot be read.

    """
    topics = _topics_of_folder(bag) if bag.is_dir() else _topics_of_file(bag)
    images = [name for name, kind in topics if kind in _IMAGES]
    chosen: dict[str, str] = {}
    for name in sorted(images, key=is_compressed):
        if '/anomaly/' not in name and not name.endswith('/compressedDepth'):
            chosen.setdefault(outputs_of(name), name)
    if not chosen:
        held = ', '.join(f'{name} ({kind})' for name, kind in topics) or 'nothing'
        raise MaskomalyError(f'the bag {bag} has no image topic of a camera; it holds {held}')
    return sorted(chosen.values(), key=images.index)


def _topics_of_folder(bag: Path) -> list[tuple[str, str]]:
    file = bag / 'metadata.yaml'
    try:
        with file.open(encoding='utf-8') as stream:
            text = stream.read(_MOST_BYTES)
        content = yaml.safe_load(text)
        entries = content['rosbag2_bagfile_information']['topics_with_message_count']
        return _named(entry['topic_metadata'] for entry in entries)
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError) as error:
        raise MaskomalyError(
            f'cannot read the topics of the bag in {file}: {error}. '
            'Try `ros2 bag reindex`, or give camera_topics'
        ) from error


def _topics_of_file(bag: Path) -> list[tuple[str, str]]:
    try:
        from rosbag2_py import Info

        entries = Info().read_metadata(str(bag), '').topics_with_message_count
    except Exception as error:  # not installed, or of a kind that depends on the storage
        raise MaskomalyError(
            f'cannot read the topics of the bag {bag}: {error}. Give camera_topics'
        ) from error
    return _named(_fields_of(entry.topic_metadata) for entry in entries)


def _fields_of(metadata: Any) -> dict[str, str]:
    """Return name and type of a topic as rosbag2_py has them."""
    return {'name': metadata.name, 'type': metadata.type}


def _named(entries: Iterable[Any]) -> list[tuple[str, str]]:
    return [(str(entry['name']), str(entry['type'])) for entry in entries]
