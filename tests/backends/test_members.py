"""Members in several processes: killed, forked, robbed of their files."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.group_files import GroupFiles, file_name
from streamkit.backends.locate import open_backend
from streamkit.backends.lockfile import LockFile
from streamkit.backends.members import LockMembership
from streamkit.backends.values import CommittedOffset
from streamkit.clock import ManualClock
from streamkit.errors import Fenced, FencedInstanceId, GroupActive, UnknownGroup
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


# Commits, unit by unit.


def test_a_member_commits_only_for_units_that_it_holds(path):
    with open_backend(path) as log:
        first = log.join("g", {"t": UNITS})
        second = log.join("g", {"t": UNITS})
        until(lambda: len(follow(first)) == len(follow(second)) == UNITS // 2)
        mine, others = sorted(follow(first)), sorted(follow(second))
        log.commit("g", {mine[0]: CommittedOffset(1)}, member=first)
        with pytest.raises(Fenced, match=f"does not own {re.escape(str(others[0]))}"):
            log.commit(
                "g", {mine[0]: CommittedOffset(2), others[0]: CommittedOffset(2)}, member=first
            )
        assert log.committed("g") == {mine[0]: CommittedOffset(1)}
        # What was done for a unit may be the position in another partition, as an app's is.
        log.commit("g", {others[0]: CommittedOffset(3)}, member=first, units=[mine[0]])
        with pytest.raises(Fenced):
            log.commit("g", {mine[0]: CommittedOffset(3)}, member=first, units=[others[0]])
        first.release([mine[0]])
        with pytest.raises(Fenced):
            log.commit("g", {mine[0]: CommittedOffset(4)}, member=first)
        assert first.poll().owned, "the others are still its own"


def test_a_unit_whose_lock_file_was_removed_is_committed_no_more(path):
    with open_backend(path) as log:
        member = log.join("g", {"t": UNITS})
        (Path(path) / LOCKS / "g" / "units" / "t-0").unlink()
        log.commit("g", {TopicPartition("t", 1): CommittedOffset(1)}, member=member)
        with pytest.raises(Fenced, match="removed"):
            log.commit("g", {TopicPartition("t", 0): CommittedOffset(1)}, member=member)
        with pytest.raises(Fenced):
            member.poll()


COMMITTER = """
import sys
from streamkit.backends.values import CommittedOffset
from streamkit.backends.locate import open_backend
from streamkit.errors import Fenced
from streamkit.records import TopicPartition
number = 0
with open_backend(sys.argv[1]) as log:
    member = log.join("g", {"t": 1})
    while not member.poll().owned:
        log.wait({}, 5.0)
    print("owned", flush=True)
    try:
        while True:
            number += 1
            log.commit("g", {TopicPartition("t", 0): CommittedOffset(1000 + number)}, member=member)
            if number % 10 == 0:
                member.poll()
    except Fenced:
        print("fenced", flush=True)
