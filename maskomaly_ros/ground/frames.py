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

"""Frames that transforms connect, for recordings: what TF does while a system runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.ground.pose import CameraPose

Floats = NDArray[np.float64]


class Frames:
    """Transforms between frames, each as it was first heard: a camera is fixed to its vehicle."""

    def __init__(self) -> None:
        self._neighbours: dict[str, dict[str, Floats]] = {}

    def add(
        self, parent: str, child: str, translation: Sequence[float], quaternion: Sequence[float]
    ) -> None:
        """Add the pose of a frame in another, as a `geometry_msgs/TransformStamped` has it.

        Args:
            parent: its `header.frame_id`.
            child: its `child_frame_id`.
            translation: x, y, z in metres.
            quaternion: x, y, z, w.

        Raises:
            MaskomalyError: the quaternion is none.

        """
        parent, child = parent.lstrip('/'), child.lstrip('/')
        if child in self._neighbours.get(parent, {}):
            return
        # The height matters to poses of cameras only.
        pose = CameraPose.from_transform((0, 0, 1), quaternion)
        transform = np.eye(4)
        transform[:3, :3], transform[:3, 3] = pose.rotation, translation
        self._neighbours.setdefault(parent, {})[child] = transform
        back = np.asarray(np.linalg.inv(transform), np.float64)
        self._neighbours.setdefault(child, {})[parent] = back

    def pose(self, source: str, target: str, ground: float = 0.0) -> CameraPose:
        """Return where a camera is in a frame.

        Args:
            source: optical frame of the camera.
            target: a frame whose z points up.
            ground: z of the ground in it, in metres.

        Raises:
            MaskomalyError: the frames are not connected, or the camera is not above the ground.

        """
        source, target = source.lstrip('/'), target.lstrip('/')
        known = {target: np.eye(4)}
        waiting = deque([target])
        while waiting and source not in known:
            here = waiting.popleft()
            for there, transform in self._neighbours.get(here, {}).items():
                if there not in known:
                    known[there] = known[here] @ transform
                    waiting.append(there)
        if source not in known:
            raise MaskomalyError(
                f'no transform connects {source or "an empty frame_id"} with {target}'
            )
        found = known[source]
        return CameraPose(found[:3, :3], found[:3, 3], ground, target)
