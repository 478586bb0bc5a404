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

"""What loading says and does when things are not as they should be."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from maskomaly_ros.cli.main import app
from maskomaly_ros.detector import find_queries
from maskomaly_ros.errors import MaskomalyError, listed
from maskomaly_ros.networks import load_network
from maskomaly_ros.networks.conversion import convert
from maskomaly_ros.networks.unpickling import plain_reason


class TestLists:
    def test_name_the_first_ten_and_count_the_rest(self) -> None:
        assert listed([]) == 'none'
        assert listed(['a', 'b']) == "['a', 'b']"
        text = listed([f'weight{i}' for i in range(1000)])
        assert "'weight9'] and 990 more" in text
        assert len(listed(['x' * 1_000_000] * 11)) < 1200

    def test_of_weights_stay_short(self, tiny_checkpoint: Path, tmp_path: Path) -> None:
        folder = shutil.copytree(tiny_checkpoint, tmp_path / 'copy')
        weights = load_file(folder / 'model.safetensors')
        foreign = {f'{"foreign" * 40}.{i}': torch.zeros(1) for i in range(500)}
        save_file({**weights, **foreign}, folder / 'model.safetensors', {'format': 'pt'})
        with pytest.raises(MaskomalyError, match='and 490 more') as raised:
            load_network(folder, device='cpu')
        assert len(str(raised.value)) < 3000


class Evil:
    """Something that a pickle must not make."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ('true',)


class TestRefusedWeights:
    def test_no_advice_to_read_without_care(self, tiny_checkpoint: Path, tmp_path: Path) -> None:
        folder = shutil.copytree(tiny_checkpoint, tmp_path / 'copy')
        weights = load_file(folder / 'model.safetensors')
        (folder / 'model.safetensors').unlink()
        torch.save({**weights, 'x': Evil()}, folder / 'pytorch_model.bin')
        with pytest.raises(MaskomalyError) as raised:
            load_network(folder, device='cpu')
        assert 'weights_only' not in str(raised.value)
        assert str(folder) in str(raised.value)

    def test_what_torch_says_of_a_class_that_is_not_allowed(self, tmp_path: Path) -> None:
        file = tmp_path / 'x.bin'
        torch.save({'x': Evil()}, file)
        with pytest.raises(pickle.UnpicklingError) as raised:
            torch.load(file, weights_only=True)
        assert 'weights_only' in str(raised.value)
        assert 'weights_only' not in plain_reason(raised.value)


@pytest.mark.timeout(120)
@pytest.mark.parametrize('place', ['x.pkl', 'x.pth', 'folder/model.safetensors', '/dev/zero'])
def test_info_of_a_pipe_or_a_device_ends(
    tiny_checkpoint: Path, tmp_path: Path, place: str
) -> None:
    target = tmp_path / place
    if place.startswith('/dev'):
        target = tmp_path / 'device.pth'
        target.symlink_to(place)
    else:
        target.parent.mkdir(exist_ok=True)
        os.mkfifo(target)
    shutil.copyfile(tiny_checkpoint / 'config.json', target.parent / 'config.json')
    given = target.parent if target.parent.name == 'folder' else target
    done = CliRunner().invoke(app, ['checkpoint', 'info', str(given)])
    assert done.exit_code == 1
    assert 'no regular file' in done.output


class TestConverted:
    def test_the_queries_of_the_source_belong_to_it(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder = convert('demo', tmp_path / 'converted')
        network = load_network(folder, device='cpu')
        assert network.source_sha256 == load_network('demo', device='cpu').sha256
        with caplog.at_level(logging.WARNING):
            assert find_queries(network, None).anomalous_queries
        assert 'belong to' not in caplog.text

    def test_those_of_other_weights_do_not(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder = convert('demo', tmp_path / 'converted')
        content = json.loads((folder / 'config.json').read_text())
        content['maskomaly_source']['sha256'] = '0' * 64
        (folder / 'config.json').write_text(json.dumps(content))
        with caplog.at_level(logging.WARNING):
            find_queries(load_network(folder, device='cpu'), None)
        assert 'belong to' in caplog.text


def test_no_module_of_networks_is_part_of_a_circle() -> None:
    import ast

    folder = Path(sys.modules['maskomaly_ros.networks'].__file__ or '').parent
    arrows: dict[str, set[str]] = {}
    for file in folder.glob('*.py'):
        found = set()
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
            if isinstance(node, ast.ImportFrom) and node.module:
                package, _, module = node.module.rpartition('.')
                if package == 'maskomaly_ros.networks':
                    found.add(module)
        arrows[file.stem] = found

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, ' -> '.join((*path, name))
        for other in arrows.get(name, ()):
            visit(other, (*path, name))

    for name in arrows:
        visit(name, ())
