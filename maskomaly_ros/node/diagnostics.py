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

Named by the conventions of diagnostic_updater: `<node>: <task>`. docs/operations.md explains every
state and value.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from maskomaly_ros.detector import Detector
from maskomaly_ros.networks import Network, backend_in_words
from maskomaly_ros.node.gpu import Gpu
from maskomaly_ros.node.health import Condition, Limits, conditions
from maskomaly_ros.node.status import PERIOD, key_values, resident_bytes
from maskomaly_ros.node.worker import Camera, WorkerState
from maskomaly_ros.queries import bundled_queries_file

_UNKNOWN = '-'


class Diagnostics:
    """Publishes the state of the node by a timer of wall time, whatever the cameras do.

    Args:
        node: owns the publisher and the timer.
        phase: returns the state of the lifecycle, such as `active`.
        limits: returns from when on a camera is in trouble.

    Attributes:
        worker: returns how the worker is; to be replaced.
        problem: why the node is not configured; empty where that is as it should be.

    """

    def __init__(self, node: Node, phase: Callable[[], str], limits: Callable[[], Limits]) -> None:
        self._node = node
        self._phase = phase
        self._limits = limits
        self._prefix = node.get_fully_qualified_name().lstrip('/')
        self._cameras: tuple[Camera, ...] = ()
        self._fixed: dict[str, object] = {}
        self._network: Network | None = None
        self._gpu: Gpu | None = None
        self.worker: Callable[[], WorkerState] = WorkerState
        self.problem = ''
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        clock = Clock(clock_type=ClockType.STEADY_TIME)  # simulated time may stand still
        self._timer = node.create_timer(PERIOD, self.publish, clock=clock)

    def watch(
        self, detector: Detector, queries_file: str | None, cameras: Sequence[Camera]
    ) -> None:
        """Report on a detector and its cameras from now on.

        Args:
            detector: finds obstacles.
            queries_file: path that it was configured with; None for that of its checkpoint.
            cameras: of the node.

        """
        network = self._network = detector.network
        file = Path(queries_file) if queries_file else bundled_queries_file(network.name)
        self._cameras = tuple(cameras)
        self._gpu = Gpu(network.device)
        self._fixed = {
            'device': network.device,
            'precision': network.precision,
            'checkpoint': network.name,
            'checkpoint sha256': network.sha256,
            'queries file': file or 'none',
            'queries sha256': _hash(file),
        }
        self.problem = ''

    def forget(self) -> None:
        """Report on nothing but the phase."""
        self._cameras = ()
        self._gpu = None
        self._network = None
        self._fixed = {}
        self.worker = WorkerState

    def publish(self) -> None:
        """Publish the state now."""
        phase = self._phase()
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.status = [self._network_status(phase)]
        message.status += [self._camera_status(camera, phase) for camera in self._cameras]
        self._publisher.publish(message)

    def _network_status(self, phase: str) -> DiagnosticStatus:
        worker = self.worker()
        values = {**self._fixed, 'memory (MB)': f'{resident_bytes() / 1e6:.0f}'}
        if self._network is not None:  # a faster one may have come since
            values['backend'] = backend_in_words(self._network)
        if self._gpu is not None:
            values |= self._gpu.values()
            busy = 0.0 if worker.busy_since is None else time.monotonic() - worker.busy_since
            values |= {f'{stage} (ms)': _ms(t) for stage, t in worker.timings.items()}
            values |= {
                'frames in last batch': worker.batch,
                'batch under way for (s)': f'{busy:.1f}',
                'last problem': worker.last_problem or 'none',
            }
        throttling = values.get('GPU throttling', 'none')
        level, text = DiagnosticStatus.OK, phase
        if self.problem or worker.problem:
            level, text = DiagnosticStatus.ERROR, f'{phase}: {self.problem or worker.problem}'
        elif throttling != 'none':
            level, text = DiagnosticStatus.WARN, f'{phase}: the GPU is throttled: {throttling}'
        return DiagnosticStatus(
            level=level,
            name=f'{self._prefix}: network',
            message=text,
            hardware_id=str(self._fixed.get('device', '')),
            values=key_values({'state': phase, **values}),
        )

    def _camera_status(self, camera: Camera, phase: str) -> DiagnosticStatus:
        stream = camera.stream
        topic = stream.topic.name
        seen = replace(stream.observe(), publishers=self._node.count_publishers(topic))
        found = [Condition(DiagnosticStatus.OK, phase)]
        if phase == 'active':
            found = conditions(seen, self._limits())
        latencies = dict.fromkeys((50, 95), _UNKNOWN)
        if seen.latencies:
            latencies = {p: _ms(np.percentile(seen.latencies, p)) for p in latencies}
        values = {
            'state': found[0].state,
            'also': '; '.join(map(str, found[1:])) or 'none',
            # Not asdict(): Python keeps a freed tuple of each, up to 2000, one more every second.
            **vars(stream.counts),
            'input rate (Hz)': f'{seen.input_rate:.1f}',
            'output rate (Hz)': f'{seen.output_rate:.1f}',
            **{f'latency from stamp p{p} (ms)': text for p, text in latencies.items()},
            'age of last frame (s)': _UNKNOWN if seen.age is None else f'{seen.age:.1f}',
            'same picture for (s)': f'{seen.frozen:.1f}',
            'clock': seen.clock or 'OK',
            'missing by stamps (%)': f'{100 * seen.missing:.0f}',
            'publishers': seen.publishers,
            'results wanted': 'yes' if camera.outputs.are_wanted else 'no',
            'places': camera.ground.state,
        }
        return DiagnosticStatus(
            level=max(condition.level for condition in found),
            name=f'{self._prefix}: camera {topic}',
            message=str(found[0]),
            hardware_id=topic,
            values=key_values(values),
        )


def _ms(seconds: float) -> str:
    return f'{1e3 * seconds:.1f}'


def _hash(file: Path | None) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() if file else 'none'
    except OSError:  # it was read when the detector was made, and may be gone since
        return 'unreadable'
