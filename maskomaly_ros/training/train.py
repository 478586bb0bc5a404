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

"""Train a small Mask2Former from scratch: how the bundled checkpoint was made."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, ResNetConfig

from maskomaly_ros.classes import CLASS_NAMES
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.checkpoints import find_checkpoint
from maskomaly_ros.networks.devices import select_device
from maskomaly_ros.networks.transformers_network import load_model
from maskomaly_ros.training.data import LabelledImage, TrainingSet, load_training_set

_LOG = logging.getLogger(__name__)
_STATE = 'training_state.pt'


@dataclass(frozen=True)
class TrainingOptions:
    """What a training run depends on; the defaults began the bundled checkpoint.

    Its model card (networks/demo/README.md) has both of its runs.

    Attributes:
        steps: optimiser steps.
        batch_size: images in a step.
        crop: height and width in pixels of the images that the network sees.
        learning_rate: the highest; it rises over 100 steps, then decays (poly, power 0.9).
        generated: how many generated scenes to mix in.
        queries: N, the number of masks.
        points: sampled points in which a mask is compared with its label. 12544, the usual
            number, is over five times the pixels of a mask at this size.
        seed: of weights, data and augmentation.
        start: checkpoint folder whose weights to begin with; random ones where it is None.

    """

    steps: int = 5000
    batch_size: int = 8
    crop: tuple[int, int] = (160, 224)
    learning_rate: float = 1e-3
    generated: int = 600
    queries: int = 32
    points: int = 2240
    seed: int = 0
    start: str | None = None


def train(
    data: Path,
    out: Path,
    options: TrainingOptions | None = None,
    *,
    device: str = 'auto',
    save_every: int = 200,
) -> Path:
    """Train, or go on with the training that is in a folder.

    Args:
        data: folder with `camvid/train` and `idd_lite/train`.
        out: receives the training state, `loss.csv` and the checkpoint folder `model`.
        options: what to do; must equal the options the run in out was begun with.
        device: see `load_network`.
        save_every: steps between two saved states; an interruption loses at most these.

    Returns:
        The checkpoint folder, which `load_network` takes: float16 weights, averaged over the
        last steps (exponential moving average).

    Raises:
        MaskomalyError: the data is not there, out holds a run with other options, or the
            checkpoint to begin with is none.

    """
    options = options or TrainingOptions()
    torch.manual_seed(options.seed)
    selected = select_device(device)
    model = build_model(options)
    if options.start is not None:
        model.load_state_dict(load_model(find_checkpoint(options.start)).state_dict())
    model.to(selected)
    run = _Run(model, options, out)
    run.resume()
    with _progress() as progress:
        task = progress.add_task('loading', total=None)

        def shown(items: Iterator[LabelledImage], n: int, text: str) -> Iterator[LabelledImage]:
            progress.reset(task, total=n, description=text)
            for item in items:
                progress.advance(task)
                yield item

        images = load_training_set(
            data, options.generated, options.crop, options.batch_size, options.seed, shown
        )
        progress.reset(task, total=options.steps, completed=run.step, description='training')
        while run.step < options.steps:
            loss = run.advance(images, selected)
            progress.update(task, completed=run.step, description=f'loss {loss:7.3f}')
            if run.step % save_every == 0 or run.step == options.steps:
                run.save()
    return out / 'model'


def build_model(options: TrainingOptions) -> Mask2FormerForUniversalSegmentation:
    """Return a small Mask2Former with random weights: basic-block ResNet, 64-wide decoder."""
    backbone = ResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 128, 256],
        depths=[2, 2, 2, 2],
        layer_type='basic',
        out_features=['stage1', 'stage2', 'stage3', 'stage4'],
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=64,
        mask_feature_size=64,
        hidden_dim=64,
        encoder_feedforward_dim=256,
        dim_feedforward=256,
        encoder_layers=2,
        decoder_layers=5,  # counts the prediction before the first layer
        num_attention_heads=4,
        num_queries=options.queries,
        dropout=0.0,
        train_num_points=options.points,
        id2label=dict(enumerate(CLASS_NAMES)),
        label2id={name: i for i, name in enumerate(CLASS_NAMES)},
        maskomaly_input_size=[256, 512],
    )
    return Mask2FormerForUniversalSegmentation(config)


class _Run:
    """The state of a training run and its folder."""

    def __init__(
        self, model: Mask2FormerForUniversalSegmentation, options: TrainingOptions, out: Path
    ) -> None:
        self.step = 0
        self._model = model
        self._options = options
        self._out = out
        averaging = get_ema_multi_avg_fn(0.998)  # type: ignore[no-untyped-call]
        self._average = AveragedModel(model, multi_avg_fn=averaging, use_buffers=True)
        self._optimizer = torch.optim.AdamW(
            _parameter_groups(model), lr=options.learning_rate, weight_decay=0.05
        )
        self._losses: list[tuple[int, float]] = []

    def advance(self, images: TrainingSet, device: torch.device) -> float:
        """Take one step and return its loss."""
        # Points are sampled from torch's own generator; seeded by step, a resumed run repeats.
        torch.manual_seed(self._options.seed * 1_000_003 + self.step)
        for group in self._optimizer.param_groups:
            group['lr'] = group['scale'] * self._learning_rate()
        batch = images.batch(self.step).to(device)
        self._model.train()
        loss = self._model(
            pixel_values=batch.pixel_values,
            mask_labels=batch.mask_labels,
            class_labels=batch.class_labels,
        ).loss.sum()
        if not torch.isfinite(loss):
            raise MaskomalyError(
                f'loss is {loss.item()} at step {self.step}; lower the learning rate '
                f'{self._options.learning_rate}'
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._average.update_parameters(self._model)
        self._losses.append((self.step, loss.item()))
        self.step += 1
        return float(np.mean([value for _, value in self._losses[-50:]]))

    def _learning_rate(self) -> float:
        warm_up = min(1.0, (self.step + 1) / 100)
        left = 1 - self.step / self._options.steps
        return self._options.learning_rate * warm_up * math.pow(left, 0.9)

    def resume(self) -> None:
        """Take over the state saved in the folder, if there is one."""
        path = self._out / _STATE
        if not path.is_file():
            return
        state = torch.load(path, map_location='cpu', weights_only=True)
        if state['options'] != _plain(self._options):
            raise MaskomalyError(
                f'{self._out} holds a training run with {state["options"]}, not '
                f'{_plain(self._options)}; give another folder or the same options'
            )
        self._model.load_state_dict(state['model'])
        self._average.load_state_dict(state['average'])
        self._optimizer.load_state_dict(state['optimizer'])
        self.step = state['step']
        self._losses = [(int(s), float(v)) for s, v in state['losses']]
        _LOG.info('going on with %s at step %d of %d', path, self.step, self._options.steps)

    def save(self) -> None:
        """Write the state, the losses and the checkpoint folder."""
        self._out.mkdir(parents=True, exist_ok=True)
        state = {
            'options': _plain(self._options),
            'model': self._model.state_dict(),
            'average': self._average.state_dict(),
            'optimizer': self._optimizer.state_dict(),
            'step': self.step,
            'losses': self._losses,
        }
        part = self._out / f'{_STATE}.part'
        torch.save(state, part)
        part.replace(self._out / _STATE)  # an interruption leaves the old state or the new one
        with (self._out / 'loss.csv').open('w', newline='') as stream:
            writer = csv.writer(stream)
            writer.writerow(('step', 'loss'))
            writer.writerows(self._losses)
        averaged = build_model(self._options)
        averaged.load_state_dict(self._average.module.state_dict())
        averaged.half().save_pretrained(self._out / 'model')


def _plain(options: TrainingOptions) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(options).items()}


def _parameter_groups(model: torch.nn.Module) -> list[dict[str, Any]]:
    """Leave norms, biases and embeddings without weight decay, as the official code does."""
    plain: list[torch.nn.Parameter] = []
    decayed: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        small = parameter.ndim < 2 or 'embed' in name or 'queries_features' in name
        (plain if small else decayed).append(parameter)
    return [
        {'params': decayed, 'scale': 1.0},
        {'params': plain, 'scale': 1.0, 'weight_decay': 0.0},
    ]


def _progress() -> Progress:
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
