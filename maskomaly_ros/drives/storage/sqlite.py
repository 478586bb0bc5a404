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

"""SQLite files of rosbag2."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from maskomaly_ros.drives.storage.items import Damage, Item, Message, Topic
from maskomaly_ros.drives.storage.sqlite_pages import Damaged, Pages


def read_sqlite(file: Path) -> Iterator[Item]:
    """Yield what a file holds, also behind pages that are damaged."""
    from rosbags.rosbag2.metadata import parse_qos

    database = sqlite3.connect(f'{file.absolute().as_uri()}?immutable=1', uri=True)
    try:
        # Lets SQLite open a file that is shorter than its header says.
        database.execute('PRAGMA writable_schema=ON')
        columns = [row[1] for row in database.execute('PRAGMA table_info(topics)')]
        query = 'SELECT id, name, type FROM topics'
        if 'offered_qos_profiles' in columns:
            query = 'SELECT id, name, type, offered_qos_profiles FROM topics'
        topics = database.execute(query).fetchall()
        for key, topic, msgtype, *profiles in topics:
            qos = tuple(parse_qos(profiles[0])) if profiles else ()
            yield Topic(key, topic, msgtype, _definitions(database).get(msgtype, ''), qos)
        (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'")
        with file.open('rb') as stream:
            yield from _items(Pages(stream.fileno(), root[0], {topic[0] for topic in topics}))
    except sqlite3.Error as error:
        raise EOFError(f'it cannot be read further: {error}') from error
    finally:
        database.close()


def _definitions(database: sqlite3.Connection) -> dict[str, str]:
    try:
        query = 'SELECT topic_type, encoded_message_definition FROM message_definitions'
        return dict(database.execute(query))
    except sqlite3.Error:  # recordings from before Iron have none
        return {}


def _items(pages: Pages) -> Iterator[Item]:
    """Yield messages, and between them, by the ids that are missing, what was lost."""
    last, reason = 0, ''
    lost: Counter[int] = Counter()
    for row in pages.rows():
        if isinstance(row, Damaged):
            reason = reason or row.reason
        elif row.data is None:
            reason = reason or 'the pages that it goes on in are damaged'
            lost[row.topic] += 1
        else:
            if reason and row.id > last + 1:
                yield Damage(f'{_rows_text(last + 1, row.id - 1)} cannot be read: {reason}', lost)
            last, reason, lost = row.id, '', Counter()
            yield Message(row.topic, row.timestamp, row.data)
    if reason:
        yield Damage(f'rows after {last} cannot be read: {reason}', lost)


def _rows_text(first: int, last: int) -> str:
    return f'row {first}' if first == last else f'rows {first} to {last}'
