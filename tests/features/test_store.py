"""Feast over a real PostgreSQL: training frames, online rows, and what happens when connections are lost."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from math import isnan, nan

import numpy as np
import polars as pl
import psycopg
import pyarrow as pa
import pytest

from features.declare.labels import Label
from features.feast.definitions import USER_ROW
from features.feast.store import Store, open_store
from features.feast.training_frame import FRAME, labelled_impressions
from infra.addresses import with_database
from infra.postgres.connections import connect, create_database, drop_database
from infra.postgres.migrations import migrate
from tests.conftest import fresh_database

DAY = datetime(2017, 10, 1, tzinfo=UTC)
NOON = DAY + timedelta(hours=12)
TEN_MINUTES = timedelta(minutes=10)
CLICK = (Label("click", within=TEN_MINUTES),)
LATER = DAY + timedelta(days=30)


@pytest.fixture(scope="module")
def applied(postgres_url: str) -> Iterator[str]:
    """URL of a database with partitions for three days and the definitions of ``feed``, to copy."""
    url = with_database(postgres_url, f"applied_{uuid.uuid4().hex[:12]}")
    create_database(url)
    migrate(url)
    with connect(url) as connection:
        for table in ("impressions", "feedback", "served"):
            for day in range(3):
                start = DAY + timedelta(days=day)
                connection.execute(
                    f"CREATE TABLE {table}_{start:%Y%m%d} PARTITION OF {table}"
                    f" FOR VALUES FROM ('{start}') TO ('{start + timedelta(days=1)}')"
                )
    with open_store(url, "feed") as store:
        store.apply()
    yield url
    drop_database(url)


@pytest.fixture
def url(applied: str) -> Iterator[str]:
    """URL of a fresh copy of it."""
    with fresh_database(applied) as copy:
        yield copy


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url, "feed") as opened:
        yield opened


def show(
    connection: psycopg.Connection,
    impression: str,
    at: datetime,
    *,
    request: str = "r",
    position: int | None = 0,
    surface: str = "feed",
    served: tuple[str, bytes] | None = ("v1", b"row"),
) -> None:
    connection.execute(
        "INSERT INTO impressions VALUES (%s, %s, %s, 'u', 'i', %s, %s, %s, NULL, NULL, NULL, %s, 1)",
        [surface, impression, request, position, at, at, '{"device": "phone"}'],
    )
    if served is not None:
        connection.execute("INSERT INTO served VALUES (%s, %s, %s, %s, %s)", [surface, impression, at, *served])


def react(
    connection: psycopg.Connection,
    impression: str,
    at: datetime,
    *,
    kind: str = "click",
    known_at: datetime | None = None,
    surface: str = "feed",
) -> None:
    connection.execute(
        "INSERT INTO feedback VALUES (%s, %s, %s, 1, %s, %s, 2)", [surface, impression, kind, at, known_at or at]
    )


def frame_of(store: Store, start: datetime, end: datetime, known_by: datetime = LATER) -> pl.DataFrame:
    return pl.DataFrame(store.training_frame(start, end, CLICK, known_by))


def users(as_of: datetime, **clicks: int) -> pl.DataFrame:
    rows = [
        {
            "user_id": user,
            "as_of": as_of,
            "last_items": [2**62 + 1, -5, 0],
            "remembered": [7, -8, 0],
            "session_start": nan,
            "last_seen": 1506859200.25,
            "last_click": 1.5,
            "session_clicks": 2,
            "clicks": count,
            "impressions": 2**40,
            "position": count,
        }
        for user, count in clicks.items()
    ]
    return pl.DataFrame(rows, schema=USER_ROW)


class TestTrainingFrame:
    def test_an_impression_comes_with_the_row_it_was_served_with(self, url: str, store: Store) -> None:
        row = np.arange(200, dtype=np.float16).tobytes() + b"\x00\xff"
        with connect(url) as connection:
            show(connection, "a", NOON, served=("v7", row))
        frame = store.training_frame(DAY, LATER, CLICK, LATER)
        assert frame.schema.equals(FRAME)
        assert frame.to_pylist() == [
            {
                "impression_id": "a",
                "request_id": "r",
                "user_id": "u",
                "item_id": "i",
                "position": 0,
                "shown_at": NOON,
                "context": '{"device": "phone"}',
                "label": 0.0,
                "schema_version": "v7",
                "row": row,
            }
        ]

    def test_the_window_is_open_at_its_start_and_closed_at_its_end(self, url: str, store: Store) -> None:
        with connect(url) as connection:
            for minute in range(4):
                show(connection, str(minute), NOON + timedelta(minutes=minute))
        frame = frame_of(store, NOON, NOON + timedelta(minutes=2))
        assert frame["impression_id"].to_list() == ["1", "2"]

    def test_a_label_needs_its_kind_in_the_attribution_window_and_to_be_known(self, url: str, store: Store) -> None:
        tick = timedelta(microseconds=1)
        with connect(url) as connection:
            for name in ("at once", "at the end", "too late", "before", "other kind", "learned late", "twice", "never"):
                show(connection, name, NOON)
            react(connection, "at once", NOON)
            react(connection, "at the end", NOON + TEN_MINUTES)
            react(connection, "too late", NOON + TEN_MINUTES + tick)
            react(connection, "before", NOON - tick)
            react(connection, "other kind", NOON, kind="dwell")
            react(connection, "learned late", NOON, known_at=NOON + timedelta(hours=1) + tick)
            react(connection, "twice", NOON)
            react(connection, "twice", NOON + tick)
        frame = frame_of(store, DAY, NOON, known_by=NOON + timedelta(hours=1))
        clicked = frame.filter(pl.col("label") == 1)["impression_id"]
        assert sorted(clicked) == ["at once", "at the end", "twice"]
        assert len(frame) == 8

    def test_a_click_past_midnight_counts_for_the_impression_of_the_day_before(self, url: str, store: Store) -> None:
        late = DAY + timedelta(days=1) - timedelta(minutes=1)
        with connect(url) as connection:
            show(connection, "a", late)
            react(connection, "a", late + timedelta(minutes=5))
        assert frame_of(store, DAY, late)["label"].to_list() == [1.0]

    def test_an_id_that_comes_again_is_another_impression_with_its_own_row_and_label(
        self, url: str, store: Store
    ) -> None:
        """As the log allows it of ids that are far apart in time."""
        with connect(url) as connection:
            for day in range(2):
                show(connection, "a", NOON + timedelta(days=day), served=("v1", f"row {day}".encode()))
            react(connection, "a", NOON + timedelta(days=1, minutes=1))
        frame = frame_of(store, DAY, LATER)
        assert frame["label"].to_list() == [0.0, 1.0]
        assert frame["row"].to_list() == [b"row 0", b"row 1"]
        named = store.training_frame(DAY, LATER, CLICK, LATER, schema_version="v2")
        assert named["row"].to_pylist() == [None, None]

    def test_surfaces_with_the_same_impression_ids_stay_apart(self, url: str, store: Store) -> None:
        with connect(url) as connection:
            show(connection, "1", NOON, served=("v1", b"feed"))
            show(connection, "1", NOON, surface="ads", served=("v1", b"ads"))
            react(connection, "1", NOON, surface="ads")
        with open_store(url, "ads") as ads:
            ads.apply()
            assert frame_of(ads, DAY, LATER).select("row", "label").rows() == [(b"ads", 1.0)]
        assert frame_of(store, DAY, LATER).select("row", "label").rows() == [(b"feed", 0.0)]

    def test_rows_come_in_order_of_time_request_position_and_id(self, url: str, store: Store) -> None:
        with connect(url) as connection:
            show(connection, "f", NOON + timedelta(seconds=1), request="a")
            show(connection, "e", NOON, request="r2", position=None)
            show(connection, "b", NOON, request="r2", position=10)
            show(connection, "d", NOON, request="r2", position=9)
            show(connection, "c", NOON, request="r10", position=1)
            show(connection, "a", NOON, request="r10", position=1)
        assert frame_of(store, DAY, LATER)["impression_id"].to_list() == ["a", "c", "d", "b", "e", "f"]

    def test_an_impression_not_folded_yet_is_there_without_a_row(self, url: str, store: Store) -> None:
        with connect(url) as connection:
            show(connection, "a", NOON, served=None)
        assert frame_of(store, DAY, LATER).select("impression_id", "schema_version", "row").rows() == [
            ("a", None, None)
        ]

    def test_a_window_without_impressions_gives_an_empty_frame(self, store: Store) -> None:
        frame = store.training_frame(DAY, LATER, CLICK, LATER)
        assert frame.num_rows == 0
        assert frame.schema.equals(FRAME)

    def test_after_a_back_fill_the_wanted_schema_version_is_taken(self, url: str, store: Store) -> None:
        with connect(url) as connection:
            show(connection, "both", NOON, served=("v1", b"old"))
            connection.execute("INSERT INTO served VALUES ('feed', 'both', %s, 'v2', 'new')", [NOON])
            show(connection, "only old", NOON, served=("v1", b"old"))
        with pytest.raises(ValueError, match=r"impression both of feed .* versions v1, v2: name one schema_version"):
            frame_of(store, DAY, LATER)
        frame = pl.DataFrame(store.training_frame(DAY, LATER, CLICK, LATER, schema_version="v2"))
        assert frame.select("impression_id", "schema_version", "row").rows() == [
            ("both", "v2", b"new"),
            ("only old", None, None),
        ]

    def test_a_frame_reads_the_days_of_its_window_and_no_other(self, url: str, store: Store) -> None:
        with connect(url) as connection:
            for day in range(3):
                show(connection, str(day), NOON + timedelta(days=day))
        entities = labelled_impressions("feed", NOON, NOON + timedelta(days=1), CLICK, LATER)

        def plan(feast: object) -> str:
            service = feast.get_feature_service("feed_training")
            job = feast.get_historical_features(features=service, entity_df=entities)
            with job._joined() as (connection, query):
                return str(connection.execute(f"EXPLAIN {query}").fetchall())

        scanned = store._feast.call(plan)
        assert "served_20171002" in scanned
        assert "served_20171001" not in scanned
        assert "served_20171003" not in scanned

    def test_entities_may_come_as_a_data_frame_too(self, url: str, store: Store) -> None:
        with connect(url) as connection:
            show(connection, "a", NOON, served=("v1", b"a"))
            show(connection, "b", NOON, served=("v1", b"b"))
        entities = pl.DataFrame({"impression_id": ["b", "?"], "event_timestamp": [NOON, NOON]}).to_pandas()

        def pull(feast: object) -> pa.Table:
            return feast.get_historical_features(entities, ["feed_served:row"]).to_arrow()

        assert sorted(store._feast.call(pull).select(["impression_id", "row"]).to_pylist(), key=str) == [
            {"impression_id": "?", "row": None},
            {"impression_id": "b", "row": b"b"},
        ]

    def test_no_label_uses_what_was_not_known_at_the_watermark(self, url: str, store: Store) -> None:
        """Against the same rule in plain Python, on feedback early, in time, late and not known yet."""
        generator = np.random.default_rng(5)
        start, end = DAY + timedelta(hours=5), DAY + timedelta(hours=60)
        expected: dict[str, float] = {}
        with connect(url) as connection:
            for name in map(str, range(300)):
                shown = DAY + timedelta(seconds=int(generator.integers(0, 3 * 86400 - 2000)))
                show(connection, name, shown)
                clicked = False
                if generator.random() < 0.5:
                    at = shown + timedelta(seconds=int(generator.integers(-300, 900)))
                    known = at + timedelta(seconds=int(generator.integers(0, 7200)))
                    if at >= DAY:
                        react(connection, name, at, known_at=known)
                        clicked = shown <= at <= shown + TEN_MINUTES and known <= end
                if start < shown <= end:
                    expected[name] = float(clicked)
        frame = frame_of(store, start, end, known_by=end)
        assert dict(frame.select("impression_id", "label").rows()) == expected
        assert 0 < frame["label"].sum() < len(frame)

    def test_a_naive_time_is_refused_by_name(self, store: Store) -> None:
        with pytest.raises(ValueError, match="end = 2017-10-01 00:00:00: give it a time zone"):
            store.training_frame(DAY, datetime(2017, 10, 1), CLICK, LATER)  # noqa: DTZ001


class TestOnline:
    def test_what_was_written_is_read_back(self, store: Store) -> None:
        store.write_users(users(NOON, ann=3, bob=4))
        ann = store.read_user("ann")
        assert ann is not None
        assert isnan(ann.pop("session_start"))
        assert ann == {
            "last_items": [2**62 + 1, -5, 0],
            "remembered": [7, -8, 0],
            "last_seen": 1506859200.25,
            "last_click": 1.5,
            "session_clicks": 2,
            "clicks": 3,
            "impressions": 2**40,
            "position": 3,
        }
        assert store.read_user("nobody") is None

    def test_a_user_who_clicked_nothing_has_empty_lists(self, store: Store) -> None:
        row = users(NOON, new=0).with_columns(
            last_items=pl.lit([], pl.List(pl.Int64)), remembered=pl.lit([], pl.List(pl.Int64))
        )
        store.write_users(row)
        read = store.read_user("new")
        assert read is not None
        assert (read["last_items"], read["remembered"]) == ([], [])

    def test_an_older_write_leaves_a_newer_one(self, store: Store) -> None:
        store.write_users(users(NOON, ann=3))
        store.write_users(users(NOON - timedelta(seconds=1), ann=2, bob=2))
        assert (store.read_user("ann") or {})["clicks"] == 3
        assert (store.read_user("bob") or {})["clicks"] == 2
        store.write_users(users(NOON, ann=4))
        assert (store.read_user("ann") or {})["clicks"] == 4

    def test_of_a_key_given_twice_the_later_wins(self, store: Store) -> None:
        early, late = users(NOON, ann=1), users(NOON + timedelta(seconds=1), ann=2)
        store.write_users(pl.concat([late, early]))
        assert (store.read_user("ann") or {})["clicks"] == 2

    def test_nothing_to_write_is_no_error(self, store: Store) -> None:
        store.write_users(users(NOON))

    @pytest.mark.parametrize(
        ("rows", "complaint"),
        [
            (users(NOON, ann=1).drop("clicks"), "feed_user: column clicks is None, must be Int64"),
            (users(NOON, ann=1).cast({"clicks": pl.Float64}), "feed_user: column clicks is Float64, must be Int64"),
            (users(NOON, ann=1).with_columns(clicks=pl.lit(None, pl.Int64)), "column clicks has a null"),
        ],
    )
    def test_a_row_of_another_shape_is_refused_by_column(
        self, database: str, rows: pl.DataFrame, complaint: str
    ) -> None:
        with pytest.raises(ValueError, match=complaint):
            open_store(database, "feed").write_users(rows)

    def test_many_threads_read_while_others_write(self, store: Store) -> None:
        store.write_users(users(NOON, ann=0))

        def work(number: int) -> None:
            for turn in range(20):
                if number < 2:
                    store.write_users(users(NOON + timedelta(seconds=turn), ann=turn, bob=turn))
                else:
                    read = store.read_user("ann")
                    assert read is not None
                    assert read["clicks"] == read["position"]

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert (store.read_user("ann") or {})["clicks"] == 19


class TestConnections:
    def test_a_lost_connection_is_made_good(self, url: str, store: Store) -> None:
        store.write_users(users(NOON, ann=3))
        with connect(url) as connection:
            show(connection, "a", NOON)
        for _ in range(2):
            with connect(url, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            assert (store.read_user("ann") or {})["clicks"] == 3
            assert len(frame_of(store, DAY, LATER)) == 1

    def test_a_store_opened_before_the_definitions_finds_them(self, database: str) -> None:
        with open_store(database, "feed") as early, open_store(database, "feed") as other:
            with pytest.raises(Exception, match="feed_user"):
                early.read_user("ann")
            other.apply()
            assert early.read_user("ann") is None
            early.write_users(users(NOON, ann=1))

    def test_first_applies_may_race(self, database: str) -> None:
        def first(_: int) -> None:
            with open_store(database, "feed") as store:
                store.apply()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(first, range(4)))
        with open_store(database, "feed") as store:
            store.apply()
            assert store.read_user("ann") is None

    def test_feast_keeps_its_tables_to_itself(self, url: str, store: Store) -> None:
        store.write_users(users(NOON, ann=3))
        with connect(url) as connection:
            own = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename !~ '_2017'"
            ).fetchall()
            online = connection.execute("SELECT count(*) FROM feast.millrace_feed_user").fetchone()
        assert {"impressions", "served"} <= {name for (name,) in own}
        assert not {"feature_views", "entities", "projects"} & {name for (name,) in own}
        assert online == (9,)

    def test_a_server_in_another_time_zone_changes_nothing(self, url: str, store: Store) -> None:
        with connect(url, autocommit=True) as connection:
            connection.execute("ALTER DATABASE " + connection.info.dbname + " SET timezone = 'America/New_York'")
            show(connection, "a", NOON)
            react(connection, "a", NOON)
        frame = frame_of(store, NOON - timedelta(seconds=1), NOON)
        assert frame.select("shown_at", "label", "row").rows() == [(NOON, 1.0, b"row")]
        store.write_users(users(NOON, ann=3))
        store.write_users(users(NOON - timedelta(hours=1), ann=2))
        assert (store.read_user("ann") or {})["clicks"] == 3

    @pytest.mark.parametrize("surface", ["", "Feed", "1st", "a-b", 'a"; DROP', "x" * 33])
    def test_a_surface_that_cannot_name_a_table_is_refused(self, surface: str) -> None:
        with pytest.raises(ValueError, match="use a lower-case letter"):
            open_store("postgresql://u@h/d", surface)


def run_python(code: str) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


def test_importing_the_store_does_not_import_feast() -> None:
    assert run_python("import sys, features.feast.store; print('feast' in sys.modules)") == "False"


def test_loading_feast_leaves_typeguard_as_it_was() -> None:
    code = (
        "from features.feast.quick_import import load_feast; import typeguard; before = typeguard.typechecked;"
        "print(load_feast().__name__, load_feast().__name__, typeguard.typechecked is before)"
    )
    assert run_python(code) == "feast feast True"


def test_loading_feast_leaves_this_process_its_own_metrics() -> None:
    code = (
        "import os; from features.feast.quick_import import load_feast; load_feast();"
        "import prometheus_client.values as v;"
        "print('PROMETHEUS_MULTIPROC_DIR' in os.environ, v.ValueClass.__name__)"
    )
    assert run_python(code) == "False MutexValue"
