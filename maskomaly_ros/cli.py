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

import json
import logging
import math
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, TypeVar

import typer
from rich import box
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Table

from maskomaly_ros import __version__, cli_checkpoint
from maskomaly_ros.errors import MaskomalyError

# torch, transformers and OpenCV take seconds to import: each command imports what it needs.
if TYPE_CHECKING:
    from maskomaly_ros.evaluation.evaluate import (
        Evaluation,
        MethodResult,
        Progress,
        SemanticEvaluation,
    )
    from maskomaly_ros.networks import InputSize, Network
    from maskomaly_ros.queries import Queries

T = TypeVar('T')

# Tables that go to a file are not to be cut at the width of a terminal.
_OUT = Console(width=None if sys.stdout.isatty() else 120)
_ERR = Console(stderr=True)


class _Commands(typer.core.TyperGroup):
    """Turns what the user can put right into one line on stderr and exit status 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MaskomalyError as error:
            _ERR.print(f'Error: {error}', style='red', markup=False, soft_wrap=True)
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
app.add_typer(cli_checkpoint.app)


def main() -> None:
    """Run the command line; the console script `maskomaly`."""
    app(prog_name='maskomaly')


@app.callback()
def _set_up() -> None:
    logging.basicConfig(
        format='%(message)s',
        handlers=[RichHandler(console=_ERR, show_time=False, show_path=False)],
    )
    logging.getLogger('maskomaly_ros').setLevel(logging.INFO)


# typer 0.9, which Ubuntu 24.04 has, knows Optional[X] and not X | None.
MaybeFloat = Optional[float]  # noqa: UP045
MaybeInt = Optional[int]  # noqa: UP045
MaybePath = Optional[Path]  # noqa: UP045
MaybeStr = Optional[str]  # noqa: UP045

Checkpoint = Annotated[
    str,
    typer.Option(
        help='demo (bundled), a local folder, or a Hugging Face id of a Mask2Former.',
    ),
]
Datasets = Annotated[
    list[str],
    typer.Option(
        '--dataset',
        metavar='LAYOUT:PATH',
        help='Data set; layouts: anomaly_track, obstacle_track, plain (folders images and '
        'labels), and with classes camvid, idd_lite. Repeat for more.',
    ),
]
Device = Annotated[str, typer.Option(help='auto, cpu, cuda or cuda:N.')]
Precision = Annotated[str, typer.Option(help='float32, float16 or bfloat16.')]
Size = Annotated[
    MaybeStr,
    typer.Option(
        '--input-size',
        metavar='SHORTESTxLONGEST',
        help="Network input in pixels, such as 640x1280; default: the checkpoint's own.",
    ),
]


@app.command()
def evaluate(
    dataset: Datasets,
    checkpoint: Checkpoint = 'demo',
    queries: Annotated[
        MaybePath,
        typer.Option(help='Queries file; default: the one that comes with the checkpoint.'),
    ] = None,
    methods: Annotated[
        MaybeStr,
        typer.Option(
            help='Comma-separated: maskomaly, reject+borders, reject, accept, baseline; '
            'default: all.'
        ),
    ] = None,
    components: Annotated[
        bool, typer.Option('--components', help='Component metrics as well.')
    ] = False,
    device: Device = 'auto',
    precision: Precision = 'float32',
    input_size: Size = None,
    json_file: Annotated[
        MaybePath, typer.Option('--json', metavar='PATH', help='Write the figures here too.')
    ] = None,
) -> None:
    """Measure methods on labelled images, by the SegmentMeIfYouCan benchmark's definitions.

    Layouts with classes give the mean IoU of the semantic segmentation instead.
    """
    from maskomaly_ros.detector import Detector, DetectorConfig, find_queries
    from maskomaly_ros.evaluation.datasets import open_dataset
    from maskomaly_ros.evaluation.evaluate import METHODS
    from maskomaly_ros.evaluation.evaluate import evaluate as measure
    from maskomaly_ros.evaluation.evaluate import evaluate_semantics as measure_semantics

    datasets = [open_dataset(specification) for specification in dataset]
    network = _load(checkpoint, device, precision, input_size)
    known = find_queries(network, queries)
    parameters = known.scoring_parameters()
    Detector(network, DetectorConfig(parameters))  # refuses queries of another network
    chosen = (
        [name.strip() for name in methods.split(',')]
        if methods
        else [m for m in METHODS if m != 'accept' or parameters.anomalous_queries]
    )
    evaluations: list[Evaluation | SemanticEvaluation] = []
    with _progress() as progress:
        for each in datasets:
            evaluations.append(
                measure(
                    network,
                    each,
                    parameters,
                    chosen,
                    components=components,
                    progress=progress,
                )
                if each.layout.task == 'anomaly'
                else measure_semantics(network, each, progress=progress)
            )
    for evaluation in evaluations:
        _print_evaluation(evaluation, known)
    if json_file:
        content = {
            'checkpoint': network.name,
            'checkpoint_sha256': network.sha256,
            'input_size': asdict(network.input_size),
            'precision': network.precision,
            'parameters': asdict(parameters),
            'datasets': [asdict(evaluation) for evaluation in evaluations],
        }
        _write(json_file, json.dumps(_without_nan(content), indent=2) + '\n')
    _report_skipped({e.dataset: e.skipped for e in evaluations})


@app.command()
def calibrate(
    dataset: Annotated[
        str,
        typer.Option(
            metavar='LAYOUT:PATH',
            help='Data set with anomalies; layouts: anomaly_track, obstacle_track, plain.',
        ),
    ],
    out: Annotated[Path, typer.Option(help='Queries file to write.')],
    checkpoint: Checkpoint = 'demo',
    iou_threshold: Annotated[
        MaybeFloat,
        typer.Option(
            min=0.0,
            max=1.0,
            help='Mean IoU with anomalies from which a query is anomalous; default: 0.25, or more '
            'where that is clearly better.',
        ),
    ] = None,
    device: Device = 'auto',
    precision: Precision = 'float32',
    input_size: Size = None,
) -> None:
    """Find the anomalous queries and parameters of a checkpoint, and write its queries file."""
    from maskomaly_ros.evaluation.calibration import calibrate as find
    from maskomaly_ros.evaluation.datasets import open_dataset
    from maskomaly_ros.queries import write_queries

    images = open_dataset(dataset)
    _make_parent(out)
    network = _load(checkpoint, device, precision, input_size)
    with _progress() as progress:
        found = find(network, images, iou_threshold=iou_threshold, progress=progress)
    try:
        write_queries(out, found)
    except OSError as error:
        raise MaskomalyError(f'cannot write {out}: {error.strerror}') from error
    _print_calibration(found)
    _OUT.print(f'Written to {out}', soft_wrap=True, highlight=False)
    _report_skipped({images.name: images.skipped})


@app.command()
def train(
    data: Annotated[
        Path,
        typer.Option(help='Folder with camvid/train and idd_lite/train.'),
    ],
    out: Annotated[
        Path, typer.Option(help='Folder for the checkpoint and the state; goes on if it has one.')
    ],
    steps: Annotated[MaybeInt, typer.Option(min=1, help='Optimiser steps.')] = None,
    batch_size: Annotated[MaybeInt, typer.Option(min=1, help='Images in a step.')] = None,
    learning_rate: Annotated[MaybeFloat, typer.Option(help='Highest learning rate.')] = None,
    generated: Annotated[
        MaybeInt, typer.Option(min=0, help='Number of generated scenes to mix in.')
    ] = None,
    seed: Annotated[MaybeInt, typer.Option(help='Seed of everything random.')] = None,
    start: Annotated[
        MaybeStr, typer.Option(help='Checkpoint whose weights to begin with; default: random.')
    ] = None,
    device: Device = 'auto',
    save_every: Annotated[int, typer.Option(min=1, help='Steps between saved states.')] = 200,
) -> None:
    """Train a small network; the defaults are those of the bundled checkpoint."""
    from maskomaly_ros.training.train import TrainingOptions
    from maskomaly_ros.training.train import train as run

    given = {
        'steps': steps,
        'batch_size': batch_size,
        'learning_rate': learning_rate,
        'generated': generated,
        'seed': seed,
        'start': start,
    }
    options = TrainingOptions(**{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
    checkpoint = run(data, out, options, device=device, save_every=save_every)
    _OUT.print(f'Checkpoint: {checkpoint}', soft_wrap=True, highlight=False)


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
    seed: Annotated[int, typer.Option(help='Seed of the generated clip.')] = 7,
) -> None:
    """Run the ROS node on a camera stream, record what it publishes, and show it."""
    from maskomaly_ros.demo.run import run_demo

    run_demo(
        out, source, checkpoint=checkpoint, topic=topic, frames=frames, seed=seed, console=_OUT
    )


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
    from maskomaly_ros.demo.scenes import generate_clip
    from maskomaly_ros.evaluation.datasets import write_plain

    width, height = _parse_pair(size, 'size', 'WIDTHxHEIGHT')
    if rate <= 0 or not height or not width:
        raise MaskomalyError(f'rate {rate:g} and size {size} must be above 0')
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MaskomalyError(f'{out} exists and is no empty folder; give another')
    with _progress() as progress:
        for clip in progress(range(seed, seed + clips), clips, 'clips'):
            scene = generate_clip(clip, frames, rate=rate, size=(height, width))
            for index, frame in enumerate(progress(scene, frames, f'clip {clip}')):
                write_plain(out, f'{clip:05}_{index:05}', frame.image, frame.anomaly)
    _OUT.print(f'Data set: plain:{out}', soft_wrap=True, highlight=False)


@app.command()
def version() -> None:
    """Print the version of this package and of what it runs on."""
    _OUT.print(f'maskomaly_ros {__version__}', highlight=False)
    for package in ('torch', 'transformers', 'numpy', 'opencv-python', 'ros-rclpy'):
        try:
            _OUT.print(f'  {package} {metadata.version(package)}', highlight=False)
        except metadata.PackageNotFoundError:
            continue


def _load(checkpoint: str, device: str, precision: str, input_size: str | None) -> Network:
    size = _parse_size(input_size) if input_size else None
    from maskomaly_ros.networks import load_network

    with _ERR.status(f'loading {checkpoint}'):
        return load_network(checkpoint, device=device, precision=precision, input_size=size)


def _parse_size(text: str) -> InputSize:
    from maskomaly_ros.networks import InputSize

    return InputSize(*_parse_pair(text, 'input size', 'SHORTESTxLONGEST'))


def _parse_pair(text: str, what: str, form: str) -> tuple[int, int]:
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    if not match:
        raise MaskomalyError(f'{what} {text!r} is not {form}, such as 640x1280')
    return int(match[1]), int(match[2])


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show progress bars on stderr, which go when they are done."""
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=_ERR, transient=True) as bars:

        def show(items: Iterable[T], total: int, text: str) -> Iterable[T]:
            return bars.track(items, total=total, description=text)

        yield show


