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

"""Scores side by side on the same outputs of a network, with traffic, and with what is noise.

For every data set with anomalies, and the ordinary frames given with it:

- AP, FPR95 and best F1 over the pixels of all images, exact; and component F1 at the threshold of
  the best F1, by the definitions of `metrics`.
- Pooled AP and FPR95: the same with the pixels of all ordinary frames as further negatives.
- False obstacles a frame: obstacles on ordinary frames, of a least area, at the threshold that
  keeps 60 % of the data set's anomalous pixels; and the share of ordinary pixels above it, since a
  frame that is one obstacle has few of them. They cannot be bought with recall, nor the reverse.

Every figure has a 95 % interval (see `bootstrap`), and a mark where it differs from that of
Maskomaly by more than chance: where the interval of the difference, on the same draws, leaves out
0. Thresholds are those of all images and are not drawn anew.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.bootstrap import WIDTH, Histogram, Interval, draws, ranking_figures
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
    SCORE_VALUES,
    ComponentMetrics,
    ScoreCounts,
    TrueComponents,
    count_scores,
    stored_scores,
)
from maskomaly_ros.evaluation.ordinary import OrdinaryFrame, OrdinaryFrames
from maskomaly_ros.evaluation.traffic import count_obstacles
from maskomaly_ros.networks import MaskPrediction, Network
from maskomaly_ros.scores import (
    ClassStatistics,
    check_scores,
    class_sums,
    compute_scores,
    paper_parameters,
)
from maskomaly_ros.scoring import ScoringParameters, Variant, score_map

__all__ = [
    'METRICS',
    'REFERENCE',
    'Measured',
    'Metric',
    'ScoreRun',
    'compare',
    'comparison_key',
    'fusion_sweep',
]

FloatArray = NDArray[np.float64]
Stored = NDArray[np.float16]

REFERENCE: Final = 'maskomaly'
"""The score that others are compared with."""

RECALL: Final = 0.6
"""Share of the anomalous pixels that the threshold of false obstacles keeps."""

SWEEP_WEIGHTS: Final = (0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9)
"""Values of reject_weight that `fusion_sweep` goes through."""

_NO_SWEEP: Final[Mapping[str, ScoringParameters]] = {}
_VERSION: Final = 1  # of what is measured: results of another one are not taken over


@dataclass(frozen=True)
class Metric:
    """One column.

    Attributes:
        title: its head.
        higher_is_better: whether it is.
        percent: whether it is a fraction, shown as percent.
        needs_ordinary: whether it needs ordinary frames.

    """

    title: str
    higher_is_better: bool = True
    percent: bool = True
    needs_ordinary: bool = False


METRICS: Final[Mapping[str, Metric]] = {
    'ap': Metric('AP'),
    'fpr95': Metric('FPR95', higher_is_better=False),
    'best_f1': Metric('best F1'),
    'component_f1': Metric('component F1'),
    'pooled_ap': Metric('pooled AP', needs_ordinary=True),
    'pooled_fpr95': Metric('pooled FPR95', higher_is_better=False, needs_ordinary=True),
    'false_obstacles': Metric(
        'false obstacles a frame', higher_is_better=False, percent=False, needs_ordinary=True
    ),
    'false_pixels': Metric('false pixels', higher_is_better=False, needs_ordinary=True),
}


@dataclass
class Measured:
    """What is kept of one score: of every image, and of all together."""

    histograms: list[Histogram] = field(default_factory=list)
    counts: ScoreCounts = field(
        default_factory=lambda: ScoreCounts(
            np.zeros(len(SCORE_VALUES), np.int64), np.zeros(len(SCORE_VALUES), np.int64)
        )
    )

    def add(self, counts: ScoreCounts) -> None:
        """Add an image."""
        self.histograms.append(Histogram.of(counts))
        self.counts += counts


def fusion_sweep(parameters: ScoringParameters) -> dict[str, ScoringParameters]:
    """Return every way to join reject and accept, with and without borders, by name."""
    fusions: list[tuple[str, Variant, float]] = [
        *((f'sum {weight:g}', 'paper', weight) for weight in SWEEP_WEIGHTS),
        *((f'geometric {weight:g}', 'geometric', weight) for weight in SWEEP_WEIGHTS),
        ('product', 'product', 0.5),
        ('minimum', 'minimum', 0.5),
    ]
    rules = parameters if parameters.variant != 'reference_code' else paper_parameters(parameters)
    borders = {'with borders': paper_parameters(parameters).border_threshold, 'no borders': 1.0}
    return {
        f'{name}, {text}': replace(
            rules, variant=variant, reject_weight=weight, border_threshold=threshold
        )
        for text, threshold in borders.items()
        for name, variant, weight in fusions
    }


def comparison_key(
    network: Network,
    parameters: ScoringParameters,
    datasets: Sequence[Dataset],
    ordinary: Sequence[OrdinaryFrames],
    names: Sequence[str],
    minimum_area: int,
    sweep: Mapping[str, ScoringParameters] = _NO_SWEEP,
) -> dict[str, Any]:
    """Return what a comparison depends on: equal keys, equal figures."""
    return {
        'version': _VERSION,
        'checkpoint': network.name,
        'checkpoint_sha256': network.sha256,
        'input_size': asdict(network.input_size),
        'precision': network.precision,
        'parameters': asdict(parameters),
        'datasets': {each.name: [sample.name for sample in each.samples] for each in datasets},
        'ordinary': {each.name: len(each) for each in ordinary},
        'scores': list(names),
        'sweep': {name: asdict(each) for name, each in sweep.items()},
        'minimum_area': minimum_area,
    }


def compare(
    network: Network,
    parameters: ScoringParameters,
    datasets: Sequence[Dataset],
    ordinary: Sequence[OrdinaryFrames],
    names: Sequence[str],
    *,
    sweep: Mapping[str, ScoringParameters] = _NO_SWEEP,
    minimum_area: int = 50,
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Measure scores on the same outputs of a network.

    Every image is scored twice, as thresholds are known only when all have been seen; the network
    runs once an image, and not at all where the cache has its output.

    Args:
        network: the network.
        parameters: queries and parameters of Maskomaly.
        datasets: with anomaly labels.
        ordinary: frames that show nothing anomalous; may be none.
        names: of scores.
        sweep: parameters of further scores of Maskomaly, by the names of their rows; see
            `fusion_sweep`.
        minimum_area: fewer pixels make no false obstacle.
        cache: folder that keeps the outputs of the network; see `OutputCache`.
        progress: see `Progress`.

    Returns:
        Plain values, for JSON: `key` (see `comparison_key`), `frames` (ordinary ones), `sml`
        (where its statistics are from) and `datasets`, by name: `images` and, by score, each of
        `METRICS` as `value`, `low`, `high` and `better` (1, 0 or −1 against `REFERENCE`; None for
        itself, or where nothing can be told).

    Raises:
        MaskomalyError: a score is unknown or lacks anomalous queries, the labels of a data set
            are of another kind, or nothing of it can be used.

    """
    check_scores(names, parameters)
    for dataset in datasets:
        check_task(dataset, 'anomaly')
    key = comparison_key(network, parameters, datasets, ordinary, names, minimum_area, sweep)
    with ExitStack() as stack:
        folder = cache or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix='maskomaly-outputs-'))
        )
        outputs = OutputCache(folder, network)
        run = ScoreRun(network, parameters, tuple(names), sweep, minimum_area, outputs, progress)
        if 'sml' in names:
            run.find_statistics(ordinary or datasets)
        traffic, frames = run.count_ordinary(ordinary)
        found = {dataset.name: run.count(dataset) for dataset in datasets}
        thresholds = {
            dataset: {name: _threshold_of_recall(each.counts) for name, each in measured.items()}
            for dataset, measured in found.items()
        }
        obstacles = run.count_obstacles(ordinary, thresholds)
        components = {
            dataset.name: run.find_components(dataset, found[dataset.name]) for dataset in datasets
        }
    return {
        'key': key,
        'frames': frames,
        'sml': run.statistics.source if run.statistics else None,
        'datasets': {
            name: {
                'images': len(next(iter(measured.values())).histograms),
                'scores': _figures(
                    measured,
                    components[name],
                    traffic,
                    obstacles.get(name, {}),
                    thresholds[name],
                ),
            }
            for name, measured in found.items()
        },
    }


