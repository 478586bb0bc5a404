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

"""Metrics of anomaly and semantic segmentation, as accumulators.

Every metric is an object with `update(score, label)` for each image and `compute()` at the end;
figures are pooled over the pixels or components of the data set, never averaged over images.

The anomaly metrics are those of the SegmentMeIfYouCan benchmark (Chan et al. 2021, section 4 and
appendix). It stores scores as float16, and so scores are rounded to float16 here: a score map
then has at most 63,487 different values, one pass of `bincount` is a lossless summary of it, and
quantiles and curves follow from the counts without sorting a pixel.

Component metrics need the threshold of the best pixel F1, which is known only when all images
have been seen. They are therefore a second pass: `PixelMetrics` first, then `ComponentMetrics`
with its `best_f1_threshold` over the same scores, which a caller can keep as float16 meanwhile.

Labels are 0 not anomaly, 1 anomaly, 255 ignore; figures are fractions, not percent.
"""

from __future__ import annotations

import functools
import importlib
import logging
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskomaly_ros.errors import MaskomalyError

_LOG = logging.getLogger(__name__)

IGNORE = 255

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

# Bit patterns of all finite float16 numbers by ascending value. -0.0 (0x8000) counts as 0.0.
_PLACES = np.concatenate([np.arange(0xFBFF, 0x8000, -1), np.arange(0x7C00)])
SCORE_VALUES: FloatArray = _PLACES.astype(np.uint16).view(np.float16).astype(np.float64)
"""Every value that a stored score can have, float64, ascending."""

_LARGEST = float(np.finfo(np.float16).max)
_QUANTILES_PER_CLASS = 384


class RoundedScores(NamedTuple):
    """Scores as they are stored and compared, and what was lost.

    Attributes:
        scores: float16, of the same shape.
        clipped: pixels beyond ±65504, which are set to it: their order is lost.
        tied: whether most of the values that differed have become equal, as in a score that
            differs little from a large number.

    """

    scores: NDArray[np.float16]
    clipped: int
    tied: bool


