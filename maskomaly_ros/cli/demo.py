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

"""`maskomaly demo`: the node on a camera stream, and a page with what it publishes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from maskomaly_ros.cli import options
from maskomaly_ros.cli.common import OUT
from maskomaly_ros.errors import MaskomalyError

# torch, transformers and OpenCV take seconds to import: each command imports what it needs.


def demo(
    out: Annotated[Path, typer.Option(help='Folder for the results.')],
    source: Annotated[
        options.MaybePath,
        typer.Option(help='A video, a folder of images or a rosbag; default: a generated clip.'),
    ] = None,
    checkpoint: options.Checkpoint = 'demo',
    topic: options.OneTopic = None,
    frames: Annotated[
        options.MaybeInt, typer.Option(min=1, help='Frames to publish at most.')
    ] = None,
    scenes: Annotated[
        options.MaybeStr,
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
