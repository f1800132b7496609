"""The bytes of a log's files, readable: one line per batch, record, entry or field.

Nothing is believed and nothing is opened that is not asked for, so that it works on a single file
of a damaged log as well. Files that others append to meanwhile may end in the middle of a line.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from streamkit.codec import columns
from streamkit.codec.header import BatchHeader
from streamkit.codec.pure import control_records
from streamkit.errors import CorruptBatch, CorruptLog, UnsupportedFormat, UsageError
from streamkit.fsck.meaning import meaning
from streamkit.fsck.walk import Damage, Stands, walk
from streamkit.log.control import DIRTY_AT, END, ERRNO_AT, PAGE_BYTES, SYNCED
from streamkit.log.files import OpenFile, RealFiles
from streamkit.log.index import OFFSET_ENTRY, TIME_ENTRY
from streamkit.log.opening import CONTROL
from streamkit.log.segment import LOG
from streamkit.transactions.markers import read_marker
from streamkit.transactions.snapshot import decode_snapshot
from streamkit.transactions.txnindex import ENTRY_BYTES, decode_entries

HEX_BYTES = 256
"""How much of damaged bytes is shown."""

_OF_BATCHES = (LOG, ".cut", ".damaged", ".checkpoint")
_SEGMENT = re.compile(r"^(\d{20})\.")
_OFFSETS = re.compile(r"^(\d{20})\.\w+")


@dataclass(frozen=True, slots=True)
class Line:
    """What one thing in a file says. `data` are bytes to show as they are."""

    kind: str
    fields: Mapping[str, Any]
    data: bytes = b""


def dump(path: str, *, records: bool = False, from_offset: int = 0) -> Iterator[Line]:
    """What is in the file, in its order; batches that end before `from_offset` are left out.

    Raises UsageError for a file that is none of a log's, OSError when it cannot be read.
    """
    name = re.sub(r"\.(cleaned|swap|deleted)$", "", os.path.basename(path))
    if name.endswith(_OF_BATCHES):
        return _batches(path, records=records, from_offset=from_offset)
    for kind, lines in _KINDS.items():
        if name.endswith(kind):
            return lines(path)
    raise UsageError(
        f"{path}: not a file of a log; there are .log, .index, .timeindex, .txnindex, .snapshot,"
        f" {CONTROL}, partition.metadata, meta.properties and …-checkpoint"
    )


def segment_files(directory: str, from_offset: int = 0) -> list[str]:
    """The `.log` files of a partition's directory, from the one that holds `from_offset` on."""
    bases = sorted(
        int(match[1])
        for name in os.listdir(directory)
        if name.endswith(LOG) and (match := _SEGMENT.match(name))
    )
    first = max((base for base in bases if base <= from_offset), default=0)
    return [os.path.join(directory, f"{base:020d}{LOG}") for base in bases if base >= first]


def all_files(directory: str) -> list[str]:
    """Every file of a partition's directory that can be dumped, segment by segment."""
    names = sorted(os.listdir(directory))
    known = [name for name in names if _OFFSETS.match(name) or name in _KINDS]
    return [os.path.join(directory, name) for name in known]


def topic_of(path: str) -> str:
    """The topic whose partition's directory the file is in."""
    folder = os.path.basename(os.path.dirname(os.path.abspath(path)))
    return folder.rpartition("-")[0]


# Segments.


def _batches(path: str, *, records: bool, from_offset: int) -> Iterator[Line]:
    file = OpenFile(RealFiles(), path, os.O_RDONLY)
    topic = topic_of(path)
    match = _SEGMENT.match(os.path.basename(path))
    base = int(match[1]) if match else 0
    ends = _published(path, base)
    size = file.size()
    for found in walk(lambda position, size: file.read(size, position), size, offset=base):
        if ends is not None and found.position >= ends:
            yield Line("end", {"position": ends, "what": "published; the rest is not in the log"})
            ends = None
        if isinstance(found, Damage):
            shown = file.read(min(found.size, HEX_BYTES), found.position)
            yield Line(
                "damage",
                {
                    "position": found.position,
                    "size": found.size,
                    "offset": found.offset,
                    "problem": found.problem,
                },
                shown,
            )
            continue
        if found.header.next_offset > from_offset:
            yield Line("batch", _header(found))
            if records:
                yield from _records(found, topic)
    if ends == size:
        yield Line("end", {"position": ends, "what": "published"})


def _published(path: str, base: int) -> int | None:
    """Where the segment ends by the control block beside it; None when it does not tell."""
    if not path.endswith(LOG):
        return None
    try:
        with open(os.path.join(os.path.dirname(path), CONTROL), "rb") as file:
            page = file.read(PAGE_BYTES)
        found = END.decode(page) if len(page) == PAGE_BYTES else None
    except OSError:
        return None
    return found[1].end_position if found is not None and found[1].active_base == base else None


