"""Commit what the tasks of a process have done: one transaction over all of it."""

from collections.abc import Iterable

from streamkit.backends.base import Membership
from streamkit.backends.values import CommittedOffset, Unit
from streamkit.engine.outputs import Outputs
from streamkit.engine.place import Place
from streamkit.engine.running import Running
from streamkit.records import TopicPartition


def commit(
    running: Iterable[Running],
    place: Place,
    outputs: Outputs,
    member: Membership,
    units: Iterable[Unit] | None = None,
) -> None:
    """Commit what tasks have done since the last time, all of it or nothing.

    Results, changes of state, and how far inputs were read. `units`: what the member must own for
    that; None: those of the tasks. After an error the tasks have to be dropped, as they have given
    their changes, and the outputs too. Raises Fenced, ProducerFenced, UnknownTopic, and what
    appends raise.
    """
    place.refuse_successors()
    running = list(running)
    given = outputs.prepare(at for one in running for at in one.changing)
    offsets: dict[TopicPartition, CommittedOffset] = {}
    owned: list[Unit] = []
    inputs: list[TopicPartition] = []
    for one in running:
        changed = one.checkpoint()
        if changed:
            offsets |= changed
            owned.append(one.unit)
            inputs += changed.keys() - one.changelogs
    if not offsets and not outputs.transaction.begun:
        return
    # A position must not survive a power cut that the records before it do not.
    owned = owned if units is None else list(units)
    outputs.transaction.commit(offsets, member, owned, after=(*inputs, *given))
    for one in running:
        one.committed()
