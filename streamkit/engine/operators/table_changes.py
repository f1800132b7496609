"""The changes of a table that is made of two others.

A row is the key → (left row, right row, whether they made a row).
"""

from collections.abc import Callable
from typing import Any

from streamkit.dsl.nodes.tables import RightRows, TableChanges, TableTopic
from streamkit.engine.hot.steps import Forward, Write
from streamkit.engine.site import Site
from streamkit.engine.tables import row_maker
from streamkit.errors import SerdeError
from streamkit.records import Headers
from streamkit.serde import Serde


def build(node: TableChanges, key: Serde, site: Site) -> Forward:
    """The step of the changes of the left table."""
    return _step(node, 0, key, site)


def build_right(node: RightRows, key: Serde, site: Site) -> Forward:
    """The step of the changes of the right table."""
    (join,) = (one for one in site.nodes if isinstance(one, TableChanges) and one.right is node)
    return _step(join, 1, key, site)


def build_topic(node: TableTopic, key: Serde, site: Site) -> Forward:
    (output,) = node.outputs()
    return Write(site.outlet(output), key, output.value, site.cursor).give


def _step(node: TableChanges, side: int, key: Serde, site: Site) -> Forward:
    table, cursor = node.table, site.cursor
    store, forward = site.store(f"{node.name}-rows"), site.after(node, node.keys)
    make: Callable[[bytes, Any, Any], Any]
    make = row_maker(table.function, table.how, node.keys, cursor)

    def change(key: Any, value: Any, stamp: int, headers: Headers) -> None:
        try:
            data = encode(key)
        except SerdeError as error:
            raise cursor.unwritable(f"key for {node.name}", error) from error
        if data is None:
            raise cursor.keyless(f"the table {node.name}")
        left, right, was = store.get(data) or (None, None, False)
        if side:
            right = value
        else:
            left = value
        row = make(data, left, right)
        if left is None and right is None:
            store.delete(data, stamp)
        else:
            store.put(data, (left, right, row is not None), stamp)
        if was or row is not None:
            forward(key, row, stamp, ())

    encode = key.encode
    return change
