"""The producer: where records go, when they are written, and what becomes of errors."""

import asyncio
import os
import sys
import threading
import time

import pytest

from streamkit import codec
from streamkit.backends.locate import open_backend
from streamkit.clients import writer
from streamkit.clients.buffers import Buffer
from streamkit.clients.producer import Appended, Producer
from streamkit.errors import (
    InvalidRecord,
    OutOfSpace,
    RecordTooLarge,
    SerdeError,
    StorageFailed,
    UnknownPartition,
    UnknownTopic,
    UsageError,
)
from streamkit.records import TopicPartition


@pytest.fixture
def log():
    with open_backend("memory:") as backend:
        backend.create_topic("t", 3)
        backend.create_topic("one", 1)
        yield backend


def read(log, topic):
    """All records of a topic, partition by partition."""
    found = []
    for number in range(log.topic(topic).partitions):
        tp = TopicPartition(topic, number)
        at, end = 0, log.offsets(tp).end
        while at < end:
            for batch in log.fetch({tp: at}):
                found += batch.records()
                at = batch.next_offset
    return found


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.002)


def test_what_was_sent_is_there_after_a_flush_in_order(log):
    producer = Producer(log, linger=3600)
    for number in range(10_000):
        producer.send("one", b"%d" % number)
    producer.flush()
    assert [r.value for r in read(log, "one")] == [b"%d" % n for n in range(10_000)]
    producer.close()


def test_values_and_keys_of_many_types(log):
    with Producer(log) as producer:
        for value in (
            b"raw",
            "text",
            None,
            bytearray(b"ba"),
            memoryview(b"mv"),
            {"b": 1, "a": [2]},
        ):
            producer.send("one", value)
        for key in ("k", 7, b"b"):
            producer.send("one", b"", key=key)
    records = read(log, "one")
    assert [r.value for r in records[:6]] == [
        b"raw",
        b"text",
        None,
        b"ba",
        b"mv",
        b'{"a":[2],"b":1}',
    ]
    assert [r.key for r in records] == [None] * 6 + [b"k", b"7", b"b"]


def test_what_cannot_be_encoded_is_refused_and_nothing_else_is_lost(log):
    with Producer(log) as producer:
        producer.send("one", b"a")
        with pytest.raises(SerdeError):
            producer.send("one", object())
        producer.send("one", b"b")
    assert [r.value for r in read(log, "one")] == [b"a", b"b"]


def test_timestamps_and_headers_are_kept(log):
    with Producer(log) as producer:
        producer.send("one", b"a", timestamp=5, headers=(("h", b"v"),))
        before = time.time_ns() // 1_000_000
        producer.send("one", b"b")
    first, second = read(log, "one")
    assert (first.timestamp, first.headers) == (5, (("h", b"v"),))
    assert before <= second.timestamp <= time.time_ns() // 1_000_000


def test_a_key_decides_the_partition_as_in_kafka(log):
    with Producer(log) as producer:
        for number in range(300):
            producer.send("t", b"", key=b"k%d" % number)
        producer.send_many("t", [b""] * 300, keys=[b"k%d" % n for n in range(300)])
    records = read(log, "t")
    assert len(records) == 600
    assert all(r.partition == codec.partition_for(r.key, 3) for r in records)


def test_a_named_partition_is_taken_and_an_unknown_one_refused(log):
    with Producer(log) as producer:
        producer.send("t", b"x", key=b"k", partition=2)
        producer.send_many("t", [b"y"] * 100, partition=1)
        for call in (producer.send, producer.send_and_wait):
            with pytest.raises(UnknownPartition, match="0 to 2"):
                call("t", b"x", partition=3)
    assert [r.partition for r in read(log, "t")] == [1] * 100 + [2]


def test_records_without_keys_fill_one_partition_after_the_other(log):
    with Producer(log, batch_bytes=1000, linger=3600) as producer:
        for _ in range(90):
            producer.send("t", b"x" * 91)
    counts = [log.offsets(TopicPartition("t", n)).end for n in range(3)]
    assert sum(counts) == 90 and min(counts) >= 20


