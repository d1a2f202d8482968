"""Windows in memory as the store would give them, and faults that are what they claim to be."""

import copy
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.counters.folder import Folder
from features.declare.log import FromRow, Log
from features.ingest.checking import FileTimes
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from features.log.json_texts import value_of
from features.log.reading import read_events
from flows.drill.faults import FAULTS, Fault, Met, Scene, widest
from flows.drill.logs import logged, read_log, simulated
from flows.drill.windows import Folding, LogWindow, events_of, joined, windows
from flows.surfaces.feed import SURFACE as FEED
from infra.postgres.connections import connect
from models.learning.learner import fine_tune
from models.learning.model import Model
from tests.worlds.designs import but
from tests.worlds.loop import NOW, write_log

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_log(tmp_path_factory.mktemp("log"), days=0.3)


@pytest.fixture(scope="module")
def scene() -> Scene:
    """The sixth hour of a small seeded log, and a model trained on the first five."""
    log = simulated(seed=4, days=0.25, requests_per_day=6000)
    folding = Folding(FEED.features)
    seen: list[LogWindow] = []
    before = copy.deepcopy(folding)
    for window in windows(log, folding, HOUR):
        seen.append(window)
        if len(seen) == 5:
            before = copy.deepcopy(folding)
    model = Model.new(FEED.layout, but(FEED.design, batch_requests=16), 0)
    first, _ = fine_tune(model, seen[0].frame.examples, seed=0, clock=time.monotonic)
    champion = first
    for window in seen[1:5]:
        champion, _ = fine_tune(champion, window.frame.examples, seed=0, clock=time.monotonic)
    return Scene(
        window=seen[5],
        before=before,
        champion=champion,
        earlier=seen[1:5],
        stale=first,
        names=FEED.features.schema.dense,
        contexts=log.contexts,
        clock=time.monotonic,
    )


def plant(scene: Scene, name: str, strength: float) -> Met:
    fault = next(fault for fault in FAULTS if name in fault.name)
    return fault.plant(scene, strength, np.random.default_rng(1))


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
def test_a_fault_leaves_its_scene_as_it_was(scene: Scene, fault: Fault) -> None:
    label, dense, seq = (
        scene.window.frame.examples.label.copy(),
        scene.window.frame.examples.dense.copy(),
        scene.before.engine.seq,
    )
    met = fault.plant(scene, next(iter(fault.strengths.values())), np.random.default_rng(0))
    assert met.words
    assert len(fault.strengths) == 2
    np.testing.assert_array_equal(scene.window.frame.examples.label, label)
    np.testing.assert_array_equal(scene.window.frame.examples.dense, dense)
    assert scene.before.engine.seq == seq


def test_shuffled_labels_are_as_many_and_elsewhere(scene: Scene) -> None:
    clean, met = scene.window.frame.examples.label, plant(scene, "shuffled", 1.0).window.frame
    assert met.examples.label.sum() == clean.sum()
    assert np.mean(met.examples.label != clean) > 0.2
    np.testing.assert_array_equal(met.table["label"].to_numpy(), met.examples.label)


@pytest.mark.parametrize("name", ["stuck", "units", "not known", "leaked"])
def test_a_fault_of_a_feature_touches_the_one_it_names(scene: Scene, name: str) -> None:
    met = plant(scene, name, 1.0 if name in ("stuck", "not known") else 4.0)
    clean, now = scene.window.frame.examples.dense, met.window.frame.examples.dense
    moved = [scene.names[column] for column in np.flatnonzero((clean != now).any(axis=0))]
    assert moved == list(met.words)


def test_a_dropped_click_is_missing_from_the_features_too(scene: Scene) -> None:
    met, column = plant(scene, "one context", 1.0), widest(scene)
    values = value_of(met.window.frame.table["context"], column)
    clicks = pl.DataFrame({"value": values, "label": met.window.frame.table["label"]}).group_by("value").sum()
    silent = clicks.filter(pl.col("label") == 0)["value"].to_list()
    assert len(silent) == 1
    assert f"{column} = {silent[0]}" in met.words
    assert not np.array_equal(met.window.frame.examples.dense, scene.window.frame.examples.dense)


def test_a_bot_adds_its_share_and_clicks_all_of_it(scene: Scene) -> None:
    table = plant(scene, "bot", 0.1).window.frame.table
    theirs = table.filter(pl.col("user_id") == "bot-7")
    assert theirs["label"].mean() == 1
    assert len(theirs) == pytest.approx(0.1 * len(scene.window), rel=0.05)


def test_retries_are_the_same_impressions_under_other_ids(scene: Scene) -> None:
    table = plant(scene, "twice", 0.5).window.frame.table
    repeated = table.filter(pl.struct("request_id", "item_id").is_duplicated())
    assert table["impression_id"].is_unique().all()
    assert repeated["label"].min() == 1
    assert len(repeated) >= 2 * 0.4 * scene.window.frame.examples.label.sum()


def test_an_open_attribution_window_lacks_the_last_labels(scene: Scene) -> None:
    clean, met = scene.window.frame.examples.label, plant(scene, "not closed", 15.0).window.frame.examples.label
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
