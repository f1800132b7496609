"""What is in bytes."""

import pytest

from streamkit import codec
from streamkit.codec import search


@pytest.mark.parametrize("has_null", [codec.has_null, search.has_null])
@pytest.mark.parametrize("data", [b"null", b'{"a":null}', b"nunull", b"null\x00", b"\x00null"])
def test_a_null_is_found_wherever_it_is(has_null, data):
    assert has_null(data)


@pytest.mark.parametrize("has_null", [codec.has_null, search.has_null])
@pytest.mark.parametrize("data", [b"", b"nul", b"nul\x00l", b"NULL", b'{"a":1}'])
def test_and_where_none_is_none(has_null, data):
    assert not has_null(data)
