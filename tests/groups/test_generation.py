"""Generations of a group: random comings and goings against a simple model."""

from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.codec.primitives import Writer
from streamkit.groups.generation import Joined, next_generation
from streamkit.groups.offsets import (
    GroupMetadata,
    Member,
    decode_assignment,
    decode_group,
    decode_subscription,
    encode_group,
)
from streamkit.records import TopicPartition


def joined(*topics, count=4, instance=None):
    return Joined("client", "host", dict.fromkeys(topics, count), instance, 10.0 if instance else 0)


def owners(metadata):
    return {
        unit: member.member_id
        for member in metadata.members
        for unit in decode_assignment(member.assignment)
    }


def test_a_generation_that_still_holds_is_not_made_again():
    members = {"a": joined("t"), "b": joined("t", "u")}
    first = next_generation(GroupMetadata(0), members, 5, "a")
    assert first.generation == 1 and first.leader == "a" and first.timestamp == 5
    assert first.protocol == "cooperative-sticky"
    assert next_generation(first, members, 6, "b") is None
    assert next_generation(decode_group(encode_group(first)), members, 6, "b") is None


def test_a_change_of_mind_and_a_topic_that_grows_make_a_generation():
    first = next_generation(GroupMetadata(0), {"a": joined("t")}, 0)
    other = next_generation(first, {"a": joined("u")}, 0)
    assert other.generation == 2 and set(owners(other)) == {
        TopicPartition("u", n) for n in range(4)
    }
    grown = next_generation(other, {"a": joined("u", count=6)}, 0)
    assert grown.generation == 3 and len(owners(grown)) == 6
    assert decode_subscription(grown.members[0].subscription) == ("u",)


def test_when_all_have_gone_the_generation_is_empty_once():
    first = next_generation(GroupMetadata(0), {"a": joined("t")}, 0)
    last = next_generation(first, {}, 9)
    assert (last.generation, last.members, last.protocol, last.leader) == (2, (), None, None)
    assert next_generation(last, {}, 10) is None
    assert next_generation(GroupMetadata(0), {}, 10) is None


def test_a_group_that_kafka_connect_had_goes_on_with_members_of_ours():
    out = Writer()  # the assignment of a worker: an error code, its leader, then connectors
    out.i16(1)
    out.i16(0)
    out.string("connect-10.0.0.1:8083-5f0e")
    out.string("http://10.0.0.1:8083/")
    out.i64(17)
    out.i32(1)
    out.string("jdbc-sink")
    out.i32(2)
    out.i32(0)
    out.i32(1)
    worker = Member("connect-1", "connect", "/10.0.0.1", b"\x00\x01", out.done())
    theirs = GroupMetadata(7, (worker,), "connect", "sessioned", "connect-1", 5)
    ours = next_generation(decode_group(encode_group(theirs)), {"a": joined("t")}, 6)
    assert ours.generation == 8 and ours.protocol_type == "consumer"
    assert owners(ours) == {TopicPartition("t", n): "a" for n in range(4)}


def test_who_comes_back_under_its_instance_id_takes_what_it_had():
    members = {"a": joined("t", instance="one"), "b": joined("t"), "c": joined("t")}
    first = next_generation(GroupMetadata(0), members, 0)
    members["z"] = members.pop("a")
    second = next_generation(first, members, 0)
    moved = {unit for unit, owner in owners(first).items() if owners(second)[unit] != owner}
    assert {owners(first)[unit] for unit in moved} == {"a"}
    assert {owners(second)[unit] for unit in moved} == {"z"}
    assert [m.session_timeout for m in second.members if m.member_id == "z"] == [10_000]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_random_members_kills_and_restarts_leave_every_unit_with_one_living_owner(data):
    """Members come, die, come back as the same instance, and change what they read."""
    last, members, born = GroupMetadata(0), {}, 0
    topics = st.sets(st.sampled_from("tuv"), min_size=1)
    for event in data.draw(
        st.lists(st.sampled_from(["join", "die", "restart", "subscribe", "grow"]), max_size=15)
    ):
        before, was, old = dict(members), owners(last), None
        born += 1
        if event == "join" or not members:
            instance = f"i{born}" if data.draw(st.booleans()) else None
            members[f"m{born}"] = joined(*data.draw(topics), instance=instance)
        else:
            chosen = data.draw(st.sampled_from(sorted(members)))
            old = members.pop(chosen)
            if event == "restart":
                members[f"m{born}"] = old
            elif event == "subscribe":
                members[chosen] = joined(*data.draw(topics), instance=old.instance_id)
            elif event == "grow":
                members[chosen] = joined(*old.units, count=6, instance=old.instance_id)
        made = next_generation(last, members, born, min(members, default=None))
        assert (made is None) == (members == before or _same(members, before))
        if made is None:
            continue
        assert made.generation == last.generation + 1
        now = owners(made)
        wanted = {
            TopicPartition(topic, number)
            for each in members.values()
            for topic, count in each.units.items()
            for number in range(count)
        }
        assert set(now) == wanted
        assert all(unit.topic in members[owner].units for unit, owner in now.items())
        if event == "restart" and old is not None and old.instance_id is not None:
            heir = {chosen: f"m{born}"}
            assert now == {unit: heir.get(owner, owner) for unit, owner in was.items()}
        last = made


def _same(members, before):
    """Whether they are the same with the same topics, of which all know as many units."""

    def known(of):
        counts = {}
        for each in of.values():
            for topic, count in each.units.items():
                counts[topic] = max(count, counts.get(topic, 0))
        return counts

    same = {m: set(j.units) for m, j in members.items()} == {
        m: set(j.units) for m, j in before.items()
    }
    return same and known(members) == known(before)
