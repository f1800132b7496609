"""Two ways to read a topic for `streamkit consume`: alone, or as a member of a group.

Both give records until they are told to stop, have given `count`, or (without `follow`) have
reached the end that the topic had when they began.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf
from time import monotonic

from streamkit.backends.base import Backend, Batch, Membership
from streamkit.backends.values import CommittedOffset
from streamkit.cli.output import note
from streamkit.cli.positions import Position, offset_at
from streamkit.engine.signals import Stop
from streamkit.errors import OffsetOutOfRange
from streamkit.records import Record, TopicPartition

WAIT = 0.2
"""Seconds between two looks at whether somebody asked to stop."""
COMMIT_INTERVAL = 1.0
PATIENCE = 5.0
"""Seconds that a reader to the end waits for a partition that others hold."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is to be read; `count` None: no limit."""

    follow: bool
    count: int | None


def read_alone(
    log: Backend, partitions: list[TopicPartition], start: Position, extent: Extent, stop: Stop
) -> Iterator[Record[bytes | None]]:
    """Records of these partitions from `start` on; nothing is committed."""
    positions = {at: offset_at(log, at, start) for at in partitions}
    ends = {at: log.end(at) for at in partitions}
    withheld = Withheld(log, extent)
    given = 0
    while not stop.is_set():
        if not extent.follow:
            positions = {at: offset for at, offset in positions.items() if offset < ends[at]}
            if not positions:
                withheld.say(partitions)
                return
        batches = _fetch(log, positions)
        for batch in batches:
            for record in batch.records():
                if extent.follow or record.offset < ends[batch.partition]:
                    yield record
                    given += 1
                    if given == extent.count:
                        return
            positions[batch.partition] = batch.next_offset
        if not batches:
            sys.stdout.flush()
            withheld.say(partitions)
            log.wait(positions, WAIT)


class Withheld:
    """Says where open transactions keep records back, so that nobody takes them for lost."""

    def __init__(self, log: Backend, extent: Extent) -> None:
        self._log = log
        self._patience = PATIENCE if extent.follow else 0.0
        self._since: dict[tuple[TopicPartition, int], float] = {}

    def say(self, partitions: Iterable[TopicPartition]) -> None:
        """Each place once; who follows may wait a little for a transaction that goes on."""
        now = monotonic()
        for at in partitions:
            bounds = self._log.offsets(at)
            if bounds.end == bounds.log_end:
                continue
            since = self._since.setdefault((at, bounds.end), now)
            if now - since >= self._patience:
                self._since[at, bounds.end] = inf
                note(
                    f"{at}@{bounds.end}: a transaction is open since there, and nothing of"
                    f" {bounds.end} to {bounds.log_end - 1} is shown before it has ended; if its"
                    " producer was killed, `streamkit log maintain` aborts it"
                )


def _fetch(log: Backend, positions: dict[TopicPartition, int]) -> list[Batch]:
    """What there is to read. Where records were removed, go on after them, and say so."""
    try:
        return log.fetch(positions)
    except OffsetOutOfRange:
        starts = {at: log.offsets(at).start for at in positions}
        removed = {at: start for at, start in starts.items() if positions[at] < start}
        if not removed:
            raise
    for at, start in removed.items():
        note(f"{at}@{positions[at]} to {start - 1} were removed, by retention or a request")
        positions[at] = start
    return []


def read_as_member(
    log: Backend, topic: str, group: str, start: Position, extent: Extent, stop: Stop
) -> Iterator[Record[bytes | None]]:
    """Records of the partitions that the group gives us, from where it stands or `start`.

    A record counts as done when the next one is asked for and stdout took it; only such are
    committed.
    """
    count = log.topic(topic).partitions
    member = log.join(group, {topic: count}, client_id="streamkit consume")
    try:
        ends = {at: log.end(at) for at in (TopicPartition(topic, n) for n in range(count))}
        yield from _read_owned(_Owned(log, topic, group, member, start), ends, extent, stop)
    finally:
        member.leave()


class _Owned:
    """The partitions that this member owns, and how far it has read them."""

    def __init__(
        self, log: Backend, topic: str, group: str, member: Membership, start: Position
    ) -> None:
        self.log = log
        self._topic = topic
        self._count = log.topic(topic).partitions
        self.positions: dict[TopicPartition, int] = {}
        self._group = group
        self._member = member
        self._start = start
        self._committed: dict[TopicPartition, int] = {}

    def poll(self) -> None:
        """Follow the group: begin with what is gained, finish with what another waits for.

        Partitions that the topic has been given since the beginning are read whole.
        """
        count = self.log.topic(self._topic).partitions
        self._member.update({self._topic: count})
        ownership = self._member.poll()
        for gone in self.positions.keys() - ownership.owned:
            del self.positions[gone]
        if ownership.revoking:
            self.commit()
            for leaving in ownership.revoking:
                self.positions.pop(leaving, None)
            self._member.release(ownership.revoking)
        gained = ownership.owned - ownership.revoking - self.positions.keys()
        # Not those that others know of a topic of that name which was deleted.
        gained = frozenset(at for at in gained if at.partition < count)
        if gained:
            # First what is pending: it may have been committed by the time of the second question.
            pending = self.log.pending(self._group)
            committed = self.log.committed(self._group)
            for new in gained - pending:
                if new in committed:
                    self.positions[new] = self._committed[new] = committed[new].offset
                elif new.partition >= self._count:
                    self.positions[new] = self.log.offsets(new).start
                else:
                    self.positions[new] = offset_at(self.log, new, self._start)

    def commit(self) -> None:
        """Commit what stdout took."""
        sys.stdout.flush()
        moved = {
            at: offset for at, offset in self.positions.items() if self._committed.get(at) != offset
        }
        if moved:
            offsets = {at: CommittedOffset(offset) for at, offset in moved.items()}
            self.log.commit(self._group, offsets, member=self._member)
            self._committed.update(moved)


def _read_owned(
    owned: _Owned, ends: dict[TopicPartition, int], extent: Extent, stop: Stop
) -> Iterator[Record[bytes | None]]:
    withheld = Withheld(owned.log, extent)
    given = 0
    began = committed = monotonic()
    while not stop.is_set():
        owned.poll()
        batches = _fetch(owned.log, owned.positions) if owned.positions else []
        for batch in batches:
            for record in batch.records():
                yield record
                owned.positions[batch.partition] = record.offset + 1
                given += 1
                if given == extent.count:
                    owned.commit()
                    return
            owned.positions[batch.partition] = batch.next_offset
        if not extent.follow:
            if owned.positions and all(at >= ends.get(p, 0) for p, at in owned.positions.items()):
                withheld.say(owned.positions)
                break
            if not owned.positions and monotonic() - began > PATIENCE:
                note("every partition is held by other members of the group")
                break
        if monotonic() - committed > COMMIT_INTERVAL:
            owned.commit()
            committed = monotonic()
        if not batches:
            sys.stdout.flush()
            withheld.say(owned.positions)
            owned.log.wait(owned.positions, WAIT)
    owned.commit()
