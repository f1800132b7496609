"""A running sink: reads its topics as the consumer group `connect-<name>`, writes, commits."""

import time
from collections.abc import Iterable
from threading import Event
from typing import Any

from streamkit.backends.base import Backend, Membership
from streamkit.backends.values import CommittedOffset, OffsetRange, TopicInfo
from streamkit.clock import Clock
from streamkit.connect.api import SinkConnector, SinkContext, SinkWriter
from streamkit.connect.appending import at_once
from streamkit.connect.config import ConnectorConfig
from streamkit.connect.dead_letters import DeadLetter, send
from streamkit.connect.status import Progress
from streamkit.connect.topics import AwaitedTopics
from streamkit.errors import (
    ConnectError,
    DataError,
    FatalError,
    OffsetOutOfRange,
    TransientError,
)
from streamkit.records import Record, TopicPartition

FETCH_BYTES = 2 << 20
WAIT_SECONDS = 0.2


class SinkTask:
    """Runs one sink until it is told to stop, or raises what went wrong.

    Offsets are committed after `write` returned: a crash in between writes records again, which
    a sink that stores the offset with its data answers in `resume`.
    """

    def __init__(
        self,
        config: ConnectorConfig,
        connector: SinkConnector[Any],
        options: Any,
        backend: Backend,
        progress: Progress,
        clock: Clock,
        stop: Event,
    ) -> None:
        self._config = config
        self._connector = connector
        self._options = options
        self._backend = backend
        self._progress = progress
        self._clock = clock
        self._stop = stop
        self._context = SinkContext(config.name, lambda topic: backend.topic(topic).topic_id)
        self._group = f"connect-{config.name}"
        self._positions: dict[TopicPartition, int] = {}
        self._notes: dict[TopicPartition, str] = {}
        self._awaited = AwaitedTopics(config.shared.topics, self._context.log)

    def wake(self) -> None:
        """End a wait of the sink now; called from another thread."""
        self._backend.wake()

    def run(self) -> None:
        sink = self._connector(self._options, self._context)
        try:
            while not self._stop.is_set():
                look = time.monotonic()
                topics = self._topics()
                if not topics:
                    self._progress.nothing_to_do(look)
                    self._backend.wait({}, WAIT_SECONDS)
                    continue
                member = self._backend.join(
                    self._group,
                    {name: info.partitions for name, info in topics.items()},
                    client_id=f"connector-{self._config.name}",
                )
                try:
                    self._read(sink, member, topics)
                finally:
                    member.leave()
        finally:
            sink.close()

    def _topics(self) -> dict[str, TopicInfo]:
        """Those of its topics that exist; says which ones it waits for."""
        known = self._backend.topics()
        self._progress.missing = self._awaited.look(known, time.monotonic())
        return {name: known[name] for name in self._config.shared.topics if name in known}

    def _read(self, sink: SinkWriter, member: Membership, topics: dict[str, TopicInfo]) -> None:
        """Read and write until told to stop, or the topics are no longer as in `topics`."""
        self._positions.clear()
        partitions = sum(info.partitions for info in topics.values())
        while not self._stop.is_set():
            look = time.monotonic()
            self._follow(sink, member)
            try:
                batches = self._backend.fetch(self._positions, max_bytes=FETCH_BYTES)
            except OffsetOutOfRange:
                if self._topics() != topics:
                    return
                self._skip_removed()
                continue
            # What was fetched may be of a new topic, at the old one's position; and a sink is not
            # at its end while one of its topics has come that it does not read yet.
            if self._topics() != topics:
                return
            if not batches:
                self._progress.lag = self._lag()
                if len(self._positions) == partitions and not self._progress.lag:
                    self._progress.nothing_to_do(look)
                else:
                    # For partitions that another member still holds, or for what has come since.
                    self._progress.waiting()
                self._backend.wait(self._positions, WAIT_SECONDS)
                continue
            self._progress.looking()
            records = [record for batch in batches for record in batch.records()]
            if records:
                self._write(sink, records)
            for batch in batches:
                self._positions[batch.partition] = batch.next_offset
            self._commit({batch.partition for batch in batches}, member)
            if self._topics() != topics:
                # Deleted and made anew while we wrote: the commit may have gone to the new topic.
                self._begin_anew(topics, member)
                return
            self._progress.lag = self._lag()
            self._progress.stored(len(records))

    def _follow(self, sink: SinkWriter, member: Membership) -> None:
        """Take partitions that are new, let go those that others wait for."""
        now = member.poll()
        if now.revoking:
            # Everything read so far is committed: nothing is under way between two batches.
            member.release(now.revoking)
        mine = {unit for unit in now.owned - now.revoking if isinstance(unit, TopicPartition)}
        for lost in self._positions.keys() - mine:
            del self._positions[lost]
        topics = self._topics()
        # Not those that others know of a topic of that name which was deleted.
        gained = {
            partition
            for partition in mine - self._positions.keys()
            if (topic := topics.get(partition.topic)) is None
            or partition.partition < topic.partitions
        }
        if not gained:
            return
        committed = self._backend.committed(self._group)
        moved: dict[TopicPartition, CommittedOffset] = {}
        for partition in sorted(gained):
            there = self._backend.offsets(partition)
            before = committed.get(partition) or CommittedOffset(there.start)
            start = sink.resume(partition, before) or before
            if start.offset > there.end:
                raise self._beyond(partition, start.offset, there)
            if start != before:
                moved[partition] = start
            self._positions[partition] = start.offset
            self._notes[partition] = start.metadata
        if moved:
            self._backend.commit(self._group, moved, member=member)

    def _begin_anew(self, before: dict[str, TopicInfo], member: Membership) -> None:
        """Commit the beginning of topics that are not the ones that were read."""
        now = self._topics()
        starts = {
            partition: CommittedOffset(self._backend.offsets(partition).start)
            for partition in self._positions
            if (topic := now.get(partition.topic)) is not None
            and topic.topic_id != before[partition.topic].topic_id
            and partition.partition < topic.partitions
        }
        if starts:
            self._backend.commit(self._group, starts, member=member)

    def _commit(self, partitions: Iterable[TopicPartition], member: Membership) -> None:
        self._backend.commit(
            self._group,
            {
                partition: CommittedOffset(
                    self._positions[partition], self._notes.get(partition, "")
                )
                for partition in partitions
            },
            member=member,
        )

    def _write(self, sink: SinkWriter, records: list[Record[bytes | None]]) -> None:
        """Write all of them, in ever smaller parts around one that the sink refuses.

        So a refusal names its record, and what stands before it is written.
        """
        try:
            notes = sink.write(records)
        except DataError as error:
            if len(records) == 1:
                if self._config.shared.errors_tolerance == "none":
                    raise
                self._set_aside(records[0], error)
                return
            middle = len(records) // 2
            self._write(sink, records[:middle])
            self._write(sink, records[middle:])
        else:
            self._notes.update(notes or {})

    def _set_aside(self, record: Record[bytes | None], error: DataError) -> None:
        self._progress.bad += 1
        self._context.log.warning("%s", self._config.masked(str(error)))
        if self._config.shared.errors_deadletterqueue_topic_name:
            letter = DeadLetter(record.value, error, record.key, record.headers, origin=record)
            append = at_once(self._backend, "all")
            send(self._backend, append, [letter], self._config, "TASK_PUT", self._clock.now())

    def _lag(self) -> int:
        return sum(
            max(0, self._backend.end(partition) - position)
            for partition, position in self._positions.items()
        )

    def _skip_removed(self) -> None:
        """Go on at the log's start where retention was faster than this sink; say what is gone."""
        for partition, position in self._positions.items():
            there = self._backend.offsets(partition)
            if position > there.end:
                raise self._beyond(partition, position, there)
            if position < there.start:
                self._context.log.error(
                    "%s@%d to %d were removed by retention before this sink wrote them; "
                    "going on at %d",
                    partition,
                    position,
                    there.start - 1,
                    there.start,
                )
                self._positions[partition] = there.start

    def _beyond(self, partition: TopicPartition, position: int, there: OffsetRange) -> ConnectError:
        if self._backend.committed(self._group).get(partition) is None:
            return TransientError(f"{partition}: its topic was made anew")
        return FatalError(
            f"{partition} ends at {there.end}, but group {self._group} stands at {position}: "
            "records that it has written are gone from the log; reset the group to go on"
        )
