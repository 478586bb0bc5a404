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

"""Metrics against slow, literal readings of their definitions and the benchmark's own output."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from made_scores import made_images

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation import metrics
from maskomaly_ros.evaluation.metrics import (
    SCORE_VALUES,
    ComponentMetrics,
    PixelMetrics,
    SemanticConfusion,
    count_scores,
    maximal_detection_margin,
)

# Few different values, so that ties within and across images are the rule.
SCORES = hnp.arrays(np.float16, (6, 7), elements=st.integers(-3, 12).map(lambda n: n / 10))
LABELS = hnp.arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 0, 1, 255]))
IMAGES = st.lists(st.tuples(SCORES, LABELS), min_size=1, max_size=4)


def pooled(images):
    """Return scores and truth of all pixels that are not ignored; skip one-sided examples."""
    score = np.concatenate([s[y < 255] for s, y in images])
    truth = np.concatenate([y[y < 255] for _, y in images])
    return score, truth


def test_counts_are_the_same_without_numba(monkeypatch):
    pytest.importorskip('numba')
    generator = np.random.default_rng(5)
    score = generator.normal(size=(50, 60)).astype(np.float32)
    label = generator.choice(np.array([0, 1, 255], np.uint8), (50, 60))
    images = [(score, label), (score[:, ::2], label[:, ::2]), (score, label == 1)]
    assert metrics._fused_counts() is not None
    found = [count_scores(*image) for image in images]
    monkeypatch.setattr(metrics, '_fused_counts', lambda: None)
    for image, counts in zip(images, found, strict=True):
        expected = count_scores(*image)
        assert np.array_equal(counts.positives, expected.positives)
        assert np.array_equal(counts.negatives, expected.negatives)


@given(hnp.arrays(np.float16, 20, elements=st.floats(-2, 2, width=16)), st.floats(-2, 2, width=16))
def test_scores_above_a_threshold_are_those_that_numpy_finds(scores, threshold):
    scores = np.concatenate([scores, np.float16([0.0, -0.0, np.inf, -np.inf, threshold])])
    found = metrics._above(scores, np.float16(threshold))
    assert np.array_equal(found, scores > np.float16(threshold))


def computable(images):
    _, truth = pooled(images)
    return 0 < truth.sum() < truth.size


def literal_curve(images):
    """Return the compressed curve as the benchmark defines it, image by image, bin by bin."""
    points = []
    for score, label in images:
        score = score.astype(np.float64)
        region = score[label < 255]
        if not region.size:
            continue
        pos, neg = score[label == 1], score[label == 0]
        room = max(0.01 * (region.max() - region.min()), 0.01)
        edges = {region.min() - room, region.max() + room}
        for part in (pos, neg):
            if part.size:
                edges |= set(np.quantile(part, np.linspace(0, 1, min(384, part.size))))
        edges = sorted(edges)  # type: ignore[assignment]
        for low, high in itertools.pairwise(edges):
            points.append(
                (low, np.sum((pos >= low) & (pos < high)), np.sum((neg >= low) & (neg < high)))
            )
    tp = fp = 0
    curve = {}
    for threshold, pos, neg in sorted(points, reverse=True):
        tp, fp = tp + pos, fp + neg
        curve[threshold] = (tp, fp)
    return curve, tp, fp


def literal_pixel_metrics(images):
    curve, p, n = literal_curve(images)
    points = [(np.inf, 0, 0), *((t, *c) for t, c in curve.items())]
    recall = [tp / p for _, tp, _ in points]
    fpr = [fp / n for _, _, fp in points]
    precision = [1.0 if tp + fp == 0 else tp / (tp + fp) for _, tp, fp in points]
    f1 = [2 * tp / (tp + fp + p) for _, tp, fp in points]
    steps = range(1, len(points))
    return {
        'ap': sum((recall[i] - recall[i - 1]) * precision[i] for i in steps),
        'auroc': sum((fpr[i] - fpr[i - 1]) * (recall[i] + recall[i - 1]) / 2 for i in steps),
        'fpr95': next(fpr[i] for i in range(len(points)) if recall[i] >= 0.95),
        'best_f1': max(f1),
        'best_f1_threshold': points[int(np.argmax(f1))][0],
    }


def update_all(metrics, images):
    for score, label in images:
        metrics.update(score, label)
    return metrics.compute()


@given(IMAGES.filter(computable))
def test_pixel_metrics_are_their_definition(images):
    result = update_all(PixelMetrics(), images)
    for name, value in literal_pixel_metrics(images).items():
        assert getattr(result, name) == pytest.approx(value, abs=1e-12), name
    assert result.images == len(images)


@given(IMAGES.filter(computable).flatmap(lambda i: st.tuples(st.just(i), st.permutations(i))))
def test_order_of_images_does_not_matter(orders):
    first, second = (update_all(PixelMetrics(), images) for images in orders)
    assert asdict(first) == pytest.approx(asdict(second), nan_ok=True)


@settings(max_examples=50)
@given(IMAGES.filter(computable))
def test_exact_figures_equal_scikit_learn(images):
    sklearn = pytest.importorskip('sklearn.metrics')
    metrics = PixelMetrics()
    result = update_all(metrics, images)
    score, truth = pooled(images)
    expected = sklearn.average_precision_score(truth, score)
    assert result.exact_ap == pytest.approx(expected, abs=1e-12)
    auroc = metrics.counts.curve().auroc()
    assert auroc == pytest.approx(sklearn.roc_auc_score(truth, score), abs=1e-12)


def test_continuous_scores_are_compressed_to_quantiles():
    random = np.random.default_rng(0)
    images = []
    for _ in range(3):
        label = (random.random((80, 90)) < 0.2).astype(np.uint8)
        label[random.random(label.shape) < 0.1] = 255
        images.append(((random.normal(size=label.shape) + label).astype(np.float16), label))
    metrics = PixelMetrics()
    result = update_all(metrics, images)
    for name, value in literal_pixel_metrics(images).items():
        assert getattr(result, name) == pytest.approx(value, abs=1e-9), name
    assert len(metrics.curve().thresholds) <= 3 * 768
    assert result.ap != result.exact_ap
    assert result.ap == pytest.approx(result.exact_ap, abs=0.01)


def street_hazards_fpr(score, truth):
    """FPR where recall is nearest to 0.95, as the benchmark of StreetHazards walks the curve."""
    curve = [
        (np.mean(score[truth] >= t), np.sum(score[~truth] >= t)) for t in np.unique(score)[::-1]
    ]
    complete = [recall for recall, _ in curve].index(1.0)
    return min(curve[complete::-1], key=lambda p: abs(p[0] - 0.95))[1] / np.sum(~truth)


def test_street_hazards_fpr_at_a_recall_below_95_percent():
    # 15 anomalies: recall 14 / 15 is nearer to 0.95 than 1; two others lie between thresholds.
    score = np.array([9] * 14 + [1] + [5, 3, 2, 0], np.float16)
    truth = np.arange(19) < 15
    curve = count_scores(score, truth).curve()
    assert curve.fpr95() == 3 / 4
    assert curve.fpr_nearest_95() == street_hazards_fpr(score, truth) == 3 / 4
    score[14] = 4
    curve = count_scores(score, truth).curve()
    assert curve.fpr_nearest_95() == street_hazards_fpr(score, truth) == 1 / 4


@given(IMAGES)
def test_street_hazards_averages_over_images_with_anomalies(images):
    sklearn = pytest.importorskip('sklearn.metrics')
    of_images = []
    for score, label in images:
        truth = label[label < 255] == 1
        score = score[label < 255]
        if truth.any() and not truth.all():
            of_images.append(
                (
                    sklearn.average_precision_score(truth, score),
                    street_hazards_fpr(score, truth),
                    sklearn.roc_auc_score(truth, score),
                )
            )
    metrics = PixelMetrics(averaged=True)
    if not of_images:
        if computable(images):
            with pytest.raises(MaskomalyError, match='no image has both'):
                update_all(metrics, images)
        return
    result = update_all(metrics, images)
    expected = np.mean(of_images, axis=0)
    assert (result.ap, result.fpr95, result.auroc) == pytest.approx(tuple(expected), abs=1e-12)
    assert result.exact_ap == result.ap
    assert result.best_f1 == update_all(PixelMetrics(), images).best_f1


def test_float32_is_rounded_as_numpy_does():
    bits = np.random.default_rng(0).integers(0, 1 << 32, 200_000, dtype=np.uint32)
    score = bits.view(np.float32)
    score = np.concatenate([score[np.abs(score) < 65000], np.float32([0.0, -0.0, 6e-8, 2.9e-8])])
    label = (np.arange(score.size) % 3 == 0).astype(np.uint8)
    expected = count_scores(score.astype(np.float16), label)
    found = count_scores(score, label)
    score.flags.writeable = False
    for each in (found, count_scores(score, label)):
        assert np.array_equal(each.positives, expected.positives)
        assert np.array_equal(each.negatives, expected.negatives)


def test_counting_is_lossless_over_all_float16():
    bits = np.arange(1 << 16, dtype=np.uint16)
    score = bits.view(np.float16)
    finite = np.isfinite(score)
    counts = count_scores(score[finite][None], np.ones((1, finite.sum()), np.uint8))
    assert np.array_equal(np.unique(SCORE_VALUES), SCORE_VALUES)
    twice = np.where(SCORE_VALUES == 0, 2, 1)  # 0.0 and -0.0 are one value
    assert np.array_equal(counts.positives, twice)
    assert not counts.negatives.any()


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf, 1e6])
def test_bad_scores_are_refused_unless_ignored(bad):
    score = np.array([[0.5, bad]])
    with pytest.raises(MaskomalyError, match='1 pixels that are NaN or beyond'):
        count_scores(score, np.array([[0, 1]]))
    count_scores(score, np.array([[1, 255]]))


@pytest.mark.parametrize('metrics', [PixelMetrics(), ComponentMetrics(0.5)])
def test_bad_labels_are_refused(metrics):
    with pytest.raises(MaskomalyError, match='label has value 7'):
        metrics.update(np.zeros((2, 2)), np.array([[0, 1], [255, 7]]))
    with pytest.raises(MaskomalyError, match=r'\(2, 2\) and label \(2, 3\)'):
        metrics.update(np.zeros((2, 2)), np.zeros((2, 3), np.uint8))


@pytest.mark.parametrize('value', [0, 1, 255])
def test_one_sided_data_has_no_figures(value):
    metrics = PixelMetrics()
    metrics.update(np.zeros((2, 2)), np.full((2, 2), value))
    with pytest.raises(MaskomalyError, match='precision and recall need both'):
        metrics.compute()


def test_no_image_has_no_figures():
    with pytest.raises(MaskomalyError, match='precision and recall need both'):
        PixelMetrics().compute()


def literal_margin(score, truth, margin):
    """Return the longest run of neighbouring scores between which F1 stays above margin."""
    score = score.astype(np.float64)
    stops = sorted({0.0, 1.0, *score[(score > 0) & (score < 1)]})
    longest = length = 0.0
    for low, high in itertools.pairwise(stops):
        predicted = score > low
        tp = np.sum(predicted & (truth == 1))
        denominator = np.sum(predicted) + np.sum(truth == 1)
        good = denominator > 0 and 2 * tp / denominator > margin
        length = length + high - low if good else 0.0
        longest = max(longest, length)
    return longest


@given(SCORES, LABELS, st.sampled_from([0.0, 0.3, 0.6, 0.7]))
def test_detection_margin_is_its_definition(score, label, margin):
    expected = literal_margin(score[label < 255], label[label < 255], margin)
    assert maximal_detection_margin(score, label, margin) == pytest.approx(expected, abs=1e-12)
    if (label == 1).any() and (label == 0).any():
        curve = count_scores(score, label).curve()
        assert curve.detection_margin(margin) == pytest.approx(expected, abs=1e-12)


def test_detection_margin_of_a_perfect_score_is_everything():
    truth = np.array([[True, False], [False, True]])
    assert maximal_detection_margin(truth.astype(np.float32), truth, 0.7) == 1.0
    assert maximal_detection_margin(1 - truth.astype(np.float32), truth, 0.7) == 0.0
    # With float64 scores nothing is rounded.
    assert maximal_detection_margin(truth * 0.123456789, truth, 0.7) == 0.123456789


def test_detection_margin_refuses_nonsense():
    with pytest.raises(MaskomalyError, match=r'margin 1\.0'):
        maximal_detection_margin(np.zeros(2), np.ones(2), 1.0)
    with pytest.raises(MaskomalyError, match='NaN'):
        maximal_detection_margin(np.array([np.nan, 0]), np.ones(2), 0.6)


def literal_components(mask):
    """Return the 8-connected components of mask as sets of pixels, by flooding."""
    rest = set(zip(*np.nonzero(mask), strict=True))
    components = []
    while rest:
        component, border = set(), [rest.pop()]
        while border:
            y, x = border.pop()
            component.add((y, x))
            near = {(y + j, x + i) for j in (-1, 0, 1) for i in (-1, 0, 1)} & rest
            rest -= near
            border.extend(near)
        components.append(component)
    return components


def literal_component_metrics(images, threshold, minimum_prediction, minimum_truth):
    siou, ppv = [], []
    for score, label in images:
        predictions = literal_components((score > threshold) & (label < 255))
        predictions = [p for p in predictions if len(p) >= minimum_prediction]
        truths = literal_components(label == 1)
        ignored = {pixel for t in truths if len(t) < minimum_truth for pixel in t}
        truths = [t for t in truths if len(t) >= minimum_truth]
        predictions = [p - ignored for p in predictions if p - ignored]
        anomalous = {pixel for t in truths for pixel in t}
        for k in truths:
            s = {pixel for p in predictions if p & k for pixel in p}
            siou.append(len(k & s) / (len(s) + len(k) - len(k & s) - len(s & (anomalous - k))))
        ppv.extend(len(p & anomalous) / len(p) for p in predictions)
    f1 = []
    for t in np.linspace(0.25, 0.75, 11):
        tp, fn, fp = (sum(v >= t for v in siou), sum(v < t for v in siou), sum(v < t for v in ppv))
        f1.append(2 * tp / (2 * tp + fn + fp) if tp + fn + fp else 0.0)
        if t == 0.25:
            counts = (tp, fn, fp)
    mean = lambda values: np.mean(values) if values else np.nan  # noqa: E731
    return mean(siou), mean(ppv), np.mean(f1), counts


@given(IMAGES, st.integers(1, 4), st.integers(0, 4))
def test_component_metrics_are_their_definition(images, minimum_prediction, minimum_truth):
    # An image with fewer pixels of background than minimum_truth is no road scene.
    images = [(s, y) for s, y in images if np.sum(y != 1) >= minimum_truth]
    result = update_all(ComponentMetrics(0.45, minimum_prediction, minimum_truth), images)
    siou, ppv, mean_f1, counts = literal_component_metrics(
        images, 0.45, minimum_prediction, minimum_truth
    )
    assert result.siou_gt == pytest.approx(siou, nan_ok=True)
    assert result.ppv == pytest.approx(ppv, nan_ok=True)
    assert result.mean_f1 == pytest.approx(mean_f1)
    assert (result.tp_25, result.fn_25, result.fp_25) == counts


@given(st.floats(0, 1), SCORES)
def test_component_threshold_is_strict_and_not_rounded(threshold, score):
    metrics = ComponentMetrics(threshold, minimum_prediction=1, minimum_truth=1)
    metrics.update(score, (score.astype(np.float64) > threshold).astype(np.uint8))
    result = metrics.compute()
    assert result.fn_25 == result.fp_25 == 0


@pytest.mark.parametrize('kind', ['smooth', 'confident'])
def test_agreement_with_the_benchmark(kind):
    """Against what the benchmark's own code says of made scores."""
    path = Path(__file__).parents[1] / 'data' / 'metrics.json'
    assert_agrees(made_images(kind), json.loads(path.read_text())['results'][kind], 1e-6)


