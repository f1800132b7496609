"""Stores as data: what a node keeps per key, and how it is called."""

from dataclasses import dataclass

from streamkit.dsl.functions import Function
from streamkit.serde import Serde


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """A keyed store that a node needs in each task, named within the app, of values of one serde.

    Its changes are kept in `<app>-<name>-changelog`. What was not written for `ttl` ms of event
    time goes.
    """

    name: str
    value: Serde
    ttl: int | None = None


def state_name(function: str, parameter: str) -> str:
    """The store of a function's State parameter."""
    return f"{function}-{parameter}"


def state_stores(function: Function) -> tuple[StoreSpec, ...]:
    """The stores of a function's State parameters."""
    return tuple(
        StoreSpec(state_name(function.name, kept.parameter), kept.rows, kept.ttl)
        for kept in function.states
    )
