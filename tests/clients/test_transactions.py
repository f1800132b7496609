"""Producers with transactional ids and sequences, and consumers beside them."""

import asyncio
import os
import re
import threading
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest

from streamkit.backends.locate import open_backend
from streamkit.backends.values import CommittedOffset
from streamkit.clients.consumer import Consumer
from streamkit.clients.producer import Producer
from streamkit.codec import headers
from streamkit.errors import (
    Fenced,
    InvalidTxnState,
    InvalidTxnTimeout,
    OutcomeUnknown,
    OutOfSpace,
    ProducerFenced,
    RecordTooLarge,
    StorageFailed,
    TopicExists,
    UsageError,
)
from streamkit.records import TopicPartition

ONE, OTHER = TopicPartition("one", 0), TopicPartition("other", 0)


@pytest.fixture
def log():
    with open_backend("memory:") as backend:
        backend.create_topic("one")
        backend.create_topic("other", 2)
        yield backend


@pytest.fixture
def producer(log):
    with Producer(log, transactional_id="app") as producer:
        yield producer


def read(log, topic="one", isolation="read_committed"):
    with Consumer(log, topic, isolation=isolation) as consumer:
        return [record.value for record in consumer.until_end()]


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.002)


class Failing:
    """A backend whose named calls raise what they are told to, before or after they are done."""

    def __init__(self, log):
        self._log = log
        self.before = {}
        self.after = {}

    def __getattr__(self, name):
        call = getattr(self._log, name)

        def called(*args, **options):
            if self.before.get(name):
                raise self.before[name].pop(0)
            result = call(*args, **options)
            if self.after.get(name):
                raise self.after[name].pop(0)
            return result

        return called if callable(call) else call


