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

"""Figures: what is drawn is what was measured, and files are what they are called."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation import plots
from maskomaly_ros.evaluation.metrics import Curve, PixelMetrics

pytest.importorskip('matplotlib')


def curve_of(scores: np.ndarray, labels: np.ndarray) -> Curve:
    metrics = PixelMetrics()
    metrics.update(scores.reshape(1, -1), labels.reshape(1, -1))
    return metrics.counts.curve()


@pytest.fixture
def curves() -> dict[str, Curve]:
    rng = np.random.default_rng(1)
    labels = (rng.random(20000) < 0.1).astype(np.uint8)
    return {
        f'method {index} & <more>': curve_of(rng.random(20000) + labels * index / 8, labels)
        for index in range(10)
    }


def area(x: np.ndarray, y: np.ndarray) -> float:
    """Return the area below steps that go on to the left of each point."""
    return float(np.sum(np.diff(x) * y[1:]))


def test_area_below_the_drawn_curves_is_what_the_metrics_say(curves: dict[str, Curve]) -> None:
    (axes,) = plots.precision_recall(curves).axes
    for (name, curve), line in zip(curves.items(), axes.lines, strict=False):
        x, y = line.get_data()
        assert line.get_label() == name
        assert line.get_drawstyle() == 'steps-pre'
        assert len(x) < 2000
        assert area(x, y) == pytest.approx(curve.average_precision(), abs=0.005)
    (axes,) = plots.roc(curves).axes
    for curve, line in zip(curves.values(), axes.lines, strict=False):
        x, y = line.get_data()
        found = float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
        assert found == pytest.approx(curve.auroc(), abs=0.005)


def test_every_series_has_a_style_of_its_own() -> None:
    styles = [str(plots.series_style(index)) for index in range(32)]
    assert len(set(styles)) == 32


@given(arrays(np.float64, st.integers(1, 50), elements=st.floats(0, 1)))
def test_what_is_thinned_out_lies_on_the_point_before(values: np.ndarray) -> None:
    x = np.sort(values)
    kept = plots.thin(x, x[::-1])
    assert kept[0] == 0
    assert kept[-1] == len(x) - 1
    before = kept[np.searchsorted(kept, np.arange(len(x)), side='right') - 1]
    assert np.abs(x[before] - x).max() <= 0.002
    assert np.abs(x[::-1][before] - x[::-1]).max() <= 0.002


def test_files_are_pictures_and_the_same_every_time(
    curves: dict[str, Curve], tmp_path: Path
) -> None:
    png, svg = plots.save(plots.roc(curves), tmp_path / 'new' / 'roc')
    image = cv2.imread(str(png))
    assert image.shape == (750, 900, 3)
    assert image[0, 0].tolist() == [255, 255, 255]
    assert ElementTree.parse(svg).getroot().tag.endswith('svg')
    _, again = plots.save(plots.roc(curves), tmp_path / 'again')
    assert again.read_bytes() == svg.read_bytes()
    (tmp_path / 'file').touch()
    with pytest.raises(MaskomalyError, match='cannot write'):
        plots.save(plots.roc(curves), tmp_path / 'file' / 'roc')


def test_part_of_a_page_takes_its_colour_and_names_its_series(curves: dict[str, Curve]) -> None:
    text = plots.inline(plots.roc(curves, with_legend=False), 'ROC "curves"')
    root = ElementTree.fromstring(text)
    assert root.get('aria-label') == 'ROC "curves"'
    assert 'currentColor' in text
    assert '#1c2430' not in text
    named = [e.get('data-series') for e in root.iter() if e.get('data-series')]
    assert named == list(curves)


def test_histogram_counts_every_query_and_names_those_in_use() -> None:
    values = {'a': np.array([0.0, 0.0, 0.31, 0.8]), 'b': np.array([0.1])}
    figure = plots.query_iou_histogram(values, 0.25, {'a': (2,)})
    for axes, known in zip(figure.axes, values.values(), strict=True):
        assert sum(bar.get_height() for bar in axes.patches) == len(known)  # type: ignore[attr-defined]
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts == ['T_IoU = 0.25', 'query 2', 'T_IoU = 0.25']


def test_labels_of_the_histogram_do_not_overlap() -> None:
    random = np.random.default_rng(0)
    values = {name: random.uniform(0, 0.05, 100) for name in 'ab'}
    used = {name: tuple(range(12)) for name in 'ab'}
    for known in values.values():
        known[:12] = (0.0, 0.01, 0.2, 0.21, 0.23, 0.26, 0.28, 0.3, 0.33, 0.36, 0.95, 0.99)
    figure = plots.query_iou_histogram(values, 0.25, used)
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in (*axes.texts, axes.title, axes._left_title)]  # type: ignore[attr-defined]
        assert len(axes.texts) > 8
        for number, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[number + 1 :])
        assert all(box.x0 >= axes.bbox.x0 and box.x1 <= axes.bbox.x1 for box in boxes[:-2])


def test_lack_of_matplotlib_is_said_with_the_remedy(
    curves: dict[str, Curve], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    with pytest.raises(MaskomalyError, match='pip install'):
        plots.roc(curves)
