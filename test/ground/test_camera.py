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

"""Calibrated cameras see points where they are, and nothing where they cannot."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.ground import CameraModel, CameraPose, decode_depth, read_camera_info

LENSES: dict[str, list[float]] = {
    'plumb_bob': [-0.28, 0.07, 0.0004, -0.0003, 0.0],
    'rational_polynomial': [0.9, 0.2, 0.0002, -0.0001, 0.01, 1.25, 0.45, 0.05],
    'equidistant': [-0.02, 0.004, -0.003, 0.0005],
}


def info(model: str = 'plumb_bob', d: list[float] | None = None, **fields: Any) -> Any:
    """Make a CameraInfo of 1280 x 720 pixels."""
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    values = {
        'width': 1280,
        'height': 720,
        'distortion_model': model,
        'd': LENSES[model] if d is None else d,
        'k': [900.0, 0.0, 645.0, 0.0, 905.0, 352.0, 0.0, 0.0, 1.0],
        'r': np.eye(3).ravel(),
        'p': [850.0, 0.0, 640.0, 0.0, 0.0, 850.0, 360.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        'binning_x': 0,
        'binning_y': 0,
        'roi': roi,
    }
    return SimpleNamespace(**{**values, **fields})


@given(
    st.sampled_from(sorted(LENSES)),
    st.lists(
        st.tuples(st.floats(-0.55, 0.55), st.floats(-0.35, 0.35), st.floats(0.5, 80)), min_size=1
    ),
)
def test_rays_undo_projection_through_every_lens(
    model: str, points: list[tuple[float, float, float]]
) -> None:
    camera = CameraModel.from_info(info(model))
    true = np.array([(x * z, y * z, z) for x, y, z in points])
    rays = camera.rays(camera.project(true))
    np.testing.assert_allclose(rays, true / np.linalg.norm(true, axis=1)[:, None], atol=1e-6)


def test_pixels_beyond_the_lens_have_no_ray() -> None:
    camera = CameraModel.from_info(info(d=[-0.5, 0.0, 0.0, 0.0, 0.0]))
    rays = camera.rays([(645, 352), (2500, 352), (645, -2000)])
    assert np.isfinite(rays[0]).all()
    assert np.isnan(rays[1:]).all()


def test_what_is_behind_is_not_in_the_picture() -> None:
    pixels = CameraModel.from_info(info()).project([(0, 0, 5), (0, 0, -5), (1, 0, 0)])
    np.testing.assert_allclose(pixels[0], (645, 352))
    assert np.isnan(pixels[1:]).all()


@given(st.sampled_from(sorted(LENSES)), st.sampled_from([(360, 640), (1080, 1920), (363, 640)]))
def test_scaled_pictures_show_the_same_corners(model: str, size: tuple[int, int]) -> None:
    """The middle and the corners of the picture are where they were, whatever the pixels."""
    whole = CameraModel.from_info(info(model))
    scaled = whole.for_size(size)
    assert scaled.size == size
    share = np.array([(0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (0.3, 0.8)])
    rays = [c.rays(share * c.size[::-1] - 0.5) for c in (whole, scaled)]
    np.testing.assert_allclose(*rays, atol=1e-9)


def test_pictures_of_another_shape_are_refused() -> None:
    with pytest.raises(MaskomalyError, match=r'calibrated for 1280 x 720 .* 640 x 480'):
        CameraModel.from_info(info()).for_size((480, 640))


def test_a_driver_that_cuts_and_bins_says_so() -> None:
    roi = SimpleNamespace(x_offset=320, y_offset=180, width=640, height=360)
    cut = CameraModel.from_info(info(roi=roi, binning_x=2, binning_y=2))
    assert cut.size == (180, 320)
    # The corner between four pixels of the sensor is the corner of one of the picture.
    place = np.array([[400 - 0.5, 300 - 0.5]])
    np.testing.assert_allclose(
        cut.rays((place + 0.5 - (320, 180)) / 2 - 0.5),
        CameraModel.from_info(info()).rays(place),
        atol=1e-12,
    )


def test_rectified_pictures_have_their_own_projection() -> None:
    angle = 0.05
    r = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    camera = CameraModel.from_info(info(r=r.ravel()), is_rectified=True)
    point = np.array([[1.0, 0.5, 10.0]])
    x, y, z = r @ point[0]
    np.testing.assert_allclose(camera.project(point), [[850 * x / z + 640, 850 * y / z + 360]])
    np.testing.assert_allclose(
        camera.rays(camera.project(point)), point / np.linalg.norm(point), atol=1e-12
    )


@pytest.mark.parametrize(
    ('wrong', 'reason'),
    [
        ({'k': [0.0] * 9}, 'not calibrated'),
        ({'k': [float('nan')] * 9}, 'not calibrated'),
        ({'model': 'plumb_bob', 'd': [0.1, 0.2]}, '2 coefficients'),
        ({'distortion_model': 'thin_prism'}, "'thin_prism' is unknown"),
        ({'d': [float('inf'), 0, 0, 0, 0]}, 'no numbers'),
        ({'width': 0}, '0 x 720'),
    ],
)
def test_what_is_no_calibration_is_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(MaskomalyError, match=reason):
        CameraModel.from_info(info(**wrong))


def test_names_of_ros_1_are_read() -> None:
    message = info()
    for name in 'kdrp':
        setattr(message, name.upper(), message.__dict__.pop(name))
    assert CameraModel.from_info(message).matrix[0, 2] == 645


def test_calibration_file(shared: Path) -> None:
    path = shared / 'data' / 'clips' / 'vehicle_detection_test_video.camera_info.yaml'
    camera = CameraModel.from_info(read_camera_info(path))
    assert camera.size == (720, 1280)
    assert camera.matrix[0, 0] == 1155.95
    assert camera.distortion.size == 5


def test_lines_of_a_motorway_are_as_far_apart_as_they_are_painted(shared: Path) -> None:
    """Corners read by hand from the first frame of the clip; lanes there are 12 ft wide.

    Pitch makes the lines parallel, height makes the lane 12 ft wide; the rest follows.
    """
    path = shared / 'data' / 'clips' / 'vehicle_detection_test_video.camera_info.yaml'
    camera = CameraModel.from_info(read_camera_info(path))
    edge = camera.rays([(285, 685), (470, 556), (565, 494), (620, 455)])
    # Near end of each mark and its far end.
    marks = camera.rays([(1085, 676), (905, 568), (783, 491), (761, 478), (735, 461), (727, 454)])

    def lines(pitch: float, height: float = 1.0) -> tuple[Any, Any]:
        pose = CameraPose.mounted(height, pitch)
        return tuple(np.polyfit(*pose.cast(r)[:, :2].T, 1) for r in (edge, marks))

    pitches = np.radians(np.arange(-3, 3, 0.01))
    pitch = min(pitches, key=lambda p: abs(np.subtract(*lines(p))[0]))
    left, right = lines(pitch)
    height = 12 * 0.3048 / abs(left[1] - right[1]) / np.cos(np.arctan(left[0]))
    assert height == pytest.approx(1.2, abs=0.15), 'of a camera behind a windscreen'
    ahead = CameraPose.mounted(height, pitch).cast(marks)[:, 0]
    np.testing.assert_allclose(np.diff(ahead[::2]), 48 * 0.3048, rtol=0.05)
    car = CameraPose.mounted(height, pitch).cast(camera.rays([(833, 493), (938, 494)]))
    assert abs(np.subtract(*car[:, 1])) == pytest.approx(1.7, abs=0.15), 'between its wheels'


def test_calibration_file_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / 'camera.yaml'
    with pytest.raises(MaskomalyError, match='cannot read'):
        read_camera_info(file)
    file.write_text('image_width: 640')
    with pytest.raises(MaskomalyError, match='image_height'):
        read_camera_info(file)


def depth_image(values: Any, encoding: str, *, padding: int = 0, order: str = '<') -> Any:
    stored = np.asarray(values, order + {'16UC1': 'u2', '32FC1': 'f4'}[encoding])
    rows = np.ascontiguousarray(stored).view(np.uint8).reshape(len(stored), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    return SimpleNamespace(
        encoding=encoding, height=len(stored), width=stored.shape[1], step=rows.shape[1],
        is_bigendian=order == '>', data=rows.tobytes(),
    )  # fmt: skip


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('padding', [0, 3])
def test_depth_is_in_metres(order: str, padding: int) -> None:
    millimetres = depth_image([[1500, 0], [65535, 1]], '16UC1', padding=padding, order=order)
    nan = np.nan
    np.testing.assert_allclose(
        decode_depth(millimetres, (2, 2)), [[1.5, nan], [65.535, 0.001]], rtol=1e-6
    )
    metres = depth_image([[1.5, nan, -1], [np.inf, 0, 2]], '32FC1', padding=padding, order=order)
    np.testing.assert_allclose(decode_depth(metres, (2, 3)), [[1.5, nan, nan], [nan, nan, 2]])


def test_depth_of_another_resolution_is_not_blended() -> None:
    small = depth_image([[1, 9], [3, 4]], '32FC1')
    assert set(decode_depth(small, (4, 4)).ravel().tolist()) == {1, 9, 3, 4}


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'encoding': 'rgb8'}, "'rgb8' is no depth image"),
        ({'step': 3}, 'do not fit'),
        ({'height': 3}, 'do not fit'),
        ({'width': 0}, 'do not fit'),
    ],
)
def test_what_is_no_depth_is_refused(change: dict[str, Any], reason: str) -> None:
    image = depth_image([[1, 2], [3, 4]], '16UC1')
    image.__dict__.update(change)
    with pytest.raises(MaskomalyError, match=reason):
        decode_depth(image, (2, 2))


def test_depth_of_another_shape_is_not_aligned() -> None:
    with pytest.raises(MaskomalyError, match='not aligned'):
        decode_depth(depth_image(np.ones((2, 2)), '32FC1'), (2, 4))
