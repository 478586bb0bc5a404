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

"""Standardized max-logits whose statistics are those of the images themselves.

They are known only when all images have been seen. What SML needs of each, the largest s_c and its
class, waits on disk meanwhile, so that masks are summed once an image and not twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.cache import CannotWriteError, OutputCache
from maskomaly_ros.evaluation.datasets import Image, Sample, read_file
from maskomaly_ros.networks import MaskPrediction
from maskomaly_ros.scores import ClassMaxima, ClassStatistics, class_sums, compute_scores
from maskomaly_ros.scoring import ScoringParameters

__all__ = ['KeptMaxima']


class KeptMaxima:
    """Maxima and labels of images in a folder: 6 bytes a pixel.

    Args:
        folder: an empty one.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def write(
        self, name: str, prediction: MaskPrediction, maxima: ClassMaxima | None, label: Image
    ) -> None:
        """Keep an image; from any thread. Without maxima, its sums alone.

        Raises:
            CannotWriteError: it cannot be written.

        """
        self._sums[name] = class_sums(prediction) if maxima is None else maxima.sums
        if maxima is None:
            return
        path = self._path(name)
        try:
            with path.open('wb') as file:
                for each in (maxima.largest, maxima.predicted, label):
                    each.tofile(file)
        except OSError as error:
            raise CannotWriteError(f'cannot write {path}: {error.strerror}') from error
        self._shapes[name] = label.shape

    def statistics(self, names: Sequence[str], source: str) -> ClassStatistics:
        """Return the statistics of some of the images together, in this order."""
        total = self._sums[names[0]]
        for name in names[1:]:
            total = total + self._sums[name]
        return ClassStatistics.of_sums(total, source)

    def score(
        self, sample: Sample, statistics: ClassStatistics, outputs: OutputCache | None
    ) -> tuple[Tensor, Image]:
        """Return the score of an image that was kept, float32 [H, W], and its label; once.

        Args:
            sample: the image.
            statistics: of the classes.
            outputs: what the network answered, for images that came without maxima.

        Raises:
            MaskomalyError: such an image or its output is not there any more.

        """
        shape = self._shapes.get(sample.name)
        if shape is None:
            prediction = outputs.read(sample.key(read_file(sample.image))) if outputs else None
            if prediction is None:
                raise MaskomalyError(f'{sample.image} has changed while it was measured')
            found = compute_scores(prediction, ScoringParameters(), ['sml'], statistics)
            return found['sml'], sample.read_label(prediction.frame_size)
        size, path = math.prod(shape), self._path(sample.name)
        with path.open('rb') as file:
            largest = np.fromfile(file, np.float32, size).reshape(shape)
            predicted, label = np.fromfile(file, np.uint8).reshape(2, *shape)
        path.unlink()
        maxima = ClassMaxima(largest, predicted, self._sums[sample.name])
        return maxima.standardized(statistics), label

    def _path(self, name: str) -> Path:
        return self._folder / quote(name, safe='')
