"""Membership by held locks.

    <group>/coordinator        held while a member joins or leaves, and while a generation is
                               made: one at a time decides
    <group>/members/<id>       held by the member as long as it lives; JSON inside
    <group>/units/<name>-<n>   held by the unit's owner: nobody works on a unit without it

all of them in `__consumer_offsets-0/groups`.

A dead process holds nothing, so there is no heartbeat and no session time-out. Whoever notices
that the members are not those of the last generation makes the next one: takes the coordinator's
lock, assigns, and appends the result to `__consumer_offsets`, from where all read it. A unit that
moves is `revoking` at its old owner until that one releases it; the new owner has it when it gets
the lock. All others go on undisturbed.

The other side of having no time-out: a process that is stopped (SIGSTOP, Ctrl-Z) lives, and keeps
its units until it goes on or is killed. Nothing it does afterwards can collide with anybody.

A commit needs no lock: as long as a member holds its own lock no reset can happen (that needs a
group without members), and as long as it holds a unit's nobody else commits for it.
"""

import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from streamkit.backends.base import Ownership, Unit
from streamkit.backends.lockfile import LockFile
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.clock import Clock
from streamkit.errors import Fenced, UsageError
from streamkit.groups import offsets as schema
from streamkit.groups.assign import assign
from streamkit.groups.offsets import GroupMetadata, Member
from streamkit.log.directory import Log

_POLL_SECONDS = 0.005
"""A busy loop's `poll` looks at the files this often; a `wait` looks whenever it is woken."""

_NAME_BYTES = 240
_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def file_name(name: str) -> str:
    """Any text as a file name: what is not plain is written %XX, as in URLs."""
    try:
        raw = name.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{name[:40]!r} cannot be written as UTF-8: {error.reason}") from None
    return "".join(chr(byte) if byte in _SAFE else f"%{byte:02X}" for byte in raw)


def check_group(group: str) -> str:
    """The group's name if it can be one; UsageError."""
    if not group:
        raise UsageError("a group needs a name: the empty one is refused")
    if len(file_name(group)) > _NAME_BYTES:
        raise UsageError(
            f"the group's name is too long: {len(file_name(group))} bytes when written as a file "
            f"name, and {_NAME_BYTES} are possible: {group[:40]!r}…"
        )
    return group


class MemberFile(msgspec.Struct, frozen=True):
    """What a member says of itself. `units`: how many it knows of each name it subscribes to."""

    client_id: str
    host: str
    pid: int
    units: dict[str, int]


class GroupDirectory:
    """A group's lock files. Makes nothing unless somebody joins or decides."""

    def __init__(self, locks: Path, group: str) -> None:
        self.path = locks / file_name(group)
        self.members = self.path / "members"
        self.units = self.path / "units"

    @contextmanager
    def coordinator(self) -> Iterator[None]:
        """Be the only one to decide about this group, on this machine.

        The topic that the files are in has to be made before.
        """
        self.members.mkdir(parents=True, exist_ok=True)
        self.units.mkdir(exist_ok=True)
        with LockFile(self.path / "coordinator") as file:
            file.lock()
            yield

    def member_ids(self) -> set[str]:
        """Of the living, and perhaps of some that have just died."""
        try:
            return set(os.listdir(self.members))
        except FileNotFoundError:
            return set()

    def living(self) -> dict[str, MemberFile]:
        found = {}
        for member_id in sorted(self.member_ids()):
            try:
                with LockFile(self.members / member_id, create=False) as file:
                    if not file.free():
                        found[member_id] = msgspec.json.decode(file.read(), type=MemberFile)
            except FileNotFoundError:
                continue  # left since the listing
            except msgspec.DecodeError:
                continue  # joining at this moment: seen so only without the coordinator's lock
        return found

    def bury(self, living: Mapping[str, MemberFile]) -> None:
        """Remove the files of the dead. Only under the coordinator's lock: nobody is joining."""
        for member_id in self.member_ids() - living.keys():
            (self.members / member_id).unlink(missing_ok=True)


