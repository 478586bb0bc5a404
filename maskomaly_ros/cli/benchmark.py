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

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from maskomaly_ros.cli import options
from maskomaly_ros.cli.common import (
    ERR,
    OUT,
    check_file,
    check_json,
    parse_pair,
    say,
    write,
    write_json,
)
from maskomaly_ros.errors import MaskomalyError

# torch, transformers and OpenCV take seconds to import: each command imports what it needs.


def benchmark(
    checkpoint: options.Checkpoint = 'demo',
    frame_size: Annotated[
        str, typer.Option(metavar='WIDTHxHEIGHT', help='Size of the camera frames.')
    ] = '1280x720',
    input_size: options.Size = None,
    batch: Annotated[int, typer.Option(min=1, help='Frames in a batch: cameras.')] = 1,
    precision: options.Precision = 'float32',
    backend: Annotated[str, typer.Option(help='What runs the network.')] = 'transformers',
    compile_: Annotated[
        bool, typer.Option('--compile', help='Let torch compile the network.')
    ] = False,
    device: options.Device = 'auto',
    batches: Annotated[
        options.MaybeInt,
        typer.Option(min=1, help='Batches to time; default: 20, in suite gpu 100.'),
    ] = None,
    baseline_batches: Annotated[
        int, typer.Option(min=0, help='Batches to time the plain network with; 0 leaves it out.')
    ] = 5,
    literal_repeats: Annotated[
        int, typer.Option(min=0, help='Runs of the literal algorithm; 0 leaves it out.')
    ] = 2,
    suite: Annotated[
        options.MaybeStr,
        typer.Option(help='cpu or gpu: all that its targets ask for, instead of one network.'),
    ] = None,
    out: Annotated[
        options.MaybePath,
        typer.Option(
            help='JSON file to write; for a suite a folder, which gets a table as well; default: '
            'benchmarks/results/PROCESSOR.'
        ),
    ] = None,
    json_file: options.Json = None,
) -> None:
    """Measure speed and memory by stage, beside the literal algorithm and plain torch.

    CHECKPOINT may be `random:` and the name of a published network, such as `random:swin-l`:
    speed does not depend on the weights.
    """
    from maskomaly_ros.benchmark import Settings
    from maskomaly_ros.benchmark_suite import BATCHES, SUITES, Case, measure, run_suite

    check_json(json_file)
    if suite not in (None, *SUITES):
        raise MaskomalyError(f'there is no suite {suite!r}; use one of {", ".join(SUITES)}')
    count = batches or BATCHES[suite or 'cpu']
    settings = Settings(count, batch, baseline_batches, literal_repeats)
    if suite is not None:
        path, targets = run_suite(
            suite, device, settings, out, show=_show, status=ERR.status, write=write
        )
        _show_targets(targets)
        say(f'{path}.json and .md')
        write_json(json_file, {'file': f'{path}.json', 'targets': targets})
        return
    check_file(out)
    case = Case(
        checkpoint,
        parse_pair(frame_size, 'frame size', 'WIDTHxHEIGHT'),
        parse_pair(input_size, 'input size', 'SHORTESTxLONGEST') if input_size else None,
        batch,
        precision,
        backend,
        compile_,
    )
    with ERR.status(f'measuring {case.name}'):
        report = {'name': case.name} | measure(case, device, settings)
    _show(report)
    write_json(json_file, report)
    if out is not None:
        write(out, json.dumps(report, indent=2) + '\n')


def _show_targets(targets: list[dict[str, Any]]) -> None:
    from maskomaly_ros.benchmark_suite import ANSWERS

    for target in targets:
        said = ANSWERS[target['reached']]
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
