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

"""When to record: obstacles that last, and what else a vehicle may know.

A condition of one's own is one function:

    def condition(topic: str, msgtype: str, data: bytes, received_ns: int) -> str | None:
        '''Return why to record, or None; data is the serialized message.'''
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from maskomaly_ros.errors import MaskomalyError, in_words
from maskomaly_ros.obstacles import Obstacle
from maskomaly_ros.recorder.settings import Limits
from maskomaly_ros.refinement.tracking import TrackingParameters
from maskomaly_ros.replay.events import Event, EventFollower

Condition = Callable[[str, str, bytes, int], 'str | None']
OBSTACLE, SERVICE, TOPIC, CONDITION = 'obstacle', 'service', 'topic', 'condition'


@dataclass(frozen=True)
class Trigger:
    """A reason to record.

    Attributes:
        kind: `obstacle`, `service`, `topic` or `condition`.
        reason: in words.
        received_ns: by the clock that recordings are stamped with.
        arrived_ns: by the clock that never jumps.
        event: of an obstacle.

    """

    kind: str
    reason: str
    received_ns: int
    arrived_ns: int
    event: Event | None = None

    @property
    def is_automatic(self) -> bool:
        """Whether no person asked for it, so that budgets hold."""
        return self.kind in (OBSTACLE, CONDITION)


@dataclass(frozen=True)
class _Frame:
    """What events are made of, see `SeenFrame`."""

    index: int
    camera: str
    stamp_ns: int
    obstacles: tuple[Obstacle, ...]


class ObstacleRule:
    """Says of the obstacles of one camera when one has been there long enough.

    Obstacles outside of the limits do not exist for it; what it follows are the events that replay
    and mining find, by the same code. Each fires once.

    Args:
        camera: topic.
        limits: of what counts.
        patience: seconds for which one may be missing.

    """

    def __init__(self, camera: str, limits: Limits, patience: float = 1.0) -> None:
        self._camera = camera
        self._limits = limits
        self._follower = EventFollower(TrackingParameters(patience=patience))
        self._fired: set[int] = set()
        self._frames = 0

    def update(self, obstacles: Iterable[Obstacle], stamp_ns: int) -> list[Event]:
        """Take the obstacles of the next frame; return the events that fire now."""
        counted = tuple(o for o in obstacles if self._counts(o))
        frame = _Frame(self._frames, self._camera, stamp_ns, counted)
        self._frames += 1
        for event in self._follower.take(frame):
            self._fired.discard(event.id)
        found = [
            event
            for event in self._follower.open.values()
            if event.id not in self._fired and self._lasts(event)
        ]
        self._fired |= {event.id for event in found}
        return found

    def now(self, event: Event) -> Event:
        """Return what has become of an event; itself where it is over."""
        newer = self._follower.open.get(event.id)
        return newer if newer is not None and newer.start_ns == event.start_ns else event

    def _counts(self, obstacle: Obstacle) -> bool:
        limits = self._limits
        is_near = not limits.range or obstacle.range is None or obstacle.range <= limits.range
        return obstacle.max_score >= limits.score and obstacle.area >= limits.area and is_near

    def _lasts(self, event: Event) -> bool:
        return event.end_ns - event.start_ns >= self._limits.seconds * 1e9


def with_ranges(
    obstacles: Iterable[Obstacle], ranges: dict[int, tuple[float, float | None]]
) -> tuple[Obstacle, ...]:
    """Return obstacles with the ranges that are known by their ids."""
    return tuple(
        replace(o, range=ranges[o.id][0], range_stddev=ranges[o.id][1])
        if o.id is not None and o.id in ranges
        else o
        for o in obstacles
    )


def load_condition(name: str) -> Condition:
    """Return the function that `module:name` stands for.

    Raises:
        MaskomalyError: there is no such function.

    """
    module, _, function = name.partition(':')
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever a module does when it is imported
        raise MaskomalyError(f'condition {name} cannot be imported: {in_words(error)}') from error
    if not callable(found):
        raise MaskomalyError(f'condition {name} is no function')
    condition: Condition = found
    return condition
