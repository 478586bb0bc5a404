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

"""Videos, folders of images and bags come out frame by frame, broken ones by name."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from maskomaly_ros.drives.open import open_source
from maskomaly_ros.drives.source import SourceFrame
from maskomaly_ros.errors import MaskomalyError

av = pytest.importorskip('av', reason='videos need PyAV')
rosbag1 = pytest.importorskip('rosbags.rosbag1', reason='bags need rosbags')
rosbag2 = pytest.importorskip('rosbags.rosbag2')
typesys = pytest.importorskip('rosbags.typesys')

HEIGHT, WIDTH = 48, 64


def picture(index: int) -> NDArray[np.uint8]:
    """Return a red-ish image whose left part is brighter the higher the index, RGB."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0] = 200
    image[:, : WIDTH // 2, 1] = 10 * index
    return image


def assert_is_picture(frame: SourceFrame, index: int, tolerance: int = 12) -> None:
    assert frame.image.dtype == np.uint8
    assert frame.image.shape == (HEIGHT, WIDTH, 3)
    difference = np.abs(frame.image.astype(int) - picture(index).astype(int))
    assert np.median(difference) <= tolerance
    assert difference.mean() <= tolerance


# --- folders of images -------------------------------------------------------------------------


def write_folder(folder: Path, count: int, suffix: str = '.png') -> Path:
    folder.mkdir()
    for index in range(count):
        cv2.imwrite(str(folder / f'frame{index}{suffix}'), picture(index)[..., ::-1])
    return folder


def test_folder_comes_in_natural_order_with_stamps_of_its_rate(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / 'images', 12)
    (folder / 'notes.txt').write_text('no image')
    with open_source(folder, rate=4) as source:
        assert len(source) == 12
        assert source.rate == 4
        assert source.topics == ()
        frames = list(source)
    assert [f.name for f in frames] == [f'frame{i}.png' for i in range(12)]
    assert [f.index for f in frames] == list(range(12))
    assert [f.stamp_ns for f in frames] == [i * 250_000_000 for i in range(12)]
    for index, frame in enumerate(frames):
        assert_is_picture(frame, index, tolerance=0)


@pytest.mark.parametrize('suffix', ['.PNG', '.bmp', '.ppm', '.tiff', '.webp'])
def test_image_formats(tmp_path: Path, suffix: str) -> None:
    folder = write_folder(tmp_path / 'images', 2, suffix)
    (folder / f'frame1{suffix}').write_bytes(b'BM damaged')
    with open_source(folder) as source:
        (frame,) = source
        assert [p.index for p in source.problems] == [1]
    assert_is_picture(frame, 0)


def test_each_iteration_starts_from_the_beginning(tmp_path: Path) -> None:
    with open_source(write_folder(tmp_path / 'images', 3)) as source:
        first = next(iter(source))
        assert [f.index for f in source] == [0, 1, 2]
        assert first.index == 0


@pytest.mark.parametrize('damage', ['no image', 'cut off', 'empty'])
def test_broken_image_is_named_and_the_rest_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    folder = write_folder(tmp_path / 'images', 4, '.jpg')
    broken = folder / 'frame1.jpg'
    content = {
        'no image': b'not a jpeg at all',
        'cut off': broken.read_bytes()[: broken.stat().st_size // 2],
        'empty': b'',
    }[damage]
    broken.write_bytes(content)
    with open_source(folder) as source, caplog.at_level(logging.WARNING):
        assert [f.index for f in source] == [0, 2, 3]
        assert [(p.index, p.name) for p in source.problems] == [(1, 'frame1.jpg')]
        assert source.problems[0].reason
        assert 'frame1.jpg' in caplog.text
        list(source)
        assert len(source.problems) == 1  # counted anew in each iteration


def test_grey_and_palette_images_become_rgb(tmp_path: Path) -> None:
    folder = tmp_path / 'images'
    folder.mkdir()
    cv2.imwrite(str(folder / 'grey.png'), np.full((4, 6), 77, np.uint8))
    with open_source(folder) as source:
        (frame,) = source
    assert frame.image.shape == (4, 6, 3)
    assert (frame.image == 77).all()


# --- videos ------------------------------------------------------------------------------------


def write_video(path: Path, count: int, rate: int = 5, codec: str = 'libx264') -> Path:
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
        if codec == 'libx264':  # every frame a key frame, so that damage stays in one place
            stream.options = {'g': '1', 'bf': '0', 'crf': '10'}
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture(index), format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def packet_places(path: Path) -> list[tuple[int, int]]:
    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size]


def test_video_comes_whole_with_the_times_of_the_file(tmp_path: Path) -> None:
    with open_source(write_video(tmp_path / 'clip.mp4', 20)) as source:
        assert len(source) == 20
        assert source.rate == pytest.approx(5)
        frames = list(source)
    assert [f.index for f in frames] == list(range(20))
    assert [f.stamp_ns for f in frames] == [i * 200_000_000 for i in range(20)]
    assert source.problems == []
    for index, frame in enumerate(frames):
        assert_is_picture(frame, index)


def test_video_written_by_opencv_is_read(tmp_path: Path) -> None:
    path = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 8, (WIDTH, HEIGHT))  # type: ignore[attr-defined]
    for index in range(6):
        writer.write(picture(index)[..., ::-1])
    writer.release()
    with open_source(path, rate=2) as source:
        frames = list(source)
    assert [f.stamp_ns for f in frames] == [i * 500_000_000 for i in range(6)]
    for index, frame in enumerate(frames):
        assert_is_picture(frame, index)


