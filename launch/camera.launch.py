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

"""Start the node on the topics of one or more cameras, and RViz if asked."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ament_index_python.packages import get_package_prefix
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from maskomaly_ros.node.launching import (
    AS_IN_FILE,
    BOOLEANS,
    CONFIG,
    node_arguments,
    node_with_arguments,
    parameters_of_file,
    read_topics,
)
from maskomaly_ros.topics import image_topic, outputs_of

# Of Kilted and later, and of Jazzy.
DDS_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
# Fast DDS reads this file of the working directory by itself.
DDS_LOCAL_FILE = 'DEFAULT_FASTDDS_PROFILES.xml'
# What config/maskomaly.rviz is laid out for.
LAYOUT_TOPIC = '/camera/image_raw'

ARGUMENTS = [
    *node_arguments('maskomaly', 'camera.yaml'),
    DeclareLaunchArgument(
        'checkpoint',
        default_value='',
        description='Network: demo (bundled), the name of a published checkpoint, a path, or a '
        'Hugging Face id.' + AS_IN_FILE,
    ),
    DeclareLaunchArgument(
        'queries_file',
        default_value='',
        description='Queries of that checkpoint, as maskomaly calibrate writes them.' + AS_IN_FILE,
    ),
    DeclareLaunchArgument(
        'device',
        default_value='',
        description='Where the network runs: auto, cpu, cuda or cuda:1.' + AS_IN_FILE,
    ),
    DeclareLaunchArgument(
        'rviz',
        default_value='false',
        choices=[*BOOLEANS],
        description='Whether RViz shows the (first) camera and what is found in it.',
    ),
    DeclareLaunchArgument(
        'dds_profile',
        default_value='auto',
        description='XML profile of Fast DDS, with room for camera frames: a path, none, or auto '
        '(config/fastdds.xml where Fast DDS is the middleware and no profile is set).',
    ),
]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the processes."""
    node = node_with_arguments(context, 'maskomaly_node', 'checkpoint', 'queries_file', 'device')
    # All that can fail has run when this returns, and nothing is started before.
    return [*dds_profile(context), node, *rviz(context)]


def rviz(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return RViz on the first camera; nothing where it is not asked for."""
    if context.launch_configurations['rviz'] != 'true':
        return []
    try:
        found = Path(get_package_prefix('rviz2')) / 'lib' / 'rviz2' / 'rviz2'
    except LookupError:
        found = None
    if found is None or not os.access(found, os.X_OK):
        distribution = os.environ.get('ROS_DISTRO', '<distribution>')
        raise RuntimeError(
            f'rviz:=true, but rviz2 is not installed: sudo apt install ros-{distribution}-rviz2, '
            'or leave rviz:=true out; nothing was started'
        )
    given = read_topics(context.launch_configurations['camera_topics'])
    topics = given or parameters_of_file(context).get('camera_topics') or []
    layout = layout_for(resolve(topics[0], context) if topics else LAYOUT_TOPIC)
    return [
        Node(
            package='rviz2',
            executable='rviz2',
            namespace=LaunchConfiguration('namespace'),
            arguments=['-d', str(layout)],
        )
    ]


def dds_profile(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return what lets Fast DDS pass camera frames through shared memory without losing them."""
    choice = context.launch_configurations['dds_profile']
    if choice == 'none':
        return []
    profile = Path(choice).expanduser()
    if choice == 'auto':
        known = context.environment
        middleware = known.get('RMW_IMPLEMENTATION') or 'rmw_fastrtps_cpp'
        is_set = any(known.get(name) for name in DDS_VARIABLES) or Path(DDS_LOCAL_FILE).exists()
        if is_set or 'fastrtps' not in middleware:
            return []
        profile = CONFIG / 'fastdds.xml'
    if not profile.is_file():
        raise RuntimeError(f'dds_profile is {choice!r}; it must be a file, auto or none')
    text = f'Fast DDS profile of the node: {profile}; the camera driver needs it as well'
    return [
        *(SetEnvironmentVariable(name, str(profile)) for name in DDS_VARIABLES),
        LogInfo(msg=text),
    ]


def resolve(topic: str, context: LaunchContext) -> str:
    """Return a topic as the node resolves it."""
    namespace = context.launch_configurations['namespace'].strip('/')
    if topic.startswith('~'):
        topic = f'{context.launch_configurations["name"]}/{topic.lstrip("~/")}'
    return topic if topic.startswith('/') else '/' + '/'.join(filter(None, [namespace, topic]))


def layout_for(camera_topic: str) -> Path:
    """Return the layout of RViz for a camera.

    Written into it, as RViz derives from the topic of a display how the picture is compressed: a
    remapping comes too late for that.
    """
    layout = CONFIG / 'maskomaly.rviz'
    if camera_topic == LAYOUT_TOPIC:
        return layout
    text = layout.read_text(encoding='utf-8')
    text = text.replace(f'{outputs_of(LAYOUT_TOPIC)}/', f'{outputs_of(camera_topic)}/')
    text = text.replace(f'Value: {LAYOUT_TOPIC}\n', f'Value: {camera_topic}\n')
    name = image_topic(camera_topic).strip('/').replace('/', '_')
    written = Path(tempfile.mkdtemp(prefix='maskomaly_rviz_')) / f'{name}.rviz'
    written.write_text(text, encoding='utf-8')
    return written
