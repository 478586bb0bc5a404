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

"""Round things that fell from a lorry, rolled there or make no sense at all."""

from __future__ import annotations

import math
from functools import partial

import cv2
import numpy as np

from maskomaly_ros.scenes.raster import Colour, Sprite
from maskomaly_ros.scenes.relief import Studio


def rock(look: int) -> Sprite:
    """Return a rock with some moss."""
    s = Studio(1.5, 0.95, look)
    angles = np.linspace(0, math.pi, 10)
    reach = s.rng.uniform(0.78, 1.0, 10)
    ring = [
        (0.70 * r * math.cos(a), 0.02 + 0.85 * r * math.sin(a) ** 0.8)
        for a, r in zip(angles, reach, strict=True)
    ]
    mask = s.outline([*ring, (-0.62, 0.0), (0.0, -0.02), (0.62, 0.0)])
    base: tuple[Colour, ...] = ((142, 138, 132), (124, 108, 92), (160, 150, 134))
    moss = np.clip(s.cloud(1.5) - 0.9, 0, 0.8)[..., None]
    colour = (
        np.array(base[look % 3], np.float32) * (1 - moss)
        + np.array((92, 108, 54), np.float32) * moss
    )
    s.add(mask, colour, grain=0.07 * s.cloud(0.7), rough=0.03, puff=0.8, slope=1.6)
    return s.finish()


def log(look: int) -> Sprite:
    """Return the trunk of a tree."""
    s = Studio(2.6, 0.62, look)
    bark = s.strands(0.05, 41) * 0.16 + 0.1 * s.cloud(0.9)
    s.add(s.chain((0.4, 0.42, 0.05), (0.62, 0.56, 0.035)), (104, 80, 60), grain=bark)
    s.add(
        s.chain((-0.96, 0.27, 0.25), (1.0, 0.25, 0.23)),
        (112, 86, 64),
        grain=bark,
        rough=0.008,
        slope=0.8,
    )
    end = (-1.03, 0.27)
    for radius, colour in (
        (0.25, (96, 72, 52)),
        (0.225, (214, 178, 126)),
        (0.17, (190, 150, 100)),
        (0.155, (214, 178, 126)),
        (0.10, (190, 150, 100)),
        (0.085, (212, 176, 124)),
        (0.03, (170, 128, 84)),
    ):
        angles = np.linspace(0, 2 * math.pi, 25)[:-1]
        ring = [
            (end[0] + 0.62 * radius * math.cos(a), end[1] + radius * math.sin(a)) for a in angles
        ]
        s.add(s.outline(ring), colour, grain=0.05 * s.cloud(0.6), puff=0)
    return s.finish()


def branch(look: int) -> Sprite:
    """Return a torn-off branch with leaves."""
    s = Studio(2.6, 1.0, look)
    bark = 0.15 * s.strands(0.2, 15)
    tips: list[tuple[float, float]] = []

    def grow(x: float, y: float, angle: float, length: float, thick: float, depth: int) -> None:
        end = (x + length * math.cos(angle), max(y + length * math.sin(angle), 0.05))
        s.add(s.chain((x, y, thick), (*end, thick * 0.65)), (106, 84, 64), grain=bark)
        if depth == 0 or thick < 0.012:
            tips.append(end)
            return
        for spread in (-1, 1, 0.2):
            grow(
                *end,
                angle + spread * s.rng.uniform(0.25, 0.6),
                length * s.rng.uniform(0.6, 0.8),
                thick * 0.6,
                depth - 1,
            )

    grow(-1.25, 0.12, 0.12, 0.75, 0.07, 3)
    s.rng.shuffle(tips)
    for x, y in tips:
        for _ in range(9):
            cx, cy = x + s.rng.normal(0, 0.13), max(y + s.rng.normal(0, 0.11), 0.04)
            angle = s.rng.uniform(0, math.pi)
            dx, dy = 0.055 * math.cos(angle), 0.055 * math.sin(angle)
            tone = s.rng.uniform(0.6, 1.25)
            leaf = s.place(
                [
                    (cx - dx, cy - dy),
                    (cx - dy * 0.45, cy + dx * 0.45),
                    (cx + dx, cy + dy),
                    (cx + dy * 0.45, cy - dx * 0.45),
                ]
            )
            patch = np.zeros(s.shape, np.uint8)
            cv2.fillPoly(patch, [leaf], 255, cv2.LINE_AA, 4)
            s.add(patch, (96 * tone, 132 * tone, 46 * tone), puff=0)
    return s.finish()


