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

"""Pictures: what must show, what must stay as it was, and every odd size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.visualization import (
    caption,
    colorize,
    contact_sheet,
    overlay,
    overlay_on_device,
    score_scale,
)

OUTLINE = np.array([0, 255, 255])


def luminance(colors):
    """Return CIE L*, in which equal steps look equal."""
    return cv2.cvtColor(colors.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 0]


@st.composite
def pictures(draw, max_rows=140):
    """Draw a frame, a score map and an obstacle mask of one size, contiguous or not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.integers(1, max_rows)), draw(st.integers(1, 12))
    frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    score = rng.random((height, width), dtype=np.float32)
    mask = np.where(rng.random((height, width)) > 0.8, 255, 0).astype(np.uint8)
    if draw(st.booleans()):
        frame, score, mask = frame[:, ::-1], score[::-1], mask.T.copy().T
    return frame, score, mask


# Colours


def test_more_anomalous_is_brighter_in_equal_steps():
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    steps = np.diff(luminance(colorize(ramp))[0])
    assert steps.min() > 0
    assert steps.max() < 4 * steps.mean()


def test_scale_is_fixed():
    levels = np.arange(256, dtype=np.float32) / 255
    table = colorize(levels[None])[0]
    assert table[0].max() < 8
    assert table[255].min() > 150
    for level in (0, 1, 51, 128, 230, 255):
        alone = colorize(np.full((2, 3), level / 255))
        assert (alone == table[level]).all()


@given(pictures())
def test_colour_depends_on_the_score_alone(picture):
    _, score, _ = picture
    table = colorize(np.arange(256, dtype=np.float32)[None] / 255)[0].astype(int)
    largest_step = abs(np.diff(table, axis=0)).max()
    for kind in (np.float16, np.float32, np.float64):
        values = score.astype(kind)
        before = values.copy()
        colors = colorize(values)
        assert colors.dtype == np.uint8
        nearest = table[np.rint(score.astype(float) * 255).astype(int)]
        assert abs(colors - nearest).max() <= largest_step
        np.testing.assert_array_equal(values, before)


def test_scores_outside_of_the_scale_saturate():
    colors = colorize(np.array([[0, -0.5, -1e20, -np.inf, 1, 1.5, 1e20, np.inf]]))[0]
    assert (colors[:4] == colors[0]).all()
    assert (colors[4:] == colors[4]).all()


@given(pictures(), st.floats(0, 1))
def test_overlay_on_a_device_is_the_same(picture, opacity):
    tensors = (torch.from_numpy(part.copy()) for part in picture)
    found = overlay_on_device(*tensors, opacity).numpy()  # type: ignore[call-arg]
    expected = overlay(*picture, opacity)  # type: ignore[call-arg]
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 1


# Overlay


@given(pictures(), st.floats(0, 1))
def test_frame_shows_unchanged_where_the_score_is_low(picture, opacity):
    frame, score, _ = picture
    result = overlay(frame, score, opacity=opacity)
    low = score < 0.2
    np.testing.assert_array_equal(result[low], frame[low])
    np.testing.assert_array_equal(overlay(frame, score, opacity=0), frame)


@given(pictures(), st.floats(0, 1))
def test_colour_covers_the_frame_in_proportion_to_opacity(picture, opacity):
    frame, score, _ = picture
    result = overlay(frame, np.ones_like(score), opacity=opacity)
    expected = frame * (1 - opacity) + colorize(np.ones_like(score)) * opacity
    assert abs(result - expected).max() <= 2
    somewhere = overlay(frame, score, opacity=opacity)
    lower = np.minimum(frame, colorize(score)).astype(int) - 2
    upper = np.maximum(frame, colorize(score)).astype(int) + 2
    assert ((lower <= somewhere) & (somewhere <= upper)).all()


