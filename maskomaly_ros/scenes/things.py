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

"""What stands or moves in a scene: how it is painted, and its shadow on the ground."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from maskomaly_ros.scenes import sprites
from maskomaly_ros.scenes.classes import LIVING, VEHICLE
from maskomaly_ros.scenes.raster import (
    Bytes,
    Camera,
    Floats,
    Light,
    Picture,
    Points,
    Pose,
    Sprite,
)
from maskomaly_ros.scenes.vehicles import vehicle


@dataclass(frozen=True)
class Thing:
    """Something in the world: how far along the road it is, and how to paint it."""

    z: float
    paint: Callable[[Picture], None]
    shade: Callable[[Shadows], None]


_ANGLES = np.linspace(0, 2 * math.pi, 13)[:-1]
_RINGS = np.concatenate(
    [
        np.stack((np.cos(_ANGLES), np.zeros(12), np.sin(_ANGLES)), axis=1) * grow
        for grow in (1.25, 1.0, 0.7)
    ]
)


class Shadows:
    """Cast and contact shadows on the ground, at half the frame's resolution."""

    def __init__(self, camera: Camera, light: Light) -> None:
        self.camera = camera
        self.light = light
        rows, columns = camera.size
        self.shape = ((rows + 1) // 2, (columns + 1) // 2)
        self.cast: Bytes = np.zeros(self.shape, np.uint8)
        self.contact: Bytes = np.zeros(self.shape, np.uint8)

    def _project(self, points: Points) -> Points | None:
        view = self.camera.view(points)
        view[:, 2] = np.maximum(view[:, 2], 0.7)
        pixels = self.camera.pixels(view) / 2
        if pixels[:, 0].max() < 0 or pixels[:, 0].min() > self.shape[1]:
            return None
        return np.clip(pixels, -4000, 4000)

    def _fill(self, target: Bytes, points: Points, strength: int) -> None:
        pixels = self._project(points)
        if pixels is not None:
            hull = cv2.convexHull(np.round(pixels * 8).astype(np.int32))
            cv2.fillConvexPoly(target, hull, strength, cv2.LINE_AA, 3)

    def touch(self, x: float, z: float, half_width: float, half_length: float) -> None:
        """Darken the ground under something that stands at (x, z)."""
        if not 1 < z - self.camera.z < 35:
            return
        pixels = self._project(_RINGS * (half_width, 0, half_length) + (x, 0, z))
        if pixels is not None:
            outlines = np.round(pixels * 8).astype(np.int32).reshape(3, -1, 2)
            for outline, strength in zip(outlines, (70, 130, 190), strict=True):
                cv2.fillConvexPoly(self.contact, outline, strength, cv2.LINE_AA, 3)

    def footprint(self, corners: Points, pose: Pose) -> None:
        """Darken the ground under a solid; ``corners`` [4, 3] around its middle."""
        for grow, strength in ((0.22, 90), (0.09, 170), (-0.04, 235)):
            self._fill(self.contact, pose.place(corners + np.sign(corners) * grow), strength)

    def box(self, footprint: Points, height: float) -> None:
        """Let a box throw its shadow; ``footprint`` [4, 3] on the ground."""
        if self.light.shadow <= 0:
            return
        sx, sy, sz = self.light.direction
        away = np.array((-sx / sy * height, 0, -sz / sy * height))
        self._fill(self.cast, np.concatenate((footprint, footprint + away)), 255)

    def flat(self, sprite: Sprite, x: float, z: float, scale: float = 1.0) -> None:
        """Let an upright picture throw its shadow."""
        if self.light.shadow <= 0 or z - self.camera.z > 55:
            return
        sx, sy, sz = self.light.direction
        height, half = sprite.height * scale, sprite.width * scale / 2
        across = np.array((sz, 0.0, -sx)) / max(math.hypot(sx, sz), 1e-6) * half
        foot = np.array((x, 0.0, z))
        tip = foot + np.array((-sx, 0, -sz)) / sy * height
        corners = np.array((foot - across, foot + across, tip + across, tip - across))
        view = self.camera.view(corners)
        if view[:, 2].min() < 0.7:
            return
        pixels = self.camera.pixels(view) / 2
        rows, columns = self.shape
        left, top = np.maximum(np.floor(pixels.min(axis=0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(pixels.max(axis=0)), (columns, rows)).astype(int)
        if right <= left or bottom <= top:
            return
        source = sprite.levels[min(2, len(sprite.levels) - 1)]
        h, w = source.shape[:2]
        known = np.array(((0, h), (w, h), (w, 0), (0, 0)), np.float32)
        matrix = cv2.getPerspectiveTransform(known, (pixels - (left, top)).astype(np.float32))
        patch = cv2.warpPerspective(
            np.ascontiguousarray(source[..., 3]), matrix, (int(right - left), int(bottom - top))
        )
        window = self.cast[top:bottom, left:right]
        np.maximum(window, patch, out=window)


def upright_thing(
    sprite: Sprite, x: float, z: float, label: int, *, scale: float = 1.0, tint: Floats
) -> Thing:
    """Return a picture that stands at (x, z) and throws a shadow."""

    def paint(picture: Picture) -> None:
        picture.stand(sprite, x, z, label, scale=scale, tint=tint)

    def shade(shadows: Shadows) -> None:
        shadows.touch(x, z, min(0.3 * sprite.width * scale, 0.8), 0.3)
        shadows.flat(sprite, x, z, scale)

    return Thing(z, paint, shade)


def vehicle_thing(variant: int, x: float, z: float, heading: float) -> Thing:
    """Return a vehicle at (x, z) that points ``heading`` to the right of the Z axis."""
    solid, (width, height, length) = vehicle(variant)
    pose = Pose(x, z, heading)

    def paint(picture: Picture) -> None:
        column, _, depth = picture.camera.spot(x, 0.0, z)
        if depth < -3 or (depth > 8 and not -400 < column < picture.camera.size[1] + 400):
            return
        details = picture.camera.focal * height > 9 * depth  # too small to be seen otherwise
        picture.solid(solid, pose, VEHICLE, details=details)

    def shade(shadows: Shadows) -> None:
        if z - shadows.camera.z > 80:
            return
        corners = (
            np.array(((-1, 0, -1), (1, 0, -1), (1, 0, 1), (-1, 0, 1))) / 2.0 * (width, 0, length)
        )
        shadows.footprint(corners, pose)
        shadows.box(pose.place(corners), height * 0.9)

    return Thing(z, paint, shade)


def rider_thing(variant: int, x: float, z: float, light: Light) -> Thing:
    """Return somebody on a motor cycle or bicycle."""
    cycle, rider = sprites.cycle(variant), sprites.rider(variant)
    tint = light.upright

    def paint(picture: Picture) -> None:
        picture.stand(cycle, x, z, VEHICLE, tint=tint)
        picture.stand(rider, x, z - 0.01, LIVING, base=0.52, tint=tint)

    def shade(shadows: Shadows) -> None:
        shadows.touch(x, z, 0.35, 0.9)
        shadows.flat(sprites.person(0, 0), x, z)

    return Thing(z, paint, shade)
