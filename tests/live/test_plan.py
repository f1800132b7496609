"""What a change of an app's code does to what it keeps is said, and refused where it loses some."""

import re
import threading

import msgspec
import pytest

from streamkit import (
    App,
    ListState,
    State,
    collect,
    count,
    max_,
    min_,
    quantile,
    session,
    sum_,
    top_k,
    tumbling,
)
from streamkit.backends.locate import open_backend
from streamkit.dsl.changes import Risk
from streamkit.engine.live import run
from streamkit.engine.plan import APPS, forget, plan, stored
from streamkit.engine.settings import Settings
from streamkit.errors import GroupActive, TopologyError, UnsafeChange, UsageError
from streamkit.records import TopicPartition


class Order(msgspec.Struct):
    customer: str
    city: str
    amount: float


ORDER = Order("ada", "london", 2.5)


class Sum(msgspec.Struct):
    total: float


class SumAndCount(msgspec.Struct):
    total: float
    count: int


class SumAndMaybeCount(msgspec.Struct):
    total: float
    count: int = 0


@pytest.fixture
def log(tmp_path):
    with open_backend(str(tmp_path / "log")) as log:
        log.create_topic("orders", 2)
        log.append(
            TopicPartition("orders", 0),
            [msgspec.json.encode(ORDER)] * 3,
            keys=[b"k"] * 3,
            timestamps=1000,
        )
        yield log


def to_the_end(app, log, *, accept=False):
    run(
        app.topology(),
        log,
        until_end=True,
        stop=threading.Event(),
        settings=Settings(commit_interval=0.0),
        accept=accept,
    )


def windowed(
    window=None,
    *,
    by="customer",
    name=None,
    emit="final",
    type_=Sum,
    app="shop",
    any_order=True,
    in_order=False,
):
    app = App(app)
    window = window or tumbling("5m", grace="1m")

    def spent(total, order: Order):
        return type_((total.total if total else 0.0) + order.amount)

    spent.__annotations__ |= {"total": type_ | None, "return": type_}
    stream = app.stream("orders", Order).by(by, in_order=in_order).window(window)
    stream.aggregate(to="spent", emit=emit, any_order=any_order, name=name)(spent)
    return app


def customer(order: Order) -> int:
    return len(order.customer)


def counting(name=None, *, kind=State, ttl=None, parameter="seen"):
    app = App("shop")
    state = kind(ttl=ttl)

    def count(order: Order, seen: kind[int] = state) -> None:
        seen.set(1) if kind is State else seen.append(1)

    def recall(order: Order, known: kind[int] = state) -> None:
        known.set(1)

    app.stream("orders", Order).process(name=name)(count if parameter == "seen" else recall)
    return app


def said(app, log):
    found = plan(app.topology(), log)
    return found.risk, {change.subject: (change.what, change.text) for change in found.changes}


def totals(**parts):
    app = App("shop")
    app.stream("orders", Order).aggregates(**parts, name="totals")
    return app


@pytest.mark.parametrize(
    ("before", "after", "risk"),
    [
        ({"a": sum_("amount")}, {"a": max_("amount")}, Risk.UNSAFE),
        ({"a": min_("customer")}, {"a": min_("city")}, Risk.UNSAFE),
        ({"a": min_("amount"), "b": max_("amount")}, {"b": max_("amount"), "a": min_("amount")},
         Risk.UNSAFE),
        ({"a": quantile(0.5, "amount")}, {"a": quantile(0.5, "amount", accuracy=0.1)}, Risk.UNSAFE),
        ({"a": quantile(0.5, "amount")}, {"a": quantile(0.9, "amount")}, Risk.NONE),
        ({"a": top_k(2, "amount")}, {"a": top_k(3, "amount")}, Risk.NONE),
        ({"a": collect(2, "city")}, {"a": collect(3, "city")}, Risk.NONE),
        ({"a": count()}, {"b": count()}, Risk.NONE),
    ],
)  # fmt: skip
def test_a_total_is_not_taken_for_another_one(log, before, after, risk):
    to_the_end(totals(**before), log)
    assert said(totals(**after), log)[0] == risk
    if risk is Risk.UNSAFE:
        with pytest.raises(UnsafeChange, match=r"totals: aggregate .* instead of aggregate "):
            to_the_end(totals(**after), log)


