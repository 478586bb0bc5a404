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

"""Official Mask2Former checkpoints as models of the transformers library."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor
from transformers import Mask2FormerConfig, ResNetConfig, SwinConfig

from maskomaly_ros.errors import MaskomalyError, listed
from maskomaly_ros.networks.known import CITYSCAPES_CLASSES
from maskomaly_ros.networks.official_config import OfficialConfig

_BLOCKS = {
    18: ('basic', (2, 2, 2, 2)),
    34: ('basic', (3, 4, 6, 3)),
    50: ('bottleneck', (3, 4, 6, 3)),
    101: ('bottleneck', (3, 4, 23, 3)),
    152: ('bottleneck', (3, 8, 36, 3)),
}
_OUT_FEATURES = ['stage1', 'stage2', 'stage3', 'stage4']
_ENCODER_FEEDFORWARD = 1024  # a constant of the official pixel decoder
_FEATURE_LEVELS = 3
# Constants and counters that no prediction reads.
_WITHOUT_USE = re.compile(
    r'.*\.(relative_position_index|num_batches_tracked)|criterion\..*|pixel_(mean|std)'
)
_MODULE = ('weight', 'bias')
_STATISTICS = ('weight', 'bias', 'running_mean', 'running_var')


def transformers_config(settings: OfficialConfig) -> Mask2FormerConfig:
    """Return the configuration of the transformers model for official settings.

    It also carries the official input size, as `maskomaly_input_size`.

    Raises:
        MaskomalyError: a setting has a value that cannot be built here.

    """
    number = settings.integer
    feature_size = number('MODEL.SEM_SEG_HEAD.CONVS_DIM')
    hidden_dim = number('MODEL.MASK_FORMER.HIDDEN_DIM')
    heads = number('MODEL.MASK_FORMER.NHEADS')
    if feature_size % 32 or feature_size % heads:
        raise settings.error('MODEL.SEM_SEG_HEAD.CONVS_DIM', f'a multiple of 32 and of {heads}')
    if hidden_dim % 2 or hidden_dim % heads:
        raise settings.error('MODEL.MASK_FORMER.HIDDEN_DIM', f'a multiple of 2 and of {heads}')
    names = _class_names(settings)
    return Mask2FormerConfig(
        backbone_config=_swin(settings) if settings.has_swin else _resnet(settings),
        feature_size=feature_size,
        mask_feature_size=number('MODEL.SEM_SEG_HEAD.MASK_DIM'),
        hidden_dim=hidden_dim,
        encoder_feedforward_dim=_ENCODER_FEEDFORWARD,
        encoder_layers=number('MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS', least=0, most=100),
        decoder_layers=number('MODEL.MASK_FORMER.DEC_LAYERS', most=100),
        num_attention_heads=heads,
        dim_feedforward=number('MODEL.MASK_FORMER.DIM_FEEDFORWARD'),
        enforce_input_projection=settings.boolean('MODEL.MASK_FORMER.ENFORCE_INPUT_PROJ'),
        num_queries=number('MODEL.MASK_FORMER.NUM_OBJECT_QUERIES'),
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        maskomaly_input_size=[
            number('INPUT.MIN_SIZE_TEST', least=32),
            number('INPUT.MAX_SIZE_TEST', least=32),
        ],
    )


def _resnet(settings: OfficialConfig) -> ResNetConfig:
    layer_type, depths = _BLOCKS[settings['MODEL.RESNETS.DEPTH']]
    width = settings.integer('MODEL.RESNETS.RES2_OUT_CHANNELS')
    if layer_type == 'bottleneck' and width != 4 * settings.integer(
        'MODEL.RESNETS.WIDTH_PER_GROUP'
    ):
        raise settings.error('MODEL.RESNETS.WIDTH_PER_GROUP', f'{width // 4}, a quarter of res2')
    return ResNetConfig(
        embedding_size=settings.integer('MODEL.RESNETS.STEM_OUT_CHANNELS'),
        hidden_sizes=[width, 2 * width, 4 * width, 8 * width],
        depths=list(depths),
        layer_type=layer_type,
        downsample_in_bottleneck=settings.boolean('MODEL.RESNETS.STRIDE_IN_1X1'),
        out_features=_OUT_FEATURES,
    )


def _swin(settings: OfficialConfig) -> SwinConfig:
    width = settings.integer('MODEL.SWIN.EMBED_DIM')
    heads = settings.integers('MODEL.SWIN.NUM_HEADS')
    if any((width << stage) % count for stage, count in enumerate(heads)):
        raise settings.error('MODEL.SWIN.NUM_HEADS', f'divisors of {width}, {2 * width}, …')
    ratio = settings['MODEL.SWIN.MLP_RATIO']
    if not isinstance(ratio, int | float) or not 0 < ratio <= 64:
        raise settings.error('MODEL.SWIN.MLP_RATIO', 'a number above 0, up to 64')
    return SwinConfig(
        image_size=settings.integer('MODEL.SWIN.PRETRAIN_IMG_SIZE'),
        patch_size=settings.integer('MODEL.SWIN.PATCH_SIZE'),
        embed_dim=width,
        depths=list(settings.integers('MODEL.SWIN.DEPTHS', most=100)),
        num_heads=list(heads),
        window_size=settings.integer('MODEL.SWIN.WINDOW_SIZE', most=64),
        mlp_ratio=float(ratio),
        qkv_bias=settings.boolean('MODEL.SWIN.QKV_BIAS'),
        drop_path_rate=0.3,
        out_features=_OUT_FEATURES,
    )


def _class_names(settings: OfficialConfig) -> tuple[str, ...]:
    count = settings.integer('MODEL.SEM_SEG_HEAD.NUM_CLASSES')
    sets = [settings[f'DATASETS.{use}'] for use in ('TRAIN', 'TEST')]
    names = [name for each in sets for name in (each if isinstance(each, tuple) else (each,))]
    if any('cityscapes' in name for name in names if isinstance(name, str)) and count == len(
        CITYSCAPES_CLASSES
    ):
        return CITYSCAPES_CLASSES
    return tuple(f'class {index}' for index in range(count))


def transformers_weights(
    weights: Mapping[str, Tensor], config: Mask2FormerConfig
) -> dict[str, Tensor]:
    """Rename the weights of an official checkpoint to those of the transformers model.

    The names are those of its files, which every release of the library reads. Both spellings of
    the query features are known, and pixel decoders whose prefix is missing or doubled, as the
    official loader makes them of files without metadata.

    Raises:
        MaskomalyError: weights are missing or left over; the message names the first ten.

    """
    found = weights_in_use(weights)
    wanted = dict(parameter_names(config))
    missing = sorted(wanted.keys() - found.keys())
    left_over = sorted(found.keys() - wanted.keys())
    if missing or left_over:
        raise MaskomalyError(
            'the weights of the checkpoint do not fit its configuration: '
            f'missing {listed(missing)}, left over {listed(left_over)}'
        )
    result: dict[str, Tensor] = {}
    for name, targets in wanted.items():
        value = found.pop(name).to(torch.float32)
        if value.shape[:1].numel() % len(targets):
            raise MaskomalyError(f'{name} of shape {list(value.shape)} is no query, key and value')
        parts = [p.clone() for p in value.chunk(len(targets))] if len(targets) > 1 else [value]
        result.update(zip(targets, parts, strict=True))
        if name.endswith('.running_var'):
            counter = targets[0].replace('running_var', 'num_batches_tracked')
            result[counter] = torch.tensor(0)
    return result


def weights_in_use(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that predictions read, by the names of the present official code.

    Raises:
        MaskomalyError: one is there under two spellings.

    """
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        name = _current_name(name)
        if _WITHOUT_USE.fullmatch(name):
            continue
        if name in found:
            raise MaskomalyError(f'the checkpoint has {name} twice, under two spellings')
        found[name] = value
    return found