def test_a_full_batch_is_written_without_a_flush(log):
    with Producer(log, batch_bytes=1000, linger=3600) as producer:
        for _ in range(20):
            producer.send("one", b"x" * 91)
        assert log.offsets(TopicPartition("one", 0)).end >= 9


def test_the_rest_is_written_after_the_linger(log):
    with Producer(log, linger=0.001) as producer:
        for number in range(3):
            producer.send("one", b"x")
            until(lambda n=number: log.offsets(TopicPartition("one", 0)).end == n + 1)


def test_without_a_linger_every_record_is_written_at_once(log):
    with Producer(log, linger=0) as producer:
        for number in range(3):
            producer.send("one", b"x")
            assert log.offsets(TopicPartition("one", 0)).end == number + 1


def test_waiting_for_one_record_says_where_it_stands_and_keeps_the_order(log):
    with Producer(log, linger=3600) as producer:
        producer.send("one", b"a")
        assert producer.send_and_wait("one", b"b") == Appended(TopicPartition("one", 0), 1)
        assert producer.send_and_wait("t", {"x": 1}, key="k").offset == 0
        producer.send_many("one", [b"c"] * 100)
        assert producer.send_and_wait("one", b"d", headers=(("h", None),)).offset == 102
    assert [r.value for r in read(log, "one")] == [b"a", b"b", *[b"c"] * 100, b"d"]


@pytest.mark.parametrize("count", [0, 1, 64, 65, 5000])
def test_lists_are_appended_in_order_behind_what_was_sent(log, count):
    with Producer(log, linger=3600) as producer:
        producer.send("one", b"first")
        producer.send_many("one", (b"%d" % n for n in range(count)), timestamps=range(count))
    records = read(log, "one")
    assert [r.value for r in records] == [b"first", *(b"%d" % n for n in range(count))]
    assert [r.timestamp for r in records[1:]] == list(range(count))


def test_what_a_list_leaves_over_goes_with_the_batches_that_it_has_filled(log, monkeypatch):
    appended = []
    append = log.append_encoded

    def counting(partition, *batches, acks=1):
        appended.append(len(batches))
        return append(partition, *batches, acks=acks)

    monkeypatch.setattr(log, "append_encoded", counting)
    with Producer(log, batch_bytes=1000, linger=60) as producer:
        producer.send_many("one", [b"x" * 100] * 84)
        assert len(read(log, "one")) == 84
        assert len(appended) == 2 and sum(appended) == 10, "nine and a half full ones"


def test_lists_with_keys_keep_each_keys_order(log):
    keys = [b"k%d" % (n % 7) for n in range(1000)]
    with Producer(log) as producer:
        producer.send_many("t", [b"%d" % n for n in range(1000)], keys=keys, timestamps=9)
    seen = {}
    for r in read(log, "t"):
        assert int(r.value) > seen.get(r.key, -1) and r.timestamp == 9
        seen[r.key] = int(r.value)
    assert len(seen) == 7


def test_lists_that_do_not_match_are_refused(log):
    with Producer(log) as producer:
        with pytest.raises(UsageError, match="2 values and 1 keys"):
            producer.send_many("t", [b"", b""], keys=[b""])
        with pytest.raises(UsageError, match="2 values and 1 timestamps"):
            producer.send_many("t", [b"", b""], timestamps=[1])
    assert read(log, "t") == []


def test_missing_topics_are_refused_or_made(log):
    with Producer(log) as producer, pytest.raises(UnknownTopic, match="t"):
        producer.send("tt", b"x")
    with Producer(log, create_topics=2) as producer:
        producer.send("tt", b"x")
    assert log.topic("tt").partitions == 2 and len(read(log, "tt")) == 1


