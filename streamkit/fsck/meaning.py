"""What a record of streamkit's own topics says, as names and values."""

from collections.abc import Mapping
from typing import Any

import msgspec

from streamkit.codec.primitives import Reader
from streamkit.errors import CorruptLog, DataError, UnsupportedFormat
from streamkit.groups import offsets as groups
from streamkit.log import metadata
from streamkit.log.config import METADATA_TOPIC
from streamkit.transactions import records as transactions


def meaning(topic: str, key: bytes | None, value: bytes | None) -> dict[str, Any] | None:
    """The record in words; None for topics that are the user's own.

    A record that cannot be read gives {"unreadable": why}. A value of None means a tombstone.
    """
    try:
        match topic:
            case groups.TOPIC:
                return _group_record(key or b"", value)
            case transactions.TOPIC:
                return _transaction_record(key or b"", value)
            case name if name == METADATA_TOPIC:
                return _metadata_record(value or b"")
            case _:
                return None
    except (DataError, CorruptLog, UnsupportedFormat, ValueError) as error:
        return {"unreadable": str(error)}


def _group_record(key: bytes, value: bytes | None) -> dict[str, Any]:
    match groups.decode_key(key):
        case groups.OffsetKey(group, tp):
            said: dict[str, Any] = {"group": group, "partition": str(tp)}
            if value is None:
                return {**said, "forgotten": True}
            commit = groups.decode_commit(value)
            said["committed"] = commit.offset
            said["at"] = commit.timestamp
            return {**said, "metadata": commit.metadata} if commit.metadata else said
        case groups.GroupKey(group):
            if value is None:
                return {"group": group, "forgotten": True}
            found = groups.decode_group(value)
            members = [member.member_id for member in found.members]
            return {"group": group, "generation": found.generation, "members": members}
        case _:
            return {"unknown": f"a record of type {Reader(key).i16()}, of a newer Kafka"}


def _transaction_record(key: bytes, value: bytes | None) -> dict[str, Any]:
    transactional_id = transactions.decode_key(key)
    if transactional_id is None:
        return {"unknown": f"a record of type {Reader(key).i16()}, of a newer Kafka"}
    if value is None:
        return {"transactional_id": transactional_id, "forgotten": True}
    found = transactions.decode_value(transactional_id, value)
    return {
        "transactional_id": transactional_id,
        "state": found.state.title,
        "producer_id": found.producer_id,
        "producer_epoch": found.producer_epoch,
        "timeout": found.timeout,
        "partitions": [str(tp) for tp in sorted(found.partitions)],
        "started_at": found.started_at,
        "updated_at": found.updated_at,
    }


def _metadata_record(value: bytes) -> dict[str, Any]:
    record = metadata.decode_record(value)
    if record is None:
        return {"record": "of another kind, which streamkit passes over", "bytes": value.hex()}
    fields: Mapping[str, Any] = msgspec.to_builtins(record)
    return {"record": type(record).__name__, **fields}
