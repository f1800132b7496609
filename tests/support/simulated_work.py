"""What simulated processes do to a log, each thing told to the model before and after."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple, Protocol

from log_model import Book, Commit, Fate, Offsets, Row
from simulated_processes import Machine, Process

from streamkit.backends.values import CommittedOffset
from streamkit.codec import encode
from streamkit.errors import (
    InvalidPartitions,
    InvalidProducerEpoch,
    OffsetOutOfRange,
    OutOfOrderSequence,
    PolicyViolation,
    ProducerFenced,
    TopicExists,
    UnknownPartition,
    UnknownTopic,
)
from streamkit.records import TopicPartition

TIMEOUT = 60.0
FENCED = (ProducerFenced, InvalidProducerEpoch, OutOfOrderSequence)
TOMBSTONES_KEPT = 1000
TOPICS = ("a", "b")
CONFIG = {
    "segment.bytes": "1024",
    "index.interval.bytes": "200",
    "delete.retention.ms": str(TOMBSTONES_KEPT),
    "retention.ms": "-1",
}


@dataclass(eq=False)
class Send:
    """A batch of a producer with sequences."""

    sequence: int
    records: tuple[int, ...]
    rows: list[Row]
    done: bool = False


@dataclass(eq=False)
class Transaction:
    name: str
    owner: Process
    fate: Fate
    started: int
    doubtful: bool = False
    """Somebody may have ended it: its owner may find itself fenced."""
    over: bool = False
    """It was ended, or was to be."""


@dataclass
class World:
    """The machine, its processes, and the books about the log."""

    machine: Machine
    processes: list[Process]
    topics: dict[str, list[Book]] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    """Topics whose making, growth or deletion was killed."""
    offsets: dict[TopicPartition, Offsets] = field(default_factory=dict)
    transactions: list[Transaction] = field(default_factory=list)
    opened: dict[tuple[Process, str], Transaction] = field(default_factory=dict)
    """What a process believes to have open."""
    sequences: dict[tuple[Book, int, int], int] = field(default_factory=dict)
    """By partition, producer id and epoch: how many records were sent."""
    sends: dict[tuple[Book, int], list[Send]] = field(default_factory=dict)
    positions: dict[tuple[int, Book], int] = field(default_factory=dict)
    ids: dict[int, int] = field(default_factory=dict)
    alone: bool = True
    """Nobody does anything while another one is stopped."""
    numbers: int = 0
    moment: int = 0

    @property
    def now(self) -> int:
        return self.machine.clock.now()

    def tick(self) -> int:
        self.moment += 1
        return self.moment

    def books(self) -> Iterator[tuple[TopicPartition, Book]]:
        for name, books in self.topics.items():
            for number, book in enumerate(books):
                yield TopicPartition(name, number), book

    def choose(self, which: int) -> tuple[TopicPartition, Book] | None:
        there = list(self.books())
        return there[which % len(there)] if there else None

    @contextmanager
    def may_be_gone(self, *names: str) -> Iterator[None]:
        before = {name: self.topics.get(name) for name in names}
        try:
            yield
        except (UnknownTopic, UnknownPartition):
            sure = [name for name in names if name in self.topics and name not in self.unsure]
            still = [name for name in sure if self.topics[name] is before[name]]
            assert len(still) < len(names)

    # Records.

    def rows(
        self, book: Book, keys: tuple[int, ...], append: Fate, transaction: Fate | None
    ) -> list[Row]:
        made = []
        for key in keys:
            self.numbers += 1
            row = Row(
                self.numbers, abs(key), key < 0, self.now, append, transaction, floor=book.end
            )
            made.append(row)
            book.rows[row.number] = row
        return made

    def encoded(self, rows: list[Row], **more: object) -> bytes:
        return encode(
            [None if row.tombstone else b"v" * 50 for row in rows],
            keys=[b"%d" % row.key for row in rows],
            headers=[[("number", b"%d" % row.number)] for row in rows],
            timestamps=self.now,
            **more,  # type: ignore[arg-type]
        )

    def stands(self, book: Book, rows: list[Row], offset: int, fate: Fate) -> None:
        for row in rows:
            book.put(row, offset)
            offset += 1
        fate.settle(True)

    # After every step.

    def bury(self, dead: Process) -> None:
        """What a process leaves open that is no more will be taken back, or was decided."""
        dead.bury()
        for one in self.transactions:
            if one.owner is dead and not one.over:
                one.over = True
                one.fate.settle(False)
        self.processes[self.processes.index(dead)] = Process(self.machine)

    def look(self) -> None:
        """How far the partitions were written, and which topics there are."""
        process = self.processes[0]
        found = process.log.topics()
        for name in TOPICS:
            there, known = name in found, name in self.topics
            if there and known and name in self.unsure:
                del self.topics[name][found[name].partitions :]
                self.grow(name, found[name].partitions)
            elif there != known:
                assert name in self.unsure, f"topic {name}: {there}, and {known} is expected"
                if there:
                    self.topics[name] = []
                    self.grow(name, found[name].partitions)
                else:
                    del self.topics[name]
            if there:
                assert found[name].partitions == len(self.topics[name])
        for tp, book in self.books():
            published = process.log.partition(tp).published()
            book.starts(published.start_offset)
            behind = published.end_offset  # a walk may find what was written and not published
            for row in book.rows.values():
                if row.offset is None and row.limit == inf:
                    row.limit, behind = behind, behind + 1
            if "compact" in found[tp.topic].config.get("cleanup.policy", ""):
                book.compacted = True
        for offsets in self.offsets.values():
            for commit in offsets.commits:
                commit.done = min(commit.done, self.tick())

    def grow(self, name: str, total: int) -> None:
        books = self.topics.setdefault(name, [])
        while len(books) < total:
            books.append(Book(f"{name}-{len(books)}", tombstones_kept=TOMBSTONES_KEPT))


class Work(Protocol):
    def do(self, world: World, process: Process) -> None: ...


class Append(NamedTuple):
    """Batches of plain records. A negative key is a tombstone's."""

    partition: int
    batches: tuple[tuple[int, ...], ...]
    durable: bool = True

    def do(self, world: World, process: Process) -> None:
        chosen = world.choose(self.partition)
        if chosen is None:
            return
        tp, book = chosen
        batches, made = [], []
        for keys in self.batches:
            fate = Fate(f"append to {tp}")
            fate.begin()
            made.append((world.rows(book, keys, fate, None), fate))
            batches.append(world.encoded(made[-1][0]))
        with world.may_be_gone(tp.topic):
            partition = process.log.partition(tp)
            offset = partition.append(batches, acks="all" if self.durable else 1)
            for rows, fate in made:
                world.stands(book, rows, offset, fate)
                offset += len(rows)


