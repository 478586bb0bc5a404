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

"""What a ROS package has to be: complete, consistent, licensed, and built of the right parts."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
EXECUTABLES = {
    'maskomaly', 'maskomaly_event_recorder', 'maskomaly_node', 'maskomaly_player',
    'maskomaly_recorder',
}  # fmt: skip
NAME = 'maskomaly_ros'
PACKAGE = ROOT / NAME
HEADER = """\
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
"""
# Modules whose distribution has another name.
DISTRIBUTIONS = {
    'cv2': 'opencv-python',
    'PIL': 'pillow',
    'pynvml': 'nvidia-ml-py',
    'sklearn': 'scikit-learn',
    'yaml': 'pyyaml',
}
# In distributions of ROS only, not among its wheels.
WITHOUT_WHEEL = {
    'bondpy',
    'cv_bridge',
    'launch',
    'launch_ros',
    'rosbag2_py',
    'tf2_ros',
    'vision_msgs',
}
# Backends, profilers and yardsticks that are used where somebody has installed them.
OPTIONAL = {'detectron2', 'mask2former', 'motpy', 'nncf', 'road_anomaly_benchmark', 'triton'}


def modules(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob('*.py'))]
    assert found
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> set[str]:
    """Return the dotted names of everything that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            module = '.'.join([*parents, *filter(None, [node.module])])
            names |= {f'{module}.{alias.name}' for alias in node.names}
    return names


def packages(path: Path) -> set[str]:
    """Return the top-level packages that a module imports from outside Python and this one."""
    top = {name.partition('.')[0] for name in imports(path)}
    return top - set(sys.stdlib_module_names) - {NAME}


@pytest.fixture(scope='module')
def setup() -> Iterator[Any]:
    """Yield what setup.py and setup.cfg describe, read as colcon reads it."""
    pytest.importorskip('setuptools')
    from distutils.core import run_setup

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield run_setup('setup.py', stop_after='config')


@pytest.fixture(scope='module')
def manifest() -> ElementTree.Element:
    return ElementTree.parse(ROOT / 'package.xml').getroot()


def texts(manifest: ElementTree.Element, tag: str) -> list[str]:
    return [element.text or '' for element in manifest.findall(tag)]


def requirement_names(requirements: list[str]) -> set[str]:
    return {re.split(r'[\[<>=!~; ]', text)[0].lower() for text in requirements}


@pytest.mark.parametrize(
    'path',
    [ROOT / 'setup.py', *modules(NAME, 'launch', 'test', 'tools', 'benchmarks', 'docs')],
    ids=name_of,
)
def test_every_module_begins_with_the_licence(path: Path) -> None:
    assert path.read_text(encoding='utf-8').startswith(HEADER)


def test_manifest_is_a_valid_format_3(manifest: ElementTree.Element) -> None:
    assert manifest.tag == 'package'
    assert manifest.get('format') == '3'
    assert re.fullmatch('[a-z][a-z0-9_]+', texts(manifest, 'name')[0])
    assert re.fullmatch(r'\d+\.\d+\.\d+', texts(manifest, 'version')[0])
    for tag in ('name', 'version', 'description'):
        assert len(manifest.findall(tag)) == 1
    assert texts(manifest, 'license') == ['Apache-2.0']
    assert all('@' in element.get('email', '') for element in manifest.findall('maintainer'))
    assert manifest.findtext('export/build_type') == 'ament_python'
    for tag in ('exec_depend', 'test_depend'):
        assert texts(manifest, tag) == sorted(set(texts(manifest, tag)), key=by_origin)
    assert not set(texts(manifest, 'exec_depend')) & set(texts(manifest, 'test_depend'))


def by_origin(dependency: str) -> tuple[bool, str]:
    """Sort packages of ROS before those of the operating system."""
    return dependency.startswith('python3-'), dependency


def test_rosdep_knows_every_dependency(manifest: ElementTree.Element) -> None:
    known = yaml.safe_load((ROOT / 'test/data/rosdep_keys.yaml').read_text(encoding='utf-8'))
    used = texts(manifest, 'exec_depend') + texts(manifest, 'test_depend')
    assert sorted(set(used) - set(known)) == []


def test_manifest_names_a_page(manifest: ElementTree.Element) -> None:
    assert all(url.startswith('https://') for url in texts(manifest, 'url'))
    assert texts(manifest, 'url')


def test_oldest_versions_are_those_that_setup_admits(setup: Any) -> None:
    lines = (ROOT / 'constraints' / 'oldest.txt').read_text(encoding='utf-8').splitlines()
    oldest = [line.lower().split('==') for line in lines if not line.startswith('#')]
    bounds = [re.split('>=', r.lower()) for r in setup.install_requires if '>=' in r]
    assert [name for name, _ in oldest] == [name for name, _ in bounds]
    for (name, version), (_, bound) in zip(oldest, bounds, strict=True):
        assert version.removesuffix('.0').removesuffix('.0') == bound, name


