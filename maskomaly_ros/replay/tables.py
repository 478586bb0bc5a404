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

"""Tables of a replay: one row a frame, and one row an event."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.replay.events import Event, events_of
from maskomaly_ros.replay.journal import FrameRecord, Journal

# Names and types of Parquet; CSV has the same columns.
FRAME_COLUMNS = {
    'index': 'int64',
    'camera': 'string',
    'stamp_ns': 'int64',
    'name': 'string',
    'width': 'int32',
    'height': 'int32',
    'max_score': 'float64',
    'mean_score': 'float64',
    'obstacles': 'int32',
    'area': 'int64',
    'range_m': 'float64',
    'decode_s': 'float64',
    'network_s': 'float64',
    'scoring_s': 'float64',
    'write_s': 'float64',
}
EVENT_COLUMNS = {
    'camera': 'string',
    'start_ns': 'int64',
    'end_ns': 'int64',
    'start_index': 'int64',
    'end_index': 'int64',
    'frames': 'int64',
    'peak_score': 'float64',
    'peak_area': 'int64',
    'peak_index': 'int64',
    'peak_ns': 'int64',
    'x': 'int32',
    'y': 'int32',
    'width': 'int32',
    'height': 'int32',
    'id': 'int64',
    'range_m': 'float64',
    'range_stddev_m': 'float64',
}
# Of many drives; `event` numbers those of one bag, and `thumbnail` is a file.
BAG_EVENT_COLUMNS = {
    'bag': 'string', 'event': 'int64', **EVENT_COLUMNS, 'thumbnail': 'string'
}  # fmt: skip
_ROWS_AT_ONCE = 10_000


def frame_row(frame: FrameRecord) -> dict[str, Any]:
    """Return a frame as a row."""
    row = {name: getattr(frame, name) for name in list(FRAME_COLUMNS)[:8]}
    row |= {'obstacles': len(frame.obstacles), 'area': frame.area}
    row['range_m'] = _metres(
        min((o.range for o in frame.obstacles if o.range is not None), default=None)
    )
    return row | {f'{name}_s': value for name, value in frame.seconds.items()}


def event_row(event: Event) -> dict[str, Any]:
    """Return an event as a row."""
    row = {name: getattr(event, name) for name in list(EVENT_COLUMNS)[:10]}
    row |= dict(zip(('x', 'y', 'width', 'height'), event.box, strict=True))
    return row | {
        'id': event.id,
        'range_m': _metres(event.range),
        'range_stddev_m': _metres(event.range_stddev),
    }


def _metres(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def write_csv(journal: Journal, folder: Path) -> None:
    """Write `frames.csv` and `events.csv`."""
    for name, columns, rows in _tables(journal):
        temporary = folder / f'{name}.csv.tmp'
        with temporary.open('w', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        temporary.replace(folder / f'{name}.csv')


def write_parquet(journal: Journal, folder: Path) -> None:
    """Write `frames.parquet` and `events.parquet`.

    Raises:
        MaskomalyError: pyarrow is not installed.

    """
    for name, columns, rows in _tables(journal):
        temporary = folder / f'{name}.parquet.tmp'
        write_rows(temporary, columns, rows)
        temporary.replace(folder / f'{name}.parquet')


def write_rows(path: Path, columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a Parquet file.

    Args:
        path: of the file.
        columns: type in pyarrow by name.
        rows: values by name; what is left out is null.

    Raises:
        MaskomalyError: pyarrow is not installed.

    """
    pyarrow, parquet = import_pyarrow()
    schema = pyarrow.schema([(n, getattr(pyarrow, kind)()) for n, kind in columns.items()])
    rows = iter(rows)
    with parquet.ParquetWriter(path, schema) as writer:
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            writer.write_table(pyarrow.Table.from_pylist(batch, schema))


def import_pyarrow() -> tuple[Any, Any]:
    """Return the modules pyarrow and pyarrow.parquet.

    Raises:
        MaskomalyError: pyarrow is not installed.

    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MaskomalyError('writing Parquet needs pyarrow: pip install pyarrow') from error
    return pyarrow, parquet


def _tables(journal: Journal) -> Iterable[tuple[str, dict[str, str], Iterator[dict[str, Any]]]]:
    yield 'frames', FRAME_COLUMNS, (frame_row(frame) for frame in journal.frames())
    yield 'events', EVENT_COLUMNS, map(event_row, events_of(journal))