class SendIdempotent(NamedTuple):
    """What was not acknowledged is sent again first. `again`: also an older batch."""

    producer: int
    partition: int
    keys: tuple[int, ...]
    again: int = 0

    def do(self, world: World, process: Process) -> None:
        chosen = world.choose(self.partition)
        if chosen is None:
            return
        tp, book = chosen
        if self.producer not in world.ids:
            found = process.log.producer_id()
            assert found not in world.ids.values()
            world.ids[self.producer] = found
        producer = world.ids[self.producer]
        sends = world.sends.setdefault((book, producer), [])
        if self.again and len(sends) >= self.again:
            send = sends[-self.again]
        elif sends and not sends[-1].done:
            send = sends[-1]
        else:
            fate = Fate(f"idempotent append to {tp}")
            fate.begin()
            rows = world.rows(book, self.keys, fate, None)
            sequence = sends[-1].sequence + len(sends[-1].records) if sends else 0
            send = Send(sequence, self.keys, rows)
            sends.append(send)
        gone = all((one.rows[0].offset or 0) < book.removable for one in sends)
        with world.may_be_gone(tp.topic):
            for row in send.rows:
                if row.offset is None:
                    row.limit = inf
            if not send.done:
                send.rows[0].append.seen = send.rows[0].append.seen or None
                send.rows[0].append.begin()
            batch = world.encoded(
                send.rows, producer_id=producer, producer_epoch=0, base_sequence=send.sequence
            )
            try:
                offset = process.log.partition(tp).append([batch])
            except OutOfOrderSequence:
                # Long ago, and by way of a snapshot or a compaction it is not remembered.
                assert send.done and self.again > 1
                return
            if send.done and offset != send.rows[0].offset:
                assert gone, f"{tp}@{offset}: a second time, first {send.rows}"
                for row in send.rows:
                    row.offset = None
            send.done = True
            world.stands(book, send.rows, offset, send.rows[0].append)


