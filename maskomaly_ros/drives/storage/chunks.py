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

"""Chunks of records, compressed as one: where they begin, and what a damaged one still holds."""

from __future__ import annotations

import bz2
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import lz4.frame  # type: ignore[import-untyped, unused-ignore]
import zstandard

from maskomaly_ros.drives.storage.items import Damage, Item, Message, Topic, messages_text
from maskomaly_ros.drives.storage.records import ERRORS

# Returns what is at a place of the content of a chunk, and where the next record begins.
Parse = Callable[[bytes, int], tuple[Item | None, int]]


@dataclass
class Summary:
    """What stands at the end of a file that was closed; empty where that is not whole.

    Attributes:
        topics: by their keys.
        counts: of messages, by the same keys.
        chunks: where chunks begin.

    """

    topics: dict[int, Topic] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    chunks: list[int] = field(default_factory=list)

    def announced(self) -> Iterator[Topic]:
        """Yield the topics with the numbers of their messages."""
        for key, topic in self.topics.items():
            yield topic._replace(announced=self.counts.get(key, 0))

    def keep_chunks(self, is_chunk: Callable[[int], bool]) -> None:
        """Keep only places where chunks begin: where bytes are missing, later ones are wrong."""
        self.chunks = [place for place in sorted(set(self.chunks)) if is_chunk(place)]

    def next_chunk(self, place: int) -> int | None:
        """Return where the next chunk behind a place begins; None where none does."""
        following = bisect_right(self.chunks, place)
        return self.chunks[following] if following < len(self.chunks) else None


def unzstd(data: bytes) -> bytes:
    """Return what zstd compressed; of data that was cut off, what comes before the cut."""
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


_DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    '': bytes, 'none': bytes, 'zstd': unzstd,
    'lz4': lz4.frame.decompress, 'bz2': bz2.decompress,
}  # fmt: skip
# Of data that was cut off: what comes before the cut.
_DECOMPRESS_START: dict[str, Callable[[bytes], bytes]] = {
    '': bytes, 'none': bytes, 'zstd': unzstd,
    'lz4': lambda data: bytes(lz4.frame.LZ4FrameDecompressor().decompress(data)),
    'bz2': lambda data: bz2.BZ2Decompressor().decompress(data),
}  # fmt: skip


def decompress(compression: str, data: bytes) -> bytes:
    """Return the content of a chunk; raises something that depends on the compression."""
    return _DECOMPRESS[compression](data)


def decompress_start(compression: str, data: bytes) -> bytes:
    """Return, of the content of a chunk that was cut off, what comes before the cut."""
    return _DECOMPRESS_START[compression](data)


def chunk_items(
    read: Callable[[], bytes], index: Mapping[int, Sequence[int]], parse: Parse, place: int
) -> Iterator[Item]:
    """Yield what a chunk holds; after a damaged record, go on at the next message of its index.

    Args:
        read: returns the content, uncompressed; where it raises, the chunk is lost.
        index: places of the messages of each key; empty where the chunk has no index.
        parse: reads a record.
        place: of the chunk in the file, for problems.

    """
    name = f'the chunk at byte {place}'
    lost = {key: len(places) for key, places in index.items()}
    try:
        content = read()
    except Exception as error:  # of a kind that depends on the compression
        yield Damage(f'{name} is lost{_with_messages(" with", lost)}: {error}', lost)
        return
    owners = {place: key for key, places in index.items() for place in places}
    starts = sorted(owners)
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
        reason = first_error or 'records are missing'
        yield Damage(f'part of {name} is lost{_with_messages(", with", lost)}: {reason}', lost)


def cut_chunk_items(read: Callable[[], bytes], parse: Parse) -> Iterator[Item]:
    """Yield what comes before the cut in the last chunk of a file.

    Args:
        read: returns the content, as far as it goes.
        parse: reads a record.

    """
    with suppress(*ERRORS):
        content = read()
        place = 0
        while place < len(content):
            item, place = parse(content, place)
            if item is not None:
                yield item


def _with_messages(word: str, lost: Mapping[int, int]) -> str:
    count = sum(lost.values())
    return f'{word} {messages_text(count)}' if count else ''
