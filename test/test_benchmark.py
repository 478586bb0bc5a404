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

"""The benchmark: its baselines compute the right thing, its report holds what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from literal_scoring import read_reference
from typer.testing import CliRunner

from maskomaly_ros import cli_benchmark
from maskomaly_ros.benchmark import (
    STAGES,
    Settings,
    benchmark,
    benchmark_scoring,
    invented_masks,
    literal_score,
)
from maskomaly_ros.cli import app
from maskomaly_ros.detector import Detector, DetectorConfig
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import MaskPrediction, load_network
from maskomaly_ros.networks.random_weights import write_random_checkpoint
from maskomaly_ros.scoring import ScoringParameters, select_queries

FRAMES = [np.random.default_rng(i).integers(0, 256, (60, 90, 3), np.uint8) for i in range(2)]


@pytest.mark.parametrize('name', ['paper_defaults', 'odd_size'])
def test_literal_baseline_computes_the_reference_score(shared: Path, name: str) -> None:
    masks, classes, size, parameters, reference, clear = read_reference(shared, name)
    extent = (float(masks.shape[1]), float(masks.shape[2]))
    prediction = MaskPrediction(masks[None], classes[None], size, extent)
    score = literal_score(prediction, parameters)
    assert score.dtype == np.float32
    np.testing.assert_allclose(score[clear], reference['score'][clear], atol=1e-5)


@pytest.mark.parametrize('kind', ['smooth', 'noise'])
def test_invented_masks_take_part_as_promised(kind: str) -> None:
    masks, classes, parameters = invented_masks(kind, (96, 160))
    (selection,) = select_queries(classes, parameters)
    assert masks.shape == (100, 24, 40)
    assert sorted(selection.inlier) == list(range(20))
    assert sorted(selection.anomalous) == [20, 21, 22, 23]
    assert min(selection.anomalous.values()) > 0.3


@pytest.mark.parametrize('kind', ['smooth', 'noise'])
def test_scoring_is_measured_where_it_is_right(kind: str) -> None:
    report = benchmark_scoring(torch.device('cpu'), kind, (96, 160), repeats=1)
    assert report['scoring']['largest_difference_from_literal'] < 0.5  # borders may differ
    assert report['scoring']['pixels_that_differ_by_more_than_1e-5'] <= 2
    assert set(report['ratios']) == {
        'scoring: literal / this',
        'scoring: literal / this, processor time',
        'scoring: torch form / this',
    }


@pytest.fixture(scope='module')
def report(tiny_checkpoint: Path) -> dict:
    network = load_network(tiny_checkpoint, device='cpu')
    detector = Detector(network, DetectorConfig(ScoringParameters((0,), mask_threshold=0)))
    return benchmark(detector, network, FRAMES, Settings(2, 2, 1, 1))


def test_report_has_every_stage_and_both_baselines_and_is_json(report: dict) -> None:
    assert next(iter(report)) == 'ratios'
    assert tuple(report['stages']) == STAGES
    for times in (*report['stages'].values(), report['detect']):
        assert 0 <= times['p50'] <= times['p95'] <= times['p99']
        assert times['samples'] == 2
    assert set(report['baselines']) >= {'transformers_float32_eager', 'literal_algorithm_1'}
    assert len(report['ratios']) == 4
    assert report['frames_per_second'] > 0
    assert report['memory']['resident_peak'] > 10e6
    assert report['machine']['cores'] >= 1
    assert json.loads(json.dumps(report)) == report


def test_a_network_agrees_with_itself(report: dict) -> None:
    assert report['agreement_with_float32'] == {
        'score_error_mean': 0,
        'score_error_max': 0,
        'mask_iou': 1,
    }


def test_baselines_can_be_left_out(tiny_checkpoint: Path) -> None:
    network = load_network(tiny_checkpoint, device='cpu')
    report = benchmark(Detector(network), None, FRAMES[:1], Settings(1, 1, 0, 0))
    assert report['baselines'] == {}
    assert report['ratios'] == {}


def test_command_writes_json_and_prints_ratios_first(tiny_checkpoint: Path, tmp_path) -> None:
    out = tmp_path / 'new' / 'report.json'
    options = f'--checkpoint {tiny_checkpoint} --device cpu --frame-size 96x64 --out {out}'
    few = '--batches 1 --baseline-batches 1 --literal-repeats 1'
    result = CliRunner().invoke(app, ['benchmark', *options.split(), *few.split()])
    assert result.exit_code == 0, result.output
    assert result.output.index('×') < result.output.index('p50')
    report = json.loads(out.read_text())
    assert list(report)[:2] == ['name', 'ratios']


@pytest.mark.skipif(torch.cuda.is_available(), reason='a CUDA device is here')
def test_suite_for_gpus_refuses_a_machine_without() -> None:
    result = CliRunner().invoke(app, ['benchmark', '--suite', 'gpu'])
    assert result.exit_code == 1
    assert 'CUDA' in result.output


def test_suite_writes_json_and_a_table_and_survives_what_fails(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = (
        cli_benchmark._Case(str(tiny_checkpoint), '96x64', batch=2),
        cli_benchmark._Case(str(tmp_path / 'nothing'), '96x64'),
    )
    monkeypatch.setitem(cli_benchmark._SUITES, 'cpu', cases)
    monkeypatch.setattr(cli_benchmark, '_SCORED', {'cpu': ((96, 160),)})
    few = ['--batches', '1', '--baseline-batches', '1', '--literal-repeats', '1']
    result = CliRunner().invoke(app, ['benchmark', '--suite', 'cpu', '--out', str(tmp_path), *few])
    assert result.exit_code == 0, result.output
    reports = json.loads((tmp_path / 'cpu.json').read_text())['reports']
    assert [('error' in report) for report in reports] == [False, False, False, True]
    rows = [line for line in (tmp_path / 'cpu.md').read_text().splitlines() if line[:1] == '|']
    assert len(rows) == 2 + 4
    assert {row.count('|') for row in rows} == {7}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--suite', 'tpu'], "no suite 'tpu'; use one of cpu, gpu"),
        (['--frame-size', '1280'], "frame size '1280' is not WIDTHxHEIGHT"),
        (['--checkpoint', 'random:vit'], "no network 'vit'"),
    ],
)
def test_what_cannot_be_measured_is_named(options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ['benchmark', '--device', 'cpu', *options])
    assert result.exit_code == 1
    assert message in ' '.join(result.output.split())


def test_random_weights_are_a_checkpoint_of_the_published_shape(tmp_path: Path) -> None:
    folder = write_random_checkpoint('swin-t', tmp_path / 'random-swin-t')
    network = load_network(folder, device='cpu')
    assert network.num_queries == 100
    assert len(network.class_names) == 19
    with pytest.raises(MaskomalyError, match="no network 'swin-x'"):
        write_random_checkpoint('swin-x', tmp_path / 'other')
