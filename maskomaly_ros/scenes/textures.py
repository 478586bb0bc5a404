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

"""Surfaces: asphalt, paving, grass, leaves, facades, walls, clouds.

Every picture is made from a seed, once in a process, and then shared by all scenes; scenes vary
it by position, colour and scale.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

from maskomaly_ros.scenes.raster import Bytes, Colour, Floats, Sprite, generator

GROUND_TEXEL = 0.025  # metres
GROUND_SHAPE = (1024, 512)  # texels along and across the road
VARIANTS = 4


def fractal(shape: tuple[int, int], slope: float, rng: np.random.Generator) -> Floats:
    """Return seamless noise of mean 0 and deviation 1 whose spectrum falls as f^-slope."""
    rows, columns = shape
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None] * rows, np.fft.rfftfreq(columns) * columns)
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) / frequency**slope
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, shape)
    return np.asarray(noise / noise.std(), np.float32)


def _to_bytes(values: Floats) -> Bytes:
    return np.clip(values, 0, 255).astype(np.uint8)


@cache
def asphalt(variant: int) -> Bytes:
    """Return asphalt as grey levels around 128: grain, stains, repairs, tar seams, cracks."""
    rng = generator(11, variant)
    rows, columns = GROUND_SHAPE
    grain = rng.standard_normal(GROUND_SHAPE).astype(np.float32)
    tone = (
        128 + 9 * grain + 9 * fractal(GROUND_SHAPE, 1.1, rng) + 7 * fractal(GROUND_SHAPE, 1.7, rng)
    )
    wear = 0.4 + 0.6 * rng.random()
    for _ in range(rng.integers(0, 4)):  # repaired rectangles
        x, y = int(rng.integers(0, columns)), int(rng.integers(0, rows))
        w, h = int(rng.integers(20, 90)), int(rng.integers(30, 240))
        patch = tone[y : y + h, x : x + w]
        patch += rng.normal(0, 13)
        cv2.rectangle(tone, (x, y), (x + w, y + h), 88, 1)
    mask = np.zeros(GROUND_SHAPE, np.uint8)
    for _ in range(rng.integers(3, 12)):  # cracks wander
        point = rng.uniform((0, 0), (columns, rows))
        heading = rng.choice((0.0, np.pi / 2)) + rng.normal(0, 0.3)
        path = [point]
        for _ in range(rng.integers(20, 90)):
            heading += rng.normal(0, 0.35)
            path.append(path[-1] + 5 * np.array((np.cos(heading), np.sin(heading))))
        cv2.polylines(mask, [np.array(path, np.int32)], False, 255, 1)
    tone -= wear * 42 * cv2.GaussianBlur(mask, (3, 3), 0.7).astype(np.float32) / 255
    if rng.random() < 0.6:  # seam between two paving lanes
        x = int(rng.integers(0, columns))
        cv2.line(tone, (x, 0), (x, rows), float(rng.choice((92, 150))), 2)
    for _ in range(rng.integers(0, 4)):  # oil stains, manholes
        x, y = int(rng.integers(0, columns)), int(rng.integers(0, rows))
        if rng.random() < 0.4:
            cv2.circle(tone, (x, y), 13, 96, -1, cv2.LINE_AA)
            cv2.circle(tone, (x, y), 13, 70, 2, cv2.LINE_AA)
            cv2.circle(tone, (x, y), 8, 112, 2, cv2.LINE_AA)
        else:
            stain = np.zeros(GROUND_SHAPE, np.float32)
            axes = (int(rng.integers(6, 22)), int(rng.integers(12, 60)))
            cv2.ellipse(stain, (x, y), axes, 0, 0, 360, 1, -1)
            tone -= 22 * cv2.GaussianBlur(stain, (0, 0), 6)
    return _to_bytes(tone)


@cache
def paving(variant: int) -> Bytes:
    """Return pavement as grey levels around 128: slabs, small blocks or plain asphalt."""
    rng = generator(12, variant)
    rows, columns = GROUND_SHAPE
    tone = 128 + 7 * rng.standard_normal(GROUND_SHAPE).astype(np.float32)
    tone += 8 * fractal(GROUND_SHAPE, 1.2, rng)
    kind = variant % 3
    if kind < 2:
        long, wide = ((24, 16), (8, 8))[kind]
        stones = rng.normal(0, 9, (rows // long + 1, columns // wide + 1))
        tone += np.kron(stones, np.ones((long, wide)))[:rows, :columns].astype(np.float32)
        for row in range(0, rows, long):
            tone[row] -= 34
        for column in range(0, columns, wide):
            tone[:, column] -= 34
    return _to_bytes(tone)


@cache
def verge(variant: int) -> Bytes:
    """Return grass or earth, uint8 [rows, columns, 2]: fine blades, and large patches."""
    rng = generator(13, variant)
    blades = fractal(GROUND_SHAPE, 0.25, rng)
    blades = cv2.GaussianBlur(blades, (1, 5), 1.0) * 1.6 + 0.7 * fractal(GROUND_SHAPE, 1.0, rng)
    patches = fractal(GROUND_SHAPE, 1.5, rng)
    return np.dstack((_to_bytes(128 + 42 * blades), _to_bytes(128 + 45 * patches)))


MATERIALS = (asphalt, paving, verge)


@cache
def _ground_levels(material: Callable[[int], Bytes], variant: int) -> tuple[Bytes, ...]:
    """Return a ground surface, ever coarser.

    Each level is half as fine along the road as the one before; across it becomes coarser half as
    fast, as the footprint of a pixel does with distance.
    """
    rows, columns = GROUND_SHAPE
    levels = [material(variant)]
    for level in range(1, 9):
        shape = (columns >> max(0, (level - 2) // 2), rows >> level)
        coarser = cv2.resize(levels[-1], shape, interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(coarser, np.uint8))
    return tuple(levels)


def tiles(u: Floats, v: Floats) -> tuple[Floats, Floats]:
    """Return ground positions (metres across and along) as positions within a tile, 0 to 1."""
    rows, columns = GROUND_SHAPE
    u = u * np.float32(1 / (columns * GROUND_TEXEL)) + np.float32(0.5)
    v = v * np.float32(1 / (rows * GROUND_TEXEL))
    u -= np.floor(u)
    v -= np.floor(v)
    return u, v


def lay(
    material: Callable[[int], Bytes], variant: int, u: Floats, v: Floats, footprint: Floats
) -> list[Floats]:
    """Return a surface on the ground, around 1.

    Args:
        material: one of MATERIALS.
        variant: which of its pictures.
        u: across the road as from ``tiles``, float32 [rows, W].
        v: along the road, likewise.
        footprint: length on the road of one pixel of each row, metres [rows].

    Returns:
        One float32 [rows, W] for every channel of the material.
    """
    levels = _ground_levels(material, variant)
    wanted = np.round(np.log2(np.maximum(footprint / GROUND_TEXEL, 1)) - 0.5)
    chosen = np.clip(wanted, 0, len(levels) - 1).astype(int)
    bounds = np.flatnonzero(np.diff(chosen)) + 1
    out = np.empty(u.shape + levels[0].shape[2:], np.uint8)
    for start, stop in zip((0, *bounds), (*bounds, len(chosen)), strict=True):
        level = levels[chosen[start]]
        map_u = u[start:stop] * np.float32(level.shape[1])
        map_v = v[start:stop] * np.float32(level.shape[0])
        cv2.remap(
            level, map_u, map_v, cv2.INTER_LINEAR, out[start:stop], borderMode=cv2.BORDER_WRAP
        )
    return [channel * np.float32(1 / 128) for channel in cv2.split(out)]


@cache
def clouds(variant: int) -> Bytes:
    """Return cloud cover, 0 (clear) to 255, uint8 [512, 512]."""
    noise = fractal((512, 512), 1.75, generator(14, variant))
    return _to_bytes(128 + 60 * noise)


@cache
def sensor_noise() -> Floats:
    """Return noise of deviation 1, float32 [640, 1024, 3], as smooth as after demosaicing."""
    noise = generator(15).standard_normal((640, 1024, 3)).astype(np.float32)
    noise = noise * 0.6 + cv2.GaussianBlur(noise, (3, 3), 0.8)
    return np.asarray(noise / noise.std(), np.float32)


def leaves(
    shape: tuple[int, int],
    mask: Bytes,
    rng: np.random.Generator,
    colour: Colour,
    *,
    size: float = 3.0,
    spread: float = 0.25,
) -> Bytes:
    """Return foliage as RGBA: clumps of leaves lit from the upper left, within ``mask``."""
    rows, columns = shape
    bumps = fractal(_even(shape), 1.6, rng)[:rows, :columns]
    bumps = bumps + 0.6 * fractal(_even(shape), 0.9, rng)[:rows, :columns]
    slope_x = cv2.Sobel(cv2.GaussianBlur(bumps, (0, 0), size * 0.8), cv2.CV_32F, 1, 0)
    slope_y = cv2.Sobel(cv2.GaussianBlur(bumps, (0, 0), size * 0.8), cv2.CV_32F, 0, 1)
    lit = -(slope_x * 0.5 + slope_y)
    lit /= max(float(lit.std()), 1e-6)
    inside = cv2.distanceTransform(cv2.copyMakeBorder(mask, 1, 1, 1, 1, 0), cv2.DIST_L2, 3)[
        1:-1, 1:-1
    ]
    depth = np.clip(inside / max(float(inside.max()), 1) * 1.5, 0, 1)
    rise = np.linspace(1.0, 0.72, rows, dtype=np.float32)[:, None]
    tone = rise * (0.72 + spread * lit + 0.16 * np.clip(bumps, -2, 2) - 0.12 * depth)
    grain = cv2.resize(
        rng.standard_normal(
            (max(int(rows / size * 2), 2), max(int(columns / size * 2), 2))
        ).astype(np.float32),
        (columns, rows),
        interpolation=cv2.INTER_LINEAR,
    )
    tone = np.clip(tone + 0.16 * grain, 0.12, 1.6)[..., None]
    base = np.array(colour, np.float32)
    warm = np.clip(tone - 0.75, 0, 1) * np.array((70, 55, 5), np.float32)
    return np.dstack((_to_bytes(base * tone + warm), mask))


def _even(shape: tuple[int, int]) -> tuple[int, int]:
    return shape[0] + shape[0] % 2, shape[1] + shape[1] % 2


HEDGES = 4


@cache
def hedge(variant: int) -> Sprite:
    """Return a stretch of clipped hedge, 8 m long."""
    rng = generator(16, variant)
    shape = (128, 512)
    mask = np.zeros(shape, np.uint8)
    edge = 10 + 4 * fractal((2, 512), 1.0, rng)[0] + 3 * rng.standard_normal(512)
    mask[np.arange(128)[:, None] > np.maximum(edge, 1)[None]] = 255
    green = (rng.uniform(50, 85), rng.uniform(85, 115), rng.uniform(35, 60))
    rgba = leaves(shape, mask, rng, green)
    rgba[108:, :, :3] = (rgba[108:, :, :3] * np.linspace(1, 0.5, 20)[:, None, None]).astype(
        np.uint8
    )
    return Sprite(rgba, 8.0, rng.uniform(1.2, 2.6))


WALLS = 6
BOARDS, BARRIER = 3, 4


@cache
def wall(variant: int) -> Sprite:
    """Return a stretch of wall or board fence, 8 m long."""
    rng = generator(17, variant)
    rows, columns = 96, 512
    tone = 1 + 0.06 * rng.standard_normal((rows, columns)).astype(np.float32)
    tone += 0.07 * fractal((rows, columns), 1.4, rng)
    colour = np.array(
        (
            (150, 92, 72),
            (176, 172, 160),
            (196, 178, 140),
            (128, 98, 66),
            (210, 206, 196),
            (112, 116, 96),
        )[variant % WALLS],
        np.float32,
    )
    if variant % WALLS in (0, 2):  # bricks
        for row in range(0, rows, 6):
            tone[row] *= 0.78
            offset = 6 if row // 6 % 2 else 0
            tone[row : row + 6, offset::12] *= 0.85
    elif variant % WALLS in (3, 5):  # boards between posts
        for row in range(0, rows, 8):
            tone[row : row + 2] *= 0.6
            tone[row + 2 : row + 8] *= rng.uniform(0.85, 1.1)
        for column in range(0, columns, 128):
            tone[:, column : column + 8] *= 0.75
    else:  # plaster or concrete panels, dirty below
        for column in range(0, columns, 128):
            tone[:, column : column + 2] *= 0.75
        tone *= np.linspace(1.05, 0.8, rows, dtype=np.float32)[:, None]
    tone[:5] *= 1.12
    tone[5:7] *= 0.7
    rgba = np.dstack(
        (_to_bytes(colour * tone[..., None]), np.full((rows, columns), 255, np.uint8))
    )
    return Sprite(rgba, 8.0, (1.2, 2.2, 1.6, 1.8, 3.0, 1.7)[variant % WALLS], solid=True)


RAILINGS = 4


@cache
def railing(variant: int) -> Sprite:
    """Return something along the road that one can see through, 8 m long."""
    rows, columns = 96, 512
    rgba = np.zeros((rows, columns, 4), np.uint8)
    kind = variant % 4
    if kind == 0:  # guard rail
        rgba[20:44] = (168, 172, 174, 255)
        rgba[28:34] = (120, 124, 128, 255)
        rgba[20:22] = (210, 212, 214, 255)
        for column in range(60, columns, 128):
            rgba[20:, column : column + 8] = (120, 122, 124, 255)
        height = 0.8
    elif kind == 1:  # bars
        for column in range(0, columns, 10):
            rgba[4:, column : column + 3] = (52, 58, 56, 255)
        rgba[6:10] = rgba[82:86] = (46, 50, 50, 255)
        height = 1.3
    elif kind == 2:  # wooden rails
        for top in (12, 44):
            rgba[top : top + 12] = (134, 112, 86, 255)
            rgba[top + 8 : top + 12] = (92, 76, 58, 255)
        for column in range(0, columns, 128):
            rgba[4:, column : column + 10] = (112, 92, 70, 255)
        height = 1.1
    else:  # wire mesh
        for column in range(-rows, columns, 9):
            cv2.line(rgba, (column, 0), (column + rows, rows), (120, 130, 122, 150), 1)
            cv2.line(rgba, (column + rows, 0), (column, rows), (120, 130, 122, 150), 1)
        for column in range(0, columns, 128):
            rgba[:, column : column + 6] = (96, 106, 98, 255)
        height = 1.9
    return Sprite(rgba, 8.0, height, solid=True)


FACADES = 20


@cache
def facade(variant: int) -> Sprite:
    """Return the front of a building, windows in rows; about 4 m a bay and 3 m a storey."""
    rng = generator(18, variant)
    storeys, bays = int(rng.integers(2, 6)), int(rng.integers(3, 6))
    bay, storey = 48, 40
    rows, columns = storeys * storey + 12, bays * bay
    palette = (
        (158, 104, 82),
        (186, 152, 112),
        (206, 198, 182),
        (172, 168, 162),
        (214, 196, 158),
        (136, 112, 98),
        (150, 156, 160),
        (222, 218, 210),
        (188, 120, 92),
        (176, 186, 180),
    )
    colour = np.array(palette[int(rng.integers(len(palette)))], np.float32)
    tone = 1 + 0.05 * rng.standard_normal((rows, columns)).astype(np.float32)
    tone += 0.06 * fractal((rows, columns), 1.5, rng)
    if rng.random() < 0.5:
        for row in range(0, rows, 4):
            tone[row] *= 0.88
    picture = colour * tone[..., None]
    glass = np.array(
        ((70, 84, 98), (48, 56, 62), (110, 128, 142))[int(rng.integers(3))], np.float32
    )
    frame = np.array(((232, 230, 224), (70, 60, 54), (180, 176, 170))[int(rng.integers(3))])
    shop = rng.random() < 0.45
    strip = rng.random() < 0.2  # bands of windows, as on offices
    width = int(rng.integers(18, 30)) if not strip else bay - 4
    height = int(rng.integers(20, 29))
    for floor in range(storeys):
        top = 12 + floor * storey
        if rng.random() < 0.5:
            picture[top - 3 : top - 1] *= 0.8
        ground = floor == storeys - 1
        for index in range(bays):
            x = index * bay + (bay - width) // 2
            y = top + (storey - height) // 2 - 2
            if ground and shop:
                x, y, w, h = index * bay + 4, top + 10, bay - 8, storey - 10
            elif ground and index == bays // 2:
                x, y, w, h = x + width // 4, top + 8, width // 2 + 4, storey - 8
            else:
                w, h = width, height
            picture[y - 2 : y + h + 2, x - 2 : x + w + 2] = frame
            shine = np.linspace(rng.uniform(0.9, 1.7), rng.uniform(0.5, 0.9), h)[:, None, None]
            picture[y : y + h, x : x + w] = glass * shine
            if rng.random() < 0.35:  # curtain or blind
                picture[y : y + h // int(rng.integers(2, 4)), x : x + w] = rng.uniform(150, 225)
            if not (ground and shop):
                picture[y : y + h, x + w // 2 - 1 : x + w // 2 + 1] = frame
                picture[y + h + 2 : y + h + 4, x - 3 : x + w + 3] *= 0.7
        if ground and shop:
            sign = rng.uniform(30, 220, 3)
            picture[top : top + 10] = sign
            for x in range(6, columns - 8, 9):
                if rng.random() < 0.7:
                    picture[top + 3 : top + 7, x : x + 6] = 235 if sign.mean() < 130 else 40
    picture[:6] *= 0.75  # cornice
    picture[6:8] *= 1.15
    picture[-4:] *= 0.7
    rgba = np.dstack(
        (_to_bytes(picture.astype(np.float32)), np.full((rows, columns), 255, np.uint8))
    )
    return Sprite(rgba, bays * 3.4, storeys * 3.1 + 0.6, solid=True)


ROOFS = 4


@cache
def roof(variant: int) -> Sprite:
    """Return roof tiles."""
    rng = generator(19, variant)
    tone = 1 + 0.08 * rng.standard_normal((64, 256)).astype(np.float32)
    tone[::5] *= 0.75
    tone += 0.08 * fractal((64, 256), 1.3, rng)
    colour = np.array(
        ((122, 72, 58), (92, 88, 90), (140, 92, 70), (84, 78, 74))[variant % 4], np.float32
    )
    rgba = np.dstack((_to_bytes(colour * tone[..., None]), np.full((64, 256), 255, np.uint8)))
    return Sprite(rgba, 10.0, 4.0, solid=True)


TREELINES = 6


@cache
def treeline(variant: int) -> Bytes:
    """Return what closes the view at the horizon, RGBA [96, 2048], seamless from side to side."""
    rng = generator(20, variant)
    rows, columns = 96, 2048
    heights = (
        0.42
        + 0.12 * fractal((2, columns), 1.2, rng)[0]
        + 0.04 * fractal((2, columns), 0.6, rng)[0]
    )
    mask = np.zeros((rows, columns), np.uint8)
    mask[np.arange(rows)[:, None] > (rows * (1 - np.clip(heights, 0.12, 0.95)))[None]] = 255
    mask[0] = 0  # the top row wraps round to the bottom one
    rgba = leaves((rows, columns), mask, rng, (66, 84, 56), size=2.0, spread=0.2)
    if variant % 2:  # a town between the trees
        for _ in range(60):
            x, w = int(rng.integers(0, columns - 90)), int(rng.integers(14, 80))
            top = int(rows * rng.uniform(0.3, 0.75))
            colour = rng.uniform(110, 200) * rng.uniform(0.9, 1.08, 3)
            rgba[top:, x : x + w, :3] = colour.astype(np.uint8)
            rgba[top:, x : x + w, 3] = 255
            for y in range(top + 4, rows - 4, 8):
                for step in range(3, w - 4, 7):
                    rgba[y : y + 4, x + step : x + step + 4, :3] = (colour * 0.55).astype(np.uint8)
        low = rgba[rows * 3 // 4 :]
        green = leaves(
            low.shape[:2], np.full(low.shape[:2], 255, np.uint8), rng, (66, 84, 56), size=2.0
        )
        low[:] = np.where((np.arange(columns) // 40 % 3 > 0)[None, :, None], green, low)
    return rgba
