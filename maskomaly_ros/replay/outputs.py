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

"""The files that a replay writes for each frame: bag, videos, score maps, pictures for the page.

Every output works in a thread of its own. A bag and a video cannot be continued, so they are
written in parts; a closed part is complete and stays.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from maskomaly_ros import interfaces
from maskomaly_ros.detector import Detection
from maskomaly_ros.drives.qos import (
    KEEP_LAST,
    RELIABLE,
    TRANSIENT_LOCAL,
    VOLATILE,
    recorded_qos,
)
from maskomaly_ros.drives.source import RawMessage, Source, SourceFrame, fit_within
from maskomaly_ros.drives.video_writer import VideoWriter, join_videos
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.ground import Located
from maskomaly_ros.interfaces import DEFINITIONS, TYPES, Message
from maskomaly_ros.replay.journal import Part
from maskomaly_ros.topics import file_name, outputs_of

BAG_TOPICS = TYPES
SCORE_FORMATS = ('png', 'npz')
_PICTURE_SIZE = (960, 960)
_PICTURE_QUALITY = 75


@dataclass(frozen=True)
class Settings:
    """How results are drawn and encoded, as in the node."""

    overlay_opacity: float
    jpeg_quality: int


@dataclass(frozen=True)
class Result:
    """One frame and what was found in it; what several outputs need is made once."""

    frame: SourceFrame
    camera: str
    detection: Detection
    settings: Settings
    located: Located | None = None

    @cached_property
    def overlay(self) -> NDArray[np.uint8]:
        """The frame with its score in colour, RGB [H, W, 3]."""
        return self.detection.overlay(self.settings.overlay_opacity)


class Output(ABC):
    """What is written for each frame, part by part.

    Args:
        folder: of the whole replay.
        work: folder for what is not complete.

    """

    name: str
    draws_overlay = True  # of every frame

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder = folder
        self.work = work

    @abstractmethod
    def write(self, result: Result) -> None:
        """Write one frame."""

    def copy(  # noqa: B027 (only bags have other messages)
        self, message: RawMessage, *, is_damaged: bool = False
    ) -> None:
        """Write a message that is passed on as it is."""

    def close_part(self, number: int) -> Any:
        """Complete the files so far; return what `finish` needs to know of them, for JSON."""
        return None

    def abort(self) -> None:  # noqa: B027 (single files are complete by themselves)
        """Let go of files that cannot be completed."""

    def finish(self, parts: Sequence[Part]) -> None:  # noqa: B027
        """Make the final files out of all parts so far."""


class ScoreMaps(Output):
    """One score map a frame: 16-bit PNG (score times 65535) or NPZ (`score`, float32)."""

    name = 'scores'
    draws_overlay = False

    def __init__(self, folder: Path, work: Path, form: str) -> None:
        super().__init__(folder, work)
        self._form = form

    def write(self, result: Result) -> None:
        """Write one frame."""
        score = result.detection.score
        path = _frame_path(self.folder / 'scores', result, self._form)
        if self._form == 'npz':
            with path.open('wb') as file:
                np.savez_compressed(file, score=score, stamp_ns=result.frame.stamp_ns)
            return
        levels = np.rint(np.clip(score, 0, 1) * 65535).astype(np.uint16)
        _write_image(path, levels, (cv2.IMWRITE_PNG_COMPRESSION, 1))


class Pictures(Output):
    """One overlay a frame, as JPEG, for the page to show; or one a frame that has obstacles."""

    name = 'frames'

    def __init__(self, folder: Path, work: Path, *, only_obstacles: bool = False) -> None:
        super().__init__(folder, work)
        self._only_obstacles = only_obstacles

    def write(self, result: Result) -> None:
        """Write one frame."""
        if self._only_obstacles and not result.detection.obstacles:
            return
        small = fit_within(result.overlay, _PICTURE_SIZE)
        path = _frame_path(self.folder / 'frames', result, 'jpg')
        _write_image(path, small[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, _PICTURE_QUALITY))


class Videos(Output):
    """One overlay video a camera, on the time of the stamps."""

    name = 'video'

    def __init__(
        self, folder: Path, work: Path, rates: Mapping[str, float], parts: Sequence[Part]
    ) -> None:
        super().__init__(folder, work)
        self._rates = rates
        self._sizes: dict[str, tuple[int, int]] = {}
        for part in parts:
            for camera, (_, size, _, _) in (part.files.get(self.name) or {}).items():
                self._sizes.setdefault(camera, tuple(size))
        self._writers: dict[str, tuple[Path, VideoWriter]] = {}

    def write(self, result: Result) -> None:
        """Write one frame."""
        camera = result.camera
        if camera not in self._writers:
            path = self.work / f'{file_name(camera)}.open.mp4'
            path.parent.mkdir(parents=True, exist_ok=True)
            writer = VideoWriter(path, self._rates[camera], size=self._sizes.get(camera))
            self._writers[camera] = path, writer
        self._writers[camera][1].write(result.overlay, result.frame.stamp_ns)

    def close_part(self, number: int) -> Any:
        """Complete the files so far."""
        files = {}
        for camera, (path, writer) in self._writers.items():
            writer.close()
            final = path.with_name(f'{file_name(camera)}_{number}.mp4')
            path.replace(final)
            self._sizes.setdefault(camera, writer.size or (0, 0))
            stamps = writer.first_ns, writer.last_ns
            files[camera] = final.name, self._sizes[camera], *stamps
        self._writers = {}
        return files

    def abort(self) -> None:
        """Let go of files that cannot be completed."""
        for path, writer in self._writers.values():
            try:
                writer.close()
            except Exception:  # full disks are one reason to be here
                path.unlink(missing_ok=True)
        self._writers = {}

    def finish(self, parts: Sequence[Part]) -> None:
        """Join the parts of each camera."""
        found: dict[str, list[tuple[Path, int, int]]] = {}
        for part in parts:
            for camera, (name, _, *stamps) in (part.files.get(self.name) or {}).items():
                found.setdefault(camera, []).append((self.work / name, *stamps))
        for camera, files in found.items():
            joined = self.work / 'joined.mp4'
            join_videos(files, joined)
            joined.replace(self.folder / f'overlay_{file_name(camera)}.mp4')


class Bag(Output):
    """A rosbag2 (MCAP) with the camera topics, the copied topics and ours.

    Each part is one file of the split bag. A source without topics gets its frames as
    `sensor_msgs/Image` on the camera topic.

    Args:
        folder: of the whole replay.
        work: folder for what is not complete.
        source: where the frames come from.
        topics: which of ours, see `BAG_TOPICS`.

    """

    name = 'bag'

    def __init__(self, folder: Path, work: Path, source: Source, topics: Iterable[str]) -> None:
        super().__init__(folder, work)
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore

        self._store = get_typestore(Stores.ROS2_HUMBLE)
        for name, definition in DEFINITIONS.items():
            self._store.register(get_types_from_msg(definition, name))
        self._source = source
        self._topics = tuple(topics)
        self._writer: Any = None
        self._connections: dict[tuple[str, str], Any] = {}
        self._converters: dict[str, Any] = {}
        self._labelled: set[str] = set()

    def write(self, result: Result) -> None:
        """Write one frame."""
        frame, camera = result.frame, result.camera
        received_ns = frame.message.received_ns if frame.message else frame.stamp_ns
        header = self._header(frame)
        if frame.message:
            self.copy(frame.message)
        else:
            self._publish(camera, interfaces.picture_message(frame.image, header), received_ns)
        for name in self._topics:
            if name == 'label_info':
                if camera in self._labelled:
                    continue
                self._labelled.add(camera)
                threshold = result.detection.config.obstacle_threshold
                message = interfaces.label_info_message(header, threshold)
            else:
                found = interfaces.output_message(
                    name,
                    result.detection,
                    header,
                    overlay=lambda: result.overlay,
                    jpeg_quality=result.settings.jpeg_quality,
                    located=result.located,
                )
                if found is None:
                    continue
                message = found
            self._publish(f'{outputs_of(camera)}/{name}', message, received_ns)

    def _built(self, value: Any) -> Any:
        """Return a message of rosbags with the fields of ours, and zero for all others."""
        if isinstance(value, bytes | np.ndarray):
            return np.frombuffer(value, np.uint8)
        if isinstance(value, list):
            return [self._built(item) for item in value]
        if not isinstance(value, Message):
            return value
        _, fields = self._store.fielddefs[value.type]
        values = {
            name: self._built(value.fields[name]) if name in value.fields else self._zero(kind)
            for name, kind in fields
        }
        return self._store.types[value.type](**values)

    def _zero(self, kind: Any) -> Any:
        """Return the value of a field that nobody gave, by its definition."""
        node, detail = kind
        if node.name == 'BASE':
            return {'string': '', 'bool': False}.get(detail[0], 0)
        if node.name == 'NAME':
            return self._built(Message(detail, {}))
        (element, of_element), length = detail
        if element.name == 'BASE' and of_element[0] != 'string':
            return np.zeros(length if node.name == 'ARRAY' else 0, of_element[0])
        count = length if node.name == 'ARRAY' else 0
        return [self._zero((element, of_element)) for _ in range(count)]

    def copy(self, message: RawMessage, *, is_damaged: bool = False) -> None:
        """Write a message as it was recorded; a damaged one of ROS 1 may have no such form."""
        connection = self._connection(message.topic, message.msgtype)
        convert = self._converters.get(message.msgtype)
        try:
            data = convert(message.data) if convert else message.data
        except Exception:
            if is_damaged:  # it is named already
                return
            raise
        self._writer.write(connection, message.received_ns, data)

    def close_part(self, number: int) -> Any:
        """Complete the file so far, and add it to the bag."""
        writer, self._writer, self._connections = self._writer, None, {}
        self._labelled = set()
        if writer is None:
            return None
        writer.close()
        target = self.folder / 'bag'
        target.mkdir(exist_ok=True)
        information = yaml.safe_load((writer.path / 'metadata.yaml').read_text())
        information = information['rosbag2_bagfile_information']
        name = f'bag_{number}.mcap'
        (writer.path / f'{writer.path.name}.mcap').replace(target / name)
        information['relative_file_paths'] = [name]
        information['files'][0]['path'] = name
        shutil.rmtree(writer.path)
        return information

    def abort(self) -> None:
        """Let go of the file that cannot be completed."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abort()
            shutil.rmtree(writer.path, ignore_errors=True)

    def finish(self, parts: Sequence[Part]) -> None:
        """Write the metadata of the bag."""
        known = [p.files[self.name] for p in parts if p.files.get(self.name)]
        if not known:
            return
        whole = merge_metadata(known)
        path = self.folder / 'bag' / 'metadata.yaml'
        text = yaml.safe_dump({'rosbag2_bagfile_information': whole}, sort_keys=False)
        temporary = path.with_suffix('.tmp')
        temporary.write_text(text, encoding='utf-8')
        temporary.replace(path)

    def _publish(self, topic: str, message: Message, received_ns: int) -> None:
        connection = self._connection(topic, message.type)
        data = self._store.serialize_cdr(self._built(message), message.type)
        self._writer.write(connection, received_ns, data)

    def _connection(self, topic: str, msgtype: str) -> Any:
        found = self._connections.get((topic, msgtype))
        if found is not None:
            return found
        if self._writer is None:
            self._begin()
        store, qos = self._store, [_node_qos(lasts=topic.endswith('/anomaly/label_info'))]
        theirs = self._source.recorded_as(topic, msgtype)
        if theirs is not None and theirs.is_ros1:
            store = self._convert_from_ros1(msgtype, theirs.typestore)
        elif theirs is not None:
            store, qos = theirs.typestore, theirs.qos
        if msgtype not in store.fielddefs:
            raise MaskomalyError(
                f'{topic} cannot be copied: the bag does not define its type {msgtype}'
            )
        connection = self._writer.add_connection(
            topic, msgtype, typestore=store, offered_qos_profiles=qos
        )
        self._connections[topic, msgtype] = connection
        return connection

    def _begin(self) -> None:
        from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

        path = self.work / 'bag.open'
        shutil.rmtree(path, ignore_errors=True)
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        # Chunks inside the file are compressed, which every reader of MCAP undoes.
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()

    def _convert_from_ros1(self, msgtype: str, theirs: Any) -> Any:
        """Prepare the conversion of a type of ROS 1; return the definitions to write it by."""
        from rosbags.convert.converter import migrate_bytes
        from rosbags.typesys import get_types_from_msg

        if msgtype not in self._store.fielddefs:
            definition, _ = theirs.generate_msgdef(msgtype, ros_version=2)
            known = self._store.fielddefs
            types = get_types_from_msg(definition, msgtype)
            self._store.register({k: v for k, v in types.items() if k not in known})
        cache: dict[str, object] = {}

        def convert(data: bytes) -> Any:
            return migrate_bytes(
                theirs, self._store, msgtype, msgtype, cache, data, src_is2=False, dst_is2=True
            )

        self._converters[msgtype] = convert
        return self._store

    def _header(self, frame: SourceFrame) -> Any:
        types = self._store.types
        stamp_ns, frame_id = frame.stamp_ns, 'camera'
        if frame.message is not None:
            stamp_ns, frame_id = frame.header_ns, frame.frame_id
        stamp = types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 1_000_000_000))
        return types['std_msgs/msg/Header'](stamp, frame_id)


