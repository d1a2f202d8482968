"""A training frame has a request's rows together, whatever lies between them in the log."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.counters.folder import Folder
from features.feast.store import open_store
from features.ingest.checking import FileTimes
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from infra.postgres.connections import connect
from models.examples import Examples
from models.frames import Frame, from_arrow, parted
from monitoring.evaluation.compare import measure
from tests.conftest import fresh_database
from tests.worlds.serving import FEATURES

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = NOON + timedelta(days=1)
REQUESTS, SLATE, APART = 60, 5, 2.0


@pytest.fixture(scope="module")
def frame(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frame]:
    """Requests begin 3 s after one another, and show an item every 2 s; two readers use the same request ids."""
    random = np.random.default_rng(3)
    rows = [
        {
            "impression_id": f"{q}-{p}",
            "request_id": f"r{q // 2:03}",
            "user_id": f"u{q % 2}",
            "item_id": f"a{p}",
            "position": p,
            "clicked": p == clicked,
            "shown_at": NOON + timedelta(seconds=3 * q + APART * p),
        }
        for q, clicked in enumerate(random.integers(SLATE, size=REQUESTS))
        for p in range(SLATE)
    ]
    log: Path = tmp_path_factory.mktemp("log") / "log.parquet"
    pl.DataFrame(rows).sample(fraction=1.0, shuffle=True, seed=1).write_parquet(log)
    with fresh_database(postgres_url) as url:
        import_log(url, "feed", Files(log), times=FileTimes(NOW))
        with connect(url, autocommit=True) as connection, open_store(url, "feed") as store:
            store.apply()
            with Folder(connection, "feed", FEATURES) as folder:
                folder.fold(NOW)
            version = FEATURES.schema.version
            span = NOON - timedelta(hours=1), NOON + timedelta(hours=1)
            table = store.training_frame(*span, FEATURES.labels, NOW, schema_version=version)
            yield from_arrow(table, FEATURES.schema, FEATURES.labels)


def test_each_request_is_one_and_its_rows_stand_side_by_side(frame: Frame) -> None:
    request = frame.examples.request
    assert len(frame) == REQUESTS * SLATE
    assert len(np.unique(request)) == REQUESTS
    assert len(frame.examples.batch_starts(1)) == REQUESTS + 1
    assert (np.diff(request) >= 0).all()
    assert frame.table["position"].to_list() == [*range(SLATE)] * REQUESTS
    began = frame.examples.time[::SLATE]
    assert (np.diff(began) > 0).all(), "in the order of their first showing"


def test_a_score_that_knows_nothing_is_worth_nothing(frame: Frame) -> None:
    scores = np.random.default_rng(1).uniform(0.1, 0.3, len(frame))
    found = measure(frame.examples.label, frame.examples.request, scores)
    assert found.mrr == pytest.approx(np.mean(1 / np.arange(1, SLATE + 1)), abs=0.1)


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 61.5, 90.0, 1e4])
def test_a_request_across_a_border_is_two_each_impression_by_its_own_time(frame: Frame, seconds: float) -> None:
    at = NOON.timestamp() + seconds
    cut = parted(frame, at)
    first = int((frame.examples.time <= at).sum())
    assert sorted(cut.table["impression_id"]) == sorted(frame.table["impression_id"])
    assert (cut.examples.time[:first] <= at).all()
    assert (cut.examples.time[first:] > at).all()
    assert cut.table["shown_at"].dt.epoch("us").to_numpy() / 1e6 == pytest.approx(cut.examples.time, abs=1e-6)
    assert not set(cut.examples.request[:first]) & set(cut.examples.request[first:])
    cut.examples.batch_starts(1)
    before = {(user, request) for user, request in cut.table[:first].select("user_id", "request_id").iter_rows()}
    after = {(user, request) for user, request in cut.table[first:].select("user_id", "request_id").iter_rows()}
    assert len(np.unique(cut.examples.request)) == len(before) + len(after)


def test_rows_of_a_request_apart_are_refused_rather_than_taken_for_two_requests(frame: Frame) -> None:
    order = np.argsort(frame.examples.time, kind="stable")
    shuffled: Examples = frame.examples[order]
    with pytest.raises(ValueError, match="not side by side"):
        shuffled.batch_starts(8)
