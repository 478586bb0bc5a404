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

"""The ring: bounds in bytes and seconds, and an account that is exact."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from maskomaly_ros.recorder.ring import OVERHEAD_BYTES, Latched, Message, Ring

SECOND = 10**9


def message(number: int, at: float, size: int = 10, topic: str = '/t') -> Message:
    data = number.to_bytes(4, 'little') + bytes(max(0, size - 4))
    return Message(topic, data, number, round(at * SECOND))


def taken(ring: Ring, until: float = 1e6, size: int = 1 << 30) -> list[int]:
    found, _ = ring.take(round(until * SECOND), size)
    return [m.received_ns for m in found]


steps = st.lists(
    st.one_of(
        st.tuples(st.just('add'), st.integers(0, 900), st.integers(0, 3000)),
        st.tuples(st.just('hold'), st.integers(0, 4000), st.just(0)),
        st.tuples(st.just('take'), st.integers(1, 3000), st.just(0)),
        st.tuples(st.just('release'), st.just(0), st.just(0)),
        st.tuples(st.just('expire'), st.integers(0, 3000), st.just(0)),
    ),
    max_size=60,
)


@given(steps, st.integers(300, 6000))
def test_every_message_is_accounted_for(script: list[Any], max_bytes: int) -> None:
    """A reading gives out what it held, in order, but for what it says it missed."""
    ring = Ring(2.0, max_bytes)
    now, added = 0, 0
    expected: int | None = None
    given_out: list[int] = []
    for what, first, second in script:
        if what == 'add':
            now += second * 10**6
            ring.add(message(added, now / SECOND, first))
            added += 1
            expected = None if expected is None else expected + 1
        elif what == 'hold':
            since = max(0, now - first * 10**6)
            ring.hold(since)
            there = [m for m in reversed(ring.newest(['/t'])) if m.arrived_ns >= since]
            expected = len(there)
            given_out = []
        elif what == 'take':
            found, _ = ring.take(now, first)
            given_out += [m.received_ns for m in found]
        elif what == 'release':
            ring.release()
            expected = None
        else:
            now += first * 10**6
            ring.expire(now)
        counts = ring.counts
        assert counts.received == added == counts.kept + counts.dropped
        assert counts.held_bytes <= max_bytes
        assert counts.held_bytes == sum(m.size for m in ring.newest(['/t']))
        if expected is not None:
            assert given_out == sorted(set(given_out))
            waiting = taken_without_end(ring, now)
            given_out += waiting
            assert len(given_out) + ring.missed() == expected


def taken_without_end(ring: Ring, now: int) -> list[int]:
    found, is_over = ring.take(now, 1 << 40)
    assert not is_over
    return [m.received_ns for m in found]


def test_messages_expire_and_large_ones_push_out_old_ones() -> None:
    ring = Ring(1.0, 3 * (100 + OVERHEAD_BYTES))
    for number in range(3):
        assert ring.add(message(number, 0.1 * number, 100))
    assert ring.counts.dropped == 0
    ring.add(message(3, 0.3, 100))
    counts = ring.counts
    assert (counts.held, counts.dropped, counts.expired) == (3, 1, 0)
    ring.expire(round(1.25 * SECOND))
    counts = ring.counts
    assert (counts.held, counts.dropped, counts.expired) == (1, 1, 2)
    assert not ring.add(message(4, 1.25, 5000))
    counts = ring.counts
    assert (counts.received, counts.held, counts.dropped) == (5, 1, 2)
    assert ring.add(message(5, 1.3))
    assert [m.received_ns for m in ring.newest(['/t'])] == [5, 3]


def test_what_a_recording_reads_does_not_expire_before() -> None:
    ring = Ring(1.0, 1 << 20)
    for number in range(20):
        ring.add(message(number, 0.1 * number))
    ring.hold(round(1.45 * SECOND))
    for number in range(20, 60):
        ring.add(message(number, 0.1 * number))
    assert taken(ring, until=3.05) == list(range(15, 31))
    assert ring.take(round(3.05 * SECOND), 1)[1]
    assert ring.missed() == 0
    ring.release()
    ring.expire(100 * SECOND)
    assert ring.counts.held == 0
    assert ring.counts.dropped == 0


def test_latched_messages_are_bounded_and_given_once() -> None:
    latched = Latched(max_messages=3, max_bytes=4 * (10 + OVERHEAD_BYTES))
    for number in (0, 1, 2, 1, 3):
        assert latched.add(message(number, number, topic='/tf_static'))
    latched.add(message(7, 0.5, topic='/map'))
    assert not latched.add(message(8, 0.6, topic='/other'))
    order = [(m.topic, m.received_ns) for m in latched.before(10 * SECOND)]
    assert order == [('/map', 7), ('/tf_static', 1), ('/tf_static', 2), ('/tf_static', 3)]
    assert [m.received_ns for m in latched.before(SECOND)] == [7]
