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

"""From a camera topic to its outputs: the one rule, without ROS."""

from __future__ import annotations

COMPRESSED = '/compressed'


def absolute_topic(topic: str) -> str:
    """Return a topic of a parameter file as a node without a namespace understands it."""
    return f'/{topic.lstrip("/")}'


def is_compressed(topic: str) -> bool:
    """Return whether a topic carries CompressedImage, as image_transport names it."""
    return topic.endswith(COMPRESSED)


def image_topic(topic: str) -> str:
    """Return the raw topic of a camera, such as `/front/image_raw` of its `/compressed` one."""
    return topic.removesuffix(COMPRESSED)


def camera_namespace(topic: str) -> str:
    """Return the namespace of a camera topic, such as `/front`; empty at the root."""
    return image_topic(topic).rpartition('/')[0]


def camera_info_topic(topic: str) -> str:
    """Return where image_transport has the calibration of a camera topic."""
    return f'{camera_namespace(topic)}/camera_info'


def is_rectified(topic: str) -> bool:
    """Return whether pictures are rectified, as image_proc names them: `image_rect_color`."""
    return image_topic(topic).rpartition('/')[2].startswith('image_rect')


def outputs_of(topic: str) -> str:
    """Return where the results of a camera topic are published, such as `/front/anomaly`."""
    return f'{camera_namespace(topic)}/anomaly'
