"""An app with state, windows and joins under four processes that are killed, stopped, leave and
join: its results are those of a model that has all events at once. `make soak` does it for longer.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from shop_model import Results, Sent, results

from streamkit import Admin, Consumer, Producer, Record, TopicPartition
from streamkit.backends.locate import open_backend
from streamkit.codec import partition_for
from streamkit.engine.dead_letters import DeadLetters

LONG = bool(os.environ.get("STREAMKIT_SOAK"))
SECONDS = 600 if LONG else 9
WORKER = Path(__file__).parent / "app_soak_worker.py"
WORKERS = ("one", "two", "three", "four")
PARTITIONS = 4
FAR = "~"
"""How keys and items begin of the events that close what is open in the end."""
"""How keys and items begin of the events that close what is open in the end."""
TOPICS = (
    *("numbered", "sold", "named", "met", "stays", "sales"),
    *("charged", "refused", "asked", "scored", "reminded"),
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 600)]


class Fleet:
    """The processes, each with a file for what it says."""

    def __init__(self, home: Path, log: Path, guarantee: str) -> None:
        self.home, self.log, self.guarantee = home, log, guarantee
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, role: str, name: str, *more: str) -> None:
        with (self.home / f"{name}.out").open("ab") as said:
            self.running[name] = subprocess.Popen(
                [sys.executable, WORKER, role, name, self.log, *more], stdout=said, stderr=said
            )

    def work(self, name: str) -> None:
        self.start("work", name, self.guarantee)

    def alive(self, name: str) -> subprocess.Popen[bytes]:
        process = self.running[name]
        code = process.poll()
        assert code is None, f"{name} ended by itself ({code}):\n{self.said_by(name)}"
        return process

    def kill(self, name: str) -> None:
        process = self.alive(name)
        process.kill()
        process.wait()
        del self.running[name]

    def kill_all(self, names: Iterable[str]) -> None:
        for name in names:
            self.kill(name)

    def ended(self, name: str, seconds: float) -> None:
        code = self.running.pop(name).wait(timeout=seconds)
        assert code == 0, f"{name} ended with {code}:\n{self.said_by(name)}"

    def said_by(self, name: str) -> str:
        return (self.home / f"{name}.out").read_text()[-5000:]


class Nemesis:
    """What happens to the workers: something about every second, while they get on."""

    def __init__(self, fleet: Fleet, dice: random.Random) -> None:
        self.fleet, self.dice = fleet, dice
        self.admin = Admin(fleet.log)
        self.done: Counter[str] = Counter()
        self._weights = {
            "kill": 5,
            "stop": 4,
            "stop_and_kill": 2,
            "leave": 3,
            "kill_everybody": 1,
            "retry": 1,
            "compact": 2,
        }

    def go_on(self, seconds: float) -> None:
        self.progress()  # they have begun
        deadline = time.monotonic() + seconds
        first = list(self._weights)
        self.dice.shuffle(first)
        while time.monotonic() < deadline:
            time.sleep(self.dice.uniform(0, 0.7))
            name = first.pop() if first else None
            name = name or self.dice.choices([*self._weights], [*self._weights.values()])[0]
            self.done[name] += 1
            getattr(self, name)()
            self.progress()

    def progress(self) -> None:
        """Wait until something has been done: on a busy machine it takes seconds to begin."""
        before, deadline = self.written(), time.monotonic() + 60
        while self.written() == before:
            for name in WORKERS:
                self.fleet.alive(name)
            assert time.monotonic() < deadline, "they do nothing"
            time.sleep(0.02)

    def written(self) -> int:
        topics = self.admin.topics()
        if "numbered" not in topics:
            return 0
        return sum(each.end for each in self.admin.offsets("numbered").values())

    def somebody(self) -> str:
        return self.dice.choice(WORKERS)

    def kill(self) -> None:
        name = self.somebody()
        self.fleet.kill(name)
        self.fleet.work(name)

    def stop(self) -> None:
        process = self.fleet.alive(self.somebody())
        process.send_signal(signal.SIGSTOP)
        time.sleep(self.dice.choice([0.1, 1.5] if not LONG else [0.1, 1.5, 12]))
        process.send_signal(signal.SIGCONT)

    def stop_and_kill(self) -> None:
        name = self.somebody()
        self.fleet.alive(name).send_signal(signal.SIGSTOP)
        time.sleep(self.dice.uniform(0, 1))
        self.fleet.kill(name)
        self.fleet.work(name)

    def leave(self) -> None:
        """It commits and goes; sometimes there are fewer for a while."""
        name = self.somebody()
        process = self.fleet.alive(name)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM), self.fleet.said_by(name)
        time.sleep(self.dice.choice([0, 1]))
        self.fleet.work(name)

    def retry(self) -> None:
        """What was set aside is given back, and is set aside again."""
        with refused(self.fleet.log) as letters:
            letters.give_back()

    def compact(self) -> None:
        """Of what is kept of state only the last remains, in small segments."""
        for topic in self.admin.topics():
            if topic.endswith("-changelog"):
                small = {"segment.bytes": "16384", "min.cleanable.dirty.ratio": "0.01"}
                self.admin.alter_topic(topic, small)
        self.admin.maintain()

    def kill_everybody(self) -> None:
        """Sometimes with what they have on disk beside the log."""
        self.fleet.kill_all(WORKERS)
        if self.dice.random() < 0.5:
            self.done["lose"] += 1
            for path in list(self.fleet.log.rglob("rows.mdb")):
                shutil.rmtree(path.parent)
        for name in WORKERS:
            self.fleet.work(name)


@contextmanager
def refused(log: Path) -> Iterator[DeadLetters]:
    with open_backend(log) as backend:
        yield DeadLetters(backend, ["refused"], "shop")


@pytest.fixture
def fleet(tmp_path: Path, guarantee: str) -> Iterator[Fleet]:
    made = Fleet(tmp_path, tmp_path / "log", guarantee)
    yield made
    for process in made.running.values():
        process.kill()
        process.wait()


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_an_app_whose_processes_die_gives_what_a_model_gives(fleet: Fleet, guarantee: str) -> None:
    seed = int(os.environ.get("STREAMKIT_SEED", random.randrange(1 << 32)))
    print("STREAMKIT_SEED", seed)
    with Admin(fleet.log) as admin:
        for topic in ("orders", "visits", "names"):
            admin.create_topic(topic, PARTITIONS, {"retention.ms": "-1"})
    for name in WORKERS:
        fleet.work(name)
    feeders = [f"feed{number}" for number in range(2)]
    for name in feeders:
        fleet.start("feed", name, f"{seed}/{name}")
    started = time.monotonic()
    nemesis = Nemesis(fleet, random.Random(seed))
    nemesis.go_on(SECONDS)
    fleet.kill_all(feeders)
    close_all(fleet.log)
    time.sleep(random.random())  # some of what that closes is done by those that are killed
    fleet.kill_all(WORKERS)
    for name in WORKERS[:2]:
        fleet.start("finish", name, guarantee)
    for name in WORKERS[:2]:
        fleet.ended(name, 300)
    print(f"{dict(nemesis.done)} in {SECONDS} s, all in {time.monotonic() - started:.0f} s")

    exact = guarantee == "exactly_once"
    expected = modelled(fleet.log)
    healed = {"charged": expected.pop("healed")}
    check(expected, written(fleet.log, expected), exact)
    check_ticks(fleet.log, exact)
    with refused(fleet.log) as letters:
        letters.give_back()
        fleet.start("heal", "five", guarantee)
        fleet.ended("five", 300)
        assert all(dead.key.startswith(FAR.encode()) for dead in letters.waiting())
    check(healed, written(fleet.log, healed), exact)
    states = list(fleet.log.rglob("rows.mdb"))
    assert max(path.stat().st_size for path in states) > 1 << 14, "no state is on disk"


def check(expected: Results, found: Results, exact: bool) -> None:
    for topic, there in expected.items():
        twice = found[topic].total() - len(found[topic])
        print(f"{topic}: {there.total()} expected, {twice} there again")
        assert there, f"nothing is expected in {topic}"
        here = found[topic] if exact or topic == "refused" else Counter(set(found[topic]))
        missing, more = list(there - here), list(here - there)
        assert not missing, f"{topic}: {len(missing)} are missing: {missing[:5]}; more: {more[:5]}"
        assert not more, f"{topic}: {len(more)} are there and should not be: {more[:5]}"


def check_ticks(log: Path, exact: bool) -> None:
    """Each since the first, in their order, whoever was killed; at least once some come again."""
    beats = [(int(each.value), each.timestamp) for each in records(log, "beats")[0]]
    first = beats[0][1]
    there = beats if exact else sorted(set(beats))
    assert there == [(n + 1, first + 100 * n) for n in range(len(there))]
    assert len(there) > SECONDS * 5


def close_all(log: Path) -> None:
    """One event per partition that is so much later that everything before is complete."""
    at = round(time.time() * 1000) + 3_600_000
    with Producer(log) as producer:
        for partition in range(PARTITIONS):
            keys = (f"{FAR}{number}" for number in count())
            key = next(k for k in keys if partition_for(k.encode(), PARTITIONS) == partition)
            producer.send("orders", {"id": key, "item": key, "at": at}, key=key)
            producer.send("visits", {"id": key, "at": at}, key=key)


def records(log: Path, topic: str) -> list[list[Record[bytes | None]]]:
    """What everybody reads of it, partition by partition."""
    with Admin(log) as admin:
        partitions = len(admin.offsets(topic))
    found = []
    for number in range(partitions):
        with Consumer(log, partitions=[TopicPartition(topic, number)]) as consumer:
            found.append(list(consumer.until_end()))
    return found


def modelled(log: Path) -> Results:
    orders, visits = (
        [[event(record) for record in partition] for partition in records(log, topic)]
        for topic in ("orders", "visits")
    )
    names = [
        Sent(record.value and record.value.decode(), record.key.decode(), record.timestamp)
        for partition in records(log, "names")
        for record in partition
    ]
    return results(orders, visits, names, FAR)


def event(record: Record[bytes | None]) -> Sent:
    value = json.loads(record.value)
    return Sent(value["id"], record.key.decode(), value["at"], value.get("item", ""))


def written(log: Path, topics: Iterable[str]) -> Results:
    found: Results = {}
    for topic in topics:
        found[topic] = Counter()
        if topic == "refused":
            with refused(log) as letters:
                ids = [json.loads(dead.value)["id"] for dead in letters.waiting()]
            found[topic].update(id for id in ids if not id.startswith(FAR))
            continue
        for partition in records(log, topic):
            for record in partition:
                key = record.key.decode()
                if not key.startswith(FAR):
                    found[topic].update(facts(topic, key, record))
    return found


def facts(topic: str, key: str, record: Record[bytes | None]) -> list[Hashable]:
    if topic in ("scored", "reminded"):
        return [(key, record.value.decode(), record.timestamp)]
    value = json.loads(record.value)
    match topic:
        case "numbered" | "sold":
            return [(key, "event", value["id"]), (key, "number", value["number"])]
        case "named":
            return [(key, value["id"], value["name"])]
        case "charged" | "asked":
            return [(key, value["id"], value["number"])]
        case "met":
            return [(key, value["order"], value["visit"])]
    _, start, end, sequence = json.loads(dict(record.headers)["__streamkit.window"])
    assert sequence == len(value)
    return [(key, start, end, tuple(sorted(value)))]
