"""What is compiled does as Python what it does compiled."""

import importlib
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "streamkit" / "engine"
LISTED = runpy.run_path(str(ROOT / "tests" / "conftest.py"))["compiled_modules"]()


def built(name: str) -> Path | None:
    """The compiled module, if it is that."""
    path = Path(str(importlib.import_module(name).__file__))
    return None if path.suffix == ".py" else path


COMPILED = {name: path for name in LISTED if (path := built(name)) is not None}

not_built = pytest.mark.skipif(not COMPILED, reason="nothing is compiled here")


def test_everything_hot_is_in_the_list() -> None:
    hot = {f"streamkit.engine.hot.{path.stem}" for path in (ENGINE / "hot").glob("*.py")}
    assert hot - {"streamkit.engine.hot.__init__"} <= set(LISTED)


@not_built
def test_all_of_it_is_compiled_or_nothing() -> None:
    assert set(COMPILED) == set(LISTED)


@not_built
def test_what_is_compiled_is_no_older_than_its_source() -> None:
    for name, path in COMPILED.items():
        source = path.parent / f"{name.rpartition('.')[2]}.py"
        for each in (source, source.with_suffix(".pxd")):
            assert not each.exists() or each.stat().st_mtime <= path.stat().st_mtime, (
                f"{each.name} has changed since: python setup.py build_ext --inplace"
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


def test_apps_made_by_chance_write_the_same_bytes() -> None:
    """Also where sets have another order: strings hash otherwise in each process."""
    count = "1000" if "STREAMKIT_SOAK" in os.environ else "30"
    command = [sys.executable, "random_bytes.py", count]
    folder = ROOT / "tests" / "support"
    said: list[str] = []
    for pure in ("", "1"):
        env = {**os.environ, "STREAMKIT_PURE": pure}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
        assert done.stderr.split()[-2:] == ["python", ".py"] or not pure
        said.append(done.stdout)
    assert said[0] == said[1]
    assert len(said[0].split()) == int(count)
