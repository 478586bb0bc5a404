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

"""Where the road is, as evidence for or against an obstacle: what stands in the road counts more.

The road is where the network's own semantic map says so, and what that encloses: a hole in the
road is something that stands on it. Off the road nothing is in the way. Both are said softly, by
odds: those of the score are multiplied by exp(weight · evidence), so that 0 stays 0, 1 stays 1,
and no evidence changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from maskomaly_ros.networks import MaskPrediction

__all__ = ['find_road_classes', 'road_evidence', 'weigh']

ROAD_NAMES: Final = ('road', 'drivable', 'drivable area', 'driveable area', 'lane marking')
_ROWS = 128  # of the semantic map; finer ones cost time and say no more
_SMALLEST_SHARE = 0.02  # of the map; less is no road but a mistake
_FAR_SHARE = 0.1  # of the height of the map, from which on all is off the road alike


def find_road_classes(names: Sequence[str]) -> tuple[int, ...]:
    """Return the indices of the classes that are road; none where no name says so."""
    return tuple(i for i, name in enumerate(names) if name.lower() in ROAD_NAMES)


def road_evidence(prediction: MaskPrediction, road: Collection[int]) -> Tensor:
    """Return how much speaks for something in the way.

    Args:
        prediction: of B frames.
        road: indices of the classes that are road.

    Returns:
        float32 [B, H, W]: 1 in holes of the road, 0 on the road and where no road is found, −1 far
        off it; on the device of the prediction.

    """
    height, width = prediction.frame_size
    scale = min(1.0, _ROWS / height)
    small = max(1, round(height * scale)), max(1, round(width * scale))
    classes = prediction.resized(small).semantic_map().cpu().numpy()
    found = np.stack([_evidence(np.isin(frame, list(road))) for frame in classes])
    maps = torch.from_numpy(found).to(prediction.device)[:, None]
    return F.interpolate(maps, (height, width), mode='bilinear', align_corners=False)[:, 0]


def weigh(score: Tensor, evidence: Tensor, weight: float) -> Tensor:
    """Return a score whose odds were multiplied by exp(weight · evidence).

    Args:
        score: float32 in [0, 1].
        evidence: of the same shape.
        weight: 0 leaves the score as it is.

    """
    factor = (weight * evidence).exp_()
    raised = score * factor
    return raised / (1 - score + raised)


def _evidence(road: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the evidence of one small map, float32 [h, w]."""
    closed = cv2.morphologyEx(road.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    least = _SMALLEST_SHARE * road.size
    large = [each for each in outlines if cv2.contourArea(each) >= least]
    if not large:
        return np.zeros(road.shape, np.float32)
    filled = np.zeros(road.shape, np.uint8)
    cv2.drawContours(filled, large, -1, 1, cv2.FILLED)
    away = cv2.distanceTransform(1 - filled, cv2.DIST_L2, cv2.DIST_MASK_5)
    off = np.minimum(away / (_FAR_SHARE * road.shape[0]), 1.0)
    hole = (filled == 1) & ~road
    found = np.where(hole, 1.0, -off).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(found, (0, 0), 1.0), np.float32)