@pytest.mark.parametrize('method', ['saturation', 'mix'])
def test_agreement_with_the_benchmark_on_real_images(shared, method):
    """Scores that need no network, against what the benchmark's own code prints."""
    reference = json.loads((shared / 'reference' / 'metrics.json').read_text())['percent'][method]
    folder = shared / 'data' / 'road_anomaly21_val'
    images = []
    for path in sorted((folder / 'images').iterdir()):
        image = cv2.imread(str(path))
        label = cv2.imread(str(folder / 'labels_masks' / f'{path.stem}_labels_semantic.png'), -1)
        score = cv2.cvtColor(image, cv2.COLOR_BGR2HSV_FULL)[..., 1] / 255
        if method == 'mix':
            scipy = pytest.importorskip('scipy.ndimage')
            score = 0.5 * scipy.gaussian_filter((label == 1).astype(np.float32), 15) + 0.5 * score
        images.append((score.astype(np.float16), label))
    fractions = {
        name: value if name in ('tp_fn_fp_at_25', 'best_F1_threshold') else value / 100
        for name, value in reference.items()
    }
    assert_agrees(images, fractions, 1e-4)


def assert_agrees(images, reference, tolerance):
    """Compare all figures with those of a reference, which are fractions."""
    pixels = update_all(PixelMetrics(), images)
    components = update_all(ComponentMetrics(pixels.best_f1_threshold), images)
    for name, value in {
        'AP': pixels.ap,
        'FPR95': pixels.fpr95,
        'AuROC': pixels.auroc,
        'best_F1': pixels.best_f1,
        'exact_AP': pixels.exact_ap,
        'sIoU_gt': components.siou_gt,
        'PPV': components.ppv,
        'mean_F1': components.mean_f1,
    }.items():
        assert value == pytest.approx(reference[name], abs=tolerance), name
    assert pixels.best_f1_threshold == pytest.approx(reference['best_F1_threshold'], abs=1e-6)
    counts = [components.tp_25, components.fn_25, components.fp_25]
    assert counts == reference['tp_fn_fp_at_25']


