"""Two streams that become one, one that becomes several, and one that goes by way of a topic."""

from typing import Any

import pytest
from msgspec import Struct

from streamkit import App, Context, Record, State, session, tumbling
from streamkit.dsl.outline import outline
from streamkit.dsl.topology import TopicSpec, Topology
from streamkit.dsl.tree import tree
from streamkit.errors import TopologyError
from streamkit.replay.fingerprint import fingerprint
from streamkit.testing import TestRun


class Item(Struct):
    n: int
    k: str = "x"


def streams() -> tuple[App, Any, Any]:
    app = App("f")
    return app, app.stream("a", Item), app.stream("b", Item)


def send(t: TestRun, *sent: tuple[str, int], key: str = "k") -> None:
    for topic, n in sent:
        t.send(topic, Item(n), key=key, timestamp=n)
    t.run()


# Merged.


def test_what_follows_is_given_the_events_of_both_and_keeps_one_state_of_a_key() -> None:
    app, a, b = streams()

    @a.merge(b).process(to="out")
    def seen(event: Record[Item], sofar: State[list[int]]) -> str:
        sofar.set([*sofar.get([]), event.value.n])
        return f"{event.topic}@{event.offset} {sofar.get([])}"

    with app.test(partitions=3) as t:
        send(t, ("a", 1), ("b", 2))
        t.crash()
        send(t, ("b", 3), ("a", 4))
        assert t.values("out") == [
            "a@0 [1]", "b@0 [1, 2]", "b@1 [1, 2, 3]", "a@1 [1, 2, 3, 4]",
        ]  # fmt: skip


def test_time_is_that_of_the_slower_one_and_what_is_late_is_late_by_its_own() -> None:
    app, a, b = streams()
    a.merge(b).window(tumbling("10ms")).count(to="out", name="n")
    with app.test(partitions=1) as t:
        send(t, ("a", 5), ("a", 50), ("b", 3))
        assert not t.topic("out")
        send(t, ("b", 9), ("b", 12))
        assert t.values("out") == [3]
        send(t, ("b", 8), ("a", 13))
        assert [record.value.n for record in t.topic("f-n-late")] == [8, 13]


@pytest.mark.parametrize("is_windowed", [False, True])
def test_streams_that_are_merged_into_a_table_hold_no_time_back(is_windowed: bool) -> None:
    app, a, b = streams()
    merged = a.merge(b)
    if is_windowed:
        merged.window(tumbling("10ms")).count(name="other", to="other")
    met = app.stream("c", Item).join(merged.to_table(), how="left", name="met")(left_of)
    met.window(tumbling("10ms")).count(name="n", to="out")
    with app.test(partitions=1) as t:
        send(t, ("a", 1), ("b", 1), ("c", 2), ("c", 5), ("c", 15))
        assert t.values("out") == ([] if is_windowed else [2])


def left_of(item: Item, other: Item | None) -> Item:
    return item


def test_what_goes_by_order_is_given_the_events_of_both_in_order_of_time() -> None:
    app, a, b = streams()
    a.merge(b).window(tumbling("10ms")).collect(9, "n", to="out")
    with app.test(partitions=1) as t:
        for topic, n, time in (("b", 5, 5), ("a", 3, 3), ("b", 7, 8), ("a", 8, 8)):
            t.send(topic, Item(n), key="k", timestamp=time)
            t.run()
        send(t, ("a", 20), ("b", 20))
        assert t.values("out") == [[3, 5, 8, 7]]  # of one time those of the left one first


