"""What a window operator is given and gives: its keys, its late events, its results."""

from collections.abc import Iterator
from typing import Any

from streamkit.dsl.nodes.node import Node
from streamkit.dsl.nodes.outputs import To
from streamkit.dsl.nodes.windows import WindowFold
from streamkit.dsl.retractions import PASSED
from streamkit.engine.headers import window_identity
from streamkit.engine.roots import made
from streamkit.engine.site import Site
from streamkit.errors import SerdeError
from streamkit.serde import Serde


class Results:
    """Gives on the results of one node's windows, each with what tells it from all others.

    That is store, key and start of its window; its end, and how many events are in it, say which
    of several results of one window is later.
    """

    __slots__ = ("_cursor", "_drawn", "_forward", "_key", "_name", "_outlets", "_result")

    def __init__(self, node: WindowFold, key: Serde, site: Site) -> None:
        self._name = node.name
        self._cursor = site.cursor
        self._drawn = node in site.drawn
        self._key = key
        self._result = node.fold.result
        self._forward = site.after(node, key)
        self._outlets = [site.outlet(to.topic) for to in _written(node, site)]

    def give(self, key: Any, state: Any, start: int, end: int, count: int) -> None:
        """The value of a window's state."""
        value = state if self._result is None else self._result(state)
        identity = window_identity(self._name, start, end, count)
        if not self._drawn:
            self._forward(key, value, end - 1, identity)
            return
        cursor = self._cursor
        root = cursor.root
        cursor.root = made(self._name, self._key.encode(key), start, end, count)
        self._forward(key, value, end - 1, identity)
        cursor.root = root

    def give_encoded(self, data: bytes, state: Any, start: int, end: int, count: int) -> None:
        """The same, of a key as the store has it."""
        self.give(self._key.decode(data), state, start, end, count)

    def retract(self, data: bytes, start: int, end: int, count: int) -> None:
        """There is no such window any more: a null value takes the place of what was given of it.

        It goes to where results are written, past the functions before, which are made for values.
        """
        identity = window_identity(self._name, start, end, count)
        for outlet in self._outlets:
            outlet.add(data, None, end - 1, identity)


def _written(node: Node, site: Site) -> Iterator[To]:
    """Where a node's results are written under their own key, perhaps as something else."""
    for after in site.following(node):
        if isinstance(after, To) and after.rekey is None:
            yield after
        elif isinstance(after, PASSED):
            yield from _written(after, site)


class Keys:
    """Encodes the keys of events, and says what is wrong with one."""

    __slots__ = ("_cursor", "_name", "_serde")

    def __init__(self, node: WindowFold, serde: Serde, site: Site) -> None:
        self._name = node.name
        self._serde = serde
        self._cursor = site.cursor

    def encode(self, key: Any, stamp: int) -> bytes:
        """Raises SerdeError, and DataError for an event without a key or a time."""
        if stamp < 0:
            raise self._cursor.timeless(f"the window of {self._name}")
        try:
            data = self._serde.encode(key)
        except SerdeError as error:
            raise self._cursor.unwritable(f"key for {self._name}", error) from error
        if data is None:
            raise self._cursor.keyless(f"the window of {self._name}")
        return data
