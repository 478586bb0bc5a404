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

from numpy.typing import NDArray

from maskomaly_ros.detector import Detection
from maskomaly_ros.refinement.regions import Region
from maskomaly_ros.refinement.temporal import SceneWatch, TemporalFilter, TemporalParameters
from maskomaly_ros.refinement.tracking import Tracker, TrackingParameters

_TRACKER = 'tracker '
_SCENE = 'tracker scene'


@dataclass(frozen=True)
class RefinementParameters:
    """What is done with detections.

    Attributes:
        temporal: how score maps are steadied.
        tracking: how obstacles are followed; None gives them no ids.

    """

    temporal: TemporalParameters = field(default_factory=TemporalParameters)
    tracking: TrackingParameters | None = field(default_factory=TrackingParameters)


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

        Its score is confined to the region and steadied, and its obstacles have ids.

        Args:
            detection: in the next frame of the camera.
            stamp: of the frame's header, in nanoseconds.
            parameters: may differ from those of the last call.

        Raises:
            MaskomalyError: the region does not fit the frame.

        """
        temporal, tracking = parameters.temporal, parameters.tracking
        if self.region or not temporal.is_off:  # else the score stays where it was computed
            score = self._filter.apply(
                self.region.apply(detection.score),
                detection.frame,
                stamp,
                detection.config.obstacle_threshold,
                temporal,
            )
            if score is not detection.score:
                detection = detection.with_score(score)
        if tracking is None:
            return detection
        self._tracker.parameters = tracking
        components = detection.components
        tracks = self._tracker.update(
            components.obstacles,
            stamp,
            is_new_scene=self._scenes.is_cut(detection.frame, temporal.cut),
        )
        followed = tuple(
            replace(obstacle, id=track.id)
            for obstacle, track in zip(components.obstacles, tracks, strict=True)
        )
        return detection.with_components(replace(components, obstacles=followed))

    def save(self) -> dict[str, NDArray[Any]]:
        """Return what it remembers of the frames so far, for `restore`."""
        kept = self._filter.save()
        kept |= {f'{_TRACKER}{name}': value for name, value in self._tracker.save().items()}
        if self._scenes.thumbnail is not None:
            kept[_SCENE] = self._scenes.thumbnail
        return kept

    def restore(self, kept: Mapping[str, NDArray[Any]], parameters: RefinementParameters) -> None:
        """Go on where another refiner with the same parameters was saved.

        Raises:
            KeyError: something is missing.

        """
        self._filter.restore(kept, parameters.temporal)
        self._tracker.restore(
            {n.removeprefix(_TRACKER): v for n, v in kept.items() if n.startswith(_TRACKER)}
        )
        self._scenes.thumbnail = kept.get(_SCENE)
