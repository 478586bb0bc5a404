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

"""Comparisons of scores as Markdown and as an HTML page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from maskomaly_ros import html
from maskomaly_ros.evaluation.comparison import METRICS, RECALL, REFERENCE, Metric
from maskomaly_ros.html import Cell, Column
from maskomaly_ros.scores import SCORES

_BETTER, _WORSE = '▲', '▼'
_SHORT: Final = 12

NOTE: Final = (
    f'In brackets the interval of 95 %, by drawing images anew. {_BETTER} better and {_WORSE} '
    f'worse than {REFERENCE} by more than chance. Pooled: pixels of the ordinary frames count as '
    f'negatives. False obstacles a frame: on ordinary frames, at the threshold that keeps '
    f'{RECALL:.0%} of the anomalous pixels; false pixels: the share of ordinary pixels above it.'
)


def title_of(comparison: Mapping[str, Any], dataset: str) -> str:
    """Return the heading of one table."""
    key = comparison['key']
    images = comparison['datasets'][dataset]['images']
    frames = comparison['frames']
    traffic = f', {frames} ordinary frames ({", ".join(key["ordinary"])})' if frames else ''
    return f'{key["checkpoint"]} on {dataset}: {images} images{traffic}'


def facts_of(comparison: Mapping[str, Any]) -> dict[str, str]:
    """Return what the figures of a network depend on."""
    key = comparison['key']
    parameters = key['parameters']
    size = key['input_size']
    facts = {
        'SHA-256': f'{key["checkpoint_sha256"][:_SHORT]}…',
        'network input': f'{size["shortest"]}x{size["longest"]}, {key["precision"]}',
        'parameters': ', '.join(f'{name} {value}' for name, value in parameters.items()),
        'least area of a false obstacle': f'{key["minimum_area"]} pixels',
    }
    if comparison['sml']:
        facts['class statistics of sml'] = comparison['sml']
    return facts


def columns_of(comparison: Mapping[str, Any]) -> dict[str, Metric]:
    """Return the metrics that were measured."""
    return {
        name: metric
        for name, metric in METRICS.items()
        if comparison['frames'] or not metric.needs_ordinary
    }


def figure_text(metric: Metric, figure: Mapping[str, Any], *, interval: bool = True) -> str:
    """Return one figure, with its mark and, if asked for, its interval."""
    value, low, high = (figure[name] for name in ('value', 'low', 'high'))
    if value is None or math.isnan(value):
        return '-'
    scale, digits = (100, 1) if metric.percent else (1, 2)
    mark = {1: f' {_BETTER}', -1: f' {_WORSE}'}.get(figure['better'] or 0, '')
    text = f'{scale * value:.{digits}f}'
    if interval and low is not None and math.isfinite(low):
        text += f' [{scale * low:.{digits}f}, {scale * high:.{digits}f}]'
    return text + mark


def rows_of(
    comparison: Mapping[str, Any], dataset: str
) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Yield scores and their figures, in the order in which they were asked for."""
    yield from comparison['datasets'][dataset]['scores'].items()


def best_of(comparison: Mapping[str, Any], dataset: str, metric: str) -> float:
    """Return the best value of a column."""
    values = [row[metric]['value'] for _, row in rows_of(comparison, dataset)]
    known = [value for value in values if value is not None and not math.isnan(value)]
    choose = max if METRICS[metric].higher_is_better else min
    return choose(known) if known else math.nan


def markdown(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """Return all tables as Markdown."""
    parts = []
    for comparison in comparisons:
        columns = columns_of(comparison)
        facts = facts_of(comparison)
        parts.append('; '.join(f'{name}: {value}' for name, value in facts.items()) + '.')
        for dataset in comparison['datasets']:
            best = {name: best_of(comparison, dataset, name) for name in columns}
            lines = [
                '| score | ' + ' | '.join(metric.title for metric in columns.values()) + ' |',
                '|---|' + '---:|' * len(columns),
            ]
            for score, row in rows_of(comparison, dataset):
                cells = []
                for name, metric in columns.items():
                    text = figure_text(metric, row[name])
                    number, space, rest = text.partition(' ')
                    is_best = row[name]['value'] == best[name]
                    cells.append(f'**{number}**{space}{rest}' if is_best else text)
                lines.append(f'| {score} | ' + ' | '.join(cells) + ' |')
            parts += [
                f'{title_of(comparison, dataset)}, percent but for false obstacles:'
                if comparison['frames']
                else f'{title_of(comparison, dataset)}, percent:',
                '\n'.join(lines),
            ]
    return '\n\n'.join([*parts, NOTE]) + '\n'


def page(comparisons: Sequence[Mapping[str, Any]], facts: Mapping[str, str]) -> str:
    """Return all tables as an HTML page.

    Args:
        comparisons: see `compare`.
        facts: on the run.

    """
    sections = []
    for comparison in comparisons:
        columns = columns_of(comparison)
        for dataset in comparison['datasets']:
            best = {name: best_of(comparison, dataset, name) for name in columns}
            rows = [
                [
                    Cell(score, score),
                    *(
                        Cell(
                            row[name]['value'],
                            figure_text(metric, row[name]),
                            best=row[name]['value'] == best[name],
                        )
                        for name, metric in columns.items()
                    ),
                    Cell(SCORES[score].formula if score in SCORES else None),
                ]
                for score, row in rows_of(comparison, dataset)
            ]
            heads = [
                Column('score'),
                *(Column(metric.title, numeric=True) for metric in columns.values()),
                Column('formula'),
            ]
            title = title_of(comparison, dataset)
            sections.append(
                {
                    'title': title,
                    'table': html.table(heads, rows, label=title, filterable=True),
                    'facts': facts_of(comparison),
                }
            )
    return html.render(
        Path(__file__).with_name('comparison.html'),
        title='Scores side by side',
        subtitle='on the same outputs of each network',
        sections=sections,
        note=NOTE,
        facts=facts,
    )
