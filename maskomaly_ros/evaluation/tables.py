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

"""The tables of an evaluation, for terminals, Markdown files and reports."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from maskomaly_ros.evaluation.published import published
from maskomaly_ros.evaluation.report import LOWER_IS_BETTER, MethodRow, in_words
from maskomaly_ros.evaluation.results import Evaluation, MethodResult
from maskomaly_ros.evaluation.semantics import SemanticEvaluation
from maskomaly_ros.evaluation.traffic import Traffic
from maskomaly_ros.queries import Queries

__all__ = ['Cell', 'Table', 'markdown', 'method_rows', 'tables_of', 'traffic_table']


class Cell(NamedTuple):
    """Text of a cell, whether it is the best of its column, and whether others published it."""

    text: str
    best: bool = False
    quoted: bool = False


@dataclass(frozen=True)
class Table:
    """A table of figures.

    Attributes:
        title: what they are of.
        header: heads of the columns; the first one names the rows.
        rows: their cells.
        remarks: sentences to be read below.

    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    remarks: Sequence[str] = ()


def tables_of(evaluation: Evaluation | SemanticEvaluation, queries: Queries) -> list[Table]:
    """Return the table of an evaluation, and the one with ordinary frames, where there are any."""
    title = f'{evaluation.dataset}, {evaluation.images} images, percent'
    if queries.provenance.get('dataset') == evaluation.dataset:
        title += ' (queries were calibrated on this data set: no test)'
    if isinstance(evaluation, SemanticEvaluation):
        result = evaluation.result
        values = [
            *zip(evaluation.classes, result.iou, strict=True),
            ('mean IoU', result.mean_iou),
            ('pixel accuracy', result.pixel_accuracy),
        ]
        rows = [[Cell(name), Cell(_percent(iou))] for name, iou in values]
        return [Table(title, ['class', 'IoU'], rows)]
    columns = {name: _figures(result) for name, result in evaluation.results.items()}
    header, rows = _rows(columns)
    for name, row in zip(columns, rows, strict=True):
        row.append(Cell(f'{evaluation.results[name].pixels.best_f1_threshold:.4f}'))
    if quoted := published(evaluation.layout):
        rows += [
            [
                Cell(f'{method} (quoted)', quoted=True),
                *(Cell(_percent(row.get(name, math.nan)), quoted=True) for name in header[1:]),
                Cell('-', quoted=True),
            ]
            for method, row in quoted.rows.items()
        ]
    tables = [Table(title, [*header, 'threshold'], rows, list(_remarks(evaluation)))]
    pooled = {
        name: {'AP': result.pixels.ap, 'FPR95': result.pixels.fpr95, **_pooled_figures(result)}
        for name, result in evaluation.results.items()
    }
    if any(result.pooled for result in evaluation.results.values()):
        header, rows = _rows(pooled)
        remarks = [
            'pooled: with the pixels of the ordinary frames as negatives. false/frame: false '
            'obstacles a frame of them at the threshold that the queries file has for the score; '
            'recall: share of anomalous pixels above it; found: share of true components with an '
            'sIoU of at least 0.25, of maskomaly alone.'
        ]
        tables.append(
            Table(f'{evaluation.dataset} with ordinary frames, percent', header, rows, remarks)
        )
    return tables


def traffic_table(traffic: Traffic) -> Table:
    """Return the table of what is found on ordinary frames."""
    found = [(each.name, each.found) for each in traffic.sets]
    if len(found) > 1:
        found.append(('all', traffic.found))
    values: dict[str, list[str]] = {
        'frames': [str(each.frames) for _, each in found],
        'false obstacles a frame': [f'{each.a_frame:.3f}' for _, each in found],
        'frames with any': [_percent(each.share_of_frames) for _, each in found],
        'pixels above': [_percent(each.share_of_pixels) for _, each in found],
    }
    for label in traffic.found.by_class:
        shares = [each.by_class.get(label, math.nan) for _, each in found]
        values[f'{label} above'] = [_percent(share) for share in shares]
    area = traffic.minimum_area
    least = f' of at least {area} pixels' if area > 1 else ''
    return Table(
        f'Ordinary frames at the threshold {traffic.threshold:.4f}, obstacles{least}',
        ['', *(name for name, _ in found)],
        [[Cell(name), *map(Cell, row)] for name, row in values.items()],
        ['Shares are percent: of frames, of pixels, and of the pixels of a known class.'],
    )


