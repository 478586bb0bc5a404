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

"""Measure methods side by side on the outputs of one network."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.datasets import Dataset, Image
from maskomaly_ros.evaluation.metrics import (
    ComponentMetrics,
    ComponentResult,
    PixelMetrics,
    PixelResult,
    SemanticConfusion,
    SemanticResult,
)
from maskomaly_ros.networks import MaskPrediction, Network
from maskomaly_ros.scoring import (
    ScoringParameters,
    accept_map,
    baseline_map,
    reject_map,
    score_map,
)
from maskomaly_ros.training.classes import CLASS_NAMES

T = TypeVar('T')


class Progress(Protocol):
    """Something that shows how far an iteration has come, such as a progress bar."""

    def __call__(self, items: Iterable[T], total: int, text: str) -> Iterable[T]:
        """Pass on items, of which there are at most total; text says what is being done."""


def no_progress(items: Iterable[T], total: int, text: str) -> Iterable[T]:
    """Show nothing."""
    del total, text
    return items


Method = Callable[[MaskPrediction, ScoringParameters], Tensor]


def _maskomaly(prediction: MaskPrediction, parameters: ScoringParameters) -> Tensor:
    return score_map(*_masks(prediction), parameters, extent=prediction.extent)


def _reject_and_borders(prediction: MaskPrediction, parameters: ScoringParameters) -> Tensor:
    return _maskomaly(prediction, replace(parameters, reject_weight=1.0))


def _reject(prediction: MaskPrediction, parameters: ScoringParameters) -> Tensor:
    return reject_map(*_masks(prediction), parameters, extent=prediction.extent)


def _accept(prediction: MaskPrediction, parameters: ScoringParameters) -> Tensor:
    return accept_map(*_masks(prediction), parameters, extent=prediction.extent)


def _baseline(prediction: MaskPrediction, parameters: ScoringParameters) -> Tensor:
    del parameters
    return baseline_map(*_masks(prediction), extent=prediction.extent)


def _masks(prediction: MaskPrediction) -> tuple[Tensor, Tensor, tuple[int, int]]:
    return prediction.mask_logits, prediction.class_logits, prediction.frame_size


METHODS: Mapping[str, Method] = {
    'maskomaly': _maskomaly,
    'reject+borders': _reject_and_borders,
    'reject': _reject,
    'accept': _accept,
    'baseline': _baseline,
}
"""Score maps by name: Algorithm 1 of the paper, the rows of its ablation, and equation 4."""


@dataclass(frozen=True)
class MethodResult:
    """Figures of one method; components only where they were asked for."""

    pixels: PixelResult
    components: ComponentResult | None = None


@dataclass(frozen=True)
class Evaluation:
    """Figures of all methods on one data set.

    Attributes:
        dataset: name of the data set.
        images: number of images that the figures are of.
        skipped: reason for each image that is missing in them, by name.
        results: figures of each method.

    """

    dataset: str
    images: int
    skipped: dict[str, str]
    results: dict[str, MethodResult]


def evaluate(
    network: Network,
    dataset: Dataset,
    parameters: ScoringParameters,
    methods: Sequence[str] = tuple(METHODS),
    *,
    components: bool = False,
    progress: Progress = no_progress,
) -> Evaluation:
    """Measure methods on a data set with anomaly labels; the network runs once an image.

    Args:
        network: the network.
        dataset: the images.
        parameters: queries and parameters of the score.
        methods: names in `METHODS`.
        components: whether to find component metrics too. They need the result of the pixel
            metrics, so that the scores, as float16, wait in a temporary folder meanwhile: 2 bytes
            a pixel and method.
        progress: see `Progress`.

    Raises:
        MaskomalyError: a method is unknown or lacks anomalous queries, the labels are of another
            kind, no image could be read, or none has an anomaly.

    """
    for method in methods:
        if method not in METHODS:
            raise MaskomalyError(f'method {method!r} is none of {", ".join(METHODS)}')
    if 'accept' in methods and not parameters.anomalous_queries:
        raise MaskomalyError(
            'method accept needs anomalous queries, and none are given; `maskomaly calibrate` '
            'finds them'
        )
    check_task(dataset, 'anomaly')
    metrics = {method: PixelMetrics() for method in methods}
    images = 0
    with tempfile.TemporaryDirectory(prefix='maskomaly-scores-') as folder:
        stored = _StoredScores(Path(folder))
        for _, image, label in progress(dataset.read(), len(dataset), f'{dataset.name}: scores'):
            prediction = network.predict([image])
            scores = {
                method: METHODS[method](prediction, parameters)[0].cpu().numpy()
                for method in methods
            }
            for method, score in scores.items():
                metrics[method].update(score, label)
            if components:
                stored.append(scores, label)
            images += 1
        check_images(dataset, images)
        pixels = {method: metric.compute() for method, metric in metrics.items()}
        found: dict[str, ComponentResult] = {}
        if components:
            found = _component_metrics(stored, dataset, pixels, progress)
    results = {method: MethodResult(pixels[method], found.get(method)) for method in methods}
    return Evaluation(dataset.name, images, dict(dataset.skipped), results)


def _component_metrics(
    stored: _StoredScores,
    dataset: Dataset,
    pixels: Mapping[str, PixelResult],
    progress: Progress,
) -> dict[str, ComponentResult]:
    layout = dataset.layout
    metrics = {
        method: ComponentMetrics(
            result.best_f1_threshold, layout.minimum_prediction, layout.minimum_truth
        )
        for method, result in pixels.items()
    }
    for scores, label in progress(stored, len(stored), f'{dataset.name}: components'):
        for method, metric in metrics.items():
            metric.update(scores[method], label)
    return {method: metric.compute() for method, metric in metrics.items()}


class _StoredScores:
    """Score maps and labels on disk, as float16 like the benchmark's own files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: list[Path] = []

    def __len__(self) -> int:
        return len(self._paths)

    def append(self, scores: Mapping[str, NDArray[np.float32]], label: Image) -> None:
        arrays: dict[str, NDArray[Any]] = {m: s.astype(np.float16) for m, s in scores.items()}
        path = self._folder / f'{len(self)}.npz'
        np.savez(path, label=label, **arrays)  # type: ignore[arg-type]
        self._paths.append(path)

    def __iter__(self) -> Iterator[tuple[Mapping[str, NDArray[np.float16]], Image]]:
        for path in self._paths:
            with np.load(path) as content:
                yield content, content['label']


