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

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.training.classes import CAMVID_TO_CLASS, IDD_TO_CLASS, IGNORE

_LOG = logging.getLogger(__name__)

Image = NDArray[np.uint8]

_IMAGE_SUFFIXES = {'.bmp', '.jpeg', '.jpg', '.png', '.webp'}
_ANOMALY = {0: 0, 1: 1, IGNORE: IGNORE}


@dataclass(frozen=True)
class Layout:
    """Where a kind of data set keeps its files, and what its labels say.

    Attributes:
        images: path of an image below the data set's folder. `{name}` stands for what image and
            label have in common (it may have folders in it), a suffix `.*` for any image format.
        labels: path of its label.
        values: label of each value that the label files may have: 0 not anomaly, 1 anomaly, or a
            class of `CLASS_NAMES`; 255 ignore. Any other value makes the file a broken one.
        task: `anomaly` or `semantic`: what the labels are good for.
        minimum_prediction: smallest predicted component, in pixels, of the component metrics.
        minimum_truth: smallest true component, in pixels.

    """

    images: str
    labels: str
    values: Mapping[int, int] = field(default_factory=_ANOMALY.copy)
    task: Literal['anomaly', 'semantic'] = 'anomaly'
    minimum_prediction: int = 500
    minimum_truth: int = 100


LAYOUTS: Mapping[str, Layout] = {
    'anomaly_track': Layout('images/{name}.jpg', 'labels_masks/{name}_labels_semantic.png'),
    'obstacle_track': Layout(
        'images/{name}.webp',
        'labels_masks/{name}_labels_semantic.png',
        minimum_prediction=50,
        minimum_truth=10,
    ),
    'plain': Layout('images/{name}.*', 'labels/{name}.*'),
    'camvid': Layout(
        'images/{name}.*', 'labels/{name}.png', {**CAMVID_TO_CLASS, 11: IGNORE}, 'semantic'
    ),
    'idd_lite': Layout(
        'images/{name}.*', 'labels/{name}.png', {**IDD_TO_CLASS, IGNORE: IGNORE}, 'semantic'
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

    """

    name: str
    image: Path
    label: Path
    values: Mapping[int, int] = field(repr=False)

    def read(self) -> tuple[Image, Image]:
        """Read the image, RGB uint8 [H, W, 3], and its label, uint8 [H, W].

        Orientation tags are not obeyed, as labels are drawn on the pixels as stored.

        Raises:
            MaskomalyError: a file is broken, the sizes differ, or the label has a wrong value.

        """
        image = _read(self.image, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        raw = _read(self.label, cv2.IMREAD_UNCHANGED)
        if raw.ndim != 2 or raw.dtype.kind != 'u':
            raise MaskomalyError(
                f'{self.label} is {raw.dtype} {list(raw.shape)}; a label has one channel of '
                'whole numbers, and no palette'
            )
        if raw.shape != image.shape[:2]:
            raise MaskomalyError(
                f'{self.image} has {image.shape[1]} x {image.shape[0]} pixels, but {self.label} '
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
        return np.ascontiguousarray(image[..., ::-1]), table[raw]


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
        images = _find(folder, self.layout.images)
        if not images:
            raise MaskomalyError(
                f'no images at {folder / self.layout.images}, where layout {layout_name} has them'
            )
        labels = _find(folder, self.layout.labels)
        if not labels:
            raise MaskomalyError(
                f'no labels at {folder / self.layout.labels}, where layout {layout_name} has them'
            )
        self.samples = []
        for name in sorted(images.keys() | labels.keys()):
            found = images.get(name, []), labels.get(name, [])
            if all(len(paths) == 1 for paths in found):
                self.samples.append(Sample(name, found[0][0], found[1][0], self.layout.values))
            else:
                files = ', '.join(str(path) for paths in found for path in paths)
                self._skip(name, f'one image and one label are needed, found {files}')
        if not self.samples:
            raise MaskomalyError(
                f'no image in {folder} has a label of the same name: images '
                f'{self.layout.images}, labels {self.layout.labels}'
            )

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
                self._skip(sample.name, str(error))
                continue
            yield sample, image, label

    def _skip(self, name: str, reason: str) -> None:
        if name not in self.skipped:
            _LOG.warning('%s: skipped %s: %s', self.name, name, reason)
        self.skipped[name] = reason


def open_dataset(specification: str) -> Dataset:
    """Open a data set given as LAYOUT:PATH, such as `anomaly_track:/data/dataset_AnomalyTrack`.

    Raises:
        MaskomalyError: the layout is unknown, or the folder does not exist or holds no pair of
            an image and a label.

    """
    layout, _, path = specification.partition(':')
    if layout not in LAYOUTS or not path:
        raise MaskomalyError(
            f'data set {specification!r} is not LAYOUT:PATH with one of the layouts '
            f'{", ".join(LAYOUTS)}'
        )
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise MaskomalyError(f'data set folder {folder} does not exist')
    return Dataset(layout, folder.resolve())


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
    expression = re.escape(pattern).replace(r'\{name\}', '(.+)').replace(r'\.\*', r'\.[^./]+')
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(pattern.replace('{name}', '**/*'))):
        match = re.fullmatch(expression, path.relative_to(folder).as_posix())
        if match and path.suffix.lower() in _IMAGE_SUFFIXES:
            found.setdefault(match[1], []).append(path)
    return found


def _read(path: Path, flags: int) -> NDArray[np.generic]:
    # imread() would also return None, but not say whether the file is there, and it cannot read
    # every path on every platform.
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise MaskomalyError(f'cannot read {path}: {error.strerror}') from error
    image: NDArray[np.generic] | None = cv2.imdecode(content, flags) if content.size else None
    if image is None:
        raise MaskomalyError(f'{path} is not an image that can be decoded')
    return image
