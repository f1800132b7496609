"""Stores, in memory and on disk, against a dictionary: whatever is done, and wherever it is killed.

The changelog is a list here. What is committed is in it; a store that is begun again has to come
back to exactly that, whatever its disk has kept.
"""

import shutil
import tempfile
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from columns_as_read import as_read
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from streamkit.clock import ManualClock
from streamkit.engine.hot import order
from streamkit.engine.rows import Rows
from streamkit.engine.state import cache as cache_module
from streamkit.engine.state import disk as disk_module
from streamkit.engine.state import expiring
from streamkit.engine.state.budget import Budget
from streamkit.engine.state.disk import Disk, open_disk
from streamkit.engine.state.expiring import ExpiringStore
from streamkit.engine.state.store import Store
from streamkit.serde import serde_for

TTL = 50
NAMES = [b"", b"a", b"a\0", b"ab", b"\xff", b"l" * 511, b"l" * 512, b"l" * 511 + b"\0x"]
NAMES += [b"k%02d" % n for n in range(10)]
KEYS = st.sampled_from(NAMES)
VALUES = st.lists(st.integers(0, 9), min_size=1, max_size=3)
PUTS = st.tuples(st.just("put"), KEYS, VALUES, st.integers(0, 200))
WORK = st.lists(
    PUTS
    | PUTS
    | st.tuples(st.just("delete"), KEYS)
    | st.tuples(st.just("get"), KEYS)
    | st.tuples(st.just("change_in_place"), KEYS, st.integers(0, 9)),
    max_size=25,
)


class Killed(BaseException): ...


class At:
    offset = 0


class Time:
    watermark = -(1 << 62)


