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

"""Pages in a real browser: they hold together, ask for nothing, and do what they promise."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from maskomaly_ros import html
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.html import Cell, Column, Row

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

TEMPLATE = """\
{% extends 'page.html' %}
{% block content %}
{{ table(columns, rows, label='scores', filterable=True) }}
<label><input type="checkbox" checked data-toggles="a&quot;b"> a"b</label>
{{ drawing }}{{ drawing }}
<section>
<input type="checkbox" checked data-toggles="a&quot;b"><i data-series="a&quot;b">x</i></section>
{{ shot }}{{ json_data('data', data) }}
<p>{{ evil }}</p>
{% endblock %}
"""
EVIL = '</script><script>window.evil = 1</script><img src=x onerror="window.evil = 1">'
COLUMNS = [Column('name', help='of the "image"'), Column('score', numeric=True)]
ROWS = [
    Row([Cell('frame 10'), Cell(0.25, '25.0')], series='a"b'),
    [Cell('frame 9'), Cell(math.nan)],
    [Cell(EVIL), Cell(-3)],
    Row([Cell('frame 11'), Cell(10.5, best=True)], css='quoted'),
]
DRAWING = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><metadata>made by</metadata>
<defs><clipPath id="c"><rect width="5" height="5"/></clipPath></defs>
<g id="series:a&quot;b"><path d="M0 0h9v9z" clip-path="url(#c)" fill="currentColor"/></g></svg>"""


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., Path]:
    def make(**values: Any) -> Path:
        template = tmp_path / 'template.html'
        template.write_text(TEMPLATE, encoding='utf-8')
        image = np.zeros((60, 120, 3), np.uint8)
        image[..., 0] = 255
        given = {
            'title': f'Title {EVIL}',
            'subtitle': EVIL,
            'columns': COLUMNS,
            'rows': ROWS,
            'drawing': html.svg(DRAWING, label='curve "x"'),
            'shot': html.picture(image, alt=f'red {EVIL}', caption='a red frame', width=40),
            'data': {'x': EVIL, 'n': [1, 2.5, None]},
            'evil': EVIL,
            'scripts': ['window.ran = "</p>";'],
            'styles': ['p { margin: 0 }'],
        }
        out = tmp_path / 'new' / 'page.html'
        html.write(out, html.render(template, **{**given, **values}))
        return out

    return make


def names(browser: Chrome, *, visible: bool = False) -> list[str]:
    rows = browser.find_elements('css selector', 'tbody tr')
    return [
        row.find_element('css selector', 'th').text[:8]
        for row in rows
        if row.is_displayed() or not visible
    ]


def test_nothing_is_loaded_and_nothing_foreign_runs(
    browser: Chrome, page: Callable[..., Path]
) -> None:
    browser.get_log('browser')
    browser.get(page().as_uri())
    assert browser.get_log('browser') == []
    assert browser.execute_script('return window.evil') is None
    assert browser.execute_script('return window.ran') == '</p>'
    assert browser.title == f'Title {EVIL}'
    data = browser.execute_script('return document.getElementById("data").textContent')
    assert json.loads(data) == {'x': EVIL, 'n': [1, 2.5, None]}
    names_of_requests = browser.execute_script(
        'return performance.getEntriesByType("resource").map((entry) => entry.name)'
    )
    assert [name for name in names_of_requests if not name.startswith('data:')] == []
    # The page's own policy stops what somebody smuggles in.
    browser.execute_script(
        'const image = new Image(); image.src = "http://192.0.2.1/x.png";'
        'const script = document.createElement("script"); script.text = "window.evil = 2";'
        'document.body.append(image, script);'
    )
    assert browser.execute_script('return window.evil') is None
    messages = [entry['message'] for entry in browser.get_log('browser')]
    assert len(messages) == 2
    assert all('Content Security Policy' in message for message in messages)


