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

"""`maskomaly evaluate`: figures of methods on labelled images."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from maskomaly_ros.cli.common import (
    ERR,
    OUT,
    Checkpoint,
    Device,
    MaybePath,
    MaybeStr,
    MaybeStrs,
    Precision,
    Size,
    load,
    make_parent,
    progress,
    without_nan,
    write,
)
from maskomaly_ros.errors import MaskomalyError

# torch, transformers and OpenCV take seconds to import: each command imports what it needs.
if TYPE_CHECKING:
    from maskomaly_ros.evaluation.datasets import Dataset
    from maskomaly_ros.evaluation.evaluate import Evaluation, MethodResult
    from maskomaly_ros.evaluation.report import DatasetReport, MethodRow
    from maskomaly_ros.evaluation.score_files import ScoreFolder
    from maskomaly_ros.evaluation.semantics import SemanticEvaluation
    from maskomaly_ros.queries import Queries

Datasets = Annotated[
    list[str],
    typer.Option(
        '--dataset',
        metavar='LAYOUT:PATH',
        help='Data set; layouts with anomalies: anomaly_track, obstacle_track, road_anomaly, '
        'fishyscapes_static, fishyscapes_lost_and_found, street_hazards, lost_and_found, plain '
        '(folders images and labels); with classes: camvid, idd_lite. Repeat for more.',
    ),
]
Cache = Annotated[
    MaybePath,
    typer.Option(
        metavar='FOLDER',
        help='Keep the outputs of the network here: an interrupted run goes on where it was, and '
        'the next one does not run the network again.',
    ),
]


def evaluate(
    dataset: Datasets,
    checkpoint: Checkpoint = 'demo',
    queries: Annotated[
        MaybePath,
        typer.Option(help='Queries file; default: the one that comes with the checkpoint.'),
    ] = None,
    methods: Annotated[
        MaybeStr,
        typer.Option(
            help='Comma-separated: maskomaly, maskomaly-paper, maskomaly-reference, '
            'geometric, product, minimum, reject+borders, reject, accept, baseline, eam, rba, '
            'mask2anomaly, max-softmax, max-logit, energy, entropy, sml, odin-temperature; or '
            'none, for score files alone. '
            'Default: all.'
        ),
    ] = None,
    components: Annotated[
        bool, typer.Option('--components', help='Component metrics as well.')
    ] = False,
    scores: Annotated[
        MaybeStrs,
        typer.Option(
            metavar='[NAME=]FOLDER',
            help="Evaluate score files of the SegmentMeIfYouCan benchmark's form too: a folder "
            'with {image}.hdf5, or DATASET/ or METHOD/DATASET/ in it. Repeat for more.',
        ),
    ] = None,
    save_scores: Annotated[
        MaybePath,
        typer.Option(metavar='FOLDER', help='Write score files of all methods here.'),
    ] = None,
    statistics: Annotated[
        MaybeStr,
        typer.Option(
            metavar='LAYOUT:PATH',
            help='Images for the class statistics of sml, such as the training set; default: '
            'those of the data set itself.',
        ),
    ] = None,
    cache: Cache = None,
    device: Device = 'auto',
    precision: Precision = 'float32',
    input_size: Size = None,
    json_file: Annotated[
        MaybePath, typer.Option('--json', metavar='PATH', help='Write the figures here too.')
    ] = None,
    report: Annotated[
        MaybePath,
        typer.Option(
            metavar='FILE.html',
            help='Write one HTML page here: table, curves, worst and best images, all images.',
        ),
    ] = None,
    markdown: Annotated[
        MaybePath, typer.Option(metavar='PATH', help='Write the tables here, as Markdown.')
    ] = None,
) -> None:
    """Measure methods on labelled images, by the SegmentMeIfYouCan benchmark's definitions.

    Layouts with classes give the mean IoU of the semantic segmentation instead.
    """
    from maskomaly_ros.detector import check_queries, find_queries
    from maskomaly_ros.evaluation.datasets import open_dataset
    from maskomaly_ros.evaluation.evaluate import evaluate as measure
    from maskomaly_ros.evaluation.images import class_statistics
    from maskomaly_ros.evaluation.report import network_facts, report_of, semantic_report
    from maskomaly_ros.evaluation.semantics import SemanticEvaluation
    from maskomaly_ros.evaluation.semantics import evaluate_semantics as measure_semantics
    from maskomaly_ros.queries import Queries
    from maskomaly_ros.scores import check_scores, default_scores
    from maskomaly_ros.scoring import ScoringParameters

    datasets = [open_dataset(specification) for specification in dataset]
    ordinary = open_dataset(statistics) if statistics else None
    score_folders = {each.name: _find_scores(scores or [], each) for each in datasets}
    for path in filter(None, (json_file, report)):
        make_parent(path)
    chosen: list[str] = []
    network, known, parameters = None, Queries(checkpoint='none'), ScoringParameters()
    if methods != 'none':
        network = load(checkpoint, device, precision, input_size)
        known = find_queries(network, queries)
        parameters = known.scoring_parameters()
        check_queries(network, parameters)
        chosen = (
            [name.strip() for name in methods.split(',')]
            if methods
            else list(default_scores(parameters))
        )
        check_scores(chosen, parameters)
    evaluations: list[Evaluation | SemanticEvaluation] = []
    with progress() as bars:
        found = (
            class_statistics(network, ordinary, cache=cache, progress=bars)
            if ordinary and network and 'sml' in chosen
            else None
        )
        for each in datasets:
            if each.layout.task == 'anomaly':
                evaluations.append(
                    measure(
                        network,
                        each,
                        parameters,
                        chosen,
                        components=components,
                        scores=score_folders[each.name],
                        save_scores=save_scores,
                        cache=cache,
                        statistics=found,
                        progress=bars,
                    )
                )
            elif network is None:
                raise MaskomalyError(
                    f'layout {each.layout_name} has classes, which score files do not have'
                )
            else:
                evaluations.append(measure_semantics(network, each, cache=cache, progress=bars))
    for evaluation in evaluations:
        _print_evaluation(evaluation, known)
    if json_file:
        content = {
            'checkpoint': network.name if network else None,
            'checkpoint_sha256': network.sha256 if network else None,
            'input_size': asdict(network.input_size) if network else None,
            'precision': network.precision if network else None,
            'parameters': asdict(parameters),
            'datasets': [
                asdict(evaluation)
                if isinstance(evaluation, SemanticEvaluation)
                else {**evaluation.as_dict(), 'published': _published_dict(evaluation)}
                for evaluation in evaluations
            ],
        }
        write(json_file, json.dumps(without_nan(content), indent=2) + '\n')
    if report:
        with ERR.status('drawing the report'):
            _write_report(
                report,
                [
                    semantic_report(evaluation)
                    if isinstance(evaluation, SemanticEvaluation)
                    else report_of(
                        evaluation,
                        each,
                        network,
                        known,
                        rows=_rows_of(evaluation),
                        score_folders=score_folders[each.name],
                        statistics=found,
                        cache=cache,
                        remarks=list(_remarks(evaluation)),
                    )
                    for evaluation, each in zip(evaluations, datasets, strict=True)
                ],
                network_facts(network, known) if network else {},
            )
    if markdown:
        about = (
            f'Checkpoint {network.name}, SHA-256 {network.sha256[:16]}…, network input '
            f'{network.input_size.shortest}x{network.input_size.longest}, {network.precision}.'
            if network
            else 'Score files alone.'
        )
        parts = [about, *(_markdown(evaluation, known) for evaluation in evaluations)]
        write(markdown, '\n\n'.join(parts) + '\n')
    skipped = {e.dataset: e.skipped for e in evaluations}
    if ordinary and ordinary.skipped:
        skipped[ordinary.name] = {**skipped.get(ordinary.name, {}), **ordinary.skipped}
    report_skipped(skipped)


def _write_report(path: Path, reports: list[DatasetReport], facts: dict[str, str]) -> None:
    from maskomaly_ros.evaluation.report import render_report, run_facts

    title = f'Evaluation of {facts["checkpoint"]}' if facts else 'Evaluation of score files'
    write(path, render_report(title, reports, {**facts, **run_facts()}))
    OUT.print(f'Report: {path}', soft_wrap=True, highlight=False, markup=False)


def _published_dict(evaluation: Evaluation) -> dict[str, Any] | None:
    from maskomaly_ros.evaluation.published import published

    quoted = published(evaluation.layout)
    return asdict(quoted) if quoted else None


def _rows_of(evaluation: Evaluation) -> list[MethodRow]:
    """Return the rows of a report: what was measured, and what others published."""
    from maskomaly_ros.evaluation.published import published
    from maskomaly_ros.evaluation.report import MethodRow

    rows = []
    for name, result in evaluation.results.items():
        columns = _columns_of(result)
        threshold = {'threshold': result.pixels.best_f1_threshold}
        rows.append(MethodRow(name, {**columns, **threshold}))
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


def _find_scores(specifications: list[str], dataset: Dataset) -> list[ScoreFolder]:
    from maskomaly_ros.evaluation.score_files import ScoreFolder, find_scores

    found = []
    names = [sample.name for sample in dataset.samples]
    for specification in specifications:
        name, equals, folder = specification.partition('=')
        path = Path(folder if equals else name).expanduser()
        folders = find_scores(path, dataset.layout.benchmark_name or dataset.name, names)
        if equals and len(folders) > 1:
            raise MaskomalyError(
                f'{path} has several methods, which cannot all be named {name}: '
                f'{", ".join(each.method for each in folders)}'
            )
        found += [ScoreFolder(name if equals else f.method, f.folder) for f in folders]
    return found


def _print_evaluation(evaluation: Evaluation | SemanticEvaluation, queries: Queries) -> None:
    title = _title(evaluation, queries)
    OUT.print(title, style='italic', soft_wrap=True, highlight=False, markup=False)
    header, rows = _cells(evaluation)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    # In a narrow window the names of quoted rows are broken, before any figure is cut off.
    least = max(len(row[0].text) for row in rows if not row[0].quoted)
    table.add_column(header[0], min_width=least)
    for name in header[1:]:
        table.add_column(name, justify='right', no_wrap=True)
    for row in rows:
        table.add_row(
            *(Text(c.text, 'bold' if c.best else 'dim italic' if c.quoted else '') for c in row)
        )
    OUT.print(table)
    for remark in _remarks(evaluation):
        OUT.print(remark, soft_wrap=True, highlight=False, markup=False)


def _markdown(evaluation: Evaluation | SemanticEvaluation, queries: Queries) -> str:
    header, rows = _cells(evaluation)
    lines = [
        '| ' + ' | '.join(header) + ' |',
        '|---|' + '---:|' * (len(header) - 1),
        *('| ' + ' | '.join(_markdown_cell(cell) for cell in row) + ' |' for row in rows),
    ]
    paragraphs = [f'{_title(evaluation, queries)}:', '\n'.join(lines), *_remarks(evaluation)]
    return '\n\n'.join(paragraphs)


def _markdown_cell(cell: _Cell) -> str:
    mark = '**' if cell.best else '*' if cell.quoted and cell.text != '-' else ''
    return f'{mark}{cell.text}{mark}'


def _title(evaluation: Evaluation | SemanticEvaluation, queries: Queries) -> str:
    title = f'{evaluation.dataset}, {evaluation.images} images, percent'
    if queries.provenance.get('dataset') == evaluation.dataset:
        title += ' (queries were calibrated on this data set: no test)'
    return title


class _Cell(NamedTuple):
    text: str
    best: bool = False
    quoted: bool = False


def _cells(
    evaluation: Evaluation | SemanticEvaluation,
) -> tuple[list[str], list[list[_Cell]]]:
    """Return the header and the rows of the table of an evaluation."""
    from maskomaly_ros.evaluation.published import published
    from maskomaly_ros.evaluation.semantics import SemanticEvaluation

    if isinstance(evaluation, SemanticEvaluation):
        result = evaluation.result
        values = [
            *zip(evaluation.classes, result.iou, strict=True),
            ('mean IoU', result.mean_iou),
            ('pixel accuracy', result.pixel_accuracy),
        ]
        return ['class', 'IoU'], [[_Cell(name), _Cell(_percent(iou))] for name, iou in values]
    columns = {method: _columns_of(result) for method, result in evaluation.results.items()}
    names = list(next(iter(columns.values())))
    best = {}
    for name in names:
        known = [v for row in columns.values() if not math.isnan(v := row[name])]
        equal = len({_percent(value) for value in known}) < 2  # then there is nothing to win
        chosen = math.nan if equal else (min if name == 'FPR95' else max)(known)
        best[name] = _percent(chosen)
    rows = [
        [
            _Cell(method),
            *(
                _Cell(text, text == best[name] and text != '-')
                for name, text in ((n, _percent(v)) for n, v in row.items())
            ),
            _Cell(f'{evaluation.results[method].pixels.best_f1_threshold:.4f}'),
        ]
        for method, row in columns.items()
    ]
    if quoted := published(evaluation.layout):
        rows += [
            [
                _Cell(f'{method} (quoted)', quoted=True),
                *(_Cell(_percent(row.get(name, math.nan)), quoted=True) for name in names),
                _Cell('-', quoted=True),
            ]
            for method, row in quoted.rows.items()
        ]
    return ['method', *names, 'threshold'], rows


def _percent(value: float) -> str:
    return '-' if math.isnan(value) else f'{100 * value:.2f}'


def _remarks(evaluation: Evaluation | SemanticEvaluation) -> Iterator[str]:
    from maskomaly_ros.evaluation.published import published
    from maskomaly_ros.evaluation.semantics import SemanticEvaluation

    if isinstance(evaluation, SemanticEvaluation):
        return
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


def _columns_of(result: MethodResult) -> dict[str, float]:
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


def report_skipped(skipped: dict[str, dict[str, str]]) -> None:
    """Name what was left out and end with exit status 1, if anything was."""
    for dataset, reasons in skipped.items():
        if reasons:
            ERR.print(
                f'{len(reasons)} of {dataset} skipped: {", ".join(reasons)}',
                style='yellow',
                markup=False,
                soft_wrap=True,
            )
    if any(skipped.values()):
        raise typer.Exit(1)
