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

"""Measure false alarms: what a threshold finds on frames that show nothing anomalous.

Every obstacle there is a false one. They are counted as single pictures: 8-connected, of a least
area, above the threshold of the queries file, by Maskomaly's score and by every other one that has
a threshold there. `comparison` counts them at the threshold of a recall.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.classes import CLASS_NAMES
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.cache import OutputCache
from maskomaly_ros.evaluation.datasets import Image
from maskomaly_ros.evaluation.images import Progress, no_progress
from maskomaly_ros.evaluation.metrics import IGNORE, ImageSummary, PixelMetrics, stored_scores
from maskomaly_ros.evaluation.ordinary import OrdinaryFrame, OrdinaryFrames
from maskomaly_ros.networks import Network
from maskomaly_ros.score_scales import ScoreCalibration
from maskomaly_ros.scores import ClassStatistics, class_sums, compute_scores
from maskomaly_ros.scoring import ScoringParameters

__all__ = [
    'CURVE_THRESHOLDS',
    'MAIN',
    'FalseObstacles',
    'OrdinarySet',
    'OrdinaryShot',
    'Traffic',
    'count_obstacles',
    'measure_traffic',
    'ordinary_statistics',
]

FloatArray = NDArray[np.float64]

MAIN = 'maskomaly'
"""The score that is looked at most closely."""
CURVE_THRESHOLDS: FloatArray = np.arange(50) / 50
"""Thresholds of the curve of recall against false obstacles a frame."""
_NONE: Mapping[str, ScoreCalibration] = {}


@dataclass(frozen=True)
class FalseObstacles:
    """What is above a threshold on ordinary frames; those of several sets may be added.

    Attributes:
        frames: number of frames.
        obstacles: number of false obstacles.
        frames_with_any: frames that have one.
        pixels: number of pixels that are not ignored.
        pixels_above: those of them above the threshold.
        of_classes: the same two numbers for each known class, int64 [classes, 2].

    """

    frames: int = 0
    obstacles: int = 0
    frames_with_any: int = 0
    pixels: int = 0
    pixels_above: int = 0
    of_classes: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((len(CLASS_NAMES), 2), np.int64)
    )

    def __add__(self, other: FalseObstacles) -> FalseObstacles:
        return FalseObstacles(
            self.frames + other.frames,
            self.obstacles + other.obstacles,
            self.frames_with_any + other.frames_with_any,
            self.pixels + other.pixels,
            self.pixels_above + other.pixels_above,
            self.of_classes + other.of_classes,
        )

    @property
    def a_frame(self) -> float:
        """False obstacles a frame."""
        return self.obstacles / self.frames

    @property
    def share_of_frames(self) -> float:
        """Share of the frames that have any."""
        return self.frames_with_any / self.frames

    @property
    def share_of_pixels(self) -> float:
        """Share of the pixels that are above the threshold."""
        return self.pixels_above / max(self.pixels, 1)

    @property
    def by_class(self) -> dict[str, float]:
        """Share of the pixels of each known class that are above it; classes that are there."""
        return {
            name: float(above / pixels)
            for name, (pixels, above) in zip(CLASS_NAMES, self.of_classes, strict=True)
            if pixels
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain values, for JSON."""
        return {
            'frames': self.frames,
            'false_obstacles_a_frame': self.a_frame,
            'frames_with_any': self.share_of_frames,
            'pixels_above': self.share_of_pixels,
            'pixels_above_by_class': self.by_class,
        }


class FrameResult(NamedTuple):
    """Figures of one ordinary frame: its name, false obstacles, and share of pixels above."""

    name: str
    obstacles: int
    share: float


@dataclass(frozen=True)
class OrdinaryShot:
    """An ordinary frame to be shown.

    Attributes:
        result: its figures.
        image: RGB uint8 [H, W, 3].
        score: float16 [H, W].

    """

    result: FrameResult
    image: Image
    score: NDArray[np.float16]


@dataclass(frozen=True)
class OrdinarySet:
    """Figures of one data set or drive.

    Attributes:
        name: what it is called.
        found: what is above the threshold.
        per_frame: every frame, in order.
        worst: frames with the most false obstacles, the most first.
        skipped: reason for each frame that is missing, by name.

    """

    name: str
    found: FalseObstacles
    per_frame: tuple[FrameResult, ...]
    worst: tuple[OrdinaryShot, ...]
    skipped: Mapping[str, str]


