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

"""From pixels to places: obstacles of a picture on the ground before the vehicle.

Free of ROS. `CameraModel` turns pixels into rays, `CameraPose` says where the camera is above the
ground, and `Locator` puts the contact line of obstacles there, or, with a depth image, every pixel
of theirs into space.
"""

from __future__ import annotations

from maskomaly_ros.ground.camera import CameraModel, read_camera_info
from maskomaly_ros.ground.depth import decode_depth
from maskomaly_ros.ground.locator import POINT, Located, Locator, LocatorParameters
from maskomaly_ros.ground.pose import CameraPose

__all__ = [
    'POINT',
    'CameraModel',
    'CameraPose',
    'Located',
    'Locator',
    'LocatorParameters',
    'decode_depth',
    'read_camera_info',
]
