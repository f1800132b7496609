"""The next generation of a group: who is in, and who has what.

Whoever holds the group's coordinator lock makes it, from what the members say of themselves and
from the generation before. The result depends on these alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from streamkit.errors import DataError
from streamkit.groups import offsets as schema
from streamkit.groups.assign import assign
from streamkit.groups.offsets import GroupMetadata, Member
from streamkit.records import TopicPartition


@dataclass(frozen=True, slots=True)
class Joined:
    """What a member says of itself.

    `units`: how many it knows of each name it subscribes to. A member with an `instance_id` is
    static: when it goes, its units are kept for it for `session_timeout` seconds.
    """

    client_id: str
    host: str
    units: Mapping[str, int]
    instance_id: str | None = None
    session_timeout: float = 0.0


def next_generation(
    last: GroupMetadata, members: Mapping[str, Joined], now: int, leader: str | None = None
) -> GroupMetadata | None:
    """The generation of these `members` (by id); None when the last one still holds.

    `members`: the living, and the static ones that are away and have time left. Who comes back
    under the same instance id has a new member id and takes what the old one had.
    `now` in ms; `leader`: the member that decides.
    """
    if not members and not last.members:
        return None
    by_instance = {
        joined.instance_id: member_id
        for member_id, joined in members.items()
        if joined.instance_id is not None
    }
    previous: dict[TopicPartition, str] = {}
    for member in last.members:
        owner = member.member_id
        if member.instance_id is not None:
            owner = by_instance.get(member.instance_id, owner)
        previous |= dict.fromkeys(_had(member), owner)
    assigned = assign({member_id: joined.units for member_id, joined in members.items()}, previous)
    entries = tuple(
        Member(
            member_id,
            joined.client_id,
            joined.host,
            schema.encode_subscription(joined.units),
            schema.encode_assignment(assigned[member_id]),
            joined.instance_id,
            session_timeout=round(joined.session_timeout * 1000),
        )
        for member_id, joined in sorted(members.items())
    )
    if entries == tuple(sorted(last.members, key=lambda member: member.member_id)):
        return None
    return GroupMetadata(
        last.generation + 1,
        entries,
        protocol="cooperative-sticky" if entries else None,
        leader=leader if leader in members else None,
        timestamp=now,
    )


def _had(member: Member) -> frozenset[TopicPartition]:
    """What a member had; nothing, where that is not partitions: Kafka Connect assigns connectors.

    It decides no more than who keeps what.
    """
    try:
        return schema.decode_assignment(member.assignment)
    except DataError:
        return frozenset()
