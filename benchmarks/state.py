"""Keyed state: in memory beside a dictionary, beyond its budget and at a start beside LMDB alone.

A commit every 10,000 updates: changes are encoded as for the changelog, and told to be committed.
The log itself is not in these; a keyed count with its changelog is among the engines. The last row
is that of a whole app.
"""

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import lmdb

from benchmarks.measure import Row, interleaved, main, medians
from benchmarks.restart import restart
from streamkit.clock import SystemClock
from streamkit.engine.state.budget import Budget
from streamkit.engine.state.disk import open_disk
from streamkit.engine.state.store import Store
from streamkit.serde import serde_for

COMMIT = 10_000
IN_MEMORY = 100_000
UPDATES = 1_000_000
MISSES = 300_000
ON_DISK = 10_000_000
AT_START = 5_000_000
BUDGET = 64 << 20
"""About a twentieth of what 10 M keys would take in memory."""


class Nowhere:
    offset = 0


def key(number: int) -> bytes:
    return b"key-%08d" % number


def chosen(keys: int, updates: int) -> list[bytes]:
    """Keys to update, any as often as another: no cache helps."""
    numbers = random.Random(7)
    return [key(int(numbers.random() * keys)) for _ in range(updates)]


def batches(updates: list[bytes]) -> Iterator[list[bytes]]:
    rest = iter(updates)
    while batch := list(islice(rest, COMMIT)):
        yield batch


def count_in_store(store: Store, updates: list[bytes]) -> None:
    get, put, end = store.get, store.put, store.position
    for batch in batches(updates):
        for one in batch:
            put(one, (get(one) or 0) + 1, 1)
        end += len(store.changes())
        store.committed(end)
        store.flush_if_due()


def per_second(updates: list[bytes], work: Callable[[list[bytes]], None]) -> float:
    began = time.process_time()
    work(updates)
    return len(updates) / (time.process_time() - began)


def in_memory(scale: float) -> Row:
    updates = chosen(int(IN_MEMORY * scale) or 1, int(UPDATES * scale) or 1)

    def ours() -> float:
        store = Store("counts", serde_for(int), Nowhere())
        return per_second(updates, lambda keys: count_in_store(store, keys))

    def theirs() -> float:
        counts: dict[bytes, int] = {}

        def count(keys: list[bytes]) -> None:
            for one in keys:
                counts[one] = counts.get(one, 0) + 1

        return per_second(updates, count)

    figures = medians({"ours": ours, "theirs": theirs})
    return Row(
        path=f"state in memory: counts of {IN_MEMORY:,} keys, with changes",
        ours=figures["ours"],
        beside="dict, which keeps no changes",
        theirs=figures["theirs"],
    )


def fill(folder: Path, keys: int) -> None:
    disk = open_disk(folder, "counts", 0, keys, SystemClock(), print)
    assert disk is not None
    for start in range(0, keys, 100_000):
        stop = min(start + 100_000, keys)
        disk.write({key(number): b"1" for number in range(start, stop)}, stop)
    disk.close()


def opened(folder: Path, keys: int, budget: int) -> Store:
    store = Store("counts", serde_for(int), Nowhere())
    store.attach(open_disk(folder, "counts", 0, keys, SystemClock(), print), Budget(budget))
    return store


def count_in_lmdb(path: Path, keys: int, updates: list[bytes]) -> None:
    with lmdb.open(str(path), subdir=False, sync=False, lock=False, map_size=1 << 33) as env:
        for batch in batches(updates):
            with env.begin(write=True) as txn:
                for one in batch:
                    txn.put(one, b"%d" % (int(txn.get(one, b"0")) + 1))


def beyond_budget(folder: Path, scale: float) -> Row:
    keys, updates = int(ON_DISK * scale) or 1, chosen(int(ON_DISK * scale), int(MISSES * scale))
    fill(folder / "ours", keys)
    with (
        lmdb.open(str(folder / "theirs"), subdir=False, sync=False, map_size=1 << 33) as env,
        env.begin(write=True) as txn,
    ):
        for number in range(keys):
            txn.put(key(number), b"1", append=True)
    position = keys

    def ours() -> float:
        nonlocal position
        began = time.process_time()
        store = opened(folder / "ours", 1 << 62, int(BUDGET * scale))
        assert store.position >= position
        count_in_store(store, updates)
        position = store.position
        store.close()
        return len(updates) / (time.process_time() - began)

    def theirs() -> float:
        return per_second(updates, lambda some: count_in_lmdb(folder / "theirs", keys, some))

    figures = medians({"ours": ours, "theirs": theirs})
    return Row(
        path=f"state beyond its budget: counts of {ON_DISK / 1e6:g} M keys in {BUDGET >> 20} MB",
        ours=figures["ours"],
        beside="LMDB alone, a transaction per commit",
        theirs=figures["theirs"],
        goal=0.4,
        note="uniform: nearly every update misses what is in memory",
    )


def start(folder: Path, scale: float) -> Row:
    keys = int(AT_START * scale) or 1
    fill(folder / "start", keys)
    asked = chosen(keys, 10_000)

    def ours() -> float:
        began = time.perf_counter()
        store = opened(folder / "start", keys, 1 << 30)
        for one in asked:
            assert store.get(one) == 1
        took = time.perf_counter() - began
        store.close()
        return took * 1000

    def theirs() -> float:
        decode = serde_for(int).decode
        began = time.perf_counter()
        disk = open_disk(folder / "start", "counts", 0, keys, SystemClock(), print)
        assert disk is not None
        rows: dict[bytes, int] = {}
        low = b""
        while some := disk.some(low, None, 10_000):
            rows |= ((one, decode(data)) for one, data in some)
            low = some[-1][0] + b"\0"
        assert all(rows[one] == 1 for one in asked)
        took = time.perf_counter() - began
        disk.close()
        return took * 1000

    found = interleaved({"ours": ours, "theirs": theirs})
    return Row(
        path=f"start with {AT_START / 1e6:g} M keys, and 10,000 of them used",
        ours=sorted(found["ours"])[1],
        beside="all of them read into a dict",
        theirs=sorted(found["theirs"])[1],
        unit="ms",
        goal=1.0,
    )


def measure(scale: float) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="streamkit-bench-", dir=".") as folder:
        path = Path(folder)
        rows = [in_memory(scale), beyond_budget(path, scale), start(path, scale)]
        return [*rows, *restart(path / "restart", scale)]


if __name__ == "__main__":
    main(measure)
