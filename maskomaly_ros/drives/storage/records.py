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

"""What every storage file consists of, and how to go on inside a chunk that is damaged."""

from __future__ import annotations

import bz2
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import lz4.frame  # type: ignore[import-untyped, unused-ignore]
import zstandard

# What reading a damaged record may raise.
ERRORS = (EOFError, IndexError, KeyError, OverflowError, ValueError, struct.error)


class Topic(NamedTuple):
    """A topic of a file; its key is what messages refer to it by.

    `announced` is the number of messages that the file announces, 0 where it does not say.
    """

    key: int
    topic: str
    msgtype: str
    definition: str
    qos: Any = ()
    announced: int = 0


class Message(NamedTuple):
    """A message of a file."""

    key: int
    received_ns: int
    data: bytes


class Damage(NamedTuple):
    """Something that was lost, and by key how many messages; reading goes on, or has ended."""

    reason: str
    lost: Mapping[int, int] = {}


Item = Topic | Message | Damage


def unzstd(data: bytes) -> bytes:
    """Return what zstd compressed; of data that was cut off, what comes before the cut."""
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    '': bytes, 'none': bytes, 'zstd': unzstd,
    'lz4': lz4.frame.decompress, 'bz2': bz2.decompress,
}  # fmt: skip
# Of data that was cut off: what comes before the cut.
DECOMPRESS_START: dict[str, Callable[[bytes], bytes]] = {
    '': bytes, 'none': bytes, 'zstd': unzstd,
    'lz4': lambda data: bytes(lz4.frame.LZ4FrameDecompressor().decompress(data)),
    'bz2': lambda data: bz2.BZ2Decompressor().decompress(data),
}  # fmt: skip


class CutError(EOFError):
    """The file ends inside a record."""

    def __init__(self, place: int) -> None:
        super().__init__(f'cut off at byte {place}')


def take(stream: BinaryIO, size: int) -> bytes:
    """Read so many bytes; raise CutError where there are fewer."""
    place = stream.tell()
    data = stream.read(min(size, remaining(stream)))
    if len(data) < size:
        raise CutError(place + len(data))
    return data


def remaining(stream: BinaryIO) -> int:
    """Return how many bytes a file has from here: a damaged length may claim any number."""
    place = stream.tell()
    end = stream.seek(0, 2)
    stream.seek(place)
    return max(0, end - place)


def chunk_items(
    content: bytes,
    index: Mapping[int, Sequence[int]],
    parse: Callable[[bytes, int], tuple[Item | None, int]],
    name: str,
) -> Iterator[Item]:
    """Yield what a chunk holds; after a damaged record, go on at the next message of its index.

    Args:
        content: of the chunk, uncompressed.
        index: places of the messages of each key; empty where the chunk has no index.
        parse: returns what is at a place, and where the next record begins.
        name: of the chunk, for problems.

    """
    owners = {place: key for key, places in index.items() for place in places}
    starts = sorted(owners)
    lost = {key: len(places) for key, places in index.items()}
    place, following, first_error = 0, 0, ''
    while place < len(content):
        while following < len(starts) and starts[following] <= place:
            following += 1
        limit = starts[following] if following < len(starts) else len(content)
        try:
            item, end = parse(content, place)
            if end > limit:
                raise ValueError(f'the record at byte {place} runs into the next one')
            if isinstance(item, Message) and owners.get(place, item.key) != item.key:
                raise ValueError(f'the message at byte {place} is not of its topic')
        except ERRORS as error:
            first_error = first_error or f'{type(error).__name__}: {error}'
            if following == len(starts):
                break
            place = limit
            continue
        if isinstance(item, Message) and item.key in lost:
            lost[item.key] -= 1
        if item is not None:
            yield item
        place = end
    lost = {key: count for key, count in lost.items() if count > 0}
    if first_error or lost:
        missing = f', with {messages_text(sum(lost.values()))}' if lost else ''
        yield Damage(
            f'part of {name} is lost{missing}: {first_error or "records are missing"}', lost
        )


def messages_text(count: int) -> str:
    """Return a number of messages in words."""
    return f'{count} message' if count == 1 else f'{count} messages'
