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

"""Where a camera is above the ground, which is taken as a plane."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError

Floats = NDArray[np.float64]

# From the optical frame to one that looks along x, with y to the left and z up (REP 103).
_FORWARD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
_LOWEST = 0.01  # metres; nothing can be said of a ground that the camera lies on


@dataclass(frozen=True)
class CameraPose:
    """Where a camera is in a frame whose z points up.

    Attributes:
        rotation: float [3, 3], from the optical frame to that frame.
        position: float [3], of the camera in that frame, in metres.
        ground: z of the ground in that frame, in metres.
        frame: its name; empty for one that nobody else knows, below the camera.

    Raises:
        MaskomalyError: the camera is not above the ground.

    """

    rotation: Floats
    position: Floats
    ground: float = 0.0
    frame: str = ''

    def __post_init__(self) -> None:
        """Refuse a camera from which there is no looking down."""
        if not self.height >= _LOWEST:  # also refuses NaN
            raise MaskomalyError(
                f'the camera is {self.height:.2f} m above the ground; it must be {_LOWEST} m at '
                'least. Check camera_height, or the transform and ground_height'
            )

    @classmethod
    def mounted(cls, height: float, pitch: float = 0.0, roll: float = 0.0) -> CameraPose:
        """Return the pose of a camera over level ground, in a frame on the ground below it.

        Args:
            height: of the camera above the ground, in metres.
            pitch: in radians, by which it looks down.
            roll: in radians, by which its right side is lower than its left.

        """
        sin, cos = math.sin(pitch), math.cos(pitch)
        down = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        sin, cos = math.sin(roll), math.cos(roll)
        right = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
        return cls(down @ right @ _FORWARD, np.array([0.0, 0.0, height]))

    @classmethod
    def from_transform(
        cls,
        translation: Sequence[float],
        quaternion: Sequence[float],
        *,
        ground: float = 0.0,
        frame: str = '',
    ) -> CameraPose:
        """Return the pose that a transform of TF, from the optical frame to another, describes.

        Args:
            translation: x, y, z in metres.
            quaternion: x, y, z, w.
            ground: z of the ground in the other frame, in metres.
            frame: the name of the other frame.

        Raises:
            MaskomalyError: the quaternion is none, or the camera is not above the ground.

        """
        x, y, z, w = (float(value) for value in quaternion)
        norm = math.sqrt(x * x + y * y + z * z + w * w)
        if not 0.5 < norm < 2.0:
            raise MaskomalyError(f'{x}, {y}, {z}, {w} is no quaternion of a rotation')
        x, y, z, w = x / norm, y / norm, z / norm, w / norm
        rotation = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )
        return cls(rotation, np.array(translation, np.float64), ground, frame)

    @property
    def height(self) -> float:
        """Metres of the camera above the ground."""
        return float(self.position[2] - self.ground)

    def cast(self, rays: NDArray[Any]) -> Floats:
        """Return where rays of the optical frame meet the ground.

        Args:
            rays: float [N, 3].

        Returns:
            Float [N, 3] in the frame of the pose; NaN for rays at or above the horizon.

        """
        directions = np.asarray(rays, np.float64) @ self.rotation.T
        down = -directions[:, 2]
        with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
            length = np.where(down > 0, self.height / down, np.nan)
            points = self.position + length[:, None] * directions
        points[:, 2] = np.where(np.isnan(length), np.nan, self.ground)
        return np.asarray(points)

    def to_frame(self, points: NDArray[Any]) -> Floats:
        """Return points of the optical frame [N, 3] in the frame of the pose."""
        return np.asarray(np.asarray(points, np.float64) @ self.rotation.T + self.position)

    def to_optical(self, points: NDArray[Any]) -> Floats:
        """Return points of the frame of the pose [N, 3] in the optical frame."""
        return np.asarray((np.asarray(points, np.float64) - self.position) @ self.rotation)
