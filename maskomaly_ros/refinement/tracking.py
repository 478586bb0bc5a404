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

"""Follow the obstacles of one camera from frame to frame: lasting ids, and since when.

A track is matched by the overlap of its box, moved on at constant velocity to the stamp of the
frame, with the boxes of the frame; best overlap first (Bewley et al., "Simple online and realtime
tracking", ICIP 2016, with greedy assignment), then, for what is left, with boxes grown by half
their size (Yang et al., "Hard to track objects with irregular motions", WACV 2023). Only boxes
that share a cell of a grid are compared, so that the work grows with the number of obstacles and
not with its square.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.obstacles import Obstacle

__all__ = ['Track', 'Tracker', 'TrackingParameters']

Boxes = NDArray[np.float64]  # [N, 4]: left, top, right, bottom

# Boxes of one obstacle in two frames overlap by this much of their union: masks change their
# shape from frame to frame much more than the boxes that object detectors draw.
_SAME_IOU = 0.2
_GROWTH = 0.5  # of width and height on each side, for the second look
_GAIN = 0.5  # share of a deviation that goes into the velocity
_UNSTAMPED = 100_000_000  # nanoseconds that a frame counts where stamps stand still
_SHORTEST = 0.005  # seconds; stamps closer than that say nothing of a velocity
_CELLS_PER_BOX = 4.0
_SMALLEST_CELL = 8.0  # pixels


@dataclass(frozen=True)
class TrackingParameters:
    """How obstacles are followed.

    Attributes:
        minimum_frames: frames in a row in which an obstacle must be before it has an id; 1 gives
            it at once.
        patience: seconds for which an obstacle that has an id may be out of sight.
        max_gap: seconds between two frames that still follow each other.

    """

    minimum_frames: int = 1
    patience: float = 1.0
    max_gap: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 1 <= self.minimum_frames <= 255:
            raise MaskomalyError(f'minimum_frames {self.minimum_frames} is out of range: 1 to 255')
        if not 0.0 <= self.patience <= 3600.0:
            raise MaskomalyError(f'patience {self.patience} is out of range: 0 to 3600 seconds')
        if not 0.0 < self.max_gap <= 3600.0:
            raise MaskomalyError(f'max_gap {self.max_gap} is out of range: above 0, to 3600 s')

    @property
    def longest_gap(self) -> float:
        """Seconds without a sighting after which the track of an obstacle ends in any case."""
        return max(self.patience, self.max_gap)


@dataclass(frozen=True)
class Track:
    """What earlier frames tell about an obstacle of the newest one.

    Attributes:
        id: from 1, never used again; None before it was there in enough frames.
        frames: number of frames it was seen in, this one included.
        age: seconds since it was first seen.

    """

    id: int | None
    frames: int
    age: float


class Tracker:
    """Follows the obstacles of one camera.

    Args:
        parameters: how; may be replaced at any time.

    """

    def __init__(self, parameters: TrackingParameters | None = None) -> None:
        self.parameters = parameters or TrackingParameters()
        self._next_id = 1
        self._stamp: int | None = None
        self._now = 0  # nanoseconds since the first frame, in which stamps cannot stand still
        self.reset()

    def __len__(self) -> int:
        """Return the number of tracks."""
        return len(self._ids)

    @property
    def ids(self) -> frozenset[int]:
        """Ids of the obstacles that are in sight, or may come back."""
        return frozenset(self._ids[self._ids > 0].tolist())

    def reset(self) -> None:
        """End all tracks; their ids are not used again."""
        self._boxes: Boxes = np.empty((0, 4))
        self._velocities: Boxes = np.empty((0, 4))  # of the four edges, pixels a second
        self._ids = np.empty(0, np.int64)  # 0 for none yet
        self._frames = np.empty(0, np.int64)
        self._first = np.empty(0, np.int64)
        self._last = np.empty(0, np.int64)

    def update(
        self, obstacles: Sequence[Obstacle], stamp: int, *, is_new_scene: bool = False
    ) -> tuple[Track, ...]:
        """Take the obstacles of the next frame.

        Tracks end where the stamp lies before that of the last frame, and where it lies more
        than the patience after the frame in which an obstacle was last seen; one that was in the
        last frame stays for `max_gap` even where the patience is shorter.

        Args:
            obstacles: of the frame, in any order.
            stamp: of the frame, in nanoseconds. Where stamps stand still, a frame counts 0.1 s.
            is_new_scene: the frame has nothing to do with those before.

        Returns:
            One track an obstacle, in the order of obstacles.

        """
        step = 0 if self._stamp is None else stamp - self._stamp
        self._stamp = stamp
        if is_new_scene or step < 0:
            self.reset()
        before = self._now
        self._now += step if step > 0 else _UNSTAMPED
        gap = (self._now - self._last) / 1e9
        follows = (self._last == before) & (gap <= self.parameters.max_gap)
        self._drop(follows | ((self._ids > 0) & (gap <= self.parameters.patience)))
        boxes = _boxes(obstacles)
        rows, found = self._match(boxes)
        self._move_on(rows, boxes[found])
        seen = np.zeros(len(self), bool)
        seen[rows] = True
        row_of = np.full(len(boxes), -1)
        row_of[found] = rows
        # What has no id yet must be there in every frame.
        kept = seen | (self._ids > 0)
        row_of[found] = (np.cumsum(kept) - 1)[rows]
        self._drop(kept)
        self._begin(boxes, row_of)
        self._name(row_of)
        ages = (self._now - self._first) / 1e9
        return tuple(
            Track(int(self._ids[row]) or None, int(self._frames[row]), float(ages[row]))
            for row in row_of.tolist()
        )

    def save(self) -> dict[str, NDArray[Any]]:
        """Return the state after the frames so far, for `restore`."""
        clock = [self._next_id, self._now, *([] if self._stamp is None else [self._stamp])]
        return {
            'clock': np.array(clock, np.int64),
            'boxes': self._boxes,
            'velocities': self._velocities,
            'ids': self._ids,
            'frames': self._frames,
            'first': self._first,
            'last': self._last,
        }

    def restore(self, kept: Mapping[str, NDArray[Any]]) -> None:
        """Continue from the saved state of another tracker.

        Raises:
            KeyError: something is missing.

        """
        self._next_id, self._now, *stamp = (int(value) for value in kept['clock'])
        self._stamp = stamp[0] if stamp else None
        for name in ('boxes', 'velocities', 'ids', 'frames', 'first', 'last'):
            setattr(self, f'_{name}', kept[name].copy())  # the other tracker may go on, too

    def _match(self, boxes: Boxes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return rows of tracks and indices of the boxes that continue them."""
        expected = self._expected()
        rows, found = _best_pairs(expected, boxes)
        left = np.setdiff1d(np.arange(len(expected)), rows)
        free = np.setdiff1d(np.arange(len(boxes)), found)
        more_rows, more_found = _best_pairs(_grown(expected[left]), _grown(boxes[free]))
        return (
            np.concatenate([rows, left[more_rows]]),
            np.concatenate([found, free[more_found]]),
        )

    def _expected(self) -> Boxes:
        """Return where the boxes of the tracks should be by now."""
        seconds = (self._now - self._last)[:, None] / 1e9
        moved = self._boxes + seconds * self._velocities
        # Edges that would cross each other meet in the middle, and nothing grows without end.
        middle = (moved[:, :2] + moved[:, 2:]) / 2
        half = np.maximum((moved[:, 2:] - moved[:, :2]) / 2, 0.5)
        half = np.minimum(half, self._boxes[:, 2:] - self._boxes[:, :2])
        return np.hstack([middle - half, middle + half])

    def _move_on(self, rows: NDArray[np.intp], boxes: Boxes) -> None:
        seconds = np.maximum((self._now - self._last[rows])[:, None] / 1e9, _SHORTEST)
        measured = (boxes - self._boxes[rows]) / seconds
        is_second = (self._frames[rows] == 1)[:, None]
        gain = np.where(is_second, 1.0, _GAIN)
        self._velocities[rows] += gain * (measured - self._velocities[rows])
        self._boxes[rows] = boxes
        self._frames[rows] += 1
        self._last[rows] = self._now

    def _begin(self, boxes: Boxes, row_of: NDArray[np.intp]) -> None:
        new = np.flatnonzero(row_of < 0)
        row_of[new] = len(self) + np.arange(len(new))
        now = np.full(len(new), self._now, np.int64)
        self._boxes = np.concatenate([self._boxes, boxes[new]])
        self._velocities = np.concatenate([self._velocities, np.zeros((len(new), 4))])
        self._ids = np.concatenate([self._ids, np.zeros(len(new), np.int64)])
        self._frames = np.concatenate([self._frames, np.ones(len(new), np.int64)])
        self._first = np.concatenate([self._first, now])
        self._last = np.concatenate([self._last, now])

    def _name(self, row_of: NDArray[np.intp]) -> None:
        """Give ids to obstacles that were there often enough, in the order of the frame."""
        due = (self._ids[row_of] == 0) & (self._frames[row_of] >= self.parameters.minimum_frames)
        self._ids[row_of[due]] = self._next_id + np.arange(due.sum())
        self._next_id += int(due.sum())

    def _drop(self, kept: NDArray[np.bool_]) -> None:
        if kept.all():
            return
        for name in ('_boxes', '_velocities', '_ids', '_frames', '_first', '_last'):
            setattr(self, name, getattr(self, name)[kept])


