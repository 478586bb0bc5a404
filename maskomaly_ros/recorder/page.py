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

"""The page of a folder of recordings: the table and the viewer of a drive's page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np

from maskomaly_ros import html
from maskomaly_ros.recorder.catalogue import PICTURE, Catalogue, Recording
from maskomaly_ros.replay.events import Event
from maskomaly_ros.replay.page import (
    Timeline,
    jump_cell,
    range_text,
    render_page,
    thumbnail_cell,
)
from maskomaly_ros.replay.thumbnails import THUMBNAIL_SIZE
from maskomaly_ros.topics import file_name

ASKED_FOR = 'asked for'
_MOST = 1000  # recordings, the newest

_COLUMNS = [
    html.Column('event', numeric=True, help='by time'),
    html.Column('picture'),
    html.Column('camera'),
    html.Column('recording'),
    html.Column('time UTC'),
    html.Column('seconds', numeric=True, help='length of the recording'),
    html.Column('MB', numeric=True, help='of the recording'),
    html.Column('peak score', numeric=True),
    html.Column('area px', numeric=True, help='largest area'),
    html.Column('id', numeric=True, help='of the obstacle, as in the bag'),
    html.Column('nearest m', numeric=True, help='where a place is known'),
    html.Column('novelty', numeric=True, help='distance from what was kept before'),
    html.Column('seen again', numeric=True, help='how often, without a recording of its own'),
    html.Column('cause'),
    html.Column('remarks'),
]


def utc(stamp_ns: int) -> str:
    """Return a time in words."""
    return f'{datetime.fromtimestamp(stamp_ns / 1e9, tz=timezone.utc):%Y-%m-%d %H:%M:%S}'


def remarks(recording: Recording, *, is_pinned: bool) -> str:
    """Return what is special about a recording."""
    found = ['pinned'] * is_pinned + ['interrupted'] * recording.is_interrupted
    found += [recording.cut] * bool(recording.cut)
    found += [f'{recording.lost} messages lost'] * bool(recording.lost)
    return ', '.join(found)


def write_page(catalogue: Catalogue, recordings: Sequence[Recording], path: Path) -> None:
    """Write the page of some recordings of a folder.

    Raises:
        MaskomalyError: it cannot be written.

    """
    shown = [
        (recording, replace(event, peak_index=number))
        for number, (recording, event) in enumerate(
            (r, e) for r in recordings[-_MOST:] for e in r.events or (_asked_for(r),)
        )
    ]
    start_ns = min((event.start_ns for _, event in shown), default=0)
    cameras: dict[str, Timeline] = {}
    pictures: dict[str, dict[int, str]] = {}
    for recording, event in shown:
        camera = cameras.setdefault(event.camera, Timeline(event.camera, 1))
        camera.seen += 1
        camera.index.append(event.peak_index)
        camera.seconds.append(round((event.peak_ns - start_ns) / 1e9, 3))
        camera.score.append(round(event.peak_score, 4))
        camera.area.append(event.peak_area)
        camera.obstacles.append(len(recording.events))
        data = _picture(catalogue, recording)
        if data is not None:
            own = pictures.setdefault(file_name(event.camera), {})
            own[event.peak_index] = html.data_uri(data, 'image/jpeg')
    seconds = sum(r.seconds for r in recordings)
    size = sum(r.size for r in recordings)
    text = render_page(
        title=f'Events of {catalogue.folder.name}',
        subtitle=f'{len(recordings)} recordings, {seconds:.0f} s, {size / 1e6:.0f} MB',
        cameras=cameras,
        events=[event for _, event in shown],
        event_count=len(shown),
        columns=_COLUMNS,
        rows=_rows(catalogue, shown),
        pictures=pictures,
        start_ns=start_ns,
        point='event',
    )
    html.write(path, text)


def _asked_for(recording: Recording) -> Event:
    """Return a recording without obstacles as an event."""
    cause = recording.causes[0].received_ns if recording.causes else recording.start_ns
    return Event(
        0, ASKED_FOR, recording.start_ns, recording.end_ns, -1, -1, 0, 0.0, 0, -1, cause,
        (0, 0, 0, 0),
    )  # fmt: skip


def _rows(
    catalogue: Catalogue, shown: Sequence[tuple[Recording, Event]]
) -> Iterator[list[html.Cell]]:
    for number, (recording, event) in enumerate(shown):
        data = _picture(catalogue, recording)
        found = bool(event.frames)
        cause = recording.causes[0] if recording.causes else None
        yield [
            jump_cell(event, number),
            html.Cell(None, '') if data is None else thumbnail_cell(_small(data)),
            html.Cell(event.camera),
            html.Cell(recording.name),
            html.Cell(utc(event.peak_ns)),
            html.Cell(round(recording.seconds, 1)),
            html.Cell(round(recording.size / 1e6, 1)),
            html.Cell(event.peak_score if found else None, f'{event.peak_score:.3f}' * found),
            html.Cell(event.peak_area if found else None),
            html.Cell(event.id if found else None),
            html.Cell(event.range, range_text(event)),
            html.Cell(round(recording.novelty, 3)),
            html.Cell(catalogue.sightings(recording.name).count),
            html.Cell('' if cause is None else f'{cause.kind}: {cause.reason}'),
            html.Cell(remarks(recording, is_pinned=catalogue.is_pinned(recording.name))),
        ]


def _picture(catalogue: Catalogue, recording: Recording) -> bytes | None:
    try:
        return (catalogue.folder / recording.name / PICTURE).read_bytes()
    except OSError:  # it has none, or was deleted meanwhile
        return None


def _small(data: bytes) -> bytes:
    """Return a JPEG in the shape of thumbnails."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return data
    wide, tall = THUMBNAIL_SIZE
    scale = max(wide / image.shape[1], tall / image.shape[0])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    left, top = (image.shape[1] - wide) // 2, (image.shape[0] - tall) // 2
    return bytes(cv2.imencode('.jpg', image[top : top + tall, left : left + wide])[1])
