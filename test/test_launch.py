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

import os
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.interfaces import TYPES
from maskomaly_ros.rig.processes import free_domain

ROOT = Path(__file__).resolve().parents[1]
CAMERA = ROOT / 'launch' / 'camera.launch.py'
REPLAY = ROOT / 'launch' / 'replay.launch.py'
RECORDER = ROOT / 'launch' / 'event_recorder.launch.py'
PARAMETERS = ROOT / 'config' / 'camera.yaml'
# Test runs side by side must not hear each other.
DOMAIN = free_domain()
TIMEOUT = 30.0
# A parameter of the file, or one that is commented out there.
PARAMETER_LINE = re.compile(r'^ {4}(# )?([a-z_]+): (\S.*)$', re.MULTILINE)


def test_rviz_shows_the_camera_and_what_is_found_in_it() -> None:
    layout = yaml.safe_load((ROOT / 'config' / 'maskomaly.rviz').read_text(encoding='utf-8'))
    displays = layout['Visualization Manager']['Displays']
    assert all(display['Enabled'] and display['Value'] for display in displays)
    topics = {d['Topic']['Value']: d for d in displays if 'Topic' in d}
    names = ['image_raw', 'anomaly/heatmap/mono8', 'anomaly/mask', 'anomaly/overlay']
    names += ['anomaly/points', 'anomaly/markers']
    assert list(topics) == [f'/camera/{name}' for name in names]
    kinds = [display['Class'].removeprefix('rviz_default_plugins/') for display in topics.values()]
    assert kinds == ['Image'] * 4 + ['PointCloud2', 'MarkerArray']
    # A reliable subscription hears nothing of a best-effort camera driver.
    assert topics['/camera/image_raw']['Topic']['Reliability Policy'] == 'Best Effort'
    fixed = layout['Visualization Manager']['Global Options']['Fixed Frame']
    parameters = yaml.safe_load(PARAMETERS.read_text(encoding='utf-8'))['/**']['ros__parameters']
    assert fixed == parameters['target_frame']


def test_layouts_and_costmap_name_topics_that_the_node_has() -> None:
    costmap = yaml.safe_load((ROOT / 'config' / 'nav2_costmap.yaml').read_text(encoding='utf-8'))
    layer = costmap['local_costmap']['local_costmap']['ros__parameters']['obstacle_layer']
    source = layer[layer['observation_sources']]
    assert (source['topic'], source['data_type']) == ('/camera/anomaly/points', 'PointCloud2')
    text = (ROOT / 'config' / 'foxglove_layout.json').read_text(encoding='utf-8')
    found = set(re.findall(r'/camera/anomaly/([a-z_0-9/]+)"', text))
    assert found == {'annotations', 'heatmap', 'points', 'markers'}
    assert found <= set(TYPES)
    panels = set(re.findall(r'"((?:Image|3D|DiagnosticSummary)![a-z]+)": \{', text))
    used = set(re.findall(r'"(?:first|second)": "([^"]+)"', text))
    assert panels == used


def written_parameters() -> dict[str, bool]:
    """Return the parameters in camera.yaml and whether they are commented out."""
    lines = PARAMETER_LINE.findall(PARAMETERS.read_text(encoding='utf-8'))
    assert len(lines) == len({name for _, name, _ in lines})
    return {name: bool(comment) for comment, name, _ in lines}


def test_every_parameter_has_a_comment() -> None:
    lines = PARAMETERS.read_text(encoding='utf-8').splitlines()
    for number, line in enumerate(lines):
        found = PARAMETER_LINE.match(line)
        if found is None:
            continue
        above = lines[number - 1]
        assert above.startswith('    # ') or PARAMETER_LINE.match(above), found[2]


@contextmanager
def node_with(params_file: Path | None) -> Iterator[Any]:
    """Make the node, unconfigured, with the parameters of a file."""
    rclpy = pytest.importorskip('rclpy')
    from maskomaly_ros.node.maskomaly_node import MaskomalyNode

    arguments = [] if params_file is None else ['--params-file', str(params_file)]
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = MaskomalyNode(context=context, cli_args=['--ros-args', *arguments], namespace='/any')
    try:
        yield node
    finally:
        node.destroy_node()
        context.try_shutdown()


