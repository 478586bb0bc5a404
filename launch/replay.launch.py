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

import shutil
from pathlib import Path

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.event_handlers import OnStateTransition

from maskomaly_ros.rig.bag_metadata import camera_topics

CAMERA = Path(get_package_share_directory('maskomaly_ros')) / 'launch' / 'camera.launch.py'
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
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=play_when_ready)])


def play_when_ready(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Play once the node is active: while it loads the network it would miss the first frames."""
    given = context.launch_configurations
    bag = Path(given['bag']).expanduser()
    if not bag.exists():
        raise RuntimeError(f'there is no bag {bag}')
    require_player()
    arguments = {'use_sim_time': 'true'}
    said: list[LaunchDescriptionEntity] = []
    if not given.get('camera_topics') and not given.get('params_file'):
        topics = ','.join(camera_topics(bag))
        arguments['camera_topics'] = topics
        said = [LogInfo(msg=f'camera_topics:={topics}, which is what the bag has')]
    camera = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(CAMERA)), launch_arguments=arguments.items()
    )
    command = ['ros2', 'bag', 'play', str(bag), '--clock', CLOCK_HZ]
    command += ['--rate', given['rate']]
    if given['loop'] == 'true':
        command.append('--loop')
    play = ExecuteProcess(cmd=command, output='screen', on_exit=end)
    active = OnStateTransition(goal_state='active', entities=[play], handle_once=True)
    ends = OnProcessExit(on_exit=end_with_node)
    return [*said, RegisterEventHandler(active), RegisterEventHandler(ends), camera]


def end_with_node(
    event: ProcessExited, context: LaunchContext
) -> list[LaunchDescriptionEntity] | None:
    """End everything with an error where the node failed, for which the player would wait."""
    is_node = event.process_name.startswith('maskomaly_node')
    is_started_again = context.launch_configurations.get('respawn') == 'true'
    if not is_node or context.is_shutdown or is_started_again:
        return None
    raise RuntimeError(f'the node ended with status {event.returncode}; see above')


def end(event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """End everything with the player, and with an error where it failed."""
    if event.returncode and not context.is_shutdown:
        raise RuntimeError(f'ros2 bag play failed with status {event.returncode}; see above')
    return [Shutdown(reason='the bag is over')]


def require_player() -> None:
    """Raise where no bag can be played: before a network is loaded for it."""
    try:
        get_package_prefix('ros2bag')
        found = shutil.which('ros2')
    except LookupError:
        found = None
    if found is None:
        raise RuntimeError(
            '`ros2 bag` is not installed: sudo apt install ros-<distribution>-ros2bag '
            'ros-<distribution>-rosbag2-storage-default-plugins; or use `maskomaly replay`, which '
            'needs no ROS'
        )
