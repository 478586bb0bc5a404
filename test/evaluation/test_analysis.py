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

"""The studies of queries, on a network whose answers are known."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from maskomaly_ros.cli.main import app
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.analysis import (
    Answers,
    MaskedPixels,
    prepare,
    scores_by_count,
    study,
    write_studies,
)
from maskomaly_ros.evaluation.calibration import calibrate, query_iou
from maskomaly_ros.evaluation.datasets import Dataset, open_dataset
from maskomaly_ros.evaluation.evaluate import evaluate
from maskomaly_ros.evaluation.ordinary import OrdinaryFrames
from maskomaly_ros.networks import MaskPrediction
from maskomaly_ros.networks.prediction import resize_maps
from maskomaly_ros.scoring import ScoringParameters, Variant, score_map

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PARAMETERS = ScoringParameters(anomalous_queries=(2,))
METHODS = ('maskomaly', 'baseline')


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


def test_specialised_is_who_is_sure_of_one_class_in_nearly_all_cases() -> None:
    """Section 3.2 of the paper: one class, probability at least 1 - ε, in over T_query of them."""
    road, car, void = 0, 1, 2
    cases = 100
    answers = np.full((cases, 6), void)
    probabilities = np.full((cases, 6), 0.95, np.float32)
    answers[:, 0] = road  # sure, always
    answers[:, 1] = road
    probabilities[:50, 1] = 0.85  # always the same, but unsure in half of the cases
    answers[:90, 2] = road  # in exactly T_query of them
    answers[:91, 3] = car  # in just over T_query of them
    answers[:60, 4], answers[60:, 4] = road, car  # sure, of two classes
    found = Answers(('road', 'car', 'void'), answers, probabilities)  # query 5: void, always
    assert found.images == cases
    assert found.favourite.tolist() == [0, 0, 0, 1, 0, 0]
    np.testing.assert_allclose(found.purity, [1, 1, 1, 1, 0.6, math.nan])
    np.testing.assert_allclose(found.active, [1, 1, 0.9, 0.91, 1, 0])
    np.testing.assert_allclose(found.sure(0.1), [1, 0.5, 0.9, 0.91, 0.6, 0])
    assert found.specialised().tolist() == [True, False, False, True, False, False]
    assert found.specialised(0.9, 0.2).tolist() == [True, True, False, True, False, False]
    assert found.specialised(0.5, 0.1).tolist() == [True, False, True, True, True, False]


def test_queries_are_ranked_on_one_set_and_measured_on_another(
    scenes: Callable[..., Dataset], network: Any, tmp_path: Path
) -> None:
    dataset = scenes(3)
    same = study(network, dataset, PARAMETERS, methods=METHODS)
    for folder in ('images', 'labels'):
        (tmp_path / 'other' / folder).mkdir(parents=True)
        for path in sorted((tmp_path / folder).iterdir())[:2]:
            shutil.copy(path, tmp_path / 'other' / folder)
    other = open_dataset(f'plain:{tmp_path / "other"}')
    apart = study(network, dataset, PARAMETERS, methods=METHODS, rank_on=other)
    assert same.anomalies is not None
    assert apart.anomalies is not None
    expected = study(network, other, PARAMETERS, methods=METHODS).anomalies
    assert expected is not None
    np.testing.assert_array_equal(apart.anomalies.mean_iou, expected.mean_iou)
    of_apart, of_same = (x.anomalies.methods['maskomaly'] for x in (apart, same))
    assert of_apart.pixels == of_same.pixels
    assert (same.anomalies.ranked_on, apart.anomalies.ranked_on) == ('', other.name)
    pytest.importorskip('matplotlib')
    for found, sentence in ((same, 'is no test'), (apart, 'on other images')):
        written = write_studies([found], dataset.name, tmp_path / sentence[:5])
        assert sentence in written.page.read_text(encoding='utf-8')


def test_pixels_in_inlier_masks_are_those_of_the_definition() -> None:
    torch.manual_seed(4)
    prediction = MaskPrediction(
        3 * torch.randn(1, 5, 12, 16), 4 * torch.randn(1, 5, 4), (40, 60), (11.5, 15.0)
    )
    label = np.random.default_rng(1).choice(np.array([0, 1, 255], np.uint8), (40, 60))
    parameters = ScoringParameters(ground_queries=(1,), mask_threshold=0.7)
    probabilities = prediction.class_logits[0].softmax(-1)
    inlier = {n for n, p in enumerate(probabilities) if p.argmax() < 3 and p.max() >= 0.7} | {1}
    masks = resize_maps(prediction.mask_logits, (40, 60), (11.5, 15.0))[0]
    inside = np.isin(masks.argmax(0).numpy(), list(inlier))
    found = MaskedPixels.of(prediction, label, parameters)
    assert (found.known, found.anomalous) == ((label == 0).sum(), (label == 1).sum())
    assert found.known_masked == inside[label == 0].sum()
    assert found.anomalous_masked == inside[label == 1].sum()
    iou = query_iou(prediction, label, 'argmax')
    for query in range(5):
        mask = (masks.argmax(0).numpy() == query) & (label != 255)
        union = (mask | (label == 1)).sum()
        assert iou[query] == pytest.approx((mask & (label == 1)).sum() / union)


@pytest.mark.parametrize('variant', get_args(Variant))
@pytest.mark.parametrize('weight', [0.0, 0.6, 1.0])
def test_score_of_every_number_of_queries_is_that_of_the_definition(
    variant: Any, weight: float
) -> None:
    torch.manual_seed(3)
    prediction = MaskPrediction(
        3 * torch.randn(1, 7, 12, 16), 2 * torch.randn(1, 7, 4), (40, 60), (11.5, 15.0)
    )
    parameters = ScoringParameters.for_variant(
        variant, anomalous_queries=(6,), ground_queries=(1,), reject_weight=weight
    )
    queries = [5, 0, 3]
    found = list(scores_by_count(prediction, parameters, queries))
    assert len(found) == 4
    for count, score in enumerate(found):
        expected = score_map(
            prediction.mask_logits[0],
            prediction.class_logits[0],
            prediction.frame_size,
            replace(parameters, anomalous_queries=tuple(queries[:count])),
            extent=prediction.extent,
        )
        np.testing.assert_allclose(score, expected.numpy(), atol=1e-6)


def test_study_agrees_with_calibration_and_evaluation(
    scenes: Callable[..., Dataset], network: Any
) -> None:
    dataset = scenes(4, without_anomaly=1)
    found = study(network, dataset, PARAMETERS, methods=METHODS, most_queries=2)
    assert network.predicted == 5  # once an image, though there are several passes
    assert found.images == 5
    shares = found.answers.shares
    assert shares[0, 0] == shares[1, 5] == shares[2, -1] == shares[3, -1] == 1
    assert found.answers.specialised().tolist() == [True, True, False, False]
    assert found.anomalies is not None
    ranking = calibrate(network, dataset).provenance['ranking']
    assert [row['query'] for row in ranking] == list(found.anomalies.ranking)
    for row in ranking:
        assert found.anomalies.mean_iou[row['query']] == pytest.approx(row['mean_iou'], abs=1e-4)
    evaluation = evaluate(network, dataset, PARAMETERS, METHODS)
    for method in METHODS:
        assert found.anomalies.methods[method].pixels == evaluation.results[method].pixels
    assert len(found.anomalies.by_count) == 3
    one = replace(PARAMETERS, anomalous_queries=found.anomalies.ranking[:1])
    expected = evaluate(network, dataset, one, ['maskomaly']).results['maskomaly'].pixels
    assert found.anomalies.by_count[1].ap == pytest.approx(expected.ap, abs=1e-6)


def test_outputs_are_kept_and_used_again(
    scenes: Callable[..., Dataset], network: Any, tmp_path: Path
) -> None:
    dataset = scenes(3)
    first = study(network, dataset, PARAMETERS, methods=METHODS, cache=tmp_path / 'cache')
    again = study(network, dataset, PARAMETERS, methods=METHODS, cache=tmp_path / 'cache')
    assert network.predicted == 3
    assert first.anomalies is not None
    assert again.anomalies is not None
    assert first.anomalies.by_count == again.anomalies.by_count


def test_data_set_with_classes_serves_the_first_study_alone(network: Any, tmp_path: Path) -> None:
    for folder in ('images', 'labels'):
        (tmp_path / folder).mkdir()
    image = np.zeros((48, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'images' / 'a.png'), image)
    cv2.imwrite(str(tmp_path / 'labels' / 'a.png'), image[..., 0])
    dataset = open_dataset(f'camvid:{tmp_path}')
    found = study(network, dataset, PARAMETERS)
    assert found.anomalies is None
    written = write_studies([found], dataset.name, tmp_path / 'out')
    assert {path.name for path in written.files} == {
        'analysis.html',
        'specialisation.csv',
        'specialisation_colours.png',
        'specialisation_colours.svg',
        'specialised_queries.png',
        'specialised_queries.svg',
    }


def test_images_without_any_anomaly_are_refused(
    scenes: Callable[..., Dataset], network: Any
) -> None:
    with pytest.raises(MaskomalyError, match=r'no image of .* has an anomaly'):
        study(network, scenes(0, without_anomaly=2), PARAMETERS)


def test_wrong_methods_are_refused_before_the_network_runs(
    scenes: Callable[..., Dataset], network: Any
) -> None:
    with pytest.raises(MaskomalyError, match="'magic' is none of"):
        study(network, scenes(1), PARAMETERS, methods=['magic'])
    assert network.predicted == 0


def test_folder_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(MaskomalyError, match='cannot write to folder'):
        prepare(tmp_path / 'file' / 'out')


def test_files_of_two_checkpoints(
    browser: Chrome, scenes: Callable[..., Dataset], network: Any, tmp_path: Path
) -> None:
    pytest.importorskip('matplotlib')
    dataset = scenes(3)
    first = study(network, dataset, PARAMETERS, methods=METHODS)
    network.name, network.greedy = 'other/<b>', True
    other = study(network, dataset, PARAMETERS, methods=METHODS)
    with pytest.raises(MaskomalyError, match='one name'):
        write_studies([first, first], dataset.name, tmp_path / 'out')
    written = write_studies([first, other], dataset.name, tmp_path / 'out', facts={'a': 'b'})
    assert {p.name for p in (tmp_path / 'out').iterdir()} == {p.name for p in written.files}
    for path in written.files:
        if path.suffix == '.png':
            assert cv2.imread(str(path)).std() > 1, path

    ious = rows_of(tmp_path / 'out' / 'query_iou.csv')
    assert [row['checkpoint'] for row in ious] == ['colours'] * 4 + ['other/<b>'] * 4
    assert first.anomalies is not None
    for row in ious[:4]:
        known = first.anomalies.mean_iou[int(row['query'])]
        assert float(row['mean_iou']) == pytest.approx(known, rel=1e-4)
        assert row['anomalous'] == str(int(row['query'] == '2'))
    counts = rows_of(tmp_path / 'out' / 'query_count.csv')
    assert [row['anomalous_queries'] for row in counts[:5]] == ['0', '1', '2', '3', '4']
    assert counts[0]['added'] == ''
    assert counts[1]['added'] == ious[0]['query']
    ranges = rows_of(tmp_path / 'out' / 'iou_ranges.csv')
    assert sum(int(row['queries']) for row in ranges if row['checkpoint'] == 'colours') == 4
    shares = rows_of(tmp_path / 'out' / 'inlier_masks.csv')
    assert [row['pixels'] for row in shares] == ['inlier', 'outlier'] * 2
    specialised = rows_of(tmp_path / 'out' / 'specialisation.csv')
    assert [row['specialised'] for row in specialised[:4]] == ['1', '1', '0', '0']
    assert specialised[3]['share_of_class'] == ''
    curves = rows_of(tmp_path / 'out' / 'curves_other__b_.csv')
    assert {row['method'] for row in curves} == set(METHODS)

    browser.get_log('browser')
    browser.get(written.page.as_uri())
    assert browser.get_log('browser') == []
    figures = browser.find_elements('css selector', 'figure.card > svg')
    assert len(figures) == 2 + 1 + 1 + 1 + 2 * 2
    assert all(figure.size['width'] > 200 for figure in figures)
    assert len(browser.find_elements('css selector', 'details table')) == 7


def test_command_on_a_real_network(
    scenes: Callable[..., Dataset], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    pytest.importorskip('matplotlib')
    scenes(2)
    (tmp_path / 'images' / 'broken.png').write_bytes(b'no image')
    (tmp_path / 'labels' / 'broken.png').write_bytes(b'no image')
    common = ['analyse', '--dataset', f'plain:{tmp_path}', '--checkpoint', str(tiny_checkpoint)]
    out = tmp_path / 'new' / 'out'
    figures = tmp_path / 'summary.json'
    options = ['--out', str(out), '--most-queries', '2', '--json', str(figures)]
    run = CliRunner().invoke(app, [*common, *options])
    assert run.exit_code == 3, run.output  # for the broken image
    summary = json.loads(figures.read_text())
    assert list(summary['checkpoints']) == ['tiny']
    assert summary['page'] == str(out / 'analysis.html') in summary['files']
    assert all(line in run.output for line in summary['summary'])
    assert 'tiny: ' in run.output
    assert 'analysis.html' in run.output
    assert (out / 'analysis.html').is_file()
    assert len(rows_of(out / 'query_count.csv')) == 3
    for more, message in (
        (['--queries', 'a.yaml', '--queries', 'b.yaml'], '2 queries files for 1 checkpoints'),
        (['--checkpoint', str(tiny_checkpoint)], 'given twice'),
    ):
        run = CliRunner().invoke(app, [*common, '--out', str(out), *more])
        assert run.exit_code == 1
        assert message in ' '.join(run.output.split())


def test_ordinary_frames_are_a_study_of_their_own(
    scenes: Callable[..., Dataset], network: Any, traffic: OrdinaryFrames, tmp_path: Path
) -> None:
    pytest.importorskip('matplotlib')
    dataset, network.greedy = scenes(3), True
    found = study(
        network, dataset, replace(PARAMETERS, anomalous_queries=(2, 3)), methods=METHODS,
        most_queries=1, ordinary=[traffic], threshold=0.5,
    )  # fmt: skip
    assert network.predicted == 6
    assert found.traffic is not None
    assert found.anomalies is not None
    at = found.anomalies.methods['maskomaly'].at_threshold
    assert at is not None
    written = write_studies([found], dataset.name, tmp_path / 'out')
    (row,) = rows_of(tmp_path / 'out' / 'ordinary_colours.csv')
    a_frame = found.traffic.found.a_frame
    assert float(row['false_obstacles_a_frame']) == pytest.approx(a_frame, rel=1e-5)
    curve = rows_of(tmp_path / 'out' / 'recall_colours.csv')
    assert len(curve) == 50
    assert float(curve[25]['recall']) == pytest.approx(at.recall, rel=1e-5)
    assert (tmp_path / 'out' / 'recall_colours.png').is_file()
    assert any('false obstacles a frame on 3 ordinary frames' in line for line in written.summary)
    assert any('With the pixels of ordinary frames' in line for line in written.summary)
    assert 'Ordinary frames: colours' in written.page.read_text(encoding='utf-8')