class Begin(NamedTuple):
    """Take a transactional id over."""

    id: str

    def do(self, world: World, process: Process) -> None:
        take_over(world, process, self.id)


def take_over(world: World, process: Process, name: str) -> None:
    before = [one for one in world.transactions if one.name == name and not one.fate.ended]
    for one in before:
        if not one.over:
            one.doubtful = True
            one.fate.possible |= {False}
    for other in world.processes:
        if name in other.transactions:
            other.fenced.add(name)
    handle = process.backend.transactions(name, timeout=TIMEOUT)
    process.transactions[name] = handle
    for other in world.processes:
        if name in other.transactions:
            other.superseded.add(name)
    process.fenced.discard(name)
    process.superseded.discard(name)
    world.opened.pop((process, name), None)
    for one in before:
        if not one.over:
            one.over = True
            one.fate.settle(False)
        one.fate.ended = True


def begin(world: World, process: Process, name: str) -> Transaction:
    found = world.opened.get((process, name))
    if found is not None:
        return found
    if name not in process.transactions:
        take_over(world, process, name)
    handle = process.transactions[name]
    handle.begin()
    made = Transaction(name, process, Fate(name), world.now)
    made.over = name in process.superseded
    if made.over:
        made.fate.settle(False)
        made.fate.ended = True
    world.opened[process, name] = made
    world.transactions.append(made)
    return made


def fenced(world: World, process: Process, name: str) -> None:
    """The process is told that its time is over, and it has to be."""
    process.transactions.pop(name, None)
    one = world.opened.pop((process, name), None)
    timed_out = one is not None and world.now - one.started >= TIMEOUT * 1000
    assert name in process.fenced or timed_out, f"{name}: fenced, and by nobody"
    if one is not None and not one.over:
        one.over = True
        one.fate.settle(False)


class Transact(NamedTuple):
    """Send to some partitions in a transaction, begun if need be.

    With `offset` one is committed for a group as well. `commits`: end it then, or None.
    """

    id: str
    partitions: tuple[int, ...]
    keys: tuple[int, ...]
    offset: bool = False
    commits: bool | None = None

    def do(self, world: World, process: Process) -> None:
        chosen = dict(filter(None, map(world.choose, self.partitions)))
        with world.may_be_gone(*(tp.topic for tp in chosen)):
            try:
                for tp, book in chosen.items():
                    self.send(world, process, tp, book)
            except FENCED:
                fenced(world, process, self.id)
        if self.commits is not None:
            end(world, process, self.id, commit=self.commits)

    def send(self, world: World, process: Process, tp: TopicPartition, book: Book) -> None:
        one = begin(world, process, self.id)
        handle = process.transactions[self.id]
        handle.add([tp])
        append = Fate(f"append of {self.id} to {tp}")
        append.begin()
        rows = world.rows(book, self.keys, append, one.fate)
        producer, epoch = handle.producer
        sequence = world.sequences.get((book, producer, epoch), 0)
        batch = world.encoded(
            rows,
            producer_id=producer,
            producer_epoch=epoch,
            base_sequence=sequence,
            transactional=True,
        )
        offset = process.log.partition(tp).append([batch])
        world.sequences[book, producer, epoch] = sequence + len(rows)
        world.stands(book, rows, offset, append)
        if self.offset:
            said = said_offset(world, tp, one.fate)
            assert said.offset is not None
            try:
                handle.commit_offsets("g", {tp: CommittedOffset(said.offset)})
            except (UnknownTopic, UnknownPartition):
                world.offsets[tp].commits.remove(said)  # refused: no part of the transaction
                raise
            said.done = world.tick()


