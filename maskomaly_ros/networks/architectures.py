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

"""The mask networks that can be loaded: the one list of architectures.

Each answers with N masks and N distributions of classes, void last. What a model of transformers
needs beyond that, to be loaded, traced or described, stands here and nowhere else.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.preprocessing import LONGEST_SIDE, InputForm, InputSize

Config = Any  # the classes of configurations have no common type that both generations export


@dataclass(frozen=True)
class Architecture:
    """A kind of network.

    Attributes:
        name: what papers call it.
        model_type: what its config.json says.
        model_name: class of the model in transformers, or in `module`.
        config_name: class of its configuration.
        num_queries: finds N in a configuration.
        backbone: says in words what features come from.
        has_fixed_squares: its input has the side `image_size` of the configuration, and no other.
        prepare: called with a loaded model before it predicts.
        module: module of this package that has the classes; None: transformers has them.

    """

    name: str
    model_type: str
    model_name: str
    config_name: str
    num_queries: Callable[[Config], int]
    backbone: Callable[[Config], str]
    has_fixed_squares: bool = False
    prepare: Callable[[Any], None] = lambda model: None
    module: str | None = None

    def model_class(self) -> Any:
        """Return the class of the model.

        Raises:
            MaskomalyError: the installed release of transformers does not have it.

        """
        return self._find(self.model_name)

    def config_class(self) -> Any:
        """Return the class of the configuration; raises as `model_class`."""
        return self._find(self.config_name)

    def _find(self, name: str) -> Any:
        import transformers  # late, as it takes a second, and not every program needs a model

        home = transformers if self.module is None else importlib.import_module(self.module)
        found = getattr(home, name, None)
        if found is None:
            raise MaskomalyError(
                f'{self.name} (model_type {self.model_type!r}) is not part of transformers '
                f'{transformers.__version__}, which is installed; a newer release has it'
            )
        return found


def _stages(config: Config) -> str:
    backbone = config.backbone_config
    return f'{backbone.model_type}, depths {" ".join(map(str, backbone.depths))}'


def _plain(kind: str) -> Callable[[Config], str]:
    def describe(config: Config) -> str:
        return f'{kind}, {config.num_hidden_layers} layers of {config.hidden_size}'

    return describe


def _fix_attention_masks(model: Any) -> None:
    """Make plain numbers of the probabilities with which EoMT masks its attention.

    Training lets them fall to 0. As tensors, the model would wait for the device to read each.

    Raises:
        MaskomalyError: one lies between 0 and 1, where the model would throw dice for each frame.

    """
    probabilities = tuple(float(p) for p in model.attn_mask_probs)
    if not all(p in (0.0, 1.0) for p in probabilities):
        raise MaskomalyError(
            f'the checkpoint masks attention with the probabilities {probabilities} '
            '(attn_mask_probs): it was saved in the middle of training, and its answers would be '
            'random. Only 0 and 1 are supported'
        )
    del model.attn_mask_probs
    model.attn_mask_probs = probabilities


ARCHITECTURES = {
    architecture.model_type: architecture
    for architecture in (
        Architecture(
            'Mask2Former',
            'mask2former',
            'Mask2FormerForUniversalSegmentation',
            'Mask2FormerConfig',
            lambda config: int(config.num_queries),
            _stages,
        ),
        Architecture(
            'Mask2Former with a query for novel things',
            'mask2former_novelty',
            'NoveltyMask2Former',
            'NoveltyMask2FormerConfig',
            lambda config: int(config.num_queries),
            _stages,
            module='maskomaly_ros.networks.novelty',
        ),
        Architecture(
            'MaskFormer',
            'maskformer',
            'MaskFormerForInstanceSegmentation',
            'MaskFormerConfig',
            lambda config: int(config.decoder_config.num_queries),
            _stages,
        ),
        Architecture(
            'EoMT',
            'eomt',
            'EomtForUniversalSegmentation',
            'EomtConfig',
            lambda config: int(config.num_queries),
            _plain('plain ViT (DINOv2)'),
            has_fixed_squares=True,
            prepare=_fix_attention_masks,
        ),
        Architecture(
            'EoMT-DINOv3',
            'eomt_dinov3',
            'EomtDinov3ForUniversalSegmentation',
            'EomtDinov3Config',
            lambda config: int(config.num_queries),
            _plain('plain ViT (DINOv3)'),
            has_fixed_squares=True,
            prepare=_fix_attention_masks,
        ),
    )
}
"""Every architecture that can be loaded, by its model_type."""


def find_architecture(model_type: object, origin: str) -> Architecture:
    """Return an architecture.

    Args:
        model_type: of a config.json.
        origin: what to call the checkpoint in messages.

    Raises:
        MaskomalyError: there is no such architecture; the message names those that there are.

    """
    found = ARCHITECTURES.get(model_type) if isinstance(model_type, str) else None
    if found is None:
        known = ', '.join(f'{a.name} ({a.model_type!r})' for a in ARCHITECTURES.values())
        raise MaskomalyError(
            f'{origin} is a {model_type!r:.80} model, which is not supported; supported are '
            f'{known}'
        )
    return found


def input_form(config: Config, folder: Path | None, chosen: InputSize | None) -> InputForm:
    """Return how frames become the input of a network.

    Args:
        config: of the model.
        folder: of the checkpoint, where preprocessor_config.json may say more.
        chosen: size of the network input; None takes the checkpoint's own
            (`maskomaly_input_size` of the configuration), or that of the architecture.

    Raises:
        MaskomalyError: a size is impossible for this network, or the checkpoint was trained on
            inputs that cannot be made here.

    """
    if not find_architecture(config.model_type, 'the network').has_fixed_squares:
        return InputForm(chosen or _own_input_size(config) or InputSize())
    side = config.image_size
    if type(side) is not int or type(config.patch_size) is not int or side % config.patch_size:
        raise MaskomalyError(
            f'image_size {side!r} with patch_size {config.patch_size!r} in config.json: inputs '
            'must be squares of whole patches'
        )
    size = chosen or _own_input_size(config) or _processor_size(folder, side)
    if size.shortest != side:
        raise MaskomalyError(
            f'input size {size.shortest}x{size.longest} is impossible: the network sees squares '
            f'of {side} pixels, so that the shortest side has to be {side}'
        )
    return InputForm(size, side)


def _own_input_size(config: Config) -> InputSize | None:
    own = getattr(config, 'maskomaly_input_size', None)
    if own is None:
        return None
    if not (isinstance(own, list | tuple) and len(own) == 2 and {*map(type, own)} == {int}):
        raise MaskomalyError(
            f'maskomaly_input_size in config.json is {own!r}; it must be two whole numbers'
        )
    return InputSize(*own)


PROCESSOR_FILE = 'preprocessor_config.json'


def _processor_size(folder: Path | None, side: int) -> InputSize:
    """Return what a checkpoint of EoMT was trained with: windows, or whole frames in a square."""
    file = folder / PROCESSOR_FILE if folder else None
    if file is None or not file.is_file():
        return InputSize(side, LONGEST_SIDE)
    try:
        content = json.loads(file.read_text(encoding='utf-8'))
        size = content.get('size') or {}
        is_split, longest = content.get('do_split_image', False), size.get('longest_edge')
        shortest = size.get('shortest_edge', side)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise MaskomalyError(f'{file} cannot be read: {error}') from error
    if shortest != side or not (longest is None or (type(longest) is int and longest >= side)):
        raise MaskomalyError(
            f'{file} scales frames to {size}, but the network sees squares of {side} pixels'
        )
    if not is_split and longest != side:
        raise MaskomalyError(
            f'{file} neither splits frames (do_split_image) nor fits them into a square of {side} '
            f'pixels (longest_edge is {longest})'
        )
    return InputSize(side, min(longest or LONGEST_SIDE, LONGEST_SIDE))
