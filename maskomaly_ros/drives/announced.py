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

"""What a bag says that it holds: its metadata or index, and the numbers of split files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path, PurePath
from typing import Any, cast

import yaml


@dataclass(frozen=True)
class Announced:
    """What a bag says that it holds.

    Attributes:
        counts: messages by topic and type.
        missing: names of files that belong to it and are not there.
        files: messages by name of the file.

    """

    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    files: dict[str, int] = field(default_factory=dict)

    def at_least(self, connections: Iterable[Any]) -> dict[tuple[str, str], int]:
        """Return messages by topic and type: what is announced, or what a reader has counted.

        Args:
            connections: of the reader (`rosbags.interfaces.Connection`).

        """
        counts: Counter[tuple[str, str]] = Counter()
        for connection in connections:
            counts[connection.topic, connection.msgtype] += connection.msgcount
        return {name: max(count, self.counts.get(name, 0)) for name, count in counts.items()}


def read_announced(path: Path, files: Sequence[Path]) -> Announced:
    """Return what a bag says that it holds, in ROS 2 by its metadata, in ROS 1 by its index.

    That is nothing where these are missing or damaged.

    Args:
        path: of the bag.
        files: its storage files that are there.

    """
    if any(file.suffix == '.bag' for file in files):
        return Announced(_indexed(files), _gaps(files))
    try:
        information: Any = yaml.safe_load((path / 'metadata.yaml').read_text(encoding='utf-8'))
        information = information['rosbag2_bagfile_information']
        names = [PurePath(name).name for name in information['relative_file_paths']]
        counts: dict[tuple[str, str], int] = {}
        for topic in information['topics_with_message_count']:
            metadata, count = topic['topic_metadata'], topic['message_count']
            if _is_count(count):
                counts[str(metadata['name']), str(metadata['type'])] = count
        in_files = {
            PurePath(part['path']).name: part['message_count']
            for part in information.get('files') or ()
            if _is_count(part['message_count'])
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return Announced({}, _gaps(files))
    return Announced(counts, tuple(n for n in names if not (path / n).exists()), in_files)


def _is_count(number: object) -> bool:
    return isinstance(number, int) and 0 < number < 2**40


def _indexed(files: Iterable[Path]) -> dict[tuple[str, str], int]:
    from maskomaly_ros.drives.storage.items import Topic
    from maskomaly_ros.drives.storage.records import ERRORS
    from maskomaly_ros.drives.storage.ros1 import read_ros1

    counts: Counter[tuple[str, str]] = Counter()
    for file in files:
        if file.suffix == '.bag':
            with suppress(*ERRORS, OSError), file.open('rb') as stream:
                topics = takewhile(lambda item: isinstance(item, Topic), read_ros1(stream))
                for topic in cast('Iterator[Any]', topics):
                    counts[topic.topic, topic.msgtype] += topic.announced
    return dict(counts)


def _gaps(files: Iterable[Path]) -> tuple[str, ...]:
    """Return what is missing between the first and the last of numbered files."""
    numbers: dict[tuple[str, str], set[int]] = {}
    for file in files:
        match = re.fullmatch(r'(.*_)(\d{1,6})(\.\D.*)', file.name)
        if match:
            numbers.setdefault((match[1], match[3]), set()).add(int(match[2]))
    return tuple(
        f'{start}{number}{end}'
        for (start, end), found in numbers.items()
        if len(found) > 1 and max(found) - min(found) < 10 * len(found)
        for number in range(min(found), max(found))
        if number not in found
    )
