"""What a log's columns are taken for: by names where they say something, by values always; and what is said of it."""

import gzip
import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.declare.columns import Column, Id, Number, Tags, Text
from features.declare.labels import Label
from features.declare.log import FromEvent, FromRow
from features.ingest.inferred.inference import Inferred, infer
from features.ingest.inferred.taken import CannotBeInferred
from features.ingest.sample import Sample, read_sample

DATA = Path(os.environ.get("MILLRACE_DATA", Path(__file__).parents[3] / "shared" / "data"))

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
SEED = 7


def world(rows: int = 4000, *, users: int = 200, items: int = 80) -> dict[str, np.ndarray]:
    """Who saw what when, with what came of it; columns by meaning."""
    rng = np.random.default_rng(SEED)
    user = rng.integers(0, users, rows)
    item = rng.integers(0, items, rows)
    seconds = np.sort(rng.integers(0, 14 * 86400, rows))
    return {
        "user": user + 100,
        "item": item + 9000,
        "seconds": seconds + int(MONDAY.timestamp()),
        "clicked": (rng.random(rows) < 0.05 + 0.1 * (item % 3 == 0)).astype(np.int64),
        "stars": rng.integers(1, 6, rows),
        "category": item % 7,
        "country": np.array(["de", "fr", "it", "es"])[user % 4],
        "device": np.array(["phone", "desk", "tablet"])[rng.integers(0, 3, rows)],
        "price": (item * 1.37 + 0.5).round(2),
    }


def inferred(frame: pl.DataFrame, items: pl.DataFrame | None = None, name: str = "log") -> Inferred:
    return infer(Sample(frame, len(frame)), None if items is None else Sample(items, len(items)), name)


def read_as(found: Inferred, column: str) -> str:
    return next(one.taken_for for one in found.taken if one.column == column)


def why(found: Inferred, column: str) -> str:
    return next(one.because for one in found.taken if one.column == column)


def by_column(found: Inferred) -> dict[str, Column]:
    return {one.column: one for one in found.columns}


NAMES = [
    ("userId", "movieId", "timestamp"),
    ("visitorid", "itemid", "ts"),
    ("ip", "app", "click_time"),
    ("customer", "sku", "event_time"),
    ("session_id", "productId", "date"),
    ("User ID", "Product.Id", "Time (UTC)"),
    ("CustomerID", "StockCode", "InvoiceDate"),
    ("a", "b", "c"),
]


@pytest.mark.parametrize(("user", "item", "at"), NAMES)
def test_users_items_and_times_by_many_names(user: str, item: str, at: str) -> None:
    made = world()
    frame = pl.DataFrame({at: made["seconds"], item: made["item"], user: made["user"], "is_clicked": made["clicked"]})

    log = inferred(frame).log

    assert (log.user_id, log.item_id, log.shown_at) == (user, item, at)
    assert log.feedback == (FromRow("click", column="is_clicked"),)


def test_names_that_say_nothing() -> None:
    rng = np.random.default_rng(SEED)
    user = np.repeat(rng.permutation(300), 12)
    at = np.repeat(np.sort(rng.integers(0, 10 * 86400, 300)), 12) + np.tile(np.arange(12) * 20, 300)
    frame = pl.DataFrame({"x1": rng.integers(0, 40, 3600), "x2": user, "x3": at + 1_700_000_000}).sort("x3")

    log = inferred(frame).log

    assert (log.user_id, log.item_id, log.shown_at) == ("x2", "x1", "x3")


