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


"""Predictions of networks that see a frame through windows."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskomaly_ros import scoring
from maskomaly_ros.benchmark import literal_score
from maskomaly_ros.detector import Detector, DetectorConfig
from maskomaly_ros.evaluation.cache import OutputCache
from maskomaly_ros.evaluation.calibration import query_iou, search_scores
from maskomaly_ros.networks import InputSize
from maskomaly_ros.networks.agreement import compare
from maskomaly_ros.networks.prediction import MaskPrediction, resize_maps
from maskomaly_ros.scores import SCORES, ClassStatistics, class_sums, compute_scores
from maskomaly_ros.scoring import ScoringParameters, score_map

SIDE = 16  # height and width of the masks of a window
PARAMETERS = ScoringParameters(anomalous_queries=(1, 3), ground_queries=(0,), mask_threshold=0.4)


def windowed(
    frame: tuple[int, int], length: float, batch: int = 1, seed: int = 0
) -> MaskPrediction:
    """Return a prediction through windows along the longer side, as EoMT has them.

    Args:
        frame: height and width.
        length: of the longer side, in mask pixels; the shorter one fills the windows.
        batch: number of frames.
        seed: of the random masks.

    """
    generator = torch.Generator().manual_seed(seed)
    number = math.ceil(length / SIDE)
    step = (length - SIDE) / (number - 1) if number > 1 else 0.0
    begins = [math.floor(i * step * 4) / 4 for i in range(number)]
    across = frame[1] >= frame[0]
    masks = 3 * torch.randn(batch * number, 5, SIDE, SIDE, generator=generator)
    classes = 2 * torch.randn(batch * number, 5, 4, generator=generator)
    return MaskPrediction(
        masks,
        classes,
        frame,
        (float(SIDE), length) if across else (length, float(SIDE)),
        tuple((0.0, b) if across else (b, 0.0) for b in begins),
    )


def one_by_one(prediction: MaskPrediction, query: int) -> list[np.ndarray]:
    """Return a mask's logits at every pixel, window by window, in plain loops; NaN outside."""
    found = []
    height, width = prediction.frame_size
    for index, (top, left) in enumerate(prediction.windows):
        mask = prediction.mask_logits[index, query].double().numpy()
        values = np.full((height, width), np.nan)
        for y in range(height):
            for x in range(width):
                place = [
                    (at + 0.5) * extent / size - begin
                    for at, extent, size, begin in zip(
                        (y, x), prediction.extent, prediction.frame_size, (top, left), strict=True
                    )
                ]
                if not all(0 <= p < SIDE for p in place):
                    continue
                (y0, v), (x0, u) = (divmod(min(max(p - 0.5, 0), SIDE - 1), 1) for p in place)
                y0, x0 = int(y0), int(x0)
                y1, x1 = min(y0 + 1, SIDE - 1), min(x0 + 1, SIDE - 1)
                upper = mask[y0, x0] * (1 - u) + mask[y0, x1] * u
                lower = mask[y1, x0] * (1 - u) + mask[y1, x1] * u
                values[y, x] = upper * (1 - v) + lower * v
        found.append(values)
    return found


def first_mask(masks: Tensor, _: Tensor, size: tuple[int, int], *, extent: Any) -> Tensor:
    """Return the first mask's logits: a score that shows where pixels look."""
    return resize_maps(masks[:, :1], size, extent)[:, 0]


