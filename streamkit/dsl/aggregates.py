"""Aggregates: how many events become one value. Here is what they do; engine keeps their state.

An aggregate is declared (`sum_("amount")`) before it is known what events it is for; `fold` then
looks at their type. A `Fold` is pure: what there was so far and an event, to what there is then.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from operator import add as plus
from typing import Any, Generic, TypeAlias, TypeVar, get_origin

from streamkit.dsl.functions import Function, field_getter, function
from streamkit.errors import TopologyError
from streamkit.serde import Untyped, type_name, without_none

V = TypeVar("V")
A = TypeVar("A")
R = TypeVar("R", covariant=True)

Of: TypeAlias = str | Callable[[V], Any] | None
"""What of an event: a field, what a function makes of it, or the event itself."""

_NUMBER: Any = int | float
"""What has to be a number where nobody says what it is."""
_SHOWN = 80
"""Characters of a value in a message."""


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """What is done with the events of one key, or of one key and window.

    `function.call` takes what there is so far (None before the first event) and an event, of one
    that `is_timed` the event's time too, and
    gives what there is then, of type `state`; it may change what it is given in place. `merge`
    makes one state of two, of which the first is of earlier events; None: it cannot. `result`
    makes of a state the value that is given, of type `returns`; None: it is the value. `code` are
    the user's functions in it, besides `function`. `by_order`: it may come to something else where
    events come in another order. `kept` says what a state of a ready-made one is, `sum('amount')`
    say: of two that say the same either goes on with what the other has.
    """

    function: Function
    state: Any
    returns: Any
    merge: Callable[[Any, Any], Any] | None = None
    result: Callable[[Any], Any] | None = None
    code: tuple[Callable[..., Any], ...] = ()
    by_order: bool = False
    kept: str = ""

    def __str__(self) -> str:
        return f"{self.function.described}: {type_name(self.state)}"


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate(Generic[R]):
    """A declared aggregate: `label` is its part of a store's name, `fold` looks at a type of events
    (and, for messages, at what they are) and raises TopologyError when it is not made for it."""

    label: str
    fold: Callable[[Any, str], Fold]


def count() -> Aggregate[int]:
    """How many events there are."""

    def fold(type_: Any, where: str) -> Fold:
        def add(sofar: int | None, _: Any) -> int:
            return 1 if sofar is None else sofar + 1

        return Fold(built_in(add, "count()", where), int, int, plus, kept="count()")

    return Aggregate("count", fold)


def sum_(of: Of[Any] = None) -> Aggregate[Any]:
    """The sum of a field; 0 when there is nothing to add. None is skipped, here and below."""

    def fold(type_: Any, where: str) -> Fold:
        get, part = _part(of, type_, f"sum of {where}", _NUMBER)
        _adds_up(part, f"sum of {where}", of)
        part = int if part is bool else part
        zero = part() if part in (int, float, Decimal, timedelta) else 0

        def add(sofar: Any, event: Any) -> Any:
            value = get(event)
            if value is None:
                return sofar
            return zero + value if sofar is None else sofar + value

        def result(state: Any) -> Any:
            return zero if state is None else state

        called = _call("sum", of)
        call = built_in(add, called, where)
        return Fold(call, part | None, part, _kept(plus), result, _code(of), kept=called)

    return Aggregate(_label("sum", of), fold)


def mean(of: Of[Any] = None) -> Aggregate[Any]:
    """The arithmetic mean of a field; None when it has no value in any event."""

    def fold(type_: Any, where: str) -> Fold:
        get, part = _part(of, type_, f"mean of {where}", _NUMBER)
        _adds_up(part, f"mean of {where}", of)
        number = part in (int, float, bool, _NUMBER)

        def add(sofar: Any, event: Any) -> Any:
            value = get(event)
            if value is None:
                return sofar
            return (
                (value + 0 if number else value, 1)
                if sofar is None
                else (
                    sofar[0] + value,
                    sofar[1] + 1,
                )
            )

        def merge(one: Any, other: Any) -> Any:
            return one[0] + other[0], one[1] + other[1]

        def result(state: Any) -> Any:
            return None if state is None else state[0] / state[1]

        total = _NUMBER if number else part
        state = tuple[total, int] | None  # type: ignore[valid-type]
        returns = float if number else part
        called = _call("mean", of)
        call = built_in(add, called, where)
        return Fold(call, state, returns | None, _kept(merge), result, _code(of), kept=called)

    return Aggregate(_label("mean", of), fold)


def min_(of: Of[Any] = None) -> Aggregate[Any]:
    """The least value of a field; None when it has no value in any event."""
    return _extreme("min", of, lambda one, other: other if other < one else one)


def max_(of: Of[Any] = None) -> Aggregate[Any]:
    """The greatest value of a field; None when it has no value in any event."""
    return _extreme("max", of, lambda one, other: other if other > one else one)


def _extreme(name: str, of: Of[Any], better: Callable[[Any, Any], Any]) -> Aggregate[Any]:
    def fold(type_: Any, where: str) -> Fold:
        get, part = _part(of, type_, f"{name} of {where}", _NUMBER)

        def add(sofar: Any, event: Any) -> Any:
            value = get(event)
            if value is None:
                return sofar
            return value if sofar is None else better(sofar, value)

        called = _call(name, of)
        call = built_in(add, called, where)
        return Fold(call, part | None, part | None, _kept(better), code=_code(of), kept=called)

    return Aggregate(_label(name, of), fold)


def first(of: Of[Any] = None) -> Aggregate[Any]:
    """The value of a field in the earliest event, by event time, that has one; None when none has.

    Of events of one time, that which comes first.
    """
    return _outermost("first", of, lambda at, than: at < than)


def last(of: Of[Any] = None) -> Aggregate[Any]:
    """The value of a field in the latest event, by event time, that has one; None when none has.

    Of events of one time, that which comes last.
    """
    return _outermost("last", of, lambda at, than: at >= than)


def _outermost(name: str, of: Of[Any], beyond: Callable[[int, int], bool]) -> Aggregate[Any]:
    def fold(type_: Any, where: str) -> Fold:
        get, part = _whole_part(of, type_, f"{name} of {where}")

        def add(sofar: Any, event: Any, at: int) -> Any:
            if sofar is not None and not beyond(at, sofar[0]):
                return sofar
            value = get(event)
            return sofar if value is None else (at, value)

        def merge(one: Any, other: Any) -> Any:
            return other if beyond(other[0], one[0]) else one

        def result(state: Any) -> Any:
            return None if state is None else state[1]

        state = tuple[int, part] | None  # type: ignore[valid-type]
        called = _call(name, of)
        call = built_in(add, called, where, is_timed=True)
        code, returns = _code(of), part | None
        return Fold(call, state, returns, _kept(merge), result, code, by_order=True, kept=called)

    return Aggregate(_label(name, of), fold)


def quantile(part: float, of: Of[Any] = None, *, accuracy: float = 0.01) -> Aggregate[float | None]:
    """About the value of a field below which `part` (0 to 1) of the values are; None when there
    are none.

    `accuracy` is how far it may be off, as a part of the value itself. It takes memory for each
    order of magnitude that the values span: about 115 counts of 1 % each.
    """
    if not 0 <= part <= 1:
        raise TopologyError(f"quantile: {part} is not between 0 and 1; the median is 0.5")
    if not 0 < accuracy < 1:
        raise TopologyError(f"quantile: accuracy={accuracy} is not between 0 and 1")
    # Here, because nobody else should wait for that package to load.
    from streamkit.dsl.sketch import Bins, Sketch

    bins = Bins(accuracy)

    def fold(type_: Any, where: str) -> Fold:
        get, _ = _part(of, type_, f"quantile of {where}", _NUMBER)

        def add(sofar: Any, event: Any) -> Any:
            value = get(event)
            return sofar if value is None else bins.add(sofar, value)

        def result(state: Any) -> float | None:
            return None if state is None else bins.quantile(state, part)

        call = built_in(add, _call("quantile", of, part, accuracy), where)
        # Any part can be read off it.
        kept, state = _call("quantile", of, accuracy), Sketch | None
        return Fold(call, state, float | None, _kept(bins.merge), result, _code(of), kept=kept)

    return Aggregate(_label(f"quantile-{part:g}", of), fold)


def top_k(n: int, by: Of[Any] = None) -> Aggregate[list[Any]]:
    """The `n` events with the greatest value of a field, greatest first; of equals the earlier."""
    _at_least_one(n, "top_k")

    def fold(type_: Any, where: str) -> Fold:
        get, _ = _part(by, type_, f"top_k of {where}", Any)
        known = _known(type_, f"top_k of {where}")

        def add(sofar: list[Any] | None, event: Any) -> list[Any]:
            best = [] if sofar is None else sofar
            score = get(event)
            if score is None:
                return best
            at = len(best)
            while at and score > get(best[at - 1]):
                at -= 1
            if at < n:
                best.insert(at, event)
                del best[n:]
            return best

        def merge(one: list[Any], other: list[Any]) -> list[Any]:
            return sorted([*one, *other], key=get, reverse=True)[:n]

        call = built_in(add, _call("top_k", by, n), where)
        # A list of its own for who is given it: this one goes on changing.
        kept: Any = list.__class_getitem__(known)
        return Fold(call, kept, kept, merge, list, _code(by), kept=_call("top_k", by))

    return Aggregate(_label(f"top-{n}", by), fold)


def collect(limit: int, of: Of[Any] = None) -> Aggregate[list[Any]]:
    """The first `limit` events, or values of a field of theirs, in a list."""
    _at_least_one(limit, "collect")

    def fold(type_: Any, where: str) -> Fold:
        get, part = _whole_part(of, type_, f"collect of {where}")

        def add(sofar: list[Any] | None, event: Any) -> list[Any]:
            found = [] if sofar is None else sofar
            if len(found) < limit:
                value = get(event)
                if value is not None:
                    found.append(value)
            return found

        def merge(one: list[Any], other: list[Any]) -> list[Any]:
            return (one + other)[:limit]

        call = built_in(add, _call("collect", of, limit), where)
        kept: Any = list.__class_getitem__(part)
        code, called = _code(of), _call("collect", of)
        return Fold(call, kept, kept, merge, list, code, by_order=True, kept=called)

    return Aggregate(_label("collect", of), fold)


def reduced(
    call: Callable[..., Any], type_: Any, name: str | None = None, *, any_order: bool = False
) -> Fold:
    """A fold with a function that makes one event of two: the first is taken as it is."""
    fn = function(call, leading=2, name=name)
    if fn.extras or fn.wants_record:
        raise TopologyError(f"reduce {fn.described}: it takes two values and nothing else")
    known = _known(type_, f"reduce {fn.described}")

    def add(sofar: Any, event: Any) -> Any:
        return event if sofar is None else call(sofar, event)

    takes = (("sofar", known), ("event", known))
    made = Function(add, fn.name, fn.where, False, (), known, False, takes)
    return Fold(made, known, known, call, code=(call,), by_order=not any_order)


def folded(
    call: Callable[..., Any],
    name: str | None = None,
    merge: Callable[..., Any] | None = None,
    *,
    window: bool = False,
    any_order: bool = False,
) -> Fold:
    """A user's own fold: from what there is so far, None at first, and an event.

    `window` says whether there is a Window that it may ask for.
    """
    fn = function(call, event=1, leading=2, window=window, name=name)
    if fn.returns is Untyped or fn.many:
        raise TopologyError(
            f"aggregate {fn.described}: annotate what it returns: state is kept as that"
        )
    if merge is not None:
        merging = function(merge, leading=2)
        if merging.extras or merging.wants_record:
            raise TopologyError(f"merge= {merging.described}: it takes two states, nothing else")
    code = () if merge is None else (merge,)
    return Fold(fn, fn.returns, fn.returns, merge, code=code, by_order=not any_order)


# What aggregates are made of.


def _kept(merge: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A merge where None is a state of nothing."""

    def of(one: Any, other: Any) -> Any:
        if one is None:
            return other
        return one if other is None else merge(one, other)

    return of


