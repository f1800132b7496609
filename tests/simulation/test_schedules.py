"""Random schedules of several processes on one log, held against a model of what readers may find.

A schedule that fails is printed as the list of what was done, as short as it can be made.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from simulated_processes import Machine, Process, kill_at, simulate
from simulated_work import (
    CONFIG,
    Advance,
    Alter,
    Append,
    Begin,
    CommitOffset,
    Compact,
    Create,
    Delete,
    DeleteRecords,
    End,
    Grow,
    Maintain,
    Read,
    Reopen,
    Roll,
    Scan,
    SendIdempotent,
    Settle,
    Transact,
    Work,
    World,
    look_at_offsets,
    scan,
)

from streamkit.fsck.check import check

SCHEDULES = 5000 if "STREAMKIT_SOAK" in os.environ else 200
"""For each policy."""
STEPS = 25

POLICIES = (
    {"cleanup.policy": "delete", "retention.ms": "20000"},
    {"cleanup.policy": "compact"},
)

WHO = st.integers(0, 2)
TOPIC = st.sampled_from(["a", "b"])
PARTITION = st.sampled_from([0, 0, 0, 1, 1, 2, 3])
ID = st.sampled_from(["x", "y"])
KEYS = st.lists(st.sampled_from([1, 2, 3, -1, -2]), min_size=1, max_size=3).map(tuple)

APPEND = st.builds(
    Append, PARTITION, st.lists(KEYS, min_size=1, max_size=4).map(tuple), st.booleans()
)
SEND = st.builds(SendIdempotent, st.integers(0, 1), PARTITION, KEYS, st.integers(0, 3))
BEGIN = st.builds(Begin, ID)
TRANSACT = st.builds(
    Transact,
    ID,
    st.lists(PARTITION, min_size=1, max_size=2, unique=True).map(tuple),
    KEYS,
    st.booleans(),
    st.sampled_from([None, None, True, True, False]),
)
END = st.builds(End, ID, st.booleans())
SETTLE = st.just(Settle())
COMMIT = st.builds(CommitOffset, PARTITION)
READ = st.builds(Read, st.integers(0, 2), PARTITION, st.sampled_from([1, 300, 10_000]))
SCAN = st.builds(Scan, PARTITION)
COMPACT = st.builds(Compact, PARTITION, st.sampled_from([1, 2, 4, 100, 100]), st.booleans())
ROLL = st.builds(Roll, PARTITION)
DELETE_RECORDS = st.builds(DeleteRecords, PARTITION, st.integers(1, 16))
MAINTAIN = st.just(Maintain())
ADVANCE = st.builds(Advance, st.sampled_from([1, 1000, 25_000, 61_000]))
ALTER = st.builds(
    lambda topic, config: Alter(topic, *config),
    TOPIC,
    st.sampled_from(
        [
            ("cleanup.policy", "compact"),
            ("cleanup.policy", "delete"),
            ("cleanup.policy", "compact,delete"),
            ("retention.ms", "20000"),
            ("retention.ms", "-1"),
            ("retention.bytes", "600"),
            ("segment.bytes", "2048"),
        ]
    ),
)
CREATE = st.builds(Create, TOPIC, st.integers(1, 2), st.sampled_from(["delete", "compact"]))
GROW = st.builds(Grow, TOPIC)
DELETE = st.builds(Delete, TOPIC)
REOPEN = st.just(Reopen())

LOST = st.lists(
    st.sampled_from(["a-0", "a-1", "b-0", "__consumer_offsets-0", "__transaction_state-0"]),
    max_size=3,
)
"""Partitions whose control block does not survive a reboot."""

MEANWHILE = st.one_of(
    READ,
    SCAN,
    APPEND,
    SEND,
    TRANSACT,
    END,
    COMMIT,
    COMPACT,
    ROLL,
    DELETE_RECORDS,
    MAINTAIN,
    BEGIN,
    CREATE,
    DELETE,
    GROW,
)


class Killed(NamedTuple):
    """At its n-th operation that changes a file; `torn`: when half of it was written."""

    at: int
    torn: bool = False


class Stopped(NamedTuple):
    """Before its n-th operation on a file, until another process has done something."""

    at: int
    other: int
    meanwhile: Work


FATE = st.one_of(
    st.none(),
    st.none(),
    st.none(),
    st.builds(Killed, st.integers(1, 40) | st.integers(1, 200), st.booleans()),
    st.builds(Stopped, st.integers(1, 60), st.integers(1, 2), MEANWHILE),
)


def _apart(one: Work, other: Work) -> bool:
    """Whether it is known who comes first: not if both begin or end a transaction of one id."""
    ids = getattr(one, "id", None), getattr(other, "id", None)
    return ids[0] is None or ids[0] != ids[1]


_machine: list[Machine] = []


class Schedule(RuleBasedStateMachine):
    """Three processes; `who` is one of them. Its rules that are alike are made in `_rules`."""

    template: Path
    failed = False

    @initialize()
    def make(self) -> None:
        self.root = Path(tempfile.mkdtemp(dir=self.template.parent))
        log = self.root / "log"
        shutil.copytree(self.template, log)
        machine = Machine(log)
        _machine[:] = [machine]
        self.world = World(machine, [Process(machine) for _ in range(3)])
        self.world.grow("a", 2)

    def step(self, who: int, does: Work, fate: Killed | Stopped | None = None) -> None:
        self.failed = True
        world = self.world
        process = world.processes[who]
        if isinstance(does, End):  # by one who has something to end
            opened = [owner for owner, name in world.opened if name == does.id]
            process = next((one for one in opened if one in world.processes), process)
        kill = None
        match fate:
            case Killed(at, torn):
                kill = kill_at(at, torn=torn)
            case Stopped(at, other, meanwhile) if _apart(does, meanwhile):
                world.alone = False
                another = world.processes[(world.processes.index(process) + other) % 3]
                process.files.stop = at, lambda: self.run(another, meanwhile)
        self.run(process, does, kill)
        world.alone = True
        world.look()
        self.failed = False

    def run(self, process: Process, does: Work, kill: object = None) -> None:
        if not process.run(lambda: does.do(self.world, process), kill):  # type: ignore[arg-type]
            self.world.bury(process)

    @rule(lost=LOST)
    def reboot(self, lost: list[str]) -> None:
        self.failed = True
        self.end_all()
        for name in lost:
            (self.world.machine.root / name / "control").unlink(missing_ok=True)
        self.world.look()
        self.failed = False

    def end_all(self) -> None:
        for process in list(self.world.processes):
            self.world.bury(process)
        self.world.machine.boot += 1

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if not self.failed:
                self.hold()
                self.end_all()
                for path in self.root.glob("log/*-*/control"):
                    path.unlink()
                self.hold()
        finally:
            for process in self.world.processes:
                process.bury()
            shutil.rmtree(self.root)

    def hold(self) -> None:
        """When everybody is dead, and what they left is ended, all is there that has to be."""
        world = self.world
        for process in list(world.processes):
            world.bury(process)
        world.look()
        process = world.processes[0]

        def look() -> None:
            Settle().do(world, process)
            for tp, book in world.books():
                scan(world, process, tp, book)
            look_at_offsets(world, process)

        assert process.run(look)
        assert process.run(process.close)
        report = check(world.machine.root, now=world.now)
        # What is committed here are numbers to know a commit by, and no positions.
        found = (one for one in report.findings if one.kind != "committed")
        errors = [one for one in found if one.severity == "error"]
        assert not errors, "\n".join(f"{one.file}: {one.problem}" for one in errors)


def _rules() -> dict[str, Callable[..., None]]:
    kinds = {
        "append": APPEND,
        "send": SEND,
        "begin": BEGIN,
        "transact": TRANSACT,
        "transact_more": TRANSACT,
        "end": END,
        "settle": SETTLE,
        "commit_offset": COMMIT,
        "read": READ,
        "scan": SCAN,
        "compact": COMPACT,
        "roll": ROLL,
        "delete_records": DELETE_RECORDS,
        "maintain": MAINTAIN,
        "alter": ALTER,
        "create": CREATE,
        "grow": GROW,
        "delete": DELETE,
        "reopen": REOPEN,
    }

    def make(name: str, work: st.SearchStrategy[Work]) -> Callable[..., None]:
        def step(self: Schedule, who: int, does: Work, fate: Killed | Stopped | None) -> None:
            self.step(who, does, fate)

        step.__name__ = name
        return step

    made = {
        name: rule(who=WHO, does=work, fate=FATE)(make(name, work)) for name, work in kinds.items()
    }
    made["advance"] = rule(who=WHO, does=ADVANCE, fate=st.none())(make("advance", ADVANCE))
    return made


Whole = type("Whole", (Schedule,), _rules())


@pytest.fixture(params=POLICIES, ids=("delete", "compact"))
def template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Path:
    """A log with a topic of that policy, and with its own, all of small segments."""
    simulate(monkeypatch, lambda: _machine[0])
    machine = Machine(tmp_path / "template")
    _machine[:] = [machine]
    process = Process(machine)

    def make() -> None:
        backend = process.backend
        backend.create_topic("a", 2, {**CONFIG, **request.param})
        backend._offsets.make()
        backend._coordinator._topic.make()
        for name in ("__consumer_offsets", "__transaction_state"):
            process.log.alter_topic(name, {"segment.bytes": "1024"})
        process.log.maintain()
        process.close()

    assert process.run(make)
    (machine.root / "ballast").write_bytes(b"")  # copied often
    return machine.root


@pytest.mark.slow
@pytest.mark.timeout(1800)  # a schedule that fails is made short, which takes its time
def test_whatever_processes_do_and_whoever_is_killed_readers_find_what_they_may(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Schedule, "template", template, raising=False)
    run_state_machine_as_test(
        Whole,  # type: ignore[arg-type]
        settings=settings(
            max_examples=SCHEDULES,
            stateful_step_count=STEPS,
            derandomize="STREAMKIT_SOAK" not in os.environ,  # others every time, for the soak only
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# Schedules that were found once.

Step = tuple[int, Work] | tuple[int, Work, Killed | Stopped]


def play(template: Path, monkeypatch: pytest.MonkeyPatch, *steps: Step) -> None:
    """Step by step: who does what, and what disturbs it."""
    monkeypatch.setattr(Schedule, "template", template, raising=False)
    schedule = Whole()
    schedule.make()
    try:
        for step in steps:
            schedule.step(*step)
    finally:
        schedule.teardown()


with_retention = pytest.mark.parametrize("template", POLICIES[:1], ids=["delete"], indirect=True)
with_compaction = pytest.mark.parametrize("template", POLICIES[1:], ids=["compact"], indirect=True)


@with_retention
def test_who_slept_through_the_abort_and_its_removal_opens_no_transaction_that_nobody_ends(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(
        template,
        monkeypatch,
        (0, SendIdempotent(0, 0, (1, 1, 1), 0)),
        (0, Alter("a", "cleanup.policy", "compact")),
        (0, Alter("a", "cleanup.policy", "delete")),
        (0, Append(0, ((1,), (1,)), False)),
        (0, Advance(1)),
        (0, Advance(1)),
        (0, Scan(0)),
        (0, Maintain(), Stopped(3, 1, SendIdempotent(0, 0, (1,), 0))),
        (0, Scan(0)),
        (0, Advance(1)),
        (1, Roll(0)),
        (2, Transact("x", (0,), (1, 1, 1), False, None)),
        (0, Advance(25000)),
        (0, Maintain()),
        (0, Advance(1)),
        (0, Begin("x")),
        (0, CommitOffset(0)),
        (0, Advance(1)),
        (0, Advance(1)),
        (1, Advance(25000)),
        (0, Maintain()),
        (0, CommitOffset(0)),
        (1, Append(1, ((-2, -1),), True)),
        (2, Transact("x", (2,), (3, -2, -1), False, None), Stopped(53, 1, Grow("a"))),
    )


@with_retention
def test_a_producer_goes_on_in_a_process_that_never_saw_what_was_appended_and_removed(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(
        template,
        monkeypatch,
        (0, SendIdempotent(0, 0, (1,), 0)),
        *[(0, Advance(1))] * 5,
        (0, Maintain(), Stopped(1, 1, SendIdempotent(0, 0, (1,), 0))),
        (0, Advance(25000)),
        (1, Roll(0)),
        (0, Advance(1)),
        (0, Maintain()),
        *[(0, Advance(1))] * 4,
        (0, SendIdempotent(0, 0, (1,), 0)),
    )


@with_compaction
def test_what_a_fenced_producer_sends_to_a_topic_made_again_is_not_committed_by_the_next_one(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(
        template,
        monkeypatch,
        (0, Transact("x", (0,), (1,), False, None)),
        (1, Transact("x", (0,), (1,), False, True)),
        (0, Compact(0, 1, False), Stopped(1, 1, Delete("a"))),
        (0, Create("a", 1, "delete")),
        (0, Transact("x", (0,), (1,), False, None)),
    )


@with_retention
def test_an_offset_of_a_deleted_topic_is_refused_and_its_transaction_goes_on_without_it(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(
        template,
        monkeypatch,
        *[(0, Transact("x", (0,), (1,), False, None))] * 12,
        (0, Transact("x", (0, 1), (1,), False, None)),
        *[(0, Transact("x", (0,), (1,), False, None))] * 3,
        (0, Transact("x", (3,), (1,), False, None)),
        (2, Transact("y", (0,), (1,), False, None)),
        (2, Transact("y", (1,), (1,), True, None), Stopped(29, 1, Delete("a"))),
        *[(0, Transact("x", (0,), (1,), False, None))] * 3,
        (2, Transact("y", (0,), (1,), False, True)),
    )


@with_retention
@pytest.mark.parametrize("at", range(1, 61))
def test_a_topic_may_change_again_before_whoever_changes_it_has_heard_that_it_did(
    template: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    play(template, monkeypatch, (0, Create("b", 1), Stopped(at, 1, Delete("b"))))
    play(template, monkeypatch, (0, Grow("a"), Stopped(at, 1, Delete("a"))))
    play(template, monkeypatch, (0, Delete("a"), Stopped(at, 1, Create("a", 1))))


@with_compaction
def test_what_was_aborted_below_the_start_of_a_partition_is_compacted_away(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(
        template,
        monkeypatch,
        (0, Transact("x", (0,), (1,))),
        (0, Begin("x")),
        (0, Transact("x", (0,), (1,))),
        (0, Begin("x")),
        (0, Alter("a", "cleanup.policy", "delete")),
        (0, DeleteRecords(0, 8)),
        (0, Alter("a", "cleanup.policy", "compact")),
        (0, Compact(0, 2, True)),
    )
