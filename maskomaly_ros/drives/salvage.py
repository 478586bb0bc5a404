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

"""Bags that were cut off or damaged: whatever messages their files still hold.

A recorder that loses power leaves no index and no metadata, so the files are read from the front:
MCAP (https://mcap.dev/spec) record by record, SQLite row by row, ROS 1
(https://wiki.ros.org/Bags/Format/2.0) record by record. A chunk that was cut off gives what comes
before the cut; one that is damaged inside costs that chunk.
"""

from __future__ import annotations

import bz2
import shutil
import sqlite3
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import lz4.frame  # type: ignore[import-untyped, unused-ignore]
import zstandard
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag1,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from maskomaly_ros.errors import MaskomalyError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


def _unzstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


_OPEN: dict[str, Callable[..., Any]] = {
    '.zstd': zstandard.open, '.zst': zstandard.open, '.lz4': lz4.frame.open
}  # fmt: skip
_DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    '': bytes, 'none': bytes, 'zstd': _unzstd,
    'lz4': lz4.frame.decompress, 'bz2': bz2.decompress,
}  # fmt: skip
# Of data that was cut off: what comes before the cut.
_DECOMPRESS_START: dict[str, Callable[[bytes], bytes]] = {
    '': bytes, 'none': bytes, 'zstd': _unzstd,
    'lz4': lambda data: bytes(lz4.frame.LZ4FrameDecompressor().decompress(data)),
    'bz2': lambda data: bz2.BZ2Decompressor().decompress(data),
}  # fmt: skip
_MAGIC: dict[bytes, Callable[[bytes], bytes]] = {
    b'\x28\xb5\x2f\xfd': _unzstd, b'\x04\x22\x4d\x18': lz4.frame.decompress
}  # fmt: skip
_COPY_BYTES = 1 << 20


class _Topic(NamedTuple):
    """A topic of a file; its key is what messages refer to it by."""

    key: int
    topic: str
    msgtype: str
    definition: str
    qos: Any = ()


class _Message(NamedTuple):
    key: int
    received_ns: int
    data: bytes


class _Damage(NamedTuple):
    """Something that was lost; reading went on after it, or ended."""

    reason: str


_Item = _Topic | _Message | _Damage


def storage_files(files: Sequence[Path]) -> list[Path]:
    """Return the storage files of a bag in order; files may name its folder."""
    kinds = {'.mcap', '.db3', '.bag'}
    found = []
    for path in files:
        inside = sorted(path.iterdir(), key=_part_number) if path.is_dir() else [path]
        for file in inside:
            suffix = Path(file.stem).suffix if file.suffix in _OPEN else file.suffix
            if suffix in kinds:
                found.append(file)
    return found


def _part_number(file: Path) -> tuple[int, str]:
    digits = file.name.partition('.')[0].rpartition('_')[2]
    return (int(digits) if digits.isdecimal() else -1, file.name)


