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

"""The obstacle threshold that keeps false obstacles on ordinary frames below a rate.

What shows nothing anomalous needs no labels: every obstacle there is a false one. They are counted
as the node counts: above the threshold, inside of the region, steadied over time, of a least area,
in a least number of frames in a row. A rate a frame counts every obstacle of every frame; a rate a
minute counts obstacles that the tracker tells apart, each once however long it is in sight: what
replay calls events.
"""

from __future__ import annotations

import datetime
import math
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import maskomaly_ros
from maskomaly_ros.detector import Detection, Detector, DetectorConfig
from maskomaly_ros.drives.source import Source
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.cache import CannotWriteError, OutputCache
from maskomaly_ros.evaluation.datasets import Dataset, Sample
from maskomaly_ros.evaluation.images import Progress, check_task, no_progress, over_images
from maskomaly_ros.evaluation.metrics import SCORE_VALUES, count_scores
from maskomaly_ros.evaluation.ordinary import OrdinaryFrame, OrdinaryFrames
from maskomaly_ros.networks import MaskPrediction
from maskomaly_ros.parameters import (
    load_settings,
    read_regions,
    refinement_parameters,
    with_defaults,
)
from maskomaly_ros.queries import Queries
from maskomaly_ros.refinement.refine import RefinementParameters, Refiner
from maskomaly_ros.refinement.regions import Region
from maskomaly_ros.score_scales import ScoreCalibration
from maskomaly_ros.topics import absolute_topic

__all__ = [
    'CountingRules',
    'FalseAlarmRate',
    'FalseAlarmThreshold',
    'ScoredFrame',
    'check_length',
    'count_false_obstacles',
    'find_threshold',
    'recall_at',
    'score_drive',
    'score_ordinary',
    'with_threshold',
]

Unit = Literal['frame', 'minute', 'hour']

_RATE = re.compile(r'\s*(\d+(?:\.\d*)?|\.\d+)\s*/\s*(frame|min|minute|h|hour)\s*')
_UNITS: Mapping[str, Unit] = {'min': 'minute', 'h': 'hour'}
_SECONDS = {'minute': 60.0, 'hour': 3600.0}
_AT_ONCE = 24  # thresholds that one pass over the frames tries
# The levels of a stored score in [0, 1], and the threshold that leaves out each of them: half-way
# to the next number that float16 has, as `score > threshold` is asked of scores in float32.
_LEVELS = SCORE_VALUES[(SCORE_VALUES >= 0) & (SCORE_VALUES <= 1)]
_THRESHOLDS = np.minimum(
    (_LEVELS + SCORE_VALUES[np.searchsorted(SCORE_VALUES, _LEVELS) + 1]) / 2, 1.0
)
_THRESHOLDS[0] = 0.0

Score = NDArray[np.float32]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class FalseAlarmRate:
    """How many false obstacles there may be.

    Attributes:
        number: above 0.
        unit: for each `frame`, `minute` or `hour`.

    """

    number: float
    unit: Unit

    def __post_init__(self) -> None:
        """Refuse what no drive can show."""
        if not 0 < self.number < math.inf:
            raise MaskomalyError(
                f'a rate of {self.number:g} false obstacles cannot be shown by any drive; '
                "give one above 0, such as '1/min' or '0.3/frame'"
            )

    @classmethod
    def parse(cls, text: str) -> FalseAlarmRate:
        """Read a rate such as `1/min`, `0.3/frame` or `2/h`.

        Raises:
            MaskomalyError: it is none.

        """
        match = _RATE.fullmatch(text)
        if match is None:
            raise MaskomalyError(
                f"{text!r} is no rate of false alarms; write it as '1/min', '0.3/frame' or '2/h'"
            )
        return cls(float(match[1]), _UNITS.get(match[2], match[2]))  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f'{self.number:g}/{self.unit}'

    @property
    def is_of_time(self) -> bool:
        """Whether obstacles are counted over time, each once."""
        return self.unit != 'frame'

    def allowed(self, frames: int, seconds: float) -> int:
        """Return how many false obstacles frames that take so many seconds may have.

        Raises:
            MaskomalyError: not a single one, so that the rate cannot be told from 0. The message
                says how many frames are needed.

        """
        per_frame = self.number
        if self.is_of_time:
            per_frame *= seconds / max(frames, 1) / _SECONDS[self.unit]
        allowed = math.floor(per_frame * frames + 1e-9)
        if allowed < 1:
            needed = math.ceil(1 / per_frame - 1e-9) if per_frame > 0 else 0
            length = f' ({seconds:.1f} s)' if self.is_of_time else ''
            least = f', {_SECONDS[self.unit] / self.number:g} s' if self.is_of_time else ''
            raise MaskomalyError(
                f'{frames} frames{length} are too few for {self} false obstacles: that is less '
                f'than one in all of them. At least {needed} frames are needed{least}; give a '
                'longer drive or a higher rate'
            )
        return allowed


