"""Topics and groups, as a tool sees them."""

from contextlib import suppress
from datetime import UTC, datetime

import pytest

from streamkit.backends.locate import open_backend
from streamkit.backends.values import CommittedOffset, OffsetRange
from streamkit.clients.admin import Admin
from streamkit.clients.producer import Producer
from streamkit.clients.reset import MovedOffset
from streamkit.clock import SystemClock
from streamkit.errors import Fenced, GroupActive, UnknownTopic, UsageError
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


def test_what_no_reader_gets_is_no_lag(tmp_path):
    with open_backend(tmp_path / "log") as log, Producer(log, transactional_id="x") as producer:
        admin = Admin(log)
        admin.create_topic("t")
        with producer.transaction() as transaction:
            transaction.send_many("t", ["one", "two"])
        log.commit("g", {T0: CommittedOffset(0)})
        assert admin.lag("g") == {T0: 3}, "two records, and a marker behind them"
        log.commit("g", {T0: CommittedOffset(2)})
        assert log.offsets(T0).end == 3
        assert admin.lag("g") == {T0: 0}
        for _ in range(20):
            with suppress(KeyError), producer.transaction() as transaction:
                transaction.send("t", "aborted")
                producer.flush()
                raise KeyError
        assert log.offsets(T0).end == 43
        assert admin.lag("g") == {T0: 0}
        assert (admin.positions("g")[T0].lag, admin.positions("g")[T0].behind) == (0, 0.0)
        log.append(T0, [b"three"])
        assert admin.lag("g") == {T0: 1}
        admin.delete_records({T0: 44})
        assert admin.lag("g") == {T0: 0}, "deleted, it is not to be read any more"


def test_an_apps_changelogs_are_no_input(admin, log):
    log.create_topic("g-counts-changelog", 1)
    changelog = TopicPartition("g-counts-changelog", 0)
    log.append(changelog, [b"x"] * 5)
    log.commit("g", {T0: CommittedOffset(7), changelog: CommittedOffset(4)})
    assert admin.lag("g") == {T0: 3}
    assert admin.positions("g")[changelog].lag == 1
    log.commit("reader", {changelog: CommittedOffset(4)})
    assert admin.lag("reader") == {changelog: 1}, "of another group it is one"


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
    told = dict(
        zip((T0, T1), (MovedOffset(5, expected[0]), MovedOffset(1, expected[1])), strict=True)
    )
    assert admin.reset_offsets("g", **where, dry_run=True) == told
    assert {tp: c.offset for tp, c in log.committed("g").items()} == {T0: 5, T1: 1}
    assert admin.reset_offsets("g", **where) == told
    assert {tp: c.offset for tp, c in log.committed("g").items()} == dict(
        zip((T0, T1), expected, strict=True)
    )


def test_a_new_group_is_given_offsets_by_naming_topics(admin, log):
    assert admin.reset_offsets("new", "latest", topics="t") == {
        T0: MovedOffset(None, 10),
        T1: MovedOffset(None, 4),
    }
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
    with pytest.raises(UsageError, match="no partition is named"):
        admin.reset_offsets("g", "latest", partitions=[])
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


def test_single_partitions_are_reset_and_notes_kept_only_forwards(admin, log):
    log.commit("g", {T0: CommittedOffset(5, "five"), T1: CommittedOffset(1, "one")})
    assert admin.reset_offsets("g", offset=7, partitions=[T0]) == {T0: MovedOffset(5, 7)}
    assert log.committed("g") == {T0: CommittedOffset(7, "five"), T1: CommittedOffset(1, "one")}
    admin.reset_offsets("g", "earliest", partitions=[T1])
    assert log.committed("g")[T1] == CommittedOffset(0)


def test_what_an_app_hands_on_to_itself_is_reset_only_when_named(admin, log):
    admin.create_topic("g-count-changelog")
    own = TopicPartition("g-count-changelog", 0)
    log.append(own, [b"x"], keys=[b"k"])
    log.commit("g", {T0: CommittedOffset(5), own: CommittedOffset(1)})
    assert admin.reset_offsets("g", "earliest") == {T0: MovedOffset(5, 0)}
    assert admin.reset_offsets("g", "earliest", partitions=[own]) == {own: MovedOffset(1, 0)}


def test_what_only_begins_and_ends_like_a_topic_of_the_app_is_reset(admin, log):
    admin.create_topic("g-retry")
    named = TopicPartition("g-retry", 0)
    log.append(named, [b"x"])
    log.commit("g", {named: CommittedOffset(1)})
    assert admin.reset_offsets("g", "earliest") == {named: MovedOffset(1, 0)}


def test_a_forced_reset_fences_the_members(admin, log):
    member = log.join("g", {"t": 2})
    log.commit("g", {T0: CommittedOffset(5), T1: CommittedOffset(1)}, member=member)
    with pytest.raises(GroupActive):
        admin.reset_offsets("g", "earliest")
    assert admin.reset_offsets("g", shift=-1, force=True) == {
        T0: MovedOffset(5, 4),
        T1: MovedOffset(1, 0),
    }
    with pytest.raises(Fenced, match="forced reset"):
        log.commit("g", {T0: CommittedOffset(6)}, member=member)
    with pytest.raises(Fenced):
        member.poll()
    assert {tp: c.offset for tp, c in log.committed("g").items()} == {T0: 4, T1: 0}
    assert log.group("g").state == "Empty"
    assert log.join("g", {"t": 2}).poll().owned == {T0, T1}


def test_a_forced_reset_that_is_wrong_fences_nobody(admin, log):
    member = log.join("g", {"t": 2})
    with pytest.raises(UsageError):
        admin.reset_offsets("g", shift=-1, partitions=[T0], force=True)
    log.commit("g", {T0: CommittedOffset(1), T1: CommittedOffset(1)}, member=member)


def test_how_far_a_group_is_behind_is_told_in_records_and_in_time(admin, log):
    now = SystemClock().now()
    old = TopicPartition("old", 0)
    admin.create_topic("old")
    log.append(old, [b"a"], timestamps=now - 3_600_000)
    log.append(old, [b"b"], timestamps=now - 60_000)
    ahead = now + 1_000_000_000
    log.append(T1, [b"y"], timestamps=ahead)
    log.commit("g", {old: CommittedOffset(0), T0: CommittedOffset(10), T1: CommittedOffset(4)})
    told = admin.positions("g")
    assert (told[old].lag, told[old].end) == (2, 2)
    assert 3600 <= told[old].behind < 3660
    assert (told[T0].lag, told[T0].behind) == (0, 0.0)
    assert (told[T1].lag, told[T1].behind) == (1, 0.0)
    log.commit("g", {old: CommittedOffset(1)})
    assert 60 <= admin.positions("g")[old].behind < 120
    admin.delete_topic("old")
    assert set(admin.positions("g")) == {T0, T1}


def test_a_path_is_opened_and_closed(tmp_path):
    with Admin(tmp_path) as admin:
        admin.create_topic("t")
    with Admin(str(tmp_path)) as admin:
        assert list(admin.topics()) == ["t"]
