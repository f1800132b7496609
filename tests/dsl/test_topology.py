"""What an app's declarations come to, as data, and which are refused."""

from collections.abc import Callable, Iterator
from typing import Any, TypeGuard

import msgspec
import pytest

from streamkit.app import App
from streamkit.dsl.context import Context
from streamkit.dsl.state import State
from streamkit.dsl.windows import Window, tumbling
from streamkit.errors import ConfigError, InvalidTopic, TopologyError
from streamkit.records import Record

MINUTE = tumbling("1m", grace="0s")


class Order(msgspec.Struct):
    customer: str
    amount: int


class Customer(msgspec.Struct):
    name: str


class Sale(msgspec.Struct, tag=True):
    shop: str
    at: int
    price: int


class Refund(msgspec.Struct, tag=True):
    shop: str
    at: int


def test_a_simple_app_is_one_sub_topology_named_after_its_topic() -> None:
    app = App("shop")

    @app.stream("orders", Order).process(to="big")
    def big(order: Order) -> Order | None:
        return order if order.amount > 10 else None

    topology = app.topology()
    assert [sub.name for sub in topology.subtopologies] == ["orders"]
    assert (topology.sources, topology.sinks, topology.internal) == (("orders",), ("big",), ())
    assert big(Order("a", 5)) is None  # still the function it was


def test_a_key_change_before_a_window_cuts_the_app_in_two() -> None:
    app = App("shop")
    orders = app.stream("orders", Order)

    @orders.by("customer").window(MINUTE).aggregate(to="totals", any_order=True)
    def total(sofar: int | None, order: Order) -> int:
        return (sofar or 0) + order.amount

    before, after = app.topology().subtopologies
    assert before.repartitions == ("shop-orders-by-customer-repartition",)
    assert after.streams[0].upstream == before.name == "orders"
    assert [(one.name, one.changelog) for one in after.stores] == [
        ("total", "shop-total-changelog")
    ]
    assert after.sinks == ("shop-total-late", "totals")
    layout = app.topology().layout({"orders": 3})
    assert set(layout.tasks.values()) == {3}
    assert layout.create["shop-total-changelog"].config == {"cleanup.policy": "compact"}
    assert layout.create["shop-orders-by-customer-repartition"].config == {"retention.ms": "-1"}


@pytest.mark.parametrize(("type_", "key", "data"), [(None, "x", b"x"), (int, 3, b"3")])
def test_a_key_from_a_dict_is_text_unless_another_type_is_asked_for(
    type_: Any, key: Any, data: bytes
) -> None:
    app = App("shop")
    app.stream("in", dict).by("k", type_=type_).window(MINUTE).count(to="n", emit="update")
    with app.test(partitions=1) as t:
        t.send("in", {"k": key})
        t.run()
        assert key in [record.key for record in t.topic("shop-in-by-k-repartition")]
        (found,) = t.topic("n")
        assert found.key == key
        sub = app.topology().subtopologies[1]
        assert sub.streams[0].key.encode(key) == data


def test_a_key_change_that_only_goes_to_a_topic_needs_no_repartition() -> None:
    app = App("shop")
    app.stream("orders", Order).by("customer").filter(lambda order: order.amount).to("keyed")
    assert app.topology().internal == ()


def test_an_order_that_nothing_would_go_by_is_refused() -> None:
    app = App("shop")
    orders = app.stream("orders", Order)
    orders.by("customer", in_order=True).map(lambda order: order.amount).to("amounts")
    with pytest.raises(
        TopologyError, match=r"^'orders-by-customer': .* no effect, .*Leave it out$"
    ):
        app.topology()

    app = App("shop")
    orders = app.stream("orders", Order)
    lefts, rights = (orders.by("customer", name=n, in_order=n == "one") for n in ("one", "two"))

    def pair(order: Order, other: Order) -> Order:
        return order

    lefts.join(rights, within="5m", to="pairs")(pair)
    with pytest.raises(TopologyError, match="not reach behind 'pair'"):
        app.topology()
    lefts.count(to="counts")
    assert len(app.topology().subtopologies) == 2

    with pytest.raises(TopologyError, match="before with in_order=True; say the same, or"):
        orders.by("customer", name="one")
    with pytest.raises(TopologyError, match="before without in_order=True; say the same, or"):
        orders.by("customer", name="two", in_order=True)


def test_two_windows_by_one_field_share_a_repartition_topic() -> None:
    app = App("shop")
    orders = app.stream("orders", Order)
    orders.by("customer").window(MINUTE).count(to="a", name="a")
    orders.by("customer").window(MINUTE).count(to="b", name="b")
    assert len(app.topology().subtopologies) == 2


