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

"""Studies of what the queries of a checkpoint do, and of what the score makes of them.

Those of the Maskomaly paper, for any checkpoint and data set:

1. Specialisation: which class each query answers with, over the images. See `Answers`.
2. IoU: how well the mask of each query covers anomalies, on average, and how many of the first
   queries lie in which range of it, by which backbones are compared.
3. Number of anomalous queries: the figures of the score with the first k queries by IoU, ranked on
   the same images or on others; and the share of pixels that belong to masks of inlier queries.
4. Curves: precision-recall and ROC of all methods.
5. Ordinary frames: recall of anomalies against false obstacles on frames that show none.

`study` measures one checkpoint, `write_studies` writes figures, tables and a page of several.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskomaly_ros import html
from maskomaly_ros.classes import IGNORE
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation import plots
from maskomaly_ros.evaluation.cache import OutputCache
from maskomaly_ros.evaluation.calibration import Membership, query_iou, strongest_masks
from maskomaly_ros.evaluation.datasets import Dataset, Image, Sample
from maskomaly_ros.evaluation.evaluate import evaluate
from maskomaly_ros.evaluation.images import (
    Progress,
    check_images,
    no_progress,
    over_images,
)
from maskomaly_ros.evaluation.metrics import ImageSummary, PixelMetrics, PixelResult
from maskomaly_ros.evaluation.ordinary import OrdinaryFrames
from maskomaly_ros.evaluation.results import MethodResult
from maskomaly_ros.evaluation.traffic import (
    CURVE_THRESHOLDS,
    MAIN,
    Traffic,
    measure_traffic,
    ordinary_statistics,
)
from maskomaly_ros.html import Cell, Column, Markup
from maskomaly_ros.networks import MaskPrediction, Network
from maskomaly_ros.scores import check_scores, default_scores
from maskomaly_ros.scoring import (
    ScoringParameters,
    accept_map,
    border_mask,
    join_maps,
    reject_map,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]
Summaries = list[ImageSummary]

QUERY_THRESHOLD = 0.9
"""T_query: share of the cases beyond which a specialised query is sure of one class."""
EPSILON = 0.1
"""ε: a query is sure of a class where its probability is at least 1 − ε."""
IOU_THRESHOLD = 0.25
"""T_IoU of the paper."""
MOST_QUERIES = 16
IOU_RANGES = (0.0, 0.1, 0.2, 0.3, 0.4, 1.0)
"""Bounds of the ranges that the first `MOST_QUERIES` queries are counted in."""


@dataclass(frozen=True)
class Answers:
    """Which class each query answers with: the largest of its probabilities, void included.

    Attributes:
        classes: names of the classes, void last.
        answers: index of that class, int [M, N], of M cases: images, or windows of images.
        probabilities: of that class, in [0, 1], [M, N].

    """

    classes: tuple[str, ...]
    answers: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def images(self) -> int:
        """The number of cases: images; each window of an image counts as one."""
        return len(self.answers)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """The number of cases in which a query answers with a class, int64 [N, C+1]."""
        return self._count(np.ones_like(self.answers, bool))

    def _count(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        classes = np.arange(len(self.classes))
        hits = (self.answers[..., None] == classes) & chosen[..., None]
        return np.asarray(hits.sum(0))

    def sure(self, epsilon: float = EPSILON) -> FloatArray:
        """Return the share of the cases in which a query is sure of its most frequent class, [N].

        Sure is a probability of at least 1 − epsilon; the class is one that is not void.
        """
        sure = self._count(self.probabilities >= np.float32(1 - epsilon))
        return np.asarray(sure[:, :-1].max(1) / self.images)

    @property
    def shares(self) -> FloatArray:
        """The shares of the images, [N, C+1]."""
        return self.counts / self.images

    @property
    def active(self) -> FloatArray:
        """The share of the images in which a query answers with a class that is not void, [N]."""
        return np.asarray(self.shares[:, :-1].sum(1))

    @property
    def favourite(self) -> NDArray[np.intp]:
        """The class that is not void that a query answers with most often, [N]."""
        return np.asarray(np.argmax(self.counts[:, :-1], axis=1))

    @property
    def purity(self) -> FloatArray:
        """The share of its favourite in the answers of a query that are not void, [N].

        NaN where all of them are void.
        """
        inlier = self.counts[:, :-1]
        total = inlier.sum(1)
        return np.where(total > 0, inlier.max(1) / np.maximum(total, 1), np.nan)

    def specialised(
        self, threshold: float = QUERY_THRESHOLD, epsilon: float = EPSILON
    ) -> NDArray[np.bool_]:
        """Return which queries are specialised for one class that is not void, bool [N].

        Those that predict one class with a probability of at least 1 − epsilon (ε) in more than
        threshold (T_query) of all cases: section 3.2 of the paper.
        """
        return np.asarray(self.sure(epsilon) > threshold)


@dataclass(frozen=True)
class MaskedPixels:
    """How many pixels belong to the mask of an inlier query: that is the strongest there.

    Attributes:
        known: pixels that show nothing anomalous.
        known_masked: those of them in inlier masks.
        anomalous: pixels of anomalies.
        anomalous_masked: those of them in inlier masks, which reject cannot find.

    """

    known: int = 0
    known_masked: int = 0
    anomalous: int = 0
    anomalous_masked: int = 0

    @classmethod
    def of(
        cls, prediction: MaskPrediction, label: Image, parameters: ScoringParameters
    ) -> MaskedPixels:
        """Count in one image; label: uint8 [H, W], 1 anomaly, 255 ignored."""
        total = cls()
        for part, truth in zip(prediction.parts, prediction.cut(label), strict=True):
            largest, answer = part.class_logits[0].softmax(-1).max(-1)
            is_inlier = (answer < part.class_logits.shape[-1] - 1) & (
                largest >= parameters.mask_threshold
            )
            is_inlier[list(parameters.ground_queries)] = True
            masked = is_inlier.cpu().numpy()[strongest_masks(part)]
            known, anomalous = (truth != 1) & (truth != IGNORE), truth == 1
            counts = (known, known & masked, anomalous, anomalous & masked)
            total += cls(*(int(each.sum()) for each in counts))
        return total

    def __add__(self, other: MaskedPixels) -> MaskedPixels:
        return MaskedPixels(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class AnomalyStudy:
    """Studies that need labels of anomalies.

    Attributes:
        mean_iou: of every query's mask with the anomalies, over the images that have any, of the
            data set that queries are ranked on, float64 [N].
        by_count: figures of the score with the first 0, 1, … queries by mean_iou as anomalous.
        methods: figures and curve of each method.
        masked: pixels in inlier masks.
        ranked_on: the data set that queries are ranked on; empty for the one that is measured
            on, which makes the figures of by_count no test.

    """

    mean_iou: FloatArray
    by_count: tuple[PixelResult, ...]
    methods: Mapping[str, MethodResult]
    masked: MaskedPixels
    ranked_on: str = ''

    @property
    def ranking(self) -> tuple[int, ...]:
        """All queries, those of the largest mean IoU first."""
        return tuple(int(q) for q in np.argsort(-self.mean_iou, kind='stable'))


@dataclass(frozen=True)
class Study:
    """What was found out about one checkpoint on one data set.

    Attributes:
        checkpoint: its name.
        sha256: of its weights.
        parameters: of the score, with the anomalous queries in use.
        images: number of images.
        answers: study 1.
        anomalies: studies 2 to 4; None where the data set has no labels of anomalies.
        traffic: study 5; None without ordinary frames.

    """

    checkpoint: str
    sha256: str
    parameters: ScoringParameters
    images: int
    answers: Answers
    anomalies: AnomalyStudy | None
    traffic: Traffic | None = None


def study(
    network: Network,
    dataset: Dataset,
    parameters: ScoringParameters,
    *,
    methods: Sequence[str] | None = None,
    most_queries: int = MOST_QUERIES,
    ordinary: Sequence[OrdinaryFrames] = (),
    threshold: float = 0.9,
    minimum_area: int = 0,
    rank_on: Dataset | None = None,
    membership: Membership = 'threshold',
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> Study:
    """Find out about one checkpoint; the network runs once an image.

    Args:
        network: the network.
        dataset: images; those without labels of anomalies serve study 1 alone.
        parameters: of the score.
        methods: those of study 4; None takes all that are possible.
        most_queries: most anomalous queries of study 3.
        ordinary: frames without anomalies, for study 5.
        threshold: the obstacle threshold of study 5.
        minimum_area: smaller obstacles, in pixels, do not count there.
        rank_on: data set to rank queries on, by which studies 2 and 3 go; None ranks and measures
            on the same one.
        membership: which pixels belong to a query, see `query_iou`.
        cache: folder with outputs of networks, used and added to; None keeps them in a temporary
            one meanwhile.
        progress: see `Progress`.

    Raises:
        MaskomalyError: no image could be read, or none has an anomaly; a method is unknown or
            cannot be used; the cache cannot be written.

    """
    if most_queries < 0:
        raise MaskomalyError(f'most_queries {most_queries} is negative')
    anomalous = dataset.layout.task == 'anomaly'
    if rank_on is not None and 'anomaly' not in (dataset.layout.task, rank_on.layout.task):
        raise MaskomalyError('ranking on one data set for another needs anomalies in both')
    if anomalous and methods is not None:
        check_scores(methods, parameters)
    with TemporaryDirectory(prefix='maskomaly-outputs-') as temporary:
        folder = cache or Path(temporary)
        outputs, name = OutputCache(folder, network), network.name

        def ask(
            _: Sample, prediction: MaskPrediction | None, label: Image
        ) -> tuple[NDArray[np.int64], NDArray[np.float32], FloatArray | None, MaskedPixels]:
            assert prediction is not None
            probability, answer = prediction.class_logits.softmax(-1).max(-1)
            said = answer.cpu().numpy(), probability.float().cpu().numpy()
            if not anomalous:
                return *said, None, MaskedPixels()
            iou = None if rank_on else query_iou(prediction, label, membership)
            return *said, iou, MaskedPixels.of(prediction, label, parameters)

        said: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        ious: list[FloatArray] = []
        masked = MaskedPixels()
        run = over_images(network, dataset, outputs, ask)
        for _, (answer, probability, iou, pixels) in progress(
            run, len(dataset), f'{name}: queries'
        ):
            said.append((answer, probability))
            masked += pixels
            if iou is not None:
                ious.append(iou)
        images = len(said)
        check_images(dataset, images)
        answers = Answers(
            (*network.class_names, 'void'),
            np.concatenate([answer for answer, _ in said]),
            np.concatenate([probability for _, probability in said]),
        )
        statistics = traffic = None
        if ordinary:
            chosen_methods = (methods or default_scores(parameters)) if anomalous else ()
            if 'sml' in chosen_methods:
                statistics = ordinary_statistics(
                    network, ordinary, cache=folder, progress=progress
                )
            traffic = measure_traffic(
                network,
                ordinary,
                parameters,
                chosen_methods,
                threshold,
                minimum_area=minimum_area,
                statistics=statistics,
                cache=folder,
                progress=progress,
            )
        if not anomalous:
            return Study(name, network.sha256, parameters, images, answers, None, traffic)
        ranked = rank_on or dataset
        if rank_on is not None:

            def rank(_: Sample, prediction: MaskPrediction | None, label: Image) -> FloatArray:
                assert prediction is not None
                return query_iou(prediction, label, membership)

            ranking = over_images(network, rank_on, outputs, rank)
            ious = [iou for _, iou in progress(ranking, len(rank_on), f'{name}: ranking')]
        ious = [iou for iou in ious if not np.isnan(iou).any()]
        if not ious:
            raise MaskomalyError(f'no image of {ranked.name} has an anomaly (label 1)')
        mean_iou: FloatArray = np.mean(ious, axis=0)
        first = [int(query) for query in np.argsort(-mean_iou, kind='stable')[:most_queries]]

        def add_up(_: Sample, prediction: MaskPrediction | None, label: Image) -> Summaries:
            assert prediction is not None
            scores = scores_by_count(prediction, parameters, first)
            return [ImageSummary.of(score, label) for score in scores]

        by_count = [PixelMetrics(averaged=dataset.layout.averaged) for _ in range(len(first) + 1)]
        growing = over_images(network, dataset, outputs, add_up)
        for _, summaries in progress(growing, len(dataset), f'{name}: number of queries'):
            for metrics, summary in zip(by_count, summaries, strict=True):
                metrics.add(summary)
        evaluation = evaluate(
            network,
            dataset,
            parameters,
            methods,
            cache=folder,
            statistics=statistics,
            traffic=traffic,
            progress=progress,
        )
    anomalies = AnomalyStudy(
        mean_iou,
        tuple(metrics.compute() for metrics in by_count),
        evaluation.results,
        masked,
        rank_on.name if rank_on else '',
    )
    return Study(name, network.sha256, parameters, images, answers, anomalies, traffic)


@torch.inference_mode()
def scores_by_count(
    prediction: MaskPrediction, parameters: ScoringParameters, queries: Sequence[int]
) -> Iterator[NDArray[np.float32]]:
    """Compute the score of one frame with ever more anomalous queries.

    Yields:
        float32 [H, W], equal to `score_map`, with the first 0, 1, … of queries as the anomalous
        ones: each costs one mask more, not all of them again.

    """
    counts = (_part_by_count(part, parameters, queries) for part in prediction.parts)
    for maps in zip(*counts, strict=True):
        yield prediction.blend(maps).cpu().numpy()


def _part_by_count(
    part: MaskPrediction, parameters: ScoringParameters, queries: Sequence[int]
) -> Iterator[torch.Tensor]:
    inputs = part.mask_logits[0], part.class_logits[0], part.frame_size
    extent = part.extent
    reject = reject_map(*inputs, parameters, extent=extent)
    borders = border_mask(*inputs, parameters, extent=extent)
    reject = torch.where(borders, reject.clamp(max=parameters.border_score), reject)
    yield reject
    accept = torch.zeros_like(reject)
    for query in queries:
        alone = replace(parameters, anomalous_queries=(query,))
        accept = torch.maximum(accept, accept_map(*inputs, alone, extent=extent))
        yield join_maps(reject, accept, alone)


@dataclass(frozen=True)
class Written:
    """Files of an analysis.

    Attributes:
        page: the HTML page.
        files: everything, the page included.
        summary: what was found, in sentences.

    """

    page: Path
    files: tuple[Path, ...]
    summary: tuple[str, ...]


def prepare(folder: Path) -> None:
    """Make the folder of the results, and MaskomalyError if that fails: before hours of work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder):
            pass
    except OSError as error:
        raise MaskomalyError(f'cannot write to folder {folder}: {error.strerror}') from error