class TestTransactions:
    def test_what_is_sent_is_read_when_it_is_committed_and_all_at_once(self, log, producer):
        with producer.transaction() as transaction:
            transaction.send("one", "a")
            transaction.send_many("one", [b"%d" % n for n in range(1000)])
            transaction.send("other", "b", partition=1)
            producer.flush()
            assert read(log) == read(log, "other") == []
            assert len(read(log, isolation="read_uncommitted")) == 1001
        assert read(log) == [b"a", *(b"%d" % n for n in range(1000))]
        assert read(log, "other") == [b"b"]

    def test_an_error_in_the_block_takes_all_of_it_back(self, log, producer):
        for number in range(3):
            with pytest.raises(ZeroDivisionError) as raised, producer.transaction() as transaction:
                transaction.send("one", f"aborted {number}")
                if number:
                    producer.flush()
                raise ZeroDivisionError
            # What was only in memory needs no taking back.
            assert getattr(raised.value, "__notes__", []) == (
                ["the transaction was aborted"] if number else []
            )
            with producer.transaction() as transaction:
                transaction.send("one", f"kept {number}")
        assert read(log) == [b"kept 0", b"kept 1", b"kept 2"]

    def test_many_after_each_other_go_on_in_the_same_partitions(self, log, producer):
        for number in range(50):
            with producer.transaction() as transaction:
                for topic in ("one", "other"):
                    transaction.send(topic, f"{number}", key=f"{number}")
        assert read(log) == [b"%d" % n for n in range(50)]
        assert sorted(read(log, "other"), key=int) == [b"%d" % n for n in range(50)]

    def test_one_in_which_nothing_is_sent_leaves_nothing_behind(self, log, producer):
        with producer.transaction():
            pass
        with pytest.raises(ZeroDivisionError), producer.transaction():
            raise ZeroDivisionError
        assert log.offsets(ONE).log_end == 0
        with producer.transaction() as transaction:
            transaction.send("one", "a")
        assert read(log) == [b"a"]

    def test_one_that_is_closed_in_the_middle_is_aborted(self, log):
        producer = Producer(log, transactional_id="app")
        with pytest.raises(UsageError, match="closed"), producer.transaction() as transaction:
            transaction.send("one", "a")
            producer.flush()
            producer.close()
            assert log.offsets(ONE) == log.offsets(ONE).__class__(0, 2, 2)  # with the marker
            transaction.send("one", "b")
        assert read(log) == []

    def test_readers_wait_for_the_end_of_a_transaction_and_are_woken_by_it(self, log, producer):
        found = []

        def consume():
            with Consumer(log, "one") as consumer:
                found.extend(record.value for record in islice(consumer, 2))

        with producer.transaction() as transaction:
            transaction.send("one", "a")
            producer.flush()
            with Producer(log) as plain:
                plain.send("one", "from outside")
            thread = threading.Thread(target=consume)
            thread.start()
            with Consumer(log, "one") as consumer:
                assert consumer.poll(0.02) == []
            assert found == []
        thread.join(20)
        assert found == [b"a", b"from outside"]

    def test_a_stretch_with_nothing_to_see_is_passed_over_in_one_poll(self, log, producer):
        for _ in range(3):
            with pytest.raises(ZeroDivisionError), producer.transaction() as transaction:
                transaction.send_many("one", [b"x" * 1000] * 200)
                raise ZeroDivisionError
        with Producer(log) as plain:
            plain.send("one", "seen")
        with Consumer(log, "one", max_bytes=50_000) as consumer:
            assert [record.value for record in consumer.poll(20)] == [b"seen"]
            assert consumer.poll() == []
            assert consumer.position(ONE) == log.offsets(ONE).end

    def test_a_reader_of_everything_sees_what_was_aborted(self, log, producer):
        with pytest.raises(ZeroDivisionError), producer.transaction() as transaction:
            transaction.send("one", "aborted")
            producer.flush()
            raise ZeroDivisionError
        assert read(log) == []
        assert read(log, isolation="read_uncommitted") == [b"aborted"]
        with pytest.raises(UsageError, match="isolation"):
            Consumer(log, "one", isolation="serializable")

    def test_latest_is_behind_what_can_be_read(self, log, producer):
        with producer.transaction() as transaction:
            transaction.send("one", "a", timestamp=5)
            producer.flush()
            for isolation, position in (("read_committed", 0), ("read_uncommitted", 1)):
                for start in ("latest", 6):
                    with Consumer(log, "one", from_=start, isolation=isolation) as consumer:
                        assert consumer.position(ONE) == position
            assert log.offset_at(ONE, 5) is None
            assert log.offset_at(ONE, 5, isolation="read_uncommitted") == 0
        assert log.offset_at(ONE, 5) == 0

    def test_it_works_with_async(self, log, producer):
        async def run():
            async with producer.transaction() as transaction:
                transaction.send("one", "a")
            with pytest.raises(ZeroDivisionError):
                async with producer.transaction() as transaction:
                    transaction.send("one", "b")
                    raise ZeroDivisionError

        asyncio.run(run())
        assert read(log) == [b"a"]


class TestMisuse:
    def test_sending_outside_of_a_transaction_says_how_it_is_done(self, log, producer):
        for send in (producer.send, producer.send_and_wait):
            with pytest.raises(UsageError, match="within transactions only: with producer"):
                send("one", "a")
        with producer.transaction() as transaction:
            transaction.send("one", "a")
            with pytest.raises(UsageError, match="within transactions only"):
                producer.send_many("one", [b"b"])
        with pytest.raises(UsageError, match="the transaction is over"):
            transaction.send("one", "c")
        with pytest.raises(UsageError, match="begun once"), transaction:
            pass
        with pytest.raises(UsageError, match="with producer"):
            producer.transaction().send("one", "d")
        assert read(log) == [b"a"]

    def test_a_producer_without_an_id_has_none(self, log):
        with pytest.raises(UsageError, match="transactional_id="):
            Producer(log).transaction()

    def test_there_is_one_at_a_time(self, log, producer):
        with producer.transaction() as transaction:
            transaction.send("one", "a")
            with pytest.raises(UsageError, match="one at a time"), producer.transaction():
                pass
        assert read(log) == [b"a"]

    def test_it_is_for_one_thread(self, log, producer):
        errors = []

        def send(transaction):
            try:
                transaction.send("one", "b")
            except UsageError as error:
                errors.append(error)

        with producer.transaction() as transaction:
            transaction.send("one", "a")
            thread = threading.Thread(target=send, args=(transaction,))
            thread.start()
            thread.join()
        assert "for the thread that began it" in str(errors[0])
        assert read(log) == [b"a"]

    def test_what_makes_no_sense_is_refused_at_once(self, log):
        with pytest.raises(UsageError, match="acks=1"):
            Producer(log, transactional_id="app", acks=1)
        with pytest.raises(UsageError, match="at least one character"):
            Producer(log, transactional_id="")
        for timeout in (0, 10**6):
            with pytest.raises(InvalidTxnTimeout, match="900000"):
                Producer(log, transactional_id="app", transaction_timeout=timeout)

    def test_a_forked_child_cannot_go_on_with_it(self, log, producer):
        with producer.transaction() as transaction:
            transaction.send("one", "a")
            producer.flush()
            child = os.fork()
            if child == 0:  # pragma: no cover
                try:
                    with producer.transaction() as another:
                        another.send("one", "b")
                        producer.flush()
                except UsageError as error:
                    os._exit(0 if "parent" in str(error) else 1)
                finally:
                    os._exit(2)
            assert os.waitpid(child, 0)[1] == 0
        assert read(log) == [b"a"]


