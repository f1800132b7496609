"""A producer's id, epoch and sequence, set in a finished batch."""

import pytest

from streamkit.codec import encode
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


def test_what_a_header_cannot_hold_is_refused():
    with pytest.raises(InvalidRecord, match="producer_epoch=32768"):
        of_producer(encode([b"a"], timestamps=0), 1, 2**15, 0)
