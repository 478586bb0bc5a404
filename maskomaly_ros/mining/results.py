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

"""The folder of the results of mining."""

from __future__ import annotations

import heapq
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maskomaly_ros.drives.find import Drive
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.mining.options import BagReport, MineOptions
from maskomaly_ros.parameters import with_defaults
from maskomaly_ros.replay import tables

FRAME_COLUMNS = {'bag': 'string', **tables.FRAME_COLUMNS}
EVENT_COLUMNS = tables.BAG_EVENT_COLUMNS  # `thumbnail` is there for the highest of all bags
BAG_COLUMNS = {
    'bag': 'string',
    'status': 'string',
    'frames': 'int64',
    'events': 'int64',
    'problems': 'int64',
    'reason': 'string',
    'attempts': 'int64',
    'seconds': 'float64',
    'host': 'string',
}
_WORK = '.mine'
_PARTS = f'{_WORK}/parts'


def lock_of(folder: Path) -> Path:
    """Return the file that is locked while a folder of results is written."""
    return folder / _WORK / 'lock'


def check_folder(folder: Path) -> None:
    """Raise MaskomalyError where a folder holds something else than results of mining."""
    is_new = not folder.exists() or (
        folder.is_dir() and all(entry.name == _WORK for entry in folder.iterdir())
    )
    if not (is_new or (folder / _WORK / 'identity.json').exists()):
        raise MaskomalyError(f'{folder} exists, and was not mined; give an empty folder')


class Results:
    """Parts in `.mine/parts`, one folder a drive, and what is joined from them."""

    def __init__(self, folder: Path, options: MineOptions) -> None:
        self.folder = folder
        self._parts = folder / _PARTS
        self._identity_file = folder / _WORK / 'identity.json'
        self._top = options.top
        piece = {} if options.piece.is_whole else asdict(options.piece)
        left_out = ('device', 'max_image_pixels', 'autostart', 'camera_topics')
        self.identity: dict[str, Any] = {
            'topics': options.topics,
            'rate': options.rate,
            'piece': piece,
            'top': options.top,
            'parameters': {
                name: value
                for name, value in with_defaults(options.parameters).items()
                if name not in left_out
            },
        }
        try:
            if options.restart:
                shutil.rmtree(self._parts, ignore_errors=True)
                self._identity_file.unlink(missing_ok=True)
            self._parts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MaskomalyError(f'cannot write {folder}: {error.strerror}') from error
        self.check()

    def check(self, **facts: Any) -> None:
        """Write down what the results are of; refuse what differs from earlier calls."""
        new = json.loads(json.dumps({**self.identity, **facts}))
        old = json.loads(self._identity_file.read_text()) if self._identity_file.exists() else {}
        changed = [name for name, value in new.items() if old.get(name, value) != value]
        if changed:
            raise MaskomalyError(
                f'{self.folder} was mined otherwise: '
                + ', '.join(f'{name} was {old[name]!r}, now {new[name]!r}' for name in changed)
                + '. Give another folder, or start again with --restart'
            )
        temporary = self._identity_file.with_suffix('.tmp')
        temporary.write_text(json.dumps(old | new, indent=1))
        temporary.replace(self._identity_file)

    def finished(self, drive: Drive) -> BagReport | None:
        """Return the report of a drive that was finished as it is now."""
        return finished_in(self.folder, drive)

    def add(self, drive: Drive, found: Mapping[str, Any]) -> None:
        """Keep what was found in a drive; all of it or nothing."""
        part, temporary = self._parts / drive.key, self._parts.with_name('part.tmp')
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for name in ('frames', 'events'):
            (temporary / f'{name}.parquet').write_bytes(found[name])
        for number, data in found['thumbnails'].items():
            (temporary / f'{number}.jpg').write_bytes(data)
        record = {'fingerprint': drive.fingerprint, 'report': asdict(found['report'])}
        (temporary / 'bag.json').write_text(json.dumps(record))
        shutil.rmtree(part, ignore_errors=True)
        temporary.replace(part)

    def join(self, failed: Iterable[BagReport]) -> None:
        """Write the tables and the thumbnails of all drives that are finished."""
        parts = sorted(path for path in self._parts.iterdir() if (path / 'bag.json').exists())
        pyarrow, parquet = tables.import_pyarrow()
        best = heapq.nlargest(
            self._top,
            (
                (score, area, number, part)
                for part in parts
                for score, area, number in _peaks(parquet, part)
            ),
        )
        names: dict[tuple[Path, int], str] = {}
        thumbnails = self.folder / 'thumbnails'
        fresh = self.folder / _WORK / 'thumbnails.tmp'
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        for rank, (score, _, number, part) in enumerate(best, start=1):
            picture = part / f'{number}.jpg'
            if picture.exists():
                name = f'{rank:04}_{score:.3f}.jpg'
                shutil.copyfile(picture, fresh / name)
                names[part, number] = f'thumbnails/{name}'
        shutil.rmtree(thumbnails, ignore_errors=True)
        fresh.replace(thumbnails)
        for name in ('frames', 'events'):
            columns = FRAME_COLUMNS if name == 'frames' else EVENT_COLUMNS
            schema = pyarrow.schema([(n, getattr(pyarrow, k)()) for n, k in columns.items()])
            temporary = self.folder / f'{name}.parquet.tmp'
            with parquet.ParquetWriter(temporary, schema) as writer:
                for part in parts:
                    for batch in parquet.ParquetFile(part / f'{name}.parquet').iter_batches():
                        table = pyarrow.Table.from_batches([batch], schema)
                        if name == 'events':
                            files = [names.get((part, n)) for n in table['event'].to_pylist()]
                            place = schema.get_field_index('thumbnail')
                            column = pyarrow.array(files, pyarrow.string())
                            table = table.set_column(place, schema.field(place), column)
                        writer.write_table(table)
            temporary.replace(self.folder / f'{name}.parquet')
        reports = [json.loads((p / 'bag.json').read_text())['report'] for p in parts]
        rows = {row['bag']: row for row in [*reports, *map(asdict, failed)]}
        temporary = self.folder / 'bags.parquet.tmp'
        tables.write_rows(temporary, BAG_COLUMNS, (rows[bag] for bag in sorted(rows)))
        temporary.replace(self.folder / 'bags.parquet')


def finished_in(folder: Path, drive: Drive) -> BagReport | None:
    """Return the report of a drive that was finished in a folder of results as it is now."""
    try:
        part = json.loads((folder / _PARTS / drive.key / 'bag.json').read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return BagReport(**part['report']) if part['fingerprint'] == drive.fingerprint else None


def _peaks(parquet: Any, part: Path) -> Iterator[tuple[float, int, int]]:
    columns = ['peak_score', 'peak_area', 'event']
    table = parquet.read_table(part / 'events.parquet', columns=columns)
    yield from zip(*(table[name].to_pylist() for name in columns), strict=True)
