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

"""The threshold that keeps false obstacles on ordinary drives below a rate."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskomaly_ros.detector import Detector, DetectorConfig
from maskomaly_ros.drives.images import ImageFolder
from maskomaly_ros.drives.open import open_source
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.false_alarms import (
    CountingRules,
    FalseAlarmRate,
    ScoredFrame,
    check_length,
    count_false_obstacles,
    find_threshold,
    recall_at,
    score_drive,
    score_ordinary,
    with_threshold,
)
from maskomaly_ros.evaluation.scales import calibrate_scores
from maskomaly_ros.obstacles import find_obstacles, obstacle_mask
from maskomaly_ros.queries import Queries
from maskomaly_ros.refinement.refine import RefinementParameters, Refiner
from maskomaly_ros.refinement.regions import Region
from maskomaly_ros.refinement.temporal import TemporalParameters
from maskomaly_ros.refinement.tracking import TrackingParameters
from maskomaly_ros.scoring import ScoringParameters

SECOND = 1_000_000_000
STEP = 2.0**-11  # of float16 between a half and one

# Score, first frame, frames, row, column, pixels a side.
BLOBS = (
    (0.9, 10, 5, 2, 2, 4),
    (0.8, 30, 20, 20, 20, 6),
    (0.7, 60, 1, 2, 40, 3),
    (0.6, 80, 10, 30, 50, 5),
    (0.95, 100, 3, 35, 2, 2),
)


def drive(blobs, frames=120, rate=1.0, size=(40, 60)):
    made = []
    for index in range(frames):
        score = np.full(size, 0.01, np.float32)
        for value, first, length, row, column, side in blobs:
            if first <= index < first + length:
                score[row : row + side, column : column + side] = value
        image = np.full((*size, 3), 90, np.uint8)
        made.append(ScoredFrame(score, round(index * SECOND / rate), image))
    return made


def steadied(**values):
    return CountingRules(refinement=RefinementParameters(TemporalParameters(**values)))


@pytest.mark.parametrize(
    ('text', 'number', 'unit'),
    [
        ('1/min', 1, 'minute'),
        ('0.3/frame', 0.3, 'frame'),
        ('.5 / h', 0.5, 'hour'),
        ('2/minute', 2, 'minute'),
        ('10/hour', 10, 'hour'),
    ],
)
def test_rates_are_read(text, number, unit):
    assert FalseAlarmRate.parse(text) == FalseAlarmRate(number, unit)


@pytest.mark.parametrize('text', ['1', '1/day', '-1/min', 'one/min', '1/0', '/min', '', '1e3/h'])
def test_other_rates_are_refused(text):
    with pytest.raises(MaskomalyError, match="is no rate of false alarms; write it as '1/min'"):
        FalseAlarmRate.parse(text)


def test_a_rate_of_zero_is_refused():
    with pytest.raises(MaskomalyError, match='a rate of 0 false obstacles cannot be shown'):
        FalseAlarmRate.parse('0/min')


@pytest.mark.parametrize(
    ('rate', 'area', 'left_out', 'found'),
    [
        # 120 frames of one a second: 2 minutes. Each obstacle counts once.
        ('0.5/min', 0, 0.9, 1),
        ('1/min', 0, 0.8, 2),
        ('1.5/min', 0, 0.7, 3),
        ('2/min', 0, 0.6, 4),
        ('3/min', 0, 0.0, 1),  # the whole frame is one obstacle
        ('30/h', 5, 0.8, 1),
        # Each counts in every frame: 3, 5, 20, 1 and 10 times.
        (f'{3 / 120}/frame', 0, 0.9, 3),
        (f'{7.9 / 120}/frame', 0, 0.9, 3),
        (f'{8 / 120}/frame', 0, 0.8, 8),
        (f'{28 / 120}/frame', 0, 0.7, 28),
        (f'{29 / 120}/frame', 0, 0.6, 29),
        (f'{5 / 120}/frame', 5, 0.8, 5),
    ],
)
def test_known_scores_give_the_exact_threshold(rate, area, left_out, found):
    """It lies at the highest score that must not count: not a step lower, nor higher."""
    frames = drive(BLOBS)
    rules = CountingRules(area)
    result = find_threshold(frames, FalseAlarmRate.parse(rate), rules, before=0.5)
    over_time = not rate.endswith('frame')
    if left_out:
        assert left_out <= result.threshold
        assert result.threshold == pytest.approx(left_out, abs=STEP)
        lower = float(np.nextafter(np.float32(left_out), np.float32(0)))
        (below,) = count_false_obstacles(frames, [lower], rules, over_time=over_time)
        assert below > result.allowed
    else:
        assert result.threshold == 0.0
    assert result.found == found <= result.allowed
    assert count_false_obstacles(frames, [result.threshold], rules, over_time=over_time) == [found]
    assert (result.frames, result.seconds) == (120, 120.0)
    small = (1 if over_time else 3) if area else 0
    assert result.found_before == (5 if over_time else 39) - small


def test_obstacles_must_be_there_for_several_frames():
    frames = drive(BLOBS)
    rules = CountingRules(refinement=RefinementParameters(tracking=TrackingParameters(4)))
    found = find_threshold(frames, FalseAlarmRate(1, 'minute'), rules, before=0.05)
    assert found.found_before == 3  # those of 5, 20 and 10 frames
    assert found.threshold == pytest.approx(0.6, abs=STEP)
    every = find_threshold(frames, FalseAlarmRate(25 / 120, 'frame'), rules, before=0.05)
    assert every.found_before == 2 + 17 + 7
    assert every.threshold == pytest.approx(0.6, abs=STEP)


def test_regions_and_filters_are_those_of_the_node():
    frames = drive(BLOBS)
    above = CountingRules(region=Region('0,0 59,0 59,15 0,15'))  # the 0.9 and the 0.7
    found = find_threshold(frames, FalseAlarmRate(0.5, 'minute'), above, before=0.1)
    assert found.found_before == 2
    assert found.threshold == pytest.approx(0.7, abs=STEP)
    smooth = steadied(filter='median', window=3, max_gap=2.0)
    found = find_threshold(frames, FalseAlarmRate(1.5, 'minute'), smooth, before=0.1)
    assert found.found_before == 4  # the one of a single frame is no more
    assert found.threshold == pytest.approx(0.6, abs=STEP)


def test_a_drive_without_false_obstacles_gives_zero():
    flat = [ScoredFrame(np.zeros((8, 8), np.float32), index * SECOND) for index in range(60)]
    found = find_threshold(flat, FalseAlarmRate(1, 'minute'), CountingRules(), before=0.3)
    assert (found.threshold, found.found, found.found_before) == (0.0, 0, 0)
    full = [ScoredFrame(np.ones((8, 8), np.float32), index * SECOND) for index in range(60)]
    found = find_threshold(full, FalseAlarmRate(0.1, 'frame'), CountingRules(), before=0.3)
    assert (found.threshold, found.found, found.found_before) == (1.0, 0, 60)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(0, 3))
def test_one_step_lower_there_are_too_many(seed, allowed, area):
    random = np.random.default_rng(seed)
    maps = [cv2.blur(random.random((20, 30)).astype(np.float32), (5, 5)) for _ in range(6)]
    rules = CountingRules(area)
    rate = FalseAlarmRate(allowed / 6, 'frame')
    found = find_threshold(map(ScoredFrame, maps), rate, rules, before=0.5)
    stored = [m.astype(np.float16).astype(np.float32) for m in maps]

    def count(threshold):
        return sum(len(find_obstacles(m, obstacle_mask(m, threshold), area)) for m in stored)

    assert found.allowed == allowed
    assert count(found.threshold) == found.found <= allowed
    if found.threshold > 0:
        lower = max(v for m in stored for v in m.ravel() if v <= found.threshold)
        assert count(float(np.nextafter(np.float32(lower), np.float32(0)))) > allowed


def test_too_few_frames_say_how_many_are_needed():
    frames = drive((), frames=50, rate=25)
    with pytest.raises(
        MaskomalyError,
        match=r'50 frames \(2\.0 s\) are too few for 1/minute .* 1500 frames are needed, 60 s',
    ):
        find_threshold(frames, FalseAlarmRate(1, 'minute'), CountingRules(), before=0.5)
    with pytest.raises(MaskomalyError, match=r'50 frames are too few .* At least 100 frames are'):
        find_threshold(frames, FalseAlarmRate(0.01, 'frame'), CountingRules(), before=0.5)
    assert FalseAlarmRate(0.01, 'frame').allowed(100, 0.0) == 1
    assert FalseAlarmRate(1, 'minute').allowed(1500, 60.0) == 1
    still = [ScoredFrame(np.zeros((4, 4), np.float32))] * 3
    with pytest.raises(MaskomalyError, match=r"need frames with times, .* such as '0\.3/frame'"):
        find_threshold(still, FalseAlarmRate(1, 'minute'), CountingRules(), before=0.5)


def test_a_short_drive_is_refused_before_the_network_runs(traffic, tmp_path):
    source = ImageFolder(tmp_path / 'traffic', 10.0)
    with pytest.raises(MaskomalyError, match=r'3 frames \(0\.3 s\) are too few .* 600 frames'):
        check_length(source, FalseAlarmRate(1, 'minute'))
    check_length(source, FalseAlarmRate(1, 'frame'))


def test_scores_of_a_drive_are_those_of_the_node(network, traffic, tmp_path):
    detector = Detector(network, DetectorConfig(ScoringParameters(anomalous_queries=(2,))))
    source = ImageFolder(tmp_path / 'traffic', 10.0)
    driven = list(score_drive(detector, source))
    pictures = list(score_ordinary(detector, traffic))
    assert [frame.stamp for frame in driven] == [0, SECOND // 10, SECOND // 5]
    for one, other in zip(driven, pictures, strict=True):
        np.testing.assert_array_equal(one.score, other.score)
        assert one.image is not None
        assert other.image is None


def test_a_bag_is_counted_as_the_node_counts(bags, detector):
    path = bags.write(count=120)
    ids = set()
    refiner = Refiner()
    with open_source(path, topics='/front/image_raw') as source:
        check_length(source, FalseAlarmRate(5, 'minute'))
        for frame in source:
            (detection,) = detector.detect([frame.image])
            refined = refiner.apply(detection, frame.header_ns, RefinementParameters())
            ids |= {obstacle.id for obstacle in refined.obstacles}
        rules = CountingRules.of_parameters({}, source.topics[0])
        frames = score_drive(detector, source)
        found = find_threshold(frames, FalseAlarmRate(5, 'minute'), rules, before=0.5)
    assert found.frames == 120
    assert found.seconds == pytest.approx(12.0)
    assert found.allowed == 1
    assert found.found_before == max(ids) == len(ids)  # type: ignore[type-var]


def test_rules_are_those_of_a_parameter_file():
    given = {
        'camera_topics': ['/front/image_raw', '/rear/image_raw'],
        'minimum_obstacle_area': 30,
        'minimum_obstacle_frames': 3,
        'temporal_filter': 'median',
        'road_regions': ['0,0 9,0 9,9', '0,0 5,0 5,5'],
        'ego_regions': ['', ''],
    }
    rules = CountingRules.of_parameters(given, '/rear/image_raw')
    assert rules.minimum_area == 30
    refinement = rules.refinement
    assert (refinement.tracking.minimum_frames, refinement.temporal.filter) == (3, 'median')
    assert rules.region.sha256 == Region('0,0 5,0 5,5').sha256
    for topic in ('', '/left/image_raw'):
        with pytest.raises(MaskomalyError, match='belong to camera_topics /front/image_raw, /rea'):
            CountingRules.of_parameters(given, topic)
    alone = {n: v[:1] if isinstance(v, list) else v for n, v in given.items()}
    assert CountingRules.of_parameters(alone).region.sha256 == Region('0,0 9,0 9,9').sha256
    assert not CountingRules.of_parameters({}).region


def test_only_the_threshold_moves_and_says_where_from(network, scenes):
    queries = Queries(
        checkpoint='colours', anomalous_queries=(2,), obstacle_threshold=0.2, provenance={'a': 1}
    )
    rules, rate = CountingRules(), FalseAlarmRate(1.5, 'minute')
    found = find_threshold(drive(BLOBS), rate, rules, before=queries.obstacle_threshold)
    dataset = scenes(2)
    thresholds = (0.2, found.threshold, 1.0)
    detector = Detector(network, DetectorConfig(queries.scoring_parameters()))
    recall = recall_at(detector, dataset, thresholds)
    assert recall[0] >= recall[1] > recall[2] == 0
    moved = with_threshold(
        queries, found, rate, rules, 'a.mp4', {dataset.name: (recall[0], recall[1])}
    )
    assert moved.scoring_parameters() == queries.scoring_parameters()
    assert moved.obstacle_threshold == found.threshold
    about = moved.provenance['false_alarms']
    assert moved.provenance['a'] == 1
    assert (about['asked'], about['allowed'], about['found']) == ('1.5/minute', 3, 3)
    assert (about['found_before'], about['threshold_before'], about['frames']) == (5, 0.2, 120)
    assert about['regions'] == 'none'
    assert about['recall'][dataset.name]['before'] == round(recall[0], 4)


@pytest.mark.parametrize('name', ['rba', 'sml', 'entropy', 'geometric', 'maskomaly'])
def test_every_score_has_a_threshold_of_its_own(network, traffic, scenes, name):
    parameters = ScoringParameters(anomalous_queries=(2,))
    others = [name] if name != 'maskomaly' else []
    scores = calibrate_scores(network, parameters, others, [traffic])
    queries = Queries(checkpoint='colours', anomalous_queries=(2,), scores=scores)
    detector = Detector(network, DetectorConfig(parameters, score=name), scores)
    rate, rules = FalseAlarmRate(1, 'frame'), CountingRules()
    found = find_threshold(score_ordinary(detector, traffic), rate, rules, before=0.5)
    moved = with_threshold(queries, found, rate, rules, 'traffic', score=name)
    about = moved.provenance['false_alarms']
    if name == 'maskomaly':
        assert moved.obstacle_threshold == found.threshold
        assert 'score' not in about
        return
    assert moved.obstacle_threshold == queries.obstacle_threshold
    known = moved.scores[name]
    assert known.obstacle_threshold == found.threshold
    assert (known.raw, known.class_mean) == (scores[name].raw, scores[name].class_mean)
    assert (about['score'], about['threshold_before']) == (name, scores[name].obstacle_threshold)
    assert (
        Detector(network, DetectorConfig(parameters, score=name), moved.scores).threshold_of(name)
        == found.threshold
    )
