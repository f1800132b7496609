"""Tables: the latest record per key of a topic. Streams are joined with them."""

from typing import Generic, TypeVar

from streamkit.dsl.nodes.sources import TableSource

T = TypeVar("T")


class Table(Generic[T]):
    """A table whose partition `p` is held by task `p`: it is joined by key.

    Its row is the record with the largest offset of its key, because that is the one compaction
    keeps; a null value deletes the row. It is read to its end before the first event.
    """

    def __init__(self, node: TableSource) -> None:
        self.node = node

    @property
    def name(self) -> str:
        return self.node.topic


class GlobalTable(Generic[T]):
    """A table that every task holds whole: it is joined by anything, and should be small."""

    def __init__(self, node: TableSource) -> None:
        self.node = node

    @property
    def name(self) -> str:
        return self.node.topic
