"""Drift on bounded samples, and the report that shows it."""

import base64
import gzip
import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from monitoring.checks.limits import Expected, InForce, PastWindow
from monitoring.checks.window import check_window
from monitoring.evaluation import drift
from monitoring.evaluation.compare import compare
from monitoring.evaluation.comparison import Measures
from monitoring.evaluation.drift import Against, Drift, Histogram, MeasuredDrift, important, measure, sample
from monitoring.evaluation.evidence import Evidence, WindowFacts
from monitoring.gate.decide import decide
from monitoring.gate.gate_tests import gate_tests
from monitoring.gate.policy import Limit, Policy
from monitoring.reports.report import About, Page, build, headline
from tests.worlds.challengers import evidence_of, with_gain
from tests.worlds.windows import END, NAMES, START, window

LENIENT = Policy(drift=Limit(1_000.0))
"""Which lets any drift pass."""


def page_of(surface: str = "feed", update_id: int = 7, end: datetime = END) -> Page:
    """The report of an update that promotes."""
    part = window(seed=2, shift=1.0)
    before = window(seed=1)
    device = np.where(part.request % 3 == 0, "</script><script>alert(1)</script>", "desktop")
    comparison = compare(
        part.label, part.request, challenger=part.truth, champion=part.blurred(0.5, 1), slices={"device": device}
    )
    measured = measure(
        sample(before.dense, NAMES, {"label": before.label, "device": ["desktop"] * 2400}, seed=1),
        sample(part.dense, NAMES, {"label": part.label, "device": device}, seed=2),
        Against("what the champion was trained on", at_most=LENIENT.drift.at_most),
    )
    evidence = evidence_of(
        comparison,
        window=WindowFacts(START, END, 2400, comparison.label_rate, 0, freshness_s=42.0),
        checks=tuple(check_window(part.frame, part.dense, NAMES, Expected("v1", START, END))),
        drift=measured.drift,
    )
    about = About(surface, update_id, START, end, champion="3", challenger="4")
    tests = gate_tests(LENIENT, evidence, InForce())
    return build(about, decide(LENIENT, evidence), evidence, (measured,), tests)


def drifted(measured: MeasuredDrift) -> list[str]:
    return [column.column for column in measured.drift.drifted]


def psi(measured: MeasuredDrift) -> dict[str, float]:
    """By column, the largest first."""
    return {column.column: column.psi for column in measured.drift.columns}


def unpacked(path: Path) -> str:
    found = re.search(r'atob\("([^"]+)"\)', path.read_text())
    assert found is not None
    return gzip.decompress(base64.b64decode(found[1])).decode()


def test_the_column_that_moved_is_the_one_that_drifted() -> None:
    before, now = window(seed=1), window(seed=2, shift=1.0)
    measured = measure(sample(before.dense, NAMES, {}, seed=1), sample(now.dense, NAMES, {}, seed=2))
    assert drifted(measured) == ["feature_0"]
    assert next(iter(psi(measured))) == "feature_0"
    assert measured.drift.share == pytest.approx(1 / 12)
    assert (measured.drift.reference_rows, measured.drift.current_rows) == (2000, 2000)
    assert Drift(0, 0, 0.2, ()).share == 0


def test_text_columns_are_compared_by_category() -> None:
    before = pl.DataFrame({"device": ["phone"] * 500 + ["desktop"] * 500})
    now = pl.DataFrame({"device": ["phone"] * 900 + ["desktop"] * 50 + [None] * 50})
    found = measure(before, now)
    assert drifted(found) == ["device"]
    assert histogram_of(found, "device").categories == ("phone", "desktop", "(none)")
    assert psi(measure(before, before)) == {"device": pytest.approx(0.0)}


def test_of_thousands_of_values_the_rare_ones_are_one_and_a_new_one_on_a_tenth_of_the_rows_is_found() -> None:
    random = np.random.default_rng(0)
    before, same, now = (
        pl.DataFrame({"query": [f"q{number}" for number in random.zipf(1.3, 2_000) % 5_000]}) for _ in range(3)
    )
    assert drifted(measure(before, same)) == []
    client = pl.when(pl.int_range(pl.len()) % 10 == 0).then(pl.lit("app 9")).otherwise("query").alias("query")
    found = measure(before, now.with_columns(client))
    assert drifted(found) == ["query"]
    names = histogram_of(found, "query").categories
    assert len(names) == drift.BINS
    assert {"app 9", drift.REST} <= set(names)


