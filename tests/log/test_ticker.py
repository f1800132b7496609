"""The thread that ticks: from the first start to the end of its owner."""

import os
import threading
import time

import pytest

from streamkit.log.ticker import TICK_SECONDS, Ticker


class Owner:
    def __init__(self, act=lambda: None) -> None:
        self.asked: list[bool] = []
        self.act = act
        self.ticked = threading.Event()
        self.ticker = Ticker(self.tick)

    def tick(self, asked: bool) -> float:
        self.asked.append(asked)
        self.ticked.set()
        self.act()
        return TICK_SECONDS


def ticking() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "streamkit-maintenance"]


others: list[threading.Thread] = []


@pytest.fixture(autouse=True)
def _others_are_not_ours():
    others[:] = ticking()  # of logs that other tests of this process have not closed


def alive() -> list[threading.Thread]:
    return [thread for thread in ticking() if thread not in others]


def wait_until(reached) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_no_thread_runs_before_the_start_and_none_after_the_end():
    owner = Owner()
    assert alive() == []
    owner.ticker.start()
    owner.ticker.start()
    assert len(alive()) == 1
    owner.ticker.close()
    assert alive() == []
    owner.ticker.start()
    assert alive() == []


def test_it_ticks_by_itself_and_at_once_when_asked():
    owner = Owner()
    owner.ticker.start()
    assert owner.ticked.wait(20)
    owner.ticker.ask()
    wait_until(lambda: True in owner.asked)
    assert owner.asked[0] is False
    owner.ticker.close()


def test_a_failure_is_logged_and_the_next_tick_comes(caplog):
    owner = Owner(act=lambda: 1 / 0)
    owner.ticker.start()
    owner.ticker.ask()
    wait_until(lambda: len(owner.asked) == 1)
    owner.ticker.ask()
    wait_until(lambda: len(owner.asked) == 2)
    owner.ticker.close()
    assert "ZeroDivisionError" in caplog.text


def test_the_thread_ends_when_its_owner_was_forgotten():
    owner = Owner()
    owner.ticker.start()
    owner.ticker.ask()
    assert owner.ticked.wait(20)
    del owner
    wait_until(lambda: alive() == [])


def test_closing_waits_for_the_tick_that_is_under_way():
    begun, ended = threading.Event(), []

    def act() -> None:
        begun.set()
        time.sleep(0.1)
        ended.append(True)

    owner = Owner(act)
    owner.ticker.start()
    owner.ticker.ask()
    assert begun.wait(20)
    owner.ticker.close()
    assert ended


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # threads and fork, which is the point
def test_a_forked_child_has_no_thread_until_it_starts_its_own():
    owner = Owner()
    owner.ticker.start()
    child = os.fork()
    if child == 0:
        owner.ticker.forked()
        good = not owner.ticker.started
        owner.ticker.start()
        good = good and owner.ticked.wait(20)
        owner.ticker.close()
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    owner.ticker.close()
