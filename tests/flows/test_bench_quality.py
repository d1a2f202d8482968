"""The benches of quality: what is learned before what is scored, the peer on the same stream, the written page."""

import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from benchmarks import ablation, quality, results, vw
from benchmarks.designs import with_fields
from benchmarks.prequential import Arm, Run, follow
from benchmarks.stream import EACH, HOUR, LogTooShort, Stream, folded, schedule, shuffled
from benchmarks.table import Row, Table
from flows.drill.windows import Log, simulated
from flows.surface import Surface
from flows.surfaces.feed import FEED
from tests.models.designs import but

WARMUP = timedelta(hours=6)
NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def surface() -> Surface:
    return replace(FEED, fewest=100, design=but(FEED.design, batch_requests=64, patience=0))


@pytest.fixture(scope="module")
def log() -> Log:
    return simulated(seed=4, days=0.5, requests_per_day=3000)


@pytest.fixture(scope="module")
def stream(log: Log, surface: Surface) -> Stream:
    return folded(log, surface, warmup=WARMUP)


SHORT: dict[str, Any] = {"warmup": timedelta(hours=2), "days": 3 / 24, "requests_per_day": 6000, "seeds": (0,)}
"""One hour to be scored, of the log that a bench makes up."""


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
    assert stream.scored.time[0] >= stream.begins > stream.examples.time[stream.warm - 1]


def test_a_log_that_ends_with_its_warm_up_is_refused(log: Log, surface: Surface) -> None:
    with pytest.raises(LogTooShort, match="spans 12 hours"):
        folded(log, surface, warmup=timedelta(hours=12))


@pytest.mark.parametrize("late", [timedelta(0), timedelta(minutes=5)])
@pytest.mark.parametrize("every", [timedelta(minutes=10), HOUR])
def test_every_impression_is_scored_once_before_it_is_learned_and_learned_at_most_once(
    stream: Stream, every: timedelta, late: timedelta
) -> None:
    warm, steps = schedule(stream, every, fewest=100, late=late)
    scored, learned = stream.warm, warm
    for step in steps:
        assert step.score.start == scored
        scored = step.score.stop
        assert step.learn.start == step.learn.stop or step.learn.start == learned
        if step.learn.stop > step.learn.start:
            assert step.learn.stop - step.learn.start >= 100
            learned = step.learn.stop
        assert learned <= scored
        known = stream.examples.time[learned - 1] + late.total_seconds()
        assert scored == len(stream.examples) or known < stream.examples.time[scored]
    assert scored == len(stream.examples)
    assert learned > warm + (scored - stream.warm) / 2


def test_a_model_that_is_never_updated_learns_the_warm_up_alone(stream: Stream) -> None:
    warm, steps = schedule(stream, None)
    assert warm == stream.warm
    assert [step.score for step in steps] == [slice(warm, len(stream.examples))]
    assert not any(step.learn.stop - step.learn.start for step in steps)


def test_shuffling_moves_order_and_names_and_nothing_that_a_model_may_read(
    log: Log, stream: Stream, surface: Surface
) -> None:
    mixed = folded(shuffled(log, 0), surface, warmup=WARMUP)
    assert shuffled(log, 0).shown["item_id"].to_list() != log.shown["item_id"].to_list()

    def told(of: Stream) -> np.ndarray:
        examples = of.examples
        rows = np.column_stack([examples.time, examples.label, examples.ids.astype(np.float64), examples.dense])
        return rows[np.lexsort(rows.T)]

    np.testing.assert_array_equal(told(stream), told(mixed))


@pytest.mark.parametrize("features", ["hourly", "frozen"])
def test_stale_features_are_live_ones_up_to_the_warm_ups_end_and_older_ones_after(
    log: Log, stream: Stream, surface: Surface, features: str
) -> None:
    stale = folded(log, surface, warmup=WARMUP, features="hourly" if features == "hourly" else "frozen")
    warm = stream.warm
    np.testing.assert_array_equal(stale.examples.dense[:warm], stream.examples.dense[:warm])
    np.testing.assert_array_equal(stale.examples.label, stream.examples.label)
    item = stream.layout.dense.index("item_shown_1d")
    live, old = stream.examples.dense[warm:, item], stale.examples.dense[warm:, item]
    assert np.mean(live != old) > 0.9
    last = stream.scored.time >= stream.scored.time[-1] - 600
    assert np.mean(live[last]) != pytest.approx(np.mean(old[last]), abs=0.01)


