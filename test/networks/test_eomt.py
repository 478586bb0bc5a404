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

"""EoMT, which sees windows: equal to the processor and the model of transformers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import image_transforms

from maskomaly_ros.detector import Detector, DetectorConfig
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import InputSize, load_network
from maskomaly_ros.networks.architectures import ARCHITECTURES
from maskomaly_ros.networks.conversion import convert
from maskomaly_ros.networks.preprocessing import LONGEST_SIDE, PIXEL_STD, InputForm
from maskomaly_ros.networks.transformers_network import LogitsOnly, quiet_transformers
from maskomaly_ros.scoring import ScoringParameters

SIDE, QUERIES = 64, 7
KINDS = ('eomt', 'eomt_dinov3')
SIZES = [(64, 128), (97, 131), (131, 97), (33, 150), (720, 1280), (50, 50), (61, 64), (20, 21)]
GREY_LEVEL = 1.01 / min(PIXEL_STD)  # resizing rounds to whole ones, and may do so the other way
CPU = torch.device('cpu')


def processor(**options: Any) -> Any:
    """Return the processor of transformers that needs no torchvision."""
    found = getattr(transformers, 'EomtImageProcessorPil', None)
    if found is not None:
        return found(**options)
    # In transformers 4 this one rounds where the fast one, and all later ones, cut off fractions.
    from transformers.models.eomt import image_processing_eomt as module

    module.get_size_with_aspect_ratio = image_transforms.get_size_with_aspect_ratio
    return module.EomtImageProcessor(**options)


def windows_of(image: np.ndarray) -> tuple[torch.Tensor, list[list[int]]]:
    """Return the windows of a frame, and offsets, as the processor of transformers makes them."""
    done = processor(do_split_image=True, size={'shortest_edge': SIDE, 'longest_edge': None})(
        images=Image.fromarray(image), return_tensors='pt'
    )
    return done['pixel_values'], [offset.tolist() for offset in done['patch_offsets']]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return smooth noise, as resizing treats white noise unlike any picture."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def small_model(kind: str, masked: float = 0.0) -> Any:
    """Return a small model with random weights that are large enough to make masks differ."""
    architecture = ARCHITECTURES[kind]
    try:
        config_class = architecture.config_class()
    except MaskomalyError as error:
        pytest.skip(str(error))
    width = {'mlp_ratio': 2} if kind == 'eomt' else {'intermediate_size': 64}
    names = dict(enumerate(('road', 'sky', 'car')))
    config = config_class(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=16,
        num_blocks=2,
        num_queries=QUERIES,
        num_register_tokens=2,
        id2label=names,
        label2id={name: index for index, name in names.items()},
        **width,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = architecture.model_class()(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(1.5)
            model.attn_mask_probs.fill_(masked)
    return model


@pytest.fixture(scope='module', params=KINDS)
def model(request: pytest.FixtureRequest) -> Any:
    """Return a small model of each kind."""
    return small_model(request.param)


@pytest.fixture(scope='module')
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return it as a checkpoint, without the file of its processor."""
    path = tmp_path_factory.mktemp('eomt') / 'tiny-eomt'
    with quiet_transformers():
        model.save_pretrained(path)
    return path


@pytest.mark.parametrize('size', SIZES)
def test_windows_are_those_of_the_processor(size: tuple[int, int]) -> None:
    image = picture(*size)
    expected, offsets = windows_of(image)
    prepared = InputForm(InputSize(SIDE, LONGEST_SIDE), SIDE).prepare([image], CPU)
    along = 0 if size[0] > size[1] else 1
    assert [window[along] for window in prepared.windows] == [start for _, start, _ in offsets]
    assert prepared.pixels.shape == expected.shape
    difference = (prepared.pixels - expected).abs()
    assert difference.max() < GREY_LEVEL
    assert difference.mean() < 0.02 * GREY_LEVEL


@pytest.mark.parametrize('size', [(48, 64), (97, 131), (131, 97), (33, 150), (7, 200)])
def test_frames_that_do_not_fill_the_square_get_black_as_the_processor_gives(
    size: tuple[int, int],
) -> None:
    image = picture(*size)
    done = processor(do_pad=True, size={'shortest_edge': SIDE, 'longest_edge': SIDE})(
        images=Image.fromarray(image), return_tensors='pt'
    )
    prepared = InputForm(InputSize(SIDE, SIDE), SIDE).prepare([image], CPU)
    assert prepared.windows == ((0, 0),)
    assert prepared.pixels.shape == done['pixel_values'].shape == (1, 3, SIDE, SIDE)
    difference = (prepared.pixels - done['pixel_values']).abs()
    assert difference.max() < GREY_LEVEL
    assert difference.mean() < 0.02 * GREY_LEVEL


