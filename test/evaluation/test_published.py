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

"""Figures of others beside ours: marked, never the best, and only where they belong."""

from __future__ import annotations

import pytest

from maskomaly_ros.evaluation import published as module
from maskomaly_ros.evaluation.datasets import LAYOUTS
from maskomaly_ros.evaluation.evaluate import evaluate
from maskomaly_ros.evaluation.published import published
from maskomaly_ros.evaluation.tables import markdown, method_rows, tables_of
from maskomaly_ros.queries import Queries
from maskomaly_ros.scoring import ScoringParameters

PARAMETERS = ScoringParameters((2,))


def test_all_published_figures_are_fractions_of_known_metrics_of_known_layouts(network, scenes):
    result = evaluate(network, scenes(2), PARAMETERS, ['maskomaly'], components=True)
    metrics = set(method_rows(result)[0].figures)
    assert set(module._entries()) <= set(LAYOUTS)
    for layout in module._entries():
        entry = published(layout)
        assert entry is not None
        assert entry.data
        assert entry.source
        for name, figures in entry.rows.items():
            assert set(figures) <= metrics, name
            assert all(0 <= value < 1 for value in figures.values()), name
    assert published('anomaly_track').rows['Maskomaly']['AP'] == pytest.approx(0.9335)


def test_tables_of_the_paper_are_quoted_and_nothing_at_second_hand() -> None:
    road = published('road_anomaly').rows
    assert road['Maskomaly'] == pytest.approx(
        {'AP': 0.709, 'FPR95': 0.119, 'AuROC': 0.955, 'MDM 0.6': 0.671, 'MDM 0.7': 0.359}
    )
    assert road['Maskomaly (reject + borders)']['AP'] == pytest.approx(0.455)
    assert published('street_hazards').rows['Maskomaly']['AuROC'] == pytest.approx(0.917)
    assert published('fishyscapes_static').rows['Maskomaly']['AP'] == pytest.approx(0.695)
    assert published('anomaly_track').rows['Maskomaly †']['mean F1'] == pytest.approx(0.5)
    assert not [e for e in module._entries().values() if 'second hand' in e['source']]


def test_rows_of_others_are_marked_and_never_bold(network, scenes):
    result = evaluate(network, scenes(2), PARAMETERS, ['maskomaly', 'eam', 'rba'])
    plain = markdown(tables_of(result, Queries(checkpoint='x'))[0])
    assert 'quoted' not in plain
    object.__setattr__(result, 'layout', 'anomaly_track')
    text = markdown(tables_of(result, Queries(checkpoint='x'))[0])
    (row,) = [line for line in text.splitlines() if line.startswith('| *Maskomaly (quoted)*')]
    assert row == '| *Maskomaly (quoted)* | *93.35* | *6.87* | - | *88.01* | - | - | - | - |'
    assert 'leaderboard of segmentmeifyoucan.com' in text
    ours = [line for line in text.splitlines() if '**' in line]
    assert ours == [line for line in plain.splitlines() if '**' in line]

    rows = method_rows(result)
    assert [row.name for row in rows if not row.source] == ['maskomaly', 'eam', 'rba']
    quoted = {row.name: row for row in rows if row.source}
    assert quoted['Maskomaly'].figures == pytest.approx(
        {'AP': 0.9335, 'FPR95': 0.0687, 'best F1': 0.8801}
    )
    assert 'labels are not public' in quoted['Maskomaly'].source
