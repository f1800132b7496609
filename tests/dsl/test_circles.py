"""A stream may meet its own events under another key; what is a circle in any case is refused."""

import pytest
from msgspec import Struct

from streamkit.app import App
from streamkit.dsl.nodes.in_order import InOrder
from streamkit.dsl.nodes.outputs import Repartition
from streamkit.dsl.stream import Stream
from streamkit.dsl.topology import SubTopology, Topology
from streamkit.errors import TopologyError


class Flight(Struct):
    number: str
    origin: str
    dest: str


class Airport(Struct):
    name: str


def meet(left: Stream[Flight], right: Stream[Flight], name: str) -> Stream[Flight]:
    @left.join(right, within="1h", name=name)
    def joined(one: Flight, other: Flight) -> Flight:
        return one

    return joined


def reads(topology: Topology) -> dict[frozenset[str], set[str]]:
    """What each sub-topology reads, and through which topics it hands events over."""
    return {
        frozenset(source.topic for source in sub.sources): set(sub.repartitions)
        for sub in topology.subtopologies
    }


def reaches(topology: Topology, sub: SubTopology) -> set[str]:
    """The sub-topologies that events get to from one."""
    found: set[str] = set()
    pending = [sub]
    while pending:
        written = set(pending.pop().repartitions)
        after = [s for s in topology.subtopologies if written & {x.topic for x in s.streams}]
        pending += [each for each in after if each.name not in found]
        found |= {each.name for each in after}
    return found


def check_no_circle(topology: Topology) -> None:
    for sub in topology.subtopologies:
        assert sub.name not in reaches(topology, sub)


def test_the_side_that_keeps_its_key_is_handed_over_as_well() -> None:
    app = App("air")
    flights = app.stream("flights", Flight)
    meet(flights, flights.by("dest"), "pair")
    assert reads(app.topology()) == {
        frozenset({"flights"}): {
            "air-flights-by-dest-repartition",
            "air-pair-left-repartition",
        },
        frozenset({"air-flights-by-dest-repartition", "air-pair-left-repartition"}): set(),
    }
    assert app.topology().layout({"flights": 3}).partitions["air-pair-left-repartition"] == 3


@pytest.mark.parametrize("in_order", [False, True])
def test_what_is_handed_over_once_more_is_put_in_order_again_if_it_was(in_order: bool) -> None:
    app = App("air")
    airports = app.table("airports", Airport)
    ordered = app.stream("flights", Flight).by("dest", in_order=in_order)

    def at(flight: Flight, airport: Airport) -> Flight:
        return flight

    ordered.join(airports, name="first")(at).count(to="counts", name="counts")
    ordered.count(name="direct")
    ordered.by("origin").join(airports, name="second")(at)
    topology = app.topology()
    check_no_circle(topology)
    assert "air-first-events-repartition" in topology.internal
    placed = [n.placed for s in topology.subtopologies for n in s.nodes if type(n) is Repartition]
    assert sorted(placed) == [False, in_order, in_order]
    after = {
        held.name: [node.name for node in sub.children[held]]
        for sub in topology.subtopologies
        for held in sub.nodes
        if isinstance(held, InOrder)
    }
    if not in_order:
        assert after == {}
        return
    assert after.pop("first-held") == ["first"]
    (others,) = after.values()
    assert "direct" in others


def test_so_is_a_right_side() -> None:
    app = App("air")
    flights = app.stream("flights", Flight)
    meet(flights.by("dest"), flights.filter(lambda flight: True), "pair")
    assert "air-pair-right-repartition" in app.topology().internal
    check_no_circle(app.topology())


def test_two_keys_of_one_stream_meet_as_they_are() -> None:
    app = App("air")
    flights = app.stream("flights", Flight)
    meet(flights.by("origin"), flights.by("dest"), "pair")
    assert reads(app.topology()) == {
        frozenset({"flights"}): {
            "air-flights-by-origin-repartition",
            "air-flights-by-dest-repartition",
        },
        frozenset({"air-flights-by-origin-repartition", "air-flights-by-dest-repartition"}): set(),
    }


def test_a_stream_that_meets_itself_under_one_key_goes_through_no_topic() -> None:
    app = App("air")
    flights = app.stream("flights", Flight)
    meet(flights, flights, "pair")
    assert reads(app.topology()) == {frozenset({"flights"}): set()}


def test_two_streams_that_meet_each_other_under_each_ones_key_are_no_circle() -> None:
    app = App("air")
    one, other = app.stream("one", Flight), app.stream("other", Flight)
    meet(one.by("dest"), other, "first")
    meet(other.by("dest"), one, "second")
    check_no_circle(app.topology())
    assert "air-second-right-repartition" in app.topology().internal
    assert "air-first-right-repartition" not in app.topology().internal


def test_pairs_may_meet_what_they_are_made_of() -> None:
    app = App("air")
    flights = app.stream("flights", Flight)
    pairs = meet(flights, flights.by("dest"), "pair")
    meet(meet(pairs.by("number"), flights, "again"), flights.by("dest"), "third")
    check_no_circle(app.topology())


def test_a_table_that_is_kept_of_a_stream_may_be_looked_up_under_another_key() -> None:
    app = App("air")
    flights = app.stream("flights", Flight)
    counts = flights.count(name="flown").to_table(name="flown-table")

    @flights.join(counts, on="dest", how="left")
    def look(flight: Flight, flown: int | None) -> int:
        return flown or 0

    check_no_circle(app.topology())
    assert "air-flown-table-events-repartition" in app.topology().internal


def test_events_that_are_looked_up_under_two_keys_one_beside_the_other() -> None:
    app = App("air")
    flights, airports = app.stream("flights", Flight), app.table("airports", Airport)

    @flights.join(airports)
    def first(flight: Flight, airport: Airport) -> str:
        return airport.name

    @flights.join(airports, on="dest")
    def second(flight: Flight, airport: Airport) -> str:
        return airport.name

    check_no_circle(app.topology())
    assert "air-first-events-repartition" in app.topology().internal


def test_one_look_up_after_the_other_in_one_table_is_refused_with_what_to_do() -> None:
    def declare(app: App, table: str) -> None:
        flights, airports = app.stream("flights", Flight), getattr(app, table)("airports", Airport)

        @flights.join(airports, on="origin")
        def first(flight: Flight, airport: Airport) -> Flight:
            return flight

        @first.join(airports, on="dest")
        def second(flight: Flight, airport: Airport) -> Flight:
            return flight

    app = App("air")
    declare(app, "table")
    with pytest.raises(TopologyError, match=r"'first' and 'second'.*global_table\('airports'"):
        app.topology()
    app = App("air")
    declare(app, "global_table")
    app.topology()


def test_values_that_are_to_be_handed_over_have_a_type() -> None:
    app = App("air")
    flights, airports = app.stream("flights", Flight), app.table("airports", Airport)
    named = flights.map(lambda flight: flight)

    @named.join(airports)
    def first(flight, airport):  # type: ignore[no-untyped-def]
        return flight

    @flights.join(airports, on="dest")
    def second(flight: Flight, airport: Airport) -> str:
        return airport.name

    with pytest.raises(TopologyError, match="'first': events change partition here, but the type"):
        app.topology()


def test_a_topic_that_would_be_used_twice_is_refused() -> None:
    app = App("air")
    flights = app.stream("flights", Flight)
    meet(flights, flights.by("dest", name="pair-left"), "pair")
    with pytest.raises(TopologyError, match="'pair-left'; give 'pair' another name with name="):
        app.topology()
