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

"""Figures that others published, to be shown beside those that are measured here."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskomaly_ros.yaml_files import read_yaml


@dataclass(frozen=True)
class Published:
    """Published figures on one kind of data set.

    Attributes:
        data: which images they are of.
        source: where they were read.
        rows: figures of each method by name of the metric, as fractions.

    """

    data: str
    source: str
    rows: dict[str, dict[str, float]]


def published(layout: str) -> Published | None:
    """Return what was published on data sets of a layout, or None."""
    entry = _entries().get(layout)
    if entry is None:
        return None
    rows = {
        row['name']: {name: value / 100 for name, value in row.items() if name != 'name'}
        for row in entry['rows']
    }
    return Published(entry['data'], entry['source'], rows)


@functools.cache
def _entries() -> dict[Any, Any]:
    return read_yaml(Path(__file__).with_name('published.yaml'), 'list of published figures')
