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

"""What `replay` and `mine` share: which frames of which drives to read, and how to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from maskomaly_ros.cli.common import parse_size, say

if TYPE_CHECKING:
    from maskomaly_ros.drives.piece import Piece
    from maskomaly_ros.replay.preview import Preview


def given_parameters(
    params: Path | None,
    checkpoint: str | None,
    queries: Path | None,
    device: str | None,
    precision: str | None,
    input_size: str | None,
    backend: str | None = None,
) -> dict[str, Any]:
    """Return the parameters of a file, and what options say instead."""
    from maskomaly_ros.parameters import read_parameters

    parameters: dict[str, Any] = read_parameters(params) if params else {}
    overrides: dict[str, Any] = {
        'checkpoint': checkpoint,
        'queries_file': str(queries) if queries else None,
        'device': device,
        'precision': precision,
        'backend': backend,
    }
    if input_size:
        size = parse_size(input_size)
        overrides |= {'input_shortest_side': size.shortest, 'input_longest_side': size.longest}
    return parameters | {name: value for name, value in overrides.items() if value is not None}


def chosen_topics(
    topics: Sequence[str] | None, parameters: Mapping[str, Any]
) -> tuple[str, ...] | None:
    """Return the camera topics of options, else those of parameters; None for every camera."""
    from maskomaly_ros.topics import absolute_topic

    if topics:
        return tuple(topics)
    return tuple(map(absolute_topic, parameters.get('camera_topics') or ())) or None


def chosen_piece(start: str | None, end: str | None, every: int) -> Piece:
    """Return the piece of a drive that --from, --to and --every say."""
    from maskomaly_ros.drives.piece import Piece, parse_time

    return Piece(
        0.0 if start is None else parse_time(start),
        None if end is None else parse_time(end),
        every,
    )


def say_preview(seen: Preview) -> None:
    """Print what of a drive would be read, and what is left out."""
    say(str(seen.source))
    for camera in seen.cameras:
        name = f'{camera.topic}: ' if camera.topic else ''
        frames = 'nobody knows how many' if camera.frames is None else str(camera.frames)
        taken = f', about {camera.taken} of them' if camera.taken != camera.frames else ''
        say(f'  {name}{frames} frames{taken}, {camera.rate:.4g} a second')
    for topic, reason in {**seen.left_out, **seen.not_copied}.items():
        say(f'  left out: {topic}: {reason}')


def given_out(out: Path | None) -> Path:
    """Return the folder for the results, which is needed where something is read."""
    if out is None:
        raise typer.BadParameter('is missing; --dry-run alone does without', param_hint='--out')
    return out


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set; a second one ends the program at once."""
    stop = threading.Event()
    previous: dict[signal.Signals, Any] = {}

    def note(number: int, frame: object) -> None:
        stop.set()
        for each, handler in previous.items():
            signal.signal(each, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
