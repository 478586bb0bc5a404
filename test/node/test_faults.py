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

"""What vehicles do to the node: none of it may stop another camera, or need a restart."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import ChangeState
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.node.worker import _Failure

FRONT, REAR = '/front/image_raw', '/rear/image_raw'
SECOND = 10**9


def stamps(listener: Any) -> list[int]:
    return [m.header.stamp.sec * SECOND + m.header.stamp.nanosec for m in listener.messages]


def counts(node: Any, camera: int = 0) -> dict[str, int]:
    """Return what became of the frames, less what did not happen."""
    return {name: n for name, n in asdict(node.streams[camera].counts).items() if n}


def under_way(node: Any, camera: int = 0) -> int:
    account = asdict(node.streams[camera].counts)
    return int(2 * account['received'] - sum(account.values()))


class Pair:
    """A node with two cameras; the rear one must be served whatever happens to the front one."""

    def __init__(self, ros: Any, front: str = FRONT, **options: Any) -> None:
        self.ros = ros
        self.node = ros.maskomaly(front, REAR, **options)
        self.mask = ros.listen('/front/anomaly/mask')
        self._rear_mask = ros.listen('/rear/anomaly/mask')
        self._rear = ros.camera(REAR)
        self._sent = 0

    def check_rear(self) -> None:
        """Send a frame to the rear camera, and wait for its result."""
        self._sent += 1
        self._rear.publish(self.ros.image(self._sent))
        self.ros.spin_until(lambda: self._sent in stamps(self._rear_mask), 'the rear camera')

    def check(self, stamp: int, publisher: Any, message: Any = None) -> None:
        """Send a good frame to the front camera, and wait for its result."""
        publisher.publish(message or self.ros.image(stamp))
        self.ros.spin_until(lambda: stamp in stamps(self.mask), 'the front camera')
        self.check_rear()


def test_a_camera_vanishes_and_returns_otherwise_than_it_went(ros: Any) -> None:
    pair = Pair(ros)
    camera = ros.camera(FRONT)
    pair.check(1, camera)
    ros.node.destroy_publisher(camera)
    ros.spin_until(lambda: not pair.node.count_publishers(FRONT))
    pair.check_rear()
    camera = ros.camera(FRONT, reliable=True)
    mono = {'encoding': 'mono8', 'step': 40, 'data': bytes(30 * 40)}
    pair.check(2, camera, ros.image(2, ros.picture(30, 40), **mono))
    assert (pair.mask.messages[-1].height, pair.mask.messages[-1].width) == (30, 40)


def chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data).to_bytes(4, 'big')
    return len(data).to_bytes(4, 'big') + kind + data + checksum


def bombs() -> dict[str, bytes]:
    """Return pictures of a few bytes that would take gigabytes to decode."""
    side = (60_000).to_bytes(4, 'big')
    rows = chunk(b'IDAT', zlib.compress(bytes(1_000_000)))
    png = chunk(b'IHDR', side + side + b'\x08\x02\0\0\0') + rows + chunk(b'IEND', b'')
    _, encoded = cv2.imencode('.jpg', np.zeros((16, 16, 3), np.uint8))
    jpeg = bytes(encoded)
    at = jpeg.index(b'\xff\xc0') + 5
    return {
        'png': b'\x89PNG\r\n\x1a\n' + png,
        'jpeg': jpeg[:at] + b'\xff\xff\xff\xff' + jpeg[at + 4 :],
    }


def test_a_decompression_bomb_is_refused_by_its_header(
    ros: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair(ros, f'{FRONT}/compressed')
    camera = ros.camera(f'{FRONT}/compressed', compressed=True)
    with monkeypatch.context() as patch:
        patch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('it was decoded'))
        for number, (name, data) in enumerate(bombs().items(), 1):
            camera.publish(CompressedImage(format=name, data=data))
            ros.spin_until(lambda n=number: counts(pair.node).get('bad') == n, name)
            assert 'more than the limit' in pair.node.streams[0].observe().rejected
            pair.check_rear()
    frame = cv2.resize(ros.picture(), (320, 240), interpolation=cv2.INTER_NEAREST)
    pair.check(7, camera, ros.jpeg(7, frame))


def test_garbage_instead_of_a_message(ros: Any) -> None:
    """Bytes that are no message at all, as a driver of another version may send."""
    pair = Pair(ros)
    camera = ros.camera(FRONT)
    rng = np.random.default_rng(0)
    whole = b'\0\1\0\0' + rng.bytes(300)
    for number, garbage in enumerate([b'\0\1\0\0', whole[:9], whole, b'\0\1\0\0' + b'\xff' * 40]):
        camera.publish(garbage)
        ros.spin_until(lambda n=number: counts(pair.node).get('bad') == n + 1)
        pair.check_rear()
    pair.check(8, camera)


def test_a_burst_at_200_hertz(ros: Any, network: Any) -> None:
    pair = Pair(ros)
    camera = ros.camera(FRONT, reliable=True)
    network.hold()
    start = time.monotonic()
    for number in range(1, 201):
        camera.publish(ros.image(number))
        while time.monotonic() < start + number / 200:
            ros.executor.spin_once(timeout_sec=0.001)
    network.release()
    pair.check(201, camera)
    ros.spin_until(lambda: under_way(pair.node) == 0)
    account = counts(pair.node)
    assert account['received'] == account['processed'] + account['replaced']
    assert account['processed'] <= 4
    assert stamps(pair.mask) == sorted(stamps(pair.mask))


def test_two_publishers_on_one_topic(ros: Any) -> None:
    pair = Pair(ros)
    first, second = ros.camera(FRONT), ros.camera(FRONT, reliable=True)
    for number in range(1, 6):
        pair.check(100 + number, first)
        pair.check(number, second, ros.image(number, ros.picture(13, 17)))
    assert counts(pair.node) == {'received': 10, 'processed': 10}
    assert 'jumped back' in pair.node.streams[0].observe().clock


def test_frames_too_old_are_met_with_silence(ros: Any, network: Any) -> None:
    pair = Pair(ros)
    node = pair.node
    camera = ros.camera(FRONT)
    pair.check(0, camera)
    assert node.set_parameters_atomically([Parameter('max_age', value=20.0)]).successful
    batches = len(network.batches)
    now = node.get_clock().now().nanoseconds
    for number, stamp in enumerate([0, SECOND, now - 21 * SECOND], 1):
        camera.publish(ros.image(stamp))
        ros.spin_until(lambda n=number: counts(node).get('stale') == n)
    assert node.streams[0].observe().stale > 20
    assert len(network.batches) == batches
    camera.publish(ros.image(now))
    ros.spin_until(lambda: now in stamps(pair.mask), 'a fresh one')
    future = now + 3600 * SECOND
    camera.publish(ros.image(future))
    ros.spin_until(lambda: future in stamps(pair.mask), 'what is ahead of the clock is not old')
    assert 'in the future' in node.streams[0].observe().clock
    assert stamps(pair.mask) == [0, now, future]
    assert node.streams[0].observe().stale is None


def test_a_frozen_picture_is_met_with_silence_where_that_is_wanted(
    ros: Any, network: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    pair = Pair(ros, frozen_after=0.05)
    node = pair.node
    camera = ros.camera(FRONT)
    sent = 0

    def send(picture: Any = None) -> None:
        nonlocal sent
        sent += 1
        camera.publish(ros.image(sent, picture))
        ros.spin_until(lambda: counts(node).get('received') == sent and not under_way(node))

    send()
    while node.streams[0].observe().frozen < 0.1:
        send()
    assert counts(node) == {'received': sent, 'processed': sent}, 'by default it is but reported'
    assert node.set_parameters_atomically([Parameter('withhold_frozen', value=True)]).successful
    network.forget()
    processed = sent
    for _ in range(3):
        send()
    assert counts(node) == {'received': sent, 'processed': processed, 'frozen': 3}
    assert not network.batches
    pair.check_rear()
    send(ros.picture(red=False))
    ros.spin_until(lambda: stamps(pair.mask)[-1] == sent, 'the picture that changed')
    assert stamps(pair.mask)[-2] == processed
    assert 'frame withheld: the same picture for' in capfd.readouterr().err


def test_a_bag_that_loops_in_simulated_time(ros: Any) -> None:
    node = ros.maskomaly(use_sim_time=True, max_age=0.5)
    mask = ros.listen('/front/anomaly/mask')
    camera = ros.camera(FRONT)
    clock = ros.node.create_publisher(Clock, '/clock', 10)
    expected = []
    for loop in range(2):
        for tick in range(3):
            now = (100 + 10 * tick) * SECOND

            def set_clock(now: int = now) -> bool:
                message = Clock()
                message.clock.sec = now // SECOND
                clock.publish(message)
                return bool(node.get_clock().now().nanoseconds == now)

            ros.spin_until(set_clock)
            camera.publish(ros.image(now - SECOND // 10))
            expected.append(now - SECOND // 10)
            ros.spin_until(lambda: stamps(mask) == expected, f'loop {loop}')
    assert counts(node) == {'received': 6, 'processed': 6}
    camera.publish(ros.image(10 * SECOND))
    ros.spin_until(lambda: counts(node).get('stale') == 1)


@pytest.mark.parametrize(
    ('failures', 'front_is_served'),
    [
        ([RuntimeError('one bad batch')], True),
        ([torch.cuda.OutOfMemoryError('CUDA out of memory')], True),
        ([torch.cuda.OutOfMemoryError('CUDA out of memory')] * 2, False),
        ([ValueError('a frame it cannot digest')] * 2, False),
    ],
)
def test_a_batch_that_fails_is_tried_camera_by_camera(
    ros: Any, network: Any, monkeypatch: pytest.MonkeyPatch, failures: Any, front_is_served: bool
) -> None:
    freed = []
    monkeypatch.setattr(torch.cuda, 'empty_cache', lambda: freed.append(True))
    node = ros.maskomaly(FRONT, REAR)
    masks = [ros.listen(f'/{side}/anomaly/mask') for side in ('front', 'rear')]
    front, rear = ros.camera(FRONT), ros.camera(REAR)
    network.hold()
    front.publish(ros.image(1))
    ros.spin_until(lambda: network.entered.acquire(blocking=False))
    front.publish(ros.image(2))
    rear.publish(ros.image(2))
    ros.spin_until(lambda: [counts(node, i).get('received') for i in (0, 1)] == [2, 1])
    network.failures += [None, *failures]
    network.release()
    ros.spin_until(lambda: under_way(node) == under_way(node, 1) == 0)
    ros.spin_until(lambda: stamps(masks[1]) == [2], 'the rear camera')
    assert [len(batch) for batch in network.batches] == [1, 2, 1, 1]
    assert bool(freed) == isinstance(failures[0], torch.cuda.OutOfMemoryError)
    if front_is_served:
        ros.spin_until(lambda: stamps(masks[0]) == [1, 2])
    else:
        assert counts(node) == {'received': 2, 'processed': 1, 'failed': 1}
        assert str(failures[0]) in node.streams[0].observe().failed


def test_out_of_memory_for_good_is_reported(ros: Any, network: Any) -> None:
    node = ros.maskomaly(FRONT)
    mask = ros.listen('/front/anomaly/mask')
    camera = ros.camera(FRONT)
    network.failures += [torch.cuda.OutOfMemoryError('CUDA out of memory')] * 2
    camera.publish(ros.image(1))
    ros.spin_until(lambda: counts(node) == {'received': 1, 'failed': 1}, 'tried twice')
    assert 'CUDA out of memory' in node.streams[0].observe().failed
    network.failures.append(torch.cuda.OutOfMemoryError('CUDA out of memory'))
    camera.publish(ros.image(2))
    ros.spin_until(lambda: stamps(mask) == [2], 'with the cache freed it fits')


def lost_device() -> Exception:
    kind = getattr(torch, 'AcceleratorError', None)
    text = 'CUDA error: device-side assert triggered'
    return RuntimeError(text) if kind is None else kind.__new__(kind, text)


@pytest.mark.parametrize(
    ('text', 'answers', 'expected'),
    [
        ('Triton Error [CUDA]: device-side assert triggered', False, 'device'),
        ('cuDNN error: CUDNN_STATUS_EXECUTION_FAILED', False, 'device'),
        ('CUDA error: an illegal memory access was encountered', True, 'device'),
        ('CUDA error: out of memory\nCUDA kernel errors might be reported later', True, 'memory'),
        ('Triton Error [CUDA]: out of memory', True, 'memory'),
        ('CUDA out of memory. Tried to allocate 2 GiB', False, 'device'),
        ('shapes do not fit', True, ''),
    ],
)
def test_a_failure_is_told_by_what_the_device_answers(
    monkeypatch: pytest.MonkeyPatch, text: str, answers: bool, expected: str
) -> None:
    def synchronize(device: torch.device) -> None:
        if not answers:
            raise RuntimeError('CUDA error: device-side assert triggered')

    monkeypatch.setattr(torch.cuda, 'synchronize', synchronize)
    failure = _Failure.of(RuntimeError(text), torch.device('cuda', 0))
    assert (failure.is_memory, failure.is_device) == (expected == 'memory', expected == 'device')
    assert failure.reason == f'RuntimeError: {text.splitlines()[0]}'


def test_a_lost_device_is_set_up_anew(ros: Any, network: Any) -> None:
    node = ros.maskomaly(FRONT)
    mask = ros.listen('/front/anomaly/mask')
    network.failures.append(lost_device())
    ros.camera(FRONT).publish(ros.image(1))
    ros.spin_until(lambda: not network.failures)
    ros.spin_until(lambda: len(network.batches) > 1, 'warmed up again')
    ros.spin_until(
        lambda: node.phase == 'active' and ros.node.count_publishers('/front/anomaly/mask')
    )
    mask = ros.listen('/front/anomaly/mask')
    ros.camera(FRONT).publish(ros.image(2))
    ros.spin_until(lambda: stamps(mask) == [2])


def test_a_managed_node_waits_to_be_configured_when_the_device_is_lost(
    ros: Any, network: Any
) -> None:
    diagnostics = ros.listener('/diagnostics', DiagnosticArray)

    def change_state(label: str) -> bool:
        request = ChangeState.Request()
        request.transition.label = label
        return bool(ros.call(ChangeState, '/maskomaly/change_state', request).success)

    node = ros.maskomaly(FRONT, autostart=False)
    for _ in range(2):
        assert change_state('configure')
        assert change_state('activate')
        network.forget()
        mask = ros.listen('/front/anomaly/mask')
        camera = ros.camera(FRONT)
        camera.publish(ros.image(1))
        ros.spin_until(lambda m=mask: stamps(m) == [1])
        network.failures.append(lost_device())
        camera.publish(ros.image(2))
        ros.spin_until(lambda: node.phase == 'unconfigured')
        assert stamps(mask) == [1]
        diagnostics.messages.clear()
        ros.spin_until(lambda: diagnostics.messages)
        (status,) = diagnostics.messages[-1].status
        assert status.level == DiagnosticStatus.ERROR
        assert 'the device is lost' in status.message
        assert 'device-side assert' in status.message


def test_a_device_that_does_not_come_back_ends_the_process(ros: Any, network: Any) -> None:
    ros.maskomaly(FRONT)
    ros.listen('/front/anomaly/mask')
    network.failures += [lost_device(), RuntimeError('CUDA error: no device')]
    ros.camera(FRONT).publish(ros.image(1))
    with pytest.raises(MaskomalyError, match='does not come back'):
        ros.spin_until(lambda: False, 'the executor is stopped')


def test_a_subscriber_that_does_not_read_holds_nobody_up(ros: Any) -> None:
    import rclpy

    pair = Pair(ros)
    sleeper = rclpy.create_node('sleeper', context=ros.context)  # nobody spins it
    for name in ('mask', 'heatmap'):
        sleeper.create_subscription(Image, f'/front/anomaly/{name}', lambda _: None, 1)
    ros.spin_until(lambda: pair.node.count_subscribers('/front/anomaly/mask') == 2)
    camera = ros.camera(FRONT)
    for number in range(1, 31):
        pair.check(number, camera, ros.image(number, ros.picture(240, 320)))
    sleeper.destroy_node()


def test_a_storm_of_parameters(ros: Any) -> None:
    pair = Pair(ros)
    camera = ros.camera(FRONT)
    for number in range(1, 101):
        good = number % 2 == 0
        changes = [
            Parameter('obstacle_threshold', value=number / 200),
            Parameter('max_age', value=0.0 if good else -1.0),
            Parameter('minimum_obstacle_area', value=number),
        ]
        assert pair.node.set_parameters_atomically(changes).successful == good
        if number % 10 == 0:
            pair.check(number, camera)
    assert pair.node.get_parameter('obstacle_threshold').value == 0.5
    assert pair.node._settings.live.detector.minimum_obstacle_area == 100


PEER = """
import sys, time
import rclpy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node('peer')
publisher = node.create_publisher(Image, '/front/image_raw', 10)
got = []
node.create_subscription(Image, '/front/anomaly/mask', got.append, 10)
message = Image(height=24, width=32, encoding='mono8', step=32, data=bytes(24 * 32))
while True:
    publisher.publish(message)
    rclpy.spin_once(node, timeout_sec=0.02)
    if got:
        print('served', flush=True)
"""


@pytest.fixture
def peer() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, '-c', PEER], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def test_a_peer_that_is_killed_in_the_middle(ros: Any, peer: subprocess.Popen[str]) -> None:
    pair = Pair(ros)
    ros.spin_until(lambda: counts(pair.node).get('processed', 0) > 3, 'the peer is served')
    peer.send_signal(signal.SIGKILL)
    peer.wait()
    for number in range(5):
        pair.check(SECOND + number, ros.camera(FRONT))
