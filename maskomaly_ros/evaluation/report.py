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

"""The HTML report of an evaluation: one page with table, curves, pictures and figures by image.

`report_of` makes of an `Evaluation` what the page shows, `render_report` the page. The page
knows methods and figures by their names only, so that whatever is measured can be shown.
"""

from __future__ import annotations

import datetime
import math
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

import maskomaly_ros
from maskomaly_ros import html
from maskomaly_ros.evaluation import plots
from maskomaly_ros.evaluation.datasets import Dataset
from maskomaly_ros.evaluation.metrics import IGNORE, Curve, ImageFigures
from maskomaly_ros.evaluation.results import Evaluation, ShownImage
from maskomaly_ros.evaluation.semantics import SemanticEvaluation
from maskomaly_ros.evaluation.traffic import MAIN, FalseObstacles, OrdinaryShot, Traffic
from maskomaly_ros.html import Cell, Column, Row
from maskomaly_ros.networks import Network, backends_used
from maskomaly_ros.queries import Queries
from maskomaly_ros.visualization import overlay

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Image = NDArray[np.uint8]

SHOTS = 4
_PICTURE_WIDTH = 960
# Hits, misses and false alarms; hues that colour-blind eyes tell apart.
HIT, MISS, FALSE_ALARM = (0, 158, 255), (255, 64, 160), (255, 176, 0)

_CALIBRATED_HERE = (
    'the queries and parameters were calibrated on this very data set. The figures of the methods '
    'that use them say how well that went; they are no test.'
)
LOWER_IS_BETTER = frozenset(('FPR95', 'pooled FPR95', 'false/frame'))
_HELP = {
    'AP': 'average precision on the benchmark’s compressed curve',
    'FPR95': 'false positive rate where 95 % of the anomalous pixels are found',
    'AuROC': 'area under the ROC curve',
    'best F1': 'largest F1 of all thresholds, pixels of all images together',
    'MDM 0.6': 'Maximal Detection Margin: largest interval of thresholds with an F1 above 0.6',
    'MDM 0.7': 'the same with an F1 above 0.7',
    'exact AP': 'average precision of every score that occurs, without compression',
    'sIoU gt': 'mean adjusted IoU of the true components',
    'PPV': 'mean share of a predicted component that is anomalous',
    'mean F1': 'of components, mean over the thresholds 0.25, 0.30, … 0.75',
    'pooled AP': 'average precision with the pixels of ordinary frames as negatives too',
    'pooled FPR95': 'FPR95 with the pixels of ordinary frames as negatives too',
    'pooled F1': 'best F1 with the pixels of ordinary frames as negatives too',
    'false/frame': 'false obstacles a frame of ordinary traffic, at the obstacle threshold',
    'recall': 'share of the anomalous pixels above the obstacle threshold',
    'found': 'share of the true components with an sIoU of at least 0.25 at that threshold',
    'threshold': 'of the best F1; the component figures are those at this threshold',
}


@dataclass(frozen=True)
class MethodRow:
    """Figures of one method.

    Attributes:
        name: name of the method.
        figures: fractions by name of the metric, such as `AP`; NaN where there is none. What has
            `threshold` in its name is no fraction, and no method is the best in it.
        source: where figures that we did not measure are from; empty for our own.

    """

    name: str
    figures: Mapping[str, float]
    source: str = ''


@dataclass(frozen=True)
class Shot:
    """An image to be shown, with the score of the main method.

    Attributes:
        name: name of the image.
        figures: those of the main method in the image alone.
        image: RGB uint8 [H, W, 3].
        label: uint8 [H, W]: 0, 1 anomaly, 255 ignore.
        score: real numbers [H, W].

    """

    name: str
    figures: ImageFigures
    image: Image
    label: Image
    score: NDArray[Any]


