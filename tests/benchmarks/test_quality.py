"""The benches of quality: each impression tested before training on it, the peer on the same stream, the page."""

import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from benchmarks import ablation, quality, results, vw
from benchmarks.designs import with_fields
from benchmarks.logs import LogConfig
from benchmarks.prequential import StreamResult, Variant, prequential
from benchmarks.stream import EVERY_EVENT, HOUR, Refresh, Stream, folded, schedule, shuffled
from benchmarks.table import Row, Table
from flows.drill.logs import Log, LogTooShort, simulated
from flows.surface import Surface
from flows.surfaces.feed import SURFACE as FEED

WARMUP = timedelta(hours=6)
SIZE = "python -m benchmarks size"
NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def surface() -> Surface:
    return replace(FEED, fewest=100, design=with_fields(FEED.design, batch_requests=64, patience=0))


@pytest.fixture(scope="module")
def log() -> Log:
    return simulated(seed=4, days=0.5, requests_per_day=3000)


@pytest.fixture(scope="module")
def stream(log: Log, surface: Surface) -> Stream:
    return folded(log, surface, warmup=WARMUP)


SHORT = LogConfig(days=3 / 24, requests_per_day=6000)
TWO_HOURS = timedelta(hours=2)
"""The warm-up of that log, which leaves one hour to be tested on."""


# -- the stream -----------------------------------------------------------------------------------------------------


def test_a_stream_holds_the_whole_log_in_order_with_a_code_of_its_own_for_each_request(
    log: Log, stream: Stream
) -> None:
    examples = stream.examples
    assert len(examples) == len(log.shown)
    assert np.all(np.diff(examples.time) >= 0)
    assert len(np.unique(examples.request)) == log.shown["request_id"].n_unique()
    assert np.count_nonzero(np.diff(examples.request)) == log.shown["request_id"].n_unique() - 1
    assert examples.label.sum() == log.shown["clicked"].sum()
    assert stream.test.time[0] >= stream.begins > stream.examples.time[stream.warm - 1]


def test_a_log_that_ends_with_its_warm_up_is_refused(log: Log, surface: Surface) -> None:
    with pytest.raises(LogTooShort, match="spans 12 hours"):
        folded(log, surface, warmup=timedelta(hours=12))


@pytest.mark.parametrize("delay", [timedelta(0), timedelta(minutes=5)])
@pytest.mark.parametrize("every", [timedelta(minutes=10), HOUR])
def test_every_impression_is_tested_once_before_training_on_it_and_trained_on_at_most_once(
    stream: Stream, every: timedelta, delay: timedelta
) -> None:
    warm, steps = schedule(stream, every, fewest=100, label_delay=delay)
    tested, trained = stream.warm, warm
    for step in steps:
        assert step.test.start == tested
        tested = step.test.stop
        assert step.train.start == step.train.stop or step.train.start == trained
        if step.train.stop > step.train.start:
            assert step.train.stop - step.train.start >= 100
            trained = step.train.stop
        assert trained <= tested
        known = stream.examples.time[trained - 1] + delay.total_seconds()
        assert tested == len(stream.examples) or known < stream.examples.time[tested]
    assert tested == len(stream.examples)
    assert trained > warm + (tested - stream.warm) / 2


def test_a_model_that_is_never_updated_trains_on_the_warm_up_alone(stream: Stream) -> None:
    warm, steps = schedule(stream, None)
    assert warm == stream.warm
    assert [step.test for step in steps] == [slice(warm, len(stream.examples))]
    assert not any(step.train.stop - step.train.start for step in steps)


def test_shuffling_moves_order_and_names_and_nothing_that_a_model_may_read(
    log: Log, stream: Stream, surface: Surface
) -> None:
    mixed = folded(shuffled(log, 0), surface, warmup=WARMUP)
    assert shuffled(log, 0).shown["item_id"].to_list() != log.shown["item_id"].to_list()

    def values(of: Stream) -> np.ndarray:
        examples = of.examples
        rows = np.column_stack([examples.time, examples.label, examples.ids.astype(np.float64), examples.dense])
        return rows[np.lexsort(rows.T)]

    np.testing.assert_array_equal(values(stream), values(mixed))


