"""How well it ranks over a stream, and what that costs: ours and Vowpal Wabbit, each tested before it is trained.

    python -m benchmarks quality --log clicks.parquet --items items.parquet --until 2017-10-05

Both train on the warm-up, and then on what was shown up to each update; both are tested on all that comes after the
warm-up. AUC is pooled over all impressions. CPU seconds are of training and scoring, one thread; features count apart,
for both.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from benchmarks import vw
from benchmarks.bench import Clock, Progress
from benchmarks.designs import with_fields
from benchmarks.logs import SEEDED_LOG, LogConfig
from benchmarks.pictures import costs, lines
from benchmarks.prequential import StreamResult, Variant, prequential, reported
from benchmarks.stream import EVERY_EVENT, HOUR, Stream, folded, shuffled
from benchmarks.table import Row, Table, machine
from flows.drill.logs import Log
from flows.surface import Surface
from models.learning.design import Design
from monitoring.measures import BY_KEY, Measure

TEN_MINUTES = timedelta(minutes=10)

CADENCES: Mapping[str, timedelta | None] = {
    "every 10 min": TEN_MINUTES,
    "every 1 h": HOUR,
    "every 6 h": 6 * HOUR,
    "never": None,
}

WITH_EVERY_SEED = ("every 10 min", "every 1 h")
"""Cadences that are measured with every seed; the others with the first."""

SHUFFLED_WITHIN = 0.001
"""AUC and MRR by which a shuffled log may differ. Another seed makes .0003, other readers of the site .0015."""


@dataclass(frozen=True)
class Goals:
    """What ours must reach on a log."""

    auc: float
    mrr: float
    """Both updated every ten minutes."""

    auc_hourly: float


GOALS = {"globo_feed": Goals(auc=0.845, mrr=0.764, auc_hourly=0.842)}
"""By the log's name. They are set for that log until 2017-10-05; on other logs nothing is missed."""

AUC, MRR = BY_KEY["auc"], BY_KEY["mrr"]

BESIDE_EVERY_EVENT = tuple(
    BY_KEY[key] for key in ("auc", "mrr", "grouped_auc", "hit_at_1", "log_loss", "calibration_error")
)
"""Measures that stand beside those of the peer that trains on every event."""


@dataclass(frozen=True)
class QualityConfig:
    """What to run."""

    surface: Surface
    """Whose features and learner are measured."""

    log: LogConfig = SEEDED_LOG
    warmup: timedelta = timedelta(days=1)
    """What the first model trains on, before any test."""

    pictures: Path | None = None
    """Folder for the plots; none are drawn without one."""

    seeds: tuple[int, ...] = (0, 1, 2)


def cheap_variants(design: Design) -> list[Variant]:
    """The cheap points of our curve. The features move with every event, so even a model that is never trained again is
    worth something; the smallest read the numbers alone, no ids."""
    plain = with_fields(design, crosses=(), averaging=0.0, replay=None, patience=0, batch_requests=512)
    logistic = with_fields(plain, ranker="logistic", rate=3e-2)
    cross = with_fields(plain, ranker="cross", cross_layers=1, hidden=(), rate=6e-3)
    ids = with_fields(plain, ranker="cross", cross_layers=1, hidden=(32,), embedding=4, rate=5e-3, table_rate=0.1)
    return [
        Variant("logistic on the numbers, never", logistic, None, ids=False),
        Variant("logistic on the numbers, every 1 h", logistic, HOUR, ids=False),
        Variant("small cross net on the numbers, never", cross, None, ids=False),
        Variant("small cross net on the numbers, every 1 h", cross, HOUR, ids=False),
        Variant("small cross net with ids, every 1 h", ids, HOUR, history=False),
    ]


