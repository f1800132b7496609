"""A real PostgreSQL server on a free port, for the tests that ask for one."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def _as_user() -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


def _missing() -> str:
    for program in ("initdb", "pg_ctl"):
        if shutil.which(program) is None:
            return f"PostgreSQL's {program} is not installed"
    if os.geteuid() == 0:
        if shutil.which("runuser") is None:
            return "running as root, and there is no runuser"
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return "running as root, and there is no user postgres"
    return ""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a server, without a database name."""
    reason = _missing()
    if reason:
        pytest.skip(reason)
    # Not below pytest's own folder, which the server's user may not enter.
    folder = Path(tempfile.mkdtemp(prefix="streamkit-pg-"))
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"

    def command(*arguments: str) -> None:
        # The log goes to a file: pg_ctl's server keeps an inherited pipe open.
        with (folder / "output").open("ab") as output:
            done = subprocess.run(
                [*_as_user(), *arguments], cwd=folder, stdout=output, stderr=output, timeout=60
            )
        assert done.returncode == 0, (folder / "output").read_text()

    command("initdb", "-D", str(data), "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    command("pg_ctl", "-D", str(data), "-o", options, "-w", "start")
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}"
    finally:
        command("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    """The URL of an empty database of its own."""
    import psycopg

    name = f"test_{os.urandom(6).hex()}"
    with psycopg.connect(f"{postgres_server}/postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    yield f"{postgres_server}/{name}"
    with psycopg.connect(f"{postgres_server}/postgres", autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
