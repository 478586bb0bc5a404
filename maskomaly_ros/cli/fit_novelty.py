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
            help='Exponent of its own mask: lower finds more of what it is unsure of.',
        ),
    ] = 0.4,
    images: Annotated[
        int, typer.Option(min=10, help='Images of each data set that are looked at.')
    ] = 300,
) -> None:
    """Weight the mask of a query for things by how unlike the training images they look."""
    from maskomaly_ros.training.novelty import NoveltyOptions
    from maskomaly_ros.training.novelty import fit_novelty as run

    options = NoveltyOptions(query=query, sharpness=sharpness, images=images)
    OUT.print(
        f'Checkpoint: {run(checkpoint, data, out, options)}', soft_wrap=True, highlight=False
    )
