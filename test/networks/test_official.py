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

"""Official checkpoints: configuration, weights, and that they give the official numbers."""

from __future__ import annotations

import importlib.util
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import yaml
from official_checkpoint import rebuild
from transformers import Mask2FormerForUniversalSegmentation

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import InputSize, load_network
from maskomaly_ros.networks.conversion import convert
from maskomaly_ros.networks.known import CITYSCAPES_CLASSES, KNOWN_CHECKPOINTS, find_known
from maskomaly_ros.networks.official_config import read_config
from maskomaly_ros.networks.official_weights import (
    parameter_names,
    transformers_config,
    transformers_weights,
)
from maskomaly_ros.networks.transformers_network import quiet_transformers
from maskomaly_ros.queries import bundled_queries

GOLDEN = Path(__file__).parents[1] / 'data' / 'networks'
MINI = ('mini_r50', 'mini_swin')
FORMS = ('pkl', 'pth', 'folder')


def write_pickle(path: Path, weights: dict[str, np.ndarray]) -> Path:
    content = {'model': weights, '__author__': 'third_party', 'matching_heuristics': True}
    path.write_bytes(pickle.dumps(content))
    return path


def has_official_code() -> bool:
    """Return whether detectron2 and mask2former are installed."""
    return all(importlib.util.find_spec(name) for name in ('detectron2', 'mask2former'))


