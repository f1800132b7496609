"""What `on_timer` makes of a function: one of a step, by whose States it works."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from streamkit.dsl.failures import Failure, OnError, Retry, failure
from streamkit.dsl.fit import check_fit
from streamkit.dsl.functions import Function, function
from streamkit.dsl.nodes.node import StreamNode
from streamkit.dsl.nodes.steps import Process
from streamkit.dsl.nodes.waiting import Waiting
from streamkit.dsl.state import Kept
from streamkit.dsl.timers import Timer
from streamkit.errors import TopologyError, nearest
from streamkit.serde import type_name


def timer_function(
    call: Callable[..., Any], step: StreamNode, name: str | None
) -> tuple[Function, Process]:
    """A function of a timer that `step` sets, and the step.

    Raises TopologyError when it cannot be that.
    """
    timed = function(call, name=name)
    if isinstance(step, Waiting):
        raise TopologyError(
            f"{timed.described}: events wait at {step.function.described}, for answers or to be "
            "tried again, and such a step sets no timers; let one do that which follows it"
        )
    if not isinstance(step, Process):
        other = getattr(step, "function", None)
        raise TopologyError(
            f"{timed.described}: {step.name if other is None else other.described} sets no timers; "
            "a function of @stream.process does, with Context.timer"
        )
    setting = step.function
    if "context" not in setting.extras:
        raise TopologyError(
            f"{timed.described}: {setting.described} sets no timers; let it take a Context, and "
            "call its timer(...)"
        )
    if timed.wants_record:
        raise TopologyError(f"{timed.described}: it is given a Timer, of no record")
    check_fit(timed, [(Timer, f"the timers of {step.name!r}")])
    kept = {state.parameter: state for state in setting.states}
    for state in timed.states:
        _check_state(timed, state, setting, kept)
    return replace(timed, keeper=step.name), step


def timer_failure(on_error: OnError, timed: Function) -> Failure | None:
    """What becomes of timers that the function fails for. Raises TopologyError."""
    policy = failure(on_error, timed.described)
    if isinstance(policy, Retry):
        raise TopologyError(
            f"{timed.described}: on_error=retry(...) is for process(...): let the timer give an "
            "event, and a step after it do what may work later"
        )
    return policy


def _check_state(timed: Function, state: Kept, setting: Function, kept: dict[str, Kept]) -> None:
    """Raises TopologyError when a State is not one of the step that sets the timers."""
    known = kept.get(state.parameter)
    if known is None:
        raise TopologyError(
            f"{timed.described}: {setting.described} keeps no {state.parameter!r}"
            f"{nearest(state.parameter, kept)}; the States here are those of the step: let it "
            "take this one too"
        )
    here, there = (
        (each.kind, type_name(each.type), type_name(each.key)) for each in (state, known)
    )
    if here != there or state.ttl not in (None, known.ttl):
        raise TopologyError(
            f"{timed.described}: {state.parameter!r} is not what {setting.described} keeps under "
            "that name; annotate it the same way"
        )