def ball(look: int) -> Sprite:
    """Return a football or a beach ball."""
    s = Studio(0.72, 0.72, look)
    disc = s.chain((0, 0.36, 0.35))
    rows, columns = np.mgrid[0 : s.shape[0], 0 : s.shape[1]]
    x = (columns / s.scale - 0.36 + 0.12) / 0.36
    y = (0.36 - rows / s.scale - 0.10) / 0.36
    if look % 2:  # beach ball
        sector = (
            np.floor((np.arctan2(y, x) + 0.4 * np.hypot(x, y)) / (2 * math.pi) * 6).astype(int) % 6
        )
        palette = np.array(
            (
                (224, 44, 40),
                (244, 240, 232),
                (40, 92, 196),
                (244, 240, 232),
                (246, 200, 40),
                (244, 240, 232),
            ),
            np.float32,
        )
        colour = palette[sector]
        colour[np.hypot(x, y) < 0.16] = (240, 236, 230)
    else:  # football
        colour = np.full((*s.shape, 3), 238, np.float32)
        for angle in (*np.arange(5) * 2 * math.pi / 5, None):
            cx, cy = (
                (0.0, 0.0)
                if angle is None
                else (0.72 * math.cos(angle + 0.3), 0.72 * math.sin(angle + 0.3))
            )
            colour[np.hypot(x - cx, y - cy) < (0.25 if angle is None else 0.2)] = 26
    s.add(disc, colour, gloss=0.35, grain=0.02 * s.cloud(0.5))
    return s.finish(ground=0.2)


def bag(look: int) -> Sprite:
    """Return a bag of rubbish."""
    s = Studio(1.0, 0.9, look)
    colour: Colour = ((30, 32, 36), (42, 66, 120), (196, 198, 196))[look % 3]
    body = s.outline(
        (
            (-0.42, 0.02),
            (-0.46, 0.25),
            (-0.30, 0.52),
            (-0.08, 0.66),
            (0.08, 0.66),
            (0.32, 0.50),
            (0.46, 0.24),
            (0.42, 0.02),
            (0.0, -0.01),
        )
    )
    s.add(body, colour, rough=0.035, slope=1.25, gloss=0.55, puff=0.8)
    s.add(
        s.outline(
            ((-0.05, 0.62), (-0.16, 0.84), (-0.02, 0.78), (0.08, 0.88), (0.14, 0.80), (0.06, 0.62))
        ),
        colour,
        rough=0.02,
        gloss=0.4,
    )
    s.add(s.chain((-0.07, 0.65, 0.025), (0.07, 0.65, 0.025)), (214, 60, 50), puff=0.5)
    return s.finish()


def tyres(look: int) -> Sprite:
    """Return one to four tyres on top of each other."""
    s = Studio(0.9, 1.0, look)
    count = 1 + look % 4
    for index in range(count):
        y, dx = 0.105 + 0.21 * index, s.rng.uniform(-0.04, 0.04)
        ring = [
            (dx + 0.36 * math.cos(a) * (1 - 0.07 * abs(math.sin(a)) ** 3), y + 0.125 * math.sin(a))
            for a in np.linspace(0, 2 * math.pi, 33)[:-1]
        ]
        squared = [(x, max(min(yy * 1.0, y + 0.105), y - 0.105)) for x, yy in ring]
        tread = np.zeros(s.shape, np.float32)
        for column in np.arange(-0.36, 0.36, 0.045):
            x = int((column + 0.45 + dx) * s.scale)
            tread[:, x : x + 3] = -0.35
        s.add(s.outline(squared), (52, 52, 54), grain=tread + 0.05 * s.cloud(0.6), gloss=0.08)
    top = 0.105 + 0.21 * (count - 1) + 0.09
    angles = np.linspace(0, 2 * math.pi, 33)[:-1]
    s.add(
        s.outline([(0.355 * math.cos(a), top + 0.075 * math.sin(a)) for a in angles]),
        (66, 66, 68),
        puff=0.25,
    )
    s.add(
        s.outline([(0.22 * math.cos(a), top + 0.045 * math.sin(a)) for a in angles]),
        (14, 14, 15),
        puff=0,
    )
    return s.finish()


