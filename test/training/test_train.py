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

"""Training: resumable, repeatable, ends in a checkpoint that loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskomaly_ros.classes import CAMVID_TO_CLASS, CLASS_NAMES, IDD_TO_CLASS, IGNORE
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import load_network
from maskomaly_ros.training.data import LabelledImage, TrainingSet, augment
from maskomaly_ros.training.train import TrainingOptions, train

OPTIONS = TrainingOptions(
    steps=4, batch_size=2, crop=(64, 96), generated=1, queries=10, points=64, seed=3
)


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in the layout of the real data: a road, a sky, a car."""
    root = tmp_path_factory.mktemp('data')
    rng = np.random.default_rng(0)
    for name, (sky, road, car, ignore) in (
        ('camvid', (0, 3, 8, 11)),
        ('idd_lite', (6, 0, 3, 255)),
    ):
        for kind in ('images', 'labels'):
            (root / name / 'train' / kind).mkdir(parents=True)
        for i in range(3):
            labels = np.full((80, 120), sky, np.uint8)
            labels[40:] = road
            labels[35:55, 20 + 20 * i : 50 + 20 * i] = car
            labels[:5, :5] = ignore
            image = np.stack([labels * 7, 255 - labels, labels * 3], -1).astype(np.uint8)
            image += rng.integers(0, 20, image.shape, np.uint8)
            cv2.imwrite(str(root / name / 'train' / 'images' / f'{i}.jpg'), image)
            cv2.imwrite(str(root / name / 'train' / 'labels' / f'{i}.png'), labels)
    return root


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a checkpoint folder."""
    from safetensors.torch import load_file

    return load_file(folder / 'model.safetensors')


def test_a_checkpoint_comes_out_that_loads_and_predicts(data: Path, tmp_path: Path) -> None:
    folder = train(data, tmp_path / 'run', OPTIONS, device='cpu')
    network = load_network(folder, device='cpu')
    assert network.num_queries == 10
    assert network.class_names == CLASS_NAMES
    prediction = network.predict([np.zeros((90, 160, 3), np.uint8)])
    assert prediction.class_logits.shape == (1, 10, len(CLASS_NAMES) + 1)
    stored = weights(folder)
    assert all(t.dtype == torch.float16 for t in stored.values() if t.is_floating_point())
    losses = (tmp_path / 'run' / 'loss.csv').read_text().splitlines()
    assert [line.split(',')[0] for line in losses] == ['step', '0', '1', '2', '3']


def test_an_interrupted_run_goes_on_as_it_would_have(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(data, tmp_path / 'whole', OPTIONS, device='cpu', save_every=2)

    class InterruptionError(Exception):
        pass

    draw = TrainingSet.batch

    def interrupted(self: TrainingSet, step: int) -> object:
        if step == 3:
            raise InterruptionError
        return draw(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingSet, 'batch', interrupted)
        with pytest.raises(InterruptionError):
            train(data, tmp_path / 'parts', OPTIONS, device='cpu', save_every=2)
    parts = train(data, tmp_path / 'parts', OPTIONS, device='cpu', save_every=2)

    expected, actual = weights(whole), weights(parts)
    assert expected.keys() == actual.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, msg=name)


def test_begins_with_the_weights_of_a_checkpoint(data: Path, tmp_path: Path) -> None:
    first = train(data, tmp_path / 'first', OPTIONS, device='cpu')
    slow = replace(OPTIONS, steps=1, learning_rate=1e-9, start=str(first))
    second = train(data, tmp_path / 'second', slow, device='cpu')
    for name, tensor in weights(first).items():
        if 'running' not in name and 'num_batches' not in name:  # batch norm counts every batch
            torch.testing.assert_close(weights(second)[name], tensor, atol=1e-3, rtol=1e-3)


def test_other_options_do_not_continue_a_run(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path, replace(OPTIONS, steps=1), device='cpu')
    with pytest.raises(MaskomalyError, match=r"'seed': 3.*'seed': 4"):
        train(data, tmp_path, replace(OPTIONS, steps=1, seed=4), device='cpu')


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(MaskomalyError, match='camvid'):
        train(tmp_path, tmp_path / 'run', OPTIONS, device='cpu')


@settings(max_examples=40)
@given(
    height=st.integers(20, 200),
    width=st.integers(20, 200),
    seed=st.integers(0, 2**31),
)
def test_augmentation_keeps_image_and_labels_together(height: int, width: int, seed: int) -> None:
    """Paint one class white, the other black: after any augmentation they stay apart."""
    labels = np.zeros((height, width), np.uint8)
    labels[:, width // 2 :] = 1
    image = np.repeat(labels[..., None] * 255, 3, axis=-1)
    view = augment(LabelledImage(image, labels), (40, 56), np.random.default_rng(seed))
    assert view.image.shape == (40, 56, 3)
    assert view.image.dtype == view.labels.dtype == np.uint8
    assert set(np.unique(view.labels)) <= {0, 1}
    if len(np.unique(view.labels)) == 2:
        means = [np.median(view.image[view.labels == value]) for value in (0, 1)]
        assert means[0] < means[1]


def test_a_step_draws_the_same_batch_whenever_it_is_asked() -> None:
    rng = np.random.default_rng(0)
    images = [
        LabelledImage(
            rng.integers(0, 256, (70, 100, 3), np.uint8), rng.integers(0, 7, (70, 100), np.uint8)
        )
        for _ in range(4)
    ]
    groups = [(1.0, images[:2]), (2.0, images[2:])]
    first = TrainingSet(groups, (64, 96), 3, seed=1)
    again = TrainingSet(groups, (64, 96), 3, seed=1)
    other = TrainingSet(groups, (64, 96), 3, seed=2)
    first.batch(0)
    assert torch.equal(first.batch(5).pixel_values, again.batch(5).pixel_values)
    assert not torch.equal(first.batch(5).pixel_values, first.batch(6).pixel_values)
    assert not torch.equal(first.batch(5).pixel_values, other.batch(5).pixel_values)
    batch = first.batch(7)
    for masks, classes in zip(batch.mask_labels, batch.class_labels, strict=True):
        assert masks.sum(0).max() == 1  # masks of different classes do not overlap
        assert IGNORE not in classes


def test_margins_are_blank_and_ignored_in_some_images() -> None:
    image = LabelledImage(np.full((70, 100, 3), 255, np.uint8), np.ones((70, 100), np.uint8))
    images = TrainingSet([(1.0, [image])], (64, 96), 8, seed=0)
    margins = 0
    for step in range(4):
        batch = images.batch(step)
        for pixels, masks in zip(batch.pixel_values, batch.mask_labels, strict=True):
            blank = (pixels == 0).all(0)
            assert torch.equal(blank, masks[0] == 0)
            margins += bool(blank.any())
    assert 0 < margins < 32


def test_classes_map_to_the_one_list() -> None:
    assert set(CAMVID_TO_CLASS.values()) == set(IDD_TO_CLASS.values()) == set(range(7))
    assert len(CLASS_NAMES) == 7