def write_studies(
    studies: Sequence[Study],
    dataset: str,
    folder: Path,
    *,
    query_threshold: float = QUERY_THRESHOLD,
    epsilon: float = EPSILON,
    iou_threshold: float = IOU_THRESHOLD,
    facts: Mapping[str, str] | None = None,
) -> Written:
    """Write figures as PNG and SVG, their data as CSV, and all of it as one HTML page.

    Args:
        studies: of one checkpoint or several, all on the same data set.
        dataset: its name.
        folder: where the files go; made where it is missing.
        query_threshold: T_query.
        epsilon: ε.
        iou_threshold: T_IoU, drawn into the histogram.
        facts: what the page says of the run.

    Raises:
        MaskomalyError: two checkpoints have one name, or a file cannot be written.

    """
    names = [s.checkpoint for s in studies]
    if len(set(names)) < len(names):
        raise MaskomalyError(f'checkpoints of one name cannot be told apart: {", ".join(names)}')
    out = _Folder(folder)
    sections = [_specialisation(studies, query_threshold, epsilon, out)]
    known = {s.checkpoint: s.anomalies for s in studies if s.anomalies is not None}
    if known:
        parameters = {s.checkpoint: s.parameters for s in studies}
        sections.append(_query_iou(known, parameters, iou_threshold, out))
        sections.append(_iou_ranges(known, out))
        sections.append(_query_count(known, parameters, out))
        sections.append(_masked_pixels(known, out))
        sections.extend(_curves(name, anomalies, out) for name, anomalies in known.items())
    sections.extend(_traffic(s, s.traffic, out) for s in studies if s.traffic is not None)
    page = html.render(
        Path(__file__).with_name('analysis.html'),
        title='Analysis of ' + ', '.join(names),
        subtitle=f'{dataset}, {max(s.images for s in studies)} images',
        sections=sections,
        facts={
            **{f'weights of {s.checkpoint}': s.sha256 for s in studies},
            **{
                f'anomalous queries of {s.checkpoint}': ', '.join(
                    map(str, s.parameters.anomalous_queries)
                )
                or 'none'
                for s in studies
            },
            'T_query': f'{query_threshold:g}',
            'ε': f'{epsilon:g}',
            'T_IoU': f'{iou_threshold:g}',
            **(facts or {}),
        },
    )
    path = folder / 'analysis.html'
    html.write(path, page)
    summary = tuple(line for section in sections for line in section['summary'])
    return Written(path, (path, *out.files), summary)


