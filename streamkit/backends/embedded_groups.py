"""The groups in the log of a directory: who is in them, and what they have committed."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from streamkit.backends.base import Membership
from streamkit.backends.group_files import MemberFile, check_group
from streamkit.backends.members import LockMembership, fenced, group_files
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.backends.refusals import refuse_read_only
from streamkit.backends.settling import Settling
from streamkit.backends.syncing import sync_all
from streamkit.backends.values import CommittedOffset, GroupInfo, MemberInfo, Unit
from streamkit.clock import Clock
from streamkit.errors import UnknownGroup, UsageError, nearest
from streamkit.groups import offsets as schema
from streamkit.groups.offsets import OffsetCommit
from streamkit.log.boot import boot_id
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

Committed: TypeAlias = Mapping[TopicPartition, CommittedOffset]

MOST_SESSION_SECONDS = 1800
"""The longest that a static member's units are kept for it, as Kafka's brokers allow."""


class EmbeddedGroups:
    """What `Backend` says about groups. `members` are those that this backend has made."""

    def __init__(self, log: Log, offsets: OffsetsTopic, settling: Settling, clock: Clock) -> None:
        self._log = log
        self._offsets = offsets
        self._settling = settling
        self._clock = clock
        self.members: list[LockMembership] = []

    def join(
        self,
        group: str,
        units: Mapping[str, int],
        *,
        client_id: str,
        instance_id: str | None,
        session_timeout: float,
    ) -> Membership:
        refuse_read_only(self._log, f"joining group {group!r}")
        if instance_id == "":
            raise UsageError(f"group {group!r}: the instance id is empty; leave it out or name one")
        if not 0 < session_timeout <= MOST_SESSION_SECONDS:
            raise UsageError(
                f"group {group!r}: session_timeout={session_timeout!r}: it is above 0 and at most "
                f"{MOST_SESSION_SECONDS} seconds"
            )
        said = MemberFile(
            client_id=client_id or "streamkit",
            host=os.uname().nodename,
            pid=os.getpid(),
            units=dict(units),
            boot=boot_id().hex(),
            instance_id=instance_id,
            session_timeout=session_timeout if instance_id is not None else 0.0,
        )
        # Also who has committed nothing yet has to be able to, on a disk that is full by now.
        member = self._log.pressing(
            lambda: LockMembership(
                self._log, self._offsets, self._clock, said, group, self.members.remove
            )
        )
        self.members.append(member)
        return member

    def pending(self, group: str) -> frozenset[TopicPartition]:
        found = self._offsets.pending(group)
        if found and not self._log.read_only:
            self._settling.settle()
            found = self._offsets.pending(group)
        return frozenset(found)

    def committed(self, group: str) -> dict[TopicPartition, CommittedOffset]:
        return {
            partition: CommittedOffset(commit.offset, commit.metadata)
            for partition, commit in self._offsets.committed(group).items()
        }

    def commit(
        self,
        group: str,
        offsets: Mapping[TopicPartition, CommittedOffset],
        *,
        member: Membership | None,
        units: Iterable[Unit] | None,
    ) -> None:
        refuse_read_only(self._log, f"committing for group {group!r}")
        if member is None:
            if units is not None:
                raise UsageError("units are a member's: name the member as well")
            self.reset(group, lambda _: offsets, force=False)
            return
        if not isinstance(member, LockMembership) or member.group != group:
            raise UsageError(f"that member is not one of group {group!r}")
        commits = self.checked(group, offsets)
        self._bring_in(commits)
        with member.holding(offsets if units is None else units):
            if commits:
                self._offsets.commit(group, commits)

    def reset(
        self, group: str, plan: Callable[[Committed], Committed], *, force: bool
    ) -> dict[TopicPartition, CommittedOffset]:
        refuse_read_only(self._log, f"committing for group {group!r}")
        files = group_files(self._offsets, group)
        self.checked(group, plan(self.committed(group)))  # before anybody is fenced in vain

        def reset() -> dict[TopicPartition, CommittedOffset]:
            self._offsets.make()
            with files.coordinator(), fenced(files, self._offsets, self._clock, force=force):
                offsets = dict(plan(self.committed(group)))
                commits = self.checked(group, offsets)
                if commits:
                    self._bring_in(commits)
                    self._offsets.commit(group, commits)
            return offsets

        offsets = self._log.pressing(reset)
        self._log.notify()
        return offsets

    def checked(self, group: str, offsets: Committed) -> dict[TopicPartition, OffsetCommit]:
        """What to write to commit them. UnknownTopic, UnknownPartition, UsageError."""
        check_group(group)
        for partition in offsets:
            self._log.partition(partition)  # a typing error, or deleted: UnknownTopic says so
        now = self._clock.now()
        return {
            partition: offset_commit(group, partition, committed, now)
            for partition, committed in offsets.items()
        }

    def _bring_in(self, commits: Mapping[TopicPartition, OffsetCommit]) -> None:
        """Have the records before these positions on stable storage, as the positions will be.

        Else a power cut may take them, others be given their offsets, and the group pass those
        over.
        """
        read = ((self._log.partition(tp), commit.offset) for tp, commit in commits.items())
        sync_all((one for one, offset in read if one.synced_offset < offset), gone=True)

    def names(self) -> list[str]:
        return self._offsets.groups()

    def group(self, group: str) -> GroupInfo:
        offsets = self.committed(group)
        metadata = self._offsets.metadata(group)
        if metadata is None:
            return GroupInfo(group, "Empty" if offsets else "Dead", 0, (), offsets)
        files = group_files(self._offsets, group)
        living, away = files.living(), files.away(self._clock.now())
        members = tuple(
            MemberInfo(
                member.member_id,
                member.client_id,
                member.host,
                tuple(sorted(schema.decode_assignment(member.assignment))),
                member.instance_id,
                away=member.member_id not in living,
            )
            for member in metadata.members
            if member.member_id in living or member.member_id in away
        )
        if not living:
            return GroupInfo(group, "Empty", metadata.generation, members, offsets)
        settled = {member.member_id for member in metadata.members} == living.keys() | away.keys()
        return GroupInfo(
            group,
            "Stable" if settled else "PreparingRebalance",
            metadata.generation,
            members,
            offsets,
        )

    def delete(self, group: str) -> None:
        refuse_read_only(self._log, f"deleting group {group!r}")
        known = self._offsets.groups()
        if group not in known:
            raise UnknownGroup(f"no group {group!r}{nearest(group, known)}")
        files = group_files(self._offsets, group)
        with files.coordinator():
            with fenced(files, self._offsets, self._clock, force=False):
                self._offsets.forget(group)
            files.clear()


def offset_commit(
    group: str, partition: TopicPartition, committed: CommittedOffset, now: int
) -> OffsetCommit:
    """What to write to commit an offset; UsageError when that cannot be written."""
    if committed.offset < 0:
        raise UsageError(f"group {group!r}, {partition}: offset {committed.offset} is negative")
    if len(committed.metadata) > schema.MAX_METADATA:
        raise UsageError(
            f"group {group!r}, {partition}: a note of {len(committed.metadata)} characters, and "
            f"{schema.MAX_METADATA} are possible"
        )
    return OffsetCommit(committed.offset, committed.metadata, now)
