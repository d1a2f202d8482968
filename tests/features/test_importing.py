"""`millrace import`: a file's good rows into the log, its bad rows into the dead letters, each once."""

import json
import os
import random
import string
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.ingest import importing
from features.ingest.checking import FileTimes
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from features.ingest.sources import ImportRefused
from features.log.append_result import AppendResult
from features.log.reading import extent, read_events

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = NOON + timedelta(days=1)
DATA = Path(os.environ.get("MILLRACE_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def log_frame(rows: int = 6, **columns: Any) -> pl.DataFrame:
    """An impression a second from noon, the first of three clicked."""
    frame = pl.DataFrame(
        {
            "impression_id": range(rows),
            "request_id": [n // 3 for n in range(rows)],
            "user_id": [f"u{n // 3}" for n in range(rows)],
            "item_id": [100 + n for n in range(rows)],
            "position": [n % 3 for n in range(rows)],
            "shown_at": [NOON + timedelta(seconds=n) for n in range(rows)],
            "clicked": [n % 3 == 0 for n in range(rows)],
            "device": ["phone"] * rows,
            "age": [0.5] * rows,
        }
    )
    return frame.with_columns(pl.Series(name, values) for name, values in columns.items())


TIMES = ("now", "until", "from_", "shift")


class Shelf:
    """Writes frames to files and imports them."""

    def __init__(self, database: str, folder: Path) -> None:
        self.database = database
        self.folder = folder

    def write(self, frame: pl.DataFrame, name: str) -> Path:
        frame.write_parquet(self.folder / name)
        return self.folder / name

    def put(
        self,
        log: pl.DataFrame,
        *,
        items: pl.DataFrame | None = None,
        feedback: pl.DataFrame | None = None,
        **more: Any,
    ) -> AppendResult:
        return import_log(
            self.database,
            "feed",
            Files(
                self.write(log, "log.parquet"),
                items=self.write(items, "items.parquet") if items is not None else None,
                feedback=self.write(feedback, "feedback.parquet") if feedback is not None else None,
            ),
            times=FileTimes(**{"now": NOW} | {name: more.pop(name) for name in [*more] if name in TIMES}),
            **more,
        )


@pytest.fixture
def shelf(database: str, tmp_path: Path) -> Shelf:
    return Shelf(database, tmp_path)


def buried(connection: psycopg.Connection) -> dict[int, str]:
    rows = connection.execute("SELECT line, reason FROM dead_letters ORDER BY line").fetchall()
    assert len({line for line, _ in rows}) == len(rows), "a line was buried twice"
    return dict(rows)


def test_a_log_with_items_and_feedback_is_imported_in_order_of_time(
    shelf: Shelf, connection: psycopg.Connection
) -> None:
    dwell = pl.DataFrame(
        {"impression_id": [3, 0], "kind": ["dwell"] * 2, "value": [7.5, 31], "at": [NOON + timedelta(seconds=4)] * 2}
    )
    items = pl.DataFrame({"item_id": [100, 103], "section": ["news", "film"], "tags": [["a", "b"], []]})
    seen: list[tuple[str, int, int]] = []
    done = shelf.put(
        log_frame()[::-1], items=items, feedback=dwell, progress=lambda what, n, of: seen.append((what, n, of))
    )
    assert done == AppendResult(imported=8)
    assert seen[:3] == [("read", 6, 6), ("read", 2, 2), ("read", 2, 2)]
    assert seen[-1] == ("import", 10, 10)
    events = read_events(connection, "feed", 0, 100)
    assert list(events.select("kind", "impression_id").iter_rows()) == [
        ("impression", "0"),
        ("click", "0"),
        ("impression", "1"),
        ("impression", "2"),
        ("impression", "3"),
        ("click", "3"),
        ("impression", "4"),
        ("dwell", "3"),
        ("dwell", "0"),
        ("impression", "5"),
    ]
    first = events.row(0, named=True)
    assert (first["request_id"], first["user_id"], first["item_id"], first["live"]) == ("0", "u0", "100", False)
    assert first["known_at"] == first["shown_at"] == NOON.timestamp()
    assert json.loads(first["context"]) == {"age": "0.5", "device": "phone"}
    assert json.loads(first["attributes"]) == {"tags": '["a","b"]', "section": "news"}


def test_importing_again_changes_nothing(shelf: Shelf, connection: psycopg.Connection) -> None:
    log = log_frame(user_id=["u", None, "u", "u", "u", "u"])
    assert shelf.put(log) == AppendResult(5, 0, 1)
    before = read_events(connection, "feed", 0, 100)
    assert shelf.put(log) == AppendResult(0, 5, 1)
    assert read_events(connection, "feed", 0, 100).equals(before)
    assert buried(connection) == {2: "user_id is missing"}


def test_a_killed_import_goes_on_where_it_was(
    shelf: Shelf, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "CHUNK", 10)

    def stop(what: str, finished: int, total: int) -> None:
        if what == "import" and finished >= total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shelf.put(log_frame(60), progress=stop)
    half = read_events(connection, "feed", 0, 1000)
    assert 40 <= half.height < 60
    done = shelf.put(log_frame(60))
    assert done.imported + done.already_there == 60
    assert done.already_there == half.filter(kind="impression").height
    events = read_events(connection, "feed", 0, 1000)
    assert events.height == 80
    assert events["known_at"].is_sorted()
    assert events.head(half.height).equals(half)


LONG = "".join(random.Random(1).choices(string.ascii_letters, k=3000))
"""Nothing that an index would compress."""

BAD: dict[str, tuple[str, list[Any], str]] = {
    "a missing id": ("impression_id", [0, None, 2, 3, 4, 5], "impression_id is missing"),
    "an id that pandas made a gap in": ("item_id", [1.0, float("nan"), 3.0, 4.0, 5.0, 6.0], "item_id is missing"),
    "an empty id": ("user_id", ["u", "", "u", "u", "u", "u"], "user_id is missing"),
    "an id with a NUL": ("user_id", ["u", "\0", "u", "u", "u", "u"], "user_id holds a NUL character"),
    "a broken number for an id": (
        "request_id",
        [0.0, 0.5, 0.0, 1.0, 1.0, 1.0],
        "request_id is neither text nor a whole number",
    ),
    "no time": ("shown_at", [NOON, None, NOON, NOON, NOON, NOON], "shown_at is absent"),
    "a time to come": ("shown_at", [NOON, NOW + timedelta(microseconds=1)] + [NOON] * 4, "shown_at is in the future"),
    "a time before the web": (
        "shown_at",
        [NOON, datetime(1969, 1, 1, tzinfo=UTC)] + [NOON] * 4,
        "shown_at is before 1970",
    ),
    "a time without a zone": (
        "shown_at",
        ["2026-03-01T12:00:00Z", "2026-03-01T12:00:00"] + ["2026-03-01 14:00:00.5+02:00"] * 4,
        "shown_at is naive: it has no time zone",
    ),
    "a text for a time": (
        "shown_at",
        ["2026-03-01T12:00:00Z", "noon"] + ["2026-03-01T12:00:00Z"] * 4,
        "shown_at is not a time",
    ),
    "no knowing whether it was clicked": ("clicked", [True, None, False, False, False, False], "clicked is missing"),
    "something else than a click": ("clicked", [1, 2, 0, 0, 0, 0], "clicked is neither true nor false"),
    "a text for a position": ("position", ["0", "first", "2", "0", "1", "2"], "position is not a whole number"),
    "an id of 3,000 characters": (
        "item_id",
        ["x", LONG, "x", "x", "x", "x"],
        "item_id has more than 256 bytes in UTF-8",
    ),
    "a key of 3,000 characters": (
        "impression_id",
        ["0", LONG, "2", "3", "4", "5"],
        "impression_id has more than 256 bytes in UTF-8",
    ),
    "an id that a float no longer holds": (
        "user_id",
        pl.Series([1, 20_000_000, 2, 3, 4, 5], dtype=pl.Float32),
        "user_id is neither text nor a whole number",
    ),
    "a position below 0": ("position", [0, -1, 2, 0, 1, 2], "position is below 0"),
    "a position beyond 32 bits": ("position", [0, 2**31, 2, 0, 1, 2], "position is not a whole number"),
    "a propensity of nothing": ("propensity", [0.5, 0.0] + [1.0] * 4, "propensity is not in (0, 1]"),
    "a propensity that is no number": (
        "propensity",
        [0.5, float("nan")] + [1.0] * 4,
        "propensity is not in (0, 1]",
    ),
    "a time beyond the calendar": (
        "shown_at",
        pl.Series([0, 2**63 - 1, 0, 0, 0, 0]).cast(pl.Datetime("us", "UTC")),
        "shown_at is in the future",
    ),
    "a time before the calendar": (
        "shown_at",
        ["2026-03-01T12:00:00Z", "0001-01-01T00:00:00+14:00"] + ["2026-03-01T12:00:00Z"] * 4,
        "shown_at is before 1970",
    ),
    "a context value of 2,000 characters": (
        "device",
        ["phone", "x" * 2000, "phone", "phone", "phone", "phone"],
        "'device' in context must have at most 1024 bytes in UTF-8, has 2000",
    ),
    "a key that was there": ("impression_id", [0, 0, 2, 3, 4, 5], "duplicate impression_id"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_goes_to_the_dead_letters_with_its_line_and_the_rest_is_imported(
    shelf: Shelf, connection: psycopg.Connection, case: str
) -> None:
    column, values, reason = BAD[case]
    assert shelf.put(log_frame(6, **{column: values})) == AppendResult(5, 0, 1)
    assert buried(connection) == {2: reason}
    assert read_events(connection, "feed", 0, 100).filter(kind="impression").height == 5
    source, event = connection.execute("SELECT source, event FROM dead_letters").fetchone() or ("", {})
    assert source == str(shelf.folder / "log.parquet")
    assert event["age"] == 0.5, "the row is kept as it was"


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("shown_at", [NOON.replace(tzinfo=None)] * 6, "shown_at is naive: it has no time zone"),
        ("shown_at", [date(2026, 3, 1)] * 6, "shown_at is naive: it has no time zone"),
        ("shown_at", [17_723] * 6, "shown_at is not a time"),
        ("user_id", [[1]] * 6, "user_id is neither text nor a whole number"),
        ("user_id", [True] * 6, "user_id is neither text nor a whole number"),
        ("clicked", ["perhaps"] * 6, "clicked is neither true nor false"),
    ],
)
def test_a_column_of_a_wrong_type_buries_every_row(
    shelf: Shelf, connection: psycopg.Connection, column: str, values: list[Any], reason: str
) -> None:
    assert shelf.put(log_frame(6, **{column: values})) == AppendResult(0, 0, 6)
    assert buried(connection) == dict.fromkeys(range(1, 7), reason)
    assert extent(connection, "feed") is None


def test_harmless_differences_are_taken_as_they_are_meant(shelf: Shelf, connection: psycopg.Connection) -> None:
    log = log_frame(
        impression_id=[float(n) for n in range(6)],
        item_id=pl.Series([b"a"] * 6),
        user_id=pl.Series(["u"] * 6, dtype=pl.Categorical),
        position=[0.0, float("nan"), 2.0, 0.0, 1.0, 2.0],
        shown_at=pl.Series([NOON.replace(tzinfo=None)] * 6)
        .dt.replace_time_zone("Asia/Tokyo")
        .cast(pl.Datetime("ns", "Asia/Tokyo")),
        clicked=[1.0, 0.0, 0.0, 1.0, 0.0, 0.0],
        device=pl.Series([b"phone"] * 5 + [b"\xff"]),
        os=[3.0, None, float("nan"), 2.0, 1.0, 4.0],
        age=[float("nan"), float("inf"), 1.0, 1.0, 1.0, None],
    )
    assert shelf.put(log) == AppendResult(6, 0, 0)
    events = read_events(connection, "feed", 0, 100).filter(kind="impression")
    assert events["impression_id"].to_list() == [str(n) for n in range(6)]
    assert events["shown_at"].unique().to_list() == [(NOON - timedelta(hours=9)).timestamp()]
    context = [json.loads(text) for text in events["context"]]
    assert context[:3] == [{"device": "phone", "os": "3"}, {"device": "phone"}, {"device": "phone", "age": "1"}]
    assert context[5] == {"device": "\\xff", "os": "4"}


def test_a_click_has_its_own_time_when_the_file_knows_it(shelf: Shelf, connection: psycopg.Connection) -> None:
    later = NOON + timedelta(seconds=30)
    early = NOON - timedelta(minutes=6)
    clicked_at = [later, NOON, None, None, early, NOW + timedelta(days=1)]
    log = log_frame(clicked=[True, False, False, True, True, True], clicked_at=clicked_at)
    assert shelf.put(log) == AppendResult(4, 0, 2)
    assert buried(connection) == {
        5: "clicked_at 2026-03-01T11:54:00+00:00 is more than 5 minutes before shown_at 2026-03-01T12:00:04+00:00",
        6: "clicked_at is in the future",
    }
    clicks = read_events(connection, "feed", 0, 100).filter(kind="click")
    at = {"0": later.timestamp(), "3": (NOON + timedelta(seconds=3)).timestamp()}
    assert dict(clicks.select("impression_id", "at").iter_rows()) == at


def test_bad_feedback_and_items_are_buried_too(shelf: Shelf, connection: psycopg.Connection) -> None:
    feedback = pl.DataFrame(
        {
            "impression_id": ["0", "0", "1", "2", None, "3", "4"],
            "kind": ["dwell", "dwell", "dwell", "dwell", "dwell", None, "like"],
            "value": [1.0, 2.0, float("nan"), None, 1.0, 1.0, 1.0],
            "at": [NOON] * 6 + [NOW + timedelta(seconds=1)],
        }
    )
    items = pl.DataFrame({"item_id": ["100", None, "100"], "section": ["a", "b", "c"]})
    assert shelf.put(log_frame(), feedback=feedback, items=items) == AppendResult(7, 0, 8)
    rows = connection.execute("SELECT source, line, reason FROM dead_letters").fetchall()
    assert {(Path(source).name, line, reason) for source, line, reason in rows} == {
        ("feedback.parquet", 2, "duplicate impression_id and kind"),
        ("feedback.parquet", 3, "value is not a finite number"),
        ("feedback.parquet", 4, "value is not a finite number"),
        ("feedback.parquet", 5, "impression_id is missing"),
        ("feedback.parquet", 6, "kind is missing"),
        ("feedback.parquet", 7, "at is in the future"),
        ("items.parquet", 2, "item_id is missing"),
        ("items.parquet", 3, "duplicate item_id"),
    }
    assert connection.execute("SELECT item_id, attributes->>'section' FROM items").fetchall() == [("100", "a")]


def test_feedback_that_is_no_number_or_no_kind_or_long_before_its_showing_is_buried_with_its_line(
    shelf: Shelf, connection: psycopg.Connection
) -> None:
    early, skewed = NOON - timedelta(hours=1), NOON - timedelta(minutes=4)
    feedback = pl.DataFrame(
        {
            "impression_id": ["0", "0", "1", "1", "1", "2"],
            "kind": ["dwell", "like", "x" * 3000, "Click!", "impression", "dwell"],
            "value": ["1", "9" * 400, "1", "1", "1", "0"],
            "at": [early] + [NOON] * 4 + [skewed],
        }
    )
    assert shelf.put(log_frame(), feedback=feedback) == AppendResult(7, 0, 5)
    reasons = buried(connection)
    assert reasons.keys() == {1, 2, 3, 4, 5}
    assert early.isoformat() in reasons[1]
    assert NOON.isoformat() in reasons[1]
    assert reasons[2] == "value is not a finite number"
    sources = connection.execute("SELECT DISTINCT source FROM dead_letters").fetchall()
    assert sources == [(str(shelf.folder / "feedback.parquet"),)]
    events = read_events(connection, "feed", 0, 100)
    assert events.filter(kind="dwell").select("at", "shown_at").rows() == [(NOON.timestamp() + 2,) * 2]


def test_another_impression_under_a_known_id_is_a_conflict_and_told(
    shelf: Shelf, connection: psycopg.Connection
) -> None:
    assert shelf.put(log_frame()) == AppendResult(6, 0, 0)
    users = ["u0", "another", "u0", "u1", "u1", "u1"]
    assert shelf.put(log_frame(user_id=users)) == AppendResult(0, 5, 1)
    assert buried(connection) == {2: "impression_id is that of item 101 for user u0 in request 0"}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_file_is_taken_row_by_row(shelf: Shelf, data: st.DataObject) -> None:
    """Whatever its columns hold: each row is imported, there already, or a dead letter. Objects are columns of their
    own, so a log that has those where an id or a time should be lacks that column."""
    columns = {
        name: data.draw(st.sampled_from(WILD), label=name)
        for name in data.draw(st.sets(st.sampled_from([*log_frame().columns, "propensity", "clicked_at", "x"])))
    }
    lacks = {name for name, values in columns.items() if values.dtype == pl.Struct} & {"user_id", "item_id", "shown_at"}
    if lacks:
        with pytest.raises(ImportRefused, match=f"lacks the column '({'|'.join(lacks)})'"):
            shelf.put(log_frame(4, **columns))
    else:
        done = shelf.put(log_frame(4, **columns))
        assert done.imported + done.already_there + done.dead_letters >= 4


WILD = [
    pl.Series(["a", "", "\0", "x" * 3000]),
    pl.Series([b"a", b"\xff", b"", None]),
    pl.Series([0, -1, 2**63 - 1, -(2**63)]),
    pl.Series([0, 2**64 - 1, 1, 2], dtype=pl.UInt64),
    pl.Series([0.5, float("nan"), float("inf"), -1e300]),
    pl.Series([0.1, 2.0, float("nan"), 3e38], dtype=pl.Float32),
    pl.Series([True, False, None, True]),
    pl.Series([None, None, None, None]),
    pl.Series([0, 2**63 - 1, -(2**63), None]).cast(pl.Datetime("us", "UTC")),
    pl.Series([0, 2**63 - 1, -(2**63), None]).cast(pl.Datetime("ms")),
    pl.Series([0, 2**31 - 1, -(2**31), 1], dtype=pl.Int32).cast(pl.Date),
    pl.Series([timedelta(days=10**6), None, timedelta(0), timedelta(seconds=-1)]),
    pl.Series(["1.5", "2", None, "-3"]).cast(pl.Decimal(38, 2)),
    pl.Series(["a", "b", None, "a"], dtype=pl.Categorical),
    pl.Series([["a"], [], None, ["b", "c"]]),
    pl.Series([{"a": 1.0}, {"a": None}, None, {"a": float("nan")}]),
    pl.Series(["2026-03-01T12:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "noon"]),
]


def test_only_the_span_asked_for_is_imported(shelf: Shelf, connection: psycopg.Connection) -> None:
    feedback = pl.DataFrame(
        {
            "impression_id": [3, 3],
            "kind": ["dwell", "like"],
            "value": [1.0, 1.0],
            "at": [NOON + timedelta(seconds=n) for n in (4, 9)],
        }
    )
    span: dict[str, Any] = {"from_": NOON + timedelta(seconds=1), "until": NOON + timedelta(seconds=4)}
    shift = timedelta(hours=5)
    assert shelf.put(
        log_frame(user_id=["u", "u", None, "u", "u", None]), feedback=feedback, shift=shift, **span
    ) == AppendResult(3, 0, 1)
    assert buried(connection) == {3: "user_id is missing"}
    events = read_events(connection, "feed", 0, 100)
    assert list(events.select("kind", "impression_id").iter_rows()) == [
        ("impression", "3"),
        ("click", "3"),
        ("impression", "4"),
        ("dwell", "3"),
    ]
    assert events["at"].to_list()[0] == (NOON + timedelta(seconds=3) + shift).timestamp()


def test_a_file_that_is_no_log_is_refused_whole(shelf: Shelf, connection: psycopg.Connection, database: str) -> None:
    good = shelf.write(log_frame(), "good.parquet")
    text = shelf.folder / "text.parquet"
    text.write_text("impression_id,request_id\n1,2\n")
    torn = shelf.folder / "torn.parquet"
    torn.write_bytes(good.read_bytes()[:-100])

    def put(log: Path, items: Path | None = None, feedback: Path | None = None) -> None:
        import_log(database, "feed", Files(log, items=items, feedback=feedback), times=FileTimes(NOW))

    for path in (text, torn, shelf.folder / "none.parquet", shelf.folder):
        with pytest.raises(ImportRefused, match=path.name):
            put(path)
    for column in ("user_id", "item_id", "shown_at"):
        with pytest.raises(ImportRefused, match=f"lacks the column '{column}'"):
            put(shelf.write(log_frame().drop(column), "lacking.parquet"))
    with pytest.raises(ImportRefused, match="'item_id'"):
        put(good, items=shelf.write(pl.DataFrame({"id": [1]}), "items.parquet"))
    with pytest.raises(ImportRefused, match="'kind', 'value', 'at'"):
        put(good, feedback=shelf.write(pl.DataFrame({"impression_id": [1]}), "feedback.parquet"))
    assert connection.execute("SELECT count(*) FROM dead_letters").fetchone() == (0,)
    assert extent(connection, "feed") is None


def test_an_empty_log_is_a_log(shelf: Shelf) -> None:
    assert shelf.put(log_frame().clear()) == AppendResult(0, 0, 0)


def test_a_real_log_goes_in_fast_and_comes_out_whole(database: str, connection: psycopg.Connection) -> None:
    log = DATA / "globo_feed.parquet"
    if not log.exists():
        pytest.skip(f"{log} is not here; MILLRACE_DATA names the folder of the real logs")
    until = datetime(2017, 10, 2, tzinfo=UTC)
    rows = pl.scan_parquet(log).filter(pl.col("shown_at") <= until).collect()
    begin = time.perf_counter()
    done = import_log(
        database, "feed", Files(log, items=DATA / "globo_items.parquet"), times=FileTimes(NOW, until=until)
    )
    assert done == AppendResult(rows.height, 0, 0)
    events = read_events(connection, "feed", 0, 1_000_000)
    assert time.perf_counter() - begin < 60, "95,000 impressions take some 3 s on two idle cores"
    assert events.height == rows.height + rows["clicked"].sum()
    shown = events.filter(kind="impression")
    assert shown["impression_id"].to_list() == rows["impression_id"].cast(pl.String).to_list()
    assert (shown["shown_at"] * 1e6).round().cast(pl.Int64).equals(rows["shown_at"].dt.epoch("us"))
    assert shown["attributes"].null_count() == 0


def test_an_imported_item_had_arrived_when_it_was_first_shown(shelf: Shelf, connection: psycopg.Connection) -> None:
    items = pl.DataFrame({"item_id": [100, 103, 999], "section": ["news", "film", "news"]})
    before = datetime.now(UTC) - timedelta(minutes=10)
    shelf.put(log_frame(), items=items)
    arrived = dict(connection.execute("SELECT item_id, arrived_at FROM items").fetchall())
    assert (arrived["100"], arrived["103"]) == (NOON, NOON + timedelta(seconds=3))
    assert arrived["999"] > before  # nobody was shown it: it is new