CLASSES = hnp.arrays(np.uint8, (5, 6), elements=st.sampled_from([0, 1, 2]))
CLASSES_OR_IGNORE = hnp.arrays(np.uint8, (5, 6), elements=st.sampled_from([0, 1, 255]))


@given(st.lists(st.tuples(CLASSES, CLASSES_OR_IGNORE), min_size=1, max_size=3))
def test_semantic_confusion_is_intersection_over_union(images):
    prediction = np.concatenate([p.ravel() for p, _ in images])
    label = np.concatenate([y.ravel() for _, y in images])
    confusion = SemanticConfusion(3)
    if (label == 255).all():
        with pytest.raises(MaskomalyError, match='no pixel has a label'):
            update_all(confusion, images)
        return
    result = update_all(confusion, images)
    prediction, label = prediction[label < 255], label[label < 255]
    iou = [
        np.sum((prediction == c) & (label == c)) / np.sum((prediction == c) | (label == c))
        if (label == c).any()
        else np.nan
        for c in range(3)
    ]
    assert result.iou == pytest.approx(iou, nan_ok=True)
    assert result.mean_iou == pytest.approx(np.nanmean(iou))
    assert result.pixel_accuracy == pytest.approx(np.mean(prediction == label))


def test_semantic_confusion_names_a_wrong_class():
    confusion = SemanticConfusion(3)
    with pytest.raises(MaskomalyError, match='label has class 3; classes are 0 to 2'):
        confusion.update(np.zeros((1, 2), np.uint8), np.array([[0, 3]]))
    with pytest.raises(MaskomalyError, match='prediction has class -1'):
        confusion.update(np.array([[0, -1]]), np.array([[0, 1]]))
    with pytest.raises(MaskomalyError, match='differ in shape'):
        confusion.update(np.zeros((1, 2)), np.zeros((2, 1)))


