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

"""The yaml configurations of official Mask2Former checkpoints, without detectron2."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as short
from typing import Any

import yaml

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks.preprocessing import PIXEL_MEAN, PIXEL_STD, SIZE_DIVISOR
from maskomaly_ros.yaml_files import PlainLoader, read_yaml

# What detectron2 and Mask2Former assume where a file says nothing.
_DEFAULTS: dict[str, Any] = {
    'DATASETS.TRAIN': (),
    'DATASETS.TEST': (),
    'INPUT.FORMAT': 'BGR',
    'INPUT.MAX_SIZE_TEST': 1333,
    'INPUT.MIN_SIZE_TEST': 800,
    'MODEL.BACKBONE.NAME': 'build_resnet_backbone',
    'MODEL.MASK_FORMER.DEC_LAYERS': 6,
    'MODEL.MASK_FORMER.DIM_FEEDFORWARD': 2048,
    'MODEL.MASK_FORMER.ENFORCE_INPUT_PROJ': False,
    'MODEL.MASK_FORMER.HIDDEN_DIM': 256,
    'MODEL.MASK_FORMER.NHEADS': 8,
    'MODEL.MASK_FORMER.NUM_OBJECT_QUERIES': 100,
    'MODEL.MASK_FORMER.PRE_NORM': False,
    'MODEL.MASK_FORMER.SIZE_DIVISIBILITY': 32,
    'MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME': 'MultiScaleMaskedTransformerDecoder',
    'MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE': 'res5',
    'MODEL.META_ARCHITECTURE': 'GeneralizedRCNN',
    'MODEL.PIXEL_MEAN': (103.53, 116.28, 123.675),
    'MODEL.PIXEL_STD': (1.0, 1.0, 1.0),
    'MODEL.RESNETS.DEFORM_ON_PER_STAGE': (False, False, False, False),
    'MODEL.RESNETS.DEPTH': 50,
    'MODEL.RESNETS.NORM': 'FrozenBN',
    'MODEL.RESNETS.NUM_GROUPS': 1,
    'MODEL.RESNETS.OUT_FEATURES': ('res4',),
    'MODEL.RESNETS.RES2_OUT_CHANNELS': 256,
    'MODEL.RESNETS.RES5_DILATION': 1,
    'MODEL.RESNETS.STEM_OUT_CHANNELS': 64,
    'MODEL.RESNETS.STRIDE_IN_1X1': True,
    'MODEL.RESNETS.WIDTH_PER_GROUP': 64,
    'MODEL.SEM_SEG_HEAD.COMMON_STRIDE': 4,
    'MODEL.SEM_SEG_HEAD.CONVS_DIM': 128,
    'MODEL.SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES': ('res3', 'res4', 'res5'),
    'MODEL.SEM_SEG_HEAD.IN_FEATURES': ('p2', 'p3', 'p4', 'p5'),
    'MODEL.SEM_SEG_HEAD.MASK_DIM': 256,
    'MODEL.SEM_SEG_HEAD.NAME': 'SemSegFPNHead',
    'MODEL.SEM_SEG_HEAD.NORM': 'GN',
    'MODEL.SEM_SEG_HEAD.NUM_CLASSES': 54,
    'MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME': 'BasePixelDecoder',
    'MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS': 0,
    'MODEL.SWIN.APE': False,
    'MODEL.SWIN.DEPTHS': (2, 2, 6, 2),
    'MODEL.SWIN.EMBED_DIM': 96,
    'MODEL.SWIN.MLP_RATIO': 4.0,
    'MODEL.SWIN.NUM_HEADS': (3, 6, 12, 24),
    'MODEL.SWIN.OUT_FEATURES': ('res2', 'res3', 'res4', 'res5'),
    'MODEL.SWIN.PATCH_NORM': True,
    'MODEL.SWIN.PATCH_SIZE': 4,
    'MODEL.SWIN.PRETRAIN_IMG_SIZE': 224,
    'MODEL.SWIN.QKV_BIAS': True,
    'MODEL.SWIN.QK_SCALE': None,
    'MODEL.SWIN.WINDOW_SIZE': 7,
}
_STAGES = ('res2', 'res3', 'res4', 'res5')
# The part of what detectron2 can describe that is a Mask2Former as the transformers library and
# our preprocessing build it; with other values the numbers would silently be different ones.
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    'MODEL.META_ARCHITECTURE': ('MaskFormer',),
    'MODEL.BACKBONE.NAME': ('build_resnet_backbone', 'D2SwinTransformer'),
    'MODEL.SEM_SEG_HEAD.NAME': ('MaskFormerHead',),
    'MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME': ('MSDeformAttnPixelDecoder',),
    'MODEL.SEM_SEG_HEAD.IN_FEATURES': (_STAGES,),
    'MODEL.SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES': (_STAGES[1:],),
    'MODEL.SEM_SEG_HEAD.COMMON_STRIDE': (4,),
    'MODEL.SEM_SEG_HEAD.NORM': ('GN',),
    'MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME': ('MultiScaleMaskedTransformerDecoder',),
    'MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE': ('multi_scale_pixel_decoder',),
    'MODEL.MASK_FORMER.PRE_NORM': (False,),
    'MODEL.MASK_FORMER.SIZE_DIVISIBILITY': (SIZE_DIVISOR,),
    'MODEL.PIXEL_MEAN': (PIXEL_MEAN,),
    'MODEL.PIXEL_STD': (PIXEL_STD,),
    'INPUT.FORMAT': ('RGB',),
}
_SUPPORTED_RESNET: dict[str, tuple[Any, ...]] = {
    'MODEL.RESNETS.DEPTH': (18, 34, 50, 101, 152),
    'MODEL.RESNETS.NORM': ('BN', 'SyncBN', 'FrozenBN', 'nnSyncBN', 'naiveSyncBN'),
    'MODEL.RESNETS.NUM_GROUPS': (1,),
    'MODEL.RESNETS.RES5_DILATION': (1,),
    'MODEL.RESNETS.DEFORM_ON_PER_STAGE': ((False, False, False, False),),
    'MODEL.RESNETS.OUT_FEATURES': (_STAGES,),
}
_SUPPORTED_SWIN: dict[str, tuple[Any, ...]] = {
    'MODEL.SWIN.APE': (False,),
    'MODEL.SWIN.PATCH_NORM': (True,),
    'MODEL.SWIN.PATCH_SIZE': (4,),
    'MODEL.SWIN.QK_SCALE': (None,),
    'MODEL.SWIN.OUT_FEATURES': (_STAGES,),
}
_MOST_BASES = 16


class OfficialConfig:
    """The settings of an official Mask2Former, by dotted name: `config['MODEL.SWIN.DEPTHS']`.

    Args:
        layers: nested mappings; the first that has a setting gives it, else the official default.
        origin: what to call the configuration in messages.

    Raises:
        MaskomalyError: it describes another network than can be built here.

    """

    def __init__(self, layers: Sequence[Mapping[str, Any]], origin: str) -> None:
        self._layers = layers
        self._origin = origin
        self._check(_SUPPORTED)
        self._check(_SUPPORTED_SWIN if self.has_swin else _SUPPORTED_RESNET)

    @property
    def has_swin(self) -> bool:
        """Whether the backbone is a Swin Transformer; else it is a ResNet."""
        return bool(self['MODEL.BACKBONE.NAME'] == 'D2SwinTransformer')

    def __getitem__(self, name: str) -> Any:
        keys = name.split('.')
        for layer in self._layers:
            value: Any = layer
            for depth, key in enumerate(keys):
                if not isinstance(value, Mapping):
                    raise MaskomalyError(
                        f'{self._origin}: {".".join(keys[:depth])} is {short(value):.80}; it '
                        'must be a mapping of settings'
                    )
                if (value := value.get(key, _ABSENT)) is _ABSENT:
                    break
            else:
                return _decoded(value)
        return _DEFAULTS[name]

    def settings(self) -> dict[str, Any]:
        """Return every setting that has an influence on predictions, by dotted name."""
        return {name: self[name] for name in _DEFAULTS}

    def integer(self, name: str, least: int = 1, most: int = 1 << 14) -> int:
        """Return a setting that is a whole number.

        Raises:
            MaskomalyError: it is none, or not in the range least to most.

        """
        value = self[name]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.error(name, f'a whole number from {least} to {most}')
        return value

    def boolean(self, name: str) -> bool:
        """Return a setting that is true or false.

        Raises:
            MaskomalyError: it is neither.

        """
        value = self[name]
        if not isinstance(value, bool):
            raise self.error(name, 'true or false')
        return value

    def integers(self, name: str, count: int = 4, most: int = 1 << 14) -> tuple[int, ...]:
        """Return a setting that is a list of so many whole numbers, from 1 to most.

        Raises:
            MaskomalyError: it is not.

        """
        value = self[name]
        if (
            not isinstance(value, tuple)
            or len(value) != count
            or not all(isinstance(n, int) and 1 <= n <= most for n in value)
        ):
            raise self.error(name, f'{count} whole numbers from 1 to {most}')
        return value

    def error(self, name: str, needed: str) -> MaskomalyError:
        """Return the error that says what a setting is and what it has to be."""
        return MaskomalyError(
            f'{self._origin}: {name} is {short(self[name]):.80}, which is not supported; it '
            f'must be {needed}'
        )

    def _check(self, supported: Mapping[str, tuple[Any, ...]]) -> None:
        for name, values in supported.items():
            if self[name] not in values:
                raise self.error(name, ' or '.join(map(repr, values)))


_ABSENT = object()


def _decoded(value: Any) -> Any:
    """Return a setting as detectron2 takes it: text that is a literal stands for its value."""
    if isinstance(value, str) and len(value) < 1000:
        try:
            value = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            return value
    return tuple(value) if isinstance(value, list) else value


def read_config(path: Path) -> OfficialConfig:
    """Read the yaml configuration of an official checkpoint and the files it is based on.

    `_BASE_` names one file or a list of them, relative to the file that names them; what a file
    says itself comes before what its bases say. Tags that would run Python, as the published
    configurations have, stand for nothing.

    Raises:
        MaskomalyError: a file is missing, too large or no yaml, the bases form a loop, or the
            configuration describes another network than can be built here.

    """
    layers: list[Mapping[str, Any]] = []
    _read_into(layers, path, ())
    return OfficialConfig(layers, f'configuration {path}')


def _read_into(layers: list[Mapping[str, Any]], path: Path, parents: tuple[Path, ...]) -> None:
    resolved = path.resolve()
    if resolved in parents:
        raise MaskomalyError(f'configuration {path} is based on itself, through _BASE_')
    if len(layers) >= _MOST_BASES:
        raise MaskomalyError(f'configuration {path}: more than {_MOST_BASES} files by _BASE_')
    content = _read_yaml(path, parents)
    layers.append(content)
    bases = content.get('_BASE_', [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise MaskomalyError(f'configuration {path}: _BASE_ must be a file name or a list of them')
    for base in reversed(bases):  # a later base overrides an earlier one
        file = path.parent / os.path.expanduser(base)  # noqa: PTH111 (leaves unknown users alone)
        _read_into(layers, file, (*parents, resolved))


def _read_yaml(path: Path, parents: tuple[Path, ...]) -> Mapping[str, Any]:
    try:
        return read_yaml(path, 'configuration', _Loader)
    except OSError as error:
        origin = f', which {parents[-1]} is based on; fetch it too' if parents else ''
        raise MaskomalyError(
            f'cannot read configuration {path}{origin}: {error.strerror}'
        ) from error


class _Loader(PlainLoader):
    """A loader that takes tuples for lists, and skips what other Python tags ask for.

    It does take aliases, with which detectron2 writes whatever stands in two places. What they
    multiply is held once, and never walked through.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Take aliases as well."""
        return yaml.SafeLoader.compose_node(self, parent, index)


def _list(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


def _nothing(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> None:
    return None


_Loader.add_constructor('tag:yaml.org,2002:python/tuple', _list)
_Loader.add_multi_constructor('tag:yaml.org,2002:python/', _nothing)