class _Folder:
    """Where files go; remembers which."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.files: list[Path] = []

    def figure(self, stem: str, figure: Figure, label: str, shown: Figure | None = None) -> Markup:
        """Write a figure as PNG and SVG, and return it, or the one shown instead, for the page."""
        self.files += plots.save(figure, self._path / stem)
        return plots.inline(shown or figure, label)

    def table(self, stem: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows as CSV; an empty field is a value that does not exist."""
        path = self._path / f'{stem}.csv'
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open('w', encoding='utf-8', newline='') as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                for row in rows:
                    writer.writerow({k: _field(v) for k, v in row.items()})
        except OSError as error:
            raise MaskomalyError(f'cannot write {path}: {error.strerror}') from error
        self.files.append(path)


def _field(value: Any) -> Any:
    if isinstance(value, float):
        return '' if np.isnan(value) else f'{value:.6g}'
    return int(value) if isinstance(value, (bool, np.bool_)) else value


def _specialisation(
    studies: Sequence[Study], threshold: float, epsilon: float, out: _Folder
) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    figures = []
    counts = {}
    sweep = np.linspace(0.5, 1.0, 101)
    summary = []
    for each in studies:
        answers = each.answers
        special, sure = answers.specialised(threshold, epsilon), answers.sure(epsilon)
        for query in range(len(special)):
            active = bool(answers.active[query] > 0)
            rows.append({
                'checkpoint': each.checkpoint,
                'query': query,
                'class': answers.classes[answers.favourite[query]] if active else '',
                'share_of_images': float(answers.active[query]),
                'share_of_class': float(answers.purity[query]),
                'sure': float(sure[query]),
                'specialised': special[query],
            })  # fmt: skip
        # Queries of one class side by side, the busiest first; those always void at the end.
        order = np.lexsort(
            (-answers.active, np.where(answers.active > 0, answers.favourite, len(special)))
        )
        figures.append(
            out.figure(
                f'specialisation_{_file_name(each.checkpoint)}',
                plots.specialisation(
                    answers.shares[order],
                    answers.classes,
                    order.tolist(),
                    np.flatnonzero(special).tolist(),
                    each.checkpoint,
                ),
                f'share of the images in which each query of {each.checkpoint} answers with each '
                'class',
            )
        )
        counts[each.checkpoint] = [
            int(answers.specialised(float(t), epsilon).sum()) for t in sweep
        ]
        per_class = np.bincount(answers.favourite[special], minlength=len(answers.classes) - 1)
        idle = int((answers.active < 0.01).sum())
        summary.append(
            f'{each.checkpoint}: {int(special.sum())} of {len(special)} queries are specialised ('
            + ', '.join(
                f'{name} {count}' for name, count in zip(answers.classes, per_class, strict=False)
            )
            + f'), {idle} answer with void in more than 99 % of the images.'
        )
    out.table('specialisation', rows)
    sweep_figure = out.figure(
        'specialised_queries',
        plots.specialised_count(sweep, counts, threshold),
        'number of specialised queries against T_query',
    )
    return {
        'title': 'Queries specialised for one class',
        'text': 'Each column is a query, each row a class that it can answer with; bold numbers '
        'are specialised queries. Specialised means: it predicts one class, not void, with a '
        f'probability of at least {100 - 100 * epsilon:g} % (1 − ε) in over {100 * threshold:g} % '
        '(T_query) of all images. Below, how many there are for other values of T_query.',
        'summary': summary,
        'legend': [],
        'wide': figures,
        'figures': [sweep_figure],
        'table': _table(
            rows,
            {
                'checkpoint': '',
                'query': 'd',
                'class': '',
                'share_of_images': '%',
                'share_of_class': '%',
                'sure': '%',
                'specialised': 'd',
            },
            'queries and their classes',
        ),
        'files': 'specialisation.csv',
    }


