"""Apps as real processes on a real log: drained, killed, shared, taken over."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from streamkit.backends.locate import open_backend
from streamkit.codec import partition_for
from streamkit.records import TopicPartition

SOURCE = """
import os
from msgspec import Struct
from streamkit import App, State, tumbling

class Event(Struct):
    number: int
    kind: str

app = App("shop")
events = app.stream("events", Event)

@events.process(to="numbers")
def number(event: Event) -> int:
    if event.number == int(os.environ.get("FAIL_AT", "-1")):
        raise ValueError("this one")
    return event.number

@events.process(to="running")
def running(event: Event, seen: State[int]) -> int:
    seen.set(seen.get(0) + 1)
    return seen.get(0)

by_kind = events.by("kind")

@by_kind.window(tumbling("10s", grace="0s")).aggregate(to="per-kind")
def per_kind(total: int | None, event: Event) -> int:
    return (total or 0) + event.number
"""
PARTITIONS = 4
KINDS = "abc"
SECOND = 1000


@pytest.fixture
def url(tmp_path):
    (tmp_path / "app.py").write_text(SOURCE)
    return str(tmp_path / "log")


class App(subprocess.Popen):
    """`streamkit run` in a process of its own, which does not outlive its test."""

    def __init__(self, url, *arguments, **environment):
        super().__init__(
            [
                sys.executable,
                "-m",
                "streamkit",
                "--log",
                url,
                "run",
                str(Path(url).parent / "app.py"),
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def __exit__(self, *error):
        self.kill()
        super().__exit__(*error)


def publish(log, numbers, last=False):
    """Events of one second each; the last ones close every window that matters."""
    rows = [[] for _ in range(PARTITIONS)]
    for number in numbers:
        rows[partition_for(b"%d" % (number % 50), PARTITIONS)].append(number)
    for partition, mine in enumerate(rows):
        if mine:
            log.append(
                TopicPartition("events", partition),
                [json.dumps({"number": n, "kind": KINDS[n % 3]}).encode() for n in mine],
                keys=[b"%d" % (n % 50) for n in mine],
                timestamps=[n * SECOND for n in mine],
            )
    if last:
        for partition in range(PARTITIONS):
            log.append(
                TopicPartition("events", partition),
                [b'{"number": 0, "kind": "end"}'],
                keys=[b"end-%d" % partition],
                timestamps=[(max(numbers) + 1000) * SECOND],
            )


def read(log, topic):
    if topic not in log.topics():
        return []
    found = []
    for number in range(log.topic(topic).partitions):
        partition = TopicPartition(topic, number)
        position, end = log.offsets(partition).start, log.offsets(partition).end
        while position < end:
            for batch in log.fetch({partition: position}):
                found += batch.records()
                position = batch.next_offset
    return found


def per_window(log):
    """The result of each (kind, window); there is one."""
    found = {}
    for record in read(log, "per-kind"):
        key = (record.key.decode(), record.timestamp // (10 * SECOND))
        assert key not in found
        found[key] = int(record.value)
    return found


def expected_windows(numbers):
    totals = Counter()
    for number in numbers:
        totals[KINDS[number % 3], number // 10] += number
    return dict(totals)


def highest_counts(log):
    """The count of each key, all of which have to be there once and in order."""
    found = Counter()
    for record in read(log, "running"):
        found[record.key] += 1
        assert found[record.key] == int(record.value), record
    return found


def handed_over(log):
    """The events in the repartition topic."""
    return sorted(
        json.loads(record.value)["number"]
        for record in read(log, "shop-events-by-kind-repartition")
        if record.key is not None
    )


def lag(log):
    """Records that the app has not committed; None before its first commit."""
    committed = log.committed("shop")
    ours = [p for p in committed if not p.topic.endswith("-changelog")]
    if {p.topic for p in ours} != {"events", "shop-events-by-kind-repartition"}:
        return None
    return sum(log.offsets(p).end - committed[p].offset for p in ours)


def behind(log):
    """Events that were read and whose work is not committed, or were not read."""
    committed = log.committed("shop")
    ends = [TopicPartition("events", number) for number in range(PARTITIONS)]
    return sum(log.offsets(p).end - committed[p].offset for p in ends)


def wait_until(true, *processes, seconds=40.0):
    deadline = time.monotonic() + seconds
    while not true():
        for process in processes:
            assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.02)


def finished(log, numbers):
    return len(per_window(log)) >= len(expected_windows(numbers))


def test_sigterm_drains_commits_and_ends_with_success(url):
    with open_backend(url) as log:
        log.create_topic("events", PARTITIONS)
        publish(log, range(500), last=True)
        with App(url) as process:
            wait_until(lambda: finished(log, range(500)) and lag(log) == 0, process)
            process.terminate()
            assert process.wait(20) == 0, process.stderr.read()
        assert lag(log) == 0
        assert per_window(log) == expected_windows(range(500))
        assert sorted(int(r.value) for r in read(log, "numbers")) == sorted(
            [*range(500), 0, 0, 0, 0]
        )


def test_ctrl_c_drains_too_and_ends_with_130(url):
    with open_backend(url) as log:
        log.create_topic("events", PARTITIONS)
        with App(url) as process:
            publish(log, range(100))
            wait_until(lambda: len(read(log, "numbers")) == 100, process)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        assert behind(log) == 0


def test_an_app_waits_for_its_topic_and_says_so(url):
    with open_backend(url) as log, App(url) as process:
        line = process.stderr.readline()
        assert f"waits for events in log {url};" in line
        assert "streamkit topics create events" in line
        log.create_topic("events", PARTITIONS)
        publish(log, range(10))
        wait_until(lambda: len(read(log, "numbers")) == 10, process)
        process.terminate()
        assert process.wait(20) == 0


def test_killed_again_and_again_it_loses_nothing_and_its_state_is_exact(url):
    chance = random.Random(7)
    numbers = range(3000)
    with open_backend(url) as log:
        log.create_topic("events", PARTITIONS)
        for start in range(0, 3000, 300):
            with App(url) as process:  # killed when it ends
                before = len(read(log, "numbers"))
                publish(log, range(start, start + 300), last=start == 2700)
                wait_until(lambda: len(read(log, "numbers")) > before, process)  # noqa: B023
                time.sleep(chance.random() * 0.3)  # anywhere in its work
        with App(url) as process:
            wait_until(lambda: finished(log, numbers) and lag(log) == 0, process)
            wait_until(lambda: len(log.group("shop").members) == 1, process)
            process.terminate()
            assert process.wait(20) == 0
        assert sorted(int(r.value) for r in read(log, "numbers")) == [0] * PARTITIONS + [*numbers]
        assert handed_over(log) == [0] * PARTITIONS + [*numbers]
        assert per_window(log) == expected_windows(numbers)
        counts = Counter(b"%d" % (n % 50) for n in numbers)
        counts.update(b"end-%d" % p for p in range(PARTITIONS))
        assert highest_counts(log) == counts


def test_two_workers_share_the_tasks_and_one_takes_over_when_the_other_is_killed(url):
    with open_backend(url) as log:
        log.create_topic("events", PARTITIONS)

        def shares():
            return sorted(len(member.units) for member in log.group("shop").members)

        with App(url) as one, App(url) as two:
            wait_until(lambda: shares() == [4, 4], one, two)
            publish(log, range(600))
            wait_until(lambda: len(read(log, "numbers")) >= 300, one, two)
            one.kill()
            publish(log, range(600, 1200), last=True)
            wait_until(lambda: shares() == [8], two)
            wait_until(lambda: finished(log, range(1200)) and lag(log) == 0, two)
            two.terminate()
            assert two.wait(20) == 0
        assert sorted(int(r.value) for r in read(log, "numbers")) == [0] * 4 + [*range(1200)]
        assert handed_over(log) == [0] * 4 + [*range(1200)]
        assert per_window(log) == expected_windows(range(1200))


def test_a_worker_that_joins_gets_its_share_without_a_duplicate(url):
    with open_backend(url) as log:
        log.create_topic("events", PARTITIONS)
        with App(url) as one:
            publish(log, range(500))
            wait_until(lambda: len(read(log, "numbers")) >= 100, one)
            with App(url) as two:
                wait_until(
                    lambda: sorted(len(m.units) for m in log.group("shop").members) == [4, 4],
                    one,
                    two,
                )
                publish(log, range(500, 1000), last=True)
                wait_until(lambda: finished(log, range(1000)), one, two)
                one.terminate()
                two.terminate()
                assert (one.wait(20), two.wait(20)) == (0, 0)
        found = Counter(int(r.value) for r in read(log, "numbers"))
        assert found == Counter([*range(1000), 0, 0, 0, 0])
        assert per_window(log) == expected_windows(range(1000))


def test_a_function_that_raises_stops_the_app_and_names_the_record(url):
    with open_backend(url) as log:
        log.create_topic("events", PARTITIONS)
        publish(log, range(200))
        with App(url, FAIL_AT="150") as process:
            _, errors = process.communicate(timeout=30)
        assert process.returncode == 1
        partition = partition_for(b"0", PARTITIONS)
        line = 1 + SOURCE.splitlines().index('        raise ValueError("this one")')
        for word in ("error: ", "ValueError: this one", f"events-{partition}@", f"app.py:{line}"):
            assert word in errors
        assert "Traceback" not in errors
        assert 150 not in [int(r.value) for r in read(log, "numbers")]
        with App(url) as process:
            wait_until(lambda: len({int(r.value) for r in read(log, "numbers")}) == 200, process)
            process.terminate()
            assert process.wait(20) == 0
        assert highest_counts(log) == Counter(b"%d" % (n % 50) for n in range(200))


def test_until_end_stops_when_all_there_is_has_been_processed(url):
    with open_backend(url) as log:
        log.create_topic("events", PARTITIONS)
        publish(log, range(1000), last=True)
        with App(url, "--until-end") as process:
            process.communicate(timeout=60)
        assert process.returncode == 0
        assert per_window(log) == expected_windows(range(1000))
        assert lag(log) == 0


SLOW = """
import time
from pathlib import Path
from streamkit import App

