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

"""Measure methods side by side on the outputs of one network, and on score files."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.cache import CannotWriteError, OutputCache
from maskomaly_ros.evaluation.datasets import Dataset, Image, Sample, read_file
from maskomaly_ros.evaluation.images import (
    Progress,
    ahead,
    check_images,
    check_task,
    no_progress,
    over_images,
)
from maskomaly_ros.evaluation.metrics import (
    SCORE_VALUES,
    ComponentMetrics,
    ComponentResult,
    ImageFigures,
    ImageSummary,
    PixelMetrics,
    PixelResult,
    RoundedScores,
    TrueComponents,
    round_scores,
    stored_scores,
)
from maskomaly_ros.evaluation.results import (
    Evaluation,
    ImageResult,
    MethodResult,
    ShownImage,
    ThresholdResult,
)
from maskomaly_ros.evaluation.score_files import ScoreFolder, write_score
from maskomaly_ros.evaluation.standardized import KeptMaxima
from maskomaly_ros.evaluation.traffic import CURVE_THRESHOLDS, MAIN, Traffic
from maskomaly_ros.networks import MaskPrediction, Network
from maskomaly_ros.scores import (
    ClassStatistics,
    check_scores,
    compute_scores,
    default_scores,
    stream_scores,
)
from maskomaly_ros.scoring import ScoringParameters

__all__ = ['best_and_worst', 'evaluate', 'score_images']

FloatArray = NDArray[np.float64]
T = TypeVar('T')
R = TypeVar('R')


def evaluate(
    network: Network | None,
    dataset: Dataset,
    parameters: ScoringParameters,
    methods: Sequence[str] | None = None,
    *,
    components: bool = False,
    scores: Sequence[ScoreFolder] = (),
    save_scores: Path | None = None,
    cache: Path | None = None,
    statistics: ClassStatistics | None = None,
    traffic: Traffic | None = None,
    shots: int = 0,
    progress: Progress = no_progress,
) -> Evaluation:
    """Measure methods on a data set with anomaly labels; the network runs once an image.

    Files are read ahead and scores measured on other threads while the network runs; what is
    held at a time is a few images, however many there are. An image for which one method has no
    score is skipped for all.

    Args:
        network: the network; None where all scores come from files.
        dataset: the images.
        parameters: queries and parameters of Maskomaly.
        methods: scores in `SCORES`; None takes all that the parameters allow.
        components: whether to find component metrics too. They need the result of the pixel
            metrics, so that the scores, as float16, wait in a temporary folder meanwhile: 2 bytes
            a pixel and method.
        scores: score files of further methods.
        save_scores: folder to write the scores of methods to; see `write_score`.
        cache: folder that keeps the outputs of the network; see `OutputCache`.
        statistics: of the classes, for SML; None takes them from the images of the data set
            themselves.
        traffic: figures of ordinary frames, whose pixels are pooled as negatives, and whose
            threshold is looked at.
        shots: number of best, and of worst, images of which to keep the score.
        progress: see `Progress`.

    Raises:
        MaskomalyError: a method is unknown or lacks anomalous queries, the labels are of another
            kind, no image could be read, none has an anomaly, or a file cannot be written.

    """
    check_task(dataset, 'anomaly')
    if methods is None:
        methods = default_scores(parameters) if network is not None else ()
    check_scores(methods, parameters)
    names = _all_names(methods, scores, network)
    layout = dataset.layout
    with contextlib.ExitStack() as stack:
        kept = stored = at_threshold = None
        if 'sml' in methods and network is not None and statistics is None:
            if cache is None:  # the network may have to run twice otherwise
                cache = _temporary(stack, 'outputs')
            kept = KeptMaxima(_temporary(stack, 'maxima'))
        if components:
            stored = _StoredScores(_temporary(stack, 'scores'))
        if traffic is not None and MAIN in names:
            sizes = layout.minimum_prediction, layout.minimum_truth
            at_threshold = ComponentMetrics(traffic.threshold, *sizes)
        outputs = OutputCache(cache, network) if cache and network else None
        now = [name for name in methods if name != 'sml' or kept is None]
        scored = _Scored(dataset, names[0] if shots else '', stored, save_scores, at_threshold)

        def measure(sample: Sample, prediction: MaskPrediction | None, label: Image) -> _Measured:
            found = _Measured()
            if stored is not None:
                stored.begin(sample.name, label)
            for source in scores:
                size = label.shape[0], label.shape[1]
                rounded = round_scores(source.read(sample.name, size))
                scored.take_rounded(found, sample, source.method, rounded, label)
            if prediction is not None:
                # One after another: memory of a map serves the next, and is not asked for anew.
                ours, maxima = stream_scores(
                    prediction, parameters, now, statistics, maxima=kept is not None
                )
                for name, score in ours:
                    scored.take(found, sample, name, score, label)
                if kept is not None:
                    kept.write(sample.name, prediction, maxima, label)
            return found

        totals = _Totals(dataset, names, _Shown(shots), at_threshold)
        run = over_images(network if methods else None, dataset, outputs, measure)
        for sample, found in progress(run, len(dataset), f'{dataset.name}: scores'):
            totals.add(sample, found)
            if stored is not None:
                stored.keep(sample.name)
        check_images(dataset, len(totals.figures))
        if kept is not None:
            statistics = kept.statistics(list(totals.figures), dataset.name)

            def standardize(sample: Sample) -> _Measured:
                found = _Measured()
                score, label = kept.score(sample, statistics, outputs)
                scored.take(found, sample, 'sml', score, label)
                return found

            samples = [sample for sample in dataset.samples if sample.name in totals.figures]
            for sample, found in progress(
                _on_threads(standardize, samples), len(samples), f'{dataset.name}: sml'
            ):
                totals.add(sample, found)
        metrics = totals.metrics
        try:
            pixels = {name: metric.compute() for name, metric in metrics.items()}
        except MaskomalyError as error:
            raise MaskomalyError(f'{dataset.name}: {error}') from error
        pooled = {
            name: metrics[name].pooled(traffic.metrics[name]).compute()
            for name in names
            if traffic is not None and name in traffic.metrics
        }
        at = {}
        if traffic is not None and at_threshold is not None:
            counts = metrics[MAIN].counts.positives
            at[MAIN] = _threshold_result(traffic, counts, at_threshold.compute())
        for name, (calibration, false) in traffic.of_scores.items() if traffic else ():
            if name in names:
                recall = _recall(metrics[name].counts.positives, calibration.raw_threshold)
                at[name] = ThresholdResult(
                    calibration.obstacle_threshold, recall, math.nan, false.a_frame, ()
                )
        best, worst = totals.shown.chosen()
        components_found = _component_metrics(stored, dataset, pixels, progress) if stored else {}
        return Evaluation(
            dataset=dataset.name,
            layout=dataset.layout_name,
            images=len(totals.figures),
            averaged=dataset.layout.averaged,
            skipped=dict(dataset.skipped),
            results={
                name: MethodResult(
                    pixels[name],
                    metrics[name].curve(),
                    components_found.get(name),
                    pooled.get(name),
                    at.get(name),
                )
                for name in names
            },
            per_image=totals.per_image(),
            statistics=statistics.source if 'sml' in methods and statistics else None,
            clipped={name: number for name, number in totals.clipped.items() if number},
            tied=tuple(name for name, number in totals.tied.items() if number),
            best=best,
            worst=worst,
        )


def _temporary(stack: contextlib.ExitStack, what: str) -> Path:
    """Make a folder that goes with the stack."""
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f'maskomaly-{what}-')))


def _on_threads(work: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
    """Yield items and what work makes of them, in order."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        for item, future in ahead(pool, work, items, workers + 1):
            yield item, future.result()