def _query_iou(
    known: Mapping[str, AnomalyStudy],
    parameters: Mapping[str, ScoringParameters],
    threshold: float,
    out: _Folder,
) -> dict[str, Any]:
    used = {name: parameters[name].anomalous_queries for name in known}
    rows = [
        {
            'checkpoint': name,
            'rank': rank,
            'query': query,
            'mean_iou': float(each.mean_iou[query]),
            'anomalous': query in used[name],
        }
        for name, each in known.items()
        for rank, query in enumerate(each.ranking, 1)
    ]
    out.table('query_iou', rows)
    figure = out.figure(
        'query_iou',
        plots.query_iou_histogram({n: a.mean_iou for n, a in known.items()}, threshold, used),
        'histogram of the mean IoU of queries with anomalies',
    )
    return {
        'title': 'IoU of queries with anomalies',
        'text': 'How many queries have which mean IoU of their mask with the anomalies, '
        'over the images that have any. Queries to the right of the rest are the candidates for '
        'anomalous ones; the numbers are those in use. The axis of counts is logarithmic.',
        'summary': [
            f'{name}: {int((each.mean_iou > threshold).sum())} of {len(each.mean_iou)} queries '
            f'exceed T_IoU = {threshold:g}; the best is query {each.ranking[0]} with '
            f'{each.mean_iou.max():.3f}.'
            for name, each in known.items()
        ],
        'legend': [],
        'wide': [],
        'figures': [figure],
        'table': _table(
            rows,
            {'checkpoint': '', 'rank': 'd', 'query': 'd', 'mean_iou': '%', 'anomalous': 'd'},
            'queries by IoU',
        ),
        'files': 'query_iou.csv',
    }


