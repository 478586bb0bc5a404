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

"""Cars, vans, lorries and buses as small solids of painted polygons."""

from __future__ import annotations

import math
from functools import cache, partial

import numpy as np

from maskomaly_ros.scenes.raster import Colour, Face, Points, Solid, generator

VEHICLES = 24
_GLASS = (58.0, 70.0, 80.0)
_RUBBER = (26.0, 26.0, 28.0)
_PAINT = (
    (210, 212, 214),
    (234, 234, 230),
    (150, 154, 158),
    (92, 96, 102),
    (38, 40, 46),
    (24, 26, 30),
    (150, 36, 38),
    (44, 66, 124),
    (56, 96, 140),
    (30, 62, 54),
    (176, 150, 60),
    (196, 104, 40),
)


def _quad(*points: tuple[float, float, float]) -> Points:
    return np.array(points, float)


def _patch(points: Points, u0: float, u1: float, v0: float, v1: float) -> Points:
    """Return a part of a quadrilateral: shares of its way to the right and upwards."""
    low, high = points[:2], points[3:1:-1]
    corners = []
    for u, v in ((u0, v0), (u1, v0), (u1, v1), (u0, v1)):
        a, b = low[0] + (low[1] - low[0]) * u, high[0] + (high[1] - high[0]) * u
        corners.append(a + (b - a) * v)
    return np.array(corners)


def _disc(x: float, y: float, z: float, radius: float, *, reverse: bool) -> Points:
    angles = np.linspace(0, 2 * math.pi, 15)[:-1]
    ring = np.stack(
        (np.full(14, x), y + radius * np.sin(angles), z + radius * np.cos(angles)), axis=1
    )
    return ring[::-1] if reverse else ring


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    red, green, blue = (u + (v - u) * share for u, v in zip(a, b, strict=True))
    return red, green, blue


