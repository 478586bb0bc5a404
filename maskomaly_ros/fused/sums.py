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

"""What the forms of the scores that sum masks over queries have in common."""

from __future__ import annotations

from typing import Final

SUMS: Final = (
    'eam',
    'rba',
    'mask2anomaly',
    'max-softmax',
    'max-logit',
    'energy',
    'entropy',
    'sml',
    'odin-temperature',
    'baseline',
)
"""The scores that each form computes; kernels know them by their place here."""

LARGEST_TEMPERATURE_RATIO: Final = 0.5
"""Most that N / T may be: the series of ODIN's small differences are exact up to there."""