def test_a_compacted_topic_needs_keys(log):
    log.create_topic("c", 1, {"cleanup.policy": "compact"})
    with Producer(log) as producer:
        producer.send("c", b"x", key=b"k")
        producer.send_many("c", [b"x"] * 100, keys=[b"k"] * 100)
        for call in (
            lambda: producer.send("c", b"x"),
            lambda: producer.send_and_wait("c", b"x"),
            lambda: producer.send_many("c", [b"x"]),
            lambda: producer.send_many("c", [b"x", b"y"], keys=[b"k", None]),
        ):
            with pytest.raises(InvalidRecord, match="compacted"):
                call()
    assert len(read(log, "c")) == 101


@pytest.mark.parametrize("compression", ["zstd", "lz4", "gzip", "snappy"])
def test_a_topics_compression_is_used(log, compression):
    log.create_topic("c", 1, {"compression.type": compression})
    with Producer(log) as producer:
        producer.send("c", b"x" * 5000)
        producer.send_and_wait("c", b"x" * 5000)
        producer.send_many("c", [b"x" * 5000] * 100)
    assert [r.value for r in read(log, "c")] == [b"x" * 5000] * 102
    (batch,) = log.fetch({TopicPartition("c", 0): 0}, max_bytes=1)
    assert codec.read_header(batch.raw).compression == compression


def test_a_record_that_is_too_large_is_refused_alone(log):
    log.create_topic("small", 1, {"max.message.bytes": "4000"})
    with Producer(log, linger=3600) as producer:
        producer.send("small", b"a")
        with pytest.raises(RecordTooLarge, match="4000"):
            producer.send("small", b"x" * 5000)
        producer.send("small", b"b" * 1500)
        producer.send("small", b"c" * 3800)
        producer.send_many("small", [b"d" * 1000] * 99 + [b"e" * 3500])
    assert [chr(r.value[0]) for r in read(log, "small")] == ["a", "b", "c", *"d" * 99, "e"]


@pytest.mark.skipif(codec.QuickSend is None, reason="each record is sent under the lock there")
def test_a_record_is_refused_where_it_is_sent_also_when_the_background_is_quicker(log):
    log.create_topic("small", 1, {"max.message.bytes": "4000"})
    producer = Producer(log, linger=3600)
    producer.send("small", b"a")
    held, (buffer,) = threading.Event(), producer._writer.waiting

    def background():
        with producer._writer.lock:
            held.set()
            until(lambda: len(buffer.builder) == 2)
            try:
                producer._writer.write(buffer)
            except RecordTooLarge as error:
                producer._writer.remember(error)

    thread = threading.Thread(target=background)
    thread.start()
    assert held.wait(20)
    with pytest.raises(RecordTooLarge):
        producer.send("small", b"x" * 5000)
    thread.join()
    producer.send("small", b"b")
    producer.close()
    assert [r.value for r in read(log, "small")] == [b"a", b"b"]


def test_several_threads_lose_and_repeat_nothing(log):
    producer = Producer(log, batch_bytes=500, linger=0.0005)

    def send(name):
        for number in range(2000):
            producer.send("t", b"%d-%d" % (name, number), key=b"%d" % name)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    producer.close()
    for name in range(4):
        mine = [r.value for r in read(log, "t") if r.key == b"%d" % name]
        assert mine == [b"%d-%d" % (name, n) for n in range(2000)]


class Failing:
    """A backend whose appends fail while `error` is set, the first `after` ones excepted."""

    def __init__(self, log, after=0):
        self._log = log
        self.error = None
        self._after = after

    def append_encoded(self, *args, **kwargs):
        if self.error is not None and self._after == 0:
            raise self.error
        offset = self._log.append_encoded(*args, **kwargs)
        self._after = max(0, self._after - (self.error is not None))
        return offset

    def __getattr__(self, name):
        return getattr(self._log, name)


