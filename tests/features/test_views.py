"""A team's own views: how they are declared, and how Feast and the training frame give them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pyarrow as pa
import pytest

from features.declare.labels import Label
from features.declare.views import TeamView, ViewRefused, dense, view_columns
from features.feast.store import Store, open_store
from features.feast.training_frame import FRAME
from features.team_views.reading import ViewReader
from infra.addresses import with_database
from infra.postgres.connections import connect, create_database, drop_database
from infra.postgres.migrations import migrate

DAY = datetime(2017, 10, 1, tzinfo=UTC)
NOON = DAY + timedelta(hours=12)
LATER = DAY + timedelta(days=30)
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)

LOYALTY = TeamView(
    name="loyalty",
    table="crm.Loyalty",
    keys={"customer": "user_id"},
    values=("points", "member"),
    timestamp="since",
    created="loaded_at",
    ttl=timedelta(days=2),
)
PRICES = TeamView(
    name="prices",
    table="SELECT article AS id, region, at, price, 100 % stock AS points FROM prices;",
    keys={"id": "item_id", "region": "region"},
    values=("price", "points"),
    timestamp="at",
)
VIEWS = (LOYALTY, PRICES)

TABLES = """
CREATE SCHEMA IF NOT EXISTS crm;
CREATE TABLE crm."Loyalty" (customer text, since timestamptz, loaded_at timestamptz, points bigint, member boolean);
CREATE TABLE prices (article bigint, region int, at timestamp, price real, stock int);
CREATE INDEX ON crm."Loyalty" (customer, since);
CREATE INDEX ON prices (article, region, at);
"""


@pytest.fixture(scope="module")
def url(postgres_url: str) -> Iterator[str]:
    """A database with two impressions of one request, the team's tables and the views applied."""
    url = with_database(postgres_url, "views_declared")
    create_database(url)
    migrate(url)
    with connect(url) as connection:
        fill(connection)
        connection.execute(
            f"CREATE TABLE impressions_d PARTITION OF impressions FOR VALUES FROM ('{DAY}') TO ('{DAY + 24 * HOUR}')"
        )
        for name, item, context in (("x", "7", '{"region": 1}'), ("y", "07", '{"region": 1}'), ("z", "7", "{}")):
            connection.execute(
                "INSERT INTO impressions VALUES ('feed', %s, 'r', 'ann', %s, 0, %s, %s, NULL, NULL, NULL, %s, 1)",
                [name, item, NOON, NOON, context],
            )
    with open_store(url, "feed") as store:
        store.apply(VIEWS)
    yield url
    drop_database(url)


def fill(connection: psycopg.Connection) -> None:
    connection.execute(TABLES)
    with connection.cursor() as cursor:
        cursor.executemany(
            'INSERT INTO crm."Loyalty" VALUES (%s, %s, %s, %s, %s)',
            [
                ("ann", NOON - HOUR, NOON - HOUR, 10, True),
                ("ann", NOON - SECOND, NOON + SECOND, 11, False),  # loaded too late for noon
                ("bob", NOON - timedelta(days=3), NOON - timedelta(days=3), 12, True),  # too old at noon
            ],
        )
        cursor.executemany(
            "INSERT INTO prices VALUES (%s, %s, %s, %s, %s)",
            [(7, 1, "2017-10-01 12:00", 0.5, 30), (7, 1, "2017-10-01 12:00:01", 9, 1), (7, 2, "2017-10-01", 8, 1)],
        )


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url, "feed") as opened:
        yield opened


def frame(store: Store, views: tuple[TeamView, ...]) -> pa.Table:
    return store.training_frame(DAY, LATER, (Label("click", within=HOUR),), LATER, views=views)


