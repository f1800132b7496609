"""What an app may declare as a resource, and what is told of what it may not."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from streamkit import App, TopologyError, UsageError


def wants(there: int) -> int:
    return there


@contextmanager
def entered() -> Iterator[int]:
    yield 1


@asynccontextmanager
async def awaited() -> AsyncIterator[int]:
    yield 1


def returns() -> Iterator[int]:
    return iter([1])


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (wants, "nothing to give to parameter 'there'"),
        (entered, "leave that decorator out"),
        (awaited, "leave that decorator out"),
        (returns, "annotated as what yields, and returns"),
    ],
)
def test_what_cannot_be_opened_is_refused_where_it_is_declared(
    call: Callable[..., Any], told: str
) -> None:
    with pytest.raises(TopologyError, match=told) as raised:
        App("shop").resource(call)
    assert "test_resources.py:" in str(raised.value)


def test_what_is_async_is_not_opened_late() -> None:
    with pytest.raises(TopologyError, match="lazy=True"):

        @App("shop").resource(lazy=True)
        async def model() -> int:
            return 1


def test_it_says_what_to_do_where_no_app_runs_and_bears_the_name_of_its_function() -> None:
    app = App("shop")

    @app.resource
    def database() -> Iterator[int]:
        """The one with the orders."""
        yield 1

    app.stream("orders", int).to("out")
    assert (database.__name__, database.__doc__) == ("database", "The one with the orders.")
    assert app.topology().resources == (database,)
    with pytest.raises(UsageError, match=r"database \(.*\) is not open.*app\.test\(resources="):
        database()


def test_a_class_that_asks_for_nothing_is_one_too() -> None:
    class Model:
        pass

    app = App("shop")
    model = app.resource(Model)
    orders = app.stream("orders", int)

    @orders.process(to="kinds")
    def kind(order: int) -> str:
        return type(model()).__name__

    with app.test() as t:
        t.send("orders", 1)
        t.run()
        assert t.values("kinds") == ["Model"]
