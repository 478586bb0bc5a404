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

"""What it costs to record four compressed cameras and a raw one, all 1920 x 1080 at 30 Hz.

    python benchmarks/event_recorder.py --seconds 20

Cameras and recorder are processes of their own. Measured, first while only the last seconds are
kept and then while a recording is written: processor time and memory of the recorder, bytes
written, and the account of messages, which must be exact. What the middleware loses on the way, on
a machine that is too slow for its cameras, shows as sent less received.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from live_node import machine
from rich.console import Console
from rich.table import Table

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.rig.events import emit, stop_on_signal
from maskomaly_ros.rig.processes import ChildProcesses, ros_environment

SIZE = (1080, 1920)
NAME = 'maskomaly_event_recorder'
_TIMEOUT = 120.0


def run_cameras(arguments: argparse.Namespace) -> int:
    """Publish until a signal, and say how many frames were sent, once a second and at the end."""
    import cv2
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from rclpy.signals import SignalHandlerOptions
    from sensor_msgs.msg import CompressedImage, Image

    stop = stop_on_signal()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node('cameras')
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (SIZE[0] // 12, SIZE[1] // 12, 3), np.uint8)
    picture = cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    jpeg = CompressedImage(format='jpeg')
    jpeg.data.frombytes(cv2.imencode('.jpg', picture)[1].tobytes())
    raw = Image(height=SIZE[0], width=SIZE[1], encoding='bgr8', step=3 * SIZE[1])
    raw.data.frombytes(picture.tobytes())
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    cameras: list[tuple[Any, Any]] = [
        (node.create_publisher(CompressedImage, f'/c{n}/image_raw/compressed', qos), jpeg)
        for n in range(arguments.compressed)
    ]
    cameras += [
        (node.create_publisher(Image, f'/r{n}/image_raw', qos), raw) for n in range(arguments.raw)
    ]
    emit('size', compressed=len(jpeg.data), raw=len(raw.data))
    while not stop.is_set() and not all(p.get_subscription_count() for p, _ in cameras):
        stop.wait(0.1)
    sent, begin = 0, time.monotonic()
    reported = begin
    while not stop.is_set():
        for publisher, message in cameras:
            message.header.stamp = node.get_clock().now().to_msg()
            publisher.publish(message)
            sent += 1
        now = time.monotonic()
        if now - reported > 1.0:
            reported = now
            emit('sent', frames=sent, seconds=now - begin)
        stop.wait(max(0.0, begin + sent / len(cameras) / arguments.rate - now))
    emit('sent', frames=sent, seconds=time.monotonic() - begin)
    return 0


class Recorder:
    """The recorder's process, seen from outside."""

    def __init__(self, pid: int) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from std_srvs.srv import Trigger

        self._pid = pid
        rclpy.init()
        self._node = rclpy.create_node('benchmark')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self.values: dict[str, str] = {}
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_state, 10)
        self._request = Trigger.Request()
        self._client = self._node.create_client(Trigger, f'/{NAME}/record')

    def _on_state(self, message: Any) -> None:
        for status in message.status:
            if status.name.startswith(NAME):
                self.values = {v.key: v.value for v in status.values}

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.1)

    def wait_for(self, key: str, least: int) -> None:
        """Wait until a value of the diagnostics is large enough."""
        end = time.monotonic() + _TIMEOUT
        while int(self.values.get(key, 0)) < least:
            if time.monotonic() > end:
                raise MaskomalyError(f'{key} is not {least} within {_TIMEOUT:g} s: {self.values}')
            self._executor.spin_once(timeout_sec=0.1)

    def record(self) -> None:
        """Ask for a recording."""
        self._client.call_async(self._request)

    def cpu(self) -> float:
        """Return the processor time of the process, in seconds."""
        fields = Path(f'/proc/{self._pid}/stat').read_text().rpartition(')')[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def memory(self) -> float:
        """Return its resident memory, in MB."""
        pages = int(Path(f'/proc/{self._pid}/statm').read_text().split()[1])
        return pages * os.sysconf('SC_PAGESIZE') / 1e6


def measure(arguments: argparse.Namespace, processes: ChildProcesses) -> dict[str, Any]:
    """Run cameras and recorder; return what was measured."""
    folder = processes.logs / 'events'
    topics = [f'/c{n}/image_raw/compressed' for n in range(arguments.compressed)]
    topics += [f'/r{n}/image_raw' for n in range(arguments.raw)]
    parameters = {
        'folder': folder, 'camera_topics': json.dumps(topics), 'topics': json.dumps(topics),
        'obstacle_source': 'none', 'novelty_threshold': 0.0, 'pre_roll': arguments.pre_roll,
        'post_roll': arguments.seconds, 'max_length': arguments.pre_roll + arguments.seconds,
        'max_memory': arguments.max_memory, 'compression': arguments.compression, 'keep_free': 0,
    }  # fmt: skip
    given = [part for n, value in parameters.items() for part in ('-p', f'{n}:={value}')]
    child = processes.start('recorder', 'maskomaly_ros.recorder', '--ros-args', *given)
    recorder = Recorder(child.process.pid)
    camera_arguments = [f'--{n}={getattr(arguments, n)}' for n in ('compressed', 'raw', 'rate')]
    cameras = processes.start('cameras', 'event_recorder', '--role=cameras', *camera_arguments)
    recorder.wait_for('received', 10)
    recorder.wait(arguments.pre_roll + 2.0)
    report: dict[str, Any] = {}
    before, start = recorder.cpu(), time.monotonic()
    recorder.wait(arguments.seconds)
    seconds = time.monotonic() - start
    report['keeping: cores'] = round((recorder.cpu() - before) / seconds, 3)
    report['keeping: memory (MB)'] = round(recorder.memory())
    account = recorder.values
    report['keeping: received'] = int(account['received'])
    report['keeping: dropped'] = int(account['dropped'])
    before, start = recorder.cpu(), time.monotonic()
    recorder.record()
    recorder.wait_for('recordings', 1)
    seconds = time.monotonic() - start
    report['recording: cores'] = round((recorder.cpu() - before) / seconds, 3)
    report['recording: memory (MB)'] = round(recorder.memory())
    processes.stop(cameras, 10.0)
    sent: dict[str, Any] = {}
    while not sent.get('status') and (found := processes.next_event(20.0)):
        sent = found[1] if found[0] is cameras else sent
        if sent.get('event') == 'sent':
            report['sent'], report['cameras: Hz'] = (
                sent['frames'],
                sent['frames'] / (sent['seconds'] * (arguments.compressed + arguments.raw)),
            )
        elif sent.get('event') == 'size':
            report['bytes of a frame'] = {n: sent[n] for n in ('compressed', 'raw')}
        elif sent.get('event') == 'exit':
            break
    recorder.wait(2.5)
    values = recorder.values
    report |= {n: int(values[n]) for n in ('received', 'kept', 'dropped', 'lost to a slow disk')}
    (path,) = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith('.')]
    facts = json.loads((path / 'event.json').read_text())
    length = (facts['end_ns'] - facts['start_ns']) / 1e9
    report['recording (s)'] = round(length, 2)
    report['messages in it'] = sum(facts['messages'].values())
    report['MB a second of drive'] = round(facts['size'] / length / 1e6, 1)
    report['MB a second written'] = round(facts['size'] / seconds / 1e6, 1)
    report['checks'] = {
        'received = kept + dropped': report['received'] == report['kept'] + report['dropped'],
        'nothing is lost in the ring': report['dropped'] == 0,
        'no more is received than was sent': report['received'] <= report['sent'],
    }
    return report


