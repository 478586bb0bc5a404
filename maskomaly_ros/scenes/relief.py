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

"""Pictures of round things: outlines that are inflated into a relief and lit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.scenes.raster import Bytes, Colour, Floats, Points, Sprite, generator
from maskomaly_ros.scenes.textures import fractal


class Studio:
    """Paints one picture out of parts, back to front; X from the middle, Y up, in metres."""

    def __init__(self, width: float, height: float, seed: int) -> None:
        self.width, self.height = width, height
        self.scale = 300 / max(width, height)
        self.shape = (math.ceil(height * self.scale), math.ceil(width * self.scale))
        self.colours: Floats = np.zeros((*self.shape, 3), np.float32)
        self.alpha: Floats = np.zeros(self.shape, np.float32)
        self.rng = generator(41, seed)

    def place(self, points: Sequence[Sequence[float]] | Points) -> NDArray[np.int32]:
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
        return np.asarray(noise / noise.std(), np.float32)

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
    return np.asarray(curve.transpose(1, 0, 2).reshape(-1, 2), float)
