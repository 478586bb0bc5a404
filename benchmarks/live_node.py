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

"""A node in a process of its own, and one frame after another through it."""

from __future__ import annotations

import os
import platform
import queue
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.rig.processes import ChildProcesses, ros_environment

CAMERA = '/camera/image_raw'

_START_TIMEOUT = 300.0
_FRAME_TIMEOUT = 20.0


class LiveNode:
    """The node, a camera and a listener.

    Attributes:
        pid: process of the node.
        started: when that process was started, by time.time().
        latency: seconds from the stamp of the frame processed last to its last output.

    """

    def __init__(
        self, processes: ChildProcesses, outputs: dict[str, type], parameters: Any
    ) -> None:
        # After the environment is set: DDS reads it.
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import Image

        self._processes = processes
        self.started = time.time()
        self.latency = 0.0
        self._child = processes.start(
            'node',
            'maskomaly_ros.node',
            '--ros-args',
            *(word for n, v in parameters.items() for word in ('-p', f'{n}:={v}')),
        )
        self.pid = self._child.process.pid
        self._node = rclpy.create_node('benchmark')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._publisher = self._node.create_publisher(Image, CAMERA, qos)
        self._arrived: dict[str, tuple[int, float]] = {}
        for name, kind in outputs.items():
            self._node.create_subscription(
                kind, f'/camera/anomaly/{name}', lambda m, name=name: self._on(name, m), 10
            )
        self._outputs = set(outputs)
        self.lost = 0
        self._wait(lambda: self._publisher.get_subscription_count() > 0, _START_TIMEOUT)

    def _on(self, name: str, message: Any) -> None:
        stamp = message.header.stamp
        self._arrived[name] = (stamp.sec * 10**9 + stamp.nanosec, time.perf_counter())

    def _wait(self, condition: Any, timeout: float) -> bool:
        end = time.monotonic() + timeout
        while not condition():
            try:
                child, event = self._processes.next_event(0.0)
            except queue.Empty:
                pass
            else:
                raise MaskomalyError(f'the {child.name} ended: {event}\n{child.tail()}')
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=0.05)
        return True

    def process(self, frame: NDArray[np.uint8]) -> float:
        """Publish a frame, RGB uint8 [H, W, 3]; return the seconds until all outputs are here.

        A frame that is lost on its way is published again, and counted in `lost`.

        Raises:
            MaskomalyError: no result comes, or the node ended.

        """
        from std_msgs.msg import Header

        from maskomaly_ros.node.messages import picture_message

        for _ in range(3):
            now, stamped = self._node.get_clock().now(), time.perf_counter()
            message = picture_message(frame, Header(stamp=now.to_msg(), frame_id='camera'))

            def is_done(stamp: int = now.nanoseconds) -> bool:
                return {n for n, (s, _) in self._arrived.items() if s == stamp} == self._outputs

            start = time.perf_counter()
            self._publisher.publish(message)
            if self._wait(is_done, _FRAME_TIMEOUT):
                end = max(time for _, time in self._arrived.values())
                self.latency = end - stamped
                return end - start
            self.lost += 1
        raise MaskomalyError(f'no result within {_FRAME_TIMEOUT} s, three times')


@contextmanager
def live_node(outputs: dict[str, type] | None = None, **parameters: Any) -> Iterator[LiveNode]:
    """Start the node with parameters and wait until it listens.

    Args:
        outputs: message type by output; by default the mask alone.
        parameters: of the node.

    """
    os.environ.update(ros_environment())
    import rclpy
    from sensor_msgs.msg import Image

    rclpy.init()
    try:
        with (
            tempfile.TemporaryDirectory() as logs,
            ChildProcesses(Path(logs), os.environ) as processes,
        ):
            parameters = {'camera_topics': f'[{CAMERA}]', **parameters}
            yield LiveNode(processes, outputs or {'mask': Image}, parameters)
    finally:
        rclpy.utilities.try_shutdown()


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    import torch

    lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    names = [line.partition(': ')[2] for line in lines if line.startswith('model name')]
    return {
        'processor': names[0] if names else platform.processor(),
        'cores': len(os.sched_getaffinity(0)),
        'load_average': round(os.getloadavg()[0], 1),
        'python': platform.python_version(),
        'torch': torch.__version__,
        'ros': os.environ.get('ROS_DISTRO', 'wheels'),
    }
