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

"""Evaluation: methods side by side, what they share, and what they refuse."""

from __future__ import annotations

from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest
import torch

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation import methods
from maskomaly_ros.evaluation.datasets import open_dataset
from maskomaly_ros.evaluation.evaluate import (
    class_statistics,
    evaluate,
    evaluate_semantics,
    score_images,
)
from maskomaly_ros.evaluation.methods import (
    METHODS,
    ClassStatistics,
    class_sums,
    compute_scores,
    compute_stored_scores,
)
from maskomaly_ros.evaluation.metrics import ComponentMetrics, PixelMetrics
from maskomaly_ros.networks import MaskPrediction
from maskomaly_ros.networks.prediction import resize_maps
from maskomaly_ros.scoring import (
    ScoringParameters,
    accept_map,
    baseline_map,
    border_mask,
    reject_map,
    score_map,
)

PARAMETERS = ScoringParameters(anomalous_queries=(2,), border_threshold=0.3)
STATISTICS = ClassStatistics(np.linspace(0.2, 0.8, 7), np.linspace(0.1, 0.3, 7), 'somewhere')


def literal_scores(prediction):
    """Return all scores by their formulas, on maps resized by torch."""
    size, extent = prediction.frame_size, prediction.extent
    inputs = prediction.mask_logits, prediction.class_logits, size
    reject = reject_map(*inputs, PARAMETERS, extent=extent)
    borders = border_mask(*inputs, PARAMETERS, extent=extent)
    reference = ScoringParameters.for_variant('reference_code', anomalous_queries=(2,))
    masks = resize_maps(prediction.mask_logits, size, extent).sigmoid()
    p = prediction.class_logits.softmax(-1)
    s = torch.einsum('bnc,bnhw->bchw', p[..., :-1], masks)
    softmax, predicted = s.softmax(1), s.argmax(1)
    largest = s.amax(1)
    mean = torch.tensor(STATISTICS.mean).float()[predicted]
    deviation = torch.tensor(STATISTICS.deviation).float()[predicted]
    spread = (s.double() / 1000).softmax(1).amax(1)
    return {
        'maskomaly': score_map(*inputs, PARAMETERS, extent=extent),
        'maskomaly-paper': score_map(*inputs, ScoringParameters((2,)), extent=extent),
        'maskomaly-reference': score_map(*inputs, reference, extent=extent),
        'reject+borders': reject.where(~borders, reject.clamp(max=PARAMETERS.border_score)),
        'reject': reject,
        'accept': accept_map(*inputs, PARAMETERS, extent=extent),
        'baseline': baseline_map(*inputs, extent=extent),
        'eam': -(p[..., :-1].amax(-1)[..., None, None] * masks).sum(1),
        'rba': -s.tanh().sum(1),
        'mask2anomaly': 1 - largest,
        'max-softmax': 1 - softmax.amax(1),
        'max-logit': -largest,
        'energy': -s.exp().sum(1).log(),
        'entropy': -(softmax * softmax.log()).sum(1) / np.log(s.shape[1]),
        'sml': -(largest - mean) / deviation,
        'odin-temperature': -1000 * (spread * s.shape[1]).log().float(),
    }


def random_prediction(seed, size=(45, 61), extent=(10.5, 15.25)):
    generator = torch.Generator().manual_seed(seed)
    return MaskPrediction(
        4 * torch.randn(1, 6, 11, 16, generator=generator),
        2 * torch.randn(1, 6, 8, generator=generator),
        size,
        extent,
    )


@pytest.mark.parametrize('pixels', [50, 1 << 15])
def test_scores_are_their_formulas(monkeypatch, pixels):
    """In bands of one row and of the whole frame, with a padded part that is no whole number."""
    monkeypatch.setattr(methods, '_PIXELS_AT_ONCE', pixels)
    for seed in range(5):
        prediction = random_prediction(seed)
        scores = compute_scores(prediction, PARAMETERS, tuple(METHODS), STATISTICS)
        assert list(scores) == list(METHODS)
        for method, expected in literal_scores(prediction).items():
            assert scores[method].dtype == np.float32
            assert scores[method].shape == (45, 61)
            tolerance = 3e-4 if method == 'odin-temperature' else 2e-5
            assert scores[method] == pytest.approx(expected[0].numpy(), abs=tolerance), method


def test_every_method_alone_is_the_same(network, scenes):
    prediction = random_prediction(7)
    together = compute_scores(prediction, PARAMETERS, tuple(METHODS), STATISTICS)
    for method in METHODS:
        (alone,) = compute_scores(prediction, PARAMETERS, [method], STATISTICS).values()
        assert np.array_equal(alone, together[method]), method


