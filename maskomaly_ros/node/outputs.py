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

"""What the node publishes beside one camera topic."""

from __future__ import annotations

from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from maskomaly_ros.detector import Detection
from maskomaly_ros.node import messages
from maskomaly_ros.node.parameters import LiveSettings


class Outputs:
    """The publishers of one camera; what nobody listens to is not computed.

    Args:
        node: owns the publishers, which are silent until it is active.
        namespace: of the topics, such as `/front/anomaly`.

    """

    def __init__(self, node: LifecycleNode, namespace: str) -> None:
        types: dict[str, type] = {
            'heatmap': Image,
            'mask': Image,
            'overlay': Image,
            'overlay/compressed': CompressedImage,
        }
        if messages.ObstaclesMessage is not None:
            types['obstacles'] = messages.ObstaclesMessage
        self._node = node
        self._publishers: dict[str, LifecyclePublisher] = {
            name: node.create_lifecycle_publisher(
                message_type,
                f'{namespace}/{name}',
                _qos(),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
            for name, message_type in types.items()
        }

    @property
    def are_wanted(self) -> bool:
        """Whether somebody listens to any of the topics."""
        return any(p.get_subscription_count() for p in self._publishers.values())

    def publish(self, detection: Detection, header: Header, settings: LiveSettings) -> None:
        """Publish what somebody listens to under the header of the frame, the mask first."""
        wanted = {name for name, p in self._publishers.items() if p.get_subscription_count()}
        if 'mask' in wanted:
            self._publish('mask', messages.mask_message(detection.mask, header))
        if 'obstacles' in wanted:
            self._publish('obstacles', messages.obstacles_message(detection.obstacles, header))
        if 'heatmap' in wanted:
            encoding = settings.heatmap_encoding
            self._publish('heatmap', messages.heatmap_message(detection.score, encoding, header))
        if wanted & {'overlay', 'overlay/compressed'}:
            overlay = detection.overlay(settings.overlay_opacity)
            if 'overlay' in wanted:
                self._publish('overlay', messages.picture_message(overlay, header))
            if 'overlay/compressed' in wanted:
                jpeg = messages.jpeg_message(overlay, settings.jpeg_quality, header)
                self._publish('overlay/compressed', jpeg)

    def destroy(self) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers = {}

    def _publish(self, name: str, message: object) -> None:
        self._publishers[name].publish(message)


def _qos() -> QoSProfile:
    """Return a profile of its own for each publisher, as overrides are written into it.

    Reliable, because whoever listens wants every result, and shallow, because an old one is of
    no use.
    """
    return QoSProfile(
        depth=2, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE
    )
