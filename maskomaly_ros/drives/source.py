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

"""What a recorded drive is: a stream of frames with stamps, and what could not be read of it."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.drives.closing import Closing
from maskomaly_ros.drives.piece import WHOLE, Piece

_LOG = logging.getLogger(__name__)

BAG_SUFFIXES = frozenset(('.bag', '.db3', '.mcap'))
# Among the topics to read: every camera of the bag.
EVERY_CAMERA = '*'
DEFAULT_RATE = 10.0  # frames per second where nothing says it
# A frame of more pixels than this is taken for a damaged header, not for a picture.
MAX_PIXELS = 2**27
# So many problems of a drive are logged, one by one.
NAMED_PROBLEMS = 20


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
class RecordedTopic:
    """How a topic of a bag was recorded.

    Attributes:
        is_ros1: whether messages are serialized as ROS 1 does.
        typestore: definitions of its types (`rosbags.typesys.store.Typestore`).
        qos: offered QoS profiles, as rosbags has them.

    """

    is_ros1: bool
    typestore: Any
    qos: list[Any]


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
        index: position of the frame, from 0; of the frame before damage that is no frame of its
            own, -1 at the beginning.
        name: what it is called.
        reason: what is wrong with it.
        frames: how many frames are lost by it.
        message: what could not be decoded, where it is a message of a bag.

    """

    index: int
    name: str
    reason: str
    frames: int = 1
    message: RawMessage | None = None


class Source(Closing):
    """A recorded drive. Use it in a `with` statement; each iteration starts from the beginning.

    Attributes:
        path: where it was opened.
        rate: nominal frames per second (of one topic).
        rates: frames per second of each topic; empty outside bags.
        topics: the image topics that are read; empty outside bags.
        left_out: image topics that `EVERY_CAMERA` did not take, and why.
        not_copied: topics that were to be copied and cannot be, and why.
        piece: the frames to take; others are neither decoded nor reported.
        is_quiet: whether the caller names the problems, so that they need not be logged.
        problems: what could not be read, up to where the latest iteration has come. Frames that
            `len` counts are frames that come, or are counted by a problem.

    """

    path: Path
    rate: float
    topics: tuple[str, ...] = ()
    is_bag = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.piece: Piece = WHOLE
        self.is_quiet = False
        self.rates: dict[str, float] = {}
        self.left_out: dict[str, str] = {}
        self.not_copied: dict[str, str] = {}
        self._first = 0

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of frames, broken ones included; TypeError where nobody knows it."""

    def count(self, topic: str) -> int | None:
        """Return the number of frames of a topic, broken ones included; None: nobody knows."""
        try:
            return len(self)
        except TypeError:
            return None

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

    def items(self, first: int = 0, messages: int = 0) -> Iterator[SourceFrame | RawMessage]:
        """Iterate over frames and the messages to be copied, in the order of their recording.

        Args:
            first: index of the first frame; problems before it are not reported.
            messages: copied messages to skip.

        """
        return self.frames(first)

    def first_messages(self, topics: Collection[str]) -> dict[str, Any]:
        """Return the first message of each of these topics that has one that can be read."""
        return {topic: m for topic in topics for m in self.messages_of(topic, 1)}

    def messages_of(self, topic: str, most: int) -> Iterator[Any]:
        """Iterate over the first messages of a topic; those that cannot be read are left out.

        Not while `items` or `frames` is under way.
        """
        return iter(())

    def follow(self, topic: str, start_ns: int) -> Iterator[tuple[int, Any]]:
        """Iterate over the messages of a topic, and when they were recorded, from a time on.

        It may be under way beside `items`. A message that cannot be read is left out.

        Args:
            topic: nothing is found of one that is not in the recording.
            start_ns: when the first message was recorded, at the earliest, in nanoseconds.

        Raises:
            MaskomalyError: nothing of the recording can be read.

        """
        return iter(())

    def recorded_as(self, topic: str, msgtype: str) -> RecordedTopic | None:
        """Return how messages that `items` passes on were recorded; None for other topics."""
        return None

    def __bool__(self) -> bool:
        return True

    def close(self) -> None:
        """Release what it holds open."""

    def _report(
        self,
        index: int,
        name: str,
        reason: object,
        frames: int = 1,
        message: RawMessage | None = None,
    ) -> None:
        if index < self._first - 1:
            return
        self.problems.append(Problem(index, name, str(reason), frames, message))
        if self.is_quiet or len(self.problems) > NAMED_PROBLEMS:
            return
        _LOG.warning('%s: %s: %s', self.path, name, reason)
        if len(self.problems) == NAMED_PROBLEMS:
            _LOG.warning('%s: further problems are counted, and not named here', self.path)


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


def nanoseconds(index: int, rate: float) -> int:
    """Return the time of a frame of a drive of constant rate since its start."""
    return round(index * 1_000_000_000 / rate)


def reason_of(error: BaseException) -> str:
    """Return what a library's exception says, with its kind."""
    return f'{type(error).__name__}: {error}'
