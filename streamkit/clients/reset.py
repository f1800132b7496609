"""Other offsets for a group: where each partition is to go on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from streamkit.backends.base import Backend
from streamkit.backends.values import CommittedOffset
from streamkit.clients.start import Point, place
from streamkit.errors import UsageError
from streamkit.records import TopicPartition


@dataclass(frozen=True, slots=True)
class At:
    """An offset, the same in every partition."""

    offset: int


@dataclass(frozen=True, slots=True)
class By:
    """So many offsets forwards, or (below 0) backwards, from what is committed."""

    offsets: int


Target: TypeAlias = Point | At | By


@dataclass(frozen=True, slots=True)
class MovedOffset:
    """A partition's committed offset before and after; None: there was none."""

    before: int | None
    after: int


def is_app_topic(
    group: str, topic: str, kinds: tuple[str, ...] = ("-changelog", "-repartition", "-retry")
) -> bool:
    """Whether a topic belongs to the app of this name alone, by how those are named."""
    own = topic.removeprefix(f"{group}-")
    # With what it is for in between: `<group>-retry` is somebody's input.
    return own != topic and own.endswith(kinds)


def plan_reset(
    backend: Backend,
    group: str,
    target: Target,
    partitions: Iterable[TopicPartition] | None,
    committed: Mapping[TopicPartition, CommittedOffset],
) -> dict[TopicPartition, CommittedOffset]:
    """What to commit for these partitions, never outside of what can be read.

    `partitions` None: all that are committed, but for those that an app writes and reads itself:
    they are read once, and its state goes with them. Raises UsageError when there are none.
    """
    if partitions is None:
        partitions = [at for at in sorted(committed) if not is_app_topic(group, at.topic)]
        if not partitions:
            raise UsageError(f"group {group!r} has committed nothing; name topics to reset")
    chosen = {}
    for at in partitions:
        was = committed.get(at)
        match target:
            case At(offset):
                to = offset
            case By(offsets):
                if was is None:
                    raise UsageError(f"group {group!r} has committed nothing of {at} to shift from")
                to = was.offset + offsets
            case start:
                to = place(backend, at, start)
        end = backend.end(at)
        to = min(max(to, backend.offsets(at).start), end)
        # What an app noted beside its position (how far time has come) stays true forwards.
        note = was.metadata if was is not None and to >= was.offset else ""
        chosen[at] = CommittedOffset(to, note)
    return chosen
