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

"""The thread that turns waiting frames into results."""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rclpy.node import Node
from std_msgs.msg import Header

from maskomaly_ros.detector import Detection, Detector
from maskomaly_ros.errors import MaskomalyError, in_words
from maskomaly_ros.node.calibration import Calibration
from maskomaly_ros.node.camera import CameraStream
from maskomaly_ros.node.ground import CameraGround
from maskomaly_ros.node.health import stamp_of
from maskomaly_ros.node.messages import decode_frame
from maskomaly_ros.node.outputs import NEED_IDS, NEED_PLACES, Outputs
from maskomaly_ros.node.parameters import LiveSettings
from maskomaly_ros.refinement.refine import Refiner

_Result = TypeVar('_Result')


@dataclass(frozen=True)
class Camera:
    """One camera: where its frames wait, what becomes of them, and where the results go."""

    stream: CameraStream
    outputs: Outputs
    refiner: Refiner
    calibration: Calibration
    ground: CameraGround

    def start(self) -> None:
        """Begin anew, and subscribe to what is known of the camera beside its frames."""
        self.stream.restart()
        self.refiner.reset()
        self.calibration.start()
        self.ground.start()

    def stop(self) -> None:
        """Unsubscribe from that."""
        self.calibration.stop()
        self.ground.stop()

    def finish(self, detection: Detection, header: Header, settings: LiveSettings) -> None:
        """Refine a detection, and publish what somebody listens to."""
        wanted = self.outputs.wanted
        refinement = settings.refinement
        if not wanted & NEED_IDS:
            refinement = replace(refinement, ids=False)
        stamp = header.stamp.sec * 10**9 + header.stamp.nanosec
        detection = self.refiner.apply(detection, stamp, refinement)
        located = None
        if wanted & NEED_PLACES:
            height, width = detection.frame.shape[:2]
            located = self.ground.locate(
                detection.components,
                header,
                (height, width),
                settings.locator,
                settings.depth_tolerance,
            )
        if located is not None:
            components = replace(detection.components, obstacles=located.obstacles)
            detection = detection.with_components(components)
        self.outputs.publish(detection, header, settings, located)


@dataclass(frozen=True)
class _Frame:
    camera: Camera
    header: Header
    picture: NDArray[np.uint8]


@dataclass
class _Throttle:
    """Say yes once a second for each key."""

    last: dict[str, float] = field(default_factory=dict)

    def __call__(self, key: str) -> bool:
        now = time.monotonic()
        if now - self.last.get(key, -math.inf) < 1.0:
            return False
        self.last[key] = now
        return True


@dataclass(frozen=True)
class _Failure:
    """What is kept of an exception. Its traceback holds tensors, and memory may be what lacks."""

    reason: str
    traceback: str
    is_memory: bool
    is_device: bool

    @classmethod
    def of(cls, error: Exception, device: torch.device) -> _Failure:
        is_memory = 'out of memory' in str(error)  # of torch, the driver, Triton or a runtime
        is_device = not _answers(device) or (
            not is_memory
            and (
                isinstance(error, getattr(torch, 'AcceleratorError', ()))
                or (type(error) is RuntimeError and str(error).startswith('CUDA error'))
            )
        )
        return cls(
            in_words(error),
            ''.join(traceback.format_exception(error)),
            is_memory and not is_device,
            is_device,
        )


def _answers(device: torch.device) -> bool:
    """Ask the device itself: an error is of whatever library met a lost one first."""
    if device.type != 'cuda':
        return True
    try:
        torch.cuda.synchronize(device)
    except Exception:  # it fails whatever is asked of it from now on
        return False
    return True


@dataclass(frozen=True)
class WorkerState:
    """How the worker is; replaced as a whole.

    Attributes:
        timings: seconds that the last batch spent in each stage.
        batch: frames in the last batch.
        problem: why the last batch failed; empty if it did not.
        last_problem: why a batch last failed; empty if none ever did.
        busy_since: when the batch under way began, by time.monotonic; None between batches.

    """

    timings: dict[str, float] = field(default_factory=dict)
    batch: int = 0
    problem: str = ''
    last_problem: str = ''
    busy_since: float | None = None


