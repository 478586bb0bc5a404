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

"""Upright pictures: trees, bushes, poles, signs, people and their cycles."""

from __future__ import annotations

import math
from functools import cache

import cv2
import numpy as np

from maskomaly_ros.scenes.raster import Bytes, Colour, Points, Sprite, generator
from maskomaly_ros.scenes.textures import fractal, leaves

TREES = 14
BUSHES = 6
POLE_KINDS = 6
LAMP = 0
PEOPLE = 16
PHASES = 6


def _blob_mask(shape: tuple[int, int], rng: np.random.Generator, kind: str) -> Bytes:
    """Return the outline of a crown as 0 / 255."""
    rows, columns = shape
    mask = np.zeros(shape, np.uint8)
    for _ in range({'round': 34, 'column': 26, 'cone': 40, 'bush': 24}[kind]):
        y = rng.uniform(0.08, 0.95)
        if kind == 'round':
            reach = math.sqrt(max(0.0, 1 - (2 * y - 1) ** 2)) * 0.40
        elif kind == 'column':
            reach = 0.26 * math.sin(math.pi * min(y + 0.1, 0.95)) ** 0.5
        elif kind == 'cone':
            reach = 0.42 * y
        else:
            reach = 0.42 * math.sqrt(y)
        x = 0.5 + rng.uniform(-reach, reach)
        radius = rng.uniform(0.06, 0.13) * min(rows, columns)
        cv2.circle(mask, (int(x * columns), int(y * rows)), int(radius), 255, -1)
    ragged = fractal((rows + rows % 2, columns + columns % 2), 0.5, rng)[:rows, :columns]
    soft = cv2.GaussianBlur(mask, (0, 0), 4).astype(np.float32) / 255
    edge = ((soft + 0.16 * ragged) > 0.5).astype(np.uint8) * 255
    edge[[0, -1]] = 0
    edge[:, [0, -1]] = 0
    # Leaves that hang in the air, and small holes, look cut out with scissors.
    _, parts, boxes, _ = cv2.connectedComponentsWithStats(edge)
    areas = boxes[:, cv2.CC_STAT_AREA]
    edge[parts != 1 + int(areas[1:].argmax())] = 0
    _, parts, boxes, _ = cv2.connectedComponentsWithStats(255 - edge)
    edge[boxes[parts, cv2.CC_STAT_AREA] < 260] = 255
    return np.asarray(cv2.GaussianBlur(edge, (3, 3), 0.6), np.uint8)


def _branches(
    picture: Bytes,
    start: tuple[float, float],
    angle: float,
    length: float,
    width: float,
    colour: Colour,
    rng: np.random.Generator,
    depth: int,
) -> None:
    end = (start[0] + length * math.sin(angle), start[1] - length * math.cos(angle))
    cv2.line(
        picture,
        (int(start[0] * 8), int(start[1] * 8)),
        (int(end[0] * 8), int(end[1] * 8)),
        (*colour, 255),
        max(1, round(width)),
        cv2.LINE_AA,
        3,
    )
    if depth == 0:
        return
    for _ in range(3 if depth > 2 else 2):
        _branches(
            picture,
            end,
            angle + rng.normal(0, 0.5),
            length * rng.uniform(0.62, 0.85),
            width * 0.62,
            colour,
            rng,
            depth - 1,
        )


@cache
def tree(variant: int) -> Sprite:
    """Return a tree: broad, tall, conifer, bare, or palm."""
    rng = generator(21, variant)
    rows, columns = 320, 256
    rgba = np.zeros((rows, columns, 4), np.uint8)
    kind = ('round', 'round', 'column', 'round', 'cone', 'round', 'bare')[variant % 7]
    bark = tuple(np.array((86, 70, 56)) * rng.uniform(0.6, 1.1))
    foot = (columns / 2, rows - 1.0)
    if kind == 'bare':
        _branches(rgba, foot, rng.normal(0, 0.05), 92, 11, bark, rng, 6)
        return Sprite(rgba, 6.4, 8.0)
    _branches(rgba, foot, rng.normal(0, 0.05), 110, 13, bark, rng, 3)
    crown = int(rows * (0.93 if kind == 'cone' else rng.uniform(0.68, 0.86)))
    mask = _blob_mask((crown, columns), rng, kind)
    green = (rng.uniform(52, 100), rng.uniform(84, 122), rng.uniform(30, 58))
    if kind == 'cone':
        green = (48, 78, 52)
    foliage = leaves((crown, columns), mask, rng, green, spread=0.3)
    alpha = foliage[..., 3:].astype(np.float32) / 255
    top = rgba[:crown]
    top[..., :3] = foliage[..., :3] * alpha + top[..., :3] * (1 - alpha)
    top[..., 3] = np.maximum(top[..., 3], foliage[..., 3])
    empty = rgba[..., 3] == 0
    rgba[empty, :3] = np.array(green, np.uint8)
    return Sprite(rgba, 6.4, 8.0)


