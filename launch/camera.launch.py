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

import yaml
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.substitutions import FindPackageShare

from maskomaly_ros.topics import image_topic, outputs_of

PACKAGE = 'maskomaly_ros'
CONFIG = PathJoinSubstitution([FindPackageShare(PACKAGE), 'config'])
AS_IN_FILE = ' Empty: as in params_file.'
BOOLEANS = ['true', 'false']
PARAMETERS = (
    'camera_topics', 'checkpoint', 'queries_file', 'device', 'autostart', 'use_sim_time'
)  # fmt: skip

ARGUMENTS = [
    DeclareLaunchArgument(
        'params_file',
        default_value=PathJoinSubstitution([CONFIG, 'camera.yaml']),
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
        name='maskomaly',
        namespace=LaunchConfiguration('namespace'),
        parameters=[LaunchConfiguration('params_file'), *([overrides] if overrides else [])],
        arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
        output='screen',
        emulate_tty=True,
        # Values and not substitutions, which these take in newer distributions only.
        respawn=context.launch_configurations['respawn'] == 'true',
        respawn_delay=read_seconds('respawn_delay', context),
    )
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        namespace=LaunchConfiguration('namespace'),
        arguments=['-d', PathJoinSubstitution([CONFIG, 'maskomaly.rviz'])],
        remappings=remap_displays(topics[0]) if topics else [],
        condition=IfCondition(LaunchConfiguration('rviz')),
    )
    return [node, rviz]


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


def remap_displays(camera_topic: str) -> list[tuple[str, str]]:
    """Return what makes the RViz layout, laid out for /camera/image_raw, show another camera."""
    image, anomaly = image_topic(camera_topic), outputs_of(camera_topic)
    displays = [
        (f'/camera/anomaly/{name}', f'{anomaly}/{name}') for name in ('heatmap', 'mask', 'overlay')
    ]
    return [('/camera/image_raw', image), *displays]
