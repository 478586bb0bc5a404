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

"""How Sphinx builds these pages: `make docs`, and rosdoc2 by rosdoc2.yaml.

Pages are written to be read in the repository too. Two things are done for the site: a page that
stands elsewhere (README.md) takes the place of its stand-in here, and links that leave this folder
become links to such a page, or downloads.
"""

from __future__ import annotations

import os.path
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def find_checkout() -> Path:
    """Return the root of the package; rosdoc2 builds a copy of this folder.

    The conf.py of that copy executes this one, and is the only thing that knows where it is.
    """
    here = Path(__file__).resolve()
    original = re.search(r'exec\(open\("(.+)"\)', here.read_text(encoding='utf-8'))
    return Path(original[1] if original else here).parents[1]


ROOT = find_checkout()
HERE = ROOT / 'docs'
sys.path.insert(0, str(ROOT))

import maskomaly_ros  # noqa: E402

project = 'maskomaly_ros'
author = 'The maskomaly_ros contributors'
copyright = f'2026, {author}'
release = version = maskomaly_ros.__version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
root_doc = 'index'
html_theme = 'sphinx_rtd_theme'
html_show_sourcelink = False
myst_heading_anchors = 4

default_role = 'code'  # docstrings put names between single backticks
napoleon_use_ivar = True  # or properties among the attributes are described twice
autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
# What this package can do without; the machine that builds the pages may lack it.
autodoc_mock_imports = [
    name for name in ('av', 'numba', 'pyarrow', 'ray', 'triton') if find_spec(name) is None
]

# Pages that stand elsewhere, by the stand-in that they take the place of.
ELSEWHERE = {
    'start': ROOT / 'README.md',
    'project/changelog': ROOT / 'CHANGELOG.md',
    'project/contributing': ROOT / 'CONTRIBUTING.md',
    'project/model_card': ROOT / 'maskomaly_ros/networks/demo/README.md',
    'project/quality': ROOT / 'QUALITY_DECLARATION.md',
    'project/security': ROOT / 'SECURITY.md',
}
COMMANDS = 'command_line'
LINK = re.compile(r'(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))')


def command_line() -> str:
    """Return all commands and their options as Markdown, as typer describes them."""
    import typer
    from typer.cli import get_docs_for_click

    from maskomaly_ros.cli.main import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name='maskomaly')
    return text.replace('# `maskomaly`', '# Command line', 1)


def relink(text: str, source: Path, name: str, sources: Path) -> str:
    """Return Markdown with links as they have to be on a page of the site.

    Args:
        text: what the page shall show.
        source: the file that it comes from.
        name: of the page, such as `project/security`.
        sources: folder of all pages, which need not be this one.

    """
    pages = {path: HERE / f'{name}.md' for name, path in ELSEWHERE.items()}

    def target(match: re.Match[str]) -> str:
        path = Path(os.path.normpath(source.parent / match[1]))
        path = pages.get(path, path)
        if path.is_relative_to(HERE):
            return os.path.relpath(path, (HERE / name).parent) + (match[2] or '')
        return f'path:{os.path.relpath(path, (sources / name).parent)}'

    return LINK.sub(target, text)


def read_page(app: Any, name: str, content: list[str]) -> None:
    """Give Sphinx what it shall read in place of a file."""
    source = ELSEWHERE.get(name, HERE / f'{name}.md')
    if name == COMMANDS:
        content[0] = command_line()
    elif source.exists():  # rosdoc2 adds pages of its own
        text = source.read_text(encoding='utf-8') if name in ELSEWHERE else content[0]
        content[0] = relink(text, source, name, Path(app.srcdir))


def note_sources(app: Any, env: Any, *changed: Any) -> list[str]:
    """Read stand-ins anew each time: Sphinx does not see what they stand for."""
    return [*ELSEWHERE, COMMANDS]


def setup(app: Any) -> None:
    """Register with Sphinx."""
    app.connect('source-read', read_page)
    app.connect('env-get-outdated', note_sources)