@dataclass
class _Measured:
    """What is found in one image.

    Attributes:
        summaries: by method.
        lost: pixels that were clipped, and whether most values became equal, by method.
        first: score by the first method, where it may be shown.
        at_threshold: components of `MAIN` at the threshold of ordinary frames.

    """

    summaries: dict[str, ImageSummary] = field(default_factory=dict)
    lost: dict[str, tuple[int, bool]] = field(default_factory=dict)
    first: NDArray[np.float16] | None = None
    at_threshold: tuple[FloatArray, FloatArray] | None = None


class _Scored:
    """Measures scores of images, and keeps them where they are needed again; from any thread.

    Args:
        dataset: of the images.
        first: method of which the scores may be shown, or ''.
        stored: keeps all scores for a second look.
        saved: folder that scores of our own are saved to.
        at_threshold: finds components of `MAIN`.

    """

    def __init__(
        self,
        dataset: Dataset,
        first: str,
        stored: _StoredScores | None,
        saved: Path | None,
        at_threshold: ComponentMetrics | None,
    ) -> None:
        self._dataset = dataset
        self._first = first
        self._stored = stored
        self._saved = saved
        self._at_threshold = at_threshold

    def take(
        self, found: _Measured, sample: Sample, method: str, score: Tensor, label: Image
    ) -> None:
        """Measure a score of our own; its rounded map is made where something asks for it."""
        has_components = method == MAIN and self._at_threshold is not None
        if method == self._first or has_components or self._stored or self._saved:
            rounded = stored_scores(score)
            self.take_rounded(found, sample, method, rounded, label)
            if self._saved:
                folder = self._dataset.layout.benchmark_name or self._dataset.name
                write_score(self._saved, method, folder, sample.name, rounded.scores)
            return
        found.summaries[method], clipped = ImageSummary.of_map(score, label)
        found.lost[method] = clipped, False

    def take_rounded(
        self, found: _Measured, sample: Sample, method: str, rounded: RoundedScores, label: Image
    ) -> None:
        """Measure a score."""
        score = rounded.scores
        found.summaries[method] = ImageSummary.of(score, label)
        found.lost[method] = rounded.clipped, rounded.tied
        if self._stored is not None:
            self._stored.append(sample.name, method, score)
        if method == self._first:
            found.first = score
        if method == MAIN and self._at_threshold is not None:
            truth = TrueComponents.of(label, self._dataset.layout.minimum_truth)
            found.at_threshold = self._at_threshold.find(score, truth)