class TestFencing:
    def test_a_second_producer_with_the_id_takes_the_place_of_the_first(self, log):
        first = Producer(log, transactional_id="app")
        with pytest.raises(ProducerFenced) as raised, first.transaction() as transaction:
            transaction.send("one", "old")
            first.flush()
            second = Producer(log, transactional_id="app")
            assert log.offsets(ONE).end == 2  # what was open is aborted, and readers go on
            transaction.send("one", "later")
        assert "'app'" in str(raised.value)
        with pytest.raises(ProducerFenced), first.transaction() as transaction:
            transaction.send("one", "again")
        first.close()
        with second.transaction() as transaction:
            transaction.send("one", "new")
        second.close()
        assert read(log) == [b"new"]

    def test_a_fenced_producer_cannot_write_to_a_partition_that_it_has_added(self, log):
        first = Producer(log, transactional_id="app")
        with pytest.raises(ProducerFenced, match="begin a new producer"):  # noqa: SIM117
            with first.transaction() as transaction:
                transaction.send("one", "old")
                first.flush()
                Producer(log, transactional_id="app").close()
                transaction.send("one", "late")
                first.flush()  # the partition itself refuses it: nothing else is asked
        assert read(log, isolation="read_uncommitted") == [b"old"]

    def test_others_go_on_beside_it(self, log):
        producers = [Producer(log, transactional_id=f"app {n}") for n in range(3)]
        opened = [producer.transaction() for producer in producers]
        for number, transaction in enumerate(opened):
            transaction.__enter__()
            transaction.send("one", f"{number}")
        for producer in producers:
            producer.flush()
        opened[2].__exit__(None, None, None)
        assert read(log) == []
        opened[1].__exit__(ValueError, ValueError(), None)
        opened[0].__exit__(None, None, None)
        assert read(log) == [b"0", b"2"]


