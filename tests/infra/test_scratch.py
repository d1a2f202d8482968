"""Scratch databases: gone with their owner, however it ends, and never before."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from infra.addresses import database_name, with_database
from infra.postgres.connections import connect, create_database
from infra.postgres.scratch import LOCK, clear_scratch, scratch_database

OWNER = """
import sys
from infra.addresses import database_name, with_database
from infra.postgres.connections import create_database
from infra.postgres.scratch import scratch_database
with scratch_database(sys.argv[1], "test") as url:
    create_database(with_database(url, database_name(url) + "_mlflow"))
    print(database_name(url), flush=True)
    sys.stdin.read()
"""


@contextmanager
def owner(url: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A process that has a scratch database and one beside it, and the first one's name."""
    command = [sys.executable, "-c", OWNER, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def unheld(url: str, name: str) -> None:
    """Wait until the server has noticed that the owner is gone."""
    deadline = time.monotonic() + 30
    with connect(with_database(url, "postgres"), autocommit=True) as connection:
        while connection.execute(LOCK, [name]).fetchone() != (True,):
            assert time.monotonic() < deadline, "the lock of a killed owner is held"
            time.sleep(0.02)


def names(url: str) -> set[str]:
    with connect(with_database(url, "postgres")) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


def test_what_a_killed_owner_leaves_is_dropped_by_the_next_and_a_living_ones_is_not(database: str) -> None:
    with owner(database) as (living, alive), owner(database) as (killed, dead):
        assert {alive, f"{alive}_mlflow", dead, f"{dead}_mlflow"} <= names(database)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        unheld(database, dead)
        with scratch_database(database, "test") as own:
            there = names(database)
            assert {alive, f"{alive}_mlflow", database_name(own)} <= there
            assert not {dead, f"{dead}_mlflow"} & there
        assert database_name(own) not in names(database)
        living.communicate("")  # it ends by itself
        assert not {alive, f"{alive}_mlflow"} & names(database)


def test_one_that_somebody_is_connected_to_stays_although_its_owner_is_gone(database: str) -> None:
    with owner(database) as (killed, dead):
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        unheld(database, dead)
        with connect(with_database(database, dead)):
            assert clear_scratch(database) == [f"{dead}_mlflow"]
        # the server may take a moment to notice that the connection is closed
        while dead in names(database):
            clear_scratch(database)


@pytest.mark.parametrize("name", ["backtest_of_ours", "scratch", "millrace_scratchpad"])
def test_a_database_of_another_name_is_nobodys_scratch(database: str, name: str) -> None:
    url = with_database(database, name)
    create_database(url)
    try:
        assert clear_scratch(database) == []
        assert name in names(database)
    finally:
        with connect(with_database(database, "postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name}")


def test_a_block_that_fails_leaves_none(database: str) -> None:
    with (
        pytest.raises(psycopg.errors.UndefinedTable),
        scratch_database(database, "test") as url,
        connect(url) as connection,
    ):
        connection.execute("SELECT 1 FROM nothing")
    assert database_name(url) not in names(database)
