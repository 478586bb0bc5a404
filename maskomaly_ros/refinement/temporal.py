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

"""Score maps that are steady over time, for one camera; off unless asked for.

A network judges each frame by itself, so that scores flicker. A filter over the last maps steadies
them. It costs latency, and blurs what moves fast through the picture: docs/operations.md has the
figures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError

FILTERS = ('none', 'exponential', 'median')

_THUMBNAIL = (64, 36)


@dataclass(frozen=True)
class TemporalParameters:
    """How score maps are steadied.

    Attributes:
        filter: `none`; `exponential`, the running mean; or `median`, of the last maps.
        weight: of the newest map in the running mean, in (0, 1]; 1 forgets all others.
        window: maps that the median is of, odd; half of it, rounded down, is its delay in frames.
        max_gap: seconds between frames from which on they have nothing to do with each other.
        cut: mean difference of the brightness of two frames, 0 to 1, that counts as a cut.

    """

    filter: str = 'none'
    weight: float = 0.5
    window: int = 3
    max_gap: float = 1.0
    cut: float = 0.25

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.filter not in FILTERS:
            raise MaskomalyError(
                f'temporal filter {self.filter!r} is unknown; use {", ".join(FILTERS)}'
            )
        if not 0.0 < self.weight <= 1.0:
            raise MaskomalyError(f'temporal weight {self.weight} is out of range: above 0, to 1')
        if self.window not in (3, 5, 7):
            raise MaskomalyError(f'temporal window {self.window} is out of range: 3, 5 or 7')
        if not self.max_gap > 0.0:
            raise MaskomalyError(f'temporal max_gap {self.max_gap} must be above 0 seconds')
        if not 0.0 < self.cut <= 1.0:
            raise MaskomalyError(f'temporal cut {self.cut} is out of range: above 0, to 1')

    @property
    def is_off(self) -> bool:
        """Whether maps pass as they are."""
        return self.filter == 'none'


class SceneWatch:
    """Notices cuts: pictures of one camera that have nothing to do with the one before."""

    def __init__(self) -> None:
        self._thumbnail: NDArray[np.uint8] | None = None
        self._size: tuple[int, ...] = ()

    def save(self) -> dict[str, NDArray[Any]]:
        """Return what it remembers of the last picture, for `restore`."""
        if self._thumbnail is None:
            return {}
        return {'thumbnail': self._thumbnail, 'size': np.array(self._size, np.int64)}

    def restore(self, kept: Mapping[str, NDArray[Any]]) -> None:
        """Go on where another one was saved."""
        self._thumbnail = kept.get('thumbnail')
        self._size = tuple(kept['size'].tolist()) if 'size' in kept else ()

    def is_cut(self, frame: NDArray[np.uint8], cut: float) -> bool:
        """Take the next frame, RGB uint8 [H, W, 3]; return whether it begins a new scene.

        Args:
            frame: the picture.
            cut: see `TemporalParameters`.

        """
        # Every n-th pixel first, as averaging all of a large frame takes longer than the filter.
        sparse = np.ascontiguousarray(frame[:: max(1, frame.shape[0] // 144), ::4])
        grey = cv2.cvtColor(sparse, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, _THUMBNAIL, interpolation=cv2.INTER_AREA)
        before, self._thumbnail = self._thumbnail, np.asarray(small, np.uint8)
        size, self._size = self._size, frame.shape[:2]
        if before is None or size != self._size:
            return True
        difference = np.abs(self._thumbnail.astype(np.int16) - before).mean() / 255
        return bool(difference > cut)


class TemporalFilter:
    """Steadies the score maps of one camera.

    It starts anew at a cut, where the size changes, where stamps jump, and where the parameters
    change.
    """

    def __init__(self) -> None:
        self._parameters = TemporalParameters()
        self.reset()

    def reset(self) -> None:
        """Forget all maps so far."""
        self._stamp: int | None = None
        self._scenes = SceneWatch()
        self._mean: NDArray[np.float32] | None = None
        self._maps: deque[NDArray[np.float32]] = deque()

    def save(self) -> dict[str, NDArray[Any]]:
        """Return what it remembers of the frames so far, for `restore`."""
        kept: dict[str, Any] = {'stamp': self._stamp, **self._scenes.save()}
        kept |= {'mean': self._mean, **{f'map{i}': m for i, m in enumerate(self._maps)}}
        return {name: np.asarray(value) for name, value in kept.items() if value is not None}

    def restore(self, kept: Mapping[str, NDArray[Any]], parameters: TemporalParameters) -> None:
        """Go on where another filter with the same parameters was saved."""
        self._parameters = parameters
        self._stamp = int(kept['stamp']) if 'stamp' in kept else None
        self._scenes.restore(kept)
        self._mean = kept['mean'].copy() if 'mean' in kept else None
        count = sum(1 for name in kept if name.startswith('map'))
        self._maps = deque(kept[f'map{i}'] for i in range(count))

    def apply(
        self,
        score: NDArray[np.float32],
        frame: NDArray[np.uint8],
        stamp: int,
        parameters: TemporalParameters,
    ) -> NDArray[np.float32]:
        """Return the steadied score map of the next frame.

        Args:
            score: float32 [H, W]; left as it is.
            frame: RGB uint8 [H, W, 3], to notice cuts.
            stamp: of the frame, in nanoseconds.
            parameters: may differ from those of the last call.

        Returns:
            Float32 [H, W]; the map itself where the parameters are off.

        """
        if parameters != self._parameters:
            self._parameters = parameters
            self.reset()
        if parameters.is_off:
            return score
        if self._is_new_scene(frame, stamp):
            scenes = self._scenes
            self.reset()
            self._scenes = scenes
        self._stamp = stamp
        if parameters.filter == 'exponential':
            return self._running_mean(score)
        return self._median(score)

    def _is_new_scene(self, frame: NDArray[np.uint8], stamp: int) -> bool:
        is_cut = self._scenes.is_cut(frame, self._parameters.cut)
        if self._stamp is None:
            return True
        return is_cut or not 0 <= stamp - self._stamp <= self._parameters.max_gap * 1e9

    def _running_mean(self, score: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._mean is None:
            self._mean = score.copy()
        else:
            cv2.accumulateWeighted(score, self._mean, self._parameters.weight)
        return np.array(self._mean, np.float32)

    def _median(self, score: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the median of the last maps; of the newest alone until there are enough."""
        window = self._parameters.window
        self._maps.append(score)
        if len(self._maps) > window:
            self._maps.popleft()
        # The largest odd number of maps that there are: a median of two would be a mean.
        maps = list(self._maps)[-(len(self._maps) - 1 | 1) :]
        # Sort as far as the middle, by exchanging neighbours: much faster than np.median.
        for last in range(len(maps) - 1, len(maps) // 2 - 1, -1):
            for i in range(last):
                low = np.minimum(maps[i], maps[i + 1])
                maps[i + 1] = np.maximum(maps[i], maps[i + 1])
                maps[i] = low
        return maps[len(maps) // 2]
