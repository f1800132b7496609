"""Members in several processes: killed, forked, robbed of their files."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from streamkit.backends.base import CommittedOffset
from streamkit.backends.locate import open_backend
from streamkit.backends.members import file_name
from streamkit.errors import Fenced
from streamkit.records import TopicPartition

UNITS = 8
ALL = frozenset(TopicPartition("t", n) for n in range(UNITS))

MEMBER = """
import sys, time
from streamkit.backends.locate import open_backend
with open_backend(sys.argv[1]) as log:
    member = log.join("g", {"t": int(sys.argv[2])}, client_id="child")
    while True:
        own = member.poll()
        if own.revoking:
            member.release(own.revoking)
        if own.gained or own.revoking:
            print(len(own.owned) - len(own.revoking), flush=True)
        log.wait({}, 5.0)
"""

LOCKS = "__consumer_offsets-0/groups"


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.001)


@pytest.fixture
def path(tmp_path: Path) -> str:
    with open_backend(tmp_path / "log") as log:
        log.create_topic("t", UNITS)
    return str(tmp_path / "log")


@pytest.fixture
def child(path):
    """Starts members in processes of their own; kills what is left of them."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", MEMBER, path, str(UNITS)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def follow(member) -> frozenset[TopicPartition]:
    """Poll, and give away at once what others wait for."""
    own = member.poll()
    if own.revoking:
        member.release(own.revoking)
    return own.owned - own.revoking