@pytest.fixture(scope='session')
def official(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Return the reference models as .pkl, .pth and converted folder, with their configuration."""
    result = {}
    for name in MINI:
        weights = rebuild(GOLDEN / name)
        folder = tmp_path_factory.mktemp(name)
        shutil.copyfile(GOLDEN / name / 'config.yaml', folder / 'config.yaml')
        result[name, 'pkl'] = write_pickle(folder / 'model.pkl', weights)
        result[name, 'pth'] = folder / 'model.pth'
        tensors = {key: torch.from_numpy(value) for key, value in weights.items()}
        torch.save({'model': tensors, 'iteration': 90000}, result[name, 'pth'])
        result[name, 'folder'] = convert(result[name, 'pkl'], folder / 'converted')
    return result


def check_parity(checkpoint: Path, name: str, backend: str) -> None:
    """Compare predictions with what the official code answered for a reference model."""
    expected = np.load(GOLDEN / name / 'io_190x300.npz')
    frame = np.ascontiguousarray(expected['image_rgb_chw_uint8'].transpose(1, 2, 0))
    height, width = frame.shape[:2]
    network = load_network(
        checkpoint,
        backend=backend,
        device='cpu',
        input_size=InputSize(min(height, width), max(height, width)),
    )
    prediction = network.predict([frame])
    for ours, theirs in (
        (prediction.class_logits, expected['pred_logits']),
        (prediction.mask_logits[:, expected['queries']], expected['pred_masks']),
    ):
        assert ours.shape == theirs.shape
        difference = np.abs(ours.numpy() - theirs)
        assert difference.max() < 1e-3
        assert np.median(difference) < 1e-4
    assert prediction.frame_size == (height, width)
    # The official code resizes masks twice; along edges that can make a difference.
    assert (prediction.semantic_map()[0].numpy() == expected['sem_seg_argmax']).mean() > 0.999


class TestParity:
    @pytest.mark.parametrize('name', MINI)
    @pytest.mark.parametrize('form', FORMS)
    def test_numbers_of_the_official_code(
        self,
        official: dict[tuple[str, str], Path],
        name: str,
        form: str,
    ) -> None:
        check_parity(official[name, form], name, 'transformers')

    @pytest.mark.skipif(
        not has_official_code(), reason='the official code: detectron2 and mask2former'
    )
    @pytest.mark.parametrize('name', MINI)
    @pytest.mark.parametrize('form', ['pkl', 'pth'])
    def test_the_official_code_itself(
        self,
        official: dict[tuple[str, str], Path],
        name: str,
        form: str,
    ) -> None:
        check_parity(official[name, form], name, 'detectron2')

    @pytest.mark.parametrize('name', MINI)
    def test_all_forms_are_the_same_bit_for_bit(
        self, official: dict[tuple[str, str], Path], name: str
    ) -> None:
        frame = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
        networks = [
            load_network(official[name, form], device='cpu', input_size=InputSize(64, 128))
            for form in FORMS
        ]
        first, *others = (network.predict([frame]) for network in networks)
        for other in others:
            assert torch.equal(other.mask_logits, first.mask_logits)
            assert torch.equal(other.class_logits, first.class_logits)
        assert {network.class_names for network in networks} == {CITYSCAPES_CLASSES}

    def test_the_official_input_size(self, official: dict[tuple[str, str], Path]) -> None:
        for form in FORMS:
            network = load_network(official['mini_r50', form], device='cpu')
            assert network.input_size == InputSize(1024, 2048)

    def test_the_converted_folder_is_one_of_transformers(
        self, official: dict[tuple[str, str], Path]
    ) -> None:
        folder = official['mini_swin', 'folder']
        model = Mask2FormerForUniversalSegmentation.from_pretrained(folder)
        assert model.config.id2label[0] == 'road'
        assert model.config.maskomaly_source['file'] == 'model.pkl'
        assert len(model.config.maskomaly_source['sha256']) == 64

    @pytest.mark.parametrize('name', MINI)
    def test_names_are_all_those_of_the_official_code(self, name: str) -> None:
        folder = GOLDEN / name
        official = {
            key
            for key in json.loads((folder / 'official_keys.json').read_text())
            if not key.endswith(('relative_position_index', 'num_batches_tracked'))
        }
        config = transformers_config(read_config(folder / 'config.yaml'))
        assert dict(parameter_names(config)).keys() == official - {'criterion.empty_weight'}


MODEL: dict[str, Any] = {
    'META_ARCHITECTURE': 'MaskFormer',
    'PIXEL_MEAN': [123.675, 116.28, 103.53],
    'PIXEL_STD': [58.395, 57.12, 57.375],
    'SEM_SEG_HEAD': {
        'NAME': 'MaskFormerHead',
        'PIXEL_DECODER_NAME': 'MSDeformAttnPixelDecoder',
        'IN_FEATURES': ['res2', 'res3', 'res4', 'res5'],
        'NUM_CLASSES': 5,
        'CONVS_DIM': 32,
        'MASK_DIM': 16,
        'TRANSFORMER_ENC_LAYERS': 1,
    },
    'MASK_FORMER': {
        'TRANSFORMER_IN_FEATURE': 'multi_scale_pixel_decoder',
        'NUM_OBJECT_QUERIES': 7,
        'HIDDEN_DIM': 32,
        'DIM_FEEDFORWARD': 24,
        'NHEADS': 4,
        'DEC_LAYERS': 3,
    },
}
RESNETS = {
    'NORM': 'BN',
    'OUT_FEATURES': ['res2', 'res3', 'res4', 'res5'],
    'STRIDE_IN_1X1': False,
    'STEM_OUT_CHANNELS': 8,
    'WIDTH_PER_GROUP': 4,
    'RES2_OUT_CHANNELS': 16,
}
SWIN = {'EMBED_DIM': 16, 'DEPTHS': [1, 2, 3, 1], 'NUM_HEADS': [1, 2, 4, 8], 'WINDOW_SIZE': 7}
BIG_SWIN = {'EMBED_DIM': 8, 'DEPTHS': [2, 2, 18, 2], 'NUM_HEADS': [1, 2, 4, 8]}


def resnet(**changes: Any) -> dict[str, Any]:
    return {'RESNETS': {**RESNETS, **changes}}


def swin(**changes: Any) -> dict[str, Any]:
    return {'BACKBONE': {'NAME': 'D2SwinTransformer'}, 'SWIN': {**SWIN, **changes}}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        result[key] = merged(result.get(key, {}), value) if isinstance(value, dict) else value
    return result


def configuration(*changes: dict[str, Any]) -> dict[str, Any]:
    model = MODEL
    for change in changes:
        model = merged(model, change)
    return {'INPUT': {'FORMAT': 'RGB', 'MIN_SIZE_TEST': 64, 'MAX_SIZE_TEST': 96}, 'MODEL': model}


def write_yaml(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


VARIETY: dict[str, tuple[dict[str, Any], ...]] = {
    'R18': (resnet(DEPTH=18),),
    'R34': (resnet(DEPTH=34),),
    'R50 with frozen norms and another stride': (
        resnet(DEPTH=50, NORM='FrozenBN', STRIDE_IN_1X1=True),
    ),
    'R101': (resnet(DEPTH=101),),
    'R152, stem as wide as the first stage': (resnet(DEPTH=152, STEM_OUT_CHANNELS=16),),
    'Swin, window 7': (swin(),),
    'Swin, depths and window of B and L': (
        swin(**BIG_SWIN, WINDOW_SIZE=12, PRETRAIN_IMG_SIZE=384),
    ),
    'Swin, no bias, another MLP': (swin(QKV_BIAS=False, MLP_RATIO=2.0),),
    'head with projections': (resnet(), {'MASK_FORMER': {'HIDDEN_DIM': 64}}),
    'head with projections that nothing needs': (
        resnet(),
        {'MASK_FORMER': {'ENFORCE_INPUT_PROJ': True}},
    ),
    'deeper head': (
        swin(),
        {'SEM_SEG_HEAD': {'TRANSFORMER_ENC_LAYERS': 3}, 'MASK_FORMER': {'DEC_LAYERS': 10}},
    ),
    'head without layers': (
        swin(),
        {'SEM_SEG_HEAD': {'TRANSFORMER_ENC_LAYERS': 0}, 'MASK_FORMER': {'DEC_LAYERS': 1}},
    ),
}


class Official:
    """A random model, and its weights by their official names."""

    def __init__(self, folder: Path, *changes: dict[str, Any]) -> None:
        self.config = write_yaml(folder / 'config.yaml', configuration(*changes))
        torch.manual_seed(0)
        settings = transformers_config(read_config(self.config))
        with quiet_transformers():
            model = Mask2FormerForUniversalSegmentation(settings)
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.running_mean.normal_(0, 0.1)
            self.model = model.eval()
            self.model.save_pretrained(folder / 'model')
        from safetensors.torch import load_file

        ours = load_file(folder / 'model' / 'model.safetensors')
        self.weights = {
            name: torch.cat([ours[target] for target in targets]).numpy()
            if len(targets) > 1
            else ours[targets[0]].numpy()
            for name, targets in parameter_names(settings)
        }
        self.path = write_pickle(folder / 'model.pkl', self.weights)


@pytest.fixture(scope='module')
def small(tmp_path_factory: pytest.TempPathFactory) -> Official:
    return Official(tmp_path_factory.mktemp('small'), swin(DEPTHS=[1, 1, 1, 1]))


class TestVariety:
    @pytest.mark.parametrize('kind', VARIETY)
    def test_nothing_is_missing_or_left_over(self, tmp_path: Path, kind: str) -> None:
        if 'projections' in kind and int(transformers.__version__.split('.')[0]) < 5:
            pytest.skip('transformers 4 does not register these projections')
        official = Official(tmp_path, *VARIETY[kind])
        network = load_network(official.path, device='cpu')
        frame = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
        expected = load_network(tmp_path / 'model', device='cpu').predict([frame])
        prediction = network.predict([frame])
        assert torch.equal(prediction.mask_logits, expected.mask_logits)
        assert torch.equal(prediction.class_logits, expected.class_logits)
        assert network.num_queries == 7
        assert network.input_size == InputSize(64, 96)
        assert network.class_names == tuple(f'class {index}' for index in range(5))

    def test_both_spellings_of_the_query_features(self, small: Official, tmp_path: Path) -> None:
        old = {
            name.replace('predictor.query_feat', 'predictor.static_query'): value
            for name, value in small.weights.items()
        }
        assert old.keys() != small.weights.keys()
        self.assert_same(write_pickle(tmp_path / 'old.pkl', old), small)

    @pytest.mark.parametrize('prefix', ['', 'pixel_decoder.', 'pixel_decoder.pixel_decoder.'])
    def test_every_prefix_of_the_pixel_decoder(
        self, small: Official, tmp_path: Path, prefix: str
    ) -> None:
        renamed = {
            name.replace('.pixel_decoder.', f'.{prefix}', 1): value
            for name, value in small.weights.items()
        }
        self.assert_same(write_pickle(tmp_path / 'renamed.pkl', renamed), small)

    def test_what_nothing_reads_may_be_there(self, small: Official, tmp_path: Path) -> None:
        more = {
            **small.weights,
            'criterion.empty_weight': np.ones(6, np.float32),
            'pixel_mean': np.ones((3, 1, 1), np.float32),
            'backbone.layers.0.blocks.0.attn.relative_position_index': np.zeros((49, 49), int),
        }
        self.assert_same(write_pickle(tmp_path / 'more.pkl', more), small)

    def test_a_model_trained_on_several_devices(self, small: Official, tmp_path: Path) -> None:
        renamed = {f'module.{name}': value for name, value in small.weights.items()}
        self.assert_same(write_pickle(tmp_path / 'renamed.pkl', renamed), small)

    def test_half_precision(self, small: Official, tmp_path: Path) -> None:
        halves = {name: value.astype(np.float16) for name, value in small.weights.items()}
        path = write_pickle(tmp_path / 'half.pkl', halves)
        network = load_network(path, device='cpu', config=small.config)
        frame = np.zeros((64, 96, 3), np.uint8)
        assert network.predict([frame]).mask_logits.dtype == torch.float32

    @staticmethod
    def assert_same(path: Path, official: Official) -> None:
        loaded = load_network(path, device='cpu', config=official.config)
        frame = np.full((64, 96, 3), 77, np.uint8)
        expected = load_network(official.path, device='cpu').predict([frame])
        assert torch.equal(loaded.predict([frame]).mask_logits, expected.mask_logits)


class TestWrongWeights:
    def test_missing_and_left_over_are_listed(self, small: Official, tmp_path: Path) -> None:
        weights = dict(small.weights)
        gone = 'sem_seg_head.predictor.class_embed.bias', 'backbone.norm2.weight'
        for name in gone:
            del weights[name]
        weights['sem_seg_head.predictor.surplus'] = np.zeros(3)
        path = write_pickle(tmp_path / 'model.pkl', weights)
        with pytest.raises(MaskomalyError, match='do not fit') as raised:
            load_network(path, device='cpu', config=small.config)
        missing, left_over = str(raised.value).split('left over')
        assert all(name in missing for name in gone)
        assert 'sem_seg_head.predictor.surplus' in left_over
        assert 'norm1' not in missing

    def test_shapes_are_listed(self, small: Official, tmp_path: Path) -> None:
        weights = dict(small.weights)
        for name in ('query_feat', 'query_embed'):
            key = f'sem_seg_head.predictor.{name}.weight'
            weights[key] = np.concatenate([weights[key]] * 2)
        path = write_pickle(tmp_path / 'model.pkl', weights)
        with pytest.raises(MaskomalyError, match=r'of another shape.*queries_e.*queries_f'):
            load_network(path, device='cpu', config=small.config)

    def test_a_product_that_is_no_query_key_value(self, small: Official) -> None:
        config = transformers_config(read_config(small.config))
        weights = {name: torch.from_numpy(value) for name, value in small.weights.items()}
        name = 'backbone.layers.0.blocks.0.attn.qkv.weight'
        weights[name] = torch.zeros(49, 16)
        with pytest.raises(MaskomalyError, match=r'qkv.*\[49, 16\]'):
            transformers_weights(weights, config)

    def test_one_weight_under_two_names(self, small: Official) -> None:
        config = transformers_config(read_config(small.config))
        weights = {name: torch.from_numpy(value) for name, value in small.weights.items()}
        weights['sem_seg_head.predictor.static_query.weight'] = torch.zeros(7, 32)
        with pytest.raises(MaskomalyError, match=r'query_feat\.weight twice'):
            transformers_weights(weights, config)

    def test_weights_of_another_network(self, small: Official, tmp_path: Path) -> None:
        config = write_yaml(tmp_path / 'config.yaml', configuration(resnet()))
        with pytest.raises(MaskomalyError, match=r'missing \[.*backbone\.res2\.0\.conv1'):
            load_network(small.path, device='cpu', config=config)


class TestConfiguration:
    def test_bases(self, tmp_path: Path) -> None:
        (tmp_path / 'swin').mkdir()
        base = configuration(resnet(DEPTH=50))
        write_yaml(tmp_path / 'Base.yaml', base)
        middle = {'_BASE_': 'Base.yaml', 'MODEL': {'MASK_FORMER': {'DEC_LAYERS': 4}}}
        write_yaml(tmp_path / 'r50.yaml', middle)
        top = {'_BASE_': '../r50.yaml', 'MODEL': swin(DEPTHS=[1, 1, 5, 1])}
        config = transformers_config(read_config(write_yaml(tmp_path / 'swin' / 'swin.yaml', top)))
        assert config.backbone_config.depths == [1, 1, 5, 1]
        assert config.decoder_layers == 4
        assert config.num_queries == 7

    def test_a_later_base_comes_first(self, tmp_path: Path) -> None:
        write_yaml(tmp_path / 'a.yaml', configuration(resnet(DEPTH=50)))
        write_yaml(tmp_path / 'b.yaml', {'MODEL': {'RESNETS': {'DEPTH': 101}}})
        top = write_yaml(tmp_path / 'top.yaml', {'_BASE_': ['a.yaml', 'b.yaml']})
        assert read_config(top)['MODEL.RESNETS.DEPTH'] == 101

    def test_tags_and_literals_of_published_files(self, tmp_path: Path) -> None:
        text = yaml.safe_dump(configuration(swin()))
        marker = tmp_path / 'has_run'
        text += (
            'SOLVER:\n'
            f'  STEPS: !!python/object/apply:os.system ["touch {marker}"]\n'
            '  SIZES: !!python/object/apply:eval ["[int(x * 0.1 * 1024) for x in range(5, 21)]"]\n'
            f'  X: !!python/object/new:os.system ["touch {marker}"]\n'
            '  Y: !!python/name:os.system\n'
            'DATASETS:\n  TRAIN: ("cityscapes_fine_sem_seg_train",)\n'
        )
        text = text.replace('DEPTHS:', 'DEPTHS: !!python/tuple').replace(
            'NUM_HEADS:\n    - 1\n    - 2\n    - 4\n    - 8', 'NUM_HEADS: (2, 2, 2, 2)'
        )
        path = tmp_path / 'config.yaml'
        path.write_text(text)
        config = read_config(path)
        assert config['MODEL.SWIN.DEPTHS'] == (1, 2, 3, 1)
        assert config['MODEL.SWIN.NUM_HEADS'] == (2, 2, 2, 2)
        assert config['DATASETS.TRAIN'] == ('cityscapes_fine_sem_seg_train',)
        assert not marker.exists()

    def test_a_loop(self, tmp_path: Path) -> None:
        write_yaml(tmp_path / 'a.yaml', {'_BASE_': 'b.yaml'})
        write_yaml(tmp_path / 'b.yaml', {'_BASE_': './a.yaml'})
        with pytest.raises(MaskomalyError, match='based on itself'):
            read_config(tmp_path / 'a.yaml')

    def test_too_many_bases(self, tmp_path: Path) -> None:
        for index in range(40):
            write_yaml(tmp_path / f'{index}.yaml', {'_BASE_': f'{index + 1}.yaml'})
        with pytest.raises(MaskomalyError, match='more than 16 files'):
            read_config(tmp_path / '0.yaml')

    def test_bases_that_multiply(self, tmp_path: Path) -> None:
        for index in range(12):
            below = f'{index + 1}.yaml'
            write_yaml(tmp_path / f'{index}.yaml', {'_BASE_': [below] * 9})
        write_yaml(tmp_path / '12.yaml', configuration(resnet()))
        with pytest.raises(MaskomalyError, match='more than 16 files'):
            read_config(tmp_path / '0.yaml')

    def test_aliases_that_multiply(self, tmp_path: Path) -> None:
        lines = ['a0: &a0 {MODEL: {x: 1}}']
        lines += [f'a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]' for i in range(1, 60)]
        path = tmp_path / 'config.yaml'
        path.write_text('\n'.join([*lines, 'MODEL: *a59']))
        with pytest.raises(MaskomalyError, match='MODEL is'):
            read_config(path)

    def test_a_missing_base(self, tmp_path: Path) -> None:
        path = write_yaml(tmp_path / 'a.yaml', {'_BASE_': 'Base.yaml'})
        with pytest.raises(
            MaskomalyError, match=r'Base\.yaml, which .*a\.yaml is based on; fetch'
        ):
            read_config(path)

    @pytest.mark.parametrize(
        'text',
        ['[1, 2', 'text', '- 1', '', '\x00', 'a: !!python/tuple 3', '_BASE_: 3', '[' * 5000],
    )
    def test_no_configuration(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / 'config.yaml'
        path.write_text(text)
        with pytest.raises(MaskomalyError, match='config'):
            read_config(path)

    @pytest.mark.parametrize('section', [None, 'text', [1]])
    def test_a_section_that_is_none(self, tmp_path: Path, section: object) -> None:
        write_yaml(tmp_path / 'base.yaml', configuration(resnet(DEPTH=101)))
        top = {'_BASE_': 'base.yaml', 'MODEL': {'RESNETS': section}}
        with pytest.raises(MaskomalyError, match=r'MODEL\.RESNETS is .*must be a mapping'):
            read_config(write_yaml(tmp_path / 'top.yaml', top))

    def test_a_code_for_a_switch(self, tmp_path: Path) -> None:
        text = yaml.safe_dump(configuration(resnet()))
        code = 'STRIDE_IN_1X1: !!python/object/apply:eval ["True"]'
        path = tmp_path / 'config.yaml'
        path.write_text(text.replace('STRIDE_IN_1X1: false', code))
        with pytest.raises(MaskomalyError, match='STRIDE_IN_1X1 is None'):
            transformers_config(read_config(path))

    def test_a_base_in_a_home_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv('HOME', str(tmp_path / 'home'))
        (tmp_path / 'home').mkdir()
        write_yaml(tmp_path / 'home' / 'base.yaml', configuration(resnet(DEPTH=101)))
        top = write_yaml(tmp_path / 'top.yaml', {'_BASE_': '~/base.yaml'})
        assert read_config(top)['MODEL.RESNETS.DEPTH'] == 101
        top = write_yaml(tmp_path / 'top.yaml', {'_BASE_': '~nobody_at_all/base.yaml'})
        with pytest.raises(MaskomalyError, match='~nobody_at_all'):
            read_config(top)

    def test_a_huge_file(self, tmp_path: Path) -> None:
        path = tmp_path / 'config.yaml'
        path.write_text('# ' + 'x' * (1 << 21))
        with pytest.raises(MaskomalyError, match='larger than'):
            read_config(path)

    @pytest.mark.parametrize(
        ('name', 'changes'),
        [
            ('META_ARCHITECTURE', {'META_ARCHITECTURE': 'PanopticFPN'}),
            ('PIXEL_DECODER_NAME', {'SEM_SEG_HEAD': {'PIXEL_DECODER_NAME': 'BasePixelDecoder'}}),
            ('PIXEL_MEAN', {'PIXEL_MEAN': [0.0, 0.0, 0.0]}),
            ('BACKBONE.NAME', {'BACKBONE': {'NAME': 'D2ConvNeXt'}}),
            ('RESNETS.DEPTH', resnet(DEPTH=20)),
            ('RESNETS.NORM', resnet(NORM='GN')),
            ('RES5_DILATION', resnet(RES5_DILATION=2)),
            ('NUM_GROUPS', resnet(NUM_GROUPS=32)),
            ('WIDTH_PER_GROUP', resnet(WIDTH_PER_GROUP=8)),
            ('SWIN.APE', swin(APE=True)),
            ('SWIN.PATCH_NORM', swin(PATCH_NORM=False)),
            ('SWIN.DEPTHS', swin(DEPTHS=[2, 2, 6])),
            ('SWIN.DEPTHS', swin(DEPTHS='many')),
            ('SWIN.EMBED_DIM', swin(EMBED_DIM=1 << 40)),
            ('SWIN.NUM_HEADS', swin(NUM_HEADS=[3, 6, 12, 24])),
            ('STRIDE_IN_1X1', resnet(STRIDE_IN_1X1='sometimes')),
            ('STRIDE_IN_1X1', resnet(STRIDE_IN_1X1=1)),
            ('QKV_BIAS', swin(QKV_BIAS=None)),
            ('ENFORCE_INPUT_PROJ', {'MASK_FORMER': {'ENFORCE_INPUT_PROJ': 'no'}}),
            ('PRE_NORM', {'MASK_FORMER': {'PRE_NORM': True}}),
            ('NUM_OBJECT_QUERIES', {'MASK_FORMER': {'NUM_OBJECT_QUERIES': 0}}),
            ('NUM_OBJECT_QUERIES', {'MASK_FORMER': {'NUM_OBJECT_QUERIES': 'all'}}),
            ('HIDDEN_DIM', {'MASK_FORMER': {'HIDDEN_DIM': 30}}),
            ('CONVS_DIM', {'SEM_SEG_HEAD': {'CONVS_DIM': 48}}),
        ],
    )
    def test_what_cannot_be_built_is_named(
        self, tmp_path: Path, name: str, changes: dict[str, Any]
    ) -> None:
        first = resnet() if 'BACKBONE' not in changes else {}
        path = write_yaml(tmp_path / 'config.yaml', configuration(first, changes))
        with pytest.raises(MaskomalyError, match=rf'{name} is .*, which is not supported'):
            transformers_config(read_config(path))


class TestFindingTheConfiguration:
    def test_given(self, small: Official, tmp_path: Path) -> None:
        path = shutil.copyfile(small.path, tmp_path / 'a.pkl')
        assert load_network(path, device='cpu', config=small.config).name == 'a'

    @pytest.mark.parametrize('name', ['a.yaml', 'config.yaml', 'whatever.yaml'])
    def test_beside_the_file(self, small: Official, tmp_path: Path, name: str) -> None:
        path = shutil.copyfile(small.path, tmp_path / 'a.pkl')
        shutil.copyfile(small.config, tmp_path / name)
        assert load_network(path, device='cpu').num_queries == 7

    def test_its_own_name_comes_first(self, small: Official, tmp_path: Path) -> None:
        path = shutil.copyfile(small.path, tmp_path / 'a.pkl')
        write_yaml(tmp_path / 'config.yaml', configuration(resnet()))
        shutil.copyfile(small.config, tmp_path / 'a.yaml')
        assert load_network(path, device='cpu').num_queries == 7

    @pytest.mark.parametrize(('count', 'found'), [(0, 'none'), (2, '2 of them')])
    def test_none_or_too_many(
        self, small: Official, tmp_path: Path, count: int, found: str
    ) -> None:
        path = shutil.copyfile(small.path, tmp_path / 'a.pkl')
        for index in range(count):
            shutil.copyfile(small.config, tmp_path / f'{index}.yaml')
        with pytest.raises(MaskomalyError, match=rf'needs its yaml.*a\.yaml.*\({found} found'):
            load_network(path, device='cpu')

    def test_a_folder_needs_none(self, small: Official, tiny_checkpoint: Path) -> None:
        with pytest.raises(MaskomalyError, match='brings its own configuration'):
            load_network(tiny_checkpoint, device='cpu', config=small.config)


class TestConvert:
    def test_the_name_goes_along(self, small: Official, tmp_path: Path) -> None:
        path = shutil.copyfile(small.path, tmp_path / 'model_final_17c1ee.pkl')
        folder = convert(path, tmp_path / 'folder', small.config)
        assert load_network(folder, device='cpu').name == 'swin-l-cityscapes'

    def test_existing_files_stay(self, small: Official, tmp_path: Path) -> None:
        (tmp_path / 'mine').write_text('text')
        with pytest.raises(MaskomalyError, match='exists already'):
            convert(small.path, tmp_path)

    def test_a_folder_that_cannot_be_written(self, small: Official, tmp_path: Path) -> None:
        (tmp_path / 'file').write_text('text')
        with pytest.raises(MaskomalyError, match='cannot write checkpoint'):
            convert(small.path, tmp_path / 'file' / 'folder')


class TestKnown:
    def test_all_of_them(self) -> None:
        assert list(KNOWN_CHECKPOINTS) == [
            f'{name}-cityscapes'
            for name in ('r50', 'r101', 'swin-t', 'swin-s', 'swin-b', 'swin-l', 'eomt-l')
        ]

    @pytest.mark.parametrize('known', KNOWN_CHECKPOINTS.values(), ids=lambda known: known.name)
    def test_every_name_leads_to_it(self, known: Any) -> None:
        names = [known.name, known.file_name, Path(known.file_name).stem]
        if known.hub_id:
            names += [known.hub_id, known.hub_id.split('/')[1]]
        assert {find_known(name) for name in names} == {known}

    @pytest.mark.parametrize(
        'known',
        [known for known in KNOWN_CHECKPOINTS.values() if not known.is_folder],
        ids=lambda known: known.name,
    )
    def test_built_in_configuration(self, known: Any) -> None:
        config = transformers_config(known.config())
        assert config.num_queries == 100
        assert config.num_labels == 19
        assert tuple(config.id2label.values()) == CITYSCAPES_CLASSES
        assert config.maskomaly_input_size == [1024, 2048]
        assert (config.encoder_layers, config.decoder_layers) == (6, 10)
        backbone = config.backbone_config
        blocks = {'R50': 6, 'R101': 23, 'Swin-T': 6}.get(known.backbone, 18)
        assert list(backbone.depths)[2] == blocks
        if 'Swin' in known.backbone:
            large = 'IN21k' in known.backbone
            assert backbone.window_size == (12 if large else 7)
            assert backbone.embed_dim // backbone.num_heads[0] == 32
        else:
            assert not backbone.downsample_in_bottleneck

    def test_one_queries_file_for_every_name(self) -> None:
        known = KNOWN_CHECKPOINTS['swin-l-cityscapes']
        assert known.hub_id
        names = known.name, known.hub_id.split('/')[1], Path(known.file_name).stem
        for name in names:
            queries = bundled_queries(name)
            assert queries is not None
            assert queries.anomalous_queries == (49, 31, 83, 32)
            assert queries.ground_queries == (19, 24)

    def test_nothing_else_is_known(self) -> None:
        assert find_known('model_final') is None


class TestDetectron2:
    def test_takes_official_files_only(self, tiny_checkpoint: Path) -> None:
        with pytest.raises(MaskomalyError, match='takes official'):
            load_network(tiny_checkpoint, backend='detectron2', device='cpu')

    @pytest.mark.skipif(has_official_code(), reason='detectron2 and mask2former are installed')
    def test_says_what_is_missing(self, small: Official) -> None:
        with pytest.raises(MaskomalyError, match=r'needs (detectron2|mask2former), which'):
            load_network(small.path, backend='detectron2', device='cpu')

    def test_mixed_precision_is_for_cuda(self, small: Official) -> None:
        with pytest.raises(MaskomalyError, match='float32 on the CPU, not in bfloat16'):
            load_network(small.path, backend='detectron2', device='cpu', precision='bfloat16')
