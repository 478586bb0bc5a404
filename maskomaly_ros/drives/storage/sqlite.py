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

"""SQLite files of rosbag2, row by row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from maskomaly_ros.drives.storage.records import Damage, Item, Message, Topic

# So many rows that cannot be read one after the other are the end.
_HOPELESS = 10_000


def read_sqlite(file: Path) -> Iterator[Item]:
    """Yield what a file holds; after a page that is damaged, go on with the next row."""
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
        yield from _rows(database)
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


def _rows(database: sqlite3.Connection) -> Iterator[Item]:
    query = 'SELECT id, topic_id, timestamp, data FROM messages '
    last = 0
    while True:
        try:
            for row in database.execute(query + 'WHERE id > ? ORDER BY id', (last,)):
                last = row[0]
                yield _message(row[1:])
            return
        except sqlite3.Error as error:
            begin, reason = last + 1, str(error)
        found = None
        for last in range(begin, begin + _HOPELESS):
            try:
                found = database.execute(query + 'WHERE id = ?', (last,)).fetchone()
            except sqlite3.Error:
                continue
            if found is not None:
                break
        if found is None:
            raise EOFError(f'it cannot be read further than row {begin - 1}: {reason}')
        if last > begin:
            yield Damage(f'rows {begin} to {last - 1} cannot be read: {reason}')
        yield _message(found[1:])


def _message(row: tuple[object, ...]) -> Message | Damage:
    key, received_ns, data = row
    if isinstance(key, int) and isinstance(received_ns, int) and isinstance(data, bytes):
        return Message(key, received_ns, data)
    return Damage('a row holds no message')
