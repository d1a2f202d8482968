"""What is always true (DESIGN.md), a test for each sentence that the loop must keep.

Where a part's own tests already hold a sentence, ``ELSEWHERE`` says which.
"""

import ast
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import polars as pl
import psycopg
import pytest

from features.counters import checkpoint
from features.counters.folder import Folder
from features.declare.labels import Label
from features.feast.store import open_store
from features.ingest.checking import FileTimes
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from features.log.writing import append
from flows.ledger import Claim, Opening
from flows.steps import prepare
from infra.postgres.connections import connect
from infra.postgres.copying import INSTANT
from models.frames import Frame
from models.versions import promotions
from tests.worlds.loop import NOW, Loop, after, copied, copy_database, expect_consistent, run_update, write_log

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")

TESTS = Path(__file__).parent

ELSEWHERE = {
    "No training row uses a feature value that was not known at its impression's time": (
        "features/test_engine.py::test_nothing_reads_its_own_instant",
        "features/test_engine.py::test_a_row_depends_on_nothing_after_it",
    ),
    "An impression is in the training part of exactly one update per lineage, whatever crashes, repeats or overlaps": (
        "flows/test_ledger.py"
        "::test_an_impression_is_in_the_training_part_of_exactly_one_update_per_lineage_whatever_happens",
        "flows/test_crash.py::test_an_update_killed_at_each_point_and_run_again_ends_as_if_nothing_had_been",
    ),
    "At most one champion per surface, and its evidence passed the gate or was approved by a named person": (
        "models/test_promotions.py"
        "::test_at_most_one_champion_and_its_evidence_passed_the_gate_or_was_approved_by_a_named_person",
    ),
    "Promotion records, decisions and evidence are append-only": (
        "infra/test_database.py::test_records_are_append_only",
    ),
    "A crash at any point leaves either the old champion or the new one": (
        "flows/test_crash.py"
        "::test_a_crash_at_any_point_leaves_the_old_champion_or_the_new_one_and_the_next_run_finishes",
    ),
    "Serving answers while anything else is down, and what is accepted (HTTP 2xx) is durable": (
        "models/test_serving_outage.py"
        "::test_serving_answers_while_the_database_is_down_and_what_is_accepted_is_durable",
    ),
    "A response is computed by exactly one model version, and says which": (
        "models/test_serving_champion.py::test_a_new_champion_is_taken_up_without_a_failed_request"
        "_and_each_response_is_computed_by_exactly_one",
    ),
    "No pickle is loaded on the serving path": (
        "models/test_serving_champion.py::test_no_pickle_is_loaded_on_the_serving_path",
    ),
    "Running the same backtest twice gives the same numbers": (
        "flows/test_backtest.py::test_running_the_same_backtest_twice_gives_the_same_numbers",
    ),
    "The features of an impression are the same to the bit whether served live, replayed or back-filled": (
        "features/test_engine.py::test_serving_reads_what_the_fold_would_say",
        "models/test_serving_features.py::test_features_are_the_same_to_the_bit_whether_followed_live_or_replayed",
    ),
    "Only who was shown an impression through us, or holds a key that may, can say something about it": (
        "models/test_serving_access.py::test_an_id_that_looks_like_ours_and_is_not_is_refused_whoever_sends_it",
        "models/test_serving_access.py::test_a_key_says_nothing_about_another_surfaces_impressions",
        "models/test_serving_access.py::test_impressions_that_others_served_are_for_who_may_import",
    ),
}


@pytest.mark.parametrize("sentence", ELSEWHERE)
def test_the_sentence_is_held_by_tests_that_are_there(sentence: str) -> None:
    for place in ELSEWHERE[sentence]:
        file, _, name = place.partition("::")
        defined = {n.name for n in ast.walk(ast.parse((TESTS / file).read_text())) if isinstance(n, ast.FunctionDef)}
        assert name in defined, f"{file} has no {name}"


# --- 1: no training row uses a feature value or label that was not known at its impression's time or the watermark ----