def round_scores(score: NDArray[Any]) -> RoundedScores:
    """Round a score map to float16; infinity and NaN stay what they are, and are no score."""
    score = np.asarray(score)
    if score.dtype == np.float16:
        return RoundedScores(score, 0, tied=False)
    largest = np.finfo(np.float16).max
    beyond = np.isfinite(score) & (np.abs(score) > largest)
    clipped = int(beyond.sum())
    if clipped:
        score = np.where(beyond, np.copysign(largest, score), score)
    rounded = score.astype(np.float16)
    step = max(1, score.size // 10_000)
    sample = score.ravel()[::step]
    sample = sample[np.isfinite(sample)]
    values = len(np.unique(sample))
    left = len(np.unique(sample.astype(np.float16)))
    return RoundedScores(rounded, clipped, tied=left < 100 and 10 * left < values)


def clip_overflow(score: NDArray[np.float16]) -> RoundedScores:
    """Set what became infinite when finite scores were rounded to ±65504."""
    infinite = (score.view(np.uint16) & 0x7FFF) == 0x7C00
    clipped = int(np.count_nonzero(infinite))
    if clipped:
        score = np.where(infinite, score.view(np.uint16) - 1, score.view(np.uint16))
        score = score.astype(np.uint16).view(np.float16)
    return RoundedScores(score, clipped, tied=False)


def stored_scores(score: Tensor) -> RoundedScores:
    """Return a score map as it is stored and measured: rounded to float16."""
    # torch rounds as NumPy does, which is many times slower where scores are near 0.
    rounded = score.half().cpu().numpy()
    lowest, highest = torch.aminmax(score)
    if float(lowest) >= -_LARGEST and float(highest) <= _LARGEST:  # no NaN either
        return RoundedScores(rounded, 0, tied=False)
    return clip_overflow(rounded)


@dataclass(frozen=True)
class ScoreCounts:
    """How many pixels have which score: a lossless summary of score maps.

    Attributes:
        positives: number of anomalous pixels with each of `SCORE_VALUES`, int64.
        negatives: the same for pixels that are not anomalous.

    """

    positives: IntArray
    negatives: IntArray

    def __add__(self, other: ScoreCounts) -> ScoreCounts:
        return ScoreCounts(self.positives + other.positives, self.negatives + other.negatives)

    def __sub__(self, other: ScoreCounts) -> ScoreCounts:
        return ScoreCounts(self.positives - other.positives, self.negatives - other.negatives)

    def curve(self) -> Curve:
        """Return the exact curve over every score that occurs."""
        places = np.flatnonzero(self.positives | self.negatives)
        return OccurringScores(places, self.positives[places], self.negatives[places]).curve()


@dataclass(frozen=True)
class OccurringScores:
    """The same of one image, in which few of all scores occur.

    Attributes:
        places: of the scores that occur among `SCORE_VALUES`, ascending, int64 [K].
        positives: number of anomalous pixels with each of them, int64 [K].
        negatives: the same for pixels that are not anomalous.

    """

    places: IntArray
    positives: IntArray
    negatives: IntArray

    @functools.cached_property
    def values(self) -> FloatArray:
        """The scores that occur, ascending."""
        return SCORE_VALUES[self.places]

    def among_all(self) -> ScoreCounts:
        """Return the counts of all scores."""
        positives, negatives = np.zeros((2, len(SCORE_VALUES)), np.int64)
        positives[self.places], negatives[self.places] = self.positives, self.negatives
        return ScoreCounts(positives, negatives)

    def curve(self) -> Curve:
        """Return the exact curve over every score that occurs."""
        return Curve.of_steps(self.values[::-1], self.positives[::-1], self.negatives[::-1])


def count_scores(score: NDArray[Any], label: NDArray[Any]) -> ScoreCounts:
    """Count the scores of one image.

    Args:
        score: real numbers [H, W], higher = more anomalous; rounded to float16.
        label: integers or bool [H, W]: 0 not anomaly, 1 anomaly, 255 ignore.

    Raises:
        MaskomalyError: shapes differ, label has another value, or a score outside the ignored
            region is NaN or beyond float16.

    """
    return _count_occurring(_stored(score), np.asarray(label)).among_all()


def _count_occurring(stored: NDArray[np.float16], label: NDArray[Any]) -> OccurringScores:
    found = _fused_count(stored, label)
    if found is None:
        found = _count(stored.view(np.uint16), _checked_label(label, stored.shape))
    places, positives, negatives, others, *_ = found
    if others:
        raise MaskomalyError(
            f'the score map has {others} pixels that are NaN or beyond ±65504, the limit of the '
            'float16 numbers in which scores are compared; scale such scores down'
        )
    return OccurringScores(places, positives, negatives)


def _count(
    bits: NDArray[np.uint16], label: NDArray[np.uint8]
) -> tuple[IntArray, IntArray, IntArray, int]:
    """Return places, anomalous and other pixels of scores, and pixels with none, by NumPy."""
    # Indices of bincount's own type are not copied.
    places = (np.minimum(label, 2).astype(np.intp) << 16) | bits
    counts = np.bincount(places.ravel(), minlength=3 << 16).reshape(3, 1 << 16)[:2]
    counts[:, 0] += counts[:, 0x8000]
    counts[:, 0x8000] = 0
    negatives, positives = counts[:, _PLACES]
    others = int(counts.sum() - negatives.sum() - positives.sum())
    (occurring,) = np.nonzero(positives | negatives)
    return occurring, positives[occurring], negatives[occurring], others


def _fused_count(score: NDArray[Any], label: NDArray[Any]) -> Any:
    """Return what the compiled form counts, float32 too; None where it cannot serve."""
    fused = _fused_counts()
    if fused is None or label.dtype != np.uint8 or label.shape != score.shape:
        return None
    found = fused.count(score, label, _PLACES)
    return None if found.wrong else found


@functools.cache
def _fused_counts() -> ModuleType | None:
    """Import the compiled form, which is faster; None where numba does not work."""
    try:
        return importlib.import_module('maskomaly_ros.fused.numba_counts')
    except Exception as error:
        _LOG.info('Scores are counted by NumPy alone: %s', error)
    return None


@dataclass(frozen=True)
class Curve:
    """True and false positives against a falling threshold.

    Attributes:
        thresholds: float64 [K], descending; a pixel is predicted where score >= threshold.
        true_positives: number of anomalous pixels predicted, [K].
        false_positives: number of other pixels predicted, [K].
        positives: number of anomalous pixels in all.
        negatives: number of other pixels in all.

    """

    thresholds: FloatArray
    true_positives: IntArray
    false_positives: IntArray
    positives: int
    negatives: int

    @classmethod
    def of_steps(cls, thresholds: FloatArray, positives: IntArray, negatives: IntArray) -> Curve:
        """Cumulate the pixels that each threshold, in descending order, adds."""
        tp, fp = np.cumsum(positives), np.cumsum(negatives)
        if not tp.size or not tp[-1] or not fp[-1]:
            raise MaskomalyError(
                f'{tp[-1] if tp.size else 0} anomalous and {fp[-1] if fp.size else 0} other '
                'pixels: precision and recall need both'
            )
        return cls(thresholds, tp, fp, int(tp[-1]), int(fp[-1]))

    @functools.cached_property
    def recall(self) -> FloatArray:
        """True positive rate."""
        return self.true_positives / self.positives

    @functools.cached_property
    def false_positive_rate(self) -> FloatArray:
        """Share of the pixels without anomaly that are predicted."""
        return self.false_positives / self.negatives

    @property
    def precision(self) -> FloatArray:
        """Share of the predicted pixels that are anomalous; 1 where none is predicted."""
        predicted = self.true_positives + self.false_positives
        return np.where(predicted > 0, self.true_positives / np.maximum(predicted, 1), 1.0)

    @property
    def f1(self) -> FloatArray:
        """Harmonic mean of precision and recall."""
        predicted = self.true_positives + self.false_positives
        return 2 * self.true_positives / (predicted + self.positives)

    def average_precision(self) -> float:
        """Return AP = Σ (R_i − R_{i−1}) · P_i, the definition of scikit-learn."""
        return float(np.sum(np.diff(self.recall, prepend=0.0) * self.precision))

    def auroc(self) -> float:
        """Return the area under the ROC curve, by trapezoids."""
        x, y = (np.concatenate([[0.0], rate]) for rate in (self.false_positive_rate, self.recall))
        return float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2)

    def fpr95(self) -> float:
        """Return the false positive rate at the first threshold with recall >= 0.95."""
        return float(self.false_positive_rate[np.searchsorted(self.recall, 0.95)])

    def fpr_nearest_95(self) -> float:
        """Return the false positive rate where recall is nearest to 0.95.

        Unlike `fpr95`, recall may be lower there: the definition of StreetHazards' benchmark,
        where of two thresholds that are equally near the lower one counts.
        """
        distance = np.abs(self.recall - 0.95)
        lowest = len(distance) - 1 - int(np.argmin(distance[::-1]))
        complete = int(np.searchsorted(self.true_positives, self.positives))
        return float(self.false_positive_rate[min(lowest, complete)])

    def best_f1(self) -> tuple[float, float]:
        """Return the largest F1 and the (highest) threshold that reaches it."""
        f1 = self.f1
        best = int(np.argmax(f1))
        return float(f1[best]), float(self.thresholds[best])

    def detection_margin(self, margin: float) -> float:
        """Return the Maximal Detection Margin; see `maximal_detection_margin`."""
        low, high = self.detection_interval(margin)
        return high - low

    def detection_interval(self, margin: float) -> tuple[float, float]:
        """Return the largest interval of thresholds z in [0, 1] with F1(score > z) > margin.

        Returns:
            Its ends; both 0 where there is none.

        """
        # Between two neighbouring scores the prediction does not change: `score > z` selects the
        # same pixels for all z in [lower, upper), those with score >= upper.
        upper = self.thresholds
        lower = np.append(self.thresholds[1:], -np.inf)
        good = np.concatenate([[False], self.f1 > margin, [False]])
        (turns,) = np.nonzero(good[1:] != good[:-1])
        if not turns.size:
            return 0.0, 0.0
        high = np.clip(upper[turns[::2]], 0.0, 1.0)
        low = np.clip(lower[turns[1::2] - 1], 0.0, 1.0)
        longest = int(np.argmax(high - low))
        return float(low[longest]), float(high[longest])


