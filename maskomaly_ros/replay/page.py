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

"""The page that is opened after a drive: anomaly over time, events, frames with overlay.

The page is one file. It has small pictures of the peaks of events and of frames in between, a
bounded number; where the folder `frames` lies beside it, every frame is shown as it is there.
`report.html#camera=NAME&frame=INDEX` opens it at a frame; NAME is that of the camera's files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros import html
from maskomaly_ros.drives.source import fit_within
from maskomaly_ros.replay.events import Event, events_of
from maskomaly_ros.replay.journal import FrameRecord, Journal, ProblemRecord
from maskomaly_ros.replay.thumbnails import THUMBNAIL_SIZE, cut_out
from maskomaly_ros.topics import file_name

PAGE = 'report.html'
# What the page may hold, whatever the length of the drive: about 10 MB.
_POINTS = 20_000  # of each camera; of several frames in one point the highest score counts
_EVENTS = 1_000
_THUMBNAILS = 300
_PICTURES = 240
_PEAKS = 80
_PROBLEMS = 200
_LANES = 8  # of bars of events that overlap in time; more share the last one
_PICTURE_SIZE = (480, 480)
_PICTURE_QUALITY = 60
_HERE = Path(__file__).parent


@dataclass
class Timeline:
    """The timeline of one camera, as columns."""

    name: str
    every: int
    seen: int = 0
    index: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    area: list[int] = field(default_factory=list)
    obstacles: list[int] = field(default_factory=list)
    width: int = 0
    pixels: int = 0

    def add(self, frame: FrameRecord, start_ns: int) -> None:
        """Add a frame; of each `every` frames the one with the highest score stays."""
        if self.seen % self.every == 0:
            for column in (self.index, self.seconds, self.score, self.area, self.obstacles):
                column.append(0)
            self.score[-1] = -1.0
        self.seen += 1
        self.width, self.pixels = frame.width, frame.width * frame.height
        if frame.max_score > self.score[-1]:
            self.index[-1] = frame.index
            self.seconds[-1] = round((frame.stamp_ns - start_ns) / 1e9, 3)
            self.score[-1] = round(frame.max_score, 4)
            self.area[-1] = frame.area
            self.obstacles[-1] = len(frame.obstacles)


def write_page(journal: Journal, folder: Path) -> None:
    """Write `report.html`.

    Raises:
        MaskomalyError: it cannot be written.

    """
    counts: dict[str, int] = {}
    start_ns: int | None = None
    for frame in journal.frames():
        counts[frame.camera] = counts.get(frame.camera, 0) + 1
        start_ns = frame.stamp_ns if start_ns is None else min(start_ns, frame.stamp_ns)
    cameras = {name: Timeline(name, math.ceil(n / _POINTS)) for name, n in counts.items()}
    for frame in journal.frames():
        cameras[frame.camera].add(frame, start_ns or 0)
    events = sorted(events_of(journal), key=_importance, reverse=True)
    shown = events[:_EVENTS]
    first = journal.path.parent.parent
    identity = journal.identity
    seconds = max((c.seconds[-1] for c in cameras.values()), default=0.0)
    text = render_page(
        title=f'Replay of {Path(str(identity.get("source", folder))).name}',
        subtitle=_subtitle(identity, sum(counts.values()), seconds),
        cameras=cameras,
        events=shown,
        event_count=len(events),
        columns=COLUMNS,
        rows=_rows(shown, cameras, first / 'frames', start_ns or 0),
        pictures=_pictures(first / 'frames', cameras, events),
        start_ns=start_ns or 0,
        problems=list(journal.problems()),
    )
    html.write(folder / PAGE, text)


def render_page(
    *,
    title: str,
    subtitle: str,
    cameras: Mapping[str, Timeline],
    events: Sequence[Event],
    event_count: int,
    columns: Sequence[html.Column],
    rows: Iterable[Sequence[html.Cell]],
    pictures: Mapping[str, Mapping[int, str]],
    start_ns: int,
    problems: Sequence[ProblemRecord] = (),
    point: str = 'frame',
) -> str:
    """Return the page: timelines, a viewer, and a table of events.

    Args:
        title: of the page.
        subtitle: one line below it.
        cameras: timelines by name.
        events: that are shown; `peak_index` is the index of a point of the timeline.
        event_count: how many there are.
        columns: of the table.
        rows: one for each event; its first cell is a `jump_cell`.
        pictures: addresses by `file_name` of the camera and index.
        start_ns: where times begin.
        problems: what was lost.
        point: what a point of a timeline stands for.

    """
    lanes = lanes_of(events)
    lanes_by_camera: dict[str, list[int]] = {}
    for lane, event in zip(lanes, events, strict=True):
        lanes_by_camera.setdefault(event.camera, []).append(lane)
    return html.render(
        _HERE / 'page.html.jinja',
        title=title,
        subtitle=subtitle,
        folder_images=True,
        scripts=[(_HERE / 'page.js').read_text(encoding='utf-8')],
        styles=[(_HERE / 'page.css').read_text(encoding='utf-8')],
        cameras=cameras.values(),
        counts={name: camera.seen for name, camera in cameras.items()},
        point=point,
        problems=problems[:_PROBLEMS],
        problem_count=len(problems),
        events=events,
        event_count=event_count,
        columns=columns,
        rows=rows,
        data={
            'cameras': [
                {
                    'name': c.name,
                    'folder': file_name(c.name),
                    'index': c.index,
                    'seconds': c.seconds,
                    'score': c.score,
                    'area': c.area,
                    'obstacles': c.obstacles,
                    'lanes': 1 + max(lanes_by_camera.get(c.name, [0])),
                }
                for c in cameras.values()
            ],
            'events': [
                {
                    'camera': list(cameras).index(e.camera),
                    'start': (e.start_ns - start_ns) / 1e9,
                    'end': (e.end_ns - start_ns) / 1e9,
                    'peak': e.peak_index,
                    'score': e.peak_score,
                    'area': e.peak_area,
                    'lane': lane,
                }
                for lane, e in zip(lanes, events, strict=True)
            ],
            'pictures': pictures,
        },
    )


def jump_cell(event: Event, number: int) -> html.Cell:
    """Return the cell that leads to an event, by its place from 0 in the table."""
    jump = html.Markup('<a href="#camera={}&frame={}" class="jump" data-event="{}">{}</a>')
    link = jump.format(file_name(event.camera), event.peak_index, number, number + 1)
    return html.Cell(number + 1, link)


def thumbnail_cell(data: bytes) -> html.Cell:
    """Return a cell with a JPEG of the size of thumbnails."""
    shown = html.Markup('<img src="{}" alt="peak of the event" width="{}" height="{}">')
    return html.Cell(None, shown.format(html.data_uri(data, 'image/jpeg'), *THUMBNAIL_SIZE))


def lanes_of(events: Sequence[Event]) -> list[int]:
    """Return a lane from 0 for each event, so that those of one camera stand side by side.

    Two events whose times touch have different lanes, as far as there are lanes.
    """
    ends: dict[str, list[int]] = {}  # of each lane, by camera: when it is free again
    lanes = [0] * len(events)
    for number in sorted(range(len(events)), key=lambda n: events[n].start_ns):
        event = events[number]
        taken = ends.setdefault(event.camera, [])
        lane = next((n for n, end in enumerate(taken) if end < event.start_ns), len(taken))
        lane = min(lane, _LANES - 1)
        if lane == len(taken):
            taken.append(event.end_ns)
        taken[lane] = max(taken[lane], event.end_ns)
        lanes[number] = lane
    return lanes


def _importance(event: Event) -> tuple[float, int]:
    return event.peak_score, event.peak_area


def _subtitle(identity: Mapping[str, Any], frames: int, seconds: float) -> str:
    parameters = identity.get('parameters', {})
    return (
        f'{frames} frames, {seconds:.1f} s; checkpoint {parameters.get("checkpoint", "")} '
        f'({str(identity.get("checkpoint", ""))[:12]}); {identity.get("source", "")}'
    )


COLUMNS = [
    html.Column('event', numeric=True, help='number by peak score'),
    html.Column('picture'),
    html.Column('camera'),
    html.Column('start s', numeric=True, help='since the first frame'),
    html.Column('end s', numeric=True),
    html.Column('frames', numeric=True, help='frames that it was seen in'),
    html.Column('peak score', numeric=True),
    html.Column('area px', numeric=True, help='largest area'),
    html.Column('id', numeric=True, help='of the obstacle, as in the bag and in the pictures'),
    html.Column('nearest m', numeric=True, help='along the ground, where a place is known'),
]


def _rows(
    events: Sequence[Event], cameras: Mapping[str, Timeline], folder: Path, start_ns: int
) -> Iterator[list[html.Cell]]:
    for number, event in enumerate(events):
        seconds = [(t - start_ns) / 1e9 for t in (event.start_ns, event.end_ns)]
        cut = None
        if number < _THUMBNAILS:
            cut = _thumbnail(folder, event, cameras[event.camera].width)
        yield [
            jump_cell(event, number),
            html.Cell(None, '') if cut is None else thumbnail_cell(cut),
            html.Cell(event.camera),
            *(html.Cell(round(s, 3), f'{s:.2f}') for s in seconds),
            html.Cell(event.frames),
            html.Cell(event.peak_score, f'{event.peak_score:.3f}'),
            html.Cell(event.peak_area),
            html.Cell(event.id),
            html.Cell(event.range, range_text(event)),
        ]


def range_text(event: Event) -> str:
    """Return the range of an event, with its standard deviation where it is known."""
    if event.range is None:
        return ''
    spread = '' if event.range_stddev is None else f' ± {event.range_stddev:.1f}'
    return f'{event.range:.1f}{spread}'


def _thumbnail(folder: Path, event: Event, frame_width: int) -> bytes | None:
    picture = _read(folder, event.camera, event.peak_index)
    if picture is None:
        return None
    return _jpeg(cut_out(picture, event.box, picture.shape[1] / frame_width))


def _pictures(
    folder: Path, cameras: Mapping[str, Timeline], events: Sequence[Event]
) -> dict[str, dict[int, str]]:
    """Return pictures by camera and frame: peaks of events, and frames evenly in between."""
    chosen: dict[str, set[int]] = {name: set() for name in cameras}
    for event in events[:_PEAKS]:
        chosen[event.camera].add(event.peak_index)
    room = (_PICTURES - sum(map(len, chosen.values()))) // max(len(cameras), 1)
    for name, camera in cameras.items():
        places = np.linspace(0, len(camera.index) - 1, min(room, len(camera.index)))
        chosen[name] |= {camera.index[round(place)] for place in places.tolist()}
    return {
        file_name(name): dict(_encoded(folder, name, sorted(indices)))
        for name, indices in chosen.items()
    }


def _encoded(folder: Path, camera: str, indices: Iterable[int]) -> Iterator[tuple[int, str]]:
    for index in indices:
        picture = _read(folder, camera, index)
        if picture is not None:
            yield index, html.data_uri(_jpeg(fit_within(picture, _PICTURE_SIZE)), 'image/jpeg')


def _read(folder: Path, camera: str, index: int) -> NDArray[np.uint8] | None:
    path = folder / file_name(camera) / f'{index:06}.jpg'
    image = cv2.imread(str(path)) if path.exists() else None
    return None if image is None else np.asarray(image[..., ::-1], np.uint8)


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    options = (cv2.IMWRITE_JPEG_QUALITY, _PICTURE_QUALITY)
    return bytes(cv2.imencode('.jpg', np.ascontiguousarray(image[..., ::-1]), options)[1])
