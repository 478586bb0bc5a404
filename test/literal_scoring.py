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

"""Algorithm 1 word for word, in float64, and predictions drawn to compare other forms with it."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from pathlib import Path
from typing import get_args

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from maskomaly_ros.scoring import (
    ScoringParameters,
    Variant,
    accept_map,
    border_mask,
    reject_map,
    score_map,
)

VARIANTS = get_args(Variant)
FUSED = ('geometric', 'product', 'minimum')
ABLATIONS = (score_map, reject_map, border_mask, accept_map)
# Where triton's kernels run: its interpreter, on the CPU, has to be asked for before the import.
TRITON_DEVICE = 'cpu' if os.environ.get('TRITON_INTERPRET') == '1' else 'cuda'
GOLDEN = Path(__file__).parent / 'data' / 'scoring'
REFERENCES = ('no_border_overlap', 'odd_size', 'paper_defaults')

# A literal, slow reading of the algorithm, in float64


def literal_masks(mask_logits, size, extent=None):
    """Resize every mask to [N, H, W], pixel by pixel, and return its sigmoid."""
    queries, h, w = mask_logits.shape
    extent = extent or (h, w)
    last = [math.ceil(e) - 1 for e in extent]
    masks = np.empty((queries, *size))
    for y, x in np.ndindex(*size):
        source = [(i + 0.5) * e / s - 0.5 for i, e, s in zip((y, x), extent, size, strict=True)]
        (v, u) = (min(max(position, 0), n) for position, n in zip(source, last, strict=True))
        top, left = int(v), int(u)
        bottom, right = min(top + 1, last[0]), min(left + 1, last[1])
        a, b = v - top, u - left
        masks[:, y, x] = (1 - a) * (
            (1 - b) * mask_logits[:, top, left] + b * mask_logits[:, top, right]
        ) + a * ((1 - b) * mask_logits[:, bottom, left] + b * mask_logits[:, bottom, right])
    return 1 / (1 + np.exp(-masks))


def literal_softmax(class_logits):
    exponentials = np.exp(class_logits - class_logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def literal_parts(m, p, parameters):
    """Return reject without borders, the borders and accept, as Algorithm 1 is written."""
    void = p.shape[1] - 1
    reference_code = parameters.variant == 'reference_code'
    not_void = [n for n in range(len(p)) if p[n].argmax() != void]
    inlier = {}
    for n in not_void:
        confident = p[n].max() >= parameters.mask_threshold
        if reference_code:
            confident = p[n].max() > parameters.mask_threshold
        if confident:
            inlier[n] = p[n, :void].max()
    for n in parameters.ground_queries:
        inlier[n] = p[n].max() if reference_code else p[n, :void].max()

    reject = np.ones(m.shape[1:])
    for n, weight in inlier.items():
        reject = np.minimum(reject, 1 - m[n] * weight)
    borders = np.zeros(m.shape[1:], dtype=bool)
    for a, b in itertools.combinations(not_void if reference_code else sorted(inlier), 2):
        borders |= (m[a] > parameters.border_threshold) & (m[b] > parameters.border_threshold)
    accept = np.zeros(m.shape[1:])
    for n in parameters.anomalous_queries:
        accept = np.maximum(accept, m[n] * (p[n].max() if reference_code else p[n, void]))
    return reject, borders, accept


def literal_score(reject, borders, accept, parameters):
    reject = np.where(borders, np.minimum(reject, parameters.border_score), reject)
    if not parameters.anomalous_queries:
        return reject
    weight = parameters.reject_weight
    if parameters.variant == 'geometric':
        return reject**weight * accept ** (1 - weight)
    if parameters.variant == 'product':
        return reject * accept
    if parameters.variant == 'minimum':
        return np.minimum(reject, accept)
    return weight * reject + (1 - weight) * accept


def literal_baseline(m, p):
    void = p.shape[1] - 1
    score = np.empty(m.shape[1:])
    for y, x in np.ndindex(*score.shape):
        n = m[:, y, x].argmax()
        score[y, x] = m[n, y, x] if p[n].argmax() == void else 1 - m[n, y, x]
    return score


# Random predictions


@dataclasses.dataclass
class Case:
    mask_logits: Tensor  # [B, N, h, w]
    class_logits: Tensor  # [B, N, C+1]
    size: tuple[int, int]
    extent: tuple[float, float] | None
    parameters: ScoringParameters

    def map(self, function, form='torch', **changes):
        parameters = dataclasses.replace(self.parameters, **changes)
        device = TRITON_DEVICE if form == 'triton' else 'cpu'
        return function(
            self.mask_logits.to(device),
            self.class_logits.to(device),
            self.size,
            parameters,
            extent=self.extent,
            form=form,
        ).cpu()


fractions = st.floats(0, 1) | st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0])


@st.composite
def cases(draw, dtypes=(torch.float64,), variants=VARIANTS):
    """Draw a prediction, with every kind of class distribution that a network may give."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    batch, queries, inlier_classes = (draw(st.integers(1, n)) for n in (3, 6, 4))
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    size = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    masks = rng.normal(0, draw(st.sampled_from([0.5, 4, 25])), (batch, queries, height, width))
    classes = rng.normal(0, draw(st.sampled_from([0.5, 3])), (batch, queries, inlier_classes + 1))
    kind = draw(st.sampled_from(['any', 'any', 'all void', 'none void', 'ties']))
    if kind == 'all void':
        classes[..., -1] = classes.max(-1) + 0.5
    elif kind == 'none void':
        classes[..., -1] = classes.min(-1) - 0.5
    elif kind == 'ties':
        masks, classes = masks.round(), classes.round()
    extent = None
    if draw(st.booleans()):
        extent = (
            draw(st.floats(0.1, height) | st.integers(1, height).map(float)),
            draw(st.floats(0.1, width) | st.integers(1, width).map(float)),
        )
    some_queries = st.lists(st.integers(0, queries - 1), max_size=queries).map(tuple)
    parameters = ScoringParameters(
        anomalous_queries=draw(some_queries),
        ground_queries=draw(some_queries),
        mask_threshold=draw(fractions),
        border_threshold=draw(fractions),
        border_score=draw(fractions),
        reject_weight=draw(fractions),
        variant=draw(st.sampled_from(variants)),
    )
    mask_logits = torch.from_numpy(masks).to(draw(st.sampled_from(dtypes)))
    class_logits = torch.from_numpy(classes).to(draw(st.sampled_from(dtypes)))
    return Case(mask_logits, class_logits, size, extent, parameters)


