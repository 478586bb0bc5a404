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

"""The classes that figures are given in: level 1 of the India Driving Dataset."""

from __future__ import annotations

IGNORE = 255
CLASS_NAMES = (
    'drivable',
    'non-drivable',
    'living things',
    'vehicles',
    'roadside objects',
    'far objects',
    'sky',
)
IDD_TO_CLASS = {i: i for i in range(7)}
CAMVID_TO_CLASS = {
    0: 6,  # sky
    1: 5,  # building
    2: 4,  # pole
    3: 0,  # road
    4: 1,  # pavement
    5: 5,  # tree
    6: 4,  # sign
    7: 4,  # fence
    8: 3,  # car
    9: 2,  # pedestrian
    10: 2,  # bicyclist
}
CITYSCAPES_TO_CLASS = {
    0: 0,  # road
    1: 1,  # sidewalk
    2: 5,  # building
    3: 4,  # wall
    4: 4,  # fence
    5: 4,  # pole
    6: 4,  # traffic light
    7: 4,  # traffic sign
    8: 5,  # vegetation
    9: 1,  # terrain
    10: 6,  # sky
    11: 2,  # person
    12: 2,  # rider
    13: 3,  # car
    14: 3,  # truck
    15: 3,  # bus
    16: 3,  # train
    17: 3,  # motorcycle
    18: 3,  # bicycle
}
