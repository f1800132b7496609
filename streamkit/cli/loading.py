"""Find the App in a file or module that somebody names on the command line."""

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from streamkit.engine.source_file import import_file
from streamkit.errors import StreamkitError, UsageError, nearest

if TYPE_CHECKING:
    from streamkit.app import App

_SHOWN = 12
"""Files of a folder that a message lists at most."""


def load_app(place: str) -> "App":
    """Import `app.py`, `app.py:name`, `package.module` or `package.module:name` and give its App.

    Raises UsageError when there is no such file, none or several apps in it, or it does not import.
    """
    from streamkit.app import App

    source, _, name = place.partition(":")
    module = _import(source)
    apps = {key: value for key, value in vars(module).items() if isinstance(value, App)}
    if name:
        if name not in apps:
            what = "is not an App" if hasattr(module, name) else "does not exist"
            raise UsageError(f"{source}: {name!r} {what}{nearest(name, apps)}")
        return apps[name]
    different = list({id(app): app for app in apps.values()}.values())
    if not different:
        raise UsageError(f"{source}: no App in it; an app begins with: app = App('my-app')")
    if len(different) > 1:
        raise UsageError(
            f"{source}: several apps in it; say which one, as in {source}:{min(apps)} "
            f"(there are: {', '.join(sorted(apps))})"
        )
    return different[0]


def _import(source: str) -> ModuleType:
    path = Path(source)
    if path.is_dir() and not all(part.isidentifier() for part in source.split(".")):
        files = sorted(file.name for file in path.glob("*.py"))
        there = f"; it has {', '.join(files)}" if 0 < len(files) <= _SHOWN else ""
        raise UsageError(f"{source}: a folder; name the file of the app in it{there}")
    is_file = path.suffix == ".py" or path.is_file()
    if is_file and not path.is_file():
        around = sorted(other.name for other in path.parent.glob("*.py"))
        raise UsageError(f"{source}: no such file{nearest(path.name, around)}")
    try:
        return _import_file(path) if is_file else _import_module(source)
    except UsageError as error:
        where = _last_frame(error, path if is_file else None)
        if where is None or ".py:" in str(error):
            raise
        raise UsageError(f"{where}: {error}") from error
    except StreamkitError:
        raise
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise UsageError(
            f"{error.filename}:{error.lineno}: {error.msg}" + (f"\n    {line}" if line else "")
        ) from error
    except Exception as error:
        where = _last_frame(error, path if is_file else None)
        raise UsageError(
            f"{where or source}: {type(error).__name__} while importing the app: {error}"
        ) from error


def _import_file(path: Path) -> ModuleType:
    path = path.resolve()
    # As Python does for a script: its neighbours can be imported.
    sys.path.insert(0, str(path.parent))
    # Type hints are looked up by the module's name, which another module may have already.
    name = path.stem
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) != str(path):
        name = f"{path.stem}@{path.parent}"
    return import_file(str(path), name)


def _import_module(name: str) -> ModuleType:
    sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise UsageError(
            f"{name}: no such module here; name a file (app.py) or a module (package.module)"
        ) from error


def _last_frame(error: Exception, path: Path | None) -> str | None:
    """The line of the app where it went wrong: the deepest one in its own file."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if path is not None and frame.filename == str(path.resolve())]
    return f"{path}:{own[-1].lineno}" if own else None
