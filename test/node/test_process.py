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

"""Tests of the node as a process of its own: exit status, signals, a real network over DDS."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy')

from maskomaly_ros.queries import Queries, write_queries

NODE = ['-m', 'maskomaly_ros.node']
# The node, with a network that answers only the frame that warms it up.
BUSY = """
import sys, time, torch
from types import SimpleNamespace
from maskomaly_ros.detector import Detector
from maskomaly_ros.networks import InputSize, MaskPrediction
from maskomaly_ros.node import maskomaly_node

def predict(frames, calls=[]):
    calls.append(frames)
    if len(calls) > 1:
        print('predicting', flush=True)
        time.sleep(600)
    return MaskPrediction(torch.zeros(1, 1, 9, 16), torch.zeros(1, 1, 2), (360, 640), (9., 16.))

network = SimpleNamespace(
    name='busy', sha256='0' * 64, device=torch.device('cpu'), precision='float32', num_queries=1,
    input_size=InputSize(360, 640), predict=predict, warm_up=lambda frame_size, batch: None,
)
maskomaly_node.load_from_checkpoint = lambda settings: Detector(network)
maskomaly_node.main()
"""
LOADING = """
import sys, time
from maskomaly_ros.node import maskomaly_node

def load(settings):
    print('loading', flush=True)
    time.sleep(600)

maskomaly_node.load_from_checkpoint = load
maskomaly_node.main()
"""


def test_a_real_network_finds_the_same_in_another_process(
    ros: Any, run: Any, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    from maskomaly_ros.detector import Detector

    queries = tmp_path / 'queries.yaml'
    write_queries(
        queries, Queries(checkpoint='tiny', anomalous_queries=(1, 5), obstacle_threshold=0.5)
    )
    parameters = {
        'camera_topics': ['front/image_raw', 'rear/image_raw/compressed'],
        'checkpoint': str(tiny_checkpoint),
        'queries_file': str(queries),
        'device': 'cpu',
    }
    file = tmp_path / 'parameters.yaml'
    file.write_text(yaml.safe_dump({'/**': {'ros__parameters': parameters}}))
    process = run(*NODE, '--ros-args', '-r', '__ns:=/car', '--params-file', str(file))
    process.wait_for('active')

    heatmap = ros.listen('/car/front/anomaly/heatmap')
    mask = ros.listen('/car/rear/anomaly/mask')
    front = ros.camera('/car/front/image_raw')
    rear = ros.camera('/car/rear/image_raw/compressed', compressed=True)
    frame = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    jpeg = ros.jpeg(7, frame)

    def exchange() -> bool:  # until the node, too, knows that somebody listens
        front.publish(ros.image(6, frame))
        rear.publish(jpeg)
        return bool(heatmap.messages and mask.messages)

    ros.spin_until(exchange)
    detector = Detector.from_checkpoint(tiny_checkpoint, queries_file=queries, device='cpu')
    (detection,) = detector.detect([frame])
    (message,) = heatmap.messages[:1]
    score = np.frombuffer(bytes(message.data), np.float32).reshape(90, 120)
    np.testing.assert_allclose(score, detection.score, atol=1e-4)
    assert message.header == ros.image(6).header
    assert mask.messages[0].header == jpeg.header

    process.send(signal.SIGINT)
    assert process.status() == 0
    assert 'Traceback' not in process.output


@pytest.mark.parametrize('word', ['-h', '--help'])
def test_help_is_printed_and_starts_no_node(run: Any, word: str) -> None:
    process = run('-m', 'maskomaly_ros.node', word)
    assert process.status() == 0
    assert process.output.startswith('usage: maskomaly_node')
    assert '--params-file' in process.output
    assert 'active' not in process.output


def test_the_process_does_not_take_itself_apart_for_long(run: Any) -> None:
    program = (
        'import atexit, time; from maskomaly_ros.node import maskomaly_node\n'
        'atexit.register(time.sleep, 600); maskomaly_node.main()'
    )
    process = run('-c', program, '--ros-args', '-p', 'autostart:=false')
    process.wait_for('waiting to be configured')
    process.send(signal.SIGINT)
    assert process.status() == 0


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_node_that_is_loading(run: Any, number: int) -> None:
    process = run('-c', LOADING)
    process.wait_for('loading')
    process.send(number)
    assert process.status() == 0
    assert 'Traceback' not in process.output


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_node_whose_network_is_busy(ros: Any, run: Any, number: int) -> None:
    process = run('-c', BUSY, '--ros-args', '-p', 'camera_topics:=[/front/image_raw]')
    process.wait_for('active')
    ros.listen('/front/anomaly/mask')
    camera = ros.camera('/front/image_raw')

    def is_busy() -> bool:
        camera.publish(ros.image())
        return 'predicting' in process.output

    ros.spin_until(is_busy)
    process.send(number)
    assert process.status() == 0
    assert 'Traceback' not in process.output


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ('-p checkpoint:=/nowhere/at/all', ['cannot configure', '/nowhere/at/all', 'autostart']),
        ('-p obstacle_threshold:=1.5', ['obstacle_threshold', '1.5']),
        ('--params-file /nowhere.yaml', ['/nowhere.yaml']),
    ],
)
def test_a_node_that_cannot_start_says_why_and_ends(
    run: Any, arguments: str, words: list[str]
) -> None:
    process = run(*NODE, '--ros-args', *arguments.split())
    assert process.status() == 1
    for word in words:
        assert word in process.output
    assert 'Traceback' not in process.output


def test_a_node_whose_file_has_nothing_for_it_does_not_start(run: Any, tmp_path: Path) -> None:
    file = tmp_path / 'p.yaml'
    file.write_text('/other: {ros__parameters: {max_age: 1.0}}')
    process = run(*NODE, '--ros-args', '--params-file', str(file))
    assert process.status() == 1
    assert 'no parameters for the node /maskomaly; it has /other' in process.output
    assert 'Traceback' not in process.output


def test_a_failure_does_not_end_a_node_that_is_not_started_by_itself(ros: Any, run: Any) -> None:
    from lifecycle_msgs.srv import ChangeState

    arguments = ['-p', 'autostart:=false', '-p', 'checkpoint:=/nowhere/at/all']
    process = run(*NODE, '--ros-args', *arguments)
    process.wait_for('waiting to be configured')
    request = ChangeState.Request()
    request.transition.label = 'configure'
    for _ in range(2):
        response = ros.call(ChangeState, '/maskomaly/change_state', request)
        assert not response.success
    process.send(signal.SIGTERM)
    assert process.status() == 0
    assert process.output.count('/nowhere/at/all') == 2
