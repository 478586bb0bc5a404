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

"""Write images to a video that plays everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.drives.closing import Closing
from maskomaly_ros.errors import MaskomalyError

# Frames with stamps are placed on the usual clock of video, and as far apart as a player can bear:
# a clock that jumps must not stretch the video to years.
_CLOCK = 90_000
_LONGEST_STEP = 2 * _CLOCK
# ITU-R BT.709, which players assume; without it they shift the colours of small videos.
_BT709 = 1


class VideoWriter(Closing):
    """An H.264 video in an mp4 file, written in a `with` statement.

    PyAV rather than OpenCV, whose wheels can only write MPEG-4 part 2, which no browser plays.
    Images of another size than the video are scaled.

    Args:
        path: file to write.
        rate: frames per second.
        quality: constant rate factor of x264: 18 looks lossless, 28 is small.
        size: width and height; None takes those of the first image.

    Raises:
        MaskomalyError: PyAV is not installed, or the folder does not exist.

    """

    def __init__(
        self,
        path: str | Path,
        rate: float,
        quality: int = 20,
        size: tuple[int, int] | None = None,
    ) -> None:
        try:
            import av
        except ImportError as error:
            raise MaskomalyError(f'writing {path} needs PyAV: pip install av') from error
        self._av: Any = av
        self._rate = Fraction(rate).limit_denominator(1000)
        self._quality = quality
        self.size = size
        self._stream: Any = None
        self.first_ns: int | None = None
        self._stamp_ns: int | None = None
        self._pts = 0
        if not Path(path).parent.is_dir():
            raise MaskomalyError(f'cannot write {path}: its folder does not exist')
        self._container = av.open(str(path), 'w', options={'movflags': '+faststart'})

    def write(self, image: NDArray[np.uint8], stamp_ns: int | None = None) -> None:
        """Append an image.

        Args:
            image: RGB uint8 [H, W, 3]; enlarged to 2 x 2 pixels where it has fewer.
            stamp_ns: when it was taken; between two stamps the video waits as long, up to 2 s.
                None takes the rate.

        """
        if min(image.shape[:2]) < 2:  # chroma has half the resolution
            image = np.asarray(cv2.resize(image, (max(2, image.shape[1]), max(2, image.shape[0]))))
        stream = self._stream or self._begin(image)
        height, width = image.shape[:2]
        if (width // 2 * 2, height // 2 * 2) == (stream.width, stream.height):
            image = image[: stream.height, : stream.width]
        else:
            image = np.asarray(cv2.resize(image, (stream.width, stream.height)), np.uint8)
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format='rgb24')
        frame = frame.reformat(format='yuv420p', dst_colorspace=_BT709)
        if self._stamp_ns is not None and stamp_ns is not None:
            self._pts += _ticks(stamp_ns - self._stamp_ns)
        elif stream.codec_context.is_open:
            self._pts += round(_CLOCK / self._rate)
        self.first_ns = stamp_ns if self.first_ns is None else self.first_ns
        self._stamp_ns = stamp_ns
        frame.pts, frame.time_base = self._pts, Fraction(1, _CLOCK)
        self._container.mux(stream.encode(frame))

    @property
    def last_ns(self) -> int | None:
        """Stamp of the newest image."""
        return self._stamp_ns

    def close(self) -> None:
        """Finish the file; there is none where nothing was written."""
        if self._stream:
            self._container.mux(self._stream.encode())
        self._container.close()

    def _begin(self, image: NDArray[np.uint8]) -> Any:
        # Fast, and in one thread, as it runs beside the network.
        options = {'crf': str(self._quality), 'preset': 'veryfast', 'bf': '0'}
        stream = self._container.add_stream('libx264', rate=self._rate, options=options)
        self.size = self.size or (image.shape[1], image.shape[0])
        stream.width, stream.height = (side // 2 * 2 for side in self.size)  # 4:2:0 halves both
        stream.pix_fmt = 'yuv420p'
        codec = stream.codec_context
        codec.thread_count = 1
        codec.time_base = Fraction(1, _CLOCK)
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        self._stream = stream
        return stream


def join_videos(parts: Sequence[tuple[Path, int, int]], path: Path) -> None:
    """Put videos of `VideoWriter`, of one size, one after the other, without encoding again.

    Args:
        parts: files with the stamps of their first and last frame, in nanoseconds, in order.
        path: file to write.

    """
    import av

    with av.open(str(path), 'w', options={'movflags': '+faststart'}) as joined:
        target: Any = None
        pts, previous_ns = 0, 0
        for part, first_ns, last_ns in parts:
            with av.open(str(part)) as container:
                stream = container.streams.video[0]
                if target is None:
                    target = joined.add_stream_from_template(stream)
                    begin = 0
                else:
                    begin = pts + _ticks(first_ns - previous_ns)
                for packet in container.demux(stream):
                    if packet.pts is None:
                        continue
                    scale = Fraction(packet.time_base) * _CLOCK
                    pts = begin + round(packet.pts * scale)
                    packet.duration = round((packet.duration or 0) * scale)
                    packet.pts = packet.dts = pts
                    packet.time_base = Fraction(1, _CLOCK)
                    packet.stream = target
                    joined.mux(packet)
            previous_ns = last_ns


def _ticks(nanoseconds: int) -> int:
    """Return how long a frame is shown, by the time to the next one."""
    return min(max(round(nanoseconds * _CLOCK / 1_000_000_000), _CLOCK // 1000), _LONGEST_STEP)
