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

"""How well two ways of running one network agree, and whether that is well enough."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch

from maskomaly_ros.networks.prediction import MaskPrediction
from maskomaly_ros.scoring import ScoringParameters, score_map


@dataclass(frozen=True)
class Agreement:
    """Difference between a prediction and the one that it ought to be.

    Attributes:
        mask_error_max: largest difference of mask logits, in standard deviations of those.
        mask_error_mean: mean of that difference.
        class_error_max: largest difference of class probabilities.
        score_error_max: largest difference of score maps (reject and borders), 0 to 1.
        score_error_mean: mean of that difference.
        mask_iou: intersection over union of the masks (logits above 0), all queries as one.

    """

    mask_error_max: float
    mask_error_mean: float
    class_error_max: float
    score_error_max: float
    score_error_mean: float
    mask_iou: float

    def violations(self, precision: str = 'float32') -> list[str]:
        """Return what exceeds the limits of a precision, in words; empty if all is well.

        The largest differences have wide limits, the means and the IoU narrow ones: attention
        masks have hard edges, where rounding may fall either way. So have the borders of the
        score map, where one pixel may differ by anything; its mean has to answer for it. What
        computes something else fails by orders of magnitude.
        """
        limits = _LIMITS if precision == 'float32' else _MIXED_LIMITS
        found = []
        for name, value in asdict(self).items():
            limit = limits[name]
            # Written so that not a number is a violation.
            if not (value >= limit if name == 'mask_iou' else value <= limit):
                bound = 'at least' if name == 'mask_iou' else 'at most'
                found.append(f'{name} is {value:.2g}, {bound} {limit:g} allowed')
        return found

    def worse(self, other: Agreement) -> Agreement:
        """Return the worse value of each kind."""
        values = {name: max(v, getattr(other, name)) for name, v in asdict(self).items()}
        return Agreement(**{**values, 'mask_iou': min(self.mask_iou, other.mask_iou)})


_LIMITS = asdict(Agreement(0.05, 1e-3, 0.01, 1.0, 1e-3, 0.998))
_MIXED_LIMITS = asdict(Agreement(3.0, 0.1, 0.3, 1.0, 0.03, 0.85))


def compare(actual: MaskPrediction, expected: MaskPrediction) -> Agreement:
    """Measure how far a prediction is from the expected one, for the same frames.

    One value that is not finite is as bad as can be.
    """
    if not (actual.mask_logits.isfinite().all() and actual.class_logits.isfinite().all()):
        return Agreement(math.inf, math.inf, math.inf, math.inf, math.inf, 0.0)
    unit = expected.mask_logits.std().item() or 1.0
    masks = (actual.mask_logits - expected.mask_logits).abs()
    classes = actual.class_logits.softmax(-1) - expected.class_logits.softmax(-1)
    scores = _scores(actual) - _scores(expected)
    inside = actual.mask_logits > 0, expected.mask_logits > 0
    union = (inside[0] | inside[1]).sum().item()
    return Agreement(
        mask_error_max=masks.max().item() / unit,
        mask_error_mean=masks.mean().item() / unit,
        class_error_max=classes.abs().max().item(),
        score_error_max=scores.abs().max().item(),
        score_error_mean=scores.abs().mean().item(),
        mask_iou=(inside[0] & inside[1]).sum().item() / union if union else 1.0,
    )


def _scores(prediction: MaskPrediction) -> torch.Tensor:
    # No anomalous queries are known here; with all weight on reject, nobody is told so.
    return prediction.scored(score_map, ScoringParameters(reject_weight=1.0))
