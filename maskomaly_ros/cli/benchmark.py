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
import multiprocessing
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from maskomaly_ros.cli.common import (
    ERR,
    OUT,
    Checkpoint,
    Device,
    MaybeInt,
    MaybePath,
    MaybeStr,
    Precision,
    Size,
    parse_pair,
    parse_size,
    write,
)
from maskomaly_ros.errors import MaskomalyError, in_words

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from maskomaly_ros.benchmark import Settings

_RANDOM = 'random:'
_MIXED = ('float16', 'bfloat16')
_NETWORK_RATIO = 'network: transformers float32 eager / this'
_ANSWERS = {True: 'reached', False: 'missed', None: 'not measured'}


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


_SWIN_L = partial(_official, 'swin-l', compile=True)
_SWIN_T = partial(_official, 'swin-t', compile=True, frame_size='1024x512', input_size='512x1024')
# Two windows of 1024 x 1024 for frames of 16:9.
_EOMT_L = partial(_official, 'eomt-l', compile=True, frame_size='1280x720', input_size=None)
# What matters most comes first: a run may be cut short.
_SUITES = {
    'cpu': (
        _Case('demo', '1280x720'),
        _Case('demo', '1280x720', precision='bfloat16'),
        _Case('demo', '1280x720', backend='onnxruntime'),
        _Case('demo', '1280x720', backend='openvino'),
        _Case('demo', '1280x720', backend='openvino', precision='bfloat16'),
        _Case('demo', '1280x720', batch=4),
        _Case('demo', '1280x720', compile=True),
    ),
    'gpu': (
        _SWIN_L('bfloat16'),
        _EOMT_L('bfloat16'),
        _SWIN_T('float16'),
        _EOMT_L('float16'),
        _SWIN_L('float16'),
        _SWIN_L('bfloat16', batch=4),
        _SWIN_T('bfloat16'),
        _official('swin-l', 'float32'),
        _official('swin-l', 'bfloat16'),
        _official('swin-l', 'float16'),
        _SWIN_L('float32'),
        _EOMT_L('bfloat16', batch=4),
        _EOMT_L('float32'),
        _official('eomt-l', 'float32', frame_size='1280x720', input_size=None),
        _SWIN_T('bfloat16', batch=4),
    ),
}
_DEVICES = {'cpu': 'cpu', 'gpu': 'cuda'}
# Height and width of score maps that each suite measures by themselves.
_SCORED = {'cpu': ((720, 1280),), 'gpu': ((720, 1280), (1024, 2048))}
_BATCHES = {'cpu': 20, 'gpu': 100}
_ROW_SECONDS = 480.0


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
    batches: Annotated[
        MaybeInt, typer.Option(min=1, help='Batches to time; default: 20, in suite gpu 100.')
    ] = None,
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
        typer.Option(
            help='JSON file to write; for a suite a folder, which gets a table as well; default: '
            'benchmarks/results/PROCESSOR.'
        ),
    ] = None,
) -> None:
    """Measure speed and memory, stage by stage, beside the literal and the plain way.

    CHECKPOINT may be `random:` and the name of a published network, such as `random:swin-l`:
    speed does not depend on the weights.
    """
    from maskomaly_ros.benchmark import Settings

    if suite not in (None, *_SUITES):
        raise MaskomalyError(f'there is no suite {suite!r}; use one of {", ".join(_SUITES)}')
    count = batches or _BATCHES[suite or 'cpu']
    settings = Settings(count, batch, baseline_batches, literal_repeats)
    if suite is not None:
        _run_suite(suite, device, settings, out)
        return
    case = _Case(checkpoint, frame_size, input_size, batch, precision, backend, compile_)
    report = {'name': case.name} | _measure(case, device, settings)
    _show(report)
    if out is not None:
        write(out, json.dumps(report, indent=2) + '\n')