def _print_evaluation(evaluation: Evaluation | SemanticEvaluation, queries: Queries) -> None:
    from maskomaly_ros.evaluation.evaluate import SemanticEvaluation

    title = f'{evaluation.dataset}, {evaluation.images} images, percent'
    if queries.provenance.get('dataset') == evaluation.dataset:
        title += ' (queries were calibrated on this data set: no test)'
    _OUT.print(title, style='italic', soft_wrap=True, highlight=False, markup=False)
    if isinstance(evaluation, SemanticEvaluation):
        _OUT.print(_semantic_table(evaluation))
    else:
        _OUT.print(_method_table(evaluation))


def _semantic_table(evaluation: SemanticEvaluation) -> Table:
    table = Table('class', box=box.SIMPLE_HEAD)
    table.add_column('IoU', justify='right')
    result = evaluation.result
    for name, iou in zip(evaluation.classes, result.iou, strict=True):
        table.add_row(name, '-' if math.isnan(iou) else f'{100 * iou:.2f}')
    table.add_section()
    table.add_row('mean IoU', f'{100 * result.mean_iou:.2f}', style='bold')
    table.add_row('pixel accuracy', f'{100 * result.pixel_accuracy:.2f}')
    return table


def _method_table(evaluation: Evaluation) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    rows = {method: _columns_of(result) for method, result in evaluation.results.items()}
    table.add_column('method', no_wrap=True)
    for name in next(iter(rows.values())):
        table.add_column(name, justify='right')
    table.add_column('threshold', justify='right')
    best = [
        (min if name == 'FPR95' else max)(columns[name] for columns in rows.values())
        for name in next(iter(rows.values()))
    ]
    for method, columns in rows.items():
        cells = [
            f'[bold]{100 * value:.2f}[/]' if value == top else f'{100 * value:.2f}'
            for value, top in zip(columns.values(), best, strict=True)
        ]
        threshold = evaluation.results[method].pixels.best_f1_threshold
        table.add_row(method, *cells, f'{threshold:.4f}')
    return table


