"""What is compiled does as Python what it does compiled."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamkit.engine import hot

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for path in Path(hot.__file__).parent.glob("*.py") if path.name != "__init__.py"
)
COMPILED = [
    path
    for path in SOURCES
    if not str(importlib.import_module(f"streamkit.engine.hot.{path.stem}").__file__).endswith(
        ".py"
    )
]

not_built = pytest.mark.skipif(not COMPILED, reason="nothing is compiled here")


@not_built
def test_all_of_it_is_compiled_or_nothing() -> None:
    assert COMPILED == SOURCES


@not_built
def test_what_is_compiled_is_no_older_than_its_source() -> None:
    for path in COMPILED:
        built = importlib.import_module(f"streamkit.engine.hot.{path.stem}").__file__
        assert built is not None
        for source in (path, path.with_suffix(".pxd")):
            assert source.stat().st_mtime <= Path(built).stat().st_mtime, (
                f"{source.name} has changed since: python setup.py build_ext --inplace"
            )


@not_built
def test_as_python_it_passes_the_same_tests() -> None:
    names = ("chains", "joins", "lateness", "readers", "stream_joins", "task", "windows")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        + [f"tests/engine/test_{name}.py" for name in names],
        cwd=ROOT,
        env={**os.environ, "STREAMKIT_PURE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
