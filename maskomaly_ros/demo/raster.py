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

"""A camera over a flat world, and the painting of textured things into its frame.

World axes are metres: X to the right, Y up, Z forward; the ground is the plane Y = 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Points = NDArray[np.float64]
Colour = tuple[float, float, float]

IGNORE = 255
_NEAR = 0.35  # metres in front of the camera where everything is cut off


def generator(*keys: int) -> np.random.Generator:
    """Return a random generator that depends on all of ``keys`` (any integers)."""
    return np.random.default_rng([key & 0xFFFFFFFF for key in keys])


@dataclass(frozen=True)
class Camera:
    """Pinhole camera at (x, height, z), turned by ``yaw`` to the right and ``pitch`` downwards.

    Angles are radians, ``focal`` is pixels, ``size`` is (height, width) in pixels.
    """

    size: tuple[int, int]
    focal: float
    x: float
    z: float
    height: float
    yaw: float
    pitch: float

    @property
    def horizon(self) -> float:
        """Row of the horizon."""
        return self.size[0] / 2 - self.focal * math.tan(self.pitch)

    def view(self, points: Points) -> Points:
        """Return world points [N, 3] in camera axes: right, up, depth."""
        x = points[:, 0] - self.x
        y = points[:, 1] - self.height
        z = points[:, 2] - self.z
        sin, cos = math.sin(self.yaw), math.cos(self.yaw)
        forward = x * sin + z * cos
        out = np.empty((len(points), 3))
        out[:, 0] = x * cos - z * sin
        sin, cos = math.sin(self.pitch), math.cos(self.pitch)
        out[:, 1] = y * cos + forward * sin
        out[:, 2] = forward * cos - y * sin
        return out

    def pixels(self, view: Points) -> Points:
        """Return the pixel positions [N, 2] (column, row) of points in camera axes."""
        scale = self.focal / view[:, 2]
        out = np.empty((len(view), 2))
        out[:, 0] = self.size[1] / 2 + view[:, 0] * scale
        out[:, 1] = self.size[0] / 2 - view[:, 1] * scale
        return out

    def spot(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """Return (column, row, depth) of one world point; the pixel is void where depth <= 0."""
        x, y, z = x - self.x, y - self.height, z - self.z
        sin, cos = math.sin(self.yaw), math.cos(self.yaw)
        x, z = x * cos - z * sin, x * sin + z * cos
        sin, cos = math.sin(self.pitch), math.cos(self.pitch)
        y, z = y * cos + z * sin, z * cos - y * sin
        scale = self.focal / z if z > 0 else 0.0
        return self.size[1] / 2 + x * scale, self.size[0] / 2 - y * scale, z

    def ground(self, first_row: int) -> tuple[Floats, Floats, Floats]:
        """Return X and Z [rows, W] of the ground under each pixel from ``first_row`` down.

        The third value is the distance along the viewing axis [rows, 1].
        """
        height, width = self.size
        across = ((np.arange(width) + 0.5 - width / 2) / self.focal)[None]
        up = ((height / 2 - np.arange(first_row, height) - 0.5) / self.focal)[:, None]
        sin, cos = math.sin(self.pitch), math.cos(self.pitch)
        distance = self.height / np.maximum(sin - up * cos, 1e-4)
        forward = distance * (up * sin + cos)
        sin, cos = math.sin(self.yaw), math.cos(self.yaw)
        right = (distance * across).astype(np.float32)
        forward = forward.astype(np.float32)
        x = right * np.float32(cos) + forward * np.float32(sin) + np.float32(self.x)
        z = forward * np.float32(cos) - right * np.float32(sin) + np.float32(self.z)
        return x, z, distance.astype(np.float32)


@dataclass(frozen=True)
class Sprite:
    """A flat picture that stands upright in the world.

    Attributes:
        rgba: uint8 [h, w, 4], colours not multiplied by alpha.
        width, height: metres.
        solid: the whole rectangle carries the label (fences that one can see through).
    """

    rgba: Bytes
    width: float
    height: float
    solid: bool = False

    @cached_property
    def levels(self) -> tuple[Bytes, ...]:
        """The picture at full size, half, a quarter, and so on down to a few pixels."""
        levels = [self.rgba]
        while min(levels[-1].shape[:2]) > 4:
            rows, columns = levels[-1].shape[:2]
            levels.append(
                cv2.resize(
                    levels[-1], ((columns + 1) // 2, (rows + 1) // 2), interpolation=cv2.INTER_AREA
                )
            )
        return tuple(levels)

    @cached_property
    def mirrored(self) -> Sprite:
        """The same picture seen in a mirror."""
        return Sprite(np.ascontiguousarray(self.rgba[:, ::-1]), self.width, self.height, self.solid)

    def level(self, ratio: float) -> Bytes:
        """Return the level to sample where ``ratio`` picture pixels fall on one frame pixel."""
        index = round(math.log2(max(ratio, 1.0)))
        return self.levels[min(index, len(self.levels) - 1)]


@dataclass(frozen=True)
class Light:
    """Illumination of a scene; colours are factors (1 = neutral) or RGB 0..255 for haze.

    Attributes:
        ambient, sun: colour factors of the sky's and of the sun's light.
        direction: unit vector towards the sun; its Y is the sine of the elevation.
        haze, haze_distance: colour of the air, and metres after which it covers 63 %.
        shadow: 0 (overcast) to 1 (clear), depth of cast shadows.
    """

    ambient: Colour
    sun: Colour
    direction: tuple[float, float, float]
    haze: Colour
    haze_distance: float
    shadow: float

    def on(self, normal: Sequence[float]) -> Floats:
        """Return the colour factor of a surface with the unit ``normal``."""
        facing = max(0.0, sum(a * b for a, b in zip(normal, self.direction, strict=True)))
        sky = 0.75 + 0.25 * normal[1]
        return (np.array(self.ambient) * sky + np.array(self.sun) * facing).astype(np.float32)

    @property
    def upright(self) -> Floats:
        """Colour factor of things without one clear normal: leaves, people."""
        return (np.array(self.ambient) * 0.9 + np.array(self.sun) * 0.55).astype(np.float32)


@dataclass(frozen=True)
class Face:
    """A flat polygon of a solid: points [N, 3], RGB 0..255, and details painted on top of it."""

    points: Points
    colour: Colour
    details: tuple[tuple[Points, Colour], ...] = ()
    gloss: float = 0.0


class Picture:
    """A frame in the making: colours, semantic labels and anomaly map, painted far to near."""

    def __init__(self, camera: Camera, light: Light) -> None:
        self.camera = camera
        self.light = light
        self.image: Floats = np.zeros((*camera.size, 3), np.float32)
        self.labels: Bytes = np.full(camera.size, IGNORE, np.uint8)
        self.anomaly: Bytes = np.zeros(camera.size, np.uint8)

    def haze(self, distance: float) -> float:
        """Return how much of a thing at ``distance`` metres the air hides, 0 to 1."""
        return 1 - math.exp(-max(distance, 0.0) / self.light.haze_distance)

    def blend(
        self,
        left: int,
        top: int,
        rgba: Bytes,
        distance: float,
        label: int,
        *,
        tint: Floats | float = 1.0,
        opacity: float = 1.0,
        shape: Bytes | None = None,
    ) -> None:
        """Lay a patch over the frame, its top left at (left, top), all of it inside the frame.

        ``label`` IGNORE marks an obstacle: it also enters the anomaly map. ``shape`` (non-zero
        where the label goes) replaces the patch's alpha for the labels.
        """
        rows, columns = rgba.shape[:2]
        window = (slice(top, top + rows), slice(left, left + columns))
        alpha = rgba[..., 3:].astype(np.float32)
        alpha *= opacity / 255
        haze = self.haze(distance)
        colours = rgba[..., :3] * (np.float32(1 - haze) * np.asarray(tint, np.float32))
        colours += np.array(self.light.haze, np.float32) * np.float32(haze)
        target = self.image[window]
        colours -= target
        colours *= alpha
        target += colours
        inside = alpha[..., 0] > 0.5 if shape is None else shape > 0
        self.labels[window][inside] = label
        if label == IGNORE:
            anomaly = self.anomaly[window]
            anomaly[(alpha[..., 0] > 0.1) & (anomaly == 0)] = IGNORE
            anomaly[inside] = 1
        else:
            self.anomaly[window][inside] = 0

    def stand(
        self,
        sprite: Sprite,
        x: float,
        z: float,
        label: int,
        *,
        scale: float = 1.0,
        base: float = 0.0,
        tint: Floats | float = 1.0,
        opacity: float = 1.0,
    ) -> None:
        """Stand a sprite upright at (x, base, z), facing the camera."""
        column, row, depth = self.camera.spot(x, base, z)
        if depth < 1.0:
            return
        pixels = self.camera.focal / depth * scale
        wide, tall = sprite.width * pixels, sprite.height * pixels
        height, width = self.camera.size
        left, right = math.floor(column - wide / 2), math.ceil(column + wide / 2)
        top, bottom = math.floor(row - tall), math.ceil(row)
        left, right, top, bottom = max(left, 0), min(right, width), max(top, 0), min(bottom, height)
        if right <= left or bottom <= top or tall < 1.5:
            return
        source = sprite.level(sprite.rgba.shape[0] / tall)
        across, down = wide / source.shape[1], tall / source.shape[0]
        matrix = np.array(
            [
                [across, 0, column - wide / 2 - left + across / 2 - 0.5],
                [0, down, row - tall - top + down / 2 - 0.5],
            ]
        )
        patch = cv2.warpAffine(source, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
        shape = np.ones(patch.shape[:2], np.uint8) if sprite.solid else None
        self.blend(left, top, patch, depth, label, tint=tint, opacity=opacity, shape=shape)

    def panel(
        self,
        sprite: Sprite,
        corners: Points,
        label: int,
        *,
        tint: Floats | float = 1.0,
        span: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        """Fill a vertical rectangle with a sprite.

        ``corners`` [4, 3]: bottom left, bottom right, top right, top left of the picture; ``span``
        is the part of the picture, from its left, that the rectangle shows.
        """
        view = self.camera.view(corners)
        first, last = span
        # Cut upright, where the nearer of bottom and top crosses the near plane: with a camera that
        # looks down the tops of tall things are behind it before their feet are.
        start, end = float(view[[0, 3], 2].min()), float(view[[1, 2], 2].min())
        if max(start, end) <= _NEAR * 1.5:
            return
        if start < _NEAR or end < _NEAR:
            share = (_NEAR - start) / (end - start)
            for a in (0, 3) if start < end else (1, 2):
                b = {0: 1, 3: 2, 1: 0, 2: 3}[a]
                view[a] += (view[b] - view[a]) * (share if start < end else 1 - share)
            if start < end:
                first += (last - first) * share
            else:
                last = first + (last - first) * share
        pixels = self.camera.pixels(view)
        height, width = self.camera.size
        left, top = np.maximum(np.floor(pixels.min(axis=0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(pixels.max(axis=0)), (width, height)).astype(int)
        if right <= left or bottom <= top:
            return
        tall = max(abs(pixels[3, 1] - pixels[0, 1]), abs(pixels[2, 1] - pixels[1, 1]), 1.0)
        source = sprite.level(sprite.rgba.shape[0] / tall)
        rows, columns = source.shape[:2]
        known = np.array(
            [[first * columns, rows], [last * columns, rows], [last * columns, 0], [first * columns, 0]]
        )
        matrix = cv2.getPerspectiveTransform(
            (known - 0.5).astype(np.float32), (pixels - (left + 0.5, top + 0.5)).astype(np.float32)
        )
        patch = cv2.warpPerspective(
            source,
            matrix,
            (int(right - left), int(bottom - top)),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        shape = np.zeros(patch.shape[:2], np.uint8)
        outline = np.round((pixels - (left + 0.5, top + 0.5)) * 16).astype(np.int32)
        cv2.fillConvexPoly(shape, outline, 255, cv2.LINE_AA, 4)
        patch[..., 3] = cv2.multiply(patch[..., 3], shape, scale=1 / 255)
        if not sprite.solid:
            shape = (patch[..., 3] > 127).astype(np.uint8)
        else:
            shape = (shape > 127).astype(np.uint8)
        self.blend(
            int(left), int(top), patch, float(view[:2, 2].mean()), label, tint=tint, shape=shape
        )

    def solid(self, faces: Sequence[Face], label: int, *, opacity: float = 1.0) -> None:
        """Paint a closed solid of outward-facing polygons (counter-clockwise from outside)."""
        painted: list[tuple[float, Points, Colour]] = []
        order = 0.0
        visible = []
        for face in faces:
            view = self.camera.view(face.points)
            normal = _cross(view[1] - view[0], view[2] - view[1])
            if normal @ view[0] <= 0:  # left-handed camera axes: positive looks at the camera
                continue
            visible.append((float(view[:, 2].mean()), face, view))
        for _, face, view in sorted(visible, key=lambda item: -item[0]):
            world = _cross(face.points[1] - face.points[0], face.points[2] - face.points[1])
            factor = self.light.on((world * (-1 / max(math.sqrt(world @ world), 1e-9))).tolist())
            for points, colour in ((face.points, face.colour), *face.details):
                clipped = _clip_near(view if points is face.points else self.camera.view(points))
                if len(clipped) > 2:
                    shade = np.minimum(np.array(colour) * factor, 255)
                    painted.append((order, self.camera.pixels(clipped), tuple(shade)))
        if not painted:
            return
        everything = np.concatenate([pixels for _, pixels, _ in painted])
        height, width = self.camera.size
        low = np.maximum(np.floor(everything.min(axis=0)), 0).astype(int)
        high = np.minimum(np.ceil(everything.max(axis=0)), (width, height)).astype(int)
        if (high <= low).any():
            return
        extent = high - low
        factor_up = int(np.clip(160 // max(extent), 2, 4))
        canvas = np.zeros((extent[1] * factor_up, extent[0] * factor_up, 4), np.uint8)
        for _, pixels, shade in painted:
            outline = np.round(((pixels - low) * factor_up - 0.5) * 8)
            outline = np.clip(outline, -200000, 200000).astype(np.int32)
            cv2.fillPoly(canvas, [outline], (*shade, 255), cv2.LINE_8, 3)
        small = cv2.resize(canvas, (int(extent[0]), int(extent[1])), interpolation=cv2.INTER_AREA)
        # Colours were averaged with the black outside; undo it where the edge is partly covered.
        edge = (small[..., 3] > 0) & (small[..., 3] < 255)
        small[edge, :3] = np.minimum(
            small[edge, :3] * (255.0 / small[edge, 3:].astype(np.float32)), 255
        )
        depth = min(item[0] for item in visible)
        self.blend(int(low[0]), int(low[1]), small, depth, label, opacity=opacity)


def _cross(a: Points, b: Points) -> Points:
    """Return the cross product of two vectors (numpy's own is slow for single ones)."""
    ax, ay, az = a.tolist()
    bx, by, bz = b.tolist()
    return np.array((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx))


def _clip_near(view: Points) -> Points:
    """Cut the part of a polygon in camera axes that is nearer than the near plane."""
    depth = view[:, 2]
    if depth.min() >= _NEAR:
        return view
    kept = []
    for index in range(len(view)):
        a, b = view[index - 1], view[index]
        if (a[2] < _NEAR) != (b[2] < _NEAR):
            kept.append(a + (b - a) * ((_NEAR - a[2]) / (b[2] - a[2])))
        if b[2] >= _NEAR:
            kept.append(b)
    return np.array(kept).reshape(-1, 3)
