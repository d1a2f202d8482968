"""Windows in memory as the store would give them, and faults that are what they claim to be."""

import copy
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.counters.folder import Folder
from features.declare.columns import Id, Number, Tags
from features.declare.features import Features
from features.declare.labels import Label
from features.declare.log import FromRow, Log
from features.ingest.checking import FileTimes
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from features.ingest.simulated_shop import simulate_shop
from features.log.json_texts import value_of
from features.log.reading import read_events
from flows.drill.columns import common_values, having, values, widest, with_value
from flows.drill.faults import FAULTS, Fault, Met, Scene, Story
from flows.drill.faults.fault import hardly_new, positive_value
from flows.drill.logs import Log as ReadLog
from flows.drill.logs import logged, read_log, simulated, simulated_shop, with_click_rate
from flows.drill.windows import Folding, LogWindow, events_of, joined, windows
from flows.surface import Surface
from flows.surfaces.feed import SURFACE as FEED
from flows.surfaces.shop import SURFACE as SHOP
from infra.postgres.connections import connect
from models.learning.learner import fine_tune
from models.learning.model import Model
from tests.worlds.designs import but
from tests.worlds.loop import NOW, write_log

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_log(tmp_path_factory.mktemp("log"), days=0.3)


def scene_in(surface: Surface, log: ReadLog) -> Scene:
    """The sixth hour of a small seeded log, and a model trained on the first five."""
    folding = Folding(surface.features)
    seen: list[LogWindow] = []
    folds = [copy.deepcopy(folding)]
    for window in windows(log, folding, HOUR):
        seen.append(window)
        folds.append(copy.deepcopy(folding))
    model = Model.new(surface.layout, but(surface.design, batch_requests=16), 0)
    first, _ = fine_tune(model, seen[0].frame.examples, seed=0, clock=time.monotonic)
    champion = first
    for window in seen[1:5]:
        champion, _ = fine_tune(champion, window.frame.examples, seed=0, clock=time.monotonic)
    return Scene(
        window=seen[5],
        before=folds[5],
        champion=champion,
        earlier=seen[1:5],
        stale=first,
        names=surface.layout.dense,
        features=surface.features,
        clock=time.monotonic,
        fewest=100,
        run_up=seen[1:5],
        before_run_up=folds[1],
    )


@pytest.fixture(scope="module")
def scene() -> Scene:
    return scene_in(FEED, simulated(seed=4, days=0.25, requests_per_day=6000))


@pytest.fixture(scope="module")
def shop() -> Scene:
    return scene_in(SHOP, simulated_shop(seed=4, days=0.25, impressions_per_day=30_000))


def fault_of(name: str) -> Fault | Story:
    [fault] = [fault for fault in FAULTS if name in fault.name]
    return fault


def plant(scene: Scene, name: str, strength: float) -> Met:
    fault = fault_of(name)
    assert isinstance(fault, Fault)
    return fault.plant(scene, strength, np.random.default_rng(1))


def lacks(scene: Scene, name: str, strength: float) -> str:
    """Why the fault cannot be planted; empty where it can."""
    return fault_of(name).lacks(scene, strength) or ""


def test_a_window_in_memory_has_the_rows_that_the_fold_writes(files: tuple[Path, Path], database: str) -> None:
    path, items = files
    import_log(database, "feed", Files(path, items=items), times=FileTimes(NOW))
    with connect(database, autocommit=True) as connection, Folder(connection, "feed", FEED.features) as folder:
        folder.fold(NOW)
        written = dict(connection.execute("SELECT impression_id, row FROM served").fetchall())
    schema = FEED.features.schema
    found = 0
    for window in windows(read_log("small", Files(path, items), now=NOW), Folding(FEED.features), HOUR):
        table, examples = window.frame.table, window.frame.examples
        rows = schema.unpack([bytes(written[name]) for name in table["impression_id"]])
        np.testing.assert_array_equal(examples.dense, rows.dense.astype(np.float32))
        np.testing.assert_array_equal(examples.ids, rows.ids)
        np.testing.assert_array_equal(examples.history, rows.history)
        assert window.frame.without_row == 0
        assert np.all(np.diff(examples.time) >= 0)
        found += len(table)
    assert found == len(written) > 3000