def test_readme_lets_pip_upgrade_what_a_distribution_ships_too_old(setup: Any) -> None:
    """The Python of Ubuntu 24.04 has a typer that the command line does not run with."""
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    line = next(x for x in readme.splitlines() if x.strip().startswith('pip install torch'))
    bounds = {'opencv-python', 'pydantic', 'transformers', 'typer'}
    for requirement in setup.install_requires:
        if re.split('[>=]', requirement)[0] in bounds:
            assert f"'{requirement}'" in line, requirement


def test_manifest_pleases_the_parser_of_the_build_tools() -> None:
    catkin_package = pytest.importorskip('catkin_pkg.package')
    warnings: list[str] = []
    package = catkin_package.parse_package(str(ROOT / 'package.xml'), warnings=warnings)
    package.validate(warnings=warnings)
    assert warnings == []


def test_manifest_agrees_with_setup(manifest: ElementTree.Element, setup: Any) -> None:
    described = setup.metadata
    maintainer = manifest.find('maintainer')
    assert maintainer is not None
    assert texts(manifest, 'name') == [described.name]
    assert texts(manifest, 'version') == [described.version]
    assert texts(manifest, 'description') == [described.description]
    assert texts(manifest, 'license') == [described.license]
    assert texts(manifest, 'author') == [described.author]
    assert maintainer.text == described.maintainer
    # The format asks for an address; there is none, and none is invented.
    assert maintainer.get('email', '').endswith('.invalid')


def test_version_is_that_of_the_package(setup: Any) -> None:
    import maskomaly_ros

    assert setup.metadata.version == maskomaly_ros.__version__


def test_every_launch_and_config_file_is_installed(setup: Any) -> None:
    installed = {
        f'{folder}/{Path(source).name}': source
        for folder, sources in setup.data_files
        for source in sources
    }
    files = [path for folder in ('launch', 'config') for path in (ROOT / folder).rglob('*')]
    wanted = {
        f'share/{NAME}/{name_of(path)}': name_of(path)
        for path in files
        if path.is_file() and path.suffix != '.pyc'
    }
    assert len(wanted) >= 4
    wanted['share/ament_index/resource_index/packages/' + NAME] = f'resource/{NAME}'
    wanted[f'share/{NAME}/package.xml'] = 'package.xml'
    assert installed == wanted


def test_every_part_of_the_package_is_installed(setup: Any) -> None:
    folders = {path.parent.relative_to(ROOT).as_posix() for path in modules(NAME)}
    assert set(setup.packages) == {folder.replace('/', '.') for folder in folders}
    others = [path for path in PACKAGE.rglob('*') if path.is_file()]
    assert set(setup.package_data[NAME]) == {
        path.relative_to(PACKAGE).as_posix()
        for path in others
        if path.suffix not in {'.py', '.pyc'}
    }


def test_every_executable_has_its_function(setup: Any) -> None:
    scripts = setup.entry_points['console_scripts']
    assert {script.split(' = ')[0] for script in scripts} == EXECUTABLES
    for script in scripts:
        module, _, function = script.split(' = ')[1].partition(':')
        tree = ast.parse((ROOT / f'{module.replace(".", "/")}.py').read_text(encoding='utf-8'))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_import_is_a_declared_dependency(manifest: ElementTree.Element, setup: Any) -> None:
    of_ros = set(texts(manifest, 'exec_depend') + texts(manifest, 'test_depend'))
    extras = setup.extras_require
    of_pip = requirement_names([*setup.install_requires, *chain(*extras.values())])
    used = {
        package: path
        for path in modules(NAME, 'test', 'benchmarks', 'launch')
        for package in packages(path) - OPTIONAL
        if not path.with_name(f'{package}.py').exists()  # programs side by side
        and not (ROOT / 'test' / f'{package}.py').exists()
    }
    for package, path in used.items():
        distribution = DISTRIBUTIONS.get(package, package.replace('_', '-'))
        assert package in of_ros or distribution in of_pip, f'{name_of(path)} imports {package}'
        if package in of_ros - WITHOUT_WHEEL:
            assert f'ros-{package.replace("_", "-")}' in of_pip, package


def test_contracts_name_all_of_ros(manifest: ElementTree.Element) -> None:
    """What the contracts of `make lint` do not name, any part could import."""
    tomllib = pytest.importorskip('tomllib', reason='needs Python 3.11')
    contracts = tomllib.loads((ROOT / 'pyproject.toml').read_text())['tool']['importlinter']
    named = {name for each in contracts['contracts'] for name in each.get('forbidden_modules', [])}
    of_ros = {name for name in texts(manifest, 'exec_depend') if '-' not in name}
    without_modules = {'ros2bag', 'ros2launch', 'rosbag2_storage_default_plugins', 'rviz2'}
    assert of_ros - without_modules - {'ament_index_python'} <= named


