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

"""Scores and labels that are made by formulas, the same on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 240, 320
# Of each image: centre, half height and half width of its anomalies, and how clearly one shows.
ANOMALIES = (
    ((70, 60, 30, 22, 0.9), (150, 230, 18, 40, 0.55)),
    ((180, 90, 12, 14, 0.7), (60, 250, 25, 25, 0.3), (200, 280, 3, 3, 0.9)),
    ((120, 160, 45, 60, 0.8),),
)


def made_images(kind: str) -> list[tuple[NDArray[np.float16], NDArray[np.uint8]]]:
    """Return scores float16 [H, W] in [0, 1] with labels 0, 1, 255.

    `smooth` waves over the whole range; `confident` is near 0 and 1 and misses an anomaly.
    """
    images = []
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    for number, anomalies in enumerate(ANOMALIES):
        label = np.zeros((HEIGHT, WIDTH), np.uint8)
        wave = np.sin(x / 17 + number) * np.cos(y / 23 - number) + np.sin((x + 2 * y) / 61)
        score = 0.25 + wave / 8
        for row, column, high, wide, clear in anomalies:
            distance = ((y - row) / high) ** 2 + ((x - column) / wide) ** 2
            label[distance <= 1.3] = 255
            label[distance <= 1.0] = 1
            score += clear * np.exp(-distance) * (0.9 + wave / 10)
        if kind == 'confident':
            score = 1 / (1 + np.exp(-14 * (score - 0.6)))
        # Steps of a 1024th are exact in float16, so that no library's last bit matters.
        images.append(((np.clip(score, 0, 1) * 1024).round() / 1024, label))
    return [(score.astype(np.float16), label) for score, label in images]