def wheel(look: int) -> Sprite:
    """Return a wheel that rolls along."""
    s = Studio(0.9, 0.9, look)
    s.add(s.chain((0, 0.44, 0.43)), (40, 40, 42), grain=0.06 * s.cloud(0.6), gloss=0.1, puff=0.5)
    s.add(s.chain((0, 0.44, 0.34)), (54, 54, 56), puff=0.15)
    s.add(s.chain((0, 0.44, 0.255)), (20, 20, 22), puff=0)
    s.add(s.chain((0, 0.44, 0.245)), (158, 160, 164), puff=0.6)
    for angle in np.arange(5) * 2 * math.pi / 5 + 0.3:
        s.add(
            s.chain((0.15 * math.cos(angle), 0.44 + 0.15 * math.sin(angle), 0.055)),
            (34, 34, 36),
            puff=0,
        )
    s.add(s.chain((0, 0.44, 0.05)), (196, 198, 200), gloss=0.4)
    return s.finish()


def statue(look: int) -> Sprite:
    """Return a statue on its plinth."""
    s = Studio(1.3, 2.7, look)
    stone: Colour = ((198, 192, 178), (104, 130, 112))[look % 2]
    worn = partial(s.add, colour=stone, grain=0.05 * s.cloud(0.9), rough=0.002)
    for y0, y1, half in ((0.0, 0.14, 0.52), (0.14, 0.62, 0.40), (0.62, 0.74, 0.48)):
        s.add(
            s.outline(((-half, y0), (-half, y1), (half, y1), (half, y0)), smooth=False),
            (168, 162, 150),
            grain=0.06 * s.cloud(0.9),
            puff=0.2,
        )
    worn(s.chain((0.14, 1.42, 0.11), (0.18, 1.08, 0.085), (0.2, 0.78, 0.06), (0.28, 0.77, 0.05)))
    worn(
        s.chain((-0.10, 1.42, 0.12), (-0.13, 1.08, 0.09), (-0.12, 0.78, 0.065), (-0.2, 0.77, 0.05))
    )
    worn(
        s.outline(
            ((-0.26, 1.15), (-0.24, 1.6), (0.0, 1.7), (0.25, 1.6), (0.30, 1.05), (0.05, 1.12))
        ),
    )
    worn(s.chain((0.24, 1.96, 0.085), (0.36, 1.66, 0.06), (0.20, 1.46, 0.05)))
    worn(
        s.outline(
            ((-0.27, 1.98), (-0.22, 1.55), (0.0, 1.42), (0.22, 1.55), (0.27, 1.98), (0.0, 2.07))
        ),
    )
    worn(
        s.chain(
            (-0.24, 1.97, 0.08), (-0.42, 2.22, 0.06), (-0.50, 2.50, 0.045), (-0.50, 2.56, 0.05)
        )
    )
    worn(s.chain((0, 2.05, 0.07), (0, 2.12, 0.07)))
    worn(s.chain((0, 2.26, 0.115), (0, 2.22, 0.10)))
    return s.finish()


def wheelbarrow(look: int) -> Sprite:
    """Return a wheelbarrow full of earth."""
    s = Studio(1.7, 0.95, look)
    paint: Colour = ((44, 122, 70), (206, 62, 44), (46, 92, 170))[look % 3]
    s.add(s.chain((0.12, 0.42, 0.028), (0.82, 0.66, 0.025)), (70, 72, 74))
    s.add(s.chain((0.70, 0.62, 0.035), (0.83, 0.67, 0.035)), (22, 22, 24))
    s.add(s.chain((-0.58, 0.22, 0.025), (0.12, 0.42, 0.025)), (70, 72, 74))
    s.add(s.chain((0.20, 0.44, 0.025), (0.28, 0.04, 0.022), (0.38, 0.03, 0.022)), (70, 72, 74))
    heap = s.outline(((-0.5, 0.66), (-0.25, 0.84), (0.02, 0.90), (0.25, 0.82), (0.42, 0.66)))
    s.add(heap, (118, 88, 60), grain=0.12 * s.cloud(0.6), rough=0.02, slope=0.9)
    tray = s.outline(
        ((-0.66, 0.72), (-0.60, 0.66), (-0.32, 0.36), (0.22, 0.36), (0.46, 0.66), (0.52, 0.72)),
        smooth=False,
    )
    s.add(tray, paint, puff=0.5, gloss=0.1, grain=0.04 * s.cloud(0.8))
    s.add(s.chain((-0.68, 0.72, 0.02), (0.54, 0.72, 0.02)), paint, shade=0.8)
    s.add(s.chain((-0.58, 0.21, 0.20)), (30, 30, 32), puff=0.5)
    s.add(s.chain((-0.58, 0.21, 0.12)), (206, 176, 60), puff=0.3)
    s.add(s.chain((-0.58, 0.21, 0.03)), (60, 62, 64))
    return s.finish()


