"""Events are paired, cut-off histories are understood, and wrong ones named by their line."""

from math import inf

import pytest

from streamkit.errors import DataError
from streamkit.history.operations import (
    Assign,
    Commit,
    Poll,
    Scan,
    Seek,
    Send,
    operations,
    read_events,
)

SEND = b'{"process":"w","type":"invoke","time":10,"steps":[["send","p","a"]]}\n'
BEGIN = b'{"process":"w","type":"invoke","time":10,"txn":true}\n'
ASK = b'{"process":"w","type":"committing","time":20,"steps":[["send","p","a",4]]}\n'


def one(*lines: bytes):
    (operation,) = operations(read_events(lines))
    return operation


def test_an_operation_is_what_began_and_how_it_ended():
    ok = one(SEND, b'{"process":"w","type":"ok","time":12,"steps":[["send","p","a",7]]}\n')
    assert (ok.outcome, ok.begun, ok.asked, ok.ended) == ("ok", 10, 10, 12)
    assert ok.steps == [Send("p", "a", 7)]
    failed = one(SEND, b'{"process":"w","type":"fail","time":12}\n')
    assert (failed.outcome, failed.steps) == ("fail", [Send("p", "a")])


def test_what_has_no_end_may_have_happened():
    assert (one(SEND).outcome, one(SEND).ended) == ("info", inf)
    assert one(SEND, b'{"process":"w","type":"info","time":12}\n').ended == inf


def test_a_transaction_happened_only_if_its_commit_was_asked_for():
    assert one(BEGIN).outcome == "fail"
    asked = one(BEGIN, ASK)
    assert (asked.outcome, asked.asked, asked.ended) == ("info", 20, inf)
    assert asked.steps == [Send("p", "a", 4)]
    ok = one(BEGIN, ASK, b'{"process":"w","type":"ok","time":31}\n')
    assert (ok.outcome, ok.begun, ok.asked, ok.ended) == ("ok", 10, 20, 31)
    assert one(BEGIN, b'{"process":"w","type":"fail","time":31}\n').outcome == "fail"


def test_every_step_is_read():
    steps = (
        b'["send","p",1,2,"k",true],["poll","p",[[3,"x"],[4,5]]],["scan","p",0,9,[]],'
        b'["assign",["p","q"],"g"],["seek","p",8],["commit","g","p",6]'
    )
    read = one(b'{"process":"w","type":"invoke","time":1,"steps":[' + steps + b"]}\n")
    assert read.steps == [
        Send("p", 1, 2, "k", True),
        Poll("p", [(3, "x"), (4, 5)]),
        Scan("p", 0, 9, []),
        Assign(["p", "q"], "g"),
        Seek("p", 8),
        Commit("g", "p", 6),
    ]
    assert str(read).startswith("w:1 info [0.000000 to ? s] send 1 to p@2, poll p: 2 records")


def test_processes_are_paired_each_by_itself():
    other = SEND.replace(b'"w"', b'"v"').replace(b'"a"', b'"b"')
    ended = b'{"process":"%s","type":"ok","time":20}\n'
    done = operations(read_events([SEND, other, ended % b"v", ended % b"w"]))
    assert [(operation.process, operation.steps[0].value) for operation in done] == [
        ("v", "b"),
        ("w", "a"),
    ]


def test_a_last_line_that_a_kill_cut_is_passed_over():
    assert list(read_events([SEND[:-1]])) == []
    assert len(list(read_events([SEND, SEND[:20]]))) == 1


@pytest.mark.parametrize(
    "line",
    [b"nonsense\n", b'{"process":"w"}\n', SEND.replace(b"send", b"sent")],
)
def test_what_is_no_event_is_named(line: bytes):
    with pytest.raises(DataError, match="file:2: not an event"):
        list(read_events([SEND, line], "file"))


def test_a_process_does_one_thing_at_a_time():
    with pytest.raises(DataError, match="w: event 2 begins something before"):
        operations(read_events([SEND, SEND]))
    with pytest.raises(DataError, match=r"w: event 1 \(ok\) ends nothing"):
        operations(read_events([b'{"process":"w","type":"ok","time":12}\n']))
