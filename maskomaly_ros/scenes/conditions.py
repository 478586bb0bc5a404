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

"""What makes one scene different from another: road, weather, camera."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from maskomaly_ros.scenes import textures
from maskomaly_ros.scenes.raster import Colour, Floats, Light, Points


@dataclass(frozen=True)
class Style:
    """What a scene is made of and how its road runs; lengths in metres, colours RGB 0..255."""

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
        """Return how far to the right of the road's middle a lane is; lane 0 is the leftmost."""
        return -self.lanes_half + (lane + 0.5) * self.lane

    def edge(self, side: int) -> float:
        """Return the distance from the middle of the road to the outer edge of the pavement."""
        return self.half + self.kerb + self.pavement[side > 0]

    @property
    def ego(self) -> float:
        """How far to the right of the road's middle the camera's lane is."""
        if self.lanes == 1:
            return 0.0
        return self.outer * (self.lanes_half - self.lane * (0.5 if self.lanes < 4 else 1.5))

    @property
    def outer(self) -> int:
        """Side of the camera's lane that is away from oncoming traffic: 1 right, -1 left."""
        return -1 if self.drive_left else 1

    def middle(self, z: Floats) -> Floats:
        """Return X of the middle of the road at every ``z``."""
        total = np.zeros_like(z)
        for height, length, phase in self.bends:
            total += np.float32(height) * np.sin(z * np.float32(1 / length) + np.float32(phase))
        return total

    def heading(self, z: float) -> float:
        """Return the direction of the road at ``z``, radians to the right of the Z axis."""
        slope = sum(h / length * math.cos(z / length + p) for h, length, p in self.bends)
        return math.atan(slope)

    def at(self, u: float, z: float) -> tuple[float, float]:
        """Return the ground position (X, Z) ``u`` metres to the right of the road's middle."""
        return sum(h * math.sin(z / length + p) for h, length, p in self.bends) + u, z


@dataclass(frozen=True)
class Weather:
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


@dataclass(frozen=True)
class Optics:
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


def _colour(values: Points) -> Colour:
    return float(values[0]), float(values[1]), float(values[2])


def random_style(rng: np.random.Generator) -> Style:
    """Return a road and its surroundings."""
    surroundings = str(
        rng.choice(
            ('urban', 'suburban', 'rural', 'forest', 'highway'), p=(0.32, 0.22, 0.22, 0.12, 0.12)
        )
    )
    town = surroundings in ('urban', 'suburban')
    lanes = int(
        {
            'urban': rng.choice((2, 2, 3, 4)),
            'suburban': 2,
            'rural': rng.choice((1, 2, 2)),
            'forest': rng.choice((1, 1, 2)),
            'highway': rng.choice((3, 4)),
        }[surroundings]
    )
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
    marks = (
        ('none', 'edges', 'none') if lanes == 1 else ('centre', 'both', 'both', 'double', 'none')
    )
    parked = float(rng.choice((0.0, 0.3, 0.8))) if town else 0.0
    shoulder = float(rng.uniform(2.0, 2.4)) if parked else float(rng.choice((0.0, 0.4, 1.0)))
    bends = []
    for length in (rng.uniform(35, 60), rng.uniform(70, 140)):
        bends.append(
            (float(rng.normal(0, 0.035) * length), float(length), float(rng.uniform(0, 6.28)))
        )
    return Style(
        surroundings,
        lanes,
        lane,
        bool(rng.random() < 0.45),
        0.16 if town or rng.random() < 0.15 else 0.0,
        pavement,
        _colour(dark),
        _colour(light),
        _colour(patch),
        _colour(road),
        _colour(paving),
        str(rng.choice(marks)),
        float(rng.uniform(0.1, 0.9)),
        tuple(bends),
        parked,
        shoulder,
    )


