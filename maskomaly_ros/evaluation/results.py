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

"""What an evaluation finds: figures of methods and of images, on one data set."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.evaluation.metrics import (
    ComponentResult,
    Curve,
    ImageFigures,
    PixelResult,
)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ThresholdResult:
    """What a threshold finds of anomalies, and what it costs on ordinary frames.

    Attributes:
        threshold: scores above it are obstacles; on the scale of the queries file.
        recall: share of the anomalous pixels above it.
        component_recall: share of the true components with an sIoU of at least 0.25; NaN where
            there is none, and for scores other than `MAIN`.
        false_obstacles: a frame of ordinary traffic.
        recall_curve: recall of `MAIN` at each of `CURVE_THRESHOLDS`.

    """

    threshold: float
    recall: float
    component_recall: float
    false_obstacles: float
    recall_curve: tuple[float, ...]


@dataclass(frozen=True)
class MethodResult:
    """Figures of one method.

    Attributes:
        pixels: pixel metrics over all images.
        curve: the benchmark's compressed curve over all images, for PR and ROC plots.
        components: component metrics, where they were asked for.
        pooled: pixel metrics with the pixels of ordinary frames as negatives too.
        at_threshold: figures at the threshold that ordinary frames were measured at.

    """

    pixels: PixelResult
    curve: Curve
    components: ComponentResult | None = None
    pooled: PixelResult | None = None
    at_threshold: ThresholdResult | None = None


@dataclass(frozen=True)
class ImageResult:
    """Figures of single images.

    Attributes:
        name: of the image.
        image: its path.
        label: path of its label.
        figures: by method; NaN where the image has no anomaly.

    """

    name: str
    image: Path
    label: Path
    figures: dict[str, ImageFigures]


@dataclass(frozen=True)
class ShownImage:
    """An image that is worth showing, with the score of the first method.

    Attributes:
        name: of the image.
        score: float16 [H, W].

    """

    name: str
    score: NDArray[np.float16]


@dataclass(frozen=True)
class Evaluation:
    """Figures of all methods on one data set.

    Attributes:
        dataset: name of the data set.
        layout: key of `LAYOUTS`.
        images: number of images that the figures are of.
        averaged: whether AP, FPR95 and AuROC are means over images, as in StreetHazards.
        skipped: reason for each image that is missing in them, by name.
        results: figures of each method; those of score files come last.
        per_image: every image, in order of their names.
        statistics: images that SML has its statistics from; None without SML.
        clipped: pixels of each method whose score was beyond what float16 can hold, where any.
        tied: methods of which most scores became equal when they were rounded to float16.
        best: images of the highest AP by the first method, best first, as many as asked for.
        worst: images of the lowest, worst first.

    """

    dataset: str
    layout: str
    images: int
    averaged: bool
    skipped: dict[str, str]
    results: dict[str, MethodResult]
    per_image: tuple[ImageResult, ...]
    statistics: str | None = None
    clipped: dict[str, int] = field(default_factory=dict)
    tied: tuple[str, ...] = ()
    best: tuple[ShownImage, ...] = ()
    worst: tuple[ShownImage, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON; of the curves at most 500 points."""
        content = asdict(replace(self, best=(), worst=()))
        del content['best'], content['worst']
        for method, result in self.results.items():
            content['results'][method]['curve'] = {
                'threshold': self._thin(result.curve.thresholds),
                'recall': self._thin(result.curve.recall),
                'precision': self._thin(result.curve.precision),
                'false_positive_rate': self._thin(result.curve.false_positive_rate),
            }
        for image in content['per_image']:
            image['image'], image['label'] = str(image['image']), str(image['label'])
        return content

    @staticmethod
    def _thin(values: FloatArray) -> list[float]:
        places = np.unique(np.linspace(0, len(values) - 1, 500).round().astype(int))
        return [float(value) for value in values[places]]
