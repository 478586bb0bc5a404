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

"""Obstacles are followed from frame to frame."""

from __future__ import annotations

from maskomaly_ros.obstacles import Obstacle
from maskomaly_ros.refinement.tracking import TrackingParameters
from maskomaly_ros.replay.events import find_events
from maskomaly_ros.replay.journal import FrameRecord

SECOND = 10**9


def frame(
    index: int,
    *boxes: tuple[int, int],
    camera: str = '/front',
    score: float = 0.5,
    stamp: int | None = None,
) -> FrameRecord:
    """Make a frame with obstacles of 10 x 10 pixels."""
    obstacles = tuple(Obstacle(x, y, 10, 10, 100, score, score) for x, y in boxes)
    return FrameRecord(
        index,
        camera,
        index * SECOND // 10 if stamp is None else stamp,
        '',
        640,
        480,
        score,
        0.0,
        100 * len(boxes),
        obstacles,
        {},
    )


def test_moving_obstacle_is_one_event() -> None:
    frames = [frame(i, (10 + 3 * i, 20), score=0.5 + 0.1 * (i == 4)) for i in range(8)]
    (event,) = find_events(frames)
    assert (event.start_index, event.end_index, event.frames) == (0, 7, 8)
    assert (event.start_ns, event.end_ns) == (0, 7 * SECOND // 10)
    assert (event.peak_index, event.peak_score) == (4, 0.6)
    assert event.box == (22, 20, 10, 10)


def test_obstacles_apart_are_events_of_their_own() -> None:
    events = list(find_events([frame(i, (10, 20), (200 + i, 20)) for i in range(5)]))
    assert sorted(e.box[0] for e in events) == [10, 200]
    assert {e.frames for e in events} == {5}


def test_cameras_are_apart() -> None:
    frames = [frame(i, (10, 20), camera='/front' if i % 2 else '/rear') for i in range(6)]
    assert {(e.camera, e.frames) for e in find_events(frames)} == {('/front', 3), ('/rear', 3)}


def test_short_gap_is_bridged_and_a_long_one_is_not() -> None:
    seen = [frame(0, (10, 20)), frame(1, (10, 20))]
    short = [*seen, *map(frame, range(2, 11)), frame(11, (10, 20))]
    assert [e.frames for e in find_events(short)] == [3]
    long = [*seen, *map(frame, range(2, 12)), frame(12, (10, 20)), frame(13, (10, 20))]
    assert [(e.start_index, e.frames) for e in find_events(long)] == [(0, 2), (12, 2)]


def test_the_same_box_after_an_hour_is_another_event() -> None:
    hour = 3600 * SECOND
    frames = [frame(i, (10, 20), stamp=i * SECOND // 10 + (i > 4) * hour) for i in range(10)]
    events = list(find_events(frames))
    assert [(e.start_index, e.frames) for e in events] == [(0, 5), (5, 5)]
    assert {e.end_ns - e.start_ns for e in events} == {4 * SECOND // 10}


def test_no_event_ends_before_it_starts() -> None:
    stamps = [5, 6, 7, 2, 3, 4, 9, 8]
    frames = [frame(i, (10, 20), stamp=s * SECOND // 10) for i, s in enumerate(stamps)]
    events = list(find_events(frames, fewest_frames=1))
    assert [(e.start_index, e.frames) for e in events] == [(0, 3), (3, 4), (7, 1)]
    assert all(e.end_ns >= e.start_ns for e in events)


def test_flicker_is_no_event() -> None:
    assert list(find_events([frame(0, (10, 20)), frame(1, (300, 300))])) == []
    assert len(list(find_events([frame(0, (10, 20))], fewest_frames=1))) == 1


def test_frames_without_obstacles_end_events_too() -> None:
    frames = [frame(i, *[(10, 20)] * (i not in (3, 4, 5, 6))) for i in range(10)]
    events = list(find_events(frames, parameters=TrackingParameters(patience=0.2)))
    assert [(e.start_index, e.end_index) for e in events] == [(0, 2), (7, 9)]
