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

"""Recorded drives as a stream of frames: videos, folders of images, rosbags.

Every frame comes out, in order, as RGB with its own stamp. A frame that cannot be decoded is
named in `Source.problems` and in the log, and the next one follows.
"""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.encodings import decode_compressed
from maskomaly_ros.errors import MaskomalyError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_LOG = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(
    ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
)
BAG_SUFFIXES = frozenset(('.bag', '.db3', '.mcap'))
# Compression of a whole file of a bag.
PACKED_SUFFIXES = frozenset(('.zstd', '.zst', '.lz4'))
DEFAULT_RATE = 10.0

# Among the topics to read: every camera of the bag.
EVERY_CAMERA = '*'
# A frame of more pixels than this is taken for a damaged header, not for a picture.
MAX_PIXELS = 2**27


@dataclass(frozen=True)
class RawMessage:
    """A message of a bag as it was recorded.

    Attributes:
        topic: where it was recorded from.
        msgtype: such as `sensor_msgs/msg/Image`.
        received_ns: when it was recorded, nanoseconds.
        data: serialized: CDR, or as ROS 1 does.

    """

    topic: str
    msgtype: str
    received_ns: int
    data: bytes


@dataclass(frozen=True)
class SourceFrame:
    """One frame of a recorded drive.

    Attributes:
        index: position in the source, from 0; frames that could not be decoded count.
        stamp_ns: nanoseconds: the header stamp of a bag's message, else the time since the start.
        image: RGB uint8 [H, W, 3].
        name: what to call it in messages and files, such as the file name.
        topic: topic it was recorded from; empty outside bags.
        frame_id: frame of its header; empty outside bags.
        message: what it was decoded from; None outside bags.
        header_ns: stamp of its header as it is, 0 where nobody set it or outside bags.

    """

    index: int
    stamp_ns: int
    image: NDArray[np.uint8]
    name: str
    topic: str = ''
    frame_id: str = ''
    message: RawMessage | None = None
    header_ns: int = 0


@dataclass(frozen=True)
class Problem:
    """Something in a source that could not be read.

    Attributes:
        index: position of the frame, from 0, or where reading ended.
        name: what it is called.
        reason: what is wrong with it.

    """

    index: int
    name: str
    reason: str


class Source(ABC):
    """A recorded drive. Use it in a `with` statement; each iteration starts from the beginning.

    Attributes:
        path: where it was opened.
        rate: nominal frames per second (of one topic).
        topics: the image topics that are read; empty outside bags.
        problems: what could not be read, up to where the latest iteration has come.

    """

    path: Path
    rate: float
    topics: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self._first = 0

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of frames, broken ones included; TypeError where nobody knows it."""

    @abstractmethod
    def _frames(self) -> Iterator[SourceFrame]:
        """Yield the frames from index `self._first`."""

    def __iter__(self) -> Iterator[SourceFrame]:
        return self.frames()

    def frames(self, first: int = 0) -> Iterator[SourceFrame]:
        """Iterate over the frames from an index on; problems before it are not reported."""
        self.problems.clear()
        self._first = first
        return (frame for frame in self._frames() if frame.index >= first)

    def __bool__(self) -> bool:
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 (not every source holds something open)
        """Release what it holds open."""

    def _report(self, index: int, name: str, reason: object) -> None:
        if index < self._first:
            return
        self.problems.append(Problem(index, name, str(reason)))
        _LOG.warning('%s: %s: %s', self.path, name, reason)


def open_source(
    path: str | Path,
    *,
    topics: str | Sequence[str] | None = None,
    rate: float | None = None,
    copy: Sequence[str] = (),
    max_pixels: int = MAX_PIXELS,
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

    Raises:
        MaskomalyError: the path is missing, of no known kind, or holds no frames.

    """
    path = Path(path).expanduser()
    if rate is not None and not 0 < rate <= 1000:
        raise MaskomalyError(f'rate {rate} is out of range: above 0, up to 1000 frames per second')
    if not path.exists():
        raise MaskomalyError(f'{path} does not exist')
    bags = _bag_files(path)
    if bags:
        if rate is not None:
            raise MaskomalyError(f'{path} is a bag, which has stamps of its own; leave rate out')
        from maskomaly_ros.replay.bags import BagSource

        chosen = [topics] if isinstance(topics, str) else topics
        return BagSource(path, bags, chosen, copy=copy, max_pixels=max_pixels)
    if (topics is not None and topics != EVERY_CAMERA) or copy:
        raise MaskomalyError(
            f'{path} is no bag, so it has no topics {topics or copy}; leave them out'
        )
    if path.is_dir():
        return ImageFolder(path, rate or DEFAULT_RATE, max_pixels)
    return VideoSource(path, rate)


