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

"""Frames are found however they are connected."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.ground.frames import Frames

OPTICAL = (-0.5, 0.5, -0.5, 0.5)
LEVEL = (0.0, 0.0, 0.0, 1.0)


def test_a_chain_up_and_down_the_tree() -> None:
    frames = Frames()
    frames.add('base_footprint', 'base_link', (0, 0, 0.3), LEVEL)
    frames.add('base_link', 'mast', (1.0, 0.5, 1.0), LEVEL)
    frames.add('/mast', 'camera', (0.2, 0.0, 0.1), LEVEL)
    frames.add('camera', '/camera_optical', (0, 0, 0), OPTICAL)
    frames.add('base_link', 'lidar', (5, 5, 5), LEVEL)
    pose = frames.pose('camera_optical', 'base_footprint')
    np.testing.assert_allclose(pose.position, (1.2, 0.5, 1.4), atol=1e-12)
    np.testing.assert_allclose(pose.rotation @ (0, 0, 1), (1, 0, 0), atol=1e-12)
    assert pose.frame == 'base_footprint'
    assert frames.pose('camera_optical', 'base_link', ground=-0.3).height == pytest.approx(1.4)


@given(st.floats(-3, 3), st.tuples(*[st.floats(-2, 2)] * 3))
def test_the_way_back_undoes_the_way_there(turn: float, place: tuple[float, float, float]) -> None:
    quaternion = (0.0, 0.0, float(np.sin(turn / 2)), float(np.cos(turn / 2)))
    frames = Frames()
    frames.add('a', 'b', place, quaternion)
    there, back = frames.pose('a', 'b', ground=-9), frames.pose('b', 'a', ground=-9)
    point = np.array([[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(there.to_frame(back.to_frame(point)), point, atol=1e-9)


def test_the_first_transform_counts() -> None:
    frames = Frames()
    frames.add('map', 'camera', (1, 2, 3), LEVEL)
    frames.add('map', 'camera', (7, 8, 9), LEVEL)
    np.testing.assert_allclose(frames.pose('camera', 'map').position, (1, 2, 3))


def test_frames_that_nothing_connects() -> None:
    frames = Frames()
    frames.add('map', 'camera', (1, 2, 3), LEVEL)
    with pytest.raises(MaskomalyError, match='no transform connects lidar with map'):
        frames.pose('lidar', 'map')
    with pytest.raises(MaskomalyError, match='an empty frame_id'):
        frames.pose('', 'map')
    with pytest.raises(MaskomalyError, match='no quaternion'):
        frames.add('map', 'radar', (0, 0, 0), (0, 0, 0, 0))
