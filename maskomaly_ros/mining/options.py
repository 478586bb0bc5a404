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

"""How to mine, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from maskomaly_ros.drives.piece import WHOLE, Piece
from maskomaly_ros.errors import MaskomalyError


@dataclass(frozen=True)
class MineOptions:
    """How to mine.

    Attributes:
        parameters: of the node, by name; those left out have the node's defaults.
        topics: camera topics of bags; None takes every camera.
        rate: frames per second of folders of images; None takes 10.
        piece: which frames of each drive to take.
        batch_size: frames that share one run of the network.
        top: thumbnails to keep, of the events with the highest scores.
        retries: how often a drive is tried again.
        workers: actors; None takes one a GPU, or what the CPUs are enough for.
        cpus_per_worker: CPUs and threads of an actor; None shares out all there are, two each
            where `workers` is not given either.
        address: of a Ray cluster, such as `auto` or `ray://host:10001`; None starts Ray here.
        ramp_seconds: after which one more actor begins, to see how the throughput grows.
        restart: forget what earlier calls left in the folder.

    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    topics: tuple[str, ...] | None = None
    rate: float | None = None
    piece: Piece = WHOLE
    batch_size: int = 1
    top: int = 50
    retries: int = 2
    workers: int | None = None
    cpus_per_worker: int | None = None
    address: str | None = None
    ramp_seconds: float = 0.0
    restart: bool = False

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for name, least in (
            ('batch_size', 1), ('top', 0), ('retries', 0), ('workers', 1), ('cpus_per_worker', 1),
            ('ramp_seconds', 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < least:
                raise MaskomalyError(f'{name} {value} must be {least} at least')


@dataclass(frozen=True)
class BagReport:
    """What became of a drive.

    Attributes:
        bag: its path or URL.
        status: `done`, `problems` (replayed to its end, with losses) or `failed`.
        frames: finished frames.
        events: their number.
        problems: number of losses, as in `ReplaySummary.problems`.
        reason: of the failure, or the first problem.
        attempts: of the call that finished it or gave it up.
        seconds: of the last attempt, download included.
        host: where it ran.

    """

    bag: str
    status: str
    frames: int = 0
    events: int = 0
    problems: int = 0
    reason: str = ''
    attempts: int = 1
    seconds: float = 0.0
    host: str = ''


@dataclass(frozen=True)
class MineReport:
    """What became of a call of `mine`.

    Attributes:
        folder: of the results.
        bags: of the sources of this call; those that were not begun are missing.
        skipped: how many of them an earlier call had finished.
        total: drives that the sources are.
        seconds: of this call.
        throughput: frames and seconds by the number of actors at work.

    """

    folder: Path
    bags: tuple[BagReport, ...]
    skipped: int
    total: int
    seconds: float
    throughput: Mapping[int, tuple[int, float]]

    @property
    def is_complete(self) -> bool:
        """Whether every drive was replayed without a loss."""
        return len(self.bags) == self.total and all(b.status == 'done' for b in self.bags)

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return asdict(self) | {
            'folder': str(self.folder),
            'is_complete': self.is_complete,
            'throughput': [
                {'workers': n, 'frames': frames, 'seconds': seconds}
                for n, (frames, seconds) in self.throughput.items()
            ],
        }


@dataclass(frozen=True)
class MineProgress:
    """Where a call of `mine` stands.

    Attributes:
        done: drives behind us, failed ones included.
        total: drives.
        frames: of this call.
        workers: process id and drive of each actor at work.

    """

    done: int
    total: int
    frames: int
    workers: Mapping[int, str]
