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

"""Things that do not belong on a road and that no class of the network describes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from maskomaly_ros.scenes import animals, boxes, clutter
from maskomaly_ros.scenes.animals import STEPS
from maskomaly_ros.scenes.raster import Solid, Sprite


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


_ANIMALS: dict[str, tuple[Callable[[int, int], Sprite], float]] = {
    'deer': (animals.deer, 0.55),
    'cow': (animals.cow, 0.4),
    'sheep': (animals.sheep, 0.35),
    'dog': (animals.dog, 0.6),
    'boar': (animals.boar, 0.5),
    'ostrich': (animals.ostrich, 0.6),
}
_CLUTTER: dict[str, Callable[[int], Sprite]] = {
    function.__name__: function
    for function in (
        clutter.rock,
        clutter.log,
        clutter.branch,
        clutter.ball,
        clutter.bag,
        clutter.tyres,
        clutter.wheel,
        clutter.statue,
        clutter.wheelbarrow,
        clutter.duck,
        clutter.umbrella,
        clutter.helicopter,
        clutter.rover,
        clutter.boat,
    )
}
_BOXES: dict[str, Callable[[int], tuple[boxes.Faces, ...]]] = {
    function.__name__: function
    for function in (
        boxes.crate,
        boxes.carton,
        boxes.suitcase,
        boxes.sofa,
        boxes.washer,
        boxes.drum,
        boxes.blocks,
    )
}
KINDS = (*_ANIMALS, *_CLUTTER, *_BOXES)
LOOKS = 4


@cache
def prop(kind: str, look: int) -> Prop:
    """Return an obstacle of one of KINDS; ``look`` in 0..LOOKS-1 varies colour and shape."""
    if kind in _BOXES:
        solids = tuple(Solid(faces) for faces in _BOXES[kind](look))
        points = np.concatenate([solid.points for solid in solids])
        width, _, length = np.ptp(points, axis=0).tolist()
        return Prop(kind, (), solids, width, float(points[:, 1].max()), length)
    pace = 0.0
    if kind in _ANIMALS:
        paint, pace = _ANIMALS[kind]
        pictures = tuple(paint(look, step) for step in range(STEPS))
    else:
        pictures = (_CLUTTER[kind](look),)
    width, height = pictures[0].width, pictures[0].height
    return Prop(kind, pictures, (), width, height, 0.4 + 0.15 * width, pace)
