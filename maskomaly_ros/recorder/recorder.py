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

"""The event recorder itself, without ROS: messages in, recordings out.

Whoever receives messages hands them over; a thread of its own decides, looks at pictures and
writes, so that nothing waits for the disk. Whatever the disk does, messages are received and the
last seconds are there.
"""

from __future__ import annotations

import logging
import math
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.drives.find import EVENT_FACTS as FACTS
from maskomaly_ros.errors import MaskomalyError, in_words
from maskomaly_ros.node.health import stamp_of
from maskomaly_ros.obstacles import Obstacle
from maskomaly_ros.recorder import decoding
from maskomaly_ros.recorder.catalogue import (
    PICTURE,
    Catalogue,
    Cause,
    Recording,
    write_facts,
)
from maskomaly_ros.recorder.novelty import Judgement, Novelty
from maskomaly_ros.recorder.observing import Observer
from maskomaly_ros.recorder.ring import Counts, Latched, Message, Ring
from maskomaly_ros.recorder.settings import Settings
from maskomaly_ros.recorder.thumbnail import thumbnail
from maskomaly_ros.recorder.triggers import (
    CONDITION,
    OBSTACLE,
    Condition,
    ObstacleRule,
    Trigger,
)
from maskomaly_ros.recorder.writing import BagWriter, Topic, define
from maskomaly_ros.replay.events import Event
from maskomaly_ros.topics import file_name, outputs_of

_LOG = logging.getLogger(__name__)

_BATCH_BYTES = 1 << 23
_CHECK_BYTES = 1 << 26  # written between two looks at the room that is left
_IDLE_SECONDS = 0.1
_HOUR_NS = 3600 * 10**9
_MOST_TRIGGERS = 100  # that wait; an automatic one that comes then is counted
_MOST_CAUSES = 100
_LONGEST_REASON = 500


@dataclass(frozen=True)
class State:
    """How the recorder is.

    Attributes:
        counts: of the ring.
        is_recording: whether a recording is under way.
        recordings: begun and completed since the start.
        known: triggers that showed what is kept already.
        limited: triggers above the number an hour.
        refused: triggers for which there was no room on the disk.
        failed: recordings that could not be completed.
        lost: messages that recordings lack because the disk was too slow.
        written: bytes of all recordings since the start.
        unreadable: messages that could not be looked at.
        problem: why nothing is recorded, or something is missing; empty where all is well.

    """

    counts: Counts
    is_recording: bool = False
    recordings: int = 0
    known: int = 0
    limited: int = 0
    refused: int = 0
    failed: int = 0
    lost: int = 0
    written: int = 0
    unreadable: int = 0
    problem: str = ''


@dataclass
class _Open:
    """A recording that is under way."""

    writer: BagWriter
    facts: Recording
    begin_ns: int  # of the clock that never jumps, as the others
    end_ns: int
    latest_ns: int  # that `end_ns` may become
    checked: int = 0  # bytes at the last look at the room
    missed: int = 0
    events: list[Event] = field(default_factory=list)
    embeddings: list[tuple[float, ...]] = field(default_factory=list)
    frames: dict[tuple[str, int], int] = field(default_factory=dict)
    frame_count: int = 0

    @property
    def name(self) -> str:
        return self.facts.name


