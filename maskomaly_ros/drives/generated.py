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

"""A generated scene in the form of a recorded drive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from maskomaly_ros.drives.source import Source, SourceFrame
from maskomaly_ros.scenes.scene import generate_clip


class GeneratedClip(Source):
    """A generated scene, rendered frame by frame as it is read.

    Args:
        seed: which scene.
        frames: how many frames.
        rate: frames per second.
        size: (height, width) in pixels.

    """

    def __init__(
        self, seed: int, frames: int, *, rate: float = 15.0, size: tuple[int, int] = (360, 640)
    ) -> None:
        super().__init__(Path(f'generated:{seed}'))
        self.rate = rate
        self._seed = seed
        self._count = frames
        self._size = size

    def __len__(self) -> int:
        return self._count

    def _frames(self) -> Iterator[SourceFrame]:
        clip = generate_clip(self._seed, self._count, rate=self.rate, size=self._size)
        for index, frame in enumerate(clip):
            yield SourceFrame(index, round(frame.stamp * 1e9), frame.image, f'frame {index}')
