"""`streamkit dlq`: list, show, retry and discard what apps have set aside."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamkit.cli.output import iso, note, print_json, print_table, text_of
from streamkit.cli.settings import open_log
from streamkit.errors import ConfigError, UsageError, counted

if TYPE_CHECKING:
    from streamkit.engine.dead_letters import Choice, Dead, DeadLetters, Done

app = typer.Typer(
    no_args_is_help=True,
    help="List, show, retry and discard the events that steps of apps have set aside.",
)

Name = Annotated[
    str, typer.Argument(metavar="APP|TOPIC", help="An app, or a topic of such events.")
]
Step = Annotated[str | None, typer.Option("--step", "-s", help="Only those of this step.")]
Key = Annotated[str | None, typer.Option("--key", "-k", help="Only those of this key.")]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Only events since then: 2026-01-31T12:00, -1h."),
]
At = Annotated[
    list[str] | None,
    typer.Option(
        "--at", metavar="PARTITION:OFFSET", help="Only the record there. May be given repeatedly."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.command("list")
def list_(
    context: typer.Context,
    name: Name,
    step: Step = None,
    key: Key = None,
    since: Since = None,
    json: Json = False,
) -> None:
    """List what waits, by topic and step: how many events of what times, and what was wrong.

    Those that only follow one of their key that failed are counted as `(behind it)`.
    """
    choice = _choice(step, key, since, None)
    with open_log(context, read_only=True) as log:
        letters = _letters(log, name)
        letters.check(choice)
        found = letters.summaries(choice)
    if json:
        print_json(
            [
                {
                    "topic": each.topic,
                    "connector" if each.connector else "app": each.app,
                    "step": each.step,
                    "waiting": each.waiting,
                    "retried": each.retried,
                    "discarded": each.discarded,
                    "first": each.first,
                    "last": each.last,
                    "errors": {error or "(behind it)": n for error, n in each.errors.items()},
                }
                for each in found
            ]
        )
        return
    columns = ["topic", "app", "step", "waiting", "retried", "given up", "first", "last", "errors"]
    print_table(
        None,
        columns,
        [
            (
                each.topic,
                each.app,
                each.step,
                each.waiting,
                each.retried,
                each.discarded,
                None if each.first is None else iso(each.first),
                None if each.last is None else iso(each.last),
                ", ".join(
                    f"{error.rpartition('.')[2] or '(behind it)'} {count:,}"
                    for error, count in each.errors.most_common(5)
                ),
            )
            for each in found
        ],
    )


@app.command()
def show(
    context: typer.Context,
    name: Name,
    step: Step = None,
    key: Key = None,
    since: Since = None,
    at: At = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="So many, at most.")] = 1,
    json: Json = False,
) -> None:
    """Show events in full: what the step was given, of which record it was made, what was wrong.

    The first that wait, of those that are chosen; with --at those that do not wait any more, too.
    """
    choice = _choice(step, key, since, at)
    with open_log(context, read_only=True) as log:
        letters = _letters(log, name)
        letters.check(choice)
        found = letters.all(choice) if at else letters.waiting(choice)
        shown = [(dead, letters.done(dead)) for dead in islice(found, count)]
    if not shown:
        note("nothing is there")
    for dead, done in shown:
        if json:
            print_json(_fields(dead, done))
        else:
            print("\n".join(_lines(dead, done)), end="\n\n" if len(shown) > 1 else "\n")


@app.command()
def retry(
    context: typer.Context,
    name: Name,
    step: Step = None,
    key: Key = None,
    since: Since = None,
    at: At = None,
    json: Json = False,
) -> None:
    """Give events back to the steps that set them aside, each once.

    The app processes them when it runs: past the steps before, as of the records that they were
    made of. One that fails again is set aside again. By key they are processed in their order,
    whatever that in which they come back.
    """
    _give_back(context, name, _choice(step, key, since, at), discard=False, json=json)


@app.command()
def discard(
    context: typer.Context,
    name: Name,
    step: Step = None,
    key: Key = None,
    since: Since = None,
    at: At = None,
    all_: Annotated[bool, typer.Option("--all", help="Give all up.")] = False,
    json: Json = False,
) -> None:
    """Give events up: they are not retried any more, and what follows them by key may be.

    They stay in the topic, to be shown with --at.
    """
    choice = _choice(step, key, since, at)
    if not all_ and not any((step, key is not None, since, at)):
        raise ConfigError("say which: --step, --key, --since or --at; or --all of them")
    _give_back(context, name, choice, discard=True, json=json)


def _give_back(
    context: typer.Context, name: str, choice: "Choice", *, discard: bool, json: bool
) -> None:
    with open_log(context) as log:
        letters = _letters(log, name)
        counts = letters.give_back(choice, discard=discard)
    if json:
        print_json(
            [{"app": app, "step": step, "count": n} for (app, step), n in sorted(counts.items())]
        )
        return
    if not counts:
        note("nothing waits" if choice.step is None else f"nothing waits of {choice.step}")
    for (app, step), number in sorted(counts.items()):
        events = counted(number, "event")
        if discard:
            print(f"{events} of {step}: given up")
        else:
            print(f"{events} of {step}: app {app} processes what is given back when it runs")


def _letters(log: Any, name: str) -> "DeadLetters":
    from streamkit.engine.dead_letters import DeadLetters

    return DeadLetters.of(log, name)


def _choice(step: str | None, key: str | None, since: str | None, at: list[str] | None) -> "Choice":
    from streamkit.clock import SystemClock
    from streamkit.engine.dead_letters import Choice
    from streamkit.replay.times import parse_time

    start: int | None = None
    if since is not None:
        point = parse_time(since, SystemClock().now(), key="--since")
        if point == "latest":
            raise ConfigError("--since latest: there is nothing after the latest record")
        start = None if point == "earliest" else int(point)
    places = frozenset(_place(text) for text in at or ())
    return Choice(step, None if key is None else key.encode(), start, places)


def _place(text: str) -> tuple[int, int]:
    partition, _, offset = text.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise UsageError(f"--at {text!r}: write PARTITION:OFFSET, as `dlq show` names it: 0:17")
    return int(partition), int(offset)


def _fields(dead: "Dead", done: "Done | None") -> dict[str, object]:
    letter = dead.letter
    return {
        "topic": dead.at.topic,
        "partition": dead.at.partition,
        "offset": dead.offset,
        "retried": done == "retried",
        "discarded": done == "discarded",
        "connector" if letter.connector else "app": letter.app,
        "step": letter.step,
        "task": letter.task,
        "source": {
            "topic": letter.topic,
            "partition": letter.partition,
            "offset": letter.offset,
        }
        if letter.topic
        else None,
        "timestamp": dead.timestamp,
        "key": text_of(dead.key),
        "value": text_of(dead.value),
        "headers": [(name, text_of(data)) for name, data in letter.headers],
        "attempts": max(letter.attempts, 0),
        "error": letter.error,
        "message": letter.message,
        "trace": letter.trace,
        "behind": None if letter.behind is None else letter.behind.first,
        "sequence": None if letter.behind is None else letter.behind.sequence,
    }


def _lines(dead: "Dead", done: "Done | None") -> Iterator[str]:
    letter = dead.letter
    told = {None: "", "retried": ", retried", "discarded": ", given up"}[done]
    yield f"{dead.at.topic} {dead.at.partition}:{dead.offset}{told}"
    whose = "connector" if letter.connector else "app"
    rows = [
        (whose, f"{letter.app}, step {letter.step}, task {letter.task}"),
        ("record", f"{letter.source}, {iso(dead.timestamp)}"),
        ("key", text_of(dead.key)),
        ("value", text_of(dead.value)),
        *((f"header {name}", text_of(data)) for name, data in letter.headers),
    ]
    if letter.attempts >= 0:
        rows.append(("attempts", str(letter.attempts)))
    if letter.behind is not None and letter.behind.sequence > 0:
        rows.append(("behind", f"{letter.behind.first}, as number {letter.behind.sequence}"))
    if letter.error:
        rows.append(("error", f"{letter.error}: {letter.message}"))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        yield f"  {name:<{width}}  {'null' if text is None else text}"
    yield from letter.trace.splitlines()