class TestErrors:
    def test_a_full_disk_before_the_commit_aborts_it_and_says_so(self, log):
        failing = Failing(log)
        producer = Producer(failing, transactional_id="app")
        failing.before["append_encoded"] = [OutOfSpace("full")]
        with pytest.raises(OutOfSpace) as raised, producer.transaction() as transaction:
            transaction.send("one", "a")
        assert raised.value.__notes__ == [
            "not appended to the transaction: 1 record sent to one-0",
            "the transaction was aborted",
        ]
        with producer.transaction() as transaction:
            transaction.send("one", "b")
        assert read(log) == [b"b"]

    def test_a_batch_that_failed_and_is_tried_again_is_in_the_transaction_once(self, log):
        failing = Failing(log)
        producer = Producer(failing, transactional_id="app")
        with producer.transaction() as transaction:
            transaction.send("one", "a")
            failing.before["append_encoded"] = [OutOfSpace("full")]
            with pytest.raises(OutOfSpace):
                producer.flush()
            transaction.send("one", "b")
        assert read(log) == [b"a", b"b"]

    def test_a_record_that_is_given_up_takes_the_transaction_with_it(self, log, producer):
        log.create_topic("small", 1, {"max.message.bytes": "1000"})
        with pytest.raises(InvalidTxnState, match="part of it is missing"):  # noqa: SIM117
            with producer.transaction() as transaction:
                transaction.send("one", "a")
                with pytest.raises(RecordTooLarge):
                    transaction.send("small", "b" * 2000)
        with producer.transaction() as transaction:
            transaction.send("one", "c")
        assert read(log) == [b"c"]

    def test_when_nobody_can_say_whether_it_is_committed_the_error_says_that(self, tmp_path):
        with open_backend(tmp_path / "log") as log:
            log.create_topic("one")
            producer = Producer(log, transactional_id="app")
            coordinator = log._coordinator
            sync, coordinator.sync = coordinator.sync, lambda _: raise_(StorageFailed("fsync"))
            with pytest.raises(OutcomeUnknown) as raised, producer.transaction() as transaction:
                transaction.send("one", "a")
            assert "committed whole or aborted whole" in str(raised.value)
            assert not getattr(raised.value, "__notes__", [])
            coordinator.sync = sync
            with pytest.raises(OutcomeUnknown), producer.transaction() as transaction:
                transaction.send("one", "b")
            producer.close()
            with Consumer(log, "one") as consumer:
                assert consumer.poll() == []
            # It was written, and now it can be synced: so it is committed.
            with Producer(log, transactional_id="app"):
                assert read(log) == [b"a"]

    @pytest.mark.parametrize("many", [False, True])
    def test_a_full_batch_that_could_not_be_appended_is_not_left_out(self, log, many):
        failing = Failing(log)
        with Producer(failing, transactional_id="app", batch_bytes=100) as producer:
            with producer.transaction() as transaction:
                failing.before["append_encoded"] = [OutOfSpace("the disk is full")]
                with suppress(OutOfSpace):
                    if many:
                        transaction.send_many("one", [b"x" * 1000])
                    else:
                        transaction.send("one", b"x" * 1000)
                        transaction.send("other", "tells of the error, and is not taken")
                transaction.send("other", "y")
            assert read(log) == [b"x" * 1000]
            assert read(log, "other") == [b"y"]

    def test_an_interrupted_commit_says_that_it_is_committed(self, log, producer):
        coordinator = log._coordinator
        for name in ("end", "sync", "mark"):
            call = getattr(coordinator, name)

            def interrupted(*args, _call=call, _name=name, **options):
                setattr(coordinator, _name, _call)
                _call(*args, **options)
                raise KeyboardInterrupt

            setattr(coordinator, name, interrupted)
            with pytest.raises(KeyboardInterrupt) as raised, producer.transaction() as transaction:
                transaction.send("one", name)
            if name != "mark":
                assert raised.value.__notes__ == ["the transaction of 'app' is committed"]
        with producer.transaction() as transaction:
            transaction.send("one", "last")
        assert read(log) == [b"end", b"sync", b"mark", b"last"]

    @pytest.mark.parametrize("commit", [True, False])
    def test_others_may_finish_what_an_interrupt_left_before_it_is_gone_on_with(
        self, log, producer, commit
    ):
        coordinator = log._coordinator
        sync = coordinator.sync

        def interrupted(name):
            sync(name)
            coordinator.sync = sync
            with coordinator._topic.locked() as known:
                coordinator._finish(known.require(name))
            raise KeyboardInterrupt

        coordinator.sync = interrupted
        with pytest.raises(KeyboardInterrupt) as raised, producer.transaction() as transaction:
            transaction.send("one", "interrupted")
            producer.flush()
            if not commit:
                raise ZeroDivisionError
        if commit:
            assert raised.value.__notes__ == ["the transaction of 'app' is committed"]
        with producer.transaction() as transaction:
            transaction.send("one", "next")
        assert read(log) == ([b"interrupted", b"next"] if commit else [b"next"])

    def test_a_commit_of_what_was_interrupted_before_it_began_commits_nothing(self, log, producer):
        coordinator = log._coordinator
        add = coordinator.add

        def interrupted(*_, **__):
            coordinator.add = add
            raise KeyboardInterrupt

        coordinator.add = interrupted
        with producer.transaction() as transaction, suppress(KeyboardInterrupt):
            transaction.commit_offsets("g", {ONE: 1})
        assert log.committed("g") == {}
        with producer.transaction() as transaction:
            transaction.send("one", "next")
        assert read(log) == [b"next"]

    def test_an_interrupt_before_the_decision_aborts(self, log, producer):
        coordinator = log._coordinator
        call, coordinator.sync_partitions = coordinator.sync_partitions, raise_interrupt
        with pytest.raises(KeyboardInterrupt) as raised:  # noqa: SIM117
            with producer.transaction() as transaction:
                transaction.send("one", "a")
        assert raised.value.__notes__ == ["the transaction was aborted"]
        coordinator.sync_partitions = call
        assert read(log) == []


