"""What holds for all tests."""

import ast
import gc
import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes is no property of what is tested: the machine may be at work elsewhere.
settings.register_profile(
    "untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")


def compiled_modules() -> list[str]:
    """The modules that are Python and compiled as well."""
    (listed,) = (
        ast.literal_eval(line.value)
        for line in ast.parse((Path(__file__).parents[1] / "setup.py").read_text()).body
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "COMPILED"
    )
    return [f"streamkit.engine.{path.replace('/', '.')}" for path in listed]


class AsPython:
    """Finds the Python of what is compiled as well."""

    def __init__(self) -> None:
        self._names = set(compiled_modules())

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name not in self._names:
            return None
        found = PathFinder.find_spec(name, path)
        assert found is not None and found.origin is not None, name
        source = Path(found.origin).parent / f"{name.rpartition('.')[2]}.py"
        return spec_from_file_location(name, source)


# Tests start hundreds of processes: none of them is to compile the whole package anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

if os.environ.get("STREAMKIT_PURE"):
    sys.meta_path.insert(0, AsPython())  # type: ignore[arg-type]
    sys.modules["streamkit.log._direct"] = None  # type: ignore[assignment]


def pytest_collection_finish() -> None:
    """Thousands of tests are no garbage, and to look through them took a minute in all."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    """With STREAMKIT_NO_SKIP, as in CI, a test that lacks its server or tool has failed."""
    report = yield
    if report.skipped and os.environ.get("STREAMKIT_NO_SKIP"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and must not be here: {report.longrepr}"
    return report