@given(pictures())
def test_outlines_run_around_obstacles_and_leave_them_free(picture):
    frame, score, mask = picture
    without = overlay(frame, score)
    result = overlay(frame, score, mask)
    inside = mask > 0
    near = cv2.dilate(inside.astype(np.uint8), np.ones((5, 5))) > 0
    beside = (cv2.dilate(inside.astype(np.uint8), np.ones((3, 3))) > 0) & ~inside
    np.testing.assert_array_equal(result[inside], without[inside])
    np.testing.assert_array_equal(result[~near], without[~near])
    assert (result[beside] == OUTLINE).all()
    np.testing.assert_array_equal(overlay(frame, score, inside), result)


@pytest.mark.parametrize('brightness', [0, 128, 255])
def test_outline_stands_out_on_any_road(brightness):
    frame = np.full((720, 1280, 3), brightness, np.uint8)
    mask = np.zeros((720, 1280), np.uint8)
    mask[300:310, 500:520] = 255
    result = overlay(frame, np.zeros((720, 1280), np.float32), mask)
    around = luminance(result[285:325, 485:535])
    assert around.max() - around.min() > 80
    assert (result[299, 510] == OUTLINE).all()


@given(pictures())
def test_inputs_of_the_overlay_stay_as_they_were(picture):
    before = [array.copy() for array in picture]
    for array in picture:
        array.flags.writeable = False
    result = overlay(*picture)
    for array, copy in zip(picture, before, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert not np.shares_memory(array, result)
    plain = overlay(*(np.ascontiguousarray(array) for array in picture))
    np.testing.assert_array_equal(result, plain)


# Text


def text_band(image, captioned):
    return np.flatnonzero((image != captioned).any((1, 2)))


@pytest.mark.parametrize('brightness', [0, 128, 255])
def test_caption_can_be_read_on_any_ground(brightness):
    image = np.full((360, 480, 3), brightness, np.uint8)
    image[::7, ::5] = 255 - brightness
    captioned = caption(image, 'front: 12 obstacles')
    assert captioned.shape == image.shape
    rows = text_band(image, captioned)
    assert rows.max() < 60
    assert captioned[: rows.max()].max() > 200  # letters
    assert np.median(captioned[: rows.max()]) < 70  # ground
    assert (image == brightness).mean() > 0.9  # the image itself was not written on


def test_caption_of_several_lines_and_of_none():
    image = np.full((240, 320, 3), 200, np.uint8)
    one, two = (text_band(image, caption(image, text)).max() for text in ('a', 'a\nb'))
    assert two > one
    np.testing.assert_array_equal(caption(image, ''), image)


@given(st.integers(1, 60), st.integers(1, 60), st.text(max_size=80))
def test_any_caption_fits_into_any_image(height, width, text):
    image = np.full((height, width, 3), 99, np.uint8)
    assert caption(image[:, ::-1], text).shape == image.shape
    assert (image == 99).all()


def test_letters_stay_within_the_image():
    image = np.zeros((200, 300, 3), np.uint8)
    captioned = caption(image, 'a caption that is very much too long for its image ' * 3)
    columns = np.flatnonzero((captioned > 128).any((0, 2)))
    assert columns.min() > 0
    assert columns.max() < 299


# Contact sheet


def tiles_of(*sizes):
    rng = np.random.default_rng(0)
    return [rng.integers(60, 256, (height, width, 3), dtype=np.uint8) for height, width in sizes]


@pytest.mark.parametrize(
    ('count', 'columns', 'rows'), [(1, 3, 1), (4, 2, 2), (5, 2, 3), (3, 1, 3)]
)
@pytest.mark.parametrize('captions', [False, True])
def test_every_tile_is_on_the_sheet(count, columns, rows, captions):
    tiles = tiles_of(*[(40, 64)] * count)
    sheet = contact_sheet(
        tiles, columns, [f'tile {i}' for i in range(count)] if captions else None
    )
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (40, 64), (0, 1))
    places = []
    for tile in tiles:
        corner = np.argwhere((windows[..., 0, 0] == tile[0, 0]).all(-1))
        places += [
            (y, x) for y, x in corner.tolist() if (sheet[y : y + 40, x : x + 64] == tile).all()
        ]
    assert len(places) == count
    assert places == sorted(places)
    assert len({y for y, _ in places}) == rows
    assert len({x for _, x in places}) == min(columns, count)
    assert sheet.shape[1] < min(columns, count) * 64 * 1.5


