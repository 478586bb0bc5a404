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
"""What docs/security.md promises of the code: nothing unpickled, no silent download, no shell."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / 'maskomaly_ros').rglob('*.py'))
NETWORKS = ROOT / 'maskomaly_ros' / 'networks'
# The only places that reach beyond this machine, or look for a free port on it.
NETWORK_USERS = {
    NETWORKS / 'download.py',  # `maskomaly checkpoint download`
    NETWORKS / 'checkpoints.py',  # a Hugging Face id given as the checkpoint
    ROOT / 'maskomaly_ros' / 'rig' / 'processes.py',
    # The address of a Ray cluster, where one is given.
    ROOT / 'maskomaly_ros' / 'mining' / 'fleet.py',
}
NETWORK_LIBRARIES = {'http', 'huggingface_hub', 'requests', 'socket', 'urllib.request', 'urllib3'}
# Runs a program in which connections, processes and shells end it.
CLOSED = """
import sys
def refuse(event, arguments):
    if event in ('socket.connect', 'socket.getaddrinfo', 'subprocess.Popen', 'os.system',
                 'os.posix_spawn', 'os.exec'):
        sys.stderr.write(f'REFUSED {event} {arguments}\\n')
        raise PermissionError(event)
import numpy
from maskomaly_ros.detector import Detector
import maskomaly_ros.networks.transformers_network  # whose libraries ask the linker for others
sys.addaudithook(refuse)
detector = Detector.from_checkpoint('demo', device='cpu')
detector.detect([numpy.zeros((36, 64, 3), numpy.uint8)])
"""


def calls(path: Path, name: str) -> list[ast.Call]:
    """Return the calls of a function, such as `torch.load`, in a module."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in found if ast.unparse(call.func) == name]


def test_torch_loads_weights_only() -> None:
    found = [call for path in MODULES for call in calls(path, 'torch.load')]
    assert found
    for call in found:
        options = {k.arg: ast.unparse(k.value) for k in call.keywords}
        assert options.get('weights_only') == 'True', ast.unparse(call)


def test_nothing_is_unpickled_but_by_the_reader_of_checkpoints() -> None:
    users = {
        path
        for path in MODULES
        for name in ('pickle.load', 'pickle.loads', 'pickle.Unpickler')
        if calls(path, name)
    }
    assert users == set()


def test_only_few_modules_reach_beyond_this_machine() -> None:
    for path in MODULES:
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
        names |= {name.partition('.')[0] for name in names}
        assert not names & NETWORK_LIBRARIES or path in NETWORK_USERS, path


@pytest.mark.slow
def test_loading_and_detecting_connects_to_nobody_and_starts_nothing() -> None:
    answer = subprocess.run(
        [sys.executable, '-c', CLOSED],
        env={**os.environ, 'PYTHONPATH': str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert 'REFUSED' not in answer.stderr
    assert answer.returncode == 0, answer.stderr
