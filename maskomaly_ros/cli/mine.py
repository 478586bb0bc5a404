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

"""`maskomaly mine`: replay many drives on Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from maskomaly_ros.cli import options, reading
from maskomaly_ros.cli.common import (
    ERR,
    INTERRUPTED,
    OUT,
    WITH_PROBLEMS,
    check_json,
    minute_lines,
    say,
    write_json,
)

if TYPE_CHECKING:
    from maskomaly_ros.mining.mine import MineOptions, MineProgress, MineReport


def mine(
    sources: Annotated[
        list[str],
        typer.Argument(help='Drives, folders of drives, globs; local or any URL of fsspec.'),
    ],
    out: Annotated[
        options.MaybePath, typer.Option(help='Folder for the results; finished drives stay.')
    ] = None,
    top: Annotated[int, typer.Option(min=0, help='Thumbnails of the highest events.')] = 50,
    workers: Annotated[
        options.MaybeInt,
        typer.Option(min=1, help='Default: one a GPU, or one for two CPUs.'),
    ] = None,
    cpus_per_worker: Annotated[
        options.MaybeInt,
        typer.Option(min=1, help='CPUs and threads of each; default: all, shared out.'),
    ] = None,
    retries: Annotated[int, typer.Option(min=0, help='How often a drive is tried again.')] = 2,
    address: Annotated[
        options.MaybeStr,
        typer.Option(help='Of a Ray cluster: auto, HOST:6379 or ray://HOST:10001. Default: here.'),
    ] = None,
    ramp: Annotated[
        float,
        typer.Option(
            min=0, metavar='SECONDS', help='Let one more worker begin each time, to measure.'
        ),
    ] = 0.0,
    topic: options.Topics = None,
    params: options.Params = None,
    checkpoint: options.OtherCheckpoint = None,
    queries: options.OtherQueries = None,
    device: options.OtherDevice = None,
    precision: options.OtherPrecision = None,
    backend: options.OtherBackend = None,
    input_size: options.Size = None,
    batch_size: options.BatchSize = 1,
    rate: options.ImageRate = None,
    restart: Annotated[
        bool, typer.Option('--restart', help='Forget what earlier calls left in the folder.')
    ] = False,
    start: options.From = None,
    end: options.To = None,
    every: options.Every = 1,
    dry_run: options.DryRun = False,
    json_file: options.Json = None,
) -> None:
    """Replay many drives on Ray; write tables of frames, events and bags, and thumbnails.

    The same command goes on with what is not finished. The exit status is 3 where a drive failed
    or has losses, 130 after Ctrl-C.
    """
    from maskomaly_ros.mining.mine import MineOptions
    from maskomaly_ros.mining.mine import mine as run

    parameters = reading.given_parameters(
        params, checkpoint, queries, device, precision, input_size, backend
    )
    check_json(json_file)
    chosen = MineOptions(
        parameters=parameters,
        topics=reading.chosen_topics(topic, parameters),
        rate=rate,
        piece=reading.chosen_piece(start, end, every),
        batch_size=batch_size,
        top=top,
        retries=retries,
        workers=workers,
        cpus_per_worker=cpus_per_worker,
        address=address,
        ramp_seconds=ramp,
        restart=restart,
    )
    if dry_run:
        _survey(sources, out, chosen, json_file)
        return
    folder = reading.given_out(out)
    with reading.stop_on_signal() as stop, _bar() as progress:
        report = run(sources, folder, chosen, stop=stop, progress=progress)
    _print(report)
    write_json(json_file, report.as_dict())
    if stop.is_set() and len(report.bags) < report.total:
        ERR.print('Stopped; finished drives are kept. The same command goes on from here.')
        raise typer.Exit(INTERRUPTED)
    if not report.is_complete:
        raise typer.Exit(WITH_PROBLEMS)


def _survey(
    sources: list[str], out: Path | None, chosen: MineOptions, json_file: Path | None
) -> None:
    """Print what would be mined; status 3 where a drive cannot be."""
    from maskomaly_ros.mining.survey import survey

    found = []
    for drive in survey(sources, out, chosen):
        found.append(drive)
        if drive.preview:
            reading.say_preview(drive.preview)
        else:
            say(drive.url)
            say(f'  cannot be read: {drive.reason}' if drive.reason else '  not on this machine')
        if drive.is_finished:
            say('  finished by an earlier call')
    bad = sum(1 for drive in found if drive.reason)
    done = sum(1 for drive in found if drive.is_finished)
    say(f'{len(found)} drives, {done} finished before, {bad} cannot be read')
    write_json(json_file, [asdict(drive) for drive in found])
    if bad:
        raise typer.Exit(WITH_PROBLEMS)


@contextmanager
def _bar() -> Iterator[Callable[[MineProgress], None]]:
    """Show a progress bar on stderr, which goes when it is done."""
    columns = (
        TextColumn('drives'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('{task.description}'),
        TimeElapsedColumn(),
    )
    with RichProgress(*columns, console=ERR, transient=True) as bars:
        task = bars.add_task('starting', total=None)

        text = ''
        line = minute_lines(lambda: text)

        def show(now: MineProgress) -> None:
            nonlocal text
            text = f'{now.frames} frames, {len(now.workers)} workers busy'
            if not ERR.is_terminal:
                text = f'{now.done} of {now.total} drives, {text}'
                line()
            bars.update(task, total=now.total, completed=now.done, description=text)

        yield show


def _print(report: MineReport) -> None:
    frames = sum(frames for frames, _ in report.throughput.values())
    failed = sum(1 for bag in report.bags if bag.status == 'failed')
    say(
        f'{len(report.bags) - report.skipped - failed} of {report.total} drives replayed, '
        f'{report.skipped} were finished before, {failed} failed; '
        f'{frames} frames in {report.seconds:.1f} s'
    )
    if report.throughput:
        table = Table('workers busy', box=box.SIMPLE_HEAD)
        for name in ('seconds', 'frames', 'frames/s', 'frames/s each', 'growth'):
            table.add_column(name, justify='right')
        rates = {count: f / seconds for count, (f, seconds) in report.throughput.items()}
        for count, (frames, seconds) in report.throughput.items():
            rate, alone = rates[count], rates.get(1)
            growth = f'{rate / alone:.2f}x' if alone else '-'
            table.add_row(
                str(count), f'{seconds:.1f}', str(frames), f'{rate:.2f}', f'{rate / count:.2f}',
                growth,
            )  # fmt: skip
        OUT.print(table)
    bad = [bag for bag in report.bags if bag.status != 'done']
    if bad:
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column('drive', overflow='fold')
        table.add_column('status')
        table.add_column('attempts', justify='right')
        table.add_column('problems', justify='right')
        table.add_column('reason', overflow='fold')
        for bag in bad:
            cells = (bag.bag, bag.status, str(bag.attempts), str(bag.problems), bag.reason)
            table.add_row(*(cell.replace('[', r'\[') for cell in cells))
        ERR.print(table)
    say(f'Results in {report.folder}: frames.parquet, events.parquet, bags.parquet, thumbnails/')