@cache
def vehicle(variant: int) -> tuple[Solid, tuple[float, float, float]]:
    """Return a vehicle around its footprint's centre, and its (width, height, length).

    X is to its right, Y up, Z forward; the colours are those under neutral light.
    """
    rng = generator(31, variant)
    paint: Colour = _PAINT[int(rng.integers(len(_PAINT)))]
    kind = (
        'saloon',
        'hatchback',
        'estate',
        'van',
        'hatchback',
        'lorry',
        'saloon',
        'suv',
        'bus',
        'hatchback',
        'saloon',
        'suv',
    )[variant % 12]
    if kind == 'lorry':
        return _box_vehicle(
            rng, paint, 2.35, rng.uniform(2.9, 3.4), rng.uniform(6, 8), windows=False
        )
    if kind == 'bus':
        paint = _PAINT[int(rng.choice((0, 6, 7, 10, 11)))]
        return _box_vehicle(rng, paint, 2.45, 3.0, rng.uniform(9, 11), windows=True)
    width = rng.uniform(1.68, 1.85)
    # Outline from the rear bumper over the roof to the front: (share of the length, height).
    outline, length = {
        'saloon': (
            (
                (0, 0.32),
                (0, 0.92),
                (0.16, 0.98),
                (0.30, 1.40),
                (0.55, 1.42),
                (0.74, 0.98),
                (0.98, 0.80),
                (1, 0.30),
            ),
            4.5,
        ),
        'hatchback': (
            (
                (0, 0.32),
                (0, 0.92),
                (0.03, 1.0),
                (0.10, 1.44),
                (0.52, 1.47),
                (0.74, 1.0),
                (0.98, 0.80),
                (1, 0.30),
            ),
            3.9,
        ),
        'estate': (
            (
                (0, 0.32),
                (0, 0.92),
                (0.02, 1.0),
                (0.07, 1.44),
                (0.55, 1.47),
                (0.74, 1.0),
                (0.98, 0.80),
                (1, 0.30),
            ),
            4.6,
        ),
        'suv': (
            (
                (0, 0.40),
                (0, 1.05),
                (0.02, 1.15),
                (0.07, 1.70),
                (0.55, 1.74),
                (0.72, 1.18),
                (0.98, 1.0),
                (1, 0.38),
            ),
            4.5,
        ),
        'van': (
            (
                (0, 0.36),
                (0, 1.05),
                (0.01, 1.2),
                (0.02, 2.0),
                (0.70, 2.02),
                (0.88, 1.22),
                (0.99, 0.95),
                (1, 0.34),
            ),
            4.8,
        ),
    }[kind]
    half = width / 2
    belt = outline[2][1]
    height = max(y for _, y in outline)

    def inset(y: float) -> float:
        """Return half the width at a height: the cabin leans inwards."""
        return half * (1 - 0.17 * max(0.0, y - belt) / (height - belt))

    def at(share: float) -> float:
        return (share - 0.5) * length

    rings = [(at(s), y, inset(y)) for s, y in outline]
    faces = []
    for index in range(7):
        (z0, y0, w0), (z1, y1, w1) = rings[index], rings[index + 1]
        points = _quad((-w0, y0, z0), (w0, y0, z0), (w1, y1, z1), (-w1, y1, z1))

        patch = partial(_patch, points)
        details: list[tuple[Points, Colour]] = []
        if index == 0:  # back
            lamp = rng.uniform(0.14, 0.2)
            details = [
                (patch(0, 1, 0, 0.30), _mix(paint, (44, 44, 46), 0.75)),
                (patch(0, 1, 0.30, 0.34), _mix(paint, (0, 0, 0), 0.45)),
                (patch(0.35, 0.65, 0.44, 0.62), (224, 218, 186)),
                (patch(0.02, lamp, 0.55, 0.95), (176, 26, 26)),
                (patch(1 - lamp, 0.98, 0.55, 0.95), (176, 26, 26)),
                (patch(0.03, lamp * 0.7, 0.74, 0.88), (236, 120, 96)),
                (patch(1 - lamp * 0.7, 0.97, 0.74, 0.88), (236, 120, 96)),
                (patch(0.08, 0.92, 0.96, 1.0), _mix(paint, (255, 255, 255), 0.25)),
            ]
        elif index == 2 and kind != 'van':
            details = [
                (patch(0.07, 0.93, 0.12, 0.9), _GLASS),
                (patch(0.09, 0.91, 0.55, 0.88), _mix(_GLASS, (190, 205, 215), 0.45)),
                (patch(0.16, 0.36, 0.12, 0.45), (36, 36, 38)),
                (patch(0.64, 0.84, 0.12, 0.45), (36, 36, 38)),
            ]
        elif index == 2:
            details = [
                (patch(0.08, 0.48, 0.42, 0.88), _GLASS),
                (patch(0.52, 0.92, 0.42, 0.88), _GLASS),
                (patch(0.495, 0.505, 0, 1), _mix(paint, (0, 0, 0), 0.5)),
            ]
        elif index == 4:
            details = [
                (patch(0.05, 0.95, 0.06, 0.9), _GLASS),
                (patch(0.07, 0.93, 0.08, 0.4), _mix(_GLASS, (190, 205, 215), 0.5)),
            ]
        elif index == 6:  # front; u runs from the left of the vehicle, v downwards
            details = [
                (patch(0.02, 0.24, 0.08, 0.38), (232, 236, 238)),
                (patch(0.76, 0.98, 0.08, 0.38), (232, 236, 238)),
                (patch(0.28, 0.72, 0.1, 0.36), (34, 34, 36)),
                (patch(0.1, 0.9, 0.62, 0.9), (40, 40, 42)),
                (patch(0.36, 0.64, 0.5, 0.66), (230, 230, 226)),
            ]
        faces.append(
            Face(
                points,
                paint if index not in (1, 5) else _mix(paint, (255, 255, 255), 0.08),
                tuple(details),
            )
        )
    for side in (-1, 1):
        lower = [
            (z, min(y, belt))
            for z, y, _ in (rings[0], rings[1], rings[2], rings[5], rings[6], rings[7])
        ]
        body = np.array([(side * half, y, z) for z, y in lower])
        upper = [rings[i] for i in (2, 3, 4, 5)]
        cabin = np.array([(side * w, y, z) for z, y, w in upper])
        details = [
            (
                np.array(
                    [
                        (side * half, y, at(s))
                        for s, y in (
                            (0.01, belt * 0.72),
                            (0.01, belt * 0.64),
                            (0.97, belt * 0.58),
                            (0.97, belt * 0.66),
                        )
                    ]
                ),
                _mix(paint, (0, 0, 0), 0.22),
            )
        ]
        for share in (0.19, 0.80):
            details += [
                (_disc(side * half, 0.36, at(share), 0.37, reverse=side < 0), (22, 22, 24)),
                (_disc(side * half, 0.33, at(share), 0.32, reverse=side < 0), _RUBBER),
                (_disc(side * half, 0.33, at(share), 0.20, reverse=side < 0), (150, 152, 156)),
                (_disc(side * half, 0.33, at(share), 0.08, reverse=side < 0), (84, 86, 90)),
            ]
        details += [
            (
                np.array(
                    [
                        (side * half, y, at(s))
                        for s, y in ((a, 0.36), (a + 0.004, 0.36), (a + 0.004, belt), (a, belt))
                    ]
                ),
                _mix(paint, (0, 0, 0), 0.5),
            )
            for a in (0.34, 0.54)
        ]
        centre = cabin.mean(axis=0)
        glass = centre + (cabin - centre) * (0.84, 0.76, 0.86)
        pillar_z = float(centre[2]) - 0.05
        windows: list[tuple[Points, Colour]] = []
        if kind == 'van':
            window = np.array(
                [
                    (side * inset(y), y, at(s))
                    for s, y in ((0.66, 1.28), (0.68, 1.85), (0.72, 1.85), (0.84, 1.28))
                ]
            )
            windows.append((window, _GLASS))
        else:
            windows.append((glass, _GLASS))
            bar = np.array(
                [
                    (side * inset(belt + 0.05), belt + 0.05, pillar_z),
                    (side * inset(height), height - 0.05, pillar_z),
                    (side * inset(height), height - 0.05, pillar_z + 0.1),
                    (side * inset(belt + 0.05), belt + 0.05, pillar_z + 0.1),
                ]
            )
            windows.append((bar, paint))
        if side < 0:
            faces += [Face(body, paint, tuple(details)), Face(cabin, paint, tuple(windows))]
        else:
            faces += [
                Face(body[::-1], paint, tuple(details)),
                Face(cabin[::-1], paint, tuple(windows)),
            ]
    faces += _tyres(half, length)
    return Solid(faces), (width, height, length)


