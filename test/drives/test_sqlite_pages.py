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

"""SQLite files are read around damage: what is left is right, in order, and found quickly."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskomaly_ros.drives.storage import sqlite_pages
from maskomaly_ros.drives.storage.items import Damage, Message
from maskomaly_ros.drives.storage.sqlite import read_sqlite
from maskomaly_ros.drives.storage.sqlite_pages import Damaged, Pages, Row

_PAGE = 4096
_TOPICS = frozenset((1, 2))


def write(file: Path, sizes: list[int]) -> list[Row]:
    """Write rows as rosbag2 does."""
    rows = [
        Row(number, 1 + number % 2, number * 10**9, number.to_bytes(4, 'big') * (size // 4))
        for number, size in enumerate(sizes, 1)
    ]
    with sqlite3.connect(file) as database:
        database.execute(
            'CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, '
            'serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL)'
        )
        database.execute(
            'CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, '
            'timestamp INTEGER NOT NULL, data BLOB NOT NULL)'
        )
        database.execute('CREATE INDEX timestamp_idx ON messages (timestamp ASC)')
        for key in (1, 2):
            database.execute(
                "INSERT INTO topics VALUES (?, ?, 'std_msgs/msg/String', 'cdr', '')",
                (key, f'/topic{key}'),
            )
        for row in rows:
            database.execute('INSERT INTO messages VALUES (?, ?, ?, ?)', row)
    database.close()
    return rows


def root_of(file: Path) -> int:
    with sqlite3.connect(file) as database:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'messages'"
        return int(database.execute(query).fetchone()[0])


def pages_of(file: Path, root: int) -> list[Row | Damaged]:
    with file.open('rb') as stream:
        return list(Pages(stream.fileno(), root, _TOPICS).rows())


@settings(max_examples=15)
@given(sizes=st.lists(st.integers(0, 20_000), min_size=1, max_size=40))
def test_rows_are_those_that_were_written(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    file = tmp_path_factory.mktemp('bag') / 'x.db3'
    rows = write(file, sizes)
    assert pages_of(file, root_of(file)) == rows


@pytest.fixture(scope='module')
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row], int]:
    """Write 3000 rows in leaves below several branches, and some that go on in other pages."""
    file = tmp_path_factory.mktemp('bag') / 'x.db3'
    rows = write(file, [9000 if number % 50 == 0 else 1200 for number in range(3000)])
    return file, rows, root_of(file)


@settings(max_examples=40)
@given(data=st.data())
def test_damaged_pages_cost_no_more_than_what_they_hold(
    recording: tuple[Path, list[Row], int], data: st.DataObject
) -> None:
    whole, rows, root = recording
    content = bytearray(whole.read_bytes())
    count = len(content) // _PAGE
    for number in data.draw(st.lists(st.integers(2, count), min_size=1, max_size=4, unique=True)):
        place = (number - 1) * _PAGE + data.draw(st.sampled_from((0, 3, 8, 200, 2000)))
        content[place : place + 64] = data.draw(st.binary(min_size=64, max_size=64))
    file = whole.with_name('spoiled.db3')
    file.write_bytes(content)
    found = [row for row in pages_of(file, root) if isinstance(row, Row)]
    assert [row.id for row in found] == sorted({row.id for row in found})
    exact = sum(row == rows[row.id - 1] for row in found if row.id <= len(rows))
    # A leaf holds three rows; a page inside a picture spoils that one, perhaps without a trace.
    assert exact >= len(rows) - 4 * 4


def test_branches_may_be_lost(recording: tuple[Path, list[Row], int]) -> None:
    whole, rows, root = recording
    content = bytearray(whole.read_bytes())
    branches = [p for p in range(0, len(content), _PAGE) if content[p] == 0x05]
    assert len(branches) >= 3
    for place in branches:
        content[place : place + 100] = b'\xff' * 100
    file = whole.with_name('branches.db3')
    file.write_bytes(content)
    assert [row for row in pages_of(file, root) if isinstance(row, Row)] == rows


@pytest.mark.parametrize('share', [0.1, 0.5, 0.9])
def test_cut_file_is_read_with_few_questions(
    recording: tuple[Path, list[Row], int], monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """It took a question for each row behind the cut, and each of them a look at many pages."""
    whole, rows, _ = recording
    content = whole.read_bytes()
    file = whole.with_name('cut.db3')
    file.write_bytes(content[: int(share * len(content))])
    asked = 0
    read = os.pread

    def pread(*arguments: int) -> bytes:
        nonlocal asked
        asked += 1
        return read(*arguments)

    monkeypatch.setattr(sqlite_pages.os, 'pread', pread)  # type: ignore[attr-defined]
    items = list(read_sqlite(file))
    messages = [item for item in items if isinstance(item, Message)]
    assert [m.data for m in messages] == [row.data for row in rows[: len(messages)]]
    assert len(messages) > 0.9 * share * len(rows)
    assert isinstance(items[-1], Damage)
    assert 'cut off' in items[-1].reason
    assert asked < 3 * len(content) // _PAGE
