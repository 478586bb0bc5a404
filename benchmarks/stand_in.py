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

"""The node, with a network that only takes its time.

    python stand_in.py SECONDS [--ros-args ...]

A batch takes it 0.8 of these seconds, whatever its size, so that decoding, scoring and publishing
fit into the rest.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from maskomaly_ros.node import memory


def main() -> None:
    """Run the node until it is stopped."""
    memory.manage()  # as the executable does, before anything is imported that starts threads
    import torch

    from maskomaly_ros.detector import Detector
    from maskomaly_ros.networks import InputSize, MaskPrediction
    from maskomaly_ros.node import maskomaly_node

    period = float(sys.argv[1])

    def predict(frames: Sequence[Any]) -> MaskPrediction:
        time.sleep(0.8 * period)
        height, width = frames[0].shape[:2]
        return MaskPrediction(
            torch.zeros(len(frames), 1, height // 4, width // 4),
            torch.zeros(len(frames), 1, 2),
            (height, width),
            (height / 4, width / 4),
        )

    network = SimpleNamespace(
        name='stand-in', sha256='0' * 64, device=torch.device('cpu'), precision='float32',
        num_queries=1, class_names=('road',), input_size=InputSize(), predict=predict,
        warm_up=lambda frame_size, batch: None,
    )  # fmt: skip
    maskomaly_node.load_from_checkpoint = lambda load: Detector(network)
    maskomaly_node.main(['stand_in', *sys.argv[2:]])


if __name__ == '__main__':
    main()