def raise_(error):
    raise error


def raise_interrupt(_):
    raise KeyboardInterrupt


class TestOffsets:
    def test_offsets_take_effect_with_the_transaction(self, log, producer):
        log.create_topic("in")
        at = TopicPartition("in", 0)
        with producer.transaction() as transaction:
            transaction.send("one", "a")
            transaction.commit_offsets("g", {at: CommittedOffset(3, "note")})
            assert log.committed("g") == {}
            assert log.pending("g") == {at}
        assert log.committed("g") == {at: CommittedOffset(3, "note")}
        assert log.pending("g") == frozenset()
        with pytest.raises(ZeroDivisionError), producer.transaction() as transaction:
            transaction.commit_offsets("g", {at: 9})
            raise ZeroDivisionError
        assert log.committed("g")[at].offset == 3
        assert log.pending("g") == frozenset()

    def test_an_open_transaction_does_not_hold_up_other_groups(self, log, producer):
        with producer.transaction() as transaction:
            transaction.commit_offsets("g", {ONE: 3})
            log.commit("other", {ONE: CommittedOffset(5)})
            assert log.committed("other")[ONE].offset == 5
            with Consumer(log, "one", group="third") as consumer:
                assert consumer.assignment == {ONE}
        assert log.committed("g")[ONE].offset == 3

    def test_what_was_committed_later_than_it_was_appended_is_out_of_date(self, log, producer):
        with producer.transaction() as transaction:
            transaction.commit_offsets("g", {ONE: 3})
            log.commit("g", {ONE: CommittedOffset(7)})
        assert log.committed("g")[ONE].offset == 7

    @pytest.mark.parametrize("forget", ["topic", "group"])
    def test_offsets_that_were_forgotten_meanwhile_do_not_come_back(self, log, producer, forget):
        other = TopicPartition("other", 1)
        with producer.transaction() as transaction:
            transaction.commit_offsets("g", {ONE: 7, other: 8})
            transaction.commit_offsets("h", {ONE: 9})
            assert log.pending("g") == {ONE, other}
            if forget == "topic":
                log.delete_topic("one")
                log.create_topic("one")
            else:
                log.commit("g", {ONE: CommittedOffset(1)})  # so that there is a group
                log.delete_group("g")
        assert log.committed("g") == ({other: CommittedOffset(8)} if forget == "topic" else {})
        assert log.committed("h") == ({} if forget == "topic" else {ONE: CommittedOffset(9)})

    def test_another_process_sees_the_same_offsets(self, tmp_path):
        with open_backend(tmp_path / "log") as log:
            log.create_topic("one")
            with Producer(log, transactional_id="app") as producer:
                with producer.transaction() as transaction:
                    transaction.commit_offsets("g", {ONE: 3})
                with producer.transaction() as transaction:
                    transaction.commit_offsets("g", {ONE: 4})
                    with open_backend(tmp_path / "log", read_only=True) as reader:
                        assert reader.committed("g")[ONE].offset == 3
                        assert reader.pending("g") == {ONE}

    def test_a_consumers_positions_are_committed_with_what_was_made_of_them(self, log, producer):
        with Producer(log) as plain:
            plain.send_many("one", [b"%d" % n for n in range(10)])
        with Consumer(log, "one", group="g", auto_commit=False) as consumer:
            while records := consumer.poll(max_records=4):
                with producer.transaction() as transaction:
                    transaction.send_many("other", [b"out " + record.value for record in records])
                    transaction.commit_offsets(consumer)
        assert log.committed("g") == {ONE: CommittedOffset(10)}
        assert len(read(log, "other")) == 10

    def test_after_an_abort_the_consumer_is_rewound_and_gives_the_records_again(
        self, log, producer
    ):
        with Producer(log) as plain:
            plain.send_many("one", [b"a", b"b", b"c"])
        with Consumer(log, "one", group="g", auto_commit=False) as consumer:
            assert len(consumer.poll(max_records=1)) == 1
            with producer.transaction() as transaction:
                transaction.commit_offsets(consumer)
            with pytest.raises(ZeroDivisionError), producer.transaction() as transaction:
                consumer.poll()
                transaction.commit_offsets(consumer)
                raise ZeroDivisionError
            consumer.rewind()
            assert [record.value for record in consumer.poll()] == [b"b", b"c"]
        with Consumer(log, "one", group="new", from_="latest", auto_commit=False) as consumer:
            with Producer(log) as plain:
                plain.send("one", "d")
            for _ in range(2):
                assert [record.value for record in consumer.poll(20)] == [b"d"]
                consumer.rewind()

    def test_a_consumer_that_commits_by_itself_is_refused(self, log, producer):
        for made, why in (
            ({"group": "g"}, "auto_commit=False"),
            ({}, "name a group"),
        ):
            with Consumer(log, "one", **made) as consumer:  # noqa: SIM117
                with pytest.raises(UsageError, match=why), producer.transaction() as transaction:
                    transaction.commit_offsets(consumer)
        with pytest.raises(UsageError, match="name the offsets"):  # noqa: SIM117
            with producer.transaction() as transaction:
                transaction.commit_offsets("g")

    def test_a_member_that_lost_its_partition_cannot_commit_in_a_transaction(self, log, producer):
        with Producer(log) as plain:
            plain.send_many("other", [b"%d" % n for n in range(10)], partition=0)
            plain.send_many("other", [b"%d" % n for n in range(10)], partition=1)
        with Consumer(log, "other", group="g", auto_commit=False) as zombie:
            while zombie.poll():
                pass  # both partitions are read to their ends
            with Consumer(log, "other", group="g", auto_commit=False) as heir:
                until(lambda: (zombie.poll(), heir.poll(), len(heir.assignment))[2] == 1)
                (lost,) = heir.assignment
                with pytest.raises(Fenced, match=rf"{lost} moved"):  # noqa: SIM117
                    with producer.transaction() as transaction:
                        transaction.send("one", "made by the zombie")
                        transaction.commit_offsets(zombie)
                with pytest.raises(Fenced):  # noqa: SIM117
                    with producer.transaction() as transaction:
                        transaction.send("one", "made by the zombie")
                        transaction.commit_offsets(zombie, {lost: 10})
                zombie.rewind()
                with pytest.raises(Fenced, match="g"):  # noqa: SIM117
                    with producer.transaction() as transaction:
                        transaction.send("one", "made by the zombie")
                        transaction.commit_offsets(zombie, {lost: 10})
                with producer.transaction() as transaction:
                    transaction.send("one", "made by the heir")
                    transaction.commit_offsets(heir)
        assert read(log) == [b"made by the heir"]
        assert log.committed("g").keys() == {lost}

    def test_a_swallowed_fence_does_not_commit_the_rest(self, log, producer):
        with Consumer(log, "one", group="g", auto_commit=False) as consumer:
            consumer._member.leave()
            with pytest.raises(InvalidTxnState, match="part of it is missing"):  # noqa: SIM117
                with producer.transaction() as transaction:
                    transaction.send("one", "a")
                    with pytest.raises(Fenced):
                        transaction.commit_offsets(consumer, {ONE: 1})
        assert read(log) == []

    def test_a_member_begins_where_a_pending_transaction_ends(self, log, producer):
        with Producer(log) as plain:
            plain.send_many("one", [b"a", b"b", b"c"])
        with producer.transaction() as transaction:
            transaction.commit_offsets("g", {ONE: 2})
            late = Consumer(log, "one", group="g", auto_commit=False)
            by_hand = Consumer(log, partitions=[ONE], group="g", auto_commit=False)
            for consumer in (late, by_hand):
                assert consumer.poll(0.01) == []
        for consumer in (late, by_hand):
            assert [record.value for record in consumer.until_end()] == [b"c"]
            consumer.close()


