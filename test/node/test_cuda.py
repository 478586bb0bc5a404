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

"""The node on a GPU, and what can happen there."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import ChangeState

from maskomaly_ros.detector import Detector
from maskomaly_ros.networks import MaskPrediction
from maskomaly_ros.scenes.scene import Scene

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='a CUDA device')

FRONT, REAR = '/front/image_raw', '/rear/image_raw'
ALLOWED = 1 << 30  # bytes that torch may take in tests of what happens without more
# The node with a network whose third call makes the device fail for good.
LOST = """
import sys, torch
from maskomaly_ros.detector import Detector
from maskomaly_ros.node import maskomaly_node

class Failing:
    def __init__(self, network):
        self._network, self._calls = network, 0
    def __getattr__(self, name):
        return getattr(self._network, name)
    def predict(self, frames):
        self._calls += 1
        if self._calls == 3:  # one call warms up, one is good
            torch.zeros(4, device='cuda')[torch.full((4,), 99, device='cuda')].sum()
        return self._network.predict(frames)

def load(settings):
    detector = Detector.from_checkpoint(settings.checkpoint, device='cuda')
    return Detector(Failing(detector.network), detector.config)

maskomaly_node.load_from_checkpoint = load
maskomaly_node.main()
"""


class OnCuda:
    """A network whose answers are on the GPU, where each frame takes a share of ALLOWED."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self.device = torch.device('cuda', 0)
        self.share = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def predict(self, frames: Sequence[NDArray[np.uint8]]) -> MaskPrediction:
        prediction = self._network.predict(frames)
        torch.empty(int(self.share * ALLOWED) * len(frames), dtype=torch.uint8, device=self.device)
        return MaskPrediction(
            prediction.mask_logits.to(self.device),
            prediction.class_logits.to(self.device),
            prediction.frame_size,
            prediction.extent,
        )


@pytest.fixture
def network(network: Any) -> OnCuda:
    return OnCuda(network)


@pytest.fixture
def little_memory() -> Iterator[None]:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(ALLOWED / total, 0)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0, 0)


def counts(node: Any, camera: int = 0) -> dict[str, int]:
    return {name: n for name, n in asdict(node.streams[camera].counts).items() if n}


def stamps(listener: Any) -> list[int]:
    return [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in listener.messages]


def pixels(message: Any, dtype: type) -> NDArray[Any]:
    return np.frombuffer(bytes(message.data), dtype).reshape(message.height, message.width, -1)


def network_status(listener: Any) -> DiagnosticStatus:
    """Return the newest status of the network; an empty one before the first."""
    for message in reversed(listener.messages):
        for status in message.status:
            if status.name.endswith(': network'):
                return status
    return DiagnosticStatus()


def test_a_gpu_finds_what_the_processor_finds(ros: Any, run: Any) -> None:
    process = run(
        '-m', 'maskomaly_ros.node', '--ros-args',
        '-p', f'camera_topics:=[{FRONT}]', '-p', 'device:=cuda',
    )  # fmt: skip
    diagnostics = ros.listener('/diagnostics', DiagnosticArray)
    process.wait_for('active')
    outputs = {n: ros.listen(f'/front/anomaly/{n}') for n in ('heatmap', 'mask', 'overlay')}
    camera = ros.camera(FRONT)
    frame = Scene(3, (360, 640)).render(4.0).image

    def exchange() -> bool:
        camera.publish(ros.image(6, frame))
        return all(listener.messages for listener in outputs.values())

    ros.spin_until(exchange, timeout=60.0)
    (expected,) = Detector.from_checkpoint('demo', device='cpu').detect([frame])
    score = pixels(outputs['heatmap'].messages[0], np.float32)[..., 0]
    mask = pixels(outputs['mask'].messages[0], np.uint8)[..., 0]
    overlay = pixels(outputs['overlay'].messages[0], np.uint8)[..., ::-1]
    assert np.abs(score - expected.score).mean() < 2e-3
    assert ((mask > 0) != (expected.mask > 0)).mean() < 2e-3
    assert np.abs(overlay.astype(int) - expected.overlay()).mean() < 1.0
    assert stamps(outputs['mask'])[0] == 6

    def values() -> dict[str, str]:
        return {pair.key: pair.value for pair in network_status(diagnostics).values}

    ros.spin_until(lambda: float(values().get('network (ms)', 0)) > 0)
    assert values()['device'] == 'cuda:0'
    assert float(values()['device memory (MB)']) > 10
    if pytest.importorskip('pynvml', reason='nvidia-ml-py is not installed'):
        assert 10 < int(values()['GPU temperature (C)']) < 110
        assert values()['GPU throttling']
    process.send(signal.SIGINT)
    assert process.status() == 0
    assert 'Traceback' not in process.output


