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

"""Tests of maskomaly_ros.node.diagnostics: a real node, read from /diagnostics."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from maskomaly_ros.node import diagnostics
from maskomaly_ros.node.gpu import Gpu
from maskomaly_ros.share import share_directory

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
NETWORK = 'maskomaly: network'
FRONT, REAR = 'maskomaly: camera /front/image_raw', 'maskomaly: camera /rear/image_raw'


class Reader:
    """Reads /diagnostics."""

    def __init__(self, ros: Any) -> None:
        self._ros = ros
        self._listener = ros.listener('/diagnostics', DiagnosticArray)

    def newest(self, meanwhile: Callable[[], object] = lambda: None) -> dict[str, Any]:
        """Return what is published next, by task."""
        self._listener.messages.clear()

        def has_come() -> bool:
            meanwhile()
            return bool(self._listener.messages)

        self._ros.spin_until(has_come, 'diagnostics')
        return {status.name: status for status in self._listener.messages[-1].status}

    def wait_for(
        self, task: str, state: str, meanwhile: Callable[[], object] = lambda: None
    ) -> tuple[Any, dict[str, str]]:
        """Return the status of a task that is in a state, and its values."""
        seen = []
        end = time.monotonic() + 30.0
        while time.monotonic() < end:
            status = self.newest(meanwhile).get(task)
            if status is None:
                continue
            values = {pair.key: pair.value for pair in status.values}
            if values['state'] == state:
                return status, values
            seen.append(status.message)
        pytest.fail(f'{task} was never {state!r}: {seen}')


def test_the_life_of_two_cameras(ros: Any, network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One node through all states, in quick succession."""
    monkeypatch.setattr(diagnostics, 'PERIOD', 0.25)
    reader = Reader(ros)
    network.name = 'demo'  # it has queries that come with this package
    topics = ['/front/image_raw', '/rear/image_raw']
    limits = {'timeout_warn': 0.8, 'timeout_error': 2.0, 'frozen_after': 1.0}
    node = ros.maskomaly(*topics, start=False, **limits)
    tasks = reader.newest()
    assert set(tasks) == {NETWORK}
    assert (tasks[NETWORK].level, tasks[NETWORK].message) == (OK, 'unconfigured')

    node.trigger_configure()
    status, values = reader.wait_for(FRONT, 'inactive')
    assert (status.level, status.message) == (OK, 'inactive')
    status, values = reader.wait_for(NETWORK, 'inactive')
    assert status.hardware_id == values['device'] == 'cpu'
    assert (values['precision'], values['checkpoint']) == ('float32', 'demo')
    assert values['checkpoint sha256'] == 'f' * 64
    file = share_directory() / 'config' / 'queries' / 'demo.yaml'
    assert values['queries file'] == str(file)
    assert values['queries sha256'] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert 10 < float(values['memory (MB)']) < 100_000

    node.trigger_activate()
    tasks = reader.newest()
    assert set(tasks) == {NETWORK, FRONT, REAR}
    assert tasks[FRONT].hardware_id == '/front/image_raw'
    status, _ = reader.wait_for(FRONT, 'not received')
    assert status.level in (WARN, ERROR)

    for side in ('front', 'rear'):
        ros.listen(f'/{side}/anomaly/mask')
    front, rear = (ros.camera(topic) for topic in topics)
    rng = np.random.default_rng(0)

    def send(publisher: Any, **fields: Any) -> None:
        picture = rng.integers(0, 256, (24, 32, 3), np.uint8)
        now = node.get_clock().now().nanoseconds
        publisher.publish(ros.image(fields.pop('stamp', now), picture, **fields))

    def both() -> None:
        send(front)
        send(rear)

    status, values = reader.wait_for(FRONT, 'OK', both)
    assert (status.level, status.message, values['also']) == (OK, 'OK', 'none')
    _, values = reader.wait_for(FRONT, 'OK', both)
    assert float(values['input rate (Hz)']) > 1
    assert float(values['output rate (Hz)']) > 1
    latencies = [float(values[f'latency from stamp p{p} (ms)']) for p in (50, 95)]
    assert 0 < latencies[0] <= latencies[1] < 30_000
    assert float(values['age of last frame (s)']) < 1
    assert (values['clock'], values['publishers'], values['results wanted']) == ('OK', '1', 'yes')
    outcomes = ['processed', 'replaced', 'bad', 'failed', 'stale', 'frozen', 'unwanted']
    under_way = int(values['received']) - sum(int(values[name]) for name in outcomes)
    assert 0 <= under_way <= 2, 'one waits, and one is processed'
    _, values = reader.wait_for(NETWORK, 'active', both)
    for stage in ('decoding', 'network', 'scoring', 'publishing'):
        assert float(values[f'{stage} (ms)']) >= 0
    assert values['last problem'] == 'none'

    # From here on, front is in trouble while rear is well.
    status, _ = reader.wait_for(
        FRONT, 'rejected', lambda: (send(front, encoding='nonsense'), send(rear))
    )
    assert status.level == ERROR
    assert "'nonsense'" in status.message
    assert reader.wait_for(REAR, 'OK', lambda: send(rear))[0].level == OK

    network.failures += [RuntimeError('out of luck')] * 2
    ros.spin_until(lambda: (both(), not network.failures)[1], 'the network fails')
    problem = 'none'
    while problem == 'none':
        problem = reader.wait_for(NETWORK, 'active', both)[1]['last problem']
    assert 'out of luck' in problem
    reader.wait_for(FRONT, 'OK', both)

    status, _ = reader.wait_for(FRONT, 'timeout', lambda: send(rear))
    assert status.level in (WARN, ERROR)
    while status.level != ERROR:
        status, _ = reader.wait_for(FRONT, 'timeout', lambda: send(rear))
    reader.wait_for(REAR, 'OK', lambda: send(rear))

    picture = ros.picture()

    def send_same() -> None:
        front.publish(ros.image(node.get_clock().now().nanoseconds, picture))
        send(rear)

    status, values = reader.wait_for(FRONT, 'frozen', send_same)
    assert status.level == ERROR
    assert float(values['same picture for (s)']) > 1

    status, _ = reader.wait_for(FRONT, 'clock', lambda: send(front, stamp=0))
    assert status.level == WARN
    assert 'did not move' in status.message
    status, _ = reader.wait_for(FRONT, 'clock', lambda: send(front, stamp=2 * 10**18))
    assert 'in the future' in status.message

    sent = 0.0

    def send_slowly() -> None:
        nonlocal sent
        if time.monotonic() > sent + 0.01:  # a quick machine would keep to 500 Hz
            sent = time.monotonic()
            send(front)

    set_limits = node.set_parameters_atomically
    from rclpy.parameter import Parameter

    assert set_limits([Parameter('rate_error', value=500.0)]).successful
    status, _ = reader.wait_for(FRONT, 'error rate', send_slowly)
    assert status.level == ERROR
    changes = [Parameter('rate_error', value=0.0), Parameter('rate_warn', value=500.0)]
    assert set_limits(changes).successful
    status, _ = reader.wait_for(FRONT, 'warn rate', send_slowly)
    assert status.level == WARN
    changes = [Parameter('rate_warn', value=0.0), Parameter('max_age', value=5.0)]
    assert set_limits(changes).successful

    def send_old() -> None:
        send(front, stamp=node.get_clock().now().nanoseconds - 6 * 10**9)

    status, values = reader.wait_for(FRONT, 'stale', send_old)
    assert status.level == ERROR
    assert int(values['stale']) > 0
    reader.wait_for(FRONT, 'OK', both)

    second = ros.camera('/front/image_raw')
    status, values = reader.wait_for(FRONT, 'publishers', both)
    assert (status.level, values['publishers']) == (WARN, '2')
    ros.node.destroy_publisher(second)

    node.trigger_deactivate()
    assert reader.wait_for(FRONT, 'inactive')[0].level == OK
    node.trigger_cleanup()
    network.failures.append(RuntimeError('no kernel image'))
    node.trigger_configure()
    status, _ = reader.wait_for(NETWORK, 'unconfigured')
    assert status.level == ERROR
    assert 'no kernel image' in status.message
    node.trigger_configure()
    assert reader.wait_for(NETWORK, 'inactive')[0].level == OK


