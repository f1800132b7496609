"""The rows of global tables, once per process: its tasks look them up in the same store."""

from collections.abc import Mapping

from streamkit.engine.state.beside import Beside
from streamkit.engine.state.table import TableStore
from streamkit.engine.state.versions import VersionRows, begins_at
from streamkit.records import TopicPartition


class SharedRows:
    """Each store is followed by the task that is furthest ahead, and closed with the process."""

    def __init__(self, beside: Beside) -> None:
        self._beside = beside
        self._stores: dict[tuple[str, str], list[TableStore]] = {}

    def of(
        self,
        new: TableStore,
        journal: TopicPartition,
        ends: Mapping[TopicPartition, int],
        since: int | None,
    ) -> TableStore:
        """The store to use in place of a new one, which is used when there is none.

        `since`: which versions are needed (None: all). Where others have dropped some of those,
        as their tasks are further on, there will be two.
        """
        known = self._stores.setdefault((new.topic, new.layout), [])
        for store in known:
            if not isinstance(store, VersionRows) or store.reaches(since):
                return store
        self._beside.attach_table(new, journal, ends, fits=begins_at(since), shared=True)
        known.append(new)
        return new

    def tidy(self) -> None:
        """Between two steps: leave on disk what is due there, and make room."""
        for stores in self._stores.values():
            for store in stores:
                store.flush_if_due()

    def close(self) -> None:
        """Let go of all. No task uses them any more."""
        for stores in self._stores.values():
            for store in stores:
                store.close()
        self._stores.clear()
