"""Migrations, and the records that nobody may change."""

import psycopg
import pytest
from psycopg.types.json import Jsonb

from infra.postgres.connections import connect
from infra.postgres.migrations import MIGRATIONS, migrate
from tests.worlds.rows import back

RECORDS = (
    "canaries",
    "canary_ends",
    "canary_looks",
    "decisions",
    "evidence",
    "holds",
    "limit_choices",
    "limit_trials",
    "promotions",
    "signing_secrets",
    "stopped_variants",
    "update_history",
)

COLUMNS = {"signing_secrets": "secret", "canary_ends": "reason", "canary_looks": "word"}
"""Of those that have no surface."""

GUARDS = """
SELECT pg_get_triggerdef(t.oid), t.tgenabled::text, p.proconfig FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal ORDER BY 1
"""


def test_migrating_twice_applies_nothing_the_second_time(database: str) -> None:
    assert migrate(database) == []
    with connect(database) as connection:
        names = connection.execute("SELECT name FROM migrations ORDER BY name").fetchall()
    assert names == [(file.stem,) for file in sorted(MIGRATIONS.glob("*.sql"))]


def test_every_record_has_its_guards_and_no_session_setting_switches_them_off(
    connection: psycopg.Connection,
) -> None:
    guards = connection.execute(GUARDS).fetchall()
    assert [definition for definition, _, _ in guards] == sorted(
        [
            *(
                f"CREATE TRIGGER {record}_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.{record}"
                " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
                for record in RECORDS
            ),
            "CREATE TRIGGER promotions_backed BEFORE INSERT ON public.promotions"
            " FOR EACH ROW EXECUTE FUNCTION require_backing()",
            "CREATE TRIGGER promotions_canary_ended BEFORE INSERT ON public.promotions"
            " FOR EACH ROW EXECUTE FUNCTION expect_canary_ended()",
            "CREATE TRIGGER canaries_backed BEFORE INSERT ON public.canaries"
            " FOR EACH ROW EXECUTE FUNCTION expect_canary()",
            "CREATE TRIGGER canary_ends_backed BEFORE INSERT ON public.canary_ends"
            " FOR EACH ROW EXECUTE FUNCTION expect_canary_end()",
        ]
    )
    assert {enabled for _, enabled, _ in guards} == {"A"}, "always, in a replica's session too"
    assert {tuple(settings) for _, _, settings in guards} == {("search_path=pg_catalog, public, pg_temp",)}


@pytest.mark.parametrize("table", RECORDS)
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "TRUNCATE {} CASCADE", "UPDATE {} SET {} = 'other'"])
def test_records_are_append_only(database: str, table: str, statement: str) -> None:
    with connect(database) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        connection.execute(statement.format(table, COLUMNS.get(table, "surface")))


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("updates", "state", "done"),
        ("updates", "split_at", "1970-01-01"),
        ("evidence", "verdict", "maybe"),
        ("evidence", "occasion", "rerun"),
        ("evidence", "codes", None),
        ("evidence", "reasons", None),
        ("evidence", "measured", None),
        ("decisions", "action", "launch"),
        ("decisions", "through", "mail"),
        ("decisions", "decided_by", None),
    ],
)
def test_a_row_that_makes_no_sense_is_refused(
    connection: psycopg.Connection, table: str, column: str, value: str | None
) -> None:
    """A row as an update writes it once more, but for one column."""
    update_id = back(connection).update_id
    copy = (
        f"INSERT INTO {table} OVERRIDING USER VALUE SELECT (jsonb_populate_record(t, %s)).*"
        f" FROM {table} t WHERE update_id = %s"
    )
    refusals = (psycopg.errors.CheckViolation, psycopg.errors.NotNullViolation)
    with pytest.raises(refusals, match=column if value is None else table), connection.transaction():
        connection.execute(copy, [Jsonb({column: value}), update_id])
    connection.execute(copy, [Jsonb({}), update_id])
