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

"""A video file as a drive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.drives.source import (
    BAG_SUFFIXES,
    DEFAULT_RATE,
    MAX_PIXELS,
    Source,
    SourceFrame,
    nanoseconds,
    reason_of,
)
from maskomaly_ros.encodings import check_size
from maskomaly_ros.errors import MaskomalyError


class VideoSource(Source):
    """The frames of a video file.

    PyAV rather than OpenCV, because it says which packet is damaged and goes on after it, where
    OpenCV ends as if the video were over.

    Args:
        path: any file that FFmpeg reads.
        rate: frames per second; None takes the times that the file holds.
        max_pixels: videos, and frames, that are larger are refused.

    Raises:
        MaskomalyError: it is no video, its frames are too large, or PyAV is not installed.

    """

    def __init__(
        self, path: Path, rate: float | None = None, max_pixels: int = MAX_PIXELS
    ) -> None:
        super().__init__(path)
        try:
            import av
        except ImportError as error:
            raise MaskomalyError(
                f'reading {path} as a video needs PyAV: pip install av'
            ) from error
        self._av: Any = av
        self._given_rate = rate
        self._max_pixels = max_pixels
        with self._container() as container:
            stream = container.streams.video[0]
            if stream.width and stream.height:  # some formats say it with the first frame
                try:
                    check_size(stream.width, stream.height, max_pixels)
                except MaskomalyError as error:
                    raise MaskomalyError(f'{path}: {error}') from error
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
        index, end, start_ns = 0, 0.0, None
        with self._container() as container:
            stream = container.streams.video[0]
            announced = self._announced_end(container, stream)
            # Frame threads would name a packet later than the damaged one, and what threads of the
            # decoder log belongs to no packet.
            stream.thread_type = 'SLICE'
            stream.codec_context.thread_count = 1
            self._complaints: dict[int | None, str] = {}
            self._second = self._second_opinion(stream.codec_context.name)
            for decoded in self._decode(container, stream):
                name = f'frame {index}'
                if isinstance(decoded, Exception):
                    if self.piece.takes(index, nanoseconds(index, self.rate)):
                        self._report(index, name, reason_of(decoded))
                    index += 1
                    continue
                stamp_ns = self._stamp(index, decoded)
                start_ns = stamp_ns if start_ns is None else start_ns
                if self.piece.is_past(stamp_ns - start_ns):
                    return
                if decoded.pts is not None:
                    length = getattr(decoded, 'duration', 0) or 0
                    end = max(end, float((decoded.pts + length) * decoded.time_base))
                complaint = self._complaints.pop(decoded.pts, '')
                if not self.piece.takes(index, stamp_ns - start_ns):
                    pass
                elif complaint:
                    reason = (
                        f'the decoder says: {complaint}; what follows it may show traces of that'
                    )
                    self._report(index, name, reason)
                elif decoded.width * decoded.height > self._max_pixels:
                    reason = f'{decoded.width} x {decoded.height} pixels are more than the limit'
                    self._report(index, name, reason)
                elif decoded.is_corrupt:
                    self._report(index, name, 'the decoder marks it as damaged')
                elif index >= self._first:
                    yield SourceFrame(index, stamp_ns, _upright(decoded), name)
                index += 1
        for complaint in self._complaints.values():  # of packets that gave no frame
            reason = f'a frame is missing: the decoder says: {complaint}'
            self._report(index - 1, f'before frame {index}', reason, 0 if self._announced else 1)
        name = f'frame {index}'
        if index < self._announced:
            reason = f'the video ends here, but announces {self._announced}'
            self._report(index, name, reason, self._announced - index)
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
                frames, complaint = self._logged(packet.decode)
            except (OSError, ValueError) as error:
                yield error
                continue
            complaint = complaint or self._objection(packet)
            if complaint:
                self._complaints[packet.pts] = complaint
            yield from frames

    def _second_opinion(self, codec: str) -> Any:
        """Return another decoder, for a codec whose damage FFmpeg's own takes for a picture."""
        try:
            return self._av.CodecContext.create('libvpx-vp9', 'r') if codec == 'vp9' else None
        except ValueError:  # FFmpeg may be without it
            return None

    def _objection(self, packet: Any) -> str:
        """Return what the second decoder finds wrong with a packet, or ''."""
        if self._second is None:
            return ''
        try:
            self._second.decode(packet)
        except (OSError, ValueError) as error:
            return reason_of(error)
        return ''

    def _logged(self, decode: Callable[[], Any]) -> tuple[Any, str]:
        """Return what a call returns, and the first error that FFmpeg logs meanwhile, or ''.

        Of damage inside a picture FFmpeg does no more than log it, and fills the place.
        """
        logging = self._av.logging
        before = logging.get_level()
        logging.set_level(logging.ERROR)
        try:
            with logging.Capture(True) as logs:
                value = decode()
        finally:
            logging.set_level(before)
        return value, next((text.strip() for level, _, text in logs if level <= logging.ERROR), '')

    def _stamp(self, index: int, frame: Any) -> int:
        if self._given_rate or frame.pts is None:
            return nanoseconds(index, self.rate)
        return int(frame.pts * Fraction(frame.time_base) * 1_000_000_000)


def _upright(frame: Any) -> NDArray[np.uint8]:
    """Return a decoded frame as RGB, turned as its display matrix (a phone's) says."""
    image: NDArray[np.uint8] = frame.to_ndarray(format='rgb24')
    turns = round(getattr(frame, 'rotation', 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
