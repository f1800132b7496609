"""What `from streamkit import ...` gives is written down, all there, and light to ask for."""

import subprocess
import sys

import pytest

import streamkit
import streamkit.errors

HEAVY = {"sqlalchemy", "typer", "rich", "watchdog", "croniter", "aiokafka", "kafka", "asyncio"}


@pytest.mark.parametrize("name", streamkit.__all__)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(streamkit, name) is not None


def test_the_list_is_sorted_and_what_dir_says() -> None:
    assert sorted(streamkit.__all__) == streamkit.__all__ == dir(streamkit)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Ap"):
        streamkit.Ap  # noqa: B018


@pytest.mark.parametrize("code", ["import streamkit", "from streamkit import *"])
def test_importing_loads_nothing_heavy(code: str) -> None:
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not HEAVY & {module.partition(".")[0] for module in loaded}
