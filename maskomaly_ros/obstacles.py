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

"""From the score map to the obstacle mask, and from the mask to single obstacles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError

__all__ = ['Components', 'Obstacle', 'find_components', 'find_obstacles', 'obstacle_mask']

_BACKGROUND = 0  # label of what belongs to no component


@dataclass(frozen=True)
class Obstacle:
    """Describe one 8-connected component of the obstacle mask.

    Attributes:
        x: Left edge of the box, in pixels.
        y: Top edge of the box, in pixels.
        width: Width of the box, in pixels.
        height: Height of the box, in pixels.
        area: Number of pixels of the component itself.
        mean_score: Mean score over those pixels.
        max_score: Largest score of those pixels.
        id: Number that lasts from frame to frame, from 1; None where nobody followed it.
        range: Distance from the camera along the ground (straight, where only depth is known), in
            metres; None where it is unknown.
        range_stddev: Standard deviation of the range, in metres; None where it is unknown.

    """

    x: int
    y: int
    width: int
    height: int
    area: int
    mean_score: float
    max_score: float
    id: int | None = None
    range: float | None = None
    range_stddev: float | None = None


@dataclass(frozen=True)
class Components:
    """The obstacles of a mask, and which pixels are whose.

    Attributes:
        obstacles: In the order of find_obstacles.
        labels: int32 [h, w], numbers of the components in a part of the mask; 0 for none. All of
            the obstacles are inside of that part.
        left: Column of the mask in which the part begins.
        top: Row of the mask in which it begins.
        owner: int [K], index of the obstacle that a number of labels belongs to; -1 for none.

    """

    obstacles: tuple[Obstacle, ...]
    labels: NDArray[np.int32]
    left: int
    top: int
    owner: NDArray[np.intp]

    def chosen(self, obstacles: Sequence[Obstacle | None]) -> Components:
        """Return other obstacles in place of these, and none in place of None."""
        kept = [index for index, obstacle in enumerate(obstacles) if obstacle is not None]
        renamed = np.full(len(obstacles) + 1, -1)  # the last one stands for none
        renamed[kept] = np.arange(len(kept))
        return replace(
            self,
            obstacles=tuple(o for o in obstacles if o is not None),
            owner=renamed[self.owner],
        )


def obstacle_mask(score: NDArray[np.floating[Any]], threshold: float) -> NDArray[np.uint8]:
    """Return where the score lies above a threshold, strictly.

    Args:
        score: Score map [H, W], any float type.
        threshold: Obstacle threshold in [0, 1].

    Returns:
        uint8 [H, W]: 255 where score > threshold, else 0.

    Raises:
        MaskomalyError: Where score is no map of finite numbers or threshold is out of range.

    """
    score = _checked_score(score)
    if not 0 <= threshold <= 1:  # also refuses NaN
        raise MaskomalyError(f'the obstacle threshold is {threshold}; it must lie from 0 to 1')
    mask: NDArray[np.uint8] = (score > float(threshold)).view(np.uint8) * np.uint8(255)
    return mask


def find_obstacles(
    score: NDArray[np.floating[Any]], mask: NDArray[np.uint8], minimum_area: int = 0
) -> tuple[Obstacle, ...]:
    """Return the 8-connected components of an obstacle mask.

    Args:
        score: Score map [H, W] from which mask was made, any float type.
        mask: Obstacle mask [H, W], uint8 (or bool); whatever is not 0 belongs to an obstacle.
        minimum_area: Components of fewer pixels are left out.

    Returns:
        Obstacles, largest area first; of equal areas the upper, then the left one first.

    Raises:
        MaskomalyError: Where score is no map of finite numbers, mask does not fit it, or
            minimum_area is negative.

    """
    return find_components(score, mask, minimum_area).obstacles


def find_components(
    score: NDArray[np.floating[Any]], mask: NDArray[np.uint8], minimum_area: int = 0
) -> Components:
    """Return what find_obstacles returns, with the pixels of each obstacle."""
    score = _checked_score(score)
    mask = np.asarray(mask)
    if mask.dtype not in (np.uint8, np.bool_):
        raise MaskomalyError(f'the obstacle mask holds {mask.dtype}; it must be uint8')
    if mask.shape != score.shape:
        raise MaskomalyError(
            f'the obstacle mask is {mask.shape} and the score map {score.shape}: '
            'they must be of one size'
        )
    if not minimum_area >= 0:
        raise MaskomalyError(f'the minimum area is {minimum_area}; it must be 0 or more')

    mask = np.ascontiguousarray(mask).view(np.uint8)
    left, top, columns, rows = cv2.boundingRect(mask)  # most of a frame has no obstacle
    if columns == 0:
        nowhere = np.empty((0, 0), np.int32)
        return Components((), nowhere, 0, 0, np.full(1, -1))
    inside = np.s_[top : top + rows, left : left + columns]
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(
        mask[inside], connectivity=8, ltype=cv2.CV_32S
    )
    pixels = np.flatnonzero(labels)
    labels_of_pixels = labels.ravel()[pixels].astype(np.intp)
    scores_of_pixels = score[inside].ravel()[pixels]
    total = np.bincount(labels_of_pixels, scores_of_pixels, count)
    largest = np.full(count, -math.inf, score.dtype)
    np.maximum.at(largest, labels_of_pixels, scores_of_pixels)

    x, y, width, height, area = boxes.T
    order = np.lexsort((x, y, -area))
    kept = order[(order != _BACKGROUND) & (area[order] >= minimum_area)]
    owner = np.full(count, -1)
    owner[kept] = np.arange(len(kept))
    obstacles = tuple(
        Obstacle(*values)
        for values in zip(
            (x + left)[kept].tolist(),
            (y + top)[kept].tolist(),
            width[kept].tolist(),
            height[kept].tolist(),
            area[kept].tolist(),
            (total[kept] / area[kept]).tolist(),
            largest[kept].tolist(),
            strict=True,
        )
    )
    return Components(obstacles, np.asarray(labels, np.int32), left, top, owner)


def _checked_score(score: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    score = np.asarray(score)
    if not np.issubdtype(score.dtype, np.floating):
        raise MaskomalyError(f'the score map holds {score.dtype}; it must hold floats')
    if score.ndim != 2 or score.size == 0:
        raise MaskomalyError(f'the score map is {score.shape}; it must be [height, width]')
    lowest, highest = score.min(), score.max()  # NaN shows in both
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise MaskomalyError(
            'the score map holds NaN or infinity; a score lies from 0 (known) to 1 (anomalous)'
        )
    return score