"""


def test_no_commit_of_a_member_comes_after_a_forced_reset(path, monkeypatch):
    """The member commits without a pause; a reset is never followed by what it knew before."""
    monkeypatch.setattr("streamkit.backends.members._RESET_SECONDS", 0.2)
    t0 = TopicPartition("t", 0)
    with open_backend(path) as log:

        def reset(refused):
            try:
                log.reset("g", lambda _: {t0: CommittedOffset(7)}, force=True)
            except GroupActive as error:
                refused.append(error)

        for round_ in range(6):
            process = subprocess.Popen(
                [sys.executable, "-c", COMMITTER, path], stdout=subprocess.PIPE, text=True
            )
            try:
                assert process.stdout.readline() == "owned\n"
                until(lambda: log.committed("g").get(t0, CommittedOffset(7)).offset > 1000)
                refused = []
                if round_ % 2:
                    process.send_signal(signal.SIGSTOP)
                thread = threading.Thread(target=reset, args=(refused,))
                thread.start()
                # Stopped in the middle of a commit it may even hold the lock of the log itself.
                thread.join(1.0)
                process.send_signal(signal.SIGCONT)
                thread.join()
                assert process.stdout.readline() == "fenced\n"
                assert process.wait(30) == 0
                if refused:
                    assert round_ % 2 and "middle of a commit" in str(refused[0])
                    log.reset("g", lambda _: {t0: CommittedOffset(7)})
                assert log.committed("g")[t0].offset == 7
            finally:
                process.kill()
                process.wait()
                process.stdout.close()


def test_a_commit_that_waited_for_a_reset_is_refused_after_it(path, caplog):
    with open_backend(path) as log:
        member = log.join("g", {"t": UNITS})
        failed = []

        def commit():
            try:
                log.commit("g", {TopicPartition("t", 0): CommittedOffset(1)}, member=member)
            except Fenced as error:
                failed.append(error)

        with LockFile(Path(path) / LOCKS / "g" / "commits") as reset:
            assert reset.try_lock()
            thread = threading.Thread(target=commit)
            thread.start()
            until(lambda: "waiting for" in caplog.text)
            (Path(path) / LOCKS / "g" / "members" / member.member_id).unlink()
        thread.join()
        assert failed and log.committed("g") == {}


def test_a_reset_waits_for_a_commit_that_is_under_way(path, monkeypatch):
    monkeypatch.setattr("streamkit.backends.members._RESET_SECONDS", 0.05)
    offsets = {TopicPartition("t", 0): CommittedOffset(1)}
    with open_backend(path) as log:
        member = log.join("g", {"t": UNITS})
        with (
            member.holding(offsets),
            pytest.raises(GroupActive, match=f"process {os.getpid()}.* middle of a commit"),
        ):
            log.reset("g", lambda _: offsets, force=True)
        assert log.committed("g") == {}
        log.reset("g", lambda _: offsets)
        assert log.committed("g") == offsets


def test_the_lock_of_a_removed_coordinator_file_is_no_lock(tmp_path, monkeypatch):
    """Removed, with its group, after it was opened and before it was locked."""
    files = GroupFiles(tmp_path, "g", "")
    real = LockFile.try_lock

    def removed_first(file):
        monkeypatch.undo()
        file.path.unlink()
        return real(file)

    monkeypatch.setattr(LockFile, "try_lock", removed_first)
    with files.coordinator(), files.coordinator_if_free() as ours:
        assert not ours


def test_a_full_disk_does_not_keep_the_coordinators_lock_from_being_taken(tmp_path):
    files = GroupFiles(tmp_path, "g", "")
    with files.coordinator():
        pass
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with files.coordinator_if_free() as ours:
            assert ours
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Stopped processes.


HOLDER = """
import sys, time
from streamkit.backends.group_files import GroupFiles
from pathlib import Path
sys.stdin.readline()
with GroupFiles(Path(sys.argv[1]), "g", "").coordinator():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(path):
    """A process that holds the coordinator's lock once it is told to."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(Path(path) / LOCKS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def hold_and_stop(holder):
    """Only now: there is no group's folder before somebody has joined."""
    holder.stdin.write("now\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGSTOP)


def test_who_works_does_not_wait_for_a_stopped_coordinator(path, holder):
    with open_backend(path) as log:
        member = log.join("g", {"t": UNITS})
        other = log.join("g", {"t": UNITS})
        until(lambda: len(follow(member)) == len(follow(other)) == UNITS // 2)
        hold_and_stop(holder)
        other.leave()  # nobody can decide about what it leaves …
        mine = follow(member)
        for unit in mine:
            log.commit("g", {unit: CommittedOffset(1)}, member=member)
        assert follow(member) == mine
        holder.kill()  # … until the holder goes on, or dies
        until(lambda: follow(member) == ALL)


def test_who_waits_for_a_stopped_coordinator_says_so(path, holder, caplog):
    with open_backend(path) as log:
        log.join("g", {"t": UNITS}).leave()
        hold_and_stop(holder)
        joined = []
        thread = threading.Thread(target=lambda: joined.append(log.join("g", {"t": UNITS})))
        thread.start()
        until(lambda: f"process {holder.pid} (which is stopped" in caplog.text)
        assert not joined
        holder.kill()
        thread.join()
        until(lambda: joined[0].poll().owned == ALL)


def test_a_stopped_members_units_stay_its_own_and_it_goes_on_with_them(path, child):
    with open_backend(path) as log:
        member = log.join("g", {"t": UNITS})
        process = child()
        until(lambda: len(follow(member)) == UNITS // 2)
        until(lambda: len(log.group("g").members) == 2)
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        third = log.join("g", {"t": UNITS})
        until(lambda: len(follow(member)) == 3 and follow(third) != frozenset())
        theirs = [m.units for m in log.group("g").members if m.client_id == "child"]
        assert not set(theirs[0]) & (follow(member) | follow(third))
        process.send_signal(signal.SIGCONT)
        until(lambda: follow(member) | follow(third) == ALL - set(theirs[0]))
        process.kill()
        process.wait()
        until(lambda: len(follow(member)) == len(follow(third)) == UNITS // 2)


def test_random_stops_kills_joins_and_leaves_leave_every_unit_with_one_owner(path, child):
    random = Random(7)
    with open_backend(path) as log:
        member = log.join("g", {"t": UNITS})
        running = [child(), child()]
        stopped = []
        for _ in range(40):
            follow(member)
            event = random.choice(["kill", "stop", "continue", "join", "join"])
            if event == "join" and len(running) + len(stopped) < 4:
                running.append(child())
            elif event == "continue" and stopped:
                running.append(stopped.pop())
                running[-1].send_signal(signal.SIGCONT)
            elif event == "stop" and running:
                stopped.append(running.pop(random.randrange(len(running))))
                stopped[-1].send_signal(signal.SIGSTOP)
            elif event == "kill" and running + stopped:
                victims = running if running else stopped
                victim = victims.pop(random.randrange(len(victims)))
                victim.kill()
                victim.wait()
            log.wait({}, 0.01)
        for process in stopped:
            process.send_signal(signal.SIGCONT)
        alive = len(running) + len(stopped) + 1
        until(lambda: bool(follow(member)) and len(log.group("g").members) == alive)
        units = [unit for m in log.group("g").members for unit in m.units]
        assert len(units) == UNITS and set(units) == ALL
        for process in running + stopped:
            process.kill()
            process.wait()
        until(lambda: follow(member) == ALL)


# What the others of a group do not notice.


def test_records_of_partitions_that_do_not_move_keep_flowing_while_others_join(path):
    """Each joining member takes its share; what stays is never revoked and never waits."""
    with open_backend(path) as log:
        member = log.join("g", {"t": UNITS})
        kept = member.poll().owned
        others = []
        for _ in range(3):
            others.append(log.join("g", {"t": UNITS}))
            target = None
            while target is None or len(kept) > target:
                own = member.poll()
                target = UNITS // (len(others) + 1) + (UNITS % (len(others) + 1) > 0)
                # What is revoked goes; all else stays owned at every moment.
                assert kept - own.revoking <= own.owned
                assert not own.gained
                for unit in sorted(kept - own.revoking):
                    log.commit("g", {unit: CommittedOffset(1)}, member=member)
                kept -= own.revoking
                member.release(own.revoking)
                for other in others:
                    follow(other)
            until(lambda: sum(len(follow(m)) for m in (member, *others)) == UNITS)


# Static members.


def static(log, name, seconds=600.0):
    return log.join("g", {"t": UNITS}, instance_id=name, session_timeout=seconds)


def test_a_killed_static_members_units_wait_for_it(path):
    clock = ManualClock(1_000_000)
    with open_backend(path) as real:
        log = EmbeddedBackend(real._log, real._offsets, clock=clock, closing=lambda: None)
        member = log.join("g", {"t": UNITS})
        dying = static(log, "s", 30.0)

        def both():
            clock.advance(10)
            follow(member)
            follow(dying)

        until(lambda: both() or len(follow(dying)) == UNITS // 2)
        mine, its = follow(member), follow(dying)
        die(dying)
        for _ in range(20):
            clock.advance(1000)
            assert follow(member) == mine
        assert [m.instance_id for m in log.group("g").members if m.away] == ["s"]
        assert log.group("g").state == "Stable"
        back = static(log, "s", 30.0)
        assert follow(back) == its and follow(member) == mine
        die(back)
        clock.advance(1000)
        follow(member)
        clock.advance(31_000)
        until(lambda: clock.advance(10) or follow(member) == ALL)
        assert [m.instance_id for m in log.group("g").members] == [None]


def die(member):
    """As the kernel does it: every lock is free, and nothing is said."""
    for file in (member._own, member._commits, *member._held.values(), *member._wanted.values()):
        file.close()
    member._over = "left"


def test_a_newer_member_of_the_same_instance_fences_the_older(path):
    with open_backend(path) as log:
        older = static(log, "s")
        assert older.poll().owned == ALL
        newer = static(log, "s")
        assert newer.poll().owned == frozenset(), "the older one may still be at work"
        with pytest.raises(FencedInstanceId, match="'s'"):
            log.commit("g", {TopicPartition("t", 0): CommittedOffset(1)}, member=older)
        with pytest.raises(FencedInstanceId):
            older.poll()
        until(lambda: newer.poll().owned == ALL)
        assert len(log.group("g").members) == 1
        older.leave()
        assert newer.poll().owned == ALL


def test_while_the_newer_member_is_joining_the_older_waits_to_see_it(path, monkeypatch):
    with open_backend(path) as log:
        older = static(log, "s")
        raised = []

        def work() -> None:
            try:
                older.check()
            except Fenced as error:
                raised.append(error)

        thread = threading.Thread(target=work)
        displace = GroupFiles.displace

        def displaced(files, instance_id):
            displace(files, instance_id)
            thread.start()
            thread.join(0.02)  # it can't end yet

        monkeypatch.setattr(GroupFiles, "displace", displaced)
        static(log, "s")
        thread.join()
        assert [type(error) for error in raised] == [FencedInstanceId]


def test_a_static_member_that_leaves_is_expected_back_but_does_not_keep_a_group_active(path):
    with open_backend(path) as log:
        static(log, "s").leave()
        info = log.group("g")
        assert info.state == "Empty" and [m.away for m in info.members] == [True]
        log.commit("g", {TopicPartition("t", 0): CommittedOffset(5)})
        assert static(log, "s").poll().owned == ALL
        assert log.committed("g")[TopicPartition("t", 0)].offset == 5


# What is left.


def test_deleting_a_group_removes_its_files_while_others_wait_for_its_coordinator(path):
    with open_backend(path) as log:
        folder = Path(path) / LOCKS / "g"
        stop = threading.Event()
        failed = []

        def come_and_go():
            with open_backend(path) as mine:
                while not stop.is_set():
                    try:
                        member = mine.join("g", {"t": UNITS})
                        assert member.poll().owned <= ALL
                        member.leave()
                    except BaseException as error:
                        failed.append(error)
                        raise

        threads = [threading.Thread(target=come_and_go) for _ in range(2)]
        for thread in threads:
            thread.start()
        deleted = 0
        deadline = time.monotonic() + 30
        while deleted < 10 and not failed:
            assert time.monotonic() < deadline
            with suppress(GroupActive, UnknownGroup):
                log.delete_group("g")
                deleted += 1
        stop.set()
        for thread in threads:
            thread.join()
        assert not failed
        member = log.join("g", {"t": UNITS})
        assert member.poll().owned == ALL
        member.leave()
        log.delete_group("g")
        assert not folder.exists()
        assert log.join("g", {"t": UNITS}).poll().owned == ALL


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


def test_who_is_interrupted_while_joining_is_no_member_while_the_error_is_looked_at(
    path, monkeypatch
):
    def interrupted(self: LockMembership, metadata: object) -> None:
        raise KeyboardInterrupt

    with open_backend(path) as log:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) as caught:
            patch.setattr(LockMembership, "_follow", interrupted)
            log.join("g", {"t": UNITS})
        member = log.join("g", {"t": UNITS})
        assert member.poll().owned == ALL
        assert len(log.group("g").members) == 1
        del caught


def test_who_is_interrupted_with_the_coordinators_lock_lets_go_of_it(tmp_path, monkeypatch):
    files = GroupFiles(tmp_path, "g", "boot")

    def interrupted(self: LockFile, content: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) as caught:
        patch.setattr(LockFile, "write", interrupted)
        with files.coordinator():
            pass
    with files.coordinator_if_free() as ours:
        assert ours
    del caught
