"""What every backend promises, held to by each of them."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamkit import codec
from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.backends.memory.backend import MemoryBackend
from streamkit.backends.values import CommittedOffset
from streamkit.errors import (
    ConfigError,
    Fenced,
    GroupActive,
    InvalidPartitions,
    InvalidRecord,
    InvalidRequiredAcks,
    InvalidTimestamp,
    InvalidTopic,
    OffsetOutOfRange,
    PolicyViolation,
    ProducerFenced,
    RecordTooLarge,
    TopicExists,
    UnknownGroup,
    UnknownPartition,
    UnknownTopic,
    UsageError,
)
from streamkit.records import TopicPartition

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


kept_as_it_is = pytest.mark.parametrize("backend", ["directory", "memory:"], indirect=True)
"""For what a log in memory, which is for tests of apps, says itself that it does not do."""


@pytest.fixture(params=["directory", "memory:", "memory"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    if request.param == "memory":
        with MemoryBackend() as opened:
            opened.create_topic("t", 2)
            yield opened
        return
    url = str(tmp_path / "log") if request.param == "directory" else request.param
    with open_backend(url) as opened:
        opened.create_topic("t", 2)
        yield opened


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.002)


class TestTopics:
    def test_a_topic_is_there_once_it_is_made(self, backend):
        made = backend.create_topic("orders", 3, {"cleanup.policy": "compact"})
        assert backend.topic("orders") == made == backend.topics()["orders"]
        assert (made.name, made.partitions) == ("orders", 3)
        assert made.config == {"cleanup.policy": "compact"}
        assert len(made.topic_id) == 32 and not made.internal

    def test_a_second_one_of_the_name_is_refused(self, backend):
        with pytest.raises(TopicExists, match="t"):
            backend.create_topic("t")

    def test_names_and_configs_are_checked(self, backend):
        with pytest.raises(InvalidTopic):
            backend.create_topic("a/b")
        with pytest.raises(ConfigError, match=r"cleanup\.policy"):
            backend.create_topic("x", 1, {"cleanup.polcy": "compact"})

    def test_an_unknown_one_is_named_with_the_nearest(self, backend):
        backend.create_topic("orders")
        for call in (
            lambda: backend.topic("order"),
            lambda: backend.delete_topic("order"),
            lambda: backend.append(TopicPartition("order", 0), [b"x"]),
            lambda: backend.fetch({TopicPartition("order", 0): 0}),
            lambda: backend.offsets(TopicPartition("order", 0)),
        ):
            with pytest.raises(UnknownTopic, match="orders"):
                call()

    def test_a_deleted_one_is_gone_and_may_be_made_again_empty(self, backend):
        backend.append(T0, [b"old"])
        first = backend.topic("t").topic_id
        backend.delete_topic("t")
        assert "t" not in backend.topics()
        with pytest.raises(UnknownTopic):
            backend.append(T0, [b"x"])
        assert backend.create_topic("t").topic_id != first
        assert backend.offsets(T0).end == 0
        assert backend.append(T0, [b"new"]) == 0

    def test_partitions_are_added_and_never_taken_away(self, backend):
        backend.append(T1, [b"old"])
        grown = backend.add_partitions("t", 4)
        assert (grown.partitions, grown) == (4, backend.topic("t"))
        assert backend.append(TopicPartition("t", 3), [b"new"]) == 0
        assert backend.offsets(T1).end == 1
        for total in (4, 1, 0):
            with pytest.raises(InvalidPartitions, match="'t'"):
                backend.add_partitions("t", total)
        with pytest.raises(UnknownTopic):
            backend.add_partitions("u", 4)

    def test_who_waits_is_woken_when_a_topic_grows(self, backend):
        woken = threading.Event()

        def wait() -> None:
            if backend.wait({T0: 0, T1: 0}, 20):
                woken.set()

        waiter = threading.Thread(target=wait)
        waiter.start()
        time.sleep(0.02)
        backend.add_partitions("t", 3)
        waiter.join()
        assert woken.is_set()

    def test_configs_are_altered_and_obeyed(self, backend):
        altered = backend.alter_topic("t", {"max.message.bytes": "300", "segment.ms": "60000"})
        assert altered == backend.topic("t")
        assert altered.config == {"max.message.bytes": "300", "segment.ms": "60000"}
        with pytest.raises(RecordTooLarge):
            backend.append(T0, [b"x" * 400])
        assert backend.alter_topic("t", {"max.message.bytes": None}).config == {
            "segment.ms": "60000"
        }
        assert backend.append(T0, [b"x" * 400]) == 0
        for wrong in ({"segment.mss": "1"}, {"segment.mss": None}, {"segment.ms": "soon"}):
            with pytest.raises(ConfigError, match=r"segment\.ms"):
                backend.alter_topic("t", wrong)
        with pytest.raises(UnknownTopic):
            backend.alter_topic("u", {"segment.ms": "1"})

    def test_a_topic_that_becomes_compacted_takes_no_record_without_a_key(self, backend):
        backend.append(T0, [b"keyless"])
        backend.alter_topic("t", {"cleanup.policy": "compact"})
        with pytest.raises(InvalidRecord):
            backend.append(T0, [b"keyless"])
        assert backend.append(T0, [b"x"], keys=[b"k"]) == 1

    def test_what_the_log_keeps_for_itself_is_left_alone(self, backend):
        backend.commit("g", {T0: CommittedOffset(1)})
        for name in ("__consumer_offsets", "__transaction_state", "__cluster_metadata"):
            for refused in (
                lambda name=name: backend.create_topic(name),
                lambda name=name: backend.delete_topic(name),
                lambda name=name: backend.add_partitions(name, 9),
                lambda name=name: backend.alter_topic(name, {"cleanup.policy": "delete"}),
                lambda name=name: backend.append(TopicPartition(name, 0), [b"x"], keys=[b"k"]),
                lambda name=name: backend.append_encoded(
                    TopicPartition(name, 0), codec.encode([b"x"], keys=[b"k"], timestamps=0)
                ),
            ):
                with pytest.raises(InvalidTopic, match="internal"):
                    refused()
        assert backend.committed("g") == {T0: CommittedOffset(1)}
        with pytest.raises(InvalidTopic, match="internal"):
            backend.create_topic("__transaction.state")  # like it, but for the dot

    def test_a_name_like_those_of_its_own_is_anybodys(self, backend):
        made = backend.create_topic("__heartbeat")
        backend.append(TopicPartition("__heartbeat", 0), [b"x"])
        assert not made.internal
        assert backend.delete_records(TopicPartition("__heartbeat", 0), -1) == 1

    def test_what_partitions_hold_is_told(self, backend):
        backend.append(T1, [b"x" * 1000] * 3)
        empty, full = backend.partitions("t")
        assert (empty.partition, empty.start, empty.stable, empty.end) == (T0, 0, 0, 0)
        assert (empty.segments, empty.bytes) == (1, 0)
        assert (full.partition, full.start, full.stable, full.end) == (T1, 0, 3, 3)
        assert full.segments == 1 and 3000 < full.bytes < 3300
        with pytest.raises(UnknownTopic):
            backend.partitions("u")


class TestTheLogAsAWhole:
    def test_its_configs_are_set_and_taken_back(self, backend):
        assert backend.log_config() == {}
        backend.alter_log({"max.disk.bytes": "1000000"})
        assert backend.log_config() == {"max.disk.bytes": "1000000"}
        for wrong in ({"max.disk.byte": "1"}, {"max.disk.bytes": "many"}):
            with pytest.raises(ConfigError, match=r"max\.disk\.bytes"):
                backend.alter_log(wrong)
        backend.alter_log({"max.disk.bytes": None})
        assert backend.log_config() == {}

    @kept_as_it_is
    def test_maintenance_removes_what_is_not_kept(self, backend):
        backend.create_topic("short", 1, {"retention.bytes": "0"})
        backend.append(TopicPartition("short", 0), [b"x"])
        backend.maintain()
        until(lambda: backend.offsets(TopicPartition("short", 0)).start == 1)
        assert backend.append(TopicPartition("short", 0), [b"y"]) == 1


class TestRecords:
    def test_what_is_appended_is_read_back(self, backend):
        first = backend.append(
            T0,
            [b"a", None, b""],
            keys=[b"k", b"", None],
            timestamps=[5, 6, 4],
            headers=[(("h", b"v"), ("n", None)), (), ()],
        )
        assert first == 0
        assert backend.append(T0, [b"d"], timestamps=9) == 3
        (batch,) = backend.fetch({T0: 0, T1: 0})
        assert batch.partition == T0 and batch.next_offset == 4 and len(batch) == 4
        records = batch.records()
        assert [(r.offset, r.timestamp, r.key, r.value) for r in records] == [
            (0, 5, b"k", b"a"),
            (1, 6, b"", None),
            (2, 4, None, b""),
            (3, 9, None, b"d"),
        ]
        assert records[0].headers == (("h", b"v"), ("n", None))
        columns = batch.columns()
        assert list(columns.offsets) == [0, 1, 2, 3]
        assert list(columns.values) == [b"a", None, b"", b"d"]

    def test_reading_can_begin_inside_a_batch(self, backend):
        backend.append(T0, [b"a", b"b", b"c"])
        (batch,) = backend.fetch({T0: 2})
        assert [r.value for r in batch.records()] == [b"c"] == list(batch.columns().values)
        assert len(batch) == 1

    def test_at_the_end_there_is_nothing_to_fetch(self, backend):
        backend.append(T0, [b"a"])
        assert backend.fetch({T0: 1, T1: 0}) == []
        assert backend.fetch({}) == []

    def test_a_small_limit_still_gives_a_whole_batch_of_every_partition(self, backend):
        for tp in (T0, T1):
            backend.append(tp, [b"x" * 1000])
            backend.append(tp, [b"y" * 1000])
        batches = backend.fetch({T0: 0, T1: 0}, max_bytes=1)
        assert [(b.partition, b.next_offset) for b in batches] == [(T0, 1), (T1, 1)]

    def test_an_offset_outside_is_refused(self, backend):
        backend.append(T0, [b"a"])
        with pytest.raises(OffsetOutOfRange, match="t-0"):
            backend.fetch({T0: 2})

    def test_an_unknown_partition_is_refused(self, backend):
        with pytest.raises(UnknownPartition, match="7"):
            backend.append(TopicPartition("t", 7), [b"x"])

    def test_encoded_batches_are_taken_whole(self, backend):
        backend.append(T0, [b"a"])
        raw = codec.encode([b"b", b"c"], timestamps=3, compression="zstd")
        assert backend.append_encoded(T0, raw) == 1
        (batch,) = backend.fetch({T0: 1})
        assert [(r.offset, r.value) for r in batch.records()] == [(1, b"b"), (2, b"c")]

    def test_nothing_appended_is_no_batch(self, backend):
        assert backend.append(T0, []) == 0
        assert backend.offsets(T0).end == 0

    def test_a_compacted_topic_needs_keys(self, backend):
        backend.create_topic("c", 1, {"cleanup.policy": "compact"})
        c0 = TopicPartition("c", 0)
        with pytest.raises(InvalidRecord, match="key"):
            backend.append(c0, [b"x"])
        with pytest.raises(InvalidRecord, match="record 1"):
            backend.append(c0, [b"x", b"y"], keys=[b"k", None])
        with pytest.raises(InvalidRecord, match="key"):
            backend.append_encoded(c0, codec.encode([b"x"], timestamps=0))
        assert backend.offsets(c0).end == 0
        assert backend.append(c0, [None], keys=[b"k"]) == 0

    def test_a_batch_over_the_limit_is_refused_and_leaves_nothing(self, backend):
        backend.create_topic("small", 1, {"max.message.bytes": "2000"})
        with pytest.raises(RecordTooLarge, match="2000"):
            backend.append(TopicPartition("small", 0), [b"x" * 3000])
        assert backend.offsets(TopicPartition("small", 0)).end == 0

    @pytest.mark.parametrize("name", ["gzip", "snappy", "lz4", "zstd", "producer"])
    def test_a_topics_compression_is_used(self, backend, name):
        backend.create_topic("c", 1, {"compression.type": name})
        backend.append(TopicPartition("c", 0), [b"x" * 5000])
        (batch,) = backend.fetch({TopicPartition("c", 0): 0})
        assert [r.value for r in batch.records()] == [b"x" * 5000]
        assert (len(batch.raw) < 5000) == (name != "producer")

    def test_a_time_is_found(self, backend):
        backend.append(T0, [b"a", b"b", b"c"], timestamps=[10, 30, 20])
        assert backend.offset_at(T0, 0) == 0
        assert backend.offset_at(T0, 11) == 1
        assert backend.offset_at(T0, 30) == 1
        assert backend.offset_at(T0, 31) is None
        assert backend.offset_at(T1, 0) is None

    def test_without_a_timestamp_it_is_now(self, backend):
        before = time.time_ns() // 1_000_000
        backend.append(T0, [b"a"])
        (batch,) = backend.fetch({T0: 0})
        assert before <= batch.records()[0].timestamp <= time.time_ns() // 1_000_000

    @kept_as_it_is
    def test_a_time_out_of_the_topics_bounds_is_refused(self, backend):
        backend.create_topic("bound", 1, {"message.timestamp.before.max.ms": "60000"})
        bound = TopicPartition("bound", 0)
        with pytest.raises(InvalidTimestamp, match="bound-0"):
            backend.append(bound, [b"x"], timestamps=5)
        with pytest.raises(InvalidTimestamp, match="bound-0"):
            backend.append_encoded(bound, codec.encode([b"x"], timestamps=5))
        assert backend.append(bound, [b"x"]) == 0

    def test_unknown_acks_are_refused(self, backend):
        with pytest.raises(InvalidRequiredAcks, match="acks=0"):
            backend.append(T0, [b"x"], acks=0)
        assert backend.offsets(T0).end == 0

    def test_deleted_records_are_gone(self, backend):
        for value in (b"a", b"b", b"c"):
            backend.append(T0, [value])
        assert backend.delete_records(T0, 2) == 2
        assert backend.offsets(T0).start == 2
        with pytest.raises(OffsetOutOfRange):
            backend.fetch({T0: 1})
        (batch,) = backend.fetch({T0: 2})
        assert [r.value for r in batch.records()] == [b"c"]
        with pytest.raises(OffsetOutOfRange, match="t-0@9"):
            backend.delete_records(T0, 9)
        assert backend.delete_records(T0, -1) == 3
        backend.create_topic("c", 1, {"cleanup.policy": "compact"})
        with pytest.raises(PolicyViolation, match="c-0"):
            backend.delete_records(TopicPartition("c", 0), 0)
        with pytest.raises(UnknownPartition):
            backend.delete_records(TopicPartition("t", 2), 0)

    def test_there_is_a_place_beside_a_partition_or_none_at_all(self, backend):
        place = backend.state_directory(T0)
        if backend.url == "memory:":
            assert place is None
        else:
            assert place is not None and place.parent.is_dir() and not place.exists()
            assert place != backend.state_directory(T1)

    def test_synced_is_synced(self, backend):
        backend.append(T0, [b"a"], acks="all")
        backend.append(T1, [b"b"], acks=1)
        backend.sync([T0, T1])


class TestWaiting:
    def test_nothing_comes_and_the_time_is_over(self, backend):
        assert backend.wait({T0: 0}, 0.0) is False
        assert backend.wait({T0: 0}, 0.02) is False

    def test_what_is_there_already_ends_the_wait_at_once(self, backend):
        backend.append(T0, [b"a"])
        assert backend.wait({T0: 0, T1: 0}, 30.0) is True

    def test_an_append_of_another_thread_ends_the_wait(self, backend):
        thread = threading.Timer(0.05, lambda: backend.append(T1, [b"a"]))
        thread.start()
        assert backend.wait({T0: 0, T1: 0}, 30.0) is True
        thread.join()

    def test_a_new_topic_ends_the_wait_also_when_it_came_since_the_last_one(self, backend):
        assert backend.wait({T0: 0}, 0.0) is False
        backend.create_topic("before")
        assert backend.wait({T0: 0}, 30.0) is True
        assert backend.wait({T0: 0}, 0.0) is False
        thread = threading.Timer(0.05, lambda: backend.create_topic("new"))
        thread.start()
        assert backend.wait({T0: 0}, 30.0) is True
        thread.join()
        backend.add_partitions("new", 3)
        assert backend.wait({T0: 0}, 30.0) is True

    def test_wake_ends_the_wait_also_when_it_came_first(self, backend):
        backend.wake()
        assert backend.wait({T0: 0}, 30.0) is True
        assert backend.wait({T0: 0}, 0.0) is False
        thread = threading.Timer(0.05, backend.wake)
        thread.start()
        assert backend.wait({T0: 0}, 30.0) is True
        thread.join()

    def test_wake_ends_the_wait_of_each_thread(self, backend):
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(backend.wait({T0: 0}, 30.0)))
            for _ in range(3)
        ]
        backend.wake()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [True] * 3

    def test_a_new_member_ends_the_wait_of_who_has_to_give_way(self, backend):
        first = backend.join("g", {"t": 2})
        first.poll()
        joined = []
        thread = threading.Timer(0.05, lambda: joined.append(backend.join("g", {"t": 2})))
        thread.start()
        assert backend.wait({T0: 0}, 30.0) is True
        thread.join()
        until(lambda: bool(first.poll().revoking))


class TestGroups:
    def test_offsets_are_committed_and_kept(self, backend):
        assert backend.committed("g") == {}
        offsets = {T0: CommittedOffset(5, "note"), T1: CommittedOffset(7)}
        backend.commit("g", offsets)
        assert backend.committed("g") == offsets
        backend.commit("g", {T1: CommittedOffset(8)})
        assert backend.committed("g") == {T0: CommittedOffset(5, "note"), T1: CommittedOffset(8)}
        assert backend.committed("other") == {}
        assert backend.groups() == ["g"]

    def test_offsets_of_a_topic_go_with_it(self, backend):
        backend.create_topic("u")
        u0 = TopicPartition("u", 0)
        for group in ("g", "h"):
            backend.commit(group, {T0: CommittedOffset(1), u0: CommittedOffset(9)})
        backend.delete_topic("u")
        backend.create_topic("u")
        for group in ("g", "h"):
            assert backend.committed(group) == {T0: CommittedOffset(1)}

    def test_offsets_of_what_does_not_exist_are_refused(self, backend):
        with pytest.raises(UnknownTopic):
            backend.commit(
                "g", {T0: CommittedOffset(1), TopicPartition("u", 0): CommittedOffset(1)}
            )
        with pytest.raises(UnknownPartition):
            backend.commit("g", {TopicPartition("t", 2): CommittedOffset(1)})
        assert backend.committed("g") == {}

    @pytest.mark.parametrize("group", ["a/b", "..", "ü 漢", "%41", "x" * 200, "a\nb"])
    def test_a_groups_name_is_any_text(self, backend, group):
        member = backend.join(group, {"t": 2})
        assert member.poll().owned == {T0, T1}
        backend.commit(group, {T0: CommittedOffset(1)}, member=member)
        assert backend.groups() == [group]
        assert backend.group(group).members[0].member_id == member.member_id
        member.leave()

    def test_a_group_without_a_name_or_with_an_endless_one_is_refused(self, backend):
        for group in ("", "x" * 1000):
            with pytest.raises(UsageError, match="name"):
                backend.join(group, {"t": 2})

    def test_what_a_groups_records_cannot_hold_is_refused(self, backend):
        for group, committed in (
            ("\ud800", CommittedOffset(1)),
            ("g", CommittedOffset(1, "\ud800")),
            ("g", CommittedOffset(2**63)),
        ):
            with pytest.raises(UsageError):
                backend.commit(group, {T0: committed})
        with pytest.raises(UsageError, match="50000"):
            backend.join("g", {"t": 2}, client_id="x" * 50000)
        assert backend.groups() == []
        backend.commit("g", {T0: CommittedOffset(1)})

    def test_notes_have_a_limit(self, backend):
        backend.commit("g", {T0: CommittedOffset(1, "ü" * 4096)})
        assert backend.committed("g")[T0].metadata == "ü" * 4096
        with pytest.raises(UsageError, match="4097"):
            backend.commit("g", {T1: CommittedOffset(1, "x" * 4097)})

    def test_hundreds_of_offsets_with_long_notes_are_one_commit(self, backend):
        backend.create_topic("wide", 300)
        offsets = {TopicPartition("wide", n): CommittedOffset(n, "x" * 4096) for n in range(300)}
        backend.commit("g", offsets)
        assert backend.committed("g") == offsets

    def test_one_member_has_all_units(self, backend):
        member = backend.join("g", {"t": 2, "task": 1}, client_id="me")
        ownership = member.poll()
        units = {T0, T1, TopicPartition("task", 0)}
        assert ownership.owned == ownership.gained == units and not ownership.revoking
        assert member.poll().gained == frozenset()
        info = backend.group("g")
        assert info.state == "Stable" and info.generation == member.generation == 1
        assert info.members[0].client_id == "me"
        assert set(info.members[0].units) == units

    def test_a_second_member_gets_its_share_when_the_first_releases_it(self, backend):
        first = backend.join("g", {"t": 2})
        first.poll()
        second = backend.join("g", {"t": 2})
        assert second.poll().owned == frozenset()
        until(lambda: bool(first.poll().revoking))
        moving = first.poll().revoking
        assert len(moving) == 1 and first.poll().owned == {T0, T1}
        first.release(moving)
        until(lambda: second.poll().owned == moving)
        assert first.poll().owned == {T0, T1} - moving
        assert first.generation == second.generation == 2

    def test_what_a_member_leaves_the_others_take(self, backend):
        first = backend.join("g", {"t": 2})
        second = backend.join("g", {"t": 2})
        first.leave()
        first.leave()
        until(lambda: second.poll().owned == {T0, T1})
        second.leave()
        info = backend.group("g")
        assert info.state == "Empty" and info.members == ()

    def test_members_with_other_units_keep_to_them(self, backend):
        first = backend.join("g", {"a": 2})
        second = backend.join("g", {"b": 1})
        until(lambda: len(first.poll().owned) == 2)
        assert {unit.topic for unit in first.poll().owned} == {"a"}
        assert second.poll().owned == {TopicPartition("b", 0)}

    def test_who_has_left_is_fenced(self, backend):
        member = backend.join("g", {"t": 2})
        backend.commit("g", {T0: CommittedOffset(3)}, member=member)
        member.leave()
        with pytest.raises(Fenced, match="left"):
            backend.commit("g", {T0: CommittedOffset(4)}, member=member)
        assert backend.committed("g") == {T0: CommittedOffset(3)}
        assert member.poll().owned == frozenset()

    def test_a_member_commits_for_its_own_group_only(self, backend):
        member = backend.join("g", {"t": 2})
        with pytest.raises(UsageError, match="other"):
            backend.commit("other", {T0: CommittedOffset(4)}, member=member)

    def test_without_a_member_an_active_group_is_left_alone(self, backend):
        member = backend.join("g", {"t": 2}, client_id="worker")
        with pytest.raises(GroupActive, match="worker"):
            backend.commit("g", {T0: CommittedOffset(4)})
        with pytest.raises(GroupActive):
            backend.delete_group("g")
        member.leave()
        backend.commit("g", {T0: CommittedOffset(4)})
        assert backend.committed("g") == {T0: CommittedOffset(4)}

    def test_a_deleted_group_is_forgotten(self, backend):
        member = backend.join("g", {"t": 2})
        backend.commit("g", {T0: CommittedOffset(4)}, member=member)
        member.leave()
        backend.delete_group("g")
        assert backend.groups() == [] and backend.committed("g") == {}
        assert backend.group("g").state == "Dead"
        with pytest.raises(UnknownGroup, match="h"):
            backend.commit("h", {T0: CommittedOffset(4)})
            backend.delete_group("g")

    def test_closing_leaves_every_group(self, backend):
        with open_backend(backend.url) if backend.url != "memory:" else backend as other:
            other.join("g", {"t": 2})
            assert len(backend.group("g").members) == 1
        if backend.url != "memory:":
            assert backend.group("g").state == "Empty"


class TestTransactions:
    @staticmethod
    def send(backend, transactions, *values, at=T0, sequence=0):
        """Append one batch to a partition within the present transaction."""
        transactions.add([at])
        producer_id, epoch = transactions.producer
        batch = codec.encode(
            values,
            timestamps=0,
            producer_id=producer_id,
            producer_epoch=epoch,
            base_sequence=sequence,
            transactional=True,
        )
        return backend.append_encoded(at, batch)

    @staticmethod
    def values(backend, at=T0, **isolation):
        position, found = 0, []
        while batches := backend.fetch({at: position}, **isolation):
            for batch in batches:
                found += batch.columns().values
                position = batch.next_offset
        return found

    def test_a_transaction_is_read_in_all_partitions_once_it_is_committed(self, backend):
        transactions = backend.transactions("app", timeout=10)
        transactions.begin()
        self.send(backend, transactions, b"a", b"b")
        self.send(backend, transactions, b"c", at=T1)
        assert self.values(backend) == self.values(backend, T1) == []
        assert self.values(backend, isolation="read_uncommitted") == [b"a", b"b"]
        assert (backend.offsets(T0).end, backend.offsets(T0).log_end) == (0, 2)
        assert backend.end(T0) == 0
        transactions.commit()
        assert backend.end(T0) == backend.offsets(T0).end >= 2
        assert (self.values(backend), self.values(backend, T1)) == ([b"a", b"b"], [b"c"])
        transactions.close()

    def test_an_aborted_one_is_passed_over(self, backend):
        transactions = backend.transactions("app", timeout=10)
        transactions.begin()
        assert not transactions.abort(), "there was nothing yet"
        before = transactions.producer
        self.send(backend, transactions, b"a")
        assert transactions.abort()
        assert transactions.producer != before
        transactions.begin()
        self.send(backend, transactions, b"b")
        transactions.commit()
        assert self.values(backend) == [b"b"]
        (batch,) = backend.fetch({T0: 0}, max_bytes=1)
        assert (len(batch), batch.records()) == (0, [])
        assert batch.next_offset > 0

    def test_who_waits_is_woken_by_the_end_and_not_by_what_is_sent(self, backend):
        transactions = backend.transactions("app", timeout=10)
        self.send(backend, transactions, b"a")
        assert not backend.wait({T0: 0}, 0.01)
        assert backend.wait({T0: 0}, 0.01, isolation="read_uncommitted")
        transactions.commit()
        assert backend.wait({T0: 0}, 0.01)

    def test_offsets_take_effect_with_it(self, backend):
        transactions = backend.transactions("app", timeout=10)
        with_member = backend.join("g", {"t": 2})
        transactions.commit_offsets("g", {T0: CommittedOffset(3, "note")}, member=with_member)
        assert (backend.committed("g"), backend.pending("g")) == ({}, {T0})
        transactions.commit()
        assert backend.committed("g") == {T0: CommittedOffset(3, "note")}
        assert backend.pending("g") == frozenset()
        with_member.leave()
        with pytest.raises(Fenced):
            transactions.commit_offsets("g", {T0: CommittedOffset(4)}, member=with_member)
        with pytest.raises(UnknownTopic):
            transactions.commit_offsets("g", {TopicPartition("no", 0): CommittedOffset(4)})
        transactions.abort()
        assert backend.committed("g")[T0].offset == 3

    def test_offsets_are_committed_for_the_units_that_the_work_was_done_for(self, backend):
        task, other = TopicPartition("task", 0), TopicPartition("task", 1)
        member = backend.join("g", {"task": 1})
        until(lambda: member.poll().owned == {task})
        transactions = backend.transactions("x", timeout=60)
        transactions.begin()
        with pytest.raises(Fenced):
            transactions.commit_offsets("g", {T0: CommittedOffset(1)}, member=member, units=[other])
        transactions.abort()
        transactions.begin()
        transactions.commit_offsets("g", {T0: CommittedOffset(2)}, member=member, units=[task])
        transactions.commit()
        assert backend.committed("g")[T0].offset == 2

    def test_the_next_producer_of_the_id_fences_the_one_before(self, backend):
        first = backend.transactions("app", timeout=10)
        self.send(backend, first, b"a")
        second = backend.transactions("app", timeout=10)
        for call in (first.commit, first.begin, first.abort, lambda: first.add([T1])):
            with pytest.raises(ProducerFenced, match="app"):
                call()
        first.close()
        self.send(backend, second, b"b")
        second.commit()
        second.close()
        assert self.values(backend) == [b"b"]

    def test_a_batch_with_a_sequence_is_appended_once(self, backend):
        producer_id = backend.producer_id()
        assert producer_id != backend.producer_id()
        batch = codec.encode(
            [b"a"], timestamps=0, producer_id=producer_id, producer_epoch=0, base_sequence=0
        )
        assert [backend.append_encoded(T0, batch) for _ in range(3)] == [0, 0, 0]
        assert self.values(backend) == [b"a"]
