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

"""Figures, contact sheet and table follow from what was recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from maskomaly_ros.demo.report import DemoSummary, Run, Stream, summarise, table_of
from maskomaly_ros.errors import MaskomalyError

HEIGHT, WIDTH = 36, 64
Arrays = NDArray[np.uint8]


def truth_of(index: int) -> Arrays:
    """Return a ground truth whose obstacle of 4 x 4 pixels, with a rim to ignore, moves."""
    truth = np.zeros((HEIGHT, WIDTH), np.uint8)
    truth[9:15, 3 * index + 1 : 3 * index + 7] = 255
    truth[10:14, 3 * index + 2 : 3 * index + 6] = 1
    return truth


class Recorded:
    """A source of ten images, and a recording of it in which some frames have no result."""

    def __init__(self, folder: Path, missing: tuple[int, ...] = ()) -> None:
        self.source = folder / 'source'
        self.folder = folder / 'recording'
        self.out = folder / 'out'
        for path in (self.source, self.folder, self.out):
            path.mkdir()
        for index in range(10):
            image = np.full((HEIGHT, WIDTH, 3), 20 * index, np.uint8)
            cv2.imwrite(str(self.source / f'{index}.png'), image)
        (self.folder / 'overlay.mp4').write_bytes(b'a video')
        self.run = Run({1000 + i: i for i in range(10)}, 7.5, ('9b.png: broken',), {})
        frames = []
        for index in (i for i in range(10) if i not in missing):
            is_obstacle = truth_of(index) == 1
            mask = np.where(is_obstacle, 255, 0).astype(np.uint8)
            mask[20, :16] = 255  # as many false as true positives
            mask[9, :] = 255  # ignored around the obstacle, else false
            mask[9, truth_of(index)[9] == 0] = 0
            score = np.where(is_obstacle, 0.95, 0.25).astype(np.float16)
            overlay = np.full((HEIGHT, WIDTH, 3), (0, 200, 0), np.uint8)
            np.savez(self.folder / f'{1000 + index}.npz', score=score, mask=mask, overlay=overlay)
            frames.append(
                {
                    'stamp': 1000 + index,
                    'latency': {'mask': (index + 1) / 10, 'heatmap': 9.0, 'overlay': 9.0},
                    'max_score': 0.95,
                    'obstacle_pixels': 32 + index,
                }
            )
        self.run.status = {
            'frames': [*frames, {'stamp': 5, 'latency': {'mask': 99.0}}],  # not one of ours
            'diagnostics': {'received': 10, 'replaced': 2},
            'obstacle_threshold': 0.9,
        }

    def summarise(self, **status: Any) -> DemoSummary:
        self.run.status |= status
        stream = Stream(self.source, 'ten images', 15.0, 10, (WIDTH, HEIGHT), truth=self.truth())
        return summarise(self.run, stream, 'demo', self.folder, self.out)

    def truth(self) -> dict[int, Arrays] | None:
        return {i: truth_of(i) for i in range(10)}


def test_figures(tmp_path: Path) -> None:
    summary = Recorded(tmp_path, missing=(3, 4, 8)).summarise()
    assert (summary.published, summary.recorded) == (10, 7)
    assert (summary.replaced, summary.replaced_from, summary.lost) == (2, '/diagnostics', 1)
    latency = [0.1, 0.2, 0.3, 0.6, 0.7, 0.8, 1.0]
    assert summary.latency_p50 == pytest.approx(0.6)
    assert summary.latency_p95 == pytest.approx(np.percentile(latency, 95))
    assert summary.quality is not None
    assert summary.quality.average_precision == pytest.approx(1.0)
    assert summary.quality.best_f1 == pytest.approx(1.0)
    assert summary.quality.best_f1_threshold == pytest.approx(0.95, abs=1e-3)
    assert summary.quality.f1 == pytest.approx(2 * 16 / (2 * 16 + 16))
    assert (summary.ordinary_frames, summary.false_obstacles) == (0, None)
    assert summary.video.read_bytes() == b'a video'
    report = json.loads(summary.summary.read_text())
    assert report['quality']['f1'] == pytest.approx(2 / 3)
    assert report['contact_sheet'] == str(summary.contact_sheet)
    assert report['unreadable'] == ['9b.png: broken']


def test_false_obstacles_are_those_in_frames_without_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = {i: truth_of(i) if i < 7 else np.zeros_like(truth_of(0)) for i in range(10)}
    truth[7][0, 0] = 255  # the rim of one
    monkeypatch.setattr(Recorded, 'truth', lambda self: truth)
    summary = Recorded(tmp_path, missing=(9,)).summarise()
    assert summary.ordinary_frames == 1
    assert summary.false_obstacles == 2  # the square, where there is none, and the bar
    assert '2.00 in 1 frames without obstacles' in shown(summary)
    assert json.loads(summary.summary.read_text())['false_obstacles'] == 2


def test_replaced_is_derived_where_the_node_says_nothing(tmp_path: Path) -> None:
    summary = Recorded(tmp_path, missing=(3, 4, 8)).summarise(diagnostics={})
    assert (summary.replaced, summary.replaced_from, summary.lost) == (3, 'difference', 0)


def test_replaced_counts_of_the_warm_up_are_not_of_the_run(tmp_path: Path) -> None:
    summary = Recorded(tmp_path).summarise()
    assert (summary.recorded, summary.replaced, summary.lost) == (10, 0, 0)


@pytest.mark.parametrize('kind', ['no truth', 'no obstacle'])
def test_no_quality_without_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    truth = None if kind == 'no truth' else {i: np.zeros_like(truth_of(0)) for i in range(10)}
    monkeypatch.setattr(Recorded, 'truth', lambda self: truth)
    summary = Recorded(tmp_path).summarise(obstacle_threshold=None)
    assert summary.quality is None
    assert 'pixel' not in shown(summary)


def shown(summary: DemoSummary) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table_of(summary))
    return capture.get()


def test_table_names_everything(tmp_path: Path) -> None:
    text = shown(Recorded(tmp_path, missing=(3, 4, 8)).summarise())
    for part in (
        'ten images',
        '10 published at 7.5 Hz, 7 with results',
        '2 (from /diagnostics)',
        'p50 600 ms',
        'pixel AP',
        '100.0 %',
        '66.7 % at the threshold 0.900',
        '9b.png: broken',
        'overlay.mp4',
    ):
        assert part in text


def test_contact_sheet_shows_camera_heatmap_and_overlay(tmp_path: Path) -> None:
    summary = Recorded(tmp_path).summarise()
    sheet = cv2.imread(str(summary.contact_sheet))
    height, width = sheet.shape[:2]
    tile_height, tile_width = 288, 512
    assert 3 * tile_width < width < 3.2 * tile_width
    assert 4 * tile_height < height < 6 * tile_height
    # Frame 2 is the last of the first three, and all obstacles are as large; max takes the first.
    row = sheet[tile_height // 2]
    camera, heatmap, overlay = (row[width * part // 6] for part in (1, 3, 5))
    assert np.abs(camera.astype(int) - 0).max() <= 3  # frame 0
    assert heatmap.max() > 60
    assert np.abs(overlay.astype(int) - (0, 200, 0)).max() <= 3


def test_nothing_recorded(tmp_path: Path) -> None:
    with pytest.raises(MaskomalyError, match='nothing was recorded'):
        Recorded(tmp_path, missing=tuple(range(10))).summarise()
