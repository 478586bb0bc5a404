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

"""Tables of parameters: what a row is, how values are checked against it, how it is printed.

A table is a pydantic model whose fields are made by `row`; types are as strict as those of ROS.
"""

from __future__ import annotations

import difflib
import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from pydantic.fields import FieldInfo

from maskomaly_ros.errors import MaskomalyError

# What every node of ROS has besides its own.
_OF_EVERY_NODE = ('use_sim_time', 'start_type_description_service')
_OF_EVERY_NODE_PREFIXES = ('qos_overrides',)


def _double(value: Any) -> Any:
    """Refuse 1 where 1.0 is meant, as ROS does, and what is no number."""
    if type(value) is not float or not math.isfinite(value):
        raise ValueError('a floating-point number, such as 1.0')
    return value


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


def row(description: str, default: Any, *, pattern: str | None = None, **more: Any) -> Any:
    """Return a row; one whose default is None takes the value calibrated for the checkpoint."""
    field = Field(default, description=description, pattern=pattern, validate_default=False)
    field.metadata.append(_More(**more))
    return field


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


@cache
def rows_of(model: type[BaseModel]) -> Mapping[str, Row]:
    """Return the rows of a table by name."""
    return {name: _read_row(name, field) for name, field in model.model_fields.items()}


def check_values(values: Mapping[str, Any], model: type[BaseModel]) -> None:
    """Refuse parameters that are unknown, of a wrong type, out of range, or do not fit together.

    Args:
        values: by name; None stands for unset. Tuples are taken for lists.
        model: whose fields are made by `row`.

    Raises:
        MaskomalyError: names every parameter that is wrong, with what it may be.

    """
    given = {
        name: list(value) if isinstance(value, tuple | array) else value  # array: of a message
        for name, value in values.items()
        if value is not None and not _is_of_every_node(name)
    }
    table = rows_of(model)
    try:
        model.model_validate(given)
    except ValidationError as error:
        reasons = dict.fromkeys(_reason(details, given, table) for details in error.errors())
        raise MaskomalyError('; '.join(reasons)) from None


def _is_of_every_node(name: str) -> bool:
    return name in _OF_EVERY_NODE or name.split('.')[0] in _OF_EVERY_NODE_PREFIXES


def _reason(details: Any, given: Mapping[str, Any], table: Mapping[str, Row]) -> str:
    """Say in one sentence what is wrong with a parameter."""
    if not details['loc']:
        return str(details['ctx']['error'])
    name = str(details['loc'][0])
    if details['type'] == 'extra_forbidden':
        near = difflib.get_close_matches(name, table, n=1)
        return f'parameter {name} is unknown' + (
            f'; did you mean {near[0]}?'
            if near
            else '; those of other nodes belong below the names of these'
        )
    entry, value = table[name], given[name]
    if details['type'] == 'literal_error':
        return f'{name} {value!r} is unknown; use {" or ".join(entry.choices)}'
    if details['type'] == 'string_pattern_mismatch':
        return f'{name} {value!r} is wrong: {entry.description}'
    if details['type'] in ('greater_than_equal', 'less_than_equal') or entry.step > 1:
        return f'{name} is {value!r}; it must be {entry.range}'
    return f'{name} is {value!r}; it must be of type {entry.type.upper()}'


def rows_markdown(table: Mapping[str, Row]) -> str:
    """Return a table of parameters in Markdown."""
    lines = [
        '| parameter | type | default | range | live | meaning |',
        '|---|---|---|---|---|---|',
    ]
    for entry in table.values():
        default = 'queries file' if entry.default is None else f'`{_yaml(entry.default)}`'
        cells = (
            f'`{entry.name}`',
            entry.type.replace('_array', ' list'),
            default,
            f'{entry.range} {entry.unit}'.strip(),
            'yes' if entry.live else '',
            entry.description,
        )
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f'[{", ".join(map(repr, value))}]'
    return repr(value) if value == '' else str(value)
