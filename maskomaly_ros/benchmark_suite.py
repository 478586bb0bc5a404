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

"""Suites of benchmarks: what is measured on a kind of machine, and what is aimed at.

Each row is measured in a process of its own, and what there is so far is on disk after each.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from maskomaly_ros.benchmark import Settings, benchmark, benchmark_scoring, machine
from maskomaly_ros.detector import Detector, DetectorConfig, find_queries
from maskomaly_ros.errors import MaskomalyError, in_words
from maskomaly_ros.networks import InputSize, load_network
from maskomaly_ros.networks.devices import select_device
from maskomaly_ros.networks.random_weights import write_random_checkpoint
from maskomaly_ros.scenes.scene import Scene
from maskomaly_ros.scoring import ScoringParameters

__all__ = ['ANSWERS', 'BATCHES', 'SUITES', 'Case', 'markdown', 'measure', 'run_suite']

ANSWERS: Final = {True: 'reached', False: 'missed', None: 'not measured'}
_RANDOM = 'random:'
_MIXED = ('float16', 'bfloat16')
_NETWORK_RATIO = 'network: transformers float32 eager / this'


@dataclass(frozen=True)
class Case:
    """One row of a suite.

    Attributes:
        checkpoint: see `load_network`, or `random:` and the name of a published network, as speed
            does not depend on the weights.
        frame_size: width and height of the camera frames.
        input_size: shortest and longest side of the network input; None for the checkpoint's own.
        batch: frames in a batch.
        precision: see `load_network`.
        backend: see `load_network`.
        compile: see `load_network`.

    """

    checkpoint: str
    frame_size: tuple[int, int]
    input_size: tuple[int, int] | None = None
    batch: int = 1
    precision: str = 'float32'
    backend: str = 'transformers'
    compile: bool = False

    @property
    def name(self) -> str:
        """What tells it from the others."""
        parts = [
            self.checkpoint.replace(_RANDOM, 'random '),
            f'{_times(self.frame_size)} frames',
            f'input {_times(self.input_size) if self.input_size else "own"}',
            f'batch {self.batch}',
            self.precision,
            self.backend + (' compiled' if self.compile else ''),
        ]
        return ', '.join(parts)


def _times(size: tuple[int, int]) -> str:
    return f'{size[0]}x{size[1]}'


def _official(model: str, precision: str, **options: Any) -> Case:
    size = {'frame_size': (2048, 1024), 'input_size': (1024, 2048)} | options
    return Case(f'{_RANDOM}{model}', precision=precision, **size)


_SWIN_L = partial(_official, 'swin-l', compile=True)
_SWIN_T = partial(
    _official, 'swin-t', compile=True, frame_size=(1024, 512), input_size=(512, 1024)
)
# Two windows of 1024 x 1024 for frames of 16:9.
_EOMT_L = partial(_official, 'eomt-l', compile=True, frame_size=(1280, 720), input_size=None)
# What matters most comes first: a run may be cut short.
SUITES = {
    'cpu': (
        Case('demo', (1280, 720)),
        Case('demo', (1280, 720), precision='bfloat16'),
        Case('demo', (1280, 720), backend='onnxruntime'),
        Case('demo', (1280, 720), backend='openvino'),
        Case('demo', (1280, 720), backend='openvino', precision='bfloat16'),
        Case('demo', (1280, 720), batch=4),
        Case('demo', (1280, 720), compile=True),
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
        _official('eomt-l', 'float32', frame_size=(1280, 720), input_size=None),
        _SWIN_T('bfloat16', batch=4),
    ),
}
_DEVICES = {'cpu': 'cpu', 'gpu': 'cuda'}
# Height and width of score maps that each suite measures by themselves.
_SCORED = {'cpu': ((720, 1280),), 'gpu': ((720, 1280), (1024, 2048))}
BATCHES = {'cpu': 20, 'gpu': 100}
_ROW_SECONDS = 480.0


def run_suite(
    suite: str,
    device: str,
    settings: Settings,
    out: Path | None,
    *,
    show: Callable[[dict[str, Any]], None],
    status: Callable[[str], AbstractContextManager[Any]],
    write: Callable[[Path, str], None],
) -> tuple[Path, list[dict[str, Any]]]:
    """Measure row by row; what there is so far is on disk after each.

    Args:
        suite: one of `SUITES`.
        device: see `load_network`; auto is the kind that the suite is for.
        settings: how much to measure.
        out: folder; None for `benchmarks/results/` and the name of the processor.
        show: is given each report.
        status: makes what is shown while a row is measured, from a text that names it.
        write: writes a text file, in a new folder if need be.

    Returns:
        The path of what was written, less suffix, and the targets.

    Raises:
        MaskomalyError: the device is of another kind than the suite is for.

    """
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
        show(whole['reports'][-1])
        write(out / f'{suite}.json', json.dumps(whole, indent=2) + '\n')
        write(out / f'{suite}.md', markdown(whole))

    for kind, size in itertools.product(('smooth', 'noise'), _SCORED[suite]):
        try:
            with status(f'measuring {_scoring_name(kind, size)}'):
                report = benchmark_scoring(selected, kind, size, settings.literal_repeats or 1)
        except Exception as error:  # one that fails must not cost the others
            report = {'error': _reason(error)}
        add(_scoring_name(kind, size), report)
    with tempfile.TemporaryDirectory(prefix='maskomaly-') as folder:
        for number, case in enumerate(SUITES[suite]):
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
            with status(f'measuring {case.name}'):
                report = _measure_apart(case, str(selected), chosen, Path(folder))
            add(case.name, report)
    whole['complete'] = True
    write(out / f'{suite}.json', json.dumps(whole, indent=2) + '\n')
    return out / suite, whole['targets']


def _measure_apart(case: Case, device: str, settings: Settings, folder: Path) -> dict[str, Any]:
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
        report = measure(*arguments)
    except Exception as error:
        report = {'error': _reason(error)}
    sender.send(report)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, MaskomalyError) else in_words(error)


def measure(
    case: Case, device: str, settings: Settings, folder: Path | None = None
) -> dict[str, Any]:
    """Measure a case; random weights are kept in a folder, if there is one.

    Returns:
        What `benchmark` returns.

    Raises:
        MaskomalyError: the network cannot be loaded.

    """
    width, height = case.frame_size
    options: dict[str, Any] = {
        'device': device,
        'input_size': InputSize(*case.input_size) if case.input_size else None,
    }
    chosen: dict[str, Any] = {'backend': case.backend, 'precision': case.precision}
    if case.compile:
        chosen['compile'] = True
    with _checkpoint(case.checkpoint, folder) as checkpoint:
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
        load_plain = partial(load_network, checkpoint, backend='transformers', **options)
        return benchmark(Detector(network, config), load_plain, frames, settings)


@contextmanager
def _checkpoint(name: str, folder: Path | None) -> Iterator[str | Path]:
    """Give what load_network takes; without a folder, random weights do not outlast their use."""
    if not name.startswith(_RANDOM):
        yield name
        return
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


def markdown(whole: dict[str, Any]) -> str:
    """Return what a suite has measured so far as Markdown."""
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
        lines.append(f'| {target["target"]} | {value} | {ANSWERS[target["reached"]]} |')
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
