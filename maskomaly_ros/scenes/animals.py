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

"""Animals that stray onto a road, seen from the side, looking to the left."""

from __future__ import annotations

import math

import cv2
import numpy as np

from maskomaly_ros.scenes.raster import Colour, Floats, Sprite
from maskomaly_ros.scenes.relief import Studio

STEPS = 4  # moments in the walk of an animal


def _leg(
    studio: Studio,
    hip: tuple[float, float],
    knee: float,
    thick: float,
    swing: float,
    back: bool,
    colour: Colour | Floats,
    grain: Floats | None,
    shade: float = 1.0,
) -> None:
    """Paint a leg down to the ground; ``swing`` is how far the foot is ahead (to the left)."""
    x, y = hip
    bend = 0.10 * y * (1 if back else -0.35)
    joint = (x - swing * 0.45 + bend, y * knee)
    foot = (x - swing, 0.03)
    studio.add(
        studio.chain(
            (x, y, thick),
            (*joint, thick * 0.55),
            (foot[0] + bend * 0.25, y * 0.14, thick * 0.38),
            (foot[0] - 0.02 * y, foot[1], thick * 0.45),
        ),
        colour,
        grain=grain,
        shade=shade,
    )


def _swings(step: int, reach: float) -> tuple[float, float, float, float]:
    """Return how far the four feet are ahead: far fore, far hind, near fore, near hind."""
    angle = 2 * math.pi * step / STEPS + 0.6
    return (
        reach * math.sin(angle),
        -reach * math.sin(angle),
        -reach * math.sin(angle),
        reach * math.sin(angle),
    )


def deer(look: int, step: int) -> Sprite:
    """Return a stag."""
    s = Studio(1.95, 1.85, look)
    fur: Colour = (164, 112, 66)
    hair = 0.11 * s.strands(-0.5) + 0.05 * s.cloud()
    ff, fh, nf, nh = _swings(step, 0.17)
    _leg(s, (-0.33, 0.78), 0.55, 0.085, ff, False, fur, hair, shade=0.62)
    _leg(s, (0.50, 0.82), 0.55, 0.12, fh, True, fur, hair, shade=0.62)
    s.add(s.chain((0.66, 1.04, 0.05), (0.75, 0.93, 0.035)), (226, 214, 196), puff=0.8)
    belly = np.clip((0.86 - rows(s)) / 0.18, 0, 1)[..., None]
    coat = np.array(fur, np.float32) * (1 - belly) + np.array((206, 178, 146), np.float32) * belly
    s.add(
        s.chain((-0.36, 0.93, 0.22), (-0.05, 0.93, 0.205), (0.25, 0.96, 0.2), (0.5, 0.98, 0.19)),
        coat,
        grain=hair,
    )
    rump = s.chain((0.62, 0.98, 0.09), (0.63, 0.86, 0.05))
    s.add(rump, (232, 222, 206), grain=hair, puff=0.3)
    for x, y in (
        (0.1, 1.04),
        (0.25, 1.08),
        (0.4, 1.07),
        (-0.1, 1.03),
        (0.18, 0.97),
        (0.33, 0.98),
        (0.0, 0.96),
    ):
        s.add(s.chain((x, y, 0.018)), (214, 184, 146), puff=0)
    _leg(s, (-0.36, 0.82), 0.53, 0.10, nf, False, fur, hair)
    _leg(s, (0.46, 0.88), 0.52, 0.15, nh, True, fur, hair)
    s.add(s.chain((-0.40, 1.0, 0.17), (-0.58, 1.22, 0.105), (-0.66, 1.36, 0.085)), fur, grain=hair)
    horn = (196, 170, 128)
    for lean, shade in ((0.10, 0.7), (0.0, 1.0)):
        x = -0.62 + lean
        for path in (
            ((x, 1.46), (x + 0.10, 1.60), (x + 0.06, 1.80)),
            ((x + 0.03, 1.52), (x - 0.12, 1.62)),
            ((x + 0.09, 1.62), (x + 0.24, 1.70), (x + 0.26, 1.82)),
            ((x + 0.09, 1.68), (x - 0.04, 1.76)),
        ):
            radii = np.linspace(0.018, 0.008, len(path))
            s.add(
                s.chain(*((a, b, float(r)) for (a, b), r in zip(path, radii, strict=True))),
                horn,
                shade=shade,
            )
    s.add(s.chain((-0.56, 1.44, 0.03), (-0.42, 1.50, 0.02)), fur, shade=0.85)
    s.add(
        s.chain((-0.66, 1.40, 0.085), (-0.78, 1.34, 0.06), (-0.90, 1.29, 0.042)), fur, grain=hair
    )
    s.add(s.chain((-0.925, 1.295, 0.022)), (34, 28, 26), puff=0)
    s.add(s.chain((-0.72, 1.41, 0.016)), (20, 16, 14), puff=0)
    return s.finish()


