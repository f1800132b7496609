"""How a function is called that is waited for, by what users say of it."""

from typing import TypeAlias

from streamkit.dsl.durations import Duration, milliseconds
from streamkit.dsl.failures import Failure, Retry
from streamkit.dsl.functions import Function
from streamkit.dsl.nodes.waiting import Order, Waits
from streamkit.errors import TopologyError

CONCURRENCY = 64
"""Calls of a coroutine at once, if nobody says how many."""
BATCHES = 4
"""Batches at once, if nobody says how many."""
WITHIN = 1_000
"""After so many ms a batch is complete, if nobody says when."""
MOST = 10_000
"""At once, and in a batch."""

Options: TypeAlias = tuple[
    int | None, Order | None, Duration | None, int | None, Duration | None, int | None
]
"""concurrency, order, timeout, batch, within, workers: None where nothing is said."""


def waits(function: Function, options: Options, failure: Failure | None) -> Waits | None:
    """How a function is to be called; None: where its events are met, one after the other.

    Raises TopologyError for what does not go together.
    """
    concurrency, order, timeout, batch, within, workers = options
    what = function.described
    for name, number in (("concurrency", concurrency), ("batch", batch), ("workers", workers)):
        if number is not None and not 1 <= number <= MOST:
            raise TopologyError(f"{what}: {name}={number}: from 1 to {MOST}")
    if order not in (None, "partition", "key"):
        raise TopologyError(f'{what}: order={order!r}: it is "partition" or "key"')
    if batch is None and within is not None:
        raise TopologyError(f"{what}: within= is for how long a batch= waits; say how large it is")
    if batch is not None and order == "key":
        raise TopologyError(
            f'{what}: a batch has many keys, and results leave by batch; leave order="key" out'
        )
    limit = None if timeout is None else milliseconds(timeout, "timeout")
    most = None if batch is None else milliseconds(within, "within") if within else WITHIN
    if workers is not None:
        if function.is_async:
            raise TopologyError(
                f"{what} is async, and workers= are processes for functions that compute; leave "
                "one of them out"
            )
        if concurrency is not None:
            raise TopologyError(f"{what}: workers= says how many calls are made at once")
        _refuse_local(function)
        # One call that is on its way for each, so that none has to wait for us.
        return Waits("workers", 2 * workers, order or "partition", limit, batch, most, workers)
    if function.is_async:
        at_once = concurrency or (CONCURRENCY if batch is None else BATCHES)
        return Waits("loop", at_once, order or "partition", limit, batch, most)
    for name, said in (("concurrency", concurrency), ("order", order), ("timeout", timeout)):
        if said is not None:
            raise TopologyError(
                f"{what}: {name}= is for functions that are waited for; make it `async def`, or "
                "say workers="
            )
    if batch is not None:
        return Waits("here", 1, batch=batch, within=most)
    if isinstance(failure, Retry):
        return Waits("here", MOST, "key" if failure.pause == "key" else "partition")
    return None


def _refuse_local(function: Function) -> None:
    call = function.call
    name = getattr(call, "__qualname__", "")
    if not name or "<" in name or getattr(call, "__module__", None) is None:
        why = "a lambda" if name.endswith("<lambda>") else "made inside another function"
        raise TopologyError(
            f"{function.described} is {why if name else 'no function'}: workers= are processes, "
            "which import it by its name; define it with `def` at the top of a module"
        )


def check_waits(function: Function, how: Waits, values_known: bool, stream: str) -> None:
    """Raises TopologyError when a function cannot be called in that way."""
    alone = how.where == "here" and how.batch is None
    if function.states and not alone:
        kept = function.states[0].parameter
        raise TopologyError(
            f"{function.described}: parameter {kept!r} is a State, but when the function is called "
            "others of its events are on their way, and an answer that is lost is asked for again; "
            "keep state in a step before it or after it"
        )
    if not values_known:
        raise TopologyError(
            f"{function.described}: events wait for it and are kept meanwhile, but the type of the "
            f"values of {stream!r} is unknown; annotate what the function before it returns"
        )