def test_parameter_file_has_every_parameter_and_its_default() -> None:
    written = written_parameters()
    with node_with(None) as node:
        declared = set(node.get_parameters_by_prefix(''))
        defaults = {name: node.get_parameter_or(name).value for name in written}
    assert declared - set(written) <= {'use_sim_time', 'start_type_description_service'}
    assert set(written) <= declared
    for name, is_comment in written.items():
        assert (defaults[name] is None) == is_comment, name
    with node_with(PARAMETERS) as node:
        assert {name: node.get_parameter_or(name).value for name in written} == defaults


def test_parameters_that_are_commented_out_can_be_used(tmp_path: Path) -> None:
    text = PARAMETERS.read_text(encoding='utf-8')
    everything = tmp_path / 'everything.yaml'
    everything.write_text(PARAMETER_LINE.sub(r'    \2: \3', text), encoding='utf-8')
    with node_with(everything) as node:
        assert node.get_parameter('reject_weight').value == 0.6
        assert node.get_parameter('variant').value == 'paper'


class Prefix:
    """An installation with links to this checkout."""

    def __init__(self, prefix: Path) -> None:
        self.path = prefix
        index = prefix / 'share' / 'ament_index' / 'resource_index' / 'packages'
        index.mkdir(parents=True)
        for package in ('maskomaly_ros', 'rviz2', 'ros2bag'):
            (index / package).touch()
        (prefix / 'share' / 'maskomaly_ros').symlink_to(ROOT)

    def add_executable(self, path: str, command: str) -> None:
        executable = self.path / path
        executable.parent.mkdir(parents=True, exist_ok=True)
        executable.write_text(f'#!/bin/sh\n{command}\n', encoding='utf-8')
        executable.chmod(0o755)


def make_bag(folder: Path) -> Path:
    """Make a bag as far as its metadata go: two cameras, one of them with two topics."""
    topics = {
        '/front/image_raw/compressed': 'sensor_msgs/msg/CompressedImage',
        '/front/image_raw': 'sensor_msgs/msg/Image',
        '/rear/image_raw/compressed': 'sensor_msgs/msg/CompressedImage',
        '/tf': 'tf2_msgs/msg/TFMessage',
    }
    entries = [{'topic_metadata': {'name': n, 'type': t}} for n, t in topics.items()]
    bag = folder / 'bag'
    bag.mkdir()
    content = {'rosbag2_bagfile_information': {'topics_with_message_count': entries}}
    (bag / 'metadata.yaml').write_text(yaml.safe_dump(content), encoding='utf-8')
    return bag


# What launch files decide needs no launch: stand-ins take the place of its classes.
SHARED = 'maskomaly_ros.node.launching'


class Made:
    """Stands for anything of launch and launch_ros: keeps what it was made of."""

    def __init__(self, *values: Any, **options: Any) -> None:
        self.values, self.options = values, options