app = App("shop")

@app.stream("events", str).process(to="numbers")
def slow(text: str) -> str:
    time.sleep(0.05)
    return text
"""


def test_a_slow_function_does_not_hold_up_commits_and_a_stop(url, tmp_path):
    (tmp_path / "app.py").write_text(SLOW)
    with open_backend(url) as log:
        log.create_topic("events")
        log.append(TopicPartition("events", 0), [b"%d" % n for n in range(10_000)])
        with App(url) as process:
            wait_until(
                lambda: (
                    len(log.committed("shop"))
                    and log.committed("shop")[TopicPartition("events", 0)].offset > 0
                ),
                process,
            )
            process.terminate()
            assert process.wait(20) == 0
        committed = log.committed("shop")[TopicPartition("events", 0)].offset
        assert 0 < committed == len(read(log, "numbers")) < 10_000


IDLE = """
from streamkit import App, tumbling

app = App("shop")
events = app.stream("events", str)
events.window(tumbling("10s", grace="0s"), close_after_idle="300ms").count(to="counts")
"""


def test_windows_close_when_the_inputs_fall_silent(url, tmp_path):
    (tmp_path / "app.py").write_text(IDLE)
    with open_backend(url) as log:
        log.create_topic("events")
        with App(url) as process:
            for at in (1000, 2000, 11_000):
                log.append(TopicPartition("events", 0), [b"x"], keys=[b"k"], timestamps=at)
            wait_until(lambda: len(read(log, "counts")) == 2, process)
            assert [(r.timestamp, r.value) for r in read(log, "counts")] == [
                (9_999, b"2"),
                (19_999, b"1"),
            ]
            # What comes now for a window that was closed is late, after a restart too.
            process.terminate()
            assert process.wait(20) == 0
        with App(url) as process:
            log.append(TopicPartition("events", 0), [b"x"], keys=[b"k"], timestamps=12_000)
            wait_until(lambda: len(read(log, "shop-events-count-late")) == 1, process)
            process.terminate()
            assert process.wait(20) == 0
        assert len(read(log, "counts")) == 2


TABLE = """
from streamkit import App

