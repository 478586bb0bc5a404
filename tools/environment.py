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

"""Print the Python of a virtual environment that has all that this checkout needs.

The environment is made where it is missing. It is kept outside the checkout under a name that
depends on what was asked for, so that a second run, and another clone, find it ready. It holds
the requirements only; the package itself is used from the checkout. It grows in stages: what the
demonstration needs comes first; what the documentation, tests and linters need is added when they
are first run.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What PyPI has ROS 2 wheels for.
WHEELS_FROM, WHEELS_TO, WHEELS_PLATFORM = (3, 10), (3, 13), ('linux', 'x86_64')
# Each stage holds those before it. The first picture of a new user should not wait for linters.
STAGES = {
    'demo': ('demo',),
    'docs': ('docs',),
    'test': ('fast', 'replay', 'evaluate', 'export', 'mine', 'test', 'dev'),
}
# An environment of its own, with the oldest versions of what the package requires. Of the extras
# it has what runs tests alone: what else is there says less of its oldest versions.
OLDEST = {'oldest': ('test',)}
# Runs in the environment, whose setuptools reads setup.py just as colcon does.
READ_REQUIREMENTS = """
import json, sys
import setuptools
from distutils.core import run_setup
package = run_setup('setup.py', stop_after='config')
extras = package.extras_require
print(json.dumps(package.install_requires + [r for e in sys.argv[1:] for r in extras[e]]))
"""


def main() -> None:
    """Make the environment if need be and print the path of its Python."""
    files = {path.stem for path in (ROOT / 'constraints').iterdir()}
    sets = sorted(files - {'common', 'numpy', 'oldest'})
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--cache', type=Path, required=True, help='folder of the environments')
    parser.add_argument(
        '--stage', choices=[*STAGES, *OLDEST], default='test', help='what it has to hold'
    )
    parser.add_argument('--wheels', choices=sets, default='jazzy', help='the set of ROS 2 wheels')
    arguments = parser.parse_args()

    stages, wanted = list(STAGES), arguments.stage
    if wanted in OLDEST:
        source, stages = oldest(arguments.wheels), list(OLDEST)
    else:
        source = distribution() or wheels(arguments.wheels)
    cache = arguments.cache.expanduser().absolute()
    folder = cache / f'venv-{source.name}-{source.key()}'
    stages = stages[: stages.index(wanted) + 1]
    if not is_complete(folder, stages):
        cache.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_suffix('.lock')):
            for stage in stages:
                if not is_complete(folder, [stage]):
                    add(stage, folder, source)
    sys.stdout.write(f'{python_of(folder)}\n')


def python_of(folder: Path) -> Path:
    """Return the interpreter of an environment."""
    return folder / 'bin' / 'python'


def is_complete(folder: Path, stages: Iterable[str]) -> bool:
    """Return whether an environment holds all of some stages."""
    return python_of(folder).exists() and all(stamp_of(folder, s).exists() for s in stages)


def stamp_of(folder: Path, stage: str) -> Path:
    """Return the file that says that a stage is whole."""
    return folder / f'.complete-{stage}'


@dataclass(frozen=True)
class RosSource:
    """Where ROS 2 comes from, and what that means for the environment."""

    name: str
    is_distribution: bool
    constraints: tuple[str, ...]

    def key(self) -> str:
        """Return a short hash of everything that decides what the environment holds."""
        digest = hashlib.sha256()
        for name in ('setup.py', 'tools/environment.py'):
            digest.update((ROOT / name).read_bytes())
        for fact in (sys.version, sys.base_prefix, platform.machine(), *self.constraints):
            digest.update(fact.encode())
        return digest.hexdigest()[:12]


def distribution() -> RosSource | None:
    """Return the ROS distribution whose setup file was sourced, if this Python can use it.

    numpy stays the distribution's own: the compiled half of its cv_bridge works with no other.
    """
    probe = 'import numpy, rclpy.node; print(numpy.__version__)'
    if not os.environ.get('AMENT_PREFIX_PATH'):
        return None
    answer = subprocess.run([sys.executable, '-c', probe], capture_output=True, text=True)
    if answer.returncode != 0:
        return None
    numpy = f'numpy=={answer.stdout.strip()}'
    name = os.environ.get('ROS_DISTRO', 'distribution')
    return RosSource(name, True, (*read_constraints('common'), numpy))


def wheels(name: str) -> RosSource:
    """Return a set of ROS 2 wheels; refuse a machine that there are none for."""
    machine = (sys.platform, platform.machine())
    if not WHEELS_FROM <= sys.version_info[:2] <= WHEELS_TO or machine != WHEELS_PLATFORM:
        sys.exit(
            f'There are no ROS 2 wheels for Python {platform.python_version()} on '
            f'{" ".join(machine)}: they need Python {dotted(WHEELS_FROM)} to '
            f'{dotted(WHEELS_TO)} on {" ".join(WHEELS_PLATFORM)}. Name another interpreter '
            '(make PYTHON=python3.12 ...) or source a ROS distribution first.'
        )
    return RosSource(name, False, read_constraints('common', 'numpy', name))


def oldest(name: str) -> RosSource:
    """Return a set of ROS 2 wheels beside the oldest versions of what the package requires."""
    pinned = read_constraints('oldest')
    names = {distribution_name(line) for line in pinned}
    others = [c for c in wheels(name).constraints if distribution_name(c) not in names]
    return RosSource(f'{name}-oldest', False, (*pinned, *others))


def distribution_name(requirement: str) -> str:
    """Return the name in a line of a constraints file, as pip compares it."""
    return requirement.partition('==')[0].lower().replace('_', '-')


def dotted(version: tuple[int, int]) -> str:
    """Return a version as people write it."""
    return '.'.join(map(str, version))


def read_constraints(*names: str) -> tuple[str, ...]:
    """Return the lines of some files in constraints/ that pin something."""
    lines = [
        line.strip()
        for name in names
        for line in (ROOT / 'constraints' / f'{name}.txt').read_text('utf-8').splitlines()
    ]
    return tuple(line for line in lines if line and not line.startswith('#'))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock among processes; the kernel lets go of it however this process ends."""
    with path.open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f'Waiting for another process that sets up {path.stem} ...')
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def add(stage: str, folder: Path, source: RosSource) -> None:
    """Install a stage; the first one makes the environment anew, whatever an attempt left."""
    is_first = stage in (next(iter(STAGES)), *OLDEST)
    say(f'Setting up {folder} for make {stage} (once; takes some minutes) ...')
    if is_first:
        make(folder, source)
    pinned = folder / 'constraints.txt'
    python = str(python_of(folder))
    pip = [python, '-m', 'pip', 'install', '--no-input', '--constraint', str(pinned)]
    extras = (STAGES | OLDEST)[stage]
    if not source.is_distribution:
        extras = ('ros', *extras)
    read = [python, '-c', READ_REQUIREMENTS, *extras]
    try:
        if is_first:
            subprocess.run([*pip, 'setuptools'], check=True, stdout=sys.stderr)
        answer = subprocess.run(read, check=True, cwd=ROOT, stdout=subprocess.PIPE)
        subprocess.run([*pip, *json.loads(answer.stdout)], check=True, stdout=sys.stderr)
    except subprocess.CalledProcessError as error:
        sys.exit(f'The set-up failed, see above (status {error.returncode}). Try again later.')
    stamp_of(folder, stage).touch()


def make(folder: Path, source: RosSource) -> None:
    """Make an environment with nothing in it but pip and what constrains it."""
    shutil.rmtree(folder, ignore_errors=True)
    if find_spec('ensurepip') is None:
        sys.exit(
            f'{sys.executable} cannot make virtual environments: install its venv module '
            '(Debian and Ubuntu: apt install python3-venv).'
        )
    venv.create(folder, with_pip=True, system_site_packages=source.is_distribution)
    text = '\n'.join(source.constraints) + '\n'
    (folder / 'constraints.txt').write_text(text, encoding='utf-8')


def say(text: str) -> None:
    """Tell the user something; standard output is for the path alone."""
    sys.stderr.write(text + '\n')
    sys.stderr.flush()


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