class Machine(RuleBasedStateMachine):
    """`now` is what the store should have; `kept` what is committed; both with times."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="store-"))
        self.clock, self.time = ManualClock(), Time()
        self.log: list[tuple[int, bytes, bytes | None, int]] = []
        self.end = 0
        self.now: dict[bytes, tuple[int, list[int]]] = {}
        self.kept: dict[bytes, tuple[int, list[int]]] = {}
        self.told: deque[tuple[Rows, dict[bytes, tuple[int, list[int]]]]] = deque()
        self.zombies: list[Store] = []
        self.notes: list[str] = []
        self.disk: Disk | None = None

    @initialize(
        on_disk=st.booleans(),
        ttl=st.booleans(),
        limit=st.sampled_from([1, 3000, 1 << 30]),
        full=st.booleans(),
    )
    def begin(self, on_disk: bool, ttl: bool, limit: int, full: bool) -> None:
        self.on_disk, self.ttl, self.limit = on_disk, ttl, limit
        self.open(100)
        if full:
            self.batch([("put", name, [1], 200) for name in NAMES], 2)
            self.make_room()

    def teardown(self) -> None:
        for store in [*self.zombies, getattr(self, "store", None)]:
            if store is not None:
                store.close()
        shutil.rmtree(self.folder)

    def open(self, slice_: int) -> None:
        """A new process: what is not committed is gone."""
        serde = serde_for(list[int])
        if self.ttl:
            self.store: Store = ExpiringStore("log", serde, At(), TTL, self.time)
        else:
            self.store = Store("log", serde, At())
        self.budget = Budget(self.limit)
        self.disk = None
        if self.on_disk:
            self.disk = open_disk(self.folder, "id", 0, self.end, self.clock, self.notes.append)
            assert self.disk is not None
        self.store.attach(self.disk, self.budget)
        rest = [record for record in self.log if record[0] >= self.store.position]
        for at in range(0, len(rest), slice_):
            offsets, keys, values, stamps = zip(*rest[at : at + slice_], strict=True)
            self.store.load(as_read(offsets, stamps, keys, values))
            self.store.flush_if_due()
        self.now = dict(self.kept)
        self.told.clear()
        self.scan(b"", None)

    def alive(self, key: bytes) -> list[int] | None:
        stamp, value = self.now.get(key, (0, None))
        return None if self.ttl and stamp + TTL <= self.time.watermark else value

    # What operators do.

    @rule(work=WORK, commit=st.integers(0, 2))
    def batch(self, work: list[tuple[Any, ...]], commit: int) -> None:
        for what, *how in work:
            getattr(self, what)(*how)
        if commit:
            self.tell()
        if commit == 2:
            while self.told:
                self.commit()
        self.scan(b"", None)

    def put(self, key: bytes, value: list[int], stamp: int) -> None:
        self.store.put(key, list(value), stamp)
        if self.ttl and key in self.now:
            # What has expired may or may not be there yet: it does not matter to who looks.
            before = self.now[key][0]
            stamp = stamp if self.alive(key) is None else max(stamp, before)
        self.now[key] = (stamp, value)

    def change_in_place(self, key: bytes, value: int) -> None:
        found = self.store.get(key)
        if found is not None:
            found.append(value)
            assert self.store.get(key) is found
            self.store.put(key, found, self.now[key][0])
            self.now[key] = (self.now[key][0], list(found))

    def delete(self, key: bytes) -> None:
        self.store.delete(key, 7)
        self.now.pop(key, None)

    def get(self, key: bytes) -> None:
        assert self.store.get(key) == self.alive(key)

    @rule(low=KEYS, high=KEYS | st.none())
    def scan(self, low: bytes, high: bytes | None) -> None:
        expected = [
            (key, self.alive(key))
            for key in sorted(self.now)
            if low <= key and (high is None or key < high) and self.alive(key) is not None
        ]
        if not self.ttl:
            assert list(self.store.look_through(low, high)) == expected
        assert list(self.store.scan(low, high)) == expected

    @precondition(lambda self: not self.ttl)
    @rule(low=KEYS, high=KEYS)
    def ends(self, low: bytes, high: bytes) -> None:
        there = [(key, self.alive(key)) for key in sorted(self.now) if low <= key < high]
        assert self.store.first(low, high) == (there[0] if there else None)
        assert self.store.last(low, high) == (there[-1] if there else None)

    @rule(low=KEYS)
    def delete_while_scanning(self, low: bytes) -> None:
        for at, (key, _) in enumerate(self.store.scan(low)):
            if at % 2:
                self.delete(key)

    @rule(low=KEYS, many=st.integers(1, 9), again=st.integers(0, 8))
    def take_the_first(self, low: bytes, many: int, again: int) -> None:
        """As who keeps things until their time comes; and one that was taken comes again."""
        taken = []
        for _ in range(many):
            found = next(self.store.scan(low), None)
            there = [key for key in sorted(self.now) if key >= low and self.alive(key) is not None]
            assert found == ((there[0], self.alive(there[0])) if there else None)
            if found is not None:
                taken.append(found[0])
                self.delete(found[0])
        if again < len(taken):
            self.put(taken[again], [again], 200)
            self.scan(low, None)

    @rule(by=st.integers(1, 80))
    def time_passes(self, by: int) -> None:
        self.time.watermark = max(self.time.watermark, 0) + by

    # What the shell does.

    def tell(self) -> None:
        rows = self.store.changes()
        assert len(set(rows.keys)) == len(rows)
        if len(rows):
            self.told.append((rows, dict(self.now)))

    @precondition(lambda self: self.told)
    @rule()
    def commit(self) -> None:
        rows, self.kept = self.told.popleft()
        for key, data, stamp in zip(rows.keys, rows.values, rows.timestamps, strict=True):
            assert key is not None
            self.log.append((self.end, key, data, stamp))
            self.end += 1
        self.end += 1  # the transaction's marker
        self.store.committed(self.end)

    @rule(seconds=st.sampled_from([0, 1, 10]))
    def between_batches(self, seconds: int) -> None:
        self.clock.advance(seconds * 1000)
        self.store.flush_if_due()

    @rule()
    def make_room(self) -> None:
        self.store.make_room()

    @rule()
    def compact(self) -> None:
        last = {key: at for at, (_, key, _, _) in enumerate(self.log)}
        self.log = [self.log[at] for at in sorted(last.values())]

    # What happens to processes and disks.

    @rule(slice_=st.integers(1, 9))
    def stop_and_start(self, slice_: int) -> None:
        self.store.close()
        self.open(slice_)

    @rule(slice_=st.integers(1, 9), transactions=st.integers(0, 3))
    def kill(self, slice_: int, transactions: int) -> None:
        """In the middle of writing behind, after so many transactions of the disk."""
        if self.disk is not None:
            put, left = self.disk._put, transactions

            def torn(*args: Any) -> None:
                nonlocal left
                if not left:
                    raise Killed
                left -= 1
                put(*args)

            self.disk._put = torn  # type: ignore[method-assign]
            with suppress(Killed):
                self.store.flush()
            self.disk.let_go()
        self.open(slice_)

    @precondition(lambda self: self.on_disk)
    @rule(slice_=st.integers(1, 9), closed=st.booleans())
    def reboot(self, slice_: int, closed: bool) -> None:
        """After a power cut nothing that was not synced is what it was."""
        assert self.disk is not None
        if closed:
            self.store.close()
        else:
            self.disk.write(dict.fromkeys(NAMES, b"[777]"), self.disk.position)
            self.disk.let_go()
        mark = self.folder / "mark"
        here = disk_module.boot_id().hex().encode()
        mark.write_bytes(mark.read_bytes().replace(here, b"7" * 32))
        self.open(slice_)

    @precondition(lambda self: self.on_disk)
    @rule(slice_=st.integers(1, 9), to=st.integers(0, 6))
    def cut_off_the_file(self, slice_: int, to: int) -> None:
        assert self.disk is not None
        self.disk.let_go()
        rows = self.folder / "rows.mdb"
        with rows.open("r+b") as file:
            file.truncate(min(to * 4096 + 5, rows.stat().st_size - 1))
        self.open(slice_)

    @precondition(lambda self: self.on_disk and len(self.zombies) < 2)
    @rule(slice_=st.integers(1, 9))
    def be_taken_for_dead(self, slice_: int) -> None:
        self.zombies.append(self.store)
        self.open(slice_)

    @precondition(lambda self: self.zombies)
    @rule(end=st.booleans())
    def a_zombie_writes_behind(self, end: bool) -> None:
        zombie = self.zombies.pop()
        for n in range(10):
            zombie._pending[b"k%02d" % n] = b"[666]"
        zombie.position += 1000
        if end:
            zombie.close()
        else:
            zombie.flush()
            self.zombies.append(zombie)

    @rule()
    def check(self) -> None:
        for key in NAMES:
            self.get(key)
        self.scan(b"", None)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds so small that a few rows pass them."""
    monkeypatch.setattr(cache_module, "_CHUNK", 3)
    monkeypatch.setattr(cache_module, "_FIRST_CHUNK", 2)
    monkeypatch.setattr(cache_module, "_HOLES", 2)
    monkeypatch.setattr(cache_module, "_FEW", 4)
    monkeypatch.setattr(cache_module, "_MOST_PENDING", 12)
    monkeypatch.setattr(order, "_LONGEST", 4)
    monkeypatch.setattr(expiring, "_LOOKED_AT", 3)
    monkeypatch.setattr(disk_module, "_TOGETHER", 3)
    monkeypatch.setattr(disk_module, "_SMALLEST", 1 << 16)


def test_a_store_is_what_was_committed_to_its_changelog_and_what_was_changed_since(
    small: None,
) -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=150,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
