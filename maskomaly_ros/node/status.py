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

"""What every status on /diagnostics is made of."""

from __future__ import annotations

import os
from pathlib import Path

from diagnostic_msgs.msg import KeyValue

PERIOD = 1.0  # seconds between two reports


def key_values(values: dict[str, object]) -> list[KeyValue]:
    """Return values in the form of a status."""
    return [KeyValue(key=key, value=str(value)) for key, value in values.items()]


def resident_bytes() -> int:
    """Return the resident memory of the process."""
    pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[1])
    return pages * os.sysconf('SC_PAGESIZE')