def test_a_logs_events_are_those_of_the_database_to_the_bit(files: tuple[Path, Path], database: str) -> None:
    """Their times as seconds too, of many events and of one alone."""
    path, items = files
    import_log(database, "feed", Files(path, items=items), times=FileTimes(NOW))
    with connect(database) as connection:
        stored = read_events(connection, "feed", 0, 1_000_000)
    shown = read_log("small", Files(path, items), now=NOW).shown
    clicks = shown.filter("clicked")
    both = [
        events_of(shown, clicks, "click", 0),
        *(events_of(shown[n : n + 1], clicks[:0], "click", 0) for n in range(20)),
    ]
    times = ("shown_at", "at", "known_at")
    for events in both:
        placed = events.join(stored, on=["kind", "impression_id"], how="left", suffix="_stored", maintain_order="left")
        for name in times:
            np.testing.assert_array_equal(placed[name].to_numpy(), placed[f"{name}_stored"].to_numpy())
    assert len(both[0]) == len(stored)


def test_what_the_installation_has_logged_is_the_log_that_was_imported(
    files: tuple[Path, Path], database: str, tmp_path: Path
) -> None:
    chance = pl.Series("propensity", np.random.default_rng(0).uniform(0.1, 1, pl.read_parquet(files[0]).height))
    path = tmp_path / "explored.parquet"
    pl.read_parquet(files[0]).with_columns(chance).write_parquet(path)
    import_log(database, "feed", Files(path, items=files[1]), times=FileTimes(NOW))
    with connect(database) as connection:
        own = logged(connection, FEED, days=1).shown.sort("impression_id")
    imported = read_log("small", Files(path, files[1]), now=NOW).shown.sort("impression_id")
    assert own.columns == imported.columns
    texts = ("context", "attributes")  # the database writes JSON in its own way
    assert own.drop(texts).equals(imported.drop(texts))
    for text, name in (("context", "region"), ("attributes", "section")):
        assert value_of(own[text], name).equals(value_of(imported[text], name))


def test_a_log_of_other_columns_with_feedback_in_its_rows_is_the_one_that_was_imported(
    files: tuple[Path, Path], database: str, tmp_path: Path
) -> None:
    path = tmp_path / "shop.csv"
    rows = pl.read_parquet(files[0])
    worth = pl.Series("stars", np.random.default_rng(0).integers(0, 6, rows.height))
    rows.select(
        "impression_id", "request_id", "position", "region", worth, pl.col("clicked_at").alias("rated_at"),
        shopper="user_id", sku="item_id", seen="shown_at",
    ).write_csv(path)  # fmt: skip
    mapping = Log(
        user_id="shopper", item_id="sku", shown_at="seen", feedback=(FromRow("click", column="stars", at="rated_at"),)
    )
    import_log(database, "feed", Files(path), times=FileTimes(NOW), mapping=mapping)
    with connect(database) as connection:
        own = logged(connection, FEED, days=1).shown.sort("impression_id")
    imported = read_log("shop", Files(path), now=NOW, mapping=mapping, label="click").shown.sort("impression_id")
    assert 0.7 < own["clicked"].mean() < 0.95
    assert own["value"].max() == 5
    assert own.drop("context").equals(imported.drop("context"))
    assert value_of(own["context"], "region").equals(value_of(imported["context"], "region"))


def test_windows_cut_and_joined_are_in_the_order_of_the_store_where_requests_overlap(scene: Scene) -> None:
    """Where impressions have times of their own a cut goes through requests, and their rows come together again."""
    apart = pl.col("shown_at") + pl.duration(milliseconds=pl.col("position") * 7_000)
    shown = scene.window.shown.with_columns(apart.alias("shown_at")).sort("shown_at", maintain_order=True)
    start, end = scene.window.start, scene.window.end + timedelta(minutes=1)
    frame = copy.deepcopy(scene.before).fold(shown, end)
    whole = LogWindow(start, end, frame, shown)
    pieces = list(whole.cut(timedelta(seconds=90)))
    assert sum(len(piece.frame.table.unique(["user_id", "request_id"])) for piece in pieces) > len(
        frame.table.unique(["user_id", "request_id"])
    )
    back = joined(pieces)
    assert back.frame.table.equals(frame.table)
    for name in ("dense", "ids", "history", "label", "request", "time"):
        np.testing.assert_array_equal(getattr(back.frame.examples, name), getattr(frame.examples, name))
    assert back.shown.equals(shown)


