"""Where the stores of a process leave what memory does not hold: beside their changelogs."""

from collections.abc import Callable, Mapping

from streamkit.backends.base import Backend
from streamkit.backends.values import TopicInfo
from streamkit.clients.topic_config import delete_retention, is_compacted
from streamkit.clock import Clock
from streamkit.engine.state.budget import Budget
from streamkit.engine.state.disk import SHELF_LIFE, open_disk
from streamkit.engine.state.store import Store
from streamkit.engine.state.table import TableStore, read_mark
from streamkit.records import TopicPartition


class Beside:
    """Gives stores a disk, where the log has room for one, and a share of one budget."""

    def __init__(
        self, backend: Backend, budget: Budget, clock: Clock, on_note: Callable[[str], None]
    ) -> None:
        self._backend = backend
        self._budget = budget
        self._clock = clock
        self._note = on_note

    def attach(self, store: Store, changelog: TopicPartition, start: int, end: int) -> None:
        """Let a store begin with what is beside its changelog, of which [start, end) counts.

        Afterwards it needs the changelog from `store.position` on. Raises SerdeError when what is
        there is not of the store's type.
        """
        folder = self._backend.state_directory(changelog)
        disk = None
        if folder is not None:
            topic = self._backend.topic(changelog.topic)
            disk = open_disk(
                folder,
                f"{topic.topic_id} {changelog.partition} {store.layout}",
                start,
                end,
                self._clock,
                self._note,
                shelf_life=_shelf_life(topic),
            )
        store.attach(disk, self._budget)

    def attach_table(
        self,
        store: TableStore,
        journal: TopicPartition,
        ends: Mapping[TopicPartition, int],
        *,
        fits: Callable[[bytes], bool] = lambda note: True,
        shared: bool = False,
    ) -> None:
        """Let a store of rows begin with what is beside its task's journal.

        `ends`: the partitions of its topic, and up to where they may have been read. It needs them
        from `store.positions` on. `fits` is asked about the note that comes with the rows.
        `shared`: other processes have such a store too.
        """
        folder = self._backend.state_directory(journal)
        disk = None
        if folder is not None:
            starts = {at.partition: self._backend.offsets(at).start for at in ends}

            def whole(note: bytes) -> bool:
                read = read_mark(note or b"{}").positions
                return fits(note) and all(
                    at.partition not in read or starts[at.partition] <= read[at.partition] <= end
                    for at, end in ends.items()
                )

            topic = self._backend.topic(store.topic)
            # Where the tombstones go that were not read yet, what follows counts as missed.
            follows = is_compacted(topic.config)
            log_ends = map(self._backend.end, ends) if follows else ends.values()
            which = "all" if shared else journal.partition
            disk = open_disk(
                folder / store.layout / store.topic,
                f"{topic.topic_id} {which} {store.layout}",
                0,
                sum(ends.values()),
                self._clock,
                self._note,
                log_end=sum(log_ends),
                shelf_life=_shelf_life(topic),
                torn=store.may_repeat,
                fits=whole,
                shared=shared,
            )
        store.attach(disk, self._budget)


def _shelf_life(topic: TopicInfo) -> int:
    """Half of the time that tombstones stay: the rest is for reading what is missed."""
    return min(SHELF_LIFE, delete_retention(topic.config) // 2)
