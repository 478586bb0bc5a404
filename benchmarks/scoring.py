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

"""Measure scoring alone against the literal Algorithm 1, for several kinds of masks.

    python benchmarks/scoring.py [--images FOLDER] [--threads 1] [--out scoring.json]

Each repeat runs the literal form once (NumPy, every mask at full size in float32, every pair of
inlier masks) and ours five times, so that other programs on the machine slow both. Invented masks
are of 1280x720 pixels, 100 queries, 20 inliers, 4 anomalous, from logits of a quarter of the size:

- smooth: masks divide the image, as those of a network do;
- noise: every logit of its own, normally distributed with the deviation named: nothing to skip
  but what class probabilities and borders rule out;
- noise, sure classes: the same, and every inlier has a class probability above 0.9999, so that
  probabilities rule out next to nothing.

With --images the bundled checkpoint predicts the masks of the first pictures there as well, which
are resized to the same size, and its bundled queries score them with every part (weight 0.6).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from maskomaly_ros.benchmark import compare_scoring, invented_masks, machine
from maskomaly_ros.networks import MaskPrediction, load_network
from maskomaly_ros.queries import bundled_queries
from maskomaly_ros.scoring import ScoringParameters

SIZE = (720, 1280)
PICTURES = 3


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--images', type=Path, help='folder of pictures for masks of a network')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--repeats', type=int, default=3, help='runs of the literal form')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--out', type=Path, help='JSON file')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    cases = list(invented(device))
    if options.images is not None:
        cases += predicted(options.images, device)

    table = Table('masks', 'literal / ours', 'processor time', 'literal, ms', 'ours, ms', 'error')
    results: dict[str, Any] = {}
    for name, prediction, parameters in cases:
        found = compare_scoring(prediction, parameters, options.repeats)
        results[name] = found
        ratios = list(found['ratios'].values())
        table.add_row(
            name,
            f'{ratios[0]:.0f}',
            f'{ratios[1]:.0f}' if device.type == 'cpu' else '',
            f'{found["baselines"]["literal_algorithm_1"]["p50"] * 1e3:.0f}',
            f'{found["scoring"]["seconds"]["p50"] * 1e3:.1f}',
            f'{found["scoring"]["largest_difference_from_literal"]:.0e}',
        )
    Console().print(table)
    if options.out is not None:
        report = {'machine': machine(device), 'masks': results}
        options.out.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    return 0


def invented(
    device: torch.device,
) -> Iterator[tuple[str, MaskPrediction, ScoringParameters]]:
    """Yield invented predictions by name."""
    yield 'smooth', *_prediction(*invented_masks('smooth', SIZE), device)
    masks, classes, parameters = invented_masks('noise', SIZE)
    masks /= masks.std()
    sure = classes.clone()
    sure[:20, -1] -= 8
    for deviation in (1, 4, 10):
        name = f'noise {deviation}'
        yield name, *_prediction(deviation * masks, classes, parameters, device)
        yield f'{name}, sure classes', *_prediction(deviation * masks, sure, parameters, device)


def _prediction(
    masks: torch.Tensor,
    classes: torch.Tensor,
    parameters: ScoringParameters,
    device: torch.device,
) -> tuple[MaskPrediction, ScoringParameters]:
    extent = (float(masks.shape[1]), float(masks.shape[2]))
    logits = masks[None].to(device), classes[None].to(device)
    return MaskPrediction(*logits, SIZE, extent), parameters


def predicted(
    folder: Path, device: torch.device
) -> Iterator[tuple[str, MaskPrediction, ScoringParameters]]:
    """Yield what the bundled checkpoint predicts, with the parameters of its bundled queries."""
    network = load_network('demo', device=str(device))
    queries = bundled_queries('demo')
    if queries is None:
        raise RuntimeError('the bundled checkpoint has no bundled queries')
    parameters = dataclasses.replace(queries.scoring_parameters(), reject_weight=0.6)
    paths = [path for path in sorted(folder.rglob('*')) if cv2.haveImageReader(str(path))]
    if not paths:
        raise SystemExit(f'{folder} holds no pictures')
    for path in paths[:PICTURES]:
        bgr = np.asarray(cv2.imread(str(path)), np.uint8)
        picture = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        frame = cv2.resize(picture, SIZE[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)
        yield f'bundled checkpoint, {path.name}', network.predict([frame]), parameters


if __name__ == '__main__':
    sys.exit(main())