@dataclass(frozen=True)
class CountingRules:
    """What of a score map makes an obstacle, beside the threshold.

    Attributes:
        minimum_area: smaller obstacles, in pixels, do not count.
        refinement: filter over time, frames in a row that an obstacle must be there, and how
            obstacles are followed.
        region: where obstacles matter.

    """

    minimum_area: int = 0
    refinement: RefinementParameters = field(default_factory=RefinementParameters)
    region: Region = field(default_factory=Region)

    @classmethod
    def of_parameters(cls, given: Mapping[str, Any], topic: str = '') -> CountingRules:
        """Return the rules that the node has with these parameters.

        Args:
            given: values of parameters by name; those left out have their defaults.
            topic: camera topic that the frames are from, whose regions count; empty where they
                are from no topic, and then there must be one camera at most.

        Raises:
            MaskomalyError: a value is wrong, or it is open whose regions count.

        """
        values = with_defaults(given)
        settings = load_settings(values)
        regions = dict(
            zip(map(absolute_topic, settings.camera_topics), read_regions(settings), strict=True)
        )
        region = Region()
        if any(regions.values()):
            if topic in regions:
                region = regions[topic]
            elif not topic and len(regions) == 1:
                (region,) = regions.values()
            else:
                raise MaskomalyError(
                    f'road_regions and ego_regions belong to camera_topics {", ".join(regions)}, '
                    f'and the drive is from {topic or "no topic"}; name that one alone there'
                )
        return cls(values['minimum_obstacle_area'], refinement_parameters(values), region)

    def describe(self) -> dict[str, Any]:
        """Return the rules for the provenance of a threshold."""
        return {
            'minimum_obstacle_area': self.minimum_area,
            'minimum_obstacle_frames': self.refinement.tracking.minimum_frames,
            'temporal_filter': self.refinement.temporal.filter,
            'regions': self.region.sha256[:16] if self.region else 'none',
        }

    @property
    def after_scores(self) -> CountingRules:
        """What is left to do with scores that are confined to the region and steadied."""
        temporal = replace(self.refinement.temporal, filter='none')
        return CountingRules(self.minimum_area, replace(self.refinement, temporal=temporal))

    @property
    def of_scores(self) -> CountingRules:
        """What is done with scores, whatever the threshold."""
        return replace(self, refinement=RefinementParameters(self.refinement.temporal, ids=False))


@dataclass(frozen=True)
class ScoredFrame:
    """One ordinary frame with its score.

    Attributes:
        score: float32 [H, W] in [0, 1].
        stamp: nanoseconds.
        image: RGB uint8 [H, W, 3], to notice cuts; None for frames that do not follow each other.

    """

    score: Score
    stamp: int = 0
    image: Image | None = None


@dataclass(frozen=True)
class FalseAlarmThreshold:
    """A threshold found on ordinary frames.

    Attributes:
        threshold: the lowest one that keeps the rate: one step of float16 lower there are more
            false obstacles than allowed, or it is 0.
        found: false obstacles at that threshold.
        allowed: most that there may be.
        found_before: false obstacles at the threshold that was in force before.
        frames: number of frames.
        seconds: how long they take; 0 where they have no times.

    """

    threshold: float
    found: int
    allowed: int
    found_before: int
    frames: int
    seconds: float