def literal_inputs(case, frame):
    p = literal_softmax(case.class_logits[frame].double().numpy())
    return literal_masks(case.mask_logits[frame].double().numpy(), case.size, case.extent), p


def assert_as_literal(case, tolerance, form='torch', at_threshold=None):
    """Compare every map of every frame, but for masks and classes on the very threshold."""
    maps = [case.map(function, form).numpy() for function in ABLATIONS]
    for frame in range(len(case.mask_logits)):
        m, p = literal_inputs(case, frame)
        assume((abs(p.max(-1) - case.parameters.mask_threshold) > 1e-9).all())
        off_threshold = abs(m - case.parameters.border_threshold) > (at_threshold or tolerance)
        clear = off_threshold.all(0)
        score, reject, borders, accept = (values[frame] for values in maps)
        expected = literal_parts(m, p, case.parameters)
        np.testing.assert_allclose(reject, expected[0], rtol=0, atol=tolerance)
        np.testing.assert_array_equal(borders[clear], expected[1][clear])
        np.testing.assert_allclose(accept, expected[2], rtol=0, atol=tolerance)
        if case.parameters.variant == 'geometric':
            # A root of 1 − m · p tells how it was rounded. Other tests compare with sums of what
            # does not cancel.
            clear &= (expected[0] > 1e-6) | expected[1]
        np.testing.assert_allclose(
            score[clear],
            literal_score(*expected, case.parameters)[clear],  # type: ignore[call-arg]
            rtol=0,
            atol=tolerance,
        )


def read_reference(name: str):
    """Return inputs and results, and where no mask is on the border threshold."""
    with np.load(GOLDEN / f'{name}.npz') as data:
        reference = dict(data)
    parameters = ScoringParameters(
        anomalous_queries=reference['accept'],
        ground_queries=reference['ground'],
        mask_threshold=float(reference['t_mask']),
        border_threshold=float(reference['t_b']),
        border_score=float(reference['eps']),
        reject_weight=float(reference['lam']),
    )
    masks, classes = (torch.from_numpy(reference[key]) for key in ('mask_logits', 'class_logits'))
    size = tuple(map(int, reference['size']))
    resized = F.interpolate(masks[None].double(), size=size, mode='bilinear')[0]
    on_threshold = abs(resized.sigmoid() - parameters.border_threshold) <= 1e-6
    clear = ~on_threshold.any(0).numpy()
    return masks, classes, size, parameters, reference, clear
