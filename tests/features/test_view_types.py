"""A team's table with columns of every type: each is read as a number, trained on as served, or refused by its name."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import psycopg
import pytest

from features.declare.labels import Label
from features.declare.views import TeamView, ViewRefused, dense
from features.feast.store import Store, open_store
from features.team_views.reading import ViewReader
from features.team_views.source import describe
from infra.addresses import with_database
from infra.postgres.connections import connect, create_database, drop_database
from infra.postgres.migrations import migrate

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = NOON.replace(hour=0)
LATEST = DAY + timedelta(days=1)
DAYS = (DAY - datetime(1970, 1, 1, tzinfo=UTC)).days
LARGEST, INF, NAN = float(np.finfo(np.float32).max), float("inf"), float("nan")

# Of each type values as they are written, and the numbers that they are read as.
NUMBERS: dict[str, list[tuple[Any, float]]] = {
    "numeric": [
        *(
            (Decimal(text), number)
            for text, number in (("0.1", 0.1), ("-7", -7), ("12345678901234567890", 12345678901234567890))
        ),
        *((Decimal(text), number) for text, number in (("1e400", LARGEST), ("-1e400", -LARGEST), ("1e-400", 0.0))),
        *((Decimal(text), number) for text, number in (("NaN", NAN), ("Infinity", INF), ("1e-40", 1e-40))),
    ],
    "numeric(12,2)": [(Decimal("19.99"), 19.99), (Decimal("-0.01"), -0.01)],
    "date": [(date(2026, 3, 1), DAYS), (date(1969, 12, 31), -1)],
    "timestamp": [(datetime(2026, 3, 1, 12), DAYS + 0.5)],  # noqa: DTZ001
    "timestamptz": [(NOON, DAYS + 0.5), (datetime(1970, 1, 1, 6, tzinfo=UTC), 0.25)],
    "time": [(time(1, 0, 30), 3630.0)],
    "interval": [(timedelta(days=1, seconds=1.5), 86401.5), (timedelta(seconds=-2), -2.0)],
    "boolean": [(True, 1.0), (False, 0.0)],
    "smallint": [(-32768, -32768.0)],
    "integer": [(7, 7.0)],
    "bigint": [(2**62, float(2**62))],
    "real": [(0.1, 0.1), (INF, INF)],
    "double precision": [(0.1, 0.1), (1e300, LARGEST), (NAN, NAN)],
}

REFUSED = {
    "text": "value v is text, which is no number: .* SELECT v::float8 AS v",
    "varchar(9)": "value v is character varying, which is no number: .* SELECT v::float8 AS v",
    "text[]": r"value v is text\[\], which is no number: .* SELECT cardinality\(v\) AS v",
    "int[]": r"value v is integer\[\], which is no number: .* SELECT cardinality\(v\) AS v",
    "uuid": r"value v is uuid, which is no number: .* SELECT \(v IS NOT NULL\) AS v",
    "jsonb": r"value v is jsonb, which is no number: .* SELECT \(v ->> 'field'\)::float8 AS v",
    "json": r"value v is json, which is no number: .* SELECT \(v ->> 'field'\)::float8 AS v",
    "mood": r"value v is mood, which is no number: .* SELECT \(v = 'one of them'\)::int AS v",
    "bytea": r"value v is bytea, which is no number: .* SELECT \(v IS NOT NULL\) AS v",
    "money": "value v is money, which is no number: .* SELECT v::numeric AS v",
}

UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
KEYS: dict[str, tuple[str, str]] = {
    "uuid": (UUID.upper(), UUID),
    "numeric": ("7.00", "7"),
    "numeric(6,2)": ("7.5", "7.5"),
    "boolean": ("t", "true"),
    "char(5)": ("ab", "ab"),
    "mood": ("happy", "happy"),
    "name": ("ann", "ann"),
    "smallint": ("7", "7"),
    "text": ("7.00", "7.00"),
}
"""Of each type a key as it is written, and the id that it stands for."""


@pytest.fixture(scope="module")
def url(postgres_url: str) -> Iterator[str]:
    """A database whose clock stands in New York and whose dates are written the German way."""
    url = with_database(postgres_url, "view_types")
    create_database(url)
    migrate(url)
    with connect(url, autocommit=True) as admin:
        admin.execute("ALTER DATABASE view_types SET timezone = 'America/New_York'")
        admin.execute("ALTER DATABASE view_types SET datestyle = 'German'")
        admin.execute("CREATE TYPE mood AS ENUM ('happy', 'sad')")
        admin.execute(f"CREATE TABLE impressions_d PARTITION OF impressions FOR VALUES FROM ('{DAY}') TO ('{LATEST}')")
    yield url
    drop_database(url)


@pytest.fixture
def connection(url: str) -> Iterator[psycopg.Connection]:
    with connect(url, autocommit=True) as opened:
        yield opened
        opened.execute("DROP TABLE IF EXISTS team")
        opened.execute("TRUNCATE impressions")


@pytest.fixture
def store(url: str, connection: psycopg.Connection) -> Iterator[Store]:
    with open_store(url, "feed") as opened:
        yield opened


VIEW = TeamView("v", "team", {"k": "item_id"}, ("v",), timestamp="t")


def fill(connection: psycopg.Connection, key: str, values: str, rows: list[tuple[Any, Any]]) -> None:
    connection.execute(f"CREATE TABLE team (k {key}, t timestamptz, {values})")
    marks = ", ".join(["%s"] * (len(rows[0]) - 1)) if rows else ""
    with connection.cursor() as cursor:
        for row in rows:
            cursor.execute(f"INSERT INTO team VALUES (%s, '{DAY}', {marks})", row)


def shown(connection: psycopg.Connection, items: list[str]) -> None:
    for place, item in enumerate(items):
        connection.execute(
            "INSERT INTO impressions VALUES ('feed', %s, 'r', 'ann', %s, 0, %s, %s, NULL, NULL, NULL, '{}', %s)",
            [item, item, NOON, NOON, place + 1],
        )


def trained_and_served(connection: psycopg.Connection, store: Store, view: TeamView, items: list[str]) -> np.ndarray:
    """The values (N, V) of items, which the training frame and serving have alike, to the bit."""
    shown(connection, items)
    store.apply([view])
    pulled = store.training_frame(DAY, LATEST, (Label("click", within=timedelta(hours=1)),), LATEST, views=(view,))
    by_item = dict(zip(pulled["item_id"].to_pylist(), dense(pulled, (view,)), strict=True))
    served = ViewReader(store.inspect([view])).read(connection, {"user_id": ["ann"], "item_id": items}, NOON)
    trained = np.stack([by_item[item] for item in items])
    assert trained.dtype == served.dtype == np.float32
    assert trained.tobytes() == served.tobytes()
    return served


def test_a_table_of_all_types_is_trained_on_as_served(connection: psycopg.Connection, store: Store) -> None:
    columns = {f"v{place}": kind for place, kind in enumerate(NUMBERS)}
    count = max(map(len, NUMBERS.values()))
    rows: list[Any] = [
        (f"i{row}", *(some[row][0] if row < len(some) else None for some in NUMBERS.values())) for row in range(count)
    ]
    fill(connection, "text", ", ".join(f"{name} {kind}" for name, kind in columns.items()), rows)
    view = replace(VIEW, values=tuple(columns))
    read = trained_and_served(connection, store, view, [f"i{row}" for row in range(count + 1)])
    expected = [[*(some[row][1] if row < len(some) else NAN for some in NUMBERS.values())] for row in range(count + 1)]
    np.testing.assert_array_equal(read, np.array(expected, np.float64).astype(np.float32))


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_number_is_refused_with_what_to_write(
    connection: psycopg.Connection, store: Store, kind: str
) -> None:
    fill(connection, "text", f"v {kind}", [])
    with pytest.raises(ViewRefused, match=f"view v: {REFUSED[kind]}"):
        store.apply([VIEW])
    with pytest.raises(ViewRefused, match=f"view v: {REFUSED[kind]}"):
        store.inspect([VIEW])


def test_what_a_refusal_says_to_write_can_be_read(connection: psycopg.Connection, store: Store) -> None:
    fill(connection, "text", "tags text[], facts jsonb", [("a", ["x", "y"], '{"field": "2.5"}')])
    query = "SELECT k, t, cardinality(tags) AS tags, (facts ->> 'field')::float8 AS facts FROM team"
    read = trained_and_served(connection, store, replace(VIEW, table=query, values=("tags", "facts")), ["a"])
    np.testing.assert_array_equal(read, [[2.0, 2.5]])


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_of_any_type_is_the_id_that_it_is_elsewhere(
    connection: psycopg.Connection, store: Store, kind: str
) -> None:
    written, meant = KEYS[kind]
    fill(connection, kind, "v numeric", [(written, Decimal("1.5"))])
    read = trained_and_served(connection, store, VIEW, [meant, "another"])
    np.testing.assert_array_equal(read, [[1.5], [NAN]])


@pytest.mark.parametrize("kind", ["double precision", "date", "timestamptz", "jsonb", "text[]", "bytea"])
def test_a_key_that_is_no_id_is_refused_by_name(connection: psycopg.Connection, store: Store, kind: str) -> None:
    fill(connection, kind, "v int", [])
    with pytest.raises(ViewRefused, match=r"view v: key k is .*; a key must be .* such as SELECT k::text AS k"):
        store.inspect([VIEW])


def test_a_large_table_with_a_key_that_is_cast_is_told_which_index_serves(
    connection: psycopg.Connection, store: Store
) -> None:
    fill(connection, "uuid", "v numeric", [])
    connection.execute("INSERT INTO team SELECT md5(n::text)::uuid, %s, n FROM generate_series(1, 20000) AS n", [DAY])
    connection.execute("ANALYZE team")
    with pytest.warns(UserWarning, match="no index finds the latest") as warned:
        store.inspect([VIEW])
    statement = str(warned[0].message).partition("run: ")[2]
    connection.execute(statement)  # type: ignore[arg-type]
    connection.execute("ANALYZE team")
    (inspected,) = store.inspect([VIEW])
    item = str(connection.execute("SELECT k FROM team LIMIT 1").fetchall()[0][0])
    read = ViewReader([inspected]).read(connection, {"item_id": [item]}, NOON)
    assert np.isfinite(read).all()
    assert describe(connection, inspected.described.source) == inspected.described


def test_nothing_but_nulls_is_nothing_known(connection: psycopg.Connection, store: Store) -> None:
    fill(connection, "text", "v numeric, d date", [("a", None, None)])
    read = trained_and_served(connection, store, replace(VIEW, values=("v", "d")), ["a", "b"])
    assert np.isnan(read).all()