def _query_count(
    known: Mapping[str, AnomalyStudy],
    parameters: Mapping[str, ScoringParameters],
    out: _Folder,
) -> dict[str, Any]:
    names = ('ap', 'fpr95', 'auroc')
    rows = [
        {
            'checkpoint': name,
            'anomalous_queries': count,
            'added': each.ranking[count - 1] if count else '',
            **{n: getattr(result, n) for n in (*names, 'best_f1', 'exact_ap')},
        }
        for name, each in known.items()
        for count, result in enumerate(each.by_count)
    ]
    out.table('query_count', rows)
    # A set in use is on the curve only where it is the first queries of the ranking.
    used = {
        name: len(chosen)
        for name, each in known.items()
        if (chosen := set(parameters[name].anomalous_queries)) == set(each.ranking[: len(chosen)])
    }
    figure = out.figure(
        'query_count',
        plots.query_count({n: a.by_count for n, a in known.items()}, names, used),
        'AP, FPR95 and AuROC against the number of anomalous queries',
    )
    summary = []
    for name, each in known.items():
        best = int(np.argmax([round(r.ap, 4) for r in each.by_count]))  # the fewest queries
        summary.append(
            f'{name}: AP is highest, {100 * each.by_count[best].ap:.2f} %, with k = {best} '
            f'anomalous queries; without any it is {100 * each.by_count[0].ap:.2f} %. λ is '
            f'{parameters[name].reject_weight:g}.'
        )
    return {
        'title': 'Number of anomalous queries',
        'text': 'Figures of the score when the queries are taken as anomalous ones in the order '
        'of their IoU. Without any, the score is reject with borders. A ring marks the number in '
        f'use. {_where_ranked(known)}',
        'summary': summary,
        'legend': [],
        'wide': [figure],
        'figures': [],
        'table': _table(
            rows,
            {
                'checkpoint': '',
                'anomalous_queries': 'd',
                'added': 'd',
                **dict.fromkeys((*names, 'best_f1', 'exact_ap'), '%'),
            },
            'figures by number of queries',
        ),
        'files': 'query_count.csv',
    }


