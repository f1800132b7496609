"""A user's function and what it wants to be given, read from its annotations."""

import inspect
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from types import FrameType, NoneType, UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from streamkit.dsl.context import Context
from streamkit.dsl.state import Kept, ListState, MapState, State
from streamkit.dsl.windows import Window
from streamkit.errors import TopologyError, nearest
from streamkit.records import Record
from streamkit.serde import Untyped, type_name

Extra: TypeAlias = Literal["context", "window"] | Kept
"""What a parameter after the leading ones is given."""

_KINDS: dict[Any, int] = {State: 1, ListState: 1, MapState: 2}
"""What can be kept, and how many types it is of."""


_MANY = (Iterator, Generator, Iterable, AsyncIterator, AsyncGenerator, AsyncIterable)
"""`list[str]` is not among them: a list is one value."""


@dataclass(frozen=True, slots=True)
class Batch:
    """That a function is given many events at once: as a list, or as a frame. `of`: what the values
    of the stream are."""

    kind: Literal["list", "arrow", "polars"]
    of: Any


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A function, and how to call it: the leading arguments, then `extras` in order.

    `wants_record` says that the event is given as a Record and not as its value alone. `returns`
    is the annotated type of what comes out: of the items, when `many` is True. `many` is None when
    neither the annotation nor the function's kind tells, and its result has to be looked at.
    `takes` has the leading parameters with their annotations, Untyped where there is none; of a
    Record the type of its value. `is_async`: calling it gives a coroutine, or an asynchronous
    generator. `batch`: its event is many; None: one. `keeper` is the function
    whose States its own are, by their names; None: itself. `is_timed`: a fold of ours that takes
    the event's time (ms) after the event, and no extras. `gives_none`: it is annotated to.
    """

    call: Callable[..., Any]
    name: str
    where: str
    wants_record: bool
    extras: tuple[Extra, ...]
    returns: Any
    many: bool | None
    takes: tuple[tuple[str, Any], ...] = ()
    is_async: bool = False
    batch: Batch | None = None
    keeper: str | None = None
    is_timed: bool = False
    gives_none: bool = False

    @property
    def states(self) -> tuple[Kept, ...]:
        """Every State, ListState and MapState it takes."""
        return tuple(extra for extra in self.extras if isinstance(extra, Kept))

    @property
    def item(self) -> Any:
        """The type of the items, when what is returned is an iterable of them."""
        if self.many:
            return self.returns
        arguments = get_args(self.returns)
        return arguments[0] if arguments else Untyped

    @property
    def guards(self) -> Any:
        """What a value is for which it gives True, as a TypeIs or TypeGuard says; None: neither."""
        kind = getattr(get_origin(self.returns), "_name", None)
        return get_args(self.returns)[0] if kind in ("TypeIs", "TypeGuard") else None

    @property
    def described(self) -> str:
        """The function as messages print it: `big (app.py:12)`."""
        return f"{self.name} ({self.where})"


def function(
    call: Callable[..., Any],
    *,
    event: int = 0,
    leading: int = 1,
    window: bool = False,
    name: str | None = None,
    can_wait: bool = False,
    batch_of: Any = None,
) -> Function:
    """Read a function's signature.

    Its first `leading` parameters are positional; number `event` of them is the event. The ones
    after are chosen by annotation: Context, State[T] and the like, and Window where `window`
    allows it. With `can_wait` it may be async. `batch_of`: the event is a batch of values of that
    type.
    Raises TopologyError when a parameter cannot be given anything.
    """
    if not callable(call):
        raise TopologyError(f"expected a function, got {call!r}")
    if name is not None and not isinstance(name, str):
        raise TopologyError(f"name={name!r}: a step is called by a text")
    own_name = getattr(call, "__name__", type(call).__name__)
    where = place_of(call)
    label = f"{own_name} ({where})"
    is_async = _is_async(call)
    if is_async and not can_wait:
        raise TopologyError(
            f"{label} is async; only a function of @stream.process can be: call it there, and let "
            "this step follow"
        )
    try:
        parameters = list(inspect.signature(call).parameters.values())
    except (TypeError, ValueError):  # builtins such as `str` have no signature
        return Function(call, own_name, where, False, (), Untyped, None)
    hints = _hints(call, label)
    batch = None
    if batch_of is not None:
        batch = _batch(_given(parameters)[:1], hints, batch_of, label)
    wants_record, extras = _arguments(parameters, hints, label, event, leading, window)
    returns, many = _returned(call, hints)
    # A class is annotated with its attributes, which its constructor may take in another form.
    of_parameters = {} if isinstance(call, type) else hints
    takes = tuple(
        (each.name, _value(of_parameters.get(each.name, Untyped)))
        for each in _given(parameters)[:leading]
    )
    return Function(
        call,
        name or own_name,
        where,
        wants_record,
        extras,
        _item(returns, many) if batch is not None else returns,
        many,
        takes,
        is_async,
        batch,
        gives_none=hints.get("return") is NoneType,
    )


def _is_async(call: Callable[..., Any]) -> bool:
    ways = (call, getattr(type(call), "__call__", None))  # noqa: B004 (what it is, not whether)
    return any(inspect.iscoroutinefunction(w) or inspect.isasyncgenfunction(w) for w in ways)


def _batch(
    parameters: list[inspect.Parameter], hints: dict[str, Any], of: Any, label: str
) -> Batch:
    """What a function of batches is given; its hint becomes that of one event.

    Raises TopologyError.
    """
    if not parameters:
        return Batch("list", of)  # what it lacks is told where its parameters are looked at
    name = parameters[0].name
    hint = hints.get(name, Untyped)
    origin = get_origin(hint) or hint
    if hint is Untyped or hint is Any:
        return Batch("list", of)
    package = str(getattr(origin, "__module__", "")).split(".")[0]
    kind = _FRAMES.get((package, getattr(origin, "__name__", "")))
    if kind is not None:
        hints[name] = Untyped
        return Batch(kind, of)
    if origin not in (list, Sequence, Iterable):
        raise TopologyError(
            f"{label} takes batches: annotate {name!r} with a list of events, a "
            f"pyarrow.RecordBatch or a polars.DataFrame, not {type_name(hint)}"
        )
    arguments = get_args(hint)
    hints[name] = arguments[0] if arguments else Untyped
    return Batch("list", of)


def _item(returns: Any, many: bool | None) -> Any:
    """What a function of batches gives for each event, when that is what it returns."""
    origin = get_origin(returns) or returns
    if many:
        return returns
    package = str(getattr(origin, "__module__", "")).split(".")[0]
    if package in ("pyarrow", "polars"):
        return dict[str, Any]
    arguments = get_args(returns)
    return _without_none(arguments[0]) if len(arguments) == 1 else Untyped


_FRAMES: dict[tuple[str, str], Literal["arrow", "polars"]] = {
    ("pyarrow", "RecordBatch"): "arrow",
    ("polars", "DataFrame"): "polars",
}


def place_of(call: Callable[..., Any]) -> str:
    """The line where a function begins, as messages print it: `app.py:12`."""
    code = getattr(inspect.unwrap(call), "__code__", None)  # builtins have none
    return f"{_file(code.co_filename)}:{code.co_firstlineno}" if code else "no source"


def place_of_caller() -> str:
    """The line of the user's that is at work, as messages print it: `app.py:12`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("streamkit."):
        frame = frame.f_back
    return "" if frame is None else f"{_file(frame.f_code.co_filename)}:{frame.f_lineno}"


