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

"""A recorded drive comes out of the player as a camera topic."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')
TOPIC = '/front/image_raw'
TIMEOUT = 30.0


def write_folder(folder: Path, count: int, size: tuple[int, int] = (24, 32)) -> Path:
    """Write PNG images; the red value of each is ten times its index."""
    folder.mkdir()
    for index in range(count):
        image = np.full((*size, 3), (20, 90, 10 * index), np.uint8)
        cv2.imwrite(str(folder / f'{index}.png'), image)
    return folder


class Playing:
    """The player in a thread, while the test's executor receives."""

    def __init__(self, ros: Any, source: Path, *arguments: str, **camera: Any) -> None:
        from maskomaly_ros.rig.player import CameraPublisher, make_parser, play

        parsed = make_parser().parse_args(
            [str(source), '--topic', TOPIC, '--rate', '200', *arguments]
        )
        self.camera = CameraPublisher(TOPIC, reliable=True, context=ros.context, **camera)
        self.stop = threading.Event()
        self._error: Exception | None = None

        def run() -> None:
            try:
                play(self.camera, parsed, self.stop)
            except Exception as error:
                self._error = error

        self.thread = threading.Thread(target=run)
        self.thread.start()
        self._ros = ros

    def finish(self) -> None:
        self._ros.spin_until(lambda: not self.thread.is_alive(), 'player has finished')
        self.camera.destroy_node()
        if self._error:
            raise self._error


def listen(ros: Any, message_type: type) -> list[Any]:
    """Subscribe before there is a publisher; return the list that messages come into."""
    messages: list[Any] = []
    ros.node.create_subscription(message_type, TOPIC, messages.append, 50)
    return messages


def red(message: Any) -> int:
    """Return the value of red in the first pixel of a bgr8 message."""
    assert message.encoding == 'bgr8'
    return int(message.data[2])


def test_frames_come_in_order_stamped_with_the_time_of_publishing(
    ros: Any, tmp_path: Path
) -> None:
    from rclpy.time import Time
    from sensor_msgs.msg import Image

    folder = write_folder(tmp_path / 'drive', 8)
    messages = listen(ros, Image)
    before = ros.node.get_clock().now().nanoseconds
    Playing(ros, folder, '--wait-for', '1', frame_id='left_eye').finish()
    ros.spin_until(lambda: len(messages) == 8)
    after = ros.node.get_clock().now().nanoseconds
    assert [red(m) for m in messages] == [10 * i for i in range(8)]
    assert {(m.height, m.width, m.step, m.header.frame_id) for m in messages} == {
        (24, 32, 96, 'left_eye')
    }
    stamps = [Time.from_msg(m.header.stamp).nanoseconds for m in messages]
    assert before < stamps[0]
    assert stamps[-1] < after
    assert stamps == sorted(set(stamps))


def test_jpeg_size_and_number_of_frames(ros: Any, tmp_path: Path) -> None:
    from sensor_msgs.msg import CompressedImage

    from maskomaly_ros.encodings import decode_compressed

    folder = write_folder(tmp_path / 'drive', 5, size=(60, 80))
    messages = listen(ros, CompressedImage)
    Playing(
        ros, folder, '--wait-for', '1', '--frames', '3', '--size', '40x40', encoding='jpeg'
    ).finish()
    ros.spin_until(lambda: len(messages) == 3)
    for index, message in enumerate(messages):
        picture = decode_compressed(message, max_pixels=10**6)
        assert picture.shape == (30, 40, 3)
        assert np.abs(picture.mean((0, 1)) - (10 * index, 90, 20)).max() < 4


def test_loop_begins_again_until_it_is_stopped(ros: Any, tmp_path: Path) -> None:
    from sensor_msgs.msg import Image

    folder = write_folder(tmp_path / 'drive', 2)
    messages = listen(ros, Image)
    playing = Playing(ros, folder, '--wait-for', '1', '--loop')
    ros.spin_until(lambda: len(messages) >= 7)
    playing.stop.set()
    playing.finish()
    assert [red(m) for m in messages[:7]] == [0, 10, 0, 10, 0, 10, 0]


def test_generated_scene_needs_no_file(ros: Any, tmp_path: Path) -> None:
    from sensor_msgs.msg import Image

    messages = listen(ros, Image)
    source = Path('generated:3')
    Playing(ros, source, '--wait-for', '1', '--frames', '2', '--size', '64x48').finish()
    ros.spin_until(lambda: len(messages) == 2)
    assert {(m.height, m.width) for m in messages} == {(48, 64)}