class Worker:
    """Runs the detector on the newest frames of all cameras, batch after batch, in a thread.

    Each batch has the frame of every camera that has one waiting when the thread comes for them.
    Where a batch fails, its frames are tried again one by one, so that a camera pays only for its
    own frame. The thread ends by itself only where the device is lost.

    Args:
        node: for its log and its clock.
        detector: finds obstacles.
        cameras: of the same node.
        settings: returns the live settings; asked once a batch.
        on_device_lost: called in the thread with the reason when the device needs to be set up
            anew.

    """

    def __init__(
        self,
        node: Node,
        detector: Detector,
        cameras: Sequence[Camera],
        settings: Callable[[], LiveSettings],
        on_device_lost: Callable[[str], None],
    ) -> None:
        self._log = node.get_logger()
        self._clock = node.get_clock()
        self._detector = detector
        self._cameras = tuple(cameras)
        self._settings = settings
        self._on_device_lost = on_device_lost
        self._may_log = _Throttle()
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name='maskomaly worker', daemon=True)
        self._timings: dict[str, float] = {}
        self._problem = ''
        self.state = WorkerState()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Let the thread look for waiting frames; returns at once."""
        self._wake.set()

    def stop(self, timeout: float | None = None) -> bool:
        """Stop the thread; results of the batch it is busy with are not published.

        Args:
            timeout: seconds to wait for that batch; None waits as long as it takes.

        Returns:
            Whether the thread has ended.

        """
        self._is_stopping = True
        self._wake.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._is_stopping:
            self._wake.wait()
            self._wake.clear()
            self._process_waiting()
        for camera in self._cameras:
            if camera.stream.take() is not None:
                camera.stream.mark_unwanted()

    def _process_waiting(self) -> None:
        """Process the frames that wait; none of them is kept when the next ones are decoded."""
        settings = self._settings()
        start = time.monotonic()
        frames = [f for f in (self._next_frame(c, settings) for c in self._cameras) if f]
        if not frames:
            return
        self._timings = {'decoding': time.monotonic() - start}
        self._problem = ''
        self.state = replace(self.state, busy_since=start)
        self._process(frames, settings)
        self.state = WorkerState(
            timings=self._timings,
            batch=len(frames),
            problem=self._problem,
            last_problem=self._problem or self.state.last_problem,
        )

    def _next_frame(self, camera: Camera, settings: LiveSettings) -> _Frame | None:
        stream = camera.stream
        serialized = stream.take()
        if serialized is None:
            return None
        if self._is_stopping or not camera.outputs.are_wanted:
            stream.mark_unwanted()
            return None
        age, max_age = self._age(stamp_of(serialized)), settings.limits.max_age
        if 0 < max_age < age:
            stream.mark_stale(age)
            if self._may_log(f'stale {stream.topic.name}'):
                self._log.warning(
                    f'{stream.topic.name}: frame skipped: it is {age:.2f} s old, max_age is '
                    f'{max_age:g} s ({stream.counts.stale} stale of {stream.counts.received})'
                )
            return None
        if settings.limits.withhold_frozen and settings.limits.is_frozen(stream.frozen):
            stream.mark_frozen()
            if self._may_log(f'frozen {stream.topic.name}'):
                self._log.warning(
                    f'{stream.topic.name}: frame withheld: the same picture for '
                    f'{stream.frozen:.1f} s ({stream.counts.frozen} frozen of '
                    f'{stream.counts.received})'
                )
            return None
        try:
            header, picture = decode_frame(
                serialized,
                is_compressed=stream.topic.is_compressed,
                max_pixels=settings.max_image_pixels,
            )
            if camera.refiner.region:  # before the network has worked in vain
                camera.refiner.region.inside((picture.shape[0], picture.shape[1]))
        except Exception as error:  # whatever a library makes of what a camera sends
            reason = str(error) if isinstance(error, MaskomalyError) else repr(error)
            stream.mark_bad(reason)
            if self._may_log(f'bad {stream.topic.name}'):
                self._log.warning(
                    f'{stream.topic.name}: bad frame skipped: {reason} '
                    f'({stream.counts.bad} bad of {stream.counts.received})'
                )
            return None
        return _Frame(camera, header, picture)

    def _age(self, stamp: int | None) -> float:
        return 0.0 if stamp is None else (self._clock.now().nanoseconds - stamp) / 1e9

    def _process(
        self, frames: Sequence[_Frame], settings: LiveSettings, *, is_retry: bool = False
    ) -> None:
        result = self._attempt(lambda: self._detector.detect([frame.picture for frame in frames]))
        if not isinstance(result, _Failure):
            start = time.monotonic()
            for frame, detection in zip(frames, result, strict=True):
                self._publish(frame, detection, settings)
            self._timings |= result[0].timings | {'publishing': time.monotonic() - start}
        elif is_retry or result.is_device or (len(frames) == 1 and not result.is_memory):
            self._report_failure('the network', result, frames)
        else:
            if self._may_log('retry'):
                self._log.warning(
                    f'the network failed on a batch of {len(frames)}, trying one camera at a '
                    f'time: {result.reason}'
                )
            for frame in frames:
                self._process_again(frame, settings)

    def _process_again(self, frame: _Frame, settings: LiveSettings) -> None:
        if self._is_stopping:
            frame.camera.stream.mark_unwanted()
        else:
            self._process([frame], settings, is_retry=True)

    def _publish(self, frame: _Frame, detection: Detection, settings: LiveSettings) -> None:
        if self._is_stopping:
            frame.camera.stream.mark_unwanted()
            return
        stamp = frame.header.stamp.sec * 10**9 + frame.header.stamp.nanosec

        def publish() -> None:
            frame.camera.finish(detection, frame.header, settings)

        result = self._attempt(publish)
        if isinstance(result, _Failure):
            self._report_failure('publishing', result, [frame])
        else:
            frame.camera.stream.mark_processed(self._age(stamp))

    def _attempt(self, work: Callable[[], _Result]) -> _Result | _Failure:
        try:
            return work()
        except Exception as error:
            failure = _Failure.of(error, self._detector.network.device)
        if failure.is_memory:  # the exception, and what it held, is gone by now
            torch.cuda.empty_cache()
        return failure

    def _report_failure(self, what: str, failure: _Failure, frames: Sequence[_Frame]) -> None:
        problem = f'{what} raised {failure.reason}'
        self._problem = problem
        for frame in frames:
            frame.camera.stream.mark_failed(problem)
        if self._may_log(what):
            names = ', '.join(frame.camera.stream.topic.name for frame in frames)
            self._log.error(
                f'{what} failed on a frame of {names}; the next ones will be tried\n'
                + failure.traceback
            )
        if failure.is_device:
            self._is_stopping = True
            self._on_device_lost(failure.reason)