def duck(look: int) -> Sprite:
    """Return a giant rubber duck."""
    s = Studio(1.7, 1.6, look)
    yellow: Colour = (248, 206, 44)
    body = s.outline(
        (
            (-0.68, 0.42),
            (-0.58, 0.14),
            (-0.2, 0.01),
            (0.3, 0.02),
            (0.62, 0.2),
            (0.82, 0.72),
            (0.5, 0.62),
            (0.2, 0.66),
            (-0.2, 0.78),
            (-0.55, 0.72),
        )
    )
    s.add(body, yellow, gloss=0.3)
    s.add(
        s.outline(((-0.2, 0.52), (0.0, 0.28), (0.36, 0.26), (0.56, 0.5), (0.2, 0.56))),
        (244, 194, 30),
        gloss=0.1,
        puff=0.6,
    )
    s.add(s.chain((-0.34, 1.12, 0.37)), yellow, gloss=0.3)
    s.add(
        s.outline(((-0.62, 1.08), (-0.84, 1.06), (-0.82, 0.98), (-0.70, 0.95), (-0.58, 0.98))),
        (238, 112, 30),
        gloss=0.2,
    )
    s.add(s.chain((-0.50, 1.24, 0.075)), (250, 250, 246), puff=0.2)
    s.add(s.chain((-0.52, 1.24, 0.045)), (16, 16, 18), gloss=0.8)
    return s.finish()


def umbrella(look: int) -> Sprite:
    """Return an open umbrella."""
    s = Studio(1.3, 1.0, look)
    a, b = (
        ((206, 36, 62), (160, 24, 46)),
        ((40, 120, 180), (236, 234, 226)),
        ((246, 190, 40), (60, 60, 66)),
    )[look % 3]
    s.add(
        s.chain((0.02, 0.40, 0.014), (0.46, 0.06, 0.014), (0.53, 0.03, 0.02), (0.58, 0.09, 0.018)),
        (60, 50, 44),
    )
    ribs = [
        (0.62 * math.cos(t), 0.30 + 0.62 * math.sin(t))
        for t in np.linspace(0.10, math.pi - 0.10, 7)
    ]
    rim = [
        (-0.60, 0.30),
        (-0.38, 0.22),
        (-0.20, 0.14),
        (0.05, 0.12),
        (0.28, 0.16),
        (0.46, 0.24),
        (0.60, 0.32),
    ]
    dome = s.outline([*ribs, *rim])
    colour = np.zeros((*s.shape, 3), np.float32)
    colour[:] = a
    edges = np.linspace(-0.62, 0.62, 7)
    for index in range(0, 6, 2):
        ring = ((0.0, 0.93), (edges[index], 0.10), (edges[index + 1], 0.10))
        colour[s.outline(ring, smooth=False) > 127] = b
    s.add(dome, colour, gloss=0.12, puff=0.7)
    s.add(s.chain((0, 0.92, 0.015), (0, 0.98, 0.01)), (50, 50, 52))
    return s.finish(ground=0.3)


def helicopter(look: int) -> Sprite:
    """Return a little helicopter on skids."""
    s = Studio(3.2, 1.9, look)
    paint: Colour = ((222, 76, 34), (52, 86, 150), (240, 206, 60))[look % 3]
    metal: Colour = (92, 96, 100)
    for x in (-0.5, 0.3):
        s.add(s.chain((x, 0.42, 0.025), (x - 0.06, 0.08, 0.025)), metal)
    s.add(s.chain((-0.95, 0.11, 0.025), (-0.85, 0.06, 0.03), (0.55, 0.06, 0.03)), metal)
    s.add(s.chain((0.35, 0.85, 0.16), (0.9, 0.92, 0.07), (1.35, 0.98, 0.045)), paint, gloss=0.1)
    s.add(
        s.outline(((1.22, 0.98), (1.40, 1.38), (1.54, 1.38), (1.46, 0.95)), smooth=False),
        paint,
        puff=0.3,
    )
    s.add(s.chain((1.42, 1.20, 0.02), (1.36, 0.86, 0.012)), (40, 40, 42))
    s.add(s.chain((1.42, 1.20, 0.02), (1.50, 1.52, 0.012)), (40, 40, 42))
    s.add(
        s.outline(
            (
                (-1.1, 0.62),
                (-0.92, 0.40),
                (-0.4, 0.30),
                (0.3, 0.36),
                (0.6, 0.72),
                (0.42, 1.04),
                (0.0, 1.20),
                (-0.5, 1.16),
                (-0.92, 0.92),
            )
        ),
        paint,
        gloss=0.2,
    )
    s.add(
        s.outline(
            (
                (-1.04, 0.66),
                (-0.86, 0.90),
                (-0.5, 1.10),
                (-0.22, 1.10),
                (-0.22, 0.66),
                (-0.6, 0.58),
            )
        ),
        (64, 84, 100),
        gloss=0.6,
        puff=0.6,
    )
    s.add(
        s.outline(((-0.12, 1.06), (-0.12, 0.68), (0.22, 0.70), (0.26, 0.98)), smooth=False),
        (64, 84, 100),
        gloss=0.4,
        puff=0.4,
    )
    s.add(s.chain((-0.05, 1.18, 0.06), (-0.05, 1.42, 0.035)), metal)
    s.add(
        s.chain((-1.52, 1.50, 0.02), (-0.05, 1.44, 0.03), (1.42, 1.56, 0.02)),
        (46, 48, 50),
        puff=0.4,
    )
    s.add(s.chain((-0.05, 1.46, 0.06)), metal)
    return s.finish()


