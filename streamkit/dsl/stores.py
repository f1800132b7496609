"""Stores as data: what a node keeps per key, and how it is called."""

from dataclasses import dataclass

from streamkit.dsl.functions import Function
from streamkit.serde import Serde, serde_for


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """A keyed store that a node needs in each task, named within the app, of values of one serde.

    Its changes are kept in `<app>-<name>-changelog`.
    """

    name: str
    value: Serde


def state_name(function: str, parameter: str) -> str:
    """The store of a function's State parameter."""
    return f"{function}-{parameter}"


def state_stores(function: Function) -> tuple[StoreSpec, ...]:
    """The stores of a function's State parameters."""
    return tuple(
        StoreSpec(state_name(function.name, parameter), serde_for(type_))
        for parameter, type_ in function.states
    )