@dataclass(frozen=True)
class PixelResult:
    """Pixel metrics of a data set, as fractions.

    Attributes:
        ap: average precision on the benchmark's compressed curve.
        fpr95: false positive rate at a true positive rate of 95 %.
        auroc: area under the ROC curve.
        best_f1: largest F1.
        best_f1_threshold: threshold that reaches it: the benchmark's δ*.
        exact_ap: average precision without compression.
        margin_60: Maximal Detection Margin, exact, for a margin of 0.6 of the F1; NaN where
            scores lie outside [0, 1], for which it is not defined.
        margin_70: the same for 0.7.
        images: number of images.

    """

    ap: float
    fpr95: float
    auroc: float
    best_f1: float
    best_f1_threshold: float
    exact_ap: float
    margin_60: float
    margin_70: float
    images: int


@dataclass(frozen=True)
class ImageFigures:
    """Exact figures of a single image, as fractions; NaN where it lacks one of the two classes."""

    ap: float
    fpr95: float
    auroc: float
    best_f1: float
    best_f1_threshold: float


@dataclass(frozen=True)
class ImageSummary:
    """What the pixel metrics keep of one image; made without the others, so on any thread.

    Attributes:
        counts: the scores that occur.
        steps: thresholds of the benchmark's compressed curve, descending or not, with the
            anomalous and the other pixels that each adds; empty where all pixels are ignored.
        curve: the exact curve; None where the image lacks one of the two classes.

    """

    counts: OccurringScores
    steps: tuple[FloatArray, IntArray, IntArray]
    curve: Curve | None

    @classmethod
    def of(cls, score: NDArray[Any], label: NDArray[Any]) -> ImageSummary:
        """Summarise one image; arguments and errors as `count_scores`."""
        return cls._of_counts(_count_occurring(_stored(score), np.asarray(label)))

    @classmethod
    def of_map(cls, score: Tensor, label: NDArray[np.uint8]) -> tuple[ImageSummary, int]:
        """Summarise what `stored_scores` would store, without storing it.

        Returns:
            The summary, and the number of pixels that had to be clipped.

        """
        values = score.cpu().contiguous().numpy()
        found = _fused_count(values, label) if values.dtype == np.float32 else None
        if found is not None and not found.beyond:
            return cls._of_counts(OccurringScores(*found[:3])), 0
        rounded = stored_scores(score)
        return cls.of(rounded.scores, label), rounded.clipped

    @classmethod
    def _of_counts(cls, counts: OccurringScores) -> ImageSummary:
        has_anomaly, has_other = bool(counts.positives.any()), bool(counts.negatives.any())
        nothing = np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64)
        return cls(
            counts,
            _compress(counts) if has_anomaly or has_other else nothing,
            counts.curve() if has_anomaly and has_other else None,
        )

    @property
    def figures(self) -> ImageFigures:
        """The figures of this image alone."""
        if self.curve is None:
            return ImageFigures(*[float('nan')] * 5)
        return ImageFigures(
            self.curve.average_precision(),
            self.curve.fpr95(),
            self.curve.auroc(),
            *self.curve.best_f1(),
        )


