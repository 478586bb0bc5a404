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

"""A calibrated camera: from pixels to rays and back, by OpenCV.

Pixels are (u, v) with whole numbers in the middle of a pixel, as everywhere in OpenCV and ROS. The
optical frame is that of REP 103: x to the right, y down, z forward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.yaml_files import read_yaml

Floats = NDArray[np.float64]

_LENSES = {
    '': (0, 4, 5),
    'plumb_bob': (0, 4, 5),
    'rational_polynomial': (8, 12, 14),
    'equidistant': (0, 4),
    'fisheye': (0, 4),  # as Autoware and some drivers call it
}
_FISHEYE = ('equidistant', 'fisheye')
_MOST_ITERATIONS, _PRECISION = 50, 1e-9
_WRONG_PIXELS = 0.1  # by which a ray may miss the pixel that it was made for
_SAME_ASPECT = 0.01


@dataclass(frozen=True)
class CameraModel:
    """The lens and the sensor of a camera.

    Attributes:
        size: height and width of the pictures that it is for, in pixels.
        matrix: float [3, 3], the projection of undistorted rays, in pixels.
        distortion: float [K] of OpenCV, in the order of its model; empty for none.
        is_fisheye: whether the distortion is equidistant, not of a pinhole.
        rotation: float [3, 3], from the optical frame to that of the rays: not the identity where
            pictures are rectified.

    """

    size: tuple[int, int]
    matrix: Floats
    distortion: Floats = field(default_factory=lambda: np.zeros(0))
    is_fisheye: bool = False
    rotation: Floats = field(default_factory=lambda: np.eye(3))

    @classmethod
    def from_info(cls, info: Any, *, is_rectified: bool = False) -> CameraModel:
        """Return the model that a `sensor_msgs/CameraInfo` describes.

        Args:
            info: has the fields of that message, of ROS 2 or ROS 1.
            is_rectified: the pictures were rectified (`image_rect`), so that its projection
                matrix counts and its distortion does not.

        Raises:
            MaskomalyError: it is not calibrated, or of an unknown model.

        """
        k, d, r, p = (
            np.array(getattr(info, n, getattr(info, n.upper(), ())), float) for n in 'kdrp'
        )
        if not (k.size == 9 and np.isfinite(k).all() and k[0] > 0 and k[4] > 0):
            raise MaskomalyError(
                'camera_info is not calibrated: k has no focal length; calibrate the camera '
                '(camera_calibration) and let its driver load the result'
            )
        size = int(info.height), int(info.width)
        if min(size) < 1:
            raise MaskomalyError(f'camera_info is for {size[1]} x {size[0]} pixels; it needs both')
        model = cls(size, k.reshape(3, 3))
        if is_rectified:
            if not (p.size == 12 and p[0] > 0 and p[5] > 0):
                raise MaskomalyError('camera_info has no projection matrix p for rectified images')
            rotation = r.reshape(3, 3) if r.size == 9 and r.any() else np.eye(3)
            model = replace(model, matrix=p.reshape(3, 4)[:, :3].copy(), rotation=rotation)
        else:
            name = str(info.distortion_model)
            if name not in _LENSES:
                known = ', '.join(filter(None, _LENSES))
                raise MaskomalyError(f'distortion model {name!r} is unknown; use {known}')
            if d.size not in _LENSES[name] and d.any():
                raise MaskomalyError(
                    f'distortion model {name!r} has {d.size} coefficients; it takes '
                    + ' or '.join(map(str, _LENSES[name]))
                )
            if not np.isfinite(d).all():
                raise MaskomalyError('camera_info has distortion coefficients that are no numbers')
            model = replace(
                model,
                distortion=d if d.any() else np.zeros(0),
                is_fisheye=name in _FISHEYE,
            )
        return model._cut_and_binned(info)

    def for_size(self, size: tuple[int, int]) -> CameraModel:
        """Return the model for pictures that were scaled to a height and width.

        Raises:
            MaskomalyError: the shape differs, so that pictures were cut, and nobody knows where.

        """
        if size == self.size:
            return self
        down, across = (new / old for new, old in zip(size, self.size, strict=True))
        if abs(across / down - 1) > _SAME_ASPECT:
            raise MaskomalyError(
                f'the camera is calibrated for {self.size[1]} x {self.size[0]} pixels and the '
                f'frame has {size[1]} x {size[0]}: another shape, so it was cut or squeezed. '
                'Publish the camera_info of these frames'
            )
        return replace(self._scaled(across, down), size=size)

    def rays(self, pixels: NDArray[Any]) -> Floats:
        """Return the viewing directions of pixels.

        Args:
            pixels: [N, 2], u and v; fractions and pixels outside of the picture are good.

        Returns:
            Float [N, 3] of length 1 in the optical frame; NaN where the lens has no ray.

        """
        pixels = np.asarray(pixels, np.float64).reshape(-1, 2)
        if not len(pixels):
            return np.empty((0, 3))
        stop = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, _MOST_ITERATIONS, _PRECISION)
        plane: Any
        if self.is_fisheye:
            plane = cv2.fisheye.undistortPoints(
                pixels[:, None], self.matrix, self._four, criteria=stop
            )
        else:
            plane = _undistorted(pixels[:, None], self.matrix, self.distortion, stop)
        rays = np.column_stack([np.asarray(plane, np.float64)[:, 0], np.ones(len(pixels))])
        # Beyond the reach of a lens the iteration ends somewhere.
        missed = np.abs(self._projected(rays) - pixels).max(axis=1)
        rays[~(missed <= _WRONG_PIXELS)] = np.nan
        rays = rays @ self.rotation  # the inverse of a rotation, on rows
        return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))

    @cached_property
    def plane(self) -> NDArray[np.float32]:
        """The direction of each pixel with z = 1, float32 [H, W, 3]; NaN for those not ahead.

        Undistorting is most of the cost of depth images, so it is done once.
        """
        height, width = self.size
        rows, columns = np.mgrid[:height, :width]
        rays = self.rays(np.column_stack([columns.ravel(), rows.ravel()]))
        ahead = np.where(rays[:, 2:] > 0, rays[:, 2:], np.nan)
        return np.asarray(rays / ahead, np.float32).reshape(height, width, 3)

    def project(self, points: NDArray[Any]) -> Floats:
        """Return where points of the optical frame [N, 3] are in the picture.

        Returns:
            Float [N, 2], u and v; NaN for what lies behind the camera.

        """
        points = np.asarray(points, np.float64).reshape(-1, 3) @ self.rotation.T
        behind = ~(points[:, 2] > 0)
        pixels = self._projected(np.where(behind[:, None], (0.0, 0.0, 1.0), points))
        pixels[behind] = np.nan
        return pixels

    @property
    def _four(self) -> Floats:
        return np.zeros(4) if not self.distortion.size else self.distortion

    def _projected(self, points: Floats) -> Floats:
        """Return the pixels of points in the frame of the rays."""
        if not len(points):
            return np.empty((0, 2))
        nowhere = np.zeros(3)
        with np.errstate(over='ignore', invalid='ignore'):
            pixels: Any
            if self.is_fisheye:
                pixels, _ = cv2.fisheye.projectPoints(
                    points[:, None], nowhere, nowhere, self.matrix, self._four
                )
            else:
                pixels, _ = cv2.projectPoints(
                    points[:, None], nowhere, nowhere, self.matrix, self.distortion
                )
        return np.array(pixels, np.float64).reshape(-1, 2)

    def _scaled(self, across: float, down: float) -> CameraModel:
        """Return the model for an image scaled by a factor."""
        # The corner of the picture stays where it is, half a pixel off the middle of its pixel.
        scale = np.array(
            [[across, 0, across / 2 - 0.5], [0, down, down / 2 - 0.5], [0, 0, 1]], np.float64
        )
        return replace(self, matrix=scale @ self.matrix)

    def _cut_and_binned(self, info: Any) -> CameraModel:
        """Return the model for what the driver says to send of the calibrated sensor."""
        model, (height, width) = self, self.size
        roi = getattr(info, 'roi', None)
        if roi is not None and roi.width and roi.height:
            shift = np.array([[1, 0, -roi.x_offset], [0, 1, -roi.y_offset], [0, 0, 1]], float)
            model = replace(model, matrix=shift @ model.matrix)
            height, width = int(roi.height), int(roi.width)
        across, down = (max(1, int(getattr(info, f'binning_{axis}', 0))) for axis in 'xy')
        model = model._scaled(1 / across, 1 / down)
        return replace(model, size=(height // down, width // across))


def read_camera_info(path: str | Path) -> Any:
    """Return a calibration file, as camera_calibration writes it, with the fields of CameraInfo.

    Raises:
        MaskomalyError: the file cannot be read, or is none.

    """
    try:
        content = read_yaml(Path(path), 'calibration file')
    except OSError as error:
        raise MaskomalyError(f'cannot read the calibration {path}: {error}') from error
    try:
        return SimpleNamespace(
            width=int(content['image_width']),
            height=int(content['image_height']),
            distortion_model=str(content['distortion_model']),
            d=_numbers(content['distortion_coefficients']),
            k=_numbers(content['camera_matrix']),
            r=_numbers(content.get('rectification_matrix', {'data': []})),
            p=_numbers(content.get('projection_matrix', {'data': []})),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MaskomalyError(
            f'{path} is no calibration of camera_calibration: {error!r} is missing or wrong'
        ) from error


def _numbers(matrix: Mapping[str, Sequence[float]]) -> list[float]:
    return [float(value) for value in matrix['data']]


def _undistorted(pixels: Floats, matrix: Floats, distortion: Floats, stop: Any) -> Any:
    """Call cv2.undistortPoints, whose criteria OpenCV 4 has under another name."""
    if hasattr(cv2, 'undistortPointsIter'):
        return cv2.undistortPointsIter(pixels, matrix, distortion, np.eye(3), np.eye(3), stop)
    return cv2.undistortPoints(pixels, matrix, distortion, criteria=stop)