def _part(of: Of[Any], type_: Any, what: str, untold: Any) -> tuple[Callable[[Any], Any], Any]:
    """How to get what is aggregated of an event, and its type: `untold` where nobody says it."""
    if of is None:
        get: Callable[[Any], Any] = lambda event: event  # noqa: E731
        part = type_
    elif isinstance(of, str):
        get, part = field_getter(type_, of, what)
    elif callable(of):
        fn = function(of)
        if fn.extras or fn.wants_record:
            raise TopologyError(f"{what}: {fn.described} takes a value and nothing else")
        get, part = of, fn.returns
    else:
        raise TopologyError(f"{what}: {of!r} is neither a field's name nor a function")
    part, _ = without_none(part)
    if part not in (Untyped, Any, object):
        return get, part
    return (_numbers(get, what, of) if untold == _NUMBER else get), untold


def _numbers(get: Callable[[Any], Any], what: str, of: Of[Any]) -> Callable[[Any], Any]:
    """The same, where it is looked at whether it is a number, as nothing says that it is."""

    def number(event: Any) -> Any:
        value = get(event)
        if value is None or isinstance(value, (int, float)):
            return value
        gives = "is" if of is None or isinstance(of, str) else "gives"
        whose = f"{'the event' if of is None else repr(_called(of))} {gives}"
        text = repr(value)
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        raise TypeError(
            f"{what}: {whose} {shown}, of type {type_name(type(value))}, where a number is "
            "needed; make it one in a step before, whose on_error= says what becomes of others"
        )

    return number