def _where_ranked(known: Mapping[str, AnomalyStudy]) -> str:
    """Return a sentence on the images that queries were ranked on."""
    elsewhere = {each.ranked_on for each in known.values()} - {''}
    if elsewhere:
        return f'The order was found on other images: {", ".join(sorted(elsewhere))}.'
    return 'The order was found on these same images: the best number here is no test.'


def _iou_ranges(known: Mapping[str, AnomalyStudy], out: _Folder) -> dict[str, Any]:
    """Return the study of backbones: how many of the first queries have which IoU."""
    ranges = list(pairwise(IOU_RANGES))
    rows = []
    for name, each in known.items():
        first = each.mean_iou[list(each.ranking[:MOST_QUERIES])]
        for low, high in ranges:
            inside = (first >= low) & ((first < high) | (high == IOU_RANGES[-1]))
            bounds = f'{100 * low:g} to {100 * high:g} %'
            rows.append({'checkpoint': name, 'iou': bounds, 'queries': int(inside.sum())})
    out.table('iou_ranges', rows)
    return {
        'title': 'IoU of the first queries, by range',
        'text': f'How many of the first {MOST_QUERIES} queries of the ranking lie in which range '
        'of the mean IoU with anomalies: the paper compares backbones by it (figure 6, right).',
        'summary': [],
        'legend': [],
        'wide': [],
        'figures': [],
        'table': _table(rows, {'checkpoint': '', 'iou': '', 'queries': 'd'}, 'queries by range'),
        'files': 'iou_ranges.csv',
    }


