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

"""Run the benchmarks of a CPU in less than ten minutes and say what has become slower.

    make bench

Every figure is a ratio to a baseline of the same run, so that a busy machine slows both: the
bundled checkpoint in each backend to torch, scoring to the literal algorithm, an evaluation to the
reading of its files, and the start of a program up to its first mask to `import torch`. They are
compared with those that are committed for machines of the same class, the number of processors
and the architecture, and written in their place, to `benchmarks/results/CLASS/bench.json`.

The exit status is 3 where a ratio is worse than before by more than --tolerance.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / 'results'
SLOWER = 3
# Loads the bundled checkpoint as any program does and finds the mask of one frame.
FIRST_MASK = """
import numpy
from maskomaly_ros.detector import Detector
detector = Detector.from_checkpoint('demo', device='cpu')
detector.detect([numpy.zeros((720, 1280, 3), numpy.uint8)])[0].mask
"""


@dataclass(frozen=True)
class Ratio:
    """One figure.

    Attributes:
        name: what it is.
        value: of this run.
        higher_is_better: else lower is.

    """

    name: str
    value: float
    higher_is_better: bool

    def loss(self, before: float) -> float:
        """Return by which share it is worse than before; negative where it is better."""
        better, worse = (self.value, before) if self.higher_is_better else (before, self.value)
        return worse / better - 1


def main() -> int:
    """Measure, compare, save, print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--tolerance', type=float, default=0.25, help='share that may be lost')
    parser.add_argument('--seconds', type=float, default=570, help='what does not fit is left out')
    parser.add_argument('--images', type=int, default=10, help='scenes of the evaluation')
    parser.add_argument('--out', type=Path, help='folder of bench.json; default: of the class')
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    folder = arguments.out or RESULTS / machine_class()
    file = folder / 'bench.json'
    before = committed(RESULTS / machine_class() / 'bench.json')
    end = time.monotonic() + arguments.seconds
    found: list[Ratio] = []
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, measure in measurements(Path(scratch), arguments.images).items():
            console.print(f'{name} …', style='dim')
            try:
                found += measure(end - time.monotonic())
            except (subprocess.SubprocessError, KeyError, OSError, ValueError) as error:
                left_out[name] = reason_of(error)
    slower = show(found, before, arguments.tolerance, console)
    for name, reason in left_out.items():
        console.print(f'not measured: {name}: {reason}', markup=False, soft_wrap=True)
    content = {
        'machine': machine_class(),
        'processor': processor(),
        'load_average': [round(each, 1) for each in os.getloadavg()],
        'ratios': {each.name: round(each.value, 4) for each in found},
        'left_out': left_out,
    }
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
    console.print(f'Written to {file}', soft_wrap=True, highlight=False)
    if slower:
        console.print(
            f'Slower by more than {100 * arguments.tolerance:.0f} %: {"; ".join(slower)}'
        )
        return SLOWER
    return 0


