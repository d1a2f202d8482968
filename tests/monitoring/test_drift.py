"""Drift on bounded samples, and the report that shows it."""

import base64
import gzip
import re
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from monitoring.checks.window import Expected, as_figures, check_window
from monitoring.evaluation import drift
from monitoring.evaluation.compare import compare
from monitoring.evaluation.drift import important, measure, sample
from monitoring.evaluation.process_record import Record
from monitoring.gate.decide import Policy, decide
from monitoring.records.evidence_store import canonical
from monitoring.reports.report import Page, build, headline
from tests.monitoring.worlds import END, NAMES, START, window


def page_of(**changes: object) -> Page:
    part = window(seed=2, shift=1.0)
    before = window(seed=1)
    device = np.where(part.request % 3 == 0, "</script><script>alert(1)</script>", "desktop")
    figures = {
        "question": "not_worse",
        "champion": "3",
        "process": {"before": Record().as_dict(), "after": Record().as_dict()},
        "checks": as_figures(check_window(part.frame, part.dense, NAMES, Expected("v1", START, END))),
        "quality": compare(
            part.label,
            part.request,
            challenger=part.truth,
            champion=part.blurred(0.5, 1),
            slices={"device": device},
        ),
        "freshness_s": 42.0,
    }
    measured = measure(
        sample(before.dense, NAMES, {"label": before.label, "device": ["desktop"] * 2400}, seed=1),
        sample(part.dense, NAMES, {"label": part.label, "device": device}, seed=2),
    )
    figures["drift"] = measured.figures
    given = {"surface": "feed", "update_id": 7, "start": START, "end": END, "champion_version": "3"}
    given |= {"figures": figures, "drift": measured, "verdict": decide(Policy(), figures)} | changes
    return build(**given)  # type: ignore[arg-type]


def unpacked(path: Path) -> str:
    found = re.search(r'atob\("([^"]+)"\)', path.read_text())
    assert found is not None
    return gzip.decompress(base64.b64decode(found[1])).decode()


def test_the_column_that_moved_is_the_one_that_drifted() -> None:
    before, now = window(seed=1), window(seed=2, shift=1.0)
    measured = measure(sample(before.dense, NAMES, {}, seed=1), sample(now.dense, NAMES, {}, seed=2))
    assert measured.drifted == ["feature_0"]
    assert next(iter(measured.psi)) == "feature_0"
    assert measured.figures["drifted_share"] == pytest.approx(1 / 12)
    canonical(measured.figures)


def test_text_columns_are_compared_by_category() -> None:
    before = pl.DataFrame({"device": ["phone"] * 500 + ["desktop"] * 500})
    now = pl.DataFrame({"device": ["phone"] * 900 + ["desktop"] * 50 + [None] * 50})
    assert measure(before, now).drifted == ["device"]
    assert measure(before, before).psi == {"device": pytest.approx(0.0)}


def test_columns_with_holes_constants_and_infinities_are_measured() -> None:
    before = pl.DataFrame({"holes": [1.0, None, 3.0] * 50, "constant": [2.0] * 150, "empty": [None] * 150})
    before = before.with_columns(pl.col("empty").cast(pl.Float64), wild=pl.Series([float("inf"), 0.5, 1.0] * 50))
    assert measure(before, before).psi == {"holes": 0.0, "constant": 0.0, "wild": 0.0}


def test_a_sample_is_bounded_and_the_same_for_the_same_seed() -> None:
    part = window(requests=2000)
    first, again, other = (sample(part.dense, NAMES, {"label": part.label}, seed=seed) for seed in (3, 3, 4))
    assert first.height == drift.ROWS
    assert first.equals(again)
    assert not first.equals(other)


def test_a_sample_of_an_unknown_feature_is_refused() -> None:
    part = window()
    with pytest.raises(ValueError, match="nonsense"):
        sample(part.dense, NAMES, {}, seed=0, features=["nonsense"])


def test_nothing_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        measure(pl.DataFrame({"a": [1.0]}), pl.DataFrame({"b": [1.0]}))


def test_important_features_are_those_the_predictions_lean_on() -> None:
    part = window(requests=2000)
    dense = part.dense.copy()
    dense[::7, 2] = np.nan
    assert important(dense, part.truth, NAMES, 3) == ("feature_0", "feature_2", "feature_3")


def test_drift_of_thirty_columns_takes_less_than_two_seconds_once_imported() -> None:
    random = np.random.default_rng(0)
    frames = [pl.DataFrame(random.normal(size=(2000, 30))) for _ in range(2)]
    measure(*frames)
    started = time.perf_counter()
    measure(*frames)
    assert time.perf_counter() - started < 2


