"""What the file sink does with files that are not as it left them."""

from pathlib import Path

import pytest

from streamkit.connect import CommittedOffset
from streamkit.connect.testing import PARTITION, opened, records
from streamkit.connectors.file_sink import FileSink, FileSinkConfig
from streamkit.errors import FatalError, SerdeError, TransientError

START = CommittedOffset(0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events-0.jsonl"


def write(file: Path, start: CommittedOffset, *values: bytes | None) -> CommittedOffset:
    """Write, and return what a worker would have committed."""
    with opened(FileSink, FileSinkConfig(str(file.parent))) as sink:
        resumed = sink.resume(PARTITION, start)
        assert resumed is not None
        notes = sink.write(records(values, first=resumed.offset)) if values else None
        return CommittedOffset(
            resumed.offset + len(values), (notes or {}).get(PARTITION, resumed.metadata)
        )


@pytest.mark.parametrize("below", ["file", "file/deeper"])
def test_a_path_that_cannot_be_a_directory_is_named_with_its_key(
    tmp_path: Path, below: str
) -> None:
    (tmp_path / "file").touch()
    path = str(tmp_path / below)
    with pytest.raises(FatalError) as caught, opened(FileSink, FileSinkConfig(path)):
        pass
    assert str(caught.value).startswith(f"path = {path!r}: no directory can be made there: ")


def test_every_value_is_one_line(file: Path) -> None:
    write(file, START, b'{\n  "a": [1,\r\n 2]\n}', None, b'"a\\nb"', b" 1 ")
    assert file.read_bytes() == b'{"a":[1,2]}\nnull\n"a\\nb"\n1\n'


def test_what_was_not_committed_is_cut_back(file: Path) -> None:
    committed = write(file, START, b"1", b"2")
    with file.open("ab") as more:
        more.write(b'3\n{"half')
    assert write(file, committed, b"4").offset == 3
    assert file.read_bytes() == b"1\n2\n4\n"


def test_a_file_moved_away_between_two_runs_is_begun_anew(file: Path) -> None:
    committed = write(file, START, b"1", b"2")
    file.rename(file.with_suffix(".old"))
    write(file, write(file, committed, b"3"), b"4")
    assert file.read_bytes() == b"3\n4\n"


def test_a_file_moved_away_under_a_running_sink_is_begun_anew_by_the_next_try(
    file: Path,
) -> None:
    with opened(FileSink, FileSinkConfig(str(file.parent))) as sink:
        sink.resume(PARTITION, START)
        notes = sink.write(records([b"1"]))
        assert notes is not None
        file.rename(file.with_suffix(".old"))
        with pytest.raises(TransientError, match="was moved away"):
            sink.write(records([b"2"], first=1))
    committed = write(file, CommittedOffset(1, notes[PARTITION]), b"2")
    write(file, committed, b"3")
    assert file.read_bytes() == b"2\n3\n"


def test_a_crash_between_beginning_a_file_anew_and_its_commit_loses_nothing(file: Path) -> None:
    before = write(file, START, b'"a long line of the file that is gone"')
    file.rename(file.with_suffix(".old"))
    write(file, before)  # killed: what it had resumed from was not committed
    anew = write(file, before)  # killed after the commit, in the middle of a write
    with file.open("ab") as more:
        more.write(b'"longer than all that was in the file before, and not committ')
    write(file, anew, b"2")
    assert file.read_bytes() == b"2\n"


def test_a_file_that_something_else_shortened_is_not_touched(file: Path) -> None:
    committed = write(file, START, b"1", b"2")
    file.write_bytes(b"1\n")
    with pytest.raises(FatalError, match=r"has 2 bytes, 4 were committed"):
        write(file, committed, b"3")
    assert file.read_bytes() == b"1\n"


def test_a_file_that_is_not_its_own_is_not_touched(file: Path) -> None:
    file.write_bytes(b"precious\n")
    with pytest.raises(FatalError, match="move it away"):
        write(file, START, b"1")
    assert file.read_bytes() == b"precious\n"


def test_a_reset_group_does_not_repeat_into_the_same_file(file: Path) -> None:
    write(file, START, b"1", b"2")
    with pytest.raises(FatalError, match="the group was reset"):
        write(file, CommittedOffset(0), b"1")


def test_a_topic_made_anew_does_not_go_into_the_old_ones_file(file: Path) -> None:
    committed = write(file, START, b"1")
    with (
        opened(FileSink, FileSinkConfig(str(file.parent)), topic_id="other") as sink,
        pytest.raises(FatalError, match="the topic made anew"),
    ):
        sink.resume(PARTITION, committed)


@pytest.mark.parametrize("value", [b'"\xff"', b"[" * 100_000, b"1 2", b"", b"nan"])
def test_what_is_not_json_is_refused_with_its_place(file: Path, value: bytes) -> None:
    with pytest.raises(SerdeError, match="events-0@0: the value is not JSON"):
        write(file, START, value)