def measurements(
    scratch: Path, images: int
) -> Mapping[str, Callable[[float], Iterator[Ratio] | list[Ratio]]]:
    """Return what is measured, in order; each is called with the seconds that are left."""

    def backend(name: str, precision: str) -> Callable[[float], list[Ratio]]:
        def measure(seconds: float) -> list[Ratio]:
            arguments = ['--backend', name, '--precision', precision, '--device', 'cpu']
            counts = ['--batches', '8', '--baseline-batches', '4']
            is_first = name == 'transformers' and precision == 'float32'
            counts += ['--literal-repeats', '1' if is_first else '0']
            file = scratch / f'{name}-{precision}.json'
            run(
                ['-m', 'maskomaly_ros.cli', 'benchmark', *arguments, *counts, '--json', str(file)],
                seconds,
            )
            report = json.loads(file.read_text(encoding='utf-8'))
            return [
                Ratio(f'{name} {precision}: {what}', float(value), higher_is_better=True)
                for what, value in report['ratios'].items()
                # Elapsed times of milliseconds say more of what else runs.
                if what.startswith('network') or what.endswith('processor time')
            ]

        return measure

    def evaluation(seconds: float) -> list[Ratio]:
        file = scratch / 'evaluation.json'
        program = str(ROOT / 'benchmarks' / 'evaluation.py')
        run([program, '--images', str(images), '--json', str(file)], seconds)
        found = json.loads(file.read_text(encoding='utf-8'))
        # Of all processors, as other programs hardly change those.
        value = found['seconds_all_methods'][1] / found['seconds_reading'][1]
        name = f'evaluation: {found["methods"]} methods / reading, processor time'
        return [Ratio(name, value, higher_is_better=False)]

    def start(seconds: float) -> list[Ratio]:
        end = time.monotonic() + seconds
        run(['-c', FIRST_MASK], seconds)  # exports what the later ones open
        times: dict[str, list[float]] = {}
        for _ in range(3):
            for program in ('import torch', FIRST_MASK):
                seconds_used = run(['-c', program], end - time.monotonic())
                times.setdefault(program, []).append(seconds_used)
        value = min(times[FIRST_MASK]) / min(times['import torch'])
        return [Ratio('start: first mask / import torch, processor time', value, False)]

    return {
        'backend transformers': backend('transformers', 'float32'),
        'backend openvino': backend('openvino', 'float32'),
        'start of a program': start,
        'evaluation': evaluation,
        'backend onnxruntime': backend('onnxruntime', 'float32'),
        'backend openvino, bfloat16': backend('openvino', 'bfloat16'),
        'backend transformers, bfloat16': backend('transformers', 'bfloat16'),
    }


def run(arguments: list[str], seconds: float) -> float:
    """Run a Python program; return the seconds of processor time that it took.

    Raises:
        subprocess.SubprocessError: it failed, or took longer than it may.

    """
    if seconds <= 0:
        raise subprocess.TimeoutExpired(arguments, 0)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get('PYTHONPATH'))))
    before = os.times()
    subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, 'PYTHONPATH': path},
        cwd=ROOT,
        check=True,
        timeout=seconds,
        capture_output=True,
        text=True,
    )
    after = os.times()
    return (
        after.children_user
        + after.children_system
        - (before.children_user + before.children_system)
    )


def reason_of(error: Exception) -> str:
    """Return in a line why something was not measured."""
    if isinstance(error, subprocess.TimeoutExpired):
        return 'no time left'
    if isinstance(error, subprocess.CalledProcessError):
        lines = str(error.stderr).strip().splitlines()
        return lines[-1] if lines else f'exit status {error.returncode}'
    return repr(error)


def machine_class() -> str:
    """Return a name for machines whose ratios can be compared."""
    return f'{os.cpu_count()}-core-{platform.machine().replace("_", "-")}-no-gpu'


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        lines = []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor()


def committed(file: Path) -> dict[str, float]:
    """Return the ratios that are committed, or, outside a checkout, those of last time."""
    name = file.relative_to(ROOT).as_posix()
    try:
        text = subprocess.run(
            [shutil.which('git') or 'git', 'show', f'HEAD:{name}'],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        try:
            text = file.read_text(encoding='utf-8')
        except OSError:
            return {}
    content: dict[str, Any] = json.loads(text)
    return {str(name): float(value) for name, value in content['ratios'].items()}


def show(
    found: list[Ratio], before: Mapping[str, float], tolerance: float, console: Console
) -> list[str]:
    """Print the ratios; return those that are worse by more than the tolerance, in words."""
    table = Table('ratio', title=f'{machine_class()}, {processor()}')
    for column in ('now', 'committed', 'change'):
        table.add_column(column, justify='right')
    slower = []
    for each in found:
        old = before.get(each.name)
        loss = each.loss(old) if old else None
        change = '' if loss is None else f'{-100 * loss:+.0f} %'
        if loss is not None and loss > tolerance:
            slower.append(f'{each.name} ({each.value:.2f}, was {old:.2f})')
            change += ' slower'
        table.add_row(each.name, f'{each.value:.2f}', '' if old is None else f'{old:.2f}', change)
    console.print(table)
    if not before:
        console.print('Nothing is committed for machines of this class: commit the file.')
    return slower


if __name__ == '__main__':
    sys.exit(main())
