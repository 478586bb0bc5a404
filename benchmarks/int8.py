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

"""What INT8 would bring on a CPU, and what it would cost: speed and accuracy beside float32.

    pip install nncf
    python benchmarks/int8.py --calibrate DATA/camvid/train/images \
        --calibrate DATA/idd_lite/train/images --ordinary camvid:DATA/camvid/test \
        --dataset obstacle_track:DATA/road_obstacle21_val

A network is exported for each size of frame, as always, and that form is quantized after
training: by NNCF for OpenVINO (convolutions and the large matrix products), and by ONNX Runtime
(convolutions, with explicit conversions, which OpenVINO reads too). Ranges of values are means
over ordinary frames. Attention, sampling, norms, the masks themselves and the distance to known
features are left as they are. Each setting is timed in turns with OpenVINO in float32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import openvino
import torch
from numpy.typing import NDArray
from onnxruntime import quantization
from openvino.passes import ConstantFolding, Manager
from rich.console import Console
from rich.table import Table
from torch import Tensor

from maskomaly_ros.benchmark import machine
from maskomaly_ros.detector import find_queries
from maskomaly_ros.evaluation.datasets import open_dataset
from maskomaly_ros.evaluation.ordinary import open_ordinary
from maskomaly_ros.evaluation.run import evaluate_all
from maskomaly_ros.networks.checkpoints import find_checkpoint
from maskomaly_ros.networks.exported_file import INPUT_NAME, OUTPUT_NAMES, Description
from maskomaly_ros.networks.exporting_network import ExportingNetwork
from maskomaly_ros.networks.preprocessing import PIXEL_MEAN, PIXEL_STD

_CPU = torch.device('cpu')
_LARGE = 1000  # rows of a matrix product that may gain more than conversion costs
_SMALLEST = 50  # pixels of a false obstacle
_KINDS = ('Convolution', 'GroupConvolution', 'MatMul')
Inputs = Sequence[NDArray[np.float32]]
Quantize = Callable[[Path, Inputs], openvino.Model]


@dataclass(frozen=True)
class Setting:
    """A way to run the network in OpenVINO.

    Attributes:
        quantize: what becomes of the exported file; None leaves it as it is.
        rest: precision of what is not quantized, as OpenVINO names it.

    """

    quantize: Quantize | None
    rest: str


def by_nncf(file: Path, inputs: Inputs) -> openvino.Model:
    """Quantize convolutions and large matrix products with NNCF."""
    import nncf

    model = openvino.Core().read_model(file)
    scope = nncf.IgnoredScope(**_left_out(model), validate=False)
    # With weights that are computed from shapes, NNCF takes the wrong axis for that of channels.
    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)
    quantized: openvino.Model = nncf.quantize(
        model, nncf.Dataset(inputs), subset_size=len(inputs), ignored_scope=scope
    )
    return quantized


def _left_out(model: openvino.Model) -> dict[str, list[str]]:
    """Return names and types of what is not to be quantized; no node is held on to."""
    kept = [node for node in model.get_ops() if not _is_worthwhile(node)]
    names = [node.get_friendly_name() for node in kept if node.get_type_name() in _KINDS]
    types = {node.get_type_name() for node in kept} - {*_KINDS, 'Constant', 'Parameter', 'Result'}
    return {'names': names, 'types': sorted(types)}


def _is_worthwhile(node: Any) -> bool:
    if node.get_type_name() not in _KINDS:
        return False
    weights = node.input_value(1).get_node().get_type_name()
    if node.get_type_name() == 'GroupConvolution':
        return True  # its weights are only given another shape
    if node.get_type_name() == 'Convolution':
        return bool(weights == 'Constant')  # that of the distance has computed ones
    rows = node.input_value(0).get_partial_shape()
    return bool(weights == 'Constant' and len(rows) > 1 and rows[-2].get_length() >= _LARGE)


def by_onnxruntime(file: Path, inputs: Inputs) -> openvino.Model:
    """Quantize convolutions with ONNX Runtime."""

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(inputs)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            pixels = next(self._left, None)
            return None if pixels is None else {INPUT_NAME: pixels}

    model = onnx.load(file)
    stored = {value.name for value in model.graph.initializer}
    nodes = [n.name for n in model.graph.node if n.op_type == 'Conv' and n.input[1] in stored]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / 'quantized.onnx'
        quantization.quantize_static(
            model,
            out,
            Reader(),
            nodes_to_quantize=nodes,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options={'CalibMovingAverage': True},
        )
        return openvino.Core().read_model(out)


SETTINGS = {
    'float32': Setting(None, 'f32'),
    'bfloat16': Setting(None, 'bf16'),
    'int8 by NNCF, rest float32': Setting(by_nncf, 'f32'),
    'int8 by NNCF, rest bfloat16': Setting(by_nncf, 'bf16'),
    'int8 by ONNX Runtime, rest float32': Setting(by_onnxruntime, 'f32'),
    'int8 by ONNX Runtime, rest bfloat16': Setting(by_onnxruntime, 'bf16'),
}


class QuantizedNetwork(ExportingNetwork):
    """A checkpoint in OpenVINO, in one of the settings; quantized at the first frame of a size.

    Args:
        checkpoint: what `load_network` takes, but for exported files.
        setting: how to run it.
        pictures: RGB uint8 [H, W, 3], of any sizes; stretched to the input.
        quantized: what is quantized already, by quantizer and file; new ones are added.

    """

    def __init__(
        self,
        checkpoint: str,
        setting: Setting,
        pictures: Sequence[NDArray[np.uint8]],
        quantized: dict[tuple[Quantize, Path], openvino.Model],
    ) -> None:
        super().__init__(find_checkpoint(checkpoint), 'openvino', _CPU)
        self._setting, self._pictures, self._quantized = setting, pictures, quantized

    def _open(self, file: Path) -> Description:
        known = super()._open(file)
        _, height, width = known.shape
        quantize = self._setting.quantize
        if quantize is None:
            model = openvino.Core().read_model(file)
        else:
            if (quantize, file) not in self._quantized:
                inputs = [_normalised(picture, (height, width)) for picture in self._pictures]
                self._quantized[quantize, file] = quantize(file, inputs)
            model = self._quantized[quantize, file]
        compiled = openvino.compile_model(
            model,
            'CPU',
            {
                'INFERENCE_PRECISION_HINT': self._setting.rest,
                'INFERENCE_NUM_THREADS': torch.get_num_threads(),
                'PERFORMANCE_HINT': 'LATENCY',
                'ENABLE_CPU_PINNING': False,
            },
        )

        def run(pixels: Tensor) -> tuple[Tensor, Tensor]:
            outputs = compiled({INPUT_NAME: pixels.numpy()})
            masks, classes = (torch.from_numpy(outputs[name].copy()) for name in OUTPUT_NAMES)
            return masks, classes

        self._runs[known.shape] = run
        return known


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--checkpoint', default='demo')
    parser.add_argument('--queries', type=Path)
    parser.add_argument('--calibrate', action='append', type=Path, required=True, metavar='FOLDER')
    parser.add_argument('--frames', type=int, default=200, help='to calibrate on')
    parser.add_argument('--dataset', action='append', default=[], metavar='LAYOUT:PATH')
    parser.add_argument('--ordinary', action='append', default=[], metavar='LAYOUT:PATH')
    parser.add_argument('--setting', action='append', choices=SETTINGS, help='default: all')
    parser.add_argument('--threads', type=int, action='append', help='to time on; default: all')
    parser.add_argument('--seconds', type=float, default=20, help='of timing, for each --threads')
    parser.add_argument('--json', type=Path)
    arguments = parser.parse_args()
    names = dict.fromkeys(('float32', *(arguments.setting or SETTINGS)))
    pictures = _pictures(arguments.calibrate, arguments.frames)
    quantized: dict[tuple[Quantize, Path], openvino.Model] = {}
    networks = {
        name: QuantizedNetwork(arguments.checkpoint, SETTINGS[name], pictures, quantized)
        for name in names
    }
    sha256 = networks['float32'].sha256
    report: dict[str, Any] = {
        'checkpoint': arguments.checkpoint,
        'checkpoint_sha256': sha256,
        'calibrated_on': len(pictures),
        'machine': machine(_CPU),
        'settings': {name: {} for name in names},
    }

    def save() -> None:
        if arguments.json:
            arguments.json.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')

    if arguments.dataset or arguments.ordinary:
        for name, network in networks.items():
            report['settings'][name] |= accuracy(network, arguments)
            save()
    for threads in arguments.threads or [torch.get_num_threads()]:
        torch.set_num_threads(threads)
        again = {
            name: QuantizedNetwork(arguments.checkpoint, SETTINGS[name], pictures, quantized)
            for name in names
        }
        for name, found in speed(again, arguments.seconds).items():
            report['settings'][name][f'threads_{threads}'] = found
        save()
    table = Table(title=f'{arguments.checkpoint}, {sha256[:16]}…')
    columns = list(dict.fromkeys(key for row in report['settings'].values() for key in row))
    for column in ('setting', *columns):
        table.add_column(column)
    for name, row in report['settings'].items():
        table.add_row(name, *(_shown(row.get(column)) for column in columns))
    Console(width=200).print(table)
    return 0


def accuracy(network: QuantizedNetwork, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return figures of the score in use, as fractions; false obstacles a frame of traffic."""
    queries = find_queries(network, arguments.queries)
    run = evaluate_all(
        network,
        queries,
        [open_dataset(each) for each in arguments.dataset],
        ['maskomaly'],
        ordinary=[open_ordinary(each) for each in arguments.ordinary],
        minimum_area=_SMALLEST,
    )
    found: dict[str, Any] = {}
    if run.traffic:
        found['false_obstacles_a_frame'] = run.traffic.found.a_frame
        for each in run.traffic.sets:
            found[f'{each.name}: false_obstacles_a_frame'] = each.found.a_frame
    for evaluation in run.summary()['datasets']:
        result = evaluation['results']['maskomaly']
        figures = {key: result['pixels'][key] for key in ('ap', 'fpr95')}
        if result['pooled']:
            figures['pooled_ap'] = result['pooled']['ap']
            figures['recall'] = result['at_threshold']['recall']
        found |= {f'{evaluation["dataset"]}: {key}': value for key, value in figures.items()}
    return found