def cow(look: int, step: int) -> Sprite:
    """Return a cow."""
    s = Studio(2.6, 1.62, look)
    brown = look % 3 == 2
    white, dark = (
        ((232, 228, 220), (34, 30, 30)) if not brown else ((168, 100, 58), (224, 214, 200))
    )
    spots = (cv2.GaussianBlur(s.cloud(1.7), (0, 0), 3) > 0.25)[..., None]
    coat = np.where(spots, np.array(dark, np.float32), np.array(white, np.float32))
    hair = 0.06 * s.strands(-0.9, 7)
    ff, fh, nf, nh = _swings(step, 0.16)
    for hip, swing, back in (((-0.58, 0.72), ff, False), ((0.78, 0.74), fh, True)):
        _leg(s, hip, 0.5, 0.13, swing, back, white, hair, shade=0.6)
    s.add(
        s.chain((1.0, 1.28, 0.03), (1.10, 1.0, 0.025), (1.10, 0.62, 0.03), (1.10, 0.5, 0.05)),
        white,
        grain=hair,
    )
    s.add(
        s.chain(
            (-0.60, 1.02, 0.34),
            (-0.2, 0.98, 0.37),
            (0.3, 0.98, 0.38),
            (0.72, 1.04, 0.33),
            (0.9, 1.12, 0.22),
        ),
        coat,
        grain=hair,
    )
    s.add(s.chain((0.42, 0.64, 0.12), (0.52, 0.58, 0.07)), (222, 168, 156), puff=0.8)
    _leg(s, (-0.62, 0.78), 0.48, 0.15, nf, False, coat, hair)
    _leg(s, (0.74, 0.86), 0.47, 0.20, nh, True, coat, hair)
    s.add(s.chain((-0.68, 1.08, 0.26), (-0.92, 1.22, 0.19)), coat, grain=hair)
    s.add(s.chain((-0.92, 1.40, 0.03), (-0.86, 1.50, 0.018), (-0.92, 1.56, 0.01)), (220, 208, 180))
    s.add(s.chain((-0.84, 1.36, 0.05), (-0.70, 1.33, 0.03)), dark, shade=0.9)
    s.add(
        s.chain((-0.96, 1.28, 0.14), (-1.10, 1.10, 0.11), (-1.16, 0.98, 0.09)),
        dark if not brown else white,
        grain=hair,
    )
    s.add(s.chain((-0.98, 1.36, 0.05), (-1.12, 1.10, 0.04)), (236, 232, 226), puff=0)
    s.add(s.chain((-1.17, 0.95, 0.085)), (214, 164, 150))
    s.add(s.chain((-1.22, 0.96, 0.018)), (90, 50, 46), puff=0)
    s.add(s.chain((-1.00, 1.27, 0.022)), (12, 10, 10), puff=0)
    return s.finish()


