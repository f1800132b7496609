"""One limit for all stores: who makes room, what stays, and how far off the estimate is."""

import tracemalloc
from pathlib import Path

import msgspec
import pytest

from streamkit.clock import ManualClock
from streamkit.engine.state.budget import Budget
from streamkit.engine.state.disk import open_disk
from streamkit.engine.state.store import Store
from streamkit.serde import serde_for


class At:
    offset = 0


class Visit(msgspec.Struct):
    page: str
    seconds: float
    clicks: list[int]


def _store(folder: Path | None, budget: Budget, type_: type = int) -> Store:
    store = Store("log", serde_for(type_), At())
    disk = None
    if folder is not None:
        disk = open_disk(folder, "id", 0, 1 << 62, ManualClock(), print)
        assert disk is not None
    store.attach(disk, budget)
    return store


def _fill(store: Store, keys: range) -> None:
    for n in keys:
        store.put(b"%08d" % n, n, n)
        if n % 1000 == 999:
            store.changes()
            store.committed(n + 1)
            store.flush_if_due()


def test_the_largest_store_makes_room_and_what_was_used_last_stays(tmp_path: Path) -> None:
    budget = Budget(3_000_000)
    small, large = _store(tmp_path / "s", budget), _store(tmp_path / "l", budget)
    _fill(small, range(2000))
    _fill(large, range(60_000))
    assert budget.used <= budget.limit
    assert len(small._young) == 2000
    assert len(large._young) + len(large._old) < 30_000
    assert b"00059999" in large._young
    assert b"00000000" not in large._young
    assert large.get(b"00000000") == 0
    assert [large.get(b"%08d" % n) for n in range(0, 60_000, 999)] == [*range(0, 60_000, 999)]
    small.close()
    large.close()
    assert budget.used == 0


def test_the_limit_is_for_all_stores_together(tmp_path: Path) -> None:
    budget = Budget(3_000_000)
    stores = [_store(tmp_path / str(n), budget) for n in range(4)]
    for store in stores:
        _fill(store, range(12_000))
        assert store.size < budget.limit
        assert budget.used <= budget.limit
    assert [len(store._young) + len(store._old) < 12_000 for store in stores].count(True) > 0
    assert all(store.get(b"00000000") == 0 for store in stores)


def test_what_is_used_again_and_again_stays_in_memory(tmp_path: Path) -> None:
    store = _store(tmp_path, Budget(2_000_000))
    asked = []
    for n in range(40_000):
        store.put(b"%08d" % n, n, n)
        if n % 100 == 99:
            before = b"00000000" in store._young or b"00000000" in store._old
            asked.append(before)
            assert store.get(b"00000000") == 0
            store.changes()
            store.committed(n + 1)
            store.flush_if_due()
    # Once: the first time that room is made nothing is known about what was used when.
    assert asked.count(False) <= 1
    store.close()


def test_stores_without_a_disk_keep_everything_and_the_budget_says_that_it_is_passed() -> None:
    budget = Budget(100_000)
    store = _store(None, budget)
    _fill(store, range(5000))
    assert budget.over
    assert store.get(b"00000000") == 0
    store.close()
    assert not budget.over


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (int, lambda n: n + 1000),
        (str, lambda n: f"{n:08d}" * 10),
        (Visit, lambda n: Visit(f"/page/{n}", n / 3, [n + 999, n + 1000])),
        (dict[str, int], lambda n: {f"a{n}": n + 5000, f"b{n}": n + 6000, f"c{n}": 3}),
    ],
)
def test_the_estimate_is_within_a_factor_of_what_python_takes(type_: type, value: object) -> None:
    store = Store("log", serde_for(type_), At())
    keys = [b"key-%08d" % n for n in range(20_000)]
    tracemalloc.start()
    try:
        for n, key in enumerate(keys):
            store.put(bytes(bytearray(key)), value(n), n)  # type: ignore[operator]
        store.changes()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.6 < store.size / taken < 1.7