class PixelMetrics:
    """Pixel metrics of the benchmark, pooled over a data set.

    Keeps at most 770 thresholds with their counts of each image (about 18 kB), which is the
    benchmark's compression of the curve, and one histogram for the exact figures.

    Args:
        averaged: take AP, exact AP (both the exact one), FPR95 and AuROC of every image that has
            an anomaly, and average them, as the benchmark of StreetHazards does, with its
            definition of FPR95: see `Curve.fpr_nearest_95`. The other figures stay pooled.

    """

    def __init__(self, *, averaged: bool = False) -> None:
        self._averaged = averaged
        self._steps: list[tuple[FloatArray, IntArray, IntArray]] = []
        self._counts = ScoreCounts(
            np.zeros(len(SCORE_VALUES), np.int64), np.zeros(len(SCORE_VALUES), np.int64)
        )
        self._of_images: list[tuple[float, float, float]] = []
        self._images = 0

    def update(self, score: NDArray[Any], label: NDArray[Any]) -> None:
        """Add one image; arguments and errors as `count_scores`."""
        self.add(ImageSummary.of(score, label))

    def add(self, summary: ImageSummary) -> None:
        """Add one image that has been summarised."""
        self._images += 1
        places = summary.counts.places
        self._counts.positives[places] += summary.counts.positives
        self._counts.negatives[places] += summary.counts.negatives
        if len(summary.steps[0]):
            self._steps.append(summary.steps)
        if self._averaged and summary.curve is not None:
            curve = summary.curve
            self._of_images.append(
                (curve.average_precision(), curve.fpr_nearest_95(), curve.auroc())
            )

    def pooled(self, other: PixelMetrics) -> PixelMetrics:
        """Return the metrics over the images of both, pixels pooled and never averaged."""
        both = PixelMetrics()
        both._images = self._images + other._images
        both._counts = self._counts + other._counts
        both._steps = self._steps + other._steps
        return both

    @property
    def counts(self) -> ScoreCounts:
        """The scores of all images so far."""
        return ScoreCounts(self._counts.positives.copy(), self._counts.negatives.copy())

    def curve(self) -> Curve:
        """Return the benchmark's compressed curve of all images so far.

        Raises:
            MaskomalyError: there is no anomalous pixel, or no other, outside the ignored region.

        """
        columns = zip(*self._steps, strict=True) if self._steps else [[np.zeros(0)]] * 3
        thresholds, positives, negatives = map(np.concatenate, columns)
        thresholds, places = np.unique(-thresholds, return_inverse=True)
        # A threshold that several images share counts once, where all of them are in. The
        # benchmark keeps one point more, the first of its sorted list; which image that is
        # depends on how the sort of its machine leaves equal thresholds.
        steps = (np.bincount(places, weights=w).astype(np.int64) for w in (positives, negatives))
        return Curve.of_steps(-thresholds, *steps)

    def compute(self) -> PixelResult:
        """Return the figures of all images so far.

        Raises:
            MaskomalyError: there is no anomalous pixel, or no other, outside the ignored region;
                or, where images are averaged, no image has both.

        """
        curve, exact = self.curve(), self.counts.curve()
        best_f1, best_f1_threshold = curve.best_f1()
        ap, fpr95, auroc = curve.average_precision(), curve.fpr95(), curve.auroc()
        exact_ap = exact.average_precision()
        if self._averaged:
            if not self._of_images:
                raise MaskomalyError('no image has both anomalous and other pixels')
            ap, fpr95, auroc = map(float, np.mean(self._of_images, axis=0))
            exact_ap = ap
        in_range = exact.thresholds[0] <= 1 and exact.thresholds[-1] >= 0
        margin_60, margin_70 = (
            exact.detection_margin(margin) if in_range else float('nan') for margin in (0.6, 0.7)
        )
        return PixelResult(
            ap=ap,
            fpr95=fpr95,
            auroc=auroc,
            best_f1=best_f1,
            best_f1_threshold=best_f1_threshold,
            exact_ap=exact_ap,
            margin_60=margin_60,
            margin_70=margin_70,
            images=self._images,
        )