def test_before_its_first_run_all_of_an_app_is_new_and_nothing_is_made(log):
    topics = set(log.topics())
    found = plan(windowed().topology(), log)
    assert (found.risk, found.before) == (Risk.SAFE, None)
    assert [(change.what, change.subject) for change in found.changes] == [("new", "spent")]
    assert {topic: spec.partitions for topic, spec in found.create.items()} == dict.fromkeys(
        (
            "shop-orders-by-customer-repartition",
            "shop-orders-by-customer-repartition-journal",
            "shop-orders-journal",
            "shop-spent-changelog",
            "shop-spent-late",
            "spent",
        ),
        2,
    )
    assert set(log.topics()) == topics


def test_the_same_code_changes_nothing_and_is_noted_once(log):
    to_the_end(windowed(), log)
    to_the_end(windowed(), log)
    risk, changes = said(windowed(), log)
    assert (risk, changes["spent"][0]) == (Risk.NONE, "kept")
    assert log.offsets(TopicPartition(APPS, 0)).end == 1
    assert log.topic(APPS).config["cleanup.policy"] == "compact"
    noted = stored("shop", log)
    assert noted.topics["orders"] == 2
    assert noted.stores["spent"].settings == {"tumbling": "5m", "grace": "1m", "emit": "final"}
    assert noted.stores["spent"].keyed_by == "customer"


@pytest.mark.parametrize(
    ("options", "held"),
    [({"any_order": False}, "spent-held"), ({"in_order": True}, "orders-by-customer-held")],
)
def test_code_that_takes_events_in_any_order_leaves_those_that_wait_for_their_turn(
    log, options, held
):
    app = windowed(**options)
    to_the_end(app, log)
    assert said(app, log)[0] == Risk.NONE
    found = plan(windowed().topology(), log)
    assert [
        (change.what, change.subject, change.advice)
        for change in found.changes
        if change.risk == Risk.UNSAFE
    ] == [
        (
            "orphaned",
            held,
            "events wait there for their turn: let the code before it come to it, or to the end: "
            "streamkit run --until-end --finish",
        )
    ]


def test_events_that_are_asked_for_in_order_are_a_new_store(log):
    to_the_end(windowed(), log)
    found = plan(windowed(in_order=True).topology(), log)
    assert [(one.what, one.subject, one.risk) for one in found.changes] == [
        ("new", "orders-by-customer-held", Risk.SAFE),
        ("kept", "spent", Risk.NONE),
    ]


@pytest.mark.parametrize(
    ("app", "risk", "text"),
    [
        (windowed(tumbling("10m", grace="1m")), Risk.UNSAFE, "tumbling 10m instead of tumbling 5m"),
        (windowed(session("5m", grace="1m")), Risk.UNSAFE, "session 5m instead of no session"),
        (windowed(by="city", name="spent"), Risk.UNSAFE, "keyed by city instead of customer"),
        (windowed(by=customer, name="spent"), Risk.UNSAFE, "keys are int .* instead of str"),
        (windowed(tumbling("5m", grace="2m")), Risk.SAFE, "grace 2m instead of grace 1m"),
        (windowed(emit="update"), Risk.SAFE, "emit update instead of emit final"),
        (windowed(type_=SumAndMaybeCount), Risk.SAFE, "the 1 values that were tried can be read"),
        (windowed(type_=SumAndCount), Risk.UNSAFE, "cannot be read: .*count"),
    ],
)
def test_a_change_is_safe_when_what_is_kept_means_the_same(log, app, risk, text):
    to_the_end(windowed(), log)
    found = plan(app.topology(), log)
    (change,) = (change for change in found.changes if change.subject == "spent")
    assert change.what == ("unreadable" if "cannot be read" in change.text else "changed")
    assert found.risk is change.risk is risk
    assert re.search(text, change.text), change.text


