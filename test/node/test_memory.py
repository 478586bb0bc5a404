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

"""Tests of maskomaly_ros.node.memory, each in a process of its own, as it concerns all of one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CYCLES = """
import gc, weakref
from maskomaly_ros.node import memory

class Network:
    def __init__(self):
        self.itself = self

{manage}
kept = Network()
gc.collect()
before = gc.get_freeze_count()
memory.settle()
print('frozen', gc.get_freeze_count() > before)
gone = weakref.ref(kept)
del kept
memory.give_back()
print('thawed', gc.get_freeze_count() == 0)
print('gone', gone() is None)
"""
THREADS_OF_LOADING = """
import threading
from maskomaly_ros.networks import load_network
from maskomaly_ros.node import memory

{manage}
start, started = threading.Thread.start, []
threading.Thread.start = lambda thread: (started.append(thread.name), start(thread))
load_network('demo', device='cpu')
print(len(started))
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-c', program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ('manage', 'frozen'), [('memory.manage()', 'True'), ('', 'False')], ids=['managed', 'not']
)
def test_what_is_settled_can_still_be_given_back(manage: str, frozen: str) -> None:
    done = run(CYCLES.format(manage=manage))
    assert done.stdout.split() == ['frozen', frozen, 'thawed', 'True', 'gone', 'True'], done.stderr


@pytest.mark.parametrize('is_managed', [True, False], ids=['managed', 'not'])
def test_a_managed_process_loads_networks_without_other_threads(*, is_managed: bool) -> None:
    # Blocks of threads that come and go lie in any of malloc's heaps, and leave holes there.
    done = run(THREADS_OF_LOADING.format(manage='memory.manage()' if is_managed else ''))
    threads = int(done.stdout)
    if is_managed:
        assert threads == 0, done.stderr
    elif threads == 0:
        pytest.skip('this version of transformers has no threads to do without')