def _header(found: Stands) -> dict[str, Any]:
    header = found.header
    fields: dict[str, Any] = {
        "position": found.position,
        "offset": header.base_offset,
        "last_offset": header.last_offset,
        "records": header.count,
        "size": header.size,
        "codec": header.compression,
        "crc": f"{header.crc:08x}",
        "base_timestamp": header.base_timestamp,
        "max_timestamp": header.max_timestamp,
        "leader_epoch": header.leader_epoch,
    }
    if header.producer_id >= 0:
        fields["producer_id"] = header.producer_id
        fields["producer_epoch"] = header.producer_epoch
        fields["base_sequence"] = header.base_sequence
    flags = _flags(header)
    if flags:
        fields["flags"] = flags
    marker = read_marker(found.data) if header.control else None
    if marker is not None:
        fields["marker"] = "commit" if marker.commit else "abort"
        fields["coordinator_epoch"] = marker.coordinator_epoch
    return fields


def _flags(header: BatchHeader) -> list[str]:
    return [
        name
        for name, is_set in (
            ("transactional", header.transactional),
            ("control", header.control),
            ("log_append_time", header.log_append_time),
            ("delete_horizon", header.has_delete_horizon),
        )
        if is_set
    ]


def _records(found: Stands, topic: str) -> Iterator[Line]:
    try:
        some = control_records(found.data) if found.header.control else columns(found.data)
    except CorruptBatch as error:
        yield Line("damage", {"position": found.position, "problem": str(error)})
        return
    all_headers = some.headers or [()] * len(some)
    for offset, timestamp, key, value, headers in zip(
        some.offsets, some.timestamps, some.keys, some.values, all_headers, strict=True
    ):
        fields: dict[str, Any] = {"offset": offset, "timestamp": timestamp}
        said = None if found.header.control else meaning(topic, key, value)
        if said is None:
            fields["key"], fields["value"] = key, value
        else:
            fields |= said
        if headers:
            fields["headers"] = [list(header) for header in headers]
        yield Line("record", fields)


# The other files.


def _index(path: str) -> Iterator[Line]:
    base = _base(path)
    for number, (relative, position) in enumerate(OFFSET_ENTRY.iter_unpack(_whole(path, 8))):
        yield Line("entry", {"number": number, "offset": base + relative, "position": position})
    yield from _rest(path, OFFSET_ENTRY.size)


def _timeindex(path: str) -> Iterator[Line]:
    base = _base(path)
    for number, (timestamp, relative) in enumerate(TIME_ENTRY.iter_unpack(_whole(path, 12))):
        yield Line("entry", {"number": number, "timestamp": timestamp, "offset": base + relative})
    yield from _rest(path, TIME_ENTRY.size)


def _txnindex(path: str) -> Iterator[Line]:
    try:
        for entry in decode_entries(_read(path), path):
            yield Line("aborted", msgspec.structs.asdict(entry))
        yield from _rest(path, ENTRY_BYTES)
    except UnsupportedFormat as error:
        yield _damage(path, error)


def _snapshot(path: str) -> Iterator[Line]:
    try:
        producers = decode_snapshot(_read(path), path)
    except (CorruptLog, UnsupportedFormat) as error:
        yield _damage(path, error)
        return
    for producer in producers:
        last = producer.batches[-1] if producer.batches else None
        yield Line(
            "producer",
            {
                "producer_id": producer.producer_id,
                "producer_epoch": producer.epoch,
                "last_sequence": producer.last_sequence,
                "last_offset": last.last_offset if last is not None else -1,
                "timestamp": producer.timestamp,
                "coordinator_epoch": producer.coordinator_epoch,
                "open_from": producer.open_from,
            },
        )


def _control(path: str) -> Iterator[Line]:
    page = _read(path)
    if len(page) < PAGE_BYTES:
        if page:
            yield _damage(path, f"{len(page)} bytes; a control block has {PAGE_BYTES}")
        return
    end, synced = END.decode(page), SYNCED.decode(page)
    for kind, found in (("end", end), ("synced", synced)):
        if found is None:
            yield Line("damage", {"problem": f"neither copy of {kind!r} is whole"})
        else:
            generation, value = found
            fields = msgspec.structs.asdict(value)
            if "boot_id" in fields:
                fields["boot_id"] = fields["boot_id"].hex()
            yield Line(kind, {"generation": generation, **fields})
    yield Line("state", {"dirty": bool(page[DIRTY_AT]), "errno": page[ERRNO_AT]})


def _text(path: str) -> Iterator[Line]:
    for number, line in enumerate(_read(path).decode(errors="backslashreplace").splitlines()):
        yield Line("line", {"number": number + 1, "text": line})


def _damage(path: str, problem: object) -> Line:
    return Line("damage", {"position": 0, "problem": str(problem)}, _read(path)[:HEX_BYTES])


def _rest(path: str, entry: int) -> Iterator[Line]:
    data = _read(path)
    if left := len(data) % entry:
        at = len(data) - left
        problem = f"{left} bytes, and an entry has {entry}"
        yield Line("damage", {"position": at, "size": left, "problem": problem}, data[at:])


def _base(path: str) -> int:
    match = _SEGMENT.match(os.path.basename(path))
    return int(match[1]) if match else 0


def _whole(path: str, entry: int) -> bytes:
    data = _read(path)
    return data[: len(data) - len(data) % entry]


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


_KINDS: Mapping[str, Callable[[str], Iterator[Line]]] = {
    ".index": _index,
    ".timeindex": _timeindex,
    ".txnindex": _txnindex,
    ".snapshot": _snapshot,
    CONTROL: _control,
    "leader-epoch-checkpoint": _text,
    "partition.metadata": _text,
    "meta.properties": _text,
    "-checkpoint": _text,
}
