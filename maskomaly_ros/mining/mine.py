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

"""Replay many drives on Ray: one actor for each GPU or share of the CPUs, one table of them all.

    from maskomaly_ros.mining.mine import MineOptions, mine

    report = mine(['s3://fleet/2026-11/'], 'mined', MineOptions(workers=8))

What an actor finds in a drive comes back to the caller, which alone writes to the folder of the
results: the nodes of a cluster need not share a disk with it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskomaly_ros.drives.find import Drive, find_drives
from maskomaly_ros.locks import held
from maskomaly_ros.mining.fleet import Fleet
from maskomaly_ros.mining.options import MineOptions, MineProgress, MineReport
from maskomaly_ros.mining.results import Results, check_folder, lock_of
from maskomaly_ros.parameters import (
    load_settings,
    read_regions,
    temporal_parameters,
    with_defaults,
)
from maskomaly_ros.replay import tables

__all__ = ['MineOptions', 'MineProgress', 'MineReport', 'mine']


def mine(
    sources: Sequence[str],
    out: str | Path,
    options: MineOptions | None = None,
    *,
    stop: threading.Event | None = None,
    progress: Callable[[MineProgress], object] | None = None,
) -> MineReport:
    """Replay many drives on Ray, and write one table of frames, of events and of bags.

    A folder that was mined before is continued: finished drives are skipped, changed and failed
    ones replayed.

    Args:
        sources: paths, globs and URLs, see `find_drives`.
        out: folder for the results; new, empty, or one of an earlier call.
        options: how to mine.
        stop: when set, the drives under way are given up and the tables written.
        progress: called a few times a second.

    Raises:
        MaskomalyError: nothing can be begun: a source, an option or the checkpoint is unusable,
            Ray is missing, or too few CPUs are there. What goes wrong with a drive is in its
            `BagReport`.

    """
    options = options or MineOptions()
    start = time.perf_counter()
    tables.import_pyarrow()
    values = with_defaults(options.parameters)
    read_regions(load_settings(values))
    temporal_parameters(values)
    options = replace(options, parameters=_absolute(options.parameters))
    drives = find_drives(sources)
    folder = Path(out).expanduser()
    check_folder(folder)
    with held(lock_of(folder), f'the mining in {folder}'):
        return _mine(drives, folder, options, start, stop, progress)


def _mine(
    drives: Sequence[Drive],
    folder: Path,
    options: MineOptions,
    start: float,
    stop: threading.Event | None,
    progress: Callable[[MineProgress], object] | None,
) -> MineReport:
    results = Results(folder, options)
    before = {drive: results.finished(drive) for drive in drives}
    reports = {drive: report for drive, report in before.items() if report is not None}
    skipped = len(reports)
    fleet = Fleet(
        [drive for drive in drives if drive not in reports],
        results, options, reports, len(drives), stop or threading.Event(), progress,
    )  # fmt: skip
    if len(reports) < len(drives):
        fleet.run()
    results.join(report for report in reports.values() if report.status == 'failed')
    return MineReport(
        results.folder,
        tuple(reports[drive] for drive in drives if drive in reports),
        skipped,
        len(drives),
        time.perf_counter() - start,
        {n: (f, s) for n, (f, s) in sorted(fleet.throughput.items())},
    )


def _absolute(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters whose local paths mean the same in every process."""

    def absolute(text: str) -> str:
        path = Path(text).expanduser()
        return str(path.resolve()) if text and path.exists() else text

    found = dict(parameters)
    for name in ('checkpoint', 'queries_file'):
        if found.get(name):
            found[name] = absolute(str(found[name]))
    for name in ('road_regions', 'ego_regions'):
        if found.get(name):
            found[name] = [absolute(region) for region in found[name]]
    return found
