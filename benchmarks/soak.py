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
"""Run the node for long under load and faults drawn at random, and check what must always hold.

    python benchmarks/soak.py --minutes 30 --seed 1

A real node with the bundled checkpoint, three cameras (one of them compressed) and listeners to
all masks. One fault after another, of a camera or of the node, for some seconds each; then
everything has to work again. docs/soak.md lists the faults and what is checked.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import itertools
import json
import math
import os
import queue
import random
import signal
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from live_node import machine
from memory import resident_bytes
from rich import box
from rich.console import Console
from rich.table import Table

from maskomaly_ros.rig.processes import Child, ChildProcesses, ros_environment

TOPICS = ('/front/image_raw', '/rear/image_raw', '/side/image_raw/compressed')
SIZE = (180, 320)
RATE = 10.0
MAX_AGE = 2.0
FROZEN_AFTER = 2.0
SETTLING = 3.0  # seconds from then on until the last result of a frozen picture has left the node
FLAT = 0.02  # share by which memory may be larger in the last third of a run than in the second
RECOVERY = 20.0  # seconds from the end of a fault to the first result of every camera
STOPPING = 20.0  # seconds that a shutdown may take
TRANSPORT = 2.0  # seconds that a result may take beyond MAX_AGE and two batches
PARAMETERS = {
    'camera_topics': f'[{", ".join(TOPICS)}]',
    'input_shortest_side': 96,
    'input_longest_side': 192,
    'max_age': MAX_AGE,
    'timeout_warn': 1.0,
    'timeout_error': 2.0,
    'frozen_after': FROZEN_AFTER,
    'withhold_frozen': 'true',
}
# States of which one must be reported while a fault lasts.
EXPECTED = {
    'vanishes': ('timeout',),
    'is killed': ('timeout',),
    'garbage': ('rejected',),
    'truncated': ('rejected',),
    'empty': ('rejected',),
    'gigantic': ('rejected',),
    'bomb': ('rejected',),
    'unknown encoding': ('rejected',),
    'stamps at zero': ('stale', 'clock'),
    'stamps of yesterday': ('stale',),
    'stamps in the future': ('clock',),
    'frozen': ('frozen',),
    'two publishers': ('publishers',),
}
_OUTCOMES = ('processed', 'replaced', 'bad', 'failed', 'stale', 'frozen', 'unwanted')
_LOOP = 2.5  # seconds of simulated time until it starts again
_CONFIGURE, _CLEANUP, _ACTIVATE, _DEACTIVATE = 1, 2, 3, 4


@dataclass(frozen=True)
class Sent:
    """A frame that was published."""

    number: int
    time: float
    size: tuple[int, int]
    is_good: bool


class Camera:
    """A camera, what is wrong with it, and what came of its frames."""

    def __init__(self, soak: Soak, topic: str) -> None:
        self.topic = topic
        self.is_compressed = topic.endswith('/compressed')
        self._soak = soak
        self._numbers = itertools.count()
        self._publishers: list[Any] = []
        self.sent: dict[int, Sent] = {}
        self.last_number = -1
        self.last_good = 0.0  # when the newest frame was sent that a result came for
        self.masks = 0
        self.states: set[str] = set()
        self.has_peer = False
        self.next_time = 0.0
        self.listener: Any = None
        self.mend()
        self.open()
        self.listen()

    def mend(self) -> None:
        """Undo what faults did to its frames."""
        self.rate = RATE
        self.size = SIZE
        self.encoding = 'bgr8'
        self.spoil: Callable[[Any], None] | None = None
        self.stamp: Callable[[int], int] = lambda now: now
        self.frozen_since = math.inf

    def freeze(self) -> None:
        """Send one picture from now on."""
        self.frozen_since = time.monotonic()

    def open(self, count: int = 1) -> None:
        """Have so many publishers, or more."""
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import CompressedImage, Image

        qos = QoSProfile(depth=2, reliability=ReliabilityPolicy.BEST_EFFORT)
        kind = CompressedImage if self.is_compressed else Image
        while len(self._publishers) < count:
            self._publishers.append(self._soak.node.create_publisher(kind, self.topic, qos))

    def close(self, keep: int = 0) -> None:
        """Destroy its publishers but for some."""
        while len(self._publishers) > keep:
            self._soak.node.destroy_publisher(self._publishers.pop())

    def listen(self) -> None:
        """Subscribe to its masks."""
        from sensor_msgs.msg import Image

        image = self.topic.removesuffix('/compressed').rpartition('/')[0]
        self.listener = self._soak.node.create_subscription(
            Image, f'{image}/anomaly/mask', self._on_mask, 10
        )

    def deafen(self) -> None:
        """Unsubscribe from its masks."""
        self._soak.node.destroy_subscription(self.listener)

    def publish(self, now: float) -> None:
        """Publish the next frame if it is due."""
        if now < self.next_time or not self._publishers:
            return
        self.next_time = max(self.next_time + 1 / self.rate, now)
        number = next(self._numbers)
        frozen_for = now - self.frozen_since
        message = self._soak.message(self, 0 if frozen_for >= 0 else number)
        clock = self._soak.clock()
        stamp = self.stamp(clock)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        message.header.frame_id = self.topic
        if self.spoil is not None:
            self.spoil(message)
        is_good = (
            self.spoil is None
            and clock - stamp < MAX_AGE * 1e9
            and frozen_for < FROZEN_AFTER + SETTLING
        )
        self.sent[stamp] = Sent(number, now, self.size, is_good)
        if len(self.sent) > 5000:
            del self.sent[next(iter(self.sent))]
        self._publishers[number % len(self._publishers)].publish(message)
        self._soak.sent += 1

    def _on_mask(self, message: Any) -> None:
        now = time.monotonic()
        self.masks += 1
        self._soak.masks += 1
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        sent = self.sent.get(stamp)
        complain = self._soak.complain
        if sent is None:
            if not (self.has_peer and message.header.frame_id == 'peer'):
                complain(f'{self.topic}: a mask of stamp {stamp}, which no frame had')
            return
        if message.header.frame_id != self.topic:
            complain(f'{self.topic}: a mask of frame {message.header.frame_id!r}')
        if not sent.is_good:
            complain(f'{self.topic}: a mask of a frame that had to be refused')
        if (message.height, message.width) != sent.size:
            complain(f'{self.topic}: a mask of {message.width} x {message.height} pixels')
        if sent.number < self.last_number:
            complain(f'{self.topic}: an older mask after a newer one')
        if (age := now - sent.time) > MAX_AGE + TRANSPORT:
            self._soak.late.append((self.topic, age))
        self.last_number = sent.number
        self.last_good = max(self.last_good, sent.time)


class Soak:
    """The node, its cameras, and the book that is kept on them."""

    def __init__(self, processes: ChildProcesses, seed: int) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor

        self.clock = time.time_ns  # what cameras stamp their frames by
        self.random = random.Random(seed)
        self.noise = np.random.default_rng(seed)
        self.node = rclpy.create_node('soak')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._processes = processes
        self._messages: dict[Any, list[Any]] = {}
        self.sent = self.masks = self.received = self.processed = 0
        self.violations: list[dict[str, Any]] = []
        self.faults: Counter[str] = Counter()
        self.recoveries: list[float] = []
        self.stops: list[float] = []
        self.late: list[tuple[str, float]] = []
        self._batches: deque[float] = deque(maxlen=10)
        self.memory: list[list[float]] = []
        self.start = time.monotonic()
        self._fault = 'start'
        self._counted: dict[str, tuple[int, int]] = {}
        self._last_diagnostics = 0.0
        self._is_active = False
        self.child: Child | None = None
        self.cameras = [Camera(self, topic) for topic in TOPICS]
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def complain(self, what: str) -> None:
        """Note a violation."""
        at = round(time.monotonic() - self.start, 1)
        self.violations.append({'seconds': at, 'fault': self._fault, 'violation': what})
        sys.stderr.write(f'VIOLATION at {at} s during {self._fault!r}: {what}\n')

    def message(self, camera: Camera, number: int) -> Any:
        """Return one of a few frames of noise, made once for each size and encoding."""
        key = (camera.is_compressed, camera.size, camera.encoding)
        if key not in self._messages:
            self._messages[key] = [self._make(*key) for _ in range(8)]
        message = self._messages[key][number % 8]
        return _copy(message) if camera.spoil is not None else message

    def _make(self, is_compressed: bool, size: tuple[int, int], encoding: str) -> Any:
        from sensor_msgs.msg import Image
        from std_msgs.msg import Header

        from maskomaly_ros.node.messages import jpeg_message

        height, width = size
        if is_compressed:
            picture = self.noise.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
            picture = picture.repeat(4, 0).repeat(4, 1)[:height, :width]
            return jpeg_message(picture, 80, Header())
        channels = {'bgr8': 3, 'rgba8': 4, 'mono8': 1, 'yuv422': 2, 'bayer_rggb8': 1}[encoding]
        message = Image(height=height, width=width, encoding=encoding, step=width * channels)
        message.data = array.array('B', self.noise.bytes(height * width * channels))
        return message

    # --- time ---------------------------------------------------------------------------------

    def run(self, seconds: float, condition: Callable[[], object] = lambda: False) -> bool:
        """Let cameras and listeners work until a condition holds; False where time is up."""
        end = time.monotonic() + seconds
        while not condition():
            now = time.monotonic()
            if now > end:
                return False
            for camera in self.cameras:
                camera.publish(now)
            due = min(camera.next_time for camera in self.cameras)
            self._executor.spin_once(timeout_sec=min(max(due - now, 0.0), 0.02))
            self._watch(now)
        return True

    def _watch(self, now: float) -> None:
        with contextlib.suppress(queue.Empty):
            child, event = self._processes.next_event(0.0)
            if child is self.child and event['event'] == 'exit':
                self.complain(f'the node ended with status {event["status"]}:\n{child.tail()}')
                raise SystemExit('the node ended')
        if self._is_active and now - self._last_diagnostics > 10.0:
            self.complain('no diagnostics for 10 s')
            self._last_diagnostics = now

    def _on_diagnostics(self, message: Any) -> None:
        self._last_diagnostics = time.monotonic()
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            if status.name == 'maskomaly: network' and self.child is not None:
                self.memory[-1].append(resident_bytes(self.child.process.pid))
                self._check_late(values)
            for camera in self.cameras:
                if status.name == f'maskomaly: camera {camera.topic}':
                    self._check(camera, values)

    def _check_late(self, values: dict[str, str]) -> None:
        """Judge late masks by how long batches take, which the node says a moment afterwards."""
        stages = sum(float(v) for name, v in values.items() if name.endswith(' (ms)')) / 1000
        self._batches.append(max(stages, float(values.get('batch under way for (s)', 0))))
        most = MAX_AGE + 2 * max(self._batches) + TRANSPORT
        for topic, age in self.late:
            if age > most:
                self.complain(f'{topic}: a mask {age:.1f} s after its frame, more than {most:.1f}')
        self.late.clear()

    def _check(self, camera: Camera, values: dict[str, str]) -> None:
        camera.states |= {
            s.partition(':')[0] for s in [values['state'], *values['also'].split('; ')]
        }
        received, processed = int(values['received']), int(values['processed'])
        under_way = received - sum(int(values[outcome]) for outcome in _OUTCOMES)
        if not 0 <= under_way <= 2:
            self.complain(f'{camera.topic}: the account is wrong by {under_way}: {values}')
        before = self._counted.get(camera.topic, (0, 0))
        if received < before[0]:  # configured anew
            before = (0, 0)
        self.received += received - before[0]
        self.processed += processed - before[1]
        self._counted[camera.topic] = received, processed

    # --- the node -----------------------------------------------------------------------------

    def start_node(self) -> None:
        """Start the node and wait for results of every camera."""
        self.memory.append([])
        self._counted.clear()
        arguments = (word for n, v in PARAMETERS.items() for word in ('-p', f'{n}:={v}'))
        self.child = self._processes.start(
            f'node{len(self.memory)}',
            'maskomaly_ros.node',
            '--ros-args',
            *arguments,
        )
        begun = time.monotonic()
        if not self.run(300.0, lambda: self._recovered(begun)):
            self.complain('the node does not start')
        self._is_active = True

    def stop_node(self) -> None:
        """Stop the node as launch does; it has to end well and soon."""
        assert self.child is not None
        child, self.child, self._is_active = self.child, None, False
        begun = time.monotonic()
        child.process.send_signal(signal.SIGINT)
        self.run(STOPPING, lambda: child.process.poll() is not None)
        status = self._processes.stop(child, 0.0)
        self.stops.append(time.monotonic() - begun)
        if status != 0:
            self.complain(f'exit status {status} after {self.stops[-1]:.1f} s')
        if 'Traceback' in (log := child.log.read_text(encoding='utf-8', errors='replace')):
            self.complain(f'a traceback in the log: {log[log.index("Traceback") :][:2000]}')

    def _recovered(self, since: float) -> bool:
        return all(camera.last_good > since for camera in self.cameras)

    def call(self, kind: type, name: str, request: Any) -> Any:
        """Call a service of the node; None where it does not answer."""
        client = self.node.create_client(kind, f'/maskomaly/{name}')
        try:
            if not self.run(20.0, client.service_is_ready):
                self.complain(f'no service {name}')
                return None
            future = client.call_async(request)
            if not self.run(60.0, future.done):
                self.complain(f'no answer from {name}')
                return None
            return future.result()
        finally:
            self.node.destroy_client(client)

    def change_state(self, *transitions: int) -> None:
        """Take the node through transitions of its lifecycle."""
        from lifecycle_msgs.srv import ChangeState

        self._is_active = False  # the node is silent while it loads
        for transition in transitions:
            request = ChangeState.Request()
            request.transition.id = transition
            answer = self.call(ChangeState, 'change_state', request)
            if answer is None or not answer.success:
                self.complain(f'transition {transition} failed')
        self._is_active, self._last_diagnostics = True, time.monotonic()

    def set_parameter(self, name: str, value: Any) -> None:
        """Set a parameter of the node, which has to accept it."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request()
        request.parameters = [Parameter(name, value=value).to_parameter_msg()]
        answer = self.call(SetParameters, 'set_parameters', request)
        if answer is None or not answer.results[0].successful:
            self.complain(f'{name} cannot be set to {value!r}: {answer}')

    # --- faults -------------------------------------------------------------------------------

    def inject(self) -> None:
        """Inject a fault, and wait until everything works again."""
        name = self.random.choice([*CAMERA_FAULTS, *NODE_FAULTS])
        camera = self.random.choice(self.cameras)
        seconds = self.random.uniform(5.0, 8.0)
        self._fault = name
        self.faults[name] += 1
        before = {each: each.masks for each in self.cameras}
        camera.states.clear()
        if name in NODE_FAULTS:
            NODE_FAULTS[name](self, seconds)
        else:
            with CAMERA_FAULTS[name](self, camera):
                self.run(seconds)
                wanted = EXPECTED.get(name, ())
                if wanted and not self.run(5.0, lambda: camera.states & {*wanted}):
                    self.complain(f'{camera.topic} is {camera.states}, not one of {wanted}')
            camera.mend()
            for other in self.cameras:
                if other is not camera and other.masks == before[other]:
                    self.complain(f'{other.topic} fell silent, where {camera.topic} had a fault')
        ended = time.monotonic()
        if self.run(RECOVERY, lambda: self._recovered(ended)):
            self.recoveries.append(time.monotonic() - ended)
        else:
            silent = [c.topic for c in self.cameras if c.last_good <= ended]
            self.complain(f'no result of {", ".join(silent)} within {RECOVERY:g} s afterwards')
        self._fault = f'after {name}'
        self.run(1.0)


