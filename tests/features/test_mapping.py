"""A team's own columns become those of the event log; what a log lacks is made up by a rule, and said."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import psycopg
import pytest

from features.declare.columns import Id, Number
from features.declare.log import FromRow, Log
from features.ingest.checking import FileTimes
from features.ingest.file_columns import instant
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from features.ingest.sources import ImportRefused
from features.log.append_result import AppendResult

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = NOON + timedelta(days=1)

RATINGS = pl.DataFrame(
    {
        "userId": [1, 1, 1, 2, 2],
        "movieId": [10, 11, 12, 10, 10],
        "rating": [4.5, 3.0, None, 0.5, 0.5],
        "timestamp": [int((NOON + timedelta(seconds=s)).timestamp()) for s in (0, 0, 90, 5, 5)],
        "year": [1999, 2001, 2003, 1999, 1999],
    }
)
MOVIES = Log(user_id="userId", item_id="movieId", shown_at="timestamp", feedback=(FromRow("rating", column="rating"),))

WRITERS: dict[str, Callable[[pl.DataFrame, Path], object]] = {
    "log.parquet": lambda frame, path: frame.write_parquet(path),
    "log.csv": lambda frame, path: frame.write_csv(path),
    "log.tsv": lambda frame, path: frame.write_csv(path, separator="\t"),
    "log.jsonl": lambda frame, path: frame.write_ndjson(path),
    "log.csv.gz": lambda frame, path: path.write_bytes(gzip.compress(frame.write_csv().encode())),
}


def stored(connection: psycopg.Connection, query: str) -> list[tuple[object, ...]]:
    return connection.execute(query).fetchall()


@pytest.mark.parametrize("name", WRITERS)
def test_ratings_with_epoch_seconds_and_no_ids_of_impressions(
    database: str, connection: psycopg.Connection, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    WRITERS[name](RATINGS, path)

    def put() -> tuple[int, int, int]:
        done = import_log(
            database,
            "movies",
            Files(path),
            times=FileTimes(NOW),
            label="rating",
            mapping=MOVIES,
            declared=(Number("year"), Id("studio", of="item")),
        )
        assert done.notes == (
            "no impression ids: each is a checksum of its row",
            "no request ids: rows of one user within 1 s of each other are one",
            "no positions",
            "declared, in no row: studio",
        )
        return done.imported, done.already_there, done.dead_letters

    assert put() == (5, 0, 0)
    assert put() == (0, 5, 0)  # the same ids again, of alike rows too
    shown = stored(connection, "SELECT user_id, item_id, context, shown_at FROM impressions ORDER BY shown_at, item_id")
    assert shown[0] == ("1", "10", {"year": "1999"}, NOON)
    assert [row[:2] for row in shown] == [("1", "10"), ("1", "11"), ("2", "10"), ("2", "10"), ("1", "12")]
    sizes = stored(connection, "SELECT count(*) FROM impressions GROUP BY request_id ORDER BY 1")
    assert sizes == [(1,), (2,), (2,)]
    values = stored(connection, "SELECT kind, value FROM feedback ORDER BY value")
    assert values == [("rating", 0.5), ("rating", 0.5), ("rating", 3.0), ("rating", 4.5)]


@pytest.mark.parametrize("name", WRITERS)
def test_a_log_in_millraces_own_columns_is_the_same_in_every_format(
    database: str, connection: psycopg.Connection, tmp_path: Path, name: str
) -> None:
    rows = pl.DataFrame(
        {
            "impression_id": ["a", "b", "c", "d"],
            "request_id": ["r", "r", "r", "s"],
            "user_id": [7, 7, 7, 8],
            "item_id": ["x", "y", "z", "x"],
            "position": [0, None, 2, 1],
            "shown_at": [NOON] * 4,
            "clicked": [True, False, None, True],
            "clicked_at": [NOON + timedelta(seconds=9), None, None, None],
            "propensity": [0.5, None, 1.0, 1.0],
            "device": ["phone", None, "phone", "7"],
        }
    )
    path = tmp_path / name
    texts = rows.with_columns(pl.col("shown_at", "clicked_at").dt.to_string("%Y-%m-%dT%H:%M:%SZ"))
    WRITERS[name](rows if name == "log.parquet" else texts, path)
    done = import_log(database, "feed", Files(path), times=FileTimes(NOW))
    assert (done.imported, done.dead_letters) == (3, 1)
    shown = "SELECT impression_id, user_id, position, propensity, context FROM impressions ORDER BY 1"
    assert stored(connection, shown) == [
        ("a", "7", 0, 0.5, {"device": "phone"}),
        ("b", "7", None, None, {}),
        ("d", "8", 1, 1.0, {"device": "7"}),
    ]
    clicks = stored(connection, "SELECT impression_id, at FROM feedback ORDER BY 1")
    assert clicks == [("a", NOON + timedelta(seconds=9)), ("d", NOON)]
    assert stored(connection, "SELECT line, reason FROM dead_letters") == [(3, "clicked is missing")]


@pytest.mark.parametrize("name", ["log.parquet", "log.csv"])
def test_late_feedback_that_stands_in_the_row_and_times_without_a_zone(
    database: str, connection: psycopg.Connection, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    naive = datetime(2026, 3, 1, 13)  # noqa: DTZ001
    clicks = {
        "ip": [7, 7],
        "app": [3, 3],
        "click_time": [naive] * 2,
        "attributed_time": [None, naive + timedelta(hours=2)],
    }
    WRITERS[name](pl.DataFrame(clicks | {"is_attributed": [0, 1]}), path)
    ads = Log(
        user_id="ip",
        item_id="app",
        shown_at="click_time",
        time_zone="Europe/Berlin",
        one_candidate=True,
        feedback=(FromRow("install", at="attributed_time"),),
    )

    def put(log: Log) -> AppendResult:
        return import_log(database, "ads", Files(path), times=FileTimes(NOW), mapping=log)

    without = put(replace(ads, time_zone=None))
    assert without.reasons == {"shown_at is naive: it has no time zone": 2}
    assert put(ads).imported == 2
    assert stored(connection, "SELECT DISTINCT shown_at FROM impressions") == [(NOON,)]
    assert stored(connection, "SELECT kind, value, at FROM feedback") == [("install", 1.0, NOON + timedelta(hours=2))]
    assert stored(connection, "SELECT count(DISTINCT request_id) FROM impressions") == [(2,)]


def test_times_that_are_texts_with_a_zone_make_requests_and_feedback_as_others_do(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "user_id,item_id,shown_at,bought,bought_at\n"
        "ann,1,2026-03-01T12:00:00Z,2,2026-03-01 13:30:00+01:00\n"
        "ann,2,2026-03-01T13:00:00.5+01:00,0,\n"
        "ann,3,2026-03-01T12:00:09Z,3,soon\n"
        "ann,4,today,1,\n"
    )
    shop = Log(feedback=(FromRow("purchase", column="bought", at="bought_at"),))
    done = import_log(database, "shop", Files(path), times=FileTimes(NOW), mapping=shop)
    assert (done.imported, done.dead_letters) == (3, 2)
    sizes = stored(connection, "SELECT count(*) FROM impressions GROUP BY request_id ORDER BY 1")
    assert sizes == [(1,), (2,)]
    bought = stored(connection, "SELECT value, at FROM feedback")
    assert bought == [(2.0, NOON + timedelta(minutes=30))]
    reasons = stored(connection, "SELECT line, reason FROM dead_letters ORDER BY reason, line")
    assert reasons == [(3, "at is not a time"), (4, "shown_at is not a time")]


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (Log(item_id="movieId", shown_at="timestamp"), r"lacks the column 'user_id'; say .*log=Log\(user_id="),
        (Log(user_id="uesrId", item_id="movieId", shown_at="timestamp"), r"'uesrId', which Log\(user_id='uesrId'\)"),
        (
            Log(user_id="userId", item_id="movieId", shown_at="timestamp", position="rank"),
            r"'rank', which Log\(position=",
        ),
        (
            Log(user_id="userId", item_id="movieId", shown_at="timestamp", feedback=(FromRow("like", column="likes"),)),
            r"'likes', which FromRow\('like'\) names",
        ),
    ],
)
def test_what_no_rule_makes_up_says_what_to_write(database: str, tmp_path: Path, log: Log, words: str) -> None:
    path = tmp_path / "log.parquet"
    RATINGS.write_parquet(path)
    with pytest.raises(ImportRefused, match=words):
        import_log(database, "movies", Files(path), times=FileTimes(NOW), mapping=log)


@pytest.mark.parametrize("times", [1, 1_000, 1_000_000, 1_000_000_000])
@pytest.mark.parametrize("as_text", [False, True])
def test_numbers_are_times_by_their_size(times: int, as_text: bool) -> None:
    numbers = pl.Series("at", [int(NOON.timestamp()) * times, None])
    frame = (numbers.cast(pl.String) if as_text else numbers).to_frame()
    read = instant("at", frame.schema["at"], timedelta(0))
    assert frame.select(read.value.alias("at"))["at"].to_list() == [NOON, None]


def test_small_numbers_are_no_times() -> None:
    frame = pl.DataFrame({"at": [1, 2, 3]})
    wrong = frame.select(instant("at", frame.schema["at"], timedelta(0), "UTC").wrong)
    assert wrong.to_series().to_list() == ["at is not a time"] * 3
