"""Rows as of a time, against all that the topic ever said."""

from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from columns_as_read import as_read
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamkit.clock import ManualClock
from streamkit.engine.state import cache, versions
from streamkit.engine.state.disk import open_disk
from streamkit.engine.state.versions import VersionRows
from streamkit.serde import serde_for

KEYS = [b"a", b"ab"]
REMEMBERED = 20
"""What is deleted for so long is forgotten, and rows that are so far behind find nothing of it."""

RECORDS = st.tuples(
    st.sampled_from(KEYS),
    st.none() | st.integers(0, 9),
    st.sampled_from([-45, -30, -22, -5, -1, 0, 1, 9, 25]),  # how far from the latest time
)
STEPS = st.tuples(st.lists(RECORDS, min_size=1, max_size=6), st.integers(0, 30), st.booleans())


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a few rows pass."""
    monkeypatch.setattr(versions, "REMEMBERED", REMEMBERED)
    monkeypatch.setattr(versions, "_LOOKED_AT", 2)
    monkeypatch.setattr(versions, "_NEAR", 3)
    monkeypatch.setattr(cache, "_CHUNK", 3)
    monkeypatch.setattr(cache, "_FEW", 2)


class Model:
    """Every version of every key by its time, as long as it counts."""

    def __init__(self) -> None:
        self.latest = -1000
        self.rows: dict[bytes, dict[int, int | None]] = defaultdict(dict)

    def take(self, key: bytes, row: int | None, stamp: int) -> None:
        of_key = self.rows[key]
        forgotten = range(stamp + 1, self.latest - REMEMBERED + 1)
        deleted = [time for time, one in of_key.items() if one is None and time in forgotten]
        for time in [time for time in of_key if deleted and time <= max(deleted)]:
            del of_key[time]  # deleted for so long that it is as if it had never been
        of_key[stamp] = row
        self.latest = max(self.latest, stamp)

    def as_of(self, key: bytes, time: int) -> int | None:
        times = [stamp for stamp in self.rows[key] if stamp <= time]
        return self.rows[key][max(times)] if times else None


@settings(max_examples=60)
@given(st.lists(STEPS, max_size=12), st.booleans())
@example(  # deleted again, after the first time was forgotten
    steps=[
        ([(KEYS[1], None, 1), (KEYS[0], None, 25)], 1, False),
        ([(KEYS[1], None, -5), (KEYS[1], 0, -45)], 0, False),
    ],
    on_disk=False,
)
def test_what_is_dropped_is_never_asked_for(
    steps: list[tuple[list[tuple[bytes, int | None, int]], int, bool]], on_disk: bool
) -> None:
    model, user = Model(), object()
    offset, since, latest = 0, 0, 0
    with TemporaryDirectory() as folder:
        store = VersionRows("rows", serde_for(int), at_once=True)
        disk = open_disk(Path(folder), "id", 0, 1 << 60, ManualClock(), print) if on_disk else None
        store.attach(disk)
        for records, forward, room in steps:
            keys, rows, stamps = [], [], []
            for key, row, behind in records:
                stamp = max(latest + behind, 0)
                latest = max(latest, stamp)
                model.take(key, row, stamp)
                keys.append(key)
                rows.append(None if row is None else b"%d" % row)
                stamps.append(stamp)
            offsets = range(offset, offset + len(keys))
            offset = offsets.stop
            store.take(0, as_read(offsets, stamps, keys, rows), 0, len(keys))
            since = max(since, min(latest, since + forward))
            store.keep(user, since)
            store.mark()
            store.settle()
            store.flush()
            if room:
                store.make_room()
            for key in KEYS:
                for time in {since, latest, *(s for s in model.rows[key] if s >= since)}:
                    assert store.as_of(key, time) == model.as_of(key, time), (key, time)
        store.close()
