"""A group's files, which say by their locks who lives and who works on what.

    <group>/coordinator        held while somebody decides about the group: its pid is inside
    <group>/commits            shared by whoever commits; taken whole by a forced reset
    <group>/members/<id>       held by the member as long as it lives; JSON inside
    <group>/units/<name>-<n>   held by the unit's owner: nobody works on a unit without it

all of them in `__consumer_offsets-0/groups`.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from streamkit.backends.lockfile import LockFile, named
from streamkit.backends.values import Unit
from streamkit.errors import OutOfSpace, UsageError
from streamkit.groups.generation import Joined
from streamkit.log.waits import process

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.002
_PATIENCE_SECONDS = 1.0
"""Who waits for the coordinator's lock longer than this says who holds it, and again every
`_AGAIN_SECONDS`: it is held for some milliseconds at a time."""
_AGAIN_SECONDS = 30.0

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


class MemberFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a member says of itself.

    `units`: how many it knows of each name it subscribes to. `boot`: the machine's when it joined.
    `session_timeout` in seconds. `away_since`: when somebody saw that a static member had gone,
    in ms since 1970 UTC; 0 as long as nobody has.
    """

    client_id: str
    host: str
    pid: int
    units: dict[str, int]
    boot: str
    instance_id: str | None = None
    session_timeout: float = 0.0
    away_since: int = 0

    @property
    def name(self) -> str:
        """How an error names it."""
        return f"{self.client_id} ({process(self.pid)})"

    def joined(self) -> Joined:
        return Joined(self.client_id, self.host, self.units, self.instance_id, self.session_timeout)

    def kept_until(self) -> int:
        """When the units of one that is away are given to others, in ms."""
        return self.away_since + round(self.session_timeout * 1000)

    def waits(self, now: int, boot: str) -> bool:
        """Whether it is away and its units are still kept for it.

        Not from before another boot, nor from a time to come: then the clock was set back, and
        how long it has been away cannot be known.
        """
        return (
            self.instance_id is not None
            and self.boot == boot
            and (self.away_since == 0 or self.away_since <= now < self.kept_until())
        )