def said_offset(world: World, tp: TopicPartition, fate: Fate, *, forget: bool = False) -> Commit:
    commits = world.offsets.setdefault(tp, Offsets(f"g of {tp}")).commits
    moment = world.tick()
    commits.append(Commit(None if forget else moment, fate, moment))
    return commits[-1]


class End(NamedTuple):
    """Commit or abort what is open."""

    id: str
    commit: bool

    def do(self, world: World, process: Process) -> None:
        end(world, process, self.id, commit=self.commit)


def end(world: World, process: Process, name: str, *, commit: bool) -> None:
    one = world.opened.get((process, name))
    if one is None:
        return
    handle = process.transactions[name]
    was_over, one.over = one.over, True
    if not was_over:
        if commit:
            one.fate.begin()
        else:
            one.fate.settle(False)
    try:
        if commit:
            handle.commit()
            assert not was_over, f"{name}: committed by one whose time was over"
            one.fate.settle(True)
        else:
            handle.abort()
    except FENCED:
        one.fate.settle(False)
        fenced(world, process, name)
    else:
        one.fate.ended = True
        del world.opened[process, name]


class Settle(NamedTuple):
    """End what the dead have left open."""

    def do(self, world: World, process: Process) -> None:
        settling = may_settle(world)
        process.backend._coordinator.settle()
        has_settled(world, settling)


def may_settle(world: World) -> list[Transaction]:
    left = []
    for one in world.transactions:
        if one.fate.ended:
            continue
        if world.now - one.started >= TIMEOUT * 1000 and not one.over:
            one.doubtful = True
            one.fate.possible |= {False}
        if one.owner not in world.processes:
            left.append(one)
    return left


def has_settled(world: World, left: list[Transaction]) -> None:
    if len(world.machine.running) == 1:  # else one who is stopped may be the coordinator
        for one in left:
            one.fate.ended = True


class CommitOffset(NamedTuple):
    partition: int

    def do(self, world: World, process: Process) -> None:
        chosen = world.choose(self.partition)
        if chosen is None:
            return
        tp, _ = chosen
        fate = Fate(f"commit of g for {tp}")
        fate.begin()
        said = said_offset(world, tp, fate)
        assert said.offset is not None
        with world.may_be_gone(tp.topic):
            process.backend.commit("g", {tp: CommittedOffset(said.offset)})
            said.done = world.tick()
            fate.settle(True)


class Read(NamedTuple):
    """One of two readers goes on, for some bytes or to the end; or a new one begins."""

    reader: int
    partition: int
    size: int = 1 << 20

    def do(self, world: World, process: Process) -> None:
        chosen = world.choose(self.partition)
        if chosen is None:
            return
        tp, book = chosen
        at = (self.reader, book)
        with world.may_be_gone(tp.topic):
            position = world.positions.get(at, 0) if self.reader else 0
            try:
                world.positions[at] = read(world, process, tp, book, position, self.size)
            except OffsetOutOfRange:
                start = process.backend.offsets(tp).start
                book.starts(start)
                assert position < start
                world.positions[at] = start


