"""The whole pipeline on 336,776 real flights: import, process, export, replay. Run by `make demo`.

Two processes share one log directory: `streamkit connect` (sources and sinks) and `streamkit run`
(the app). This one drops the input files, watches the log, and shows what came out. Stop it at any
moment; the next start goes on where it stopped.
"""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))
import data

from streamkit import Admin, Consumer, UnknownTopic

HERE = Path(__file__).parent
HOME = Path(os.environ.get("FLIGHTS_DATA", "demo-data")).resolve()
LOG = HOME / "log"
FLIGHTS = 336_776
ENVIRONMENT = os.environ | {"FLIGHTS_DATA": str(HOME), "STREAMKIT_LOG": str(LOG)}
STREAMKIT = [sys.executable, "-m", "streamkit"]
PAGES = (
    ("weather.py", "arrivals", "and the weather they left in"),
    ("days.py", "flying-days", "what each aircraft flew"),
    ("turns.py", "turns", "when each aircraft left again"),
)

out = Console(highlight=False, soft_wrap=True)

asked_to_stop: list[int] = []


def nap(seconds: float) -> None:
    """Sleep a moment, and raise KeyboardInterrupt if somebody has asked to stop by then.

    Here and nowhere else. A handler that raises does so between any two steps, such as those in
    which `Popen.poll` takes its lock; and then nobody would ever hear of that process's end.
    """
    time.sleep(seconds)
    if asked_to_stop:
        raise KeyboardInterrupt