def _compress(counts: OccurringScores) -> tuple[FloatArray, IntArray, IntArray]:
    """Return the lower edges of the benchmark's bins for one image and the pixels in each.

    The edges are quantiles of both classes. Those that the benchmark adds around the range of
    the scores only make empty bins.
    """
    values = counts.values
    cumulative = [np.cumsum(c) for c in (counts.positives, counts.negatives)]
    edges = np.unique(np.concatenate([_quantiles(values, c) for c in cumulative]))
    # The number of scores below an edge is the cumulative count before its place.
    places = np.searchsorted(values, edges)
    positives, negatives = (
        np.diff(np.concatenate([[0], c])[places], append=c[-1]) for c in cumulative
    )
    return edges, positives, negatives


def _quantiles(values: FloatArray, cumulative: IntArray) -> FloatArray:
    """Return evenly spaced quantiles of counted scores, interpolated linearly as numpy does."""
    size = int(cumulative[-1])
    if not size:
        return np.zeros(0)
    rank = (size - 1) * np.linspace(0.0, 1.0, min(_QUANTILES_PER_CLASS, size))
    whole = np.floor(rank)
    low, high = (
        values[np.searchsorted(cumulative, np.minimum(r, size - 1), side='right')]
        for r in (whole, whole + 1)
    )
    return low + (high - low) * (rank - whole)