def method_rows(evaluation: Evaluation) -> list[MethodRow]:
    """Return the rows of a report: what was measured, and what others published."""
    rows = []
    for name, result in evaluation.results.items():
        columns = _figures(result)
        threshold = {'threshold': result.pixels.best_f1_threshold}
        pooled = _pooled_figures(result) if result.pooled else {}
        rows.append(MethodRow(name, {**columns, **threshold, **pooled}))
    if quoted := published(evaluation.layout):
        rows += [
            MethodRow(
                name,
                {metric: value for metric, value in figures.items() if metric in columns},
                f'{quoted.source} ({quoted.data})',
            )
            for name, figures in quoted.rows.items()
        ]
    return rows


def markdown(table: Table) -> str:
    """Return a table as Markdown, with its title and remarks."""
    lines = [
        '| ' + ' | '.join(table.header) + ' |',
        '|---|' + '---:|' * (len(table.header) - 1),
        *('| ' + ' | '.join(_markdown_cell(cell) for cell in row) + ' |' for row in table.rows),
    ]
    return '\n\n'.join([f'{table.title}:', '\n'.join(lines), *table.remarks])


def _markdown_cell(cell: Cell) -> str:
    mark = '**' if cell.best else '*' if cell.quoted and cell.text != '-' else ''
    return f'{mark}{cell.text}{mark}'


def _rows(columns: Mapping[str, Mapping[str, float]]) -> tuple[list[str], list[list[Cell]]]:
    """Return header and rows of figures by method; the best of each column is marked."""
    names = list(next(iter(columns.values())))
    best = {}
    for name in names:
        known = [v for row in columns.values() if not math.isnan(v := row[name])]
        equal = len({in_words(name, value) for value in known}) < 2  # nothing to win then
        chosen = math.nan if equal else (min if name in LOWER_IS_BETTER else max)(known)
        best[name] = in_words(name, chosen)
    rows = [
        [
            Cell(method),
            *(
                Cell(text, text == best[name] and text != '-')
                for name, text in ((n, in_words(n, v)) for n, v in row.items())
            ),
        ]
        for method, row in columns.items()
    ]
    return ['method', *names], rows


def _percent(value: float) -> str:
    return in_words('', value)


def _remarks(evaluation: Evaluation) -> Iterator[str]:
    if quoted := published(evaluation.layout):
        yield (
            f'Rows marked quoted are figures that others published, with other networks, for '
            f'{quoted.data}: {quoted.source}.'
        )
    if evaluation.averaged:
        yield 'AP, FPR95 and AuROC: means over the images that have an anomaly.'
    if any(math.isnan(r.pixels.margin_60) for r in evaluation.results.values()):
        yield 'MDM is defined for scores in [0, 1] alone.'
    for method, pixels in evaluation.clipped.items():
        yield (
            f'{method}: {pixels} pixels have a score beyond ±65504, the limit of float16, in '
            'which scores are compared; they count as ±65504, and their order is lost.'
        )
    for method in evaluation.tied:
        yield (
            f'{method}: most scores become equal in float16, in which they are compared; subtract '
            'a constant or scale them before they are stored.'
        )
    if evaluation.statistics == evaluation.dataset:
        yield 'sml: statistics of the classes from these very images, without their labels.'
    elif evaluation.statistics:
        yield f'sml: statistics of the classes from {evaluation.statistics}.'


def _figures(result: MethodResult) -> dict[str, float]:
    columns = {
        'AP': result.pixels.ap,
        'FPR95': result.pixels.fpr95,
        'AuROC': result.pixels.auroc,
        'best F1': result.pixels.best_f1,
        'exact AP': result.pixels.exact_ap,
        'MDM 0.6': result.pixels.margin_60,
        'MDM 0.7': result.pixels.margin_70,
    }
    if result.components:
        columns |= {
            'sIoU gt': result.components.siou_gt,
            'PPV': result.components.ppv,
            'mean F1': result.components.mean_f1,
        }
    return columns


def _pooled_figures(result: MethodResult) -> dict[str, float]:
    pooled, at = result.pooled, result.at_threshold
    return {
        'pooled AP': pooled.ap if pooled else math.nan,
        'pooled FPR95': pooled.fpr95 if pooled else math.nan,
        'pooled F1': pooled.best_f1 if pooled else math.nan,
        'false/frame': at.false_obstacles if at else math.nan,
        'recall': at.recall if at else math.nan,
        'found': at.component_recall if at else math.nan,
    }
