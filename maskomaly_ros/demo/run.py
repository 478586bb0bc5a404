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

"""The demonstration: a real ROS 2 node finds obstacles in a camera stream.

Three processes talk over DDS: the node, a player that publishes a camera topic, and a recorder of
what the node publishes. This one starts them, follows them, and evaluates the recording.
"""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from maskomaly_ros.demo.report import (
    RESULTS,
    SHEET_ROWS,
    DemoSummary,
    Run,
    Stream,
    summarise,
    table_of,
)
from maskomaly_ros.drives.open import open_source
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.rig.processes import Child, ChildProcesses, ros_environment
from maskomaly_ros.scenes.scene import Scene
from maskomaly_ros.topics import DEFAULT_CAMERA

CAMERA = DEFAULT_CAMERA
SIZE = (640, 360)
CLIP_FRAMES = 180
MOST_FRAMES = 600

# The clip is cut together from the first scenes that there are, whatever comes up in them: on the
# road of all but the last there are obstacles, and the last one shows ordinary traffic alone.
SCENES = (0, 1, 2)
ORDINARY_SCENES = (3,)
_SCENE_START = 2.2
_CLIP_RATE = 15.0

_START_TIMEOUT = 300.0  # a large checkpoint on a busy machine; a node that dies is seen at once
_IDLE_TIMEOUT = 60.0
_LAST_TIMEOUT = 10.0
_STOP_TIMEOUT = 20.0


def run_demo(
    out: Path,
    source: Path | None = None,
    *,
    checkpoint: str = 'demo',
    topic: str | None = None,
    frames: int | None = None,
    scenes: Sequence[int] = SCENES,
    size: tuple[int, int] = SIZE,
    console: Console | None = None,
) -> DemoSummary:
    """Run the node on a camera stream, record what it finds, and show it.

    Args:
        out: folder for the results; is made.
        source: a video, a folder of images or a rosbag; None takes a generated clip, which comes
            with ground truth.
        checkpoint: what the node loads: `demo`, a folder, a Hugging Face id.
        topic: image topic of the bag; None takes its first.
        frames: how many frames to publish at most; by default 180 of the generated clip and 600
            of a source.
        scenes: seeds of the scenes that the generated clip consists of. `ORDINARY_SCENES`, which
            have no obstacles, follow them.
        size: (width, height) of the clip; frames of a source are shrunk to fit into it.
        console: where progress and the summary go.

    Raises:
        MaskomalyError: the source cannot be used, or a process failed; its log is in the message.

    """
    console = console or Console()
    out.mkdir(parents=True, exist_ok=True)
    for name in RESULTS:  # nobody shall take an earlier run's for this one's
        (out / name).unlink(missing_ok=True)
    with (
        _terminate_as_interrupt(),
        tempfile.TemporaryDirectory(prefix='maskomaly-demo-') as scratch,
        _progress(console) as progress,
    ):
        work = Path(scratch)
        # A source that is wrong is found out before anything is started.
        given = (
            None if source is None else _open_stream(source, topic, frames or MOST_FRAMES, size)
        )
        with ChildProcesses(out, ros_environment()) as processes:
            node = processes.start(
                'node',
                'maskomaly_ros.node',
                '--ros-args',
                *('-p', f'camera_topics:=[{CAMERA}]'),
                *('-p', f'checkpoint:={checkpoint}'),
            )
            stream = given or _render_clip(
                work / 'clip', scenes, frames or CLIP_FRAMES, size, node, progress
            )
            run = _publish_and_record(processes, node, stream, work / 'recording', progress)
        progress.add_task('Evaluating', total=None)
        summary = summarise(run, stream, checkpoint, work / 'recording', out)
    console.print(table_of(summary))
    return summary


def _open_stream(path: Path, topic: str | None, limit: int, size: tuple[int, int]) -> Stream:
    with open_source(path, topics=topic) as source:
        try:
            count = min(len(source), limit)
        except TypeError:
            count = limit
        return Stream(path, str(path), source.rate, count, size, topic)


def _render_clip(
    folder: Path,
    scenes: Sequence[int],
    frames: int,
    size: tuple[int, int],
    node: Child,
    progress: Progress,
) -> Stream:
    """Render the generated clip to PNG files before it is played: rendering takes processor time.

    The node starts meanwhile, or fails to.
    """
    folder.mkdir()
    width, height = size
    truth = {}
    task = progress.add_task('Rendering the clip', total=frames)
    every = [*((seed, True) for seed in scenes), *((seed, False) for seed in ORDINARY_SCENES)]
    parts = np.array_split(np.arange(frames), len(every))
    for (seed, obstacles), indices in zip(every, parts, strict=True):
        scene = Scene(seed, (height, width), obstacles=obstacles)
        for index in map(int, indices):
            status = node.process.poll()
            if status is not None:
                raise _failure(node, status)
            frame = scene.render(_SCENE_START + (index - int(indices[0])) / _CLIP_RATE)
            bgr = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(folder / f'{index:05}.png'), bgr, (cv2.IMWRITE_PNG_COMPRESSION, 1))
            truth[index] = frame.anomaly
            progress.advance(task)
    ordinary = ', '.join(map(str, ORDINARY_SCENES))
    title = f'generated clip, scenes {", ".join(map(str, scenes))}; ordinary {ordinary}'
    return Stream(folder, title, _CLIP_RATE, frames, size, truth=truth)