@pytest.mark.parametrize(("labels", "drifts"), [(20, False), (2_000, True)])
def test_predictions_have_drifted_only_where_the_labels_could_tell(labels: int, drifts: bool) -> None:
    """All predictions are a fifth higher in log-odds: twenty labels do not tell whether that is so."""
    random = np.random.default_rng(0)
    odds = (random.normal(mean, 0.15, 2_000) for mean in (-6.0, -5.8))
    before, now = (pl.DataFrame({"prediction": 1 / (1 + np.exp(-each))}) for each in odds)
    chance = drift.within_chance(before["prediction"].to_numpy(), labels)
    assert drifted(measure(before, now, indistinguishable={"prediction": chance})) == (["prediction"] if drifts else [])
    assert drifted(measure(before, now)) == ["prediction"]


def test_columns_with_holes_constants_and_infinities_are_measured() -> None:
    before = pl.DataFrame({"holes": [1.0, None, 3.0] * 50, "constant": [2.0] * 150, "empty": [None] * 150})
    before = before.with_columns(pl.col("empty").cast(pl.Float64), wild=pl.Series([float("inf"), 0.5, 1.0] * 50))
    assert psi(measure(before, before)) == {"holes": 0.0, "constant": 0.0, "wild": 0.0}


def test_a_sample_is_bounded_and_the_same_for_the_same_seed() -> None:
    part = window(requests=2000)
    first, same, other = (sample(part.dense, NAMES, {"label": part.label}, seed=seed) for seed in (3, 3, 4))
    assert first.height == drift.SAMPLE_ROWS
    assert first.equals(same)
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


def test_the_report_is_one_small_file_that_shows_what_was_measured(tmp_path: Path) -> None:
    path = page_of().write_html(tmp_path / "report.html")
    assert path.stat().st_size < 2_000_000
    text = unpacked(path)
    wanted = ("feature_0", "Why promote", "Data checks", "Calibration", "of 480 requests", "drawDashboard")
    for words in (*wanted, "PSI of feature_0 against what the champion was trained on: Less or Equal"):
        assert words in text, words


def test_what_is_in_the_log_does_not_become_a_script(tmp_path: Path) -> None:
    text = unpacked(page_of().write_html(tmp_path / "report.html"))
    assert "alert(1)" in text
    assert "<script>alert(1)" not in text


def test_a_window_rejected_by_its_data_has_a_report_too(tmp_path: Path) -> None:
    bad = window()
    frame = bad.frame.with_columns(label=pl.lit(0.0))
    usual = PastWindow(START - timedelta(hours=1), START, 2400, label_rate=0.23)
    expected = Expected("v1", START, END, history=(usual,))
    checks = tuple(check_window(frame, bad.dense, NAMES, expected))
    evidence = Evidence(WindowFacts(START, END, 2400, 0.0, 0), "progressive", checks=checks)
    about = About("feed", 7, START, END, champion=None, challenger=None)
    text = unpacked(build(about, decide(Policy(), evidence), evidence).write_html(tmp_path / "report.html"))
    assert "Why reject" in text
    assert "**FAILED**" in text


def test_dashboards_get_only_numbers() -> None:
    evidence = with_gain(0.012)
    assert evidence.comparison is not None
    unknown = replace(evidence.comparison, challenger=Measures(log_loss=0.4), champion=Measures())
    facts = replace(evidence.window, freshness_s=float("nan"))
    assert headline(replace(evidence, comparison=unknown, window=facts)) == {
        "challenger_log_loss": 0.4,
        "gain_percent": pytest.approx(1.2),
        "impressions": 2400,
        "label_rate": unknown.label_rate,
        "failed_checks": 0,
    }
    nothing = Evidence(WindowFacts(START, END, 0, None, 0), "progressive")
    assert headline(nothing) == {"failed_checks": 0}


