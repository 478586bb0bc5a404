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

"""The depth images of a recording that belong to the frames of one camera, by stamp."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from typing import Any

from maskomaly_ros.drives.source import Source, SourceFrame

_LOG = logging.getLogger(__name__)

# Nanoseconds between the recording of a frame and of its depth image.
_APART = 1_000_000_000


class DepthImages:
    """Finds the depth image of each frame of one camera.

    A node takes what came before the frame's turn; here the nearest by stamp is found, also where
    it was recorded after the frame.

    Args:
        source: the recording.
        topic: of `sensor_msgs/Image`.
        tolerance: seconds between the stamps of a frame and of its depth image.

    """

    def __init__(self, source: Source, topic: str, tolerance: float) -> None:
        self._source = source
        self._topic = topic
        self._tolerance_ns = tolerance * 1e9
        self._messages: Iterator[tuple[int, Any]] | None = None
        self._near: deque[tuple[int, int, Any]] = deque()  # recorded, stamp, message
        self._is_over = False

    def of(self, frame: SourceFrame) -> Any | None:
        """Return the depth image of the next frame; None where there is none.

        Frames come in the order of their recording; the first one may be any.
        """
        if frame.message is None:
            return None
        received, stamp = frame.message.received_ns, frame.header_ns
        while self._near and self._near[0][0] < received - _APART:
            self._near.popleft()
        while not self._near or (
            self._near[-1][0] < received + _APART and self._near[-1][1] < stamp
        ):
            if not self._read(received - _APART):
                break
        if not self._near:
            return None
        recorded, near, message = min(self._near, key=lambda known: abs(known[1] - stamp))
        while self._near[0][0] < recorded:  # frames ascend as well
            self._near.popleft()
        return message if abs(near - stamp) <= self._tolerance_ns else None

    def _read(self, start: int) -> bool:
        """Keep the next image; return whether there was one."""
        if self._is_over:
            return False
        try:
            if self._messages is None:
                self._messages = self._source.follow(self._topic, start)
            recorded, message = next(self._messages)
            stamp = message.header.stamp
            self._near.append((recorded, stamp.sec * 10**9 + stamp.nanosec, message))
        except StopIteration:
            self._is_over = True
        except Exception as error:  # what a damaged bag does to a reader is open
            _LOG.warning('%s: no more depth: %s', self._topic, error)
            self._is_over = True
        return not self._is_over