def test_what_a_full_disk_refused_is_kept_and_written_when_there_is_room(log):
    failing = Failing(log)
    with Producer(failing, linger=3600) as producer:
        producer.send("one", b"a")
        failing.error = OutOfSpace("full")
        for _ in range(2):
            with pytest.raises(OutOfSpace, match="full") as caught:
                producer.flush()
            assert "kept" in caught.value.__notes__[0]
        with pytest.raises(OutOfSpace):
            producer.send("one", b"not taken")
        failing.error = None
        producer.send("one", b"b")
    assert [r.value for r in read(log, "one")] == [b"a", b"b"]


@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_a_long_list_that_was_refused_half_way_is_written_once_and_in_order(log, after):
    failing = Failing(log, after)
    values = [b"%d" % n for n in range(1000)]
    keys = [b"k%d" % (n % 7) for n in range(1000)]
    with Producer(failing, batch_bytes=500, linger=3600) as producer:
        producer.send("t", b"before", key=keys[0])
        failing.error = OutOfSpace("full")
        with pytest.raises(OutOfSpace):
            producer.send_many("t", values, keys=keys)
        failing.error = None
        producer.send("t", b"after", key=keys[0])
    found = {key: [r.value for r in read(log, "t") if r.key == key] for key in keys}
    assert (found[keys[0]][0], found[keys[0]][-1]) == (b"before", b"after")
    for key in keys:
        sent = [value for value, its in zip(values, keys, strict=True) if its == key]
        kept = [value for value in found[key] if value not in (b"before", b"after")]
        assert kept == sent[: len(kept)]  # what the error came before was not taken


def test_flush_is_not_about_what_has_been_written_since(log):
    failing = Failing(log)
    with Producer(failing, linger=0) as producer:
        failing.error = OutOfSpace("full")
        producer.send("one", b"a")  # tried at once, and told by the next call
        failing.error = None
        producer.flush()
        assert [r.value for r in read(log, "one")] == [b"a"]


def test_what_is_given_up_is_told_before_what_is_kept(log):
    log.create_topic("gone")
    failing = Failing(log)
    with Producer(failing, linger=3600) as producer:
        producer.send("one", b"a")
        producer.send("gone", b"b")
        log.delete_topic("gone")
        failing.error = OutOfSpace("full")
        with pytest.raises(UnknownTopic, match="gone") as caught:
            producer.flush()
        assert caught.value.__notes__ == ["given up: 1 record sent to gone-0"]
        with pytest.raises(OutOfSpace, match="full"):
            producer.flush()
        failing.error = None
    assert [r.value for r in read(log, "one")] == [b"a"]


def test_closing_says_all_that_is_lost(log):
    failing = Failing(log)
    producer = Producer(failing, linger=3600)
    for topic in ("one", "one", "t"):
        producer.send(topic, b"a")
    failing.error = OutOfSpace("full")
    with pytest.raises(OutOfSpace, match="full") as caught:
        producer.close()
    (note,) = caught.value.__notes__
    lost = note.removeprefix("the producer is closed nevertheless; lost: ").split(", ")
    assert "2 records sent to one-0" in lost
    assert len(lost) == 2


def test_of_a_long_list_with_a_wrong_key_all_before_it_is_appended(log):
    with Producer(log, batch_bytes=500, linger=3600) as producer:
        with pytest.raises(InvalidRecord):
            producer.send_many(
                "one", [b"%d" % n for n in range(200)] + [b"x"], timestamps=[0] * 200 + [-(2**70)]
            )
        producer.flush()
    assert [r.value for r in read(log, "one")] == [b"%d" % n for n in range(200)]


def test_of_a_batch_in_two_parts_only_what_is_missing_is_tried_again(log):
    log.create_topic("small", 1, {"max.message.bytes": "1000"})
    failing = Failing(log, after=1)
    with Producer(failing, linger=3600) as producer:
        for name in ("a", "b", "c"):
            producer.send("small", name.encode() * 100)
        failing.error = OutOfSpace("full")
        producer.send("small", b"d" * 800)  # the batch is over the limit, and goes as two
        with pytest.raises(OutOfSpace) as caught:
            producer.flush()
        assert (
            "kept, and will be tried again: 2 records sent to small-0" in caught.value.__notes__[0]
        )
        failing.error = None
    assert [chr(r.value[0]) for r in read(log, "small")] == ["a", "b", "c", "d"]


