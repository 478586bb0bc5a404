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

"""Tests of maskomaly_ros.refinement.refine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from maskomaly_ros.detector import Detection, DetectorConfig
from maskomaly_ros.refinement.refine import RefinementParameters, Refiner
from maskomaly_ros.refinement.temporal import TemporalParameters
from maskomaly_ros.refinement.tracking import TrackingParameters

SIZE = (36, 64)
SECOND = 10**9
GREY = np.full((*SIZE, 3), 90, np.uint8)


def box(x: int, score: float = 1.0, size: int = 5) -> NDArray[np.float32]:
    result = np.zeros(SIZE, np.float32)
    result[10 : 10 + size, x : x + size] = score
    return result


class Camera:
    """Frames of one camera at 10 Hz, one after another, through a refiner."""

    def __init__(
        self,
        minimum_frames: int = 1,
        *,
        ids: bool = True,
        threshold: float = 0.5,
        minimum_area: int = 0,
        **tracking: float,
    ) -> None:
        self.refiner = Refiner()
        self.parameters = RefinementParameters(
            tracking=TrackingParameters(minimum_frames, **tracking), ids=ids
        )
        self.config = DetectorConfig(
            obstacle_threshold=threshold, minimum_obstacle_area=minimum_area
        )
        self.stamp = 0

    def see(
        self,
        score: NDArray[np.float32],
        frame: NDArray[np.uint8] = GREY,
        after: float = 0.1,
    ) -> Detection:
        self.stamp += round(after * SECOND)
        detection = Detection(frame, torch.from_numpy(score.copy()), self.config, {})
        found = self.refiner.apply(detection, self.stamp, self.parameters)
        np.testing.assert_array_equal(detection.score, score, 'what is given is left alone')
        return found

    def reports(self, *args: Any, **keywords: Any) -> bool:
        """Return whether an obstacle is reported, in the mask as in the list."""
        found = self.see(*args, **keywords)
        assert bool(found.obstacles) == found.mask.any()
        return bool(found.obstacles)


@pytest.mark.parametrize('ids', [True, False])
@pytest.mark.parametrize('threshold', [0.0, 0.1, 0.3, 0.5, 0.7, 0.9])
def test_an_obstacle_is_reported_in_its_nth_frame(threshold: float, ids: bool) -> None:
    camera = Camera(3, ids=ids, threshold=threshold)
    for number in range(1, 6):
        score = box(50)
        if number % 2:  # this one is not there often enough
            score += box(10)
        found = camera.see(score)
        expected = box(50) > 0 if number >= 3 else np.zeros(SIZE, bool)
        np.testing.assert_array_equal(found.mask > 0, expected)
        wanted = [(50, 1 if ids else None)] if number >= 3 else []
        assert [(o.x, o.id) for o in found.obstacles] == wanted
        assert (found.score[score == 0] == 0).all()


def test_what_is_held_back_is_still_in_the_heatmap() -> None:
    found = Camera(2).see(box(10, 0.75))
    assert not found.mask.any()
    np.testing.assert_allclose(found.score[10:15, 10:15], 0.5, atol=1e-6)


def test_what_is_too_small_to_be_an_obstacle_is_held_back_as_well() -> None:
    small, large = box(10, size=3), box(50)
    camera = Camera(2, minimum_area=20)
    for _ in range(3):
        found = camera.see(small + large)
    np.testing.assert_array_equal(found.mask > 0, large > 0)
    np.testing.assert_array_equal(Camera(minimum_area=20).see(small).mask > 0, small > 0)


def test_what_moves_by_more_than_its_size_is_the_same_obstacle() -> None:
    """The tracker expects it where it goes; no reach in pixels would."""
    camera = Camera(3)
    # Its box is matched with boxes grown by half of their size first.
    assert [camera.reports(box(x)) for x in range(2, 38, 6)] == [False] * 2 + [True] * 4


def test_once_reported_it_may_be_out_of_sight_for_the_patience() -> None:
    camera, nothing = Camera(3, patience=0.55), np.zeros(SIZE, np.float32)
    assert [camera.reports(box(10)) for _ in range(3)] == [False, False, True]
    for _ in range(4):
        assert not camera.reports(nothing)
    assert camera.reports(box(10))
    for _ in range(6):
        camera.see(nothing)
    assert not camera.reports(box(10)), 'born anew'


@pytest.mark.parametrize('rate', [2.0, 10.0])
@pytest.mark.parametrize('patience', [0.0, 0.05])
def test_a_short_patience_holds_nothing_back_for_ever(rate: float, patience: float) -> None:
    camera = Camera(3, patience=patience)
    found = [camera.reports(box(10), after=1 / rate) for _ in range(5)]
    assert found == [False, False, True, True, True]


@pytest.mark.parametrize('what', ['gap', 'back', 'cut', 'size', 'reset'])
def test_it_starts_anew(what: str) -> None:
    camera, frame, after, score = Camera(2), GREY, 0.1, box(10)
    assert [camera.reports(score), camera.reports(score)] == [False, True]
    if what == 'gap':
        after = 1.1
    elif what == 'back':
        after = -0.05
    elif what == 'cut':
        frame = GREY + np.uint8(80)
    elif what == 'size':
        frame, score = np.full((40, 64, 3), 90, np.uint8), np.zeros((40, 64), np.float32)
        score[10:15, 10:15] = 1
    else:
        camera.refiner.reset()
    assert not camera.reports(score, frame, after=after)
    (again,) = camera.see(score, frame).obstacles
    assert again.id == 2


def test_parameters_may_change_meanwhile() -> None:
    camera = Camera(3)
    camera.see(box(10))
    camera.parameters = RefinementParameters(tracking=TrackingParameters(1))
    assert camera.reports(box(10))
    camera.parameters = RefinementParameters(tracking=TrackingParameters(200))
    assert camera.reports(box(10)), 'it is known already'


places = st.lists(st.tuples(st.integers(0, 58), st.integers(0, 30)), max_size=4)


@given(st.lists(places, max_size=8), st.integers(1, 4), st.booleans(), st.data())
def test_the_mask_has_the_obstacles_and_nothing_else(
    frames: list[list[tuple[int, int]]], minimum: int, ids: bool, data: st.DataObject
) -> None:
    """Saved and restored at any frame, it goes on in the same way."""
    cut = data.draw(st.integers(0, len(frames)))
    temporal = TemporalParameters(filter=data.draw(st.sampled_from(['none', 'median'])))
    camera, restored = Camera(minimum, ids=ids), Camera(minimum, ids=ids)
    for one in (camera, restored):
        one.parameters = RefinementParameters(temporal, one.parameters.tracking, ids)
    for index, frame in enumerate(frames):
        if index == cut:
            restored.refiner = Refiner()
            restored.refiner.restore(camera.refiner.save(), camera.parameters)
        score = np.zeros(SIZE, np.float32)
        for x, y in frame:
            score[y : y + 5, x : x + 5] = 0.8
        found, again = camera.see(score), restored.see(score)
        assert found.obstacles == again.obstacles
        np.testing.assert_array_equal(found.score, again.score)
        assert sum(o.area for o in found.obstacles) == np.count_nonzero(found.mask)
        assert all((o.id is not None) == ids for o in found.obstacles)
