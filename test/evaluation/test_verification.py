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

"""Verification of checkpoints on Cityscapes, and its layouts."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from maskomaly_ros.cli import main as cli
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.datasets import open_dataset
from maskomaly_ros.evaluation.verification import verify
from maskomaly_ros.networks.known import CITYSCAPES_CLASSES
from maskomaly_ros.networks.prediction import MaskPrediction

IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CLASSES = len(CITYSCAPES_CLASSES)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def street(seed: int, size: tuple[int, int] = (32, 64)) -> np.ndarray:
    """Return train ids in vertical stripes, all classes, with a seam of 255."""
    label = (np.arange(size[1]) * CLASSES // size[1] + seed) % CLASSES
    whole = np.tile(label, (size[0], 1)).astype(np.uint8)
    whole[:2] = 255
    return whole


@pytest.fixture(params=['labelIds', 'labelTrainIds'])
def cityscapes(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return three images in the folders of Cityscapes; the image shows its own classes."""
    for number in range(3):
        name = f'town/town_{number:06}_000019'
        label = street(number)
        write(
            tmp_path / 'leftImg8bit' / 'val' / f'{name}_leftImg8bit.png',
            cv2.merge([label, label, label]),
        )
        if request.param == 'labelIds':
            table = np.zeros(256, np.uint8)
            table[:CLASSES] = IDS
            table[255] = 4  # static: not evaluated
            label = table[label]
        write(tmp_path / 'gtFine' / 'val' / f'{name}_gtFine_{request.param}.png', label)
        write(tmp_path / 'gtFine' / 'val' / f'{name}_gtFine_instanceIds.png', label)
    return tmp_path


def network(name: str, shift: int = 0) -> Any:
    """Return a network that reads classes from grey levels, mistaken by a shift."""

    def predict(frames: list[np.ndarray]) -> MaskPrediction:
        (frame,) = frames
        grey = torch.from_numpy(frame[..., 0].astype(np.int64))
        masks = torch.stack([(grey == i) * 20.0 - 10 for i in range(CLASSES)])
        classes = torch.full((1, CLASSES, CLASSES + 1), -9.0)
        for i in range(CLASSES):
            classes[0, i, (i + shift) % CLASSES] = 9
        size = (frame.shape[0], frame.shape[1])
        return MaskPrediction(masks[None], classes, size, (float(size[0]), float(size[1])))

    return SimpleNamespace(
        name=name,
        sha256='0' * 64,
        class_names=tuple(name.title() for name in CITYSCAPES_CLASSES),
        num_queries=CLASSES,
        device=torch.device('cpu'),
        predict=predict,
    )


def test_a_right_network_is_as_good_as_published(cityscapes: Path) -> None:
    found = verify(network('eomt-l-cityscapes'), open_dataset(f'cityscapes:{cityscapes}'))
    assert found.mean_iou == pytest.approx(100)
    assert found.published == 84.2
    assert found.images == 3
    assert list(found.iou) == list(CITYSCAPES_CLASSES)
    assert not found.is_far_off


def test_classes_in_another_order_are_noticed(cityscapes: Path) -> None:
    found = verify(network('swin-l-cityscapes', shift=1), open_dataset(f'cityscapes:{cityscapes}'))
    assert found.mean_iou == pytest.approx(0)
    assert found.is_far_off


def test_what_nobody_has_published_is_not_judged(cityscapes: Path) -> None:
    found = verify(network('mine', shift=1), open_dataset(f'cityscapes:{cityscapes}'))
    assert found.published is None
    assert not found.is_far_off


def test_a_limit_spreads_over_the_images(cityscapes: Path) -> None:
    dataset = open_dataset(f'cityscapes:{cityscapes}')
    assert verify(network('mine'), dataset, limit=2).images == 2


@pytest.mark.parametrize('below', ['', 'val'])
def test_small_images_are_stretched_to_their_shape(tmp_path: Path, below: str) -> None:
    label = street(0, (256, 256))
    write(tmp_path / 'val' / 'images' / '0001.png', cv2.merge([label, label, label]))
    write(tmp_path / 'val' / 'labels' / '0001.png', label)
    dataset = open_dataset(f'cityscapes_256:{tmp_path / below}')
    ((_, image, read),) = dataset.read()
    assert image.shape == (256, 512, 3)
    assert read.shape == (256, 512)
    found = verify(network('eomt-l-cityscapes'), dataset)
    assert found.mean_iou > 85  # colours are mixed along edges
    assert found.tolerance == 60


def test_another_data_set_is_refused(tmp_path: Path) -> None:
    write(tmp_path / 'images' / 'a.png', np.zeros((8, 8, 3), np.uint8))
    write(tmp_path / 'labels' / 'a.png', np.zeros((8, 8), np.uint8))
    with pytest.raises(MaskomalyError, match='plain is not what published figures are of'):
        verify(network('mine'), open_dataset(f'plain:{tmp_path}'))


def test_the_command_fails_where_it_is_far_off(
    cityscapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = cityscapes.parent / 'figures.json'
    arguments = ['checkpoint', 'verify', 'x', '--dataset', f'cityscapes:{cityscapes}']
    arguments += ['--json', str(figures)]
    for shift, code in ((0, 0), (1, 1)):
        monkeypatch.setattr(
            'maskomaly_ros.cli.checkpoint.load',
            lambda *_, shift=shift: network('eomt-l-cityscapes', shift),
        )
        done = CliRunner().invoke(cli.app, arguments)
        assert done.exit_code == code, done.output
        assert 'mIoU here' in done.stdout
        assert '84.2 %' in done.stdout
        assert json.loads(figures.read_text())['is_far_off'] == bool(code)
    assert 'do not trust it' in done.stderr


def test_a_piece_of_the_real_one(shared: Path) -> None:
    folder = shared / 'data' / 'cityscapes_256' / 'val'
    if not folder.is_dir():
        pytest.skip('no cityscapes_256 in the shared data')
    dataset = open_dataset(f'cityscapes_256:{folder}')
    assert len(dataset) == 500
    found = verify(network('mine'), dataset, limit=3)
    assert found.images == 3
    assert not dataset.skipped