class StandIn(ModuleType):
    """A module in which every class is there."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return type(name, (Made,), {})


MODULES = (
    'launch', 'launch.actions', 'launch.event_handlers', 'launch.events', 'launch.events.process',
    'launch.launch_description_sources', 'launch.substitutions', 'launch_ros',
    'launch_ros.actions', 'launch_ros.event_handlers',
)  # fmt: skip


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Prefix]:
    """Return an installation that this process sees, and let launch files be imported."""
    made = Prefix(tmp_path)
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    monkeypatch.setenv('PATH', f'{tmp_path}/bin', prepend=os.pathsep)
    for variable in ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE'):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    for name in MODULES:
        monkeypatch.setitem(sys.modules, name, StandIn(name))
    sys.modules.pop(SHARED, None)
    yield made
    sys.modules.pop(SHARED, None)  # made of stand-ins


def declared_arguments(launch_file: Path) -> dict[str, dict[str, Any]]:
    """Return the keywords of every argument that a launch file declares, by its name."""
    actions = runpy.run_path(str(launch_file))['ARGUMENTS']
    assert {type(action).__name__ for action in actions} == {'DeclareLaunchArgument'}
    return {action.values[0]: action.options for action in actions}


def context(launch_file: Path, environment: dict[str, str] | None = None, **given: str) -> Any:
    """Return a context with what was given and the defaults of the other arguments."""
    known = {
        name: options['default_value']
        for name, options in declared_arguments(launch_file).items()
        if 'default_value' in options
    }
    return SimpleNamespace(
        launch_configurations=known | given, environment=environment or {}, is_shutdown=False
    )


@pytest.mark.parametrize('launch_file', sorted(ROOT.glob('launch/*')), ids=lambda path: path.name)
def test_every_argument_is_described(prefix: Prefix, launch_file: Path) -> None:
    assert launch_file.name.endswith('.launch.py')
    arguments = declared_arguments(launch_file)
    assert arguments
    for name, keywords in arguments.items():
        assert keywords['description'].endswith('.'), name


def test_cameras_have_the_promised_arguments(prefix: Prefix) -> None:
    arguments = declared_arguments(CAMERA)
    assert set(arguments) == {
        'params_file', 'camera_topics', 'checkpoint', 'queries_file', 'device', 'autostart',
        'name', 'namespace', 'use_sim_time', 'respawn', 'respawn_delay', 'log_level', 'rviz',
        'dds_profile',
    }  # fmt: skip
    for name in ('autostart', 'use_sim_time', 'respawn', 'log_level', 'rviz'):
        assert 'choices' in arguments[name], name


@pytest.mark.parametrize('given_in', ['argument', 'params_file'])
@pytest.mark.parametrize('topic', ['/front/image_raw', '/front/image_raw/compressed'])
def test_rviz_is_laid_out_for_the_first_camera(
    prefix: Prefix, tmp_path: Path, given_in: str, topic: str
) -> None:
    prefix.add_executable('lib/rviz2/rviz2', 'true')
    mine = tmp_path / 'mine.yaml'
    mine.write_text(f'/**: {{ros__parameters: {{camera_topics: [{topic}, /rear/image_raw]}}}}')
    given = {'params_file': str(mine), 'rviz': 'true'}
    if given_in == 'argument':
        given |= {'params_file': str(PARAMETERS), 'camera_topics': f'{topic},/rear/image_raw'}
    *_, viewer = runpy.run_path(str(CAMERA))['start'](context(CAMERA, **given))
    option, path = viewer.options['arguments']
    assert option == '-d'
    layout = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
    displays = layout['Visualization Manager']['Displays']
    # RViz takes from the topic of a display how its picture is compressed.
    outputs = 'heatmap/mono8', 'mask', 'overlay', 'points', 'markers'
    assert [display['Topic']['Value'] for display in displays if 'Topic' in display] == [
        topic,
        *(f'/front/anomaly/{name}' for name in outputs),
    ]


@pytest.mark.parametrize(
    ('choice', 'environment', 'expected'),
    [
        ('auto', {}, 'fastdds.xml'),
        ('auto', {'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp'}, 'fastdds.xml'),
        ('auto', {'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}, None),
        ('auto', {'FASTDDS_DEFAULT_PROFILES_FILE': '/mine.xml'}, None),
        ('none', {}, None),
    ],
)
def test_fast_dds_gets_a_profile_where_it_has_none(
    prefix: Prefix, choice: str, environment: dict[str, str], expected: str | None
) -> None:
    profile = runpy.run_path(str(CAMERA))['dds_profile']
    actions = profile(context(CAMERA, environment, dds_profile=choice))
    paths = {Path(action.values[1]).name for action in actions if len(action.values) == 2}
    assert paths == ({expected} if expected else set())


@pytest.mark.parametrize(
    ('given', 'reason'),
    [
        ({'dds_profile': '/nowhere.xml'}, "dds_profile is '/nowhere.xml'"),
        *(
            ({'respawn_delay': delay}, f"respawn_delay is '{delay}'")
            for delay in ('soon', '-1', 'nan')
        ),
        ({'params_file': '/nowhere.yaml'}, 'cannot read the parameter file /nowhere.yaml'),
        ({'name': 'front', 'params_file': 'other.yaml'}, 'no parameters for the node front'),
        ({'rviz': 'true'}, 'rviz2 is not installed: sudo apt install'),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    prefix: Prefix, tmp_path: Path, given: dict[str, str], reason: str
) -> None:
    (tmp_path / 'other.yaml').write_text('/other: {ros__parameters: {max_age: 1.0}}')
    with pytest.raises((RuntimeError, MaskomalyError), match=re.escape(reason)):
        runpy.run_path(str(CAMERA))['start'](context(CAMERA, **given))


def test_only_what_was_given_overrides_the_file(prefix: Prefix) -> None:
    start = runpy.run_path(str(CAMERA))['start']
    (node,) = start(context(CAMERA, dds_profile='none'))
    assert len(node.options['parameters']) == 1
    given = {'camera_topics': '/a, [b', 'autostart': 'false', 'device': 'cpu'}
    (node,) = start(context(CAMERA, dds_profile='none', **given))
    assert node.options['parameters'][1] == {
        'camera_topics': ['/a', '[b'], 'autostart': False, 'device': 'cpu'
    }  # fmt: skip
    (node,) = start(context(CAMERA, dds_profile='none', camera_topics='[/a, /b]'))
    assert node.options['parameters'][1] == {'camera_topics': ['/a', '/b']}


def test_the_event_recorder_takes_what_was_given(prefix: Prefix) -> None:
    start = runpy.run_path(str(RECORDER))['start']
    (node,) = start(context(RECORDER))
    assert len(node.options['parameters']) == 1
    given = {'autostart': 'false', 'folder': '/events', 'respawn': 'true', 'respawn_delay': '5'}
    for topics in ('/a, /b', '[/a, /b]'):
        (node,) = start(context(RECORDER, camera_topics=topics, **given))
        assert node.options['parameters'][1] == {
            'camera_topics': ['/a', '/b'], 'autostart': False, 'folder': '/events'
        }  # fmt: skip
        assert (node.options['respawn'], node.options['respawn_delay']) == (True, 5.0)


@pytest.mark.parametrize(
    ('missing', 'reason'),
    [
        ('ros2bag', '`ros2 bag` is not installed'),
        ('topics', 'or give camera_topics'),
        ('bag', 'there is no bag'),
    ],
)
def test_replay_that_cannot_be_is_refused(prefix: Prefix, missing: str, reason: str) -> None:
    bag = make_bag(prefix.path)
    prefix.add_executable('bin/ros2', 'true')
    if missing == 'topics':
        (bag / 'metadata.yaml').unlink()
    elif missing == 'bag':
        bag = bag / 'nothing'
    else:
        (prefix.path / 'share/ament_index/resource_index/packages' / missing).unlink()
    with pytest.raises((RuntimeError, MaskomalyError), match=reason):
        runpy.run_path(str(REPLAY))['play_when_ready'](context(REPLAY, bag=str(bag)))


def test_replay_ends_with_the_player_and_with_a_node_that_is_gone(prefix: Prefix) -> None:
    defined = runpy.run_path(str(REPLAY))
    known, node = context(REPLAY), SimpleNamespace(process_name='maskomaly_node-1', returncode=1)
    with pytest.raises(RuntimeError, match='the node ended with status 1'):
        defined['end_with_node'](node, known)
    player = SimpleNamespace(process_name='ros2-2', returncode=3)
    assert defined['end_with_node'](player, known) is None
    with pytest.raises(RuntimeError, match='ros2 bag play failed with status 3'):
        defined['end'](player, known)
    assert len(defined['end'](SimpleNamespace(returncode=0), known)) == 1
    known.launch_configurations['respawn'] = 'true'
    assert defined['end_with_node'](node, known) is None


# The rest starts the launch files, as `ros2 launch` does, with a stand-in for an installation.
LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

source = PythonLaunchDescriptionSource(sys.argv[1])
given = [argument.split(':=', 1) for argument in sys.argv[2:]]
service = LaunchService()
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=given)])
)
sys.exit(service.run())
"""


