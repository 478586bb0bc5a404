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

"""Drives to mine: what paths, globs and URLs stand for, and how they get to this machine."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskomaly_ros.drives.images import IMAGE_SUFFIXES
from maskomaly_ros.drives.open import PACKED_SUFFIXES
from maskomaly_ros.drives.source import BAG_SUFFIXES, reason_of
from maskomaly_ros.errors import MaskomalyError

VIDEO_SUFFIXES = frozenset(('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm'))
_SUFFIXES = BAG_SUFFIXES | VIDEO_SUFFIXES
# Folders that have one hold results of ours, not drives.
_RESULTS = frozenset(('.mine', '.replay'))
# Of the event recorder: what stands beside the bag of an event, and where bags are not whole.
EVENT_FACTS = 'event.json'
PARTIAL = '.partial'
_METADATA = 'metadata.yaml'


@dataclass(frozen=True)
class Drive:
    """A drive to replay.

    Attributes:
        url: a local path, or a URL of fsspec.
        fingerprint: changes when the drive does.
        name: of a recording of the event recorder, which is the same wherever it is copied to;
            empty for any other drive.

    """

    url: str
    fingerprint: str
    name: str = ''

    @property
    def key(self) -> str:
        """Name of its files."""
        if self.name:
            return f'{self.name}-{self.fingerprint}'
        name = re.sub(r'[^\w.-]+', '_', self.url.rpartition('::')[0] or self.url)
        return f'{name[-80:].strip("._")}-{short_hash(self.url)}'


def find_drives(sources: Iterable[str]) -> list[Drive]:
    """Return the drives that paths, globs and URLs stand for.

    A folder with `metadata.yaml` or with images is one drive; any other folder is searched for
    drives: such folders, files of bags, videos. What links lead to is taken once.

    Raises:
        MaskomalyError: a source does not exist, holds no drive, or cannot be listed.

    """
    found: dict[str, Drive] = {}
    seen: set[str] = set()
    for source in sources:
        empty = True
        try:
            system, path, suffix = _open(source)
            is_glob = any(letter in path for letter in '*?[') and not system.exists(path)
            for match in sorted(system.glob(path)) if is_glob else [path]:
                if not system.exists(match):
                    raise MaskomalyError(f'{source} does not exist')
                # A file that is given by name is one, whatever it is called.
                suffixes = None if not is_glob and not system.isdir(match) else _SUFFIXES
                for place in _search(system, match, seen, suffixes):
                    empty = False
                    if place is None:
                        continue
                    url = _url(system, place, suffix)
                    name = _event_name(system, place)
                    fingerprint = (_event_fingerprint if name else _fingerprint)(system, place)
                    drive = Drive(url, fingerprint, name)
                    found.setdefault(drive.key if name else url, drive)
        except MaskomalyError:
            raise
        except Exception as error:  # each file system has errors of its own
            raise MaskomalyError(f'{source} cannot be listed: {reason_of(error)}') from error
        if empty:
            raise MaskomalyError(f'{source} holds no bag, video or folder of images')
    return list(found.values())


def _open(source: str) -> tuple[Any, str, str]:
    """Return the file system of a source, the path in it, and the rest of a chained URL."""
    try:
        import fsspec
    except ImportError as error:
        raise MaskomalyError('mining needs fsspec: pip install fsspec') from error
    system, path = fsspec.core.url_to_fs(source)
    _, separator, rest = source.partition('::')
    if rest and '://' not in rest:
        rest = str(Path(rest).expanduser().resolve())
    return system, path, separator + rest


def _is_local(system: Any) -> bool:
    return 'file' in ((system.protocol,) if isinstance(system.protocol, str) else system.protocol)


def _url(system: Any, path: str, suffix: str) -> str:
    return path if _is_local(system) and not suffix else system.unstrip_protocol(path) + suffix


def _search(
    system: Any, path: str, seen: set[str], suffixes: frozenset[str] | None = _SUFFIXES
) -> Iterator[str | None]:
    """Yield the drives below a path, each folder and file once; None for one that was seen.

    Links are followed, and may lead in circles.
    """
    if _is_local(system):
        real = os.path.realpath(path)
        if real in seen:
            yield None
            return
        seen.add(real)
    if not system.isdir(path):
        if suffixes is None or _suffix(path) in suffixes:
            yield path
        return
    entries = sorted(
        system.ls(path, detail=True), key=lambda e: (bool(e.get('islink')), str(e['name']))
    )
    files = [e['name'] for e in entries if e['type'] != 'directory']
    names = {entry['name'].rstrip('/').rpartition('/')[2] for entry in entries}
    if names & _RESULTS:
        return
    if 'metadata.yaml' in names or any(_suffix(name) in IMAGE_SUFFIXES for name in files):
        yield path
        return
    for entry in entries:
        inner = entry['name'].rstrip('/')
        if inner != path.rstrip('/') and inner.rpartition('/')[2] != PARTIAL:
            yield from _search(system, entry['name'].rstrip('/'), seen)


def _suffix(name: str) -> str:
    path = Path(name)
    return Path(path.stem).suffix if path.suffix in PACKED_SUFFIXES else path.suffix.lower()


def _event_name(system: Any, path: str) -> str:
    """Return the name of a recording of the event recorder; empty where it is none."""
    folder = path.rstrip('/')
    files = (f'{folder}/{EVENT_FACTS}', f'{folder}/{_METADATA}')
    is_event = system.isdir(path) and all(system.exists(file) for file in files)
    return re.sub(r'[^\w.-]+', '_', folder.rpartition('/')[2])[:120] if is_event else ''


def _event_fingerprint(system: Any, path: str) -> str:
    """Return what changes when the bag does, and not when it is copied, pinned or counted."""
    folder = path.rstrip('/')
    sizes = [
        (name.rpartition('/')[2], system.size(name))
        for name in sorted(system.find(path))
        if name.endswith('.mcap')
    ]
    return short_hash((sizes, bytes(system.cat_file(f'{folder}/{_METADATA}'))))


def _fingerprint(system: Any, path: str) -> str:
    """Return what changes when a file of the drive does, as far as the file system knows."""
    facts = ('size', 'mtime', 'LastModified', 'last_modified', 'updated', 'ETag', 'etag', 'CRC')
    files = system.find(path, detail=True)
    return short_hash([(n, *(str(files[n].get(fact)) for fact in facts)) for n in sorted(files)])


def short_hash(value: object) -> str:
    """Return a short name for a value."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def local_path(url: str) -> Path | None:
    """Return where a drive lies on this machine; None where it lies elsewhere."""
    system, path, suffix = _open(url)
    return Path(path) if _is_local(system) and not suffix else None


def fetch_drive(url: str, folder: Path) -> Path:
    """Return where a drive lies on this machine; fetch it if it lies elsewhere."""
    here = local_path(url)
    if here is not None:
        return here
    system, path, _ = _open(url)
    root = folder / (path.rstrip('/').rpartition('/')[2] or 'drive')
    files = system.find(path)
    if not files:
        raise MaskomalyError(f'{url} does not exist')
    for name in files:
        inside = name[len(path) :].strip('/')
        if '..' in inside.split('/'):
            raise MaskomalyError(f'{url} holds a file with .. in its name: {name}')
        target = root / inside if inside else root
        target.parent.mkdir(parents=True, exist_ok=True)
        system.get_file(name, str(target))
    return root