class TestIdempotence:
    def test_what_is_tried_again_after_an_interrupt_is_appended_once(self, log):
        failing = Failing(log)
        producer = Producer(failing, idempotent=True, linger=3600)
        for number in range(20):
            producer.send("one", f"{number}")
            if number % 2:
                failing.after["append_encoded"] = [KeyboardInterrupt()]
                with pytest.raises(KeyboardInterrupt):
                    producer.flush()
            if number % 3 == 0:
                producer.flush()
        producer.close()
        assert read(log) == [b"%d" % n for n in range(20)]

    def test_without_it_an_interrupt_repeats_records(self, log):
        failing = Failing(log)
        producer = Producer(failing, linger=3600)
        producer.send("one", "a")
        failing.after["append_encoded"] = [KeyboardInterrupt()]
        with pytest.raises(KeyboardInterrupt):
            producer.flush()
        producer.close()
        assert read(log) == [b"a", b"a"]

    def test_an_interrupted_record_of_another_call_is_neither_lost_nor_mixed_up(self, log):
        failing = Failing(log)
        with Producer(failing, idempotent=True) as producer:
            for where in (failing.before, failing.after):
                where["append_encoded"] = [KeyboardInterrupt()]
                with pytest.raises(KeyboardInterrupt):
                    producer.send_and_wait("one", "interrupted")
                appended = producer.send_and_wait("one", "next")
                assert appended.offset == len(read(log)) - 1
        assert read(log) == [b"interrupted", b"next"] * 2

    def test_its_batches_have_its_id_and_sequences(self, log):
        with Producer(log, idempotent=True) as producer:
            for values in ([b"a"] * 100, [b"b"] * 200, [b"c"]):
                producer.send_many("one", values)
                producer.flush()
        (batch,) = log.fetch({ONE: 0})
        found = [header for _, header in headers(batch.raw)]
        assert [header.base_sequence for header in found] == [0, 100, 300]
        assert len({(header.producer_id, header.producer_epoch) for header in found}) == 1

    def test_a_batch_that_is_cut_in_two_keeps_its_order(self, log):
        log.create_topic("small", 1, {"max.message.bytes": "3000"})
        with Producer(log, idempotent=True) as producer:
            producer.send_many("small", [b"%04d" % n for n in range(2000)])
            log.alter_topic("small", {"max.message.bytes": "1000"})
            producer.send_many("small", [b"%04d" % n for n in range(2000, 4000)])
        assert read(log, "small") == [b"%04d" % n for n in range(4000)]

    def test_a_topic_that_was_made_anew_begins_at_sequence_0(self, log):
        with Producer(log, idempotent=True) as producer:
            producer.send_and_wait("one", "old")
            log.delete_topic("one")
            log.create_topic("one")
            with pytest.raises(UsageError):
                producer.send_and_wait("one", "lost")
            producer.send_and_wait("one", "new")
        assert read(log) == [b"new"]

    def test_a_forked_child_has_an_id_of_its_own(self, log):
        with Producer(log, idempotent=True) as producer:
            producer.send_and_wait("one", "before")
            child = os.fork()
            if child == 0:  # pragma: no cover
                try:
                    producer.send_and_wait("one", "child")
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
            producer.send_and_wait("one", "parent")
        assert read(log) == [b"before", b"child", b"parent"]


def test_the_example_of_the_documentation_does_what_it_says(tmp_path, monkeypatch):
    page = Path(__file__).parents[2] / "docs" / "transactions.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # again it finds nothing to do, but the new orders
        code = example.replace("admin.create_topic(", "make(admin, ")
        exec(compile(code, page, "exec"), {"make": make})
    with open_backend(tmp_path / "data") as log:
        invoices = [b"invoice for " + thing for thing in (b"book", b"lamp", b"chair")]
        assert read(log, "invoices") == invoices * 2
        assert log.committed("billing")[TopicPartition("orders", 0)].offset == 6


def make(admin, topic):
    with suppress(TopicExists):
        admin.create_topic(topic)
