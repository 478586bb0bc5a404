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

"""What replay costs: frames a second against the bare network, memory, and each format.

    python benchmarks/replay.py --video drive.mp4 --out benchmarks/results/2-core-x86-64-no-gpu

Makes drives of all formats from a video, in a temporary folder. Every figure comes from a process
of its own; the bare network is measured in the process of each replay, before and after it.
Writes replay.json and replay.md, and prints the latter.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from maskomaly_ros.drives.open import open_source
from maskomaly_ros.drives.source import fit_within

STEP_NS = 40_000_000
SIZE = (640, 360)
OUTPUTS = ('bag', 'video', 'scores', 'csv', 'parquet', 'html')
IMAGE = 'sensor_msgs/msg/Image'
FORMATS = (
    'MCAP NONE', 'MCAP STORAGE', 'MCAP MESSAGE', 'MCAP FILE', 'SQLITE3 NONE', 'SQLITE3 MESSAGE',
    'SQLITE3 FILE', 'ROS1', 'video', 'images',
)  # fmt: skip


def pictures(video: Path, frames: int) -> Iterator[np.ndarray]:
    """Yield the first frames of a video, small, again and again."""
    found: list[np.ndarray] = []
    with open_source(video) as source:
        for frame in source:
            found.append(np.ascontiguousarray(fit_within(frame.image, SIZE)))
            if len(found) == min(frames, 50):
                break
    for index in range(frames):
        yield found[index % len(found)]


def make_drive(video: Path, path: Path, frames: int, form: str) -> Path:
    """Write frames of a video as a drive of a format of `FORMATS`; return its path."""
    if form == 'images':
        path.mkdir()
        for index, picture in enumerate(pictures(video, frames)):
            cv2.imwrite(str(path / f'{index:06}.png'), picture[..., ::-1])
        return path
    if form == 'video':
        from maskomaly_ros.drives.video_writer import VideoWriter

        path = path.with_suffix('.mp4')
        writer = VideoWriter(path, 1e9 / STEP_NS)
        for index, picture in enumerate(pictures(video, frames)):
            writer.write(picture, index * STEP_NS)
        writer.close()
        return path
    from rosbags import rosbag1, rosbag2
    from rosbags.typesys import Stores, get_typestore

    is_ros1 = form == 'ROS1'
    store = get_typestore(Stores.ROS1_NOETIC if is_ros1 else Stores.ROS2_JAZZY)
    types = store.types
    bag: Any
    if is_ros1:
        path = path.with_suffix('.bag')
        bag = rosbag1.Writer(path)
    else:
        plugin, compression = form.split()
        bag = rosbag2.Writer(path, version=9, storage_plugin=rosbag2.StoragePlugin[plugin])
        mode = rosbag2.CompressionMode[compression]
        bag.set_compression(mode, rosbag2.CompressionFormat.ZSTD)
    serialize = store.serialize_ros1 if is_ros1 else store.serialize_cdr
    extra = {'seq': 0} if is_ros1 else {}
    with bag:
        connection = bag.add_connection('/front/image_raw', IMAGE, typestore=store)
        for index, pixels in enumerate(pictures(video, frames), start=1):
            stamp = types['builtin_interfaces/msg/Time'](*divmod(index * STEP_NS, 10**9))
            header = types['std_msgs/msg/Header'](stamp=stamp, frame_id='camera', **extra)
            height, width = pixels.shape[:2]
            message = types[IMAGE](header, height, width, 'rgb8', 0, 3 * width, pixels.ravel())
            bag.write(connection, index * STEP_NS, serialize(message, IMAGE))
    return path


def measure_open(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure how long the first frame and all frames take to read."""
    start = time.perf_counter()
    with open_source(arguments.source) as source:
        next(iter(source))
        opened = time.perf_counter() - start
    start = time.perf_counter()
    with open_source(arguments.source) as source:
        count = sum(1 for _ in source)
    seconds = time.perf_counter() - start
    return {'first_frame_ms': 1000 * opened, 'read_ms': 1000 * seconds / count}


