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

Queries come first, as in the paper: of all queries those whose masks cover anomalies best. The
parameters of the score follow by a search over a coarse grid, by AP and then FPR95. A handful of
images can tell good settings from bad ones, not the best from the second best; so of all settings
that are as good as the best within the noise, the one nearest to the paper's defaults is taken.
"""

from __future__ import annotations

import datetime
import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import maskomaly_ros
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.datasets import Dataset, Image
from maskomaly_ros.evaluation.evaluate import Progress, check_images, check_task, no_progress
from maskomaly_ros.evaluation.metrics import (
    IGNORE,
    SCORE_VALUES,
    Curve,
    PixelMetrics,
    PixelResult,
    count_scores,
)
from maskomaly_ros.networks import MaskPrediction, Network
from maskomaly_ros.networks.prediction import resize_maps
from maskomaly_ros.queries import Queries
from maskomaly_ros.scoring import (
    ScoringParameters,
    accept_map,
    border_mask,
    reject_map,
    score_map,
)

_LOG = logging.getLogger(__name__)

MASK_THRESHOLDS = (0.3, 0.5, 0.7)
BORDER_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
"""At 1 there are no borders."""
REJECT_WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

SEARCH_SIDE = 640
"""The search runs on score maps of at most this length in pixels; final figures on full size."""

_DEFAULTS = ScoringParameters()
_MOST_FOLDS = 10
_RANKING_LENGTH = 8
# Scores lie in [0, 1]; the counts of other values need not be kept.
_UNIT = slice(*np.searchsorted(SCORE_VALUES, (0.0, np.nextafter(1.0, 2.0))))

FloatArray = NDArray[np.float64]
Counts = NDArray[np.int32]


def calibrate(
    network: Network,
    dataset: Dataset,
    *,
    iou_threshold: float = 0.25,
    progress: Progress = no_progress,
) -> Queries:
    """Find queries and parameters for a network on a data set with anomaly labels.

    - Anomalous queries: for every query the IoU of its mask, m > 0.5 at full size without ignored
      pixels, with the anomalies, averaged over the images that have any; all queries with a mean
      of at least iou_threshold (T_IoU of the paper).
    - mask_threshold, border_threshold and reject_weight: see `_choose`.
    - obstacle_threshold: the threshold of best F1.

    Holds the masks of all images: 1 MB an image for the bundled checkpoint, 50 MB for published
    ones at their full input size.

    Args:
        network: the network.
        dataset: images for calibration, which are no test images any more.
        iou_threshold: T_IoU, in [0, 1].
        progress: see `Progress`.

    Returns:
        The queries file's content. Its provenance tells the figures on this very data set, the
        ranking of the queries, and the AP on images that were left out of the calibration.

    Raises:
        MaskomalyError: iou_threshold is out of range, the labels are of another kind, no image
            could be read, or none has an anomaly.

    """
    if not 0.0 <= iou_threshold <= 1.0:
        raise MaskomalyError(f'iou_threshold {iou_threshold} is out of range: 0 to 1')
    check_task(dataset, 'anomaly')
    observations = [
        _observe(network.predict([image]), label)
        for _, image, label in progress(dataset.read(), len(dataset), 'masks')
    ]
    check_images(dataset, len(observations))
    if not any(o.has_anomaly for o in observations):
        raise MaskomalyError(f'no image of {dataset.name} has an anomaly (label 1)')

    mean_iou = _mean_iou(observations)
    anomalous = _anomalous_queries(mean_iou, iou_threshold)
    if not anomalous:
        _LOG.warning(
            'no query reaches a mean IoU of %g with the anomalies of %s (the best is query %d '
            'with %.3f); without anomalous queries the score is reject with borders alone',
            iou_threshold,
            dataset.name,
            mean_iou.argmax(),
            mean_iou.max(),
        )
    setting, search = _search(observations, anomalous, iou_threshold, progress)
    parameters = ScoringParameters(
        anomalous_queries=anomalous,
        mask_threshold=setting.mask_threshold,
        border_threshold=setting.border_threshold,
        reject_weight=setting.reject_weight,
    )
    figures = _measure(observations, parameters, progress)
    ranking = np.argsort(-mean_iou, kind='stable')[:_RANKING_LENGTH]
    return Queries(
        checkpoint=network.name,
        checkpoint_sha256=network.sha256,
        anomalous_queries=anomalous,
        mask_threshold=setting.mask_threshold,
        border_threshold=setting.border_threshold,
        reject_weight=setting.reject_weight,
        obstacle_threshold=_obstacle_threshold(figures.best_f1_threshold),
        provenance={
            'tool': f'maskomaly_ros {maskomaly_ros.__version__}',
            'date': datetime.date.today().isoformat(),
            'dataset': dataset.name,
            'layout': dataset.layout_name,
            'images': len(observations),
            'images_with_anomalies': sum(o.has_anomaly for o in observations),
            'input_size': asdict(network.input_size),
            'iou_threshold': iou_threshold,
            'mask_threshold_of_iou': 0.5,
            'ranking': [{'query': int(q), 'mean_iou': _rounded(mean_iou[q])} for q in ranking],
            'search': search,
            'calibration_figures': {
                'note': 'measured on the images of the calibration; not a test',
                'ap': _rounded(figures.ap),
                'fpr95': _rounded(figures.fpr95),
                'auroc': _rounded(figures.auroc),
                'best_f1': _rounded(figures.best_f1),
            },
        },
    )


@dataclass(frozen=True)
class _Observation:
    """What the calibration keeps of an image.

    Attributes:
        prediction: the masks, on the CPU, batch of one.
        label: uint8 [H, W].
        small_label: label for the search, uint8 [h, w].
        iou: IoU of every query with the anomalies, float64 [N]; NaN in an image without any.

    """

    prediction: MaskPrediction
    label: Image
    small_label: Image
    iou: FloatArray

    @property
    def has_anomaly(self) -> bool:
        """Whether there is an anomaly in the image."""
        return not bool(np.isnan(self.iou[0]))


def _observe(prediction: MaskPrediction, label: Image) -> _Observation:
    height, width = label.shape
    scale = min(1.0, SEARCH_SIDE / max(height, width))
    small = max(1, round(width * scale)), max(1, round(height * scale))
    return _Observation(
        MaskPrediction(
            prediction.mask_logits.cpu(),
            prediction.class_logits.cpu(),
            prediction.frame_size,
            prediction.extent,
        ),
        label,
        cv2.resize(label, small, interpolation=cv2.INTER_NEAREST).astype(np.uint8, copy=False),
        query_iou(prediction, label),
    )


@torch.inference_mode()
def query_iou(prediction: MaskPrediction, label: Image) -> FloatArray:
    """Return the IoU of every query's mask, m > 0.5, with the anomalies of an image.

    Args:
        prediction: of one frame.
        label: uint8 [H, W] of the size of the frame: 0, 1 = anomaly, 255 = ignore.

    Returns:
        float64 [N]; NaN everywhere where the label has no anomaly.

    """
    logits = prediction.mask_logits
    labels = torch.from_numpy(label).to(logits.device)
    anomaly, region = labels == 1, labels != IGNORE
    area = int(anomaly.sum())
    if not area:
        return np.full(logits.shape[1], np.nan)
    ious = []
    for query in range(logits.shape[1]):  # one at a time: all of them at full size are too large
        resized = resize_maps(
            logits[:, query : query + 1], prediction.frame_size, prediction.extent
        )
        mask = (resized[0, 0] > 0) & region
        common = int((mask & anomaly).sum())
        ious.append(common / (int(mask.sum()) + area - common))
    return np.array(ious)


def _mean_iou(observations: Sequence[_Observation]) -> FloatArray:
    values: FloatArray = np.mean([o.iou for o in observations if o.has_anomaly], axis=0)
    return values


def _anomalous_queries(mean_iou: FloatArray, iou_threshold: float) -> tuple[int, ...]:
    """Return the queries that reach the threshold, best first."""
    best_first = np.argsort(-mean_iou, kind='stable')
    return tuple(int(query) for query in best_first if mean_iou[query] >= iou_threshold)


@dataclass(frozen=True)
class _Setting:
    mask_threshold: float
    border_threshold: float
    reject_weight: float

    @property
    def departures(self) -> int:
        """How many of the parameters are not the paper's."""
        return sum(value != getattr(_DEFAULTS, name) for name, value in asdict(self).items())


