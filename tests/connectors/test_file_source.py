"""Files that grow, move, shrink, end in the middle of a row, or do not parse."""

import json
import logging
import os
import shutil
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.connect import Duration, Pause, SourceContext, SourceRecord
from streamkit.connect.testing import Reading, read
from streamkit.connectors.file_source import FileSourceConfig, file_source
from streamkit.errors import BadRow, ConfigError, TransientError


def config(path: Path, **options: object) -> FileSourceConfig:
    return FileSourceConfig(str(path), "t", **options)  # type: ignore[arg-type]


def values(reading: Reading) -> list[str]:
    return [value.decode() for value in reading.values]


def test_a_file_that_grew_is_read_on_from_its_last_full_line(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("1\n2\n3")
    first = read(file_source, config(tmp_path))
    with file.open("a") as more:
        more.write("3\n4\n")
    second = read(file_source, config(tmp_path), first.offsets)
    assert (values(first), values(second)) == (["1", "2"], ["33", "4"])


def test_a_growing_file_is_followed_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("n\n1\n")
    ctx = SourceContext("x", list, lambda place: None)
    items = file_source(config(tmp_path), ctx)
    found = []
    for item in items:
        if isinstance(item, SourceRecord):
            found.append(item.value)
        elif len(found) == 1:
            with file.open("a") as more:
                more.write('2\n"3\n')
        elif len(found) == 2:
            with file.open("a") as more:
                more.write('and more"\n')
        elif len(found) == 3:
            break
    items.close()
    assert found == [b'{"n":"1"}', b'{"n":"2"}', b'{"n":"3\\nand more"}']


def test_a_renamed_file_is_not_read_again_and_the_new_one_under_its_name_is(
    tmp_path: Path,
) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text("1\n2\n")
    first = read(file_source, config(tmp_path))
    with file.open("a") as more:
        more.write("3\n")
    file.rename(tmp_path / "log-old.jsonl")
    file.write_text("4\n")
    second = read(file_source, config(tmp_path), first.offsets)
    assert values(second) == ["3", "4"]
    assert values(read(file_source, config(tmp_path), second.offsets)) == []


@pytest.mark.parametrize("content", ["7\n", "7\n8\n", "7\n8\n9\n10\n"])
def test_a_file_that_was_written_anew_in_place_is_read_from_its_beginning(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("1\n2\n")
    first = read(file_source, config(tmp_path))
    file.write_text(content)  # the same inode
    with caplog.at_level(logging.WARNING):
        second = read(file_source, config(tmp_path), first.offsets)
    assert values(second) == content.split()
    assert "reading it from its beginning" in caplog.text
    assert values(read(file_source, config(tmp_path), second.offsets)) == []


def test_a_file_with_the_same_head_but_cut_shorter_is_read_from_its_beginning(
    tmp_path: Path,
) -> None:
    file = tmp_path / "a.csv"
    head = "n\n" + "".join(f"{n:0>99}\n" for n in range(20))
    file.write_text(head + "20\n21\n")
    first = read(file_source, config(tmp_path))
    file.write_text(head)
    assert len(read(file_source, config(tmp_path), first.offsets).records) == 20


def test_files_with_equal_beginnings_are_told_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("n\n1\n")
    first = read(file_source, config(tmp_path))
    assert len(first.records) == 2
    shutil.copy(tmp_path / "a.csv", tmp_path / "c.csv")
    assert values(read(file_source, config(tmp_path), first.offsets)) == ['{"n":"1"}']


def test_a_new_file_in_a_reused_inode_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    """An offset stored for the same inode, but for other content."""
    file = tmp_path / "b.jsonl"
    file.write_text("1\n2\n3\n")
    first = read(file_source, config(tmp_path))
    ((partition, offset),) = first.offsets
    device, inode, _ = partition["id"].split("-")
    old = {"file": "a.jsonl", "id": f"{device}-{inode}-{'0' * 16}"}
    stored = [(old, {**offset, "head": "0" * 16})]
    assert values(read(file_source, config(tmp_path), stored)) == ["1", "2", "3"]


def test_a_file_on_a_device_with_another_number_is_still_the_same(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("1\n2\n")
    ((partition, offset),) = read(file_source, config(tmp_path)).offsets
    _, inode, head = partition["id"].split("-")
    moved = {"file": "a.jsonl", "id": f"beef-{inode}-{head}"}
    assert values(read(file_source, config(tmp_path), [(moved, offset)])) == []


def test_two_links_to_one_file_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("1\n")
    os.link(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert values(read(file_source, config(tmp_path))) == ["1"]


def test_hidden_files_folders_and_unknown_kinds_are_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (".a.csv.unfinished", ".b.csv", "readme.txt"):
        (tmp_path / name).write_text("n\n1\n")
    (tmp_path / "folder.csv").mkdir()
    with caplog.at_level(logging.WARNING):
        assert read(file_source, config(tmp_path)).records == []
    assert "readme.txt: not read: neither .csv nor .jsonl" in caplog.text


def test_a_pattern_reaches_into_folders(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "a.jsonl").write_text("1\n")
    (tmp_path / "b.jsonl").write_text("2\n")
    reading = read(file_source, config(tmp_path, pattern="**/*.jsonl"))
    assert values(reading) == ["2", "1"]
    assert reading.records[1].partition is not None
    assert reading.records[1].partition["file"] == "x/y/a.jsonl"


def test_a_last_line_without_its_end_is_taken_after_the_wait_that_was_asked_for(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.csv").write_text('n\n1\n"two"')
    waited = read(file_source, config(tmp_path, last_line_wait=Duration(1)))
    assert values(waited) == ['{"n":"1"}', '{"n":"two"}']
    again = read(file_source, config(tmp_path, last_line_wait=Duration(1)), waited.offsets)
    assert values(again) == []


@pytest.mark.parametrize(
    ("content", "left"),
    [
        ("n\n1\n2,3", 3),
        ("n\n1\n\n\n234", 3),
        ('n\n1\n"2\n3\n', 5),
        ("name", 4),
    ],
)
def test_a_worker_that_ends_says_which_bytes_it_has_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str, left: int
) -> None:
    (tmp_path / "a.csv").write_text(content)
    ctx = SourceContext("x", list, lambda place: None, stopping=lambda: paused)
    paused = False
    with caplog.at_level(logging.WARNING):
        for item in file_source(config(tmp_path), ctx):
            paused = isinstance(item, Pause)
    said = f"x: a.csv: {left} bytes after the last full row are waited for"
    assert [message.startswith(said) for message in caplog.messages] == [True]
    assert caplog.messages[0].endswith("last.line.wait takes them")


@pytest.mark.parametrize("options", [{}, {"last_line_wait": Duration(3_600_000)}])
def test_a_worker_that_ends_is_silent_about_files_that_are_read_or_will_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, options: dict[str, object]
) -> None:
    (tmp_path / "a.csv").write_text("n\n1\n2" if options else "n\n1\n2\n")
    ctx = SourceContext("x", list, lambda place: None, stopping=lambda: paused)
    paused = False
    with caplog.at_level(logging.WARNING):
        for item in file_source(config(tmp_path, **options), ctx):
            paused = isinstance(item, Pause)
    assert caplog.messages == []


def test_an_old_unfinished_line_is_mentioned_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.jsonl").write_text("1\n2")
    os.utime(tmp_path / "a.jsonl", (1, 1))
    ctx = SourceContext("x", list, lambda place: None)
    items = file_source(config(tmp_path), ctx)
    pauses = 0
    with caplog.at_level(logging.WARNING):
        for item in items:
            pauses += isinstance(item, Pause)
            if pauses == 4:
                break
    items.close()
    assert caplog.text.count("1 bytes after the last full row are waited for") == 1


CSV = {
    "too many values": (b"a,b\n1,2\n3,4,5\n6,7\n", 3, "3 values for 2 columns"),
    "too few values": (b"a,b\n1,2\n3\n6,7\n", 3, "1 values for 2 columns"),
    "bad UTF-8": (b"a,b\n1,2\n3,\xff\n6,7\n", 3, "not UTF-8 at byte 2 of the line"),
    "a quote in the wrong place": (b'a,b\n1,2\n"3"x,4\n6,7\n', 3, "expected after"),
    "a quote that never ends": (b'a,b\n1,2\n"3,4\n6,7\n', 3, "a quote is not closed"),
    "after a row of several lines": (b'a,b\n1,"2\n2\n2"\n3\n6,7\n', 5, "1 values"),
}


@pytest.mark.parametrize(("content", "line", "message"), CSV.values(), ids=CSV)
def test_a_malformed_row_is_named_by_file_and_line_and_the_next_one_is_read(
    tmp_path: Path, content: bytes, line: int, message: str
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    options = config(tmp_path, last_line_wait=Duration(1))
    reading = read(file_source, options)
    (bad,) = reading.bad
    assert isinstance(bad.error, BadRow)
    assert bad.raw == content.splitlines(keepends=True)[line - 1]
    assert str(bad.error).startswith(f"{tmp_path}/a.csv:{line}: ")
    assert message in str(bad.error)
    assert values(reading)[-1] == '{"a":"6","b":"7"}'
    assert len(reading.records) == 2
    # Neither is met again.
    again = read(file_source, options, reading.offsets)
    assert (again.records, again.bad) == ([], [])


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"1\n{]\n3\n", "not JSON"), (b"1\n\xff\n3\n", "not UTF-8")],
)
def test_a_malformed_json_line_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    reading = read(file_source, config(tmp_path))
    assert values(reading) == ["1", "3"]
    assert f"a.jsonl:2: {message}" in str(reading.bad[0].error)


def test_types_nulls_keys_and_timestamps(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "id,n,x,ok,text,at\n7,5,1.5,true,NA,2013-01-01T10:00:00.123Z\n8,NA,NA,False,,NA\n"
    )
    options = {
        "csv_types": {"n": "int", "x": "float", "ok": "bool"},
        "null_values": ("NA",),
        "key_fields": ("id",),
        "timestamp_field": "at",
    }
    reading = read(file_source, config(tmp_path, **options))
    assert values(reading) == [
        '{"id":"7","n":5,"x":1.5,"ok":true,"text":null,"at":"2013-01-01T10:00:00.123Z"}',
        '{"id":"8","n":null,"x":null,"ok":false,"text":"","at":null}',
    ]
    assert [(r.key, r.timestamp) for r in reading.records] == [
        ("7", 1_357_034_400_123),
        ("8", None),
    ]
    pair = read(file_source, config(tmp_path, **options | {"key_fields": ("id", "n")}))
    assert [r.key for r in pair.records] == [{"id": "7", "n": 5}, {"id": "8", "n": None}]


def test_json_lines_give_keys_and_timestamps_too(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id":7,"at":5}\n{"at":6}\n[1]\n')
    options = {"key_fields": ("id",), "timestamp_field": "at"}
    reading = read(file_source, config(tmp_path, **options))
    assert [(r.key, r.timestamp) for r in reading.records] == [(b"7", 5)]
    assert "no field 'id'" in str(reading.bad[0].error)
    assert "expected a JSON object" in str(reading.bad[1].error)


@pytest.mark.parametrize(
    ("row", "message"),
    [("x,1", "column 'n' is 'x': expected int"), ("1,noon", "timestamp 'noon': expected ISO")],
)
def test_a_value_that_does_not_fit_is_named_with_its_column(
    tmp_path: Path, row: str, message: str
) -> None:
    (tmp_path / "a.csv").write_text(f"n,at\n{row}\n")
    options = {"csv_types": {"n": "int"}, "timestamp_field": "at"}
    (bad,) = read(file_source, config(tmp_path, **options)).bad
    assert f"a.csv:2: {message}" in str(bad.error)
    assert bad.raw == f"{row}\n".encode()


def test_files_without_a_header_take_their_columns_from_the_config(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1;2\n")
    options = {"csv_fields": ("a", "b"), "csv_delimiter": ";"}
    assert values(read(file_source, config(tmp_path, **options))) == ['{"a":"1","b":"2"}']


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfn\n1\n2\n")
    first = read(file_source, config(tmp_path), limit=1)
    assert values(first) == ['{"n":"1"}']
    assert values(read(file_source, config(tmp_path), first.offsets)) == ['{"n":"2"}']


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a,a\n1,2\n", {}, "the header names 'a' more than once"),
        ("one,two\n1,2\n", {"key_fields": ("tow",)}, "no column 'tow'; did you mean 'two'?"),
    ],
)
def test_a_header_that_does_not_fit_stops_the_source(
    tmp_path: Path, content: str, options: dict[str, object], message: str
) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(BadRow) as caught:
        read(file_source, config(tmp_path, **options))
    assert message in str(caught.value)
    assert "a.csv" in str(caught.value)


def test_a_missing_directory_may_still_come(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="there is no such directory"):
        read(file_source, config(tmp_path / "none"))


def test_a_wrong_type_or_delimiter_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"csv\.types\.n = 'integer'; did you mean 'int'\?"):
        config(tmp_path, csv_types={"n": "integer"})
    with pytest.raises(ConfigError, match="one character"):
        config(tmp_path, csv_delimiter="||")


