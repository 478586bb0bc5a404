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

"""Tests of maskomaly_ros.refinement.temporal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.refinement.temporal import TemporalFilter, TemporalParameters

SIZE = (36, 64)
SECOND = 10**9
GREY = np.full((*SIZE, 3), 90, np.uint8)


class Camera:
    """Frames of one camera at 10 Hz, one after another, through a filter."""

    def __init__(self, **parameters: Any) -> None:
        self.filter = TemporalFilter()
        self.parameters = TemporalParameters(**parameters)
        self.stamp = 0

    def see(
        self,
        score: float | NDArray[np.float32],
        frame: NDArray[np.uint8] = GREY,
        after: float = 0.1,
    ) -> NDArray[np.float32]:
        self.stamp += round(after * SECOND)
        if isinstance(score, float):
            score = np.full(frame.shape[:2], score, np.float32)
        before = score.copy()
        result = self.filter.apply(score, frame, self.stamp, self.parameters)
        np.testing.assert_array_equal(score, before, 'what is given is left alone')
        return result


def test_it_is_off_by_default() -> None:
    camera = Camera()
    assert camera.parameters.is_off
    score = np.zeros(SIZE, np.float32)
    assert camera.see(score) is score


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=8), st.floats(0.05, 1))
def test_the_running_mean(values: list[float], weight: float) -> None:
    camera = Camera(filter='exponential', weight=weight)
    mean = values[0]
    for value in values:
        mean += weight * (value - mean)
        np.testing.assert_allclose(camera.see(float(value)), mean, atol=1e-6)


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=10),
    st.sampled_from([3, 5, 7]),
)
def test_the_median_of_the_last_odd_number_of_maps(values: list[float], window: int) -> None:
    camera = Camera(filter='median', window=window)
    for number in range(1, len(values) + 1):
        last = min(number, window)
        last -= last % 2 == 0
        expected = np.median(values[number - last : number])
        assert (camera.see(float(values[number - 1])) == np.float32(expected)).all()


def test_a_median_takes_each_pixel_by_itself() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((9, *SIZE), np.float32)
    camera = Camera(filter='median', window=5)
    results = [camera.see(score) for score in maps]
    np.testing.assert_array_equal(results[8], np.median(maps[4:9], axis=0))


@pytest.mark.parametrize('name', ['exponential', 'median'])
@pytest.mark.parametrize('what', ['gap', 'back', 'cut', 'size', 'parameters', 'reset'])
def test_it_starts_anew(name: str, what: str) -> None:
    parameters: dict[str, Any] = {'filter': name}
    camera, fresh = Camera(**parameters), Camera(**parameters)
    frame, after = GREY, 0.1
    for _ in range(4):
        camera.see(1.0)
    assert (camera.see(0.9) > 0.9).all()
    if what == 'gap':
        after = 1.1
    elif what == 'back':
        after = -0.1
    elif what == 'cut':
        frame = GREY + np.uint8(80)
    elif what == 'size':
        frame = np.full((40, 64, 3), 90, np.uint8)
    elif what == 'parameters':
        camera.parameters = fresh.parameters = TemporalParameters(**parameters, max_gap=2.0)
    else:
        camera.filter.reset()
    for value in (0.75, 0.875, 0.8125, 0.9):
        got = camera.see(value, frame, after=after)
        np.testing.assert_array_equal(got, fresh.see(value, frame))
        after = 0.1


def test_stamps_that_stand_still_are_no_jump() -> None:
    camera = Camera(filter='median')
    for value in (1.0, 0.0, 1.0):
        got = camera.see(value, after=0.0)
    assert (got == 1.0).all()


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'filter': 'mean'}, 'mean'),
        ({'weight': 0.0}, 'weight 0.0'),
        ({'weight': 1.5}, 'weight 1.5'),
        ({'weight': float('nan')}, 'nan'),
        ({'window': 4}, 'window 4'),
        ({'max_gap': 0.0}, 'max_gap'),
        ({'cut': 0.0}, 'cut'),
    ],
)
def test_wrong_parameters_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(MaskomalyError, match=words):
        TemporalParameters(**changes)