frames = st.tuples(st.integers(7, 40), st.integers(7, 40)).flatmap(
    lambda size: st.tuples(
        st.just(size),
        st.integers(0, 40).map(lambda i: max(SIDE, i / 4 + SIDE * max(size) / min(size) // 4 * 4)),
    )
)


@settings(max_examples=30, deadline=None)
@given(frames, st.integers(0, 5))
def test_each_window_is_looked_at_where_it_lies_and_overlaps_are_means(
    shape: tuple[tuple[int, int], float], seed: int
) -> None:
    prediction = windowed(*shape, seed=seed)
    apart = np.stack(one_by_one(prediction, 0))
    assert np.isfinite(apart).any(0).all()
    actual = prediction.scored(first_mask)[0].numpy()
    np.testing.assert_allclose(actual, np.nanmean(apart, 0), atol=2e-4)


@settings(max_examples=20, deadline=None)
@given(frames, st.sampled_from(['torch', 'numba']))
def test_the_score_is_the_mean_of_the_scores_of_the_windows(
    shape: tuple[tuple[int, int], float], form: str
) -> None:
    prediction = windowed(*shape)
    score = prediction.scored(score_map, PARAMETERS, form=form)[0].numpy()
    total, number = np.zeros(shape[0]), np.zeros(shape[0])
    for part, place in zip(prediction.parts, prediction.cut(number), strict=True):
        one = score_map(
            part.mask_logits,
            part.class_logits,
            part.frame_size,
            PARAMETERS,
            extent=part.extent,
            form='torch',
        )
        place += 1
        assert one.shape[1:] == place.shape
    for part, place in zip(prediction.parts, prediction.cut(total), strict=True):
        place += literal_score(part, PARAMETERS)
    assert number.min() >= 1
    np.testing.assert_allclose(score, total / number, atol=2e-5)


def test_a_network_without_windows_is_one_part() -> None:
    prediction = MaskPrediction(torch.randn(2, 3, 4, 4), torch.randn(2, 3, 5), (9, 9), (4.0, 4.0))
    assert prediction.parts == (prediction,)
    maps = torch.randn(2, 9, 9)
    assert prediction.blend([maps]) is maps


def test_frames_of_a_batch_stay_apart() -> None:
    batch = windowed((20, 37), 29.5, batch=3)
    whole = batch.scored(score_map, PARAMETERS)
    assert whole.shape == (3, 20, 37)
    for index, frame in enumerate(batch.frames()):
        assert torch.equal(frame.scored(score_map, PARAMETERS)[0], whole[index])
        assert torch.equal(frame.semantic_map()[0], batch.semantic_map()[index])


def test_the_detector_needs_no_word_about_windows() -> None:
    prediction = windowed((20, 37), 29.5, batch=2)
    network: Any = SimpleNamespace(
        name='windows',
        num_queries=5,
        device=torch.device('cpu'),
        predict=lambda images: prediction,
    )
    images = [np.full((20, 37, 3), value, np.uint8) for value in (0, 9)]
    detections = Detector(network, DetectorConfig(PARAMETERS)).detect(images)
    expected = prediction.scored(score_map, PARAMETERS).numpy()
    for detection, score in zip(detections, expected, strict=True):
        np.testing.assert_array_equal(detection.score, score)


def test_every_method_is_the_mean_over_windows() -> None:
    prediction = windowed((24, 50), 33.0)
    statistics = ClassStatistics.of_sums(class_sums(prediction), 'these')
    scores = compute_scores(prediction, PARAMETERS, statistics=statistics)
    assert list(scores) == list(SCORES)
    parts = [compute_scores(p, PARAMETERS, statistics=statistics) for p in prediction.parts]
    for method, score in scores.items():
        total, number = np.zeros((24, 50)), np.zeros((24, 50))
        for part, places in zip(
            parts,
            zip(prediction.cut(total), prediction.cut(number), strict=True),
            strict=True,
        ):
            places[0][...] += part[method].numpy()
            places[1][...] += 1
        np.testing.assert_allclose(score, total / number, rtol=1e-5, atol=1e-5, err_msg=method)


def test_the_search_of_the_calibration_is_the_score() -> None:
    prediction = windowed((24, 50), 33.0)
    first = next(search_scores(prediction, (12, 25), (1, 3), (0,)))
    parameters = ScoringParameters((1, 3), (0,), 0.3, 0.1, reject_weight=0.0)
    expected = prediction.resized((12, 25)).scored(score_map, parameters)[0].numpy()
    np.testing.assert_allclose(first, expected, atol=1e-6)


def test_the_iou_of_a_query_is_over_windows() -> None:
    prediction = windowed((16, 24), 24.0)  # mask pixels are pixels; two windows, 8 shared
    for query in range(5):
        prediction.mask_logits[:, query] = -1
    prediction.mask_logits[0, 0, :, 4:8] = 1  # columns 4 to 7 through the first window
    prediction.mask_logits[1, 0, :, :4] = 1  # and columns 8 to 11 through the second
    prediction.mask_logits[1, 1, :, :4] = 1
    label = np.zeros((16, 24), np.uint8)
    label[:, 4:8] = 1
    iou = query_iou(prediction, label)
    assert iou[0] == pytest.approx(4 / (4 + 4))  # right in one window, wrong in the other
    assert iou[1] == 0
    assert np.isnan(query_iou(prediction, np.zeros_like(label))).all()


def test_outputs_are_kept_with_their_windows(tmp_path: Path) -> None:
    network: Any = SimpleNamespace(
        name='windows', sha256='0' * 64, input_size=InputSize(64, 128), precision='float32'
    )
    cache = OutputCache(tmp_path, network)
    prediction = windowed((24, 50), 33.0)
    cache.write(b'image', prediction)
    again = cache.read(b'image')
    assert again is not None
    assert again.windows == prediction.windows
    assert torch.equal(
        again.scored(score_map, PARAMETERS), prediction.scored(score_map, PARAMETERS)
    )


def test_agreement_sees_through_windows() -> None:
    prediction = windowed((24, 50), 33.0)
    assert compare(prediction, prediction).violations() == []


def test_agreement_makes_no_remark_on_queries_that_it_does_not_ask_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scoring._log_missing_anomalous_queries.cache_clear()
    prediction = windowed((24, 50), 33.0)
    compare(prediction, prediction)
    assert caplog.text == ''
