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

"""The lifecycle node `maskomaly_event_recorder`: topics in and services, around `EventRecorder`.

Messages are subscribed to serialized and stay so; the executor's thread hands them over.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import rclpy
import rclpy.logging
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from std_srvs.srv import Trigger as TriggerService

from maskomaly_ros.drives.qos import recorded_qos
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.interfaces import COMPRESSED, IMAGE
from maskomaly_ros.node.bond import Bond
from maskomaly_ros.node.camera import resolve_camera_topics
from maskomaly_ros.node.declaring import descriptor, parameter_type, type_empty_lists
from maskomaly_ros.node.maskomaly_node import RosLogHandler
from maskomaly_ros.node.messages import message_class
from maskomaly_ros.parameter_files import check_arguments
from maskomaly_ros.recorder import decoding
from maskomaly_ros.recorder.catalogue import Catalogue
from maskomaly_ros.recorder.diagnostics import Diagnostics
from maskomaly_ros.recorder.novelty import Embed, Novelty
from maskomaly_ros.recorder.recorder import EventRecorder, State
from maskomaly_ros.recorder.settings import NODE_NAME, TABLE, Settings, check, settings_of
from maskomaly_ros.recorder.triggers import SERVICE, TOPIC, load_condition
from maskomaly_ros.recorder.writing import Topic

_SEARCH_SECONDS = 0.5
# Messages that wait for us: large ones take memory of the middleware.
_DEPTH_OF_IMAGES, _DEPTH = 10, 100
_IMAGES = (IMAGE, COMPRESSED)
_BUTTONS = (decoding.BOOL, decoding.EMPTY)
_STOP_SECONDS = 3.0


def load_embed() -> Embed:
    """Return what makes embeddings of pictures: the backbone of the bundled checkpoint."""
    from maskomaly_ros.networks.embedding import load_embedding

    return load_embedding()


class EventRecorderNode(LifecycleNode):
    """Records what comes before and after an event.

    Topics are looked for while it is active, and subscribed to as their publishers offer them.

    Args:
        load_embed: returns what makes embeddings, when the node is configured with a
            `novelty_threshold`.
        options: of `rclpy.node.Node`.

    Raises:
        MaskomalyError: a parameter that the node was started with is wrong.

    """

    def __init__(self, *, load_embed: Callable[[], Embed] = load_embed, **options: Any) -> None:
        super().__init__(NODE_NAME, **options)
        self._load_embed = load_embed
        self._declare_parameters()
        self._recorder: EventRecorder | None = None
        self._catalogue: Catalogue | None = None
        self._is_active = self._is_finalized = False
        self._subscriptions_by_topic: dict[str, tuple[Any, Subscription]] = {}
        self._pressed: dict[str, bool] = {}
        self._not_recorded: dict[str, str] = {}
        self._diagnostics = Diagnostics(
            self, lambda: self.phase, self._state, lambda: self._not_recorded
        )
        self._bond = Bond(self)
        self._service = self.create_service(TriggerService, '~/record', self._record)
        self._search: Any = None
        change_state = self._service_change_state.callback
        self._service_change_state.callback = partial(self._change_state, change_state)

    @property
    def phase(self) -> str:
        """State of the lifecycle."""
        if self._is_finalized:
            return 'finalized'
        if self._recorder is None:
            return 'unconfigured'
        return 'active' if self._is_active else 'inactive'

    @property
    def recorder(self) -> EventRecorder | None:
        """The recorder of the configured node."""
        return self._recorder

    @property
    def recorded(self) -> frozenset[str]:
        """Topics that are subscribed to."""
        return frozenset(self._subscriptions_by_topic)

    def autostart(self) -> bool:
        """Configure and activate where the parameter `autostart` says so.

        Returns:
            False if that failed.

        """
        if not self.get_parameter('autostart').value:
            self.get_logger().info('autostart is off; waiting to be configured')
            return True
        return all(
            transition() == TransitionCallbackReturn.SUCCESS
            for transition in (self.trigger_configure, self.trigger_activate)
        )

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take hold of the folder, and prepare the memory."""
        try:
            self._configure(self._settings({}))
        except MaskomalyError as error:
            problem = f'cannot configure: {error}'
            self.get_logger().error(problem)
        except Exception as error:  # a library's; where it came from is all there is to say
            problem = f'cannot configure: {error!r}'
            self.get_logger().error(f'cannot configure:\n{traceback.format_exc()}')
        else:
            self._diagnostics.problem = ''
            return super().on_configure(state)
        self._release()
        self._diagnostics.problem = problem
        return TransitionCallbackReturn.FAILURE

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to what is there, and to what comes."""
        assert self._recorder is not None, 'the state machine configures first'
        self._recorder.start()
        self._is_active = True
        if not self.get_parameter('autostart').value:
            self._bond.form()
        self._search = self.create_timer(
            _SEARCH_SECONDS, self._look_for_topics, clock=self._diagnostics.clock
        )
        self._look_for_topics()
        self.get_logger().info(f'active; recording to {self._settings({}).folder}')
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Complete the recording that is under way, and forget the last seconds."""
        self._bond.end()
        settings = self._settings({})
        self.stop_working()
        try:  # the next seconds are not those after these
            self._recorder = self._new_recorder(settings)
        except MaskomalyError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.ERROR
        self.get_logger().info('inactive: deactivated')
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the folder."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and let go of everything."""
        self._release()
        self._is_finalized = True
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything, so that the node can be configured again."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def stop_working(self, timeout: float | None = None) -> bool:
        """Unsubscribe, and complete the recording that is under way.

        Args:
            timeout: seconds to wait for the disk; None waits as long as it takes.

        Returns:
            Whether it is complete.

        """
        self._is_active = False
        if self._search is not None:
            self.destroy_timer(self._search)
        self._search = None
        for _, subscription in self._subscriptions_by_topic.values():
            self.destroy_subscription(subscription)
        self._subscriptions_by_topic = {}
        self._not_recorded = {}
        return self._recorder is None or self._recorder.stop(timeout)

    # --- set-up --------------------------------------------------------------------------------

    def _declare_parameters(self) -> None:
        given = self._parameter_overrides
        check({name: parameter.value for name, parameter in given.items()})
        for name, row in TABLE.items():
            default = row.default if row.default != [] else parameter_type(row)
            try:
                self.declare_parameter(name, default, descriptor(row))
            except Exception as error:  # of several kinds, and not all of one family
                raise MaskomalyError(str(error)) from error
        self._settings({})
        self.add_pre_set_parameters_callback(
            lambda parameters: type_empty_lists(parameters, TABLE)
        )
        self.add_on_set_parameters_callback(self._check_changes)

    def _settings(self, changes: dict[str, Any]) -> Settings:
        values = {name: self.get_parameter_or(name).value for name in TABLE} | changes
        values = {n: TABLE[n].default if v is None else v for n, v in values.items()}
        check(values)
        cameras = resolve_camera_topics(self, values['camera_topics'])
        buttons = [self.resolve_topic_name(topic) for topic in values['trigger_topics'] or ()]
        return settings_of(values, [camera.name for camera in cameras], buttons)

    def _check_changes(self, parameters: list[Parameter]) -> SetParametersResult:
        changes = {p.name: p.value for p in parameters if p.name in TABLE}
        try:
            if self._recorder is not None and changes:
                raise MaskomalyError(
                    f'{", ".join(changes)} cannot change while the node is configured: '
                    'deactivate and clean it up first'
                )
            self._settings(changes)
        except (ValueError, TypeError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _configure(self, settings: Settings) -> None:
        catalogue = Catalogue(settings.folder)
        catalogue.prepare()
        self._catalogue = catalogue
        self._novelty = Novelty(self._load_embed()) if settings.novelty_threshold else None
        self._condition = load_condition(settings.condition) if settings.condition else None
        self._recorder = self._new_recorder(settings)

    def _new_recorder(self, settings: Settings) -> EventRecorder:
        assert self._catalogue is not None, 'it has been prepared'
        if settings.obstacle_source == 'auto':
            has_type = message_class(decoding.OBSTACLES) is not None
            source = 'obstacles' if has_type else 'mask'
            values = {'obstacle_source': source}
            self.get_logger().info(f'obstacles are read from {source}')
            settings = self._settings(values)
        return EventRecorder(settings, self._catalogue, self._novelty, self._condition)

    def _release(self) -> None:
        self._bond.end()
        self.stop_working()
        self._recorder = None
        if self._catalogue is not None:
            self._catalogue.let_go()
        self._catalogue = None

    # --- topics --------------------------------------------------------------------------------

    def _look_for_topics(self) -> None:
        """Subscribe to what is published and wanted, as its publishers offer it."""
        recorder = self._recorder
        if recorder is None or not self._is_active:
            return
        settings = self._settings({})
        for name, kinds in self.get_topic_names_and_types():
            is_button = name in settings.trigger_topics and kinds[0] in _BUTTONS
            if not (is_button or settings.records(name, kinds[0])):
                continue
            if len(kinds) > 1:
                self._refuse(name, f'it has several types: {", ".join(kinds)}')
                continue
            publishers = self.get_publishers_info_by_topic(name)
            if not publishers:
                continue
            offered = tuple(sorted({_offered(each.qos_profile) for each in publishers}))
            known = self._subscriptions_by_topic.get(name)
            if known is not None and known[0] == offered:
                continue
            if known is not None:
                self.destroy_subscription(known[1])
                del self._subscriptions_by_topic[name]
            self._subscribe(recorder, name, kinds[0], offered, is_button=is_button)

    def _subscribe(
        self,
        recorder: EventRecorder,
        name: str,
        msgtype: str,
        offered: tuple[Any, ...],
        *,
        is_button: bool,
    ) -> None:
        kind = message_class(msgtype)
        if kind is None:
            self._refuse(name, f'{msgtype} is not installed')
            return
        is_latched = all(each[1] == DurabilityPolicy.TRANSIENT_LOCAL for each in offered)
        try:
            recorder.know(
                Topic(name, msgtype, tuple(recorded_qos(*each) for each in offered), is_latched)
            )
        except MaskomalyError as error:
            self._refuse(name, str(error))
            return
        is_reliable = all(each[0] == ReliabilityPolicy.RELIABLE for each in offered)
        profile = QoSProfile(
            depth=_DEPTH_OF_IMAGES if msgtype in _IMAGES else _DEPTH,
            reliability=ReliabilityPolicy.RELIABLE
            if is_reliable
            else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL
            if is_latched
            else DurabilityPolicy.VOLATILE,
        )
        press = partial(self._press, name, msgtype) if is_button else None
        subscription = self.create_subscription(
            kind, name, partial(self._receive, recorder, name, press), profile, raw=True
        )
        self._subscriptions_by_topic[name] = offered, subscription
        self._not_recorded.pop(name, None)

    def _refuse(self, name: str, reason: str) -> None:
        if self._not_recorded.get(name) != reason:
            self.get_logger().warning(f'{name} is not recorded: {reason}')
        self._not_recorded[name] = reason

    def _receive(
        self,
        recorder: EventRecorder,
        topic: str,
        press: Callable[[bytes, int], None] | None,
        data: bytes,
    ) -> None:
        received_ns = self.get_clock().now().nanoseconds
        recorder.receive(topic, data, received_ns)
        if press is not None:
            press(data, received_ns)

    def _press(self, topic: str, msgtype: str, data: bytes, received_ns: int) -> None:
        """Record where a button is pressed; one that stays pressed counts once."""
        try:
            is_down = msgtype == decoding.EMPTY or decoding.decode_bool(data)
        except MaskomalyError as error:
            self.get_logger().warning(f'{topic}: {error}')
            return
        was_down, self._pressed[topic] = self._pressed.get(topic, False), is_down
        if is_down and (not was_down or msgtype == decoding.EMPTY) and self._recorder is not None:
            self._recorder.fire(TOPIC, topic, received_ns)

    def _record(
        self, request: TriggerService.Request, response: TriggerService.Response
    ) -> TriggerService.Response:
        response.success = self._is_active and self._recorder is not None
        if self._recorder is None or not response.success:
            response.message = f'the node is {self.phase}; activate it first'
            return response
        self._recorder.fire(SERVICE, 'asked for', self.get_clock().now().nanoseconds)
        response.message = f'recording to {self._settings({}).folder}'
        return response

    def _state(self) -> tuple[State, Catalogue] | None:
        if self._recorder is None or self._catalogue is None:
            return None
        return self._recorder.state, self._catalogue

    def _change_state(self, change: Callable[..., Any], request: Any, response: Any) -> Any:
        """Refuse a transition that the state does not have; rclpy of Jazzy lets that error out."""
        try:
            return change(request, response)
        except RuntimeError as error:
            self.get_logger().error(f'transition {request.transition.id} refused: {error}')
            response.success = False
            return response


_Offered = tuple[int, int, int, int]


def _offered(profile: QoSProfile) -> _Offered:
    """Return of a QoS what recordings and subscriptions depend on."""
    return (
        int(profile.reliability),
        int(profile.durability),
        int(profile.history),
        int(profile.depth),
    )


def main(args: list[str] | None = None) -> NoReturn:
    """Run the node until SIGINT or SIGTERM, complete what is under way, and end the process.

    Its exit status is 0 after a signal, 1 where the node could not be made or started.
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        check_arguments(sys.argv if args is None else args, NODE_NAME)
        # Signals are ours: rclpy would end the context under the feet of the recorder.
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # a parameter file that is no YAML, or other bad arguments
        raise SystemExit(f'{NODE_NAME}: {error}') from None
    status = _run(ended)
    rclpy.try_shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # Python would take torch apart, object by object


def _run(ended: threading.Event) -> int:
    log = rclpy.logging.get_logger(NODE_NAME)
    try:
        node = EventRecorderNode()
        library = logging.getLogger('maskomaly_ros')
        library.addHandler(RosLogHandler(node))
        library.setLevel(logging.INFO)
        library.propagate = False
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        if not node.autostart():
            raise MaskomalyError('autostart failed; see above')
        while not ended.is_set():
            executor.spin_once(timeout_sec=0.1)
        if not node.stop_working(_STOP_SECONDS):
            log.warning('the disk is too slow: what is under way is completed at the next start')
        node.destroy_node()
        executor.shutdown()
    except MaskomalyError as error:
        log.fatal(str(error))
        return 1
    except Exception:
        log.fatal(traceback.format_exc())
        return 1
    return 0


if __name__ == '__main__':
    main()