class TestFrame:
    def test_a_training_frame_has_the_views_columns_as_of_each_impression(self, store: Store) -> None:
        pulled = frame(store, VIEWS)
        assert pulled.schema.names == [*FRAME.names, *view_columns(VIEWS)]
        assert pulled.select(FRAME.names).schema.equals(FRAME)
        assert [str(kind) for kind in pulled.schema.types[len(FRAME) :]] == ["int64", "bool", "float", "int32"]
        assert pulled.select(["impression_id", *view_columns(VIEWS)]).to_pydict() == {
            "impression_id": ["x", "y", "z"],
            "loyalty__points": [10, 10, 10],
            "loyalty__member": [True, True, True],
            "prices__price": [0.5, None, None],
            "prices__points": [10, None, None],
        }

    def test_the_rest_of_the_frame_is_as_without_views(self, store: Store) -> None:
        assert frame(store, VIEWS).select(FRAME.names).equals(frame(store, ()))

    def test_an_empty_window_has_the_columns_too(self, store: Store) -> None:
        pulled = store.training_frame(LATER, LATER + HOUR, (Label("click", within=HOUR),), LATER, views=VIEWS)
        assert pulled.num_rows == 0
        assert dense(pulled, VIEWS).shape == (0, 4)

    def test_the_columns_become_numbers(self, store: Store) -> None:
        numbers = dense(frame(store, VIEWS), VIEWS)
        assert numbers.dtype == np.float32
        nan = np.nan
        np.testing.assert_array_equal(numbers, [[10, 1, 0.5, 10], [10, 1, nan, nan], [10, 1, nan, nan]])

    def test_serving_reads_what_the_frame_has(self, url: str, store: Store) -> None:
        reader = ViewReader(store.inspect(VIEWS))
        assert reader.columns == view_columns(VIEWS)
        with connect(url) as connection:
            shared = {"user_id": ["ann"], "item_id": ["7", "07"], "region": ["1"]}
            np.testing.assert_array_equal(reader.read(connection, shared, NOON), dense(frame(store, VIEWS), VIEWS)[:2])
            np.testing.assert_array_equal(
                reader.read(connection, {"user_id": ["ann"], "item_id": ["7"]}, NOON),
                dense(frame(store, VIEWS), VIEWS)[2:],
            )
            np.testing.assert_array_equal(
                reader.read(
                    connection, {"user_id": ["ann", "bob", None], "item_id": ["7"], "region": ["2"]}, NOON + SECOND
                ),
                np.float32([[11, 0, 8, 0], [np.nan, np.nan, 8, 0], [np.nan, np.nan, 8, 0]]),
            )
            with pytest.raises(ValueError, match="give one of each, or 3"):
                reader.read(connection, {"user_id": ["ann", "bob", None], "item_id": ["7", "8"]}, NOON)
            with pytest.raises(ValueError, match="give it a time zone"):
                reader.read(connection, shared, datetime(2017, 10, 1))  # noqa: DTZ001

    def test_the_teams_tables_may_be_in_another_database(self, database: str, url: str) -> None:
        with connect(database) as connection:
            connection.execute(
                f"CREATE TABLE impressions_d PARTITION OF impressions FOR VALUES FROM ('{DAY}') TO ('{LATER}')"
            )
            connection.execute(
                "INSERT INTO impressions VALUES ('feed', 'x', 'r', 'ann', '7', 0, %s, %s, NULL, NULL, NULL,"
                " '{\"region\": 1}', 1)",
                [NOON, NOON],
            )
        with open_store(database, "feed", views_url=url) as elsewhere:
            elsewhere.apply(VIEWS)
            np.testing.assert_array_equal(dense(frame(elsewhere, VIEWS), VIEWS), [[10, 1, 0.5, 10]])

    def test_a_view_declared_otherwise_is_applied_anew(self, url: str) -> None:
        with open_store(url, "other") as store:
            store.apply([LOYALTY])
            changed = TeamView("loyalty", "crm.Loyalty", {"customer": "user_id"}, ("points",), "since")
            store.apply([changed])
            entities = pa.table({"loyalty__customer": ["bob"], "event_timestamp": pa.array([NOON])})
            assert ask(store, entities, ["other_loyalty:points"])["points"].to_pylist() == [12]


def ask(store: Store, entities: Any, features: list[str], **how: bool) -> pa.Table:
    return store._feast.call(
        lambda feast: feast.get_historical_features(entities, features, **how).to_arrow()  # type: ignore[arg-type]
    )


class TestFeast:
    """``FeatureStore.get_historical_features`` itself."""

    FEATURES = ("feed_prices:price", "feed_loyalty:points")

    @pytest.mark.parametrize("form", ["arrow", "pandas", "pandas, naive", "pandas, texts", "sql", "sql, naive"])
    def test_entities_may_come_in_any_form_and_keep_their_order(self, store: Store, form: str) -> None:
        rows = [("bob", 7, 1, NOON), ("ann", 7, 2, NOON), ("ann", 7, 1, NOON + SECOND), ("ann", None, 1, NOON)]
        rows.append(rows[0])
        names = ["loyalty__customer", "prices__id", "prices__region", "event_timestamp"]
        table = pl.DataFrame(rows, schema=names, orient="row").with_columns(number=pl.int_range(pl.len()))
        entities: Any = table.to_arrow()
        if form.startswith("pandas"):
            entities = table.to_pandas()  # whose ids are floats now, for the null among them
            if form != "pandas":
                entities["event_timestamp"] = entities["event_timestamp"].dt.tz_localize(None)
            if form == "pandas, texts":
                entities["event_timestamp"] = entities["event_timestamp"].astype(str)
        if form.startswith("sql"):
            kind = "timestamp" if "naive" in form else "timestamptz"
            values = ", ".join(
                f"('{user}', {item or 'NULL::bigint'}, {region}, {kind} '{at:%Y-%m-%d %H:%M:%S}', {number})"
                for user, item, region, at, number in table.rows()
            )
            entities = f"SELECT * FROM (VALUES {values}) AS t ({', '.join(table.columns)})"
        found = ask(store, entities, list(self.FEATURES), filter_by_created_timestamp=True)
        assert found["number"].to_pylist() == [0, 1, 2, 3, 4]
        assert found["price"].to_pylist() == [0.5, 8.0, 9.0, None, 0.5]
        assert found["points"].to_pylist() == [None, 10, 11, 10, None]
        assert found["event_timestamp"].cast(pa.timestamp("us", "UTC")).to_pylist() == [at for *_, at in rows]

    def test_rows_created_later_are_hidden_only_where_that_is_asked_for(self, store: Store) -> None:
        entities = pa.table({"loyalty__customer": ["ann"], "event_timestamp": pa.array([NOON])})
        assert ask(store, entities, ["feed_loyalty:points"])["points"].to_pylist() == [11]
        found = ask(store, entities, ["feed_loyalty:points"], filter_by_created_timestamp=True, full_feature_names=True)
        assert found["feed_loyalty__points"].to_pylist() == [10]

    def test_served_rows_and_views_may_be_asked_for_together(self, store: Store) -> None:
        entities = (
            "SELECT impression_id, user_id AS loyalty__customer, shown_at AS event_timestamp FROM impressions"
            " WHERE surface = 'feed'"
        )
        found = ask(store, entities, ["feed_loyalty:points", "feed_served:row"], filter_by_created_timestamp=True)
        assert sorted(found.select(["impression_id", "points", "row"]).to_pydict().items()) == [
            ("impression_id", ["x", "y", "z"]),
            ("points", [10, 10, 10]),
            ("row", [None, None, None]),
        ]

    def test_a_missing_key_is_named(self, store: Store) -> None:
        entities = pa.table({"customer": ["ann"], "event_timestamp": pa.array([NOON])})
        with pytest.raises(
            ViewRefused, match="view feed_loyalty: the entities lack loyalty__customer; they have customer"
        ):
            ask(store, entities, ["feed_loyalty:points"])

    def test_a_frame_may_be_kept_as_a_data_frame(self, store: Store) -> None:
        entities = pa.table({"loyalty__customer": ["ann"], "event_timestamp": pa.array([NOON])})
        frame = store._feast.call(
            lambda feast: feast.get_historical_features(entities, ["feed_loyalty:points"]).to_df()
        )
        assert frame["points"].to_list() == [11]


