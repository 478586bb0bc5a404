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

"""What an event looks like at its peak."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.obstacles import Obstacle
from maskomaly_ros.refinement.tracking import TrackingParameters
from maskomaly_ros.replay.events import FEWEST_FRAMES, Event, EventFollower
from maskomaly_ros.replay.outputs import Output, Result

THUMBNAIL_SIZE = (160, 110)
_QUALITY = 90

_Key = tuple[str, int, int]


def cut_out(
    picture: NDArray[np.uint8], box: tuple[int, int, int, int], scale: float = 1.0
) -> NDArray[np.uint8]:
    """Return an obstacle with what is around it, RGB uint8, of `THUMBNAIL_SIZE`.

    Args:
        picture: RGB uint8 [H, W, 3].
        box: x, y, width, height of the obstacle, in pixels of the frame.
        scale: width of the picture over that of the frame.

    """
    x, y, width, height = (value * scale for value in box)
    # Twice the box, of one shape, inside the picture: what is around tells what it is.
    wide, tall = THUMBNAIL_SIZE
    factor = max(2 * width / wide, 2 * height / tall, 0.5)
    factor = min(factor, picture.shape[1] / wide, picture.shape[0] / tall)
    span = round(wide * factor), round(tall * factor)
    left = round(min(max(x + width / 2 - span[0] / 2, 0), picture.shape[1] - span[0]))
    top = round(min(max(y + height / 2 - span[1] / 2, 0), picture.shape[0] - span[1]))
    cropped = picture[top : top + span[1], left : left + span[0]]
    return np.asarray(
        cv2.resize(np.ascontiguousarray(cropped), (wide, tall), interpolation=cv2.INTER_AREA),
        np.uint8,
    )


@dataclass(frozen=True)
class _Seen:
    """A frame that is being written, as `EventFollower` takes it."""

    index: int
    camera: str
    stamp_ns: int
    obstacles: Sequence[Obstacle]


class Thumbnails(Output):
    """Cut-outs of the highest events, in memory: nothing is written.

    Args:
        most: events to keep, those with the highest peaks.
        parameters: how obstacles are followed.

    """

    name = 'thumbnails'
    draws_overlay = False  # at peaks alone

    def __init__(self, most: int, parameters: TrackingParameters) -> None:
        super().__init__(Path(), Path())
        self._most = most
        self._parameters = parameters
        self._followers: dict[str, EventFollower] = {}
        self._open: dict[_Key, bytes] = {}
        self._over: list[tuple[float, int, _Key, bytes]] = []  # a heap, the lowest first

    def write(self, result: Result) -> None:
        """Look at one frame."""
        frame, camera = result.frame, result.camera
        follower = self._followers.setdefault(camera, EventFollower(self._parameters))
        seen = _Seen(frame.index, camera, frame.stamp_ns, result.detection.obstacles)
        self._keep(follower.take(seen))
        for event in follower.open.values():
            if event.peak_index == frame.index:
                image = cut_out(result.overlay, event.box)
                options = (cv2.IMWRITE_JPEG_QUALITY, _QUALITY)
                bgr = np.ascontiguousarray(image[..., ::-1])
                self._open[_key(event)] = bytes(cv2.imencode('.jpg', bgr, options)[1])

    def images(self) -> dict[_Key, bytes]:
        """Return JPEG files of the highest events by camera, id and index of the first frame."""
        for follower in self._followers.values():
            self._keep(follower.open.values())
        return {key: data for _, _, key, data in self._over}

    def _keep(self, events: Iterable[Event]) -> None:
        for event in events:
            key = _key(event)
            data = self._open.pop(key)
            if event.frames < FEWEST_FRAMES:
                continue
            heapq.heappush(self._over, (event.peak_score, event.peak_area, key, data))
            if len(self._over) > self._most:
                heapq.heappop(self._over)


def _key(event: Event) -> _Key:
    return event.camera, event.id, event.start_index
