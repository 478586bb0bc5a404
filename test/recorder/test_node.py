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

"""The recorder as a node: real topics over DDS, services, lifecycle, parameters, policy."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy')
pytest.importorskip('std_srvs', reason='std_srvs: pip install ros-std-srvs')

from recorder_fixtures import read_bag

from maskomaly_ros.recorder.catalogue import Catalogue
from maskomaly_ros.recorder.settings import TABLE
from maskomaly_ros.rig.processes import free_domain
from maskomaly_ros.share import share_directory

FRONT = '/front/image_raw'
FILE = share_directory() / 'config' / 'event_recorder.yaml'


@pytest.fixture
def domain() -> int:
    """Return a domain of its own: /diagnostics and /tf of others would be recorded."""
    return free_domain()


@pytest.fixture
def recorder(ros: Any, tmp_path: Path) -> Callable[..., Any]:
    """Make the node under test; options are parameters."""
    from rclpy.parameter import Parameter

    from maskomaly_ros.recorder.node import EventRecorderNode

    def make(*, start: bool = True, arguments: tuple[str, ...] = (), **values: Any) -> Any:
        parameters = {
            'folder': str(tmp_path / 'events'),
            'camera_topics': [FRONT],
            'pre_roll': 5.0,
            'post_roll': 0.3,
            'max_length': 20.0,
            'keep_free': 0,
            'novelty_threshold': 0.0,
            **values,
        }
        node = EventRecorderNode(
            context=ros.context,
            cli_args=['--ros-args', *arguments] if arguments else None,
            parameter_overrides=[Parameter(n, value=v) for n, v in parameters.items()],
        )
        ros.nodes.append(node)
        ros.executor.add_node(node)
        if start:
            assert node.autostart()
        return node

    return make


def whole(tmp_path: Path) -> list[Any]:
    found: list[Any] = Catalogue(tmp_path / 'events').recordings()
    return found


def record(ros: Any, node: Any) -> Any:
    from std_srvs.srv import Trigger

    return ros.call(Trigger, '/maskomaly_event_recorder/record', Trigger.Request())


def test_a_service_call_records_what_came_before_and_after(
    ros: Any, recorder: Any, tmp_path: Path
) -> None:
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import Image
    from std_msgs.msg import String

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    robot = ros.node.create_publisher(String, '/robot_description', latched)
    robot.publish(String(data='a robot'))
    node = recorder(types=['std_msgs/msg/String'], exclude=['/secret*'])
    camera = ros.camera(FRONT)
    said = ros.node.create_publisher(String, '/said', 10)
    secret = ros.node.create_publisher(String, '/secret/key', 10)
    ros.spin_until(said.get_subscription_count, '/said is subscribed to')
    ros.spin_until(lambda: node.recorder.state.counts.received, 'what is latched')
    assert not secret.get_subscription_count()
    assert node.recorded >= {FRONT, '/said', '/robot_description'}
    frames = [ros.image(stamp=i + 1) for i in range(5)]
    for number, frame in enumerate(frames):
        camera.publish(frame)
        said.publish(String(data=str(number)))
    ros.spin_until(lambda: node.recorder.state.counts.received >= 11, 'all messages')
    answer = record(ros, node)
    assert (answer.success, answer.message) == (True, f'recording to {tmp_path / "events"}')
    ros.spin_until(lambda: whole(tmp_path), 'the recording is whole')
    (recording,) = whole(tmp_path)
    folder = tmp_path / 'events' / recording.name
    written = read_bag(folder)
    data = [deserialize_message(d, Image) for topic, _, d in written if topic == FRONT]
    assert data == frames
    assert [t for t, _, _ in written].count('/said') == 5
    assert [t for t, _, _ in written].count('/robot_description') == 1
    information = yaml.safe_load((folder / 'metadata.yaml').read_text())
    qos = {
        t['topic_metadata']['name']: t['topic_metadata']['offered_qos_profiles']
        for t in information['rosbag2_bagfile_information']['topics_with_message_count']
    }
    assert qos['/robot_description'][0]['durability'] == 'transient_local'
    assert qos['/said'][0]['reliability'] == 'reliable'
    assert qos[FRONT][0]['reliability'] == 'best_effort'
    counts = node.recorder.state.counts
    assert counts.received == counts.kept + counts.dropped
    assert counts.dropped == 0


def test_what_the_node_finds_is_recorded(ros: Any, recorder: Any, tmp_path: Path) -> None:
    """Our node finds something red; the recorder writes it, with what says so."""
    ros.maskomaly(FRONT)
    node = recorder(obstacle_source='mask', minimum_seconds=[0.2])
    camera = ros.camera(FRONT)
    ros.spin_until(lambda: {FRONT, '/front/anomaly/heatmap'} <= node.recorded, 'topics')
    for name in ('mask', 'heatmap'):
        ros.spin_until(lambda n=name: ros.node.count_subscribers(f'/front/anomaly/{n}'), name)
    ros.spin_until(lambda: node.recorder.observer.facts, 'what the node runs, from /diagnostics')
    stamps = itertools.count(10**8, 10**8)
    heard, heard_at = 0, 0.0

    def is_whole() -> bool:
        """Send a frame when the last one was seen through; sent faster, queues overflow."""
        nonlocal heard, heard_at
        now = time.monotonic()
        if node.recorder.state.counts.received >= heard + 3 or now > heard_at + 1:
            heard, heard_at = node.recorder.state.counts.received, now
            camera.publish(ros.image(stamp=next(stamps)))
        return bool(whole(tmp_path))

    ros.spin_until(is_whole, 'the recording is whole')
    (recording,) = whole(tmp_path)
    assert recording.events[0].camera == FRONT
    assert recording.events[0].box == (10, 8, 6, 4)
    assert recording.checkpoint_sha256 == 'f' * 64
    assert (tmp_path / 'events' / recording.name / 'event.jpg').is_file()
    assert {FRONT, '/front/anomaly/mask', '/diagnostics'} <= set(recording.messages)


@pytest.mark.parametrize('kind', ['Bool', 'Empty'])
def test_a_button_records(ros: Any, recorder: Any, tmp_path: Path, kind: str) -> None:
    import std_msgs.msg

    node = recorder(trigger_topics=['/button'])
    message_type = getattr(std_msgs.msg, kind)
    button = ros.node.create_publisher(message_type, '/button', 10)
    ros.spin_until(button.get_subscription_count, '/button is subscribed to')
    if kind == 'Bool':
        for _ in range(3):
            button.publish(message_type(data=False))
        ros.spin_until(lambda: node.recorder.state.counts.received >= 3, 'nothing is pressed')
        assert not node.recorder.state.is_recording
        button.publish(message_type(data=True))
        button.publish(message_type(data=True))  # it stays pressed
    else:
        button.publish(message_type())
    ros.spin_until(lambda: whole(tmp_path), 'the recording is whole')
    (recording,) = whole(tmp_path)
    assert [(c.kind, c.reason) for c in recording.causes] == [('topic', '/button')]


def test_lifecycle_and_parameters(ros: Any, recorder: Any, tmp_path: Path) -> None:
    from rclpy.parameter import Parameter

    node = recorder(start=False, autostart=False)
    assert node.autostart()
    assert node.phase == 'unconfigured'
    assert record(ros, node).message == 'the node is unconfigured; activate it first'
    node.trigger_configure()
    assert node.phase == 'inactive'
    (refused,) = node.set_parameters([Parameter('pre_roll', value=1.0)])
    assert 'cannot change while the node is configured' in refused.reason
    node.trigger_activate()
    assert record(ros, node).success
    node.trigger_deactivate()  # completes it
    assert len(whole(tmp_path)) == 1
    node.trigger_activate()
    assert node.phase == 'active'
    node.trigger_deactivate()
    node.trigger_cleanup()
    assert node.phase == 'unconfigured'
    assert node.set_parameters([Parameter('pre_roll', value=1.0)])[0].successful
    (refused,) = node.set_parameters([Parameter('max_length', value=1.0)])
    assert 'max_length 1.0 is below pre_roll' in refused.reason


def test_a_folder_that_cannot_be_used_is_named(ros: Any, recorder: Any, tmp_path: Path) -> None:
    (tmp_path / 'events').write_text('no folder')
    node = recorder(start=False)
    assert not node.autostart()
    assert node.phase == 'unconfigured'
    assert 'cannot write to' in node._diagnostics.problem


def test_one_recorder_a_folder(ros: Any, recorder: Any) -> None:
    recorder()
    other = recorder(start=False, arguments=('-r', '__node:=other'))
    assert not other.autostart()
    assert 'is in use by' in other._diagnostics.problem


def test_diagnostics_say_how_it_is(ros: Any, recorder: Any) -> None:
    from diagnostic_msgs.msg import DiagnosticArray

    recorder()
    listener = ros.listen('/diagnostics', DiagnosticArray)

    def status() -> dict[str, str]:
        found = [s for m in listener.messages for s in m.status]
        own = [s for s in found if s.name == 'maskomaly_event_recorder: recorder']
        return {v.key: v.value for v in own[-1].values} if own else {}

    ros.spin_until(lambda: status().get('state') == 'active', 'it is active')
    assert status()['problem'] == 'none'
    assert set(status()) >= {'received', 'kept', 'dropped', 'lost to a slow disk', 'free (MB)'}


def test_wrong_parameters_are_refused(recorder: Any) -> None:
    from maskomaly_ros.errors import MaskomalyError

    with pytest.raises(MaskomalyError, match=r'max_length 20\.0 is below pre_roll 30\.0'):
        recorder(start=False, pre_roll=30.0)
    with pytest.raises(MaskomalyError, match=r"condition 'os\.system' is wrong"):
        recorder(start=False, condition='os.system')
    with pytest.raises(MaskomalyError, match='what stands in braces must be one of'):
        recorder(start=False, topics=['{cameras}'])


def test_the_file_has_every_parameter_and_its_default() -> None:
    written = yaml.safe_load(FILE.read_text())['/**']['ros__parameters']
    assert written == {name: row.default for name, row in TABLE.items()}


@pytest.fixture
def policy() -> ElementTree.Element:
    root = ElementTree.parse(share_directory() / 'config' / 'sros2' / 'event_recorder.xml')
    (profile,) = root.getroot().findall('enclaves/enclave/profiles/profile')
    return profile


def test_policy_is_what_a_running_node_has(
    ros: Any, recorder: Any, policy: ElementTree.Element
) -> None:
    from maskomaly_ros.recorder.settings import settings_of

    recorder(camera_topics=['/camera/image_raw'])
    name = 'maskomaly_event_recorder'

    def allowed(kind: str, use: str) -> set[str]:
        rules = policy.findall(f'{kind}s[@{use}="ALLOW"]')
        return {(e.text or '').replace('~', f'/{name}', 1) for rule in rules for e in rule}

    def names(kind: str, entity: str) -> set[str]:
        find = getattr(ros.node, f'get_{entity}_names_and_types_by_node')
        try:
            return {found for found, _ in find(name, '/')}
        except Exception:  # not discovered yet
            return set()

    for kind, use, entity in (('topic', 'publish', 'publisher'), ('service', 'reply', 'service')):
        granted = allowed(kind, use) - {f'/{name}/get_type_description'}
        ros.spin_until(lambda k=kind, e=entity, g=granted: g <= names(k, e), f'all {entity}s')
        assert names(kind, entity) <= allowed(kind, use)
    defaults = {n: row.default for n, row in TABLE.items()}
    assert allowed('topic', 'subscribe') == set(settings_of(defaults).topics)


def test_the_process_completes_what_is_under_way_when_it_is_stopped(
    ros: Any, run: Any, tmp_path: Path, domain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from std_srvs.srv import Trigger

    monkeypatch.setenv('ROS_DOMAIN_ID', str(domain))
    process = run(
        '-m', 'maskomaly_ros.recorder', '--ros-args', '-p', f'folder:={tmp_path / "events"}',
        '-p', 'novelty_threshold:=0.0', '-p', "camera_topics:=['/front/image_raw']",
        '-p', 'keep_free:=0',
    )  # fmt: skip
    process.wait_for('active; recording to')
    camera = ros.node.create_publisher(type(ros.image()), FRONT, 10)
    ros.spin_until(camera.get_subscription_count, 'it subscribes')
    camera.publish(ros.image(stamp=1, frame=np.zeros((8, 8, 3), np.uint8)))
    assert ros.call(Trigger, '/maskomaly_event_recorder/record', Trigger.Request()).success
    process.send(signal.SIGINT)
    assert process.status() == 0
    (recording,) = whole(tmp_path)
    assert recording.cut == 'the recorder was stopped'
    assert [topic for topic, _, _ in read_bag(tmp_path / 'events' / recording.name)]
