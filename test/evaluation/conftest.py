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

"""A network whose masks follow from the colours of the frame, and images to go with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from drive_fixtures import bags, detector  # noqa: F401
from numpy.typing import NDArray

from maskomaly_ros.classes import CLASS_NAMES
from maskomaly_ros.evaluation.datasets import Dataset, open_dataset
from maskomaly_ros.evaluation.ordinary import OrdinaryFrames, open_ordinary
from maskomaly_ros.networks import InputSize, MaskPrediction

SIZE = (48, 64)


class ColourNetwork:
    """Four queries that see the green road, the rest, the strongly red, and nothing.

    Attributes:
        soft: value of the masks of road and rest on everything red.
        greedy: let the last query see the strongly red and the blue, and nobody else the blue.

    """

    name = 'colours'
    sha256 = '0' * 64
    device = torch.device('cpu')
    precision = 'float32'
    num_queries = 4
    class_names = CLASS_NAMES
    input_size = InputSize(48, 64)

    def __init__(self) -> None:
        self.soft = 0.02
        self.greedy = False
        self.predicted = 0

    def predict(self, frames: Sequence[NDArray[np.uint8]]) -> MaskPrediction:
        self.predicted += len(frames)
        pixels = torch.from_numpy(np.stack(frames))[:, ::4, ::4].float()
        red, green, blue = pixels.unbind(-1)
        blue = (blue > 100) & self.greedy
        known = torch.where(red > 100, self.soft, 0.02)
        masks = torch.stack(
            [
                torch.where(green > 128, 0.98, known),
                torch.where((green <= 128) & (red <= 100) & ~blue, 0.97, known),
                torch.where(red > 200, 0.95, 0.03),
                torch.where(blue | (red > 200) & self.greedy, 0.95, 0.01),
            ],
            dim=1,
        )
        classes = torch.full((4, len(CLASS_NAMES) + 1), 0.0)
        for query, label in enumerate((0, 5, -1, -1)):  # road, far objects, void, void
            classes[query, label] = 6.0
        return MaskPrediction(
            masks.logit(),
            classes.expand(len(frames), -1, -1),
            frames[0].shape[:2],
            tuple(map(float, masks.shape[-2:])),
        )


def road_scene(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return an image (RGB) and its anomaly label.

    The anomaly has a strongly red half and one of a red that only the absence of all other masks
    tells from the rest. Some sky is blue. The lowest rows are ignored.
    """
    random = np.random.default_rng(seed)
    image = random.integers(0, 60, (*SIZE, 3), np.uint8)
    image[24:, :, 1] = 200
    image[:4, :36, 2] = 200
    top, left = 4 * random.integers(2, 8), 4 * random.integers(0, 10)
    anomaly = np.s_[top : top + 12, left : left + 16]
    image[anomaly] = (150, 30, 30)
    image[top : top + 12, left : left + 8, 0] = 250
    label = np.zeros(SIZE, np.uint8)
    label[anomaly] = 1
    label[-4:] = 255
    return image, label


@pytest.fixture
def network() -> ColourNetwork:
    return ColourNetwork()


@pytest.fixture
def scenes(tmp_path: Path) -> Callable[..., Dataset]:
    """Return a function that writes road scenes as a data set of layout plain and opens it."""

    def write(images: int, *, without_anomaly: int = 0) -> Dataset:
        for folder in ('images', 'labels'):
            (tmp_path / folder).mkdir()
        for index in range(images + without_anomaly):
            image, label = road_scene(index)
            if index >= images:
                label[label == 1] = 255
            for folder, array in (('images', image[..., ::-1]), ('labels', label)):
                path = tmp_path / folder / f'scene{index}.png'
                assert cv2.imwrite(str(path), np.ascontiguousarray(array))
        return open_dataset(f'plain:{tmp_path}')

    return write


@pytest.fixture
def traffic(tmp_path: Path) -> OrdinaryFrames:
    """Return three frames of an ordinary road with something blue on it, in a folder."""
    folder = tmp_path / 'traffic'
    folder.mkdir()
    for index in range(3):
        image, label = road_scene(100 + index)
        image[label == 1] = (30, 60, 30)
        image[20:32, 8 + 8 * index : 24 + 8 * index] = (30, 30, 200)
        assert cv2.imwrite(str(folder / f'{index}.png'), np.ascontiguousarray(image[..., ::-1]))
    return open_ordinary(str(folder))
