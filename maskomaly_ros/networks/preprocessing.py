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

"""The official preprocessing of mask networks: resize, normalise, pad, cut into windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from maskomaly_ros.errors import MaskomalyError

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
SIZE_DIVISOR = 32
LONGEST_SIDE = 16384


@dataclass(frozen=True)
class InputSize:
    """Size of the network input: the frame is resized, with its aspect ratio, to fit.

    Attributes:
        shortest: length in pixels that the shortest side gets ...
        longest: ... unless the longest side would exceed this length.

    """

    shortest: int = 1024
    longest: int = 2048

    def __post_init__(self) -> None:
        """Refuse sizes that no network can use."""
        if not SIZE_DIVISOR <= self.shortest <= self.longest <= LONGEST_SIDE:
            raise MaskomalyError(
                f'input size {self.shortest} x {self.longest} is out of range: '
                f'{SIZE_DIVISOR} <= shortest side <= longest side <= {LONGEST_SIDE}'
            )

    @property
    def usual(self) -> tuple[int, int]:
        """Height and width of frames that fill it; two to one where nothing limits the longest."""
        unlimited = self.longest == LONGEST_SIDE
        return self.shortest, 2 * self.shortest if unlimited else self.longest

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the size in pixels that a frame of height x width is resized to.

        The rule and the rounding of detectron2's ResizeShortestEdge.
        """
        scale = self.shortest / min(height, width)
        if max(height, width) * scale > self.longest:
            scale = self.longest / max(height, width)
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


class Prepared(NamedTuple):
    """Input of a network.

    Attributes:
        pixels: float32 [B, 3, h, w], normalised; with K windows [B · K, 3, h, w], all those of
            the first frame before those of the second.
        content: height and width in pixels of the resized frame.
        windows: where on the resized frame each window begins, rows and columns.

    """

    pixels: Tensor
    content: tuple[int, int]
    windows: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class InputForm:
    """How frames become the input of a network.

    Attributes:
        size: what frames are resized to.
        square: side in pixels of the squares that the network sees, and nothing else; None where
            it takes whole frames of any size.

    """

    size: InputSize
    square: int | None = None

    def __str__(self) -> str:
        """Return it in words."""
        size = f'{self.size.shortest}x{self.size.longest}'
        if self.square is None:
            return size
        if self.size.longest == self.square:
            return f'squares of {self.square} pixels, frames fitted in'
        limit = '' if self.size.longest == LONGEST_SIDE else f' of frames of up to {size}'
        return f'squares of {self.square} pixels: windows{limit}'

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the size in pixels that a frame of height x width is resized to.

        With squares this is the rule of the processor of transformers 5, which cuts fractions
        off where the program of EoMT's authors rounds: a pixel less at most.
        """
        if self.square is None:
            return self.size.resized(height, width)
        shortest: float = self.size.shortest
        short, long = min(height, width), max(height, width)
        whole = self.size.shortest
        if long / short * shortest > self.size.longest:
            shortest = self.size.longest * short / long
            whole = max(1, round(shortest))
        if short == whole:
            return height, width
        other = int(shortest * long / short)
        return (whole, other) if height <= width else (other, whole)

    def windows(self, content: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """Return where the windows on a resized frame begin: evenly, along its longer side."""
        if self.square is None:
            return ((0, 0),)
        longest = max(content)
        number = math.ceil(longest / self.square)
        overlap = (number * self.square - longest) / (number - 1) if number > 1 else 0.0
        begins = [int(i * (self.square - overlap)) for i in range(number)]
        down = content[0] > content[1]
        return tuple((begin, 0) if down else (0, begin) for begin in begins)

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return number, height and width of the inputs that one frame gives."""
        content = self.resized(height, width)
        if self.square is None:
            return (1, *padded(content))
        return len(self.windows(content)), self.square, self.square

    def prepare(
        self,
        frames: Sequence[NDArray[np.uint8]],
        device: torch.device,
        padded_size: tuple[int, int] | None = None,
    ) -> Prepared:
        """Make the network input of frames, RGB uint8 [H, W, 3] of one size.

        Whole frames: see `preprocess`. Squares: resized in the same way, filled up with black at
        the bottom and right where a frame does not fill them, cut, and normalised.

        Args:
            frames: what `check_frames` accepts.
            device: where to do it.
            padded_size: see `preprocess`; squares need none.

        Raises:
            MaskomalyError: the resized frames do not fit into padded_size.

        """
        if self.square is None:
            pixels, content = preprocess(frames, self.size, device, padded_size)
            return Prepared(pixels, content, self.windows(content))
        content = self.resized(*frames[0].shape[:2])
        windows = self.windows(content)
        resized = _resize(upload(frames, device).permute(0, 3, 1, 2), content)
        missing = [max(0, self.square - length) for length in content]
        # The program of the authors, and the processor of transformers, fill up before they
        # normalise.
        filled = F.pad(resized, (0, missing[1], 0, missing[0]))
        cut = [
            filled[..., top : top + self.square, left : left + self.square]
            for top, left in windows
        ]
        mean, std = _normalisation(device)
        pixels = torch.stack(cut, 1).flatten(0, 1).float()
        return Prepared(pixels.sub_(mean).div_(std), content, windows)


