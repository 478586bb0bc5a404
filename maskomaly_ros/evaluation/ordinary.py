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

"""Ordinary frames: pictures and drives that show nothing anomalous, with or without classes."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from maskomaly_ros.drives.open import open_source
from maskomaly_ros.drives.source import Source
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.cache import CannotWriteError, OutputCache
from maskomaly_ros.evaluation.datasets import (
    Dataset,
    Image,
    Sample,
    is_layout,
    open_dataset,
    read_file,
)
from maskomaly_ros.evaluation.images import ahead, over_images
from maskomaly_ros.networks import MaskPrediction, Network

__all__ = ['OrdinaryFrame', 'OrdinaryFrames', 'open_ordinary']

R = TypeVar('R')


@dataclass(frozen=True)
class OrdinaryFrame:
    """What a network says of a frame that shows nothing anomalous.

    Attributes:
        name: of the frame.
        prediction: of this frame alone.
        label: uint8 [H, W]: 0 not anomaly, 255 ignore. Pixels of an unknown class are ordinary
            ones too; only labels of anomalies can say that a pixel is to be ignored.
        classes: index into `CLASS_NAMES` of each pixel, 255 unknown, uint8 [H, W]; None where
            classes are not labelled.

    """

    name: str
    prediction: MaskPrediction
    label: Image
    classes: Image | None


class OrdinaryFrames(ABC):
    """Frames that show nothing anomalous; see `open_ordinary`.

    Attributes:
        name: what to call them.
        skipped: reason for every frame that could not be used, by name.

    """

    name: str
    skipped: dict[str, str]

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of frames at most; 0 where nobody knows it beforehand."""

    @abstractmethod
    def over(
        self,
        network: Network,
        work: Callable[[OrdinaryFrame], R],
        outputs: OutputCache | None = None,
    ) -> Iterator[tuple[str, R]]:
        """Do something with the output for each frame, on several threads.

        Args:
            network: runs on the thread of the caller, once a frame.
            work: what to do. A ValueError says that the frame cannot be used.
            outputs: keeps the outputs of the network.

        Yields:
            Names of frames and what work returned, in order.

        """

    @abstractmethod
    def images(self, names: Iterable[str]) -> dict[str, Image]:
        """Read frames again, RGB uint8 [H, W, 3], by name."""

    def sparse(self, most: int) -> OrdinaryFrames:
        """Return at most so many of these frames, evenly spread."""
        return self if len(self) <= most else self._at(_spread(len(self), most))

    @abstractmethod
    def _at(self, places: Sequence[int]) -> OrdinaryFrames:
        """Return the frames at these places alone."""

    def check(self, frames: int) -> None:
        """Raise MaskomalyError if no frame could be used."""
        if not frames:
            reason = next(iter(self.skipped.values()), 'there are no frames')
            raise MaskomalyError(f'no frame of {self.name} can be used; the first: {reason}')


def open_ordinary(
    specification: str, *, topic: str | None = None, rate: float | None = None
) -> OrdinaryFrames:
    """Open what shows nothing anomalous.

    Args:
        specification: LAYOUT:PATH of a labelled data set, of classes or of anomalies; or the path
            of a video, a folder of images or a bag.
        topic: image topic of a bag; None takes its first.
        rate: frames per second of a folder of images; None is 10.

    Raises:
        MaskomalyError: it does not exist, or holds nothing that can be read.

    """
    if is_layout(specification.partition(':')[0]):
        return _Labelled(open_dataset(specification))
    try:
        return _Drive(open_source(specification, topics=topic, rate=rate))
    except MaskomalyError as error:
        raise MaskomalyError(
            f'ordinary frames {specification!r}: {error}; give LAYOUT:PATH of a labelled data '
            'set, or the path of a video, a folder of images or a bag'
        ) from error


def _spread(count: int, most: int) -> list[int]:
    return [int(place) for place in np.unique(np.linspace(0, count - 1, most).round())]


class _Labelled(OrdinaryFrames):
    """A labelled data set."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.name = dataset.name
        self.skipped = dataset.skipped

    def __len__(self) -> int:
        return len(self._dataset)

    def over(
        self,
        network: Network,
        work: Callable[[OrdinaryFrame], R],
        outputs: OutputCache | None = None,
    ) -> Iterator[tuple[str, R]]:
        has_classes = self._dataset.layout.task == 'semantic'

        def finish(sample: Sample, prediction: MaskPrediction | None, label: Image) -> R:
            assert prediction is not None
            if has_classes:
                nothing = np.zeros_like(label)
                return work(OrdinaryFrame(sample.name, prediction, nothing, label))
            anomalous = int(np.count_nonzero(label == 1))
            if anomalous:
                raise MaskomalyError(
                    f'{anomalous} pixels are labelled as an anomaly: not an ordinary frame'
                )
            return work(OrdinaryFrame(sample.name, prediction, label, None))

        for sample, result in over_images(network, self._dataset, outputs, finish):
            yield sample.name, result

    def images(self, names: Iterable[str]) -> dict[str, Image]:
        wanted = set(names)
        chosen = [sample for sample in self._dataset.samples if sample.name in wanted]
        return {sample.name: sample.decode(read_file(sample.image)) for sample in chosen}

    def _at(self, places: Sequence[int]) -> OrdinaryFrames:
        return _Labelled(self._dataset.only([self._dataset.samples[i] for i in places]))


class _Drive(OrdinaryFrames):
    """A video, a folder of images or a bag."""

    def __init__(self, source: Source, places: frozenset[int] | None = None) -> None:
        self._source = source
        self._places = places
        path = Path(source.path)
        self.name = path.name or str(path)
        self.skipped: dict[str, str] = {}

    def __len__(self) -> int:
        if self._places is not None:
            return len(self._places)
        try:
            return len(self._source)
        except TypeError:
            return 0

    def over(
        self,
        network: Network,
        work: Callable[[OrdinaryFrame], R],
        outputs: OutputCache | None = None,
    ) -> Iterator[tuple[str, R]]:
        def finish(loaded: tuple[str, bytes | None, MaskPrediction]) -> R:
            name, content, prediction = loaded
            if content is not None and outputs is not None:
                outputs.write(content, prediction)
            nothing = np.zeros(prediction.frame_size, np.uint8)
            return work(OrdinaryFrame(name, prediction, nothing, None))

        def predict() -> Iterator[tuple[str, bytes | None, MaskPrediction]]:
            for name, image in self._read():
                # The frame itself stands for its file: a video has none for each.
                content = repr(image.shape).encode() + image.tobytes() if outputs else b''
                known = outputs.read(content) if outputs else None
                if known is not None:
                    yield name, None, known
                else:
                    yield name, content, network.predict([image])

        workers = os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            for (name, *_), future in ahead(pool, finish, predict(), workers + 1):
                try:
                    result = future.result()
                except CannotWriteError:
                    raise
                except ValueError as error:
                    self.skipped[name] = str(error)
                    continue
                yield name, result
        self.skipped |= {problem.name: problem.reason for problem in self._source.problems}

    def images(self, names: Iterable[str]) -> dict[str, Image]:
        wanted = set(names)
        found: dict[str, Image] = {}
        for name, image in self._read():
            if name in wanted:
                found[name] = image
            if len(found) == len(wanted):
                break
        return found

    def _read(self) -> Iterator[tuple[str, Image]]:
        with self._source as source:
            for frame in source:
                if self._places is None or frame.index in self._places:
                    yield frame.name, frame.image

    def _at(self, places: Sequence[int]) -> OrdinaryFrames:
        return _Drive(self._source, frozenset(places))