class SalvagedBag:
    """A damaged bag, in the shape of rosbags' AnyReader as far as `BagSource` needs it.

    Args:
        files: its storage files, in order.

    Attributes:
        problems: what is wrong with the files, known once `messages` has come to its end.

    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(files)
        self._stack = ExitStack()
        self.connections: list[Connection] = []
        self.problems: list[str] = []
        self.is2 = True
        self.duration = 0
        self.typestore = get_typestore(Stores.ROS2_HUMBLE)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """Look through the files for topics, and count their messages.

        Raises:
            MaskomalyError: no message is left.

        """
        self._files = [self._unpacked(file) for file in self._files]
        self.is2 = not any(file.suffix == '.bag' for file in self._files)
        if not self.is2:
            self.typestore = get_typestore(Stores.ROS1_NOETIC)
        topics: dict[tuple[str, str], _Topic] = {}
        counts: dict[tuple[str, str], int] = {}
        first, last = None, 0
        for file in self._files:
            names = {}
            for item in _read(file):
                if isinstance(item, _Topic):
                    names[item.key] = item.topic, item.msgtype
                    topics.setdefault(names[item.key], item)
                elif isinstance(item, _Message) and item.key in names:
                    counts[names[item.key]] = counts.get(names[item.key], 0) + 1
                    first = item.received_ns if first is None else min(first, item.received_ns)
                    last = max(last, item.received_ns)
                elif isinstance(item, _Damage):
                    self.problems.append(f'{file.name}: {item.reason}')
        if first is None:
            raise MaskomalyError('; '.join(self.problems) or 'they hold no messages')
        self.duration = last - first
        self.problems.clear()
        for topic in topics.values():
            self._learn(topic)
        self.connections = [self._connection(t, counts.get(n, 0)) for n, t in topics.items()]

    def close(self) -> None:
        """Remove temporary files."""
        self._stack.close()

    def deserialize(self, data: bytes, msgtype: str) -> object:
        """Return a message."""
        if self.is2:
            return self.typestore.deserialize_cdr(data, msgtype)
        return self.typestore.deserialize_ros1(data, msgtype)

    def messages(
        self, connections: Sequence[Connection]
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield the messages of some topics in the order in which they were written."""
        chosen = {(c.topic, c.msgtype): c for c in connections}
        self.problems.clear()
        for file in self._files:
            keys: dict[int, Connection] = {}
            for item in _read(file):
                if isinstance(item, _Topic) and (item.topic, item.msgtype) in chosen:
                    keys[item.key] = chosen[item.topic, item.msgtype]
                elif isinstance(item, _Message) and item.key in keys:
                    data = unpacked(item.data) if self.is2 else item.data
                    yield keys[item.key], item.received_ns, data
                elif isinstance(item, _Damage):
                    self.problems.append(f'{file.name}: {item.reason}')

    def _unpacked(self, file: Path) -> Path:
        """Return a file that was compressed as a whole, as far as it can be decompressed."""
        if file.suffix not in _OPEN:
            return file
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        unpacked = folder / file.stem
        with unpacked.open('wb') as target:
            try:
                with _OPEN[file.suffix](file, 'rb') as packed:
                    shutil.copyfileobj(packed, target, _COPY_BYTES)
            except (OSError, EOFError, RuntimeError, zstandard.ZstdError) as error:
                if target.tell() == 0:
                    raise MaskomalyError(f'{file.name}: {error}') from error
        return unpacked

    def _learn(self, topic: _Topic) -> None:
        """Add the definition of a type to what is known."""
        if not topic.definition:
            return
        try:
            if topic.definition.startswith('=' * 80 + '\nIDL: '):
                types: dict[str, Any] = {}
                for part in topic.definition.split('=' * 80 + '\n')[1:]:
                    types |= get_types_from_idl(part.partition('\n')[2])
            else:
                types = dict(get_types_from_msg(topic.definition, topic.msgtype))
            known = self.typestore.fielddefs
            self.typestore.register({k: v for k, v in types.items() if k not in known})
        except Exception as error:  # a damaged definition; standard types need none
            self.problems.append(f'definition of {topic.msgtype}: {error}')

    def _connection(self, topic: _Topic, count: int) -> Connection:
        extra: Any = ConnectionExtRosbag1(None, None)
        if self.is2:
            extra = ConnectionExtRosbag2('cdr', list(topic.qos))
        definition = MessageDefinition(MessageDefinitionFormat.MSG, topic.definition)
        return Connection(
            topic.key, topic.topic, topic.msgtype, definition, '', count, extra, None
        )


def unpacked(data: bytes) -> bytes:
    """Return a message of ROS 2, which the recorder may have compressed by itself: no CDR then."""
    unpack = _MAGIC.get(bytes(data[:4]))
    return unpack(data) if unpack else data


