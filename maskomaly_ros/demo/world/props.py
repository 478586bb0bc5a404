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

"""Things that do not belong on a road and that no class of the network describes.

Boxes and drums are solids. Everything with a rounder shape is a picture: each part is an outline
that is inflated into a relief and lit, so that fur, stone or rubber look bodily.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from maskomaly_ros.demo.world.raster import (
    Bytes,
    Colour,
    Face,
    Floats,
    Points,
    Solid,
    Sprite,
    generator,
)
from maskomaly_ros.demo.world.textures import fractal

STEPS = 4  # moments in the walk of an animal


@dataclass(frozen=True)
class Prop:
    """One obstacle; lengths in metres.

    Attributes:
        kind: what it is.
        pictures: its picture at each moment of its walk (one where it stands still); or empty.
        solids: the closed solids that it is made of, around its footprint's centre; or empty.
        width, height, length: extent.
        pace: metres a second at which it walks across the road.
    """

    kind: str
    pictures: tuple[Sprite, ...]
    solids: tuple[Solid, ...]
    width: float
    height: float
    length: float
    pace: float = 0.0


class _Studio:
    """Paints one picture out of parts, back to front; X from the middle, Y up, in metres."""

    def __init__(self, width: float, height: float, seed: int) -> None:
        self.width, self.height = width, height
        self.scale = 300 / max(width, height)
        self.shape = (math.ceil(height * self.scale), math.ceil(width * self.scale))
        self.colours: Floats = np.zeros((*self.shape, 3), np.float32)
        self.alpha: Floats = np.zeros(self.shape, np.float32)
        self.rng = generator(41, seed)

    def place(self, points: Sequence[Sequence[float]] | Points) -> NDInt:
        """Return pixel positions times 16."""
        array = np.asarray(points, float)
        x = (array[:, 0] + self.width / 2) * self.scale
        y = (self.height - array[:, 1]) * self.scale
        return np.round(np.stack((x, y), axis=1) * 16).astype(np.int32)

    def outline(self, points: Sequence[Sequence[float]], *, smooth: bool = True) -> Bytes:
        """Return the mask of a closed outline."""
        ring = np.asarray(points, float)
        if smooth:
            ring = _spline(ring)
        mask = np.zeros(self.shape, np.uint8)
        cv2.fillPoly(mask, [self.place(ring)], 255, cv2.LINE_AA, 4)
        return mask

    def chain(self, *circles: tuple[float, float, float]) -> Bytes:
        """Return the mask of circles (x, y, radius) joined each to the next."""
        mask = np.zeros(self.shape, np.uint8)
        for x, y, radius in circles:
            centre = self.place([(x, y)])[0].tolist()
            cv2.circle(
                mask, centre, max(round(radius * self.scale * 16), 8), 255, -1, cv2.LINE_AA, 4
            )
        for (x0, y0, r0), (x1, y1, r1) in itertools.pairwise(circles):
            length = math.hypot(x1 - x0, y1 - y0)
            if length < 1e-6:
                continue
            nx, ny = -(y1 - y0) / length, (x1 - x0) / length
            ring = (
                (x0 + nx * r0, y0 + ny * r0),
                (x1 + nx * r1, y1 + ny * r1),
                (x1 - nx * r1, y1 - ny * r1),
                (x0 - nx * r0, y0 - ny * r0),
            )
            cv2.fillPoly(mask, [self.place(ring)], 255, cv2.LINE_AA, 4)
        return mask

    def strands(self, angle: float, length: int = 11) -> Floats:
        """Return fur: noise drawn out along ``angle`` (radians from the X axis, upwards)."""
        kernel = np.zeros((length, length), np.float32)
        middle = length // 2
        dx, dy = math.cos(angle) * middle, -math.sin(angle) * middle
        cv2.line(
            kernel,
            (round(middle - dx), round(middle - dy)),
            (round(middle + dx), round(middle + dy)),
            1.0,
        )
        noise = cv2.filter2D(
            self.rng.standard_normal(self.shape).astype(np.float32), -1, kernel / kernel.sum()
        )
        return noise / float(noise.std())

    def cloud(self, slope: float = 1.4) -> Floats:
        """Return blotches of mean 0 and deviation 1."""
        rows, columns = self.shape
        return fractal((rows + rows % 2, columns + columns % 2), slope, self.rng)[:rows, :columns]

    def add(
        self,
        mask: Bytes,
        colour: Colour | Floats,
        *,
        grain: Floats | None = None,
        rough: float = 0.0,
        puff: float = 1.0,
        gloss: float = 0.0,
        shade: float = 1.0,
        slope: float = 1.3,
    ) -> None:
        """Paint a part.

        Args:
            mask: where, 0 to 255.
            colour: one colour or a picture of colours.
            grain: deviation of the tone, 0 = as the colour.
            rough: height of bumps on the surface.
            puff: how round the part is; 0 is flat.
            gloss: strength of the highlight.
            shade: factor, below 1 for parts on the far side.
            slope: spectrum of the bumps.
        """
        left, top, wide, tall = cv2.boundingRect(mask)
        if not wide:
            return
        margin = 4  # for the derivatives at the outline
        here = (
            slice(max(top - margin, 0), top + tall + margin),
            slice(max(left - margin, 0), left + wide + margin),
        )
        mask = mask[here]
        tone = np.full(mask.shape, 1.0, np.float32)
        facing = tone
        if puff or rough:
            inside = cv2.copyMakeBorder(
                (mask > 127).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT
            )
            inside = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[1:-1, 1:-1]
            radius = max(float(inside.max()), 1.0)
            share = 1 - np.minimum(inside / radius, 1)
            relief = np.sqrt(np.maximum(1 - share * share, 0)) * radius * puff
            relief = cv2.GaussianBlur(relief, (0, 0), max(radius * 0.08, 1.0))
            if rough:
                relief = relief + self.cloud(slope)[here] * rough * self.scale
            nx = -cv2.Sobel(relief, cv2.CV_32F, 1, 0, scale=1 / 8)
            ny = -cv2.Sobel(relief, cv2.CV_32F, 0, 1, scale=1 / 8)
            size = np.sqrt(nx * nx + ny * ny + 1)
            facing = np.clip((-0.42 * nx - 0.66 * ny + 0.62) / size, 0, 1)
            tone = 0.42 + 0.82 * facing + 0.1 * np.clip(-ny / size, -1, 1)
        if grain is not None:
            tone = tone * (1 + grain[here])
        picture = np.asarray(colour, np.float32)
        if picture.ndim > 1:
            picture = picture[here]
        painted = picture * (tone * np.float32(shade))[..., None]
        if gloss and puff:
            painted = painted + (255 * gloss) * (facing**28)[..., None]
        cover = mask * np.float32(1 / 255)
        target = self.colours[here]
        target += (painted - target) * cover[..., None]
        np.maximum(self.alpha[here], cover, out=self.alpha[here])

    def finish(self, *, ground: float = 0.12) -> Sprite:
        """Return the picture; it grows darker in the lowest ``ground`` metres."""
        height = (self.shape[0] - np.arange(self.shape[0]) - 0.5) / self.scale
        dark = 0.62 + 0.38 * np.clip(height / ground, 0, 1)
        colours = self.colours * dark[:, None, None].astype(np.float32)
        # Colour around the outline, so that smaller copies do not get a dark fringe.
        solid = (self.alpha > 0.5).astype(np.float32)
        weight = cv2.GaussianBlur(solid, (0, 0), 3)
        around = (
            cv2.GaussianBlur(colours * solid[..., None], (0, 0), 3)
            / np.maximum(weight, 1e-3)[..., None]
        )
        colours = np.where(solid[..., None] > 0, colours, around)
        rgba = np.dstack((np.clip(colours, 0, 255), self.alpha * 255)).astype(np.uint8)
        return Sprite(rgba, self.shape[1] / self.scale, self.shape[0] / self.scale)


NDInt = np.ndarray  # positions for OpenCV's drawing functions


def _spline(ring: Points) -> Points:
    """Return a closed Catmull-Rom curve through the points."""
    before, after, next_one = np.roll(ring, 1, 0), np.roll(ring, -1, 0), np.roll(ring, -2, 0)
    t = np.linspace(0, 1, 9)[:-1][:, None, None]
    curve = 0.5 * (
        2 * ring
        + (after - before) * t
        + (2 * before - 5 * ring + 4 * after - next_one) * t**2
        + (3 * ring - before - 3 * after + next_one) * t**3
    )
    return curve.transpose(1, 0, 2).reshape(-1, 2)


# -- animals, seen from the side, looking to the left ---------------------------------------------


def _leg(
    studio: _Studio,
    hip: tuple[float, float],
    knee: float,
    thick: float,
    swing: float,
    back: bool,
    **look: object,
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
        **look,  # type: ignore[arg-type]
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


def _deer(seed: int, step: int) -> Sprite:
    s = _Studio(1.95, 1.85, seed)
    fur: Colour = (164, 112, 66)
    hair = 0.11 * s.strands(-0.5) + 0.05 * s.cloud()
    look = {'colour': fur, 'grain': hair}
    ff, fh, nf, nh = _swings(step, 0.17)
    _leg(s, (-0.33, 0.78), 0.55, 0.085, ff, False, shade=0.62, **look)
    _leg(s, (0.50, 0.82), 0.55, 0.12, fh, True, shade=0.62, **look)
    s.add(s.chain((0.66, 1.04, 0.05), (0.75, 0.93, 0.035)), (226, 214, 196), puff=0.8)
    belly = np.clip((0.86 - _rows(s)) / 0.18, 0, 1)[..., None]
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
    _leg(s, (-0.36, 0.82), 0.53, 0.10, nf, False, **look)
    _leg(s, (0.46, 0.88), 0.52, 0.15, nh, True, **look)
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


def _rows(studio: _Studio) -> Floats:
    """Return the height in metres of every pixel, [h, w]."""
    column = (studio.shape[0] - np.arange(studio.shape[0]) - 0.5) / studio.scale
    return np.broadcast_to(column[:, None], studio.shape).astype(np.float32)


def _cow(seed: int, step: int) -> Sprite:
    s = _Studio(2.6, 1.62, seed)
    brown = seed % 3 == 2
    white, dark = (
        ((232, 228, 220), (34, 30, 30)) if not brown else ((168, 100, 58), (224, 214, 200))
    )
    spots = (cv2.GaussianBlur(s.cloud(1.7), (0, 0), 3) > 0.25)[..., None]
    coat = np.where(spots, np.array(dark, np.float32), np.array(white, np.float32))
    hair = 0.06 * s.strands(-0.9, 7)
    ff, fh, nf, nh = _swings(step, 0.16)
    for hip, swing, back in (((-0.58, 0.72), ff, False), ((0.78, 0.74), fh, True)):
        _leg(s, hip, 0.5, 0.13, swing, back, colour=white, grain=hair, shade=0.6)
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
    _leg(s, (-0.62, 0.78), 0.48, 0.15, nf, False, colour=coat, grain=hair)
    _leg(s, (0.74, 0.86), 0.47, 0.20, nh, True, colour=coat, grain=hair)
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


def _sheep(seed: int, step: int) -> Sprite:
    s = _Studio(1.35, 1.0, seed)
    face: Colour = (38, 34, 32) if seed % 2 else (206, 190, 170)
    ff, fh, nf, nh = _swings(step, 0.08)
    for hip, swing, back in (((-0.26, 0.36), ff, False), ((0.34, 0.36), fh, True)):
        _leg(s, hip, 0.5, 0.06, swing, back, colour=face, shade=0.6)
    for hip, swing, back in (((-0.30, 0.38), nf, False), ((0.30, 0.38), nh, True)):
        _leg(s, hip, 0.5, 0.065, swing, back, colour=face)
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


def _dog(seed: int, step: int) -> Sprite:
    s = _Studio(1.15, 0.85, seed)
    palette: tuple[Colour, ...] = ((196, 150, 92), (44, 38, 36), (150, 98, 58), (214, 204, 190))
    fur = palette[seed % 4]
    hair = 0.12 * s.strands(-0.3, 9)
    look = {'colour': fur, 'grain': hair}
    ff, fh, nf, nh = _swings(step, 0.12)
    _leg(s, (-0.20, 0.40), 0.5, 0.055, ff, False, shade=0.6, **look)
    _leg(s, (0.26, 0.42), 0.52, 0.07, fh, True, shade=0.6, **look)
    s.add(s.chain((0.32, 0.55, 0.04), (0.43, 0.66, 0.032), (0.50, 0.79, 0.02)), fur, grain=hair)
    s.add(s.chain((-0.22, 0.47, 0.125), (0.0, 0.48, 0.105), (0.24, 0.49, 0.11)), fur, grain=hair)
    _leg(s, (-0.22, 0.42), 0.5, 0.065, nf, False, **look)
    _leg(s, (0.24, 0.45), 0.5, 0.09, nh, True, **look)
    s.add(s.chain((-0.26, 0.52, 0.10), (-0.33, 0.65, 0.08)), fur, grain=hair)
    s.add(
        s.chain((-0.35, 0.70, 0.085), (-0.44, 0.66, 0.055), (-0.51, 0.645, 0.04)), fur, grain=hair
    )
    s.add(s.chain((-0.28, 0.74, 0.045), (-0.25, 0.62, 0.03)), fur, shade=0.62)
    s.add(s.chain((-0.545, 0.655, 0.02)), (18, 16, 16), gloss=0.5)
    s.add(s.chain((-0.40, 0.715, 0.013)), (16, 14, 12), puff=0)
    s.add(s.chain((-0.285, 0.61, 0.02), (-0.36, 0.575, 0.02)), (196, 34, 40), puff=0.5)
    return s.finish(ground=0.06)


def _boar(seed: int, step: int) -> Sprite:
    s = _Studio(1.55, 0.98, seed)
    fur: Colour = (88, 70, 56)
    hair = 0.24 * s.strands(-0.6, 13)
    ff, fh, nf, nh = _swings(step, 0.1)
    look = {'colour': fur, 'grain': hair}
    _leg(s, (-0.26, 0.38), 0.5, 0.07, ff, False, shade=0.55, **look)
    _leg(s, (0.42, 0.38), 0.5, 0.08, fh, True, shade=0.55, **look)
    s.add(s.chain((0.58, 0.62, 0.02), (0.68, 0.5, 0.015), (0.66, 0.42, 0.025)), fur)
    s.add(s.chain((-0.22, 0.60, 0.27), (0.08, 0.58, 0.25), (0.40, 0.54, 0.20)), fur, grain=hair)
    for x in np.linspace(-0.42, 0.3, 26):
        y = 0.86 - 0.32 * (x + 0.2) ** 2
        s.add(
            s.chain((x, y - 0.04, 0.012), (x + 0.04, y + s.rng.uniform(0.02, 0.06), 0.004)),
            (58, 46, 38),
            puff=0,
        )
    _leg(s, (-0.30, 0.42), 0.5, 0.085, nf, False, **look)
    _leg(s, (0.38, 0.44), 0.5, 0.11, nh, True, **look)
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


def _ostrich(seed: int, step: int) -> Sprite:
    s = _Studio(1.5, 2.2, seed)
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


# -- things ---------------------------------------------------------------------------------------


def _rock(seed: int, step: int) -> Sprite:
    s = _Studio(1.5, 0.95, seed)
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
        np.array(base[seed % 3], np.float32) * (1 - moss)
        + np.array((92, 108, 54), np.float32) * moss
    )
    s.add(mask, colour, grain=0.07 * s.cloud(0.7), rough=0.03, puff=0.8, slope=1.6)
    return s.finish()


def _log(seed: int, step: int) -> Sprite:
    s = _Studio(2.6, 0.62, seed)
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


def _branch(seed: int, step: int) -> Sprite:
    s = _Studio(2.6, 1.0, seed)
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


def _ball(seed: int, step: int) -> Sprite:
    s = _Studio(0.72, 0.72, seed)
    disc = s.chain((0, 0.36, 0.35))
    rows, columns = np.mgrid[0 : s.shape[0], 0 : s.shape[1]]
    x = (columns / s.scale - 0.36 + 0.12) / 0.36
    y = (0.36 - rows / s.scale - 0.10) / 0.36
    if seed % 2:  # beach ball
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


def _bag(seed: int, step: int) -> Sprite:
    s = _Studio(1.0, 0.9, seed)
    colour: Colour = ((30, 32, 36), (42, 66, 120), (196, 198, 196))[seed % 3]
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


def _tyres(seed: int, step: int) -> Sprite:
    s = _Studio(0.9, 1.0, seed)
    count = 1 + seed % 4
    for index in range(count):
        y, dx = 0.13 + 0.21 * index, s.rng.uniform(-0.04, 0.04)
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
    top = 0.13 + 0.21 * (count - 1) + 0.09
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


def _wheel(seed: int, step: int) -> Sprite:
    s = _Studio(0.9, 0.9, seed)
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


def _statue(seed: int, step: int) -> Sprite:
    s = _Studio(1.3, 2.7, seed)
    stone: Colour = ((198, 192, 178), (104, 130, 112))[seed % 2]
    look = {'grain': 0.05 * s.cloud(0.9), 'rough': 0.006}
    for y0, y1, half in ((0.0, 0.14, 0.52), (0.14, 0.62, 0.40), (0.62, 0.74, 0.48)):
        s.add(
            s.outline(((-half, y0), (-half, y1), (half, y1), (half, y0)), smooth=False),
            (168, 162, 150),
            grain=0.06 * s.cloud(0.9),
            puff=0.2,
        )
    s.add(
        s.chain((0.14, 1.42, 0.11), (0.18, 1.08, 0.085), (0.2, 0.78, 0.06), (0.28, 0.77, 0.05)),
        stone,
        **look,
    )
    s.add(
        s.chain(
            (-0.10, 1.42, 0.12), (-0.13, 1.08, 0.09), (-0.12, 0.78, 0.065), (-0.2, 0.77, 0.05)
        ),
        stone,
        **look,
    )
    s.add(
        s.outline(
            ((-0.26, 1.15), (-0.24, 1.6), (0.0, 1.7), (0.25, 1.6), (0.30, 1.05), (0.05, 1.12))
        ),
        stone,
        **look,
    )
    s.add(s.chain((0.24, 1.96, 0.085), (0.36, 1.66, 0.06), (0.20, 1.46, 0.05)), stone, **look)
    s.add(
        s.outline(
            ((-0.27, 1.98), (-0.22, 1.55), (0.0, 1.42), (0.22, 1.55), (0.27, 1.98), (0.0, 2.07))
        ),
        stone,
        **look,
    )
    s.add(
        s.chain(
            (-0.24, 1.97, 0.08), (-0.42, 2.22, 0.06), (-0.50, 2.50, 0.045), (-0.50, 2.56, 0.05)
        ),
        stone,
        **look,
    )
    s.add(s.chain((0, 2.05, 0.07), (0, 2.12, 0.07)), stone, **look)
    s.add(s.chain((0, 2.26, 0.115), (0, 2.22, 0.10)), stone, **look)
    return s.finish()


def _wheelbarrow(seed: int, step: int) -> Sprite:
    s = _Studio(1.7, 0.95, seed)
    paint: Colour = ((44, 122, 70), (206, 62, 44), (46, 92, 170))[seed % 3]
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
    s.add(s.chain((-0.68, 0.72, 0.02), (0.54, 0.72, 0.02)), tuple(c * 0.8 for c in paint))
    s.add(s.chain((-0.58, 0.21, 0.20)), (30, 30, 32), puff=0.5)
    s.add(s.chain((-0.58, 0.21, 0.12)), (206, 176, 60), puff=0.3)
    s.add(s.chain((-0.58, 0.21, 0.03)), (60, 62, 64))
    return s.finish()


def _duck(seed: int, step: int) -> Sprite:
    s = _Studio(1.7, 1.6, seed)
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


def _umbrella(seed: int, step: int) -> Sprite:
    s = _Studio(1.3, 1.0, seed)
    a, b = (
        ((206, 36, 62), (160, 24, 46)),
        ((40, 120, 180), (236, 234, 226)),
        ((246, 190, 40), (60, 60, 66)),
    )[seed % 3]
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


def _machine(seed: int, step: int) -> Sprite:
    """Return a little helicopter on skids."""
    s = _Studio(3.2, 1.9, seed)
    paint: Colour = ((222, 76, 34), (52, 86, 150), (240, 206, 60))[seed % 3]
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


def _rover(seed: int, step: int) -> Sprite:
    """Return an odd machine on six wheels with a dish and a lamp."""
    s = _Studio(1.5, 1.75, seed)
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


def _boat(seed: int, step: int) -> Sprite:
    s = _Studio(3.0, 0.95, seed)
    paint: Colour = ((196, 48, 42), (46, 104, 150), (238, 236, 228))[seed % 3]
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


# -- solids ---------------------------------------------------------------------------------------


def _box(
    centre: tuple[float, float, float],
    size: tuple[float, float, float],
    colour: Colour,
    decorate: Callable[
        [Callable[[float, float], tuple[float, float, float]], str], list[tuple[Points, Colour]]
    ]
    | None = None,
) -> tuple[Face, ...]:
    """Return a box on its base centre; ``decorate`` gets (position on a face, name of the face)."""
    x, y, z = centre
    w, h, d = size
    corners = {
        'back': ((x - w / 2, y, z - d / 2), (w, 0, 0), (0, h, 0)),
        'front': ((x + w / 2, y, z + d / 2), (-w, 0, 0), (0, h, 0)),
        'left': ((x - w / 2, y, z + d / 2), (0, 0, -d), (0, h, 0)),
        'right': ((x + w / 2, y, z - d / 2), (0, 0, d), (0, h, 0)),
        'top': ((x - w / 2, y + h, z - d / 2), (w, 0, 0), (0, 0, d)),
    }
    faces = []
    for name, (origin, along, up) in corners.items():

        def on(
            u: float,
            v: float,
            origin: tuple[float, float, float] = origin,
            along: tuple[float, float, float] = along,
            up: tuple[float, float, float] = up,
        ) -> tuple[float, float, float]:
            a, b, c = (o + s * u + t * v for o, s, t in zip(origin, along, up, strict=True))
            return a, b, c

        points = np.array((on(0, 0), on(1, 0), on(1, 1), on(0, 1)))
        faces.append(Face(points, colour, tuple(decorate(on, name)) if decorate else ()))
    return tuple(faces)


_On = Callable[[float, float], tuple[float, float, float]]


def _patch(on: _On, u0: float, u1: float, v0: float, v1: float) -> Points:
    return np.array((on(u0, v0), on(u1, v0), on(u1, v1), on(u0, v1)))


def _tone(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _crate(seed: int) -> tuple[tuple[Face, ...], ...]:
    rng = generator(42, seed)
    wood: Colour = (186, 146, 96)
    size = float(rng.uniform(0.8, 1.2))

    def planks(on: _On, name: str) -> list[tuple[Points, Colour]]:
        details = []
        for index in range(5):
            v = 0.04 + index * 0.19
            details.append(
                (_patch(on, 0.03, 0.97, v, v + 0.165), _tone(wood, rng.uniform(0.82, 1.12)))
            )
            for _ in range(3):  # the grain of the wood
                start, line = rng.uniform(0.05, 0.5), v + rng.uniform(0.02, 0.14)
                details.append(
                    (
                        _patch(on, start, start + rng.uniform(0.2, 0.45), line, line + 0.008),
                        _tone(wood, 0.7),
                    )
                )
        for u in (0.0, 0.88):
            details.append((_patch(on, u, u + 0.12, 0, 1), _tone(wood, 1.06)))
        if name != 'top':
            details.append(
                (
                    np.array((on(0.12, 0.04), on(0.22, 0.04), on(0.88, 0.96), on(0.78, 0.96))),
                    _tone(wood, 1.1),
                )
            )
        return details

    return (_box((0, 0, 0), (size, size * rng.uniform(0.7, 1), size), _tone(wood, 0.45), planks),)


def _carton(seed: int) -> tuple[tuple[Face, ...], ...]:
    rng = generator(43, seed)
    brown: Colour = (196, 156, 108)
    w, h, d = (float(v) for v in rng.uniform((0.6, 0.45, 0.5), (1.0, 0.8, 0.8)))

    def print_on(on: _On, name: str) -> list[tuple[Points, Colour]]:
        if name == 'top':
            return [
                (_patch(on, 0, 1, 0.44, 0.56), (222, 196, 150)),
                (_patch(on, 0, 1, 0.495, 0.505), _tone(brown, 0.6)),
            ]
        return [
            (_patch(on, 0.44, 0.56, 0.75, 1), (222, 196, 150)),
            (_patch(on, 0.08, 0.30, 0.1, 0.28), (238, 234, 226)),
            *[(_patch(on, 0.10, 0.27, v, v + 0.02), (60, 56, 52)) for v in (0.13, 0.18, 0.23)],
            (np.array((on(0.78, 0.15), on(0.90, 0.15), on(0.84, 0.36))), (150, 60, 44)),
            (_patch(on, 0, 1, 0, 0.03), _tone(brown, 0.7)),
        ]

    def plain(on: _On, name: str) -> list[tuple[Points, Colour]]:
        return print_on(on, name) if name != 'x' else []

    solids = [_box((0, 0, 0), (w, h, d), brown, plain)]
    if seed % 2:
        solids.append(
            _box((0.05, h, 0.03), (w * 0.75, h * 0.7, d * 0.8), _tone(brown, 0.92), plain)
        )
    return tuple(solids)


def _suitcase(seed: int) -> tuple[tuple[Face, ...], ...]:
    colour: Colour = ((176, 40, 56), (36, 84, 124), (240, 190, 60), (60, 120, 90))[seed % 4]

    def shell(on: _On, name: str) -> list[tuple[Points, Colour]]:
        if name in ('left', 'right'):
            return [(_patch(on, 0.46, 0.54, 0, 1), (40, 40, 42))]
        if name == 'top':
            return [(_patch(on, 0, 1, 0.45, 0.55), (40, 40, 42))]
        ribs = [
            (_patch(on, u, u + 0.03, 0.06, 0.94), _tone(colour, 0.72))
            for u in np.arange(0.1, 0.9, 0.13)
        ]
        lights = [
            (_patch(on, u + 0.03, u + 0.045, 0.06, 0.94), _tone(colour, 1.25))
            for u in np.arange(0.1, 0.9, 0.13)
        ]
        return [*ribs, *lights, (_patch(on, 0.3, 0.7, 0.7, 0.8), (226, 224, 216))]

    feet = [
        _box((x, 0, z), (0.08, 0.08, 0.06), (24, 24, 26)) for x in (-0.2, 0.2) for z in (-0.1, 0.1)
    ]
    case = _box((0, 0.07, 0), (0.52, 0.75, 0.3), colour, shell)
    handle = [_box((x, 0.82, 0.05), (0.03, 0.3, 0.03), (150, 152, 156)) for x in (-0.12, 0.12)]
    return (*feet, case, *handle, _box((0, 1.11, 0.05), (0.29, 0.05, 0.05), (30, 30, 32)))


def _sofa(seed: int) -> tuple[tuple[Face, ...], ...]:
    colour: Colour = ((150, 46, 44), (62, 90, 120), (142, 128, 96), (86, 110, 74))[seed % 4]
    dark, bright = _tone(colour, 0.8), _tone(colour, 1.12)

    def seams(on: _On, name: str) -> list[tuple[Points, Colour]]:
        return [
            (_patch(on, 0.49, 0.51, 0, 1), _tone(colour, 0.5)),
            (_patch(on, 0, 1, 0.9, 1), bright),
        ]

    return (
        _box((0, 0.08, 0.38), (2.0, 0.82, 0.22), dark, seams),  # back rest, away from the camera
        _box((0, 0.08, -0.05), (1.7, 0.36, 0.72), colour, seams),
        _box((-0.93, 0.08, -0.02), (0.24, 0.58, 0.86), dark),
        _box((0.93, 0.08, -0.02), (0.24, 0.58, 0.86), dark),
        _box((-0.42, 0.44, -0.05), (0.8, 0.12, 0.66), bright),
        _box((0.42, 0.44, -0.05), (0.8, 0.12, 0.66), bright),
    )


def _washer(seed: int) -> tuple[tuple[Face, ...], ...]:
    def panel(on: _On, name: str) -> list[tuple[Points, Colour]]:
        if name != 'back':
            return [(_patch(on, 0, 1, 0, 0.05), (150, 152, 154))]
        details = [
            (_patch(on, 0, 1, 0.84, 0.86), (170, 172, 174)),
            (_patch(on, 0.06, 0.36, 0.88, 0.96), (206, 210, 212)),
        ]
        angles = np.linspace(0, 2 * math.pi, 25)[:-1]
        rings: tuple[tuple[float, Colour], ...] = (
            (0.34, (176, 180, 184)),
            (0.29, (60, 64, 70)),
            (0.24, (34, 44, 56)),
            (0.12, (70, 84, 98)),
        )
        for radius, colour in rings:
            shift = 0.06 if radius == 0.12 else 0.0
            ring = [
                on(0.5 - shift + radius * math.cos(a), 0.45 + shift + radius * 0.72 * math.sin(a))
                for a in angles
            ]
            details.append((np.array(ring), colour))
        details.append(
            (
                np.array(
                    [on(0.78 + 0.05 * math.cos(a), 0.92 + 0.036 * math.sin(a)) for a in angles]
                ),
                (120, 124, 128),
            )
        )
        details.append((_patch(on, 0, 1, 0, 0.07), (130, 132, 134)))
        return details

    return (_box((0, 0, 0), (0.62, 0.86, 0.6), (228, 230, 230), panel),)


def _drum(seed: int) -> tuple[tuple[Face, ...], ...]:
    rng = generator(44, seed)
    colour: Colour = ((36, 82, 150), (188, 52, 36), (60, 110, 70), (222, 170, 40), (120, 74, 50))[
        seed % 5
    ]
    radius, height, sides = 0.32, 0.95, 20
    solids = []
    places = ((0.0, 0.0),) if seed % 3 else ((-0.36, 0.12), (0.37, 0.0))
    for index, (dx, dz) in enumerate(places):
        paint = _tone(colour, 1 - 0.15 * index)
        angles = np.linspace(0, 2 * math.pi, sides + 1)
        faces = []
        for a, b in itertools.pairwise(angles):
            xs = dx + radius * np.cos((a, b))
            zs = dz + radius * np.sin((a, b))

            def ring(y0: float, y1: float, xs: Points = xs, zs: Points = zs) -> Points:
                return np.array(
                    (
                        (xs[0], y0, zs[0]),
                        (xs[1], y0, zs[1]),
                        (xs[1], y1, zs[1]),
                        (xs[0], y1, zs[0]),
                    )
                )

            rust = [
                (ring(y, y + 0.05), (122, 72, 44)) for y in rng.uniform(0, 0.9, rng.poisson(0.7))
            ]
            details = [*rust]
            for y in (0.0, 0.31, 0.62, 0.92):
                details.append((ring(y, y + 0.03), _tone(paint, 1.3)))
                details.append((ring(y + 0.03, y + 0.045), _tone(paint, 0.6)))
            faces.append(Face(ring(0, height), paint, tuple(details)))
        top = np.array(
            [(dx + radius * math.cos(a), height, dz + radius * math.sin(a)) for a in angles[:-1]]
        )
        inner = np.array(
            [
                (dx + radius * 0.88 * math.cos(a), height, dz + radius * 0.88 * math.sin(a))
                for a in angles[:-1]
            ]
        )
        faces.append(Face(top, _tone(paint, 1.2), ((inner, _tone(paint, 0.8)),)))
        solids.append(tuple(faces))
    return tuple(solids)


def _blocks(seed: int) -> tuple[tuple[Face, ...], ...]:
    rng = generator(45, seed)

    def stains(on: _On, name: str) -> list[tuple[Points, Colour]]:
        out: list[tuple[Points, Colour]] = []
        for _ in range(14):
            u, v = rng.uniform(0, 0.9, 2)
            tone = float(rng.uniform(120, 190))
            out.append(
                (
                    _patch(on, u, u + rng.uniform(0.02, 0.12), v, v + rng.uniform(0.01, 0.06)),
                    (tone, tone * 0.98, tone * 0.94),
                )
            )
        return out

    return (
        _box((0, 0, 0), (1.5, 0.5, 0.6), (160, 158, 152), stains),
        _box((0.15, 0.5, 0.0), (0.9, 0.45, 0.55), (170, 166, 158), stains),
    )


_PICTURES: dict[str, tuple[Callable[[int, int], Sprite], float]] = {
    'deer': (_deer, 0.55),
    'cow': (_cow, 0.4),
    'sheep': (_sheep, 0.35),
    'dog': (_dog, 0.6),
    'boar': (_boar, 0.5),
    'ostrich': (_ostrich, 0.6),
    'rock': (_rock, 0.0),
    'log': (_log, 0.0),
    'branch': (_branch, 0.0),
    'ball': (_ball, 0.0),
    'bag': (_bag, 0.0),
    'tyres': (_tyres, 0.0),
    'wheel': (_wheel, 0.0),
    'statue': (_statue, 0.0),
    'wheelbarrow': (_wheelbarrow, 0.0),
    'duck': (_duck, 0.0),
    'umbrella': (_umbrella, 0.0),
    'helicopter': (_machine, 0.0),
    'rover': (_rover, 0.0),
    'boat': (_boat, 0.0),
}
_SOLIDS: dict[str, Callable[[int], tuple[tuple[Face, ...], ...]]] = {
    'crate': _crate,
    'carton': _carton,
    'suitcase': _suitcase,
    'sofa': _sofa,
    'washer': _washer,
    'drum': _drum,
    'blocks': _blocks,
}
KINDS = (*_PICTURES, *_SOLIDS)
LOOKS = 4


@cache
def prop(kind: str, look: int) -> Prop:
    """Return an obstacle of one of KINDS; ``look`` in 0..LOOKS-1 varies colour and shape."""
    if kind in _PICTURES:
        paint, pace = _PICTURES[kind]
        pictures = tuple(paint(look, step) for step in range(STEPS if pace else 1))
        first = pictures[0]
        return Prop(kind, pictures, (), first.width, first.height, 0.4 + 0.15 * first.width, pace)
    solids = tuple(Solid(faces) for faces in _SOLIDS[kind](look))
    points = np.concatenate([solid.points for solid in solids])
    width, height, length = points.max(axis=0) - (points[:, 0].min(), 0.0, points[:, 2].min())
    return Prop(kind, (), solids, float(width), float(height), float(length))