def test_damaged_packet_costs_one_frame_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_video(tmp_path / 'clip.mp4', 12)
    offset, size = packet_places(path)[5]
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = b'\xff' * size
    path.write_bytes(content)
    with open_source(path) as source, caplog.at_level(logging.WARNING):
        frames = list(source)
    assert [p.index for p in source.problems] == [5]
    assert 'frame 5' in caplog.text
    assert [f.index for f in frames] == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    for frame in frames:
        assert_is_picture(frame, frame.index)


@pytest.mark.parametrize('share', [0.3, 0.6])
def test_video_without_a_count_that_ends_early_says_so(tmp_path: Path, share: float) -> None:
    """Matroska announces seconds, not frames, and FFmpeg takes its sudden end for the end."""
    path = write_video(tmp_path / 'clip.mkv', 25)
    with open_source(path) as source:
        assert len(list(source)) == 25
        assert source.problems == []
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with open_source(path) as source:
        assert len(list(source)) < 25
        (problem,) = source.problems
    assert re.search('ends here, at .* s, but announces', problem.reason)


def test_video_that_ends_early_says_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / 'clip.avi', 12, codec='mpeg4')
    offset, _ = packet_places(path)[8]
    path.write_bytes(path.read_bytes()[:offset])
    with open_source(path) as source:
        frames = list(source)
    assert 0 < len(frames) <= 8
    assert source.problems


# --- bags --------------------------------------------------------------------------------------

STORE = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
STORE1 = typesys.get_typestore(typesys.Stores.ROS1_NOETIC)
RAW, COMPRESSED, OTHER = (
    'sensor_msgs/msg/Image',
    'sensor_msgs/msg/CompressedImage',
    'std_msgs/msg/String',
)


def header(store: Any, stamp_ns: int, frame_id: str) -> Any:
    time = store.types['builtin_interfaces/msg/Time']
    make = store.types['std_msgs/msg/Header']
    stamp = time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    extra = {'seq': 0} if 'seq' in make.__dataclass_fields__ else {}
    return make(stamp=stamp, frame_id=frame_id, **extra)


def raw_image(store: Any, index: int, stamp_ns: int, encoding: str = 'rgb8') -> Any:
    return store.types[RAW](
        header=header(store, stamp_ns, 'front_camera'),
        height=HEIGHT,
        width=WIDTH,
        encoding=encoding,
        is_bigendian=0,
        step=WIDTH * 3,
        data=picture(index).reshape(-1),
    )


def jpeg_image(store: Any, index: int, stamp_ns: int) -> Any:
    data = cv2.imencode('.jpg', picture(index)[..., ::-1])[1].reshape(-1)
    return store.types[COMPRESSED](
        header=header(store, stamp_ns, 'rear_camera'), format='jpeg', data=data
    )


def stamp_of(index: int) -> int:
    return 1_700_000_000_000_000_000 + index * 100_000_000


