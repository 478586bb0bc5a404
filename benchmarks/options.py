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

"""What the options of the score are worth: the mean with the mirrored frame, and the road prior.

    python benchmarks/options.py --dataset anomaly_track:DATA/road_anomaly21_val \
        --ordinary camvid:DATA/camvid/val --limit 40

For every option: AP and FPR95 over the pixels of the images with anomalies, the same with the
pixels of ordinary frames pooled in, and false obstacles an ordinary frame at the threshold that
keeps 60 % of the anomalous pixels. The network runs twice an image, however many options there
are.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from live_node import machine
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from maskomaly_ros.detector import Detector, DetectorConfig
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.datasets import Dataset, open_dataset
from maskomaly_ros.evaluation.metrics import SCORE_VALUES, ScoreCounts, count_scores
from maskomaly_ros.obstacles import find_obstacles

WEIGHTS = (0.5, 1.0, 2.0, 3.0)
_RECALL = 0.6
_SMALLEST = 50  # pixels of a false obstacle
_IGNORE = 255


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--checkpoint', default='demo')
    parser.add_argument('--dataset', action='append', required=True, metavar='LAYOUT:PATH')
    parser.add_argument('--ordinary', action='append', required=True, metavar='LAYOUT:PATH')
    parser.add_argument('--limit', type=int, default=40, help='images of each, spread evenly')
    parser.add_argument('--json', type=Path)
    parser.add_argument('--markdown', type=Path, help='write the table of docs/scores.md here')
    arguments = parser.parse_args()
    detector = Detector.from_checkpoint(arguments.checkpoint, device='cpu')
    options = {'plain': detector.config}
    for weight in WEIGHTS:
        options[f'road prior {weight:g}'] = replace(detector.config, road_prior=weight)
    options['mirrored'] = replace(detector.config, average_mirrored=True)
    options['mirrored, road prior 1'] = replace(options['mirrored'], road_prior=1.0)

    console = Console(width=110)
    traffic: dict[str, list[tuple[NDArray[np.float16], NDArray[np.bool_]]]] = {
        name: [] for name in options
    }
    seconds: dict[str, float] = dict.fromkeys(options, 0.0)
    names, frames = [], 0
    for each in arguments.ordinary:
        dataset = open_dataset(each)
        names.append(dataset.name)
        for image, label in track(_spread(dataset, arguments.limit), dataset.name):
            frames += 1
            for name, score in _scores(detector, options, image, seconds).items():
                traffic[name].append((score, label != _IGNORE))
    figures: dict[str, Any] = {}
    runs = frames
    for each in arguments.dataset:
        dataset = open_dataset(each)
        counts: dict[str, list[ScoreCounts]] = {name: [] for name in options}
        for image, label in track(_spread(dataset, arguments.limit), dataset.name):
            for name, score in _scores(detector, options, image, seconds).items():
                counts[name].append(count_scores(score, label))
            runs += 1
        figures[dataset.name] = {name: _figures(counts[name], traffic[name]) for name in options}
        table = Table(title=f'{dataset.name}, {len(counts["plain"])} images; {frames} ordinary')
        for column in ('option', *figures[dataset.name]['plain']):
            table.add_column(column)
        for name, row in figures[dataset.name].items():
            table.add_row(name, *(f'{value:.2f}' for value in row.values()))
        console.print(table)
    console.print({n: f'{1e3 * s / runs:.0f} ms a frame' for n, s in seconds.items()})
    if arguments.markdown:
        arguments.markdown.write_text(_markdown(figures), encoding='utf-8')
    if arguments.json:
        report = {
            'checkpoint': arguments.checkpoint,
            'checkpoint_sha256': detector.network.sha256,
            'ordinary': names,
            'ordinary_frames': frames,
            'figures': figures,
            'machine': machine(),
        }
        arguments.json.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
    return 0


def _markdown(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return the table of docs/scores.md: a row for each option."""
    shown = {'AP': '.1f', 'pooled AP': '.1f', 'FPR95': '.3g', 'false obstacles a frame': '.2f'}
    heads = [
        f'{dataset}: {name}' if name == 'AP' else name for dataset in figures for name in shown
    ]
    lines = ['| | ' + ' | '.join(heads) + ' |', '|---|' + '---:|' * len(heads)]
    for option in next(iter(figures.values())):
        kind, _, weight = option.partition('road prior ')
        name = f'`road_prior: {weight}`' if weight else '`average_mirrored`'
        if kind and weight:
            name = f'both, {name}'
        cells = [
            f'{rows[option][column]:{form}}'
            for rows in figures.values()
            for column, form in shown.items()
        ]
        first = option if option == 'plain' else name
        lines.append('| ' + ' | '.join([first, *cells]) + ' |')
    return '\n'.join(lines) + '\n'


def _spread(dataset: Dataset, limit: int) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Return up to so many images and labels, evenly spread over a data set."""
    step = max(1, -(-len(dataset) // limit))
    chosen = dataset.only(dataset.samples[::step])
    return [(image, label) for _, image, label in chosen.read()]


def _scores(
    detector: Detector,
    options: dict[str, DetectorConfig],
    image: NDArray[np.uint8],
    seconds: dict[str, float],
) -> dict[str, NDArray[np.float16]]:
    prediction = detector.network.predict([image])
    mirrored = detector.network.predict([image[:, ::-1].copy()])
    found = {}
    for name, config in options.items():
        start = time.process_time()
        other = mirrored if config.average_mirrored else None
        score = detector.scored(prediction, config, other)[0]
        seconds[name] += time.process_time() - start
        found[name] = score.numpy().astype(np.float16)
    return found


def _figures(
    counts: list[ScoreCounts], traffic: list[tuple[NDArray[np.float16], NDArray[np.bool_]]]
) -> dict[str, float]:
    found = counts[0]
    for each in counts[1:]:
        found = found + each
    pooled, obstacles = found, []
    reach = np.cumsum(found.positives[::-1])[::-1]
    threshold = SCORE_VALUES[np.flatnonzero(reach >= _RECALL * reach[0])[-1]]
    for score, known in traffic:
        pooled = pooled + count_scores(score, np.where(known, 0, _IGNORE).astype(np.uint8))
        mask = (score >= np.float16(threshold)) & known
        obstacles.append(len(find_obstacles(mask.astype(np.float32), mask, _SMALLEST)))
    alone, together = found.curve(), pooled.curve()
    return {
        'AP': 100 * alone.average_precision(),
        'FPR95': 100 * alone.fpr95(),
        'pooled AP': 100 * together.average_precision(),
        'pooled FPR95': 100 * together.fpr95(),
        'false obstacles a frame': float(np.mean(obstacles)),
    }


if __name__ == '__main__':
    try:
        sys.exit(main())
    except MaskomalyError as error:
        sys.exit(f'Error: {error}')
