"""Values to bytes and back, and what is said when they do not fit."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import SerdeError, TopologyError
from streamkit.serde import Untyped, serde_for


class Order(msgspec.Struct):
    id: int
    amount: float = 0.0


@dataclass
class Customer:
    name: str
    since: datetime


class Point(TypedDict):
    x: int
    y: int


@pytest.mark.parametrize(
    ("type_", "value", "data"),
    [
        (str, "größe", "größe".encode()),
        (bytes, b"\x00\xff", b"\x00\xff"),
        (int, 42, b"42"),
        (float, 0.5, b"0.5"),
        (dict, {"b": 1, "a": [2]}, b'{"a":[2],"b":1}'),
        (Any, [1, "x", None], b'[1,"x",null]'),
        (tuple[str, int], ("JFK", 5), b'["JFK",5]'),
        (Order, Order(1, 2.5), b'{"id":1,"amount":2.5}'),
        (Point, {"x": 1, "y": 2}, b'{"x":1,"y":2}'),
        (
            Customer,
            Customer("Ada", datetime(2026, 1, 1, tzinfo=UTC)),
            b'{"name":"Ada","since":"2026-01-01T00:00:00Z"}',
        ),
        (str | int, "x", b'"x"'),
    ],
)
def test_a_value_comes_back_as_it_was_from_exactly_these_bytes(
    type_: Any, value: Any, data: bytes
) -> None:
    serde = serde_for(type_)
    assert serde.encode(value) == data
    assert serde.decode(data) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_value_comes_back_except_that_none_is_the_null_value(value: Any) -> None:
    serde = serde_for(Any)
    data = serde.encode(value)
    assert (data is None) == (value is None)
    assert serde.decode(data) == value


def test_the_order_in_which_a_dict_was_filled_does_not_change_its_bytes() -> None:
    serde = serde_for(dict[str, int])
    assert serde.encode({"a": 1, "b": 2}) == serde.encode({"b": 2, "a": 1})


@pytest.mark.parametrize("type_", [str, bytes, int, Order, dict])
def test_a_null_value_is_refused_unless_the_type_takes_none(type_: Any) -> None:
    with pytest.raises(SerdeError, match=r"\| None` to take null values"):
        serde_for(type_).decode(None)
    assert serde_for(type_ | None).decode(None) is None
    assert serde_for(type_ | None).encode(None) is None


def test_an_error_names_the_type_and_the_field() -> None:
    with pytest.raises(SerdeError, match=r"expected Order: .*`int`, got `str` - at `\$\.id`"):
        serde_for(Order).decode(b'{"id": "one"}')
    with pytest.raises(SerdeError, match="expected Order"):
        serde_for(Order).decode(b"{")
    with pytest.raises(SerdeError, match="not UTF-8 at byte 1"):
        serde_for(str).decode(b"a\xff")


@pytest.mark.parametrize(
    ("type_", "value"), [(str, 5), (bytes, "text"), (Order, Customer), (Order | None, 7)]
)
def test_writing_a_value_of_another_type_is_an_error(type_: Any, value: Any) -> None:
    with pytest.raises(SerdeError, match="expected"):
        serde_for(type_).encode(value)


def test_a_value_json_cannot_carry_is_an_error() -> None:
    with pytest.raises(SerdeError, match="cannot be written as JSON"):
        serde_for(Any).encode(object())
    with pytest.raises(
        TopologyError, match="Plain cannot be read from JSON: it has no typed fields"
    ):
        serde_for(type("Plain", (), {}))
    with pytest.raises(TopologyError, match="cannot be read from JSON"):
        serde_for(list[int] | set[str])


def test_values_of_unknown_type_are_written_by_what_they_are_and_not_read() -> None:
    serde = serde_for(Untyped)
    written = [serde.encode(value) for value in ("text", b"raw", {"a": 1}, 3, None)]
    assert written == [b"text", b"raw", b'{"a":1}', b"3", None]
    with pytest.raises(SerdeError, match="say their type"):
        serde.decode(b"text")


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (int, "1"),
        (int, 1.5),
        (int, True),
        (float, "1"),
        (float, True),
        (bool, 1),
        (int | None, "1"),
    ],
)
def test_a_number_of_another_kind_is_not_written(type_: Any, value: Any) -> None:
    with pytest.raises(SerdeError, match=r"expected .*, got"):
        serde_for(type_).encode(value)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_are_refused_where_nobody_could_read_them_again(
    number: float,
) -> None:
    for type_, value in ((float, number), (Order, Order(1, number))):
        with pytest.raises(SerdeError, match="NaN and infinity"):
            serde_for(type_).encode(value)


def test_a_dict_may_have_keys_that_are_no_text() -> None:
    serde = serde_for(dict[int, str])
    data = serde.encode({10: "ten", 9: "nine"})
    assert data == serde.encode({9: "nine", 10: "ten"})
    assert serde.decode(data) == {9: "nine", 10: "ten"}


def test_text_that_is_not_unicode_and_json_without_end_are_errors_like_others() -> None:
    with pytest.raises(SerdeError):
        serde_for(Untyped).encode("\ud800")
    with pytest.raises(SerdeError):
        serde_for(dict).decode(b'{"a":' * 100_000)


@pytest.mark.parametrize(
    "type_", [str, str | None, bytes, bytes | None, int, int | None, dict, Point, Point | None]
)
@pytest.mark.parametrize(
    "data", [b"", b"text", b"\xff", b"7", b"null", b"NaN", b'{"x": 1, "y": 2}', None]
)
def test_reading_without_care_gives_the_same_or_raises(type_: Any, data: bytes | None) -> None:
    serde = serde_for(type_)
    try:
        found = serde.read(data)
    except Exception:
        if data is not None:
            with pytest.raises(SerdeError):
                serde.decode(data)
    else:
        assert found == serde.decode(data)


@pytest.mark.parametrize("type_", [str, str | None, bytes, int, int | None, Point])
@pytest.mark.parametrize("value", ["text", "\ud800", b"text", 7, True, float("nan"), None])
def test_writing_without_care_gives_the_same_or_raises(type_: Any, value: Any) -> None:
    serde = serde_for(type_)
    try:
        data = serde.write(value)
    except Exception:
        if value is not None:
            with pytest.raises(SerdeError):
                serde.encode(value)
    else:
        assert data == serde.encode(value)