def _columns_of(result: MethodResult) -> dict[str, float]:
    columns = {
        'AP': result.pixels.ap,
        'FPR95': result.pixels.fpr95,
        'AuROC': result.pixels.auroc,
        'best F1': result.pixels.best_f1,
        'exact AP': result.pixels.exact_ap,
    }
    if result.components:
        columns |= {
            'sIoU gt': result.components.siou_gt,
            'PPV': result.components.ppv,
            'mean F1': result.components.mean_f1,
        }
    return columns


def _print_calibration(queries: Queries) -> None:
    provenance = queries.provenance
    _OUT.print('Queries by mean IoU with anomalies', style='italic')
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column('query', justify='right')
    table.add_column('mean IoU', justify='right')
    table.add_column('anomalous')
    for row in provenance['ranking']:
        chosen = row['query'] in queries.anomalous_queries
        table.add_row(str(row['query']), f'{row["mean_iou"]:.3f}', 'yes' if chosen else '')
    _OUT.print(table)
    _OUT.print('Parameters', style='italic')
    table = Table(show_header=False, box=box.SIMPLE)
    for name in ('mask_threshold', 'border_threshold', 'reject_weight', 'obstacle_threshold'):
        table.add_row(name, f'{getattr(queries, name):g}')
    _OUT.print(table)
    figures, search = provenance['calibration_figures'], provenance['search']
    _OUT.print(
        f'On these {provenance["images"]} images, which are no test any more: '
        f'AP {100 * figures["ap"]:.2f} %, FPR95 {100 * figures["fpr95"]:.2f} %, '
        f'AuROC {100 * figures["auroc"]:.2f} %, best F1 {100 * figures["best_f1"]:.2f} %; '
        f"AP with the paper's parameters {100 * search['ap_of_defaults']:.2f} %",
        highlight=False,
    )
    if 'parts' in search:
        these, defaults, left_out = (
            f'{100 * search[name]:.2f} %'
            for name in ('ap_of_a_part', 'ap_of_a_part_with_defaults', 'ap_of_a_part_left_out')
        )
        _OUT.print(
            f"Mean AP of {search['parts']} parts of the images: {these}; with the paper's "
            f'parameters {defaults}; with what is found without the part {left_out}',
            highlight=False,
        )


def _report_skipped(skipped: dict[str, dict[str, str]]) -> None:
    """Name what was left out and end with exit status 1, if anything was."""
    for dataset, reasons in skipped.items():
        if reasons:
            _ERR.print(
                f'{len(reasons)} of {dataset} skipped: {", ".join(reasons)}',
                style='yellow',
                markup=False,
                soft_wrap=True,
            )
    if any(skipped.values()):
        raise typer.Exit(1)


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MaskomalyError(f'cannot make folder {path.parent}: {error.strerror}') from error


def _write(path: Path, text: str) -> None:
    _make_parent(path)
    try:
        path.write_text(text, encoding='utf-8')
    except OSError as error:
        raise MaskomalyError(f'cannot write {path}: {error.strerror}') from error


def _without_nan(value: Any) -> Any:
    """Return value with None in place of NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


if __name__ == '__main__':
    main()
