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

"""`maskomaly evaluate` and `maskomaly calibrate`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from maskomaly_ros.cli_common import (
    ERR,
    OUT,
    Checkpoint,
    Device,
    MaybeFloat,
    MaybePath,
    MaybeStr,
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
    from maskomaly_ros.evaluation.evaluate import Evaluation, MethodResult, SemanticEvaluation
    from maskomaly_ros.queries import Queries

Datasets = Annotated[
    list[str],
    typer.Option(
        '--dataset',
        metavar='LAYOUT:PATH',
        help='Data set; layouts: anomaly_track, obstacle_track, plain (folders images and '
        'labels), and with classes camvid, idd_lite. Repeat for more.',
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
            help='Comma-separated: maskomaly, reject+borders, reject, accept, baseline; '
            'default: all.'
        ),
    ] = None,
    components: Annotated[
        bool, typer.Option('--components', help='Component metrics as well.')
    ] = False,
    device: Device = 'auto',
    precision: Precision = 'float32',
    input_size: Size = None,
    json_file: Annotated[
        MaybePath, typer.Option('--json', metavar='PATH', help='Write the figures here too.')
    ] = None,
) -> None:
    """Measure methods on labelled images, by the SegmentMeIfYouCan benchmark's definitions.

    Layouts with classes give the mean IoU of the semantic segmentation instead.
    """
    from maskomaly_ros.detector import Detector, DetectorConfig, find_queries
    from maskomaly_ros.evaluation.datasets import open_dataset
    from maskomaly_ros.evaluation.evaluate import METHODS
    from maskomaly_ros.evaluation.evaluate import evaluate as measure
    from maskomaly_ros.evaluation.evaluate import evaluate_semantics as measure_semantics

    datasets = [open_dataset(specification) for specification in dataset]
    network = load(checkpoint, device, precision, input_size)
    known = find_queries(network, queries)
    parameters = known.scoring_parameters()
    Detector(network, DetectorConfig(parameters))  # refuses queries of another network
    chosen = (
        [name.strip() for name in methods.split(',')]
        if methods
        else [m for m in METHODS if m != 'accept' or parameters.anomalous_queries]
    )
    evaluations: list[Evaluation | SemanticEvaluation] = []
    with progress() as bars:
        for each in datasets:
            evaluations.append(
                measure(
                    network,
                    each,
                    parameters,
                    chosen,
                    components=components,
                    progress=bars,
                )
                if each.layout.task == 'anomaly'
                else measure_semantics(network, each, progress=bars)
            )
    for evaluation in evaluations:
        _print_evaluation(evaluation, known)
    if json_file:
        content = {
            'checkpoint': network.name,
            'checkpoint_sha256': network.sha256,
            'input_size': asdict(network.input_size),
            'precision': network.precision,
            'parameters': asdict(parameters),
            'datasets': [asdict(evaluation) for evaluation in evaluations],
        }
        write(json_file, json.dumps(without_nan(content), indent=2) + '\n')
    _report_skipped({e.dataset: e.skipped for e in evaluations})


def calibrate(
    dataset: Annotated[
        str,
        typer.Option(
            metavar='LAYOUT:PATH',
            help='Data set with anomalies; layouts: anomaly_track, obstacle_track, plain.',
        ),
    ],
    out: Annotated[Path, typer.Option(help='Queries file to write.')],
    checkpoint: Checkpoint = 'demo',
    iou_threshold: Annotated[
        MaybeFloat,
        typer.Option(
            min=0.0,
            max=1.0,
            help='Mean IoU with anomalies from which a query is anomalous; default: 0.25, or more '
            'where that is clearly better.',
        ),
    ] = None,
    device: Device = 'auto',
    precision: Precision = 'float32',
    input_size: Size = None,
) -> None:
    """Find the anomalous queries and parameters of a checkpoint, and write its queries file."""
    from maskomaly_ros.evaluation.calibration import calibrate as find
    from maskomaly_ros.evaluation.datasets import open_dataset
    from maskomaly_ros.queries import write_queries

    images = open_dataset(dataset)
    make_parent(out)
    network = load(checkpoint, device, precision, input_size)
    with progress() as bars:
        found = find(network, images, iou_threshold=iou_threshold, progress=bars)
    try:
        write_queries(out, found)
    except OSError as error:
        raise MaskomalyError(f'cannot write {out}: {error.strerror}') from error
    _print_calibration(found)
    OUT.print(f'Written to {out}', soft_wrap=True, highlight=False)
    _report_skipped({images.name: images.skipped})


def _print_evaluation(evaluation: Evaluation | SemanticEvaluation, queries: Queries) -> None:
    from maskomaly_ros.evaluation.evaluate import SemanticEvaluation

    title = f'{evaluation.dataset}, {evaluation.images} images, percent'
    if queries.provenance.get('dataset') == evaluation.dataset:
        title += ' (queries were calibrated on this data set: no test)'
    OUT.print(title, style='italic', soft_wrap=True, highlight=False, markup=False)
    if isinstance(evaluation, SemanticEvaluation):
        OUT.print(_semantic_table(evaluation))
    else:
        OUT.print(_method_table(evaluation))


def _semantic_table(evaluation: SemanticEvaluation) -> Table:
    table = Table('class', box=box.SIMPLE_HEAD)
    table.add_column('IoU', justify='right')
    result = evaluation.result
    for name, iou in zip(evaluation.classes, result.iou, strict=True):
        table.add_row(name, '-' if math.isnan(iou) else f'{100 * iou:.2f}')
    table.add_section()
    table.add_row('mean IoU', f'{100 * result.mean_iou:.2f}', style='bold')
    table.add_row('pixel accuracy', f'{100 * result.pixel_accuracy:.2f}')
    return table


def _method_table(evaluation: Evaluation) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    rows = {method: _columns_of(result) for method, result in evaluation.results.items()}
    table.add_column('method', no_wrap=True)
    for name in next(iter(rows.values())):
        table.add_column(name, justify='right')
    table.add_column('threshold', justify='right')
    best = [
        (min if name == 'FPR95' else max)(columns[name] for columns in rows.values())
        for name in next(iter(rows.values()))
    ]
    for method, columns in rows.items():
        cells = [
            f'[bold]{100 * value:.2f}[/]' if value == top else f'{100 * value:.2f}'
            for value, top in zip(columns.values(), best, strict=True)
        ]
        threshold = evaluation.results[method].pixels.best_f1_threshold
        table.add_row(method, *cells, f'{threshold:.4f}')
    return table


def _columns_of(result: MethodResult) -> dict[str, float]:
    columns = {
        'AP': result.pixels.ap,
        'FPR95': result.pixels.fpr95,
        'AuROC': result.pixels.auroc,
        'best F1': result.pixels.best_f1,
        'exact AP': result.pixels.exact_ap,
    }
    if result.components:
        columns |= {
            'sIoU gt': result.components.siou_gt,
            'PPV': result.components.ppv,
            'mean F1': result.components.mean_f1,
        }
    return columns


def _print_calibration(queries: Queries) -> None:
    provenance = queries.provenance
    OUT.print('Queries by mean IoU with anomalies', style='italic')
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column('query', justify='right')
    table.add_column('mean IoU', justify='right')
    table.add_column('anomalous')
    for row in provenance['ranking']:
        chosen = row['query'] in queries.anomalous_queries
        table.add_row(str(row['query']), f'{row["mean_iou"]:.3f}', 'yes' if chosen else '')
    OUT.print(table)
    OUT.print('Parameters', style='italic')
    table = Table(show_header=False, box=box.SIMPLE)
    for name in ('mask_threshold', 'border_threshold', 'reject_weight', 'obstacle_threshold'):
        table.add_row(name, f'{getattr(queries, name):g}')
    OUT.print(table)
    figures, search = provenance['calibration_figures'], provenance['search']
    OUT.print(
        f'On these {provenance["images"]} images, which are no test any more: '
        f'AP {100 * figures["ap"]:.2f} %, FPR95 {100 * figures["fpr95"]:.2f} %, '
        f'AuROC {100 * figures["auroc"]:.2f} %, best F1 {100 * figures["best_f1"]:.2f} %; '
        f"AP with the paper's parameters {100 * search['ap_of_defaults']:.2f} %",
        highlight=False,
    )
    if 'parts' in search:
        these, defaults, left_out = (
            f'{100 * search[name]:.2f} %'
            for name in ('ap_of_a_part', 'ap_of_a_part_with_defaults', 'ap_of_a_part_left_out')
        )
        OUT.print(
            f"Mean AP of {search['parts']} parts of the images: {these}; with the paper's "
            f'parameters {defaults}; with what is found without the part {left_out}',
            highlight=False,
        )


def _report_skipped(skipped: dict[str, dict[str, str]]) -> None:
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
