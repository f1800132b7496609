"""Stores in corners that a model seldom comes to."""

from pathlib import Path
from typing import Any

import pytest

from streamkit.clock import ManualClock
from streamkit.engine.state import cache as cache_module
from streamkit.engine.state.disk import Disk, open_disk
from streamkit.engine.state.expiring import ExpiringStore
from streamkit.engine.state.store import Store
from streamkit.errors import SerdeError
from streamkit.records import Columns
from streamkit.serde import serde_for

KEYS = [b"%03d" % n for n in range(50)]


class At:
    offset = 0


class Time:
    watermark = 0


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_FEW", 10)


def _disk(folder: Path, end: int = 1 << 62) -> Disk:
    disk = open_disk(folder, "id", 0, end, ManualClock(), print)
    assert disk is not None
    return disk


def _committed(store: Store, end: int) -> None:
    store.changes()
    store.committed(end)
    store.flush()


def test_a_tombstone_that_the_disk_does_not_have_yet_counts_after_a_start(tmp_path: Path) -> None:
    disk = _disk(tmp_path)
    disk.write(dict.fromkeys(KEYS, b"1"), 50)
    store = Store("log", serde_for(int), At())
    store.attach(disk)
    store.load(Columns([50], [0], [KEYS[7]], [None]))
    assert store.get(KEYS[7]) is None
    assert [key for key, _ in store.scan(b"")] == [key for key in KEYS if key != KEYS[7]]
    assert store.position == 51
    store.close()


def test_what_is_old_on_disk_and_new_in_memory_does_not_expire(tmp_path: Path) -> None:
    time = Time()
    store = ExpiringStore("log", serde_for(int), At(), 100, time)
    store.attach(_disk(tmp_path))
    for key in KEYS:
        store.put(key, 1, 0)
    _committed(store, 50)
    assert store.make_room()
    store.put(KEYS[3], 2, 90)
    time.watermark = 120
    rows = store.changes()
    found = dict(zip(rows.keys, rows.values, strict=True))
    assert found == {key: b"2" if key == KEYS[3] else None for key in KEYS}
    assert store.get(KEYS[3]) == 2
    store.close()


def test_rows_ahead_of_the_position_are_not_used_when_the_group_was_reset_to_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamkit.engine.state.disk._TOGETHER", 10)
    disk = _disk(tmp_path)
    disk.write(dict.fromkeys(KEYS, b"1"), 50)
    put = disk._put

    def dies(rows: Any, position: int, last: bool) -> None:
        put(rows, position, last)
        raise KeyboardInterrupt

    monkeypatch.setattr(disk, "_put", dies)
    with pytest.raises(KeyboardInterrupt):
        disk.write(dict.fromkeys(KEYS, b"2"), 100)
    disk.let_go()
    again = _disk(tmp_path, end=100)
    assert (again.position, again.get(KEYS[0]), again.get(KEYS[49])) == (50, b"2", b"1")
    again.let_go()
    reset = _disk(tmp_path, end=60)
    assert (reset.position, len(reset)) == (0, 0)
    reset.close()


def test_a_value_of_another_type_than_declared_is_refused_with_its_key() -> None:
    store = Store("shop-changelog", serde_for(list[int]), At())
    store.put(b"i", [1], 0)
    store.put(b"k", ["a"], 1_500)
    of = r"key b'k', of an event of 1970-01-01T00:00:01.500000 UTC: .* the type it decl"
    with pytest.raises(SerdeError, match=f"state for shop-changelog, {of}"):
        store.changes()


def test_what_came_and_went_between_two_commits_is_no_change() -> None:
    store = Store("log", serde_for(int), At())
    store.put(b"stays", 1, 5)
    store.put(b"goes", 1, 5)
    store.delete(b"goes", 6)
    assert list(store.changes().keys) == [b"stays"]
    store.delete(b"stays", 7)
    store.put(b"stays", 2, 8)
    store.delete(b"stays", 9)
    assert [list(column) for column in (store.changes().keys, store.changes().keys)] == [
        [b"stays"],
        [],
    ]


def test_what_expires_later_because_it_was_written_again_leaves_a_tombstone() -> None:
    time = Time()
    store = ExpiringStore("log", serde_for(int), At(), 100, time)
    store.put(b"k", 1, 5)
    store.changes()
    store.put(b"k", 2, 50)
    time.watermark = 200
    rows = store.changes()
    assert (list(rows.keys), list(rows.values)) == ([b"k"], [None])


def test_what_expires_goes_also_behind_a_key_that_never_does_and_after_a_scan() -> None:
    time = Time()
    store = ExpiringStore("log", serde_for(int), At(), 100, time)
    store.put(b"always", 0, 0)
    store.changes()
    assert list(store.scan(b"")) == [(b"always", 0)]
    gone: list[bytes | None] = []
    for at in range(1000):
        time.watermark = at
        store.put(b"always", at, at)
        store.put(b"%03d" % at, at, at)
        rows = store.changes()
        gone += [key for key, data in zip(rows.keys, rows.values, strict=True) if data is None]
    assert gone == [b"%03d" % at for at in range(900)]


def test_the_first_and_last_are_not_those_that_only_the_disk_still_has(tmp_path: Path) -> None:
    disk = _disk(tmp_path)
    disk.write(dict.fromkeys(KEYS, b"1"), 50)
    store = Store("log", serde_for(int), At())
    store.attach(disk)
    for key in (*KEYS[:3], *KEYS[-2:]):
        store.delete(key, 0)
    store.put(KEYS[20], 2, 0)
    assert store.first(b"", b"9") == (KEYS[3], 1)
    assert store.last(b"", b"9") == (KEYS[-3], 1)
    assert store.first(KEYS[0], KEYS[3]) is None is store.last(KEYS[0], KEYS[3])
    assert store.last(KEYS[5], KEYS[21]) == (KEYS[20], 2)
    store.close()
