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
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from literal_scoring import read_reference
from typer.testing import CliRunner

from maskomaly_ros import benchmark_suite as suites
from maskomaly_ros.benchmark import (
    STAGES,
    Settings,
    benchmark,
    benchmark_scoring,
    invented_masks,
    literal_score,
)
from maskomaly_ros.cli.main import app
from maskomaly_ros.detector import Detector, DetectorConfig
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import MaskPrediction, load_network
from maskomaly_ros.networks.random_weights import write_random_checkpoint
from maskomaly_ros.scoring import ScoringParameters, select_queries

FRAMES = [np.random.default_rng(i).integers(0, 256, (60, 90, 3), np.uint8) for i in range(2)]


@pytest.mark.parametrize('name', ['paper_defaults', 'odd_size'])
def test_literal_baseline_computes_the_reference_score(name: str) -> None:
    masks, classes, size, parameters, reference, clear = read_reference(name)
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
    return benchmark(detector, lambda: network, FRAMES, Settings(2, 2, 1, 1))


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
        'violations': [],
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
    """The suite for GPUs, on a processor and with tiny networks; each row in its own process."""
    one, *_, four = suites.SUITES['gpu']
    tiny = {'checkpoint': str(tiny_checkpoint), 'frame_size': (96, 64), 'input_size': (64, 96)}
    cases = (
        replace(one, **tiny, compile=False),
        replace(one, **tiny | {'checkpoint': str(tmp_path / 'nothing | here')}),
        replace(four, **tiny, compile=False),
    )
    monkeypatch.setitem(suites.SUITES, 'gpu', cases)
    monkeypatch.setitem(suites._DEVICES, 'gpu', 'cpu')
    monkeypatch.setitem(suites._SCORED, 'gpu', ((96, 160),))
    monkeypatch.setattr(suites, 'benchmark_scoring', fail_on('noise'))
    monkeypatch.chdir(tmp_path)
    few = ['--batches', '1', '--baseline-batches', '1', '--literal-repeats', '1']
    result = CliRunner().invoke(app, ['benchmark', '--suite', 'gpu', *few])
    assert result.exit_code == 0, result.output
    (folder,) = (tmp_path / 'benchmarks' / 'results').iterdir()
    content = json.loads((folder / 'gpu.json').read_text())
    assert content['complete']
    errors = [report.get('error', '') for report in content['reports']]
    assert errors[:2] == ['', 'RuntimeError: out of memory']
    assert 'nothing | here' in errors[3]
    assert errors[2::2] == ['', '']
    assert 'agreement_with_float32' in content['reports'][2]
    assert content['reports'][2]['memory']['resident_peak'] > 0
    rows = [line for line in (folder / 'gpu.md').read_text().splitlines() if line[:1] == '|']
    assert [row.count('|') for row in rows] == [4] * (2 + 6) + [8] * (2 + 5)


def fail_on(wrong: str) -> Callable[..., dict[str, Any]]:
    def measure(device: torch.device, kind: str, *others: Any) -> dict[str, Any]:
        if kind == wrong:
            raise RuntimeError('out of memory\nand a long explanation')
        return benchmark_scoring(device, kind, *others)

    return measure


class Ends:
    """Calls a function in the process that it is sent to."""

    def __init__(self, function: Callable[..., Any], argument: int) -> None:
        self.call = function, (argument,)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ('case', 'seconds', 'message'),
    [(Ends(os._exit, 7), 120, 'ended with status 7'), (Ends(time.sleep, 600), 0.1, 'not done')],
    ids=['crashes', 'hangs'],
)
def test_a_row_in_trouble_is_an_error(
    case: Any, seconds: float, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suites, '_ROW_SECONDS', seconds)
    report = suites._measure_apart(case, 'cpu', Settings(), Path())
    assert message in report['error']


def test_targets_are_met_or_missed_or_not_measured() -> None:
    def row(case: Any, seconds: float, ratio: float) -> dict[str, Any]:
        ratios = {'network: transformers float32 eager / this': ratio}
        times = {'detect': {'p50': seconds}, 'frames_per_second': 1 / seconds}
        return {'name': case.name, 'ratios': ratios} | times

    large, small = suites._SWIN_L, suites._SWIN_T
    windows = suites._EOMT_L
    score = {'name': suites._scoring_name('smooth', (720, 1280))}
    reports = [
        score | {'ratios': {}, 'scoring': {'kernel_seconds': 2e-4}},
        row(large('bfloat16'), 0.018, 3.0),
        row(large('float16'), 0.021, 4.5),
        row(large('bfloat16', batch=4), 0.072, 4.0),
        {'name': small('float16').name, 'error': 'out of memory'},
        row(windows('bfloat16'), 0.011, 3.0),
    ]
    targets = suites._targets('gpu', reports)
    assert [target['reached'] for target in targets] == [True, True, None, False, True, True]
    assert targets[0]['measured'] == pytest.approx(18)
    assert targets[3]['measured'] == pytest.approx(4)
    known = {case.name for case in suites.SUITES['gpu']}
    assert {report['name'] for report in reports[1:]} <= known


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