def write_bag(
    path: Path,
    kind: str,
    count: int = 10,
    encodings: dict[int, str] | None = None,
    corrupt: int | None = None,
) -> Path:
    """Write a bag with a raw topic, a compressed topic, and a topic without images."""
    ros1 = kind == 'ros1'
    store = STORE1 if ros1 else STORE
    if ros1:
        writer = rosbag1.Writer(path)
    else:
        plugin = rosbag2.StoragePlugin.MCAP if 'mcap' in kind else rosbag2.StoragePlugin.SQLITE3
        writer = rosbag2.Writer(path, version=9, storage_plugin=plugin)
        if 'zstd' in kind:
            writer.set_compression(rosbag2.CompressionMode.MESSAGE, rosbag2.CompressionFormat.ZSTD)
    serialize: Callable[[Any, str], Any] = store.serialize_ros1 if ros1 else store.serialize_cdr
    with writer:
        other = writer.add_connection('/chatter', OTHER, typestore=store)
        front = writer.add_connection('/front/image_raw', RAW, typestore=store)
        rear = writer.add_connection('/rear/image_raw/compressed', COMPRESSED, typestore=store)
        for index in range(count):
            stamp = stamp_of(index)
            received = stamp + 7_000_000
            text = store.types[OTHER](data='hello')
            writer.write(other, received, serialize(text, OTHER))
            encoding = (encodings or {}).get(index, 'rgb8')
            data = bytes(serialize(raw_image(store, index, stamp, encoding), RAW))
            writer.write(front, received, data[:40] if index == corrupt else data)
            data = serialize(jpeg_image(store, index, stamp + 1), COMPRESSED)
            writer.write(rear, received + 1, data)
    return path


@pytest.mark.parametrize(
    'kind', ['sqlite3', 'mcap', 'sqlite3 zstd', 'mcap file', 'sqlite3 file', 'no metadata', 'ros1']
)
def test_first_image_topic_comes_with_its_own_stamps(tmp_path: Path, kind: str) -> None:
    path = write_bag(tmp_path / ('drive.bag' if kind == 'ros1' else 'drive'), kind)
    if 'file' in kind:
        (path,) = [p for p in path.iterdir() if p.suffix in ('.mcap', '.db3')]
    if kind == 'no metadata':
        (path / 'metadata.yaml').unlink()
    with open_source(path) as source:
        assert source.topics == ('/front/image_raw',)
        assert len(source) == 10
        assert source.rate == pytest.approx(10, rel=0.02)
        frames = list(source)
        assert [f.index for f in source] == list(range(10))  # a second time
    assert [f.stamp_ns for f in frames] == [stamp_of(i) for i in range(10)]
    assert {f.frame_id for f in frames} == {'front_camera'}
    assert {f.topic for f in frames} == {'/front/image_raw'}
    for index, frame in enumerate(frames):
        assert_is_picture(frame, index, tolerance=0)


