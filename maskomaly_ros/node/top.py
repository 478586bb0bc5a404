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
"""What nodes say on /diagnostics, as a view in the terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

SILENT_AFTER = 3.0
_REFRESH = 0.25
_COLOURS = {b'\x00': 'green', b'\x01': 'yellow', b'\x02': 'red', b'\x03': 'red'}
# What our network task has and that of another node, by chance of the same name, has not.
_OURS = {'state', 'memory (MB)'}
_CAMERA_COLUMNS = {
    'Hz\nin/out': ('input rate (Hz)', 'output rate (Hz)'),
    'ms\np50/p95': ('latency from stamp p50 (ms)', 'latency from stamp p95 (ms)'),
    'age\ns': ('age of last frame (s)',),
    'received/\nreplaced': ('received', 'replaced'),
    'bad/fail/\nstale': ('bad', 'failed', 'stale'),
}
_FACTS = {
    'device': 'device',
    'precision': 'precision',
    'checkpoint': 'checkpoint',
    'queries file': 'queries',
    'memory (MB)': 'memory MB',
    'device memory (MB)': 'device memory MB',
    'GPU temperature (C)': 'GPU C',
    'GPU throttling': 'throttling',
    'frames in last batch': 'batch',
    'batch under way for (s)': 'under way s',
    'last problem': 'last problem',
}


@dataclass(frozen=True)
class Task:
    """One status of /diagnostics, and when it came (monotonic seconds)."""

    name: str
    level: bytes
    message: str
    values: dict[str, str]
    arrival: float


class Statuses:
    """The newest status of each task of the maskomaly nodes that were heard of."""

    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, Task]] = {}

    def take(self, statuses: Iterable[DiagnosticStatus], now: float) -> None:
        """Note the statuses of one message; those of other nodes are passed over."""
        tasks: dict[str, dict[str, Task]] = {}
        for status in statuses:
            node, _, name = _printable(status.name).partition(': ')
            values = {_printable(v.key): _printable(v.value) for v in status.values}
            task = Task(name, bytes(status.level), _printable(status.message), values, now)
            tasks.setdefault(node, {})[name] = task
        for node, found in tasks.items():
            if 'network' in found and found['network'].values.keys() >= _OURS:
                self._nodes[node] = found  # one message has all tasks of a node

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def render(self, now: float) -> RenderableType:
        """Return a panel for each node, or a word on what is waited for."""
        if not self._nodes:
            domain = os.environ.get('ROS_DOMAIN_ID', '0')
            return Text(f'waiting for a maskomaly node on /diagnostics (ROS_DOMAIN_ID {domain}) …')
        return Group(*(_panel(name, self._nodes[name], now) for name in sorted(self._nodes)))


def _panel(node: str, tasks: dict[str, Task], now: float) -> Panel:
    network = tasks['network']
    silence = now - network.arrival
    colour, title = _COLOURS.get(network.level, 'red'), f'/{node}: {network.message}'
    is_silent = silence > SILENT_AFTER
    if is_silent:
        colour, title = 'red', f'/{node}: silent for {silence:.0f} s (was: {network.message})'
    cameras = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    cameras.add_column('camera', overflow='fold', min_width=10)
    cameras.add_column('state', overflow='fold', min_width=12)
    for column in _CAMERA_COLUMNS:
        cameras.add_column(column, justify='right', no_wrap=True)
    for name, task in sorted(tasks.items()):
        if name.startswith('camera '):
            style = 'red' if is_silent else _COLOURS.get(task.level, 'red')
            state = f'unknown (was: {task.message})' if is_silent else task.message
            cameras.add_row(
                Text(name.removeprefix('camera ')),
                Text(state, style),
                *(
                    Text('/'.join(_figure(task.values, key) for key in keys))
                    for keys in _CAMERA_COLUMNS.values()
                ),
            )
    content: list[RenderableType] = [_facts(network)]
    if cameras.rows:
        content.append(cameras)
    return Panel(
        Group(*content), title=Text(title, colour), title_align='left', border_style=colour
    )


def _facts(network: Task) -> Text:
    values = network.values
    facts = [
        f'{label} {values[key]}' for key, label in _FACTS.items() if values.get(key, '') != ''
    ]
    stages = [
        f'{key.removesuffix(" (ms)")} {value} ms'
        for key, value in values.items()
        if key.endswith(' (ms)')
    ]
    return Text('   '.join(facts) + ('\n' + '   '.join(stages) if stages else ''))


def _figure(values: dict[str, str], key: str) -> str:
    value = values.get(key, '-')
    return value.partition('.')[0] if key.endswith('(ms)') else value


def _printable(text: str) -> str:
    """Return text without what would steer the terminal: anybody may publish diagnostics."""
    return ''.join(sign if sign.isprintable() else '?' for sign in text)


def show(console: Console, *, once: bool, timeout: float) -> bool:
    """Show the nodes until Ctrl-C, or once.

    Args:
        console: to show it on.
        once: print one snapshot, as soon as a node was heard, instead.
        timeout: seconds to wait for a node when showing once.

    Returns:
        Whether a node was heard.

    """
    statuses = Statuses()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node('maskomaly_top', start_parameter_services=False)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        node.create_subscription(
            DiagnosticArray,
            '/diagnostics',
            lambda message: statuses.take(message.status, time.monotonic()),
            10,
        )
        if once:
            end = time.monotonic() + timeout
            while not statuses and (left := end - time.monotonic()) > 0:
                executor.spin_once(timeout_sec=left)
            console.print(statuses.render(time.monotonic()))
        else:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                while True:
                    live.update(statuses.render(time.monotonic()), refresh=True)
                    next_look = time.monotonic() + _REFRESH
                    while (left := next_look - time.monotonic()) > 0:
                        executor.spin_once(timeout_sec=left)
    except KeyboardInterrupt:
        pass
    finally:
        rclpy.try_shutdown()
    return bool(statuses)