@dataclass
class ScoreRun:
    """One network over all images, again and again.

    Attributes:
        network: the network.
        parameters: queries and parameters of Maskomaly.
        names: of scores.
        sweep: parameters of further scores of Maskomaly, by name.
        minimum_area: fewer pixels make no false obstacle.
        outputs: keeps the outputs of the network.
        progress: see `Progress`.
        statistics: of the classes, once `find_statistics` was called.

    """

    network: Network
    parameters: ScoringParameters
    names: tuple[str, ...]
    sweep: Mapping[str, ScoringParameters]
    minimum_area: int
    outputs: OutputCache
    progress: Progress
    statistics: ClassStatistics | None = None

    @property
    def rows(self) -> tuple[str, ...]:
        """Everything that is measured."""
        return (*self.names, *self.sweep)

    def _scores(self, prediction: MaskPrediction) -> dict[str, Stored]:
        found = compute_scores(prediction, self.parameters, self.names, self.statistics)
        for name, parameters in self.sweep.items():
            found[name] = prediction.scored(score_map, parameters)[0]
        return {name: stored_scores(score).scores for name, score in found.items()}

    def find_statistics(self, sources: Sequence[OrdinaryFrames | Dataset]) -> None:
        """Find the statistics of the classes that SML needs."""
        total: FloatArray | None = None
        for source in sources:
            if isinstance(source, Dataset):
                run: Iterable[tuple[Any, FloatArray]] = over_images(
                    self.network, source, self.outputs, lambda _, p, __: class_sums(_given(p))
                )
            else:
                run = source.over(
                    self.network, lambda frame: class_sums(frame.prediction), self.outputs
                )
            for _, sums in self.progress(run, len(source), f'{source.name}: classes'):
                total = sums if total is None else total + sums
        if total is None:
            raise MaskomalyError('score sml needs the statistics of the classes, and no frame is')
        self.statistics = ClassStatistics.of_sums(total, ', '.join(s.name for s in sources))

    def count(self, dataset: Dataset) -> dict[str, Measured]:
        """Count the scores of a data set with anomalies."""

        def look(_: Sample, prediction: MaskPrediction | None, label: Image) -> _Counts:
            scores = self._scores(_given(prediction))
            return {name: count_scores(score, label) for name, score in scores.items()}

        measured: dict[str, Measured] = {name: Measured() for name in self.rows}
        run = over_images(self.network, dataset, self.outputs, look)
        images = 0
        for _, counts in self.progress(run, len(dataset), f'{dataset.name}: scores'):
            images += 1
            for name, each in counts.items():
                measured[name].add(each)
        check_images(dataset, images)
        return measured

    def count_ordinary(
        self, ordinary: Sequence[OrdinaryFrames]
    ) -> tuple[dict[str, Measured], int]:
        """Count the scores of all ordinary frames; also return their number."""

        def look(frame: OrdinaryFrame) -> _Counts:
            scores = self._scores(frame.prediction)
            return {name: count_scores(score, frame.label) for name, score in scores.items()}

        measured: dict[str, Measured] = {name: Measured() for name in self.rows}
        frames = 0
        for source in ordinary:
            before = frames
            run = source.over(self.network, look, self.outputs)
            for _, counts in self.progress(run, len(source), f'{source.name}: scores'):
                frames += 1
                for name, each in counts.items():
                    measured[name].add(each)
            source.check(frames - before)
        return measured, frames

    def count_obstacles(
        self,
        ordinary: Sequence[OrdinaryFrames],
        thresholds: Mapping[str, Mapping[str, float]],
    ) -> dict[str, dict[str, FloatArray]]:
        """Count false obstacles on every ordinary frame, by data set and score."""

        def look(frame: OrdinaryFrame) -> list[list[int]]:
            scores = self._scores(frame.prediction)
            counts = []
            for least in thresholds.values():
                row = []
                for name, score in scores.items():
                    mask = (score >= np.float16(least[name])) & (frame.label == 0)
                    row.append(count_obstacles(mask, self.minimum_area))
                counts.append(row)
            return counts

        counted: list[list[list[int]]] = []
        for source in ordinary:
            run = source.over(self.network, look, self.outputs)
            text = f'{source.name}: false obstacles'
            counted += [counts for _, counts in self.progress(run, len(source), text)]
        if not counted:
            return {}
        table = np.array(counted, np.float64)  # [frames, data sets, scores]
        return {
            dataset: {name: table[:, i, j] for j, name in enumerate(self.rows)}
            for i, dataset in enumerate(thresholds)
        }

    def find_components(
        self, dataset: Dataset, measured: Mapping[str, Measured]
    ) -> dict[str, FloatArray]:
        """Return what component F1 is made of, by score, for every image: see `_component_f1`."""
        layout = dataset.layout
        metrics = {
            name: ComponentMetrics(
                each.counts.curve().best_f1()[1], layout.minimum_prediction, layout.minimum_truth
            )
            for name, each in measured.items()
        }

        def look(_: Sample, prediction: MaskPrediction | None, label: Image) -> dict[str, Any]:
            truth = TrueComponents.of(label, layout.minimum_truth)
            scores = self._scores(_given(prediction))
            return {
                name: _hits(*metrics[name].find(score, truth)) for name, score in scores.items()
            }

        rows: dict[str, list[FloatArray]] = {name: [] for name in self.rows}
        run = over_images(self.network, dataset, self.outputs, look)
        for _, found in self.progress(run, len(dataset), f'{dataset.name}: components'):
            for name, hits in found.items():
                rows[name].append(hits)
        return {name: np.stack(hits) for name, hits in rows.items()}