@cache
def bush(variant: int) -> Sprite:
    """Return a bush about 2.4 m wide."""
    rng = generator(22, variant)
    shape = (128, 192)
    mask = _blob_mask(shape, rng, 'bush')
    mask[96:, 24:-24] = 255
    green = (rng.uniform(58, 110), rng.uniform(84, 120), rng.uniform(30, 60))
    return Sprite(leaves(shape, mask, rng, green), 2.4, 1.6)


@cache
def pole(variant: int) -> Sprite:
    """Return a street lamp, sign, traffic light or utility pole."""
    rng = generator(23, variant)
    kind = variant % POLE_KINDS
    rows, columns = 384, 128
    rgba = np.zeros((rows, columns, 4), np.uint8)
    grey = tuple(float(v) for v in np.array((118, 122, 122)) * rng.uniform(0.5, 1.2))
    middle = columns // 2

    def post(half: int, top: int) -> None:
        rgba[top:, middle - half : middle + half] = (*grey, 255)
        rgba[top:, middle - half : middle] = (*(v * 0.7 for v in grey), 255)

    if kind == 0:  # lamp with an arm
        post(2, 20)
        cv2.line(rgba, (middle, 22), (middle - 50, 12), (*grey, 255), 3, cv2.LINE_AA)
        cv2.ellipse(
            rgba, (middle - 50, 14), (12, 4), 8, 0, 360, (70, 72, 74, 255), -1, cv2.LINE_AA
        )
        return Sprite(rgba, 2.7, 8.0)
    if kind == 1:  # utility pole
        post(4, 6)
        for y in (24, 44):
            cv2.line(rgba, (middle - 46, y), (middle + 46, y), (82, 70, 60, 255), 5)
            for x in range(-44, 50, 22):
                cv2.rectangle(
                    rgba, (middle + x - 2, y - 10), (middle + x + 2, y), (60, 66, 70, 255), -1
                )
        return Sprite(rgba, 2.8, 8.4)
    if kind == 2:  # traffic light
        post(3, 150)
        cv2.rectangle(rgba, (middle - 22, 20), (middle + 22, 150), (26, 28, 28, 255), -1)
        lit = int(rng.integers(3))
        for index, colour in enumerate(((235, 60, 40), (245, 180, 40), (60, 220, 130))):
            bright = colour if index == lit else tuple(v // 5 for v in colour)
            cv2.circle(rgba, (middle, 44 + 41 * index), 15, (*bright, 255), -1, cv2.LINE_AA)
        return Sprite(rgba, 1.15, 3.4)
    if kind == 5:  # bollard
        post(14, 30)
        rgba[70:130, middle - 14 : middle + 14] = (222, 222, 214, 255)
        return Sprite(rgba, 0.36, 1.05)
    post(4, 70)  # signs
    shape = int(rng.integers(4))
    centre = (middle, 62)
    if shape == 0:
        cv2.circle(rgba, centre, 56, (196, 40, 44, 255), -1, cv2.LINE_AA)
        cv2.circle(rgba, centre, 41, (238, 238, 234, 255), -1, cv2.LINE_AA)
        cv2.putText(
            rgba, '30', (middle - 36, 80), cv2.FONT_HERSHEY_DUPLEX, 1.7, (20, 20, 20, 255), 4
        )
    elif shape == 1:
        points = np.array(((middle, 6), (middle - 60, 112), (middle + 60, 112)))
        cv2.fillPoly(rgba, [points], (200, 44, 44, 255), cv2.LINE_AA)
        points = np.array(((middle, 34), (middle - 38, 100), (middle + 38, 100)))
        cv2.fillPoly(rgba, [points], (240, 238, 228, 255), cv2.LINE_AA)
    elif shape == 2:
        cv2.rectangle(rgba, (4, 8), (123, 116), (36, 76, 158, 255), -1)
        cv2.arrowedLine(rgba, (middle, 104), (middle, 24), (240, 240, 240, 255), 9, tipLength=0.4)
    else:
        cv2.rectangle(rgba, (2, 14), (125, 110), (28, 96, 68, 255), -1)
        cv2.rectangle(rgba, (6, 18), (121, 106), (230, 232, 230, 255), 2)
        for y in (44, 70, 92):
            cv2.line(rgba, (16, y), (int(rng.integers(70, 112)), y), (232, 234, 232, 255), 6)
    return Sprite(rgba, 0.9, 2.7)


def _rounded(rgba: Bytes) -> Bytes:
    """Shade a flat drawing as if it were round, lit from the upper left."""
    alpha = rgba[..., 3].astype(np.float32) / 255
    soft = cv2.GaussianBlur(alpha, (0, 0), max(2.0, rgba.shape[1] * 0.05))
    shade = 1 + 1.1 * (cv2.Sobel(soft, cv2.CV_32F, 1, 0) * 4 + cv2.Sobel(soft, cv2.CV_32F, 0, 1))
    rgba[..., :3] = np.clip(rgba[..., :3] * np.clip(shade, 0.45, 1.35)[..., None], 0, 255)
    return rgba


_SKIN = ((224, 172, 140), (198, 140, 106), (140, 94, 68), (96, 64, 48))


def _cloth(rng: np.random.Generator) -> Points:
    """Return the colour of a garment, rarely a glaring one."""
    colour = rng.uniform(20, 225, 3)
    return np.asarray(colour + (colour.mean() - colour) * rng.uniform(0.2, 0.8), float)


@cache
def person(variant: int, phase: int) -> Sprite:
    """Return a walking person, 1.75 m tall; ``phase`` in 0..PHASES-1 is the moment of the step."""
    rng = generator(24, variant)
    rows, columns = 256, 144
    rgba = np.zeros((rows, columns, 4), np.uint8)
    skin = (*_SKIN[int(rng.integers(4))], 255)
    top = (*_cloth(rng), 255)
    trousers = (
        *(np.array((52, 58, 80)) * rng.uniform(0.4, 1.6) + rng.uniform(-12, 22, 3)).clip(8),
        255,
    )
    shoes = (36, 32, 30, 255)
    swing = math.sin(2 * math.pi * phase / PHASES)
    side = rng.random() < 0.45  # seen from the side, the step is wide
    stride = swing * (34 if side else 9)
    lift = abs(swing) * 3
    middle, hip, shoulder = columns / 2, 128 + lift, 52 + lift
    build = rng.uniform(0.85, 1.2)
    dress = rng.random() < 0.25

    def limb(
        a: tuple[float, float],
        b: tuple[float, float],
        wide: float,
        thin: float,
        colour: tuple[float, ...],
    ) -> None:
        along = np.array((b[0] - a[0], b[1] - a[1]))
        normal = np.array((-along[1], along[0])) / max(float(np.hypot(*along)), 1e-6)
        ring = [a + normal * wide, b + normal * thin, b - normal * thin, a - normal * wide]
        cv2.fillPoly(rgba, [np.round(np.array(ring) * 8).astype(np.int32)], colour, cv2.LINE_AA, 3)
        for point, radius in ((a, wide), (b, thin)):
            centre = (round(point[0] * 8), round(point[1] * 8))
            cv2.circle(rgba, centre, round(radius * 8), colour, -1, cv2.LINE_AA, 3)

    dark = (*(np.array(trousers[:3]) * 0.7), 255)
    sleeve = (*(np.array(top[:3]) * 0.82), 255)
    gap = 4 if side else 13
    for direction, cloth in ((-1, dark), (1, trousers)):
        foot = (
            middle + direction * stride + direction * gap * 0.8,
            246 - max(0.0, direction * swing) * 7,
        )
        knee = (middle + direction * (stride * 0.6 + gap) + (4 if side else 0), 188)
        start = (middle + direction * gap, hip)
        if dress:
            cloth = skin
        limb(start, knee, 15 * build, 11 * build, cloth)
        limb(knee, foot, 11 * build, 7, cloth)
        limb(foot, (foot[0] + (12 if side else direction * 4), 250), 6, 5, shoes)
    arm_gap = 10 if side else 28 * build
    for direction in (-1, 1) if not side else (-1,):
        elbow = (middle + direction * (arm_gap + 5) - stride * 0.35 * direction, 98 + lift)
        hand = (elbow[0] + (8 if side else 0) - stride * 0.4 * direction, 134 + lift)
        limb((middle + direction * arm_gap, shoulder + 10), elbow, 9, 8, sleeve)
        limb(elbow, hand, 8, 5, sleeve)
        limb(hand, hand, 6, 6, skin)
    half = (18 if side else 27) * build
    torso = np.array(
        (
            (middle - half * 0.7, shoulder - 4),
            (middle + half * 0.7, shoulder - 4),
            (middle + half, shoulder + 12),
            (middle + half * 0.82, hip - 18),
            (middle + half * 0.9, hip + (44 if dress else 6)),
            (middle - half * 0.9, hip + (44 if dress else 6)),
            (middle - half * 0.82, hip - 18),
            (middle - half, shoulder + 12),
        )
    )
    cv2.fillPoly(rgba, [np.round(torso * 8).astype(np.int32)], top, cv2.LINE_AA, 3)
    if side:
        elbow = (middle + 4 + stride * 0.35, 98 + lift)
        limb((middle, shoulder + 10), elbow, 10, 8, sleeve)
        limb(elbow, (elbow[0] + 8 + stride * 0.4, 132 + lift), 8, 5, sleeve)
    limb((middle, shoulder - 2), (middle, shoulder - 12), 8, 8, skin)
    head = (round(middle + (3 if side else 0)), round(28 + lift))
    cv2.ellipse(rgba, head, (14, 18), 0, 0, 360, skin, -1, cv2.LINE_AA)
    hair = (*rng.uniform(15, 90, 1).repeat(3) * (1.0, 0.8, 0.65), 255)
    away = rng.random() < 0.5
    cv2.ellipse(
        rgba,
        (head[0] - (3 if side else 0), head[1] - 5),
        (15, 15),
        0,
        *((0, 360) if away else (170, 370)),
        hair,
        -1,
        cv2.LINE_AA,
    )
    if rng.random() < 0.3:  # bag
        x = int(middle + half)
        cv2.rectangle(rgba, (x - 6, 100), (x + 12, 136), (*rng.uniform(20, 130, 3), 255), -1)
    return Sprite(_rounded(rgba), 1.75 * columns / rows, 1.75)


@cache
def cycle(variant: int) -> Sprite:
    """Return a motor cycle or bicycle from behind, 1.15 m tall."""
    rng = generator(25, variant)
    rows, columns = 180, 120
    rgba = np.zeros((rows, columns, 4), np.uint8)
    paint = (*rng.uniform(20, 200, 3), 255)
    motor = variant % 3 != 2
    wide = 11 if motor else 5
    cv2.ellipse(rgba, (60, 130), (wide, 48), 0, 0, 360, (28, 28, 30, 255), -1, cv2.LINE_AA)
    cv2.ellipse(rgba, (60, 130), (wide // 3, 36), 0, 0, 360, (70, 72, 74, 255), -1, cv2.LINE_AA)
    if motor:
        body = np.array(((38, 66), (82, 66), (90, 100), (76, 128), (44, 128), (30, 100)))
        cv2.fillPoly(rgba, [body], paint, cv2.LINE_AA)
        cv2.rectangle(rgba, (50, 84), (70, 93), (225, 40, 36, 255), -1)
        cv2.rectangle(rgba, (48, 102), (72, 116), (222, 218, 200, 255), -1)
        cv2.line(rgba, (86, 110), (92, 150), (90, 92, 96, 255), 7, cv2.LINE_AA)
    else:
        cv2.line(rgba, (60, 40), (60, 100), paint, 6, cv2.LINE_AA)
        cv2.ellipse(rgba, (60, 54), (16, 6), 0, 0, 360, (40, 36, 34, 255), -1, cv2.LINE_AA)
    cv2.line(rgba, (14, 36), (106, 36), (64, 66, 68, 255), 6, cv2.LINE_AA)
    if motor:
        for x in (16, 104):
            cv2.ellipse(rgba, (x, 20), (11, 7), 0, 0, 360, (50, 54, 58, 255), -1, cv2.LINE_AA)
    return Sprite(_rounded(rgba), 0.77, 1.15)


@cache
def rider(variant: int) -> Sprite:
    """Return somebody who sits on a cycle, from behind: from the saddle to the head."""
    rng = generator(26, variant)
    rows, columns = 192, 144
    rgba = np.zeros((rows, columns, 4), np.uint8)
    shirt = (*_cloth(rng), 255)
    sleeve = (*(np.array(shirt[:3]) * 0.82), 255)
    trousers = (*rng.uniform(25, 85, 3), 255)
    for direction in (-1, 1):
        x = 72 + direction * 24
        leg = np.array(
            ((72, 118), (x, 112), (x + direction * 12, 150), (x, 186), (x - direction * 14, 186))
        )
        cv2.fillPoly(rgba, [leg], trousers, cv2.LINE_AA)
        arm = np.array(
            (
                (72 + direction * 22, 50),
                (72 + direction * 38, 62),
                (72 + direction * 50, 96),
                (72 + direction * 38, 102),
                (72 + direction * 24, 80),
            )
        )
        cv2.fillPoly(rgba, [arm], sleeve, cv2.LINE_AA)
    torso = np.array(((46, 46), (98, 46), (102, 70), (96, 128), (48, 128), (42, 70)))
    cv2.fillPoly(rgba, [torso], shirt, cv2.LINE_AA)
    skin = (*_SKIN[int(rng.integers(4))], 255)
    cv2.rectangle(rgba, (64, 34), (80, 50), skin, -1)
    helmet = rng.random() < 0.6
    head = (*(rng.uniform(15, 230, 3) if helmet else np.array((30.0, 25.0, 22.0))), 255)
    cv2.ellipse(rgba, (72, 24), (18, 20), 0, 0, 360, head, -1, cv2.LINE_AA)
    return Sprite(_rounded(rgba), 0.92, 1.22)
