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

"""Launch files, the parameter file and the RViz layout."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CAMERA = ROOT / 'launch' / 'camera.launch.py'
REPLAY = ROOT / 'launch' / 'replay.launch.py'


def declared_arguments(launch_file: Path) -> dict[str, dict[str, Any]]:
    """Return the literal keywords of every argument that a launch file declares, by its name."""
    calls = [
        node
        for node in ast.walk(ast.parse(launch_file.read_text(encoding='utf-8')))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == 'DeclareLaunchArgument'
    ]
    return {
        ast.literal_eval(call.args[0]): {str(word.arg): word.value for word in call.keywords}
        for call in calls
    }


@pytest.mark.parametrize('launch_file', sorted(ROOT.glob('launch/*')), ids=lambda path: path.name)
def test_every_argument_is_described(launch_file: Path) -> None:
    assert launch_file.name.endswith('.launch.py')
    arguments = declared_arguments(launch_file)
    assert arguments
    for name, keywords in arguments.items():
        assert 'description' in keywords, name


def test_cameras_have_the_promised_arguments() -> None:
    arguments = declared_arguments(CAMERA)
    assert set(arguments) == {
        'params_file', 'camera_topics', 'checkpoint', 'device', 'autostart', 'namespace',
        'use_sim_time', 'log_level', 'rviz',
    }  # fmt: skip
    for name in ('device', 'autostart', 'use_sim_time', 'log_level', 'rviz'):
        assert 'choices' in arguments[name], name


def test_rviz_shows_the_camera_and_what_is_found_in_it() -> None:
    layout = yaml.safe_load((ROOT / 'config' / 'maskomaly.rviz').read_text(encoding='utf-8'))
    displays = layout['Visualization Manager']['Displays']
    assert {display['Class'] for display in displays} == {'rviz_default_plugins/Image'}
    assert all(display['Enabled'] and display['Value'] for display in displays)
    topics = {display['Topic']['Value']: display['Topic'] for display in displays}
    names = ['image_raw', 'anomaly/heatmap', 'anomaly/mask', 'anomaly/overlay']
    assert list(topics) == [f'/camera/{name}' for name in names]
    # A reliable subscription hears nothing of a best-effort camera driver.
    assert topics['/camera/image_raw']['Reliability Policy'] == 'Best Effort'