def merge_metadata(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the metadata of a split bag, from those of its files."""
    whole = dict(parts[0])
    starts = [p['starting_time']['nanoseconds_since_epoch'] for p in parts]
    ends = [s + p['duration']['nanoseconds'] for s, p in zip(starts, parts, strict=True)]
    counts: dict[tuple[str, str], dict[str, Any]] = {}
    for part in parts:
        for topic in part['topics_with_message_count']:
            metadata = topic['topic_metadata']
            key = metadata['name'], metadata['type']
            entry = counts.setdefault(key, {'topic_metadata': metadata, 'message_count': 0})
            entry['message_count'] += topic['message_count']
    whole['relative_file_paths'] = [p for part in parts for p in part['relative_file_paths']]
    whole['files'] = [f for part in parts for f in part['files']]
    whole['starting_time'] = {'nanoseconds_since_epoch': min(starts)}
    whole['duration'] = {'nanoseconds': max(ends) - min(starts)}
    whole['message_count'] = sum(p['message_count'] for p in parts)
    whole['topics_with_message_count'] = list(counts.values())
    return whole


def _node_qos(*, lasts: bool = False) -> Any:
    """Return the QoS that the node publishes with."""
    return recorded_qos(RELIABLE, TRANSIENT_LOCAL if lasts else VOLATILE, KEEP_LAST, depth=2)


def _frame_path(folder: Path, result: Result, suffix: str) -> Path:
    path = folder / file_name(result.camera) / f'{result.frame.index:06}.{suffix}'
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write_image(path: Path, image: NDArray[Any], options: Sequence[int]) -> None:
    """Write an image file; unlike cv2.imwrite, say why it cannot be written."""
    done, data = cv2.imencode(path.suffix, np.ascontiguousarray(image), options)
    if not done:
        raise MaskomalyError(f'{image.shape[1]} x {image.shape[0]} pixels do not fit {path.name}')
    path.write_bytes(data.tobytes())