def test_no_training_row_uses_a_feature_value_or_label_that_was_not_known_at_its_time(
    site: Loop, database: str, tmp_path: Path
) -> None:
    """Two logs that agree in what was known at ``as_of`` and in nothing after it give the same training rows, to the
    bit."""
    as_of = after(14)
    log, items = write_log(tmp_path)
    other_future(log, as_of)
    import_log(database, "feed", Files(log, items=items), times=FileTimes(NOW))
    clicks_known_late(database, as_of)
    with open_store(database, "feed") as store:
        store.apply()
    one, claimed = training_frame(copied(site), as_of)
    other, _ = training_frame(replace(site, url=database), as_of)
    assert one.table.equals(other.table)
    for field in ("dense", "ids", "history", "label", "request", "time"):
        assert getattr(one.examples, field).tobytes() == getattr(other.examples, field).tobytes(), field
    assert one.table["shown_at"].max() == claimed.window.end
    assert claimed.window.end <= as_of - site.surface.attribution


def other_future(log: Path, as_of: datetime) -> None:
    """Rewrite a log: what is shown after ``as_of`` is shown to others, and clicked otherwise."""
    late = pl.col("shown_at") > as_of
    rows = pl.read_parquet(log)
    assert 0 < len(rows.filter(late)) < len(rows)
    rows.with_columns(
        pl.when(late).then(pl.col("user_id").reverse()).otherwise("user_id").alias("user_id"),
        pl.when(late).then(~pl.col("clicked")).otherwise("clicked").alias("clicked"),
        pl.when(late).then(None).otherwise("clicked_at").alias("clicked_at"),
    ).write_parquet(log)


def clicks_known_late(database: str, as_of: datetime) -> None:
    """A minute after ``as_of`` the log gets clicks that came in time, an hour ago."""
    with connect(database) as connection:
        found = connection.execute(
            "SELECT impression_id, shown_at FROM impressions i WHERE shown_at BETWEEN %s AND %s AND NOT EXISTS"
            " (SELECT FROM feedback f WHERE f.impression_id = i.impression_id) ORDER BY shown_at LIMIT 50",
            [as_of - timedelta(hours=1), as_of],
        ).fetchall()
        assert len(found) == 50
        clicks = pl.DataFrame(found, schema={"impression_id": pl.String, "at": INSTANT}, orient="row").with_columns(
            pl.lit("click").alias("kind"),
            pl.lit(1.0).alias("value"),
            pl.col("at") + timedelta(seconds=9),
            pl.lit(as_of + timedelta(minutes=1), INSTANT).alias("known_at"),
        )
        append(connection, "feed", impressions=None, feedback=clicks, now=NOW, source="test")


def test_a_label_is_what_feedback_known_at_the_watermark_says(site: Loop, tmp_path: Path) -> None:
    """Against a plain loop over the log, with a window for clicks that is short enough to matter."""
    attribution = timedelta(seconds=8)
    own = copied(site)
    features = replace(own.surface.features, labels=(Label("click", within=attribution),))
    frame, claimed = training_frame(replace(own, surface=replace(own.surface, features=features)), after(14))
    log = pl.read_parquet(write_log(tmp_path)[0]).filter(pl.col("shown_at") <= claimed.window.end)
    expected = {
        row["impression_id"]: float(row["clicked"] and row["clicked_at"] - row["shown_at"] <= attribution)
        for row in log.iter_rows(named=True)
    }
    assert dict(zip(frame.table["impression_id"], frame.examples.label.tolist(), strict=True)) == expected
    assert 0.3 < sum(expected.values()) / len(log.filter("clicked")) < 0.9, "some clicks are too late"


def training_frame(loop: Loop, as_of: datetime) -> tuple[Frame, Claim]:
    """The frame that the first update as of then would train on and judge by."""
    with loop.world() as world:
        claimed = prepare.claim(world.connection, world.surface, Opening(as_of, champion=None))
        assert isinstance(claimed, Claim), claimed
        return prepare.join(world, claimed).frame, claimed


