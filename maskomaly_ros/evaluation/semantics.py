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

"""Measure the semantic segmentation that the masks and classes of a network make up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from maskomaly_ros.classes import CITYSCAPES_TO_CLASS, CLASS_NAMES
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.evaluation.cache import OutputCache
from maskomaly_ros.evaluation.datasets import Dataset, Image, Sample
from maskomaly_ros.evaluation.images import (
    Progress,
    check_images,
    check_task,
    no_progress,
    over_images,
)
from maskomaly_ros.evaluation.metrics import SemanticConfusion, SemanticResult
from maskomaly_ros.networks import MaskPrediction, Network
from maskomaly_ros.networks.known import CITYSCAPES_CLASSES


@dataclass(frozen=True)
class SemanticEvaluation:
    """Figures of the semantic segmentation on one data set.

    Attributes:
        dataset: name of the data set.
        images: number of images that the figures are of.
        skipped: reason for each image that is missing in them, by name.
        classes: names of the classes.
        result: the figures.

    """

    dataset: str
    images: int
    skipped: dict[str, str]
    classes: tuple[str, ...]
    result: SemanticResult


def evaluate_semantics(
    network: Network,
    dataset: Dataset,
    *,
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> SemanticEvaluation:
    """Measure the semantic segmentation that the masks and classes of a network make up.

    Args:
        network: a network with the classes of the labels; or with those of Cityscapes where the
            labels are of `CLASS_NAMES`: each of these then has the probability of all of
            Cityscapes that are part of it.
        dataset: images with semantic labels.
        cache: folder that keeps the outputs of the network; see `OutputCache`.
        progress: see `Progress`.

    Raises:
        MaskomalyError: the network has other classes, the labels are of another kind, or no image
            could be read.

    """
    check_task(dataset, 'semantic')
    is_finer = False
    try:
        dataset, classes = dataset.for_classes(network.class_names)
    except MaskomalyError as error:
        if tuple(network.class_names) != CITYSCAPES_CLASSES:
            raise MaskomalyError(f'checkpoint {network.name} has {error}') from error
        dataset, classes = dataset.for_classes(CLASS_NAMES)
        is_finer = True
    confusion = SemanticConfusion(len(classes))
    images = 0

    def classify(
        _: Sample, prediction: MaskPrediction | None, label: Image
    ) -> tuple[Image, Image]:
        assert prediction is not None
        if is_finer:
            prediction = in_few_classes(prediction)
        return prediction.semantic_map()[0].cpu().numpy(), label

    outputs = OutputCache(cache, network) if cache else None
    run = over_images(network, dataset, outputs, classify)
    for _, (predicted, label) in progress(run, len(dataset), f'{dataset.name}: classes'):
        confusion.update(predicted, label)
        images += 1
    check_images(dataset, images)
    return SemanticEvaluation(
        dataset.name, images, dict(dataset.skipped), classes, confusion.compute()
    )


def in_few_classes(prediction: MaskPrediction) -> MaskPrediction:
    """Return a prediction of the classes of Cityscapes as one of `CLASS_NAMES`, void last."""
    groups: list[list[int]] = [[] for _ in CLASS_NAMES]
    for fine, coarse in CITYSCAPES_TO_CLASS.items():
        groups[coarse].append(fine)
    groups.append([len(CITYSCAPES_TO_CLASS)])
    logits = [prediction.class_logits[..., group].logsumexp(-1) for group in groups]
    return replace(prediction, class_logits=torch.stack(logits, -1))
