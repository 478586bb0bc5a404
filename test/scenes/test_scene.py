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

"""Generated scenes: the same seed gives the same frames, and their ground truth holds."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.scenes.props import KINDS, prop
from maskomaly_ros.scenes.scene import Scene, SceneFrame, generate_clip, random_frame

SMALL = (90, 160)
DRIVABLE = 0
CLASSES = range(7)


def same(a: SceneFrame, b: SceneFrame) -> bool:
    return (
        np.array_equal(a.image, b.image)
        and np.array_equal(a.labels, b.labels)
        and np.array_equal(a.anomaly, b.anomaly)
    )


def check(frame: SceneFrame, size: tuple[int, int]) -> None:
    """Check what holds for every frame."""
    assert frame.image.shape == (*size, 3)
    assert frame.labels.shape == frame.anomaly.shape == size
    assert frame.image.dtype == frame.labels.dtype == frame.anomaly.dtype == np.uint8
    assert set(np.unique(frame.labels)) <= {*CLASSES, 255}
    assert set(np.unique(frame.anomaly)) <= {0, 1, 255}
    # An obstacle is what has no class, and everything else has one.
    np.testing.assert_array_equal(frame.labels == 255, frame.anomaly == 1)


@pytest.fixture(scope='module')
def drive() -> list[SceneFrame]:
    """Eleven seconds of one drive, eight frames a second."""
    return list(generate_clip(3, 88, rate=8, size=SMALL))


def encounters(frames: list[SceneFrame]) -> list[list[SceneFrame]]:
    """Return the stretches of frames in which an obstacle is in sight."""
    runs: list[list[SceneFrame]] = []
    seen = False
    for frame in frames:
        visible = bool((frame.anomaly == 1).any())
        if visible and not seen:
            runs.append([])
        if visible:
            runs[-1].append(frame)
        seen = visible
    return runs


def test_frames_do_not_depend_on_what_was_rendered_before() -> None:
    first, second = Scene(5, SMALL), Scene(5, SMALL)
    forwards = [first.render(time) for time in (0.0, 2.5, 4.0)]
    backwards = [second.render(time) for time in (4.0, 2.5, 0.0)]
    assert all(same(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))
    assert same(random_frame(8, SMALL), random_frame(8, SMALL))


def test_another_seed_is_another_scene() -> None:
    frames = [random_frame(seed, (60, 80)) for seed in range(12)]
    for index, frame in enumerate(frames):
        for other in frames[:index]:
            difference = np.abs(frame.image.astype(int) - other.image).mean()
            assert difference > 8
            assert (frame.labels != other.labels).mean() > 0.02


@settings(max_examples=15)
@given(
    st.integers(-(2**31), 2**40),
    st.integers(16, 140),
    st.integers(16, 140),
    st.floats(0, 1000),
    st.booleans(),
)
def test_any_size_seed_and_time_gives_a_frame(
    seed: int, height: int, width: int, time: float, obstacles: bool
) -> None:
    frame = Scene(seed, (height, width), obstacles=obstacles).render(time)
    check(frame, (height, width))
    assert frame.stamp == time
    assert obstacles or not frame.anomaly.any()


@pytest.mark.parametrize('size', [(15, 64), (64, 15), (4097, 64), (0, 0)])
def test_refuses_a_size_out_of_range(size: tuple[int, int]) -> None:
    with pytest.raises(MaskomalyError, match=f'{size[0]}×{size[1]}.*16 to 4096'):
        Scene(1, size)


def test_training_frames_are_varied() -> None:
    counts = np.zeros(256)
    means = []
    for seed in range(40):
        frame = random_frame(seed, (96, 128))
        check(frame, (96, 128))
        assert not frame.anomaly.any()
        assert len(np.unique(frame.labels)) >= 3
        counts += np.bincount(frame.labels.ravel(), minlength=256) > 0
        means.append(frame.image.mean())
    assert counts[list(CLASSES)].min() >= 10  # frames that hold a class, the rarest one
    assert np.std(means) > 12  # light and exposure differ


def test_random_frames_hold_obstacles_on_request() -> None:
    frames = [random_frame(seed, (96, 128), obstacles=True) for seed in range(12)]
    for frame in frames:
        check(frame, (96, 128))
    assert sum((frame.anomaly == 1).sum() > 12 for frame in frames) >= 9


def test_obstacles_come_one_after_another(drive: list[SceneFrame]) -> None:
    for frame in drive:
        check(frame, SMALL)
    assert not drive[0].anomaly.any()
    assert len(encounters(drive)) >= 2
    empty = sum(not frame.anomaly.any() for frame in drive)
    assert 0.05 * len(drive) < empty < 0.8 * len(drive)


def test_an_obstacle_grows_as_it_comes_nearer(drive: list[SceneFrame]) -> None:
    approach = encounters(drive)[0]
    areas = np.array([(frame.anomaly == 1).sum() for frame in approach])
    largest = int(areas.argmax())
    assert largest > 10  # it is in sight for more than a second before it passes
    assert areas[largest] > 30 * areas[:3].mean()
    quarters = [part.mean() for part in np.array_split(areas[: largest + 1], 4)]
    assert quarters == sorted(quarters)


def test_obstacles_stand_on_the_road() -> None:
    grounded = total = 0
    clips = (generate_clip(seed, 24, rate=3, size=SMALL) for seed in (2, 4, 7))
    for frame in itertools.chain(*clips):
        count, parts, boxes, _ = cv2.connectedComponentsWithStats(
            (frame.anomaly == 1).astype(np.uint8)
        )
        for part in range(1, count):
            bottom = boxes[part, cv2.CC_STAT_TOP] + boxes[part, cv2.CC_STAT_HEIGHT]
            if bottom > SMALL[0] - 3 or boxes[part, cv2.CC_STAT_AREA] < 20:
                continue
            column = int(np.median(np.flatnonzero(parts[bottom - 1] == part)))
            total += 1
            grounded += frame.labels[bottom + 1, column] == DRIVABLE
    assert total >= 15
    assert grounded >= 0.85 * total


def test_no_obstacles_where_they_are_not_wanted() -> None:
    for frame in generate_clip(3, 12, rate=1, size=SMALL, obstacles=False):
        assert not frame.anomaly.any()
        assert not (frame.labels == 255).any()


def test_the_camera_moves(drive: list[SceneFrame]) -> None:
    changes, flows = [], []
    for before, after in itertools.pairwise(drive[:20]):
        changes.append((before.labels != after.labels).mean())
        a, b = (cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY) for frame in (before, after))
        flow = cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 3, 15, 3, 5, 1.2, 0)
        # Driving forward, the picture moves outwards: to the right on the right side.
        third = SMALL[1] // 3
        flows.append(flow[:, -third:, 0].mean() - flow[:, :third, 0].mean())
    assert np.mean(changes) > 0.004
    assert np.mean(flows) > 0.3


def test_stamps_follow_the_rate() -> None:
    stamps = [frame.stamp for frame in generate_clip(1, 4, rate=8, size=(32, 48))]
    assert stamps == [0, 0.125, 0.25, 0.375]


@pytest.mark.parametrize('kind', KINDS)
def test_every_obstacle_has_a_body(kind: str) -> None:
    thing = prop(kind, 1)
    assert 0.3 < thing.width < 4
    assert 0.2 < thing.height < 3
    for picture in thing.pictures:
        cover = (picture.rgba[..., 3] > 127).mean()
        assert 0.08 < cover < 0.95
        assert picture.rgba[-6:, :, 3].max() == 255  # it stands on the ground
    for solid in thing.solids:
        # Faces look outwards, or they would be left out as seen from behind.
        outwards = (solid.normals * (solid.middles - solid.points.mean(axis=0))).sum(axis=1)
        assert (outwards > 0).all()