def _current_name(name: str) -> str:
    name = name.removeprefix('module.')  # written by a model trained on several devices
    name = name.replace('predictor.static_query', 'predictor.query_feat')
    head = re.fullmatch(r'sem_seg_head\.(?!predictor\.)(?:pixel_decoder\.)*(.*)', name)
    return f'sem_seg_head.pixel_decoder.{head[1]}' if head else name


def parameter_names(config: Mask2FormerConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield every weight of the official model, with the one or, in order, three it turns into."""
    backbone = config.backbone_config
    encoder = 'model.pixel_level_module.encoder'
    yield from _joined(
        'backbone.',
        f'{encoder}.',
        _swin_names(backbone) if isinstance(backbone, SwinConfig) else _resnet_names(backbone),
    )
    yield from _joined(
        'sem_seg_head.pixel_decoder.',
        'model.pixel_level_module.decoder.',
        _pixel_decoder_names(config),
    )
    yield from _joined('sem_seg_head.predictor.', '', _predictor_names(config))


_Names = Iterable[tuple[str, tuple[str, ...]]]


def _joined(source: str, target: str, names: _Names) -> _Names:
    for old, new in names:
        yield source + old, tuple(target + name for name in new)


def _module(source: str, *targets: str, leaves: Iterable[str] = _MODULE) -> _Names:
    for leaf in leaves:
        yield f'{source}.{leaf}', tuple(f'{target}.{leaf}' for target in targets)


def _resnet_names(config: ResNetConfig) -> _Names:
    def convolution(source: str, target: str) -> _Names:
        yield f'{source}.weight', (f'{target}.convolution.weight',)
        yield from _module(f'{source}.norm', f'{target}.normalization', leaves=_STATISTICS)

    yield from convolution('stem.conv1', 'embedder.embedder')
    before = config.embedding_size
    convolutions = 3 if config.layer_type == 'bottleneck' else 2
    for stage, (depth, width) in enumerate(zip(config.depths, config.hidden_sizes, strict=True)):
        for block in range(depth):
            source, target = f'res{stage + 2}.{block}', f'encoder.stages.{stage}.layers.{block}'
            for index in range(convolutions):
                yield from convolution(f'{source}.conv{index + 1}', f'{target}.layer.{index}')
            if block == 0 and before != width:
                yield from convolution(f'{source}.shortcut', f'{target}.shortcut')
        before = width


def _swin_names(config: SwinConfig) -> _Names:
    yield from _module('patch_embed.proj', 'embeddings.patch_embeddings.projection')
    yield from _module('patch_embed.norm', 'embeddings.norm')
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            source, target = (
                f'layers.{stage}.blocks.{block}',
                f'encoder.layers.{stage}.blocks.{block}',
            )
            attention = f'{target}.attention.self'
            table = 'relative_position_bias_table'
            yield from _module(f'{source}.norm1', f'{target}.layernorm_before')
            yield f'{source}.attn.{table}', (f'{attention}.{table}',)
            yield from _module(
                f'{source}.attn.qkv',
                f'{attention}.query',
                f'{attention}.key',
                f'{attention}.value',
                leaves=_MODULE if config.qkv_bias else ('weight',),
            )
            yield from _module(f'{source}.attn.proj', f'{target}.attention.output.dense')
            yield from _module(f'{source}.norm2', f'{target}.layernorm_after')
            yield from _module(f'{source}.mlp.fc1', f'{target}.intermediate.dense')
            yield from _module(f'{source}.mlp.fc2', f'{target}.output.dense')
        if stage < len(config.depths) - 1:
            source, target = f'layers.{stage}.downsample', f'encoder.layers.{stage}.downsample'
            yield f'{source}.reduction.weight', (f'{target}.reduction.weight',)
            yield from _module(f'{source}.norm', f'{target}.norm')
        yield from _module(f'norm{stage}', f'hidden_states_norms.stage{stage + 1}')


def _pixel_decoder_names(config: Mask2FormerConfig) -> _Names:
    for level in range(_FEATURE_LEVELS):
        source, target = f'input_proj.{level}', f'input_projections.{level}'
        yield from _module(f'{source}.0', f'{target}.0')
        yield from _module(f'{source}.1', f'{target}.1')
    yield 'transformer.level_embed', ('level_embed',)
    for layer in range(config.encoder_layers):
        source, target = f'transformer.encoder.layers.{layer}', f'encoder.layers.{layer}'
        for part in ('sampling_offsets', 'attention_weights', 'value_proj', 'output_proj'):
            yield from _module(f'{source}.self_attn.{part}', f'{target}.self_attn.{part}')
        yield from _module(f'{source}.norm1', f'{target}.self_attn_layer_norm')
        yield from _module(f'{source}.linear1', f'{target}.fc1')
        yield from _module(f'{source}.linear2', f'{target}.fc2')
        yield from _module(f'{source}.norm2', f'{target}.final_layer_norm')
    yield from _module('mask_features', 'mask_projection')
    for part in ('adapter_1', 'layer_1'):
        yield f'{part}.weight', (f'{part}.0.weight',)
        yield from _module(f'{part}.norm', f'{part}.1')


def _predictor_names(config: Mask2FormerConfig) -> _Names:
    transformer = 'model.transformer_module'
    for layer in range(config.decoder_layers - 1):  # the setting counts the queries themselves
        target = f'{transformer}.decoder.layers.{layer}'
        source = f'transformer_self_attention_layers.{layer}'
        for leaf in _MODULE:
            yield (
                f'{source}.self_attn.in_proj_{leaf}',
                tuple(f'{target}.self_attn.{part}_proj.{leaf}' for part in 'qkv'),
            )
        yield from _module(f'{source}.self_attn.out_proj', f'{target}.self_attn.out_proj')
        yield from _module(f'{source}.norm', f'{target}.self_attn_layer_norm')
        source = f'transformer_cross_attention_layers.{layer}'
        for leaf in _MODULE:
            yield (
                f'{source}.multihead_attn.in_proj_{leaf}',
                (f'{target}.cross_attn.in_proj_{leaf}',),
            )
        yield from _module(f'{source}.multihead_attn.out_proj', f'{target}.cross_attn.out_proj')
        yield from _module(f'{source}.norm', f'{target}.cross_attn_layer_norm')
        source = f'transformer_ffn_layers.{layer}'
        yield from _module(f'{source}.linear1', f'{target}.fc1')
        yield from _module(f'{source}.linear2', f'{target}.fc2')
        yield from _module(f'{source}.norm', f'{target}.final_layer_norm')
    if config.enforce_input_projection or config.feature_size != config.hidden_dim:
        for level in range(_FEATURE_LEVELS):
            yield from _module(f'input_proj.{level}', f'{transformer}.input_projections.{level}')
    yield from _module('decoder_norm', f'{transformer}.decoder.layernorm')
    yield 'query_feat.weight', (f'{transformer}.queries_features.weight',)
    yield 'query_embed.weight', (f'{transformer}.queries_embedder.weight',)
    yield 'level_embed.weight', (f'{transformer}.level_embed.weight',)
    yield from _module('class_embed', 'class_predictor')
    for layer in range(3):
        target = f'{transformer}.decoder.mask_predictor.mask_embedder.{layer}.0'
        yield from _module(f'mask_embed.layers.{layer}', target)
