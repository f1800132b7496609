"""Compile a tree of nodes to nested functions, so that an event costs a few calls and no lookup."""

from collections.abc import Callable, Iterable
from typing import Any

from streamkit.dsl.nodes import (
    Aggregate,
    By,
    Filter,
    FlatMap,
    Join,
    Map,
    Node,
    Process,
    Repartition,
    To,
)
from streamkit.engine.calls import Calls
from streamkit.engine.cursor import Cursor
from streamkit.engine.outlets import Forward, Outlet, repartitioner, writer
from streamkit.engine.stores import TableRows
from streamkit.engine.windows import WindowStore
from streamkit.errors import SerdeError
from streamkit.records import Headers
from streamkit.serde import Serde


class Steps:
    """The nodes of a sub-topology as functions that give each event to the next ones."""

    def __init__(
        self,
        children: Callable[[Node], Iterable[Node]],
        calls: Calls,
        cursor: Cursor,
        outlet: Callable[[str], Outlet],
        tables: dict[str, TableRows],
        windows: dict[Aggregate, WindowStore],
    ) -> None:
        self._children = children
        self._calls = calls
        self._cursor = cursor
        self._outlet = outlet
        self._tables = tables
        self._windows = windows

    def after(self, node: Node, key: Serde) -> Forward:
        """What happens to the events that a node gives, under keys of serde `key`."""
        steps = tuple(self._step(child, key) for child in self._children(node))
        if len(steps) == 1:
            return steps[0]

        def forward(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            for step in steps:
                step(key, value, stamp, headers)

        return forward

    def _step(self, node: Node, key: Serde) -> Forward:
        match node:
            case Process():
                call = self._calls.event(node.function, key)
                return self._results(node, call, self.after(node, key))
            case Map():
                return self._map(node, key)
            case FlatMap():
                return self._flat_map(node, key)
            case Filter():
                return self._filter(node, key)
            case By():
                return self._by(node, key)
            case Join():
                return self._join(node, key)
            case Aggregate():
                store = self._windows[node]
                store.forward = self.after(node, key)
                call_fold = self._calls.folding(node.function, key, node.window.size)
                return store.step(call_fold, self._calls.plain(node.function, key))
            case To():
                return self._to(node)
            case Repartition():
                outlet = self._outlet(node.topic)
                return repartitioner(outlet, node.key, node.value, self._cursor)
            case _:
                raise AssertionError(f"a source inside a tree: {node}")

    def _results(
        self,
        node: Process,
        call: Callable[[Any, Any, int, Headers], Any],
        forward: Forward,
    ) -> Forward:
        cursor, function = self._cursor, node.function
        plain = self._calls.plain(function, node.value)

        def one(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            try:
                result = plain(value)  # type: ignore[misc]  # chosen below only when there is one
            except Exception as error:
                cursor.fail(function, key, error)
            if result is not None:
                forward(key, result, stamp, headers)

        def any_kind(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            try:
                result = call(key, value, stamp, headers)
            except Exception as error:
                cursor.fail(function, key, error)
            give(key, result, stamp, headers)

        give = self._giver(function, forward)
        return one if plain is not None and function.many is False else any_kind

    def _giver(self, function: Any, forward: Forward) -> Forward:
        """Gives on what a function returned: nothing for None, the items of an iterator."""
        cursor, many = self._cursor, function.many

        def give(key: Any, result: Any, stamp: int, headers: Headers) -> None:
            if result is None:
                return
            if many is False or (many is None and not hasattr(result, "__next__")):
                forward(key, result, stamp, headers)
                return
            try:
                # A generator runs between the items, so that it may raise after some.
                for item in result:
                    if item is not None:
                        forward(key, item, stamp, headers)
            except Exception as error:
                cursor.fail(function, key, error)

        return give

    def _map(self, node: Map, key: Serde) -> Forward:
        cursor, function, forward = self._cursor, node.function, self.after(node, key)
        call = self._calls.event(function, key)

        def map_(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            try:
                result = call(key, value, stamp, headers)
            except Exception as error:
                cursor.fail(function, key, error)
            forward(key, result, stamp, headers)

        plain = self._calls.plain(function, key)
        if plain is None:
            return map_

        def map_plain(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            try:
                result = plain(value)
            except Exception as error:
                cursor.fail(function, key, error)
            forward(key, result, stamp, headers)

        return map_plain

    def _flat_map(self, node: FlatMap, key: Serde) -> Forward:
        cursor, function, forward = self._cursor, node.function, self.after(node, key)
        call = self._calls.event(function, key)

        def flat_map(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            try:
                for item in call(key, value, stamp, headers):
                    forward(key, item, stamp, headers)
            except Exception as error:
                cursor.fail(function, key, error)

        return flat_map

    def _filter(self, node: Filter, key: Serde) -> Forward:
        cursor, function, forward = self._cursor, node.function, self.after(node, key)
        call = self._calls.event(function, key)

        def filter_(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            try:
                keep = bool(call(key, value, stamp, headers))
            except Exception as error:
                cursor.fail(function, key, error)
            if keep:
                forward(key, value, stamp, headers)

        plain = self._calls.plain(function, key)
        if plain is None:
            return filter_

        def filter_plain(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            try:
                keep = bool(plain(value))
            except Exception as error:
                cursor.fail(function, key, error)
            if keep:
                forward(key, value, stamp, headers)

        return filter_plain

    def _by(self, node: By, key: Serde) -> Forward:
        cursor, function, forward = self._cursor, node.function, self.after(node, node.key)
        call = self._calls.event(function, key)

        def by(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            try:
                new = call(key, value, stamp, headers)
            except Exception as error:
                cursor.fail(function, key, error)
            forward(new, value, stamp, headers)

        return by

    def _join(self, node: Join, key: Serde) -> Forward:
        cursor, function, on = self._cursor, node.function, node.on
        table = self._tables[node.table.topic]
        rows, encode, inner = table.rows, table.encode_key, node.how == "inner"
        call = self._calls.joined(function, key)
        look = None if on is None else self._calls.event(on, key)
        give = self._giver(function, self.after(node, key))

        def join(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            sought = key
            if look is not None:
                try:
                    sought = look(key, value, stamp, headers)
                except Exception as error:
                    assert on is not None
                    cursor.fail(on, key, error)
            try:
                data = encode(sought)
            except SerdeError as error:
                what = f"key to look up in {node.table.topic}"
                raise cursor.unwritable(what, error) from error
            row = None if data is None else rows.get(data)
            if row is None and inner:
                return
            try:
                result = call(key, value, row, stamp, headers)
            except Exception as error:
                cursor.fail(function, key, error)
            give(key, result, stamp, headers)

        return join

    def _to(self, node: To) -> Forward:
        cursor, write = (
            self._cursor,
            writer(self._outlet(node.topic), node.key, node.value, self._cursor),
        )
        rekey = node.rekey
        if rekey is None:
            return write
        call = self._calls.event(rekey, node.key)

        def write_rekeyed(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            try:
                new = call(key, value, stamp, headers)
            except Exception as error:
                cursor.fail(rekey, key, error)
            write(new, value, stamp, headers)

        return write_rekeyed
