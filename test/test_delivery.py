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

"""What surrounds the package: change log, versions, workflows and images agree with each other."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import maskomaly_ros

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTIONS = ('jazzy', 'kilted', 'lyrical')
MARKDOWN = """\
# Changelog

What this is.

## [Unreleased]

### Added

- Something `new`, in a line
  that goes on; see [a page](https://example.org/page) and [ours](docs/x.md).

### Fixed

- A thing.

## [0.1.0] - 2026-11-28

### Added

- The first.
"""


@pytest.fixture(scope='module')
def to_rst() -> Callable[[str], str]:
    function: Callable[[str], str] = runpy.run_path(str(ROOT / 'tools/changelog.py'))['to_rst']
    return function


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding='utf-8')


def versions_of(rst: str) -> dict[str, list[str]]:
    """Return the releases and items of a change log, read as bloom reads it."""
    log = pytest.importorskip('catkin_pkg.changelog', reason='needs catkin_pkg, of colcon-ros')
    found = log.populate_changelog_from_rst(log.Changelog('maskomaly_ros'), rst)
    return {name: [str(item) for item in items] for name, _, items in found.foreach_version()}


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_change_log_becomes_what_bloom_reads(to_rst: Callable[[str], str]) -> None:
    assert '\n\nForthcoming\n-----------\n* Added: Something' in to_rst(MARKDOWN)
    versions = versions_of(to_rst(MARKDOWN.replace('[Unreleased]', '[0.2.0] - 2026-12-24')))
    assert versions.keys() == {'0.2.0', '0.1.0'}
    text = '\n'.join(versions['0.2.0'])
    assert len(re.findall(r'^\* ', text, re.MULTILINE)) == 2
    assert 'Added: Something ``new``, in a line that goes on; see' in ' '.join(text.split())
    assert '<https://example.org/page>' in text
    assert 'docs/x.md' not in text
    assert 'Fixed: A thing.' in text


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [('## 0.1', "'## 0.1' is neither"), ('## [Unreleased]\n\n- A line.', 'No heading such as')],
)
def test_change_log_of_another_form_is_refused(
    to_rst: Callable[[str], str], wrong: str, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        to_rst(wrong)


def test_the_change_log_for_bloom_has_every_release(to_rst: Callable[[str], str]) -> None:
    """What is not released yet is printed anew with the release."""
    printed, written = to_rst(read('CHANGELOG.md')), read('CHANGELOG.rst')
    releases = r'^\d+\.\d+\.\d+ \(.*'
    assert re.findall(releases, printed, re.DOTALL | re.MULTILINE) == re.findall(
        releases, written, re.DOTALL | re.MULTILINE
    )


def test_every_file_names_the_same_version() -> None:
    citation = yaml.safe_load(read('CITATION.cff'))
    manifest = re.search('<version>(.*)</version>', read('package.xml'))
    assert manifest is not None
    assert citation['version'] == manifest[1] == maskomaly_ros.__version__


def test_workflows_cover_every_python_and_distribution() -> None:
    jobs = yaml.safe_load(read('.github/workflows/ci.yml'))['jobs']
    assert jobs['test']['strategy']['matrix']['python'] == ['3.10', '3.11', '3.12', '3.13']
    assert tuple(jobs['ros']['strategy']['matrix']['distribution']) == DISTRIBUTIONS


def test_images_differ_in_nothing_but_the_distribution() -> None:
    texts = {
        read(f'docker/Dockerfile.{name}').replace(name.title(), 'NAME').replace(name, 'NAME')
        for name in DISTRIBUTIONS
    }
    assert len(texts) == 1


def test_hooks_use_the_versions_that_lint_uses() -> None:
    hooks = yaml.safe_load(read('.pre-commit-config.yaml'))['repos'][0]['hooks']
    pinned = {line for hook in hooks for line in hook['additional_dependencies']}
    assert {line for line in pinned if line.startswith('ruff')} <= set(
        read('constraints/common.txt').splitlines()
    )