# -- arms and the peer ----------------------------------------------------------------------------------------------


def test_ours_learns_the_stream_and_the_same_seed_gives_the_same_scores(stream: Stream, surface: Surface) -> None:
    arm = Arm("hourly", surface.design, HOUR)
    first, again = (follow(arm, stream, fewest=100, clock=time.monotonic) for _ in range(2))
    np.testing.assert_array_equal(first.scores, again.scores)
    assert first.auc > 0.6
    assert first.updates == 5
    numbers = follow(replace(arm, ids=False), stream, fewest=100, clock=time.monotonic)
    assert numbers.auc > 0.55


def test_scores_of_ours_do_not_depend_on_labels_that_come_after(stream: Stream, surface: Surface) -> None:
    cut = stream.row_at(stream.begins + 2 * 3600)
    label = stream.examples.label.copy()
    label[cut:] = 1 - label[cut:]
    other = replace(stream, examples=replace(stream.examples, label=label))
    arm = Arm("hourly", surface.design, HOUR)
    runs = [follow(arm, of, fewest=100, clock=time.monotonic).scores for of in (stream, other)]
    seen = stream.row_at(stream.begins + 3 * 3600) - stream.warm
    np.testing.assert_array_equal(runs[0][:seen], runs[1][:seen])
    assert not np.array_equal(runs[0][seen:], runs[1][seen:])


@pytest.mark.parametrize("every", [EACH, HOUR, None])
def test_the_peer_scores_every_impression_before_it_learns_it(
    stream: Stream, surface: Surface, tmp_path: Path, every: timedelta | None
) -> None:
    pytest.importorskip("vowpalwabbit")
    peer = replace(vw.CROSSES, bits=18)
    cut = stream.row_at(stream.begins + 2 * 3600)
    label = stream.examples.label.copy()
    label[cut:] = 1 - label[cut:]
    other = replace(stream, examples=replace(stream.examples, label=label))
    runs = [
        vw.follow(peer, vw.Text.of(of, surface.features), of, every=every, fewest=100, folder=tmp_path, name="peer")
        for of in (stream, other)
    ]
    seen = {EACH: cut + 1, HOUR: stream.row_at(stream.begins + 3 * 3600), None: len(stream.examples)}[every]
    first, second = (run.scores for run in runs)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first[: seen - stream.warm], second[: seen - stream.warm])
    assert np.array_equal(first, second) == (every is None)
    assert runs[0].auc > 0.5
    assert not list(tmp_path.iterdir())


# -- the benches ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_bench_of_quality_compares_at_every_cadence_and_draws_both_curves(surface: Surface, tmp_path: Path) -> None:
    pytest.importorskip("vowpalwabbit")
    pytest.importorskip("matplotlib")
    told: list[str] = []
    plan = quality.Plan(surface, pictures=tmp_path, **SHORT)
    table = quality.bench(plan, clock=time.monotonic, say=told.append)
    by_name = {row.what: row for row in table.rows}
    for cadence in quality.CADENCES:
        row = next(row for name, row in by_name.items() if name.startswith(f"AUC, updated {cadence}"))
        assert isinstance(row.ours, float)
        assert row.theirs is not None
        assert 0.5 < row.ours < 1
    assert not table.missed, "goals are held on the log that they were set for"
    assert sum(name.startswith("AUC within the") for name in by_name) == 3
    assert any("shuffled" in name for name in by_name)
    json.loads(table.text())
    for picture in ("quality-stream.svg", "quality-cpu.svg"):
        assert "Vowpal Wabbit" in (tmp_path / picture).read_text(encoding="utf-8")


def run_of(stream: Stream, name: str, auc: float, cpu_s: float) -> Run:
    """A run that is as good as that: scores that tell a click from the rest so often, the classes' own noise apart."""
    random = np.random.default_rng(0)
    apart = NormalDist().inv_cdf(auc) * 2**0.5
    scores = 1 / (1 + np.exp(-(random.normal(size=len(stream.scored)) + apart * stream.scored.label)))
    return Run(name, stream, scores, cpu_s, 1)


