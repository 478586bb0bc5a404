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

from dataclasses import asdict

import cv2
import numpy as np
import pytest
import torch

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation import evaluate as evaluation
from maskomaly_ros.evaluation.datasets import open_dataset
from maskomaly_ros.evaluation.evaluate import evaluate, score_images
from maskomaly_ros.evaluation.images import class_statistics
from maskomaly_ros.evaluation.metrics import ComponentMetrics, PixelMetrics
from maskomaly_ros.evaluation.semantics import evaluate_semantics, in_few_classes
from maskomaly_ros.networks import MaskPrediction
from maskomaly_ros.networks.prediction import resize_maps
from maskomaly_ros.scores import (
    ON_REQUEST,
    SCORES,
    class_sums,
    compute_scores,
    stream_scores,
)
from maskomaly_ros.scoring import (
    ScoringParameters,
)

PARAMETERS = ScoringParameters(anomalous_queries=(2,), border_threshold=0.3)


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
    assert shown == [(3, f'{dataset.name}: {text}') for text in ('scores', 'sml', 'components')]
    assert list(result.results) == [name for name in SCORES if name not in ON_REQUEST]
    assert result.statistics == dataset.name

    statistics = class_statistics(network, dataset)
    images = [(image, label) for _, image, label in dataset.read()]
    scores = [
        compute_scores(network.predict([image]), PARAMETERS, tuple(SCORES), statistics)
        for image, _ in images
    ]
    for method, found in result.results.items():
        pixels = PixelMetrics()
        for score, (_, label) in zip(scores, images, strict=True):
            pixels.update(score[method].numpy(), label)
        expected = pytest.approx(asdict(pixels.compute()), nan_ok=True)
        assert asdict(found.pixels) == expected, method
        assert np.array_equal(found.curve.recall, pixels.curve().recall)
        components = ComponentMetrics(found.pixels.best_f1_threshold, 500, 100)
        for score, (_, label) in zip(scores, images, strict=True):
            components.update(score[method].numpy(), label)
        expected = pytest.approx(asdict(components.compute()), nan_ok=True)
        assert asdict(found.components) == expected, method
    assert result.results['maskomaly'].pixels.ap > result.results['baseline'].pixels.ap


def test_one_pass_gives_the_bits_of_two(network, scenes, monkeypatch, tmp_path):
    dataset = scenes(3)
    ((_, image, _), *_) = dataset.read()
    prediction = network.predict([image])
    statistics = class_statistics(network, dataset)
    names = ['maskomaly', 'energy', 'baseline']
    stream, maxima = stream_scores(prediction, PARAMETERS, names, maxima=True)
    found = dict(stream)
    assert list(found) == names
    expected = compute_scores(prediction, PARAMETERS, [*names, 'sml'], statistics)
    if maxima is not None:
        np.testing.assert_array_equal(maxima.sums, class_sums(prediction))
        found['sml'] = maxima.standardized(statistics)
        for name, score in expected.items():
            assert torch.equal(found[name], score), name

    methods, options = ['rba', 'sml', 'maskomaly'], {'components': True, 'shots': 1}
    once = evaluate(network, dataset, PARAMETERS, methods, save_scores=tmp_path / 'a', **options)
    monkeypatch.setattr(  # as where windows are blended, or without numba
        evaluation,
        'stream_scores',
        lambda *given, **_: (iter(compute_scores(*given).items()), None),
    )
    twice = evaluate(network, dataset, PARAMETERS, methods, save_scores=tmp_path / 'b', **options)
    first = evaluate(network, dataset, PARAMETERS, ['sml', 'rba', 'maskomaly'], **options)
    assert repr(once.as_dict()) == repr(twice.as_dict())
    for name in methods:
        assert repr(first.results[name]) == repr(once.results[name])
    assert [list(image.figures) for image in once.per_image] == [methods] * 3
    files = [sorted(path.name for path in (tmp_path / each).rglob('*.*')) for each in 'ab']
    assert files[0] == files[1]
    assert len(files[0]) == 9


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


def test_a_class_of_few_has_the_probability_of_all_that_are_part_of_it() -> None:
    logits = torch.randn(1, 5, 20, generator=torch.Generator().manual_seed(0))
    fine = MaskPrediction(torch.zeros(1, 5, 2, 2), logits, (8, 8), (2.0, 2.0))
    few = in_few_classes(fine)
    assert few.class_logits.shape == (1, 5, 8)
    chance, expected = few.class_logits.softmax(-1), logits.softmax(-1)
    torch.testing.assert_close(chance[..., 7], expected[..., 19])  # void
    torch.testing.assert_close(chance[..., 3], expected[..., 13:19].sum(-1))  # vehicles
    torch.testing.assert_close(chance[..., 0], expected[..., 0])
