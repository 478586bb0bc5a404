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

"""Ordinary frames: what can be opened as such, and what comes of it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from maskomaly_ros.classes import CITYSCAPES_TO_CLASS
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.cache import OutputCache
from maskomaly_ros.evaluation.datasets import LAYOUTS, open_dataset
from maskomaly_ros.evaluation.ordinary import open_ordinary


def names(frames, network, **options):
    return [name for name, _ in frames.over(network, lambda frame: frame.name, **options)]


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    for folder in ('images', 'labels'):
        (tmp_path / 'camvid' / folder).mkdir(parents=True)
    for index in range(5):
        label = np.full((48, 64), 8, np.uint8)
        label[:10], label[10:12] = 0, 11
        for folder, pixels in (('images', np.full((48, 64, 3), 50, np.uint8)), ('labels', label)):
            assert cv2.imwrite(str(tmp_path / 'camvid' / folder / f'{index}.png'), pixels)
    return tmp_path / 'camvid'


def test_labelled_classes_come_along_and_nothing_is_ignored(camvid, network):
    frames = open_ordinary(f'camvid:{camvid}')
    assert len(frames) == 5
    for name, frame in frames.over(network, lambda frame: frame):
        assert frame.name == name
        assert not frame.label.any()
        counts = np.bincount(frame.classes.ravel(), minlength=256)
        assert counts[[3, 6, 255]].tolist() == [36 * 64, 10 * 64, 2 * 64]
    assert frames.images(['3'])['3'].shape == (48, 64, 3)


def test_some_of_them_are_evenly_spread(camvid, network, traffic):
    frames = open_ordinary(f'camvid:{camvid}')
    assert names(frames.sparse(3), network) == ['0', '2', '4']
    assert frames.sparse(9) is frames
    assert names(traffic.sparse(2), network) == ['0.png', '2.png']
    assert len(traffic.sparse(2)) == 2


def test_a_drive_is_read_more_than_once_and_kept(traffic, network, tmp_path):
    outputs = OutputCache(tmp_path / 'cache', network)
    for _ in range(2):
        assert names(traffic, network, outputs=outputs) == ['0.png', '1.png', '2.png']
    assert network.predicted == 3
    assert traffic.images(['1.png'])['1.png'][25, 20].tolist() == [30, 30, 200]


def test_frames_with_anomalies_and_broken_ones_are_named(scenes, network, tmp_path):
    dataset = scenes(1, without_anomaly=2)
    frames = open_ordinary(f'plain:{tmp_path}')
    found = dict(frames.over(network, lambda frame: frame))
    assert found.keys() == {'scene1', 'scene2'}
    assert set(np.unique(found['scene1'].label)) == {0, 255}
    assert found['scene1'].classes is None
    assert 'labelled as an anomaly: not an ordinary frame' in frames.skipped['scene0']
    assert len(dataset) == 3
    (tmp_path / 'images' / 'note.png').write_bytes(b'')
    drive = open_ordinary(str(tmp_path / 'images'))
    assert len(names(drive, network)) == 3
    assert drive.skipped.keys() == {'note.png'}


def test_what_cannot_be_opened_is_refused(tmp_path):
    with pytest.raises(MaskomalyError, match='does not exist; give LAYOUT:PATH of a labelled'):
        open_ordinary(str(tmp_path / 'nothing'))
    with pytest.raises(MaskomalyError, match=r'data set folder .* does not exist'):
        open_ordinary('camvid:/not/there')


def test_squashed_pictures_are_stretched(tmp_path, network):
    for folder in ('images', 'labels'):
        (tmp_path / folder).mkdir()
    image = np.zeros((256, 256, 3), np.uint8)
    image[:, :128] = 200
    label = np.full((256, 256), 255, np.uint8)
    label[:, :128] = 13
    assert cv2.imwrite(str(tmp_path / 'images' / '0001.jpg'), image)
    assert cv2.imwrite(str(tmp_path / 'labels' / '0001.png'), label)
    dataset = open_dataset(f'cityscapes_256:{tmp_path}')
    ((_, wide, classes),) = dataset.read()
    assert wide.shape == (256, 512, 3)
    assert classes.shape == (256, 512)
    assert (classes[:, :256] == 3).all()
    assert (classes[:, 256:] == 255).all()
    outputs = OutputCache(tmp_path / 'cache', network)
    frames = open_ordinary(f'cityscapes_256:{tmp_path}')
    for _ in range(2):  # computed, and read back
        ((_, frame),) = frames.over(network, lambda frame: frame, outputs)
        assert frame.prediction.frame_size == (256, 512)
    assert network.predicted == 1
    assert LAYOUTS['cityscapes_256'].values.keys() == {*CITYSCAPES_TO_CLASS, 255}