def test_state_that_a_renamed_function_would_leave_is_not_left_silently(log):
    to_the_end(counting("count"), log)
    with pytest.raises(UnsafeChange) as told:
        to_the_end(counting("total"), log)
    message = str(told.value)
    assert "count-seen: is not used any more; its state is in shop-count-seen-changelog" in message
    assert "total-seen is like it: give total name='count'" in message
    assert "--accept" in message and "--forget count-seen" in message
    assert "shop-total-seen-changelog" not in log.topics(), "nothing was begun"
    to_the_end(counting("count"), log)


def test_a_renamed_parameter_is_told_from_a_renamed_function(log):
    to_the_end(counting("count"), log)
    with pytest.raises(UnsafeChange, match="call its parameter 'known' 'seen' again"):
        to_the_end(counting("count", parameter="known"), log)


def test_what_is_accepted_stays_where_it_is_and_is_not_asked_about_again(log):
    to_the_end(counting("count"), log)
    to_the_end(counting("total"), log, accept=True)
    log.append(TopicPartition("orders", 0), [msgspec.json.encode(ORDER)], keys=[b"k"])
    to_the_end(counting("total"), log)
    assert stored("shop", log).left == ["shop-count-seen-changelog"]
    assert said(counting("total"), log)[0] is Risk.NONE
    # The old name again: its state is what it was then, and the other's is left.
    with pytest.raises(UnsafeChange, match="total-seen: is not used any more"):
        to_the_end(counting("count"), log)
    assert said(counting("count"), log)[1]["count-seen"][0] == "returns"


def test_what_is_forgotten_is_gone(log):
    to_the_end(counting("count"), log)
    with pytest.raises(UsageError, match=r"--forget cuont-seen: .*did you mean 'count-seen'"):
        forget(counting("total").topology(), log, ["cuont-seen"])
    with pytest.raises(UsageError, match="--forget count-seen: nothing of that name"):
        forget(counting("count").topology(), log, ["count-seen"])
    topics = forget(counting("total").topology(), log, ["count-seen"])
    assert topics == ["shop-count-seen-changelog"]
    assert topics[0] not in log.topics()
    to_the_end(counting("total"), log)
    assert said(counting("total"), log)[0] is Risk.NONE


def test_nothing_is_forgotten_while_the_app_runs(log):
    to_the_end(counting("count"), log)
    member = log.join("shop", {"orders": 2})
    with pytest.raises(GroupActive, match="stop its processes"):
        forget(counting("total").topology(), log, ["count-seen"])
    member.leave()
    assert "shop-count-seen-changelog" in log.topics()


def test_state_of_another_type_that_is_forgotten_begins_anew(log):
    to_the_end(windowed(emit="update"), log)
    changed = windowed(type_=SumAndCount, emit="update")
    for accept in (False, True):
        with pytest.raises(UnsafeChange, match="a default for a new field") as refused:
            to_the_end(changed, log, accept=accept)
        assert "--forget spent" in str(refused.value) and "--accept" not in str(refused.value)
    forget(changed.topology(), log, ["spent"])
    assert said(changed, log)[1]["spent"][0] == "new"


def test_a_kind_of_state_is_not_read_as_another(log):
    to_the_end(counting("count"), log)
    found = plan(counting("count", kind=ListState).topology(), log)
    (change,) = found.changes
    assert change.risk is Risk.UNSAFE
    assert "ListState instead of State" in change.text


def test_a_ttl_is_harmless_to_what_is_kept(log):
    to_the_end(counting("count"), log)
    found = plan(counting("count", ttl="1d").topology(), log)
    (change,) = found.changes
    assert (change.risk, change.text) == (Risk.SAFE, "ttl 1d instead of no ttl")


def test_more_partitions_move_keys_away_from_their_state(log):
    to_the_end(counting("count"), log)
    log.add_partitions("orders", 3)
    risk, changes = said(counting("count"), log)
    assert risk is Risk.UNSAFE
    assert changes["orders"] == ("grows", "has 3 partitions instead of 2: its keys move")
    assert "3 tasks instead of 2: keys move" in changes["count-seen"][1]
    with pytest.raises(UnsafeChange, match="another name="):
        to_the_end(counting("count"), log)