class Installation(Prefix):
    """Launch processes that see an installation of the node."""

    def __init__(self, prefix: Path) -> None:
        pytest.importorskip('launch_ros.actions', reason='launch_ros: run in a ROS distribution')
        super().__init__(prefix)
        self.environment: dict[str, str] = {}
        module = 'maskomaly_ros.node'
        self.add_executable(
            'lib/maskomaly_ros/maskomaly_node', f'exec {sys.executable} -m {module} "$@"'
        )

    @contextmanager
    def launch(self, launch_file: Path, **arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Launch; at the end, interrupt what still runs."""
        before = {
            'AMENT_PREFIX_PATH': self.path,
            'PATH': self.path / 'bin',
            'PYTHONPATH': ROOT,
        }
        environment = {
            name: os.pathsep.join([str(path), *filter(None, [os.environ.get(name)])])
            for name, path in before.items()
        } | {'ROS_DOMAIN_ID': str(DOMAIN), 'ROS_LOG_DIR': str(self.path / 'log')}
        process = subprocess.Popen(
            [sys.executable, '-c', LAUNCH, launch_file]
            + [f'{name}:={value}' for name, value in arguments.items()],
            cwd=self.path,
            env=os.environ | environment | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=TIMEOUT)
            finally:
                process.kill()


def wait_for(path: Path) -> None:
    end = time.monotonic() + TIMEOUT
    while not path.exists():
        assert time.monotonic() < end, f'no {path} within {TIMEOUT} s'
        time.sleep(0.05)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def parameters_of(node_name: str, names: list[str]) -> dict[str, Any]:
    """Ask a node in another process for its parameters."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import parameter_value_to_python
    from rclpy.parameter_client import AsyncParameterClient

    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    executor = SingleThreadedExecutor(context=context)
    node = rclpy.create_node('test_peer', context=context)
    executor.add_node(node)
    try:
        client = AsyncParameterClient(node, node_name)
        assert client.wait_for_services(TIMEOUT)
        future = client.get_parameters(names)
        executor.spin_until_future_complete(future, TIMEOUT)
        values = [parameter_value_to_python(value) for value in future.result().values]
        return dict(zip(names, values, strict=True))
    finally:
        node.destroy_node()
        executor.shutdown()
        context.try_shutdown()


@pytest.mark.slow
def test_cameras_get_the_file_and_what_was_given(
    installation: Installation, tmp_path: Path
) -> None:
    mine = tmp_path / 'mine.yaml'
    mine.write_text('/**: {ros__parameters: {jpeg_quality: 33, device: cuda, autostart: false}}')
    given = {
        'params_file': str(mine),
        'camera_topics': '/front/image_raw, rear/image/compressed',
        'device': 'cuda:1',
        'queries_file': '/data/queries.yaml',
        'namespace': 'car',
        'name': 'front',
        'log_level': 'warn',
    }
    with installation.launch(CAMERA, **given) as process:
        expected = {
            'camera_topics': ['/front/image_raw', 'rear/image/compressed'],
            'device': 'cuda:1',
            'queries_file': '/data/queries.yaml',
            'jpeg_quality': 33,
            'checkpoint': 'demo',
            'use_sim_time': False,
        }
        assert parameters_of('/car/front', list(expected)) == expected
    assert process.returncode == 0


@pytest.mark.slow
def test_rviz_shows_the_camera(installation: Installation, tmp_path: Path) -> None:
    shown = tmp_path / 'shown'
    installation.add_executable(
        'lib/rviz2/rviz2', f'cp "$2" {shown}.rviz; echo "$@" > {shown}.new; mv {shown}.new {shown}'
    )
    with installation.launch(
        CAMERA, autostart='false', rviz='true', camera_topics='/front/image_raw'
    ):
        wait_for(shown)
    assert shown.read_text(encoding='utf-8').startswith('-d ')
    assert 'Value: /front/image_raw\n' in shown.with_suffix('.rviz').read_text(encoding='utf-8')


@pytest.mark.slow
@pytest.mark.parametrize('content', [None, '/other: {ros__parameters: {max_age: 1.0}}'])
def test_a_parameter_file_without_the_node_starts_nothing(
    installation: Installation, tmp_path: Path, content: str | None
) -> None:
    installation.add_executable('lib/maskomaly_ros/maskomaly_node', f'touch {tmp_path}/started')
    mine = tmp_path / 'mine.yaml'
    if content is not None:
        mine.write_text(content)
    with installation.launch(CAMERA, params_file=str(mine)) as process:
        output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert str(mine) in output
    assert not (tmp_path / 'started').exists()


@pytest.mark.slow
def test_without_rviz_nothing_is_started_for_it(
    installation: Installation, tmp_path: Path
) -> None:
    installation.add_executable('lib/maskomaly_ros/maskomaly_node', f'touch {tmp_path}/started')
    with installation.launch(CAMERA, rviz='true') as process:
        output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert 'rviz2 is not installed' in output
    assert 'sudo apt install' in output
    assert not (tmp_path / 'started').exists()


@pytest.mark.slow
def test_fast_dds_has_room_for_frames(installation: Installation, tmp_path: Path) -> None:
    seen = tmp_path / 'seen'
    installation.add_executable(
        'lib/maskomaly_ros/maskomaly_node',
        f'echo "${{FASTDDS_DEFAULT_PROFILES_FILE:-none}}" > {seen}.new; mv {seen}.new {seen}',
    )
    with installation.launch(CAMERA):
        wait_for(seen)
    assert seen.read_text(encoding='utf-8').strip().endswith('fastdds.xml')


@pytest.mark.slow
def test_a_wrong_choice_is_refused(installation: Installation) -> None:
    with installation.launch(CAMERA, autostart='maybe') as process:
        output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode != 0
    assert "['', 'true', 'false']" in output


@pytest.mark.slow
def test_a_node_that_ends_is_started_again(installation: Installation, tmp_path: Path) -> None:
    starts = tmp_path / 'starts'
    installation.add_executable(
        'lib/maskomaly_ros/maskomaly_node',
        f'echo x >> {starts}; [ $(wc -l < {starts}) -lt 3 ] && exit 1; '
        f'touch {tmp_path}/third; exec sleep 60',
    )
    with installation.launch(CAMERA, respawn='true', respawn_delay='0.1'):
        wait_for(tmp_path / 'third')


@pytest.mark.slow
def test_replay_plays_once_the_node_is_active_and_ends_with_the_bag(
    installation: Installation, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    bag = make_bag(tmp_path)
    installation.add_executable(
        'bin/ros2', f'echo $(date +%s.%N) $FASTDDS_DEFAULT_PROFILES_FILE "$@" > {tmp_path}/played'
    )
    given = {'bag': str(bag), 'rate': '0.5', 'checkpoint': str(tiny_checkpoint), 'device': 'cpu'}
    with installation.launch(REPLAY, **given) as process:
        output, _ = process.communicate(timeout=2 * TIMEOUT)
    assert process.returncode == 0, output
    assert '[maskomaly_node-1]: process has finished cleanly' in output
    started, profile, *played = (tmp_path / 'played').read_text(encoding='utf-8').split()
    assert played == ['bag', 'play', str(bag), '--clock', '100', '--rate', '0.5']
    assert Path(profile).resolve() == ROOT / 'config' / 'fastdds.xml'
    active = re.search(r'\[(\d+\.\d+)\] \[maskomaly\]: active; waiting for (.*)', output)
    assert active is not None
    assert active[2].startswith('frames of /front/image_raw, /rear/image_raw/compressed')
    assert float(started) > float(active[1])


@pytest.mark.slow
def test_replay_fails_with_the_player(
    installation: Installation, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    installation.add_executable('bin/ros2', 'exit 3')
    given = {'bag': str(make_bag(tmp_path)), 'checkpoint': str(tiny_checkpoint), 'device': 'cpu'}
    with installation.launch(REPLAY, **given) as process:
        output, _ = process.communicate(timeout=2 * TIMEOUT)
    assert process.returncode == 1, output
    assert 'ros2 bag play failed with status 3' in output
    assert '[maskomaly_node-1]: process has finished cleanly' in output


@pytest.mark.slow
def test_replay_ends_with_a_node_that_fails(installation: Installation, tmp_path: Path) -> None:
    installation.add_executable('bin/ros2', f'touch {tmp_path}/played')
    installation.add_executable('lib/maskomaly_ros/maskomaly_node', 'exit 1')
    with installation.launch(REPLAY, bag=str(make_bag(tmp_path))) as process:
        output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1, output
    assert 'the node ended with status 1' in output
    assert not (tmp_path / 'played').exists()


@pytest.mark.slow
def test_replay_that_cannot_be_starts_nothing(installation: Installation, tmp_path: Path) -> None:
    installation.add_executable('lib/maskomaly_ros/maskomaly_node', f'touch {tmp_path}/started')
    with installation.launch(REPLAY, bag=str(tmp_path / 'nothing')) as process:
        output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode != 0
    assert f'there is no bag {tmp_path}/nothing' in output
    assert not (tmp_path / 'started').exists()


@pytest.mark.slow
def test_the_event_recorder_starts(installation: Installation, tmp_path: Path) -> None:
    started = tmp_path / 'started'
    installation.add_executable(
        'lib/maskomaly_ros/maskomaly_event_recorder',
        f'echo "$@" > {started}.new; mv {started}.new {started}',
    )
    with installation.launch(RECORDER, camera_topics='/front/image_raw', name='events'):
        wait_for(started)
    assert '__node:=events' in started.read_text(encoding='utf-8')


def test_aggregator_finds_what_the_node_says() -> None:
    text = (ROOT / 'config' / 'diagnostic_aggregator.yaml').read_text(encoding='utf-8')
    groups = yaml.safe_load(text)['/**']['ros__parameters']
    patterns = {
        name: group['contains'] for name, group in groups.items() if isinstance(group, dict)
    }
    tasks = {'network': 'car/maskomaly: network', 'cameras': 'maskomaly: camera /front/image_raw'}
    assert set(patterns) == set(tasks)
    for name, task in tasks.items():
        assert [p for p in patterns[name] if p in task]
        assert groups[name]['type'] == 'diagnostic_aggregator/GenericAnalyzer'
