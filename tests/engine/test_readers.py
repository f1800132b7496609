"""Keys and values that are null or wrong, from a topic and from another sub-topology."""

from collections.abc import Callable
from typing import Any

import pytest

from streamkit.dsl.nodes.sources import StreamSource
from streamkit.engine.cursor import Cursor
from streamkit.engine.hot.moment import Clock, EventFrontier
from streamkit.engine.hot.source import HandedOver, Source
from streamkit.engine.inputs import Reader
from streamkit.engine.watermarks import UpstreamFrontier
from streamkit.errors import SerdeError
from streamkit.records import Columns
from streamkit.serde import serde_for


def from_topic(source: StreamSource, forward: Any, cursor: Cursor) -> Reader:
    return Source(source, forward, EventFrontier(0), Clock(), cursor, lambda: None, True).read


def handed_over(source: StreamSource, forward: Any, cursor: Cursor) -> Reader:
    return HandedOver(source, forward, UpstreamFrontier(), cursor, lambda: None).read


Make = Callable[[StreamSource, Any, Cursor], Reader]
both = pytest.mark.parametrize("make", [from_topic, handed_over])


def events(
    make: Make, key: Any, value: Any, *records: tuple[bytes | None, bytes | None]
) -> list[tuple[Any, Any]]:
    """Keys and values of the events that a reader makes of records from offset 5 on."""
    found: list[tuple[Any, Any]] = []
    cursor = Cursor()
    cursor.enter("in", 0)
    source = StreamSource("in", serde_for(key), serde_for(value))
    read = make(source, lambda key, value, stamp, headers: found.append((key, value)), cursor)
    count = len(records)
    columns = Columns(
        range(5, 5 + count), [1] * count, [k for k, _ in records], [v for _, v in records]
    )
    read(columns, 0, count)
    return found


@both
@pytest.mark.parametrize(
    ("type_", "value"), [(str | None, "7"), (bytes | None, b"7"), (int | None, 7), (Any, 7)]
)
def test_null_values_and_missing_keys_are_read_as_none(make: Make, type_: Any, value: Any) -> None:
    assert events(make, str | None, type_, (b"k", b"7"), (b"k", None), (None, b"7")) == [
        ("k", value),
        ("k", None),
        (None, value),
    ]


@both
@pytest.mark.parametrize(
    ("key", "value", "record", "message"),
    [
        (str | None, int, (b"k", None), "value: expected int, got a null value"),
        (str | None, int, (b"k", b"NaN"), "value: expected int: "),
        (str | None, int, (b"k", b"\xff"), "value: expected int: "),
        (str | None, str, (b"k", b"\xff"), "value: expected str: not UTF-8 at byte 0"),
        (str | None, str, (b"\xff", b"x"), "key: expected str: not UTF-8 at byte 0"),
        (int | None, str, (b"x", b"x"), r"key: expected int \| None: "),
        (str, str, (None, b"x"), "key: expected str, got a null value"),
        (str, int, (None, None), "value: expected int, got a null value"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_record(
    make: Make, key: Any, value: Any, record: tuple[bytes | None, bytes | None], message: str
) -> None:
    fine = (b"1", b"1")
    with pytest.raises(SerdeError, match=rf"in-0@6: (repartitioned )?{message}"):
        events(make, key, value, fine, record)
