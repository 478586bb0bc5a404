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

"""What a replay is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from maskomaly_ros.drives.piece import WHOLE, Piece
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.replay.outputs import BAG_TOPICS, SCORE_FORMATS

OUTPUTS = ('bag', 'video', 'scores', 'csv', 'parquet', 'html', 'pictures')


@dataclass(frozen=True)
class ReplayOptions:
    """What to read and what to write.

    Attributes:
        outputs: of `OUTPUTS`.
        topics: camera topics of a bag; None takes every camera.
        copy: other topics of a bag to copy into the bag that is written; '*' for all.
        bag_topics: of `outputs.BAG_TOPICS`, what to write to the bag; `points` and `markers` of
            cameras whose place is known.
        score_format: of score maps: `png` (16 bit) or `npz` (float32).
        parameters: of the node, by name; those left out have the node's defaults.
        rate: frames per second of a folder of images; None takes 10.
        piece: which frames to take.
        batch_size: frames that share one run of the network.
        part_seconds: after how long a part is closed. What a crash, not Ctrl-C, destroys is at
            most one part.
        restart: delete what an earlier replay left in the folder.

    """

    outputs: tuple[str, ...] = ('bag', 'video', 'csv', 'html')
    topics: tuple[str, ...] | None = None
    copy: tuple[str, ...] = ()
    bag_topics: tuple[str, ...] = (
        'heatmap',
        'mask',
        'overlay/compressed',
        'obstacles',
        'points',
        'markers',
    )
    score_format: str = 'png'
    parameters: Mapping[str, Any] = field(default_factory=dict)
    rate: float | None = None
    piece: Piece = WHOLE
    batch_size: int = 1
    part_seconds: float = 60.0
    restart: bool = False

    def __post_init__(self) -> None:
        """Refuse what is unknown."""
        for names, known, what in (
            (self.outputs, OUTPUTS, 'output'),
            (self.bag_topics, tuple(BAG_TOPICS), 'topic for the bag'),
            ((self.score_format,), SCORE_FORMATS, 'score format'),
        ):
            for name in names:
                if name not in known:
                    raise MaskomalyError(f'{what} {name!r} is unknown; use {", ".join(known)}')
        if self.batch_size < 1:
            raise MaskomalyError(f'batch size {self.batch_size} must be 1 at least')
