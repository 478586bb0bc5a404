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

"""How a camera is: what is observed of its frames, and the state that this amounts to.

Without ROS, and with times given from outside, so that every state can be tried in a test.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

# Numbers of diagnostic_msgs/DiagnosticStatus.
OK, WARN, ERROR = b'\x00', b'\x01', b'\x02'

WINDOW = 5.0  # seconds that rates and latencies look back
MOST_MISSING = 0.1
"""Share of frames that may be missing by their stamps before it is said."""
_FEWEST_STAMPS = 20  # that say something of gaps
_MOST_JITTER = 0.2  # of a period, that a camera with one has
_LEAST_REGULAR = 0.8  # of the steps between its stamps
_FUTURE_TOLERANCE = 100_000_000  # ns that the clocks of two machines may differ
_SAMPLES = 4096
_HEADER = 12  # bytes of a serialized message up to the end of its stamp


@dataclass(frozen=True)
class Limits:
    """From when on a camera is in trouble; 0 switches a limit off.

    Attributes:
        max_age: frames older than this, in seconds by their stamp, are not processed.
        timeout_warn: seconds without a frame.
        timeout_error: seconds without a frame.
        rate_warn: frames that have to arrive each second.
        rate_error: frames that have to arrive each second.
        frozen_after: seconds of the same picture.
        withhold_frozen: frames of a picture that is frozen are not processed.

    """

    max_age: float = 0.0
    timeout_warn: float = 1.0
    timeout_error: float = 3.0
    rate_warn: float = 0.0
    rate_error: float = 0.0
    frozen_after: float = 3.0
    withhold_frozen: bool = False

    def is_frozen(self, seconds: float) -> bool:
        """Say whether so many seconds of the same picture are too many."""
        return 0 < self.frozen_after < seconds


@dataclass(frozen=True)
class Observations:
    """What was observed of one camera.

    Attributes:
        since: seconds that the camera has been listened to.
        age: seconds since a frame arrived; None before the first.
        input_rate: frames that arrive each second.
        output_rate: frames whose results are published each second.
        latencies: seconds from stamp to publication, of the last seconds.
        rejected: why the newest frame was refused; empty if it was not.
        failed: why the newest frame could not be processed; empty if it could.
        stale: seconds that the newest frame was too old by when its turn came; None if it was not.
        frozen: seconds for which the same picture has arrived.
        clock: what is wrong with the stamps; empty if nothing.
        publishers: how many send on the topic.
        missing: share of the frames of the last seconds that did not arrive, by the gaps between
            stamps.

    """

    since: float = 0.0
    age: float | None = None
    input_rate: float = 0.0
    output_rate: float = 0.0
    latencies: tuple[float, ...] = ()
    rejected: str = ''
    failed: str = ''
    stale: float | None = None
    frozen: float = 0.0
    clock: str = ''
    publishers: int = 1
    missing: float = 0.0


class Condition(NamedTuple):
    """One thing that can be said of a camera."""

    level: bytes
    state: str
    detail: str = ''

    def __str__(self) -> str:
        """Return the message of a diagnostic status."""
        return f'{self.state}: {self.detail}' if self.detail else self.state


def conditions(seen: Observations, limits: Limits) -> list[Condition]:
    """Return what is the matter with a camera, the most specific cause first; OK if nothing."""
    found = []
    if seen.rejected:
        found.append(Condition(ERROR, 'rejected', seen.rejected))
    if seen.failed:
        found.append(Condition(ERROR, 'failed', seen.failed))
    silence = seen.since if seen.age is None else seen.age
    level = (
        ERROR
        if 0 < limits.timeout_error < silence
        else WARN
        if seen.age is None or 0 < limits.timeout_warn < silence
        else OK
    )
    if seen.age is None:
        found.append(Condition(level, 'not received', f'no frame in {silence:.1f} s'))
    elif level != OK:
        found.append(Condition(level, 'timeout', f'no frame for {silence:.1f} s'))
    elif seen.input_rate < limits.rate_error:
        found.append(Condition(ERROR, 'error rate', _below(seen.input_rate, limits.rate_error)))
    elif seen.input_rate < limits.rate_warn:
        found.append(Condition(WARN, 'warn rate', _below(seen.input_rate, limits.rate_warn)))
    if limits.is_frozen(seen.frozen):
        withheld = '; results are withheld' if limits.withhold_frozen else ''
        detail = f'the same picture for {seen.frozen:.1f} s{withheld}'
        found.append(Condition(ERROR, 'frozen', detail))
    if seen.publishers > 1:
        found.append(Condition(WARN, 'publishers', f'{seen.publishers} send on one topic'))
    if seen.missing > MOST_MISSING:
        detail = f'about {100 * seen.missing:.0f} % of the frames are missing by their stamps'
        found.append(Condition(WARN, 'gaps', detail))
    if seen.clock:
        found.append(Condition(WARN, 'clock', seen.clock))
    if seen.stale is not None:
        detail = f'the newest frame was {seen.stale:.2f} s old, max_age is {limits.max_age:g} s'
        found.append(Condition(ERROR, 'stale', detail))
    return found or [Condition(OK, 'OK')]


def _below(rate: float, limit: float) -> str:
    return f'{rate:.1f} Hz is below {limit:g} Hz'


def stamp_of(serialized: bytes) -> int | None:
    """Return the stamp of a serialized message that begins with a header, in nanoseconds.

    Reading it there leaves a frame that is replaced undecoded. None where there is no stamp.
    """
    if len(serialized) < _HEADER:
        return None
    seconds, nanoseconds = struct.unpack_from('<iI' if serialized[1] & 1 else '>iI', serialized, 4)
    return int(seconds * 10**9 + nanoseconds)


@dataclass
class Rate:
    """Events of the last seconds, each with a value."""

    _events: deque[tuple[float, float]] = field(default_factory=deque)

    def note(self, now: float, value: float = 0.0) -> None:
        """Note an event at a time in seconds."""
        self._events.append((now, value))
        self._forget(now)

    def hertz(self, now: float) -> float:
        """Return the mean rate, which falls as soon as an event is overdue."""
        self._forget(now)
        if not self._events:
            return 0.0
        number, first, last = len(self._events), self._events[0][0], self._events[-1][0]
        at_most = number / max(now - first, 0.01)
        return min((number - 1) / max(last - first, 1e-3), at_most) if number > 1 else at_most

    def values(self, now: float) -> tuple[float, ...]:
        """Return the values of the events."""
        self._forget(now)
        return tuple(value for _, value in self._events)

    def _forget(self, now: float) -> None:
        while self._events and self._events[0][0] < now - WINDOW:
            self._events.popleft()


class Arrivals:
    """What is observed of frames as they arrive: their rate, their stamps, their content."""

    def __init__(self) -> None:
        self.rate = Rate()
        self.newest: float | None = None
        self._stamp: int | None = None
        self._steps = Rate()
        self._content: int | None = None
        self._content_since = 0.0
        self._future = self._backward = self._still = 0
        self._lead = 0

    def note(self, serialized: bytes, now: float, clock: int | None) -> None:
        """Note a frame.

        Args:
            serialized: the message.
            now: seconds of a clock that nobody sets.
            clock: nanoseconds of the clock that stamps are of; None leaves the future out.

        """
        self.rate.note(now)
        self.newest = now
        # An odd stride meets all channels; noise makes every real picture differ somewhere.
        stride = max(1, len(serialized) // _SAMPLES) | 1
        content = hash((len(serialized), serialized[_HEADER::stride]))
        if content != self._content:
            self._content, self._content_since = content, now
        stamp, before = stamp_of(serialized), self._stamp
        if stamp is None:
            return
        if before is not None:
            self._backward += stamp < before
            self._still += stamp == before
            if stamp > before:
                self._steps.note(now, (stamp - before) / 1e9)
        if clock is not None and stamp - clock > _FUTURE_TOLERANCE:
            self._future += 1
            self._lead = stamp - clock
        self._stamp = stamp

    @property
    def frozen(self) -> float:
        """Seconds for which the same picture has arrived."""
        return 0.0 if self.newest is None else self.newest - self._content_since

    def missing(self, now: float) -> float:
        """Return the share of the frames of the last seconds that are missing by their stamps.

        The lower quartile of the steps between stamps is the period of the camera, also where
        more than half of its frames are lost; a step of n periods has lost n - 1 frames. Where
        steps are no multiples of it, the camera has no period, and nothing can be said.
        """
        steps = sorted(self._steps.values(now))
        if len(steps) < _FEWEST_STAMPS:
            return 0.0
        shortest = steps[len(steps) // 4]
        single = [step for step in steps if step < 1.5 * shortest]
        period = single[len(single) // 2]
        periods = [step / period for step in steps]
        regular = sum(abs(each - round(each)) < _MOST_JITTER for each in periods)
        if regular < _LEAST_REGULAR * len(periods):
            return 0.0
        lost = sum(max(0, round(each) - 1) for each in periods)
        return lost / (lost + len(steps))

    def drain_clock_trouble(self) -> str:
        """Return what was wrong with the stamps since this was last asked."""
        trouble = [
            text
            for number, text in (
                (self._future, f'{self._lead / 1e9:.2f} s in the future'),
                (self._backward, f'jumped back {self._backward} x'),
                (self._still, f'did not move {self._still} x'),
            )
            if number
        ]
        self._future = self._backward = self._still = 0
        return f'stamps {", ".join(trouble)}' if trouble else ''
