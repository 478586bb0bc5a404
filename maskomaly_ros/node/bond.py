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

"""The bond by which nav2's lifecycle manager sees that a node of its is alive."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node

# As nav2's own nodes have them.
_TOPIC = '/bond'
_HEARTBEAT_PERIOD, _HEARTBEAT_TIMEOUT = 0.1, 4.0


class Bond:
    """A bond where bondpy is installed; nothing where it is not.

    Args:
        node: beats on the topic of bonds, under its name.

    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._bond: Any = None

    def form(self) -> None:
        """Begin to beat; a manager may be there or not."""
        try:
            from bondpy.bondpy import Bond as BondOfRos
        except ImportError:
            self._node.get_logger().info(
                'bondpy is not installed: a lifecycle manager of nav2 needs bond_timeout 0'
            )
            return
        self._bond = BondOfRos(self._node, _TOPIC, self._node.get_name())
        self._bond.set_heartbeat_period(_HEARTBEAT_PERIOD)
        self._bond.set_heartbeat_timeout(_HEARTBEAT_TIMEOUT)
        self._bond.start()

    def end(self) -> None:
        """End it, so that the manager knows that this was meant."""
        bond, self._bond = self._bond, None
        if bond is not None:
            bond.shutdown()
