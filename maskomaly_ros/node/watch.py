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

"""Says in the log why no frames come, or not all of them, as far as the graph of ROS tells."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, ReliabilityPolicy, qos_check_compatible
from rclpy.subscription import Subscription
from rclpy.utilities import get_rmw_implementation_identifier

from maskomaly_ros.node.camera import CameraStream, CameraTopic
from maskomaly_ros.node.health import MOST_MISSING

PATIENCE = 5.0
"""Seconds without a first frame before it is said."""
_AGAIN = 30.0  # seconds until it is said again
_IMAGES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
_PROFILES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')

Cameras = Sequence[tuple[CameraStream, Subscription]]


class Watch:
    """Looks after cameras by a timer of wall time and warns, at most every 30 seconds for each.

    Args:
        node: owns the timer.
        cameras: returns what is subscribed to now.

    """

    def __init__(self, node: Node, cameras: Callable[[], Cameras]) -> None:
        self._node = node
        self._cameras = cameras
        self._said: dict[str, float] = {}
        clock = Clock(clock_type=ClockType.STEADY_TIME)  # simulated time may stand still
        self._timer = node.create_timer(1.0, self.look, clock=clock)

    def look(self) -> None:
        """Warn of each camera that has something the matter."""
        for stream, subscription in self._cameras():
            name, silence = stream.topic.name, stream.silence
            if silence is not None:
                if silence > PATIENCE and self._may_say(f'silent {name}'):
                    why = why_silent(self._node, stream.topic, subscription)
                    self._node.get_logger().warning(f'no frame of {name} so far: {why}')
            elif (missing := stream.missing) > MOST_MISSING and self._may_say(f'gaps {name}'):
                self._node.get_logger().warning(
                    f'about {100 * missing:.0f} % of the frames of {name} are missing by their '
                    f'stamps: {why_gaps(self._node, stream.topic)}'
                )

    def _may_say(self, what: str) -> bool:
        now = time.monotonic()
        if now - self._said.get(what, -_AGAIN) < _AGAIN:
            return False
        self._said[what] = now
        return True


def why_silent(node: Node, topic: CameraTopic, subscription: Subscription) -> str:
    """Return why no frame of a topic arrives, and what to do about it."""
    publishers = node.get_publishers_info_by_topic(topic.name)
    if not publishers:
        others = _image_topics(node)
        if not others:
            return (
                'nobody publishes it, and there is no other image topic: does the camera driver '
                'run, with the same ROS_DOMAIN_ID '
                f'({os.environ.get("ROS_DOMAIN_ID", "0")} here) and middleware?'
            )
        return (
            f'nobody publishes it. Image topics that exist: {", ".join(others)}. '
            'Set camera_topics, or remap'
        )
    wanted = _IMAGES[topic.is_compressed]
    if wanted not in {publisher.topic_type for publisher in publishers}:
        kinds = ', '.join(sorted({publisher.topic_type for publisher in publishers}))
        return (
            f'it carries {kinds}, and {wanted} is expected: names that end in /compressed carry '
            'CompressedImage, all others Image'
        )
    for publisher in publishers:
        level, reason = qos_check_compatible(publisher.qos_profile, subscription.qos_profile)
        if level == QoSCompatibility.ERROR:
            who = f'{publisher.node_namespace.rstrip("/")}/{publisher.node_name}'
            return f'the quality of service of {who} does not match: {reason}'
    return 'it is published, but either nothing is sent or nothing arrives (docs/operations.md)'


def why_gaps(node: Node, topic: CameraTopic) -> str:
    """Return the likely cause of frames that are lost between camera and node."""
    publishers = node.get_publishers_info_by_topic(topic.name)
    is_best_effort = any(
        publisher.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
        for publisher in publishers
    )
    is_fast_dds = 'fastrtps' in get_rmw_implementation_identifier()
    if topic.is_compressed or not is_best_effort or not is_fast_dds:
        return 'the driver, the link, or this machine is too slow for them'
    if any(os.environ.get(name) for name in _PROFILES):
        return (
            'raw frames of best effort need room in the shared memory of Fast DDS; a profile is '
            f'set here ({_PROFILES[0]}): is it in the environment of the camera driver as well?'
        )
    return (
        'the shared memory of Fast DDS is, as it comes, smaller than a raw frame: set '
        f'{_PROFILES[0]} (Jazzy: {_PROFILES[1]}) to config/fastdds.xml of this package for the '
        'camera driver and for this node'
    )


def _image_topics(node: Node) -> list[str]:
    """Return image topics that somebody publishes, but for what this package makes of others."""
    return sorted(
        name
        for name, kinds in node.get_topic_names_and_types()
        if set(kinds) & set(_IMAGES) and '/anomaly/' not in name and node.count_publishers(name)
    )