def test_joining_on_a_field_repartitions_to_as_many_partitions_as_the_table() -> None:
    app = App("shop")
    customers = app.table("customers", Customer)

    @app.stream("orders", Order).join(customers, on="customer", to="named")
    def named(order: Order, customer: Customer) -> dict[str, Any]:
        return {"name": customer.name}

    layout = app.topology().layout({"orders": 2, "customers": 5})
    assert layout.partitions["shop-orders-by-customer-repartition"] == 5


def test_a_global_table_is_joined_where_the_stream_is() -> None:
    app = App("shop")
    customers = app.global_table("customers", Customer)

    @app.stream("orders", Order).join(customers, on="customer", to="named")
    def named(order: Order, customer: Customer) -> str:
        return customer.name

    (sub,) = app.topology().subtopologies
    assert [table.topic for table in sub.global_tables] == ["customers"]
    assert app.topology().layout({"orders": 2, "customers": 5}).tasks == {"orders": 2}


def test_a_field_that_all_of_a_union_have_is_named_as_one_of_a_single_type() -> None:
    app = App("shop")
    app.stream("events", Sale | Refund, time="at").by("shop").count(to="counts")
    with app.test() as t:
        t.send("events", Sale("a", 7, 10))
        t.send("events", Refund("a", 9))
        t.run()
        assert [(one.key, one.timestamp, one.value) for one in t.topic("counts")] == [
            ("a", 7, 1),
            ("a", 9, 2),
        ]


def test_a_topic_between_two_streams_of_an_app_is_no_source_of_it() -> None:
    app = App("shop")
    app.stream("orders", Order).to("copied")
    app.stream("copied", Order).to("twice")
    topology = app.topology()
    assert topology.sources == ("orders",)
    assert topology.layout({"orders": 3}).partitions == {"orders": 3, "copied": 3, "twice": 3}


def test_tables_and_streams_of_different_sizes_are_refused_with_the_way_out() -> None:
    app = App("shop")
    customers = app.table("customers", Customer)

    @app.stream("orders", Order).join(customers)
    def named(order: Order, customer: Customer) -> None: ...

    with pytest.raises(TopologyError, match=r"orders has 2, customers has 3.*global_table"):
        app.topology().layout({"orders": 2, "customers": 3})


def test_state_kept_for_another_number_of_partitions_is_refused() -> None:
    app = App("shop")
    app.stream("orders", Order).window(MINUTE).count(name="n")
    with pytest.raises(TopologyError, match="shop-n-changelog has 2 partitions"):
        app.topology().layout({"orders": 4, "shop-n-changelog": 2})


def test_a_missing_source_is_named_with_the_command_that_makes_it() -> None:
    app = App("shop")
    app.stream("orders", Order).to("copy")
    with pytest.raises(TopologyError, match="streamkit topics create orders"):
        app.topology().layout({})