def bench(config: QualityConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it; ``progress`` gets each learner's outcome as it ends."""
    log, surface = config.log.read(), config.surface
    stream = folded(log, surface, warmup=config.warmup)
    progress(f"{stream.name}: {len(stream.examples):,} impressions folded, {len(stream.test):,} of them to be scored")
    goals = GOALS.get(stream.name)
    ours = {name: list(cadence(config, stream, name, clock, progress)) for name in CADENCES}
    cheap = [
        reported(prequential(variant, stream, fewest=surface.fewest, clock=clock), progress)
        for variant in cheap_variants(surface.design)
    ]
    text = vw.VwText.of(stream, surface.features)
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        theirs = dict(peers(surface.fewest, text, stream, Path(folder), progress))
    curve = [*cheap, ours["every 1 h"][0]]
    points = [theirs[peer.name] for peer in (vw.UNCROSSED, vw.CROSSED, vw.TRIPLES)]
    rows = [Row(f"impressions scored, {stream.name}", len(stream.test), f"of {len(stream.examples):,}")]
    rows += cadence_rows(ours, theirs, goals)
    rows += robustness(config, log, stream, ours["every 10 min"], goals is not None, clock, progress)
    rows += curve_rows(curve, points, goals is not None)
    rows.append(Row("features apart: our fold", stream.fold_s, "CPU s", peer="Vowpal Wabbit's text", theirs=text.cpu_s))
    if config.pictures is not None:
        shown = [ours[name][0] for name in ("every 10 min", "never")]
        others = [theirs[vw.CROSSED.name], theirs["every 1 h"]]
        lines(config.pictures / "quality-stream.svg", [*shown, *others], span=span_of(stream))
        costs(config.pictures / "quality-cpu.svg", {"Millrace": curve, "Vowpal Wabbit": points})
    return Table("quality", machine(), rows)


def span_of(stream: Stream) -> timedelta:
    """What a point of the plot over the stream is the AUC of."""
    tested = timedelta(seconds=float(stream.test.time[-1]) - stream.begins)
    return 6 * HOUR if tested > timedelta(days=2) else HOUR


def cadence(
    config: QualityConfig, stream: Stream, name: str, clock: Clock, progress: Progress
) -> Iterator[StreamResult]:
    """Ours at one cadence, with each seed."""
    surface = config.surface
    for seed in config.seeds if name in WITH_EVERY_SEED else config.seeds[:1]:
        variant = Variant(f"Millrace, {name}", surface.design, CADENCES[name], seed=seed)
        yield reported(prequential(variant, stream, fewest=surface.fewest, clock=clock), progress)


def peers(
    fewest: int, text: vw.VwText, stream: Stream, folder: Path, progress: Progress
) -> Iterator[tuple[str, StreamResult]]:
    """Vowpal Wabbit with crosses at each cadence, by the cadence; after every event, with fewer and more crosses too,
    by its name."""
    for name, every in CADENCES.items():
        title = f"Vowpal Wabbit, {name}"
        result = vw.prequential(vw.IN_WINDOWS, text, stream, every=every, fewest=fewest, folder=folder, name=title)
        yield name, reported(result, progress)
    for peer in (vw.UNCROSSED, vw.CROSSED, vw.TRIPLES):
        title = f"{peer.name}, every event"
        result = vw.prequential(peer, text, stream, every=EVERY_EVENT, fewest=1, folder=folder, name=title)
        yield peer.name, reported(result, progress)


def mean(results: Sequence[StreamResult], measure: Measure) -> float:
    """Of the seeds."""
    return sum(result.measures[measure.key] for result in results) / len(results)


def cadence_rows(
    ours: Mapping[str, list[StreamResult]], theirs: Mapping[str, StreamResult], goals: Goals | None
) -> list[Row]:
    """Quality by cadence against the peer's at the same one, and against the peer that trains on every event."""
    least: dict[tuple[Measure, str], float] = {}
    if goals is not None:
        least = {
            (AUC, "every 10 min"): goals.auc,
            (MRR, "every 10 min"): goals.mrr,
            (AUC, "every 1 h"): goals.auc_hourly,
        }
    rows = []
    for name, results in ours.items():
        seeds = f", mean of {len(results)} seeds" if len(results) > 1 else ""
        for measure in (AUC, MRR):
            reached, goal = mean(results, measure), least.get((measure, name))
            rows.append(
                Row(
                    f"{measure.name}, updated {name}{seeds}",
                    reached,
                    peer=theirs[name].name.partition(",")[0],
                    theirs=theirs[name].measures[measure.key],
                    goal=None if goal is None else f"at least {goal:g}",
                    met=None if goal is None else reached >= goal,
                )
            )
            if len(results) > 1:
                values = [result.measures[measure.key] for result in results]
                what = f"{measure.name}, updated {name}: largest less smallest seed"
                rows.append(Row(what, max(values) - min(values)))
    results, each = ours["every 10 min"], theirs[vw.CROSSED.name]
    for measure in BESIDE_EVERY_EVENT:
        what, reached = f"{measure.name}, updated every 10 min", mean(results, measure)
        rows.append(Row(what, reached, peer=each.name, theirs=each.measures[measure.key]))
    return rows


def robustness(
    config: QualityConfig,
    log: Log,
    stream: Stream,
    logged: Sequence[StreamResult],
    with_goal: bool,
    clock: Clock,
    progress: Progress,
) -> list[Row]:
    """The same with the log's order and positions shuffled, and with labels as late as the loop has them.

    ``with_goal``: whether the goal counts.
    """
    surface, seed = config.surface, config.seeds[0]
    name, delay = "Millrace, every 10 min", surface.attribution
    late = Variant(f"{name}, labels late", surface.design, TEN_MINUTES, seed, label_delay=delay)
    late_result = reported(prequential(late, stream, fewest=surface.fewest, clock=clock), progress)
    mixed = folded(shuffled(log, seed), surface, warmup=config.warmup)
    same = Variant(f"{name}, log shuffled", surface.design, TEN_MINUTES, seed)
    mixed_result = reported(prequential(same, mixed, fewest=surface.fewest, clock=clock), progress)
    rows = []
    for measure in (AUC, MRR):
        before, now = mean(logged, measure), mixed_result.measures[measure.key]
        rows.append(
            Row(
                f"{measure.name}, every 10 min, positions and order within requests and instants shuffled",
                now,
                peer="as logged",
                theirs=before,
                goal=f"within {SHUFFLED_WITHIN:g}" if with_goal else None,
                met=abs(now - before) <= SHUFFLED_WITHIN if with_goal else None,
            )
        )
        rows.append(
            Row(
                f"{measure.name}, every 10 min, labels known {delay / timedelta(minutes=1):g} min later",
                late_result.measures[measure.key],
                peer="at once",
                theirs=before,
            )
        )
    return rows


def curve_rows(ours: Sequence[StreamResult], theirs: Sequence[StreamResult], with_goal: bool) -> list[Row]:
    """The points of both curves; and for each of the peer's, our best that takes no more CPU seconds."""
    rows = [Row(f"CPU s of {point.name}: AUC {point.auc:.4f}", point.cpu_s, "s") for point in (*ours, *theirs)]
    for point in theirs:
        best = max((one for one in ours if one.cpu_s <= point.cpu_s), key=lambda one: one.auc, default=None)
        which = "nothing as quick" if best is None else f"{best.name}, {best.cpu_s:.1f} s"
        rows.append(
            Row(
                f"AUC within the {point.cpu_s:.1f} CPU s of {point.name} ({which})",
                None if best is None else best.auc,
                peer="Vowpal Wabbit",
                theirs=point.auc,
                goal="better" if with_goal else None,
                met=(best is not None and best.auc > point.auc) if with_goal else None,
            )
        )
    return rows
