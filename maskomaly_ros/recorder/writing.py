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

"""A recording while it is written: a rosbag2 (MCAP) of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.recorder.decoding import typestore

_MOST_DEFINITION = 1 << 20  # bytes of the definition of one type


@dataclass(frozen=True)
class Topic:
    """A topic that is recorded.

    Attributes:
        name: fully qualified.
        msgtype: such as `sensor_msgs/msg/Image`.
        qos: what its publishers offer (`rosbags.interfaces.Qos`).
        is_latched: a late subscriber is given its last messages.

    """

    name: str
    msgtype: str
    qos: tuple[Any, ...] = ()
    is_latched: bool = False


class BagWriter:
    """Writes messages to a new bag.

    What is handed over goes to the file in chunks of a megabyte, each of which can be read by
    itself: a process that is killed loses the last one at most.

    Args:
        folder: is made, and is the bag.
        compresses: whether chunks are compressed, by zstd.

    Raises:
        OSError: the folder cannot be made.

    """

    def __init__(self, folder: Path, *, compresses: bool = False) -> None:
        from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

        typestore()  # says what is missing
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        if compresses:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self.folder = folder
        self._connections: dict[str, Any] = {}
        self.first_ns: int | None = None
        self.last_ns = 0
        self.counts: dict[str, int] = {}

    @property
    def file(self) -> Path:
        """The file of the bag."""
        return self.folder / f'{self.folder.name}.mcap'

    @property
    def size(self) -> int:
        """Bytes of the file so far."""
        return self.file.stat().st_size

    def write(self, topic: Topic, data: bytes, received_ns: int) -> None:
        """Append a message.

        Raises:
            MaskomalyError: nothing defines its type.
            OSError: the disk does not take it.

        """
        connection = self._connections.get(topic.name)
        if connection is None:
            define(topic.msgtype)
            connection = self._connections[topic.name] = self._writer.add_connection(
                topic.name,
                topic.msgtype,
                typestore=typestore(),
                offered_qos_profiles=list(topic.qos),
            )
        self._writer.write(connection, received_ns, data)
        self.first_ns = received_ns if self.first_ns is None else min(self.first_ns, received_ns)
        self.last_ns = max(self.last_ns, received_ns)
        self.counts[topic.name] = self.counts.get(topic.name, 0) + 1

    def close(self) -> None:
        """Complete the bag, down to the disk.

        Raises:
            OSError: the disk does not take it.

        """
        self._writer.close()
        for path in self.folder.iterdir():
            sync(path)

    def abort(self) -> None:
        """Let go of a bag that cannot be completed."""
        with suppress(Exception):  # a full disk is one reason to be here
            self._writer.abort()


def sync(path: Path) -> None:
    """Let what was written to a file or a folder reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def define(msgtype: str) -> None:
    """Make the definition of a type known: a standard one, or one that ROS has installed.

    Raises:
        MaskomalyError: nothing defines it.

    """
    store = typestore()
    if msgtype in store.fielddefs:
        return
    from rosbags.typesys import get_types_from_msg

    try:
        types = get_types_from_msg(_installed_definition(msgtype), msgtype)
        store.register({k: v for k, v in types.items() if k not in store.fielddefs})
        for _, fields in types.values():
            for inner in _named(fields):
                define(inner)
    except MaskomalyError:
        raise
    except Exception as error:  # of the parser of definitions
        raise MaskomalyError(f'the definition of {msgtype} cannot be read: {error}') from error


def _installed_definition(msgtype: str) -> str:
    package, kind, name = msgtype.split('/')
    try:
        from ament_index_python.packages import get_package_share_directory

        path = Path(get_package_share_directory(package)) / kind / f'{name}.msg'
        if path.stat().st_size > _MOST_DEFINITION:
            raise MaskomalyError(f'{path} has more than {_MOST_DEFINITION} bytes')
        return path.read_text(encoding='utf-8')
    except (ImportError, LookupError, OSError, ValueError) as error:
        raise MaskomalyError(f'nothing defines the type {msgtype}: {error}') from error


def _named(fields: Iterable[Any]) -> set[str]:
    """Return the types that the fields of a type have."""
    found = set()
    for _, (node, detail) in fields:
        if node.name == 'NAME':
            found.add(detail)
        elif node.name in ('ARRAY', 'SEQUENCE') and detail[0][0].name == 'NAME':
            found.add(detail[0][1])
    return found


def complete(file: Path, folder: Path) -> BagWriter | None:
    """Write what is left of a bag that was not completed to a new one, and close it.

    Args:
        file: MCAP, cut off anywhere.
        folder: of the new bag.

    Returns:
        The writer, closed; None where nothing is left.

    Raises:
        OSError: the disk does not take it.

    """
    from maskomaly_ros.drives.salvage import SalvagedBag

    try:
        bag = SalvagedBag([file])
        bag.open()
    except MaskomalyError:  # not one message
        return None
    writer = BagWriter(folder)
    try:
        with bag:
            topics = {
                c.topic: Topic(c.topic, c.msgtype, tuple(c.ext.offered_qos_profiles))
                for c in bag.connections
            }
            for connection, received_ns, data in bag.messages(bag.connections):
                writer.write(topics[connection.topic], bytes(data), received_ns)
        writer.close()
    except Exception:
        writer.abort()
        raise
    return writer