def _publish_and_record(
    processes: ChildProcesses, node: Child, stream: Stream, folder: Path, progress: Progress
) -> Run:
    recorder = processes.start(
        'recorder',
        'maskomaly_ros.rig.recorder',
        CAMERA,
        *('--out', str(folder), '--rate', str(stream.rate), '--frame-id', 'camera', '--events'),
        *(() if stream.truth else ('--keep', str(4 * SHEET_ROWS))),
    )
    width, height = stream.size
    processes.start(
        'player',
        'maskomaly_ros.rig.player',
        str(stream.path),
        *('--topic', CAMERA, '--size', f'{width}x{height}', '--frames', str(stream.frames)),
        *('--rate', 'auto', '--answers', '/camera/anomaly/overlay', '--wait-for', '1'),
        *('--timeout', str(_START_TIMEOUT), '--events'),
        *(('--source-topic', stream.topic) if stream.topic else ()),
        *(('--source-rate', str(stream.rate)) if stream.truth else ()),
    )
    run = _follow(processes, stream, progress)
    status = processes.stop(recorder, _STOP_TIMEOUT)
    if status:
        raise _failure(recorder, status)
    processes.stop(node, _STOP_TIMEOUT)
    run.status = json.loads((folder / 'recording.json').read_text(encoding='utf-8'))
    return run


def _follow(processes: ChildProcesses, stream: Stream, progress: Progress) -> Run:
    """Show what the processes report until the last published frame is recorded."""
    run = Run({}, stream.rate, (), {})
    starting = progress.add_task('Starting the node, measuring its pace', total=None)
    publishing = progress.add_task('Publishing', total=stream.frames, visible=False)
    recording = progress.add_task('Recording', total=stream.frames, visible=False)
    last_recorded, finished = 0, False
    idle = 0
    patience = _START_TIMEOUT
    give_up = time.monotonic() + patience
    while True:
        try:
            child, event = processes.next_event(max(0.0, give_up - time.monotonic()))
        except queue.Empty:
            if finished:
                return run  # a node without diagnostics, and a lost frame; the summary tells
            raise MaskomalyError(
                f'nothing happened for {patience:.0f} s; see {processes.logs}'
            ) from None
        kind = event['event']
        if kind == 'diagnostics':
            # They come every second, whatever happens. The one after the last result has the
            # final counts; and where the node stays idle, the last frame was lost on its way.
            idle = idle + 1 if finished and _is_idle(event) else 0
            if finished and (last_recorded == max(run.published) or idle == 3):
                return run
            continue
        if kind == 'exit' and (child.name != 'player' or event['status']):
            raise _failure(child, event['status'])
        if kind == 'pace':
            run.rate = event['rate']
            patience = max(_IDLE_TIMEOUT, 10 / run.rate)
            progress.update(starting, total=1, completed=1)
            progress.console.print(_describe_pace(event['seconds'], run.rate, stream.rate))
            progress.update(publishing, visible=True)
            progress.update(recording, visible=True)
        elif kind == 'published':
            run.published[event['stamp']] = event['index']
            progress.advance(publishing)
        elif kind == 'recorded':
            last_recorded = event['stamp']
            progress.advance(recording)
        elif kind == 'finished':
            finished = True
            run.unreadable = tuple(event['problems'])
            if not run.published:
                raise MaskomalyError(f'no frame of {stream.path} could be read')
            patience = max(_LAST_TIMEOUT, 5 / run.rate)
        give_up = time.monotonic() + patience


def _is_idle(counts: dict[str, Any]) -> bool:
    """Return whether the node, by its diagnostics, is done with all frames it received."""
    outcomes = ('processed', 'replaced', 'bad', 'failed', 'stale', 'frozen', 'unwanted')
    return bool(counts['received'] == sum(counts.get(name, 0) for name in outcomes))


def _failure(child: Child, status: int) -> MaskomalyError:
    return MaskomalyError(
        f'the {child.name} ended with status {status}; the end of {child.log}:\n{child.tail()}'
    )


def _describe_pace(seconds: float, rate: float, nominal: float) -> str:
    pace = f'The node takes {1000 * seconds:.0f} ms from a frame to its overlay'
    if rate < nominal:
        return f'{pace}: publishing {rate:.1f} frames a second instead of {nominal:g}.'
    return f'{pace}: publishing {rate:.1f} frames a second, as fast as they were taken.'


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, like Ctrl-C, run all clean-up on its way out."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
