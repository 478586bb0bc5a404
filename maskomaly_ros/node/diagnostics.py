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

"""What the node says of itself on /diagnostics, once a second.

Named by the conventions of diagnostic_updater: `<node>: <task>`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from maskomaly_ros.detector import Detector
from maskomaly_ros.node.camera import CameraStream, Counts

PERIOD = 1.0


class Diagnostics:
    """Publishes the state of the node by a timer of wall time, whatever the cameras do.

    Args:
        node: owns the publisher and the timer.
        phase: returns the state of the lifecycle: `unconfigured`, `inactive` or `active`.

    Attributes:
        timings: returns the seconds that the last batch spent in each stage; to be replaced.

    """

    def __init__(self, node: Node, phase: Callable[[], str]) -> None:
        self._node = node
        self._phase = phase
        self._prefix = node.get_fully_qualified_name().lstrip('/')
        self._cameras: list[_CameraTask] = []
        self._detector: Detector | None = None
        self.timings: Callable[[], dict[str, float]] = dict
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        clock = Clock(clock_type=ClockType.STEADY_TIME)  # simulated time may stand still
        self._timer = node.create_timer(PERIOD, self._publish, clock=clock)

    def watch(self, detector: Detector, streams: Sequence[CameraStream]) -> None:
        """Report on a detector and its cameras from now on."""
        self._detector = detector
        self._cameras = [_CameraTask(stream) for stream in streams]

    def forget(self) -> None:
        """Report on nothing but the phase."""
        self._detector = None
        self._cameras = []
        self.timings = dict

    def _publish(self) -> None:
        phase = self._phase()
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.status = [self._network_status(phase)]
        message.status += [task.status(self._prefix, phase == 'active') for task in self._cameras]
        self._publisher.publish(message)

    def _network_status(self, phase: str) -> DiagnosticStatus:
        values: dict[str, object] = {'memory (MB)': f'{_resident_bytes() / 1e6:.0f}'}
        hardware = ''
        if self._detector is not None:
            network = self._detector.network
            hardware = str(network.device)
            values |= {
                'device': network.device,
                'precision': network.precision,
                'checkpoint': network.name,
                'sha256': network.sha256,
            }
            if network.device.type == 'cuda':
                import torch

                reserved = torch.cuda.memory_reserved(network.device)
                values['device memory (MB)'] = f'{reserved / 1e6:.0f}'
            for stage, seconds in self.timings().items():
                values[f'{stage} (ms)'] = f'{1e3 * seconds:.1f}'
        return DiagnosticStatus(
            level=DiagnosticStatus.OK,
            name=f'{self._prefix}: network',
            message=phase,
            hardware_id=hardware,
            values=_key_values(values),
        )


class _CameraTask:
    """What is said of one camera: counts since it was configured, rates since it was last said."""

    def __init__(self, stream: CameraStream) -> None:
        self._stream = stream
        self._counts = Counts()
        self._time = time.monotonic()

    def status(self, prefix: str, is_active: bool) -> DiagnosticStatus:
        """Return the state of the camera, most specific cause first."""
        stream = self._stream
        counts, before = stream.counts, self._counts
        now = time.monotonic()
        seconds = now - self._time
        self._counts, self._time = counts, now
        values: dict[str, object] = asdict(counts)
        values['input rate (Hz)'] = f'{(counts.received - before.received) / seconds:.1f}'
        values['output rate (Hz)'] = f'{(counts.processed - before.processed) / seconds:.1f}'
        latencies = stream.drain_latencies()
        if latencies:
            for percent in (50, 95):
                latency = 1e3 * np.percentile(latencies, percent)
                values[f'latency from stamp p{percent} (ms)'] = f'{latency:.0f}'
        age = stream.age
        if age is not None:
            values['age of last frame (s)'] = f'{age:.1f}'
        level, message = DiagnosticStatus.OK, 'OK'
        if not is_active:
            message = 'inactive'
        elif stream.problem:
            level, message = DiagnosticStatus.ERROR, stream.problem
        elif counts.received == 0:
            level, message = DiagnosticStatus.WARN, 'no frame received yet'
        return DiagnosticStatus(
            level=level,
            name=f'{prefix}: camera {stream.topic.name}',
            message=message,
            hardware_id=stream.topic.name,
            values=_key_values(values),
        )


def _key_values(values: dict[str, object]) -> list[KeyValue]:
    return [KeyValue(key=key, value=str(value)) for key, value in values.items()]


def _resident_bytes() -> int:
    pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[1])
    return pages * os.sysconf('SC_PAGESIZE')
