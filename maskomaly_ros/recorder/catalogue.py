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

"""The folder of recordings: what is in it, what is pinned, what has to go; its index.

    NAME/               one recording: a rosbag2 (NAME.mcap, metadata.yaml) with, beside it,
        event.json      what is known of it
        event.jpg       what fired it, with its outline
        pinned          is there where it is never deleted by itself
    events.parquet      the events of all, in the columns of `maskomaly mine`
    .partial/           what is not whole: under way, interrupted, or about to be deleted

A recording comes and goes by renaming its folder, so that it is there as a whole or not at all,
whenever the process or the machine stops. The index is made from the recordings alone.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

import maskomaly_ros
from maskomaly_ros.drives.find import EVENT_FACTS as FACTS
from maskomaly_ros.drives.find import PARTIAL as _PARTIAL
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.locks import held
from maskomaly_ros.recorder.writing import complete, sync
from maskomaly_ros.replay import tables
from maskomaly_ros.replay.events import Event

_LOG = logging.getLogger(__name__)

PICTURE, INDEX = 'event.jpg', 'events.parquet'
_PIN, _SEEN, _LOCK = 'pinned', 'seen_again.json', '.lock'
_NAME = re.compile(r'[0-9A-Za-z][0-9A-Za-z_.-]{0,119}')
_MOST_BYTES = 1 << 22  # of a file with facts


@dataclass(frozen=True)
class Cause:
    """What started or extended a recording.

    Attributes:
        kind: `obstacle`, `service`, `topic` or `condition`.
        reason: in words.
        received_ns: when.

    """

    kind: str
    reason: str
    received_ns: int


@dataclass(frozen=True)
class Recording:
    """What is known of a recording.

    Attributes:
        name: of its folder.
        causes: what started it, then what extended it.
        start_ns: when its first message was received; latched ones are older.
        end_ns: when its last message was received.
        messages: number of messages by topic.
        size: bytes of the bag.
        lost: messages that were dropped because the disk was too slow.
        is_interrupted: the process ended before it was complete.
        cut: why it ended before its time; empty where it did not.
        events: obstacles that fired.
        novelty: distance, 0 to 1, of the newest of them from all that was kept before; 1 where
            nobody knows.
        embeddings: one for each event; empty where there is none.
        checkpoint: of the network.
        checkpoint_sha256: of its weights.
        queries_sha256: of its queries file.
        software: version of this package.

    """

    name: str
    causes: tuple[Cause, ...]
    start_ns: int = 0
    end_ns: int = 0
    messages: dict[str, int] = field(default_factory=dict)
    size: int = 0
    lost: int = 0
    is_interrupted: bool = False
    cut: str = ''
    events: tuple[Event, ...] = ()
    novelty: float = 1.0
    embeddings: tuple[tuple[float, ...], ...] = ()
    checkpoint: str = ''
    checkpoint_sha256: str = ''
    queries_sha256: str = ''
    software: str = maskomaly_ros.__version__

    @property
    def score(self) -> float:
        """Highest score of its events; 1 for what a person asked for."""
        return max((event.peak_score for event in self.events), default=1.0)

    @property
    def interest(self) -> float:
        """Score times novelty: what is deleted last has most."""
        return self.score * self.novelty

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end_ns - self.start_ns) / 1e9

    @property
    def camera(self) -> str:
        """Camera of its first event; empty where it has none."""
        return self.events[0].camera if self.events else ''


_ADAPTER = TypeAdapter(Recording)


@dataclass(frozen=True)
class Sightings:
    """How often what a recording shows was seen again, and not recorded.

    Attributes:
        count: number of times.
        last_ns: when last; 0 for never.

    """

    count: int = 0
    last_ns: int = 0


class Catalogue:
    """A folder of recordings.

    Args:
        folder: of the recordings.

    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self._partial = self.folder / _PARTIAL
        self._hold: ExitStack | None = None

    def prepare(self) -> None:
        """Make the folder, take hold of it, and put in order what an interrupted process left.

        Raises:
            MaskomalyError: it cannot be made, nothing can be written there, or another process
                records there.

        """
        tables.import_pyarrow()
        try:
            self._partial.mkdir(parents=True, exist_ok=True)
            if self._hold is None:  # or a second one takes what is under way for interrupted
                hold = ExitStack()
                hold.enter_context(held(self.folder / _LOCK, f'the folder {self.folder}'))
                self._hold = hold
            for left in sorted(self._partial.iterdir()):
                self._recover(left)
            self.write_index()
        except OSError as error:
            raise MaskomalyError(f'cannot write to {self.folder}: {error.strerror}') from error

    def let_go(self) -> None:
        """Let another process record here."""
        if self._hold is not None:
            self._hold.close()
        self._hold = None

    def recordings(self) -> list[Recording]:
        """Return the recordings that are whole, the oldest first.

        Raises:
            MaskomalyError: the folder cannot be read.

        """
        try:
            folders = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        except OSError as error:
            raise MaskomalyError(
                f'{self.folder} is no folder of recordings: {error.strerror}'
            ) from error
        found = [read_facts(path / FACTS) for path in folders if (path / FACTS).is_file()]
        return sorted((r for r in found if r is not None), key=lambda r: (r.start_ns, r.name))

    def has(self, name: str) -> bool:
        """Whether there is a recording of this name."""
        return bool(_NAME.fullmatch(name)) and (self.folder / name / FACTS).is_file()

    def path(self, name: str) -> Path:
        """Return the folder of a recording.

        Raises:
            MaskomalyError: there is none of this name.

        """
        if not self.has(name):
            raise MaskomalyError(f'{self.folder} has no recording {name!r}')
        return self.folder / name

    def new_partial(self, name: str) -> Path:
        """Return where to write a new recording; its last part is its name, which may be longer.

        Raises:
            MaskomalyError: the name is none.

        """
        if not _NAME.fullmatch(name):
            raise MaskomalyError(f'{name!r} is no name of a recording')
        number, chosen = 2, name
        while (self.folder / chosen).exists() or (self._partial / chosen).exists():
            number, chosen = number + 1, f'{name}_{number}'
        self._partial.mkdir(parents=True, exist_ok=True)
        return self._partial / chosen

    def add(self, partial: Path, recording: Recording) -> None:
        """Let a recording that is whole appear, and write the index.

        Raises:
            OSError: the disk does not take it.

        """
        write_facts(partial / FACTS, recording)
        sync(partial)
        partial.rename(self.folder / partial.name)
        sync(self.folder)
        self.write_index()

    def is_pinned(self, name: str) -> bool:
        """Whether a recording is never deleted by itself."""
        return (self.folder / name / _PIN).exists()

    def pin(self, name: str, *, pinned: bool = True) -> None:
        """Keep a recording whatever comes, or no longer so.

        Raises:
            MaskomalyError: there is none of this name, or nothing can be written there.

        """
        mark = self.path(name) / _PIN
        try:
            if pinned:
                mark.touch()
            else:
                mark.unlink(missing_ok=True)
        except OSError as error:
            raise MaskomalyError(f'cannot write {mark}: {error.strerror}') from error

    def delete(self, name: str) -> None:
        """Delete a recording, pinned or not.

        Raises:
            MaskomalyError: there is none of this name, or it cannot be deleted.

        """
        path = self.path(name)
        try:
            self._remove(path)
            self.write_index()
        except OSError as error:
            raise MaskomalyError(f'cannot delete {path}: {error.strerror}') from error

    def sightings(self, name: str) -> Sightings:
        """Return how often the thing that a recording shows was seen again."""
        try:
            content = json.loads((self.folder / name / _SEEN).read_text(encoding='utf-8'))
            return Sightings(int(content['count']), int(content['last_ns']))
        except (OSError, ValueError, KeyError, TypeError):
            return Sightings()

    def note_sighting(self, name: str, received_ns: int) -> None:
        """Count that what a recording shows was seen again.

        Raises:
            OSError: the disk does not take it.

        """
        path = self.folder / name
        if path.is_dir():
            before = self.sightings(name)
            _write_whole(
                path / _SEEN, json.dumps(asdict(Sightings(before.count + 1, received_ns)))
            )

    def used(self) -> int:
        """Return the bytes of all recordings."""
        return sum(_size(self.folder / r.name) for r in self.recordings())

    def free(self) -> int:
        """Return the bytes that are free on the disk."""
        return shutil.disk_usage(self.folder).free

    def make_room(
        self, wanted: int, most: int, least_free: int, interest: float, *, spare: str = ''
    ) -> bool:
        """Delete what is least interesting until there is room.

        Args:
            wanted: bytes that are to be added, or were already added to the disk elsewhere.
            most: bytes that all recordings may take; 0 for any number.
            least_free: bytes that must stay free on the disk.
            interest: of what wants the room; nothing that has as much goes for it.
            spare: name of a recording that does not go.

        Returns:
            Whether there is room now.

        Raises:
            OSError: something cannot be deleted.

        """
        candidates = [
            r
            for r in self.recordings()
            if r.interest < interest and r.name != spare and not self.is_pinned(r.name)
        ]
        candidates.sort(key=lambda r: (-r.interest, -r.start_ns))
        used = self.used()
        has_gone = False
        while (most and used + wanted > most) or self.free() < least_free:
            if not candidates:
                break
            path = self.folder / candidates.pop().name
            used -= _size(path)
            self._remove(path)
            has_gone = True
        if has_gone:
            self.write_index()
        return not ((most and used + wanted > most) or self.free() < least_free)

    def write_index(self) -> None:
        """Write `events.parquet` anew.

        Raises:
            OSError: the disk does not take it.

        """
        temporary = self._partial / f'{INDEX}.{os.getpid()}.tmp'
        self._partial.mkdir(parents=True, exist_ok=True)
        tables.write_rows(temporary, tables.BAG_EVENT_COLUMNS, self._rows())
        temporary.replace(self.folder / INDEX)

    def _rows(self) -> Iterator[dict[str, Any]]:
        for recording in self.recordings():
            shared: dict[str, Any] = {'bag': recording.name}
            if (self.folder / recording.name / PICTURE).is_file():
                shared['thumbnail'] = f'{recording.name}/{PICTURE}'
            if not recording.events:  # what somebody asked for
                times = {'start_ns': recording.start_ns, 'end_ns': recording.end_ns}
                yield {**shared, 'event': 0, 'camera': '', **times}
            for number, event in enumerate(recording.events):
                yield {**shared, 'event': number, **tables.event_row(event)}

    def _remove(self, path: Path) -> None:
        """Let a recording vanish at once, and then delete its files."""
        self._partial.mkdir(parents=True, exist_ok=True)
        gone = self._partial / f'{path.name}.deleted'
        shutil.rmtree(gone, ignore_errors=True)
        path.rename(gone)
        shutil.rmtree(gone)

    def _recover(self, left: Path) -> None:
        """Complete an interrupted recording, or delete what it left."""
        if not left.is_dir():
            left.unlink()
            return
        facts = read_facts(left / FACTS)
        bag = left / f'{left.name}.mcap'
        if facts is None or not bag.is_file() or (self.folder / left.name).exists():
            shutil.rmtree(left)
            return
        fresh = self._partial / 'recovering' / left.name
        shutil.rmtree(fresh.parent, ignore_errors=True)
        fresh.parent.mkdir()
        writer = complete(bag, fresh)
        if writer is None:
            shutil.rmtree(fresh.parent)
            shutil.rmtree(left)
            return
        for file in left.iterdir():
            if file.name in (PICTURE, _PIN):
                shutil.copyfile(file, fresh / file.name)
        recording = replace(
            facts,
            name=left.name,
            start_ns=writer.first_ns or 0,
            end_ns=writer.last_ns,
            messages=writer.counts,
            size=writer.size,
            is_interrupted=True,
        )
        write_facts(fresh / FACTS, recording)
        sync(fresh)
        fresh.rename(self.folder / left.name)
        shutil.rmtree(left)
        shutil.rmtree(fresh.parent)
        _LOG.info('%s was interrupted: %d messages of it are saved', left.name,
                  sum(writer.counts.values()))  # fmt: skip


def read_facts(path: Path) -> Recording | None:
    """Return what a file says of a recording; None, with a warning, where it says nothing."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise MaskomalyError(f'it has more than {_MOST_BYTES} bytes')
        recording = _ADAPTER.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, MaskomalyError) as error:
        _LOG.warning('%s is left out: %s', path, str(error).splitlines()[0])
        return None
    return replace(recording, name=path.parent.name)


def write_facts(path: Path, recording: Recording) -> None:
    """Write what is known of a recording.

    Raises:
        OSError: the disk does not take it.

    """
    _write_whole(path, json.dumps(asdict(recording), indent=1))


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f'{path.name}.tmp')
    with temporary.open('w', encoding='utf-8') as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _size(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except OSError:  # it is being deleted
        return 0