@dataclass(frozen=True)
class DatasetReport:
    """All that a report says of one data set.

    Attributes:
        name: name of the data set.
        rows: methods, ours and quoted.
        main: method by which images are ranked, and whose scores are shown.
        threshold: scores of the main method above this are shown as found.
        threshold_name: what that threshold is.
        curves: curve of each method.
        images: figures of each image by method.
        best: images of the highest AP by the main method, best first.
        worst: images of the lowest, worst first.
        skipped: reason for every image that is missing, by name.
        warnings: what a reader must know before the figures, such as that the queries were
            calibrated on these images.
        notes: remarks on the figures, shown below the table.
        facts: what else is known of the data set, by name.
        trade: figure of recall against false obstacles on ordinary frames.

    """

    name: str
    rows: Sequence[MethodRow]
    main: str = ''
    threshold: float = 0.5
    threshold_name: str = 'the obstacle threshold'
    curves: Mapping[str, Curve] = field(default_factory=dict)
    images: Mapping[str, Mapping[str, ImageFigures]] = field(default_factory=dict)
    best: Sequence[Shot] = ()
    worst: Sequence[Shot] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    trade: Figure | None = None


def report_of(
    evaluation: Evaluation,
    dataset: Dataset,
    queries: Queries,
    *,
    rows: Sequence[MethodRow],
    remarks: Sequence[str] = (),
    warnings: Sequence[str] = (),
    facts: Mapping[str, str] | None = None,
    traffic: Traffic | None = None,
) -> DatasetReport:
    """Return what a report says of an evaluation, with the pictures whose scores it has kept.

    Args:
        evaluation: the figures.
        dataset: the images that they are of.
        queries: queries and parameters of the evaluation.
        rows: methods of the table.
        remarks: on the figures.
        warnings: see `DatasetReport`.
        facts: see `DatasetReport`.
        traffic: figures of ordinary frames.

    Raises:
        MaskomalyError: an image cannot be read any more.

    """
    main = next(iter(evaluation.results))
    result = evaluation.results[main]
    samples = {sample.name: sample for sample in dataset.samples}
    images = {each.name: each.figures for each in evaluation.per_image}

    def shot(each: ShownImage) -> Shot:
        image, label = samples[each.name].read()
        return Shot(each.name, images[each.name][main], image, label, each.score)

    if queries.provenance.get('dataset') == evaluation.dataset:
        warnings = [*warnings, _CALIBRATED_HERE]
    configured = main == MAIN
    at = evaluation.results[MAIN].at_threshold if MAIN in evaluation.results else None
    return DatasetReport(
        name=evaluation.dataset,
        rows=rows,
        main=main,
        threshold=queries.obstacle_threshold if configured else result.pixels.best_f1_threshold,
        threshold_name='the obstacle threshold' if configured else 'the threshold of its best F1',
        curves={method: each.curve for method, each in evaluation.results.items()},
        images=images,
        best=[shot(each) for each in evaluation.best],
        worst=[shot(each) for each in evaluation.worst],
        skipped=evaluation.skipped,
        warnings=warnings,
        notes=remarks,
        facts=facts or {},
        trade=plots.recall_against_false_obstacles(
            traffic.curve,
            {MAIN: np.array(at.recall_curve)},
            {MAIN: (at.false_obstacles, at.recall)},
        )
        if traffic and at
        else None,
    )


def semantic_report(evaluation: SemanticEvaluation) -> DatasetReport:
    """Return what a report says of the semantic segmentation."""
    result = evaluation.result
    facts = {
        'images': str(evaluation.images),
        'mean IoU': f'{_percent(result.mean_iou)} %',
        'pixel accuracy': f'{_percent(result.pixel_accuracy)} %',
    }
    for name, iou in zip(evaluation.classes, result.iou, strict=True):
        facts[f'IoU of {name}'] = 'not in the labels' if math.isnan(iou) else f'{_percent(iou)} %'
    return DatasetReport(evaluation.dataset, (), skipped=evaluation.skipped, facts=facts)


