"""What lies unread for tasks that hand over: to look for it costs little, and nothing but records
that are still to be processed keeps those behind them from being idle."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from msgspec import Struct

from streamkit import App, Producer, State, tumbling
from streamkit.records import TopicPartition
from streamkit.testing import TestRun


class Sale(Struct):
    user: str
    shop: str
    time: int


class Abandoned(Exception):
    pass


def _chain() -> App:
    """Two changes of key, with state between."""
    app = App("chain")

    @app.stream("sales", Sale, time="time").by("user").process(name="seen")
    def seen(sale: Sale, count: State[int]) -> Sale:
        count.set(count.get(0) + 1)
        return sale

    seen.by("shop").window(tumbling("10ms"), close_after_idle="7s").count(to="out", name="sold")
    return app


def _send(t: TestRun, times: range, partition: int) -> None:
    for time in times:
        t.send("sales", Sale(f"u{time % 7}", f"s{time % 5}", time), partition=partition)


def test_how_often_the_log_is_asked_at_rest_grows_as_the_number_of_tasks() -> None:
    asked = {}
    for partitions in (4, 12):
        with _chain().test(partitions=partitions) as t:
            for partition in range(partitions):
                _send(t, range(8), partition)
            t.advance("30s")
            idle = [task.counting.idle(each) for task in t.tasks for each in task.inputs]
            assert sum(map(len, idle)) == 2 * partitions**2
            asked[partitions] = _counted(t._backend, "offsets", "committed")
            for _ in range(3):
                t.step()
    assert asked[12]["committed"] == 0
    assert asked[12]["offsets"] == 3 * asked[4]["offsets"] > 0


def _counted(backend: Any, *names: str) -> Counter[str]:
    calls: Counter[str] = Counter()

    def count(name: str, call: Callable[..., Any]) -> None:
        def counted(*args: Any) -> Any:
            calls[name] += 1
            return call(*args)

        setattr(backend, name, counted)

    for name in names:
        count(name, getattr(backend, name))
    return calls


def _nothing(t: TestRun) -> None:
    pass


def _aborted(t: TestRun) -> None:
    for partition in (0, 1):
        with (
            suppress(Abandoned),
            Producer(t._backend, transactional_id="gaps") as producer,
            producer.transaction() as transaction,
        ):
            transaction.send("sales", b"never read", partition=partition)
            producer.flush()
            raise Abandoned


def _trimmed(t: TestRun) -> None:
    t.run()
    for partition in (0, 1):
        at = TopicPartition("sales", partition)
        t._backend.delete_records(at, t._backend.offsets(at).end)
    t.crash()


@pytest.mark.parametrize("ends", [_nothing, _aborted, _trimmed])
@pytest.mark.parametrize("begins", [_nothing, _aborted])
def test_what_holds_no_record_does_not_count_as_unread(
    begins: Callable[[TestRun], None], ends: Callable[[TestRun], None]
) -> None:
    with _chain().test(partitions=3, members=2) as t:
        begins(t)
        for times in (range(20), range(100, 120)):
            _send(t, times, 0)
            ends(t)
            t.advance("30s")
        assert len(t.topic("out")) == 20
        assert t.topic("chain-sold-late") == []