def read(
    world: World, process: Process, tp: TopicPartition, book: Book, position: int, size: int
) -> int:
    batches = process.backend.fetch({tp: position}, max_bytes=size)
    for batch in batches:
        some = batch.columns()
        numbers = [int(dict(headers)["number"]) for headers in some.headers or ()]
        assert len(numbers) == len(some)
        found = [
            (offset, number, int(key or b""), value is None)
            for offset, number, key, value in zip(
                some.offsets, numbers, some.keys, some.values, strict=True
            )
        ]
        assert batch.next_offset > position
        book.read(position, batch.next_offset, found, world.now)
        position = batch.next_offset
    return position


def scan(world: World, process: Process, tp: TopicPartition, book: Book) -> None:
    """From the start to the end: nothing that has to be there is missing."""
    position = process.backend.offsets(tp).start
    book.starts(position)
    last: dict[int, int] = {}
    while True:
        found: list[tuple[int, int, int, bool]] = []
        before = position
        batches = process.backend.fetch({tp: position}, max_bytes=600)
        for batch in batches:
            some = batch.columns()
            for offset, headers, key, value in zip(
                some.offsets, some.headers or (), some.keys, some.values, strict=True
            ):
                number = int(dict(headers)["number"])
                found.append((offset, number, int(key or b""), value is None))
                last[int(key or b"")] = 0 if value is None else number
            position = batch.next_offset
        if position == before:
            break
        book.read(before, position, found, world.now)
    for row in book.placed:
        assert row.offset is not None
        if row.append.sure and row.offset < book.reach:
            assert row.offset < position, f"{tp}: readers are held up at {position}, before {row}"
    for key, numbers in book.latest(position).items():
        assert last.get(key, 0) in numbers, f"{tp}: key {key}: {last.get(key)}, not {numbers}"


def look_at_offsets(world: World, process: Process) -> None:
    found = process.backend.committed("g")
    for tp, offsets in world.offsets.items():
        committed = found.pop(tp, None)
        offsets.read(None if committed is None else committed.offset)
    assert not found, f"nobody committed {found}"


class Scan(NamedTuple):
    partition: int

    def do(self, world: World, process: Process) -> None:
        chosen = world.choose(self.partition)
        if chosen is not None:
            tp, book = chosen
            with world.may_be_gone(tp.topic):
                try:
                    scan(world, process, tp, book)
                except OffsetOutOfRange:
                    assert not world.alone  # removed under it
                    scan(world, process, tp, book)
        look_at_offsets(world, process)


class Compact(NamedTuple):
    """Some steps of a round; it may be gone on with later, and by others. `rolls`: all of it."""

    partition: int
    steps: int = 100
    rolls: bool = False

    def do(self, world: World, process: Process) -> None:
        chosen = world.choose(self.partition)
        if chosen is None:
            return
        tp, _ = chosen
        with world.may_be_gone(tp.topic):
            if self.rolls:
                partition = process.log.partition(tp)
                partition.trimmer.roll(partition.published())
            for _ in range(self.steps):
                found = process.log.partition(tp).trimmer.compact(300, force=True)
                if found is None or found.done:
                    return


class Roll(NamedTuple):
    partition: int

    def do(self, world: World, process: Process) -> None:
        chosen = world.choose(self.partition)
        if chosen is None:
            return
        tp, _ = chosen
        with world.may_be_gone(tp.topic):
            partition = process.log.partition(tp)
            partition.trimmer.roll(partition.published())


class DeleteRecords(NamedTuple):
    """Below an offset, so many sixteenths of what there is."""

    partition: int
    part: int

    def do(self, world: World, process: Process) -> None:
        chosen = world.choose(self.partition)
        if chosen is None:
            return
        tp, book = chosen
        with world.may_be_gone(tp.topic):
            offsets = process.backend.offsets(tp)
            before = offsets.start + (offsets.end - offsets.start) * self.part // 16
            book.removable = max(book.removable, before)
            try:
                book.starts(process.backend.delete_records(tp, before))
            except PolicyViolation:
                return
            assert book.start >= before


