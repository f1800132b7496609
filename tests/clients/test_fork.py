"""A process that forks while it produces, consumes, and does maintenance: the child has its own."""

import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from streamkit.backends.locate import open_backend
from streamkit.clients.consumer import Consumer
from streamkit.clients.producer import Producer
from streamkit.fsck.check import check
from streamkit.records import TopicPartition

TP = TopicPartition("events", 0)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def forked(action: Callable[[], None]) -> int:
    """Run `action` in a forked child, and return its exit status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: the point here
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            action()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def values(log, isolation="read_committed") -> list[bytes | None]:
    with Consumer(log, partitions=[TP], isolation=isolation) as consumer:
        return [record.value for record in consumer.until_end()]


def test_a_child_appends_reads_and_produces_in_transactions_beside_its_parent(tmp_path: Path):
    with open_backend(tmp_path / "log") as log:
        log.create_topic("events", 1, {"segment.bytes": "4096"})
        log.append(TP, [b"parent"])  # maintenance begins
        assert log.maintain().problems == ()
        parent = Producer(log, transactional_id="parent")
        with parent.transaction() as transaction:
            transaction.send("events", b"in a transaction")
        opened = parent.transaction()
        opened.__enter__()
        opened.send("events", b"open")
        parent.flush()

        def child() -> None:
            assert values(log) == [b"parent", b"in a transaction"]
            log.append(TP, [b"child"])
            with Producer(log, transactional_id="child") as producer:
                for number in range(20):
                    with producer.transaction() as transaction:
                        transaction.send("events", b"child %d" % number * 30)
                        transaction.commit_offsets("group", {TP: number})
            assert log.committed("group")[TP].offset == 19
            assert log.maintain().problems == ()
            member = log.join("group", {"events": 1})
            assert member.poll().owned == {TP}
            log.create_topic("made-by-child")

        assert forked(child) == 0
        assert "made-by-child" in log.topics()
        opened.send("events", b"still open")
        opened.__exit__(None, None, None)
        parent.close()
        found = values(log)
        assert found[:2] == [b"parent", b"in a transaction"]
        assert [one for one in found if b"open" in (one or b"")] == [b"open", b"still open"]
        assert sum(1 for one in found if (one or b"").startswith(b"child ")) == 20
        assert log.maintain().problems == ()
        # The child has ended without leaving its group: the partitions are free.
        deadline = time.monotonic() + 30
        member = log.join("group", {"events": 1})
        while member.poll().owned != {TP}:
            assert time.monotonic() < deadline
            log.wait({}, 0.05)
    assert check(tmp_path / "log", now=0).clean


def test_many_children_at_once_lose_nothing(tmp_path: Path):
    children, each = 6, 30
    with open_backend(tmp_path / "log") as log:
        log.create_topic("events", 1, {"segment.bytes": "4096"})
        log.append(TP, [b"first"])
        pids = []
        for number in range(children):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    with Producer(log, transactional_id=f"child {number}") as producer:
                        for again in range(each):
                            with producer.transaction() as transaction:
                                transaction.send("events", b"%d %d" % (number, again))
                    status = 0
                finally:
                    os._exit(status)
            pids.append(pid)
        for again in range(each):
            log.append(TP, [b"p %d" % again])
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * children
        found = values(log)
        for name in (b"p", *(b"%d" % number for number in range(children))):
            mine = [one for one in found if one is not None and one.startswith(name + b" ")]
            assert mine == [b"%s %d" % (name, again) for again in range(each)]
    assert check(tmp_path / "log", now=0).clean