def maximal_detection_margin(score: NDArray[Any], truth: NDArray[Any], margin: float) -> float:
    """Return how much room a threshold has: the Maximal Detection Margin (paper, equation 3).

    That is the length of the largest interval [x, y] in [0, 1] so that for every threshold z in
    it F1(score > z, truth) > margin. Exact: every score that occurs is looked at.

    Args:
        score: real numbers, any shape; used as they are.
        truth: bool or 0 / 1 of the same shape; 255 is ignored.
        margin: F1 that must be exceeded, in [0, 1); the paper uses 0.6 and 0.7.

    Returns:
        The length, in [0, 1]; 0 where truth has no anomaly.

    Raises:
        MaskomalyError: shapes differ, a score is NaN, truth has another value, or margin is out
            of range.

    """
    if not 0.0 <= margin < 1.0:
        raise MaskomalyError(f'margin {margin} is out of range: 0 <= margin < 1')
    score = np.asarray(score)
    truth = _checked_label(truth, score.shape)
    pos, neg = (np.sort(score[truth == value]).astype(np.float64) for value in (1, 0))
    if not pos.size:
        return 0.0
    values = np.unique(np.concatenate([pos, neg]))
    if np.isnan(values[-1]):
        raise MaskomalyError('the score map has NaN')
    tp, fp = (s.size - np.searchsorted(s, values) for s in (pos, neg))
    curve = Curve(values[::-1], tp[::-1], fp[::-1], pos.size, neg.size)
    return curve.detection_margin(margin)


@dataclass(frozen=True)
class ComponentResult:
    """Component metrics of a data set, as fractions.

    Attributes:
        siou_gt: mean sIoU of the ground-truth components; NaN where there is none.
        ppv: mean share of a predicted component that is anomalous; NaN where there is none.
        mean_f1: mean of the F1 at the 11 thresholds 0.25, 0.30, … 0.75.
        tp_25: ground-truth components with sIoU >= 0.25.
        fn_25: ground-truth components with less.
        fp_25: predicted components with PPV < 0.25.
        threshold: scores above this were predicted.

    """

    siou_gt: float
    ppv: float
    mean_f1: float
    tp_25: int
    fn_25: int
    fp_25: int
    threshold: float


class ComponentMetrics:
    """Component metrics of the benchmark, pooled over a data set; constant memory.

    Args:
        threshold: scores strictly above it are predicted: `PixelResult.best_f1_threshold`.
        minimum_prediction: smaller predicted components, in pixels, are dropped.
        minimum_truth: smaller ground-truth components, in pixels, are ignored. The benchmark
            uses 500 and 100 for AnomalyTrack, 50 and 10 for ObstacleTrack.

    """

    LEVELS = np.linspace(0.25, 0.75, 11)

    def __init__(
        self, threshold: float, minimum_prediction: int = 500, minimum_truth: int = 100
    ) -> None:
        self.threshold = threshold
        self._minimum_prediction = minimum_prediction
        self._minimum_truth = minimum_truth
        self._sums = np.zeros(2)
        self._numbers = np.zeros(2, np.int64)
        self._tp = np.zeros(len(self.LEVELS), np.int64)
        self._fp = np.zeros(len(self.LEVELS), np.int64)

    def update(self, score: NDArray[Any], label: NDArray[Any]) -> None:
        """Add one image; arguments and errors as `count_scores`."""
        label = _checked_label(label, np.shape(score))
        self.add(self.find(score, TrueComponents.of(label, self._minimum_truth)))

    def find(self, score: NDArray[Any], truth: TrueComponents) -> tuple[FloatArray, FloatArray]:
        """Return sIoU_gt of every true component of an image and PPV of every predicted one.

        Changes nothing here, so that images and methods may be looked at on several threads.

        Args:
            score: as for `count_scores`.
            truth: of the same image.

        """
        predicted = _above(_stored(score), _float16_below(self.threshold)) & truth.known
        return _siou_and_ppv(truth, predicted, self._minimum_prediction)

    def add(self, found: tuple[FloatArray, FloatArray]) -> None:
        """Add what `find` returned for one image."""
        siou, ppv = found
        self._sums += siou.sum(), ppv.sum()
        self._numbers += siou.size, ppv.size
        self._tp += np.count_nonzero(siou[:, None] >= self.LEVELS, axis=0)
        self._fp += np.count_nonzero(ppv[:, None] < self.LEVELS, axis=0)

    def compute(self) -> ComponentResult:
        """Return the figures of all images so far."""
        fn = self._numbers[0] - self._tp
        # With neither a truth nor a prediction there is nothing to get wrong, nor right.
        f1 = 2 * self._tp / np.maximum(2 * self._tp + fn + self._fp, 1)
        siou_gt, ppv = (
            float(total / number) if number else float('nan')
            for total, number in zip(self._sums, self._numbers, strict=True)
        )
        return ComponentResult(
            siou_gt=siou_gt,
            ppv=ppv,
            mean_f1=float(f1.mean()),
            tp_25=int(self._tp[0]),
            fn_25=int(fn[0]),
            fp_25=int(self._fp[0]),
            threshold=self.threshold,
        )


