"""Membership by held locks (the files are listed in `group_files`).

A dead process holds nothing, so there is no heartbeat and no session time-out. Whoever notices
that the members are not those of the last generation makes the next one: takes the coordinator's
lock, assigns, and appends the result to `__consumer_offsets`, from where all read it. A unit that
moves is `revoking` at its old owner until that one releases it; the new owner has it when it gets
the lock. All others go on undisturbed. Nobody who works waits for the coordinator's lock: who
finds it taken looks again at the next poll.

The other side of having no time-out: a process that is stopped (SIGSTOP, Ctrl-Z) lives, and keeps
its units until it goes on or is killed. Nothing it does afterwards can collide with anybody.

A commit is made while its units' locks are held, and keeps them held until it is on stable
storage, so none can slip in after a unit has moved. It shares the lock of `commits` meanwhile: a
forced reset removes the members' files (that fences them), takes that lock whole, and so comes
after every commit that was still allowed.
"""

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

import msgspec

from streamkit.backends.group_files import GroupFiles, MemberFile, check_group, file_name
from streamkit.backends.lockfile import LockFile
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.backends.values import Ownership, Unit
from streamkit.clock import Clock
from streamkit.errors import Fenced, FencedInstanceId, GroupActive, StreamkitError
from streamkit.groups import offsets as schema
from streamkit.groups.generation import next_generation
from streamkit.groups.offsets import GroupMetadata
from streamkit.log.boot import boot_id
from streamkit.log.directory import Log

_POLL_SECONDS = 0.005
"""A busy loop's `poll` looks at the files this often; a `wait` looks whenever it is woken."""

_LEAVE_SECONDS = 0.2
"""Who leaves makes the next generation itself if it gets the coordinator's lock in this time. Else
the others make it: they see that the member's lock is free. A fenced one waits as long to see who
has taken its place."""

_LOOK_SECONDS = 0.001
_RESET_SECONDS = 5.0
"""A reset gives commits that are under way this time to end."""


def group_files(offsets: OffsetsTopic, group: str) -> GroupFiles:
    return GroupFiles(offsets.locks, check_group(group), boot_id().hex())


def decide(
    files: GroupFiles, offsets: OffsetsTopic, now: int, leader: str | None = None
) -> dict[str, MemberFile]:
    """Make the next generation if one is due; gives the static members that are away.

    Only under the coordinator's lock. `now` in ms; `leader`: the member that decides.
    """
    living, away = files.settle(now)
    last = offsets.metadata(files.group) or GroupMetadata(0)
    members = {member_id: said.joined() for member_id, said in (living | away).items()}
    made = next_generation(last, members, now, leader)
    if made is not None:
        offsets.save(files.group, made)
    return away


@contextmanager
def fenced(
    files: GroupFiles, offsets: OffsetsTopic, clock: Clock, *, force: bool
) -> Iterator[None]:
    """Keep every member out for as long as the block runs; only under the coordinator's lock.

    With `force` the living ones are fenced, else they are refused: GroupActive. What fenced ones
    have begun to commit is committed before the block begins, and nothing afterwards.
    """
    living = files.living()
    if living and not force:
        raise GroupActive(
            f"group {files.group!r} has live members: {_names(living)}; stop them first"
        )
    for member_id in living:
        files.remove(member_id)
    if living:
        decide(files, offsets, clock.now())
    with files.commits() as commits:
        until = time.monotonic() + _RESET_SECONDS
        while not commits.try_lock():
            if time.monotonic() >= until:
                raise GroupActive(
                    f"group {files.group!r}: {_names(living) or 'a former member'} is in the "
                    "middle of a commit and does not come to its end. The members are fenced, and "
                    "nothing was reset: try again when that process goes on or has ended"
                )
            time.sleep(_LOOK_SECONDS)
        yield


def _names(living: Mapping[str, MemberFile]) -> str:
    return ", ".join(said.name for said in living.values())


