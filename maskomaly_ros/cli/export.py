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

"""`maskomaly export`: a checkpoint as an .onnx file, checked."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from maskomaly_ros.cli import options
from maskomaly_ros.cli.common import (
    ERR,
    OUT,
    check_file,
    check_json,
    parse_pair,
    parse_size,
    say,
    write_json,
)
from maskomaly_ros.errors import MaskomalyError

_SOURCE_FRAMES = 4


def export(
    out: Annotated[Path, typer.Option(help='File to write; it ends in .onnx.')],
    checkpoint: options.Checkpoint = 'demo',
    config: Annotated[
        options.MaybePath,
        typer.Option(help='Yaml configuration of an official file, where it is not beside it.'),
    ] = None,
    input_size: options.Size = None,
    frame_size: Annotated[
        options.MaybeStr,
        typer.Option(
            metavar='WIDTHxHEIGHT',
            help='Size of the camera frames, so that nothing is spent on padding; default: the '
            'file takes any frame that fits the input size, the longest side across.',
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help='Frames a batch.')] = 1,
    backend: Annotated[
        str,
        typer.Option(help='What to check the file with: onnxruntime, openvino or tensorrt.'),
    ] = 'onnxruntime',
    device: Annotated[str, typer.Option(help='Where to check it: cpu, cuda or cuda:N.')] = 'cpu',
    precision: Annotated[
        str, typer.Option(help='Precision of the backend to check it in.')
    ] = 'float32',
    source: Annotated[
        options.MaybePath,
        typer.Option(
            help='Video, folder of images or rosbag; its first frames are checked too, beside '
            'generated ones.'
        ),
    ] = None,
    json_file: options.Json = None,
) -> None:
    """Write a network as an ONNX file, and compare its outputs with those of torch.

    Fails, and leaves no file, where they disagree. Whatever takes a checkpoint takes the file.
    """
    size = parse_size(input_size) if input_size else None
    width, height = parse_pair(frame_size, 'frame size', 'WIDTHxHEIGHT') if frame_size else (0, 0)
    if frame_size and not (width and height):
        raise MaskomalyError(f'frame size {frame_size} must be above 0')
    from maskomaly_ros.drives.open import open_source
    from maskomaly_ros.networks.devices import select_device
    from maskomaly_ros.networks.onnx_export import export as write_network
    from maskomaly_ros.scenes.scene import generate_clip

    check_file(out)
    check_json(json_file)
    frames = [scene.image for scene in generate_clip(0, 1)]
    if source:
        with open_source(source) as given:
            frames += [frame.image for frame in islice(given, _SOURCE_FRAMES)]
    with ERR.status(f'exporting {checkpoint}'):
        done = write_network(
            checkpoint,
            out,
            config=config,
            input_size=size,
            frame_size=(height, width) if frame_size else None,
            batch=batch,
            runtime=backend,
            device=select_device(device),
            precision=precision,
            frames=frames,
        )
    table = Table('difference from torch in float32', box=box.SIMPLE_HEAD)
    table.add_column('worst image', justify='right')
    for name, value in asdict(done.agreement).items():
        table.add_row(_ROWS[name], f'{value:.2g}' if name != 'mask_iou' else f'{value:.5f}')
    OUT.print(table)
    shape = 'x'.join(map(str, (done.shape[0], 3, *done.shape[1:])))
    say(f'{done.file}: input {shape}')
    content = {
        'file': str(done.file),
        'shape': done.shape,
        'backend': backend,
        'device': device,
        'precision': precision,
        'agreement': asdict(done.agreement),
    }
    write_json(json_file, content)


_ROWS = {
    'mask_error_max': 'mask logits, largest, in standard deviations',
    'mask_error_mean': 'mask logits, mean, in standard deviations',
    'class_error_max': 'class probabilities, largest',
    'score_error_max': 'score map, largest',
    'score_error_mean': 'score map, mean',
    'mask_iou': 'IoU of the masks',
}