@pytest.mark.parametrize("refresh", ["hourly", "frozen"])
def test_stale_features_are_live_ones_up_to_the_warm_ups_end_and_older_ones_after(
    log: Log, stream: Stream, surface: Surface, refresh: Refresh
) -> None:
    stale = folded(log, surface, warmup=WARMUP, refresh=refresh)
    warm = stream.warm
    np.testing.assert_array_equal(stale.examples.dense[:warm], stream.examples.dense[:warm])
    np.testing.assert_array_equal(stale.examples.label, stream.examples.label)
    item = stream.layout.dense.index("item_shown_1d")
    live, old = stream.examples.dense[warm:, item], stale.examples.dense[warm:, item]
    assert np.mean(live != old) > 0.9
    last = stream.test.time >= stream.test.time[-1] - 600
    assert np.mean(live[last]) != pytest.approx(np.mean(old[last]), abs=0.01)


# -- ours and the peer ----------------------------------------------------------------------------------------------


def test_ours_trains_on_the_stream_and_the_same_seed_gives_the_same_scores(stream: Stream, surface: Surface) -> None:
    variant = Variant("hourly", surface.design, HOUR)
    first, second = (prequential(variant, stream, fewest=100, clock=time.monotonic) for _ in range(2))
    np.testing.assert_array_equal(first.scores, second.scores)
    assert first.auc > 0.6
    assert first.updates == 5
    numbers = prequential(replace(variant, ids=False), stream, fewest=100, clock=time.monotonic)
    assert numbers.auc > 0.55


def test_scores_of_ours_do_not_depend_on_labels_that_come_after(stream: Stream, surface: Surface) -> None:
    cut = stream.row_at(stream.begins + 2 * 3600)
    label = stream.examples.label.copy()
    label[cut:] = 1 - label[cut:]
    other = replace(stream, examples=replace(stream.examples, label=label))
    variant = Variant("hourly", surface.design, HOUR)
    outcomes = [prequential(variant, of, fewest=100, clock=time.monotonic).scores for of in (stream, other)]
    seen = stream.row_at(stream.begins + 3 * 3600) - stream.warm
    np.testing.assert_array_equal(outcomes[0][:seen], outcomes[1][:seen])
    assert not np.array_equal(outcomes[0][seen:], outcomes[1][seen:])


@pytest.mark.parametrize("every", [EVERY_EVENT, HOUR, None])
def test_the_peer_scores_every_impression_before_it_trains_on_it(
    stream: Stream, surface: Surface, tmp_path: Path, every: timedelta | None
) -> None:
    pytest.importorskip("vowpalwabbit")
    peer = replace(vw.CROSSED, bits=18)
    cut = stream.row_at(stream.begins + 2 * 3600)
    label = stream.examples.label.copy()
    label[cut:] = 1 - label[cut:]
    other = replace(stream, examples=replace(stream.examples, label=label))
    outcomes = [
        vw.prequential(
            peer, vw.VwText.of(of, surface.features), of, every=every, fewest=100, folder=tmp_path, name="peer"
        )
        for of in (stream, other)
    ]
    seen = {EVERY_EVENT: cut + 1, HOUR: stream.row_at(stream.begins + 3 * 3600), None: len(stream.examples)}[every]
    first, second = (outcome.scores for outcome in outcomes)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first[: seen - stream.warm], second[: seen - stream.warm])
    assert np.array_equal(first, second) == (every is None)
    assert outcomes[0].auc > 0.5
    assert not list(tmp_path.iterdir())


# -- the benches ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_bench_of_quality_compares_at_every_cadence_and_draws_both_curves(surface: Surface, tmp_path: Path) -> None:
    pytest.importorskip("vowpalwabbit")
    pytest.importorskip("matplotlib")
    config = quality.QualityConfig(surface, SHORT, TWO_HOURS, pictures=tmp_path, seeds=(0,))
    table = quality.bench(config, clock=time.monotonic, progress=lambda line: None)
    by_name = {row.what: row for row in table.rows}
    for cadence in quality.CADENCES:
        row = next(row for name, row in by_name.items() if name.startswith(f"AUC, updated {cadence}"))
        assert isinstance(row.ours, float)
        assert row.theirs is not None
        assert 0.5 < row.ours < 1
    assert not table.missed, "goals count on the log that they were set for"
    assert sum(name.startswith("AUC within the") for name in by_name) == 3
    assert any("shuffled" in name for name in by_name)
    json.loads(table.text())
    for picture in ("quality-stream.svg", "quality-cpu.svg"):
        assert "Vowpal Wabbit" in (tmp_path / picture).read_text(encoding="utf-8")


def result_of(stream: Stream, name: str, auc: float, cpu_s: float) -> StreamResult:
    """A result that is as good as that: scores that rank a click above the rest so often, by seeded noise."""
    random = np.random.default_rng(0)
    apart = NormalDist().inv_cdf(auc) * 2**0.5
    scores = 1 / (1 + np.exp(-(random.normal(size=len(stream.test)) + apart * stream.test.label)))
    return StreamResult(name, stream, scores, cpu_s, 1)


