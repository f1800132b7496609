"""A store of which what one call did can be undone."""

from collections.abc import Iterator
from typing import Any

from streamkit.engine.state.store import Remembered, Store


class Undoable:
    """Gives a function its store, and remembers how each key was that it looks at.

    `broken`: it is not the function's fault that it failed, but the store's.
    """

    __slots__ = ("_put", "_store", "_was", "broken")

    def __init__(self, store: Store) -> None:
        self.broken = False
        self._store = store
        self._was: dict[bytes, Remembered] = {}
        self._put: set[bytes] = set()

    def begin(self) -> None:
        """What is done from now on may be undone."""
        self._was.clear()
        self._put.clear()

    def undo(self) -> None:
        """Have everything as it was at `begin`."""
        for key, was in self._was.items():
            self._store.put_back(key, was)
        self.begin()

    def check(self) -> None:
        """Raises SerdeError when a value was kept since `begin` that is not of the store's type."""
        if self._put:
            self._store.check(self._put)

    # As the store.

    def get(self, key: bytes) -> Any:
        self._remember(key)
        return self._store.get(key)

    def put(self, key: bytes, value: Any, stamp: int) -> None:
        self._remember(key)
        self._put.add(key)
        self._store.put(key, value, stamp)

    def delete(self, key: bytes, stamp: int) -> None:
        self._remember(key)
        self._store.delete(key, stamp)

    def scan(self, low: bytes, high: bytes | None = None) -> Iterator[tuple[bytes, Any]]:
        for key, value in self._store.scan(low, high):
            self._remember(key)
            yield key, value

    def _remember(self, key: bytes) -> None:
        if key not in self._was:
            try:
                self._was[key] = self._store.remember(key)
            except Exception:
                self.broken = True
                raise
