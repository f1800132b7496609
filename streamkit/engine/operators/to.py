"""Write events to a topic, under their key or another."""

from typing import Any

from streamkit.dsl.nodes.outputs import To
from streamkit.engine.hot.steps import Forward, Write
from streamkit.engine.site import Site
from streamkit.records import Headers
from streamkit.serde import Serde


def build(node: To, key: Serde, site: Site) -> Forward:
    cursor, rekey = site.cursor, node.rekey
    write = Write(site.outlet(node.topic), node.key, node.value, cursor).give
    if rekey is None:
        return write
    call = site.calls.event(rekey, key)

    def write_rekeyed(key: Any, value: Any, stamp: int, headers: Headers) -> None:
        try:
            new = call(key, value, stamp, headers)
        except Exception as error:
            cursor.fail(rekey, key, error)
        write(new, value, stamp, headers)

    return write_rekeyed
