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

"""Measure what an evaluation takes, beside the SegmentMeIfYouCan benchmark's own code.

    python benchmarks/evaluation.py --benchmark ~/road-anomaly-benchmark

Runs over 60 generated road scenes of 1280 x 720, or over a data set: with the outputs of the
network in the cache, all methods are measured once by `evaluate`. The least that can take is the
time in which the same files are read; that is measured too. Then the metrics alone, on one thread
and on the same score maps, by this package and by the benchmark's classes, which also shows how
far the figures differ.

The benchmark (https://github.com/SegmentMeIfYouCan/road-anomaly-benchmark) is no dependency: give
the folder of a clone, and install easydict, tqdm, pandas, ipython, imageio and h5py. Without it
only this package is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from maskomaly_ros.detector import find_queries
from maskomaly_ros.evaluation.cache import OutputCache
from maskomaly_ros.evaluation.datasets import Dataset, open_dataset, read_file, write_plain
from maskomaly_ros.evaluation.evaluate import evaluate, score_images
from maskomaly_ros.evaluation.metrics import ComponentMetrics, PixelMetrics
from maskomaly_ros.networks import load_network
from maskomaly_ros.scores import default_scores

_SCORE_METHOD = 'maskomaly'


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--checkpoint', default='demo')
    parser.add_argument('--dataset', help='LAYOUT:PATH; default: generated scenes')
    parser.add_argument('--images', type=int, default=60, help='number of generated scenes')
    parser.add_argument('--size', default='1280x720', help='of the scenes, WIDTHxHEIGHT')
    parser.add_argument('--benchmark', type=Path, help='clone of road-anomaly-benchmark')
    parser.add_argument(
        '--json', type=Path, default=Path(__file__).parent / 'results' / 'evaluation.json'
    )
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 100)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.dataset:
            dataset = open_dataset(arguments.dataset)
        else:
            width, height = map(int, arguments.size.split('x'))
            console.print(f'generating {arguments.images} scenes', style='dim')
            dataset = generate(Path(folder) / 'scenes', arguments.images, (height, width))
        found = measure_evaluation(arguments.checkpoint, dataset, Path(folder), console)
        found |= measure_metrics(arguments.checkpoint, dataset, arguments.benchmark, console)
    print_figures(found, console)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(found, indent=2) + '\n')
    console.print(f'Written to {arguments.json}')
    return 0


def generate(folder: Path, images: int, size: tuple[int, int]) -> Dataset:
    """Write scenes of several generated clips as a data set."""
    from maskomaly_ros.scenes.scene import generate_clip

    for index in range(images):
        if index % 10 == 0:
            clip = iter(generate_clip(index // 10, 10, rate=1.0, size=size))
        frame = next(clip)
        write_plain(folder, f'{index:03}', frame.image, frame.anomaly)
    return open_dataset(f'plain:{folder}')


def measure_evaluation(
    checkpoint: str, dataset: Dataset, folder: Path, console: Console
) -> dict[str, Any]:
    """Time `evaluate` with all methods on cached outputs, and the reading of its files."""
    network = load_network(checkpoint)
    parameters = find_queries(network, None).scoring_parameters()
    methods = default_scores(parameters)
    cache = folder / 'outputs'
    console.print('filling the cache', style='dim')
    # This also compiles what is compiled, so that it is not timed.
    evaluate(network, dataset, parameters, methods, cache=cache)

    def read() -> None:
        outputs = OutputCache(cache, network)
        for sample in dataset.samples:
            prediction = outputs.read(read_file(sample.image))
            assert prediction is not None
            float(prediction.mask_logits.sum())  # the file is mapped: touch all of it
            sample.read_label()

    console.print('evaluating', style='dim')
    return {
        'images': len(dataset),
        'methods': len(methods),
        'processors': os.cpu_count(),
        'seconds_reading': seconds(read),
        'seconds_all_methods': seconds(
            lambda: evaluate(network, dataset, parameters, methods, cache=cache)
        ),
        'seconds_all_methods_and_components': seconds(
            lambda: evaluate(network, dataset, parameters, methods, cache=cache, components=True)
        ),
    }


def measure_metrics(
    checkpoint: str, dataset: Dataset, benchmark: Path | None, console: Console
) -> dict[str, Any]:
    """Time pixel and component metrics on one thread, ours and the benchmark's."""
    network = load_network(checkpoint)
    parameters = find_queries(network, None).scoring_parameters()
    console.print('measuring metrics', style='dim')
    frames = [
        (scores[_SCORE_METHOD].astype(np.float16), label)
        for _, _, label, scores in score_images(
            network, dataset.samples, parameters, [_SCORE_METHOD]
        )
    ]
    layout = dataset.layout
    sizes = layout.minimum_prediction, layout.minimum_truth
    pixels = PixelMetrics()

    def ours_pixels() -> dict[str, float]:
        for frame in frames:
            pixels.update(*frame)
        result = pixels.compute()
        return {'AP': result.ap, 'FPR95': result.fpr95, 'AuROC': result.auroc}

    def ours_components(threshold: float) -> dict[str, float]:
        components = ComponentMetrics(threshold, *sizes)
        for frame in frames:
            components.update(*frame)
        result = components.compute()
        return {'sIoU gt': result.siou_gt, 'PPV': result.ppv, 'mean F1': result.mean_f1}

    figures: dict[str, dict[str, float]] = {'ours': {}, 'benchmark': {}}
    found: dict[str, Any] = {'figures': figures}
    found['seconds_our_pixels'] = seconds(lambda: figures['ours'].update(ours_pixels()))
    threshold = pixels.compute().best_f1_threshold
    found['seconds_our_components'] = seconds(
        lambda: figures['ours'].update(ours_components(threshold))
    )
    theirs = import_benchmark(benchmark, console)
    if theirs is None:
        return found
    pixel_class, segment_class = theirs

    def run(metric: Any) -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            results = [
                metric.process_frame(label_pixel_gt=label, anomaly_p=score, visualize=False)
                for score, label in frames
            ]
            return metric.aggregate(results, method_name='m', dataset_name='d')

    def their_pixels() -> None:
        result = run(pixel_class)
        figures['benchmark'] |= {
            'AP': float(result.area_PRC),
            'FPR95': float(result.tpr95_fpr),
            'AuROC': float(result.area_ROC),
        }
        segment_class.cfg.thresh_p = result.best_f1_threshold

    def their_components() -> None:
        result = run(segment_class)
        figures['benchmark'] |= {
            'sIoU gt': float(result.sIoU_gt),
            'PPV': float(result.prec_pred),
            'mean F1': float(result.f1_mean),
        }

    segment_class.cfg.thresh_segsize, segment_class.cfg.thresh_instsize = sizes
    found['seconds_benchmark_pixels'] = seconds(their_pixels)
    found['seconds_benchmark_components'] = seconds(their_components)
    return found


