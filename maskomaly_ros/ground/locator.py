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

"""Obstacles of a frame, put on the ground or into space.

Without depth, only the contact line of an obstacle is known to be on the ground. The rest of its
mask, projected to the ground, would smear far behind the object. Parts of the contact line that
hang in the air, such as below an outstretched arm, are left out for the same reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.ground.camera import CameraModel
from maskomaly_ros.ground.contact import ContactLine, contact_line
from maskomaly_ros.ground.pose import CameraPose
from maskomaly_ros.obstacles import Components, Obstacle

Floats = NDArray[np.float64]

POINT: Final = np.dtype(
    [
        ('x', '<f4'),
        ('y', '<f4'),
        ('z', '<f4'),
        ('score', '<f4'),
        ('id', '<u4'),
        ('range_stddev', '<f4'),
    ]
)
# The contact line breaks where it jumps by more than these: rows, and share of the height.
_STEP_PIXELS, _STEP_SHARE = 2.0, 0.15
_SIGMAS = 4.0
_NEAR_SHARE = 0.02  # of the pixels with depth, those that may be wrong
_MOST_PIXELS = 30_000  # of one obstacle that become points of depth; no costmap tells more apart


@dataclass(frozen=True)
class LocatorParameters:
    """What decides whether and how exactly a place is known.

    Attributes:
        max_range: points farther away than this, in metres along the ground, are dropped.
        pitch_uncertainty: standard deviation, in radians, of the angle between the camera and
            the ground: of a vehicle that nods, on a road that is not level.

    """

    max_range: float = 60.0
    pitch_uncertainty: float = 0.01

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0.0 < self.max_range <= 1000.0:
            raise MaskomalyError(f'max_range {self.max_range} is out of range: above 0, to 1000 m')
        if not 0.0 <= self.pitch_uncertainty <= 0.5:
            raise MaskomalyError(
                f'pitch_uncertainty {self.pitch_uncertainty} is out of range: 0 to 0.5 rad'
            )


@dataclass(frozen=True)
class Located:
    """Where the obstacles of a frame are.

    Attributes:
        points: [N] of `POINT`: metres in `frame`; the mean score and the id of the obstacle, 0 for
            none; the standard deviation of the distance from the camera, NaN for depth.
        owner: int [N], index of the obstacle of each point.
        obstacles: with their range, where one is known.
        frame: that points are in; empty for the optical frame of the camera.

    """

    points: NDArray[Any]
    owner: NDArray[np.intp]
    obstacles: tuple[Obstacle, ...]
    frame: str = ''

    def footprint(self, index: int) -> NDArray[np.float64]:
        """Return the points of one obstacle, float [n, 3], in the order of its columns."""
        own = self.points[self.owner == index]
        return np.column_stack([own[name] for name in 'xyz']).astype(np.float64)


class Locator:
    """Finds the places of the obstacles of one camera.

    Args:
        camera: for pictures as large as the masks.
        pose: where the camera is above the ground; None where nobody knows, which leaves depth.
        parameters: what is believed.

    """

    def __init__(
        self,
        camera: CameraModel,
        pose: CameraPose | None,
        parameters: LocatorParameters | None = None,
    ) -> None:
        self.camera = camera
        self.pose = pose
        self.parameters = parameters or LocatorParameters()

    def locate(self, components: Components, depth: NDArray[np.float32] | None = None) -> Located:
        """Return where the obstacles of a frame are.

        Args:
            components: of a mask as large as the pictures of the camera.
            depth: metres along the optical axis, float32 [H, W], NaN where unknown; None puts the
                contact line on the ground. Each pixel of an obstacle becomes a point; of one with
                more than 30,000, those of every n-th row and column, as few as bring it below.

        Raises:
            MaskomalyError: there is neither a pose nor depth.

        """
        if depth is not None:
            places, owner, ranges, deviations = self._from_depth(components, depth)
            found = _nearest_by_depth(ranges, owner, len(components.obstacles))
        elif self.pose is not None:
            places, owner, ranges, deviations = self._on_ground(components, self.pose)
            found = _nearest(ranges, deviations, owner, len(components.obstacles))
        else:
            raise MaskomalyError('neither the pose of the camera nor depth is known')
        obstacles = tuple(
            obstacle
            if math.isnan(near)
            else replace(obstacle, range=near, range_stddev=None if math.isnan(spread) else spread)
            for obstacle, (near, spread) in zip(components.obstacles, found.tolist(), strict=True)
        )
        points = np.zeros(len(places), POINT)
        frame = self.pose.frame if self.pose is not None else ''
        if self.pose is not None and not frame:
            places = self.pose.to_optical(places)
        for name, values in zip('xyz', places.T, strict=True):
            points[name] = values
        scores = np.array([o.mean_score for o in obstacles], np.float32)
        ids = np.array([o.id or 0 for o in obstacles], np.uint32)
        points['score'], points['id'] = scores[owner], ids[owner]
        points['range_stddev'] = deviations
        return Located(points, owner, obstacles, frame)

    def _on_ground(
        self, components: Components, pose: CameraPose
    ) -> tuple[Floats, NDArray[np.intp], Floats, Floats]:
        """Return places on the ground, their obstacle, distance and its deviation."""
        line = contact_line(components)
        middles = np.column_stack([line.column, line.row]).astype(np.float64)
        # An obstacle ends where its lowest pixel does, give or take half a pixel.
        edges = self.camera.rays(middles + np.array([0.0, 0.5]))
        half_pixel = _angle(edges, self.camera.rays(middles))
        places = pose.cast(edges)
        ranges = np.hypot(*(places - pose.position)[:, :2].T)
        # From range = height / tan(angle below the horizon).
        steepness = (ranges**2 + pose.height**2) / pose.height
        blurs = steepness * half_pixel
        deviations = np.hypot(blurs, steepness * self.parameters.pitch_uncertainty)
        good = ranges <= self.parameters.max_range  # also without NaN
        good[good] = _stands(_only(line, good), components, edges[good], ranges[good], blurs[good])
        return places[good], line.owner[good], ranges[good], deviations[good]

    def _from_depth(
        self, components: Components, depth: NDArray[np.float32]
    ) -> tuple[Floats, NDArray[np.intp], Floats, Floats]:
        labels = components.labels
        pixels = np.flatnonzero(labels)
        owner = components.owner[labels.ravel()[pixels]]
        width = self.camera.size[1]
        rows, columns = np.divmod(pixels, labels.shape[1])
        thinned = _thinned(components, owner, rows, columns)
        if thinned is not None:
            owner, rows, columns = owner[thinned], rows[thinned], columns[thinned]
        flat = (rows + components.top) * width + columns + components.left
        along = depth.ravel()[flat]
        known = (owner >= 0) & (along > 0)
        owner, flat, along = owner[known], flat[known], along[known]
        places = np.asarray(self.camera.plane.reshape(-1, 3)[flat] * along[:, None], np.float64)
        if self.pose is None:
            ranges = np.linalg.norm(places, axis=1)
        else:
            places = self.pose.to_frame(places)
            ranges = np.hypot(*(places - self.pose.position)[:, :2].T)
        good = ranges <= self.parameters.max_range
        return (
            places[good],
            owner[good],
            ranges[good],
            np.full(int(good.sum()), np.nan),
        )


def _thinned(
    components: Components, owner: NDArray[np.intp], rows: NDArray[Any], columns: NDArray[Any]
) -> NDArray[np.bool_] | None:
    """Return which pixels of large obstacles are enough; None where all are few."""
    areas = np.array([*(o.area for o in components.obstacles), 0])  # the last one is of none
    if areas.max() <= _MOST_PIXELS:
        return None
    step = np.ceil(np.sqrt(areas / _MOST_PIXELS)).astype(np.intp)
    step = np.maximum(step, 1)[owner]
    return np.asarray((rows % step == 0) & (columns % step == 0))


def _angle(a: Floats, b: Floats) -> Floats:
    """Return the small angle between rays of length 1, row by row."""
    return np.asarray(np.linalg.norm(a - b, axis=1))


def _only(line: ContactLine, kept: NDArray[np.bool_]) -> ContactLine:
    return ContactLine(line.owner[kept], line.column[kept], line.row[kept])


def _stands(
    line: ContactLine, components: Components, rays: Floats, ranges: Floats, blurs: Floats
) -> NDArray[np.bool_]:
    """Return which points of the contact line stand on the ground.

    The line is cut where it jumps. A piece that begins farther behind the nearest point of its
    obstacle than the obstacle is wide is taken to hang in the air.
    """
    if not len(ranges):
        return np.zeros(0, bool)
    heights = np.array([o.height for o in components.obstacles])[line.owner]
    new_owner = np.diff(line.owner, prepend=-1) != 0
    jump = np.abs(np.diff(line.row, prepend=line.row[0])) > _STEP_PIXELS + _STEP_SHARE * heights
    starts = np.flatnonzero(new_owner | jump | (np.diff(line.column, prepend=0) != 1))
    piece = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(ranges)))
    nearest_of_piece = np.minimum.reduceat(ranges, starts)
    blur_of_piece = np.minimum.reduceat(blurs, starts)
    first = np.flatnonzero(new_owner)
    last = np.append(first[1:], len(ranges)) - 1
    obstacle = np.cumsum(new_owner) - 1
    nearest = np.minimum.reduceat(ranges, first)
    width = nearest * _angle(rays[first], rays[last])
    of_piece = obstacle[starts]
    hangs = nearest_of_piece - _SIGMAS * blur_of_piece > nearest[of_piece] + width[of_piece]
    return np.asarray(~hangs[piece])


def _nearest(ranges: Floats, deviations: Floats, owner: NDArray[np.intp], count: int) -> Floats:
    """Return range and deviation of the nearest point of each obstacle; NaN for none."""
    found = np.full((count, 2), np.nan)
    order = np.argsort(-ranges, kind='stable')  # the nearest comes last, and stays
    found[owner[order]] = np.column_stack([ranges, deviations])[order]
    return found


def _nearest_by_depth(ranges: Floats, owner: NDArray[np.intp], count: int) -> Floats:
    """Return the range of each obstacle, of which a few pixels may be wrong."""
    found = np.full((count, 2), np.nan)
    order = np.argsort(ranges)
    order = order[np.argsort(owner[order], kind='stable')]
    first = np.flatnonzero(np.diff(owner[order], prepend=-1))
    sizes = np.diff(first, append=len(order))
    chosen = order[first + (_NEAR_SHARE * sizes).astype(np.intp)]
    found[owner[chosen], 0] = ranges[chosen]
    return found
