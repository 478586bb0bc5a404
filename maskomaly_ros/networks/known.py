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

"""The published checkpoints for Cityscapes, semantic segmentation.

Names, figures, licences and addresses: MODEL_ZOO.md of facebookresearch/Mask2Former (9b0651c), and
model_zoo/dinov2.md of tue-mps/eomt (7bd19dd).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from maskomaly_ros.networks.official_config import OfficialConfig

_SERVER = 'https://dl.fbaipublicfiles.com/maskformer/mask2former/cityscapes/semantic'
CITYSCAPES_CLASSES = (
    'road',
    'sidewalk',
    'building',
    'wall',
    'fence',
    'pole',
    'traffic light',
    'traffic sign',
    'vegetation',
    'terrain',
    'sky',
    'person',
    'rider',
    'car',
    'truck',
    'bus',
    'train',
    'motorcycle',
    'bicycle',
)
_CITYSCAPES: dict[str, Any] = {
    'DATASETS': {'TRAIN': 'cityscapes_fine_sem_seg_train'},
    'INPUT': {'FORMAT': 'RGB', 'MIN_SIZE_TEST': 1024, 'MAX_SIZE_TEST': 2048},
    'MODEL': {
        'META_ARCHITECTURE': 'MaskFormer',
        'PIXEL_MEAN': [123.675, 116.28, 103.53],
        'PIXEL_STD': [58.395, 57.12, 57.375],
        'RESNETS': {'STRIDE_IN_1X1': False, 'OUT_FEATURES': ['res2', 'res3', 'res4', 'res5']},
        'SEM_SEG_HEAD': {
            'NAME': 'MaskFormerHead',
            'PIXEL_DECODER_NAME': 'MSDeformAttnPixelDecoder',
            'IN_FEATURES': ['res2', 'res3', 'res4', 'res5'],
            'NUM_CLASSES': 19,
            'CONVS_DIM': 256,
            'TRANSFORMER_ENC_LAYERS': 6,
        },
        'MASK_FORMER': {
            'TRANSFORMER_IN_FEATURE': 'multi_scale_pixel_decoder',
            'DEC_LAYERS': 10,
        },
    },
}


@dataclass(frozen=True)
class KnownCheckpoint:
    """A published checkpoint.

    Attributes:
        name: our short name for it.
        backbone: as the authors call it.
        mean_iou: published mIoU on Cityscapes val in percent, one scale, no flip.
        url: where the official file is, or the page where its files are.
        hub_id: the same checkpoint at Hugging Face, or None where there is none.
        settings: in what its official configuration differs from that of ResNet-50, or, where
            there is no official file that can be read, the entries of its config.json.
        architecture: its model_type, see `architectures.ARCHITECTURES`.
        licence: of the weights.
        sha256: of the official file; None as long as nobody has published it.

    """

    name: str
    backbone: str
    mean_iou: float
    url: str
    hub_id: str | None
    settings: dict[str, Any] = field(repr=False, hash=False)
    architecture: str = 'mask2former'
    licence: str = 'CC BY-NC 4.0'
    sha256: str | None = None

    @property
    def file_name(self) -> str:
        """Name of the official file; it tells the checkpoints apart by a part of a hash.

        Name of a folder, where the authors publish what transformers loads.
        """
        return PurePosixPath(self.url).name

    @property
    def is_folder(self) -> bool:
        """Whether it is published as a folder for transformers, not as an official file."""
        return not self.file_name.endswith('.pkl')

    @property
    def class_names(self) -> tuple[str, ...]:
        """The inlier classes."""
        return CITYSCAPES_CLASSES

    def config(self) -> OfficialConfig:
        """Return the official configuration, so that the file is enough to load it."""
        return OfficialConfig(
            [{'MODEL': self.settings}, _CITYSCAPES], f'built-in configuration of {self.name}'
        )


def _resnet(depth: int) -> dict[str, Any]:
    return {'RESNETS': {'DEPTH': depth}}


def _swin(width: int, blocks: int, heads: int, window: int, pretrained_at: int) -> dict[str, Any]:
    return {
        'BACKBONE': {'NAME': 'D2SwinTransformer'},
        'SWIN': {
            'EMBED_DIM': width,
            'DEPTHS': [2, 2, blocks, 2],
            'NUM_HEADS': [heads, 2 * heads, 4 * heads, 8 * heads],
            'WINDOW_SIZE': window,
            'PRETRAIN_IMG_SIZE': pretrained_at,
        },
    }


KNOWN_CHECKPOINTS = {
    known.name: known
    for known in (
        KnownCheckpoint(
            'r50-cityscapes',
            'R50',
            79.4,
            f'{_SERVER}/maskformer2_R50_bs16_90k/model_final_cc1b1f.pkl',
            None,
            _resnet(50),
        ),
        KnownCheckpoint(
            'r101-cityscapes',
            'R101',
            80.1,
            f'{_SERVER}/maskformer2_R101_bs16_90k/model_final_257ce8.pkl',
            None,
            _resnet(101),
        ),
        KnownCheckpoint(
            'swin-t-cityscapes',
            'Swin-T',
            82.1,
            f'{_SERVER}/maskformer2_swin_tiny_bs16_90k/model_final_2d58d4.pkl',
            'facebook/mask2former-swin-tiny-cityscapes-semantic',
            _swin(96, 6, 3, 7, 224),
        ),
        KnownCheckpoint(
            'swin-s-cityscapes',
            'Swin-S',
            82.6,
            f'{_SERVER}/maskformer2_swin_small_bs16_90k/model_final_fa26ae.pkl',
            'facebook/mask2former-swin-small-cityscapes-semantic',
            _swin(96, 18, 3, 7, 224),
        ),
        KnownCheckpoint(
            'swin-b-cityscapes',
            'Swin-B (IN21k)',
            83.3,
            f'{_SERVER}/maskformer2_swin_base_IN21k_384_bs16_90k/model_final_1c6b65.pkl',
            'facebook/mask2former-swin-base-IN21k-cityscapes-semantic',
            _swin(128, 18, 4, 12, 384),
        ),
        KnownCheckpoint(
            'swin-l-cityscapes',
            'Swin-L (IN21k)',
            83.3,
            f'{_SERVER}/maskformer2_swin_large_IN21k_384_bs16_90k/model_final_17c1ee.pkl',
            'facebook/mask2former-swin-large-cityscapes-semantic',
            _swin(192, 18, 6, 12, 384),
        ),
        KnownCheckpoint(
            'eomt-l-cityscapes',
            'ViT-L (DINOv2)',
            84.2,
            'https://huggingface.co/tue-mps/cityscapes_semantic_eomt_large_1024',
            'tue-mps/cityscapes_semantic_eomt_large_1024',
            {'image_size': 1024, 'num_queries': 100},
            architecture='eomt',
            licence='MIT',
        ),
    )
}


def find_known(name: str) -> KnownCheckpoint | None:
    """Return the published checkpoint that goes by a name, if one does.

    Args:
        name: short name, Hugging Face id with or without its owner, or official file name with
            or without its suffix.

    """
    for known in KNOWN_CHECKPOINTS.values():
        names = {known.name, known.file_name, known.file_name.removesuffix('.pkl')}
        if known.hub_id:
            names |= {known.hub_id, known.hub_id.rpartition('/')[2]}
        if name in names:
            return known
    return None


def cache_folder() -> Path:
    """Return the folder that downloaded checkpoints are kept in, which need not exist.

    `MASKOMALY_CHECKPOINTS`, else `maskomaly_ros/checkpoints` in `XDG_CACHE_HOME` or `~/.cache`.
    """
    if own := os.environ.get('MASKOMALY_CHECKPOINTS'):
        return Path(own).expanduser()
    return user_cache() / 'checkpoints'


def user_cache() -> Path:
    """Return the folder for what this package keeps of its own: `maskomaly_ros` in the cache.

    The cache is `XDG_CACHE_HOME` or `~/.cache`.
    """
    return Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'maskomaly_ros'