def float16_steps(one, other):
    """Return how many float16 numbers lie between two maps, pixel by pixel."""
    bits = [np.asarray(m, np.float16).view(np.uint16).astype(int) for m in (one, other)]
    return np.abs(np.subtract(*(np.where(b > 0x7FFF, 0x8000 - b, b) for b in bits)))


@pytest.mark.parametrize(
    ('queries', 'classes', 'masks', 'size', 'extent'),
    [
        (6, 8, (11, 16), (45, 61), (10.5, 15.25)),
        (1, 2, (1, 1), (1, 1), (1.0, 1.0)),
        (37, 20, (32, 64), (90, 200), (31.75, 50.0)),
        (16, 3, (60, 80), (30, 40), (60.0, 80.0)),  # smaller than the masks
        (9, 8, (4, 4), (100, 150), (4.0, 4.0)),
    ],
)
@pytest.mark.parametrize('spread', [0.5, 4.0, 30.0])
def test_one_pass_gives_what_the_formulas_give(queries, classes, masks, size, extent, spread):
    pytest.importorskip('numba')
    generator = torch.Generator().manual_seed(queries)
    prediction = MaskPrediction(
        spread * torch.randn(1, queries, *masks, generator=generator) - spread,
        3 * torch.randn(1, queries, classes, generator=generator),
        size,
        extent,
    )
    assert methods._fused(prediction) is not None
    statistics = ClassStatistics(
        np.linspace(0.5, 2, classes - 1), np.linspace(0.1, 1, classes - 1), 'x'
    )
    for anomalous in ((), (0, queries - 1)):
        parameters = replace(PARAMETERS, anomalous_queries=anomalous, ground_queries=())
        names = [m for m in METHODS if anomalous or m != 'accept']
        found = compute_stored_scores(prediction, parameters, names, statistics)
        expected = compute_scores(prediction, parameters, names, statistics)
        assert list(found) == names
        for method, score in found.items():
            assert score.dtype == np.float16
            near = np.abs(score - expected[method]) <= 3e-6
            steps = float16_steps(score, expected[method])
            # μ − max s cancels, and so does 1 − max s; at a border threshold either is right.
            few = steps <= (40 if method in ('sml', 'mask2anomaly') else 2)
            assert (near | few).mean() > 0.9999, method


def test_class_sums_of_one_pass_are_those_of_torch(monkeypatch):
    pytest.importorskip('numba')
    predictions = [random_prediction(seed) for seed in range(3)]
    found = [class_sums(prediction) for prediction in predictions]
    monkeypatch.setattr(methods, '_fused_module', lambda: None)
    for prediction, sums in zip(predictions, found, strict=True):
        assert sums == pytest.approx(class_sums(prediction), rel=1e-5)
        assert sums[0].sum() == 45 * 61


def test_scores_are_the_same_without_numba(monkeypatch):
    monkeypatch.setattr(methods, '_fused_module', lambda: None)
    prediction = random_prediction(2)
    found = compute_stored_scores(prediction, PARAMETERS, tuple(METHODS), STATISTICS)
    for method, score in compute_scores(
        prediction, PARAMETERS, tuple(METHODS), STATISTICS
    ).items():
        assert np.array_equal(found[method], score.astype(np.float16)), method


def test_one_pass_takes_the_first_of_equal_masks_and_refuses_nan():
    pytest.importorskip('numba')
    generator = torch.Generator().manual_seed(1)
    for void in ([0, 1, 3], [1, 2], [], [0, 1, 2, 3]):
        logits = torch.randint(-2, 3, (1, 4, 12, 16), generator=generator).float()
        classes = torch.zeros(1, 4, 3)
        classes[0, void, 2] = 1
        prediction = MaskPrediction(logits, classes, (12, 16), (12.0, 16.0))
        (found,) = compute_stored_scores(prediction, PARAMETERS, ['baseline']).values()
        expected = baseline_map(logits, classes, (12, 16))[0]
        assert np.allclose(found, expected, atol=1e-3)
    logits[0, 1, 2, 3] = float('nan')
    with pytest.raises(ValueError, match='NaN or infinity'):
        compute_stored_scores(prediction, PARAMETERS, ['eam'])


def test_rounding_to_float16_is_that_of_numpy():
    numba_methods = pytest.importorskip('maskomaly_ros.fused.numba_methods')
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    finite = np.sort(halves[np.isfinite(halves)])
    between = (finite[1:] + finite[:-1]) / 2
    values = np.concatenate(
        [
            halves,
            between,
            np.nextafter(between, np.float32(np.inf)),
            np.nextafter(between, np.float32(-np.inf)),
            np.float32([65519.9, 65520, 1e30, -1e30, 1e-30, -1e-30, 0.0, -0.0]),
        ]
    )
    found = np.empty(values.shape, np.uint16)
    numba_methods._store(values, found)
    with np.errstate(over='ignore'):
        expected = values.astype(np.float16)
    nan = np.isnan(values)
    assert np.array_equal(found[~nan], expected[~nan].view(np.uint16))
    assert np.isnan(found[nan].view(np.float16)).all()