_SETTINGS = tuple(
    _Setting(*values)
    for values in itertools.product(MASK_THRESHOLDS, BORDER_THRESHOLDS, REJECT_WEIGHTS)
)

_DEFAULT_SETTING = [setting.departures for setting in _SETTINGS].index(0)


def _search(
    observations: Sequence[_Observation],
    anomalous: tuple[int, ...],
    iou_threshold: float,
    progress: Progress,
) -> tuple[_Setting, dict[str, Any]]:
    """Choose a setting, and repeat the whole calibration without each part of the images.

    Returns:
        The setting, and figures on the search for the provenance.

    """
    folds = _folds(observations)
    tables: dict[tuple[int, ...], Counts] = {}

    def table(queries: tuple[int, ...]) -> Counts:
        if queries not in tables:
            tables.clear()  # one of them takes about 130 MB
            tables[queries] = _count(folds, queries, progress)
        return tables[queries]

    counts = table(anomalous)
    if len(folds) == 1:
        _LOG.warning('one image with anomalies is too few to choose parameters: keeping defaults')
        chosen = _DEFAULT_SETTING
    else:
        chosen = _choose(counts)
    pooled = counts.sum(axis=1)
    figures: dict[str, Any] = {
        'longest_side': SEARCH_SIDE,
        'ap': _rounded(_curve(pooled[chosen]).average_precision()),
        'ap_of_best': _rounded(max(_curve(c).average_precision() for c in pooled)),
        'ap_of_defaults': _rounded(_curve(pooled[_DEFAULT_SETTING]).average_precision()),
    }
    if len(folds) > 2:
        without = [
            _anomalous_queries(
                _mean_iou([o for other in folds if other is not fold for o in other]),
                iou_threshold,
            )
            for fold in folds
        ]
        held_out = np.zeros(counts.shape[2:], np.int64)
        # Folds with equal queries share a table.
        for fold in sorted(range(len(folds)), key=lambda f: (without[f] != anomalous, without[f])):
            others = np.delete(np.arange(len(folds)), fold)
            counts = table(without[fold])
            held_out += counts[_choose(counts[:, others]), fold]
        figures['ap_left_out'] = _rounded(_curve(held_out).average_precision())
        figures['parts_left_out'] = len(folds)
    return _SETTINGS[chosen], figures