def is_bag(path: str | Path) -> bool:
    """Return whether a path is a bag, by its name and its files."""
    path = Path(path).expanduser()
    return path.exists() and bool(_bag_files(path))


def fit_within(image: NDArray[np.uint8], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Shrink an image [H, W, 3], keeping its shape, to fit into a size (width, height).

    Smaller images, and all where size is None, stay as they are.
    """
    height, width = image.shape[:2]
    scale = min(size[0] / width, size[1] / height) if size else 1.0
    if scale >= 1.0:
        return image
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, target, interpolation=cv2.INTER_AREA), np.uint8)


def _bag_files(path: Path) -> list[Path]:
    """Return what makes up the bag at a path; empty where there is no bag."""
    if path.is_file():
        return [path] if _kind(path) in BAG_SUFFIXES else []
    if (path / 'metadata.yaml').is_file():
        return [path]
    # A recording that was cut off has no metadata.yaml; its files can be read one by one. A
    # folder may also hold the parts of a split ROS 1 bag.
    files = [p for p in _natural_order(path.iterdir()) if _kind(p) in BAG_SUFFIXES]
    if len({_kind(p) for p in files}) > 1:
        raise MaskomalyError(
            f'{path} holds bags of several kinds: {", ".join(p.name for p in files)}; open one'
        )
    return files


def _kind(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix in PACKED_SUFFIXES else path.suffix


def _natural_order(paths: Iterable[Path]) -> list[Path]:
    def key(path: Path) -> list[tuple[int, str]]:
        parts = re.findall(r'\d+|\D+', path.name)
        return [(int(p), '') if p.isdecimal() else (-1, p) for p in parts]

    return sorted(paths, key=lambda path: (key(path), path.name))


class ImageFolder(Source):
    """The images of a folder, in natural order, at a given rate.

    Args:
        path: the folder; folders inside it are not searched.
        rate: frames per second that the stamps are made with.
        max_pixels: larger images are refused.

    Raises:
        MaskomalyError: there are no images.

    """

    def __init__(self, path: Path, rate: float, max_pixels: int = MAX_PIXELS) -> None:
        super().__init__(path)
        self.rate = rate
        self._max_pixels = max_pixels
        self._files = _natural_order(
            p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES
        )
        if not self._files:
            folders = sorted(p.name for p in path.iterdir() if p.is_dir())
            inside = f'; it has folders {", ".join(folders)}' if folders else ''
            raise MaskomalyError(
                f'{path} holds no images ({", ".join(sorted(IMAGE_SUFFIXES))}) and no bag{inside}'
            )

    def __len__(self) -> int:
        return len(self._files)

    def _frames(self) -> Iterator[SourceFrame]:
        for index, file in enumerate(self._files[self._first :], self._first):
            try:
                image = _read_image(file, self._max_pixels)
            except OSError as error:
                self._report(index, file.name, error.strerror)
            except MaskomalyError as error:
                self._report(index, file.name, error)
            else:
                yield SourceFrame(index, _nanoseconds(index, self.rate), image, file.name)


@dataclass
class _EncodedFile:
    """An image file, in the shape of a sensor_msgs/CompressedImage."""

    data: bytes
    format: str


def _read_image(file: Path, max_pixels: int) -> NDArray[np.uint8]:
    data = file.read_bytes()
    kind = file.suffix.lower()[1:]
    if kind in ('jpeg', 'jpg', 'png', 'webp'):
        return decode_compressed(_EncodedFile(data, kind), max_pixels=max_pixels)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise MaskomalyError(f'{len(data)} bytes are no {kind} image, or a damaged one')
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


class VideoSource(Source):
    """The frames of a video file.

    PyAV rather than OpenCV, because it says which packet is damaged and goes on after it, where
    OpenCV ends as if the video were over.

    Args:
        path: any file that FFmpeg reads.
        rate: frames per second; None takes the times that the file holds.

    Raises:
        MaskomalyError: it is no video, or PyAV is not installed.

    """

    def __init__(self, path: Path, rate: float | None = None) -> None:
        super().__init__(path)
        try:
            import av
        except ImportError as error:
            raise MaskomalyError(
                f'reading {path} as a video needs PyAV: pip install av'
            ) from error
        self._av: Any = av
        self._given_rate = rate
        with self._container() as container:
            stream = container.streams.video[0]
            self._announced = stream.frames
            self.rate = rate or float(stream.average_rate or 0) or DEFAULT_RATE

    def __len__(self) -> int:
        if not self._announced:
            raise TypeError(f'{self.path} does not say how many frames it has')
        return int(self._announced)

    def _container(self) -> Any:
        try:
            container = self._av.open(str(self.path))
        except (OSError, ValueError) as error:  # av.FFmpegError is always one of the two
            raise MaskomalyError(
                f'{self.path} is neither a video that FFmpeg reads, nor a folder of images, nor a '
                f'bag ({", ".join(sorted(BAG_SUFFIXES))}): {reason_of(error)}'
            ) from error
        if not container.streams.video:
            container.close()
            raise MaskomalyError(f'{self.path} has no video stream')
        return container

    def _frames(self) -> Iterator[SourceFrame]:
        index, end = 0, 0.0
        with self._container() as container:
            stream = container.streams.video[0]
            announced = self._announced_end(container, stream)
            # Frame threads would name a packet later than the damaged one.
            stream.thread_type = 'SLICE'
            for decoded in self._decode(container, stream):
                name = f'frame {index}'
                if isinstance(decoded, Exception):
                    self._report(index, name, reason_of(decoded))
                    index += 1
                    continue
                if decoded.pts is not None:
                    length = getattr(decoded, 'duration', 0) or 0
                    end = max(end, float((decoded.pts + length) * decoded.time_base))
                if decoded.is_corrupt:
                    self._report(index, name, 'the decoder marks it as damaged')
                elif index >= self._first:
                    yield SourceFrame(index, self._stamp(index, decoded), _upright(decoded), name)
                index += 1
        name = f'frame {index}'
        if index < self._announced:
            reason = f'the video ends here, but announces {self._announced}'
            self._report(index, name, reason)
        elif end < announced:
            reason = (
                f'the video ends here, at {end:.2f} s, but announces {announced:.2f} s at least'
            )
            self._report(index, name, reason)
        elif not index:
            self._report(index, name, 'the video holds no frames')

    def _announced_end(self, container: Any, stream: Any) -> float:
        """Return the least time, in seconds, at which the last frame of a whole video ends.

        For formats that do not count their frames, such as Matroska; 0 where nothing is known. The
        length of a file is that of its longest stream, and the last frame may have no length.
        """
        if self._announced or container.duration is None:
            return 0.0
        slack = 2 / self.rate if len(container.streams) == 1 else max(1.0, 2 / self.rate)
        start = (container.start_time or 0) / self._av.time_base
        return float(start + container.duration / self._av.time_base - slack)

    def _decode(self, container: Any, stream: Any) -> Iterator[Any]:
        """Yield decoded frames, and an exception for each packet that is not decodable."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except (OSError, ValueError) as error:  # the file itself cannot be read further
                yield error
                return
            if packet is None:
                return
            try:
                yield from packet.decode()
            except (OSError, ValueError) as error:
                yield error

    def _stamp(self, index: int, frame: Any) -> int:
        if self._given_rate or frame.pts is None:
            return _nanoseconds(index, self.rate)
        return int(frame.pts * Fraction(frame.time_base) * 1_000_000_000)


def _upright(frame: Any) -> NDArray[np.uint8]:
    """Return a decoded frame as RGB, turned as its display matrix (a phone's) says."""
    image: NDArray[np.uint8] = frame.to_ndarray(format='rgb24')
    turns = round(getattr(frame, 'rotation', 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _nanoseconds(index: int, rate: float) -> int:
    return round(index * 1_000_000_000 / rate)


def reason_of(error: BaseException) -> str:
    """Return what a library's exception says, with its kind."""
    return f'{type(error).__name__}: {error}'
