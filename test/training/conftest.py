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

"""Training data that is made, not photographed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture(scope='session')
def training_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in the layout of the real data: a road, a sky, a car."""
    root = tmp_path_factory.mktemp('training_data')
    rng = np.random.default_rng(0)
    for name, (sky, road, car, ignore) in (
        ('cityscapes_256', (10, 0, 13, 255)),
        ('camvid', (0, 3, 8, 11)),
        ('idd_lite', (6, 0, 3, 255)),
    ):
        for kind in ('images', 'labels'):
            (root / name / 'train' / kind).mkdir(parents=True)
        for i in range(3):
            labels = np.full((80, 120), sky, np.uint8)
            labels[40:] = road
            labels[35:55, 20 + 20 * i : 50 + 20 * i] = car
            labels[:5, :5] = ignore
            image = np.stack([labels * 7, 255 - labels, labels * 3], -1).astype(np.uint8)
            image += rng.integers(0, 20, image.shape, np.uint8)
            cv2.imwrite(str(root / name / 'train' / 'images' / f'{i}.jpg'), image)
            cv2.imwrite(str(root / name / 'train' / 'labels' / f'{i}.png'), labels)
    return root
