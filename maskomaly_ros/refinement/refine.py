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

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.detector import Detection
from maskomaly_ros.obstacles import Components, Obstacle
from maskomaly_ros.refinement.regions import Region
from maskomaly_ros.refinement.temporal import SceneWatch, TemporalFilter, TemporalParameters
from maskomaly_ros.refinement.tracking import Tracker, TrackingParameters

_TRACKER = 'tracker '
_SCENE = 'scene '


@dataclass(frozen=True)
class RefinementParameters:
    """What is done with detections.

    Attributes:
        temporal: how score maps are steadied.
        tracking: how obstacles are followed, and how often they must be there to be reported.
        ids: give obstacles the ids that the tracker has for them.

    """

    temporal: TemporalParameters = field(default_factory=TemporalParameters)
    tracking: TrackingParameters = field(default_factory=TrackingParameters)
    ids: bool = True

    @property
    def holds_back(self) -> bool:
        """Whether an obstacle is reported only after a number of frames."""
        return self.tracking.minimum_frames > 1

    @property
    def follows(self) -> bool:
        """Whether obstacles are followed from frame to frame."""
        return self.ids or self.holds_back

    @property
    def remembers(self) -> bool:
        """Whether a result depends on frames before."""
        return self.follows or not self.temporal.is_off


class Refiner:
    """What the detections of one camera go through: region, filter over time, tracker.

    Args:
        region: where obstacles of the camera matter.

    """

    def __init__(self, region: Region | None = None) -> None:
        self.region = region or Region()
        self._filter = TemporalFilter()
        self._tracker = Tracker()
        self._scenes = SceneWatch()

    def reset(self) -> None:
        """Forget all frames so far; ids are not used again."""
        self._filter.reset()
        self._tracker.reset()
        self._scenes = SceneWatch()

    def apply(
        self, detection: Detection, stamp: int, parameters: RefinementParameters
    ) -> Detection:
        """Return the refined detection in the next frame.

        Its score is confined to the region and steadied, and its obstacles have ids. Obstacles
        that were not there in enough frames, and what is too small to be one, have their score
        lowered to the threshold, so that mask and obstacles leave them out and the heatmap still
        hints at them.

        Args:
            detection: in the next frame of the camera.
            stamp: of the frame's header, in nanoseconds.
            parameters: may differ from those of the last call.

        Raises:
            MaskomalyError: the region does not fit the frame.

        """
        temporal = parameters.temporal
        if self.region or not temporal.is_off:  # else the score stays where it was computed
            score = self._filter.apply(
                self.region.apply(detection.score),
                detection.frame,
                stamp,
                temporal,
            )
            if score is not detection.score:
                detection = detection.with_score(score)
        if not parameters.follows:
            return detection
        self._tracker.parameters = parameters.tracking
        components = detection.components
        tracks = self._tracker.update(
            components.obstacles,
            stamp,
            is_new_scene=self._scenes.is_cut(detection.frame, temporal.cut),
        )
        followed: list[Obstacle | None] = [
            None if track.id is None else replace(o, id=track.id if parameters.ids else None)
            for o, track in zip(components.obstacles, tracks, strict=True)
        ]
        known = components.chosen(followed)
        if parameters.holds_back:
            detection = _without_others(detection, known)
        return detection.with_components(known)

    def save(self) -> dict[str, NDArray[Any]]:
        """Return what it remembers of the frames so far, for `restore`."""
        kept = self._filter.save()
        kept |= {f'{_TRACKER}{name}': value for name, value in self._tracker.save().items()}
        kept |= {f'{_SCENE}{name}': value for name, value in self._scenes.save().items()}
        return kept

    def restore(self, kept: Mapping[str, NDArray[Any]], parameters: RefinementParameters) -> None:
        """Go on where another refiner with the same parameters was saved.

        Raises:
            KeyError: something is missing.

        """
        self._filter.restore(kept, parameters.temporal)
        self._tracker.restore(_named(kept, _TRACKER))
        self._scenes.restore(_named(kept, _SCENE))


def _named(kept: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {n.removeprefix(prefix): v for n, v in kept.items() if n.startswith(prefix)}


def _without_others(detection: Detection, reported: Components) -> Detection:
    """Return the detection with the score of all other components lowered to the threshold."""
    labels = reported.labels
    other = (reported.owner < 0)[labels] & (labels > 0)
    if not other.any():
        return detection
    score = detection.score.copy()
    rows, columns = labels.shape
    part = score[reported.top : reported.top + rows, reported.left : reported.left + columns]
    # Rounding must not lift it above the threshold.
    threshold = np.float32(detection.config.obstacle_threshold)
    part[other] = np.nextafter(threshold, np.float32(0))
    return detection.with_score(score)
