"""Several aggregates of the same events in one pass: their values are the fields of a Struct."""

from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from streamkit.dsl.aggregates import Aggregate, Fold, built_in
from streamkit.dsl.fit import can_fit, members
from streamkit.errors import TopologyError
from streamkit.serde import type_name


def together(
    parts: dict[str, Aggregate[Any]], type_: Any, where: str, into: type[Any] | None
) -> Fold:
    """Several aggregates in one pass; what they give are the fields of a Struct.

    `into` is the Struct (or dataclass) to make; None: one is made up, named after the aggregates.
    Raises TopologyError when its fields are others, or of other types.
    """
    if not parts:
        raise TopologyError(f"{where}: name what to compute: aggregates(total=sum_('amount'))")
    for name, part in parts.items():
        if not isinstance(part, Aggregate):
            raise TopologyError(
                f"{where}: {name}={part!r} is no aggregate; it may be count(), sum_('field'), ..."
            )
    folds = [part.fold(type_, f"{name} of {where}") for name, part in parts.items()]
    fields = {name: fold.returns for name, fold in zip(parts, folds, strict=True)}
    made = _struct(fields) if into is None else _fitting(into, fields, where)
    names = tuple(parts)
    adds = [fold.function.call for fold in folds]
    timed_ones = [fold.function.is_timed for fold in folds]
    is_timed = any(timed_ones)
    results = [fold.result for fold in folds]
    merges = [fold.merge for fold in folds]
    nothing = [None] * len(folds)

    def add(sofar: Any, event: Any) -> Any:
        states = nothing if sofar is None else sofar
        return [one(state, event) for one, state in zip(adds, states, strict=True)]

    def add_timed(sofar: Any, event: Any, at: int) -> Any:
        states = nothing if sofar is None else sofar
        return [
            one(state, event, at) if timed else one(state, event)
            for one, timed, state in zip(adds, timed_ones, states, strict=True)
        ]

    def merge(one: Any, other: Any) -> Any:
        return [
            of(left, right)  # type: ignore[misc]  # every aggregate here has one
            for of, left, right in zip(merges, one, other, strict=True)
        ]

    def result(states: Any) -> Any:
        values = (
            state if of is None else of(state) for of, state in zip(results, states, strict=True)
        )
        return made(**dict(zip(names, values, strict=True)))

    kept: Any = tuple.__class_getitem__(tuple(fold.state for fold in folds))
    called = (f"{name}={fold.function.where}" for name, fold in zip(names, folds, strict=True))
    call = built_in(
        add_timed if is_timed else add, f"aggregates({', '.join(called)})", where, is_timed=is_timed
    )
    code = tuple(one for fold in folds for one in fold.code)
    by_order = any(fold.by_order for fold in folds)
    # As they stand in it: it does not have their names.
    told = ", ".join(fold.kept for fold in folds)
    return Fold(call, kept, made, merge, result, code, by_order=by_order, kept=told)


def _struct(fields: dict[str, Any]) -> Any:
    try:
        return msgspec.defstruct("Aggregates", list(fields.items()), frozen=True, module=__name__)
    except (TypeError, ValueError) as error:
        raise TopologyError(f"aggregates: {error}") from error


def _fitting(into: type[Any], fields: dict[str, Any], where: str) -> Any:
    try:
        described: Any = msgspec.inspect.type_info(into)
        known = {field.name: field for field in described.fields}
    except (AttributeError, TypeError) as error:
        raise TopologyError(
            f"{where}: {type_name(into)} has no typed fields; give aggregates a msgspec.Struct "
            "or a dataclass, or leave it out"
        ) from error
    missing = [name for name, field in known.items() if field.required and name not in fields]
    more = [name for name in fields if name not in known]
    told = [f"it has no {name!r}" for name in more]
    told += [f"its {name!r} is not computed" for name in missing]
    hints = get_type_hints(get_origin(into) or into)
    told += [
        f"its {name!r} is {type_name(hints[name])}, but is given {type_name(returns)}"
        for name, returns in fields.items()
        if name in known and not _may_be(returns, hints[name])
    ]
    if told:
        raise TopologyError(f"{where}: aggregates into {type_name(into)}: {', '.join(told)}")
    return into


def _may_be(given: Any, hint: Any) -> bool:
    """Whether what an aggregate gives may be of a field's type; doubt passes."""
    ones, wanted = members(given), members(hint)
    if ones == [float] and wanted == [int]:  # a mean, say: whole now and then, and then not
        return False
    if len(ones) == len(wanted) == 1 and get_origin(ones[0]) is get_origin(wanted[0]) is list:
        return _may_be(get_args(ones[0])[0], get_args(wanted[0])[0])
    return can_fit(given, hint)
