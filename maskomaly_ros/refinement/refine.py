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

"""What becomes of a score map after the detector: for the node, and for replay."""

from __future__ import annotations

from maskomaly_ros.detector import Detection
from maskomaly_ros.refinement.regions import Region
from maskomaly_ros.refinement.temporal import TemporalFilter, TemporalParameters


def refine(
    detection: Detection,
    stamp: int,
    region: Region,
    steady: TemporalFilter,
    parameters: TemporalParameters,
) -> Detection:
    """Return a detection with its score confined to a region and steadied over time.

    Args:
        detection: in the next frame of a camera.
        stamp: of the frame's header, in nanoseconds.
        region: of the camera.
        steady: the filter of the camera; it takes note of the frame.
        parameters: of the filter.

    Raises:
        MaskomalyError: the region does not fit the frame.

    """
    if not region and parameters.is_off:
        return detection  # and leave the score where it was computed
    score = steady.apply(
        region.apply(detection.score),
        detection.frame,
        stamp,
        detection.config.obstacle_threshold,
        parameters,
    )
    return detection if score is detection.score else detection.with_score(score)
