"""The assignment: complete, balanced, sticky, the same for everybody."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streamkit.groups.assign import assign
from streamkit.records import TopicPartition

names = st.sampled_from(["orders", "payments", "clicks"])
subscription = st.dictionaries(names, st.integers(0, 7), min_size=1)
members = st.sets(st.sampled_from("abcdefg"), min_size=1)


@st.composite
def equal_members(draw):
    wanted = draw(subscription)
    return dict.fromkeys(draw(members), wanted)


unequal_members = st.dictionaries(st.sampled_from("abcdefg"), subscription, min_size=1)
previous = st.dictionaries(
    st.builds(TopicPartition, names, st.integers(0, 8)), st.sampled_from("abcdefgh")
)


def units_of(members):
    return {
        TopicPartition(name, number)
        for wanted in members.values()
        for name, count in wanted.items()
        for number in range(count)
    }


@given(unequal_members, previous)
def test_every_unit_has_exactly_one_owner_that_subscribes_to_it(members, previous):
    result = assign(members, previous)
    given_out = Counter(unit for units in result.values() for unit in units)
    assert set(given_out) == units_of(members)
    assert set(given_out.values()) <= {1}
    assert set(result) == set(members)
    for member, units in result.items():
        assert {unit.topic for unit in units} <= set(members[member])


@given(equal_members(), previous)
def test_equal_members_differ_by_one_at_most_and_no_needless_unit_moves(members, previous):
    result = assign(members, previous)
    sizes = sorted(len(units) for units in result.values())
    assert sizes[-1] - sizes[0] <= 1

    units = units_of(members)
    held = Counter(o for u, o in previous.items() if u in units and o in members)
    floor, extra = divmod(len(units), len(members))
    quotas = [floor + 1] * extra + [floor] * (len(members) - extra)
    fullest_first = sorted((held[m] for m in members), reverse=True)
    needed = sum(max(0, has - quota) for has, quota in zip(fullest_first, quotas, strict=True))
    owner = {unit: member for member, its in result.items() for unit in its}
    moved = sum(1 for u, o in previous.items() if u in units and o in members and owner[u] != o)
    assert moved == needed


@given(unequal_members, previous)
def test_no_single_move_would_make_two_loads_more_equal(members, previous):
    result = assign(members, previous)
    for giver, units in result.items():
        for unit in units:
            for taker in members:
                if unit.topic in members[taker]:
                    assert len(units) - len(result[taker]) <= 1 or taker == giver


@given(unequal_members, previous, st.randoms())
def test_the_result_does_not_depend_on_any_order(members, previous, random):
    def shuffled(mapping):
        items = list(mapping.items())
        random.shuffle(items)
        return dict(items)

    again = assign({m: shuffled(w) for m, w in shuffled(members).items()}, shuffled(previous))
    assert again == assign(members, previous)


@given(unequal_members, previous)
def test_assigning_again_changes_nothing(members, previous):
    result = assign(members, previous)
    assert assign(members, {u: m for m, units in result.items() for u in units}) == result


def test_a_fresh_group_spreads_every_name_over_the_members():
    result = assign({m: {"a": 4, "b": 4} for m in ("x", "y")}, {})
    for units in result.values():
        assert Counter(unit.topic for unit in units) == {"a": 2, "b": 2}


def test_a_members_death_moves_only_its_units():
    three = assign({m: {"t": 9} for m in "abc"}, {})
    owner = {unit: member for member, units in three.items() for unit in units}
    two = assign({m: {"t": 9} for m in "ab"}, owner)
    assert three["a"] <= two["a"] and three["b"] <= two["b"]


def test_nobody_there_is_nothing_assigned():
    assert assign({}, {TopicPartition("t", 0): "gone"}) == {}
