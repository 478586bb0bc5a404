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

"""Bags as recorders, tools and accidents leave them: every frame that is there is found."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from maskomaly_ros.detector import Detector
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.replay.outputs import merge_metadata
from maskomaly_ros.replay.run import ReplayOptions, ReplaySummary, read_journal, replay

highlevel = pytest.importorskip('rosbags.highlevel', reason='bags need rosbags')

FRONT, REAR = '/front/image_raw', '/rear/image_raw/compressed'
COUNT = 8


def found(source: Path, out: Path, detector: Detector, **options: Any) -> list[tuple[Any, ...]]:
    """Replay a bag without problems; return what was found in each frame."""
    summary = replay(source, out, ReplayOptions(('csv',), **options), detector=detector)
    assert (summary.problems, summary.is_complete) == ((), True)
    return [(f.camera, f.stamp_ns, f.area, f.obstacles) for f in read_journal(out).frames()]


def information(bag: Path) -> dict[str, Any]:
    content = yaml.safe_load((bag / 'metadata.yaml').read_text())
    return dict(content['rosbag2_bagfile_information'])


def write_information(bag: Path, values: dict[str, Any]) -> None:
    (bag / 'metadata.yaml').write_text(yaml.safe_dump({'rosbag2_bagfile_information': values}))


def write_mcap(source: Path, path: Path, **options: Any) -> None:
    """Write the messages of a bag with the library of the MCAP project."""
    writing = pytest.importorskip('mcap.writer', reason='foreign MCAP files need mcap')
    with highlevel.AnyReader([source]) as reader, path.open('wb') as stream:
        writer = writing.Writer(stream, chunk_size=20_000, **options)
        writer.start(profile='ros2')
        channels = {}
        for connection in reader.connections:
            schema = writer.register_schema(
                connection.msgtype, 'ros2msg', connection.msgdef.data.encode()
            )
            channels[connection.topic] = writer.register_channel(connection.topic, 'cdr', schema)
        for connection, received_ns, data in reader.messages():
            writer.add_message(
                channels[connection.topic], received_ns, bytes(data), publish_time=received_ns
            )
        writer.finish()


@pytest.mark.parametrize('compression', ['LZ4', 'ZSTD', 'NONE'])
@pytest.mark.parametrize('is_indexed', [True, False])
def test_mcap_of_other_writers(
    bags: Any, detector: Detector, tmp_path: Path, compression: str, is_indexed: bool
) -> None:
    writing = pytest.importorskip('mcap.writer', reason='foreign MCAP files need mcap')
    source, path = bags.write(count=COUNT), tmp_path / 'other.mcap'
    options: dict[str, Any] = {'compression': writing.CompressionType[compression]}
    if not is_indexed:
        options |= {'index_types': writing.IndexType.NONE, 'use_statistics': False}
        options |= {'use_summary_offsets': False, 'repeat_channels': False}
        options |= {'repeat_schemas': False}
    write_mcap(source, path, **options)
    expected = found(source, tmp_path / 'expected', detector)
    summary = replay(path, tmp_path / 'out', ReplayOptions(('csv',)), detector=detector)
    frames = read_journal(tmp_path / 'out').frames()
    assert [(f.camera, f.stamp_ns, f.area, f.obstacles) for f in frames] == expected
    assert summary.is_complete
    assert summary.problems == ()


@pytest.mark.parametrize('kind', ['mcap', 'sqlite3', 'sqlite3 zstd', 'sqlite3 file', 'mcap file'])
def test_split_bag(bags: Any, detector: Detector, tmp_path: Path, kind: str) -> None:
    """A bag of two files, of which the second goes on where the first ends."""
    whole = bags.write('whole', kind, 2 * COUNT)
    expected = found(whole, tmp_path / 'expected', detector)
    split = bags.write('drive_0', kind, COUNT)
    later = bags.write('drive_1', kind, COUNT, first=COUNT)
    parts = [information(split), information(later)]
    for part, folder in zip(parts, (split, later), strict=True):
        for file in (*folder.glob('*.db3*'), *folder.glob('*.mcap*')):
            shutil.move(file, split / file.name)
        for file in part['files']:
            assert (split / file['path']).exists() or (split / f'{file["path"]}.zstd').exists()
    write_information(split, merge_metadata(parts))
    assert found(split, tmp_path / 'out', detector) == expected
    (split / 'metadata.yaml').unlink()
    assert found(split, tmp_path / 'bare', detector) == expected


@pytest.mark.parametrize('batch_size', [2, 3, 5])
def test_batches_of_cameras_of_different_sizes(
    bags: Any, detector: Detector, tmp_path: Path, batch_size: int
) -> None:
    source = bags.write(count=COUNT, enlarge=2)
    expected = found(source, tmp_path / 'one', detector)
    many = found(source, tmp_path / 'many', detector, batch_size=batch_size)
    assert many == expected
    sizes = {(f.camera, f.height, f.width) for f in read_journal(tmp_path / 'many').frames()}
    assert sizes == {(FRONT, 48, 64), (REAR, 96, 128)}


def lying_counts(values: dict[str, Any]) -> None:
    values['message_count'] *= 7
    for topic in values['topics_with_message_count']:
        topic['message_count'] *= 7


def lying_times(values: dict[str, Any]) -> None:
    values['starting_time'] = {'nanoseconds_since_epoch': 5}
    values['duration'] = {'nanoseconds': 1}
    for file in values['files']:
        file['starting_time'], file['duration'] = values['starting_time'], values['duration']


def missing_file(values: dict[str, Any]) -> None:
    values['relative_file_paths'].append('drive_1.mcap')


def other_compression(values: dict[str, Any]) -> None:
    values |= {'compression_format': 'zstd', 'compression_mode': 'FILE'}


def other_storage(values: dict[str, Any]) -> None:
    values['storage_identifier'] = 'sqlite3'


def unknown_version(values: dict[str, Any]) -> None:
    values['version'] = 99


@pytest.mark.parametrize(
    'lie',
    [
        lying_counts,
        lying_times,
        missing_file,
        other_compression,
        other_storage,
        unknown_version,
    ],
)
@pytest.mark.parametrize('kind', ['mcap', 'sqlite3'])
def test_metadata_that_lies(
    bags: Any,
    detector: Detector,
    tmp_path: Path,
    kind: str,
    lie: Callable[[dict[str, Any]], None],
) -> None:
    """No frame is lost; what was found to be wrong may be named."""
    source, out = bags.write('drive', kind, COUNT), tmp_path / 'out'
    values = information(source)
    lie(values)
    write_information(source, values)
    summary = replay(source, out, ReplayOptions(('bag', 'csv')), detector=detector)
    assert (summary.frames, summary.is_complete) == (2 * COUNT, True), summary.problems
    stamps = [f.stamp_ns for f in read_journal(out).frames()]
    assert stamps == sorted(set(stamps))


@pytest.mark.parametrize('kind', ['mcap', 'sqlite3'])
def test_metadata_that_is_no_metadata(
    bags: Any, detector: Detector, tmp_path: Path, kind: str
) -> None:
    for number, content in enumerate(('', '\x00\x01', '[1, 2', 'rosbag2_bagfile_information: 3')):
        source = bags.write(f'drive{number}', kind, 2)
        (source / 'metadata.yaml').write_text(content)
        out = tmp_path / f'out{number}'
        summary = replay(source, out, ReplayOptions(('csv',)), detector=detector)
        assert (summary.frames, summary.is_complete) == (4, True)


def attempt(path: Path, out: Path, detector: Detector) -> ReplaySummary | None:
    """Replay a damaged bag; None where it is refused, with its name."""
    try:
        return replay(path, out, ReplayOptions(('csv',)), detector=detector)
    except MaskomalyError as error:
        if str(path) not in str(error):
            raise
        return None


@pytest.mark.parametrize(
    'kind', ['mcap', 'mcap storage', 'mcap file', 'sqlite3', 'sqlite3 zstd', 'ros1']
)
def test_bag_that_is_cut_off_anywhere(
    bags: Any, detector: Detector, tmp_path: Path, kind: str
) -> None:
    """Twenty places: each gives a run of the first frames and says so, or one clear refusal."""
    path = bags.write('drive.bag' if kind == 'ros1' else 'drive', kind, COUNT, noise=20_000)
    expected = [row[:3] for row in found(path, tmp_path / 'whole', detector)]
    file = (
        next((p for p in path.iterdir() if p.suffix != '.yaml'), path) if path.is_dir() else path
    )
    content = file.read_bytes()
    places = random.Random(kind)
    frames = 0
    for number in range(20):
        file.write_bytes(content[: places.randrange(len(content))])
        out = tmp_path / f'out{number}'
        summary = attempt(path, out, detector)
        if summary is None:
            continue
        assert summary.is_complete
        rows = [(f.camera, f.stamp_ns, f.area) for f in read_journal(out).frames()]
        assert rows == expected[: len(rows)]
        assert bool(summary.problems) or len(rows) == len(expected)
        frames += len(rows)
    # The index at the end takes some space, and files that are compressed as a whole a block.
    assert frames > 20 * 2 * COUNT * 0.1


@pytest.mark.parametrize('kind', ['mcap', 'mcap storage', 'sqlite3', 'sqlite3 zstd', 'ros1'])
def test_bag_with_damaged_bytes(bags: Any, detector: Detector, tmp_path: Path, kind: str) -> None:
    """Noise in twenty places: never an unnamed end, nor a frame twice."""
    path = bags.write('drive.bag' if kind == 'ros1' else 'drive', kind, COUNT, noise=20_000)
    file = next(p for p in path.iterdir() if p.suffix != '.yaml') if path.is_dir() else path
    content = file.read_bytes()
    places = random.Random(kind)
    for number in range(20):
        place = places.randrange(len(content) - 64)
        file.write_bytes(content[:place] + places.randbytes(64) + content[place + 64 :])
        out = tmp_path / f'out{number}'
        summary = attempt(path, out, detector)
        if summary is None:
            continue
        assert summary.is_complete
        indices = [f.index for f in read_journal(out).frames()]
        assert indices == sorted(set(indices))
        assert len(indices) <= 2 * COUNT
        assert len(indices) == 2 * COUNT or summary.problems


def test_bag_without_frames(bags: Any, detector: Detector, tmp_path: Path) -> None:
    for kind in ('mcap', 'sqlite3', 'ros1'):
        source = bags.write(f'{kind}.bag' if kind == 'ros1' else kind, kind, 0)
        with pytest.raises(MaskomalyError, match=r'no camera topic: .*no messages'):
            replay(source, tmp_path / 'out', ReplayOptions(('csv',)), detector=detector)
        options = ReplayOptions(topics=(FRONT,))
        out = tmp_path / f'out {kind}'
        summary = replay(source, out, options, detector=detector)
        assert (summary.frames, summary.is_complete) == (0, True)
        assert (out / 'report.html').exists()
    empty = tmp_path / 'empty.mcap'
    empty.touch()
    with pytest.raises(MaskomalyError, match='cannot read the bag'):
        replay(empty, tmp_path / 'out', ReplayOptions(('csv',)), detector=detector)


def test_names_with_blanks_and_letters_of_all_kinds(
    bags: Any, detector: Detector, tmp_path: Path
) -> None:
    folder = tmp_path / 'Fahrt über die Brücke [1] % # & 東京'
    folder.mkdir()
    bags.folder = folder
    source = bags.write('große Fahrt', count=3)
    out = folder / 'Ergebnis & more'
    options = ReplayOptions(('bag', 'video', 'scores', 'csv', 'html'))
    summary = replay(source, out, options, detector=detector)
    assert (summary.frames, summary.problems) == (6, ())
    with highlevel.AnyReader([out / 'bag']) as reader:
        assert sum(1 for _ in reader.messages()) == 6 + 4 * 6  # with the obstacles
    assert np.asarray(list(out.glob('overlay_*.mp4'))).size == 2


def test_folder_of_images_of_all_kinds(detector: Detector, tmp_path: Path) -> None:
    """A picture of any depth, channels and size becomes a frame; the rest is named."""
    image = pytest.importorskip('PIL.Image', reason='odd images are made with pillow')
    folder, out = tmp_path / 'odd', tmp_path / 'out'
    folder.mkdir()
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    picture = image.fromarray(rgb)
    cv2.imwrite(str(folder / '16bit.png'), rgb.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / 'grey16.png'), rgb[..., 0].astype(np.uint16) * 257)
    cv2.imwrite(str(folder / 'line.png'), rgb[:1])
    for mode, name in (
        ('L', 'grey.png'), ('1', 'bit.png'), ('P', 'palette.png'), ('LA', 'grey_alpha.png'),
        ('RGBA', 'alpha.png'), ('CMYK', 'cmyk.jpg'), ('RGB', 'plain.webp'), ('RGB', 'plain.tif'),
    ):  # fmt: skip
        picture.convert(mode).save(folder / name)
    whole = {path.name for path in folder.iterdir()}
    for name in ('plain.webp', 'plain.tif', 'alpha.png', 'cmyk.jpg'):
        content = (folder / name).read_bytes()
        (folder / f'cut_{name}').write_bytes(content[: len(content) // 3])
    (folder / 'empty.png').touch()
    (folder / 'text.jpg').write_text('no picture')
    (folder / 'gone.png').symlink_to('nowhere.png')
    (folder / 'folder.png').mkdir()
    options = ReplayOptions(('bag', 'video', 'scores', 'csv', 'html'))
    summary = replay(folder, out, options, detector=detector)
    assert summary.is_complete
    assert {f.name for f in read_journal(out).frames()} == whole
    lost = {problem.name for problem in summary.problems}
    assert lost == {path.name for path in folder.iterdir()} - whole
    assert all(problem.reason for problem in summary.problems)
    assert len(list((out / 'scores').rglob('*.png'))) == len(whole)


def test_video_of_a_rate_that_varies(detector: Detector, tmp_path: Path) -> None:
    av = pytest.importorskip('av', reason='videos need PyAV')
    path, times = tmp_path / 'varying.mp4', (0, 33, 66, 400, 410, 1000, 5000, 5033)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, milliseconds in enumerate(times):
            pixels = np.full((48, 64, 3), 20 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels)
            frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    rows = found(path, tmp_path / 'out', detector)
    assert [round(row[1] / 1e6) for row in rows] == list(times)


def test_output_that_cannot_be_written_to(bags: Any, detector: Detector, tmp_path: Path) -> None:
    source, file = bags.write(count=1), tmp_path / 'file'
    file.write_text('keep me')
    options = ReplayOptions(('csv',), restart=True)
    for out, reason in (
        (file, 'holds no replay'),
        (file / 'below', 'cannot write .*Not a directory'),
        (source, 'holds no replay'),
    ):
        with pytest.raises(MaskomalyError, match=reason):
            replay(source, out, options, detector=detector)
    assert file.read_text() == 'keep me'
    disk = tmp_path / 'disk'
    disk.mkdir()
    mount, umount = shutil.which('mount'), shutil.which('umount')
    command = [str(mount), '-t', 'tmpfs', '-o', 'ro', 'tmpfs', str(disk)]
    if not mount or not umount or subprocess.run(command, capture_output=True).returncode:
        pytest.skip('a read-only disk can only be mounted by root')
    try:
        with pytest.raises(MaskomalyError, match=r'cannot write .*Read-only file system'):
            replay(source, disk / 'out', options, detector=detector)
    finally:
        subprocess.run([umount, str(disk)], check=True)