def test_several_topics_come_in_order_of_time(tmp_path: Path) -> None:
    topics = ['/rear/image_raw/compressed', '/front/image_raw']
    with open_source(write_bag(tmp_path / 'drive', 'mcap'), topics=topics) as source:
        assert set(source.topics) == set(topics)
        assert len(source) == 20
        assert source.rate == pytest.approx(10, rel=0.02)
        frames = list(source)
    assert [f.topic for f in frames] == [topics[1], topics[0]] * 10
    assert [f.index for f in frames] == list(range(20))
    assert frames[1].frame_id == 'rear_camera'
    for index, frame in enumerate(frames):
        assert_is_picture(frame, index // 2)


def test_one_topic_can_be_named_alone(tmp_path: Path) -> None:
    path = write_bag(tmp_path / 'drive', 'sqlite3')
    with open_source(path, topics='/rear/image_raw/compressed') as source:
        assert [f.stamp_ns for f in source] == [stamp_of(i) + 1 for i in range(10)]


def test_message_without_stamp_takes_the_time_of_recording(tmp_path: Path) -> None:
    path = tmp_path / 'drive'
    with rosbag2.Writer(path, version=9) as writer:
        connection = writer.add_connection('/camera', RAW, typestore=STORE)
        writer.write(connection, 123_456, STORE.serialize_cdr(raw_image(STORE, 0, 0), RAW))
    with open_source(path) as source:
        (frame,) = source
    assert frame.stamp_ns == 123_456


@pytest.mark.parametrize('kind', ['sqlite3', 'mcap', 'ros1'])
def test_bad_messages_are_named_and_the_rest_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    path = tmp_path / ('drive.bag' if kind == 'ros1' else 'drive')
    write_bag(path, kind, encodings={3: 'rgb7'}, corrupt=6)
    with open_source(path) as source, caplog.at_level(logging.WARNING):
        frames = list(source)
    assert [f.index for f in frames] == [0, 1, 2, 4, 5, 7, 8, 9]
    assert [p.index for p in source.problems] == [3, 6]
    assert 'rgb7' in source.problems[0].reason
    assert '/front/image_raw message 6' in caplog.text


def test_mcap_that_was_cut_off_gives_what_it_holds(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / 'drive', 'mcap')
    (file,) = folder.glob('*.mcap')
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for path in (folder, file):
        with open_source(path) as source:
            frames = list(source)
        assert 0 < len(frames) < 10
        assert [f.index for f in frames] == list(range(len(frames)))
        assert 'cut off at byte' in source.problems[0].reason
        lost = sum(p.frames for p in source.problems)
        assert lost == (10 - len(frames) if path == folder else 0)  # the metadata counts them


def test_mcap_that_was_cut_off_at_once_says_how_to_repair(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / 'drive', 'mcap')
    (file,) = folder.glob('*.mcap')
    file.write_bytes(file.read_bytes()[:100])
    for path in (folder, file):
        with pytest.raises(MaskomalyError, match='recover'):
            open_source(path)


def test_bag_without_images_lists_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / 'drive'
    with rosbag2.Writer(path, version=9) as writer:
        connection = writer.add_connection('/chatter', OTHER, typestore=STORE)
        text = STORE.types[OTHER](data='hello')
        writer.write(connection, 1, STORE.serialize_cdr(text, OTHER))
    with pytest.raises(MaskomalyError, match=r'no image topic.*/chatter \(std_msgs/msg/String\)'):
        open_source(path)


@pytest.mark.parametrize('topic', ['/nothing', '/chatter'])
def test_wrong_topic_lists_what_there_is(tmp_path: Path, topic: str) -> None:
    path = write_bag(tmp_path / 'drive', 'mcap', count=1)
    with pytest.raises(MaskomalyError, match=rf'{topic}; it holds .*/front/image_raw'):
        open_source(path, topics=[topic])


# --- wrong paths -------------------------------------------------------------------------------


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(MaskomalyError, match=r'nowhere\.mp4 does not exist'):
        open_source(tmp_path / 'nowhere.mp4')


def test_unknown_format(tmp_path: Path) -> None:
    path = tmp_path / 'notes.txt'
    path.write_text('This is no video.')
    with pytest.raises(MaskomalyError, match=r'notes\.txt is neither a video'):
        open_source(path)


def test_empty_folder_names_the_folders_inside(tmp_path: Path) -> None:
    write_folder(tmp_path / 'images', 1)
    with pytest.raises(MaskomalyError, match=r'no images.* it has folders images'):
        open_source(tmp_path)


def test_folder_with_bags_of_two_kinds_is_ambiguous(tmp_path: Path) -> None:
    (tmp_path / 'a.mcap').touch()
    (tmp_path / 'b.bag').touch()
    with pytest.raises(MaskomalyError, match=r'a\.mcap, b\.bag'):
        open_source(tmp_path)


def test_rate_and_topics_are_refused_where_they_mean_nothing(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / 'images', 1)
    with pytest.raises(MaskomalyError, match='rate 0'):
        open_source(folder, rate=0)
    with pytest.raises(MaskomalyError, match='no bag'):
        open_source(folder, topics=['/camera'])
    bag = write_bag(tmp_path / 'drive', 'mcap', count=1)
    with pytest.raises(MaskomalyError, match='leave rate out'):
        open_source(bag, rate=5)


# --- real recordings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('name', 'count', 'shape'),
    [
        ('solidWhiteRight.mp4', 221, (540, 960, 3)),
        ('vehicle_detection_test_video.mp4', 38, (720, 1280, 3)),
    ],
)
def test_real_clips(shared: Path, name: str, count: int, shape: tuple[int, ...]) -> None:
    with open_source(shared / 'data' / 'clips' / name) as source:
        assert len(source) == count
        assert source.rate == pytest.approx(25, rel=0.01)
        stamps = []
        for frame in source:
            assert frame.image.shape == shape
            stamps.append(frame.stamp_ns)
    assert len(stamps) == count
    assert (np.diff(stamps) > 0).all()
    assert source.problems == []


def test_real_folder_is_consecutive(shared: Path) -> None:
    with open_source(shared / 'data' / 'camvid' / 'val' / 'images', rate=15) as source:
        names = [frame.name for frame in source]
    assert len(names) == len(source) == 101
    assert names == sorted(names)
