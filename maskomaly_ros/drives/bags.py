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

"""The image messages of a rosbag, in order, with the other topics that are to be kept."""

from __future__ import annotations

import logging
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.drives.announced import read_announced
from maskomaly_ros.drives.source import (
    DEFAULT_RATE,
    EVERY_CAMERA,
    MAX_PIXELS,
    RawMessage,
    RecordedTopic,
    Source,
    SourceFrame,
    reason_of,
)
from maskomaly_ros.encodings import decode_compressed, decode_image
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.topics import outputs_of

if TYPE_CHECKING:
    from rosbags.interfaces import Connection

    from maskomaly_ros.drives.salvage import Loss, SalvagedBag

_LOG = logging.getLogger(__name__)

_DECODERS: dict[str, Callable[..., NDArray[np.uint8]]] = {
    'sensor_msgs/msg/Image': decode_image,
    'sensor_msgs/msg/CompressedImage': decode_compressed,
}
# Encodings of depth and of other measurements; naming such a topic reads it all the same.
_NO_PICTURES = ('16SC', '16UC', '32FC', '32SC', '64FC')


class BagSource(Source):
    """The images of a rosbag: rosbag2 (sqlite3, mcap; split, compressed) or ROS 1.

    A recording that was cut off is read as far as it goes; where it ends is named in `problems`.

    Args:
        path: what the user named.
        files: the bag folder, or its storage files.
        topics: image topics to read; None takes the first, `EVERY_CAMERA` all, except what this
            package wrote, what holds no pictures, and second topics of one camera.
        copy: topics that `items` passes on beside the frames; '*' is every other one.
        max_pixels: larger pictures are refused.
        no_cameras: topics that `EVERY_CAMERA` leaves out, such as those of depth images.

    Attributes:
        copied: connections of the topics that are passed on.
        cameras: connections of the topics that are read.

    Raises:
        MaskomalyError: the bag cannot be read, or does not have these topics as images.

    """

    def __init__(
        self,
        path: Path,
        files: list[Path],
        topics: Sequence[str] | None = None,
        *,
        copy: Sequence[str] = (),
        max_pixels: int = MAX_PIXELS,
        no_cameras: Collection[str] = (),
    ) -> None:
        super().__init__(path)
        self._max_pixels = max_pixels
        self._no_cameras = frozenset(no_cameras)
        self._given = files
        self._index = self._named = 0  # frames so far, and frames that damage has taken
        self._seen: Counter[str] = Counter()
        with ExitStack() as stack:
            self._reader = self._open(files)
            stack.callback(lambda: self._reader.close())
            self._counts = self._announced.at_least(self._reader.connections)
            self._learn_standard_types()
            self.cameras = self._choose(topics)
            self.topics = tuple(dict.fromkeys(c.topic for c in self.cameras))
            self.copied = self._choose_copied(copy)
            self.rates = {topic: self._rate(topic) for topic in self.topics}
            self.rate = sum(self.rates.values()) / len(self.rates)
            self._stack = stack.pop_all()

    def __len__(self) -> int:
        return sum(self._counts[key] for key in _names(self.cameras))

    def count(self, topic: str) -> int | None:
        """Return the number of frames of a topic, broken ones included."""
        return sum(self._counts[key] for key in _names(self.cameras) if key[0] == topic)

    def close(self) -> None:
        """Close the files of the bag."""
        self._stack.close()

    is_bag = True

    def recorded_as(self, topic: str, msgtype: str) -> RecordedTopic | None:
        """Return how messages that `items` passes on were recorded; None for other topics."""
        for c in (*self.cameras, *self.copied):
            if (c.topic, c.msgtype) == (topic, msgtype):
                is_ros1 = not self._reader.is2
                qos = [] if is_ros1 else list(c.ext.offered_qos_profiles)
                return RecordedTopic(is_ros1, self._reader.typestore, qos)
        return None

    def messages_of(self, topic: str, most: int) -> Iterator[Any]:
        """Iterate over the first messages of a topic; those that cannot be read are left out.

        Not while `items` or `frames` is under way.
        """
        connections = [c for c in self._reader.connections if c.topic == topic]
        if not connections:
            return
        try:
            for connection, _, data in islice(self._reader.messages(connections), most):
                yield self._reader.deserialize(data, connection.msgtype)
        except Exception as error:  # reading frames meets the damage too, and reports it
            _LOG.warning('%s cannot be read: %s', topic, reason_of(error))

    def follow(self, topic: str, start_ns: int) -> Iterator[tuple[int, Any]]:
        """Iterate over the messages of a topic, and when they were recorded, from a time on.

        It reads files of its own, so that it may be under way beside `items`. A message that
        cannot be read is left out.

        Args:
            topic: nothing is found of one that is not in the bag.
            start_ns: when the first message was recorded, at the earliest, in nanoseconds.

        Raises:
            MaskomalyError: nothing of the bag can be read.

        """
        from maskomaly_ros.drives.salvage import SalvagedBag, unpacked

        with closing(self._open(self._given)) as reader:
            connections = [c for c in reader.connections if c.topic == topic]
            if not connections:
                return
            # What is left of a damaged bag has no index, and is gone through from its beginning.
            since = {} if isinstance(reader, SalvagedBag) else {'start': start_ns}
            for connection, received_ns, data in reader.messages(connections, **since):
                if received_ns < start_ns:
                    continue
                try:
                    data = unpacked(data) if reader.is2 else data
                    message = reader.deserialize(data, connection.msgtype)
                except Exception as error:  # what a corrupt message does to it is open
                    _LOG.warning('a message of %s is left out: %s', topic, reason_of(error))
                else:
                    yield received_ns, message

    def items(self, first: int = 0, messages: int = 0) -> Iterator[SourceFrame | RawMessage]:
        """Iterate over frames and copied messages, in the order of their recording.

        Args:
            first: index of the first frame; problems before it are not reported.
            messages: copied messages to skip.

        """
        self.problems.clear()
        self._first = first
        copied = {c.topic for c in self.copied}
        self._index = self._named = passed = 0
        self._seen.clear()
        start_ns: int | None = None
        for connection, received_ns, data in self._messages([*self.cameras, *self.copied]):
            topic = connection.topic
            number, self._seen[topic] = self._seen[topic], self._seen[topic] + 1
            if start_ns is None and topic not in copied:
                start_ns = received_ns
            since_ns = 0 if start_ns is None else received_ns - start_ns
            if self.piece.is_past(since_ns) and not self.problems:
                return  # of a damaged bag earlier messages may still come
            raw = RawMessage(topic, connection.msgtype, received_ns, bytes(data))
            if topic in copied:
                # Transforms that were said once belong to every piece.
                if topic != '/tf_static' and not self.piece.takes(0, since_ns):
                    continue
                passed += 1
                if passed > messages:
                    yield raw
                continue
            index, self._index = self._index, self._index + 1
            if index >= first and self.piece.takes(number, since_ns):
                frame = self._decode(index, number, raw)
                if frame is not None:
                    yield frame
        self._compare()

    def _compare(self) -> None:
        """Report what the bag announces, and what is neither read nor named so far."""
        lost = len(self) - self._index - self._named
        missing = ', '.join(self._announced.missing)
        verb = 'are' if len(self._announced.missing) > 1 else 'is'
        if lost <= 0 and not missing:
            return
        reason = (
            f'{len(self)} frames announced, {self._index} read'
            if len(self) > self._index
            else 'frames may be missing'
        )
        if missing:
            reason = f'{reason}; {missing} {verb} missing'
        elif self._named:
            reason = f'{reason}, {self._named} of the others are named above'
        self._report(self._index - 1, f'after frame {self._index - 1}', reason, max(0, lost))

    def _frames(self) -> Iterator[SourceFrame]:
        copied, self.copied = self.copied, []
        try:
            yield from (i for i in self.items(self._first) if isinstance(i, SourceFrame))
        finally:
            self.copied = copied

    def _decode(self, index: int, number: int, raw: RawMessage) -> SourceFrame | None:
        name = f'{raw.topic} message {number}'
        place = f'{name} at {raw.received_ns / 1e9:.3f} s'
        try:
            message: Any = self._reader.deserialize(raw.data, raw.msgtype)
            image = _DECODERS[raw.msgtype](message, max_pixels=self._max_pixels)
        except MaskomalyError as error:
            self._report(index, place, error, message=raw)
        except Exception as error:  # what a corrupt message does to a deserializer is open
            reason = f'cannot be deserialized: {reason_of(error)}'
            self._report(index, place, reason, message=raw)
        else:
            stamp = message.header.stamp
            header_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
            return SourceFrame(
                index,
                header_ns or raw.received_ns,
                image,
                name,
                raw.topic,
                message.header.frame_id,
                raw,
                header_ns,
            )
        return None

    def _messages(
        self, connections: Sequence[Connection]
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield messages; where reading fails, what can still be found in the files."""
        from maskomaly_ros.drives.salvage import SalvagedBag, unpacked

        if isinstance(self._reader, SalvagedBag):
            yield from self._salvaged(self._reader, connections)
            return
        chosen = {(c.topic, c.msgtype): c for c in connections}
        delivered = {key: array('q') for key in chosen}
        try:
            for connection, received_ns, data in self._reader.messages(connections):
                key = connection.topic, connection.msgtype
                delivered[key].append(received_ns)
                if self._reader.is2:  # which undoes it only where metadata.yaml says so
                    data = unpacked(data)
                yield chosen[key], received_ns, data
        except GeneratorExit:
            raise
        except Exception as error:  # as on opening
            self._report_place(reason_of(error))
        else:
            if all(len(times) >= self._counts[key] for key, times in delivered.items()):
                return
        known = {key: Counter(times) for key, times in delivered.items()}
        delivered.clear()
        try:
            with SalvagedBag(self._files, self._announced) as rest:
                for connection, received_ns, data in self._salvaged(rest, connections):
                    times = known[connection.topic, connection.msgtype]
                    if times[received_ns] > 0:
                        times[received_ns] -= 1
                    else:
                        yield chosen[connection.topic, connection.msgtype], received_ns, data
        except MaskomalyError as error:  # nothing can be saved
            self._report_place(str(error))

    def _salvaged(
        self, bag: SalvagedBag, connections: Sequence[Connection]
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield what is left in damaged files, and report damage where it is."""
        reported = 0
        for message in bag.messages(connections):
            for loss in bag.problems[reported:]:
                self._report_loss(loss)
            reported = len(bag.problems)
            yield message
        for loss in bag.problems[reported:]:
            self._report_loss(loss)

    def _report_loss(self, loss: Loss) -> None:
        lost = sum(loss.lost.get(topic, 0) for topic in self.topics)
        # More than is announced cannot be missing: records may be there twice.
        lost = min(lost, max(0, len(self) - self._index - self._named))
        self._named += lost
        self._report_place(loss.reason, lost)

    def _report_place(self, reason: str, frames: int = 0) -> None:
        """Report damage where reading is now."""
        self._report(self._index - 1, f'before frame {self._index}', reason, frames)

    def _learn_standard_types(self) -> None:
        """Take the standard definition of types that a bag does not define."""
        from rosbags.typesys import Stores, get_typestore

        store = get_typestore(Stores.ROS2_HUMBLE if self._reader.is2 else Stores.ROS1_NOETIC)
        known = self._reader.typestore.fielddefs
        used = {c.msgtype for c in self._reader.connections} - set(known)
        if used & set(store.fielddefs):
            missing = {name: d for name, d in store.fielddefs.items() if name not in known}
            self._reader.typestore.register(missing)

    def _open(self, files: list[Path]) -> Any:
        try:
            from rosbags import highlevel
            from rosbags.typesys import Stores, get_typestore

            from maskomaly_ros.drives.salvage import SalvagedBag, storage_files
        except ImportError as error:
            raise MaskomalyError(
                f'reading the bag {self.path} needs rosbags: pip install rosbags'
            ) from error
        self._files = storage_files(files)
        self._announced = read_announced(self.path, self._files)
        try:
            # Recordings from before Iron carry no message definitions.
            store = get_typestore(Stores.ROS2_HUMBLE)
            reader = highlevel.AnyReader(files, default_typestore=store)
            reader.open()
        except Exception as error:  # a damaged file can fail in any way inside the reader
            reason = reason_of(error)
        else:
            return reader
        try:
            salvaged = SalvagedBag(self._files, self._announced)
            salvaged.open()
        except Exception as error:
            raise MaskomalyError(
                f'cannot read the bag {self.path}: {reason}; and nothing can be saved of its '
                f'files: {reason_of(error)}. For a recording that was cut off try '
                '`ros2 bag reindex` (or `mcap recover`, `rosbag reindex`)'
            ) from error
        return salvaged

    def _choose(self, topics: Sequence[str] | None) -> list[Connection]:
        connections = self._reader.connections
        images = dict.fromkeys(c.topic for c in connections if c.msgtype in _DECODERS)
        listing = ', '.join(sorted({f'{c.topic} ({c.msgtype})' for c in connections})) or 'nothing'
        if not images:
            raise MaskomalyError(f'the bag {self.path} has no image topic; it holds {listing}')
        if topics is None:
            wanted = [next(iter(images))]
        elif list(topics) == [EVERY_CAMERA]:
            wanted = self._every_camera(list(images))
            if not wanted:
                reasons = '; '.join(f'{topic}: {why}' for topic, why in self.left_out.items())
                raise MaskomalyError(f'the bag {self.path} has no camera topic: {reasons}')
        else:
            wanted = list(topics)
        missing = [topic for topic in wanted if topic not in images]
        if missing or not wanted:
            raise MaskomalyError(
                f'the bag {self.path} has no image topic {", ".join(missing)}; it holds {listing}'
            )
        return [c for c in connections if c.topic in wanted and c.msgtype in _DECODERS]

    def _every_camera(self, images: list[str]) -> list[str]:
        """Return one topic for each camera, and note why the others are left out."""
        chosen: dict[str, str] = {}
        for topic in sorted(images, key=lambda t: (t.endswith('/compressed'), images.index(t))):
            outputs = outputs_of(topic)
            if '/anomaly/' in topic:
                self.left_out[topic] = 'made by maskomaly'
            elif topic in self._no_cameras:
                self.left_out[topic] = 'depth images, not a camera'
            elif outputs in chosen:
                self.left_out[topic] = (
                    f'the camera of {chosen[outputs]}, its results would collide'
                )
            elif reason := self._why_no_camera(topic):
                self.left_out[topic] = reason
            else:
                chosen[outputs] = topic
        return sorted(chosen.values(), key=images.index)

    def _why_no_camera(self, topic: str) -> str:
        """Return why nothing of a topic can be a picture, judged by its first message."""
        connections = [c for c in self._reader.connections if c.topic == topic]
        if not any(self._counts[key] for key in _names(connections)):
            return 'no messages'
        try:
            _, _, data = next(iter(self._reader.messages(connections)))
            message: Any = self._reader.deserialize(data, connections[0].msgtype)
        except Exception:  # reading it again, as a frame, says what is wrong
            return ''
        kind = getattr(message, 'encoding', '') or getattr(message, 'format', '')
        is_depth = 'Depth' in kind or kind.startswith(_NO_PICTURES)
        return f'{kind} is no picture' if is_depth else ''

    def _choose_copied(self, copy: Sequence[str]) -> list[Connection]:
        others = [c for c in self._reader.connections if c.topic not in self.topics]
        if list(copy) == ['*']:
            return self._defined([c for c in others if '/anomaly/' not in c.topic])
        present = {c.topic for c in others} | set(self.topics)
        missing = [topic for topic in copy if topic not in present]
        if missing:
            raise MaskomalyError(
                f'the bag {self.path} has no topic {", ".join(missing)} to copy; it holds '
                f'{", ".join(sorted(present))}'
            )
        return self._defined([c for c in others if c.topic in copy])

    def _defined(self, connections: list[Connection]) -> list[Connection]:
        """Return those whose type is known, and note the others: they cannot be written."""
        types = {c.msgtype for c in connections}
        defined = {msgtype: self._is_defined(msgtype) for msgtype in types}
        for c in connections:
            if not defined[c.msgtype]:
                self.not_copied[c.topic] = (
                    f'it cannot be copied, as the bag does not define its type {c.msgtype}'
                )
        return [c for c in connections if defined[c.msgtype]]

    def _is_defined(self, msgtype: str) -> bool:
        """Return whether a type and all types in it are known."""
        try:
            self._reader.typestore.generate_msgdef(msgtype, ros_version=2)
        except Exception:  # a damaged definition fails in any way
            return False
        return True

    def _rate(self, topic: str) -> float:
        count = self.count(topic) or 0
        seconds = self._reader.duration / 1e9 if count else 0.0
        return (count - 1) / seconds if count > 1 and seconds > 1e-6 else DEFAULT_RATE


def _names(connections: Sequence[Connection]) -> dict[tuple[str, str], None]:
    """Return topics and types once each, in order: a bag may have several connections of one."""
    return dict.fromkeys((c.topic, c.msgtype) for c in connections)
