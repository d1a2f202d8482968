"""The point-in-time join of keyed views against a loop in plain Python, by both access paths and by serving's."""

import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from features.declare.views import TeamView, ViewRefused, dense
from features.team_views.join import SourceJoin, join
from features.team_views.reading import ViewReader, inspect
from features.team_views.rows import AccessPath, ArrowReader
from features.team_views.source import MissingIndexWarning, ViewSource, describe, lacks_index
from infra.addresses import with_database
from infra.postgres.connections import connect, create_database, drop_database
from tests.worlds.views import NOON, Rows, entities_table, known_to, same

ACCESS: tuple[AccessPath, ...] = get_args(AccessPath)
MICRO, SECOND, HOUR = timedelta(microseconds=1), timedelta(seconds=1), timedelta(hours=1)
INTEGER, TEXT = pa.int64(), pa.string()


@pytest.fixture(scope="module")
def url(postgres_url: str) -> Iterator[str]:
    """A database whose clock stands in New York."""
    url = with_database(postgres_url, "views_joined")
    create_database(url)
    with connect(url, autocommit=True) as admin:
        admin.execute("ALTER DATABASE views_joined SET timezone = 'America/New_York'")
    yield url
    drop_database(url)


@pytest.fixture(scope="module")
def connection(url: str) -> Iterator[psycopg.Connection]:
    with connect(url, autocommit=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def reader(url: str) -> Iterator[ArrowReader]:
    with ArrowReader(url) as opened:
        yield opened


def source(rows: Rows, *, ttl: timedelta | None = None, created: bool = True, late: bool = True) -> ViewSource:
    """The table ``rows`` as a source."""
    named = "created" if created else None
    return ViewSource(
        "rows", "rows", rows.keys, "event_timestamp", named, rows.values, ttl, late and created, "CREATE …"
    )


def joined(
    reader: ArrowReader, wanted: ViewSource, entities: pa.Table, access: AccessPath | None
) -> list[tuple[Any, ...]]:
    by = SourceJoin(wanted, tuple(entities.column_names[:-1]))
    columns = join(reader, by, entities, time="event_timestamp", access=access)
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


def expect(reader: ArrowReader, rows: Rows, entities: list[Any], **how: Any) -> list[tuple[Any, ...]]:
    """Both access paths give what the loop gives; that is returned."""
    with reader.another() as other:
        connection = other.planner
        rows.write(connection, "rows")
    how = {"ttl": None, "created": True, "late": True} | how
    wanted = known_to(rows, entities, **how)
    table = entities_table(entities, {f"entity{place}": TEXT for place in range(len(rows.keys))})
    for access in ACCESS:
        assert same(joined(reader, source(rows, **how), table, access), wanted), access
    return wanted


TIMES = some.integers(-4, 4).map(lambda steps: NOON + steps * SECOND / 2)
WHOLE = some.sampled_from([1, 12, None])
WORDS = some.sampled_from(["1", "01", None]) | some.sampled_from(["", "Straße", "a,b", '"', "\\N", "%s"])


@some.composite
def worlds(draw: Any) -> tuple[Rows, list[Any], dict[str, Any]]:
    kinds = draw(some.lists(some.sampled_from(["bigint", "integer", "text", "varchar(9)"]), min_size=1, max_size=2))
    keys = some.tuples(*(WORDS if kind in ("text", "varchar(9)") else WHOLE for kind in kinds))
    zone = {"timestamptz": UTC, "timestamp": None}
    time_type, created_type = draw(some.sampled_from([*zone])), draw(some.sampled_from([*zone]))
    # Of a value in common few are drawn, so that rows alike in all but that occur.
    values = some.tuples(some.sampled_from([None, 0.5, -1.0, float("nan")]), some.sampled_from([None, True, False]))
    drawn = draw(
        some.lists(some.tuples(keys, some.none() | TIMES, some.none() | TIMES, values), min_size=5, max_size=25)
    )
    rows = Rows(
        tuple(kinds),
        tuple(
            (*key, at and at.replace(tzinfo=zone[time_type]), made and made.replace(tzinfo=zone[created_type]), *value)
            for key, at, made, value in drawn
        ),
        ("float8", "boolean"),
        time_type,
        created_type,
    )
    entities = draw(some.lists(some.tuples(keys, some.none() | TIMES), max_size=25))
    created = draw(some.booleans())
    late = draw(some.booleans()) if created else False
    return rows, entities, {"ttl": draw(some.sampled_from([None, SECOND, HOUR])), "created": created, "late": late}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(worlds())
def test_the_join_is_the_loop(
    reader: ArrowReader, connection: psycopg.Connection, world: tuple[Rows, list[Any], dict[str, Any]]
) -> None:
    rows, entities, how = world
    wanted = expect(reader, rows, entities, **how)
    if how["late"] == how["created"]:  # a team's view hides what was created later, always
        serving_gives(connection, rows, entities, wanted, how["ttl"], created=how["created"])


@pytest.mark.parametrize("seed", range(6))
def test_the_join_is_the_loop_where_rows_crowd(reader: ArrowReader, connection: psycopg.Connection, seed: int) -> None:
    """Few keys, many rows, many of them late or tied: what small worlds rarely hold."""
    generator = np.random.default_rng(seed)

    def instant() -> datetime:
        return NOON + int(generator.integers(0, 40)) * SECOND

    def key() -> tuple[int, str]:
        return int(generator.integers(1, 3)), str(generator.choice(["a", "b"]))

    stamped = [(key(), instant(), int(generator.integers(0, 3))) for _ in range(300)]
    rows = Rows(
        ("integer", "text"),
        tuple(
            (*who, at, at + int(generator.choice([0, 0, 5, 30])) * SECOND, float(value)) for who, at, value in stamped
        ),
    )
    entities = [(key(), instant()) for _ in range(100)]
    for late, ttl in ((True, None), (False, None), (True, 3 * SECOND)):
        wanted = expect(reader, rows, entities, late=late, ttl=ttl)
        if late:
            serving_gives(connection, rows, entities, [(value, None) for (value,) in wanted], ttl, created=True)


def serving_gives(
    connection: psycopg.Connection,
    rows: Rows,
    entities: list[Any],
    wanted: list[Any],
    ttl: timedelta | None,
    *,
    created: bool,
) -> None:
    """Serving's read of each instant's entities is what the training frame has."""
    view = TeamView(
        "v", "rows", {key: key for key in rows.keys}, rows.values, created="created" if created else None, ttl=ttl
    )
    reading = ViewReader(inspect(connection, [view]))
    types = (pa.float64(), pa.bool_())
    columns = [pa.array([row[i] for row in wanted], types[i]) for i in range(len(rows.values))]
    offline = dense(pa.table(columns, names=list(view.columns)), [view])
    for at in {at for _, at in entities if at is not None}:
        places = [place for place, (_, time) in enumerate(entities) if time == at]
        known = {
            key: [None if entities[place][0][i] is None else str(entities[place][0][i]) for place in places]
            for i, key in enumerate(rows.keys)
        }
        online = reading.read(connection, known, at)
        np.testing.assert_array_equal(online, offline[places])


class TestTraps:
    """Each on its own, so that a broken one is named."""

    def test_composite_keys_are_not_run_together(self, reader: ArrowReader) -> None:
        rows = Rows(("bigint", "bigint"), ((1, 23, NOON, NOON, 1.0), (12, 3, NOON, NOON, 2.0)))
        assert expect(reader, rows, [((1, 23), NOON), ((12, 3), NOON), ((123, 0), NOON)]) == [(1.0,), (2.0,), (None,)]

    def test_of_one_time_the_row_created_last_counts_once(self, reader: ArrowReader) -> None:
        rows = Rows(("text",), tuple(("a", NOON, NOON + made * SECOND, float(made)) for made in (1, 3, 2)))
        assert expect(reader, rows, [(("a",), NOON + HOUR)]) == [(3.0,)]
        assert expect(reader, rows, [(("a",), NOON + HOUR)], late=False) == [(3.0,)]

    def test_rows_alike_in_time_and_creation_count_once_and_the_larger_wins(self, reader: ArrowReader) -> None:
        rows = Rows(("text",), (("a", NOON, NOON, 2.0), ("a", NOON, NOON, 3.0), ("a", NOON, NOON, None)))
        assert expect(reader, rows, [(("a",), NOON)]) == [(3.0,)]

    def test_a_row_counts_from_its_very_time(self, reader: ArrowReader) -> None:
        rows = Rows(("text",), (("a", NOON, NOON, 1.0),))
        assert expect(reader, rows, [(("a",), NOON - MICRO), (("a",), NOON)]) == [(None,), (1.0,)]

    def test_a_row_as_old_as_the_ttl_counts_and_an_older_one_does_not(self, reader: ArrowReader) -> None:
        rows = Rows(("text",), (("a", NOON, NOON, 1.0),))
        entities = [(("a",), NOON + HOUR), (("a",), NOON + HOUR + MICRO)]
        assert expect(reader, rows, entities, ttl=HOUR) == [(1.0,), (None,)]

    def test_a_row_created_later_is_not_known_yet_and_then_hides_older_ones(self, reader: ArrowReader) -> None:
        rows = Rows(("text",), (("a", NOON, NOON, 1.0), ("a", NOON + SECOND, NOON + HOUR, 2.0)))
        entities = [(("a",), NOON + 2 * SECOND), (("a",), NOON + HOUR)]
        assert expect(reader, rows, entities) == [(1.0,), (2.0,)]
        assert expect(reader, rows, entities, late=False) == [(2.0,), (2.0,)]

    def test_an_old_row_that_comes_late_does_not_replace_a_newer_one(self, reader: ArrowReader) -> None:
        rows = Rows(("text",), (("a", NOON, NOON + HOUR, 1.0), ("a", NOON + SECOND, NOON + SECOND, 2.0)))
        entities = [(("a",), NOON + 2 * SECOND), (("a",), NOON + 2 * HOUR)]
        assert expect(reader, rows, entities) == [(2.0,), (2.0,)]

    def test_nulls_match_nothing(self, reader: ArrowReader) -> None:
        rows = Rows(("text",), ((None, NOON, NOON, 1.0), ("a", None, NOON, 2.0), ("b", NOON, None, 3.0)))
        entities = [((None,), NOON), (("a",), NOON), (("b",), NOON), (("b",), None)]
        assert expect(reader, rows, entities) == [(None,)] * 4
        assert expect(reader, rows, entities, late=False) == [(None,), (None,), (3.0,), (None,)]

    def test_an_infinite_time_counts_for_nothing(self, reader: ArrowReader, connection: psycopg.Connection) -> None:
        rows = Rows(("text",), (("a", NOON, NOON, 1.0),))
        rows.write(connection, "rows")
        connection.execute(
            "INSERT INTO rows VALUES ('a', 'infinity', now(), 2), ('b', '-infinity', now(), 3), "
            "('c', %s, 'infinity', 4)",
            [NOON],
        )
        entities = entities_table([((key,), NOON) for key in "abc"], {"k": TEXT})
        for access in ACCESS:
            assert joined(reader, source(rows), entities, access) == [(1.0,), (None,), (None,)]

    def test_the_entities_stay_in_their_order_with_their_repetitions(self, reader: ArrowReader) -> None:
        rows = Rows(("bigint",), tuple((key, NOON, NOON, float(key)) for key in range(50)))
        order = np.random.default_rng(3).integers(0, 60, 400)
        found = expect(reader, rows, [((int(key),), NOON) for key in order])
        assert [row[0] for row in found] == [float(key) if key < 50 else None for key in order]

    def test_no_entity_and_no_row_are_no_error_and_have_types(self, reader: ArrowReader) -> None:
        expect(reader, Rows(("bigint",), ()), [((1,), NOON)])
        expect(reader, Rows(("bigint",), ((1, NOON, NOON, 1.0),)), [])
        by = SourceJoin(source(Rows(("bigint",), ())), ("k",))
        columns = join(reader, by, entities_table([], {"k": TEXT}), time="event_timestamp")
        assert [column.type for column in columns] == [pa.float64()]

    def test_a_nanosecond_too_early_is_too_early(self, reader: ArrowReader, connection: psycopg.Connection) -> None:
        rows = Rows(("bigint",), ((1, NOON, NOON, 1.0),))
        rows.write(connection, "rows")
        noon = int(NOON.timestamp()) * 10**9
        entities = pa.table(
            {
                "k": [1] * 5,
                "event_timestamp": pa.array(
                    [noon - 1, noon, noon + 1, noon + 3600 * 10**9, noon + 3600 * 10**9 + 1], pa.timestamp("ns", "UTC")
                ),
            }
        )
        for access in ACCESS:
            found = joined(reader, source(rows, ttl=HOUR), entities, access)
            assert found == [(None,), (1.0,), (1.0,), (1.0,), (None,)]

    def test_many_keys_over_many_years_do_not_overflow(self, reader: ArrowReader) -> None:
        """Keys and microseconds together outgrow 64 bits."""
        generator = np.random.default_rng(4)
        days = timedelta(days=350_000)
        rows = Rows(
            ("bigint",),
            tuple((key, NOON - days * generator.random(), NOON - days, float(key)) for key in range(600)),
        )
        expect(reader, rows, [((key,), NOON - days * generator.random()) for key in range(600)])


class TestKeys:
    @pytest.mark.parametrize(
        ("kind", "texts"),
        [
            ("bigint", ["7", "07", "7.0", " 7", "+7", "", "9223372036854775808", "x", None]),
            ("smallint", ["7", "70000"]),
        ],
    )
    def test_only_the_plain_form_of_an_integer_is_that_integer(
        self, reader: ArrowReader, connection: psycopg.Connection, kind: str, texts: list[str | None]
    ) -> None:
        Rows((kind,), ((7, NOON, NOON, 1.0),)).write(connection, "rows")
        entities = entities_table([((text,), NOON) for text in texts], {"k": TEXT})
        for access in ACCESS:
            found = joined(reader, source(Rows((kind,), ())), entities, access)
            assert found == [(1.0,), *[(None,)] * (len(texts) - 1)]

    def test_entities_may_hold_integers_where_the_view_has_text_and_floats_for_nulls(
        self, reader: ArrowReader, connection: psycopg.Connection
    ) -> None:
        for kind, key in (("text", "7"), ("bigint", 7)):
            Rows((kind,), ((key, NOON, NOON, 1.0),)).write(connection, "rows")
            for keys in (
                pa.array([7, None]),
                pa.array([7.0, None]),
                pa.array([7.0, float("nan")]),
                pa.array(["7", None]),
            ):
                entities = pa.table({"k": keys, "event_timestamp": pa.array([NOON] * 2, pa.timestamp("us", "UTC"))})
                assert joined(reader, source(Rows((kind,), ())), entities, None) == [(1.0,), (None,)]

    @pytest.mark.parametrize("kind", ["uuid", "numeric", "float8", "date", "boolean", "char(3)"])
    def test_keys_of_other_types_are_refused_by_name(
        self, connection: psycopg.Connection, reader: ArrowReader, kind: str
    ) -> None:
        Rows((kind,), ()).write(connection, "rows")
        with pytest.raises(ViewRefused, match=r"view rows: key key0 is .*; a key must be an integer, text or varchar"):
            describe(connection, source(Rows((kind,), ())))

    @pytest.mark.parametrize("column", [pa.array([1.5]), pa.array([True]), pa.array([NOON]), pa.array([b"x"])])
    def test_an_entity_of_another_type_is_refused_by_name(
        self, connection: psycopg.Connection, reader: ArrowReader, column: pa.Array
    ) -> None:
        Rows(("bigint",), ()).write(connection, "rows")
        entities = pa.table({"who": column, "event_timestamp": pa.array([NOON], pa.timestamp("us", "UTC"))})
        with pytest.raises(ViewRefused, match=r"view rows: who is .*a key must be an integer or text"):
            joined(reader, source(Rows(("bigint",), ())), entities, None)


class TestRead:
    def test_every_type_of_value_comes_as_arrow_has_it(
        self, reader: ArrowReader, connection: psycopg.Connection
    ) -> None:
        types = {
            "smallint": (3, pa.int16()),
            "bigint": (2**60, pa.int64()),
            "real": (0.5, pa.float32()),
            "numeric": (1.25, pa.float64()),
            "boolean": (True, pa.bool_()),
            "text": ("ü", pa.string()),
            "bytea": (b"\x00", pa.binary()),
            "timestamptz": (NOON, pa.timestamp("us", "UTC")),
            "integer[]": ([1, 2], pa.list_(pa.int32())),
            "uuid": ("12345678-1234-5678-1234-567812345678", pa.string()),
            "jsonb": ('{"a": 1}', pa.string()),
        }
        rows = Rows(("bigint",), ((1, NOON, NOON, *(value for value, _ in types.values())),), tuple(types))
        rows.write(connection, "rows")
        for access in ACCESS:
            entities = entities_table([((1,), NOON), ((2,), NOON)], {"k": INTEGER})
            columns = join(reader, SourceJoin(source(rows), ("k",)), entities, time="event_timestamp", access=access)
            assert [column.to_pylist() for column in columns] == [[value, None] for value, _ in types.values()]
            assert [column.type for column in columns] == [kind for _, kind in types.values()]

    def test_dates_are_midnight_utc(self, reader: ArrowReader) -> None:
        rows = Rows(("text",), (("a", NOON.date(), NOON.date(), 1.0),), time_type="date", created_type="date")
        with reader.another() as other:
            connection = other.planner
            rows.write(connection, "rows")
        midnight = datetime(2025, 3, 30, tzinfo=UTC)
        entities = entities_table([(("a",), midnight - MICRO), (("a",), midnight)], {"k": TEXT})
        for access in ACCESS:
            assert joined(reader, source(rows, ttl=HOUR), entities, access) == [(None,), (1.0,)]

    def test_few_entities_are_looked_up_and_for_many_the_table_is_scanned(
        self, reader: ArrowReader, connection: psycopg.Connection
    ) -> None:
        fill(connection)
        looked_up = []
        for entities in (3, 20_000):
            table = entities_table([((key,), NOON) for key in range(entities)], {"k": INTEGER})
            read = reader.read
            reader.read = lambda query, read=read: looked_up.append("millrace_keys" in query.as_string()) or read(query)  # type: ignore[method-assign, func-returns-value, misc]
            try:
                found = joined(reader, source(Rows(("bigint",), ())), table, None)
            finally:
                del reader.read
            assert [row for row in found if row[0] is not None] == [(float(key),) for key in range(1, entities)]
        assert looked_up == [True, False]

    def test_a_large_table_without_an_index_is_warned_of_with_the_statement_to_run(
        self, reader: ArrowReader, connection: psycopg.Connection
    ) -> None:
        fill(connection, index=False)
        wanted = source(Rows(("bigint",), ()))
        entities = entities_table([((5,), NOON)], {"k": INTEGER})
        with pytest.warns(MissingIndexWarning, match=r"view rows: no index finds .* about 20,000 rows.*; run: CREATE"):
            assert joined(reader, wanted, entities, None) == [(5.0,)]
        for other in ("(key0)", "(event_timestamp)", "(event_timestamp, key0)"):
            connection.execute(f"CREATE INDEX ON rows {other}")
            assert lacks_index(connection, describe(connection, wanted)) is not None, other
        connection.execute("CREATE INDEX ON rows (key0, event_timestamp DESC)")
        assert lacks_index(connection, describe(connection, wanted)) is None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert joined(reader, wanted, entities, None) == [(5.0,)]

    def test_a_query_may_stand_for_a_table_and_its_index_serves(
        self, reader: ArrowReader, connection: psycopg.Connection
    ) -> None:
        fill(connection)
        query = "(SELECT key0 AS id, event_timestamp AS t, value0 * 2 AS v FROM rows WHERE value0::int % 2 = 1)"
        wanted = ViewSource("doubled", query, ("id",), "t", None, ("v",), None, False, "")
        entities = entities_table([((5,), NOON), ((6,), NOON)], {"k": INTEGER})
        assert lacks_index(connection, describe(connection, wanted)) is None
        for access in ACCESS:
            assert joined(reader, wanted, entities, access) == [(10.0,), (None,)]

    def test_the_servers_error_comes_as_psycopgs(self, reader: ArrowReader) -> None:
        with pytest.raises(psycopg.errors.UndefinedTable, match="nowhere"):
            reader.read("SELECT * FROM nowhere")
        with (
            ArrowReader("host=127.0.0.1 port=1 dbname=x connect_timeout=2") as away,
            pytest.raises(psycopg.OperationalError),
        ):
            away.read("SELECT 1")


def fill(connection: psycopg.Connection, *, index: bool = True) -> None:
    """20,000 rows of as many keys, each at noon."""
    Rows(("bigint",), ()).write(connection, "rows", index=index)
    connection.execute("INSERT INTO rows SELECT n, %s, %s, n FROM generate_series(1, 20000) AS n", [NOON, NOON])
    connection.execute("ANALYZE rows")
