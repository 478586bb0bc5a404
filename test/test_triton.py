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

"""The tests of Triton's kernels where there is no GPU: in its interpreter.

Triton decides when it is imported whether it interprets, so that takes processes of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent
FILES = [
    path.relative_to(TESTS)
    for path in sorted(TESTS.rglob('test_*.py'))
    if '@pytest.mark.triton' in path.read_text(encoding='utf-8') and path != Path(__file__)
]


@pytest.mark.slow
@pytest.mark.timeout(900)  # half a minute, but several programs share the machine
@pytest.mark.skipif(
    torch.cuda.is_available() or os.environ.get('TRITON_INTERPRET') == '1',
    reason='nothing: the kernels run in this process',
)
@pytest.mark.parametrize('file', FILES, ids=str)
def test_kernels_in_the_interpreter(file: Path) -> None:
    pytest.importorskip('triton', reason='the package triton')
    result = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-m', 'triton', file],
        cwd=TESTS,
        env={**os.environ, 'TRITON_INTERPRET': '1'},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert result.returncode == 0, result.stdout[-5000:]
    assert 'passed' in result.stdout
    assert 'skipped' not in result.stdout
