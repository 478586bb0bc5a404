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

"""From the messages of our node to obstacles: what the recorder understands of what it records."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.node.health import stamp_of
from maskomaly_ros.obstacles import Obstacle, find_obstacles
from maskomaly_ros.recorder import decoding
from maskomaly_ros.recorder.triggers import with_ranges
from maskomaly_ros.topics import outputs_of

OnObstacles = Callable[[str, int, 'tuple[Obstacle, ...]'], object]
_RANGES_LAST_NS = 1_000_000_000
_MOST_WAITING = 4


class _Ranges(NamedTuple):
    stamp_ns: int
    by_id: dict[int, tuple[float, float | None]]


class Observer:
    """Reads obstacles, ranges and facts of the network from messages.

    With the source `obstacles` ids and ranges are the node's. With `mask`, of mask and heatmap,
    area and score are those of the pixels, and nothing is known of ids and ranges.

    Args:
        cameras: topics.
        source: `obstacles`, `mask` or `none`.
        max_pixels: larger masks are refused.
        on_obstacles: called with camera, stamp and obstacles of each frame.

    Attributes:
        facts: what the node's diagnostics say of checkpoint and queries.
        refused: messages that could not be read.
        problem: why the last of them could not; empty where none was.

    """

    def __init__(
        self, cameras: tuple[str, ...], source: str, max_pixels: int, on_obstacles: OnObstacles
    ) -> None:
        self._max_pixels = max_pixels
        self._on_obstacles = on_obstacles
        self.facts: dict[str, str] = {}
        self.refused = 0
        self.problem = ''
        self._ranges: dict[str, _Ranges] = {}
        # Of each camera, masks and heatmaps that wait for the other one of their stamp.
        self._waiting: dict[str, dict[int, tuple[str, bytes]]] = {}
        self._handlers: dict[str, Callable[[bytes], None]] = {'/diagnostics': self._diagnostics}
        for camera in cameras:
            place = outputs_of(camera)
            if source == 'obstacles':
                self._handlers[f'{place}/obstacles'] = self._bound(self._obstacles, camera)
                self._handlers[f'{place}/points'] = self._bound(self._points, camera)
            elif source == 'mask':
                for name in ('mask', 'heatmap'):
                    self._handlers[f'{place}/{name}'] = self._half(camera, name)

    @property
    def topics(self) -> frozenset[str]:
        """What it has to be shown."""
        return frozenset(self._handlers)

    def receive(self, topic: str, data: bytes) -> None:
        """Look at a message."""
        handler = self._handlers.get(topic)
        if handler is None:
            return
        try:
            handler(data)
        except MaskomalyError as error:
            self.refused += 1
            self.problem = f'{topic}: {error}'

    def _bound(self, handler: Callable[[str, bytes], None], camera: str) -> Callable[..., None]:
        return lambda data: handler(camera, data)

    def _half(self, camera: str, name: str) -> Callable[[bytes], None]:
        return lambda data: self._pair(camera, name, data)

    def _diagnostics(self, data: bytes) -> None:
        self.facts = decoding.decode_network_facts(data) or self.facts

    def _points(self, camera: str, data: bytes) -> None:
        self._ranges[camera] = _Ranges(stamp_of(data) or 0, decoding.decode_ranges(data))

    def _obstacles(self, camera: str, data: bytes) -> None:
        stamp = stamp_of(data) or 0
        found = decoding.decode_obstacles(data)
        ranges = self._ranges.get(camera)
        if ranges is not None and abs(stamp - ranges.stamp_ns) <= _RANGES_LAST_NS:
            found = with_ranges(found, ranges.by_id)
        self._on_obstacles(camera, stamp, found)

    def _pair(self, camera: str, name: str, data: bytes) -> None:
        stamp = stamp_of(data) or 0
        waiting = self._waiting.setdefault(camera, {})
        other, its_data = waiting.pop(stamp, (name, b''))
        if other == name:
            waiting[stamp] = name, data
            if len(waiting) > _MOST_WAITING:
                del waiting[next(iter(waiting))]
            return
        halves = {name: data, other: its_data}
        mask = decoding.decode_mask(halves['mask'], self._max_pixels)
        found: tuple[Obstacle, ...] = ()
        if mask.any():  # the larger message is looked at only where it says something
            score = decoding.decode_heatmap(halves['heatmap'], self._max_pixels)
            found = find_obstacles(score, mask)
        self._on_obstacles(camera, stamp, found)