def test_everything_that_was_given_up_is_told(log):
    log.create_topic("gone")
    with Producer(log, linger=3600) as producer:
        producer.send("one", b"a")
        producer.send("gone", b"b")
        log.delete_topic("one")
        log.delete_topic("gone")
        with pytest.raises(UnknownTopic, match="one") as caught:
            producer.flush()
        assert "given up: 1 record sent to one-0" in caught.value.__notes__
        assert "given up: 1 record sent to gone-0" in caught.value.__notes__


def test_a_topic_made_anew_with_other_partitions_is_not_mistaken_for_the_old_one(log):
    keys = [b"%d" % number for number in range(20)]
    with Producer(log, linger=3600) as producer:
        producer.send("one", b"old", key=b"k")
        producer.flush()
        log.delete_topic("one")
        log.create_topic("one", 4)
        producer.send("one", b"lost", key=b"k")
        with pytest.raises(UnknownTopic, match="made anew"):
            producer.flush()
        for key in keys:
            producer.send("one", b"new", key=key)
    placed = {r.key: r.partition for r in read(log, "one")}
    assert placed == {key: codec.partition_for(key, 4) for key in keys}


def test_a_flush_waits_for_the_sync_that_another_thread_began(log):
    slow = SlowSync(log)
    with Producer(slow, linger=3600) as producer:
        producer.send("one", b"a")
        first = threading.Thread(target=producer.flush)
        first.start()
        assert slow.entered.wait(20)
        synced_at_its_end = []

        def flush():
            producer.flush()
            synced_at_its_end.append(slow.go.is_set())

        second = threading.Thread(target=flush)
        second.start()
        until(lambda: slow.calls == 2 or synced_at_its_end)
        slow.go.set()
        first.join()
        second.join()
    assert synced_at_its_end == [True]


class SlowSync:
    """A backend whose syncs wait for `go`."""

    def __init__(self, log):
        self._log = log
        self.calls = 0
        self.entered, self.go = threading.Event(), threading.Event()

    def sync(self, partitions):
        self.calls += 1
        self.entered.set()
        assert self.go.wait(20)
        self._log.sync(partitions)

    def __getattr__(self, name):
        return getattr(self._log, name)


def test_an_error_in_the_background_is_raised_by_the_next_call(log):
    failing = Failing(log)
    failing.error = OutOfSpace("full")
    producer = Producer(failing, linger=0.001)
    producer.send("one", b"a")
    until(lambda: producer._writer.error is not None)
    with pytest.raises(OutOfSpace):
        producer.send("one", b"not taken")
    failing.error = None
    producer.close()
    assert [r.value for r in read(log, "one")] == [b"a"]


def test_an_error_is_raised_by_the_next_call_whatever_topic_that_sends_to(log):
    failing = Failing(log)
    producer = Producer(failing, linger=3600, batch_bytes=1000)
    producer.send("t", b"a", partition=0)
    producer.send("t", b"b", key=b"k")
    producer.send("t", b"c")
    failing.error = OutOfSpace("full")
    producer.send("one", b"x" * 2000)  # taken, but it cannot be appended
    failing.error = None
    with pytest.raises(OutOfSpace):
        producer.send("t", b"not taken")
    producer.close()
    assert sorted(r.value for r in read(log, "t")) == [b"a", b"b", b"c"]