def test_events_that_got_another_key_move_to_their_task_before() -> None:
    app, a, b = streams()
    by_k = a.by("k").merge(b.by("k"), name="both")
    by_k.count(to="out", name="n")
    app.topology().layout({"a": 2, "b": 5})  # whatever they had before
    with app.test(partitions=3) as t:
        for n in range(6):
            t.send("ab"[n % 2], Item(n), partition=n // 2)
        t.run()
        assert t.values("out") == [1, 2, 3, 4, 5, 6]


def test_a_stream_may_meet_itself_as_it_is_and_under_another_key() -> None:
    app, a, _ = streams()
    a.merge(a, name="twice").map(number).to("twice")
    a.merge(a.by("k"), name="again").count(to="counts", name="n")
    with app.test(partitions=2) as t:
        send(t, ("a", 1), ("a", 2), key="x")
        assert sorted(t.values("twice")) == [1, 1, 2, 2]
        assert t.values("counts") == [1, 2, 3, 4]


def number(item: Item) -> int:
    return item.n


def test_two_partitionings_are_refused_with_the_way_out() -> None:
    app, a, b = streams()
    a.merge(b).count(to="out")
    with pytest.raises(TopologyError, match=r"merged streams need .* a has 2, b has 3; .* \.by\("):
        app.topology().layout({"a": 2, "b": 3})


def test_streams_of_other_types_or_apps_are_not_merged() -> None:
    app, a, b = streams()
    with pytest.raises(TopologyError, match="values are Item here and int there; make them"):
        a.merge(b.map(number))
    with pytest.raises(TopologyError, match=r"keys are str \| None here and int \| None there"):
        a.merge(app.stream("c", Item, key=int))
    wrong: list[Any] = ["b", app.table("t", Item), b.window(tumbling("1s")), None]
    for other in wrong:
        with pytest.raises(TopologyError, match=r"merge of 'a': .* is no stream; give it what"):
            a.merge(other)
    with pytest.raises(TopologyError, match="they are streams of two apps"):
        a.merge(streams()[1])
    a.merge(b)
    with pytest.raises(TopologyError, match="two merges of app 'f' would be called 'a-b'"):
        a.merge(b)


def test_no_order_from_before_goes_on_behind_a_merge() -> None:
    app, a, b = streams()
    a.by("k", in_order=True).merge(b.by("k"), name="both").count(to="out")
    with pytest.raises(TopologyError, match="would not reach behind 'both'"):
        app.topology()


def test_what_sessions_would_take_back_is_refused_where_others_come_between() -> None:
    for first in (True, False):
        app, a, b = streams()
        early = a.window(session("1m")).count(name="n", emit="update")
        late = b.map(number)
        (early.merge(late) if first else late.merge(early)).to("out")
        with pytest.raises(TopologyError, match=r"merge '.*' stands between them and 'out'"):
            app.topology()


def test_a_merge_is_drawn_with_both_its_streams() -> None:
    app, a, b = streams()
    a.merge(b).to("out")
    drawn = tree(outline(app.topology()))
    assert "a: Item\n  └─ merge a-b, with b\n     └─ → out: Item" in drawn
    assert "b: Item\n  └─ part of a-b" in drawn


# Parted.


def test_each_event_is_in_the_first_branch_that_it_is_for_or_in_the_last() -> None:
    app, a, _ = streams()
    for branch, topic in zip(a.branch(is_even, is_large), ("even", "large", "rest"), strict=True):
        branch.to(topic)
    with app.test(partitions=1) as t:
        send(t, *(("a", n) for n in (1, 2, 8, 9)))
        found = {topic: [item.n for item in t.values(topic)] for topic in ("even", "large", "rest")}
    assert found == {"even": [2, 8], "large": [9], "rest": [1]}
    assert fingerprint(app.topology()) != fingerprint(other_branches())


def is_even(item: Item) -> bool:
    return item.n % 2 == 0


def is_large(item: Item) -> bool:
    return item.n > 5


def other_branches() -> Topology:
    app, a, _ = streams()
    for branch, topic in zip(a.branch(is_large, is_even), ("even", "large", "rest"), strict=True):
        branch.to(topic)
    return app.topology()


def test_a_branch_is_a_matter_of_the_value_alone() -> None:
    _, a, _ = streams()

    def drawn(item: Item, context: Context) -> bool:
        return context.random() < 0.5

    for wrong in (drawn, lambda: True):
        with pytest.raises(TopologyError):
            a.branch(wrong)
    with pytest.raises(TopologyError, match="give it functions of a value"):
        a.branch()


# By way of a topic.


def test_what_goes_through_a_topic_comes_with_what_others_write_there() -> None:
    app, a, _ = streams()
    through = a.map(number).through("numbers")
    through.count(to="counts", name="n")
    with app.test(partitions=1) as t:
        send(t, ("a", 7))
        t.send("numbers", 8, key="k")
        t.run()
        t.crash()
        t.run()
        assert t.values("numbers") == [7, 8]
        assert t.values("counts") == [1, 2]


def test_what_has_gone_through_a_topic_meets_the_stream_that_it_comes_from() -> None:
    app, a, b = streams()
    names = app.global_table("names", str)
    a.merge(a.through("on", out_of_order="1h")).to("twice")
    a.merge(a.through("by-way", out_of_order="1h").by("k")).to("again")

    @b.join(names, how="left", to="names")
    def named(item: Item, name: str | None) -> str:
        return f"{name or ''}{item.k}"

    with app.test(partitions=3) as t:
        send(t, ("a", 1), ("b", 2))
        send(t, ("a", 3), ("b", 4))
        assert sorted(item.n for item in t.values("twice")) == [1, 1, 3, 3]
        assert [item.n for item in t.values("again")].count(3) == 2
        assert t.values("names") == ["x", "xx"]
    layout = app.topology().layout({"a": 2, "b": 5})
    assert layout.partitions["on"] == 2
    assert layout.create["names"] == TopicSpec(5, {})


def test_what_is_behind_there_is_late_unless_it_may_be() -> None:
    for out_of_order, expected in (("0s", [1]), ("5ms", [2])):
        app, a, _ = streams()
        numbers = a.map(number).through("numbers", out_of_order=out_of_order)
        numbers.window(tumbling("10ms")).count(to="counts", name="n")
        with app.test(partitions=1) as t:
            send(t, ("a", 1), ("a", 12), ("a", 9), ("a", 40))
            assert t.values("counts")[:1] == expected


def test_what_nobody_knows_the_type_of_cannot_go_through_a_topic() -> None:
    _, a, _ = streams()
    with pytest.raises(TopologyError, match="the type of its values is unknown"):
        a.map(lambda item: item.n).through("numbers")
