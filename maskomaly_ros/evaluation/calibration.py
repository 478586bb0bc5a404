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

"""Find the anomalous queries and the parameters of one checkpoint on labelled images.

Anomalous queries are those whose masks cover anomalies, as in the paper. How well they must, and
the parameters of the score, follow from a search over a coarse grid by AP and then FPR95. A
handful of images can tell good settings from bad ones, not the best from the second best; so of
all settings that are as good as the best within the noise, the one nearest to the paper's
defaults is taken.

Images of anomalies show little of what a vehicle meets all day. Ordinary frames, which show no
anomaly, can be pooled with them: their pixels are negatives like all others, so that a setting
that takes cars for obstacles loses.
"""

from __future__ import annotations

import datetime
import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import maskomaly_ros
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.cache import OutputCache
from maskomaly_ros.evaluation.datasets import Dataset, Image, Sample
from maskomaly_ros.evaluation.images import (
    Progress,
    check_images,
    check_task,
    no_progress,
    over_images,
)
from maskomaly_ros.evaluation.metrics import (
    IGNORE,
    SCORE_VALUES,
    Curve,
    PixelMetrics,
    PixelResult,
)
from maskomaly_ros.evaluation.ordinary import OrdinaryFrame, OrdinaryFrames
from maskomaly_ros.networks import MaskPrediction, Network
from maskomaly_ros.networks.prediction import resize_maps
from maskomaly_ros.queries import Queries
from maskomaly_ros.scoring import (
    ScoringParameters,
    Variant,
    accept_map,
    border_mask,
    join_maps,
    reject_map,
    score_map,
)

_LOG = logging.getLogger(__name__)

