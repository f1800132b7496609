"""The compiled codec; each name does what its namesake in `pure` does."""

from collections.abc import Sequence

from streamkit.codec.buffer import Buffer
from streamkit.codec.compression import Compression
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

def columns(buf: Buffer, from_offset: int = 0) -> Columns: ...
def records(
    buf: Buffer, topic: str, partition: int, from_offset: int = 0
) -> list[Record[bytes | None]]: ...
def murmur2(data: Buffer) -> int: ...
def partition_for(key: Buffer, count: int) -> int: ...
def makes_records_directly() -> bool:
    """Whether Records are made without calling their class, which costs several times more."""