def test_a_window_cut_in_pieces_is_all_there(scene: Scene) -> None:
    pieces = list(scene.window.cut(timedelta(minutes=10)))
    assert sum(map(len, pieces)) == len(scene.window)
    assert sum(len(piece.shown) for piece in pieces) == len(scene.window)
    assert all(piece.start < piece.frame.table["shown_at"].min() <= piece.end for piece in pieces)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_leaves_its_scene_as_it_was(scene: Scene, fault: Fault | Story) -> None:
    def state() -> tuple[int, int]:
        assert scene.before_run_up is not None
        return scene.before.engine.seq, scene.before_run_up.engine.seq

    label, dense, seq = scene.window.frame.examples.label.copy(), scene.window.frame.examples.dense.copy(), state()
    random, strength = np.random.default_rng(0), next(iter(fault.strengths.values()))
    one = isinstance(fault, Fault)
    mets = [fault.plant(scene, strength, random)] if one else list(fault.tell(scene, strength, random))
    assert all(met.words for met in mets) == ("promote" not in fault.expected)
    assert len(fault.strengths) == 2
    np.testing.assert_array_equal(scene.window.frame.examples.label, label)
    np.testing.assert_array_equal(scene.window.frame.examples.dense, dense)
    assert state() == seq


def test_shuffled_labels_are_as_many_and_elsewhere(scene: Scene) -> None:
    clean, met = scene.window.frame.examples.label, plant(scene, "shuffled", 1.0).window.frame
    assert met.examples.label.sum() == clean.sum()
    assert np.mean(met.examples.label != clean) > 0.2
    np.testing.assert_array_equal(met.table["label"].to_numpy(), met.examples.label)


def test_labels_of_several_kinds_are_shuffled_together_and_make_up_the_one_that_ranks(shop: Scene) -> None:
    clean, met = shop.window.frame.examples, plant(shop, "shuffled", 1.0).window.frame
    assert clean.targets.shape[1] == 3
    assert clean.targets.sum() > clean.targets[:, 0].sum() > 0
    assert sorted(map(tuple, met.examples.targets)) == sorted(map(tuple, clean.targets))
    assert not np.array_equal(met.examples.targets, clean.targets)
    weights = np.array([label.weight for label in SHOP.features.labels])
    np.testing.assert_allclose(met.examples.label, met.examples.targets @ weights / weights.sum(), rtol=1e-6)
    np.testing.assert_array_equal(met.table["label"].to_numpy(), met.examples.label)


@pytest.mark.parametrize("name", ["stuck", "units", "feature not known", "leaked"])
def test_a_fault_of_a_feature_touches_the_one_it_names(scene: Scene, name: str) -> None:
    met = plant(scene, name, 1.0 if name in ("stuck", "feature not known") else 4.0)
    clean, now = scene.window.frame.examples.dense, met.window.frame.examples.dense
    moved = [scene.names[column] for column in np.flatnonzero((clean != now).any(axis=0))]
    assert moved == list(met.words)


def test_a_dropped_click_is_missing_from_the_features_too(scene: Scene) -> None:
    met = plant(scene, "one context", 1.0)
    column = widest(scene.window.shown, FEED.features.columns)
    assert column is not None
    found = value_of(met.window.frame.table["context"], column.name)
    clicks = pl.DataFrame({"value": found, "label": met.window.frame.table["label"]}).group_by("value").sum()
    silent = clicks.filter(pl.col("label") == 0)["value"].to_list()
    assert len(silent) == 1
    assert f"{column.name} = {silent[0]}" in met.words
    assert not np.array_equal(met.window.frame.examples.dense, scene.window.frame.examples.dense)


def test_all_feedback_of_a_dropped_impression_is_lost(shop: Scene) -> None:
    carted = shop.window.shown.with_columns(pl.col("clicked_at").alias("at/cart"), pl.col("value").alias("value/cart"))
    every_click = replace(shop, window=replace(shop.window, shown=carted))
    shown = plant(every_click, "one context", 1.0).window.shown
    lost = carted.filter("clicked").join(shown.filter("clicked"), on="impression_id", how="anti")
    left = shown.join(lost, on="impression_id", how="semi").select("at/cart", "value/cart", "at/purchase")
    assert 0 < len(lost) < carted["clicked"].sum()
    assert left.null_count().row(0) == (len(lost),) * 3