def sheep(look: int, step: int) -> Sprite:
    """Return a sheep."""
    s = Studio(1.35, 1.0, look)
    face: Colour = (38, 34, 32) if look % 2 else (206, 190, 170)
    ff, fh, nf, nh = _swings(step, 0.08)
    for hip, swing, back in (((-0.26, 0.36), ff, False), ((0.34, 0.36), fh, True)):
        _leg(s, hip, 0.5, 0.06, swing, back, face, None, shade=0.6)
    for hip, swing, back in (((-0.30, 0.38), nf, False), ((0.30, 0.38), nh, True)):
        _leg(s, hip, 0.5, 0.065, swing, back, face, None)
    wool = np.zeros(s.shape, np.uint8)
    for _ in range(60):
        angle, reach = s.rng.uniform(0, 2 * math.pi), math.sqrt(s.rng.uniform(0, 1))
        circle = (
            0.04 + 0.44 * reach * math.cos(angle),
            0.60 + 0.21 * reach * math.sin(angle),
            s.rng.uniform(0.06, 0.1),
        )
        wool = np.maximum(wool, s.chain(circle))
    s.add(wool, (226, 218, 200), grain=0.05 * s.cloud(0.8), rough=0.016, slope=0.9)
    s.add(
        s.chain((-0.42, 0.74, 0.12), (-0.50, 0.76, 0.11)), (222, 214, 196), rough=0.012, slope=0.9
    )
    s.add(s.chain((-0.40, 0.80, 0.035), (-0.31, 0.77, 0.02)), face, shade=0.8)
    s.add(s.chain((-0.50, 0.77, 0.085), (-0.60, 0.68, 0.06), (-0.63, 0.64, 0.045)), face)
    s.add(s.chain((-0.54, 0.775, 0.014)), (240, 220, 120), puff=0)
    return s.finish()


def dog(look: int, step: int) -> Sprite:
    """Return a dog with a collar."""
    s = Studio(1.15, 0.85, look)
    palette: tuple[Colour, ...] = ((196, 150, 92), (44, 38, 36), (150, 98, 58), (214, 204, 190))
    fur = palette[look % 4]
    hair = 0.12 * s.strands(-0.3, 9)
    ff, fh, nf, nh = _swings(step, 0.12)
    _leg(s, (-0.20, 0.40), 0.5, 0.055, ff, False, fur, hair, shade=0.6)
    _leg(s, (0.26, 0.42), 0.52, 0.07, fh, True, fur, hair, shade=0.6)
    s.add(s.chain((0.32, 0.55, 0.04), (0.43, 0.66, 0.032), (0.50, 0.79, 0.02)), fur, grain=hair)
    s.add(s.chain((-0.22, 0.47, 0.125), (0.0, 0.48, 0.105), (0.24, 0.49, 0.11)), fur, grain=hair)
    _leg(s, (-0.22, 0.42), 0.5, 0.065, nf, False, fur, hair)
    _leg(s, (0.24, 0.45), 0.5, 0.09, nh, True, fur, hair)
    s.add(s.chain((-0.26, 0.52, 0.10), (-0.33, 0.65, 0.08)), fur, grain=hair)
    s.add(
        s.chain((-0.35, 0.70, 0.085), (-0.44, 0.66, 0.055), (-0.51, 0.645, 0.04)), fur, grain=hair
    )
    s.add(s.chain((-0.28, 0.74, 0.045), (-0.25, 0.62, 0.03)), fur, shade=0.62)
    s.add(s.chain((-0.545, 0.655, 0.02)), (18, 16, 16), gloss=0.5)
    s.add(s.chain((-0.40, 0.715, 0.013)), (16, 14, 12), puff=0)
    s.add(s.chain((-0.285, 0.61, 0.02), (-0.36, 0.575, 0.02)), (196, 34, 40), puff=0.5)
    return s.finish(ground=0.06)