def random_light(rng: np.random.Generator) -> tuple[Light, Weather]:
    """Return the weather and the light that it makes."""
    kind = str(rng.choice(('sunny', 'hazy', 'overcast', 'dusk'), p=(0.42, 0.2, 0.28, 0.1)))
    azimuth, rise = rng.uniform(0, 2 * math.pi), rng.uniform(0.5, 1.1)
    if kind == 'dusk':
        rise = rng.uniform(0.2, 0.4)
    direction = (
        math.sin(azimuth) * math.cos(rise),
        math.sin(rise),
        math.cos(azimuth) * math.cos(rise),
    )
    white = np.ones(3)
    if kind == 'sunny':
        ambient, sun, shadow = white * (0.50, 0.54, 0.62), white * (0.78, 0.74, 0.64), 0.9
        zenith, low = (
            rng.uniform((60, 110, 180), (110, 160, 225)),
            rng.uniform((170, 195, 225), (215, 225, 238)),
        )
        bright, dark, level = (248, 248, 250), (200, 206, 216), rng.uniform(120, 230)
        reach = rng.uniform(250, 900)
    elif kind == 'hazy':
        ambient, sun, shadow = white * (0.72, 0.72, 0.72), white * (0.42, 0.40, 0.36), 0.6
        zenith, low = (
            rng.uniform((150, 180, 205), (200, 212, 228)),
            rng.uniform((215, 218, 218), (245, 245, 242)),
        )
        bright, dark, level = (246, 246, 246), (214, 216, 220), rng.uniform(110, 200)
        reach = rng.uniform(120, 300)
    elif kind == 'overcast':
        ambient, sun, shadow = white * (0.96, 0.98, 1.0), white * 0.04, 0.0
        zenith, low = (
            rng.uniform(150, 215) * np.array((0.96, 0.99, 1.03)),
            rng.uniform(205, 250) * white,
        )
        bright, dark, level = (236, 238, 242), (150, 156, 166), rng.uniform(70, 130)
        reach = rng.uniform(140, 500)
    else:
        ambient, sun, shadow = white * (0.42, 0.42, 0.50), white * (0.34, 0.24, 0.14), 0.7
        zenith, low = (
            rng.uniform((50, 66, 104), (96, 112, 150)),
            rng.uniform((190, 150, 120), (236, 200, 160)),
        )
        bright, dark, level = (240, 196, 160), (112, 104, 120), rng.uniform(90, 180)
        reach = rng.uniform(160, 500)
    strength = rng.uniform(0.88, 1.1)
    light = Light(
        _colour(ambient * strength),
        _colour(sun * strength),
        direction,
        _colour(low * 0.96),
        float(reach),
        shadow,
    )
    weather = Weather(
        _colour(zenith),
        _colour(low),
        bright,
        dark,
        float(level),
        float(rng.uniform(0, 512)),
        int(rng.integers(textures.VARIANTS)),
        int(rng.integers(textures.TREELINES)),
        float(rng.uniform(0.5, 1.4)),
    )
    return light, weather


def random_optics(rng: np.random.Generator) -> Optics:
    """Return a good camera behind a windscreen."""
    return Optics(
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


def varied_optics(rng: np.random.Generator) -> Optics:
    """Return a camera as any vehicle might carry it, good or bad."""
    return Optics(
        view_angle=float(rng.uniform(0.75, 1.45)),
        height=float(rng.uniform(1.05, 2.2)),
        pitch=float(rng.normal(0.03, 0.07)),
        offset=float(rng.normal(0, 0.7)),
        speed=float(rng.uniform(9, 13)),
        exposure=float(np.exp(rng.normal(0.08, 0.2))),
        contrast=float(rng.uniform(0.8, 1.35)),
        saturation=float(rng.uniform(0.55, 1.25)),
        balance=_colour(rng.uniform(0.9, 1.1, 3)),
        noise=float(rng.uniform(0.0, 0.03)),
        blur=float(rng.uniform(0.2, 1.3)),
        quality=int(rng.integers(45, 100)),
        vignette=float(rng.uniform(0, 0.12)),
    )
