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

"""What is lost of a damaged bag is counted, and damage costs no more than it must."""

from __future__ import annotations

import os
import re
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from maskomaly_ros.drives.find import find_drives
from maskomaly_ros.drives.open import open_source
from maskomaly_ros.drives.source import EVERY_CAMERA, Problem, RawMessage, SourceFrame
from maskomaly_ros.drives.storage import ros1
from maskomaly_ros.errors import MaskomalyError

pytest.importorskip('rosbags', reason='bags need rosbags')
FRONT = '/front/image_raw'


def read(path: Path, **options: Any) -> tuple[list[SourceFrame], list[Problem], int]:
    with open_source(path, **options) as source:
        return list(source), list(source.problems), len(source)


def check_count(frames: list[SourceFrame], problems: list[Problem], announced: int) -> None:
    assert len(frames) + sum(p.frames for p in problems) == announced


def split_bag(bags: Any, count: int = 24, files: int = 4) -> Path:
    """Return a bag of several files, as a recorder splits one."""
    import yaml

    from maskomaly_ros.replay.outputs import merge_metadata

    parts = []
    whole: Path | None = None
    for number in range(files):
        part = bags.write(f'part{number}', count=count // files, first=number * count // files)
        (file,) = part.glob('*.mcap')
        whole = whole or part.with_name('x')
        whole.mkdir(exist_ok=True)
        file.replace(whole / f'x_{number}.mcap')
        text = (part / 'metadata.yaml').read_text()
        information = yaml.safe_load(text)['rosbag2_bagfile_information']
        information['relative_file_paths'] = [f'x_{number}.mcap']
        information['files'][0]['path'] = f'x_{number}.mcap'
        parts.append(information)
    assert whole is not None
    text = yaml.safe_dump({'rosbag2_bagfile_information': merge_metadata(parts)})
    (whole / 'metadata.yaml').write_text(text)
    return whole


@pytest.mark.parametrize('has_metadata', [True, False])
def test_missing_file_of_a_split_bag_is_named(bags: Any, has_metadata: bool) -> None:
    path = split_bag(bags)
    (path / 'x_1.mcap').unlink()
    if not has_metadata:
        (path / 'metadata.yaml').unlink()
    frames, problems, announced = read(path, topics=FRONT)
    assert len(frames) == 18
    assert any('x_1.mcap is missing' in p.reason for p in problems)
    if has_metadata:
        assert announced == 24
        assert '24 frames announced, 18 read' in problems[-1].reason
    check_count(frames, problems, announced)


def test_damage_is_placed_where_it_is(bags: Any) -> None:
    path = split_bag(bags)
    file = path / 'x_1.mcap'
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    frames, problems, announced = read(path, topics=FRONT)
    assert 18 <= len(frames) < 24
    cut = next(p for p in problems if 'cut off' in p.reason)
    assert cut.reason.startswith('x_1.mcap')
    assert 5 <= cut.index < 12
    assert re.search(r'; \d+ messages of it are missing$', cut.reason)
    assert [f.index for f in frames] == list(range(len(frames)))
    check_count(frames, problems, announced)


def test_first_chunk_costs_only_itself(bags: Any) -> None:
    """Channels stand in the first chunk; the summary has them too."""
    path = bags.write('drive', 'mcap storage', noise=200_000)
    (file,) = path.glob('*.mcap')
    content = bytearray(file.read_bytes())
    place = content.index(b'\x28\xb5\x2f\xfd') + 40
    content[place : place + 40] = b'\xff' * 40
    file.write_bytes(content)
    frames, problems, announced = read(path, topics=EVERY_CAMERA)
    assert len(frames) >= announced - 16
    assert any('is lost with' in p.reason for p in problems)
    check_count(frames, problems, announced)


def spoil_mcap_record(content: bytearray) -> None:
    """Spoil a message inside the only chunk, and take the checksum of the chunk away."""
    place = content.index(FRONT.encode())
    chunk = content.rindex(b'\x06', 0, place)
    while struct.unpack_from('<Q', content, chunk + 1)[0] > len(content):
        chunk = content.rindex(b'\x06', 0, chunk)
    content[chunk + 33 : chunk + 37] = bytes(4)
    message = content.index(b'rgb8', len(content) // 3) - 80
    content[message : message + 60] = b'\xff' * 60


def spoil_ros1_record(content: bytearray) -> None:
    place = content.index(b'rgb8', len(content) // 3)
    header = content.rindex(b'op=\x02', 0, place)
    content[header - 4 : header + 4] = b'\xff' * 8


@pytest.mark.parametrize(
    ('kind', 'spoil'), [('mcap', spoil_mcap_record), ('ros1', spoil_ros1_record)]
)
def test_damaged_record_in_a_chunk_costs_only_itself(
    bags: Any, kind: str, spoil: Callable[[bytearray], None]
) -> None:
    path = file = bags.write('drive.bag' if kind == 'ros1' else 'drive', kind)
    if kind == 'mcap':
        (file,) = path.glob('*.mcap')
    content = bytearray(file.read_bytes())
    spoil(content)
    file.write_bytes(content)
    frames, problems, announced = read(path, topics=EVERY_CAMERA)
    assert announced == 40
    assert len(frames) >= 37, [p.reason for p in problems]
    assert problems
    check_count(frames, problems, announced)


def test_damaged_page_costs_only_its_rows(bags: Any) -> None:
    path = bags.write('drive', 'sqlite3')
    (file,) = path.glob('*.db3')
    with sqlite3.connect(file) as database:
        (size,) = database.execute('PRAGMA page_size').fetchone()
    content = bytearray(file.read_bytes())
    row = content.index(b'rgb8', len(content) // 2)
    page = row // size * size
    while content[page] != 0x0D:  # a leaf of a table
        page -= size
    content[page : page + 100] = b'\xff' * 100
    file.write_bytes(content)
    frames, problems, announced = read(path, topics=EVERY_CAMERA)
    assert announced == 40
    assert len(frames) >= 30, [p.reason for p in problems]
    check_count(frames, problems, announced)


@pytest.mark.parametrize('kind', ['mcap', 'ros1'])
def test_missing_bytes_cost_their_chunk(bags: Any, kind: str) -> None:
    """What follows is no longer where the index says, nor is the index where the file says."""
    path = file = bags.write('drive.bag' if kind == 'ros1' else 'drive', kind, noise=200_000)
    if kind == 'mcap':
        (file,) = path.glob('*.mcap')
    content = bytearray(file.read_bytes())
    place = content.index(b'rgb8', len(content) // 3)
    del content[place : place + 7]
    file.write_bytes(content)
    frames, problems, announced = read(path, topics=EVERY_CAMERA)
    assert announced == 40
    assert len(frames) >= 28, [p.reason for p in problems]
    check_count(frames, problems, announced)


@pytest.mark.parametrize('kind', ['mcap', 'ros1'])
def test_damaged_beginning_costs_little(bags: Any, kind: str) -> None:
    path = file = bags.write('drive.bag' if kind == 'ros1' else 'drive', kind, noise=200_000)
    if kind == 'mcap':
        (file,) = path.glob('*.mcap')
    content = bytearray(file.read_bytes())
    content[:30] = bytes(30)
    file.write_bytes(content)
    frames, problems, announced = read(path, topics=EVERY_CAMERA)
    assert announced == 40
    assert len(frames) >= 28, [p.reason for p in problems]
    assert any('does not begin like' in p.reason for p in problems)
    check_count(frames, problems, announced)


def test_index_of_a_ros1_bag_counts_what_its_chunks_no_longer_do(bags: Any) -> None:
    """The reader counts what it finds behind the chunks, and can be below what is read."""
    path = bags.write('drive.bag', 'ros1')
    content = bytearray(path.read_bytes())
    record = content.rindex(b'op=\x04')  # the last behind the only chunk: of the second camera
    place = content.index(b'conn=', record - 40)
    content[place + 5] += 50
    path.write_bytes(content)
    frames, problems, announced = read(path, topics=EVERY_CAMERA)
    assert announced == 40
    check_count(frames, problems, announced)


def test_cut_index_is_looked_through_once(bags: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was gone through anew from each of its last bytes."""
    path = bags.write('drive.bag', 'ros1')
    path.write_bytes(path.read_bytes()[:-150])
    asked = 0
    read_fields = ros1._fields

    def fields(data: bytes) -> dict[str, bytes]:
        nonlocal asked
        asked += 1
        return read_fields(data)

    monkeypatch.setattr(ros1, '_fields', fields)
    frames, problems, announced = read(path, topics=EVERY_CAMERA)
    assert len(frames) == announced == 40
    assert problems
    assert asked < 10_000


def test_frame_that_is_earlier_than_the_first_is_read(bags: Any) -> None:
    """Where what is left of a bag is read in the order of its file, any frame may be the first."""
    late = bags.write('late', count=5, first=5)
    bag = bags.write('bag', count=5)
    for part, name in ((late, 'x_0.mcap'), (bag, 'x_1.mcap')):
        (file,) = part.glob('*.mcap')
        file.replace(file.with_name(name))
    (late / 'x_0.mcap').replace(bag / 'x_0.mcap')
    (bag / 'metadata.yaml').unlink()
    content = (bag / 'x_1.mcap').read_bytes()
    (bag / 'x_1.mcap').write_bytes(content[:-20])
    frames, problems, announced = read(bag, topics=FRONT)
    assert [f.stamp_ns > frames[0].stamp_ns for f in frames] == [False] + [True] * 4 + [False] * 5
    check_count(frames, problems, announced)


def test_depth_is_no_camera(bags: Any) -> None:
    rgb8, depth = b'\5\0\0\0rgb8\0\0\0\0', b'\6\0\0\x0016UC1\0\0\0'
    path = bags.write(change=lambda index, topic, data: data.replace(rgb8, depth))
    with open_source(path, topics=EVERY_CAMERA) as source:
        assert source.topics == ('/rear/image_raw/compressed',)
        assert source.left_out == {FRONT: '16UC1 is no picture'}


def test_bag_that_does_not_define_images_is_read(bags: Any) -> None:
    path = bags.write('drive', 'sqlite3')
    (file,) = path.glob('*.db3')
    with sqlite3.connect(file) as database:
        database.execute("DELETE FROM message_definitions WHERE topic_type LIKE 'sensor_msgs%'")
    frames, problems, announced = read(path, topics=EVERY_CAMERA)
    assert (len(frames), problems, announced) == (40, [], 40)


def test_type_whose_parts_are_not_defined_is_not_copied(bags: Any) -> None:
    path = bags.write('drive', 'sqlite3')
    (file,) = path.glob('*.db3')
    with sqlite3.connect(file) as database:
        database.execute("UPDATE topics SET type = 'mine/msg/Thing' WHERE name = '/chatter'")
        database.execute(
            "UPDATE message_definitions SET topic_type = 'mine/msg/Thing', "
            "encoded_message_definition = 'mine/Part part' "
            "WHERE topic_type = 'std_msgs/msg/String'"
        )
    text = (path / 'metadata.yaml').read_text()
    (path / 'metadata.yaml').write_text(text.replace('std_msgs/msg/String', 'mine/msg/Thing'))
    with open_source(path, topics=EVERY_CAMERA, copy=['*']) as source:
        assert list(source.not_copied) == ['/chatter']
        assert not any(isinstance(i, RawMessage) for i in source.items())


@pytest.mark.parametrize('kind', ['mcap', 'ros1'])
def test_camera_message_that_cannot_be_decoded_is_passed_on(bags: Any, kind: str) -> None:
    name = 'drive.bag' if kind == 'ros1' else 'drive'
    path = bags.write(
        name, kind, count=3, change=lambda index, topic, data: data.replace(b'rgb8', b'rgb7')
    )
    with open_source(path, topics=FRONT) as source:
        assert list(source) == []
        messages = [p.message for p in source.problems]
    assert len(messages) == 3
    assert all(m is not None and b'rgb7' in m.data for m in messages)


def ppm(width: int, height: int) -> bytes:
    return b'P6 # made by hand\n%d %d\n255\n' % (width, height) + bytes(100)


def bmp(width: int, height: int) -> bytes:
    header = struct.pack('<2sIHHIIiiHHIIiiII', b'BM', 154, 0, 0, 54, 40, width, -height, 1, 24,
                         0, 0, 0, 0, 0, 0)  # fmt: skip
    return header + bytes(100)


def tiff(width: int, height: int) -> bytes:
    entries = (
        (256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 200), (278, height),
        (279, 100),
    )  # fmt: skip
    directory = b''.join(struct.pack('>HHII', tag, 4, 1, value) for tag, value in entries)
    return b'MM\0*' + struct.pack('>IH', 8, len(entries)) + directory + bytes(200)


@pytest.mark.parametrize(('suffix', 'make'), [('ppm', ppm), ('bmp', bmp), ('tiff', tiff)])
@pytest.mark.parametrize('named', ['suffix', 'jpg'])
def test_pictures_are_refused_by_their_header(
    tmp_path: Path, suffix: str, make: Callable[[int, int], bytes], named: str
) -> None:
    folder = tmp_path / 'images'
    folder.mkdir()
    cv2.imwrite(str(folder / '0.png'), np.zeros((4, 6, 3), np.uint8))
    cv2.imwrite(str(folder / '2.png'), np.zeros((4, 6, 3), np.uint8))
    name = f'1.{suffix if named == "suffix" else named}'
    (folder / name).write_bytes(make(60_000, 60_000))
    frames, (problem,), announced = read(folder)
    assert [f.index for f in frames] == [0, 2]
    assert '60000 x 60000 = 3600000000 pixels are more than the limit' in problem.reason
    check_count(frames, [problem], announced)
    (folder / name).write_bytes(make(40, 30)[:60])
    frames, problems, announced = read(folder)
    assert len(frames) + len(problems) == announced == 3


def test_pipe_is_no_picture(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / '0.png'), np.zeros((4, 6, 3), np.uint8))
    os.mkfifo(tmp_path / '1.png')
    frames, (problem,), _ = read(tmp_path)
    assert len(frames) == 1
    assert problem.reason == 'it is no file'


@pytest.mark.parametrize(
    ('codec', 'suffix'),
    [('libx264', 'mp4'), ('libx264', 'mkv'), ('libx264', 'h264'), ('libvpx-vp9', 'mp4'),
     ('libvpx-vp9', 'webm')],
)  # fmt: skip
def test_damage_that_decoders_take_for_a_picture_is_counted(
    tmp_path: Path, codec: str, suffix: str
) -> None:
    """FFmpeg logs what is wrong with H.264, and does not notice what is wrong with VP9."""
    av = pytest.importorskip('av', reason='videos need PyAV')
    path = tmp_path / f'clip.{suffix}'
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=5)
        stream.width, stream.height, stream.pix_fmt = 256, 192, 'yuv420p'
        for index in range(12):
            random = np.random.default_rng(index)
            blocks = random.integers(0, 255, (6, 8, 3), np.uint8)
            image = np.kron(blocks, np.ones((32, 32, 1), np.uint8))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        container.mux(stream.encode())
    assert read_video(path) == (12, [], None if suffix != 'mp4' else 12)
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][5]
        shown = packet.pts
        data = bytes(packet)
    content = bytearray(path.read_bytes())
    place = content.index(data) + len(data) // 2
    content[place : place + 20] = b'\x5a' * 20
    path.write_bytes(content)
    frames, problems, announced = read_video(path)
    assert 'the decoder says: ' in problems[0].reason
    if shown is not None:
        assert problems[0].index == round(shown * packet.time_base * 5)
    assert frames + sum(p.frames for p in problems) == 12
    assert announced in (12, None)


def read_video(path: Path) -> tuple[int, list[Problem], int | None]:
    with open_source(path) as source:
        frames = sum(1 for _ in source)
        try:
            return frames, list(source.problems), len(source)
        except TypeError:  # not every format counts its frames
            return frames, list(source.problems), None


def test_large_video_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    av = pytest.importorskip('av', reason='videos need PyAV')
    path = tmp_path / 'clip.mp4'
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=5)
        stream.width, stream.height, stream.pix_fmt = 256, 192, 'yuv420p'
        picture = av.VideoFrame.from_ndarray(np.zeros((192, 256, 3), np.uint8), format='rgb24')
        container.mux(stream.encode(picture))
        container.mux(stream.encode())
    with pytest.raises(MaskomalyError, match=r'256 x 192 = 49152 pixels are more than the limit'):
        open_source(path, max_pixels=49_151)
    with open_source(path, max_pixels=49_152) as source:
        assert len(list(source)) == 1


def test_links_lead_to_each_drive_once(tmp_path: Path) -> None:
    pytest.importorskip('fsspec', reason='mining needs fsspec')
    folder = tmp_path / 'fleet' / 'images'
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / '0.png'), np.zeros((4, 6, 3), np.uint8))
    (tmp_path / 'fleet' / 'again').symlink_to(folder)
    (tmp_path / 'fleet' / 'loop').symlink_to(tmp_path / 'fleet')
    drives = find_drives([str(tmp_path / 'fleet'), str(tmp_path / 'fleet' / 'again')])
    assert [drive.url for drive in drives] == [str(folder)]
    file, link = tmp_path / 'a.recording', tmp_path / 'b.recording'
    file.touch()
    link.symlink_to(file)
    assert [drive.url for drive in find_drives([str(file), str(link)])] == [str(file)]
