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

"""Tests of maskomaly_ros.node.health: what is observed of a camera, and what that amounts to."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest

from maskomaly_ros.node.health import (
    ERROR,
    OK,
    WARN,
    Arrivals,
    Limits,
    Observations,
    Rate,
    conditions,
    stamp_of,
)

RNG = np.random.default_rng(0)


def frame(stamp: int, content: bytes = b'', order: str = '<') -> bytes:
    """Serialize what begins with a header, as CDR does."""
    encapsulation = b'\x00\x01\x00\x00' if order == '<' else b'\x00\x00\x00\x00'
    return (
        encapsulation + struct.pack(f'{order}iI', stamp // 10**9, stamp % 10**9) + b'cam' + content
    )


LIMITS = Limits(max_age=0.5, rate_warn=8.0, rate_error=4.0)
GOOD = {'since': 60.0, 'age': 0.1, 'input_rate': 10.0}


@pytest.mark.parametrize(
    ('seen', 'expected'),
    [
        ({}, [(OK, 'OK')]),
        ({'since': 2.0, 'age': None}, [(WARN, 'not received: no frame in 2.0 s')]),
        ({'since': 3.1, 'age': None}, [(ERROR, 'not received: no frame in 3.1 s')]),
        ({'age': 1.0}, [(OK, 'OK')]),
        ({'age': 1.2}, [(WARN, 'timeout: no frame for 1.2 s')]),
        ({'age': 3.2}, [(ERROR, 'timeout: no frame for 3.2 s')]),
        ({'input_rate': 7.9}, [(WARN, 'warn rate: 7.9 Hz is below 8 Hz')]),
        ({'input_rate': 3.9}, [(ERROR, 'error rate: 3.9 Hz is below 4 Hz')]),
        ({'input_rate': 3.9, 'age': 2.0}, [(WARN, 'timeout: no frame for 2.0 s')]),
        ({'frozen': 3.0}, [(OK, 'OK')]),
        ({'frozen': 3.5}, [(ERROR, 'frozen: the same picture for 3.5 s')]),
        ({'publishers': 2}, [(WARN, 'publishers: 2 send on one topic')]),
        (
            {'missing': 0.456},
            [(WARN, 'gaps: about 46 % of the frames are missing by their stamps')],
        ),
        ({'missing': 0.1}, [(OK, 'OK')]),
        ({'clock': 'stamps jumped'}, [(WARN, 'clock: stamps jumped')]),
        (
            {'stale': 0.75},
            [(ERROR, 'stale: the newest frame was 0.75 s old, max_age is 0.5 s')],
        ),
        (
            {'rejected': 'torn', 'age': 9.0, 'clock': 'odd'},
            [
                (ERROR, 'rejected: torn'),
                (ERROR, 'timeout: no frame for 9.0 s'),
                (WARN, 'clock: odd'),
            ],
        ),
        (
            {'failed': 'out of memory', 'input_rate': 5.0, 'stale': 1.0},
            [
                (ERROR, 'failed: out of memory'),
                (WARN, 'warn rate: 5.0 Hz is below 8 Hz'),
                (ERROR, 'stale: the newest frame was 1.00 s old, max_age is 0.5 s'),
            ],
        ),
    ],
)
def test_the_most_specific_cause_comes_first(
    seen: dict[str, object], expected: list[tuple[bytes, str]]
) -> None:
    found = conditions(Observations(**{**GOOD, **seen}), LIMITS)
    assert [(condition.level, str(condition)) for condition in found] == expected


def test_limits_of_zero_are_off() -> None:
    off = Limits(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    seen = Observations(since=1e4, age=1e4, input_rate=0.0, frozen=1e4)
    assert [str(c) for c in conditions(seen, off)] == ['OK']
    never = Observations(since=1e4)
    assert [(c.level, c.state) for c in conditions(never, off)] == [(WARN, 'not received')]


def test_it_is_said_that_results_of_a_frozen_camera_are_withheld() -> None:
    seen = Observations(**{**GOOD, 'frozen': 3.5})
    found = conditions(seen, Limits(withhold_frozen=True))
    assert [str(c) for c in found] == ['frozen: the same picture for 3.5 s; results are withheld']


def test_rates_follow_what_happens() -> None:
    rate = Rate()
    assert rate.hertz(0.0) == 0.0
    for number in range(50):
        rate.note(number / 10, number)
    assert rate.hertz(4.9) == pytest.approx(10.0)
    assert rate.hertz(5.0) == pytest.approx(10.0)
    assert rate.hertz(8.0) < 6.5, 'it falls when frames stay out'
    assert rate.values(9.85) == (49,)
    assert rate.hertz(20.0) == 0.0
    rate.note(20.0)
    assert rate.hertz(20.5) == pytest.approx(2.0)


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('stamp', [0, 1, 1_700_000_000_123_456_789, -1_000_000_000])
def test_stamps_are_read_without_decoding(stamp: int, order: str) -> None:
    assert stamp_of(frame(stamp, order=order)) == stamp


@pytest.mark.parametrize('length', range(12))
def test_what_is_no_message_has_no_stamp(length: int) -> None:
    assert stamp_of(b'\x01' * length) is None
    Arrivals().note(b'\x01' * length, 0.0, 0)


def test_a_frozen_picture_is_told_from_a_still_scene() -> None:
    arrivals = Arrivals()
    assert arrivals.frozen == 0.0
    noise = RNG.integers(0, 4, (40, 300_000), np.uint8)
    for number, pixels in enumerate(noise):
        arrivals.note(frame(number, pixels.tobytes()), number / 10, None)
    assert arrivals.frozen == 0.0, 'every frame has noise of its own'
    for number in range(40, 80):
        arrivals.note(frame(number, noise[-1].tobytes()), number / 10, None)
    assert arrivals.frozen == pytest.approx(4.0)
    arrivals.note(frame(80, noise[0].tobytes()), 8.0, None)
    assert arrivals.frozen == 0.0


@pytest.mark.parametrize('lost', [0.0, 0.3, 0.6])
def test_frames_that_are_lost_leave_gaps_between_stamps(lost: float) -> None:
    rng = random.Random(1)
    arrivals, sent, arrived = Arrivals(), 0, 0
    for number in range(150):  # 30 Hz with a jitter of 2 ms, as drivers have
        seconds = number / 30 + rng.uniform(-2e-3, 2e-3)
        sent += 1
        if rng.random() >= lost:
            arrived += 1
            arrivals.note(frame(round((100 + seconds) * 1e9)), seconds, None)
    assert arrivals.missing(5.0) == pytest.approx(1 - arrived / sent, abs=0.03)


def test_a_camera_without_a_period_has_no_gaps() -> None:
    rng = random.Random(2)
    arrivals, seconds = Arrivals(), 0.0
    for _ in range(100):
        seconds += rng.expovariate(25)
        arrivals.note(frame(round(seconds * 1e9)), seconds, None)
        assert arrivals.missing(seconds) == 0.0


def test_few_stamps_and_broken_ones_say_nothing_of_gaps() -> None:
    arrivals = Arrivals()
    for number in range(15):
        arrivals.note(frame(number**3), number / 10, None)
    assert arrivals.missing(1.5) == 0.0
    still = Arrivals()
    for number in range(100):
        still.note(frame(0), number / 30, None)
    assert still.missing(3.0) == 0.0


def test_trouble_with_stamps_is_told_once() -> None:
    arrivals = Arrivals()
    second = 10**9

    def note(*stamps: int, clock: int | None = None) -> str:
        for stamp in stamps:
            arrivals.note(frame(stamp), 0.0, clock)
        return arrivals.drain_clock_trouble()

    assert note(1 * second, 2 * second, clock=2 * second) == ''
    assert note(2 * second, 2 * second) == 'stamps did not move 2 x'
    assert note(1 * second, 3 * second) == 'stamps jumped back 1 x'
    assert note(4 * second + 50_000_000, clock=4 * second) == '', 'clocks differ a little'
    assert note(7 * second, clock=4 * second + second // 2) == 'stamps 2.50 s in the future'
    assert note() == ''