def test_the_report_is_one_small_file_that_shows_what_was_measured(tmp_path: Path) -> None:
    path = page_of().write_html(tmp_path / "report.html")
    assert path.stat().st_size < 2_000_000
    text = unpacked(path)
    for words in ("feature_0", "Why promote", "Data checks", "Calibration", "of 480 requests", "drawDashboard"):
        assert words in text, words


def test_what_the_log_says_does_not_become_a_script(tmp_path: Path) -> None:
    text = unpacked(page_of().write_html(tmp_path / "report.html"))
    assert "alert(1)" in text
    assert "<script>alert(1)" not in text


def test_a_window_rejected_by_its_data_has_a_report_too(tmp_path: Path) -> None:
    bad = window()
    frame = bad.frame.with_columns(label=pl.lit(0.0))
    expected = Expected("v1", START, END, label_rate=0.23)
    figures = {"checks": as_figures(check_window(frame, bad.dense, NAMES, expected))}
    page = page_of(figures=figures, drift=None, verdict=decide(Policy(), figures), champion_version=None)
    text = unpacked(page.write_html(tmp_path / "report.html"))
    assert "Why reject" in text
    assert "**FAILED**" in text


def test_dashboards_get_only_numbers() -> None:
    values = headline({"quality": {"challenger": {"auc": None, "log_loss": 0.4}}, "freshness_s": float("nan")})
    assert values == {"challenger_log_loss": 0.4, "failed_checks": 0.0}


def test_the_run_is_dated_by_the_end_of_its_window() -> None:
    page = page_of(end=END + timedelta(hours=5))
    model = page.snapshot.to_snapshot_model()
    assert model.timestamp == (END + timedelta(hours=5)).replace(tzinfo=None)
    assert model.name == "feed, update 7: promote"


def test_the_most_drifted_columns_keep_both_distributions_to_draw() -> None:
    before, now = window(seed=1), window(seed=2, shift=1.0)
    device = ["phone"] * 1800 + ["desktop"] * 600
    samples = [
        sample(part.dense, NAMES, {"label": part.label, "device": device}, seed=1, rows=10_000)
        for part in (before, now)
    ]
    histograms = drift.Drift(
        *samples, dict.fromkeys(["feature_0", "feature_1", "label", "device"], 0.3), 0.2, None
    ).figures["histograms"]
    assert list(histograms) == ["feature_0", "feature_1", "label", "device"]
    for drawn in histograms.values():
        assert sum(drawn["reference"]) == pytest.approx(100, abs=0.01)
        assert sum(drawn["current"]) == pytest.approx(100, abs=0.01)
    edges = np.array(histograms["feature_0"]["edges"])
    assert len(edges) == drift.BINS + 1 == len(histograms["feature_0"]["current"]) + 1
    middle = (edges[1:] + edges[:-1]) / 2
    means = [float(np.dot(middle, histograms["feature_0"][side])) / 100 for side in ("reference", "current")]
    assert means[1] - means[0] == pytest.approx(1.0, abs=0.1)  # the shift
    assert histograms["label"]["values"] == [0, 1]
    assert histograms["device"]["categories"] == ["phone", "desktop"]
    assert histograms["device"]["current"] == [75, 25]
    assert len(drift.Drift(*samples, dict.fromkeys(NAMES, 0.3) | {"label": 0.1}, 0.2, None).figures["histograms"]) == 12
    canonical(histograms)


@pytest.mark.parametrize("values", [[], [None], [float("nan")], [float("inf"), None], [2.0], ["x"], [True, None]])
def test_a_column_with_few_values_or_none_can_be_drawn(values: list[object]) -> None:
    column = pl.Series("x", values, strict=False)
    drawn = drift.histogram(column, column)
    assert len(drawn["reference"]) == len(drawn["current"])
    canonical(drawn)


@pytest.mark.parametrize("rows", [60, 200, 2000])
def test_two_samples_of_the_same_have_not_drifted_however_few_their_rows(rows: int) -> None:
    random = np.random.default_rng(rows)
    sides = [pl.DataFrame({f"f{n}": random.normal(size=rows) for n in range(20)}) for _ in range(2)]
    found = drift.measure(*sides)
    assert found.drifted == []
    moved = drift.measure(sides[0], sides[1].with_columns(pl.col("f3") + 3))
    assert moved.drifted == ["f3"]
    assert moved.figures["limits"]["f3"] > drift.THRESHOLD
