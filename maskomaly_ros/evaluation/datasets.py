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

"""Labelled data sets, by the layout of their folders."""

from __future__ import annotations

import copy
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.classes import (
    CAMVID_TO_CLASS,
    CITYSCAPES_TO_CLASS,
    CLASS_NAMES,
    IDD_TO_CLASS,
    IGNORE,
)
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.known import CITYSCAPES_CLASSES

_LOG = logging.getLogger(__name__)

Image = NDArray[np.uint8]

_IMAGE_SUFFIXES = {'.bmp', '.jpeg', '.jpg', '.png', '.webp'}
_ANOMALY = {0: 0, 1: 1, IGNORE: IGNORE}


@dataclass(frozen=True)
class Layout:
    """Where a kind of data set keeps its files, and what its labels say.

    Attributes:
        images: path of an image below the data set's folder. `{name}` stands for what image and
            label have in common (it may have folders in it), `{number}` for digits, `{folders}`
            for any folders that are no part of it, a suffix
            `.*` for any image format.
        labels: path of its label.
        others: further such pairs of paths, tried one after the other: the same data set in the
            folders of another release of it.
        benchmark_name: what the SegmentMeIfYouCan benchmark calls it in its files.
        zero_is_road: label 0 is the road itself, not everything that is no anomaly.
        values: label of each value that the label files may have: 0 not anomaly, 1 anomaly, or a
            class of `CLASS_NAMES`; 255 ignore. Any other value makes the file a broken one.
        fine: the same as classes of Cityscapes, where the labels tell those apart.
        other_values: values and fine for label files at one of `others`, by its path.
        task: `anomaly` or `semantic`: what the labels are good for.
        minimum_prediction: smallest predicted component, in pixels, of the component metrics.
        minimum_truth: smallest true component, in pixels.
        averaged: pixel figures are means over the images that have an anomaly, not pooled.
        listing: file with the JSON list of the images that belong to the data set, where it has
            one; all images belong to it where that file is missing.
        stretch: width and height that images and labels are stretched to where their files are
            squashed.
        subset: the labels say which images belong to the data set, the others are not missed.

    """

    images: str
    labels: str
    values: Mapping[int, int] = field(default_factory=_ANOMALY.copy)
    task: Literal['anomaly', 'semantic'] = 'anomaly'
    minimum_prediction: int = 500
    minimum_truth: int = 100
    averaged: bool = False
    listing: str | None = None
    subset: bool = False
    others: tuple[tuple[str, str], ...] = ()
    benchmark_name: str | None = None
    zero_is_road: bool = False
    stretch: tuple[int, int] | None = None
    fine: Mapping[int, int] | None = None
    other_values: Mapping[str, tuple[Mapping[int, int], Mapping[int, int]]] = field(
        default_factory=dict
    )


_FISHYSCAPES = (
    ('original/{name}.*', 'labels/{name}.*'),
    ('images/{name}.*', 'labels/{name}_labels.png'),
    ('original/{name}.*', 'labels/{name}_labels.png'),
)
_LOST_AND_FOUND_IMAGES = 'leftImg8bit/{name}_leftImg8bit.png'
_NESTED_IMAGES = 'leftImg8bit/{folders}/{name}_leftImg8bit.png'

_CITYSCAPES_IMAGES = 'leftImg8bit/val/{name}_leftImg8bit.png'
_CITYSCAPES_IDS = 'gtFine/val/{name}_gtFine_labelIds.png'
# The identifiers of labelIds.png, in the order of the classes.
_CITYSCAPES_EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_FINE = {**{i: i for i in range(len(CITYSCAPES_CLASSES))}, IGNORE: IGNORE}
_COARSE = {**CITYSCAPES_TO_CLASS, IGNORE: IGNORE}
_FINE_OF_IDS = {
    **dict.fromkeys((*range(34), IGNORE), IGNORE),
    **{value: index for index, value in enumerate(_CITYSCAPES_EVALUATED)},
}

