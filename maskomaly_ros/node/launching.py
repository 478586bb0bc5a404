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

"""What the launch files of our nodes share: their common arguments, and a node that takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode

from maskomaly_ros.parameter_files import read_section

PACKAGE = 'maskomaly_ros'
CONFIG = Path(get_package_share_directory(PACKAGE)) / 'config'
AS_IN_FILE = ' Empty: as in params_file.'
BOOLEANS = ('true', 'false')


def node_arguments(name: str, parameters: str) -> list[DeclareLaunchArgument]:
    """Return the arguments that each of our nodes has.

    Args:
        name: of the node, where no other is given.
        parameters: name of the file in config/ that it reads where no other is given.

    """
    return [
        DeclareLaunchArgument(
            'params_file',
            default_value=str(CONFIG / parameters),
            description='YAML file with the parameters of the node.',
        ),
        DeclareLaunchArgument(
            'camera_topics',
            default_value='',
            description='Image topics, separated by commas: /front/image_raw,'
            '/rear/image/compressed. Names that end in /compressed carry CompressedImage.'
            + AS_IN_FILE,
        ),
        DeclareLaunchArgument(
            'autostart',
            default_value='',
            choices=['', *BOOLEANS],
            description='Whether the node configures and activates itself.' + AS_IN_FILE,
        ),
        DeclareLaunchArgument(
            'name',
            default_value=name,
            description='Name of the node; one of its own for each.',
        ),
        DeclareLaunchArgument(
            'namespace',
            default_value='',
            description='Namespace of the node and of relative topics.',
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
            choices=[*BOOLEANS],
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
    ]


def node_with_arguments(context: LaunchContext, executable: str, *names: str) -> LifecycleNode:
    """Return a node; a parameter is overridden only where its argument was given.

    Args:
        context: of the launch, with the arguments of `node_arguments`.
        executable: what runs the node.
        names: of parameters, of type string, that have arguments as well.

    Raises:
        MaskomalyError: params_file has nothing for the node, of which launch_ros only warns.
        RuntimeError: respawn_delay is no number of seconds.

    """
    given = context.launch_configurations
    parameters_of_file(context)
    overrides: dict[str, object] = {name: given[name] for name in names if given[name]}
    for name in ('autostart', 'use_sim_time'):
        if given[name]:
            overrides[name] = given[name] == 'true'
    topics = read_topics(given['camera_topics'])
    if topics:
        overrides['camera_topics'] = topics
    return LifecycleNode(
        package=PACKAGE,
        executable=executable,
        name=LaunchConfiguration('name'),
        namespace=LaunchConfiguration('namespace'),
        parameters=[LaunchConfiguration('params_file'), *([overrides] if overrides else [])],
        arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
        output='screen',
        emulate_tty=True,
        # Values and not substitutions, which these take in newer distributions only.
        respawn=given['respawn'] == 'true',
        respawn_delay=_seconds('respawn_delay', given['respawn_delay']),
    )


def parameters_of_file(context: LaunchContext) -> dict[str, Any]:
    """Return the parameters for the node in params_file; raise where it has none."""
    given = context.launch_configurations
    return read_section(Path(given['params_file']).expanduser(), given['name'])


def read_topics(text: str) -> list[str]:
    """Read topics written as `/a,/b` or, as in YAML, `[/a, /b]`."""
    value = yaml.safe_load(text) if text.lstrip().startswith('[') else text.split(',')
    return [str(topic).strip() for topic in value if str(topic).strip()]


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds <= 3600.0:
        raise RuntimeError(f'{name} is {text!r}; it must be a number of seconds up to 3600')
    return seconds