def test_scores_that_float16_cannot_hold_are_clipped_and_counted():
    score = np.array([[1e6, -1e6, 1.0, 65504.0]])
    rounded = metrics.round_scores(score)
    assert rounded.scores.tolist() == [[65504.0, -65504.0, 1.0, 65504.0]]
    assert (rounded.clipped, rounded.tied) == (2, False)
    with np.errstate(over='ignore'):
        clipped = metrics.clip_overflow(score.astype(np.float16))
    assert clipped.scores.tolist() == rounded.scores.tolist()
    assert clipped.clipped == 2
    unchanged = metrics.round_scores(np.float32([[np.nan, np.inf, 0.5]]))
    assert np.array_equal(unchanged.scores, np.float16([[np.nan, np.inf, 0.5]]), equal_nan=True)
    assert unchanged.clipped == 0


def test_stored_scores_are_rounded_as_numpy_does():
    """Every float16, what lies midway between two, and the neighbours of that on both sides."""
    exact = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    midway = (exact[:-1] + exact[1:]) / 2
    around = [np.nextafter(midway, np.float32(end)) for end in (0, np.inf)]
    special = np.float32([1e-45, 1e-40, 65519.996, 65504.0])
    values = np.concatenate([exact, midway, *around, special])
    for part in (values, -values, values[5:], values[::7]):
        stored = metrics.stored_scores(torch.from_numpy(part.copy()))
        assert np.array_equal(
            stored.scores.view(np.uint16), part.astype(np.float16).view(np.uint16)
        )
        assert stored.clipped == 0
    beyond = metrics.stored_scores(torch.tensor([65520.0, -1e30, float('nan')]))
    assert beyond.clipped == 2
    assert np.array_equal(beyond.scores, np.float16([65504, -65504, np.nan]), equal_nan=True)