IOU_THRESHOLDS = (0.25, 0.3, 0.35, 0.4)
"""T_IoU: mean IoU with anomalies that makes a query an anomalous one; the paper's comes first."""
MASK_THRESHOLDS = (0.3, 0.5, 0.7)
BORDER_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
"""At 1 there are no borders."""
FUSIONS: tuple[tuple[Variant, float], ...] = (
    *(('paper', weight) for weight in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
    *(('geometric', weight) for weight in (0.1, 0.25, 0.5, 0.75)),
    ('minimum', 0.5),
)
"""Variant and reject_weight; `product` ranks as `geometric` with a weight of a half does."""
CRITERIA: Mapping[str, str] = {
    'ap': 'AP, then FPR95, of the images with anomalies',
    'fpr95': 'FPR95, then AP, of the images with anomalies',
    'pooled-ap': 'AP, then FPR95, with the pixels of ordinary frames as negatives too',
    'pooled-fpr95': 'FPR95, then AP, with the pixels of ordinary frames as negatives too',
    'pooled-recall': 'recall where 1 of 1,000 other pixels, those of ordinary frames among them, '
    'is a false alarm, then AP',
}
"""What settings are chosen by."""
FEW_IMAGES = 20
"""With fewer images with anomalies a calibration warns."""
MOST_ORDINARY = 60
"""Frames of each ordinary data set or drive that are looked at, evenly spread."""
FALSE_ALARM_SHARE = 0.001
"""False positive rate at which `pooled-recall` looks."""
MOST_TRIED = 16
"""Queries, by mean IoU, that are tried one after the other where ordinary frames are pooled."""
MOST_ADDED = 4
_MOST_SETS = 3
_LEAST_GAIN = 0.002
GROUND_IOU = 0.5
"""Mean IoU with the road from which a query may become a ground query."""
ROAD_CLASSES = ('road', 'drivable')
"""Names of the class that is the road, where the labels do not show it."""

SEARCH_SIDE = 640
"""The search runs on score maps of at most this length in pixels; final figures on full size."""
ORDINARY_SIDE = 256
"""The same for ordinary frames, of which no detail is to be found; their pixels weigh as many."""

_DEFAULTS = ScoringParameters()
_MOST_PARTS = 10
_RANKING_LENGTH = 8
# The search counts scores in bins of 8 neighbouring float16 numbers from 0 to 1, under 1 % wide.
_ZERO, _ONE = (int(place) for place in np.searchsorted(SCORE_VALUES, (0.0, 1.0)))
_BINS = np.arange(_ZERO, _ONE + 1, 8)

FloatArray = NDArray[np.float64]
Counts = NDArray[np.int32]


def calibrate(
    network: Network,
    dataset: Dataset,
    *,
    ordinary: Sequence[OrdinaryFrames] = (),
    criterion: str | None = None,
    iou_threshold: float | None = None,
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> Queries:
    """Find queries and parameters for a network on a data set with anomaly labels.

    - Anomalous queries: for every query the IoU of its mask, m > 0.5 at full size without ignored
      pixels, with the anomalies, averaged over the images that have any; all queries with a mean
      of at least T_IoU.
      Where ordinary frames are pooled in, a query that covers anomalies well may cover traffic
      as well. So further sets are tried: beginning with the query whose accept alone is best by
      the criterion, the one is added that helps most, as long as one does.
    - Ground queries: all queries whose mask has a mean IoU of at least `GROUND_IOU` with the
      road, or none. Road is what the labels say, where label 0 is the road alone, or else what
      the network itself takes for it, where one of its classes is called road or drivable;
      without ignored and anomalous pixels.
    - T_IoU, whether there are ground queries, mask_threshold, border_threshold, variant and
      reject_weight: see `_choose`.
    - obstacle_threshold: the threshold of best F1, with ordinary frames pooled in. Beside it, in
      the provenance, stands the middle of the detection margin: the threshold that may be off the
      most to either side.

    Holds the masks of all images: 1 MB an image for the bundled checkpoint, 50 MB for published
    ones at their full input size.

    Args:
        network: the network.
        dataset: images for calibration, which are no test images any more.
        ordinary: frames without anomalies, of which `MOST_ORDINARY` each are taken.
        criterion: key of `CRITERIA`; None takes `pooled-ap` where there are ordinary frames, else
            `ap`.
        iou_threshold: T_IoU, in [0, 1]; None chooses from `IOU_THRESHOLDS`.
        cache: folder that keeps the outputs of the network; see `OutputCache`.
        progress: see `Progress`.

    Returns:
        The queries file's content. Its provenance tells the figures on this very data set, the
        ranking of the queries, and the AP on images that were left out of the calibration.

    Raises:
        MaskomalyError: iou_threshold is out of range, the criterion is unknown or needs ordinary
            frames, the labels are of another kind, no image
            could be read, or none has an anomaly.

    """
    if iou_threshold is not None and not 0.0 <= iou_threshold <= 1.0:
        raise MaskomalyError(f'iou_threshold {iou_threshold} is out of range: 0 to 1')
    criterion = criterion or ('pooled-ap' if ordinary else 'ap')
    if criterion not in CRITERIA:
        raise MaskomalyError(f'criterion {criterion!r} is none of {", ".join(CRITERIA)}')
    if _is_pooled(criterion) and not ordinary:
        raise MaskomalyError(f'criterion {criterion} needs ordinary frames, and none are given')
    check_task(dataset, 'anomaly')
    road_class = next((n for n in network.class_names if n.lower() in ROAD_CLASSES), None)
    road_source = (
        'labels'
        if dataset.layout.zero_is_road
        else f'class {road_class} as predicted'
        if road_class is not None
        else None
    )

    def observe(_: Sample, prediction: MaskPrediction | None, label: Image) -> _Observation:
        assert prediction is not None
        if dataset.layout.zero_is_road:
            road = label == 0
        elif road_class is not None:
            predicted = prediction.semantic_map()[0].cpu().numpy()
            road = (predicted == network.class_names.index(road_class)) & (label == 0)
        else:
            road = None
        return _observe(prediction, label, road)

    outputs = OutputCache(cache, network) if cache else None
    run = over_images(network, dataset, outputs, observe)
    observations = [found for _, found in progress(run, len(dataset), 'masks')]
    check_images(dataset, len(observations))
    if not any(o.can_be_searched for o in observations):
        raise MaskomalyError(f'no image of {dataset.name} has an anomaly (label 1) and a rest (0)')

    anomalies = sum(o.has_anomaly for o in observations)
    if anomalies < FEW_IMAGES:
        _LOG.warning(
            '%d images of %s with anomalies are few: what is found may fit them alone. Give %d at '
            'least, and measure on others',
            anomalies,
            dataset.name,
            FEW_IMAGES,
        )
    traffic: list[_Observation] = []
    frames: list[dict[str, Any]] = []
    for each in ordinary:
        some = each.sparse(MOST_ORDINARY)
        seen = some.over(network, _observe_ordinary, outputs)
        found = [o for _, o in progress(seen, len(some), f'masks of {each.name}')]
        some.check(len(found))
        traffic += found
        frames.append({'name': each.name, 'frames': len(found), 'of': len(each)})

    thresholds = IOU_THRESHOLDS if iou_threshold is None else (iou_threshold,)
    searched = observations + traffic if _is_pooled(criterion) else observations
    choice, search = _search(searched, thresholds, criterion, progress)
    if not choice.parameters.anomalous_queries:
        mean_iou = _mean_iou(observations)
        _LOG.warning(
            'no query reaches a mean IoU of %g with the anomalies of %s (the best is query %d '
            'with %.3f); without anomalous queries the score is reject with borders alone',
            thresholds[0],
            dataset.name,
            mean_iou.argmax(),
            mean_iou.max(),
        )
    measured = _measure(observations, choice.parameters, progress)
    figures, curve = measured.compute(), measured.counts.curve()
    pooled = figures
    if traffic:
        pooled = measured.pooled(_measure(traffic, choice.parameters, progress)).compute()
    return Queries(
        checkpoint=network.name,
        checkpoint_sha256=network.sha256,
        anomalous_queries=choice.parameters.anomalous_queries,
        ground_queries=choice.parameters.ground_queries,
        variant=choice.parameters.variant,
        mask_threshold=choice.parameters.mask_threshold,
        border_threshold=choice.parameters.border_threshold,
        reject_weight=choice.parameters.reject_weight,
        obstacle_threshold=_obstacle_threshold(pooled.best_f1_threshold),
        provenance={
            'tool': f'maskomaly_ros {maskomaly_ros.__version__}',
            'date': datetime.date.today().isoformat(),
            'dataset': dataset.name,
            'layout': dataset.layout_name,
            'images': len(observations),
            'images_with_anomalies': anomalies,
            'criterion': criterion,
            **({'ordinary': frames} if frames else {}),
            'input_size': asdict(network.input_size),
            'queries_by': 'criterion' if choice.iou_threshold is None else 'iou_threshold',
            'iou_threshold': choice.iou_threshold,
            'mask_threshold_of_iou': 0.5,
            'ranking': _ranking(_mean_iou(observations)),
            'ground': {
                'road': road_source,
                'iou_threshold': GROUND_IOU,
                'ranking': _ranking(_mean_road_iou(observations)) if road_source else [],
            },
            'search': search,
            'calibration_figures': {
                'note': 'measured on the images of the calibration; not a test',
                **_figures(figures),
                **({'pooled': _figures(pooled)} if traffic else {}),
            },
            'detection_margin': {f'{margin:g}': _interval(curve, margin) for margin in (0.6, 0.7)},
        },
    )


def _is_pooled(criterion: str) -> bool:
    return criterion.startswith('pooled-')


def _figures(result: PixelResult) -> dict[str, float]:
    return {n: _rounded(getattr(result, n)) for n in ('ap', 'fpr95', 'auroc', 'best_f1')}


@dataclass(frozen=True)
class _Observation:
    """What the calibration keeps of an image.

    Attributes:
        prediction: the masks, on the CPU, batch of one.
        label: uint8 [H, W].
        small_label: label for the search, uint8 [h, w].
        weight: pixels at the size of the search of anomalies that one of small_label stands for.
        iou: IoU of every query with the anomalies, float64 [N]; NaN in an image without any.
        road_iou: the same with the road.

    """

    prediction: MaskPrediction
    label: Image
    small_label: Image
    iou: FloatArray
    road_iou: FloatArray
    weight: int = 1

    @property
    def has_anomaly(self) -> bool:
        """Whether there is an anomaly in the image."""
        return not bool(np.isnan(self.iou[0]))

    @property
    def can_be_searched(self) -> bool:
        """Whether the image has an AP of its own at the size of the search."""
        return bool((self.small_label == 1).any() and (self.small_label == 0).any())


def _observe(
    prediction: MaskPrediction,
    label: Image,
    road: NDArray[np.bool_] | None,
    side: int = SEARCH_SIDE,
) -> _Observation:
    height, width = label.shape
    small, usual = (
        (max(1, round(width * scale)), max(1, round(height * scale)))
        for scale in (min(1.0, most / max(height, width)) for most in (side, SEARCH_SIDE))
    )
    return _Observation(
        prediction.to('cpu'),
        label,
        cv2.resize(label, small, interpolation=cv2.INTER_NEAREST).astype(np.uint8, copy=False),
        query_iou(prediction, label),
        query_iou(prediction, _road_label(label, road)),
        round(math.prod(usual) / math.prod(small)),
    )


def _observe_ordinary(frame: OrdinaryFrame) -> _Observation:
    return _observe(frame.prediction, frame.label, None, ORDINARY_SIDE)


def _road_label(label: Image, road: NDArray[np.bool_] | None) -> Image:
    """Return a label with the road as 1; anomalies, which may stand on it, are ignored."""
    if road is None:
        return np.full_like(label, IGNORE)
    return np.where(label == 0, road, IGNORE).astype(np.uint8)


Membership = Literal['threshold', 'argmax']
"""Which pixels belong to a query: those with m > 0.5, or those where its mask is the strongest."""


@torch.inference_mode()
def query_iou(
    prediction: MaskPrediction, label: Image, membership: Membership = 'threshold'
) -> FloatArray:
    """Return the IoU of every query's mask with the anomalies of an image.

    A network with windows has a mask of every query in each: intersections and unions are summed
    over them, as a query that means something else in the next window is wrong there.

    Args:
        prediction: of one frame.
        label: uint8 [H, W] of the size of the frame: 0, 1 = anomaly, 255 = ignore.
        membership: which pixels belong to a mask: `threshold`, m > 0.5, so that a pixel may
            belong to several; or `argmax`, to the strongest one alone, as the paper says.

    Returns:
        float64 [N]; NaN everywhere where the label has no anomaly.

    """
    if not (label == 1).any():
        return np.full(prediction.num_queries, np.nan)
    overlaps = _overlaps if membership == 'threshold' else _overlaps_of_strongest
    counts = [
        overlaps(part, part_label)
        for part, part_label in zip(prediction.parts, prediction.cut(label), strict=True)
    ]
    common, union = np.sum(counts, axis=0)
    return np.asarray(common / union)


def strongest_masks(part: MaskPrediction) -> NDArray[np.int64]:
    """Return the query whose mask is the strongest at each pixel, int64 [H, W]."""
    height, width = part.frame_size
    highest = torch.full((height, width), -torch.inf, device=part.device)
    strongest = torch.zeros((height, width), dtype=torch.int64, device=part.device)
    for query in range(part.num_queries):  # one at a time: all at full size are too large
        logits = part.mask_logits[:, query : query + 1]
        resized = resize_maps(logits, part.frame_size, part.extent)[0, 0]
        higher = resized > highest
        highest = torch.where(higher, resized, highest)
        strongest[higher] = query
    return np.asarray(strongest.cpu().numpy())


def _overlaps_of_strongest(part: MaskPrediction, label: Image) -> FloatArray:
    """Return what `_overlaps` does, of masks that share no pixel."""
    strongest, number = strongest_masks(part), part.num_queries
    common = np.bincount(strongest[label == 1], minlength=number)
    own = np.bincount(strongest[label != IGNORE], minlength=number)
    return np.stack([common, own + int((label == 1).sum()) - common]).astype(np.float64)


def _overlaps(part: MaskPrediction, label: Image) -> FloatArray:
    """Return the pixels in intersection and union of every mask with the anomalies, [2, N]."""
    labels = torch.from_numpy(np.ascontiguousarray(label)).to(part.device)
    anomaly, region = labels == 1, labels != IGNORE
    area = int(anomaly.sum())
    found = []
    for query in range(part.num_queries):  # one at a time: all at full size are too large
        logits = part.mask_logits[:, query : query + 1]
        resized = resize_maps(logits, part.frame_size, part.extent)
        mask = (resized[0, 0] > 0) & region
        common = int((mask & anomaly).sum())
        found.append((common, int(mask.sum()) + area - common))
    counts: FloatArray = np.array(found, np.float64).T
    return counts


def _mean_iou(observations: Iterable[_Observation]) -> FloatArray:
    values: FloatArray = np.mean([o.iou for o in observations if o.has_anomaly], axis=0)
    return values


def _mean_road_iou(observations: Iterable[_Observation]) -> FloatArray:
    known = [o.road_iou for o in observations if not np.isnan(o.road_iou[0])]
    values: FloatArray = np.mean(known, axis=0) if known else np.zeros(0)
    return values


def _interval(curve: Curve, margin: float) -> dict[str, float]:
    low, high = curve.detection_interval(margin)
    return {
        'length': _rounded(high - low),
        'from': _rounded(low),
        'to': _rounded(high),
        'middle': _rounded((low + high) / 2),
    }


def _ranking(mean_iou: FloatArray) -> list[dict[str, Any]]:
    best = np.argsort(-mean_iou, kind='stable')[:_RANKING_LENGTH]
    return [{'query': int(query), 'mean_iou': _rounded(mean_iou[query])} for query in best]


def _departures(parameters: ScoringParameters) -> int:
    """Count the searched parameters that are not the paper's."""
    names = 'mask_threshold', 'border_threshold', 'reject_weight', 'variant'
    return sum(getattr(parameters, name) != getattr(_DEFAULTS, name) for name in names)


GRID = tuple(
    ScoringParameters(
        mask_threshold=mask_threshold,
        border_threshold=border_threshold,
        reject_weight=reject_weight,
        variant=variant,
    )
    for mask_threshold, border_threshold, (variant, reject_weight) in itertools.product(
        MASK_THRESHOLDS, BORDER_THRESHOLDS, FUSIONS
    )
)
"""Every setting that is tried, FUSIONS varying fastest."""


@dataclass(frozen=True)
class _Choice:
    iou_threshold: float | None  # None where queries were added one by one
    parameters: ScoringParameters


class _Sets(NamedTuple):
    """Anomalous and ground queries."""

    anomalous: tuple[int, ...]
    ground: tuple[int, ...]


class _Parts:
    """The images, dealt out to parts, and the scores that every setting gives in each part."""

    def __init__(
        self, observations: Sequence[_Observation], criterion: str, progress: Progress
    ) -> None:
        # Every part has an anomaly, so that it can be measured alone and left out.
        ordered = sorted(observations, key=lambda o: not o.can_be_searched)
        number = min(_MOST_PARTS, sum(o.can_be_searched for o in observations))
        self._parts = [ordered[i::number] for i in range(number)]
        self._progress = progress
        self._tables: dict[_Sets, Counts] = {}
        self._criterion = criterion
        self._tried = _Tried(self._parts) if _is_pooled(criterion) else None

    def __len__(self) -> int:
        return len(self._parts)

    def candidates(
        self, thresholds: Sequence[float], without: int | None = None
    ) -> dict[_Sets, float | None]:
        """Return the sets of queries to choose from, the paper's preference first.

        Anomalous queries are those that the thresholds of IoU select, best query first. Each set
        comes without ground queries, and then with them. Where ordinary frames are pooled in,
        sets that grow by what the criterion says follow.

        Args:
            thresholds: T_IoU. One that selects what another one does adds nothing, nor does one
                that selects no query where another one does.
            without: part that is left out.

        """
        parts = [part for index, part in enumerate(self._parts) if index != without]
        images = list(itertools.chain.from_iterable(parts))
        mean_iou = _mean_iou(images)
        on_road = {int(q) for q in np.flatnonzero(_mean_road_iou(images) >= GROUND_IOU)}
        best_first = np.argsort(-mean_iou, kind='stable')
        choices: list[tuple[float | None, tuple[int, ...]]] = []
        for threshold in thresholds:
            queries = tuple(int(q) for q in best_first if mean_iou[q] > threshold)
            if queries or not choices:
                choices.append((threshold, queries))
        if self._tried is not None:
            figure = _figure_of(self._criterion)
            choices += [(None, grown) for grown in self._tried.growing(figure, without)]
            # The whole grid is worth its time for the best of them, and the paper's comes first.
            rank = {q: -self._tried.figure(figure, q, without) for _, q in choices[1:]}
            choices[1:] = sorted(choices[1:], key=lambda choice: rank[choice[1]])[:_MOST_SETS]
        found: dict[_Sets, float | None] = {}
        for reason, queries in choices:
            for ground in ((), tuple(sorted(on_road - set(queries)))):
                found.setdefault(_Sets(queries, ground), reason)
        return found

    def counts(self, sets: _Sets) -> Counts:
        """Count the scores that every setting of the grid gives with these queries.

        Returns:
            int32 [settings, parts, 2, bins]: number of anomalous and of other pixels.

        """
        key = _Sets(tuple(sorted(sets.anomalous)), sets.ground)
        if key in self._tables:
            return self._tables[key]
        counts = np.zeros((len(GRID), len(self), 2, len(_BINS)), np.int32)
        pairs = [(index, image) for index, part in enumerate(self._parts) for image in part]
        for index, image in self._progress(pairs, len(pairs), 'parameters'):
            scores = search_scores(image.prediction, image.small_label.shape, *key)
            for setting, score in enumerate(scores):
                found = _bin_counts(_bits(score), image.small_label)
                counts[setting, index] += image.weight * found
        self._tables[key] = counts
        return counts


class _Tried:
    """Accept of the most promising queries, each alone, at half the size of the search."""

    def __init__(self, parts: Sequence[Sequence[_Observation]]) -> None:
        images = list(itertools.chain.from_iterable(parts))
        order = np.argsort(-_mean_iou(images), kind='stable')
        self._queries = tuple(int(query) for query in order[:MOST_TRIED])
        self._maps = [[self._look(image) for image in part] for part in parts]
        self._counts: dict[frozenset[int], Counts] = {}

    def growing(
        self, figure: Callable[[Curve], float], without: int | None
    ) -> list[tuple[int, ...]]:
        """Return the best query, then with the one that helps most beside it, and so on.

        Args:
            figure: what makes a set better: the higher, the better.
            without: part that is left out.

        """
        sets: list[tuple[int, ...]] = []
        chosen: tuple[int, ...] = ()
        best = -1.0
        while len(chosen) < MOST_ADDED:
            figures = {
                (*chosen, query): self.figure(figure, (*chosen, query), without)
                for query in self._queries
                if query not in chosen
            }
            if not figures:
                break
            grown = max(figures, key=lambda queries: figures[queries])
            if figures[grown] < best + _LEAST_GAIN:
                break
            best, chosen = figures[grown], grown
            sets.append(chosen)
        return sets

    def figure(
        self, figure: Callable[[Curve], float], queries: tuple[int, ...], without: int | None
    ) -> float:
        """Return the figure of accept with some queries; of those that are not tried, without."""
        known = frozenset(queries) & set(self._queries)
        return figure(_curve(self._count(known, without))) if known else -1.0

    def _count(self, key: frozenset[int], without: int | None) -> NDArray[np.int64]:
        if key not in self._counts:
            rows = [self._queries.index(query) for query in key]
            counts = np.zeros((len(self._maps), 2, len(_BINS)), np.int32)
            for index, part in enumerate(self._maps):
                for bits, label, weight in part:
                    counts[index] += weight * _bin_counts(bits[rows].max(axis=0), label)
            self._counts[key] = counts
        counts = self._counts[key]
        rest = counts if without is None else np.delete(counts, without, axis=0)
        return np.asarray(rest.sum(axis=0), np.int64)

    @torch.inference_mode()
    def _look(self, image: _Observation) -> tuple[NDArray[np.uint16], Image, int]:
        """Return the bits of accept of each query, uint16 [K, h, w], its label and its weight."""
        height, width = image.small_label.shape
        size = max(1, height // 2), max(1, width // 2)
        prediction = image.prediction.resized(size)
        maps = [
            prediction.scored(accept_map, ScoringParameters(anomalous_queries=(query,)))[0]
            for query in self._queries
        ]
        label = cv2.resize(image.small_label, size[::-1], interpolation=cv2.INTER_NEAREST)
        # float16 numbers from 0 on are ordered as their bits are.
        bits = torch.stack(maps).half().numpy().view(np.uint16)
        return bits, np.asarray(label, np.uint8), image.weight


def _bits(score: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bits of scores from 0 on as float16, ordered as the scores are."""
    bits = torch.from_numpy(score).half().numpy().view(np.uint16)
    return np.asarray(bits & 0x7FFF, np.uint16)  # -0.0 counts as 0.0


def _bin_counts(bits: NDArray[np.uint16], label: Image) -> NDArray[np.intp]:
    """Count anomalous and other pixels with scores in each of `_BINS`, [2, bins]."""
    places = (bits >> 3).astype(np.intp)  # float16 numbers from 0 on ascend as their bits do
    known = label != IGNORE
    keys = places[known] + np.where(label[known] == 1, 0, len(_BINS))
    return np.bincount(keys, minlength=2 * len(_BINS)).reshape(2, len(_BINS))


def _search(
    observations: Sequence[_Observation],
    thresholds: Sequence[float],
    criterion: str,
    progress: Progress,
) -> tuple[_Choice, dict[str, Any]]:
    """Choose a setting; then repeat the whole calibration without each part of the images.

    Returns:
        The setting, and figures on the search for the provenance: AP at the size of the search,
        over all images, and the mean of the AP of single parts.

    """
    parts = _Parts(observations, criterion, progress)
    if len(parts) == 1:
        _LOG.warning('one image with anomalies is too few to choose parameters: keeping defaults')
    choice, counts = _choose(parts, thresholds, criterion)
    queries = next(iter(parts.candidates(thresholds)))
    default = parts.counts(queries)[[_departures(p) for p in GRID].index(0)]
    figures: dict[str, Any] = {
        'longest_side': SEARCH_SIDE,
        'ap': _ap(counts.sum(axis=0)),
        'ap_of_defaults': _ap(default.sum(axis=0)),
    }
    if len(parts) > 2:
        left_out = [
            _ap(_choose(parts, thresholds, criterion, without=part)[1][part])
            for part in range(len(parts))
        ]
        figures |= {
            'parts': len(parts),
            'ap_of_a_part': _rounded(fmean(_ap(part) for part in counts)),
            'ap_of_a_part_with_defaults': _rounded(fmean(_ap(part) for part in default)),
            'ap_of_a_part_left_out': _rounded(fmean(left_out)),
        }
    return choice, figures


def _choose(
    parts: _Parts, thresholds: Sequence[float], criterion: str, without: int | None = None
) -> tuple[_Choice, Counts]:
    """Choose the setting nearest to the paper's among those as good as the best.

    As good means that the figure of the criterion falls short by no more than the
    standard error of the difference, which the jackknife over the parts estimates (the one
    standard error rule of Breiman et al. 1984, on paired differences). Nearest means the fewest
    parameters that are not the paper's; then that figure and then the other one decide. With a
    single part nothing is known of the noise, and the paper's parameters stay.

    Args:
        parts: the images.
        thresholds: values of T_IoU to choose from, the preferred one first.
        criterion: key of `CRITERIA`.
        without: part to leave out.

    Returns:
        The choice, and its counts [parts, 2, bins] in all parts.

    """
    candidates = parts.candidates(thresholds, without)
    counts = np.concatenate([parts.counts(sets) for sets in candidates])
    settings = list(itertools.product(candidates, GRID))
    first = next(iter(candidates))
    departures = np.array(
        [
            _departures(parameters)
            + (sets.anomalous != first.anomalous)
            + (sets.ground != first.ground)
            for sets, parameters in settings
        ]
    )
    known = [part for part in range(len(parts)) if part != without]
    if len(known) == 1:
        chosen = int(departures.argmin())
    else:
        inside = counts[:, known]
        curves = [_curve(setting.sum(axis=0)) for setting in inside]
        first_figure = _figure_of(criterion)
        second = _specificity95 if first_figure is Curve.average_precision else None
        figures = first_figure, second or Curve.average_precision
        primary, secondary = (np.array([figure(curve) for curve in curves]) for figure in figures)
        reduced = np.array(
            [
                [figures[0](_curve(rest)) for rest in setting.sum(axis=0) - setting]
                for setting in inside
            ]
        )
        best = int(np.lexsort((-secondary, -primary))[0])
        differences = reduced[best] - reduced
        error = np.sqrt((len(known) - 1) * differences.var(axis=1))
        good = np.flatnonzero(primary[best] - primary <= error)
        order = np.lexsort((-secondary[good], -primary[good], departures[good]))
        chosen = int(good[order[0]])
    sets, parameters = settings[chosen]
    choice = _Choice(
        candidates[sets],
        replace(parameters, anomalous_queries=sets.anomalous, ground_queries=sets.ground),
    )
    return choice, counts[chosen]


def search_scores(
    prediction: MaskPrediction,
    size: tuple[int, ...],
    anomalous: tuple[int, ...],
    ground: tuple[int, ...] = (),
) -> Iterator[NDArray[np.float32]]:
    """Compute the score of one frame for every setting of the grid, from shared parts.

    Yields:
        float32 [*size], equal to `score_map` but for rounding, for every setting of `GRID`.

    """
    parts = prediction.resized((size[0], size[1])).parts
    for maps in zip(*(_search_part(part, anomalous, ground) for part in parts), strict=True):
        yield prediction.resized((size[0], size[1])).blend(maps).numpy()


def _search_part(
    part: MaskPrediction, anomalous: tuple[int, ...], ground: tuple[int, ...]
) -> Iterator[Tensor]:
    inputs = part.mask_logits[0], part.class_logits[0], part.frame_size
    extent = part.extent
    accept = accept_map(*inputs, ScoringParameters(anomalous_queries=anomalous), extent=extent)
    for mask_threshold in MASK_THRESHOLDS:
        reject = reject_map(
            *inputs,
            ScoringParameters(ground_queries=ground, mask_threshold=mask_threshold),
            extent=extent,
        )
        for border_threshold in BORDER_THRESHOLDS:
            parameters = ScoringParameters(
                ground_queries=ground,
                mask_threshold=mask_threshold,
                border_threshold=border_threshold,
            )
            borders = border_mask(*inputs, parameters, extent=extent)
            bordered = torch.where(borders, reject.clamp(max=_DEFAULTS.border_score), reject)
            for variant, weight in FUSIONS:
                chosen = ScoringParameters(
                    anomalous_queries=anomalous, reject_weight=weight, variant=variant
                )
                yield join_maps(bordered, accept, chosen)


def _curve(counts: NDArray[np.integer[Any]]) -> Curve:
    """Return the curve of counts [2, bins]."""
    positives, negatives = counts[:, ::-1].astype(np.int64)
    return Curve.of_steps(SCORE_VALUES[_BINS][::-1], positives, negatives)


def _figure_of(criterion: str) -> Callable[[Curve], float]:
    """Return what a criterion looks at first: the higher, the better."""
    if criterion.endswith('fpr95'):
        return _specificity95
    return _low_recall if criterion.endswith('recall') else Curve.average_precision


def _low_recall(curve: Curve) -> float:
    """Return the recall where the false positive rate is at most `FALSE_ALARM_SHARE`."""
    few = np.flatnonzero(curve.false_positive_rate <= FALSE_ALARM_SHARE)
    return float(curve.recall[few[-1]]) if few.size else 0.0


def _specificity95(curve: Curve) -> float:
    """Return the share of pixels without anomaly that are left out where 95 % are found."""
    return 1 - curve.fpr95()


def _ap(counts: NDArray[np.integer[Any]]) -> float:
    return _rounded(_curve(counts).average_precision())


def _measure(
    observations: Sequence[_Observation], parameters: ScoringParameters, progress: Progress
) -> PixelMetrics:
    metrics = PixelMetrics()
    for observation in progress(observations, len(observations), 'figures'):
        score = observation.prediction.scored(score_map, parameters)
        metrics.update(score[0].numpy(), observation.label)
    return metrics


def _obstacle_threshold(best_f1_threshold: float) -> float:
    """Return t so that score > t selects what the best F1 is of: float16 scores >= its threshold.

    That is the middle between the threshold and the float16 number below it.
    """
    upper = int(np.searchsorted(SCORE_VALUES, best_f1_threshold))
    middle = (SCORE_VALUES[upper - 1] + SCORE_VALUES[upper]) / 2
    return max(0.0, round(float(middle), 7))


def _rounded(value: float) -> float:
    return round(float(value), 4)