def network_facts(network: Network, queries: Queries) -> dict[str, str]:
    """Return what a report says of a network and the queries it is used with."""
    parameters = queries.scoring_parameters()
    provenance = queries.provenance
    size = network.input_size
    calibrated = [str(provenance[key]) for key in ('dataset', 'date') if key in provenance]
    return {
        'checkpoint': network.name,
        'SHA-256 of the weights': network.sha256,
        'network input': f'{size.shortest} x {size.longest} pixels at most, {network.precision}, '
        f'on {network.device}, run by {" and ".join(backends_used(network))}',
        'anomalous queries': ', '.join(map(str, parameters.anomalous_queries)) or 'none',
        'ground queries': ', '.join(map(str, parameters.ground_queries)) or 'none',
        'parameters': f'variant {parameters.variant}, T_mask {parameters.mask_threshold:g}, '
        f'T_b {parameters.border_threshold:g}, ε_b {parameters.border_score:g}, '
        f'λ {parameters.reject_weight:g}, obstacle threshold {queries.obstacle_threshold:g}',
        'calibrated on': ', '.join(calibrated) or 'nothing that is known',
    }


def run_facts() -> dict[str, str]:
    """Return what a report says of the run itself: date, command, versions and machine."""
    versions = [
        f'maskomaly_ros {maskomaly_ros.__version__}',
        f'Python {platform.python_version()}',
    ]
    for package in ('torch', 'transformers', 'numpy', 'opencv-python'):
        try:
            versions.append(f'{package} {metadata.version(package)}')
        except metadata.PackageNotFoundError:
            continue  # from a distribution of ROS, or under another name
    return {
        'date': datetime.datetime.now().astimezone().strftime('%Y-%m-%d %H:%M %Z'),
        'command': shlex.join(['maskomaly', *sys.argv[1:]]),
        'versions': ', '.join(versions),
        'machine': f'{platform.machine()}, {platform.system()} {platform.release()}',
    }


def render_report(
    title: str,
    reports: Sequence[DatasetReport],
    facts: Mapping[str, str],
    traffic: Traffic | None = None,
) -> str:
    """Return the report as one HTML page.

    Args:
        title: heading of the page.
        reports: the data sets.
        facts: where the figures are from: checkpoint, hash, parameters; see also `run_facts`.
        traffic: figures of ordinary frames.

    """
    sections = [
        {
            'report': report,
            'figures': method_table(report.rows, report.name) if report.rows else None,
            'quoted': {row.source for row in report.rows if row.source},
            'legend': plots.legend(report.curves),
            'curves': _curves(report.curves) if report.curves else [],
            'trade': _trade(report),
            'worst': [_pictures(shot, report) for shot in report.worst],
            'best': [_pictures(shot, report) for shot in report.best],
            'images': image_table(report.images, report.main) if report.images else None,
        }
        for report in reports
    ]
    names = ', '.join(report.name for report in reports) or 'ordinary frames'
    return html.render(
        Path(__file__).with_name('report.html'),
        title=title,
        subtitle=f'{names} · {facts["date"]}' if 'date' in facts else names,
        sections=sections,
        ordinary=_ordinary(traffic) if traffic else None,
        facts=facts,
        colors={'hit': HIT, 'miss': MISS, 'alarm': FALSE_ALARM},
    )


