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

"""Camera topics, and the newest frame of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rclpy.node import Node

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.node.health import Arrivals, Observations, Rate
from maskomaly_ros.topics import is_compressed, outputs_of


@dataclass(frozen=True)
class CameraTopic:
    """A camera topic as it is on the wire.

    Attributes:
        name: fully qualified, after remapping.
        is_compressed: it carries CompressedImage instead of Image.
        outputs: namespace of what is published beside it.

    """

    name: str
    is_compressed: bool
    outputs: str


def resolve_camera_topics(node: Node, topics: Sequence[str]) -> tuple[CameraTopic, ...]:
    """Expand and remap topic names as ROS does, and place the outputs beside them.

    `/front/image_raw` and `/front/image_raw/compressed` have their outputs in `/front/anomaly`.

    Raises:
        MaskomalyError: there is no topic, a name is none, or two topics have their outputs in one
            place.

    """
    if not topics:
        raise MaskomalyError('camera_topics is empty; name at least one image topic')
    cameras: dict[str, CameraTopic] = {}
    for topic in topics:
        try:
            name = node.resolve_topic_name(topic)
        except Exception as error:  # of a kind that depends on the rule it breaks
            reason = str(error).partition(', at ')[0]
            raise MaskomalyError(f'camera topic {topic!r} is no topic name: {reason}') from error
        outputs = outputs_of(name)
        if outputs in cameras:
            raise MaskomalyError(
                f'camera topics {cameras[outputs].name} and {name} would both publish to '
                f'{outputs}; give each camera a namespace of its own, or run a node for each and '
                'remap its outputs'
            )
        cameras[outputs] = CameraTopic(name, is_compressed(name), outputs)
    return tuple(cameras.values())


@dataclass(frozen=True)
class Counts:
    """What became of the frames of a camera since the node was configured.

    received = processed + replaced + bad + failed + stale + frozen + unwanted + those under way.

    Attributes:
        received: frames that arrived.
        processed: frames whose results were published.
        replaced: frames that a newer one overtook while they waited.
        bad: frames that could not be decoded.
        failed: frames that the network or the publishing failed on.
        stale: frames that were older than max_age when their turn came.
        frozen: frames of a frozen picture, where results of those are withheld.
        unwanted: frames that came while nobody listened to their results.

    """

    received: int = 0
    processed: int = 0
    replaced: int = 0
    bad: int = 0
    failed: int = 0
    stale: int = 0
    frozen: int = 0
    unwanted: int = 0


class CameraStream:
    """The newest frame of one camera, and an account of all others. Thread-safe.

    Args:
        topic: where the frames come from.

    """

    def __init__(self, topic: CameraTopic) -> None:
        self.topic = topic
        self._lock = threading.Lock()
        self._waiting: bytes | None = None
        self._waiting_frozen = self._frozen = 0.0
        self._counts = Counts()
        self.restart()

    def restart(self) -> None:
        """Forget what was observed so far, but not the counts: the camera is listened to anew."""
        with self._lock:
            self._since = time.monotonic()
            self._arrivals = Arrivals()
            self._published = Rate()
            self._say_of_newest()

    def offer(self, serialized: bytes, clock: int | None = None) -> None:
        """Let a frame that arrived wait, in place of the one that waits.

        Args:
            serialized: the message.
            clock: nanoseconds of the clock that stamps are of; None where it is not known.

        """
        with self._lock:
            self._count('received')
            if self._waiting is not None:
                self._count('replaced')
            self._waiting = serialized
            self._arrivals.note(serialized, time.monotonic(), clock)
            self._waiting_frozen = self._arrivals.frozen

    def take(self) -> bytes | None:
        """Return the frame that waits, if any; the caller must say what became of it."""
        with self._lock:
            serialized, self._waiting = self._waiting, None
            self._frozen = self._waiting_frozen
            return serialized

    @property
    def frozen(self) -> float:
        """Seconds for which its picture had arrived when the frame taken last did."""
        with self._lock:
            return self._frozen

    def mark_processed(self, latency: float) -> None:
        """Count a taken frame as processed, with the seconds since its stamp."""
        with self._lock:
            self._count('processed')
            self._say_of_newest()
            self._published.note(time.monotonic(), latency)

    def mark_bad(self, reason: str) -> None:
        """Count a taken frame as one that could not be decoded."""
        with self._lock:
            self._count('bad')
            self._say_of_newest(rejected=reason)

    def mark_failed(self, reason: str) -> None:
        """Count a taken frame as one that could not be processed."""
        with self._lock:
            self._count('failed')
            self._say_of_newest(failed=reason)

    def mark_stale(self, age: float) -> None:
        """Count a taken frame as too old to process, with its age in seconds."""
        with self._lock:
            self._count('stale')
            self._say_of_newest(stale=age)

    def mark_frozen(self) -> None:
        """Count a taken frame as one whose picture is frozen."""
        with self._lock:
            self._count('frozen')
            self._say_of_newest()

    def mark_unwanted(self) -> None:
        """Count a taken frame as one whose results nobody wanted."""
        with self._lock:
            self._count('unwanted')
            self._say_of_newest()

    @property
    def counts(self) -> Counts:
        """What became of the frames so far."""
        with self._lock:
            return self._counts

    def observe(self) -> Observations:
        """Return what was observed; trouble with stamps only since this was last called."""
        now = time.monotonic()
        with self._lock:
            newest = self._arrivals.newest
            return Observations(
                since=now - self._since,
                age=None if newest is None else now - newest,
                input_rate=self._arrivals.rate.hertz(now),
                output_rate=self._published.hertz(now),
                latencies=self._published.values(now),
                rejected=self._rejected,
                failed=self._failed,
                stale=self._stale,
                frozen=self._arrivals.frozen,
                clock=self._arrivals.drain_clock_trouble(),
                missing=self._arrivals.missing(now),
            )

    @property
    def silence(self) -> float | None:
        """Seconds that it has been listened to without a frame; None once one arrived."""
        with self._lock:
            return None if self._arrivals.newest else time.monotonic() - self._since

    @property
    def missing(self) -> float:
        """Share of the frames of the last seconds that are missing by their stamps."""
        with self._lock:
            return self._arrivals.missing(time.monotonic())

    def _say_of_newest(
        self, rejected: str = '', failed: str = '', stale: float | None = None
    ) -> None:
        self._rejected, self._failed, self._stale = rejected, failed, stale

    def _count(self, outcome: str) -> None:
        self._counts = replace(self._counts, **{outcome: getattr(self._counts, outcome) + 1})
