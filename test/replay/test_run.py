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

"""Every frame of a drive is processed and written once, whatever happens meanwhile."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import shutil
import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from maskomaly_ros.detector import Detector
from maskomaly_ros.drives.open import open_source
from maskomaly_ros.drives.piece import Piece
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.replay.preview import preview
from maskomaly_ros.replay.run import ReplayOptions, read_journal, replay
from maskomaly_ros.topics import file_name

pytest.importorskip('av', reason='videos need PyAV')
rosbags = pytest.importorskip('rosbags.highlevel', reason='bags need rosbags')

FRONT, REAR = '/front/image_raw', '/rear/image_raw/compressed'
ALL = ('bag', 'video', 'scores', 'csv', 'html')
COUNT = 20


def rows(folder: Path, name: str = 'frames') -> list[dict[str, str]]:
    with (folder / f'{name}.csv').open(encoding='utf-8') as file:
        return list(csv.DictReader(file))


def messages(bag: Path) -> list[tuple[str, int, Any, bytes]]:
    """Return topic, time, message and bytes of all messages of a bag."""
    with rosbags.AnyReader([bag]) as reader:
        return [
            (c.topic, t, reader.deserialize(data, c.msgtype), bytes(data))
            for c, t, data in reader.messages()
        ]


def raw_messages(bag: Path) -> list[tuple[str, int, None, bytes]]:
    """Return topic, time and bytes of all messages of a bag, which may be damaged."""
    with rosbags.AnyReader([bag]) as reader:
        return [(c.topic, t, None, bytes(data)) for c, t, data in reader.messages()]


def stamp_of(message: Any) -> int:
    return int(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)


class StopAfter:
    """A progress callback that stops the replay."""

    def __init__(self, frames: int) -> None:
        self.stop = threading.Event()
        self._frames = frames

    def __call__(self, done: int, total: int | None) -> None:
        if done >= self._frames:
            self.stop.set()


def test_bag_has_the_cameras_and_our_topics_with_their_stamps(
    bags: Any, detector: Detector, tmp_path: Path
) -> None:
    source = bags.write()
    options = ReplayOptions(
        ('bag',), bag_topics=('heatmap', 'mask', 'overlay', 'overlay/compressed')
    )
    summary = replay(source, tmp_path / 'out', options, detector=detector)
    assert (summary.frames, summary.problems, summary.is_complete) == (2 * COUNT, (), True)
    assert summary.left_out == {}
    recorded = [m for m in messages(source) if m[0] != '/chatter']
    written = messages(tmp_path / 'out' / 'bag')
    assert [m[3] for m in written if m[0] in (FRONT, REAR)] == [m[3] for m in recorded]
    ours = ('heatmap', 'mask', 'overlay', 'overlay/compressed')
    assert Counter(m[0] for m in written) == {
        FRONT: COUNT,
        REAR: COUNT,
        **{f'/{side}/anomaly/{name}': COUNT for side in ('front', 'rear') for name in ours},
    }
    for topic, time_ns, message, _ in recorded:
        outputs = [m for m in written if m[1] == time_ns and '/anomaly/' in m[0]]
        assert len(outputs) == 4
        assert {stamp_of(m[2]) for m in outputs} == {stamp_of(message)}
        assert {m[2].header.frame_id for m in outputs} == {message.header.frame_id}
        assert {m[0].split('/')[1] for m in outputs} == {topic.split('/')[1]}
    heatmap = next(m[2] for m in written if m[0] == '/front/anomaly/heatmap')
    with open_source(source) as frames:
        (expected,) = detector.detect([next(iter(frames)).image])
    assert (heatmap.encoding, heatmap.height, heatmap.width) == ('32FC1', 48, 64)
    np.testing.assert_array_equal(heatmap.data.view(np.float32).reshape(48, 64), expected.score)


def test_metadata_is_that_of_a_rosbag2(bags: Any, detector: Detector, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    replay(
        bags.write(), out, ReplayOptions(('bag',), copy=('/chatter',), part_seconds=0.0),
        detector=detector,
    )  # fmt: skip
    metadata = yaml.safe_load((out / 'bag' / 'metadata.yaml').read_text())
    information = metadata['rosbag2_bagfile_information']
    files = information['relative_file_paths']
    assert len(files) > 3
    assert set(files) == {p.name for p in (out / 'bag').glob('*.mcap')}
    assert information['storage_identifier'] == 'mcap'
    assert information['message_count'] == sum(f['message_count'] for f in information['files'])
    written = messages(out / 'bag')
    assert information['message_count'] == len(written) == 3 * COUNT + 2 * 4 * COUNT
    start = information['starting_time']['nanoseconds_since_epoch']
    assert start == min(m[1] for m in written)
    assert information['duration']['nanoseconds'] == max(m[1] for m in written) - start
    counts = Counter(m[0] for m in written)
    for topic in information['topics_with_message_count']:
        name = topic['topic_metadata']['name']
        assert topic['message_count'] == counts[name]
        if '/anomaly/' in name:
            (qos,) = topic['topic_metadata']['offered_qos_profiles']
            assert (qos['reliability'], qos['durability'], qos['depth']) == (
                'reliable',
                'volatile',
                2,
            )
    # each file is a bag of its own, in order of time
    times = [[m[1] for m in messages(out / 'bag' / name)] for name in files]
    assert list(itertools.chain(*times)) == sorted(m[1] for m in written)


@pytest.mark.parametrize(
    'kind',
    ['sqlite3', 'sqlite3 zstd', 'sqlite3 file', 'mcap zstd', 'mcap file', 'mcap storage', 'ros1'],
)
def test_every_kind_of_bag_gives_the_same(
    bags: Any, detector: Detector, tmp_path: Path, kind: str
) -> None:
    name = 'drive.bag' if kind == 'ros1' else 'drive'
    out, count = tmp_path / 'out', 6
    options = ReplayOptions(('bag', 'csv'), copy=('*',))
    summary = replay(bags.write(name, kind, count), out, options, detector=detector)
    assert summary.problems == ()
    replay(bags.write('other', 'mcap', count), tmp_path / 'same', options, detector=detector)
    table, expected = rows(out), rows(tmp_path / 'same')
    for row in (*table, *expected):
        for column in [c for c in row if c.endswith('_s')]:
            assert float(row.pop(column)) >= 0
    assert table == expected
    mine, theirs = messages(out / 'bag'), messages(tmp_path / 'same' / 'bag')
    assert [m[:2] for m in mine] == [m[:2] for m in theirs]
    texts = [[m[2].data for m in bag if m[0] == '/chatter'] for bag in (mine, theirs)]
    assert texts[0] == texts[1] == [f'{i} ' for i in range(count)]
    same = [m[3] for m in mine if 'anomaly' in m[0]] == [m[3] for m in theirs if 'anomaly' in m[0]]
    assert same


def test_videos_and_score_maps(bags: Any, detector: Detector, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    source = bags.write(count=12)
    options = ReplayOptions(('video', 'scores'), part_seconds=0.0)
    replay(source, out, options, detector=detector)
    for camera in ('front.image_raw', 'rear.image_raw.compressed'):
        with open_source(out / f'overlay_{camera}.mp4') as video:
            frames = list(video)
        assert [round(f.stamp_ns / 1e7) for f in frames] == [10 * i for i in range(12)]
        assert frames[0].image.shape == (48, 64, 3)
    scores = sorted((out / 'scores' / 'front.image_raw').iterdir())
    assert [p.name for p in scores] == [f'{i:06}.png' for i in range(0, 24, 2)]
    with open_source(source) as frames_of_bag:
        (expected,) = detector.detect([next(iter(frames_of_bag)).image])
    levels = cv2.imread(str(scores[0]), cv2.IMREAD_UNCHANGED)
    assert levels.dtype == np.uint16
    np.testing.assert_allclose(levels / 65535, expected.score, atol=1e-5)
    options = ReplayOptions(('scores',), score_format='npz')
    replay(source, tmp_path / 'npz', options, detector=detector)
    with np.load(tmp_path / 'npz' / 'scores' / 'front.image_raw' / '000000.npz') as content:
        np.testing.assert_array_equal(content['score'], expected.score)


def test_parquet_is_the_csv(bags: Any, detector: Detector, tmp_path: Path) -> None:
    parquet = pytest.importorskip('pyarrow.parquet')
    out = tmp_path / 'out'
    replay(bags.write(), out, ReplayOptions(('csv', 'parquet')), detector=detector)
    for name in ('frames', 'events'):
        table = parquet.read_table(out / f'{name}.parquet').to_pylist()
        text = [{k: '' if v is None else str(v) for k, v in r.items()} for r in table]
        assert text == rows(out, name)
    assert len(rows(out)) == 2 * COUNT
    # the box is away in every tenth frame, and back near by in the next one
    assert [(r['camera'], r['frames']) for r in rows(out, 'events')] == [
        (camera, '18') for camera in (FRONT, REAR)
    ]


def test_folder_and_video_become_a_camera(bags: Any, detector: Detector, tmp_path: Path) -> None:
    folder = tmp_path / 'images'
    folder.mkdir()
    for index in range(5):
        cv2.imwrite(str(folder / f'{index}.png'), np.full((20, 30, 3), 40 * index, np.uint8))
    parameters = {'camera_topics': ['camera/image_raw']}  # as a node without namespace has it
    options = ReplayOptions(('bag', 'csv', 'video'), rate=5, parameters=parameters)
    summary = replay(folder, tmp_path / 'out', options, detector=detector)
    assert (summary.frames, summary.problems) == (5, ())
    written = messages(tmp_path / 'out' / 'bag')
    cameras = [m for m in written if m[0] == '/camera/image_raw']
    assert [stamp_of(m[2]) for m in cameras] == [i * 200_000_000 for i in range(5)]
    assert [int(m[2].data[0]) for m in cameras] == [40 * i for i in range(5)]
    video = tmp_path / 'out' / 'overlay_camera.image_raw.mp4'
    summary = replay(video, tmp_path / 'second', ReplayOptions(('csv',)), detector=detector)
    assert (summary.frames, summary.problems) == (5, ())


# --- stopping and going on ---------------------------------------------------------------------


def test_stopped_replay_is_valid_and_goes_on(
    bags: Any, detector: Detector, tmp_path: Path
) -> None:
    source, out = bags.write(), tmp_path / 'out'
    options = ReplayOptions(ALL, copy=('/chatter',))
    counted = detector.network
    for frames in (5, 22):
        callback = StopAfter(frames)
        summary = replay(
            source, out, options, detector=detector, stop=callback.stop, progress=callback
        )
        assert not summary.is_complete
        assert frames <= summary.frames < frames + 15
        assert len(rows(out)) == summary.frames
        assert len([m for m in messages(out / 'bag') if m[0].endswith('/mask')]) == summary.frames
        with open_source(out / 'overlay_front.image_raw.mp4') as video:
            assert abs(len(list(video)) - summary.frames / 2) <= 1
    summary = replay(source, out, options, detector=detector)
    assert (summary.frames, summary.is_complete, summary.problems) == (2 * COUNT, True, ())
    assert counted.seen == 2 * COUNT  # type: ignore[attr-defined]
    replay(source, tmp_path / 'whole', options, detector=detector)
    whole = messages(tmp_path / 'whole' / 'bag')
    assert [(m[0], m[1], m[3]) for m in messages(out / 'bag')] == [
        (m[0], m[1], m[3]) for m in whole
    ]
    for name in ('frames', 'events'):
        mine, theirs = rows(out, name), rows(tmp_path / 'whole', name)
        for row in (*mine, *theirs):
            for column in [c for c in row if c.endswith('_s')]:
                row.pop(column)
        assert mine == theirs
    with open_source(out / 'overlay_front.image_raw.mp4') as video:
        assert [round(f.stamp_ns / 1e7) for f in video] == [10 * i for i in range(COUNT)]
    again = replay(source, out, options, detector=detector)
    assert (again.processed, again.frames, again.is_complete) == (0, 2 * COUNT, True)


def test_what_a_crash_left_is_done_again(bags: Any, detector: Detector, tmp_path: Path) -> None:
    source, out = bags.write(), tmp_path / 'out'
    callback = StopAfter(10)
    options = ReplayOptions(('bag', 'csv', 'video'))
    stopped = replay(
        source, out, options, detector=detector, stop=callback.stop, progress=callback
    )
    journal = out / '.replay' / 'journal.jsonl'
    lines = journal.read_text().splitlines(keepends=True)
    frame = next(line for line in lines if '"kind":"frame"' in line)
    with journal.open('a') as file:  # frames whose bag and video were never closed
        file.write(frame * 3 + frame[: len(frame) // 2])
    (out / '.replay' / 'bag.open').mkdir()
    (out / '.replay' / 'bag.open' / 'bag.open.mcap').write_bytes(b'half a file')
    summary = replay(source, out, options, detector=detector)
    assert (summary.frames, summary.is_complete) == (2 * COUNT, True)
    assert summary.processed == 2 * COUNT - stopped.frames
    assert [int(r['index']) for r in rows(out)] == list(range(2 * COUNT))


def test_folder_of_another_replay_is_refused(
    bags: Any, detector: Detector, tmp_path: Path
) -> None:
    source, out = bags.write(count=2), tmp_path / 'out'
    replay(source, out, ReplayOptions(('csv',)), detector=detector)
    with pytest.raises(MaskomalyError, match=r'outputs was .*restart'):
        replay(source, out, ReplayOptions(('bag',)), detector=detector)
    changed = ReplayOptions(('csv',), parameters={'obstacle_threshold': 0.25})
    with pytest.raises(MaskomalyError, match='obstacle_threshold'):
        replay(source, out, changed, detector=detector)
    replay(source, out, ReplayOptions(('bag',), restart=True), detector=detector)
    assert (out / 'bag' / 'metadata.yaml').exists()
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'letter.txt').write_text('keep me')
    with pytest.raises(MaskomalyError, match='holds no replay'):
        replay(source, tmp_path / 'mine', ReplayOptions(restart=True), detector=detector)
    assert (tmp_path / 'mine' / 'letter.txt').exists()


@pytest.mark.parametrize('line', [b'\0' * 100, b'[]\n', b'{"kind":"start"}\n', b'{}\n'])
def test_damaged_journal_is_begun_anew_or_refused(
    bags: Any, detector: Detector, tmp_path: Path, line: bytes
) -> None:
    source, out = bags.write(count=2), tmp_path / 'out'
    replay(source, out, ReplayOptions(('csv',)), detector=detector)
    (out / '.replay' / 'journal.jsonl').write_bytes(line)
    try:
        summary = replay(source, out, ReplayOptions(('csv',)), detector=detector)
    except MaskomalyError as error:
        assert 'holds another replay' in str(error)  # noqa: PT017
    else:
        assert (summary.processed, summary.is_complete) == (4, True)


# --- what goes wrong ---------------------------------------------------------------------------


def test_corrupt_messages_are_named_and_the_rest_is_done(
    bags: Any, detector: Detector, tmp_path: Path
) -> None:
    def change(index: int, topic: str, data: bytes) -> bytes:
        if topic == FRONT and index == 3:
            return data[:40]
        return data.replace(b'rgb8', b'rgb7') if topic == FRONT and index == 5 else data

    source = bags.write(change=change)
    summary = replay(source, tmp_path / 'out', ReplayOptions(ALL), detector=detector)
    assert (summary.frames, summary.is_complete) == (2 * COUNT - 2, True)
    assert [(p.index, p.stage) for p in summary.problems] == [(6, 'reading'), (10, 'reading')]
    assert summary.lost == 2
    recorded = [m[3] for m in raw_messages(source) if m[0] in (FRONT, REAR)]
    written = [m[3] for m in raw_messages(tmp_path / 'out' / 'bag') if m[0] in (FRONT, REAR)]
    assert written == recorded  # also what could not be decoded
    assert 'rgb7' in summary.problems[1].reason
    page = (tmp_path / 'out' / 'report.html').read_text()
    assert '2 problems' in page
    assert 'rgb7' in page


@pytest.mark.parametrize(
    ('kind', 'share'),
    [('mcap', 0.3), ('mcap storage', 0.7), ('ros1', 0.5), ('sqlite3', 0.95)],
)
def test_bag_that_was_cut_off_is_read_as_far_as_it_goes(
    bags: Any, detector: Detector, tmp_path: Path, kind: str, share: float
) -> None:
    path = bags.write('drive.bag' if kind == 'ros1' else 'drive', kind, noise=200_000)
    file = path
    if path.is_dir():
        (file,) = (p for p in path.iterdir() if p.suffix in ('.mcap', '.db3'))
        (path / 'metadata.yaml').unlink()  # as a recorder leaves it that lost power
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    summary = replay(path, tmp_path / 'out', ReplayOptions(('bag', 'csv')), detector=detector)
    assert 0.4 * share * 2 * COUNT < summary.frames < 2 * COUNT
    assert summary.is_complete
    assert summary.problems
    assert any('cut off' in p.reason or 'further' in p.reason for p in summary.problems)
    assert [int(r['index']) for r in rows(tmp_path / 'out')] == list(range(summary.frames))


def test_damaged_chunk_costs_only_its_messages(
    bags: Any, detector: Detector, tmp_path: Path
) -> None:
    path = bags.write('drive', 'mcap storage', noise=200_000)
    (file,) = path.glob('*.mcap')
    content = bytearray(file.read_bytes())
    chunk = content.index(b'\x28\xb5\x2f\xfd', len(content) // 3)  # zstd begins like this
    content[chunk : chunk + 64] = b'\xff' * 64
    file.write_bytes(content)
    summary = replay(path, tmp_path / 'out', ReplayOptions(('csv',)), detector=detector)
    assert 2 * COUNT - 16 <= summary.frames < 2 * COUNT
    assert any('is lost with' in p.reason for p in summary.problems)
    stamps = [int(r['stamp_ns']) for r in rows(tmp_path / 'out')]
    assert stamps == sorted(set(stamps))
    assert stamps[-1] == 1_700_000_000_000_000_000 + (COUNT - 1) * 100_000_000 + 1


def test_part_of_a_split_bag_that_is_damaged_costs_only_itself(
    bags: Any, detector: Detector, tmp_path: Path
) -> None:
    whole = tmp_path / 'whole'
    replay(bags.write(), whole, ReplayOptions(('bag',), part_seconds=0.0), detector=detector)
    files = sorted((whole / 'bag').glob('*.mcap'))
    broken = files[2]  # has one frame of the front camera
    broken.write_bytes(b'nothing of a bag is left')
    out = tmp_path / 'out'
    summary = replay(
        whole / 'bag', out, ReplayOptions(('csv',), topics=(FRONT,)), detector=detector
    )
    assert summary.frames == COUNT - 1
    assert any(broken.name in p.reason for p in summary.problems)


def test_folder_is_for_one_replay_at_a_time(bags: Any, detector: Detector, tmp_path: Path) -> None:
    source, out = bags.write(count=2), tmp_path / 'out'
    refused: list[str] = []

    def again(done: int, total: int | None) -> None:
        if not refused:
            with pytest.raises(MaskomalyError, match=f'in use by process {os.getpid()}') as error:
                replay(source, out, ReplayOptions(('csv',)), detector=detector)
            refused.append(str(error.value))

    summary = replay(source, out, ReplayOptions(('csv',)), detector=detector, progress=again)
    assert (summary.frames, summary.problems) == (4, ())
    assert refused
    assert replay(source, out, ReplayOptions(('csv',)), detector=detector).is_complete


def test_cameras_have_files_of_their_own() -> None:
    cameras = ['/camera/front/image_raw', '/camera_front/image_raw', '/camera/front_image/raw',
               '/camera.front/image_raw', 'camera/front/image_raw', '/', '//', '/%']  # fmt: skip
    names = {file_name(camera) for camera in cameras}
    assert len(names) == len(cameras)
    assert file_name(cameras[0]) == 'camera.front.image_raw'
    assert not any(name.startswith('.') or '/' in name for name in names)


def test_reading_a_journal_changes_nothing(bags: Any, detector: Detector, tmp_path: Path) -> None:
    source, out = bags.write(count=2), tmp_path / 'out'
    replay(source, out, ReplayOptions(('csv',)), detector=detector)
    path = out / '.replay' / 'journal.jsonl'
    path.write_bytes(path.read_bytes() + b'{"kind":"problem","ind')
    before = path.read_bytes()
    assert len(list(read_journal(out).frames())) == 4
    assert path.read_bytes() == before


def test_network_failures_are_named(bags: Any, detector: Detector, tmp_path: Path) -> None:
    detector.network.failing = frozenset((2, 5))  # type: ignore[attr-defined]
    source = bags.write(count=6)
    summary = replay(source, tmp_path / 'out', ReplayOptions(('csv', 'bag')), detector=detector)
    assert [(p.index, p.stage) for p in summary.problems] == [(2, 'network'), (5, 'network')]
    assert 'no memory left' in summary.problems[0].reason
    assert summary.frames == 10
    detector.network.seen = 0  # type: ignore[attr-defined]
    detector.network.failing = frozenset(range(99))  # type: ignore[attr-defined]
    summary = replay(source, tmp_path / 'none', ReplayOptions(('csv',)), detector=detector)
    assert not summary.is_complete  # it gives up, and the next call tries again
    assert 0 < len(summary.problems) < 12
    detector.network.failing = frozenset()  # type: ignore[attr-defined]
    summary = replay(source, tmp_path / 'none', ReplayOptions(('csv',)), detector=detector)
    assert summary.is_complete


def test_full_disk_is_named_and_what_was_done_is_kept(
    bags: Any, detector: Detector, tmp_path: Path
) -> None:
    mount, umount = shutil.which('mount'), shutil.which('umount')
    if not mount or not umount:
        pytest.skip('no mount')
    source, disk = bags.write(), tmp_path / 'disk'
    disk.mkdir()
    mounted = subprocess.run(
        [mount, '-t', 'tmpfs', '-o', 'size=32900k', 'tmpfs', str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip('a small disk can only be mounted by root')
    try:
        options = ReplayOptions(('scores', 'csv', 'bag'), score_format='npz')
        summary = replay(source, disk / 'out', options, detector=detector)
        assert not summary.is_complete
        (problem,) = summary.problems
        assert problem.stage == 'writing'
        assert 'MB free' in problem.reason
        assert 0 < summary.frames < 2 * COUNT
        assert len(rows(disk / 'out')) == summary.frames
        masks = [m for m in messages(disk / 'out' / 'bag') if m[0].endswith('/mask')]
        assert len(masks) == summary.frames
        subprocess.run([mount, '-o', 'remount,size=80m', str(disk)], check=True)
        summary = replay(source, disk / 'out', options, detector=detector)
        assert (summary.frames, summary.problems, summary.is_complete) == (2 * COUNT, (), True)
    finally:
        subprocess.run([umount, str(disk)], check=True)


def test_output_that_fails_ends_the_run_and_a_rerun_goes_on(
    bags: Any, detector: Detector, tmp_path: Path
) -> None:
    """A folder where a file should be is refused by the system as a full disk would be."""
    source, out = bags.write(), tmp_path / 'out'
    blocked = out / 'scores' / 'front.image_raw' / '000020.png'
    blocked.mkdir(parents=True)
    (out / '.replay').mkdir()
    (out / '.replay' / 'journal.jsonl').write_text('')
    options = ReplayOptions(('scores', 'csv', 'bag', 'video'), part_seconds=0.0)
    summary = replay(source, out, options, detector=detector)
    assert not summary.is_complete
    (problem,) = summary.problems
    assert (problem.stage, problem.reason) == ('writing', 'Is a directory')
    assert 0 < summary.frames <= 20
    masks = [m for m in messages(out / 'bag') if m[0].endswith('/mask')]
    assert len(masks) == len(rows(out)) == summary.frames
    blocked.rmdir()
    summary = replay(source, out, options, detector=detector)
    assert (summary.frames, summary.problems, summary.is_complete) == (2 * COUNT, (), True)
    assert [int(r['index']) for r in rows(out)] == list(range(2 * COUNT))


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        ({'topics': ('/nothing',)}, 'no image topic /nothing; it holds .*chatter'),
        ({'topics': ('/chatter',)}, 'no image topic /chatter'),
        ({'copy': ('/nothing',)}, 'no topic /nothing to copy'),
        ({'outputs': ('film',)}, "output 'film' is unknown"),
        ({'outputs': ()}, 'nothing to write'),
        ({'bag_topics': ('mask', 'masks')}, "'masks' is unknown"),
        ({'score_format': 'tiff'}, "'tiff' is unknown"),
        ({'parameters': {'reject_weight': 2.0}}, 'reject_weight'),
    ],
)
def test_wrong_options_are_refused(
    bags: Any, detector: Detector, tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    source = bags.write(count=1)
    with pytest.raises(MaskomalyError, match=reason):
        replay(source, tmp_path / 'out', ReplayOptions(**options), detector=detector)


def test_topic_of_an_unknown_type_is_named(bags: Any, detector: Detector, tmp_path: Path) -> None:
    """The bag defines no type of its own, as recordings from before Iron do not."""
    source = bags.write(kind='sqlite3', count=2)
    (file,) = source.glob('*.db3')
    import sqlite3

    with sqlite3.connect(file) as database:
        database.execute('DELETE FROM message_definitions')
        database.execute("UPDATE topics SET type = 'mine/msg/Thing' WHERE name = '/chatter'")
    text = (source / 'metadata.yaml').read_text()
    (source / 'metadata.yaml').write_text(text.replace('std_msgs/msg/String', 'mine/msg/Thing'))
    summary = replay(source, tmp_path / 'out', ReplayOptions(('csv',)), detector=detector)
    assert (summary.frames, summary.problems) == (4, ())
    options = ReplayOptions(('bag', 'csv'), copy=('*',))
    summary = replay(source, tmp_path / 'bag', options, detector=detector)
    assert summary.frames == 4
    assert [p.name for p in summary.problems] == ['/chatter']
    assert 'does not define its type mine/msg/Thing' in summary.problems[0].reason


def test_bag_written_by_us_is_read_without_our_own_topics(
    bags: Any, detector: Detector, tmp_path: Path
) -> None:
    replay(bags.write(count=4), tmp_path / 'out', ReplayOptions(('bag',)), detector=detector)
    options = ReplayOptions(('csv',))
    summary = replay(tmp_path / 'out' / 'bag', tmp_path / 'again', options, detector=detector)
    assert (summary.frames, summary.problems) == (8, ())
    assert set(summary.left_out.values()) == {'made by maskomaly'}
    with pytest.raises(MaskomalyError, match='holds no replay'):
        read_journal(tmp_path)
    assert len(list(read_journal(tmp_path / 'again').frames())) == 8
    shutil.rmtree(tmp_path / 'out')
    line = (tmp_path / 'again' / '.replay' / 'journal.jsonl').read_text().splitlines()[0]
    assert json.loads(line)['identity']['topics'] == [FRONT, REAR]


# --- regions and temporal filters --------------------------------------------------------------

STEADY = {'temporal_filter': 'median', 'temporal_window': 5, 'minimum_obstacle_frames': 3}


def test_rerun_goes_on_with_what_the_filters_remember(
    bags: Any, detector: Detector, tmp_path: Path
) -> None:
    source = bags.write()
    regions = {
        'camera_topics': [FRONT, REAR],
        'ego_regions': ['0,0 30,0 30,47 0,47', ''],
    }
    for number, steady in enumerate(
        (STEADY, {'temporal_filter': 'exponential', 'temporal_weight': 0.25})
    ):
        options = ReplayOptions(('bag', 'csv'), parameters={**regions, **steady})
        out, whole = tmp_path / f'out{number}', tmp_path / f'whole{number}'
        for frames in (7, 16):
            callback = StopAfter(frames)
            summary = replay(
                source, out, options, detector=detector, stop=callback.stop, progress=callback
            )
            assert not summary.is_complete
            assert len(list((out / '.replay' / 'filters').iterdir())) == 1
        replay(source, out, options, detector=detector)
        replay(source, whole, options, detector=detector)
        mine, theirs = messages(out / 'bag'), messages(whole / 'bag')
        assert [(m[0], m[1], m[3]) for m in mine] == [(m[0], m[1], m[3]) for m in theirs]
        assert not list((out / '.replay' / 'filters').iterdir())
        masks = [m[2].data.reshape(48, 64) for m in mine if m[0] == '/front/anomaly/mask']
        assert any(mask.any() for mask in masks)
        assert not any(mask[:, :31].any() for mask in masks)  # the vehicle itself
        assert any(
            m[2].data.reshape(48, 64)[:, :31].any() for m in mine if m[0] == '/rear/anomaly/mask'
        )


def test_obstacle_is_held_back(bags: Any, detector: Detector, tmp_path: Path) -> None:
    source = bags.write()
    options = ReplayOptions(('csv',), parameters={'minimum_obstacle_frames': 3})
    replay(source, tmp_path / 'out', options, detector=detector)
    counts = [int(r['obstacles']) for r in rows(tmp_path / 'out') if r['camera'] == FRONT]
    # The box is away in every tenth frame, for less than the patience once it was reported.
    assert counts == [0, 0] + 7 * [1] + [0] + 9 * [1] + [0]


def test_lost_filter_state_is_an_error(bags: Any, detector: Detector, tmp_path: Path) -> None:
    source, out = bags.write(), tmp_path / 'out'
    options = ReplayOptions(('csv',), parameters=STEADY)
    callback = StopAfter(5)
    replay(source, out, options, detector=detector, stop=callback.stop, progress=callback)
    (state,) = (out / '.replay' / 'filters').iterdir()
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(MaskomalyError, match=r'0.npz, which temporal filters .*--restart'):
        replay(source, out, options, detector=detector)


def test_regions_that_do_not_fit_are_named(bags: Any, detector: Detector, tmp_path: Path) -> None:
    source = bags.write(count=3)
    corners = ['0,0 639,0 639,479', '']
    parameters = {'camera_topics': [FRONT, REAR], 'road_regions': corners}
    options = ReplayOptions(('csv',), parameters=parameters)
    summary = replay(source, tmp_path / 'out', options, detector=detector)
    assert (summary.frames, len(summary.problems)) == (3, 3)
    assert 'reaches to 639,479, but the frame has 64 x 48' in summary.problems[0].reason
    assert detector.network.seen == 3  # type: ignore[attr-defined]
    parameters = {'camera_topics': [FRONT], 'road_regions': ['0,0 63,0 63,47']}
    with pytest.raises(MaskomalyError, match=f'{REAR} is not among them'):
        replay(source, tmp_path / 'b', ReplayOptions(('csv',), parameters=parameters))
    parameters['road_regions'] = ['nothing.png']
    with pytest.raises(MaskomalyError, match=r'nothing\.png cannot be read'):
        replay(source, tmp_path / 'b', ReplayOptions(('csv',), parameters=parameters))


def test_changed_region_is_another_replay(bags: Any, detector: Detector, tmp_path: Path) -> None:
    source, picture = bags.write(count=2), tmp_path / 'ego.png'
    cv2.imwrite(str(picture), np.zeros((48, 64, 3), np.uint8))
    parameters = {'camera_topics': [FRONT, REAR], 'ego_regions': [str(picture), '']}
    options = ReplayOptions(('csv',), parameters=parameters)
    replay(source, tmp_path / 'out', options, detector=detector)
    cv2.imwrite(str(picture), np.full((48, 64, 3), 255, np.uint8))
    with pytest.raises(MaskomalyError, match='regions was'):
        replay(source, tmp_path / 'out', options, detector=detector)


def test_piece_of_a_drive(bags: Any, detector: Detector, tmp_path: Path) -> None:
    source, out = bags.write(), tmp_path / 'out'
    options = ReplayOptions(('bag', 'csv'), copy=('/chatter',), piece=Piece(0.5, 1.0, 2))
    summary = replay(source, out, options, detector=detector)
    assert (summary.problems, summary.is_complete) == ((), True)
    assert [row['name'] for row in rows(out) if row['camera'] == FRONT] == [
        f'{FRONT} message {n}' for n in (6, 8, 10)
    ]
    assert Counter(m[0] for m in messages(out / 'bag'))['/chatter'] == 5
    again = replay(source, out, options, detector=detector)
    assert (again.processed, again.frames) == (0, summary.frames)
    whole = ReplayOptions(('bag', 'csv'), copy=('/chatter',))
    with pytest.raises(MaskomalyError, match='piece was'):
        replay(source, out, whole, detector=detector)


def test_piece_goes_on_where_it_was(bags: Any, detector: Detector, tmp_path: Path) -> None:
    source, piece = bags.write(), Piece(0.3, 1.5)
    options = ReplayOptions(('csv',), piece=piece, part_seconds=0)
    stop = StopAfter(12)
    first = replay(
        source, tmp_path / 'a', options, detector=detector, stop=stop.stop, progress=stop
    )
    assert not first.is_complete
    replay(source, tmp_path / 'a', options, detector=detector)
    replay(source, tmp_path / 'b', options, detector=detector)
    names = [[row['name'] for row in rows(tmp_path / side)] for side in 'ab']
    assert names[0] == names[1]
    assert len(names[0]) == 25


def test_each_problem_is_named_once(
    bags: Any, detector: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = bags.write(change=lambda i, topic, data: data[:40] if 'front' in topic else data)
    summary = replay(source, tmp_path / 'out', ReplayOptions(('csv',)), detector=detector)
    assert len(summary.problems) == summary.noted == COUNT == 20
    named = [r.getMessage() for r in caplog.records if 'image_raw message' in r.getMessage()]
    assert len(named) == len(set(named)) == 20
    assert re.match(r'reading: /front/image_raw message 0 at \d+\.\d{3} s: ', named[0])
    again = replay(source, tmp_path / 'out', ReplayOptions(('csv',)), detector=detector)
    assert (len(again.problems), again.noted) == (20, 0)


def test_preview_tells_what_would_be_read(bags: Any, tmp_path: Path) -> None:
    source = bags.write()
    seen = preview(source, ReplayOptions(copy=('/chatter',), piece=Piece(0.5, 1.0, 2)))
    assert [(c.topic, c.frames, c.taken) for c in seen.cameras] == [(FRONT, 20, 2), (REAR, 20, 2)]
    assert seen.left_out == {}
    (alone,) = preview(source, ReplayOptions(topics=(REAR,))).cameras
    assert (alone.topic, alone.frames, alone.taken) == (REAR, 20, 20)
    assert round(alone.rate) == 10