def test_the_baseline_takes_the_first_of_equal_masks():
    generator = torch.Generator().manual_seed(1)
    for void in ([0, 1, 3], [1, 2], [], [0, 1, 2, 3]):
        logits = torch.randint(-2, 3, (1, 4, 12, 16), generator=generator).float()
        classes = torch.zeros(1, 4, 3)
        classes[0, void, 2] = 1
        prediction = MaskPrediction(logits, classes, (12, 16), (12.0, 16.0))
        (found,) = compute_scores(prediction, PARAMETERS, ['baseline']).values()
        assert np.allclose(found, baseline_map(logits, classes, (12, 16))[0], atol=1e-6)


def test_max_logit_and_mask2anomaly_rank_alike():
    scores = compute_scores(random_prediction(3), PARAMETERS, ['max-logit', 'mask2anomaly'])
    assert np.allclose(scores['max-logit'], scores['mask2anomaly'] - 1, atol=1e-6)


def test_class_statistics_are_over_all_pixels_of_a_class(network, scenes):
    dataset = scenes(2)
    found = class_statistics(network, dataset)
    assert found.source == dataset.name
    values = {c: [] for c in range(7)}
    for _, image, _ in dataset.read():
        prediction = network.predict([image])
        masks = resize_maps(prediction.mask_logits, prediction.frame_size, prediction.extent)
        weights = prediction.class_logits.softmax(-1)[..., :-1]
        s = torch.einsum('bnc,bnhw->bchw', weights, masks.sigmoid())[0]
        largest, predicted = s.max(0)
        for c in values:
            values[c].extend(largest[predicted == c].tolist())
    overall = [v for part in values.values() for v in part]
    for c, part in values.items():
        assert found.mean[c] == pytest.approx(np.mean(part or overall), abs=1e-6)
        assert found.deviation[c] == pytest.approx(np.std(part or overall), abs=1e-5)


def test_methods_share_one_run_of_the_network(network, scenes):
    dataset = scenes(3)
    shown = []

    def progress(items, total, text):
        shown.append((total, text))
        return items

    result = evaluate(network, dataset, PARAMETERS, components=True, progress=progress)
    assert network.predicted == result.images == 3  # although SML goes twice over the images
    assert (result.dataset, result.layout, result.averaged) == (dataset.name, 'plain', False)
    assert shown == [
        (3, f'{dataset.name}: {text}') for text in ('classes', 'scores', 'components')
    ]
    assert list(result.results) == list(METHODS)
    assert result.statistics == dataset.name

    statistics = class_statistics(network, dataset)
    images = [(image, label) for _, image, label in dataset.read()]
    scores = [
        compute_scores(network.predict([image]), PARAMETERS, tuple(METHODS), statistics)
        for image, _ in images
    ]
    for method, found in result.results.items():
        pixels = PixelMetrics()
        for score, (_, label) in zip(scores, images, strict=True):
            pixels.update(score[method], label)
        expected = pytest.approx(asdict(pixels.compute()), nan_ok=True)
        assert asdict(found.pixels) == expected, method
        assert np.array_equal(found.curve.recall, pixels.curve().recall)
        components = ComponentMetrics(found.pixels.best_f1_threshold, 500, 100)
        for score, (_, label) in zip(scores, images, strict=True):
            components.update(score[method], label)
        expected = pytest.approx(asdict(components.compute()), nan_ok=True)
        assert asdict(found.components) == expected, method
    assert result.results['maskomaly'].pixels.ap > result.results['baseline'].pixels.ap


def test_every_image_has_figures_of_its_own(network, scenes):
    dataset = scenes(2, without_anomaly=1)
    result = evaluate(network, dataset, PARAMETERS, ['maskomaly', 'rba'])
    assert [image.name for image in result.per_image] == ['scene0', 'scene1', 'scene2']
    for found, (sample, _, label) in zip(result.per_image, dataset.read(), strict=True):
        assert (found.image, found.label) == (sample.image, sample.label)
        assert found.figures.keys() == {'maskomaly', 'rba'}
        ((_, _, _, scores),) = score_images(network, [sample], PARAMETERS, ['maskomaly'])
        figures = found.figures['maskomaly']
        if not (label == 1).any():
            assert np.isnan(list(asdict(figures).values())).all()
            continue
        alone = PixelMetrics()
        alone.update(scores['maskomaly'], label)
        assert figures.ap == pytest.approx(alone.compute().exact_ap)
        assert figures.best_f1_threshold in scores['maskomaly'].astype(np.float16)


