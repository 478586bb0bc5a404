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

"""Published architectures with random weights, to measure speed where no checkpoint can be had."""

from __future__ import annotations

from pathlib import Path

import torch

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.architectures import ARCHITECTURES, Config
from maskomaly_ros.networks.known import KNOWN_CHECKPOINTS, KnownCheckpoint
from maskomaly_ros.networks.official_weights import transformers_config
from maskomaly_ros.networks.transformers_network import quiet_transformers


def write_random_checkpoint(name: str, out: Path) -> Path:
    """Write a folder that `load_network` takes: a published network before any training.

    Args:
        name: of a known checkpoint, with or without `-cityscapes`: `swin-l`, `eomt-l` ...
        out: folder to write.

    Returns:
        The folder.

    Raises:
        MaskomalyError: the name is unknown or the folder cannot be written.

    """
    known = KNOWN_CHECKPOINTS.get(name) or KNOWN_CHECKPOINTS.get(f'{name}-cityscapes')
    if known is None:
        names = ', '.join(key.removesuffix('-cityscapes') for key in KNOWN_CHECKPOINTS)
        raise MaskomalyError(f'there is no network {name!r} to make with random weights: {names}')
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ARCHITECTURES[known.architecture].model_class()(_config(known))
        if known.architecture.startswith('eomt'):
            model.attn_mask_probs.zero_()  # where training leaves them
        try:
            model.save_pretrained(out)
        except OSError as error:
            raise MaskomalyError(f'cannot write checkpoint {out}: {error}') from error
    return out


def _config(known: KnownCheckpoint) -> Config:
    if not known.is_folder:
        return transformers_config(known.config())
    names = dict(enumerate(known.class_names))
    config_class = ARCHITECTURES[known.architecture].config_class()
    return config_class(
        **known.settings,
        id2label=names,
        label2id={name: index for index, name in names.items()},
    )
