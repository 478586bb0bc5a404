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

"""What a mask network answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_QUERIES_AT_ONCE = 8  # all of them at full size would take gigabytes
_WHOLE = ((0.0, 0.0),)


@dataclass(frozen=True)
class MaskPrediction:
    """N masks and N class distributions for each of B frames of one size.

    A network of fixed input size sees a frame through K windows that overlap. The queries of one
    window have nothing to do with those of the next, so masks of different windows are never
    mixed: results are computed for each of `parts`, and `blend` joins them. Code written in
    this way serves networks with and without windows.

    Attributes:
        mask_logits: float32 [B, N, h, w], usually at a quarter of the network input; with K
            windows [B · K, N, h, w], all those of the first frame before those of the second.
        class_logits: float32 [B, N, C+1] or [B · K, N, C+1]; void ("no object") is the last
            column.
        frame_size: height and width in pixels of the camera frames.
        extent: height and width, in mask pixels, of the frame; what masks have beyond it is
            padding of the network input. Of a part of a frame, two more numbers say where on
            the masks it begins, rows and columns.
        windows: where on the frame the masks of each window begin, rows and columns in mask
            pixels.

    """

    mask_logits: Tensor
    class_logits: Tensor
    frame_size: tuple[int, int]
    extent: tuple[float, ...]
    windows: tuple[tuple[float, float], ...] = _WHOLE

    @property
    def num_queries(self) -> int:
        """N."""
        return self.mask_logits.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the logits are."""
        return self.mask_logits.device

    @cached_property
    def parts(self) -> tuple[MaskPrediction, ...]:
        """The windows, each as a prediction of its own for the part of all frames that it shows.

        A network without windows has one part, the prediction itself.
        """
        if self.windows == _WHOLE:
            return (self,)
        rows, columns = (e / s for e, s in zip(self.extent, self.frame_size, strict=True))
        masks, classes = (
            logits.reshape(-1, len(self.windows), *logits.shape[1:])
            for logits in (self.mask_logits, self.class_logits)
        )
        return tuple(
            MaskPrediction(
                masks[:, index],
                classes[:, index],
                (place.bottom - place.top, place.right - place.left),
                (
                    (place.bottom - place.top) * rows,
                    (place.right - place.left) * columns,
                    place.top * rows - top,
                    place.left * columns - left,
                ),
            )
            for index, ((top, left), place) in enumerate(
                zip(self.windows, self._places, strict=True)
            )
        )

    def blend(self, maps: Sequence[Tensor]) -> Tensor:
        """Join maps of the parts to maps of the frames; where windows overlap, by their mean.

        The mean is what the authors of EoMT take for the scores of classes.

        Args:
            maps: of real numbers, [..., rows, columns] for each of `parts`.

        Returns:
            Maps [..., H, W] of the same type.

        """
        if len(maps) == 1:
            return maps[0]
        whole = torch.zeros(
            *maps[0].shape[:-2],
            *self.frame_size,
            dtype=torch.promote_types(maps[0].dtype, torch.float32),
            device=maps[0].device,
        )
        for place, values in zip(self._places, maps, strict=True):
            whole[..., place.top : place.bottom, place.left : place.right] += values
        whole /= _coverage(self.frame_size, self._places, whole.device)
        return whole.to(maps[0].dtype)

    def cut(self, image: NDArray[Any]) -> list[NDArray[Any]]:
        """Return what each of `parts` shows of an image or label [H, W, ...], as views."""
        return [
            image[place.top : place.bottom, place.left : place.right] for place in self._places
        ]

    def scored(self, score: Callable[..., Tensor], *arguments: Any, **options: Any) -> Tensor:
        """Return the maps [B, H, W] of a function of logits, such as those of `scoring`.

        Args:
            score: called for each part as `score(mask_logits, class_logits, size, *arguments,
                extent=extent, **options)`.
            arguments: see there.
            options: see there.

        """
        return self.blend(
            [
                score(
                    part.mask_logits,
                    part.class_logits,
                    part.frame_size,
                    *arguments,
                    extent=part.extent,
                    **options,
                )
                for part in self.parts
            ]
        )

    def frame(self, index: int) -> MaskPrediction:
        """Return the prediction of one of the frames, a batch of one."""
        first = index * len(self.windows)
        part = slice(first, first + len(self.windows))
        return replace(
            self, mask_logits=self.mask_logits[part], class_logits=self.class_logits[part]
        )

    def frames(self) -> list[MaskPrediction]:
        """Return the predictions of all frames, one by one."""
        return [self.frame(i) for i in range(len(self.mask_logits) // len(self.windows))]

    def resized(self, size: tuple[int, int]) -> MaskPrediction:
        """Return the same for frames of another height and width in pixels."""
        return replace(self, frame_size=size)

    def to(self, device: torch.device | str) -> MaskPrediction:
        """Return the same on another device."""
        return replace(
            self,
            mask_logits=self.mask_logits.to(device),
            class_logits=self.class_logits.to(device),
        )

    def semantic_map(self) -> Tensor:
        """Return the most likely inlier class of every pixel, uint8 [B, H, W].

        Semantic inference of Mask2Former: class c has the score sum over n of p_n[c] · m_n
        (MaskFormer, Cheng et al. 2021, section 3.4), with masks resized before they are summed.
        """
        scores = self.blend([_class_scores(part) for part in self.parts])
        return scores.argmax(1).to(torch.uint8)

    @cached_property
    def _places(self) -> tuple[_Place, ...]:
        spans = [
            [_pixels(begin, length, extent, pixels, begin == max(begins)) for begin in begins]
            for begins, length, extent, pixels in zip(
                zip(*self.windows, strict=True),
                self.mask_logits.shape[-2:],
                self.extent,
                self.frame_size,
                strict=True,
            )
        ]
        return tuple(
            _Place(vertical[0], horizontal[0], vertical[1], horizontal[1])
            for vertical, horizontal in zip(*spans, strict=True)
        )


class _Place(NamedTuple):
    """Pixels of a frame that a window shows."""

    top: int
    left: int
    bottom: int
    right: int


def _pixels(
    begin: float, length: int, extent: float, pixels: int, is_last: bool
) -> tuple[int, int]:
    """Return the first pixel, and the one behind the last, whose middle lies in a window.

    Args:
        begin: of the window, in mask pixels.
        length: of the window, in mask pixels.
        extent: of the frame, in mask pixels.
        pixels: of the frame.
        is_last: no window begins behind this one, which therefore shows the end of the frame;
            by rounding it may fall short of that by a fraction of a mask pixel.

    """
    first, end = (math.ceil(edge * pixels / extent - 0.5) for edge in (begin, begin + length))
    return max(first, 0), pixels if is_last else min(end, pixels)


@lru_cache(maxsize=16)
def _coverage(
    frame_size: tuple[int, int], places: tuple[_Place, ...], device: torch.device
) -> Tensor:
    """Return how many windows show each pixel of a frame, float32 [H, W]."""
    with torch.inference_mode(False):  # as it may first be asked for within
        counts = torch.zeros(frame_size, device=device)
        for place in places:
            counts[place.top : place.bottom, place.left : place.right] += 1
    return counts


def _class_scores(prediction: MaskPrediction) -> Tensor:
    """Return the score of every class, float32 [B, C, H, W], of a prediction of one part."""
    weights = prediction.class_logits.softmax(-1)[..., :-1]
    batch, queries, classes = weights.shape
    scores = weights.new_zeros(batch, classes, *prediction.frame_size)
    for start in range(0, queries, _QUERIES_AT_ONCE):
        part = slice(start, start + _QUERIES_AT_ONCE)
        masks = resize_maps(
            prediction.mask_logits[:, part], prediction.frame_size, prediction.extent
        )
        scores += torch.einsum('bnc,bnhw->bchw', weights[:, part], masks.sigmoid_())
    return scores


def resize_maps(maps: Tensor, size: tuple[int, int], extent: Sequence[float]) -> Tensor:
    """Resize the part of maps [B, K, h, w] within extent to [B, K, *size], bilinearly.

    Output pixel x looks at begin + (x + 0.5) · extent / size − 0.5, so that an extent that is no
    whole number of mask pixels is not shifted. F.interpolate can do that for a whole extent only.

    Args:
        maps: what to resize.
        size: height and width of the result.
        extent: height and width in pixels of the maps, and where that part begins, rows and
            columns, if not in the corner.

    """
    lengths, begins = extent[:2], extent[2:] or (0.0, 0.0)
    rows, columns = (
        min(math.ceil(begin + length), most)
        for begin, length, most in zip(begins, lengths, maps.shape[-2:], strict=True)
    )
    y, x = (
        ((torch.arange(pixels, dtype=torch.float64) + 0.5) * (length / pixels) + begin)
        * (2 / cropped)
        - 1
        for pixels, begin, length, cropped in zip(
            size, begins, lengths, (rows, columns), strict=True
        )
    )
    grid = torch.stack(torch.meshgrid(x, y, indexing='xy'), -1).to(maps)
    return F.grid_sample(
        maps[..., :rows, :columns],
        grid.expand(len(maps), *grid.shape),
        mode='bilinear',
        padding_mode='border',
        align_corners=False,
    )
