"""What every command is told before its own options: which log, and how much to say."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from streamkit.backends.base import Backend

DEFAULT_LOG = "./streamkit-data"


@dataclass(frozen=True, slots=True)
class Settings:
    """The options before the command.

    `log` is None when neither --log nor STREAMKIT_LOG is set; `log_asked` says that it was --log,
    which is stronger than what an app says of itself.
    """

    log: str | None = None
    log_asked: bool = False
    debug: bool = False

    @property
    def url(self) -> str:
        return self.log or DEFAULT_LOG


def settings_of(context: typer.Context) -> Settings:
    settings = context.find_root().obj
    return settings if isinstance(settings, Settings) else Settings()


def open_log(context: typer.Context, *, read_only: bool = False, create: bool = False) -> "Backend":
    """Open the log that the command is to work on; only with `create` is a missing one made."""
    # Inside the function, as it costs more than all of `streamkit --help`.
    from streamkit.backends.locate import open_backend

    return open_backend(settings_of(context).url, read_only=read_only, create=create)
