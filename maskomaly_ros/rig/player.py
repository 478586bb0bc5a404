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

"""Publish a recorded drive as a camera topic, in a process of its own.

    python -m maskomaly_ros.rig.player drive.mp4 --topic /camera/image_raw --rate 10

The messages are stamped when they are published, as a live camera stamps them.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from maskomaly_ros.drives.open import open_source
from maskomaly_ros.drives.source import Source, SourceFrame, fit_within
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.node.messages import jpeg_message, picture_message
from maskomaly_ros.rig.events import emit
from maskomaly_ros.rig.program import run
from maskomaly_ros.topics import DEFAULT_CAMERA

_LOG = logging.getLogger(__name__)

WARM_UP_FRAME_ID = 'warm_up'
ENCODINGS = ('bgr8', 'jpeg')

_JPEG_QUALITY = 90

# Share of the measured pace that is used, so that a frame that takes longer replaces none.
_UTILIZATION = 0.85
_WARM_UP_FRAMES = 8
# A slow network is measured on few frames.
_FEW_FRAMES = 3
_LONG_WARM_UP = 20.0
_PATIENCE = 10.0


class CameraPublisher(Node):
    """A camera: publishes images, stamped with the time of publishing.

    Args:
        topic: `sensor_msgs/Image`, or `CompressedImage` where encoding is `jpeg`.
        encoding: `bgr8` or `jpeg`.
        frame_id: of the header.
        reliable: whether it offers reliable delivery; drivers mostly offer best effort.
        options: of `rclpy.node.Node`.

    Raises:
        MaskomalyError: the encoding is unknown.

    """

    def __init__(
        self,
        topic: str,
        *,
        encoding: str = 'bgr8',
        frame_id: str = 'camera',
        reliable: bool = False,
        **options: Any,
    ) -> None:
        super().__init__('camera_player', **options)
        if encoding not in ENCODINGS:
            raise MaskomalyError(
                f'encoding {encoding!r} is unknown; use one of {", ".join(ENCODINGS)}'
            )
        self._encoding = encoding
        self._frame_id = frame_id
        policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        kind = CompressedImage if encoding == 'jpeg' else Image
        qos = QoSProfile(depth=5, reliability=policy)
        self._publisher = self.create_publisher(kind, topic, qos)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self)

    @property
    def subscribers(self) -> int:
        """Number of subscribers that are matched."""
        return int(self._publisher.get_subscription_count())

    def publish(self, image: NDArray[np.uint8], frame_id: str | None = None) -> int:
        """Publish an image, RGB uint8 [H, W, 3]; return its stamp in nanoseconds."""
        now = self.get_clock().now()
        header = Header(stamp=now.to_msg(), frame_id=frame_id or self._frame_id)
        if self._encoding == 'jpeg':
            self._publisher.publish(jpeg_message(image, _JPEG_QUALITY, header))
        else:
            self._publisher.publish(picture_message(image, header))
        return int(now.nanoseconds)

    def finish(self) -> None:
        """Wait a moment for the last frame to be delivered, where delivery is reliable."""
        self._publisher.wait_for_all_acked(Duration(seconds=1))

    def measure_period(
        self, image: NDArray[np.uint8], answers: str, timeout: float, stop: threading.Event
    ) -> float:
        """Return how many seconds a frame takes from here to its answer, most of the time.

        One frame at a time is published, with frame_id `warm_up`, until an image with its stamp
        comes back.

        Args:
            image: what to publish, RGB uint8 [H, W, 3].
            answers: topic of sensor_msgs/Image that the node publishes last for each frame.
            timeout: seconds in all.
            stop: ends the measurement early.

        Raises:
            MaskomalyError: too few answers came in time.

        """
        sent: dict[int, float] = {}
        periods: list[float] = []

        def note(message: Image) -> None:
            stamp = Time.from_msg(message.header.stamp).nanoseconds
            if stamp in sent:
                periods.append(time.monotonic() - sent.pop(stamp))

        subscription = self.create_subscription(Image, answers, note, 5)
        start = time.monotonic()
        while len(periods) < _WARM_UP_FRAMES and not stop.is_set():
            now = time.monotonic()
            if len(periods) >= _FEW_FRAMES and now - start > _LONG_WARM_UP:
                break
            if now - start > timeout:
                raise MaskomalyError(
                    f'{len(periods)} of {_WARM_UP_FRAMES} frames were answered on {answers} '
                    f'within {timeout:.0f} s: is the node active?'
                )
            sent[self.publish(image, WARM_UP_FRAME_ID)] = now
            # A frame can be lost on a best effort topic, and then no answer comes.
            count, patience = len(periods), min(now + _PATIENCE, start + timeout)
            while len(periods) == count and time.monotonic() < patience and not stop.is_set():
                self._executor.spin_once(timeout_sec=0.05)
        self.destroy_subscription(subscription)
        # Of eight the second slowest: other programs may be busy later as well.
        return sorted(periods)[-1 - len(periods) // _WARM_UP_FRAMES] if periods else 0.0

    def wait_for_subscribers(self, count: int, timeout: float, stop: threading.Event) -> None:
        """Wait until so many subscribers are there.

        Raises:
            MaskomalyError: they did not come within timeout seconds.

        """
        give_up = time.monotonic() + timeout
        while self.subscribers < count and not stop.wait(0.02):
            if time.monotonic() > give_up:
                raise MaskomalyError(
                    f'{self.subscribers} of {count} subscribers to '
                    f'{self._publisher.topic_name} came within {timeout:.0f} s'
                )


def paced(
    frames: Iterator[SourceFrame], rate: float, stop: threading.Event
) -> Iterator[SourceFrame]:
    """Yield frames at a rate; one that comes late shifts those after it instead of a burst."""
    due = time.monotonic()
    for frame in frames:
        if stop.wait(max(0.0, due - time.monotonic())):
            return
        due = max(due, time.monotonic()) + 1 / rate
        yield frame


def _selected(source: Source, count: int | None, loop: bool) -> Iterator[SourceFrame]:
    published = 0
    while True:
        before = published
        for frame in source:
            if published == count:
                return
            yield frame
            published += 1
        if not loop or published == before:
            return


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.partition('x')
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f'{text!r} is no size such as 640x360')
    return int(width), int(height)


def _rate(text: str) -> float | str:
    if text in ('source', 'auto'):
        return text
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1000:
        raise argparse.ArgumentTypeError(f'{text!r} is no rate: frames a second, source or auto')
    return rate


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog='maskomaly_player', description=__doc__.split('\n')[0])
    parser.add_argument(
        'source', help='video, folder of images or rosbag; generated[:SEED] for a generated scene'
    )
    parser.add_argument('--topic', default=DEFAULT_CAMERA, help='topic to publish')
    parser.add_argument('--source-topic', help='image topic of the bag; default: its first')
    parser.add_argument(
        '--source-rate', type=float, metavar='HZ', help='frames a second of a folder of images'
    )
    parser.add_argument('--encoding', choices=ENCODINGS, default='bgr8')
    parser.add_argument('--frame-id', default='camera', help='frame_id of the header')
    parser.add_argument('--reliable', action='store_true', help='offer reliable delivery')
    parser.add_argument(
        '--rate',
        type=_rate,
        default='source',
        help="frames a second; source: the source's own; auto: what the node sustains, see "
        "--answers, and at most the source's own",
    )
    parser.add_argument(
        '--answers', metavar='TOPIC', help='what the node publishes, to measure its pace on'
    )
    parser.add_argument('--size', type=_size, metavar='WxH', help='shrink to fit into this')
    parser.add_argument('--frames', type=int, metavar='N', help='end after so many frames')
    parser.add_argument('--loop', action='store_true', help='begin again at the end')
    parser.add_argument(
        '--wait-for', type=int, default=0, metavar='N', help='wait for so many subscribers first'
    )
    parser.add_argument(
        '--timeout', type=float, default=60.0, help='seconds for --wait-for and for --rate auto'
    )
    parser.add_argument('--events', action='store_true', help='report each frame as JSON line')
    return parser


def _open(arguments: argparse.Namespace) -> Source:
    kind, _, seed = arguments.source.partition(':')
    if kind == 'generated' and not Path(arguments.source).exists():
        from maskomaly_ros.drives.generated import GeneratedClip

        width, height = arguments.size or (640, 360)
        return GeneratedClip(int(seed or 0), arguments.frames or 150, size=(height, width))
    return open_source(arguments.source, topics=arguments.source_topic, rate=arguments.source_rate)


def play(camera: CameraPublisher, arguments: argparse.Namespace, stop: threading.Event) -> None:
    """Publish what the command line asks for."""
    report = emit if arguments.events else _ignore
    with _open(arguments) as source:
        frames = _selected(source, arguments.frames, arguments.loop)
        camera.wait_for_subscribers(arguments.wait_for, arguments.timeout, stop)
        rate = source.rate if arguments.rate == 'source' else arguments.rate
        if rate == 'auto':
            first = next(iter(source), None)
            if first is None:
                raise MaskomalyError(f'no frame of {source.path} can be read')
            image = fit_within(first.image, arguments.size)
            period = camera.measure_period(image, arguments.answers, arguments.timeout, stop)
            rate = min(source.rate, _UTILIZATION / period) if period else source.rate
            report('pace', seconds=period, rate=rate)
        for frame in paced(frames, rate, stop):
            stamp = camera.publish(fit_within(frame.image, arguments.size))
            report('published', index=frame.index, stamp=stamp, name=frame.name)
        camera.finish()
        report('finished', problems=[f'{p.name}: {p.reason}' for p in source.problems])


def _ignore(event: str, **fields: object) -> None:
    pass


def main(argv: Sequence[str] | None = None) -> int:
    """Run the player; the exit status is 0, or 1 where something was wrong."""
    argv = list(sys.argv if argv is None else ['maskomaly_player', *argv])
    arguments = make_parser().parse_args(rclpy.utilities.remove_ros_args(argv)[1:])
    if arguments.rate == 'auto' and not arguments.answers:
        make_parser().error('--rate auto needs --answers')

    def work(stop: threading.Event) -> None:
        camera = CameraPublisher(
            arguments.topic,
            encoding=arguments.encoding,
            frame_id=arguments.frame_id,
            reliable=arguments.reliable,
        )
        play(camera, arguments, stop)

    return run(argv, work)


if __name__ == '__main__':
    sys.exit(main())