def test_a_bot_adds_its_share_and_clicks_all_of_it(scene: Scene) -> None:
    table = plant(scene, "bot", 0.1).window.frame.table
    theirs = table.filter(pl.col("user_id") == "bot-7")
    assert theirs["label"].mean() == 1
    assert len(theirs) == pytest.approx(0.1 * len(scene.window), rel=0.05)


def test_what_a_bot_says_is_worth_a_label_in_full(scene: Scene) -> None:
    """Of a rating it takes four stars, of what was paid as much as counts."""
    assert positive_value(Label("rating", at_least=4)) == 4
    assert positive_value(Label("purchase", of="value", most=200)) == 200
    stars = replace(scene, features=replace(FEED.features, labels=(Label("click", at_least=4),)))
    bots = plant(stars, "bot", 0.1).window.shown.filter(pl.col("user_id") == "bot-7")
    assert bots["value"].unique().to_list() == [4.0]


def test_retries_are_the_same_impressions_under_other_ids(scene: Scene) -> None:
    table = plant(scene, "twice", 0.5).window.frame.table
    repeated = table.filter(pl.struct("request_id", "item_id").is_duplicated())
    assert table["impression_id"].is_unique().all()
    assert repeated["label"].min() == 1
    assert len(repeated) >= 2 * 0.4 * scene.window.frame.examples.label.sum()


def test_an_open_attribution_window_lacks_the_last_labels(scene: Scene) -> None:
    clean, met = scene.window.frame.examples.label, plant(scene, "not closed", 0.25).window.frame.examples.label
    half = len(clean) // 2
    assert np.all(met <= clean)
    assert met[half:].sum() / clean[half:].sum() < met[:half].sum() / clean[:half].sum() < 1


def test_the_poisoned_training_part_is_not_what_is_judged(scene: Scene) -> None:
    met = plant(scene, "new readers", 1.0)
    assert met.training is not None
    changed = met.training.label != met.window.frame.examples.label
    assert changed.any()
    assert not met.training.history[changed, 0].any()
    np.testing.assert_array_equal(met.window.frame.examples.label, scene.window.frame.examples.label)


# --- drifts, and what is sound ---------------------------------------------------------------------------------------


def test_a_new_client_version_is_a_value_that_nobody_had_on_a_share_of_the_requests(scene: Scene) -> None:
    met = plant(scene, "client version", 0.3)
    [name] = met.words
    before, now = (values(window.shown, Id(name)) for window in (scene.window, met.window))
    new = pl.Series([value not in before for value in now])
    shown = met.window.shown
    assert new.mean() == pytest.approx(0.3, abs=0.1)
    assert [value for value, is_new in zip(now, new, strict=True) if not is_new] == [
        value for value, is_new in zip(before, new, strict=True) if not is_new
    ]
    assert shown.filter(new).join(shown.filter(~new), on="request_id", how="semi").is_empty()


def test_where_only_items_have_a_number_a_share_of_the_items_has_a_new_value(scene: Scene) -> None:
    column = Number("price", of="item")
    shown = scene.window.shown.with_columns(pl.lit('{"price": 3.5}').alias("attributes"))
    other = replace(scene, window=replace(scene.window, shown=shown), features=Features(columns=(column,)))
    met = plant(other, "client version", 0.3)
    assert met.words == (column.name,)
    before, now = (values(window.shown, column) for window in (other.window, met.window))
    new = pl.Series([value not in before for value in now])
    items = met.window.shown.filter(new)["item_id"].unique()
    assert 0.15 < len(items) / shown["item_id"].n_unique() < 0.45
    assert met.window.shown.filter(pl.col("item_id").is_in(items.implode())).height == new.sum()


def test_a_slow_drift_grows_from_window_to_window_to_as_many_points_more(scene: Scene) -> None:
    [story] = [fault for fault in FAULTS if isinstance(fault, Story)]
    mets = list(story.tell(scene, 0.4, np.random.default_rng(0)))
    [name] = {word for met in mets for word in met.words}
    clean, column = [*scene.run_up, scene.window], Id(name)
    assert [(met.window.start, met.window.end) for met in mets] == [(window.start, window.end) for window in clean]

    def share(window: LogWindow, value: str) -> float:
        return float(having(window.shown, column, value).mean())

    def grown(value: str) -> list[float]:
        return [share(met.window, value) - share(window, value) for met, window in zip(mets, clean, strict=True)]

    value = max(common_values(clean[-1].shown, column), key=lambda value: grown(value)[-1])
    assert grown(value) == pytest.approx([0.08, 0.16, 0.24, 0.32, 0.4], abs=0.05)
    assert all(met.window.frame.table["impression_id"].is_unique().all() for met in mets)


