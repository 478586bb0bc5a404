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

"""How many recordings laps of the same road cost, with novelty and without.

    python benchmarks/event_novelty.py --things 24 --laps 4

Each lap passes the same obstacles of generated scenes at a slightly other moment, in another light
and with other noise. Without novelty every sighting is a recording.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.networks.embedding import load_embedding
from maskomaly_ros.recorder.novelty import Novelty
from maskomaly_ros.scenes.scene import Scene

SIZE = (360, 640)
LEAST_AREA = 200
MOMENTS = (4.0, 6.0, 8.0, 10.0)  # seconds of a scene at which something may be in sight
APART = 0.11  # seconds by which laps differ
LIGHTS = (1.0, 0.85, 1.15)
THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)

Sighting = tuple[int, NDArray[np.uint8], tuple[int, int, int, int]]


def obstacle(scene: Scene, time: float) -> tuple[NDArray[np.uint8], tuple[int, ...], int]:
    """Return the picture at a time, the box of its largest obstacle, and its area; 0 for none."""
    frame = scene.render(time)
    mask = (frame.anomaly == 1).astype(np.uint8)
    count, _, boxes, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return frame.image, (0, 0, 0, 0), 0
    *box, area = boxes[1 + int(boxes[1:, cv2.CC_STAT_AREA].argmax())].tolist()
    return frame.image, tuple(box), area


def sightings(things: int, laps: int) -> Iterator[Sighting]:
    """Yield thing, picture and box, lap after lap."""
    rng = np.random.default_rng(0)
    found: list[list[Sighting]] = [[] for _ in range(laps)]
    for seed in range(things):
        scene = Scene(seed, SIZE, obstacles=True)
        for moment in MOMENTS:
            if obstacle(scene, moment)[2] < LEAST_AREA:
                continue
            for lap in range(laps):
                picture, box, area = obstacle(scene, moment + APART * lap)
                if area:
                    noise = rng.normal(0, 3, picture.shape)
                    light = LIGHTS[(seed + lap) % len(LIGHTS)]
                    changed = np.clip(picture * light + noise, 0, 255).astype(np.uint8)
                    found[lap].append((seed, changed, box))  # type: ignore[arg-type]
            break
    for each in found:
        yield from each


def main() -> int:
    """Print a table of thresholds."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--things', type=int, default=24)
    parser.add_argument('--laps', type=int, default=4)
    arguments = parser.parse_args()
    seen = list(sightings(arguments.things, arguments.laps))
    embed = load_embedding()
    out = sys.stdout.write
    out(f'{len(seen)} sightings of {len({s[0] for s in seen})} things\n')
    out('threshold  recordings  things recorded  taken for another\n')
    for threshold in (0.0, *THRESHOLDS):
        novelty = Novelty(embed)
        kept: list[int] = []
        mistaken = 0
        for thing, picture, box in seen:
            judgement = novelty.judge(picture, box)
            if judgement.distance < threshold:
                mistaken += kept[int(judgement.nearest)] != thing
                continue
            novelty.learn(str(len(kept)), judgement.embedding)
            kept.append(thing)
        out(f'{threshold:9.2f}  {len(kept):10}  {len(set(kept)):15}  {mistaken:17}\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
