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

"""Measure what each output of the node costs at 1280 x 720, as a share of `detect`.

    python benchmarks/outputs.py

Each output is computed and made a message from a detection of which the mask is known, on frames
of a generated scene, into whose score eleven obstacles are drawn, so that there is as much to do
whatever the network finds; what several outputs share stands in lines of its
own, in brackets. Times are those of the processor, all threads together, so that what else runs on
the machine does not count. What goes over DDS is not in here: that depends on who listens
(benchmarks/node_overhead.py).
"""

# ruff: noqa: B023 (what is timed is called at once)

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from live_node import machine
from rich.console import Console
from rich.progress import track
from rich.table import Table
from std_msgs.msg import Header

from maskomaly_ros import interfaces
from maskomaly_ros.detector import Detection, Detector
from maskomaly_ros.ground import CameraModel, CameraPose, Locator
from maskomaly_ros.node import messages
from maskomaly_ros.refinement.refine import RefinementParameters, Refiner
from maskomaly_ros.scenes.scene import Scene

SIZE = (720, 1280)
_OBSTACLES = 11


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--frames', type=int, default=30)
    parser.add_argument(
        '--json', type=Path, default=Path(__file__).parent / 'results' / 'outputs.json'
    )
    arguments = parser.parse_args()
    detector = Detector.from_checkpoint('demo', device='cpu')
    scene = Scene(11, SIZE, varied=True)
    matrix = np.array([[1155.0, 0, 640], [0, 1155.0, 360], [0, 0, 1]])
    lens = np.array([-0.2485, -0.0195, -0.0006, 0.0002, 0.0086])
    locator = Locator(CameraModel(SIZE, matrix, lens), CameraPose.mounted(1.5, pitch=0.05))
    refiner = Refiner()
    depth = np.full(SIZE, 12.0, np.float32)
    header = Header(frame_id='camera')
    seconds: dict[str, list[float]] = {}
    counts: dict[str, list[int]] = {'obstacles': [], 'points': [], 'depth points': []}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = work()
        seconds.setdefault(name, []).append(time.process_time() - start)
        return result

    def message(described: interfaces.Message) -> Any:
        """Make a message, or, where its package is not installed, only describe it."""
        installed = messages.message_class(described.type) is not None
        return messages.to_ros(described) if installed else described

    drawn = np.zeros(SIZE, np.float32)
    for number in range(_OBSTACLES):
        middle = 60 + 116 * number, 420 + 25 * (number % 9)
        cv2.ellipse(drawn, middle, (22 + 2 * number, 24), 10 * number, 0, 360, 0.95, -1)
    detector.warm_up(SIZE)
    for index in track(range(arguments.frames), description='frames'):
        frame = scene.render(index / 10).image
        (fresh,) = timed('detect', lambda: detector.detect([frame]))
        detection: Detection = fresh.with_score(np.maximum(fresh.score, drawn))
        timed('mask', lambda: message(interfaces.mask_message(detection.mask, header)))
        timed(
            'heatmap',
            lambda: messages.to_ros(interfaces.heatmap_message(detection.score, '32FC1', header)),
        )
        timed(
            'heatmap/mono8',
            lambda: messages.to_ros(interfaces.heatmap_message(detection.score, 'mono8', header)),
        )
        timed('label_info', lambda: message(interfaces.label_info_message(header, 0.9)))
        timed('(components)', lambda: detection.components)
        plain = detection
        detection = timed(
            '(ids)', lambda: refiner.apply(plain, index * 10**8, RefinementParameters())
        )
        located = timed('(places)', lambda: locator.locate(detection.components))
        counts['obstacles'].append(len(detection.obstacles))
        counts['points'].append(len(located.points))
        head = interfaces.header(header.stamp, 'base_link')
        timed('points', lambda: message(interfaces.points_message(located, head)))
        timed('markers', lambda: message(interfaces.markers_message(located, head)))
        timed(
            'obstacles', lambda: message(interfaces.obstacles_message(located.obstacles, header))
        )
        known = replace(detection.components, obstacles=located.obstacles)
        timed('annotations', lambda: message(interfaces.annotations_message(known, header.stamp)))
        detection = detection.with_components(known)
        overlay = timed('(drawing)', detection.overlay)
        timed('overlay', lambda: message(interfaces.picture_message(overlay, header)))
        timed(
            'overlay/compressed',
            lambda: message(interfaces.jpeg_message(overlay, 80, header)),
        )
        spatial = timed('(places by depth)', lambda: locator.locate(known, depth))
        counts['depth points'].append(len(spatial.points))
        timed('points by depth', lambda: message(interfaces.points_message(spatial, head)))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    table = Table('output', 'ms', 'share of detect')
    for name, value in medians.items():
        table.add_row(name, f'{1e3 * value:.2f}', f'{value / medians["detect"]:.2%}')
    console = Console()
    console.print(table)
    found = {name: statistics.median(values) for name, values in counts.items()}
    console.print(found)
    report = {
        'size': SIZE,
        'frames': arguments.frames,
        'found': found,
        'milliseconds': {name: round(1e3 * value, 3) for name, value in medians.items()},
        'share of detect': {n: round(v / medians['detect'], 4) for n, v in medians.items()},
        'machine': machine(),
    }
    arguments.json.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
    console.print(f'Saved {arguments.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
