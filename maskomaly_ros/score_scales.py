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

"""What calibration finds out about one score of one checkpoint: scale, threshold, statistics.

Scores without a natural range are mapped to [0, 1], so that heatmap, threshold and colours keep
their meaning. The scale is a table of raw values and levels, straight in between: a level tells
how rare the score is on ordinary frames. 0.2 is what one pixel in 10 reaches there, 0.4 one in
100, 0.6 one in 1000, and 1 is the highest score that there can be. It rises strictly from the
least score of ordinary frames on, so that it changes no order there.
"""

from __future__ import annotations

import functools
import importlib
import logging
import math
from itertools import pairwise
from types import ModuleType
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from torch import Tensor

from maskomaly_ros.scores import ClassStatistics

__all__ = ['DECADES', 'ScoreCalibration', 'highest_score', 'make_scale']

_LOG = logging.getLogger(__name__)

DECADES = 5.0
"""Powers of ten between the levels 0 and 1."""

_LEVELS = np.arange(0.0, 0.951, 0.05)
_ENOUGH = 100  # pixels that a level is taken from, at least

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class ScoreCalibration(BaseModel):
    """Threshold and scale of one score, as a queries file has them.

    Attributes:
        obstacle_threshold: on the scale, in [0, 1].
        raw: values of the score, ascending; empty where it lies in [0, 1] by itself.
        level: what each becomes, ascending in [0, 1].
        class_mean: of the statistics that SML needs, one for each class.
        class_deviation: likewise.
        source: names of the frames that these are from.

    """

    model_config = ConfigDict(extra='forbid', frozen=True, hide_input_in_errors=True)

    obstacle_threshold: Fraction
    raw: tuple[FiniteFloat, ...] = ()
    level: tuple[Fraction, ...] = ()
    class_mean: tuple[FiniteFloat, ...] = ()
    class_deviation: tuple[Positive, ...] = ()
    source: str = ''

    @model_validator(mode='after')
    def _check_tables(self) -> ScoreCalibration:
        if len(self.raw) != len(self.level) or len(self.raw) == 1:
            raise ValueError(
                f'raw has {len(self.raw)} values and level {len(self.level)}; a scale has as many '
                'of both, two at least'
            )
        for name in ('raw', 'level'):
            if any(one >= other for one, other in pairwise(getattr(self, name))):
                raise ValueError(f'{name} must rise from value to value')
        if len(self.class_mean) != len(self.class_deviation):
            raise ValueError(
                f'class_mean has {len(self.class_mean)} values and class_deviation '
                f'{len(self.class_deviation)}; both have one for each class'
            )
        return self

    @property
    def statistics(self) -> ClassStatistics | None:
        """The statistics of the classes, where there are any."""
        if not self.class_mean:
            return None
        return ClassStatistics(
            np.array(self.class_mean), np.array(self.class_deviation), self.source
        )

    @property
    def raw_threshold(self) -> float:
        """The obstacle threshold as a value of the score itself."""
        if not self.raw:
            return self.obstacle_threshold
        return float(np.interp(self.obstacle_threshold, self.level, self.raw))

    def apply(self, score: Tensor) -> Tensor:
        """Return a score on this scale.

        Args:
            score: float32 of any shape, on any device.

        Returns:
            float32 of the same shape in [0, 1].

        """
        if not self.raw:
            return score
        module = _fused() if score.device.type == 'cpu' else None
        if module is not None:
            table = np.array(self.raw, np.float32), np.array(self.level, np.float32)
            found: NDArray[np.float32] = module.interpolate(score.numpy(), *table)
            return torch.from_numpy(found)
        return _interpolate(score, self.raw, self.level)


def _interpolate(score: Tensor, raw: tuple[float, ...], level: tuple[float, ...]) -> Tensor:
    """Return what straight lines through the points of a table give, level outside of it."""
    x, y = (torch.tensor(each, dtype=torch.float32, device=score.device) for each in (raw, level))
    upper = torch.bucketize(score, x).clamp_(1, len(raw) - 1)
    lower = upper - 1
    share = ((score - x[lower]) / (x[upper] - x[lower])).clamp_(0, 1)
    return y[lower] + (y[upper] - y[lower]) * share


@functools.cache
def _fused() -> ModuleType | None:
    try:
        return importlib.import_module('maskomaly_ros.fused.numba_scales')
    except Exception as error:  # a compiler that fails must not stop a vehicle
        _LOG.info('Scores are scaled by torch alone: %s', error)
    return None


def make_scale(
    values: NDArray[np.float64], counts: NDArray[np.int64], highest: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return raw values and levels of the scale that ordinary pixels make.

    Args:
        values: that the score may have, ascending, float64 [K].
        counts: ordinary pixels with each, int64 [K].
        highest: score that there can be.

    Raises:
        ValueError: there is no pixel.

    """
    total = int(counts.sum())
    if not total:
        raise ValueError('there is no ordinary pixel to make a scale from')
    reach = np.cumsum(counts[::-1])[::-1]  # pixels of at least each value
    raw: list[float] = []
    level: list[float] = []
    for each in _LEVELS:
        wanted = total * 10 ** (-DECADES * each)
        if each > 0 and wanted < _ENOUGH:
            break
        # The highest value that so many pixels reach.
        value = float(values[np.flatnonzero(reach >= wanted)[-1]])
        if raw and value <= raw[-1]:
            level[-1] = float(round(each, 2))  # of equal values the rarest level
        elif value < highest:
            raw.append(value)
            level.append(float(round(each, 2)))
    if not raw:
        raw, level = [math.nextafter(highest, -math.inf)], [0.0]
    return (*raw, highest), (*level, 1.0)


def highest_score(name: str, classes: int, statistics: ClassStatistics | None = None) -> float:
    """Return the highest value that a score can have; no less, and for most exactly that.

    It is had where no query claims a pixel, so that every s_c is 0.
    """
    if name == 'sml':
        if statistics is None:
            raise ValueError('the highest score of sml needs the statistics of the classes')
        return float((statistics.mean / statistics.deviation).max())
    return {'energy': -math.log(classes), 'mask2anomaly': 1.0}.get(name, 0.0)
