"""The other members of an app, as the log has them: whether they have come to the end of all there
is, and what of theirs holds it back."""

import logging
from collections.abc import Container, Iterator
from dataclasses import dataclass

from streamkit.backends.base import Backend
from streamkit.backends.values import Unit
from streamkit.clock import Clock
from streamkit.dsl.topology import Layout, Topology
from streamkit.engine.notes import is_waiting
from streamkit.engine.place import Place
from streamkit.records import TopicPartition
from streamkit.transactions.coordinator import Coordinator
from streamkit.transactions.records import TOPIC
from streamkit.transactions.transaction import Transaction

logger = logging.getLogger("streamkit.engine")

PATIENCE = 2.0
"""Seconds for which a transaction is open before it is worth a line that it is waited for."""
STILL = 10.0
"""Seconds for which they have committed nothing before it is worth a line that they are."""


@dataclass(slots=True)
class _Held:
    """Where the first open transaction of a partition begins, and since when that was seen."""

    end: int
    since: float
    told: bool = False


class Others:
    """For who runs the tasks of one process. For one thread."""

    def __init__(self, topology: Topology, layout: Layout, place: Place, clock: Clock) -> None:
        self._topology = topology
        self._layout = layout
        self._place = place
        self._clock = clock
        self._held: dict[TopicPartition, _Held] = {}
        self._left: dict[TopicPartition, int] = {}  # what they have not read, and where they are
        self._left_since: float | None = None  # None: that was told
        writes = frozenset((*topology.sinks, *topology.internal))
        handed = (
            topic
            for sub in topology.subtopologies
            for topic in (*(source.topic for source in sub.sources), *sub.retries.values())
            if topic in writes
        )
        self._handed = [
            TopicPartition(topic, number)
            for topic in dict.fromkeys(handed)
            for number in range(layout.partitions[topic])
        ]
        """Where tasks hand over to each other."""

    def at_end(self, here: Container[Unit]) -> bool:
        """Whether they have processed and committed all there is, and what they hand over can be
        read. `here`: the tasks that are not theirs.

        What stays open for long where they hand over is told, with how long that may take, and
        when nothing comes of them.
        """
        # In this order: what they have committed, they have given before.
        left = self._not_read(here)
        if not left and not self._keep_back():
            return True
        now = self._clock.monotonic()
        self._tell_open(now)
        self._tell_left(left, now)
        return False

    def _not_read(self, here: Container[Unit]) -> dict[TopicPartition, int]:
        """What they have still to process, and where they are there."""
        elsewhere = list(self._elsewhere(here))
        if not elsewhere:
            return {}
        committed = self._place.backend.committed(self._topology.app)
        found = {at: committed[at].offset if at in committed else -1 for at in elsewhere}
        return {
            at: offset
            for at, offset in found.items()
            if offset < self._place.end(at) or is_waiting(committed[at].metadata, at)
        }

    def _elsewhere(self, here: Container[Unit]) -> Iterator[TopicPartition]:
        for sub in self._topology.subtopologies:
            topics = (*(source.topic for source in sub.streams), *sub.retries.values())
            for number in range(self._layout.tasks[sub.name]):
                if Unit(sub.name, number) not in here:
                    yield from (TopicPartition(topic, number) for topic in topics)

    def _keep_back(self) -> bool:
        """Whether a transaction is open where the app's tasks hand over to each other: of a member
        that is about to commit, or was stopped in that. What is behind it is still to be read."""
        backend = self._place.backend
        return any(backend.end(at) < backend.offsets(at).log_end for at in self._handed)

    def _tell_left(self, left: dict[TopicPartition, int], now: float) -> None:
        """Once each time that they stand still."""
        if left != self._left:
            self._left, self._left_since = left, now
        elif left and self._left_since is not None and now - self._left_since >= STILL:
            self._left_since = None
            first, *others = sorted(left)
            more = f" and {len(others)} more partitions" if others else ""
            logger.warning(
                "the end waits for other processes of the app, which have %s%s to read and have "
                "committed nothing for %.0f s: they are slow or stopped. Who they are: streamkit "
                "groups describe %s",
                first,
                more,
                STILL,
                self._topology.app,
            )

    def _tell_open(self, now: float) -> None:
        """Once of each transaction that stays open."""
        late: list[TopicPartition] = []
        for at in self._handed:
            range_ = self._place.backend.offsets(at)
            if range_.end == range_.log_end:
                self._held.pop(at, None)
                continue
            held = self._held.get(at)
            if held is None or held.end != range_.end:
                self._held[at] = _Held(range_.end, now)
            elif not held.told and now - held.since >= PATIENCE:
                held.told = True
                late.append(at)
        if not late:
            return
        found = _open_transactions(self._place.backend)
        for one in found:
            places = [at for at in late if at in one.partitions]
            if places:
                logger.warning("%s", self._line(one, places))

    def _line(self, one: Transaction, places: list[TopicPartition]) -> str:
        first = places[0]
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        told = (
            f"the end is held back by a transaction that is open at {first}"
            f"@{self._held[first].end}{more}: that of transactional id {one.transactional_id!r}, "
            f"producer {one.producer_id}. Its process is alive, and slow or stopped; "
        )
        due = one.times_out_at
        if due is None:
            return told + "it is decided, and about to end"
        left = max(0, due - self._clock.now()) / 1000
        return told + f"unless it ends it before, it is aborted in {left:.0f} s"


def _open_transactions(backend: Backend) -> list[Transaction]:
    """All that have begun and not ended, as the log has them."""
    if TOPIC not in backend.topics():
        return []  # one that has them in memory, say
    known = Coordinator()
    for number in range(backend.topic(TOPIC).partitions):
        at = TopicPartition(TOPIC, number)
        position = backend.offsets(at).start
        while batches := backend.fetch({at: position}, isolation="read_uncommitted"):
            for batch in batches:
                columns = batch.columns()
                for key, value in zip(columns.keys, columns.values, strict=True):
                    known.apply(key, value)
                position = batch.next_offset
    return [one for one in known if not one.state.resting]
