"""What `from streamkit import ...` gives is written down, all there, and light to ask for."""

import subprocess
import sys
from pathlib import Path

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


def _loaded(program: str) -> set[str]:
    return set(
        subprocess.run(
            [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
    )


def test_who_opens_no_log_does_not_load_it() -> None:
    assert "streamkit.log.directory" not in _loaded("from streamkit import *")


def test_what_few_programs_need_is_loaded_when_they_do(tmp_path: Path) -> None:
    opened = f"from streamkit import *\nlog = open_backend({str(tmp_path)!r})\n"
    with streamkit.open_backend(tmp_path) as log:
        log.create_topic("t")
        log.append(streamkit.TopicPartition("t", 0), [b""])
    read = _loaded(f"{opened}assert log.fetch({{TopicPartition('t', 0): 0}})")
    assert "streamkit.log.partition" in read
    cleaning, coordinator = "streamkit.log.cleaning", "streamkit.backends.coordinator"
    assert not {cleaning, coordinator} & read
    maintained = _loaded(f"{opened}log.maintain()")
    assert cleaning in maintained
    assert coordinator not in maintained, "nobody has begun a transaction"
    assert coordinator in _loaded(f"{opened}log.transactions('t', timeout=1.0)")
    assert coordinator in _loaded(f"{opened}log.maintain()"), "it ends what others leave open"