@pytest.mark.usefixtures('little_memory')
def test_cameras_that_do_not_fit_together_are_served_one_by_one(ros: Any, network: OnCuda) -> None:
    node = ros.maskomaly(FRONT, REAR)
    masks = [ros.listen(f'/{side}/anomaly/mask') for side in ('front', 'rear')]
    front, rear = ros.camera(FRONT), ros.camera(REAR)
    network.share = 0.6
    network.hold()
    front.publish(ros.image(1))
    ros.spin_until(lambda: network.entered.acquire(blocking=False))
    front.publish(ros.image(2))
    rear.publish(ros.image(2))
    ros.spin_until(lambda: [counts(node, i).get('received') for i in (0, 1)] == [2, 1])
    network.release()
    ros.spin_until(lambda: [stamps(mask) for mask in masks] == [[1, 2], [2]])
    assert [len(batch) for batch in network.batches] == [1, 2, 1, 1]
    assert counts(node) == {'received': 2, 'processed': 2}


@pytest.mark.usefixtures('little_memory')
def test_a_frame_that_does_not_fit_is_reported_and_the_next_one_served(
    ros: Any, network: OnCuda
) -> None:
    node = ros.maskomaly(FRONT)
    mask = ros.listen('/front/anomaly/mask')
    camera = ros.camera(FRONT)
    network.share = 1.2
    camera.publish(ros.image(1))
    ros.spin_until(lambda: counts(node) == {'received': 1, 'failed': 1})
    assert 'out of memory' in node.streams[0].observe().failed
    network.share = 0.9
    camera.publish(ros.image(2))
    ros.spin_until(lambda: stamps(mask) == [2])


@pytest.mark.parametrize('autostart', [True, False])
def test_a_device_that_fails_for_good(ros: Any, run: Any, autostart: bool) -> None:
    """After an assertion on the device, only a new process can use it."""
    process = run(
        '-c', LOST, '--ros-args', '-p', f'camera_topics:=[{FRONT}]',
        '-p', f'autostart:={str(autostart).lower()}',
    )  # fmt: skip
    diagnostics = ros.listener('/diagnostics', DiagnosticArray)

    def change_state(label: str) -> bool:
        request = ChangeState.Request()
        request.transition.label = label
        return bool(ros.call(ChangeState, '/maskomaly/change_state', request).success)

    if not autostart:
        process.wait_for('waiting to be configured')
        assert change_state('configure')
        assert change_state('activate')
    process.wait_for('active; waiting')
    mask = ros.listen('/front/anomaly/mask')
    camera = ros.camera(FRONT)
    frame = ros.picture(90, 160)

    def exchange() -> bool:
        camera.publish(ros.image(len(mask.messages) + 1, frame))
        return bool(mask.messages)

    ros.spin_until(exchange, 'a good frame')
    camera.publish(ros.image(7, frame))
    if autostart:
        assert process.status() == 1
        assert 'does not come back' in process.output
    else:
        ros.spin_until(lambda: 'the device is lost' in network_status(diagnostics).message)
        assert network_status(diagnostics).level == DiagnosticStatus.ERROR
        assert not change_state('configure')
        process.send(signal.SIGTERM)
        assert process.status() == 0
    assert 'the device is lost: ' in process.output  # what met it first varies
