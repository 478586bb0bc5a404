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

"""HTML pages that are one file: the look of all our reports, and the parts they are made of.

`render` fills a Jinja2 template that extends `page.html` of this package:

    {% extends 'page.html' %}
    {% block content %}
    <section>
      <h2>Drive</h2>
      {{ table(columns, rows, label='events', filterable=True) }}
      <div class="grid">{% for p in pictures %}{{ p }}{% endfor %}</div>
    </section>
    {% endblock %}

    from maskomaly_ros import html

    text = html.render(
        Path(__file__).with_name('drive.html'),
        title='Drive of Monday',
        subtitle='bag, checkpoint, date: one line below the title',
        columns=[html.Column('event'), html.Column('score', numeric=True, help='highest')],
        rows=[[html.Cell('brake'), html.Cell(0.8765, '0.88', best=True)]],
        pictures=[html.picture(frame, alt='frame 12', caption='frame 12, 0.4 s', width=960)],
    )
    html.write(out, text)

Everything is escaped but what is `Markup`, which the functions below return; `table`, `picture`,
`svg`, `json_data` and `data_uri` can be called in templates too. Classes of the stylesheet:
`grid` (pictures or figures side by side), `card`, `facts` (a definition list), `warning`, `note`,
`badge`, `numeric`, `muted`, `scroll`.

`parts.html` has macros that templates can import: `legend(entries)`, checkboxes that hide curves,
and `facts(values)`, names and values.

The pages load nothing from anywhere: the content security policy in them forbids it, and admits
only the scripts of the page, by their hashes. They are light or dark as the reader's system is,
work with a keyboard, and can be read without scripts.

In the browser, columns sort by a click on their head (numbers descending first, missing values
always last), a filterable table has a field that hides rows without the words typed, a picture
opens in full size, and a checkbox with `data-toggles="NAME"` hides all elements of its `section`
that have `data-series="NAME"`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from numpy.typing import NDArray

import maskomaly_ros
from maskomaly_ros.errors import MaskomalyError

__all__ = [
    'Cell', 'Column', 'Markup', 'Row',
    'data_uri', 'json_data', 'picture', 'render', 'svg', 'table', 'write',
]  # fmt: skip

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Column:
    """Head of a column.

    Attributes:
        name: text of the head.
        numeric: whether cells are aligned and sorted as numbers.
        help: longer explanation, shown when pointed at.

    """

    name: str
    numeric: bool = False
    help: str = ''


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        value: what the column is sorted by; None or NaN is missing.
        text: what is shown; None shows the value, and a dash where it is missing.
        best: whether it stands out as the best of its column.

    """

    value: str | float | None
    text: str | Markup | None = None
    best: bool = False

    @property
    def missing(self) -> bool:
        """Whether there is no value."""
        return self.value is None or (isinstance(self.value, float) and math.isnan(self.value))


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        cells: one for each column; the first one names the row.
        css: classes of the row.
        series: name by which a checkbox can hide the row.

    """

    cells: Sequence[Cell]
    css: str = ''
    series: str = ''


def render(
    template: Path,
    *,
    title: str,
    subtitle: str = '',
    scripts: Iterable[str] = (),
    styles: Iterable[str] = (),
    folder_images: bool = False,
    **values: Any,
) -> str:
    """Return a page as one HTML text.

    Args:
        template: a Jinja2 file that extends `page.html` and fills its block `content`. It may
            include files from its own folder.
        title: title and heading of the page.
        subtitle: one line below the heading.
        scripts: JavaScript of this page, run after that of all pages.
        styles: CSS of this page.
        folder_images: whether it may show pictures that lie beside it.
        values: what the template refers to by name.

    Raises:
        jinja2.TemplateError: the template is wrong, or refers to what is not given.

    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, _HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        table=table, picture=picture, svg=svg, json_data=json_data, data_uri=data_uri
    )
    # A script must not end its element early; in JavaScript `<\/` means the same as `</`.
    sources = [s.replace('</', '<\\/') for s in (_read('page.js'), *scripts)]
    hashes = [_base64(hashlib.sha256(source.encode()).digest()) for source in sources]
    return environment.get_template(template.name).render(
        title=title,
        subtitle=subtitle,
        scripts=[Markup(source) for source in sources],
        script_hashes=' '.join(f"'sha256-{digest}'" for digest in hashes),
        styles=[Markup(style) for style in (_read('page.css'), *styles)],
        folder_images=folder_images,
        version=maskomaly_ros.__version__,
        **values,
    )


