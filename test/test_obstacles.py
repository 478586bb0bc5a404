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

"""Obstacle mask and connected components, against scipy's labelling."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.obstacles import Obstacle, find_components, find_obstacles, obstacle_mask

ndimage = pytest.importorskip('scipy.ndimage')

shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=14)
scores = hnp.arrays(np.float32, shapes, elements=st.floats(0, 1, width=32))


@given(scores, st.floats(0, 1))
def test_mask_is_where_the_score_is_above_the_threshold(score, threshold):
    mask = obstacle_mask(score, threshold)
    assert mask.dtype == np.uint8
    for position, value in np.ndenumerate(score):
        assert mask[position] == (255 if value > np.float32(threshold) else 0)


def test_score_on_the_threshold_is_no_obstacle():
    score = np.array([[0.5, np.nextafter(np.float32(0.5), np.float32(1))]], np.float32)
    assert obstacle_mask(score, 0.5).tolist() == [[0, 255]]
    assert not obstacle_mask(np.ones((2, 2), np.float32), 1).any()


@given(scores, st.floats(0, 1), st.integers(0, 5))
def test_obstacles_are_the_components_that_scipy_finds(score, threshold, minimum_area):
    mask = obstacle_mask(score, threshold)
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    expected = []
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        values = score[labels == label].astype(float)
        expected.append(
            Obstacle(
                x=columns.start,
                y=rows.start,
                width=columns.stop - columns.start,
                height=rows.stop - rows.start,
                area=len(values),
                mean_score=pytest.approx(values.mean()),
                max_score=values.max(),
            )
        )
    assert len(find_obstacles(score, mask)) == count

    obstacles = find_obstacles(score, mask, minimum_area)

    expected = [obstacle for obstacle in expected if obstacle.area >= minimum_area]
    assert len(obstacles) == len(expected)
    assert all(obstacle in expected for obstacle in obstacles)
    order = [(-obstacle.area, obstacle.y, obstacle.x) for obstacle in obstacles]
    assert order == sorted(order)


def test_pixels_that_touch_at_a_corner_are_one_obstacle():
    score = np.array([[0.6, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.9]], np.float64)
    obstacles = find_obstacles(score, obstacle_mask(score, 0.5))
    assert obstacles == (Obstacle(0, 0, 2, 2, 2, 0.8, 1.0), Obstacle(3, 1, 1, 1, 1, 0.9, 0.9))
    assert find_obstacles(score, obstacle_mask(score, 0.5), 2) == obstacles[:1]


def test_fields_are_plain_numbers():
    score = np.full((3, 4), 0.25, np.float32)
    (obstacle,) = find_obstacles(score, np.full((3, 4), 255, np.uint8))
    assert obstacle == Obstacle(0, 0, 4, 3, 12, 0.25, 0.25)
    assert {type(value) for value in vars(obstacle).values()} == {int, float, type(None)}
    assert (obstacle.id, obstacle.range, obstacle.range_stddev) == (None, None, None)


def test_thousands_of_obstacles():
    score = np.zeros((400, 600), np.float32)
    score[::4, ::4] = np.linspace(0.5, 1, 100 * 150, dtype=np.float32).reshape(100, 150)
    obstacles = find_obstacles(score, obstacle_mask(score, 0.4))
    assert len(obstacles) == 15_000
    assert [o.max_score for o in obstacles] == sorted(score[score > 0].tolist())


def test_views_and_boolean_masks_are_understood():
    score = np.random.default_rng(0).random((20, 30)).astype(np.float16)
    mask = obstacle_mask(score, 0.5)
    expected = find_obstacles(score[:, ::-1].copy(), mask[:, ::-1].copy())
    assert find_obstacles(score[:, ::-1], mask[:, ::-1]) == expected
    assert find_obstacles(score[:, ::-1], mask[:, ::-1] > 0) == expected
    assert find_obstacles(score, np.zeros_like(mask)) == ()


SCORE, MASK = np.zeros((3, 4), np.float32), np.zeros((3, 4), np.uint8)
NAN = np.full((3, 4), math.nan, np.float32)


@pytest.mark.parametrize(
    ('score', 'threshold', 'message'),
    [
        (NAN, 0.5, 'NaN'),
        (SCORE + np.inf, 0.5, 'infinity'),
        (MASK, 0.5, 'holds uint8'),
        (SCORE[0], 0.5, r'is \(4,\)'),
        (SCORE[:0], 0.5, r'is \(0, 4\)'),
        (SCORE, 1.5, 'threshold is 1.5'),
        (SCORE, math.nan, 'threshold is nan'),
    ],
)
def test_bad_arguments_of_the_mask_are_named(score, threshold, message):
    with pytest.raises(MaskomalyError, match=message):
        obstacle_mask(score, threshold)


@pytest.mark.parametrize(
    ('score', 'mask', 'minimum_area', 'message'),
    [
        (NAN, MASK, 0, 'NaN'),
        (SCORE, MASK[:2], 0, r'mask is \(2, 4\) and the score map \(3, 4\)'),
        (SCORE, SCORE, 0, 'mask holds float32'),
        (SCORE, MASK, -1, 'minimum area is -1'),
        (SCORE, MASK, math.nan, 'minimum area is nan'),
    ],
)
def test_bad_arguments_of_the_search_are_named(score, mask, minimum_area, message):
    with pytest.raises(MaskomalyError, match=message):
        find_obstacles(score, mask, minimum_area)


def test_components_say_which_pixels_are_whose():
    score = np.zeros((20, 30), np.float32)
    score[2:4, 3:5] = 0.8
    score[10:15, 20:30] = 0.9
    score[18, 0] = 0.7
    found = find_components(score, obstacle_mask(score, 0.5), minimum_area=2)
    large, small = found.obstacles
    assert found.obstacles == find_obstacles(score, obstacle_mask(score, 0.5), 2)
    whose = np.full(score.shape, -1)
    height, width = found.labels.shape
    whose[found.top : found.top + height, found.left : found.left + width] = found.owner[
        found.labels
    ]
    assert (whose[10:15, 20:30] == 0).all()
    assert (whose[2:4, 3:5] == 1).all()
    assert (whose >= 0).sum() == large.area + small.area

    renamed = replace(small, id=5)
    (only,) = found.chosen([None, renamed]).obstacles
    assert only == renamed
    owner = found.chosen([None, renamed]).owner[found.labels]
    assert (owner >= 0).sum() == small.area