def _folds(observations: Sequence[_Observation]) -> list[list[_Observation]]:
    """Deal the images out to at most 10 parts, each of which has an anomaly."""
    ordered = sorted(observations, key=lambda o: not o.has_anomaly)
    number = min(_MOST_FOLDS, sum(o.has_anomaly for o in observations))
    return [ordered[i::number] for i in range(number)]


def _count(
    folds: Sequence[Sequence[_Observation]], anomalous: tuple[int, ...], progress: Progress
) -> Counts:
    """Count the scores that every setting gives.

    Returns:
        int32 [settings, folds, 2, scores]: number of anomalous and of other pixels.

    """
    counts = np.zeros((len(_SETTINGS), len(folds), 2, _UNIT.stop - _UNIT.start), np.int32)
    pairs = [(f, observation) for f, fold in enumerate(folds) for observation in fold]
    for fold, observation in progress(pairs, len(pairs), 'parameters'):
        scores = search_scores(observation.prediction, observation.small_label.shape, anomalous)
        for setting, score in enumerate(scores):
            found = count_scores(score, observation.small_label)
            counts[setting, fold, 0] += found.positives[_UNIT].astype(np.int32)
            counts[setting, fold, 1] += found.negatives[_UNIT].astype(np.int32)
    return counts


def search_scores(
    prediction: MaskPrediction, size: tuple[int, ...], anomalous: tuple[int, ...]
) -> Iterator[NDArray[np.float32]]:
    """Compute the score of one frame for every setting of the grid, from shared parts.

    Yields:
        float32 [*size], equal to `score_map`, for every combination of `MASK_THRESHOLDS`,
        `BORDER_THRESHOLDS` and `REJECT_WEIGHTS`, the last one varying fastest.

    """
    inputs = prediction.mask_logits[0], prediction.class_logits[0], size
    extent = prediction.extent
    accept = accept_map(
        *inputs, ScoringParameters(anomalous_queries=anomalous), extent=extent
    ).numpy()
    for mask_threshold in MASK_THRESHOLDS:
        reject = reject_map(
            *inputs, ScoringParameters(mask_threshold=mask_threshold), extent=extent
        ).numpy()
        for border_threshold in BORDER_THRESHOLDS:
            parameters = ScoringParameters(
                mask_threshold=mask_threshold, border_threshold=border_threshold
            )
            borders = border_mask(*inputs, parameters, extent=extent).numpy()
            bordered = np.where(borders, np.minimum(reject, _DEFAULTS.border_score), reject)
            for weight in REJECT_WEIGHTS:
                if anomalous:
                    yield np.float32(weight) * bordered + np.float32(1 - weight) * accept
                else:
                    yield bordered