TIMES: dict[str, Callable[[np.ndarray], pl.Series]] = {
    "seconds": lambda s: pl.Series(s),
    "milliseconds": lambda s: pl.Series(s * 1000),
    "microseconds": lambda s: pl.Series(s * 1_000_000),
    "nanoseconds": lambda s: pl.Series(s * 1_000_000_000),
    "floats": lambda s: pl.Series(s + 0.25),
    "texts of numbers": lambda s: pl.Series(s).cast(pl.String),
    "times without a zone": lambda s: pl.Series(s * 1000).cast(pl.Datetime("ms")),
    "times with a zone": lambda s: pl.Series(s * 1000).cast(pl.Datetime("ms", "UTC")),
    "texts without a zone": lambda s: pl.Series(s * 1000).cast(pl.Datetime("ms")).dt.to_string("%Y-%m-%d %H:%M:%S"),
    "texts with a zone": lambda s: pl.Series(s * 1000).cast(pl.Datetime("ms")).dt.to_string("%Y-%m-%dT%H:%M:%SZ"),
    "dates": lambda s: pl.Series(s * 1000).cast(pl.Datetime("ms")).dt.date(),
}


@pytest.mark.parametrize("kind", TIMES)
def test_times_of_any_kind(kind: str) -> None:
    made = world()
    frame = pl.DataFrame(
        {"user": made["user"], "item": made["item"], "ts": TIMES[kind](made["seconds"]), "rating": made["stars"]}
    )

    found = inferred(frame)

    assert found.log.shown_at == "ts"
    naive = kind in ("times without a zone", "texts without a zone", "dates")
    assert found.log.time_zone == ("UTC" if naive else None)
    assert any("UTC" in sentence for sentence in found.made_up) == naive
    assert 12 * 86400 < found.pace.span < 15 * 86400


def test_a_rating_counts_from_about_half_of_them_on() -> None:
    made = world()
    frame = pl.DataFrame(
        {"userId": made["user"], "movieId": made["item"], "rating": made["stars"], "timestamp": made["seconds"]}
    )

    found = inferred(frame)

    assert found.log.feedback == (FromRow("rating", column="rating"),)
    assert found.labels[0].kind == "rating"
    assert found.labels[0].at_least in (3, 4)
    assert 0.3 < found.pace.lives.rate < 0.7


def test_a_later_time_is_the_labels_and_never_a_feature() -> None:
    made = world()
    late = np.where(made["clicked"] == 1, made["seconds"] + 900, 0)
    frame = pl.DataFrame(
        {
            "ip": made["user"],
            "app": made["item"],
            "click_time": made["seconds"],
            "attributed_time": pl.Series(late).replace(0, None),
            "is_attributed": made["clicked"],
            "payout": pl.Series(made["clicked"] * made["price"]).replace(0, None),
            "channel_group": pl.Series(made["clicked"] * 10 + 5),
        }
    )

    found = inferred(frame)

    assert found.log.shown_at == "click_time"
    assert found.log.feedback == (FromRow("install", column="is_attributed", at="attributed_time"),)
    assert found.labels == (Label("install", within=timedelta(minutes=15)),)
    assert found.columns == ()
    assert "not known at the showing" in why(found, "payout")
    assert "gives the label away" in why(found, "channel_group")


def test_a_time_alone_is_a_label() -> None:
    made = world()
    bought = pl.Series(np.where(made["clicked"] == 1, made["seconds"] + 3000, 0)).replace(0, None)
    frame = pl.DataFrame(
        {
            "customer": made["user"],
            "sku": made["item"],
            "shown": pl.Series(made["seconds"] * 1000).cast(pl.Datetime("ms", "UTC")),
            "purchased_at": (bought * 1000).cast(pl.Datetime("ms", "UTC")),
        }
    )

    found = inferred(frame)

    assert found.log.shown_at == "shown"
    assert found.log.feedback == (FromRow("purchase", at="purchased_at"),)
    assert found.labels == (Label("purchase", within=timedelta(hours=1)),)


def test_several_labels_the_commonest_first_and_the_rarer_with_more_weight() -> None:
    made = world()
    frame = pl.DataFrame(
        {
            "user": made["user"],
            "item": made["item"],
            "ts": made["seconds"],
            "clicked": made["clicked"],
            "purchased": made["clicked"] * (made["stars"] == 5),
        }
    )

    found = inferred(frame)

    assert [(one.kind, one.weight) for one in found.labels] == [("click", 1), ("purchase", 10)]
    assert found.log.feedback == (FromRow("click", column="clicked"), FromRow("purchase", column="purchased"))


