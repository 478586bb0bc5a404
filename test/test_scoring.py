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

"""Algorithm 1 against reference results, against a literal reading of it, and its invariants."""

from __future__ import annotations

import dataclasses
import logging
import math
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from literal_scoring import (
    ABLATIONS,
    FUSED,
    GOLDEN,
    REFERENCES,
    VARIANTS,
    assert_as_literal,
    cases,
    fractions,
    literal_baseline,
    literal_inputs,
    read_reference,
)
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from maskomaly_ros import scoring
from maskomaly_ros.scoring import (
    QuerySelection,
    ScoringParameters,
    accept_map,
    baseline_map,
    border_mask,
    reject_map,
    score_map,
    select_queries,
)

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='a CUDA device')


# Reference results


def test_every_reference_result_is_tested():
    assert {path.stem for path in GOLDEN.glob('*.npz')} == set(REFERENCES)


@pytest.mark.parametrize('form', ['torch', 'auto'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('name', REFERENCES)
def test_score_is_the_reference_score(name, dtype, form):
    assert_reference_score(name, dtype, 'cpu', form)


@on_a_gpu
def test_a_gpu_gives_the_reference_scores():
    for name, dtype in product(REFERENCES, (torch.float32, torch.float64)):
        for form in ('torch', 'auto'):
            assert_reference_score(name, dtype, 'cuda', form)
        assert_reference_baseline(name, dtype, 'cuda')


def assert_reference_score(name, dtype, device, form):
    masks, classes, size, parameters, reference, clear = read_reference(name)
    assert clear.mean() > 0.99

    score = score_map(
        masks.to(device, dtype), classes.to(device, dtype), size, parameters, form=form
    )

    assert score.device.type == device
    np.testing.assert_allclose(score.cpu().numpy()[clear], reference['score'][clear], atol=1e-5)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('name', REFERENCES)
def test_baseline_is_the_reference_baseline(name, dtype):
    assert_reference_baseline(name, dtype, 'cpu')


def assert_reference_baseline(name, dtype, device):
    masks, classes, size, _, reference, _ = read_reference(name)
    score = baseline_map(masks.to(device, dtype), classes.to(device, dtype), size)
    np.testing.assert_allclose(score.cpu().numpy(), reference['baseline'], atol=1e-5)


# The literal reading


@given(cases())
@settings(max_examples=200)
def test_every_map_is_that_of_the_literal_algorithm(case):
    assert_as_literal(case, 1e-6)


@given(cases(dtypes=(torch.float32, torch.float16, torch.bfloat16)))
def test_lower_precisions_are_computed_in_float32(case):
    assert_as_literal(case, 1e-5)


@given(cases())
def test_baseline_is_the_literal_baseline(case):
    score = baseline_map(case.mask_logits, case.class_logits, case.size, extent=case.extent)
    for frame in range(len(score)):
        m, p = literal_inputs(case, frame)
        # Of masks that saturate to the same value, or differ by rounding, either may be first.
        first_two = np.sort(m, 0)[::-1][:2]
        void = p.argmax(-1) == p.shape[1] - 1
        clear = np.full(case.size, True)
        if void.any() and not void.all():
            clear = abs(np.diff(first_two, axis=0)[0]) > 1e-12
        np.testing.assert_allclose(
            score[frame].numpy()[clear], literal_baseline(m, p)[clear], rtol=0, atol=1e-6
        )


@pytest.mark.parametrize('variant', VARIANTS)
def test_forms_agree(variant):
    assert_as_torch_on_the_processor(variant, 'cpu')


@on_a_gpu
def test_devices_agree():
    for variant in VARIANTS:
        assert_as_torch_on_the_processor(variant, 'cuda')


def assert_as_torch_on_the_processor(variant, device):
    generator = torch.Generator().manual_seed(7)
    masks = torch.randn(2, 30, 17, 23, generator=generator) * 6
    classes = torch.randn(2, 30, 8, generator=generator) * 3
    parameters = ScoringParameters((3, 9), (4,), mask_threshold=0.4, variant=variant)
    for function in ABLATIONS:
        expected = function(
            masks, classes, (65, 90), parameters, extent=(15.5, 20.25), form='torch'
        )
        moved = function(
            masks.to(device), classes.to(device), (65, 90), parameters, extent=(15.5, 20.25)
        )
        torch.testing.assert_close(moved.cpu(), expected, rtol=0, atol=1e-5)


# Resizing and the extent


def resized_mask(logits, size, extent=None):
    """Read one resized mask through accept_map: its query is void with probability 1."""
    classes = torch.tensor([[-1000.0, 0.0]], dtype=torch.float64)
    return accept_map(logits[None], classes, size, ScoringParameters((0,)), extent=extent)


@given(
    st.integers(0, 2**32 - 1),
    *(st.integers(1, 12) for _ in range(2)),
    *(st.integers(1, 40) for _ in range(2)),
)
def test_resizing_is_that_of_torch(seed, h, w, height, width):
    logits = torch.randn(h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    expected = F.interpolate(
        logits[None, None], size=(height, width), mode='bilinear', align_corners=False
    )
    torch.testing.assert_close(
        resized_mask(logits, (height, width)), expected[0, 0].sigmoid().float()
    )


@given(cases(), st.integers(1, 7), st.integers(1, 7))
def test_whole_extent_is_a_crop(case, rows, columns):
    rows, columns = min(rows, case.mask_logits.shape[2]), min(columns, case.mask_logits.shape[3])
    for function in ABLATIONS:
        with_extent = function(
            case.mask_logits, case.class_logits, case.size, case.parameters, extent=(rows, columns)
        )
        cropped = function(
            case.mask_logits[..., :rows, :columns], case.class_logits, case.size, case.parameters
        )
        torch.testing.assert_close(with_extent, cropped, rtol=0, atol=0)


@given(cases())
def test_padding_has_no_say(case):
    assume(case.extent is not None)
    expected = case.map(score_map)
    rows, columns = map(math.ceil, case.extent)
    case.mask_logits[..., rows:, :] = 50
    case.mask_logits[..., columns:] = -50
    torch.testing.assert_close(case.map(score_map), expected, rtol=0, atol=0)


def test_fractional_extent_is_not_shifted():
    # Logits that equal the x at which each mask pixel lies read back where output pixels look.
    ramp = torch.arange(10, dtype=torch.float64).expand(3, -1)
    seen = resized_mask(ramp / 10, (3, 29), extent=(3, 7.25)).double().logit() * 10
    expected = ((torch.arange(29) + 0.5) * 7.25 / 29 - 0.5).clamp(min=0)
    torch.testing.assert_close(seen, expected.double().expand(3, -1), rtol=0, atol=1e-5)


# Invariants


@given(cases(dtypes=(torch.float64, torch.float32, torch.bfloat16)))
def test_maps_are_float32_in_the_unit_interval_and_of_the_given_size(case):
    for function in (score_map, reject_map, accept_map):
        score = case.map(function)
        assert score.dtype == torch.float32
        assert score.shape == (len(case.mask_logits), *case.size)
        assert score.min() >= 0
        assert score.max() <= 1
    assert case.map(border_mask).dtype == torch.bool


@given(cases())
def test_frames_of_a_batch_do_not_meet(case):
    for function in ABLATIONS:
        batch = case.map(function)
        for frame in range(len(batch)):
            alone = function(
                case.mask_logits[frame],
                case.class_logits[frame],
                case.size,
                case.parameters,
                extent=case.extent,
            )
            torch.testing.assert_close(batch[frame], alone, rtol=0, atol=0)


@given(cases())
def test_score_joins_its_parts(case):
    reject, borders, accept = (case.map(function) for function in ABLATIONS[1:])
    reject = torch.where(borders, reject.clamp(max=case.parameters.border_score), reject)
    score = case.map(score_map)
    if not case.parameters.anomalous_queries:
        torch.testing.assert_close(score, reject)
        return
    if case.parameters.variant == 'geometric':  # float32 maps have lost what a root shows
        clear = (reject > 1e-4) | borders
        reject, accept, score = reject[clear], accept[clear], score[clear]
    weight = case.parameters.reject_weight
    power = reject**weight
    if weight > 0:  # float32 rounds a vanishing weight to zero, and 0 ** 0 is 1
        power = power.where(reject > 0, 0.0)
    expected = {
        'sum': weight * reject + (1 - weight) * accept,
        'geometric': power * accept ** (1 - weight),
        'product': reject * accept,
        'minimum': torch.minimum(reject, accept),
    }[case.parameters.fusion]
    tolerance = 1e-5 if case.parameters.fusion == 'geometric' else 1e-6
    torch.testing.assert_close(score, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize('form', ['torch', 'auto'])
@given(cases())
def test_with_all_weight_on_one_part_the_score_is_that_part(form, case):
    if form == 'auto':
        case.mask_logits = case.mask_logits.float()
    reject, borders, accept = (case.map(function, form) for function in ABLATIONS[1:])
    reject = torch.where(borders, reject.clamp(max=case.parameters.border_score), reject)
    if case.parameters.variant in ('product', 'minimum'):
        case.parameters = dataclasses.replace(case.parameters, variant='geometric')
    for weight, expected in ((0, accept), (1, reject)):
        if case.parameters.anomalous_queries:
            found = case.map(score_map, form, reject_weight=weight)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@given(cases(variants=FUSED), st.floats(0.01, 0.99))
def test_what_asks_for_both_lies_between_the_parts_and_is_0_where_one_is(case, weight):
    case.parameters = dataclasses.replace(case.parameters, reject_weight=weight)
    reject = case.map(score_map, variant='paper', reject_weight=1)
    accept = case.map(accept_map)
    if not case.parameters.anomalous_queries:
        torch.testing.assert_close(case.map(score_map), reject)
        return
    least, most = torch.minimum(reject, accept), torch.maximum(reject, accept)
    product, minimum, geometric = (
        case.map(score_map, variant=variant) for variant in ('product', 'minimum', 'geometric')
    )
    assert (product <= minimum + 1e-6).all()
    torch.testing.assert_close(minimum, least, rtol=0, atol=1e-6)
    assert (geometric >= least - 1e-6).all()
    assert (geometric <= most + 1e-6).all()
    half = case.map(score_map, variant='geometric', reject_weight=0.5)
    torch.testing.assert_close(half**2, product, rtol=0, atol=1e-5)


@given(cases(), st.floats(0, 5))
def test_more_of_an_anomalous_mask_never_lowers_the_score(case, more):
    # An anomalous query that has no part in reject raises accept alone.
    parameters, classes = case.parameters, case.class_logits
    anomalous = set(parameters.anomalous_queries) - set(parameters.ground_queries)
    void = classes.argmax(-1) == classes.shape[-1] - 1
    alone = [query for query in anomalous if void[:, query].all()]
    before = case.map(score_map)
    case.mask_logits[:, alone] += more
    assert (case.map(score_map) >= before - 1e-6).all()


@given(cases(variants=('paper', *FUSED)), st.floats(0, 5))
def test_more_of_an_inlier_mask_never_raises_the_score(case, more):
    selections = select_queries(case.class_logits, case.parameters)
    anomalous = set(case.parameters.anomalous_queries)
    inlier = set.intersection(*(set(s.inlier) for s in selections)) - anomalous
    before = case.map(score_map)
    case.mask_logits[:, sorted(inlier)] += more
    assert (case.map(score_map) <= before + 1e-6).all()


@given(cases(variants=FUSED))
def test_frames_without_inlier_queries_are_judged_by_accept(case):
    case.class_logits[..., -1] = case.class_logits.amax(-1) + 1
    case.parameters = dataclasses.replace(
        case.parameters, ground_queries=(), anomalous_queries=(0,), reject_weight=0.25
    )
    accept = case.map(accept_map).double()
    expected = accept**0.75 if case.parameters.variant == 'geometric' else accept
    torch.testing.assert_close(case.map(score_map).double(), expected, rtol=0, atol=1e-6)


@given(cases(variants=('paper', 'reference_code')), fractions, fractions)
def test_more_reject_weight_moves_the_score_towards_reject(case, first, second):
    less, more = sorted((first, second))
    reject = case.map(score_map, reject_weight=1)
    distance_of_less = (case.map(score_map, reject_weight=less) - reject).abs()
    distance_of_more = (case.map(score_map, reject_weight=more) - reject).abs()
    assert (distance_of_more <= distance_of_less + 1e-6).all()


@given(cases(), st.randoms(use_true_random=False))
def test_order_of_inlier_classes_does_not_matter(case, random):
    expected = case.map(score_map)
    order = list(range(case.class_logits.shape[-1] - 1))
    random.shuffle(order)
    case.class_logits = case.class_logits[..., [*order, -1]]
    p = case.class_logits.softmax(-1).amax(-1)
    assume(((p - case.parameters.mask_threshold).abs() > 1e-9).all())
    torch.testing.assert_close(case.map(score_map), expected, rtol=0, atol=1e-6)


@given(cases(), st.randoms(use_true_random=False))
def test_order_of_queries_does_not_matter(case, random):
    expected = case.map(score_map)
    order = list(range(case.mask_logits.shape[1]))
    random.shuffle(order)
    case.mask_logits, case.class_logits = case.mask_logits[:, order], case.class_logits[:, order]
    moved = {
        name: tuple(order.index(query) for query in getattr(case.parameters, name))
        for name in ('anomalous_queries', 'ground_queries')
    }
    torch.testing.assert_close(case.map(score_map, **moved), expected, rtol=0, atol=0)


@given(cases())
def test_void_query_outside_of_every_list_changes_nothing(case):
    expected = case.map(score_map)
    mask, classes = case.mask_logits[:, :1] * 0 + 40, case.class_logits[:, :1].clone()
    classes[..., -1] = classes.amax(-1) + 1
    case.mask_logits = torch.cat([case.mask_logits, mask], 1)
    case.class_logits = torch.cat([case.class_logits, classes], 1)
    torch.testing.assert_close(case.map(score_map), expected, rtol=0, atol=0)


@given(cases(), fractions, fractions)
def test_lower_thresholds_never_raise_reject_nor_remove_borders(case, first, second):
    low, high = sorted((first, second))
    assert (
        case.map(reject_map, mask_threshold=low) <= case.map(reject_map, mask_threshold=high)
    ).all()
    low_borders = case.map(border_mask, border_threshold=low)
    high_borders = case.map(border_mask, border_threshold=high)
    assert (low_borders | ~high_borders).all()


@pytest.mark.parametrize('spread', [1e2, 1e3, 3e4])
@pytest.mark.parametrize('variant', VARIANTS)
def test_float32_is_exact_for_logits_far_apart(spread, variant):
    generator = torch.Generator().manual_seed(0)
    masks = torch.randn(8, 20, 30, generator=generator) * spread
    classes = torch.randn(8, 5, generator=generator) * 3
    parameters = ScoringParameters((0, 5), (2,), border_threshold=1, variant=variant)
    exact = score_map(masks.double(), classes, (150, 200), parameters)
    for form in ('torch', 'auto'):
        score = score_map(masks, classes, (150, 200), parameters, form=form)
        torch.testing.assert_close(score, exact, rtol=0, atol=1e-5)


def test_inputs_stay_as_they_were_and_need_no_gradient():
    masks = torch.randn(5, 6, 7, requires_grad=True)
    classes = torch.randn(5, 4, requires_grad=True)
    before = masks.detach().clone(), classes.detach().clone()
    parameters = ScoringParameters((0, 1), (2,))
    score = score_map(masks, classes, (6, 7), parameters)
    assert not score.requires_grad
    assert not baseline_map(masks, classes, (6, 7)).requires_grad
    torch.testing.assert_close((masks.detach(), classes.detach()), before, rtol=0, atol=0)


def test_strided_inputs():
    masks = torch.randn(7, 9, 5).permute(2, 0, 1)
    classes = torch.randn(4, 5).t()
    parameters = ScoringParameters((0, 1), (2,), mask_threshold=0)
    torch.testing.assert_close(
        score_map(masks, classes, (20, 30), parameters),
        score_map(masks.contiguous(), classes.contiguous(), (20, 30), parameters),
    )


def test_nothing_of_all_queries_at_output_size_is_ever_held():
    class LargestResult(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, (tuple, list)) else (result,):
                if isinstance(tensor, Tensor):
                    self.elements = max(self.elements, tensor.numel())
            return result

    masks, classes = torch.randn(60, 10, 16), torch.randn(60, 5)
    parameters = ScoringParameters((0, 1, 2), (3,), mask_threshold=0)
    with LargestResult() as largest:
        score_map(masks, classes, (200, 320), parameters, form='torch')
        baseline_map(masks, classes, (200, 320))
    assert 200 * 320 <= largest.elements <= 2 * 200 * 320


# Corners

TWO_OVERLAPPING = torch.full((2, 3, 4), 2.0)  # sigmoid(2) = 0.88
INLIERS = torch.tensor([[9.0, 0.0], [9.0, 0.0]])
VOID = torch.tensor([[0.0, 9.0], [0.0, 9.0]])


@pytest.mark.parametrize(
    ('threshold', 'border'), [(0, True), (0.1, True), (0.9, False), (1, False)]
)
def test_borders_at_the_ends_of_the_threshold(threshold, border):
    parameters = ScoringParameters(border_threshold=threshold)
    for masks in (TWO_OVERLAPPING, TWO_OVERLAPPING.double()):
        assert border_mask(masks, INLIERS, (6, 8), parameters).all() == border
    one = border_mask(TWO_OVERLAPPING[:1], INLIERS[:1], (6, 8), parameters)
    assert not one.any()


def test_border_threshold_holds_for_masks_that_saturate():
    masks = torch.full((2, 1, 1), -200.0)  # 0 as a float32 mask, yet above 0
    assert border_mask(masks, INLIERS, (1, 1), ScoringParameters(border_threshold=0)).all()
    masks = torch.full((2, 1, 1), 200.0)  # 1 as a float32 mask, yet not above 1
    assert not border_mask(masks, INLIERS, (1, 1), ScoringParameters(border_threshold=1)).any()


def test_many_overlapping_masks_are_still_a_border():
    masks, classes = torch.full((600, 2, 2), 3.0), torch.tensor([[9.0, 0.0]]).repeat(600, 1)
    assert border_mask(masks, classes, (4, 4)).all()


def test_without_inlier_queries_everything_is_rejected():
    assert (reject_map(TWO_OVERLAPPING, VOID, (6, 8)) == 1).all()
    assert (score_map(TWO_OVERLAPPING, VOID, (6, 8)) == 1).all()


def test_without_anomalous_queries_score_is_reject_with_borders_and_says_so_once(caplog):
    scoring._log_missing_anomalous_queries.cache_clear()
    parameters = ScoringParameters(border_threshold=1)
    with caplog.at_level(logging.WARNING, 'maskomaly_ros.scoring'):
        for _ in range(3):
            score = score_map(TWO_OVERLAPPING, INLIERS, (6, 8), parameters)
    torch.testing.assert_close(score, reject_map(TWO_OVERLAPPING, INLIERS, (6, 8), parameters))
    assert (accept_map(TWO_OVERLAPPING, INLIERS, (6, 8), parameters) == 0).all()
    assert [record.levelname for record in caplog.records] == ['WARNING']
    assert 'anomalous queries' in caplog.text


def test_baseline_takes_the_first_of_equal_masks():
    first_void = torch.tensor([[0.0, 9.0], [9.0, 0.0]])
    masks = torch.full((2, 2, 2), 2.0)
    mask = torch.sigmoid(torch.tensor(2.0))
    torch.testing.assert_close(baseline_map(masks, first_void, (1, 1))[0, 0], mask)
    torch.testing.assert_close(baseline_map(masks, first_void.flip(0), (1, 1))[0, 0], 1 - mask)


def test_importing_scoring_needs_torch_alone():
    program = (
        'import sys, maskomaly_ros.scoring;'
        "print([n for n in sys.modules if n.split('.')[0] in"
        " ('transformers', 'rclpy', 'cv2', 'pydantic') or n.startswith('maskomaly_ros.')])"
    )
    repository = Path(__file__).parents[1]
    result = subprocess.run(
        [sys.executable, '-c', program], cwd=repository, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "['maskomaly_ros.scoring']"


# Selection

#                          p = 1/2, 1/2, 0     0.73, 0.27, 0      0.27, 0, 0.73     1/2, 0, 1/2
CLASSES = torch.tensor([[0, 0, -1000.0], [1, 0, -1000.0], [0, -1000.0, 1], [0, -1000.0, 0]])


def test_paper_takes_queries_on_the_threshold_and_ground_queries():
    (selection,) = select_queries(
        CLASSES, ScoringParameters((1, 2), ground_queries=(2,), mask_threshold=0.5)
    )
    assert selection.inlier == pytest.approx({0: 0.5, 1: 0.7310586, 2: 0.2689414, 3: 0.5})
    assert selection.border_makers == {0, 1, 2, 3}
    assert selection.anomalous == pytest.approx({1: 0, 2: 0.7310586})
    assert selection.queries == [0, 1, 2, 3]


def test_reference_code_wants_more_than_the_threshold_and_any_class():
    (selection,) = select_queries(
        CLASSES,
        ScoringParameters(
            (1, 2), ground_queries=(2,), mask_threshold=0.5, variant='reference_code'
        ),
    )
    assert selection.inlier == pytest.approx({1: 0.7310586, 2: 0.7310586})
    assert selection.border_makers == {0, 1, 3}  # a tie with void is not void: argmax is the first
    assert selection.anomalous == pytest.approx({1: 0.7310586, 2: 0.7310586})


def test_selection_is_one_a_frame():
    selections = select_queries(torch.stack([CLASSES, CLASSES.flip(0)]), ScoringParameters())
    assert [selection.queries for selection in selections] == [[0, 1, 3], [0, 2, 3]]
    assert QuerySelection().queries == []


# Parameters


def test_defaults_of_the_variants():
    assert ScoringParameters() == ScoringParameters((), (), 0.3, 0.1, 0.001, 0.6, 'paper')
    reference_code = ScoringParameters((), (), 0.7, 0.1, 0.0, 0.6, 'reference_code')
    assert ScoringParameters(variant='reference_code') == reference_code
    assert ScoringParameters.for_variant('reference_code') == reference_code
    chosen = ScoringParameters.for_variant(
        'reference_code', anomalous_queries=[4], mask_threshold=0.2, border_score=None
    )
    assert chosen == ScoringParameters((4,), (), 0.2, 0.1, 0.0, 0.6, 'reference_code')


def test_parameters_are_plain_hashable_values():
    parameters = ScoringParameters(
        anomalous_queries=np.array([5, 2, 5]), ground_queries=[1], reject_weight=1
    )
    assert parameters.anomalous_queries == (5, 2)
    assert [type(query) for query in parameters.anomalous_queries] == [int, int]
    assert type(parameters.reject_weight) is float
    assert hash(parameters) == hash(dataclasses.replace(parameters))
    with pytest.raises(dataclasses.FrozenInstanceError):
        parameters.reject_weight = 0.5  # type: ignore[misc]


@pytest.mark.parametrize(
    ('values', 'error', 'message'),
    [
        ({'anomalous_queries': (3, -1)}, ValueError, 'anomalous_queries holds -1'),
        ({'ground_queries': (True,)}, TypeError, 'ground_queries holds True'),
        ({'ground_queries': (1.0,)}, TypeError, 'ground_queries holds 1.0'),
        ({'anomalous_queries': '12'}, TypeError, "anomalous_queries is '12'"),
        ({'anomalous_queries': 12}, TypeError, 'anomalous_queries is 12'),
        ({'mask_threshold': 1.1}, ValueError, 'mask_threshold is 1.1'),
        ({'border_threshold': -0.1}, ValueError, 'border_threshold is -0.1'),
        ({'border_score': math.nan}, ValueError, 'border_score is nan'),
        ({'reject_weight': '0.6'}, TypeError, "reject_weight is '0.6'"),
        ({'reject_weight': True}, TypeError, 'reject_weight is True'),
        ({'reject_weight': None}, TypeError, 'reject_weight is None'),
        ({'variant': 'code'}, ValueError, "variant is 'code'"),
    ],
)
def test_bad_parameters_are_named(values, error, message):
    with pytest.raises(error, match=message):
        ScoringParameters(**values)


# Refusals

MASKS, SCORES = torch.zeros(3, 4, 5), torch.zeros(3, 2)


def with_value(tensor, value):
    changed = tensor.clone()
    changed[(1,) * tensor.ndim] = value
    return changed


@pytest.mark.parametrize('function', [*ABLATIONS, baseline_map])
@pytest.mark.parametrize(
    ('masks', 'classes', 'size', 'extent', 'error', 'message'),
    [
        (np.zeros((3, 4, 5)), SCORES, (4, 5), None, TypeError, 'mask_logits is a ndarray'),
        (MASKS, [[0.0, 0.0]], (4, 5), None, TypeError, 'class_logits is a list'),
        (MASKS.int(), SCORES, (4, 5), None, TypeError, 'mask_logits holds torch.int32'),
        (MASKS, SCORES.bool(), (4, 5), None, TypeError, 'class_logits holds torch.bool'),
        (MASKS[0], SCORES, (4, 5), None, ValueError, r'mask_logits is \[4, 5\]'),
        (MASKS[None, None], SCORES, (4, 5), None, ValueError, r'mask_logits is \[1, 1, 3'),
        (MASKS, SCORES[0], (4, 5), None, ValueError, r'class_logits is \[2\]'),
        (MASKS, SCORES[:2], (4, 5), None, ValueError, 'the same queries'),
        (MASKS[None], SCORES, (4, 5), None, ValueError, 'the same queries'),
        (MASKS[None], SCORES[None].repeat(2, 1, 1), (4, 5), None, ValueError, 'same queries'),
        (MASKS, SCORES[:, :1], (4, 5), None, ValueError, 'one inlier class'),
        (MASKS[:0], SCORES[:0], (4, 5), None, ValueError, 'no dimension may be empty'),
        (MASKS[:, :0], SCORES, (4, 5), None, ValueError, 'no dimension may be empty'),
        (with_value(MASKS, math.nan), SCORES, (4, 5), None, ValueError, r'nan at \[1, 1, 1\]'),
        (with_value(MASKS, math.inf), SCORES, (4, 5), None, ValueError, 'mask_logits holds inf'),
        (with_value(MASKS, -math.inf), SCORES, (4, 5), None, ValueError, 'holds -inf at'),
        (with_value(MASKS.half(), -math.inf), SCORES, (4, 5), None, ValueError, 'holds -inf at'),
        (MASKS, with_value(SCORES, math.nan), (4, 5), None, ValueError, 'class_logits holds nan'),
        (MASKS, with_value(SCORES, math.inf), (4, 5), None, ValueError, 'class_logits holds inf'),
        (MASKS, SCORES, (0, 5), None, ValueError, r'size is \(0, 5\)'),
        (MASKS, SCORES, (4, -5), None, ValueError, r'size is \(4, -5\)'),
        (MASKS, SCORES, (4, 5, 6), None, ValueError, r'size is \(4, 5, 6\)'),
        (MASKS, SCORES, (4.0, 5.0), None, TypeError, r'size is \(4.0, 5.0\)'),
        (MASKS, SCORES, 4, None, TypeError, 'size is 4'),
        (MASKS, SCORES, (4, 5), (4.5, 5), ValueError, r'extent is \(4.5, 5.0\)'),
        (MASKS, SCORES, (4, 5), (0, 5), ValueError, r'extent is \(0.0, 5.0\)'),
        (MASKS, SCORES, (4, 5), (4, math.nan), ValueError, 'extent is'),
        (MASKS, SCORES, (4, 5), (4,), ValueError, r'extent is \(4,\)'),
        (MASKS, SCORES, (4, 5), 4, ValueError, 'extent is 4'),
    ],
)
def test_bad_inputs_are_named(function, masks, classes, size, extent, error, message):
    with pytest.raises(error, match=message):
        function(masks, classes, size, extent=extent)


def test_logits_too_far_apart_to_mix_are_refused():
    masks = MASKS.clone()
    masks[0, 0, :2] = torch.tensor([-3e38, 3e38])
    with pytest.raises(ValueError, match=r'spans -3e\+38 to 3e\+38'):
        score_map(masks, SCORES, (4, 5))
    assert score_map(masks.double(), SCORES, (4, 5)).isfinite().all()


@pytest.mark.parametrize('name', ['anomalous_queries', 'ground_queries'])
@pytest.mark.parametrize('function', ABLATIONS)
def test_queries_of_another_checkpoint_are_named(function, name):
    with pytest.raises(IndexError, match=f'{name} names query 3, but the network has 3'):
        function(MASKS, SCORES, (4, 5), ScoringParameters(**{name: (0, 3)}))
