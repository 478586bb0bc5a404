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

"""Bags of ROS 1 (https://wiki.ros.org/Bags/Format/2.0), record by record."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import BinaryIO

from maskomaly_ros.drives.storage.chunks import (
    Summary,
    chunk_items,
    cut_chunk_items,
    decompress,
    decompress_start,
)
from maskomaly_ros.drives.storage.items import Damage, Item, Message, Topic
from maskomaly_ros.drives.storage.records import ERRORS, CutError, remaining, take

_MESSAGE, _BAG, _INDEX, _CHUNK, _CHUNK_INFO, _CONNECTION = 0x02, 0x03, 0x04, 0x05, 0x06, 0x07
_KINDS = frozenset((_MESSAGE, _BAG, _INDEX, _CHUNK, _CHUNK_INFO, _CONNECTION))

# Records found by a field of their header; those of the first kind stand at the end of a bag, and
# none of either kind, but connections, inside a chunk.
_AT_END = re.compile(rb'op=[\x06\x07]')
_OUTSIDE_CHUNKS = re.compile(rb'op=[\x05\x06]')
_LONGEST_HEADER, _LONGEST_INDEX, _WINDOW = 4096, 1 << 26, 1 << 20

_Fields = dict[str, bytes]


def read_ros1(stream: BinaryIO) -> Iterator[Item]:
    """Yield what a bag holds, topics that its index knows first."""
    if not stream.readline(32).startswith(b'#ROSBAG V2.0'):
        yield Damage('it does not begin like a ROS 1 bag')
    start = stream.tell()
    summary = _read_index(stream)
    yield from summary.announced()
    summary.keep_chunks(partial(_is_chunk, stream))
    stream.seek(start)
    yield from _records(stream, summary)


def _read_index(stream: BinaryIO) -> Summary:
    """Read the index, also if it is not where the bag says."""
    for place in _index_places(stream):
        index = Summary()
        with suppress(*ERRORS, OSError):
            stream.seek(place)
            while remaining(stream):
                _note(index, *_record(stream))
            return index
    return Summary()


def _index_places(stream: BinaryIO) -> Iterator[int]:
    with suppress(*ERRORS, OSError):
        yield int.from_bytes(_record(stream)[0]['index_pos'], 'little') or stream.seek(0, 2)
    yield from _starts(stream, max(0, stream.seek(0, 2) - _LONGEST_INDEX), _AT_END)


def _note(index: Summary, header: _Fields, data: bytes) -> None:
    if header['op'][0] == _CONNECTION:
        topic = _topic(header, data)
        index.topics[topic.key] = topic
    elif header['op'][0] == _CHUNK_INFO:
        index.chunks.append(int.from_bytes(header['chunk_pos'], 'little'))
        for key, count in struct.iter_unpack('<II', data):
            index.counts[key] = index.counts.get(key, 0) + count
    else:
        raise ValueError('no record of an index')


def _is_chunk(stream: BinaryIO, place: int) -> bool:
    with suppress(*ERRORS, OSError):
        stream.seek(place)
        return _fields(take(stream, *struct.unpack('<I', take(stream, 4))))['op'] == b'\x05'
    return False


def _starts(stream: BinaryIO, place: int, kinds: re.Pattern[bytes]) -> Iterator[int]:
    """Yield where records of some kinds begin, found by their field `op`."""
    end = stream.seek(0, 2)
    while place < end:
        stream.seek(place)
        window = stream.read(_WINDOW)
        for match in kinds.finditer(window):
            at = match.start()
            for start in range(at - 8, max(-1, at - _LONGEST_HEADER), -1):
                (size,) = struct.unpack_from('<I', window, start)
                if at - start <= size <= _LONGEST_HEADER:
                    with suppress(*ERRORS):
                        fields = _fields(window[start + 4 : start + 4 + size])
                        if fields.get('op') == match[0][3:]:
                            yield place + start
                            break
        if place + len(window) >= end:
            return
        place += len(window) - _LONGEST_HEADER


def _records(stream: BinaryIO, summary: Summary) -> Iterator[Item]:
    while remaining(stream):
        place = begin = stream.tell()
        limit = summary.next_chunk(place)
        header: _Fields = {}
        try:
            (size,) = struct.unpack('<I', take(stream, 4))
            header = _fields(take(stream, size))
            (size,) = struct.unpack('<I', take(stream, 4))
            begin = stream.tell()
            if header['op'][0] not in _KINDS:
                raise ValueError(f'op {header["op"][0]}')
            if limit is not None and begin + size > limit:
                raise ValueError('the record runs into the next chunk')
            data = take(stream, size)
        except ERRORS as error:
            reason = f'{type(error).__name__}: {error}'
            again = limit or next(_starts(stream, place + 4, _OUTSIDE_CHUNKS), None)
            if again is None:
                if not isinstance(error, CutError):
                    raise ValueError(f'byte {place}: {reason}') from error
                if header.get('op', b'\0')[0] == _CHUNK:
                    stream.seek(begin)
                    yield from cut_chunk_items(partial(_read_cut_chunk, header, stream), _parse)
                raise
            yield Damage(f'bytes {place} to {again} are no records: {reason}')
            stream.seek(again)
            continue
        try:
            if header['op'][0] == _CHUNK:
                index = _index(stream)
                yield from chunk_items(
                    partial(_read_chunk, header, data), index, _parse, place + 4
                )
            else:
                item = _item(header, data)
                if item:
                    yield item
        except ERRORS as error:
            yield Damage(f'the record at byte {place} is lost: {type(error).__name__}: {error}')


def _item(header: _Fields, data: bytes) -> Topic | Message | None:
    kind = header['op'][0]
    if kind == _MESSAGE:
        key, seconds, nanoseconds = struct.unpack('<III', header['conn'] + header['time'])
        return Message(key, seconds * 1_000_000_000 + nanoseconds, data)
    return _topic(header, data) if kind == _CONNECTION else None


def _topic(header: _Fields, data: bytes) -> Topic:
    fields = {name: value.decode(errors='replace') for name, value in _fields(data).items()}
    package, _, name = fields['type'].rpartition('/')
    return Topic(
        int.from_bytes(header['conn'], 'little'),
        header['topic'].decode(errors='replace'),
        f'{package}/msg/{name}',
        fields.get('message_definition', ''),
    )


def _read_chunk(header: _Fields, data: bytes) -> bytes:
    return decompress(header['compression'].decode(), data)


def _read_cut_chunk(header: _Fields, stream: BinaryIO) -> bytes:
    return decompress_start(header['compression'].decode(), stream.read())


def _parse(data: bytes, start: int) -> tuple[Item | None, int]:
    (size,) = struct.unpack_from('<I', data, start)
    begin = start + 4 + size
    header = _fields(data[start + 4 : begin])
    (size,) = struct.unpack_from('<I', data, begin)
    end = begin + 4 + size
    if end > len(data) or header['op'][0] not in (_MESSAGE, _CONNECTION):
        raise ValueError(f'no record at byte {start} of the chunk')
    return _item(header, data[begin + 4 : end]), end


def _index(stream: BinaryIO) -> dict[int, list[int]]:
    """Read the index that follows a chunk: places of the messages of each connection."""
    index: dict[int, list[int]] = {}
    while True:
        place = stream.tell()
        try:
            header, data = _record(stream)
            if header['op'][0] != _INDEX:
                break
            key = int.from_bytes(header['conn'], 'little')
            places = [offset for *_, offset in struct.iter_unpack('<III', data)]
        except ERRORS:
            break
        index.setdefault(key, []).extend(places)
    stream.seek(place)
    return index


def _record(stream: BinaryIO) -> tuple[_Fields, bytes]:
    header = _fields(take(stream, *struct.unpack('<I', take(stream, 4))))
    return header, take(stream, *struct.unpack('<I', take(stream, 4)))


def _fields(data: bytes) -> _Fields:
    fields, place = {}, 0
    while place < len(data):
        (size,) = struct.unpack_from('<I', data, place)
        name, _, value = data[place + 4 : place + 4 + size].partition(b'=')
        fields[name.decode()] = value
        place += 4 + size
    return fields
