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

from functools import cache, partial

from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from maskomaly_ros import interfaces
from maskomaly_ros.detector import Detection
from maskomaly_ros.ground import Located
from maskomaly_ros.node import messages
from maskomaly_ros.node.calibration import Calibration
from maskomaly_ros.node.parameters import LiveSettings

# What cannot be told without following obstacles, and without knowing where they are.
NEED_IDS = frozenset(
    {'obstacles', 'points', 'markers', 'annotations', 'overlay', 'overlay/compressed'}
)
NEED_PLACES = NEED_IDS - {'obstacles'}
# What somebody may brake for first, what is only looked at last.
_ORDER = (
    'mask', 'points', 'markers', 'obstacles', 'annotations', 'heatmap', 'heatmap/mono8', 'overlay',
    'overlay/compressed',
)  # fmt: skip


class Outputs:
    """The publishers of one camera; what nobody listens to is not computed.

    Args:
        node: owns the publishers, which are silent until it is active.
        namespace: of the topics, such as `/front/anomaly`.
        calibration: of the camera, to publish it beside the results.

    Attributes:
        missing: outputs that cannot be published, and the message packages that they lack.

    """

    def __init__(self, node: LifecycleNode, namespace: str, calibration: Calibration) -> None:
        self._node = node
        self._calibration = calibration
        types = {name: messages.message_class(kind) for name, kind in interfaces.TYPES.items()}
        types['camera_info'] = CameraInfo
        self._publishers: dict[str, LifecyclePublisher] = {
            name: node.create_lifecycle_publisher(
                kind,
                f'{namespace}/{name}',
                _qos(name),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
            for name, kind in types.items()
            if kind is not None
        }
        self._label_info = self._publishers.pop('label_info', None)
        self._camera_info = self._publishers.pop('camera_info')
        self.missing = {
            name: interfaces.TYPES[name].partition('/')[0]
            for name, kind in types.items()
            if kind is None
        }

    @property
    def wanted(self) -> frozenset[str]:
        """The outputs that somebody listens to."""
        return frozenset(n for n, p in self._publishers.items() if p.get_subscription_count())

    @property
    def are_wanted(self) -> bool:
        """Whether somebody listens to a topic that needs the network."""
        return bool(self.wanted)

    def announce(self, settings: LiveSettings) -> None:
        """Say what the values of the mask mean, to those who come later too."""
        if self._label_info is not None:
            threshold = settings.detector.obstacle_threshold
            message = interfaces.label_info_message(Header(), threshold)
            self._label_info.publish(messages.to_ros(message))

    def publish(
        self,
        detection: Detection,
        header: Header,
        settings: LiveSettings,
        located: Located | None = None,
    ) -> None:
        """Publish what somebody listens to under the header of the frame, the mask first.

        Args:
            detection: in the frame.
            header: of the frame.
            settings: how to encode it.
            located: where the obstacles are; None leaves out what says so.

        """
        wanted = self.wanted
        if self._camera_info.get_subscription_count():
            info = self._calibration.at(header)
            if info is not None:
                self._camera_info.publish(info)
        overlay = cache(partial(detection.overlay, settings.overlay_opacity))
        for name in (name for name in _ORDER if name in wanted):
            message = interfaces.output_message(
                name,
                detection,
                header,
                overlay=overlay,
                jpeg_quality=settings.jpeg_quality,
                located=located,
            )
            if message is not None:
                self._publishers[name].publish(messages.to_ros(message))

    def destroy(self) -> None:
        """Destroy the publishers."""
        for publisher in (*self._publishers.values(), self._label_info, self._camera_info):
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)
        self._publishers, self._label_info = {}, None


def _qos(name: str) -> QoSProfile:
    """Return a profile of its own for each publisher, as overrides are written into it.

    Reliable, because whoever listens wants every result, and shallow, because an old one is of
    no use; but for what is said only once.
    """
    if name == 'label_info':
        return QoSProfile(
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
    return QoSProfile(
        depth=2, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE
    )
