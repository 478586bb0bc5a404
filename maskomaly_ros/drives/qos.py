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


"""Quality of service as a recording keeps it."""

from __future__ import annotations

from typing import Any

# Of the middleware interface, as rclpy's and rosbags' enumerations number them too.
RELIABLE = 1
TRANSIENT_LOCAL, VOLATILE = 1, 2
KEEP_LAST, KEEP_ALL = 1, 2


def recorded_qos(reliability: int, durability: int, history: int, depth: int) -> Any:
    """Return what a publisher offered, for a bag of rosbags; other policies have no limits.

    Args:
        reliability: 1 reliable, 2 best effort.
        durability: 1 transient local, 2 volatile.
        history: 1 keeps the last `depth`, 2 all; a middleware that does not say gives others.
        depth: messages that are kept.

    """
    from rosbags.interfaces import (
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )

    unlimited = QosTime(9223372036, 854775807)
    return Qos(
        QosHistory(history) if history in (KEEP_LAST, KEEP_ALL) else QosHistory.KEEP_LAST,
        depth,
        QosReliability(reliability),
        QosDurability(durability),
        unlimited,
        unlimited,
        QosLiveliness.AUTOMATIC,
        unlimited,
        False,
    )
