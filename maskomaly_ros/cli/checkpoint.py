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

"""`maskomaly checkpoint`: which checkpoints there are, how to get, convert and verify them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from maskomaly_ros.cli import options
from maskomaly_ros.cli.common import ERR, OUT, check_json, load, progress, say, write_json
from maskomaly_ros.errors import MaskomalyError

# torch and transformers take seconds to import: each command imports what it needs.
if TYPE_CHECKING:
    from maskomaly_ros.networks.download import Progress as ShowProgress
    from maskomaly_ros.networks.known import KnownCheckpoint

# Tables that go to a file are not to be cut at the width of a terminal.
app = typer.Typer(
    name='checkpoint',
    help='List, download, inspect, convert and verify checkpoints.',
    no_args_is_help=True,
)
_COLUMNS = (
    'name', 'backbone', 'mIoU %', 'classes', 'licence', 'queries', 'here', 'Hugging Face id'
)  # fmt: skip
Config = Annotated[
    options.MaybePath,
    typer.Option(help='Yaml configuration of an official file, where it is not beside it.'),
]


@app.command(name='list')
def list_checkpoints(json_file: options.Json = None) -> None:
    """List the published checkpoints that have a name here."""
    from maskomaly_ros.networks.known import KNOWN_CHECKPOINTS, cache_folder
    from maskomaly_ros.queries import bundled_queries

    check_json(json_file)
    demo = ('demo', 'small', None, '7 of IDD', 'see LICENSE', True, True, None)
    rows = [
        dict(zip(_COLUMNS, row, strict=True))
        for row in (
            demo,
            *(
                (
                    known.name,
                    known.backbone,
                    known.mean_iou,
                    f'{len(known.class_names)} of Cityscapes',
                    known.licence,
                    bundled_queries(known.name) is not None,
                    _path_of(known) is not None,
                    known.hub_id,
                )
                for known in KNOWN_CHECKPOINTS.values()
            ),
        )
    ]
    table = Table(box=box.SIMPLE_HEAD)
    for column in _COLUMNS:
        numeric, last = column == 'mIoU %', column == _COLUMNS[-1]
        table.add_column(
            column,
            justify='right' if numeric else 'left',
            overflow='fold' if last else 'ellipsis',
        )
    for row in rows:
        bundled = row['name'] == 'demo'
        shown = row | {
            'mIoU %': f'{row["mIoU %"]:.1f}' if row['mIoU %'] is not None else '-',
            'queries': 'bundled' if row['queries'] else '-',
            'here': ('bundled' if bundled else 'yes') if row['here'] else '-',
            'Hugging Face id': row['Hugging Face id'] or '-',
        }
        table.add_row(*map(str, shown.values()))
    OUT.print(table)
    say('mIoU: published, on Cityscapes val, one scale.')
    say(f'Downloads are kept in {cache_folder()}')
    write_json(json_file, {'checkpoints': rows, 'downloads': cache_folder()})


@app.command()
def download(
    name: Annotated[str, typer.Argument(help='Name from the list, or a Hugging Face id.')],
    to: Annotated[
        options.MaybePath, typer.Option(help='Folder to put the file into; default: the cache.')
    ] = None,
) -> None:
    """Download a published checkpoint; an interrupted download goes on where it stopped."""
    from maskomaly_ros.networks.checkpoints import find_checkpoint
    from maskomaly_ros.networks.download import download as fetch
    from maskomaly_ros.networks.known import KNOWN_CHECKPOINTS, cache_folder

    known = KNOWN_CHECKPOINTS.get(name)
    if known is not None and known.is_folder:
        name, known = known.hub_id or name, None
    if known is None:
        if '/' not in name or to is not None:
            raise MaskomalyError(
                f'no checkpoint {name!r} to download{" into a folder" if to else ""}; known are '
                f'{", ".join(KNOWN_CHECKPOINTS)}, or, into the cache of Hugging Face, an id '
                'owner/name'
            )
        say(str(find_checkpoint(name).path))
        return
    target = (to.expanduser() if to else cache_folder()) / known.file_name
    if not target.exists():
        with _bar(known.file_name) as progress:
            fetch(known.url, target, sha256=known.sha256, progress=progress)
    say(str(target))
    if known.sha256 is None:
        ERR.print(f'The authors publish no checksum; this file has SHA-256 {_sha256(target)}')


@app.command()
def info(
    checkpoint: Annotated[str, typer.Argument(help='Name, file, folder or Hugging Face id.')],
    config: Config = None,
    json_file: options.Json = None,
) -> None:
    """Print what a checkpoint is, without loading its weights."""
    from maskomaly_ros.networks.known import find_known

    check_json(json_file)
    known = find_known(checkpoint)
    absent = known is not None and known.name == checkpoint and _path_of(known) is None
    rows = {} if absent else _local_facts(checkpoint, config)
    known = known or find_known(rows['name'])
    rows |= _published_facts(known) if known else {}
    if absent:
        rows['here'] = f'no; get it with: maskomaly checkpoint download {checkpoint}'
    for name, value in rows.items():
        say(f'{name:<18} {value}')
    write_json(json_file, rows)


@app.command()
def convert(
    checkpoint: Annotated[str, typer.Argument(help='Official .pkl or .pth file, or a name.')],
    out: Annotated[Path, typer.Option(help='Folder to write; it must be new or empty.')],
    config: Config = None,
) -> None:
    """Convert a checkpoint to a folder that transformers and this package can load."""
    from maskomaly_ros.networks.conversion import convert as write

    with ERR.status(f'converting {checkpoint}'):
        folder = write(checkpoint, out, config)
    say(str(folder))


@app.command()
def verify(
    checkpoint: Annotated[str, typer.Argument(help='Name, file, folder or Hugging Face id.')],
    dataset: Annotated[
        str,
        typer.Option(
            metavar='LAYOUT:PATH',
            help='cityscapes (folders leftImg8bit and gtFine, labelIds or labelTrainIds) or '
            'cityscapes_256.',
        ),
    ],
    limit: Annotated[
        options.MaybeInt,
        typer.Option(min=1, help='Number of images, evenly spread; default: all.'),
    ] = None,
    tolerance: Annotated[
        options.MaybeFloat,
        typer.Option(
            min=0,
            help='Points of mIoU that may be missing; default: 2, of a part of Cityscapes val '
            '10, of cityscapes_256 60.',
        ),
    ] = None,
    device: options.Device = 'auto',
    precision: options.Precision = 'float32',
    input_size: options.Size = None,
    cache: options.Cache = None,
    json_file: options.Json = None,
) -> None:
    """Measure the mean IoU on Cityscapes val, beside the published one; fail if it is far off."""
    from maskomaly_ros.evaluation.datasets import open_dataset
    from maskomaly_ros.evaluation.verification import verify as measure

    check_json(json_file)
    images = open_dataset(dataset)
    network = load(checkpoint, device, precision, input_size)
    with progress() as show:
        found = measure(
            network, images, limit=limit, tolerance=tolerance, cache=cache, progress=show
        )
    write_json(
        json_file,
        {
            'checkpoint': network.name,
            'checkpoint_sha256': network.sha256,
            **asdict(found),
            'is_far_off': found.is_far_off,
        },
    )
    for name, iou in found.iou.items():
        say(f'{name:<18} {iou:5.1f} %')
    say(f'{"mIoU here":<18} {found.mean_iou:5.1f} %, {found.images} images')
    if found.published is None:
        say(f'{"published":<18} unknown: {network.name} is none of the list')
        return
    say(f'{"published":<18} {found.published:5.1f} %, on the 500 images of Cityscapes val')
    if found.is_far_off:
        raise MaskomalyError(
            f'{network.name} reaches {found.mean_iou:.1f} % mIoU here, {found.published:.1f} % '
            f'are published and {found.tolerance:g} points may be missing: do not trust it. Look '
            'for weights that are not those of the name, another input size, or a precision that '
            'is too coarse'
        )


def _path_of(known: KnownCheckpoint) -> Path | None:
    from maskomaly_ros.networks.checkpoints import cached_path

    return cached_path(known)


def _sha256(path: Path) -> str:
    from maskomaly_ros.networks.checkpoints import hash_files

    return hash_files([path])


def _local_facts(checkpoint: str, config: Path | None) -> dict[str, str]:
    from maskomaly_ros.networks.architectures import find_architecture, input_form
    from maskomaly_ros.networks.base import class_names
    from maskomaly_ros.networks.checkpoints import find_checkpoint
    from maskomaly_ros.networks.transformers_network import model_config
    from maskomaly_ros.queries import bundled_queries

    found = find_checkpoint(checkpoint, config)
    model = model_config(found)
    architecture = find_architecture(model.model_type, f'checkpoint {found.path}')
    form = input_form(model, found.path if found.path.is_dir() else None, None)
    queries = bundled_queries(found.name)
    return {
        'name': found.name,
        'path': str(found.path),
        'sha256': found.sha256,
        'architecture': architecture.name,
        'backbone': architecture.backbone(model),
        'queries': str(architecture.num_queries(model)),
        'classes': f'{model.num_labels}: {", ".join(class_names(model, found.name))}',
        'input size': str(form),
        'anomalous queries': _text(queries.anomalous_queries) if queries else 'none known',
        'ground queries': _text(queries.ground_queries) if queries else 'none known',
    }


def _published_facts(known: KnownCheckpoint) -> dict[str, str]:
    return {
        'published as': f'{known.name}, {known.backbone}',
        'mIoU': f'{known.mean_iou:.1f} % on Cityscapes val',
        'licence': known.licence,
        'official file': known.url,
        'Hugging Face': known.hub_id or 'none',
    }


def _text(indices: tuple[int, ...]) -> str:
    return ', '.join(map(str, indices)) or 'none'


@contextmanager
def _bar(text: str) -> Iterator[ShowProgress]:
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=ERR) as bars:

        def show(here: int, total: int | None) -> None:
            if not bars.tasks:  # a file that the server does not have needs no bar
                bars.add_task(text, total=total, completed=here)
            bars.update(bars.tasks[0].id, completed=here, total=total)

        yield show
