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

"""What a replay has done so far: one line of JSON a frame, so that it can go on after any end.

The journal is all that tables, events and the page are made from. A `part` line says that the
files of all frames before it are complete; what follows the last one is done again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.obstacles import Obstacle


@dataclass(frozen=True)
class FrameRecord:
    """What is kept of one finished frame.

    Attributes:
        index: position in the source.
        camera: topic, or name of the source outside bags.
        stamp_ns: of the frame's header.
        name: of the frame, such as its file.
        width: in pixels.
        height: in pixels.
        max_score: largest score of the frame.
        mean_score: mean score of the frame.
        area: pixels above the threshold.
        obstacles: the listed obstacles, largest first.
        seconds: spent on it by stage: decode, network, scoring, write.

    """

    index: int
    camera: str
    stamp_ns: int
    name: str
    width: int
    height: int
    max_score: float
    mean_score: float
    area: int
    obstacles: tuple[Obstacle, ...]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class ProblemRecord:
    """Something that was lost on the way.

    Attributes:
        index: position in the source.
        name: what it is called.
        stage: `reading`, `network` or `writing`.
        reason: what was wrong.
        frames: how many frames are lost by it.

    """

    index: int
    name: str
    stage: str
    reason: str
    frames: int = 1


@dataclass(frozen=True)
class Part:
    """A stretch of frames whose files are complete.

    Attributes:
        number: from 0.
        next_index: index of the first frame after it.
        messages: copied messages so far.
        files: what each output notes about its files, by name of the output.

    """

    number: int
    next_index: int
    messages: int
    files: Mapping[str, Any] = field(default_factory=dict)


class Journal:
    """The journal of one output folder.

    Args:
        path: the file.
        identity: what must be the same for a rerun to go on; None to read what is complete, and
            change nothing.

    Raises:
        MaskomalyError: the file belongs to something else.

    """

    def __init__(self, path: Path, identity: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.parts: list[Part] = []
        self.is_complete = False
        self._end: int | None = None  # of what is read; None for all there is
        if identity is None:
            self._end = self._scan({})
            return
        identity = json.loads(json.dumps(identity))
        keep = self._scan(identity) if path.exists() else 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._kept = keep
        self._file = path.open('r+b' if keep else 'wb', buffering=0)
        self._file.truncate(keep)
        self._file.seek(keep)
        if not keep:
            self._write({'kind': 'start', 'identity': identity})
            self._kept = self._file.tell()

    def _scan(self, identity: Mapping[str, Any]) -> int:
        """Return how many bytes are complete; 0 where the file has no whole line."""
        place = keep = 0
        with self.path.open('rb') as stream:
            for line in stream:
                place += len(line)
                record = _parsed(line)
                if record is None:
                    break
                if record['kind'] == 'start':
                    before = record.get('identity', {})
                    changed = [k for k, v in identity.items() if before.get(k) != v]
                    if changed:
                        raise MaskomalyError(
                            f'{self.path.parent.parent} holds another replay: '
                            + ', '.join(
                                f'{k} was {before.get(k)!r}, now {identity[k]!r}' for k in changed
                            )
                            + '. Give another folder, or start again with --restart'
                        )
                    keep = place
                elif record['kind'] == 'part':
                    record.pop('kind')
                    self.parts.append(Part(**record))
                    keep = place
                elif record['kind'] == 'end':
                    self.is_complete = True
                    keep = place
        return keep

    @property
    def identity(self) -> dict[str, Any]:
        """What the replay is of."""
        with self.path.open('rb') as stream:
            return dict((_parsed(stream.readline()) or {}).get('identity', {}))

    @property
    def next_index(self) -> int:
        """Index of the first frame that is not finished."""
        return self.parts[-1].next_index if self.parts else 0

    @property
    def messages(self) -> int:
        """Copied messages that are finished."""
        return self.parts[-1].messages if self.parts else 0

    def add(self, record: FrameRecord | ProblemRecord) -> None:
        """Append a finished frame, or a problem."""
        kind = 'frame' if isinstance(record, FrameRecord) else 'problem'
        self._write({'kind': kind, **asdict(record)})

    def add_part(self, part: Part) -> None:
        """Say that the files up to here are complete, and make sure that it is on the disk."""
        self._write({'kind': 'part', **asdict(part)})
        os.fsync(self._file.fileno())
        self._kept = self._file.tell()
        self.parts.append(part)

    def roll_back(self) -> None:
        """Forget what came after the last part."""
        self._file.truncate(self._kept)
        self._file.seek(self._kept)

    def complete(self) -> None:
        """Say that there is nothing left to do."""
        self._write({'kind': 'end'})
        self.is_complete = True

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def frames(self) -> Iterator[FrameRecord]:
        """Read the finished frames."""
        for record in self._records('frame'):
            record['obstacles'] = tuple(Obstacle(**o) for o in record['obstacles'])
            yield FrameRecord(**record)

    def problems(self) -> Iterator[ProblemRecord]:
        """Read the problems."""
        return (ProblemRecord(**record) for record in self._records('problem'))

    def _records(self, kind: str) -> Iterator[dict[str, Any]]:
        with self.path.open('rb') as stream:
            for line in stream:
                record = _parsed(line)
                if record is None or (self._end is not None and stream.tell() > self._end):
                    return
                if record.pop('kind') == kind:
                    yield record

    def _write(self, record: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(record, separators=(',', ':')).encode() + b'\n')


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return a line; None where it was cut off, or is none of ours."""
    try:
        record = json.loads(line) if line.endswith(b'\n') else None
    except ValueError:
        return None
    return record if isinstance(record, dict) and 'kind' in record else None