_Counts = dict[str, ScoreCounts]
_LEVELS: Final = ComponentMetrics.LEVELS


def _given(prediction: MaskPrediction | None) -> MaskPrediction:
    assert prediction is not None
    return prediction


def _threshold_of_recall(counts: ScoreCounts) -> float:
    """Return the highest score so that the pixels of at least that score hold the recall."""
    found = np.cumsum(counts.positives[::-1])
    if not found[-1]:
        raise MaskomalyError('there is no anomalous pixel, so that nothing is known of recall')
    place = len(SCORE_VALUES) - 1 - int(np.searchsorted(found, RECALL * found[-1]))
    return float(SCORE_VALUES[place])


def _above(image: Histogram, threshold: float) -> tuple[float, float]:
    """Return the pixels without anomaly in the bins from a threshold on, and in all bins."""
    first = np.searchsorted(SCORE_VALUES, threshold) // WIDTH
    return float(image.negatives[image.bins >= first].sum()), float(image.negatives.sum())


def _hits(siou: FloatArray, ppv: FloatArray) -> FloatArray:
    """Return true positives, false negatives and false positives at each level, [3 · levels]."""
    hit = (siou[:, None] >= _LEVELS).sum(0)
    return np.concatenate([hit, len(siou) - hit, (ppv[:, None] < _LEVELS).sum(0)]).astype(float)


