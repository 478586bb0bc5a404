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
from pathlib import Path

import pytest

_SHARED = Path(os.environ.get('MASKOMALY_SHARED', Path(__file__).parents[2] / 'shared'))


@pytest.fixture(scope='session')
def shared() -> Path:
    """Return the folder with reference results and real images; skip where it is not."""
    if not _SHARED.is_dir():
        pytest.skip(f'no reference data at {_SHARED} (set MASKOMALY_SHARED)')
    return _SHARED
