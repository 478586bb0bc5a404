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

"""The training loss: what it asks for, and that nothing else teaches."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskomaly_ros.training.criterion import THING_QUERIES, Targets, loss_of

SIZE = 16
CLASSES = 3
BIG = 12.0


def picture(
    labels: Tensor, *, members: Tensor | None = None, things: Tensor | None = None
) -> Targets:
    """Return targets with a point in the middle of every pixel of a label map [16, 16]."""
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing='ij')
    points = (torch.stack((columns, rows), -1).reshape(-1, 2) + 0.5) / SIZE
    flat = labels.reshape(-1)
    if things is None:
        things = torch.stack([flat == 2] * THING_QUERIES)
    return Targets(
        points.float(),
        flat,
        things.to(torch.uint8),
        torch.eye(CLASSES) if members is None else members,
        is_fine=members is None,
    )


def halves() -> Tensor:
    """Return a label map: class 0 at the left, 2 at the right."""
    labels = torch.zeros(SIZE, SIZE, dtype=torch.int64)
    labels[:, SIZE // 2 :] = 2
    return labels


def perfect(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits of a network that knows the labels; its last query is void."""
    masks = [labels == 2] * THING_QUERIES + [labels == 0, labels == 2, labels == 1]
    classes = torch.full((len(masks), CLASSES + 1), -BIG)
    for query, found in enumerate([CLASSES] * THING_QUERIES + [0, 2, CLASSES]):
        classes[query, found] = BIG
    return classes[None], (torch.stack(masks).float() * 2 - 1)[None] * BIG


def total(parts: dict[str, Tensor]) -> float:
    """Return the loss."""
    return float(sum(parts.values(), torch.zeros(())))


def test_a_network_that_is_right_has_almost_no_loss() -> None:
    labels = halves()
    assert total(loss_of(*perfect(labels), [picture(labels)])) < 0.01


def test_the_order_of_free_queries_is_its_own() -> None:
    labels = halves()
    classes, masks = perfect(labels)
    order = [0, 1, 4, 3, 2]
    assert total(loss_of(classes[:, order], masks[:, order], [picture(labels)])) < 0.01


def test_swapped_classes_cost() -> None:
    labels = halves()
    classes, masks = perfect(labels)
    parts = loss_of(classes, masks[:, [0, 1, 3, 2, 4]], [picture(labels)])
    assert total(parts) > 5


def test_a_coarse_label_accepts_each_of_its_classes() -> None:
    labels = halves()
    members = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 1, 1]])
    classes, masks = perfect(labels)
    target = picture(labels, members=members)
    assert float(loss_of(classes, masks, [target])['sets']) < 0.02
    other = classes.clone()
    other[0, 3] = torch.tensor([-BIG, BIG, -BIG, -BIG])  # class 1 instead of 2: in the same set
    assert float(loss_of(other, masks, [target])['sets']) < 0.02
    other[0, 3] = torch.tensor([BIG, -BIG, -BIG, -BIG])
    assert float(loss_of(other, masks, [target])['sets']) > 5


def test_unsure_points_teach_nothing_about_things() -> None:
    labels = halves()
    classes, masks = perfect(labels)
    things = torch.stack([labels.reshape(-1) == 2] * THING_QUERIES).to(torch.uint8)
    things[:, labels.reshape(-1) == 2] = 255
    masks = masks.clone().requires_grad_()
    loss_of(classes, masks, [picture(labels, things=things)])['things'].backward()
    assert masks.grad is not None
    assert not masks.grad[0, :THING_QUERIES, :, SIZE // 2 + 1 :].any()
    assert masks.grad[0, :THING_QUERIES, :, : SIZE // 2].any()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), fine=st.booleans())
def test_every_part_is_finite_and_not_negative(seed: int, *, fine: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (SIZE, SIZE), generator=generator)
    classes = torch.randn(1, 8, CLASSES + 1, generator=generator) * 20
    masks = torch.randn(1, 8, SIZE, SIZE, generator=generator) * 20
    target = picture(labels, members=None if fine else torch.eye(CLASSES)[[0, 0, 2]])
    parts = loss_of(classes, masks, [target])
    for name, value in parts.items():
        assert torch.isfinite(value), name
        assert value > -1e-2, name
