"""One limit of memory for all the stores of a process."""

from streamkit.engine.state.cache import Cache

_GOAL = 0.9
"""Of the limit: what is gone down to once it is passed, so that it is not passed at once again."""


class Budget:
    """Counts what stores take, about, and has the largest ones make room beyond the limit.

    What it counts is an estimate, of stores alone: leave room for the rest of the process. A store
    without a backing cannot make room. Used by one thread, between batches.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """In bytes."""
        self._sizes: dict[Cache, int] = {}
        self._used = 0

    @property
    def used(self) -> int:
        """Bytes in use, as far as was told."""
        return self._used

    @property
    def over(self) -> bool:
        """Whether more is used than the limit, since nothing more can go: commit, and it may."""
        return self._used > self.limit

    def tell(self, store: Cache) -> None:
        """Look at a store again, and have stores make room if all take too much."""
        self._look(store)
        if self._used > self.limit:
            self._relieve()

    def forget(self, store: Cache) -> None:
        """The store is closed."""
        self._used -= self._sizes.pop(store, 0)

    def _look(self, store: Cache) -> None:
        size = store.size
        self._used += size - self._sizes.get(store, 0)
        self._sizes[store] = size

    def _relieve(self) -> None:
        for store in list(self._sizes):
            self._look(store)
        # Half of the largest, then half of what is the largest then: what is used least in many
        # small stores is not looked for before the large ones are as small as they.
        able = set(self._sizes)
        while self._used > self.limit * _GOAL and able:
            largest = max(able, key=self._sizes.__getitem__)
            if not largest.make_room():
                able.discard(largest)
            self._look(largest)