def test_what_comes_with_the_label_is_no_feature() -> None:
    made = world()
    rng = np.random.default_rng(SEED)
    frame = pl.DataFrame(
        {
            "user_id": made["user"],
            "video_id": made["item"],
            "time_ms": made["seconds"] * 1000,
            "is_click": made["clicked"],
            "long_view": made["clicked"] * (rng.random(4000) < 0.3),
            "play_time_ms": made["clicked"] * rng.integers(100, 9000, 4000),
            "value": made["clicked"] * 10 + rng.random(4000),
            "is_hate": made["clicked"] * (rng.random(4000) < 0.1),
            "stars": made["stars"],
            "tab": rng.integers(0, 6, 4000),
        }
    )

    found = inferred(frame)

    assert [label.kind for label in found.labels] == ["click"]
    assert by_column(found) == {"tab": Id("tab")}
    for column in ("long_view", "play_time_ms", "value", "is_hate", "stars"):
        assert "not known at the showing" in why(found, column)


def test_a_label_in_words_for_true_and_false() -> None:
    made = world()
    said = np.array(["No", "Yes"])[made["clicked"]]
    member = np.array(["no", "yes"])[made["user"] % 2]
    frame = pl.DataFrame(
        {"user": made["user"], "item": made["item"], "ts": made["seconds"], "converted": said, "member": member}
    )

    found = inferred(frame)

    assert found.log.feedback == (FromRow("purchase", column="converted"),)
    assert by_column(found) == {"member": Id("member", of="user")}


@pytest.mark.parametrize(
    "form",
    ["%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%d/%b/%Y:%H:%M:%S %z", "%a %b %d %H:%M:%S %z %Y"],
)
def test_times_in_other_forms(form: str) -> None:
    made = world()
    times = pl.from_epoch(pl.Series(made["seconds"]).sort()).dt.replace_time_zone("UTC")
    frame = pl.DataFrame(
        {"user": made["user"], "item": made["item"], "when": times.dt.strftime(form), "clicked": made["clicked"]}
    )

    found = inferred(frame)

    assert (found.log.shown_at, found.log.time_format) == ("when", form)
    assert found.log.time_zone == (None if "%z" in form else "UTC")
    assert f"as {form}" in why(found, "when")


def test_days_and_months_that_could_be_either_follow_the_order_of_the_rows() -> None:
    made = world()
    days = pl.datetime_range(datetime(2026, 1, 1), datetime(2026, 12, 12), "1h", eager=True)  # noqa: DTZ001
    early = days.filter(days.dt.day() <= 12).sample(len(made["user"]), with_replacement=True, seed=1).sort()
    for form in ("%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M"):
        frame = pl.DataFrame(
            {"user": made["user"], "item": made["item"], "at": early.dt.strftime(form), "clicked": made["clicked"]}
        )
        assert inferred(frame).log.time_format == form


def test_the_only_truth_is_the_label_whatever_it_is_called() -> None:
    made = world()
    frame = pl.DataFrame(
        {"user": made["user"], "item": made["item"], "ts": made["seconds"], "gekauft": made["clicked"] == 1}
    )

    found = inferred(frame)

    assert found.log.feedback == (FromRow("gekauft", column="gekauft"),)
    assert "the only truth" in why(found, "gekauft")


