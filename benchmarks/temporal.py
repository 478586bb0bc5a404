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

"""Measure what steadying scores over time does to flicker and latency.

    python benchmarks/temporal.py

Scores of generated clips, whose truth is known, go through each filter. Flicker: pixels of the
obstacle mask that change from one frame to the next while the truth does not, per thousand pixels
and frame; and blinks, obstacles that are in no neighbouring frame. Delay: frames from when an
obstacle is found without a filter until it is found with one, where found means a quarter of its
pixels. Also precision and recall of pixels, as steady and wrong would be no gain.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from live_node import machine
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from maskomaly_ros.detector import Detection, Detector, DetectorConfig
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.refinement.refine import RefinementParameters, Refiner
from maskomaly_ros.refinement.temporal import TemporalParameters
from maskomaly_ros.refinement.tracking import TrackingParameters
from maskomaly_ros.scenes.scene import SceneFrame, generate_clip

SETTINGS = {
    'none': TemporalParameters(),
    'exponential, weight 0.7': TemporalParameters(filter='exponential', weight=0.7),
    'exponential, weight 0.5': TemporalParameters(filter='exponential', weight=0.5),
    'exponential, weight 0.3': TemporalParameters(filter='exponential', weight=0.3),
    'median of 3': TemporalParameters(filter='median', window=3),
    'median of 5': TemporalParameters(filter='median', window=5),
    'median of 7': TemporalParameters(filter='median', window=7),
}
REFINEMENTS = {
    **{n: RefinementParameters(temporal, ids=False) for n, temporal in SETTINGS.items()},
    **{
        f'{count} frames in a row': RefinementParameters(
            tracking=TrackingParameters(count), ids=False
        )
        for count in (2, 3, 5)
    },
}
_SMALLEST = 64  # pixels of an obstacle that has to be found
_FOUND = 0.25


@dataclass
class Clip:
    """A clip and its scores."""

    frames: list[SceneFrame]
    scores: list[NDArray[np.float32]]

    def masks(
        self, parameters: RefinementParameters, threshold: float
    ) -> tuple[list[NDArray[np.bool_]], list[float]]:
        """Return the obstacle masks with a filter, and its seconds for each frame."""
        steady, masks, seconds = Refiner(), [], []
        config = DetectorConfig(obstacle_threshold=threshold)
        for frame, score in zip(self.frames, self.scores, strict=True):
            start = time.perf_counter()
            detection = Detection(frame.image, torch.from_numpy(score), config, {})
            mask = steady.apply(detection, round(frame.stamp * 1e9), parameters).mask
            seconds.append(time.perf_counter() - start)
            masks.append(mask > 0)
        return masks, seconds

    def found(self, masks: list[NDArray[np.bool_]]) -> list[int | None]:
        """Return for each obstacle that comes the frames until it is found; None if never."""
        delays: list[int | None] = []
        is_there = False
        for frame, mask in zip(self.frames, masks, strict=True):
            truth = frame.anomaly == 1
            if truth.sum() < _SMALLEST:
                is_there = False
                continue
            if not is_there:
                is_there, since, is_found = True, 0, False
                delays.append(None)
            if not is_found and mask[truth].mean() >= _FOUND:
                is_found, delays[-1] = True, since
            since += 1
        return delays


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--checkpoint', default='demo')
    parser.add_argument('--clips', type=int, default=3)
    parser.add_argument('--frames', type=int, default=150, help='of each clip')
    parser.add_argument('--rate', type=float, default=15.0, help='frames a second')
    parser.add_argument(
        '--json', type=Path, default=Path(__file__).parent / 'results' / 'temporal.json'
    )
    arguments = parser.parse_args()
    console = Console(width=max(Console().width, 130))
    detector = Detector.from_checkpoint(arguments.checkpoint)
    threshold = detector.config.obstacle_threshold
    clips = []
    for seed in range(arguments.clips):
        frames = generate_clip(100 + seed, arguments.frames, rate=arguments.rate)
        clip = Clip([], [])
        for frame in track(frames, f'Clip {seed}', arguments.frames, console=console):
            clip.frames.append(frame)
            clip.scores.append(detector.detect([frame.image])[0].score)
        clips.append(clip)
    results = {name: evaluate(clips, p, threshold) for name, p in REFINEMENTS.items()}
    report = {
        'checkpoint': arguments.checkpoint,
        'clips': arguments.clips,
        'frames': arguments.frames,
        'rate': arguments.rate,
        'threshold': threshold,
        'results': results,
        'machine': machine(),
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
    columns = list(results['none'])
    table = Table(title=f'Filters over time, {arguments.checkpoint}')
    for column in ('filter', *columns):
        table.add_column(column, justify='left' if column == 'filter' else 'right')
    for name, result in results.items():
        table.add_row(name, *(str(result[column]) for column in columns))
    console.print(table)
    console.print(f'Saved {arguments.json}')
    return 0


def evaluate(
    clips: list[Clip], parameters: RefinementParameters, threshold: float
) -> dict[str, Any]:
    """Return the figures of one filter over all clips."""
    flips = steady_pixels = blinks = frames = 0
    true_positives = positives = truths = missed = 0
    delays: list[int] = []
    seconds: list[float] = []
    for clip in clips:
        masks, used = clip.masks(parameters, threshold)
        seconds += used
        frames += len(masks)
        for i, mask in enumerate(masks):
            truth = clip.frames[i].anomaly
            known = truth != 255
            true_positives += int((mask & (truth == 1)).sum())
            positives += int((mask & known).sum())
            truths += int((truth == 1).sum())
            if i:
                same = (truth == clip.frames[i - 1].anomaly) & known
                flips += int((mask != masks[i - 1])[same].sum())
                steady_pixels += int(same.sum())
            if 0 < i < len(masks) - 1:
                blinks += count_blinks(mask, masks[i - 1] | masks[i + 1])
        plain, _ = clip.masks(REFINEMENTS['none'], threshold)
        for with_it, without in zip(clip.found(masks), clip.found(plain), strict=True):
            if without is not None and with_it is None:
                missed += 1
            elif without is not None and with_it is not None:
                delays.append(with_it - without)
    return {
        'flicker': round(1000 * flips / max(steady_pixels, 1), 3),
        'blinks / 100 frames': round(100 * blinks / frames, 1),
        'delay, mean': round(float(np.mean(delays)), 2) if delays else None,
        'delay, largest': max(delays, default=None),
        'obstacles': len(delays) + missed,
        'missed': missed,
        'precision': round(true_positives / max(positives, 1), 4),
        'recall': round(true_positives / max(truths, 1), 4),
        'ms / frame': round(1000 * float(np.median(seconds)), 2),
    }


def count_blinks(mask: NDArray[np.bool_], around: NDArray[np.bool_]) -> int:
    """Return how many obstacles of a mask touch nothing in the neighbouring frames."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    near = cv2.dilate(around.astype(np.uint8), np.ones((13, 13), np.uint8)) > 0
    return count - len(np.unique(labels[near & mask])) - 1


if __name__ == '__main__':
    try:
        sys.exit(main())
    except MaskomalyError as error:
        sys.exit(f'Error: {error}')