def check_length(source: Source, rate: FalseAlarmRate) -> None:
    """Raise MaskomalyError if a drive is too short for a rate, as far as its length is known."""
    try:
        frames = len(source)
    except TypeError:
        return
    if not (rate.is_of_time and source.topics):  # a bag has its own times, known when it is read
        rate.allowed(frames, frames / source.rate)


def score_drive(detector: Detector, source: Source) -> Iterator[ScoredFrame]:
    """Yield every frame of a drive with the detector's score, as the node computes it."""
    for frame in source:
        (detection,) = detector.detect([frame.image])
        # The node knows the header alone, which may be 0.
        stamp = frame.stamp_ns if frame.message is None else frame.header_ns
        yield ScoredFrame(detection.score, stamp, frame.image)


def score_ordinary(
    detector: Detector, frames: OrdinaryFrames, outputs: OutputCache | None = None
) -> Iterator[ScoredFrame]:
    """Yield ordinary pictures, which do not follow each other, with their scores."""

    def score(frame: OrdinaryFrame) -> Score:
        return detector.scored(frame.prediction)[0].cpu().numpy()

    for _, found in frames.over(detector.network, score, outputs):
        yield ScoredFrame(found)


def recall_at(
    detector: Detector,
    dataset: Dataset,
    thresholds: Sequence[float],
    *,
    outputs: OutputCache | None = None,
    progress: Progress = no_progress,
) -> list[float]:
    """Return the share of the anomalous pixels of a data set that score above each threshold.

    Raises:
        MaskomalyError: the labels are of another kind, or have no anomaly.

    """
    check_task(dataset, 'anomaly')

    def count(_: Sample, prediction: MaskPrediction | None, label: Image) -> NDArray[np.int64]:
        assert prediction is not None
        score = detector.scored(prediction)[0].cpu().numpy()
        return count_scores(score, label).positives

    total = np.zeros(len(SCORE_VALUES), np.int64)
    run = over_images(detector.network, dataset, outputs, count)
    for _, positives in progress(run, len(dataset), f'{dataset.name}: recall'):
        total += positives
    if not total.any():
        raise MaskomalyError(f'no image of {dataset.name} that can be used has an anomaly')
    return [float(total[t < SCORE_VALUES].sum() / total.sum()) for t in thresholds]


def with_threshold(
    queries: Queries,
    found: FalseAlarmThreshold,
    rate: FalseAlarmRate,
    rules: CountingRules,
    source: str,
    recall: Mapping[str, tuple[float, float]] | None = None,
    score: str = 'maskomaly',
) -> Queries:
    """Return queries with the threshold found, and where it comes from; all else stays.

    Args:
        queries: with the threshold so far.
        found: the new one.
        rate: that was asked for.
        rules: of counting.
        source: name of the ordinary frames.
        recall: share of anomalous pixels found before and now, by name of a data set.
        score: whose threshold it is.

    """
    other = score != 'maskomaly'
    known = queries.scores.get(score)
    before = known.obstacle_threshold if other and known else queries.obstacle_threshold
    about: dict[str, Any] = {
        'tool': f'maskomaly_ros {maskomaly_ros.__version__}',
        'date': datetime.date.today().isoformat(),
        'ordinary': source,
        'frames': found.frames,
        **({'seconds': round(found.seconds, 3)} if rate.is_of_time else {}),
        'asked': str(rate),
        'allowed': found.allowed,
        'found': found.found,
        'found_before': found.found_before,
        'threshold_before': before,
        **({'score': score} if other else {}),
        **rules.describe(),
    }
    if recall:
        about['recall'] = {
            name: {'before': round(before, 4), 'now': round(now, 4)}
            for name, (before, now) in recall.items()
        }
    moved: dict[str, Any] = {'obstacle_threshold': found.threshold}
    if other:
        known = known or ScoreCalibration(obstacle_threshold=0.0)
        moved = {'scores': {**queries.scores, score: known.model_copy(update=moved)}}
    return queries.model_copy(
        update={**moved, 'provenance': {**queries.provenance, 'false_alarms': about}}
    )


