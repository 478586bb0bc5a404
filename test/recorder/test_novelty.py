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

"""The same thing is recorded once, and what is new again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from recorder_fixtures import BLUE, RED, road

from maskomaly_ros.recorder.catalogue import Catalogue
from maskomaly_ros.recorder.novelty import Novelty, crop

BOX = (20, 10, 12, 8)
GREEN = (10, 220, 10)


def mean_color(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Stand in for a network: what is grey does not count."""
    colors = picture.reshape(-1, 3).astype(np.float32)
    found: NDArray[np.float32] = (colors - colors.min(1, keepdims=True)).mean(0) + 1e-3
    return found


def see(vehicle: Any, color: tuple[int, int, int], box: tuple[int, int, int, int] = BOX) -> None:
    vehicle.drive(1.2, box, color)
    vehicle.drive(4.0)


def test_one_thing_in_every_lap_is_recorded_once(vehicle: Any) -> None:
    recorder = vehicle.start(Novelty(mean_color), novelty_threshold=0.2)
    for _ in range(5):
        see(vehicle, RED)
    see(vehicle, BLUE, (30, 20, 10, 10))
    see(vehicle, RED, (8, 25, 14, 9))
    first, second = vehicle.catalogue.recordings()
    assert (first.novelty, len(first.embeddings[0])) == (1.0, 3)
    assert second.novelty > 0.2
    assert vehicle.catalogue.sightings(first.name).count == 5
    assert vehicle.catalogue.sightings(first.name).last_ns > second.start_ns
    assert vehicle.catalogue.sightings(second.name).count == 0
    assert recorder.state.known == 5
    assert recorder.state.counts.kept == len(vehicle.sent)


def test_what_was_kept_is_known_after_a_new_start(vehicle: Any) -> None:
    vehicle.start(Novelty(mean_color), novelty_threshold=0.2)
    see(vehicle, RED)
    vehicle.catalogue.let_go()
    vehicle.start(Novelty(mean_color), novelty_threshold=0.2)
    see(vehicle, RED)
    see(vehicle, GREEN)
    assert len(vehicle.catalogue.recordings()) == 2


def test_what_was_deleted_is_new_again(vehicle: Any) -> None:
    vehicle.start(Novelty(mean_color), novelty_threshold=0.2)
    see(vehicle, RED)
    (first,) = vehicle.catalogue.recordings()
    Catalogue(vehicle.folder).delete(first.name)  # as another process does
    see(vehicle, RED)
    (again,) = vehicle.catalogue.recordings()
    assert again.novelty == 1.0


def test_a_known_thing_does_not_extend_what_is_recorded(vehicle: Any) -> None:
    recorder = vehicle.start(Novelty(mean_color), novelty_threshold=0.2, patience=0.2)
    vehicle.drive(0.8, BOX)
    for _ in range(4):  # out of sight and back, with another id
        vehicle.drive(0.4)
        vehicle.drive(0.8, BOX)
    vehicle.drive(3.0)
    (recording,) = vehicle.catalogue.recordings()
    assert len(recording.events) == 1
    assert recorder.state.known == 4


def test_without_novelty_everything_is_recorded(vehicle: Any) -> None:
    vehicle.start()
    for _ in range(3):
        see(vehicle, RED)
    assert [r.novelty for r in vehicle.catalogue.recordings()] == [1.0] * 3


def test_people_are_asked_nothing(vehicle: Any) -> None:
    recorder = vehicle.start(Novelty(mean_color), novelty_threshold=1.0)
    for _ in range(2):
        recorder.fire('service', 'asked for', vehicle.received_ns)
        vehicle.drive(3.0)
    assert len(vehicle.catalogue.recordings()) == 2


@given(
    st.tuples(*(st.integers(-20, 80) for _ in range(2)), *(st.integers(0, 90) for _ in range(2)))
)
def test_a_crop_is_inside_of_the_picture(box: tuple[int, int, int, int]) -> None:
    picture = road()
    cut = crop(picture, box)
    assert cut.ndim == 3
    assert 0 < cut.shape[0] <= picture.shape[0]
    assert 0 < cut.shape[1] <= picture.shape[1]


def test_embeddings_of_another_network_are_passed_over() -> None:
    novelty = Novelty(mean_color)
    novelty.replace([('a', (1.0, 0.0)), ('b', ())])
    judgement = novelty.judge(road(BOX), BOX)
    assert (judgement.distance, judgement.nearest) == (1.0, '')
    assert np.linalg.norm(judgement.embedding) == pytest.approx(1.0, abs=1e-3)
    novelty.learn('c', judgement.embedding)
    again = novelty.judge(road(BOX), BOX)
    assert again.nearest == 'c'
    assert again.distance == pytest.approx(0.0, abs=1e-3)


@pytest.mark.slow
def test_the_bundled_backbone_tells_things_apart() -> None:
    """Light and noise move a thing less than another thing is away."""
    from maskomaly_ros.networks.embedding import load_embedding

    rng = np.random.default_rng(0)
    textures = [rng.integers(0, 255, (n, n, 3)).astype(np.uint8) for n in (2, 5, 40)]
    import cv2

    things = [cv2.resize(t, (80, 60), interpolation=cv2.INTER_NEAREST) for t in textures]
    novelty = Novelty(load_embedding())
    box = (0, 0, 80, 60)
    for number, thing in enumerate(things):
        novelty.learn(str(number), novelty.judge(np.asarray(thing, np.uint8), box).embedding)
    for number, thing in enumerate(things):
        noise = rng.normal(0, 4, thing.shape)
        changed = np.clip(thing * 0.9 + noise, 0, 255).astype(np.uint8)
        assert novelty.judge(changed, box).nearest == str(number)