def _tyres(half: float, length: float) -> list[Face]:
    """Return what is seen below a body from behind and from the front: dark, with tyres."""
    faces = []
    for z, flip in ((-length * 0.40, False), (length * 0.40, True)):
        points = _quad(
            (-half * 0.95, 0.18, z),
            (half * 0.95, 0.18, z),
            (half * 0.95, 0.5, z),
            (-half * 0.95, 0.5, z),
        )
        tyres = []
        for a, b in ((-0.95, -0.72), (0.72, 0.95)):
            tyre = _quad(
                (a * half, 0, z), (b * half, 0, z), (b * half, 0.4, z), (a * half, 0.4, z)
            )
            tyres.append((tyre[::-1] if flip else tyre, _RUBBER))
        faces.append(Face(points[::-1] if flip else points, (14, 14, 15), tuple(tyres)))
    return faces


def _box_vehicle(
    rng: np.random.Generator,
    paint: Colour,
    width: float,
    height: float,
    length: float,
    *,
    windows: bool,
) -> tuple[Solid, tuple[float, float, float]]:
    """Return a bus (``windows``) or a lorry."""
    half, low, back, front = width / 2, 0.55 if not windows else 0.35, -length / 2, length / 2
    grey = float(rng.uniform(130, 235))
    cargo: Colour = paint if windows else (grey, grey * 0.98, grey * 0.93)

    def rear(u0: float, u1: float, v0: float, v1: float) -> Points:
        x0, x1 = (u0 * 2 - 1) * half, (u1 * 2 - 1) * half
        y0, y1 = low + (height - low) * v0, low + (height - low) * v1
        return _quad((x0, y0, back), (x1, y0, back), (x1, y1, back), (x0, y1, back))

    def nose(u0: float, u1: float, v0: float, v1: float) -> Points:
        return rear(u0, u1, v0, v1)[::-1] * (1, 1, -1)

    def flank(side: int, s0: float, s1: float, v0: float, v1: float) -> Points:
        z0, z1 = back + s0 * length, back + s1 * length
        y0, y1 = low + (height - low) * v0, low + (height - low) * v1
        points = _quad(
            (side * half, y0, z1),
            (side * half, y0, z0),
            (side * half, y1, z0),
            (side * half, y1, z1),
        )
        return points if side < 0 else points[::-1]

    red: Colour = (186, 30, 28)
    lamps = [
        (rear(0.02, 0.12, 0.06, 0.12), red),
        (rear(0.88, 0.98, 0.06, 0.12), red),
        (rear(0, 1, 0, 0.05), (40, 40, 42)),
        (rear(0.38, 0.62, 0.06, 0.11), (222, 216, 180)),
    ]
    if windows:
        lamps.append((rear(0.1, 0.9, 0.52, 0.88), _GLASS))
        lamps.append((rear(0.1, 0.9, 0.74, 0.88), _mix(_GLASS, (190, 205, 215), 0.4)))
    else:
        lamps += [
            (rear(0.03, 0.97, 0.10, 0.985), _mix(cargo, (255, 255, 255), 0.12)),
            (rear(0.494, 0.506, 0.08, 1), _mix(cargo, (0, 0, 0), 0.5)),
            *[(rear(u, u + 0.012, 0.1, 0.98), _mix(cargo, (0, 0, 0), 0.35)) for u in (0.3, 0.69)],
        ]
        if rng.random() < 0.5:
            lamps.append((rear(0.15, 0.85, 0.5, 0.75), tuple(rng.uniform(20, 220, 3))))
    faces = [
        Face(rear(0, 1, 0, 1), cargo, tuple(lamps)),
        Face(
            nose(0, 1, 0, 1),
            paint,
            (
                (nose(0.06, 0.94, 0.42, 0.85), _GLASS),
                (nose(0.08, 0.92, 0.62, 0.83), _mix(_GLASS, (190, 205, 215), 0.4)),
                (nose(0.05, 0.2, 0.08, 0.17), (235, 238, 240)),
                (nose(0.8, 0.95, 0.08, 0.17), (235, 238, 240)),
                (nose(0.25, 0.75, 0.05, 0.25), (36, 36, 38)),
            ),
        ),
        Face(
            _quad(
                (-half, height, back),
                (half, height, back),
                (half, height, front),
                (-half, height, front),
            ),
            _mix(cargo, (255, 255, 255), 0.1),
        ),
    ]
    for side in (-1, 1):
        details: list[tuple[Points, Colour]] = [(flank(side, 0, 1, 0, 0.06), (44, 44, 46))]
        if windows:
            for index in range(6):
                s = 0.04 + index * 0.15
                details.append((flank(side, s, s + 0.13, 0.5, 0.86), _GLASS))
                details.append(
                    (flank(side, s, s + 0.13, 0.72, 0.86), _mix(_GLASS, (190, 205, 215), 0.35))
                )
            details.append((flank(side, 0, 1, 0.3, 0.36), _mix(paint, (255, 255, 255), 0.6)))
        else:
            details.append((flank(side, 0.76, 1, 0, 1), paint))
            details.append((flank(side, 0.80, 0.96, 0.45, 0.85), _GLASS))
            details.append((flank(side, 0.75, 0.76, 0, 1), (30, 30, 32)))
            for s in np.arange(0.03, 0.72, 0.05):
                details.append((flank(side, s, s + 0.008, 0.08, 1), _mix(cargo, (0, 0, 0), 0.25)))
        for share in (0.2, 0.86):
            z = back + share * length
            details.append((_disc(side * half, 0.5, z, 0.5, reverse=side < 0), _RUBBER))
            details.append((_disc(side * half, 0.5, z, 0.24, reverse=side < 0), (120, 122, 126)))
        faces.append(Face(flank(side, 0, 1, 0, 1), cargo, tuple(details)))
    faces += _tyres(half, length)
    return Solid(faces), (width, height, length)
