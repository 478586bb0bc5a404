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

"""The page of a drive, in a real browser, from disk."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from maskomaly_ros.obstacles import Obstacle
from maskomaly_ros.replay.events import Event
from maskomaly_ros.replay.journal import FrameRecord, Journal, ProblemRecord
from maskomaly_ros.replay.page import lanes_of, write_page
from maskomaly_ros.topics import file_name

CAMERAS = ('/front/image_raw', '/rear/image_raw')


def write_drive(folder: Path, count: int, pictures: bool = True) -> Journal:
    """Write the journal of two cameras that see an obstacle for 10 of every 100 frames."""
    folder.mkdir()
    identity = {'source': '/data/drive_42', 'checkpoint': 'f' * 64, 'parameters': {}}
    journal = Journal(folder / '.replay' / 'journal.jsonl', identity)
    for index in range(count):
        place = index // 2
        visible = place % 100 < 10
        score = 0.3 + 0.1 * math.sin(place / 9) + (0.4 + place / count / 4 if visible else 0)
        obstacles = (Obstacle(40 + place % 100, 30, 20, 20, 100 + place, score, score),)
        journal.add(
            FrameRecord(
                index, CAMERAS[index % 2], 10**18 + place * 66_000_000, '', 160, 120, score, 0.1,
                100 if visible else 0, obstacles if visible else (), {},
            )
        )  # fmt: skip
        if pictures:
            name = file_name(CAMERAS[index % 2])
            path = folder / 'frames' / name / f'{index:06}.jpg'
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((120, 160, 3), index % 256, np.uint8))
    journal.add(ProblemRecord(count, '/front/image_raw message 7', 'reading', 'too <short>'))
    journal.close()
    return journal


def shown(browser: Any) -> str:
    return str(browser.find_element('id', 'shown').text)


def wait_for(browser: Any, script: str) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(browser, 60).until(lambda b: b.execute_script(f'return {script}'))


def test_page_shows_frames_and_filters_events(browser: Any, tmp_path: Path) -> None:
    journal = write_drive(tmp_path / 'out', 600)
    write_page(journal, tmp_path / 'out')
    browser.get((tmp_path / 'out' / 'report.html').as_uri())
    assert browser.get_log('browser') == []
    assert 'drive_42' in browser.title
    assert 'too <short>' in browser.find_element('id', 'problems').get_attribute('textContent')
    canvas = browser.find_elements('css selector', '.timeline canvas')
    assert len(canvas) == 2
    drawn = "document.querySelector('canvas').getContext('2d').getImageData(0, 0, 800, 100).data"
    assert browser.execute_script(f'return {drawn}.some((value) => value)')
    # a click shows the frame from the folder
    canvas[1].click()
    assert '/rear/image_raw, frame' in shown(browser)
    wait_for(browser, "document.getElementById('frame').naturalWidth === 160")
    source = browser.find_element('id', 'frame').get_attribute('src')
    assert '/frames/rear.image_raw/' in source
    before = shown(browser)
    browser.find_element('id', 'next').click()
    assert shown(browser) != before
    # three views of each camera, highest score first
    rows = browser.find_elements('css selector', 'table tbody tr')
    assert len(rows) == 6
    browser.execute_script(
        "const f = document.getElementById('least-score'); f.value = '0.75';"
        "f.dispatchEvent(new Event('input'))"
    )
    kept = [row for row in rows if row.is_displayed()]
    assert len(kept) == 4
    browser.execute_script(
        "const f = document.getElementById('least-score'); f.value = '0';"
        "f.dispatchEvent(new Event('input'));"
        "const a = document.getElementById('least-area'); a.value = '250';"
        "a.dispatchEvent(new Event('input'))"
    )
    assert len([row for row in rows if row.is_displayed()]) == 2
    browser.find_element('css selector', 'tbody tr:not(.filtered) a.jump').click()
    assert 'frame 4' in shown(browser)
    # sorting by start
    head = browser.find_elements('css selector', 'table thead button')[3]
    head.click()
    starts = [
        float(cell.get_attribute('data-value'))
        for cell in browser.find_elements('css selector', 'tbody tr td:nth-child(4)')
    ]
    assert starts == sorted(starts, reverse=True)


def test_page_alone_shows_the_nearest_picture_of_its_own(browser: Any, tmp_path: Path) -> None:
    journal = write_drive(tmp_path / 'out', 900)
    write_page(journal, tmp_path / 'out')
    alone = tmp_path / 'mailed.html'
    shutil.move(tmp_path / 'out' / 'report.html', alone)
    browser.get(alone.as_uri())
    browser.find_elements('css selector', '.timeline canvas')[0].click()
    wait_for(browser, "document.getElementById('frame').src.startsWith('data:image/jpeg')")
    wait_for(browser, "document.getElementById('frame').naturalWidth > 0")
    thumbnails = browser.find_elements('css selector', 'tbody img')
    assert len(thumbnails) == 10
    assert all(i.get_attribute('src').startswith('data:') for i in thumbnails)


def test_ten_thousand_frames(browser: Any, tmp_path: Path) -> None:
    journal = write_drive(tmp_path / 'out', 10_000, pictures=False)
    write_page(journal, tmp_path / 'out')
    page = tmp_path / 'out' / 'report.html'
    assert page.stat().st_size < 10_000_000
    browser.get(page.as_uri())
    assert len(browser.find_elements('css selector', 'tbody tr')) == 100
    canvas = browser.find_elements('css selector', '.timeline canvas')[0]
    canvas.click()
    wait_for(browser, "document.getElementById('shown').textContent.includes('no picture')")
    browser.execute_script('zoom(0.01, 100)')
    assert browser.execute_script('return view[1] - view[0]') < 10


def event(camera: str, start: int, end: int) -> Event:
    return Event(1, camera, start, end, 0, 1, 2, 0.5, 9, 0, start, (0, 0, 3, 3))


times = st.tuples(st.sampled_from('ab'), st.integers(0, 30), st.integers(0, 5))


@given(st.lists(times, max_size=40))
def test_events_that_overlap_in_time_have_lanes_of_their_own(given: list[Any]) -> None:
    events = [event(camera, start, start + length) for camera, start, length in given]
    lanes = lanes_of(events)
    assert len(lanes) == len(events)
    assert all(0 <= lane < 8 for lane in lanes)
    for number, one in enumerate(events):
        alive = [
            (other, lane)
            for other, lane in zip(events, lanes, strict=True)
            if other.camera == one.camera and other.start_ns <= one.start_ns <= other.end_ns
        ]
        assert lanes[number] < max(1, len(alive))  # no lane is opened without need
        if len(alive) <= 7:
            own = [lane for other, lane in alive if other is not one and lane == lanes[number]]
            assert own == [] or lanes[number] == 7


def test_bars_stand_in_lanes_and_a_frame_has_an_address(browser: Any, tmp_path: Path) -> None:
    folder = tmp_path / 'out'
    folder.mkdir()
    journal = Journal(folder / '.replay' / 'journal.jsonl', {'source': '/d', 'parameters': {}})
    # Three things at the same time, far from each other.
    obstacles = tuple(Obstacle(50 * n, 30, 20, 20, 300, 0.8, 0.8) for n in range(3))
    for index in range(40):
        journal.add(
            FrameRecord(
                index, CAMERAS[0], 10**18 + index * 10**8, '', 160, 120, 0.8, 0.1, 900, obstacles,
                {},
            )
        )  # fmt: skip
    journal.close()
    write_page(journal, folder)
    page = (folder / 'report.html').as_uri()
    browser.get('about:blank')
    browser.get(f'{page}#camera=front.image_raw&frame=17')
    assert shown(browser).startswith('/front/image_raw, frame 17,')
    rows = browser.execute_script(
        "const c = document.querySelector('canvas'), s = c.width / c.clientWidth;"
        "const d = c.getContext('2d').getImageData(Math.round(c.width / 3), 0, 1, c.height).data;"
        'const rows = []; for (let y = 0; y < c.height; y++) {'
        ' if (d[4 * y] === 217 && d[4 * y + 1] === 72 && d[4 * y + 3] === 255) rows.push(y / s); }'
        'return rows;'
    )
    starts = [row for row, before in zip(rows, [-9, *rows], strict=False) if row - before > 1]
    assert len(starts) == 3, rows
    browser.find_element('id', 'next').click()
    assert browser.current_url == f'{page}#camera=front.image_raw&frame=18'
    browser.execute_script("location.hash = '#camera=front.image_raw&frame=3'")
    wait_for(browser, "document.getElementById('shown').textContent.includes('frame 3,')")
    browser.execute_script("location.hash = '#camera=nobody&frame=3'")
    assert 'frame 3,' in shown(browser)
