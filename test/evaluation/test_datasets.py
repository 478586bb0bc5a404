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

"""Data sets: every layout, and every way in which a folder can be wrong."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest

from maskomaly_ros.classes import CLASS_NAMES
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.datasets import LAYOUTS, open_dataset, write_plain


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(array))
    return path


def picture(height=6, width=8):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def write_pair(folder, layout, name, values, suffix='png'):
    """Write an image and a label with the given values; return their paths."""
    image, label = (
        folder / pattern.replace('{name}', name).replace('.*', f'.{suffix}')
        for pattern in (LAYOUTS[layout].images, LAYOUTS[layout].labels)
    )
    raw = np.resize(np.array(values, np.uint8), (6, 8))
    return write(image, picture()), write(label, raw)


@pytest.mark.parametrize(
    ('layout', 'values', 'expected'),
    [
        ('anomaly_track', [0, 1, 255], [0, 1, 255]),
        ('obstacle_track', [0, 1, 255], [0, 1, 255]),
        ('plain', [0, 1, 255], [0, 1, 255]),
        ('camvid', list(range(12)), [6, 5, 4, 0, 1, 5, 4, 4, 3, 2, 2, 255]),
        ('idd_lite', [0, 1, 2, 3, 4, 5, 6, 255], [0, 1, 2, 3, 4, 5, 6, 255]),
    ],
)
def test_every_layout_is_read(tmp_path, layout, values, expected):
    for name in ('b.with.dots', 'a'):
        write_pair(tmp_path, layout, name, values)
    dataset = open_dataset(f'{layout}:{tmp_path}')
    assert len(dataset) == 2
    assert not dataset.skipped
    (first, image, label), (second, *_) = dataset.read()
    assert [first.name, second.name] == ['a', 'b.with.dots']
    assert image.shape == (6, 8, 3)
    assert image.dtype == label.dtype == np.uint8
    assert np.array_equal(label, np.resize(np.array(expected), (6, 8)))


LAF = 'leftImg8bit/test/04_Weg/04_Weg_000000_000030_leftImg8bit.png'


@pytest.mark.parametrize(
    ('layout', 'image', 'label', 'name', 'values', 'expected'),
    [
        (
            'road_anomaly',
            'frames/cow.1.jpg',
            'frames/cow.1.labels/labels_semantic.png',
            'cow.1',
            [0, 1, 2, 255],
            [0, 0, 1, 0],
        ),
        ('fishyscapes_static', 'images/7.png', 'labels/7.png', '7', [0, 1, 255], [0, 1, 255]),
        ('fishyscapes_static', 'original/7.png', 'labels/7.png', '7', [0, 1], [0, 1]),
        ('fishyscapes_static', 'images/7.jpg', 'labels/7_labels.png', '7', [0, 1], [0, 1]),
        (
            'fishyscapes_lost_and_found',
            LAF,
            'fishyscapes_lostandfound/0007_04_Weg_000000_000030_labels.png',
            '04_Weg_000000_000030',
            [0, 1, 255],
            [0, 1, 255],
        ),
        (
            'fishyscapes_lost_and_found',
            LAF,
            'labels/val/04_Weg_000000_000030_fishy-labels.png',
            '04_Weg_000000_000030',
            [0, 1, 255],
            [0, 1, 255],
        ),
        (
            'street_hazards',
            'test/images/test/t5/300.png',
            'test/annotations/test/t5/300.png',
            't5/300',
            [0, 1, 13, 14],
            [0, 0, 0, 1],
        ),
        (
            'street_hazards',
            'images/test/t6/1.png',
            'annotations/test/t6/1.png',
            't6/1',
            [14, 3],
            [1, 0],
        ),
        (
            'lost_and_found',
            LAF,
            'gtCoarse/test/04_Weg/04_Weg_000000_000030_gtCoarse_labelIds.png',
            'test/04_Weg/04_Weg_000000_000030',
            [0, 1, 2, 42, 200, 201, 255],
            [255, 0, 1, 1, 1, 255, 255],
        ),
    ],
)
def test_published_data_sets_are_read(tmp_path, layout, image, label, name, values, expected):
    write(tmp_path / image, picture())
    write(tmp_path / label, np.resize(np.array(values, np.uint8), (6, 8)))
    dataset = open_dataset(f'{layout}:{tmp_path}')
    ((sample, _, read),) = dataset.read()
    assert sample.name == name
    assert sample.image == tmp_path / image
    assert not dataset.skipped
    assert np.array_equal(read, np.resize(np.array(expected), (6, 8)))


def test_road_anomaly_has_a_list_of_its_frames(tmp_path):
    for name in ('a', 'b', 'c'):
        write_pair(tmp_path, 'road_anomaly', name, [0, 2])
    (tmp_path / 'frame_list.json').write_text(json.dumps(['a.jpg', 'b.jpg', 'lost.jpg']))
    dataset = open_dataset(f'road_anomaly:{tmp_path}')
    assert [sample.name for sample in dataset.samples] == ['a', 'b']
    assert dataset.skipped == {'lost': 'one image and one label are needed, found none'}
    for content, message in (('{"a": 1}', 'no list of file names'), ('[', 'is not JSON')):
        (tmp_path / 'frame_list.json').write_text(content)
        with pytest.raises(MaskomalyError, match=message):
            open_dataset(f'road_anomaly:{tmp_path}')


def test_labels_of_fishyscapes_say_what_belongs_to_it(tmp_path):
    for name in ('a', 'b'):
        write(tmp_path / f'leftImg8bit/test/x/{name}_leftImg8bit.png', picture())
    label = tmp_path / 'fishyscapes_lostandfound' / '0000_a_labels.png'
    write(label, np.zeros((6, 8), np.uint8))
    dataset = open_dataset(f'fishyscapes_lost_and_found:{tmp_path}')
    assert [sample.name for sample in dataset.samples] == ['a']
    assert not dataset.skipped
    label.with_name('0001_c_labels.png').write_bytes(label.read_bytes())
    assert open_dataset(f'fishyscapes_lost_and_found:{tmp_path}').skipped.keys() == {'c'}


@pytest.mark.parametrize('name', ['AnomalyTrack', 'anomaly-track', 'ANOMALY_TRACK'])
def test_layouts_may_be_spelled_as_published(tmp_path, name):
    write_pair(tmp_path, 'anomaly_track', 'a', [0, 1])
    assert open_dataset(f'{name}:{tmp_path}').layout_name == 'anomaly_track'


def test_grey_labels_stored_as_colours_are_read(tmp_path):
    _, label = write_pair(tmp_path, 'plain', 'a', [0, 1, 255])
    write(label, np.repeat(np.resize(np.array([0, 1, 255], np.uint8), (6, 8))[..., None], 3, 2))
    ((_, _, read),) = open_dataset(f'plain:{tmp_path}').read()
    assert np.array_equal(read, np.resize(np.array([0, 1, 255]), (6, 8)))


def test_images_are_rgb(tmp_path):
    image, _ = write_pair(tmp_path, 'plain', 'a', [0])
    write(image, np.full((6, 8, 3), (255, 0, 0), np.uint8))  # blue, as OpenCV has it
    (_, read, _), *_ = open_dataset(f'plain:{tmp_path}').read()
    assert read[0, 0].tolist() == [0, 0, 255]


def test_plain_takes_any_format_and_folders_below(tmp_path):
    write_pair(tmp_path, 'plain', 'a', [0, 1], suffix='webp')
    write(tmp_path / 'images' / 'night' / 'a.jpg', picture())
    write(tmp_path / 'labels' / 'night' / 'a.png', np.zeros((6, 8), np.uint8))
    (tmp_path / 'images' / 'notes.txt').write_text('not an image')
    dataset = open_dataset(f'plain:{tmp_path}')
    assert [sample.name for sample in dataset.samples] == ['a', 'night/a']
    assert not dataset.skipped


def test_unusable_pairs_are_named_and_skipped(tmp_path, caplog):
    for name in ('good', 'broken', 'empty', 'small', 'colourful', 'unknown', 'lonely', 'twice'):
        write_pair(tmp_path, 'plain', name, [0, 1])
    images, labels = tmp_path / 'images', tmp_path / 'labels'
    (images / 'broken.png').write_bytes(b'\x89PNG but no more')
    (labels / 'empty.png').write_bytes(b'')
    write(labels / 'small.png', np.zeros((3, 8), np.uint8))
    write(labels / 'colourful.png', picture())
    write(labels / 'unknown.png', np.full((6, 8), 7, np.uint8))
    (labels / 'lonely.png').unlink()
    write(images / 'twice.jpg', picture())
    write(labels / 'orphan.png', np.zeros((6, 8), np.uint8))

    dataset = open_dataset(f'plain:{tmp_path}')
    assert dataset.skipped.keys() == {'lonely', 'orphan', 'twice'}
    for _ in range(2):  # a second pass finds the same
        assert [sample.name for sample, *_ in dataset.read()] == ['good']
    reasons = {
        'broken': 'images/broken.png is not an image',
        'empty': 'labels/empty.png is not an image',
        'small': 'has 8 x 6 pixels, but .*labels/small.png has 8 x 3',
        'colourful': r'colourful.png is uint8 \[6, 8, 3\]; a label has one channel',
        'unknown': 'unknown.png has value 7; its layout knows 0, 1, 255',
        'lonely': 'one image and one label are needed, found .*images/lonely.png',
        'orphan': 'found .*labels/orphan.png',
        'twice': 'images/twice.jpg, .*images/twice.png, .*labels/twice.png',
    }
    assert dataset.skipped.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert len([r for r in caplog.messages if f'skipped {name}: ' in r]) == 1
        assert re.search(reason, dataset.skipped[name])


def test_a_file_that_vanishes_is_skipped(tmp_path):
    image, _ = write_pair(tmp_path, 'plain', 'a', [0])
    write_pair(tmp_path, 'plain', 'b', [0])
    dataset = open_dataset(f'plain:{tmp_path}')
    image.unlink()
    assert [sample.name for sample, *_ in dataset.read()] == ['b']
    assert 'cannot read' in dataset.skipped['a']


def test_what_is_written_is_read_back(tmp_path):
    image, label = picture(), np.resize(np.array([0, 1, 255], np.uint8), (6, 8))
    write_plain(tmp_path / 'new', 'a', image, label)
    ((sample, read_image, read_label),) = open_dataset(f'plain:{tmp_path / "new"}').read()
    assert sample.name == 'a'
    assert np.array_equal(read_image, image)
    assert np.array_equal(read_label, label)
    (tmp_path / 'file').touch()
    with pytest.raises(MaskomalyError, match='cannot write'):
        write_plain(tmp_path / 'file', 'a', image, label)


@pytest.mark.parametrize('text', ['/data', 'nonsense:/data', 'plain:', ''])
def test_a_wrong_specification_names_the_layouts(text):
    with pytest.raises(MaskomalyError, match=r'is not LAYOUT:PATH with one of .*anomaly_track'):
        open_dataset(text)


def test_wrong_folders_are_refused_at_once(tmp_path):
    with pytest.raises(MaskomalyError, match='missing does not exist'):
        open_dataset(f'plain:{tmp_path / "missing"}')
    with pytest.raises(MaskomalyError, match=r'no images at .*images/\{name\}\.jpg'):
        open_dataset(f'anomaly_track:{tmp_path}')
    write(tmp_path / 'images' / 'a.jpg', picture())
    with pytest.raises(MaskomalyError, match=r'no labels at .*_labels_semantic\.png'):
        open_dataset(f'anomaly_track:{tmp_path}')
    write(tmp_path / 'labels_masks' / 'b_labels_semantic.png', np.zeros((6, 8), np.uint8))
    with pytest.raises(MaskomalyError, match='has a label of the same name'):
        open_dataset(f'anomaly_track:{tmp_path}')


@pytest.mark.parametrize(
    ('layout', 'folder', 'images'),
    [
        ('anomaly_track', 'road_anomaly21_val', 10),
        ('obstacle_track', 'road_obstacle21_val', 30),
        ('camvid', 'camvid/val', 101),
        ('idd_lite', 'idd_lite/val', 204),
    ],
)
def test_real_data_sets(shared, layout, folder, images):
    dataset = open_dataset(f'{layout}:{shared / "data" / folder}')
    assert dataset.name == folder
    assert len(dataset) == images
    assert not dataset.skipped
    _, label = dataset.samples[0].read()
    classes = range(len(CLASS_NAMES)) if dataset.layout.task == 'semantic' else (0, 1)
    assert set(np.unique(label)) <= {*classes, 255}


def test_a_jpeg_that_was_cut_off_is_broken(tmp_path):
    """The decoder fills what is missing with grey and says nothing."""
    dataset_folder = tmp_path / 'set'
    image = np.random.default_rng(1).integers(0, 255, (64, 96, 3), np.uint8)
    for folder in ('images', 'labels'):
        (dataset_folder / folder).mkdir(parents=True)
    for index, options in enumerate([[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]]):
        _, content = cv2.imencode('.jpg', image, options)
        for name, kept in (('whole', len(content)), ('cut', len(content) * 2 // 3)):
            path = dataset_folder / f'images/{name}{index}.jpg'
            path.write_bytes(content.tobytes()[:kept])
            label = np.zeros((64, 96), np.uint8)
            cv2.imwrite(str(dataset_folder / f'labels/{name}{index}.png'), label)
    dataset = open_dataset(f'plain:{dataset_folder}')
    assert [sample.name for sample, _, _ in dataset.read()] == ['whole0', 'whole1']
    assert set(dataset.skipped) == {'cut0', 'cut1'}
    assert 'is not an image that can be decoded' in dataset.skipped['cut0']


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / 'x').touch()
    with pytest.raises(MaskomalyError, match='x is no folder'):
        open_dataset(f'plain:{tmp_path}/x')
