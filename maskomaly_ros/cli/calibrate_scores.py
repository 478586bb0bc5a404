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

"""`maskomaly calibrate-scores`: what the node needs to offer other scores than Maskomaly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskomaly_ros.cli import options
from maskomaly_ros.cli.common import (
    check_file,
    check_json,
    load,
    make_parent,
    progress,
    report_skipped,
    say,
    write_json,
)
from maskomaly_ros.errors import MaskomalyError


def calibrate_scores(
    ordinary: Annotated[
        list[str],
        typer.Option(
            metavar='LAYOUT:PATH|PATH',
            help='Frames that show nothing anomalous: a data set with classes, a video, a folder '
            'of images or a bag. Repeat for more.',
        ),
    ],
    out: Annotated[Path, typer.Option(help='Queries file to write; may be the one that is read.')],
    scores: Annotated[
        options.MaybeStr, typer.Option(help='Comma-separated; default: all that are possible.')
    ] = None,
    dataset: Annotated[
        options.MaybeStr,
        typer.Option(
            metavar='LAYOUT:PATH',
            help='Images with anomalies, for thresholds of best F1; default: thresholds that one '
            'ordinary pixel in 1000 is above.',
        ),
    ] = None,
    checkpoint: options.Checkpoint = 'demo',
    queries: Annotated[
        options.MaybePath,
        typer.Option(help='Queries file to add to; default: that of the checkpoint.'),
    ] = None,
    cache: options.Cache = None,
    device: options.Device = 'auto',
    precision: options.Precision = 'float32',
    input_size: options.Size = None,
    json_file: options.Json = None,
) -> None:
    """Find scale and threshold of scores, and add them to a queries file."""
    from maskomaly_ros.detector import check_queries, find_queries
    from maskomaly_ros.evaluation.datasets import open_dataset
    from maskomaly_ros.evaluation.ordinary import open_ordinary
    from maskomaly_ros.evaluation.scales import calibrate_scores as find
    from maskomaly_ros.queries import write_queries
    from maskomaly_ros.scores import default_scores

    traffic = [open_ordinary(specification) for specification in ordinary]
    images = open_dataset(dataset) if dataset else None
    check_file(out)
    check_json(json_file)
    make_parent(out)
    network = load(checkpoint, device, precision, input_size)
    known = find_queries(network, queries)
    source_sha256 = getattr(network, 'source_sha256', None)
    if known.checkpoint_sha256 not in (None, network.sha256, source_sha256):
        raise MaskomalyError(
            f'{queries or "the bundled queries file"} belongs to weights '
            f'{known.checkpoint_sha256:.12}, but checkpoint {network.name} has '
            f'{network.sha256:.12}; calibrate its queries first, or name its own with --queries'
        )
    parameters = known.scoring_parameters()
    check_queries(network, parameters)
    names = (
        [name.strip() for name in scores.split(',')]
        if scores
        else [name for name in default_scores(parameters) if name != 'maskomaly']
    )
    if 'maskomaly' in names:
        raise MaskomalyError('score maskomaly is calibrated by `maskomaly calibrate`')
    with progress() as bars:
        found = find(network, parameters, names, traffic, images, cache=cache, progress=bars)
    try:
        write_queries(out, known.model_copy(update={'scores': {**known.scores, **found}}))
    except OSError as error:
        raise MaskomalyError(f'cannot write {out}: {error.strerror}') from error
    for name, each in found.items():
        scale = f', scale from {each.raw[0]:.4g} to {each.raw[-1]:.4g}' if each.raw else ''
        say(
            f'{name}: obstacle_threshold {each.obstacle_threshold:.4f}{scale}',
        )
    say(f'Written to {out}')
    skipped = {each.name: each.skipped for each in traffic}
    if images is not None:
        skipped[images.name] = images.skipped
    scales = {name: each.model_dump(mode='json') for name, each in found.items()}
    write_json(json_file, {'file': str(out), 'scores': scales, 'skipped': skipped})
    report_skipped(skipped)
