"""The assignment: complete, balanced, sticky, the same for everybody."""

from collections import Counter
from itertools import product

from hypothesis import given, settings
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


def cost(members, previous, result):
    """How unequal the loads are, and how many units a member has had and loses."""
    moved = sum(
        1
        for member, units in result.items()
        for unit in units
        if (had := previous.get(unit)) in members and unit.topic in members[had] and had != member
    )
    return sum(len(units) ** 2 for units in result.values()), moved


def cheapest(members, previous):
    """The least cost of all assignments there are, by trying every one."""
    units = sorted(units_of(members))
    takers = [[m for m in members if unit.topic in members[m]] for unit in units]

    def assignments():
        for owners in product(*takers):
            result = {member: set() for member in members}
            for unit, owner in zip(units, owners, strict=True):
                result[owner].add(unit)
            yield result

    return min(cost(members, previous, result) for result in assignments())


few = st.dictionaries(
    st.sampled_from("abcd"), st.dictionaries(names, st.integers(0, 2), min_size=1), min_size=1
)
had = st.dictionaries(st.builds(TopicPartition, names, st.integers(0, 2)), st.sampled_from("abcde"))


@settings(max_examples=150, deadline=None)
@given(few, had)
def test_no_assignment_is_more_equal_or_as_equal_with_fewer_moves(members, previous):
    assert cost(members, previous, assign(members, previous)) == cheapest(members, previous)


def test_a_unit_is_handed_on_by_a_member_between_when_no_single_move_helps():
    x, y = TopicPartition("x", 0), TopicPartition("y", 0)
    previous = {
        TopicPartition("p", 0): "full",
        TopicPartition("p", 1): "full",
        x: "full",
        TopicPartition("q", 0): "between",
        y: "between",
    }
    members = {"full": {"p": 2, "x": 1}, "between": {"x": 1, "q": 1, "y": 1}, "idle": {"y": 1}}
    result = assign(members, previous)
    assert result["idle"] == {y}
    assert x in result["between"]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whoever_comes_and_goes_loads_stay_equal_and_units_stay_where_they_can(data):
    """A schedule of joins, leaves and growth; all members subscribe to the same, as most do."""
    count, members, owner, born = data.draw(st.integers(1, 9)), [], {}, 0
    for event in data.draw(st.lists(st.sampled_from(["join", "leave", "grow"]), max_size=20)):
        before = set(members)
        if event == "grow":
            count += 1
        elif event == "leave" and members:
            members.remove(data.draw(st.sampled_from(members)))
        else:
            born += 1
            members.append(f"m{born}")
        result = assign({member: {"t": count} for member in members}, owner)
        sizes = {member: len(units) for member, units in result.items()}
        assert not members or sum(sizes.values()) == count
        assert not members or max(sizes.values()) - min(sizes.values()) <= 1
        now = {unit: member for member, units in result.items() for unit in units}
        moved = {unit for unit in now if owner.get(unit) in members and owner[unit] != now[unit]}
        # Only a joining member is given units of the living, and no more than its share.
        joined = set(members) - before
        assert {now[unit] for unit in moved} <= joined
        assert len(moved) <= sum(sizes[member] for member in joined)
        owner = now if members else owner


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
