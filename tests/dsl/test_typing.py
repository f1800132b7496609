"""What a type checker sees: streams carry their types, and wrong functions are found."""

import re
from pathlib import Path

import pytest
from mypy import api

PREAMBLE = """
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TypeGuard, reveal_type
from typing_extensions import TypeIs
import msgspec
from streamkit.app import App
from streamkit.connect import SourceContext, SourceItem, sink, source
from streamkit.dsl.context import Context
from streamkit.dsl.failures import dlq, retry
from streamkit.dsl.state import ListState, MapState, State
from streamkit.dsl.aggregates import count, quantile, sum_
from streamkit.dsl.ticks import Tick
from streamkit.dsl.timers import Timer
from streamkit.dsl.windows import Window, every, hopping, session, sliding, tumbling
from streamkit.records import Record

class Order(msgspec.Struct):
    customer: str
    amount: float

class Customer(msgspec.Struct):
    name: str

@dataclass(frozen=True)
class Options:
    topic: str

class Visit(msgspec.Struct):
    customer: str
    page: str

class Frame:
    @property
    def schema(self) -> dict[str, type]: return {}

class Large(Order):
    by: str

class City(msgspec.Struct):
    city: str

class Living(msgspec.Struct):
    name: str
    city: str

app = App("shop")
orders = app.stream("orders", Order)
customers = app.table("customers", Customer)
visits = app.stream("visits", Visit)
cities = app.table("cities", City)
minute = tumbling("1m", grace="0s")
"""

