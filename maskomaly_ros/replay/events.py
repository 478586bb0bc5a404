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
from dataclasses import dataclass, replace

from maskomaly_ros.obstacles import Obstacle
from maskomaly_ros.replay.journal import FrameRecord

# Boxes of one obstacle in two frames overlap by this much of their union.
_SAME_IOU = 0.2
# Frames of its camera that an obstacle may be missing from in between.
_PATIENCE = 2
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


@dataclass
class _Track:
    event: Event
    last: Obstacle
    missed: int = 0


def find_events(
    frames: Iterable[FrameRecord], *, fewest_frames: int = _FEWEST_FRAMES
) -> Iterator[Event]:
    """Follow obstacles from frame to frame, camera by camera, by the overlap of their boxes.

    An obstacle may be missing from up to two frames in between.

    Args:
        frames: in order, of any number of cameras.
        fewest_frames: what is seen in fewer frames is left out.

    Yields:
        Events in the order in which they end.

    """
    tracks: dict[str, list[_Track]] = {}
    for frame in frames:
        current = tracks.setdefault(frame.camera, [])
        _follow(frame, current)
        for track in [t for t in current if t.missed > _PATIENCE]:
            current.remove(track)
            if track.event.frames >= fewest_frames:
                yield track.event
    for current in tracks.values():
        yield from (t.event for t in current if t.event.frames >= fewest_frames)


def _follow(frame: FrameRecord, tracks: list[_Track]) -> None:
    """Continue tracks with the obstacles of a frame, best overlap first, and begin new ones."""
    pairs = sorted(
        (
            (overlap, t, o)
            for t, track in enumerate(tracks)
            for o, obstacle in enumerate(frame.obstacles)
            if (overlap := _iou(track.last, obstacle)) >= _SAME_IOU
        ),
        reverse=True,
    )
    followed: dict[int, int] = {}
    for _, t, o in pairs:
        if t not in followed and o not in followed.values():
            followed[t] = o
    for t, track in enumerate(tracks):
        if t in followed:
            obstacle = frame.obstacles[followed[t]]
            track.event = _extended(track.event, frame, obstacle)
            track.last, track.missed = obstacle, 0
        else:
            track.missed += 1
    taken = set(followed.values())
    for o, obstacle in enumerate(frame.obstacles):
        if o not in taken:
            tracks.append(_Track(_begun(frame, obstacle), obstacle))


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


def _iou(a: Obstacle, b: Obstacle) -> float:
    """Return intersection over union of two boxes."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / (a.width * a.height + b.width * b.height - common)
