"""A function from an event to nothing, one value or many."""

from typing import Any

from streamkit.dsl.nodes.steps import Process
from streamkit.engine.hot import steps
from streamkit.engine.hot.steps import Forward
from streamkit.engine.operators.results import giver
from streamkit.engine.operators.timers import timers_of
from streamkit.engine.site import Site
from streamkit.records import Headers
from streamkit.serde import Serde


def build(node: Process, key: Serde, site: Site) -> Forward:
    cursor, function, forward = site.cursor, node.function, site.after(node, key)
    if function.many is False and site.calls.plain(function) is not None:
        return steps.Map(function, cursor, forward, optional=True).give

    timers = timers_of(node, site)
    call = site.calls.event(function, key, None if timers is None else timers.asked)
    give = giver(function, forward, cursor)

    def any_kind(key: Any, value: Any, stamp: int, headers: Headers) -> None:
        try:
            result = call(key, value, stamp, headers)
        except Exception as error:
            cursor.fail(function, key, error)
        give(key, result, stamp, headers)

    return any_kind if timers is None else timers.after(any_kind)