class TestDeclaration:
    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"name": "User"}, "view 'User': use a lower-case letter"),
            ({"name": "served"}, "view 'served': use a lower-case letter.*none of served, training"),
            ({"name": "a__b"}, "single underscores"),
            ({"table": "crm.loyalty; DROP TABLE x"}, "neither a table's name nor a SELECT"),
            ({"table": "DELETE FROM x"}, "neither a table's name nor a SELECT"),
            ({"keys": {}}, "keys is empty"),
            ({"values": ()}, "values is empty"),
            ({"values": ("points", "customer")}, "column 'customer' is named twice"),
            ({"values": ("since",)}, "column 'since' is named twice"),
            ({"values": ("x" * 60,)}, "longer than the 63 bytes"),
            ({"ttl": timedelta(0)}, "ttl 0:00:00 must be longer than nothing"),
        ],
    )
    def test_a_contradiction_is_named(self, change: dict[str, Any], complaint: str) -> None:
        given = {"name": "loyalty", "table": "t", "keys": {"customer": "user_id"}, "values": ("points",)}
        with pytest.raises(ValueError, match=complaint):
            TeamView(**given | {"timestamp": "since"} | change)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"table": "nowhere"}, 'view v: its table cannot be read: relation "nowhere" does not exist'),
            ({"table": "SELECT FROM ("}, "view v: its table cannot be read: syntax error"),
            ({"table": "no.where"}, "view v: its table cannot be read"),
            ({"keys": {"who": "user_id"}}, "view v: its table has no column 'who'; it has customer, since"),
            (
                {"keys": {"loaded_at": "user_id"}, "values": ("points",)},
                "view v: key loaded_at is timestamp .* must be",
            ),
            (
                {"keys": {"points": "user_id"}, "values": ("customer",)},
                "view v: value customer is text, which is no num",
            ),
            ({"timestamp": "points"}, "view v: points is bigint; a time must be timestamptz"),
        ],
    )
    def test_a_table_that_does_not_fit_is_refused_when_applied(
        self, store: Store, change: dict[str, Any], complaint: str
    ) -> None:
        given = {"name": "v", "table": "crm.Loyalty", "keys": {"customer": "user_id"}, "values": ("member",)}
        with pytest.raises(ViewRefused, match=complaint):
            store.apply([TeamView(**given | {"timestamp": "since"} | change)])  # type: ignore[arg-type]

    def test_two_views_of_one_name_are_refused(self, store: Store) -> None:
        with pytest.raises(ValueError, match="view 'loyalty' is declared twice"):
            store.apply([LOYALTY, LOYALTY])

    def test_texts_are_no_numbers(self) -> None:
        frame = pa.table({"loyalty__points": ["x"], "loyalty__member": [True]})
        with pytest.raises(ViewRefused, match="column loyalty__points is string: a view's values must be"):
            dense(frame, [LOYALTY])

    def test_what_is_finite_stays_finite_and_infinity_stays_infinity(self) -> None:
        frame = pa.table({"loyalty__points": [1e300, None, -np.inf], "loyalty__member": [True, False, None]})
        largest = np.finfo(np.float32).max
        np.testing.assert_array_equal(dense(frame, [LOYALTY]), [[largest, 1], [np.nan, 0], [-np.inf, np.nan]])
