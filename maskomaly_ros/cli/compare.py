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

"""`maskomaly compare`: scores side by side on the same outputs, with traffic and with noise."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from maskomaly_ros.cli import options
from maskomaly_ros.cli.common import (
    OUT,
    check_json,
    make_parent,
    networks_of,
    progress,
    report_skipped,
    say,
    without_nan,
    write,
    write_json,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def compare(
    dataset: options.Datasets,
    out: Annotated[
        Path,
        typer.Option(
            metavar='FOLDER',
            help='Folder for comparison.md, comparison.json and comparison.html, for the outputs '
            'of the networks and for what was measured: another run goes on from there.',
        ),
    ],
    ordinary: Annotated[
        options.MaybeStrs,
        typer.Option(
            metavar='LAYOUT:PATH|PATH',
            help='Frames that show nothing anomalous: a data set with classes, a video, a folder '
            'of images or a bag. Repeat for more.',
        ),
    ] = None,
    checkpoint: options.Checkpoints = ['demo'],  # noqa: B006
    queries: options.QueriesFiles = None,
    scores: Annotated[
        options.MaybeStr, typer.Option(help='Comma-separated; default: all that are possible.')
    ] = None,
    sweep: Annotated[
        bool,
        typer.Option(
            '--sweep',
            help='Also every way to join reject and accept, over all weights, with and without '
            'borders.',
        ),
    ] = False,
    minimum_obstacle_area: options.MinimumArea = 50,
    device: options.Device = 'auto',
    precision: options.Precision = 'float32',
    input_size: options.Size = None,
    json_file: options.Json = None,
) -> None:
    """Compare scores on the same outputs of networks, with intervals and marks beyond noise."""
    from maskomaly_ros.evaluation import comparison, comparison_tables
    from maskomaly_ros.evaluation.datasets import open_dataset
    from maskomaly_ros.evaluation.ordinary import open_ordinary
    from maskomaly_ros.evaluation.report import run_facts
    from maskomaly_ros.scores import default_scores

    check_json(json_file)
    networks = networks_of(checkpoint, queries, device, precision, input_size)
    datasets = [open_dataset(specification) for specification in dataset]
    traffic = [open_ordinary(specification) for specification in ordinary or ()]
    make_parent(out / 'comparison.md')
    found: list[Mapping[str, Any]] = []
    for network, known in networks:
        parameters = known.scoring_parameters()
        names = [s.strip() for s in scores.split(',')] if scores else default_scores(parameters)
        fusions = comparison.fusion_sweep(parameters) if sweep else {}
        key = comparison.comparison_key(
            network, parameters, datasets, traffic, list(names), minimum_obstacle_area, fusions
        )
        file_name = re.sub(r'[^\w.-]', '_', network.name)
        kept = out / f'{file_name}-{network.sha256[:16]}.json'
        result = _kept(kept, key)
        if result is None:
            with progress() as bars:
                result = without_nan(
                    comparison.compare(
                        network,
                        parameters,
                        datasets,
                        traffic,
                        list(names),
                        sweep=fusions,
                        minimum_area=minimum_obstacle_area,
                        cache=out / 'outputs',
                        progress=bars,
                    )
                )
            write(kept, json.dumps(result) + '\n')
        found.append(result)
        for each in result['datasets']:
            _print(result, each)
    say(comparison_tables.NOTE)
    write(out / 'comparison.md', comparison_tables.markdown(found))
    write(out / 'comparison.json', json.dumps(found, indent=2) + '\n')
    write_json(json_file, found)
    write(out / 'comparison.html', comparison_tables.page(found, run_facts()))
    say(f'Written to {out}')
    skipped = {each.name: each.skipped for each in datasets}
    skipped |= {each.name: each.skipped for each in traffic}
    report_skipped(skipped)


def _kept(path: Path, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what an earlier run measured with the same key, if it did."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    same = isinstance(content, dict) and content.get('key') == json.loads(json.dumps(key))
    return content if same else None


def _print(result: Mapping[str, Any], dataset: str) -> None:
    """Print a table without intervals, which a terminal has no room for."""
    from maskomaly_ros.evaluation.comparison_tables import (
        columns_of,
        figure_text,
        rows_of,
        title_of,
    )

    OUT.print(title_of(result, dataset), style='italic', soft_wrap=True, markup=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column('score', no_wrap=True)
    columns = columns_of(result)
    for metric in columns.values():
        table.add_column(metric.title, justify='right')
    for name, row in rows_of(result, dataset):
        texts = (figure_text(m, row[key], interval=False) for key, m in columns.items())
        table.add_row(name, *texts)
    OUT.print(table)
