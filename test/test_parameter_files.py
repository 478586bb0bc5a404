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

"""A parameter file is for the nodes that ROS takes it for, and refused where it has nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.parameter_files import check_arguments, read_section

PATTERNS = (
    '/**', '/*', '**', '*', 'maskomaly', '/maskomaly', '/**/maskomaly', '/*/maskomaly',
    '/car/maskomaly', 'car/maskomaly', '/car/*', '/car/**', '/car/other', '/other/maskomaly',
)  # fmt: skip


def write(path: Path, pattern: str) -> Path:
    path.write_text(yaml.safe_dump({pattern: {'ros__parameters': {'max_age': 1.0}}}))
    return path


@pytest.mark.parametrize('namespace', ['', '/car'])
def test_sections_are_those_that_ros_gives_the_node(tmp_path: Path, namespace: str) -> None:
    rclpy = pytest.importorskip('rclpy')
    for pattern in PATTERNS:
        path = write(tmp_path / 'p.yaml', pattern)
        context = rclpy.Context()
        rclpy.init(context=context)
        arguments = ['--ros-args', '--params-file', str(path)]
        node = rclpy.create_node(
            'maskomaly', context=context, namespace=namespace, cli_args=arguments
        )
        is_given = 'max_age' in node._parameter_overrides
        node.destroy_node()
        context.shutdown()
        try:
            check_arguments([*arguments, '-r', f'__ns:={namespace}'])
            is_accepted = True
        except MaskomalyError:
            is_accepted = False
        assert is_accepted == is_given, pattern


def test_name_and_namespace_of_the_arguments_count(tmp_path: Path) -> None:
    path = write(tmp_path / 'p.yaml', '/car/front')
    file = ['--ros-args', '--params-file', str(path)]
    check_arguments([*file, '-r', '__node:=front', '--remap', '__ns:=/car'])
    check_arguments([*file, '-r', 'maskomaly:__name:=front', '-r', '__ns:=/car', '-p', 'a:=1'])
    with pytest.raises(MaskomalyError, match='no parameters for the node /maskomaly; it has /car'):
        check_arguments(file)
    with pytest.raises(MaskomalyError, match='cannot read the parameter file'):
        check_arguments(['--params-file', str(tmp_path / 'none.yaml')])
    check_arguments(['-r', '__ns:=/car'])


def test_lists_that_a_launch_file_gives_are_read(tmp_path: Path) -> None:
    """launch_ros evaluates them to tuples and dumps those."""
    path = tmp_path / 'launch_params'
    given = {'camera_topics': ('/front/image_raw', '/rear/image_raw'), 'device': 'cpu'}
    path.write_text(yaml.dump({'/**': {'ros__parameters': given}}))
    assert '!!python/tuple' in path.read_text()
    check_arguments(['--params-file', str(path)])
    assert read_section(path) == {
        **given,
        'camera_topics': ['/front/image_raw', '/rear/image_raw'],
    }


def test_without_a_namespace_any_will_do(tmp_path: Path) -> None:
    path = write(tmp_path / 'p.yaml', '/car/front')
    assert read_section(path, 'front') == {'max_age': 1.0}
    with pytest.raises(MaskomalyError, match='the node rear'):
        read_section(path, 'rear')


def test_launch_files_can_read_without_waiting_for_torch() -> None:
    code = (
        'import sys, maskomaly_ros.parameter_files; '
        "print({'torch', 'numpy', 'rclpy'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert answer.stdout.strip() == 'set()'