def test_a_market_is_new_users_with_a_new_value_beside_the_traffic_there_was(scene: Scene) -> None:
    met = plant(scene, "market", 0.3)
    shown, (name, value) = met.window.shown, met.words
    theirs = pl.Series(having(shown, Id(name), value))
    assert theirs.mean() == pytest.approx(0.3, abs=0.05)
    assert set(shown.filter(theirs)["user_id"]).isdisjoint(shown.filter(~theirs)["user_id"])
    assert shown.filter(~theirs).equals(scene.window.shown)
    assert met.window.frame.table["impression_id"].is_unique().all()


def test_a_breaking_story_takes_the_clicks_and_leaves_all_else(scene: Scene) -> None:
    met = plant(scene, "breaking", 0.6)
    before, now = scene.window.shown.sort("impression_id"), met.window.shown.sort("impression_id")
    story = now["item_id"] == "breaking-story"
    assert now.filter(story)["request_id"].is_unique().all()
    assert story.sum() == pytest.approx(0.6 * now["request_id"].n_unique(), rel=0.2)
    assert now.filter(story)["clicked"].mean() == pytest.approx(2.5 * before["clicked"].mean(), rel=0.35)
    assert now.filter(~story).equals(before.filter(~story))


# --- what cannot be planted ------------------------------------------------------------------------------------------


def test_a_fault_says_why_it_cannot_be_planted(scene: Scene) -> None:
    bare = replace(scene, features=Features())
    assert "No id" in lacks(bare, "one context", 1.0)
    assert "No id" in lacks(bare, "client version", 0.3)
    assert "no id of the request" in lacks(bare, "market", 0.3)
    assert "fewer than the 100 of an update" in lacks(scene, "traffic lost", 0.95)
    assert "No window of an earlier day" in lacks(replace(scene, fewest=1), "traffic lost", 0.95)
    assert "2.4 standard errors" in lacks(scene, "new readers", 0.15)
    assert "Only 4 updates" in lacks(scene, "new readers", 2.0)
    assert "not promoted as it is: thin." in lacks(replace(scene, held="thin."), "breaking", 0.6)
    [story] = [fault for fault in FAULTS if isinstance(fault, Story)]
    assert "not several windows" in (story.lacks(replace(scene, run_up=()), 0.4) or "")
    frame = scene.window.frame
    nobody = replace(frame, examples=replace(frame.examples, history=0 * frame.examples.history))
    assert "100%" in lacks(replace(scene, window=replace(scene.window, frame=nobody)), "new readers", 0.15)


def test_what_chance_explains_is_not_planted(scene: Scene) -> None:
    frame = scene.window.frame
    label = frame.examples.label * (frame.examples.label.cumsum() <= 20)
    rare = scene.window.shown.with_columns(pl.col("clicked") & (pl.col("clicked").cum_sum() <= 20))
    window = replace(scene.window, shown=rare, frame=replace(frame, examples=replace(frame.examples, label=label)))
    few = replace(scene, window=window)
    assert "20 labels" in lacks(few, "shuffled", 1.0)
    assert "20 labels" in lacks(few, "one context", 0.6)
    assert "20 labels" in lacks(few, "not closed", 0.25)
    assert "try again" in lacks(few, "twice", 0.2)
    assert lacks(scene, "shuffled", 1.0) == lacks(scene, "one context", 1.0) == ""


def test_what_a_few_users_share_is_not_planted(scene: Scene) -> None:
    """The same window, had three users seen all of it, each with a device of their own."""
    shown = scene.window.shown
    whose = np.arange(len(shown)) // 400
    few_users = pl.Series("user_id", whose).cast(pl.String)
    frame = replace(scene.window.frame, table=scene.window.frame.table.with_columns(few_users))
    few = replace(scene, window=replace(scene.window, frame=frame, shown=shown.with_columns(few_users)))
    assert lacks(scene, "client version", 0.3) == lacks(scene, "market", 0.3) == ""
    assert "3 users" in (hardly_new(few, 0.3, whose) or "")
    assert hardly_new(few, 0.3, np.arange(len(shown)) % 5) is None
    head = replace(scene.window, shown=shown.head(40), frame=scene.window.frame[:40])
    first, *rest = scene.run_up
    days = replace(scene, run_up=(replace(first, start=first.start - timedelta(days=2)), *rest))
    assert lacks(days, "slow drift", 0.6) == ""
    assert "independent rows" in lacks(replace(days, window=head), "slow drift", 0.6)