def _file(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1]


def _hints(call: Callable[..., Any], label: str) -> dict[str, Any]:
    target = call if inspect.isroutine(call) or isinstance(call, type) else type(call).__call__
    try:
        return get_type_hints(target)
    except NameError as error:
        raise TopologyError(
            f"{label}: an annotation cannot be resolved: {error}; define or import it at the top "
            "of the module"
        ) from error


def _arguments(
    parameters: list[inspect.Parameter],
    hints: dict[str, Any],
    label: str,
    event: int,
    leading: int,
    window: bool,
) -> tuple[bool, tuple[Extra, ...]]:
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return False, ()
    given = _given(parameters)
    if len(given) < leading:
        raise TopologyError(
            f"{label} takes {len(given)} argument(s), but is given {leading}; "
            f"{'the event comes first' if leading == 1 else 'see the docs of this operation'}"
        )
    for parameter in given[:leading]:
        hint = hints.get(parameter.name)
        kind = get_origin(hint) or hint
        if kind is Context or kind in _KINDS:
            raise TopologyError(
                f"{label}: parameter {parameter.name!r} is annotated {type_name(kind)}, but stands "
                "where the event is given; the event comes first"
            )
    wants_record = _is_record(hints.get(given[event].name)) if leading else False
    extras: list[Extra] = []
    closed = False
    for parameter in given[leading:]:
        extra = _extra(parameter, hints.get(parameter.name), window, label)
        if extra is not None and not closed:
            extras.append(extra)
        elif parameter.default is inspect.Parameter.empty or extra is not None:
            raise TopologyError(
                f"{label}: nothing to give to parameter {parameter.name!r}; annotate it: Context, "
                f"State[...]{' or Window' if window else ''}; parameters with defaults come last"
            )
        else:
            closed = True  # a default of the user's own
    for parameter in parameters:
        if (
            parameter.kind is inspect.Parameter.KEYWORD_ONLY
            and parameter.default is inspect.Parameter.empty
        ):
            raise TopologyError(f"{label}: nothing to give to keyword {parameter.name!r}")
    return wants_record, tuple(extras)