@dataclass(frozen=True)
class TrueComponents:
    """The 8-connected anomalies of one image, the same for all methods.

    Attributes:
        numbers: number of the component of each pixel, from 1; 0 where there is none, −1 in
            ignored pixels and those of components that are too small, int32 [H, W].
        areas: pixels of every component, int64 [K].
        known: pixels that are not ignored, those of small components among them, bool [H, W].

    """

    numbers: NDArray[np.int32]
    areas: IntArray
    known: NDArray[np.bool_]

    @classmethod
    def of(cls, label: NDArray[np.uint8], minimum: int) -> TrueComponents:
        """Find those of a label, 0, 1 or 255, of at least minimum pixels."""
        known = label != IGNORE
        places, components, sizes = _connected(label == 1)
        large = sizes >= minimum
        kept = large.copy()
        kept[0] = False  # the background, which the benchmark ignores too where it is small
        table = np.where(large, np.cumsum(kept), -1).astype(np.int32)
        numbers = np.full(label.shape, table[0])
        numbers.ravel()[places] = table[components]
        numbers[~known] = -1
        return cls(numbers, sizes[kept], known)


def _connected(mask: NDArray[np.bool_]) -> tuple[IntArray, NDArray[np.int32], IntArray]:
    """Return the pixels of a mask, the 8-connected component of each, and all sizes.

    Components count from 1, and the size of number 0 is that of the background.
    """
    _, components = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    places: IntArray = np.flatnonzero(mask)
    numbers: NDArray[np.int32] = components.ravel()[places].astype(np.int32, copy=False)
    sizes: IntArray = np.bincount(numbers, minlength=1)
    sizes[0] = mask.size - len(places)
    return places, numbers, sizes


def _siou_and_ppv(
    truth: TrueComponents, predicted: NDArray[np.bool_], minimum: int
) -> tuple[FloatArray, FloatArray]:
    """Return sIoU_gt of every true component and PPV of every predicted one.

    Args:
        truth: the true components.
        predicted: pixels that are predicted, bool [H, W].
        minimum: fewer pixels make no predicted component.

    """
    places, components, sizes = _connected(predicted)
    kept = sizes >= minimum
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0)
    rows, columns = len(truth.areas) + 1, int(kept.sum()) + 1
    on_prediction = numbers[components]
    on_truth = truth.numbers.ravel()[places]
    counted = (on_prediction > 0) & (on_truth >= 0)
    pairs = on_truth[counted] * np.int64(columns) + on_prediction[counted]
    overlap = np.bincount(pairs, minlength=rows * columns).reshape(rows, columns)
    predicted_area = overlap.sum(0)[1:]
    overlap = overlap[1:, 1:]
    # Predictions that lie wholly in the ignored region do not exist.
    overlap, predicted_area = overlap[:, predicted_area > 0], predicted_area[predicted_area > 0]
    touching = (overlap > 0).astype(np.int64)
    anomalous = overlap.sum(0)
    intersection = overlap.sum(1)
    on_others = touching @ anomalous - intersection
    union = touching @ predicted_area + truth.areas - intersection - on_others
    return intersection / union, anomalous / predicted_area


@dataclass(frozen=True)
class SemanticResult:
    """Figures of a semantic segmentation.

    Attributes:
        iou: intersection over union of each class; NaN for a class that no label has.
        mean_iou: mean over the classes that the labels have.
        pixel_accuracy: share of the labelled pixels that are right.

    """

    iou: tuple[float, ...]
    mean_iou: float
    pixel_accuracy: float