@contextlib.contextmanager
def running(name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A streamkit command in the background, its messages in a file, stopped at the end."""
    with open(HOME / f"{name}.out", "ab") as messages:
        process = subprocess.Popen(
            [*STREAMKIT, *arguments],
            env=ENVIRONMENT,
            stdout=messages,
            stderr=messages,
            start_new_session=True,  # Ctrl-C reaches this process only, which then stops the others
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)


def must_live(*processes: subprocess.Popen[bytes]) -> None:
    """Stop with the command's own last words when one of them ended by itself."""
    for process in processes:
        if process.poll() is not None:
            assert isinstance(process.args, list)
            name = str(process.args[len(STREAMKIT)])
            file = HOME / ("connect.out" if name == "connect" else "app.out")
            raise SystemExit(
                f"streamkit {name} ended with exit code {process.returncode}:\n"
                + "\n".join(file.read_text().splitlines()[-15:])
            )


class Watch:
    """How far each part of the pipeline is, read from the log alone."""

    def __init__(self, admin: Admin) -> None:
        self.admin = admin
        self._readers: dict[str, Consumer[bytes | None]] = {}
        self._counts: dict[str, int] = {}

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()

    def records(self, topic: str) -> int:
        """How many there are by now. They are read: among offsets are also ends of transactions."""
        if topic not in self._readers:
            try:
                self._readers[topic] = Consumer(str(LOG), topic)
            except UnknownTopic:
                return 0
        while some := self._readers[topic].poll(max_records=10_000):
            self._counts[topic] = self._counts.get(topic, 0) + len(some)
        return self._counts.get(topic, 0)

    def lag(self, group: str, topic: str = "") -> int | None:
        """Records the group still has to read (of one topic); None before its first commit."""
        lags = [n for tp, n in self.admin.lag(group).items() if topic in ("", tp.topic)]
        return sum(lags) if lags else None


def wait_for_tables(
    watch: Watch, counts: dict[str, int], *processes: "subprocess.Popen[bytes]"
) -> None:
    """Tables first: a join can only find what has been imported."""
    topics = ("airlines", "airports", "planes")
    while any(watch.records(topic) < counts[topic] for topic in topics):
        must_live(*processes)
        nap(0.02)


@dataclass
class Rates:
    """What this run did: flights it had still to do, and seconds until stages were through."""

    imported: int
    import_seconds: float
    processed: int
    seconds: float

    def show(self) -> None:
        if not self.processed:
            out.print("Everything was there from the run before; `make clean` begins anew.")
            return
        if self.imported:
            rate = self.imported / self.import_seconds
            out.print(f"Import:   {self.imported:,} rows of CSV at {rate:,.0f} rows/s")
        rate = self.processed / self.seconds
        out.print(f"Pipeline: {self.processed:,} flights from file to results at {rate:,.0f}/s")


def pipeline(watch: Watch, progress: Progress, counts: dict[str, int]) -> Rates:
    """Run until every flight is through."""
    with running("connect", "connect", str(HERE / "worker.toml")) as connect:
        bars: dict[str, TaskID] = {
            "tables": progress.add_task("import  tables, weather", total=sum(counts.values())),
            "flights": progress.add_task("import  flights (12 files)", total=FLIGHTS),
            "app": progress.add_task("process filter, join, window, alert", total=FLIGHTS),
            "hourly": progress.add_task("export  hourly statistics"),
            "alerts": progress.add_task("export  alerts"),
        }
        wait_for_tables(watch, counts, connect)
        with running("app", "run", str(HERE / "app.py")) as app:
            rates = Rates(FLIGHTS - watch.records("flights"), 0.0, -1, 0.0)
            started = time.monotonic()
            files = data.drop_flights(HOME / "drop")
            while True:
                must_live(connect, app)
                next(files, None)
                imported = watch.records("flights")
                lags = {
                    "app": watch.lag("flights"),
                    "hourly": watch.lag("connect-hourly"),
                    "alerts": watch.lag("connect-alerts"),
                }
                progress.update(bars["flights"], completed=imported)
                if imported >= FLIGHTS and not rates.import_seconds:
                    rates.import_seconds = time.monotonic() - started
                if rates.processed < 0:
                    unread = watch.lag("flights", "flights")
                    rates.processed = FLIGHTS - imported + (imported if unread is None else unread)
                tables = sum(watch.records(topic) for topic in counts)
                progress.update(bars["tables"], completed=min(tables, sum(counts.values())))
                if lags["app"] is not None:
                    progress.update(bars["app"], completed=max(0, imported - lags["app"]))
                for topic in ("hourly", "alerts"):
                    if (lag := lags[topic]) is not None:
                        total = watch.records(topic)
                        progress.update(
                            bars[topic], total=total or None, completed=max(0, total - lag)
                        )
                done = imported >= FLIGHTS and tables >= sum(counts.values())
                # The sinks are asked after the app: what it wrote last is in their lag.
                if done and all(lag == 0 for lag in lags.values()):
                    rates.seconds = time.monotonic() - started
                    return rates
                nap(0.05)


def replay() -> dict[str, int]:
    """January again with another threshold, beside the published alerts."""
    january = ["--from", "2013-01-01", "--to", "2013-02-01"]
    session = ["--name", "one-hour", "--diff", "alerts", "--json"]
    process = subprocess.Popen(
        [*STREAMKIT, "replay", str(HERE / "app.py"), *january, *session],
        env=ENVIRONMENT | {"ALERT_MINUTES": "60"},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                output, _ = process.communicate(timeout=0.05)
                break
            nap(0)
    finally:
        stop(process)
    if process.returncode not in (0, 1):  # 1: they differ, as they should
        raise SystemExit("streamkit replay failed; its message is above")
    answer: dict[str, int] = json.loads(output)["diff"]["alerts"]
    return answer


def show(rates: Rates, diff: dict[str, int]) -> None:
    """The result a person likes to read."""
    with contextlib.closing(sqlite3.connect(HOME / "results.db")) as db:
        rows = db.execute(
            "SELECT origin, sum(departures), 1.0 * sum(total_delay) / sum(departures),"
            " max(max_delay), count(*) FROM hourly GROUP BY origin ORDER BY 3 DESC"
        ).fetchall()
        worst = db.execute(
            "SELECT origin, substr(hour, 1, 13) || ':00', departures, mean_delay FROM hourly"
            " WHERE departures >= 10 ORDER BY mean_delay DESC LIMIT 3"
        ).fetchall()
    alerts = [
        json.loads(line)
        for file in (HOME / "alerts").glob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    table = Table(title="Departures from New York, 2013")
    table.add_column("airport")
    for heading in ("departures", "mean delay", "longest delay", "hours", "alerts over 2 h"):
        table.add_column(heading, justify="right")
    for origin, departures, mean, longest, hours in rows:
        table.add_row(
            origin,
            f"{departures:,}",
            f"{mean:.1f} min",
            f"{longest / 60:.1f} h",
            f"{hours:,}",
            f"{sum(alert['origin'] == origin for alert in alerts):,}",
        )
    out.print()
    out.print(table)
    out.print("The worst hours:")
    for origin, hour, departures, mean in worst:
        out.print(f"  {origin} {hour}Z  {departures} left, {mean:.0f} minutes late on average")
    out.print("\nJanuary replayed with alerts over 1 h instead of 2:")
    out.print(
        f"  {diff['only_in_replay']:,} more alerts, {diff['only_in_published']:,} fewer,"
        f" {diff['changed']:,} changed, {diff['same']:,} the same\n"
    )
    rates.show()
    log = os.path.relpath(LOG)
    command = os.path.relpath(Path(sys.executable).parent / "streamkit")
    out.print("\nTry next:")
    out.print(f"  {command} --log {log} topics list")
    out.print(f"  {command} --log {log} consume alerts -n 3")
    out.print(f"  {command} --log {log} groups describe flights")
    out.print("\nMore to ask of these flights, in some 20 seconds each:")
    for page, topic, about in PAGES:
        out.print(f"  {os.path.relpath(HERE / page)} writes {topic}: {about}")
    page, topic, _ = PAGES[-1]
    out.print(f"  {command} --log {log} run {os.path.relpath(HERE / page)} --until-end")
    out.print(f"  {command} --log {log} consume {topic} -n 3")


def main() -> None:
    (HOME / "drop").mkdir(parents=True, exist_ok=True)
    database = HOME / "flights.db"
    if not database.exists():
        data.make_database(database)
    with contextlib.closing(sqlite3.connect(database)) as db:
        counts = {t: db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in data.TABLES}
    columns = (TextColumn("{task.description:36}"), BarColumn(), MofNCompleteColumn())
    with (
        Admin(str(LOG)) as admin,
        contextlib.closing(Watch(admin)) as watch,
        Progress(*columns, console=out) as progress,
    ):
        rates = pipeline(watch, progress, counts)
    show(rates, replay())


if __name__ == "__main__":
    for closing in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # HUP: the terminal was closed
        signal.signal(closing, lambda number, frame: asked_to_stop.append(number))
    try:
        main()
    except KeyboardInterrupt:
        out.print("\nStopped. Run it again to go on from here.")
        sys.exit(130)
