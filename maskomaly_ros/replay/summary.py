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

"""What came of a replay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from maskomaly_ros.replay.events import Event, events_of
from maskomaly_ros.replay.folder import read_journal
from maskomaly_ros.replay.journal import Journal, ProblemRecord


@dataclass(frozen=True)
class ReplaySummary:
    """What became of a replay.

    Attributes:
        folder: of the results.
        frames: finished frames, those of earlier calls included.
        problems: everything that was lost, by name.
        is_complete: whether the source was read to its end.
        left_out: image topics that were not read, and why.
        processed: frames of this call.
        noted: problems of this call, which stand last among `problems` and were logged.
        seconds: this call took for them, from the first read to the last write.
        busy: seconds of these that each stage worked: reading, network, and each output.
        finishing: seconds for joining videos, tables and the page.
        backends: what ran the network in this call.

    """

    folder: Path
    frames: int
    problems: tuple[ProblemRecord, ...]
    is_complete: bool
    left_out: Mapping[str, str] = field(default_factory=dict)
    processed: int = 0
    noted: int = 0
    seconds: float = 0.0
    busy: Mapping[str, float] = field(default_factory=dict)
    finishing: float = 0.0
    backends: tuple[str, ...] = ()

    @property
    def network_share(self) -> float:
        """Share of the time that the network was busy."""
        return self.busy.get('network', 0.0) / self.seconds if self.seconds else 0.0

    @property
    def lost(self) -> int:
        """Number of frames that were lost; with those that are finished, all there are."""
        return sum(problem.frames for problem in self.problems)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary for JSON; of events the number alone."""
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        return content | {
            'folder': str(self.folder),
            'problems': [asdict(problem) for problem in self.problems],
            'left_out': dict(self.left_out),
            'events': sum(1 for _ in self.events()),
        }

    def events(self) -> Iterator[Event]:
        """Find the obstacles that were seen over consecutive frames."""
        return events_of(read_journal(self.folder))


def summarize(folder: Path, journal: Journal, **values: Any) -> ReplaySummary:
    """Return what stands in a journal; `values` are those of this call."""
    return ReplaySummary(
        folder,
        sum(1 for _ in journal.frames()),
        tuple(journal.problems()),
        journal.is_complete,
        **values,
    )