def _copy(message: Any) -> Any:
    from rclpy.serialization import deserialize_message, serialize_message

    return deserialize_message(serialize_message(message), type(message))


_Fault = Callable[[Soak, Camera], Any]


def _spoiling(raw: Callable[[Any, Soak], None], packed: Callable[[Any, Soak], None]) -> _Fault:
    """Make a fault of what it does to an Image and to a CompressedImage."""

    @contextmanager
    def fault(soak: Soak, camera: Camera) -> Iterator[None]:
        spoil = packed if camera.is_compressed else raw
        camera.spoil = lambda message: spoil(message, soak)
        yield

    return fault


def _setting(**values: Any) -> _Fault:
    @contextmanager
    def fault(soak: Soak, camera: Camera) -> Iterator[None]:
        for name, value in values.items():
            setattr(camera, name, value)
        yield

    return fault


@contextmanager
def _freezing(soak: Soak, camera: Camera) -> Iterator[None]:
    camera.freeze()
    yield


@contextmanager
def _vanishing(soak: Soak, camera: Camera) -> Iterator[None]:
    camera.close()
    yield
    camera.open()


@contextmanager
def _doubled(soak: Soak, camera: Camera) -> Iterator[None]:
    camera.open(2)
    yield
    camera.close(keep=1)