def _component_f1(sums: FloatArray) -> FloatArray:
    """Return the mean F1 over the levels, of sums [..., 3 · levels]."""
    hit, missed, wrong = np.split(sums, 3, axis=-1)
    f1: FloatArray = (2 * hit / np.maximum(2 * hit + missed + wrong, 1)).mean(-1)
    return f1


def _figures(
    measured: Mapping[str, Measured],
    components: Mapping[str, FloatArray],
    traffic: Mapping[str, Measured],
    obstacles: Mapping[str, FloatArray],
    thresholds: Mapping[str, float],
) -> dict[str, dict[str, Any]]:
    """Return all figures on one data set, by score and metric."""
    images = len(next(iter(measured.values())).histograms)
    frames = len(next(iter(traffic.values())).histograms)
    weights, of_frames = draws(images), draws(frames, seed=1) if frames else None

    def of(name: str) -> dict[str, tuple[float, FloatArray]]:
        each, ordinary = measured[name], traffic[name]
        curve = each.counts.curve()
        ap, fpr95, best_f1 = ranking_figures(each.histograms, weights)
        hits = components[name]
        found = {
            'ap': (curve.average_precision(), ap),
            'fpr95': (curve.fpr95(), fpr95),
            'best_f1': (curve.best_f1()[0], best_f1),
            'component_f1': (float(_component_f1(hits.sum(0))), _component_f1(weights @ hits)),
        }
        if of_frames is not None:
            pooled = (each.counts + ordinary.counts).curve()
            ap, fpr95, _ = ranking_figures(
                each.histograms, weights, ordinary.histograms, of_frames
            )
            counts = obstacles[name]
            pixels = np.array([_above(each, thresholds[name]) for each in ordinary.histograms])
            above, all_pixels = pixels.sum(0)
            drawn = of_frames @ pixels
            found |= {
                'pooled_ap': (pooled.average_precision(), ap),
                'pooled_fpr95': (pooled.fpr95(), fpr95),
                'false_obstacles': (float(counts.mean()), of_frames @ counts / frames),
                'false_pixels': (float(above / all_pixels), drawn[:, 0] / drawn[:, 1]),
            }
        return found

    everything = {name: of(name) for name in measured}
    reference = everything.get(REFERENCE)
    return {
        name: {
            metric: _figure(
                value,
                values,
                METRICS[metric],
                reference[metric][1] if reference and name != REFERENCE else None,
            )
            for metric, (value, values) in figures.items()
        }
        for name, figures in everything.items()
    }


def _figure(
    value: float, values: FloatArray, metric: Metric, reference: FloatArray | None
) -> dict[str, Any]:
    interval = Interval.of(values)
    better = None
    if reference is not None:
        difference = Interval.of(values - reference)
        if math.isfinite(difference.low):
            better = difference.sign * (1 if metric.higher_is_better else -1)
    return {'value': value, **interval._asdict(), 'better': better}
