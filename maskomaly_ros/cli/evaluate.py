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

from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from maskomaly_ros.cli import options
from maskomaly_ros.cli.common import (
    ERR,
    OUT,
    check_file,
    check_json,
    load,
    make_parent,
    progress,
    report_skipped,
    say,
    write,
    write_json,
)
from maskomaly_ros.errors import MaskomalyError

# torch, transformers and OpenCV take seconds to import: each command imports what it needs.
if TYPE_CHECKING:
    from maskomaly_ros.evaluation.tables import Table as TableOfFigures


def evaluate(
    dataset: options.MaybeDatasets = None,
    checkpoint: options.Checkpoint = 'demo',
    queries: options.QueriesFile = None,
    methods: Annotated[
        options.MaybeStr,
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
        options.MaybeStrs,
        typer.Option(
            metavar='[NAME=]FOLDER',
            help="Evaluate score files of the SegmentMeIfYouCan benchmark's form too: a folder "
            'with {image}.hdf5, or DATASET/ or METHOD/DATASET/ in it. Repeat for more.',
        ),
    ] = None,
    save_scores: Annotated[
        options.MaybePath,
        typer.Option(metavar='FOLDER', help='Write score files of all methods here.'),
    ] = None,
    statistics: Annotated[
        options.MaybeStr,
        typer.Option(
            metavar='LAYOUT:PATH',
            help='Images for the class statistics of sml, such as the training set; default: '
            'those of --ordinary, else of the data set itself.',
        ),
    ] = None,
    ordinary: Annotated[
        options.MaybeStrs,
        typer.Option(
            metavar='[LAYOUT:]PATH',
            help='Ordinary frames, without anomalies: a labelled data set (classes or anomalies), '
            'a video, a folder of images or a bag. Counts false obstacles on them at the '
            'threshold of the queries file, and pools their pixels as negatives. Repeat for more.',
        ),
    ] = None,
    minimum_obstacle_area: options.MinimumArea = 50,
    cache: options.Cache = None,
    device: options.Device = 'auto',
    precision: options.Precision = 'float32',
    backend: options.Backend = 'auto',
    input_size: options.Size = None,
    json_file: options.Json = None,
    report: Annotated[
        options.MaybePath,
        typer.Option(
            metavar='FILE.html',
            help='Write one HTML page here: table, curves, worst and best images, all images.',
        ),
    ] = None,
    markdown: Annotated[
        options.MaybePath, typer.Option(metavar='PATH', help='Write the tables here, as Markdown.')
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
    from maskomaly_ros.evaluation.ordinary import open_ordinary
    from maskomaly_ros.evaluation.run import evaluate_all
    from maskomaly_ros.evaluation.score_files import named_scores
    from maskomaly_ros.queries import Queries
    from maskomaly_ros.scores import check_scores, default_scores

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
    check_json(json_file)
    for path in filter(None, (report, markdown)):
        make_parent(path)
        check_file(path)
    chosen: list[str] = []
    network, known = None, Queries(checkpoint='none')
    if methods != 'none':
        network = load(checkpoint, device, precision, input_size, backend)
        known = find_queries(network, queries)
        parameters = known.scoring_parameters()
        check_queries(network, parameters)
        chosen = (
            [name.strip() for name in methods.split(',')]
            if methods
            else list(default_scores(parameters))
        )
        check_scores(chosen, parameters)
    with progress() as bars:
        found = evaluate_all(
            network,
            known,
            datasets,
            chosen,
            ordinary=frames,
            minimum_area=minimum_obstacle_area,
            components=components,
            scores=score_folders,
            save_scores=save_scores,
            statistics=statistics_from,
            with_pictures=report is not None,
            cache=cache,
            progress=bars,
        )
    for table in found.tables():
        _print(table)
    write_json(json_file, found.summary())
    if report:
        with ERR.status('drawing the report'):
            write(report, found.report())
        say(f'Report: {report}')
    if markdown:
        write(markdown, found.markdown())
    report_skipped(found.skipped)


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
        say(remark)