@pytest.mark.parametrize('size', SIZES)
def test_predictions_are_those_of_the_model(
    model: Any, folder: Path, size: tuple[int, int]
) -> None:
    images = [picture(*size, seed) for seed in (0, 1)]
    network = load_network(folder, device='cpu')
    prediction = network.predict(images)
    pixels = InputForm(InputSize(SIDE, LONGEST_SIDE), SIDE).prepare(images, CPU).pixels
    with torch.no_grad():
        output = model(pixel_values=pixels)
    masks, classes = output.masks_queries_logits, output.class_queries_logits
    torch.testing.assert_close(prediction.mask_logits, masks, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(prediction.class_logits, classes, rtol=1e-4, atol=1e-4)
    assert prediction.frame_size == size
    assert len(prediction.windows) * 2 == len(pixels)


@pytest.mark.parametrize('size', SIZES)
def test_classes_are_those_of_the_processor(
    model: Any, folder: Path, size: tuple[int, int]
) -> None:
    image = picture(*size)
    pixels, offsets = windows_of(image)
    with torch.no_grad():
        output = model(pixel_values=pixels, patch_offsets=offsets)
    output.patch_offsets = offsets
    (expected,) = processor(do_split_image=True).post_process_semantic_segmentation(
        output, [size], size={'shortest_edge': SIDE, 'longest_edge': None}
    )
    actual = load_network(folder, device='cpu').predict([image]).semantic_map()[0]
    # The processor resizes masks to the windows, and their sum to the frame; we resize once.
    assert (actual == expected).float().mean() > 0.97


def test_all_windows_of_all_cameras_share_a_batch(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    forward = LogitsOnly.forward

    def watched(self: LogitsOnly, pixels: torch.Tensor) -> Any:
        seen.append(len(pixels))
        return forward(self, pixels)

    monkeypatch.setattr(LogitsOnly, 'forward', watched)
    detector = Detector(
        load_network(folder, device='cpu'),
        DetectorConfig(ScoringParameters(anomalous_queries=(1,), mask_threshold=0)),
    )
    images = [picture(72, 128, seed) for seed in range(3)]
    together = detector.detect(images)
    assert seen == [6]
    for image, detection in zip(images, together, strict=True):
        assert detection.score.shape == (72, 128)
        alone = detector.detect([image])[0]
        np.testing.assert_allclose(detection.score, alone.score, atol=1e-4)


def test_masked_attention_is_kept_where_the_checkpoint_has_it(tmp_path: Path) -> None:
    model = small_model('eomt', masked=1.0)
    with quiet_transformers():
        model.save_pretrained(tmp_path / 'x')
    image = picture(64, 64)
    pixels = InputForm(InputSize(SIDE, LONGEST_SIDE), SIDE).prepare([image], CPU).pixels
    with torch.no_grad():
        masked = model(pixel_values=pixels).masks_queries_logits
        model.attn_mask_probs.zero_()
        free = model(pixel_values=pixels).masks_queries_logits
    actual = load_network(tmp_path / 'x', device='cpu').predict([image]).mask_logits
    assert (masked - free).abs().max() > 1e-3
    torch.testing.assert_close(actual, masked, rtol=1e-4, atol=1e-4)


def test_a_checkpoint_that_throws_dice_is_refused(tmp_path: Path) -> None:
    with quiet_transformers():
        small_model('eomt', masked=0.5).save_pretrained(tmp_path / 'x')
    with pytest.raises(MaskomalyError, match='saved in the middle of training'):
        load_network(tmp_path / 'x', device='cpu')


class TestInputSize:
    def with_processor(self, folder: Path, target: Path, **content: Any) -> Path:
        """Return a copy of a checkpoint with a preprocessor_config.json."""
        copy = shutil.copytree(folder, target / 'copy')
        (copy / 'preprocessor_config.json').write_text(json.dumps(content))
        return copy

    @pytest.mark.parametrize(
        ('content', 'longest'),
        [
            ({'do_split_image': True, 'size': {'shortest_edge': 64, 'longest_edge': None}}, 16384),
            ({'do_split_image': True, 'size': {'shortest_edge': 64}}, 16384),
            ({'do_pad': True, 'size': {'shortest_edge': 64, 'longest_edge': 64}}, 64),
        ],
    )
    def test_is_that_of_the_processor(
        self, folder: Path, tmp_path: Path, content: dict[str, Any], longest: int
    ) -> None:
        network = load_network(self.with_processor(folder, tmp_path, **content), device='cpu')
        assert network.input_size == InputSize(64, longest)
        prediction = network.predict([picture(40, 128)])
        assert len(prediction.windows) == (1 if longest == 64 else 4)

    @pytest.mark.parametrize(
        ('content', 'message'),
        [
            ({'size': {'shortest_edge': 32, 'longest_edge': 32}}, 'sees squares of 64'),
            ({'size': {'shortest_edge': 64, 'longest_edge': 128}}, 'neither splits frames'),
            ({'size': 'large'}, 'cannot be read'),
            ({'do_split_image': True, 'size': {'longest_edge': 'x'}}, 'sees squares of 64'),
        ],
    )
    def test_of_a_processor_that_cannot_be(
        self, folder: Path, tmp_path: Path, content: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(MaskomalyError, match=message):
            load_network(self.with_processor(folder, tmp_path, **content), device='cpu')

    def test_can_limit_the_windows_but_not_the_square(self, folder: Path) -> None:
        limited = load_network(folder, device='cpu', input_size=InputSize(64, 128))
        prediction = limited.predict([picture(30, 120)])
        assert len(prediction.windows) == 2
        assert prediction.extent == (8.0, 32.0)
        assert prediction.semantic_map().shape == (1, 30, 120)
        with pytest.raises(MaskomalyError, match=r'32x64 is impossible.*squares of 64'):
            load_network(folder, device='cpu', input_size=InputSize(32, 64))

    def test_stays_when_converted(self, folder: Path, tmp_path: Path) -> None:
        content = {'do_pad': True, 'size': {'shortest_edge': 64, 'longest_edge': 64}}
        source = self.with_processor(folder, tmp_path, **content)
        converted = convert(source, tmp_path / 'converted')
        image = picture(40, 128)
        expected = load_network(source, device='cpu').predict([image])
        actual = load_network(converted, device='cpu').predict([image])
        assert actual.windows == expected.windows
        assert torch.equal(actual.mask_logits, expected.mask_logits)


class TestArchitectures:
    def test_maskformer_loads_too(self, tmp_path: Path) -> None:
        from transformers import (
            DetrConfig,
            MaskFormerConfig,
            MaskFormerForInstanceSegmentation,
            SwinConfig,
        )

        backbone = SwinConfig(
            image_size=64,
            embed_dim=16,
            depths=[1, 1, 1, 1],
            num_heads=[1, 2, 2, 2],
            window_size=4,
            out_features=['stage1', 'stage2', 'stage3', 'stage4'],
        )
        decoder = DetrConfig(
            d_model=32,
            encoder_layers=1,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            num_queries=5,
        )
        config = MaskFormerConfig(
            backbone_config=backbone.to_dict(),
            decoder_config=decoder.to_dict(),
            fpn_feature_size=32,
            mask_feature_size=32,
            id2label={0: 'road', 1: 'sky'},
            label2id={'road': 0, 'sky': 1},
        )
        with quiet_transformers(), torch.random.fork_rng():
            torch.manual_seed(0)
            model = MaskFormerForInstanceSegmentation(config).eval()
            model.save_pretrained(tmp_path / 'x')
        network = load_network(tmp_path / 'x', device='cpu', input_size=InputSize(64, 128))
        image = picture(64, 96)
        prediction = network.predict([image])
        assert network.num_queries == 5
        pixels = network.input_form.prepare([image], CPU).pixels
        with torch.no_grad():
            expected = model(pixel_values=pixels)
        torch.testing.assert_close(
            prediction.mask_logits, expected.masks_queries_logits, rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(
            prediction.class_logits, expected.class_queries_logits, rtol=1e-4, atol=1e-4
        )

    @pytest.mark.parametrize('model_type', ['oneformer', 'segformer', 'x' * 5000, 3, None])
    def test_unknown_ones_are_refused_by_name(
        self, tiny_checkpoint: Path, tmp_path: Path, model_type: Any
    ) -> None:
        copy = shutil.copytree(tiny_checkpoint, tmp_path / 'copy')
        content = json.loads((copy / 'config.json').read_text())
        (copy / 'config.json').write_text(json.dumps({**content, 'model_type': model_type}))
        with pytest.raises(MaskomalyError) as raised:
            load_network(copy, device='cpu')
        assert repr(model_type)[:40] in str(raised.value)
        assert len(str(raised.value)) < 500
        for architecture in ARCHITECTURES.values():
            assert architecture.name in str(raised.value)

    def test_one_that_the_installed_transformers_lacks(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model_type = json.loads((folder / 'config.json').read_text())['model_type']
        later = replace(ARCHITECTURES[model_type], model_name='NotYetThere')
        monkeypatch.setitem(ARCHITECTURES, model_type, later)
        with pytest.raises(MaskomalyError, match=r'not part of transformers .*newer'):
            load_network(folder, device='cpu')


class TestNames:
    def test_the_published_one_goes_by_short_name_and_hub_id(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache = tmp_path / 'checkpoints'
        monkeypatch.setenv('MASKOMALY_CHECKPOINTS', str(cache))
        with quiet_transformers():
            small_model('eomt').save_pretrained(cache / 'cityscapes_semantic_eomt_large_1024')
        assert load_network('eomt-l-cityscapes', device='cpu').name == 'eomt-l-cityscapes'

    def test_where_it_is_not_here_the_message_says_which_files_to_fetch(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv('MASKOMALY_CHECKPOINTS', str(tmp_path))
        monkeypatch.setenv('HF_HOME', str(tmp_path))
        with pytest.raises(MaskomalyError) as raised:
            load_network('eomt-l-cityscapes', device='cpu')
        for part in (
            'preprocessor_config.json',
            'model.safetensors',
            'tue-mps/cityscapes_semantic_eomt_large_1024',
            str(tmp_path / 'cityscapes_semantic_eomt_large_1024'),
        ):
            assert part in str(raised.value)


class TestBackends:
    def test_compiled(self, folder: Path) -> None:
        from maskomaly_ros.networks.compilation import check_compiler

        try:
            check_compiler(CPU)
        except MaskomalyError as error:
            pytest.skip(str(error))
        image = picture(64, 128)
        expected = load_network(folder, device='cpu').predict([image])
        actual = load_network(folder, device='cpu', compile=True).predict([image])
        torch.testing.assert_close(actual.mask_logits, expected.mask_logits, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize('precision', ['float16', 'bfloat16'])
    def test_mixed_precision_stays_close(self, folder: Path, precision: str) -> None:
        image = picture(64, 128)
        exact = load_network(folder, device='cpu').predict([image])
        mixed = load_network(folder, device='cpu', precision=precision).predict([image])
        assert mixed.mask_logits.dtype == torch.float32
        difference = (mixed.mask_logits.sigmoid() - exact.mask_logits.sigmoid()).abs()
        assert 0 < difference.mean() < 0.05

    @pytest.mark.parametrize('backend', ['onnxruntime', 'openvino'])
    def test_exported_it_sees_the_same_windows(
        self, folder: Path, tmp_path: Path, backend: str
    ) -> None:
        for package in ('onnx', 'onnxscript', backend):
            pytest.importorskip(package, reason=f'{package} is not installed')
        from maskomaly_ros.networks.agreement import compare
        from maskomaly_ros.networks.onnx_export import export

        exported = export(folder, tmp_path / 'x.onnx', frame_size=(72, 128), runtime=backend)
        assert exported.shape == (2, SIDE, SIDE)
        ours = load_network(tmp_path / 'x.onnx', backend=backend, device='cpu')
        torch_network = load_network(folder, device='cpu')
        assert ours.input_size == torch_network.input_size
        for images in ([picture(72, 128)], [picture(50, 200, seed) for seed in range(2)]):
            actual, expected = ours.predict(images), torch_network.predict(images)
            assert actual.windows == expected.windows
            assert not compare(actual, expected).violations()

    def test_it_is_exported_when_first_needed(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for package in ('onnx', 'onnxscript', 'onnxruntime'):
            pytest.importorskip(package, reason=f'{package} is not installed')
        from maskomaly_ros.networks.agreement import compare

        monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
        network = load_network(folder, backend='onnxruntime', device='cpu')
        network.warm_up()
        image = picture(72, 128)
        actual = network.predict([image])
        assert not compare(
            actual, load_network(folder, device='cpu').predict([image])
        ).violations()
        assert len(list(tmp_path.glob('maskomaly_ros/exported/*.onnx'))) == 1
