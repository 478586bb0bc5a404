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

"""What stands along a road: buildings, fences, trees, poles, parked cars, people."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from maskomaly_ros.scenes import sprites, textures
from maskomaly_ros.scenes.classes import FAR, LIVING, ROADSIDE
from maskomaly_ros.scenes.conditions import Style
from maskomaly_ros.scenes.raster import Light, Picture, Points, Sprite, generator
from maskomaly_ros.scenes.things import Thing, upright_thing, vehicle_thing
from maskomaly_ros.scenes.vehicles import VEHICLES

CELL = 12.0  # metres of road that are furnished together


class Roadside:
    """Furnishes a road cell by cell, each from its own random numbers.

    ``blocked(z)`` says that nobody may park at ``z``.
    """

    def __init__(
        self, seed: int, style: Style, light: Light, blocked: Callable[[float], bool]
    ) -> None:
        self._seed = seed
        self._style = style
        self._light = light
        self._blocked = blocked
        self.cell = lru_cache(maxsize=64)(self._cell)

    def _cell(self, index: int) -> list[Thing]:
        """Return everything that stands still along cell number ``index`` of the road."""
        rng = generator(self._seed, 3, index)
        things: list[Thing] = []
        furnish = {
            'urban': self._urban,
            'suburban': self._suburban,
            'rural': self._rural,
            'forest': self._forest,
            'highway': self._highway,
        }[self._style.surroundings]
        for side in (-1, 1):
            things += furnish(rng, side, index * CELL)
        return things

    # -- single things, ``u`` metres to the right of the road's middle ---------------------------

    def _stand(
        self,
        rng: np.random.Generator,
        sprite: Sprite,
        label: int,
        u: float,
        z: float,
        scale: float,
        vary: float,
    ) -> Thing:
        x, z = self._style.at(u, z)
        tint = self._light.upright * rng.uniform(1 - vary, 1 + vary, 3).astype(np.float32)
        return upright_thing(sprite, x, z, label, scale=scale, tint=tint)

    def _tree(self, rng: np.random.Generator, u: float, z: float, scale: float = 1.0) -> Thing:
        sprite = sprites.tree(int(rng.integers(sprites.TREES)))
        sprite = sprite.mirrored if rng.random() < 0.5 else sprite
        return self._stand(
            rng, sprite, FAR, u, z + CELL * rng.random(), scale * rng.uniform(0.7, 1.3), 0.12
        )

    def _bush(self, rng: np.random.Generator, u: float, z: float, scale: float = 1.0) -> Thing:
        sprite = sprites.bush(int(rng.integers(sprites.BUSHES)))
        sprite = sprite.mirrored if rng.random() < 0.5 else sprite
        return self._stand(
            rng, sprite, FAR, u, z + CELL * rng.random(), scale * rng.uniform(0.6, 1.4), 0.15
        )

    def _pole(self, rng: np.random.Generator, u: float, z: float, *kinds: int) -> Thing:
        kind = int(rng.choice(kinds)) + sprites.POLE_KINDS * int(rng.integers(2))
        sprite = sprites.pole(kind)
        if u < 0 and kind % sprites.POLE_KINDS == sprites.LAMP:  # its arm reaches over the road
            sprite = sprite.mirrored
        return self._stand(rng, sprite, ROADSIDE, u, z, rng.uniform(0.9, 1.1), 0.0)

    def _walker(self, rng: np.random.Generator, u: float, z: float) -> Thing:
        variant, phase = int(rng.integers(sprites.PEOPLE)), int(rng.integers(sprites.PHASES))
        sprite = sprites.person(variant, phase)
        sprite = sprite.mirrored if rng.random() < 0.5 else sprite
        return self._stand(
            rng, sprite, LIVING, u, z + CELL * rng.random(), rng.uniform(0.88, 1.08), 0.05
        )

    def _parked(
        self, rng: np.random.Generator, u: float, z: float, turn: float = 0.0
    ) -> list[Thing]:
        if self._blocked(z):
            return []
        x, z = self._style.at(u, z)
        turn += math.pi if rng.random() < 0.35 else 0.0
        heading = self._style.heading(z) + turn + rng.normal(0, 0.03)
        return [vehicle_thing(int(rng.integers(VEHICLES)), x, z, heading)]

    def _strip(
        self, sprite: Sprite, label: int, u: float, z: float, height: float = 1.0
    ) -> list[Thing]:
        """Return a wall, fence or hedge along a whole cell, in short straight pieces."""
        things = []
        step = 4.0
        side = 1 if u > 0 else -1
        tint = self._light.on((-side, 0.0, 0.0)) * np.float32(1.1)
        tall = sprite.height * height
        for z0 in np.arange(z, z + CELL - 0.1, step).tolist():
            (x0, _), (x1, z1) = self._style.at(u, z0), self._style.at(u, z0 + step)
            corners = np.array(((x0, 0, z0), (x1, 0, z1), (x1, tall, z1), (x0, tall, z0)))
            if side > 0:
                corners = corners[[1, 0, 3, 2]]
            start = z0 / sprite.width % 1.0
            things.append(
                _strip_thing(sprite, label, corners, (start, start + step / sprite.width), tint)
            )
        return things

    def _building(
        self, rng: np.random.Generator, u: float, z: float, length: float, depth: float = 9.0
    ) -> Thing:
        """Return a building whose front stands along the road at ``u``."""
        front = textures.facade(int(rng.integers(textures.FACADES)))
        height = front.height * rng.uniform(0.85, 1.25)
        side = 1 if u > 0 else -1
        (x0, _), (x1, far) = self._style.at(u, z), self._style.at(u, z + length)
        outer = x0 + side * depth
        corners = np.array(((x0, 0, z), (x1, 0, far), (x1, height, far), (x0, height, z)))
        near = np.array(((x0, 0, z), (outer, 0, z), (outer, height, z), (x0, height, z)))
        pitched = rng.random() < 0.45
        ridge, middle = height + rng.uniform(2.0, 3.5), (x0 + outer) / 2
        slope = np.array(
            (
                (x0, height, z),
                (x1, height, far),
                (x1 + middle - x0, ridge, far),
                (middle, ridge, z),
            )
        )
        gable = np.array(((x0, height, z), (outer, height, z), (middle, ridge, z)))
        if side > 0:
            corners, slope = corners[[1, 0, 3, 2]], slope[[1, 0, 3, 2]]
        else:
            near = near[[1, 0, 3, 2]]
        vary = rng.uniform(0.87, 1.1) * rng.uniform(0.95, 1.05, 3).astype(np.float32)
        light = self._light
        tint, end_tint = light.on((-side, 0, 0)) * vary, light.on((0, 0, -1)) * vary
        roof_tint = light.on((-side * 0.6, 0.8, 0))
        wall = tuple((front.rgba[-8, 2, :3] * end_tint).tolist())
        tiles = textures.roof(int(rng.integers(textures.ROOFS)))
        base = np.array(((x0, 0, z), (x1, 0, far), (x1 + side * depth, 0, far), (outer, 0, z)))

        def paint(picture: Picture) -> None:
            if pitched:
                picture.panel(tiles, slope, FAR, tint=roof_tint)
                picture.polygon(gable, wall, FAR)
            span = min(1.0, depth / front.width)
            picture.panel(front, near, FAR, tint=end_tint, span=(0, span))
            picture.panel(front, corners, FAR, tint=tint, span=(0, min(1.0, length / front.width)))

        return Thing(z + length * 0.6, paint, lambda shadows: shadows.box(base, height))

    # -- one side of one cell ---------------------------------------------------------------------

    def _urban(self, rng: np.random.Generator, side: int, z: float) -> list[Thing]:
        half, edge = self._style.half, self._style.edge(side)
        things = []
        if rng.random() < 0.85:
            gap = 0.0 if rng.random() < 0.75 else rng.uniform(1, 4)
            things.append(
                self._building(rng, side * (edge + rng.choice((0.1, 0.1, 1.5))), z, CELL - gap)
            )
        else:
            things += [self._tree(rng, side * (edge + rng.uniform(2, 7)), z) for _ in range(3)]
            wall = textures.wall(int(rng.integers(textures.WALLS)))
            things += self._strip(wall, ROADSIDE, side * (edge + 0.3), z)
        if rng.random() < 0.35:
            things.append(
                self._pole(rng, side * (half + 0.7), z + CELL * rng.random(), 0, 1, 2, 3, 4)
            )
        if rng.random() < 0.15:
            things += [
                self._pole(rng, side * (half + 0.5), z + step, 5) for step in range(0, 12, 3)
            ]
        if rng.random() < 0.18 and edge - half > 1.5:
            things.append(self._tree(rng, side * (half + 1.2), z, 0.8))
        if rng.random() < 0.1:
            things += self._strip(textures.railing(1), ROADSIDE, side * (half + 0.4), z, 0.85)
        for _ in range(rng.poisson(0.9)):
            things.append(
                self._walker(rng, side * rng.uniform(half + 0.6, max(edge, half + 1)), z)
            )
        if self._style.parked > rng.random():
            for at in (2.5, 8.5):
                if rng.random() < 0.8:
                    things += self._parked(rng, side * (half - 1.05), z + at)
        return things

    def _suburban(self, rng: np.random.Generator, side: int, z: float) -> list[Thing]:
        half, edge = self._style.half, self._style.edge(side)
        things = []
        if rng.random() < 0.5:
            things.append(
                self._building(rng, side * (edge + rng.uniform(5, 11)), z, rng.uniform(8, 12))
            )
        border, at = rng.random(), side * (edge + rng.uniform(0.3, 0.8))
        if border < 0.35:
            things += self._strip(textures.hedge(int(rng.integers(textures.HEDGES))), FAR, at, z)
        elif border < 0.65:
            wall = textures.wall(int(rng.integers(textures.WALLS)))
            things += self._strip(wall, ROADSIDE, at, z, rng.uniform(0.6, 1))
        elif border < 0.8:
            railing = textures.railing(int(rng.integers(1, textures.RAILINGS)))
            things += self._strip(railing, ROADSIDE, at, z)
        for _ in range(rng.poisson(1.0)):
            things.append(self._tree(rng, side * (edge + rng.uniform(1.5, 9)), z))
        for _ in range(rng.poisson(0.8)):
            things.append(self._bush(rng, side * (edge + rng.uniform(1, 5)), z))
        if rng.random() < 0.35:
            things.append(
                self._pole(rng, side * (half + 0.8), z + CELL * rng.random(), 0, 1, 3, 4)
            )
        if rng.random() < 0.35:
            things.append(self._walker(rng, side * rng.uniform(half + 0.5, edge + 0.6), z))
        if rng.random() < 0.12:
            things += self._parked(
                rng, side * (edge + rng.uniform(3, 5)), z + 6, rng.uniform(-3, 3)
            )
        if self._style.parked * 0.6 > rng.random():
            things += self._parked(rng, side * (half - 1.0), z + rng.uniform(2, 10))
        return things

    def _rural(self, rng: np.random.Generator, side: int, z: float) -> list[Thing]:
        edge = self._style.edge(side)
        plan = generator(self._seed, 4, side, int(z // (5 * CELL)))  # the same for some cells
        things = []
        border, at = plan.random(), side * (edge + plan.uniform(1.0, 3.0))
        if border < 0.25:
            hedge = textures.hedge(int(plan.integers(textures.HEDGES)))
            things += self._strip(hedge, FAR, at, z, plan.uniform(0.8, 1.5))
        elif border < 0.5:
            railing = textures.railing(int(plan.integers(textures.RAILINGS)))
            things += self._strip(railing, ROADSIDE, at, z)
        elif border < 0.62:
            wall = textures.wall(int(plan.integers(textures.WALLS)))
            things += self._strip(wall, ROADSIDE, at, z)
        density = plan.uniform(0.2, 3)
        for _ in range(rng.poisson(density)):
            things.append(self._tree(rng, side * (edge + rng.uniform(2.5, 16)), z, 1.1))
        for _ in range(rng.poisson(density)):
            things.append(self._bush(rng, side * (edge + rng.uniform(1, 14)), z))
        if rng.random() < 0.25:
            u = side * (edge + rng.uniform(0.6, 2))
            things.append(self._pole(rng, u, z + CELL * rng.random(), 1, 1, 3, 4))
        if rng.random() < 0.06:
            things.append(self._building(rng, side * (edge + rng.uniform(9, 18)), z, 10))
        if rng.random() < 0.04:
            things += self._parked(
                rng, side * (edge + rng.uniform(3, 6)), z + 6, rng.uniform(-3, 3)
            )
        if rng.random() < 0.1:
            things.append(self._walker(rng, side * (edge + rng.uniform(-0.4, 1.0)), z))
        return things

    def _forest(self, rng: np.random.Generator, side: int, z: float) -> list[Thing]:
        edge = self._style.edge(side)
        plan = generator(self._seed, 4, side, int(z // (6 * CELL)))
        things = []
        border = plan.random()
        if border < 0.35:
            boards = textures.wall(textures.BOARDS)
            railing = textures.railing(int(plan.integers(textures.RAILINGS)))
            fence = boards if plan.random() < 0.5 else railing
            things += self._strip(fence, ROADSIDE, side * (edge + plan.uniform(0.6, 1.6)), z)
        elif border < 0.6:
            hedge = textures.hedge(int(plan.integers(textures.HEDGES)))
            things += self._strip(hedge, FAR, side * (edge + 0.9), z, 1.3)
        for _ in range(5):
            things.append(self._tree(rng, side * (edge + rng.uniform(2.2, 11)), z, 1.25))
        for _ in range(4):
            things.append(self._bush(rng, side * (edge + rng.uniform(1.2, 6)), z, 1.2))
        if rng.random() < 0.1:
            things.append(
                self._pole(rng, side * (edge + 0.8), z + CELL * rng.random(), 1, 3, 4, 5)
            )
        return things

    def _highway(self, rng: np.random.Generator, side: int, z: float) -> list[Thing]:
        edge = self._style.edge(side)
        plan = generator(self._seed, 4, side)
        things = []
        if plan.random() < 0.7:
            things += self._strip(textures.railing(0), ROADSIDE, side * (edge + 0.8), z)
        if plan.random() < 0.25:
            things += self._strip(textures.wall(textures.BARRIER), ROADSIDE, side * (edge + 3), z)
        for _ in range(rng.poisson(1.6)):
            things.append(self._tree(rng, side * (edge + rng.uniform(5, 22)), z, 1.2))
        for _ in range(rng.poisson(1.2)):
            things.append(self._bush(rng, side * (edge + rng.uniform(4, 15)), z, 1.2))
        if rng.random() < 0.15:
            things.append(self._pole(rng, side * (edge + 1.8), z + CELL * rng.random(), 0, 3, 4))
        return things


def _strip_thing(
    sprite: Sprite, label: int, corners: Points, span: tuple[float, float], tint: np.ndarray
) -> Thing:
    foot, tall = corners[[0, 1, 1, 0]], float(corners[2, 1])

    def paint(picture: Picture) -> None:
        picture.panel(sprite, corners, label, tint=tint, span=span)

    return Thing(float(corners[:, 2].max()), paint, lambda shadows: shadows.box(foot, tall))
