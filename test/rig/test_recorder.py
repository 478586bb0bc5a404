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

"""What the node publishes for a camera frame is matched by stamp and written to disk."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip('rclpy')
av = pytest.importorskip('av', reason='videos need PyAV')
CAMERA = '/front/image_raw'
TIMEOUT = 30.0
SECOND = 10**9


@pytest.fixture
def recording(ros: Any) -> Iterator[tuple[Any, list[Any]]]:
    """Run a recorder in the test's executor; give it and the list that sets come into."""
    from maskomaly_ros.rig.recorder import Recorder

    sets: list[Any] = []
    recorder = Recorder(CAMERA, sets.append, context=ros.context)
    ros.executor.add_node(recorder)
    yield recorder, sets
    ros.executor.remove_node(recorder)
    recorder.destroy_node()


def publishers(ros: Any) -> dict[str, Any]:
    from sensor_msgs.msg import Image

    made = {
        name: ros.node.create_publisher(Image, f'/front/anomaly/{name}', 50)
        for name in ('mask', 'heatmap', 'overlay')
    }
    for name, publisher in made.items():
        ros.spin_until(publisher.get_subscription_count, f'recorder of {name}')
    return made


def outputs(stamp: int, encoding: str = '32FC1') -> dict[str, Any]:
    """Make the messages of one frame, 4 x 6 pixels."""
    from builtin_interfaces.msg import Time
    from std_msgs.msg import Header

    from maskomaly_ros import interfaces
    from maskomaly_ros.node.messages import to_ros

    header = Header(stamp=Time(sec=stamp // SECOND, nanosec=stamp % SECOND), frame_id='eye')
    score = np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 6)
    described = {
        'mask': interfaces.mask_message(((score > 0.9) * 255).astype(np.uint8), header),
        'heatmap': interfaces.heatmap_message(score, encoding, header),
        'overlay': interfaces.picture_message(np.full((4, 6, 3), (200, 30, 40), np.uint8), header),
    }
    return {name: to_ros(message) for name, message in described.items()}


@pytest.mark.parametrize(('encoding', 'tolerance'), [('32FC1', 0.0), ('mono8', 0.5 / 255 + 1e-6)])
def test_outputs_are_matched_by_stamp_whatever_their_order(
    ros: Any, recording: Any, encoding: str, tolerance: float
) -> None:
    recorder, sets = recording
    topics = publishers(ros)
    stamps = [recorder.get_clock().now().nanoseconds - i * SECOND for i in (3, 2)]
    first, second = (outputs(stamp, encoding) for stamp in stamps)
    for name in ('overlay', 'mask', 'heatmap'):
        topics[name].publish(second[name])
    for name in ('mask', 'heatmap', 'overlay'):
        topics[name].publish(first[name])
    ros.spin_until(lambda: len(sets) == 2)
    assert {s.stamp_ns for s in sets} == set(stamps)
    expected = np.linspace(0, 1, 24).reshape(4, 6)
    for each in sets:
        assert each.frame_id == 'eye'
        assert each.score.dtype == np.float32
        assert np.abs(each.score - expected).max() <= max(tolerance, 1e-6)
        assert np.array_equal(each.mask > 0, expected > 0.9)
        assert (each.overlay == (200, 30, 40)).all()
        assert set(each.latency) == {'mask', 'heatmap', 'overlay'}
        age = 3.0 if each.stamp_ns == stamps[0] else 2.0
        assert all(age < seconds < age + TIMEOUT for seconds in each.latency.values())
    assert recorder.incomplete == 0


def test_sets_that_miss_a_part_are_given_up_and_counted(ros: Any, recording: Any) -> None:
    recorder, sets = recording
    topics = publishers(ros)
    for stamp in range(1, 10):
        topics['mask'].publish(outputs(stamp)['mask'])
    ros.spin_until(lambda: recorder.incomplete == 1)
    for name, message in outputs(99).items():
        topics[name].publish(message)
    ros.spin_until(lambda: sets)
    assert [s.stamp_ns for s in sets] == [99]
    assert recorder.incomplete == 2


def test_a_real_node_is_recorded_with_its_own_counts(ros: Any, recording: Any) -> None:
    node = ros.maskomaly(CAMERA)
    recorder, sets = recording
    camera = ros.camera(CAMERA)
    for name in ('mask', 'heatmap', 'overlay'):
        topic = f'/front/anomaly/{name}'
        ros.spin_until(
            lambda topic=topic: any(
                p.get_subscription_count() for p in node.publishers if p.topic_name == topic
            )
        )
    camera.publish(ros.image(5 * SECOND))
    ros.spin_until(lambda: sets)
    (recorded,) = sets
    assert recorded.stamp_ns == 5 * SECOND
    assert recorded.frame_id == 'front_camera'
    assert recorded.mask[9, 12] == 255
    assert recorded.score[9, 12] > 0.5 > recorded.score[0, 0]
    ros.spin_until(lambda: recorder.counts.get('processed') == 1)
    assert recorder.counts['received'] == 1
    assert recorder.counts['replaced'] == 0


def make_set(index: int) -> Any:
    from maskomaly_ros.rig.recorder import Recorded

    return Recorded(
        stamp_ns=1000 + index,
        frame_id='eye',
        score=np.full((16, 32), index / 100, np.float32),
        mask=np.where(np.arange(512).reshape(16, 32) < index, 255, 0).astype(np.uint8),
        overlay=np.full((16, 32, 3), 128, np.uint8),
        latency={'mask': 0.25, 'heatmap': 0.3, 'overlay': 0.5},
    )


def test_recording_holds_video_arrays_and_a_line_a_frame(tmp_path: Path) -> None:
    from maskomaly_ros.drives.open import open_source
    from maskomaly_ros.rig.recorder import Recording

    written: list[Any] = []
    recording = Recording(tmp_path / 'out', 5, on_written=written.append)
    for index in range(10):
        recording.add(make_set(index))
    recording.close(incomplete=2)
    report = json.loads((tmp_path / 'out' / 'recording.json').read_text())
    assert report['incomplete'] == 2
    assert report['unwritten'] == 0
    assert [f['stamp'] for f in report['frames']] == list(range(1000, 1010))
    assert [f['obstacle_pixels'] for f in report['frames']] == list(range(10))
    assert report['frames'][3]['latency'] == {'mask': 0.25, 'heatmap': 0.3, 'overlay': 0.5}
    assert len(written) == 10
    with np.load(tmp_path / 'out' / '1007.npz') as arrays:
        assert arrays['score'].dtype == np.float16
        assert np.allclose(arrays['score'], 0.07, atol=1e-3)
        assert np.count_nonzero(arrays['mask']) == 7
        assert arrays['overlay'].shape == (16, 32, 3)
    with open_source(tmp_path / 'out' / 'overlay.mp4') as video:
        assert len(list(video)) == 10
        assert video.rate == pytest.approx(5)


def test_kept_arrays_stay_few_and_spread_however_long_it_is(tmp_path: Path) -> None:
    from maskomaly_ros.rig.recorder import Recording

    written: list[Any] = []
    recording = Recording(tmp_path, 5, keep=4, on_written=written.append)
    for index in range(100):
        recording.add(make_set(index))
        while len(written) <= index - 32:  # the queue is bounded
            assert recording.unwritten == 0
    recording.close()
    kept = sorted(int(path.stem) - 1000 for path in tmp_path.glob('*.npz'))
    assert 4 <= len(kept) < 8
    assert kept[0] == 0
    assert kept[-1] >= 80
    assert len({*np.diff(kept)}) == 1
    assert len(json.loads((tmp_path / 'recording.json').read_text())['frames']) == 100


def test_failure_to_write_is_reported_and_does_not_hang(tmp_path: Path) -> None:
    from dataclasses import replace

    from maskomaly_ros.errors import MaskomalyError
    from maskomaly_ros.rig.recorder import Recording

    recording = Recording(tmp_path, 5)
    recording.add(replace(make_set(0), overlay=np.zeros((16, 32), np.uint8)))
    for index in range(200):
        try:
            recording.add(make_set(index))
        except MaskomalyError:
            break
    with pytest.raises(MaskomalyError, match='cannot write'):
        recording.close()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_process_leaves_valid_files_when_told_to_end(
    ros: Any, tmp_path: Path, number: int
) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, '-m', 'maskomaly_ros.rig.recorder', CAMERA),
            *('--out', str(tmp_path), '--frame-id', 'eye', '--events'),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    events: list[dict[str, Any]] = []

    def read() -> None:
        assert process.stdout is not None
        events.extend(map(json.loads, process.stdout))

    threading.Thread(target=read).start()
    topics = publishers(ros)
    stamp = ros.node.get_clock().now().nanoseconds
    for frame_id, moment in (('warm_up', stamp - 1), ('eye', stamp)):
        for name, message in outputs(moment).items():
            message.header.frame_id = frame_id
            topics[name].publish(message)
    ros.spin_until(lambda: events)
    assert [(e['event'], e['stamp']) for e in events] == [('recorded', stamp)]
    process.send_signal(number)
    assert process.wait(TIMEOUT) == 0
    report = json.loads((tmp_path / 'recording.json').read_text())
    assert [f['stamp'] for f in report['frames']] == [stamp]
    assert report['obstacle_threshold'] is None  # there is no node to ask