class _Totals:
    """What all images so far have come to.

    Attributes:
        metrics: by method.
        clipped: pixels whose score was clipped, by method.
        tied: images in which most values of a score became equal, by method.
        figures: of each image, by name and method.
        shown: the best and the worst images.

    """

    def __init__(
        self,
        dataset: Dataset,
        names: Sequence[str],
        shown: _Shown,
        at_threshold: ComponentMetrics | None,
    ) -> None:
        averaged = dataset.layout.averaged
        self.metrics = {name: PixelMetrics(averaged=averaged) for name in names}
        self.clipped: Counter[str] = Counter()
        self.tied: Counter[str] = Counter()
        self.figures: dict[str, dict[str, ImageFigures]] = {}
        self.shown = shown
        self._samples: list[Sample] = []
        self._first = names[0]
        self._at_threshold = at_threshold

    def add(self, sample: Sample, found: _Measured) -> None:
        """Add what was found in an image; some methods may come later than the others."""
        if sample.name not in self.figures:
            self._samples.append(sample)
        figures = self.figures.setdefault(sample.name, {})
        for method, summary in found.summaries.items():
            self.metrics[method].add(summary)
            self.clipped[method] += found.lost[method][0]
            self.tied[method] += found.lost[method][1]
            figures[method] = summary.figures
        if self._at_threshold is not None and found.at_threshold is not None:
            self._at_threshold.add(found.at_threshold)
        if found.first is not None:
            self.shown.add(sample.name, figures[self._first].ap, found.first)

    def per_image(self) -> tuple[ImageResult, ...]:
        """Return the figures of every image, methods in order."""
        return tuple(
            ImageResult(
                sample.name,
                sample.image,
                sample.label,
                {method: self.figures[sample.name][method] for method in self.metrics},
            )
            for sample in self._samples
        )


