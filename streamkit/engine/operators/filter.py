"""Only the events for which a function gives something true."""

from typing import Any

from streamkit.dsl.nodes.steps import Filter
from streamkit.engine.hot import steps
from streamkit.engine.hot.steps import Forward
from streamkit.engine.operators.failing import Failing
from streamkit.engine.site import Site
from streamkit.records import Headers
from streamkit.serde import Serde


def build(node: Filter, key: Serde, site: Site) -> Forward:
    cursor, function, forward = site.cursor, node.function, site.after(node, key)
    failing = Failing.of(node, key, site)
    if failing is not None:
        attempt = failing.calls.event(function, key)
        return failing.step(lambda *event: (event[1],) if attempt(*event) else (), forward)
    if site.calls.plain(function) is not None:
        return steps.Filter(function, cursor, forward).give

    call = site.calls.event(function, key)

    def filter_(key: Any, value: Any, stamp: int, headers: Headers) -> None:
        try:
            keep = bool(call(key, value, stamp, headers))
        except Exception as error:
            cursor.fail(function, key, error)
        if keep:
            forward(key, value, stamp, headers)

    return filter_