def test_columns_sort_by_value_and_missing_comes_last(
    browser: Chrome, page: Callable[..., Path]
) -> None:
    browser.get(page().as_uri())
    name, score = browser.find_elements('css selector', 'thead th')
    assert names(browser) == ['frame 10', 'frame 9', '</script', 'frame 11']
    score.click()
    assert names(browser) == ['frame 11', 'frame 10', '</script', 'frame 9']
    assert score.get_attribute('aria-sort') == 'descending'
    score.click()
    assert names(browser) == ['</script', 'frame 10', 'frame 11', 'frame 9']
    name.click()
    assert names(browser) == ['</script', 'frame 9', 'frame 10', 'frame 11']
    assert (name.get_attribute('aria-sort'), score.get_attribute('aria-sort')) == (
        'ascending',
        None,
    )
    cells = browser.find_elements('css selector', 'td')
    assert [cell.text for cell in cells] == ['-3', '–', '25.0', '10.5']
    assert browser.find_element('css selector', 'td.best strong').text == '10.5'


def test_filter_hides_rows_and_says_how_many_are_left(
    browser: Chrome, page: Callable[..., Path]
) -> None:
    browser.get(page().as_uri())
    field = browser.find_element('css selector', 'input[type=search]')
    field.send_keys('FRAME 1')
    assert names(browser, visible=True) == ['frame 10', 'frame 11']
    assert browser.find_element('css selector', 'output').text == '2 of 4'
    field.send_keys(' 25')  # all words, in whatever column
    assert names(browser, visible=True) == ['frame 10']


def test_boxes_hide_a_series_in_tables_and_drawings(
    browser: Chrome, page: Callable[..., Path]
) -> None:
    browser.get(page().as_uri())
    drawn = browser.find_elements('css selector', 'svg path')
    assert len(drawn) == 2
    assert all(path.is_displayed() for path in drawn)
    box, other = browser.find_elements('css selector', 'input[type=checkbox]')
    mark = browser.find_element('css selector', 'section i')
    other.click()  # reaches no further than its section
    assert not mark.is_displayed()
    assert all(path.is_displayed() for path in drawn)
    box.click()
    assert not any(path.is_displayed() for path in drawn)
    assert names(browser, visible=True) == ['frame 9', '</script', 'frame 11']
    box.click()
    assert all(path.is_displayed() for path in drawn)


def test_picture_is_shrunk_and_opens(browser: Chrome, page: Callable[..., Path]) -> None:
    browser.get(page().as_uri())
    image = browser.find_element('css selector', '.picture img')
    assert image.get_property('naturalWidth') == 40
    assert image.get_property('naturalHeight') == 20
    assert image.get_attribute('alt') == f'red {EVIL}'
    dialog = browser.find_element('css selector', 'dialog')
    assert not dialog.is_displayed()
    image.click()
    assert dialog.is_displayed()
    assert dialog.text == 'a red frame'
    dialog.click()
    assert not dialog.is_displayed()


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_text_is_readable_light_and_dark(
    browser: Chrome, page: Callable[..., Path], scheme: str
) -> None:
    def set_scheme(value: str) -> None:
        feature = {'name': 'prefers-color-scheme', 'value': value}
        browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': [feature]})

    def luminance(color: str) -> float:
        parts = [int(v) / 255 for v in re.findall(r'\d+', color)[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    set_scheme(scheme)
    try:
        browser.get(page().as_uri())
        ground, surface = (
            luminance(browser.find_element('css selector', s).value_of_css_property(
                'background-color'
            ))
            for s in ('body', '.scroll')
        )  # fmt: skip
        assert (ground > 0.5) == (scheme == 'light')
        for selector, behind in (
            ('h1', ground),
            ('.subtitle', ground),
            ('td', surface),
            ('tr.quoted th', surface),
            ('th > button', surface),
        ):
            found = browser.find_element('css selector', selector)
            text = luminance(found.value_of_css_property('color'))
            contrast = (max(text, behind) + 0.05) / (min(text, behind) + 0.05)
            assert contrast >= 4.5, selector  # WCAG 2, level AA
    finally:
        set_scheme('')


def test_ids_of_drawings_do_not_clash() -> None:
    first = html.svg(DRAWING, label='a')
    second = html.svg(DRAWING.replace('h9', 'h8'), label='b')
    (one,), (other,) = (re.findall(r' id="([^"]+)"', text) for text in (first, second))
    assert one != other
    assert f'url(#{one})' in first
    assert 'made by' not in first


def test_table_refuses_rows_of_another_length() -> None:
    with pytest.raises(ValueError, match='zip'):
        html.table(COLUMNS, [[Cell('only one')]], label='x')


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('', encoding='utf-8')
    with pytest.raises(MaskomalyError, match=r'cannot write .*file/page\.html'):
        html.write(tmp_path / 'file' / 'page.html', '')
