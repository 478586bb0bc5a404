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

"""The lifecycle node `maskomaly`, and the process that runs it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import rclpy
import rclpy.logging
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.node import memory
from maskomaly_ros.node.bond import Bond
from maskomaly_ros.parameter_files import check_arguments
from maskomaly_ros.topics import camera_info_topic

if TYPE_CHECKING:
    from lifecycle_msgs.srv import ChangeState

    from maskomaly_ros.detector import Detector
    from maskomaly_ros.node.camera import CameraStream
    from maskomaly_ros.node.transforms import Transforms
    from maskomaly_ros.node.worker import Camera, Worker
    from maskomaly_ros.parameters import GroundSettings, LoadSettings


class MaskomalyNode(LifecycleNode):
    """Finds obstacles in camera topics and publishes the results beside them.

    The executor's thread receives frames and leaves them serialized. Of each camera the newest
    waits for the worker's thread, which runs the detector and publishes. The network is loaded
    when the node is configured, in a thread of its own where a service asks for it, so that the
    other services and the diagnostics answer meanwhile; cameras are subscribed to while it is
    active.

    Args:
        load_detector: makes the detector from the parameters when the node is configured; by
            default `Detector.from_checkpoint`.
        options: of `rclpy.node.Node`.

    Raises:
        MaskomalyError: a parameter that the node was started with is wrong.

    """

    def __init__(
        self, *, load_detector: Callable[[LoadSettings], Detector] | None = None, **options: Any
    ) -> None:
        super().__init__('maskomaly', **options)
        # These import torch, which takes seconds; main() must be able to stop us meanwhile.
        from maskomaly_ros.node.camera import resolve_camera_topics
        from maskomaly_ros.node.diagnostics import Diagnostics
        from maskomaly_ros.node.parameters import Parameters
        from maskomaly_ros.node.watch import Watch

        self._load_detector = load_detector or load_from_checkpoint
        self._resolve_topics = partial(resolve_camera_topics, self)
        self._settings = Parameters(self, self._resolve_topics)
        self._diagnostics = Diagnostics(
            self, lambda: self.phase, lambda: self._settings.live.limits
        )
        self._detector: Detector | None = None
        self._cameras: tuple[Camera, ...] = ()
        self._camera_subscriptions: list[Subscription] = []
        self._watch = Watch(
            self, lambda: list(zip(self.streams, self._camera_subscriptions, strict=False))
        )
        self._bond = Bond(self)
        self._is_configuring = self._is_finalized = False
        self._worker: Worker | None = None
        self._problem = ''
        self._transforms: Transforms | None = None
        self._device_is_lost = self.create_guard_condition(self._recover)
        self._change_state = self._service_change_state.callback
        self._service_change_state.callback = self._change_state_if_possible
        # Of another group than the other services, which it must not keep waiting.
        group = ReentrantCallbackGroup()
        group.add_entity(self._service_change_state)
        self._service_change_state.callback_group = group

    @property
    def phase(self) -> str:
        """State of the lifecycle, with `configuring` while a network is loaded."""
        if self._is_finalized:
            return 'finalized'
        if self._is_configuring:
            return 'configuring'
        if self._detector is None:
            return 'unconfigured'
        return 'inactive' if self._worker is None else 'active'

    @property
    def streams(self) -> tuple[CameraStream, ...]:
        """The cameras of the configured node, with the account of their frames."""
        return tuple(camera.stream for camera in self._cameras)

    def autostart(self) -> bool:
        """Configure and activate where the parameter `autostart` says so.

        Returns:
            False if that failed.

        """
        return self.autoconfigure() and self.autoactivate()

    def autoconfigure(self) -> bool:
        """Do the first half of `autostart`, which takes long and may be left to any thread."""
        if not self.get_parameter('autostart').value:
            self.get_logger().info('autostart is off; waiting to be configured')
            return True
        return bool(self.trigger_configure() == TransitionCallbackReturn.SUCCESS)

    def autoactivate(self) -> bool:
        """Do the second half of `autostart`."""
        if not self.get_parameter('autostart').value:
            return True
        return bool(self.trigger_activate() == TransitionCallbackReturn.SUCCESS)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network, try it once, and create the publishers."""
        self._is_configuring = True
        self._diagnostics.publish()  # where the thread is the executor's, the timer has to wait
        try:
            with self._settings.loading():
                self._configure()
        except MaskomalyError as error:
            problem = f'cannot configure: {error}'
            self.get_logger().error(problem)
        except Exception as error:  # a library's; where it came from is all there is to say
            problem = f'cannot configure: {error!r}'
            self.get_logger().error(f'cannot configure:\n{traceback.format_exc()}')
        else:
            return super().on_configure(state)
        finally:
            self._is_configuring = False
        self._release(problem)
        return TransitionCallbackReturn.FAILURE

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and subscribe to the cameras."""
        try:
            self._activate()
        except Exception as error:  # rclpy would drop it without a word
            self.get_logger().error(f'cannot activate:\n{traceback.format_exc()}')
            self._problem = f'cannot activate: {error!r}'
            return TransitionCallbackReturn.ERROR
        if not self.get_parameter('autostart').value:
            self._bond.form()
        result = super().on_activate(state)
        for camera in self._cameras:
            camera.outputs.announce(self._settings.live)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Fall silent; waits for the batch that the network is busy with."""
        result = super().on_deactivate(state)
        self._bond.end()
        self.stop_working()
        if not self._problem:
            self.get_logger().info('inactive: deactivated')
        return TransitionCallbackReturn.ERROR if self._problem else result

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the network and destroy the publishers."""
        self._release()
        self.get_logger().info('unconfigured: cleaned up; the network is no longer loaded')
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything."""
        self._release()
        self._is_finalized = True
        self.get_logger().info('finalized: shut down; only a new process can start again')
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, so that the node can be configured again."""
        self.get_logger().error(
            f'{self._problem}; the node, {state.label}, has to be configured anew'
        )
        self._release(self._problem)
        self._problem = ''
        return TransitionCallbackReturn.SUCCESS

    def stop_working(self, timeout: float | None = None) -> bool:
        """Unsubscribe from the cameras and stop the worker.

        Args:
            timeout: seconds to wait for the batch that the network is busy with; None waits as
                long as it takes.

        Returns:
            Whether the worker has stopped.

        """
        for subscription in self._camera_subscriptions:
            self.destroy_subscription(subscription)
        self._camera_subscriptions = []
        for camera in self._cameras:
            camera.stop()
        if self._worker is not None and not self._worker.stop(timeout):
            return False
        self._worker = None
        return True

    def _configure(self) -> None:
        from maskomaly_ros.networks import backend_in_words
        from maskomaly_ros.node.calibration import Calibration
        from maskomaly_ros.node.camera import CameraStream
        from maskomaly_ros.node.ground import CameraGround
        from maskomaly_ros.node.outputs import Outputs
        from maskomaly_ros.node.worker import Camera
        from maskomaly_ros.parameters import read_regions
        from maskomaly_ros.refinement.refine import Refiner

        load = self._settings.load
        regions = read_regions(load)
        detector = self._load_detector(load)
        self._settings.attach(detector)
        topics = self._resolve_topics(load.camera_topics)
        _warm_up(detector, load, len(topics))
        for topic, region, ground in zip(topics, regions, load.grounds, strict=True):
            calibration = Calibration(self, ground.info_topic or camera_info_topic(topic.name))
            transforms = self._listen_to_transforms(ground)
            camera = Camera(
                CameraStream(topic),
                Outputs(self, topic.outputs, calibration),
                Refiner(region),
                calibration,
                CameraGround(self, topic.name, ground, calibration, transforms),
            )
            self._cameras += (camera,)
        self._detector = detector
        self._diagnostics.watch(detector, load.queries_file, self._cameras)
        memory.settle()
        network = detector.network
        self.get_logger().info(
            f'checkpoint {network.name} (sha256 {network.sha256:.12}) on {network.device}, '
            f'{network.precision}, {network.num_queries} queries, '
            f'backend {backend_in_words(network)}'
        )
        if missing := self._cameras[0].outputs.missing:
            listing = ', '.join(f'{name} ({package})' for name, package in missing.items())
            self.get_logger().info(f'not published, for want of message packages: {listing}')

    def _listen_to_transforms(self, ground: GroundSettings) -> Transforms | None:
        """Return what knows where a camera is; None where nobody has to be asked, or can be."""
        from maskomaly_ros.node.transforms import Transforms

        if ground.mounting is None and self._transforms is None:
            try:
                self._transforms = Transforms(self)
            except MaskomalyError as error:
                self.get_logger().debug(str(error))
        return self._transforms if ground.mounting is None else None

    def _activate(self) -> None:
        from maskomaly_ros.node.worker import Worker

        assert self._detector is not None, 'the state machine configures first'
        worker = Worker(
            self, self._detector, self._cameras, lambda: self._settings.live, self._lose_device
        )
        worker.start()
        self._worker = worker
        self._diagnostics.worker = lambda: worker.state
        self._subscribe(worker)
        names = ', '.join(stream.topic.name for stream in self.streams)
        self.get_logger().info(f'active; waiting for frames of {names}')

    def _release(self, problem: str = '') -> None:
        self._bond.end()
        self.stop_working()
        self._diagnostics.forget()
        self._diagnostics.problem = problem
        self._settings.detach()
        for camera in self._cameras:
            camera.outputs.destroy()
        self._cameras = ()
        if self._transforms is not None:
            self._transforms.close()
        self._transforms = None
        self._detector = None
        memory.give_back()

    def _subscribe(self, worker: Worker) -> None:
        def receive(stream: CameraStream, serialized: bytes) -> None:
            stream.offer(serialized, clock.now().nanoseconds)
            worker.wake()

        clock = self.get_clock()
        for camera in self._cameras:
            camera.start()
        self._camera_subscriptions = [
            self.create_subscription(
                CompressedImage if stream.topic.is_compressed else Image,
                stream.topic.name,
                partial(receive, stream),
                # Only the newest matters, and a lost one is not worth waiting for.
                QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
                raw=True,  # a frame that is replaced need not be deserialized
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
            for stream in self.streams
        ]

    def _lose_device(self, reason: str) -> None:
        """Leave it to the executor's thread to process an error of the device."""
        self._problem = f'the device is lost: {reason}'
        self._device_is_lost.trigger()

    def _recover(self) -> None:
        """Go through error processing; then, where the node starts itself, start again."""
        if not self._problem or self.phase != 'active':
            return
        self.trigger_deactivate()
        if self.get_parameter('autostart').value and not self.autostart():
            raise MaskomalyError('the device is lost and does not come back; see above')

    async def _change_state_if_possible(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        """Refuse a transition that the state does not have; rclpy of Jazzy lets that error out."""
        transition = request.transition
        try:
            if self._is_configuring:
                raise RuntimeError('the node is being configured')
            if transition.label == 'configure' or transition.id == transition.TRANSITION_CONFIGURE:
                return await self._in_thread(lambda: self._change_state(request, response))
            return self._change_state(request, response)
        except RuntimeError as error:
            self.get_logger().error(f'transition {transition.id} refused: {error}')
            response.success = False
            return response

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        """Do what takes long, while the executor goes on."""
        future = Future(executor=self.executor)

        def run() -> None:
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)
            executor = self.executor
            if executor is not None:  # it looks after the future when it wakes
                executor.wake()

        # Daemons: a network that loads cannot be interrupted, and the process may have to end.
        threading.Thread(target=run, name='maskomaly configuring', daemon=True).start()
        result: _Result = await future
        return result


