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

"""Angular things on the road: solids made of boxes and drums."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from maskomaly_ros.scenes.raster import Colour, Face, Points, generator

Detail = tuple[Points, Colour]
Faces = tuple[Face, ...]
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class _Side:
    """One side of a box: its lower left corner as seen from outside, and its two edges."""

    name: str
    origin: Vector
    along: Vector
    up: Vector

    def polygon(self, points: Iterable[tuple[float, float]]) -> Points:
        """Return a polygon on this side, its corners given as shares of the two edges."""
        edges = np.array((self.along, self.up))
        return np.asarray(np.array(self.origin) + np.array(list(points)) @ edges, float)

    def patch(self, u0: float, u1: float, v0: float, v1: float) -> Points:
        """Return a rectangle on this side."""
        return self.polygon(((u0, v0), (u1, v0), (u1, v1), (u0, v1)))

    def disc(self, u: float, v: float, radius: float, squeeze: float) -> Points:
        """Return a round on this side; ``squeeze`` makes up for the proportions of the side."""
        return self.polygon((u + radius * x, v + radius * squeeze * y) for x, y in _circle(24))


def _circle(corners: int) -> list[tuple[float, float]]:
    angles = np.linspace(0, 2 * math.pi, corners + 1)[:-1].tolist()
    return [(math.cos(a), math.sin(a)) for a in angles]


def _tone(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _plain(side: _Side) -> list[Detail]:
    return []


def _box(
    middle: Vector,
    size: Vector,
    colour: Colour,
    decorate: Callable[[_Side], list[Detail]] = _plain,
) -> Faces:
    """Return a box of (width, height, depth) that stands with the middle of its base there."""
    x, y, z = middle
    w, h, d = size
    sides = (
        _Side('back', (x - w / 2, y, z - d / 2), (w, 0, 0), (0, h, 0)),
        _Side('front', (x + w / 2, y, z + d / 2), (-w, 0, 0), (0, h, 0)),
        _Side('left', (x - w / 2, y, z + d / 2), (0, 0, -d), (0, h, 0)),
        _Side('right', (x + w / 2, y, z - d / 2), (0, 0, d), (0, h, 0)),
        _Side('top', (x - w / 2, y + h, z - d / 2), (w, 0, 0), (0, 0, d)),
    )
    return tuple(Face(side.patch(0, 1, 0, 1), colour, tuple(decorate(side))) for side in sides)


def crate(look: int) -> tuple[Faces, ...]:
    """Return a crate of wooden boards."""
    rng = generator(42, look)
    wood = (186.0, 146.0, 96.0)
    size = float(rng.uniform(0.8, 1.2))

    def boards(side: _Side) -> list[Detail]:
        details: list[Detail] = []
        for low in (0.04, 0.23, 0.42, 0.61, 0.80):
            tone = _tone(wood, float(rng.uniform(0.82, 1.12)))
            details.append((side.patch(0.03, 0.97, low, low + 0.165), tone))
            for _ in range(3):  # the grain of the wood
                start, line = rng.uniform(0.05, 0.5), low + rng.uniform(0.02, 0.14)
                grain = side.patch(start, start + rng.uniform(0.2, 0.45), line, line + 0.008)
                details.append((grain, _tone(wood, 0.7)))
        details += [(side.patch(u, u + 0.12, 0, 1), _tone(wood, 1.06)) for u in (0.0, 0.88)]
        if side.name != 'top':
            brace = side.polygon(((0.12, 0.04), (0.22, 0.04), (0.88, 0.96), (0.78, 0.96)))
            details.append((brace, _tone(wood, 1.1)))
        return details

    height = size * float(rng.uniform(0.7, 1))
    return (_box((0, 0, 0), (size, height, size), _tone(wood, 0.45), boards),)


def carton(look: int) -> tuple[Faces, ...]:
    """Return a cardboard box, or two, one on top of the other."""
    brown = (196.0, 156.0, 108.0)
    w, h, d = generator(43, look).uniform((0.6, 0.45, 0.5), (1.0, 0.8, 0.8)).tolist()

    def prints(side: _Side) -> list[Detail]:
        if side.name == 'top':
            return [
                (side.patch(0, 1, 0.44, 0.56), (222, 196, 150)),
                (side.patch(0, 1, 0.495, 0.505), _tone(brown, 0.6)),
            ]
        text = [side.patch(0.10, 0.27, v, v + 0.02) for v in (0.13, 0.18, 0.23)]
        return [
            (side.patch(0.44, 0.56, 0.75, 1), (222, 196, 150)),
            (side.patch(0.08, 0.30, 0.1, 0.28), (238, 234, 226)),
            *[(line, (60.0, 56.0, 52.0)) for line in text],
            (side.polygon(((0.78, 0.15), (0.90, 0.15), (0.84, 0.36))), (150, 60, 44)),
            (side.patch(0, 1, 0, 0.03), _tone(brown, 0.7)),
        ]

    lower = _box((0, 0, 0), (w, h, d), brown, prints)
    if look % 2 == 0:
        return (lower,)
    upper = _box((0.05, h, 0.03), (w * 0.75, h * 0.7, d * 0.8), _tone(brown, 0.92), prints)
    return lower, upper


def suitcase(look: int) -> tuple[Faces, ...]:
    """Return a suitcase on wheels with its handle drawn out."""
    colours: tuple[Colour, ...] = ((176, 40, 56), (36, 84, 124), (240, 190, 60), (60, 120, 90))
    colour = colours[look % len(colours)]

    def shell(side: _Side) -> list[Detail]:
        if side.name in ('left', 'right', 'top'):
            across = side.name == 'top'
            zip_line = side.patch(0, 1, 0.45, 0.55) if across else side.patch(0.46, 0.54, 0, 1)
            return [(zip_line, (40, 40, 42))]
        details: list[Detail] = []
        for u in np.arange(0.1, 0.9, 0.13).tolist():
            details.append((side.patch(u, u + 0.03, 0.06, 0.94), _tone(colour, 0.72)))
            details.append((side.patch(u + 0.03, u + 0.045, 0.06, 0.94), _tone(colour, 1.25)))
        details.append((side.patch(0.3, 0.7, 0.7, 0.8), (226, 224, 216)))
        return details

    corners = [(x, z) for x in (-0.2, 0.2) for z in (-0.1, 0.1)]
    return (
        *[_box((x, 0, z), (0.08, 0.08, 0.06), (24, 24, 26)) for x, z in corners],
        _box((0, 0.07, 0), (0.52, 0.75, 0.3), colour, shell),
        *[_box((x, 0.82, 0.05), (0.03, 0.3, 0.03), (150, 152, 156)) for x in (-0.12, 0.12)],
        _box((0, 1.11, 0.05), (0.29, 0.05, 0.05), (30, 30, 32)),
    )


def sofa(look: int) -> tuple[Faces, ...]:
    """Return a sofa for two."""
    colours: tuple[Colour, ...] = ((150, 46, 44), (62, 90, 120), (142, 128, 96), (86, 110, 74))
    colour = colours[look % len(colours)]
    dark, bright = _tone(colour, 0.8), _tone(colour, 1.12)

    def seams(side: _Side) -> list[Detail]:
        return [
            (side.patch(0.49, 0.51, 0, 1), _tone(colour, 0.5)),
            (side.patch(0, 1, 0.9, 1), bright),
        ]

    return (
        _box((0, 0.08, 0.38), (2.0, 0.82, 0.22), dark, seams),
        _box((0, 0.08, -0.05), (1.7, 0.36, 0.72), colour, seams),
        *[_box((x, 0.08, -0.02), (0.24, 0.58, 0.86), dark) for x in (-0.93, 0.93)],
        *[_box((x, 0.44, -0.05), (0.8, 0.12, 0.66), bright) for x in (-0.42, 0.42)],
    )


def washer(look: int) -> tuple[Faces, ...]:
    """Return a washing machine."""
    white = _tone((228, 230, 230), 1 - 0.06 * look)

    def front(side: _Side) -> list[Detail]:
        if side.name != 'back':
            return [(side.patch(0, 1, 0, 0.05), (150, 152, 154))]
        return [
            (side.patch(0, 1, 0.84, 0.86), (170, 172, 174)),
            (side.patch(0.06, 0.36, 0.88, 0.96), (206, 210, 212)),
            (side.disc(0.5, 0.45, 0.34, 0.72), (176, 180, 184)),
            (side.disc(0.5, 0.45, 0.29, 0.72), (60, 64, 70)),
            (side.disc(0.5, 0.45, 0.24, 0.72), (34, 44, 56)),
            (side.disc(0.44, 0.51, 0.12, 0.72), (70, 84, 98)),
            (side.disc(0.78, 0.92, 0.05, 0.72), (120, 124, 128)),
            (side.patch(0, 1, 0, 0.07), (130, 132, 134)),
        ]

    return (_box((0, 0, 0), (0.62, 0.86, 0.6), white, front),)


def drum(look: int) -> tuple[Faces, ...]:
    """Return one or two steel drums with some rust."""
    rng = generator(44, look)
    colours: tuple[Colour, ...] = ((36, 82, 150), (188, 52, 36), (60, 110, 70), (222, 170, 40))
    places = ((0.0, 0.0),) if look % 3 else ((-0.36, 0.12), (0.37, 0.0))
    drums = []
    for index, (x, z) in enumerate(places):
        drums.append(_drum(rng, _tone(colours[look % len(colours)], 1 - 0.15 * index), x, z))
    return tuple(drums)


def _drum(rng: np.random.Generator, paint: Colour, x: float, z: float) -> Faces:
    radius, height = 0.32, 0.95
    ring = [(x + radius * a, z + radius * b) for a, b in _circle(20)]
    faces = []
    for (x0, z0), (x1, z1) in zip(ring, [*ring[1:], ring[0]], strict=True):
        side = _Side('stave', (x0, 0, z0), (x1 - x0, 0, z1 - z0), (0, height, 0))
        details: list[Detail] = []
        for v in rng.uniform(0, 0.95, rng.poisson(0.7)).tolist():
            details.append((side.patch(0, 1, v, v + 0.05), (122, 72, 44)))
        for v in (0.0, 0.33, 0.65, 0.96):
            details.append((side.patch(0, 1, v, v + 0.03), _tone(paint, 1.3)))
            details.append((side.patch(0, 1, v + 0.03, min(v + 0.045, 1)), _tone(paint, 0.6)))
        faces.append(Face(side.patch(0, 1, 0, 1), paint, tuple(details)))
    lid = np.array([(a, height, b) for a, b in ring])
    inner = (lid - (x, 0, z)) * (0.88, 1, 0.88) + (x, 0, z)
    faces.append(Face(lid, _tone(paint, 1.2), ((inner, _tone(paint, 0.8)),)))
    return tuple(faces)


def blocks(look: int) -> tuple[Faces, ...]:
    """Return two blocks of concrete."""
    rng = generator(45, look)

    def stains(side: _Side) -> list[Detail]:
        details: list[Detail] = []
        for _ in range(14):
            u, v = rng.uniform(0, 0.9, 2).tolist()
            w, h = rng.uniform((0.02, 0.01), (0.12, 0.06)).tolist()
            tone = float(rng.uniform(120, 190))
            details.append((side.patch(u, u + w, v, v + h), (tone, tone * 0.98, tone * 0.94)))
        return details

    return (
        _box((0, 0, 0), (1.5, 0.5, 0.6), (160, 158, 152), stains),
        _box((0.15, 0.5, 0.0), (0.9, 0.45, 0.55), (170, 166, 158), stains),
    )
