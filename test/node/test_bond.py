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

"""The bond to a lifecycle manager, with a stand-in for bondpy, which has no wheel."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip('rclpy')


class RecordedBond:
    """Notes what is done to it."""

    made: list[RecordedBond] = []  # noqa: RUF012

    def __init__(self, node: Any, topic: str, bond_id: str) -> None:
        self.calls: list[Any] = [(topic, bond_id)]
        self.made.append(self)

    def set_heartbeat_period(self, seconds: float) -> None:
        self.calls.append(seconds)

    def set_heartbeat_timeout(self, seconds: float) -> None:
        self.calls.append(seconds)

    def start(self) -> None:
        self.calls.append('start')

    def shutdown(self) -> None:
        self.calls.append('shutdown')


def test_a_managed_node_is_bonded_while_it_is_active(
    ros: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    RecordedBond.made.clear()
    monkeypatch.setitem(sys.modules, 'bondpy', SimpleNamespace())
    monkeypatch.setitem(sys.modules, 'bondpy.bondpy', SimpleNamespace(Bond=RecordedBond))
    node = ros.maskomaly(autostart=False, start=False)
    node.trigger_configure()
    assert RecordedBond.made == []
    node.trigger_activate()
    (bond,) = RecordedBond.made
    assert bond.calls == [('/bond', 'maskomaly'), 0.1, 4.0, 'start']
    node.trigger_deactivate()
    assert bond.calls[-1] == 'shutdown'
    node.trigger_activate()
    node.trigger_shutdown()
    assert [b.calls[-1] for b in RecordedBond.made] == ['shutdown', 'shutdown']


def test_without_bondpy_the_log_says_what_to_set(
    ros: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, 'bondpy.bondpy', None)
    node = ros.maskomaly(autostart=False, start=False)
    node.trigger_configure()
    node.trigger_activate()
    assert node.phase == 'active'
    assert 'bond_timeout 0' in capfd.readouterr().err


def test_a_node_that_starts_itself_has_no_manager_to_be_bonded_to(
    ros: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    RecordedBond.made.clear()
    monkeypatch.setitem(sys.modules, 'bondpy.bondpy', SimpleNamespace(Bond=RecordedBond))
    ros.maskomaly()
    assert RecordedBond.made == []
