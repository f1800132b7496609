"""An event and a table's row for it."""

from typing import Any

from streamkit.dsl.nodes.joins import Join
from streamkit.engine.operators.results import giver
from streamkit.engine.outlets import Forward
from streamkit.engine.site import Site
from streamkit.errors import SerdeError
from streamkit.records import Headers
from streamkit.serde import Serde


def build(node: Join, key: Serde, site: Site) -> Forward:
    cursor, function, on = site.cursor, node.function, node.on
    table = site.table(node.table.topic)
    rows, encode, inner = table.rows, table.encode_key, node.how == "inner"
    call = site.calls.joined(function, key)
    look = None if on is None else site.calls.event(on, key)
    give = giver(function, site.after(node, key), cursor)

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