def import_benchmark(folder: Path | None, console: Console) -> tuple[Any, Any] | None:
    """Return the benchmark's pixel and component metrics, if it can be imported."""
    import matplotlib
    import matplotlib.cm

    # Names that the benchmark uses and that its dependencies have dropped since.
    if not hasattr(np, 'trapz'):
        np.__dict__['trapz'] = np.trapezoid
    if not hasattr(matplotlib.cm, 'get_cmap'):
        matplotlib.cm.get_cmap = (  # type: ignore[attr-defined]
            lambda name, levels=None: matplotlib.colormaps[name].resampled(levels or 256)
        )
    if folder is not None:
        sys.path.insert(0, str(folder.expanduser().resolve()))
    try:
        importlib.import_module('road_anomaly_benchmark.evaluation')  # registers the metrics
        registry = importlib.import_module('road_anomaly_benchmark.metrics').MetricRegistry
    except ImportError as error:
        console.print(f'without the benchmark: {error}', style='yellow')
        return None
    return registry.get('PixBinaryClass'), registry.get('SegEval-AnomalyTrack')


def seconds(function: Callable[[], Any]) -> tuple[float, float]:
    """Return the time that a call takes, and that of all processors: other programs may run."""
    start, start_all = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start, time.process_time() - start_all


def print_figures(found: dict[str, Any], console: Console) -> None:
    """Print times, ratios and figures."""
    table = Table('what', title=f'{found["images"]} images, {found["processors"]} processors')
    for column in ('seconds', 'of all processors', 'ratio of these'):
        table.add_column(column, justify='right')
    rows = [
        ('reading the files', 'seconds_reading', None),
        (f'all {found["methods"]} methods', 'seconds_all_methods', 'seconds_reading'),
        ('… with components', 'seconds_all_methods_and_components', 'seconds_reading'),
        ('pixel metrics of one method', 'seconds_our_pixels', None),
        ("… by the benchmark's code", 'seconds_benchmark_pixels', 'seconds_our_pixels'),
        ('component metrics of one method', 'seconds_our_components', None),
        ("… by the benchmark's code", 'seconds_benchmark_components', 'seconds_our_components'),
    ]
    for text, key, base in rows:
        if key in found:
            ratio = f'{found[key][1] / found[base][1]:.1f}' if base else ''
            table.add_row(text, *(f'{each:.2f}' for each in found[key]), ratio)
    console.print(table)
    ours, theirs = found['figures']['ours'], found['figures']['benchmark']
    if theirs:
        table = Table('percent')
        for column in ('ours', 'benchmark'):
            table.add_column(column, justify='right')
        for name, value in ours.items():
            table.add_row(name, f'{100 * value:.4f}', f'{100 * theirs[name]:.4f}')
        console.print(table)


if __name__ == '__main__':
    sys.exit(main())
