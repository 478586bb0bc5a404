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

"""Obstacles that are seen over consecutive frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from maskomaly_ros.obstacles import Obstacle
from maskomaly_ros.refinement.tracking import Tracker, TrackingParameters
from maskomaly_ros.replay.journal import FrameRecord

_FEWEST_FRAMES = 2


@dataclass(frozen=True)
class Event:
    """One obstacle, from where it is first seen to where it is last seen.

    Attributes:
        camera: topic, or name of the source outside bags.
        start_ns: stamp of the first frame.
        end_ns: stamp of the last frame.
        start_index: index of the first frame.
        end_index: index of the last frame.
        frames: number of frames that it is seen in.
        peak_score: largest score.
        peak_area: largest area, in pixels.
        peak_index: index of the frame with the largest score.
        peak_ns: stamp of that frame.
        box: x, y, width, height in that frame, in pixels.

    """

    camera: str
    start_ns: int
    end_ns: int
    start_index: int
    end_index: int
    frames: int
    peak_score: float
    peak_area: int
    peak_index: int
    peak_ns: int
    box: tuple[int, int, int, int]


def find_events(
    frames: Iterable[FrameRecord],
    *,
    fewest_frames: int = _FEWEST_FRAMES,
    parameters: TrackingParameters | None = None,
) -> Iterator[Event]:
    """Follow obstacles from frame to frame, camera by camera.

    An event is what one id of a `Tracker` belongs to: it ends where its obstacle is last seen, and
    goes on over gaps no longer than the patience.

    Args:
        frames: of any number of cameras, in the order in which they were recorded. Where the
            stamp of a frame lies before that of the last one, its obstacles are new ones.
        fewest_frames: what is seen in fewer frames is left out.
        parameters: how obstacles are followed.

    Yields:
        Events in the order in which it shows that they are over.

    """
    parameters = parameters or TrackingParameters()
    cameras: dict[str, _Camera] = {}
    for frame in frames:
        camera = cameras.setdefault(frame.camera, _Camera(Tracker(parameters)))
        for event in camera.take(frame):
            if event.frames >= fewest_frames:
                yield event
    for camera in cameras.values():
        yield from (e for e in camera.open.values() if e.frames >= fewest_frames)


@dataclass
class _Camera:
    """The events of one camera that may go on."""

    tracker: Tracker
    open: dict[int, Event] = field(default_factory=dict)

    def take(self, frame: FrameRecord) -> Iterator[Event]:
        """Take the next frame; yield the events that are over by now."""
        tracks = self.tracker.update(frame.obstacles, frame.stamp_ns)
        for track, obstacle in zip(tracks, frame.obstacles, strict=True):
            if track.id is None:
                continue
            event = self.open.get(track.id)
            self.open[track.id] = (
                _begun(frame, obstacle) if event is None else _extended(event, frame, obstacle)
            )
        alive = self.tracker.ids
        for number in [n for n in self.open if n not in alive]:
            yield self.open.pop(number)


def _begun(frame: FrameRecord, obstacle: Obstacle) -> Event:
    return Event(
        camera=frame.camera,
        start_ns=frame.stamp_ns,
        end_ns=frame.stamp_ns,
        start_index=frame.index,
        end_index=frame.index,
        frames=1,
        peak_score=obstacle.max_score,
        peak_area=obstacle.area,
        peak_index=frame.index,
        peak_ns=frame.stamp_ns,
        box=(obstacle.x, obstacle.y, obstacle.width, obstacle.height),
    )


def _extended(event: Event, frame: FrameRecord, obstacle: Obstacle) -> Event:
    extended = replace(
        event,
        end_ns=frame.stamp_ns,
        end_index=frame.index,
        frames=event.frames + 1,
        peak_area=max(event.peak_area, obstacle.area),
    )
    # Of equal scores the larger view shows more.
    if (obstacle.max_score, obstacle.area) <= (event.peak_score, event.box[2] * event.box[3]):
        return extended
    return replace(
        extended,
        peak_score=obstacle.max_score,
        peak_index=frame.index,
        peak_ns=frame.stamp_ns,
        box=(obstacle.x, obstacle.y, obstacle.width, obstacle.height),
    )
