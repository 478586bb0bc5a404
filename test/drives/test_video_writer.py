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

"""The video that is written is the one that is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskomaly_ros.drives.open import open_source
from maskomaly_ros.drives.video_writer import VideoWriter
from maskomaly_ros.errors import MaskomalyError

av = pytest.importorskip('av', reason='videos need PyAV')


def test_images_come_back_in_colour_at_their_rate(tmp_path: Path) -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :30] = (200, 30, 40)
    image[:, 30:] = (20, 180, 60)
    with VideoWriter(tmp_path / 'clip.mp4', 12.5) as writer:
        for _ in range(25):
            writer.write(image)
    with open_source(tmp_path / 'clip.mp4') as source:
        frames = list(source)
        assert len(frames) == len(source) == 25
        assert source.rate == pytest.approx(12.5)
    assert frames[-1].stamp_ns == pytest.approx(24 / 12.5 * 1e9, rel=1e-3)
    for frame in (frames[0], frames[-1]):
        assert np.abs(frame.image[:, :26].astype(int) - image[:, :26]).max() <= 12
        assert np.abs(frame.image[:, 34:].astype(int) - image[:, 34:]).max() <= 12


def test_file_is_what_browsers_play(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / 'clip.mp4', 10) as writer:
        writer.write(np.zeros((36, 64, 3), np.uint8))
    content = (tmp_path / 'clip.mp4').read_bytes()
    assert content.index(b'moov') < content.index(b'mdat')  # starts before it is loaded
    with av.open(str(tmp_path / 'clip.mp4')) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ('h264', 'yuv420p')


def test_odd_and_changing_sizes_keep_the_size_of_the_first(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / 'clip.mp4', 10) as writer:
        for size in ((37, 65, 3), (72, 130, 3), (36, 64, 3)):
            writer.write(np.full(size, 128, np.uint8))
    with open_source(tmp_path / 'clip.mp4') as source:
        assert [frame.image.shape for frame in source] == [(36, 64, 3)] * 3


def test_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MaskomalyError, match='nowhere'):
        VideoWriter(tmp_path / 'nowhere' / 'clip.mp4', 10)


def test_nothing_written_leaves_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / 'clip.mp4', 10):
        pass
    assert list(tmp_path.iterdir()) == []


def test_picture_of_one_pixel_is_enlarged(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / 'a.mp4', 5.0) as writer:
        for _ in range(3):
            writer.write(np.full((1, 1, 3), 200, np.uint8))
    assert writer.size == (2, 2)
