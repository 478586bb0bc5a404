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

"""Where obstacles stand on the road, and how the camera gets past them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from maskomaly_ros.scenes.animals import STEPS
from maskomaly_ros.scenes.classes import IGNORE
from maskomaly_ros.scenes.conditions import Style
from maskomaly_ros.scenes.props import KINDS, LOOKS, Prop, prop
from maskomaly_ros.scenes.raster import Light, Picture, Pose, generator
from maskomaly_ros.scenes.things import Shadows, Thing

REVEAL = 46.0  # metres from which obstacles are seen
_FADE = 5.0  # metres over which they come into view
_SPREAD = 6.0  # metres by which the distance between two obstacles varies


@dataclass(frozen=True)
class Hazard:
    """An obstacle on the road; ``swerve``: metres to the right that the camera gives way."""

    prop: Prop
    u: float
    z: float
    scale: float
    heading: float
    mirrored: bool
    swerve: float


class Hazards:
    """The obstacles along a road, one every ``spacing`` metres.

    They stand in the camera's lane and the camera swerves; with ``scattered`` they stand anywhere
    on the road and the camera drives on.
    """

    def __init__(
        self,
        seed: int,
        style: Style,
        light: Light,
        speed: float,
        spacing: float,
        *,
        scattered: bool,
    ) -> None:
        self._seed = seed
        self._style = style
        self._light = light
        self._speed = speed
        self._spacing = spacing
        self._scattered = scattered
        self._order = generator(seed, 8).permutation(len(KINDS))
        self._hazard = lru_cache(maxsize=64)(self._random_hazard)

    def _random_hazard(self, index: int) -> Hazard:
        style, rng = self._style, generator(self._seed, 9, index)
        thing = prop(KINDS[self._order[index % len(KINDS)]], int(rng.integers(LOOKS)))
        scale = float(rng.uniform(0.9, 1.2))
        z = index * self._spacing + float(rng.uniform(0, _SPREAD))
        mirrored = bool(rng.random() < 0.5)
        half = thing.width * scale / 2
        if self._scattered:
            u = float(rng.uniform(-1, 1)) * max(style.half - 0.7 * half, 0.2)
            return Hazard(thing, u, z, scale, float(rng.uniform(-3, 3)), mirrored, 0.0)
        # The camera passes on the outer side; where that is too narrow the obstacle moves inward.
        gap = half + 0.95
        room = style.half - abs(style.ego) - 0.2
        most = max(style.lane / 2 - 0.5 * half, 0.2)
        inward = float(np.clip(gap - room + rng.uniform(0, 0.4), 0, most))
        u, swerve = style.ego - style.outer * inward, style.outer * max(gap - inward, 0.0)
        return Hazard(thing, u, z, scale, float(rng.uniform(-0.6, 0.6)), mirrored, swerve)

    def near(self, z: float, reach: float) -> list[Hazard]:
        """Return the obstacles within ``reach`` metres of ``z``."""
        first = max(1, math.floor((z - reach - _SPREAD) / self._spacing))
        last = math.ceil((z + reach) / self._spacing)
        found = [self._hazard(index) for index in range(first, last + 1)]
        return [hazard for hazard in found if abs(hazard.z - z) <= reach]

    def swerve(self, z: float) -> float:
        """Return how far to the right of its lane the camera drives at ``z``, metres."""
        return sum(
            hazard.swerve * math.exp(-(((z - hazard.z) / 13) ** 2)) for hazard in self.near(z, 40)
        )

    def things(self, camera_z: float, time: float) -> list[Thing]:
        """Return the obstacles in view of a camera at ``camera_z``."""
        found = self.near(camera_z + REVEAL / 2, REVEAL / 2)
        if self._scattered:  # what stands right before the lens would hide everything
            found = [hazard for hazard in found if hazard.z > camera_z + 5]
        return [self._thing(hazard, camera_z, time) for hazard in found]

    def _thing(self, hazard: Hazard, camera_z: float, time: float) -> Thing:
        thing, scale, u = hazard.prop, hazard.scale, hazard.u
        step, mirrored = 0, hazard.mirrored
        if thing.pace and not self._scattered:
            # An animal waits at the edge, then walks off towards the middle of the road.
            outer = self._style.outer
            mirrored = outer < 0
            walked = float(np.clip(time - hazard.z / self._speed + 2.2, 0, 3.0))
            u += outer * min(0.9, max(self._style.half - 0.3 - abs(u), 0))
            u -= outer * thing.pace * walked
            step = int(walked * STEPS) % STEPS
        x, z = self._style.at(u, hazard.z)
        opacity = float(np.clip((REVEAL - (z - camera_z)) / _FADE, 0, 1))
        if thing.pictures:
            sprite = thing.pictures[step].mirrored if mirrored else thing.pictures[step]
            tint = self._light.upright

            def paint(picture: Picture) -> None:
                picture.stand(sprite, x, z, IGNORE, scale=scale, tint=tint, opacity=opacity)

            def shade(shadows: Shadows) -> None:
                shadows.touch(x, z, thing.width * scale * 0.46, thing.length * scale * 0.5)
                shadows.flat(sprite, x, z, scale)

            return Thing(z, paint, shade)
        pose = Pose(x, z, hazard.heading + self._style.heading(z), scale)
        solids = sorted(thing.solids, key=lambda solid: -pose.place(solid.middles)[:, 2].min())
        half = np.array((thing.width, 0, thing.length)) / 2
        corners = np.array(((-1, 0, -1), (1, 0, -1), (1, 0, 1), (-1, 0, 1))) * half

        def paint_solids(picture: Picture) -> None:
            for solid in solids:
                picture.solid(solid, pose, IGNORE, opacity=opacity)

        def shade_solids(shadows: Shadows) -> None:
            shadows.footprint(corners, pose)
            shadows.box(pose.place(corners), thing.height * scale)

        return Thing(z, paint_solids, shade_solids)