def test_topics_that_do_not_fit_are_told_as_that_and_not_as_a_change_to_accept(log):
    app = App("fresh")
    rows = app.table("rows", str)
    app.stream("orders", str).join(rows, to="both")(lambda order, row: row)
    log.create_topic("rows", 3)
    for accept in (False, True):
        with pytest.raises(
            TopologyError, match=r"^app 'fresh': .*orders has 2, rows has 3"
        ) as told:
            to_the_end(app, log, accept=accept)
        assert type(told.value) is TopologyError


def test_a_changelog_that_somebody_deleted_begins_empty_and_that_is_said(log, caplog):
    to_the_end(counting("count"), log)
    log.delete_topic("shop-count-seen-changelog")
    assert said(counting("count"), log)[1]["count-seen"][0] == "gone"
    caplog.clear()
    to_the_end(counting("count"), log)
    (warned,) = [r.getMessage() for r in caplog.records if "count-seen" in r.getMessage()]
    assert "shop-count-seen-changelog was deleted: it begins empty. What it held is lost" in warned
    caplog.clear()
    to_the_end(counting("count"), log)
    assert not [r for r in caplog.records if "count-seen" in r.getMessage()]


def test_state_without_a_manifest_is_known_by_what_is_committed(log):
    to_the_end(counting("count"), log)
    log.delete_topic(APPS)
    with pytest.raises(UnsafeChange, match="count-seen: is not used by this code"):
        to_the_end(counting("total"), log)


def test_events_on_their_way_that_nobody_would_read_any_more_are_not_left_silently(log):
    to_the_end(windowed(), log)
    topic = TopicPartition("shop-orders-by-customer-repartition", 0)
    log.append(topic, [b"{}"], keys=[b"ada"])
    found = plan(windowed(by="city", name="towns").topology(), log)
    texts = {change.subject: change.text for change in found.unsafe}
    assert (
        "is not read any more; shop-orders-by-customer-repartition-0 has 1 event left"
        in (texts["orders-by-customer-repartition"])
    )
    assert "never processed" in found.unsafe[-1].advice


def test_events_on_their_way_that_the_new_type_does_not_read_are_named(log):
    to_the_end(windowed(), log)
    topic = TopicPartition("shop-orders-by-customer-repartition", 0)
    some = [b'{"amount": 3}', msgspec.json.encode(ORDER), b"{}"]
    log.append(topic, some, keys=[b"ada"] * 3)
    before = stored("shop", log)
    (change,) = plan(windowed().topology(), log).unsafe
    assert change.text.startswith(f"2 of the 3 events that {topic} still has cannot be read, and a")
    assert re.search("of key b'ada': .*customer", change.text)
    with pytest.raises(
        UnsafeChange, match=r"(?s)2 of the 3 .* --forget orders-by-customer-repartition"
    ):
        to_the_end(windowed(), log, accept=True)
    assert stored("shop", log) == before
    forget(windowed().topology(), log, ["orders-by-customer-repartition"])
    to_the_end(windowed(), log)


def test_an_app_waits_for_what_is_not_there_without_losing_what_it_keeps(log):
    to_the_end(counting("count"), log)
    app = counting("count")
    app.stream("returns", Order).to("copied")
    risk, changes = said(app, log)
    assert risk is Risk.SAFE
    assert changes["returns"][0] == "waits"
    assert changes["count-seen"][0] == "kept"


def test_a_class_that_is_only_called_otherwise_is_the_same_type(log):
    to_the_end(windowed(), log)
    renamed = msgspec.defstruct("Amount", [("total", float)])
    assert said(windowed(type_=renamed), log)[0] is Risk.NONE


def test_a_class_of_the_same_name_with_other_fields_is_told_as_such(log):
    to_the_end(windowed(), log)
    other = msgspec.defstruct("Sum", [("total", float), ("count", int, 0)], module=__name__)
    text = said(windowed(type_=other), log)[1]["spent"][1]
    assert "Sum, int] as before, but what is in that has changed" in text


def test_two_apps_have_manifests_of_their_own(log):
    to_the_end(windowed(app="one"), log)
    to_the_end(windowed(app="two"), log)
    assert stored("one", log).app == "one"
    assert stored("two", log).stores["spent"].changelog == "two-spent-changelog"
    assert stored("three", log) is None