LAYOUTS: Mapping[str, Layout] = {
    'anomaly_track': Layout(
        'images/{name}.jpg',
        'labels_masks/{name}_labels_semantic.png',
        benchmark_name='AnomalyTrack-all',
    ),
    'obstacle_track': Layout(
        'images/{name}.webp',
        'labels_masks/{name}_labels_semantic.png',
        minimum_prediction=50,
        minimum_truth=10,
        benchmark_name='ObstacleTrack-all',
        zero_is_road=True,
    ),
    'road_anomaly': Layout(
        'frames/{name}.jpg',
        'frames/{name}.labels/labels_semantic.png',
        {value: int(value == 2) for value in range(256)},
        listing='frame_list.json',
    ),
    'fishyscapes_static': Layout('images/{name}.*', 'labels/{name}.*', others=_FISHYSCAPES),
    'fishyscapes_lost_and_found': Layout(
        'images/{name}.*',
        'labels/{name}.*',
        subset=True,
        others=(
            *_FISHYSCAPES,
            (_NESTED_IMAGES, 'fishyscapes_lostandfound/{number}_{name}_labels.png'),
            (_NESTED_IMAGES, 'labels/{folders}/{name}_fishy-labels.png'),
        ),
    ),
    'street_hazards': Layout(
        'test/images/test/{name}.png',
        'test/annotations/test/{name}.png',
        {value: int(value == 14) for value in range(15)},
        averaged=True,
        others=(('images/test/{name}.png', 'annotations/test/{name}.png'),),
    ),
    'lost_and_found': Layout(
        _LOST_AND_FOUND_IMAGES,
        'gtCoarse/{name}_gtCoarse_labelIds.png',
        {value: 0 if value == 1 else 1 if 2 <= value <= 200 else IGNORE for value in range(256)},
        minimum_prediction=50,
        minimum_truth=10,
        zero_is_road=True,
    ),
    'plain': Layout('images/{name}.*', 'labels/{name}.*'),
    'camvid': Layout(
        'images/{name}.*', 'labels/{name}.png', {**CAMVID_TO_CLASS, 11: IGNORE}, 'semantic'
    ),
    'idd_lite': Layout(
        'images/{name}.*', 'labels/{name}.png', {**IDD_TO_CLASS, IGNORE: IGNORE}, 'semantic'
    ),
    'cityscapes': Layout(
        _CITYSCAPES_IMAGES,
        'gtFine/val/{name}_gtFine_labelTrainIds.png',
        _COARSE,
        'semantic',
        others=((_CITYSCAPES_IMAGES, _CITYSCAPES_IDS),),
        fine=_FINE,
        other_values={
            _CITYSCAPES_IDS: (
                {value: _COARSE[fine] for value, fine in _FINE_OF_IDS.items()},
                _FINE_OF_IDS,
            )
        },
    ),
    'cityscapes_256': Layout(
        'images/{name}.*',
        'labels/{name}.png',
        _COARSE,
        'semantic',
        others=(('val/images/{name}.*', 'val/labels/{name}.png'),),
        stretch=(512, 256),
        fine=_FINE,
    ),
}


@dataclass(frozen=True)
class Sample:
    """One labelled image, not yet read.

    Attributes:
        name: what its files have in common, such as `validation0003`.
        image: path of the image.
        label: path of the label.
        values: see `Layout`.
        stretch: see `Layout`.

    """

    name: str
    image: Path
    label: Path
    values: Mapping[int, int] = field(repr=False)
    stretch: tuple[int, int] | None = None

    def read(self) -> tuple[Image, Image]:
        """Read the image, RGB uint8 [H, W, 3], and its label, uint8 [H, W].

        Orientation tags are not obeyed, as labels are drawn on the pixels as stored.

        Raises:
            MaskomalyError: a file is broken, the sizes differ, or the label has a wrong value.

        """
        image = self.decode(read_file(self.image))
        return image, self.read_label((image.shape[0], image.shape[1]))

    def decode(self, content: bytes) -> Image:
        """Decode the content of the image file: RGB uint8 [H, W, 3], as the network is to see it.

        Raises:
            MaskomalyError: it cannot be decoded.

        """
        image = decode_image(content, self.image)
        if self.stretch is None:
            return image
        return np.asarray(
            cv2.resize(image, self.stretch, interpolation=cv2.INTER_LINEAR), np.uint8
        )

    def key(self, content: bytes) -> bytes:
        """Return what the output of a network for the image file's content depends on."""
        return content if self.stretch is None else content + repr(self.stretch).encode()

    def read_label(self, size: tuple[int, int] | None = None) -> Image:
        """Read the label alone, uint8 [H, W].

        Args:
            size: height and width that it must have, those of the image.

        Raises:
            MaskomalyError: the file is broken, of another size, or has a wrong value.

        """
        raw = _decode(read_file(self.label), cv2.IMREAD_UNCHANGED, self.label)
        if raw.ndim == 3 and raw.shape[2] == 3 and (raw == raw[..., :1]).all():
            raw = raw[..., 0]  # grey, stored as colours
        if raw.ndim != 2 or raw.dtype.kind != 'u':
            raise MaskomalyError(
                f'{self.label} is {raw.dtype} {list(raw.shape)}; a label has one channel of '
                'whole numbers, and no palette'
            )
        if self.stretch is not None:
            stretched = cv2.resize(raw, self.stretch, interpolation=cv2.INTER_NEAREST)
            raw = np.asarray(stretched, raw.dtype)
        if size is not None and raw.shape != tuple(size):
            raise MaskomalyError(
                f'{self.image} has {size[1]} x {size[0]} pixels, but {self.label} '
                f'has {raw.shape[1]} x {raw.shape[0]}'
            )
        wrong = [int(v) for v in np.flatnonzero(np.bincount(raw.ravel())) if v not in self.values]
        if wrong:
            raise MaskomalyError(
                f'{self.label} has value {wrong[0]}; its layout knows '
                f'{", ".join(map(str, self.values))}'
            )
        table = np.full(max(self.values) + 1, IGNORE, np.uint8)
        table[list(self.values)] = list(self.values.values())
        label: Image = table[raw]
        return label


