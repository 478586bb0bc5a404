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

"""Messages of packages that need not be installed are those that are published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from maskomaly_ros import interfaces

PUBLISHED = Path(__file__).parent / 'data' / 'messages'


def types_of(definitions: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in definitions.items():
        found |= get_types_from_msg(text, name)
    return found


def test_definitions_are_as_published() -> None:
    """Field by field, constant by constant, in their order."""
    published = {
        f'{path.parent.name}/msg/{path.stem}': path.read_text()
        for path in PUBLISHED.glob('*_msgs/*.msg')
    }
    assert types_of(interfaces.DEFINITIONS) == types_of(published)


def test_constants_in_use_are_those_of_the_definition() -> None:
    found, _ = types_of(interfaces.DEFINITIONS)['foxglove_msgs/msg/PointsAnnotation']
    constants = {name: value for name, _, value in found}
    assert constants['LINE_LOOP'] == interfaces._LINE_LOOP


def test_what_refers_to_others_comes_with_them() -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    mine = types_of(interfaces.DEFINITIONS)
    store.register({n: t for n, t in mine.items() if n not in store.types})
    for name in interfaces.DEFINITIONS:
        text, _ = store.generate_msgdef(name, ros_version=2)
        assert text
