from dataclasses import dataclass

import pytest

from streamkit.connect import Pause, SourceContext, SourceRecord, sink, source
from streamkit.connect.testing import opened, read, records
from streamkit.errors import UsageError


@dataclass(frozen=True, slots=True)
class Options:
    limit: int


def test_a_declared_source_can_still_be_called() -> None:
    @source(config=Options)
    def numbers(config, ctx):
        for n in range(config.limit):
            yield SourceRecord("t", n)

    ctx = SourceContext("x", list, lambda place: None)
    assert [item.value for item in numbers(Options(2), ctx)] == [0, 1]
    assert read(numbers, Options(2)).ended


def test_a_plain_function_is_a_sink() -> None:
    seen = []

    @sink(config=Options)
    def remember(config, batch):
        seen.extend(record.value for record in batch[: config.limit])

    with opened(remember, Options(1)) as writer:
        writer.write(records([b"a", b"b"]))
    assert seen == [b"a"]


def test_a_config_that_is_no_dataclass_is_refused() -> None:
    with pytest.raises(UsageError, match="dataclass"):
        source(config=dict)


def test_waking_ends_a_pause_once() -> None:
    ctx = SourceContext("x", list, lambda place: None)
    ctx.wake()
    assert ctx.wait(60)
    assert not ctx.wait(0)


def test_a_source_that_never_comes_to_rest_is_noticed() -> None:
    @source(config=Options)
    def restless(config, ctx):
        while True:
            yield Pause(0, idle=False)

    with pytest.raises(AssertionError, match="without end"):
        read(restless, Options(1))
