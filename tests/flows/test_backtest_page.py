"""The page and the table of a backtest."""

import copy
import io
import json
import math
import re
import shutil
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from flows.backtest.axes import Axis, time_axis, value_axis
from flows.backtest.findings import SHOWN_MEASURES, best, headline
from flows.backtest.page import write_page
from flows.backtest.paths import PlotSpan, line
from flows.backtest.replay import ScoredWindow
from flows.backtest.report import figures_by_arm
from flows.backtest.summary import ARMS, Summary
from flows.backtest.table import render_table
from flows.backtest.texts import format_seconds, format_span
from flows.backtest.updates import costs, timeline
from models.examples import Examples
from tests.flows.backtest_summaries import summary

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def page_of(found: dict[str, Any], folder: Path) -> str:
    return write_page(Summary.from_json(found), "feed", folder).read_text(encoding="utf-8")


def headline_of(found: dict[str, Any]) -> str:
    return headline(Summary.from_json(found))


def table_of(found: dict[str, Any]) -> str:
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(render_table(Summary.from_json(found)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def words(html: str) -> str:
    """What a reader sees, without the script and its data."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


def changed(found: dict[str, Any], arm: str, **figures: float | None) -> dict[str, Any]:
    made = copy.deepcopy(found)
    made[arm] |= figures
    return made


def test_the_page_says_what_an_engineer_wants_to_know(tmp_path: Path) -> None:
    found = summary(24)
    text = words(page_of(found, tmp_path / "made" / "if absent"))
    assert headline_of(found) in text
    assert "Fresh features were ahead on AUC in 24 of 24 windows, fresh models in 24 of 24." in text
    for measure in SHOWN_MEASURES:
        for arm in ARMS:
            assert f"{found[arm.key][measure.key]:.4f}" in text, (measure, arm)
    assert "+0.2150" in text  # fresh features, AUC
    assert "−0.0019" in text  # fresh models, calibration error
    for title in ("AUC", "MRR", "norm. entropy", "calibration error", "AUC gained by fresh models", "Seconds by step"):
        assert title in text
    assert "19 promoted" in text
    assert "3 held" in text
    assert "3 rejected" in text
    assert "dead letters 3" in text
    assert "length of a window 1 hour" in text
    for step in found["updates"][0]["seconds"]:
        assert step in text
    for part in found["seconds_by_part"]:
        assert part in text


def test_the_json_beside_the_page_is_the_summary(tmp_path: Path) -> None:
    found = summary(5)
    page_of(found, tmp_path)
    written = json.loads((tmp_path / "backtest.json").read_text())
    assert Summary.from_json(written) == Summary.from_json(found)


def test_the_same_summary_gives_the_same_bytes(tmp_path: Path) -> None:
    assert page_of(summary(5), tmp_path / "one") == page_of(summary(5), tmp_path / "two")


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    html = page_of(summary(24), tmp_path)
    assert not re.search(r"https?://|//cdn|@import|\burl\(", html)
    assert re.findall(r'(?:src|href)="([^"#][^"]*)"', html) == ["data:,", "backtest.json"]
    assert "default-src 'none'" in html


def test_a_long_log_gives_a_small_page(tmp_path: Path) -> None:
    assert len(page_of(summary(96), tmp_path)) < 200_000
    assert len(page_of(summary(960), tmp_path)) < 1_000_000


def test_words_from_the_log_are_text_and_never_html(tmp_path: Path) -> None:
    attack = "</script><script>alert('x')</script><b onclick=\"x\">&amp;"
    found = summary(6)
    found["log"] = attack
    found["seconds_by_part"][attack] = 1.0
    for update in found["updates"]:
        update["verdict"], update["reasons"] = "hold", [attack, attack]
        update["version"] = attack
        update["seconds"][attack] = 0.5
    html = write_page(Summary.from_json(found), attack, tmp_path).read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert "<b onclick" not in html
    assert html.count("</script>") == 2
    assert attack in words(html)
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert data is not None
    assert attack in json.loads(data[1])["steps"]


def test_a_figure_that_is_not_known_is_a_dash_and_a_gap(tmp_path: Path) -> None:
    found = summary(12)
    for nothing in (float("nan"), None):
        found["champion"]["auc"] = nothing
        found["windows"][3]["champion"]["auc"] = nothing
        found["windows"][5]["frozen"] = {measure.key: math.inf for measure in SHOWN_MEASURES}
        html = page_of(found, tmp_path)
        assert "–" in words(html)
        assert not re.search(r"\b(nan|None|inf|Infinity|undefined)\b", words(html), re.IGNORECASE)
        assert not re.search(r"\b(NaN|Infinity)\b", re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL))
        written = (tmp_path / "backtest.json").read_text()
        assert json.loads(written, parse_constant=pytest.fail)["champion"]["auc"] is None
        table_of(found)


@pytest.mark.parametrize(("windows", "updates"), [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 2)])
def test_a_short_backtest_has_no_empty_boxes(tmp_path: Path, windows: int, updates: int) -> None:
    found = summary(windows, updates)
    if not windows:
        for arm in ARMS:
            found[arm.key] = dict.fromkeys(found[arm.key], float("nan"))
    html = page_of(found, tmp_path)
    assert 'd=""' not in html
    assert ("By window" in html) == (windows >= 2)
    assert ("Verdict of the gate" in html) == ("What an update costs" in html) == (updates >= 1)
    assert ("Seconds by step<" in html) == (updates >= 3)  # a column alone says no more than the table
    assert ("What freshness is worth" in html) == (windows >= 1)
    assert html.count("<tbody>\n") == len(re.findall(r"<tbody>\s*<tr", html))


def test_the_headline_says_which_way_each_measure_went() -> None:
    found = summary(5)
    both = "Fresh features raised AUC by 0.215 and MRR by 0.215; fresh models raised AUC by 0.019 and MRR by 0.019."
    assert headline_of(found) == both
    worse = changed(found, "champion", auc=0.8301, mrr=0.7449)
    assert headline_of(worse).endswith("fresh models raised AUC by 0.003 and lowered MRR by 0.002.")
    same = changed(found, "champion", auc=0.8272, mrr=0.7469)
    assert headline_of(same).endswith("fresh models left AUC as it was and MRR as it was.")
    no_requests = changed(found, "champion", mrr=float("nan"))
    assert headline_of(no_requests).endswith("fresh models raised AUC by 0.019.")
    unknown = changed(found, "frozen", auc=None, mrr=None)
    assert headline_of(unknown).startswith(
        "What fresh features are worth cannot be said, for want of clicks; fresh models"
    )


def test_the_headline_does_not_credit_models_that_never_came() -> None:
    found = summary(5)
    for update in found["updates"][1:]:
        update["verdict"] = "reject"
    assert headline_of(found).endswith("No update after the first model was promoted, so there were no fresh models.")
    assert "the log ends with the warm-up" in headline_of(summary(0, 1))


def approving() -> dict[str, Any]:
    """A backtest that approved what the gate held: the third update's challenger, and not the eleventh's."""
    found = summary(12)
    found["updates"][2]["approval"] = {"by": ["backtest", "backtest 2"], "refused": None}
    found["updates"][10]["approval"] = {"by": [], "refused": "version 11 cannot be loaded"}
    return Summary.from_json(found | {"approve_held": {}}).as_json()


def test_what_was_approved_though_held_is_told_from_what_the_gate_promoted(tmp_path: Path) -> None:
    found = approving()
    assert found["approve_held"] == {
        "promoted": 10,
        "approved": 1,
        "held": 1,
        "rejected": 1,
        "approvals_refused": 1,
    }
    html = page_of(found, tmp_path)
    text, held_for = words(html), found["updates"][2]["reasons"][0]
    assert "10 promoted 1 approved 1 held 1 rejected" in text
    assert '<path class="approve" d="M' in html
    assert f"hold, approved 2 Mar 04:00–05:00: {held_for}" in text
    assert "Approval refused: version 11 cannot be loaded." in text
    assert "outcomes 10 promoted, 1 approved, 1 held, 1 rejected" in text
    says = "--approve-held played the analyst: 1 of 2 held challengers approved, 1 approval refused."
    assert says in text
    assert says in " ".join(table_of(found).split())
    assert Summary.from_json(json.loads((tmp_path / "backtest.json").read_text())) == Summary.from_json(found)


def test_the_headline_does_not_credit_the_gate_with_what_was_approved_though_held() -> None:
    found = approving()
    assert headline_of(found).endswith(
        "Of 11 models put into service, 1 had been held by the gate and approved all the same."
    )
    for update in found["updates"]:
        if "approval" not in update:
            update["verdict"] = "reject"
    assert "there were no fresh models. Of 1 model put into service, 1 had been" in headline_of(found)


def test_the_best_value_of_each_measure_is_marked(tmp_path: Path) -> None:
    found = changed(summary(5), "features_only", calibration_error=0.001)
    rows = re.findall(r'<tr>\s*<th scope="row" class="name" title.*?</tr>', page_of(found, tmp_path), re.DOTALL)
    best = [re.findall(r'<td class="best">([\d.]+)', row) for row in rows]
    assert best == [
        [f"{found['features_only' if m.key == 'calibration_error' else 'champion'][m.key]:.4f}"] for m in SHOWN_MEASURES
    ]
    for arm in ARMS:
        found[arm.key] = found["champion"]
    assert 'class="best"' not in page_of(found, tmp_path)


def test_a_loss_that_falls_is_better_and_an_auc_that_falls_is_worse(tmp_path: Path) -> None:
    html = page_of(changed(summary(5), "champion", auc=0.8, log_loss=0.3), tmp_path)
    assert '<td class="change worse">−0.0270<' in html
    assert '<td class="change better">−0.0972<' in html


def test_an_update_is_drawn_after_the_one_before_though_their_windows_overlap() -> None:
    found = summary(4)
    for update in found["updates"][1:]:
        start = time(update["window"][0])
        update["window"][0] = start.replace(minute=0, hour=start.hour - 1 if start.hour else 0).isoformat()
        update["verdict"] = "promote"
    drawn = timeline(Summary.from_json(found))
    assert drawn is not None
    (lane,) = drawn.lanes
    edges = [edge for _, left, right in lane.updates for edge in (left, right)]
    assert edges == sorted(edges)
    assert edges[0] == 0
    widths = [right - left for _, left, right in lane.updates]
    assert max(widths) - min(widths) <= 1  # the warm-up's day does not push the hours aside


def test_the_warm_up_is_not_counted_among_the_costs_of_updates() -> None:
    found = summary(4)
    for update in found["updates"]:
        update["seconds"] = {"join": 2.0, "fine-tune": 1.0}
    found["updates"][0]["seconds"] = {"join": 200.0, "fine-tune": 100.0}
    found["updates"][4]["seconds"] = {"join": 12.0}  # stopped by a data check
    spent = costs(Summary.from_json(found).updates)
    assert spent is not None
    assert spent.warm_up == 300.0
    assert (spent.whole.median, spent.whole.longest) == (3.0, 12.0)
    join, tuned = spent.steps
    assert (join.name, join.median, join.longest, tuned.longest) == ("join", 2.0, 12.0, 1.0)
    assert join.share + tuned.share == pytest.approx(1)
    assert [update.number for update in spent.updates] == [2, 3, 4, 5]


def test_a_thin_window_does_not_stretch_the_axis(tmp_path: Path) -> None:
    found = summary(24)
    calm = page_of(found, tmp_path)
    found["windows"][7]["impressions"] = 5
    for arm in ARMS:
        found["windows"][7][arm.key]["auc"] = 0.0
    assert ticks_of(page_of(found, tmp_path), "AUC") == ticks_of(calm, "AUC")


def ticks_of(html: str, chart: str) -> list[str]:
    figure = re.search(rf"<figcaption>{chart}<small>.*?</figure>", html, re.DOTALL)
    assert figure is not None
    return re.findall(r'class="y"[^>]*>([^<]*)', figure[0])


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.612, 0.846], ["0.9", "0.8", "0.7", "0.6"]),
        ([0.8431, 0.8449], ["0.8450", "0.8445", "0.8440", "0.8435", "0.8430"]),
        ([3.0], ["3.4", "3.2", "3.0", "2.8", "2.6"]),
        ([0.0], ["1.0", "0.5", "0.0", "-0.5", "-1.0"]),
        ([1200.0, 4100.0], ["5,000", "4,000", "3,000", "2,000", "1,000"]),
    ],
)
def test_axes_have_round_numbers(values: list[float], labels: list[str]) -> None:
    assert [tick.label for tick in value_axis(values).ticks] == labels


def test_a_line_is_broken_where_a_value_or_time_is_missing() -> None:
    axis, spans = Axis(0, 1), [PlotSpan(left, left + 100) for left in (0, 100, 200, 300, 900)]
    assert line(axis, spans, [0, 1, None, 0.5, 0.5]) == "M50 1000l100 -1000M350 500h1M950 500h1"
    assert line(axis, spans, [None] * 5) == ""


def test_times_are_in_utc_and_name_their_day() -> None:
    at = time("2017-10-02T05:00:00+02:00")
    assert format_span(at, time("2017-10-02T04:00:00+00:00")) == "2 Oct 03:00–04:00"
    assert format_span(at, time("2017-10-03T00:00:00+00:00")) == "2 Oct 03:00–24:00"
    assert format_span(at, time("2017-10-03T04:00:00+00:00")) == "2 Oct 03:00 – 3 Oct 04:00"
    hours = time_axis(at, time("2017-10-02T08:30:00+00:00"))
    assert [tick.label for tick in hours.ticks] == ["03:00\n2 Oct", "04:00", "05:00", "06:00", "07:00", "08:00"]
    days = time_axis(at, time("2017-10-06T03:00:00+00:00"))
    assert [tick.label for tick in days.ticks if not tick.minor] == ["3 Oct", "4 Oct", "5 Oct", "6 Oct"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.00 s"), (0.994, "0.99 s"), (0.996, "1.0 s"), (9.96, "10 s"), (99.4, "99 s"), (99.6, "1 min 40 s"),
     (7322, "2 h 2 min"), (None, "–")],
)  # fmt: skip
def test_seconds_have_the_digits_they_need(seconds: float | None, text: str) -> None:
    assert format_seconds(seconds) == text


def test_the_table_fits_a_terminal_and_marks_the_best() -> None:
    found = summary(5)
    lines = table_of(found).splitlines()
    (auc,) = (shown for shown in lines if shown.startswith("AUC"))
    assert auc.split() == ["AUC", "(higher", "is", "better)", "0.6120", "0.8270", "0.8460*", "+0.2150", "+0.0190"]
    assert sum(shown.startswith(tuple(measure.name for measure in SHOWN_MEASURES)) for shown in lines) == len(
        SHOWN_MEASURES
    )


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_figures_are_shown_under_the_pointer_and_the_page_fits_a_phone(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    found = summary(24)
    path = write_page(Summary.from_json(found), "feed", tmp_path)
    troubles: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 360, "height": 800})
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text))
        page.on("request", lambda request: None if request.url == path.as_uri() else troubles.append(request.url))
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        shown = {}
        for kind in ("windows", "updates", "steps"):
            page.locator(f'[data-of="{kind}"]').last.focus()
            page.keyboard.press("Home")
            shown[kind] = page.locator("#tip").inner_text()
        browser.close()
    assert f"{found['windows'][0]['impressions']:,} impressions" in shown["windows"]
    assert f"{found['windows'][0]['champion']['auc']:.4f}" in shown["windows"]
    assert found["updates"][6]["reasons"][0] in shown["updates"]
    assert shown["steps"].startswith("Update 2: ")
    assert [trouble for trouble in troubles if not trouble.startswith("data:")] == []


@pytest.mark.parametrize(
    ("start", "end", "labels"),
    [
        ("2016-03-01T00:00:00", "2026-02-01T00:00:00", ["2018", "2020", "2022", "2024", "2026"]),
        ("2025-08-10T00:00:00", "2026-04-20T00:00:00", ["Sep\n2025", "Oct", "Nov", "Dec", "Jan\n2026", "Feb"]),
        ("2025-12-30T00:00:00", "2026-01-07T00:00:00", ["30 Dec\n2025", "31 Dec", "1 Jan\n2026", "2 Jan", "3 Jan"]),
        ("2026-03-01T10:00:00", "2026-03-01T10:00:40", ["10:00:00\n1 Mar", "10:00:05", "10:00:10"]),
        ("2026-03-01T10:00:00", "2026-03-01T10:00:00.4", ["10:00:00\n1 Mar", "10:00:00.05", "10:00:00.1"]),
    ],
)  # fmt: skip
def test_an_axis_is_as_fine_as_its_span_needs(start: str, end: str, labels: list[str]) -> None:
    """Years over ten years, seconds within a minute: no two ticks read alike."""
    shown = [tick.label for tick in time_axis(time(f"{start}+00:00"), time(f"{end}+00:00")).ticks]
    assert shown[: len(labels)] == labels
    assert len(shown) <= 10
    assert len(set(shown)) == len(shown)


def test_spans_of_several_years_name_the_year_and_short_ones_the_second(tmp_path: Path) -> None:
    first, second = time("2017-10-02T03:00:00+00:00"), time("2017-10-02T03:00:30+00:00")
    assert format_span(first, second) == "2 Oct 03:00:00–03:00:30"
    assert format_span(first, time("2018-01-01T03:00:00+00:00"), years=True) == "2 Oct 2017 03:00 – 1 Jan 2018 03:00"
    found = summary(3)
    for number, window in enumerate(found["windows"]):
        window["start"], window["end"] = (f"{2018 + number + later}-03-01T00:00:00+00:00" for later in (0, 1))
    html = page_of(found, tmp_path)
    assert "1 Mar 2018 00:00 – 1 Mar 2019 00:00" in html


def test_a_figure_that_cannot_differ_is_left_out_and_the_page_says_why(tmp_path: Path) -> None:
    found, why = summary(5), "no request has more than one candidate"
    for part in (found, *found["windows"]):
        for arm in ARMS:
            part[arm.key] |= {"mrr": None, "hit_at_1": None, "left_out": {"mrr": why, "hit_at_1": why}}
    html = page_of(found, tmp_path)
    assert html.count(f"left out: {why}") == 2
    assert "<figcaption>MRR" not in html
    assert "<figcaption>AUC" in html
    written = json.loads((tmp_path / "backtest.json").read_text())
    assert written["champion"]["mrr"] is None
    assert written["champion"]["left_out"]["mrr"] == why
    assert f"MRR left out: {why}" in table_of(found)


def test_no_curve_is_drawn_of_models_that_never_came(tmp_path: Path) -> None:
    found = summary(24)
    for part in (found, *found["windows"]):
        part["champion"] = part["features_only"]
    text = words(page_of(found, tmp_path))
    assert "AUC gained by fresh features" in text
    assert "AUC gained by fresh models" not in text


def test_nothing_is_best_where_two_are_alike_or_one_stands_alone() -> None:
    found = summary(5)
    found["features_only"] = found["champion"] = dict(found["champion"])
    assert best(Summary.from_json(found).arms, SHOWN_MEASURES[0]) is None
    found["frozen"] = found["features_only"] = dict.fromkeys(found["frozen"])
    assert best(Summary.from_json(found).arms, SHOWN_MEASURES[0]) is None


@pytest.mark.parametrize("pairs", [0, 3, 10])
def test_what_a_few_requests_by_chance_have_in_order_is_not_told(pairs: int) -> None:
    """A log of single impressions has some requests of two, as rows of one user in one second."""
    rows = 200
    request = np.where(np.arange(rows) < 2 * pairs, np.arange(rows) // 2, np.arange(rows))
    label = (np.arange(rows) % 2).astype(np.float32)
    none = np.zeros((rows, 0))
    examples = Examples(none, none.astype(np.int64), none.astype(np.int64), label, request, np.arange(float(rows)))
    scores = {arm: np.linspace(0.1, 0.9, rows) for arm in ARMS}
    at = datetime(2026, 1, 1, tzinfo=UTC)

    for found in figures_by_arm([ScoredWindow(at, at, examples, scores)]).values():
        assert (found.mrr is None, found.auc is None) == (pairs < 10, False)
        if pairs == 3:
            assert found.left_out["mrr"] == "a candidate with a label beside one without stands in 3 requests alone"