class LockMembership:
    """One member of one group (see `backends.base.Membership`)."""

    def __init__(
        self,
        log: Log,
        offsets: OffsetsTopic,
        clock: Clock,
        said: MemberFile,
        group: str,
        forget: Callable[["LockMembership"], None],
    ) -> None:
        """Join. `said`: what the others shall know of it; `forget` is called when it leaves."""
        self.group = check_group(group)
        self.thread = threading.get_ident()
        self._log = log
        self._offsets = offsets
        self._clock = clock
        self._forget = forget
        self._files = group_files(offsets, group)
        self._id = f"{file_name(said.instance_id or said.client_id)[:100]}-{uuid.uuid4()}"
        self._said = said
        self._unsaid = False
        self._lock = threading.RLock()
        self._generation = 0
        self._target: frozenset[Unit] = frozenset()
        self._held: dict[Unit, LockFile] = {}
        self._wanted: dict[Unit, LockFile] = {}
        self._gained: set[Unit] = set()
        self._revoking_told: frozenset[Unit] = frozenset()
        self._peers: dict[str, LockFile] = {}
        self._owners: dict[Unit, str] = {}
        """The members that others' units were given to."""
        self._left_by: dict[Unit, str] = {}
        """Who had a unit that is to be taken, and has gone."""
        self._away: dict[str, MemberFile] = {}
        self._looked_at = 0.0
        self._over: str | None = None
        offsets.make()
        with self._files.coordinator():
            if said.instance_id is not None:
                self._files.displace(said.instance_id)
            self._own = LockFile(self._files.members / self._id)
            try:
                self._own.lock()
                self._own.write(msgspec.json.encode(said))
                self._decide()
                self._commits = self._files.commits()
            except BaseException:
                self._files.remove(self._id)
                self._own.close()
                raise
        try:
            log.watch(self._files.members)
            log.watch(self._files.units)
            self._look()
        except BaseException:
            # Nobody gets this member; it would be one for as long as somebody has the error.
            self._files.remove(self._id)
            self._end("it has not joined")
            raise

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
            left_by = {unit: self._left_by.pop(unit) for unit in gained & self._left_by.keys()}
            return Ownership(frozenset(self._held), gained, self._revoking_told, left_by)

    def changed(self) -> bool:
        """Look now, and say whether `poll` has something to tell."""
        if os.getpid() != self._pid:
            return False
        with self._lock:
            if self._over == "left":
                return False
            if self._over is not None or not self._own.intact():
                return True  # `poll` says how it ended
            self._look()
            return bool(self._gained or self._revoking() - self._revoking_told)

    def update(self, units: Mapping[str, int]) -> None:
        self._refuse_child()
        with self._lock:
            self.check()
            if self._said.units != dict(units):
                self._said = msgspec.structs.replace(self._said, units=dict(units))
                self._unsaid = True
                self._look()

    def release(self, units: Iterable[Unit]) -> None:
        with self._lock:
            for unit in units:
                if unit in self._held:
                    self._held.pop(unit).close()
                    self._gained.discard(unit)
        self._log.notify()

    @contextmanager
    def holding(self, units: Iterable[Unit]) -> Iterator[None]:
        self._refuse_child()
        with self._lock:
            self.check()
            self._files.share(self._commits)
            try:
                self.check()  # once more: a reset may have come and gone
                for unit in units:
                    self._check_unit(unit)
                yield
            finally:
                self._commits.unlock()

    def leave(self) -> None:
        if os.getpid() != self._pid:
            return  # it is the parent's to leave
        with self._lock:
            if self._over == "left":
                return
            fenced, self._over = self._over is not None, "left"
            self._drop_locks()
            self._forget(self)
            try:
                if fenced or not self._own.intact():
                    return
                with self._files.coordinator_if_free(_LEAVE_SECONDS) as ours:
                    if self._said.instance_id is None:
                        self._files.remove(self._id)
                    else:
                        self._say(away_since=max(1, self._clock.now()))
                    self._own.close()
                    if ours:
                        self._decide()
            finally:
                self._own.close()
                self._commits.close()
        self._log.notify()

    def check(self) -> None:
        """Raises Fenced unless this member is still the one it was."""
        self._refuse_child()
        with self._lock:
            if self._over is None and not self._own.intact():
                self._end(
                    "its lock file was removed, as a forced reset does; to join again, open a new"
                    " consumer"
                )
            if self._over is None:
                return
            who = f"member {self._id} of group {self.group!r} is fenced: "
            if self._over == "left":
                raise Fenced(f"{who}it has left the group")
            heir = self._heir()
            if heir is not None:
                instance_id = self._said.instance_id
                raise FencedInstanceId(
                    f"{who}{heir.name} has taken over its instance id {instance_id!r}; two members "
                    "that live at once need two ids"
                )
            raise Fenced(who + self._over)

    def _heir(self) -> MemberFile | None:
        """Who has taken over this member's instance id; None: nobody, or it has none."""
        if self._said.instance_id is None:
            return None
        # With the lock, as one that is joining has removed our file, and makes its own next.
        with self._files.coordinator_if_free(_LEAVE_SECONDS):
            return self._files.instance(self._said.instance_id)

    def _check_unit(self, unit: Unit) -> None:
        file = self._held.get(unit)
        if file is None:
            raise Fenced(
                f"member {self._id} of group {self.group!r} does not own {unit} "
                f"(generation {self._generation}): what it did there is not committed, and whoever "
                "owns it does it again"
            )
        if not file.intact():
            self._end(
                f"the lock file of its unit {unit} was removed; to join again, open a new consumer"
            )
            self.check()

    @property
    def _pid(self) -> int:
        return self._said.pid

    def _refuse_child(self) -> None:
        """In a forked child. Without the lock, which may be held by a thread it does not have."""
        if os.getpid() != self._pid:
            raise Fenced(
                f"member {self._id} of group {self.group!r} belongs to the parent process; "
                "open a new consumer in the child"
            )

    def _revoking(self) -> frozenset[Unit]:
        return frozenset(unit for unit in self._held if unit not in self._target)

    def _end(self, why: str) -> None:
        self._over = why
        self._drop_locks()
        self._own.close()
        self._commits.close()

    def _drop_locks(self) -> None:
        for files in (self._held, self._wanted, self._peers):
            for file in files.values():
                file.close()
            files.clear()
        self._gained.clear()

    def _look(self) -> None:
        """See who is there, make a generation if that is due, and take what can be taken."""
        self._looked_at = self._clock.monotonic()
        if self._unsaid or self._somebody_came_or_went():
            with self._files.coordinator_if_free() as ours:
                if ours:
                    if self._unsaid:
                        self._say()
                    self._decide()
        metadata = self._offsets.metadata(self.group)
        if metadata is not None and metadata.generation != self._generation:
            self._follow(metadata)
        self._take()

    def _somebody_came_or_went(self) -> bool:
        if self._files.member_ids() != self._peers.keys() | {self._id}:
            return True
        now = self._clock.now()
        return any(
            file.free() and not self._files.waits(self._away.get(peer), now)
            for peer, file in self._peers.items()
        )

    def _say(self, *, away_since: int = 0) -> None:
        self._said = msgspec.structs.replace(self._said, away_since=away_since)
        self._own.write(msgspec.json.encode(self._said))
        self._unsaid = False

    def _decide(self) -> None:
        self._away = decide(self._files, self._offsets, self._clock.now(), self._id)

    def _follow(self, metadata: GroupMetadata) -> None:
        self._generation = metadata.generation
        by_id = {member.member_id: member for member in metadata.members}
        mine = by_id.pop(self._id, None)
        self._target = schema.decode_assignment(mine.assignment) if mine else frozenset()
        names = {}
        for gone in self._peers.keys() - by_id.keys():
            with self._peers.pop(gone) as file, suppress(msgspec.DecodeError, StreamkitError):
                names[gone] = msgspec.json.decode(file.read(), type=MemberFile).name
        self._left_by |= {
            unit: names[owner] for unit, owner in self._owners.items() if owner in names
        }
        self._left_by = {u: name for u, name in self._left_by.items() if u in self._target}
        self._owners = {
            unit: peer
            for peer, member in by_id.items()
            for unit in schema.decode_assignment(member.assignment)
        }
        for come in by_id.keys() - self._peers.keys():
            with suppress(FileNotFoundError):  # gone again: the next look finds the list changed
                self._peers[come] = LockFile(self._files.members / come, create=False)

    def _take(self) -> None:
        for unit in self._wanted.keys() - self._target:
            self._wanted.pop(unit).close()
        for unit in sorted(self._target - self._held.keys()):
            file = self._wanted.get(unit)
            if file is None:
                # Kept open while waiting: closing it would wake every member of the group.
                file = self._wanted[unit] = self._files.unit(unit)
            if not file.try_lock():
                continue
            del self._wanted[unit]
            if file.intact():
                self._held[unit] = file
                self._gained.add(unit)
            else:
                file.close()  # the file was removed: the next look opens the one that is there
