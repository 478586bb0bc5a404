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

"""Backend `auto` on a CPU: what it takes, and that nothing which fails keeps frames waiting."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.networks import (
    Network,
    automatic,
    backend_in_words,
    backends_used,
    export_process,
    load_network,
    onnx_export,
    onnx_network,
)
from maskomaly_ros.networks.agreement import compare
from maskomaly_ros.networks.checkpoints import find_checkpoint
from maskomaly_ros.networks.export_cache import PART, ExportCache
from maskomaly_ros.networks.preprocessing import InputSize

for _name in ('onnx', 'onnxscript', 'openvino', 'onnxruntime'):
    pytest.importorskip(_name, reason=f'{_name} is not installed')

SIZE, SHAPE = InputSize(96, 192), (1, 96, 160)
_COARSE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
FRAME = np.asarray(cv2.resize(_COARSE, (100, 60), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.fixture(scope='session')
def kept(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache that two processes filled at once."""
    folder = tmp_path_factory.mktemp('filled')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(folder))
        order = export_process.Order(
            str(tiny_checkpoint),
            None,
            find_checkpoint(tiny_checkpoint).sha256,
            (SIZE.shortest, SIZE.longest),
            SHAPE,
            ('openvino', 'onnxruntime'),
            is_background=False,
        )
        processes = [export_process.start(order) for _ in range(2)]
        for process in processes:
            _, complaint = process.communicate()
            assert process.returncode == 0, complaint
        stale = replace(order, sha256='0' * 64)
        process = export_process.start(stale)
        assert 'have changed meanwhile' in process.communicate()[1]
        assert process.returncode == 1
    files = sorted((folder / 'maskomaly_ros' / 'exported').iterdir())
    assert [file.suffix for file in files] == ['.lock', '.onnx']
    return folder


@pytest.fixture
def cache(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExportCache:
    """Return the cache of the tiny checkpoint, empty, with `auto` free to choose."""
    monkeypatch.delenv(automatic.VARIABLE, raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return ExportCache(find_checkpoint(tiny_checkpoint))


@pytest.fixture
def filled(cache: ExportCache, kept: Path) -> ExportCache:
    """Return that cache with one exported form."""
    shutil.copytree(kept / 'maskomaly_ros' / 'exported', cache.folder)
    return cache


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[Any]]]:
    """Return what puts a short program into the place of the one that exports."""
    running: list[subprocess.Popen[str]] = []

    def become(program: str = 'pass') -> list[Any]:
        orders: list[Any] = []

        def start(order: object) -> subprocess.Popen[str]:
            orders.append(order)
            running.append(
                subprocess.Popen(
                    [sys.executable, '-c', program], stderr=subprocess.PIPE, text=True
                )
            )
            return running[-1]

        monkeypatch.setattr(export_process, 'start', start)
        return orders

    yield become
    for process in running:
        process.kill()
        process.wait()


def load(checkpoint: Path, wait: float = 300.0, **options: Any) -> Any:
    """Load a network that is to choose by itself."""
    return load_network(checkpoint, device='cpu', export_wait=wait, **options)


def check_equal(network: Network, checkpoint: Path) -> None:
    expected = load_network(checkpoint, device='cpu', backend='transformers').predict([FRAME])
    assert not compare(network.predict([FRAME]), expected).violations()