def boar(look: int, step: int) -> Sprite:
    """Return a wild boar."""
    s = Studio(1.55, 0.98, look)
    fur: Colour = (88, 70, 56)
    hair = 0.24 * s.strands(-0.6, 13)
    ff, fh, nf, nh = _swings(step, 0.1)
    _leg(s, (-0.26, 0.38), 0.5, 0.07, ff, False, fur, hair, shade=0.55)
    _leg(s, (0.42, 0.38), 0.5, 0.08, fh, True, fur, hair, shade=0.55)
    s.add(s.chain((0.58, 0.62, 0.02), (0.68, 0.5, 0.015), (0.66, 0.42, 0.025)), fur)
    s.add(s.chain((-0.22, 0.60, 0.27), (0.08, 0.58, 0.25), (0.40, 0.54, 0.20)), fur, grain=hair)
    for x in np.linspace(-0.42, 0.3, 26):
        y = 0.86 - 0.32 * (x + 0.2) ** 2
        s.add(
            s.chain((x, y - 0.04, 0.012), (x + 0.04, y + s.rng.uniform(0.02, 0.06), 0.004)),
            (58, 46, 38),
            puff=0,
        )
    _leg(s, (-0.30, 0.42), 0.5, 0.085, nf, False, fur, hair)
    _leg(s, (0.38, 0.44), 0.5, 0.11, nh, True, fur, hair)
    s.add(
        s.chain(
            (-0.36, 0.58, 0.22), (-0.52, 0.48, 0.14), (-0.66, 0.38, 0.075), (-0.71, 0.36, 0.06)
        ),
        fur,
        grain=hair,
    )
    s.add(s.chain((-0.44, 0.70, 0.05), (-0.42, 0.80, 0.02)), fur, shade=0.75)
    s.add(s.chain((-0.735, 0.36, 0.05)), (120, 88, 76))
    s.add(s.chain((-0.60, 0.37, 0.014), (-0.63, 0.44, 0.006)), (236, 228, 206))
    s.add(s.chain((-0.52, 0.56, 0.014)), (14, 12, 10), puff=0)
    return s.finish()


def ostrich(look: int, step: int) -> Sprite:
    """Return an ostrich."""
    s = Studio(1.5, 2.2, look)
    skin: Colour = (206, 168, 148)
    swing = 0.22 * math.sin(2 * math.pi * step / STEPS + 0.6)
    for direction, shade in ((-1, 0.65), (1, 1.0)):
        foot = -swing * direction
        s.add(
            s.chain(
                (0.1, 0.95, 0.11),
                (0.12 + foot * 0.3, 0.52, 0.045),
                (foot + 0.02, 0.06, 0.03),
                (foot - 0.12, 0.03, 0.03),
            ),
            skin,
            shade=shade,
        )
    plume = 0.2 * s.strands(-0.4, 17)
    s.add(s.chain((0.48, 1.1, 0.13), (0.62, 1.0, 0.09)), (226, 222, 214), grain=plume, rough=0.012)
    s.add(
        s.chain((-0.14, 1.14, 0.26), (0.12, 1.12, 0.31), (0.36, 1.12, 0.22)),
        (42, 38, 40),
        grain=plume,
        rough=0.012,
    )
    s.add(s.chain((0.2, 0.92, 0.09), (0.38, 0.96, 0.08)), (230, 226, 218), grain=plume)
    s.add(
        s.chain(
            (-0.3, 1.25, 0.11), (-0.42, 1.5, 0.055), (-0.36, 1.8, 0.045), (-0.40, 2.02, 0.045)
        ),
        skin,
        grain=0.05 * s.cloud(0.8),
    )
    s.add(s.chain((-0.43, 2.06, 0.075), (-0.5, 2.04, 0.05)), skin)
    s.add(s.chain((-0.53, 2.04, 0.03), (-0.64, 2.01, 0.015)), (222, 158, 84))
    s.add(s.chain((-0.46, 2.08, 0.022)), (18, 14, 12), puff=0)
    return s.finish()


def rows(studio: Studio) -> Floats:
    """Return the height in metres of every pixel, [h, w]."""
    column = (studio.shape[0] - np.arange(studio.shape[0]) - 0.5) / studio.scale
    return np.broadcast_to(column[:, None], studio.shape).astype(np.float32)
