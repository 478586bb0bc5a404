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
from typing import Any

import yaml
from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

from maskomaly_ros.parameter_files import read_section
from maskomaly_ros.topics import image_topic, outputs_of

PACKAGE = 'maskomaly_ros'
CONFIG = Path(get_package_share_directory(PACKAGE)) / 'config'
# Of Kilted and later, and of Jazzy.
DDS_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
# Fast DDS reads this file of the working directory by itself.
DDS_LOCAL_FILE = 'DEFAULT_FASTDDS_PROFILES.xml'
# What config/maskomaly.rviz is laid out for.
LAYOUT_TOPIC = '/camera/image_raw'
AS_IN_FILE = ' Empty: as in params_file.'
BOOLEANS = ['true', 'false']
PARAMETERS = (
    'camera_topics', 'checkpoint', 'queries_file', 'device', 'autostart', 'use_sim_time'
)  # fmt: skip

ARGUMENTS = [
    DeclareLaunchArgument(
        'params_file',
        default_value=str(CONFIG / 'camera.yaml'),
        description='YAML file with the parameters of the node.',
    ),
    DeclareLaunchArgument(
        'camera_topics',
        default_value='',
        description='Image topics, separated by commas: /front/image_raw,/rear/image/compressed. '
        'Names that end in /compressed carry CompressedImage.' + AS_IN_FILE,
    ),
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
        'autostart',
        default_value='',
        choices=['', *BOOLEANS],
        description='Whether the node configures and activates itself.' + AS_IN_FILE,
    ),
    DeclareLaunchArgument(
        'name', default_value='maskomaly', description='Name of the node; one of its own for each.'
    ),
    DeclareLaunchArgument(
        'namespace', default_value='', description='Namespace of the node and of relative topics.'
    ),
    DeclareLaunchArgument(
        'use_sim_time',
        default_value='',
        choices=['', *BOOLEANS],
        description='Whether time comes from /clock.' + AS_IN_FILE,
    ),
    DeclareLaunchArgument(
        'respawn',
        default_value='false',
        choices=BOOLEANS,
        description='Whether the process is started again when it ends, for whatever reason.',
    ),
    DeclareLaunchArgument(
        'respawn_delay',
        default_value='2.0',
        description='Seconds between the end of the process and its new start.',
    ),
    DeclareLaunchArgument(
        'log_level',
        default_value='info',
        choices=['debug', 'info', 'warn', 'error', 'fatal'],
        description='Least severity that is logged.',
    ),
    DeclareLaunchArgument(
        'rviz',
        default_value='false',
        choices=BOOLEANS,
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
    """Return the processes; a parameter is overridden only where its argument was given."""
    given = {
        name: context.launch_configurations[name]
        for name in PARAMETERS
        if context.launch_configurations[name]
    }
    overrides: dict[str, object] = dict(given)
    for name in given.keys() & {'autostart', 'use_sim_time'}:
        overrides[name] = given[name] == 'true'
    topics = read_topics(given.get('camera_topics', ''))
    if topics:
        overrides['camera_topics'] = topics
    node = LifecycleNode(
        package=PACKAGE,
        executable='maskomaly_node',
        name=LaunchConfiguration('name'),
        namespace=LaunchConfiguration('namespace'),
        parameters=[LaunchConfiguration('params_file'), *([overrides] if overrides else [])],
        arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
        output='screen',
        emulate_tty=True,
        # Values and not substitutions, which these take in newer distributions only.
        respawn=context.launch_configurations['respawn'] == 'true',
        respawn_delay=read_seconds('respawn_delay', context),
    )
    parameters_of_file(context)  # launch_ros only warns of a file that is not there
    # All that can fail has run when this returns, and nothing is started before.
    return [*dds_profile(context), node, *rviz(context, topics)]


def parameters_of_file(context: LaunchContext) -> dict[str, Any]:
    """Return the parameters for the node in params_file; raise where it has none."""
    given = context.launch_configurations
    return read_section(Path(given['params_file']).expanduser(), given['name'])


def rviz(context: LaunchContext, topics: list[str]) -> list[LaunchDescriptionEntity]:
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
    if not topics:
        topics = parameters_of_file(context).get('camera_topics') or []
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


def read_seconds(name: str, context: LaunchContext) -> float:
    """Return the value of an argument that is a time."""
    text = context.launch_configurations[name]
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds <= 3600.0:
        raise RuntimeError(f'{name} is {text!r}; it must be a number of seconds up to 3600')
    return seconds


def read_topics(text: str) -> list[str]:
    """Read topics written as `/a,/b` or, as in YAML, `[/a, /b]`."""
    value = yaml.safe_load(text) if text.lstrip().startswith('[') else text.split(',')
    return [str(topic).strip() for topic in value if str(topic).strip()]


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
