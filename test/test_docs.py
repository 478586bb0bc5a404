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

"""What a reader relies on: a short README, links that lead somewhere, true tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from maskomaly_ros import interfaces

ROOT = Path(__file__).resolve().parents[1]
MOST_WORDS = 1000
FOLDERS = ('.', '.github', 'docs', 'docs/project', 'docs/tutorials', 'maskomaly_ros/networks/demo')
PAGES = sorted(page for folder in FOLDERS for page in (ROOT / folder).glob('*.md'))
FENCED = re.compile(r'^```.*?^```', re.MULTILINE | re.DOTALL)
LINK = re.compile(r'\]\((?![a-z]+:)([^)#\s]*)(?:#([^)\s]*))?\)')


def prose(page: Path) -> str:
    return FENCED.sub('', page.read_text(encoding='utf-8'))


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub and MyST name them."""
    headings = re.findall(r'^#+ (.*)$', prose(page).lower(), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading).strip().replace(' ', '-') for heading in headings}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_readme_is_short() -> None:
    assert len((ROOT / 'README.md').read_text(encoding='utf-8').split()) <= MOST_WORDS


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in LINK.findall(prose(page)):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f'{path} is not there'
        if anchor:
            assert anchor in anchors(target), f'{path} has no heading #{anchor}'


def test_the_site_shows_every_page() -> None:
    index = (ROOT / 'docs/index.rst').read_text(encoding='utf-8')
    listed = set(re.findall(r'^   ([a-z_/0-9]+)$', index, re.MULTILINE))
    docs = ROOT / 'docs'
    pages = {page.relative_to(docs).with_suffix('').as_posix() for page in docs.rglob('*.md')}
    assert pages == listed


def test_topics_have_the_types_that_are_published() -> None:
    page = (ROOT / 'docs/topics.md').read_text(encoding='utf-8')
    rows = dict(re.findall(r'^\| `([\w/]+)` \| `(\w+/\w+)`', page, re.MULTILINE))
    published = {name: kind.replace('/msg/', '/') for name, kind in interfaces.TYPES.items()}
    assert rows == {**published, 'camera_info': 'sensor_msgs/CameraInfo'}


def commands_in(page: Path) -> list[str]:
    """Return the calls of `maskomaly` in the code of a page, with lines joined that go on."""
    text = page.read_text(encoding='utf-8').replace('\\\n', ' ')
    blocks = re.findall(r'^ {4,}(?:\$ )?maskomaly (.*)$', text, re.MULTILINE)
    return blocks + re.findall(r'`maskomaly ([a-z][^`]*)`', text)


@pytest.fixture(scope='module')
def maskomaly() -> Any:
    import typer

    from maskomaly_ros.cli.main import app

    return typer.main.get_command(app)


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_commands_have_the_options_that_pages_name(page: Path, maskomaly: Any) -> None:
    for line in commands_in(page):
        command = maskomaly
        words = re.split(r'\s+', line.partition(' #')[0].partition(' && ')[0])
        while words and hasattr(command, 'commands'):
            if words[0].startswith('-'):
                words.pop(0)
                continue
            name = words.pop(0).strip(',')
            if not re.fullmatch('[a-z-]+', name):
                break
            assert name in command.commands, f'maskomaly {line}: there is no command {name}'
            command = command.commands[name]
        known = {'--help', '-h'} | {name for each in command.params for name in each.opts}
        options = {word.partition('=')[0] for word in words if word.startswith('--')}
        assert options <= known, f'maskomaly {line}: {options - known}'


def test_the_page_of_commands_names_them_all(maskomaly: Any) -> None:
    page = (ROOT / 'docs/commands.md').read_text(encoding='utf-8')
    missing = [name for name in maskomaly.commands if f'`maskomaly {name}' not in page]
    assert not set(missing) - {'version'}


def test_the_architecture_has_every_room() -> None:
    page = (ROOT / 'docs/architecture.md').read_text(encoding='utf-8')
    picture = (ROOT / 'docs/rooms.svg').read_text(encoding='utf-8')
    for module in (ROOT / 'maskomaly_ros').glob('*/__init__.py'):
        assert f'`{module.parent.name}`' in page
        assert re.search(rf'\b{module.parent.name}\b', picture), module.parent.name
