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

"""The loss: masks matched to fine labels, sets of classes for coarse ones, and things.

All of it is taken at labelled points alone, so that what nobody labelled teaches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

CLASS_WEIGHT, MASK_WEIGHT, DICE_WEIGHT, VOID_WEIGHT = 2.0, 5.0, 5.0, 0.1  # of Mask2Former
SET_WEIGHT = 4.0
THINGS_WEIGHT = 0.25
HEAD_DICE_WEIGHT = 1.0
THING_QUERIES = 2
_SMALL = 1e-3


@dataclass(frozen=True)
class Targets:
    """What is known of one image, at P points.

    Attributes:
        points: float32 [P, 2], x and y in 0..1 of the network input.
        labels: int64 [P]: the class where is_fine, else an index into members.
        things: uint8 [2, P]: 1 thing, 0 background, 255 unsure, for each taught query.
        members: float32 [labels, C]: 1 where a label may be that class.
        is_fine: each label names one class; then masks are matched.

    """

    points: Tensor
    labels: Tensor
    things: Tensor
    members: Tensor
    is_fine: bool

    def to(self, device: torch.device) -> Targets:
        """Return the targets on a device."""
        return Targets(
            self.points.to(device),
            self.labels.to(device),
            self.things.to(device),
            self.members.to(device),
            self.is_fine,
        )


def loss_of(
    class_logits: Tensor, mask_logits: Tensor, targets: list[Targets]
) -> dict[str, Tensor]:
    """Return the parts of the loss of one prediction.

    Args:
        class_logits: [B, N, C + 1]; the last column is void.
        mask_logits: [B, N, h, w]. The first `THING_QUERIES` queries are the taught ones.
        targets: one an image, with the same P.

    Returns:
        Weighted parts by name, each a scalar.

    """
    logits = _at_points(mask_logits, targets)
    free, free_classes = logits[:, THING_QUERIES:], class_logits[:, THING_QUERIES:]
    parts = [
        _matched(free_classes, free, targets),
        _sets(free_classes, free, targets),
        _things(class_logits[:, :THING_QUERIES], logits[:, :THING_QUERIES], targets),
    ]
    return {name: value for part in parts for name, value in part.items()}


def _matched(classes: Tensor, logits: Tensor, targets: list[Targets]) -> dict[str, Tensor]:
    """Return the loss of Mask2Former over the images with fine labels."""
    void = classes.shape[-1] - 1
    weights = classes.new_ones(void + 1)
    weights[void] = VOID_WEIGHT
    found, wanted, class_losses, class_weights = [], [], [], []
    for image, target in enumerate(targets):
        if not target.is_fine:
            continue
        present = torch.unique(target.labels)
        truth = (target.labels == present[:, None]).to(logits.dtype)  # [K, P]
        queries, masks = _match(classes[image], logits[image], present, truth)
        aims = torch.full((classes.shape[1],), void, dtype=torch.int64, device=classes.device)
        aims[queries] = present[masks]
        class_losses.append(F.cross_entropy(classes[image], aims, weights, reduction='sum'))
        class_weights.append(weights[aims].sum())
        found.append(logits[image, queries])
        wanted.append(truth[masks])
    if not found:
        nothing = classes.sum() * 0
        return {'class': nothing, 'mask': nothing, 'dice': nothing}
    share = len(found) / len(targets)  # images of each kind count alike
    mask, truth = torch.cat(found), torch.cat(wanted)
    return {
        'class': share
        * CLASS_WEIGHT
        * torch.stack(class_losses).sum()
        / torch.stack(class_weights).sum(),
        'mask': share * MASK_WEIGHT * F.binary_cross_entropy_with_logits(mask, truth),
        'dice': share * DICE_WEIGHT * _dice(mask, truth).mean(),
    }


@torch.no_grad()
def _match(
    classes: Tensor, logits: Tensor, present: Tensor, truth: Tensor
) -> tuple[Tensor, Tensor]:
    """Return which query takes which mask: the assignment of the lowest cost."""
    positive, negative = F.softplus(-logits), F.softplus(logits)
    cost = MASK_WEIGHT * (positive @ truth.T + negative @ (1 - truth).T) / truth.shape[1]
    chance = logits.sigmoid()
    overlap = 2 * chance @ truth.T + 1
    cost += DICE_WEIGHT * (1 - overlap / (chance.sum(1)[:, None] + truth.sum(1) + 1))
    cost -= CLASS_WEIGHT * classes.softmax(-1)[:, present]
    rows, columns = linear_sum_assignment(cost.float().cpu().numpy())
    return (
        torch.as_tensor(rows, device=logits.device),
        torch.as_tensor(columns, device=logits.device),
    )


def _dice(logits: Tensor, truth: Tensor) -> Tensor:
    chance = logits.sigmoid()
    return 1 - (2 * (chance * truth).sum(-1) + 1) / (chance.sum(-1) + truth.sum(-1) + 1)


def _sets(classes: Tensor, logits: Tensor, targets: list[Targets]) -> dict[str, Tensor]:
    """Return how far the semantic maps are from labels that may be one of several classes.

    s_k = sum over queries of mask and probability of the classes in set k. A labelled point asks
    its set for a sum of one, and for the whole of what all classes have there.
    """
    losses = []
    for image, target in enumerate(targets):
        if target.is_fine:
            continue
        chance = classes[image].softmax(-1)[:, :-1]
        maps = chance.T @ logits[image].sigmoid()  # [C, P]
        own = (target.members[target.labels].T * maps).sum(0)
        everything = maps.sum(0)
        share = (own + _SMALL) / (everything + _SMALL)
        losses.append(-((own + _SMALL).clamp(max=1).log() + share.log()).mean())
    if not losses:
        return {'sets': classes.sum() * 0}
    return {'sets': SET_WEIGHT * torch.stack(losses).sum() / len(targets)}


def _things(classes: Tensor, logits: Tensor, targets: list[Targets]) -> dict[str, Tensor]:
    """Return the loss of the queries that cover things whatever their class, as void."""
    truth = torch.stack([t.things for t in targets])  # [B, 2, P]
    cross, overlap = _covering(logits, truth)
    void = -classes.log_softmax(-1)[..., -1].mean()
    mask = MASK_WEIGHT * cross + DICE_WEIGHT * (1 - overlap)
    return {'things': THINGS_WEIGHT * (mask + void)}


def head_loss(logits: Tensor, targets: list[Targets]) -> Tensor:
    """Return the loss of a head that covers what the first taught query covers.

    With less of the dice loss than masks have, which makes a mask sure of what it covers: what it
    has never seen is then no thing.

    Args:
        logits: float [B, 1, h, w].
        targets: what is known of each image.

    """
    truth = torch.stack([t.things[:1] for t in targets])  # [B, 1, P]
    cross, overlap = _covering(_at_points(logits, targets), truth)
    return 2 * cross + HEAD_DICE_WEIGHT * (1 - overlap)


def _covering(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean cross entropy and mean soft overlap with the truth [B, M, P], where known."""
    known = truth != 255
    aim = (truth == 1).to(logits.dtype)
    cross = F.binary_cross_entropy_with_logits(logits, aim, reduction='none')
    cross = (cross * known).sum(-1) / known.sum(-1).clamp(min=1)
    chance = logits.sigmoid() * known
    overlap = (2 * (chance * aim).sum(-1) + 1) / (chance.sum(-1) + aim.sum(-1) + 1)
    return cross.mean(), overlap.mean()


def _at_points(logits: Tensor, targets: list[Targets]) -> Tensor:
    """Return maps [B, M, h, w] at the points of the targets, [B, M, P]."""
    points = torch.stack([t.points for t in targets])
    return F.grid_sample(
        logits, points[:, None] * 2 - 1, align_corners=False, padding_mode='border'
    )[:, :, 0]
