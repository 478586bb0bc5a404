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

"""Export to ONNX: that the file computes what torch does, and what happens when it does not."""

from __future__ import annotations

import json
import logging
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from maskomaly_ros.cli import main as cli
from maskomaly_ros.detector import Detector
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import (
    InputSize,
    MaskPrediction,
    exported_file,
    load_network,
    onnx_export,
    onnx_network,
)
from maskomaly_ros.networks.agreement import compare
from maskomaly_ros.networks.known import user_cache
from maskomaly_ros.networks.onnx_export import Export, export

onnx = pytest.importorskip('onnx', reason='onnx is not installed')
pytest.importorskip('onnxscript', reason='onnxscript is not installed')
pytest.importorskip('onnxruntime', reason='ONNX Runtime is not installed')

CPU = torch.device('cpu')


def frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return a picture that is smooth, as cameras see it."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((1, 3, 5, 7))) * 255
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode='bicubic')
    return smooth[0].permute(1, 2, 0).clamp(0, 255).to(torch.uint8).numpy()


@pytest.fixture(scope='session')
def exported(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny checkpoint, exported for one frame of 170x100 pixels."""
    file = tmp_path_factory.mktemp('exported') / 'tiny.onnx'
    export(tiny_checkpoint, file, frame_size=(100, 170))
    return file


@pytest.fixture(scope='session')
def exported_pair(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Return the tiny checkpoint, exported for two frames of 64x64 pixels."""
    file = tmp_path_factory.mktemp('exported') / 'pair.onnx'
    return export(tiny_checkpoint, file, batch=2, frame_size=(64, 64), frames=[frame(50, 50)])


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return an empty cache of this test's own."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return user_cache()


def edited(exported: Path, out: Path, **changes: object) -> Path:
    """Write an exported file with another description."""
    model = onnx.load(exported)
    for entry in model.metadata_props:
        if entry.key == exported_file.METADATA_KEY:
            entry.value = json.dumps({**json.loads(entry.value), **changes})
    onnx.save(model, out)
    return out


class TestExport:
    def test_reports_the_agreement(self, exported_pair: Export) -> None:
        assert exported_pair.shape == (2, 96, 96)
        assert exported_pair.agreement.mask_error_mean < 1e-4
        assert exported_pair.agreement.mask_iou > 0.999
        assert list(exported_pair.file.parent.iterdir()) == [exported_pair.file]

    def test_is_opset_18_with_named_inputs_of_fixed_size(self, exported: Path) -> None:
        model = onnx.load(exported)
        assert {o.domain: o.version for o in model.opset_import}[''] == 18
        shapes = {
            value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in (*model.graph.input, *model.graph.output)
        }
        assert shapes == {
            'pixels': [1, 3, 96, 192],
            'mask_logits': [1, 8, 24, 48],
            'class_logits': [1, 8, 4],
        }
        onnx.checker.check_model(model)

    @pytest.mark.parametrize('places', [(16, 32), (0, 0)], ids=['reference', 'frames'])
    def test_wrong_results_leave_no_file(
        self,
        tiny_checkpoint: Path,
        exported: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        places: tuple[int, int],
    ) -> None:
        """Either check notices that masks are one mask pixel off."""
        right = onnx_network._open_onnxruntime

        def wrong(*arguments: object) -> object:
            text, run = right(*arguments)  # type: ignore[arg-type]

            def shifted(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                masks, classes = run(pixels)
                at_reference = torch.equal(pixels, exported_file.probe_pixels((1, 96, 192)))
                return masks if at_reference and not any(places) else masks.roll(1, -1), classes

            return text, shifted

        def write(network: object, file: Path, shape: object) -> None:
            shutil.copyfile(exported, file)

        monkeypatch.setattr(onnx_network, '_open_onnxruntime', wrong)
        monkeypatch.setattr(onnx_export, '_write', write)
        with pytest.raises(MaskomalyError, match='mask_error_mean is'):
            export(tiny_checkpoint, tmp_path / 'x.onnx', frame_size=(100, 170))
        assert not any(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ('name', 'options', 'named'),
        [('x.pt', {}, r'x\.pt; it must end in \.onnx'), ('x.onnx', {'batch': 0}, 'batch 0')],
    )
    def test_refuses(
        self, tiny_checkpoint: Path, tmp_path: Path, name: str, options: dict, named: str
    ) -> None:
        with pytest.raises(MaskomalyError, match=named):
            export(tiny_checkpoint, tmp_path / name, **options)

    def test_a_place_that_cannot_be_written(self, tiny_checkpoint: Path, tmp_path: Path) -> None:
        (tmp_path / 'file').touch()
        with pytest.raises(MaskomalyError, match='cannot write'):
            export(tiny_checkpoint, tmp_path / 'file' / 'x.onnx')


def test_of_the_bundled_network(tmp_path: Path) -> None:
    """Its backbone is our own, which no runtime has been tried with by others."""
    pytest.importorskip('openvino', reason='OpenVINO is not installed')
    exported = export('demo', tmp_path / 'demo.onnx', frame_size=(64, 64), frames=[frame(90, 90)])
    assert exported.agreement.score_error_mean < 1e-4
    image = frame(64, 64, 1)
    demo = load_network('demo', backend='transformers', device='cpu')
    expected = demo.predict([image])
    for backend in ('onnxruntime', 'openvino'):
        network = load_network(exported.file, backend=backend, device='cpu')
        assert network.sha256 == demo.sha256
        assert not compare(network.predict([image]), expected).violations()


class TestExportedFile:
    @pytest.mark.parametrize('backend', ['auto', 'onnxruntime', 'openvino'])
    def test_predicts_what_torch_does(
        self, tiny_checkpoint: Path, exported: Path, backend: str
    ) -> None:
        if backend == 'openvino':
            pytest.importorskip('openvino', reason='OpenVINO is not installed')
        network = load_network(exported, backend=backend, device='cpu')
        torch_network = load_network(tiny_checkpoint, device='cpu')
        for attribute in ('name', 'sha256', 'num_queries', 'class_names', 'input_size'):
            assert getattr(network, attribute) == getattr(torch_network, attribute)
        frames = [frame(100, 170, seed) for seed in range(3)]
        actual, expected = network.predict(frames), torch_network.predict(frames)
        assert actual.extent == expected.extent
        assert actual.mask_logits.shape == (3, 8, 24, 48)
        torch.testing.assert_close(actual.class_logits, expected.class_logits, atol=1e-3, rtol=0)
        assert not compare(actual, expected).violations()

    def test_bfloat16_of_openvino(self, tiny_checkpoint: Path, exported: Path) -> None:
        pytest.importorskip('openvino', reason='OpenVINO is not installed')
        image = frame(100, 170)
        exact = load_network(tiny_checkpoint, device='cpu').predict([image])
        network = load_network(exported, backend='openvino', device='auto', precision='bfloat16')
        assert network.device == CPU
        assert not compare(network.predict([image]), exact).violations('bfloat16')

    def test_results_stay_when_the_next_come(self, exported: Path) -> None:
        network = load_network(exported, device='cpu')
        first = network.predict([frame(100, 170, 0)])
        kept = first.mask_logits.clone()
        network.predict([frame(100, 170, 1)])
        assert torch.equal(first.mask_logits, kept)

    def test_smaller_frames_are_padded(self, tiny_checkpoint: Path, exported: Path) -> None:
        image = frame(96, 110)
        prediction = load_network(exported, device='cpu').predict([image])
        assert prediction.mask_logits.shape[-2:] == (24, 48)
        assert prediction.extent == (24.0, 27.5)
        torch_network = load_network(tiny_checkpoint, device='cpu')
        torch_network.fix_padded_size((96, 192))  # type: ignore[attr-defined]
        assert not compare(prediction, torch_network.predict([image])).violations()

    def test_frames_that_do_not_fit(self, exported: Path) -> None:
        with pytest.raises(MaskomalyError, match=r'170x300 pixels.*fixed at 192x96; export'):
            load_network(exported, device='cpu').predict([frame(300, 170)])

    def test_a_batch_is_filled_up(self, tiny_checkpoint: Path, exported_pair: Export) -> None:
        frames = [frame(64, 64, seed) for seed in range(3)]
        actual = load_network(exported_pair.file, device='cpu').predict(frames)
        expected = load_network(tiny_checkpoint, device='cpu').predict(frames)
        assert not compare(actual, expected).violations()

    def test_a_detector_finds_its_queries(self, exported: Path) -> None:
        detector = Detector(load_network(exported, device='cpu'))
        score = detector.detect([frame(100, 170)])[0].score
        assert score.shape == (100, 170)

    def test_another_input_size_is_refused(self, exported: Path) -> None:
        assert load_network(exported, device='cpu', input_size=InputSize(96, 192))
        with pytest.raises(MaskomalyError, match='input size 96x192, and no other'):
            load_network(exported, device='cpu', input_size=InputSize(64, 128))

    @pytest.mark.parametrize(
        ('options', 'named'),
        [
            ({'backend': 'transformers'}, 'exported network, which backend transformers cannot'),
            ({'backend': 'tensorrt'}, 'tensorrt does not run on device cpu, only on cuda'),
            ({'precision': 'bfloat16'}, 'onnxruntime does not compute in precision'),
            ({'precision': 'int8'}, "precision 'int8' is unknown"),
        ],
    )
    def test_choices_that_cannot_be(self, exported: Path, options: dict, named: str) -> None:
        with pytest.raises(MaskomalyError, match=named):
            load_network(exported, device='cpu', **options)

    def test_cuda_without_its_build(self, exported: Path) -> None:
        providers = pytest.importorskip('onnxruntime').get_available_providers()
        if 'CUDAExecutionProvider' in providers:
            pytest.skip('this ONNX Runtime has CUDA')
        with pytest.raises(MaskomalyError, match='pip install onnxruntime-gpu'):
            onnx_network.OnnxNetwork(exported, 'onnxruntime', torch.device('cuda', 0))

    def test_threads_do_not_spin(self, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import onnxruntime

        seen = []

        class Session(onnxruntime.InferenceSession):
            def __init__(self, path: str, options: object, **rest: object) -> None:
                seen.append(options)
                super().__init__(path, options, **rest)

        monkeypatch.setattr(onnxruntime, 'InferenceSession', Session)
        load_network(exported, device='cpu')
        assert seen[0].get_session_config_entry('session.intra_op.allow_spinning') == '0'  # type: ignore[attr-defined]
        assert seen[0].intra_op_num_threads == torch.get_num_threads()  # type: ignore[attr-defined]


class TestDamagedFiles:
    def test_no_onnx_at_all(self, tmp_path: Path) -> None:
        file = tmp_path / 'x.onnx'
        file.write_bytes(b'nothing of the kind')
        with pytest.raises(MaskomalyError, match=r'onnxruntime cannot open .*x\.onnx'):
            load_network(file, device='cpu')

    def test_of_another_program(self, exported: Path, tmp_path: Path) -> None:
        model = onnx.load(exported)
        del model.metadata_props[:]
        onnx.save(model, tmp_path / 'x.onnx')
        with pytest.raises(MaskomalyError, match='not made by this version'):
            load_network(tmp_path / 'x.onnx', device='cpu')

    @pytest.mark.parametrize('changes', [{'format': 2}, {'shape': 3}, {'extra': 1}])
    def test_of_another_version(self, exported: Path, tmp_path: Path, changes: dict) -> None:
        file = edited(exported, tmp_path / 'x.onnx', **changes)
        with pytest.raises(MaskomalyError, match='not made by this version'):
            load_network(file, device='cpu')

    def test_weights_that_changed_are_noticed(self, exported: Path, tmp_path: Path) -> None:
        model = onnx.load(exported)
        largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        weights = np.frombuffer(largest.raw_data, np.float32)
        largest.raw_data = (weights[::-1] * 2).astype(np.float32).tobytes()
        onnx.save(model, tmp_path / 'x.onnx')
        with pytest.raises(MaskomalyError, match='onnxruntime computes wrong results'):
            load_network(tmp_path / 'x.onnx', device='cpu')


class TestCheckpointThroughARuntime:
    def test_is_exported_once_for_each_size(
        self, tiny_checkpoint: Path, cache: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        small, wide = frame(64, 64), frame(64, 100)
        expected = load_network(tiny_checkpoint, device='cpu').predict([small, small])
        with caplog.at_level(logging.INFO, 'maskomaly_ros'):
            network = load_network(tiny_checkpoint, backend='onnxruntime', device='cpu')
            assert not cache.exists()  # nobody knows the size of the frames yet
            network.warm_up((64, 64))
            assert not compare(network.predict([small, small]), expected).violations()
            again = load_network(tiny_checkpoint, backend='onnxruntime', device='cpu')
            again.predict([small])
        assert caplog.text.count('exporting tiny for inputs of 96x96') == 1
        again.predict([wide])
        assert len(list(cache.glob('exported/tiny-*.onnx'))) == 2


class TestAgreement:
    def test_of_the_same(self) -> None:
        prediction = MaskPrediction(
            torch.randn(1, 3, 4, 4), torch.randn(1, 3, 5), (16, 16), (4.0, 4.0)
        )
        same = compare(prediction, prediction)
        assert same.violations() == []
        assert (same.mask_error_max, same.mask_iou) == (0.0, 1.0)

    @pytest.mark.parametrize('value', [float('nan'), float('inf'), 3.0])
    def test_one_bad_value_is_enough(self, value: float) -> None:
        masks, classes = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 5)
        wrong = masks.clone()
        wrong[0, 1, 2, 3] += value
        found = compare(
            MaskPrediction(wrong, classes, (16, 16), (4.0, 4.0)),
            MaskPrediction(masks, classes, (16, 16), (4.0, 4.0)),
        )
        assert any('mask_error_max' in text for text in found.violations())

    @pytest.mark.parametrize(('pixels', 'fine'), [(1, True), (32, False)])
    def test_pixels_on_the_edge_of_a_border(self, pixels: int, fine: bool) -> None:
        edge = math.log(0.1 / 0.9)  # the logit of the border threshold
        masks = torch.full((1, 2, 32, 32), -4.0)
        masks[:, :, 0, :pixels] = edge - 1e-5
        classes = torch.tensor([[[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]])
        across = masks.clone()
        across[:, :, 0, :pixels] = edge + 1e-5
        found = compare(
            MaskPrediction(across, classes, (32, 32), (32.0, 32.0)),
            MaskPrediction(masks, classes, (32, 32), (32.0, 32.0)),
        )
        assert found.score_error_max > 0.8
        assert (found.violations() == []) is fine


class TestCommand:
    def test_writes_a_file_and_figures(self, tiny_checkpoint: Path, tmp_path: Path) -> None:
        arguments = [
            'export',
            '--out',
            str(tmp_path / 'x.onnx'),
            '--checkpoint',
            str(tiny_checkpoint),
        ]
        figures = tmp_path / 'x.json'
        done = CliRunner().invoke(
            cli.app, [*arguments, '--frame-size', '64x64', '--json', str(figures)]
        )
        assert done.exit_code == 0, done.output
        assert 'input 1x3x96x96' in done.stdout
        assert json.loads(figures.read_text())['agreement']['mask_iou'] > 0.99
        assert load_network(tmp_path / 'x.onnx', device='cpu').name == 'tiny'

    @pytest.mark.parametrize('size', ['64', '0x64'])
    def test_wrong_sizes(self, tiny_checkpoint: Path, tmp_path: Path, size: str) -> None:
        done = CliRunner().invoke(
            cli.app, ['export', '--out', str(tmp_path / 'x.onnx'), '--frame-size', size]
        )
        assert done.exit_code == 1
        assert size in done.stderr
