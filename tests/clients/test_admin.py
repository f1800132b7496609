"""Topics and groups, as a tool sees them."""

from datetime import UTC, datetime

import pytest

from streamkit.backends.base import CommittedOffset, OffsetRange
from streamkit.backends.locate import open_backend
from streamkit.clients.admin import Admin
from streamkit.errors import GroupActive, UnknownTopic, UsageError
from streamkit.records import TopicPartition

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


@pytest.fixture
def log():
    with open_backend("memory:") as backend:
        yield backend


@pytest.fixture
def admin(log):
    admin = Admin(log)
    admin.create_topic("t", 2)
    log.append(T0, [b"x"] * 10, timestamps=range(10))
    log.append(T1, [b"x"] * 4, timestamps=range(4))
    return admin


def test_topics_are_made_listed_and_deleted(admin, log):
    admin.create_topic("a", 1, {"cleanup.policy": "compact"})
    log.commit("g", {T0: CommittedOffset(1)})
    assert list(admin.topics()) == ["a", "t"]
    assert list(admin.topics(internal=True)) == ["__consumer_offsets", "a", "t"]
    assert admin.topic("a").config == {"cleanup.policy": "compact"}
    assert admin.offsets("t") == {T0: OffsetRange(0, 10, 10), T1: OffsetRange(0, 4, 4)}
    admin.delete_topic("a")
    assert list(admin.topics()) == ["t"]


def test_lag_is_what_is_still_to_be_read(admin, log):
    log.commit("g", {T0: CommittedOffset(7), T1: CommittedOffset(4)})
    assert admin.lag("g") == {T0: 3, T1: 0}
    assert admin.lag("never heard of") == {}
    assert admin.groups() == ["g"]
    assert admin.group("g").state == "Empty"


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"to": "earliest"}, (0, 0)),
        ({"to": "latest"}, (10, 4)),
        ({"to": 6}, (6, 4)),
        ({"to": datetime.fromtimestamp(0.002, UTC)}, (2, 2)),
        ({"offset": 3}, (3, 3)),
        ({"offset": 8}, (8, 4)),
        ({"shift": -2}, (3, 0)),
        ({"shift": 100}, (10, 4)),
    ],
)
def test_offsets_are_reset(admin, log, where, expected):
    log.commit("g", {T0: CommittedOffset(5), T1: CommittedOffset(1)})
    assert admin.reset_offsets("g", **where) == dict(zip((T0, T1), expected, strict=True))
    assert {tp: c.offset for tp, c in log.committed("g").items()} == dict(
        zip((T0, T1), expected, strict=True)
    )


def test_a_new_group_is_given_offsets_by_naming_topics(admin, log):
    assert admin.reset_offsets("new", "latest", topics="t") == {T0: 10, T1: 4}
    assert log.committed("new")[T0] == CommittedOffset(10)


def test_resets_that_make_no_sense_are_refused(admin, log):
    with pytest.raises(UsageError, match="one of"):
        admin.reset_offsets("g")
    with pytest.raises(UsageError, match="one of"):
        admin.reset_offsets("g", "latest", offset=3)
    with pytest.raises(UsageError, match="committed nothing"):
        admin.reset_offsets("g", "latest")
    with pytest.raises(UsageError, match="to shift from"):
        admin.reset_offsets("g", shift=1, topics="t")
    with pytest.raises(UnknownTopic):
        admin.reset_offsets("g", "latest", topics="nope")


def test_an_active_group_is_left_alone(admin, log):
    member = log.join("g", {"t": 2})
    with pytest.raises(GroupActive):
        admin.reset_offsets("g", "latest", topics="t")
    with pytest.raises(GroupActive):
        admin.delete_group("g")
    member.leave()
    admin.reset_offsets("g", "latest", topics="t")
    admin.delete_group("g")
    assert admin.groups() == []


def test_a_path_is_opened_and_closed(tmp_path):
    with Admin(tmp_path) as admin:
        admin.create_topic("t")
    with Admin(str(tmp_path)) as admin:
        assert list(admin.topics()) == ["t"]