def test_a_new_file_wakes_the_source(tmp_path: Path) -> None:
    ctx = SourceContext("x", list, lambda place: None)
    items = file_source(config(tmp_path, poll_interval=Duration(3_600_000)), ctx)
    assert next(items) == Pause(3600.0)
    threading.Timer(0.05, (tmp_path / "a.jsonl").write_text, ["1\n"]).start()
    assert ctx.wait(20)
    for item in items:
        if isinstance(item, SourceRecord):
            assert item.value == b"1"
            break
        ctx.wait(20)
    items.close()


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8),
    cuts=st.lists(st.integers(0, 200), max_size=3),
)
def test_a_file_written_in_any_pieces_gives_every_row_once(
    rows: list[tuple[str, str]], cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    import csv
    import io
    import json

    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([("a", "b"), *rows])
    content = text.getvalue().encode()
    file = tmp_path_factory.mktemp("pieces") / "a.csv"
    offsets: list[object] = []
    found = []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(content)], strict=True):
        with file.open("ab") as more:
            more.write(content[start:end])
        reading = read(file_source, config(file.parent), offsets)  # type: ignore[arg-type]
        assert reading.bad == []
        found += [tuple(json.loads(value).values()) for value in reading.values]
        offsets = reading.offsets
    assert found == rows