def measure_replay(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure a replay, and the network alone before and after it."""
    from maskomaly_ros.detector import Detector
    from maskomaly_ros.replay.run import ReplayOptions, replay

    detector = Detector.from_checkpoint(arguments.checkpoint, device=arguments.device)
    with open_source(arguments.source) as source:
        frame = next(iter(source)).image

    def bare() -> list[float]:
        seconds = []
        for _ in range(arguments.bare):
            start = time.perf_counter()
            detector.detect([frame])
            seconds.append(time.perf_counter() - start)
        return seconds

    detector.detect([frame])
    alone = bare()
    options = ReplayOptions(tuple(arguments.write.split(',')), part_seconds=20)
    summary = replay(arguments.source, arguments.drive_out, options, detector=detector)
    alone += bare()
    files = [p for p in Path(arguments.drive_out).rglob('*') if p.is_file()]
    rate = summary.frames / summary.seconds
    found: dict[str, Any] = {
        'frames': summary.frames,
        'frames_per_second': rate,
        'network_busy': summary.network_share,
        'stage_ms': {k: 1000 * v / summary.frames for k, v in summary.busy.items()},
        'finishing_s': summary.finishing,
        'peak_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        'written_mb': sum(p.stat().st_size for p in files) / 1e6,
    }
    if alone:
        found['bare_frames_per_second'] = 1 / statistics.mean(alone)
        found['of_bare'] = rate / found['bare_frames_per_second']
    return found


def in_process(arguments: argparse.Namespace, *more: str) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, '--checkpoint', arguments.checkpoint]
    command += ['--device', arguments.device, *more]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f'{" ".join(command)} ended with {done.returncode}')
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure_all(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make drives, and measure everything."""
    import torch

    from maskomaly_ros.benchmark import machine

    report: dict[str, Any] = {'frame': SIZE, 'frames': arguments.frames}
    report['checkpoint'] = arguments.checkpoint
    report['machine'] = machine(torch.device('cpu' if arguments.device == 'cpu' else 'cuda'))
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        report['open'] = {}
        for number, form in enumerate(FORMATS):
            note(f'open {form}')
            drive = make_drive(arguments.video, base / f'drive{number}', arguments.frames, form)
            found = in_process(arguments, '--measure', 'open', '--source', str(drive))
            report['open'][form] = found
        report['replay'] = {}
        for number, write in enumerate((*OUTPUTS, 'bag,video,csv,html', ','.join(OUTPUTS))):
            note(f'replay to {write}')
            target = ['--drive-out', str(base / f'out{number}'), '--write', write]
            source = ['--source', str(base / 'drive0'), '--bare', str(arguments.bare)]
            found = in_process(arguments, '--measure', 'replay', *source, *target)
            report['replay'][write] = found
        report['memory'] = {}
        for length in map(int, arguments.lengths.split(',')):
            note(f'{length} times the length')
            bag = base / f'long{length}'
            make_drive(arguments.video, bag, length * arguments.frames, 'MCAP NONE')
            target = ['--drive-out', str(base / f'memory{length}'), '--bare', '0']
            target += ['--write', 'bag,video,csv,html', '--source', str(bag)]
            report['memory'][length] = in_process(arguments, '--measure', 'replay', *target)
    return report


def note(text: str) -> None:
    """Say on stderr what is under way."""
    sys.stderr.write(f'{time.strftime("%H:%M:%S")} {text}\n')


def rows(head: Sequence[str], cells: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [list(head), ['---'] * len(head), *cells]
    return ''.join('| ' + ' | '.join(map(str, line)) + ' |\n' for line in lines) + '\n'


def markdown(report: dict[str, Any]) -> str:
    """Return the report as tables."""
    width, height = report['frame']
    text = (
        f'# Replay\n\n{report["machine"]["processor"]}, {report["machine"]["cores"]} cores; '
        f'checkpoint {report["checkpoint"]}, {report["frames"]} frames of '
        f'{width}x{height}, raw.\n\n'
        'Frames a second against the bare network, which was measured in the same process before '
        'and after; "stage" is the thread of that output.\n\n'
    )
    cells = []
    for write, r in report['replay'].items():
        stage = r['stage_ms'].get({'html': 'frames'}.get(write, write))
        cells.append([
            write, f'{r["frames_per_second"]:.2f}', f'{r["bare_frames_per_second"]:.2f}',
            f'{100 * r["of_bare"]:.1f} %', f'{100 * r["network_busy"]:.1f} %',
            '' if stage is None else f'{stage:.1f}', f'{r["finishing_s"]:.2f}',
            f'{r["written_mb"]:.1f}',
        ])  # fmt: skip
    text += rows(
        ('written', 'frames/s', 'bare frames/s', 'share', 'network busy', 'stage ms a frame',
         'closing s', 'MB'), cells,
    )  # fmt: skip
    text += 'Opening and reading, without the network:\n\n'
    text += rows(
        ('format', 'to the first frame ms', 'ms a frame'),
        [(f, f'{r["first_frame_ms"]:.1f}', f'{r["read_ms"]:.2f}')
         for f, r in report['open'].items()],
    )  # fmt: skip
    text += 'Memory against the length of the bag, writing bag, video, csv and html:\n\n'
    return text + rows(
        ('length', 'frames', 'peak MB', 'network busy'),
        [(f'{n}x', r['frames'], f'{r["peak_mb"]:.0f}', f'{100 * r["network_busy"]:.1f} %')
         for n, r in report['memory'].items()],
    )  # fmt: skip


def main() -> None:
    """Measure, write the figures, and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--video', type=Path)
    parser.add_argument('--frames', type=int, default=40)
    parser.add_argument('--bare', type=int, default=15, help='runs of the bare network each time')
    parser.add_argument('--lengths', default='1,4,16', help='lengths for memory, in --frames')
    parser.add_argument('--checkpoint', default='demo')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--out', type=Path, help='folder for replay.json and replay.md')
    parser.add_argument('--measure', choices=('open', 'replay'), help=argparse.SUPPRESS)
    parser.add_argument('--source', help=argparse.SUPPRESS)
    parser.add_argument('--drive-out', help=argparse.SUPPRESS)
    parser.add_argument('--write', default='csv', help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure = measure_open if arguments.measure == 'open' else measure_replay
        sys.stdout.write(json.dumps(measure(arguments)) + '\n')
        return
    if arguments.video is None:
        parser.error('give a --video to make drives from')
    report = measure_all(arguments)
    text = markdown(report)
    sys.stdout.write(text)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        content = json.dumps(report, indent=1) + '\n'
        (arguments.out / 'replay.json').write_text(content, encoding='utf-8')
        (arguments.out / 'replay.md').write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