class TestWhatIsChosen:
    @pytest.mark.parametrize(
        ('installed', 'precision', 'expected'),
        [
            (('openvino', 'onnxruntime'), 'float32', 'openvino'),
            (('onnxruntime',), 'float32', 'onnxruntime'),
            (('openvino', 'onnxruntime'), 'bfloat16', 'openvino'),
        ],
    )
    def test_the_fastest_that_is_installed(
        self,
        tiny_checkpoint: Path,
        filled: ExportCache,
        exporter: Any,
        monkeypatch: pytest.MonkeyPatch,
        installed: tuple[str, ...],
        precision: str,
        expected: str,
    ) -> None:
        orders = exporter('raise SystemExit(1)')
        for name in ('openvino', 'onnxruntime'):
            if name not in installed:
                monkeypatch.setitem(sys.modules, name, None)
        network = load(tiny_checkpoint, precision=precision)
        assert network.backend == 'auto'
        if precision == 'float32':  # opening checks the others
            check_equal(network, tiny_checkpoint)
        network.predict([FRAME])
        assert network.backend == expected
        assert backends_used(network) == (expected,)
        assert 'equals torch' in backend_in_words(network)
        assert not orders

    @pytest.mark.parametrize(
        ('missing', 'precision', 'reason'),
        [
            (('openvino', 'onnxruntime'), 'float32', 'pip install openvino onnx onnxscript'),
            ((), 'float16', 'nothing else computes in float16'),
        ],
    )
    def test_torch_where_there_is_nothing_else(
        self,
        tiny_checkpoint: Path,
        cache: ExportCache,
        monkeypatch: pytest.MonkeyPatch,
        missing: tuple[str, ...],
        precision: str,
        reason: str,
    ) -> None:
        for name in missing:
            monkeypatch.setitem(sys.modules, name, None)
        network = load(tiny_checkpoint, precision=precision)
        assert network.backend == 'transformers'
        assert reason in network.backend_reason

    def test_without_an_exporter(
        self, tiny_checkpoint: Path, cache: ExportCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, 'onnxscript', None)
        network = load(tiny_checkpoint)
        check_equal(network, tiny_checkpoint)
        assert network.backend == 'transformers'
        assert 'pip install onnxscript' in network.backend_reason

    def test_large_networks_are_exported_on_request_alone(
        self, tiny_checkpoint: Path, cache: ExportCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(automatic, '_LARGEST_WEIGHTS', 1)
        assert 'ask for backend openvino' in load(tiny_checkpoint).backend_reason

    def test_a_user_can_choose_for_all_programs(
        self, tiny_checkpoint: Path, filled: ExportCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(automatic.VARIABLE, 'transformers')
        assert automatic.VARIABLE in load(tiny_checkpoint).backend_reason
        monkeypatch.setenv(automatic.VARIABLE, 'onnxruntime')
        network = load(tiny_checkpoint)
        network.predict([FRAME])
        assert network.backend == 'onnxruntime'
        monkeypatch.setenv(automatic.VARIABLE, 'magic')
        with pytest.raises(MaskomalyError, match="is 'magic'; it can be"):
            load(tiny_checkpoint)


class TestTheCache:
    def test_without_the_library_of_the_network(
        self, tiny_checkpoint: Path, filled: ExportCache, exporter: Any
    ) -> None:
        """The second start on a machine does not load what the first one needed."""
        load(tiny_checkpoint).predict([FRAME])
        program = (
            'import sys, numpy\n'
            'from maskomaly_ros.networks import load_network\n'
            "network = load_network(sys.argv[1], device='cpu')\n"
            'network.predict([numpy.zeros((60, 100, 3), numpy.uint8)])\n'
            "print(network.backend, network.usual_frame_size, 'transformers' in sys.modules)\n"
        )
        done = subprocess.run(
            [sys.executable, '-c', program, str(tiny_checkpoint)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == 'openvino (60, 100) False'

    def test_a_broken_file_is_made_anew(
        self,
        tiny_checkpoint: Path,
        filled: ExportCache,
        exporter: Any,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        file = filled.file(SIZE, SHAPE)
        good = file.with_suffix('.good')
        shutil.copyfile(file, good)
        file.write_bytes(file.read_bytes()[:1000])
        orders = exporter(f'import shutil; shutil.copyfile({str(good)!r}, {str(file)!r})')
        network = load(tiny_checkpoint)
        check_equal(network, tiny_checkpoint)
        assert (len(orders), network.backend) == (1, 'openvino')
        assert 'cannot be used and is made anew' in caplog.text

    def test_a_file_of_other_weights(
        self, tiny_checkpoint: Path, filled: ExportCache, exporter: Any
    ) -> None:
        """It proves itself by its own reference, but it is not what was asked for."""
        import json

        import onnx

        file = filled.file(SIZE, SHAPE)
        model = onnx.load(file)
        for entry in model.metadata_props:
            if entry.key == 'maskomaly':
                entry.value = json.dumps({**json.loads(entry.value), 'sha256': '0' * 64})
        onnx.save(model, file)
        exporter('import sys; sys.exit("no room")')
        network = load(tiny_checkpoint)
        check_equal(network, tiny_checkpoint)
        assert network.backend == 'transformers'
        assert 'the export failed: no room' in network.backend_reason

    @pytest.mark.parametrize('damage', ['', '[]', '{"num_queries": 3}', '{"input_size": [0, 0]}'])
    def test_damaged_facts_are_found_out_again(
        self, tiny_checkpoint: Path, filled: ExportCache, damage: str
    ) -> None:
        load(tiny_checkpoint)
        facts = filled.read_facts(None)
        assert facts is not None
        (file,) = filled.folder.glob('*-own-*.json')
        file.write_text(damage)
        assert filled.read_facts(None) is None
        assert load(tiny_checkpoint).num_queries == 8
        assert filled.read_facts(None) == facts

    def test_a_cache_that_cannot_be_written(
        self, tiny_checkpoint: Path, cache: ExportCache, exporter: Any, tmp_path: Path
    ) -> None:
        (tmp_path / 'cache').write_text('a file where the folder would be')
        orders = exporter()
        network = load(tiny_checkpoint)
        check_equal(network, tiny_checkpoint)
        assert network.backend == 'transformers'
        assert 'cannot be written' in network.backend_reason
        assert not orders

    def test_another_configuration_is_another_network(
        self, tiny_checkpoint: Path, cache: ExportCache, tmp_path: Path
    ) -> None:
        other = tmp_path / 'tiny'
        shutil.copytree(tiny_checkpoint, other)
        config = other / 'config.json'
        config.write_text(config.read_text().replace('"road"', '"lane"'))
        assert ExportCache(find_checkpoint(other)).file(SIZE, SHAPE) != cache.file(SIZE, SHAPE)

    def test_what_was_interrupted_is_removed(self, cache: ExportCache) -> None:
        file = cache.file(SIZE, SHAPE)
        left = file.parent / f'{PART}{file.stem}-x'
        left.mkdir(parents=True)
        with cache.locked(file):
            assert not left.exists()


class TestWhatFails:
    @pytest.mark.parametrize(
        ('program', 'reason'),
        [
            ('import sys; sys.exit("no room")', 'the export failed: no room'),
            ('import os; os.abort()', 'the export failed: exit status -6'),
            ('pass', 'has just been made and cannot be used'),
        ],
    )
    def test_torch_goes_on(
        self,
        tiny_checkpoint: Path,
        cache: ExportCache,
        exporter: Any,
        caplog: pytest.LogCaptureFixture,
        program: str,
        reason: str,
    ) -> None:
        orders = exporter(program)
        network = load(tiny_checkpoint)
        check_equal(network, tiny_checkpoint)
        assert reason in network.backend_reason
        assert 'backend auto: torch (transformers) for inputs of 160x96' in caplog.text
        network.predict([FRAME])
        assert len(orders) == 1  # and it is not tried again for each frame

    def test_no_process(
        self, tiny_checkpoint: Path, cache: ExportCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def start(order: object) -> None:
            raise OSError('no more processes')

        monkeypatch.setattr(export_process, 'start', start)
        network = load(tiny_checkpoint)
        check_equal(network, tiny_checkpoint)
        assert 'no more processes' in network.backend_reason

    def test_an_export_that_takes_too_long(
        self, tiny_checkpoint: Path, cache: ExportCache, exporter: Any
    ) -> None:
        """Torch computes this and all later frames, so that results do not change midway."""
        exporter('import time; time.sleep(600)')
        network = load(tiny_checkpoint, wait=0.01)
        check_equal(network, tiny_checkpoint)
        assert 'not ready after 0.01 s' in network.backend_reason
        network.predict([FRAME.transpose(1, 0, 2).copy()])
        assert 'another size is still under way' in network.backend_reason

    def test_an_export_that_does_not_equal_torch(
        self,
        tiny_checkpoint: Path,
        filled: ExportCache,
        exporter: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """It is noted, so that no later process spends a minute on it."""
        file = filled.file(SIZE, SHAPE)
        good = file.with_suffix('.good')
        file.rename(good)
        right = onnx_network._open_onnxruntime

        def wrong(*arguments: Any) -> Any:
            text, run = right(*arguments)
            return text, lambda pixels: (run(pixels)[0].roll(1, -1), run(pixels)[1])

        def write(network: object, file: Path, shape: object) -> None:
            shutil.copyfile(good, file)

        monkeypatch.setattr(onnx_network, '_open_onnxruntime', wrong)
        monkeypatch.setattr(onnx_export, '_write', write)
        with pytest.raises(MaskomalyError, match='computes wrong results'):
            onnx_export.export_to_cache(
                find_checkpoint(tiny_checkpoint), SIZE, SHAPE, ('onnxruntime',)
            )
        assert not file.exists()
        orders = exporter()
        network = load(tiny_checkpoint)
        check_equal(network, tiny_checkpoint)
        assert network.backend == 'transformers'
        assert 'computes wrong results' in network.backend_reason
        assert not orders

    def test_the_next_runtime_where_the_first_is_wrong(
        self, tiny_checkpoint: Path, filled: ExportCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        right = onnx_network._open_openvino

        def wrong(*arguments: Any) -> Any:
            text, run = right(*arguments)
            return text, lambda pixels: tuple(logits * 2 for logits in run(pixels))

        monkeypatch.setattr(onnx_network, '_open_openvino', wrong)
        network = load(tiny_checkpoint)
        check_equal(network, tiny_checkpoint)
        assert network.backend == 'onnxruntime'
        assert 'not openvino: openvino computes wrong results' in network.backend_reason


class TestALiveNode:
    def test_torch_until_the_export_is_ready(
        self,
        tiny_checkpoint: Path,
        filled: ExportCache,
        exporter: Any,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        file = filled.file(SIZE, SHAPE)
        good = file.with_suffix('.good')
        file.rename(good)
        go = tmp_path / 'go'
        orders = exporter(
            'import shutil, time, pathlib\n'
            f'while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n'
            f'shutil.copyfile({str(good)!r}, {str(file)!r})\n'
        )
        network = load(tiny_checkpoint, wait=0.0)
        for _ in range(3):  # as many as warming up shows
            before = network.predict([FRAME])
        assert not orders
        for _ in range(3):
            between = network.predict([FRAME])
        assert [order.is_background for order in orders] == [True]
        assert network.backend == 'transformers'
        assert torch.equal(before.mask_logits, between.mask_logits)
        go.touch()
        network._exporting.join()
        with caplog.at_level(logging.INFO, 'maskomaly_ros'):
            after = network.predict([FRAME])
        assert network.backend == 'openvino'
        assert backends_used(network) == ('openvino', 'transformers')
        assert not compare(after, before).violations()
        assert network._torch is None  # its memory is free

    def test_frames_of_last_time_are_expected(
        self, tiny_checkpoint: Path, filled: ExportCache
    ) -> None:
        network = load(tiny_checkpoint, wait=0.0)
        assert network.usual_frame_size == (96, 192)
        network.predict([FRAME])
        assert network.backend == 'openvino'
        again = load(tiny_checkpoint, wait=0.0)
        assert again.usual_frame_size == (60, 100)
        again.warm_up()
        assert again.backend == 'openvino'
