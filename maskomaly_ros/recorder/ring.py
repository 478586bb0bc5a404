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

"""The last seconds of every topic, serialized, in a bounded part of memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

# What a message costs beside its bytes: the objects around it.
OVERHEAD_BYTES = 256


class Message(NamedTuple):
    """A message as it came.

    Attributes:
        topic: its name.
        data: serialized (CDR).
        received_ns: when, by the clock that recordings are stamped with.
        arrived_ns: when, by a clock that never jumps.

    """

    topic: str
    data: bytes
    received_ns: int
    arrived_ns: int

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return len(self.data) + OVERHEAD_BYTES


@dataclass(frozen=True)
class Counts:
    """What became of all messages; received = kept + dropped, and kept = held + expired.

    Attributes:
        received: all that came.
        held: those that are there.
        expired: those that went when their time was over.
        dropped: those that had to go before, for want of memory.
        held_bytes: of those that are there.

    """

    received: int = 0
    held: int = 0
    expired: int = 0
    dropped: int = 0
    held_bytes: int = 0

    @property
    def kept(self) -> int:
        """Those that were, or are, there for all of their time."""
        return self.held + self.expired


class Ring:
    """Messages in the order in which they came; those that are too old or too many go first.

    A recording reads along: from `hold` on, nothing expires before `take` has given it out. The
    bound on memory stands above that: what a slow disk does not take in time is dropped, and
    counted. Thread-safe.

    Args:
        seconds: for which a message is kept.
        max_bytes: that all messages may take, `OVERHEAD_BYTES` for each included.

    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._span_ns = round(seconds * 1e9)
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._messages: dict[int, Message] = {}
        self._first = self._next = 0
        self._bytes = self._received = self._expired = self._dropped = 0
        self._reading: int | None = None
        self._missed = 0

    @property
    def counts(self) -> Counts:
        """What became of the messages so far."""
        with self._lock:
            return Counts(
                self._received, len(self._messages), self._expired, self._dropped, self._bytes
            )

    def add(self, message: Message) -> bool:
        """Take a message in.

        Returns:
            False where it is larger than all of the memory, and was dropped.

        """
        with self._lock:
            self._expire(message.arrived_ns)
            self._received += 1
            if message.size > self._max_bytes:  # those that are there need not go for it
                self._dropped += 1
                self._missed += 1
                return False
            self._make_room(message.size)
            self._messages[self._next] = message
            self._next += 1
            self._bytes += message.size
            return True

    def hold(self, since_ns: int) -> int | None:
        """Let a recording read from the first message that arrived at or after a time.

        Returns:
            When that one arrived; None where there is none yet.

        """
        with self._lock:
            self._reading = self._next
            self._missed = 0
            for number in range(self._first, self._next):
                if self._messages[number].arrived_ns >= since_ns:
                    self._reading = number
                    return self._messages[number].arrived_ns
        return None

    def release(self) -> None:
        """End the reading; messages expire again."""
        with self._lock:
            self._reading = None

    def take(self, until_ns: int, max_bytes: int) -> tuple[list[Message], bool]:
        """Return the next messages of the reading, and whether it has come to its end.

        Args:
            until_ns: later ones belong to it no more.
            max_bytes: to return at most, but for one message.

        Returns:
            Messages in the order in which they came; and True where one was met that is later.

        """
        found: list[Message] = []
        size = 0
        with self._lock:
            if self._reading is None:
                return found, True
            while self._reading < self._next and size < max_bytes:
                message = self._messages[self._reading]
                if message.arrived_ns > until_ns:
                    return found, True
                self._reading += 1
                size += message.size
                found.append(message)
        return found, False

    def missed(self) -> int:
        """Return how many messages of this reading were dropped before they were taken."""
        with self._lock:
            return self._missed

    def newest(self, topics: Iterable[str]) -> list[Message]:
        """Return the messages of some topics that are there, the newest first."""
        wanted = frozenset(topics)
        with self._lock:
            return [m for m in reversed(self._messages.values()) if m.topic in wanted]

    def expire(self, now_ns: int) -> None:
        """Let go of what is too old, also where nothing comes any more."""
        with self._lock:
            self._expire(now_ns)

    def _expire(self, now_ns: int) -> None:
        end = self._next if self._reading is None else self._reading
        while self._first < end:
            message = self._messages[self._first]
            if now_ns - message.arrived_ns <= self._span_ns:
                return
            self._remove()
            self._expired += 1

    def _make_room(self, size: int) -> None:
        while self._messages and self._bytes + size > self._max_bytes:
            if self._first == self._reading:
                self._reading += 1
                self._missed += 1
            self._remove()
            self._dropped += 1

    def _remove(self) -> None:
        self._bytes -= self._messages.pop(self._first).size
        self._first += 1


class Latched:
    """What a late subscriber is still given: the last messages of topics that last.

    Equal messages count once. Thread-safe.

    Args:
        max_messages: of one topic; the oldest go first.
        max_bytes: of all topics; a message that finds no room is left out.

    """

    def __init__(self, max_messages: int = 64, max_bytes: int = 1 << 23) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._topics: dict[str, dict[bytes, Message]] = {}
        self._bytes = 0

    def add(self, message: Message) -> bool:
        """Take a message in; return False where there was no room."""
        with self._lock:
            known = self._topics.setdefault(message.topic, {})
            old = known.pop(message.data, None)
            if old is None and len(known) >= self._max_messages:
                old = known.pop(next(iter(known)))
            if old is not None:
                self._bytes -= old.size
            if self._bytes + message.size > self._max_bytes:
                return False
            known[message.data] = message
            self._bytes += message.size
            return True

    def before(self, arrived_ns: int) -> list[Message]:
        """Return those that arrived before a time, in the order in which they came."""
        with self._lock:
            found = [m for known in self._topics.values() for m in known.values()]
        return sorted((m for m in found if m.arrived_ns < arrived_ns), key=lambda m: m.arrived_ns)
