"""An event and a table's row for it."""

from collections.abc import Callable, Sequence
from typing import Any

from streamkit.dsl.nodes.joins import Join
from streamkit.dsl.nodes.tables import name_of
from streamkit.engine.hot.moment import NEVER
from streamkit.engine.hot.steps import Forward, Lookup
from streamkit.engine.operators.failing import Failing
from streamkit.engine.operators.results import gathered, giver
from streamkit.engine.site import Site
from streamkit.engine.tables import TableRows
from streamkit.errors import SerdeError
from streamkit.records import Headers
from streamkit.serde import Serde


def build(node: Join, key: Serde, site: Site) -> Forward:
    cursor, function, on = site.cursor, node.function, node.on
    encode, inner = node.table.key.encode, node.how == "inner"
    rows = site.rows(node.table, then=node.history is not None)
    now = None if node.history is not None else rows.get
    as_of = None if node.history is None else _as_of(node, node.history, rows, site)
    plain, call = site.calls.plain(function), site.calls.joined(function, key)
    forward, many = site.after(node, key), function.many
    look = None if on is None else site.calls.event(on, key)
    give = giver(function, forward, cursor)

    def sought(key: Any, value: Any, stamp: int, headers: Headers) -> bytes | None:
        """The key to look up, where it is not the event's, or cannot be encoded."""
        if look is not None:
            try:
                key = look(key, value, stamp, headers)
            except Exception as error:
                assert on is not None
                cursor.fail(on, key, error)
        try:
            return encode(key)
        except SerdeError as error:
            what = f"key to look up in {name_of(node.table)}"
            raise cursor.unwritable(what, error) from error

    failing = Failing.of(node, key, site)
    if failing is not None:
        careful, gather = failing.calls.joined(function, key), gathered(function)

        def attempt(key: Any, value: Any, stamp: int, headers: Headers) -> Sequence[Any]:
            row = None
            data = sought(key, value, stamp, headers)
            if data is not None:
                row = now(data) if as_of is None else as_of(data, stamp)  # type: ignore[misc]
            if row is None and inner:
                return ()
            return gather(careful(key, value, row, stamp, headers))

        return failing.step(attempt, forward)

    write_key = node.table.key.write

    def join(key: Any, value: Any, stamp: int, headers: Headers) -> None:
        if look is None:
            try:
                data = write_key(key)
            except Exception:
                data = sought(key, value, stamp, headers)
        else:
            data = sought(key, value, stamp, headers)
        if data is None:
            row = None
        elif now is not None:
            row = now(data)
        else:
            assert as_of is not None
            row = as_of(data, stamp)
        if row is None and inner:
            return
        try:
            result = call(key, value, row, stamp, headers) if plain is None else plain(value, row)
        except Exception as error:
            cursor.fail(function, key, error)
        if many is not False:
            give(key, result, stamp, headers)
        elif result is not None:
            forward(key, result, stamp, headers)

    if plain is not None and look is None and now is not None and many is False:
        return Lookup(function, cursor, forward, rows.at_hand, now, write_key, join, inner).give
    return join


def _as_of(node: Join, history: int, rows: TableRows, site: Site) -> Callable[[bytes, int], Any]:
    """To be called with a key and an event's time: the row that was there then."""
    time, cursor = site.time(node), site.cursor
    rows.keep(lambda: min(time.watermark, site.passed()) - history)

    def look_back(key: bytes, stamp: int) -> Any:
        if stamp < 0:
            raise cursor.timeless(f"the join of {node.name} with its table's history")
        # Of what was before nothing may be left: that must not depend on what is.
        frontier = cursor.frontier
        if frontier is not None and frontier != NEVER:
            stamp = max(stamp, frontier - time.delay - history)
        return rows.as_of(key, max(stamp, time.watermark - history))

    return look_back
