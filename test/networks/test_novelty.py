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


"""The query for novel things: distances, masks, and a checkpoint as every other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import tiny_config
from transformers import Mask2FormerForUniversalSegmentation

from maskomaly_ros.networks import load_network
from maskomaly_ros.networks.efficientnet_lite import EfficientNetLiteConfig
from maskomaly_ros.networks.efficientnet_lite import register as register_backbone
from maskomaly_ros.networks.novelty import (
    Novelty,
    NoveltyMask2Former,
    NoveltyMask2FormerConfig,
    register,
)
from maskomaly_ros.networks.transformers_network import TransformersNetwork

register()
register_backbone()
FRAME = np.random.default_rng(3).integers(0, 255, (48, 80, 3), np.uint8)


def filled(channels: int, prototypes: int, seed: int) -> Novelty:
    """Return a module with random statistics."""
    generator = torch.Generator().manual_seed(seed)
    novelty = Novelty(channels, prototypes)
    novelty.whitening.copy_(torch.randn(channels, channels, generator=generator))
    novelty.whitened.copy_(torch.randn(prototypes, channels, generator=generator))
    novelty.limits.copy_(torch.tensor([1.0, 5.0]))
    return novelty


@pytest.fixture(scope='module')
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the same network without and with novelty."""
    root = tmp_path_factory.mktemp('networks')
    torch.manual_seed(0)
    plain = Mask2FormerForUniversalSegmentation(tiny_config(EfficientNetLiteConfig())).eval()
    content = plain.config.to_dict()
    content.pop('model_type')
    channels = plain.model.pixel_level_module.encoder.channels[-1]
    config = NoveltyMask2FormerConfig.from_dict(
        {
            **content,
            'novelty_query': 2,
            'novelty_prototypes': 4,
            'novelty_channels': channels,
            'novelty_sharpness': 0.5,
        }
    )
    novel = NoveltyMask2Former(config).eval()
    novel.load_state_dict(plain.state_dict(), strict=False)
    novel.novelty.load_state_dict(filled(channels, 4, 0).state_dict())
    plain.save_pretrained(root / 'plain')
    novel.save_pretrained(root / 'novel')
    return root / 'plain', root / 'novel'


@pytest.fixture(scope='module')
def with_things(tmp_path_factory: pytest.TempPathFactory, folders: tuple[Path, Path]) -> Path:
    """Return the network of `folders` whose things are told by a part of their own."""
    folder = tmp_path_factory.mktemp('things')
    source = NoveltyMask2Former.from_pretrained(folders[1])
    content = {**source.config.to_dict(), 'things_width': 8}
    torch.manual_seed(4)
    model = NoveltyMask2Former(NoveltyMask2FormerConfig.from_dict(content)).eval()
    model.load_state_dict(source.state_dict(), strict=False)
    model.save_pretrained(folder)
    return folder


@given(st.integers(0, 100), st.integers(1, 9), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_distances_are_those_of_the_definition(seed: int, prototypes: int, channels: int) -> None:
    novelty = filled(channels, prototypes, seed)
    features = torch.randn(2, channels, 3, 5, generator=torch.Generator().manual_seed(seed + 1))
    points = features.permute(0, 2, 3, 1).double() @ novelty.whitening.T.double()
    expected = (points[..., None, :] - novelty.whitened.double()).norm(dim=-1).amin(-1)
    torch.testing.assert_close(
        novelty.distance(features)[:, 0].double(), expected, rtol=1e-4, atol=2e-3
    )
    found = novelty(features)
    assert found.min() >= 1e-3
    assert found.max() <= 1


def test_only_the_mask_of_the_query_is_another(folders: tuple[Path, Path]) -> None:
    plain, novel = (load_network(f, device='cpu', backend='transformers') for f in folders)
    ours, theirs = novel.predict([FRAME]), plain.predict([FRAME])
    others = [0, 1, *range(3, plain.num_queries)]
    assert torch.equal(ours.mask_logits[:, others], theirs.mask_logits[:, others])
    assert torch.equal(ours.class_logits, theirs.class_logits)
    probability, thing = (p.mask_logits[:, 2].sigmoid() for p in (ours, theirs))
    assert (probability <= thing.sqrt() + 1e-5).all()  # novelty is at most 1
    assert not torch.allclose(probability, thing)


def test_things_may_be_told_by_a_part_of_their_own(
    folders: tuple[Path, Path], with_things: Path
) -> None:
    own, plain = (
        load_network(f, device='cpu', backend='transformers') for f in (with_things, folders[0])
    )
    assert isinstance(own, TransformersNetwork)
    ours, theirs = own.predict([FRAME]), plain.predict([FRAME])
    others = [0, 1, *range(3, plain.num_queries)]
    torch.testing.assert_close(ours.mask_logits[:, others], theirs.mask_logits[:, others])
    torch.testing.assert_close(ours.class_logits, theirs.class_logits)
    model: Any = own.traceable().model
    pixels = own.input_form.prepare([FRAME], torch.device('cpu'), None).pixels
    with torch.inference_mode():
        maps = model.model.pixel_level_module.encoder(pixels).feature_maps
        things, features = model.things(maps)
        assert things.shape == (1, 1, *maps[0].shape[-2:])
        assert features.shape == maps[-1].shape
        # By the definition, in double precision.
        novelty = torch.nn.functional.interpolate(
            model.novelty(features), things.shape[-2:], mode='bilinear', align_corners=False
        ).double()
        wanted = (things.double().sigmoid() ** 0.5 * novelty).clamp(1e-6, 1 - 1e-6)
    rows, columns = ours.mask_logits.shape[-2:]
    torch.testing.assert_close(
        ours.mask_logits[:, 2].double().sigmoid(),
        wanted[:, 0, :rows, :columns],
        rtol=1e-4,
        atol=1e-5,
    )


def test_maps_of_the_last_stages_do_not_matter_to_things(with_things: Path) -> None:
    network = load_network(with_things, device='cpu', backend='transformers')
    assert isinstance(network, TransformersNetwork)
    model: Any = network.traceable().model
    encoder = model.model.pixel_level_module.encoder
    maps = [
        torch.randn(1, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(encoder.channels, (4, 8, 16, 32), strict=True)
    ]
    with torch.inference_mode():
        before = model.things(maps)[0]
        assert torch.equal(before, model.things([*maps[:2], maps[2] * 0, maps[3] * 0])[0])
        assert not torch.equal(before, model.things([maps[0], maps[1] * 0, *maps[2:]])[0])


def test_what_is_known_is_not_novel(folders: tuple[Path, Path]) -> None:
    network = load_network(folders[1], device='cpu', backend='transformers')
    assert isinstance(network, TransformersNetwork)
    before = network.predict([FRAME]).mask_logits[:, 2].sigmoid()
    model: Any = network.traceable().model
    novelty = model.novelty
    novelty.limits.copy_(torch.tensor([1e4, 2e4]))  # nothing is as far as this
    known = network.predict([FRAME]).mask_logits[:, 2].sigmoid()
    novelty.limits.copy_(torch.tensor([-2e4, -1e4]))  # everything is farther
    novel = network.predict([FRAME]).mask_logits[:, 2].sigmoid()
    assert known.max() <= 1e-3 + 1e-6
    assert (before <= novel + 1e-5).all()
