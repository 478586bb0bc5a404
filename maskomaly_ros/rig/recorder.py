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

"""Record what the node publishes for one camera, in a process of its own.

    python -m maskomaly_ros.rig.recorder /camera/image_raw --out recording

Messages are matched by stamp. Writing happens in a thread, so that the times of arrival are those
of the messages and not those of the disk.
"""

from __future__ import annotations

import argparse
import json
import logging
import queue
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import Image

from maskomaly_ros.drives.video_writer import VideoWriter
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.node.messages import decode_image
from maskomaly_ros.rig.events import emit
from maskomaly_ros.rig.program import run
from maskomaly_ros.topics import outputs_of

_LOG = logging.getLogger(__name__)

OUTPUTS = ('mask', 'heatmap', 'overlay')

_MAX_PIXELS = 2**27
# Results that wait for the rest of their set, and sets that wait for the disk.
_MATCHING = 8
_WAITING = 64


@dataclass(frozen=True)
class Recorded:
    """What the node published for one camera frame.

    Attributes:
        stamp_ns: stamp of the frame, nanoseconds.
        frame_id: of the frame.
        score: score map, float32 [H, W] in [0, 1].
        mask: obstacle mask, uint8 [H, W], 0 or 255.
        overlay: RGB uint8 [H, W, 3].
        latency: seconds from the stamp to the arrival of each output.

    """

    stamp_ns: int
    frame_id: str
    score: NDArray[np.float32]
    mask: NDArray[np.uint8]
    overlay: NDArray[np.uint8]
    latency: dict[str, float]


@dataclass
class _Set:
    messages: dict[str, Image] = field(default_factory=dict)
    latency: dict[str, float] = field(default_factory=dict)


class Recorder(Node):
    """Collects the outputs for one camera, matched by stamp.

    Args:
        camera: topic of the camera; the outputs are beside it in `anomaly/`.
        on_recorded: called with each complete set, in the thread that spins.
        options: of `rclpy.node.Node`.

    Attributes:
        incomplete: sets that were given up because a part of them did not come.
        counts: what became of the camera's frames, from the node's latest diagnostics.

    """

    def __init__(
        self, camera: str, on_recorded: Callable[[Recorded], None], **options: Any
    ) -> None:
        super().__init__('recorder', **options)
        self._on_recorded = on_recorded
        self._sets: OrderedDict[int, _Set] = OrderedDict()
        self._camera = camera
        self.incomplete = 0
        self.counts: dict[str, int] = {}
        outputs = outputs_of(camera)
        qos = QoSProfile(depth=10)
        for output in OUTPUTS:
            self.create_subscription(Image, f'{outputs}/{output}', self._on(output), qos)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def _on(self, output: str) -> Callable[[Image], None]:
        def receive(message: Image) -> None:
            now = self.get_clock().now().nanoseconds
            stamp = Time.from_msg(message.header.stamp).nanoseconds
            entry = self._sets.setdefault(stamp, _Set())
            entry.messages[output] = message
            entry.latency[output] = (now - stamp) / 1e9
            if len(entry.messages) == len(OUTPUTS):
                del self._sets[stamp]
                self._on_recorded(_recorded(stamp, entry))
            elif len(self._sets) > _MATCHING:
                self._sets.popitem(last=False)
                self.incomplete += 1

        return receive

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.hardware_id == self._camera:
                values = {v.key: v.value for v in status.values}
                self.counts = {k: int(v) for k, v in values.items() if v.isdecimal()}


def _recorded(stamp: int, entry: _Set) -> Recorded:
    heatmap, mask = entry.messages['heatmap'], entry.messages['mask']
    size = (heatmap.height, heatmap.width)
    if heatmap.encoding == 'mono8':
        score = np.frombuffer(heatmap.data, np.uint8).astype(np.float32) / np.float32(255)
    else:
        score = np.frombuffer(heatmap.data, np.float32)
    return Recorded(
        stamp,
        heatmap.header.frame_id,
        score.reshape(size),
        np.frombuffer(mask.data, np.uint8).reshape(size),
        decode_image(entry.messages['overlay'], max_pixels=_MAX_PIXELS),
        entry.latency,
    )


