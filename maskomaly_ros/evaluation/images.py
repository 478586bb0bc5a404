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

"""Run a network over the images of a data set, with files read ahead and work on other threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.cache import CannotWriteError, OutputCache
from maskomaly_ros.evaluation.datasets import Dataset, Image, Sample, read_file
from maskomaly_ros.networks import MaskPrediction, Network
from maskomaly_ros.scores import ClassStatistics, class_sums

__all__ = [
    'Progress',
    'ahead',
    'check_images',
    'check_task',
    'class_statistics',
    'no_progress',
    'over_images',
]

T = TypeVar('T')
R = TypeVar('R')
FloatArray = NDArray[np.float64]


class Progress(Protocol):
    """Something that shows how far an iteration has come, such as a progress bar."""

    def __call__(self, items: Iterable[T], total: int, text: str) -> Iterable[T]:
        """Pass on items, of which there are at most total; text says what is being done."""


def no_progress(items: Iterable[T], total: int, text: str) -> Iterable[T]:
    """Show nothing."""
    del total, text
    return items


def class_statistics(
    network: Network,
    dataset: Dataset,
    *,
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> ClassStatistics:
    """Find the statistics that standardized max-logits need; labels are not looked at.

    The paper takes them from the training set of the network. Where that is not at hand, images
    of ordinary drives will do.

    Args:
        network: the network.
        dataset: the images; those that cannot be read are skipped.
        cache: folder that keeps the outputs of the network; see `OutputCache`.
        progress: see `Progress`.

    Raises:
        MaskomalyError: no image could be read.

    """
    outputs = OutputCache(cache, network) if cache else None

    def take(_: Sample, prediction: MaskPrediction | None, __: Image) -> FloatArray:
        assert prediction is not None
        return class_sums(prediction)

    total: FloatArray | None = None
    run = over_images(network, dataset, outputs, take)
    for _, sums in progress(run, len(dataset), f'{dataset.name}: classes'):
        total = sums if total is None else total + sums
    check_images(dataset, 0 if total is None else 1)
    assert total is not None
    return ClassStatistics.of_sums(total, dataset.name)


def over_images(
    network: Network | None,
    dataset: Dataset,
    outputs: OutputCache | None,
    work: Callable[[Sample, MaskPrediction | None, Image], R],
) -> Iterator[tuple[Sample, R]]:
    """Do something with the output for each image and its label; skip what is broken.

    Files are read by some threads, work is done by others, and the network runs in between, on
    the thread of the caller. Only a few images wait between any two of them.

    Args:
        network: the network; None where only labels are needed.
        dataset: the images.
        outputs: keeps the outputs of the network.
        work: what to do. A ValueError says that the image cannot be used.

    Yields:
        Samples and what work returned, in order.

    """
    workers = os.cpu_count() or 1

    def load(sample: Sample) -> tuple[bytes, Image | None, MaskPrediction | None, Image]:
        if network is None:
            return b'', None, None, sample.read_label()
        content = read_file(sample.image)
        prediction = outputs.read(sample.key(content)) if outputs else None
        if prediction is not None:
            return content, None, prediction, sample.read_label(prediction.frame_size)
        image = sample.decode(content)
        label = sample.read_label((image.shape[0], image.shape[1]))
        return content, image, None, label

    def finish(loaded: tuple[Sample, bytes | None, MaskPrediction | None, Image]) -> R:
        sample, content, prediction, label = loaded
        if content is not None and outputs is not None and prediction is not None:
            outputs.write(sample.key(content), prediction)
        return work(sample, prediction, label)

    def predict() -> Iterator[tuple[Sample, bytes | None, MaskPrediction | None, Image]]:
        for sample, future in ahead(readers, load, dataset.samples, workers + 2):
            try:
                content, image, prediction, label = future.result()
            except MaskomalyError as error:
                dataset.skip(sample.name, str(error))
                continue
            if image is None or network is None:
                yield sample, None, prediction, label
            else:
                yield sample, content, network.predict([image]), label

    # Threads of their own for torch in each worker would be more than there are processors. What
    # is set there is also what threads get that begin later.
    torch_threads = torch.get_num_threads()
    with (
        ThreadPoolExecutor(2) as readers,
        ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        try:
            for (sample, *_), future in ahead(pool, finish, predict(), workers + 1):
                try:
                    result = future.result()
                except CannotWriteError:
                    raise
                except ValueError as error:
                    dataset.skip(sample.name, str(error))
                    continue
                yield sample, result
        finally:
            for threads in (readers, pool):
                threads.shutdown(wait=False, cancel_futures=True)
            torch.set_num_threads(torch_threads)


def ahead(
    threads: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], depth: int
) -> Iterator[tuple[T, Future[R]]]:
    """Yield items and futures of function(item) in order, begun up to depth items ahead."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    for item in items:
        waiting.append((item, threads.submit(function, item)))
        if len(waiting) > depth:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def check_images(dataset: Dataset, images: int) -> None:
    """Raise MaskomalyError if no image of a data set could be read."""
    if not images:
        reason = next(iter(dataset.skipped.values()))
        raise MaskomalyError(f'no image of {dataset.name} can be used; the first: {reason}')


def check_task(dataset: Dataset, task: str) -> None:
    """Raise MaskomalyError unless the labels of a data set are `anomaly` or `semantic`."""
    if dataset.layout.task != task:
        raise MaskomalyError(
            f'layout {dataset.layout_name} has {dataset.layout.task} labels; '
            f'{task} labels are needed here'
        )