def test_who_labels_everything_where_most_is_labelled_is_no_bot(scene: Scene) -> None:
    assert lacks(scene, "bot", 0.1) == ""
    pleased = replace(scene)
    pleased.__dict__["scores"] = np.full(len(scene.window), 0.5)
    assert "no bot" in lacks(pleased, "bot", 0.1)


def test_traffic_that_windows_before_had_is_not_lost(scene: Scene) -> None:
    day = timedelta(days=1)
    hour = replace(scene.window, start=scene.window.start - day, end=scene.window.end - day)
    quiet = replace(hour, frame=hour.frame[: len(hour) // 10])
    assert lacks(replace(scene, fewest=1, earlier=[hour]), "traffic lost", 0.8) == ""
    assert "an earlier day had" in lacks(replace(scene, fewest=1, earlier=[hour, quiet]), "traffic lost", 0.8)
    half = replace(hour, frame=hour.frame[: int(0.51 * len(hour))])
    assert "chance explains" in lacks(replace(scene, fewest=1, earlier=[half]), "traffic lost", 0.8), (
        "2.55 times as few"
    )


# --- columns and logs ------------------------------------------------------------------------------------------------


def test_a_column_is_looked_for_with_the_impression_then_with_its_item_or_user() -> None:
    shown = pl.DataFrame(
        {
            "context": ['{"device": 1, "genre": "of the row"}', '{"device": null}', None],
            "attributes": ['{"genre": "x|y"}', '{"genre": "x|z"}', '{"device": 2}'],
            "user_attributes": [None, '{"device": "u"}', None],
        }
    )
    assert values(shown, Id("device")) == [("1",), (), ()]
    assert values(shown, Id("who", of="user", column="device")) == [("1",), ("u",), ()]
    genres = Tags("tags", of="item", column="genre", separator="|")
    assert values(shown, genres) == [("of the row",), ("x", "z"), ()]
    changed = with_value(shown, genres, np.array([True, False, True]), ["new"])
    assert values(changed, genres) == [("new",), ("x", "z"), ("new",)]
    plain = shown.with_columns(pl.lit(None, pl.String).alias("context"))
    changed = with_value(plain, genres, np.array([True] * 3), "new")
    assert changed["context"].null_count() == 3
    assert values(changed, genres) == [("new",)] * 3


@pytest.mark.parametrize("rate", [0.01, 0.8])
def test_a_log_at_another_click_rate_shows_the_same(rate: float) -> None:
    before = simulated(seed=4, days=0.2, requests_per_day=5_000)
    now = with_click_rate(before, rate, seed=1).shown
    clicked = now["clicked"].sum()
    assert clicked / len(now) == pytest.approx(rate, abs=0.01)
    assert (now["clicked"] & ~before.shown["clicked"]).any() == (rate > 0.5)
    assert now["clicked_at"].null_count() == now["value"].null_count() == len(now) - clicked
    assert (now["clicked_at"] >= now["shown_at"]).all()
    changed = ("clicked", "clicked_at", "value")
    assert now.drop(changed).equals(before.shown.drop(changed))


def test_further_labels_are_read_with_the_first_from_files_as_from_the_database(tmp_path: Path, database: str) -> None:
    start = datetime(2026, 1, 5, tzinfo=UTC)
    made = simulate_shop(seed=4, start=start, days=0.2, users=80, items=60, requests_per_day=2_000)
    for name, rows in (("log", made.log), ("items", made.items), ("feedback", made.feedback)):
        rows.write_parquet(tmp_path / f"{name}.parquet")
    files = Files(tmp_path / "log.parquet", tmp_path / "items.parquet", feedback=tmp_path / "feedback.parquet")
    read = read_log("shop", files, now=NOW, label="click", others=("cart", "purchase")).shown.sort("impression_id")
    assert len(read) - read["at/cart"].null_count() == len(made.feedback.filter(pl.col("kind") == "cart")) > 3
    import_log(database, "shop", files, times=FileTimes(NOW))
    with connect(database) as connection:
        own = logged(connection, SHOP, days=None).shown.sort("impression_id")
    texts = ("context", "attributes")
    assert own.drop(texts).equals(read.drop(texts))