def write(path: Path, text: str) -> None:
    """Write a page, and the folders that lead to it.

    Raises:
        MaskomalyError: it cannot be written.

    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')
    except OSError as error:
        raise MaskomalyError(f'cannot write {path}: {error.strerror}') from error


def table(
    columns: Sequence[Column],
    rows: Iterable[Row | Sequence[Cell]],
    *,
    label: str,
    filterable: bool = False,
) -> Markup:
    """Return a table that the reader can sort.

    Args:
        columns: heads of the columns.
        rows: rows with as many cells as there are columns.
        label: what the table is, for screen readers and for the field of the filter.
        filterable: whether there is a field that hides rows without the words typed.

    """
    heads = Markup('').join(
        Markup('<th scope="col"{}{}><button type="button">{}</button></th>').format(
            Markup(' class="numeric"') if column.numeric else '',
            Markup(' title="{}"').format(column.help) if column.help else '',
            column.name,
        )
        for column in columns
    )
    lines = []
    for each in rows:
        row = each if isinstance(each, Row) else Row(each)
        cells = [_cell(*pair, index == 0) for index, pair in enumerate(
            zip(columns, row.cells, strict=True)
        )]  # fmt: skip
        attributes = Markup('').join(
            Markup(' {}="{}"').format(name, value)
            for name, value in (('class', row.css), ('data-series', row.series))
            if value
        )
        lines.append(Markup('<tr{}>{}</tr>\n').format(attributes, Markup('').join(cells)))
    field = (
        Markup(
            '<p class="filter"><label>Filter {}: <input type="search"></label> '
            '<output class="muted"></output></p>\n'
        ).format(label)
        if filterable
        else ''
    )
    return Markup(
        '<div class="table">\n{}<div class="scroll" tabindex="0" role="region" aria-label="{}">\n'
        '<table class="sortable" aria-label="{}">\n<thead><tr>{}</tr></thead>\n<tbody>\n{}</tbody>'
        '\n</table>\n</div>\n</div>'
    ).format(field, label, label, heads, Markup('').join(lines))


def _cell(column: Column, cell: Cell, first: bool) -> Markup:
    text = cell.text
    if text is None:
        text = '–' if cell.missing else str(cell.value)
    classes = ' '.join(
        name for name, given in (('numeric', column.numeric), ('best', cell.best)) if given
    )
    return Markup('<{}{} data-value="{}">{}</{}>').format(
        Markup('th scope="row"' if first else 'td'),
        Markup(' class="{}"').format(classes) if classes else '',
        '' if cell.missing else cell.value,
        Markup('<strong>{}</strong>').format(text) if cell.best else text,
        Markup('th' if first else 'td'),
    )


def picture(
    image: NDArray[np.uint8],
    *,
    alt: str,
    caption: str | Markup = '',
    width: int | None = None,
    quality: int = 85,
) -> Markup:
    """Return a picture, as JPEG in the page, that opens in full size when clicked.

    Args:
        image: RGB uint8 [H, W, 3].
        alt: what it shows, for those who do not see it.
        caption: text below it.
        width: pixels to shrink it to where it is wider.
        quality: of the JPEG, 1 to 100.

    """
    height = image.shape[0]
    if width is not None and image.shape[1] > width:
        height = max(1, round(height * width / image.shape[1]))
        shrunk = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        image = np.asarray(shrunk, np.uint8)
    _, content = cv2.imencode(
        '.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return Markup(
        '<figure class="picture"><button type="button" class="zoom" title="Enlarge">'
        '<img src="{}" alt="{}" width="{}" height="{}"></button>{}</figure>'
    ).format(
        data_uri(content.tobytes(), 'image/jpeg'),
        alt,
        image.shape[1],
        height,
        Markup('<figcaption>{}</figcaption>').format(caption) if caption else '',
    )


def svg(text: str, *, label: str) -> Markup:
    """Return a trusted SVG drawing as part of the page.

    Its ids are made different from those of all other drawings, and what it says of styles and
    of the program that made it is left out. Parts in `currentColor` have the colour of the text
    around them, light or dark. An element with the id `series:NAME` gets `data-series` instead.

    Args:
        text: the SVG file.
        label: what it shows, for those who do not see it.

    """
    text = text[text.index('<svg') :]
    text = re.sub(r'<(metadata|style)\b.*?</\1>', '', text, flags=re.DOTALL)
    text = re.sub(r'\bid="series:', 'data-series="', text)
    prefix = 's' + hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'(\bid="|\bhref="#|url\(#)', rf'\g<1>{prefix}-', text)
    return Markup(text.replace('<svg', f'<svg role="img" aria-label="{escape(label)}"', 1))


def json_data(name: str, value: Mapping[str, Any] | Sequence[Any]) -> Markup:
    """Return data for scripts: `JSON.parse(document.getElementById(NAME).textContent)`.

    Raises:
        ValueError: the value has NaN or infinity, which JSON does not know.

    """
    text = json.dumps(value, allow_nan=False, separators=(',', ':')).replace('<', '\\u003c')
    return Markup('<script type="application/json" id="{}">{}</script>').format(name, Markup(text))


def data_uri(content: bytes, kind: str) -> str:
    """Return the address of content that is in the page; kind is its media type."""
    return f'data:{kind};base64,{_base64(content)}'


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode('ascii')


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding='utf-8')
