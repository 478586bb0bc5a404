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

"""MCAP files (https://mcap.dev/spec), record by record."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import Any, BinaryIO

from maskomaly_ros.drives.storage.chunks import (
    Summary,
    chunk_items,
    cut_chunk_items,
    decompress,
    decompress_start,
)
from maskomaly_ros.drives.storage.items import Damage, Item, Message, Topic
from maskomaly_ros.drives.storage.records import ERRORS, CutError, remaining, take

_MAGIC = b'\x89MCAP0\r\n'
_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _MESSAGE_INDEX = 0x03, 0x04, 0x05, 0x06, 0x07
_FOOTER, _CHUNK_INDEX, _STATISTICS, _DATA_END = 0x02, 0x08, 0x0B, 0x0F
_HEAD = struct.Struct('<BQ')
_FOOTER_BYTES = 37
# Where a record of the data section may begin: its length is below 4 GiB.
_LIKELY = re.compile(rb'[\x03-\x07][\s\S]{4}\0{4}')
_END_OF_DATA = b'\x0f\x04' + bytes(7)  # without its checksum
_WINDOW, _LONGEST_SUMMARY = 1 << 20, 1 << 26

_Schemas = dict[int, tuple[str, str]]


@dataclass
class _Summary(Summary):
    schemas: _Schemas = field(default_factory=dict)


def read_mcap(stream: BinaryIO) -> Iterator[Item]:
    """Yield what an MCAP file holds, topics that its summary knows first."""
    if take(stream, 8) != _MAGIC:
        yield Damage('it does not begin like an MCAP file')
    summary = _read_summary(stream)
    yield from summary.announced()
    summary.keep_chunks(partial(_begins_chunk, stream))
    stream.seek(8)
    yield from _records(stream, summary)


def _read_summary(stream: BinaryIO) -> _Summary:
    """Read the summary; it is empty where the file has none that is whole."""
    with suppress(*ERRORS, OSError):
        end = stream.seek(-_FOOTER_BYTES, 2)
        kind, _, start, _, checksum, magic = struct.unpack('<BQQQI8s', take(stream, _FOOTER_BYTES))
        if kind != _FOOTER or magic != _MAGIC or not start:
            return _Summary()
        for place in (start, _after_data(stream, end)):
            with suppress(*ERRORS, OSError):
                stream.seek(place)
                content = take(stream, end + 25 - place)  # with the footer up to its checksum
                if not checksum or zlib.crc32(content) == checksum:
                    return _summary(content[:-25])
    return _Summary()


def _after_data(stream: BinaryIO, end: int) -> int:
    """Return where the summary begins if not where the footer says, as bytes are missing."""
    begin = stream.seek(max(0, end - _LONGEST_SUMMARY))
    return begin + stream.read().rindex(_END_OF_DATA) + len(_END_OF_DATA) + 4


def _summary(content: bytes) -> _Summary:
    summary = _Summary()
    place = 0
    while place < len(content):
        kind, size = _HEAD.unpack_from(content, place)
        record = BytesIO(content[place + 9 : place + 9 + size])
        place += 9 + size
        if kind in (_SCHEMA, _CHANNEL):
            topic = _definition(kind, record, summary.schemas)
            if topic:
                summary.topics[topic.key] = topic
        elif kind == _CHUNK_INDEX:
            summary.chunks.append(_numbers(record, '<QQQ')[2])
        elif kind == _STATISTICS:
            record.seek(42)
            (length,) = _numbers(record, '<I')
            summary.counts = dict(struct.iter_unpack('<HQ', take(record, length)))
        elif not 0 < kind < 0x80:
            raise ValueError(f'opcode {kind}')
    return summary


def _begins_chunk(stream: BinaryIO, place: int) -> bool:
    with suppress(*ERRORS, OSError):
        stream.seek(place)
        kind, size = _HEAD.unpack(take(stream, 9))
        return kind == _CHUNK and _is_chunk(stream, size)
    return False


def _records(stream: BinaryIO, summary: _Summary) -> Iterator[Item]:
    parse = partial(_parse, summary.schemas)
    while True:
        place = stream.tell()
        head = stream.read(9)
        if len(head) < 9:
            raise CutError(place + len(head))
        kind, size = _HEAD.unpack(head)
        limit = summary.next_chunk(place)
        if kind in (_FOOTER, _DATA_END) and limit is None:
            return
        there, begin = remaining(stream), stream.tell()
        is_sound = 0 < kind <= _DATA_END and kind not in (_FOOTER, _DATA_END)
        if limit is not None:
            is_sound &= begin + size <= limit
        if not is_sound or size > there:
            again = limit
            if limit is None and kind == _CHUNK and _is_chunk(stream, size):
                stream.seek(begin)
                yield from cut_chunk_items(partial(_read_cut_chunk, stream), parse)
            elif limit is None:
                again = _next_record(stream, place + 1)
            if again is None:
                if not is_sound:
                    raise ValueError(f'opcode {kind} at byte {place}')
                raise CutError(begin + there)
            yield Damage(f'bytes {place} to {again} are no records')
            stream.seek(again)
            continue
        content = take(stream, size)
        try:
            if kind == _CHUNK:
                index = _message_index(stream)
                yield from chunk_items(partial(_read_chunk, content), index, parse, place + 9)
            else:
                item = _item(kind, content, summary.schemas)
                if item:
                    yield item
        except ERRORS as error:
            yield Damage(f'the record at byte {place} is lost: {type(error).__name__}: {error}')


def _next_record(stream: BinaryIO, place: int) -> int | None:
    """Return where the next record begins after a damaged one, judged by those that follow it."""
    end = stream.seek(0, 2)
    while place < end:
        stream.seek(place)
        window = stream.read(_WINDOW)
        for match in _LIKELY.finditer(window):
            if _is_chain(stream, place + match.start(), end):
                return place + match.start()
        place += max(1, len(window) - 8)
    return None


def _is_chain(stream: BinaryIO, place: int, end: int) -> bool:
    for _ in range(3):
        stream.seek(place)
        head = stream.read(9)
        if len(head) < 9:
            return False
        kind, size = _HEAD.unpack(head)
        if kind in (_FOOTER, _DATA_END):
            return size in (4, 20)
        if not _SCHEMA <= kind <= _DATA_END or size < 2 or place + 9 + size > end:
            return False
        place += 9 + size
    return True


def _item(kind: int, content: bytes, schemas: _Schemas) -> Topic | Message | None:
    record = BytesIO(content)
    if kind == _MESSAGE:
        key, _, received_ns, _ = _numbers(record, '<HIQQ')
        return Message(key, received_ns, record.read())
    return _definition(kind, record, schemas) if kind in (_SCHEMA, _CHANNEL) else None


def _definition(kind: int, record: BinaryIO, schemas: _Schemas) -> Topic | None:
    """Note a schema, or return the topic of a channel."""
    if kind == _SCHEMA:
        (key,) = _numbers(record, '<H')
        name, _ = _text(record), _text(record)
        schemas[key] = name, _text(record)
        return None
    key, schema = _numbers(record, '<HH')
    topic, _ = _text(record), _text(record)
    msgtype, definition = schemas.get(schema, ('', ''))
    return Topic(key, topic, msgtype, definition, _qos(record))


def _parse(schemas: _Schemas, data: bytes, start: int) -> tuple[Item | None, int]:
    kind, size = _HEAD.unpack_from(data, start)
    end = start + 9 + size
    if not _SCHEMA <= kind <= _MESSAGE or end > len(data):
        raise ValueError(f'opcode {kind} at byte {start} of the chunk')
    return _item(kind, data[start + 9 : end], schemas), end


def _read_chunk(record: bytes) -> bytes:
    stream = BytesIO(record)
    _, _, length, checksum = _numbers(stream, '<QQQI')
    compression = _text(stream)
    (packed,) = _numbers(stream, '<Q')
    content = decompress(compression, take(stream, packed))
    if len(content) != length or (checksum and zlib.crc32(content) != checksum):
        raise ValueError('wrong checksum')
    return content


def _read_cut_chunk(stream: BinaryIO) -> bytes:
    _numbers(stream, '<QQQI')
    compression = _text(stream)
    _numbers(stream, '<Q')
    return decompress_start(compression, stream.read())


def _is_chunk(stream: BinaryIO, size: int) -> bool:
    """Return whether a chunk of so many bytes says the same of its content, before a cut."""
    try:
        _numbers(stream, '<QQQI')
        length = len(_text(stream).encode())
        return bool(_numbers(stream, '<Q')[0] == size - length - 40)
    except ERRORS:
        return False


def _message_index(stream: BinaryIO) -> dict[int, list[int]]:
    """Read the index that follows a chunk: places of the messages of each channel."""
    index: dict[int, list[int]] = {}
    while True:
        place = stream.tell()
        head = stream.read(9)
        if len(head) < 9 or head[0] != _MESSAGE_INDEX:
            break
        size = _HEAD.unpack(head)[1]
        if size > remaining(stream):
            break
        try:
            record = BytesIO(take(stream, size))
            key, length = _numbers(record, '<HI')
            entries = struct.iter_unpack('<QQ', take(record, length))
            index.setdefault(key, []).extend(offset for _, offset in entries)
        except ERRORS:
            break
    stream.seek(place)
    return index


def _qos(record: BinaryIO) -> Any:
    from rosbags.rosbag2.metadata import parse_qos

    (size,) = _numbers(record, '<I')
    end = record.tell() + size
    while record.tell() < end:
        name, value = _text(record), _text(record)
        if name == 'offered_qos_profiles' and value:
            return tuple(parse_qos(value))
    return ()


def _numbers(stream: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(layout, take(stream, struct.calcsize(layout)))


def _text(stream: BinaryIO) -> str:
    (size,) = _numbers(stream, '<I')
    return take(stream, size).decode(errors='replace')
