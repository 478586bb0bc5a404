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

"""Generated road scenes with ground truth, for the demonstration, for tests and for training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.scenes import textures
from maskomaly_ros.scenes.backdrop import paint_ground, paint_horizon, paint_sky
from maskomaly_ros.scenes.conditions import (
    random_light,
    random_optics,
    random_style,
    varied_optics,
)
from maskomaly_ros.scenes.film import develop
from maskomaly_ros.scenes.hazards import Hazards
from maskomaly_ros.scenes.raster import Bytes, Camera, Picture, generator
from maskomaly_ros.scenes.roadside import CELL, Roadside
from maskomaly_ros.scenes.things import Shadows, Thing
from maskomaly_ros.scenes.traffic import Traffic

_SIGHT = 12  # cells ahead that are drawn
_INTERVAL = 5.2  # seconds between two obstacles
_SMALLEST, _LARGEST = 16, 4096  # pixels


@dataclass(frozen=True)
class SceneFrame:
    """One rendered frame.

    Attributes:
        image: RGB uint8 [H, W, 3].
        labels: uint8 [H, W]; 0 drivable, 1 non-drivable, 2 living things, 3 vehicles, 4 roadside
            objects, 5 far objects, 6 sky, 255 obstacle or undecided.
        anomaly: uint8 [H, W]; 0 not an obstacle, 1 obstacle, 255 its blurred border.
        stamp: seconds since the start of the scene.
    """

    image: Bytes
    labels: Bytes
    anomaly: Bytes
    stamp: float


class Scene:
    """A drive along a road, with everything beside it.

    The same arguments give the same frames, bit for bit, in whichever order they are rendered.

    Args:
        seed: which scene; any integer.
        size: (height, width) of the frames in pixels, each 16 to 4096.
        obstacles: one after another, put things on the road that no class describes.
        varied: vary lens, mounting and exposure of the camera more than one drive after another
            would, and scatter the obstacles: for single frames.

    Raises:
        MaskomalyError: the size is out of range.
    """

    def __init__(
        self,
        seed: int,
        size: tuple[int, int] = (360, 640),
        *,
        obstacles: bool = True,
        varied: bool = False,
    ) -> None:
        height, width = size
        if not (_SMALLEST <= height <= _LARGEST and _SMALLEST <= width <= _LARGEST):
            raise MaskomalyError(
                f'scene size {height}×{width} is out of range: '
                f'give {_SMALLEST} to {_LARGEST} pixels a side'
            )
        self.seed = seed
        self.size = (int(height), int(width))
        rng = generator(seed, 1)
        self._style = style = random_style(rng)
        self._light, self._weather = random_light(rng)
        self._optics = (varied_optics if varied else random_optics)(rng)
        self._surfaces = tuple(rng.integers(0, textures.VARIANTS, 3).tolist())
        self._phases = rng.uniform(0, 2 * math.pi, 3).tolist()
        speed = self._optics.speed
        self._hazards: Hazards | None = None
        if obstacles:
            spacing = 18.0 if varied else _INTERVAL * speed
            self._hazards = Hazards(seed, style, self._light, speed, spacing, scattered=varied)
        self._roadside = Roadside(seed, style, self._light, self._is_passing_place)
        self._traffic = Traffic(seed, style, self._light, speed, yielding=obstacles)

    def render(self, time_seconds: float) -> SceneFrame:
        """Return the frame at ``time_seconds`` (0 or later) after the start."""
        camera = self._camera(time_seconds)
        things = self._things(camera, time_seconds)
        shadows = Shadows(camera, self._light)
        for thing in things:
            thing.shade(shadows)
        picture = Picture(camera, self._light)
        paint_sky(picture, self._weather)
        paint_ground(picture, shadows, self._style, self._surfaces, self.seed)
        paint_horizon(picture, self._weather)
        for thing in sorted(things, key=lambda thing: -thing.z):
            thing.paint(picture)
        rng = generator(self.seed, 7, round(time_seconds * 1000))
        image = develop(picture.image, self._optics, rng)
        return SceneFrame(image, picture.labels, picture.anomaly, time_seconds)

    def _camera(self, time: float) -> Camera:
        optics, style, phases = self._optics, self._style, self._phases
        z = optics.speed * time
        bounce = 0.0025 * math.sin(7.1 * time + phases[0]) + 0.0015 * math.sin(
            11.3 * time + phases[1]
        )
        sway = 0.12 * math.sin(0.6 * time + phases[2])
        turn = 0.0
        if self._hazards is not None:
            sway += self._hazards.swerve(z)
            turn = 0.25 * (self._hazards.swerve(z + 1) - self._hazards.swerve(z - 1))
        x, _ = style.at(style.ego + optics.offset + sway, z)
        focal = self.size[1] / 2 / math.tan(optics.view_angle / 2)
        yaw, pitch = style.heading(z + 6) + turn, optics.pitch + bounce
        return Camera(self.size, focal, x, z, optics.height, yaw, pitch)

    def _is_passing_place(self, z: float) -> bool:
        """Say whether the camera needs the edge of the road at ``z`` to pass an obstacle."""
        return self._hazards is not None and bool(self._hazards.near(z, 20))

    def _things(self, camera: Camera, time: float) -> list[Thing]:
        first = math.floor(camera.z / CELL)
        things = [
            thing
            for index in range(first - 1, first + _SIGHT)
            for thing in self._roadside.cell(index)
            if thing.z > camera.z - 14
        ]
        things += self._traffic.things(camera.z, time)
        if self._hazards is not None:
            things += self._hazards.things(camera.z, time)
        return things


def random_frame(
    seed: int, size: tuple[int, int] = (240, 320), *, obstacles: bool = False
) -> SceneFrame:
    """Return one frame of a random scene at a random moment, for training.

    Args:
        seed: which frame; any integer.
        size: (height, width) in pixels.
        obstacles: let obstacles stand on the road.

    Raises:
        MaskomalyError: the size is out of range.
    """
    scene = Scene(seed, size, obstacles=obstacles, varied=True)
    return scene.render(float(generator(seed, 2).uniform(0, 60)))


def generate_clip(
    seed: int,
    frames: int,
    *,
    rate: float = 15.0,
    size: tuple[int, int] = (360, 640),
    obstacles: bool = True,
) -> Iterator[SceneFrame]:
    """Yield ``frames`` consecutive frames of one scene at ``rate`` frames a second.

    Raises:
        MaskomalyError: the size is out of range.
    """
    scene = Scene(seed, size, obstacles=obstacles)
    for index in range(frames):
        yield scene.render(index / rate)
