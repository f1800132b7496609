"""What is left on disk: who may use it, what is believed of it, what happens when it cannot be."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streamkit.clock import Clock, ManualClock, SystemClock
from streamkit.engine.state import disk as disk_module
from streamkit.engine.state.disk import FLUSH_AFTER, RETRY_AFTER, SHELF_LIFE, Disk, open_disk
from streamkit.engine.state.store import Store
from streamkit.errors import StorageFailed
from streamkit.serde import serde_for


def _open(
    folder: Path,
    *,
    identity: str = "id",
    start: int = 0,
    end: int = 1 << 62,
    clock: Clock | None = None,
) -> tuple[Disk, list[str]]:
    notes: list[str] = []
    disk = open_disk(folder, identity, start, end, clock or ManualClock(), notes.append)
    assert disk is not None, notes
    return disk, notes


def _written(folder: Path, position: int = 5) -> None:
    disk, _ = _open(folder)
    assert disk.write({b"a": b"1", b"b": b"2", b"c": None}, position)
    disk.close()


def test_what_was_written_is_there_again(tmp_path: Path) -> None:
    _written(tmp_path / "a" / "state")
    disk, notes = _open(tmp_path / "a" / "state", end=5)
    assert (disk.position, len(disk), disk.get(b"a"), disk.get(b"c")) == (5, 2, b"1", None)
    assert not notes
    disk.close()


@pytest.mark.parametrize("identity", ["another", "id "])
def test_rows_of_another_changelog_are_not_used(tmp_path: Path, identity: str) -> None:
    _written(tmp_path)
    disk, notes = _open(tmp_path, identity=identity)
    assert (disk.position, len(disk)) == (0, 0)
    assert "it is of another topic, or of a store of another kind" in notes[0]
    disk.close()


@pytest.mark.parametrize(
    ("mark", "why"),
    [
        (b"0 id\nsynced\n", "it is of format 0, which another version of streamkit wrote"),
        (b"1 id\n" + b"0" * 32 + b"\n", "the machine was started anew while it was in use"),
        (b"", "its mark is damaged, or missing"),
    ],
)
def test_why_rows_are_not_believed_is_said(tmp_path: Path, mark: bytes, why: str) -> None:
    _written(tmp_path)
    (tmp_path / "mark").write_bytes(mark)
    disk, notes = _open(tmp_path)
    assert (disk.position, len(disk)) == (0, 0)
    assert [why in note for note in notes] == [True]
    disk.close()


def test_rows_that_do_not_fit_what_their_task_goes_on_with_are_told_of(tmp_path: Path) -> None:
    _written(tmp_path)
    notes: list[str] = []
    disk = open_disk(tmp_path, "id", 0, 5, ManualClock(), notes.append, fits=lambda note: False)
    assert disk is not None and disk.position == 0
    assert "does not lead to where its task goes on" in notes[0]
    disk.close()


def test_nothing_is_said_where_there_was_nothing(tmp_path: Path) -> None:
    disk, notes = _open(tmp_path)
    disk.close()
    (tmp_path / "rows.mdb").unlink()
    disk, notes = _open(tmp_path, identity="another")
    assert notes == []
    disk.close()


def test_rows_from_beyond_the_end_of_the_changelog_are_not_used(tmp_path: Path) -> None:
    _written(tmp_path, position=5)
    disk, notes = _open(tmp_path, end=4)
    assert (disk.position, len(disk)) == (0, 0)
    assert "it leads to 5, the changelog is 0 to 4" in notes[0]
    disk.close()


def test_old_rows_that_miss_changes_may_miss_tombstones_and_are_not_used(tmp_path: Path) -> None:
    _written(tmp_path, position=5)
    later = ManualClock()
    later.advance(SHELF_LIFE)
    disk, _ = _open(tmp_path, end=5, clock=later)
    assert disk.position == 5  # nothing is missed
    disk.close()
    disk, notes = _open(tmp_path, end=6, clock=later)
    assert disk.position == 0
    assert "the changelog is 0 to 6, and it is 12.0 h old: what was deleted" in notes[0]
    disk.close()


def test_rows_that_were_written_while_the_clock_was_wrong_are_of_no_known_age(
    tmp_path: Path,
) -> None:
    wrong = ManualClock()
    wrong.advance(SHELF_LIFE)
    disk, _ = _open(tmp_path, clock=wrong)
    assert disk.write({b"a": b"1"}, 5)
    disk.close()
    disk, notes = _open(tmp_path, end=6)
    assert disk.position == 0
    assert "it is of a time that is still to come" in notes[0]
    disk.close()


@pytest.mark.parametrize(("age", "used"), [(9, True), (10, False)])
def test_what_is_read_later_is_missed_too_for_as_long_as_the_topic_keeps_tombstones(
    tmp_path: Path, age: int, used: bool
) -> None:
    _written(tmp_path, position=5)
    later = ManualClock()
    later.advance(age)
    disk = open_disk(tmp_path, "id", 0, 5, later, print, log_end=6, shelf_life=10)
    assert disk is not None
    assert disk.position == (5 if used else 0)
    disk.close()


def test_without_a_boot_that_can_be_told_only_synced_files_are_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_module, "boot_id", lambda: disk_module.UNKNOWN)
    _written(tmp_path)
    disk, _ = _open(tmp_path)
    assert disk.position == 5
    disk.write({b"d": b"4"}, 6)
    disk.let_go()
    disk, _ = _open(tmp_path)
    assert disk.position == 0
    disk.close()


def test_a_file_that_is_none_is_thrown_away_with_a_note(tmp_path: Path) -> None:
    _written(tmp_path)
    (tmp_path / "rows.mdb").write_bytes(b"no database" * 5000)
    disk, notes = _open(tmp_path)
    assert (disk.position, len(disk)) == (0, 0)
    assert "thrown away, to be made anew from the changelog" in notes[0]
    disk.close()


def test_a_file_grows_by_doubling_and_not_before_it_has_to(tmp_path: Path) -> None:
    disk, _ = _open(tmp_path)
    rows = {b"%06d" % n: bytes(100) for n in range(50_000)}
    assert disk.write(rows, 1)
    size = (tmp_path / "rows.mdb").stat().st_size
    assert 5 << 20 < size < 12 << 20
    assert disk._env.info()["map_size"] < 4 * size
    assert len(disk) == 50_000
    assert [key for key, _ in disk.some(b"000100", b"000103", 9)] == [
        b"000100",
        b"000101",
        b"000102",
    ]
    disk.close()


def test_a_place_that_is_no_directory_leaves_memory_with_a_note(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("something else")
    notes: list[str] = []
    assert open_disk(tmp_path / "state", "id", 0, 0, ManualClock(), notes.append) is None
    assert "stays in memory" in notes[0]


_FULL = """
import resource, sys
from pathlib import Path
from streamkit.clock import ManualClock
from streamkit.engine.state.disk import RETRY_AFTER, open_disk
notes, clock = [], ManualClock()
disk = open_disk(Path(sys.argv[1]), "id", 0, 9, clock, notes.append)
assert disk.write({b"a": b"1"}, 1)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
rows = {b"%06d" % n: bytes(100) for n in range(20_000)}
assert not disk.write(rows, 2)
assert disk.position == 1 and disk.get(b"a") == b"1"
assert not disk.due(20_000)
clock.advance(int(RETRY_AFTER * 1000))
assert disk.due(20_000) and not disk.write(rows, 2)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
assert disk.write(rows, 2) and disk.get(b"000777") == bytes(100) and len(disk) == 20_001
assert len(notes) == 2 and "stays in memory until" in notes[0] and "again" in notes[1], notes
"""


def test_a_full_disk_is_waited_for_and_nothing_is_lost(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _FULL, str(tmp_path)], check=True, timeout=60)


def test_damage_met_while_reading_removes_the_file_and_says_so(tmp_path: Path) -> None:
    disk, _ = _open(tmp_path)
    disk.write({b"%06d" % n: bytes(100) for n in range(20_000)}, 1)
    with pytest.raises(StorageFailed, match="made anew from the changelog at the next start"):
        raise disk.damaged(ValueError("a page is broken"))
    disk.close()
    disk, _ = _open(tmp_path)
    assert (disk.position, len(disk)) == (0, 0)
    disk.close()


_KILLED = """
import sys
from pathlib import Path
from streamkit.clock import SystemClock
from streamkit.engine.state import disk
from streamkit.engine.state.disk import open_disk
disk._TOGETHER = 40
one = open_disk(Path(sys.argv[1]), "id", 0, 1 << 62, SystemClock(), print)
at = one.position
print("begin", flush=True)
while True:
    at += 1
    one.write({b"%04d" % n: b"%d" % at for n in range(500)}, at)