@dataclass(frozen=True)
class Traffic:
    """Figures of all ordinary frames.

    Attributes:
        threshold: above which pixels of the score `MAIN` are obstacles.
        minimum_area: of an obstacle, in pixels.
        sets: each data set or drive.
        metrics: pixels of all frames as negatives, by score.
        curve: false obstacles a frame at each of `CURVE_THRESHOLDS`, float64.
        of_scores: scale and threshold of other scores, and what each finds above it on all frames.

    """

    threshold: float
    minimum_area: int
    sets: tuple[OrdinarySet, ...]
    metrics: Mapping[str, PixelMetrics]
    curve: FloatArray
    of_scores: Mapping[str, tuple[ScoreCalibration, FalseObstacles]] = field(default_factory=dict)

    @property
    def found(self) -> FalseObstacles:
        """What is above the threshold on all frames together."""
        total = FalseObstacles()
        for each in self.sets:
            total += each.found
        return total

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return {
            'threshold': self.threshold,
            'minimum_obstacle_area': self.minimum_area,
            **self.found.as_dict(),
            'curve': {
                'threshold': CURVE_THRESHOLDS.tolist(),
                'false_obstacles_a_frame': self.curve.tolist(),
            },
            'scores': {
                name: {'threshold': calibration.obstacle_threshold, **found.as_dict()}
                for name, (calibration, found) in self.of_scores.items()
            },
            'sets': [
                {
                    'name': each.name,
                    **each.found.as_dict(),
                    'skipped': dict(each.skipped),
                    'per_frame': [result._asdict() for result in each.per_frame],
                }
                for each in self.sets
            ],
        }