def test_a_file_seen_empty_is_read_from_its_beginning_whatever_it_grows_to(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("n\n" + "the same\n" * 300)
    first = read(file_source, config(tmp_path))
    os.truncate(file, 0)
    empty = read(file_source, config(tmp_path), first.offsets)
    file.write_text("n\n" + "the same\n" * 400)  # in place: the same inode and head
    again = read(file_source, config(tmp_path), empty.offsets)
    assert [len(reading.records) for reading in (first, empty, again)] == [300, 0, 400]


def test_a_file_replaced_between_the_listing_and_its_opening_is_not_taken_for_the_old_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "b.csv").write_text("n\n" + "the same\n" * 300)
    stored = read(file_source, config(tmp_path)).offsets
    with (tmp_path / "b.csv").open("a") as more:
        more.write("of the old file\n" * 10)
    (tmp_path / "a.csv").write_text("n\nfirst\n")
    ctx = SourceContext("x", lambda: stored, lambda place: None)
    items = file_source(config(tmp_path), ctx)
    found = []
    for item in items:
        if isinstance(item, SourceRecord):
            found.append(item.value)
            if len(found) == 1:  # both are listed, b.csv is still to be opened
                (tmp_path / ".new").write_text("n\n" + "the same\n" * 400)
                (tmp_path / ".new").rename(tmp_path / "b.csv")
        elif len(found) > 1:
            break
    items.close()
    assert len(found) == 1 + 400