def test_events_tell_what_was_published_and_what_could_not_be_read(
    ros: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rclpy.time import Time
    from sensor_msgs.msg import Image

    folder = write_folder(tmp_path / 'drive', 3)
    (folder / '1.png').write_bytes(b'broken')
    messages = listen(ros, Image)
    Playing(ros, folder, '--wait-for', '1', '--events').finish()
    ros.spin_until(lambda: len(messages) == 2)
    *published, finished = map(json.loads, capsys.readouterr().out.splitlines())
    assert [(e['event'], e['index'], e['name']) for e in published] == [
        ('published', 0, '0.png'),
        ('published', 2, '2.png'),
    ]
    assert [e['stamp'] for e in published] == [
        Time.from_msg(m.header.stamp).nanoseconds for m in messages
    ]
    assert finished['event'] == 'finished'
    assert finished['problems'][0].startswith('1.png: ')


def test_auto_rate_is_measured_on_answers(
    ros: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sensor_msgs.msg import Image

    folder = write_folder(tmp_path / 'drive', 2)
    frames: list[Image] = []
    answers = ros.node.create_publisher(Image, '/answers', 10)

    def answer(message: Image) -> None:
        frames.append(message)
        answers.publish(message)

    subscription = ros.node.create_subscription(Image, TOPIC, answer, 50)
    Playing(
        ros, folder, '--wait-for', '1', '--rate', 'auto', '--answers', '/answers', '--events'
    ).finish()
    ros.spin_until(lambda: len(frames) >= 10)
    ros.node.destroy_subscription(subscription)
    assert [m.header.frame_id for m in frames[-2:]] == ['camera', 'camera']
    assert {m.header.frame_id for m in frames[:-2]} == {'warm_up'}
    assert {red(m) for m in frames[:-2]} == {0}
    pace = json.loads(capsys.readouterr().out.splitlines()[0])
    assert pace['event'] == 'pace'
    assert pace['seconds'] > 0
    assert pace['rate'] == pytest.approx(min(10.0, 0.85 / pace['seconds']))


@pytest.mark.parametrize('arguments', [('--wait-for', '1'), ('--rate', 'auto', '--answers', '/a')])
def test_waiting_for_a_node_ends(ros: Any, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    from maskomaly_ros.errors import MaskomalyError

    folder = write_folder(tmp_path / 'drive', 1)
    playing = Playing(ros, folder, '--timeout', '0.2', *arguments)
    with pytest.raises(MaskomalyError, match=r'within 0 s'):
        playing.finish()


def test_qos_is_that_of_camera_drivers_unless_asked_otherwise(ros: Any) -> None:
    from rclpy.qos import ReliabilityPolicy

    from maskomaly_ros.rig.player import CameraPublisher

    for reliable, policy in (
        (False, ReliabilityPolicy.BEST_EFFORT),
        (True, ReliabilityPolicy.RELIABLE),
    ):
        topic = f'/qos_{policy.name.lower()}/image'
        camera = CameraPublisher(topic, reliable=reliable, context=ros.context)
        ros.spin_until(lambda topic=topic: ros.node.get_publishers_info_by_topic(topic))
        (info,) = ros.node.get_publishers_info_by_topic(topic)
        assert info.qos_profile.reliability == policy
        camera.destroy_node()


def command(*arguments: str) -> list[str]:
    return [sys.executable, '-m', 'maskomaly_ros.rig.player', *arguments]


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_process_ends_with_status_0_when_told_to(tmp_path: Path, number: int) -> None:
    folder = write_folder(tmp_path / 'drive', 2)
    process = subprocess.Popen(
        command(str(folder), '--loop', '--events', '--topic', TOPIC),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())['event'] == 'published'
    process.send_signal(number)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, errors) == (0, '')


def test_process_names_what_is_wrong(tmp_path: Path) -> None:
    result = subprocess.run(
        command(str(tmp_path / 'nowhere.mp4')), capture_output=True, text=True, timeout=TIMEOUT
    )
    assert result.returncode == 1
    assert 'nowhere.mp4 does not exist' in result.stderr
    assert 'Traceback' not in result.stderr