class Dataset:
    """The labelled images of a folder.

    Attributes:
        name: name of the folder, with that of its parent where it is a split such as `val`.
        layout_name: key of `LAYOUTS`.
        layout: the layout.
        samples: images that have a label.
        skipped: reason for every image or label that could not be used, by name. Files that turn
            out to be broken are added when they are read.

    """

    def __init__(self, layout_name: str, folder: Path) -> None:
        self.layout_name = layout_name
        self.layout = LAYOUTS[layout_name]
        split = folder.name in ('train', 'val', 'test')
        self.name = f'{folder.parent.name}/{folder.name}' if split else folder.name
        self.skipped: dict[str, str] = {}
        images, labels, values = self._find_files(folder)
        self._values, self._fine = self.layout.other_values.get(
            values, (self.layout.values, self.layout.fine)
        )
        listed = self._listed(folder)
        names = images.keys() | labels.keys() if listed is None else listed
        if self.layout.subset:
            names = names & labels.keys()
        self.samples = []
        for name in sorted(names):
            found = images.get(name, []), labels.get(name, [])
            if all(len(paths) == 1 for paths in found):
                self.samples.append(
                    Sample(
                        name,
                        found[0][0],
                        found[1][0],
                        self._values,
                        self.layout.stretch,
                    )
                )
            else:
                files = ', '.join(str(path) for paths in found for path in paths) or 'none'
                self.skip(name, f'one image and one label are needed, found {files}')
        if not self.samples:
            raise MaskomalyError(
                f'no image in {folder} has a label of the same name: images '
                f'{self.layout.images}, labels {self.layout.labels}'
            )

    def for_classes(self, names: Sequence[str]) -> tuple[Dataset, tuple[str, ...]]:
        """Return the data set with labels in the classes of a network, and their names.

        Args:
            names: of the classes; letters of either case.

        Raises:
            MaskomalyError: the labels do not tell these classes apart.

        """
        wanted = tuple(name.lower() for name in names)
        if wanted == CLASS_NAMES:
            return self, CLASS_NAMES
        if wanted == CITYSCAPES_CLASSES and self._fine is not None:
            chosen = copy.copy(self)
            chosen.samples = [replace(sample, values=self._fine) for sample in self.samples]
            return chosen, CITYSCAPES_CLASSES
        fine = f', or {", ".join(CITYSCAPES_CLASSES)}' if self._fine is not None else ''
        raise MaskomalyError(
            f'the classes {", ".join(names)}; labels of layout {self.layout_name} are mapped '
            f'to {", ".join(CLASS_NAMES)}{fine}'
        )

    def _find_files(
        self, folder: Path
    ) -> tuple[dict[str, list[Path]], dict[str, list[Path]], str]:
        """Return images and labels by name, and the path in the layout that the labels have."""
        patterns = (self.layout.images, self.layout.labels), *self.layout.others
        all_found = [tuple(_find(folder, pattern) for pattern in pair) for pair in patterns]
        for (images, labels), (_, pattern) in zip(all_found, patterns, strict=True):
            if images.keys() & labels.keys():
                return images, labels, pattern
        for kind, position in (('images', 0), ('labels', 1)):
            if not any(found[position] for found in all_found):
                places = ' or '.join(dict.fromkeys(str(folder / p[position]) for p in patterns))
                raise MaskomalyError(
                    f'no {kind} at {places}, where layout {self.layout_name} has them'
                )
        images, labels = max(all_found, key=lambda found: sum(map(bool, found)))
        return images, labels, self.layout.labels

    def _listed(self, folder: Path) -> set[str] | None:
        if self.layout.listing is None or not (folder / self.layout.listing).is_file():
            return None
        path = folder / self.layout.listing
        try:
            names = json.loads(read_file(path))
        except ValueError as error:
            raise MaskomalyError(f'{path} is not JSON: {error}') from error
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise MaskomalyError(f'{path} is no list of file names')
        return {str(Path(name).with_suffix('')) for name in names}

    def only(self, samples: Sequence[Sample]) -> Dataset:
        """Return a data set of some of these samples; what is skipped is noted in both."""
        part = copy.copy(self)
        part.samples = list(samples)
        return part

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def read(self) -> Iterator[tuple[Sample, Image, Image]]:
        """Read all samples in order of their names; broken ones are logged and skipped.

        Yields:
            The sample, its image RGB uint8 [H, W, 3] and its label uint8 [H, W].

        """
        for sample in self.samples:
            try:
                image, label = sample.read()
            except MaskomalyError as error:
                self.skip(sample.name, str(error))
                continue
            yield sample, image, label

    def skip(self, name: str, reason: str) -> None:
        """Log, once, that an image or label cannot be used, and remember it."""
        if name not in self.skipped:
            _LOG.warning('%s: skipped %s: %s', self.name, name, reason)
        self.skipped[name] = reason


