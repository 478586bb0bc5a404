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

"""Offer the node far more frames than its network can process, and see what it does.

    python benchmarks/load.py --minutes 10

Four cameras of 1920 x 1080 pixels send 30 frames a second each; the network is a stand-in that
takes as long as lets it manage a tenth of them. Cameras and node are processes of their own.
Checked: what is published is never older than two batches and the transport; memory stays flat;
the account of frames is exact. Measured: the processor time of a frame that is replaced, from a
second run in which the cameras send only as much as can be processed.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import struct
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from live_node import machine
from rich.console import Console
from rich.table import Table

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.rig.processes import ChildProcesses, ros_environment

CAMERAS = ('front', 'rear', 'left', 'right')
SIZE = (1080, 1920)
OUTCOMES = ('processed', 'replaced', 'bad', 'failed', 'stale', 'frozen', 'unwanted')
_TRANSPORT = 0.1  # seconds that a frame and its mask may take on their ways
_GROWTH = 0.05  # of memory, that is still flat


def main() -> int:
    """Measure, print, save; the exit status is 1 where a check failed."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--rate', type=float, default=30.0, help='of each camera, Hz')
    parser.add_argument('--part', type=float, default=0.1, help='that the network manages')
    parser.add_argument(
        '--json', type=Path, default=Path(__file__).parent / 'results' / 'load.json'
    )
    parser.add_argument('--role', choices=['cameras'], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role == 'cameras':
        return run_cameras(arguments)
    os.environ.update(ros_environment())
    os.environ['PYTHONPATH'] = os.pathsep.join([str(Path(__file__).parent), *sys.path[1:]])
    console = Console()
    with (
        tempfile.TemporaryDirectory() as logs,
        ChildProcesses(Path(logs), os.environ) as processes,
    ):
        report = Measurement(processes, arguments, console).run()
    report['machine'] = machine()
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
    table = Table(title=f'Load: {len(CAMERAS)} cameras, {arguments.minutes:g} minutes')
    table.add_column('')
    table.add_column('', justify='right')
    for name, value in report.items():
        if name not in ('checks', 'machine', 'memory'):
            table.add_row(name, str(value))
    console.print(table)
    for name, kept in report['checks'].items():
        console.print(f'{name}: {"kept" if kept else "MISSED"}')
    console.print(f'Saved {arguments.json}')
    return 0 if all(report['checks'].values()) else 1


class Measurement:
    """A node under load, and what comes of it."""

    def __init__(self, processes: ChildProcesses, arguments: Any, console: Console) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from sensor_msgs.msg import Image

        self._processes = processes
        self._arguments = arguments
        self._console = console
        rclpy.init()
        self._rclpy = rclpy
        self._node = rclpy.create_node('load')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self.latencies: list[float] = []
        self.outputs: dict[str, int] = defaultdict(int)
        self.values: dict[str, dict[str, str]] = {}
        self.batches: list[float] = []
        self.memory: list[float] = []
        for side in CAMERAS:
            self._node.create_subscription(
                Image, f'/{side}/anomaly/mask', lambda m, s=side: self._on_mask(s, m), 10
            )
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_state, 10)

    def run(self) -> dict[str, Any]:
        """Return the figures and the checks."""
        arguments = self._arguments
        topics = ', '.join(f'/{side}/image_raw' for side in CAMERAS)
        managed = arguments.rate * arguments.part
        node = self._processes.start(
            'node', 'stand_in', str(1 / managed), '--ros-args', '-p', f'camera_topics:=[{topics}]'
        )
        pid = node.process.pid
        self._spin(lambda: self._node.count_subscribers('/front/image_raw') > 0, 120.0)

        calm_minutes = max(0.25, arguments.minutes / 10)
        self._console.print(f'Cameras at {managed:g} Hz for {calm_minutes:g} minutes')
        calm = self._phase(pid, managed, calm_minutes)
        for seen in (self.latencies, self.batches, self.memory):
            seen.clear()
        self._console.print(f'Cameras at {arguments.rate:g} Hz for {arguments.minutes:g} minutes')
        load = self._phase(pid, arguments.rate, arguments.minutes)

        totals = {n: sum(int(self.values[s][n]) for s in CAMERAS) for n in ('received', *OUTCOMES)}
        latency = np.array(self.latencies)
        longest = max(self.batches)
        bound = 2 * longest + _TRANSPORT
        # Two runs, two unknowns: what a processed frame costs, and what a replaced one.
        known = np.array([[run['processed'], run['replaced']] for run in (calm, load)])
        costs = np.linalg.lstsq(known, np.array([calm['cpu'], load['cpu']]), rcond=None)[0]
        third = max(1, len(self.memory) // 3)
        first, last = (float(np.median(m)) for m in (self.memory[:third], self.memory[-third:]))
        exact = all(
            int(self.values[s]['received']) == sum(int(self.values[s][n]) for n in OUTCOMES)
            and int(self.values[s]['processed']) == self.outputs[s]
            for s in CAMERAS
        )
        return {
            'sent': calm['sent'] + load['sent'],
            **totals,
            'masks': sum(self.outputs.values()),
            'offered rate (Hz)': round(load['sent'] / load['seconds'] / len(CAMERAS), 1),
            'output rate (Hz)': round(load['processed'] / load['seconds'] / len(CAMERAS), 2),
            'batch p50 (ms)': round(1000 * float(np.median(self.batches))),
            'batch max (ms)': round(1000 * longest),
            **{
                f'latency p{p} (ms)': round(1000 * float(np.percentile(latency, p)))
                for p in (50, 95, 99)
            },
            'latency max (ms)': round(1000 * float(latency.max())),
            'processor time of the node (cores)': round(load['cpu'] / load['seconds'], 3),
            'processor time of a processed frame (ms)': round(1000 * float(costs[0]), 1),
            'processor time of a replaced frame (ms)': round(1000 * float(costs[1]), 2),
            'memory, first third (MB)': round(first, 1),
            'memory, last third (MB)': round(last, 1),
            'memory': self.memory,
            'checks': {
                f'latency within two batches and {1000 * _TRANSPORT:g} ms': bool(
                    latency.max() <= bound
                ),
                'memory flat': last <= first * (1 + _GROWTH),
                'account exact, every processed frame arrived': exact,
            },
        }

    def _phase(self, pid: int, rate: float, minutes: float) -> dict[str, float]:
        seconds = 60 * minutes
        before, cpu, start = self._totals(), processor_seconds(pid), time.monotonic()
        self._processes.start(
            'cameras', 'load', '--role', 'cameras', '--rate', str(rate), '--minutes', str(minutes)
        )
        sent = None

        def has_ended() -> bool:
            nonlocal sent
            try:
                child, event = self._processes.next_event(0.0)
            except queue.Empty:
                return sent is not None
            if event['event'] == 'sent':
                sent = event['frames']
            elif child.name == 'node' or event.get('status'):
                raise MaskomalyError(f'the {child.name} ended: {event}\n{child.tail()}')
            return sent is not None

        self._spin(has_ended, seconds + 120.0)
        elapsed = time.monotonic() - start
        used = processor_seconds(pid) - cpu

        def is_settled() -> bool:
            return all(
                int(v['received']) == sum(int(v[n]) for n in OUTCOMES)
                and int(v['processed']) == self.outputs[side]
                for side, v in self.values.items()
            )

        settle = time.monotonic() + 3.0  # until two more diagnostics are here
        self._spin(lambda: time.monotonic() > settle and is_settled(), 30.0, must=False)
        after = self._totals()
        return {
            'sent': float(sent or 0),
            'seconds': elapsed,
            'cpu': used,
            **{name: after[name] - before[name] for name in after},
        }

    def _totals(self) -> dict[str, int]:
        return {
            name: sum(int(v.get(name, 0)) for v in self.values.values())
            for name in ('processed', 'replaced')
        }

    def _on_mask(self, side: str, message: Any) -> None:
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        self.latencies.append((time.time_ns() - stamp) / 1e9)
        self.outputs[side] += 1

    def _on_state(self, message: Any) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            if ': camera ' in status.name:
                self.values[status.name.split('/')[1]] = values
            elif 'network (ms)' in values:
                stages = [n for n in values if n.endswith(' (ms)')]
                self.batches.append(sum(float(values[n]) for n in stages) / 1000)
                self.memory.append(float(values['memory (MB)']))

    def _spin(self, condition: Any, timeout: float, must: bool = True) -> None:
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                if must:
                    raise MaskomalyError(f'nothing happened for {timeout:g} s')
                return
            self._executor.spin_once(timeout_sec=0.05)


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f'/proc/{pid}/stat').read_text(encoding='ascii').rpartition(')')[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf('SC_CLK_TCK')


def run_cameras(arguments: Any) -> int:
    """Publish from all cameras for a time, evenly, and say how much that was."""
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from rclpy.serialization import serialize_message
    from std_msgs.msg import Header

    from maskomaly_ros.node.messages import picture_message
    from maskomaly_ros.rig.events import emit

    rclpy.init()
    node = rclpy.create_node('cameras')
    qos = QoSProfile(depth=2, reliability=ReliabilityPolicy.BEST_EFFORT)
    from sensor_msgs.msg import Image

    publishers = [node.create_publisher(Image, f'/{side}/image_raw', qos) for side in CAMERAS]
    while not all(p.get_subscription_count() for p in publishers):
        time.sleep(0.05)
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    # Serialized once; only stamp and the first pixels differ, or Python would set the pace.
    message = bytearray(serialize_message(picture_message(noise, Header(frame_id='camera'))))
    sent, start = 0, time.monotonic()
    while time.monotonic() < start + 60 * arguments.minutes:
        for i, publisher in enumerate(publishers):
            due = start + (sent / len(publishers)) / arguments.rate
            time.sleep(max(0.0, due - time.monotonic()))
            now = time.time_ns()
            struct.pack_into('<iI', message, 4, now // 10**9, now % 10**9)
            struct.pack_into('<I', message, 4096 + i, sent)
            publisher.publish(bytes(message))
            sent += 1
    emit('sent', frames=sent)
    rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except MaskomalyError as error:
        sys.exit(f'Error: {error}')
