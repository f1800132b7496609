"""A function from an event to an iterable of values."""

from typing import Any

from streamkit.dsl.nodes.steps import FlatMap
from streamkit.engine.hot.steps import Forward
from streamkit.engine.operators.failing import Failing
from streamkit.engine.site import Site
from streamkit.records import Headers
from streamkit.serde import Serde


def build(node: FlatMap, key: Serde, site: Site) -> Forward:
    cursor, function, forward = site.cursor, node.function, site.after(node, key)
    failing = Failing.of(node, key, site)
    if failing is not None:
        attempt = failing.calls.event(function, key)
        return failing.step(lambda *event: list(attempt(*event)), forward)
    call = site.calls.event(function, key)

    def flat_map(key: Any, value: Any, stamp: int, headers: Headers) -> None:
        try:
            for item in call(key, value, stamp, headers):
                forward(key, item, stamp, headers)
        except Exception as error:
            cursor.fail(function, key, error)

    return flat_map
