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

"""`maskomaly benchmark`: where the time of a frame goes, with the plain way of doing it beside."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from maskomaly_ros.cli_common import (
    ERR,
    OUT,
    Checkpoint,
    Device,
    MaybePath,
    MaybeStr,
    Precision,
    Size,
    parse_pair,
    parse_size,
    write,
)
from maskomaly_ros.errors import MaskomalyError

if TYPE_CHECKING:
    from maskomaly_ros.benchmark import Settings

_RANDOM = 'random:'


@dataclass(frozen=True)
class _Case:
    """One row of a suite."""

    checkpoint: str
    frame_size: str  # WIDTHxHEIGHT
    input_size: str | None = None
    batch: int = 1
    precision: str = 'float32'
    backend: str = 'transformers'
    compile: bool = False

    @property
    def name(self) -> str:
        parts = [
            self.checkpoint.replace(_RANDOM, 'random '),
            f'{self.frame_size} frames',
            f'input {self.input_size or "own"}',
            f'batch {self.batch}',
            self.precision,
            self.backend + (' compiled' if self.compile else ''),
        ]
        return ', '.join(parts)


def _official(model: str, precision: str, **options: Any) -> _Case:
    size = {'frame_size': '2048x1024', 'input_size': '1024x2048'} | options
    return _Case(f'{_RANDOM}{model}', precision=precision, **size)


_SUITES = {
    'cpu': (
        _Case('demo', '1280x720'),
        _Case('demo', '1280x720', backend='onnxruntime'),
        _Case('demo', '1280x720', backend='openvino'),
        _Case('demo', '1280x720', batch=4),
    ),
    'gpu': (
        _official('swin-l', 'float32'),
        _official('swin-l', 'float16'),
        _official('swin-l', 'bfloat16'),
        *(_official('swin-l', p, compile=True) for p in ('float32', 'float16', 'bfloat16')),
        _official('swin-l', 'bfloat16', compile=True, batch=4),
        *(
            _official(
                'swin-t',
                p,
                compile=True,
                batch=batch,
                frame_size='1024x512',
                input_size='512x1024',
            )
            for p, batch in (('float16', 1), ('bfloat16', 1), ('bfloat16', 4))
        ),
    ),
}


# Height and width of score maps that each suite measures by themselves.
_SCORED = {'cpu': ((720, 1280),), 'gpu': ((720, 1280), (1024, 2048))}


def benchmark(
    checkpoint: Checkpoint = 'demo',
    frame_size: Annotated[
        str, typer.Option(metavar='WIDTHxHEIGHT', help='Size of the camera frames.')
    ] = '1280x720',
    input_size: Size = None,
    batch: Annotated[int, typer.Option(min=1, help='Frames in a batch: cameras.')] = 1,
    precision: Precision = 'float32',
    backend: Annotated[str, typer.Option(help='What runs the network.')] = 'transformers',
    compile_: Annotated[
        bool, typer.Option('--compile', help='Let torch compile the network.')
    ] = False,
    device: Device = 'auto',
    batches: Annotated[int, typer.Option(min=1, help='Batches to time.')] = 20,
    baseline_batches: Annotated[
        int, typer.Option(min=0, help='Batches to time the plain network with; 0 leaves it out.')
    ] = 5,
    literal_repeats: Annotated[
        int, typer.Option(min=0, help='Runs of the literal algorithm; 0 leaves it out.')
    ] = 2,
    suite: Annotated[
        MaybeStr,
        typer.Option(help='cpu or gpu: all that its targets ask for, instead of one network.'),
    ] = None,
    out: Annotated[
        MaybePath,
        typer.Option(help='JSON file to write; for a suite a folder, which gets a table as well.'),
    ] = None,
) -> None:
    """Measure speed and memory, stage by stage, beside the literal and the plain way.

    CHECKPOINT may be `random:` and the name of a published network, such as `random:swin-l`:
    speed does not depend on the weights.
    """
    from maskomaly_ros.benchmark import Settings

    settings = Settings(batches, batch, baseline_batches, literal_repeats)
    if suite is not None:
        _run_suite(suite, device, settings, out)
        return
    case = _Case(checkpoint, frame_size, input_size, batch, precision, backend, compile_)
    report = {'name': case.name} | _measure(case, device, settings)
    _show(report)
    if out is not None:
        write(out, json.dumps(report, indent=2) + '\n')


def _run_suite(suite: str, device: str, settings: Settings, out: Path | None) -> None:
    if suite not in _SUITES:
        raise MaskomalyError(f'there is no suite {suite!r}; use one of {", ".join(_SUITES)}')
    from dataclasses import replace

    import torch

    from maskomaly_ros.benchmark import benchmark_scoring, machine
    from maskomaly_ros.networks.devices import select_device

    # Without CUDA the figures would be those of another machine than the suite is meant for.
    selected = select_device({'gpu': 'cuda', 'cpu': 'cpu'}[suite] if device == 'auto' else device)
    if selected.type != {'gpu': 'cuda', 'cpu': 'cpu'}[suite]:
        raise MaskomalyError(f'suite {suite} does not run on {selected}')
    reports = []
    for kind, size in itertools.product(('smooth', 'noise'), _SCORED[suite]):
        report = benchmark_scoring(selected, kind, size, settings.literal_repeats or 1)
        report['name'] = f'scoring, {kind} masks, {size[1]}x{size[0]}, 20 + 4 of 100 queries'
        reports.append(report)
        _show(report)
    for case in _SUITES[suite]:
        try:
            report = _measure(case, str(selected), replace(settings, batch=case.batch))
        except (MaskomalyError, RuntimeError) as error:  # one that fails must not cost the others
            report = {'error': str(error)}
        reports.append({'name': case.name} | report)
        _show(reports[-1])
        if selected.type == 'cuda':
            torch.cuda.empty_cache()
    if out is not None:
        whole = {'suite': suite, 'machine': machine(selected), 'reports': reports}
        write(out / f'{suite}.json', json.dumps(whole, indent=2) + '\n')
        write(out / f'{suite}.md', _markdown(whole))
        OUT.print(f'{out / suite}.json and .md', soft_wrap=True, highlight=False)


def _measure(case: _Case, device: str, settings: Settings) -> dict[str, Any]:
    from maskomaly_ros.benchmark import benchmark as measure
    from maskomaly_ros.demo.scenes import Scene
    from maskomaly_ros.detector import Detector, DetectorConfig, find_queries
    from maskomaly_ros.networks import load_network
    from maskomaly_ros.scoring import ScoringParameters

    width, height = parse_pair(case.frame_size, 'frame size', 'WIDTHxHEIGHT')
    options: dict[str, Any] = {
        'device': device,
        'input_size': parse_size(case.input_size) if case.input_size else None,
    }
    chosen: dict[str, Any] = {'backend': case.backend, 'precision': case.precision}
    if case.compile:
        chosen['compile'] = True
    with _checkpoint(case.checkpoint) as checkpoint:
        with ERR.status(f'loading {case.name}'):
            network = load_network(checkpoint, **options, **chosen)
            plain = load_network(checkpoint, **options) if settings.baseline_batches else None
        if case.checkpoint.startswith(_RANDOM):
            # Untrained classes are never confident: without a threshold about as many queries
            # take part as in a trained network.
            scoring = ScoringParameters((0, 1, 2, 3), mask_threshold=0)
            config = DetectorConfig(scoring)
        else:
            queries = find_queries(network, None)
            config = DetectorConfig(queries.scoring_parameters(), queries.obstacle_threshold)
        scene = Scene(0, (height, width))
        frames = [scene.render(0.5 * i).image for i in range(8)]
        with ERR.status(f'measuring {case.name}'):
            return measure(Detector(network, config), plain, frames, settings)


@contextmanager
def _checkpoint(name: str) -> Iterator[str | Path]:
    """Give what load_network takes; random weights last as long as they are needed."""
    if not name.startswith(_RANDOM):
        yield name
        return
    from maskomaly_ros.networks.random_weights import write_random_checkpoint

    with tempfile.TemporaryDirectory(prefix='maskomaly-') as folder:
        model = name.removeprefix(_RANDOM)
        yield write_random_checkpoint(model, Path(folder) / f'random-{model}')


def _show(report: dict[str, Any]) -> None:
    OUT.print(report['name'], style='bold', highlight=False)
    if 'error' in report:
        OUT.print(f'  not measured: {report["error"]}', markup=False, soft_wrap=True)
        return
    for name, ratio in report['ratios'].items():
        OUT.print(f'  {ratio:8.1f} ×  {name}', highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column('milliseconds a batch')
    for column in ('p50', 'p95', 'p99', 'samples'):
        table.add_column(column, justify='right')
    for name, times in _timings(report):
        shown = [f'{1000 * times[key]:.2f}' for key in ('p50', 'p95', 'p99')]
        table.add_row(name, *shown, str(times['samples']))
    OUT.print(table)
    if 'frames_per_second' in report:
        memory = report['memory']
        line = f'  {report["frames_per_second"]:.2f} frames a second; resident memory at most '
        line += f'{memory["resident_peak"] / 1e6:.0f} MB'
        if 'device_peak' in memory:
            line += f', device memory {memory["device_peak"] / 1e6:.0f} MB'
        OUT.print(line, highlight=False)
    if 'agreement_with_float32' in report:
        values = report['agreement_with_float32']
        OUT.print(
            f'  against float32: score error mean {values["score_error_mean"]:.2g}, max '
            f'{values["score_error_max"]:.2g}; mask IoU {values["mask_iou"]:.4f}',
            highlight=False,
        )


def _timings(report: dict[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
    if 'detect' in report:
        yield 'detect (all that a vehicle needs)', report['detect']
        for stage, times in report['stages'].items():
            yield f'  {stage}', times
    if 'scoring' in report:
        yield 'scoring of one frame', report['scoring']['seconds']
    for name, times in report['baselines'].items():
        yield f'baseline {name.replace("_", " ")}', times


def _markdown(whole: dict[str, Any]) -> str:
    machine = whole['machine']
    lines = [
        f'# Suite {whole["suite"]}: {machine["gpu"] or machine["processor"]}',
        '',
        f'{machine["cores"]} CPU cores, {machine["torch_threads"]} threads; '
        + ', '.join(f'{k} {v}' for k, v in machine['versions'].items()),
        '',
        '| what | ratios | detect p50 / p95 ms | frames/s | scoring p50 ms | peak memory MB |',
        '|---|---|---|---|---|---|',
    ]
    for report in whole['reports']:
        if 'error' in report:
            lines.append(f'| {report["name"]} | not measured: {report["error"]} | | | | |')
            continue
        ratios = '; '.join(f'{value:.1f} × {name}' for name, value in report['ratios'].items())
        cells = [report['name'], ratios, '', '', '', '']
        if 'detect' in report:
            detect, memory = report['detect'], report['memory']
            cells[2] = f'{1e3 * detect["p50"]:.1f} / {1e3 * detect["p95"]:.1f}'
            cells[3] = f'{report["frames_per_second"]:.2f}'
            cells[5] = f'{memory.get("device_peak", memory["resident_peak"]) / 1e6:.0f}'
        if 'scoring' in report:
            cells[4] = f'{1e3 * report["scoring"]["seconds"]["p50"]:.2f}'
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'
