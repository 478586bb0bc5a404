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

"""The two class lists that can be trained, and what the labels of each data set say in them.

`level1` has the seven classes of level 1 of the India Driving Dataset; every label of the data
sets names one of them, and figures are given in them. `cityscapes` has the 19 of Cityscapes; there
a label of CamVid or IDD-lite names a set of classes ('vehicles' is any of six).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.classes import (
    CAMVID_TO_CLASS,
    CITYSCAPES_TO_CLASS,
    CLASS_NAMES,
    IDD_TO_CLASS,
)
from maskomaly_ros.networks.known import CITYSCAPES_CLASSES

# What each label of a data set may be, by names of Cityscapes.
_CAMVID_SETS = (
    ('sky',),
    ('building', 'wall'),
    ('pole',),
    ('road',),
    ('sidewalk',),
    ('vegetation', 'terrain'),
    ('traffic sign', 'traffic light'),
    ('fence', 'wall'),
    ('car', 'truck', 'bus'),
    ('person',),
    ('rider', 'bicycle', 'motorcycle'),
)
_COARSE_SETS = tuple(
    tuple(CITYSCAPES_CLASSES[c] for c, coarse in CITYSCAPES_TO_CLASS.items() if coarse == i)
    for i in range(len(CLASS_NAMES))
)

# Is a label a thing that stands or moves by itself (1), background (0), or unsure (255)?
_CITYSCAPES_THINGS = (0, 0, 0, 0, 0, 255, 255, 255, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1)
_CAMVID_THINGS = (0, 0, 255, 0, 0, 0, 255, 0, 1, 1, 1)
_COARSE_THINGS = (0, 0, 1, 1, 255, 0, 0)
# Things other than vehicles, poles and signs among them; walls and fences unsure.
_CITYSCAPES_OTHERS = (0, 0, 0, 255, 255, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0)
_CAMVID_OTHERS = (0, 0, 1, 0, 0, 0, 1, 255, 0, 1, 1)
_COARSE_OTHERS = (0, 0, 1, 0, 255, 0, 0)


def _members(sets: tuple[tuple[str, ...], ...]) -> NDArray[np.float32]:
    table = np.zeros((len(sets), len(CITYSCAPES_CLASSES)), np.float32)
    for row, names in zip(table, sets, strict=True):
        row[[CITYSCAPES_CLASSES.index(name) for name in names]] = 1
    return table


@dataclass(frozen=True)
class ClassList:
    """The classes of a network, and what labels say in them.

    Attributes:
        names: the C classes.
        members: for each data set float32 [labels, C]: 1 where a label may be that class.
        like: for each class a similar one of Cityscapes, whose weights it can begin with.

    """

    names: tuple[str, ...]
    members: Mapping[str, NDArray[np.float32]]
    like: tuple[str, ...]


def _level1(table: Mapping[int, int]) -> NDArray[np.float32]:
    return np.eye(len(CLASS_NAMES), dtype=np.float32)[[table[label] for label in sorted(table)]]


CLASS_LISTS = {
    'level1': ClassList(
        CLASS_NAMES,
        {
            'cityscapes_256': _level1(CITYSCAPES_TO_CLASS),
            'camvid': _level1(CAMVID_TO_CLASS),
            'idd_lite': _level1(IDD_TO_CLASS),
            'scenes': _level1(IDD_TO_CLASS),
        },
        ('road', 'sidewalk', 'person', 'car', 'pole', 'vegetation', 'sky'),
    ),
    'cityscapes': ClassList(
        CITYSCAPES_CLASSES,
        {
            'cityscapes_256': _members(tuple((name,) for name in CITYSCAPES_CLASSES)),
            'camvid': _members(_CAMVID_SETS),
            'idd_lite': _members(_COARSE_SETS),
            'scenes': _members(_COARSE_SETS),
        },
        CITYSCAPES_CLASSES,
    ),
}
# For each origin: the targets of the queries that are taught what a thing is, [2, labels].
THINGS = {
    'cityscapes_256': np.array((_CITYSCAPES_THINGS, _CITYSCAPES_OTHERS), np.uint8),
    'camvid': np.array((_CAMVID_THINGS, _CAMVID_OTHERS), np.uint8),
    'idd_lite': np.array((_COARSE_THINGS, _COARSE_OTHERS), np.uint8),
    'scenes': np.array((_COARSE_THINGS, _COARSE_OTHERS), np.uint8),
}
# Labels that are few in pixels: views in which they show are preferred.
RARE = {
    'cityscapes_256': (3, 4, 5, 6, 7, 11, 12, 13, 14, 15, 16, 17, 18),
    'camvid': (2, 6, 7, 8, 9, 10),
    'idd_lite': (2, 3, 4),
    'scenes': (2, 3, 4),
}
