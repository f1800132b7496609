"""What came back live moves nothing of what waits at steps behind, in a replay."""

import asyncio
from threading import Event as Flag
from typing import Any

import pytest

from streamkit import App, Context, Timer
from streamkit.dsl.stream import Stream
from streamkit.replay.begin import begin
from streamkit.replay.run import run


def in_order(numbers: Stream[int], gate: asyncio.Event) -> Stream[Any]:
    @numbers.process(order="partition", concurrency=9)
    async def waited(number: int) -> int:
        await gate.wait()
        return number

    return waited


def in_batches(numbers: Stream[int], gate: asyncio.Event) -> Stream[Any]:
    @numbers.process(batch=2, within="1s")
    def batches(numbers: list[int]) -> list[list[int]]:
        return [numbers]

    return batches


def in_turn(numbers: Stream[int], gate: asyncio.Event) -> Stream[Any]:
    @in_order(numbers, gate).process
    def timed(number: int, context: Context) -> int:
        context.timer(after="1ms")
        return number

    @timed.on_timer
    def rings(timer: Timer) -> None: ...

    return in_batches(timed, gate)


def in_both(numbers: Stream[int], gate: asyncio.Event) -> Stream[Any]:
    return in_batches(in_order(numbers, gate), gate)


@pytest.mark.parametrize("crashes", [False, True])
@pytest.mark.parametrize("behind", [in_order, in_batches, in_both, in_turn])
def test_what_came_back_live_leaves_steps_behind_without_the_others(
    behind: Any, crashes: bool
) -> None:
    app, failing, gate = App("shop"), {1, 3}, asyncio.Event()
    numbers = app.stream("numbers", int, out_of_order="3ms")

    @numbers.process(on_error="dlq")
    def listed(number: int) -> int:
        if number in failing:
            raise ValueError(f"{number} will not do")
        return number

    behind(listed, gate).map(str, name="text").to("out")
    # Into the same topic: of when anything leaves the other step its order tells.
    numbers.map(lambda number: str(-number), name="plain").to("out")

    def send(*some: int) -> None:
        for number in some:
            live.send("numbers", number, key="a", timestamp=number)

    with app.test(1) as live:
        gate.set()
        send(0, 1, 2, 3)
        live.run()
        gate.clear()
        send(4)
        live.step()
        failing.clear()
        live.retry()
        live.step()
        live.step()
        if crashes:
            live.commit()
            live.crash()
        gate.set()
        live.advance("500ms")
        send(5, 6, 7)
        live.advance("2s")
        send(8)
        live.advance("12s")
        failing |= {1, 3}
        log, topology = live._backend, app.topology()
        session = begin(topology, log, name="r", from_text="earliest", to_text="latest", now=10**15)
        assert run(topology, log, session, stop=Flag()).finished
        again = [value.decode() for value in live.values(session.shadow("out"))]
        out = live.values("out")
        assert any("1" in text for text in out)
        assert again == [text for text in out if text not in ("1", "3", "[1, 3]", "[1]", "[3]")]