def test_a_goal_is_held_to_the_mean_of_the_seeds(stream: Stream) -> None:
    goals = quality.Goals(auc=0.8, mrr=0.1, auc_hourly=0.9)
    ours = {name: [run_of(stream, name, auc, 1.0) for auc in (0.75, 0.9)] for name in quality.CADENCES}
    theirs = {name: run_of(stream, name, 0.7, 1.0) for name in (*quality.CADENCES, vw.CROSSES.name)}
    met = {row.what: row.met for row in quality.cadence_rows(ours, theirs, goals)}
    assert met["AUC, updated every 10 min, mean of 2 seeds"] is True
    assert met["MRR, updated every 10 min, mean of 2 seeds"] is True
    assert met["AUC, updated every 1 h, mean of 2 seeds"] is False
    assert met["AUC, updated every 6 h, mean of 2 seeds"] is None


def test_a_point_of_the_peers_curve_is_beaten_by_a_run_that_takes_no_more_seconds(stream: Stream) -> None:
    theirs = [run_of(stream, "quick", 0.6, 2.0), run_of(stream, "slow", 0.7, 8.0)]
    ours = [run_of(stream, "ours, slower than quick", 0.8, 3.0)]
    rows = quality.curve_rows(ours, theirs, held=True)[-2:]
    assert [row.met for row in rows] == [False, True]
    assert rows[0].ours is None


def test_the_ablation_takes_each_part_away_or_puts_it_in(surface: Surface, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    names = {"features that move at all", "learning on, with live features", "history attention", "replay"}
    plan = ablation.Plan(
        surface,
        pictures=tmp_path,
        **SHORT,
        parts=tuple(part for part in ablation.PARTS if part.name in names),
    )
    table = ablation.bench(plan, clock=time.monotonic, say=lambda line: None)
    gains = {row.what.partition(" (")[0]: row for row in table.rows}
    (whole,) = (row.ours for row in table.rows if row.what == "AUC, all of it")
    for part, told, sign in (("history attention", "without", 1), ("replay", "with", -1)):
        row = gains[f"{part}: gain in AUC"]
        alone = re.search(rf"\({told}: (0\.\d+)\)", row.what)
        assert alone is not None, row.what
        assert isinstance(row.ours, float)
        assert isinstance(whole, float)
        assert row.ours == pytest.approx(sign * (whole - float(alone[1])), abs=6e-5)
        assert f"{part}: gain in MRR" in gains
    assert gains["features that move at all: gain in AUC"].ours != 0
    assert (tmp_path / "ablation-gains.svg").exists()


@pytest.mark.parametrize("part", ablation.PARTS, ids=lambda part: part.name)
def test_every_part_is_a_design_that_can_be_built(part: ablation.Part) -> None:
    design, added = ablation.changed(FEED.design, part)
    wanted = part.on if added else part.off
    assert design == with_fields(design, **wanted)


# -- the page -------------------------------------------------------------------------------------------------------


def test_a_bench_rewrites_its_own_section_and_leaves_the_others(tmp_path: Path) -> None:
    def table(name: str, figure: float) -> Table:
        return Table(name, {"cores": 2}, [Row("speed | of it", figure, "s", peer="peer", theirs=2.0, met=False)])

    (tmp_path / "size-growth.svg").write_text("<svg/>", encoding="utf-8")
    results.record(tmp_path, table("size", 1.0), command="millrace bench size", at=NOON)
    results.record(tmp_path, table("fold", 3.0), command="millrace bench fold", at=NOON)
    path = results.record(tmp_path, table("size", 5.0), command="millrace bench size", at=NOON + timedelta(days=1))
    text = path.read_text(encoding="utf-8")
    sections = results.parsed(text)
    assert list(sections) == ["size", "fold"]
    assert "2026-03-05 12:00 UTC" in sections["size"]
    assert "| speed \\| of it | 5 s | peer 2 s | 2.50 |  | **missed** |" in sections["size"]
    assert "](size-growth.svg)" in sections["size"]
    assert "svg" not in sections["fold"]
    assert text.startswith("# Measured")
    results.record(tmp_path, table("size", 5.0), command="millrace bench size", at=NOON + timedelta(days=1))
    assert path.read_text(encoding="utf-8") == text
    assert sorted(file.name for file in tmp_path.iterdir()) == ["RESULTS.md", "size-growth.svg"]