def _run_suite(suite: str, device: str, settings: Settings, out: Path | None) -> None:
    """Measure row by row; what there is so far is on disk after each."""
    from maskomaly_ros.benchmark import benchmark_scoring, machine
    from maskomaly_ros.networks.devices import select_device

    # Without CUDA the figures would be those of another machine than the suite is meant for.
    selected = select_device(_DEVICES[suite] if device == 'auto' else device)
    if selected.type != _DEVICES[suite]:
        raise MaskomalyError(f'suite {suite} does not run on {selected}')
    whole: dict[str, Any] = {'suite': suite, 'complete': False, 'machine': machine(selected)}
    whole |= {'targets': [], 'reports': []}
    name = whole['machine']['gpu'] or whole['machine']['processor']
    out = out or Path('benchmarks/results') / re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')

    def add(name: str, report: dict[str, Any]) -> None:
        whole['reports'].append({'name': name} | report)
        whole['targets'] = _targets(suite, whole['reports'])
        _show(whole['reports'][-1])
        write(out / f'{suite}.json', json.dumps(whole, indent=2) + '\n')
        write(out / f'{suite}.md', _markdown(whole))

    for kind, size in itertools.product(('smooth', 'noise'), _SCORED[suite]):
        try:
            report = benchmark_scoring(selected, kind, size, settings.literal_repeats or 1)
        except Exception as error:  # one that fails must not cost the others
            report = {'error': _reason(error)}
        add(_scoring_name(kind, size), report)
    with tempfile.TemporaryDirectory(prefix='maskomaly-') as folder:
        for number, case in enumerate(_SUITES[suite]):
            chosen = replace(
                settings,
                batch=case.batch,
                # The plain network takes too much memory for batches on a GPU; and once is enough
                # for the literal algorithm, which takes long.
                baseline_batches=0
                if suite == 'gpu' and case.batch > 1
                else settings.baseline_batches,
                literal_repeats=0 if number else settings.literal_repeats,
            )
            add(case.name, _measure_apart(case, str(selected), chosen, Path(folder)))
    whole['complete'] = True
    write(out / f'{suite}.json', json.dumps(whole, indent=2) + '\n')
    _show_targets(whole['targets'])
    OUT.print(f'{out / suite}.json and .md', soft_wrap=True, highlight=False)


def _measure_apart(case: _Case, device: str, settings: Settings, folder: Path) -> dict[str, Any]:
    """Measure in a process of its own: one that crashes, hangs or fills the memory costs a row."""
    context = multiprocessing.get_context('spawn')
    receiver, sender = context.Pipe(duplex=False)
    arguments = (sender, case, device, settings, folder)
    process = context.Process(target=_send_measured, args=arguments, daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(_ROW_SECONDS):
            return {'error': f'not done within {_ROW_SECONDS:.0f} s'}
        report: dict[str, Any] = receiver.recv()
        process.join(10)
        return report
    except EOFError:
        process.join()
        return {'error': f'the process that measured ended with status {process.exitcode}'}
    finally:
        process.kill()
        process.join()


def _send_measured(sender: Connection, *arguments: Any) -> None:
    try:
        report = _measure(*arguments)
    except Exception as error:
        report = {'error': _reason(error)}
    sender.send(report)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, MaskomalyError) else in_words(error)


def _measure(
    case: _Case, device: str, settings: Settings, folder: Path | None = None
) -> dict[str, Any]:
    """Measure a case; random weights are kept in a folder, if there is one."""
    from maskomaly_ros.benchmark import benchmark as measure
    from maskomaly_ros.detector import Detector, DetectorConfig, find_queries
    from maskomaly_ros.networks import load_network
    from maskomaly_ros.scenes.scene import Scene
    from maskomaly_ros.scoring import ScoringParameters

    width, height = parse_pair(case.frame_size, 'frame size', 'WIDTHxHEIGHT')
    options: dict[str, Any] = {
        'device': device,
        'input_size': parse_size(case.input_size) if case.input_size else None,
    }
    chosen: dict[str, Any] = {'backend': case.backend, 'precision': case.precision}
    if case.compile:
        chosen['compile'] = True
    with _checkpoint(case.checkpoint, folder) as checkpoint:
        with ERR.status(f'loading {case.name}'):
            network = load_network(checkpoint, **options, **chosen)
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
            load_plain = partial(load_network, checkpoint, **options)
            return measure(Detector(network, config), load_plain, frames, settings)


@contextmanager
def _checkpoint(name: str, folder: Path | None) -> Iterator[str | Path]:
    """Give what load_network takes; without a folder, random weights do not outlast their use."""
    if not name.startswith(_RANDOM):
        yield name
        return
    from maskomaly_ros.networks.random_weights import write_random_checkpoint

    model = name.removeprefix(_RANDOM)
    with tempfile.TemporaryDirectory(prefix='maskomaly-') as temporary:
        path = (folder or Path(temporary)) / f'random-{model}'
        if not path.is_dir():
            write_random_checkpoint(model, path.with_suffix('.part')).rename(path)
        yield path


def _scoring_name(kind: str, size: tuple[int, int]) -> str:
    return f'scoring, {kind} masks, {size[1]}x{size[0]}, 20 + 4 of 100 queries'