_Result = TypeVar('_Result')


def _warm_up(detector: Detector, load: LoadSettings, cameras: int) -> None:
    """Find out whether the network runs at all, and let it compile, allocate and tune."""
    # As many frames share a batch as cameras have one waiting; a CPU has nothing to tune for that.
    tuned = load.compile or detector.network.device.type != 'cpu'
    for batch in range(1, cameras + 1) if tuned else (1,):
        detector.warm_up(load.frame_size, batch)


def load_from_checkpoint(load: LoadSettings) -> Detector:
    """Load what parameters name; stand-ins of tests and benchmarks take its place."""
    from maskomaly_ros.parameters import load_detector

    return load_detector(load, export_wait=0.0)  # a camera does not wait either


class RosLogHandler(logging.Handler):
    """Passes what the library logs on to the log of the node."""

    def __init__(self, node: LifecycleNode) -> None:
        super().__init__()
        self._ros = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on."""
        # rclpy ties a severity to a line of code, so there must be one line for each.
        message = self.format(record)
        if record.levelno >= logging.ERROR:
            self._ros.error(message)
        elif record.levelno >= logging.WARNING:
            self._ros.warning(message)
        elif record.levelno >= logging.INFO:
            self._ros.info(message)
        else:
            self._ros.debug(message)


class _Stopped(Exception):  # noqa: N818
    """Raised in the executor to end its spinning."""


class _NodeThread(threading.Thread):
    """Makes the node, starts it and spins it, so that the main thread is free for signals.

    Attributes:
        status: exit status for the process.

    """

    def __init__(self, on_end: Callable[[], None]) -> None:
        super().__init__(name='maskomaly node', daemon=True)
        self.status = 0
        self._on_end = on_end
        self._executor = SingleThreadedExecutor()
        self._node: MaskomalyNode | None = None

    def run(self) -> None:
        try:
            self._serve()
        except _Stopped:
            pass
        except MaskomalyError as error:
            rclpy.logging.get_logger('maskomaly').fatal(str(error))
            self.status = 1
        except Exception:
            rclpy.logging.get_logger('maskomaly').fatal(traceback.format_exc())
            self.status = 1
        finally:
            self._on_end()

    def stop(self, timeout: float) -> bool:
        """Stop spinning and working; return whether both ended within timeout seconds."""
        end = time.monotonic() + timeout
        self._executor.create_task(_raise_stopped)
        self.join(timeout)
        if self.is_alive():
            return False
        if self._node is not None:
            if self._node.phase == 'configuring':
                return False
            if not self._node.stop_working(max(0.0, end - time.monotonic())):
                return False
            self._node.destroy_node()
        self._executor.shutdown()
        return True

    def _serve(self) -> None:
        node = self._node = MaskomalyNode()
        library = logging.getLogger('maskomaly_ros')
        library.addHandler(RosLogHandler(node))
        library.setLevel(logging.DEBUG)
        library.propagate = False
        self._executor.add_node(node)
        threading.Thread(target=self._autostart, name='maskomaly configuring', daemon=True).start()
        self._executor.spin()

    def _autostart(self) -> None:
        """Configure while the executor serves others; the rest is the executor's."""
        assert self._node is not None, 'it has just been made'
        is_configured = self._node.autoconfigure()
        self._executor.create_task(self._autoactivate, is_configured)

    def _autoactivate(self, is_configured: bool) -> None:
        assert self._node is not None, 'it has been configured'
        if not is_configured or not self._node.autoactivate():
            raise MaskomalyError('autostart failed; see above')


def _raise_stopped() -> None:
    raise _Stopped


def main(args: list[str] | None = None) -> NoReturn:
    """Run the node until SIGINT or SIGTERM, and end the process.

    Its exit status is 0 after a signal, 1 where the node could not be made or started.
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        check_arguments(sys.argv if args is None else args)
        # Signals are ours: rclpy would end the context at once, under the feet of the worker.
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # a parameter file that is no YAML, or other bad arguments
        raise SystemExit(f'maskomaly_node: {error}') from None
    thread = _NodeThread(ended.set)
    thread.start()
    ended.wait()
    if thread.stop(timeout=1.5):
        rclpy.try_shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # A network that is loading or busy cannot be interrupted, and Python would wait for it. Else
    # Python would still take itself apart, object by object, for 1.7 s of processor time: more
    # than the 5 s on a busy machine after which launch kills.
    os._exit(thread.status)
