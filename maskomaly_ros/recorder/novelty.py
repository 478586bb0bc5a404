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

"""Whether an obstacle is new: how far what it looks like is from all that is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
_AROUND = 0.25  # of the box, on each side: what is around tells what it is


@dataclass(frozen=True)
class Judgement:
    """How new something is.

    Attributes:
        distance: 0 to 1, from the nearest that is known; 1 where nothing is.
        nearest: name of the recording that shows that; empty where nothing is known.
        embedding: of unit length.

    """

    distance: float
    nearest: str
    embedding: tuple[float, ...]


class Novelty:
    """What is known, by its embeddings. Thread-safe.

    The distance is 1 - cosine, at most 1.

    Args:
        embed: returns the embedding of a picture, RGB uint8 [H, W, 3] -> float32 [D].

    """

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._lock = threading.Lock()
        self._known: list[tuple[str, NDArray[np.float32]]] = []

    def __len__(self) -> int:
        """Return the number of embeddings that are known."""
        return len(self._known)

    def replace(self, known: Iterable[tuple[str, tuple[float, ...]]]) -> None:
        """Know the embeddings of recordings, by their names, and no others."""
        found = [(name, _unit(np.asarray(e, np.float32))) for name, e in known if e]
        with self._lock:
            self._known = found

    def learn(self, name: str, embedding: tuple[float, ...]) -> None:
        """Know one more."""
        with self._lock:
            self._known.append((name, _unit(np.asarray(embedding, np.float32))))

    def judge(self, picture: NDArray[np.uint8], box: tuple[int, int, int, int]) -> Judgement:
        """Return how new what is in a box of a picture is.

        Args:
            picture: RGB uint8 [H, W, 3].
            box: x, y, width and height in pixels.

        """
        embedding = _unit(self._embed(crop(picture, box)))
        distance, nearest = 1.0, ''
        with self._lock:
            # Those of another network have another length, or mean something else.
            known = [(n, e) for n, e in self._known if e.shape == embedding.shape]
        if known:
            cosines = np.stack([e for _, e in known]) @ embedding
            best = int(cosines.argmax())
            distance = min(1.0, max(0.0, 1.0 - float(cosines[best])))
            nearest = known[best][0]
        return Judgement(distance, nearest, tuple(round(float(v), 5) for v in embedding))


def crop(picture: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Return a box of a picture and a little around it, as far as the picture goes."""
    x, y, width, height = box
    rows, columns = picture.shape[:2]
    beside, above = round(width * _AROUND), round(height * _AROUND)
    left, top = max(0, min(x - beside, columns - 1)), max(0, min(y - above, rows - 1))
    right = min(columns, max(left + 1, x + width + beside))
    bottom = min(rows, max(top + 1, y + height + above))
    return np.ascontiguousarray(picture[top:bottom, left:right])


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    length = float(np.linalg.norm(vector))
    return np.asarray(vector / length if length > 0 else vector, np.float32)
