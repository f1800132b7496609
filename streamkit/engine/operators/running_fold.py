"""Fold all events of one key into a value, and give it after each.

A row is the key → (events, state).
"""

from collections.abc import Sequence
from typing import Any

from streamkit.dsl.nodes.folds import RunningFold
from streamkit.dsl.state import Cells
from streamkit.engine.hot.folds import Running
from streamkit.engine.hot.steps import Forward
from streamkit.engine.operators.failing import Failing
from streamkit.engine.site import Site
from streamkit.errors import SerdeError
from streamkit.records import Headers
from streamkit.serde import Serde


def build(node: RunningFold, key: Serde, site: Site) -> Forward:
    cursor, function, result = site.cursor, node.function, node.fold.result
    forward, name = site.after(node, key), node.name
    failing = Failing.of(node, key, site)
    store: Cells = site.store(name) if failing is None else failing.store(name)
    get, put, write_key, serde = store.get, store.put, key.write, key
    plain, call = site.calls.plain(function), site.calls.folding(function, key)

    def encoded(key: Any) -> bytes:
        """With care: for keys that are missing, and to say what is wrong."""
        try:
            data = serde.encode(key)
        except SerdeError as error:
            raise cursor.unwritable(f"key for {name}", error) from error
        if data is None:
            raise cursor.keyless(f"the fold of {name}")
        return data

    if failing is not None:
        careful = failing.calls.folding(function, key)

        def attempt(key: Any, value: Any, stamp: int, headers: Headers) -> Sequence[Any]:
            data = encoded(key)
            count, sofar = get(data) or (0, None)
            sofar = careful(sofar, key, value, stamp, headers, 0, 0)
            put(data, (count + 1, sofar), stamp)
            return (sofar if result is None else result(sofar),)

        def give(key: Any, value: Any, stamp: int, headers: Headers) -> None:
            forward(key, value, stamp, ())

        return failing.step(attempt, give)

    if plain is not None:
        kept = site.store(name)

        def fetch(data: bytes, stamp: int) -> list[Any]:
            """The cell of a key, to be changed in place until the next commit."""
            found = kept.get(data)
            cell = [0, None] if found is None else list(found)
            kept.put(data, cell, stamp)
            kept.fresh[data] = cell
            return cell

        return Running(function, cursor, forward, kept, fetch, write_key, encoded, result).give

    def fold(key: Any, value: Any, stamp: int, headers: Headers) -> None:
        try:
            data = write_key(key)
        except Exception:
            data = None
        if data is None:
            data = encoded(key)
        cell = get(data)
        count, sofar = (0, None) if cell is None else cell
        try:
            sofar = call(sofar, key, value, stamp, headers, 0, 0)
        except Exception as error:
            cursor.fail(function, key, error)
        put(data, (count + 1, sofar), stamp)
        forward(key, sofar if result is None else result(sofar), stamp, ())

    return fold
