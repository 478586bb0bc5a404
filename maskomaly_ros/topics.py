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

import hashlib

# Where the node listens unless it is told otherwise, and where frames without a topic go.
DEFAULT_CAMERA = '/camera/image_raw'
COMPRESSED = '/compressed'
_LONGEST_NAME = 160


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


def file_name(camera: str) -> str:
    """Return a camera's topic as the name of a file or folder, such as `front.image_raw`.

    Topics have no dots, so that no two share a name; what no topic should have is written as in
    a URL.
    """
    name = camera[1:] if camera.startswith('/') else f'%{camera}'
    name = ''.join(
        '.' if c == '/' else c if c.isascii() and (c.isalnum() or c in '_-') else _escaped(c)
        for c in name
    )
    name = name if name and name[0] != '.' else f'%{name}'
    if len(name) > _LONGEST_NAME:
        name = f'{name[:_LONGEST_NAME]}-{hashlib.sha256(camera.encode()).hexdigest()[:16]}'
    return name


def _escaped(character: str) -> str:
    return ''.join(f'%{byte:02X}' for byte in character.encode())