def test_a_name_that_is_not_utf8_is_written_with_escapes(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.csv")).write_text("n\n1\n1,2\n")
    reading = read(file_source, config(tmp_path))
    assert values(reading) == ['{"n":"1"}']
    assert reading.records[0].partition is not None
    assert reading.records[0].partition["file"] == r"\xff.csv"
    assert r"\xff.csv:3: 2 values" in str(reading.bad[0].error)


def test_a_link_to_itself_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n\n1\n")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    assert values(read(file_source, config(tmp_path))) == ['{"n":"1"}']


def test_an_open_quote_takes_no_good_rows_with_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('n,t\n1,"abc\n2,x\n3,"y"\n4,z\n')
    reading = read(file_source, config(tmp_path))
    assert [json.loads(value)["n"] for value in reading.values] == ["2", "3", "4"]
    assert [bad.raw for bad in reading.bad] == [b'1,"abc\n']


def test_a_row_of_several_lines_that_does_not_fit_is_set_aside_whole(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('n,t\n1,"a\nb",c\n')
    (bad,) = read(file_source, config(tmp_path)).bad
    assert bad.raw == b'1,"a\nb",c\n'


def test_an_open_quote_at_the_end_is_mentioned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.csv").write_text('n\n1\n"2\n')
    os.utime(tmp_path / "a.csv", (1, 1))
    ctx = SourceContext("x", list, lambda place: None)
    items = file_source(config(tmp_path), ctx)
    with caplog.at_level(logging.WARNING):
        pauses = (item for item in items if isinstance(item, Pause))
        assert [next(pauses).idle for _ in range(2)] == [True, True]
    items.close()
    assert "or an open quote" in caplog.text


def test_a_header_that_is_never_finished_stops_the_source(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('n,"t\n')
    with pytest.raises(BadRow, match=r"a\.csv:1: "):
        read(file_source, config(tmp_path, last_line_wait=Duration(1)))


def test_blank_lines_before_the_header_and_long_fields_are_taken(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"\r\n\nn\n{'x' * 200_000}\n")
    (value,) = read(file_source, config(tmp_path)).values
    assert len(json.loads(value)["n"]) == 200_000


STAMPS = {
    "1712010101000": 1712010101000,
    "20240401": 1711929600000,
    "2024-04-01T02:00:00+02:00": 1711929600000,
    "2024-04-01 00:00:00": 1711929600000,
    "0": 0,
}


@pytest.mark.parametrize(("text", "expected"), STAMPS.items())
def test_a_timestamp_in_a_csv_file_is_iso_8601_or_milliseconds(
    tmp_path: Path, text: str, expected: int
) -> None:
    (tmp_path / "a.csv").write_text(f"at\n{text}\n")
    (record,) = read(file_source, config(tmp_path, timestamp_field="at")).records
    assert record.timestamp == expected


@pytest.mark.parametrize("text", ["1969-12-31", "-5", "1" * 30, "soon", ""])
def test_a_timestamp_that_no_record_can_have_is_a_bad_row(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(f"at,n\n{text},1\n")
    (bad,) = read(file_source, config(tmp_path, timestamp_field="at")).bad
    assert "timestamp" in str(bad.error)


@pytest.mark.parametrize(("kind", "text"), [("int", "1_000"), ("float", "nan"), ("float", "1e999")])
def test_a_number_that_json_does_not_have_is_a_bad_row(
    tmp_path: Path, kind: str, text: str
) -> None:
    (tmp_path / "a.csv").write_text(f"n\n{text}\n")
    (bad,) = read(file_source, config(tmp_path, csv_types={"n": kind})).bad
    assert f"column 'n' is '{text}': expected {kind}" in str(bad.error)


def test_a_whole_number_may_have_any_length(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"n\n{'1' * 400}\n")
    (value,) = read(file_source, config(tmp_path, csv_types={"n": "int"})).values
    assert value == b'{"n":%s}' % (b"1" * 400)


def test_json_that_is_nested_too_deep_is_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("[" * 100_000 + "\n1\n")
    reading = read(file_source, config(tmp_path))
    assert (values(reading), len(reading.bad)) == (["1"], 1)
