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

"""Options that several sub-commands of `maskomaly` have, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

# typer 0.9, which Ubuntu 24.04 has, knows Optional[X] and not X | None.
MaybeFloat = Optional[float]  # noqa: UP045
MaybeInt = Optional[int]  # noqa: UP045
MaybePath = Optional[Path]  # noqa: UP045
MaybePaths = Optional[list[Path]]  # noqa: UP045
MaybeStrs = Optional[list[str]]  # noqa: UP045
MaybeStr = Optional[str]  # noqa: UP045

Checkpoint = Annotated[
    str,
    typer.Option(
        help='demo (bundled), a local folder, or a Hugging Face id of a Mask2Former.',
    ),
]
Device = Annotated[str, typer.Option(help='auto, cpu, cuda or cuda:N.')]
Backend = Annotated[
    str,
    typer.Option(
        help='What runs it: transformers, onnxruntime, openvino, tensorrt, detectron2, or '
        'auto for the fastest that is installed.'
    ),
]
Precision = Annotated[str, typer.Option(help='float32, float16 or bfloat16.')]
# Of the commands that take a parameter file, in which all of these may stand.
Params = Annotated[
    MaybePath,
    typer.Option('--params', help='Parameter file of the node, such as config/camera.yaml.'),
]
OtherCheckpoint = Annotated[
    MaybeStr, typer.Option('--checkpoint', help='Instead of that of --params: name, folder or id.')
]
OtherQueries = Annotated[MaybePath, typer.Option('--queries', help='Queries file.')]
OtherDevice = Annotated[MaybeStr, typer.Option('--device', help='auto, cpu, cuda or cuda:N.')]
OtherBackend = Annotated[
    MaybeStr, typer.Option('--backend', help='What runs the network; default: the fastest.')
]
OtherPrecision = Annotated[
    MaybeStr, typer.Option('--precision', help='float32, float16 or bfloat16.')
]
Topics = Annotated[
    MaybeStrs,
    typer.Option(
        '--topic',
        help='Camera topic of bags; repeat for more. Default: those of --params, else every '
        'camera.',
    ),
]
OneTopic = Annotated[
    MaybeStr, typer.Option('--topic', help='Camera topic of a bag; default: its first.')
]
BatchSize = Annotated[
    int, typer.Option('--batch-size', min=1, help='Frames in one run of the network.')
]
ImageRate = Annotated[
    MaybeFloat, typer.Option('--rate', help='Frames a second of a folder of images.')
]
Size = Annotated[
    MaybeStr,
    typer.Option(
        '--input-size',
        metavar='SHORTESTxLONGEST',
        help="Network input in pixels, such as 640x1280; default: the checkpoint's own.",
    ),
]
_DATASET = typer.Option(
    '--dataset',
    metavar='LAYOUT:PATH',
    help='Data set; `maskomaly evaluate --help` names the layouts. Repeat for more.',
)
Datasets = Annotated[list[str], _DATASET]
MaybeDatasets = Annotated[MaybeStrs, _DATASET]
Cache = Annotated[
    MaybePath,
    typer.Option(
        metavar='FOLDER',
        help='Keep the outputs of the network here: an interrupted run goes on where it was, and '
        'the next one does not run the network again.',
    ),
]
QueriesFile = Annotated[
    MaybePath,
    typer.Option(
        '--queries', help='Queries file; default: the one that comes with the checkpoint.'
    ),
]
Checkpoints = Annotated[
    list[str],
    typer.Option('--checkpoint', help='Repeat to compare; see `maskomaly checkpoint list`.'),
]
QueriesFiles = Annotated[
    MaybePaths,
    typer.Option(
        '--queries',
        help='Queries file, one for each checkpoint in the same order; default: those that '
        'come with the checkpoints.',
    ),
]
MinimumArea = Annotated[
    int,
    typer.Option(
        '--minimum-obstacle-area',
        min=0,
        help='Pixels of the smallest false obstacle that counts.',
    ),
]
Json = Annotated[
    MaybePath,
    typer.Option(
        '--json',
        metavar='PATH',
        help='Write a summary here, as JSON; - is standard output, in place of the text.',
    ),
]
From = Annotated[
    MaybeStr,
    typer.Option(
        '--from',
        metavar='TIME',
        help='Begin here: seconds since the first frame, or [H:]MM:SS as in the page.',
    ),
]
To = Annotated[MaybeStr, typer.Option('--to', metavar='TIME', help='End here, likewise.')]
Every = Annotated[
    int, typer.Option(min=1, metavar='N', help='Take one frame of N of each camera.')
]
DryRun = Annotated[
    bool,
    typer.Option('--dry-run', help='Say what would be read, and what is left out; read nothing.'),
]