def test_kinds_of_events() -> None:
    made = world(6000)
    rng = np.random.default_rng(SEED)
    views = pl.DataFrame(
        {"timestamp": made["seconds"] * 1000, "visitorid": made["user"], "event": "view", "itemid": made["item"]}
    )
    carts = views[rng.integers(0, len(views), 500)].with_columns(
        pl.col("timestamp") + 60_000, event=pl.lit("addtocart")
    )
    bought = carts[:150].with_columns(pl.col("timestamp") + 60_000, event=pl.lit("transaction"))
    views, carts, bought = (
        one.with_columns(transactionid=pl.Series(range(len(one))) if one is bought else pl.lit(None, pl.Int64))
        for one in (views, carts, bought)
    )
    frame = pl.concat([views, carts, bought], how="vertical_relaxed").sort("timestamp")

    found = inferred(frame)

    assert (found.log.user_id, found.log.item_id, found.log.events, found.log.shown) == (
        "visitorid",
        "itemid",
        "event",
        ("view",),
    )
    assert found.log.feedback == (FromEvent("cart", "addtocart"), FromEvent("purchase", "transaction"))
    assert [label.kind for label in found.labels] == ["cart", "purchase"]
    assert found.columns == ()
    assert read_as(found, "transactionid") == "left out"


def test_clicks_without_impressions_are_said_aloud() -> None:
    made = world()
    frame = pl.DataFrame(
        {
            "session_id": made["user"],
            "item_id": made["item"],
            "timestamp": made["seconds"],
            "category": made["category"],
        }
    )

    found = inferred(frame)

    assert found.log.sampled == 4
    assert found.labels == (Label("click"),)
    assert any("sampled" in sentence for sentence in found.made_up)
    assert by_column(found) == {"category": Id("category", of="item")}


def test_a_label_that_is_always_true_is_none() -> None:
    made = world()
    frame = pl.DataFrame(
        {"user": made["user"], "item": made["item"], "ts": made["seconds"], "purchased": np.ones(4000, np.int64)}
    )

    found = inferred(frame)

    assert found.log.sampled == 4
    assert found.labels == (Label("purchase"),)


def test_a_column_is_of_what_it_is_a_function_of() -> None:
    made = world()
    frame = pl.DataFrame(
        {
            "user_id": made["user"],
            "item_id": made["item"],
            "shown_at": made["seconds"],
            "clicked": made["clicked"],
            "category": made["category"],
            "country": made["country"],
            "device": made["device"],
            "price": made["price"],
        }
    )

    assert by_column(inferred(frame)) == {
        "category": Id("category", of="item"),
        "country": Id("country", of="user"),
        "device": Id("device"),
        "price": Number("price", of="item"),
    }


def test_texts_and_lists() -> None:
    made = world()
    item = made["item"]
    genres = np.array(["Drama|Comedy", "Drama", "War|Drama", "Comedy|War"])[item % 4]
    frame = pl.DataFrame(
        {
            "user_id": made["user"],
            "item_id": item,
            "shown_at": made["seconds"],
            "clicked": made["clicked"],
            "genres": genres,
            "labels": pl.Series([[str(each % 3), str(each % 5)] for each in item]),
            "tags": pl.Series([f'["{each % 3}"]' for each in item]),
            "headline": pl.Series([f"the {each} ways of the long road" for each in item]),
            "vector": pl.Series([[each * 0.5, 1.0] for each in item]),
            "image": pl.Series([f"http://images/{each}.png" for each in item]),
        }
    )

    found = inferred(frame)

    assert by_column(found) == {
        "genres": Tags("genres", of="item", separator="|"),
        "labels": Tags("labels", of="item"),
        "tags": Tags("tags", of="item"),
        "headline": Text("headline", of="item"),
        "image": Id("image", of="item"),
    }
    assert read_as(found, "vector") == "left out"


def test_what_is_of_no_use_is_left_out_and_said() -> None:
    made = world()
    frame = pl.DataFrame(
        {
            "": np.arange(4000),
            "user_id": made["user"],
            "item_id": made["item"],
            "shown_at": made["seconds"],
            "clicked": made["clicked"],
            "empty": pl.Series([None] * 4000, dtype=pl.String),
            "nulls": ["null"] * 4000,
            "site": ["shop"] * 4000,
            "row": np.arange(4000),
            "order": 7_000 + np.arange(4000) // 3,
            "mail": [f"{number}@example.com" for number in range(4000)],
        }
    )

    found = inferred(frame)

    assert found.columns == ()
    assert {one.column: one.because for one in found.taken if one.taken_for == "left out"} == {
        "": "its name must not be empty; rename it to use it",
        "empty": "empty",
        "nulls": "empty",
        "site": "always 'shop'",
        "row": "a number of the row",
        "order": "it only grows with time",
        "mail": "of each value there are few rows",
    }


