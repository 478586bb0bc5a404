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

"""Tests of maskomaly_ros.node.camera: names on the wire, and the account of frames."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

pytest.importorskip('rclpy')

import rclpy
from rclpy.node import Node

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.node.camera import CameraStream, CameraTopic, resolve_camera_topics


@pytest.fixture
def context() -> Iterator[Any]:
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    context.shutdown()


def make_node(context: Any, *arguments: str) -> Node:
    return rclpy.create_node('names', context=context, cli_args=['--ros-args', *arguments])


@pytest.mark.parametrize(
    ('arguments', 'topic', 'name', 'outputs'),
    [
        ([], '/front/image_raw', '/front/image_raw', '/front/anomaly'),
        ([], '/front/image_raw/compressed', '/front/image_raw/compressed', '/front/anomaly'),
        ([], '/a/b/c/image', '/a/b/c/image', '/a/b/c/anomaly'),
        ([], 'image', '/image', '/anomaly'),
        (['-r', '__ns:=/robot'], 'image', '/robot/image', '/robot/anomaly'),
        (['-r', '__ns:=/robot'], 'front/image', '/robot/front/image', '/robot/front/anomaly'),
        (['-r', '__ns:=/robot'], '/image', '/image', '/anomaly'),
        (['-r', '__ns:=/robot'], '~/image', '/robot/names/image', '/robot/names/anomaly'),
        (['-r', 'image:=/rear/picture'], 'image', '/rear/picture', '/rear/anomaly'),
        (['-r', '/image:=/rear/compressed'], '/image', '/rear/compressed', '/anomaly'),
    ],
)
def test_names_are_resolved_as_ros_does(
    context: Any, arguments: list[str], topic: str, name: str, outputs: str
) -> None:
    node = make_node(context, *arguments)
    is_compressed = name.endswith('/compressed')
    expected = (CameraTopic(name, is_compressed, outputs),)
    assert resolve_camera_topics(node, [topic]) == expected
    node.destroy_node()


@pytest.mark.parametrize(
    ('topics', 'words'),
    [
        ([], ['camera_topics is empty']),
        ([''], ["''"]),
        (['a b'], ["'a b'"]),
        (['/image', '/a//b'], ["'/a//b'"]),
        (['/front/left', '/front/right'], ['/front/left', '/front/right', '/front/anomaly']),
        (['/front/image', '/front/image/compressed'], ['/front/image and', '/compressed would']),
        (['/image', 'image'], ['/image and /image']),
    ],
)
def test_topics_that_cannot_be_served_are_named(
    context: Any, topics: list[str], words: list[str]
) -> None:
    node = make_node(context)
    with pytest.raises(MaskomalyError) as refused:
        resolve_camera_topics(node, topics)
    for word in words:
        assert word in str(refused.value)
    node.destroy_node()


def test_the_newest_frame_waits() -> None:
    stream = CameraStream(CameraTopic('/image', False, '/anomaly'))
    assert stream.take() is None
    assert stream.observe().age is None
    for frame in (b'1', b'2', b'3'):
        stream.offer(frame)
    assert stream.take() == b'3'
    assert stream.take() is None
    assert stream.observe().age is not None
    stream.mark_processed(0.25)
    stream.offer(b'4')
    assert stream.take() == b'4'
    stream.mark_bad('torn')
    assert stream.observe().rejected == 'torn'
    counts = stream.counts
    assert (counts.received, counts.replaced, counts.processed, counts.bad) == (4, 2, 1, 1)
    assert stream.observe().latencies == (0.25,)
    stream.restart()
    assert stream.observe().latencies == ()
    assert stream.counts == counts


def test_every_frame_is_accounted_for_between_threads() -> None:
    stream = CameraStream(CameraTopic('/image', False, '/anomaly'))
    offered = 3000
    ended = threading.Event()

    def offer() -> None:
        for number in range(offered):
            stream.offer(b'%d' % number)
        ended.set()

    producer = threading.Thread(target=offer)
    producer.start()
    marks = [
        lambda: stream.mark_processed(0.0),
        lambda: stream.mark_bad(''),
        lambda: stream.mark_failed(''),
        lambda: stream.mark_stale(1.0),
        stream.mark_frozen,
        stream.mark_unwanted,
    ]
    taken: list[int] = []
    while True:
        was_ended = ended.is_set()
        frame = stream.take()
        if frame is not None:
            taken.append(int(frame))
            random.choice(marks)()
        elif was_ended:
            break
    producer.join()
    counts = stream.counts
    assert taken == sorted(set(taken))
    assert taken[-1] == offered - 1
    assert counts.received == offered
    assert counts.replaced == offered - len(taken)
    assert sum(asdict(counts).values()) == 2 * offered, 'received, and what became of each'
