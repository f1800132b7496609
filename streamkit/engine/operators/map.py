"""A function from an event to exactly one value."""

from typing import Any

from streamkit.dsl.nodes.steps import Map
from streamkit.engine.hot import steps
from streamkit.engine.hot.steps import Forward
from streamkit.engine.operators.failing import Failing
from streamkit.engine.site import Site
from streamkit.records import Headers
from streamkit.serde import Serde


def build(node: Map, key: Serde, site: Site) -> Forward:
    cursor, function, forward = site.cursor, node.function, site.after(node, key)
    failing = Failing.of(node, key, site)
    if failing is not None:
        attempt = failing.calls.event(function, key)
        return failing.step(lambda *event: (attempt(*event),), forward)
    if site.calls.plain(function) is not None:
        return steps.Map(function, cursor, forward, optional=False).give

    call = site.calls.event(function, key)

    def map_(key: Any, value: Any, stamp: int, headers: Headers) -> None:
        try:
            result = call(key, value, stamp, headers)
        except Exception as error:
            cursor.fail(function, key, error)
        forward(key, result, stamp, headers)

    return map_
