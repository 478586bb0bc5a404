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

"""Cut-outs of events, made while the frames go by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from maskomaly_ros.detector import Detector
from maskomaly_ros.drives.open import open_source
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.refinement.tracking import TrackingParameters
from maskomaly_ros.replay.run import ReplayOptions, replay
from maskomaly_ros.replay.thumbnails import THUMBNAIL_SIZE, Thumbnails, cut_out

pytest.importorskip('rosbags', reason='bags need rosbags')


def test_every_event_has_the_picture_of_its_peak_and_nothing_is_written(
    bags: Any, detector: Detector, tmp_path: Path
) -> None:
    source, out = bags.write(), tmp_path / 'out'
    thumbnails = Thumbnails(100, TrackingParameters())
    options = ReplayOptions(outputs=())
    summary = replay(source, out, options, detector=detector, watcher=thumbnails)
    assert [path.name for path in out.iterdir()] == ['.replay']
    events = list(summary.events())
    images = thumbnails.images()
    assert events
    assert set(images) == {(e.camera, e.id, e.start_index) for e in events}
    with open_source(source, topics='*') as frames:
        pictures = {frame.index: frame.image for frame in frames}
    for event in events:
        (detection,) = detector.detect([pictures[event.peak_index]])
        expected = cut_out(detection.overlay(0.5), event.box)
        data = images[event.camera, event.id, event.start_index]
        shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert shown.shape == (*THUMBNAIL_SIZE[::-1], 3)
        assert np.abs(shown.astype(int) - expected).mean() < 6  # JPEG


def test_only_the_highest_are_kept(bags: Any, detector: Detector, tmp_path: Path) -> None:
    thumbnails = Thumbnails(1, TrackingParameters())
    options = ReplayOptions(outputs=())
    summary = replay(
        bags.write(), tmp_path / 'out', options, detector=detector, watcher=thumbnails
    )
    events = sorted(summary.events(), key=lambda e: (e.peak_score, e.peak_area))
    assert len(events) > 1
    ((camera, id_, first),) = thumbnails.images()
    best = events[-1]
    peaks = {(e.camera, e.id, e.start_index): (e.peak_score, e.peak_area) for e in events}
    assert peaks[camera, id_, first] == (best.peak_score, best.peak_area)


def test_a_replay_for_nobody_is_refused(bags: Any, detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(MaskomalyError, match='nothing to write'):
        replay(bags.write(), tmp_path / 'out', ReplayOptions(outputs=()), detector=detector)