class SemanticConfusion:
    """Confusion matrix of a semantic segmentation, pooled over a data set.

    One bincount: torchmetrics would bring lightning-utilities and a second tensor convention for
    what is a few lines here.

    Args:
        num_classes: C; labels are 0 to C - 1, and 255 for ignore.

    """

    def __init__(self, num_classes: int) -> None:
        self._classes = num_classes
        self._matrix = np.zeros((num_classes, num_classes), np.int64)

    def update(self, prediction: NDArray[Any], label: NDArray[Any]) -> None:
        """Add one image.

        Args:
            prediction: integers [H, W], 0 to C - 1.
            label: integers [H, W], 0 to C - 1 or 255.

        Raises:
            MaskomalyError: shapes differ, or a value is out of range.

        """
        prediction, label = np.asarray(prediction), np.asarray(label)
        if prediction.shape != label.shape:
            raise MaskomalyError(
                f'prediction {prediction.shape} and label {label.shape} differ in shape'
            )
        known = label != IGNORE
        pairs = []
        for name, values in (('label', label[known]), ('prediction', prediction[known])):
            if values.size and not (values.min() >= 0 and values.max() < self._classes):
                wrong = values.max() if values.min() >= 0 else values.min()
                raise MaskomalyError(
                    f'{name} has class {wrong}; classes are 0 to {self._classes - 1}'
                )
            pairs.append(values.astype(np.int64))
        codes = pairs[0] * self._classes + pairs[1]
        self._matrix += np.bincount(codes, minlength=self._classes**2).reshape(self._matrix.shape)

    def compute(self) -> SemanticResult:
        """Return the figures of all images so far.

        Raises:
            MaskomalyError: no pixel had a label.

        """
        labelled, predicted = self._matrix.sum(1), self._matrix.sum(0)
        right = np.diag(self._matrix)
        if not labelled.any():
            raise MaskomalyError('no pixel has a label other than 255 (ignore)')
        iou = np.where(
            labelled > 0, right / np.maximum(labelled + predicted - right, 1), float('nan')
        )
        return SemanticResult(
            iou=tuple(map(float, iou)),
            mean_iou=float(np.nanmean(iou)),
            pixel_accuracy=float(right.sum() / labelled.sum()),
        )


def _stored(score: NDArray[Any]) -> NDArray[np.float16]:
    """Round scores to what the benchmark stores."""
    score = np.ascontiguousarray(score)
    if score.dtype == np.float32 and score.flags.writeable:
        rounded: NDArray[np.float16] = torch.from_numpy(score).half().numpy()  # as numpy, faster
        return rounded
    with np.errstate(over='ignore'):
        return score.astype(np.float16, copy=False)


def _float16_below(threshold: float) -> np.float16:
    """Return the largest float16 that is not above threshold: stored scores compare alike."""
    rounded: np.float16 = np.float16(threshold)
    if float(rounded) > threshold:
        rounded = np.nextafter(rounded, np.float16(-np.inf))
    return rounded


def _above(stored: NDArray[np.float16], threshold: np.float16) -> NDArray[np.bool_]:
    """Return stored > threshold by whole numbers, which is much faster; any value for NaN."""
    above: NDArray[np.bool_] = (
        stored.view(np.uint16) < threshold.view(np.uint16)  # nearer to 0, or positive
        if threshold < 0
        else stored.view(np.int16) > abs(threshold).view(np.int16)
    )
    return above


def _checked_label(label: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    label = np.asarray(label)
    if label.shape != shape:
        raise MaskomalyError(f'score map {shape} and label {label.shape} differ in shape')
    if label.dtype == np.bool_:
        return label.astype(np.uint8)
    if label.dtype == np.uint8 and not ((label > 1) & (label != IGNORE)).any():
        return label
    wrong = (label != 0) & (label != 1) & (label != IGNORE)
    if wrong.any():
        raise _wrong_label(label[wrong][0])
    return label.astype(np.uint8, copy=False)


def _wrong_label(value: Any) -> MaskomalyError:
    return MaskomalyError(
        f'label has value {value}; it must be 0 (not anomaly), 1 (anomaly) or 255 (ignore)'
    )
