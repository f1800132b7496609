"""`streamkit fsck`: is everything in the log as it should be, and if not, what can be done."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from streamkit.cli.output import is_terminal, note, print_json, print_table
from streamkit.cli.settings import settings_of
from streamkit.errors import counted

if TYPE_CHECKING:
    from streamkit.fsck.check import Progress, Report


def fsck(
    context: typer.Context,
    path: Annotated[
        str | None,
        typer.Argument(metavar="LOG", help="The log's directory, if it is not that of --log."),
    ] = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(
            "--topic", "-t", metavar="TOPIC", help="Only this topic's partitions. Repeatable."
        ),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Set right what can be. Nobody else may have the log open then."
        ),
    ] = False,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="DIR", help="Leave the log alone: repair a copy, made here."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Look at every byte of the log, and say what is wrong, what is lost, what a repair would do.

    Changes nothing without --repair, and may run beside those who use the log. Exit codes: 0 all
    is well (there may be notes), 1 something is wrong, or was and had to be repaired, 2 a wrong
    call.
    """
    from streamkit.backends.locate import directory_of
    from streamkit.clock import SystemClock
    from streamkit.fsck.check import check

    if to is not None and not repair:
        raise typer.BadParameter("--to: only with --repair; a check needs no copy")
    if topic and repair:
        raise typer.BadParameter("--topic: not with --repair, which needs to know the whole log")
    root = str(directory_of(path or settings_of(context).url))
    now = SystemClock().now()
    began = monotonic()
    with _quiet(), _progress(json) as progress:
        report = check(root, topics=topic or (), now=now, progress=progress)
    seconds = max(monotonic() - began, 1e-3)
    if not json:
        _print(report)
        note(
            f"{counted(len(report.partitions), 'partition')}, {report.batches:,} batches,"
            f" {report.bytes / 1e6:,.1f} MB in {seconds:.1f} s"
            f" ({report.bytes / 1e6 / seconds:,.0f} MB/s): {_verdict(report)}"
        )
    done: list[str] = []
    after = report
    if repair and (to is not None or report.findings):
        from streamkit.fsck.repair import copy_log
        from streamkit.fsck.repair import repair as repair_log

        if to is not None:
            copy_log(root, to)
        with _quiet():
            done = repair_log(to or root, now=now)
            after = check(to or root, now=now)
        if not json:
            for line in done:
                note(line)
            note(f"after the repair: {_verdict(after)}")
            _print(after)
    if json:
        print_json(
            {
                "log": report.path,
                "clean": report.clean,
                "partitions": len(report.partitions),
                "batches": report.batches,
                "bytes": report.bytes,
                "seconds": round(seconds, 3),
                "findings": [finding.as_json() for finding in report.findings],
                "repaired": done,
                "left": [finding.as_json() for finding in after.findings] if repair else [],
            }
        )
    if not report.clean:
        raise typer.Exit(1)


def _verdict(report: "Report") -> str:
    counts = {
        severity: sum(finding.severity == severity for finding in report.findings)
        for severity in ("error", "warning", "note")
    }
    said = [f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items() if count]
    return ", ".join(said) or "all is well"


def _print(report: "Report") -> None:
    if not report.findings:
        return
    print_table(
        None,
        ["", "where", "what", "lost", "repair"],
        [
            (
                finding.severity,
                finding.where,
                finding.problem,
                f"{finding.lost.count:,} offsets ({finding.lost.first}-{finding.lost.last})"
                if finding.lost is not None
                else None,
                finding.repair or None,
            )
            for finding in report.findings
        ],
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """What a log says about its damage when it is opened, the report says in full."""
    logger = logging.getLogger("streamkit.log")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _progress(quiet: bool) -> "Iterator[Progress]":
    """A bar for people, in megabytes."""
    if quiet or not is_terminal():
        yield lambda done, total: None
        return
    from streamkit.cli.progress import bar

    with bar("MB") as update:
        yield lambda done, total: update(done >> 20, total >> 20)
