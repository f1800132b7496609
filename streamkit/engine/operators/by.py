"""The same events under another key."""

from typing import Any

from streamkit.dsl.nodes.steps import By
from streamkit.engine.hot import steps
from streamkit.engine.hot.steps import Forward
from streamkit.engine.site import Site
from streamkit.records import Headers
from streamkit.serde import Serde


def build(node: By, key: Serde, site: Site) -> Forward:
    cursor, function, forward = site.cursor, node.function, site.after(node, node.key)
    if site.calls.plain(function) is not None:
        return steps.By(function, cursor, forward).give

    call = site.calls.event(function, key)

    def by(key: Any, value: Any, stamp: int, headers: Headers) -> None:
        try:
            new = call(key, value, stamp, headers)
        except Exception as error:
            cursor.fail(function, key, error)
        forward(new, value, stamp, headers)

    return by
