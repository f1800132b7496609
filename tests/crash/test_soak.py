"""Eight processes on one log, killed, stopped, out of space, with failing disks: no anomaly.

Each writes down what it did, outside of the log. In the end somebody new reads everything, and
the checker of histories looks at all of it. `make soak` does the same for ten minutes.
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
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from streamkit import Admin
from streamkit.history.check import check
from streamkit.history.operations import Operation, Scan, operations, read_events

LONG = bool(os.environ.get("STREAMKIT_SOAK"))
SECONDS = 600 if LONG else 14
DISK = 64 << 20
WORKER = Path(__file__).parent / "soak_worker.py"

ROLES = {
    "plain1": "plain",
    "plain2": "plain",
    "copy1": "copy",
    "copy2": "copy",
    "member1": "member",
    "member2": "member",
    "tail": "tail",
    "janitor": "janitor",
}

TOPICS = {
    "events": (4, {"segment.bytes": "65536", "retention.ms": "-1"}),
    "copies": (4, {"segment.bytes": "65536", "retention.ms": "-1"}),
    "table": (
        2,
        {
            "cleanup.policy": "compact",
            "segment.bytes": "4096",
            "min.cleanable.dirty.ratio": "0.1",
            "delete.retention.ms": "500",
        },
    ),
    "retained": (1, {"segment.bytes": "8192", "retention.bytes": "40000"}),
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 300)]


class Fleet:
    """The eight processes, started again whenever they are killed, under another name."""

    def __init__(self, home: Path, log: Path, seed: int) -> None:
        self.home, self.log, self.seed = home, log, seed
        self.lives: Counter[str] = Counter()
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, role: str = "") -> None:
        self.lives[name] += 1
        process = f"{name}.{self.lives[name]}"
        history, messages = self.home / f"{process}.jsonl", self.home / f"{process}.out"
        command = [role or ROLES[name], process, self.log, history, f"{self.seed}/{process}"]
        with messages.open("ab") as said:
            self.running[name] = subprocess.Popen(
                [sys.executable, WORKER, *command], stdout=said, stderr=said
            )

    def start_all(self) -> None:
        for name in ROLES:
            self.start(name)

    def at_work(self, name: str) -> None:
        """Wait until it does something: on a busy machine it takes seconds to begin."""
        history = self.home / f"{name}.{self.lives[name]}.jsonl"
        deadline = time.monotonic() + 60
        while not (history.exists() and history.stat().st_size):
            code = self.running[name].poll()
            assert code is None, f"{name} ended by itself ({code}):\n{self.said_by(name)}"
            assert time.monotonic() < deadline, f"{name} does nothing"
            time.sleep(0.01)

    def said_by(self, name: str) -> str:
        return (self.home / f"{name}.{self.lives[name]}.out").read_text()[-5000:]

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        code = process.poll()
        assert code is None, f"{name} ended by itself ({code}):\n{self.said_by(name)}"
        process.send_signal(signal.SIGKILL)
        process.wait()

    def kill_all(self) -> None:
        for name in list(self.running):
            self.kill(name)

    def signal(self, name: str, number: int) -> None:
        self.running[name].send_signal(number)

    def history(self) -> list[Operation]:
        done: list[Operation] = []
        for path in sorted(self.home.glob("*.jsonl")):
            with path.open("rb") as lines:
                done += operations(read_events(lines, path.name))
        return done


class Nemesis:
    """What goes wrong, at random."""

    def __init__(self, fleet: Fleet, dice: random.Random, *, small_disk: bool) -> None:
        self.fleet, self.dice = fleet, dice
        self.done: Counter[str] = Counter()
        self._weights = {"kill": 8, "stop": 3, "stop_and_kill": 2, "kill_everybody": 1, "fail": 1}
        if small_disk:
            self._weights["fill"] = 2

    def go_on(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        first = list(self._weights)  # each once, then at random
        self.dice.shuffle(first)
        while time.monotonic() < deadline:
            time.sleep(self.dice.uniform(0, 1.2))
            name = first.pop() if first else None
            name = name or self.dice.choices([*self._weights], [*self._weights.values()])[0]
            self.done[name] += 1
            getattr(self, name)()

    def somebody(self) -> str:
        """One of them, who is at work."""
        name = self.dice.choice(list(ROLES))
        self.fleet.at_work(name)
        return name

    def kill(self) -> None:
        name = self.somebody()
        self.fleet.kill(name)
        self.fleet.start(name)

    def stop(self) -> None:
        name = self.somebody()
        self.fleet.signal(name, signal.SIGSTOP)
        time.sleep(self.dice.uniform(0, 1.5 if not LONG else 8))
        self.fleet.signal(name, signal.SIGCONT)

    def stop_and_kill(self) -> None:
        name = self.somebody()
        self.fleet.signal(name, signal.SIGSTOP)
        time.sleep(self.dice.uniform(0, 1))
        self.fleet.kill(name)
        self.fleet.start(name)

    def kill_everybody(self) -> None:
        self.fleet.kill_all()
        self.fleet.start_all()

    def fill(self) -> None:
        """Take all space that is left, in pieces as they come, and give it back after a while."""
        filler = self.fleet.log.parent / "filler"
        until = time.monotonic() + self.dice.uniform(0.3, 1.5)
        with filler.open("ab", buffering=0) as file:
            while time.monotonic() < until:
                try:
                    file.write(bytes(1 << 16))
                except OSError:
                    time.sleep(0.01)
        filler.unlink()

    def fail(self) -> None:
        """A write or an fsync fails: that partition is closed to all until it is repaired."""
        self.fleet.signal(self.somebody(), signal.SIGUSR1)
        time.sleep(self.dice.uniform(0.1, 1))
        self.fleet.kill_all()
        fsck(self.fleet.log, "--repair")
        self.fleet.start_all()


def fsck(log: Path, *options: str) -> dict:
    """The findings of `streamkit fsck --json`."""
    command = [sys.executable, "-m", "streamkit", "--log", log, "fsck", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, bool]]:
    """A directory for the log, and whether it is a small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", place]
    small = shutil.which("mount") is not None
    small = small and subprocess.run(mount, capture_output=True).returncode == 0
    if not small:
        print("no right to mount a small disk here: it will not be full")
    yield place, small
    if small:
        with suppress(OSError):  # to look at, if it was found wanting
            shutil.copytree(place / "log", tmp_path / "log")
        subprocess.run(["umount", "-l", place], check=True)