class _Shown:
    """Keeps the scores of the best and the worst images so far, and of no others."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._ap: dict[str, float] = {}
        self._scores: dict[str, NDArray[np.float16]] = {}

    def add(self, name: str, ap: float, score: NDArray[np.float16]) -> None:
        """Take the next image."""
        self._ap[name], self._scores[name] = ap, score
        kept = {*itertools.chain(*best_and_worst(self._ap, self._count))}
        for each in self._ap.keys() - kept:
            del self._ap[each], self._scores[each]

    def chosen(self) -> tuple[tuple[ShownImage, ...], tuple[ShownImage, ...]]:
        """Return the best images, best first, and the worst, worst first."""
        best, worst = (
            tuple(ShownImage(name, self._scores[name]) for name in names)
            for names in best_and_worst(self._ap, self._count)
        )
        return best, worst


def best_and_worst(ap: Mapping[str, float], count: int) -> tuple[list[str], list[str]]:
    """Return the names of the best images, best first, and of the worst, worst first.

    The two ends of one order: no image is in both. Images without AP are in none.

    Args:
        ap: by name; NaN where an image has none.
        count: most of each.

    """
    order = sorted((name for name in ap if not math.isnan(ap[name])), key=lambda name: -ap[name])
    best = min(count, (len(order) + 1) // 2)
    worst = min(count, len(order) // 2)
    return order[:best], order[len(order) - worst :][::-1]


def _threshold_result(
    traffic: Traffic, positives: NDArray[np.int64], components: ComponentResult
) -> ThresholdResult:
    true = components.tp_25 + components.fn_25
    return ThresholdResult(
        threshold=traffic.threshold,
        recall=_recall(positives, traffic.threshold),
        component_recall=components.tp_25 / true if true else math.nan,
        false_obstacles=traffic.found.a_frame,
        recall_curve=tuple(_recall(positives, threshold) for threshold in CURVE_THRESHOLDS),
    )


def _recall(positives: NDArray[np.int64], threshold: float) -> float:
    return float(positives[threshold < SCORE_VALUES].sum() / positives.sum())


def _all_names(
    methods: Sequence[str], scores: Sequence[ScoreFolder], network: Network | None
) -> list[str]:
    names = [*methods, *(source.method for source in scores)]
    if not names:
        raise MaskomalyError('there is nothing to evaluate: neither methods nor score files')
    if methods and network is None:
        raise MaskomalyError(f'methods {", ".join(methods)} need a network')
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise MaskomalyError(
            f'{min(twice)} is the name of two methods; name score files otherwise: NAME=FOLDER'
        )
    return names


def score_images(
    network: Network,
    samples: Iterable[Sample],
    parameters: ScoringParameters,
    methods: Sequence[str],
    *,
    cache: Path | None = None,
    statistics: ClassStatistics | None = None,
) -> Iterator[tuple[Sample, Image, Image, dict[str, NDArray[np.float32]]]]:
    """Compute score maps for a few images, such as those to be shown.

    Yields:
        The sample, its image RGB uint8 [H, W, 3], its label uint8 [H, W] and the score maps,
        float32 [H, W], by method.

    Raises:
        MaskomalyError: an image cannot be read, or as `compute_scores`.

    """
    outputs = OutputCache(cache, network) if cache else None
    for sample in samples:
        image, label = sample.read()
        content = read_file(sample.image)
        prediction = outputs.read(sample.key(content)) if outputs else None
        if prediction is None:
            prediction = network.predict([image])
        scores = compute_scores(prediction, parameters, methods, statistics)
        yield sample, image, label, {name: score.cpu().numpy() for name, score in scores.items()}


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

    def find(name: str) -> dict[str, tuple[FloatArray, FloatArray]]:
        scores, label = stored.read(name)
        truth = TrueComponents.of(label, layout.minimum_truth)
        return {method: metric.find(scores[method], truth) for method, metric in metrics.items()}

    run = _on_threads(find, stored.names)
    for _, found in progress(run, len(stored.names), f'{dataset.name}: components'):
        for method, each in found.items():
            metrics[method].add(each)
    return {method: metric.compute() for method, metric in metrics.items()}


class _StoredScores:
    """Score maps and labels on disk, as float16 like the benchmark's own files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contents: dict[str, tuple[Path, tuple[str, ...], tuple[int, ...]]] = {}
        self.names: list[str] = []

    def begin(self, name: str, label: Image) -> None:
        """Store an image without scores; from any thread."""
        path = self._folder / quote(name, safe='')
        try:
            with path.open('wb') as file:
                label.tofile(file)
        except OSError as error:
            raise CannotWriteError(f'cannot write {path}: {error.strerror}') from error
        self._contents[name] = path, (), label.shape

    def append(self, name: str, method: str, score: NDArray[np.float16]) -> None:
        """Store one more score of an image; from any thread."""
        path, methods, shape = self._contents[name]
        try:
            with path.open('ab') as file:
                score.tofile(file)
        except OSError as error:
            raise CannotWriteError(f'cannot write {path}: {error.strerror}') from error
        self._contents[name] = path, (*methods, method), shape

    def keep(self, name: str) -> None:
        """Confirm that an image counts."""
        self.names.append(name)

    def read(self, name: str) -> tuple[dict[str, NDArray[np.float16]], Image]:
        """Return the scores by method, and the label; they are deleted from the disk."""
        path, methods, shape = self._contents[name]
        with path.open('rb') as file:
            label = np.fromfile(file, np.uint8, math.prod(shape)).reshape(shape)
            scores = np.fromfile(file, np.float16).reshape(-1, *shape)
        path.unlink()
        return dict(zip(methods, scores, strict=True)), label
