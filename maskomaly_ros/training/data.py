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

"""Training images: Cityscapes, CamVid, IDD-lite and generated scenes, as augmented batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskomaly_ros.classes import IGNORE
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.preprocessing import PIXEL_MEAN, PIXEL_STD, SIZE_DIVISOR
from maskomaly_ros.scenes.scene import random_frame
from maskomaly_ros.training.class_lists import RARE, THINGS, ClassList
from maskomaly_ros.training.criterion import Targets

Image = NDArray[np.uint8]
_GENERATED_SIZE = (240, 320)
_SHARES = ((0.33, 'cityscapes_256'), (0.29, 'camvid'), (0.28, 'idd_lite'))
_SHARE_OF_SCENES = 0.1
_SQUASHED = 'cityscapes_256'  # its pictures are 2:1, kept as squares
_SEED_OF_SCENES = 1_000_000  # away from the seeds of clips that people look at or test on


@dataclass(frozen=True)
class LabelledImage:
    """An RGB uint8 [H, W, 3] image and its labels, uint8 [H, W], 255 = ignore.

    Attributes:
        origin: name of the data set, as in `ClassList.members`; labels are its own.

    """

    image: Image
    labels: Image
    origin: str


@dataclass(frozen=True)
class Batch:
    """One training step's input.

    Attributes:
        pixel_values: float32 [B, 3, h, w], normalised.
        targets: what is known of each image.

    """

    pixel_values: Tensor
    targets: list[Targets]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(self.pixel_values.to(device), [t.to(device) for t in self.targets])


class TrainingSet:
    """Draws augmented batches; what a step gets depends on the seed and the step alone.

    So a training run that was interrupted goes on exactly as it would have.

    Args:
        classes: what the labels are taken for.
        groups: images by origin, with the share of a batch that each origin gets on average.
        crop: height and width in pixels of the network input.
        batch_size: images in a step.
        points: labelled points drawn in each image.
        seed: of everything random.

    """

    def __init__(
        self,
        classes: ClassList,
        groups: list[tuple[float, list[LabelledImage]]],
        crop: tuple[int, int],
        batch_size: int,
        points: int,
        seed: int,
    ) -> None:
        self._classes = classes
        self._groups = [images for _, images in groups]
        shares = np.array([share for share, _ in groups])
        self._shares = shares / shares.sum()
        self._crop = crop
        self._batch_size = batch_size
        self._points = points
        self._seed = seed

    def batch(self, step: int) -> Batch:
        """Return the batch of a step."""
        rng = np.random.default_rng((self._seed, step))
        pixels: list[Tensor] = []
        targets: list[Targets] = []
        while len(pixels) < self._batch_size:
            group = self._groups[rng.choice(len(self._groups), p=self._shares)]
            image = group[rng.integers(len(group))]
            views = [augment(image, self._crop, rng) for _ in range(rng.integers(1, 3))]
            sample = max(views, key=_rare_pixels)  # things are few among road, trees and sky
            padded = _pad(_normalise(sample.image), sample.labels, rng)
            if (sample.labels == IGNORE).all():  # teaches nothing
                continue
            pixels.append(padded)
            targets.append(
                _targets(sample, self._classes.members[sample.origin], self._points, rng)
            )
        return Batch(torch.stack(pixels), targets)


def load_training_set(
    data: Path,
    classes: ClassList,
    generated: int,
    crop: tuple[int, int],
    batch_size: int,
    points: int,
    seed: int,
    progress: Callable[[Iterator[LabelledImage], int, str], Iterator[LabelledImage]],
) -> TrainingSet:
    """Read the training images into memory and render the generated ones.

    Args:
        data: folder with `cityscapes_256/train`, `camvid/train` and `idd_lite/train`, each with
            `images` and `labels`.
        classes: what the labels are taken for.
        generated: how many scenes to render, without obstacles: anomalies are never trained on.
        crop: height and width in pixels of the network input.
        batch_size: images in a step.
        points: labelled points drawn in each image.
        seed: of the scenes and of everything random later.
        progress: wraps an iterator, given its length and a description.

    Raises:
        MaskomalyError: a folder is missing or empty, or an image cannot be read.

    """
    groups = []
    for share, name in _SHARES:
        paths = _paths(data, name)
        read = (_read(path, name) for path in paths)
        groups.append((share, list(progress(read, len(paths), f'reading {name}'))))
    if generated:
        scenes = (_render(_SEED_OF_SCENES + seed * generated + i) for i in range(generated))
        groups.append((_SHARE_OF_SCENES, list(progress(scenes, generated, 'rendering scenes'))))
    return TrainingSet(classes, groups, crop, batch_size, points, seed)


def read_images(data: Path, count: int, generated: int = 0) -> Iterator[LabelledImage]:
    """Yield at most so many of each data set's training images, evenly spread, as they are.

    Args:
        data: as for `load_training_set`.
        count: of each data set.
        generated: how many generated scenes follow, the first that training sees with seed 0.

    Raises:
        MaskomalyError: as `load_training_set`.

    """
    for _, name in _SHARES:
        paths = _paths(data, name)
        for index in np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).round()):
            yield _read(paths[int(index)], name)
    for index in range(generated):
        yield _render(_SEED_OF_SCENES + index)


def _paths(data: Path, name: str) -> list[Path]:
    folder = data / name / 'train' / 'images'
    paths = sorted(folder.glob('*'))
    if not paths:
        raise MaskomalyError(f'no training images in {folder}')
    return paths


def _read(path: Path, origin: str) -> LabelledImage:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    label_path = path.parent.parent / 'labels' / f'{path.stem}.png'
    label = cv2.imread(str(label_path), cv2.IMREAD_GRAYSCALE)
    if image is None or label is None or image.shape[:2] != label.shape:
        raise MaskomalyError(f'{path} and {label_path} are not an image and its labels')
    known = THINGS[origin].shape[1]
    rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    if origin == _SQUASHED:
        size = (image.shape[1] * 2, image.shape[0])
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
    kept = np.where(label < known, label, IGNORE).astype(np.uint8)
    return LabelledImage(rgb, kept, origin)


def _render(seed: int) -> LabelledImage:
    scene = random_frame(seed, size=_GENERATED_SIZE, obstacles=False)
    return LabelledImage(scene.image, scene.labels, 'scenes')


def _targets(
    sample: LabelledImage,
    members: NDArray[np.float32],
    count: int,
    rng: np.random.Generator,
) -> Targets:
    """Draw points anywhere that is labelled.

    As many of each label as there are: masks learnt from more of the rare ones grow too fat.
    """
    labels = sample.labels.ravel()
    drawn = rng.choice(np.flatnonzero(labels != IGNORE), count)
    rows, columns = np.divmod(drawn, sample.labels.shape[1])
    points = np.stack(
        ((columns + 0.5) / sample.labels.shape[1], (rows + 0.5) / sample.labels.shape[0]), -1
    )
    chosen = labels[drawn].astype(np.int64)
    is_fine = bool((members.sum(1) == 1).all())
    return Targets(
        torch.from_numpy(points.astype(np.float32)),
        torch.from_numpy(members.argmax(1)[chosen] if is_fine else chosen),
        torch.from_numpy(THINGS[sample.origin][:, chosen]),
        torch.from_numpy(members),
        is_fine=is_fine,
    )


def augment(
    sample: LabelledImage, crop: tuple[int, int], rng: np.random.Generator
) -> LabelledImage:
    """Return a random view of a sample: scaled, cropped to crop, flipped, with other colours."""
    height, width = crop
    scale = np.exp(rng.uniform(0.0, np.log(2.2)))
    scale *= max(height / sample.image.shape[0], width / sample.image.shape[1])
    stretch = np.exp(rng.uniform(-0.1, 0.1))
    rows = max(height, round(sample.image.shape[0] * scale))
    columns = max(width, round(sample.image.shape[1] * scale * stretch))
    image = cv2.resize(
        sample.image,
        (columns, rows),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    labels = cv2.resize(sample.labels, (columns, rows), interpolation=cv2.INTER_NEAREST)
    top = rng.integers(rows - height + 1)
    left = rng.integers(columns - width + 1)
    window = np.s_[top : top + height, left : left + width]
    image, labels = image[window], labels[window]
    if rng.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    recoloured = _recolour(np.asarray(image, np.uint8), rng)
    return LabelledImage(recoloured, np.ascontiguousarray(labels), sample.origin)


def _recolour(image: Image, rng: np.random.Generator) -> Image:
    """Vary brightness, contrast, gamma, saturation, white balance, blur and noise."""
    pixels = image.astype(np.float32) / 255
    pixels **= np.float32(np.exp(rng.uniform(-0.4, 0.4)))
    pixels *= rng.uniform(0.85, 1.15, 3).astype(np.float32)
    mean = pixels.mean()
    pixels = (pixels - mean) * np.float32(rng.uniform(0.7, 1.35)) + mean
    pixels += np.float32(rng.uniform(-0.12, 0.12))
    grey = pixels.mean(-1, keepdims=True)
    pixels = grey + (pixels - grey) * np.float32(rng.uniform(0.4, 1.6))
    if rng.random() < 0.25:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 1.2))
    if rng.random() < 0.25:
        noise = rng.standard_normal(pixels.shape, np.float32)
        pixels += noise * np.float32(rng.uniform(0.01, 0.05))
    return np.asarray(pixels.clip(0, 1) * 255, np.uint8)


def _rare_pixels(sample: LabelledImage) -> int:
    return int(np.isin(sample.labels, RARE[sample.origin]).sum())


def _pad(pixels: Tensor, labels: Image, rng: np.random.Generator) -> Tensor:
    """Blank a margin at the right and bottom of some images, as padding does at run time."""
    for axis in (1, 2):
        if rng.random() < 0.25:
            margin = int(rng.integers(1, SIZE_DIVISOR))
            pixels.narrow(axis, pixels.shape[axis] - margin, margin).zero_()
            blank = [slice(None), slice(None)]
            blank[axis - 1] = slice(-margin, None)
            labels[tuple(blank)] = IGNORE
    return pixels


def _normalise(image: Image) -> Tensor:
    mean, std = np.array(PIXEL_MEAN, np.float32), np.array(PIXEL_STD, np.float32)
    normalised = (image.astype(np.float32) - mean) / std
    return torch.from_numpy(np.ascontiguousarray(normalised.transpose(2, 0, 1)))
