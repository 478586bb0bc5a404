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

"""The calibration of a camera as it arrives, for all in the node that need it."""

from __future__ import annotations

from collections import deque

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from maskomaly_ros.node.health import stamp_of

_KEPT = 30  # of frames that may be under way


class Calibration:
    """The newest messages of one `camera_info` topic.

    The executor's thread leaves them here serialized, as most are never looked at; the worker's
    looks.

    Args:
        node: owns the subscription.
        topic: where they come from.

    """

    def __init__(self, node: Node, topic: str) -> None:
        self.topic = topic
        self._node = node
        self._subscription: Subscription | None = None
        self._infos: deque[bytes] = deque(maxlen=_KEPT)

    def start(self) -> None:
        """Subscribe."""
        self._subscription = self._node.create_subscription(
            CameraInfo,
            self.topic,
            self.take,
            QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT),
            raw=True,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def stop(self) -> None:
        """Unsubscribe; what came stays known."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = None

    def take(self, serialized: bytes) -> None:
        """Keep a message that arrived."""
        self._infos.append(serialized)

    @property
    def newest(self) -> bytes | None:
        """The message that came last, serialized; None before the first."""
        infos = self._infos
        return infos[-1] if infos else None

    def at(self, header: Header) -> CameraInfo | None:
        """Return the calibration that came with a frame; else the newest, under its header."""
        stamp = header.stamp.sec * 10**9 + header.stamp.nanosec
        infos = list(self._infos)  # which another thread adds to
        if not infos:
            return None
        for info in reversed(infos):
            if stamp_of(info) == stamp:
                return deserialize_message(info, CameraInfo)
        newest = deserialize_message(infos[-1], CameraInfo)
        newest.header = header
        return newest