def method_table(rows: Sequence[MethodRow], label: str) -> Markup:
    """Return the table of methods × metrics in percent, the best of our own figures in bold.

    Equal figures, as they are shown, are all the best, unless there are no others. Quoted rows
    never are: they were measured by others, with another network.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    best: dict[str, str] = {}
    for name in names:
        known = [r.figures[name] for r in rows if not r.source and _known(r.figures, name)]
        if len({in_words(name, value) for value in known}) > 1 and not _is_threshold(name):
            chosen = (min if name in LOWER_IS_BETTER else max)(known)
            best[name] = in_words(name, chosen)

    def cell(row: MethodRow, name: str) -> Cell:
        if not _known(row.figures, name):
            return Cell(None)
        value = row.figures[name]
        text = in_words(name, value)
        return Cell(value, text, best=not row.source and text == best.get(name))

    columns = [
        Column('method'),
        *(Column(n, numeric=True, help=_HELP.get(n, '')) for n in names),
    ]
    lines = [
        Row(
            [
                Cell(
                    row.name,
                    Markup('{}<span class="badge" title="{}">quoted</span>').format(
                        row.name, row.source
                    )
                    if row.source
                    else None,
                ),
                *(cell(row, name) for name in names),
            ],
            css='quoted' if row.source else '',
            series=row.name if not row.source else '',
        )
        for row in rows
    ]
    return html.table(columns, lines, label=f'methods on {label}, percent')


def _trade(report: DatasetReport) -> Markup | None:
    if report.trade is None:
        return None
    return plots.inline(
        report.trade,
        f'recall on {report.name} against false obstacles a frame of ordinary traffic',
    )


def _ordinary(traffic: Traffic) -> dict[str, Any]:
    """Return what the page shows of ordinary frames: table, and the worst frames as pictures."""
    known = list(traffic.found.by_class)
    found = [(each.name, each.found) for each in traffic.sets]
    if len(found) > 1:
        found.append(('all', traffic.found))
    columns = [
        Column('ordinary'),
        Column('frames', numeric=True),
        Column('false/frame', numeric=True, help=_HELP['false/frame']),
        Column('frames with any', numeric=True, help='share of the frames, percent'),
        Column('pixels above', numeric=True, help='share of all pixels, percent'),
        *(Column(name, numeric=True, help='share of their pixels, percent') for name in known),
    ]

    def row(name: str, each: FalseObstacles) -> list[Cell]:
        shares = [each.by_class.get(label, math.nan) for label in known]
        return [
            Cell(name),
            Cell(each.frames),
            Cell(each.a_frame, in_words('false/frame', each.a_frame)),
            *(
                Cell(share, in_words('', share))
                for share in (each.share_of_frames, each.share_of_pixels, *shares)
            ),
        ]

    return {
        'threshold': f'{traffic.threshold:.4f}',
        'minimum_area': traffic.minimum_area,
        'table': html.table(columns, [row(*each) for each in found], label='ordinary frames'),
        'worst': [
            {'name': each.name, 'pictures': [_ordinary_picture(s, traffic) for s in each.worst]}
            for each in traffic.sets
            if each.worst
        ],
    }


def _ordinary_picture(shot: OrdinaryShot, traffic: Traffic) -> Markup:
    score = shot.score.astype(np.float32)
    mask = (score > traffic.threshold).astype(np.uint8)
    name, obstacles = shot.result.name, shot.result.obstacles
    return html.picture(
        overlay(shot.image, score, mask),
        alt=f'ordinary frame {name} with its score in colour',
        caption=f'{name}: {obstacles} false obstacle{"" if obstacles == 1 else "s"}',
        width=_PICTURE_WIDTH,
    )


def _curves(curves: Mapping[str, Curve]) -> list[Markup]:
    names = ', '.join(curves)
    return [
        plots.inline(
            plots.precision_recall(curves, with_legend=False),
            f'precision-recall curves of {names}',
        ),
        plots.inline(plots.roc(curves, with_legend=False), f'ROC curves of {names}'),
    ]


def image_table(images: Mapping[str, Mapping[str, ImageFigures]], main: str) -> Markup:
    """Return the table of the figures of each image, in percent.

    Args:
        images: figures by name of the image and method.
        main: method of which all figures are shown; of the others AP alone.

    """
    others = [method for method in next(iter(images.values())) if method != main]
    columns = [
        Column('image'),
        Column(f'AP {main}', numeric=True, help='average precision in this image alone'),
        Column('FPR95', numeric=True, help=f'of {main}'),
        Column('AuROC', numeric=True, help=f'of {main}'),
        Column('best F1', numeric=True, help=f'of {main}, at the best threshold of each image'),
        *(Column(f'AP {method}', numeric=True) for method in others),
    ]

    def cells(name: str, figures: Mapping[str, ImageFigures]) -> list[Cell]:
        own = figures[main]
        values = [own.ap, own.fpr95, own.auroc, own.best_f1, *(figures[m].ap for m in others)]
        return [Cell(name), *(Cell(v, '–' if math.isnan(v) else _percent(v)) for v in values)]

    rows = [cells(name, figures) for name, figures in images.items()]
    return html.table(columns, rows, label='images', filterable=True)


def _pictures(shot: Shot, report: DatasetReport) -> dict[str, Any]:
    figures, main = shot.figures, report.main
    height, width = shot.score.shape
    scale = min(1.0, _PICTURE_WIDTH / width)
    size = max(1, round(scale * width)), max(1, round(scale * height))

    def shrink(image: NDArray[Any], method: int = cv2.INTER_NEAREST) -> NDArray[Any]:
        return np.asarray(cv2.resize(image, size, interpolation=method))

    frame = shrink(shot.image, cv2.INTER_AREA)
    # Scores of some methods are not in [0, 1]; those are shown from the lowest to the highest.
    thresholds = report.curves[main].thresholds
    lowest, highest = float(thresholds[-1]), float(thresholds[0])
    low, high = (0.0, 1.0) if lowest >= 0 and highest <= 1 else (lowest, highest)
    levels = (shot.score - low) / (high - low) if high > low else np.zeros_like(shot.score)
    score = shrink(np.clip(levels, 0, 1).astype(np.float32), cv2.INTER_AREA)
    mask = shrink((shot.score > report.threshold).astype(np.uint8))
    label = shrink(shot.label)
    return {
        'name': shot.name,
        'ap': _percent(figures.ap),
        'fpr95': _percent(figures.fpr95),
        'shots': [
            html.picture(
                overlay(frame, score, mask),
                alt=f'{shot.name} with the score of {main} in colour',
                caption=f'{shot.name}: score of {main}, obstacles outlined',
            ),
            html.picture(
                outcome(frame, mask, label),
                alt=f'{shot.name} with hits, misses and false alarms of {main}',
                caption=f'{shot.name}: blue found, pink missed, orange false alarm',
            ),
        ],
    }


def outcome(frame: Image, mask: Image, label: Image) -> Image:
    """Return a frame in grey with hits, misses and false alarms in colour.

    Args:
        frame: RGB uint8 [H, W, 3].
        mask: uint8 [H, W], not 0 on what was found.
        label: uint8 [H, W]: 0 not anomaly, 1 anomaly, 255 ignore, which is darkened.

    Returns:
        RGB uint8 [H, W, 3].

    """
    grey = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    picture = np.asarray(grey, np.uint8)
    picture[label == IGNORE] //= 3
    found = mask > 0
    for where, color in (
        (found & (label == 1), HIT),
        (~found & (label == 1), MISS),
        (found & (label == 0), FALSE_ALARM),
    ):
        picture[where] = (picture[where] * 0.4 + np.array(color) * 0.6).astype(np.uint8)
    return picture


def _known(figures: Mapping[str, float], name: str) -> bool:
    value = figures.get(name)
    return value is not None and not math.isnan(value)


def _is_threshold(name: str) -> bool:
    return 'threshold' in name


def in_words(name: str, value: float) -> str:
    """Return a figure as tables show it: percent but for what is no fraction; a dash for NaN."""
    if math.isnan(value):
        return '-'
    if _is_threshold(name):
        return f'{value:.4f}'
    return f'{value:.3f}' if name == 'false/frame' else _percent(value)


def _percent(fraction: float) -> str:
    return f'{100 * fraction:.2f}'
