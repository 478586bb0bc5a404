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

"""Tests of maskomaly_ros.road_prior."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskomaly_ros.networks import MaskPrediction
from maskomaly_ros.road_prior import find_road_classes, road_evidence, weigh


def prediction(road: torch.Tensor, frames: int = 1) -> MaskPrediction:
    """Return what a network answers that sees road, or else sky, in a map [h, w] of booleans."""
    masks = torch.stack([road, ~road]).float() * 16 - 8
    classes = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
    size = tuple(road.shape)
    return MaskPrediction(
        masks.expand(frames, *masks.shape),
        classes.expand(frames, *classes.shape),
        (4 * size[0], 4 * size[1]),
        (float(size[0]), float(size[1])),
    )


def scene() -> torch.Tensor:
    """Return road in the lower half, with a hole in it."""
    road = torch.zeros(60, 100, dtype=torch.bool)
    road[30:] = True
    road[40:50, 20:40] = False
    return road


def test_holes_speak_for_an_obstacle_and_what_is_off_the_road_against_it() -> None:
    evidence = road_evidence(prediction(scene(), frames=2), [0])
    assert evidence.shape == (2, 240, 400)
    assert evidence.dtype == torch.float32
    assert torch.equal(evidence[0], evidence[1])
    one = evidence[0]
    assert one[180, 120] == pytest.approx(1, abs=1e-3), 'in the hole'
    assert one[200, 300] == pytest.approx(0, abs=1e-3), 'on the road'
    assert one[20, 200] == pytest.approx(-1, abs=1e-3), 'in the sky'
    assert -0.7 < one[108, 200] < -0.1, 'what rises above the road by little loses little'
    assert one.min() >= -1
    assert one.max() <= 1


@pytest.mark.parametrize('road', [[], [1, 2, 7]])
def test_without_a_road_nothing_is_said(road: list[int]) -> None:
    only_road = torch.ones(30, 40, dtype=torch.bool)
    assert not road_evidence(prediction(only_road), road).any()


def test_a_gap_at_the_edge_is_no_hole() -> None:
    road = scene()
    road[40:50, :40] = False
    assert road_evidence(prediction(road), [0]).max() <= 1e-6


numbers = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=20)


@given(numbers, st.floats(-1, 1, width=32), st.floats(0, 10))
def test_weighing_keeps_the_order_and_the_ends(
    values: list[float], evidence: float, weight: float
) -> None:
    score = torch.tensor([0.0, *sorted(values), 1.0])
    found = weigh(score, torch.full_like(score, evidence), weight)
    assert (found[0], found[-1]) == (0, 1)
    assert (found.diff() >= -1e-6).all()
    middle = score[1:-1]
    rises = found[1:-1] - middle
    assert (rises * np.sign(evidence) >= -1e-6).all()


def test_odds_are_multiplied() -> None:
    found = weigh(torch.tensor([0.5, 0.2]), torch.tensor([1.0, -0.5]), 2.0).double()
    np.testing.assert_allclose(found / (1 - found), [np.e**2, 0.25 / np.e], rtol=1e-5)
    score = torch.rand(5, 7)
    assert torch.equal(weigh(score, torch.rand(5, 7), 0.0), score)


def test_road_is_known_by_name() -> None:
    assert find_road_classes(('sky', 'Road', 'car')) == (1,)
    assert find_road_classes(('drivable', 'non-drivable')) == (0,)
    assert find_road_classes(('LABEL_0',)) == ()