def _targets(suite: str, reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is aimed at and what was reached, as far as it has been measured."""
    measured = {report['name']: report for report in reports if 'error' not in report}
    scored = measured.get(_scoring_name('smooth', (720, 1280)))
    if suite == 'cpu':
        key = 'scoring: literal / this, processor time'
        found = [scored['ratios'][key]] if scored else []
        return [_target('scoring, times as fast as the literal form', 60, found, max)]
    kernel = scored['scoring']['kernel_seconds'] if scored else None
    single = [r for p in _MIXED if (r := measured.get(_SWIN_L(p).name))]
    small = [r for p in _MIXED if (r := measured.get(_SWIN_T(p).name))]
    windows = [r for p in _MIXED if (r := measured.get(_EOMT_L(p).name))]
    one, four = (measured.get(_SWIN_L('bfloat16', batch=b).name) for b in (1, 4))
    ratios = [ratio for r in single if (ratio := r['ratios'].get(_NETWORK_RATIO))]
    return [
        _target(
            'Swin-L 1024x2048, detect p50, ms', 20, [1e3 * r['detect']['p50'] for r in single], min
        ),
        _target('Swin-L 1024x2048, times as fast as transformers float32', 4, ratios, max),
        _target(
            'Swin-T 512x1024, frames a second', 120, [r['frames_per_second'] for r in small], max
        ),
        _target(
            'four cameras, times the cost of one',
            3,
            [four['detect']['p50'] / one['detect']['p50']] if one and four else [],
            min,
        ),
        _target('scoring 1280x720, kernel, ms', 0.3, [1e3 * kernel] if kernel else [], min),
        _target(
            'EoMT-L, two windows 1024x1024, detect p50, ms',
            12,
            [1e3 * r['detect']['p50'] for r in windows],
            min,
        ),
    ]


def _target(
    what: str, limit: float, found: list[float], best: Callable[[list[float]], float]
) -> dict[str, Any]:
    value = best(found) if found else None
    at_most = best is min
    reached = None if value is None else (value <= limit if at_most else value >= limit)
    bound = 'at most' if at_most else 'at least'
    return {'target': f'{what}: {bound} {limit:g}', 'measured': value, 'reached': reached}


def _show_targets(targets: list[dict[str, Any]]) -> None:
    for target in targets:
        said = _ANSWERS[target['reached']]
        value = '' if target['measured'] is None else f' {target["measured"]:.3g}'
        OUT.print(f'{target["target"]}:{value}, {said}', soft_wrap=True, highlight=False)


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
        '| target | measured | |',
        '|---|---|---|',
    ]
    for target in whole['targets']:
        value = '' if target['measured'] is None else f'{target["measured"]:.3g}'
        lines.append(f'| {target["target"]} | {value} | {_ANSWERS[target["reached"]]} |')
    lines += [
        '',
        'Differences are from the transformers network in float32: of the score map, mean and '
        'largest, and IoU of the masks; outputs within the limits of the precision agree.',
        '',
        '| what | ratios | detect p50 / p95 ms | frames/s | scoring p50 ms | peak memory MB '
        '| difference |',
        '|---|---|---|---|---|---|---|',
    ]
    for report in whole['reports']:
        cells = [report['name'], '', '', '', '', '', '']
        if 'error' in report:
            cells[1] = 'not measured: ' + ' '.join(report['error'].split())
        else:
            cells[1] = '; '.join(
                f'{value:.1f} × {name}' for name, value in report['ratios'].items()
            )
        if 'detect' in report:
            detect, memory = report['detect'], report['memory']
            cells[2] = f'{1e3 * detect["p50"]:.1f} / {1e3 * detect["p95"]:.1f}'
            cells[3] = f'{report["frames_per_second"]:.2f}'
            cells[4] = f'{1e3 * report["stages"]["scoring"]["p50"]:.2f}'
            cells[5] = f'{memory.get("device_peak", memory["resident_peak"]) / 1e6:.0f}'
        elif 'scoring' in report:
            cells[4] = f'{1e3 * report["scoring"]["seconds"]["p50"]:.2f}'
            if report['scoring']['kernel_seconds']:
                cells[4] += f' (kernel {1e3 * report["scoring"]["kernel_seconds"]:.3f})'
        if 'agreement_with_float32' in report:
            values = report['agreement_with_float32']
            cells[6] = (
                f'{values["score_error_mean"]:.1g}, {values["score_error_max"]:.1g}; '
                f'{values["mask_iou"]:.4f}: '
                + (
                    'they do not: ' + '; '.join(values['violations'])
                    if values['violations']
                    else 'agree'
                )
            )
        lines.append(f'| {" | ".join(cell.replace("|", "/") for cell in cells)} |')
    return '\n'.join(lines) + '\n'
