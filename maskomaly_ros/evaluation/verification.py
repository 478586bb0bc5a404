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

"""Whether a checkpoint segments as well here as its authors published.

Classes in another order, channels swapped, another normalisation or masks of another scale leave
a network that runs and answers, and is worth nothing. Its mean IoU tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.datasets import Dataset
from maskomaly_ros.evaluation.images import Progress, no_progress
from maskomaly_ros.evaluation.semantics import evaluate_semantics
from maskomaly_ros.networks import Network
from maskomaly_ros.networks.known import find_known

VALIDATION_IMAGES = 500
"""Images of Cityscapes val, which published figures are of."""
TOLERANCE = 2.0
"""Points of mIoU that rounding and another way of resizing may cost."""
TOLERANCE_OF_A_PIECE = 10.0
"""The same where some of the images are missing: classes are rare, and streets differ."""
TOLERANCE_OF_SMALL_IMAGES = 60.0
"""The same where images are shrunk and labels were guessed from colours: what is left shows
whether the network works at all, and no more."""


@dataclass(frozen=True)
class Verification:
    """The mean IoU of a checkpoint, beside the published one; in percent.

    Attributes:
        mean_iou: found here.
        published: by its authors, on Cityscapes val; None where nobody has published it.
        tolerance: points that it may be lower.
        images: number of images.
        iou: of each class, by its name; NaN where no label has it.

    """

    mean_iou: float
    published: float | None
    tolerance: float
    images: int
    iou: dict[str, float]

    @property
    def is_far_off(self) -> bool:
        """Whether the checkpoint is not to be trusted."""
        return self.published is not None and not (
            self.mean_iou >= self.published - self.tolerance
        )


def verify(
    network: Network,
    dataset: Dataset,
    *,
    limit: int | None = None,
    tolerance: float | None = None,
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> Verification:
    """Measure the mean IoU of a network on Cityscapes.

    Args:
        network: with the classes of Cityscapes.
        dataset: of layout `cityscapes` or `cityscapes_256`.
        limit: number of images, evenly spread; None takes all.
        tolerance: points of mIoU that may be missing; None takes what suits the images.
        cache: folder that keeps the outputs of the network.
        progress: see `Progress`.

    Raises:
        MaskomalyError: the data set is another one, or as `evaluate_semantics`.

    """
    if not dataset.layout_name.startswith('cityscapes'):
        raise MaskomalyError(
            f'layout {dataset.layout_name} is not what published figures are of; give '
            'cityscapes:PATH or cityscapes_256:PATH'
        )
    if limit is not None and limit < len(dataset.samples):
        step = len(dataset.samples) / limit
        dataset.samples = [dataset.samples[int(i * step)] for i in range(limit)]
    found = evaluate_semantics(network, dataset, cache=cache, progress=progress)
    if tolerance is None:
        is_whole = found.images >= VALIDATION_IMAGES
        tolerance = TOLERANCE if is_whole else TOLERANCE_OF_A_PIECE
        if dataset.layout.stretch is not None:
            tolerance = TOLERANCE_OF_SMALL_IMAGES
    known = find_known(network.name)
    return Verification(
        mean_iou=100 * found.result.mean_iou,
        published=known.mean_iou if known else None,
        tolerance=tolerance,
        images=found.images,
        iou={
            name: 100 * value for name, value in zip(found.classes, found.result.iou, strict=True)
        },
    )
