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

"""A generated clip as a folder of images and labels, to evaluate on as on recorded data."""

from __future__ import annotations

from pathlib import Path

import cv2

from maskomaly_ros.demo.scenes import generate_clip
from maskomaly_ros.errors import MaskomalyError


def write_clip(
    folder: Path,
    seed: int,
    frames: int,
    size: tuple[int, int] = (360, 640),
    rate: float = 15.0,
    *,
    obstacles: bool = True,
) -> None:
    """Write a clip as ``images/{name}.jpg``, ``labels/{name}.png`` and ``semantic/{name}.png``.

    The first two are what the layout ``plain`` reads: labels are 0 not anomaly, 1 anomaly, 255
    ignore; semantic labels are as in SceneFrame. ``{name}`` is the number of the frame.

    Args:
        folder: is made where it is missing; files of the same names are replaced.
        seed: which scene.
        frames: how many frames.
        size: (height, width) in pixels.
        rate: frames per second.
        obstacles: let obstacles appear.

    Raises:
        MaskomalyError: a file cannot be written, or the size is out of range.
    """
    for part in ('images', 'labels', 'semantic'):
        (folder / part).mkdir(parents=True, exist_ok=True)
    clip = generate_clip(seed, frames, rate=rate, size=size, obstacles=obstacles)
    for index, frame in enumerate(clip):
        name = f'{index:06d}'
        bgr = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
        written = (
            cv2.imwrite(
                str(folder / 'images' / f'{name}.jpg'), bgr, (cv2.IMWRITE_JPEG_QUALITY, 95)
            )
            and cv2.imwrite(str(folder / 'labels' / f'{name}.png'), frame.anomaly)
            and cv2.imwrite(str(folder / 'semantic' / f'{name}.png'), frame.labels)
        )
        if not written:
            raise MaskomalyError(f'cannot write frame {name} to {folder}: is the disk full?')