class _Patience:
    """Waiting that says, after a while, who it is that others wait for."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._began = time.monotonic()
        self._say_at = self._began + _PATIENCE_SECONDS

    def wait(self, holder: Callable[[], int], path: Path) -> None:
        now = time.monotonic()
        if now >= self._say_at:
            self._say_at = now + _AGAIN_SECONDS
            _log.warning(
                "group %s: waiting for %s, which holds %s since at least %.0f s",
                self._group,
                process(holder()),
                path,
                now - self._began,
            )
        time.sleep(_LOOK_SECONDS)


class GroupFiles:
    """The files of one group. Makes nothing unless somebody joins or decides."""

    def __init__(self, locks: Path, group: str, boot: str) -> None:
        self.group = group
        self.path = locks / file_name(group)
        self.members = self.path / "members"
        self.units = self.path / "units"
        self._boot = boot

    @contextmanager
    def coordinator(self) -> Iterator[None]:
        """Be the only one to decide about this group, on this machine; wait for it, aloud.

        The topic that the files are in has to be made before.
        """
        patience = _Patience(self.group)
        while (file := self._take()) is None:
            patience.wait(self._holder, self.path / "coordinator")
        with file:
            yield

    @contextmanager
    def coordinator_if_free(self, patience: float = 0.0) -> Iterator[bool]:
        """As `coordinator`, but gives False instead of waiting longer than `patience` seconds."""
        until = time.monotonic() + patience
        while (file := self._take()) is None:
            if time.monotonic() >= until:
                yield False
                return
            time.sleep(_LOOK_SECONDS)
        with file:
            yield True

    def _take(self) -> LockFile | None:
        while True:
            with named(self.path, "made"):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileExistsError):  # not exist_ok, which minds that it is going again
                    self.path.mkdir()
            try:
                file = LockFile(self.path / "coordinator")
            except FileNotFoundError:
                continue  # the group is being deleted: its directory is made anew
            try:
                if not file.try_lock():
                    file.close()
                    return None
                if file.intact():
                    with suppress(OutOfSpace):  # who holds it can be told only if there is room
                        file.write(b"%d\n" % os.getpid())
                    with named(self.path, "filled"):
                        self.members.mkdir(exist_ok=True)
                        self.units.mkdir(exist_ok=True)
                    return file
            except BaseException:
                file.close()  # else it would be held for as long as somebody has the error
                raise
            file.close()  # of the group that was deleted just now

    def _holder(self) -> int:
        with suppress(OSError, ValueError):
            return int((self.path / "coordinator").read_bytes())
        return 0

    def commits(self) -> LockFile:
        return LockFile(self.path / "commits")

    def share(self, commits: LockFile) -> None:
        """Wait for the share of a commit, aloud: only a reset has it whole, for a moment."""
        patience = _Patience(self.group)
        while not commits.try_share():
            patience.wait(self._holder, commits.path)

    def unit(self, unit: Unit) -> LockFile:
        return LockFile(self.units / f"{file_name(unit.topic)}-{unit.partition}")

    def member_ids(self) -> set[str]:
        """Of the living and of those that are away, and perhaps of some that have just died."""
        try:
            return set(os.listdir(self.members))
        except FileNotFoundError:
            return set()

    def instance(self, instance_id: str) -> MemberFile | None:
        """Who lives under an instance id."""
        for said in self.living().values():
            if said.instance_id == instance_id:
                return said
        return None

    def waits(self, said: MemberFile | None, now: int) -> bool:
        return said is not None and said.waits(now, self._boot)

    def living(self) -> dict[str, MemberFile]:
        return {member_id: said for member_id, (said, alive) in self._read().items() if alive}

    def away(self, now: int) -> dict[str, MemberFile]:
        """Static members whose units are kept for them."""
        return {
            member_id: said
            for member_id, (said, alive) in self._read().items()
            if not alive and said.waits(now, self._boot)
        }

    def _read(self) -> dict[str, tuple[MemberFile, bool]]:
        found = {}
        for member_id in sorted(self.member_ids()):
            try:
                with LockFile(self.members / member_id, create=False) as file:
                    alive = not file.free()
                    found[member_id] = msgspec.json.decode(file.read(), type=MemberFile), alive
            except FileNotFoundError:
                continue  # left since the listing
            except msgspec.DecodeError:
                continue  # joining at this moment: seen so only without the coordinator's lock
        return found

    # Only under the coordinator's lock: nobody is joining.

    def settle(self, now: int) -> tuple[dict[str, MemberFile], dict[str, MemberFile]]:
        """The living and the static ones that are away; the files of all others are removed.

        The time of one that is away runs from when that is first seen here.
        """
        living, away = {}, {}
        for member_id, (said, alive) in self._read().items():
            if alive:
                living[member_id] = said
            elif said.waits(now, self._boot):
                away[member_id] = said if said.away_since else self.part(member_id, said, now)
        for member_id in self.member_ids() - living.keys() - away.keys():
            self.remove(member_id)
        return living, away

    def part(self, member_id: str, said: MemberFile, now: int) -> MemberFile:
        """Note that a static member is away."""
        said = msgspec.structs.replace(said, away_since=max(1, now))
        with LockFile(self.members / member_id) as file:
            if file.try_lock():  # else somebody looks whether it is free: noted at the next look
                file.write(msgspec.json.encode(said))
        return said

    def displace(self, instance_id: str) -> None:
        """Fence whoever has this instance id: a newer one has come."""
        for member_id, (said, _) in self._read().items():
            if said.instance_id == instance_id:
                self.remove(member_id)

    def remove(self, member_id: str) -> None:
        """Fence a member, or bury a dead one: it is what its file is."""
        (self.members / member_id).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove what a group without members leaves, unless a fenced one still holds a unit.

        Others may be waiting for the coordinator's lock: who gets that of a removed file sees it.
        """
        held = False
        with suppress(FileNotFoundError):
            for name in os.listdir(self.units):
                with LockFile(self.units / name) as file:
                    if file.try_lock():
                        file.path.unlink()
                    else:
                        held = True
        for member_id in self.member_ids():
            self.remove(member_id)
        if held:
            return
        self.members.rmdir()
        self.units.rmdir()
        (self.path / "commits").unlink(missing_ok=True)
        # Last: whoever makes it anew finds the others gone, and makes them anew as well.
        (self.path / "coordinator").unlink()
        with suppress(OSError):  # somebody has made it anew already
            self.path.rmdir()