def test_eight_processes_under_everything_that_goes_wrong(
    tmp_path: Path, disk: tuple[Path, bool]
) -> None:
    seed = int(os.environ.get("STREAMKIT_SEED", random.randrange(1 << 32)))
    print("STREAMKIT_SEED", seed)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # as it is in those that have just begun
    place, small_disk = disk
    log = place / "log"
    with Admin(log) as admin:
        for topic, (partitions, config) in TOPICS.items():
            admin.create_topic(topic, partitions, config)
    histories = tmp_path / "histories"
    histories.mkdir()
    fleet = Fleet(histories, log, seed)
    nemesis = Nemesis(fleet, random.Random(seed), small_disk=small_disk)
    try:
        fleet.start_all()
        for name in ROLES:
            fleet.at_work(name)
        nemesis.go_on(SECONDS)
        fleet.kill_all()
    finally:
        for process in fleet.running.values():
            process.kill()
            process.wait()
    print(dict(nemesis.done))

    settle(log)
    fleet.start("final", "final")
    assert fleet.running["final"].wait(timeout=120) == 0, (histories / "final.1.out").read_text()
    history = fleet.history()
    report = check(history)
    print(report)
    assert not report.anomalies, str(report)
    assert report.records > 10 * SECONDS, "they hardly worked"
    scans = {
        step.partition: step
        for operation in history
        for step in operation.steps
        if isinstance(step, Scan)
    }
    for name, scan in scans.items():
        assert scan.start == 0 or name == "retained-0", f"{name} begins at {scan.start}"
    if LONG:  # on a busy machine there may be too little to remove in some seconds
        assert scans["retained-0"].start > 0, "nothing was removed"
        assert len(scans["table-0"].records) < scans["table-0"].end / 2, "nothing was compacted"
    exactly_once(scans, log)
    assert fsck(log)["clean"]


def settle(log: Path) -> None:
    """What is left to do for those that were killed is done, by somebody new."""
    with Admin(log) as admin:
        deadline = time.monotonic() + 30
        while hanging := [
            tp
            for topic in admin.topics(internal=True)
            for tp, offsets in admin.offsets(topic).items()
            if offsets.end < offsets.log_end
        ]:
            assert time.monotonic() < deadline, f"transactions hang in {hanging}"
            admin.maintain()


def exactly_once(scans: dict[str, Scan], log: Path) -> None:
    """Every event before the committed offset has one copy, and no other has any."""
    with Admin(log) as admin:
        for group in admin.groups():
            for tp, at in admin.group(group).offsets.items():
                assert at.offset <= scans[str(tp)].end, f"{group} is beyond the end of {tp}"
        done = {str(tp): at.offset for tp, at in admin.group("copiers").offsets.items()}
    assert done
    for number in range(TOPICS["events"][0]):
        events = f"events-{number}"
        expected = Counter(v for offset, v in scans[events].records if offset < done.get(events, 0))
        copied = Counter(str(v).split("<")[1] for _, v in scans[f"copies-{number}"].records)
        assert copied == expected
