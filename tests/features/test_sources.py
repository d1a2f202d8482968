"""What a log can come as: folders, patterns, compressed and torn files, databases; the same rows, line by line."""

import gzip
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import duckdb
import polars as pl
import psycopg
import pytest

from features.declare.columns import Id, Number
from features.declare.log import FromEvent, FromRow, Log
from features.ingest.checking import FileTimes
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from features.ingest.sources import ImportRefused
from features.log.append_result import AppendResult

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = NOON + timedelta(days=1)


def rows(first: int, count: int) -> pl.DataFrame:
    numbers = range(first, first + count)
    return pl.DataFrame(
        {
            "impression_id": [f"i{n}" for n in numbers],
            "request_id": [f"r{n // 2}" for n in numbers],
            "user_id": [n % 3 for n in numbers],
            "item_id": [n % 5 for n in numbers],
            "position": [n % 2 for n in numbers],
            "shown_at": [NOON + timedelta(seconds=n) for n in numbers],
            "clicked": [n % 4 == 0 for n in numbers],
        }
    )


def put(database: str, log: str | Path, mapping: Log | None = None, **more: object) -> AppendResult:
    files = Files(log, **{name: more.pop(name) for name in ("items", "users") if name in more})  # type: ignore[arg-type]
    return import_log(database, "feed", files, times=FileTimes(NOW), mapping=mapping or Log(), **more)  # type: ignore[arg-type]


def stored(connection: psycopg.Connection, query: str) -> list[tuple[object, ...]]:
    return connection.execute(query).fetchall()


