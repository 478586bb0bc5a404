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

"""Obstacles keep their ids from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.obstacles import Obstacle
from maskomaly_ros.refinement.tracking import Tracker, TrackingParameters, _iou, _neighbours

SECOND = 10**9
Box = tuple[float, float, float, float]


def obstacles(*boxes: Sequence[float]) -> list[Obstacle]:
    """Make obstacles of x, y, width, height."""
    whole = [[round(value) for value in box] for box in boxes]
    return [Obstacle(x, y, w, h, w * h, 0.9, 0.95) for x, y, w, h in whole]


class Camera:
    """Frames of one camera at 10 Hz."""

    def __init__(self, minimum_frames: int = 1, patience: float = 1.0) -> None:
        self.tracker = Tracker(TrackingParameters(minimum_frames, patience))
        self.stamp = 1000 * SECOND

    def see(
        self, *boxes: Sequence[float], after: float = 0.1, is_new_scene: bool = False
    ) -> list[int | None]:
        self.stamp += round(after * SECOND)
        tracks = self.tracker.update(obstacles(*boxes), self.stamp, is_new_scene=is_new_scene)
        return [track.id for track in tracks]


def test_ids_stay_whatever_the_order() -> None:
    camera = Camera()
    left, right = (10, 20, 30, 30), (300, 20, 30, 30)
    assert camera.see(left, right) == [1, 2]
    assert camera.see(right, left) == [2, 1]
    assert camera.see(left) == [1]
    assert camera.see((600, 20, 30, 30), right) == [3, 2]


def test_frames_and_age_count_from_the_first_sight() -> None:
    tracker = Tracker()
    for index in range(5):
        (track,) = tracker.update(obstacles((10, 10, 20, 20)), index * SECOND // 4)
        assert (track.frames, track.age) == (index + 1, index / 4)


@given(
    st.tuples(*[st.floats(-80, 80)] * 2),
    st.lists(st.floats(0.02, 0.2), min_size=3, max_size=12),
    st.integers(1, 5),
)
def test_constant_velocity_is_followed_over_gaps(
    velocity: tuple[float, float], gaps: list[float], missing: int
) -> None:
    """An obstacle that moves by more than its own width while it is hidden keeps its id."""
    camera = Camera(patience=2.0)
    time = 0.0

    def see(after: float) -> list[int | None]:
        nonlocal time
        time += after
        x, y = (1000 + 3 * speed * time for speed in velocity)
        return camera.see((x, y, 80, 60), after=after)

    for gap in [0.05, *gaps]:
        assert see(gap) == [1]
    time += missing * 0.1
    for _ in range(missing):
        camera.see(after=0.1)
    assert see(0.05) == [1]


def test_two_that_pass_each_other_keep_their_ids() -> None:
    camera = Camera()
    for index in range(21):
        ids = camera.see((100 + 20 * index, 100, 60, 60), (500 - 20 * index, 110, 60, 60))
        assert ids == [1, 2]


def test_patience_is_in_seconds() -> None:
    for rate in (10, 50):
        camera = Camera(patience=0.5)
        assert camera.see((10, 10, 20, 20)) == [1]
        for _ in range(rate * 4 // 10):  # 0.4 s
            camera.see(after=1 / rate)
        assert camera.see((10, 10, 20, 20), after=1 / rate) == [1]
        for _ in range(rate * 6 // 10):
            camera.see(after=1 / rate)
        assert camera.see((10, 10, 20, 20), after=1 / rate) == [2]


def test_a_long_gap_between_frames_ends_tracks() -> None:
    camera = Camera()
    camera.see((10, 10, 20, 20))
    assert camera.see((10, 10, 20, 20), after=3600) == [2]


def test_cuts_and_jumps_back_end_tracks_and_use_no_id_twice() -> None:
    camera = Camera()
    assert camera.see((10, 10, 20, 20)) == [1]
    assert camera.see((10, 10, 20, 20), is_new_scene=True) == [2]
    assert camera.see((10, 10, 20, 20), after=-0.05) == [3]
    camera.tracker.reset()
    assert camera.see((10, 10, 20, 20)) == [4]


def test_an_id_comes_with_the_frame_that_makes_enough_in_a_row() -> None:
    camera = Camera(minimum_frames=3)
    box = (10, 10, 20, 20)
    assert [camera.see(*seen)[:1] for seen in ([box], [box], [], [box], [box], [box])] == [
        [None], [None], [], [None], [None], [1],
    ]  # fmt: skip
    camera.see()  # from now on it may be out of sight
    assert camera.see(box) == [1]


def test_stamps_that_stand_still_still_let_tracks_end() -> None:
    tracker = Tracker()
    tracker.update(obstacles((10, 10, 20, 20)), 0)
    for _ in range(20):
        tracker.update([], 0)
    assert len(tracker) == 0
    (track,) = tracker.update(obstacles((10, 10, 20, 20)), 0)
    assert track.id == 2


boxes = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 200), st.integers(1, 90), st.integers(1, 60)),
    max_size=12,
)


@given(st.lists(st.tuples(boxes, st.sampled_from([0, 1, 30, 100, 700, -20])), max_size=8))
def test_ids_are_unique_in_a_frame_and_grow(
    frames: list[tuple[list[tuple[int, int, int, int]], int]],
) -> None:
    camera = Camera()
    newest = 0
    for frame, after in frames:
        ids = camera.see(*frame, after=after / 1000)
        assert len(set(ids)) == len(ids) == len(frame)
        fresh = sorted(i for i in ids if i is not None and i > newest)
        assert fresh == list(range(newest + 1, newest + 1 + len(fresh)))
        newest += len(fresh)
        assert camera.tracker.ids <= set(range(1, newest + 1))


@given(st.lists(boxes, min_size=2, max_size=8), st.data())
def test_a_restored_tracker_goes_on_as_the_first(
    frames: list[list[tuple[int, int, int, int]]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(frames)))
    parameters = TrackingParameters(minimum_frames=2)
    whole, first, second = (Tracker(parameters) for _ in range(3))
    for index, frame in enumerate(frames):
        expected = whole.update(obstacles(*frame), index * SECOND // 10)
        if index == cut:
            second.restore(first.save())
        tracker = first if index < cut else second
        assert tracker.update(obstacles(*frame), index * SECOND // 10) == expected


@given(boxes, boxes, st.sampled_from([1, 7, 1000]))
def test_no_overlapping_pair_is_overlooked(
    a: list[tuple[int, int, int, int]], b: list[tuple[int, int, int, int]], scale: int
) -> None:
    first, second = (
        np.array([(x, y, x + w, y + h) for x, y, w, h in of], np.float64).reshape(-1, 4) * scale
        for of in (a, b)
    )
    rows, found = _neighbours(first, second)
    pairs = set(zip(rows.tolist(), found.tolist(), strict=True))
    assert len(pairs) == len(rows)
    every = np.indices((len(a), len(b))).reshape(2, -1)
    overlapping = _iou(first[every[0]], second[every[1]]) > 0
    assert set(map(tuple, every.T[overlapping].tolist())) <= pairs


def test_pairs_that_are_compared_grow_with_the_obstacles() -> None:
    """As many boxes as a frame of noise has, and one that covers them all."""
    rng = np.random.default_rng(1)
    compared = {}
    for count in (1000, 8000):
        corner = rng.uniform(0, (1280, 720), (count, 2))
        small = np.hstack([corner, corner + rng.uniform(1, 9, (count, 2))])
        small[0] = 0, 0, 1280, 720
        compared[count] = len(_neighbours(small, small)[0])
    assert compared[8000] < 16 * compared[1000]
    assert compared[8000] < 8000 * 60


@pytest.mark.parametrize('values', [(0, 1.0), (256, 1.0), (1, -0.1), (1, float('nan'))])
def test_values_out_of_range_are_refused(values: tuple[int, float]) -> None:
    with pytest.raises(MaskomalyError, match=r'is out of range'):
        TrackingParameters(*values)