def test_a_map_is_counted_as_it_would_be_stored():
    """Every float16, what lies midway between two, and its neighbours; then what is beyond."""
    exact = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    midway = (exact[:-1] + exact[1:]) / 2
    around = [np.nextafter(midway, np.float32(end)) for end in (0, np.inf)]
    values = np.concatenate([exact, midway, *around, np.float32([1e-45, 1e-40, 65519.996])])
    values = np.concatenate([values, -values])
    label = (np.arange(values.size) % 5).astype(np.uint8) // 3
    for beyond in ([], [65520.0, -np.inf]):
        score = torch.from_numpy(np.concatenate([values, np.float32(beyond)]))
        truth = np.concatenate([label, np.zeros(len(beyond), np.uint8)])
        stored = metrics.stored_scores(score)
        expected = metrics.ImageSummary.of(stored.scores, truth)
        found, clipped = metrics.ImageSummary.of_map(score, truth)
        assert clipped == stored.clipped == len(beyond)
        for name in ('places', 'positives', 'negatives'):
            assert np.array_equal(getattr(found.counts, name), getattr(expected.counts, name))
        assert found.figures == expected.figures
    with pytest.raises(MaskomalyError, match='1 pixels that are NaN'):
        metrics.ImageSummary.of_map(torch.tensor([0.5, np.nan]), np.array([0, 1], np.uint8))


def test_scores_that_become_equal_are_told():
    generator = np.random.default_rng(1)
    narrow = 1000 + generator.random((200, 300))
    assert metrics.round_scores(narrow).tied
    assert not metrics.round_scores(narrow - 1000).tied
    assert not metrics.round_scores(np.round(narrow)).tied  # no more values than before
    assert not metrics.round_scores(narrow.astype(np.float16)).tied  # nothing to compare with


def test_tied_maxima_do_not_depend_on_the_order_of_the_images():
    """The benchmark's AP does: what it keeps of an image begins and ends with its extremes."""
    rng = np.random.default_rng(3)
    images = []
    for anomalies in (0.5, 0.02, 0.2):
        label = (rng.random((40, 50)) < anomalies).astype(np.uint8)
        score = np.where(rng.random((40, 50)) < 0.4, 1.0, rng.random((40, 50)))
        images.append((score.astype(np.float32), label))
    found = set()
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        metrics = PixelMetrics()
        for index in order:
            metrics.update(*images[index])
        result = metrics.compute()
        found.add((round(result.ap, 12), round(result.exact_ap, 12)))
    assert len(found) == 1