def rover(look: int) -> Sprite:
    """Return an odd machine on six wheels, with a dish and a lamp."""
    s = Studio(1.5, 1.75, look)
    s.add(s.chain((0.35, 0.8, 0.02), (0.38, 1.45, 0.015)), (110, 112, 116))
    s.add(
        s.outline(
            [
                (0.38 + 0.24 * math.cos(a), 1.46 + 0.2 * math.sin(a))
                for a in np.linspace(0, 6.28, 20)[:-1]
            ]
        ),
        (226, 226, 222),
        puff=0.5,
    )
    s.add(s.chain((0.38, 1.46, 0.03), (0.24, 1.52, 0.02)), (70, 72, 76))
    s.add(s.chain((-0.40, 0.8, 0.025), (-0.42, 1.25, 0.025)), (130, 132, 136))
    s.add(
        s.outline(((-0.60, 1.24), (-0.60, 1.42), (-0.24, 1.42), (-0.24, 1.24)), smooth=False),
        (210, 212, 210),
        puff=0.4,
    )
    for x in (-0.50, -0.34):
        s.add(s.chain((x, 1.33, 0.06)), (24, 28, 36), gloss=0.8)
    body = s.outline(((-0.66, 0.38), (-0.66, 0.80), (0.66, 0.80), (0.66, 0.38)), smooth=False)
    s.add(body, (212, 172, 74), puff=0.25, grain=0.07 * s.cloud(0.8), rough=0.008)
    for x in (-0.4, 0.0, 0.4):
        s.add(
            s.outline(
                ((x - 0.14, 0.5), (x - 0.14, 0.7), (x + 0.14, 0.7), (x + 0.14, 0.5)), smooth=False
            ),
            (48, 66, 118),
            puff=0.3,
            gloss=0.2,
        )
    s.add(s.chain((-0.52, 0.86, 0.05)), (240, 60, 40), gloss=0.6)
    for x in (-0.52, 0.0, 0.52):
        s.add(s.chain((x, 0.19, 0.19)), (58, 58, 62), puff=0.6)
        s.add(s.chain((x, 0.19, 0.10)), (170, 172, 176), puff=0.4)
    return s.finish()


def boat(look: int) -> Sprite:
    """Return a rowing boat."""
    s = Studio(3.0, 0.95, look)
    paint: Colour = ((196, 48, 42), (46, 104, 150), (238, 236, 228))[look % 3]
    s.add(
        s.outline(
            ((-1.42, 0.86), (-0.6, 0.70), (0.6, 0.66), (1.36, 0.74), (0.5, 0.80), (-0.5, 0.84)),
            smooth=False,
        ),
        (120, 84, 54),
        puff=0.3,
    )
    s.add(
        s.outline(
            (
                (-1.46, 0.90),
                (-1.1, 0.30),
                (-0.72, 0.06),
                (0.9, 0.04),
                (1.24, 0.14),
                (1.40, 0.76),
                (0.6, 0.66),
                (-0.6, 0.70),
            ),
            smooth=False,
        ),
        paint,
        puff=0.8,
        gloss=0.1,
        grain=0.04 * s.cloud(0.9),
    )
    s.add(
        s.chain((-1.46, 0.89, 0.03), (-0.6, 0.70, 0.03), (0.6, 0.66, 0.03), (1.40, 0.75, 0.03)),
        (238, 232, 220),
    )
    s.add(
        s.chain((-1.18, 0.42, 0.02), (-0.7, 0.34, 0.02), (0.9, 0.30, 0.02), (1.3, 0.36, 0.02)),
        (238, 232, 220),
        puff=0.3,
    )
    s.add(s.chain((-0.2, 0.74, 0.02), (0.9, 0.92, 0.02)), (206, 170, 112))
    return s.finish(ground=0.2)