class EventRecorder:
    """Keeps the last seconds, and writes them where something fires.

    Args:
        settings: what to record, when, and within which bounds.
        catalogue: where to; prepared.
        novelty: tells what is new; None records all.
        condition: of the user, see `triggers`.
        clock: nanoseconds that never jump, by which messages are handed over.

    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        novelty: Novelty | None = None,
        condition: Condition | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._novelty = novelty
        self._condition = condition
        self._clock = clock
        latched = Latched(max_bytes=max(1 << 16, settings.max_memory // 8))
        self._latched = latched
        self._ring = Ring(settings.pre_roll, settings.max_memory - settings.max_memory // 8)
        self.observer = Observer(
            settings.cameras, settings.obstacle_source, settings.max_image_pixels, self._observe
        )
        self._rules = {
            camera: ObstacleRule(camera, limits, settings.patience)
            for camera, limits in settings.limits.items()
        }
        self._topics: dict[str, Topic] = {}
        self._now_ns = (0, 0)  # of the message that is looked at: received, arrived
        self._lock = threading.Condition()
        self._triggers: deque[Trigger] = deque()
        self._open: _Open | None = None
        self._is_holding = self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name='maskomaly recorder', daemon=True)
        self._totals: Counter[str] = Counter()
        self._condition_failures = 0
        self._problem = ''
        self._begun: deque[int] = deque()  # of the last hour, received_ns
        self._learn_known()
        self._remember_rate()

    # --- of any thread -------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """How it is."""
        with self._lock:
            totals, problem, is_open = dict(self._totals), self._problem, self._open is not None
        observer = self.observer
        return State(
            counts=self._ring.counts,
            is_recording=is_open,
            unreadable=observer.refused + self._condition_failures,
            problem=problem,
            **totals,
        )

    def start(self) -> None:
        """Begin to write where something fires."""
        self._thread.start()

    def stop(self, timeout: float | None = None) -> bool:
        """Complete the recording that is under way as it is now, and end.

        Args:
            timeout: seconds to wait for the disk; None waits as long as it takes.

        Returns:
            Whether it has ended.

        """
        with self._lock:
            self._is_stopping = True
            self._lock.notify()
        if self._thread.ident is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def know(self, topic: Topic) -> None:
        """Learn of a topic, or of what its publishers offer now.

        Raises:
            MaskomalyError: nothing defines its type, so that it cannot be recorded.

        """
        define(topic.msgtype)
        with self._lock:
            self._topics[topic.name] = topic

    def receive(self, topic: str, data: bytes, received_ns: int) -> None:
        """Take a message of a topic that is known.

        Only one thread may do so at a time.

        Args:
            topic: its name.
            data: serialized.
            received_ns: by the clock that recordings are stamped with.

        """
        message = Message(topic, data, received_ns, self._clock())
        self._ring.add(message)
        known = self._topics[topic]
        if known.is_latched:
            self._latched.add(message)
        if self._open is not None and self._lock.acquire(blocking=False):
            self._lock.notify()
            self._lock.release()
        self._now_ns = received_ns, message.arrived_ns
        self.observer.receive(topic, data)
        if self._condition is not None and self._settings.shows_condition(topic):
            self._ask(self._condition, known, message)

    def fire(self, kind: str, reason: str, received_ns: int) -> None:
        """Record what comes before and after now.

        Args:
            kind: see `Trigger`.
            reason: in words.
            received_ns: by the clock that recordings are stamped with.

        """
        self._fire(Trigger(kind, reason[:_LONGEST_REASON], received_ns, self._clock()))

    def _fire(self, trigger: Trigger) -> None:
        with self._lock:
            if self._is_stopping:
                return
            if len(self._triggers) >= _MOST_TRIGGERS:
                self._totals['limited'] += 1
                return
            if not self._is_holding:
                self._ring.hold(self._begin_of(trigger))
                self._is_holding = True
            self._triggers.append(trigger)
            self._lock.notify()

    def _observe(self, camera: str, stamp_ns: int, obstacles: tuple[Obstacle, ...]) -> None:
        rule = self._rules[camera]
        for event in rule.update(obstacles, stamp_ns):
            reason = (
                f'{camera}: an obstacle of score {event.peak_score:.3f} for '
                f'{(event.end_ns - event.start_ns) / 1e9:.2f} s'
            )
            self._fire(Trigger(OBSTACLE, reason, *self._now_ns, event))
        is_open = self._open
        if is_open is not None:
            with self._lock:
                is_open.events[:] = [
                    rule.now(event) if event.camera == camera else event
                    for event in is_open.events
                ]

    def _ask(self, condition: Condition, topic: Topic, message: Message) -> None:
        try:
            reason = condition(topic.name, topic.msgtype, message.data, message.received_ns)
        except Exception as error:  # whatever a function of somebody else does
            self._condition_failures += 1
            if self._condition_failures == 1:
                _LOG.warning('the condition fails on %s: %s', topic.name, in_words(error))
            return
        if reason:
            text = str(reason)[:_LONGEST_REASON]
            self._fire(Trigger(CONDITION, text, message.received_ns, message.arrived_ns))

    # --- of its own thread ---------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._lock:
                if not (self._triggers or self._is_stopping):
                    self._lock.wait(_IDLE_SECONDS)
                is_last = self._is_stopping
            try:
                self.step()
                if is_last:
                    self._end_now()
            except (
                Exception
            ) as error:  # nothing may end this thread; whoever drives is not to know
                _LOG.exception('the event recorder failed')
                if self._open is not None:
                    self._abort(self._open, error)
                else:
                    self._lose(f'it failed: {in_words(error)}')
            if is_last:
                return

    def step(self) -> None:
        """Do what there is to do now: decide on triggers, write, complete."""
        self._decide()
        if self._open is not None:
            self._write(self._open)
        now = self._clock()
        self._ring.expire(now)

    def _decide(self) -> None:
        while True:
            with self._lock:
                if not self._triggers:
                    if self._open is None:
                        self._release()
                    return
                trigger = self._triggers[0]
                if self._open is not None and trigger.arrived_ns > self._open.end_ns:
                    return  # its turn comes when the one under way is complete
                self._triggers.popleft()
            self._take(trigger)

    def _release(self) -> None:
        """Let messages expire again, but for those that waiting triggers want. With the lock."""
        self._ring.release()
        self._is_holding = bool(self._triggers)
        if self._triggers:
            self._ring.hold(self._begin_of(self._triggers[0]))

    def _begin_of(self, trigger: Trigger) -> int:
        return trigger.arrived_ns - round(self._settings.pre_roll * 1e9)

    def _take(self, trigger: Trigger) -> None:
        picture = None if trigger.event is None else self._picture_of(trigger.event)
        judgement = self._judge(trigger, picture)
        if judgement is not None and judgement.distance < self._settings.novelty_threshold:
            self._note_known(judgement.nearest, trigger)
            return
        if self._open is None:
            self._begin(trigger, judgement, picture)
        if self._open is not None:
            self._join(self._open, trigger, judgement)

    def _judge(self, trigger: Trigger, picture: NDArray[np.uint8] | None) -> Judgement | None:
        """Return how new an obstacle is; None where nobody can tell."""
        if trigger.event is None or picture is None or self._novelty is None:
            return None
        judgement = self._novelty.judge(picture, trigger.event.box)
        name, is_open = judgement.nearest, self._open
        if not name or self._catalogue.has(name) or (is_open and is_open.name == name):
            return judgement
        self._learn_known()  # somebody deleted what it is like
        return self._novelty.judge(picture, trigger.event.box)

    def _note_known(self, name: str, trigger: Trigger) -> None:
        with self._lock:
            self._totals['known'] += 1
        if self._open is not None and name == self._open.name:
            return
        try:
            self._catalogue.note_sighting(name, trigger.received_ns)
        except OSError as error:
            self._fail(f'cannot count what was seen again: {error.strerror}')

    def _begin(
        self, trigger: Trigger, judgement: Judgement | None, picture: NDArray[np.uint8] | None
    ) -> None:
        settings = self._settings
        if self._is_above_rate(trigger):
            with self._lock:
                self._totals['limited'] += 1
            return
        novelty = 1.0 if judgement is None else judgement.distance
        score = 1.0 if trigger.event is None else trigger.event.peak_score
        # What a person asked for does not wait behind what a network is sure of.
        interest = score * novelty if trigger.is_automatic else math.inf
        try:
            if not self._catalogue.make_room(
                self._ring.counts.held_bytes, settings.max_disk, settings.keep_free, interest
            ):
                with self._lock:
                    self._totals['refused'] += 1
                self._fail('no room for recordings: see max_disk and keep_free')
                return
            partial = self._catalogue.new_partial(_name(trigger))
            writer = BagWriter(partial, compresses=settings.compresses)
        except OSError as error:
            self._lose(f'cannot begin a recording: {error.strerror or error}')
            return
        recording = Recording(name=partial.name, causes=(), novelty=novelty)
        begin = self._begin_of(trigger)
        is_open = _Open(writer, recording, begin, 0, begin + round(settings.max_length * 1e9))
        try:
            if picture is not None and trigger.event is not None:
                mask = self._mask_of(trigger.event)
                drawn = thumbnail(picture, trigger.event.box, mask)
                (partial / PICTURE).write_bytes(drawn)
            self._write_latched(is_open, trigger)
        except OSError as error:
            self._abort(is_open, error)
            return
        if trigger.is_automatic:
            self._begun.append(trigger.received_ns)
        with self._lock:
            self._open = is_open
        _LOG.info('recording %s: %s', partial.name, trigger.reason)

    def _is_above_rate(self, trigger: Trigger) -> bool:
        most = self._settings.max_events_per_hour
        while self._begun and trigger.received_ns - self._begun[0] > _HOUR_NS:
            self._begun.popleft()
        return trigger.is_automatic and 0 < most <= len(self._begun)

    def _write_latched(self, is_open: _Open, trigger: Trigger) -> None:
        """Begin with what a late subscriber would be given, as if it came at the beginning."""
        begin_ns = trigger.received_ns - round(self._settings.pre_roll * 1e9)
        first = self._ring.hold(is_open.begin_ns)
        for message in self._latched.before(self._clock() if first is None else first):
            with self._lock:
                topic = self._topics[message.topic]
            is_open.writer.write(topic, message.data, max(begin_ns, message.received_ns))

    def _join(self, is_open: _Open, trigger: Trigger, judgement: Judgement | None) -> None:
        wanted = trigger.arrived_ns + round(self._settings.post_roll * 1e9)
        causes = (*is_open.facts.causes, _cause(trigger))[:_MOST_CAUSES]
        with self._lock:
            is_open.end_ns = max(is_open.end_ns, min(wanted, is_open.latest_ns))
            is_open.facts = replace(is_open.facts, causes=causes)
            if trigger.event is not None:
                is_open.events.append(self._rules[trigger.event.camera].now(trigger.event))
                if judgement is not None:
                    is_open.embeddings.append(judgement.embedding)
        if judgement is not None and self._novelty is not None:
            self._novelty.learn(is_open.name, judgement.embedding)
        if wanted > is_open.latest_ns:
            is_open.facts = replace(is_open.facts, cut='max_length')
        try:  # so that it is known what an interrupted recording shows
            write_facts(is_open.writer.folder / FACTS, self._facts_of(is_open))
        except OSError as error:
            self._abort(is_open, error)

    def _write(self, is_open: _Open) -> None:
        writer = is_open.writer
        while True:
            with self._lock:
                end_ns = is_open.end_ns
                topics = dict(self._topics)
            messages, is_over = self._ring.take(end_ns, _BATCH_BYTES)
            try:
                for message in messages:
                    self._index(is_open, message)
                    writer.write(topics[message.topic], message.data, message.received_ns)
                self._note_missed(is_open)
                if messages and not self._has_room(is_open):
                    is_open.facts = replace(is_open.facts, cut='no room on the disk')
                    self._complete(is_open)
                    return
                if is_over or (not messages and self._clock() >= end_ns):
                    self._complete(is_open)
                    return
            except OSError as error:
                self._abort(is_open, error)
                return
            if not messages or self._triggers:
                return

    def _index(self, is_open: _Open, message: Message) -> None:
        """Give a frame the number that it has when the bag is read."""
        if message.topic in self._settings.limits:
            key = message.topic, stamp_of(message.data) or 0
            is_open.frames.setdefault(key, is_open.frame_count)
            is_open.frame_count += 1

    def _note_missed(self, is_open: _Open) -> None:
        missed = self._ring.missed() - is_open.missed
        if missed:
            is_open.missed += missed
            with self._lock:
                self._totals['lost'] += missed
            self._fail('the disk is too slow: messages are missing in a recording')

    def _has_room(self, is_open: _Open) -> bool:
        size = is_open.writer.size
        if size - is_open.checked < _CHECK_BYTES:
            return True
        is_open.checked = size
        settings = self._settings
        return self._catalogue.make_room(
            size, settings.max_disk, settings.keep_free, _interest(self._facts_of(is_open))
        )

    def _facts_of(self, is_open: _Open) -> Recording:
        writer, known = is_open.writer, self.observer.facts
        with self._lock:
            events = tuple(_indexed(event, is_open.frames) for event in is_open.events)
        return replace(
            is_open.facts,
            start_ns=writer.first_ns or 0,
            end_ns=writer.last_ns,
            messages=dict(writer.counts),
            size=writer.size,
            lost=is_open.missed,
            events=events,
            embeddings=tuple(is_open.embeddings),
            checkpoint=known.get('checkpoint', ''),
            checkpoint_sha256=known.get('checkpoint sha256', ''),
            queries_sha256=known.get('queries sha256', ''),
        )

    def _complete(self, is_open: _Open) -> None:
        try:
            is_open.writer.close()
            facts = self._facts_of(is_open)
            self._catalogue.add(is_open.writer.folder, facts)
        except OSError as error:
            self._abort(is_open, error)
            return
        with self._lock:
            self._open = None
            self._release()
            self._totals['recordings'] += 1
            self._totals['written'] += facts.size
            if not facts.lost:
                self._problem = ''
        _LOG.info('recorded %s: %.1f s, %.1f MB', facts.name, facts.seconds, facts.size / 1e6)
        settings = self._settings
        interest = _interest(facts)
        try:  # the rest of it may have been more than was looked for
            has_room = self._catalogue.make_room(
                0, settings.max_disk, settings.keep_free, interest, spare=facts.name
            )
            if not has_room and interest < math.inf and not self._catalogue.is_pinned(facts.name):
                self._catalogue.delete(facts.name)
                self._fail('no room for recordings: see max_disk and keep_free')
        except (OSError, MaskomalyError) as error:
            self._fail(f'cannot delete recordings: {error}')
        self._learn_known()

    def _abort(self, is_open: _Open, error: Exception) -> None:
        is_open.writer.abort()
        shutil.rmtree(is_open.writer.folder, ignore_errors=True)
        with self._lock:
            self._open = None
            self._release()
        self._learn_known()
        self._lose(f'a recording was given up: {getattr(error, "strerror", None) or error}')

    def _lose(self, problem: str) -> None:
        with self._lock:
            self._totals['failed'] += 1
        self._fail(problem)

    def _fail(self, problem: str) -> None:
        with self._lock:
            is_new, self._problem = problem != self._problem, problem
        if is_new:
            _LOG.warning('%s', problem)

    def _end_now(self) -> None:
        """Complete what is under way with what has come so far."""
        if self._open is None:
            return
        with self._lock:
            self._triggers.clear()
            self._open.end_ns = min(self._open.end_ns, self._clock())
            self._open.facts = replace(self._open.facts, cut='the recorder was stopped')
        is_open = self._open
        while self._open is is_open:
            self._write(is_open)

    def _learn_known(self) -> None:
        """Know what the recordings that are there show."""
        if self._novelty is None:
            return
        known = [(r.name, e) for r in self._catalogue.recordings() for e in r.embeddings]
        if self._open is not None:
            known += [(self._open.name, e) for e in self._open.embeddings]
        self._novelty.replace(known)

    def _remember_rate(self) -> None:
        """Know when recordings of the last hour began, also those of another process."""
        for recording in self._catalogue.recordings():
            first = next(iter(recording.causes), None)
            if first is not None and first.kind in (OBSTACLE, CONDITION):
                self._begun.append(first.received_ns)

    def _picture_of(self, event: Event) -> NDArray[np.uint8] | None:
        """Return the camera's picture of the best view of an event so far."""
        for message in self._ring.newest([event.camera]):
            if stamp_of(message.data) == event.peak_ns:
                try:
                    return decoding.decode_picture(
                        message.data,
                        self._topics[message.topic].msgtype,
                        self._settings.max_image_pixels,
                    )
                except MaskomalyError as error:
                    self._fail(f'{event.camera}: {error}')
                    return None
        return None

    def _mask_of(self, event: Event) -> NDArray[np.uint8] | None:
        for message in self._ring.newest([f'{outputs_of(event.camera)}/mask']):
            if stamp_of(message.data) == event.peak_ns:
                try:
                    return decoding.decode_mask(message.data, self._settings.max_image_pixels)
                except MaskomalyError:
                    return None
        return None