class Maintain(NamedTuple):
    """Retention, compaction, and the end of what the dead have left open."""

    def do(self, world: World, process: Process) -> None:
        settling = may_settle(world)
        configs = process.log.topics()
        for tp, book in world.books():
            config = configs[tp.topic].config if tp.topic in configs else CONFIG
            if "delete" not in config.get("cleanup.policy", "delete"):
                continue
            keeps = int(config["retention.ms"])
            if keeps >= 0:
                young = (row.offset for row in book.placed if world.now - row.at <= keeps)
                book.removable = max(book.removable, next(young, inf))
            if int(config.get("retention.bytes", -1)) >= 0:
                book.removable = inf
        found = process.log.maintain()
        if world.alone:
            assert found.problems == ()
        has_settled(world, settling)


class Advance(NamedTuple):
    milliseconds: int

    def do(self, world: World, process: Process) -> None:
        world.machine.clock.advance(self.milliseconds)


class Alter(NamedTuple):
    topic: str
    key: str
    value: str

    def do(self, world: World, process: Process) -> None:
        if "compact" in self.value:
            for book in world.topics.get(self.topic, ()):
                book.compacted = True
        with world.may_be_gone(self.topic):
            process.backend.alter_topic(self.topic, {self.key: self.value})


class Create(NamedTuple):
    topic: str
    partitions: int
    policy: str = "delete"

    def do(self, world: World, process: Process) -> None:
        was_unsure = self.topic in world.unsure
        known = self.topic in world.topics
        world.unsure.add(self.topic)
        config = {**CONFIG, "cleanup.policy": self.policy}
        try:
            process.backend.create_topic(self.topic, self.partitions, config)
        except TopicExists:
            assert known or was_unsure or not world.alone
            if not was_unsure:
                world.unsure.discard(self.topic)
            return
        assert not known or was_unsure or not world.alone
        if self.topic in world.unsure:
            world.unsure.discard(self.topic)
        else:
            world.unsure.add(self.topic)  # deleted by others meanwhile: just before, or since
        world.topics[self.topic] = []
        world.grow(self.topic, self.partitions)


class Grow(NamedTuple):
    topic: str

    def do(self, world: World, process: Process) -> None:
        total = len(world.topics.get(self.topic, ())) + 1
        was_unsure = self.topic in world.unsure
        world.unsure.add(self.topic)
        with world.may_be_gone(self.topic):
            try:
                process.backend.add_partitions(self.topic, total)
            except InvalidPartitions:
                assert was_unsure or not world.alone
            else:
                if self.topic in world.unsure:  # else others have deleted it since
                    world.grow(self.topic, total)
        if not was_unsure:
            world.unsure.discard(self.topic)


class Delete(NamedTuple):
    topic: str

    def do(self, world: World, process: Process) -> None:
        fate = Fate(f"deletion of {self.topic}")
        fate.begin()
        forgotten = [
            said_offset(world, tp, fate, forget=True)
            for tp, _ in world.books()
            if tp.topic == self.topic
        ]
        was_unsure = self.topic in world.unsure
        world.unsure.add(self.topic)
        try:
            process.backend.delete_topic(self.topic)
        except UnknownTopic:
            assert self.topic not in world.topics or was_unsure or not world.alone
            if not was_unsure:
                world.unsure.discard(self.topic)
            return
        if self.topic in world.unsure:
            world.unsure.discard(self.topic)
            world.topics.pop(self.topic, None)
        else:
            world.unsure.add(self.topic)  # made by others meanwhile: just before, or since
        moment = world.tick()
        for one in forgotten:
            one.done = moment
        fate.settle(True)


class Reopen(NamedTuple):
    """The process ends as it should, and begins anew."""

    def do(self, world: World, process: Process) -> None:
        open_there = [one for one in world.transactions if one.owner is process and not one.over]
        for one in open_there:
            one.over = True
            one.fate.settle(False)
        process.close()
        for one in open_there:
            one.fate.ended = not one.doubtful
        world.bury(process)