def test_processes_share_the_units(path, child):
    with open_backend(path) as log:
        member = log.join("g", {"t": UNITS})
        assert member.poll().owned == ALL
        process = child()
        until(lambda: len(follow(member)) == UNITS // 2)
        assert int(process.stdout.readline()) > 0
        info = log.group("g")
        assert sorted(len(m.units) for m in info.members) == [4, 4]
        assert {m.client_id for m in info.members} == {"streamkit", "child"}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_processs_units_are_taken_over_at_once(path, child, how, record_property):
    with open_backend(path) as log:
        member = log.join("g", {"t": UNITS})
        took = []
        for _ in range(3):
            process = child()
            until(lambda: len(follow(member)) == UNITS // 2)
            until(lambda: len(log.group("g").members) == 2)
            process.send_signal(how)
            started = time.monotonic()
            while len(follow(member)) < UNITS:
                log.wait({}, 5.0)
                assert time.monotonic() - started < 30
            took.append(time.monotonic() - started)
            process.wait()
        # A figure to look at; a busy machine must not fail the test.
        record_property("takeover_ms", [round(1000 * seconds, 1) for seconds in took])
        print(f"\ntaken over in {', '.join(f'{1000 * s:.1f} ms' for s in took)}")


def test_any_number_of_kills_leaves_every_unit_with_one_owner(path, child):
    with open_backend(path) as log:
        member = log.join("g", {"t": UNITS})
        processes = [child() for _ in range(3)]
        for _ in range(6):
            victim = processes.pop(0)
            until(lambda: bool(follow(member)) and len(log.group("g").members) == 4)
            victim.kill()
            victim.wait()
            processes.append(child())
        for process in processes:
            process.kill()
            process.wait()
        until(lambda: follow(member) == ALL)
        assert [m.member_id for m in log.group("g").members] == [member.member_id]


def test_units_that_do_not_move_are_not_disturbed(path):
    with open_backend(path) as log:
        first = log.join("g", {"t": UNITS})
        first.poll()
        second = log.join("g", {"t": UNITS})
        until(lambda: bool(first.poll().revoking))
        own = first.poll()
        first.release(own.revoking)
        kept = own.owned - own.revoking
        until(lambda: second.poll().owned == own.revoking)
        assert first.poll().owned == kept and first.poll().gained == frozenset()


def test_a_unit_taken_back_before_it_was_released_stays(path):
    with open_backend(path) as log:
        first = log.join("g", {"t": UNITS})
        first.poll()
        second = log.join("g", {"t": UNITS})
        until(lambda: bool(first.poll().revoking))
        second.leave()
        until(lambda: not first.poll().revoking)
        assert first.poll().owned == ALL


def test_a_forked_child_holds_nothing_and_is_fenced(path):
    with open_backend(path) as log:
        member = log.join("g", {"t": UNITS})
        assert member.poll().owned == ALL
        ready_r, ready_w = os.pipe()
        done_r, done_w = os.pipe()
        pid = os.fork()
        if pid == 0:  # the child lives on when the parent has left
            status = 1
            try:
                try:
                    log.commit("g", {TopicPartition("t", 0): CommittedOffset(1)}, member=member)
                except Fenced as error:
                    status = 0 if "child" in str(error) else 2
                os.write(ready_w, b"x")
                os.read(done_r, 1)
            finally:
                os._exit(status)
        os.read(ready_r, 1)
        member.leave()
        other = log.join("g", {"t": UNITS})
        assert other.poll().owned == ALL
        os.write(done_w, b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        # What the child did at its end took nothing from the living.
        assert other.poll().owned == ALL
        assert [m.member_id for m in log.group("g").members] == [other.member_id]
        for fd in (ready_r, ready_w, done_r, done_w):
            os.close(fd)


FORKING_MEMBER = """
import os, sys
from streamkit.backends.locate import open_backend
with open_backend(sys.argv[1]) as log:
    member = log.join("g", {"t": int(sys.argv[2])})
    if os.fork() == 0:
        sys.stdin.read()  # lives until its standard input ends
        os._exit(0)
    print(len(member.poll().owned), flush=True)
    sys.stdin.read()
"""


def test_a_forked_child_does_not_keep_its_dead_parents_units(path):
    process = subprocess.Popen(
        [sys.executable, "-c", FORKING_MEMBER, path, str(UNITS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"%d\n" % UNITS
    process.kill()
    with open_backend(path) as log:
        member = log.join("g", {"t": UNITS})
        until(lambda: member.poll().owned == ALL)
    process.stdin.close()  # only now the child ends
    process.wait()
    process.stdout.close()


def test_a_member_whose_file_was_removed_is_fenced_and_its_units_are_free(path):
    with open_backend(path) as log:
        zombie = log.join("g", {"t": UNITS})
        zombie.poll()
        (Path(path) / LOCKS / "g" / "members" / zombie.member_id).unlink()
        heir = log.join("g", {"t": UNITS})
        with pytest.raises(Fenced, match="removed"):
            log.commit("g", {TopicPartition("t", 0): CommittedOffset(1)}, member=zombie)
        assert log.committed("g") == {}
        until(lambda: heir.poll().owned == ALL)
        with pytest.raises(Fenced):
            zombie.poll()
        zombie.leave()
        assert heir.poll().owned == ALL


def test_commits_and_the_generation_survive_all_members(path):
    with open_backend(path) as log:
        member = log.join("g", {"t": UNITS})
        log.commit("g", {TopicPartition("t", 1): CommittedOffset(11, "note")}, member=member)
    with open_backend(path) as log:
        assert log.committed("g") == {TopicPartition("t", 1): CommittedOffset(11, "note")}
        assert log.group("g").state == "Empty"
        generation = log.group("g").generation
        assert log.join("g", {"t": UNITS}).generation > generation


def test_a_group_can_be_seen_from_a_log_that_is_open_for_reading_only(path):
    with open_backend(path) as log, open_backend(path, read_only=True) as reader:
        member = log.join("g", {"t": UNITS})
        assert [m.member_id for m in reader.group("g").members] == [member.member_id]
        member.leave()
        assert reader.group("g").state == "Empty"


def test_what_a_member_says_of_itself_can_be_read_by_people(path):
    with open_backend(path) as log:
        member = log.join("g", {"t": UNITS}, client_id="me")
        file = Path(path) / LOCKS / "g" / "members" / member.member_id
        said = json.loads(file.read_text())
        assert said["client_id"] == "me" and said["pid"] == os.getpid()


@pytest.mark.parametrize("name", ["a/b", ".", "..", "a.b", "ü", "A b", "", "%2F"])
def test_file_names_are_plain_and_different(name):
    written = file_name(name)
    assert "/" not in written and written not in (".", "..")
    assert (
        bytes.fromhex(
            "".join(
                part if at % 2 else part.encode().hex() for at, part in enumerate(_split(written))
            )
        ).decode()
        == name
    )


def _split(written: str) -> list[str]:
    """Plain text and %XX by turns."""
    parts = [""]
    rest = written
    while rest:
        if rest[0] == "%":
            parts += [rest[1:3], ""]
            rest = rest[3:]
        else:
            parts[-1] += rest[0]
            rest = rest[1:]
    return parts
