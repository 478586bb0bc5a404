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

"""`maskomaly generate`: road scenes with obstacles and their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskomaly_ros.cli.common import OUT, parse_pair, progress
from maskomaly_ros.errors import MaskomalyError

# torch, transformers and OpenCV take seconds to import: each command imports what it needs.


def generate(
    out: Annotated[Path, typer.Option(help='Folder to write; must be new or empty.')],
    seed: Annotated[int, typer.Option(min=0, help='Seed of the first clip.')] = 0,
    clips: Annotated[int, typer.Option(min=1, help='Clips, of consecutive seeds.')] = 1,
    frames: Annotated[int, typer.Option(min=1, help='Frames of each clip.')] = 150,
    rate: Annotated[float, typer.Option(help='Frames a second, above 0.')] = 15.0,
    size: Annotated[str, typer.Option(metavar='WIDTHxHEIGHT', help='In pixels.')] = '640x360',
) -> None:
    """Write generated road scenes with obstacles, and labels, as a data set of layout plain."""
    from maskomaly_ros.evaluation.datasets import write_plain
    from maskomaly_ros.scenes.scene import generate_clip

    width, height = parse_pair(size, 'size', 'WIDTHxHEIGHT')
    if not 0 < rate <= 1000 or not height or not width:
        raise MaskomalyError(
            f'rate {rate:g} must be above 0 and at most 1000, and size {size} above 0'
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MaskomalyError(f'{out} exists and is no empty folder; give another')
    with progress() as bars:
        for clip in bars(range(seed, seed + clips), clips, 'clips'):
            scene = generate_clip(clip, frames, rate=rate, size=(height, width))
            for index, frame in enumerate(bars(scene, frames, f'clip {clip}')):
                write_plain(out, f'{clip:05}_{index:05}', frame.image, frame.anomaly)
    OUT.print(f'Data set: plain:{out}', soft_wrap=True, highlight=False)
