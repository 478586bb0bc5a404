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

"""The messages of an SQLite file of rosbag2, page by page (https://sqlite.org/fileformat2.html).

SQLite itself gives up a query at the first page that is damaged, and would have to be asked for
each row behind it. Here the tree of pages is followed around the damage, and leaves whose branch
is lost are looked for in the whole file.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import NamedTuple

_LEAF, _BRANCH = 0x0D, 0x05
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}  # bytes of a type of integer
_LARGEST = 2**63 - 1


class Row(NamedTuple):
    """A message; `data` is None where it cannot be read."""

    id: int
    topic: int
    timestamp: int
    data: bytes | None


class Damaged(NamedTuple):
    """Something between two rows that cannot be read, which may have held rows."""

    reason: str


class Pages:
    """The table of messages in an open file.

    Args:
        file: descriptor of the file.
        root: number of the first page of the table, from 1.
        topics: ids that rows may have as their topic.

    Raises:
        ValueError: this is no SQLite file.

    """

    def __init__(self, file: int, root: int, topics: Collection[int]) -> None:
        head = os.pread(file, 100, 0)
        if len(head) < 100 or not head.startswith(b'SQLite format 3\0'):
            raise ValueError('it does not begin like an SQLite file')
        (size,) = struct.unpack_from('>H', head, 16)
        self._size = 65536 if size == 1 else size
        self._usable = self._size - head[20]
        if self._size < 512 or self._usable < 480:
            raise ValueError(f'pages of {self._size} bytes')
        self._file, self._root, self._topics = file, root, topics
        (self._announced,) = struct.unpack_from('>I', head, 28)
        self._count = os.fstat(file).st_size // self._size  # a page that was cut off is none
        self._seen: set[int] = set()
        self._leaves: list[tuple[int, int, int]] | None = None

    def rows(self) -> Iterator[Row | Damaged]:
        """Yield rows by rising id, and between them what is damaged."""
        self._seen.clear()
        yield from self._walk(self._root, -1, _LARGEST)

    def _walk(self, number: int, low: int, high: int) -> Iterator[Row | Damaged]:
        """Yield what is below a page, which holds ids above `low`, and up to `high`."""
        try:
            page = self._page(number)
            if number in self._seen:
                raise ValueError('is part of a circle')
            if page[0] == _LEAF:
                cells = self._cells(page)
                if not any(low < key <= high for key in self._ids(page, cells)):
                    raise ValueError('holds none of the rows that belong there')
            elif page[0] == _BRANCH:
                children = self._children(page)
            else:
                raise ValueError('is no page of a table')
            self._seen.add(number)
        except (ValueError, IndexError, struct.error) as error:
            yield Damaged(f'page {number} {error}')
            yield from self._lost_leaves(low, high)
            return
        if page[0] == _LEAF:
            yield from self._rows(number, page, cells, low, high)
            return
        for child, last in children:
            # A key out of order is damaged, and bounds nothing.
            bound = last if low < last <= high else high
            yield from self._walk(child, low, bound)
            low = last if bound == last else low

    def _lost_leaves(self, low: int, high: int) -> Iterator[Row | Damaged]:
        """Yield the rows of leaves that no branch leads to any more."""
        if self._leaves is None:
            self._leaves = sorted(self._find_leaves())
        for first, last, number in self._leaves:
            if low < first and last <= high and number not in self._seen:
                self._seen.add(number)
                page = self._page(number)
                yield from self._rows(number, page, self._cells(page), low, high)
                low = last

    def _find_leaves(self) -> Iterator[tuple[int, int, int]]:
        """Yield the first and last id, and the number, of each page that is a leaf of messages."""
        for number in range(2, self._count + 1):
            if os.pread(self._file, 1, (number - 1) * self._size) != bytes([_LEAF]):
                continue
            page = self._page(number)
            with suppress(ValueError, struct.error):
                cells = self._cells(page)
                ids = list(self._ids(page, cells))
                # What merely looks like a leaf is a piece of a picture.
                if ids and len(ids) == len(cells) and ids == sorted(set(ids)):
                    yield ids[0], ids[-1], number

    def _page(self, number: int) -> bytes:
        if not 1 <= number <= self._count:
            is_cut = self._count < number <= self._announced
            raise ValueError('was cut off' if is_cut else 'lies behind the end of the file')
        return os.pread(self._file, self._size, (number - 1) * self._size)

    def _cells(self, page: bytes) -> tuple[int, ...]:
        """Return where the cells of a page begin; raises ValueError where that cannot be."""
        (count,) = struct.unpack_from('>H', page, 3)
        start = 12 if page[0] == _BRANCH else 8
        places = struct.unpack_from(f'>{count}H', page, start)
        if any(not start + 2 * count <= place < self._usable for place in places):
            raise ValueError('has cells outside of it')
        return places

    def _ids(self, page: bytes, cells: tuple[int, ...]) -> Iterator[int]:
        """Yield the ids of those cells of a leaf that are messages."""
        for place in cells:
            with suppress(ValueError, IndexError, struct.error):
                yield self._row(page, place, whole=False).id

    def _children(self, page: bytes) -> list[tuple[int, int]]:
        """Return the pages below a branch, each with its highest id."""
        children = []
        for place in self._cells(page):
            (child,) = struct.unpack_from('>I', page, place)
            children.append((child, _varint(page, place + 4)[0]))
        (child,) = struct.unpack_from('>I', page, 8)
        return [*children, (child, _LARGEST)]

    def _rows(
        self, number: int, page: bytes, cells: tuple[int, ...], low: int, high: int
    ) -> Iterator[Row | Damaged]:
        for place in cells:
            try:
                row = self._row(page, place)
                if not low < row.id <= high:
                    raise ValueError(f'row {row.id} is out of order')
            except (ValueError, IndexError, struct.error) as error:
                yield Damaged(f'page {number}: {error}')
                continue
            low = row.id
            yield row

    def _row(self, page: bytes, place: int, whole: bool = True) -> Row:
        """Read a row; raises ValueError where it is none. Without `whole`, `data` is None."""
        size, place = _varint(page, place)
        key, place = _varint(page, place)
        if size > self._count * self._size:
            raise ValueError(f'row {key} has {size} bytes')
        # The part of a row that lies in the page of the tree, section 1.6.
        local, most = size, self._usable - 35
        if size > most:
            least = (self._usable - 12) * 32 // 255 - 23
            local = least + (size - least) % (self._usable - 4)
            local = local if local <= most else least
        record = page[place : place + local]
        if len(record) < local:
            raise ValueError(f'row {key} runs out of its page')
        length, begin = _varint(record, 0)
        types = []
        while begin < length:
            kind, begin = _varint(record, begin)
            types.append(kind)
        is_message = (
            len(types) == 4
            and types[0] == 0
            and types[1] in _INTEGERS
            and types[2] in _INTEGERS
            and types[3] >= 12
            and types[3] % 2 == 0
        )
        if not is_message or begin != length:
            raise ValueError(f'row {key} is no message')
        topic, begin = _integer(record, begin, types[1])
        timestamp, begin = _integer(record, begin, types[2])
        if topic not in self._topics or begin + (types[3] - 12) // 2 != size:
            raise ValueError(f'row {key} is no message')
        data = None
        if whole:
            data = record[begin:]
            if local < size:
                rest = self._overflow(page, place + local, size - local)
                data = data + rest if rest is not None else None
        return Row(key, topic, timestamp, data)

    def _overflow(self, page: bytes, place: int, size: int) -> bytes | None:
        """Return so many bytes from the chain of pages that a cell goes on in; None if broken."""
        parts = []
        (number,) = struct.unpack_from('>I', page, place)
        while size > 0:
            if not 1 <= number <= self._count:
                return None
            content = self._page(number)
            (number,) = struct.unpack_from('>I', content)
            parts.append(content[4 : min(self._usable, 4 + size)])
            size -= len(parts[-1])
        return b''.join(parts) if number == 0 else None


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return a number of 1 to 9 bytes, and where the next one begins."""
    value = 0
    for index in range(8):
        byte = data[place + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + index + 1
    return value << 8 | data[place + 8], place + 9


def _integer(data: bytes, place: int, kind: int) -> tuple[int, int]:
    if kind in (8, 9):
        return kind - 8, place
    end = place + _INTEGERS[kind]
    if end > len(data):
        raise ValueError('a row ends too early')
    return int.from_bytes(data[place:end], 'big', signed=True), end