class LockMembership:
    """One member of one group (see `backends.base.Membership`)."""

    def __init__(
        self,
        log: Log,
        offsets: OffsetsTopic,
        clock: Clock,
        group: str,
        units: Mapping[str, int],
        client_id: str,
        forget: Callable[["LockMembership"], None],
    ) -> None:
        self.group = check_group(group)
        self.thread = threading.get_ident()
        self._log = log
        self._offsets = offsets
        self._clock = clock
        self._forget = forget
        self._directory = GroupDirectory(offsets.locks, group)
        self._pid = os.getpid()
        self._id = f"{file_name(client_id or 'streamkit')[:100]}-{uuid.uuid4()}"
        self._said = MemberFile(
            client_id or "streamkit", os.uname().nodename, self._pid, dict(units)
        )
        self._names = frozenset(units)
        self._lock = threading.RLock()
        self._generation = 0
        self._target: frozenset[Unit] = frozenset()
        self._held: dict[Unit, LockFile] = {}
        self._wanted: dict[Unit, LockFile] = {}
        self._gained: set[Unit] = set()
        self._revoking_told: frozenset[Unit] = frozenset()
        self._peers: dict[str, LockFile] = {}
        self._looked_at = 0.0
        self._over: str | None = None
        offsets.make()
        with self._directory.coordinator():
            self._own = LockFile(self._directory.members / self._id)
            try:
                self._own.lock()
                self._own.write(msgspec.json.encode(self._said))
                self._decide()
            except BaseException:
                self._own.path.unlink()
                self._own.close()
                raise
        log.watch(self._directory.members)
        log.watch(self._directory.units)
        self._look()

    @property
    def member_id(self) -> str:
        return self._id

    @property
    def generation(self) -> int:
        return self._generation

    def poll(self) -> Ownership:
        """What this member owns now. Raises Fenced when its own lock file was taken away."""
        self._refuse_child()
        with self._lock:
            self.thread = threading.get_ident()
            if self._over == "left":
                return Ownership(frozenset())
            if self._over is not None or self._clock.monotonic() - self._looked_at >= _POLL_SECONDS:
                self.check()
                self._look()
            gained, self._gained = frozenset(self._gained), set()
            self._revoking_told = self._revoking()
            return Ownership(frozenset(self._held), gained, self._revoking_told)

    def changed(self) -> bool:
        """Look now, and say whether `poll` has something to tell."""
        if os.getpid() != self._pid:
            return False
        with self._lock:
            if self._over is None:
                self._look()
            return bool(
                self._gained
                or self._revoking() - self._revoking_told
                or (self._over is not None and self._over != "left")
            )

    def release(self, units: Iterable[Unit]) -> None:
        with self._lock:
            for unit in units:
                if unit in self._held:
                    self._held.pop(unit).close()
                    self._gained.discard(unit)
        self._log.notify()

    def leave(self) -> None:
        if os.getpid() != self._pid:
            return  # it is the parent's to leave
        with self._lock:
            if self._over == "left":
                return
            fenced, self._over = self._over is not None, "left"
            self._drop_locks()
            self._forget(self)
            if fenced:
                return
            try:
                with self._directory.coordinator():
                    self._own.path.unlink(missing_ok=True)
                    self._own.close()
                    self._decide()
            finally:
                self._own.close()
        self._log.notify()

    def check(self) -> None:
        """Raises Fenced unless this member is still the one it was."""
        self._refuse_child()
        with self._lock:
            if self._over is None and not self._own.intact():
                self._end("its lock file was removed; join again")
            if self._over is not None:
                why = "it has left the group" if self._over == "left" else self._over
                raise Fenced(f"member {self._id} of group {self.group!r} is fenced: {why}")

    def _refuse_child(self) -> None:
        """In a forked child. Without the lock, which may be held by a thread it does not have."""
        if os.getpid() != self._pid:
            raise Fenced(
                f"member {self._id} of group {self.group!r} belongs to the parent process; "
                "join again in the child"
            )

    def _revoking(self) -> frozenset[Unit]:
        return frozenset(unit for unit in self._held if unit not in self._target)

    def _end(self, why: str) -> None:
        self._over = why
        self._drop_locks()
        self._own.close()

    def _drop_locks(self) -> None:
        for files in (self._held, self._wanted, self._peers):
            for file in files.values():
                file.close()
            files.clear()
        self._gained.clear()

    def _look(self) -> None:
        """See who is there, make a generation if that is due, and take what can be taken."""
        self._looked_at = self._clock.monotonic()
        if self._somebody_came_or_went():
            with self._directory.coordinator():
                self._decide()
        metadata = self._offsets.metadata(self.group)
        if metadata is not None and metadata.generation != self._generation:
            self._follow(metadata)
        self._take()

    def _somebody_came_or_went(self) -> bool:
        if self._directory.member_ids() != self._peers.keys() | {self._id}:
            return True
        return any(file.free() for file in self._peers.values())

    def _decide(self) -> None:
        """Make the next generation, if the living are not those of the last. Coordinator only."""
        living = self._directory.living()
        self._directory.bury(living)
        last = self._offsets.metadata(self.group) or GroupMetadata(0)
        if {member.member_id for member in last.members} == living.keys():
            return
        previous = {
            unit: member.member_id
            for member in last.members
            for unit in schema.decode_assignment(member.assignment)
        }
        assigned = assign({member: said.units for member, said in living.items()}, previous)
        members = tuple(
            Member(
                member_id,
                said.client_id,
                said.host,
                schema.encode_subscription(said.units),
                schema.encode_assignment(assigned[member_id]),
            )
            for member_id, said in living.items()
        )
        self._offsets.save(
            self.group,
            GroupMetadata(
                last.generation + 1,
                members,
                protocol="sticky" if members else None,
                leader=self._id if self._id in living else None,
                timestamp=self._clock.now(),
            ),
        )

    def _follow(self, metadata: GroupMetadata) -> None:
        self._generation = metadata.generation
        by_id = {member.member_id: member for member in metadata.members}
        mine = by_id.pop(self._id, None)
        self._target = schema.decode_assignment(mine.assignment) if mine else frozenset()
        for gone in self._peers.keys() - by_id.keys():
            self._peers.pop(gone).close()
        for come in by_id.keys() - self._peers.keys():
            with suppress(FileNotFoundError):  # gone again: the next look finds the list changed
                self._peers[come] = LockFile(self._directory.members / come, create=False)

    def _take(self) -> None:
        for unit in self._wanted.keys() - self._target:
            self._wanted.pop(unit).close()
        for unit in sorted(self._target - self._held.keys()):
            file = self._wanted.get(unit)
            if file is None:
                # Kept open while waiting: closing it would wake every member of the group.
                name = f"{file_name(unit.topic)}-{unit.partition}"
                file = self._wanted[unit] = LockFile(self._directory.units / name)
            if file.try_lock():
                self._held[unit] = self._wanted.pop(unit)
                self._gained.add(unit)
