"""The bench of wordings: pairs, weights and intervals by their definition, nothing known before its week."""

import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.text_headlines import COLUMNS, OURS, WHOLE, WORDS, Accuracy, Headlines, Pairs, WordingsConfig, bench
from benchmarks.text_words import WordModel
from features.ingest.sources import ImportRefused
from tests.worlds.wordings import GAINS, worded

DATA = Path(os.environ.get("MILLRACE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def write_tests(path: Path, weeks: int = 10) -> Path:
    """Eight tests a week, of three headlines each, one of which has the word that gains; the last week is suspect."""
    rows = list[dict[str, object]]()
    for week in range(weeks + 1):
        shown = worded(8, seed=week, prefix=f"{week}-")
        for test, text, impressions, clicks in zip(
            shown.articles, shown.texts, shown.shown.tolist(), shown.clicked.tolist(), strict=True
        ):
            rows.append(
                {
                    "clickability_test_id": test,
                    "eyecatcher_id": "picture",
                    "headline": text,
                    "impressions": impressions,
                    "clicks": clicks,
                    "week_start": datetime(2014, 1, 6, tzinfo=UTC) + timedelta(weeks=week),
                    "suspect_randomisation_period": week == weeks,
                }
            )
    pl.DataFrame(rows).write_parquet(path)
    return path


def few() -> Headlines:
    """Two tests in two weeks."""
    code = np.array([0, 0, 0, 1, 1])
    return Headlines(
        ("a", "b", "c", "d", "e"),
        np.arange(5),
        *(code, code, code),
        np.array([100.0, 100.0, 100.0, 1_000.0, 1_000.0]),
        np.array([10.0, 20.0, 10.0, 50.0, 90.0]),
    )


def test_a_pair_weighs_as_much_as_its_rates_differ() -> None:
    pairs = Pairs.of(few(), np.arange(5))
    assert [*zip(pairs.one.tolist(), pairs.other.tolist(), strict=True)] == [(0, 1), (0, 2), (1, 2), (3, 4)]
    error = (0.15 * 0.85 * 2 / 100) ** 0.5
    assert pairs.z.tolist() == pytest.approx([-0.1 / error, 0, 0.1 / error, -0.04 / (0.07 * 0.93 * 2 / 1000) ** 0.5])
    score = np.array([0.0, 1.0, 2.0, 5.0, 4.0])
    assert pairs.right(score)[[0, 2, 3]].tolist() == [1, 0, 0]
    weight = np.abs(pairs.z)
    found = Accuracy.of(pairs, score, few().test, seed=0)
    assert found.mean == pytest.approx(weight[0] / weight.sum())
    assert found.significant == pytest.approx(1 / 3)
    assert set(found.draws.round(9).tolist()) == {0.0, 0.5, round(found.mean, 9)}
    assert Accuracy.of(pairs, np.zeros(5), few().test, seed=0).mean == 0.5
    mean, low, high = found.over(found)
    assert (mean, low, high) == (0, 0, 0)


def test_words_are_learned_within_tests_and_not_before_their_week(tmp_path: Path) -> None:
    tested = Headlines.read(write_tests(tmp_path / "tests.parquet"))
    assert (len(np.unique(tested.week)), len(np.unique(tested.test))) == (10, 80)
    model = WordModel([tested.texts[text] for text in tested.text.tolist()], tested)
    last = np.flatnonzero(tested.week == 9)
    assert not model.score(last).any()
    for week in range(9):
        model.learn(np.flatnonzero(tested.week == week))
    has = np.array([GAINS in tested.texts[text] for text in tested.text[last].tolist()])
    assert model.score(last)[has].min() > model.score(last)[~has].max()


def test_the_bench_ends_in_one_table(tmp_path: Path) -> None:
    config = WordingsConfig(write_tests(tmp_path / "tests.parquet"))
    lines = list[str]()
    table = bench(config, clock=time.perf_counter, progress=lines.append)
    rows = {row.what: row for row in table.rows}
    for name in (OURS, WHOLE, WORDS):
        assert 70 < float(rows[f"pairs in order, by |z|, {name}"].ours or 0) <= 100
        assert float(rows[f"learning, {name}"].ours or 0) > 0
    assert rows[f"{OURS} over chance"].met
    assert rows["weeks, and pairs of the later half"].ours == f"10 and {5 * 8 * 3}"
    assert lines
    fewer = bench(replace(config, weeks=4), clock=time.perf_counter, progress=lines.append)
    assert fewer.rows[0].ours == f"4 and {2 * 8 * 3}"


def test_a_file_that_is_of_something_else_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"headline": ["a"]}).write_parquet(tmp_path / "tests.parquet")
    with pytest.raises(ImportRefused, match="has no column clickability_test_id, eyecatcher_id, impressions"):
        Headlines.read(tmp_path / "tests.parquet")
    assert "headline" in COLUMNS


def test_the_public_tests_are_read_as_they_are() -> None:
    path = DATA / "upworthy_headlines.parquet"
    if not path.exists():
        pytest.skip(f"no {path}: the tested headlines are not here; MILLRACE_DATA says where they are")
    tested = Headlines.read(path)
    assert (len(tested.texts), len(tested.text), int(tested.week.max()) + 1) == (8_611, 8_924, 92)
