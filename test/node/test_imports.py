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

"""What the node does not import before it needs it: a start would take seconds longer."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip('rclpy')

HEAVY = (
    'av', 'h5py', 'huggingface_hub', 'matplotlib', 'numba', 'onnx', 'onnxruntime', 'onnxscript',
    'openvino', 'pandas', 'pyarrow', 'ray', 'rosbags', 'scipy', 'sklearn', 'sympy',
    'torch._dynamo', 'torch._inductor', 'torch.onnx', 'transformers', 'triton', 'typer',
)  # fmt: skip
CONFIGURED = (
    'maskomaly_ros.detector, maskomaly_ros.networks.automatic, maskomaly_ros.node.diagnostics, '
    'maskomaly_ros.node.outputs, maskomaly_ros.node.parameters, maskomaly_ros.node.worker'
)


@pytest.mark.parametrize(
    ('modules', 'heavy'),
    [
        ('maskomaly_ros.node.maskomaly_node', (*HEAVY, 'torch', 'cv2')),
        (CONFIGURED, HEAVY),
    ],
    ids=['the process', 'a configured node'],
)
def test_imports(modules: str, heavy: tuple[str, ...]) -> None:
    program = f'import sys, {modules}; print(*(m for m in {heavy!r} if m in sys.modules))'
    done = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
