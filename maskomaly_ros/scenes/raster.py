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
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.scenes.classes import IGNORE

if TYPE_CHECKING:  # OpenCV has this module since 4.8
    from cv2.typing import MatLike

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Points = NDArray[np.float64]
Colour = tuple[float, float, float]

_LEVELS = np.repeat(np.arange(256, dtype=np.float32)[:, None], 3, axis=1)
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
            half = ((columns + 1) // 2, (rows + 1) // 2)
            smaller = cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA)
            levels.append(np.asarray(smaller, np.uint8))
        return tuple(levels)

    @cached_property
    def mirrored(self) -> Sprite:
        """The same picture seen in a mirror."""
        return Sprite(
            np.ascontiguousarray(self.rgba[:, ::-1]), self.width, self.height, self.solid
        )

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
    """A flat polygon of a solid and the details painted on top of it.

    The points [N, 3] run counter-clockwise as seen from outside; colours are RGB 0..255.
    """

    points: Points
    colour: Colour
    details: tuple[tuple[Points, Colour], ...] = ()


@dataclass(frozen=True)
class Pose:
    """Where a solid stands: (x, z) of its origin, its heading to the right of Z, and its scale."""

    x: float
    z: float
    heading: float
    scale: float = 1.0

    @cached_property
    def turn(self) -> Points:
        """Matrix that row vectors are multiplied with."""
        sin, cos = math.sin(self.heading), math.cos(self.heading)
        return np.array(((cos, 0, -sin), (0, 1, 0), (sin, 0, cos)))

    def place(self, points: Points) -> Points:
        """Return points [N, 3] of the solid in the world."""
        return points @ (self.turn * self.scale) + (self.x, 0.0, self.z)


