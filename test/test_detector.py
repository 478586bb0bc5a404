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

"""The detector: one seam from frames to score maps, masks and obstacles."""

from __future__ import annotations

import gc
import logging
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from maskomaly_ros.detector import Detector, DetectorConfig, find_queries
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import InputSize, MaskPrediction, load_network
from maskomaly_ros.queries import Queries, write_queries
from maskomaly_ros.scoring import ScoringParameters, score_map


class PaintedNetwork:
    """Reads its masks off the frame: road is grey, sky is blue, query 2 fires on red."""

    name = 'painted'
    sha256 = 'a' * 64
    device = torch.device('cpu')
    precision = 'float32'
    num_queries = 3
    class_names = ('road', 'sky')
    input_size = InputSize(60, 80)

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.warmed_up: list[tuple[tuple[int, int], int]] = []

    def warm_up(self, frame_size: tuple[int, int], batch: int = 1) -> None:
        self.warmed_up.append((frame_size, batch))

    def predict(self, frames: Sequence[NDArray[np.uint8]]) -> MaskPrediction:
        self.batches.append(len(frames))
        pixels = torch.from_numpy(np.stack(frames).astype(np.float32))
        red, green, blue = pixels.permute(3, 0, 1, 2)
        masks = torch.stack([green - 60, blue - red - 60, red - green - 60], 1) / 8
        classes = torch.tensor([[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0]]).expand(len(frames), 3, 3)
        height, width = frames[0].shape[:2]
        return MaskPrediction(masks, classes, (height, width), (float(height), float(width)))


def picture(height: int = 60, width: int = 80) -> NDArray[np.uint8]:
    """Return grey road below blue sky, with one red box."""
    frame = np.full((height, width, 3), (128, 128, 128), np.uint8)
    frame[: height // 2] = (0, 0, 200)
    frame[40:50, 20:35] = (250, 0, 0)
    return frame


CONFIG = DetectorConfig(ScoringParameters(anomalous_queries=(2,)), obstacle_threshold=0.8)


def test_finds_the_thing_that_no_class_explains() -> None:
    detection = Detector(PaintedNetwork(), CONFIG).detect([picture()])[0]
    assert detection.score.dtype == np.float32
    assert detection.score.shape == (60, 80)
    assert detection.mask.dtype == np.uint8
    expected = np.zeros((60, 80), np.uint8)
    expected[40:50, 20:35] = 255
    np.testing.assert_array_equal(detection.mask, expected)
    (box,) = detection.obstacles
    assert (box.x, box.y, box.width, box.height, box.area) == (20, 40, 15, 10, 150)
    assert detection.overlay().shape == (60, 80, 3)
    assert set(detection.timings) == {'network', 'scoring'}


def test_frames_of_one_size_share_a_batch_and_keep_their_order() -> None:
    network = PaintedNetwork()
    detector = Detector(network, CONFIG)
    small, large = picture(), picture(90, 120)
    empty = picture()
    empty[30:] = 128
    detections = detector.detect([small, large, empty])
    assert sorted(network.batches) == [1, 2]
    assert [d.frame is f for d, f in zip(detections, (small, large, empty), strict=True)]
    assert [len(d.obstacles) for d in detections] == [1, 1, 0]
    assert detections[1].score.shape == (90, 120)


def test_a_warm_detector_has_seen_its_size() -> None:
    network = PaintedNetwork()
    detector = Detector(network, CONFIG)
    detector.warm_up((30, 40), batch=2)
    detector.warm_up()
    assert network.warmed_up == [((30, 40), 2), ((60, 80), 1)]
    assert network.batches == [2, 1]


def test_frames_leave_nothing_behind(tiny_checkpoint: Path) -> None:
    """Once warm, a frame takes no memory that it does not give back."""
    detector = Detector(load_network(tiny_checkpoint, device='cpu'), CONFIG)
    frame = picture()
    detector.warm_up(frame.shape[:2])

    def live() -> tuple[int, int]:
        for _ in range(10):
            (detection,) = detector.detect([frame])
            _ = detection.obstacles, detection.overlay()
        del detection
        gc.collect()
        tensors = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor]
        return tracemalloc.get_traced_memory()[0], sum(t.nbytes for t in tensors)

    tracemalloc.start()
    try:
        live()  # the tables of tracemalloc itself
        before, tensors_before = live()
        after, tensors_after = live()
    finally:
        tracemalloc.stop()
    assert tensors_after == tensors_before
    assert after - before < frame.nbytes  # of 10 frames


@pytest.mark.skipif(not torch.cuda.is_available(), reason='a CUDA device')
def test_on_a_gpu_results_are_those_of_the_cpu() -> None:
    on_cpu = Detector(PaintedNetwork(), CONFIG).detect([picture()])[0]
    on_gpu = replace(on_cpu, score_tensor=on_cpu.score_tensor.cuda())
    np.testing.assert_array_equal(on_gpu.score, on_cpu.score)
    np.testing.assert_array_equal(on_gpu.mask, on_cpu.mask)
    assert on_gpu.obstacles == on_cpu.obstacles
    assert np.abs(on_gpu.overlay().astype(int) - on_cpu.overlay()).max() <= 1


def test_no_frames_no_detections() -> None:
    assert Detector(PaintedNetwork(), CONFIG).detect([]) == []


def test_a_new_configuration_holds_from_the_next_frame() -> None:
    detector = Detector(PaintedNetwork(), CONFIG)
    before = detector.detect([picture()])[0]
    detector.config = replace(CONFIG, minimum_obstacle_area=151)
    after = detector.detect([picture()])[0]
    assert len(before.obstacles) == 1
    assert len(after.obstacles) == 0


