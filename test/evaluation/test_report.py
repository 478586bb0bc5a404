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

"""The report of an evaluation: right figures, and a page that works in a real browser."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from maskomaly_ros import html
from maskomaly_ros.cli.main import app
from maskomaly_ros.evaluation.datasets import Dataset
from maskomaly_ros.evaluation.evaluate import best_and_worst, evaluate, score_images
from maskomaly_ros.evaluation.metrics import SemanticResult
from maskomaly_ros.evaluation.ordinary import OrdinaryFrames
from maskomaly_ros.evaluation.report import (
    FALSE_ALARM,
    HIT,
    MISS,
    DatasetReport,
    MethodRow,
    method_table,
    network_facts,
    outcome,
    render_report,
    report_of,
    run_facts,
    semantic_report,
)
from maskomaly_ros.evaluation.results import Evaluation
from maskomaly_ros.evaluation.semantics import SemanticEvaluation
from maskomaly_ros.evaluation.tables import method_rows
from maskomaly_ros.evaluation.traffic import measure_traffic
from maskomaly_ros.queries import Queries
from maskomaly_ros.scoring import ScoringParameters

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

METHODS = ('maskomaly', 'energy')
EVIL = '"><script>window.evil = 1</script>'
QUERIES = Queries(checkpoint='colours', anomalous_queries=(2,), obstacle_threshold=0.4)


def test_best_and_worst_images_are_the_ends_of_one_order() -> None:
    ap = {'a': 0.3, 'none': math.nan, 'b': 0.9, 'c': 0.9, 'd': 0.1, 'e': 0.9}
    assert best_and_worst(ap, 2) == (['b', 'c'], ['d', 'a'])
    assert best_and_worst(ap, 4) == (['b', 'c', 'e'], ['d', 'a'])
    assert best_and_worst(ap, 0) == ([], [])
    assert best_and_worst({'only': 0.5, 'none': math.nan}, 4) == (['only'], [])
    assert best_and_worst({}, 4) == ([], [])


@pytest.fixture
def made(scenes: Callable[..., Dataset], network: Any) -> tuple[Evaluation, Dataset, Any]:
    dataset = scenes(5, without_anomaly=1)
    evaluation = evaluate(network, dataset, QUERIES.scoring_parameters(), METHODS, shots=4)
    return evaluation, dataset, network


def test_report_has_the_figures_curves_and_pictures_of_the_evaluation(
    made: tuple[Evaluation, Dataset, Any],
) -> None:
    evaluation, dataset, network = made
    report = report_of(evaluation, dataset, QUERIES, rows=[], remarks=['x'])
    assert report.main == 'maskomaly'
    assert report.threshold == 0.4
    assert list(report.curves) == list(METHODS)
    assert report.curves['energy'] is evaluation.results['energy'].curve
    assert len(report.images) == 6
    assert math.isnan(report.images['scene5']['maskomaly'].ap)
    ap = {name: figures['maskomaly'].ap for name, figures in report.images.items()}
    assert ([s.name for s in report.best], [s.name for s in report.worst]) == best_and_worst(ap, 4)
    samples = [s for s in dataset.samples if s.name == report.worst[0].name]
    ((_, image, label, scores),) = score_images(
        network, samples, QUERIES.scoring_parameters(), ['maskomaly']
    )
    np.testing.assert_array_equal(report.worst[0].image, image)
    np.testing.assert_array_equal(report.worst[0].label, label)
    np.testing.assert_array_equal(report.worst[0].score, scores['maskomaly'].astype(np.float16))
    assert network.predicted == 7  # once an image, and once here
    assert list(report.notes) == ['x']
    assert not report.warnings
    same = QUERIES.model_copy(update={'provenance': {'dataset': dataset.name}})
    warned = report_of(evaluation, dataset, same, rows=[], remarks=['x'])
    assert 'no test' in warned.warnings[0]


def test_method_without_obstacle_threshold_is_shown_at_its_best(
    scenes: Callable[..., Dataset], network: Any
) -> None:
    dataset = scenes(3)
    for method in ('energy', 'sml'):
        evaluation = evaluate(network, dataset, ScoringParameters(), [method], shots=4)
        report = report_of(evaluation, dataset, QUERIES, rows=[])
        assert report.threshold == evaluation.results[method].pixels.best_f1_threshold
        assert render_report('x', [report], {}).count('<img') == 2 * 3


def test_facts_say_which_weights_and_parameters(network: Any) -> None:
    facts = network_facts(network, QUERIES)
    assert facts['SHA-256 of the weights'] == network.sha256
    assert facts['anomalous queries'] == '2'
    assert 'λ 0.6' in facts['parameters']
    assert facts['calibrated on'] == 'nothing that is known'


def test_table_marks_the_best_measured_and_never_a_quoted_row() -> None:
    rows = [
        MethodRow('ours', {'AP': 0.5, 'FPR95': 0.2, 'threshold': 0.123456, 'PPV': 0.0}),
        MethodRow('same', {'AP': 0.500001, 'FPR95': 0.3, 'threshold': 0.9}),
        MethodRow('none', {'AP': math.nan, 'FPR95': 0.9, 'PPV': 0.0}),
        MethodRow('worse', {'AP': 0.1, 'PPV': 0.0}),
        MethodRow('theirs', {'AP': 0.932, 'FPR95': 0.01}, source='paper, table 1'),
    ]
    text = method_table(rows, 'x')
    assert text.count('<strong>50.00</strong>') == 2
    assert text.count('<strong>20.00</strong>') == 1
    assert text.count('<strong>') == 3
    assert '0.1235' in text
    assert 'title="paper, table 1"' in text
    assert '<tr class="quoted">' in text


def test_outcome_shows_hits_misses_and_false_alarms() -> None:
    frame = np.full((1, 4, 3), 100, np.uint8)
    mask = np.array([[255, 0, 255, 255]], np.uint8)
    label = np.array([[1, 1, 0, 255]], np.uint8)
    (pixels,) = outcome(frame, mask, label)
    for pixel, color in zip(pixels, (HIT, MISS, FALSE_ALARM), strict=False):
        np.testing.assert_allclose(pixel, 40 + 0.6 * np.array(color), atol=1)
    assert pixels[3].tolist() == [33, 33, 33]


@pytest.fixture
def page(tmp_path: Path, made: tuple[Evaluation, Dataset, Any], traffic: OrdinaryFrames) -> Path:
    evaluation, dataset, network = made
    evaluation = replace(evaluation, best=evaluation.best[:2], worst=evaluation.worst[:2])
    rows = [
        MethodRow(f'Other {EVIL}', {'AP': 0.9}, f'paper {EVIL}'),
    ]
    found = measure_traffic(
        network, [traffic], QUERIES.scoring_parameters(), METHODS, 0.4, shots=2
    )
    evaluation = replace(
        evaluation,
        results=evaluate(
            network, dataset, QUERIES.scoring_parameters(), METHODS, traffic=found
        ).results,
    )
    report = report_of(
        evaluation, dataset, QUERIES, rows=[*method_rows(evaluation), *rows],
        warnings=[f'calibrated here {EVIL}'], facts={'layout': EVIL}, traffic=found,
    )  # fmt: skip
    report.skipped[f'broken {EVIL}'] = EVIL  # type: ignore[index]
    other = DatasetReport(f'only a table {EVIL}', [MethodRow('a', {'AP': math.nan})])
    facts = {'checkpoint': EVIL, **run_facts()}
    path = tmp_path / 'report.html'
    html.write(path, render_report(f'Evaluation {EVIL}', [report, other], facts, found))
    return path


def test_page_works_in_a_browser(browser: Chrome, page: Path) -> None:
    browser.get_log('browser')
    browser.get(page.as_uri())
    assert browser.get_log('browser') == []
    assert browser.execute_script('return window.evil') is None
    requests = browser.execute_script(
        'return performance.getEntriesByType("resource").map((entry) => entry.name)'
    )
    assert [name for name in requests if not name.startswith('data:')] == []
    pictures = browser.find_elements('css selector', '.picture img')
    assert len(pictures) == 2 * 4 + 2
    assert all(picture.get_property('naturalWidth') == 64 for picture in pictures)
    for series in METHODS:
        lines = [
            group
            for group in browser.find_elements('css selector', 'svg [data-series]')
            if group.get_attribute('data-series') == series
        ]
        assert len(lines) == 2
        assert all(line.size['width'] > 100 for line in lines)
    body = browser.find_element('css selector', 'body').text
    for text in (
        'calibrated here',
        'quoted',
        'Worst',
        'Best',
        'only a table',
        'Python 3',
        '1 skipped',
        'Ordinary frames',
        'false obstacle',
        'pooled AP',
    ):
        assert text in body


def test_images_can_be_sorted_and_filtered_and_curves_hidden(
    browser: Chrome, page: Path, made: tuple[Evaluation, Dataset, Any]
) -> None:
    images = {each.name: each.figures for each in made[0].per_image}
    browser.get(page.as_uri())
    table = next(
        t
        for t in browser.find_elements('css selector', 'table')
        if t.get_attribute('aria-label') == 'images'
    )

    def names() -> list[str]:
        rows = table.find_elements('css selector', 'tbody tr')
        return [row.find_element('css selector', 'th').text for row in rows if row.is_displayed()]

    known = {name: figures['maskomaly'].ap for name, figures in images.items()}
    order = sorted(list(known)[:5], key=lambda name: known[name])
    ap = table.find_elements('css selector', 'thead button')[1]
    browser.execute_script('arguments[0].scrollIntoView({block: "center"})', ap)
    ap.click()
    ap.click()
    assert names() == [*order, 'scene5']  # missing values come last
    table.find_element('xpath', './ancestor::div[@class="table"]//input').send_keys('scene3')
    assert names() == ['scene3']
    box = browser.find_elements('css selector', '.legend input')[1]
    assert box.get_attribute('data-toggles') == METHODS[1]
    box.click()
    series = browser.find_elements('css selector', 'svg [data-series], tr[data-series]')
    shown = {e.get_attribute('data-series'): e.is_displayed() for e in series}
    assert shown == {METHODS[0]: True, METHODS[1]: False, 'a': True}


def test_command_writes_a_report_of_networks_and_of_score_files(
    scenes: Callable[..., Dataset],
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, 'argv', ['/bin/maskomaly', 'evaluate', '--dataset', 'x'])
    scenes(2)
    path = tmp_path / 'new' / 'report.html'
    common = ['evaluate', '--dataset', f'plain:{tmp_path}', '--checkpoint', str(tiny_checkpoint)]
    run = CliRunner().invoke(app, [*common, '--components', '--report', str(path)])
    assert run.exit_code == 0, run.output
    text = path.read_text(encoding='utf-8')
    assert text.count('<img') == 2 * 2
    assert 'mean F1' in text
    assert 'maskomaly evaluate --dataset x' in text
    scores = tmp_path / 'scores'
    run = CliRunner().invoke(app, [*common, '--methods', 'reject', '--save-scores', str(scores)])
    assert run.exit_code == 0, run.output
    run = CliRunner().invoke(
        app,
        [*common[:3], '--methods', 'none', '--report', str(path), '--scores', f'other={scores}'],
    )
    assert run.exit_code == 0, run.output
    text = path.read_text(encoding='utf-8')
    assert 'Evaluation of score files' in text
    assert text.count('<img') == 2 * 2
    (tmp_path / 'file').touch()
    run = CliRunner().invoke(app, [*common, '--report', str(tmp_path / 'file' / 'report.html')])
    assert run.exit_code == 1
    assert 'cannot make folder' in run.output


def test_semantic_figures_are_facts() -> None:
    result = SemanticResult((0.5, math.nan), 0.5, 0.75)
    report = semantic_report(SemanticEvaluation('city', 3, {}, ('road', 'sky'), result))
    assert report.facts['mean IoU'] == '50.00 %'
    assert report.facts['IoU of sky'] == 'not in the labels'
    assert '50.00' in render_report('x', [report], {})
