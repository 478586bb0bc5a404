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

"""What the node costs beside the network, and whether it keeps its memory flat.

    export PYTHONPATH=. OMP_WAIT_POLICY=PASSIVE
    $(make -s venv) benchmarks/node.py overhead
    $(make -s venv) benchmarks/node.py memory --size 320x180 --input 96x192

The node runs in a process of its own and gets one frame at a time, as a camera driver sends it.
`overhead` compares the time from publishing a frame to its mask with `Detector.detect` on the
same frame, here, in turn. `memory` follows the resident memory of the node over many frames.
Both save what they print with `--save`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rich.console import Console
from rich.progress import track
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from maskomaly_ros.detector import Detector
from maskomaly_ros.networks import InputSize
from maskomaly_ros.node.messages import picture_message
from maskomaly_ros.share import share_directory

CAMERA = '/benchmark/image_raw'
MASK = '/benchmark/anomaly/mask'
TIMEOUT = 60.0


class Peer:
    """A camera and a planner: publishes a frame and waits for its mask.

    Args:
        width: of the frame in pixels.
        height: of the frame in pixels.

    """

    def __init__(self, width: int, height: int) -> None:
        rclpy.init()
        self._node = rclpy.create_node('benchmark')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._arrivals: dict[int, float] = {}  # of masks, by the second of their stamp
        self._number = 0
        self._camera = self._node.create_publisher(
            Image, CAMERA, QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        )
        self._node.create_subscription(Image, MASK, self._note, 1)
        coarse = np.random.default_rng(0).integers(0, 256, (9, 16, 3), np.uint8)
        self.frame = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        self._message = picture_message(self.frame, Header(frame_id='camera'))

    def connect(self) -> None:
        """Wait until the node answers."""
        self._spin_until(self._camera.get_subscription_count, TIMEOUT)
        end = time.monotonic() + TIMEOUT
        while self.exchange(timeout=1.0) is None:
            if time.monotonic() > end:
                raise SystemExit(f'no mask within {TIMEOUT:.0f} s')

    def exchange(self, timeout: float = 10.0) -> float | None:
        """Publish the frame; return the seconds until its mask came, or None if it was lost."""
        self._number += 1
        self._message.header.stamp.sec = self._number
        start = time.perf_counter()
        self._camera.publish(self._message)
        self._spin_until(lambda: self._number in self._arrivals, timeout)
        arrival = self._arrivals.get(self._number)
        return None if arrival is None else arrival - start

    def _note(self, mask: Image) -> None:
        self._arrivals[mask.header.stamp.sec] = time.perf_counter()

    def _spin_until(self, condition: Callable[[], object], timeout: float) -> None:
        end = time.monotonic() + timeout
        while not condition() and time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.5)


@contextmanager
def running_node(options: argparse.Namespace) -> Iterator[int]:
    """Run the node in a process of its own; yields its process id."""
    parameters = {
        'camera_topics': f'[{CAMERA}]',
        'checkpoint': options.checkpoint,
        'device': options.device,
    }
    if options.input:
        sides = sorted(options.input)
        parameters |= {'input_shortest_side': sides[0], 'input_longest_side': sides[1]}
    arguments = [word for n, v in parameters.items() for word in ('-p', f'{n}:={v}')]
    command = [sys.executable, '-m', 'maskomaly_ros.node.maskomaly_node', '--ros-args', *arguments]
    process = subprocess.Popen(command)
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)


def measure_overhead(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Return medians in milliseconds of both ways that a frame can take."""
    detector = Detector.from_checkpoint(
        options.checkpoint,
        device=options.device,
        input_size=InputSize(*sorted(options.input)) if options.input else None,
    )
    through_node, detect, lost = [], [], 0
    with running_node(options):
        peer = Peer(*options.size)
        peer.connect()
        for _ in track(range(options.frames or 100), 'frames', console=console):
            seconds = peer.exchange()
            if seconds is None:
                lost += 1
                continue
            through_node.append(seconds)
            start = time.perf_counter()
            (detection,) = detector.detect([peer.frame])
            _ = detection.mask
            detect.append(time.perf_counter() - start)
    node_ms, detect_ms = (1e3 * float(np.median(times)) for times in (through_node, detect))
    return {
        'frames': len(detect),
        'lost': lost,
        'detect (ms)': round(detect_ms, 1),
        'publish to mask (ms)': round(node_ms, 1),
        'overhead (ms)': round(node_ms - detect_ms, 1),
        'overhead (%)': round(100 * (node_ms / detect_ms - 1), 1),
    }


def measure_memory(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Return the resident memory of the node in MB at start and end, and its slope."""
    frames = options.frames or 5000
    samples: list[tuple[int, float]] = []
    lost = 0
    with running_node(options) as pid:
        peer = Peer(*options.size)
        peer.connect()
        for number in track(range(frames), 'frames', console=console):
            lost += peer.exchange() is None
            if number % (frames // 100 or 1) == 0:
                samples.append((number, resident_megabytes(pid)))
    settled = np.array([s for s in samples if s[0] >= frames // 5])
    (slope, _), covariance = np.polyfit(settled[:, 0], settled[:, 1], 1, cov=True)
    return {
        'frames': frames,
        'lost': lost,
        'first (MB)': round(samples[0][1], 1),
        'after a fifth (MB)': round(float(settled[0, 1]), 1),
        'last (MB)': round(samples[-1][1], 1),
        'slope after a fifth (MB per 1000 frames)': round(1e3 * float(slope), 3),
        'its standard error': round(1e3 * float(np.sqrt(covariance[0, 0])), 3),
    }


def resident_megabytes(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f'/proc/{pid}/statm').read_text(encoding='ascii').split()[1])
    return pages * os.sysconf('SC_PAGESIZE') / 1e6


def prepare_environment() -> None:
    """Keep to this machine and to our own domain, with room for large frames in Fast DDS."""
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # reaches the node
    os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 101)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    profile = share_directory() / 'config' / 'fastdds.xml'
    os.environ.setdefault('FASTRTPS_DEFAULT_PROFILES_FILE', str(profile))


def read_size(text: str) -> tuple[int, int]:
    """Read 1280x720 as width and height."""
    width, height = text.split('x')
    return int(width), int(height)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('what', choices=['overhead', 'memory'])
    parser.add_argument('--checkpoint', default='demo')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--size', type=read_size, default='1280x720', help='of the frames')
    parser.add_argument('--input', type=read_size, help='of the network; default: its own')
    parser.add_argument('--frames', type=int, default=0, help='default: 100, or 5000 for memory')
    parser.add_argument('--save', type=Path, help='JSON file')
    options = parser.parse_args()
    prepare_environment()
    console = Console()
    measure = {'overhead': measure_overhead, 'memory': measure_memory}[options.what]
    results = {
        'frame': 'x'.join(map(str, options.size)),
        'checkpoint': options.checkpoint,
        'device': options.device,
        'cpus': os.cpu_count(),
        'python': platform.python_version(),
        **measure(options, console),
        'load average': os.getloadavg()[0],
    }
    for name, value in results.items():
        console.print(f'{name:>42}  {value}')
    if options.save:
        options.save.write_text(json.dumps(results, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
