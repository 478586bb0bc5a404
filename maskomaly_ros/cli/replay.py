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

"""`maskomaly replay`: every frame of a recorded drive through the detector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

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
    from maskomaly_ros.replay.run import ReplayOptions, ReplaySummary

_SHOWN_PROBLEMS = 20


def replay(
    source: Annotated[
        Path, typer.Argument(help='rosbag2, ROS 1 bag, video file or folder of images.')
    ],
    out: Annotated[
        options.MaybePath,
        typer.Option(help='Folder for the results; goes on if it has unfinished ones.'),
    ] = None,
    write: Annotated[
        str,
        typer.Option(help='Comma-separated: bag, video, scores, csv, parquet, html, pictures.'),
    ] = 'bag,video,csv,html',
    topic: options.Topics = None,
    copy: Annotated[
        options.MaybeStrs,
        typer.Option(
            '--copy', help="Other topic to copy into the bag; repeat for more, '*' for all."
        ),
    ] = None,
    bag_topics: Annotated[
        str,
        typer.Option(
            help='Ours to put into the bag: heatmap, mask, overlay, overlay/compressed, '
            'obstacles, points, markers, label_info, annotations.'
        ),
    ] = 'heatmap,mask,overlay/compressed,obstacles,points,markers',
    score_format: Annotated[
        str, typer.Option(help='Score maps as png (16 bit) or npz (float32).')
    ] = 'png',
    params: options.Params = None,
    checkpoint: options.OtherCheckpoint = None,
    queries: options.OtherQueries = None,
    device: options.OtherDevice = None,
    precision: options.OtherPrecision = None,
    backend: options.OtherBackend = None,
    input_size: options.Size = None,
    batch_size: options.BatchSize = 1,
    rate: options.ImageRate = None,
    part_seconds: Annotated[
        float,
        typer.Option(min=0, help='How much work a crash may cost: files are closed so often.'),
    ] = 60.0,
    restart: Annotated[
        bool, typer.Option('--restart', help='Delete what an earlier replay left in the folder.')
    ] = False,
    start: options.From = None,
    end: options.To = None,
    every: options.Every = 1,
    dry_run: options.DryRun = False,
    json_file: options.Json = None,
) -> None:
    """Process every frame of a recorded drive, and write what was found.

    Ctrl-C closes all files; the same command goes on where it stopped. The exit status is 3 where
    anything could not be read or written, 130 after Ctrl-C.
    """
    from maskomaly_ros.replay.preview import preview
    from maskomaly_ros.replay.run import ReplayOptions
    from maskomaly_ros.replay.run import replay as run

    parameters = reading.given_parameters(
        params, checkpoint, queries, device, precision, input_size, backend
    )
    check_json(json_file)
    chosen = ReplayOptions(
        outputs=_names(write),
        topics=reading.chosen_topics(topic, parameters) if _is_bag(source) else None,
        copy=tuple(copy or ()),
        bag_topics=_names(bag_topics),
        score_format=score_format,
        parameters=parameters,
        rate=rate,
        piece=reading.chosen_piece(start, end, every),
        batch_size=batch_size,
        part_seconds=part_seconds,
        restart=restart,
    )
    if dry_run:
        seen = preview(source, chosen)
        reading.say_preview(seen)
        write_json(json_file, asdict(seen))
        return
    folder = reading.given_out(out)
    with reading.stop_on_signal() as stop, _bar() as progress:
        summary = run(source, folder, chosen, stop=stop, progress=progress)
    _print(summary, chosen)
    write_json(json_file, summary.as_dict())
    if stop.is_set() and not summary.is_complete:
        ERR.print('Stopped; all files are closed. The same command goes on from here.')
        raise typer.Exit(INTERRUPTED)
    if summary.problems or not summary.is_complete:
        raise typer.Exit(WITH_PROBLEMS)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(',') if name.strip())


def _is_bag(source: Path) -> bool:
    from maskomaly_ros.drives.open import is_bag

    return is_bag(source)


class _Rate(ProgressColumn):
    """Frames a second."""

    def render(self, task: Task) -> Text:
        """Return what is shown."""
        speed = task.finished_speed or task.speed
        return Text('' if speed is None else f'{speed:.1f} frames/s')


@contextmanager
def _bar() -> Iterator[Callable[[int, int | None], None]]:
    """Show a progress bar on stderr, which goes when it is done."""
    columns = (
        TextColumn('frames'),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=ERR, transient=True, speed_estimate_period=60) as bars:
        task = bars.add_task('frames', total=None)

        now: tuple[int, int | None] = 0, None
        line = minute_lines(lambda: f'{now[0]} of {now[1] or "?"} frames')

        def show(done: int, total: int | None) -> None:
            nonlocal now
            now = done, total
            if not ERR.is_terminal:
                line()
            if bars.tasks[0].total is None and total is not None and done > 1:
                bars.reset(task, total=total, completed=done)  # a rerun does not begin at 0
            bars.update(task, completed=done)

        yield show


def _print(summary: ReplaySummary, chosen: ReplayOptions) -> None:
    for topic, reason in summary.left_out.items():
        ERR.print(f'not read: {topic}: {reason}', markup=False, soft_wrap=True)
    if summary.seconds and summary.processed:
        rate = summary.processed / summary.seconds
        say(
            f'{summary.processed} frames in {summary.seconds:.1f} s, {rate:.2f} frames/s; '
            f'network busy {100 * summary.network_share:.1f} % of the time, run by '
            f'{" and ".join(summary.backends)}'
        )
        table = Table('stage', box=box.SIMPLE_HEAD)
        table.add_column('ms a frame', justify='right')
        table.add_column('busy', justify='right')
        for stage, seconds in summary.busy.items():
            table.add_row(
                stage,
                f'{1000 * seconds / summary.processed:.1f}',
                f'{100 * seconds / summary.seconds:.1f} %',
            )
        OUT.print(table)
        say(f'joining, tables and page: {summary.finishing:.1f} s')
    elif summary.is_complete:
        left = 'all that can be read is done' if summary.problems else 'this replay is complete'
        say(f'nothing to do: {left}')
    lost = f', {summary.lost} lost,' if summary.lost else ''
    say(f'{summary.frames} frames finished{lost} in {summary.folder}')
    if 'html' in chosen.outputs:
        say(f'Open {summary.folder / "report.html"}')
    problems = summary.problems
    if problems:
        plural = 'problem' if len(problems) == 1 else 'problems'
        earlier = problems[: len(problems) - summary.noted]
        above = f', {summary.noted} of this call, which are named above' if summary.noted else ''
        ERR.print(f'{len(problems)} {plural}{above}', style='yellow', soft_wrap=True)
        for problem in earlier[:_SHOWN_PROBLEMS]:
            text = f'  {problem.stage}: {problem.name}: {problem.reason}'
            ERR.print(text, markup=False, soft_wrap=True, highlight=False)
        if len(problems) > _SHOWN_PROBLEMS:
            ERR.print('All stand in the report.', soft_wrap=True)
