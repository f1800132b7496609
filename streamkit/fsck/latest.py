"""What a compacted topic of our own says in the end: the latest committed value of every key."""

from dataclasses import dataclass, field

from streamkit.codec import columns
from streamkit.fsck.walk import Stands
from streamkit.transactions.markers import Marker


@dataclass(frozen=True, slots=True)
class Said:
    """A value (None: a tombstone), and where it stands."""

    value: bytes | None
    offset: int
    position: int
    file: str


@dataclass(slots=True)
class Latest:
    """Fed with every batch of a partition. Records of an open transaction wait for its marker."""

    values: dict[bytes, Said] = field(default_factory=dict)
    _waiting: dict[int, dict[bytes, Said]] = field(default_factory=dict)

    def batch(self, found: Stands, marker: Marker | None, file: str) -> None:
        """Raises CorruptBatch when the records in it cannot be read."""
        header = found.header
        if marker is not None:
            waiting = self._waiting.pop(header.producer_id, {})
            if marker.commit:
                self.values.update(waiting)
        if header.control or header.count == 0:
            return
        some = columns(found.data)
        into = self.values
        if header.transactional:
            into = self._waiting.setdefault(header.producer_id, {})
        for offset, key, value in zip(some.offsets, some.keys, some.values, strict=True):
            if key is not None:
                into[key] = Said(value, offset, found.position, file)
