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

"""The folder of a replay: which replay it belongs to, and who may write to it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maskomaly_ros.detector import Detector
from maskomaly_ros.drives.source import Source
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.locks import held
from maskomaly_ros.parameters import with_defaults
from maskomaly_ros.replay.journal import Journal
from maskomaly_ros.replay.options import ReplayOptions

WORK = '.replay'


def read_journal(folder: str | Path) -> Journal:
    """Open the journal of a replay for reading.

    Raises:
        MaskomalyError: there is none.

    """
    path = Path(folder) / WORK / 'journal.jsonl'
    if not path.exists():
        raise MaskomalyError(f'{folder} holds no replay: {path} does not exist')
    return Journal(path)


@contextmanager
def open_journal(
    out: Path,
    source: Source,
    options: ReplayOptions,
    detector: Detector,
    regions: Mapping[str, str],
) -> Iterator[Journal]:
    """Open the journal of a folder, new or to go on with, and keep other programs out of it.

    Args:
        out: the folder; new, empty, or that of an earlier replay.
        source: the drive.
        options: of the replay.
        detector: of the replay.
        regions: what tells its regions from others.

    Raises:
        MaskomalyError: the folder is taken, or holds something else.

    """
    path = out / WORK / 'journal.jsonl'
    is_free = not out.exists() or (
        out.is_dir() and all(entry.name == WORK for entry in out.iterdir())
    )
    if not path.exists() and not is_free:
        raise MaskomalyError(f'{out} exists, and holds no replay; give a new or an empty folder')
    with held(out / WORK / 'lock', f'the replay in {out}'):
        journal = _begin_journal(out, path, source, options, detector, regions)
        try:
            yield journal
        finally:
            journal.close()


def _begin_journal(
    out: Path,
    path: Path,
    source: Source,
    options: ReplayOptions,
    detector: Detector,
    regions: Mapping[str, str],
) -> Journal:
    if options.restart and path.exists():
        for entry in (out / WORK).iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != 'lock':
                entry.unlink()
        for name in ('bag', 'scores', 'frames'):
            shutil.rmtree(out / name, ignore_errors=True)
        for file in out.glob('overlay_*.mp4'):
            file.unlink()
    identity: dict[str, Any] = {
        'source': str(source.path.resolve()),
        'files': _fingerprint(source.path),
        'topics': list(source.topics),
        'outputs': sorted(options.outputs),
        'copy': sorted(options.copy),
        'bag_topics': sorted(options.bag_topics),
        'score_format': options.score_format,
        'rate': source.rate,
        'piece': None if source.piece.is_whole else asdict(source.piece),
        'checkpoint': detector.network.sha256,
        'parameters': {
            name: value
            for name, value in with_defaults(options.parameters).items()
            if name not in ('device', 'max_image_pixels', 'autostart', 'camera_topics')
        },
    }
    if regions:
        identity['regions'] = dict(regions)
    try:
        return Journal(path, identity)
    except OSError as error:
        raise MaskomalyError(f'cannot write {path}: {error.strerror}') from error


def _fingerprint(path: Path) -> str:
    """Return what changes when a file of the source does."""
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.sha256(repr(stats).encode()).hexdigest()
