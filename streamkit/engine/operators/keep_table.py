"""Keep the latest value per key of a stream, as a table."""

from typing import Any

from streamkit.dsl.nodes.tables import KeptTable
from streamkit.engine.hot.steps import Forward
from streamkit.engine.site import Site
from streamkit.errors import SerdeError
from streamkit.records import Headers
from streamkit.serde import Serde


def build(node: KeptTable, key: Serde, site: Site) -> Forward:
    cursor, encode, store = site.cursor, key.encode, site.store(node.name)

    def keep(key: Any, value: Any, stamp: int, headers: Headers) -> None:
        try:
            data = encode(key)
        except SerdeError as error:
            raise cursor.unwritable(f"key for {node.name}", error) from error
        if data is None:
            raise cursor.keyless(f"the table {node.name}")
        store.put(data, value, stamp)

    return keep
