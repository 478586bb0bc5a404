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

"""What moves by itself: vehicles on the lanes, people along and across the road."""

from __future__ import annotations

import math

from maskomaly_ros.scenes import sprites
from maskomaly_ros.scenes.classes import LIVING
from maskomaly_ros.scenes.conditions import Style
from maskomaly_ros.scenes.raster import Light, generator
from maskomaly_ros.scenes.things import Thing, rider_thing, upright_thing, vehicle_thing
from maskomaly_ros.scenes.vehicles import VEHICLES

_LOOP = 200.0  # metres after which the traffic repeats
_BLOCK = 30.0  # metres of road that share their people
_RIDERS = 10
_GAPS = {'urban': 30, 'suburban': 55, 'rural': 90, 'forest': 130, 'highway': 45}
_CROWD = {'urban': 2.0, 'suburban': 0.8, 'rural': 0.25, 'forest': 0.3, 'highway': 0.0}


class Traffic:
    """Everything on the move around a camera that drives at ``speed`` metres a second.

    ``yielding`` keeps the camera's lane free for what stands on it: no vehicle near ahead, nobody
    who crosses.
    """

    def __init__(
        self, seed: int, style: Style, light: Light, speed: float, *, yielding: bool
    ) -> None:
        self._seed = seed
        self._style = style
        self._light = light
        self._speed = speed
        self._yielding = yielding
        rng = generator(seed, 11)
        self._vehicles: list[tuple[float, float, float, int]] = []
        for lane in range(style.lanes):
            u = style.lane_middle(lane)
            onward = (u < 0) == style.drive_left or style.lanes == 1
            own = abs(u - style.ego) < style.lane / 2
            # Vehicles of one lane keep their distances, and those ahead of the camera keep theirs.
            pace = 1.0 if own else rng.uniform(0.8, 1.15) if onward else -rng.uniform(0.9, 1.2)
            position = rng.uniform(9, 40) + (75 if own and yielding else 0)
            while position < _LOOP - 15:
                variant = int(rng.integers(VEHICLES + _RIDERS))
                self._vehicles.append((u + rng.normal(0, 0.15), position, pace * speed, variant))
                position += 13 + rng.exponential(_GAPS[style.surroundings])

    def things(self, camera_z: float, time: float) -> list[Thing]:
        """Return what moves near a camera at ``camera_z``, ``time`` seconds after the start."""
        things = []
        style = self._style
        for u, start, speed, variant in self._vehicles:
            relative = start + (speed - self._speed) * time
            z = camera_z + (relative + 10) % _LOOP - 10
            x, _ = style.at(u, z)
            if variant >= VEHICLES and speed < 0:
                variant -= VEHICLES  # riders are drawn from behind only
            if variant < VEHICLES:
                turn = math.pi if speed < 0 else 0.0
                things.append(vehicle_thing(variant, x, z, style.heading(z) + turn))
            else:
                things.append(rider_thing(variant, x, z, self._light))
        first = math.floor(camera_z / _BLOCK)
        for block in range(first - 1, first + 5):
            things += self._people(block, time)
        return things

    def _people(self, block: int, time: float) -> list[Thing]:
        """Return the people who walk along or across one block of the road."""
        rng = generator(self._seed, 10, block)
        style, things = self._style, []
        for _ in range(rng.poisson(_CROWD[style.surroundings])):
            variant, scale = int(rng.integers(sprites.PEOPLE)), float(rng.uniform(0.88, 1.08))
            z, side = (block + rng.random()) * _BLOCK, int(rng.choice((-1, 1)))
            onward, pace = int(rng.choice((-1, 1))), rng.uniform(1.0, 1.5)
            if rng.random() < 0.35 and not self._yielding:
                reach = style.half + 1.5
                u = onward * ((rng.uniform(0, 2 * reach) + pace * time) % (2 * reach) - reach)
            else:
                u = side * (style.half + rng.uniform(0.5, 1.6))
                z += onward * pace * (time - z / self._speed)
            phase = int((time + rng.random()) * 1.8 * sprites.PHASES) % sprites.PHASES
            sprite = sprites.person(variant, phase)
            if onward < 0:
                sprite = sprite.mirrored
            x, z = style.at(u, z)
            tint = self._light.upright
            things.append(upright_thing(sprite, x, z, LIVING, scale=scale, tint=tint))
        return things
