"""Results of windows in tables: of an app's own sink, and of a worker's."""

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import Struct

from streamkit.app import App
from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.connect.worker import run as run_worker
from streamkit.connectors.sql import open_engine
from streamkit.dsl.windows import session
from streamkit.engine.live import run
from streamkit.records import TopicPartition

GAP = 10


class Visit(Struct):
    user: str
    time: int


def app_for(url: str) -> App:
    app = App("shop")
    visits = app.stream("visits", Visit, time="time", out_of_order="1h").by("user")
    counts = visits.window(session(f"{GAP}ms")).count(emit="update", to="counts", name="counted")
    counts.sink("SqlSink", connection_url=url, pk_mode="window", pk_fields=["user"])
    return app


def sessions(visits: list[Visit]) -> set[tuple[str, int, int, int]]:
    found = []
    for visit in sorted(visits, key=lambda visit: (visit.user, visit.time)):
        if found and found[-1][0] == visit.user and visit.time < found[-1][2]:
            found[-1][2:] = [visit.time + GAP, found[-1][3] + 1]
        else:
            found.append([visit.user, visit.time, visit.time + GAP, 1])
    return {(user, start, end, count) for user, start, end, count in found}


def table(url: str, name: str) -> list[tuple[str, int, int, int]]:
    engine = open_engine(url, create=False)
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            f'SELECT "user", window_start, window_end, value FROM {name}'
        ).all()
    engine.dispose()
    return [(user, _ms(start), _ms(end), count) for user, start, end, count in rows]


def _ms(at: str | datetime) -> int:
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)


def send(log: Backend, visits: list[Visit]) -> None:
    for number, visit in enumerate(visits):
        value = b'{"user":"%s","time":%d}' % (visit.user.encode(), visit.time)
        log.append(TopicPartition("visits", number % 2), [value])


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_table_has_the_sessions_that_there_are_also_those_that_have_become_one(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/out.db"
    if database == "postgres":
        url = request.getfixturevalue("postgres")
    dice = random.Random(7)
    visits = [Visit(f"u{n % 3}", dice.randrange(400)) for n in range(120)]
    worker = tmp_path / "w.toml"
    worker.write_text(
        "[connectors.s]\n'connector.class' = 'SqlSink'\n'pk.mode' = 'window'\n"
        f"'connection.url' = '{url}'\ntopics = ['counts']\n'pk.fields' = ['user']\n"
        "'table.name.format' = 'again'\n"
    )
    with open_backend(str(tmp_path / "log")) as log:
        log.create_topic("visits", 2)
        for first in (0, 60):
            send(log, visits[first : first + 60])
            app = app_for(url)
            run(app.topology(), log, until_end=True, companions=app.connectors())
            found = sorted(table(url, "counts"))
            assert found == sorted(sessions(visits[: first + 60]))
        run_worker(worker, log, until_idle=True)
        assert sorted(table(url, "again")) == found