def test_contracts_hold() -> None:
    pytest.importorskip('importlinter', reason='needs import-linter, of the extra dev')
    program = 'from importlinter.cli import lint_imports_command as lint; lint()'
    paths = {**os.environ, 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-c', program, '--no-cache']
    answer = subprocess.run(command, cwd=ROOT, env=paths, capture_output=True, text=True)
    assert 'kept, 0 broken' in answer.stdout, answer.stdout + answer.stderr
    assert answer.returncode == 0, answer.stdout


def test_scoring_imports_torch_alone() -> None:
    assert packages(PACKAGE / 'scoring.py') == {'torch'}


def test_scoring_loads_neither_ros_nor_a_network_library() -> None:
    program = f'import sys, {NAME}.scoring; print(*sys.modules)'
    answer = subprocess.run(
        [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(answer.stdout.split())
    assert 'torch' in loaded
    assert not loaded & {'rclpy', 'transformers', 'detectron2', 'sensor_msgs'}


def installed_files(share: Path) -> set[str]:
    """Return what is in share/maskomaly_ros, less what pip has compiled there."""
    files = (path for path in share.rglob('*') if path.is_file() and path.suffix != '.pyc')
    return {path.relative_to(share).as_posix() for path in files}


def shared_files(setup: Any) -> set[str]:
    """Return what has to be in share/maskomaly_ros, relative to it."""
    prefix = f'share/{NAME}'
    return {
        f'{folder}/{Path(source).name}'.removeprefix(f'{prefix}/')
        for folder, sources in setup.data_files
        for source in sources
        if folder.startswith(prefix)
    }


def outside_the_checkout(**variables: str) -> dict[str, str]:
    """Return the environment less what leads Python to this checkout."""
    return {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'} | variables


@pytest.mark.slow
def test_pip_installs_everything(setup: Any, tmp_path: Path) -> None:
    command = [sys.executable, 'setup.py', '--quiet', 'egg_info', '--egg-base', tmp_path]
    command += ['build', '--build-base', tmp_path / 'build']
    subprocess.run([*command, 'bdist_wheel', '--dist-dir', tmp_path], cwd=ROOT, check=True)
    [wheel] = tmp_path.glob('*.whl')
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f'{NAME}/{name}' for name in setup.package_data[NAME]} <= names
    assert {name_of(path) for path in modules(NAME)} <= names

    prefix = tmp_path / 'prefix'
    pip = [sys.executable, '-m', 'pip', '--isolated', 'install', '--no-index', '--no-deps']
    subprocess.run(
        [*pip, '--prefix', prefix, wheel], cwd=tmp_path, env=outside_the_checkout(), check=True
    )
    assert {path.name for path in (prefix / 'bin').iterdir()} == EXECUTABLES
    assert installed_files(prefix / 'share' / NAME) == shared_files(setup)


@pytest.mark.slow
def test_colcon_builds_a_workspace(setup: Any, tmp_path: Path) -> None:
    pytest.importorskip('colcon_ros', reason='needs colcon')
    pytest.importorskip('ament_package', reason='needs a ROS distribution or ros-ament-package')
    (tmp_path / 'src').mkdir()
    (tmp_path / 'src' / NAME).symlink_to(ROOT)
    colcon = [sys.executable, '-m', 'colcon', 'build', '--executor', 'sequential']
    subprocess.run(colcon, cwd=tmp_path, env=outside_the_checkout(), check=True)

    prefix = tmp_path / 'install' / NAME
    assert shared_files(setup) <= installed_files(prefix / 'share' / NAME)
    assert (prefix / 'share' / 'ament_index' / 'resource_index' / 'packages' / NAME).is_file()
    executables = prefix / 'lib' / NAME
    assert {path.name for path in executables.iterdir()} == EXECUTABLES

    # What `source install/setup.bash` sets.
    [site_packages] = prefix.glob('lib/python3*/site-packages')
    overlay = outside_the_checkout(PYTHONPATH=str(site_packages), AMENT_PREFIX_PATH=str(prefix))
    program = f'import {NAME}.share as share; print(share.__file__, share.share_directory())'
    answer = subprocess.run(
        [sys.executable, '-c', program],
        cwd=tmp_path, env=overlay, capture_output=True, text=True, check=True,
    )  # fmt: skip
    module, share = map(Path, answer.stdout.split())
    assert site_packages in module.parents
    assert share == prefix / 'share' / NAME
    answer = subprocess.run(
        [executables / 'maskomaly', '--help'],
        cwd=tmp_path, env=overlay, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert 'demo' in answer.stdout