"""


def test_a_process_that_is_killed_while_it_writes_leaves_a_file_that_holds(tmp_path: Path) -> None:
    reached = 0
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", _KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begin\n"
            rows = tmp_path / "rows.mdb"
            before, size = rows.stat().st_mtime_ns, 0
            while size < 20:  # some writes on
                size += rows.stat().st_mtime_ns != before
                before = rows.stat().st_mtime_ns
            process.send_signal(signal.SIGKILL)
        disk, notes = _open(tmp_path, clock=SystemClock())
        assert not notes
        assert disk.position >= reached
        reached = disk.position
        values = [int(data) for _, data in disk.some(b"", None, 1000)]
        assert len(values) == 500
        # Never older than the position says; some may be one ahead.
        assert set(values) <= {reached, reached + 1}
        disk.let_go()
    assert reached > 1


def test_changes_are_written_behind_after_some_seconds_and_at_the_close(tmp_path: Path) -> None:
    clock = ManualClock()

    class At:
        offset = 0

    def changed(store: Store, value: int) -> None:
        store.put(b"k", value, 0)
        store.changes()
        store.committed(value)
        store.flush_if_due()

    store = Store("log", serde_for(int), At())
    disk, _ = _open(tmp_path, clock=clock)
    store.attach(disk)
    changed(store, 1)
    assert disk.position == 0
    clock.advance(int(FLUSH_AFTER * 1000))
    changed(store, 2)
    assert (disk.position, disk.get(b"k")) == (2, b"2")
    changed(store, 3)
    assert disk.position == 2
    store.close()
    disk, _ = _open(tmp_path)
    assert (disk.position, disk.get(b"k")) == (3, b"3")
    disk.close()
    assert RETRY_AFTER > FLUSH_AFTER
