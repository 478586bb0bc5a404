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

"""Start the event recorder beside any node that publishes what it is to record."""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode

from maskomaly_ros.parameter_files import read_section

PACKAGE = 'maskomaly_ros'
NAME = 'maskomaly_event_recorder'
CONFIG = Path(get_package_share_directory(PACKAGE)) / 'config'
AS_IN_FILE = ' Empty: as in params_file.'
BOOLEANS = ['true', 'false']

ARGUMENTS = [
    DeclareLaunchArgument(
        'params_file',
        default_value=str(CONFIG / 'event_recorder.yaml'),
        description='YAML file with the parameters of the node.',
    ),
    DeclareLaunchArgument(
        'camera_topics',
        default_value='',
        description='Image topics, separated by commas.' + AS_IN_FILE,
    ),
    DeclareLaunchArgument(
        'folder', default_value='', description='Folder of the recordings.' + AS_IN_FILE
    ),
    DeclareLaunchArgument(
        'autostart',
        default_value='',
        choices=['', *BOOLEANS],
        description='Whether the node configures and activates itself.' + AS_IN_FILE,
    ),
    DeclareLaunchArgument('name', default_value=NAME, description='Name of the node.'),
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
        'log_level',
        default_value='info',
        choices=['debug', 'info', 'warn', 'error', 'fatal'],
        description='Least severity that is logged.',
    ),
]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the process; a parameter is overridden only where its argument was given."""
    given = context.launch_configurations
    overrides: dict[str, object] = {}
    for name in ('autostart', 'use_sim_time'):
        if given[name]:
            overrides[name] = given[name] == 'true'
    if given['folder']:
        overrides['folder'] = given['folder']
    if given['camera_topics']:
        overrides['camera_topics'] = [t.strip() for t in given['camera_topics'].split(',')]
    # launch_ros only warns of a file that is not there.
    read_section(Path(given['params_file']).expanduser(), given['name'])
    return [
        LifecycleNode(
            package=PACKAGE,
            executable=NAME,
            name=LaunchConfiguration('name'),
            namespace=LaunchConfiguration('namespace'),
            parameters=[LaunchConfiguration('params_file'), *([overrides] if overrides else [])],
            arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
            output='screen',
            emulate_tty=True,
            respawn=given['respawn'] == 'true',
        )
    ]
