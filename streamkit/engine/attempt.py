"""What a task makes of the record at hand: all of it counts, or, when the record fails, nothing."""

from collections.abc import Collection

from streamkit.engine.cursor import Cursor
from streamkit.engine.outlets import Outlets
from streamkit.engine.site import Kept
from streamkit.records import TopicPartition


class Attempt:
    """At one record after the other; one per task.

    What was made of a failed record is forgotten. What it was given of the state may have been
    changed in place, and cannot be.
    """

    __slots__ = ("_cursor", "_outlets", "failed", "stores", "torn", "waits")

    def __init__(self, cursor: Cursor, outlets: Outlets) -> None:
        self.stores: Collection[Kept] = ()
        """Those that a record may be given something of."""
        self.torn = False
        """An error left a record half done in the state."""
        self.failed: tuple[TopicPartition, int] | None = None
        """The record that could not be processed, by its partition and offset."""
        self.waits = False
        """What failed was made of an event that waits in a step's state."""
        self._cursor = cursor
        self._outlets = outlets

    def enter(self, topic: str, partition: int) -> None:
        """Go to another input, of which nothing is made yet."""
        self._cursor.enter(topic, partition)
        self._outlets.begin()
        for store in self.stores:
            store.touched = -2

    def take_back(self) -> None:
        """Forget what was made of the record at hand, which failed."""
        self._outlets.take_back()
        touched = {store.touched for store in self.stores}
        self.torn |= self._cursor.offset in touched
