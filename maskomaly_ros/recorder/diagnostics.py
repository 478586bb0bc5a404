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

"""What the event recorder says of itself on /diagnostics, once a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from maskomaly_ros.errors import MaskomalyError, listed
from maskomaly_ros.node.status import PERIOD, key_values, resident_bytes
from maskomaly_ros.recorder.catalogue import Catalogue
from maskomaly_ros.recorder.recorder import State


class Diagnostics:
    """Publishes the state of the recorder by a timer of wall time.

    Args:
        node: owns the publisher and the timer.
        phase: returns the state of the lifecycle, such as `active`.
        state: returns how the recorder is, and its folder; None where it is not configured.
        not_recorded: returns topics that are wanted and cannot be recorded, and why.

    Attributes:
        problem: why the node is not configured; empty where that is as it should be.
        clock: of wall time.

    """

    def __init__(
        self,
        node: Node,
        phase: Callable[[], str],
        state: Callable[[], tuple[State, Catalogue] | None],
        not_recorded: Callable[[], Mapping[str, str]],
    ) -> None:
        self._node = node
        self._phase = phase
        self._state = state
        self._not_recorded = not_recorded
        self._name = f'{node.get_fully_qualified_name().lstrip("/")}: recorder'
        self.problem = ''
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.clock = Clock(clock_type=ClockType.STEADY_TIME)  # simulated time may stand still
        self._timer = node.create_timer(PERIOD, self.publish, clock=self.clock)

    def publish(self) -> None:
        """Publish the state now."""
        phase, found = self._phase(), self._state()
        not_recorded = self._not_recorded()
        values: dict[str, object] = {
            'state': phase,
            'not recorded': '; '.join(f'{t}: {why}' for t, why in not_recorded.items()) or 'none',
            'memory (MB)': f'{resident_bytes() / 1e6:.0f}',
        }
        level, text = DiagnosticStatus.OK, phase
        if self.problem:
            level, text = DiagnosticStatus.ERROR, f'{phase}: {self.problem}'
        elif found is not None:
            state, catalogue = found
            values |= _values(state, catalogue)
            if state.is_recording:
                text = f'{phase}: recording'
            if state.problem:
                level, text = DiagnosticStatus.ERROR, f'{phase}: {state.problem}'
            elif state.counts.dropped:
                level = DiagnosticStatus.WARN
                text = f'{text}; max_memory is too small for pre_roll: messages are dropped'
            elif not_recorded:
                level = DiagnosticStatus.WARN
                text = f'{text}; not recorded: {listed(list(not_recorded), 3)}'
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        status = DiagnosticStatus(
            level=level, name=self._name, message=text, values=key_values(values)
        )
        message.status = [status]
        self._publisher.publish(message)


def _values(state: State, catalogue: Catalogue) -> dict[str, object]:
    counts = state.counts
    try:
        used, free = f'{catalogue.used() / 1e6:.0f}', f'{catalogue.free() / 1e6:.0f}'
    except (OSError, MaskomalyError):  # the folder is gone, or its disk
        used = free = 'unknown'
    return {
        'received': counts.received,
        'kept': counts.kept,
        'dropped': counts.dropped,
        'held (MB)': f'{counts.held_bytes / 1e6:.0f}',
        'recording': 'yes' if state.is_recording else 'no',
        'recordings': state.recordings,
        'written (MB)': f'{state.written / 1e6:.0f}',
        'known already': state.known,
        'above max_events_per_hour': state.limited,
        'without room': state.refused,
        'given up': state.failed,
        'lost to a slow disk': state.lost,
        'unreadable': state.unreadable,
        'folder (MB)': used,
        'free (MB)': free,
        'problem': state.problem or 'none',
    }
