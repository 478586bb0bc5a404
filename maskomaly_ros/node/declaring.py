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

"""Rows of a table of parameters as ROS declares them."""

from __future__ import annotations

from collections.abc import Mapping

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.parameter import Parameter

from maskomaly_ros.parameter_rows import Row


def descriptor(row: Row) -> ParameterDescriptor:
    """Return a row of the table in the form that ROS takes."""
    found = ParameterDescriptor(description=row.description, read_only=row.read_only)
    if row.choices:
        found.additional_constraints = f'one of: {", ".join(row.choices)}'
    if row.needs_loading:
        found.additional_constraints += ' (only while the node is unconfigured)'
    if row.limits and row.type == 'double':
        low, high = row.limits
        found.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    elif row.limits:
        first, last = map(int, row.limits)
        step = row.step if row.step > 1 else 0
        found.integer_range = [IntegerRange(from_value=first, to_value=last, step=step)]
    return found


def parameter_type(row: Row) -> Parameter.Type:
    """Return the type of a row."""
    return Parameter.Type[row.type.upper()]


def type_empty_lists(parameters: list[Parameter], table: Mapping[str, Row]) -> list[Parameter]:
    """Give an empty list the type of its parameter: `ros2 param set` cannot tell it."""
    return [
        Parameter(p.name, parameter_type(table[p.name]), [])
        if p.name in table
        and table[p.name].type.endswith('_array')
        and p.type_.name.endswith('_ARRAY')
        and len(p.value) == 0
        else p
        for p in parameters
    ]
