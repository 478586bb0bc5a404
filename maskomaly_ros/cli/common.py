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

"""What the sub-commands of `maskomaly` share: consoles, options, progress and files."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from maskomaly_ros.errors import MaskomalyError

if TYPE_CHECKING:
    from maskomaly_ros.evaluation.images import Progress
    from maskomaly_ros.networks import InputSize, Network
    from maskomaly_ros.queries import Queries

T = TypeVar('T')

# Tables that go to a file are not to be cut at the width of a terminal.
OUT = Console(width=None if sys.stdout.isatty() else 160)
ERR = Console(stderr=True, width=None if sys.stderr.isatty() else 200)
# Exit statuses: 1 could not run, 2 usage (of the parser), and these.
WITH_PROBLEMS = 3
INTERRUPTED = 130
# What --json - means.
STDOUT = Path('-')
LINE_SECONDS = 60.0  # between lines of progress where there is no terminal


def load(
    checkpoint: str,
    device: str,
    precision: str,
    input_size: str | None,
    backend: str = 'auto',
) -> Network:
    """Load a network for the options of a command, with something to look at meanwhile."""
    size = parse_size(input_size) if input_size else None
    from maskomaly_ros.networks import load_network

    with ERR.status(f'loading {checkpoint}'):
        return load_network(
            checkpoint, backend=backend, device=device, precision=precision, input_size=size
        )


def networks_of(
    checkpoints: Sequence[str],
    queries: Sequence[Path] | None,
    device: str,
    precision: str,
    input_size: str | None,
) -> Iterator[tuple[Network, Queries]]:
    """Load checkpoints one after the other, each with its queries.

    Raises:
        MaskomalyError: numbers of queries files and checkpoints differ; or the queries do not
            belong to a checkpoint.

    """
    from maskomaly_ros.detector import check_queries, find_queries

    if queries and len(queries) != len(checkpoints):
        raise MaskomalyError(
            f'{len(queries)} queries files for {len(checkpoints)} checkpoints; give one for '
            'each, or none'
        )
    if len(set(checkpoints)) < len(checkpoints):
        raise MaskomalyError(f'a checkpoint is given twice: {", ".join(checkpoints)}')

    def each() -> Iterator[tuple[Network, Queries]]:
        for index, name in enumerate(checkpoints):
            network = load(name, device, precision, input_size)
            known = find_queries(network, queries[index] if queries else None)
            check_queries(network, known.scoring_parameters())
            yield network, known

    return each()


def parse_size(text: str) -> InputSize:
    """Return the input size that SHORTESTxLONGEST says."""
    from maskomaly_ros.networks import InputSize

    return InputSize(*parse_pair(text, 'input size', 'SHORTESTxLONGEST'))


def parse_pair(text: str, what: str, form: str) -> tuple[int, int]:
    """Return the two numbers of a text such as 640x360; what and form name them in errors."""
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    if not match:
        raise MaskomalyError(f'{what} {text!r} is not {form}, such as 640x1280')
    return int(match[1]), int(match[2])


@contextmanager
def progress() -> Iterator[Progress]:
    """Show progress bars on stderr, which go when they are done; else a line a minute."""
    if not ERR.is_terminal:
        yield _told
        return
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=ERR, transient=True) as bars:

        def show(items: Iterable[T], total: int, text: str) -> Iterable[T]:
            return bars.track(items, total=total, description=text)

        yield show


def _told(items: Iterable[T], total: int, text: str) -> Iterator[T]:
    """Pass items on, and say now and then how many there were."""
    done = 0
    line = minute_lines(lambda: f'{text}: {done} of {total or "?"}')
    for item in items:
        yield item
        done += 1
        line()


def check_file(path: Path | None) -> None:
    """Raise MaskomalyError where a file cannot be written, before the work that it is for."""
    if path is None or path == STDOUT:
        return
    if path.is_dir():
        raise MaskomalyError(f'{path} is a folder; give the name of a file')
    place = path if path.exists() else path.parent
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        raise MaskomalyError(f'cannot write {path}: no permission to write to {place}')


def minute_lines(text: Callable[[], str]) -> Callable[[], None]:
    """Return what to call often where there is no terminal: it prints a line now and then."""
    last = time.monotonic()

    def show() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_SECONDS:
            last = now
            ERR.print(text(), markup=False, highlight=False, soft_wrap=True)

    return show


def make_parent(path: Path) -> None:
    """Make the folder of a file to be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MaskomalyError(f'cannot make folder {path.parent}: {error.strerror}') from error


def write(path: Path, text: str) -> None:
    """Write a text file, in a new folder if need be."""
    make_parent(path)
    try:
        path.write_text(text, encoding='utf-8')
    except OSError as error:
        raise MaskomalyError(f'cannot write {path}: {error.strerror}') from error


def check_json(path: Path | None) -> None:
    """Prepare for `write_json`: check the file, or keep standard output for what it will say."""
    check_file(path)
    if path == STDOUT:
        OUT.quiet = True


def write_json(path: Path | None, content: Any) -> None:
    """Write what --json asks for, if it does; NaN becomes null, and other objects their text."""
    if path is None:
        return
    text = json.dumps(without_nan(content), indent=2, default=str)
    if path == STDOUT:
        typer.echo(text)
    else:
        write(path, text + '\n')


def say(text: str) -> None:
    """Print a line as it is."""
    OUT.print(text, soft_wrap=True, highlight=False, markup=False)


def without_nan(value: Any) -> Any:
    """Return value with None in place of NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def report_skipped(skipped: Mapping[str, dict[str, str]]) -> None:
    """Name what was left out and end with exit status 3, if anything was."""
    for dataset, reasons in skipped.items():
        if reasons:
            ERR.print(
                f'{len(reasons)} of {dataset} skipped: {", ".join(reasons)}',
                style='yellow',
                markup=False,
                soft_wrap=True,
            )
    if any(skipped.values()):
        raise typer.Exit(WITH_PROBLEMS)
