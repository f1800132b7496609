"""Where the stores of a process leave what memory does not hold: beside their changelogs."""

from collections.abc import Callable

from streamkit.backends.base import Backend
from streamkit.clock import Clock
from streamkit.engine.state.budget import Budget
from streamkit.engine.state.disk import open_disk
from streamkit.engine.state.store import Store
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
            topic_id = self._backend.topic(changelog.topic).topic_id
            identity = f"{topic_id} {changelog.partition} {store.layout}"
            disk = open_disk(folder, identity, start, end, self._clock, self._note)
        store.attach(disk, self._budget)
