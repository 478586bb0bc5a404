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

"""Measure whether the memory of the node grows.

    python benchmarks/memory.py

Follows the resident memory of the node's process over 5,000 frames, after as many to settle, with
a subscriber to every output. Small frames and a small network input make it quick; what is
allocated and freed for each frame is the same.

Resident memory is a staircase: an allocator that needs a little more keeps it, so that a single
step raises all samples after it. A line fitted through the samples takes one step for a slope,
with confidence; it is printed, but does not decide. What repeats itself if frames leave something
behind is growth: its mean over twenty stretches of the run, and the confidence interval of that,
come from how much each stretch added to the one before.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from live_node import live_node, machine
from rich.console import Console
from rich.progress import track
from scipy import stats

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.scenes.scene import Scene

_STRETCHES = 20


def main() -> int:
    """Measure, print, save; the exit status is 1 where the memory grows."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--checkpoint', default='demo')
    parser.add_argument('--size', default='160x90', help='of the frames, WIDTHxHEIGHT')
    parser.add_argument('--input', type=int, default=64, help='shortest side of the network input')
    parser.add_argument('--frames', type=int, default=5000)
    parser.add_argument('--settling', type=int, default=5000, help='frames before these')
    parser.add_argument(
        '--json', type=Path, default=Path(__file__).parent / 'results' / 'memory.json'
    )
    arguments = parser.parse_args()
    console = Console()
    width, height = map(int, arguments.size.split('x'))
    scene = Scene(10, (height, width))
    frames = [scene.render(0.1 * i).image for i in range(50)]
    parameters = {
        'checkpoint': arguments.checkpoint,
        'input_shortest_side': arguments.input,
        'input_longest_side': 2 * arguments.input,
    }
    from sensor_msgs.msg import CompressedImage, Image

    outputs = {
        'mask': Image,
        'heatmap': Image,
        'overlay': Image,
        'overlay/compressed': CompressedImage,
    }
    samples = []
    with live_node(outputs, **parameters) as node:
        total = arguments.settling + arguments.frames
        for number in track(range(total), 'Measuring', console=console):
            node.process(frames[number % len(frames)])
            samples.append(resident_bytes(node.pid))
        lost = node.lost
    report = evaluate(np.array(samples, float), arguments.settling)
    report |= {'frame': arguments.size, 'lost': lost, **parameters, 'machine': machine()}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
    low, high = report['slope_confidence_95']
    console.print(
        f'Resident memory {report["first_mb"]:.1f} MB after frame 1, '
        f'{report["settled_mb"]:.1f} MB after {report["settled_after"]}, '
        f'{report["last_mb"]:.1f} MB after {report["frames"]} more.\n'
        f'Growth over these {report["slope"]:+.3f} MB per 1000 frames, 95 % confidence '
        f'{low:+.3f} to {high:+.3f}: {"GROWS" if report["grows"] else "no growth"}. '
        f'(A line through the samples: {report["line_slope"]:+.3f}.) {arguments.json}'
    )
    return int(report['grows'])


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    pages = int(Path(f'/proc/{pid}/statm').read_text(encoding='ascii').split()[1])
    return pages * os.sysconf('SC_PAGESIZE')


def evaluate(samples: np.ndarray, settling: int) -> dict[str, Any]:
    """Return figures in MB; memory grows where the whole confidence interval is above zero."""
    measured = samples[settling:] / 1e6
    stretches = np.array_split(measured, _STRETCHES)
    growth = np.diff([stretch.mean() for stretch in stretches]) * (1000 / len(stretches[0]))
    margin = stats.t.ppf(0.975, len(growth) - 1) * stats.sem(growth)
    low, high = growth.mean() - margin, growth.mean() + margin
    return {
        'frames': len(measured),
        'first_mb': round(samples[0] / 1e6, 2),
        'settled_mb': round(measured[0], 2),
        'settled_after': settling,
        'last_mb': round(measured[-1], 2),
        'slope': round(growth.mean(), 4),
        'slope_confidence_95': [round(low, 4), round(high, 4)],
        'line_slope': round(1000 * stats.linregress(range(len(measured)), measured).slope, 4),
        'grows': bool(low > 0),
        # Every 50th sample, so that the steps can be looked at.
        'samples_mb': [round(value / 1e6, 2) for value in samples[::50].tolist()],
    }


if __name__ == '__main__':
    try:
        sys.exit(main())
    except MaskomalyError as error:
        sys.exit(f'Error: {error}')
