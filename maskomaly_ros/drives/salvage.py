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

A recorder that loses power leaves no index and no metadata, so the files are read from the front.
A chunk that was cut off gives what comes before the cut; after a damaged one, a damaged record or
a damaged page, reading goes on behind it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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

from maskomaly_ros.drives.announced import Announced
from maskomaly_ros.drives.closing import Closing
from maskomaly_ros.drives.storage.chunks import unzstd
from maskomaly_ros.drives.storage.items import Damage, Item, Message, Topic, messages_text
from maskomaly_ros.drives.storage.mcap import read_mcap
from maskomaly_ros.drives.storage.records import ERRORS
from maskomaly_ros.drives.storage.ros1 import read_ros1
from maskomaly_ros.drives.storage.sqlite import read_sqlite
from maskomaly_ros.errors import MaskomalyError

if TYPE_CHECKING:
    from typing_extensions import Self


_OPEN: dict[str, Callable[..., Any]] = {
    '.zstd': zstandard.open, '.zst': zstandard.open, '.lz4': lz4.frame.open
}  # fmt: skip
_MAGIC: dict[bytes, Callable[[bytes], bytes]] = {
    b'\x28\xb5\x2f\xfd': unzstd, b'\x04\x22\x4d\x18': lz4.frame.decompress
}  # fmt: skip
_COPY_BYTES = 1 << 20


class Loss(NamedTuple):
    """Something that a bag has lost; `lost` counts messages by topic, as far as that is known."""

    reason: str
    lost: Mapping[str, int]


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


class SalvagedBag(Closing):
    """A damaged bag, in the shape of rosbags' AnyReader as far as `BagSource` needs it.

    Args:
        files: its storage files, in order.
        announced: what the bag says that it holds.

    Attributes:
        problems: what is wrong with the files, up to where `messages` has come.

    """

    def __init__(self, files: Sequence[Path], announced: Announced | None = None) -> None:
        self._files = list(files)
        self._counts = [0] * len(self._files)
        self._announced = announced or Announced()
        self._stack = ExitStack()
        self.connections: list[Connection] = []
        self.problems: list[Loss] = []
        self.is2 = True
        self.duration = 0
        self.typestore = get_typestore(Stores.ROS2_HUMBLE)

    def __enter__(self) -> Self:
        self.open()
        return self

    def open(self) -> None:
        """Look through the files for topics, and count their messages.

        Raises:
            MaskomalyError: no message is left.

        """
        self._counts = [self._announced.files.get(file.name, 0) for file in self._files]
        self._files = [self._unpacked(file) for file in self._files]
        self.is2 = not any(file.suffix == '.bag' for file in self._files)
        if not self.is2:
            self.typestore = get_typestore(Stores.ROS1_NOETIC)
        topics: dict[tuple[str, str], Topic] = {}
        counts: Counter[tuple[str, str]] = Counter()
        first, last = None, 0
        for file in self._files:
            names: dict[int, tuple[str, str]] = {}
            found: Counter[tuple[str, str]] = Counter()
            announced: dict[tuple[str, str], int] = {}
            for item in _read(file):
                if isinstance(item, Topic):
                    name = names[item.key] = item.topic, item.msgtype
                    topics.setdefault(name, item)
                    announced[name] = max(item.announced, announced.get(name, 0))
                elif isinstance(item, Message) and item.key in names:
                    found[names[item.key]] += 1
                    first = item.received_ns if first is None else min(first, item.received_ns)
                    last = max(last, item.received_ns)
                elif isinstance(item, Damage):
                    self.problems.append(Loss(f'{file.name}: {item.reason}', {}))
                    for key in item.lost.keys() & names.keys():
                        found[names[key]] += item.lost[key]
            for name in names.values():
                counts[name] += max(found[name], announced.get(name, 0))
                found[name] = announced[name] = 0  # two keys may be of one topic
        if first is None:
            reasons = '; '.join(loss.reason for loss in self.problems)
            raise MaskomalyError(reasons or 'they hold no messages')
        self.duration = last - first
        self.problems.clear()
        for topic in topics.values():
            self._learn(topic)
        for name, count in self._announced.counts.items():
            topics.setdefault(name, Topic(-1, *name, ''))
            counts[name] = max(counts[name], count)
        self.connections = [self._connection(t, counts[n]) for n, t in topics.items()]

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
        for file, count in zip(self._files, self._counts, strict=True):
            keys: dict[int, Connection] = {}
            names: dict[int, str] = {}
            item: Item | None = None
            for item in _read(file):
                count -= isinstance(item, Message)
                if isinstance(item, Topic):
                    names[item.key] = item.topic
                    if (item.topic, item.msgtype) in chosen:
                        keys[item.key] = chosen[item.topic, item.msgtype]
                elif isinstance(item, Message) and item.key in keys:
                    data = unpacked(item.data) if self.is2 else item.data
                    yield keys[item.key], item.received_ns, data
                elif isinstance(item, Damage):
                    lost: Counter[str] = Counter()
                    for key, count in item.lost.items():
                        lost[names.get(key, '')] += count
                    self.problems.append(Loss(f'{file.name}: {item.reason}', lost))
            if isinstance(item, Damage) and count > 0:  # the file does not end well
                reason = f'{self.problems[-1].reason}; {messages_text(count)} of it are missing'
                self.problems[-1] = self.problems[-1]._replace(reason=reason)

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

    def _learn(self, topic: Topic) -> None:
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
            self.problems.append(Loss(f'definition of {topic.msgtype}: {error}', {}))

    def _connection(self, topic: Topic, count: int) -> Connection:
        extra: Any = ConnectionExtRosbag1(None, None)
        if self.is2:
            extra = ConnectionExtRosbag2('cdr', list(topic.qos))
        definition = MessageDefinition(MessageDefinitionFormat.MSG, topic.definition)
        return Connection(
            topic.key, topic.topic, topic.msgtype, definition, '', count, extra, None
        )


def unpacked(data: bytes) -> bytes:
    """Return a message of ROS 2, which the recorder may have compressed by itself: no CDR then.

    One that cannot be decompressed stays as it is: reading it as a picture says what is wrong.
    """
    unpack = _MAGIC.get(bytes(data[:4]))
    if unpack is None:
        return data
    try:
        return unpack(data)
    except Exception:  # of a kind that depends on the compression
        return data


def _read(file: Path) -> Iterator[Item]:
    """Yield what a storage file holds; the last item is damage where it does not end well."""
    try:
        if file.suffix == '.db3':
            yield from read_sqlite(file)
        else:
            with file.open('rb') as stream:
                yield from (read_mcap if file.suffix == '.mcap' else read_ros1)(stream)
    except (OSError, EOFError) as error:
        yield Damage(str(error))
    except ERRORS as error:
        yield Damage(f'what follows is no record: {type(error).__name__}: {error}')
