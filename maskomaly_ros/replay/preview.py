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

"""What a replay would read, without replaying."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maskomaly_ros.replay.run import ReplayOptions, open_drive


@dataclass(frozen=True)
class CameraPreview:
    """A camera of a drive.

    Attributes:
        topic: of a bag; empty for videos and folders of images.
        frames: announced frames, broken ones included; None where nobody knows.
        rate: frames per second.
        taken: how many of them are in the piece that was asked for, about.

    """

    topic: str
    frames: int | None
    rate: float
    taken: int | None


@dataclass(frozen=True)
class Preview:
    """What a replay would read.

    Attributes:
        source: the drive.
        cameras: that would be replayed.
        left_out: image topics that would not be read, and why.
        not_copied: topics that were to be copied and cannot be, and why.

    """

    source: Path
    cameras: tuple[CameraPreview, ...]
    left_out: Mapping[str, str]
    not_copied: Mapping[str, str]


def preview(source: str | Path, options: ReplayOptions | None = None) -> Preview:
    """Look at a drive without decoding a frame.

    Raises:
        MaskomalyError: the source or the options cannot be used.

    """
    options = options or ReplayOptions()
    with open_drive(source, options) as opened:
        cameras = []
        for topic in opened.topics or ('',):
            frames, rate = opened.count(topic), opened.rates.get(topic, opened.rate)
            taken = frames
            if frames is not None and not options.piece.is_whole:
                taken = options.piece.about(frames, rate)
            cameras.append(CameraPreview(topic, frames, rate, taken))
        return Preview(opened.path, tuple(cameras), opened.left_out, opened.not_copied)