def test_the_run_is_dated_by_the_end_of_its_window() -> None:
    page = page_of(end=END + timedelta(hours=5))
    model = page.snapshot.to_snapshot_model()
    assert model.timestamp == (END + timedelta(hours=5)).replace(tzinfo=None)
    assert model.name == "feed, update 7: promote"


def histogram_of(measured: MeasuredDrift, name: str) -> Histogram:
    found = next(column.histogram for column in measured.drift.columns if column.column == name)
    assert found is not None
    return found


def test_the_most_drifted_columns_have_both_distributions_to_draw() -> None:
    before, now = window(seed=1), window(seed=2, shift=1.0)
    device = ["phone"] * 1800 + ["desktop"] * 600
    samples = [
        sample(part.dense, NAMES, {"label": part.label, "device": device}, seed=1, rows=10_000)
        for part in (before, now)
    ]
    measured = measure(*samples)
    assert len(measured.drift.columns) == 14
    drawn = [column for column in measured.drift.columns if column.histogram is not None]
    assert drawn == list(measured.drift.columns[: drift.DRAWN])
    for column in drawn:
        assert column.histogram is not None
        assert sum(column.histogram.reference) == pytest.approx(100, abs=0.01)
        assert sum(column.histogram.current) == pytest.approx(100, abs=0.01)
    of_feature = histogram_of(measured, "feature_0")
    edges = np.array(of_feature.edges)
    assert len(edges) == drift.BINS + 1 == len(of_feature.current) + 1
    middle = (edges[1:] + edges[:-1]) / 2
    means = [float(np.dot(middle, side)) / 100 for side in (of_feature.reference, of_feature.current)]
    assert means[1] - means[0] == pytest.approx(1.0, abs=0.1)  # the shift
    few = measure(*(part.select("label", "device") for part in samples))
    assert histogram_of(few, "label").values == (0, 1)
    assert histogram_of(few, "device").categories == ("phone", "desktop")
    assert histogram_of(few, "device").current == (75, 25)


@pytest.mark.parametrize("values", [[], [None], [float("nan")], [float("inf"), None], [2.0], ["x"], [True, None]])
def test_a_column_with_few_values_or_none_can_be_drawn(values: list[object]) -> None:
    column = pl.Series("x", values, strict=False)
    drawn = drift.histogram(column, column)
    assert len(drawn.reference) == len(drawn.current)
    assert np.isfinite([*drawn.reference, *drawn.current, *drawn.edges, *drawn.values]).all()


@pytest.mark.parametrize("rows", [60, 200, 2000])
def test_two_samples_of_the_same_have_not_drifted_however_few_their_rows(rows: int) -> None:
    random = np.random.default_rng(rows)
    sides = [pl.DataFrame({f"f{n}": random.normal(size=rows) for n in range(20)}) for _ in range(2)]
    found = drift.measure(*sides)
    assert drifted(found) == []
    far = drift.measure(sides[0], sides[1].with_columns(pl.col("f3") + 3))
    assert [column.column for column in far.drift.drifted] == ["f3"]
    assert far.drift.columns[0].limit > drift.THRESHOLD


def test_rows_of_one_user_say_the_same_and_chance_counts_users() -> None:
    """Of 40 users with 50 rows each the devices differ as those of 40 rows do."""
    random = np.random.default_rng(1)
    users = np.repeat(np.arange(40), 50)
    held, known = {"rows": 0, "users": 0}, Against("what was before", usual={"device": (0.01,) * 6})
    for _ in range(20):
        sides = [pl.DataFrame({"device": random.choice(["phone", "tablet", "tv", "desktop"], 40)[users]}) for _ in "ab"]
        held["rows"] += bool(drifted(measure(*sides, known)))
        held["users"] += bool(drifted(measure(*sides, known, users=(users, users))))
    assert held["users"] == 0
    assert held["rows"] > 0


def test_of_two_dozen_users_what_differs_from_row_to_row_still_tells() -> None:
    """Their devices are two dozen values, and a prediction is nearly as many as there are rows."""
    random = np.random.default_rng(2)
    users = np.repeat(np.arange(24), 50)
    before, same = (
        pl.DataFrame(
            {
                "device": random.choice(["phone", "tv"], 24)[users],
                "prediction": random.normal(size=1200) + 0.2 * random.normal(size=24)[users],
            }
        )
        for _ in "ab"
    )
    moved = same.with_columns(pl.col("prediction") + 1.5)
    assert drifted(measure(before, same, users=(users, users))) == []
    assert drifted(measure(before, moved, users=(users, users))) == ["prediction"]
    chance = {column.column: column.by_chance for column in measure(before, same, users=(users, users)).drift.columns}
    assert chance["prediction"] < 0.2 < chance["device"]


