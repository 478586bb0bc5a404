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
"""YAML files that somebody else may have written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from maskomaly_ros.errors import MaskomalyError

_MOST_BYTES = 1 << 18
_MERGE = 'tag:yaml.org,2002:merge'


class PlainLoader(yaml.SafeLoader):
    """A safe loader without aliases and merge keys: by them a few lines can stand for billions."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse a value that stands elsewhere."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None,
                None,
                'aliases (*) are not supported',
                self.peek_event().start_mark,  # type: ignore[no-untyped-call]
            )
        return super().compose_node(parent, index)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse a mapping that merges others into itself."""
        for key, _ in node.value:
            if key.tag == _MERGE:
                raise yaml.constructor.ConstructorError(
                    None, None, 'merge keys (<<) are not supported', key.start_mark
                )


class ParameterLoader(PlainLoader):
    """A loader to which 1e-3 is a number, as to YAML 1.2 and ROS; to PyYAML it is a text.

    It takes the lists of launch_ros, which writes those of a launch file as Python's tuples.
    """


def _list(loader: ParameterLoader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


ParameterLoader.add_constructor('tag:yaml.org,2002:python/tuple', _list)
ParameterLoader.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile(r'[-+]?[0-9]+[eE][-+]?[0-9]+$'), list('-+0123456789')
)


def read_yaml(path: Path, what: str, loader: type[PlainLoader] = PlainLoader) -> dict[Any, Any]:
    """Read a file that holds a mapping.

    Args:
        path: the file, of 256 KiB at most.
        what: what to call it in messages, such as `queries file`.
        loader: knows the tags that the file may have.

    Raises:
        OSError: the file cannot be read.
        MaskomalyError: it is too large, no YAML, or no mapping.

    """
    with path.open('rb') as stream:
        data = stream.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise MaskomalyError(f'{what} {path} is larger than {_MOST_BYTES} bytes')
    try:
        content = yaml.load(data.decode(), loader)  # noqa: S506 (a safe one, by its type)
    except Exception as error:  # a scalar that is none of its kind raises whatever it happens to
        raise MaskomalyError(f'{what} {path} is not YAML: {error!s:.500}') from error
    if not isinstance(content, dict):
        raise MaskomalyError(f'{what} {path} holds no mapping of names to values')
    return content
