"""A replay closes what was closed live because nothing more came, where that was."""

import json
import subprocess
import sys
import threading
from threading import Event as Flag

import pytest
from msgspec import Struct

from streamkit.app import App
from streamkit.backends.locate import open_backend
from streamkit.codec import partition_for
from streamkit.dsl.windows import session, tumbling
from streamkit.engine.live import run as run_live
from streamkit.records import TopicPartition
from streamkit.replay.begin import begin
from streamkit.replay.run import run

DAY = 86_400_000
PARTITIONS = 2


class Order(Struct):
    customer: str
    amount: int


def shop():
    app = App("shop")
    orders = app.stream("orders", Order)
    orders.window(tumbling("1h")).count(to="hours", name="hours")
    by_customer = orders.by("customer").window(session("10m")).sum("amount", to="visits", name="v")

    # With events that come from outside as well.
    refunds = app.stream("refunds", int)

    @by_customer.join(refunds, within="1h", how="left", to="kept")
    def kept(amount: int, refund: int | None) -> int:
        return amount - (refund or 0)

    # Its own results, in a topic like any other.
    app.stream("visits", int).window(tumbling("1d")).count(to="days", name="days")
    return app.topology()


OUTPUTS = ("hours", "visits", "kept", "days")


@pytest.fixture
def log(tmp_path):
    with open_backend(tmp_path / "log") as log:
        for topic in ("orders", "refunds"):
            log.create_topic(topic, PARTITIONS)
        yield log


def order(log, customer, minute, partition=None):
    value = b'{"customer":"%s","amount":%d}' % (customer.encode(), minute)
    at = TopicPartition("orders", minute % PARTITIONS if partition is None else partition)
    log.append(at, [value], keys=[customer.encode()], timestamps=DAY + minute * 60_000)


def read(log, topic):
    found = []
    for number in range(PARTITIONS):
        at = TopicPartition(topic, number)
        position = log.offsets(at).start
        while position < log.offsets(at).end:
            for batch in log.fetch({at: position}):
                found += [(number, r.key, r.value, r.timestamp, r.headers) for r in batch.records()]
                position = batch.next_offset
    return found


def replayed(log, name):
    session = begin(shop(), log, name=name, from_text="earliest", to_text="latest", now=5 * DAY)
    return run(shop(), log, session, stop=Flag())


def test_results_are_those_of_live_to_the_byte_also_when_events_came_after_the_end(log):
    for day in range(3):
        for minute in range(0, 50, 3):
            order(log, "ada" if minute % 2 else "bob", day * 1440 + minute)
        refund = TopicPartition("refunds", partition_for(b"ada", PARTITIONS))
        log.append(refund, [b"3"], keys=[b"ada"], timestamps=DAY + day * DAY + 600_000)
        # What comes for hours that were closed is late, in the second round and the third.
        if day:
            order(log, "ada", (day - 1) * 1440 + 55)
        run_live(shop(), log, stop=Flag(), until_end=True, finish=True)
    live = {topic: read(log, topic) for topic in (*OUTPUTS, "shop-hours-late")}
    assert all(live.values())
    assert sum(int(value) for _, _, value, _, _ in live["hours"]) == 17 * 3
    finished = replayed(log, "again")
    for topic, records in live.items():
        assert read(log, finished.shadow(topic)) == records, topic


def run_by_three(log, *, finish):
    failures = []

    def work():
        try:
            run_live(shop(), log, stop=Flag(), until_end=True, finish=finish)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)


def test_partitions_that_never_had_an_event_hold_nothing_back_at_the_end(log):
    # All there is, is in one partition of one topic, in steps of the time that windows take.
    for start in (0, 100, 200):
        for minute in range(start, start + 50, 3):
            order(log, "ada" if minute % 2 else "bob", minute, partition=0)
        order(log, "zoe", start + 90, partition=0)
        run_by_three(log, finish=False)
    live = {topic: read(log, topic) for topic in OUTPUTS}
    rounds = [*range(0, 50, 3), 90, *range(100, 150, 3), 190, *range(200, 250, 3)]
    assert sum(int(value) for _, _, value, _, _ in live["hours"]) == 50
    assert sum(int(value) for _, _, value, _, _ in live["visits"]) == sum(rounds)
    kept = sorted(int(value) for _, _, value, _, _ in live["kept"])
    assert kept == [90, 190, 192, 216, 992, 1116]
    finished = replayed(log, "again")
    for topic, records in live.items():
        assert read(log, finished.shadow(topic))[: len(records)] == records, topic

    # When the other partition has something, that is late for what closed without it.
    order(log, "eve", 5, partition=1)
    order(log, "eve", 295, partition=1)
    run_live(shop(), log, stop=Flag(), until_end=True)
    assert [json.loads(record[2])["amount"] for record in read(log, "shop-v-late")] == [5]
    # And from then on holds back.
    order(log, "zoe", 900, partition=0)
    run_live(shop(), log, stop=Flag(), until_end=True)
    assert sum(int(record[2]) for record in read(log, "visits")) == sum(rounds)


def test_the_end_is_reached_by_processes_that_share_the_tasks(log):
    for minute in range(0, 50, 3):
        order(log, "ada" if minute % 2 else "bob", minute)
    run_by_three(log, finish=True)
    assert sum(int(value) for _, _, value, _, _ in read(log, "hours")) == 17
    assert sum(int(value) for _, _, value, _, _ in read(log, "visits")) == sum(range(0, 50, 3))
    assert len(read(log, "kept")) == len(read(log, "visits")) == 2


APP = """
from streamkit import App, tumbling
app = App("shop")
app.stream("orders", str).window(tumbling("1h")).count(to="hours", name="hours")
"""


def test_the_command_says_what_is_open_and_how_to_close_it(tmp_path):
    (tmp_path / "app.py").write_text(APP)

    def streamkit(*arguments, stdin="", code=0):
        command = [sys.executable, "-m", "streamkit", "--log", "log", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    streamkit("topics", "create", "orders")
    streamkit("produce", "orders", "--key-separator", ":", stdin="a:x\nb:y\n")
    said = " ".join(streamkit("run", "app.py", "--until-end").stderr.split())
    assert "still open: 2 windows of hours" in said
    assert "--until-end --finish" in said
    refused = streamkit("run", "app.py", "--finish", code=1).stderr
    assert "--until-end" in refused
    done = streamkit("run", "app.py", "--until-end", "--finish", "--workers", "2").stderr
    assert "still open" not in done
    assert streamkit("consume", "hours", "--to-end").stdout.count("\n") >= 2
