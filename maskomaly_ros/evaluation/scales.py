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

"""Find scale, threshold and statistics of scores: what the node needs to offer them.

The scale follows from ordinary frames alone (see `score_scales`). The obstacle threshold is that
of the best F1 where a data set with anomalies is given, with the pixels of the ordinary frames as
further negatives. Without one, at most one ordinary pixel in 1000 is above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import torch

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.cache import OutputCache
from maskomaly_ros.evaluation.comparison import ScoreRun
from maskomaly_ros.evaluation.datasets import Dataset
from maskomaly_ros.evaluation.images import Progress, check_task, no_progress
from maskomaly_ros.evaluation.metrics import SCORE_VALUES, ScoreCounts
from maskomaly_ros.evaluation.ordinary import OrdinaryFrames
from maskomaly_ros.networks import Network
from maskomaly_ros.score_scales import ScoreCalibration, highest_score, make_scale
from maskomaly_ros.scores import SCORES, check_scores
from maskomaly_ros.scoring import ScoringParameters

RARE: Final = 1e-3
"""Most of the ordinary pixels that may be above the threshold, where no anomalies are known."""
# Nothing is above 1: where ordinary pixels reach the highest score, what rounds to it is above.
_HIGHEST: Final = 1 - 2**-12


def calibrate_scores(
    network: Network,
    parameters: ScoringParameters,
    names: Sequence[str],
    ordinary: Sequence[OrdinaryFrames],
    dataset: Dataset | None = None,
    *,
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> dict[str, ScoreCalibration]:
    """Find what the node needs to offer scores.

    Args:
        network: the network.
        parameters: queries and parameters of Maskomaly.
        names: of scores.
        ordinary: frames that show nothing anomalous, one at least; none are needed where all
            scores lie in [0, 1] and there is a data set.
        dataset: images with anomalies, to choose thresholds on.
        cache: folder that keeps the outputs of the network; see `OutputCache`.
        progress: see `Progress`.

    Raises:
        MaskomalyError: a score is unknown or lacks anomalous queries, there are no ordinary
            frames, or the labels of the data set are of another kind.

    """
    check_scores(names, parameters)
    unbounded = [name for name in names if not SCORES[name].bounded]
    if not ordinary and (unbounded or dataset is None):
        of = unbounded[0] if unbounded else 'a score'
        raise MaskomalyError(f'the scale of {of} needs ordinary frames; none are given')
    if dataset is not None:
        check_task(dataset, 'anomaly')
    source = ', '.join(each.name for each in (*ordinary, *([dataset] if dataset else ())))
    with TemporaryDirectory(prefix='maskomaly-outputs-') as temporary:
        outputs = OutputCache(cache or Path(temporary), network)
        run = ScoreRun(network, parameters, tuple(names), {}, 0, outputs, progress)
        if 'sml' in names:
            run.find_statistics(ordinary)
        traffic, _ = run.count_ordinary(ordinary)
        anomalies = run.count(dataset) if dataset is not None else {}
    statistics = run.statistics
    found = {}
    for name in names:
        counts = traffic[name].counts
        raw: tuple[float, ...] = ()
        level: tuple[float, ...] = ()
        if not SCORES[name].bounded:
            highest = highest_score(name, len(network.class_names), statistics)
            raw, level = make_scale(SCORE_VALUES, counts.negatives, highest)
        known = statistics if name == 'sml' else None
        scale = ScoreCalibration(
            obstacle_threshold=0,
            raw=raw,
            level=level,
            class_mean=tuple(map(float, known.mean)) if known else (),
            class_deviation=tuple(map(float, known.deviation)) if known else (),
            source=source,
        )
        threshold = _threshold(counts + anomalies[name].counts if anomalies else counts)
        on_scale = float(scale.apply(torch.tensor([threshold], dtype=torch.float32))[0])
        found[name] = scale.model_copy(
            update={'obstacle_threshold': round(min(max(on_scale, 0.0), _HIGHEST), 7)}
        )
    return found


def _threshold(counts: ScoreCounts) -> float:
    """Return the raw score above which a pixel is an obstacle.

    It lies half-way between two float16 numbers, so that it tells apart what was counted.
    """
    if counts.positives.any():
        place = int(np.searchsorted(SCORE_VALUES, counts.curve().best_f1()[1]))
    else:
        reach = np.cumsum(counts.negatives[::-1])[::-1]
        place = int(np.searchsorted(-reach, -RARE * reach[0]))
        place = min(place, len(SCORE_VALUES) - 1)
    return float((SCORE_VALUES[max(place - 1, 0)] + SCORE_VALUES[place]) / 2)
