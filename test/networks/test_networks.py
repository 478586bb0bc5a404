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

"""Networks: choice of checkpoint and device, preprocessing, prediction."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import Mask2FormerForUniversalSegmentation

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import InputSize, load_network
from maskomaly_ros.networks.devices import select_device
from maskomaly_ros.networks.prediction import MaskPrediction, resize_maps
from maskomaly_ros.networks.preprocessing import PIXEL_MEAN, PIXEL_STD, preprocess

CPU = torch.device('cpu')


def random_frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return smooth noise, as resizing treats white noise unlike any picture."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


class TestInputSize:
    @pytest.mark.parametrize(
        ('frame', 'expected'),
        [
            ((1024, 2048), (1024, 2048)),  # Cityscapes
            ((720, 1280), (1024, 1820)),
            ((1080, 1920), (1024, 1820)),
            ((480, 640), (1024, 1365)),
            ((500, 2000), (512, 2048)),  # the longest side limits
            ((2000, 500), (2048, 512)),
        ],
    )
    def test_follows_the_official_rule(
        self, frame: tuple[int, int], expected: tuple[int, int]
    ) -> None:
        assert InputSize().resized(*frame) == expected

    @given(st.integers(1, 5000), st.integers(1, 5000))
    def test_stays_within_limits(self, height: int, width: int) -> None:
        rows, columns = InputSize(256, 512).resized(height, width)
        assert 1 <= min(rows, columns) <= 256
        assert max(rows, columns) <= 512
        assert min(rows, columns) == 256 or max(rows, columns) == 512

    @pytest.mark.parametrize('sides', [(0, 10), (1024, 512), (31, 64), (1024, 99999)])
    def test_refuses_impossible_sizes(self, sides: tuple[int, int]) -> None:
        with pytest.raises(MaskomalyError, match=f'{sides[0]} x {sides[1]}'):
            InputSize(*sides)


class TestPreprocess:
    @pytest.mark.parametrize('size', [(97, 131), (120, 213), (300, 400)])
    def test_equals_pillow_then_normalise_then_pad(self, size: tuple[int, int]) -> None:
        frame = random_frame(*size)
        target = InputSize(128, 256)
        height, width = target.resized(*size)
        resized = Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR)
        expected = (np.asarray(resized, np.float32) - PIXEL_MEAN) / PIXEL_STD

        pixels, content = preprocess([frame], target, CPU)

        assert content == (height, width)
        assert pixels.shape[-2] % 32 == 0
        assert pixels.shape[-1] % 32 == 0
        actual = pixels[0].permute(1, 2, 0).numpy()
        grey_level = 1.01 / min(PIXEL_STD)  # rounding may fall the other way
        np.testing.assert_allclose(actual[:height, :width], expected, atol=grey_level)
        assert np.abs(actual[:height, :width] - expected).mean() < 0.02 * grey_level
        assert not actual[height:].any()
        assert not actual[:, width:].any()

    def test_leaves_a_frame_of_the_right_size_as_it_is(self) -> None:
        frame = random_frame(128, 160)
        pixels, _ = preprocess([frame], InputSize(128, 256), CPU)
        expected = (frame.astype(np.float32) - PIXEL_MEAN) / PIXEL_STD
        np.testing.assert_allclose(pixels[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)

    def test_takes_views_that_are_not_contiguous(self) -> None:
        frame = random_frame(128, 160)
        flipped, _ = preprocess([frame[:, ::-1]], InputSize(128, 256), CPU)
        copied, _ = preprocess([frame[:, ::-1].copy()], InputSize(128, 256), CPU)
        assert torch.equal(flipped, copied)


class TestResizeMaps:
    def test_is_plain_bilinear_on_the_whole(self) -> None:
        maps = torch.rand(2, 3, 9, 14)
        actual = resize_maps(maps, (50, 61), (9.0, 14.0))
        expected = F.interpolate(maps, (50, 61), mode='bilinear', align_corners=False)
        torch.testing.assert_close(actual, expected)

    @settings(max_examples=30)
    @given(
        size=st.integers(5, 90),
        extent=st.floats(3.0, 20.0),
    )
    def test_looks_at_the_right_place_for_any_extent(self, size: int, extent: float) -> None:
        ramp = torch.arange(24, dtype=torch.float32).expand(1, 1, 4, 24)
        columns = resize_maps(ramp, (4, size), (4.0, extent))[0, 0, 0].numpy()
        expected = (np.arange(size) + 0.5) * extent / size - 0.5
        last = np.ceil(extent) - 1  # nothing of the padding is looked at
        np.testing.assert_allclose(columns, expected.clip(0, last), atol=1e-4)


class TestPredict:
    def test_equals_the_model_on_the_padded_frame(self, tiny_checkpoint: Path) -> None:
        network = load_network(tiny_checkpoint, device='cpu')
        frames = [random_frame(97, 170, seed) for seed in (1, 2)]
        prediction = network.predict(frames)

        model = Mask2FormerForUniversalSegmentation.from_pretrained(tiny_checkpoint).eval()
        pixels, content = preprocess(frames, InputSize(96, 192), CPU)
        with torch.no_grad():
            output = model(pixel_values=pixels)
        torch.testing.assert_close(prediction.mask_logits, output.masks_queries_logits)
        torch.testing.assert_close(prediction.class_logits, output.class_queries_logits)
        assert prediction.mask_logits.shape == (2, 8, 24, 48)
        assert prediction.class_logits.shape == (2, 8, 4)
        assert prediction.frame_size == (97, 170)
        assert prediction.extent == (content[0] / 4, content[1] / 4)

    def test_a_frame_alone_and_in_a_batch_are_the_same(self, tiny_checkpoint: Path) -> None:
        network = load_network(tiny_checkpoint, device='cpu')
        frames = [random_frame(90, 150, seed) for seed in range(3)]
        batch = network.predict(frames)
        for i, frame in enumerate(frames):
            alone = network.predict([frame])
            torch.testing.assert_close(
                alone.mask_logits[0], batch.mask_logits[i], atol=1e-4, rtol=1e-4
            )

    def test_input_size_can_be_chosen(self, tiny_checkpoint: Path) -> None:
        network = load_network(tiny_checkpoint, device='cpu', input_size=InputSize(64, 128))
        assert network.predict([random_frame(100, 100)]).mask_logits.shape[-2:] == (16, 16)

    def test_describes_itself(self, tiny_checkpoint: Path) -> None:
        network = load_network(tiny_checkpoint, device='cpu')
        assert network.name == 'tiny'
        assert network.num_queries == 8
        assert network.class_names == ('road', 'sky', 'car')
        assert len(network.sha256) == 64
        assert network.input_size == InputSize(96, 192)

    @pytest.mark.parametrize('precision', ['float16', 'bfloat16'])
    def test_mixed_precision_stays_close(self, tiny_checkpoint: Path, precision: str) -> None:
        frame = random_frame(96, 128)
        exact = load_network(tiny_checkpoint, device='cpu').predict([frame])
        mixed = load_network(tiny_checkpoint, device='cpu', precision=precision).predict([frame])
        assert mixed.mask_logits.dtype == mixed.class_logits.dtype == torch.float32
        difference = (mixed.mask_logits.sigmoid() - exact.mask_logits.sigmoid()).abs()
        assert 0 < difference.mean() < 0.05

    @pytest.mark.parametrize(
        ('frames', 'named'),
        [
            ([], 'no frames'),
            ([np.zeros((8, 8, 3), np.float32)], 'float32'),
            ([np.zeros((8, 8), np.uint8)], r'\[8, 8\]'),
            ([np.zeros((8, 8, 4), np.uint8)], r'\[8, 8, 4\]'),
            ([np.zeros((0, 8, 3), np.uint8)], r'\[0, 8, 3\]'),
            ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)], r'\(8, 9\)'),
        ],
    )
    def test_refuses_wrong_frames(
        self, tiny_checkpoint: Path, frames: list[np.ndarray], named: str
    ) -> None:
        with pytest.raises(MaskomalyError, match=named):
            load_network(tiny_checkpoint, device='cpu').predict(frames)

    def test_semantic_map(self) -> None:
        masks = torch.full((1, 2, 4, 4), -9.0)
        masks[0, 0, :, :2] = 9.0
        masks[0, 1, :, 2:] = 9.0
        classes = torch.tensor([[[0.0, 9.0, 0.0], [9.0, 0.0, 0.0]]])
        prediction = MaskPrediction(masks, classes, (16, 16), (4.0, 4.0))
        expected = torch.zeros(1, 16, 16, dtype=torch.uint8)
        expected[..., :8] = 1
        assert torch.equal(prediction.semantic_map(), expected)


class TestLoading:
    def test_unknown_checkpoint(self) -> None:
        with pytest.raises(MaskomalyError, match=r"no checkpoint 'dmeo'.*demo"):
            load_network('dmeo', device='cpu')

    def test_a_file_is_no_folder(self, tiny_checkpoint: Path) -> None:
        with pytest.raises(MaskomalyError, match='give the folder'):
            load_network(tiny_checkpoint / 'config.json', device='cpu')

    @pytest.mark.parametrize('missing', ['config.json', 'model.safetensors'])
    def test_incomplete_folder(self, tiny_checkpoint: Path, tmp_path: Path, missing: str) -> None:
        folder = shutil.copytree(tiny_checkpoint, tmp_path / 'copy')
        (folder / missing).unlink()
        with pytest.raises(MaskomalyError, match=missing):
            load_network(folder, device='cpu')

    def test_damaged_weights(self, tiny_checkpoint: Path, tmp_path: Path) -> None:
        folder = shutil.copytree(tiny_checkpoint, tmp_path / 'copy')
        weights = folder / 'model.safetensors'
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(MaskomalyError, match='cannot be loaded'):
            load_network(folder, device='cpu')

    def test_weights_that_do_not_fit(self, tiny_checkpoint: Path, tmp_path: Path) -> None:
        folder = shutil.copytree(tiny_checkpoint, tmp_path / 'copy')
        config = json.loads((folder / 'config.json').read_text())
        config['encoder_layers'] = 2
        (folder / 'config.json').write_text(json.dumps(config))
        with pytest.raises(MaskomalyError, match=r'missing \[.*encoder\.layers\.1'):
            load_network(folder, device='cpu')

    @pytest.mark.parametrize(
        ('change', 'message'),
        [
            ({'num_queries': 10**12}, 'num_queries is 1000000000000; numbers up to'),
            ({'init_std': 1e300}, 'init_std is 1e'),
            ({'num_labels': 10**9, 'id2label': None}, 'num_labels is 1000000000'),
            ({'hidden_dim': 16384, 'feature_size': 16384}, 'network that is too large'),
            ({'encoder_layers': 65536, 'hidden_dim': 1}, 'network that is too large'),
            ({'backbone_config': None, 'backbone': 'a/b'}, "backbone is 'a/b', which would be"),
            ({'backbone_config': {'model_type': 'timm_backbone', 'backbone': 'x'}}, 'fetched'),
            ({'backbone_config': {'_attn_implementation': 'a/b'}}, "'a/b', code that would be"),
            ({'architectures': ['x' * (1 << 20)]}, 'a configuration of a network has'),
            ({'maskomaly_input_size': ['a', 'b']}, r"\['a', 'b'\]; it must be two whole numbers"),
            ({'maskomaly_input_size': [64, 10**5]}, 'numbers up to'),
            ({'maskomaly_input_size': [64, 20000]}, '64 x 20000 is out of range'),
        ],
    )
    def test_configurations_that_ask_for_too_much(
        self, tiny_checkpoint: Path, tmp_path: Path, change: dict[str, Any], message: str
    ) -> None:
        folder = shutil.copytree(tiny_checkpoint, tmp_path / 'copy')
        config = json.loads((folder / 'config.json').read_text())
        (folder / 'config.json').write_text(json.dumps({**config, **change}))
        with pytest.raises(MaskomalyError, match=message):
            load_network(folder, device='cpu')

    def test_a_configuration_nested_without_end(
        self, tiny_checkpoint: Path, tmp_path: Path
    ) -> None:
        folder = shutil.copytree(tiny_checkpoint, tmp_path / 'copy')
        (folder / 'config.json').write_text('[' * 500_000)
        with pytest.raises(MaskomalyError, match='cannot be loaded'):
            load_network(folder, device='cpu')

    def test_another_kind_of_model(self, tiny_checkpoint: Path, tmp_path: Path) -> None:
        folder = shutil.copytree(tiny_checkpoint, tmp_path / 'copy')
        config = json.loads((folder / 'config.json').read_text())
        (folder / 'config.json').write_text(json.dumps({**config, 'model_type': 'segformer'}))
        with pytest.raises(MaskomalyError, match="'segformer'"):
            load_network(folder, device='cpu')

    @pytest.mark.parametrize(
        ('argument', 'value'), [('backend', 'tensorflow'), ('precision', 'int8')]
    )
    def test_unknown_choices(self, tiny_checkpoint: Path, argument: str, value: str) -> None:
        with pytest.raises(MaskomalyError, match=f"{argument} '{value}'"):
            load_network(tiny_checkpoint, device='cpu', **{argument: value})

    def test_a_hub_id_without_network_says_what_to_fetch(self, tmp_path: Path) -> None:
        program = (
            'from maskomaly_ros.networks import load_network\n'
            'from maskomaly_ros.errors import MaskomalyError\n'
            'try: load_network("someone/some-model", device="cpu")\n'
            'except MaskomalyError as error: print(error)\n'
        )
        unreachable = {'HF_ENDPOINT': 'http://127.0.0.1:9', 'HF_HOME': str(tmp_path)}
        done = subprocess.run(
            [sys.executable, '-c', program],
            env={**os.environ, **unreachable},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert 'cannot download checkpoint someone/some-model' in done.stdout
        assert 'config.json and model.safetensors' in done.stdout


class TestDevice:
    def test_auto_says_what_it_chose_and_why(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO):
            device = select_device('auto')
        assert str(device) in caplog.text
        assert device.type == ('cuda' if torch.cuda.is_available() else 'cpu')

    @pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has CUDA')
    def test_cuda_without_cuda_fails_at_once(self) -> None:
        with pytest.raises(MaskomalyError, match="'cuda' cannot be used"):
            select_device('cuda')

    @pytest.mark.parametrize('name', ['', 'gpu', 'cuda:x', 'mps', 'meta'])
    def test_unknown_names(self, name: str) -> None:
        with pytest.raises(MaskomalyError, match=f"'{name}'"):
            select_device(name)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason='a CUDA device')
    def test_cuda_agrees_with_cpu(self, tiny_checkpoint: Path) -> None:
        frame = random_frame(97, 170)
        cpu = load_network(tiny_checkpoint, device='cpu').predict([frame])
        cuda = load_network(tiny_checkpoint, device='cuda').predict([frame])
        torch.testing.assert_close(cuda.mask_logits.cpu(), cpu.mask_logits, atol=5e-2, rtol=5e-2)