def _adds_up(part: Any, what: str, of: Of[Any]) -> None:
    """Raises TopologyError for what can surely not be added; doubt passes."""
    kind = get_origin(part) or part
    if isinstance(kind, type) and issubclass(kind, (str, bytes, list, tuple, set, dict, date)):
        told = "the event" if of is None else repr(_called(of))
        raise TopologyError(f"{what}: {told} is {type_name(part)}, which cannot be added up")


def _whole_part(of: Of[Any], type_: Any, what: str) -> tuple[Callable[[Any], Any], Any]:
    """The same where it is kept as it is: whole events only when it is known what they are."""
    if of is None:
        _known(type_, what)
    return _part(of, type_, what, Any)


def _known(type_: Any, what: str) -> Any:
    if type_ is Untyped:
        raise TopologyError(
            f"{what}: the type of the values is unknown; annotate what the function before it "
            "returns: state is kept as that"
        )
    return type_


def built_in(
    add: Callable[..., Any], called: str, where: str, *, is_timed: bool = False
) -> Function:
    """A fold of ours, as messages call it, of the events that are `where`."""
    return Function(add, where, called, False, (), Untyped, False, is_timed=is_timed)


def _called(of: Of[Any]) -> str:
    return of if isinstance(of, str) else getattr(of, "__name__", "?").strip("<>")


def _call(name: str, of: Of[Any], *more: object) -> str:
    """As messages print it: `sum('amount')`."""
    parts = [*map(repr, more), *([] if of is None else [repr(_called(of))])]
    return f"{name}({', '.join(parts)})"


def _code(of: Of[Any]) -> tuple[Callable[..., Any], ...]:
    return () if of is None or isinstance(of, str) else (of,)


def _label(name: str, of: Of[Any]) -> str:
    return name if of is None else f"{name}-{_called(of)}"


def _at_least_one(n: int, what: str) -> None:
    if type(n) is not int or n < 1:
        raise TopologyError(f"{what}: {n!r} is no number of events; it keeps at least one")
