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

"""Fit how far features lie from known ones: from a trained Mask2Former to one of novel things.

No anomaly is needed: prototypes, covariance and limits are statistics of the training images. Only
the small head that finds things is trained, on a backbone that stays as ImageNet left it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from transformers import Mask2FormerForUniversalSegmentation

from maskomaly_ros.classes import IGNORE
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.architectures import input_form
from maskomaly_ros.networks.checkpoints import find_checkpoint
from maskomaly_ros.networks.devices import select_device
from maskomaly_ros.networks.efficientnet_lite import EfficientNetLiteBackbone
from maskomaly_ros.networks.novelty import NoveltyMask2Former, NoveltyMask2FormerConfig
from maskomaly_ros.networks.things import SHARED_STAGES, Things
from maskomaly_ros.networks.transformers_network import load_model, quiet_transformers
from maskomaly_ros.training.backbone import load_backbone
from maskomaly_ros.training.class_lists import CLASS_LISTS
from maskomaly_ros.training.data import LabelledImage, load_training_set, read_images
from maskomaly_ros.training.things import train_head

_LOG = logging.getLogger(__name__)
_CENTRES = 24  # prototypes of a label of a data set, at most
_FEWEST = 20  # points of a label that make a prototype
_FINER = 4  # features are looked at on a grid that is so much finer than their own
_SHRINKAGE = 1e-3  # of the covariance towards a round one
_CROP, _BATCH, _POINTS = (192, 320), 8, 3000  # what the head for things trains on
_REPORTED = 500  # images between two lines of the log
_ROUNDING = 4e-3  # of weights in half precision
_LOW, _HIGH, _MARGIN = 0.5, 0.9999, 1.3  # quantiles of known distances, and room above them


@dataclass(frozen=True)
class NoveltyOptions:
    """What a fit depends on.

    Attributes:
        query: index of the query for things.
        sharpness: exponent of the probability of things; see `NoveltyMask2Former`.
        steps: of training a head for things; 0 takes the query's own mask, and the features of the
            network itself.
        width: channels of that head.
        images: of each data set that are looked at, evenly spread; every fifth of them is left
            out of the fit and sets the limits.
        generated: scenes that are looked at like a data set of their own.
        points: of each image, drawn so that rare labels are not.
        seed: of everything random.

    """

    query: int = 0
    sharpness: float = 0.4
    steps: int = 900
    width: int = 64
    images: int = 1400
    generated: int = 100
    points: int = 130
    seed: int = 0


def fit_novelty(
    checkpoint: str | Path,
    data: Path,
    out: Path,
    options: NoveltyOptions | None = None,
    *,
    backbone_weights: Path | str | None = None,
    device: str = 'auto',
) -> Path:
    """Write a checkpoint whose query for things covers novel things alone.

    Args:
        checkpoint: folder of a Mask2Former whose backbone is an EfficientNet-Lite; with a head for
            things, one that trained with its first stages, or all, as they are in ImageNet's.
        data: folder with the training images; see `load_training_set`.
        out: folder for the new checkpoint.
        options: see there.
        backbone_weights: see `train`; the head for things is put on these.
        device: to train the head on; see `load_network`.

    Returns:
        The folder.

    Raises:
        MaskomalyError: the checkpoint is no Mask2Former, has no such query, has learnt its first
            stages, data or weights are missing, or out exists.

    """
    options = options or NoveltyOptions()
    if out.exists():
        raise MaskomalyError(f'{out} exists already; choose a folder that does not')
    model = load_model(find_checkpoint(checkpoint))
    if type(model) is not Mask2FormerForUniversalSegmentation:
        raise MaskomalyError(
            f'{checkpoint} is a {type(model).__name__}; novelty is fitted to a '
            'Mask2FormerForUniversalSegmentation'
        )
    if not 0 <= options.query < model.config.num_queries:
        raise MaskomalyError(
            f'query {options.query} does not exist: {checkpoint} has the queries 0 to '
            f'{model.config.num_queries - 1}'
        )
    things = None
    if options.steps:
        encoder = model.model.pixel_level_module.encoder
        things = _things(encoder, str(checkpoint), options, backbone_weights)
        images = load_training_set(
            data,
            CLASS_LISTS['level1'],  # of no matter: what is a thing does not depend on it
            options.generated,
            _CROP,
            _BATCH,
            _POINTS,
            options.seed,
            lambda items, length, text: items,
        )
        train_head(things, encoder, images, options.steps, select_device(device))
    rng = np.random.default_rng(options.seed)
    points: list[NDArray[np.float32]] = []
    groups: list[tuple[str, int]] = []
    held_out: list[NDArray[np.float32]] = []
    for index, (image, features) in enumerate(_features(model, things, data, options)):
        if index % _REPORTED == 0:
            _LOG.info('features: image %d', index)
        if index % 5 == 4:
            held_out.append(features)
            continue
        found, labels = _drawn(image, features, options.points, rng)
        points.append(found)
        groups.extend((image.origin, label) for label in labels.tolist())
    prototypes, whitening = _statistics(np.concatenate(points), groups, options.seed)
    fitted = _with_novelty(model, things, prototypes, whitening, options)
    distances = np.concatenate(
        [fitted.novelty.distance(torch.from_numpy(f)[None]).numpy().ravel() for f in held_out]
    )
    low, high = np.quantile(distances, (_LOW, _HIGH))
    fitted.novelty.limits.copy_(torch.tensor([low, high * _MARGIN]))
    with quiet_transformers():
        fitted.save_pretrained(out)
    return out


def _things(
    encoder: Any, name: str, options: NoveltyOptions, backbone_weights: Path | str | None
) -> Things:
    """Return the part for things, with a backbone as it was published and an untrained head.

    Raises:
        MaskomalyError: the encoder is of another kind, or its common stages are others.

    """
    if not isinstance(encoder, EfficientNetLiteBackbone):
        raise MaskomalyError(
            f'{name} has a backbone of type {encoder.config.model_type}; the part for things '
            'shares one of type efficientnet_lite: fit it with --steps 0'
        )
    published = load_backbone(encoder.config.variant, backbone_weights).fold_norms()
    stages = (encoder.first_stages(SHARED_STAGES), published.first_stages(SHARED_STAGES))
    for learnt, first in zip(*(stage.parameters() for stage in stages), strict=True):
        if not torch.allclose(learnt, first, rtol=_ROUNDING, atol=_ROUNDING):
            raise MaskomalyError(
                f'{name} has learnt the first {SHARED_STAGES} stages of its backbone, which the '
                f'part for things has to share with it: train it with --frozen-stages '
                f'{SHARED_STAGES}, or fit it with --steps 0'
            )
    torch.manual_seed(options.seed)
    things = Things(published.config, options.width)
    things.backbone.load_state_dict(published.after_stages(SHARED_STAGES).state_dict())
    things.backbone.requires_grad_(False)
    return things


@torch.inference_mode()
def _features(
    model: Any, things: Things | None, data: Path, options: NoveltyOptions
) -> Iterator[tuple[LabelledImage, NDArray[np.float32]]]:
    """Yield images with the features they are told by, [c, h, w] without the padding."""
    form = input_form(model.config, None, None)
    encoder = model.model.pixel_level_module.encoder
    for image in read_images(data, options.images, options.generated):
        pixels, (height, width), _ = form.prepare([image.image], torch.device('cpu'), None)
        if things is None:
            features = encoder(pixels).feature_maps[-1][0]
        else:
            features = things.maps(encoder.first_maps(pixels, SHARED_STAGES))[-1][0]
        rows, columns = (
            max(1, round(ours * side / whole))
            for ours, side, whole in zip(
                features.shape[-2:], (height, width), pixels.shape[-2:], strict=True
            )
        )
        yield image, features[:, :rows, :columns].float().numpy()


def _drawn(
    image: LabelledImage, features: NDArray[np.float32], count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return features [n, c] at points of an image and their labels."""
    size = (features.shape[2] * _FINER, features.shape[1] * _FINER)
    labels = cv2.resize(image.labels, size, interpolation=cv2.INTER_NEAREST).ravel()
    grid = torch.from_numpy(features)[None]
    fine = F.interpolate(grid, scale_factor=_FINER, mode='bilinear', align_corners=False)[0]
    points = fine.flatten(1).T.numpy()
    known = np.flatnonzero(labels != IGNORE)
    if not len(known):
        return points[:0], np.zeros(0, np.uint8)
    weights = 1 / np.sqrt(np.bincount(labels[known]))[labels[known]]
    chosen = rng.choice(known, min(count, len(known)), replace=False, p=weights / weights.sum())
    return points[chosen], np.asarray(labels[chosen], np.uint8)