def _declare(name: str) -> Callable[[App], object]:
    def by_wrong_field(app: App) -> object:
        return app.stream("orders", Order).by("custmer")

    def by_a_field_of_one(app: App) -> object:
        return app.stream("orders", Sale | Refund).by("price")

    def keyed_by_lambda(app: App) -> object:
        return app.stream("orders", Order).by(lambda order: order.customer)

    def same_topic(app: App) -> object:
        return app.stream("orders", Order), app.table("orders", Order)

    def same_store(app: App) -> object:
        stream = app.stream("orders", Order)
        stream.window(MINUTE).count(name="n")
        return stream.window(MINUTE).count(name="n")

    def async_function(app: App) -> object:
        async def later(order: Order) -> Order:
            return order

        return app.stream("orders", Order).map(later)

    def async_join(app: App) -> object:
        @app.stream("orders", Order).join(app.table("customers", Customer))
        async def later(order: Order, customer: Customer) -> Order:
            return order

        return later

    def time_of_others(app: App) -> object:
        def born(customer: Customer) -> int:
            return 1

        return app.stream("orders", Order, time=born)

    def time_of_a_record(app: App) -> object:
        def stamp(record: Record[Order]) -> int:
            return record.timestamp

        return app.stream("orders", Order, time=stamp)

    def unknown_parameter(app: App) -> object:
        def f(order: Order, limit: int) -> Order:
            return order

        return app.stream("orders", Order).process()(f)

    def window_outside(app: App) -> object:
        def f(order: Order, window: Window) -> Order:
            return order

        return app.stream("orders", Order).map(f)

    def size_for_a_window(app: App) -> object:
        return app.stream("orders", Order).window("5m")  # type: ignore[arg-type]

    def context_first(app: App) -> object:
        def f(context: Context, order: Order) -> Order:
            return order

        return app.stream("orders", Order).map(f)

    def name_from_a_function(app: App) -> object:
        return app.stream("orders", Order).map(len, name=lambda: "n")  # type: ignore[call-overload]

    def initial_state(app: App) -> object:
        def f(order: Order, seen: State[int] = 3) -> Order:  # type: ignore[assignment]
            return order

        return app.stream("orders", Order).process()(f)

    def sum_of_text(app: App) -> object:
        return app.stream("orders", Order).sum("customer")

    def no_event(app: App) -> object:
        def f() -> int:
            return 1

        return app.stream("orders", Order).map(f)  # type: ignore[call-overload]

    def untyped_fold(app: App) -> object:
        def f(sofar, order):  # type: ignore[no-untyped-def]
            return 1

        return app.stream("orders", Order).window(MINUTE).aggregate()(f)

    def other_key(app: App) -> object:
        table = app.table("customers", Customer, key=int)
        return app.stream("orders", Order).join(table)

    def unknown_how(app: App) -> object:
        table = app.table("customers", Customer)
        return app.stream("orders", Order).join(table, how="outer")  # type: ignore[call-overload]

    def unknown_emit(app: App) -> object:
        return app.stream("orders", Order).window(MINUTE).count(emit="always")  # type: ignore[arg-type]

    def on_error_of_a_window(app: App) -> object:
        return app.stream("orders", Order).window(MINUTE).aggregate(on_error="skip")  # type: ignore[call-arg]

    def emit_of_a_total(app: App) -> object:
        return app.stream("orders", Order).count(emit="final")  # type: ignore[call-arg]

    def misspelt(app: App) -> object:
        return app.stream("orders", Order).process(on_eror="skip")  # type: ignore[call-overload]

    def grace_beside_the_window(app: App) -> object:
        return app.stream("orders", Order).window(tumbling("5m"), grace="1m")  # type: ignore[call-arg]

    def of_the_app(app: App) -> object:
        return app.table("orders", Order, tiem="at")  # type: ignore[call-arg]

    def gives_many(order: Order) -> Iterator[bool]:
        yield order.amount > 1

    def gives_none(order: Order) -> None: ...

    def filter_by_many(app: App) -> object:
        return app.stream("orders", Order).filter(gives_many)

    def filter_by_none(app: App) -> object:
        return app.stream("orders", Order).filter(gives_none)

    def branch_by_many(app: App) -> object:
        return app.stream("orders", Order).branch(lambda order: True, gives_many)

    def branch_by_none(app: App) -> object:
        return app.stream("orders", Order).branch(gives_none)

    def branch_by_async(app: App) -> object:
        async def asked(order: Order) -> bool:
            return True

        return app.stream("orders", Order).branch(asked)

    def key_of_many(app: App) -> object:
        return app.stream("orders", Order).by(gives_many)

    def time_of_none(app: App) -> object:
        return app.stream("orders", Order, time=gives_none)

    def joined_with_a_name(app: App) -> object:
        return app.stream("orders", Order).join("customers")  # type: ignore[call-overload]

    def joined_as_of_a_name(app: App) -> object:
        return app.stream("orders", Order).join_as_of("prices", tolerance="1s")  # type: ignore[call-overload]

    def joined_as_of_a_table(app: App) -> object:
        orders, prices = app.stream("orders", Order), app.table("prices", float)
        return orders.join_as_of(prices, tolerance="1s")  # type: ignore[call-overload]

    def table_joined_with_a_name(app: App) -> object:
        return app.table("orders", Order).join("customers")  # type: ignore[call-overload]

    return {k: v for k, v in locals().items() if callable(v)}[name]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("filter_by_many", r"gives_many \(.*gives an iterator; it is to return whether its event"),
        ("filter_by_none", r"gives_none \(.*is annotated to give None; it is to return whether"),
        ("branch_by_many", r"gives_many \(.*gives an iterator.*of that branch"),
        ("branch_by_none", r"gives_none \(.*is annotated to give None.*of that branch"),
        ("branch_by_async", r"asked \(.*is async"),
        ("key_of_many", r"gives_many \(.*gives an iterator; it is to return a key"),
        ("time_of_none", r"gives_none \(.*is annotated to give None; it is to return a time"),
        (
            "joined_with_a_name",
            r"'orders': 'customers' is neither a stream nor a table; .*app\.table",
        ),
        ("joined_as_of_a_name", r"'orders': 'prices' is no stream; .*app\.stream"),
        ("joined_as_of_a_table", r"is no stream; .*join\(\.\.\., history"),
        ("table_joined_with_a_name", r"table 'orders': 'customers' is no table; .*app\.table"),
        ("by_wrong_field", "Order has no field 'custmer'; did you mean 'customer'"),
        ("by_a_field_of_one", "by on 'orders': Refund has no field 'price'"),
        ("keyed_by_lambda", "lambda has no name.*name="),
        ("same_topic", "declared twice"),
        ("same_store", "two stores.*'n'.*name="),
        ("async_function", r"later \(test_topology.py:\d+\) is async"),
        (
            "async_join",
            r"later \(test_topology.py:\d+\) is async; only a function of @stream.process",
        ),
        ("time_of_others", "annotated Customer, but is given the values of 'orders', Order"),
        ("time_of_a_record", "it takes a value and nothing else"),
        ("unknown_parameter", "parameter 'limit'"),
        ("window_outside", "parameter 'window'"),
        ("size_for_a_window", r"window of 'orders': '5m' is no window; .*tumbling\("),
        ("context_first", "'context' is annotated Context.*the event comes first"),
        ("name_from_a_function", "^name=<function .*a step is called by a text"),
        ("initial_state", r"'seen' is annotated State, and its default is 3; .*as in get\(0\)"),
        ("sum_of_text", "sum of .*'orders': 'customer' is str, which cannot be added"),
        ("no_event", "takes 0 argument"),
        ("untyped_fold", "annotate what it returns"),
        ("other_key", "keys are str.*'customers' int"),
        ("unknown_how", "'inner' or 'left'"),
        ("unknown_emit", "'final', 'update' or every"),
        (
            "on_error_of_a_window",
            r"^WindowedStream.aggregate\(\) takes no on_error=; it is for aggregate, filter, "
            "flat_map, join, map, process, reduce of Stream; on_timer of Step; .*before or after$",
        ),
        ("emit_of_a_total", r"^Stream.count\(\) takes no emit=; .* sum, top_k of WindowedStream$"),
        ("misspelt", r"^Stream.process\(\) takes no on_eror=; did you mean 'on_error'\?$"),
        (
            "grace_beside_the_window",
            r"window\(\) takes no grace=; it is for the window, as in tumb",
        ),
        ("of_the_app", r"^App.table\(\) takes no tiem=; there are: key, topic, type_$"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_declared(what: str, message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        _declare(what)(App("shop"))


def test_what_an_operation_itself_fails_with_stays_what_it_is() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'n'"):
        App("shop").stream("orders", Order).top_k()  # type: ignore[call-arg]


def test_what_can_only_be_seen_whole_is_refused_with_the_topology() -> None:
    app = App("shop")
    with pytest.raises(TopologyError, match="does nothing"):
        app.topology()
    stream = app.stream("orders", Order).map(lambda order: order.amount)
    stream.by(str, name="amount").window(MINUTE).count()
    with pytest.raises(TopologyError, match="annotate what the function before it returns"):
        app.topology()


def test_steps_whose_results_nothing_takes_are_known() -> None:
    app = App("shop")
    orders = app.stream("orders", Order)
    orders.count(name="forgotten")
    orders.window(MINUTE).count(name="kept").to_table()
    orders.window(MINUTE).count(name="by_hour").by(lambda n: "all", name="all").count(to="all")

    @orders.process
    def done(order: Order) -> None:
        """Writes to somewhere else, say."""

    @orders.process
    def doubled(order: Order) -> int:
        return 2 * order.amount

    assert {name for sub in app.topology().subtopologies for name in sub.unused} == {
        "forgotten",
        "doubled",
    }


def test_a_step_that_feeds_itself_is_refused() -> None:
    app = App("shop")

    @app.stream("orders", Order).process(to="orders")
    def again(order: Order) -> Order:
        return order

    with pytest.raises(
        TopologyError, match=r"again \(test_topology.py:\d+\) writes to orders.*endless loop"
    ):
        app.topology()


def test_a_loop_over_several_topics_and_keys_is_refused() -> None:
    app = App("shop")
    first, second = app.stream("first", Order), app.stream("second", Order)
    first.to("second").to("elsewhere")
    second.by("customer").window(MINUTE).count(emit="update").to("first")
    with pytest.raises(TopologyError, match="first -> second -> first is an endless loop"):
        app.topology()


def test_a_loop_through_late_events_is_refused() -> None:
    app = App("shop")
    orders = app.stream("orders", Order)
    orders.by("customer").window(MINUTE).count(name="n")
    app.stream("shop-n-late", Order).to("orders")
    with pytest.raises(TopologyError, match="orders -> shop-n-late -> orders is an endless"):
        app.topology()


def test_what_goes_to_one_topic_by_two_ways_is_no_loop() -> None:
    app = App("shop")
    orders = app.stream("orders", Order)
    orders.to("left").to("right").to("all")
    app.stream("left", Order).to("all")
    app.stream("right", Order).to("all")
    app.stream("all", Order).to("end")
    assert app.topology().sources == ("orders",)


def test_two_functions_with_a_state_of_one_name_are_refused() -> None:
    app = App("shop")
    orders = app.stream("orders", Order)

    def count(order: Order, seen: State[int]) -> None: ...

    orders.process()(count)
    orders.process()(count)
    with pytest.raises(TopologyError, match=r"two stores.*'count-seen'"):
        app.topology()


@pytest.mark.parametrize("name", ["", "a b", "a/b", "..", "x" * 250])
def test_names_kafka_would_refuse_are_refused(name: str) -> None:
    with pytest.raises(InvalidTopic):
        App(name)
    with pytest.raises(InvalidTopic):
        App("shop").stream(name, str)


def test_a_wrong_duration_names_its_setting() -> None:
    with pytest.raises(ConfigError, match="out_of_order"):
        App("shop").stream("orders", Order, out_of_order="a bit")


def test_arguments_are_chosen_by_annotation() -> None:
    app = App("shop")
    given: list[Any] = []

    @app.stream("orders", Order).process(to="out")
    def look(
        order: Record[Order], context: Context, seen: State[int], more: int = 3
    ) -> Iterator[int]:
        given.append((order.value, order.coordinates, context.key, seen.get(), more))
        seen.set((seen.get() or 0) + 1)
        yield seen.get(0)

    with app.test(partitions=1) as t:
        t.send("orders", Order("a", 1), key="k", timestamp=5)
        t.send("orders", Order("a", 2), key="k", timestamp=6)
        t.run()
        assert t.values("out") == [1, 2]
    assert given == [
        (Order("a", 1), "orders-0@0", "k", None, 3),
        (Order("a", 2), "orders-0@1", "k", 1, 3),
    ]


def test_a_filter_may_say_what_its_events_are() -> None:
    def is_there(order: Order | None) -> TypeGuard[Order]:
        return order is not None

    app = App("shop")
    found = app.stream("orders", Order | None).filter(is_there)
    assert found.type is Order
    found.by("customer").count(to="n", name="n")
    with app.test(partitions=1) as t:
        t.send("orders", None, key="a")
        t.send("orders", Order("ada", 1), key="a")
        t.run()
        assert t.values("n") == [1]


def test_asking_twice_for_a_key_of_two_types_is_refused() -> None:
    events = App("a").stream("in", dict)
    assert events.by("k").name == events.by("k").name
    with pytest.raises(TopologyError, match="another type"):
        events.by("k", type_=int)


def test_more_tasks_than_a_note_has_room_for_do_not_hand_events_over() -> None:
    app = App("shop")
    app.stream("orders", Order).by("customer").window(MINUTE).count(name="n")
    assert app.topology().layout({"orders": 128}).tasks["orders"] == 128
    with pytest.raises(TopologyError, match="orders has 129 partitions and hands events over"):
        app.topology().layout({"orders": 129})


def test_a_sub_topology_has_a_journal_where_the_clock_may_decide_something() -> None:
    app = App("shop")
    orders = app.stream("orders", Order)
    orders.join(app.table("customers", Order))(lambda order, customer: order)
    app.stream("visits", Order).to("seen")
    app.stream("sent", Order, max_ahead="1h").to("arrived")
    silent = app.stream("paid", Order).window(MINUTE, close_after_idle="1m")
    silent.count(name="n")
    journals = {sub.name: sub.journal for sub in app.topology().subtopologies}
    assert journals == {
        "orders": "shop-orders-journal",
        "visits": None,
        "sent": "shop-sent-journal",
        "paid": "shop-paid-journal",
    }
    layout = app.topology().layout(dict.fromkeys(app.topology().sources, 2))
    assert layout.create["shop-paid-journal"].config == {"retention.ms": "-1"}
    assert "shop-sent-ahead" in app.topology().sinks