@contextmanager
def _killed(soak: Soak, camera: Camera) -> Iterator[None]:
    """Let another process be the camera, and end it by SIGKILL while it publishes."""
    camera.close()
    camera.has_peer = True
    count = camera.masks
    peer = soak._processes.start('peer', 'soak', '--camera', camera.topic)
    if not soak.run(60.0, lambda: camera.masks > count + 3):
        soak.complain(f'{camera.topic}: no mask of the camera in another process')
    peer.process.kill()
    camera.states.clear()
    yield
    camera.has_peer = False
    camera.open()


@contextmanager
def _unheard(soak: Soak, camera: Camera) -> Iterator[None]:
    camera.deafen()
    yield
    camera.listen()


@contextmanager
def _slow_reader(soak: Soak, camera: Camera) -> Iterator[None]:
    """Add a reliable subscriber that never reads."""
    import rclpy
    from sensor_msgs.msg import Image

    node = rclpy.create_node('slow_reader')
    image = camera.topic.removesuffix('/compressed').rpartition('/')[0]
    for name in ('mask', 'overlay', 'heatmap'):
        node.create_subscription(Image, f'{image}/anomaly/{name}', lambda _: None, 1)
    yield
    node.destroy_node()


@contextmanager
def _other_form(soak: Soak, camera: Camera) -> Iterator[None]:
    camera.size = soak.random.choice([(90, 160), (240, 320), (360, 480), (4, 4), (68, 100)])
    if not camera.is_compressed:
        camera.encoding = soak.random.choice(['rgba8', 'mono8', 'yuv422', 'bayer_rggb8'])
    yield