def _boxes(obstacles: Sequence[Obstacle]) -> Boxes:
    corners = [(o.x, o.y, o.x + o.width, o.y + o.height) for o in obstacles]
    return np.array(corners, np.float64).reshape(-1, 4)


def _grown(boxes: Boxes) -> Boxes:
    reach = _GROWTH * (boxes[:, 2:] - boxes[:, :2])
    return np.hstack([boxes[:, :2] - reach, boxes[:, 2:] + reach])


def _best_pairs(tracks: Boxes, boxes: Boxes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pairs that belong together, best overlap first, each track and box once."""
    rows, found = _neighbours(tracks, boxes)
    overlaps = _iou(tracks[rows], boxes[found])
    same = overlaps >= _SAME_IOU
    rows, found, overlaps = rows[same], found[same], overlaps[same]
    order = np.lexsort((found, rows, -overlaps))
    pairs: list[tuple[int, int]] = []
    taken_rows: set[int] = set()
    taken: set[int] = set()
    for row, index in zip(rows[order].tolist(), found[order].tolist(), strict=True):
        if row not in taken_rows and index not in taken:
            taken_rows.add(row)
            taken.add(index)
            pairs.append((row, index))
    chosen = np.array(pairs, np.intp).reshape(-1, 2)
    return chosen[:, 0], chosen[:, 1]


def _neighbours(a: Boxes, b: Boxes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of all pairs of boxes that share a cell of a grid, each pair once."""
    if not (len(a) and len(b)):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    both = np.concatenate([a, b])
    low = both[:, :2].min(axis=0)
    extent = np.maximum(both[:, 2:].max(axis=0) - low, 1.0)
    # About as many cells as boxes, or as many as large boxes cover a few of each.
    size = np.sqrt(max(extent.prod() / len(both), (both[:, 2:] - both[:, :2]).prod(axis=1).mean()))
    size = max(float(size) / np.sqrt(_CELLS_PER_BOX), _SMALLEST_CELL)
    keys_a, of_a = _cells(a - np.tile(low, 2), size)
    keys_b, of_b = _cells(b - np.tile(low, 2), size)
    order = np.argsort(keys_b, kind='stable')
    keys_b, of_b = keys_b[order], of_b[order]
    first = np.searchsorted(keys_b, keys_a, 'left')
    count = np.searchsorted(keys_b, keys_a, 'right') - first
    pairs = np.unique(np.repeat(of_a, count) * len(b) + of_b[_ranges(first, count)])
    return pairs // len(b), pairs % len(b)


def _cells(boxes: Boxes, size: float) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Return the number of each cell that a box covers, and the index of that box."""
    cells = np.floor(boxes / size).astype(np.int64)
    columns, rows = (cells[:, 2:] - cells[:, :2] + 1).T
    owner = np.repeat(np.arange(len(boxes)), columns * rows)
    place = _ranges(np.zeros(len(boxes), np.int64), columns * rows)
    row, column = place // columns[owner], place % columns[owner]
    return ((cells[owner, 1] + row) << 32) + cells[owner, 0] + column, owner


def _ranges(first: NDArray[Any], count: NDArray[Any]) -> NDArray[np.int64]:
    """Return first[0], first[0] + 1, ... count[0] numbers, then those of the next, and so on."""
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.arange(total) + np.repeat(first - ends + count, count), np.int64)


def _iou(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Return intersection over union of boxes, row by row."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    common = np.maximum(sides, 0).prod(axis=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    return np.asarray(common / (areas[0] + areas[1] - common))
