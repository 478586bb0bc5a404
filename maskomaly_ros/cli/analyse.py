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

"""`maskomaly analyse`: the studies of the paper, for any checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from maskomaly_ros.cli import options
from maskomaly_ros.cli.common import (
    ERR,
    check_json,
    networks_of,
    progress,
    report_skipped,
    say,
    write_json,
)
from maskomaly_ros.errors import MaskomalyError


def analyse(
    dataset: Annotated[
        str,
        typer.Option(
            metavar='LAYOUT:PATH',
            help='Data set, of any layout of `maskomaly evaluate`; one without anomalies serves '
            'the study of specialised queries alone.',
        ),
    ],
    out: Annotated[Path, typer.Option(help='Folder for figures, tables and the page.')],
    checkpoint: options.Checkpoints = ['demo'],  # noqa: B006
    queries: options.QueriesFiles = None,
    methods: Annotated[
        options.MaybeStr,
        typer.Option(help='Comma-separated, for the curves; default: all that are possible.'),
    ] = None,
    query_threshold: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help='T_query: share of the images beyond which a specialised query is sure of one '
            'class.',
        ),
    ] = 0.9,
    epsilon: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.49,
            help='ε: a query is sure of a class where its probability is at least 1 − ε.',
        ),
    ] = 0.1,
    iou_threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help='T_IoU, marked in the histogram.')
    ] = 0.25,
    most_queries: Annotated[
        options.MaybeInt,
        typer.Option(min=0, help='Anomalous queries to try at most; default: 16.'),
    ] = None,
    ordinary: Annotated[
        options.MaybeStrs,
        typer.Option(
            metavar='[LAYOUT:]PATH',
            help='Ordinary frames, without anomalies, for false obstacles and pooled figures: a '
            'labelled data set, a video, a folder of images or a bag. Repeat for more.',
        ),
    ] = None,
    minimum_obstacle_area: options.MinimumArea = 50,
    rank_on: Annotated[
        options.MaybeStr,
        typer.Option(
            metavar='LAYOUT:PATH',
            help='Data set to rank queries on; default: the one that is measured on, which makes '
            'their best number no test.',
        ),
    ] = None,
    membership: Annotated[
        str,
        typer.Option(
            help='Which pixels belong to a query: threshold (m > 0.5) or argmax (where its mask '
            'is the strongest, as the paper says).'
        ),
    ] = 'threshold',
    cache: options.Cache = None,
    device: options.Device = 'auto',
    precision: options.Precision = 'float32',
    input_size: options.Size = None,
    json_file: options.Json = None,
) -> None:
    """Study the queries of checkpoints: classes, IoU with anomalies, their best number, curves."""
    from maskomaly_ros.evaluation import analysis
    from maskomaly_ros.evaluation.calibration import Membership
    from maskomaly_ros.evaluation.datasets import open_dataset
    from maskomaly_ros.evaluation.ordinary import open_ordinary
    from maskomaly_ros.evaluation.report import run_facts

    if membership not in get_args(Membership):
        raise MaskomalyError(
            f'membership {membership!r} is none of {", ".join(get_args(Membership))}'
        )
    check_json(json_file)
    networks = networks_of(checkpoint, queries, device, precision, input_size)
    images = open_dataset(dataset)
    frames = [open_ordinary(specification) for specification in ordinary or ()]
    ranked = open_dataset(rank_on) if rank_on else None
    analysis.prepare(out)
    studies, checkpoints = [], {}
    for network, known in networks:
        checkpoints[network.name] = network.sha256
        with progress() as bars:
            studies.append(
                analysis.study(
                    network,
                    images,
                    known.scoring_parameters(),
                    methods=[m.strip() for m in methods.split(',')] if methods else None,
                    most_queries=analysis.MOST_QUERIES if most_queries is None else most_queries,
                    ordinary=frames,
                    threshold=known.obstacle_threshold,
                    minimum_area=minimum_obstacle_area,
                    rank_on=ranked,
                    membership=cast(Membership, membership),
                    cache=cache,
                    progress=bars,
                )
            )
    with ERR.status('drawing'):
        written = analysis.write_studies(
            studies,
            images.name,
            out,
            query_threshold=query_threshold,
            epsilon=epsilon,
            iou_threshold=iou_threshold,
            facts=run_facts(),
        )
    write_json(
        json_file,
        {
            'dataset': images.name,
            'checkpoints': checkpoints,
            'summary': written.summary,
            'page': written.page,
            'files': written.files,
        },
    )
    for line in written.summary:
        say(line)
    say(f'{len(written.files)} files in {out}; look at {written.page}')
    report_skipped({images.name: images.skipped, **{f.name: f.skipped for f in frames}})
