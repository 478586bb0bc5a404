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

"""Pictures of scores and obstacles: colours, overlay, captions, contact sheets.

Images are RGB uint8 [H, W, 3]. Scores always have the same colour, from 0 (black) to 1 (pale
yellow): nothing is normalised for each frame, so pictures can be compared. No function changes
its arguments, unless it says so.
"""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.obstacles import Obstacle

if TYPE_CHECKING:
    from torch import Tensor  # images come without it

__all__ = [
    'caption',
    'colorize',
    'contact_sheet',
    'label',
    'overlay',
    'overlay_on_device',
    'score_scale',
    'write_labels',
]

Image = NDArray[np.uint8]

# Inferno is perceptually uniform, prints well in grey and reads with colour-blind eyes.
_LEVELS: Final = np.arange(256, dtype=np.uint8)[:, None]
_COLORS: Final = np.asarray(
    cv2.cvtColor(cv2.applyColorMap(_LEVELS, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB), np.uint8
)
# Scores below the first are not shown at all, those above the second with full opacity.
_TRANSPARENT_BELOW: Final = 0.2
_OPAQUE_ABOVE: Final = 0.8
# Inferno has no cyan and roads have none; the dark rim keeps it visible on a bright road.
_OUTLINE: Final = (0, 255, 255)
_RIM: Final = (0, 0, 0)

_BACKGROUND: Final = (24, 24, 24)
_TEXT: Final = (240, 240, 240)
_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
_SMALLEST_SCALE: Final = 160
_MOST_LABELS: Final = 40  # of the largest obstacles; noise has thousands
_BAND: Final = 64  # rows


def colorize(score: NDArray[np.floating[Any]]) -> Image:
    """Return a score map in colour.

    Args:
        score: Score map [H, W], any float type; what lies outside [0, 1] is shown as 0 or 1.

    Returns:
        RGB uint8 [H, W, 3] (inferno: brighter is more anomalous).

    Raises:
        MaskomalyError: Where score is no map of floats or holds NaN.

    """
    return _look_up(_levels(score), _COLORS)


def overlay(
    frame: Image,
    score: NDArray[np.floating[Any]],
    obstacles_mask: Image | None = None,
    opacity: float = 0.5,
) -> Image:
    """Return a camera frame with its score in colour and its obstacles outlined.

    Where the score is low, the frame is unchanged; the higher the score, the more colour it gets.
    Outlines run around obstacles, so that not even the smallest one is covered.

    Args:
        frame: Camera frame, RGB uint8 [H, W, 3].
        score: Score map [H, W], any float type, usually in [0, 1].
        obstacles_mask: Obstacle mask uint8 [H, W], not 0 on obstacles; None draws no outline.
        opacity: How much the colours cover the frame where the score is high, in [0, 1].

    Returns:
        RGB uint8 [H, W, 3].

    Raises:
        MaskomalyError: Where sizes differ, types are wrong, score holds NaN or opacity is out of
            range.

    """
    _check_image('frame', frame)
    levels = _levels(score)
    if levels.shape != frame.shape[:2]:
        raise MaskomalyError(
            f'the score map is {levels.shape} and the frame {frame.shape[:2]}: '
            'they must be of one size'
        )
    if not 0 <= opacity <= 1:  # also refuses NaN
        raise MaskomalyError(f'the opacity is {opacity}; it must lie from 0 to 1')

    kept, added = _blending(float(opacity))
    blended = np.empty(frame.shape, np.uint8)
    # In bands, what lies between stays in the cache, and no large block is paged in for it.
    for top in range(0, len(frame), _BAND):
        band = np.s_[top : top + _BAND]
        below = np.ascontiguousarray(frame[band])
        cv2.multiply(below, _look_up(levels[band], kept), dst=blended[band], scale=1 / 255)
        cv2.add(blended[band], _look_up(levels[band], added), dst=blended[band])
    if obstacles_mask is not None:
        _outline(blended, obstacles_mask)
    return blended


def overlay_on_device(
    frame: Tensor, score: Tensor, obstacles_mask: Tensor, opacity: float = 0.5
) -> Tensor:
    """Do what overlay does, with tensors and on their device.

    Args:
        frame: Camera frame, uint8 [H, W, 3].
        score: Score map, float [H, W] in [0, 1].
        obstacles_mask: Obstacle mask, uint8 [H, W], not 0 on obstacles.
        opacity: As for overlay.

    Returns:
        uint8 [H, W, 3]; channels may differ from those of overlay by 1, from rounding.

    """
    import torch
    from torch.nn.functional import max_pool2d

    levels = (score.clamp(0, 1) * 255).round_().long()
    kept, added = (
        torch.from_numpy(table[:, 0].astype(np.float32)).to(score.device)
        for table in _blending(float(opacity))
    )
    blended = (frame * kept[levels] / 255).round_() + added[levels]
    inside = (obstacles_mask != 0).to(blended)[None]
    width = _outline_width(score.shape)
    for color in (_OUTLINE, _RIM):
        grown = max_pool2d(inside, 2 * width + 1, stride=1, padding=width)
        ring = (grown - inside)[0, :, :, None]
        blended = torch.where(ring > 0, blended.new_tensor(color), blended)
        inside = grown
    return blended.clamp_(max=255).to(torch.uint8)


def label(obstacle: Obstacle) -> str:
    """Return what is known about an obstacle beside its score, in short; may be empty."""
    parts = [] if obstacle.id is None else [f'#{obstacle.id}']
    if obstacle.range is not None:
        parts.append(f'{obstacle.range:.1f} m')
    return ' '.join(parts)


def write_labels(image: Image, obstacles: Sequence[Obstacle]) -> None:
    """Write the label of each obstacle above its box, or below where there is no room, in place.

    Args:
        image: RGB uint8 [H, W, 3], contiguous.
        obstacles: Largest first; the largest 40 are labelled.

    """
    height, width = image.shape[:2]
    letter = max(8, round(height / 60))
    thickness = max(1, round(letter / 8))
    scale = cv2.getFontScaleFromHeight(_FONT, letter, thickness)
    for obstacle in obstacles[:_MOST_LABELS]:
        text = label(obstacle)
        if not text:
            continue
        room = int(cv2.getTextSize(text, _FONT, scale, thickness)[0][0])
        left = max(0, min(obstacle.x, width - room - thickness))
        base = obstacle.y - letter // 2
        if base < letter + thickness:
            base = min(obstacle.y + obstacle.height + 2 * letter, height - thickness)
        for color, extra in ((_RIM, 2 * thickness), (_OUTLINE, 0)):
            cv2.putText(
                image, text, (left, base), _FONT, scale, color, thickness + extra, cv2.LINE_AA
            )


def caption(image: Image, text: str) -> Image:
    """Return an image with text on a dark band along its upper edge.

    Args:
        image: RGB uint8 [H, W, 3].
        text: One or more lines. Letters shrink, and then the end is left out, where a line is
            wider than the image; letters outside of ASCII lose their accents or become '?'.

    Returns:
        RGB uint8 [H, W, 3], as large as the image.

    Raises:
        MaskomalyError: Where image is no RGB image.

    """
    _check_image('image', image)
    captioned = np.array(image)
    lines = text.splitlines()
    letter = _letter_height(image.shape[0])
    band = captioned[: letter // 2 + len(lines) * 2 * letter] if lines else captioned[:0]
    band[:] = band // 4
    for row, line in enumerate(lines):
        _write(captioned, line, letter, letter // 4 + row * 2 * letter)
    return captioned


def contact_sheet(
    tiles: Sequence[Image],
    columns: int,
    captions: Sequence[str] | None = None,
    tile_size: tuple[int, int] | None = None,
) -> Image:
    """Return many images in one, row by row.

    Args:
        tiles: RGB uint8 images [h, w, 3], not necessarily of one size. Each is scaled to fit its
            cell, keeping its shape.
        columns: Number of tiles in a row.
        captions: One line for each tile, written above it.
        tile_size: Height and width in pixels of a cell. Default: those of the largest tile.

    Returns:
        RGB uint8 [H, W, 3] on a dark ground.

    Raises:
        MaskomalyError: Where there is no tile, one of them is no RGB image, or numbers do not
            fit.

    """
    if not tiles:
        raise MaskomalyError('a contact sheet needs one tile at least')
    for index, tile in enumerate(tiles):
        _check_image(f'tile {index}', tile)
    if columns < 1:
        raise MaskomalyError(f'a contact sheet has {columns} columns; it needs 1 at least')
    if captions is not None and len(captions) != len(tiles):
        raise MaskomalyError(f'there are {len(captions)} captions for {len(tiles)} tiles')
    height, width = tile_size or max((tile.shape[:2] for tile in tiles), key=math.prod)
    if height < 1 or width < 1:
        raise MaskomalyError(f'the tile size is {(height, width)}; it must be 1 x 1 at least')

    letter = _letter_height(round(height * 1.3))  # sheets are often looked at scaled down
    heading = 0 if captions is None else 2 * letter
    gap = max(2, letter // 2)
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    sheet = _canvas(
        gap + rows * (heading + height + gap),
        gap + columns * (width + gap),
    )
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        top, left = gap + row * (heading + height + gap), gap + column * (width + gap)
        if captions is not None:
            _write(sheet[top : top + heading, left : left + width], captions[index], letter, 0)
        fitted = _fit(tile, height, width)
        top += heading + (height - fitted.shape[0]) // 2
        left += (width - fitted.shape[1]) // 2
        sheet[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return sheet


def score_scale(width: int, threshold: float | None = None) -> Image:
    """Return a legend of the colours of scores, to be stacked below an image.

    Args:
        width: Width of the legend in pixels.
        threshold: Obstacle threshold to mark, in [0, 1].

    Returns:
        RGB uint8 [h, width, 3]; h follows from width.

    Raises:
        MaskomalyError: Where width is too small or threshold out of range.

    """
    if width < _SMALLEST_SCALE:
        raise MaskomalyError(f'the scale is {width} pixels wide; {_SMALLEST_SCALE} is the least')
    if threshold is not None and not 0 <= threshold <= 1:
        raise MaskomalyError(f'the threshold is {threshold}; it must lie from 0 to 1')
    letter = min(20, _letter_height(width * 9 // 16))
    bar_top, bar_height = 2 * letter, letter
    scale = _canvas(bar_top + bar_height + 2 * letter, width)
    left, right = 2 * letter, width - 2 * letter
    bar = np.linspace(0, 1, right - left, dtype=np.float32)
    scale[bar_top : bar_top + bar_height, left:right] = colorize(bar[None])

    title = 'anomaly score'
    if threshold is not None:
        title += f', obstacle above {threshold:g}'
        x = left + round(threshold * (right - left - 1))
        mark = scale[bar_top - letter // 3 : bar_top + bar_height + letter // 3]
        mark[:, max(x - letter // 4, 0) : x + letter // 4 + 1] = _RIM
        mark[:, max(x - letter // 8, 0) : x + letter // 8 + 1] = _OUTLINE
    _write(scale[:, left:right], title, letter, 0, margin=0)
    for value in (0, 0.25, 0.5, 0.75, 1):
        x = left + round(value * (right - left - 1))
        label = scale[:, max(x - 2 * letter, 0) : x + 2 * letter]
        _write(label, f'{value:g}', letter, bar_top + bar_height, centred=True)
    return scale


def _levels(score: NDArray[np.floating[Any]]) -> Image:
    """Return scores on the scale 0 to 255, rounded."""
    score = np.asarray(score)
    if not np.issubdtype(score.dtype, np.floating):
        raise MaskomalyError(f'the score map holds {score.dtype}; it must hold floats')
    if score.ndim != 2 or score.size == 0:
        raise MaskomalyError(f'the score map is {score.shape}; it must be [height, width]')
    highest = score.max()
    if np.isnan(highest):
        raise MaskomalyError('the score map holds NaN, which has no colour')
    if highest > 1:  # OpenCV saturates, but not what exceeds its integers
        score = np.minimum(score, 1)
    score = np.ascontiguousarray(score, dtype=np.float32)
    return np.asarray(cv2.multiply(score, np.float64(255), dtype=cv2.CV_8U), np.uint8)


def _look_up(levels: Image, table: Image) -> Image:
    return np.asarray(cv2.applyColorMap(levels, table), np.uint8)


@functools.lru_cache(maxsize=16)
def _blending(opacity: float) -> tuple[Image, Image]:
    """Return, by level, what is left of the frame (of 255) and the colour that comes on top."""
    score = np.arange(256) / 255
    ramp = np.clip((score - _TRANSPARENT_BELOW) / (_OPAQUE_ABOVE - _TRANSPARENT_BELOW), 0, 1)
    alpha = (opacity * ramp * ramp * (3 - 2 * ramp))[:, None, None]
    kept = np.repeat(np.rint(255 * (1 - alpha)), 3, axis=2).astype(np.uint8)
    added = np.floor(_COLORS * (1 - kept / 255)).astype(np.uint8)
    return kept, added


def _outline(image: Image, mask: Image) -> None:
    mask = np.asarray(mask)
    if mask.dtype not in (np.uint8, np.bool_):
        raise MaskomalyError(f'the obstacle mask holds {mask.dtype}; it must be uint8')
    if mask.shape != image.shape[:2]:
        raise MaskomalyError(
            f'the obstacle mask is {mask.shape} and the frame {image.shape[:2]}: '
            'they must be of one size'
        )
    inside: Any = np.ascontiguousarray(mask, dtype=np.bool_).view(np.uint8)
    width = _outline_width(mask.shape)
    grow = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * width + 1, 2 * width + 1))
    for color in (_OUTLINE, _RIM):
        grown = cv2.dilate(inside, grow)
        ring = cv2.subtract(grown, inside).view(np.bool_)  # numpy finds booleans much faster
        image.reshape(-1, 3)[np.flatnonzero(ring)] = color
        inside = grown


def _outline_width(size: Sequence[int]) -> int:
    return max(1, round(min(size) / 450))


def _check_image(name: str, image: Image) -> None:
    if not isinstance(image, np.ndarray):
        raise MaskomalyError(f'{name} is a {type(image).__name__}; it must be a numpy array')
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or image.size == 0:
        raise MaskomalyError(
            f'{name} is {image.dtype} {image.shape}; it must be RGB uint8 [height, width, 3]'
        )


def _canvas(height: int, width: int) -> Image:
    return np.full((height, width, 3), _BACKGROUND, np.uint8)


def _fit(image: Image, height: int, width: int) -> Image:
    """Return the image as large as fits into height and width in its own shape."""
    factor = min(height / image.shape[0], width / image.shape[1])
    if factor == 1:
        return image
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(
        cv2.resize(np.ascontiguousarray(image), size, interpolation=method), np.uint8
    )


def _letter_height(image_height: int) -> int:
    """Return the height in pixels of a capital that suits an image."""
    return max(10, round(image_height / 42))


def _write(
    image: Image,
    line: str,
    letter: int,
    top: int,
    *,
    margin: int | None = None,
    centred: bool = False,
) -> None:
    """Write a line into the row of two letter heights that begins at top; it always fits."""
    line = unicodedata.normalize('NFKD', line)
    line = ''.join(c for c in line if not unicodedata.combining(c))
    line = line.encode('ascii', 'replace').decode()  # all that OpenCV's fonts have
    margin = letter // 2 if margin is None else margin
    room = image.shape[1] - 2 * margin
    thickness = max(1, round(letter / 10))
    scale = cv2.getFontScaleFromHeight(_FONT, letter, thickness)

    def width(text: str) -> int:
        return int(cv2.getTextSize(text, _FONT, scale, thickness)[0][0])

    if width(line) > room:
        scale *= max(room / max(width(line), 1), 0.7)  # OpenCV 4 gives some letters no width
    kept = line
    while kept and width(line) > room:
        kept = kept[:-1]
        line = kept.rstrip() + '...'
    if not kept:
        return
    left = (image.shape[1] - width(line)) // 2 if centred else margin
    canvas = np.ascontiguousarray(image)
    cv2.putText(
        canvas, line, (left, top + letter * 3 // 2), _FONT, scale, _TEXT, thickness, cv2.LINE_AA
    )
    image[:] = canvas