def test_tiles_of_different_sizes_keep_their_shape():
    white = [np.full((*size, 3), 255, np.uint8) for size in ((100, 200), (300, 300), (20, 5))]
    sheet = contact_sheet(white, 3, tile_size=(120, 160))
    columns = np.flatnonzero((sheet == 255).all(2).any(0))
    groups = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    assert [len(group) for group in groups] == [160, 120, 30]
    heights = [int((sheet[:, group[0]] == 255).all(1).sum()) for group in groups]
    assert heights == [80, 120, 120]


def test_cells_are_as_large_as_the_largest_tile():
    small, large = tiles_of((30, 30), (60, 90))
    sheet = contact_sheet([small, large], 2)
    assert sheet.shape[0] > 60
    assert sheet.shape[1] > 180


# Legend


@given(st.integers(160, 2500), st.none() | st.floats(0, 1))
def test_legend_is_as_wide_as_wanted(width, threshold):
    scale = score_scale(width, threshold)
    assert scale.shape[1:] == (width, 3)
    assert scale.dtype == np.uint8
    assert len(scale) < 120


def test_legend_shows_the_colours_of_scores_and_the_threshold():
    plain = score_scale(640)
    table = {tuple(color) for color in colorize(np.linspace(0, 1, 256)[None])[0].tolist()}
    rows = [row for row in plain.tolist() if len({tuple(c) for c in row} & table) > 200]
    assert len(rows) >= 8
    middles = []
    for threshold in (0.0, 0.25, 0.9, 1.0):
        marked = (score_scale(640, threshold) == OUTLINE).all(2)
        assert marked.any()
        middles.append(float(np.argwhere(marked)[:, 1].mean()))
    left, right = middles[0], middles[-1]
    assert middles[1] == pytest.approx(left + 0.25 * (right - left), abs=2)
    assert middles[2] == pytest.approx(left + 0.9 * (right - left), abs=2)


# Refusals

FRAME, SCORE = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.float32)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: colorize(SCORE + np.nan), 'NaN'),
        (lambda: colorize(FRAME[..., 0]), 'holds uint8'),
        (lambda: colorize(SCORE[0]), r'is \(6,\)'),
        (lambda: colorize(SCORE[:0]), r'is \(0, 6\)'),
        (lambda: overlay(FRAME[..., 0], SCORE), r'frame is uint8 \(4, 6\)'),
        (lambda: overlay(FRAME.astype(float), SCORE), 'frame is float64'),
        (lambda: overlay(FRAME.tolist(), SCORE), 'frame is a list'),
        (lambda: overlay(FRAME, SCORE[:3]), r'score map is \(3, 6\) and the frame \(4, 6\)'),
        (lambda: overlay(FRAME, SCORE, FRAME[:2, :, 0]), r'mask is \(2, 6\)'),
        (lambda: overlay(FRAME, SCORE, SCORE), 'mask holds float32'),
        (lambda: overlay(FRAME, SCORE, opacity=1.5), 'opacity is 1.5'),
        (lambda: overlay(FRAME, SCORE, opacity=np.nan), 'opacity is nan'),
        (lambda: caption(SCORE, 'text'), 'image is float32'),
        (lambda: contact_sheet([], 2), 'one tile'),
        (lambda: contact_sheet([FRAME, SCORE], 2), 'tile 1 is float32'),
        (lambda: contact_sheet([FRAME], 0), '0 columns'),
        (lambda: contact_sheet([FRAME], 1, ['a', 'b']), '2 captions for 1 tiles'),
        (lambda: contact_sheet([FRAME], 1, tile_size=(0, 5)), r'tile size is \(0, 5\)'),
        (lambda: score_scale(20), '20 pixels'),
        (lambda: score_scale(640, 1.1), 'threshold is 1.1'),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(MaskomalyError, match=message):
        call()
