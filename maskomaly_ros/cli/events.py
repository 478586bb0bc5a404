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

"""`maskomaly events`: what the event recorder kept; pages, pins, deletions, labels."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from maskomaly_ros.cli import options
from maskomaly_ros.cli.common import ERR, OUT, WITH_PROBLEMS
from maskomaly_ros.errors import MaskomalyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maskomaly_ros.recorder.catalogue import Catalogue, Recording


def events(
    folder: Annotated[Path, typer.Argument(help='Of maskomaly_event_recorder.')],
    name: Annotated[
        options.MaybeStrs, typer.Argument(help='Recordings; default: all of them.')
    ] = None,
    camera: Annotated[
        options.MaybeStr, typer.Option(help='With an event of this camera topic.')
    ] = None,
    cause: Annotated[
        options.MaybeStr, typer.Option(help='Started by obstacle, service, topic or condition.')
    ] = None,
    least_score: Annotated[
        options.MaybeFloat, typer.Option(help='With at least this score.')
    ] = None,
    least_novelty: Annotated[options.MaybeFloat, typer.Option(help='At least this new.')] = None,
    since: Annotated[
        options.MaybeStr,
        typer.Option(metavar='TIME', help='Begun then or later: 2026-11-28T15:00, UTC.'),
    ] = None,
    pinned: Annotated[bool, typer.Option('--pinned', help='Only pinned ones.')] = False,
    html: Annotated[options.MaybePath, typer.Option(metavar='FILE', help='Write a page.')] = None,
    pin: Annotated[bool, typer.Option('--pin', help='Never let them be deleted.')] = False,
    unpin: Annotated[bool, typer.Option('--unpin', help='Let them be deleted again.')] = False,
    delete: Annotated[
        bool, typer.Option('--delete', help='Delete them; needs names or a filter.')
    ] = False,
    export: Annotated[
        options.MaybePath,
        typer.Option(
            metavar='FOLDER', help='Write pictures and masks: layout plain, and COCO JSON.'
        ),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help='Pictures of each event to export.')] = 3,
    labels: Annotated[
        options.MaybePath,
        typer.Option(
            metavar='FILE', help='COCO JSON that was corrected: write the labels of --export anew.'
        ),
    ] = None,
) -> None:
    """Show what the event recorder kept; make a page, pin, delete, export for labelling.

    The exit status is 3 where a recording could not be exported.
    """
    from maskomaly_ros.recorder.catalogue import Catalogue

    if labels is not None:
        _relabel(labels, export)
        return
    catalogue = Catalogue(folder)
    names = list(name or ())
    for each in names:
        catalogue.path(each)
    begin = _nanoseconds(since)
    found = [
        r
        for r in catalogue.recordings()
        if (not names or r.name in names)
        and (camera is None or any(e.camera == camera for e in r.events))
        and (cause is None or any(c.kind == cause for c in r.causes))
        and (least_score is None or r.score >= least_score)
        and (least_novelty is None or r.novelty >= least_novelty)
        and r.start_ns >= begin
        and (not pinned or catalogue.is_pinned(r.name))
    ]
    filters = (names, camera, cause, least_score, least_novelty, since, pinned or None)
    if delete and not any(each for each in filters):
        raise MaskomalyError('--delete needs names of recordings, or a filter')
    if pin or unpin:
        for recording in found:
            catalogue.pin(recording.name, pinned=pin)
    if export is not None:
        _export(catalogue, found, export, frames)
    if html is not None:
        from maskomaly_ros.recorder.page import write_page

        write_page(catalogue, found, html)
        OUT.print(f'Written to {html}', soft_wrap=True, highlight=False)
    if delete:
        for recording in found:
            catalogue.delete(recording.name)
        OUT.print(f'{len(found)} recordings deleted')
    elif export is None and html is None:
        _print(catalogue, found)


def _nanoseconds(text: str | None) -> int:
    if text is None:
        return 0
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise MaskomalyError(f'--since {text!r} is no time such as 2026-11-28T15:00') from error
    if time.tzinfo is None:
        time = time.replace(tzinfo=timezone.utc)
    return round(time.timestamp() * 1e9)


def _relabel(labels: Path, export: Path | None) -> None:
    from maskomaly_ros.recorder.export import labels_from_coco

    if export is None:
        raise MaskomalyError('--labels needs --export, the folder whose labels are written anew')
    count = labels_from_coco(labels, export)
    OUT.print(f'{count} labels written: plain:{export}', soft_wrap=True, highlight=False)


def _export(catalogue: Catalogue, found: Sequence[Recording], out: Path, frames: int) -> None:
    from maskomaly_ros.recorder.export import COCO
    from maskomaly_ros.recorder.export import export as write

    done = write(catalogue, found, out, frames)
    OUT.print(
        f'{done.images} pictures with {done.annotations} obstacles: data set plain:{out}, and '
        f'{out / COCO}',
        soft_wrap=True,
        highlight=False,
    )
    for name, reason in done.skipped.items():
        ERR.print(f'{name} skipped: {reason}', style='yellow', markup=False, soft_wrap=True)
    if done.skipped:
        raise typer.Exit(WITH_PROBLEMS)


def _print(catalogue: Catalogue, found: Sequence[Recording]) -> None:
    from maskomaly_ros.recorder.page import remarks, utc

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column('recording', overflow='fold')
    table.add_column('time UTC')
    for heading in ('s', 'MB', 'events', 'score', 'novelty', 'again'):
        table.add_column(heading, justify='right')
    table.add_column('cause')
    table.add_column('remarks', overflow='fold')
    for r in found:
        cells = (
            r.name,
            utc(r.start_ns),
            f'{r.seconds:.1f}',
            f'{r.size / 1e6:.1f}',
            str(len(r.events)),
            f'{r.score:.3f}' if r.events else '-',
            f'{r.novelty:.2f}',
            str(catalogue.sightings(r.name).count),
            r.causes[0].kind if r.causes else '',
            remarks(r, is_pinned=catalogue.is_pinned(r.name)),
        )
        table.add_row(*(cell.replace('[', r'\[') for cell in cells))
    OUT.print(table)
    OUT.print(f'{len(found)} recordings, {sum(r.size for r in found) / 1e6:.1f} MB')
