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

"""The table of parameters, and what is printed from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from maskomaly_ros.cli.main import app
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.parameter_table import TABLE, check, json_schema, markdown

ROOT = Path(__file__).resolve().parents[1]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({'reject_wieght': 0.9}, 'reject_wieght is unknown; did you mean reject_weight'),
    ({'threshold_of_all': 0.9}, 'parameter threshold_of_all is unknown'),
    ({'heatmap_encoding': '16UC1'}, 'parameter heatmap_encoding is unknown'),
    ({'precision': 'float8'}, "precision 'float8' is unknown; use float32 or float16 or bfloat16"),
    ({'jpeg_quality': 5000}, 'jpeg_quality is 5000; it must be 1 to 100'),
    ({'jpeg_quality': 80.0}, 'jpeg_quality is 80.0; it must be of type INTEGER'),
    ({'reject_weight': 1}, 'reject_weight is 1; it must be of type DOUBLE'),
    ({'reject_weight': float('nan')}, 'reject_weight is nan'),
    ({'temporal_window': 4}, 'temporal_window is 4; it must be 3 to 7 in steps of 2'),
    ({'device': 'gpu'}, "device 'gpu' is wrong: .*cuda:N"),
    ({'camera_topics': '/front'}, 'camera_topics is .*STRING_ARRAY'),
    ({'autostart': 'yes'}, "autostart is 'yes'; it must be of type BOOL"),
    ({'frame_width': 640}, 'frame_width 640 and frame_height 0: give both'),
    ({'timeout_warn': 2.0, 'timeout_error': 1.0}, 'timeout_error 1.0 is below timeout_warn 2.0'),
    ({'rate_warn': 2.0, 'rate_error': 5.0}, 'rate_error 5.0 is above rate_warn 2.0'),
]


@pytest.mark.parametrize(('values', 'words'), WRONG)
def test_what_is_wrong_is_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(MaskomalyError, match=words):
        check(values)


@pytest.mark.parametrize(('values', 'words'), WRONG)
def test_node_and_files_refuse_in_the_same_words(
    tmp_path: Path, values: dict[str, Any], words: str
) -> None:
    rclpy = pytest.importorskip('rclpy')
    from maskomaly_ros.node.parameters import Parameters
    from maskomaly_ros.parameters import read_parameters

    path = tmp_path / 'p.yaml'
    path.write_text(yaml.safe_dump({'/**': {'ros__parameters': values}}))
    with pytest.raises(MaskomalyError, match=words) as offline:
        read_parameters(path)
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node(
        'maskomaly', context=context, cli_args=['--ros-args', '--params-file', str(path)]
    )
    try:
        with pytest.raises(MaskomalyError, match=words) as live:
            Parameters(node, lambda topics: None)
    finally:
        node.destroy_node()
        context.shutdown()
    assert str(offline.value) == f'{path}: {live.value}'


def test_every_wrong_parameter_is_named_at_once() -> None:
    with pytest.raises(MaskomalyError) as refused:
        check({'jpeg_quality': 0, 'max_agee': 1.0})
    assert 'jpeg_quality' in str(refused.value)
    assert 'max_agee' in str(refused.value)


def test_what_every_node_has_is_let_through() -> None:
    check({'use_sim_time': True, 'qos_overrides./x.subscription.depth': 1, 'max_age': 0.5})


def test_defaults_pass_their_own_check() -> None:
    check({name: row.default for name, row in TABLE.items()})
    assert all(len(row.description) > 20 for row in TABLE.values())


def test_numbers_with_an_exponent_are_numbers(tmp_path: Path) -> None:
    from maskomaly_ros.parameters import read_parameters

    path = tmp_path / 'p.yaml'
    path.write_text('/**: {ros__parameters: {border_score: 1e-3, device: 1e}}')
    with pytest.raises(MaskomalyError, match="device '1e'"):
        read_parameters(path)
    path.write_text('/**: {ros__parameters: {border_score: 1e-3}}')
    assert read_parameters(path) == {'border_score': 0.001}


def test_printed_table_and_schema_are_current() -> None:
    """Print them anew: maskomaly params schema > config/camera.schema.json, and so the table."""
    written = (ROOT / 'config' / 'camera.schema.json').read_text()
    assert json.loads(written) == json.loads(json.dumps(json_schema()))
    assert markdown() in (ROOT / 'docs' / 'parameters.md').read_text()


def test_editors_are_told_every_range() -> None:
    (section,) = json_schema()['patternProperties'].values()
    properties = section['properties']['ros__parameters']['properties']
    ranged = {name: row for name, row in TABLE.items() if row.limits}
    assert len(ranged) > 20
    for name, row in ranged.items():
        number = next(
            k for k in properties[name].get('anyOf', [properties[name]]) if 'minimum' in k
        )
        assert (number['minimum'], number['maximum']) == row.limits, name
        assert not {'ge', 'le'} & number.keys(), name


def test_live_ones_are_marked_in_the_parameter_file() -> None:
    text = (ROOT / 'config' / 'camera.yaml').read_text()
    blocks = text.partition('ros__parameters:')[2].split('\n\n')
    for name, row in TABLE.items():
        (block,) = (b for b in blocks if f'\n    {name}: ' in b or f'\n    # {name}: ' in b)
        assert ('live' in block.lower()) == row.live or 'depth_tolerance' in block, name


def test_command_checks_a_file(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ['params', 'check', str(ROOT / 'config' / 'camera.yaml')])
    assert done.exit_code == 0, done.output
    path = tmp_path / 'p.yaml'
    path.write_text('/**: {ros__parameters: {jpeg_quality: 5000}}')
    done = CliRunner().invoke(app, ['params', 'check', str(path)])
    assert done.exit_code == 1
    assert '1 to 100' in done.output
