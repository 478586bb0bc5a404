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

"""Measure how well ids last: identity switches and fragmentation on clips with known truth.

    python benchmarks/tracking.py

Obstacles stand scattered on the road of generated scenes, several in sight at once, and the
network finds what it finds. Each is rendered alone as well, which tells whose pixels are whose. In
a frame, an obstacle that is found belongs to the true one that most of its pixels are of; of
several for one, the largest counts. An identity switch is a true obstacle whose id differs from
the one it had before; a fragmentation is one that was found, then was not for a frame or more, and
then was again (Milan et al., "MOT16", 2016), which no tracker can help. At lower rates, only every
second or third frame counts.

Beside the tracker stand: none, which gives each frame new ids; the overlap of boxes with those of
the last three frames, which events were made by before; and motpy (Kalman filter, Hungarian
assignment), where it is installed.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from maskomaly_ros.detector import Detector
from maskomaly_ros.obstacles import Obstacle
from maskomaly_ros.refinement.tracking import Tracker, TrackingParameters
from maskomaly_ros.scenes.raster import Camera
from maskomaly_ros.scenes.scene import Scene
from maskomaly_ros.scenes.things import Thing

RATE = 15.0
_SMALLEST = 12  # pixels of a true obstacle that counts


@dataclass(frozen=True)
class Frame:
    """What was found in a frame, and which true obstacle each is; None for a false one."""

    stamp: int
    found: tuple[Obstacle, ...]
    truth: tuple[int | None, ...]


class OneByOne(Scene):
    """A scene of which all obstacles but one can be left out."""

    only: int | None = None

    def _things(self, camera: Camera, time: float) -> list[Thing]:
        assert self._hazards is not None
        hazards = self._hazards
        everything = hazards.things
        if self.only is not None:
            chosen = self.in_sight(time)[self.only]
            hazards.things = lambda z, t: [  # type: ignore[method-assign,assignment]
                thing for thing in everything(z, t) if thing.z == chosen
            ]
        try:
            return super()._things(camera, time)
        finally:
            hazards.things = everything  # type: ignore[method-assign]

    def in_sight(self, time: float) -> list[float]:
        """Return how far along the road the obstacles in sight stand."""
        assert self._hazards is not None
        return [thing.z for thing in self._hazards.things(self._camera(time).z, time)]


def watch(detector: Detector, seed: int, count: int, size: tuple[int, int]) -> Iterator[Frame]:
    """Yield the frames of a scene."""
    scene = OneByOne(seed, size, varied=True)
    for index in range(count):
        seconds = index / RATE
        scene.only = None
        (detection,) = detector.detect([scene.render(seconds).image])
        places = scene.in_sight(seconds)
        whose = np.full(size, -1)
        for number in np.argsort(places)[::-1]:  # the nearest hides what is behind it
            scene.only = int(number)
            own = scene.render(seconds).anomaly == 1
            if own.sum() >= _SMALLEST:
                whose[own] = round(places[number] * 1000)
        parts = detection.components
        height, width = parts.labels.shape
        inside = whose[parts.top : parts.top + height, parts.left : parts.left + width]
        owner = parts.owner[parts.labels]
        truth = []
        for index_of in range(len(parts.obstacles)):
            numbers, pixels = np.unique(inside[owner == index_of], return_counts=True)
            most = int(numbers[pixels.argmax()])
            truth.append(most if most >= 0 else None)
        yield Frame(round(seconds * 1e9), parts.obstacles, tuple(truth))


Follow = Callable[[Frame], Sequence[Any]]


def ours() -> Follow:
    """Return the tracker of this package."""
    tracker = Tracker(TrackingParameters())
    return lambda frame: [t.id for t in tracker.update(frame.found, frame.stamp)]


def none() -> Follow:
    """Return what gives every obstacle of every frame a new id."""
    return lambda frame: [(frame.stamp, n) for n in range(len(frame.found))]


def overlap() -> Follow:
    """Return what matches boxes with the last ones, three frames back at most."""
    last: dict[int, tuple[Obstacle, int]] = {}
    state = {'index': 0, 'next': 0}

    def box(o: Obstacle) -> tuple[int, int, int, int]:
        return o.x, o.y, o.x + o.width, o.y + o.height

    def follow(frame: Frame) -> list[int]:
        state['index'] += 1
        known = {i: o for i, (o, seen) in last.items() if state['index'] - seen <= 3}
        pairs = sorted(
            (
                (_iou(box(o), box(found)), i, n)
                for i, o in known.items()
                for n, found in enumerate(frame.found)
            ),
            reverse=True,
        )
        ids: dict[int, int] = {}
        for value, i, n in pairs:
            if value >= 0.2 and n not in ids and i not in ids.values():
                ids[n] = i
        for n, found in enumerate(frame.found):
            if n not in ids:
                state['next'] += 1
                ids[n] = state['next']
            last[ids[n]] = found, state['index']
        return [ids[n] for n in range(len(frame.found))]

    return follow


def motpy(rate: float) -> Follow:
    """Return motpy with what its documentation recommends for boxes of one class."""
    from motpy import Detection, MultiObjectTracker

    tracker = MultiObjectTracker(
        dt=1 / rate,
        model_spec='constant_velocity_and_static_box_size_2d',
        matching_fn_kwargs={'min_iou': 0.2},
        tracker_kwargs={'max_staleness': math.ceil(rate)},
    )

    def follow(frame: Frame) -> list[Any]:
        boxes = [(o.x, o.y, o.x + o.width, o.y + o.height) for o in frame.found]
        tracker.step([Detection(box=np.array(box, float), score=1.0) for box in boxes])
        tracks = tracker.active_tracks(min_steps_alive=0)
        ids: list[Any] = []
        for number, box in enumerate(boxes):  # it does not say which track took which box
            overlaps = [(_iou(box, t.box), t.id) for t in tracks if t.id not in ids]
            value, name = max(overlaps, default=(0.0, ''))
            ids.append(name if value > 0 else (frame.stamp, number))
        return ids

    return follow


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / (sum(areas) - common)


@dataclass
class Figures:
    """What became of ids."""

    seen: int = 0
    switches: int = 0
    fragments: int = 0
    ids: int = 0
    seconds: float = 0.0


def judge(follow: Follow, frames: Sequence[Frame]) -> tuple[Figures, set[int]]:
    """Return the figures of one clip, and which true obstacles were ever found."""
    figures = Figures()
    known: dict[int, Any] = {}
    last_seen: dict[int, int] = {}
    used: set[Any] = set()
    for index, frame in enumerate(frames):
        start = time.perf_counter()
        ids = follow(frame)
        figures.seconds += time.perf_counter() - start
        used |= set(ids)
        taken: set[int] = set()
        for number, true in zip(ids, frame.truth, strict=True):  # largest first
            if true is None or true in taken:
                continue
            taken.add(true)
            figures.seen += 1
            figures.switches += true in known and known[true] != number
            figures.fragments += true in last_seen and last_seen[true] < index - 1
            known[true], last_seen[true] = number, index
    figures.ids = len(used)
    return figures, set(known)


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=[11, 12, 13, 14])
    parser.add_argument('--frames', type=int, default=120)
    parser.add_argument('--width', type=int, default=640)
    arguments = parser.parse_args()
    size = (arguments.width * 9 // 16, arguments.width)
    detector = Detector.from_checkpoint('demo', device='cpu')
    clips = [
        list(watch(detector, seed, arguments.frames, size))
        for seed in track(arguments.seeds, description='scenes')
    ]
    table = Table(
        'rate (Hz)', 'tracker', 'true obstacles', 'sightings', 'switches', 'fragmentations', 'ids',
        'ms a frame',
    )  # fmt: skip
    for every in (1, 2, 3):
        trackers: dict[str, Callable[[], Follow]] = {
            'none': none,
            'overlap, as before': overlap,
            'motpy': lambda every=every: motpy(RATE / every),  # type: ignore[misc]
            'ours': ours,
        }
        for name, make in trackers.items():
            try:
                results = [judge(make(), clip[::every]) for clip in clips]
            except ImportError:
                continue
            frames = sum(len(clip[::every]) for clip in clips)
            table.add_row(
                f'{RATE / every:g}',
                name,
                str(sum(len(true) for _, true in results)),
                *(
                    str(sum(getattr(f, column) for f, _ in results))
                    for column in ('seen', 'switches', 'fragments', 'ids')
                ),
                f'{1e3 * sum(f.seconds for f, _ in results) / frames:.2f}',
            )
    Console(width=110).print(table)
    return 0


if __name__ == '__main__':
    sys.exit(main())
