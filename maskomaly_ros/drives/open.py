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

"""Open a recorded drive, whatever it is: a bag, a video, a folder of images.

Every frame comes out, in order, as RGB with its own stamp. A frame that cannot be decoded is
named in `Source.problems` and in the log, and the next one follows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from maskomaly_ros.drives.bags import BagSource
from maskomaly_ros.drives.images import ImageFolder, natural_order
from maskomaly_ros.drives.piece import WHOLE, Piece
from maskomaly_ros.drives.source import (
    BAG_SUFFIXES,
    DEFAULT_RATE,
    EVERY_CAMERA,
    MAX_PIXELS,
    Source,
)
from maskomaly_ros.drives.videos import VideoSource
from maskomaly_ros.errors import MaskomalyError

# Compression of a whole file of a bag.
PACKED_SUFFIXES = frozenset(('.zstd', '.zst', '.lz4'))


def open_source(
    path: str | Path,
    *,
    topics: str | Sequence[str] | None = None,
    rate: float | None = None,
    copy: Sequence[str] = (),
    max_pixels: int = MAX_PIXELS,
    no_cameras: Collection[str] = (),
    piece: Piece = WHOLE,
) -> Source:
    """Open a video file, a folder of images or a rosbag.

    Args:
        path: a video; a folder of images, which are read in natural order (`2.png` before
            `10.png`); a rosbag2 folder; one `.mcap` or `.db3` file; a ROS 1 `.bag`.
        topics: image topics of a bag, raw or compressed; None takes the first that it holds,
            `EVERY_CAMERA` one for each camera, raw where there are both.
        rate: frames per second of a folder of images (default 10) or of a video without good
            times of its own. A bag has stamps, so rate is refused there.
        copy: of a bag, topics to pass on beside the frames, see `BagSource`; '*' is all others.
        max_pixels: larger frames are refused as damaged.
        no_cameras: of a bag, image topics that `EVERY_CAMERA` leaves out.
        piece: the frames to take.

    Raises:
        MaskomalyError: the path is missing, of no known kind, or holds no frames.

    """
    path = Path(path).expanduser()
    source = _open(path, topics, rate, copy, max_pixels, no_cameras)
    source.piece = piece
    return source


def _open(
    path: Path,
    topics: str | Sequence[str] | None,
    rate: float | None,
    copy: Sequence[str],
    max_pixels: int,
    no_cameras: Collection[str],
) -> Source:
    if rate is not None and not 0 < rate <= 1000:
        raise MaskomalyError(f'rate {rate} is out of range: above 0, up to 1000 frames per second')
    if not path.exists():
        raise MaskomalyError(f'{path} does not exist')
    bags = _bag_files(path)
    if bags:
        if rate is not None:
            raise MaskomalyError(f'{path} is a bag, which has stamps of its own; leave rate out')
        chosen = [topics] if isinstance(topics, str) else topics
        return BagSource(
            path, bags, chosen, copy=copy, max_pixels=max_pixels, no_cameras=no_cameras
        )
    if (topics is not None and topics != EVERY_CAMERA) or copy:
        raise MaskomalyError(
            f'{path} is no bag, so it has no topics {topics or copy}; leave them out'
        )
    if path.is_dir():
        return ImageFolder(path, rate or DEFAULT_RATE, max_pixels)
    return VideoSource(path, rate, max_pixels)


def is_bag(path: str | Path) -> bool:
    """Return whether a path is a bag, by its name and its files."""
    path = Path(path).expanduser()
    return path.exists() and bool(_bag_files(path))


def _bag_files(path: Path) -> list[Path]:
    """Return what makes up the bag at a path; empty where there is no bag."""
    if path.is_file():
        return [path] if _kind(path) in BAG_SUFFIXES else []
    if (path / 'metadata.yaml').is_file():
        return [path]
    # A recording that was cut off has no metadata.yaml; its files can be read one by one. A
    # folder may also hold the parts of a split ROS 1 bag.
    files = [p for p in natural_order(path.iterdir()) if _kind(p) in BAG_SUFFIXES]
    if len({_kind(p) for p in files}) > 1:
        raise MaskomalyError(
            f'{path} holds bags of several kinds: {", ".join(p.name for p in files)}; open one'
        )
    return files


def _kind(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix in PACKED_SUFFIXES else path.suffix