# --- 3 and 9: one champion, with a record; and no pickle in what is served --------------------------------------------


def test_at_most_one_champion_per_surface_and_it_has_a_promotion_record_whose_evidence_passed_the_gate(
    loop: Loop,
) -> None:
    with loop.world() as world:
        for hour in (14, 17):
            assert run_update(world, after(hour)).verdict.verdict == "promote"
            expect_consistent(loop)
        champion = promotions.current(world.connection, "feed")
        assert champion is not None
        assert champion.version == loop.alias()
        expect_no_pickle(Path(unquote(urlsplit(champion.artifact_uri).path)).parents[1])


def expect_no_pickle(version: Path) -> None:
    """No file of a registered version is a pickle, by its name or by its first bytes; the weights are safetensors."""
    files = [path for path in version.rglob("*") if path.is_file()]
    assert {"weights.safetensors", "model.json", "MLmodel"} <= {path.name for path in files}
    for path in files:
        assert path.suffix in {".safetensors", ".json", ".py", ".txt", ".yaml", ""}, path.name
        assert path.read_bytes()[:2] not in {b"\x80" + bytes([n]) for n in range(2, 6)} | {b"PK"}, path.name


UNPICKLERS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def test_no_pickle_is_loaded_on_the_serving_path() -> None:
    """Nothing between the artifact and the answer so much as names a way to load one."""
    models = TESTS.parent / "models"
    for file in models.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not UNPICKLERS & {name.split(".")[0] for name in names}, file.name
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("torch", "load"), ("torch", "save")}, file.name
            assert not (isinstance(node, ast.keyword) and node.arg == "allow_pickle"), file.name


# --- 11: the features of an impression are the same to the bit --------------------------------------------------------


def test_features_are_the_same_to_the_bit_whether_folded_live_in_ticks_with_restarts_or_back_filled_in_one_go(
    site: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through PostgreSQL: tick by tick, now and then by a process that starts anew from the checkpoint, which is
    written whole every few times; and all at once. The served rows are the same bytes."""
    monkeypatch.setattr(checkpoint, "SEGMENTS", 7)
    declared = site.surface.features
    start, end = after(15), after(15.4)
    live, at_once = (copy_database(site.url, name) for name in ("live", "at_once"))
    with connect(live, autocommit=True) as connection:
        moments = leave_only(connection, start, end)
        ticks = np.unique(moments // declared.tick)
        assert len(ticks) > 50
        for some in np.array_split(ticks, 5):
            with Folder(connection, "feed", declared) as folder:
                for tick in some:
                    folder.fold(datetime.fromtimestamp((tick + 1) * declared.tick, UTC))
        rows = served(connection)
    with connect(at_once, autocommit=True) as connection:
        leave_only(connection, start, end)
        with Folder(connection, "feed", declared) as folder:
            folder.fold(end + timedelta(hours=1))
        assert served(connection) == rows
        shown = connection.execute("SELECT impression_id FROM impressions ORDER BY 1").fetchall()
        assert [(name,) for name, _, _ in rows] == shown


def leave_only(connection: psycopg.Connection, start: datetime, end: datetime) -> np.ndarray:
    """Leave only this part of the log. The moments of its events, in seconds since the epoch."""
    connection.execute("DELETE FROM impressions WHERE shown_at <= %s OR shown_at > %s", [start, end])
    connection.execute(
        "DELETE FROM feedback f WHERE NOT EXISTS (SELECT FROM impressions i WHERE i.impression_id = f.impression_id)"
    )
    found = connection.execute(
        "SELECT date_part('epoch', known_at)"
        " FROM (SELECT known_at FROM impressions UNION ALL SELECT known_at FROM feedback) events"
    ).fetchall()
    return np.array([moment for (moment,) in found])


def served(connection: psycopg.Connection) -> list[tuple[str, str, bytes]]:
    found = connection.execute(
        "SELECT impression_id, schema_version, row FROM served ORDER BY impression_id"
    ).fetchall()
    return [(name, version, bytes(row)) for name, version, row in found]
