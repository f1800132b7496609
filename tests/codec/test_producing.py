"""A producer's id, epoch and sequence, set in a finished batch."""

import pytest

from streamkit import codec as chosen
from streamkit.codec import check, encode
from streamkit.codec.producing import of_producer
from streamkit.errors import InvalidRecord


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("transactional", [False, True])
def test_it_is_the_batch_that_would_have_been_encoded_for_that_producer(compression, transactional):
    values = [b"a" * 100, b"b" * 100]
    plain = encode(values, timestamps=[5, 7], compression=compression)
    assert of_producer(plain, 2**40, 77, 2**31 - 1, transactional=transactional) == encode(
        values,
        timestamps=[5, 7],
        compression=compression,
        producer_id=2**40,
        producer_epoch=77,
        base_sequence=2**31 - 1,
        transactional=transactional,
    )


@pytest.mark.parametrize("transactional", [False, True])
def test_so_is_one_that_was_taken_and_the_plain_one_stays_as_it_was(transactional):
    builder = chosen.Builder()
    builder.append(b"v" * 70_000, b"k", 5)
    plain = builder.take()
    before = bytes(plain)
    got = chosen.of_producer(plain, 2**40, 77, 2**31 - 1, transactional=transactional)
    assert got == of_producer(before, 2**40, 77, 2**31 - 1, transactional=transactional)
    assert chosen.check(got) == check(bytes(got))
    assert plain == before


def test_what_a_header_cannot_hold_is_refused():
    builder = chosen.Builder()
    builder.append(b"a", None, 0)
    for batch in (encode([b"a"], timestamps=0), builder.take()):
        with pytest.raises(InvalidRecord, match="producer_epoch=32768"):
            chosen.of_producer(batch, 1, 2**15, 0)