@dataclass(frozen=True)
class SemanticEvaluation:
    """Figures of the semantic segmentation on one data set.

    Attributes:
        dataset: name of the data set.
        images: number of images that the figures are of.
        skipped: reason for each image that is missing in them, by name.
        classes: names of the classes.
        result: the figures.

    """

    dataset: str
    images: int
    skipped: dict[str, str]
    classes: tuple[str, ...]
    result: SemanticResult


def evaluate_semantics(
    network: Network, dataset: Dataset, *, progress: Progress = no_progress
) -> SemanticEvaluation:
    """Measure the semantic segmentation that the masks and classes of a network make up.

    Args:
        network: a network with the classes of `CLASS_NAMES`.
        dataset: images with semantic labels.
        progress: see `Progress`.

    Raises:
        MaskomalyError: the network has other classes, the labels are of another kind, or no image
            could be read.

    """
    check_task(dataset, 'semantic')
    if tuple(network.class_names) != CLASS_NAMES:
        raise MaskomalyError(
            f'checkpoint {network.name} has the classes {", ".join(network.class_names)}; labels '
            f'of layout {dataset.layout_name} are mapped to {", ".join(CLASS_NAMES)}'
        )
    confusion = SemanticConfusion(len(CLASS_NAMES))
    images = 0
    for _, image, label in progress(dataset.read(), len(dataset), f'{dataset.name}: classes'):
        confusion.update(network.predict([image]).semantic_map()[0].cpu().numpy(), label)
        images += 1
    check_images(dataset, images)
    return SemanticEvaluation(
        dataset.name, images, dict(dataset.skipped), CLASS_NAMES, confusion.compute()
    )


def check_images(dataset: Dataset, images: int) -> None:
    """Raise MaskomalyError if no image of a data set could be read."""
    if not images:
        reason = next(iter(dataset.skipped.values()))
        raise MaskomalyError(f'no image of {dataset.name} can be used; the first: {reason}')


def check_task(dataset: Dataset, task: str) -> None:
    """Raise MaskomalyError unless the labels of a data set are `anomaly` or `semantic`."""
    if dataset.layout.task != task:
        raise MaskomalyError(
            f'layout {dataset.layout_name} has {dataset.layout.task} labels; '
            f'{task} labels are needed here'
        )