class Recording:
    """A folder that recorded sets are written to, by a thread of its own.

    Holds `overlay.mp4`, the arrays of some or all sets as `STAMP.npz` (float16 score, mask,
    overlay), and at the end `recording.json`.

    Args:
        folder: is made.
        rate: frames per second of the video.
        keep: how many sets to keep the arrays of, spread evenly over the time; None keeps all.
        on_written: called with each set that is written, in the writing thread.

    """

    def __init__(
        self,
        folder: Path,
        rate: float,
        *,
        keep: int | None = None,
        on_written: Callable[[Recorded], None] = lambda recorded: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._keep = keep
        self._stride = 1
        self._kept: list[Path] = []
        self._on_written = on_written
        self._frames: list[dict[str, Any]] = []
        self._queue: queue.Queue[Recorded | None] = queue.Queue(_WAITING)
        self._error: Exception | None = None
        self.unwritten = 0
        self._video = VideoWriter(folder / 'overlay.mp4', rate)
        self._thread = threading.Thread(target=self._run, name='recording')
        self._thread.start()

    def add(self, recorded: Recorded) -> None:
        """Hand over a set to be written; where the disk is too slow it is counted and dropped.

        Raises:
            MaskomalyError: writing has failed.

        """
        if self._error is not None:
            raise MaskomalyError(f'cannot write to {self._folder}: {self._error}')
        try:
            self._queue.put_nowait(recorded)
        except queue.Full:
            self.unwritten += 1
            _LOG.warning('writing is too slow: frame %d is left out', recorded.stamp_ns)

    def close(self, **totals: Any) -> None:
        """Write what waits, then `recording.json` with a line a frame and the totals.

        Raises:
            MaskomalyError: writing has failed.

        """
        self._queue.put(None)
        self._thread.join()
        summary = {**totals, 'unwritten': self.unwritten, 'frames': self._frames}
        (self._folder / 'recording.json').write_text(json.dumps(summary), encoding='utf-8')
        if self._error is not None:
            raise MaskomalyError(f'cannot write to {self._folder}: {self._error}')

    def _run(self) -> None:
        try:
            with self._video:
                while (recorded := self._queue.get()) is not None:
                    self._write(recorded)
                    self._on_written(recorded)
        except Exception as error:  # reported where the caller can act on it
            self._error = error
            while self._queue.get() is not None:
                pass

    def _write(self, recorded: Recorded) -> None:
        self._video.write(recorded.overlay)
        self._keep_arrays(recorded)
        self._frames.append(
            {
                'stamp': recorded.stamp_ns,
                'latency': recorded.latency,
                'max_score': float(recorded.score.max()),
                'obstacle_pixels': int(np.count_nonzero(recorded.mask)),
            }
        )

    def _keep_arrays(self, recorded: Recorded) -> None:
        if len(self._frames) % self._stride:
            return
        path = self._folder / f'{recorded.stamp_ns}.npz'
        np.savez(
            path,
            score=recorded.score.astype(np.float16),
            mask=recorded.mask,
            overlay=recorded.overlay,
        )
        self._kept.append(path)
        if self._keep is not None and len(self._kept) >= 2 * self._keep:
            for path in self._kept[1::2]:
                path.unlink()
            self._kept = self._kept[::2]
            self._stride *= 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='maskomaly_recorder', description=__doc__.split('\n')[0])
    parser.add_argument('camera', help='camera topic that the node subscribes to')
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    parser.add_argument('--rate', type=float, default=10.0, help='frames per second of the video')
    parser.add_argument(
        '--keep', type=int, metavar='N', help='keep the arrays of N to 2N frames; default: of all'
    )
    parser.add_argument('--frame-id', help='record only frames of this frame_id')
    parser.add_argument('--node', default='/maskomaly', help='node that is recorded')
    parser.add_argument('--events', action='store_true', help='report each frame as JSON line')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Record until SIGINT or SIGTERM; the exit status is 0, or 1 where something was wrong."""
    argv = list(sys.argv if argv is None else ['maskomaly_recorder', *argv])
    arguments = _parser().parse_args(rclpy.utilities.remove_ros_args(argv)[1:])
    return run(argv, partial(_record, arguments))


def _record(arguments: argparse.Namespace, stop: threading.Event) -> None:
    def report(recorded: Recorded) -> None:
        if arguments.events:
            emit('recorded', stamp=recorded.stamp_ns, latency=recorded.latency['mask'])

    recording = Recording(arguments.out, arguments.rate, keep=arguments.keep, on_written=report)

    def receive(recorded: Recorded) -> None:
        if arguments.frame_id in (None, recorded.frame_id):
            recording.add(recorded)

    node = Recorder(arguments.camera, receive)
    totals: dict[str, Any] = {}
    try:
        executor = SingleThreadedExecutor(context=node.context)
        executor.add_node(node)
        counts = node.counts
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.1)
            if arguments.events and node.counts is not counts:
                counts = node.counts
                emit('diagnostics', **counts)
        totals = {
            'incomplete': node.incomplete,
            'diagnostics': node.counts,
            # A node that says nothing is not there to be asked.
            'obstacle_threshold': _threshold(node, arguments.node, executor)
            if node.counts
            else None,
        }
    finally:
        recording.close(**totals)


def _threshold(node: Node, name: str, executor: SingleThreadedExecutor) -> float | None:
    """Return the obstacle threshold of the recorded node; None where it does not answer."""
    client = AsyncParameterClient(node, name)
    if not client.wait_for_services(timeout_sec=2.0):
        return None
    future = client.get_parameters(['obstacle_threshold'])
    executor.spin_until_future_complete(future, timeout_sec=2.0)
    if not future.done():
        return None
    (value,) = future.result().values
    return float(value.double_value)


if __name__ == '__main__':
    sys.exit(main())
