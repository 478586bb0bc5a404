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

"""What a mining would do, without doing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskomaly_ros.drives.find import find_drives, local_path
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.mining.options import MineOptions
from maskomaly_ros.mining.results import finished_in
from maskomaly_ros.mining.worker import replay_options
from maskomaly_ros.replay.preview import Preview, preview


@dataclass(frozen=True)
class DriveSurvey:
    """A drive that would be mined.

    Attributes:
        url: a local path, or a URL of fsspec.
        is_finished: whether an earlier call has finished it as it is now.
        preview: what would be read; None of a drive that is not on this machine, or unusable.
        reason: why it cannot be replayed.

    """

    url: str
    is_finished: bool
    preview: Preview | None = None
    reason: str = ''


def survey(
    sources: Sequence[str], out: str | Path | None, options: MineOptions | None = None
) -> Iterator[DriveSurvey]:
    """Yield the drives that sources are, and what is in those that are on this machine.

    Args:
        sources: paths, globs and URLs, see `find_drives`.
        out: folder of the results, which may be missing; nothing is written to it. None: none.
        options: how to mine.

    Raises:
        MaskomalyError: a source does not exist, holds no drive, or cannot be listed.

    """
    options = options or MineOptions()
    folder = None if out is None else Path(out).expanduser()
    for drive in find_drives(sources):
        is_finished = (
            folder is not None and not options.restart and finished_in(folder, drive) is not None
        )
        path = local_path(drive.url)
        if path is None:
            yield DriveSurvey(drive.url, is_finished)
            continue
        try:
            seen = preview(path, replay_options(options, path))
        except MaskomalyError as error:
            yield DriveSurvey(drive.url, is_finished, reason=str(error))
        else:
            yield DriveSurvey(drive.url, is_finished, seen)