def _masked_pixels(known: Mapping[str, AnomalyStudy], out: _Folder) -> dict[str, Any]:
    """Return the study of pixels in inlier masks, which motivates accept."""
    rows: list[dict[str, Any]] = [
        {
            'checkpoint': name,
            'pixels': kind,
            'number': total,
            'in_inlier_masks': inside / total if total else math.nan,
        }
        for name, each in known.items()
        for kind, total, inside in (
            ('inlier', each.masked.known, each.masked.known_masked),
            ('outlier', each.masked.anomalous, each.masked.anomalous_masked),
        )
    ]
    out.table('inlier_masks', rows)
    return {
        'title': 'Pixels in inlier masks',
        'text': 'Which share of the pixels belongs to the mask of an inlier query: that is the '
        'strongest there. Outlier pixels in inlier masks are what reject cannot find (section '
        '3.2 of the paper).',
        'summary': [
            f'{row["checkpoint"]}: {100 * row["in_inlier_masks"]:.1f} % of the '
            f'{row["pixels"]} pixels belong to inlier masks.'
            for row in rows
        ],
        'legend': [],
        'wide': [],
        'figures': [],
        'table': _table(
            rows,
            {'checkpoint': '', 'pixels': '', 'number': 'd', 'in_inlier_masks': '%'},
            'pixels in inlier masks',
        ),
        'files': 'inlier_masks.csv',
    }


def _curves(name: str, anomalies: AnomalyStudy, out: _Folder) -> dict[str, Any]:
    stem = _file_name(name)
    curves = {method: result.curve for method, result in anomalies.methods.items()}
    rows = [
        {
            'method': method,
            'threshold': float(curve.thresholds[place]),
            'recall': float(curve.recall[place]),
            'precision': float(curve.precision[place]),
            'false_positive_rate': float(curve.false_positive_rate[place]),
        }
        for method, curve in curves.items()
        for place in plots.thin(curve.recall, curve.precision, curve.false_positive_rate)
    ]
    out.table(f'curves_{stem}', rows)
    figures = [
        {
            'method': method,
            **{n: getattr(result.pixels, n) for n in _FIGURES},
        }
        for method, result in anomalies.methods.items()
    ]
    out.table(f'methods_{stem}', figures)
    return {
        'title': f'Curves of all methods: {name}',
        'text': 'All methods on the same outputs of the network, all images pooled. The area '
        'below a precision-recall curve is the AP. Untick a method to hide its curves.',
        'summary': [],
        'legend': plots.legend(curves),
        'wide': [],
        'figures': [
            out.figure(
                f'precision_recall_{stem}',
                plots.precision_recall(curves),
                f'precision-recall curves of {", ".join(curves)}',
                plots.precision_recall(curves, with_legend=False),
            ),
            out.figure(
                f'roc_{stem}',
                plots.roc(curves),
                f'ROC curves of {", ".join(curves)}',
                plots.roc(curves, with_legend=False),
            ),
        ],
        'table': _table(
            figures,
            {'method': '', **dict.fromkeys(_FIGURES, '%')},
            f'methods with {name}',
        ),
        'files': f'curves_{stem}.csv, methods_{stem}.csv',
    }


