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

    python benchmarks/replay.py --video drive.mp4 --frames 60 --lengths 1,4,16

Makes bags from a video in a temporary folder. Every figure comes from a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from maskomaly_ros.detector import Detector
from maskomaly_ros.replay.run import OUTPUTS, ReplayOptions, replay
from maskomaly_ros.replay.sources import fit_within, open_source

STEP_NS = 40_000_000


def make_bag(video: Path, path: Path, frames: int, plugin: str, compression: str) -> None:
    """Write frames of a video, again and again, as a bag."""
    from rosbags import rosbag2
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    types, image = store.types, 'sensor_msgs/msg/Image'
    writer = rosbag2.Writer(path, version=9, storage_plugin=rosbag2.StoragePlugin[plugin])
    mode = rosbag2.CompressionMode[compression]
    writer.set_compression(mode, rosbag2.CompressionFormat.ZSTD)
    with writer, open_source(video) as source:
        connection = writer.add_connection('/front/image_raw', image, typestore=store)
        pictures = []
        for frame in source:
            pictures.append(fit_within(frame.image, (640, 360)))
            if len(pictures) == min(frames, 50):
                break
        for index in range(frames):
            pixels = pictures[index % len(pictures)]
            stamp = types['builtin_interfaces/msg/Time'](*divmod((index + 1) * STEP_NS, 10**9))
            header = types['std_msgs/msg/Header'](stamp, 'camera')
            height, width = pixels.shape[:2]
            message = types[image](
                header, height, width, 'rgb8', 0, 3 * width, np.ascontiguousarray(pixels).ravel()
            )
            writer.write(connection, (index + 1) * STEP_NS, store.serialize_cdr(message, image))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure what the command line asks for, in this process."""
    detector = Detector.from_checkpoint(arguments.checkpoint, device=arguments.device)
    start = time.perf_counter()
    with open_source(arguments.source) as source:
        frame = next(iter(source))
        opened = time.perf_counter() - start
        if arguments.measure == 'network':
            detector.detect([frame.image])
            start = time.perf_counter()
            for _ in range(arguments.frames):
                detector.detect([frame.image])
            return {'frames_per_second': arguments.frames / (time.perf_counter() - start)}
    if arguments.measure == 'open':
        start = time.perf_counter()
        with open_source(arguments.source) as source:
            count = sum(1 for _ in source)
        return {'open_s': opened, 'read_ms': 1000 * (time.perf_counter() - start) / count}
    options = ReplayOptions(tuple(arguments.write.split(',')), part_seconds=20)
    summary = replay(arguments.source, arguments.out, options, detector=detector)
    size = sum(p.stat().st_size for p in Path(arguments.out).rglob('*') if p.is_file())
    return {
        'frames': summary.frames,
        'frames_per_second': summary.frames / summary.seconds,
        'network_busy': summary.network_share,
        'busy_ms': {k: 1000 * v / summary.frames for k, v in summary.busy.items()},
        'finishing_s': summary.finishing,
        'peak_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        'written_mb': size / 1e6,
    }


def in_process(common: list[str], *arguments: str) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, *common, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure, and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--video', type=Path)
    parser.add_argument('--frames', type=int, default=60)
    parser.add_argument('--lengths', default='1,4,16', help='lengths for memory, in --frames')
    parser.add_argument('--checkpoint', default='demo')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--json', type=Path, help='write the figures here too')
    parser.add_argument('--measure', choices=('network', 'open', 'replay'), help=argparse.SUPPRESS)
    parser.add_argument('--source', help=argparse.SUPPRESS)
    parser.add_argument('--out', help=argparse.SUPPRESS)
    parser.add_argument('--write', default='csv', help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        sys.stdout.write(json.dumps(measure(arguments)) + '\n')
        return
    if arguments.video is None:
        parser.error('give a --video to make bags from')
    figures: list[dict[str, Any]] = []

    def note(**values: Any) -> None:
        figures.append(values)
        sys.stdout.write(json.dumps(values) + '\n')
        sys.stdout.flush()

    common = ['--frames', str(arguments.frames), '--checkpoint', arguments.checkpoint]
    common += ['--device', arguments.device]
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for plugin, compression in (
            ('MCAP', 'NONE'), ('MCAP', 'STORAGE'), ('MCAP', 'MESSAGE'), ('MCAP', 'FILE'),
            ('SQLITE3', 'NONE'), ('SQLITE3', 'MESSAGE'), ('SQLITE3', 'FILE'),
        ):  # fmt: skip
            bag = base / f'{plugin}_{compression}'
            make_bag(arguments.video, bag, arguments.frames, plugin, compression)
            found = in_process(common, '--measure', 'open', '--source', str(bag))
            note(what='open', storage=plugin, compression=compression, **found)
        bag = base / 'MCAP_NONE'
        found = in_process(common, '--measure', 'network', '--source', str(bag))
        note(what='bare network', **found)
        for number, write in enumerate((*OUTPUTS, ','.join(OUTPUTS))):
            target = ['--out', str(base / f'out{number}'), '--write', write]
            found = in_process(common, '--measure', 'replay', '--source', str(bag), *target)
            note(what='replay', write=write, **found)
        for length in map(int, arguments.lengths.split(',')):
            bag = base / f'long{length}'
            make_bag(arguments.video, bag, length * arguments.frames, 'MCAP', 'NONE')
            target = ['--out', str(base / f'memory{length}'), '--write', 'bag,video,csv,html']
            found = in_process(common, '--measure', 'replay', '--source', str(bag), *target)
            note(what='memory', length=length, **found)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