def _fill(message: Any, data: bytes) -> None:
    message.data = array.array('B', data)


def _empty(message: Any) -> None:
    message.width = message.height = 0
    _fill(message, b'')


def _png_bomb() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack('>I', zlib.crc32(kind + content))
        return struct.pack('>I', len(content)) + kind + content + checksum

    header = struct.pack('>IIBBBBB', 60000, 60000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000_000))
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', header)
        + chunk(b'IDAT', pixels)
        + chunk(b'IEND', b'')
    )


_BOMB = _png_bomb()


def _enlarge(message: Any, soak: Soak) -> None:
    message.width = message.height = 60000
    message.step = 180000


def _enlarge_jpeg(message: Any, soak: Soak) -> None:
    data = bytearray(message.data)
    start = data.index(b'\xff\xc0')
    data[start + 5 : start + 9] = b'\xff\xff\xff\xff'
    _fill(message, bytes(data))


def _random_step(message: Any, soak: Soak) -> None:
    message.step = soak.random.randrange(0, message.width)
    _fill(message, soak.random.randbytes(soak.random.randrange(0, 1000)))


CAMERA_FAULTS: dict[str, _Fault] = {
    'vanishes': _vanishing,
    'is killed': _killed,
    'two publishers': _doubled,
    'nobody listens': _unheard,
    'a reader that never reads': _slow_reader,
    'other size and encoding': _other_form,
    'burst': _setting(rate=200.0),
    'frozen': _freezing,
    'stamps at zero': _setting(stamp=lambda now: 0),
    'stamps of yesterday': _setting(stamp=lambda now: now - 86400 * 10**9),
    'stamps in the future': _setting(stamp=lambda now: now + 10 * 10**9),
    'garbage': _spoiling(_random_step, lambda m, soak: _fill(m, soak.random.randbytes(500))),
    'truncated': _spoiling(
        lambda m, soak: _fill(m, bytes(m.data)[: len(m.data) // 2]),
        lambda m, soak: _fill(m, bytes(m.data)[: len(m.data) // 2]),
    ),
    'empty': _spoiling(
        lambda m, soak: _empty(m),
        lambda m, soak: _fill(m, b''),
    ),
    'gigantic': _spoiling(_enlarge, _enlarge_jpeg),
    'bomb': _spoiling(_enlarge, lambda m, soak: _fill(m, _BOMB)),
    'unknown encoding': _spoiling(
        lambda m, soak: setattr(m, 'encoding', 'x' * 1000),
        lambda m, soak: setattr(m, 'format', 'compressedDepth'),
    ),
}


def _pause(soak: Soak, seconds: float) -> None:
    soak.change_state(_DEACTIVATE)
    soak.run(0.5)
    before = soak.masks
    soak.run(seconds)
    if soak.masks != before:
        soak.complain(f'{soak.masks - before} masks of a node that is not active')
    soak.change_state(_ACTIVATE)


def _cycle(soak: Soak, seconds: float) -> None:
    for _ in range(3):
        soak.change_state(_DEACTIVATE, _CLEANUP, _CONFIGURE, _ACTIVATE)


def _simulated_time(soak: Soak, seconds: float) -> None:
    """Let time come from /clock, and jump back again and again, as with a bag that loops."""
    from rosgraph_msgs.msg import Clock

    start = time.monotonic()

    def simulated() -> int:
        return 10**12 + int(1e9 * ((time.monotonic() - start) % _LOOP))

    def tick() -> None:
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(simulated(), 10**9)
        publisher.publish(message)

    publisher = soak.node.create_publisher(Clock, '/clock', 10)
    timer = soak.node.create_timer(0.02, tick)
    soak.set_parameter('use_sim_time', True)
    soak.clock = simulated
    for camera in soak.cameras:
        camera.states.clear()
    soak.run(seconds)
    if not soak.run(5.0, lambda: all('clock' in camera.states for camera in soak.cameras)):
        soak.complain(f'jumps of time are not reported: {[c.states for c in soak.cameras]}')
    if not soak.run(RECOVERY, lambda: soak._recovered(start)):
        soak.complain('no result of every camera in simulated time')
    soak.set_parameter('use_sim_time', False)
    soak.clock = time.time_ns
    soak.node.destroy_timer(timer)
    soak.node.destroy_publisher(publisher)


def _parameter_storm(soak: Soak, seconds: float) -> None:
    """Set good and wrong values as fast as they are answered."""
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    choices: list[tuple[str, Any, bool]] = [
        ('obstacle_threshold', 0.4, True),
        ('overlay_opacity', 0.9, True),
        ('anomalous_queries', [1, 2], True),
        ('max_image_pixels', 1 << 25, True),
        ('obstacle_threshold', 2.0, False),
        ('mask_threshold', 'text', False),
        ('jpeg_quality', 0, False),
        ('anomalous_queries', [100000], False),
        ('variant', 'other', False),
        ('checkpoint', 'another/one', False),
        ('camera_topics', ['/x'], False),
    ]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        chosen = soak.random.choices(choices, k=5)
        request = SetParameters.Request()
        request.parameters = [Parameter(n, value=v).to_parameter_msg() for n, v, _ in chosen]
        answer = soak.call(SetParameters, 'set_parameters', request)
        for (name, value, is_good), result in zip(
            chosen, answer.results if answer else (), strict=False
        ):
            if result.successful != is_good:
                soak.complain(f'{name} = {value!r}: successful is {result.successful}')


NODE_FAULTS: dict[str, Callable[[Soak, float], None]] = {
    'deactivate, activate': _pause,
    'cleanup, configure, three times': _cycle,
    'simulated time that jumps back': _simulated_time,
    'parameter storm': _parameter_storm,
}


def be_a_camera(topic: str) -> None:
    """Publish frames until killed; what the process of `is killed` does."""
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import CompressedImage, Image
    from std_msgs.msg import Header

    from maskomaly_ros.node.messages import jpeg_message, picture_message

    rclpy.init()
    node = rclpy.create_node('peer')
    is_compressed = topic.endswith('/compressed')
    qos = QoSProfile(depth=2, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = node.create_publisher(CompressedImage if is_compressed else Image, topic, qos)
    noise = np.random.default_rng()
    while True:
        picture = noise.integers(0, 256, (*SIZE, 3), np.uint8)
        header = Header(frame_id='peer', stamp=node.get_clock().now().to_msg())
        publisher.publish(
            jpeg_message(picture, 80, header)
            if is_compressed
            else picture_message(picture, header)
        )
        time.sleep(1 / RATE)


def report(soak: Soak, minutes: float, seed: int) -> dict[str, Any]:
    """Return the figures; memory that grows is a violation too."""
    memory = [thirds(run) for run in soak.memory if len(run) > 100]
    for _, middle, last in memory:
        if last > (1 + FLAT) * middle:
            soak.complain(f'memory grew from {middle} MB in the second third to {last} MB')
    return {
        'hours': round((time.monotonic() - soak.start) / 3600, 3),
        'minutes asked for': minutes,
        'seed': seed,
        'frames sent': soak.sent,
        'frames received': soak.received,
        'frames processed': soak.processed,
        'masks received': soak.masks,
        'faults': dict(sorted(soak.faults.items())),
        'faults injected': soak.faults.total(),
        'longest recovery (s)': round(max(soak.recoveries, default=0.0), 1),
        'shutdowns (s)': [round(seconds, 1) for seconds in soak.stops],
        'memory': memory,
        'violations': soak.violations,
        'parameters': PARAMETERS,
        'machine': machine(),
    }


def thirds(samples: Sequence[float]) -> list[float]:
    """Return the median of each third in MB. What a fault does for a while does not move it."""
    return [round(float(np.median(part)) / 1e6, 1) for part in np.array_split(samples, 3)]


def markdown(figures: dict[str, Any]) -> str:
    """Return the table for people."""
    memory = ', '.join(' → '.join(map(str, run)) for run in figures['memory'])
    rows = [
        ('hours', figures['hours']),
        ('frames sent / received / processed',
         ' / '.join(str(figures[f'frames {what}']) for what in ('sent', 'received', 'processed'))),
        ('faults injected', figures['faults injected']),
        ('longest recovery', f'{figures["longest recovery (s)"]} s'),
        ('shutdowns', ', '.join(f'{seconds} s' for seconds in figures['shutdowns (s)'])),
        ('memory of each run of the node, by thirds of it', f'{memory or "too short to say"} MB'),
        ('violations', len(figures['violations'])),
    ]  # fmt: skip
    lines = [f'| soak, seed {figures["seed"]} | |', '|---|---|']
    lines += [f'| {name} | {value} |' for name, value in rows]
    lines += ['', '| fault | times |', '|---|---|']
    lines += [f'| {name} | {count} |' for name, count in figures['faults'].items()]
    for violation in figures['violations']:
        lines += [
            '',
            f'- {violation["seconds"]} s, {violation["fault"]}: {violation["violation"]}',
        ]
    return '\n'.join(lines) + '\n'


def main() -> int:
    """Run, print one table, save; the exit status is 1 where something was violated."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--minutes', type=float, default=30.0)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--out', type=Path, default=Path(__file__).parent / 'results')
    parser.add_argument('--camera', help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.camera:
        be_a_camera(arguments.camera)
    os.environ.update(ros_environment())
    here = str(Path(__file__).parent)
    os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [here, os.environ.get('PYTHONPATH')]))
    import rclpy

    rclpy.init()
    with (
        tempfile.TemporaryDirectory() as logs,
        ChildProcesses(Path(logs), os.environ) as processes,
    ):
        soak = Soak(processes, arguments.seed)
        try:
            for _ in range(2):  # stopped and started anew after half the time
                soak.start_node()
                begun = time.monotonic()
                while time.monotonic() - begun < 30 * arguments.minutes:
                    soak.inject()
                soak.stop_node()
        except (KeyboardInterrupt, SystemExit) as error:
            sys.stderr.write(f'ended early: {error or "interrupted"}\n')
        figures = report(soak, arguments.minutes, arguments.seed)
    rclpy.try_shutdown()
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = markdown(figures)
    (arguments.out / 'soak.json').write_text(
        json.dumps(figures, indent=2) + '\n', encoding='utf-8'
    )
    (arguments.out / 'soak.md').write_text(text, encoding='utf-8')
    table = Table(*('hours', 'frames', 'faults injected', 'violations'), box=box.SIMPLE_HEAD)
    count = len(figures['violations'])
    table.add_row(
        f'{figures["hours"]:.2f}', str(figures['frames received']),
        str(figures['faults injected']), f'[{"red" if count else "green"}]{count}',
    )  # fmt: skip
    console = Console()
    console.print(table)
    console.print(f'{arguments.out / "soak.md"}, {arguments.out / "soak.json"}', soft_wrap=True)
    return int(count > 0)


if __name__ == '__main__':
    sys.exit(main())
