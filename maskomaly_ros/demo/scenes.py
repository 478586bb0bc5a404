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

"""Generated road scenes with ground truth, for the demonstration, for tests and for training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import cv2
import numpy as np

from maskomaly_ros.demo import sprites, textures
from maskomaly_ros.demo.obstacles_art import KINDS, LOOKS, STEPS, Prop, prop
from maskomaly_ros.demo.raster import (
    IGNORE,
    Bytes,
    Camera,
    Colour,
    Floats,
    Light,
    Picture,
    Points,
    Pose,
    Sprite,
    generator,
)
from maskomaly_ros.demo.vehicles import VEHICLES, vehicle
from maskomaly_ros.errors import MaskomalyError

DRIVABLE, NON_DRIVABLE, LIVING, VEHICLE, ROADSIDE, FAR, SKY = range(7)

_CELL = 12.0  # metres of road that are furnished together
_SIGHT = 12  # cells ahead that are drawn
_REVEAL = 46.0  # metres from which obstacles are seen
_LOOP = 200.0  # metres after which the traffic repeats


@dataclass(frozen=True)
class SceneFrame:
    """One rendered frame.

    Attributes:
        image: RGB uint8 [H, W, 3].
        labels: uint8 [H, W]; 0 drivable, 1 non-drivable, 2 living things, 3 vehicles, 4 roadside
            objects, 5 far objects, 6 sky, 255 obstacle or undecided.
        anomaly: uint8 [H, W]; 0 not an obstacle, 1 obstacle, 255 its blurred border.
        stamp: seconds since the start of the scene.
    """

    image: Bytes
    labels: Bytes
    anomaly: Bytes
    stamp: float


@dataclass(frozen=True)
class _Style:
    """What a scene is made of; lengths in metres, colours RGB 0..255."""

    surroundings: str
    lanes: int
    lane: float
    drive_left: bool
    kerb: float
    pavement: tuple[float, float]
    verge_dark: Colour
    verge_light: Colour
    verge_patch: Colour
    road: Colour
    paving: Colour
    markings: str
    marking_wear: float
    bends: tuple[tuple[float, float, float], ...]
    parked: float
    shoulder: float

    @property
    def lanes_half(self) -> float:
        """Half the width of all lanes together."""
        return self.lanes * self.lane / 2

    @property
    def half(self) -> float:
        """Half the width of the road with its shoulders, where vehicles park."""
        return self.lanes_half + self.shoulder

    def lane_middle(self, lane: int) -> float:
        return -self.lanes_half + (lane + 0.5) * self.lane

    def edge(self, side: int) -> float:
        """Return the distance from the middle of the road to the outer edge of the pavement."""
        return self.half + self.kerb + self.pavement[side > 0]


@dataclass(frozen=True)
class _Optics:
    """Camera mounting and film; angles in radians."""

    view_angle: float
    height: float
    pitch: float
    offset: float
    speed: float
    exposure: float
    contrast: float
    saturation: float
    balance: Colour
    noise: float
    blur: float
    quality: int
    vignette: float


@dataclass(frozen=True)
class _Hazard:
    """An obstacle on the road, and how far the camera swerves (metres to the right) to pass it."""

    prop: Prop
    u: float
    z: float
    scale: float
    heading: float
    mirrored: bool
    swerve: float


@dataclass(frozen=True)
class _Thing:
    """Something in the world: how far along the road it is, and how to paint it."""

    z: float
    paint: Callable[[Picture], None]
    shade: Callable[[_Shadows], None] | None = None


_ANGLES = np.linspace(0, 2 * math.pi, 13)[:-1]
_RINGS = np.concatenate(
    [
        np.stack((np.cos(_ANGLES), np.zeros(12), np.sin(_ANGLES)), axis=1) * grow
        for grow in (1.25, 1.0, 0.7)
    ]
)


class _Shadows:
    """Cast and contact shadows on the ground, at half the frame's resolution."""

    def __init__(self, camera: Camera, light: Light) -> None:
        self.camera = camera
        self.light = light
        rows, columns = camera.size
        self.shape = ((rows + 1) // 2, (columns + 1) // 2)
        self.cast: Bytes = np.zeros(self.shape, np.uint8)
        self.contact: Bytes = np.zeros(self.shape, np.uint8)

    def _project(self, points: Points) -> Points | None:
        view = self.camera.view(points)
        view[:, 2] = np.maximum(view[:, 2], 0.7)
        pixels = self.camera.pixels(view) / 2
        if pixels[:, 0].max() < 0 or pixels[:, 0].min() > self.shape[1]:
            return None
        return np.clip(pixels, -4000, 4000)

    def _fill(self, target: Bytes, points: Points, strength: int) -> None:
        pixels = self._project(points)
        if pixels is not None:
            hull = cv2.convexHull(np.round(pixels * 8).astype(np.int32))
            cv2.fillConvexPoly(target, hull, strength, cv2.LINE_AA, 3)

    def touch(self, x: float, z: float, half_width: float, half_length: float) -> None:
        """Darken the ground under something that stands at (x, z)."""
        if not 1 < z - self.camera.z < 35:
            return
        pixels = self._project(_RINGS * (half_width, 0, half_length) + (x, 0, z))
        if pixels is not None:
            outlines = np.round(pixels * 8).astype(np.int32).reshape(3, -1, 2)
            for outline, strength in zip(outlines, (70, 130, 190), strict=True):
                cv2.fillConvexPoly(self.contact, outline, strength, cv2.LINE_AA, 3)

    def footprint(self, corners: Points, pose: Pose) -> None:
        """Darken the ground under a solid; ``corners`` [4, 3] around its middle."""
        for grow, strength in ((0.22, 90), (0.09, 170), (-0.04, 235)):
            self._fill(self.contact, pose.place(corners + np.sign(corners) * grow), strength)

    def box(self, footprint: Points, height: float) -> None:
        """Let a box throw its shadow; ``footprint`` [4, 3] on the ground."""
        if self.light.shadow <= 0:
            return
        sx, sy, sz = self.light.direction
        away = np.array((-sx / sy * height, 0, -sz / sy * height))
        self._fill(self.cast, np.concatenate((footprint, footprint + away)), 255)

    def flat(self, sprite: Sprite, x: float, z: float, scale: float = 1.0) -> None:
        """Let an upright picture throw its shadow."""
        if self.light.shadow <= 0 or z - self.camera.z > 55:
            return
        sx, sy, sz = self.light.direction
        height, half = sprite.height * scale, sprite.width * scale / 2
        across = np.array((sz, 0.0, -sx)) / max(math.hypot(sx, sz), 1e-6) * half
        foot = np.array((x, 0.0, z))
        tip = foot + np.array((-sx, 0, -sz)) / sy * height
        corners = np.array((foot - across, foot + across, tip + across, tip - across))
        view = self.camera.view(corners)
        if view[:, 2].min() < 0.7:
            return
        pixels = self.camera.pixels(view) / 2
        rows, columns = self.shape
        left, top = np.maximum(np.floor(pixels.min(axis=0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(pixels.max(axis=0)), (columns, rows)).astype(int)
        if right <= left or bottom <= top:
            return
        source = sprite.levels[min(2, len(sprite.levels) - 1)]
        h, w = source.shape[:2]
        known = np.array(((0, h), (w, h), (w, 0), (0, 0)), np.float32)
        matrix = cv2.getPerspectiveTransform(known, (pixels - (left, top)).astype(np.float32))
        patch = cv2.warpPerspective(
            np.ascontiguousarray(source[..., 3]), matrix, (int(right - left), int(bottom - top))
        )
        window = self.cast[top:bottom, left:right]
        np.maximum(window, patch, out=window)


class Scene:
    """A stretch of road with everything along it.

    The same ``seed`` and ``size`` give the same frames, bit for bit; any integer is a seed.

    Args:
        seed: which scene.
        size: (height, width) of the frames in pixels, each 16 to 4096.
        obstacles: put things on the road that no class describes.

    Raises:
        MaskomalyError: the size is out of range.
    """

    def __init__(
        self, seed: int, size: tuple[int, int] = (360, 640), *, obstacles: bool = True
    ) -> None:
        height, width = size
        if not (16 <= height <= 4096 and 16 <= width <= 4096):
            raise MaskomalyError(
                f'scene size {height}×{width} is out of range: give 16 to 4096 pixels a side'
            )
        self.seed = seed
        self.size = (int(height), int(width))
        self.obstacles = obstacles
        rng = generator(seed, 1)
        self._style = _random_style(rng)
        self._light, self._weather = _random_light(rng)
        self._optics = _random_optics(rng)
        self._surfaces = tuple(int(variant) for variant in rng.integers(0, textures.VARIANTS, 3))
        self._traffic = self._random_traffic(rng)
        self._phases = rng.uniform(0, 2 * math.pi, 4)
        self._spacing = 5.2 * self._optics.speed
        self._scattered = False  # obstacles anywhere on the road, the camera does not avoid them
        self._order = generator(seed, 8).permutation(len(KINDS))
        self._hazard = lru_cache(maxsize=64)(self._random_hazard)
        self._cell = lru_cache(maxsize=64)(self._furnish)

    # -- the course of the road ------------------------------------------------------------------

    def _middle(self, z: Floats | float) -> Floats:
        """Return X of the middle of the road at ``z``."""
        total = np.zeros_like(np.asarray(z, np.float32))
        for height, length, phase in self._style.bends:
            total += np.float32(height) * np.sin(np.asarray(z, np.float32) / length + phase)
        return total

    def _heading(self, z: float) -> float:
        """Return the direction of the road at ``z``, radians to the right of the Z axis."""
        slope = sum(h / length * math.cos(z / length + p) for h, length, p in self._style.bends)
        return math.atan(slope)

    def _at(self, u: float, z: float) -> tuple[float, float]:
        """Return the ground position (X, Z) ``u`` metres to the right of the road's middle."""
        return float(self._middle(z)) + u, z

    def _camera(self, time: float) -> Camera:
        optics = self._optics
        z = optics.speed * time
        bounce = 0.0025 * math.sin(7.1 * time + self._phases[0]) + 0.0015 * math.sin(
            11.3 * time + self._phases[1]
        )
        sway = 0.12 * math.sin(0.6 * time + self._phases[2])
        swerve, turn = self._swerve(z), self._swerve(z + 1) - self._swerve(z - 1)
        x, _ = self._at(self._ego_lane() + optics.offset + sway + swerve, z)
        focal = self.size[1] / 2 / math.tan(optics.view_angle / 2)
        return Camera(
            self.size, focal, x, z, optics.height, self._heading(z + 6) + 0.25 * turn,
            optics.pitch + bounce,
        )  # fmt: skip

    def _swerve(self, z: float) -> float:
        """Return how far to the right of its lane the camera drives at ``z``, metres."""
        return sum(
            hazard.swerve * math.exp(-(((z - hazard.z) / 13) ** 2)) for hazard in self._hazards(z, 40)
        )

    def _ego_lane(self) -> float:
        style = self._style
        outer = -1 if style.drive_left else 1
        if style.lanes == 1:
            return 0.0
        return outer * (style.lanes_half - style.lane * (0.5 if style.lanes < 4 else 1.5))

    # -- rendering -------------------------------------------------------------------------------

    def render(self, time_seconds: float) -> SceneFrame:
        """Return the frame at ``time_seconds`` (0 or later) after the start."""
        camera = self._camera(time_seconds)
        picture = Picture(camera, self._light)
        things = self._things(camera, time_seconds)
        shadows = _Shadows(camera, self._light)
        for thing in things:
            if thing.shade is not None:
                thing.shade(shadows)
        self._paint_sky(picture)
        self._paint_ground(picture, shadows)
        self._paint_horizon(picture)
        for thing in sorted(things, key=lambda thing: -thing.z):
            thing.paint(picture)
        image = self._develop(picture.image, time_seconds)
        return SceneFrame(image, picture.labels, picture.anomaly, time_seconds)

    def _things(self, camera: Camera, time: float) -> list[_Thing]:
        first = math.floor(camera.z / _CELL)
        things: list[_Thing] = []
        for index in range(first - 1, first + _SIGHT):
            things += self._cell(index)
        things = [thing for thing in things if thing.z > camera.z - 14]
        things += self._movers(camera, time)
        things += [
            self._obstacle(hazard, camera, time)
            for hazard in self._hazards(camera.z + _REVEAL / 2, _REVEAL / 2)
            if not self._scattered or hazard.z > camera.z + 5
        ]
        return things

    def _paint_sky(self, picture: Picture) -> None:
        camera = picture.camera
        rows = math.ceil(camera.horizon) + 1
        height, width = self.size
        rows = min(max(rows, 0), height)
        if rows == 0:
            return
        small = (max(rows // 2, 2), max(width // 2, 2))
        weather = self._weather
        y = np.linspace(0.5, rows - 0.5, small[0], dtype=np.float32)[:, None]
        x = np.linspace(0.5, width - 0.5, small[1], dtype=np.float32)[None]
        up = np.maximum((camera.horizon - y) / camera.focal, 0.002)
        across = (x - width / 2) / camera.focal
        share = np.clip(up / 0.8, 0, 1) ** 0.75
        top, low = np.array(weather.zenith, np.float32), np.array(weather.horizon, np.float32)
        sky = low + (top - low) * share[..., None]
        sky = np.broadcast_to(sky, (*small, 3)).copy()
        sin, cos = math.sin(camera.yaw), math.cos(camera.yaw)
        depth = 1 / (up + 0.06)
        u = (across * cos + sin) * depth * 70 + weather.cloud_shift
        v = (cos - across * sin) * depth * 70 + weather.cloud_shift
        cover = cv2.remap(
            textures.clouds(weather.clouds),
            np.broadcast_to(u, small).astype(np.float32) % 512,
            np.broadcast_to(v, small).astype(np.float32) % 512,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        ).astype(np.float32)
        cover = np.clip((cover - weather.cloud_level) / 70, 0, 1) * np.clip(up / 0.08, 0, 1)
        thick = np.clip((cover - 0.5) * 1.2, 0, 1)[..., None]
        white = np.array(weather.cloud_light, np.float32)
        grey = np.array(weather.cloud_dark, np.float32)
        sky += ((white + (grey - white) * thick) - sky) * (cover * 0.92)[..., None]
        picture.image[:rows] = cv2.resize(sky, (width, rows), interpolation=cv2.INTER_LINEAR)
        picture.labels[:rows] = SKY

    def _paint_horizon(self, picture: Picture) -> None:
        camera = picture.camera
        strip = textures.treeline(self._weather.treeline)
        height, width = self.size
        scale = camera.focal * 0.11 * self._weather.rise / strip.shape[0]
        base = round(camera.horizon) + 1
        rows = min(math.floor(strip.shape[0] * scale), base)
        if rows <= 0 or base > height:
            return
        shift = (camera.yaw * camera.focal - width / 2 + 0.5) / scale + 700
        lift = strip.shape[0] - (rows - 0.5) / scale - 0.5
        matrix = np.array(((1 / scale, 0, shift), (0, 1 / scale, lift)))
        wanted = strip
        level = round(math.log2(max(1 / scale, 1)))
        if level:
            wanted = cv2.blur(strip, (2**level, 2**level))
        patch = cv2.warpAffine(
            wanted,
            matrix,
            (width, rows),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_WRAP,
        )
        picture.blend(0, base - rows, patch, 170.0, FAR, tint=self._light.upright)

    def _paint_ground(self, picture: Picture, shadows: _Shadows) -> None:
        camera, style, light = picture.camera, self._style, self._light
        height, width = self.size
        first = max(math.floor(camera.horizon) + 1, 0)
        if first >= height:
            return
        x, z, distance = camera.ground(first)
        u = x - self._middle(z)
        pixel = distance / camera.focal  # footprint of a pixel across the road, metres
        along = distance * distance / (camera.focal * camera.height)
        tile_u, tile_v = textures.tiles(u, z)
        (road,), (paving,), (blades, patches) = (
            textures.lay(material, variant, tile_u, tile_v, along[:, 0])
            for material, variant in zip(textures.MATERIALS, self._surfaces, strict=True)
        )

        def step(at: float) -> Floats:
            """Return how much of each pixel lies right of ``at`` metres from the middle."""
            return np.clip((u - np.float32(at)) / pixel + np.float32(0.5), 0, 1)

        labels = np.full(u.shape, NON_DRIVABLE, np.uint8)
        inside = style.half + style.kerb
        paved = kerb = None
        if style.edge(-1) + style.edge(1) > 2 * inside:
            paved = step(-style.edge(-1)) - step(style.edge(1))
        if style.kerb:
            kerb = step(-inside) - step(inside)
            labels[np.abs(u) < inside] = ROADSIDE
        on_road = step(-style.half) - step(style.half)
        labels[np.abs(u) < style.half] = DRIVABLE
        # Tyres polish and darken two tracks in each lane.
        tracks = np.cos((u + np.float32(style.lanes_half)) * np.float32(4 * math.pi / style.lane))
        grey = road * (1 + np.float32(0.035) * tracks)
        grey *= 1 - np.float32(0.12) * np.clip(1 - (style.half - np.abs(u)) / 0.7, 0, 1)
        paint = self._markings(u, z, pixel, along, camera, first)
        if paint is not None:
            paint *= np.clip((road - 0.78) * 6 + 1.3 - style.marking_wear, 0.15, 1) * np.float32(0.92)
        blend = np.clip(patches - np.float32(0.95), 0, 0.8)
        kerbstone = np.float32(172) * (np.float32(0.75) + np.float32(0.25) * paving)
        contact, cast = (
            cv2.resize(cv2.blur(m, (3, 3)), (width + width % 2, height + height % 2))[
                first:height, :width
            ].astype(np.float32)
            for m in (shadows.contact, shadows.cast)
        )
        ambient = 1 - contact * np.float32(0.72 / 255)
        sun = (1 - cast * np.float32(light.shadow / 255)) * (1 - contact * np.float32(0.5 / 255))
        sun *= np.float32(light.direction[1])
        haze = (1 - np.exp(-distance / light.haze_distance)).astype(np.float32)
        planes = []
        for band in range(3):  # one plane after the other: much faster than [H, W, 1] by [3]
            dark, bright = style.verge_dark[band], style.verge_light[band]
            plane = np.float32(dark) + np.float32((bright - dark) * 0.5) * blades
            plane += (np.float32(style.verge_patch[band]) - plane) * blend
            if paved is not None:
                plane += (np.float32(style.paving[band]) * paving - plane) * paved
            if kerb is not None:
                plane += (kerbstone - plane) * kerb
            surface = np.float32(style.road[band]) * grey
            if paint is not None:
                surface += (np.float32(222) - surface) * paint
            plane += (surface - plane) * on_road
            plane *= np.float32(light.ambient[band]) * ambient + np.float32(light.sun[band]) * sun
            plane += (np.float32(light.haze[band]) - plane) * haze
            planes.append(plane)
        picture.image[first:] = cv2.merge(planes)
        picture.labels[first:] = labels

    def _markings(
        self, u: Floats, z: Floats, pixel: Floats, along: Floats, camera: Camera, first: int
    ) -> Floats | None:
        """Return how much paint covers each ground pixel, 0 to 1, or None where there is none."""
        style = self._style
        if style.markings == 'none':
            return None
        paint = np.zeros_like(u)

        def line(at: float, wide: float) -> Floats:
            inside = (np.float32(wide / 2) - np.abs(u - np.float32(at))) / pixel
            return np.clip(inside + 0.5, 0, np.minimum(np.float32(wide) / pixel, 1))

        def dashes(length: float, period: float) -> Floats:
            inside = length / 2 - np.abs(z % np.float32(period) - np.float32(period / 2))
            soft = np.maximum(along, 0.05)
            share = np.clip(inside / soft + 0.5, 0, 1)
            fade = np.clip(along / period * 1.5 - 0.5, 0, 1)
            return share + (np.float32(length / period) - share) * fade

        for index in range(1, style.lanes):
            at = -style.lanes_half + index * style.lane
            if 2 * index == style.lanes and style.markings == 'double':
                np.maximum(paint, line(at - 0.12, 0.11), out=paint)
                np.maximum(paint, line(at + 0.12, 0.11), out=paint)
            elif style.markings != 'edges':
                np.maximum(paint, line(at, 0.13) * dashes(3.0, 9.0), out=paint)
        if style.markings != 'centre':
            for at in (-style.lanes_half + 0.2, style.lanes_half - 0.2):
                np.maximum(paint, line(at, 0.14), out=paint)
        for centre, kind in self._crossings(camera.z):
            inside = np.clip((1.4 - np.abs(z - np.float32(centre))) / along + 0.5, 0, 1)
            if kind == 'zebra':
                stripe = np.abs(u % np.float32(1.0) - 0.5)
                bars = np.clip((0.25 - stripe) / pixel + 0.5, 0, 1)
                bars += (0.5 - bars) * np.clip(pixel * 2.5 - 0.5, 0, 1)
                paint += (bars - paint) * inside
            else:
                stop = np.clip((0.2 - np.abs(z - np.float32(centre))) / along + 0.5, 0, 1)
                np.maximum(paint, stop * np.minimum(0.4 / along, 1), out=paint)
        canvas = np.zeros(self.size, np.uint8)
        for points in self._arrows(camera.z):
            view = camera.view(points)
            if view[:, 2].min() > 1.0:
                pixels = np.round(camera.pixels(view) * 16 - 8).astype(np.int32)
                cv2.fillPoly(canvas, [pixels], 255, cv2.LINE_AA, 4)
        np.maximum(paint, canvas[first:].astype(np.float32) / 255, out=paint)
        return paint

    def _crossings(self, z: float) -> list[tuple[float, str]]:
        found = []
        if self._style.surroundings in ('urban', 'suburban'):
            for block in range(math.floor(z / 70) - 1, math.floor(z / 70) + 2):
                rng = generator(self.seed, 5, block)
                if rng.random() < 0.5:
                    at = block * 70 + rng.uniform(5, 65)
                    found.append((at, 'zebra' if rng.random() < 0.6 else 'stop'))
        return found

    def _arrows(self, z: float) -> list[Points]:
        found = []
        style = self._style
        shape = np.array(
            ((-0.08, -2), (0.08, -2), (0.08, 0.4), (0.38, 0.4), (0, 2), (-0.38, 0.4), (-0.08, 0.4))
        )
        if style.lanes >= 2 and style.surroundings in ('urban', 'highway'):
            for block in range(math.floor(z / 45), math.floor(z / 45) + 2):
                rng = generator(self.seed, 6, block)
                if rng.random() < 0.5:
                    lane = int(rng.integers(style.lanes))
                    u = style.lane_middle(lane)
                    at = block * 45 + rng.uniform(5, 40)
                    onward = (u < 0) == style.drive_left
                    local = shape if onward else -shape
                    points = np.zeros((7, 3))
                    points[:, 2] = at + local[:, 1]
                    points[:, 0] = self._middle(points[:, 2].astype(np.float32)) + u + local[:, 0]
                    found.append(points)
        return found

    def _develop(self, colours: Floats, time: float) -> Bytes:
        """Return the picture that the camera's sensor, lens and encoder make of the colours."""
        optics = self._optics
        height, width = self.size
        rng = generator(self.seed, 7, round(time * 1000))
        # Exposure, a soft shoulder for the bright parts and contrast act on each value alone.
        value = np.linspace(0, 2, 256)[:, None] * np.array(optics.balance) * optics.exposure
        value = value.clip(0, 1.6)
        value = value * (1 + 0.2 * value) / (1 + 0.2 * value * value)
        value = 255 * np.clip((value - 0.42) * optics.contrast + 0.42, 0, 1.1)
        image = cv2.LUT(
            cv2.convertScaleAbs(colours, alpha=0.5), value.astype(np.float32)[:, None]
        )
        mix = np.full((3, 3), (1 - optics.saturation) / 3) + np.eye(3) * optics.saturation
        image = cv2.transform(image, mix)
        if optics.vignette:
            y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
            x = np.linspace(-1, 1, width, dtype=np.float32)[None]
            image = cv2.multiply(image, cv2.merge([1 - np.float32(optics.vignette) * (x * x + y * y)] * 3))
        sigma = optics.blur * height / 360
        if sigma > 0.25:
            image = cv2.GaussianBlur(image, (0, 0), sigma)
        noise = textures.sensor_noise()
        if optics.noise and height < noise.shape[0] and width < noise.shape[1]:
            top = int(rng.integers(noise.shape[0] - height))
            left = int(rng.integers(noise.shape[1] - width))
            patch = noise[top : top + height, left : left + width]
            image = cv2.scaleAdd(np.ascontiguousarray(patch), optics.noise * 255, image)
        developed = cv2.convertScaleAbs(cv2.max(image, 0.0))
        if optics.quality < 96:
            _, data = cv2.imencode('.jpg', developed, (cv2.IMWRITE_JPEG_QUALITY, optics.quality))
            developed = cv2.imdecode(data, cv2.IMREAD_COLOR)
        return developed

    # -- furniture -------------------------------------------------------------------------------

    def _furnish(self, index: int) -> list[_Thing]:
        """Return everything that stands still along one cell of the road."""
        rng = generator(self.seed, 3, index)
        z = index * _CELL
        things: list[_Thing | None] = []
        for side in (-1, 1):
            things += {
                'urban': self._urban,
                'suburban': self._suburban,
                'rural': self._rural,
                'forest': self._forest,
                'highway': self._highway,
            }[self._style.surroundings](rng, side, z)
        return [thing for thing in things if thing is not None]

    def _plant(
        self, sprite: Sprite, u: float, z: float, scale: float, label: int, *, vary: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> _Thing:  # fmt: skip
        """Return a sprite that stands beside the road."""
        x, z = self._at(u, z)
        tint = self._light.upright
        if rng is not None:
            tint = tint * rng.uniform(1 - vary, 1 + vary, 3).astype(np.float32)
            if rng.random() < 0.5:
                sprite = sprite.mirrored

        def shade(shadows: _Shadows) -> None:
            shadows.touch(x, z, min(0.3 * sprite.width * scale, 0.8), 0.3)
            shadows.flat(sprite, x, z, scale)

        paint = partial(_stand, sprite, x, z, label, scale, tint)
        return _Thing(z, paint, shade)

    def _strip(self, sprite: Sprite, u: float, z: float, length: float, label: int, *,
               height: float = 1.0) -> list[_Thing]:  # fmt: skip
        """Return a wall, fence or hedge along the road, in short straight pieces."""
        things = []
        pieces = max(1, round(length / 4))
        step = length / pieces
        side = 1 if u > 0 else -1
        for piece in range(pieces):
            z0, z1 = z + piece * step, z + (piece + 1) * step
            x0, x1 = self._at(u, z0)[0], self._at(u, z1)[0]
            tall = sprite.height * height
            corners = np.array(((x0, 0, z0), (x1, 0, z1), (x1, tall, z1), (x0, tall, z0)))
            span = ((z0 / sprite.width) % 1.0, (z0 / sprite.width) % 1.0 + step / sprite.width)
            if span[1] > 1.001:
                span = (0.0, step / sprite.width)
            tint = self._light.on((-side, 0.0, 0.0)) * np.float32(1.1)
            if side > 0:
                corners = corners[[1, 0, 3, 2]]

            def shade(shadows: _Shadows, x0: float = x0, x1: float = x1, z0: float = z0,
                      z1: float = z1, tall: float = tall) -> None:  # fmt: skip
                shadows.box(np.array(((x0, 0, z0), (x1, 0, z1), (x1, 0, z1), (x0, 0, z0))), tall)

            things.append(_Thing(z1, partial(_panel, sprite, corners, label, tint, span), shade))
        return things

    def _building(self, rng: np.random.Generator, u: float, z: float, length: float,
                  depth: float = 9.0) -> list[_Thing]:  # fmt: skip
        """Return a building whose front stands along the road at ``u``."""
        front = textures.facade(int(rng.integers(textures.FACADES)))
        height = front.height * rng.uniform(0.85, 1.25)
        side = 1 if u > 0 else -1
        x0, x1 = self._at(u, z)[0], self._at(u, z + length)[0]
        corners = np.array(((x0, 0, z), (x1, 0, z + length), (x1, height, z + length), (x0, height, z)))
        if side > 0:
            corners = corners[[1, 0, 3, 2]]
        outer = x0 + side * depth
        near = np.array(((x0, 0, z), (outer, 0, z), (outer, height, z), (x0, height, z)))
        if side < 0:
            near = near[[1, 0, 3, 2]]
        vary = rng.uniform(0.85, 1.12, 3).astype(np.float32)
        tint, end_tint = self._light.on((-side, 0, 0)) * vary, self._light.on((0, 0, -1)) * vary
        pitched = rng.random() < 0.45
        tiles = textures.roof(int(rng.integers(4)))
        ridge = height + rng.uniform(2.0, 3.5)
        middle = (x0 + outer) / 2
        slope = np.array(
            ((x0, height, z), (x1, height, z + length),
             (x1 + middle - x0, ridge, z + length), (middle, ridge, z))
        )  # fmt: skip
        if side > 0:
            slope = slope[[1, 0, 3, 2]]
        wide = min(1.0, length / front.width)

        def paint(picture: Picture) -> None:
            if pitched:
                picture.panel(tiles, slope, FAR, tint=self._light.on((-side * 0.6, 0.8, 0)))
                gable = np.array(((x0, height, z), (outer, height, z), (middle, ridge, z)))
                _gable(picture, gable, tuple((front.rgba[-8, 2, :3] * end_tint).tolist()), FAR)
            picture.panel(front, near, FAR, tint=end_tint, span=(0, min(1.0, depth / front.width)))
            picture.panel(front, corners, FAR, tint=tint, span=(0, wide))

        def shade(shadows: _Shadows) -> None:
            base = np.array(((x0, 0, z), (x1, 0, z + length), (x1 + side * depth, 0, z + length), (outer, 0, z)))
            shadows.box(base, height)

        return [_Thing(z + length * 0.6, paint, shade)]

    def _tree(self, rng: np.random.Generator, u: float, z: float, scale: float = 1.0) -> _Thing:
        sprite = sprites.tree(int(rng.integers(sprites.TREES)))
        return self._plant(sprite, u, z, scale * rng.uniform(0.7, 1.3), FAR, vary=0.12, rng=rng)

    def _bush(self, rng: np.random.Generator, u: float, z: float, scale: float = 1.0) -> _Thing:
        sprite = sprites.bush(int(rng.integers(sprites.BUSHES)))
        return self._plant(sprite, u, z, scale * rng.uniform(0.6, 1.4), FAR, vary=0.15, rng=rng)

    def _pole(self, rng: np.random.Generator, u: float, z: float, *kinds: int) -> _Thing:
        kind = int(rng.choice(kinds)) + 6 * int(rng.integers(2))
        sprite = sprites.pole(kind)
        mirror = u < 0 and kind % 6 == 0  # the arm of a lamp reaches over the road
        return self._plant(sprite.mirrored if mirror else sprite, u, z, rng.uniform(0.9, 1.1), ROADSIDE)

    def _parked(
        self, rng: np.random.Generator, u: float, z: float, turn: float = 0.0
    ) -> _Thing | None:
        if self._hazards(z, 20):  # the camera needs the place to pass
            return None
        x, z = self._at(u, z)
        turn += math.pi if rng.random() < 0.35 else 0.0
        heading = self._heading(z) + turn + rng.normal(0, 0.03)
        return _vehicle_thing(int(rng.integers(VEHICLES)), x, z, heading)

    def _walker(self, rng: np.random.Generator, u: float, z: float) -> _Thing:
        sprite = sprites.person(
            int(rng.integers(sprites.PEOPLE)), int(rng.integers(sprites.PHASES))
        )
        return self._plant(sprite, u, z, rng.uniform(0.88, 1.08), LIVING, vary=0.05, rng=rng)

    def _urban(self, rng: np.random.Generator, side: int, z: float) -> list[_Thing | None]:
        style = self._style
        edge = style.edge(side)
        things: list[_Thing | None] = []
        if rng.random() < 0.85:
            gap = 0.0 if rng.random() < 0.75 else rng.uniform(1, 4)
            things += self._building(rng, side * (edge + rng.choice((0.1, 0.1, 1.5))), z, _CELL - gap)
        else:
            things += [self._tree(rng, side * (edge + rng.uniform(2, 7)), z + rng.uniform(0, _CELL)) for _ in range(3)]
            things += self._strip(textures.wall(int(rng.integers(textures.WALLS))), side * (edge + 0.3), z, _CELL, ROADSIDE)
        if rng.random() < 0.35:
            things.append(self._pole(rng, side * (style.half + 0.7), z + rng.uniform(0, _CELL), 0, 1, 2, 3, 4))
        if rng.random() < 0.15:
            things += [self._pole(rng, side * (style.half + 0.5), z + step, 5) for step in range(0, 12, 3)]
        if rng.random() < 0.18 and edge - style.half > 1.5:
            things.append(self._tree(rng, side * (style.half + 1.2), z + rng.uniform(0, _CELL), 0.8))
        if rng.random() < 0.1:
            things += self._strip(textures.railing(1), side * (style.half + 0.4), z, _CELL, ROADSIDE, height=0.85)
        for _ in range(rng.poisson(0.9)):
            things.append(self._walker(rng, side * rng.uniform(style.half + 0.6, max(edge, style.half + 1)), z + rng.uniform(0, _CELL)))
        if style.parked > rng.random():
            things += [self._parked(rng, side * (style.half - 1.05), z + at) for at in (2.5, 8.5) if rng.random() < 0.8]
        return things

    def _suburban(self, rng: np.random.Generator, side: int, z: float) -> list[_Thing | None]:
        style = self._style
        edge = style.edge(side)
        things: list[_Thing | None] = []
        if rng.random() < 0.5:
            things += self._building(rng, side * (edge + rng.uniform(5, 11)), z, rng.uniform(8, 12))
        border = rng.random()
        at = side * (edge + rng.uniform(0.3, 0.8))
        if border < 0.35:
            things += self._strip(textures.hedge(int(rng.integers(4))), at, z, _CELL, FAR)
        elif border < 0.65:
            things += self._strip(textures.wall(int(rng.integers(textures.WALLS))), at, z, _CELL, ROADSIDE, height=rng.uniform(0.6, 1))
        elif border < 0.8:
            things += self._strip(textures.railing(int(rng.integers(1, textures.RAILINGS))), at, z, _CELL, ROADSIDE)
        for _ in range(rng.poisson(1.0)):
            things.append(self._tree(rng, side * (edge + rng.uniform(1.5, 9)), z + rng.uniform(0, _CELL)))
        for _ in range(rng.poisson(0.8)):
            things.append(self._bush(rng, side * (edge + rng.uniform(1, 5)), z + rng.uniform(0, _CELL)))
        if rng.random() < 0.35:
            things.append(self._pole(rng, side * (style.half + 0.8), z + rng.uniform(0, _CELL), 0, 1, 3, 4))
        if rng.random() < 0.35:
            things.append(self._walker(rng, side * rng.uniform(style.half + 0.5, edge + 0.6), z + rng.uniform(0, _CELL)))
        if rng.random() < 0.12:
            things.append(self._parked(rng, side * (edge + rng.uniform(3, 5)), z + rng.uniform(2, 10), rng.uniform(-3, 3)))
        if style.parked * 0.6 > rng.random():
            things.append(self._parked(rng, side * (style.half - 1.0), z + rng.uniform(2, 10)))
        return things

    def _rural(self, rng: np.random.Generator, side: int, z: float) -> list[_Thing | None]:
        style = self._style
        edge = style.edge(side)
        plan = generator(self.seed, 4, side, int(z // (5 * _CELL)))  # the same for some cells
        things: list[_Thing | None] = []
        border = plan.random()
        at = side * (edge + plan.uniform(1.0, 3.0))
        if border < 0.25:
            things += self._strip(textures.hedge(int(plan.integers(4))), at, z, _CELL, FAR, height=plan.uniform(0.8, 1.5))
        elif border < 0.5:
            things += self._strip(textures.railing(int(plan.integers(textures.RAILINGS))), at, z, _CELL, ROADSIDE)
        elif border < 0.62:
            things += self._strip(textures.wall(int(plan.integers(textures.WALLS))), at, z, _CELL, ROADSIDE)
        density = plan.uniform(0.2, 3)
        for _ in range(rng.poisson(density)):
            things.append(self._tree(rng, side * (edge + rng.uniform(2.5, 16)), z + rng.uniform(0, _CELL), 1.1))
        for _ in range(rng.poisson(density)):
            things.append(self._bush(rng, side * (edge + rng.uniform(1, 14)), z + rng.uniform(0, _CELL)))
        if rng.random() < 0.25:
            things.append(self._pole(rng, side * (edge + rng.uniform(0.6, 2)), z + rng.uniform(0, _CELL), 1, 1, 3, 4))
        if rng.random() < 0.06:
            things += self._building(rng, side * (edge + rng.uniform(9, 18)), z, 10)
        if rng.random() < 0.04:
            things.append(self._parked(rng, side * (edge + rng.uniform(3, 6)), z + rng.uniform(2, 10), rng.uniform(-3, 3)))
        if rng.random() < 0.1:
            things.append(self._walker(rng, side * (edge + rng.uniform(-0.4, 1.0)), z + rng.uniform(0, _CELL)))
        return things

    def _forest(self, rng: np.random.Generator, side: int, z: float) -> list[_Thing]:
        edge = self._style.edge(side)
        things: list[_Thing] = []
        plan = generator(self.seed, 4, side, int(z // (6 * _CELL)))
        if plan.random() < 0.35:
            strip = textures.wall(3) if plan.random() < 0.5 else textures.railing(int(plan.integers(4)))
            things += self._strip(strip, side * (edge + plan.uniform(0.6, 1.6)), z, _CELL, ROADSIDE)
        elif plan.random() < 0.4:
            things += self._strip(textures.hedge(int(plan.integers(4))), side * (edge + 0.9), z, _CELL, FAR, height=1.3)
        for _ in range(5):
            things.append(self._tree(rng, side * (edge + rng.uniform(2.2, 11)), z + rng.uniform(0, _CELL), 1.25))
        for _ in range(4):
            things.append(self._bush(rng, side * (edge + rng.uniform(1.2, 6)), z + rng.uniform(0, _CELL), 1.2))
        if rng.random() < 0.1:
            things.append(self._pole(rng, side * (edge + 0.8), z + rng.uniform(0, _CELL), 1, 3, 4, 5))
        return things

    def _highway(self, rng: np.random.Generator, side: int, z: float) -> list[_Thing]:
        edge = self._style.edge(side)
        plan = generator(self.seed, 4, side)
        things = []
        if plan.random() < 0.7:
            things += self._strip(textures.railing(0), side * (edge + 0.8), z, _CELL, ROADSIDE)
        if plan.random() < 0.25:
            things += self._strip(textures.wall(4), side * (edge + 3), z, _CELL, ROADSIDE)
        for _ in range(rng.poisson(1.6)):
            things.append(self._tree(rng, side * (edge + rng.uniform(5, 22)), z + rng.uniform(0, _CELL), 1.2))
        for _ in range(rng.poisson(1.2)):
            things.append(self._bush(rng, side * (edge + rng.uniform(4, 15)), z + rng.uniform(0, _CELL), 1.2))
        if rng.random() < 0.15:
            things.append(self._pole(rng, side * (edge + 1.8), z + rng.uniform(0, _CELL), 0, 3, 4))
        return things

    # -- things that move ------------------------------------------------------------------------

    def _random_traffic(self, rng: np.random.Generator) -> tuple[tuple[float, float, float, int], ...]:
        """Return (lane offset, position at time 0, speed, variant) of every vehicle on the move."""
        style, traffic = self._style, []
        ego = self._ego_lane()
        for lane in range(style.lanes):
            u = style.lane_middle(lane)
            onward = (u < 0) == style.drive_left or style.lanes == 1
            own = abs(u - ego) < style.lane / 2
            # Vehicles of one lane keep their distances, and those ahead of the camera keep theirs.
            speed = self._optics.speed * (
                1.0 if own else rng.uniform(0.8, 1.15) if onward else -rng.uniform(0.9, 1.2)
            )
            position = rng.uniform(9, 40)
            density = {'urban': 30, 'suburban': 55, 'rural': 90, 'forest': 130, 'highway': 45}
            if own and self.obstacles:
                position += 75
            while position < _LOOP - 15:
                variant = int(rng.integers(VEHICLES + 10))
                traffic.append((u + rng.normal(0, 0.15), position, speed, variant))
                position += 13 + rng.exponential(density[style.surroundings])
        return tuple(traffic)

    def _movers(self, camera: Camera, time: float) -> list[_Thing]:
        things = []
        for u, start, speed, variant in self._traffic:
            relative = start + (speed - self._optics.speed) * time
            z = camera.z + (relative + 10) % _LOOP - 10
            x, _ = self._at(u, z)
            heading = self._heading(z) + (math.pi if speed < 0 else 0.0)
            if variant >= VEHICLES:
                things.append(self._rider(variant, x, z))
            else:
                things.append(_vehicle_thing(variant, x, z, heading))
        for block in range(math.floor(camera.z / 30) - 1, math.floor(camera.z / 30) + 4):
            things += self._pedestrians(block, time)
        return things

    def _pedestrians(self, block: int, time: float) -> list[_Thing]:
        """Return the people who walk along or across 30 metres of the road."""
        rng = generator(self.seed, 10, block)
        style, things = self._style, []
        busy = {'urban': 2.0, 'suburban': 0.8, 'rural': 0.25, 'forest': 0.3, 'highway': 0.0}
        for _ in range(rng.poisson(busy[style.surroundings])):
            variant, scale = int(rng.integers(sprites.PEOPLE)), rng.uniform(0.88, 1.08)
            z, side = (block + rng.random()) * 30, rng.choice((-1, 1))
            direction, pace = rng.choice((-1, 1)), rng.uniform(1.0, 1.5)
            across = rng.random() < (0.35 if not self.obstacles else 0.0)
            if across:
                reach = style.half + 1.5
                u = (rng.uniform(0, 2 * reach) + pace * time) % (2 * reach) - reach
                u *= direction
            else:
                u = side * (style.half + rng.uniform(0.5, 1.6))
                z += direction * pace * ((time - z / self._optics.speed) % 60 - 30)
            phase = int((time + rng.random()) * 1.8 * sprites.PHASES) % sprites.PHASES
            sprite = sprites.person(variant, phase)
            if rng.random() < 0.5:
                sprite = sprite.mirrored
            things.append(self._plant(sprite, u, z, scale, LIVING))
        return things

    # -- obstacles -------------------------------------------------------------------------------

    def _random_hazard(self, index: int) -> _Hazard:
        """Return the obstacle number ``index`` along the road."""
        style, rng = self._style, generator(self.seed, 9, index)
        thing = prop(KINDS[self._order[index % len(KINDS)]], int(rng.integers(LOOKS)))
        scale = float(rng.uniform(0.9, 1.2))
        outer = -1 if style.drive_left else 1
        lane = self._ego_lane()
        half = thing.width * scale / 2
        gap = half + 0.95  # between the middle of the obstacle and the camera
        room = style.half - abs(lane) - 0.2
        inward = float(np.clip(gap - room + rng.uniform(0, 0.4), 0, max(style.lane / 2 - 0.5 * half, 0.2)))
        if self._scattered:
            u = float(rng.uniform(-1, 1)) * max(style.half - 0.7 * half, 0.2)
            z = index * self._spacing + float(rng.uniform(0, 6))
            heading, mirrored = float(rng.uniform(-3, 3)), bool(rng.random() < 0.5)
            return _Hazard(thing, u, z, scale, heading, mirrored, 0.0)
        return _Hazard(
            thing, lane - outer * inward, index * self._spacing + float(rng.uniform(0, 6)), scale,
            float(rng.uniform(-0.6, 0.6)), bool(rng.random() < 0.5), outer * max(gap - inward, 0.0),
        )  # fmt: skip

    def _hazards(self, z: float, reach: float) -> list[_Hazard]:
        """Return the obstacles within ``reach`` metres of ``z``; the first ones are never near."""
        if not self.obstacles:
            return []
        first = max(1, math.floor((z - reach) / self._spacing) - 1)
        last = math.ceil((z + reach) / self._spacing) + 1
        found = [self._hazard(index) for index in range(first, last)]
        return [hazard for hazard in found if abs(hazard.z - z) <= reach]

    def _obstacle(self, hazard: _Hazard, camera: Camera, time: float) -> _Thing:
        thing, scale, z = hazard.prop, hazard.scale, hazard.z
        u, step, mirrored = hazard.u, 0, hazard.mirrored
        if thing.pace:  # an animal waits, then leaves the camera's side of the lane
            inward = 1 if self._style.drive_left else -1
            mirrored = inward > 0
            moment = float(np.clip(time - z / self._optics.speed + 2.2, 0, 3.0))
            start = -inward * min(0.9, max(self._style.half - 0.3 - abs(u), 0))
            u += start + inward * thing.pace * moment
            step = int(moment * 4) % STEPS
        x, z = self._at(u, z)
        opacity = float(np.clip((_REVEAL - (z - camera.z)) / 5, 0, 1))
        if thing.pictures:
            sprite = thing.pictures[step]
            if mirrored:
                sprite = sprite.mirrored
            tint = self._light.upright

            def paint(picture: Picture) -> None:
                picture.stand(sprite, x, z, IGNORE, scale=scale, tint=tint, opacity=opacity)

            def shade(shadows: _Shadows) -> None:
                shadows.touch(x, z, thing.width * scale * 0.46, thing.length * scale * 0.5)
                shadows.flat(sprite, x, z, scale)

            return _Thing(z, paint, shade)
        pose = Pose(x, z, hazard.heading + self._heading(z), scale)
        solids = sorted(thing.solids, key=lambda solid: -pose.place(solid.middles)[:, 2].min())

        def paint_solids(picture: Picture) -> None:
            for solid in solids:
                picture.solid(solid, pose, IGNORE, opacity=opacity)

        def shade_solids(shadows: _Shadows) -> None:
            half = np.array((thing.width, 0, thing.length)) / 2
            corners = np.array(((-1, 0, -1), (1, 0, -1), (1, 0, 1), (-1, 0, 1))) * half
            shadows.footprint(corners, pose)
            shadows.box(pose.place(corners), thing.height * scale)

        return _Thing(z, paint_solids, shade_solids)

    def _rider(self, variant: int, x: float, z: float) -> _Thing:
        cycle, rider = sprites.cycle(variant), sprites.rider(variant)
        tint = self._light.upright

        def paint(picture: Picture) -> None:
            picture.stand(cycle, x, z, VEHICLE, tint=tint)
            picture.stand(rider, x, z - 0.01, LIVING, base=0.52, tint=tint)

        def shade(shadows: _Shadows) -> None:
            shadows.touch(x, z, 0.35, 0.9)
            shadows.flat(sprites.person(0, 0), x, z)

        return _Thing(z, paint, shade)


def _stand(sprite: Sprite, x: float, z: float, label: int, scale: float, tint: Floats,
           picture: Picture) -> None:  # fmt: skip
    picture.stand(sprite, x, z, label, scale=scale, tint=tint)


def _panel(sprite: Sprite, corners: Points, label: int, tint: Floats, span: tuple[float, float],
           picture: Picture) -> None:  # fmt: skip
    picture.panel(sprite, corners, label, tint=tint, span=span)


def _gable(picture: Picture, points: Points, colour: tuple[float, ...], label: int) -> None:
    view = picture.camera.view(points)
    if view[:, 2].min() < 1:
        return
    pixels = picture.camera.pixels(view)
    height, width = picture.camera.size
    left, top = np.maximum(np.floor(pixels.min(axis=0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(pixels.max(axis=0)), (width, height)).astype(int)
    if right <= left or bottom <= top:
        return
    patch = np.zeros((bottom - top, right - left, 4), np.uint8)
    outline = np.round((pixels - (left + 0.5, top + 0.5)) * 16).astype(np.int32)
    cv2.fillConvexPoly(patch, outline, (*colour, 255), cv2.LINE_8, 4)
    picture.blend(int(left), int(top), patch, float(view[:, 2].mean()), label)


def _vehicle_thing(variant: int, x: float, z: float, heading: float) -> _Thing:
    solid, (width, height, length) = vehicle(variant)
    pose = Pose(x, z, heading)

    def paint(picture: Picture) -> None:
        column, _, depth = picture.camera.spot(x, 0.0, z)
        if depth < -3 or (depth > 8 and not -400 < column < picture.camera.size[1] + 400):
            return
        picture.solid(solid, pose, VEHICLE, details=depth < 90)

    def shade(shadows: _Shadows) -> None:
        if z - shadows.camera.z > 80:
            return
        corners = np.array(((-1, 0, -1), (1, 0, -1), (1, 0, 1), (-1, 0, 1))) / 2.0 * (width, 0, length)
        shadows.footprint(corners, pose)
        shadows.box(pose.place(corners), height * 0.9)

    return _Thing(z, paint, shade)


# -- random choices ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Weather:
    """Sky colours and what the horizon looks like."""

    zenith: Colour
    horizon: Colour
    cloud_light: Colour
    cloud_dark: Colour
    cloud_level: float
    cloud_shift: float
    clouds: int
    treeline: int
    rise: float


def _colour(values: np.ndarray) -> Colour:  # type: ignore[type-arg]
    return float(values[0]), float(values[1]), float(values[2])


def _random_style(rng: np.random.Generator) -> _Style:
    surroundings = str(
        rng.choice(
            ('urban', 'suburban', 'rural', 'forest', 'highway'), p=(0.32, 0.22, 0.22, 0.12, 0.12)
        )
    )
    town = surroundings in ('urban', 'suburban')
    lanes = int({
        'urban': rng.choice((2, 2, 3, 4)), 'suburban': 2, 'rural': rng.choice((1, 2, 2)),
        'forest': rng.choice((1, 1, 2)), 'highway': rng.choice((3, 4)),
    }[surroundings])  # fmt: skip
    lane = float(rng.uniform(2.9, 3.6)) if lanes > 1 else float(rng.uniform(3.6, 5.0))
    pavement = (0.0, 0.0)
    if town:
        pavement = (float(rng.uniform(1.4, 3.6)), float(rng.uniform(1.4, 3.6)))
        if rng.random() < 0.2:
            pavement = (0.0, pavement[1])
    ground = rng.random()
    if ground < 0.65 or surroundings == 'forest':  # grass
        dark = rng.uniform((34, 58, 18), (62, 86, 34))
        light = dark + rng.uniform((48, 58, 14), (84, 88, 34))
        patch = dark * 0.5 + light * 0.5 + rng.uniform(0, 1) * np.array((40, 8, 14))
    elif ground < 0.85:  # dry grass
        dark = rng.uniform((86, 78, 44), (112, 100, 62))
        light = dark + rng.uniform((60, 52, 24), (92, 80, 50))
        patch = np.array((98, 108, 56)) * rng.uniform(0.7, 1.1)
    else:  # bare earth
        dark = rng.uniform((104, 78, 54), (128, 104, 80))
        light = dark + rng.uniform((48, 36, 26), (70, 60, 46))
        patch = np.array((112, 112, 64)) * rng.uniform(0.8, 1.1)
    tone = rng.uniform(84, 148)
    road = tone * np.array((1, 1, 1)) + rng.uniform((-2, -2, -4), (8, 4, 6))
    paving = rng.uniform(120, 176) * np.array((1, 1, 1)) + rng.uniform((-4, -6, -16), (16, 6, 6))
    if rng.random() < 0.2:
        paving = rng.uniform((140, 96, 80), (170, 118, 100))
    marks = ('none', 'edges', 'none') if lanes == 1 else ('centre', 'both', 'both', 'double', 'none')
    parked = float(rng.choice((0.0, 0.3, 0.8))) if town else 0.0
    shoulder = float(rng.uniform(2.0, 2.4)) if parked else float(rng.choice((0.0, 0.4, 1.0)))
    bends = []
    for length in (rng.uniform(35, 60), rng.uniform(70, 140)):
        bends.append((float(rng.normal(0, 0.035) * length), float(length), float(rng.uniform(0, 6.28))))
    return _Style(
        surroundings, lanes, lane, bool(rng.random() < 0.45),
        0.16 if town or rng.random() < 0.15 else 0.0, pavement,
        _colour(dark), _colour(light), _colour(patch), _colour(road), _colour(paving),
        str(rng.choice(marks)), float(rng.uniform(0.1, 0.9)), tuple(bends), parked, shoulder,
    )  # fmt: skip


def _random_light(rng: np.random.Generator) -> tuple[Light, _Weather]:
    kind = str(rng.choice(('sunny', 'hazy', 'overcast', 'dusk'), p=(0.42, 0.2, 0.28, 0.1)))
    azimuth, rise = rng.uniform(0, 2 * math.pi), rng.uniform(0.5, 1.1)
    if kind == 'dusk':
        rise = rng.uniform(0.2, 0.4)
    direction = (
        math.sin(azimuth) * math.cos(rise), math.sin(rise), math.cos(azimuth) * math.cos(rise)
    )  # fmt: skip
    white = np.ones(3)
    if kind == 'sunny':
        ambient, sun, shadow = white * (0.50, 0.54, 0.62), white * (0.78, 0.74, 0.64), 0.9
        zenith, low = rng.uniform((60, 110, 180), (110, 160, 225)), rng.uniform((170, 195, 225), (215, 225, 238))
        bright, dark, level = (248, 248, 250), (200, 206, 216), rng.uniform(120, 230)
        reach = rng.uniform(250, 900)
    elif kind == 'hazy':
        ambient, sun, shadow = white * (0.72, 0.72, 0.72), white * (0.42, 0.40, 0.36), 0.6
        zenith, low = rng.uniform((150, 180, 205), (200, 212, 228)), rng.uniform((215, 218, 218), (245, 245, 242))
        bright, dark, level = (246, 246, 246), (214, 216, 220), rng.uniform(110, 200)
        reach = rng.uniform(120, 300)
    elif kind == 'overcast':
        ambient, sun, shadow = white * (0.96, 0.98, 1.0), white * 0.04, 0.0
        zenith, low = rng.uniform(150, 215) * np.array((0.96, 0.99, 1.03)), rng.uniform(205, 250) * white
        bright, dark, level = (236, 238, 242), (150, 156, 166), rng.uniform(70, 130)
        reach = rng.uniform(140, 500)
    else:
        ambient, sun, shadow = white * (0.42, 0.42, 0.50), white * (0.34, 0.24, 0.14), 0.7
        zenith, low = rng.uniform((50, 66, 104), (96, 112, 150)), rng.uniform((190, 150, 120), (236, 200, 160))
        bright, dark, level = (240, 196, 160), (112, 104, 120), rng.uniform(90, 180)
        reach = rng.uniform(160, 500)
    strength = rng.uniform(0.88, 1.1)
    light = Light(
        _colour(ambient * strength), _colour(sun * strength), direction, _colour(low * 0.96), float(reach), shadow
    )
    weather = _Weather(
        _colour(zenith), _colour(low), bright, dark, float(level), float(rng.uniform(0, 512)),
        int(rng.integers(textures.VARIANTS)), int(rng.integers(textures.TREELINES)),
        float(rng.uniform(0.5, 1.4)),
    )  # fmt: skip
    return light, weather


def _random_optics(rng: np.random.Generator) -> _Optics:
    return _Optics(
        view_angle=float(rng.uniform(0.95, 1.25)),
        height=float(rng.uniform(1.25, 1.6)),
        pitch=float(rng.uniform(0.0, 0.05)),
        offset=float(rng.normal(0, 0.15)),
        speed=float(rng.uniform(9, 13)),
        exposure=float(rng.uniform(0.92, 1.12)),
        contrast=float(rng.uniform(0.98, 1.12)),
        saturation=float(rng.uniform(0.85, 1.1)),
        balance=_colour(rng.uniform(0.96, 1.04, 3)),
        noise=float(rng.uniform(0.006, 0.014)),
        blur=float(rng.uniform(0.3, 0.6)),
        quality=int(rng.integers(85, 96)),
        vignette=float(rng.uniform(0, 0.07)),
    )


def random_frame(
    seed: int, size: tuple[int, int] = (240, 320), *, obstacles: bool = False
) -> SceneFrame:
    """Return one frame of a random scene at a random moment, for training.

    Varies more than a clip does: mounting height, angle and lens of the camera, exposure, noise.

    Args:
        seed: which frame; any integer.
        size: (height, width) in pixels.
        obstacles: let obstacles stand on the road.
    """
    scene = Scene(seed, size, obstacles=obstacles)
    scene._spacing, scene._scattered = 18.0, True
    rng = generator(seed, 2)
    scene._optics = replace(
        scene._optics,
        view_angle=float(rng.uniform(0.75, 1.45)),
        height=float(rng.uniform(1.05, 2.2)),
        pitch=float(rng.normal(0.03, 0.07)),
        offset=float(rng.normal(0, 0.7)),
        exposure=float(np.exp(rng.normal(0.08, 0.2))),
        contrast=float(rng.uniform(0.8, 1.35)),
        saturation=float(rng.uniform(0.55, 1.25)),
        balance=_colour(rng.uniform(0.9, 1.1, 3)),
        noise=float(rng.uniform(0.0, 0.03)),
        blur=float(rng.uniform(0.2, 1.3)),
        quality=int(rng.integers(45, 100)),
        vignette=float(rng.uniform(0, 0.12)),
    )
    return scene.render(float(rng.uniform(0, 60)))


def generate_clip(
    seed: int,
    frames: int,
    *,
    rate: float = 15.0,
    size: tuple[int, int] = (360, 640),
    obstacles: bool = True,
) -> Iterator[SceneFrame]:
    """Yield ``frames`` consecutive frames of one scene at ``rate`` frames a second."""
    scene = Scene(seed, size, obstacles=obstacles)
    for index in range(frames):
        yield scene.render(index / rate)
