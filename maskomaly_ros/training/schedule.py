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

"""How the learning rate goes in every training."""

from __future__ import annotations

import math


def learning_rate(highest: float, step: int, steps: int, rise: int) -> float:
    """Return the learning rate of a step: it rises, then decays (poly, power 0.9).

    Args:
        highest: what it rises to.
        step: 0 to steps - 1.
        steps: of the whole training.
        rise: steps until it is at its highest, but for the decay.

    """
    return highest * min(1.0, (step + 1) / rise) * math.pow(1 - step / steps, 0.9)
