"""The root of the command line: global options, exit codes, and how errors are shown."""

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from streamkit._version import __version__
from streamkit.cli import (
    INTERRUPTED,
    connect,
    consume,
    dlq,
    end_at_once,
    fsck,
    graph,
    groups,
    plan,
    produce,
    replay,
    replays,
    run,
    topics,
)
from streamkit.cli import log as log_files
from streamkit.cli.failures import describe
from streamkit.cli.output import print_error
from streamkit.cli.settings import DEFAULT_LOG, Settings, settings_of

BROKEN_PIPE = 141
ERRORS = {"plan": 2}
"""Exit codes of errors, where 1 has another meaning: a plan that failed is not one that is safe."""


class Commands(TyperGroup):
    """The group of all commands: takes global options anywhere, turns errors into one screen.

    Exit codes: 0 done, 1 an error (or a difference, for `replay --diff`), 2 a wrong call (and an
    error of `plan`), 130 after Ctrl-C, 141 when the reader of a pipe went away.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _say_no_type_of_flags(self, ctx)
        return super().parse_args(ctx, _global_options_first(args))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        for one in (command, *getattr(command, "commands", {}).values()):
            if one is not None:
                _say_no_type_of_flags(one, ctx)
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            with _interrupts():
                result = super().invoke(ctx)
            sys.stdout.flush()  # a full disk or a closed pipe is an error of this command
            return result
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            _drop_output()
            raise typer.Exit(BROKEN_PIPE) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if _is_usage(error):
                raise
            if settings_of(ctx).debug:
                traceback.print_exc()
            print_error(describe(error))
            try:
                sys.stdout.flush()
            except OSError:  # most likely the error itself
                _drop_output()
            raise typer.Exit(ERRORS.get(ctx.invoked_subcommand, 1)) from error


@contextmanager
def _interrupts() -> Iterator[None]:
    """Let Ctrl-C be an exception, for as long as a command may have something to close."""
    if signal.getsignal(signal.SIGINT) is not end_at_once:
        yield  # somebody else's process
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, end_at_once)


def _drop_output() -> None:
    """Where stdout takes nothing: the interpreter flushes it once more and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_usage(error: Exception) -> bool:
    """Whether typer itself will show this error as a wrong call, with exit code 2."""
    usage = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")
    return isinstance(error, usage)


def _say_no_type_of_flags(command: Any, ctx: Any) -> None:
    """`--help` would tell of each that it is a bool."""
    for param in command.get_params(ctx):
        if getattr(param, "is_flag", False):
            param.metavar = ""


def _global_options_first(args: list[str]) -> list[str]:
    """Move --log and --debug before the command: people write them wherever they think of them."""
    first: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word == "--log":
            first += [word, *[value for value in [next(words, None)] if value is not None]]
        elif word.startswith("--log=") or word == "--debug":
            first.append(word)
        else:
            rest.append(word)
    return first + rest


def _show_version(asked: bool) -> None:
    if asked:
        from streamkit.codec import BACKEND

        typer.echo(f"streamkit {__version__} (codec: {BACKEND})")
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Event streaming in one pip install: a partitioned log in a directory, connectors, "
    "processing, replay.",
)


@app.callback()
def root(
    context: typer.Context,
    log: Annotated[
        str | None,
        typer.Option(
            "--log",
            envvar="STREAMKIT_LOG",
            metavar="PATH",
            help=f"The log to work on. May stand anywhere.  [default: {DEFAULT_LOG}]",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Print the version and the codec in use, and exit.",
        ),
    ] = False,
) -> None:
    source = context.get_parameter_source("log")
    context.obj = Settings(log, source is not None and source.name == "COMMANDLINE", debug)


app.add_typer(topics.app, name="topics")
app.command("produce")(produce.produce)
app.command("consume")(consume.consume)
app.add_typer(groups.app, name="groups")
app.add_typer(log_files.app, name="log")
app.command("fsck")(fsck.fsck)
app.command("run")(run.run)
app.command("graph")(graph.graph)
app.command("plan")(plan.plan)
app.command("replay")(replay.replay)
app.add_typer(replays.app, name="replays")
app.add_typer(dlq.app, name="dlq")
app.command("connect")(connect.connect)
