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

"""How far figures would move with other images of the same kind: the bootstrap over images.

Images are drawn again with replacement, and every figure is made of what was drawn (Efron 1979).
Pixels of one image hang together, so that whole images are drawn, never pixels. All scores are
measured on the same draws, so that the difference of two of them is known much better than either.

What is drawn are histograms of scores, in bins of `WIDTH` neighbouring float16 numbers: the same
order, less than 1 % wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.evaluation.metrics import SCORE_VALUES, ScoreCounts

FloatArray = NDArray[np.float64]

WIDTH = 8
DRAWS = 1000
_INTERVAL = (0.025, 0.975)
_AT_ONCE = 50  # draws that are looked at together: a matrix of some megabytes


class Interval(NamedTuple):
    """Where a figure lies in 95 % of the draws; NaN where it is not defined in most of them."""

    low: float
    high: float

    @classmethod
    def of(cls, values: FloatArray) -> Interval:
        """Return the interval of a figure's values, one a draw."""
        known = values[np.isfinite(values)]
        if len(known) < len(values) / 2:
            return cls(float('nan'), float('nan'))
        low, high = np.quantile(known, _INTERVAL)
        return cls(float(low), float(high))

    @property
    def sign(self) -> int:
        """1 where all of it is above 0, −1 where all of it is below, else 0."""
        return int(self.low > 0) - int(self.high < 0)


@dataclass(frozen=True)
class Histogram:
    """The scores of one image, in bins; only those that occur.

    Attributes:
        bins: numbers of the bins, ascending, int32 [K].
        positives: anomalous pixels in each, int32 [K].
        negatives: other pixels in each, int32 [K].

    """

    bins: NDArray[np.int32]
    positives: NDArray[np.int32]
    negatives: NDArray[np.int32]

    @classmethod
    def of(cls, counts: ScoreCounts) -> Histogram:
        """Put the scores of an image into bins."""
        edges = np.arange(0, len(SCORE_VALUES), WIDTH)
        positives, negatives = (
            np.add.reduceat(each, edges) for each in (counts.positives, counts.negatives)
        )
        bins = np.flatnonzero(positives + negatives)
        return cls(*(each.astype(np.int32) for each in (bins, positives[bins], negatives[bins])))


def draws(images: int, number: int = DRAWS, seed: int = 0) -> NDArray[np.int64]:
    """Return how often each image is in each draw, int64 [number, images]; the same every time."""
    generator = np.random.default_rng([seed, images])
    return generator.multinomial(images, np.full(images, 1 / images), number)


def ranking_figures(
    images: Sequence[Histogram],
    weights: NDArray[np.int64],
    ordinary: Sequence[Histogram] = (),
    ordinary_weights: NDArray[np.int64] | None = None,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return AP, FPR95 and best F1 of every draw, float64 [draws]; NaN without any anomaly.

    Args:
        images: of images with anomalies.
        weights: see `draws`.
        ordinary: of ordinary frames, whose pixels are all negatives; they are drawn by themselves.
        ordinary_weights: see `draws`.

    """
    everything = [*images, *ordinary]
    occurring = np.unique(np.concatenate([each.bins for each in everything]))[::-1]
    places = [np.searchsorted(-occurring, -each.bins) for each in everything]
    positives, negatives = (np.zeros((len(everything), len(occurring))) for _ in range(2))
    for row, (each, place) in enumerate(zip(everything, places, strict=True)):
        positives[row, place] = each.positives
        negatives[row, place] = each.negatives
    chosen = weights
    if ordinary_weights is not None and len(ordinary):
        chosen = np.concatenate([weights, ordinary_weights], 1)
    ap, fpr95, f1 = (np.full(len(chosen), np.nan) for _ in range(3))
    for start in range(0, len(chosen), _AT_ONCE):
        part = chosen[start : start + _AT_ONCE].astype(np.float64)
        true = np.cumsum(part @ positives, 1)
        false = np.cumsum(part @ negatives, 1)
        known = (true[:, -1] > 0) & (false[:, -1] > 0)
        true, false = true[known], false[known]
        recall = true / true[:, -1:]
        precision = true / np.maximum(true + false, 1)
        steps = np.diff(recall, prepend=0.0, axis=1)
        at_95 = (recall >= 0.95).argmax(1)
        rows = np.arange(len(true))
        ap[start : start + _AT_ONCE][known] = (steps * precision).sum(1)
        fpr95[start : start + _AT_ONCE][known] = false[rows, at_95] / false[:, -1]
        f1[start : start + _AT_ONCE][known] = (2 * true / (true + false + true[:, -1:])).max(1)
    return ap, fpr95, f1
