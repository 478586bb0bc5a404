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

"""Train the head for things on a backbone that stays as ImageNet left it."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from maskomaly_ros.networks.things import SHARED_STAGES, Things
from maskomaly_ros.training.criterion import head_loss
from maskomaly_ros.training.data import TrainingSet
from maskomaly_ros.training.schedule import learning_rate

_LOG = logging.getLogger(__name__)
_RATE = 2e-3
_RISE = 100  # steps
_REPORTED = 100  # steps between two lines of the log
_AVERAGED = 0.995  # share of the averaged weights that a step keeps


def train_head(
    things: Things, encoder: Any, images: TrainingSet, steps: int, device: torch.device
) -> None:
    """Train the head of `things` in place; everything else stays as it is.

    Args:
        things: on the CPU, in float32; ends there with averaged weights, in evaluation mode.
        encoder: the first backbone, whose common stages it takes the maps of.
        images: the training images.
        steps: optimiser steps.
        device: to compute on.

    """
    things.to(device).eval()
    encoder = encoder.to(device).eval()
    head = things.head
    average = AveragedModel(
        head,
        multi_avg_fn=get_ema_multi_avg_fn(_AVERAGED),  # type: ignore[no-untyped-call]
        use_buffers=True,
    )
    optimizer = torch.optim.AdamW(head.parameters(), lr=_RATE, weight_decay=1e-2)
    head.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group['lr'] = learning_rate(_RATE, step, steps, _RISE)
        batch = images.batch(step).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                maps = things.maps(encoder.first_maps(batch.pixel_values, SHARED_STAGES))
            logits = head(maps)
        loss = head_loss(logits.float(), batch.targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(head)
        if (step + 1) % _REPORTED == 0 or step + 1 == steps:
            _LOG.info('head for things: step %d of %d, loss %.3f', step + 1, steps, loss.item())
    head.load_state_dict(average.module.state_dict())
    things.cpu().eval()
    encoder.cpu()