@pytest.mark.parametrize("informing", [frozenset[str](), frozenset(["device"])])
def test_of_a_column_that_informs_evidently_warns(informing: frozenset[str]) -> None:
    before, now = (pl.DataFrame({"device": ["phone"] * phones + ["tv"] * (900 - phones)}) for phones in (100, 800))
    measured = measure(before, now, Against("what was before", informing=informing))
    (test,) = measured.snapshot.tests_results
    assert test.status.value == ("WARNING" if informing else "FAIL")
    assert drifted(measured) == ["device"]
    assert [column.column for column in measured.drift.holding] == ([] if informing else ["device"])


NIGHT, DAY = (pl.DataFrame({"device": ["phone"] * phones + ["desktop"] * (2_000 - phones)}) for phones in (500, 1_100))
"""A site's readers at night and by day: their PSI is about 0.4."""


def test_what_a_columns_own_windows_have_is_usual() -> None:
    known = Against("what was before", usual={"device": (0.35, 0.36, 0.35, 0.4, 0.35, 0.37)})
    elsewhere = Against("what was before", usual={"device": (0.01,) * 6})
    assert drifted(measure(NIGHT, DAY, known)) == []
    assert drifted(measure(NIGHT, DAY, elsewhere)) == ["device"]
    (column,) = measure(NIGHT, DAY, known).drift.columns
    assert column.limit > 0.4 > column.beyond_chance > 0.3
    assert column.usual == (0.35, 0.36, 0.35, 0.4, 0.35, 0.37)


def test_while_few_windows_are_known_or_no_such_day_of_the_week_the_threshold_is_wider() -> None:
    known = {"device": (0.01,) * 6}
    few = measure(NIGHT, DAY, Against("what was before", usual={"device": (0.01,) * 5})).drift.columns[0]
    many = measure(NIGHT, DAY, Against("what was before", usual=known)).drift.columns[0]
    weekend = measure(NIGHT, DAY, Against("what was before", usual=known, complete=False)).drift.columns[0]
    wider = [drift.WIDER * drift.THRESHOLD, drift.FIRST_WEEK * drift.THRESHOLD]
    assert [found.limit - found.by_chance for found in (few, weekend)] == pytest.approx(wider)
    assert many.limit - many.by_chance == pytest.approx(drift.THRESHOLD)


@pytest.mark.parametrize("at_most", [0.3, 1.0, 3.0])
def test_what_has_drifted_is_what_failed_evidentlys_own_test(at_most: float) -> None:
    """At a limit of the surface's too: its guardrail says of each column what Evidently says."""
    random = np.random.default_rng(5)
    before = pl.DataFrame({f"f{n}": random.normal(size=500) for n in range(20)})
    now = before.select(pl.col(f"f{n}") + n / 10 for n in range(20))
    measured = measure(before, now, Against("what was before", at_most=at_most))
    status = {test.metric_config.params["column"]: test.status.value for test in measured.snapshot.tests_results}
    assert {name for name, found in status.items() if found == "FAIL"} == set(drifted(measured))
    assert set(drifted(measured)) == {c.column for c in measured.drift.columns if c.ratio > at_most}
    assert 0 < len(drifted(measured)) < 20


def test_of_a_column_that_comes_in_what_is_known_is_compared_and_one_that_goes_away_has_drifted() -> None:
    full = pl.DataFrame({"region": ["north", "south"] * 500})
    half = pl.DataFrame({"region": ["north", "south", None, None] * 250})
    other = pl.DataFrame({"region": ["east", "west"] * 500})
    known = Against("what was before", usual={"region": (0.01,) * 6})
    assert drifted(measure(half, full, known)) == [], "it comes in"
    assert drifted(measure(full, half, known)) == ["region"], "it goes away"
    assert drifted(measure(half, other, known)) == ["region"], "it comes in with other values"