def _traffic(study: Study, traffic: Traffic, out: _Folder) -> dict[str, Any]:
    name, stem = study.checkpoint, _file_name(study.checkpoint)
    found = [(each.name, each.found) for each in traffic.sets]
    if len(found) > 1:
        found.append(('all', traffic.found))
    known = list(traffic.found.by_class)
    rows: list[dict[str, Any]] = [
        {
            'ordinary_frames': each,
            'frames': figures.frames,
            'false_obstacles_a_frame': figures.a_frame,
            'frames_with_any': figures.share_of_frames,
            'pixels_above': figures.share_of_pixels,
            **{f'{label}_above': figures.by_class.get(label, np.nan) for label in known},
        }
        for each, figures in found
    ]
    out.table(f'ordinary_{stem}', rows)
    files, shown, curves, pooled = f'ordinary_{stem}.csv', [], [], ''
    total = traffic.found
    summary = [
        f'{name}: {total.a_frame:.3f} false obstacles a frame on {total.frames} ordinary frames '
        f'at the threshold {traffic.threshold:g}; {100 * total.share_of_frames:.2f} % of the '
        'frames have any.'
    ]
    result = study.anomalies.methods.get(MAIN) if study.anomalies else None
    at = result.at_threshold if result else None
    if at is not None and result is not None and result.pooled is not None:
        curves = [
            {'threshold': float(t), 'false_obstacles_a_frame': float(f), 'recall': recall}
            for t, f, recall in zip(CURVE_THRESHOLDS, traffic.curve, at.recall_curve, strict=True)
        ]
        out.table(f'recall_{stem}', curves)
        files += f', recall_{stem}.csv'
        shown = [
            out.figure(
                f'recall_{stem}',
                plots.recall_against_false_obstacles(
                    traffic.curve,
                    {MAIN: np.array(at.recall_curve)},
                    {MAIN: (at.false_obstacles, at.recall)},
                ),
                'recall of anomalies against false obstacles a frame of ordinary traffic',
            )
        ]
        pooled = (
            f' With the pixels of ordinary frames as negatives the AP is '
            f'{100 * result.pooled.ap:.2f} %, and {100 * result.pixels.ap:.2f} % without.'
        )
        summary.append(
            f'{name}: {100 * at.recall:.2f} % of the anomalous pixels and '
            f'{100 * at.component_recall:.2f} % of the anomalies are found there.{pooled}'
        )
    return {
        'title': f'Ordinary frames: {name}',
        'text': 'What the score finds where nothing is anomalous, so that everything is a false '
        'alarm. The curve goes through thresholds from 0 to 1; a ring marks the one in use.',
        'summary': summary,
        'legend': [],
        'wide': [],
        'figures': shown,
        'table': _table(
            rows,
            {
                'ordinary_frames': '',
                'frames': 'd',
                'false_obstacles_a_frame': '.3f',
                **dict.fromkeys(list(rows[0])[3:], '%'),
            },
            f'ordinary frames with {name}',
        ),
        'files': files,
    }


_FIGURES = ('ap', 'fpr95', 'auroc', 'best_f1', 'exact_ap')
_HEADS = {'ap': 'AP', 'fpr95': 'FPR95', 'auroc': 'AuROC', 'best_f1': 'best F1'}


def _table(rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, str], label: str) -> Markup:
    """Return rows as a table of the page; kinds: text, d number, .3f, % percentage."""
    columns = [
        Column(
            _HEADS.get(name, name.replace('_', ' ').replace('iou', 'IoU').replace(' ap', ' AP'))
            + (', %' if kind == '%' else ''),
            numeric=bool(kind),
        )
        for name, kind in kinds.items()
    ]

    def cell(value: Any, kind: str) -> Cell:
        if isinstance(value, (bool, np.bool_)):
            return Cell(int(value), 'yes' if value else '')
        if value == '':
            return Cell(None)
        if kind == '.3f':
            return Cell(value, f'{value:.3f}')
        if kind == '%':
            return Cell(value, '–' if np.isnan(value) else f'{100 * value:.2f}')
        return Cell(value)

    return html.table(
        columns,
        [[cell(row[name], kind) for name, kind in kinds.items()] for row in rows],
        label=label,
        filterable=len(rows) > 20,
    )


def _file_name(checkpoint: str) -> str:
    return ''.join(c if c.isalnum() or c in '.-' else '_' for c in checkpoint)
