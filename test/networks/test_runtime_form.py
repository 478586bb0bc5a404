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

"""The form in which networks are exported: the same functions, and the model is left as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from maskomaly_ros.networks.checkpoints import find_checkpoint
from maskomaly_ros.networks.runtime_form import runtime_form
from maskomaly_ros.networks.transformers_network import load_model


@given(
    groups=st.integers(1, 4),
    each=st.integers(1, 4),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    affine=st.booleans(),
    seed=st.integers(0, 99),
)
def test_group_norm(
    groups: int, each: int, size: tuple[int, int], affine: bool, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    norm = nn.GroupNorm(groups, groups * each, affine=affine)
    if affine:
        for parameter in norm.parameters():
            nn.init.normal_(parameter, generator=random)
    maps = torch.randn(2, groups * each, *size, generator=random) + 3
    with torch.inference_mode():
        expected = norm(maps)
        with runtime_form(norm):
            actual = norm(maps)
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-3)


@pytest.fixture(scope='module')
def model(tiny_checkpoint: Path) -> nn.Module:
    loaded: nn.Module = load_model(find_checkpoint(tiny_checkpoint))
    return loaded.eval()


class TestModel:
    def test_answers_the_same(self, model: nn.Module) -> None:
        pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = model(pixel_values=pixels)
            with runtime_form(model):
                actual = model(pixel_values=pixels)
        for name in ('masks_queries_logits', 'class_queries_logits'):
            torch.testing.assert_close(actual[name], expected[name], rtol=1e-3, atol=1e-3)

    def test_is_left_as_it_was(self, model: nn.Module) -> None:
        parts = dict(model.named_modules())
        with runtime_form(model):
            assert dict(model.named_modules()) != parts
        assert dict(model.named_modules()) == parts
        assert not [part for part in parts.values() if 'forward' in vars(part)]

    def test_knows_the_names_of_the_parts(self, model: nn.Module) -> None:
        """Parts that the library renames would keep their slow form without a word."""
        with runtime_form(model):
            kinds = [type(part).__name__ for part in model.modules()]
            patched = {type(part).__name__ for part in model.modules() if 'forward' in vars(part)}
        assert 'FusedDeformableAttention' in kinds
        assert patched == {'GroupNorm', 'Mask2FormerMaskPredictor'}