def test_a_batch_that_waits_for_another_try_holds_up_no_other(log, monkeypatch):
    monkeypatch.setattr(writer, "_RETRY_SECONDS", 3600.0)
    failing = Failing(log)
    failing.error = OutOfSpace("full")
    producer = Producer(failing, linger=0.001)
    producer.send("one", b"a")
    until(lambda: producer._writer.error is not None)
    failing.error = None
    with pytest.raises(OutOfSpace):
        producer.send("t", b"not taken")
    producer.send("t", b"b")
    until(lambda: [r.value for r in read(log, "t")] == [b"b"], seconds=5)
    producer.close()


def test_a_full_batch_that_fails_is_told_by_the_next_send(log):
    failing = Failing(log)
    failing.error = OutOfSpace("full")
    producer = Producer(failing, batch_bytes=100, linger=3600)
    producer.send("one", b"x" * 200)
    with pytest.raises(OutOfSpace):
        producer.send("one", b"not taken")
    failing.error = None
    producer.send("one", b"b")
    producer.close()
    assert [r.value for r in read(log, "one")] == [b"x" * 200, b"b"]


def test_closing_says_what_is_lost(log):
    failing = Failing(log)
    failing.error = StorageFailed("broken")
    producer = Producer(failing, linger=3600)
    producer.send("one", b"a")
    with pytest.raises(StorageFailed) as caught:
        producer.close()
    assert any("1 record" in note for note in caught.value.__notes__)
    assert any("lost" in note for note in caught.value.__notes__)
    producer.close()


def test_a_deleted_topic_is_told_and_one_made_anew_is_found(log):
    with Producer(log, linger=3600) as producer:
        producer.send("one", b"a")
        log.delete_topic("one")
        with pytest.raises(UnknownTopic) as caught:
            producer.flush()
        assert "1 record sent to one-0" in caught.value.__notes__[0]
        log.create_topic("one", 4)
        producer.send("one", b"b", partition=3)
    assert [r.value for r in read(log, "one")] == [b"b"]


def test_an_interrupt_while_a_batch_is_made_loses_nothing(log):
    # It comes when the call returns in which it arrived: the first one that is not Python's own.
    def interrupt(frame, event, _):
        if event == "c_return" and frame.f_code is Buffer.take_out.__code__:
            sys.setprofile(None)
            raise KeyboardInterrupt

    with Producer(log, linger=3600) as producer:
        producer.send("one", "taken")
        sys.setprofile(interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                producer.flush()
        finally:
            sys.setprofile(None)
        producer.send("one", "later")
    assert [record.value for record in read(log, "one")] == [b"taken", b"later"]


def test_a_closed_producer_refuses(log):
    producer = Producer(log)
    producer.send("one", b"a")
    producer.close()
    for call in (producer.send, producer.send_and_wait):
        with pytest.raises(UsageError, match="closed"):
            call("one", b"b")
    with pytest.raises(UsageError, match="closed"):
        producer.send_many("one", [b"b"])
    assert len(read(log, "one")) == 1


def test_settings_that_make_no_sense_are_refused(log):
    for settings in ({"acks": 0}, {"batch_bytes": 0}, {"linger": -1}):
        with pytest.raises(UsageError):
            Producer(log, **settings)


def test_a_forked_child_does_not_write_its_parents_records_again(tmp_path):
    with open_backend(tmp_path) as log:
        log.create_topic("one", 1)
        producer = Producer(log, linger=3600)
        producer.send("one", b"parent")
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                producer.send("one", b"child")
                producer.flush()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        producer.close()
        assert [r.value for r in read(log, "one")] == [b"child", b"parent"]


def test_coroutines_go_on_while_it_flushes(log):
    async def main():
        async with Producer(log, linger=3600) as producer:
            producer.send("one", b"a")
            await producer.aflush()
            assert len(read(log, "one")) == 1
            producer.send("one", b"b")

    asyncio.run(main())
    assert len(read(log, "one")) == 2


def test_a_path_is_opened_and_closed_by_the_producer(tmp_path):
    with Producer(tmp_path / "log", create_topics=1) as producer:
        producer.send("new", b"x")
    with open_backend(tmp_path / "log") as log:
        assert len(read(log, "new")) == 1
