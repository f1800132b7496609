"""One process of the app's soak: `app_soak_worker.py ROLE NAME LOG ...`.

    work NAME LOG GUARANTEE        a member of the app's group, until SIGTERM
    finish NAME LOG GUARANTEE      one that ends when everything is processed
    heal NAME LOG GUARANTEE        the same, where every order can be charged
    feed NAME LOG SEED             writes events, at the pace of the clock, until it is killed

The app has what can go wrong when a process dies: state, windows that close, joins that wait, a
table with history, events that are handed over, calls that are waited for, that fail and are made
again, timers and ticks. Its memory is so small that state is on disk.
"""

import asyncio
import random
import sys
import time
from typing import Any

from msgspec import Struct

from streamkit import App, Context, Producer, State, Tick, Timer, dlq, retry, session, tumbling
from streamkit.backends.locate import open_backend
from streamkit.engine.live import run
from streamkit.engine.worker import Settings

MEMORY = 20_000
COMMIT = 0.25
"""Seconds: most who are killed have something that is not committed."""
EVENTS_A_SECOND = 150
GENERATION = 5
"""Seconds of event time for which the same users are there."""
BEHIND = 10
"""Seconds that events are behind the clock: what a table's row was at their time has to be there
when they are processed, even if a process was stopped between reading one and the other."""
USERS = 20
ITEMS = 12
LATE = 60_000
BUSY = 600
"""ms after an order has come for which it cannot be charged."""
REFUSED = 0.02
"""Orders that cannot be charged for good."""


class Order(Struct):
    id: str
    item: str
    at: int


class Visit(Struct):
    id: str
    at: int


class Numbered(Struct):
    id: str
    number: int


class Named(Struct):
    id: str
    name: str | None


class Met(Struct):
    order: str | None
    visit: str | None


def shop(*, healed: bool) -> App:
    app = App("shop")
    orders = app.stream("orders", Order, time="at", out_of_order="5s")
    visits = app.stream("visits", Visit, time="at", out_of_order="5s")
    names = app.table("names", str)

    @orders.process(to="numbered")
    def number(order: Order, seen: State[int]) -> Numbered:
        seen.set(seen.get(0) + 1)
        return Numbered(order.id, seen.get(0))

    @orders.join(names, how="left", history="1h", to="named")
    def named(order: Order, name: str | None) -> Named:
        return Named(order.id, name)

    @orders.join(visits, within="500ms", how="outer", grace="1s", to="met")
    def met(order: Order | None, visit: Visit | None) -> Met:
        return Met(order and order.id, visit and visit.id)

    visits.window(session("600ms", grace="1s")).collect(1 << 20, "id", to="stays", name="stays")
    items = orders.by("item")
    items.window(tumbling("2s", grace="1s")).collect(1 << 20, "id", to="sales", name="sales")

    @items.process(to="sold")
    def sell(order: Order, seen: State[int]) -> Numbered:
        seen.set(seen.get(0) + 1)
        return Numbered(order.id, seen.get(0))

    again = retry(4, backoff="100ms", pause="key", then=dlq("refused", mode="key"))

    @orders.process(to="charged", on_error=again)
    def charge(order: Order, seen: State[int]) -> Numbered:
        seen.set(seen.get(0) + 1)
        refused = order.id.endswith("!") and not healed
        if refused or now() < order.at + BEHIND * 1000 + BUSY:
            raise ConnectionError(f"{order.id} cannot be charged")
        return Numbered(order.id, seen.get(0))

    @visits.process(order="key", concurrency=16)
    async def ask(visit: Visit) -> Visit:
        await asyncio.sleep(random.random() / 20)
        return visit

    @ask.process(to="asked")
    def answered(visit: Visit, seen: State[int]) -> Numbered:
        seen.set(seen.get(0) + 1)
        return Numbered(visit.id, seen.get(0))

    @ask.process(batch=20, within="50ms", to="scored")
    def score(visits: list[Visit]) -> list[str]:
        return [visit.id for visit in visits]

    @ask.process
    def remind(visit: Visit, context: Context) -> None:
        context.timer(visit.id, after="3s")

    @remind.on_timer(to="reminded")
    def reminded(timer: Timer) -> str:
        return str(timer.name)

    @app.every("100ms", missed="all", to="beats")
    def beat(tick: Tick, seen: State[int]) -> int:
        seen.set(seen.get(0) + 1)
        return seen.get(0)

    return app


def work(log: str, guarantee: Any, role: str) -> None:
    with open_backend(log) as backend:
        settings = Settings(guarantee=guarantee, commit_interval=COMMIT, memory=MEMORY)
        topology = shop(healed=role == "heal").topology()
        run(topology, backend, settings=settings, until_end=role != "work")


class Feed:
    """Events of users that come and go. Their times are the clock's, some a bit or much earlier."""

    def __init__(self, name: str, log: str, seed: str) -> None:
        self.name = name
        self.dice = random.Random(seed)
        self.producer = Producer(log)
        self.count = 0

    def run(self) -> None:
        began = now()
        for at in range(began - BEHIND * 1000, began, 20):
            self.rename(at)
        self.producer.flush()
        while True:
            for _ in range(2):
                self.rename(now())
            for _ in range(EVENTS_A_SECOND // 25):
                self.event(may_be_late=now() - began > 2000)
            self.producer.flush()
            time.sleep(0.04)

    def user(self, at: int) -> str:
        return f"{self.name}-{at // 1000 // GENERATION}-{self.dice.randrange(USERS)}"

    def rename(self, at: int) -> None:
        """Give a user another name, or none any more. In order of time: a row that is ahead of the
        events would hold back those behind it."""
        user = self.user(at)
        name = None if self.dice.random() < 0.2 else f"{user} at {at}".encode()
        self.producer.send("names", name, key=user, timestamp=at)

    def event(self, *, may_be_late: bool) -> None:
        self.count += 1
        at = now() - BEHIND * 1000 - self.dice.randrange(1000)
        name, user = f"{self.name}:{self.count}", self.user(at)
        if may_be_late and self.dice.random() < 0.02:
            at -= LATE
        if self.dice.random() < 0.6:
            item = f"item{self.dice.randrange(ITEMS)}"
            if self.dice.random() < REFUSED:
                name += "!"
            self.producer.send("orders", Order(name, item, at), key=user)
        else:
            self.producer.send("visits", Visit(name, at), key=user)


def now() -> int:
    return round(time.time() * 1000)


if __name__ == "__main__":
    role, name, log, *more = sys.argv[1:]
    if role == "feed":
        Feed(name, log, more[0]).run()
    else:
        work(log, more[0], role)
