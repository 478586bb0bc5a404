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

"""Print CHANGELOG.md as bloom wants it, CHANGELOG.rst of REP-132.

CHANGELOG.md is what people write; nobody edits the other by hand:

    python3 tools/changelog.py > CHANGELOG.rst
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TITLE = 'Changelog for package maskomaly_ros'
VERSION = re.compile(r'^## \[?(\d+\.\d+\.\d+)\]? - (\d{4}-\d{2}-\d{2})$')
WIDTH = 99


def to_rst(markdown: str) -> str:
    """Return a change log in the form of Keep a Changelog as reStructuredText of REP-132.

    Args:
        markdown: versions are `## [0.1.0] - 2026-11-28`, the newest may be `## [Unreleased]`;
            below them stand `### Added` and the like, and lists.

    Raises:
        ValueError: a heading of another form, or a list outside of a version.

    """
    rule = '^' * len(TITLE)
    parts = [f'{rule}\n{TITLE}\n{rule}\n']
    kind = ''
    for block in re.split(r'\n(?=#|- )|\n\n', markdown):
        line = block.strip()
        if line.startswith('## '):
            heading = _heading(line)
            parts.append(f'\n{heading}\n{"-" * len(heading)}\n')
            kind = ''
        elif line.startswith('### '):
            kind = line.removeprefix('### ')
        elif line.startswith('- '):
            if not kind:
                raise ValueError(f'No heading such as "### Added" stands above: {line}')
            parts.append(_item(kind, line.removeprefix('- ')))
    return ''.join(parts)


def _heading(line: str) -> str:
    if line == '## [Unreleased]':
        return 'Forthcoming'
    version = VERSION.match(line)
    if version is None:
        raise ValueError(f'{line!r} is neither "## [Unreleased]" nor "## [1.2.3] - 2026-11-28"')
    return f'{version[1]} ({version[2]})'


def _item(kind: str, text: str) -> str:
    text = re.sub(r'`([^`]+)`', r'``\1``', ' '.join(text.split()))
    text = re.sub(r'\[([^]]+)\]\((https?://[^)]+)\)', r'`\1 <\2>`__', text)
    text = re.sub(r'\[([^]]+)\]\([^)]+\)', r'\1', text)  # files of this repository
    return (
        textwrap.fill(
            f'{kind}: {text}',
            WIDTH,
            initial_indent='* ',
            subsequent_indent='  ',
            break_long_words=False,
            break_on_hyphens=False,
        )
        + '\n'
    )


if __name__ == '__main__':
    sys.stdout.write(to_rst((ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')))