def test_diagnostics_go_on_while_simulated_time_stands_still(ros: Any) -> None:
    reader = Reader(ros)
    ros.maskomaly(use_sim_time=True)
    assert reader.wait_for(NETWORK, 'active')[0].level == OK
    assert reader.newest()[FRONT].level in (WARN, ERROR)


@pytest.mark.parametrize(
    ('bits', 'expected'),
    [(0, 'none'), (0x1, 'none'), (0x44, 'software power cap, hardware thermal slowdown')],
)
def test_a_gpu_is_asked_for_by_its_identity(
    monkeypatch: pytest.MonkeyPatch, bits: int, expected: str
) -> None:
    asked = []
    nvml = SimpleNamespace(
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: asked.append(uuid) or 'handle',
        nvmlDeviceGetTemperature=lambda handle, sensor: 61,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: bits,
    )
    monkeypatch.setitem(sys.modules, 'pynvml', nvml)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda _: SimpleNamespace(uuid='a-b'))
    monkeypatch.setattr(torch.cuda, 'memory_reserved', lambda _: 5_000_000)
    values = Gpu(torch.device('cuda:0')).values()
    assert asked == [b'GPU-a-b']
    assert values == {
        'device memory (MB)': '5',
        'GPU temperature (C)': '61',
        'GPU throttling': expected,
    }


def test_without_nvml_there_is_less_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'pynvml', None)
    monkeypatch.setattr(torch.cuda, 'memory_reserved', lambda _: 5_000_000)
    assert Gpu(torch.device('cuda:0')).values() == {'device memory (MB)': '5'}
    assert Gpu(torch.device('cpu')).values() == {}