def measure_traffic(
    network: Network,
    ordinary: Sequence[OrdinaryFrames],
    parameters: ScoringParameters,
    methods: Sequence[str],
    threshold: float,
    *,
    minimum_area: int = 0,
    calibrations: Mapping[str, ScoreCalibration] = _NONE,
    statistics: ClassStatistics | None = None,
    shots: int = 0,
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> Traffic:
    """Measure scores on ordinary frames; the network runs once a frame.

    Args:
        network: the network.
        ordinary: the frames.
        parameters: queries and parameters of Maskomaly.
        methods: scores whose pixels are to be pooled with those of anomalies.
        threshold: of `MAIN`, which is measured in any case.
        minimum_area: smaller obstacles, in pixels, do not count.
        calibrations: scales and thresholds of scores; false obstacles are counted for those of
            methods that are there, but for SML: its threshold goes with other statistics.
        statistics: of the classes, for SML.
        shots: number of worst frames of each set to keep.
        cache: folder that keeps the outputs of the network; see `OutputCache`.
        progress: see `Progress`.

    Raises:
        MaskomalyError: no frame of a set can be used, or the threshold or the area is out of
            range.

    """
    if not 0.0 <= threshold <= 1.0:
        raise MaskomalyError(f'threshold {threshold} is out of range: 0 to 1')
    if minimum_area < 0:
        raise MaskomalyError(f'minimum_area {minimum_area} is negative; 0 counts all obstacles')
    outputs = OutputCache(cache, network) if cache else None
    names = tuple(dict.fromkeys((MAIN, *methods)))
    metrics = {name: PixelMetrics() for name in names}
    curve = np.zeros(len(CURVE_THRESHOLDS), np.int64)
    chosen = {
        name: each
        for name, each in calibrations.items()
        if name in methods and name not in (MAIN, 'sml')
    }
    of_scores = dict.fromkeys(chosen, FalseObstacles())

    def look(frame: OrdinaryFrame) -> _Seen:
        scores = compute_scores(frame.prediction, parameters, names, statistics)
        stored = {name: stored_scores(score).scores for name, score in scores.items()}
        summaries = {name: ImageSummary.of(s, frame.label) for name, s in stored.items()}
        others = {
            name: _false_obstacles(
                frame,
                each.apply(scores[name]).cpu().numpy() > each.obstacle_threshold,
                minimum_area,
            )
            for name, each in chosen.items()
        }
        score = scores[MAIN].cpu().numpy()
        return _Seen(frame, score, stored[MAIN], summaries, others, threshold, minimum_area)

    sets = []
    for each in ordinary:
        total = FalseObstacles()
        per_frame: list[FrameResult] = []
        worst: list[tuple[FrameResult, NDArray[np.float16]]] = []
        run = each.over(network, look, outputs)
        for _, seen in progress(run, len(each), f'{each.name}: ordinary frames'):
            for name, summary in seen.summaries.items():
                metrics[name].add(summary)
            for name, found in seen.others.items():
                of_scores[name] += found
            total += seen.found
            curve += seen.curve
            per_frame.append(seen.result)
            worst.append((seen.result, seen.stored))
            worst.sort(key=lambda pair: (-pair[0].obstacles, -pair[0].share))
            del worst[shots:]
        each.check(total.frames)
        images = each.images(result.name for result, _ in worst) if worst else {}
        sets.append(
            OrdinarySet(
                each.name,
                total,
                tuple(per_frame),
                tuple(OrdinaryShot(r, images[r.name], score) for r, score in worst),
                dict(each.skipped),
            )
        )
    frames = sum(each.found.frames for each in sets)
    return Traffic(
        threshold,
        minimum_area,
        tuple(sets),
        metrics,
        curve / max(frames, 1),
        {name: (chosen[name], found) for name, found in of_scores.items()},
    )


def ordinary_statistics(
    network: Network,
    ordinary: Sequence[OrdinaryFrames],
    *,
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> ClassStatistics:
    """Find the statistics that standardized max-logits need on ordinary frames.

    Raises:
        MaskomalyError: no frame of a set can be used.

    """
    outputs = OutputCache(cache, network) if cache else None
    total: FloatArray | None = None
    for each in ordinary:
        count = 0
        run = each.over(network, lambda frame: class_sums(frame.prediction), outputs)
        for _, sums in progress(run, len(each), f'{each.name}: classes'):
            total = sums if total is None else total + sums
            count += 1
        each.check(count)
    if total is None:
        raise MaskomalyError('there are no ordinary frames to take statistics from')
    return ClassStatistics.of_sums(total, ', '.join(each.name for each in ordinary))


class _Seen:
    """What one frame adds to the figures."""

    def __init__(
        self,
        frame: OrdinaryFrame,
        score: NDArray[np.float32],
        stored: NDArray[np.float16],
        summaries: dict[str, ImageSummary],
        others: dict[str, FalseObstacles],
        threshold: float,
        minimum_area: int,
    ) -> None:
        score = np.where(frame.label != IGNORE, score, np.float32(-1))
        self.found = _false_obstacles(frame, score > threshold, minimum_area)
        self.result = FrameResult(frame.name, self.found.obstacles, self.found.share_of_pixels)
        self.stored = stored
        self.summaries = summaries
        self.others = others
        self.curve = np.array(
            [count_obstacles(score > each, minimum_area) for each in CURVE_THRESHOLDS]
        )


def _false_obstacles(
    frame: OrdinaryFrame, above: NDArray[np.bool_], minimum_area: int
) -> FalseObstacles:
    """Return what lies above a threshold on one frame."""
    counted = frame.label != IGNORE
    above = above & counted
    obstacles = count_obstacles(above, minimum_area)
    of_classes = np.zeros((len(CLASS_NAMES), 2), np.int64)
    if frame.classes is not None:
        for column, chosen in enumerate((counted, above)):
            counts = np.bincount(frame.classes[chosen], minlength=256)
            of_classes[:, column] = counts[: len(CLASS_NAMES)]
    return FalseObstacles(
        1,
        obstacles,
        int(obstacles > 0),
        int(np.count_nonzero(counted)),
        int(np.count_nonzero(above)),
        of_classes,
    )


def count_obstacles(mask: NDArray[np.bool_], minimum_area: int) -> int:
    """Count the 8-connected components of a mask that are large enough."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    if not width:
        return 0
    inside = np.ascontiguousarray(mask[top : top + height, left : left + width])
    _, _, boxes, _ = cv2.connectedComponentsWithStats(inside.view(np.uint8), connectivity=8)
    return int(np.count_nonzero(boxes[1:, cv2.CC_STAT_AREA] >= minimum_area))
