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

"""Sky, horizon and ground, which fill the frame before anything stands in it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from maskomaly_ros.scenes import textures
from maskomaly_ros.scenes.classes import DRIVABLE, FAR, NON_DRIVABLE, ROADSIDE, SKY
from maskomaly_ros.scenes.conditions import Style, Weather
from maskomaly_ros.scenes.raster import Camera, Floats, Picture, Points, generator
from maskomaly_ros.scenes.things import Shadows


def paint_sky(picture: Picture, weather: Weather) -> None:
    """Paint and label all above the horizon: a gradient with clouds that recede to it."""
    camera = picture.camera
    rows = math.ceil(camera.horizon) + 1
    height, width = camera.size
    rows = min(max(rows, 0), height)
    if rows == 0:
        return
    small = (max(rows // 2, 2), max(width // 2, 2))
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


def paint_horizon(picture: Picture, weather: Weather) -> None:
    """Paint and label the far trees and houses that close the view."""
    camera = picture.camera
    strip = textures.treeline(weather.treeline)
    height, width = camera.size
    scale = camera.focal * 0.11 * weather.rise / strip.shape[0]
    base = round(camera.horizon) + 1
    rows = min(math.floor(strip.shape[0] * scale), base)
    if rows <= 0 or base > height:
        return
    shift = (camera.yaw * camera.focal - width / 2 + 0.5) / scale + 700
    lift = strip.shape[0] - (rows - 0.5) / scale - 0.5
    matrix = np.array(((1 / scale, 0, shift), (0, 1 / scale, lift)))
    coarse = 2 ** round(math.log2(max(1 / scale, 1)))
    patch = cv2.warpAffine(
        cv2.blur(strip, (coarse, coarse)),
        matrix,
        (width, rows),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_WRAP,
    )
    picture.blend(0, base - rows, patch, 170.0, FAR, tint=picture.light.upright)


def paint_ground(
    picture: Picture, shadows: Shadows, style: Style, surfaces: Sequence[int], seed: int
) -> None:
    """Paint and label road, kerb, pavement and verge, with the shadows on them.

    ``surfaces``: which picture of each of textures.MATERIALS.
    """
    camera, light = picture.camera, picture.light
    height, width = camera.size
    first = max(math.floor(camera.horizon) + 1, 0)
    if first >= height:
        return
    x, z, distance = camera.ground(first)
    u = x - style.middle(z)
    pixel = distance / camera.focal  # footprint of a pixel across the road, metres
    along = distance * distance / (camera.focal * camera.height)
    tile_u, tile_v = textures.tiles(u, z)
    (road,), (paving,), (blades, patches) = (
        textures.lay(material, variant, tile_u, tile_v, along[:, 0])
        for material, variant in zip(textures.MATERIALS, surfaces, strict=True)
    )

    def step(at: float) -> Floats:
        """Return how much of each pixel lies right of ``at`` metres from the middle."""
        return np.asarray(np.clip((u - np.float32(at)) / pixel + 0.5, 0, 1), np.float32)

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
    paint = _markings(style, seed, u, z, pixel, along, camera, first)
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
    style: Style,
    seed: int,
    u: Floats,
    z: Floats,
    pixel: Floats,
    along: Floats,
    camera: Camera,
    first: int,
) -> Floats | None:
    """Return how much paint covers each ground pixel, 0 to 1, or None where there is none."""
    if style.markings == 'none':
        return None
    paint = np.zeros_like(u)

    def line(at: float, wide: float) -> Floats:
        inside = (np.float32(wide / 2) - np.abs(u - np.float32(at))) / pixel
        most = np.minimum(np.float32(wide) / pixel, 1)
        return np.asarray(np.clip(inside + 0.5, 0, most), np.float32)

    def dashes(length: float, period: float) -> Floats:
        inside = length / 2 - np.abs(z % np.float32(period) - np.float32(period / 2))
        soft = np.maximum(along, 0.05)
        share = np.clip(inside / soft + 0.5, 0, 1)
        fade = np.clip(along / period * 1.5 - 0.5, 0, 1)
        return np.asarray(share + (length / period - share) * fade, np.float32)

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
    for centre, kind in _crossings(style, seed, camera.z):
        inside = np.clip((1.4 - np.abs(z - np.float32(centre))) / along + 0.5, 0, 1)
        if kind == 'zebra':
            stripe = np.abs(u % np.float32(1.0) - 0.5)
            bars = np.clip((0.25 - stripe) / pixel + 0.5, 0, 1)
            bars += (0.5 - bars) * np.clip(pixel * 2.5 - 0.5, 0, 1)
            paint += (bars - paint) * inside
        else:
            stop = np.clip((0.2 - np.abs(z - np.float32(centre))) / along + 0.5, 0, 1)
            np.maximum(paint, stop * np.minimum(0.4 / along, 1), out=paint)
    canvas = np.zeros(camera.size, np.uint8)
    for points in _arrows(style, seed, camera.z):
        view = camera.view(points)
        if view[:, 2].min() > 1.0:
            pixels = np.round(camera.pixels(view) * 16 - 8).astype(np.int32)
            cv2.fillPoly(canvas, [pixels], 255, cv2.LINE_AA, 4)
    np.maximum(paint, canvas[first:].astype(np.float32) / 255, out=paint)
    return paint


def _crossings(style: Style, seed: int, z: float) -> list[tuple[float, str]]:
    found = []
    if style.surroundings in ('urban', 'suburban'):
        for block in range(math.floor(z / 70) - 1, math.floor(z / 70) + 2):
            rng = generator(seed, 5, block)
            if rng.random() < 0.5:
                at = block * 70 + rng.uniform(5, 65)
                found.append((at, 'zebra' if rng.random() < 0.6 else 'stop'))
    return found


def _arrows(style: Style, seed: int, z: float) -> list[Points]:
    found = []
    shape = np.array(
        ((-0.08, -2), (0.08, -2), (0.08, 0.4), (0.38, 0.4), (0, 2), (-0.38, 0.4), (-0.08, 0.4))
    )
    if style.lanes >= 2 and style.surroundings in ('urban', 'highway'):
        for block in range(math.floor(z / 45), math.floor(z / 45) + 2):
            rng = generator(seed, 6, block)
            if rng.random() < 0.5:
                lane = int(rng.integers(style.lanes))
                u = style.lane_middle(lane)
                at = block * 45 + rng.uniform(5, 40)
                onward = (u < 0) == style.drive_left
                local = shape if onward else -shape
                points = np.zeros((7, 3))
                points[:, 2] = at + local[:, 1]
                points[:, 0] = style.middle(points[:, 2].astype(np.float32)) + u + local[:, 0]
                found.append(points)
    return found
