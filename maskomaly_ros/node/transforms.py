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

"""Transforms between frames, through tf2_ros where it is installed."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.ground import CameraPose


class Transforms:
    """Listens to /tf and /tf_static.

    Args:
        node: whose executor takes the messages.

    Raises:
        MaskomalyError: tf2_ros is not installed.

    """

    def __init__(self, node: Node) -> None:
        try:
            import tf2_ros
        except ImportError as error:
            raise MaskomalyError(
                'tf2_ros is not installed, so that nothing is known of /tf; install it, or give '
                'camera_height'
            ) from error
        self._tf: Any = tf2_ros
        self._buffer: Any = tf2_ros.Buffer(node=node)
        self._listener: Any = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)

    def close(self) -> None:
        """Unsubscribe."""
        unregister = getattr(self._listener, 'unregister', None)
        if unregister is not None:
            unregister()

    def pose(self, header: Header, target: str, ground: float) -> CameraPose:
        """Return where a camera was in a frame at the stamp of its picture.

        Where nothing is known of that moment yet, the newest transform counts: mostly a camera is
        fixed to the vehicle.

        Raises:
            MaskomalyError: the frames are not connected, or the camera is not above the ground.

        """
        source = header.frame_id
        for time in (Time.from_msg(header.stamp), Time()):
            try:
                found = self._buffer.lookup_transform(target, source, time).transform
            except self._tf.TransformException as error:
                reason = str(error)
            else:
                moved, turned = found.translation, found.rotation
                return CameraPose.from_transform(
                    (moved.x, moved.y, moved.z),
                    (turned.x, turned.y, turned.z, turned.w),
                    ground=ground,
                    frame=target,
                )
        start = source or 'an empty frame_id'
        raise MaskomalyError(f'no transform from {start} to {target}: {reason}')