def test_a_column_that_appears_late_and_one_with_gaps_are_taken() -> None:
    made = world()
    device = pl.Series(made["device"]).set(pl.Series(np.arange(4000) < 3000), None)
    frame = pl.DataFrame(
        {
            "user_id": made["user"],
            "item_id": made["item"],
            "shown_at": made["seconds"],
            "clicked": made["clicked"],
            "device": device,
        }
    )

    assert by_column(inferred(frame)) == {"device": Id("device")}


def test_a_file_of_items_is_joined_by_its_values() -> None:
    made = world()
    frame = pl.DataFrame(
        {"userId": made["user"], "movieId": made["item"], "rating": made["stars"], "timestamp": made["seconds"]}
    )
    items = pl.DataFrame(
        {"number": np.arange(80), "code": np.arange(80) + 9000, "studio": [f"s{number % 6}" for number in range(80)]}
    )

    found = inferred(frame, items)

    assert found.log.items_key == "code"
    assert by_column(found)["studio"] == Id("studio", of="item")
    with pytest.raises(CannotBeInferred, match=r"no column of the file of items holds the ids .* in 'movieId'.*'code'"):
        inferred(frame, pl.DataFrame({"code": ["x", "y"], "studio": ["a", "b"]}))


def test_requests_of_ids_of_gaps_and_of_nothing() -> None:
    made = world()
    alone = pl.DataFrame(
        {"user": made["user"], "item": made["item"], "ts": made["seconds"], "clicked": made["clicked"]}
    )
    slates = pl.concat([alone.with_columns(pl.col("item") + place) for place in range(4)])
    with_ids = slates.with_columns(
        pl.concat_str("user", pl.lit("@"), "ts").alias("search_id"), pl.col("user").alias("session_id")
    )

    by_day = slates.with_columns(pl.col("ts") // 86400 * 86400)

    assert inferred(alone).log.one_candidate
    assert inferred(by_day).log.one_candidate
    assert not inferred(slates).log.one_candidate
    assert inferred(with_ids).log.request_id == "search_id"
    assert inferred(slates.rename({"user": "session_id"})).log.request_id is None
    visits = slates.with_columns(pl.struct("user", "ts").rank("dense").alias("session"))
    assert inferred(visits).log.request_id == "session", "none is longer than a page load"


def test_half_lives_and_windows_fit_the_log() -> None:
    made = world(20_000)
    frame = pl.DataFrame(
        {"user": made["user"], "item": made["item"], "ts": made["seconds"], "clicked": made["clicked"]}
    )
    slow = frame.with_columns(((pl.col("ts") - int(MONDAY.timestamp())) * 100 + 1_000_000_000).alias("ts"))

    quick_pace, slow_pace = inferred(frame).pace, inferred(slow).pace

    for pace in (quick_pace, slow_pace):
        for lives in [(pace.lives.short, pace.lives.long)]:
            assert list(lives) == sorted(set(lives))
        assert pace.every <= pace.span / 20
        assert 0.2 * pace.span < pace.warmup < 0.6 * pace.span
        assert pace.impressions / pace.span * pace.every > pace.fewest
    assert slow_pace.lives.long > 20 * quick_pace.lives.long


def test_rows_that_are_requests_of_lists() -> None:
    made = world(6000)
    entries = pl.DataFrame({"id": made["item"], "clicked": made["clicked"], "price": made["item"] % 7 + 0.5})
    requests = entries.with_row_index("row").group_by(pl.col("row") // 5, maintain_order=True)
    frame = requests.agg(items=pl.struct("id", "price"), clicked=pl.col("clicked")).drop("row")
    frame = frame.with_columns(user=pl.Series(made["user"][::5]), at=pl.Series(made["seconds"][::5]))
    frame = frame.with_columns(seen=pl.lit([1, 2, 3, 4, 5, 6]))

    found = inferred(frame)

    assert found.log.lists == ("items", "clicked")
    assert (found.log.item_id, found.log.user_id, found.log.shown_at) == ("items.id", "user", "at")
    assert (found.log.request_id, found.log.position, found.log.feedback) == (None, None, ())
    assert "request_id" not in {taken.column for taken in found.taken}
    assert by_column(found)["items.price"] == Number("items.price", of="item")
    assert "a row is a request, its lists 'items' and 'clicked' have an entry for each" in found.made_up[0]


def test_a_list_of_things_beside_an_item_makes_no_request_of_a_row() -> None:
    made = world(6000)
    artists = [["a", "b"] if item % 2 else ["c", "d"] for item in made["item"]]
    frame = pl.DataFrame(
        {
            "who": made["user"],
            "code": made["item"],
            "at": made["seconds"],
            "artists": artists,
            "clicked": made["clicked"],
        }
    )

    found = inferred(frame)

    assert (found.log.lists, found.log.item_id) == ((), "code")
    assert by_column(found) == {"artists": Tags("artists", of="item")}


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "no rows": ({"user_id": [], "item_id": [], "shown_at": []}, "no rows"),
    "no time": ({"user_id": [1, 2], "item_id": [3, 4], "clicked": [0, 1]}, "add a column such as shown_at"),
    "a time in no form that is read": (
        {"user_id": [1, 2], "item_id": [3, 4], "date": ["Pi day of 2026", "the day after"]},
        r"'date' holds 'Pi day of 2026', which is neither",
    ),
    "rows of many impressions": (
        {"user_id": [1, 2], "at": [1.7e9, 1.8e9], "items": [["a", "b"], ["c", "d"]], "clicked": [0, 1]},
        "'items' holds lists, and no list beside it says what came of each entry; add one",
    ),
    "no user": (
        {"item_id": [3, 3, 4] * 9, "ts": [1_700_000_000 + second for second in range(27)]},
        "call the column that does user_id",
    ),
    "sums": (
        {"headline": ["a", "b"], "day": [date(2026, 1, 1)] * 2, "impressions": [900, 1000], "clicks": [20, 30]},
        "'impressions' and 'clicks' are sums",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_nothing_can_stand_in_for_is_refused_with_a_remedy(case: str) -> None:
    columns, message = REFUSED[case]
    with pytest.raises(CannotBeInferred, match=message):
        inferred(pl.DataFrame(columns))


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_few_rows(rows: int) -> None:
    made = world()
    frame = pl.DataFrame(
        {
            "user_id": made["user"],
            "item_id": made["item"],
            "shown_at": made["seconds"],
            "clicked": made["clicked"],
            "device": made["device"],
        }
    )

    found = inferred(frame[:rows])

    assert found.labels[0].kind == "click"
    assert found.pace.every >= 60


def test_ids_of_any_characters() -> None:
    made = world()
    odd = np.array(['a"b', "a'b", "line\nbreak", "ü", "日本", " x ", "", "null"])
    frame = pl.DataFrame(
        {
            "user": odd[made["user"] % 8] + made["user"].astype(str),
            "item": made["item"].astype(str) + odd[made["item"] % 8],
            "ts": made["seconds"],
            "clicked": made["clicked"],
        }
    )

    log = inferred(frame).log

    assert (log.user_id, log.item_id) == ("user", "item")


WRITERS: dict[str, Callable[[pl.DataFrame, Path], object]] = {
    "log.parquet": lambda frame, path: frame.write_parquet(path),
    "log.csv": lambda frame, path: frame.write_csv(path),
    "log.tsv": lambda frame, path: frame.write_csv(path, separator="\t"),
    "log.jsonl": lambda frame, path: frame.write_ndjson(path),
    "log.csv.gz": lambda frame, path: path.write_bytes(gzip.compress(frame.write_csv().encode())),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_any_type_says_the_same(tmp_path: Path, name: str) -> None:
    made = world()
    at = pl.Series(made["seconds"] * 1000).cast(pl.Datetime("ms")).dt.to_string("%Y-%m-%d %H:%M:%S")
    frame = pl.DataFrame(
        {
            "userId": made["user"],
            "sku": made["item"],
            "event_time": at,
            "is_clicked": made["clicked"] == 1,
            "device": made["device"],
            "price": made["price"],
        }
    )
    WRITERS[name](frame, tmp_path / name)

    found, plain = infer(read_sample(tmp_path / name), None, "log"), inferred(frame)

    assert (found.log, found.columns, found.labels, found.pace) == (plain.log, plain.columns, plain.labels, plain.pace)


def test_a_sample_holds_all_times(tmp_path: Path) -> None:
    rows = pl.DataFrame({"row": range(100_000)})

    rows.write_parquet(tmp_path / "rows.parquet")
    taken = read_sample(tmp_path / "rows.parquet", 1000)

    assert (len(taken.rows), taken.of, taken.share) == (1000, 100_000, 0.01)
    assert taken.rows["row"][0] == 0
    assert taken.rows["row"][-1] == 99_999
    assert int(taken.rows["row"].diff().max() or 0) < 5000  # type: ignore[arg-type]


REAL: dict[str, tuple[str | None, tuple[str, ...], dict[str, str | None]]] = {
    "movielens_feed": ("movielens_items", ("click",), {"user_id": None, "item_id": None, "shown_at": None}),
    "globo_feed": ("globo_items", ("click",), {"user_id": None, "item_id": None, "request_id": None}),
    "ad_conversions": (None, ("install",), {"user_id": "ip", "item_id": "app", "shown_at": "click_time"}),
    "open_bandit": (None, ("click",), {"shown_at": "timestamp", "propensity": "propensity_score", "item_id": None}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_logs(name: str) -> None:
    items, kinds, names = REAL[name]
    path = DATA / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"no {path}: the real log is not here; MILLRACE_DATA says where it is")

    found = infer(read_sample(path), read_sample(DATA / f"{items}.parquet") if items else None, name)

    assert tuple(label.kind for label in found.labels) == kinds
    assert {ours: getattr(found.log, ours) for ours in names} == names


def test_a_label_that_never_came_is_the_label_and_that_is_said() -> None:
    found = inferred(shown(500).with_columns(click=pl.lit(0)))

    assert [label.kind for label in found.labels] == ["click"]
    assert found.log.sampled == 0
    assert any("no click at all" in sentence for sentence in found.made_up)


def shown(rows: int) -> pl.DataFrame:
    made = world(rows)
    return pl.DataFrame({"user": made["user"], "item": made["item"], "ts": made["seconds"]})


def test_ids_that_a_float_would_make_one_stay_apart() -> None:
    made = world(4000)
    codes = pl.Series("category_id", made["item"] % 7 + 2053013555631882655).cast(pl.String)
    found = inferred(shown(4000).with_columns(codes, clicked=made["clicked"]))

    assert Id("category_id", of="item") in found.columns


def test_hours_played_are_a_label_and_no_feature() -> None:
    hours = pl.Series("hours", np.random.default_rng(0).exponential(2, 2000).round(2))
    found = inferred(shown(2000).with_columns(hours))

    assert found.log.sampled == 0
    assert [one.column for one in found.log.feedback if isinstance(one, FromRow)] == ["hours"]
    assert found.columns == ()


def test_one_rating_is_a_rating() -> None:
    found = inferred(shown(1).with_columns(rating=pl.lit(5)))

    assert [label.kind for label in found.labels] == ["rating"]