def open_dataset(specification: str) -> Dataset:
    """Open a data set given as LAYOUT:PATH, such as `anomaly_track:/data/dataset_AnomalyTrack`.

    Case, `-` and `_` do not matter in the name of a layout: AnomalyTrack is anomaly_track.

    Raises:
        MaskomalyError: the layout is unknown, or the folder does not exist or holds no pair of
            an image and a label.

    """
    given, _, path = specification.partition(':')
    layout = {_plain_name(name): name for name in LAYOUTS}.get(_plain_name(given))
    if layout is None or not path:
        raise MaskomalyError(
            f'data set {specification!r} is not LAYOUT:PATH with one of the layouts '
            f'{", ".join(LAYOUTS)}'
        )
    folder = Path(path).expanduser()
    if not folder.is_dir():
        problem = 'is no folder' if folder.exists() else 'does not exist'
        raise MaskomalyError(f'data set folder {folder} {problem}')
    return Dataset(layout, folder.resolve())


def is_layout(name: str) -> bool:
    """Return whether this is the name of a layout, as `open_dataset` takes it."""
    return _plain_name(name) in map(_plain_name, LAYOUTS)


def _plain_name(layout: str) -> str:
    return layout.replace('_', '').replace('-', '').lower()


def write_plain(folder: Path, name: str, image: Image, label: Image) -> None:
    """Add an image and its label to a data set of layout `plain`, as PNG files.

    Args:
        folder: the data set's folder; made where it is missing.
        name: what the files are called.
        image: RGB uint8 [H, W, 3].
        label: uint8 [H, W]: 0 not anomaly, 1 anomaly, 255 ignore.

    Raises:
        MaskomalyError: a file cannot be written.

    """
    for pattern, pixels in (
        (LAYOUTS['plain'].images, cv2.cvtColor(image, cv2.COLOR_RGB2BGR)),
        (LAYOUTS['plain'].labels, label),
    ):
        path = folder / pattern.replace('{name}.*', f'{name}.png')
        _, content = cv2.imencode('.png', pixels)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.tobytes())
        except OSError as error:
            raise MaskomalyError(f'cannot write {path}: {error.strerror}') from error


def _find(folder: Path, pattern: str) -> dict[str, list[Path]]:
    """Return the files that match a pattern of `Layout`, by name."""
    expression = (
        re.escape(pattern)
        .replace(r'\{name\}', '(.+)')
        .replace(r'\{number\}', r'\d+')
        .replace(r'\{folders\}', '.+')
        .replace(r'\.\*', r'\.[^./]+')
    )
    found: dict[str, list[Path]] = {}
    for path in sorted(
        folder.glob(re.sub(r'(\{folders\}/|\{number\}_)?\{name\}', '**/*', pattern))
    ):
        match = re.fullmatch(expression, path.relative_to(folder).as_posix())
        if match and path.suffix.lower() in _IMAGE_SUFFIXES:
            found.setdefault(match[1], []).append(path)
    return found


def read_file(path: Path) -> bytes:
    """Return the content of a file; MaskomalyError says why it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise MaskomalyError(f'cannot read {path}: {error.strerror}') from error


def decode_image(content: bytes, path: Path) -> Image:
    """Decode an image file to RGB uint8 [H, W, 3]; path is what errors name it.

    Raises:
        MaskomalyError: it cannot be decoded.

    """
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.cvtColor(_decode(content, flags, path), cv2.COLOR_BGR2RGB).astype(
        np.uint8, copy=False
    )


def _decode(content: bytes, flags: int, path: Path) -> NDArray[np.integer[Any]]:
    # imread() would neither say whether the file is there nor read every path on every platform.
    pixels = np.frombuffer(content, np.uint8)
    image: NDArray[Any] | None = cv2.imdecode(pixels, flags) if pixels.size else None
    # Of a JPEG that was cut off the decoder makes up the rest; its end follows the last scan.
    cut = content[:2] == b'\xff\xd8' and content.rfind(b'\xff\xd9') < content.rfind(b'\xff\xda')
    if image is None or cut:
        raise MaskomalyError(f'{path} is not an image that can be decoded')
    return image
