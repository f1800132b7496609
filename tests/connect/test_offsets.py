import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.connect.offsets import SourceOffsets, encode_key, encode_value
from streamkit.errors import CorruptLog

PLACES = st.dictionaries(st.text(max_size=5), st.integers(-(2**53), 2**53) | st.text(max_size=5))


def test_keys_and_values_have_kafka_connects_form() -> None:
    assert encode_key("files", {"file": "a.csv", "id": "1"}) == (
        b'["files",{"file":"a.csv","id":"1"}]'
    )
    assert encode_value({"position": 5}) == b'{"position":5}'


@given(PLACES)
def test_a_key_does_not_depend_on_the_order_of_its_fields(place: dict[str, int | str]) -> None:
    backwards = dict(reversed(place.items()))
    assert encode_key("c", place) == encode_key("c", backwards)
    assert json.loads(encode_key("c", place)) == ["c", place]


@given(st.lists(st.tuples(st.sampled_from(["mine", "other"]), PLACES, st.none() | PLACES)))
def test_the_latest_offset_of_every_partition_counts(
    stored: list[tuple[str, dict[str, int | str], dict[str, int | str] | None]],
) -> None:
    offsets = SourceOffsets("mine")
    offsets.feed(
        [encode_key(name, place) for name, place, _ in stored],
        [None if offset is None else encode_value(offset) for _, _, offset in stored],
        "t",
    )
    expected = {
        json.dumps(place, sort_keys=True): offset
        for name, place, offset in stored
        if name == "mine"
    }
    for key, offset in expected.items():
        assert offsets.get(json.loads(key)) == offset
    assert len(offsets.all()) == sum(offset is not None for offset in expected.values())


@pytest.mark.parametrize("key", [None, b"", b"x", b'{"a":1}', b'["a"]'])
def test_a_foreign_record_is_refused(key: bytes | None) -> None:
    with pytest.raises(CorruptLog, match=r"offset\.storage\.topic"):
        SourceOffsets("mine").feed([key], [b"{}"], "t")
