"""What functions keep: by hand, as in a unit test, against Python's own list and dict."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.app import App
from streamkit.dsl.functions import function
from streamkit.dsl.state import ListRows, ListState, MapState, Place, Span, State
from streamkit.errors import FunctionError, TopologyError
from streamkit.serde import serde_for


def test_a_state_made_by_hand_keeps_a_value() -> None:
    state = State[int]()
    assert state.get() is None
    assert state.get(3) == 3
    state.set(4)
    assert state.get(3) == 4
    state.delete()
    assert state.get() is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["append", "pop", "popleft", "set", "clear"]), st.integers(0, 9))
    )
)
def test_a_list_state_does_what_a_list_does(work: list[tuple[str, int]]) -> None:
    state, model = ListState[int](), list[int]()
    for what, n in work:
        match what:
            case "append":
                state.append(n)
                model.append(n)
            case "pop" | "popleft" if not model:
                with pytest.raises(IndexError):
                    getattr(state, what)()
            case "pop":
                assert state.pop() == model.pop()
            case "popleft":
                assert state.popleft() == model.pop(0)
            case "set" if n < len(model):
                state[n] = 77
                model[n] = 77
                state[-1 - n] = 78
                model[-1 - n] = 78
            case "clear" if n > 7:
                state.clear()
                model.clear()
        assert (list(state), len(state), state[1:3], state[::-1]) == (
            model,
            len(model),
            model[1:3],
            model[::-1],
        )
        if model:
            assert (state[0], state[-1]) == (model[0], model[-1])
    with pytest.raises(IndexError):
        state[len(model)]


@given(
    st.lists(st.tuples(st.sampled_from(["set", "delete", "pop"]), st.text("ab\xff", max_size=2)))
)
def test_a_map_state_does_what_a_dictionary_does(work: list[tuple[str, str]]) -> None:
    state, model = MapState[str, int](), dict[str, int]()
    for at, (what, key) in enumerate(work):
        if what == "set":
            state[key] = model[key] = at
        elif what == "pop":
            assert state.pop(key, None) == model.pop(key, None)
        elif key in model:
            del state[key], model[key]
        else:
            with pytest.raises(KeyError):
                del state[key]
        assert (key in state, state.get(key), state.get(key, -1)) == (
            key in model,
            model.get(key),
            model.get(key, -1),
        )
        assert dict(state) == model
        assert len(state) == len(model)
    assert list(state) == sorted(model)
    state.clear()
    assert not state


def test_none_is_nothing_that_could_be_kept() -> None:
    with pytest.raises(TypeError, match="no None"):
        ListState[Any]().append(None)
    with pytest.raises(TypeError, match="no None"):
        ListState[Any]()[0] = None
    entries = MapState[str, Any]()
    entries["a"] = 1
    entries["a"] = None
    assert "a" not in entries


@given(st.binary(max_size=4) | st.just(b"\0[1,2,3]"))
def test_items_and_spans_are_told_apart(item: bytes) -> None:
    rows = ListRows(serde_for(bytes))
    assert rows.decode(rows.encode(item)) == item
    span = rows.decode(rows.encode(Span(1, 20, -3)))
    assert (span.start, span.end, span.latest) == (1, 20, -3)


@given(st.lists(st.tuples(st.binary(max_size=3), st.text(max_size=2)), max_size=20))
def test_the_entries_of_a_key_are_not_another_keys(pairs: list[tuple[bytes, str]]) -> None:
    place, state = Place(), MapState[str, int]()
    state.bind(state._cells, place, "seen", serde_for(str), serde_for(int))
    model: dict[bytes, dict[str, int]] = {}
    for at, (key, entry) in enumerate(pairs):
        place.key = key
        state[entry] = at
        model.setdefault(key, {})[entry] = at
    for key, entries in model.items():
        place.key = key
        assert dict(state) == entries


@pytest.mark.parametrize("kind", [State, ListState, MapState])
def test_a_value_of_another_type_is_refused_where_it_is_kept(
    kind: type[Any],
) -> None:
    app, shown = App("a"), "x" * 70

    def keep(value: Any, kept: Any) -> Any:
        match kept:
            case State():
                kept.set(value)
                return str(kept.get())
            case ListState():
                kept.append(value)
                kept[0] = value
                return str(list(kept))
            case _:
                kept["x"] = value
                return str(dict(kept))

    of = {State: State[float], ListState: ListState[float], MapState: MapState[str, float]}[kind]
    keep.__annotations__ = {"value": Any, "kept": of, "return": str}
    # As a restart would find it: with the class that was declared.
    given = {
        State: ["1.5", "2.0"],
        ListState: ["[1.5]", "[2.0, 2.0]"],
        MapState: ["{'x': 1.5}", "{'x': 2.0}"],
    }[kind]
    app.stream("in", Any).process(keep, to="out", on_error="dlq")
    with app.test(partitions=1) as t:
        for value in (1.5, shown, 2):
            t.send("in", value, key="k")
        t.run()
        assert [record.value for record in t.topic("out")] == given
        (letter,) = t.topic("a-dlq")
    told = dict(letter.headers)["__streamkit.errors.exception.message"]
    assert told == f"state 'kept': expected float, got str: '{shown}'".encode()


def test_a_key_of_another_type_is_refused_where_a_map_is_given_it() -> None:
    app = App("a")

    @app.stream("in", Any).process(to="out")
    def keep(value: Any, kept: MapState[str, int]) -> None:
        kept[value] = 1

    with app.test(partitions=1) as t, pytest.raises(FunctionError) as caught:
        t.send("in", 7, key="k")
        t.run()
    assert "state 'kept', key 7: expected str, got int" in str(caught.value)


def test_a_map_by_hand_takes_keys_of_any_type() -> None:
    kept = MapState[Any, int]()
    model: dict[Any, int] = {"1": 1, 1: 2, (1, "a"): 3, 2.5: 4}
    kept.update(model)
    assert dict(kept) == model
    del kept[1]
    assert 1 not in kept and kept["1"] == 1


def test_what_a_function_keeps_is_read_from_its_signature() -> None:
    def f(
        value: int,
        one: State[int],
        some: ListState[str] = ListState(ttl="2s"),  # noqa: B008
        more: MapState[int, float] = MapState(),  # noqa: B008
        any_: State = State(),  # type: ignore[type-arg]  # noqa: B008
    ) -> None: ...

    kept = function(f).states
    assert [(k.parameter, k.kind, k.type, k.key, k.ttl) for k in kept] == [
        ("one", State, int, str, None),
        ("some", ListState, str, str, 2000),
        ("more", MapState, float, int, None),
        ("any_", State, Any, str, None),
    ]


def test_what_a_state_does_not_take_is_told_with_where_it_is_said() -> None:
    kept: Any = State
    with pytest.raises(TopologyError, match=r"^State\(0\): it takes ttl=.* \.get\(0\)$"):
        kept(0)
    with pytest.raises(
        TopologyError, match=r"^State\(name=\): .* after the function and the param"
    ):
        kept(name="seen")
    assert State[int](ttl="1s").ttl == 1000


def test_a_default_of_another_kind_is_refused() -> None:
    def f(value: int, one: State[int] = ListState()) -> None: ...  # type: ignore[assignment]  # noqa: B008

    with pytest.raises(TopologyError, match="'one' is annotated State, and its default is a List"):
        function(f)
