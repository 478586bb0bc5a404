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

"""What came of a demonstration: figures, contact sheet, table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from maskomaly_ros.drives.open import open_source
from maskomaly_ros.drives.source import fit_within
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.metrics import IGNORE, PixelMetrics
from maskomaly_ros.visualization import colorize, contact_sheet, score_scale

RESULTS = ('contact_sheet.png', 'overlay.mp4', 'summary.json')

SHEET_ROWS = 4
_TILE_WIDTH = 512


@dataclass(frozen=True)
class Quality:
    """Pixel metrics of what the node published, against the ground truth, as fractions.

    Attributes:
        average_precision: of the score maps.
        f1: of the obstacle masks.
        best_f1: of the score maps at the best of all thresholds.
        best_f1_threshold: that threshold.

    """

    average_precision: float
    f1: float
    best_f1: float
    best_f1_threshold: float


@dataclass(frozen=True)
class DemoSummary:
    """What the demonstration found.

    Attributes:
        source: what was published.
        checkpoint: network of the node.
        rate: frames per second that were published.
        published: frames that went into the camera topic.
        recorded: frames whose results came out of the node.
        replaced: frames that a newer one overtook while the network was busy.
        replaced_from: where that number is from: the node's `/diagnostics`, or `difference` of
            published and recorded where no diagnostics came.
        lost: frames of which nobody knows what became.
        latency_p50: seconds from the stamp to the arrival of the obstacle mask, median.
        latency_p95: the same, 95th percentile.
        obstacle_threshold: the one the node applied; None where it did not say.
        ordinary_frames: recorded frames in which there is no obstacle, not even the rim of one; 0
            without ground truth.
        false_obstacles: obstacles a frame that were found in those; None without any.
        quality: pixel metrics; None where there is no ground truth, or no obstacle in it.
        unreadable: frames of the source that could not be read, by name and reason.
        contact_sheet: picture with camera, heatmap and overlay of some frames.
        video: the overlay as mp4.
        summary: this, as JSON.

    """

    source: str
    checkpoint: str
    rate: float
    published: int
    recorded: int
    replaced: int
    replaced_from: str
    lost: int
    latency_p50: float
    latency_p95: float
    obstacle_threshold: float | None
    ordinary_frames: int
    false_obstacles: float | None
    quality: Quality | None
    unreadable: tuple[str, ...]
    contact_sheet: Path
    video: Path
    summary: Path


@dataclass(frozen=True)
class Stream:
    """What is published.

    Attributes:
        path: what the player opens.
        title: what to call it.
        rate: frames per second it was taken at.
        frames: how many are published at most.
        size: (width, height) that frames are shrunk to fit into.
        topic: image topic of a bag; None takes its first.
        truth: ground truth by frame index: uint8 [H, W], 1 obstacle, 0 none, 255 ignore.

    """

    path: Path
    title: str
    rate: float
    frames: int
    size: tuple[int, int]
    topic: str | None = None
    truth: dict[int, NDArray[np.uint8]] | None = None


@dataclass
class Run:
    """What the processes reported.

    Attributes:
        published: frame index by stamp in nanoseconds.
        rate: frames per second that were published.
        unreadable: frames of the source that could not be read, by name and reason.
        status: what the recorder wrote to `recording.json`.

    """

    published: dict[int, int]
    rate: float
    unreadable: tuple[str, ...]
    status: dict[str, Any]


def summarise(run: Run, stream: Stream, checkpoint: str, folder: Path, out: Path) -> DemoSummary:
    """Write contact sheet, video and figures.

    Args:
        run: what the processes reported.
        stream: what was published.
        checkpoint: network of the node.
        folder: what the recorder wrote.
        out: where the results go.

    Raises:
        MaskomalyError: nothing was recorded.

    """
    frames = [f for f in run.status['frames'] if f['stamp'] in run.published]
    if not frames:
        raise MaskomalyError(f'nothing was recorded; see {out}')
    sheet, video, report = (out / name for name in RESULTS)
    shutil.copyfile(folder / 'overlay.mp4', video)
    threshold = run.status.get('obstacle_threshold')
    _write_contact_sheet(sheet, run, stream, frames, folder, threshold)
    missing = len(run.published) - len(frames)
    counts = run.status['diagnostics']
    replaced = min(counts['replaced'], missing) if counts else missing
    latency = [f['latency']['mask'] for f in frames]
    ordinary, false = _false_obstacles(run, stream.truth, folder) if stream.truth else (0, 0)
    summary = DemoSummary(
        source=stream.title,
        checkpoint=checkpoint,
        rate=run.rate,
        published=len(run.published),
        recorded=len(frames),
        replaced=replaced,
        replaced_from='/diagnostics' if counts else 'difference',
        lost=missing - replaced,
        latency_p50=float(np.percentile(latency, 50)),
        latency_p95=float(np.percentile(latency, 95)),
        obstacle_threshold=threshold,
        ordinary_frames=ordinary,
        false_obstacles=false / ordinary if ordinary else None,
        quality=_evaluate(run, stream.truth, folder) if stream.truth else None,
        unreadable=run.unreadable,
        contact_sheet=sheet,
        video=video,
        summary=report,
    )
    text = json.dumps(asdict(summary), indent=2, default=str)
    report.write_text(text + '\n', encoding='utf-8')
    return summary


def _arrays(folder: Path, run: Run) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
    """Yield stamp and arrays of the published frames that the recorder kept."""
    for path in sorted(folder.glob('*.npz')):
        if int(path.stem) in run.published:
            with np.load(path) as arrays:
                yield int(path.stem), dict(arrays)


def _evaluate(run: Run, truth: dict[int, NDArray[np.uint8]], folder: Path) -> Quality | None:
    """Return the pixel metrics of all recorded frames; None where the truth has no obstacle."""
    metrics = PixelMetrics()
    hits = predicted = positives = 0
    for stamp, arrays in _arrays(folder, run):
        anomaly = truth[run.published[stamp]]
        metrics.update(arrays['score'], anomaly)
        mask = (arrays['mask'] > 0) & (anomaly != IGNORE)
        hits += np.count_nonzero(mask & (anomaly == 1))
        predicted += np.count_nonzero(mask)
        positives += np.count_nonzero(anomaly == 1)
    if not positives:
        return None
    result = metrics.compute()
    f1 = 2 * hits / (predicted + positives)
    return Quality(result.ap, f1, result.best_f1, result.best_f1_threshold)


def _false_obstacles(
    run: Run, truth: dict[int, NDArray[np.uint8]], folder: Path
) -> tuple[int, int]:
    """Return the number of recorded frames without obstacles, and of obstacles found in them."""
    found = [
        _count(arrays['mask'])
        for stamp, arrays in _arrays(folder, run)
        if not truth[run.published[stamp]].any()
    ]
    return len(found), sum(found)


def _count(mask: NDArray[np.uint8]) -> int:
    return cv2.connectedComponents(mask, connectivity=8)[0] - 1


def _write_contact_sheet(
    path: Path,
    run: Run,
    stream: Stream,
    frames: list[dict[str, Any]],
    folder: Path,
    threshold: float | None,
) -> None:
    """Write camera, heatmap and overlay of frames from all over the recording.

    Of each part of it the frame with the largest obstacle: the largest true one in full view where
    the truth is known, and where there is none the one with the most false ones.
    """
    facts = {f['stamp']: f for f in frames}
    kept = [int(p.stem) for p in sorted(folder.glob('*.npz')) if int(p.stem) in facts]

    def interest(stamp: int) -> tuple[int, int]:
        found = int(facts[stamp]['obstacle_pixels'])
        if stream.truth is None:
            return 0, found
        if not stream.truth[run.published[stamp]].any():
            return 0, found
        obstacle = stream.truth[run.published[stamp]] == 1
        is_cut = obstacle[-1].any() or obstacle[:, 0].any() or obstacle[:, -1].any()
        return (0, 0) if is_cut else (int(np.count_nonzero(obstacle)), 0)

    # Parts are of what was published: scenes, where it was cut together from as many.
    end = max(run.published.values()) + 1
    parts: dict[int, list[int]] = {}
    for stamp in kept:
        parts.setdefault(run.published[stamp] * SHEET_ROWS // end, []).append(stamp)
    chosen = [max(parts[row], key=interest) for row in sorted(parts)]
    pictures = _camera_frames(stream, {run.published[stamp] for stamp in chosen})
    tiles, captions = [], []
    for stamp in chosen:
        index, fact = run.published[stamp], facts[stamp]
        with np.load(folder / f'{stamp}.npz') as arrays:
            tiles += [pictures[index], colorize(arrays['score']), arrays['overlay']]
            count = _count(arrays['mask'])
        captions += [
            f'frame {index}, {index / stream.rate:.1f} s',
            f'highest score {fact["max_score"]:.2f}',
            f'{count} obstacle{"" if count == 1 else "s"} after '
            f'{1000 * fact["latency"]["mask"]:.0f} ms',
        ]
    height, width = tiles[0].shape[:2]
    sheet = contact_sheet(tiles, 3, captions, (round(_TILE_WIDTH * height / width), _TILE_WIDTH))
    legend = score_scale(_TILE_WIDTH, None if threshold is None else round(threshold, 3))
    below = np.full((len(legend), sheet.shape[1], 3), sheet[0, 0])
    left = (sheet.shape[1] - _TILE_WIDTH) // 2
    below[:, left : left + _TILE_WIDTH] = legend
    sheet = np.concatenate([sheet, below])
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


def _camera_frames(stream: Stream, indices: set[int]) -> dict[int, NDArray[np.uint8]]:
    """Read frames again as they were published."""
    pictures = {}
    with open_source(stream.path, topics=stream.topic) as source:
        for frame in source:
            if frame.index in indices:
                pictures[frame.index] = fit_within(frame.image, stream.size)
            if len(pictures) == len(indices):
                break
    return pictures


def table_of(summary: DemoSummary) -> Table:
    """Return a summary for the screen."""
    table = Table(title=f'{summary.source}, checkpoint {summary.checkpoint}', show_header=False)
    table.add_column(style='bold')
    table.add_column()
    table.add_row(
        'frames',
        f'{summary.published} published at {summary.rate:.1f} Hz, {summary.recorded} with results',
    )
    table.add_row('replaced by a newer one', f'{summary.replaced} (from {summary.replaced_from})')
    if summary.lost:
        table.add_row('lost on the way', str(summary.lost))
    if summary.unreadable:
        table.add_row('unreadable', f'{len(summary.unreadable)}, first {summary.unreadable[0]}')
    table.add_row(
        'latency, stamp to mask',
        f'p50 {1000 * summary.latency_p50:.0f} ms, p95 {1000 * summary.latency_p95:.0f} ms',
    )
    if summary.false_obstacles is not None:
        table.add_row(
            'false obstacles a frame',
            f'{summary.false_obstacles:.2f} in {summary.ordinary_frames} frames without obstacles',
        )
    quality = summary.quality
    if quality is not None:
        threshold = summary.obstacle_threshold
        configured = '' if threshold is None else f' at the threshold {threshold:.3f}'
        table.add_row('pixel AP', f'{100 * quality.average_precision:.1f} %')
        table.add_row(
            'pixel F1',
            f'{100 * quality.f1:.1f} %{configured}; '
            f'{100 * quality.best_f1:.1f} % at the best, {quality.best_f1_threshold:.3f}',
        )
    for name, path in (
        ('contact sheet', summary.contact_sheet),
        ('video', summary.video),
        ('summary', summary.summary),
    ):
        table.add_row(name, str(path))
    return table
