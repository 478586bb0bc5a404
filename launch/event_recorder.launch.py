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

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction

from maskomaly_ros.node.launching import AS_IN_FILE, node_arguments, node_with_arguments

NAME = 'maskomaly_event_recorder'

ARGUMENTS = [
    *node_arguments(NAME, 'event_recorder.yaml'),
    DeclareLaunchArgument(
        'folder', default_value='', description='Folder of the recordings.' + AS_IN_FILE
    ),
]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the process."""
    return [node_with_arguments(context, NAME, 'folder')]
