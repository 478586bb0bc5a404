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

"""Fixtures that every test may use."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import settings
from tiny_networks import save_tiny_checkpoint

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

# A busy machine says nothing about the code: no example has a time limit of its own.
settings.register_profile('untimed', deadline=None)
settings.load_profile('untimed')

# Exports take minutes; the tests of `auto` ask for them.
os.environ.setdefault('MASKOMALY_AUTO_BACKEND', 'transformers')

# A shell that runs us in the background lets us, and the programs under test, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

_SHARED = Path(os.environ.get('MASKOMALY_SHARED', Path(__file__).parents[2] / 'shared'))


@pytest.fixture(scope='session')
def shared() -> Path:
    """Return the folder with reference results and real images; skip where it is not."""
    if not _SHARED.is_dir():
        pytest.skip(f'real images: none at {_SHARED} (set MASKOMALY_SHARED)')
    return _SHARED


# Where tests load networks, compile kernels, render scenes, draw figures, damage recordings byte
# by byte, open a browser, or start nodes and whole programs: seconds each, or hundreds of them.
# `make test-fast` leaves them out.
_SLOW = (
    'cli', 'demo', 'html', 'mining', 'networks', 'node', 'rig', 'scenes', 'training',
    'drives/test_damage.py', 'drives/test_formats.py', 'drives/test_sqlite_pages.py',
    'evaluation/test_analysis.py', 'evaluation/test_cache.py', 'evaluation/test_calibration.py',
    'evaluation/test_plots.py', 'evaluation/test_report.py', 'evaluation/test_same_scores.py',
    'recorder/test_node.py', 'replay/test_page.py', 'replay/test_run.py', 'test_benchmark.py',
    'test_detector.py', 'test_fuzz.py', 'test_launch.py', 'test_parameters.py', 'test_scoring.py',
    'test_scores_triton.py', 'test_scoring_fused.py',
)  # fmt: skip


# Tests of several processes, and of frames that DDS may lose, also depend on what else the machine
# does. They get one more try; the summary lists which took it, so that nobody overlooks them.
_TRIED_AGAIN = (
    'cli', 'demo', 'mining', 'node', 'recorder/test_node.py', 'rig', 'test_launch.py',
)  # fmt: skip


# Triton decides when it is imported whether it interprets its kernels, which needs no GPU.
_CAN_RUN_KERNELS = os.environ.get('TRITON_INTERPRET') == '1' or torch.cuda.is_available()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is slow and what is tried again, and leave kernels to test_triton.py."""
    elsewhere = [] if _CAN_RUN_KERNELS else [i for i in items if i.get_closest_marker('triton')]
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]
    for item in items:
        if _is_in(_SLOW, item):
            item.add_marker('slow')
        if _is_in(_TRIED_AGAIN, item):
            item.add_marker(pytest.mark.flaky(reruns=1))


def _is_in(places: tuple[str, ...], item: pytest.Item) -> bool:
    return any(Path(__file__).parent / p in (item.path, *item.path.parents) for p in places)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List what was skipped, by what would end it: nobody sees a test fail that does not run."""
    skipped = terminalreporter.stats.get('skipped', ())
    counts = Counter(str(report.longrepr[2]).removeprefix('Skipped: ') for report in skipped)
    if counts:
        terminalreporter.section(f'{sum(counts.values())} skipped, for want of')
        for reason, count in counts.most_common():
            terminalreporter.line(f'{count:4}  {reason}')


@pytest.fixture(scope='session')
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint folder of a small real Mask2Former with random weights.

    8 queries, 3 classes, ResNet of 8 to 64 channels.
    """
    folder = tmp_path_factory.mktemp('checkpoints') / 'tiny'
    save_tiny_checkpoint(folder, ('road', 'sky', 'car'), (96, 192))
    return folder


@pytest.fixture(scope='session')
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Drive a real headless Chromium; skip where it or its driver is not installed."""
    selenium = pytest.importorskip('selenium.webdriver')
    chromium, driver = shutil.which('chromium'), shutil.which('chromedriver')
    if not chromium or not driver:
        pytest.skip('a browser (Debian, Ubuntu: apt install chromium chromium-driver)')
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})  # for get_log('browser')
    for argument in (
        'headless=new',
        'no-sandbox',  # root, as in containers, has no other choice; the pages are our own
        'disable-dev-shm-usage',
        'window-size=1400,1000',
        f'user-data-dir={tmp_path_factory.mktemp("chromium")}',
    ):
        options.add_argument(f'--{argument}')
    chrome = selenium.Chrome(options, selenium.ChromeService(driver))
    chrome.set_page_load_timeout(120)
    yield chrome
    chrome.quit()