SNIPPETS = {
    # name: (code, what mypy has to say about it, as (line of the snippet, text))
    "process_optional": (
        """
@orders.process(to="big")
def big(order: Order) -> Customer | None:
    return None
reveal_type(big.filter(bool))
reveal_type(big(Order("a", 1)))
""",
        [(5, "Step[[Customer], Any, Customer]"), (6, "Customer | None")],
    ),
    "time_functions": (
        """
reveal_type(app.stream("a", Order, time=lambda order: order.amount))
reveal_type(app.stream("b", dict[str, int], time=lambda order: order["at"]))
reveal_type(app.stream("c", Order | Visit, time=lambda either: either.customer))
app.stream("d", Order, time=lambda order: order.amuont)
""",
        [
            (5, '"Order" has no attribute "amuont"'),
            (2, "Stream[Order]"),
            (3, "Stream[dict[str, int]]"),
            (4, "Stream[Any]"),
        ],
    ),
    "filters_that_narrow": (
        """
def is_order(event: Order | Visit) -> TypeIs[Order]:
    return isinstance(event, Order)
def is_large(order: Order) -> TypeGuard[Large]:
    return order.amount > 100
found = app.stream("either", Order | Visit).filter(is_order)
reveal_type(found)
reveal_type(found.filter(is_large).map(lambda order: order.by))
visits.filter(is_large)
""",
        [
            (9, 'Argument 1 to "filter"'),
            (7, "Order]"),
            (8, "Step[[Large], str, str]"),
        ],
    ),
    "process_generator_with_context": (
        """
@orders.process()
def names(order: Record[Order], context: Context, seen: State[int]) -> Iterator[str]:
    yield order.value.customer
reveal_type(names.by(len))
""",
        [(5, "Stream[str]")],
    ),
    "sources_and_sinks": (
        """
@sink(config=Options)
def write(options: Options, records: list[Record[bytes | None]]) -> None:
    pass

@source(config=Options)
def read(options: Options, context: SourceContext) -> Iterator[SourceItem]:
    yield from ()

reveal_type(app.source("FileSource", Visit, to="in", path="in"))
reveal_type(app.source(read, Visit, to="read", limit=3))
reveal_type(app.source(read, Visit, to="again", time="page", partitions=2))
reveal_type(orders.sink(write).sink("FileSink", path="out"))
app.source(write, Visit, to="in")
orders.sink(read)
app.source(read, Visit)
""",
        [
            (14, 'No overload variant of "source"'),
            (15, 'Argument 1 to "sink" of "Stream" has incompatible type'),
            (16, 'No overload variant of "source"'),
            (10, "Stream[Visit]"),
            (11, "Stream[Visit]"),
            (12, "Stream[Visit]"),
            (13, "Stream[Order]"),
        ],
    ),
    "on_error": (
        """
@orders.process(to="big", on_error=retry(3, backoff="1s", then=dlq(mode="key")))
def big(order: Order) -> Customer | None:
    return None
reveal_type(big)
reveal_type(orders.map(lambda order: order.amount, on_error="skip"))
orders.map(big, on_error="drop")
retry(3, then="retry")
""",
        [
            (7, 'No overload variant of "map"'),
            (8, 'Argument "then" to "retry" has incompatible type'),
            (5, "Step[[Order], Customer | None, Customer]"),
            (6, "Step[[Order], float, float]"),
        ],
    ),
    "states": (
        """
@orders.process()
def f(
    order: Order,
    count: State[int],
    recent: ListState[Order] = ListState(ttl="1d"),
    paid: MapState[str, float] = MapState(ttl="1h"),
) -> int:
    reveal_type(count.get())
    reveal_type(count.get(0))
    reveal_type(recent[0])
    reveal_type(recent[1:])
    reveal_type([o.amount for o in recent])
    reveal_type(paid["a"])
    reveal_type(paid.get("a", None))
    reveal_type(list(paid.items()))
    count.set("1")
    recent.append(1)
    paid[1] = 1
    return 0
""",
        [
            (17, "error"),
            (18, "error"),
            (19, "error"),
            (9, "int | None"),
            (10, "int"),
            (11, "Order"),
            (12, "list[Order]"),
            (13, "list[float]"),
            (14, "float"),
            (15, "float | None"),
            (16, "list[tuple[str, float]]"),
        ],
    ),
    "process_async": (
        """
@orders.process(to="big", concurrency=8, order="key", timeout="5s")
async def big(order: Order, context: Context) -> Customer | None:
    return None
@orders.process
async def names(order: Record[Order]) -> str:
    return order.value.customer
@orders.process()
async def letters(order: Order) -> AsyncIterator[str]:
    yield "a"
@orders.process()
async def wrong(order: Customer) -> None: ...
reveal_type(big.filter(bool))
reveal_type(names.filter(bool))
reveal_type(letters.by(len))
reveal_type(big(Order("a", 1), Context("", print)))
""",
        [
            (11, "error"),
            (16, "unused-coroutine"),
            (13, "Step[[Customer], Any, Customer]"),
            (14, "Step[[str], Any, str]"),
            (15, "Stream[str]"),
            (16, "Coroutine[Any, Any, Customer | None]"),
        ],
    ),
    "process_batch": (
        """
@orders.process(batch=100, within="50ms", to="names")
def names(orders: list[Order]) -> list[str]:
    return [order.customer for order in orders]
@orders.process(batch=100)
async def totals(orders: list[Record[Order]], context: Context) -> list[float] | None:
    return None
@orders.process(batch=10, workers=4)
def each(orders: list[Order]) -> Iterator[Customer]:
    yield Customer("a")
@orders.process(batch=100)
def frames(orders: Frame) -> Frame:
    return orders
reveal_type(names.by(str))
reveal_type(totals.by(str))
reveal_type(each.by(str))
reveal_type(frames.by(str))
orders.process(batch=10, order="key")
@orders.process(batch=10)
def others(customers: list[Customer]) -> list[str]:
    return []
@orders.process(batch=10)
def records(records: list[Record[Customer]]) -> list[str]:
    return []
@orders.process(batch=10)
def alone(order: Order) -> list[str]:
    return []
""",
        [
            (18, "error"),
            (19, 'expected "Callable[[list[Order]], Iterable[str | None] | None]"'),
            (22, "error"),
            (25, "error"),
            (14, "Stream[str]"),
            (15, "Stream[float]"),
            (16, "Stream[Customer]"),
            (17, "Stream[Any]"),
        ],
    ),
    "process_without_parentheses": (
        """
@orders.process
def big(order: Order, context: Context) -> Customer | None:
    return None
@orders.process
def wrong(order: Customer) -> Visit: return Visit("", "")
reveal_type(big.by(str))
@orders.process
def data(order: Order) -> Options: return Options("")
reveal_type(data.by(str))
@orders.process
def rows(order: Order) -> tuple[str, int]: return "", 1
reveal_type(rows.by(str))
""",
        [
            (5, 'expected "Callable[[Order], Visit | None]"'),
            (7, "Stream[Customer]"),
            (10, "Stream[Options]"),
            (13, "Stream[tuple[str, int]]"),
        ],
    ),
    "aggregate": (
        """
@orders.by("customer").window(minute).aggregate(to="t", emit="update")
def total(sofar: float | None, order: Order, window: Window) -> float:
    return (sofar or 0.0) + order.amount
reveal_type(total.by(str))
reveal_type(orders.window(minute).count())
""",
        [(5, "Stream[float]"), (6, "Stream[int]")],
    ),
    "ready_made_aggregates": (
        """
reveal_type(orders.window(hopping("1m", "10s")).mean("amount", emit=every("10s")))
reveal_type(orders.window(sliding("1m")).top_k(3, "amount"))
reveal_type(orders.by("customer").count())
class Totals(msgspec.Struct):
    n: int
    high: float | None
several = orders.by("customer").window(session("30m"))
reveal_type(several.aggregates(Totals, n=count(), high=quantile(0.9, "amount"), to="totals"))
reveal_type(orders.by("customer").aggregates(n=count(), total=sum_("amount")))
orders.aggregates(n=len)
orders.window(session("30m")).sum(lambda order: order.amuont)
""",
        [
            (11, "error"),
            (12, "error"),
            (2, "Stream[float | None]"),
            (3, "Stream[list[Order]]"),
            (4, "Stream[int]"),
            (9, "Stream[Totals]"),
            (10, "Stream[Any]"),
        ],
    ),
    "reductions": (
        """
@orders.window(minute).reduce
def larger(one: Order, other: Order) -> Order:
    return max(one, other, key=lambda order: order.amount)
@orders.reduce(to="latest")
def latest(one: Order, other: Order) -> Order:
    return other
reveal_type(larger.by(str))
reveal_type(latest(Order("a", 1), Order("b", 2)))
@orders.reduce
def wrong(one: Order, other: Order) -> str:
    return ""
@orders.aggregate(to="running")
def total(sofar: float | None, order: Order) -> float:
    return (sofar or 0.0) + order.amount
reveal_type(total.by(str))
""",
        [(10, "error"), (8, "Stream[Order]"), (9, "Order"), (16, "Stream[float]")],
    ),
    "joins": (
        """
@orders.join(customers, on="customer", how="left")
def left(order: Order, customer: Customer | None) -> str:
    return customer.name if customer else ""
@orders.join(customers, on="customer")
def inner(order: Order, customer: Customer) -> int | None:
    return None
reveal_type(left.by(str))
reveal_type(inner.by(str))
""",
        [(8, "Stream[str]"), (9, "Stream[int]")],
    ),
    "stream_joins": (
        """
@orders.join(visits, within="1m", on="customer")
def near(order: Order, visit: Visit) -> str | None:
    return visit.page
@orders.join(visits, before="1m", how="left", to="t")
def left(order: Order, visit: Visit | None, context: Context) -> Iterator[int]:
    yield 1
@orders.join(visits, within="1m", how="outer")
def outer(order: Order | None, visit: Visit | None) -> float:
    return 1.0
@orders.join_as_of(visits, tolerance="1h", direction="nearest")
def as_of(order: Order, visit: Visit) -> Visit:
    return visit
@orders.join_as_of(visits, tolerance="1h", how="left")
def as_of_left(order: Order, visit: Visit | None) -> Visit:
    return Visit("", "")
reveal_type(near.by(str))
reveal_type(left.by(str))
reveal_type(outer.by(str))
reveal_type(as_of.by(str))
reveal_type(as_of_left.by(str))
reveal_type(near(Order("a", 1.0), Visit("a", "b")))
""",
        [
            (17, "Stream[str]"),
            (18, "Stream[int]"),
            (19, "Stream[float]"),
            (20, "Stream[Visit]"),
            (21, "Stream[Visit]"),
            (22, "str | None"),
        ],
    ),
    "stream_joins_that_are_wrong": (
        """
@orders.join(visits, within="1m")
def turned(visit: Visit, order: Order) -> str:
    return ""
@orders.join(visits, within="1m", how="left")
def without_none(order: Order, visit: Visit) -> str:
    return ""
@orders.join(visits, within="1m", how="outer")
def half(order: Order, visit: Visit | None) -> str:
    return ""
@orders.join_as_of(visits, tolerance="1h")
def record(order: Record[Order], visit: Visit) -> str:
    return ""
orders.join_as_of(visits, tolerance="1h", direction="sideways")
orders.join(visits, within="1m", history="1h")
orders.join(customers, within="1m")
""",
        [
            (2, "error"),
            (5, "error"),
            (8, "error"),
            (11, "error"),
            (14, "error"),
            (15, "error"),
            (16, "error"),
        ],
    ),
    "flows": (
        """
reveal_type(orders.merge(orders.filter(bool)))
large, small = orders.branch(lambda order: order.amount > 100)
reveal_type(small)
reveal_type(orders.through("t", key="customer"))
orders.merge(visits)
orders.branch(lambda order: order.amont > 100)
""",
        [
            (6, "error"),
            (7, "error"),
            (2, "Stream[Order]"),
            (4, "Stream[Order]"),
            (5, "Stream[Order]"),
        ],
    ),
    "tables": (
        """
@customers.join(cities, how="left", to="living")
def living(customer: Customer, city: City | None) -> Living | None:
    return None
@customers.join(cities, how="outer")
def both(customer: Customer | None, city: City | None) -> Living:
    return Living("", "")
@orders.join(living, how="left", history="1h")
def at(order: Order, row: Living | None) -> str:
    return ""
spent = orders.map(lambda o: o.amount).to_table()
@orders.join(spent)
def share(order: Order, total: float) -> float:
    return order.amount / total
reveal_type(living)
reveal_type(living(Customer(""), None))
reveal_type(both.to("t"))
reveal_type(at.by(str))
reveal_type(share.by(str))
""",
        [
            (15, "MadeTable[[Customer, City | None], Living | None, Living]"),
            (16, "Living | None"),
            (17, "Table[Living]"),
            (18, "Stream[str]"),
            (19, "Stream[float]"),
        ],
    ),
    "tables_that_are_wrong": (
        """
@customers.join(cities)
def turned(city: City, customer: Customer) -> Living:
    return Living("", "")
@customers.join(cities, how="left")
def without_none(customer: Customer, city: City) -> Living:
    return Living("", "")
@customers.join(cities)
def asks(customer: Customer, city: City, context: Context) -> Living:
    return Living("", "")
""",
        [(2, "error"), (5, "error"), (8, "error")],
    ),
    "lambdas": (
        """
reveal_type(orders.filter(lambda o: o.amount > 1).map(lambda o: o.customer).by(len))
reveal_type(orders.flat_map(lambda o: [o.amount]).by(str))
""",
        [(2, "Stream[str]"), (3, "Stream[float]")],
    ),
    "union_source": (
        """
reveal_type(app.stream("tombstones", Order | None))
""",
        [(2, "Stream[Any]")],
    ),
    "wrong_event": (
        """
@orders.process()
def f(order: Customer) -> Customer:
    return order
@orders.join(customers)
def g(order: Order, row: City) -> str:
    return row.city
""",
        [
            (2, 'expected "Callable[[Order], Customer | None]"'),
            (5, 'expected "Callable[[Order, Customer], str | None]"'),
        ],
    ),
    "wrong_chain": (
        """
@orders.map
def name(order: Order) -> str:
    return order.customer
@name.process()
def f(order: Order) -> Order:
    return order
""",
        [(5, "error")],
    ),
    "left_join_without_none": (
        """
@orders.join(customers, how="left")
def f(order: Order, customer: Customer) -> str:
    return customer.name
""",
        [(2, "error")],
    ),
    "fold_to_another_type": (
        """
@orders.window(minute).aggregate()
def f(sofar: int | None, order: Order) -> str:
    return ""
""",
        [(2, "error")],
    ),
    "wrong_attribute_in_lambda": (
        """
orders.filter(lambda o: o.amout > 1)
""",
        [(2, "error")],
    ),
    "wrong_emit": (
        """
orders.window(minute).count(emit="sometimes")
""",
        [(2, "error")],
    ),
    "timers": (
        """
@orders.process()
def cart(order: Order, items: State[int], context: Context) -> None:
    context.timer(after="30m")
    context.timer("noon", at=order.amount)
    context.timer(5, after="1s")
@cart.on_timer
def left(timer: Timer, items: State[int]) -> Customer | None:
    reveal_type(timer.time)
    return None
@cart.on_timer(to="all")
def each(timer: Timer) -> Iterator[int]:
    yield 1
reveal_type(left)
reveal_type(each.filter(bool))
@left.process
def wrong(order: Order) -> None: ...
@cart.on_timer
def not_given(order: Order) -> None: ...
""",
        [
            (5, "error"),
            (6, "error"),
            (16, "error"),
            (18, "error"),
            (9, "datetime"),
            (14, "Step[[Timer, items: State[int]], Customer | None, Customer]"),
            (15, "Step[[int], Any, int]"),
        ],
    ),
    "resources": (
        """
@app.resource
def database() -> Iterator[Customer]:
    yield Customer("a")
@app.resource
async def client() -> AsyncIterator[Visit]:
    yield Visit("a", "b")
@app.resource
async def pool() -> Living:
    return Living("a", "b")
@app.resource(lazy=True)
def model() -> City:
    return City("a")
@app.resource(lazy=True)
def late() -> Iterator[City]:
    yield City("a")
reveal_type(database)
reveal_type(client())
reveal_type(pool())
reveal_type(model())
reveal_type(late())
@orders.process(to="asked")
async def ask(order: Order) -> str:
    return client().page + database().name
app.test(resources={client: Visit("a", "b")})
@app.resource
def wants(order: Order) -> City: return City("a")
database().page
database(1)
app.test(resources={"client": 1})
""",
        [
            (26, "error"),
            (28, "no attribute"),
            (29, "Too many arguments"),
            (30, "error"),
            (17, "Resource[Customer]"),
            (18, "Visit"),
            (19, "Living"),
            (20, "City"),
            (21, "City"),
        ],
    ),
    "ticks": (
        """
@app.every("10s", to="beats")
def beat(tick: Tick, count: State[int]) -> str | None:
    reveal_type(tick.time)
    return None
@app.cron("0 * * * *", tz="Europe/Berlin", missed="all")
def hourly() -> Iterator[int]:
    yield 1
@app.every("1m")
def minutely(context: Context) -> Order:
    return Order("a", 1)
reveal_type(beat.map(len))
reveal_type(hourly)
reveal_type(minutely)
@app.every("1m", missed="some")
def other() -> None: ...
@app.every("1m")
def wrong(order: Order) -> None: ...
@app.every(60)
def unit() -> None: ...
""",
        [
            (15, "error"),
            (17, "error"),
            (19, "error"),
            (4, "datetime"),
            (12, "Step[[str], int, int]"),
            (13, "Step[[], Iterator[int], int]"),
            (14, "Step[[Context], Order | None, Order]"),
        ],
    ),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[int, str]]]:
    """What mypy --strict says about each snippet; one run for all, since a run costs seconds."""
    folder = tmp_path_factory.mktemp("snippets")
    for name, (code, _) in SNIPPETS.items():
        (folder / f"snippet_{name}.py").write_text(PREAMBLE + code)
    out, err, _ = api.run(
        ["--strict", "--no-error-summary", "--no-incremental", "--config-file=", str(folder)]
    )
    assert not err, err
    skipped = PREAMBLE.count("\n")
    found: dict[str, list[tuple[int, str]]] = {name: [] for name in SNIPPETS}
    for line in out.splitlines():
        match = re.match(r"(.*\.py):(\d+): (.*)", line)
        assert match, line
        name = Path(match[1]).stem.removeprefix("snippet_")
        assert name in found, line
        found[name].append((int(match[2]) - skipped, match[3]))
    return found


@pytest.mark.parametrize("name", SNIPPETS)
def test_the_type_checker_says_this_and_nothing_else(
    name: str, said: dict[str, list[tuple[int, str]]]
) -> None:
    expected = SNIPPETS[name][1]
    told = [(line, text) for line, text in said[name] if not text.startswith("note: ")] + [
        (line, text) for line, text in said[name] if "Revealed type" in text
    ]
    assert [line for line, _ in told] == [line for line, _ in expected], said[name]
    for (_, text), (_, part) in zip(told, expected, strict=True):
        plain = re.sub(r"[a-z_]+(\.[a-z_]+)*\.(?=[A-Z])|builtins\.|typing\.", "", text)
        assert part in plain, text
