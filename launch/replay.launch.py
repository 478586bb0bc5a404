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

"""Play a bag into the node: time comes from the bag, and everything ends with it.

The arguments of camera.launch.py can be given too.
"""

from __future__ import annotations

import os
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.event_handlers import OnStateTransition
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare('maskomaly_ros')
CAMERA = PathJoinSubstitution([SHARE, 'launch', 'camera.launch.py'])
# Fast DDS as it comes loses frames between the player and the node.
DDS_PROFILE = PathJoinSubstitution([SHARE, 'config', 'fastdds.xml'])
DDS_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
CLOCK_HZ = '100'

ARGUMENTS = [
    DeclareLaunchArgument('bag', description='Bag to play: its folder or its only file.'),
    DeclareLaunchArgument(
        'rate', default_value='1.0', description='Speed; 0.5 plays at half the speed.'
    ),
    DeclareLaunchArgument(
        'loop',
        default_value='false',
        choices=['true', 'false'],
        description='Whether the bag starts again at its end.',
    ),
]


def generate_launch_description() -> LaunchDescription:
    camera = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(CAMERA), launch_arguments={'use_sim_time': 'true'}.items()
    )
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=play_when_ready), camera])


def play_when_ready(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Play once the node is active: while it loads the network it would miss the first frames."""
    bag = Path(context.launch_configurations['bag']).expanduser()
    if not bag.exists():
        raise RuntimeError(f'there is no bag {bag}')
    command = ['ros2', 'bag', 'play', str(bag), '--clock', CLOCK_HZ]
    command += ['--rate', context.launch_configurations['rate']]
    if context.launch_configurations['loop'] == 'true':
        command.append('--loop')
    play = ExecuteProcess(cmd=command, output='screen', on_exit=Shutdown(reason='the bag is over'))
    active = OnStateTransition(goal_state='active', entities=[play], handle_once=True)
    names = () if set(DDS_VARIABLES) & set(os.environ) else DDS_VARIABLES
    profile = [SetEnvironmentVariable(name, DDS_PROFILE) for name in names]
    return [*profile, RegisterEventHandler(active)]