def check_frames(frames: Sequence[NDArray[np.uint8]]) -> None:
    """Raise MaskomalyError unless frames are RGB uint8 [H, W, 3] arrays of one size."""
    if not frames:
        raise MaskomalyError('no frames given; at least one is needed')
    for frame in frames:
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
            raise MaskomalyError(
                f'a frame is {frame.dtype} {list(frame.shape)}; it must be RGB uint8 [H, W, 3]'
            )
        if frame.shape != frames[0].shape:
            raise MaskomalyError(
                f'frames of {frames[0].shape[:2]} and {frame.shape[:2]} pixels cannot share '
                'a batch; predict them one size at a time'
            )


def preprocess(
    frames: Sequence[NDArray[np.uint8]],
    input_size: InputSize,
    device: torch.device,
    padded_size: tuple[int, int] | None = None,
) -> tuple[Tensor, tuple[int, int]]:
    """Make the network input of frames, RGB uint8 [H, W, 3] of one size.

    Resizes bilinearly (with antialiasing when it shrinks and rounding to whole grey levels, as
    Pillow does for the official code), normalises, and pads at the bottom and right with the
    value of the mean.

    Args:
        frames: what `check_frames` accepts.
        input_size: what to resize to.
        device: where to do it; the frames travel there as uint8, from pinned memory.
        padded_size: height and width to pad to; None takes the next multiples of 32.

    Returns:
        The input, float32 [B, 3, h, w] on device, and the size in pixels without padding.

    Raises:
        MaskomalyError: the resized frames do not fit into padded_size.

    """
    height, width = input_size.resized(*frames[0].shape[:2])
    rows, columns = padded_size or padded((height, width))
    if height > rows or width > columns:
        raise MaskomalyError(
            f'frames of {frames[0].shape[1]}x{frames[0].shape[0]} pixels become {width}x{height} '
            f'in the network, whose input is fixed at {columns}x{rows}; export it for this '
            'frame size'
        )
    pixels = upload(frames, device).permute(0, 3, 1, 2)
    pixels = _resize(pixels, (height, width))
    mean, std = _normalisation(device)
    normalised = (pixels.float() - mean).div_(std)
    return F.pad(normalised, (0, columns - width, 0, rows - height)), (height, width)


def padded(size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width rounded up to multiples of 32."""
    rows, columns = (-(-pixels // SIZE_DIVISOR) * SIZE_DIVISOR for pixels in size)
    return rows, columns


def upload(frames: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """Return frames of one size as one uint8 tensor [B, H, W, 3] on a device."""
    if device.type != 'cuda':
        return torch.from_numpy(np.stack(frames)).to(device)
    # Pinned, the copy runs beside the work of the frame before; torch reuses pinned memory.
    pixels = torch.empty((len(frames), *frames[0].shape), dtype=torch.uint8, pin_memory=True)
    np.stack(frames, out=pixels.numpy())
    return pixels.to(device, non_blocking=True)


def _resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    if pixels.shape[-2:] == size:
        return pixels
    if pixels.device.type == 'cpu':
        return F.interpolate(pixels, size, mode='bilinear', align_corners=False, antialias=True)
    # Elsewhere torch has no uint8 form: go the way of Pillow, which rounds after each direction.
    resized = pixels.float()
    for part in ((pixels.shape[-2], size[1]), size):
        if resized.shape[-2:] != part:
            resized = F.interpolate(
                resized, part, mode='bilinear', align_corners=False, antialias=True
            )
            resized = (resized + 0.5).floor_().clamp_(0, 255)
    return resized


@lru_cache
def _normalisation(device: torch.device) -> tuple[Tensor, Tensor]:
    # Made outside of inference mode, as it may first be asked for within.
    with torch.inference_mode(False):
        return (
            torch.tensor(PIXEL_MEAN, device=device).view(3, 1, 1),
            torch.tensor(PIXEL_STD, device=device).view(3, 1, 1),
        )
