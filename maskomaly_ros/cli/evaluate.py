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
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from maskomaly_ros.cli.common import (
    ERR,
    OUT,
    Cache,
    Checkpoint,
    Device,
    MaybeDatasets,
    MaybePath,
    MaybeStr,
    MaybeStrs,
    Precision,
    Size,
    check_file,
    load,
    make_parent,
    progress,
    report_skipped,
    without_nan,
    write,
)
from maskomaly_ros.errors import MaskomalyError

# torch, transformers and OpenCV take seconds to import: each command imports what it needs.
if TYPE_CHECKING:
    from maskomaly_ros.evaluation.evaluate import Evaluation
    from maskomaly_ros.evaluation.report import DatasetReport
    from maskomaly_ros.evaluation.semantics import SemanticEvaluation
    from maskomaly_ros.evaluation.tables import Table as TableOfFigures
    from maskomaly_ros.evaluation.traffic import Traffic


def evaluate(
    dataset: MaybeDatasets = None,
    checkpoint: Checkpoint = 'demo',
    queries: Annotated[
        MaybePath,
        typer.Option(help='Queries file; default: the one that comes with the checkpoint.'),
    ] = None,
    methods: Annotated[
        MaybeStr,
        typer.Option(
            help='Comma-separated: maskomaly, maskomaly-paper, maskomaly-reference, '
            'maskomaly-program, '
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
            'those of --ordinary, else of the data set itself.',
        ),
    ] = None,
    ordinary: Annotated[
        MaybeStrs,
        typer.Option(
            metavar='[LAYOUT:]PATH',
            help='Ordinary frames, without anomalies: a labelled data set (classes or anomalies), '
            'a video, a folder of images or a bag. Counts false obstacles on them at the '
            'threshold of the queries file, and pools their pixels as negatives. Repeat for more.',
        ),
    ] = None,
    minimum_obstacle_area: Annotated[
        int, typer.Option(min=0, help='Pixels of the smallest false obstacle that counts.')
    ] = 50,
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

    Layouts with classes give the mean IoU of the semantic segmentation instead. With --ordinary
    false alarms are measured as well, with or without a data set of anomalies.

    Layouts with anomalies: anomaly_track, obstacle_track, road_anomaly, fishyscapes_static,
    fishyscapes_lost_and_found, street_hazards, lost_and_found, plain (folders images and labels).
    Layouts with classes: camvid, idd_lite, cityscapes, cityscapes_256.
    """
    from maskomaly_ros.detector import check_queries, find_queries
    from maskomaly_ros.evaluation.datasets import open_dataset
    from maskomaly_ros.evaluation.evaluate import evaluate as measure
    from maskomaly_ros.evaluation.images import class_statistics
    from maskomaly_ros.evaluation.ordinary import open_ordinary
    from maskomaly_ros.evaluation.report import (
        SHOTS,
        network_facts,
        report_of,
        semantic_report,
    )
    from maskomaly_ros.evaluation.score_files import named_scores
    from maskomaly_ros.evaluation.semantics import SemanticEvaluation
    from maskomaly_ros.evaluation.semantics import evaluate_semantics as measure_semantics
    from maskomaly_ros.evaluation.summary import about, summary
    from maskomaly_ros.evaluation.tables import markdown as as_markdown
    from maskomaly_ros.evaluation.tables import method_rows, tables_of, traffic_table
    from maskomaly_ros.evaluation.traffic import measure_traffic, ordinary_statistics
    from maskomaly_ros.queries import Queries
    from maskomaly_ros.scores import check_scores, default_scores
    from maskomaly_ros.scoring import ScoringParameters

    if not dataset and not ordinary:
        raise MaskomalyError('give --dataset, --ordinary, or both: there is nothing to measure')
    if ordinary and methods == 'none':
        raise MaskomalyError('--ordinary needs a network, which --methods none leaves out')
    datasets = [open_dataset(specification) for specification in dataset or ()]
    frames = [open_ordinary(specification) for specification in ordinary or ()]
    statistics_from = open_dataset(statistics) if statistics else None
    score_folders = {
        each.name: named_scores(
            scores or [],
            each.layout.benchmark_name or each.name,
            [sample.name for sample in each.samples],
        )
        for each in datasets
    }
    for path in filter(None, (json_file, report)):
        make_parent(path)
        check_file(path)
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
        found = traffic = None
        if network and 'sml' in chosen:
            if statistics_from:
                found = class_statistics(network, statistics_from, cache=cache, progress=bars)
            elif frames:
                found = ordinary_statistics(network, frames, cache=cache, progress=bars)
        if network and frames:
            traffic = measure_traffic(
                network,
                frames,
                parameters,
                chosen if datasets else (),
                known.obstacle_threshold,
                minimum_area=minimum_obstacle_area,
                statistics=found,
                shots=SHOTS if report else 0,
                cache=cache,
                progress=bars,
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
                        traffic=traffic,
                        shots=SHOTS if report else 0,
                        progress=bars,
                    )
                )
            elif network is None:
                raise MaskomalyError(
                    f'layout {each.layout_name} has classes, which score files do not have'
                )
            else:
                evaluations.append(measure_semantics(network, each, cache=cache, progress=bars))
    tables = [table for each in evaluations for table in tables_of(each, known)]
    if traffic:
        tables.append(traffic_table(traffic))
    for table in tables:
        _print(table)
    if json_file:
        content = summary(network, known, traffic, evaluations)
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
                        known,
                        rows=method_rows(evaluation),
                        remarks=tables_of(evaluation, known)[0].remarks,
                        traffic=traffic,
                    )
                    for evaluation, each in zip(evaluations, datasets, strict=True)
                ],
                network_facts(network, known) if network else {},
                traffic,
            )
    if markdown:
        parts = ['# Figures of evaluation', about(network), *map(as_markdown, tables)]
        write(markdown, '\n\n'.join(parts) + '\n')
    skipped = {e.dataset: e.skipped for e in evaluations}
    for more in (*frames, *([statistics_from] if statistics_from else ())):
        skipped[more.name] = {**skipped.get(more.name, {}), **more.skipped}
    report_skipped(skipped)


def _write_report(
    path: Path, reports: list[DatasetReport], facts: dict[str, str], traffic: Traffic | None
) -> None:
    from maskomaly_ros.evaluation.report import render_report, run_facts

    title = f'Evaluation of {facts["checkpoint"]}' if facts else 'Evaluation of score files'
    write(path, render_report(title, reports, {**facts, **run_facts()}, traffic))
    OUT.print(f'Report: {path}', soft_wrap=True, highlight=False, markup=False)


def _print(table: TableOfFigures) -> None:
    OUT.print(table.title, style='italic', soft_wrap=True, highlight=False, markup=False)
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    # In a narrow window the names of quoted rows are broken, before any figure is cut off.
    least = max(len(row[0].text) for row in table.rows if not row[0].quoted)
    shown.add_column(table.header[0], min_width=least)
    for name in table.header[1:]:
        shown.add_column(name, justify='right', no_wrap=True)
    for row in table.rows:
        shown.add_row(
            *(Text(c.text, 'bold' if c.best else 'dim italic' if c.quoted else '') for c in row)
        )
    OUT.print(shown)
    for remark in table.remarks:
        OUT.print(remark, soft_wrap=True, highlight=False, markup=False)