def _read(file: Path) -> Iterator[_Item]:
    """Yield what a storage file holds; the last item is damage where it does not end well."""
    try:
        if file.suffix == '.db3':
            yield from _read_sqlite(file)
        else:
            with file.open('rb') as stream:
                yield from (_read_mcap if file.suffix == '.mcap' else _read_ros1)(stream)
    except (OSError, EOFError) as error:
        yield _Damage(str(error))
    except (struct.error, ValueError, KeyError, IndexError) as error:
        yield _Damage(f'what follows is no record: {type(error).__name__}: {error}')


def _take(stream: BinaryIO, size: int) -> bytes:
    place = stream.tell()
    data = stream.read(size)
    if len(data) < size:
        raise EOFError(f'cut off at byte {place + len(data)}')
    return data


def _numbers(stream: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(layout, _take(stream, struct.calcsize(layout)))


def _text(stream: BinaryIO) -> str:
    (size,) = _numbers(stream, '<I')
    return _take(stream, size).decode(errors='replace')


# --- MCAP --------------------------------------------------------------------------------------

_MCAP_MAGIC = b'\x89MCAP0\r\n'


def _read_mcap(stream: BinaryIO) -> Iterator[_Item]:
    if _take(stream, 8) != _MCAP_MAGIC:
        raise EOFError('it does not begin like an MCAP file')
    yield from _mcap_records(stream, {})


def _mcap_records(stream: BinaryIO, schemas: dict[int, tuple[str, str]]) -> Iterator[_Item]:
    while True:
        head = stream.read(9)
        if not head and isinstance(stream, BytesIO):
            return
        if len(head) < 9:
            raise EOFError(f'cut off at byte {stream.tell()}')
        kind, size = struct.unpack('<BQ', head)
        if kind in (0x02, 0x0F):  # footer, end of data: complete
            return
        if kind not in (0x03, 0x04, 0x05, 0x06):
            if kind == 0 or size > 2**40:
                raise ValueError(f'opcode {kind} at byte {stream.tell() - 9}')
            _take(stream, size)
            continue
        place = stream.tell()
        content = stream.read(size)
        record, is_cut = BytesIO(content), len(content) < size
        if is_cut and kind != 0x06:
            raise EOFError(f'cut off at byte {stream.tell()}')
        if kind == 0x03:
            (key,) = _numbers(record, '<H')
            name, _ = _text(record), _text(record)
            schemas[key] = name, _text(record)
        elif kind == 0x04:
            key, schema = _numbers(record, '<HH')
            topic, _ = _text(record), _text(record)
            msgtype, definition = schemas.get(schema, ('', ''))
            yield _Topic(key, topic, msgtype, definition, _mcap_qos(record))
        elif kind == 0x05:
            key, _, received_ns, _ = _numbers(record, '<HIQQ')
            yield _Message(key, received_ns, record.read())
        else:
            _, _, length, checksum = _numbers(record, '<QQQI')
            compression = _text(record)
            (packed,) = _numbers(record, '<Q')
            if is_cut:
                with suppress(EOFError):
                    start = _DECOMPRESS_START[compression](record.read())
                    yield from _mcap_records(BytesIO(start), schemas)
                raise EOFError(f'cut off at byte {stream.tell()}')
            try:
                content = _DECOMPRESS[compression](_take(record, packed))
                if len(content) != length or (checksum and zlib.crc32(content) != checksum):
                    raise ValueError('wrong checksum')
            except Exception as error:  # of a kind that depends on the compression
                lost = _mcap_lost(stream)
                yield _Damage(f'the chunk at byte {place} is lost{lost}: {error}')
            else:
                yield from _mcap_records(BytesIO(content), schemas)


def _mcap_qos(record: BinaryIO) -> Any:
    from rosbags.rosbag2.metadata import parse_qos

    (size,) = _numbers(record, '<I')
    end = record.tell() + size
    while record.tell() < end:
        name, value = _text(record), _text(record)
        if name == 'offered_qos_profiles' and value:
            return tuple(parse_qos(value))
    return ()


def _mcap_lost(stream: BinaryIO) -> str:
    """Say how many messages a chunk had, by the index that follows it."""
    lost = 0
    while True:
        place = stream.tell()
        head = stream.read(9)
        if len(head) < 9 or head[0] != 0x07:
            stream.seek(place)
            return f' with {lost} messages' if lost else ''
        (size,) = struct.unpack('<Q', head[1:])
        lost += (len(stream.read(size)) - 6) // 16


# --- SQLite ------------------------------------------------------------------------------------


def _read_sqlite(file: Path) -> Iterator[_Item]:
    from rosbags.rosbag2.metadata import parse_qos

    database = sqlite3.connect(f'file:{file}?immutable=1', uri=True)
    try:
        # Lets SQLite open a file that is shorter than its header says.
        database.execute('PRAGMA writable_schema=ON')
        columns = [row[1] for row in database.execute('PRAGMA table_info(topics)')]
        query = 'SELECT id, name, type FROM topics'
        if 'offered_qos_profiles' in columns:
            query = 'SELECT id, name, type, offered_qos_profiles FROM topics'
        topics = database.execute(query).fetchall()
        tables = {row[0] for row in database.execute('SELECT name FROM sqlite_master')}
        definitions = {}
        if 'message_definitions' in tables:
            query = 'SELECT topic_type, encoded_message_definition FROM message_definitions'
            definitions = dict(database.execute(query))
        for key, topic, msgtype, *profiles in topics:
            qos = tuple(parse_qos(profiles[0])) if profiles else ()
            yield _Topic(key, topic, msgtype, definitions.get(msgtype, ''), qos)
        rows = database.execute('SELECT topic_id, timestamp, data FROM messages ORDER BY id')
        yield from (_Message(*row) for row in rows)
    except sqlite3.Error as error:
        raise EOFError(f'it cannot be read further: {error}') from error
    finally:
        database.close()


# --- ROS 1 -------------------------------------------------------------------------------------


def _read_ros1(stream: BinaryIO) -> Iterator[_Item]:
    if not stream.readline(32).startswith(b'#ROSBAG V2.0'):
        raise EOFError('it does not begin like a ROS 1 bag')
    yield from _ros1_records(stream)


def _ros1_records(stream: BinaryIO) -> Iterator[_Item]:
    while True:
        start = stream.read(4)
        if not start:
            return
        if len(start) < 4:
            raise EOFError(f'cut off at byte {stream.tell()}')
        place = stream.tell()
        header = _ros1_fields(_take(stream, *struct.unpack('<I', start)))
        (size,) = _numbers(stream, '<I')
        data = stream.read(size)
        kind = header['op'][0]
        if len(data) < size:
            if kind == 0x05:
                with suppress(EOFError):
                    begun = _DECOMPRESS_START[header['compression'].decode()](data)
                    yield from _ros1_records(BytesIO(begun))
            raise EOFError(f'cut off at byte {stream.tell()}')
        if kind == 0x02:
            key, seconds, nanoseconds = struct.unpack('<III', header['conn'] + header['time'])
            yield _Message(key, seconds * 1_000_000_000 + nanoseconds, data)
        elif kind == 0x07:
            fields = {name: value.decode(errors='replace') for name, value in
                      _ros1_fields(data).items()}  # fmt: skip
            package, _, name = fields['type'].rpartition('/')
            yield _Topic(
                int.from_bytes(header['conn'], 'little'),
                header['topic'].decode(errors='replace'),
                f'{package}/msg/{name}',
                fields.get('message_definition', ''),
            )
        elif kind == 0x05:
            try:
                content = _DECOMPRESS[header['compression'].decode()](data)
            except Exception as error:  # of a kind that depends on the compression
                yield _Damage(f'the chunk at byte {place} is lost: {error}')
            else:
                yield from _ros1_records(BytesIO(content))


def _ros1_fields(data: bytes) -> dict[str, bytes]:
    fields, place = {}, 0
    while place < len(data):
        (size,) = struct.unpack_from('<I', data, place)
        name, _, value = data[place + 4 : place + 4 + size].partition(b'=')
        fields[name.decode()] = value
        place += 4 + size
    return fields