def speed(networks: dict[str, QuantizedNetwork], seconds: float) -> dict[str, dict[str, float]]:
    """Time `predict` of a 1280x720 frame, all settings in turns.

    Returns:
        Of each setting how many times as fast as float32 it is, by medians of elapsed time and of
        processor time, and the median in milliseconds.

    """
    frame = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), np.uint8)
    for network in networks.values():
        for _ in range(3):
            network.predict([frame])
    elapsed: dict[str, list[float]] = {name: [] for name in networks}
    processor: dict[str, list[float]] = {name: [] for name in networks}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, network in networks.items():
            network.predict([frame])  # what the one before left in the caches is gone
            before = time.perf_counter(), time.process_time()
            network.predict([frame])
            elapsed[name].append(time.perf_counter() - before[0])
            processor[name].append(time.process_time() - before[1])
    median = statistics.median
    return {
        name: {
            'times_as_fast': median(elapsed['float32']) / median(elapsed[name]),
            'times_as_fast_processor_time': median(processor['float32']) / median(processor[name]),
            'p50_ms': 1e3 * median(elapsed[name]),
        }
        for name in networks
    }


def _pictures(folders: Sequence[Path], most: int) -> list[NDArray[np.uint8]]:
    """Return pictures of folders, RGB, as many of each, evenly spread."""
    found = []
    for folder in folders:
        paths = [path for path in sorted(folder.iterdir()) if cv2.haveImageReader(str(path))]
        chosen = np.linspace(0, len(paths) - 1, min(most // len(folders), len(paths))).astype(int)
        for index in chosen:
            bgr = np.asarray(cv2.imread(str(paths[index])), np.uint8)
            found.append(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8))
    return found


def _normalised(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a picture as input of the network, float32 [1, 3, H, W]."""
    pixels = cv2.resize(picture, size[::-1]).astype(np.float32)
    normalised = (pixels - np.asarray(PIXEL_MEAN)) / np.asarray(PIXEL_STD)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None], np.float32)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ', '.join(f'{each:.2f}' for each in value.values())
    return '' if value is None else f'{value:.4f}'


if __name__ == '__main__':
    sys.exit(main())
