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

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

# ITU-R BT.709, which players assume; without it they shift the colours of small videos.
_BT709 = 1


class VideoWriter:
    """An H.264 video in an mp4 file, written in a `with` statement.

    PyAV rather than OpenCV, whose wheels can only write MPEG-4 part 2, which no browser plays.
    The size of the video is that of the first image; later ones of another size are scaled.

    Args:
        path: file to write.
        rate: frames per second.
        quality: constant rate factor of x264: 18 looks lossless, 28 is small.

    Raises:
        MaskomalyError: PyAV is not installed, or the folder does not exist.

    """

    def __init__(self, path: str | Path, rate: float, quality: int = 20) -> None:
        try:
            import av
        except ImportError as error:
            raise MaskomalyError(f'writing {path} needs PyAV: pip install av') from error
        self._av: Any = av
        self._rate = Fraction(rate).limit_denominator(1000)
        self._quality = quality
        self._stream: Any = None
        if not Path(path).parent.is_dir():
            raise MaskomalyError(f'cannot write {path}: its folder does not exist')
        self._container = av.open(str(path), 'w', options={'movflags': '+faststart'})

    def write(self, image: NDArray[np.uint8]) -> None:
        """Append an image, RGB uint8 [H, W, 3], at least 2 x 2."""
        stream = self._stream or self._begin(image)
        height, width = image.shape[:2]
        if (width // 2 * 2, height // 2 * 2) == (stream.width, stream.height):
            image = image[: stream.height, : stream.width]
        else:
            image = np.asarray(cv2.resize(image, (stream.width, stream.height)), np.uint8)
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format='rgb24')
        frame = frame.reformat(format='yuv420p', dst_colorspace=_BT709)
        self._container.mux(stream.encode(frame))

    def close(self) -> None:
        """Finish the file; there is none where nothing was written."""
        if self._stream:
            self._container.mux(self._stream.encode())
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self, image: NDArray[np.uint8]) -> Any:
        # Fast, and in one thread, as it runs beside the network.
        options = {'crf': str(self._quality), 'preset': 'veryfast'}
        stream = self._container.add_stream('libx264', rate=self._rate, options=options)
        height, width = image.shape[:2]
        stream.width, stream.height = width // 2 * 2, height // 2 * 2  # 4:2:0 halves both
        stream.pix_fmt = 'yuv420p'
        codec = stream.codec_context
        codec.thread_count = 1
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        self._stream = stream
        return stream
