"""The wheel and the sdist hold everything that the source tree does."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COPIED = ["pyproject.toml", "setup.py", "MANIFEST.in", "LICENSE", "README.md", "CHANGELOG.md"]
COPIED += ["Makefile", "docs", "examples", "benchmarks", "tests", "connectors", "processors"]
SHIPPED = {".py", ".pxd", ".pyi", ".pyx", ".pxi", ".typed"}


def source_modules() -> set[str]:
    """What `streamkit/` holds, links followed, as paths inside the package."""
    found = set()
    for folder, inside in (
        (ROOT / "streamkit", "streamkit"),
        (ROOT / "connectors", "streamkit/connectors"),
        (ROOT / "processors", "streamkit/processors"),
    ):
        for path in folder.rglob("*"):
            if path.suffix in SHIPPED and "__pycache__" not in path.parts:
                found.add(f"{inside}/{path.relative_to(folder).as_posix()}")
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the tree, so that building leaves nothing behind in it."""
    copy = tmp_path_factory.mktemp("tree")
    rubbish = shutil.ignore_patterns("__pycache__", "*.so", "*.c")
    shutil.copytree(ROOT / "streamkit", copy / "streamkit", symlinks=True, ignore=rubbish)
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=rubbish)
        else:
            shutil.copy(ROOT / name, copy / name)
    yield copy


def build(kind: str, source: Path, out: Path) -> Path:
    """Build one distribution with the backend itself, without a network."""
    code = f"from setuptools.build_meta import build_{kind}; build_{kind}({str(out)!r})"
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=source,
        env={"PATH": "/usr/bin:/bin", "STREAMKIT_PURE": "1"},
        check=True,
        capture_output=True,
    )
    (built,) = out.iterdir()
    return built


def test_the_wheel_holds_every_module(tree: Path, tmp_path: Path) -> None:
    wheel = build("wheel", tree, tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert source_modules() <= names
    assert not [name for name in names if name.startswith(("connectors/", "processors/", "tests/"))]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_a_wheel_built_from_the_sdist_is_the_same(tree: Path, tmp_path: Path) -> None:
    sdist = build("sdist", tree, tmp_path)
    unpacked = tmp_path / "unpacked"
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    inside = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert source_modules() <= inside
    assert {"docs/architecture.md", "examples/flights/app.py", "Makefile"} <= inside

    (tmp_path / "direct").mkdir()
    (tmp_path / "through").mkdir()
    with (
        zipfile.ZipFile(build("wheel", tree, tmp_path / "direct")) as direct,
        zipfile.ZipFile(build("wheel", source, tmp_path / "through")) as through,
    ):
        assert sorted(direct.namelist()) == sorted(through.namelist())