app = App("shop")
prices = app.table("prices", int)

@app.stream("events", int).join(prices, to="numbers")
def priced(count: int, price: int) -> int:
    return count * price
"""


def test_tables_are_loaded_before_the_first_event_and_follow_after(url, tmp_path):
    (tmp_path / "app.py").write_text(TABLE)
    with open_backend(url) as log:
        log.create_topic("events")
        log.create_topic("prices", 1, {"cleanup.policy": "compact"})
        events, prices = TopicPartition("events", 0), TopicPartition("prices", 0)
        log.append(events, [b"2"], keys=[b"tea"], timestamps=1)
        log.append(prices, [b"5"], keys=[b"tea"], timestamps=1000)
        with App(url) as process:
            wait_until(lambda: len(read(log, "numbers")) == 1, process)
            log.append(prices, [b"7"], keys=[b"tea"], timestamps=2000)
            log.append(events, [b"2"], keys=[b"tea"], timestamps=3000)
            wait_until(lambda: len(read(log, "numbers")) == 2, process)
            process.terminate()
            assert process.wait(20) == 0
        assert [r.value for r in read(log, "numbers")] == [b"10", b"14"]


def test_a_fenced_worker_goes_on_from_its_last_commit(url):
    with open_backend(url) as log:
        log.create_topic("events", PARTITIONS)
        with App(url) as process:
            publish(log, range(300))
            wait_until(lambda: len(read(log, "numbers")) >= 300, process)
            for member in (
                Path(url) / "__consumer_offsets-0" / "groups" / "shop" / "members"
            ).iterdir():
                member.unlink()
            publish(log, range(300, 600), last=True)
            wait_until(lambda: finished(log, range(600)) and lag(log) == 0, process)
            process.terminate()
            assert process.wait(20) == 0
        assert sorted(int(r.value) for r in read(log, "numbers")) == [0] * 4 + [*range(600)]
        assert per_window(log) == expected_windows(range(600))
        counts = Counter(b"%d" % (n % 50) for n in range(600))
        counts.update(b"end-%d" % p for p in range(PARTITIONS))
        assert highest_counts(log) == counts


def test_an_app_that_runs_itself_drains_on_ctrl_c(url, tmp_path):
    script = tmp_path / "app.py"
    script.write_text(SOURCE + "\nif __name__ == '__main__':\n    app.run()\n")
    with open_backend(url) as log:
        log.create_topic("events", PARTITIONS)
        publish(log, range(100))
        environment = {**os.environ, "STREAMKIT_LOG": url}
        with subprocess.Popen(
            [sys.executable, str(script)], stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            wait_until(lambda: len(read(log, "numbers")) == 100, process)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0, process.stderr.read()
        assert behind(log) == 0


def test_a_group_that_is_reset_reads_its_inputs_again_and_not_what_it_handed_on(url):
    with open_backend(url) as log:
        log.create_topic("events", PARTITIONS)
        publish(log, range(100))
        for _ in range(2):
            with App(url, "--until-end") as process:
                process.communicate(timeout=60)
                assert process.returncode == 0
            handed_on = len(
                [r for r in read(log, "shop-events-by-kind-repartition") if r.key is not None]
            )
            said = [
                subprocess.run(
                    [sys.executable, "-m", "streamkit", "--log", url, "groups", "reset", *to],
                    check=True,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                ).stderr
                for to in (("shop", "--to", "latest"), ("shop", "--to", "earliest"))
            ]
            assert "keeps state" not in said[0], "it reads nothing again"
            assert "app 'shop' keeps state (" in said[1]
            assert "not reset with it" in said[1] and "new name" in said[1]
        assert handed_on == 200
        committed = log.committed("shop")
        assert {c.offset for p, c in committed.items() if p.topic == "events"} == {0}
        assert all(
            c.offset == log.offsets(p).end
            for p, c in committed.items()
            if p.topic.endswith("-repartition")
        )


def test_a_run_says_where_it_reads_and_what_it_has_done(url):
    with open_backend(url) as log:
        log.create_topic("events", PARTITIONS)
        publish(log, range(100))
    with App(url, "--until-end") as process:
        _, errors = process.communicate(timeout=60)
    began, still, ended = errors.splitlines()
    assert "still open" in still and "--finish" in still
    assert f"app shop on log {url}: {2 * PARTITIONS} tasks, reading events" in began
    read = re.search(
        r"app shop ended: (\d+) records .*, those of its own topics included, 0 events late", ended
    )
    assert read is not None and int(read[1]) > 200  # each event, handed over, and markers of time


def test_the_command_that_a_failure_tells_skips_its_record_and_no_other(url):
    with open_backend(url) as log:
        log.create_topic("events", PARTITIONS)
        publish(log, range(100))
    with App(url, "--until-end", FAIL_AT="60") as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    (command,) = re.findall(r"skip the record: streamkit (.*)", errors)
    subprocess.run([sys.executable, "-m", "streamkit", "--log", url, *command.split()], check=True)
    with App(url, "--until-end", FAIL_AT="60") as process:
        process.communicate(timeout=60)
    assert process.returncode == 0
    with open_backend(url) as log:
        assert {int(r.value) for r in read(log, "numbers")} == set(range(100)) - {60}
        assert lag(log) == 0


def test_until_end_does_not_wait_for_a_topic_that_is_not_there(url):
    with App(url, "--until-end") as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "events" in errors and "streamkit topics create events" in errors


def test_workers_share_the_tasks_of_one_command(url):
    with open_backend(url) as log:
        log.create_topic("events", PARTITIONS)
        with App(url, "--workers", "2") as process:
            wait_until(lambda: len(log.group("shop").members) == 2, process)
            publish(log, range(300), last=True)
            wait_until(lambda: finished(log, range(300)), process)
            process.terminate()
            assert process.wait(20) == 0, process.stderr.read()
        assert behind(log) == 0
        assert log.group("shop").members == ()
        publish(log, range(1000, 1300), last=True)
        with App(url, "--workers", "2", "--until-end") as process:
            process.communicate(timeout=60)
            assert process.returncode == 0
        assert lag(log) == 0


def test_a_worker_that_fails_stops_the_others(url):
    with open_backend(url) as log:
        log.create_topic("events", PARTITIONS)
        publish(log, range(100))
        with App(url, "--workers", "2", FAIL_AT="60") as process:
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "ValueError: this one" in errors
        assert log.group("shop").members == ()
