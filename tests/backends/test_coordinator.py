"""Transactions over several processes: fenced, killed, stopped, and killed at every step."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from faulty_files import FaultyFiles
from interrupts import Interrupt

from streamkit.backends.coordinator import TransactionCoordinator
from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.locate import open_backend
from streamkit.backends.lockfile import LockFile
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.backends.transactions_topic import TransactionsTopic
from streamkit.clients.admin import Admin
from streamkit.clients.consumer import Consumer
from streamkit.clients.producer import Producer
from streamkit.clients.start import place
from streamkit.clock import SystemClock
from streamkit.codec import columns, encode
from streamkit.errors import ProducerFenced, StorageFailed
from streamkit.log.directory import Log
from streamkit.log.metadata import (
    METADATA_VERSION,
    TRANSACTION_VERSION,
    FeatureLevelRecord,
    decode_record,
    encode_record,
)
from streamkit.log.partition import Partition
from streamkit.log.root import METADATA
from streamkit.records import TopicPartition
from streamkit.transactions.state import State

PARTITIONS = [TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("b", 0)]

WORKER = """
import sys
from streamkit.backends.locate import open_backend
from streamkit.clients.producer import Producer
from streamkit.records import TopicPartition

root, name, timeout = sys.argv[1:]
log = open_backend(root)
producer = Producer(log, transactional_id=name, transaction_timeout=float(timeout))
with producer.transaction() as transaction:
    for topic, partition in (("a", 0), ("a", 1), ("b", 0)):
        transaction.send(topic, f"{name} 1", partition=partition)
    transaction.commit_offsets(name, {TopicPartition("a", 0): 1})
    producer.flush()
    print("open", flush=True)
    sys.stdin.readline()
print("committed 1", flush=True)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with open_backend(tmp_path / "log") as log:
        log.create_topic("a", 2)
        log.create_topic("b", 1)
    return tmp_path / "log"


class Worker:
    """A process that begins a transaction, and commits it when it is told to."""

    def __init__(self, root, name, timeout=60):
        command = [sys.executable, "-c", WORKER, str(root), name, str(timeout)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self):
        return self.process.stdout.readline().strip()

    def end(self):
        out, error = self.process.communicate("\n", timeout=60)
        return out.splitlines(), error

    def kill(self):
        self.process.kill()
        self.process.communicate(timeout=60)