def find_threshold(
    frames: Iterable[ScoredFrame],
    rate: FalseAlarmRate,
    rules: CountingRules,
    before: float,
    *,
    total: int = 0,
    progress: Progress = no_progress,
) -> FalseAlarmThreshold:
    """Find the lowest threshold at which ordinary frames keep a rate of false obstacles.

    Thresholds are tried from the highest down, so that no higher one of those tried has too many
    either. Scores are told apart as float16. Meanwhile they wait in a temporary folder,
    compressed: about 1 byte a pixel, and the frames themselves as JPEG, to notice cuts, where
    obstacles are followed or must be there for several frames.

    Args:
        frames: in their order.
        rate: of false obstacles.
        rules: what counts.
        before: threshold that is in force so far.
        total: number of frames, for the progress; 0 where nobody knows.
        progress: see `Progress`.

    Raises:
        MaskomalyError: there are too few frames for the rate; a file cannot be written.

    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix='maskomaly-scores-'))
        kept = _KeptFrames(Path(folder), rules, with_images=rate.is_of_time)
        for frame in progress(frames, total, 'scores'):
            kept.add(frame)
        seconds = kept.seconds
        if rate.is_of_time and not seconds:
            raise MaskomalyError(
                f'{rate} false obstacles need frames with times, and these have none; ask for a '
                "rate such as '0.3/frame'"
            )
        allowed = rate.allowed(len(kept), seconds)

        def count(thresholds: Sequence[float], most: float) -> list[int]:
            shown = progress(kept, len(kept), f'{len(thresholds)} thresholds')
            return count_false_obstacles(
                shown, thresholds, rules.after_scores, over_time=rate.is_of_time, most=most
            )

        threshold, found = _search(kept.levels, allowed, count)
        (found_before,) = count([before], math.inf)
        return FalseAlarmThreshold(threshold, found, allowed, found_before, len(kept), seconds)


def count_false_obstacles(
    frames: Iterable[ScoredFrame],
    thresholds: Sequence[float],
    rules: CountingRules,
    *,
    over_time: bool,
    most: float = math.inf,
) -> list[int]:
    """Count the obstacles of ordinary frames at several thresholds.

    Args:
        frames: in their order.
        thresholds: in any order.
        rules: what counts.
        over_time: count each obstacle that the tracker follows once, and not in every frame.
        most: where a threshold has more, it is counted no further, nor are lower ones.

    Returns:
        The number at each threshold; where it is above most it may be too small.

    """
    counters = [_Counter(threshold, rules, over_time) for threshold in thresholds]
    counting = sorted(counters, key=lambda counter: -counter.threshold)
    for frame in frames:
        for place, counter in enumerate(counting):
            counter.add(frame)
            if counter.found > most:
                for lower in counting[place + 1 :]:
                    lower.found = max(lower.found, counter.found)
                del counting[place:]
                break
        if not counting:
            break
    return [counter.found for counter in counters]


class _Counter:
    """Counts the false obstacles at one threshold, by what the node does with a score."""

    def __init__(self, threshold: float, rules: CountingRules, over_time: bool) -> None:
        self.threshold = threshold
        self.found = 0
        self._config = DetectorConfig(
            obstacle_threshold=threshold, minimum_obstacle_area=rules.minimum_area
        )
        self._parameters = replace(rules.refinement, ids=over_time)
        self._refiner = Refiner(rules.region)
        self._over_time = over_time

    def add(self, frame: ScoredFrame) -> None:
        """Take the next frame."""
        detection = self._refiner.apply(
            _detection(frame, self._config), frame.stamp, self._parameters
        )
        obstacles = detection.obstacles
        if self._over_time:
            self.found = max([self.found, *(obstacle.id or 0 for obstacle in obstacles)])
        else:
            self.found += len(obstacles)


def _detection(frame: ScoredFrame, config: DetectorConfig) -> Detection:
    image = np.zeros((*frame.score.shape, 3), np.uint8) if frame.image is None else frame.image
    return Detection(image, torch.from_numpy(frame.score), config, {})


def _search(
    levels: NDArray[np.intp],
    allowed: int,
    count: Callable[[Sequence[float], float], list[int]],
) -> tuple[float, int]:
    """Return the lowest threshold with no more than allowed, and how many it has.

    Args:
        levels: places in `_LEVELS` of the scores that occur, ascending.
        allowed: most that there may be.
        count: returns the number at each of some thresholds, given the most that matters.

    """
    if not len(levels) or levels[0]:
        levels = np.concatenate([[0], levels])  # a threshold of 0 leaves out nothing but 0
    low, high, found = 0, len(levels) - 1, 0  # above the highest score that occurs there is none
    while low < high:
        places = np.unique(np.linspace(low, high, min(_AT_ONCE, high - low) + 1).astype(int))[:-1]
        counts = count([float(_THRESHOLDS[levels[place]]) for place in places], allowed)
        good = np.array(counts) <= allowed
        bad = np.flatnonzero(~good)
        first_good = int(bad[-1]) + 1 if bad.size else 0
        low = int(places[first_good - 1]) + 1 if bad.size else int(places[0])
        if first_good < len(places):
            high, found = int(places[first_good]), counts[first_good]
    return float(_THRESHOLDS[levels[high]]), found


class _KeptFrames:
    """Scored frames on disk, in the order in which they were added."""

    def __init__(self, folder: Path, rules: CountingRules, *, with_images: bool) -> None:
        self._folder = folder
        self._parameters = rules.of_scores.refinement
        self._refiner = Refiner(rules.region)
        self._with_images = with_images or rules.refinement.holds_back
        self._occurs = np.zeros(1 << 16, bool)
        self._frames: list[tuple[int, tuple[int, ...]]] = []

    def add(self, frame: ScoredFrame) -> None:
        """Keep a frame, its score confined to the region and steadied over time."""
        detection = self._refiner.apply(
            _detection(frame, DetectorConfig()), frame.stamp, self._parameters
        )
        stored = detection.score.astype(np.float16)
        self._occurs[np.unique(stored.view(np.uint16))] = True
        path = self._path(len(self._frames))
        try:
            path.write_bytes(zlib.compress(stored.tobytes(), 1))
            if self._with_images and frame.image is not None:
                picture = cv2.imencode('.jpg', cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))[1]
                path.with_suffix('.jpg').write_bytes(picture.tobytes())
        except OSError as error:
            raise CannotWriteError(f'cannot write {path}: {error.strerror}') from error
        self._frames.append((frame.stamp, stored.shape))

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[ScoredFrame]:
        for index, (stamp, shape) in enumerate(self._frames):
            path = self._path(index)
            stored = np.frombuffer(zlib.decompress(path.read_bytes()), np.float16)
            image = None
            if path.with_suffix('.jpg').exists():
                picture = np.fromfile(path.with_suffix('.jpg'), np.uint8)
                decoded = np.asarray(cv2.imdecode(picture, cv2.IMREAD_COLOR), np.uint8)
                image = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
            yield ScoredFrame(stored.reshape(shape).astype(np.float32), stamp, image)

    @property
    def levels(self) -> NDArray[np.intp]:
        """Places in `_LEVELS` of the scores that occur, ascending."""
        # Bit patterns of float16 from 0 to 1 ascend as the numbers do.
        return np.flatnonzero(self._occurs[: len(_LEVELS)])

    @property
    def seconds(self) -> float:
        """How long the frames take, the last one as long as the others; 0 without times."""
        stamps = [stamp for stamp, _ in self._frames]
        if len(stamps) < 2 or stamps[-1] <= stamps[0]:
            return 0.0
        return (stamps[-1] - stamps[0]) / 1e9 * len(stamps) / (len(stamps) - 1)

    def _path(self, index: int) -> Path:
        return self._folder / f'{index}.z'
