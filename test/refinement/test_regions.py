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

"""Tests of maskomaly_ros.refinement.regions."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.refinement.regions import Region

SIZE = (12, 20)


def test_no_region_is_the_whole_frame() -> None:
    region = Region()
    assert not region
    score = np.full(SIZE, 0.5, np.float32)
    assert region.apply(score) is score
    assert region.inside(SIZE).all()


def test_outside_of_polygons_the_score_is_zero() -> None:
    region = Region(road='2,3 2,8 9,8 9,3; 15,0 19,0 19,4 15,4', ego='5,5 5,11 12,11 12,5')
    expected = np.zeros(SIZE, np.float32)
    expected[3:9, 2:10] = 0.75
    expected[0:5, 15:20] = 0.75
    expected[5:12, 5:13] = 0
    score = np.full(SIZE, 0.75, np.float32)
    np.testing.assert_array_equal(region.apply(score), expected)
    assert (score == 0.75).all(), 'the map that was given is left alone'
    assert region.apply(score).dtype == np.float32


def test_polygons_that_overlap_are_joined() -> None:
    region = Region(road='0,0 10,0 10,10 0,10; 5,5 15,5 15,11 5,11')
    assert region.inside(SIZE)[7, 7] == 255


def test_pictures_of_every_kind(tmp_path: Path) -> None:
    painted = np.zeros((*SIZE, 3), np.uint8)
    painted[4:, :5] = (0, 0, 1)
    for name, picture in {
        'colour': painted,
        'grey': painted.max(axis=2) * 255,
        'deep': painted.max(axis=2).astype(np.uint16) * 65535,
    }.items():
        path = tmp_path / f'{name}.PNG'
        path.write_bytes(bytes(cv2.imencode('.png', picture)[1]))
        inside = Region(ego=str(path)).inside(SIZE)
        np.testing.assert_array_equal(inside == 0, painted.any(axis=2), name)


def test_another_size_is_refused_and_the_right_one_still_works(tmp_path: Path) -> None:
    path = tmp_path / 'ego.png'
    path.write_bytes(bytes(cv2.imencode('.png', np.zeros(SIZE, np.uint8))[1]))
    for region, reason in [
        (Region(ego=str(path)), r'ego\.png has 20 x 12 pixels, but the frame has 10 x 12'),
        (Region(road='0,0 19,0 19,11'), r'reaches to 19,11, but the frame has 10 x 12'),
    ]:
        assert region.inside(SIZE).shape == SIZE
        with pytest.raises(MaskomalyError, match=reason):
            region.apply(np.zeros((12, 10), np.float32))
        assert region.apply(np.zeros(SIZE, np.float32)).shape == SIZE


@pytest.mark.parametrize(
    'text',
    ['road', '0,0 1,1', '0,0 1,1 0,0', '0,0 5,5 -1,2', '0,0 5.5,5 1,2', '0,0 5,5 1,2; 3,3', ';'],
)
def test_what_is_no_polygon_is_named(text: str) -> None:
    with pytest.raises(MaskomalyError, match='region'):
        Region(road=text)


def test_files_that_are_no_picture_are_named(tmp_path: Path) -> None:
    torn = tmp_path / 'torn.png'
    torn.write_bytes(b'\x89PNG\r\n\x1a\n torn')
    for path in (tmp_path / 'missing.png', torn, tmp_path):
        with pytest.raises(MaskomalyError, match=str(path.name)):
            Region(ego=f'{path}' if path.suffix else f'{path}/.png')
