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

"""Limits on what a configuration may ask for before anything is built from it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules import module

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.architectures import Config, find_architecture

_MOST = 1 << 16  # the largest number that a configuration has a use for is 12544
# The decoder of MaskFormer is configured as a whole DETR, of which the backbone is not built.
_NOT_BUILT = 'decoder_config.backbone_config.'
_MOST_PARTS = 20_000  # Swin-L has 1412
_WITHOUT_WEIGHTS = 1 << 24  # numbers that are computed, not loaded; Swin-L has 497,684
_SMALL = 1 << 28  # numbers of what is built in any case; the published networks are smaller


def check_content(content: Any, origin: str) -> None:
    """Refuse what would be fetched from elsewhere, and numbers that no network needs.

    Args:
        content: of a config.json.
        origin: what to call it in messages.

    Raises:
        MaskomalyError: the message names the entry.

    """
    for name, value in _entries(content, ''):
        if name.startswith(_NOT_BUILT):
            continue
        key = name.rpartition('.')[2]
        if isinstance(value, int | float) and not -_MOST <= value <= _MOST:
            raise MaskomalyError(
                f'{origin}: {name} is {value}; numbers up to {_MOST} are supported'
            )
        if key == 'model_type' and str(value).startswith('timm'):
            raise MaskomalyError(f'{origin}: {name} is {value!r}; backbones of timm are fetched')
        if key.endswith('attn_implementation') and '/' in str(value):
            raise MaskomalyError(f'{origin}: {name} is {value!r}, code that would be fetched')
    if content.get('backbone') and not content.get('backbone_config'):
        raise MaskomalyError(
            f'{origin}: backbone is {content["backbone"]!r}, which would be fetched; describe '
            'it by backbone_config instead'
        )


def check_size(config: Config, weights: Sequence[Path], origin: str) -> None:
    """Refuse a configuration of a network that is larger than its weights can be.

    It is built without memory for its numbers, until they are too many. What is not larger than
    the largest published network passes: loading it names the weights that are missing.

    Args:
        config: of the network.
        weights: files with its weights, in which each number takes a byte or more.
        origin: what to call the configuration in messages.

    Raises:
        MaskomalyError: the network is too large.

    """
    model = find_architecture(config.model_type, origin).model_class()
    size = sum(file.stat().st_size for file in weights)
    most = max(size + _WITHOUT_WEIGHTS, _SMALL)
    numbers = parts = 0
    thread = threading.get_ident()

    def count(_: torch.nn.Module, __: str, part: Any) -> None:
        nonlocal numbers, parts
        if threading.get_ident() != thread:
            return
        parts += 1
        numbers += part.numel() if isinstance(part, torch.Tensor) else 0
        if parts > _MOST_PARTS or numbers > most:
            raise MaskomalyError(
                f'{origin} describes a network that is too large: {numbers} numbers in {parts} '
                f'parts and more, for {size} bytes of weights. They do not belong together'
            )

    hooks = [
        register(count)
        for register in (
            module.register_module_parameter_registration_hook,
            module.register_module_buffer_registration_hook,
            module.register_module_module_registration_hook,
        )
    ]
    try:
        with torch.device('meta'):
            model(config)
    finally:
        for hook in hooks:
            hook.remove()


def _entries(content: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the values of a nested configuration that are no containers, by dotted name."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _entries(value, f'{name}.{key}' if name else str(key))
    elif isinstance(content, list):
        for value in content:
            yield from _entries(value, name)
    else:
        yield name, content