def _given(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each for each in parameters if each.kind in positional]


def _is_record(hint: Any) -> bool:
    return hint is Record or get_origin(hint) is Record


def _value(hint: Any) -> Any:
    """The type of the value that an event is annotated with."""
    if not _is_record(hint):
        return hint
    arguments = get_args(hint)
    return arguments[0] if arguments else Untyped


def _extra(parameter: inspect.Parameter, hint: Any, window: bool, label: str) -> Extra | None:
    if hint is Context:
        return "context"
    if hint is Window and window:
        return "window"
    kind = get_origin(hint) or hint
    if kind not in (State, ListState, MapState):
        return None
    types = get_args(hint) or (Any,) * _KINDS[kind]
    given = parameter.default
    if isinstance(given, State | ListState | MapState):
        if type(given) is not kind:
            raise TopologyError(
                f"{label}: parameter {parameter.name!r} is annotated {kind.__name__}, and its "
                f"default is a {type(given).__name__}"
            )
        ttl = given.ttl
    elif given is inspect.Parameter.empty:
        ttl = None
    else:
        raise TopologyError(
            f"{label}: parameter {parameter.name!r} is annotated {kind.__name__}, and its default "
            f"is {given!r}; leave it out, or give {kind.__name__}(ttl=...): what there is when "
            "nothing is kept is said where it is asked for, as in get(0)"
        )
    # Keys of which nothing is known are written as text, and read back as text.
    key = str if kind is not MapState or types[0] is Any else types[0]
    return Kept(parameter.name, kind, types[-1], key, ttl)


def _returned(call: Callable[..., Any], hints: dict[str, Any]) -> tuple[Any, bool | None]:
    hint = hints.get("return", call if isinstance(call, type) else Untyped)
    if hint is NoneType:
        return Untyped, None
    origin = get_origin(hint) or hint
    many: bool | None
    generates = inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call)
    if origin in _MANY or generates:
        arguments = get_args(hint)
        if not arguments:
            return Untyped, True
        return arguments[0], True
    many = None if hint in (Untyped, Any, object) else False
    return _without_none(hint), many


def _without_none(hint: Any) -> Any:
    """`Order | None` is `Order`: a step's None is "nothing", not a value."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    members = tuple(member for member in get_args(hint) if member is not NoneType)
    return Union[members] if members else NoneType  # noqa: UP007 (built at run time)


def fields(type_: Any) -> dict[str, Any] | None:
    """The typed fields of a Struct, dataclass or TypedDict; None when it has none to speak of."""
    if not isinstance(type_, type) or type_.__module__ == "builtins":
        return None
    try:
        return get_type_hints(type_) or None
    except NameError as error:
        raise TopologyError(
            f"{type_name(type_)}: an annotation cannot be resolved: {error}; define or import it "
            "at the top of the module"
        ) from error


def field_getter(type_: Any, name: str, what: str) -> tuple[Callable[[Any], Any], Any]:
    """How to read field `name` of a value of `type_`, and the field's type.

    Of a union all members need it. Raises TopologyError, naming the fields that exist.
    """
    known = fields(type_)
    origin = get_origin(type_) or type_
    is_mapping = isinstance(origin, type) and issubclass(origin, dict)
    if known is None:
        if is_mapping or type_ is Any:
            arguments = get_args(type_)
            return itemgetter(name), arguments[1] if len(arguments) == 2 else Any
        if origin in (Union, UnionType):
            of = [field_getter(member, name, what) for member in get_args(type_)]
            if len({type(get) for get, _ in of}) == 1:
                return of[0][0], Union[tuple(part for _, part in of)]  # noqa: UP007
        raise TopologyError(
            f"{what}: {type_name(type_)} has no fields to name; give a function instead of {name!r}"
        )
    if name not in known:
        raise TopologyError(
            f"{what}: {type_name(type_)} has no field {name!r}{nearest(name, known)}"
        )
    return (itemgetter(name) if is_mapping else attrgetter(name)), known[name]
