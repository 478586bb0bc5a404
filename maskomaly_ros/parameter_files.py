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

"""ROS 2 parameter files: which of their sections are for a node. Imports next to nothing."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.yaml_files import ParameterLoader, read_yaml

NODE_NAME = 'maskomaly'


def read_section(path: str | Path, name: str = NODE_NAME) -> dict[str, Any]:
    """Return the parameters that a file has for a node.

    Args:
        path: of the file.
        name: of the node: with its namespace, such as `/car/maskomaly`; or without, where any
            namespace will do.

    Raises:
        MaskomalyError: the file cannot be read, or has no parameters for the node.

    """
    try:
        content = read_yaml(Path(path), 'parameter file', ParameterLoader)
    except OSError as error:
        raise MaskomalyError(f'cannot read the parameter file {path}: {error}') from error
    sections = list(_sections(content, ''))
    found: dict[str, Any] = {}
    for pattern, parameters in sections:
        if _is_for(pattern, name):
            found |= parameters
    if not found:
        names = ', '.join(pattern for pattern, _ in sections) or 'no ros__parameters'
        raise MaskomalyError(
            f'{path} has no parameters for the node {name}; it has {names}. '
            'Write them below /**: and ros__parameters:'
        )
    return found


def check_arguments(arguments: Sequence[str], name: str = NODE_NAME) -> None:
    """Refuse files among the arguments of a process that have nothing for its node.

    Without this a node starts with all defaults, which is not what its user wrote a file for.

    Args:
        arguments: of the process, with `--params-file FILE`, `-r __ns:=/car` and the like.
        name: of the node, unless they say otherwise.

    Raises:
        MaskomalyError: see `read_section`.

    """
    namespace, files = '', []
    for option, value in itertools.pairwise(arguments):
        if option == '--params-file':
            files.append(value)
        elif option in ('-r', '--remap'):
            key, _, new = value.partition(':=')
            if key.rpartition(':')[2] in ('__node', '__name'):
                name = new
            elif key.rpartition(':')[2] == '__ns':
                namespace = new.rstrip('/')
    for file in files:
        read_section(file, f'{namespace}/{name}')


def _is_for(pattern: str, name: str) -> bool:
    """Say whether a section is for a node; * stands for one part of its name, ** for any."""
    if '/' not in name:
        return pattern.rpartition('/')[2] in ('*', '**', name)
    parts = {'*': r'/\w+', '**': r'(/\w+)*'}
    regex = ''.join(parts.get(part, '/' + re.escape(part)) for part in pattern.split('/')[1:])
    return re.fullmatch(regex, name) is not None


def _sections(content: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the full name of each node in a parameter file, and its parameters."""
    if not isinstance(content, dict):
        return
    for key, value in content.items():
        if key == 'ros__parameters' and isinstance(value, dict):
            yield name, value
        else:
            yield from _sections(value, f'{name}/{str(key).strip("/")}')