def test_only_what_is_asked_for_is_measured(network, scenes):
    result = evaluate(network, scenes(2), PARAMETERS, ['reject', 'accept'])
    assert list(result.results) == ['reject', 'accept']
    assert all(found.components is None for found in result.results.values())


def test_component_sizes_are_those_of_the_layout(network, tmp_path, scenes):
    plain = scenes(3)  # its anomalies have 192 pixels: too few for 500, enough for 50
    for folder in ('images', 'labels_masks'):
        (tmp_path / 'obstacles' / folder).mkdir(parents=True)
    for sample, image, label in plain.read():
        for path, array in (
            (f'images/{sample.name}.webp', image[..., ::-1]),
            (f'labels_masks/{sample.name}_labels_semantic.png', label),
        ):
            quality = [cv2.IMWRITE_WEBP_QUALITY, 101]  # lossless
            target = str(tmp_path / 'obstacles' / path)
            assert cv2.imwrite(target, np.ascontiguousarray(array), quality)
    obstacles = open_dataset(f'obstacle_track:{tmp_path / "obstacles"}')
    found = {
        dataset.layout_name: evaluate(network, dataset, PARAMETERS, ['reject'], components=True)
        .results['reject']
        .components
        for dataset in (plain, obstacles)
    }
    assert np.isnan(found['plain'].ppv)  # no prediction is large enough
    assert found['plain'].siou_gt == 0
    assert found['obstacle_track'].ppv > 0.5
    assert found['obstacle_track'].siou_gt > 0.5


def test_broken_images_are_counted_not_measured(network, scenes):
    dataset = scenes(3)
    dataset.samples[1].image.write_bytes(b'broken')
    result = evaluate(network, dataset, PARAMETERS, ['maskomaly'], components=True)
    assert result.images == result.results['maskomaly'].pixels.images == 2
    assert result.skipped.keys() == {'scene1'}


def test_what_cannot_be_measured_is_refused(network, scenes):
    dataset = scenes(1)
    with pytest.raises(MaskomalyError, match=r"'magic' is none of maskomaly, maskomaly-paper"):
        evaluate(network, dataset, PARAMETERS, ['magic'])
    with pytest.raises(MaskomalyError, match='accept needs anomalous queries'):
        evaluate(network, dataset, ScoringParameters(), ['accept'])
    with pytest.raises(MaskomalyError, match='plain has anomaly labels; semantic labels are'):
        evaluate_semantics(network, dataset)
    assert network.predicted == 0
    dataset.samples[0].label.write_bytes(b'broken')
    with pytest.raises(MaskomalyError, match=r'can be used; the first: .*scene0\.png is not'):
        evaluate(network, dataset, PARAMETERS)


@pytest.fixture
def camvid(tmp_path, scenes):
    """Return a data set whose road is green, with a sign above and buildings elsewhere."""
    plain = scenes(2)
    (tmp_path / 'camvid' / 'labels').mkdir(parents=True)
    (tmp_path / 'camvid' / 'images').symlink_to(tmp_path / 'images')
    for sample, image, _ in plain.read():
        label = np.where(image[..., 1] > 128, 3, 1).astype(np.uint8)
        label[image[..., 0] > 100] = 11
        label[:4] = 6
        assert cv2.imwrite(str(tmp_path / 'camvid' / 'labels' / f'{sample.name}.png'), label)
    return open_dataset(f'camvid:{tmp_path / "camvid"}')


def test_semantic_segmentation(network, camvid):
    evaluation = evaluate_semantics(network, camvid)
    assert evaluation.images == 2
    assert evaluation.classes == network.class_names
    iou = dict(zip(evaluation.classes, evaluation.result.iou, strict=True))
    labels = [label for _, _, label in camvid.read()]
    building, sign = (sum(np.sum(label == c) for label in labels) for c in (5, 4))
    assert iou.pop('drivable') == 1
    assert iou.pop('far objects') == pytest.approx(building / (building + sign))
    assert iou.pop('roadside objects') == 0
    assert np.isnan(list(iou.values())).all()


def test_other_classes_are_refused(network, camvid):
    network.class_names = ('road', 'sky')
    with pytest.raises(MaskomalyError, match='colours has the classes road, sky; labels of'):
        evaluate_semantics(network, camvid)
    with pytest.raises(MaskomalyError, match='camvid has semantic labels; anomaly labels are'):
        evaluate(network, camvid, PARAMETERS)