class Solid:
    """A closed body of faces, kept so that all its points are projected at once."""

    def __init__(self, faces: Sequence[Face]) -> None:
        polygons = [item for face in faces for item in ((face.points, face.colour), *face.details)]
        self.points: Points = np.concatenate([points for points, _ in polygons])
        ends = np.cumsum([len(points) for points, _ in polygons])
        self.slices = [
            slice(end - len(points), end) for end, (points, _) in zip(ends, polygons, strict=True)
        ]
        self.colours = np.array([colour for _, colour in polygons], float)
        counts = np.array([1 + len(face.details) for face in faces])
        self.first = np.cumsum(counts) - counts  # polygon that is the face itself
        self.counts = counts
        self.middles = np.array([face.points.mean(axis=0) for face in faces])
        # In these left-handed axes the product of two edges points inwards.
        inward = np.array(
            [np.cross(f.points[1] - f.points[0], f.points[2] - f.points[1]) for f in faces]
        )
        self.normals = -inward / np.linalg.norm(inward, axis=1, keepdims=True)


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
        patch: MatLike,
        distance: float,
        label: int,
        *,
        tint: Floats | float = 1.0,
        opacity: float = 1.0,
        shape: Bytes | None = None,
    ) -> None:
        """Lay an RGBA patch over the frame, its top left at (left, top), all of it inside.

        ``label`` IGNORE marks an obstacle: it also enters the anomaly map. ``shape`` (non-zero
        where the label goes) replaces the patch's alpha for the labels.
        """
        rgba = np.asarray(patch, np.uint8)
        rows, columns = rgba.shape[:2]
        window = (slice(top, top + rows), slice(left, left + columns))
        haze = self.haze(distance)
        table = _LEVELS * (np.asarray(tint, np.float32) * np.float32(1 - haze))
        table += np.array(self.light.haze, np.float32) * np.float32(haze)
        colours = cv2.LUT(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), table[:, None])
        alpha = rgba[..., 3] * np.float32(opacity / 255)
        target = self.image[window]
        target[:] = cv2.blendLinear(colours, target, alpha, 1 - alpha)
        inside = alpha > 0.5 if shape is None else shape > 0
        self.labels[window][inside] = label
        if label == IGNORE:
            anomaly = self.anomaly[window]
            anomaly[(alpha > 0.1) & (anomaly == 0)] = IGNORE
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
        left, right, top, bottom = (
            max(left, 0),
            min(right, width),
            max(top, 0),
            min(bottom, height),
        )
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
        patch = cv2.warpAffine(
            source, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR
        )
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
        # Cut upright, where the nearer of bottom and top crosses the near plane: with a camera
        # that looks down the tops of tall things are behind it before their feet are.
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
            [
                [first * columns, rows],
                [last * columns, rows],
                [last * columns, 0],
                [first * columns, 0],
            ]
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
            int(left),
            int(top),
            patch,
            float(view[0, 2] + view[1, 2]) / 2,
            label,
            tint=tint,
            shape=shape,
        )

    def polygon(self, points: Points, colour: tuple[float, ...], label: int) -> None:
        """Fill a convex polygon [N, 3] with one colour; left out where it is too near."""
        view = self.camera.view(points)
        if view[:, 2].min() < 1:
            return
        pixels = self.camera.pixels(view)
        height, width = self.camera.size
        left, top = np.maximum(np.floor(pixels.min(axis=0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(pixels.max(axis=0)), (width, height)).astype(int)
        if right <= left or bottom <= top:
            return
        patch = np.zeros((bottom - top, right - left, 4), np.uint8)
        outline = np.round((pixels - (left + 0.5, top + 0.5)) * 16).astype(np.int32)
        cv2.fillConvexPoly(patch, outline, (*colour, 255), cv2.LINE_8, 4)
        self.blend(int(left), int(top), patch, float(view[:, 2].mean()), label)

    def solid(
        self, solid: Solid, pose: Pose, label: int, *, opacity: float = 1.0, details: bool = True
    ) -> None:
        """Paint a solid; without ``details`` only its faces."""
        camera = self.camera
        normals = solid.normals @ pose.turn
        middles = pose.place(solid.middles)
        towards = (camera.x, camera.height, camera.z) - middles
        visible = np.flatnonzero((normals * towards).sum(axis=1) > 0)
        view = camera.view(pose.place(solid.points))
        if not len(visible) or view[:, 2].max() < _NEAR:
            return
        distance = np.hypot(towards[:, 0], towards[:, 2]) + 0.001 * np.abs(towards[:, 1])
        order = visible[np.argsort(-distance[visible], kind='stable')]
        shades = {face: self.light.on(normals[face].tolist()) for face in order.tolist()}
        cut = view[:, 2].min() < _NEAR
        pixels = camera.pixels(view) if not cut else np.empty((0, 2))
        painted: list[tuple[Points, list[float]]] = []
        for face in order.tolist():
            first = int(solid.first[face])
            for index in range(first, first + (int(solid.counts[face]) if details else 1)):
                if cut:
                    clipped = _clip_near(view[solid.slices[index]])
                    if len(clipped) < 3:
                        continue
                    outline = camera.pixels(clipped)
                else:
                    outline = pixels[solid.slices[index]]
                shade = np.minimum(solid.colours[index] * shades[face], 255)
                painted.append((outline, shade.tolist()))
        if not painted:
            return
        faces = np.concatenate([outline for outline, _ in painted]) if cut else pixels
        height, width = camera.size
        low = np.maximum(np.floor(faces.min(axis=0)), 0).astype(int)
        high = np.minimum(np.ceil(faces.max(axis=0)), (width, height)).astype(int)
        if (high <= low).any():
            return
        extent = high - low
        finer = int(np.clip(160 // max(extent), 2, 4))
        canvas = np.zeros((extent[1] * finer, extent[0] * finer, 4), np.uint8)
        for outline, colour in painted:
            corners = np.clip(((outline - low) * finer - 0.5) * 8, -200000, 200000)
            cv2.fillPoly(
                canvas, [np.rint(corners).astype(np.int32)], (*colour, 255), cv2.LINE_8, 3
            )
        small = cv2.resize(canvas, (int(extent[0]), int(extent[1])), interpolation=cv2.INTER_AREA)
        # Colours were averaged with the black outside; undo it where the edge is partly covered.
        edge = (small[..., 3] > 0) & (small[..., 3] < 255)
        small[edge, :3] = np.minimum(
            small[edge, :3] * (255.0 / small[edge, 3:].astype(np.float32)), 255
        )
        depth = float(view[:, 2].min())
        self.blend(int(low[0]), int(low[1]), small, depth, label, opacity=opacity)


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
