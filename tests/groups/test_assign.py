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


@st.composite
def few(draw):
    """A handful of members and units, most of which have had an owner that may still have them."""
    counts = {name: draw(st.integers(1, 2)) for name in ("orders", "payments", "clicks")}
    members = {
        member: {name: counts[name] for name in draw(st.sets(names, min_size=1))}
        for member in draw(st.sets(st.sampled_from("abcd"), min_size=2))
    }
    previous = {}
    for unit in sorted(units_of(members)):
        had = draw(st.sampled_from([None, *(m for m in members if unit.topic in members[m])]))
        if had is not None:
            previous[unit] = had
    return members, previous


@settings(max_examples=250, deadline=None)
@given(few())
def test_no_assignment_is_more_equal_or_as_equal_with_fewer_moves(group):
    members, previous = group
    assert cost(members, previous, assign(members, previous)) == cheapest(members, previous)


def test_a_unit_is_handed_on_by_a_member_between_when_no_single_move_helps():
    p, x, y = (TopicPartition(name, 0) for name in "pxy")
    members = {"full": {"p": 1, "x": 1}, "between": {"x": 1, "y": 1}, "idle": {"y": 1}}
    result = assign(members, {p: "full", x: "full", y: "between"})
    assert result == {"full": {p}, "between": {x}, "idle": {y}}


def test_who_had_a_unit_keeps_it_where_another_of_its_kind_can_go():
    """All three loads are as equal with other moves as well, but with more of them."""
    p, x, y = (TopicPartition(name, 0) for name in "pxy")
    members = {"a": {"p": 1, "x": 1}, "b": {"p": 1, "x": 1, "y": 1}, "c": {"x": 1, "y": 1}}
    assert assign(members, {p: "b", y: "c"}) == {"a": {x}, "b": {p}, "c": {y}}


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