def main() -> int:
    """Measure, print, save; the exit status is 1 where a check failed."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--seconds', type=float, default=20.0, help='of each part')
    parser.add_argument('--pre-roll', type=float, default=5.0)
    parser.add_argument('--compressed', type=int, default=4, help='cameras')
    parser.add_argument('--raw', type=int, default=1, help='cameras')
    parser.add_argument('--rate', type=float, default=30.0, help='of each camera, Hz')
    parser.add_argument('--max-memory', type=int, default=3000, help='MB')
    parser.add_argument('--compression', choices=['none', 'zstd'], default='none')
    parser.add_argument('--json', type=Path)
    parser.add_argument('--role', choices=['cameras'], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role == 'cameras':
        return run_cameras(arguments)
    os.environ.update(ros_environment())
    os.environ['PYTHONPATH'] = os.pathsep.join([str(Path(__file__).parent), *sys.path[1:]])
    with (
        tempfile.TemporaryDirectory() as logs,
        ChildProcesses(Path(logs), os.environ) as processes,
    ):
        report = measure(arguments, processes)
    report['machine'] = machine()
    console = Console()
    table = Table(title=f'{arguments.compressed} compressed and {arguments.raw} raw cameras')
    table.add_column('')
    table.add_column('', justify='right')
    for name, value in report.items():
        if name not in ('checks', 'machine'):
            table.add_row(name, str(value))
    console.print(table)
    for name, kept in report['checks'].items():
        console.print(f'{name}: {"kept" if kept else "MISSED"}')
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
    return 0 if all(report['checks'].values()) else 1


if __name__ == '__main__':
    sys.exit(main())
