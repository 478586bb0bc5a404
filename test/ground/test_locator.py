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

"""Obstacles that a synthetic camera sees are put where they are."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.ground import CameraModel, CameraPose, Located, Locator, LocatorParameters
from maskomaly_ros.obstacles import Components, find_components

SIZE = (720, 1280)
MATRIX = np.array([[1000.0, 0, 640], [0, 1000.0, 360], [0, 0, 1]])
CAMERA = CameraModel(SIZE, MATRIX)
FAR = LocatorParameters(max_range=500.0, pitch_uncertainty=0.0)

poses = st.builds(
    CameraPose.mounted, st.floats(0.4, 4.0), st.floats(-0.15, 0.5), st.floats(-0.4, 0.4)
)
lenses = st.sampled_from(
    [
        CAMERA,
        CameraModel(SIZE, MATRIX, np.array([-0.25, 0.06, 0.0005, -0.0004, 0.0])),
        CameraModel(SIZE, MATRIX, np.array([0.9, 0.2, 0.0002, -0.0001, 0.01, 1.25, 0.45, 0.05])),
        CameraModel(SIZE, MATRIX, np.array([-0.02, 0.004, -0.003, 0.0005]), is_fisheye=True),
    ]
)


def components(mask: NDArray[np.uint8], minimum_area: int = 0) -> Components:
    return find_components(np.where(mask > 0, np.float32(0.95), 0), mask, minimum_area)


def seen(camera: CameraModel, pose: CameraPose, *solids: NDArray[np.float64]) -> Components:
    """Return what a camera sees of the convex hulls of points, float [N, 3], z up."""
    mask = np.zeros(camera.size, np.uint8)
    for solid in solids:
        pixels = camera.project(pose.to_optical(solid))
        assert np.isfinite(pixels).all()
        hull = cv2.convexHull(np.round(pixels).astype(np.int32))
        cv2.fillConvexPoly(mask, hull, 255)
    return components(mask)


def box(
    x: float, y: float, length: float, width: float, height: float, *, above: float = 0.0
) -> NDArray[np.float64]:
    """Return the corners of a box on or above the ground, nearest face at x."""
    return np.array(
        [
            (x + a * length, y + (b - 0.5) * width, above + c * height)
            for a in (0, 1)
            for b in (0, 1)
            for c in (0, 1)
        ]
    )


@given(lenses, poses, st.floats(2.0, 40.0), st.floats(-0.35, 0.35))
def test_a_point_of_the_ground_is_found_again(
    camera: CameraModel, pose: CameraPose, distance: float, bearing: float
) -> None:
    """Through any lens, at any height, pitch and roll, to within the pixel that it falls on."""
    true = np.array([distance, distance * np.tan(bearing), 0.0])
    column, row = camera.project(pose.to_optical(true[None]))[0]
    assume(10 < column < SIZE[1] - 10 and 10 < row < SIZE[0] - 10)
    np.testing.assert_allclose(pose.cast(camera.rays([(column, row)]))[0], true, atol=1e-3)

    mask = np.zeros(SIZE, np.uint8)
    lowest = int(np.floor(row)), round(column)
    mask[max(lowest[0] - 8, 0) : lowest[0] + 1, lowest[1] - 3 : lowest[1] + 4] = 255
    located = Locator(camera, pose, FAR).locate(components(mask))
    middle = pose.to_frame(_xyz(located))[3]
    # The lower edge of the pixel is less than one pixel below the point, and half a column off.
    nearer = pose.cast(camera.rays([(column, row + 1.0)]))[0]
    reach = 1.5 * np.linalg.norm(nearer - true) + 2 * distance / 1000
    assert np.linalg.norm(middle - true) <= reach


def _xyz(located: Located) -> NDArray[np.float64]:
    return np.column_stack([located.points[name] for name in 'xyz']).astype(np.float64)


@given(lenses, poses, st.floats(4.0, 30.0), st.floats(-2.0, 2.0), st.floats(0.3, 2.0))
def test_range_of_a_box_is_that_of_its_near_face(
    camera: CameraModel, pose: CameraPose, x: float, y: float, height: float
) -> None:
    solid = box(x, y, 0.5, 0.8, height)
    pixels = camera.project(pose.to_optical(solid))
    assume(np.isfinite(pixels).all() and (pixels > 3).all())
    assume((pixels[:, 0] < SIZE[1] - 3).all() and (pixels[:, 1] < SIZE[0] - 3).all())
    located = Locator(camera, pose, FAR).locate(seen(camera, pose, solid))
    (obstacle,) = located.obstacles
    assert obstacle.range is not None
    assert obstacle.range_stddev is not None
    nearest = float(np.hypot(x, np.clip(0, y - 0.4, y + 0.4)))
    # A rounded corner is half a pixel off, and the edge of a pixel half a pixel further.
    assert abs(obstacle.range - nearest) <= 4 * obstacle.range_stddev + 0.02 * nearest


@given(poses, st.integers(0, SIZE[1] - 1))
def test_nothing_lies_at_or_above_the_horizon(pose: CameraPose, column: int) -> None:
    rows = np.arange(-2000, 3000, 7)
    rays = CAMERA.rays(np.column_stack([np.full(len(rows), column), rows]))
    places = pose.cast(rays)
    down = (rays @ pose.rotation.T)[:, 2] < 0
    assert (np.isfinite(places).all(axis=1) == down).all()
    ahead = pose.to_optical(places[down])
    assert (np.einsum('ij,ij->i', ahead, rays[down]) > 0).all()


def test_what_stands_above_the_horizon_has_no_place() -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[100:200, 100:200] = 255
    mask[500:600, 500:600] = 255
    located = Locator(CAMERA, CameraPose.mounted(1.5), FAR).locate(components(mask))
    ranges = {o.y: o.range for o in located.obstacles}
    assert ranges[100] is None
    assert ranges[500] == pytest.approx(1.5 * 1000 / (599.5 - 360), rel=0.01)


def test_points_farther_than_max_range_are_dropped() -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[380:400, 300:400] = 255
    for most, count in ((30.0, 0), (50.0, 100)):  # it is at 1.5 * 1000 / 39.5 = 38 m
        locator = Locator(CAMERA, CameraPose.mounted(1.5), LocatorParameters(most))
        assert len(locator.locate(components(mask)).points) == count


def test_deviation_is_of_half_a_pixel_and_of_pitch() -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[400:440, 630:650] = 255
    pose = CameraPose.mounted(1.5)

    def deviation(uncertainty: float) -> float:
        locator = Locator(CAMERA, pose, LocatorParameters(100, uncertainty))
        return float(locator.locate(components(mask)).points['range_stddev'][10])

    def distance(rows: float) -> float:
        return 1.5 * 1000 / (439.5 - 360 + rows)

    half_pixel = (distance(-0.5) - distance(0.5)) / 2
    assert deviation(0.0) == pytest.approx(half_pixel, rel=0.02)
    angle = np.arctan(1.5 / distance(0))
    pitched = (1.5 / np.tan(angle - 0.002) - 1.5 / np.tan(angle + 0.002)) / 2
    assert deviation(0.002) == pytest.approx(np.hypot(half_pixel, pitched), rel=0.02)


def test_outstretched_arms_are_no_obstacle_far_behind() -> None:
    """A person is where the feet are; hands, cast on the ground, would be far behind."""
    pose = CameraPose.mounted(1.5, pitch=0.05)
    mask = np.zeros(SIZE, np.uint8)
    for solid in (box(10, 0, 0.3, 0.5, 1.8), box(10, 0, 0.2, 1.8, 0.2, above=1.2)):
        mask |= seen_mask(pose, solid)
    located = Locator(CAMERA, pose, FAR).locate(components(mask))
    places = pose.to_frame(_xyz(located))
    assert len(places) == pytest.approx(50, abs=6)  # columns of the body
    assert places[:, 0].max() < 10.6
    assert np.abs(places[:, 1]).max() < 0.4


def seen_mask(pose: CameraPose, solid: NDArray[np.float64]) -> NDArray[np.uint8]:
    mask = np.zeros(SIZE, np.uint8)
    hull = cv2.convexHull(np.round(CAMERA.project(pose.to_optical(solid))).astype(np.int32))
    cv2.fillConvexPoly(mask, hull, 255)
    return mask


def test_the_side_of_a_lorry_is_followed_to_its_end() -> None:
    pose = CameraPose.mounted(1.6)
    located = Locator(CAMERA, pose, FAR).locate(seen(CAMERA, pose, box(9, -4.2, 9, 2.4, 3)))
    places = pose.to_frame(_xyz(located))
    assert places[:, 0].max() > 16.5
    assert places[:, 0].min() == pytest.approx(9, abs=0.15)


def test_between_the_pillars_of_an_arch_is_room() -> None:
    pose = CameraPose.mounted(1.5, pitch=0.05)
    mask = np.zeros(SIZE, np.uint8)
    for solid in (
        box(12, -2, 0.4, 0.4, 2),
        box(12, 2, 0.4, 0.4, 2),
        box(12, 0, 0.4, 4.4, 0.3, above=1.0),
    ):
        mask |= seen_mask(pose, solid)
    places = pose.to_frame(_xyz(Locator(CAMERA, pose, FAR).locate(components(mask))))
    assert places[:, 0].max() < 13
    assert np.abs(places[:, 1]).min() > 1.5


def test_points_have_the_score_and_the_id_of_their_obstacle() -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[500:520, 100:140] = 255
    mask[600:610, 700:720] = 255
    found = components(mask)
    first, second = found.obstacles
    found = found.chosen([None, replace(second, id=7)])
    located = Locator(CAMERA, CameraPose.mounted(1.5), FAR).locate(found)
    assert set(located.points['id'].tolist()) == {7}
    assert set(located.points['score'].tolist()) == {np.float32(0.95)}
    assert len(located.points) == len(located.footprint(0)) == 20
    assert first.width == 40


@given(poses)
def test_points_without_a_known_frame_are_in_the_optical_one(pose: CameraPose) -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[650:, 600:610] = 255
    located = Locator(CAMERA, pose, FAR).locate(components(mask))
    assert located.frame == ''
    if len(located.points):
        np.testing.assert_allclose(pose.to_frame(_xyz(located))[:, 2], 0, atol=1e-3)


@given(
    st.tuples(*[st.floats(-1, 1)] * 4), st.tuples(*[st.floats(-2, 2)] * 2), st.floats(0.5, 3),
    st.floats(-1, 1),
)  # fmt: skip
def test_transforms_of_tf_are_poses(
    quaternion: tuple[float, float, float, float],
    place: tuple[float, float],
    height: float,
    ground: float,
) -> None:
    assume(0.6 < np.linalg.norm(quaternion) < 1.9)
    translation = (*place, ground + height)
    pose = CameraPose.from_transform(translation, quaternion, ground=ground, frame='base_link')
    assert pose.height == pytest.approx(height)
    np.testing.assert_allclose(pose.rotation @ pose.rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(pose.rotation) == pytest.approx(1)
    places = pose.cast(np.random.default_rng(1).normal(size=(20, 3)))
    hit = places[np.isfinite(places[:, 0])]
    np.testing.assert_allclose(hit[:, 2], ground)
    point = np.array([[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(pose.to_optical(pose.to_frame(point)), point, atol=1e-9)


def test_the_usual_optical_frame_looks_forward() -> None:
    pose = CameraPose.from_transform((1.2, 0, 1.5), (-0.5, 0.5, -0.5, 0.5), frame='base_link')
    np.testing.assert_allclose(pose.rotation, CameraPose.mounted(1.5).rotation, atol=1e-12)
    located = Locator(CAMERA, pose, FAR).locate(seen(CAMERA, pose, box(10, 1, 1, 1, 1)))
    assert located.frame == 'base_link'
    assert located.points['x'].min() == pytest.approx(10, abs=0.15)
    (obstacle,) = located.obstacles
    assert obstacle.range == pytest.approx(np.hypot(8.8, 0.5), abs=0.15), 'from the camera'


def test_pitch_looks_down_and_roll_lowers_the_right() -> None:
    pose = CameraPose.mounted(1.5, pitch=0.1)
    assert pose.cast(CAMERA.rays([(640, 360)]))[0, 0] == pytest.approx(1.5 / np.tan(0.1))
    rolled = CameraPose.mounted(1.5, roll=0.1)
    left, right = rolled.rotation @ (-1, 0, 0), rolled.rotation @ (1, 0, 0)
    assert left[2] > 0 > right[2]


@pytest.mark.parametrize('height', [0.0, -1.0, float('nan')])
def test_a_camera_below_the_ground_is_refused(height: float) -> None:
    with pytest.raises(MaskomalyError, match='above the ground'):
        CameraPose.mounted(height)


def test_depth_puts_every_pixel_into_space() -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[300:310, 600:640] = 255  # above the horizon, where the ground says nothing
    depth = np.full(SIZE, np.nan, np.float32)
    depth[295:310, 600:620] = 8.0
    depth[300, 600] = 1.0  # one of 200 that is wrong
    for pose in (None, CameraPose.mounted(1.5)):
        located = Locator(CAMERA, pose, FAR).locate(components(mask), depth)
        assert len(located.points) == 200
        assert np.isnan(located.points['range_stddev']).all()
        assert np.median(located.points['z']) == pytest.approx(8)
        (obstacle,) = located.obstacles
        assert obstacle.range == pytest.approx(8, abs=0.05)
        assert obstacle.range_stddev is None


def test_large_obstacles_are_thinned_evenly_and_small_ones_are_not() -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[100:500, 100:500] = 255  # 160,000 pixels
    mask[600:603, 1:8] = 255
    depth = np.full(SIZE, 8.0, np.float32)
    located = Locator(CAMERA, None, FAR).locate(components(mask), depth)
    counts = np.bincount(located.owner).tolist()
    assert counts == [134**2, 21], 'every third row and column, and every pixel'
    corners = CAMERA.project(located.footprint(0))
    np.testing.assert_allclose(corners.min(axis=0), 100, atol=3)
    np.testing.assert_allclose(corners.max(axis=0), 499, atol=3)
    assert all(o.range is not None for o in located.obstacles)


def test_without_pose_and_depth_there_is_no_place() -> None:
    with pytest.raises(MaskomalyError, match='neither'):
        Locator(CAMERA, None).locate(components(np.zeros(SIZE, np.uint8)))


def test_an_empty_mask_has_no_points() -> None:
    located = Locator(CAMERA, CameraPose.mounted(1.5)).locate(components(np.zeros(SIZE, np.uint8)))
    assert (len(located.points), located.obstacles) == (0, ())


@pytest.mark.parametrize('values', [(0.0, 0.1), (1e9, 0.1), (50.0, -1.0), (50.0, 1.0)])
def test_values_out_of_range_are_refused(values: tuple[float, float]) -> None:
    with pytest.raises(MaskomalyError, match='out of range'):
        LocatorParameters(*values)