def _statistics(
    points: NDArray[np.float32], groups: Iterable[tuple[str, int]], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return prototypes [K, c] and the whitening [c, c] of the covariance around them."""
    names, index = np.unique(
        [f'{origin}/{label}' for origin, label in groups], return_inverse=True
    )
    prototypes, residuals = [], []
    for group in range(len(names)):
        own = points[index == group].astype(np.float64)
        if len(own) < _FEWEST:
            continue
        centres = min(_CENTRES, len(own) // 10)
        means, nearest = kmeans2(own, centres, minit='points', seed=seed)
        used = np.unique(nearest)  # a centre may have lost all its points
        prototypes.append(means[used])
        residuals.append(own - means[nearest])
    if not prototypes:
        raise MaskomalyError(
            f'no label of a data set has {_FEWEST} points or more; look at more images'
        )
    covariance = sum(part.T @ part for part in residuals) / sum(map(len, residuals))
    covariance += _SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    return np.concatenate(prototypes), np.linalg.cholesky(np.linalg.inv(covariance)).T


def _with_novelty(
    model: Mask2FormerForUniversalSegmentation,
    things: Things | None,
    prototypes: NDArray[np.float64],
    whitening: NDArray[np.float64],
    options: NoveltyOptions,
) -> NoveltyMask2Former:
    content = model.config.to_dict()
    content.pop('model_type')
    config = NoveltyMask2FormerConfig.from_dict(
        {
            **content,
            'novelty_query': options.query,
            'novelty_prototypes': len(prototypes),
            'novelty_channels': prototypes.shape[1],
            'novelty_sharpness': options.sharpness,
            'things_width': 0 if things is None else options.width,
        }
    )
    with quiet_transformers():
        fitted = NoveltyMask2Former(config)
    fitted.load_state_dict(model.state_dict(), strict=False)
    if things is not None and fitted.things is not None:
        fitted.things.load_state_dict(things.state_dict())
    fitted.half()  # what training saves; the statistics keep float32
    fitted.novelty.float()
    fitted.novelty.whitening.copy_(torch.from_numpy(whitening))
    fitted.novelty.whitened.copy_(torch.from_numpy(prototypes @ whitening.T))
    fitted.eval()
    return fitted
