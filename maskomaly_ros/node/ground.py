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

"""What the node knows of a camera's place: its calibration, its pose, its depth images."""

from __future__ import annotations

from collections import deque

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.ground import (
    CameraModel,
    CameraPose,
    Located,
    Locator,
    LocatorParameters,
    decode_depth,
)
from maskomaly_ros.node.calibration import Calibration
from maskomaly_ros.node.health import stamp_of
from maskomaly_ros.node.transforms import Transforms
from maskomaly_ros.obstacles import Components
from maskomaly_ros.parameters import GroundSettings
from maskomaly_ros.topics import is_rectified

_STAMP_BYTES = 12  # encapsulation, seconds and nanoseconds: all that differs while a camera stands
_KEPT_DEPTHS = 8


class CameraGround:
    """Puts the obstacles of one camera on the ground or into space.

    The executor's thread leaves depth images here serialized; the worker's takes them when
    somebody listens to places.

    Args:
        node: owns the subscriptions.
        camera: resolved topic of the pictures.
        settings: where to look for all that.
        calibration: of the camera, as it arrives.
        transforms: to ask where the camera is; None where it is not to be asked.

    Attributes:
        state: what is known, or why nothing is, for diagnostics.

    """

    def __init__(
        self,
        node: Node,
        camera: str,
        settings: GroundSettings,
        calibration: Calibration,
        transforms: Transforms | None,
    ) -> None:
        self._node = node
        self._camera = camera
        self._settings = settings
        self._transforms = transforms
        self._calibration = calibration
        self._subscription: Subscription | None = None
        self._depths: deque[tuple[int, bytes]] = deque(maxlen=_KEPT_DEPTHS)
        self._model: tuple[bytes, tuple[int, int], CameraModel] | None = None
        self.state = 'not asked for'
        self._said = ''

    def start(self) -> None:
        """Subscribe to depth images, where there are some."""
        if self._settings.depth_topic:
            self._subscription = self._node.create_subscription(
                Image,
                self._settings.depth_topic,
                self._take_depth,
                QoSProfile(depth=2, reliability=ReliabilityPolicy.BEST_EFFORT),
                raw=True,  # most are never looked at
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )

    def stop(self) -> None:
        """Unsubscribe."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = None
        self._depths.clear()

    def locate(
        self,
        components: Components,
        header: Header,
        size: tuple[int, int],
        parameters: LocatorParameters,
        depth_tolerance: float,
    ) -> Located | None:
        """Return where the obstacles of a frame are; None where too little is known.

        Args:
            components: of the mask.
            header: of the frame.
            size: height and width of the frame.
            parameters: what is believed.
            depth_tolerance: seconds between the stamps of the frame and of a depth image.

        """
        try:
            model = self._model_of(size)
            depth, why_not = self._depth(header, depth_tolerance)
            pose, problem = self._pose(header)
            if pose is None and depth is None:
                raise MaskomalyError('; '.join(filter(None, (problem, why_not))))
            image = None if depth is None else decode_depth(depth, size)
            located = Locator(model, pose, parameters).locate(components, image)
        except MaskomalyError as error:
            self._say(f'no places: {error}')
            return None
        way = 'depth' if depth is not None else 'contact line'
        height = '' if pose is None else f', camera {pose.height:.2f} m above the ground'
        self.state = f'{way}{height}, in {located.frame or header.frame_id}'
        self._said = ''
        return located

    def _say(self, state: str) -> None:
        """Keep a reason for diagnostics, and log it once until it is overcome."""
        self.state = state
        if not self._said:
            self._said = state
            self._node.get_logger().warning(f'{self._camera}: {state}')

    def _model_of(self, size: tuple[int, int]) -> CameraModel:
        info = self._calibration.newest
        if info is None:
            raise MaskomalyError(f'nothing came on {self._calibration.topic} yet')
        fixed = info[_STAMP_BYTES:]
        if self._model is None or self._model[:2] != (fixed, size):
            message = deserialize_message(info, CameraInfo)
            model = CameraModel.from_info(message, is_rectified=is_rectified(self._camera))
            self._model = fixed, size, model.for_size(size)
        return self._model[2]

    def _pose(self, header: Header) -> tuple[CameraPose | None, str]:
        settings = self._settings
        if settings.mounting is not None:
            return settings.mounting, ''
        if self._transforms is None:
            return None, 'neither camera_height nor tf2_ros says where the camera is'
        try:
            return self._transforms.pose(header, settings.target_frame, settings.ground_height), ''
        except MaskomalyError as error:
            return None, str(error)

    def _depth(self, header: Header, tolerance: float) -> tuple[Image | None, str]:
        topic = self._settings.depth_topic
        if not topic:
            return None, ''
        stamp = header.stamp.sec * 10**9 + header.stamp.nanosec
        known = list(self._depths)
        nearest = min(known, key=lambda depth: abs(depth[0] - stamp), default=None)
        if nearest is None or abs(nearest[0] - stamp) > tolerance * 1e9:
            return None, f'no image of {topic} is within {tolerance:g} s of the frame'
        return deserialize_message(nearest[1], Image), ''

    def _take_depth(self, serialized: bytes) -> None:
        stamp = stamp_of(serialized)
        if stamp is not None:
            self._depths.append((stamp, serialized))