@pytest.fixture
def worker(root):
    started = []

    def start(*args, **options):
        started.append(Worker(root, *args, **options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.kill()


def read(log, partition, isolation="read_committed"):
    with Consumer(log, partitions=[partition], isolation=isolation) as consumer:
        return [record.value.decode() for record in consumer.until_end()]


def transactional(value, producer_id, epoch=0):
    return encode(
        [value],
        timestamps=1,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=0,
        transactional=True,
    )


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


def is_settled(log):
    return all(log.offsets(tp).end == log.offsets(tp).log_end for tp in PARTITIONS)


def features(root):
    """Those that brokers are told of, in order, again if they are told again."""
    with Log.open(root, read_only=True) as log:
        records = map(decode_record, columns(log.partition(METADATA).read(0)).values)
        return [one for one in records if isinstance(one, FeatureLevelRecord)]


def test_brokers_are_told_once_how_transactions_are_written_here(root):
    assert features(root) == [METADATA_VERSION]
    for name in ("app", "other", "app"):
        with Producer(root, transactional_id=name) as producer, producer.transaction() as some:
            some.send("a", "x")
    assert features(root) == [METADATA_VERSION, TRANSACTION_VERSION]
    with Log.open(root) as log:  # as a broker does when it is asked to
        log.partition(METADATA).append(
            [encode([encode_record(FeatureLevelRecord("transaction.version", 0))], timestamps=5)]
        )
    with Producer(root, transactional_id="app"):
        pass
    assert features(root)[-1] == TRANSACTION_VERSION


def test_a_producer_in_another_process_is_fenced(root, worker):
    first = worker("app")
    assert first.line() == "open"
    with open_backend(root) as log:
        assert not is_settled(log)
        with Producer(log, transactional_id="app") as second:
            assert is_settled(log)
            with second.transaction() as transaction:
                transaction.send("a", "new", partition=0)
            out, error = first.end()
            assert out == []
            assert "ProducerFenced" in error
            with second.transaction() as transaction:
                transaction.send("a", "newer", partition=0)
        assert read(log, PARTITIONS[0]) == ["new", "newer"]
        assert read(log, PARTITIONS[1]) == []
        assert log.committed("app") == {}


def test_a_fenced_producer_is_not_let_into_a_topic_that_was_made_again(root):
    tp = PARTITIONS[0]
    with open_backend(root) as log, open_backend(root) as other:
        fenced = log.transactions("app", timeout=60)
        fenced.add([tp])
        other.transactions("app", timeout=60)
        other.delete_topic("a")
        other.create_topic("a", 2)
        with pytest.raises(ProducerFenced):
            fenced.add([tp])


def test_a_producer_goes_on_in_a_topic_that_was_made_again(root):
    tp = PARTITIONS[0]
    with open_backend(root) as log:
        producer = log.transactions("app", timeout=60)
        producer.add([tp])
        log.delete_topic("a")
        log.create_topic("a", 2)
        producer.add([tp])
        log.append_encoded(tp, transactional(b"one", *producer.producer))
        producer.commit()
        assert read(log, tp) == ["one"]


def test_a_killed_producers_transaction_is_aborted_while_a_reader_waits(root, worker):
    victim = worker("app")
    assert victim.line() == "open"
    with open_backend(root) as log:
        log.append(PARTITIONS[0], [b"behind it"])
        found = []

        def consume():
            with Consumer(log, "a") as consumer:
                found.append(next(iter(consumer)).value)

        reader = threading.Thread(target=consume)
        reader.start()
        assert found == []
        victim.kill()
        reader.join(20)
        assert found == [b"behind it"]
        until(lambda: is_settled(log))


def where_a_group_is_reset_to(log):
    at = PARTITIONS[0]
    return Admin(log).reset_offsets("group", partitions=[at], offset=2, dry_run=True)[at].after


ENDS = {
    "to its end": lambda log: log.end(PARTITIONS[0]),
    "from its end": lambda log: place(log, PARTITIONS[0], "latest"),
    "from an offset": where_a_group_is_reset_to,
}


@pytest.mark.parametrize("read_on", ENDS.values(), ids=ENDS)
def test_the_end_is_not_where_a_killed_producer_left_a_transaction_open(root, worker, read_on):
    victim = worker("app")
    assert victim.line() == "open"
    with open_backend(root) as log:
        log.append(PARTITIONS[0], [b"behind it"])
        assert read_on(log) == 0  # it lives
        assert read(log, PARTITIONS[0]) == []
    victim.kill()
    with open_backend(root, read_only=True) as log:
        assert read_on(log) == 0  # this one only looks
    with open_backend(root) as log:
        assert read_on(log) >= 2
        assert [read(log, partition) for partition in PARTITIONS] == [["behind it"], [], []]


def test_the_end_is_known_also_while_another_is_the_coordinator(root, worker):
    victim = worker("app")
    assert victim.line() == "open"
    with open_backend(root) as log:
        log.append(PARTITIONS[0], [b"behind it"])
    victim.kill()
    with open_backend(root) as log:
        found = []
        reader = threading.Thread(target=lambda: found.append(log.end(PARTITIONS[0])))
        with LockFile(root / "__transaction_state-0" / "coordinator") as busy:
            busy.lock()
            reader.start()
            reader.join(0.3)
        reader.join(20)
        assert found == [3]


def test_a_killed_producers_transaction_is_aborted_when_nobody_reads(root, worker):
    victim = worker("app")
    assert victim.line() == "open"
    victim.kill()
    with open_backend(root) as log:
        log.append(PARTITIONS[2], [b"x"])  # from the first append on somebody looks after the log
        until(lambda: is_settled(log))


def test_a_stopped_producers_transaction_times_out_and_it_learns_of_it(root, worker):
    stopped = worker("app", timeout=0.5)
    assert stopped.line() == "open"
    stopped.process.send_signal(signal.SIGSTOP)
    with open_backend(root) as log:
        log.append(PARTITIONS[0], [b"behind it"])
        with Consumer(log, "a") as consumer:
            assert next(iter(consumer)).value == b"behind it"
        stopped.process.send_signal(signal.SIGCONT)
        out, error = stopped.end()
        assert out == []
        assert "ProducerFenced" in error
        assert read(log, PARTITIONS[0]) == ["behind it"]


def test_a_living_producers_transaction_is_left_alone(root, worker):
    living = worker("app")
    assert living.line() == "open"
    with open_backend(root) as log:
        assert log._coordinator.settle() == 0
        assert not is_settled(log)
        out, _ = living.end()
        assert out == ["committed 1"]
        assert [read(log, tp) for tp in PARTITIONS] == [["app 1"]] * 3


def killed_at(root, name, step):
    """Commit two transactions in a forked process that dies before its `step`-th call.

    Calls of partitions: all that is written and synced goes through them. Gives what the process
    said, and whether it was killed.
    """
    said = root.parent / name
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            with open_backend(root) as log, Producer(log, transactional_id=name) as producer:
                two_transactions(producer, name, step, said)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return said.read_text(), os.WIFSIGNALED(status)


def two_transactions(producer, name, step, said):  # pragma: no cover (in a child)
    calls = []
    for number in (1, 2):
        with producer.transaction() as transaction:
            for tp in PARTITIONS:
                transaction.send(tp.topic, f"{name} {number}", partition=tp.partition)
            transaction.commit_offsets(name, {PARTITIONS[0]: number})
        said.write_text(f"{number}")
        if number == 1:
            for call in ("append", "append_marker", "sync"):
                count_calls(call, calls, step)


def count_calls(name, calls, step):  # pragma: no cover (in a child)
    call = getattr(Partition, name)

    def counting(self, *args, **options):
        calls.append(name)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(self, *args, **options)

    setattr(Partition, name, counting)


def test_killed_at_any_step_all_of_it_is_there_or_nothing(root):
    outcomes = []
    killed = True
    while killed:
        name = f"step {len(outcomes) + 1}"
        said, killed = killed_at(root, name, len(outcomes) + 1)
        with open_backend(root) as log:
            # Who takes over where the dead one was begins with what that one has decided.
            until(lambda: not log.pending(name))  # noqa: B023
            offset = log.committed(name)[PARTITIONS[0]].offset
            while log._coordinator.settle():
                pass
            assert is_settled(log)
            found = [
                [value.split()[-1] for value in read(log, tp) if value.startswith(f"{name} ")]
                for tp in PARTITIONS
            ]
            assert found in ([["1"]] * 3, [["1", "2"]] * 3)
            assert len(found[0]) == offset >= int(said)
            # And the next producer of that id goes on.
            with Producer(log, transactional_id=name) as heir, heir.transaction() as transaction:
                transaction.send("b", f"{name} 3")
            assert read(log, PARTITIONS[2])[-1] == f"{name} 3"
        outcomes.append(offset)
    assert outcomes == sorted(outcomes)
    assert outcomes.count(1) > 5 and outcomes.count(2) > 5, "it is committed at one step of them"


class TestInOneProcess:
    @pytest.fixture
    def log(self, root):
        with open_backend(root) as log:
            yield log

    def states(self, log):
        # `known` says nothing while another thread, maintenance say, is the coordinator.
        with log._coordinator._topic.locked() as coordinator:
            return {one.transactional_id: one for one in coordinator}

    def test_the_next_transaction_says_that_the_last_one_is_complete(self, log):
        with Producer(log, transactional_id="app") as producer:
            with producer.transaction() as transaction:
                transaction.send("b", "x")
            assert self.states(log)["app"].state is State.PREPARE_COMMIT
            with producer.transaction() as transaction:
                transaction.send("b", "x")
                producer.flush()
                assert self.states(log)["app"].state is State.ONGOING
        assert self.states(log)["app"].state is State.COMPLETE_COMMIT

    def test_a_transaction_that_its_producer_does_not_complete_is_completed_for_it(self, log):
        with Producer(log, transactional_id="app") as producer:
            for _ in range(2):
                with producer.transaction() as transaction:
                    transaction.send("b", "x")
                # Maintenance, or this, after a second in which nothing else happens.
                until(
                    lambda: (
                        log._coordinator.settle()
                        or self.states(log)["app"].state is State.COMPLETE_COMMIT
                    )
                )
        assert read(log, PARTITIONS[2]) == ["x", "x"]

    def test_deleted_topics_are_no_obstacle(self, log):
        for error in (KeyError, None):
            with (
                Producer(log, transactional_id="app") as producer,
                suppress(KeyError),
                producer.transaction() as transaction,
            ):
                transaction.send("a", "x", partition=0)
                transaction.send("b", f"{error}")
                producer.flush()
                log.delete_topic("a")
                if error:
                    raise error
            log.create_topic("a", 2)
        assert read(log, PARTITIONS[2]) == ["None"]
        assert is_settled(log)

    def test_a_producers_last_epoch_is_followed_by_another_producer_id(self, log):
        topic = log._coordinator._topic
        with Producer(log, transactional_id="app"):
            pass
        with topic.locked() as coordinator:
            from msgspec.structs import replace

            worn = replace(coordinator.require("app"), producer_epoch=2**15 - 4)
            topic.write(worn, durable=True)
        with Producer(log, transactional_id="app") as producer:
            for number in range(6):
                with producer.transaction() as transaction:
                    transaction.send("b", f"{number}")
                if number % 2:
                    with pytest.raises(KeyError), producer.transaction() as transaction:
                        transaction.send("b", "aborted")
                        producer.flush()
                        raise KeyError
        assert read(log, PARTITIONS[2]) == [f"{n}" for n in range(6)]
        assert self.states(log)["app"].producer_id != worn.producer_id

    def test_ids_that_nobody_has_used_for_a_week_are_forgotten(self, root, monkeypatch):
        with open_backend(root) as log:
            with Producer(log, transactional_id="old"):
                pass
            living = Producer(log, transactional_id="living")
            with Log.open(root) as later:
                clock = later._clock.__class__()
                week = 7 * 24 * 3600 * 1000
                monkeypatch.setattr(
                    clock.__class__, "now", lambda _: int(time.time() * 1000) + week
                )
                coordinator = TransactionCoordinator(later, clock)
                assert coordinator.settle() == 1
                monkeypatch.undo()
            assert self.states(log).keys() == {"living"}
            assert [file.name for file in root.rglob("*.owned")] == ["living.owned"]
            living.close()

    def test_long_and_odd_names_are_kept_apart(self, log):
        names = ["x" * 300, "x" * 299 + "y", "a/b", "a%2Fb", ".", "ä" * 100, "a" * 30_000]
        producers = [Producer(log, transactional_id=name) for name in names]
        for producer in producers:
            with producer.transaction() as transaction:
                transaction.send("b", "x")
        for producer in producers:
            producer.close()
        assert self.states(log).keys() == set(names)

    def test_what_a_killed_taker_left_is_swept_away(self, log, root):
        with Producer(log, transactional_id="app"):
            (left,) = {file.parent for file in root.rglob("app.owned")}
            (left / "0123.taking").touch()
        with Producer(log, transactional_id="app"):
            assert not list(root.rglob("*.taking"))


def test_two_processes_do_not_do_each_others_steps_twice(root, worker):
    """Several coordinators settle the same dead transactions at once."""
    victims = [worker(f"app {n}") for n in range(3)]
    for victim in victims:
        assert victim.line() == "open"
        victim.kill()
    backends = [open_backend(root), open_backend(root)]
    logs = [Log.open(root), Log.open(root)]
    coordinators = [TransactionCoordinator(log, log._clock) for log in logs]
    threads = [threading.Thread(target=one.settle) for one in coordinators * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert is_settled(backends[0])
    for tp in PARTITIONS:
        # Three records and three markers, each of them once.
        assert backends[0].offsets(tp).log_end == 6
    for opened in (*backends, *logs):
        opened.close()


def test_the_clock_may_be_set_back(root, monkeypatch):
    with open_backend(root) as log, Producer(log, transactional_id="app") as producer:
        with producer.transaction() as transaction:
            transaction.send("b", "x")
        coordinator = log._coordinator
        (one,) = coordinator._topic.known()
        monkeypatch.setattr(coordinator._clock.__class__, "now", lambda _: one.updated_at - 10_000)
        assert coordinator.settle() == 1
        monkeypatch.undo()
        assert read(log, PARTITIONS[2]) == ["x"]


def test_a_transaction_costs_two_syncs_and_one_more_per_partition(tmp_path):
    files = FaultyFiles()
    with (
        Log.open(tmp_path / "log", files=files, maintenance=False) as log,
        EmbeddedBackend(log, OffsetsTopic(log, log._clock), closing=lambda: None) as backend,
        Producer(backend, transactional_id="app") as producer,
    ):
        backend.create_topic("a", 2)
        for partitions, commits, syncs in ((1, True, 2), (2, True, 3), (1, True, 2)):
            for _ in range(3):  # from the second on it is always the same
                before = files.calls.count("fdatasync")
                with suppress(KeyError), producer.transaction() as transaction:
                    for partition in range(partitions):
                        transaction.send("a", "x", partition=partition)
                    producer._writer.write(producer._topics.within["a"].buffers[0])
                    if not commits:
                        raise KeyError
                cost = files.calls.count("fdatasync") - before
            assert cost == syncs


def test_nobody_else_waits_for_a_coordinator_that_does_not_go_on(root, worker):
    victim = worker("app")
    assert victim.line() == "open"
    with open_backend(root) as log:
        log.append(PARTITIONS[0], [b"behind it"])
        with LockFile(log._coordinator._topic.folder / "coordinator") as stopped:
            stopped.lock()
            victim.kill()
            assert log._coordinator.settle() == 0
            with Consumer(log, "a", group="g") as consumer:
                assert consumer.poll(0.01) == []
        with Consumer(log, "a") as consumer:
            assert next(iter(consumer)).value == b"behind it"


def test_a_transaction_that_no_id_tells_of_holds_readers_up_for_moments_only(root, monkeypatch):
    # As in a copy of a directory in use, or by a producer that was stopped for days.
    monkeypatch.setattr("streamkit.backends.waiting._SETTLE_SECONDS", 0.02)
    with open_backend(root) as log, Producer(log, transactional_id="app") as producer:
        with producer.transaction() as transaction:
            transaction.send("a", "one", partition=0)
        for number, producer_id in enumerate((999, producer._transactions.producer[0])):
            # Unknown, and an epoch that is over.
            tp = TopicPartition("a", number)
            log._log.partition(tp).append([transactional(b"nobody's", producer_id)])
            log.append(tp, [b"behind"])
        with Consumer(log, "a") as consumer, producer.transaction() as transaction:
            transaction.send("b", "another, which goes on")
            producer.flush()
            seen = []
            deadline = time.monotonic() + 20
            while len(seen) < 3 and time.monotonic() < deadline:
                seen += [record.value for record in consumer.poll(timeout=1)]
        assert sorted(seen) == [b"behind", b"behind", b"one"]


def test_readers_that_wait_end_no_transaction_that_goes_on(root, monkeypatch):
    monkeypatch.setattr("streamkit.backends.waiting._SETTLE_SECONDS", 0.02)
    with open_backend(root) as log, Producer(log, transactional_id="app") as producer:
        tp = TopicPartition("a", 0)
        with producer.transaction() as transaction:
            transaction.send("a", "one", partition=0)
            producer.flush()
            settled = []
            settle = log._coordinator.settle
            log._coordinator.settle = lambda stuck, **how: (
                settled.append(stuck),
                settle(stuck, **how),
            )
            assert not log.wait({tp: 0}, 0.5)
            assert any(settled)
            # Asked although there is an explanation: it is looked for under the lock, too.
            assert settle({log._log.partition(tp): 0}) == 0
        with Consumer(log, "a") as consumer:
            assert [record.value for record in consumer.until_end()] == [b"one"]


def test_a_partition_that_cannot_be_looked_at_keeps_nobody_from_beginning(root, caplog):
    with open_backend(root) as log, Producer(log, transactional_id="app") as producer:
        with producer.transaction() as transaction:
            transaction.send("a", "one", partition=0)
            transaction.send("b", "one", partition=0)
        for tp in PARTITIONS:
            log._log.partition(tp).append([transactional(b"nobody's", 999)])
    cured = root / "__transaction_state-0" / "cured"
    cured.unlink()
    with open_backend(root) as log:
        damaged = log._log.partition(PARTITIONS[0])
        look = damaged.open_transactions

        def raise_failed():
            raise StorageFailed("the disk is broken here")

        damaged.open_transactions = raise_failed
        with Producer(log, transactional_id="other") as producer:
            with producer.transaction() as transaction:
                transaction.send("b", "two", partition=0)
            with Consumer(log, "b") as consumer:
                assert [record.value for record in consumer.until_end()] == [b"one", b"two"]
            assert caplog.text.count("the disk is broken here") == 1
            assert not cured.exists()
            damaged.open_transactions = look
            log._coordinator.settle()
            assert damaged.stable_offset == damaged.end_offset
            assert cured.exists()


@pytest.mark.parametrize("way", ["locked", "locked_if_free"])
def test_a_coordinator_that_is_interrupted_anywhere_can_be_it_again_at_once(root, way):
    with Log.open(root, fsync="never", maintenance=False) as log:
        topic = TransactionsTopic(log, SystemClock())
        topic.make()
        be_it = getattr(topic, way)
        at, interrupted = 0, True
        while interrupted:
            at += 1
            sys.setprofile(Interrupt(at))
            try:
                with be_it():
                    pass
                interrupted = False
            except KeyboardInterrupt:
                sys.setprofile(None)
                # In here, as by who closes a producer: what the exception refers to still lives.
                with topic.locked_if_free() as coordinator:
                    assert coordinator is not None, at
            finally:
                sys.setprofile(None)
        assert at > 15
