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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from maskomaly_ros.obstacles import Obstacle
from maskomaly_ros.refinement.tracking import Tracker, TrackingParameters
from maskomaly_ros.replay.journal import Journal

FEWEST_FRAMES = 2


class SeenFrame(Protocol):
    """What events are made of: of a `FrameRecord`, or of a frame that is just being written."""

    @property
    def index(self) -> int:
        """Position in the source."""

    @property
    def camera(self) -> str:
        """Its topic."""

    @property
    def stamp_ns(self) -> int:
        """Of the frame's header."""

    @property
    def obstacles(self) -> Sequence[Obstacle]:
        """What was found in it."""


@dataclass(frozen=True)
class Event:
    """One obstacle, from where it is first seen to where it is last seen.

    Attributes:
        id: of the obstacle, from 1 for each camera.
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
        range: smallest distance from the camera along the ground, in metres; None where no place
            is known.
        range_stddev: its standard deviation, in metres.

    """

    id: int
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
    range: float | None = None
    range_stddev: float | None = None


def events_of(journal: Journal) -> Iterator[Event]:
    """Return the events of a replay, with the patience that it had."""
    parameters = tracking_of(journal.identity.get('parameters', {}))
    return find_events(journal.frames(), parameters=parameters)


def tracking_of(values: Mapping[str, Any]) -> TrackingParameters:
    """Return how obstacles are followed by the parameters of a replay."""
    return TrackingParameters(
        patience=values.get('track_patience', 1.0), max_gap=values.get('temporal_max_gap', 1.0)
    )


def find_events(
    frames: Iterable[SeenFrame],
    *,
    fewest_frames: int = FEWEST_FRAMES,
    parameters: TrackingParameters | None = None,
) -> Iterator[Event]:
    """Follow obstacles from frame to frame, camera by camera.

    An event is what one id belongs to: it ends where its obstacle is last seen, and goes on over
    gaps for as long as the tracker may give its id again. Obstacles without ids are followed here.

    Args:
        frames: of any number of cameras, in the order in which they were recorded. Where the
            stamp of a frame lies before that of the last one, its obstacles are new ones.
        fewest_frames: what is seen in fewer frames is left out.
        parameters: how obstacles are, or were, followed.

    Yields:
        Events in the order in which it shows that they are over.

    """
    parameters = parameters or TrackingParameters()
    cameras: dict[str, EventFollower] = {}
    for frame in frames:
        camera = cameras.setdefault(frame.camera, EventFollower(parameters))
        for event in camera.take(frame):
            if event.frames >= fewest_frames:
                yield event
    for camera in cameras.values():
        yield from (e for e in camera.open.values() if e.frames >= fewest_frames)


class EventFollower:
    """The events of one camera, for a caller that gets its frames one by one.

    Args:
        parameters: how obstacles are, or were, followed.

    Attributes:
        open: events that may go on, by the id of their obstacle.

    """

    def __init__(self, parameters: TrackingParameters) -> None:
        self.open: dict[int, Event] = {}
        self._longest_gap_ns = parameters.longest_gap * 1e9
        self._tracker = Tracker(parameters)
        self._last_ns: int | None = None

    def take(self, frame: SeenFrame) -> Iterator[Event]:
        """Take the next frame; yield the events that are over by now."""
        yield from self._over(frame.stamp_ns)
        numbers = [obstacle.id for obstacle in frame.obstacles]
        if not numbers or None in numbers:  # that nothing is there counts as well
            tracks = self._tracker.update(frame.obstacles, frame.stamp_ns)
            numbers = [track.id for track in tracks]
        for number, obstacle in zip(numbers, frame.obstacles, strict=True):
            if number is None:
                continue
            event = self.open.get(number)
            self.open[number] = (
                _begun(frame, obstacle, number)
                if event is None
                else _extended(event, frame, obstacle)
            )

    def _over(self, stamp_ns: int) -> Iterator[Event]:
        jumped_back = self._last_ns is not None and stamp_ns < self._last_ns
        self._last_ns = stamp_ns
        over = [
            number
            for number, event in self.open.items()
            if jumped_back or stamp_ns - event.end_ns > self._longest_gap_ns
        ]
        for number in over:
            yield self.open.pop(number)


def _begun(frame: SeenFrame, obstacle: Obstacle, number: int) -> Event:
    return Event(
        id=number,
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
        range=obstacle.range,
        range_stddev=obstacle.range_stddev,
    )


def _extended(event: Event, frame: SeenFrame, obstacle: Obstacle) -> Event:
    nearest = event.range, event.range_stddev
    if obstacle.range is not None and (event.range is None or obstacle.range < event.range):
        nearest = obstacle.range, obstacle.range_stddev
    extended = replace(
        event,
        end_ns=frame.stamp_ns,
        end_index=frame.index,
        frames=event.frames + 1,
        peak_area=max(event.peak_area, obstacle.area),
        range=nearest[0],
        range_stddev=nearest[1],
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
