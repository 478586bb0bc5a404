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

"""Run deptry on what setup.py declares, which it cannot read by itself.

It fails for a dependency that nobody imports and for an import that nobody declares. What needs
explaining stands in pyproject.toml under `tool.deptry`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import setuptools  # noqa: F401  # brings the distutils that newer Pythons lack

NAME = 'maskomaly_ros'
ROOT = Path(__file__).resolve().parents[1]
REST = ('benchmarks', 'docs', 'test', 'tools')
# What is needed to work on the package, not to use it.
FOR_DEVELOPERS = {'dev', 'docs', 'test'}


def main() -> int:
    """Return 1 if deptry finds something in the package, or in its tests and benchmarks."""
    from distutils.core import run_setup

    os.chdir(ROOT)
    package: Any = run_setup('setup.py', stop_after='config')
    needed, for_developers = set[str](package.install_requires), set[str]()
    for extra, requirements in package.extras_require.items():
        (for_developers if extra in FOR_DEVELOPERS else needed).update(requirements)
    own = deptry(
        ['.'], needed, for_developers - needed, '--extend-exclude', f'^({"|".join(REST)})/'
    )
    # Tests may import all of it, and what only they import is of use too.
    rest = deptry(['.', *REST], needed | for_developers, set())
    return not (own and rest)


def deptry(folders: list[str], needed: set[str], others: set[str], *options: str) -> bool:
    """Return whether deptry finds nothing wrong in some folders."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, '-m', 'deptry', *folders, *options]
        for option, lines in (('', needed), ('-dev', others)):
            file = Path(folder) / f'requirements{option}.txt'
            file.write_text('\n'.join(sorted(lines)) + '\n', encoding='utf-8')
            command += [f'--requirements-files{option}', str(file)]
        return subprocess.run(command).returncode == 0


if __name__ == '__main__':
    sys.exit(main())
