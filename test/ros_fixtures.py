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

"""Real nodes over real DDS: a context, an executor and the peers of the node, per test."""

from __future__ import annotations

import gc
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_networks import RedIsAnomalous

from maskomaly_ros.detector import Detector, DetectorConfig
from maskomaly_ros.networks import InputSize, MaskPrediction
from maskomaly_ros.rig.processes import free_domain
from maskomaly_ros.scoring import ScoringParameters

# Set before rclpy is imported. Test processes that run side by side must not hear each other.
os.environ['ROS_DOMAIN_ID'] = str(free_domain())
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ.setdefault('ROS_LOG_DIR', tempfile.mkdtemp(prefix='maskomaly_test_log_'))

TIMEOUT = 30.0
PROCESS_TIMEOUT = 60.0


@dataclass
class HeldNetwork(RedIsAnomalous):
    """A network that can be held, to see what waits meanwhile, and made to fail.

    Each batch takes one of `failures`, None of which lets it pass.
    """

    input_size: InputSize = field(default_factory=lambda: InputSize(360, 640))
    batches: list[list[NDArray[np.uint8]]] = field(default_factory=list)
    failures: list[Exception | None] = field(default_factory=list)
    warmed_up: list[tuple[tuple[int, int], int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self._open = threading.Event()
        self._open.set()

    def hold(self) -> None:
        """Let predict() wait until release()."""
        self._open.clear()

    def release(self) -> None:
        """Let predict() answer again."""
        self._open.set()

    def forget(self) -> None:
        """Forget the batches so far, such as the one that warms up."""
        self.batches.clear()
        while self.entered.acquire(blocking=False):
            pass

    def warm_up(self, frame_size: tuple[int, int], batch: int = 1) -> None:
        self.warmed_up.append((frame_size, batch))

    def predict(self, frames: Sequence[NDArray[np.uint8]]) -> MaskPrediction:
        self.batches.append([frame.copy() for frame in frames])
        self.entered.release()
        assert self._open.wait(TIMEOUT)
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        return super().predict(frames)


CONFIG = DetectorConfig(ScoringParameters(anomalous_queries=(1,)), obstacle_threshold=0.5)


@pytest.fixture
def network() -> Iterator[HeldNetwork]:
    network = HeldNetwork()
    yield network
    network.release()


@pytest.fixture
def domain() -> int | None:
    """Return the ROS domain of a test; None is that of the process."""
    return None


@pytest.fixture
def ros(network: HeldNetwork, domain: int | None) -> Iterator[Ros]:
    pytest.importorskip('rclpy')
    peers = Ros(network, domain)
    yield peers
    network.release()
    peers.shutdown()


class Listener:
    """Subscribes to a topic and keeps what comes."""

    def __init__(self, node: Any, message_type: type, topic: str, qos: Any) -> None:
        self.messages: list[Any] = []
        self._node = node
        self._subscription = node.create_subscription(
            message_type, topic, self.messages.append, qos
        )

    def leave(self) -> None:
        self._node.destroy_subscription(self._subscription)


class Ros:
    """One context with an executor; the test's own node and the nodes under test share it."""

    def __init__(self, network: HeldNetwork, domain: int | None) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.network = network
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.node = rclpy.create_node('test_peer', context=self.context)
        self.executor.add_node(self.node)
        self.nodes = [self.node]
        self._clients: dict[str, Any] = {}

    def shutdown(self) -> None:
        for node in self.nodes:
            self.executor.remove_node(node)
            getattr(node, 'stop_working', lambda: None)()
            node.destroy_node()
        self.executor.shutdown()
        self.context.try_shutdown()
        # The state machine of a lifecycle node belongs to cycles; until it is collected, the graph
        # holds a node of this name, with services that nobody answers.
        del node
        self.nodes.clear()
        self._clients.clear()
        gc.collect()

    def spin_until(
        self, condition: Callable[[], object], what: str = '', timeout: float = TIMEOUT
    ) -> None:
        """Run callbacks until condition() holds; fail after timeout seconds."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f'not within {timeout} s: {what or condition}'
            self.executor.spin_once(timeout_sec=0.02)

    def maskomaly(self, *topics: str, start: bool = True, **options: Any) -> Any:
        """Make the node under test with the network of this test; start it unless told not to.

        Options are parameters, or `arguments` (of the command line) and `load_detector`.
        """
        from rclpy.parameter import Parameter

        from maskomaly_ros.node.maskomaly_node import MaskomalyNode

        arguments = options.pop('arguments', [])
        load = options.pop('load_detector', lambda _: Detector(self.network, CONFIG))
        parameters = {'camera_topics': list(topics or ['/front/image_raw']), **options}
        node = MaskomalyNode(
            load_detector=load,
            context=self.context,
            cli_args=['--ros-args', *arguments] if arguments else None,
            parameter_overrides=[Parameter(n, value=v) for n, v in parameters.items()],
        )
        self.nodes.append(node)
        self.executor.add_node(node)
        if start:
            assert node.autostart()
            self.network.forget()
        return node

    def listener(self, topic: str, message_type: type, qos: Any = 10) -> Listener:
        """Subscribe, whether somebody publishes or not."""
        return Listener(self.node, message_type, topic, qos)

    def listen(self, topic: str, message_type: type | None = None, qos: Any = 10) -> Listener:
        """Subscribe and wait until it and the publishers know each other."""
        from sensor_msgs.msg import Image

        listener = self.listener(topic, message_type or Image, qos)
        self.spin_until(lambda: self.node.count_publishers(topic), f'publisher of {topic}')
        self.match(topic)
        return listener

    def match(self, topic: str) -> None:
        """Wait until all of our publishers and subscriptions of a topic know each other.

        Each end learns of the other by itself, and what is sent meanwhile is lost.
        """

        def is_matched() -> bool:
            publishers = [p for n in self.nodes for p in n.publishers if p.topic_name == topic]
            listeners = [s for n in self.nodes for s in n.subscriptions if s.topic_name == topic]
            return all(p.get_subscription_count() >= len(listeners) for p in publishers) and all(
                s.get_publisher_count() >= len(publishers) for s in listeners
            )

        self.spin_until(is_matched, f'{topic} is matched')

    def publisher(self, message_type: type, topic: str, qos: Any = 5) -> Any:
        """Make a publisher and wait until somebody listens to it."""
        publisher = self.node.create_publisher(message_type, topic, qos)
        self.spin_until(publisher.get_subscription_count, f'{topic} has a subscriber')
        self.match(topic)
        return publisher

    def camera(self, topic: str, *, reliable: bool = False, compressed: bool = False) -> Any:
        """Make a publisher like that of a camera driver and wait until the node knows it."""
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import CompressedImage, Image

        policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=5, reliability=policy)
        return self.publisher(CompressedImage if compressed else Image, topic, qos)

    def call(self, service_type: type, name: str, request: Any) -> Any:
        """Call a service and return its response."""
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = self.node.create_client(service_type, name)
            self.spin_until(client.service_is_ready, f'service {name}')
        future = client.call_async(request)
        self.spin_until(future.done, f'answer of {name}')
        return future.result()

    @staticmethod
    def picture(height: int = 24, width: int = 32, red: bool = True) -> NDArray[np.uint8]:
        """Draw a grey RGB picture with a red 6 x 4 box at x 10, y 8."""
        frame = np.full((height, width, 3), 90, np.uint8)
        if red:
            frame[8:12, 10:16] = (255, 0, 0)
        return frame

    @staticmethod
    def image(stamp: int = 0, frame: NDArray[np.uint8] | None = None, **fields: Any) -> Any:
        """Make a camera frame, stamped with stamp in nanoseconds."""
        from builtin_interfaces.msg import Time
        from std_msgs.msg import Header

        from maskomaly_ros.node.messages import picture_message

        stamp_message = Time(sec=stamp // 10**9, nanosec=stamp % 10**9)
        header = Header(stamp=stamp_message, frame_id=fields.pop('frame_id', 'front_camera'))
        message = picture_message(Ros.picture() if frame is None else frame, header)
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    @staticmethod
    def jpeg(stamp: int, frame: NDArray[np.uint8]) -> Any:
        """Make a compressed camera frame."""
        from maskomaly_ros.node.messages import jpeg_message

        return jpeg_message(frame, 90, Ros.image(stamp).header)


class Process:
    """A node in another process, whose output is read as it comes."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.output = ''
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output += line
            self._lines.put(line)
        self._lines.put('')

    def wait_for(self, pattern: str) -> None:
        """Wait for a line of output."""
        while not re.search(pattern, line := self._lines.get(timeout=PROCESS_TIMEOUT)):
            assert line, f'ended without {pattern!r}:\n{self.output}'

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def status(self) -> int:
        """Wait for the end and return the exit status."""
        status = self._process.wait(PROCESS_TIMEOUT)
        self._reader.join(PROCESS_TIMEOUT)
        return status

    def end(self) -> None:
        self._process.kill()
        self.status()


@pytest.fixture
def run() -> Iterator[Callable[..., Process]]:
    processes: list[Process] = []

    def start(*arguments: str) -> Process:
        processes.append(Process(*arguments))
        return processes[-1]

    yield start
    for process in processes:
        process.end()
