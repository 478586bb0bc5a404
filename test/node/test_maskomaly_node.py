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

"""Tests of maskomaly_ros.node.maskomaly_node: camera frames in, results out, over DDS."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from maskomaly_ros import detector as detector_module
from maskomaly_ros.detector import Detector
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.node import messages

BOX = np.zeros((24, 32), np.uint8)
BOX[8:12, 10:16] = 255


def pixels(message: Image, dtype: Any = np.uint8) -> NDArray[Any]:
    return np.frombuffer(bytes(message.data), dtype).reshape(message.height, message.width, -1)


def stamps(messages: list[Any]) -> list[int]:
    return [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in messages]


def counts(node: Any, camera: int = 0) -> dict[str, int]:
    """Return what became of the frames, less what did not happen."""
    return {name: n for name, n in asdict(node.streams[camera].counts).items() if n}


def test_all_outputs_of_a_frame(ros: Any) -> None:
    ros.maskomaly()
    topics = {
        name: ros.listen(f'/front/anomaly/{name}') for name in ('heatmap', 'mask', 'overlay')
    }
    topics['mono8'] = ros.listen('/front/anomaly/heatmap/mono8')
    topics['compressed'] = ros.listen('/front/anomaly/overlay/compressed', CompressedImage)
    sent = ros.image(12_000_000_034)
    ros.camera('/front/image_raw').publish(sent)
    ros.spin_until(lambda: all(listener.messages for listener in topics.values()))
    got = {name: listener.messages[0] for name, listener in topics.items()}
    for message in got.values():
        assert message.header == sent.header
    assert got['heatmap'].encoding == '32FC1'
    heatmap = pixels(got['heatmap'], np.float32)[..., 0]
    assert heatmap[BOX > 0].min() > 0.99
    assert heatmap[BOX == 0].max() < 0.01
    assert got['mono8'].encoding == 'mono8'
    np.testing.assert_array_equal(pixels(got['mono8'])[..., 0], np.rint(255 * heatmap))
    assert got['mask'].encoding == 'mono8'
    np.testing.assert_array_equal(pixels(got['mask'])[..., 0], BOX)
    assert got['overlay'].encoding == 'bgr8'
    overlay = pixels(got['overlay'])
    np.testing.assert_array_equal(overlay[:4], pixels(sent)[:4], 'nothing to colour there')
    assert (overlay[8:12, 10:16] != pixels(sent)[8:12, 10:16]).any()
    jpeg = np.frombuffer(bytes(got['compressed'].data), np.uint8)
    decoded = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    assert np.abs(decoded.astype(int) - overlay).mean() < 25


@pytest.mark.parametrize('stamp', [0, 1, 2**31 * 10**9 - 1])
def test_stamps_and_frame_ids_are_untouched(ros: Any, stamp: int) -> None:
    node = ros.maskomaly()
    mask = ros.listen('/front/anomaly/mask')
    sent = ros.image(stamp, frame_id='kamera/vorn ü')
    ros.camera('/front/image_raw').publish(sent)
    ros.spin_until(lambda: mask.messages)
    assert mask.messages[0].header == sent.header
    ros.spin_until(lambda: counts(node) == {'received': 1, 'processed': 1})


@pytest.mark.parametrize('reliable', [False, True])
def test_publishers_of_either_reliability(ros: Any, reliable: bool) -> None:
    ros.maskomaly()
    mask = ros.listen('/front/anomaly/mask')
    ros.camera('/front/image_raw', reliable=reliable).publish(ros.image())
    ros.spin_until(lambda: mask.messages)


def as_encoding(frame: NDArray[np.uint8], encoding: str) -> dict[str, Any]:
    """Return the fields of a frame as a camera with this encoding would send it."""
    if encoding == 'rgb8, padded':
        return {
            'encoding': 'rgb8',
            'step': 101,
            'data': np.pad(frame.reshape(24, 96), ((0, 0), (0, 5))),
        }
    if encoding == 'bgra8':
        return {'encoding': encoding, 'step': 128, 'data': cv2.cvtColor(frame, cv2.COLOR_RGB2BGRA)}
    if encoding == 'bayer_grbg8':
        mosaic = frame[..., 1].copy()
        mosaic[::2, 1::2] = frame[::2, 1::2, 0]
        mosaic[1::2, ::2] = frame[1::2, ::2, 2]
        return {'encoding': encoding, 'step': 32, 'data': mosaic}
    planes = cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420)
    u, v = planes[24:].reshape(2, 12 * 16)
    if encoding == 'nv12':
        data = np.concatenate([planes[:24].ravel(), np.stack([u, v], -1).ravel()])
        return {'encoding': encoding, 'step': 32, 'data': data}
    assert encoding == 'yuyv'
    packed = np.empty((24, 32, 2), np.uint8)
    packed[..., 0] = planes[:24]
    packed[:, ::2, 1] = u.reshape(12, 16).repeat(2, 0)
    packed[:, 1::2, 1] = v.reshape(12, 16).repeat(2, 0)
    return {'encoding': encoding, 'step': 64, 'data': packed}


def test_encodings_of_real_cameras(ros: Any) -> None:
    """One camera changes its encoding while the node runs."""
    node = ros.maskomaly()
    mask = ros.listen('/front/anomaly/mask')
    camera = ros.camera('/front/image_raw')
    names = ['rgb8, padded', 'bgra8', 'bayer_grbg8', 'nv12', 'yuyv']
    for number, name in enumerate(names):
        fields = as_encoding(ros.picture(), name)
        fields['data'] = fields['data'].tobytes()
        camera.publish(ros.image(number, **fields))
        ros.spin_until(lambda n=number: len(mask.messages) > n, name)
        got = pixels(mask.messages[-1])[..., 0]
        wrong = np.count_nonzero(got != BOX)
        assert wrong <= (20 if name.startswith('bayer') else 0), name  # its edges are blurred
    assert counts(node) == {'received': 5, 'processed': 5}


def test_compressed_camera(ros: Any) -> None:
    node = ros.maskomaly('/front/image_raw/compressed')
    mask = ros.listen('/front/anomaly/mask')
    camera = ros.camera('/front/image_raw/compressed', compressed=True)
    frame = cv2.resize(ros.picture(), (320, 240), interpolation=cv2.INTER_NEAREST)
    sent = ros.jpeg(7, frame)
    camera.publish(sent)
    ros.spin_until(lambda: mask.messages)
    assert mask.messages[0].header == sent.header
    expected = cv2.resize(BOX, (320, 240), interpolation=cv2.INTER_NEAREST)
    assert np.count_nonzero(pixels(mask.messages[0])[..., 0] != expected) < 300
    camera.publish(CompressedImage(format='jpeg', data=b'\xff\xd8\xff\xe0torn'))
    ros.spin_until(lambda: counts(node) == {'received': 2, 'processed': 1, 'bad': 1})


def test_two_cameras_at_different_rates(ros: Any) -> None:
    node = ros.maskomaly('/front/image_raw', '/rear/image_raw')
    masks = [ros.listen(f'/{side}/anomaly/mask') for side in ('front', 'rear')]
    front, rear = ros.camera('/front/image_raw'), ros.camera('/rear/image_raw', reliable=True)
    empty = ros.picture(red=False)
    for number in range(1, 10):
        front.publish(ros.image(number))
        if number % 3 == 0:
            rear.publish(ros.image(100 + number, empty, frame_id='rear_camera'))
        ros.spin_until(lambda n=number: counts(node).get('processed') == n)
        ros.spin_until(lambda n=number: counts(node, 1).get('processed', 0) == n // 3)
    ros.spin_until(lambda: len(masks[0].messages) == 9 and len(masks[1].messages) == 3)
    assert stamps(masks[0].messages) == list(range(1, 10))
    assert stamps(masks[1].messages) == [103, 106, 109]
    assert {m.header.frame_id for m in masks[0].messages} == {'front_camera'}
    assert {m.header.frame_id for m in masks[1].messages} == {'rear_camera'}
    assert all(pixels(m).any() for m in masks[0].messages)
    assert not any(pixels(m).any() for m in masks[1].messages)


def test_cameras_that_wait_share_a_batch_even_with_different_sizes(ros: Any, network: Any) -> None:
    topics = [f'/{side}/image_raw' for side in ('front', 'rear', 'left')]
    node = ros.maskomaly(*topics)
    masks = [ros.listen(topic.replace('image_raw', 'anomaly/mask')) for topic in topics]
    cameras = [ros.camera(topic) for topic in topics]
    network.hold()
    cameras[0].publish(ros.image(1))
    ros.spin_until(lambda: network.entered.acquire(blocking=False))
    for camera, size in zip(cameras, [(24, 32), (24, 32), (30, 40)], strict=True):
        camera.publish(ros.image(2, ros.picture(*size)))
    ros.spin_until(lambda: [counts(node, i).get('received') for i in range(3)] == [2, 1, 1])
    network.release()
    ros.spin_until(lambda: [len(mask.messages) for mask in masks] == [2, 1, 1])
    assert [len(batch) for batch in network.batches] == [1, 2, 1], 'two sizes, two batches'
    assert pixels(masks[2].messages[0]).shape == (30, 40, 1)


def test_newest_frame_wins(ros: Any, network: Any) -> None:
    node = ros.maskomaly()
    mask = ros.listen('/front/anomaly/mask')
    camera = ros.camera('/front/image_raw')
    network.hold()
    camera.publish(ros.image(1))
    ros.spin_until(lambda: network.entered.acquire(blocking=False))
    for number in range(2, 12):
        camera.publish(ros.image(number))
        ros.spin_until(lambda n=number: counts(node)['received'] == n)
    assert counts(node) == {'received': 11, 'replaced': 9}
    network.release()
    ros.spin_until(lambda: len(mask.messages) == 2)
    assert stamps(mask.messages) == [1, 11]
    ros.spin_until(lambda: counts(node) == {'received': 11, 'processed': 2, 'replaced': 9})


def test_nothing_is_done_while_nobody_listens(ros: Any, network: Any) -> None:
    node = ros.maskomaly('/front/image_raw', '/rear/image_raw')
    front, rear = ros.camera('/front/image_raw'), ros.camera('/rear/image_raw')
    front.publish(ros.image(1))
    ros.spin_until(lambda: counts(node) == {'received': 1, 'unwanted': 1})
    front.publish(ros.image(2, encoding='nonsense'))
    ros.spin_until(lambda: counts(node) == {'received': 2, 'unwanted': 2})
    assert network.batches == []

    heatmap = ros.listen('/front/anomaly/heatmap')
    front.publish(ros.image(3))
    rear.publish(ros.image(3))
    ros.spin_until(lambda: stamps(heatmap.messages) == [3])
    ros.spin_until(lambda: counts(node, 1) == {'received': 1, 'unwanted': 1})
    assert len(network.batches) == 1

    heatmap.leave()
    publishers = [p for p in node.publishers if p.topic_name == '/front/anomaly/heatmap']
    ros.spin_until(lambda: publishers[0].get_subscription_count() == 0)
    front.publish(ros.image(4))
    ros.spin_until(lambda: counts(node) == {'received': 4, 'unwanted': 3, 'processed': 1})
    assert len(network.batches) == 1

    again = ros.listen('/front/anomaly/mask')
    front.publish(ros.image(5))
    ros.spin_until(lambda: stamps(again.messages) == [5])


def test_only_what_somebody_listens_to_is_computed(
    ros: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    for module, name in [
        (detector_module.obstacle_search, 'obstacle_mask'),  # type: ignore[attr-defined]
        (detector_module.obstacle_search, 'find_obstacles'),  # type: ignore[attr-defined]
        (detector_module.visualization, 'overlay'),  # type: ignore[attr-defined]
    ]:
        original = getattr(module, name)

        def record(*args: Any, name: str = name, original: Any = original) -> Any:
            computed.append(name)
            return original(*args)

        monkeypatch.setattr(module, name, record)
    ros.maskomaly()
    computed.clear()  # of what was tried beforehand
    camera = ros.camera('/front/image_raw')
    heatmap = ros.listen('/front/anomaly/heatmap')
    camera.publish(ros.image(1))
    ros.spin_until(lambda: len(heatmap.messages) == 1)
    assert computed == []
    mask = ros.listen('/front/anomaly/mask')
    camera.publish(ros.image(2))
    ros.spin_until(lambda: len(heatmap.messages) == 2 and mask.messages)
    assert computed == ['obstacle_mask']
    ros.listen('/front/anomaly/overlay')
    jpeg = ros.listen('/front/anomaly/overlay/compressed', CompressedImage)
    camera.publish(ros.image(3))
    ros.spin_until(lambda: jpeg.messages)
    assert computed.count('overlay') == 1, 'both overlays are one picture'
    assert computed.count('obstacle_mask') == 2


def set_parameters(ros: Any, **values: Any) -> str:
    request = SetParametersAtomically.Request()
    request.parameters = [Parameter(n, value=v).to_parameter_msg() for n, v in values.items()]
    name = '/maskomaly/set_parameters_atomically'
    return str(ros.call(SetParametersAtomically, name, request).result.reason)


def get_parameter(ros: Any, name: str) -> ParameterValue:
    request = GetParameters.Request(names=[name])
    (value,) = ros.call(GetParameters, '/maskomaly/get_parameters', request).values
    return value


def test_parameters_change_while_it_runs(ros: Any) -> None:
    ros.maskomaly()
    mask = ros.listen('/front/anomaly/mask')
    heatmap = ros.listen('/front/anomaly/heatmap/mono8')
    camera = ros.camera('/front/image_raw')

    def results(number: int) -> tuple[Image, Image]:
        camera.publish(ros.image(number))
        # The first frame of a score compiles its kernel: seconds, many on a busy machine.
        ros.spin_until(lambda: number in stamps(mask.messages), timeout=120)
        ros.spin_until(lambda: number in stamps(heatmap.messages))
        return mask.messages[-1], heatmap.messages[-1]

    np.testing.assert_array_equal(pixels(results(1)[0])[..., 0], BOX)
    assert get_parameter(ros, 'obstacle_threshold').double_value == 0.5, 'calibrated'
    assert list(get_parameter(ros, 'anomalous_queries').integer_array_value) == [1]

    assert set_parameters(ros, obstacle_threshold=1.0, overlay_opacity=0.25) == ''
    after, scores = results(2)
    assert not pixels(after).any()
    assert scores.encoding == 'mono8'
    np.testing.assert_array_equal(pixels(scores)[..., 0], BOX)

    reason = set_parameters(ros, obstacle_threshold=0.5, border_score=1.5)
    assert 'border_score' in reason
    assert '1.5' in reason
    reason = set_parameters(ros, obstacle_threshold=0.5, anomalous_queries=[0, 9])
    assert 'query 9' in reason
    assert 'cannot change' in set_parameters(ros, obstacle_threshold=0.5, checkpoint='other')
    assert not pixels(results(3)[0]).any()
    assert get_parameter(ros, 'obstacle_threshold').double_value == 1.0

    # The road as what is anomalous, and accept alone: the map turns over.
    assert (
        set_parameters(ros, anomalous_queries=[0], reject_weight=0.0, variant='reference_code')
        == ''
    )
    np.testing.assert_array_equal(pixels(results(4)[1])[..., 0], 255 - BOX)
    # What asks for both finds nothing: where the road is, it is no anomaly.
    for number, variant in enumerate(('geometric', 'product', 'minimum'), start=5):
        assert set_parameters(ros, variant=variant, reject_weight=0.5) == ''
        assert not pixels(results(number)[1]).any()
    assert 'mine' in set_parameters(ros, variant='mine')
    # Another score of the same network, on the same topic; one without a scale is refused.
    assert set_parameters(ros, score='baseline') == ''
    assert pixels(results(8)[1]).any()
    assert 'score rba has no scale' in set_parameters(ros, score='rba')
    assert get_parameter(ros, 'score').string_value == 'baseline'


BAD = [
    {'encoding': 'nonsense'},
    {'encoding': '32FC1'},
    {'data': b''},
    {'data': b'short'},
    {'step': 10},
    {'height': 0},
    {'width': 0, 'step': 0},
    {'height': 2**32 - 1},
    {'height': 2**32 - 1, 'width': 2**32 - 1, 'step': 2**32 - 1},
    {'encoding': 'nv12', 'width': 31},
]


def test_bad_frames_are_skipped_and_said_at_most_once_a_second(
    ros: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    node = ros.maskomaly('/front/image_raw', '/rear/image_raw')
    front, rear = ros.camera('/front/image_raw'), ros.camera('/rear/image_raw')
    front_mask, rear_mask = (ros.listen(f'/{side}/anomaly/mask') for side in ('front', 'rear'))
    for number, fields in enumerate(BAD):
        front.publish(ros.image(number, **fields))
        ros.spin_until(lambda n=number: counts(node).get('bad') == n + 1)
        rear.publish(ros.image(number))
        ros.spin_until(lambda n=number: len(rear_mask.messages) == n + 1, 'the other camera')
    assert 'even' in node.streams[0].observe().rejected
    front.publish(ros.image(99))
    ros.spin_until(lambda: stamps(front_mask.messages) == [99])
    ros.spin_until(lambda: counts(node).get('processed') == 1)
    assert node.streams[0].observe().rejected == ''
    logged = [line for line in capfd.readouterr().err.splitlines() if 'bad frame' in line]
    assert 1 <= len(logged) < len(BAD)
    assert '/front/image_raw' in logged[0]
    assert "'nonsense'" in logged[0]


def test_pixel_limit_is_a_parameter(ros: Any) -> None:
    node = ros.maskomaly(max_image_pixels=24 * 32 - 1)
    mask = ros.listen('/front/anomaly/mask')
    camera = ros.camera('/front/image_raw')
    camera.publish(ros.image(1))
    ros.spin_until(lambda: counts(node) == {'received': 1, 'bad': 1})
    assert set_parameters(ros, max_image_pixels=24 * 32) == ''
    camera.publish(ros.image(2))
    ros.spin_until(lambda: stamps(mask.messages) == [2])


def test_the_network_fails_and_the_next_frame_is_processed(
    ros: Any, network: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    node = ros.maskomaly()
    mask = ros.listen('/front/anomaly/mask')
    camera = ros.camera('/front/image_raw')
    network.failures += [RuntimeError('out of luck'), ValueError('again'), MemoryError()]
    for number in range(3):
        camera.publish(ros.image(number))
        ros.spin_until(lambda n=number: counts(node).get('failed') == n + 1)
    assert 'MemoryError' in node.streams[0].observe().failed
    camera.publish(ros.image(3))
    ros.spin_until(lambda: stamps(mask.messages) == [3])
    ros.spin_until(lambda: counts(node) == {'received': 4, 'failed': 3, 'processed': 1})
    log = capfd.readouterr().err
    assert 'RuntimeError: out of luck' in log
    assert 'Traceback' in log


def test_a_library_that_trips_over_a_frame_does_not_end_the_worker(
    ros: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskomaly_ros.node import worker

    def trip(*_: Any, **__: Any) -> None:
        raise cv2.error('never seen before')

    node = ros.maskomaly()
    mask = ros.listen('/front/anomaly/mask')
    camera = ros.camera('/front/image_raw')
    with monkeypatch.context() as patch:
        patch.setattr(worker, 'decode_frame', trip)
        camera.publish(ros.image(1))
        ros.spin_until(lambda: counts(node) == {'received': 1, 'bad': 1})
    assert 'never seen before' in node.streams[0].observe().rejected
    camera.publish(ros.image(2))
    ros.spin_until(lambda: stamps(mask.messages) == [2])


def test_frames_change_size_while_it_runs(ros: Any) -> None:
    ros.maskomaly()
    mask = ros.listen('/front/anomaly/mask')
    camera = ros.camera('/front/image_raw')
    for number, size in enumerate([(24, 32), (48, 64), (16, 200), (13, 17), (24, 32)]):
        camera.publish(ros.image(number, ros.picture(*size)))
        ros.spin_until(lambda n=number: len(mask.messages) == n + 1)
        got = pixels(mask.messages[-1])[..., 0]
        assert got.shape == size
        assert np.count_nonzero(got) == 24


def change_state(ros: Any, label: str) -> bool:
    request = ChangeState.Request()
    request.transition.label = label
    return bool(ros.call(ChangeState, '/maskomaly/change_state', request).success)


def state(ros: Any) -> str:
    return str(ros.call(GetState, '/maskomaly/get_state', GetState.Request()).current_state.label)


def test_lifecycle_by_hand(ros: Any) -> None:
    node = ros.maskomaly(autostart=False)
    assert (state(ros), node.phase) == ('unconfigured', 'unconfigured')
    assert not ros.node.count_publishers('/front/anomaly/mask')
    assert change_state(ros, 'configure')
    assert (state(ros), node.phase) == ('inactive', 'inactive')
    mask = ros.listen('/front/anomaly/mask')
    assert not ros.node.count_subscribers('/front/image_raw')
    assert 'clean up' in set_parameters(ros, camera_topics=['/other/image_raw'])
    assert change_state(ros, 'activate')
    assert (state(ros), node.phase) == ('active', 'active')
    camera = ros.camera('/front/image_raw')
    camera.publish(ros.image(1))
    ros.spin_until(lambda: stamps(mask.messages) == [1])

    assert change_state(ros, 'deactivate')
    ros.spin_until(lambda: not camera.get_subscription_count())
    assert change_state(ros, 'activate')
    ros.spin_until(camera.get_subscription_count)
    camera.publish(ros.image(2))
    ros.spin_until(lambda: stamps(mask.messages) == [1, 2])
    assert counts(node) == {'received': 2, 'processed': 2}

    assert change_state(ros, 'deactivate')
    assert change_state(ros, 'cleanup')
    assert (state(ros), node.phase) == ('unconfigured', 'unconfigured')
    assert node.streams == ()
    ros.spin_until(lambda: not ros.node.count_publishers('/front/anomaly/mask'))
    assert set_parameters(ros, camera_topics=['/other/image_raw']) == ''
    assert change_state(ros, 'configure')
    assert change_state(ros, 'activate')
    mask = ros.listen('/other/anomaly/mask')
    ros.camera('/other/image_raw').publish(ros.image(3))
    ros.spin_until(lambda: stamps(mask.messages) == [3])
    assert change_state(ros, 'shutdown')
    assert (state(ros), node.phase) == ('finalized', 'finalized')


def test_every_transition_is_logged(ros: Any, capfd: pytest.CaptureFixture[str]) -> None:
    node = ros.maskomaly(autostart=False)
    for transition in ('configure', 'activate', 'deactivate', 'cleanup', 'shutdown'):
        assert change_state(ros, transition)
    assert node.phase == 'finalized'
    logged = capfd.readouterr().err
    lines = [
        'checkpoint red', 'active; waiting', 'inactive: deactivated', 'unconfigured: cleaned up',
        'finalized: shut down',
    ]  # fmt: skip
    places = [logged.index(line) for line in lines]
    assert places == sorted(places)


def test_services_answer_while_the_network_is_loaded(ros: Any, network: Any) -> None:
    """A download or a compilation takes minutes."""
    may_load = threading.Event()

    def load(settings: Any) -> Detector:
        assert may_load.wait(30)
        return Detector(network)

    node = ros.maskomaly(autostart=False, load_detector=load)
    client = ros.node.create_client(ChangeState, '/maskomaly/change_state')
    ros.spin_until(client.service_is_ready)
    request = ChangeState.Request()
    request.transition.label = 'configure'
    configured = client.call_async(request)
    try:
        ros.spin_until(lambda: node.phase == 'configuring')
        assert state(ros) == 'configuring'
        assert not change_state(ros, 'shutdown'), 'not now'
        assert 'being configured' in set_parameters(ros, checkpoint='other')
        diagnostics = ros.listener('/diagnostics', DiagnosticArray)
        ros.spin_until(lambda: diagnostics.messages)
        assert diagnostics.messages[-1].status[0].message == 'configuring'
        assert not configured.done()
    finally:
        may_load.set()
    ros.spin_until(configured.done)
    assert configured.result().success
    assert (state(ros), node.phase) == ('inactive', 'inactive')
    assert change_state(ros, 'activate')
    assert set_parameters(ros, jpeg_quality=70) == ''


def test_calibration_is_published_beside_the_results(ros: Any) -> None:
    ros.maskomaly()
    infos = ros.listen('/front/anomaly/camera_info', CameraInfo)
    mask = ros.listen('/front/anomaly/mask')
    camera = ros.camera('/front/image_raw')
    driver = ros.publisher(CameraInfo, '/front/camera_info')
    camera.publish(ros.image(1))
    ros.spin_until(lambda: stamps(mask.messages) == [1])
    assert infos.messages == [], 'nothing is known yet'
    numbers = count(2)

    def is_there() -> bool:
        """Send both as a driver does; they come by two topics, and a frame may be ahead."""
        image = ros.image(next(numbers))
        driver.publish(CameraInfo(header=image.header, width=32, height=24))
        camera.publish(image)
        return bool(infos.messages)

    ros.spin_until(is_there, 'camera_info')
    info = infos.messages[0]
    assert info.header.frame_id == 'front_camera'
    ros.spin_until(lambda: stamps([info])[0] in stamps(mask.messages))
    assert (info.width, info.height) == (32, 24)


def test_one_subscription_serves_all_who_need_the_calibration(ros: Any) -> None:
    ros.maskomaly(camera_info_topics=['/front/calibration'])
    infos = ros.listen('/front/anomaly/camera_info', CameraInfo)
    ros.listen('/front/anomaly/mask')
    camera = ros.camera('/front/image_raw')
    driver = ros.publisher(CameraInfo, '/front/calibration')
    assert len(ros.node.get_subscriptions_info_by_topic('/front/calibration')) == 1
    assert not ros.node.get_subscriptions_info_by_topic('/front/camera_info')
    numbers = count(1)

    def is_there() -> bool:
        image = ros.image(next(numbers))
        driver.publish(CameraInfo(header=image.header, width=32, height=24))
        camera.publish(image)
        return bool(infos.messages)

    ros.spin_until(is_there, 'the calibration that was named is what is published')


def test_calibration_alone_runs_no_network(ros: Any, network: Any) -> None:
    node = ros.maskomaly()
    ros.listen('/front/anomaly/camera_info', CameraInfo)
    ros.camera('/front/image_raw').publish(ros.image(1))
    ros.spin_until(lambda: counts(node) == {'received': 1, 'unwanted': 1})
    assert network.batches == []


def test_a_missing_vision_msgs_is_said(
    ros: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    found = messages.message_class
    monkeypatch.setattr(
        messages, 'message_class', lambda n: None if n.startswith('vision_msgs') else found(n)
    )
    ros.maskomaly()
    logged = capfd.readouterr().err
    assert 'not published, for want of message packages: obstacles (vision_msgs)' in logged


def test_impossible_transitions_are_refused_and_survived(ros: Any) -> None:
    node = ros.maskomaly(autostart=False)
    assert not change_state(ros, 'activate')
    assert not change_state(ros, 'no such transition')
    assert state(ros) == 'unconfigured'
    assert change_state(ros, 'configure')
    assert not change_state(ros, 'configure')
    assert change_state(ros, 'activate')
    assert not change_state(ros, 'activate')
    assert not change_state(ros, 'cleanup')
    assert (state(ros), node.phase) == ('active', 'active')


def test_configuring_fails_with_a_reason_and_can_be_tried_again(
    ros: Any, network: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    problems: list[Exception] = [
        MaskomalyError('no such folder; fetch it'),
        OSError('disk on fire'),
    ]

    def load(settings: Any) -> Detector:
        if problems:
            raise problems.pop(0)
        return Detector(network)

    node = ros.maskomaly(autostart=False, load_detector=load)
    assert not change_state(ros, 'configure')
    assert 'cannot configure: no such folder; fetch it' in capfd.readouterr().err
    assert (state(ros), node.phase) == ('unconfigured', 'unconfigured')
    assert not change_state(ros, 'configure')
    assert 'OSError: disk on fire' in capfd.readouterr().err
    assert change_state(ros, 'configure')
    assert (state(ros), node.phase) == ('inactive', 'inactive')


def test_a_network_that_cannot_run_is_found_out_when_configuring(
    ros: Any, network: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    ros.maskomaly(autostart=False)
    network.failures.append(RuntimeError('no kernel image for this device'))
    assert not change_state(ros, 'configure')
    assert 'no kernel image' in capfd.readouterr().err
    assert change_state(ros, 'configure')


@pytest.mark.parametrize(
    ('parameters', 'device', 'expected'),
    [
        ({}, 'cpu', [((360, 640), 1)]),
        ({'frame_width': 320, 'frame_height': 200}, 'cpu', [((200, 320), 1)]),
        ({}, 'meta', [((360, 640), 1), ((360, 640), 2)]),  # any but a CPU will do
        ({'compile': True}, 'cpu', [((360, 640), 1), ((360, 640), 2)]),
    ],
)
def test_the_network_is_warmed_up_for_what_may_come(
    ros: Any,
    network: Any,
    parameters: dict[str, Any],
    device: str,
    expected: list[tuple[tuple[int, int], int]],
) -> None:
    import torch

    loaded = []

    def load(settings: Any) -> Detector:
        loaded.append(settings.compile)
        detector = Detector(network)
        network.device = torch.device(device)
        return detector

    topics = '/front/image_raw', '/rear/image_raw'
    node = ros.maskomaly(*topics, start=False, load_detector=load, **parameters)
    node.trigger_configure()
    network.device = torch.device('cpu')
    assert network.warmed_up == expected
    assert [len(batch) for batch in network.batches] == [batch for _, batch in expected]
    assert loaded == [parameters.get('compile', False)]


def test_without_a_compiler_the_node_says_so_and_can_be_configured_without(
    ros: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from torch._inductor import cpp_builder, exc

    from maskomaly_ros.node import maskomaly_node

    def find_none() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, 'get_cpp_compiler', find_none)
    load = maskomaly_node.load_from_checkpoint
    ros.maskomaly(autostart=False, load_detector=load, device='cpu', compile=True)
    assert not change_state(ros, 'configure')
    said = capfd.readouterr().err
    assert 'it needs a C++ compiler, and g++ is none (apt install g++)' in said
    assert 'Traceback' not in said
    assert set_parameters(ros, compile=False) == ''
    assert change_state(ros, 'configure')


def test_a_given_query_that_the_network_lacks_fails_configuring(
    ros: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    node = ros.maskomaly(autostart=False, anomalous_queries=[7])
    assert not change_state(ros, 'configure')
    assert 'anomalous_queries has query 7' in capfd.readouterr().err
    assert set_parameters(ros, anomalous_queries=[0]) == ''
    assert change_state(ros, 'configure')
    assert node.phase == 'inactive'


def test_an_error_while_activating_is_said_and_leaves_a_node_to_configure(
    ros: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    node = ros.maskomaly(autostart=False)

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError('the middleware is out of memory')

    assert change_state(ros, 'configure')
    with monkeypatch.context() as patch:
        patch.setattr(node, 'create_subscription', refuse)
        assert not change_state(ros, 'activate')
    assert 'the middleware is out of memory' in capfd.readouterr().err
    assert (state(ros), node.phase) == ('unconfigured', 'unconfigured')
    assert change_state(ros, 'configure')
    assert change_state(ros, 'activate')
    assert node.phase == 'active'


def test_results_of_a_batch_under_way_are_not_published_after_deactivation(
    ros: Any, network: Any
) -> None:
    node = ros.maskomaly()
    mask = ros.listen('/front/anomaly/mask')
    camera = ros.camera('/front/image_raw')
    network.hold()
    camera.publish(ros.image(1))
    ros.spin_until(lambda: network.entered.acquire(blocking=False))
    camera.publish(ros.image(2))
    ros.spin_until(lambda: counts(node)['received'] == 2)
    threading.Timer(0.2, network.release).start()
    assert change_state(ros, 'deactivate')
    assert counts(node) == {'received': 2, 'unwanted': 2}
    assert change_state(ros, 'activate')
    ros.spin_until(camera.get_subscription_count)
    camera.publish(ros.image(3))
    ros.spin_until(lambda: mask.messages)
    assert stamps(mask.messages) == [3]


def test_a_hundred_lifecycles_leave_nothing_behind(ros: Any, network: Any) -> None:
    detectors: list[weakref.ref[Detector]] = []

    def load(_: Any) -> Detector:
        detector = Detector(network)
        detectors.append(weakref.ref(detector))
        return detector

    node = ros.maskomaly('/a/image', '/b/image', start=False, load_detector=load)

    def cycle() -> None:
        for trigger in ('configure', 'activate', 'deactivate', 'cleanup'):
            assert getattr(node, f'trigger_{trigger}')().name == 'SUCCESS'
        ros.executor.spin_once(timeout_sec=0)

    def resources() -> tuple[int, ...]:
        gc.collect()
        descriptors = len(os.listdir('/proc/self/fd'))  # noqa: PTH208
        entities = [len(list(e)) for e in (node.publishers, node.subscriptions, node.timers)]
        return descriptors, threading.active_count(), *entities

    for _ in range(5):
        cycle()
    gc.freeze()  # else every collection looks through all of torch
    try:
        before = resources()
        for _ in range(100):
            cycle()
        assert resources() == before
        assert [d for d in detectors if d() is not None] == []
    finally:
        gc.unfreeze()


def test_namespace_and_remapping(ros: Any) -> None:
    arguments = ['-r', '__ns:=/robot', '-r', 'second:=/other/second', '-r']
    arguments += ['/robot/eye/anomaly/mask:=/obstacles']
    ros.maskomaly('eye/image_raw', 'second', arguments=arguments)
    first, second = ros.listen('/obstacles'), ros.listen('/other/anomaly/mask')
    ros.camera('/robot/eye/image_raw').publish(ros.image(1))
    ros.camera('/other/second').publish(ros.image(2))
    ros.spin_until(lambda: first.messages and second.messages)
    assert (stamps(first.messages), stamps(second.messages)) == ([1], [2])


def test_qos_can_be_overridden(ros: Any) -> None:
    overrides = {
        'qos_overrides./front/image_raw.subscription.reliability': 'reliable',
        'qos_overrides./front/anomaly/mask.publisher.reliability': 'best_effort',
    }
    ros.maskomaly(**overrides)
    (subscription,) = ros.node.get_subscriptions_info_by_topic('/front/image_raw')
    (publisher,) = ros.node.get_publishers_info_by_topic('/front/anomaly/mask')
    assert subscription.qos_profile.reliability.name == 'RELIABLE'
    assert publisher.qos_profile.reliability.name == 'BEST_EFFORT'


def test_quality_of_service(ros: Any) -> None:
    ros.maskomaly()
    (subscription,) = ros.node.get_subscriptions_info_by_topic('/front/image_raw')
    assert subscription.qos_profile.reliability.name == 'BEST_EFFORT'
    for name in ('heatmap', 'mask', 'overlay', 'overlay/compressed'):
        (publisher,) = ros.node.get_publishers_info_by_topic(f'/front/anomaly/{name}')
        assert publisher.qos_profile.reliability.name == 'RELIABLE'
        assert publisher.qos_profile.durability.name == 'VOLATILE'


def test_regions_confine_each_camera_to_its_own(ros: Any, tmp_path: Path) -> None:
    ego = np.zeros((24, 32), np.uint8)
    ego[10:] = 255
    path = tmp_path / 'ego.png'
    path.write_bytes(bytes(cv2.imencode('.png', ego)[1]))
    node = ros.maskomaly(
        '/front/image_raw',
        '/rear/image_raw',
        road_regions=['0,0 12,0 12,23 0,23', ''],
        ego_regions=['', str(path)],
    )
    masks = [ros.listen(f'/{side}/anomaly/mask') for side in ('front', 'rear')]
    heatmap = ros.listen('/rear/anomaly/heatmap')
    cameras = [ros.camera(f'/{side}/image_raw') for side in ('front', 'rear')]
    for camera in cameras:
        camera.publish(ros.image(1))
    ros.spin_until(lambda: heatmap.messages and all(mask.messages for mask in masks))
    front, rear = BOX.copy(), BOX.copy()
    front[:, 13:] = 0
    rear[10:] = 0
    np.testing.assert_array_equal(pixels(masks[0].messages[0])[..., 0], front)
    np.testing.assert_array_equal(pixels(masks[1].messages[0])[..., 0], rear)
    assert not pixels(heatmap.messages[0], np.float32)[10:].any()

    cameras[1].publish(ros.image(2, ros.picture(24, 40)))
    ros.spin_until(lambda: counts(node, 1).get('bad') == 1)
    assert '32 x 24 pixels, but the frame has 40 x 24' in node.streams[1].observe().rejected
    cameras[1].publish(ros.image(3))
    ros.spin_until(lambda: stamps(masks[1].messages) == [1, 3])


def test_a_region_that_cannot_be_used_fails_configuring(
    ros: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ros.maskomaly(autostart=False)
    assert 'road_regions has 2 entries for 1' in set_parameters(ros, road_regions=['', '0,0 1,1'])
    assert set_parameters(ros, ego_regions=[str(tmp_path / 'missing.png')]) == ''
    assert not change_state(ros, 'configure')
    assert 'missing.png' in capfd.readouterr().err
    assert set_parameters(ros, ego_regions=['1,1 5,1 5,5']) == ''
    assert change_state(ros, 'configure')
    assert 'clean up' in set_parameters(ros, ego_regions=[''])


def test_scores_are_steadied_for_each_camera_when_asked_for(ros: Any) -> None:
    node = ros.maskomaly('/front/image_raw', '/rear/image_raw', minimum_obstacle_frames=2)
    sides = ('front', 'rear')
    masks = [ros.listen(f'/{side}/anomaly/mask') for side in sides]
    cameras = [ros.camera(f'/{side}/image_raw') for side in sides]
    sent = [0, 0]

    def result(side: int, red: bool = True) -> bool:
        """Return whether an obstacle is reported in the next frame, 0.1 s later."""
        sent[side] += 1
        cameras[side].publish(ros.image(sent[side] * 10**8, ros.picture(red=red)))
        ros.spin_until(lambda: len(masks[side].messages) == sent[side])
        return bool(pixels(masks[side].messages[-1]).any())

    assert [result(0), result(1), result(0), result(1)] == [False, False, True, True]
    assert [result(0, red=False), result(0)] == [False, True], 'it may be out of sight by now'
    assert result(1), 'undisturbed by the other camera'
    assert set_parameters(ros, minimum_obstacle_frames=1, temporal_filter='median') == ''
    assert [result(0), result(0), result(0, red=False)] == [True, True, True], 'two of three'
    assert not result(0, red=False)
    assert 'step: 2' in set_parameters(ros, temporal_window=4)
    node.trigger_deactivate()
    node.trigger_activate()
    ros.spin_until(cameras[0].get_subscription_count)
    assert result(0), 'it starts anew'