@pytest.mark.parametrize('name', ['anomalous_queries', 'ground_queries'])
def test_queries_that_the_network_lacks_are_refused(name: str) -> None:
    detector = Detector(PaintedNetwork(), CONFIG)
    wrong = replace(CONFIG, scoring=ScoringParameters(**{name: (1, 3)}))
    with pytest.raises(MaskomalyError, match=f'{name} has query 3.*3 queries'):
        detector.config = wrong
    assert detector.config is CONFIG


@pytest.mark.parametrize(
    ('values', 'named'),
    [
        ({'obstacle_threshold': 1.01}, '1.01'),
        ({'obstacle_threshold': float('nan')}, 'nan'),
        ({'minimum_obstacle_area': -1}, '-1'),
    ],
)
def test_values_out_of_range_are_named(values: dict[str, float], named: str) -> None:
    with pytest.raises(MaskomalyError, match=named):
        DetectorConfig(**values)


def test_a_wrong_frame_is_refused_before_any_is_processed() -> None:
    network = PaintedNetwork()
    with pytest.raises(MaskomalyError, match='float64'):
        Detector(network, CONFIG).detect([picture(), np.zeros((4, 4, 3))])
    assert network.batches == []


class TestFindQueries:
    def test_from_a_file(self, tmp_path, caplog: pytest.LogCaptureFixture) -> None:
        queries = Queries(checkpoint='painted', checkpoint_sha256='a' * 64, anomalous_queries=(2,))
        write_queries(tmp_path / 'mine.yaml', queries)
        assert find_queries(PaintedNetwork(), tmp_path / 'mine.yaml') == queries
        assert not caplog.records

    def test_of_other_weights_warns(self, tmp_path, caplog: pytest.LogCaptureFixture) -> None:
        queries = Queries(checkpoint='painted', checkpoint_sha256='b' * 64)
        write_queries(tmp_path / 'mine.yaml', queries)
        find_queries(PaintedNetwork(), tmp_path / 'mine.yaml')
        assert 'bbbbbbbbbbbb' in caplog.text
        assert 'aaaaaaaaaaaa' in caplog.text

    def test_without_any_says_so(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            queries = find_queries(PaintedNetwork(), None)
        assert queries.anomalous_queries == ()
        assert 'no queries file for checkpoint painted' in caplog.text


@pytest.fixture(scope='module')
def demo() -> Detector:
    return Detector.from_checkpoint('demo', device='cpu')


class TestBundledCheckpoint:
    def test_queries_belong_to_the_weights(self, caplog: pytest.LogCaptureFixture) -> None:
        detector = Detector.from_checkpoint('demo', device='cpu')
        assert 'calibrate again' not in caplog.text
        assert detector.config.scoring.anomalous_queries

    def test_score_is_that_of_the_network_and_the_scoring(self, demo: Detector) -> None:
        frame = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
        prediction = demo.network.predict([frame])
        expected = score_map(
            prediction.mask_logits,
            prediction.class_logits,
            (90, 160),
            demo.config.scoring,
            extent=prediction.extent,
        )
        detection = demo.detect([frame])[0]
        np.testing.assert_allclose(detection.score, expected[0].numpy(), atol=1e-6)

    def test_obstacles_of_real_images_score_above_the_road(self, demo: Detector, shared) -> None:
        """Average over the calibration images: a check that files belong together, no figure."""
        folder = shared / 'data' / 'road_anomaly21_val'
        inside, outside = [], []
        for path in sorted((folder / 'images').iterdir()):
            frame = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            label = cv2.imread(
                str(folder / 'labels_masks' / f'{path.stem}_labels_semantic.png'),
                cv2.IMREAD_GRAYSCALE,
            )
            score = demo.detect([frame])[0].score
            inside.append(score[label == 1].mean())
            outside.append(score[label == 0].mean())
        assert np.mean(inside) > 1.3 * np.mean(outside)


def test_the_mean_with_the_mirrored_frame_is_symmetric() -> None:
    network = PaintedNetwork()
    detector = Detector(network, replace(CONFIG, average_mirrored=True))
    frame = picture()
    frame[:, :3] = (9, 200, 30)  # the network itself is symmetric; this makes it tell sides apart
    one, two = detector.detect([frame, picture()])
    assert network.batches == [2, 2]
    mirrored = detector.detect([frame[:, ::-1].copy()])[0]
    np.testing.assert_array_equal(mirrored.score, one.score[:, ::-1])
    plain = Detector(network, CONFIG).detect([picture()])[0]
    np.testing.assert_allclose(two.score, plain.score, atol=1e-6)
    assert two.obstacles


def test_a_hole_in_the_road_counts_more_with_a_road_prior() -> None:
    frame = picture()
    frame[5:15, 50:60] = (250, 0, 0)  # another one in the sky
    plain = Detector(PaintedNetwork(), CONFIG).detect([frame])[0]
    weighed = Detector(PaintedNetwork(), replace(CONFIG, road_prior=8.0)).detect([frame])[0]
    assert len(plain.obstacles) == 2
    assert [o.y for o in weighed.obstacles] == [40]
    assert weighed.score[45, 25] >= plain.score[45, 25]
    assert weighed.score[10, 55] < 0.8 < plain.score[10, 55]
    assert ((weighed.score >= 0) & (weighed.score <= 1)).all()


def test_a_road_prior_needs_a_road() -> None:
    network = PaintedNetwork()
    network.class_names = ('LABEL_0', 'LABEL_1')
    with pytest.raises(MaskomalyError, match='road_prior needs a class that is road'):
        Detector(network, replace(CONFIG, road_prior=1.0))
    with pytest.raises(MaskomalyError, match=r'road_prior -1\.0 is out of range'):
        replace(CONFIG, road_prior=-1.0)
