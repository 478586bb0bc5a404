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

"""A piece of a drive: the same frames whatever the drive is, and only those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskomaly_ros.drives.open import open_source
from maskomaly_ros.drives.piece import WHOLE, Piece, parse_time
from maskomaly_ros.drives.video_writer import VideoWriter
from maskomaly_ros.errors import MaskomalyError

pytest.importorskip('av', reason='videos need PyAV')
pytest.importorskip('rosbags', reason='bags need rosbags')

STEP_NS = 100_000_000
PIECES = (
    (Piece(), list(range(20))),
    (Piece(start=0.45), list(range(5, 20))),
    (Piece(end=0.5), list(range(6))),
    (Piece(0.3, 1.2, 4), [4, 8, 12]),
    (Piece(every=7), [0, 7, 14]),
    (Piece(start=60), []),
)


@given(
    st.integers(0, 50), st.one_of(st.none(), st.integers(0, 50)), st.integers(1, 9),
    st.integers(0, 60),
)  # fmt: skip
def test_takes_what_lies_between(start: int, length: int | None, every: int, count: int) -> None:
    end = None if length is None else start + length
    piece = Piece(start / 10, None if end is None else end / 10, every)
    taken = [n for n in range(count) if piece.takes(n, n * STEP_NS)]
    last = count - 1 if end is None else end
    assert taken == [n for n in range(count) if n % every == 0 and start <= n <= last]
    assert abs(len(taken) - piece.about(count, 10.0)) <= 1
    assert all(not piece.is_past(n * STEP_NS) for n in taken)
    if piece.is_whole:
        assert piece == WHOLE


@pytest.mark.parametrize(
    ('text', 'seconds'), [('90', 90), ('1.5', 1.5), ('1:30', 90), ('1:00:01.25', 3601.25)]
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize('text', ['', '-1', 'nan', '1e3', '1:2:3:4', '5s'])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(MaskomalyError, match=r'neither seconds, such as 90, nor'):
        parse_time(text)


@pytest.mark.parametrize('values', [(-1.0,), (2.0, 1.0), (0.0, None, 0), (float('nan'),)])
def test_wrong_pieces_are_refused(values: tuple[Any, ...]) -> None:
    with pytest.raises(MaskomalyError):
        Piece(*values)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / 'images'
    path.mkdir()
    for index in range(20):
        cv2.imwrite(str(path / f'{index}.png'), np.full((48, 64, 3), index, np.uint8))
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / 'drive.mp4'
    writer = VideoWriter(path, 10.0)
    for index in range(20):
        writer.write(np.full((48, 64, 3), 10 * index, np.uint8), index * STEP_NS)
    writer.close()
    return path


@pytest.mark.parametrize(('piece', 'expected'), PIECES)
def test_every_kind_of_drive_gives_the_same_frames(
    bags: Any, folder: Path, video: Path, piece: Piece, expected: list[int]
) -> None:
    for path in (folder, video, bags.write('a', 'mcap'), bags.write('b.bag', 'ros1')):
        with open_source(path, piece=piece) as source:
            assert [frame.index for frame in source] == expected, path
            assert source.problems == []
            # as a rerun does that goes on
            assert [frame.index for frame in source.frames(8)] == [n for n in expected if n >= 8]


def test_every_counts_the_frames_of_each_camera(bags: Any) -> None:
    with open_source(bags.write(), topics='*', piece=Piece(every=10)) as source:
        found = [(frame.topic.split('/')[1], frame.name.split()[-1]) for frame in source]
    assert found == [('front', '0'), ('rear', '0'), ('front', '10'), ('rear', '10')]


def test_copied_messages_are_those_of_the_piece(bags: Any) -> None:
    piece = Piece(0.5, 1.0)
    with open_source(bags.write(), copy=('/chatter',), piece=piece) as source:
        items = list(source.items())
        again = list(source.items(first=8, messages=3))
    topics = [item.topic for item in items]
    assert topics.count('/chatter') == 5
    assert topics.count('/front/image_raw') == 6
    assert [item.topic for item in again].count('/chatter') == 2
    assert [item.topic for item in again].count('/front/image_raw') == 3


def test_damage_outside_of_a_piece_is_not_met(folder: Path) -> None:
    (folder / '3.png').write_bytes(b'no picture')
    (folder / '12.png').write_bytes(b'no picture')
    with open_source(folder, piece=Piece(start=1.0)) as source:
        assert [frame.index for frame in source] == [10, 11, *range(13, 20)]
        assert [problem.name for problem in source.problems] == ['12.png']


def test_problems_are_logged_up_to_a_number(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(100, 130):
        (folder / f'{index}.png').write_bytes(b'no picture')
    with open_source(folder) as source:
        assert len(list(source)) == 20
        assert len(source.problems) == 30
    assert len(caplog.records) == 21
    assert 'further problems are counted' in caplog.records[-1].getMessage()
