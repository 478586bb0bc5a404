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

"""What the log says where no frames come, or not all: real nodes, publishers and their QoS."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip('rclpy')

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from maskomaly_ros.node import watch


def why(node: Any) -> str:
    ((stream, subscription),) = node._watch._cameras()
    return watch.why_silent(node, stream.topic, subscription)


def test_a_wrong_topic_names_those_that_exist(
    ros: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    node = ros.maskomaly('/camera/image_raw')
    assert 'nobody publishes it, and there is no other image topic' in why(node)
    ros.node.create_publisher(Image, '/front/image_raw', 5)
    ros.node.create_publisher(Image, '/front/anomaly/mask', 5)
    ros.spin_until(lambda: 'Image topics that exist: /front/image_raw.' in why(node))

    monkeypatch.setattr(watch, 'PATIENCE', 0.0)
    capfd.readouterr()
    logged = ''

    def is_said() -> bool:
        nonlocal logged
        logged += capfd.readouterr().err
        return 'no frame of /camera/image_raw so far: nobody publishes it' in logged

    ros.spin_until(is_said, 'a warning by the timer')
    assert 'Set camera_topics, or remap' in logged
    node._watch.look()
    assert 'no frame' not in capfd.readouterr().err, 'not again so soon'


def test_a_topic_of_another_type_is_told(ros: Any) -> None:
    node = ros.maskomaly('/front/compressed')
    context = rclpy.Context()  # in one context a topic has one type
    rclpy.init(context=context)
    driver = rclpy.create_node('driver', context=context)
    try:
        driver.create_publisher(Image, '/front/compressed', 5)
        ros.spin_until(lambda: 'it carries sensor_msgs/msg/Image' in why(node))
        assert 'names that end in /compressed carry' in why(node)
    finally:
        driver.destroy_node()
        context.try_shutdown()


def test_quality_of_service_that_does_not_match_is_told(ros: Any) -> None:
    overrides = {'qos_overrides./front/image_raw.subscription.reliability': 'reliable'}
    node = ros.maskomaly(**overrides)
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    ros.node.create_publisher(Image, '/front/image_raw', qos)
    ros.spin_until(lambda: 'quality of service of /test_peer does not match' in why(node))


def test_a_frame_ends_the_warnings(ros: Any) -> None:
    node = ros.maskomaly()
    camera = ros.camera('/front/image_raw')
    ros.spin_until(lambda: 'either nothing is sent or nothing arrives' in why(node))
    camera.publish(ros.image(1))
    ros.spin_until(lambda: node.streams[0].silence is None)


def test_gaps_name_their_likely_cause(ros: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node = ros.maskomaly()
    ((stream, _),) = node._watch._cameras()
    for name in watch._PROFILES:
        monkeypatch.delenv(name, raising=False)
    assert 'too slow' in watch.why_gaps(node, stream.topic), 'nobody sends with best effort'
    ros.camera('/front/image_raw')
    ros.spin_until(lambda: 'Fast DDS is, as it comes' in watch.why_gaps(node, stream.topic))
    monkeypatch.setenv(watch._PROFILES[0], '/fastdds.xml')
    assert 'of the camera driver as well' in watch.why_gaps(node, stream.topic)
    said: list[str] = []
    monkeypatch.setattr(type(stream), 'missing', 0.25)
    monkeypatch.setattr(type(stream), 'silence', None)
    log = type('Log', (), {'warning': lambda self, text: said.append(text)})()
    monkeypatch.setattr(node, 'get_logger', lambda: log)
    node._watch.look()
    node._watch.look()
    (text,) = said
    assert text.startswith('about 25 % of the frames of /front/image_raw are missing')
