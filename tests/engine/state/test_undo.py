"""A store of which calls are undone is the store that never had them."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.clock import ManualClock
from streamkit.engine.state import cache as cache_module
from streamkit.engine.state.disk import open_disk
from streamkit.engine.state.expiring import new_store
from streamkit.engine.state.store import Store
from streamkit.engine.state.undo import Undoable
from streamkit.errors import SerdeError
from streamkit.serde import serde_for

KEYS = [b"%02d" % n for n in range(8)]


class At:
    offset = 0


class Time:
    watermark = 0


ACTS = st.tuples(
    st.sampled_from(["put", "change", "delete", "get", "scan"]),
    st.sampled_from(KEYS),
    st.integers(0, 9),
)
CALL = st.tuples(st.booleans(), st.lists(ACTS, max_size=5))
STEPS = st.lists(st.one_of(CALL, st.sampled_from(["commit", "room"])), max_size=25)


def _do(cells: Any, acts: list[Any], stamp: int) -> list[Any]:
    seen: list[Any] = []
    for act, key, number in acts:
        if act == "put":
            cells.put(key, [number], stamp)
        elif act == "change":
            value = cells.get(key)
            if value is not None:
                value.append(number)  # in place, and kept
                cells.put(key, value, stamp)
        elif act == "delete":
            cells.delete(key, stamp)
        elif act == "get":
            value = cells.get(key)
            seen.append(None if value is None else list(value))
        else:
            seen.append([(key, list(value)) for key, value in cells.scan(b"", None)])
    return seen


@pytest.mark.parametrize("ttl", [None, 7])
@settings(max_examples=150, deadline=None)
@given(steps=STEPS, on_disk=st.booleans())
def test_what_is_undone_was_never_done(ttl: int | None, steps: list[Any], on_disk: bool) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(cache_module, "_FEW", 2)
        times = [Time(), Time()]
        stores = [new_store("log", serde_for(list[int]), At(), ttl, time) for time in times]
        if on_disk:
            for number, store in enumerate(stores):
                path = Path(folder) / str(number)
                store.attach(open_disk(path, "id", 0, 1 << 62, ManualClock(), print))
        ours, model = stores
        undoable = Undoable(ours)
        for stamp, step in enumerate(steps):
            for time in times:
                time.watermark = stamp
            if step == "commit":
                rows = [store.changes() for store in stores]
                assert _contents(rows[0], ttl) == _contents(rows[1], ttl)
                for store in stores:
                    store.committed(stamp + 1)
                    store.flush()
            elif step == "room":
                for store in stores:
                    store.make_room()
            else:
                fails, acts = step
                undoable.begin()
                seen = _do(undoable, acts, stamp)
                if fails:
                    undoable.undo()
                else:
                    undoable.check()
                    assert seen == _do(model, acts, stamp)
            assert list(ours.scan(b"")) == list(model.scan(b""))
        for store in stores:
            store.close()


def _contents(rows: Any, ttl: int | None) -> dict[Any, Any]:
    """When what has expired is taken away is nobody's business."""
    return {
        key: (value, stamp)
        for key, value, stamp in zip(rows.keys, rows.values, rows.timestamps, strict=True)
        if ttl is None or value is not None
    }


def test_what_was_changed_in_place_is_as_it_was() -> None:
    store = Store("log", serde_for(list[int]), At())
    store.put(b"a", [1], 0)
    undoable = Undoable(store)
    undoable.begin()
    undoable.get(b"a").append(2)
    for _, value in undoable.scan(b""):
        value.append(3)
    undoable.undo()
    assert store.get(b"a") == [1]


def test_a_value_of_another_type_is_found_before_it_is_committed() -> None:
    store = Store("log", serde_for(list[int]), At())
    undoable = Undoable(store)
    undoable.begin()
    undoable.put(b"a", ["one"], 0)
    with pytest.raises(SerdeError, match="a value that is not of the type it declares"):
        undoable.check()
    undoable.undo()
    assert not store.changes()


def _broken(_: bytes) -> Any:
    raise OSError("the disk is gone")


@pytest.mark.parametrize("act", [lambda u: u.get(b"a"), lambda u: u.put(b"a", [1], 0)])
def test_what_is_the_stores_fault_is_said_to_be(act: Callable[[Undoable], Any]) -> None:
    store = Store("log", serde_for(list[int]), At())
    undoable = Undoable(store)
    store.remember = _broken  # type: ignore[method-assign]
    undoable.begin()
    with pytest.raises(OSError, match="gone"):
        act(undoable)
    assert undoable.broken
