"""Bytes and record batches: Kafka's format version 2.

Compiled when it could be (`BACKEND` is "cython"), the same in Python otherwise ("python").
"""

from typing import TYPE_CHECKING, Literal

from streamkit.codec.header import (
    HEADER_BYTES,
    BatchHeader,
    headers,
    read_header,
    stamp,
)

BACKEND: Literal["cython", "python"]

if TYPE_CHECKING:  # the two are alike; one of them is enough to check against
    from streamkit.codec._native import QuickSend
    from streamkit.codec.header import check
    from streamkit.codec.lanes import Lane, Lanes, are_bytes, fill_batches
    from streamkit.codec.latest import LatestOffsets, keep_latest
    from streamkit.codec.producing import of_producer
    from streamkit.codec.pure import Builder, columns, encode, murmur2, partition_for, records
    from streamkit.codec.search import has_null
else:
    try:
        from streamkit.codec._native import (
            Builder,
            Lane,
            Lanes,
            LatestOffsets,
            QuickSend,
            are_bytes,
            check,
            columns,
            encode,
            fill_batches,
            has_null,
            keep_latest,
            murmur2,
            of_producer,
            partition_for,
            records,
        )

        BACKEND = "cython"
    except ImportError:
        from streamkit.codec.header import check
        from streamkit.codec.lanes import Lane, Lanes, are_bytes, fill_batches
        from streamkit.codec.latest import LatestOffsets, keep_latest
        from streamkit.codec.producing import of_producer
        from streamkit.codec.pure import Builder, columns, encode, murmur2, partition_for, records
        from streamkit.codec.search import has_null

        QuickSend = None  # compiled only
        BACKEND = "python"

__all__ = [
    "BACKEND",
    "HEADER_BYTES",
    "BatchHeader",
    "Builder",
    "Lane",
    "Lanes",
    "LatestOffsets",
    "QuickSend",
    "are_bytes",
    "check",
    "columns",
    "encode",
    "fill_batches",
    "has_null",
    "headers",
    "keep_latest",
    "murmur2",
    "of_producer",
    "partition_for",
    "read_header",
    "records",
    "stamp",
]
