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

"""`maskomaly calibrate`: queries, parameters and threshold of one checkpoint."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

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
    write_json,
)
from maskomaly_ros.errors import MaskomalyError

if TYPE_CHECKING:
    from maskomaly_ros.drives.source import Source
    from maskomaly_ros.evaluation.datasets import Dataset
    from maskomaly_ros.evaluation.false_alarms import FalseAlarmRate
    from maskomaly_ros.evaluation.images import Progress
    from maskomaly_ros.evaluation.ordinary import OrdinaryFrames
    from maskomaly_ros.networks import Network
    from maskomaly_ros.queries import Queries


def calibrate(
    dataset: Annotated[
        options.MaybeStr,
        typer.Option(
            metavar='LAYOUT:PATH',
            help='Data set with anomalies; see `maskomaly evaluate --help` for layouts. With '
            '--queries it only tells what the new threshold costs.',
        ),
    ] = None,
    out: Annotated[
        options.MaybePath,
        typer.Option(help='Queries file to write; with --queries that file itself by default.'),
    ] = None,
    checkpoint: options.Checkpoint = 'demo',
    queries: Annotated[
        options.MaybePath,
        typer.Option(
            metavar='FILE',
            help='Leave the queries and parameters of this file as they are, and only move its '
            'obstacle_threshold, by --false-alarms.',
        ),
    ] = None,
    ordinary: Annotated[
        options.MaybeStrs,
        typer.Option(
            metavar='[LAYOUT:]PATH',
            help='Ordinary frames, without anomalies, that count as well: a labelled data set '
            '(classes or anomalies), a video, a folder of images or a bag. Repeat for more.',
        ),
    ] = None,
    criterion: Annotated[
        options.MaybeStr,
        typer.Option(
            help='What settings are chosen by: ap, fpr95, pooled-ap, pooled-fpr95 or '
            'pooled-recall (where 0.1 % of other pixels are above the threshold); pooled ones '
            'take the pixels of ordinary frames as negatives. Default: pooled-ap with --ordinary, '
            'else ap.'
        ),
    ] = None,
    false_alarms: Annotated[
        options.MaybeStr,
        typer.Option(
            metavar='RATE',
            help="Most false obstacles on ordinary frames, such as '0.3/frame' or '1/min': sets "
            'the lowest obstacle_threshold that keeps to it.',
        ),
    ] = None,
    ordinary_drive: Annotated[
        options.MaybePath,
        typer.Option(
            metavar='PATH',
            help='Unlabelled drive without anomalies for --false-alarms: a bag, a video, a folder '
            'of images. Without it --ordinary serves.',
        ),
    ] = None,
    score: Annotated[
        options.MaybeStr,
        typer.Option(
            metavar='NAME',
            help='Score whose threshold is meant, and with which the node begins: `maskomaly` or '
            'another of docs/scores.md. Default: that of --queries. Its scale comes from '
            '--ordinary.',
        ),
    ] = None,
    params: options.Params = None,
    topic: options.OneTopic = None,
    rate: options.ImageRate = None,
    minimum_obstacle_area: Annotated[
        options.MaybeInt,
        typer.Option(min=0, help='Instead of that of --params: pixels of the smallest obstacle.'),
    ] = None,
    minimum_obstacle_frames: Annotated[
        options.MaybeInt,
        typer.Option(min=1, help='Instead of that of --params: frames in a row it must be there.'),
    ] = None,
    iou_threshold: Annotated[
        options.MaybeFloat,
        typer.Option(
            min=0.0,
            max=1.0,
            help='Mean IoU with anomalies from which a query is anomalous; default: 0.25, or more '
            'where that is clearly better.',
        ),
    ] = None,
    cache: options.Cache = None,
    device: options.Device = 'auto',
    precision: options.Precision = 'float32',
    input_size: options.Size = None,
    json_file: options.Json = None,
) -> None:
    """Find the queries and parameters of a checkpoint, or its threshold, and write its file.

    From anomalies (--dataset) come queries, parameters and a threshold; ordinary frames keep them
    from taking traffic for obstacles. From an ordinary drive alone (--ordinary-drive,
    --false-alarms, --queries) comes the threshold.
    """
    from maskomaly_ros.detector import check_queries
    from maskomaly_ros.drives.open import open_source
    from maskomaly_ros.evaluation.calibration import calibrate as find
    from maskomaly_ros.evaluation.datasets import open_dataset
    from maskomaly_ros.evaluation.false_alarms import FalseAlarmRate, check_length
    from maskomaly_ros.evaluation.ordinary import open_ordinary
    from maskomaly_ros.parameters import read_parameters
    from maskomaly_ros.queries import read_queries, write_queries

    if queries is None and dataset is None:
        raise MaskomalyError(
            'give --dataset, to find queries, or --queries, whose threshold is to be moved'
        )
    if false_alarms is None and (queries is not None or ordinary_drive is not None):
        raise MaskomalyError("a threshold needs a rate, such as --false-alarms '1/min'")
    if false_alarms is not None and not (ordinary_drive or ordinary):
        raise MaskomalyError('--false-alarms needs --ordinary-drive or --ordinary')
    target = out or queries
    if target is None:
        raise MaskomalyError('give --out, the queries file to write')
    check_file(target)
    check_json(json_file)
    if out is not None and out.exists() and (queries is None or not out.samefile(queries)):
        ERR.print(f'{out} exists, and will be overwritten', style='yellow', soft_wrap=True)
    asked = FalseAlarmRate.parse(false_alarms) if false_alarms else None
    given = read_parameters(params) if params else {}
    given |= {
        name: value
        for name, value in (
            ('minimum_obstacle_area', minimum_obstacle_area),
            ('minimum_obstacle_frames', minimum_obstacle_frames),
        )
        if value is not None
    }
    if minimum_obstacle_frames is not None and ordinary_drive is None:
        raise MaskomalyError(
            '--minimum-obstacle-frames needs --ordinary-drive: pictures of a '
            'data set do not follow each other'
        )
    drive = open_source(ordinary_drive, topics=topic, rate=rate) if ordinary_drive else None
    if drive is not None and asked is not None:
        check_length(drive, asked)
    images = open_dataset(dataset) if dataset else None
    traffic = [open_ordinary(each, topic=topic, rate=rate) for each in ordinary or ()]
    known = read_queries(queries) if queries else None
    make_parent(target)
    network = load(checkpoint, device, precision, input_size)
    if known is not None and known.checkpoint_sha256 not in (None, network.sha256):
        raise MaskomalyError(
            f'{queries} belongs to weights {known.checkpoint_sha256:.12}, but checkpoint '
            f'{network.name} has {network.sha256:.12}; name its own with --checkpoint'
        )
    with progress() as bars:
        found = known
        if found is None:
            assert images is not None
            found = find(
                network,
                images,
                ordinary=traffic,
                criterion=criterion,
                iou_threshold=iou_threshold,
                cache=cache,
                progress=bars,
            )
        check_queries(network, found.scoring_parameters())
        if score is not None:
            found = _with_score(network, found, score, traffic, images, cache, progress=bars)
        moved = found
        if asked is not None:
            moved = _move(
                network, found, asked, drive, traffic, given, images, cache, progress=bars
            )
    try:
        write_queries(target, moved)
    except OSError as error:
        raise MaskomalyError(f'cannot write {target}: {error.strerror}') from error
    if known is None:
        _print_calibration(found)
    if asked is not None:
        _print_threshold(moved)
    say(f'Written to {target}')
    skipped = {each.name: each.skipped for each in traffic}
    if images is not None:
        skipped[images.name] = images.skipped
    if drive is not None:
        skipped[drive.path.name] = {each.name: each.reason for each in drive.problems}
    content = {'file': str(target), 'queries': moved.model_dump(mode='json'), 'skipped': skipped}
    write_json(json_file, content)
    report_skipped(skipped)


def _move(
    network: Network,
    queries: Queries,
    rate: FalseAlarmRate,
    drive: Source | None,
    traffic: Sequence[OrdinaryFrames],
    given: Mapping[str, Any],
    images: Dataset | None,
    cache: Path | None,
    *,
    progress: Progress,
) -> Queries:
    """Return queries with the threshold that keeps a rate on a drive, or else on pictures."""
    from maskomaly_ros.detector import Detector, DetectorConfig
    from maskomaly_ros.evaluation import false_alarms
    from maskomaly_ros.evaluation.cache import OutputCache
    from maskomaly_ros.evaluation.false_alarms import CountingRules

    name = queries.score
    config = DetectorConfig(
        queries.scoring_parameters(),
        score=name,
        average_mirrored=given.get('average_mirrored', False),
        road_prior=given.get('road_prior', 0.0),
    )
    if config.average_mirrored and (drive is None or images is not None):
        raise MaskomalyError(
            'average_mirrored runs the network on mirrored frames too, which is done for '
            '--ordinary-drive alone: leave --ordinary and --dataset out'
        )
    detector = Detector(network, config, queries.scores)
    before = queries.obstacle_threshold
    if name != 'maskomaly' and name in queries.scores:
        before = queries.scores[name].obstacle_threshold
    outputs = OutputCache(cache, network) if cache else None
    if drive is not None:
        rules = CountingRules.of_parameters(given, drive.topics[0] if drive.topics else '')
        source, frames = drive.path.name, false_alarms.score_drive(detector, drive)
        try:
            total = len(drive)
        except TypeError:
            total = 0
    else:
        rules = CountingRules(given.get('minimum_obstacle_area', 0))
        source, total = ', '.join(each.name for each in traffic), sum(map(len, traffic))
        frames = itertools.chain.from_iterable(
            false_alarms.score_ordinary(detector, each, outputs) for each in traffic
        )
    with contextlib.nullcontext() if drive is None else drive:
        found = false_alarms.find_threshold(
            frames, rate, rules, before, total=total, progress=progress
        )
    recall = None
    if images is not None:
        recall_before, recall_now = false_alarms.recall_at(
            detector, images, (before, found.threshold), outputs=outputs, progress=progress
        )
        recall = {images.name: (recall_before, recall_now)}
    return false_alarms.with_threshold(queries, found, rate, rules, source, recall, name)


def _with_score(
    network: Network,
    queries: Queries,
    score: str,
    traffic: Sequence[OrdinaryFrames],
    images: Dataset | None,
    cache: Path | None,
    *,
    progress: Progress,
) -> Queries:
    """Return queries that begin with a score, with its scale where they have none."""
    from maskomaly_ros.evaluation.scales import calibrate_scores
    from maskomaly_ros.scores import check_scores

    parameters = queries.scoring_parameters()
    check_scores([score], parameters)
    scores = dict(queries.scores)
    if score != 'maskomaly' and score not in scores:
        scores |= calibrate_scores(
            network, parameters, [score], traffic, images, cache=cache, progress=progress
        )
    return queries.model_copy(update={'score': score, 'scores': scores})


def _print_threshold(queries: Queries) -> None:
    about = queries.provenance['false_alarms']
    score = about.get('score', 'maskomaly')
    other = score != 'maskomaly'
    threshold = (queries.scores[score] if other else queries).obstacle_threshold
    of = f'{score}: ' if other else ''
    length = f' ({about["seconds"]:.1f} s)' if 'seconds' in about else ''
    say(
        f'{of}obstacle_threshold {about["threshold_before"]:.4f} -> {threshold:.4f}: '
        f'{about["found"]} false obstacles in {about["frames"]} frames{length} of '
        f'{about["ordinary"]}, where {about["asked"]} allows {about["allowed"]}; before '
        f'{about["found_before"]}',
    )
    for name, recall in about.get('recall', {}).items():
        say(
            f'Anomalous pixels of {name} above it: {100 * recall["now"]:.2f} %, before '
            f'{100 * recall["before"]:.2f} %',
        )


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
    table.add_row('variant', queries.variant)
    for name in ('mask_threshold', 'border_threshold', 'reject_weight', 'obstacle_threshold'):
        table.add_row(name, f'{getattr(queries, name):g}')
    ground = ', '.join(map(str, queries.ground_queries)) or 'none'
    table.add_row('ground_queries', ground)
    OUT.print(table)
    figures, search = provenance['calibration_figures'], provenance['search']
    OUT.print(
        f'On these {provenance["images"]} images, which are no test any more: '
        f'AP {100 * figures["ap"]:.2f} %, FPR95 {100 * figures["fpr95"]:.2f} %, '
        f'AuROC {100 * figures["auroc"]:.2f} %, best F1 {100 * figures["best_f1"]:.2f} %; '
        f"AP with the paper's parameters {100 * search['ap_of_defaults']:.2f} %",
        highlight=False,
    )
    if pooled := figures.get('pooled'):
        frames = ', '.join(f'{e["frames"]} frames of {e["name"]}' for e in provenance['ordinary'])
        OUT.print(
            f'With {frames} pooled in: AP {100 * pooled["ap"]:.2f} %, '
            f'FPR95 {100 * pooled["fpr95"]:.2f} %, best F1 {100 * pooled["best_f1"]:.2f} %',
            highlight=False,
        )
    for margin, interval in provenance['detection_margin'].items():
        OUT.print(
            f'F1 above {margin} for thresholds from {interval["from"]:.4f} to '
            f'{interval["to"]:.4f}, middle {interval["middle"]:.4f}'
            if interval['length']
            else f'F1 above {margin} for no threshold',
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