def _choose(counts: Counts) -> int:
    """Choose the setting nearest to the paper's among those as good as the best.

    As good means that the AP falls short by no more than the standard error of the difference,
    which the jackknife over the folds estimates (the one standard error rule of Breiman et al.
    1984, on paired differences). Nearest means the fewest parameters that are not the paper's;
    then AP and then FPR95 decide.

    Args:
        counts: as `_count`, of two folds at least.

    """
    curves = [_curve(c) for c in counts.sum(axis=1)]
    ap = np.array([curve.average_precision() for curve in curves])
    fpr95 = np.array([curve.fpr95() for curve in curves])
    without = np.array(
        [
            [_curve(c).average_precision() for c in setting.sum(axis=0) - setting]
            for setting in counts
        ]
    )
    best = int(np.lexsort((fpr95, -ap))[0])
    differences = without[best] - without
    folds = counts.shape[1]
    error = np.sqrt((folds - 1) * differences.var(axis=1))
    departures = np.array([setting.departures for setting in _SETTINGS])
    good = np.flatnonzero(ap[best] - ap <= error)
    return int(good[np.lexsort((fpr95[good], -ap[good], departures[good]))[0]])


def _curve(counts: NDArray[np.integer[Any]]) -> Curve:
    """Return the exact curve of counts [2, scores]."""
    positives, negatives = counts[:, ::-1].astype(np.int64)
    return Curve.of_steps(SCORE_VALUES[_UNIT][::-1], positives, negatives)


def _measure(
    observations: Sequence[_Observation], parameters: ScoringParameters, progress: Progress
) -> PixelResult:
    metrics = PixelMetrics()
    for observation in progress(observations, len(observations), 'figures'):
        prediction = observation.prediction
        score = score_map(
            prediction.mask_logits,
            prediction.class_logits,
            prediction.frame_size,
            parameters,
            extent=prediction.extent,
        )
        metrics.update(score[0].numpy(), observation.label)
    return metrics.compute()


def _obstacle_threshold(best_f1_threshold: float) -> float:
    """Return t so that score > t selects what the best F1 is of: float16 scores >= its threshold.

    That is the middle between the threshold and the float16 number below it.
    """
    upper = int(np.searchsorted(SCORE_VALUES, best_f1_threshold))
    middle = (SCORE_VALUES[upper - 1] + SCORE_VALUES[upper]) / 2
    return max(0.0, round(float(middle), 7))


def _rounded(value: float) -> float:
    return round(float(value), 4)
