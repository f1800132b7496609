"""A function from an event to nothing, one value or many."""

from typing import Any

from streamkit.dsl.nodes.steps import Process
from streamkit.engine.hot import steps
from streamkit.engine.hot.steps import Forward
from streamkit.engine.operators.failing import Failing
from streamkit.engine.operators.results import gathered, giver
from streamkit.engine.operators.timers import timers_of
from streamkit.engine.site import Site
from streamkit.records import Headers
from streamkit.serde import Serde


def build(node: Process, key: Serde, site: Site) -> Forward:
    cursor, function, forward = site.cursor, node.function, site.after(node, key)
    timers = timers_of(node, site)
    failing = Failing.of(node, key, site)
    if failing is not None:
        if timers is not None:
            failing.asked = timers.asked
        attempt, gather = failing.calls.event(function, key, failing.asked), gathered(function)
        guarded = failing.step(lambda *event: gather(attempt(*event)), forward)
        if timers is None:
            return guarded
        failing.again = timers.after_again(failing.again)
        return timers.after(guarded)
    if function.many is False and site.calls.plain(function) is not None:
        return steps.Map(function, cursor, forward, optional=True).give

    call = site.calls.event(function, key, None if timers is None else timers.asked)
    give = giver(function, forward, cursor)

    def any_kind(key: Any, value: Any, stamp: int, headers: Headers) -> None:
        try:
            result = call(key, value, stamp, headers)
        except Exception as error:
            cursor.fail(function, key, error)
        give(key, result, stamp, headers)

    return any_kind if timers is None else timers.after(any_kind)
