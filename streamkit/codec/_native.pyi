"""The compiled codec; each name does what its namesake in `pure` does."""

from collections.abc import Callable, Sequence
from typing import Any

from streamkit.codec.buffer import Buffer, Encoded
from streamkit.codec.compression import Compression
from streamkit.codec.header import BatchHeader
from streamkit.codec.lanes import Lane as Lane
from streamkit.codec.lanes import Lanes as Lanes
from streamkit.records import Columns, Headers, Record

def encode(
    values: Sequence[bytes | None],
    *,
    timestamps: Sequence[int] | int,
    keys: Sequence[bytes | None] | None = None,
    headers: Sequence[Headers] | None = None,
    compression: Compression = "none",
    leader_epoch: int = 0,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    control: bool = False,
) -> bytes: ...

class Builder:
    def __init__(self, compression: Compression = "none") -> None: ...
    def __len__(self) -> int: ...
    @property
    def size(self) -> int: ...
    def append(
        self, value: bytes | None, key: bytes | None, timestamp: int, headers: Headers = ()
    ) -> int: ...
    def build(self) -> bytes: ...
    def take(self) -> Encoded: ...

def of_producer(
    batch: Encoded,
    producer_id: int,
    producer_epoch: int,
    base_sequence: int,
    *,
    transactional: bool = False,
) -> Encoded: ...
def check(buf: Buffer, position: int = 0) -> BatchHeader: ...
def columns(buf: Buffer, from_offset: int = 0) -> Columns: ...
def records(
    buf: Buffer, topic: str, partition: int, from_offset: int = 0
) -> list[Record[bytes | None]]: ...

class LatestOffsets:
    def __init__(self, memory: int) -> None: ...
    def __len__(self) -> int: ...
    @property
    def full(self) -> bool: ...
    def get(self, key: bytes) -> int: ...
    def add(self, batch: Buffer, from_offset: int = 0) -> int: ...

def keep_latest(
    batch: Buffer, latest: LatestOffsets, *, tombstones: bool, horizon: int
) -> tuple[int, bytes | None]: ...

class QuickSend:
    """What `Producer.send` does for plain records while nothing is unusual, without a lock.

    The record is in its batch, or `slow` was called with the same arguments; `full` is called with
    the lane's `buffer` when the record filled its batch.
    """

    topics: dict[str, Lanes]
    def __init__(
        self, slow: Callable[..., None], full: Callable[[Any], None], *, system_time: bool
    ) -> None:
        """`system_time`: a record without a timestamp gets the machine's; else it is for `slow`."""
    def send(
        self,
        topic: str,
        value: object,
        *,
        key: object = None,
        partition: int | None = None,
        timestamp: int | None = None,
        headers: Headers = (),
    ) -> None: ...

def are_bytes(values: object) -> bool: ...
def fill_batches(
    builders: list[Builder],
    values: list[bytes | None],
    keys: Sequence[bytes | None] | None,
    timestamps: Sequence[int] | int,
    start: int,
    limit: int,
) -> tuple[int, int]: ...
def has_null(data: bytes) -> bool: ...
def murmur2(data: Buffer) -> int: ...
def partition_for(key: Buffer, count: int) -> int: ...
def makes_records_directly() -> bool:
    """Whether Records are made without calling their class, which costs several times more."""
