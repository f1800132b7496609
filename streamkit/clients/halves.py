"""A batch that is larger than its topic takes, as two."""

from streamkit import codec
from streamkit.codec.buffer import Encoded
from streamkit.codec.compression import Compression


def halves(batch: Encoded, compression: Compression) -> tuple[bytes, bytes] | None:
    """Two batches with the records of one, in their order; None when it is one record."""
    columns = codec.columns(batch)
    if len(columns) == 1:
        return None
    middle = len(columns) // 2
    first, second = (
        codec.encode(
            columns.values[part],
            keys=columns.keys[part],
            timestamps=columns.timestamps[part],
            headers=None if columns.headers is None else columns.headers[part],
            compression=compression,
        )
        for part in (slice(0, middle), slice(middle, None))
    )
    return first, second