def test_a_folder_is_all_its_files_in_the_order_of_their_names_and_a_column_may_come_late(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    folder = tmp_path / "events"
    (folder / "day=2").mkdir(parents=True)
    rows(0, 4).write_parquet(folder / "a.parquet")
    times = pl.col("shown_at").dt.to_string("%Y-%m-%dT%H:%M:%SZ")
    late = rows(4, 4).with_columns(times, pl.Series("device", ["phone", "desktop", None, "phone"]))
    late.write_csv(folder / "day=2" / "b.csv")
    packed = gzip.compress(rows(8, 4).with_columns(times, device=pl.lit("tv")).write_ndjson().encode())
    (folder / "day=2" / "c.jsonl.gz").write_bytes(packed)
    (folder / "_SUCCESS").write_text("")
    (folder / ".hidden").write_text("x")
    assert put(database, folder) == AppendResult(12, 0, 0)
    devices = stored(connection, "SELECT context->>'device' FROM impressions ORDER BY shown_at")
    assert [name for (name,) in devices] == [None] * 4 + ["phone", "desktop", None, "phone"] + ["tv"] * 4
    assert stored(connection, "SELECT count(*) FROM feedback") == [(3,)]
    assert put(database, folder / "day=2" / "*.csv") == AppendResult(0, 4, 0)
    with pytest.raises(ImportRefused, match=r"\*\.parquet fits no file"):
        put(database, folder / "day=2" / "*.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImportRefused, match="folder without a file"):
        put(database, tmp_path / "empty")


def test_lines_that_are_no_rows_are_dead_letters_and_the_others_keep_their_numbers(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    texts = rows(0, 4).with_columns(pl.col("shown_at").dt.to_string("%Y-%m-%dT%H:%M:%SZ"))
    csv = texts.write_csv().splitlines()
    log = tmp_path / "log.csv"
    log.write_text("\n".join([*csv[:2], "torn,line", *csv[2:3], "x," + csv[3], csv[4].replace("i3", "")]) + "\n")
    assert put(database, log) == AppendResult(2, 0, 3)
    letters = stored(connection, "SELECT line, reason, event->>'text' FROM dead_letters ORDER BY line")
    assert letters == [
        (2, "2 columns where the header has 7", "torn,line"),
        (4, "8 columns where the header has 7", "x," + csv[3]),
        (5, "impression_id is missing", None),
    ]
    objects = (
        rows(10, 3).with_columns(pl.col("shown_at").dt.to_string("%Y-%m-%dT%H:%M:%SZ")).write_ndjson().splitlines()
    )
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join([objects[0], "[1]", objects[1], "", objects[2][:30]]))
    assert put(database, log) == AppendResult(2, 0, 2)
    of_file = f"SELECT line, reason FROM dead_letters WHERE source = '{log}' ORDER BY line"
    assert stored(connection, of_file) == [(2, "not the text of a JSON object"), (4, "not the text of a JSON object")]


def test_a_file_that_ends_half_way_imports_nothing(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    rows(0, 4).write_parquet(folder / "a.parquet")
    packed = gzip.compress(rows(4, 4).with_columns(pl.col("shown_at").cast(pl.String)).write_csv().encode())
    (folder / "b.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ImportRefused, match=r"b\.csv\.gz"):
        put(database, folder)
    assert stored(connection, "SELECT count(*) FROM impressions") == [(0,)]


def test_a_table_and_a_query_of_postgresql(database: str, connection: psycopg.Connection) -> None:
    connection.execute(
        'CREATE TABLE "Clicks" AS SELECT n::text AS impression_id, n / 2 AS request_id, n % 3 AS user_id,'
        " (n % 5)::smallint AS item_id, 0 AS position,"
        " timestamptz '2026-03-01 12:00Z' + n * interval '1 s' AS shown_at, n % 2 = 0 AS clicked,"
        " (n * 1.5)::numeric(9, 2) AS price, ARRAY['a', 'b'] AS tags"
        " FROM generate_series(1, 9) n"
    )
    connection.commit()
    assert put(database, f"{database}&table=Clicks") == AppendResult(9, 0, 0)
    [context] = stored(connection, "SELECT context FROM impressions WHERE impression_id = '3'")
    assert context == ({"price": "4.5", "tags": '["a","b"]'},)
    wanted = quote("SELECT * FROM \"Clicks\" WHERE impression_id > '4'")
    assert put(database, f"{database}&query={wanted}") == AppendResult(0, 5, 0)
    with pytest.raises(ImportRefused, match=r"\?table=clicks or .*\?query=SELECT"):
        put(database, database)
    with pytest.raises(ImportRefused, match="cannot be read"):
        put(database, f"{database}&table=none")


def test_no_password_is_told_of_an_address(database: str) -> None:
    for address in (
        "postgresql://ann:secret@127.0.0.1:1/x?table=t&password=secret",
        "nonesuch://ann:secret@h/x?table=t",
    ):
        with pytest.raises(ImportRefused, match=r"ann@|no driver for nonesuch://.*adbc-driver-nonesuch") as refused:
            put(database, address)
        assert "secret" not in str(refused.value)


def test_no_password_is_kept_with_what_was_refused(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    file = tmp_path / "house.duckdb"
    log = rows(0, 2).with_columns(item_id=pl.Series(["a", None]), early=pl.lit(NOON - timedelta(hours=1)))
    with duckdb.connect(str(file)) as house:
        house.register("rows", log.to_arrow())
        house.execute("CREATE TABLE log AS FROM rows")
    mapping = Log(feedback=(FromRow("like", at="early"),))
    assert put(database, f"duckdb://{file}?table=log&password=hush", mapping).dead_letters == 2
    sources = stored(connection, "SELECT DISTINCT source FROM dead_letters")
    assert sources == [(f"duckdb://{file}?table=log",)]


def test_any_sql_that_duckdb_runs(database: str, connection: psycopg.Connection, tmp_path: Path) -> None:
    file = tmp_path / "house.duckdb"
    with duckdb.connect(str(file)) as house:
        house.register("rows", rows(0, 6).to_arrow())
        house.execute("CREATE TABLE log AS FROM rows")
    assert put(database, f"duckdb://{file}?table=log") == AppendResult(6, 0, 0)
    rows(6, 2).write_parquet(tmp_path / "more.parquet")
    sql = quote(f"SELECT *, 'web' AS device FROM read_parquet('{tmp_path}/more.parquet')")
    assert put(database, f"duckdb://?query={sql}") == AppendResult(2, 0, 0)
    assert stored(connection, "SELECT count(*) FROM impressions WHERE context->>'device' = 'web'") == [(2,)]


EVENTS = pl.DataFrame(
    {
        "timestamp": [int((NOON + timedelta(seconds=s)).timestamp() * 1000) for s in (0, 5, 6, 7, 20, 21, 30, 40)],
        "visitorid": [1, 1, 1, 2, 1, 1, 2, 3],
        "event": ["view", "view", "addtocart", "view", "view", "transaction", "transaction", "refund"],
        "itemid": [10, 11, 10, 10, 10, 10, 12, 10],
        "paid": [None, None, None, None, None, 9.5, 1.0, None],
    }
)
RETAIL = Log(
    user_id="visitorid",
    item_id="itemid",
    shown_at="timestamp",
    events="event",
    shown=("view",),
    feedback=(FromEvent("cart", event="addtocart"), FromEvent("purchase", event="transaction", column="paid")),
)


def test_events_are_about_what_was_last_shown_of_their_item_to_their_user(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    log = tmp_path / "events.csv"
    EVENTS.sample(fraction=1, shuffle=True, seed=3).write_csv(log)
    done = put(database, log, RETAIL, label="cart")
    assert (done.imported, done.dead_letters) == (6, 1)
    assert "rows of other events left out: 1 'refund'" in done.notes
    assert done.reasons == {"purchase of an item that was not shown to the user before": 1}
    of_each = stored(
        connection,
        "SELECT kind, value, date_part('epoch', at - shown_at)::int, item_id FROM feedback JOIN impressions"
        " USING (impression_id) ORDER BY kind",
    )
    assert of_each == [("cart", 1.0, 6, "10"), ("purchase", 9.5, 1, "10")]
    assert stored(connection, "SELECT event->>'paid' FROM dead_letters") == [("1.0",)]
    assert put(database, log, RETAIL, label="cart").imported == 0


def test_clicks_alone_are_shown_among_what_was_clicked_before_each_by_its_share(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    count = 3000
    log = pl.DataFrame(
        {
            "user_id": [f"u{n % 40}" for n in range(count)],
            "item_id": ["hit" if n % 2 else f"rare{n % 20}" for n in range(count)],
            "shown_at": [NOON + timedelta(seconds=n) for n in range(count)],
            "device": [f"d{n % 2}" for n in range(count)],
            "price": [1.0 if n % 2 else 2.0 for n in range(count)],
        }
    )
    path = tmp_path / "clicks.parquet"
    log.write_parquet(path)
    mapping = Log(sampled=3, live=timedelta(minutes=10))
    declared = (Id("device"), Number("price", of="item"))
    done = put(database, path, mapping, declared=declared)
    assert done.dead_letters == 0
    [said] = [note for note in done.notes if note.startswith("clicks without impressions")]
    assert "up to 3 items" in said
    assert "'sampled'" in said
    shown = pl.read_database(
        "SELECT request_id, item_id, user_id, context, shown_at, EXISTS (SELECT FROM feedback f WHERE"
        " f.impression_id = i.impression_id) AS clicked FROM impressions i",
        connection,
    ).with_columns(pl.col("context").map_elements(lambda one: float(one["sampled"]), pl.Float64).alias("chance"))
    assert shown.filter("clicked").height == count
    assert shown.filter("clicked")["chance"].unique().to_list() == [1.0]
    sizes = shown.group_by("request_id").agg(pl.len(), pl.col("item_id").n_unique().alias("items"))
    assert (sizes["len"] == sizes["items"]).all()
    assert sizes["len"].max() == 4
    # An item's own column goes with it, the request's stays.
    for one in shown.to_dicts():
        assert json.loads(json.dumps(one["context"]))["price"] == ("1" if one["item_id"] == "hit" else "2")
    assert shown.group_by("request_id").agg(pl.col("context").struct.field("device").n_unique())["device"].max() == 1
    # What is drawn as often as its chance says: of clicks on rare items, by the chance of the hit beside them.
    later = shown.filter(pl.col("shown_at") > NOON + timedelta(minutes=11))
    rare = later.filter(pl.col("clicked") & (pl.col("item_id") != "hit")).select("request_id")
    beside = later.join(rare, on="request_id").filter(pl.col("item_id") == "hit")
    expected = 1 - 0.5**3
    assert beside["chance"].to_numpy() == pytest.approx(expected, abs=0.01)
    assert beside.height / rare.height == pytest.approx(
        expected, abs=4 * (expected * (1 - expected) / rare.height) ** 0.5
    )
    again = put(database, path, mapping, declared=declared)
    assert (again.imported, again.dead_letters) == (0, 0)


def test_users_have_their_own_file(database: str, connection: psycopg.Connection, tmp_path: Path) -> None:
    rows(0, 4).write_parquet(tmp_path / "log.parquet")
    people = tmp_path / "people.csv"
    people.write_text("uid,plan\n0,free\n1,paid\n,none\n0,again\n")
    done = put(
        database, tmp_path / "log.parquet", Log(users_key="uid"), users=people, declared=(Id("plan", of="user"),)
    )
    assert done.reasons == {"user_id is missing": 1, "duplicate user_id": 1}
    assert stored(connection, "SELECT user_id, attributes FROM users ORDER BY 1") == [
        ("0", {"plan": "free"}),
        ("1", {"plan": "paid"}),
    ]
    assert done.notes == ()


def test_rows_that_are_alike_and_requests_of_their_own_are_apart(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,shown_at,clicked\n" + "u,a,2026-03-01T12:00:00Z,1\n" * 3)
    assert put(database, path, Log(one_candidate=True)) == AppendResult(3, 0, 0)
    [(impressions, requests, clicks)] = stored(
        connection,
        "SELECT count(DISTINCT impression_id), count(DISTINCT request_id), (SELECT count(*) FROM feedback)"
        " FROM impressions",
    )
    assert (impressions, requests, clicks) == (3, 3, 3)


def test_an_item_that_comes_again_in_another_file_is_told(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    rows(0, 2).write_parquet(tmp_path / "log.parquet")
    folder = tmp_path / "items"
    folder.mkdir()
    (folder / "a.csv").write_text("item_id,section\n0,news\n1,film\n")
    (folder / "b.csv").write_text("item_id,section\n1,art\n2,art\n")
    done = put(database, tmp_path / "log.parquet", items=folder)
    assert done.reasons == {"duplicate item_id": 1}
    kept = stored(connection, "SELECT item_id, attributes->>'section' FROM items ORDER BY 1")
    assert kept == [("0", "news"), ("1", "film"), ("2", "art")]


def test_objects_in_a_row_are_columns_of_their_own(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    mapping = Log(user_id="user.id", item_id="item.id", shown_at="at", feedback=(FromRow("click", column="done"),))
    lines = [
        {"user": {"id": 7, "home": {"country": "br"}}, "item": {"id": "a"}, "at": NOON.timestamp(), "done": "yes"},
        {"user": {"id": 8, "home": None}, "item": {"id": "b", "none": {}}, "at": NOON.timestamp(), "done": "no"},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    nested = pl.read_ndjson(tmp_path / "log.jsonl", infer_schema_length=None)
    nested.drop("item").with_columns(item=pl.struct(id=pl.lit("c"))).write_parquet(tmp_path / "log.parquet")
    done = put(database, tmp_path / "log.jsonl", mapping) + put(database, tmp_path / "log.parquet", mapping)
    assert (done.imported, done.dead_letters) == (4, 0)
    found = stored(connection, "SELECT user_id, item_id, context->>'user.home.country' FROM impressions ORDER BY 1, 2")
    assert found == [("7", "a", "br"), ("7", "c", "br"), ("8", "b", None), ("8", "c", None)]
    assert stored(connection, "SELECT count(*) FROM feedback") == [(2,)]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_a_text_is_recognised_by_its_beginning_and_its_separator_by_its_header(
    database: str, connection: psycopg.Connection, tmp_path: Path, separator: str
) -> None:
    for name, first in (("log.csv", 0), ("log.dat", 4)):
        log = rows(first, 4).with_columns(pl.col("shown_at").dt.strftime("%m/%d/%Y %I:%M:%S %p"), note=pl.lit("a,b"))
        log.write_csv(tmp_path / name, separator=separator)
    mapping = Log(time_zone="America/New_York", time_format="%m/%d/%Y %I:%M:%S %p")
    assert put(database, tmp_path, mapping).imported == 8
    first, last = stored(connection, "SELECT min(shown_at), max(shown_at) FROM impressions")[0]
    assert (first, last) == (NOON + timedelta(hours=5), NOON + timedelta(hours=5, seconds=7))
    (tmp_path / "lines").write_text(rows(8, 2).with_columns(pl.col("shown_at").dt.epoch("s")).write_ndjson())
    assert put(database, tmp_path / "lines", replace(mapping, time_zone="UTC")).imported == 2


def test_a_text_without_names_is_refused_with_its_first_line(database: str, tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("196\t242\t3\t881250949\n186\t302\t3\t891717742\n")
    with pytest.raises(ImportRefused, match=r"its first line is '196\\t242.*write a line of names above it"):
        put(database, tmp_path / "u.data")
    (tmp_path / "u.data").write_bytes(b"\x00\x01\x02")
    with pytest.raises(ImportRefused, match=r"u\.data is not a parquet file"):
        put(database, tmp_path / "u.data")


def test_a_row_of_lists_is_a_request_of_an_impression_for_each_entry(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    mapping = Log(item_id="items.id", lists=("items", "done"), feedback=(FromRow("click", column="done"),))
    at = NOON.isoformat()
    lines = [
        {"user_id": 7, "shown_at": at, "page": "home", "items": [{"id": "a", "price": 2}, {"id": "b"}], "done": [0, 1]},
        {"user_id": 8, "shown_at": at, "page": "home", "items": [], "done": []},
        {"user_id": 8, "shown_at": at, "page": None, "items": [{"id": "a"}], "done": [1, 0]},
        {"user_id": 8, "shown_at": at, "page": None, "items": [{"id": "a"}, {"id": ""}], "done": [1, 0]},
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = put(database, path, mapping)
    assert (done.imported, done.dead_letters) == (3, 3)
    found = stored(
        connection, "SELECT user_id, item_id, position, context->>'items.price' FROM impressions ORDER BY 1, 3"
    )
    assert found == [("7", "a", 0, "2"), ("7", "b", 1, None), ("8", "a", 0, None)]
    assert stored(connection, "SELECT count(DISTINCT request_id) FROM impressions") == [(2,)]
    clicked = "SELECT item_id, user_id FROM feedback JOIN impressions USING (surface, impression_id) ORDER BY 1"
    assert stored(connection, clicked) == [("a", "8"), ("b", "7")]
    letters = stored(connection, "SELECT line, reason FROM dead_letters ORDER BY 1")
    assert letters == [
        (2, "items is empty: nothing was shown"),
        (3, "lists of different lengths: items 1, done 2"),
        (4, "item_id is missing"),
    ]
    again = put(database, path, mapping)
    assert (again.imported, again.already_there) == (0, 3)
    fixed = rows(20, 2).with_columns(item_id=pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2)))
    fixed.drop("position", "impression_id").write_parquet(tmp_path / "fixed.parquet")
    assert put(database, tmp_path / "fixed.parquet", Log(lists=("item_id",))).imported == 4


def test_lists_that_are_none_are_refused(database: str, tmp_path: Path) -> None:
    rows(0, 4).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(ImportRefused, match=r"'item_id', which Log\(lists=...\) names, holds Int64 and no lists"):
        put(database, tmp_path / "log.parquet", Log(lists=("item_id",)))
    with pytest.raises(ImportRefused, match="lacks the column 'items'"):
        put(database, tmp_path / "log.parquet", Log(lists=("items",)))
    with pytest.raises(ValueError, match="lists are of rows that are requests"):
        Log(lists=("items",), sampled=4)
    with pytest.raises(ValueError, match=r"one alone wants a comma"):
        Log(lists="items")  # type: ignore[arg-type]