def test_a_goal_is_held_to_the_mean_of_the_seeds(stream: Stream) -> None:
    goals = quality.Goals(auc=0.8, mrr=0.1, auc_hourly=0.9)
    ours = {name: [result_of(stream, name, auc, 1.0) for auc in (0.75, 0.9)] for name in quality.CADENCES}
    theirs = {name: result_of(stream, name, 0.7, 1.0) for name in (*quality.CADENCES, vw.CROSSED.name)}
    met = {row.what: row.met for row in quality.cadence_rows(ours, theirs, goals)}
    assert met["AUC, updated every 10 min, mean of 2 seeds"] is True
    assert met["MRR, updated every 10 min, mean of 2 seeds"] is True
    assert met["AUC, updated every 1 h, mean of 2 seeds"] is False
    assert met["AUC, updated every 6 h, mean of 2 seeds"] is None


def test_a_point_of_the_peers_curve_is_beaten_by_one_of_ours_that_takes_no_more_seconds(stream: Stream) -> None:
    theirs = [result_of(stream, "quick", 0.6, 2.0), result_of(stream, "slow", 0.7, 8.0)]
    ours = [result_of(stream, "ours, slower than quick", 0.8, 3.0)]
    rows = quality.curve_rows(ours, theirs, with_goal=True)[-2:]
    assert [row.met for row in rows] == [False, True]
    assert rows[0].ours is None


def test_the_ablation_takes_each_part_away_or_puts_it_in(surface: Surface, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    names = {"features that move at all", "learning on, with live features", "history attention", "replay"}
    config = ablation.AblationConfig(
        surface,
        SHORT,
        TWO_HOURS,
        pictures=tmp_path,
        seeds=(0,),
        parts=tuple(part for part in ablation.ABLATION_PARTS if part.name in names),
    )
    table = ablation.bench(config, clock=time.monotonic, progress=lambda line: None)
    gains = {row.what.partition(" (")[0]: row for row in table.rows}
    (whole,) = (row.ours for row in table.rows if row.what == "AUC, all of it")
    for part, how, sign in (("history attention", "without", 1), ("replay", "with", -1)):
        row = gains[f"{part}: gain in AUC"]
        alone = re.search(rf"\({how}: (0\.\d+)\)", row.what)
        assert alone is not None, row.what
        assert isinstance(row.ours, float)
        assert isinstance(whole, float)
        assert row.ours == pytest.approx(sign * (whole - float(alone[1])), abs=6e-5)
        assert f"{part}: gain in MRR" in gains
    assert gains["features that move at all: gain in AUC"].ours != 0
    assert (tmp_path / "ablation-gains.svg").exists()


@pytest.mark.parametrize("part", ablation.ABLATION_PARTS, ids=lambda part: part.name)
def test_every_part_is_a_design_that_can_be_built(part: ablation.Part) -> None:
    design, added = ablation.changed(FEED.design, part)
    assert design == (part.on if added else part.off)(FEED.design)


# -- the page -------------------------------------------------------------------------------------------------------


def test_a_bench_rewrites_its_own_section_and_leaves_the_others(tmp_path: Path) -> None:
    def table(name: str, figure: float) -> Table:
        return Table(name, {"cores": 2}, [Row("speed | of it", figure, "s", peer="peer", theirs=2.0, met=False)])

    (tmp_path / "size-growth.svg").write_text("<svg/>", encoding="utf-8")
    results.record(tmp_path, table("size", 1.0), command=SIZE, at=NOON)
    results.record(tmp_path, table("fold", 3.0), command="python -m benchmarks fold", at=NOON)
    path = results.record(tmp_path, table("size", 5.0), command=SIZE, at=NOON + timedelta(days=1))
    text = path.read_text(encoding="utf-8")
    sections = results.parsed(text)
    assert list(sections) == ["size", "fold"]
    assert "2026-03-05 12:00 UTC" in sections["size"]
    assert "| speed \\| of it | 5 s | peer 2 s | 2.50 |  | **missed** |" in sections["size"]
    assert "](size-growth.svg)" in sections["size"]
    assert "svg" not in sections["fold"]
    assert text.startswith("# Measured")
    results.record(tmp_path, table("size", 5.0), command=SIZE, at=NOON + timedelta(days=1))
    assert path.read_text(encoding="utf-8") == text
    assert sorted(file.name for file in tmp_path.iterdir()) == ["RESULTS.md", "size-growth.svg"]
