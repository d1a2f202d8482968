"""Migrations, and the records that nobody may change."""

import psycopg
import pytest

from infra.postgres.connections import connect
from infra.postgres.migrations import migrate


def test_migrating_twice_applies_nothing_the_second_time(database: str) -> None:
    assert migrate(database) == []


@pytest.mark.parametrize("table", ["evidence", "decisions", "promotions"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "TRUNCATE {} CASCADE", "UPDATE {} SET surface = 'other'"])
def test_records_are_append_only(database: str, table: str, statement: str) -> None:
    with connect(database) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        connection.execute(statement.format(table))