def _interest(facts: Recording) -> float:
    """Return what a recording is worth while room is made for it."""
    if any(cause.kind not in (OBSTACLE, CONDITION) for cause in facts.causes):
        return math.inf  # a person asked for it
    return facts.interest


def _cause(trigger: Trigger) -> Cause:
    return Cause(trigger.kind, trigger.reason, trigger.received_ns)


def _name(trigger: Trigger) -> str:
    """Return a name for a recording: time in UTC, and where it comes from."""
    time_utc = datetime.fromtimestamp(trigger.received_ns / 1e9, tz=timezone.utc)
    source = trigger.kind
    if trigger.event is not None:
        source = file_name(trigger.event.camera)
    return f'{time_utc:%Y%m%dT%H%M%S}_{time_utc.microsecond // 1000:03}_{source[:60]}'


def _indexed(event: Event, frames: dict[tuple[str, int], int]) -> Event:
    """Return an event with the indices of its frames in the bag; the nearest that there are."""
    own = sorted((stamp, i) for (camera, stamp), i in frames.items() if camera == event.camera)
    if not own:
        return replace(event, start_index=-1, end_index=-1, peak_index=-1)

    def nearest(stamp_ns: int) -> int:
        return min(own, key=lambda each: abs(each[0] - stamp_ns))[1]

    return replace(
        event,
        start_index=nearest(event.start_ns),
        end_index=nearest(event.end_ns),
        peak_index=nearest(event.peak_ns),
    )
